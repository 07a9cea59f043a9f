"""The extension modules under whatever the wire, a file, a user or QEMU may give them.

``fuzz_modules.py SECONDS SEED`` is run by root, in a network namespace of its own, with modules that were built with
sanitizers: what they find ends it, and so does an account that does not close. Before each case it prints the case's
number on stderr; everything in a case follows from that, and ``fuzz_modules.py 0 SEED CASE...`` plays these alone. At
its end it prints, as JSON, how often each thing came of a case.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import random
import resource
import socket
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from odd_captures import capture as odd_capture
from odd_captures import flipped
from rawtap._bpf import FilterRefused, instructions, is_harmless, passes, syntax_error
from rawtap.capture import _worker
from rawtap.capture._worker import MAX_SNAPLEN
from rawtap.capture.interface import InterfaceSource
from rawtap.capture.mirror_source import MirrorSource
from rawtap.capture.session import MAX_FILES, CaptureRequest, CaptureSession, Snapshot
from rawtap.capture.source import Source
from rawtap.capture.trimmer import Trimmer
from rawtap.errors import RawtapError
from rawtap.host import children
from rawtap.host.landlock import Access
from rawtap.packets import explain, reader
from rawtap.packets._columns import FORMATS, Packets
from rawtap.packets._columns import Source as ColumnSource
from rawtap.packets._savefile import SavefileError
from support import Wire
from unit import tangled

TRIMMER = Trimmer()
GUEST = "52:54:00:00:00:01"
WORDS = [
    *("ip", "ip6", "arp", "udp", "tcp port 80", "icmp or icmp6", "vlan", "vlan 7", "not vlan", "mpls", "pppoes"),
    *("host 10.0.2.15", "net 10.0.0.0/8", "ether host 52:54:00:00:00:01", "ether proto 0x88b5", "inbound", "outbound"),
    *("greater 40", "less 1000", "len > 9", "tcp[13] & 2 != 0", "ether[4294967295] = 1", "ip[ip[0]:4] > len"),
    *("tcp[tcp[12] >> 2 : 2] = 0", "portrange 1-65535", "ip6 protochain 6", "wlan type data", "not (", ")", "\\", "\0"),
    *("host \u00e4", "or", "and and", "ether[0:3] = 1", "1 = 1", "1 / 0 = 1", "ip broadcast", "atalk", "geneve 3"),
]
_ANY_SIZE = resource.RLIM_INFINITY
LINK_TYPES = (0, 1, 9, 101, 105, 107, 113, 127, 143, 195, 228, 276)


def expression(chance: random.Random) -> str:
    """A filter that may be one. None asks for a name: that would be looked up."""
    if chance.random() < 0.1:
        return "".join(map(chr, chance.choices(range(256), k=chance.randrange(40))))
    words = chance.choices(WORDS, k=chance.choice([0, 1, 1, 1, 2, 3, 9]))
    return chance.choice([" and ", " or ", " and not ", " "]).join(words)


def frame(chance: random.Random) -> bytes:
    """A frame that may be one."""
    head = chance.choice(["ffffffffffff020000000001", "5254000000010200deadbeef", "010000000000525400000001"])
    kind = chance.choice(["88b5", "0800", "86dd", "0806", "81000007", "810000078100000788b5", "88a80007", "0003", ""])
    return (bytes.fromhex(head + kind) + chance.randbytes(chance.choice([0, 1, 2, 20, 46, 400, 1400])))[:1514]


# ------------------------------------------------------------------------------------------- files, filters


def savefile(chance: random.Random, _: Wire, folder: Path) -> str:
    """A file that is none, read in every way in any order."""
    path, copy = folder / "odd", folder / "copy"
    data = odd_capture(chance.randrange(1 << 40))
    path.write_bytes(data if chance.random() < 0.8 else data * chance.randint(2, 3000))
    file = reader.open_file(path, chance.choice(["", "udp or vlan 7", expression(chance)]), live=chance.random() < 0.5)
    for _ in range(chance.randint(1, 8)):
        chance.choice(
            [
                lambda: file.take(chance.randint(0, 300)),
                lambda: file.skip(chance.choice([0, 1, 7, 1 << 62])),
                lambda: file.survey(chance.randint(1, 100)),
                file.count_rest,
                lambda: file.seek(chance.randrange(len(data) + 9), 0, 1, chance.randint(0, 9), 0),
                lambda: os.truncate(path, chance.randrange(len(data) + 1)),
                lambda: path.write_bytes(odd_capture(chance.randrange(1 << 40))),
                file.go_on,
            ]
        )()
    with copy.open("wb", buffering=0) as out:
        file.copy_rest(out.fileno())
    return file.damage.partition(" ")[0] or "whole"


def filters(chance: random.Random, _: Wire, __: Path) -> str:
    """Expressions that are compiled here and in a child, and programs that nobody compiled."""
    text, link_type = expression(chance), chance.choice(LINK_TYPES)
    is_harmless(text), syntax_error(text)
    with contextlib.suppress(FilterRefused):
        program = instructions(
            text, link_type=link_type, optimize=chance.random() < 0.7, in_child=chance.random() < 0.1
        )
        for _ in range(20):
            passes(program, frame(chance)[: chance.randint(0, 99)])
        return "compiled"
    return "refused"


def explained(chance: random.Random, _: Wire, folder: Path) -> str:
    """What every judge makes of packets: odd ones, and connections in which everything goes wrong, with bits turned."""
    path = folder / "packets"
    if chance.random() < 0.5:
        path.write_bytes(odd_capture(chance.randrange(1 << 40)))
    else:
        tangled.capture(path, chance.randrange(1 << 40), connections=chance.choice([1, 5, 40]))
        data = path.read_bytes()
        head = data[: chance.choice([24, 40])]  # what the file's own reader must know is left as it is
        path.write_bytes(head + flipped(chance, data[len(head) :], chance.choice([0, 1, len(data) // 50])))
    file = reader.open_file(path, chance.choice(["", "", "tcp", "ip6 or arp"]))
    examiner = explain.Examiner(file.link_type, sees_all=chance.random() < 0.5)
    until = 0
    while packets := file.take(chance.choice([1, 7, 1000])):
        for number, at, _captured, length, frame_, origin in packets:
            examiner.add(number, at, length, frame_, origin)
            until = max(until, at)
    verdict = examiner.result(until + chance.choice([0, 10**9, 10**18]), chance.choice([0, 0, 5]))
    return f"{min(len(verdict.findings), 3)} findings and more"


class _Stream(ctypes.Structure):
    """Arrow's, by which DuckDB reads columns."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("get_schema", "get_next", "get_last_error", "release", "private")]


