"""What databases, queues, directories and terminals say over TCP."""

# ruff: noqa: PLR2004 - the numbers are those of the formats

from __future__ import annotations

import re

from rawtap.packets.says.words import Found, Known, begins, first_line, is_typed, named, number, text, unsure

_REDIS = re.compile(rb"[+\-:$*_#,(=%~>][^\r\n]{0,512}\r\n")


def _resp(payload: bytes) -> str | None:
    """Redis' protocol: a kind in one character, and a line (its specification, RESP 2 and 3)."""
    if not _REDIS.match(payload):
        return None
    words = re.findall(rb"\r\n(?!\$)([^\r\n]{1,40})", payload[:300]) if payload[:1] == b"*" else []
    return b" ".join(words[:3]).decode("utf-8", "replace") or first_line(payload)


_MYSQL = {
    1: "quit", 2: "use database", 3: "query", 4: "field list", 5: "create database", 6: "drop database",
    9: "statistics", 12: "kill", 14: "ping", 17: "change user", 22: "prepare", 23: "execute", 25: "close", 26: "reset",
}  # fmt: skip


def _mysql(payload: bytes) -> str | None:
    """A packet behind its length and number (MySQL's protocol, "MySQL Packets")."""
    size = int.from_bytes(payload[:3], "little")
    if not size or size + 4 > len(payload) + (len(payload) >= 500) * size:
        return None
    kind, sequence = payload[4], payload[3]
    if sequence == 0 and kind == 10 and size > 40:
        return f"greeting, server {payload[5:].split(bytes(1))[0][:40].decode('latin-1')}"
    if sequence == 0 and kind in _MYSQL:
        said = payload[5 : 4 + size].lstrip(b"\0\1")[:80].decode("utf-8", "replace") if kind in {2, 3, 22} else ""
        return f"{_MYSQL[kind]} {said}".rstrip()
    return {0: "ok", 0xFF: "error", 0xFE: "end"}.get(kind, "data") if sequence else "data"


def _drda(payload: bytes) -> str | None:
    """Distributed databases' structures, with their mark (The Open Group's DRDA, volume 3)."""
    if payload[2] != 0xD0 or number(payload, 0, 2) < 10 or payload[3] & 15 not in {1, 2, 3, 4, 5}:
        return None
    names = {
        0x1041: "exchange attributes", 0x106D: "access security", 0x106E: "security check", 0x2001: "access database",
        0x200C: "open query", 0x2014: "set statement", 0x200D: "prepare", 0x200B: "execute", 0x1443: "attributes reply",
        0x14AC: "access security reply", 0x1219: "security check reply", 0x2201: "access database reply",
    }  # fmt: skip
    return named(names, number(payload, 8, 2), "code point")


_KERBEROS = {
    10: "AS request", 11: "AS reply", 12: "TGS request", 13: "TGS reply", 14: "AP request", 15: "AP reply", 20: "safe",
    21: "private", 22: "credentials", 30: "error",
}  # fmt: skip


def kerberos(payload: bytes) -> tuple[str, str] | None:
    """A message's tag (RFC 4120, 5.4 to 5.9), or the version before it, which has a byte for that."""
    if payload[0] == 4 and payload[1] >> 1 in {1, 2, 3, 4, 5, 6, 7, 8, 9, 16}:
        return "KRB4", ""
    kind = payload[0] & 31
    return ("KRB5", _KERBEROS[kind]) if payload[0] >> 5 == 3 and kind in _KERBEROS else None


def _kerberos_stream(payload: bytes) -> tuple[str, str] | None:
    """The same behind its length (RFC 4120, 7.2.2)."""
    return kerberos(payload[4:]) if 0 < number(payload, 0, 4) < 1 << 20 else None


_DIAMETER = {
    257: "capabilities exchange", 258: "re-auth", 265: "AA", 271: "accounting", 272: "credit control",
    274: "abort session", 275: "session termination", 280: "device watchdog", 282: "disconnect peer",
}  # fmt: skip


def diameter(payload: bytes) -> str | None:
    """A message's command (RFC 6733, 3)."""
    size = number(payload, 1, 3)
    if payload[0] != 1 or size % 4 or size < 20 or payload[4] & 15:
        return None
    return f"{named(_DIAMETER, number(payload, 5, 3), 'command')} {'request' if payload[4] & 0x80 else 'answer'}"


_SOCKS = ("", "connect", "bind", "associate")


