"""What carries packets inside packets: where what is carried begins, and what it is. `links` has other links.

Each reader is given the bytes, where its header begins and where it ends on the wire. It reads its own header alone;
`headers` reads what follows. What is not surely its header carries nothing: None.
"""

# ruff: noqa: PLR2004 - the numbers are those of the formats

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from rawtap.packets.bounds import double_word, need, word

IPV4, ARP, IPV6, MPLS, MPLS_GROUP, ETHERNET, PPP = 0x0800, 0x0806, 0x86DD, 0x8847, 0x8848, 0x6558, 0x880B
PPPOE_DISCOVERY, PPPOE, FABRIC_PATH, MACSEC, NSH = 0x8863, 0x8864, 0x8903, 0x88E5, 0x894F
_LABELS = 16


class Station(NamedTuple):
    """The addresses of a frame on another link than Ethernet; b"" for one that it does not have."""

    source: bytes
    destination: bytes


class Carried(NamedTuple):
    """What is carried: `kind` is an EtherType (of a whole frame ETHERNET's), at byte `at`; None where nothing more is
    read, and then `name` says what the header itself is. `says` is of the carrier: ``VXLAN 42``."""

    says: str
    kind: int | None
    at: int
    name: str = ""
    link: Station | None = None


Reader = Callable[[bytes, int, int], "Carried | None"]


def _of_version(data: bytes, at: int) -> int | None:
    """The EtherType of an IP packet, by its first four bits."""
    return {4: IPV4, 6: IPV6}.get(data[at] >> 4) if at < len(data) else None


# ------------------------------------------------------------- in frames


def mpls(data: bytes, at: int, end: int) -> Carried:
    """A stack of labels (RFC 3032); what is below it is told by its first bits (RFC 4928)."""
    labels: list[str] = []
    for _ in range(_LABELS):
        if labels and at + 4 > min(end, len(data)):
            break
        need(data, at, 4, end, "MPLS label", "mpls.label")
        entry = double_word(data, at)
        labels.append(str(entry >> 12))
        at += 4
        if entry >> 8 & 1:
            break
    says = f"MPLS {'/'.join(labels)}"
    kind = _of_version(data, at)
    if kind is None and at + 18 <= len(data) and data[at] >> 4 == 0 and word(data, at + 16) in _PLAUSIBLE:
        return Carried(says, ETHERNET, at + 4)  # a pseudowire with its control word (RFC 4448)
    return Carried(says, kind, at, "MPLS" if kind is None else "")


_PLAUSIBLE = {IPV4, IPV6, ARP, 0x8100, MPLS, PPPOE, 0x88CC}


def pppoe(data: bytes, at: int, end: int) -> Carried:
    """A PPPoE session's header, and PPP behind it (RFC 2516)."""
    need(data, at, 6, end, "PPPoE header", "pppoe.header")
    says = f"PPPoE 0x{word(data, at + 2):04x}"
    inner = ppp(data, at + 6, min(end, at + 6 + word(data, at + 4)))
    return inner._replace(says=says + (f" {inner.says}" if inner.kind is None else ""))


_DISCOVERIES = {0x09: "initiation", 0x07: "offer", 0x19: "request", 0x65: "session confirmation", 0xA7: "termination"}


def pppoe_discovery(data: bytes, at: int, end: int) -> Carried:
    need(data, at, 6, end, "PPPoE header", "pppoe.header")
    code = data[at + 1]
    return Carried(_DISCOVERIES.get(code, f"code {code}"), None, at, "PPPoED")


_PPP = {
    0xC021: "PPP LCP", 0x8021: "PPP IPCP", 0x8057: "PPP IPV6CP", 0xC023: "PPP PAP", 0xC223: "PPP CHAP",
    0x80FD: "PPP CCP", 0x00FD: "PPP Comp", 0x8281: "PPP MPLSCP", 0xC025: "PPP LQR", 0x8207: "PPP CDPCP",
    0x8053: "PPP ECP", 0x003D: "PPP MP", 0x002D: "PPP VJ", 0xC02B: "PPP BACP", 0xC02D: "PPP BAP",
}  # fmt: skip
_LCP = (
    "", "configuration request", "configuration ack", "configuration nak", "configuration reject",
    "termination request", "termination ack", "code reject", "protocol reject", "echo request", "echo reply",
    "discard request",
)  # fmt: skip
_KINDS = {0x0021: IPV4, 0x0057: IPV6, 0x0281: MPLS, 0x0283: MPLS_GROUP}


