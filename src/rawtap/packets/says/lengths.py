"""How long the messages of a TCP stream are: for whoever follows one, to know which segment ends what began before.

Each function is given the bytes from where a part of a message begins. It returns how many bytes that part takes, and
of what kind is what comes behind it; None where more bytes are needed to tell. It raises ValueError for what is no such
part.
"""

# ruff: noqa: PLR2004 - the numbers are those of the formats

from __future__ import annotations

import re
from collections.abc import Callable

from rawtap.packets.says.tls import tls as records
from rawtap.packets.says.words import number, sevens

Step = tuple[int, str]
REST = "rest"  # what goes on until the connection ends
_HEAD = 8192  # bytes of a head that are waited for
_CHUNK, _FRAGMENT = "chunk", "fragment"


def tls(data: bytes) -> Step | None:
    """A record of TLS (RFC 8446, 5.1)."""
    if len(data) < 5:
        return None
    _must(20 <= data[0] <= 24 and data[1] == 3 and data[2] <= 4 and 0 < number(data, 3, 2) <= 0x4800)
    return 5 + number(data, 3, 2), "TLS"


_START = re.compile(rb"HTTP/1\.[01] ([0-9]{3})|[A-Z-]{3,16} [^\r\n]{1,4096} HTTP/1\.[01]\r\n")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,15})[ \t]*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:(?:[^\r\n]*,)?[ \t]*chunked[ \t]*\r\n", re.IGNORECASE)
_OF_LENGTH = re.compile(rb"[\r\n][ \t]*(?:content-length|transfer-encoding)[\0- ]*:", re.IGNORECASE)
_UPGRADE = re.compile(rb"\r\nupgrade:[ \t]*(websocket|h2c)[ \t]*\r\n", re.IGNORECASE)
_UPGRADED = {b"websocket": "WebSocket", b"h2c": "HTTP2"}


def http(data: bytes) -> Step | None:
    """The head of a request or response, and its body where the head says its length (RFC 9112, 6.3).

    What a head says of a length in another way than that of the RFC, or twice, is read so by one and otherwise by
    another: then nobody knows where the body ends.
    """
    end = data.find(b"\r\n\r\n", 0, _HEAD)
    if end < 0:
        _must(len(data) < _HEAD)
        return None
    head = data[: end + 4]
    found = _START.match(head)
    _must(found is not None)
    status = found[1] if found else None
    if status == b"101":
        upgrade = _UPGRADE.search(head)
        _must(upgrade is not None)  # to a protocol that is not known here
        return len(head), _UPGRADED[upgrade[1].lower()] if upgrade else ""
    if status is not None and (status[:1] == b"1" or status in {b"204", b"304"}):
        return len(head), "HTTP"
    chunked, length = _CHUNKED.search(head), _LENGTH.search(head)
    _must(len(_OF_LENGTH.findall(head)) == bool(chunked) + bool(length))
    if chunked:
        return len(head), _CHUNK
    if length:
        return len(head) + int(length[1]), "HTTP"
    return len(head), "HTTP" if status is None else REST


def bodiless(data: bytes) -> Step | None:
    """A response to HEAD, or to CONNECT where it succeeds: it ends with its head whatever that says."""
    step = http(data)
    return step and (data.find(b"\r\n\r\n") + 4, "HTTP")


_SIZE = re.compile(rb"([0-9a-fA-F]{1,8})[ \t]*(?:;[^\r\n]*)?\r\n")


def _chunk(data: bytes) -> Step | None:
    """A chunk of a body, or the last of them with what comes behind it (RFC 9112, 7.1)."""
    end = data.find(b"\r\n", 0, 300)
    if end < 0:
        _must(len(data) < 300)
        return None
    found = _SIZE.match(data)
    _must(found is not None)
    size = int(found[1], 16) if found else 0
    if size:
        return end + 2 + size + 2, _CHUNK
    if data[end + 2 : end + 4] == b"\r\n":
        return end + 4, "HTTP"
    trailer = data.find(b"\r\n\r\n", end, _HEAD)
    _must(trailer >= 0 or len(data) < _HEAD)
    return (trailer + 4, "HTTP") if trailer >= 0 else None


_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_FRAMES = (
    "data", "headers", "priority", "reset of a stream", "settings", "push promise", "ping", "go away", "window update",
    "continuation",
)  # fmt: skip


