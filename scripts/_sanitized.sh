# The package once more, its extension modules with the address and the undefined-behaviour sanitizer; sourced by test.sh.
# shellcheck shell=bash

# build_sanitized FOLDER: built apart, so that nothing of it comes into the environment, nor the other way round.
build_sanitized() {
  local folder=$1 wanted source
  wanted=$(source_hash)
  [ "$(cat "$folder/rawtap-built" 2>/dev/null)" != "$wanted" ] || return 0
  say "building rawtap with sanitizers"
  source=$(mktemp -d)
  (cd "$ROOT" && git ls-files -zco --exclude-standard pyproject.toml README.md LICENSE setcap.sh packaging src | xargs -0 cp --parents -t "$source")
  rm -rf "$folder"
  CFLAGS='-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined' \
    LDFLAGS='-fsanitize=address,undefined' \
    "$ENVIRONMENT/bin/pip" install --quiet --disable-pip-version-check --no-deps --target "$folder" "$source"
  rm -rf "$source"
  printf '%s' "$wanted" >"$folder/rawtap-built"
}