def ppp(data: bytes, at: int, end: int) -> Carried:
    """PPP (RFC 1661), with its address and control field or without; what begins as Cisco's HDLC is that."""
    if data[at : at + 2] in {b"\x0f\0", b"\x8f\0"}:
        return cisco_hdlc(data, at, end)
    need(data, at, 2, end, "PPP header", "ppp.header")
    if data[at : at + 2] == b"\xff\x03":
        at += 2
        need(data, at, 2, end, "PPP header", "ppp.header")
    size = 1 if data[at] & 1 else 2
    number = data[at] if size == 1 else word(data, at)
    at += size
    if number in _KINDS:
        return Carried("PPP", _KINDS[number], at)
    code = data[at] if at < len(data) else 0
    says = _LCP[code] if number & 0x8000 and 0 < code < len(_LCP) and number not in {0xC223, 0xC023} else ""
    return Carried(says or f"{end - at} bytes", None, at, _PPP.get(number, "PPP"))


def cisco_hdlc(data: bytes, at: int, end: int) -> Carried:
    need(data, at, 4, end, "HDLC header", "hdlc.header")
    kind = word(data, at + 2)
    if kind == 0x8035:
        return Carried(f"{end - at - 4} bytes", None, at + 4, "SLARP")
    if kind == 0x2000:
        return Carried(f"{end - at - 4} bytes", None, at + 4, "CDP")
    if kind == 0xFEFE:
        return Carried(f"{end - at - 4} bytes", None, at + 4, "OSI")
    return Carried("HDLC", kind, at + 4)


def _fabric_path(data: bytes, at: int, end: int) -> Carried:
    """Cisco's FabricPath: a tag of a tree's number and a time to live before a whole frame."""
    need(data, at, 2, end, "FabricPath tag", "fabric_path.header")
    return Carried(f"FabricPath {word(data, at) >> 6}", ETHERNET, at + 2)


def _macsec(data: bytes, at: int, end: int) -> Carried:
    """MACsec (IEEE 802.1AE, 9): what is neither encrypted nor changed begins with a type of its own."""
    need(data, at, 6, end, "MACsec tag", "macsec.header")
    control, number, size = data[at], double_word(data, at + 2), 14 if data[at] & 0x20 else 6
    need(data, at, size + 2, end, "MACsec tag", "macsec.header")
    kind = word(data, at + size)
    if control & 0x8C or kind < 0x0600:  # another version; or a length in place of a type
        how = "encrypted, " if control & 8 else "changed, " if control & 4 else ""
        return Carried(f"{how}packet {number}, {end - at - size} bytes", None, at, "MACSEC")
    return Carried("MACsec", kind, at + size + 2)


_IN_NSH = {1: IPV4, 2: IPV6, 3: ETHERNET, 4: NSH, 5: MPLS}


def _nsh(data: bytes, at: int, end: int) -> Carried:
    """A network service header (RFC 8300, 2): a path, and how far on it a packet is."""
    need(data, at, 8, end, "NSH", "nsh.header")
    path, size, kind = f"{double_word(data, at + 4) >> 8}/{data[at + 7]}", (data[at + 1] & 63) * 4, data[at + 3]
    if data[at] >> 6 or size < 8 or kind not in _IN_NSH:
        return Carried(f"path {path}, next protocol {kind}, {end - at} bytes", None, at, "NSH")
    need(data, at, size, end, "NSH", "nsh.header")
    return Carried(f"NSH {path}", _IN_NSH[kind], at + size)


