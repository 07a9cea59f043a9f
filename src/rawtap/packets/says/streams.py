"""What a TCP segment's data say. Those that go on in the middle of a message say nothing, whatever their port."""

# ruff: noqa: PLR2004 - the numbers are those of the formats

from __future__ import annotations

import re

from rawtap.packets.says import datagrams, machines, rpc, services, tls
from rawtap.packets.says.words import Found, Known, Words, begins, first_line, is_typed, number, sevens, surely, text

_METHODS = (
    b"GET ", b"POST ", b"HEAD ", b"PUT ", b"DELETE ", b"OPTIONS ", b"CONNECT ", b"TRACE ", b"PATCH ", b"PROPFIND ",
    b"NOTIFY ", b"M-SEARCH ", b"SUBSCRIBE ", b"UNSUBSCRIBE ", b"REPORT ", b"MKCOL ", b"MOVE ", b"COPY ", b"LOCK ",
    b"UNLOCK ", b"PROPPATCH ",
)  # fmt: skip


def http(payload: bytes) -> str | None:
    """The first line, of a request with its host (RFC 9112, 3)."""
    if not payload.startswith((*_METHODS, b"HTTP/1.")):
        return None
    line = first_line(payload)
    if not payload.startswith(b"HTTP/") and " HTTP/1." not in payload[:2000].split(b"\n")[0].decode("latin-1"):
        return None if b"\r\n" in payload[:2000] else line
    host = re.search(rb"\r\nHost: *([^\r\n]{1,80})", payload[:4000], re.IGNORECASE)
    return line + (f", host {host[1].decode('latin-1')}" if host and not payload.startswith(b"HTTP/") else "")


_REPLY = re.compile(rb"[1-6][0-9]{2}[ -]")
_FTP = re.compile(
    rb"(?i)(USER|PASS|ACCT|CWD|CDUP|QUIT|REIN|PORT|PASV|TYPE|STRU|MODE|RETR|STOR|APPE|ALLO|REST|RNFR|RNTO|ABOR|DELE|RMD|MKD"
    rb"|PWD|LIST|NLST|SITE|SYST|STAT|HELP|NOOP|FEAT|OPTS|EPRT|EPSV|AUTH|PBSZ|PROT|SIZE|MDTM|MLSD|MLST|CLNT|LANG|XPWD|XCWD)\b"
)
_SMTP = re.compile(rb"(?i)(HELO|EHLO|MAIL FROM|RCPT TO|DATA|RSET|VRFY|EXPN|HELP|NOOP|QUIT|AUTH|STARTTLS|BDAT)\b")
_POP = re.compile(
    rb"(?i)(\+OK|-ERR|USER|PASS|APOP|STAT|LIST|RETR|DELE|NOOP|RSET|QUIT|TOP|UIDL|CAPA|AUTH|STLS)(?![^ \r\n])"
)
_IMAP = re.compile(rb"([*+]|[A-Za-z]*[0-9]+) ")
_SIP = re.compile(rb"(SIP/2\.0 [0-9]{3}|[A-Z]{3,12} (sips?|tel|im):[^ \r\n]* SIP/2\.0)")
_RTSP = re.compile(rb"(RTSP/1\.0 [0-9]{3}|[A-Z_]{4,16} [^ \r\n]+ RTSP/1\.0)")
_OPC = re.compile(rb"(HEL|ACK|ERR|OPN|CLO|MSG)[FCA].{2}\0\0")
_RFB = re.compile(rb"RFB [0-9]{3}\.[0-9]{3}\n")
_SSH = re.compile(rb"SSH-[12]\.|Protocol mismatch|Invalid SSH ident")


def matched(*patterns: re.Pattern[bytes]) -> Words:
    """The first line, of what begins like one of these."""
    return lambda payload: first_line(payload) if any(each.match(payload) for each in patterns) else None


