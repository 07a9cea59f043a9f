"""What a guest that stands shows: frames, variables, memory, code, as lines that are bounded.

All of it is gdb's reading of the guest's memory by the symbols that it was given: untrusted data, made visible here.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator

from rawtap.debug import expressions, faults
from rawtap.debug.breakpoints import addresses
from rawtap.debug.debugger import Debugger
from rawtap.debug.gdb import LOAD_SECONDS, Gdb
from rawtap.debug.places import place_at
from rawtap.debug.records import Results, rows_at, text_at
from rawtap.debug.stops import Place, Stop, arguments_of, place_of, shortened
from rawtap.errors import DebugRefused, RequestInvalid
from rawtap.untrusted import visible

_MOST_LINES = 100
_MOST_BYTES = 1024
_MOST_FRAMES = 40
_LONGEST = 400  # characters of a line
_LONGEST_VALUE = 4000  # of one that is asked for by itself
_NUMBERED = re.compile(r"([0-9]+)\t(.*)")
_FORMAT = re.compile(r"/([xduotacz]) ")
_ADDRESS = re.compile(r"0x[0-9a-f]+")
_AT_ADDRESS = re.compile(r" address (0x[0-9a-f]+)")
_STALE = "more recent than executable"
_NO_VARIABLES = "no symbols tell of variables here"


def lines_of(text: str) -> list[str]:
    """gdb's words, line by line, each within bounds."""
    return first([bounded(line.expandtabs(4)) for line in text.splitlines()])


def first(lines: list[str], most: int = _MOST_LINES) -> list[str]:
    """The first of them; where there are more, a last line says so."""
    return lines if len(lines) <= most else [*lines[:most], f"... and more; the first {most} are shown"]


def bounded(line: str, most: int = _LONGEST) -> str:
    """A line that fits into an answer, and can be read."""
    return shortened(visible(line.rstrip()), most)


async def source(debugger: Debugger, frame: int = 0) -> tuple[list[str], str]:
    """The lines around a frame's place, which is marked; and what is to be known of them, "" for nothing."""
    stop = debugger.require_stop()
    found = await _frame(debugger.gdb, stop, frame)
    number, name = "" if stop.unlike else text_at(found, "line"), text_at(found, "file")
    if not number:
        return [], ""
    answer = await debugger.gdb.command(
        "interpreter-exec",
        *_where(stop, frame),
        "console",
        f"list *({text_at(found, 'addr')}{' - 1' if frame else ''})",
    )
    told = [match for line in answer.text.splitlines() if (match := _NUMBERED.fullmatch(line))]
    if not told or told[0][2] in {f"in {name}", f"in {text_at(found, 'fullname')}"}:  # gdb's words for no file
        return [], f"{name} is not there to be shown, or outside of the project"
    note = f"{name} is newer than the program" if _STALE in answer.log else ""
    return [bounded(f"{'>' if each[1] == number else ' '}{each[1]} {each[2].expandtabs(4)}") for each in told], note


def _where(stop: Stop, frame: int) -> tuple[str, ...]:
    return ("--thread", stop.thread, "--frame", str(frame))


async def fault(debugger: Debugger) -> str:
    """The last exception that the processor took, with its place; "" where its registers tell of none."""
    stop = debugger.require_stop()
    known = [each for each in faults.NAMES if each in debugger.registers]
    if not known:
        return ""
    line = " ".join(("info registers", *known))
    answer = await debugger.gdb.command("interpreter-exec", "--thread", stop.thread, "console", line)
    told = [each.split() for each in answer.text.splitlines()]
    values = {each[0]: int(each[1], 16) for each in told if len(each) > 1 and _ADDRESS.fullmatch(each[1])}
    found = faults.fault_of(values)
    if found is None:
        return ""
    if found.at is None:
        return f"the processor's last exception: {found}"
    at = await _named(debugger, found.at)
    return bounded(f"the processor's last exception: {found}, at {at}")


async def _named(debugger: Debugger, address: int) -> Place:
    """What is at an address; without a name where other code is in memory than the files have there."""
    return await _true(debugger, await place_at(debugger.gdb, address))


async def _true(debugger: Debugger, place: Place) -> Place:
    if not place.function or place.number is None:
        return place
    code = debugger.names.code
    is_other = code.has_none(place.number) or await code.look(place.number, debugger.read) == "other"
    return Place(place.address) if is_other else place


async def _frame(gdb: Gdb, stop: Stop, frame: int) -> Results:
    found = (await gdb.command("stack-info-frame", *_where(stop, frame))).results.get("frame")
    return found if isinstance(found, dict) else {}


async def require_frame(debugger: Debugger, frame: int) -> None:
    """Raise RequestInvalid where the calls that led here are not that many."""
    at = ("--thread", debugger.require_stop().thread)
    depth = int(text_at((await debugger.gdb.command("stack-info-depth", *at, str(frame + 1))).results, "depth"))
    if frame >= depth:
        cure = 'qemu_debug(action="where") lists them'
        raise RequestInvalid(f"there is no frame {frame}", evidence=f"the last is {depth - 1}", cure=cure)


