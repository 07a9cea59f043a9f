#!/usr/bin/env bash
# Sets rawtap up and runs everything that judges it: ruff, mypy --strict, import-linter, and the tests, which boot real
# guests and capture from real links in network namespaces of their own: one for each of three processes, since most tests wait
# for guests. Arguments go to pytest, and come after that choice: -n 0 has them run one after the other. With --soak the
# long forms run as well; the attack among them lasts RAWTAP_ATTACK_MINUTES (60).
set -euo pipefail
# shellcheck source=scripts/_setup.sh
. "$(dirname "$0")/_setup.sh"
# shellcheck source=scripts/_linux_guest.sh
. "$ROOT/scripts/_linux_guest.sh"
# shellcheck source=scripts/_virtiofsd.sh
. "$ROOT/scripts/_virtiofsd.sh"
# shellcheck source=scripts/_sanitized.sh
. "$ROOT/scripts/_sanitized.sh"

# debian_root SUITE: the packages that every Debian has, in an archive that tests unpack.
debian_root() {
  local archive=$ENVIRONMENT/roots/$1.tar made
  [ ! -e "$archive" ] || return 0
  say "fetching Debian's $1"
  made=$(mktemp -d)
  # Its script is named, since an older debootstrap does not know a newer Debian's name.
  debootstrap --variant=minbase "$1" "$made" http://deb.debian.org/debian sid >"$ENVIRONMENT/debootstrap.log" || { cat "$ENVIRONMENT/debootstrap.log"; exit 1; }
  mkdir -p "${archive%/*}"
  chmod 755 "$made"
  tar -C "$made" --one-file-system -cf "$archive.part" .
  mv "$archive.part" "$archive"
  rm -rf --one-file-system "$made"
}

install_packages "${RUN_PACKAGES[@]}" "${BUILD_PACKAGES[@]}" "${OPTIONAL_PACKAGES[@]}" "${TEST_PACKAGES[@]}"
build_environment test
make_account
give_capabilities
build_linux_guest "$ENVIRONMENT/linux"
build_virtiofsd "$ENVIRONMENT"
case " $* " in
  *" --soak "*)
    build_sanitized "$ENVIRONMENT/sanitized"
    debian_root bookworm
    debian_root trixie
    debian_root forky # which has CPython 3.14
    export RAWTAP_SANITIZED=$ENVIRONMENT/sanitized
    ;;
esac

# npm_tool NAME BIN PACKAGE...: by the Node that the environment has, in a folder NAME of it.
npm_tool() {
  [ ! -x "$ENVIRONMENT/$1/node_modules/.bin/$2" ] || return 0
  say "installing ${*:3}"
  PATH=$ENVIRONMENT/bin:$PATH npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$ENVIRONMENT/$1" "${@:3}"
}
npm_tool inspector mcp-inspector @modelcontextprotocol/inspector@2.12.0
npm_tool conformance conformance @modelcontextprotocol/conformance@0.1.16
npm_tool mcpb mcpb @anthropic-ai/mcpb@2.1.2
# A host of MCP Apps: what drives the browser, and the official bridge to a page with what it is made of.
npm_tool apps playwright-core playwright-core@1.65.1 @modelcontextprotocol/ext-apps@2.0.4 \
  @modelcontextprotocol/client@2.4.0 @modelcontextprotocol/core@2.4.0 zod@4.6.7

cd "$ROOT"
bin=$ENVIRONMENT/bin
say "ruff, mypy, import-linter"
"$bin/ruff" check src tests scripts
"$bin/ruff" format --check src tests scripts
"$bin/mypy"
"$bin/lint-imports" >"$ENVIRONMENT/lint-imports.log" || { cat "$ENVIRONMENT/lint-imports.log"; exit 1; }
say "tests"
if is_root; then export RAWTAP_TEST_USER; RAWTAP_TEST_USER=$(unprivileged_user); fi
"$bin/python" -m pytest -n 3 --dist worksteal "$@"
case " $* " in
  *" --soak "*)
    say "mutations"
    "$bin/python" scripts/mutate.py --count 20 --least 70 --whole
    ;;
esac
