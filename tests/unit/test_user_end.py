"""The end of a wire that QEMU's filters lead to: nothing is cut, lost or doubled, however their sockets are."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field

import anyio
import pytest

from rawtap.errors import NetworkFailed, RequestInvalid
from rawtap.guest.filter_mirror import Frames, packed
from rawtap.lab import user_end
from rawtap.lab.user_end import UserEnd
from support import PATIENCE

FRAME = bytes.fromhex("ffffffffffff02000000000188b5").ljust(60, b"\0")


@dataclass
class Qemu:
    """What stands in QEMU's place: its ends of the two sockets, and what was heard of it."""

    end: UserEnd
    reads: socket.socket
    writes: socket.socket
    came: list[bytes] = field(default_factory=list)
    ended: anyio.Event = field(default_factory=anyio.Event)

    async def until(self, count: int) -> list[bytes]:
        with anyio.fail_after(PATIENCE):
            while len(self.came) < count:
                await anyio.lowlevel.checkpoint()
        return self.came

    async def read(self, count: int) -> list[bytes]:
        """So many of the frames that are sent to the guest."""
        found, stream = list[bytes](), Frames()
        while len(found) < count:
            found += stream.fed(await anyio.to_thread.run_sync(self.reads.recv, 1000))
        return found


@asynccontextmanager
async def qemu() -> AsyncIterator[Qemu]:
    pairs = socket.socketpair(), socket.socketpair()
    (ours_in, theirs_in), (ours_out, theirs_out) = pairs
    with ours_in, theirs_in, ours_out, theirs_out, closing(UserEnd("user:g", ours_in, ours_out)) as end:
        made = Qemu(end, theirs_in, theirs_out)
        end.listen(made.came.append, made.ended.set)
        for each in (theirs_in, theirs_out):
            each.settimeout(PATIENCE)
        yield made


def numbered(count: int) -> list[bytes]:
    return [FRAME + number.to_bytes(4) for number in range(count)]


def test_the_guests_frames_come_whole_and_in_their_order_however_the_stream_is_cut() -> None:
    async def scenario() -> None:
        async with qemu() as made:
            stream = b"".join(map(packed, numbered(50)))
            for at in range(0, len(stream), 7):
                made.writes.send(stream[at : at + 7])
                await anyio.lowlevel.checkpoint()
            assert await made.until(50) == numbered(50)
            assert not made.ended.is_set()

    anyio.run(scenario)


def test_what_is_sent_while_qemu_does_not_read_is_there_when_it_does() -> None:
    """Answers do not wait; a frame that is sent does, and comes behind them."""

    async def scenario() -> None:
        async with qemu() as made:
            frames = numbered(4000)
            for each in frames[:-1]:
                made.end.answer(each)
            async with anyio.create_task_group() as group:
                group.start_soon(made.end.send, frames[-1])
                await anyio.lowlevel.checkpoint()
                assert await made.read(len(frames)) == frames
            assert made.end.lost() == 0

    anyio.run(scenario)


def test_answers_that_find_no_room_are_counted() -> None:
    async def scenario() -> None:
        async with qemu() as made:
            count = (2 << 20) // len(FRAME)
            for each in numbered(count):
                made.end.answer(each)
            lost = made.end.lost()
            assert lost > 0
            assert await made.read(count - lost) == numbered(count)[: count - lost]

    anyio.run(scenario)


def test_a_qemu_that_does_not_read_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with qemu() as made:
            for _ in range((1 << 19) // len(FRAME)):
                made.end.answer(FRAME)
            with pytest.raises(NetworkFailed, match="user:g did not take the frame") as caught:
                await made.end.send(FRAME)
            assert "QEMU read none" in caught.value.evidence

    monkeypatch.setattr(user_end, "_TAKES_SECONDS", 0.05)
    anyio.run(scenario)


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (FRAME.ljust(1515, b"\0"), "1515 bytes is too long for user:g"),
        ((FRAME[:12] + b"\x81\0").ljust(1519, b"\0"), "1519 bytes is too long"),
        (FRAME[:13], "user:g did not take the frame"),
    ],
    ids=["long", "long and tagged", "short"],
)
def test_what_a_tap_would_not_take_is_not_sent(frame: bytes, words: str) -> None:
    async def scenario() -> None:
        async with qemu() as made:
            with pytest.raises((RequestInvalid, NetworkFailed), match=words):
                await made.end.send(frame)
            await made.end.send(frame[:-1].ljust(14, b"\0"))
            assert await made.read(1) == [frame[:-1].ljust(14, b"\0")]

    anyio.run(scenario)


def test_the_end_of_qemu_is_told_once_and_nothing_waits_for_it() -> None:
    async def scenario() -> None:
        async with qemu() as made:
            made.reads.close()
            made.writes.close()
            with anyio.fail_after(PATIENCE):
                await made.end.send(FRAME)
                await made.ended.wait()
                await made.end.send(FRAME)
                made.end.answer(FRAME)
            assert made.came == []

    anyio.run(scenario)
