"""Other links than Ethernet: where what they carry begins, and what it is; readers as in `carriers`."""

# ruff: noqa: PLR2004 - the numbers are those of the formats

from __future__ import annotations

from rawtap.packets.bounds import Stopped, need, word
from rawtap.packets.carriers import (
    ARP,
    ETHERNET,
    IPV4,
    IPV6,
    Carried,
    Reader,
    Station,
    cisco_hdlc,
    mpls,
    ppp,
    pppoe,
)


def _frame_relay(data: bytes, at: int, end: int) -> Carried:
    """Frame Relay with an address of two bytes or more, and what RFC 2427 puts behind it."""
    need(data, at, 4, end, "Frame Relay header", "frame_relay.header")
    number = (data[at] >> 2) << 4 | data[at + 1] >> 4
    size = 2 if data[at + 1] & 1 else 4
    says, at = f"FR {number}", at + size
    need(data, at, 2, end, "Frame Relay header", "frame_relay.header")
    if data[at] == 3:
        at += 1 if data[at + 1] else 2
        need(data, at, 1, end, "Frame Relay header", "frame_relay.header")
        identifier = data[at]
        if identifier == 0xCC:
            return Carried(says, IPV4, at + 1)
        if identifier == 0x8E:
            return Carried(says, IPV6, at + 1)
        if identifier == 0x80 and at + 6 <= min(end, len(data)):
            is_bridged = data[at + 1 : at + 4] == b"\0\x80\xc2"
            return Carried(says, ETHERNET if is_bridged else word(data, at + 4), at + 6)
        return Carried(f"{says}, NLPID 0x{identifier:02x}, {end - at} bytes", None, at, "FR")
    return Carried(says, word(data, at), at + 2)


_MANAGEMENT = (
    "association request", "association response", "reassociation request", "reassociation response", "probe request",
    "probe response", "timing advertisement", "", "beacon", "ATIM", "disassociation", "authentication",
    "deauthentication", "action", "action without ack",
)  # fmt: skip
_CONTROL = {
    7: "control wrapper", 8: "block ack request", 9: "block ack", 10: "PS-poll", 11: "RTS", 12: "CTS", 13: "ack",
    14: "CF-end", 15: "CF-end and ack",
}  # fmt: skip
_SNAP = bytes.fromhex("aaaa03")


def wireless(data: bytes, at: int, end: int) -> Carried:
    """An 802.11 frame (IEEE 802.11, 9.2)."""
    need(data, at, 10, end, "802.11 header", "wireless.header")
    kind, subtype, flags = data[at] >> 2 & 3, data[at] >> 4, data[at + 1]
    receiver, sender = data[at + 4 : at + 10], data[at + 10 : at + 16]
    if kind == 0:
        says = _MANAGEMENT[subtype] if subtype < len(_MANAGEMENT) else f"management {subtype}"
        return Carried(says + _network_name(data, at, end, subtype), None, at, "802.11", Station(sender, receiver))
    if kind != 2:
        has_sender = kind == 1 and subtype in {8, 9, 10, 11, 14, 15}
        says = _CONTROL.get(subtype, f"control {subtype}") if kind == 1 else f"extension {subtype}"
        return Carried(says, None, at, "802.11", Station(sender if has_sender else b"", receiver))
    need(data, at, 24, end, "802.11 header", "wireless.header")
    ways, third = flags & 3, data[at + 16 : at + 22]
    size = 24 + (6 if ways == 3 else 0) + (2 if subtype & 8 else 0) + (4 if flags & 0x80 and subtype & 8 else 0)
    source = {0: sender, 1: sender, 2: third, 3: data[at + 24 : at + 30]}[ways]
    link = Station(source, receiver if ways in {0, 2} else third)
    payload = at + size
    if subtype & 4:
        return Carried("no data", None, at, "802.11", link)
    if flags & 0x40:
        return Carried(f"data, encrypted, {max(end - payload, 0)} bytes", None, at, "802.11", link)
    if data[payload : payload + 3] == _SNAP and payload + 8 <= len(data):
        return Carried("802.11", word(data, payload + 6), payload + 8, "", link)
    return Carried(f"data, {max(end - payload, 0)} bytes", None, at, "802.11", link)