async def where(debugger: Debugger) -> list[str]:
    """The calls that led here, the newest first."""
    stop = debugger.require_stop()
    if stop.unlike:
        return [f"#0 {stop.place}", "... who called that is not told: the symbols are of other code"]
    thread = ("--thread", stop.thread)
    frames, lack = await _frames(debugger.gdb, thread)
    if not frames:
        return [bounded(lack)]
    last = str(len(frames) - 1)
    given = rows_at(
        (await debugger.gdb.command("stack-list-arguments", *thread, "--all-values", "0", last)).results, "stack-args"
    )
    lines = []
    for number, frame in enumerate(frames):
        arguments = ", ".join(arguments_of(given[number])) if number < len(given) else ""
        lines.append(bounded(f"#{number} {place_of(frame)}{f' {arguments}' if arguments else ''}"))
    return [*first(lines, _MOST_FRAMES), *([bounded(lack)] if lack else [])]


async def _frames(gdb: Gdb, thread: tuple[str, ...]) -> tuple[list[Results], str]:
    """The frames, one more than is shown; and why gdb tells no more of them, "" where there are no more."""
    try:
        return rows_at((await gdb.command("stack-list-frames", *thread, "0", str(_MOST_FRAMES))).results, "stack"), ""
    except DebugRefused as error:
        lack = f"... gdb cannot tell who called that: {error.evidence}"
    found: list[Results] = []
    with contextlib.suppress(DebugRefused):  # the same, at the first that it does not know
        while len(found) < _MOST_FRAMES:
            number = str(len(found))
            found += rows_at((await gdb.command("stack-list-frames", *thread, number, number)).results, "stack")
    return found, lack


async def variables(debugger: Debugger, frame: int) -> list[str]:
    """A frame's arguments and variables."""
    stop = debugger.require_stop()
    if stop.unlike:
        return [_NO_VARIABLES]
    answer = await debugger.gdb.command("stack-list-variables", *_where(stop, frame), "--all-values")
    rows = rows_at(answer.results, "variables")
    if not rows:
        is_known = text_at(await _frame(debugger.gdb, stop, frame), "line")
        return ["there are none" if is_known else _NO_VARIABLES]
    return first(
        [
            bounded(f"{text_at(each, 'name')} = {text_at(each, 'value')}{' (argument)' if 'arg' in each else ''}")
            for each in rows
        ]
    )


async def value(debugger: Debugger, text: str, frame: int) -> list[str]:
    """What an expression is; behind "/x " and the like in that format of gdb's, and its type."""
    stop = debugger.require_stop()
    form = _FORMAT.match(text)
    what = expressions.expression(text[form.end() :] if form else text, debugger.registers)
    ask = ("interpreter-exec", *_where(stop, frame), "console")
    shown = (await debugger.gdb.command(*ask, f"output{f'/{form[1]}' if form else ''} {what}")).text
    kind = (await debugger.gdb.command(*ask, f"whatis {what}")).text
    return [bounded(f"{what} = {shown}", _LONGEST_VALUE), bounded(kind.strip())]


async def registers(debugger: Debugger, names: str) -> list[str]:
    """A processor's registers: those that are named, or the general ones."""
    stop = debugger.require_stop()
    wanted = names.replace("$", " ").replace(",", " ").split()
    known = {*debugger.registers, "pc", "sp", "fp"}
    if unknown := [each for each in wanted if each not in known]:
        raise RequestInvalid(
            f"{unknown[0][:100]!r} is no register of this processor",
            evidence=f"there are {', '.join(debugger.registers[:60])}",
            cure="Name some of them, or none for the general ones",
        )
    line = " ".join(("info registers", *(wanted or ["general"])))
    answer = await debugger.gdb.command("interpreter-exec", "--thread", stop.thread, "console", line)
    return [" ".join(each.split()) for each in lines_of(answer.text)]


async def memory(debugger: Debugger, text: str, count: int, frame: int) -> list[str]:
    """Bytes from an address on, 16 a line, with the characters that they would be."""
    stop = debugger.require_stop()
    what = expressions.expression(text, debugger.registers)
    if count > _MOST_BYTES:
        raise RequestInvalid(f"count={count} bytes are too many", cure=f"At most {_MOST_BYTES}")
    at = _where(stop, frame)
    answer = await debugger.gdb.command("data-read-memory-bytes", *at, "--", what, str(count))
    lines: list[str] = []
    read = 0
    for block in rows_at(answer.results, "memory"):
        begin, data = int(text_at(block, "begin"), 16), bytes.fromhex(text_at(block, "contents"))
        is_last = int(text_at(block, "offset"), 16) + len(data) == count
        if not is_last and not await _is_readable(debugger.gdb, begin + len(data) - 1):
            data = data[:-1]
        lines += _hexadecimal(begin, data)
        read += len(data)
    if read < count:  # gdb leaves out what it cannot read
        lines.append(f"{count - read} of the {count} bytes cannot be read")
    return lines