def http2(data: bytes) -> Step | None:
    """A frame, or what a client begins with (RFC 9113, 3.4, 4.1)."""
    if data.startswith(b"PRI"):
        _must(data.startswith(_PREFACE) or len(data) < len(_PREFACE))
        return (len(_PREFACE), "HTTP2") if len(data) >= len(_PREFACE) else None
    if len(data) < 9:
        return None
    _must(data[3] < len(_FRAMES) and not data[5] & 0x80)
    return 9 + number(data, 0, 3), "HTTP2"


def websocket(data: bytes) -> Step | None:
    """A frame (RFC 6455, 5.2)."""
    if len(data) < 2:
        return None
    _must(data[0] & 15 in {0, 1, 2, 8, 9, 10})
    size, at = data[1] & 0x7F, 2
    if size >= 126:
        wide = 2 if size == 126 else 8
        if len(data) < 2 + wide:
            return None
        size, at = number(data, 2, wide), 2 + wide
    return at + size + (4 if data[1] & 0x80 else 0), "WebSocket"


def _mqtt(data: bytes) -> Step | None:
    """A packet (MQTT 5.0, 2.1)."""
    found = sevens(data, 1)
    _must(found is not None or len(data) < 5)
    return (found[1] + found[0], "MQTT") if found else None


def _rpc(data: bytes) -> Step | None:
    """A record, or a fragment of one (RFC 5531, 11)."""
    if len(data) < 4:
        return None
    size = number(data, 0, 4)
    return 4 + (size & 0x7FFFFFFF), "RPC" if size >> 31 else _FRAGMENT


def _ber(data: bytes) -> Step | None:
    """A sequence in BER, as LDAP's messages are; or what is sealed behind a length (RFC 4511, 5; RFC 4422, 3.7)."""
    if len(data) < 6:
        return None
    if data[0] != 0x30:
        _must(data[0] == 0)
        return 4 + number(data, 0, 4), "LDAP"
    wide = data[1] & 0x7F
    if data[1] < 0x80:
        return 2 + wide, "LDAP"
    _must(1 <= wide <= 4)
    return 2 + wide + number(data, 2, wide), "LDAP"


def _counted(kind: str, at: int, size: int, more: int, order: str = "big") -> Callable[[bytes], Step | None]:
    """Messages with a number of `size` bytes at `at` that counts all of one but `more` bytes."""

    def told(data: bytes) -> Step | None:
        if len(data) < at + size:
            return None
        found = int.from_bytes(data[at : at + size], "little" if order == "little" else "big") + more
        _must(at + size <= found < 1 << 25)
        return found, kind

    return told


def _must(is_so: bool) -> None:
    if not is_so:
        raise ValueError


KINDS: dict[str, Callable[[bytes], Step | None]] = {
    "TLS": tls, "HTTP": http, _CHUNK: _chunk, "HTTP2": http2, "WebSocket": websocket, "LDAP": _ber,
    "MQTT": _mqtt,
    "RPC": _rpc, _FRAGMENT: _rpc,
    "SMB": _counted("SMB", 1, 3, 4), "DNS": _counted("DNS", 0, 2, 2), "BGP": _counted("BGP", 16, 2, 0),
    "DCERPC": _counted("DCERPC", 8, 2, 0, "little"), "OpcUa": _counted("OpcUa", 4, 4, 0, "little"),
    "TPKT": _counted("TPKT", 2, 2, 0), "KRB5": _counted("KRB5", 0, 4, 4), "DIAMETER": _counted("DIAMETER", 1, 3, 0),
    "ENIP": _counted("ENIP", 2, 2, 24, "little"),
}  # fmt: skip
# The kind of the messages of what has another name.
OF_NAME = {
    **{name: name for name in KINDS if name not in {_CHUNK, _FRAGMENT}},
    "SMB2": "SMB", "NBSS": "SMB", "mDNS": "DNS", "NFS": "RPC", "Portmap": "RPC", "MOUNT": "RPC", "COTP": "TPKT",
    "S7COMM": "TPKT", "RDP": "TPKT", "H.225.0": "TPKT", "T.125": "TPKT", "MMS": "TPKT", "CIP": "ENIP",
}  # fmt: skip
NEW = frozenset(OF_NAME)  # kinds with which a message begins
_OPCODES = {0: "continuation", 1: "text", 2: "binary", 8: "close", 9: "ping", 10: "pong"}


def words(kind: str, data: bytes) -> str:
    """What a message says that begins here, or several."""
    if kind == "TLS":
        return records(data) or ""
    if kind == "HTTP2" and not data.startswith(b"PRI"):
        return f"{_FRAMES[data[3]]}, stream {number(data, 5, 4)}"
    return _OPCODES[data[0] & 15] if kind == "WebSocket" else ""
