"""What a console gives back of what was typed: where that echo ends, and how much of it is there. Pure.

A terminal's driver or a line editor wraps a long line in its own way: with CR LF, with a space and CR (readline), or by
writing the next character and a backspace (busybox). A full line editor rings the bell. None of that was typed.
"""

from __future__ import annotations

from dataclasses import dataclass

_NOISE = b"\r\n\x07"
_BLANK = ord(" ")
_MOST_WAYS = 50  # a guest that prints nothing else costs no more
_NARROW = 60  # columns that every terminal has
_TOLD = 8  # bytes of its end, by which a line is known


@dataclass(frozen=True, slots=True)
class Echo:
    """How far what was typed came back: `count` bytes of it, from `start` to `end` in the output.

    `whole` where all of it is there, `strange` where something else came first, which is no echo of it.
    """

    count: int
    end: int
    whole: bool
    strange: bool
    start: int = 0


def echo_in(output: bytes, typed: bytes, prompt: bytes) -> Echo:
    """The echo of `typed` in the output since it was typed behind `prompt`, also where it was drawn anew or otherwise.

    A line editor may write its whole line again, prompt and all: for each character, or when a line of the kernel's
    came in between. A monitor may write capitals, or an asterisk for each character: then nothing was lost either.
    """
    echo = echo_of(output, typed)
    if echo.whole:
        return echo
    drawn = max(output.rfind(b"\r" + prompt), output.rfind(b"\n" + prompt)) + 1 if prompt.strip() else 0
    begin = drawn + len(prompt) if drawn else 0
    for shown in (output[begin:], output[begin:].lower()):
        again = echo_of(shown, typed if shown == output[begin:] else typed.lower())
        if again.whole:
            start = begin if b"\n" in output[:begin] else 0  # what stands before it is its own, or another's output
            return Echo(again.count, begin + again.end, whole=True, strange=False, start=start)
    if output == b"*" * len(typed) or is_scrolled(output, typed, prompt):
        return Echo(len(typed), len(output), whole=True, strange=False)
    return echo


def echo_of(output: bytes, typed: bytes) -> Echo:
    """The echo of `typed` at the beginning of `output`.

    A blank and CR may be one that was typed, where the line was wrapped, or the terminal's own: what fits holds.
    """
    ways = [(0, 0)]
    echo = first = _follow(output, typed, ways)
    for _ in range(_MOST_WAYS):
        if not echo.strange or not ways:
            break
        echo = _follow(output, typed, ways)
    return first if echo.strange else echo


def _follow(output: bytes, typed: bytes, ways: list[tuple[int, int]]) -> Echo:
    """The echo from the place and the count on that are the last of `ways`; where it may go on otherwise is added."""
    at, count = ways.pop()
    while count < len(typed):
        width = _noise_at(output, at, typed[count])
        if width and typed[count] == output[at] == _BLANK:
            ways.append((at + width, count))
        elif width:
            at += width
            continue
        if at >= len(output):
            return Echo(count, at, whole=False, strange=False)
        took = _one(output, at, typed[count])
        if not took:
            return Echo(count, at, whole=False, strange=True)
        at, count = at + took, count + 1
    return Echo(count, at, whole=True, strange=False)


def _noise_at(output: bytes, at: int, wanted: int) -> int:
    """How many bytes at that place are the terminal's own."""
    byte, behind = output[at : at + 1], output[at + 1 : at + 2]
    if byte and byte in _NOISE and byte[0] != wanted:
        return 1
    if byte == b" " and behind == b"\r" and output[at + 2 : at + 3] not in (b"", b"\n"):
        return 2
    return 2 if byte and behind == b"\b" and byte != b"\b" else 0


def _one(output: bytes, at: int, wanted: int) -> int:
    """How many bytes at that place show the byte that was typed; 0 where they do not."""
    if output[at] == wanted:
        return 1
    if wanted == ord("\t") and output[at] == _BLANK:  # to the next tab stop
        return len(output[at : at + 8]) - len(output[at : at + 8].lstrip(b" "))
    is_caret = wanted < ord(" ") and output[at : at + 2] == bytes((ord("^"), wanted ^ 0x40))
    return 2 if is_caret else 0


def came_back(output: bytes, typed: bytes) -> int:
    """How many bytes of `typed` came back, in their order, where some were lost."""
    at = count = 0
    for byte in output:
        found = typed.find(byte, at)
        if found >= 0:
            at, count = found + 1, count + 1
    return count


def has_all(output: bytes, typed: bytes) -> bool:
    """Whether all of `typed` is there in its order, with whatever else came in between."""
    at = 0
    for byte in typed:
        at = output.find(byte, at) + 1
        if not at:
            return False
    return True


def is_scrolled(output: bytes, typed: bytes, prompt: bytes) -> bool:
    """Whether a line editor shows the end of `typed` alone, as readline does on a terminal that cannot wrap.

    It draws its line anew, then. A line that goes on below shows its end alone as well, of which nothing is told.
    """
    if len(prompt) + len(typed) < _NARROW:
        return False
    line = _drawn(output, prompt)
    mark = b"<" if line.startswith(b"<") else prompt
    is_anew = b"\r" in output.rpartition(b"\n")[2] and bool(mark) and line.startswith(mark)
    shown = line.removeprefix(mark)
    return is_anew and len(shown) >= _TOLD and typed.endswith(shown)


def _drawn(output: bytes, prompt: bytes) -> bytes:
    """What stands on the last line left of the cursor, which CR and backspaces move."""
    line, at = bytearray(), 0
    for byte in (prompt + output).rpartition(b"\n")[2]:
        if byte == ord("\r"):
            at = 0
        elif byte == ord("\b"):
            at = max(0, at - 1)
        else:
            line[at : at + 1] = bytes([byte])
            at += 1
    return bytes(line[:at])