def _ssh(payload: bytes) -> str | None:
    if _SSH.match(payload):
        return first_line(payload)
    if len(payload) > 15 and not payload[:_SEEN].translate(None, _ASCII):
        return None  # what is encrypted is no text
    size = number(payload, 0, 4)
    if 5 < size < 40000 and 20 <= payload[5] <= 49 and 4 <= payload[4] < size:
        return {20: "key exchange init", 21: "new keys"}.get(payload[5], f"key exchange message {payload[5]}")
    return f"encrypted, {len(payload)} bytes"


def dns(payload: bytes) -> str | None:
    """DNS with its length before it (RFC 1035, 4.2.2): with an operation that there is, and no crowd of questions."""
    if len(payload) < 14 or number(payload, 0, 2) < 12:
        return None
    is_one = payload[4] >> 3 & 15 <= 6 and not payload[5] & 0x40 and number(payload, 6, 2) <= 16
    return datagrams.dns(payload[2:]) if is_one else None


_SMB = {
    0: "negotiate", 1: "session setup", 2: "session logoff", 3: "tree connect", 4: "tree disconnect", 5: "create",
    6: "close", 7: "flush", 8: "read", 9: "write", 10: "lock", 11: "ioctl", 12: "cancel", 13: "echo",
    14: "query directory", 15: "change notify", 16: "query info", 17: "set info", 18: "break",
}  # fmt: skip


def _smb2(payload: bytes) -> str | None:
    if payload[4:8] == b"\xfdSMB":
        return "encrypted"
    if payload[4:8] != b"\xfeSMB":
        return None
    way = "response" if payload[20] & 1 else "request"
    return f"{_SMB.get(payload[16], 'command')} {way}"


_NBSS = {0: "message", 0x81: "session request", 0x82: "positive response", 0x83: "negative response", 0x85: "keepalive"}


def _nbss(payload: bytes) -> str | None:
    """A packet of a session: a kind, and a size of 17 bits, which some kinds have and others not (RFC 1002, 4.3)."""
    kind, size = payload[0], number(payload, 1, 3)
    return _NBSS.get(kind) if size >> 17 == 0 and (size > 0) == (kind in {0, 0x81, 0x83}) else None


_BGP = {1: "open", 2: "update", 3: "notification", 4: "keepalive", 5: "route refresh"}


def _bgp(payload: bytes) -> str | None:
    return _BGP.get(payload[18]) if payload.startswith(b"\xff" * 16) and number(payload, 16, 2) >= 19 else None


def _modbus(payload: bytes) -> str | None:
    if number(payload, 2, 2) or not 2 <= number(payload, 4, 2) <= 260:
        return None
    return f"transaction {number(payload, 0, 2)}, unit {payload[6]}, function {payload[7]}"


def _openflow(payload: bytes) -> str | None:
    return f"version {payload[0]}, type {payload[1]}" if 1 <= payload[0] <= 6 and number(payload, 2, 2) >= 8 else None


def _pgsql(payload: bytes) -> str | None:
    size = number(payload, 1, 4)
    if chr(payload[0]).isalnum() and 4 <= size < 1 << 20:
        return f"type {chr(payload[0])}"
    return "startup" if 8 <= number(payload, 0, 4) <= min(len(payload), 10000) else None


def _tpkt(payload: bytes) -> str | None:
    return "" if payload[:2] == b"\3\0" and number(payload, 2, 2) >= 7 else None


def _s7(payload: bytes) -> str | None:
    return "" if payload[:2] == b"\3\0" and payload[5:6] == b"\xf0" and payload[7:8] == b"2" else None


_COTP = {0xE0: "connection request", 0xD0: "connection confirm", 0x80: "disconnect request", 0xF0: "data"}


def _cotp(payload: bytes) -> str | None:
    return None if _tpkt(payload) is None else _COTP.get(payload[5] & 0xF0)


_MQTT = (
    ("", 0, 0), ("connect", 0, 10), ("connect ack", 0, 2), ("publish", 0, 2), ("publish ack", 0, 2),
    ("publish received", 0, 2), ("publish release", 2, 2), ("publish complete", 0, 2), ("subscribe", 2, 5),
    ("subscribe ack", 0, 3), ("unsubscribe", 2, 5), ("unsubscribe ack", 0, 2), ("ping request", 0, 0),
    ("ping response", 0, 0), ("disconnect", 0, 0), ("auth", 0, 0),
)  # fmt: skip
_MANY = 50  # packets that tell enough
_MQTT_LONG = {1, 3, 8, 10}  # kinds that may go on in the next segment


