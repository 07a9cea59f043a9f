"""What the worker that reads QEMU's mirror saves, counts, waits for, and lets go."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rawtap.capture.mirror_source import MirrorSource
from rawtap.capture.session import CaptureRequest, CaptureSession
from rawtap.errors import BadFilter, RequestInvalid
from rawtap.guest.filter_mirror import Frames, packed
from support import PATIENCE, eventually, numbers_in, read_back

GUEST = "52:54:00:00:00:01"
FROM_GUEST = bytes.fromhex("ffffffffffff52540000000188b5")
TO_GUEST = bytes.fromhex("52540000000102000000000188b5")


def frame(number: int, head: bytes = FROM_GUEST, size: int = 60) -> bytes:
    return (head + number.to_bytes(4, "big")).ljust(size, b"\0")


@contextmanager
def capture(
    folder: Path, filter_: str = "", on_end: Callable[[CaptureSession], None] | None = None, **limits: int
) -> Iterator[tuple[CaptureSession, socket.socket]]:
    """A capture whose other end is the test's instead of QEMU's."""
    near, far = socket.socketpair()
    source = MirrorSource(near, GUEST)
    session = CaptureSession.start(CaptureRequest("user:g", filter_, **limits), source, folder, "g", on_end)
    with far:
        yield session, far
    session.close()


def caught_up(session: CaptureSession) -> int:
    question = session.ask()
    assert eventually(lambda: session.answered >= question)
    return session.place.promised


def test_frames_come_whole_however_the_stream_is_cut(tmp_path: Path) -> None:
    stream = b"".join(packed(frame(number, size=60 + number)) for number in range(50))
    with capture(tmp_path) as (session, far):
        for at in range(0, len(stream), 7):
            far.sendall(stream[at : at + 7])
        far.shutdown(socket.SHUT_WR)
        assert eventually(lambda: not session.running)
    assert numbers_in(session.path) == list(range(50))
    assert (session.snapshot().packets, session.snapshot().reason) == (50, "guest_ended")


def test_an_answer_has_all_that_was_in_the_socket_and_promises_no_more(tmp_path: Path) -> None:
    with capture(tmp_path, "ether src 52:54:00:00:00:01") as (session, far):
        for number in range(1000):
            far.sendall(packed(frame(number)) + packed(frame(number, TO_GUEST)))
            if number % 100 == 99:
                assert caught_up(session) == number + 1
                assert read_back(session.path) == number + 1
        half = packed(frame(1000))
        far.sendall(half[:30])
        assert caught_up(session) == 1000
        far.sendall(half[30:])
        assert caught_up(session) == 1001


def test_a_stop_takes_what_is_in_the_socket_and_no_more_is_needed(tmp_path: Path) -> None:
    """A QEMU that does not answer has written what it has written."""
    near, far = socket.socketpair()

    def stop_with_a_full_socket(session: CaptureSession) -> None:
        far.sendall(b"".join(packed(frame(number)) for number in range(100)))
        session.request_stop()  # the worker reads for the first time after this

    with far:
        request, source = CaptureRequest("user:g"), MirrorSource(near, GUEST)
        session = CaptureSession.start(request, source, tmp_path, "g", on_armed=stop_with_a_full_socket)
        ended = session.stop()
        assert (ended.packets, ended.reason, ended.state) == (100, "stopped", "stopped")
        assert (ended.seen, ended.filtered, ended.dropped_kernel, ended.dropped_interface) == (100, 0, 0, 0)
        session.close()
    assert numbers_in(session.path) == list(range(100))


def test_the_end_that_was_asked_for_is_told_from_the_guests(tmp_path: Path) -> None:
    with capture(tmp_path) as (session, far):
        assert isinstance(session.source, MirrorSource)
        far.sendall(packed(frame(1)))
        session.source.worker.expect_end()
        far.shutdown(socket.SHUT_WR)
        assert eventually(lambda: not session.running)
        assert (session.snapshot().reason, session.snapshot().packets) == ("stopped", 1)


def test_after_a_limit_the_rest_is_read_so_that_the_guest_does_not_wait(tmp_path: Path) -> None:
    ended = threading.Event()
    with capture(tmp_path, on_end=lambda _: ended.set(), max_packets=3) as (session, far):
        far.settimeout(PATIENCE)
        for number in range(20000):  # more than any socket holds
            far.sendall(packed(frame(number)))
        assert ended.wait(PATIENCE)
        far.shutdown(socket.SHUT_WR)
    assert (session.snapshot().reason, session.snapshot().packets) == ("max_packets", 3)
    assert read_back(session.path) == 3


@pytest.mark.parametrize("format_", ["pcap", "pcapng"])
def test_a_ring_lets_a_file_grow_for_a_frame_that_is_larger_than_a_file_may_be(tmp_path: Path, format_: str) -> None:
    sizes = [60, 60, 9000, 60, 5000, 100_000, 60]
    request = CaptureRequest("user:g", files=8, max_bytes=4096, format=format_)  # type: ignore[arg-type]
    near, far = socket.socketpair()
    with far:
        session = CaptureSession.start(request, MirrorSource(near, GUEST), tmp_path, "g")
        for number, size in enumerate(sizes):
            far.sendall(packed(frame(number, size=size)))
        assert caught_up(session) == len(sizes)
        ended = session.stop()
        session.close()
    assert (ended.packets, ended.reason, ended.refused) == (len(sizes), "stopped", 0)
    kept = [list(numbers_in(path)) for path in ended.files]
    assert [number for numbers in kept for number in numbers] == list(range(len(sizes)))
    assert [numbers for numbers in kept if numbers in ([2], [4], [5])] == [[2], [4], [5]]
    small = [path for path, numbers in zip(ended.files, kept, strict=True) if numbers not in ([2], [4], [5])]
    assert all(path.stat().st_size <= 4096 for path in small)


def test_a_pcapng_head_that_leaves_no_room_is_refused_at_the_start(tmp_path: Path) -> None:
    near, far = socket.socketpair()
    request = CaptureRequest("user:g", "arp or " * 250 + "arp", format="pcapng", comment="€" * 1000, max_bytes=4096)
    with far, pytest.raises(RequestInvalid, match="max_bytes=4096 has no room for a packet"):
        CaptureSession.start(request, MirrorSource(near, GUEST), tmp_path, "g")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_stream_of_frames_ends_the_capture_and_says_so(tmp_path: Path) -> None:
    with capture(tmp_path) as (session, far):
        far.sendall(packed(frame(1)))
        assert caught_up(session) == 1
        far.sendall(b"\xff" * 8)
        assert eventually(lambda: not session.running)
        ended = session.snapshot()
        assert (ended.state, ended.packets) == ("failed", 1)
        assert "no frame" in str(ended.error)
        far.shutdown(socket.SHUT_WR)


def test_frames_are_counted_by_who_sent_them_and_told_while_nothing_matched(tmp_path: Path) -> None:
    with capture(tmp_path, "ip") as (session, far):
        assert isinstance(session.source, MirrorSource)
        far.sendall(packed(frame(1)) * 2 + packed(frame(1, TO_GUEST)) * 3)
        caught_up(session)
        seen = session.snapshot()
        assert (seen.seen, seen.from_guest, seen.filtered, seen.in_flight) == (5, 2, 5, 0)
        seen = session.snapshot()
        assert (seen.frames_seen, seen.kinds_sampled, seen.kinds) == (5, 5, (("EtherType 0x88b5", 5),))


def test_a_wrong_filter_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    near, far = socket.socketpair()
    with far, pytest.raises(BadFilter):
        CaptureSession.start(CaptureRequest("user:g", "icmp icmp"), MirrorSource(near, GUEST), tmp_path, "g")
    assert list(tmp_path.iterdir()) == []


def test_times_are_when_a_frame_came(tmp_path: Path) -> None:
    with capture(tmp_path) as (session, far):
        before = time.time_ns()
        far.sendall(packed(frame(1)))
        caught_up(session)
        after = time.time_ns()
        session.stop()
    record = session.path.read_bytes()[24:32]
    assert before <= int.from_bytes(record[:4], "little") * 10**9 + int.from_bytes(record[4:], "little") <= after


def test_frames_of_a_stream_are_put_together() -> None:
    frames, stream = Frames(), packed(b"one") + packed(b"") + packed(b"three")
    assert [each for at in range(len(stream)) for each in frames.fed(stream[at : at + 1])] == [b"one", b"", b"three"]


def test_a_source_that_was_never_opened_can_be_closed() -> None:
    near, far = socket.socketpair()
    with contextlib.closing(far):
        MirrorSource(near, GUEST).close()
        assert near.fileno() == -1


_LATER = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
int clock_gettime(clockid_t clock, struct timespec *t)
{
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int status = real(clock, t);
    if (clock == CLOCK_REALTIME) t->tv_sec += 3000000000;
    return status;
}
"""
_CAPTURE_ONE = """
import socket, sys, pathlib
from rawtap.capture.mirror_source import MirrorSource
from rawtap.capture.session import CaptureRequest, CaptureSession
near, far = socket.socketpair()
source = MirrorSource(near, "52:54:00:00:00:01")
session = CaptureSession.start(CaptureRequest("user:g", format="pcapng"), source, pathlib.Path(sys.argv[1]), "g")
with far:
    far.sendall((60).to_bytes(4, "big") + bytes(60))
    print(session.stop().packets, session.path)
session.close()
"""


def test_the_times_of_a_pcapng_file_do_not_end_in_2106(tmp_path: Path) -> None:
    """The clock of a process of its own is set to a later one."""
    (tmp_path / "later.c").write_text(_LATER, encoding="ascii")
    shim = tmp_path / "later.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", shim, tmp_path / "later.c", "-ldl"], check=True)
    command = [sys.executable, "-c", _CAPTURE_ONE, str(tmp_path)]
    environment = os.environ | {"LD_PRELOAD": str(shim)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    packets, path = done.stdout.split()
    shown = ["tshark", "-r", path, "-T", "fields", "-e", "frame.time_epoch"]
    told = subprocess.run(shown, capture_output=True, text=True, check=True).stdout
    assert packets == "1"
    assert abs(float(told) - time.time() - 3_000_000_000) < 60
