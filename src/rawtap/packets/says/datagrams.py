"""What a UDP datagram says."""

# ruff: noqa: PLR2004 - the numbers are those of the formats

from __future__ import annotations

import re

from rawtap.packets import dns as dns_messages
from rawtap.packets.bounds import Stopped
from rawtap.packets.says import asn1, machines, mobile, rpc, services, tls
from rawtap.packets.says.words import Found, Known, at_byte, begins, first_line, named, number, surely, text


def dns_surely(payload: bytes) -> str | None:
    """DNS at any port: one question for a type and class that there are, and nothing else that does not fit."""
    if len(payload) < 17 or payload[4:6] != b"\0\1" or payload[2] & 0x78 or payload[3] & 0x40 or payload[3] & 15 > 5:
        return None
    if _is_of_netbios(payload):
        return None
    if not payload[2] & 0x80 and (payload[6:10] != bytes(4) or payload[10:12] > b"\0\2" or payload[3] & 0x8F):
        return None
    at = 12
    while payload[at]:
        if payload[at] > 63 or at > 260:
            return None
        at += 1 + payload[at]
    kind, of_class = number(payload, at + 1, 2), number(payload, at + 3, 2)
    is_whole = at + 5 == len(payload) or number(payload, 6, 2) + number(payload, 8, 2) + number(payload, 10, 2)
    return dns(payload) if kind in dns_messages.TYPES and of_class in {1, 3, 255} and at > 12 and is_whole else None


_HTTP = (b"NOTIFY * HTTP/1.", b"M-SEARCH * HTTP/1.", b"HTTP/1.1 ")
_SIP = re.compile(rb"(SIP/2\.0 [0-9]{3}|[A-Z]{3,12} (sips?|tel|im):[^ \r\n]*)")


def _sip(payload: bytes) -> str | None:
    """The first line of SIP (RFC 3261, 7)."""
    return first_line(payload) if _SIP.match(payload) else None


def dns(payload: bytes) -> str | None:
    """A DNS message in words, which has its questions and answers."""
    try:
        message = dns_messages.parse(payload, 0, len(payload))
    except Stopped:
        return None
    if not message.questions and not message.answers and message.stop is not None:
        return None
    return dns_messages.words(message)


def _ssdp(payload: bytes) -> str | None:
    if not payload.startswith(_HTTP):
        return None
    what = re.search(rb"\r\n(?:ST|NT|USN): *([^\r\n]{1,80})", payload, re.IGNORECASE)
    return first_line(payload) + (f", {what[1].decode('latin-1')}" if what else "")


_TFTP = ("", "read request", "write request", "data", "acknowledgment", "error", "option acknowledgment")


def tftp(payload: bytes) -> str | None:
    """A message of TFTP (RFC 1350); a conversation goes on between other ports than that it began with."""
    code = number(payload, 0, 2)
    if code in {1, 2}:
        return f"{_TFTP[code]} {payload[2:].split(bytes(1))[0][:80].decode('latin-1')!r}"
    if code in {3, 4}:
        return f"{_TFTP[code]} block {number(payload, 2, 2)}"
    if code == 5:
        return f"error {number(payload, 2, 2)}: {payload[4:84].split(bytes(1))[0].decode('latin-1')}"
    return _TFTP[6] if code == 6 else f"opcode {code}"


_NTP = ("reserved", "symmetric active", "symmetric passive", "client", "server", "broadcast", "control", "private")


def ntp(payload: bytes) -> str | None:
    mode, version = payload[0] & 7, payload[0] >> 3 & 7
    if not 1 <= version <= 4:
        return None
    said = f"version {version}, {_NTP[mode]}"
    if mode in {4, 5} and len(payload) >= 48:
        said += f", stratum {payload[1]}"
    return said + (", not synchronized" if payload[0] >> 6 == 3 else "")


_DHCP6 = (
    "", "solicit", "advertise", "request", "confirm", "renew", "rebind", "reply", "release", "decline", "reconfigure",
    "information request", "relay forward", "relay reply",
)  # fmt: skip


