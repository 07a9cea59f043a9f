#!/usr/bin/env bash
# Sets rawtap up and shows it: boots U-Boot on a bridge, captures its ping and prints the packets. As root it runs the
# server as an unprivileged user, which is the real case.
set -euo pipefail
# shellcheck source=scripts/_setup.sh
. "$(dirname "$0")/_setup.sh"

install_packages "${RUN_PACKAGES[@]}" "${BUILD_PACKAGES[@]}"
build_environment ""
make_account
if is_root; then give_capabilities; fi # without them the server goes the rootless way
if is_root; then
  user=$(unprivileged_user)
  say "running as $user, without root"
  home=$(getent passwd "$user" | cut -d: -f6)
  cd /
  exec env -i PATH=/usr/bin:/bin TERM="${TERM:-dumb}" HOME="$home" \
    setpriv --reuid="$user" --regid="$(group_of_user)" --init-groups -- "$ENVIRONMENT/bin/rawtap" demo "$@"
fi
exec "$ENVIRONMENT/bin/rawtap" demo "$@"
