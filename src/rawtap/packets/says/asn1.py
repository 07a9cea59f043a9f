"""SNMP, as far as a line needs it (RFC 3416)."""

# ruff: noqa: PLR2004 - the numbers are those of the formats

from __future__ import annotations

_PDUS = {
    0xA0: "get request", 0xA1: "get next request", 0xA2: "response", 0xA3: "set request", 0xA4: "trap",
    0xA5: "get bulk request", 0xA6: "inform", 0xA7: "trap v2", 0xA8: "report",
}  # fmt: skip
_VERSIONS = {0: "v1", 1: "v2c", 3: "v3"}
_NAME = 40  # numbers of an object's


def _value(data: bytes, at: int) -> tuple[int, int, int]:
    """The tag at a place, and where its value begins and ends (X.690, 8.1)."""
    size, begin = data[at + 1], at + 2
    if size & 0x80:
        count = size & 0x7F
        if count > 4:
            raise ValueError
        size, begin = int.from_bytes(data[begin : begin + count], "big"), begin + count
    return data[at], begin, begin + size


def snmp(payload: bytes) -> str | None:
    if payload[0] != 0x30:
        return None
    _, at, _ = _value(payload, 0)
    tag, begin, at = _value(payload, at)
    version = payload[begin]
    if tag != 2 or version not in _VERSIONS:
        return f"version {version}" if tag == 2 else None
    if version == 3:
        return "v3"
    _, begin, at = _value(payload, at)
    community = payload[begin:at]
    tag, at, _ = _value(payload, at)
    said = f"{_VERSIONS[version]} {_PDUS.get(tag, f'PDU 0x{tag:02x}')} {community[:40].decode('latin-1')!r}"
    return said + (f" {name}" if tag != 0xA4 and (name := _first_name(payload, at)) else "")


def _first_name(data: bytes, at: int) -> str:
    """The first object that a PDU names, "" if it names none or its bytes end before."""
    try:
        for _ in range(3):
            at = _value(data, at)[2]
        at = _value(data, _value(data, at)[1])[1]
        tag, begin, end = _value(data, at)
    except (IndexError, ValueError):
        return ""
    if tag != 6 or begin >= end or begin >= len(data):
        return ""
    numbers, value = [data[begin] // 40, data[begin] % 40], 0
    for each in data[begin + 1 : end]:
        value = value << 7 | each & 0x7F
        if not each & 0x80:
            numbers.append(value & 0xFFFFFFFF)
            value = 0
        value &= 0xFFFFFFFF
    return ".".join(map(str, numbers[:_NAME]))