def dhcp6(payload: bytes) -> str | None:
    kind = payload[0]
    if not 1 <= kind <= 36:  # IANA, "DHCPv6 Message Types"
        return None
    if len(payload) < 4:
        return ""
    if kind in {12, 13}:
        return f"{_DHCP6[kind]}, hop {payload[1]}"
    said = f"{named(_DHCP6, kind)} xid=0x{payload[1:4].hex()}"
    at = 4
    while at + 4 <= len(payload):
        code, size = number(payload, at, 2), number(payload, at + 2, 2)
        inner = payload[at + 4 : at + 4 + size]
        if code == 3 and len(inner) >= 12 + 4 + 24 and number(inner, 12, 2) == 5:
            said += f", address {_ip6(inner[16:32])}"
        elif code == 13 and len(inner) >= 2 and number(inner, 0, 2):
            said += f", status {number(inner, 0, 2)}"
        at += 4 + size
    return said


def _ip6(address: bytes) -> str:
    from socket import AF_INET6, inet_ntop

    return inet_ntop(AF_INET6, address)


_SEVERITIES = ("emergency", "alert", "critical", "error", "warning", "notice", "info", "debug")


def syslog(payload: bytes) -> str | None:
    found = re.match(rb"<([0-9]{1,3})>", payload)
    if not found:
        return text(payload)
    priority = int(found[1])
    return f"{_SEVERITIES[priority & 7]}, facility {priority >> 3}: {first_line(payload[found.end() :])}"


_RADIUS = {
    1: "access request", 2: "access accept", 3: "access reject", 4: "accounting request", 5: "accounting response",
    11: "access challenge", 12: "status server", 13: "status client", 40: "disconnect request", 41: "disconnect ack",
    42: "disconnect nak", 43: "change of authorization", 44: "change ack", 45: "change nak",
}  # fmt: skip


def radius(payload: bytes) -> str | None:
    """A packet's kind, behind which is a size that one may have (RFC 2865, 3)."""
    if not 20 <= number(payload, 2, 2) <= 4096 or payload[0] not in _RADIUS:
        return None
    said = f"{_RADIUS[payload[0]]} id={payload[1]}"
    at = 20
    while at + 2 <= len(payload) and payload[at + 1] >= 2:
        if payload[at] == 1:
            said += f", user {payload[at + 2 : at + payload[at + 1]][:60].decode('utf-8', 'replace')!r}"
        at += payload[at + 1]
    return said


_NBNS = {0: "query", 5: "registration", 6: "release", 7: "wait", 8: "refresh", 9: "refresh", 15: "registration"}


def _is_of_netbios(payload: bytes) -> bool:
    """Whether the first name is one of NetBIOS: half of a byte in each letter (RFC 1001, 14.1)."""
    letters = payload[13:45]
    return payload[12] == 32 and len(letters) == 32 and all(65 <= each <= 80 for each in letters)


def nbns(payload: bytes) -> str | None:
    """NetBIOS names (RFC 1002, 4.2)."""
    flags, code = payload[2], payload[2] >> 3 & 15
    if code not in _NBNS or not 0 < sum(number(payload, at, 2) for at in (4, 6, 8, 10)) < 64:
        return None
    said = f"name {_NBNS[code]}{' response' if flags & 0x80 else ''}"
    if not _is_of_netbios(payload):
        return said
    letters = payload[13:45]
    name = bytes((letters[at] - 65) << 4 | (letters[at + 1] - 65) for at in range(0, 32, 2))
    return f"{said} {name[:15].rstrip(b' ' + bytes(1)).decode('latin-1')}<{name[15]:02x}>"


_STUN = {0: "request", 1: "indication", 2: "response", 3: "error"}


def stun(payload: bytes) -> str | None:
    """STUN with its cookie (RFC 8489, 5)."""
    if len(payload) < 20 or payload[4:8] != b"\x21\x12\xa4\x42" or payload[0] >> 6 or payload[3] & 3:
        return None
    kind = number(payload, 0, 2)
    way = (kind >> 7 & 2) | (kind >> 4 & 1)
    method = (kind & 0xF) | (kind >> 1 & 0x70) | (kind >> 2 & 0xF80)
    names = {1: "binding", 3: "allocate", 4: "refresh", 6: "send", 7: "data", 8: "create permission", 9: "channel bind"}
    return f"{names[method]} {_STUN[way]}" if method in names else None


