"""What plants, buildings and cars say: BACnet, DNP3, ADS, IEC 61850 and 60870, PROFINET, CIP, DoIP, CAN."""

# ruff: noqa: PLR2004 - the numbers are those of the formats

from __future__ import annotations

from rawtap.packets.says.words import Found, Known, begins, named, number

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


def iec104(payload: bytes) -> Found:
    """A frame of IEC 60870-5-104 (5.1): one that is numbered has data, whose type is told."""
    if payload[0] != 0x68 or not 4 <= payload[1] <= 253:
        return None
    if payload[2] & 1:
        return {1: "acknowledgment", 3: "control"}[payload[2] & 3]
    return ("IEC 60870-5 ASDU", f"type {payload[6]}, cause {payload[8] & 63}") if payload[1] >= 10 else None


def goose(payload: bytes) -> str | None:
    """A state that is sent to all again and again, and its name (IEC 61850-8-1, annex C)."""
    size, tag = number(payload, 2, 2), payload[8]
    if size < 10 or tag not in {0x61, 0x60}:
        return None
    head = 9 + (1 + (payload[9] & 0x7F) if payload[9] & 0x80 else 1)
    is_named = tag == 0x61 and payload[head] == 0x80 and payload[head + 1] < 0x80
    name = payload[head + 2 : head + 2 + payload[head + 1]][:65].decode("latin-1") if is_named else ""
    return f"application 0x{number(payload, 0, 2):04x} {name}".rstrip()


def sampled(payload: bytes) -> str | None:
    """Measured values that are sent to all (IEC 61850-9-2, 8)."""
    return f"application 0x{number(payload, 0, 2):04x}" if payload[8] == 0x60 and number(payload, 2, 2) >= 10 else None


_DCP = {0xFEFC: "hello", 0xFEFD: "get or set", 0xFEFE: "identify request", 0xFEFF: "identify response"}


def profinet(payload: bytes) -> tuple[str, str] | None:
    """PROFINET by the number that says what a frame is (IEC 61158-6-10, FrameID)."""
    kind = number(payload, 0, 2)
    if kind in _DCP:
        return "PN-DCP", f"{_DCP[kind]} xid=0x{number(payload, 4, 4):08x}"
    if kind < 0x100 or 0xFF00 <= kind <= 0xFF43:
        return "PN-PTCP", f"frame 0x{kind:04x}"
    if kind in {0xFC01, 0xFE01}:
        return "PNIO-AL", "alarm, high" if kind == 0xFC01 else "alarm, low"
    return ("PNIO", f"cyclic, frame 0x{kind:04x}") if 0x100 <= kind < 0xFC00 else None


_ENIP = {
    1: "NOP", 4: "list services", 0x63: "list identity", 0x64: "list interfaces", 0x65: "register session",
    0x66: "unregister session", 0x6F: "send request data", 0x70: "send unit data",
}  # fmt: skip
_CIP_IN = {0xB1: 2, 0xB2: 0}  # items of data, and bytes before the message in them


def enip(payload: bytes) -> Found:
    """A command, or the service of CIP that it carries (ODVA's EtherNet/IP, 2-3, 2-6)."""
    command, size, items = (int.from_bytes(payload[place : place + 2], "little") for place in (0, 2, 30))
    at = 32
    if command not in _ENIP or len(payload) < 24:
        return None
    if command in {0x6F, 0x70} and size > 16:
        for _ in range(min(items, 4)):
            kind, length = (int.from_bytes(payload[place : place + 2], "little") for place in (at, at + 2))
            if kind in _CIP_IN and length > _CIP_IN[kind]:
                service = payload[at + 4 + _CIP_IN[kind]]
                return "CIP", f"service 0x{service & 0x7F:02x} {'response' if service & 0x80 else 'request'}"
            at += 4 + length
    return _ENIP[command]