def _socks(payload: bytes) -> str | None:
    """The first messages of SOCKS 4 and 5 (RFC 1928, 3 to 6)."""
    if payload[0] == 4 and payload[1] in {1, 2} and len(payload) >= 9:
        return f"4 {_SOCKS[payload[1]]}"
    if payload[0] != 5 or len(payload) < 2:
        return None
    if len(payload) == 2 + payload[1] or len(payload) == 2:
        return "5 methods" if len(payload) != 2 else "5 method"
    return f"5 {_SOCKS[payload[1]]}" if payload[1] < 4 and payload[2] == 0 and payload[3] in {1, 3, 4} else None


_T125 = {
    1: "erect domain request", 8: "disconnect", 10: "attach user request", 11: "attach user confirm",
    14: "channel join request", 15: "channel join confirm",
}  # fmt: skip


def _rdp(payload: bytes) -> Found:
    """The connection that it begins with, and data in T.125 (ITU-T X.224 behind RFC 1006; [MS-RDPBCGR] 2.2.1)."""
    if payload[:2] != b"\3\0":
        return None
    if payload[5:7] == b"\xf0\x80":
        kind = payload[7] >> 2
        if payload[7:9] in {b"\x7f\x65", b"\x7f\x66"}:
            return "connection of channels, " + ("request" if payload[8] == 0x65 else "response")
        return "data" if kind in {25, 26} else ("T.125", _T125[kind]) if kind in _T125 else None
    if payload[5] & 0xF0 not in {0xE0, 0xD0}:
        return None
    return "connection request" if payload[5] >> 4 == 14 else "connection confirm"


def _openvpn(payload: bytes) -> str | None:
    """An opcode behind the length of a packet in TCP (OpenVPN's protocol, "Packet layout")."""
    return "" if number(payload, 0, 2) >= 1 and 1 <= payload[2] >> 3 <= 10 else None


def _openwire(payload: bytes) -> str | None:
    """ActiveMQ's protocol: a length and a type, and its name where it begins."""
    if payload[5:13] == b"ActiveMQ":
        return "wire format"
    names = {3: "connection", 4: "session", 5: "consumer", 10: "keepalive", 21: "message dispatch", 30: "response"}
    return named(names, payload[4]) if 1 <= number(payload, 0, 4) <= 1 << 24 and len(payload) > 8 else None


def _ncp(payload: bytes) -> str | None:
    """Novell's core protocol behind its mark for TCP."""
    return {b"DmdT": "request", b"tNcP": "reply"}.get(payload[:4])


def _tds(payload: bytes) -> str | None:
    """A packet of Microsoft SQL Server's ([MS-TDS] 2.2.3.1)."""
    names = {1: "batch", 3: "call", 4: "response", 6: "attention", 7: "bulk load", 14: "transaction", 16: "login",
        17: "authentication", 18: "pre-login"}  # fmt: skip
    return names.get(payload[0]) if number(payload, 2, 2) >= 8 and payload[1] < 32 else None


_TNS = {1: "connect", 2: "accept", 4: "refuse", 5: "redirect", 6: "data", 11: "resend", 12: "marker"}


def _tns(payload: bytes) -> str | None:
    """A packet of Oracle's, behind its length."""
    return _TNS.get(payload[4]) if number(payload, 0, 2) >= 8 or payload[:2] == b"\0\0" else None


_KAFKA = ("produce", "fetch", "list offsets", "metadata")


def _kafka(payload: bytes) -> str | None:
    """A message behind its length (Kafka's protocol guide, "Common Request and Response Structure")."""
    size, key = number(payload, 0, 4), number(payload, 4, 2)
    if not 8 <= size < 1 << 24:
        return None
    is_request = key < 100 and number(payload, 6, 2) < 20
    return f"{named(_KAFKA, key, 'request')} or a response" if is_request else "response"


def _skinny(payload: bytes) -> str | None:
    """Cisco's control of telephones: a length and a version before the message's number."""
    size = int.from_bytes(payload[:4], "little")
    version = int.from_bytes(payload[4:8], "little")
    is_one = 4 <= size <= 4096 and (version == 0 or 10 <= version <= 30)
    return f"message 0x{int.from_bytes(payload[8:12], 'little'):x}" if is_one and len(payload) >= 12 else None