def _network_name(data: bytes, at: int, end: int, subtype: int) -> str:
    """The SSID in a frame that has one."""
    place = at + 24 + {0: 4, 2: 10, 4: 0, 5: 12, 8: 12}.get(subtype, end)
    while place + 2 <= min(end, len(data)):
        size = data[place + 1]
        if data[place] == 0:
            name = data[place + 2 : place + 2 + size].decode("utf-8", "replace")
            return f" of {name!r}" if name.strip("\0") else " of no name"
        place += 2 + size
    return ""


def _radiotap(data: bytes, at: int, end: int) -> Carried:
    need(data, at, 8, end, "radiotap header", "wireless.radiotap")
    size = data[at + 2] | data[at + 3] << 8
    has_fcs = _radiotap_flags(data, at, size) & 0x10
    return wireless(data, at + size, end - (4 if has_fcs else 0))


def _radiotap_flags(data: bytes, at: int, size: int) -> int:
    """The field of flags, which only the time stamp can be before."""
    present = int.from_bytes(data[at + 4 : at + 8], "little")
    place = at + 8
    word_ = present
    while word_ & 1 << 31 and place + 4 <= at + size <= len(data):
        word_ = int.from_bytes(data[place : place + 4], "little")
        place += 4
    if not present & 2 or place >= len(data):
        return 0
    place = (place - at + 7) // 8 * 8 + at + 8 if present & 1 else place
    return data[place] if place < min(at + size, len(data)) else 0


_MOST_LINK = 0xFFFF  # a link type has 16 bits in files


def _ppi(data: bytes, at: int, end: int) -> Carried:
    need(data, at, 8, end, "PPI header", "wireless.ppi")
    size = data[at + 2] | data[at + 3] << 8
    link_type = int.from_bytes(data[at + 4 : at + 8], "little")
    if link_type == 1:
        return Carried("PPI", ETHERNET, at + size)
    reader = LINKS.get(link_type)
    if reader is None or link_type == PPI_LINK:
        which = f"link type {link_type}" if link_type <= _MOST_LINK else "a link type that is none"
        raise Stopped("link", at, f"frames of {which} in PPI are not read")  # whoever counts these keeps the sentence
    return reader(data, at + size, end) or Carried("", None, at, "PPI")


def _nflog(data: bytes, at: int, end: int) -> Carried:
    """The kernel's log of packets: attributes, one of which is the packet (linux/netfilter/nfnetlink_log.h)."""
    need(data, at, 4, end, "NFLOG header", "nflog.header")
    family, place = data[at], at + 4
    kind = {2: IPV4, 10: IPV6}.get(family)
    while place + 4 <= min(end, len(data)):
        size, number = data[place] | data[place + 1] << 8, (data[place + 2] | data[place + 3] << 8) & 0x7FFF
        if size < 4:
            break
        if number == 9 and kind is not None:
            return Carried("NFLOG", kind, place + 4)
        place += (size + 3) // 4 * 4
    return Carried(f"family {family}", None, at, "NFLOG")


def _can(data: bytes, at: int, end: int) -> Carried:
    """SocketCAN: the frame is told of in lines."""
    need(data, at, 8, end, "CAN header", "can.header")
    return Carried("CAN", CAN, at)


def _personal(data: bytes, at: int, end: int) -> Carried:
    """The kind of a frame of IEEE 802.15.4 (7.2.1)."""
    need(data, at, 3, end, "802.15.4 header", "personal.header")
    kinds = ("beacon", "data", "ack", "command", "reserved", "multipurpose", "fragment", "extended")
    return Carried(f"{kinds[data[at] & 7]} seq={data[at + 2]}, {end - at} bytes", None, at, "IEEE 802.15.4")


_FDDI = {0x40: "void", 0xC2: "beacon", 0xC3: "claim"}
_FDDI_KINDS = {0x40: "station management", 0xC0: "MAC"}