def _stun_before(payload: bytes) -> Found:
    """STUN as it was before it had a mark (RFC 3489, 11.1), or what `_channel` tells."""
    kind = number(payload, 0, 2)
    if kind & 0xFEEF in {1, 2} and number(payload, 2, 2) == len(payload) - 20:
        what = "binding" if kind & 15 == 1 else "shared secret"
        return "CLASSIC-STUN", f"{what} {_STUN[kind >> 7 & 2 | kind >> 4 & 1]}"
    return _channel(payload)


_RAKNET = bytes.fromhex("00ffff00fefefefefdfdfdfd12345678")
_RAKNET_AT = {1: 9, 2: 9, 0x1C: 17, 5: 1, 6: 1, 7: 1, 8: 1}


def _raknet(payload: bytes) -> str | None:
    """What RakNet says before there is a connection: it has a mark."""
    at = _RAKNET_AT.get(payload[0])
    if at is None or payload[at : at + 16] != _RAKNET:
        return None
    return "ping" if payload[0] < 3 else "pong" if payload[0] == 0x1C else f"connection, message {payload[0]}"


def _nbds(payload: bytes) -> Found:
    """NetBIOS datagrams (RFC 1002, 4.4), and who announces what in them ([MS-BRWS], [MS-ADTS] 6.3)."""
    if payload[0] not in {0x10, 0x11, 0x12}:
        return "" if 0x13 <= payload[0] <= 0x16 else None
    begin = payload.find(b"\xffSMB", 14)
    slot = payload[begin + 4 : begin + 160].upper() if begin >= 0 else b""
    if b"\\MAILSLOT\\BROWSE\0" in slot:
        return "BROWSER", ""
    return ("SMB_NETLOGON", "") if b"\\MAILSLOT\\NET\\N" in slot else ""


_NAT = {0: "external address", 1: "map UDP", 2: "map TCP"}


def _nat_pmp(payload: bytes) -> Found:
    """NAT-PMP (RFC 6886, 3), or PCP, which came after it (RFC 6887, 7)."""
    way = "response" if payload[1] >> 7 else "request"
    if payload[0] == 2 and len(payload) >= 24:
        return "PCP", f"{named(('announce', 'map', 'peer'), payload[1] & 0x7F)} {way}"
    is_one = payload[0] == 0 and payload[1] & 0x7F in _NAT and len(payload) in {2, 8, 12, 16}
    return f"{_NAT[payload[1] & 0x7F]} {way}" if is_one else None


def _channel(payload: bytes) -> str | None:
    """Data of a channel of TURN's (RFC 8656, 12.4)."""
    return "channel data" if payload[0] >> 6 == 1 and 0 <= len(payload) - 4 - number(payload, 2, 2) <= 3 else None


_WIREGUARD = {1: ("handshake initiation", 148), 2: ("handshake response", 92), 3: ("cookie", 64)}


def _wireguard(payload: bytes) -> str | None:
    if payload[1:4] != b"\0\0\0":
        return None
    if payload[0] == 4 and len(payload) >= 32 and len(payload) % 16 == 0:
        return "data" if payload[13:16] == bytes(3) else None  # its count of packets is no number of 5 bytes yet
    said, size = _WIREGUARD.get(payload[0], ("", 0))
    return said if said and len(payload) == size else None


_ISAKMP = {
    2: "main mode", 4: "aggressive mode", 5: "informational", 32: "quick mode", 34: "IKE_SA_INIT", 35: "IKE_AUTH",
    36: "CREATE_CHILD_SA", 37: "INFORMATIONAL",
}  # fmt: skip


def _isakmp(payload: bytes) -> str | None:
    if len(payload) < 28 or payload[17] >> 4 not in {1, 2}:
        return None
    return f"{named(_ISAKMP, payload[18], 'exchange')}, version {payload[17] >> 4}"


def _nat_keyed(payload: bytes) -> str | None:
    return _isakmp(payload[4:]) if payload[:4] == bytes(4) else None


