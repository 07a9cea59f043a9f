"""An x86's exceptions in words: which, why by its error code, and which led to which. Pure.

Intel 64 and IA-32 Architectures Software Developer's Manual, volume 3: 4.7 (a page fault's error code), 6.13 (that of
others), 6.15 (each exception; table 6-5 has those of which two make a double fault).
"""

from __future__ import annotations

from collections.abc import Iterator

from rawtap.guest.processor_log import Trap, TripleFault

DOUBLE, PAGE = 8, 14
_NAMES = {
    0: "divide error (#DE)",
    1: "debug exception (#DB)",
    2: "non-maskable interrupt",
    3: "breakpoint (#BP)",
    4: "overflow (#OF)",
    5: "bound range exceeded (#BR)",
    6: "invalid opcode (#UD)",
    7: "no floating point unit (#NM)",
    DOUBLE: "double fault (#DF)",
    10: "invalid TSS (#TS)",
    11: "segment not present (#NP)",
    12: "stack segment fault (#SS)",
    13: "general protection (#GP)",
    PAGE: "page fault (#PF)",
    16: "floating point error (#MF)",
    17: "alignment check (#AC)",
    18: "machine check (#MC)",
    19: "SIMD floating point error (#XM)",
    21: "control protection (#CP)",
}
_SELECTED = {10, 11, 12, 13}  # whose error code names an entry of a table
_OF_HANDLERS, _LOCAL = 2, 4
_PRESENT, _WRITE, _USER, _RESERVED, _FETCH = (1 << each for each in range(5))
_FRAME = 256  # bytes below the stack pointer that a push, or code that has not moved it yet, may reach
_NEAR = 8192  # above it, which a function may just have made room for
_EMPTY = 7  # the limit of a table that has not even one entry


def name(vector: int) -> str:
    """What an exception is called."""
    return _NAMES.get(vector, f"exception {vector}")


def told(trap: Trap) -> str:
    """One exception, and what its error code says."""
    if trap.taken is None:
        return name(trap.raised)
    if trap.taken == DOUBLE and trap.during is not None:
        return f"{name(trap.raised)}, of which the processor makes a double fault (#DF)"
    if trap.taken == PAGE:
        return f"{name(PAGE)}: {_access(trap)}{_stack(trap)}"
    if trap.taken in _SELECTED:
        return f"{name(trap.taken)}{_entry(trap.error)}"
    return name(trap.taken)


def _access(trap: Trap) -> str:
    code = trap.error
    what = "an instruction is fetched" if code & _FETCH else "a write" if code & _WRITE else "a read"
    who = "a program" if code & _USER else "the kernel"
    if code & _RESERVED:
        why = "a reserved bit is set in the page tables"
    else:
        why = "the page tables forbid it" if code & _PRESENT else "the page is not present"
    return f"{what} by {who} at {trap.address:#x}, {why} (error code {code:#x})"


def _stack(trap: Trap) -> str:
    """That a kernel wrote where its stack is, and nothing is there; a program's stack grows by such faults."""
    near = -_FRAME <= trap.address - trap.stack <= _NEAR
    is_beyond = trap.error & (_WRITE | _PRESENT | _USER | _FETCH) == _WRITE
    return ", where the stack pointer is: a stack overflow, or a wrong stack pointer" if near and is_beyond else ""


def _entry(code: int) -> str:
    """What an error code names."""
    if not code:
        return " (error code 0: it names no segment and no handler)"
    if code & _OF_HANDLERS:
        return f": a handler in the IDT cannot be used (error code {code:#x})"
    table = "LDT" if code & _LOCAL else "GDT"
    return f": entry {code >> 3} of the {table} (error code {code:#x})"


def chain(fault: TripleFault) -> Iterator[tuple[str, int | None]]:
    """What led to a triple fault, a line each, with the address of its instruction where there is one to tell."""
    steps = fault.chain
    # The first has such a one where the log was begun in between.
    delivered = name(steps[0].during) if steps and steps[0].during is not None else ""
    for number, each in enumerate(steps, 1):
        front = f"while {delivered} was delivered: " if delivered else ""
        last = ", a triple fault: the processor resets" if delivered and each.taken is None else ""
        is_known = number == 1 and each.taken is not None
        stack = f", stack pointer {each.stack:#x}" if is_known else ""
        yield f"{number}. {front}{told(each)}{stack}{last}", each.at if is_known else None
        delivered = name(each.raised if each.taken is None else each.taken)
    if not steps and fault.at is None:
        yield "QEMU ended at it, and did not tell where", None
    elif not steps:
        about = f", and the last page fault (CR2) was about {fault.address:#x}" if fault.address else ""
        yield f"the processor was at an instruction that it could not end{about}", fault.at
    if fault.table is not None and fault.table[1] <= _EMPTY:
        yield "there is no table of handlers: the IDT's limit is below one entry", None
    elif fault.table is not None and fault.table[0] == 0:
        yield "the table of handlers (IDT) is at address 0: was it never loaded?", None