_NEXT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_RELEASE = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_ARRAY, _ARRAYS_RELEASE = 10, 8  # words of an array; which of them is the function that gives it back


def columns(chance: random.Random, _: Wire, folder: Path) -> str:
    """All columns, or some, of files that are none, read by two readers in turns, to the end or not."""
    path = folder / "odd"
    data = odd_capture(chance.randrange(1 << 40))
    path.write_bytes(data if chance.random() < 0.7 else data * chance.randint(2, 300))
    if chance.random() < 0.3:
        tangled.capture(path, chance.randrange(1 << 40), connections=chance.choice([1, 5, 40]))
    wanted = [name for name in FORMATS if name != "info" and chance.random() < chance.choice([0.2, 1])]
    fd = os.open(path, os.O_RDONLY)
    packets = Packets([ColumnSource(fd, "odd", group=each) for each in range(chance.randint(1, 3))], wanted)
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    capsules = [packets.__arrow_c_stream__() for _ in range(2)]
    streams = [ctypes.cast(get(each, b"arrow_array_stream"), ctypes.POINTER(_Stream)) for each in capsules]
    rows = 0
    for _ in range(chance.choice([1, 10, 1000])):
        stream, array = chance.choice(streams), (ctypes.c_uint64 * _ARRAY)()
        if _NEXT(stream.contents.get_next)(stream, ctypes.addressof(array)) or not array[_ARRAYS_RELEASE]:
            break
        rows += array[0]
        _RELEASE(array[_ARRAYS_RELEASE])(ctypes.addressof(array))
    os.close(fd)
    return "rows" if rows else "no rows"


# --------------------------------------------------------------------------------------------------- captures


def request(chance: random.Random, interface: str) -> CaptureRequest:
    """Any capture that may be asked for."""
    return CaptureRequest(
        interface,
        chance.choice(["", "", "ether proto 0x88b5", expression(chance).replace("\0", "")]),
        snaplen=chance.choice([1, 14, 60, 96, 65535, MAX_SNAPLEN]),
        max_bytes=chance.choice([4096, 5000, 1 << 16, 256 << 20]),
        max_packets=chance.choice([0, 0, 1, 99]),
        max_seconds=chance.choice([0, 0, 0.001, 0.02]),
        files=chance.choice([1, 1, 2, 3, MAX_FILES]),
        format=chance.choice(["pcap", "pcapng"]),
    )


def closes(row: Snapshot) -> bool:
    """Whether its account does, in its own numbers; what is not known is in no sum."""
    parts = (row.filtered, row.packets, row.packets_overwritten, row.dropped_kernel, row.refused, row.in_flight)
    return row.seen is None or row.seen == sum(part or 0 for part in parts)


