"""What was found as verdicts: fuzzing's, each with a pcap file and a pytest of its frames; and where in the capture
frames are."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Sequence
from pathlib import Path

from rawtap.ask.examine.fuzzing import TIMES, UNEXPLAINED, Hunt, Killer
from rawtap.ask.examine.memory import Loss
from rawtap.ask.recording import Book, Call
from rawtap.blocking import on_disk
from rawtap.capture import files
from rawtap.errors import DiskStalled, NoSpace, OutputUnwritable, ServerExhausted
from rawtap.examine.faults import Fault
from rawtap.examine.rules import Level, Rule
from rawtap.examine.trial import Outcome, Passed, Verdict
from rawtap.packets import reader

_PCAP = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)  # pcap-savefile(5), Ethernet
_RECORD = struct.Struct("<IIII")
_ADDRESS = 'Have it get its address first, as it had then: lab.call("qemu_send", ...).'
_DIED = f"A guest died of these frames. {_ADDRESS}"
_ERRED = f"A guest answered these frames with one that is wrong. {_ADDRESS}"
_BEGUN = " -> None:\n"  # of the test
_CAPTURED = '    capture = lab.call("qemu_pcap_start")["capture"]\n'
_JUDGED = """    lab.call("qemu_pcap_stop", capture=capture)
    answer = lab.call("qemu_pcap_explain", capture=capture, filter={filter!r})
    assert {what!r} not in {{each["what"] for each in answer["findings"]}}
"""


def rule(number: int, fault: Fault | None = None) -> Rule:
    """What is asked; each finding is told as a rule of its own."""
    name = f"fuzz.{number}" if number else "fuzz"
    if fault:
        return Rule(name, fault.rule, Level.MUST, "What it sends is right, whatever it was sent.", ())
    return Rule(name, "RFC 1122, 1.2.2", Level.MUST, "No frame does it harm, however it is made.", ())


async def outcomes(hunt: Hunt, capture: Path) -> list[Outcome]:
    """Each finding, with its files beside the capture, or why these could not be made; or that there is none."""
    if not hunt.killers and not hunt.losses:
        reason = hunt.ended or (UNEXPLAINED if hunt.unexplained else next(iter(hunt.unsure.values()), ""))
        if not reason and hunt.refused >= hunt.sent:  # where nothing was found, no other frames were sent
            reason = "the wire took none of the frames"
        return [Outcome(rule(0), Verdict.CANNOT_TELL if reason else Verdict.KEPT, reason)]
    found = []
    for number, killer in enumerate(hunt.killers, 1):
        try:
            pcap, test = await on_disk(capture.parent, _saved, killer, number, hunt, capture)
            kept = f"{pcap} has the frames, {test} sends them in a test"
        except (OutputUnwritable, NoSpace, ServerExhausted, DiskStalled) as error:
            kept = f"they are in the capture alone: {error.problem}"
        times = f"{killer.times} times of {TIMES}" if killer.times else "once: it could not be tried again"
        found.append(_outcome(killer, number, f"{killer.how}, {times}; {kept}"))
    return found + [_lost(loss, number) for number, loss in enumerate(hunt.losses, len(found) + 1)]


def _outcome(killer: Killer, number: int, reason: str) -> Outcome:
    frames = tuple(Passed(frame, from_guest=False) for frame in killer.frames)
    if (fault := killer.fault) is None:
        return Outcome(rule(number), Verdict.DIED, reason, frames=frames)
    seen = (*frames, Passed(fault.frame, from_guest=True))
    return Outcome(rule(number, fault), Verdict.VIOLATED, reason, fault.what, fault.found, fault.expected, seen)


def _lost(loss: Loss, number: int) -> Outcome:
    asks = Rule(f"fuzz.{number}", "RFC 1122, 1.2.2", Level.MUST, "The memory that frames take comes back.", ())
    frames = tuple(Passed(frame, from_guest=False) for frame in loss.frames)
    found = f"{loss.each} bytes for each frame"
    return Outcome(asks, Verdict.VIOLATED, str(loss), "memory", found, "none that stays", frames)


def _saved(killer: Killer, number: int, hunt: Hunt, capture: Path) -> tuple[Path, Path]:
    """A pcap file and a pytest of a killer's frames."""
    records = [_RECORD.pack(0, 0, len(each), len(each)) + each for each in killer.frames]
    stem = f"{capture.stem}-fuzz-{number}"
    name = f"test_{re.sub('[^A-Za-z0-9]', '_', stem)}.py"
    made = []
    for file, content in (
        (f"{stem}.pcap", _PCAP + b"".join(records)),
        (name, _test(killer, hunt).encode()),
    ):
        path, fd = files.create(capture.parent, file, content)
        os.close(fd)
        made.append(path)
    return made[0], made[1]


def _test(killer: Killer, hunt: Hunt) -> str:
    """The source of a test that fails until the guest takes the frames as it should."""
    examiner = hunt.examiner
    book = Book(_ERRED if killer.fault else _DIED, guest=True)
    # It answers whom it knows: nobody is there in the test that could say where the frames come from.
    for each in (hunt.greeting, *killer.frames) if killer.fault and hunt.greeting else killer.frames:
        book.add(Call("qemu_packet_send", {"hex": each.hex()}, {"sent": 1}))
    asks = "icmp.echo" if examiner.kind == "echo" else "arp.reply"
    answer = {"rules": [{"rule": asks, "verdict": "kept"}]}
    if killer.fault is None:
        book.add(Call("qemu_examine", {"what": asks, "address": examiner.names["guest"]}, answer))
        return book.test()
    # What it answers has come when it answers that; how well it does is not asked.
    book.add(Call("qemu_examine", {"what": asks, "address": examiner.names["guest"]}, {}))
    judged = _JUDGED.format(filter=f"ether src {examiner.names['guest_mac']}", what=killer.fault.what)
    return book.test().replace(_BEGUN, _BEGUN + _CAPTURED, 1) + judged


def numbers(path: Path, outcomes: Sequence[Outcome]) -> tuple[tuple[int | None, ...], ...]:
    """The numbers that the outcomes' frames have in the capture: each behind what was sent last before it.

    Of frames both ways, at nearly the same time, the capture may have another order than the neighbour saw: one from
    the guest may be in front of what was sent last, but not of what was sent for the outcome before.
    """
    places: dict[bytes, list[int]] = {frame.data: [] for outcome in outcomes for frame in outcome.frames}
    file = reader.open_file(path, "")
    while packets := file.take(1000):
        for number, _, _, _, data, _ in packets:
            if data in places:  # of fuzzing there may be a million others
                places[data].append(number)
    at = 0
    found = []
    for outcome in outcomes:
        own: list[int | None] = []
        before = at
        for frame in outcome.frames:
            known = [each for each in places[frame.data] if each not in own]
            place = next((each for each in known if each > at), None)
            if place is None and frame.from_guest:
                place = next((each for each in reversed(known) if each > before), None)
            at = at if frame.from_guest else place or at
            own.append(place)
        found.append(tuple(own))
    return tuple(found)
