"""TLS, its datagrams, and QUIC: what can be seen of them without a key."""

# ruff: noqa: PLR2004 - the numbers are those of the formats

from __future__ import annotations

from rawtap.packets.says.words import named, number

_VERSIONS = {0x0300: "SSL 3.0", 0x0301: "1.0", 0x0302: "1.1", 0x0303: "1.2", 0x0304: "1.3"}
_DATAGRAMS = {0xFEFF: "1.0", 0xFEFD: "1.2", 0xFEFC: "1.3"}
_RECORDS = {20: "change cipher spec", 21: "alert", 22: "handshake", 23: "application data", 24: "heartbeat"}
_HANDSHAKES = {
    0: "hello request", 1: "client hello", 2: "server hello", 3: "hello verify request", 4: "new session ticket",
    8: "encrypted extensions", 11: "certificate", 12: "server key exchange", 13: "certificate request",
    14: "server hello done", 15: "certificate verify", 16: "client key exchange", 20: "finished",
    22: "certificate status",
}  # fmt: skip
_ALERTS = {
    0: "close notify", 10: "unexpected message", 20: "bad record MAC", 22: "record overflow", 40: "handshake failure",
    42: "bad certificate", 43: "unsupported certificate", 44: "certificate revoked", 45: "certificate expired",
    46: "certificate unknown", 47: "illegal parameter", 48: "unknown CA", 49: "access denied", 50: "decode error",
    51: "decrypt error", 70: "protocol version", 71: "insufficient security", 80: "internal error",
    86: "inappropriate fallback", 90: "user canceled", 109: "missing extension", 110: "unsupported extension",
    112: "unrecognized name", 113: "bad certificate status", 115: "unknown PSK identity", 116: "certificate required",
    120: "no application protocol",
}  # fmt: skip
_SHOWN = 4  # records or messages
_EXTENSIONS = 64


def tls(payload: bytes) -> str | None:
    """The records of TLS (RFC 8446, 5.1) that begin in a segment."""
    if len(payload) < 5 or payload[0] not in _RECORDS or payload[1] != 3 or payload[2] > 4:
        return None
    if not 0 < number(payload, 3, 2) <= 0x4800:
        return None
    return ", ".join(_records(payload, 5, _VERSIONS))


def dtls(payload: bytes) -> str | None:
    """DTLS (RFC 9147)."""
    if len(payload) < 13 or payload[0] not in _RECORDS or number(payload, 1, 2) not in _DATAGRAMS:
        return None
    behind = payload[13 + number(payload, 11, 2) :][:1]  # of the next record, if there is one
    if behind and behind[0] not in _RECORDS and behind[0] >> 5 != 1:
        return None
    return ", ".join(_records(payload, 13, _DATAGRAMS))


def _records(payload: bytes, head: int, versions: dict[int, str]) -> list[str]:
    found: list[str] = []
    at, sealed = 0, False
    while at + head <= len(payload) and len(found) < _SHOWN and payload[at] in _RECORDS:
        kind, size = payload[at], number(payload, at + head - 2, 2)
        body = payload[at + head : at + head + size]
        # What is encrypted is so as a whole: behind a change of cipher, or under another number.
        said = _RECORDS[kind]
        if kind == 22 and not sealed:
            found += _handshakes(body, head == 13, versions)
        elif kind == 21:
            found.append(f"alert: {_alert(body)}" if len(body) == 2 and not sealed else "encrypted alert")
        elif not (found and found[-1] == said):
            found.append("encrypted handshake message" if kind == 22 else said)
        sealed = sealed or kind == 20
        at += head + size
    return found


def _alert(body: bytes) -> str:
    return named(_ALERTS, body[1], "alert") + (", fatal" if body[0] == 2 else "")


def _handshakes(body: bytes, is_datagram: bool, versions: dict[int, str]) -> list[str]:
    found: list[str] = []
    at, head = 0, 12 if is_datagram else 4
    while at + head <= len(body) and len(found) < _SHOWN:
        kind, size = body[at], number(body, at + 1, 3)
        if kind not in _HANDSHAKES or size > 1 << 17:
            return [*found, "encrypted handshake message"]
        message = body[at + head : at + head + size]
        said = _HANDSHAKES[kind]
        found.append(said + hello(message, kind, versions) if kind in {1, 2} else said)
        at += head + size
    return found


