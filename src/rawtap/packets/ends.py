"""How a capture file ends that lacks some of its packets, in words: the same wherever it is read. Pure."""

from __future__ import annotations

_CUT = "truncated "  # how libpcap's texts begin that tell of a record's missing rest


def told(found: int, damage: str = "", saved: int | None = None, name: str = "the file") -> str:
    """What a file lacks in which `found` packets are whole, "" if nothing.

    `damage` is libpcap's text where the file ends in a broken record, and `saved` how many packets its capture wrote
    to it, if that is known.
    """
    lacks = saved is not None and found < saved
    if not damage and not lacks:
        return ""
    how = f"was cut behind packet {found}" if not damage else f"ends in a damaged record: {damage}"
    if damage.startswith(_CUT):
        # Of a pcapng file it may be another block than a packet's.
        where = f"a block behind packet {found}" if "pcapng" in damage else f"packet {found + 1}"
        how = f"ends in the middle of {where}"
    return f"{name} {how}" + (f": {saved} packets were saved, {found} are in the file" if lacks else "")