async def _is_readable(gdb: Gdb, address: int) -> bool:
    """Whether that byte is there. In front of what it cannot read, gdb gives a byte too many, of its own memory."""
    try:
        await gdb.command("data-read-memory-bytes", "--", f"{address:#x}", "1")
    except DebugRefused:
        return False
    return True


def _hexadecimal(begin: int, data: bytes) -> Iterator[str]:
    for at in range(0, len(data), 16):
        part = data[at : at + 16]
        seen = "".join(chr(each) if chr(each).isascii() and chr(each).isprintable() else "." for each in part)
        yield f"{begin + at:#x}: {part.hex(' '):<47} {seen}"


async def code(debugger: Debugger, place: str, count: int) -> list[str]:
    """Instructions at a place, or from where it stands."""
    stop = debugger.require_stop()
    start, *others = await _addresses(debugger, place) if place else ["$pc"]
    line = f"x/{min(count, _MOST_LINES + 1)}i {start}"
    answer = await debugger.gdb.command("interpreter-exec", *_where(stop, 0), "console", line)
    more = [bounded(f"there is code of it at {', '.join(others)}, too")] if others else []
    return lines_of(answer.text) + more


async def _addresses(debugger: Debugger, place: str) -> list[str]:
    """Where the code of a place is: one at least, and several for a name that several have."""
    match expressions.place(place):
        case (address,):
            return [address[1:]]
        case ("--function", name):
            line = f"info line -function {name}"
        case ("--source", file, "--line", number):
            line = f"info line -source {file} -line {number}"
        case _:
            raise RuntimeError("a place of another kind")
    said = await debugger.gdb.say(line)
    found = _AT_ADDRESS.findall(said)  # a file's name may look like an address
    if not found:
        raise DebugRefused(f"there is no code at {place[:200]!r}", evidence=bounded(said), cure="Name another place")
    return found


async def symbols(debugger: Debugger, pattern: str, place: str) -> list[str]:
    """Functions, variables and types whose names fit a pattern; or what is at a place.

    It needs no guest that stands.
    """
    gdb = debugger.gdb
    if place:
        asked = [f"info {what}{each}" for each in await _addresses(debugger, place) for what in ("symbol ", "line *")]
        told = [await gdb.say(each) for each in asked[: _MOST_LINES + 1]]
        return lines_of("\n".join(each.rstrip("\n") for each in told))
    name = expressions.basic(expressions.pattern(pattern))
    lines: list[str] = []
    for kind in ("functions", "variables", "types"):
        bare = () if kind == "types" else ("--include-nondebug",)
        words = (*bare, "--name", name, "--max-results", str(_MOST_LINES + 1))
        answer = await gdb.command(f"symbol-info-{kind}", *words, timeout=LOAD_SECONDS)  # a Linux has many
        for file in rows_at(answer.results, "symbols", "debug"):
            where = text_at(file, "filename").rpartition("/")[2]
            lines += (f"{where}:{text_at(each, 'line')} {_described(each)}" for each in rows_at(file, "symbols"))
        lines += (f"{text_at(each, 'address')} {text_at(each, 'name')}" for each in _bare(answer.results))
    return first([bounded(each) for each in lines])


def _described(symbol: Results) -> str:
    return text_at(symbol, "description") or text_at(symbol, "name")


def _bare(results: Results) -> Iterable[Results]:
    return rows_at(results, "symbols", "nondebug")


async def processors(debugger: Debugger) -> list[str]:
    """The processors, and where each stands."""
    stop = debugger.require_stop()
    rows = rows_at((await debugger.gdb.command("thread-info")).results, "threads")
    lines = []
    for each in rows:
        frame = each.get("frame")
        mark = ">" if text_at(each, "id") == stop.thread else " "
        place = await _true(debugger, place_of(frame)) if isinstance(frame, dict) else "runs"
        lines.append(bounded(f"{mark}{text_at(each, 'id')} {text_at(each, 'details')} {place}"))
    return first(lines)


async def doubt(debugger: Debugger, row: Results) -> str:
    """That a breakpoint's code is not in memory now, to be said behind its line; "" where it is, or nobody knows."""
    if debugger.stop is None:  # of a guest that runs gdb reads no memory
        return ""
    looks = {await debugger.names.code.look(int(each, 16), debugger.read) for each in addresses(row)}
    if looks & {"same", "unknown"} or not looks:
        return ""
    what = "other code is in memory" if "other" in looks else "nothing can be read"
    return f"; {what} there now: it is not loaded yet, or runs elsewhere"


def breakpoint_line(row: Results) -> str:
    """A breakpoint in a line."""
    places = [str(place_of(each)) for each in rows_at(row, "locations") or [row]]  # a name may be one of several
    what = f"watches {text_at(row, 'what')}" if "what" in row else ", ".join(places)
    condition = f" if {shortened(text_at(row, 'cond'))}" if "cond" in row else ""
    once = ", once" if text_at(row, "disp") == "del" else ""  # of action="until"
    return bounded(f"{text_at(row, 'number')}: {what}{condition}{once}, hit {text_at(row, 'times') or '0'} times")
