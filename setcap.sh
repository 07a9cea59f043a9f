#!/usr/bin/env bash
# Gives a rawtap environment its three capabilities, once, as an administrator.
#
#   setcap.sh [--group G] [VENV]   make VENV/bin/python-rawtap: a private copy of the environment's interpreter, owned
#                                  root:G, mode 0750, with cap_net_raw,cap_net_admin,cap_net_bind_service+p; open
#                                  /dev/net/tun to users
#   setcap.sh --check [VENV]       say what is there and what is missing; exit 1 if anything is
#   setcap.sh --remove [VENV]      take back what the first form made
#
# VENV defaults to the environment that this script was installed into, as VENV/share/rawtap/setcap.sh, or else to .venv
# beside it. G defaults to the primary group of the user who called sudo, or else the group that owns VENV; whoever is in
# G may capture and change this machine's network through rawtap.
#
# Why a copy: file capabilities belong to a file, and giving them to the interpreter that the whole system shares would
# give them to every Python program of every user. Why "+p" and not "+ep": permitted capabilities do nothing until the
# program raises one, and rawtap raises them only around the calls that need them (capabilities(7)).
set -euo pipefail

readonly CAPABILITIES=cap_net_raw,cap_net_admin,cap_net_bind_service+p
readonly TUN=/dev/net/tun
readonly UDEV_RULE=/etc/udev/rules.d/60-rawtap-tun.rules
readonly UDEV_TEXT='# Made by rawtap'\''s setcap.sh. Opening this device gives nothing without CAP_NET_ADMIN.
KERNEL=="tun", MODE="0666", OPTIONS+="static_node=net/tun"'

here=$(cd "$(dirname "$0")" && pwd)
action=install
group=
venv=

say() { printf '%s\n' "$*"; }
die() { printf 'setcap.sh: %s\n' "$*" >&2; exit 1; }
usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; }

while [ $# -gt 0 ]; do
  case $1 in
    --group) [ $# -ge 2 ] || die "--group needs a group's name."; group=$2; shift 2 ;;
    --group=*) group=${1#*=}; shift ;;
    --check) action=check; shift ;;
    --remove) action=remove; shift ;;
    -h | --help) usage; exit 0 ;;
    -*) usage >&2; exit 2 ;;
    *) [ -z "$venv" ] || { usage >&2; exit 2; }; venv=$1; shift ;;
  esac
done
if [ -z "$venv" ]; then
  installed=${here%/share/rawtap}
  if [ "$installed" != "$here" ] && [ -f "$installed/pyvenv.cfg" ]; then venv=$installed; else venv=$here/.venv; fi
fi
PATH=$PATH:/usr/sbin:/sbin

need_root() {
  [ "$(id -u)" -eq 0 ] || die "This needs root. An administrator must run, once: sudo $here/${0##*/}${venv:+ $venv}"
}

need_tool() {
  [ -x "$(command -v "$1")" ] || die "$1 is missing: install Debian's package $2 and run this again."
}

need_venv() {
  [ -d "$venv" ] || die "There is no environment $venv: make it first (python3 -m venv $venv), or name another."
  venv=$(cd "$venv" && pwd -P)
  [ -f "$venv/pyvenv.cfg" ] || die "$venv is no Python environment: it has no pyvenv.cfg. Name the folder that holds it."
  private=$venv/bin/python-rawtap
}

# The file that the environment's python stands for: the copy is made of that, never of a link.
find_interpreter() {
  [ -e "$venv/bin/python" ] || die "$venv/bin/python is missing or a broken link: make the environment anew."
  interpreter=$(readlink -f "$venv/bin/python")
  [ -f "$interpreter" ] || die "$interpreter is no regular file: make the environment anew."
}

# What belongs to the environment's owner is run as that owner, never as root: an environment may run any code when
# its interpreter starts (site, .pth files).
as_owner() {
  local owner
  owner=$(stat -c %u "$venv")
  if [ "$(id -u)" -eq 0 ] && [ "$owner" -ne 0 ]; then
    setpriv "--reuid=$owner" "--regid=${group:-$(stat -c %g "$venv")}" --clear-groups -- "$@"
  else
    "$@"
  fi
}

refuse_link() {
  [ ! -L "$private" ] || die "$private is a symbolic link: capabilities would go to the file that it points to," \
    "which others use as well. Remove the link and run this again."
}

choose_group() {
  if [ -z "$group" ] && [ -n "${SUDO_GID:-}" ] && [ "$SUDO_GID" -ne 0 ]; then
    group=$(getent group "$SUDO_GID" | cut -d: -f1) || die "There is no group $SUDO_GID: name one with --group."
  fi
  [ -n "$group" ] || group=$(stat -c %G "$venv")
  getent group "$group" >/dev/null ||
    die "There is no group $group: make it (groupadd $group; usermod -aG $group USER), or name another with --group."
}

# A file system mounted nosuid would leave a copy that looks right and does nothing. Asked of the file system itself
# (statvfs(3)): in a chroot or a container the table of mounts may not show it.
is_nosuid() {
  as_owner "$interpreter" -I -c 'import os, sys; sys.exit(not os.statvfs(sys.argv[1]).f_flag & os.ST_NOSUID)' "$venv/bin"
}

