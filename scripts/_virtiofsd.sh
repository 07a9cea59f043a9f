# Debian 13's virtiofsd for the tests, with what it is linked with: that of Debian 12 cannot be used. Sourced by test.sh.
#
# The packages are unpacked, not installed, once for each environment, in its folders "bin" and "lib".
# shellcheck shell=bash

readonly VIRTIOFSD_PACKAGES=(virtiofsd libc6 libseccomp2 libcap-ng0 libgcc-s1)

# build_virtiofsd ENVIRONMENT
build_virtiofsd() (
  place=$1/lib/virtiofsd
  [ ! -x "$1/bin/virtiofsd" ] || exit 0
  say "fetching Debian 13's virtiofsd"
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  # shellcheck disable=SC2016
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | awk '!/security/ && !seen++')
  mkdir -p "$work"/lists/partial "$work"/cache/archives/partial "$work/root"
  printf 'deb [signed-by=%s] %s trixie main\n' /usr/share/keyrings/debian-archive-keyring.gpg "$mirror" >"$work/sources"
  options=(
    -qq -o APT::Sandbox::User=root -o Acquire::Retries=3 -o "Dir::Etc::SourceList=$work/sources" -o Dir::Etc::SourceParts=-
    -o "Dir::State::Lists=$work/lists" -o "Dir::Cache=$work/cache"
  )
  apt-get "${options[@]}" update
  (cd "$work" && apt-get "${options[@]}" download "${VIRTIOFSD_PACKAGES[@]}")
  for package in "$work"/*.deb; do dpkg-deb -x "$package" "$work/root"; done
  mkdir -p "$place"
  cp -L "$work/root/usr/libexec/virtiofsd" "$work"/root/usr/lib*/ld-linux-*.so.* "$place"
  for name in libc.so.6 libm.so.6 libseccomp.so.2 libcap-ng.so.0 libgcc_s.so.1; do
    cp -L "$work"/root/usr/lib/*/"$name" "$place"
  done
  # shellcheck disable=SC2016
  printf '#!/bin/sh\nexec "%s"/ld-linux-*.so.* --library-path "%s" "%s/virtiofsd" "$@"\n' "$place" "$place" "$place" \
    >"$work/virtiofsd"
  install -m 755 "$work/virtiofsd" "$1/bin/virtiofsd"
)