def _mqtt(payload: bytes) -> str | None:
    """Packets that follow each other to the end, each of a kind with its flags and a size (MQTT 5.0, 2.1)."""
    said, at = "", 0
    for _ in range(_MANY):
        found = sevens(payload, at + 1)
        if found is None:
            break
        (size, begin), kind = found, payload[at] >> 4
        words, flags, least = _MQTT[kind]
        is_one = _has_topic(payload, begin, size) if kind == 3 else payload[at] & 15 == flags
        is_here = begin + size <= len(payload) or kind in _MQTT_LONG
        if not words or not is_one or not is_here or size < least:
            return None
        said, at = said or words, begin + size
    return said or None


def _has_topic(payload: bytes, begin: int, size: int) -> bool:
    """Whether what is published begins with a topic that may be one (MQTT 5.0, 3.3.2.1)."""
    end = begin + 2 + int.from_bytes(payload[begin : begin + 2], "big")
    return end <= begin + size and all(each > 31 and each not in b"#+" for each in payload[begin + 2 : end])


_LDAP = {
    0: "bind request", 1: "bind response", 2: "unbind request", 3: "search request", 4: "search entry",
    5: "search done", 6: "modify request", 7: "modify response", 8: "add request", 9: "add response",
    10: "delete request", 11: "delete response", 14: "compare request", 15: "compare response",
    16: "abandon request", 19: "search reference", 23: "extended request", 24: "extended response",
}  # fmt: skip


def ldap(payload: bytes) -> str | None:
    """A message's number and operation (RFC 4511, 4.1.1), or one that is sealed behind its length (RFC 4121, 4.2.6)."""
    if payload[4:6] in {b"\5\4", b"\x60\x82"} and number(payload, 0, 4) < 1 << 24:
        return "sealed"
    if payload[0] != 0x30:
        return None
    at = 2 + (payload[1] & 0x7F if payload[1] & 0x80 else 0)
    if payload[at] != 2 or not 1 <= payload[at + 1] <= 4:
        return None
    tag = payload[at + 2 + payload[at + 1]]
    return _LDAP.get(tag & 31) if tag >> 6 == 1 else None


def _telnet(payload: bytes) -> str | None:
    """Commands, or what is typed and shown (RFC 854): other bytes are of something else at its port."""
    if not is_typed(payload):
        return None
    return "options" if payload[:1] == b"\xff" else "data"


_DCERPC = {
    0: "request", 2: "response", 3: "fault", 11: "bind", 12: "bind ack", 13: "bind nak", 14: "alter context",
    15: "alter context response", 16: "auth3", 17: "shutdown", 18: "cancel", 19: "orphaned",
}  # fmt: skip


def _dcerpc(payload: bytes) -> str | None:
    """A packet by what all of them have: versions, a kind, how numbers are written, sizes (C706, 12.6.3.1)."""
    if len(payload) < 16 or payload[0] != 5 or payload[1] > 1 or payload[4] not in {0, 0x10}:
        return None
    size, sealed = (int.from_bytes(payload[at : at + 2], "little" if payload[4] else "big") for at in (8, 10))
    is_one = payload[5] <= 3 and payload[6:8] == b"\0\0" and 16 + sealed <= size
    return _DCERPC.get(payload[2]) if is_one else None


# By what it begins with, whatever the port.
_SIGNED: tuple[tuple[str, Words], ...] = (
    ("TLS", tls.tls), ("HTTP", http), ("SMB2", _smb2), ("SSH", matched(_SSH)), ("SIP", matched(_SIP)),
    ("RTSP", matched(_RTSP)), ("BGP", _bgp),
    ("SMB", lambda payload: "" if payload[4:8] == b"\xffSMB" and payload[0] == 0 else None),
    ("VNC", matched(_RFB)), ("BitTorrent", begins(b"\x13BitTorrent protocol")), ("FIX", begins(b"8=FIX")),
    ("HTTP2", lambda payload: "preface" if payload.startswith(b"PRI * HTTP/2.0") else None),
    ("Bitcoin", lambda payload: payload[4:16].rstrip(b"\0").decode() if payload[:4] == b"\xf9\xbe\xb4\xd9" else None),
    ("RPC", rpc.stream), ("DCERPC", _dcerpc), ("OpcUa", matched(_OPC)), ("STUN", datagrams.stun),
)  # fmt: skip
_ANYWHERE: tuple[Known, ...] = tuple((name, surely(words)) for name, words in _SIGNED)