refuse_nosuid() {
  ! is_nosuid || die "$venv is on a file system mounted nosuid, where file capabilities have no effect:" \
    "put the environment elsewhere, or remount that file system with suid."
}

give_capabilities() {
  local said
  if ! said=$(setcap "$CAPABILITIES" "$1" 2>&1); then
    rm -f "$1"
    die "The file system of $venv cannot hold file capabilities (setcap: $said): it lacks extended attributes." \
      "Put the environment on ext4, xfs or btrfs."
  fi
}

# An interpreter with capabilities runs in secure-execution mode (ld.so(8)): it finds no library by LD_LIBRARY_PATH or
# \$ORIGIN, and one in a folder that its users cannot enter does not start for them.
refuse_broken() {
  local said program='import sys; sys.exit(0 if sys.prefix != sys.base_prefix else "it does not see the environment")'
  if ! said=$(as_owner "$1" -I -c "$program" 2>&1); then
    rm -f "$1"
    die "A copy of $interpreter does not start by itself ($said):" \
      "make the environment from the system's interpreter, /usr/bin/python3 -m venv $venv."
  fi
}

install_private() {
  local made=$private.new
  install -o root -g "$group" -m 0750 "$interpreter" "$made"
  give_capabilities "$made"
  refuse_broken "$made"
  mv -f "$made" "$private"
  say "made $private: root:$group, mode 0750, $CAPABILITIES, a copy of $interpreter"
}

tun_mode() { stat -c %a "$TUN"; }
tun_open() { [ -c "$TUN" ] && [ $((8#$(tun_mode) & 6)) -eq 6 ]; }

open_tun() {
  if [ ! -c "$TUN" ]; then
    if modprobe tun 2>/dev/null && [ -c "$TUN" ]; then
      say "loaded the kernel module tun"
    else
      say "warning: $TUN is missing and could not be made by 'modprobe tun': guests get no network until it is there"
      return
    fi
  fi
  if tun_open; then
    say "$TUN is open to users already (mode $(tun_mode))"
    return
  fi
  say "changed the mode of $TUN from $(tun_mode) to 666, as Debian's udev does: opening it gives nothing without CAP_NET_ADMIN"
  chmod 0666 "$TUN"
  if [ -d "${UDEV_RULE%/*}" ]; then
    printf '%s\n' "$UDEV_TEXT" >"$UDEV_RULE"
    say "made $UDEV_RULE, so that it stays so after a restart"
  else
    say "note: there is no udev here: after a restart of this machine run this again"
  fi
}

do_install() {
  need_root
  need_tool setcap libcap2-bin
  need_venv
  find_interpreter
  refuse_link
  choose_group
  refuse_nosuid
  install_private
  open_tun
  say "members of group $group can now run rawtap's captures and networks: $(members)"
}

members() {
  local gid listed primary
  gid=$(getent group "$group" | cut -d: -f3)
  listed=$(getent group "$group" | cut -d: -f4 | tr ',' ' ')
  primary=$(getent passwd | awk -F: -v gid="$gid" '$4 == gid { print $1 }' | tr '\n' ' ')
  printf '%s' "${listed:+$listed }${primary:-nobody else}"
}

do_check() {
  local bad=0
  need_tool getcap libcap2-bin
  need_venv
  find_interpreter
  fail() { say "FAIL  $1"; bad=1; }
  if [ -L "$private" ]; then
    fail "$private is a symbolic link: remove it and run setcap.sh again"
  elif [ ! -f "$private" ]; then
    fail "$private is missing: run setcap.sh as root"
  else
    check_private
  fi
  ! is_nosuid || fail "$venv is on a file system mounted nosuid: capabilities have no effect there"
  if [ ! -c "$TUN" ]; then
    fail "$TUN is missing: modprobe tun, or pass the device into the container"
  elif tun_open; then
    say "ok    $TUN has mode $(tun_mode)"
  else
    fail "$TUN has mode $(tun_mode) and is closed to users: run setcap.sh as root"
  fi
  return "$bad"
}

check_private() {
  local mode found
  mode=$(stat -c '%U:%G %a' "$private")
  case $mode in
    root:*' 750') say "ok    $private is $mode" ;;
    *) fail "$private is $mode and should be root:GROUP 750: run setcap.sh as root" ;;
  esac
  # An ordinary user outside the group may not read the file, but its attributes can still be read.
  found=$(getcap "$private" 2>/dev/null || true)
  case $found in
    *cap_net_bind_service,cap_net_admin,cap_net_raw=p) say "ok    ${found#"$private" } " ;;
    *) fail "$private has '${found#"$private"}' and should have $CAPABILITIES (cp and chown drop them): run setcap.sh" ;;
  esac
}

do_remove() {
  need_root
  need_venv
  if [ -e "$private" ] || [ -L "$private" ]; then
    rm -f "$private"
    say "removed $private"
  else
    say "$private was not there"
  fi
  if [ -f "$UDEV_RULE" ]; then
    rm -f "$UDEV_RULE"
    say "removed $UDEV_RULE; $TUN keeps mode $(tun_mode) until the next restart, since others may use it by now"
  fi
}

"do_$action"
