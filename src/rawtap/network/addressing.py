"""Names, MAC addresses, subnets and owner marks. Pure, except for asking /proc whether an owner lives."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
from dataclasses import dataclass
from pathlib import Path

from rawtap.errors import NameInvalid, ProfileInvalid

IFNAME_MAX = 15  # IFNAMSIZ is 16 with the NUL, netdevice(7)

_PREFIXES = range(8, 31)  # room for a host and a guest, and no half of the Internet

_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_MARK = re.compile(r"rawtap pid=(\d+) start=(\d+) pidns=(\d+)")


def checked_name(name: str) -> str:
    """Return `name` if it can name an interface.

    The kernel's rule (dev_valid_name, net/core/dev.c) is 1 to 15 bytes, not "." or "..", no slash, colon or white
    space. Narrower here: a tuntap request cuts a longer name without an error and expands ``%d``.

    Raises:
        NameInvalid: With what is wrong.
    """
    if not 1 <= len(name) <= IFNAME_MAX:
        raise _invalid(name, f"{len(name)} characters; an interface's name has 1 to {IFNAME_MAX}")
    if not _NAME.fullmatch(name) or name in {".", ".."}:
        raise _invalid(name, "only letters, digits, '_', '.' and '-' may be in it")
    return name


def _invalid(name: str, evidence: str) -> NameInvalid:
    return NameInvalid(
        f"{name!r} cannot name an interface",
        evidence=evidence,
        cure='Choose another one, for example "rvos-br0"',
    )


def checked_address(text: str) -> ipaddress.IPv4Interface:
    """Parse a bridge's address with its prefix length ("10.0.2.2/24").

    Raises:
        ProfileInvalid: Not an IPv4 address with a prefix of 8 to 30 bits.
    """
    try:
        address = ipaddress.IPv4Interface(text)
    except ValueError as error:
        raise ProfileInvalid(
            f"the bridge address {text!r} is no IPv4 address with a prefix length",
            evidence=str(error),
            cure='Write it like "10.0.2.2/24"',
        ) from error
    if address.network.prefixlen not in _PREFIXES:
        raise ProfileInvalid(
            f"the bridge address {text!r} needs a prefix length of 8 to 30",
            cure='Write it like "10.0.2.2/24"',
        )
    ends = (address.network.network_address, address.network.broadcast_address)
    if address.ip in ends or address.is_loopback or address.is_multicast:
        raise ProfileInvalid(f"the bridge address {text!r} is no host's", cure='Write it like "10.0.2.2/24"')
    return address


def mac_for(*parts: str) -> str:
    """A locally administered unicast MAC address (IEEE 802 2.1, bit 1 of the first octet), the same for the same parts.

    52:54:00 is the prefix that QEMU's guests are known by.
    """
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return "52:54:00:" + ":".join(f"{octet:02x}" for octet in digest[:3])


@dataclass(frozen=True)
class Owner:
    """The process that made a link, as its kernel alias carries it.

    A pid alone would be mistaken for its next bearer, hence the start time (clock ticks since boot, proc(5)
    stat field 22); and a pid means nothing outside its pid namespace, hence that one's inode.
    """

    pid: int
    start: int
    pidns: int

    @classmethod
    def me(cls) -> Owner:
        """This process."""
        start = _start_time(os.getpid())
        if start is None:
            raise RuntimeError("/proc is not mounted")
        return cls(os.getpid(), start, _pid_namespace())

    @classmethod
    def of(cls, alias: str | None) -> Owner | None:
        """The owner that a link's alias names, None where it names none."""
        match = _MARK.fullmatch(alias or "")
        return cls(*map(int, match.groups())) if match else None

    @property
    def alias(self) -> str:
        """The text for IFLA_IFALIAS."""
        return f"rawtap pid={self.pid} start={self.start} pidns={self.pidns}"

    def gone(self) -> bool:
        """Whether this owner has certainly ended; False where it cannot be known from this pid namespace."""
        return self.pidns == _pid_namespace() and _start_time(self.pid) != self.start


def _pid_namespace() -> int:
    return Path("/proc/self/ns/pid").stat().st_ino


def _start_time(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the command's name in parentheses and may hold anything.
    fields = stat.rpartition(")")[2].split()
    # A zombie has ended; that nobody took its exit code does not make it an owner.
    return None if fields[0] in "ZX" else int(fields[19])