def _esp(payload: bytes) -> Found:
    """ESP in UDP, and what keeps a translation alive (RFC 3948, 2)."""
    if payload == b"\xff":
        return "UDPENCAP", "keepalive of an address translation"
    if len(payload) < 8:
        return None
    return f"SPI 0x{number(payload, 0, 4):08x} seq={number(payload, 4, 4)}" if any(payload[:4]) else None


_SLP = (
    "", "service request", "service reply", "registration", "deregistration", "acknowledgment", "attribute request",
    "attribute reply", "DA advertisement", "type request", "type reply", "SA advertisement",
)  # fmt: skip


def _slp(payload: bytes) -> Found:
    """A message of version 1 or 2 (RFC 2608, 8)."""
    return at_byte(1, _SLP, "function")(payload) if payload[0] in {1, 2} and 1 <= payload[1] <= 11 else None


_COLLECTD = {*range(10), 0x100, 0x101, 0x200, 0x210}


def _collectd(payload: bytes) -> str | None:
    """Parts, each with a type and a size (collectd's "Binary protocol")."""
    return "" if number(payload, 0, 2) in _COLLECTD and number(payload, 2, 2) >= 5 else None


_MGCP = re.compile(rb"(?i)([A-Z]{4}|[0-9]{3}) [0-9]{1,9}\b")


def _mgcp(payload: bytes) -> str | None:
    """The first line: a verb or a code, and the number of a transaction (RFC 3435, 3.2, 3.3)."""
    return first_line(payload) if _MGCP.match(payload) else None


_BFD = ("admin down", "down", "init", "up")


def _bfd(payload: bytes) -> str | None:
    """A session's state (RFC 5880, 4.1)."""
    return named(_BFD, payload[1] >> 6) if payload[0] >> 5 == 1 else None


def _mpls_echo(payload: bytes) -> str | None:
    """A ping of a label switched path (RFC 8029, 3)."""
    return {1: "echo request", 2: "echo reply"}.get(payload[4]) if number(payload, 0, 2) == 1 else None


_DHT = (b"d1:ad2:id20:", b"d1:rd2:id20:", b"d1:el")
_PTP = {
    0: "sync", 1: "delay request", 2: "peer delay request", 3: "peer delay response", 8: "follow up",
    9: "delay response", 10: "peer delay follow up", 11: "announce", 12: "signaling", 13: "management",
}  # fmt: skip


def ptp(payload: bytes) -> str | None:
    return f"{named(_PTP, payload[0] & 15)} seq={number(payload, 30, 2)}" if payload[1] & 15 == 2 else None


_HSRP = ("hello", "coup", "resign", "advertise")


def _hsrp(payload: bytes) -> Found:
    """Version 0 (RFC 2281, 5.1), or parts, the first of them of a group in 40 bytes."""
    if payload[:2] == b"\1\x28":
        return at_byte(3, _HSRP)(payload)
    return at_byte(1, _HSRP)(payload) if len(payload) >= 8 and not payload[0] and payload[1] < 4 else None


_RIP = ("", "request", "response")


def _ripng(payload: bytes) -> Found:
    """RIPng's version 1 (RFC 2080, 2.1)."""
    return at_byte(0, _RIP)(payload) if payload[0] in {1, 2} and payload[1] == 1 else None


def _netflow(payload: bytes) -> str | None:
    version = number(payload, 0, 2)
    return f"version {version}, {number(payload, 2, 2)} records" if version in {1, 5, 7, 8, 9, 10} else None


