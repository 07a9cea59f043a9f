"""Where a guest stands, and why, as gdb tells it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from rawtap.debug.records import Results, rows_at, text_at

SHOWN_NAME = 120  # characters
_SHOWN = 200  # of a value
_MOST_ARGUMENTS = 12
_REASONS = {
    "end-stepping-range": "the step's end",
    "function-finished": "the function's end",
    "watchpoint-scope": "what was watched is gone with its function",
}


@dataclass(frozen=True)
class Place:
    """A place in a guest's code: a function, its file and line where symbols tell them, else the address alone."""

    address: str
    function: str = ""
    file: str = ""
    line: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.address
        return f"{self.function} ({where})" if self.function else where

    @property
    def number(self) -> int | None:
        """Its address as a number; None where it is none."""
        try:
            return int(self.address, 16)
        except ValueError:
            return None


@dataclass(frozen=True)
class Stop:
    """A stop of the guest's.

    Attributes:
        why: In words, like "breakpoint 1".
        place: Where.
        arguments: Of the function, as ``name=value``.
        thread: gdb's number of the processor.
        returned: What the function that was finished returned, "" for nothing known.
        breakpoints: The numbers of those that it is at.
        frame: What is in memory there for the network, in a line; "" where nobody looked for that.
        unlike: That other code is in memory there than the files with symbols have, in words: so no name is known.
    """

    why: str
    place: Place
    arguments: tuple[str, ...]
    thread: str
    returned: str = ""
    breakpoints: tuple[str, ...] = ()
    frame: str = ""
    unlike: str = ""

    def __str__(self) -> str:
        return f"{self.place}: {self.why}"


def place_of(frame: Results) -> Place:
    """The place of a frame."""
    file = text_at(frame, "file")
    function = text_at(frame, "func") or text_at(frame, "at").strip("<>").partition("+")[0]  # a breakpoint's
    return Place(
        text_at(frame, "addr"),
        "" if function == "??" else shortened(function, SHOWN_NAME),
        shortened(file.rpartition("/")[2], SHOWN_NAME),
        text_at(frame, "line") if file else "",
    )


def arguments_of(frame: Results) -> tuple[str, ...]:
    """The arguments of a frame's function."""
    found = [f"{text_at(each, 'name')}={shortened(text_at(each, 'value'))}" for each in rows_at(frame, "args")]
    more = len(found) - _MOST_ARGUMENTS
    return (*found[:_MOST_ARGUMENTS], f"... {more} more") if more > 0 else tuple(found)


def stop_of(results: Results) -> Stop:
    """The stop that a record "stopped" tells."""
    frame = results.get("frame")
    frame = frame if isinstance(frame, dict) else {}
    number = text_at(results, "bkptno")
    return Stop(
        why=_why(results),
        place=place_of(frame),
        arguments=arguments_of(frame),
        thread=text_at(results, "thread-id") or "1",
        returned=shortened(text_at(results, "return-value")),
        breakpoints=(number,) if number else (),
    )


def _why(results: Results) -> str:
    reason = text_at(results, "reason")
    if reason == "breakpoint-hit" and text_at(results, "disp") == "del":
        return "the place was reached"
    if reason == "breakpoint-hit":
        return f"breakpoint {text_at(results, 'bkptno')}"
    if reason.endswith("watchpoint-trigger"):
        about = next(
            (each for name in ("wpt", "hw-awpt", "hw-rwpt") if isinstance(each := results.get(name), dict)), {}
        )
        old, new, read = (shortened(text_at(results, "value", each)) for each in ("old", "new", "value"))
        change = f"was {old}, is {new}" if new else f"read: {read}"
        return f"watchpoint {text_at(about, 'number')}, {shortened(text_at(about, 'exp'))}: {change}"
    if reason == "signal-received":
        name = text_at(results, "signal-name")
        return (
            "an interrupt" if name in {"SIGINT", "0"} else f"the signal {name} ({text_at(results, 'signal-meaning')})"
        )
    return _REASONS.get(reason, reason or "the debugger came")


def shortened(text: str, most: int = _SHOWN) -> str:
    """A value within a line."""
    return text if len(text) <= most else f"{text[:most]}..."
