"""A guest is fuzzed: each death planted in the tests' stack comes down to its smallest frame, what a stack sends
that is wrong is told with the frame that it answered so, and of stacks without a defect nothing is told.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import anyio
import pytest

from planted import DEATHS, VLAN, is_smallest
from support import Account, Session, serving
from test_examine import HEALTHY, IMAGES, boot_linux, examined, stack, with_stack

GROUPS = 3
ICMP_ODD = 37
# With these it is soon found; what is found is the same with others (tests/unit/test_shrinking.py).
SEED = dict(zip(DEATHS, (5, 18, 24, 24, 39, 13, 9, 35, 9, 19), strict=True))


def frames_of(row: dict[str, Any]) -> list[bytes]:
    """Those of the pcap file beside the capture, from its answer's words."""
    (path,) = (Path(word) for word in row["reason"].split() if word.endswith(".pcap"))
    data = path.read_bytes()[24:]
    found = []
    while data:
        size = int.from_bytes(data[8:12], "little")
        found.append(data[16 : 16 + size])
        data = data[16 + size :]
    return found


@pytest.mark.parametrize("group", range(GROUPS))
def test_each_planted_death_is_found_and_shrunk_to_its_smallest_frame(
    user: Account, tmp_path: Path, group: int
) -> None:
    others: dict[int, Any] = {}

    async def scenario(session: Session) -> None:
        for death in DEATHS[group::GROUPS]:
            async with stack(session, death):
                told = await examined(session, f"fuzz {SEED[death]} {60 if death == VLAN else 3}")
            row = told["rules"][0]
            frames = frames_of(row) if row["verdict"] == "died" else []
            is_right = len(frames) == 1 and is_smallest(death, frames[0])
            if not is_right or ", 10 times of 10; " not in row["reason"]:
                others[death] = row, told["notes"]

    with_stack(user, tmp_path, scenario, snapshots=True)
    assert others == {}


def test_what_it_sends_that_is_wrong_is_a_violation_with_the_frame_that_it_answered_so(
    user: Account, tmp_path: Path
) -> None:
    async def scenario(session: Session) -> None:
        async with stack(session, ICMP_ODD):
            told = await examined(session, "fuzz 1 5")
            await shows_it_again(session, told["rules"][0])
        row = told["rules"][0]
        assert (row["rule"], row["verdict"], row["field"]) == ("fuzz.1", "violated", "icmp.checksum_wrong")
        assert ", 10 times of 10; " in row["reason"]
        (frame,) = frames_of(row)
        # What is refused is quoted: here of a protocol that it does not have, with one byte that is not 0.
        assert re.fullmatch("080045000015" + "0" * 12 + "....0a0002..0a00020f01", frame[12:].hex()), frame.hex()
        assert [each.split()[1] for each in row["frames"]] == [">", "<"]
        async with stack(session, HEALTHY):
            told = await examined(session, "fuzz 1 5")
        (row,) = told["rules"]
        assert row["verdict"] == "kept", row

    with_stack(user, tmp_path, scenario, snapshots=True)


async def shows_it_again(session: Session, row: dict[str, Any]) -> None:
    """What the test does that is beside the capture: it sends who it is and the frame, and judges what comes back."""
    (path,) = (Path(word) for word in row["reason"].split() if word.endswith(".py"))
    sent = re.findall(r"'qemu_packet_send', hex='([0-9a-f]+)'", path.read_text())
    assert len(sent) == 2
    begun = await session.call("qemu_pcap_start")
    for each in sent:
        await session.call("qemu_packet_send", hex=each)
    await examined(session, "icmp.echo")
    await session.call("qemu_pcap_stop", capture=begun["capture"])
    filtered = f"ether src {bytes.fromhex(sent[1])[:6].hex(':')}"
    judged = await session.call("qemu_pcap_explain", capture=begun["capture"], filter=filtered)
    assert "icmp.checksum_wrong" in {each["what"] for each in judged["findings"]}


def test_linux_neither_dies_nor_sends_what_is_wrong(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user, "--image-dir", IMAGES) as session:
            await boot_linux(session, user)
            told = await session.call("qemu_examine", what="fuzz 1 10", port=7777)
            (row,) = told["rules"]
            assert row["verdict"] == "kept", row

    anyio.run(scenario)


FREE = "grep MemFree /proc/meminfo"
LEAKS = 69


def test_memory_that_does_not_come_back_is_told_with_figures(user: Account, tmp_path: Path) -> None:
    """The program's lines come from a pipe, so that the console is the shell's."""

    async def started(session: Session, number: int) -> None:
        await session.typed(f"sleep 99999 | examined {number} >/tmp/told & until grep -q ready /tmp/told; do :; done")

    async def scenario(session: Session) -> None:
        await started(session, LEAKS)
        told = await examined(session, f"fuzz 1 1 {FREE}")
        row = told["rules"][0]
        assert (row["verdict"], row["field"]) == ("violated", "memory"), told
        found = int(row["found"].split()[0])
        assert (1 << 15) * 0.9 < found < (1 << 15) * 1.5  # what is taken for each, and the pages' own
        await session.typed("killall examined sleep")
        await started(session, HEALTHY)
        (row,) = (await examined(session, f"fuzz 1 3 {FREE}"))["rules"]
        assert row["verdict"] == "kept", row
        told = await examined(session, "fuzz 1 1 true")
        assert any("free memory was not looked at" in note for note in told["notes"])

    with_stack(user, tmp_path, scenario, snapshots=True)
