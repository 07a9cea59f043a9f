"""What IP packets say that carry neither TCP nor UDP."""

from __future__ import annotations

from socket import AF_INET, inet_ntop

from rawtap.packets.says.words import Known, named, number

_OSPF = ("", "hello", "database description", "link state request", "link state update", "link state ack")


def _ip(payload: bytes, at: int) -> str:
    number(payload, at, 4)
    return inet_ntop(AF_INET, payload[at : at + 4])


def _ospf(payload: bytes) -> str | None:
    if payload[0] not in {2, 3}:
        return None
    return f"v{payload[0]} {named(_OSPF, payload[1])}, router {_ip(payload, 4)}, area {_ip(payload, 8)}"


def _vrrp(payload: bytes) -> str | None:
    version = payload[0] >> 4
    if version not in {2, 3}:
        return None
    return f"v{version} advertisement, router {payload[1]}, priority {payload[2]}"


_CHUNKS = {
    0: "DATA", 1: "INIT", 2: "INIT ACK", 3: "SACK", 4: "HEARTBEAT", 5: "HEARTBEAT ACK", 6: "ABORT", 7: "SHUTDOWN",
    8: "SHUTDOWN ACK", 9: "ERROR", 10: "COOKIE ECHO", 11: "COOKIE ACK", 12: "ECNE", 13: "CWR",
    14: "SHUTDOWN COMPLETE", 15: "AUTH", 64: "I-DATA", 128: "ASCONF ACK", 130: "RE-CONFIG", 192: "FORWARD TSN",
    193: "ASCONF",
}  # fmt: skip
_SHOWN = 4
# IANA's payload protocol identifiers for SCTP.
_CARRIED = {
    1: "IUA", 2: "M2UA", 3: "M3UA", 4: "SUA", 5: "M2PA", 18: "S1AP", 19: "RUA", 24: "SBc-AP", 25: "NBAP", 27: "X2AP",
    46: "DIAMETER", 47: "DIAMETER", 60: "NGAP", 61: "XnAP", 62: "F1AP",
}  # fmt: skip


def _sctp(payload: bytes) -> tuple[str, str]:
    """The ports, the chunks, and what the data are (RFC 9260, 3)."""
    said: list[str] = []
    name, at = "SCTP", 12
    while at + 4 <= len(payload) and len(said) < _SHOWN:
        size = number(payload, at + 2, 2)
        said.append(named(_CHUNKS, payload[at], "chunk"))
        if payload[at] == 0 and name == "SCTP" and at + 16 <= len(payload):
            name = _CARRIED.get(number(payload, at + 12, 4), name)
        at += max(size + 3 & ~3, 4)
    return name, f"{number(payload, 0, 2)} > {number(payload, 2, 2)} {' '.join(said)}"


_PIM = {
    0: "hello", 1: "register", 2: "register stop", 3: "join/prune", 4: "bootstrap", 5: "assert", 6: "graft",
    7: "graft ack", 8: "candidate RP advertisement",
}  # fmt: skip


def _pim(payload: bytes) -> str:
    return f"v{payload[0] >> 4} {named(_PIM, payload[0] & 15)}"


_DCCP = (
    "request", "response", "data", "ack", "data ack", "close request", "close", "reset", "sync", "sync ack",
)  # fmt: skip


def _dccp(payload: bytes) -> str:
    return f"{number(payload, 0, 2)} > {number(payload, 2, 2)} {named(_DCCP, payload[8] >> 1 & 15)}"


_EIGRP = {1: "update", 3: "query", 4: "reply", 5: "hello", 10: "SIA query", 11: "SIA reply"}


def _esp(payload: bytes) -> str:
    return f"SPI 0x{number(payload, 0, 4):08x} seq={number(payload, 4, 4)}"


def _rsvp(payload: bytes) -> str:
    names = ("", "path", "resv", "path error", "resv error", "path tear", "resv tear", "resv confirm")
    return named(names, payload[1])


_PGM = {
    0: "SPM", 1: "poll", 2: "poll response", 4: "original data", 5: "repair data", 8: "NAK", 9: "null NAK",
    10: "NAK confirmation",
}  # fmt: skip


def _pgm(payload: bytes) -> str:
    """Pragmatic general multicast (RFC 3208, 8)."""
    return named(_PGM, payload[4])


_MOBILITY = (
    "binding refresh request", "home test init", "care-of test init", "home test", "care-of test", "binding update",
    "binding acknowledgment", "binding error", "fast binding update", "fast binding acknowledgment",
)  # fmt: skip


def _mobile(payload: bytes) -> str:
    """The kind of a mobility header (RFC 6275, 6.1)."""
    return named(_MOBILITY, payload[2])


KNOWN: dict[int, Known] = {
    33: ("DCCP", _dccp), 46: ("RSVP", _rsvp), 50: ("ESP", _esp),
    88: ("EIGRP", lambda payload: named(_EIGRP, payload[1], "operation")), 89: ("OSPF", _ospf), 103: ("PIM", _pim),
    112: ("VRRP", _vrrp), 113: ("PGM", _pgm), 132: ("SCTP", _sctp), 135: ("MIPv6", _mobile),
}  # fmt: skip
