# Set-up that demo.sh and test.sh share; sourced by them. Does nothing that is done already.
#
# As root it does everything: packages, environment, build, account, capabilities. Otherwise it does what it can and
# names exactly what an administrator must do.
# shellcheck shell=bash disable=SC2034

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly ACCOUNT=rawtap # the unprivileged account that root's demo and tests use

# Every Debian package that rawtap needs, in one place. "a|b" is the first of the two that this Debian has.
readonly RUN_PACKAGES=(
  python3 libpcap0.8 libcap2-bin util-linux
  'qemu-system-riscv|qemu-system-misc' opensbi u-boot-qemu # the demo guest
)
readonly BUILD_PACKAGES=(python3-venv python3-dev gcc libc6-dev libpcap-dev) # the environment, its extension modules
readonly DEB_PACKAGES=(dpkg-dev)                                             # a Debian package
readonly OPTIONAL_PACKAGES=(dnsmasq-base)                                    # DHCP and DNS for guests
readonly TEST_PACKAGES=(
  tcpdump tshark strace
  qemu-system-x86 qemu-system-arm qemu-system-ppc # the other guests
  ovmf ipxe-qemu ipxe xorriso     # UEFI, network boot, an ISO for guests to start from
  grub-common grub-pc-bin grub-efi-amd64-bin mtools # a boot loader on that ISO, or from the network
  dnsmasq-base nftables passt     # DHCP and DNS for guests, and their way out
  busybox-static                  # what the Linux guest runs
  iproute2                        # an "internet" of the tests' own
  binutils                        # as and ld: a guest of the tests' own
  qemu-utils                      # qemu-img: a judge of what rawtap writes
  debootstrap                     # systems to carry out the Containerfile in, and to install rawtap in
  man-db                          # shows the manual page
  gdb-multiarch clang lld         # a debugger, and guests of the tests' own for it, for four architectures
  chromium fonts-dejavu-core      # a person's browser
)

say() { printf '\033[1m%s\033[0m\n' "$*"; }
die() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }
is_root() { [ "$(id -u)" -eq 0 ]; }
# shellcheck disable=SC2016
is_installed() { [ "$(dpkg-query -W -f='${Status}' "$1" 2>/dev/null)" = 'install ok installed' ]; }

# Root's environment must be in a place that the unprivileged account can enter, which a checkout may not be.
environment_folder() {
  if [ -n "${RAWTAP_ENV:-}" ]; then
    printf '%s' "$RAWTAP_ENV"
  elif is_root; then
    printf '/var/lib/rawtap/env-%s' "$(printf '%s' "$ROOT" | sha256sum | cut -c1-12)"
  else
    printf '%s/.venv' "$ROOT"
  fi
}

missing_packages() {
  local wanted alternative found
  for wanted in "$@"; do
    found=
    for alternative in ${wanted//|/ }; do
      if is_installed "$alternative"; then found=yes; fi
    done
    [ -n "$found" ] || printf '%s\n' "$wanted"
  done
}

install_packages() {
  local -a missing chosen=() unknown=()
  local wanted alternative known
  mapfile -t missing < <(missing_packages "$@" | sort -u)
  [ ${#missing[@]} -gt 0 ] || return 0
  ! is_root || apt-get -qq update
  for wanted in "${missing[@]}"; do
    known=
    for alternative in ${wanted//|/ }; do
      if apt-cache show "$alternative" >/dev/null 2>&1; then
        chosen+=("$alternative") known=yes
        break
      fi
    done
    [ -n "$known" ] || unknown+=("${wanted//|/ or }")
  done
  # As in a container, whose image has no lists of packages.
  [ ${#unknown[@]} -eq 0 ] || die "apt-get knows no package ${unknown[*]}. An administrator must run: apt-get update"
  is_root || die "Debian packages are missing. An administrator must run:
apt-get install --no-install-recommends ${chosen[*]}"
  say "installing ${chosen[*]}"
  DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "${chosen[@]}" >/dev/null
}

# What the installed package was built from.
source_hash() {
  (cd "$ROOT" && find pyproject.toml README.md LICENSE setcap.sh packaging/man packaging/completions src -type f \
    ! -name '*.c' ! -name '*.so' ! -path '*/__pycache__/*' ! -path '*.egg-info/*' -print0 |
    sort -z | xargs -0 sha256sum | sha256sum | cut -c1-64)
}

# build_environment EXTRA: the package with that extra ("" or "test"), from the system's own interpreter: a private one
# may live in a home that the account cannot enter.
build_environment() {
  local stamp=$ENVIRONMENT/rawtap-built wanted
  wanted=$(source_hash)
  mkdir -p "$(dirname "$ENVIRONMENT")"
  exec 9>"$ENVIRONMENT.lock"
  flock 9
  if [ ! -x "$ENVIRONMENT/bin/python" ]; then
    say "making the environment $ENVIRONMENT"
    /usr/bin/python3 -m venv "$ENVIRONMENT"
  fi
  if ! grep -qsx "$wanted ${1:-run}" "$stamp" && ! grep -qsx "$wanted test" "$stamp"; then
    say "building rawtap: its compiled modules take some minutes"
    # setuptools keeps what it copied there, so a module that is gone would be installed again.
    if [ -d "$ROOT/build" ]; then find "$ROOT/build" -name '*.py' -delete; fi
    "$ENVIRONMENT/bin/pip" install --quiet --disable-pip-version-check --no-warn-script-location "$ROOT${1:+[$1]}" ||
      die "rawtap could not be built: pip says why above"
    printf '%s %s\n' "$wanted" "${1:-run}" >"$stamp"
  fi
  flock -u 9
}

make_account() {
  is_root || return 0
  getent passwd "$ACCOUNT" >/dev/null && return 0
  say "making the unprivileged account $ACCOUNT"
  useradd --system --user-group --home-dir "/var/lib/rawtap/home" --create-home --shell /usr/sbin/nologin "$ACCOUNT"
}

give_capabilities() {
  "$ROOT/setcap.sh" --check "$ENVIRONMENT" >/dev/null 2>&1 && return 0
  is_root || die "$("$ROOT/setcap.sh" --check "$ENVIRONMENT" | grep -v '^ok' || true)
An administrator must run, once: sudo $ROOT/setcap.sh $ENVIRONMENT"
  "$ROOT/setcap.sh" --group "$(group_of_user)" "$ENVIRONMENT"
}

# The user that the server runs as: the one who called sudo, else the account.
unprivileged_user() {
  if [ -n "${SUDO_USER:-}" ] && [ "$SUDO_USER" != root ]; then printf '%s' "$SUDO_USER"; else printf '%s' "$ACCOUNT"; fi
}

group_of_user() { id -gn "$(unprivileged_user)"; }

ENVIRONMENT=$(environment_folder)
