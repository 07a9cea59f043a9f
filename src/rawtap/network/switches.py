"""Switches of an interface, and of the whole network namespace (linux/Documentation/networking/ip-sysctl.rst)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from rawtap.errors import NetworkFailed, NetworkPermission
from rawtap.host.privileges import Capability, raised

Family = Literal["ipv4", "ipv6"]

ALL = "all"
FORWARDING = "forwarding"
FORCE_FORWARDING = "force_forwarding"  # IPv6, Linux 6.17: as `forwarding` is for IPv4, one interface alone

_ROOT = Path("/proc/sys/net")


def read(family: Family, interface: str, switch: str) -> str | None:
    """What a switch is set to, None where the kernel has none, or the interface is gone."""
    try:
        return _path(family, interface, switch).read_text(encoding="ascii").strip()
    except OSError:  # ENOENT, or while it is on its way out EINVAL
        return None


def write(family: Family, interface: str, switch: str, value: str) -> None:
    """Set a switch, where it is not set so. CAP_NET_ADMIN is enough for it (net_ctl_permissions, net/sysctl_net.c).

    Raises:
        NetworkPermission: This process may not.
        NetworkFailed: There is none, or /proc/sys is read-only, as in many containers.
    """
    if read(family, interface, switch) == value:
        return
    path = _path(family, interface, switch)
    try:
        with raised(Capability.NET_ADMIN, f"set {path}", NetworkPermission):
            path.write_text(value, encoding="ascii")
    except OSError as error:
        raise NetworkFailed(
            f"cannot set {path} to {value}",
            evidence=error.strerror or str(error),
            cure="In a container /proc/sys may be read-only: its engine can mount it otherwise",
        ) from error


def _path(family: Family, interface: str, switch: str) -> Path:
    return _ROOT / family / "conf" / interface / switch