def hello(message: bytes, kind: int, versions: dict[int, str] = _VERSIONS) -> str:
    """The version, the name and the protocols that a hello asks for or grants (RFC 8446, 4.1.2)."""
    try:
        version, name, protocols = _hello(message, kind, versions is _DATAGRAMS)
    except IndexError:
        return ""
    told = [versions.get(version, f"0x{version:04x}")]
    told += [f"SNI {name}"] if name else []
    told += [f"ALPN {protocols}"] if protocols else []
    return " " + " ".join(told)


def _hello(message: bytes, kind: int, is_datagram: bool) -> tuple[int, str, str]:
    version, at, name, protocols = number(message, 0, 2), 34, "", ""
    at += 1 + number(message, at, 1)  # session
    if kind == 1:
        at += 1 + number(message, at, 1) if is_datagram else 0  # cookie
        at += 2 + number(message, at, 2)  # ciphers
        at += 1 + number(message, at, 1)  # compressions
    else:
        at += 3
    end = at + 2 + (number(message, at, 2) if at + 2 <= len(message) else 0)
    at += 2
    for _ in range(_EXTENSIONS):
        if at + 4 > min(end, len(message)):
            break
        code, size = number(message, at, 2), number(message, at + 2, 2)
        value = message[at + 4 : at + 4 + size]
        if code == 0 and len(value) > 5:
            name = value[5 : 5 + number(value, 3, 2)].decode("latin-1")
        elif code == 16:
            protocols = _protocols(value[2:])
        elif code == 43 and value:
            offered = [number(value, place, 2) for place in range(1 if kind == 1 else 0, len(value) - 1, 2)]
            real = [each for each in offered if each >> 8 in {3, 0xFE}]  # others are there to be passed over (RFC 8701)
            version = (min(real) if is_datagram else max(real)) if real else version
        at += 4 + size
    return version, name, protocols


def _protocols(value: bytes) -> str:
    found: list[str] = []
    at = 0
    while at < len(value) and len(found) < _SHOWN:
        found.append(value[at + 1 : at + 1 + value[at]].decode("latin-1"))
        at += 1 + value[at]
    return "/".join(found)


_QUIC = {
    0: ("version negotiation",) * 4,
    1: ("initial", "0-RTT", "handshake", "retry"),
    0x6B3343CF: ("retry", "initial", "0-RTT", "handshake"),
}


def quic(payload: bytes) -> str | None:
    """A QUIC packet with a long header (RFC 9000, 17.2; RFC 9369)."""
    if len(payload) < 7 or not payload[0] & 0x80:
        return None
    version = number(payload, 1, 4)
    if not (version == 0 or _is_version(version)) or payload[5] > 20 or (version and not payload[0] & 0x40):
        return None
    if version == 0 and not _negotiates(payload):
        return None
    kinds = _QUIC.get(version, _QUIC[1])
    known = {0: "", 1: " v1", 0x6B3343CF: " v2"}.get(version, f" version 0x{version:08x}")
    destination = payload[6 : 6 + payload[5]].hex()
    return f"{kinds[payload[0] >> 4 & 3]}{known}, to connection {destination or 'none'}"


def _negotiates(payload: bytes) -> bool:
    """Whether versions follow both connections' names (RFC 9000, 17.2.1)."""
    at = 6 + payload[5]
    rest = len(payload) - at - 1 - payload[at] if at < len(payload) else 0
    told = [number(payload, place, 4) for place in range(len(payload) - rest, len(payload) - 3, 4)]
    return rest >= 4 and rest % 4 == 0 and any(map(_is_version, told))


def _is_version(number_: int) -> bool:
    """One that is known, a draft's, or one that is there to be passed over (RFC 9000, 15)."""
    is_draft = number_ >> 8 in {0xFF0000, 0xFACEB0, 0x543035, 0x513035} or number_ & 0x0F0F0F0F == 0x0A0A0A0A
    return number_ in {1, 0x6B3343CF} or is_draft


def quic_short(payload: bytes) -> tuple[str, str] | None:
    """What may be a packet of a connection that stands, at the port of QUIC: of that no more than two bits tell."""
    return ("UDP", "perhaps QUIC, protected") if payload[0] >> 6 == 1 and len(payload) >= 21 else None


def gquic(payload: bytes) -> str | tuple[str, str] | None:
    """Google's QUIC of before, at the port of QUIC; its packets have a version only where they begin."""
    for at in (9, 1):
        if payload[0] & 1 and payload[at : at + 1] == b"Q" and payload[at + 1 : at + 4].isdigit():
            return f"version {payload[at : at + 4].decode()}"
    is_one = len(payload) > 21 and not payload[0] & 0xC0 and payload[0] & 8
    return ("UDP", "perhaps GQUIC") if is_one else None
