"""How a capture file ends that lacks some of its packets, in words: the same wherever it is read. Pure."""

from __future__ import annotations

_RECORD_CUT = "truncated "  # libpcap's word of a record in a pcap file
_UNPACKED = "its "  # so begins what is wrong with a compressed file's data
_BLOCK_CUT = "a block is cut off"  # and ours of a block in a pcapng file


def told(found: int, damage: str = "", saved: int | None = None, name: str = "the file") -> str:
    """What a file lacks in which `found` packets are whole, "" if nothing.

    `damage` says what is broken where the file ends in a broken record, and `saved` how many packets its capture wrote
    to it, if that is known.
    """
    lacks = saved is not None and found < saved
    if not damage and not lacks:
        return ""
    how = f"was cut behind packet {found}" if not damage else f"ends in a damaged record: {damage}"
    if damage.startswith(_RECORD_CUT):
        how = f"ends in the middle of packet {found + 1}"
    elif damage.startswith(_UNPACKED):
        how = f"is read up to packet {found}: {damage}"
    elif damage.endswith(_BLOCK_CUT):  # perhaps another block than a packet's
        how = f"ends in the middle of a block behind packet {found}"
    return f"{name} {how}" + (f": {saved} packets were saved, {found} are in the file" if lacks else "")
