"""What frames say that carry no IP: spanning trees, neighbours' announcements, authentication."""

# ruff: noqa: PLR2004 - the numbers are those of the formats

from __future__ import annotations

from rawtap.packets.says.datagrams import ptp
from rawtap.packets.says.machines import bacnet_logical, can, goose, profinet, sampled
from rawtap.packets.says.words import Found, Known, at_byte, named, number


def _bridge(payload: bytes, at: int) -> str:
    return f"{number(payload, at, 2)}/{payload[at + 2 : at + 8].hex(':')}"


def _stp(payload: bytes) -> Found:
    """A bridge's message (IEEE 802.1D, 9.3), or what registers attributes by the same (12.10)."""
    body = payload[3:] if payload[0] == 0x42 else payload[8:]
    if body[:3] == b"\0\1\1":
        return "GARP", ""
    if body[:2] != b"\0\0":
        return None
    kind = body[3]
    if kind == 0x80:
        return "topology change notification"
    name = {0: "", 2: "rapid "}.get(body[2], "multiple " if body[2] == 3 else "")
    change = ", topology change" if body[4] & 1 else ""
    return f"{name}root {_bridge(body, 5)} cost {number(body, 13, 4)} bridge {_bridge(body, 17)}{change}"


def _lldp(payload: bytes) -> str:
    """The chassis, port and system of a neighbour (IEEE 802.1AB, 8)."""
    found: dict[int, str] = {}
    at = 0
    while at + 2 <= len(payload) and len(found) < 16:
        kind, size = payload[at] >> 1, number(payload, at, 2) & 0x1FF
        value = payload[at + 2 : at + 2 + size]
        if kind == 0:
            break
        if kind in {1, 2} and value:
            is_address = (kind == 1 and value[0] == 4) or (kind == 2 and value[0] == 3)
            found.setdefault(kind, value[1:].hex(":") if is_address else value[1:41].decode("utf-8", "replace"))
        elif kind == 5:
            found.setdefault(kind, value[:60].decode("utf-8", "replace"))
        at += 2 + size
    names = {5: "system", 1: "chassis", 2: "port"}
    return ", ".join(f"{name} {found[kind]}" for kind, name in names.items() if kind in found)


_EAPOL = ("EAP packet", "start", "logoff", "key", "encapsulated alert", "MKA")
_EAP = ("", "request", "response", "success", "failure")
_METHODS = {
    1: "identity", 2: "notification", 3: "nak", 4: "MD5", 13: "TLS", 21: "TTLS", 25: "PEAP", 26: "MSCHAPv2",
    43: "FAST", 52: "PWD",
}  # fmt: skip


def _eapol(payload: bytes) -> str | tuple[str, str]:
    kind = payload[1]
    if kind == 0 and len(payload) > 7:
        return "EAP", _eap(payload)
    return f"{named(_EAPOL, kind)}{_handshake(payload) if kind == 3 else ''}"


def _eap(payload: bytes) -> str:
    """EAP in EAPOL (RFC 3748, 4)."""
    said = f"{named(_EAP, payload[4], 'code')} id={payload[5]}"
    if payload[4] not in {1, 2} or len(payload) < 9:
        return said
    name = f" {payload[9 : 4 + number(payload, 2, 2)][:60].decode('utf-8', 'replace')!r}"
    return f"{said} {named(_METHODS, payload[8], 'method')}{name if payload[4:9:4] == bytes([2, 1]) else ''}"


def _handshake(payload: bytes) -> str:
    """Which of the four messages a key is in (IEEE 802.11, 12.7.6)."""
    if payload[4] not in {2, 254}:
        return ""
    bits = number(payload, 5, 2)
    if not bits & 8:
        return ", group"
    has_ack, has_mic, secure = bits & 0x80, bits & 0x100, bits & 0x200
    number_ = (3 if has_mic else 1) if has_ack else 4 if secure else 2
    return f", message {number_} of 4"


def _cdp(payload: bytes) -> str:
    """The device and port (Cisco's discovery protocol)."""
    found: dict[int, str] = {}
    at = 12
    while at + 4 <= len(payload) and (size := number(payload, at + 2, 2)) >= 4:
        kind = number(payload, at, 2)
        if kind in {1, 3, 6}:
            found.setdefault(kind, payload[at + 4 : at + size][:50].decode("utf-8", "replace"))
        at += size
    names = {1: "device", 3: "port", 6: "platform"}
    return ", ".join(f"{name} {found[kind]}" for kind, name in names.items() if kind in found)


_SLOW = {1: "LACP", 2: "marker", 3: "OAM", 10: "OSSP"}


def _slow(payload: bytes) -> tuple[str, str]:
    """A slow protocol's subtype (IEEE 802.3, annex 57A)."""
    return _SLOW.get(payload[0], f"slow protocol {payload[0]}"), f"version {payload[1]}" if payload[0] == 1 else ""


def _wake(payload: bytes) -> str | None:
    """Wake-on-LAN's magic packet: six bytes, and the address sixteen times."""
    return f"for {payload[6:12].hex(':')}" if payload[:6] == b"\xff" * 6 and len(payload) >= 12 else None


_ISIS = {
    15: "L1 LAN hello", 16: "L2 LAN hello", 17: "hello", 18: "L1 link state", 20: "L2 link state",
    24: "L1 complete sequence numbers", 25: "L2 complete sequence numbers", 26: "L1 partial sequence numbers",
    27: "L2 partial sequence numbers",
}  # fmt: skip


def isis(payload: bytes) -> str | None:
    return named(_ISIS, payload[7] & 31) if payload[3] == 0x83 else None


# RFC 2332, 5.2
_NHRP = (
    "", "resolution request", "resolution reply", "registration request", "registration reply", "purge request",
    "purge reply", "error",
)  # fmt: skip
KINDS: dict[int, Known] = {
    0x88CC: ("LLDP", _lldp), 0x888E: ("EAPOL", _eapol), 0x88F7: ("PTPv2", ptp), 0x88A2: ("AoE", None),
    0x6003: ("DEC DNA", None), 0x9000: ("loopback test", None), 0x8808: ("pause", None), 0x8947: ("GEONW", None),
    0x88CA: ("TIPC", None), 0x8809: ("LACP", _slow), 0x0842: ("WOL", _wake), 0x000D: ("CANFD", can),
    0x2001: ("NHRP", at_byte(17, _NHRP)), 0x000C: ("CAN", can),
    0x88B8: ("GOOSE", goose), 0x88BA: ("IEC61850 Sampled Values", sampled), 0x8892: ("PN-RT", profinet),
}  # fmt: skip
_SNAP: dict[bytes, Known] = {
    bytes.fromhex("00000c2000"): ("CDP", _cdp), bytes.fromhex("00000c010b"): ("STP", _stp),
    bytes.fromhex("00000c2004"): ("DTP", None), bytes.fromhex("00000c2003"): ("VTP", None),
    bytes.fromhex("00000c0111"): ("UDLD", None),
}  # fmt: skip


def logical(head: bytes) -> list[Known]:
    """What a frame with LLC in place of a type may be, by its first eight bytes (IEEE 802.2)."""
    if head[:3] == b"\x42\x42\x03":
        return [("STP", _stp)]
    if head[:3] == b"\x82\x82\x03":
        return [("BACnet", bacnet_logical)]
    if head[:3] == b"\xfe\xfe\x03":
        return [("ISIS", isis)]
    found = _SNAP.get(head[3:8]) if head[:3] == b"\xaa\xaa\x03" else None
    return [found] if found else []
