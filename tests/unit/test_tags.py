"""What a filter means for a frame whose VLAN tag the kernel took off."""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rawtap.packets import reader
from rawtap.packets.tags import AsLive, FrameFilter, as_live, has_vlan

HEAD = bytes.fromhex("ffffffffffff020000000001")
ARP, UDP = b"\x08\x06" + bytes(28), bytes.fromhex("08004500001d00000000401100000a00020f0a0002029c4000350009000021")


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("arp", AsLive(None, "arp", "arp")),
        ("vlan", AsLive(None, "greater 0", "less 0")),
        ("vlan 10", AsLive(10, "greater 0", "less 0")),
        ("arp&&!vlan 0x0A", AsLive(10, "arp&&!greater 0", "arp&&!less 0")),
        ("vlan 012", AsLive(10, "greater 0", "less 0")),
        ("vlan ((10)) and (arp)", AsLive(10, "greater 0 and (arp)", "less 0 and (arp)")),
        ("(vlan) and 10.0.2.2", AsLive(None, "(greater 0) and 10.0.2.2", "(less 0) and 10.0.2.2")),
        ("vlan 10 and vlan 20", AsLive(10, "greater 0 and vlan 20", "less 0 and vlan 20")),
    ],
)
def test_the_first_vlan_becomes_true_or_false(expression: str, expected: AsLive) -> None:
    assert as_live(expression) == expected


def test_vlan_is_a_word_of_its_own() -> None:
    assert has_vlan("(vlan)")
    assert not any(map(has_vlan, ("ether proto \\vlan", "host vlan.example", "a-vlan", "vlans")))


FRAMES = st.builds(
    lambda tags, rest: HEAD + b"".join(tags) + rest,
    st.lists(
        st.builds(
            lambda kind, vlan: struct.pack("!HH", kind, vlan),
            st.sampled_from([0x8100, 0x88A8, 0x9100]),
            st.sampled_from([0, 10, 20, 0xE00A]),
        ),
        max_size=3,
    ),
    st.sampled_from([ARP, UDP, b"", b"\x08"]),
)
REFUSED = "arp and vlan 10"  # of a file, by libpcap's optimizer: it is true for no frame
FILTERS = ("arp", "vlan", "vlan 10", REFUSED, "not vlan 10 and udp", "arp or vlan 20", "len < 44", "vlan and vlan")


@given(st.lists(FRAMES, max_size=6), st.sampled_from(FILTERS), st.booleans(), st.sampled_from([64, 40, 15]))
@settings(max_examples=200, deadline=None)
def test_a_file_and_a_frame_in_memory_are_compared_alike(
    frames: list[bytes], expression: str, live: bool, snaplen: int
) -> None:
    """In the file a frame is changed where it is, to be compared: what comes out is what was there."""
    assume(live or expression != REFUSED)
    frames = [frame[:snaplen] for frame in frames]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "f.pcap")
        head = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 2048, 1)
        path.write_bytes(head + b"".join(struct.pack("<IIII", 1, 0, len(each), len(each)) + each for each in frames))
        wanted = FrameFilter(expression, 1, live=live)
        file = reader.open_file(path, expression, live=live)
        assert [each[4] for each in file.take(10)] == [frame for frame in frames if wanted.passes(frame)]
        without = FrameFilter(expression, 1, live=True)
        missed = sum(without.passes(frame) and not wanted.passes(frame) for frame in frames)
        assert file.tagged == (0 if has_vlan(expression) else missed)