def _or_data(words: Words) -> Words:
    """What else is text on a connection of a protocol belongs to it: a mail, a long reply. Other bytes may be TLS's."""

    def told(payload: bytes) -> Found:
        is_text = payload[:_SEEN].translate(None, _TEXT) == b""
        return words(payload) or (f"data, {len(payload)} bytes" if is_text else None)

    return told


_SEEN = 200
_ASCII = bytes(range(32, 127)) + b"\t\r\n"
_TEXT = _ASCII + bytes(range(128, 256))  # of any encoding


_SMTP_WORDS, _FTP_WORDS = _or_data(matched(_REPLY, _SMTP)), _or_data(matched(_REPLY, _FTP))
_FIRST: dict[int, Known] = {2049: rpc.at_port("NFS", rpc.stream), 111: rpc.at_port("Portmap", rpc.stream)}
_PORTS: dict[int, Known] = {
    21: ("FTP", _FTP_WORDS), 22: ("SSH", _ssh), 23: ("TELNET", _telnet),
    25: ("SMTP", _SMTP_WORDS), 465: ("SMTP", _SMTP_WORDS), 587: ("SMTP", _SMTP_WORDS),
    110: ("POP", _or_data(matched(_POP))),
    143: ("IMAP", _or_data(matched(_IMAP))), 53: ("DNS", dns), 5353: ("mDNS", dns), 179: ("BGP", _bgp),
    502: ("Modbus/TCP", surely(_modbus)),
    6633: ("OpenFlow", _openflow), 6653: ("OpenFlow", _openflow),
    5432: ("PGSQL", _pgsql), 1883: ("MQTT", _mqtt), 389: ("LDAP", ldap), 3268: ("LDAP", ldap),
    139: ("NBSS", _nbss), 5672: ("AMQP", surely(services.amqp)),
    4712: ("SYNCHROPHASOR", begins(b"\xaa")), 43: ("WHOIS", text), 79: ("FINGER", text), 113: ("IDENT", text),
    5060: ("SIP", matched(_SIP)), 646: ("LDP", begins(b"\0\1")), 1720: ("H.225.0", _tpkt),
    4880: ("HiSLIP", begins(b"HS")), 7: ("ECHO", None),
    1723: ("PPTP", lambda payload: "" if payload[4:8] == b"\x1a\x2b\x3c\x4d" else None),
    49: ("TACACS+", lambda payload: "" if payload[0] >> 4 == 12 else None),
    **services.PORTS, **machines.TCP_PORTS, **dict.fromkeys(range(5900, 5904), ("VNC", matched(_RFB))),
}  # fmt: skip
_S7: tuple[Known, ...] = (("S7COMM", _s7), ("MMS", surely(machines.mms)), ("COTP", _cotp), ("TPKT", _tpkt))


def known(payload: bytes, source: int, destination: int) -> list[Known]:
    """What the data of a segment between these ports may be."""
    found = [_FIRST[port] for port in (destination, source) if port in _FIRST]
    found += _ANYWHERE if payload[0] in _OPENINGS else ()
    for port in (destination, source):
        if port in _PORTS and (port != 20 or max(source, destination) > 1023):  # FTP's data: to no port of a server
            found.append(_PORTS[port])
        elif port == 102:
            found += _S7
    return found


# The first bytes of what has a place in the table above; nearly all of what goes on in the middle has another.
_OPENINGS = frozenset(b"\x01\x05\x14\x15\x16\x17\x18\x00\xff\x138\xf9\x80" + bytes(range(ord("A"), ord("Z") + 1)))