def captured(
    chance: random.Random,
    folder: Path,
    asked: CaptureRequest,
    source: Source,
    send: Callable[[], object],
    on_end: Callable[[CaptureSession], None] | None = None,
) -> str:
    """A capture while `send` sends, with questions, looks and a stop at any moment; its account closes."""
    memory = chance.choice([None, None, 1, 1 << 16, 3 << 20])
    trimmer = chance.choice([None, TRIMMER])
    session = CaptureSession.start(asked, source, folder, "fuzz", on_end, trimmer, buffer_bytes=memory)
    try:
        if chance.random() < 0.2:  # a disk that takes no more at some moment, as SIGXFSZ's owner gets it: EFBIG
            resource.setrlimit(resource.RLIMIT_FSIZE, (chance.choice([100, 5000, 60_000, 1 << 20]), _ANY_SIZE))
        for _ in range(chance.randint(0, 30)):
            chance.choice([send, send, send, session.ask, session.look, send_nothing])()
            assert closes(session.snapshot()), session.snapshot()
        row = session.stop()
    finally:
        session.close()
        resource.setrlimit(resource.RLIMIT_FSIZE, (_ANY_SIZE, _ANY_SIZE))
    assert closes(row), row
    read = 0
    for path in row.files:
        file = reader.open_file(path, "")
        file.count_rest()
        assert not file.damage, (row, path, file.damage)
        read += file.scanned
    assert read == row.packets, (row, read)
    return str(row.reason)


def send_nothing() -> None:
    """A moment of peace."""
    time.sleep(0.0005)


def live(chance: random.Random, wire: Wire, folder: Path) -> str:
    """Off a wire, by the kernel's ring."""
    source = InterfaceSource(socket.if_nametoindex(wire.near), chance.choice([1 << 18, 1 << 20]))

    def send() -> None:
        for _ in range(chance.choice([1, 1, 10, 300])):
            wire.send_bytes(frame(chance).ljust(14, b"\0"))

    return captured(chance, folder, request(chance, wire.near), source, send)


def mirror(chance: random.Random, _: Wire, folder: Path) -> str:
    """Out of QEMU's socket, or what is at its other end."""
    near, far = socket.socketpair()
    far.setblocking(False)

    def send() -> None:
        data = frame(chance)
        lengths = [len(data)] * 3000 + [0, len(data) + 1, 1 << 31, MAX_SNAPLEN + 1]
        stream = b"".join(struct.pack(">I", chance.choice(lengths)) + data for _ in range(chance.choice([1, 5, 100])))
        with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            far.send(stream[: chance.choice([len(stream)] * 5 + [chance.randint(1, len(stream))])])
        if chance.random() < 0.05:
            far.shutdown(socket.SHUT_WR)

    with far:

        def on_end(_: CaptureSession) -> None:  # else it would read on
            with contextlib.suppress(OSError):
                far.shutdown(socket.SHUT_RDWR)

        return captured(chance, folder, request(chance, "user:fuzz"), MirrorSource(near, GUEST), send, on_end)


def spawned(chance: random.Random, _: Wire, folder: Path) -> str:
    """A child with any words, files and environment."""
    words = ["".join(map(chr, chance.choices(range(1, 256), k=chance.choice([0, 1, 9, 5000])))) for _ in range(9)]
    program = chance.choice(["/bin/echo", "/bin/true", "/nowhere", str(folder), "x" * 5000])
    access = Access(programs=(Path("/bin/echo"),), read=(folder,), write=(folder,), listen=(chance.randrange(65536),))
    try:
        done = children.run([program, *words[: chance.randint(0, 9)]], "", access)
    except OSError as error:
        return f"no start: {error.strerror or error}"[:40]
    return f"exit code {done.code}"


# ---------------------------------------------------------------------------------------------------- all of it

TARGETS: list[Callable[[random.Random, Wire, Path], str]] = [
    savefile,
    filters,
    explained,
    columns,
    live,
    mirror,
    spawned,
]


def play(number: int, seed: int, wire: Wire) -> str:
    """One case; what came of it."""
    chance = random.Random(f"{seed}/{number}")
    target = TARGETS[number % len(TARGETS)]
    with tempfile.TemporaryDirectory(prefix="rawtap-fuzz-") as folder:
        try:
            outcome = target(chance, wire, Path(folder))
        except RawtapError as error:
            outcome = error.code
        except SavefileError:
            outcome = "no capture file"
        except UnicodeEncodeError:
            outcome = "no text"
    return f"{target.__name__}: {outcome}"


def main(seconds: str, seed: str, *cases: str) -> None:
    """Cases until the time is over, or those given."""
    outcomes: Counter[str] = Counter()
    until, number = time.monotonic() + float(seconds), 0
    with Wire.make("fuzz0", "fuzz1") as wire:
        while int(seconds) and time.monotonic() < until:
            print(f"case {number}", file=sys.stderr, flush=True)  # noqa: T201
            outcomes[play(number, int(seed), wire)] += 1
            number += 1
        for case in cases:
            outcomes[play(int(case), int(seed), wire)] += 1
    TRIMMER.close()
    modules = str(Path(_worker.__file__).parents[2])
    print(json.dumps({"modules": modules, **outcomes}))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