def _fddi(data: bytes, at: int, end: int) -> Carried:
    """FDDI: a byte of control and both addresses (ANSI X3.139); LLC is in some of its frames alone."""
    need(data, at, 13, end, "FDDI header", "fddi.header")
    control, link = data[at], Station(data[at + 7 : at + 13], data[at + 1 : at + 7])
    if control & 0x70 != 0x50:
        says = _FDDI.get(control) or _FDDI_KINDS.get(control & 0xF0) or f"frame control 0x{control:02x}"
        return Carried(f"{says}, {end - at} bytes", None, at, "FDDI", link)
    if data[at + 13 : at + 16] != _SNAP:
        return Carried(f"{end - at} bytes", None, at, "FDDI", link)
    need(data, at, 21, end, "FDDI header", "fddi.header")
    return Carried("FDDI", word(data, at + 19), at + 21, "", link)


_ARCNET = {212: IPV4, 240: IPV4, 213: ARP, 241: ARP, 196: IPV6}
_ARCNET_PLAIN = {0x80, 240, 241}  # without what splits a packet in frames (RFC 1051)


def _arcnet(data: bytes, at: int, end: int) -> Carried:
    """ARCnet as a BSD captures it: addresses of a byte each, a type, and which part of a packet it is (RFC 1201)."""
    need(data, at, 3, end, "ARCnet header", "arcnet.header")
    place, split = at + 3, 0
    if data[at + 2] not in _ARCNET_PLAIN:
        need(data, at, 6, end, "ARCnet header", "arcnet.header")
        if data[at + 3] == 0xFF:  # filled up to a length that can be sent
            place += 4
            need(data, place, 3, end, "ARCnet header", "arcnet.header")
        split = data[place]
        place += 3
    if split:
        part = f"the first of {(split + 3) // 2}" if split & 1 else str(split // 2 + 1)
        says = f"type {data[at + 2]}, part {part}, {end - place} bytes"
        return Carried(says, None, at, "ARCNET", Station(data[at : at + 1], data[at + 1 : at + 2]))
    return _in_arcnet(data, at, end, data[at + 2], place)


def _arcnet_linux(data: bytes, at: int, end: int) -> Carried:
    """The same as Linux captures it: two more bytes before the type, and whole packets."""
    need(data, at, 5, end, "ARCnet header", "arcnet.header")
    size = 5 if data[at + 4] in _ARCNET_PLAIN else 8
    need(data, at, size, end, "ARCnet header", "arcnet.header")
    return _in_arcnet(data, at, end, data[at + 4], at + size)


def _in_arcnet(data: bytes, at: int, end: int, kind: int, place: int) -> Carried:
    link = Station(data[at : at + 1], data[at + 1 : at + 2])
    if kind not in _ARCNET:
        return Carried(f"type {kind}, {end - place} bytes", None, at, "ARCNET", link)
    return Carried("ARCnet", _ARCNET[kind], place, "", link)


def _infiniband(data: bytes, at: int, end: int) -> Carried:
    """IP over InfiniBand (RFC 4391, 6): a type, and before it, in captures, the receiver's address."""
    need(data, at, 44, end, "IPoIB header", "ipoib.header")
    return Carried("IPoIB", word(data, at + 40), at + 44)


def _ipnet(data: bytes, at: int, end: int) -> Carried:
    """Solaris' IPNET: a header with the family of what follows (pcap's LINKTYPE_IPNET)."""
    need(data, at, 24, end, "IPNET header", "ipnet.header")
    kind = {2: IPV4, 26: IPV6}.get(data[at + 1])
    return Carried("IPNET", kind, at + 24, "" if kind else "IPNET")


PPI_LINK = 192
CAN = 0x000C
LINKS: dict[int, Reader] = {
    7: _arcnet, 129: _arcnet_linux, 10: _fddi, 195: _personal, 215: lambda data, at, end: _personal(data, at + 4, end),
    226: _ipnet, 227: _can, 230: _personal, 242: _infiniband,
    9: ppp, 50: ppp, 51: pppoe, 104: cisco_hdlc, 105: wireless, 107: _frame_relay, 127: _radiotap, 166: ppp,
    PPI_LINK: _ppi, 204: lambda data, at, end: ppp(data, at + 1, end), 239: _nflog, 219: mpls,
}  # fmt: skip
