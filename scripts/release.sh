#!/usr/bin/env bash
# Makes what a release consists of, for the platform at hand, and checks it. FOLDER (dist, made anew) gets
#
#   rawtap-*.tar.gz    the source, with all that its tests need
#   wheels/            of rawtap and of python-libpcap, for each CPython that is here
#   rawtap_*.deb       a Debian package for each of these: 3.11 is Debian 12's, 3.13 Debian 13's
#   rawtap-*.mcpb      a bundle for agents' hosts that install such
#   SHA256SUMS
#
#   scripts/release.sh [FOLDER]
#
# Interpreters are looked for on the PATH, and PYTHONS may name others; with their headers. In the end it says which
# versions were missing. docs/releasing.md says what is in each, and why.
set -euo pipefail
# shellcheck source=scripts/_setup.sh
. "$(dirname "$0")/_setup.sh"
# shellcheck source=scripts/_deb.sh
. "$ROOT/scripts/_deb.sh"

readonly VERSIONS=(3.11 3.12 3.13 3.14)
# Not copied into the wheels: rawtap's modules use what python-libpcap's made, so both must be with the same libpcap, and
# a copy in each would be two in one process. The system's is one, which the system also mends.
readonly LIBPCAP=libpcap.so.0.8
# Its version, where extension modules can be built for it.
readonly ASKED='
import ensurepip, pathlib, sys, sysconfig, venv
if pathlib.Path(sysconfig.get_path("include"), "Python.h").exists():
    print("%d.%d" % sys.version_info[:2])'

OUT=$(realpath -m "${1:-$ROOT/dist}")
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
declare -A FOUND=()
HERE=() missing=()

find_pythons() {
  local version candidate
  for version in "${VERSIONS[@]}"; do
    for candidate in ${PYTHONS:-} "/usr/bin/python$version" "python$version"; do
      # One that does not answer is no program, or a stand-in for what is not installed.
      if [ "$("$candidate" -c "$ASKED" 2>/dev/null)" = "$version" ]; then
        FOUND[$version]=$candidate
        HERE+=("$version")
        break
      fi
    done
    [ -n "${FOUND[$version]:-}" ] || missing+=("$version")
  done
  [ ${#HERE[@]} -gt 0 ] || die "no CPython with its headers is here: ${VERSIONS[*]}"
  FIRST=${HERE[0]}
}

make_environments() {
  local version
  say "environments for CPython ${HERE[*]}"
  for version in "${HERE[@]}"; do
    "${FOUND[$version]}" -m venv "$WORK/$version"
    pip "$version" install --upgrade pip
  done
  mapfile -t tools < <(py "$FIRST" -c '
import pathlib, sys, tomllib
print(*tomllib.loads(pathlib.Path(sys.argv[1]).read_text())["project"]["optional-dependencies"]["release"], sep="\n")
' "$ROOT/pyproject.toml")
  pip "$FIRST" install "${tools[@]}"
  TOOLS=$WORK/$FIRST/bin
}

py() { "$WORK/$1/bin/python" "${@:2}"; }
pip() { py "$1" -m pip --quiet --disable-pip-version-check --no-input "${@:2}"; }

make_sdist() {
  say "the source distribution"
  # From a copy: setuptools would leave its notes in the checkout, and take in what git does not know.
  mkdir "$WORK/checkout"
  (cd "$ROOT" && sources | xargs -0 cp --parents -t "$WORK/checkout")
  "$TOOLS/python" -m build --sdist --outdir "$OUT" "$WORK/checkout" >"$WORK/log" || { cat "$WORK/log"; exit 1; }
  SDIST=$(echo "$OUT"/rawtap-*.tar.gz)
  VERSION=${SDIST##*/rawtap-}
  VERSION=${VERSION%.tar.gz}
}

# The files of the project: git's, or all where this is no checkout but an unpacked source distribution.
sources() {
  git ls-files -zco --exclude-standard 2>/dev/null ||
    find . \( -name __pycache__ -o -name dist -o -name '*.egg-info' \) -prune -o -type f -print0
}

# make_wheels VERSION: of the source distribution, which shows that it is whole.
make_wheels() {
  say "wheels for CPython $1"
  local made=$WORK/wheels-$1
  pip "$1" wheel --no-deps --no-binary python-libpcap --wheel-dir "$made" "$(pinned python-libpcap)"
  pip "$1" wheel --no-deps --find-links "$made" --wheel-dir "$made" "$SDIST"
  PATH=$TOOLS:$PATH auditwheel repair --exclude "$LIBPCAP" --wheel-dir "$WORK/repaired-$1" "$made"/*.whl >"$WORK/log" 2>&1 ||
    { cat "$WORK/log"; exit 1; }
  cp "$WORK/repaired-$1"/*.whl "$OUT/wheels"
}

# pinned NAME: as the build needs it.
pinned() { sed -n "s/^requires = .*\"\($1==[^\"]*\)\".*/\1/p" "$ROOT/pyproject.toml"; }

# An archive of its parts; the host makes the environment of it, with the wheels that are in it.
make_bundle() {
  say "the bundle"
  local folder=$WORK/bundle
  mkdir "$folder"
  cp -R "$ROOT/packaging/mcpb/." "$ROOT/LICENSE" "$OUT/wheels" "$folder"
  find "$folder" -exec touch -d "@$SOURCE_DATE_EPOCH" {} +
  (cd "$folder" && TZ=UTC py "$FIRST" -m zipfile -c "$OUT/rawtap-$VERSION.mcpb" ./*)
}

check() {
  say "checks"
  "$TOOLS/twine" check --strict "$SDIST" "$OUT"/wheels/rawtap-*.whl
  local wheel
  for wheel in "$OUT"/wheels/*.whl; do
    PATH=$TOOLS:$PATH auditwheel show "$wheel" >"$WORK/log"
    ! unzip_names "$wheel" | grep -E 'libpcap\.so|\.libs/' || die "$wheel has a libpcap of its own"
  done
}

unzip_names() { py "$FIRST" -m zipfile -l "$1"; }

install_packages "${BUILD_PACKAGES[@]}" "${DEB_PACKAGES[@]}"
find_pythons
SOURCE_DATE_EPOCH=$(git -C "$ROOT" log -1 --format=%ct 2>/dev/null || stat -c %Y "$ROOT/CHANGELOG.md")
export SOURCE_DATE_EPOCH CFLAGS=-g0 # the same source makes the same files
rm -rf "$OUT"
mkdir -p "$OUT/wheels"
make_environments
make_sdist
for version in "${HERE[@]}"; do
  make_wheels "$version"
  make_deb "$version" "$WORK/deb-$version" "$WORK/repaired-$version" "$OUT"
done
make_bundle
check
(cd "$OUT" && find . -type f -printf '%P\n' | sort | xargs sha256sum >"$WORK/sums" && mv "$WORK/sums" SHA256SUMS)
say "made in $OUT:"
cat "$OUT/SHA256SUMS"
[ ${#missing[@]} -eq 0 ] || say "not made: CPython ${missing[*]} is not here, or has no headers"