def _old_vlan(data: bytes, at: int, end: int) -> Carried:
    """A VLAN's tag with a type from before there was a standard for two of them."""
    need(data, at, 4, end, "VLAN tag", "vlan.header")
    return Carried(f"VLAN {word(data, at) & 0xFFF}", word(data, at + 2), at + 4)


def _backbone(data: bytes, at: int, end: int) -> Carried:
    """A customer's frame in a provider's (IEEE 802.1Q, 9.7: I-TAG)."""
    need(data, at, 4, end, "I-TAG", "pbb.header")
    return Carried(f"PBB {double_word(data, at) & 0xFFFFFF}", ETHERNET, at + 4)


IN_FRAMES: dict[int, Reader] = {
    0x9100: _old_vlan, 0x9200: _old_vlan, 0x88E7: _backbone,
    FABRIC_PATH: _fabric_path, MACSEC: _macsec, NSH: _nsh,
    MPLS: mpls, MPLS_GROUP: mpls, PPPOE: pppoe, PPPOE_DISCOVERY: pppoe_discovery, PPP: ppp,
}  # fmt: skip


# ----------------------------------------------------------------- in IP


def gre(data: bytes, at: int, end: int) -> Carried | None:
    """GRE (RFC 2784, 2890), its version 1, and ERSPAN in it."""
    need(data, at, 4, end, "GRE header", "gre.header")
    flags, kind = word(data, at), word(data, at + 2)
    version, begin = flags & 7, at
    at += 4
    if version == 1:
        return _gre_one(data, at, end, flags, kind)
    if version or flags & 0x4000:  # with a source route
        return None
    key = ""
    at += 4 if flags & 0x8000 else 0
    if flags & 0x2000:
        need(data, at, 4, end, "GRE key", "gre.header")
        key = f" key 0x{double_word(data, at):x}"
        at += 4
    at += 4 if flags & 0x1000 else 0
    if kind in {0x88BE, 0x22EB}:
        return _erspan(data, at, end, kind, has_sequence=bool(flags & 0x1000))
    if at >= end or not kind:
        return Carried("keepalive" if at >= end else "", None, begin, "GRE")
    return Carried(f"GRE{key}", kind, at)


def _gre_one(data: bytes, at: int, end: int, flags: int, kind: int) -> Carried | None:
    """GRE's version 1, with PPP (RFC 2637), or MikroTik's EoIP: a tunnel's number whose least byte comes first."""
    if kind == 0x6400 and flags == 0x2001:
        need(data, at, 4, end, "EoIP header", "eoip.header")
        return Carried(f"EoIP {data[at + 2] | data[at + 3] << 8}", ETHERNET, at + 4)
    at += 4 + (4 if flags & 0x1000 else 0) + (4 if flags & 0x80 else 0)
    if kind != PPP or at >= end:
        return None
    inner = ppp(data, at, end)
    return inner._replace(says=f"GRE {inner.says}")


def _erspan(data: bytes, at: int, end: int, kind: int, *, has_sequence: bool) -> Carried | None:
    """ERSPAN of type I, which has no header, II or III (draft-foschiano-erspan)."""
    if kind == 0x88BE and not has_sequence:
        return Carried("ERSPAN", ETHERNET, at)
    need(data, at, 8, end, "ERSPAN header", "erspan.header")
    version, session = data[at] >> 4, word(data, at + 2) & 0x3FF
    if version == 1 and kind == 0x88BE:
        return Carried(f"ERSPAN {session}", ETHERNET, at + 8)
    if version == 2:
        need(data, at, 12, end, "ERSPAN header", "erspan.header")
        if data[at + 10] >> 2 & 31:  # the type of a frame that is not Ethernet's
            return Carried(f"session {session}", None, at, "ERSPAN")
        return Carried(f"ERSPAN {session}", ETHERNET, at + 12 + (8 if data[at + 11] & 1 else 0))
    return Carried(f"version {version}", None, at, "ERSPAN")


def _ethernet_in_ip(_data: bytes, at: int, _end: int) -> Carried:
    return Carried("EtherIP", ETHERNET, at + 2)


