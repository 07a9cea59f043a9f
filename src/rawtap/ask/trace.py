"""Which line wrote a byte of a packet: the guest goes back to a snapshot, and its memory is watched.

Theory of operation. From the snapshot the guest runs until its driver is given that frame, which tells where in memory
the byte is. From the snapshot again it runs with a watchpoint on that place, to the same frame: whoever changed the
byte last wrote it. Where the frame lies elsewhere this time, that place is watched in the next run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import partial

import anyio

from rawtap.ask.happened import captures_of
from rawtap.ask.taps import function
from rawtap.blocking import reading
from rawtap.debug import frames, looking, points
from rawtap.debug.debugger import Debugger
from rawtap.debug.frames import Found
from rawtap.debug.places import place_at
from rawtap.debug.records import text_at
from rawtap.debug.stops import Stop
from rawtap.errors import DebugRefused, RequestInvalid
from rawtap.guest import snapshots
from rawtap.lab.captures import Capture
from rawtap.lab.guests import Guest
from rawtap.lab.lab import Lab
from rawtap.packets import lines
from rawtap.packets.headers import parse
from rawtap.packets.reader import Raw
from rawtap.packets.tail import Tail, behind

_ETHERNET = 1  # libpcap's number, DLT_EN10MB
_MOST_RUNS = 6
_MOST_STOPS = 300  # of a run
_SHOWN = 8  # writers
_CALLS = 5
_COPIES = re.compile(r"mem(?:cpy|move)|bcopy|copy", re.IGNORECASE)
_RESTORE_SECONDS = 60.0
_LONGEST = 3600.0  # seconds; the call's own time ends it before


@dataclass
class _Run:
    """One, from the snapshot to the frame: who changed the watched byte, and the frame; None where it did not come."""

    writers: list[Stop] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)  # that led to the last of them
    found: Found | None = None
    others: int = 0  # frames before it that were not it
    why: str = ""


async def trace_byte(
    lab: Lab, guest: Guest, debugger: Debugger, packet: int, offset: int, at: str, timeout: float
) -> list[str]:
    """Who wrote the byte at `offset` of that packet, in lines; the guest stands at the driver's function then.

    `at` is the function that is given frames to transmit, "" for the one whose name is like a driver's. The snapshot is
    the newest that was saved before the packet.

    Raises:
        RequestInvalid: There is no such packet or byte.
        DebugRefused: There is no snapshot before it, or the frame did not come again.
        DebugFailed, GuestExited, GuestFailed: It ended meanwhile.
    """
    raw = await _packet(lab, guest, packet, offset)
    tag = await _snapshot(guest, raw, timeout)
    debugger.require_stop()
    place = at or await function(debugger, "transmit")
    others = [text_at(each, "number") for each in await points.rows(debugger)]
    told = [f"byte {offset} of packet {packet}, {raw.data[offset]:#04x}: {_summary(raw.data)}"]
    try:
        tap = text_at(await points.break_at(debugger, place, ""), "number")
        if others:  # they are not to stop it meanwhile
            await debugger.gdb.command("break-disable", *others)
        with anyio.move_on_after(timeout):
            return told + await _follow(lab, guest, debugger, raw, offset, tag, tap)
    finally:
        with anyio.CancelScope(shield=True):
            if not debugger.gone:
                await _restore(debugger, others)
    raise DebugRefused(
        f"it was not known within {timeout:g} s who wrote it",
        cure="Save a snapshot nearer to the packet, or give it more time",
    )


async def _restore(debugger: Debugger, others: list[str]) -> None:
    """Have the guest stand, with those breakpoints and no other."""
    await debugger.interrupt()
    for each in await points.rows(debugger):
        if (number := text_at(each, "number")) not in others:
            await points.delete(debugger, number)
    if others:
        await debugger.gdb.command("break-enable", *others)


async def _follow(lab: Lab, guest: Guest, debugger: Debugger, raw: Raw, offset: int, tag: str, tap: str) -> list[str]:
    address: int | None = None
    for number in range(1, _MOST_RUNS + 1):
        run = await _run(lab, guest, debugger, raw, tag, tap, address)
        if run.found is None:
            raise DebugRefused(
                f"the frame did not come again from the snapshot {tag!r}",
                evidence=f"{run.why}; {run.others} other frames came",
                cure="Save it when what makes the guest send has happened: at a breakpoint, just before",
            )
        if offset >= len(run.found.data):
            raise DebugRefused(
                f"the driver is not given the byte {offset}",
                evidence=f"the frame in memory has {len(run.found.data)} bytes",
                cure="The driver, or the card, adds what follows: look into the driver's function",
            )
        here = run.found.address + offset
        if address == here:
            return [*_told(run, here), _repeated(run.found, raw, offset, number, tag)]
        address = here
    raise DebugRefused(
        f"the frame was elsewhere in memory in each of {_MOST_RUNS} runs, so no place could be watched",
        cure="icount in the profile makes runs the same; or watch it by hand: break, watch, continue",
    )


async def _run(lab: Lab, guest: Guest, debugger: Debugger, raw: Raw, tag: str, tap: str, address: int | None) -> _Run:
    """From the snapshot to the frame, with a watchpoint on the byte at `address`."""
    with anyio.CancelScope(shield=True):
        await snapshots.perform(guest.machine, "restore", tag, _RESTORE_SECONDS)
    lab.chronicle.guest_restored(guest.machine.name, tag)
    await guest.debugging.refresh(f"the snapshot {tag!r} was restored")
    if address is None:
        return await _to_frame(debugger, raw, tap, "")
    watch = text_at(await points.watch(debugger, f"*(unsigned char *) {address:#x}", 0), "number")
    run = await _to_frame(debugger, raw, tap, watch)
    await points.delete(debugger, watch)
    return run


async def _to_frame(debugger: Debugger, raw: Raw, tap: str, watch: str) -> _Run:
    """On to the frame; who changes what is watched is noted."""
    run = _Run(why=f"it stopped {_MOST_STOPS} times")
    for _ in range(_MOST_STOPS):
        await debugger.go("exec-continue")
        stop = await debugger.wait(_LONGEST)
        if stop is None:
            _ = debugger.gdb  # which says why it is gone
        elif tap in stop.breakpoints:
            found, _looked = await frames.frame_at(debugger.gdb, debugger.registers, stop)
            if found is not None and _is_same(found.data, raw.data):
                run.found = found
                break
            run.others += 1
        elif watch and stop.why.startswith(f"watchpoint {watch},"):
            run.writers.append(await _at_writer(debugger, stop))
            run.calls = (await looking.where(debugger))[1:_CALLS]
        else:
            run.why = f"it stopped at {stop}"
            break
    return run


async def _at_writer(debugger: Debugger, stop: Stop) -> Stop:
    """The stop with the line of the instruction that wrote: the processor stands behind it, maybe on the next line."""
    address = int(stop.place.address, 16)
    here, before = [await place_at(debugger.gdb, each) for each in (address, address - 1)]
    if here.function != before.function:  # a call, which writes its return address
        return stop
    return replace(stop, place=replace(stop.place, file=before.file, line=before.line))


def _is_same(data: bytes, wanted: bytes) -> bool:
    """Whether it is that frame, or one that says the same, where runs differ."""
    return wanted.startswith(data) or _summary(data) == _summary(wanted)


def _summary(data: bytes) -> str:
    return str(lines.summarize(parse(data, len(data), _ETHERNET)))


def _told(run: _Run, address: int) -> list[str]:
    if not run.writers:
        return [f"nothing changed it between the snapshot and the driver: it was there, at {address:#x}, before"]
    *before, last = run.writers
    told = [f"written at {last.place}: {_change(last)}, at {address:#x}", *run.calls]
    if _COPIES.search(last.place.function):
        told.append("which copies it: who wrote it where it came from is found by watching that place")
    told += [f"before that, at {each.place}: {_change(each)}" for each in reversed(before[-_SHOWN:])]
    return [*told, *([f"... and {len(before) - _SHOWN} changes before these"] if len(before) > _SHOWN else [])]


def _change(stop: Stop) -> str:
    return stop.why.rpartition(": ")[2]


def _repeated(found: Found, raw: Raw, offset: int, runs: int, tag: str) -> str:
    same = "the same bytes" if raw.data.startswith(found.data) else "other bytes that say the same"
    changed = ""
    if (given := found.data[offset]) != raw.data[offset]:
        changed = f"; the byte is {given:#04x} here: another run wrote another, or the card changes it (a checksum)"
    return f"{runs} runs from the snapshot {tag!r}; the frame had {same}{changed}"


async def _packet(lab: Lab, guest: Guest, number: int, offset: int) -> Raw:
    captures = captures_of(lab, guest)
    if not captures:
        raise RequestInvalid("no capture is on the guest's card", cure="qemu_boot(capture=true), or qemu_pcap_start")
    capture = captures[-1]
    if not 0 < number <= capture.session.saved:
        raise RequestInvalid(
            f"there is no packet {number}", evidence=f"{capture.id} has {capture.session.saved}", cure="qemu_pcap_read"
        )
    found = await reading(capture.session.path, partial(_at, capture, number))
    if found is None or found.origin.link_type != _ETHERNET or offset >= len(found.data):
        size = (
            "it is gone" if found is None else f"it has {len(found.data)} bytes, of link type {found.origin.link_type}"
        )
        raise RequestInvalid(
            f"packet {number} of {capture.id} has no byte {offset}", evidence=size, cure="qemu_pcap_read shows it"
        )
    return found


def _at(capture: Capture, number: int) -> Raw | None:
    taken = Tail(capture.parts, "", behind(capture.parts(), number - 1, None)).take(number)
    return next((raw for raw in taken if raw.number == number), None)


async def _snapshot(guest: Guest, raw: Raw, timeout: float) -> str:
    kept = await snapshots.perform(guest.machine, "list", "", timeout)
    before = [each for each in kept if each.saved_at * 1e9 < raw.time_ns]
    if not before:
        raise DebugRefused(
            "no snapshot was saved before that packet",
            evidence=f"there are: {', '.join(each.tag for each in kept) or 'none'}",
            cure='Stop it before it sends (break at a function that leads there), qemu_snapshot(action="save"), go on',
        )
    return max(before, key=lambda each: each.saved_at).tag
