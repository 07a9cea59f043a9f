"""What carries calls and mobile users: RTCP, GTP, PFCP, LISP; and remote procedures in datagrams."""

# ruff: noqa: PLR2004 - the numbers are those of the formats

from __future__ import annotations

from rawtap.packets.says.words import Found, Known, Words, at_byte, named, number, unsure

_RTCP = {
    200: "sender report", 201: "receiver report", 202: "source description", 203: "goodbye", 204: "application",
    205: "transport feedback", 206: "payload feedback", 207: "extended report",
}  # fmt: skip
_SHOWN = 4


def rtcp(payload: bytes) -> str | None:
    """Packets of RTCP that end where the datagram does (RFC 3550, 6.1, A.2)."""
    said: list[str] = []
    at = 0
    while at + 4 <= len(payload):
        if payload[at] >> 6 != 2 or payload[at + 1] not in _RTCP or (not said and payload[at + 1] == 204):
            return None
        said.append(_RTCP[payload[at + 1]])
        at += 4 + 4 * number(payload, at + 2, 2)
    return ", ".join(said[:_SHOWN]) if said and at == len(payload) else None


_GTP1 = {
    1: "echo request", 2: "echo response", 16: "create PDP context request", 17: "create PDP context response",
    18: "update PDP context request", 19: "update PDP context response", 20: "delete PDP context request",
    21: "delete PDP context response", 26: "error indication",
}  # fmt: skip
_GTP2 = {
    1: "echo request", 2: "echo response", 32: "create session request", 33: "create session response",
    34: "modify bearer request", 35: "modify bearer response", 36: "delete session request",
    37: "delete session response",
}  # fmt: skip


def gtp_control(payload: bytes) -> tuple[str, str] | None:
    """GTP-C, versions 1 and 2 (3GPP TS 29.060, 6; TS 29.274, 5.1)."""
    version = payload[0] >> 5
    if version == 1 and payload[0] & 0x10:
        return "GTP", named(_GTP1, payload[1])
    return ("GTPv2", named(_GTP2, payload[1])) if version == 2 else None


_PFCP = {
    1: "heartbeat request", 2: "heartbeat response", 5: "association setup request", 6: "association setup response",
    50: "session establishment request", 51: "session establishment response", 52: "session modification request",
    53: "session modification response", 54: "session deletion request", 55: "session deletion response",
    56: "session report request", 57: "session report response",
}  # fmt: skip


def _pfcp(payload: bytes) -> str | None:
    """PFCP (3GPP TS 29.244, 7.2.2)."""
    return named(_PFCP, payload[1]) if payload[0] >> 5 == 1 else None


_LISP = {1: "map request", 2: "map reply", 3: "map register", 4: "map notify", 8: "encapsulated control"}


def _lisp(payload: bytes) -> str | None:
    """LISP's control messages (RFC 9301, 5.1)."""
    return _LISP.get(payload[0] >> 4)


_PACKETS = {
    0: "request", 1: "ping", 2: "response", 3: "fault", 4: "working", 5: "no call", 6: "reject", 7: "ack",
    9: "fragment ack",
}  # fmt: skip


def dcerpc(payload: bytes) -> str | None:
    """A procedure call in a datagram, whose head is of 80 bytes (The Open Group's C706, 12.5)."""
    if len(payload) < 80 or payload[0] != 4 or payload[4] not in {0, 0x10} or payload[5] > 3:
        return None
    size = int.from_bytes(payload[74:76], "little" if payload[4] else "big")
    return _PACKETS.get(payload[1]) if size == len(payload) - 80 else None


def _rx(payload: bytes) -> str | None:
    """AFS's procedure calls: a kind and how they are sealed, at the end of a head of 28 bytes (rx.h, "rx_header")."""
    return named(_RX, payload[20]) if len(payload) >= 28 and 1 <= payload[20] <= 13 and payload[23] <= 6 else None


def _rip(payload: bytes) -> Found:
    """RIP, versions 1 and 2 (RFC 2453, 4)."""
    return at_byte(0, ("", "request", "response"))(payload) if payload[1] in {1, 2} else None


def _sflow(payload: bytes) -> str | None:
    """sFlow (its version 5's specification; RFC 3176 for those before)."""
    return f"version {payload[3]}" if payload[:3] == bytes(3) and payload[3] in {2, 4, 5} else None


_IAX = ("", "DTMF", "voice", "video", "control", "null", "IAX", "text", "image", "HTML", "comfort noise")


def _iax(payload: bytes) -> Found:
    """A full frame (RFC 5456, 8.1.1); what is in a short one nothing tells."""
    if payload[0] & 0x80:
        return _IAX[payload[10]] if len(payload) >= 12 and 1 <= payload[10] < len(_IAX) else None
    return unsure("UDP", "IAX2")


_RX = ("", "data", "busy", "abort", "ack", "challenge", "response", "debug", "", "", "", "", "", "version")
PORTS: dict[int, Known] = {
    **dict.fromkeys(range(7000, 7010), ("RX", _rx)),
    2123: ("GTP", gtp_control), 8805: ("PFCP", _pfcp), 4342: ("LISP", _lisp), 6343: ("sFlow", _sflow),
    520: ("RIP", _rip), 4569: ("IAX2", _iax),
}  # fmt: skip
SIGNED: tuple[tuple[str, Words], ...] = (("RTCP", rtcp), ("DCERPC", dcerpc))
