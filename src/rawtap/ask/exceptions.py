"""A RISC-V's or an Arm's exceptions in words: which, how often, and which came inside the handler of another. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rawtap.debug import faults
from rawtap.debug.faults import Fault
from rawtap.guest.exception_log import Seen, Taken

MOST = 8  # that are shown
_OWN = 3  # of the kernel's beside them, where programs' were newer
_MANY = 3  # in a row at one instruction: more than a page that is brought in
_NO_PLACE = "QEMU's log does not tell where"
_BY_LINK = "by its link register, if its handler has not changed that"


@dataclass(frozen=True)
class Step:
    """A line of it: its words, the address of the instruction, None where that is not known, and what follows that."""

    text: str
    at: int | None
    more: str = ""


def shown(seen: Sequence[Seen]) -> list[Seen]:
    """The newest; in front of programs', what an Arm's kernel took from itself before. RISC-V's log has no levels."""
    newest = [*seen[-MOST:]]
    if all(each.taken.level != 0 for each in newest):
        return newest
    return [each for each in seen[:-MOST] if each.taken.level][-_OWN:] + newest


def steps(seen: Sequence[Seen], boot: int, registers: Mapping[int, Mapping[str, int]]) -> list[Step]:
    """A line for each, the newest last.

    Args:
        seen: What was logged, the newest last.
        boot: How often the machine was reset by now.
        registers: Those of each processor, as far as they are known, at about the time of the newest.
    """
    return [
        _step(number, each, boot, registers.get(each.taken.processor, {}) if each is seen[-1] else {})
        for number, each in enumerate(seen, 1)
    ]


def _step(number: int, seen: Seen, boot: int, registers: Mapping[str, int]) -> Step:
    taken = seen.taken
    front = "before the last reset, or right behind it: " if taken.boot < boot else ""
    fault = _fault(taken)
    first = f" (the first of them {seen.first:#x})" if _wandered(seen, fault) and seen.first is not None else ""
    at, by = fault.at, ""
    if at is None and taken.boot == boot and _is_of_link(taken):
        at = faults.handled_at(registers, is_data_abort=taken.data is not None)
        by = _BY_LINK if at is not None else ""
    more = [by, _NO_PLACE if at is None else "", *_often(seen)]
    return Step(f"{number}. {front}{fault}{first}", at, "; ".join(filter(None, more)))


def _wandered(seen: Seen, fault: Fault) -> bool:
    return fault.address is not None and seen.first != fault.address


def _is_of_link(taken: Taken) -> bool:
    """Whether the link register tells its place: an AArch32's that went to the mode of aborts, or of undefined ones."""
    return taken.data is not None or taken.name == "Undefined Instruction"


def _often(seen: Seen) -> list[str]:
    """How often it came, and what that says of its handler."""
    times = [f"{seen.count} times"] if seen.count > 1 else []
    if seen.own:
        return [*times, f"{seen.own} of them before its own handler had returned: the handler faults itself"]
    if seen.inside:
        return [*times, "inside the handler of the one before, which had not returned"]
    if seen.row >= _MANY:
        in_row = "" if seen.row == seen.count else f", the last {seen.row}"
        words = "in a row: its handler faults itself there, or returns and it happens again"
        return [f"{times[0]}{in_row} {words}"]
    return times


def _fault(taken: Taken) -> Fault:
    """By the tables of the registers that the log has, else by QEMU's word for it."""
    at, address = taken.at, taken.address
    if taken.cause is not None:
        found = faults.of_riscv(taken.cause, at, address, "cause")
        return found or Fault(f"{taken.name} (cause {taken.cause})", at, address)
    if taken.data is not None:
        return faults.of_data_abort(taken.data, at, address)
    if taken.fetch is not None:
        return faults.of_prefetch_abort(taken.fetch, at, address if at is not None else None)
    if taken.syndrome and (found := faults.of_aarch64(taken.syndrome, at, address, "ESR")):
        return found
    name = taken.name if taken.name.startswith("v") else taken.name.lower()  # v7M INVSTATE UsageFault
    about = ", ".join(filter(None, (taken.status, f"ESR {taken.syndrome:#x}" if taken.syndrome else "")))
    return Fault(f"{name} ({about})" if about else name, at, address)