_GTP_USER = {1: "echo request", 2: "echo response", 26: "error indication", 254: "end marker", 255: "user data"}
_SIGNED = (
    ("STUN", stun),
    ("DTLS", tls.dtls),
    ("QUIC", tls.quic),
    ("RPC", rpc.datagram),
    ("BT-DHT", begins(*_DHT)),
    ("RTPS", begins(b"RTPS")),
    ("DNS", dns_surely),
    ("RakNet", _raknet),
    *mobile.SIGNED,
)
_ANYWHERE: tuple[Known, ...] = tuple((name, surely(words)) for name, words in _SIGNED)
_PORTS: dict[int, Known] = {
    53: ("DNS", dns), 5353: ("mDNS", dns), 5355: ("LLMNR", dns), 69: ("TFTP", tftp), 123: ("NTP", ntp),
    137: ("NBNS", nbns), 138: ("NBDS", _nbds), 161: ("SNMP", asn1.snmp), 162: ("SNMP", asn1.snmp),
    427: ("SRVLOC", _slp), 443: ("QUIC", tls.quic_short), 80: ("GQUIC", tls.gquic),
    500: ("ISAKMP", _isakmp), 4500: ("ISAKMP", _nat_keyed), 514: ("syslog", syslog),
    521: ("RIPng", _ripng), 546: ("DHCPv6", dhcp6), 547: ("DHCPv6", dhcp6), 1812: ("RADIUS", radius),
    1813: ("RADIUS", radius), 1645: ("RADIUS", radius), 1646: ("RADIUS", radius), 3799: ("RADIUS", radius),
    1900: ("SSDP", _ssdp), 1985: ("HSRP", _hsrp), 319: ("PTPv2", ptp), 320: ("PTPv2", ptp),
    3784: ("BFD Control", _bfd),
    3785: ("BFD Echo", None), 6784: ("BFD Control", _bfd), 2029: ("HSRP", _hsrp), 3503: ("MPLS ECHO", _mpls_echo),
    4712: ("SYNCHROPHASOR", begins(b"\xaa")), 4713: ("SYNCHROPHASOR", begins(b"\xaa")),
    4784: ("BFD Control", _bfd), 7784: ("BFD Control", _bfd), 3478: ("STUN", surely(_stun_before)),
    5351: ("NAT-PMP", _nat_pmp), 5060: ("SIP", _sip),
    51820: ("WireGuard", _wireguard), 6696: ("Babel", begins(b"*")), 2055: ("CFLOW", _netflow),
    9996: ("CFLOW", _netflow), 646: ("LDP", begins(b"\0\1")),
    1701: ("L2TP", lambda payload: "" if payload[1] & 15 in {2, 3} else None),
    88: ("KRB5", services.kerberos),
    2152: ("GTP", lambda payload: _GTP_USER.get(payload[1]) if payload[0] >> 5 == 1 else None),
    5246: ("CAPWAP-Control", begins(b"\0")),
    5247: ("CAPWAP-Data", begins(b"\0", b"\1")), 25826: ("collectd", _collectd), 7: ("ECHO", None),
    9600: ("OMRON", lambda payload: "" if payload[0] & 0x9E == 0x80 and not payload[1] else None),
    5683: ("CoAP", lambda payload: "" if payload[0] >> 6 == 1 and payload[0] & 15 <= 8 else None),
    1194: ("OpenVPN", lambda payload: "" if 1 <= payload[0] >> 3 <= 11 else None), 3544: ("Teredo", None),
    623: ("RMCP", begins(b"\6")), 389: ("CLDAP", begins(b"\x30")),
    17500: ("DB-LSP-DISC", begins(b"{")), 6081: ("Geneve", lambda payload: None if payload[0] >> 6 else ""),
    4789: ("VXLAN", lambda payload: "" if payload[0] & 8 else None),
    2427: ("MGCP", _mgcp), 2727: ("MGCP", _mgcp), **mobile.PORTS, **machines.UDP_PORTS,
}  # fmt: skip


_ALSO: dict[int, tuple[Known, ...]] = {
    443: (("GQUIC", tls.gquic),), 4500: (("ESP", _esp),),
    5246: (("DTLS", lambda payload: tls.dtls(payload[4:])),),
}  # fmt: skip
_FIRST: dict[int, Known] = {2049: rpc.at_port("NFS", rpc.datagram), 111: rpc.at_port("Portmap", rpc.datagram)}


def known(payload: bytes, source: int, destination: int) -> list[Known]:
    """What a datagram between these ports may be. A signature of many bits comes before the port's word."""
    found = [_FIRST[port] for port in (destination, source) if port in _FIRST]
    found += _ANYWHERE
    found += [_PORTS[port] for port in (destination, source) if port in _PORTS]
    found += [known for port in (destination, source) for known in _ALSO.get(port, ())]
    if payload.startswith((b"SIP/2.0 ", b"REGISTER ", b"INVITE ", b"OPTIONS ", b"ACK ", b"BYE ")):
        found.append(("SIP", _sip))
    found.append(("WireGuard", _wireguard))
    return found
