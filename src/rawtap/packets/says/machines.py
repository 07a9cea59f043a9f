"""What plants, buildings and cars say: BACnet, DNP3, ADS, DoIP, CAN."""

# ruff: noqa: PLR2004 - the numbers are those of the formats

from __future__ import annotations

from rawtap.packets.says.words import Known, begins, named, number

_APDUS = (
    "confirmed request", "unconfirmed request", "simple ack", "complex ack", "segment ack", "error", "reject", "abort",
)  # fmt: skip
_FORWARDED = 4


def bacnet(payload: bytes) -> tuple[str, str] | None:
    """BACnet behind its virtual link (ASHRAE 135, annex J)."""
    if payload[0] != 0x81 or number(payload, 2, 2) < 4:
        return None
    if payload[1] not in {_FORWARDED, 9, 10, 11}:
        return "BVLC", f"function {payload[1]}"
    return _bacnet_network(payload[10 if payload[1] == _FORWARDED else 4 :])


def _bacnet_network(payload: bytes) -> tuple[str, str] | None:
    """Its network layer, with addresses or without, and the kind of what that carries (6.2, 20.1)."""
    if payload[0] != 1:
        return None
    control, at = payload[1], 2
    if control & 0x20:
        at += 3 + payload[at + 2]
    if control & 8:
        at += 3 + payload[at + 2]
    at += 1 if control & 0x20 else 0
    if control & 0x80:
        return "BACnet-NPDU", f"network message {payload[at]}"
    return "BACnet-APDU", named(_APDUS, payload[at] >> 4)


def bacnet_logical(payload: bytes) -> tuple[str, str] | None:
    """BACnet on Ethernet, behind LLC (ASHRAE 135, 7)."""
    return _bacnet_network(payload[3:])


def dnp3(payload: bytes) -> str | None:
    """Its link layer's addresses (IEEE 1815, 9.2)."""
    if payload[:2] != b"\x05\x64" or payload[2] < 5:
        return None
    to, origin = (int.from_bytes(payload[at : at + 2], "little") for at in (4, 6))
    return f"{origin} > {to}, function {payload[3] & 15}"


_ADS = {
    1: "read device information", 2: "read", 3: "write", 4: "read state", 5: "write control", 6: "add notification",
    7: "delete notification", 8: "notification", 9: "read and write",
}  # fmt: skip


def _ams(payload: bytes) -> str | None:
    """Beckhoff's ADS in AMS, behind AMS's header for TCP."""
    if payload[:2] != b"\0\0" or int.from_bytes(payload[2:6], "little") < 32:
        return None
    command = int.from_bytes(payload[22:24], "little")
    return f"{named(_ADS, command, 'command')} {'response' if payload[24] & 1 else 'request'}"


_DOIP = {
    0: "negative acknowledgment", 1: "vehicle identification request", 2: "vehicle identification request",
    3: "vehicle identification request", 4: "vehicle identification", 5: "routing activation request",
    6: "routing activation response", 7: "alive check request", 8: "alive check response",
    0x4001: "entity status request", 0x4002: "entity status response", 0x4003: "power mode request",
    0x4004: "power mode response",
    0x8001: "diagnostic message", 0x8002: "diagnostic acknowledgment", 0x8003: "diagnostic refusal",
}  # fmt: skip


def doip(payload: bytes) -> str | None:
    """Diagnostics of cars: a version and its inverse before the type (ISO 13400-2, 9)."""
    return named(_DOIP, number(payload, 2, 2)) if payload[0] ^ payload[1] == 0xFF else None


_HART = ("initiate session", "close session", "keepalive", "commands")


def _hart(payload: bytes) -> str | None:
    """HART over IP: a version, what it is, and of what (HCF's specification 85)."""
    if payload[0] not in {1, 2} or payload[1] > 15 or payload[2] > 3:
        return None
    return f"{_HART[payload[2]]} {'response' if payload[1] & 15 else 'request'}"


def can(payload: bytes) -> str:
    """A frame of a car's bus, as Linux has it (linux/can.h)."""
    bits = number(payload, 0, 4)
    identifier = f"0x{bits & 0x1FFFFFFF:08x}" if bits & 0x80000000 else f"0x{bits & 0x7FF:03x}"
    kind = "error" if bits & 0x20000000 else "remote request" if bits & 0x40000000 else f"{payload[4]} bytes"
    return f"{identifier}, {kind} {payload[8 : 8 + payload[4]].hex()}".rstrip()


TCP_PORTS: dict[int, Known] = {20000: ("DNP 3.0", dnp3), 48898: ("AMS", _ams), 13400: ("DoIP", doip)}
UDP_PORTS: dict[int, Known] = {
    20000: ("DNP 3.0", dnp3), 13400: ("DoIP", doip), 47808: ("BACnet", bacnet),
    5094: ("HART_IP", _hart), 5095: ("HART_IP", _hart),
    6060: ("ESIO", begins(b"ESIO")),
}  # fmt: skip