def _rtmp(payload: bytes) -> str | None:
    """The first message of each end (Adobe's RTMP, 5.2)."""
    return "handshake" if payload[0] == 3 and payload[5:9] == bytes(4) else None


def _x11(payload: bytes) -> str | None:
    """Messages without a mark, but all of them in parts of four bytes (X Window System Protocol, 1)."""
    begin = {b"l\0\x0b\0": "connection", b"B\0\0\x0b": "connection"}
    return None if len(payload) % 4 else begin.get(payload[:4], f"{len(payload)} bytes")


def _git(payload: bytes) -> str | None:
    """Lines with their lengths in four digits (Git's pack protocol)."""
    return first_line(payload[4:]) if re.match(rb"[0-9a-f]{4}", payload) else None


def _irc(payload: bytes) -> str | None:
    """A line of text (RFC 2812, 2.3)."""
    return text(payload.lstrip(b" \r\n"))


_AMQP = {1: "method", 2: "header", 3: "body", 8: "heartbeat"}
_AMQP_CLASSES = {
    10: "connection", 20: "channel", 40: "exchange", 50: "queue", 60: "basic", 85: "confirm", 90: "transaction",
}  # fmt: skip
_AMQP_LONGEST, _AMQP_END = 1 << 24, 0xCE


def amqp(payload: bytes) -> str | None:
    """The first bytes, or a frame: of 0-9-1 by its end (AMQP 0-9-1, 4.2.3), of 1.0 by its head (AMQP 1.0, 2.3.1)."""
    if payload[:4] == b"AMQP":
        return f"version {'.'.join(map(str, payload[5:8]))}"
    size = number(payload, 3, 4)
    if payload[0] in _AMQP and size < _AMQP_LONGEST and payload[7 + size : 8 + size] in {b"", bytes([_AMQP_END])}:
        if payload[0] != 1 or size < 4:
            return _AMQP[payload[0]]
        return f"{named(_AMQP_CLASSES, number(payload, 7, 2), 'class')} method {number(payload, 9, 2)}"
    is_one = 8 <= number(payload, 0, 4) < _AMQP_LONGEST and payload[4] in {2, 3, 4} and payload[5] in {0, 1}
    return ("SASL frame" if payload[5] else "frame") if is_one else None


_RLOGIN = re.compile(rb"\0[^\0]{0,64}\0([^\0]{1,64})\0[^\0]{1,64}\0")


def _rlogin(payload: bytes) -> str | None:
    """Who logs in, its answer, the terminal's size, or what is typed and shown (RFC 1282)."""
    if found := _RLOGIN.match(payload):
        return f"login of {found[1].decode('utf-8', 'replace')}"
    if payload[:4] == b"\xff\xffss" and len(payload) == 12:
        return "window size"
    return "" if is_typed(payload) else None


def _rsh(payload: bytes) -> Found:
    """The port for errors, with which a client begins (rshd(8)); what follows is the command's own."""
    return "request" if re.match(rb"[0-9]{0,5}\0", payload) else unsure("TCP", "RSH")


PORTS: dict[int, Known] = {
    20: ("FTP-DATA", None), 88: ("KRB5", _kerberos_stream), 513: ("Rlogin", _rlogin), 524: ("NCP", _ncp),
    119: ("NNTP", text), 1863: ("MSNMS", text), 514: ("RSH", _rsh), 1433: ("TDS", _tds), 1521: ("TNS", _tns),
    1935: ("RTMP", _rtmp),
    2000: ("SKINNY", _skinny), 5222: ("XMPP", begins(b"<")), 5269: ("XMPP", begins(b"<")),
    8009: ("AJP13", begins(b"\x124", b"AB")),
    9092: ("Kafka", _kafka), 9418: ("Git", _git),
    873: ("RSYNC", text), 1080: ("Socks", _socks), 1099: ("RMI", begins(b"JRMI")),
    1194: ("OpenVPN", _openvpn),
    3306: ("MySQL", _mysql), 3389: ("RDP", _rdp), 3868: ("DIAMETER", diameter), 6379: ("RESP", _resp),
    9300: ("Elasticsearch", begins(b"ES")), 61616: ("OpenWire", _openwire), 50000: ("DRDA", _drda),
    446: ("DRDA", _drda),
    194: ("IRC", _irc), 6667: ("IRC", _irc), 6660: ("IRC", _irc), **dict.fromkeys(range(6000, 6004), ("X11", _x11)),
}  # fmt: skip
