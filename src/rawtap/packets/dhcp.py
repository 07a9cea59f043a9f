"""DHCP messages, as far as a line and a judgement need them (RFC 2131, 2; RFC 2132)."""

# ruff: noqa: PLR2004 - the numbers are those of the formats

from __future__ import annotations

import struct
from typing import NamedTuple

from rawtap.packets.bounds import Stop, Stopped, need

_HEADER = struct.Struct("!4BIHH4s4s4s4s16s")
_FIXED = 236  # bytes before the options
_COOKIE = bytes.fromhex("63825363")
_FILE, _SNAME = (108, 236), (44, 108)

TYPES = ("", "discover", "offer", "request", "decline", "ack", "nak", "release", "inform")
DISCOVER, OFFER, REQUEST, DECLINE, ACK, NAK, RELEASE, INFORM = range(1, 9)
PAD, MASK, ROUTER, REQUESTED, LEASE, OVERLOAD, TYPE, SERVER, VENDOR, BOOT_FILE, END = (
    0,
    1,
    3,
    50,
    51,
    52,
    53,
    54,
    60,
    67,
    255,
)
SHORT, OPTIONS = "dhcp.short", "dhcp.options"
PXE, HTTP = "PXEClient", "HTTPClient"


class Dhcp(NamedTuple):
    """A message. `hardware` is the type of the client's address and its length; `cookie` is whether the options' magic
    cookie is there; `vendor` whether the options' place holds anything but zeros; `ended` whether the end option was
    found. Of `options` the codes, in their order. `boots` is how a client that wants to boot from the network names
    itself, and what a server for it answers (PXEClient or HTTPClient, option 60); `boot_file` whether a file, or a
    URL, to boot is named."""

    offset: int
    operation: int
    xid: int
    ciaddr: bytes
    yiaddr: bytes
    giaddr: bytes
    hardware: tuple[int, int]
    chaddr: bytes
    cookie: bool
    vendor: bool
    ended: bool
    options: tuple[int, ...]
    message: int | None
    server: bytes | None
    requested: bytes | None
    lease: int | None
    mask: bytes | None
    router: bytes | None
    boots: str
    boot_file: bool
    stop: Stop | None

    @property
    def name(self) -> str:
        """The message type's name; a BOOTP message has none (RFC 1534, 2)."""
        if self.message is None:
            return "BOOTP request" if self.operation == 1 else "BOOTP reply"
        return TYPES[self.message] if 0 < self.message < len(TYPES) else f"type {self.message}"


def parse(data: bytes, at: int, end: int) -> Dhcp:
    """The message from byte `at` to `end` of a frame.

    Raises:
        Stopped: The fields before the options are not there.
    """
    need(data, at, _FIXED, end, "DHCP message", SHORT)
    operation, htype, hlen, _, xid, _, _, ciaddr, yiaddr, _, giaddr, chaddr = _HEADER.unpack_from(data, at)
    begin = at + _FIXED
    cookie = data[begin : begin + 4]
    values: dict[int, bytes] = {}
    stop, ended = None, False
    if cookie == _COOKIE:
        try:
            ended = _options(data, begin + 4, end, values)
            _overloaded(data, at, values)
        except Stopped as error:
            stop = error.stop
    kind = values.get(TYPE)
    lease = values.get(LEASE, b"")
    return Dhcp(
        at, operation, xid, ciaddr, yiaddr, giaddr, (htype, hlen), chaddr[: min(hlen, 16)],
        cookie=cookie == _COOKIE, vendor=bool(cookie.strip(b"\0")), ended=ended, options=tuple(values),
        message=kind[0] if kind else None, server=_address(values, SERVER), requested=_address(values, REQUESTED),
        lease=int.from_bytes(lease, "big") if len(lease) == 4 else None,
        mask=_address(values, MASK), router=_address(values, ROUTER, first=True),
        boots=next((name for name in (PXE, HTTP) if values.get(VENDOR, b"").startswith(name.encode())), ""),
        boot_file=any(data[at + _FILE[0] : at + _FILE[1]]) or bool(values.get(BOOT_FILE)), stop=stop,
    )  # fmt: skip


def _address(values: dict[int, bytes], code: int, *, first: bool = False) -> bytes | None:
    """An option that is one address; or the first of several."""
    value = values.get(code, b"")
    return value[:4] if len(value) == 4 or (first and len(value) > 4) else None


def _overloaded(data: bytes, at: int, values: dict[int, bytes]) -> None:
    """Option 52: the fields `file` and `sname` hold options as well (RFC 2131, 4.1)."""
    where = values.get(OVERLOAD, b"\0")[:1] or b"\0"
    for bit, (begin, end) in ((1, _FILE), (2, _SNAME)):
        if where[0] & bit:
            _options(data, at + begin, at + end, values)


def _options(data: bytes, at: int, end: int, values: dict[int, bytes]) -> bool:
    """Read options up to the end option, and tell whether it is there. Parts of one option are joined (RFC 3396)."""
    while at < end:
        need(data, at, 1, end, "DHCP option", OPTIONS)
        code = data[at]
        if code == END:
            return True
        if code == PAD:
            at += 1
            continue
        need(data, at, 2, end, f"DHCP option {code}", OPTIONS)
        size = data[at + 1]
        need(data, at + 2, size, end, f"DHCP option {code}", OPTIONS)
        values[code] = values.get(code, b"") + data[at + 2 : at + 2 + size]
        at += 2 + size
    return False