IN_IP: dict[int, Reader] = {
    4: lambda _data, at, _end: Carried("IP in IP", IPV4, at),
    41: lambda _data, at, _end: Carried("IPv6 in IP", IPV6, at),
    47: gre,
    97: _ethernet_in_ip,
    137: mpls,
}


# ---------------------------------------------------------------- in UDP


def _vxlan(data: bytes, at: int, end: int) -> Carried | None:
    """VXLAN (RFC 7348), whose identifier is valid by a flag."""
    if at + 8 + 14 > end or at + 8 > len(data) or not data[at] & 8 or data[at + 7]:
        return None
    return Carried(f"VXLAN {double_word(data, at + 4) >> 8}", ETHERNET, at + 8)


_GPE = {1: IPV4, 2: IPV6, 3: ETHERNET, 4: NSH}


def _vxlan_gpe(data: bytes, at: int, end: int) -> Carried | None:
    if at + 8 > min(end, len(data)) or data[at] & 0xC != 0xC or data[at + 3] not in _GPE:
        return None
    return Carried(f"VXLAN-GPE {double_word(data, at + 4) >> 8}", _GPE[data[at + 3]], at + 8)


def _geneve(data: bytes, at: int, end: int) -> Carried | None:
    """Geneve (RFC 8926)."""
    if at + 8 > min(end, len(data)) or data[at] >> 6 or data[at + 7]:
        return None
    return Carried(f"Geneve {double_word(data, at + 4) >> 8}", word(data, at + 2), at + 8 + (data[at] & 63) * 4)


def _gtp(data: bytes, at: int, end: int) -> Carried | None:
    """A user's packet in GTP-U (3GPP TS 29.281, 5.1)."""
    if at + 8 > min(end, len(data)) or data[at] >> 4 != 3 or data[at + 1] != 255:
        return None
    says = f"GTP 0x{double_word(data, at + 4):x}"
    flags, at = data[at], at + 8
    if flags & 7:
        at += 4
        following = data[at - 1] if at <= len(data) and flags & 4 else 0
        while following:
            need(data, at, 4, end, "GTP extension header", "gtp.header")
            size = data[at] * 4
            if not size or at + size > min(end, len(data)):
                return None
            following, at = data[at + size - 1], at + size
    kind = _of_version(data, at)
    return None if kind is None else Carried(says, kind, at)


def _lisp(data: bytes, at: int, end: int) -> Carried | None:
    """A packet behind LISP's header (RFC 9300, 5.1)."""
    kind = _of_version(data, at + 8) if at + 8 <= end else None
    return None if kind is None else Carried("LISP", kind, at + 8)


def _teredo(data: bytes, at: int, end: int) -> Carried | None:
    """IPv6 in UDP, perhaps behind an authentication and where the sender is (RFC 4380, 5.1.1)."""
    if data[at : at + 2] == b"\0\1" and at + 4 <= len(data):
        at += 13 + data[at + 2] + data[at + 3]
    if data[at : at + 2] == b"\0\0":
        at += 8
    is_ip = at + 40 <= min(end, len(data)) and data[at] >> 4 == 6 and at + 40 + word(data, at + 4) <= end
    return Carried("Teredo", IPV6, at) if is_ip else None


def _ayiya(data: bytes, at: int, end: int) -> Carried | None:
    """IPv6 behind an identity and a signature (draft-massar-v6ops-ayiya, 2)."""
    if at + 8 > min(end, len(data)) or data[at + 3] not in {4, 41}:
        return None
    begin = at + 8 + (1 << (data[at] >> 4)) + (data[at + 1] >> 4) * 4
    kind = {4: IPV4, 41: IPV6}[data[at + 3]]
    return Carried("AYIYA", kind, begin) if _of_version(data, begin) == kind else None


IN_UDP: dict[int, Reader] = {
    4789: _vxlan, 8472: _vxlan, 4790: _vxlan_gpe, 6081: _geneve, 2152: _gtp, 3544: _teredo, 6635: mpls, 4754: gre,
    5072: _ayiya, 4341: _lisp,
}  # fmt: skip