def omron(payload: bytes) -> str | None:
    return "" if payload[:4] == b"FINS" and number(payload, 4, 4) >= 8 else None


_MMS = {
    0xA0: "confirmed request", 0xA1: "confirmed response", 0xA2: "confirmed error", 0xA3: "unconfirmed", 0xA4: "reject",
    0xA8: "initiate request", 0xA9: "initiate response", 0xAA: "initiate error", 0xAB: "conclude request",
    0x8B: "conclude request", 0xAC: "conclude response", 0x8C: "conclude response",
}  # fmt: skip
_SESSION = {13: "connect", 14: "accept", 12: "refuse", 9: "finish", 10: "disconnect", 25: "abort", 26: "abort accept"}


def mms(payload: bytes) -> tuple[str, str] | None:
    """MMS behind RFC 1006, a session and a presentation (ISO 9506-2; ISO 8327-1, 8.3; ISO 8823-1, 8.4)."""
    if payload[:2] != b"\3\0" or payload[5:7] != b"\xf0\x80":
        return None
    if payload[7] in _MMS and number(payload, 2, 2) == 9 + payload[8]:  # without what is between
        return "MMS", _MMS[payload[7]]
    if payload[7:11] != b"\1\0\1\0":
        begin = payload.find(b"\x06\x05\x28\xca\x22\x02\x03")  # MMS among what a connection may carry
        is_one = payload[7] in {13, 14} and begin > 0 and (found := _MMS.get(_user_data(payload)))
        if is_one and found:
            return "MMS", found
        return ("SES", _SESSION[payload[7]]) if payload[7] in _SESSION else None
    at = _inside(payload, 11, 0x61)
    at = _inside(payload, at, 0x30)
    if payload[at : at + 2] != b"\2\1":
        return None
    kind = payload[_inside(payload, at + 3, 0xA0)]
    return ("MMS", _MMS[kind]) if kind in _MMS and payload[at + 2] == 3 else ("PRES", "")


def _inside(payload: bytes, at: int, tag: int) -> int:
    """Where what has this tag in BER begins.

    Raises:
        ValueError: It is another.
    """
    if payload[at] != tag:
        raise ValueError
    return at + 2 + (payload[at + 1] & 0x7F if payload[at + 1] & 0x80 else 0)


def _user_data(payload: bytes) -> int:
    """The tag of what an association carries (ISO 8650-1: user information, an external value of context 3)."""
    at = payload.rfind(b"\xbe")
    at = _inside(payload, _inside(payload, at, 0xBE), 0x28)
    at = payload.index(b"\2\1\3\xa0", at) + 3
    return payload[_inside(payload, at, 0xA0)]


def can(payload: bytes) -> str:
    """A frame of a car's bus, as Linux has it (linux/can.h)."""
    bits = number(payload, 0, 4)
    identifier = f"0x{bits & 0x1FFFFFFF:08x}" if bits & 0x80000000 else f"0x{bits & 0x7FF:03x}"
    kind = "error" if bits & 0x20000000 else "remote request" if bits & 0x40000000 else f"{payload[4]} bytes"
    return f"{identifier}, {kind} {payload[8 : 8 + payload[4]].hex()}".rstrip()


TCP_PORTS: dict[int, Known] = {
    20000: ("DNP 3.0", dnp3), 48898: ("AMS", _ams), 13400: ("DoIP", doip), 2404: ("IEC 60870-5-104", iec104),
    44818: ("ENIP", enip), 5094: ("HART_IP", _hart), 9600: ("OMRON", omron),
}  # fmt: skip
UDP_PORTS: dict[int, Known] = {
    20000: ("DNP 3.0", dnp3), 13400: ("DoIP", doip), 47808: ("BACnet", bacnet),
    44818: ("ENIP", enip), 5094: ("HART_IP", _hart), 5095: ("HART_IP", _hart),
    6060: ("ESIO", begins(b"ESIO")),
}  # fmt: skip
