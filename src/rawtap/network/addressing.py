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

_PREFIXES = range(16, 31)  # room for a host and a guest, and for no more than one network

# RFC 1918 and RFC 6598: a bridge with a public address would draw the host's own traffic to the guest.
_PRIVATE = tuple(map(ipaddress.IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")))

_ENDED = -1

_PSEUDO = "any"  # to libpcap, every interface of the host at once, pcap_open_live(3PCAP)

_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_TAP = re.compile(r"rtap(\d+)\.\d+")
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
    if name == _PSEUDO:
        raise _invalid(name, "libpcap takes it for all interfaces of the host")
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
        ProfileInvalid: Not a private IPv4 address with a prefix of 16 to 30 bits.
    """
    try:
        address = ipaddress.IPv4Interface(text)
    except ValueError as error:
        raise _no_address(text, str(error)) from error
    if address.network.prefixlen not in _PREFIXES:
        raise _no_address(text, "its prefix length must be 16 to 30")
    if address.ip in (address.network.network_address, address.network.broadcast_address):
        raise _no_address(text, "no host can have it")
    if not any(address.ip in network for network in _PRIVATE):
        raise _no_address(text, "it is public: use one of 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 100.64.0.0/10")
    return address


def _no_address(text: str, evidence: str) -> ProfileInvalid:
    return ProfileInvalid(
        f"the bridge cannot have the address {text!r}", evidence=evidence, cure='Write it like "10.0.2.2/24"'
    )


def host_mac(address: ipaddress.IPv4Address) -> str:
    """The MAC address of the host on a guest's wire: QEMU's own network makes it of 52:55 and the address (slirp), and
    systems that are written for that, as labs of xv6 are, send there without asking by ARP."""
    return f"52:55:{address.packed.hex(':')}"


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
    def nobody(cls) -> Owner:
        """Stands for an owner that has left what it made to whoever is still on it."""
        return cls(0, 0, 0)

    @classmethod
    def of(cls, alias: str | None) -> Owner | None:
        """The owner that a link's alias names, None where it names none."""
        match = _MARK.fullmatch(alias or "")
        return cls(*map(int, match.groups())) if match else None

    @property
    def alias(self) -> str:
        """The text for IFLA_IFALIAS."""
        return f"rawtap pid={self.pid} start={self.start} pidns={self.pidns}"

    @property
    def is_near(self) -> bool:
        """Whether it is in this process's pid namespace, so that its end can be seen."""
        return self.pidns == _pid_namespace()

    def gone(self) -> bool:
        """Whether this owner has certainly ended; False where it cannot be known.

        It cannot from another pid namespace, nor where /proc hides other users' processes (hidepid, proc(5)).
        """
        if self == Owner.nobody():
            return True
        if self.pidns != _pid_namespace():
            return False
        if not _exists(self.pid):
            return True
        found = _start_time(self.pid)
        return found is not None and found != self.start


def tap_name(number: int) -> str:
    """A name for a TAP of this process: it tells who made it before a mark can."""
    return checked_name(f"rtap{os.getpid()}.{number}")


def tap_alias(mac: str) -> str:
    """What a TAP says of itself in the kernel: the address of its guest's card."""
    return f"rawtap mac={mac.lower()}"


def is_tap(name: str) -> bool:
    """Whether some process of rawtap's gave that name."""
    return _TAP.fullmatch(name) is not None


def is_tap_of_the_dead(name: str) -> bool:
    """Whether `tap_name` gave that name in a process that has ended; False while another one has its pid."""
    match = _TAP.fullmatch(name)
    return match is not None and (not _exists(int(match[1])) or _start_time(int(match[1])) == _ENDED)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it is another user's, so it is there
    return True


def _pid_namespace() -> int:
    return Path("/proc/self/ns/pid").stat().st_ino


def _start_time(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; _ENDED for a zombie; None where it is hidden."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    # The second field is the command's name in parentheses and may hold anything.
    fields = stat.rpartition(")")[2].split()
    return _ENDED if fields[0] in "ZX" else int(fields[19])
