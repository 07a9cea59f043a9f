"""What tshark is asked, and what it answers: its arguments, its columns, its complaints. Pure.

Sources: tshark(1), wireshark-filter(4).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

REFUSED = 2  # tshark's exit code for a display filter that is none
MAX_DISPLAY_FILTER = 4000  # characters
_INPUT = ("-n", "-r", "-")  # no names are looked up; the packets come by its standard input
_OWN_WORDS = "tshark: "
_SCRIPT = "/init.lua"  # which it may not read here
_ENDS = re.compile(r"^ *[\^~]+ *$")
_NO_LINK = "frame.encap_type == 0 or user_dlt"  # a link type that is not known, or is anybody's own
_COUNTING = f"Filter: {_NO_LINK}".encode()
_COUNTED = re.compile(rb"^frame +frames:([0-9]+)", re.MULTILINE)


def selecting(display_filter: str) -> tuple[str, ...]:
    """Arguments: tell the numbers of the packets that pass, and count those of all that are not read for their link."""
    return (*_INPUT, "-Y", display_filter, "-T", "fields", "-e", "frame.number", "-z", f"io,phs,{_NO_LINK}")


def columns(numbers: Iterable[int]) -> tuple[str, ...]:
    """Arguments: tell the protocol and the words of these packets."""
    fields = ("frame.number", "_ws.col.Protocol", "_ws.col.Info")
    return (*_INPUT, "-Y", _among(numbers), "-T", "fields", *(word for each in fields for word in ("-e", each)))


def layers(numbers: Iterable[int]) -> tuple[str, ...]:
    """Arguments: take these packets apart."""
    return (*_INPUT, "-Y", _among(numbers), "-T", "pdml")


def _among(numbers: Iterable[int]) -> str:
    return f"frame.number in {{{','.join(map(str, numbers))}}}"


def numbers_in(output: bytes) -> list[int]:
    """What `selecting` brought."""
    return [int(line) for line in output.splitlines() if line.isdigit()]


def without_link_in(output: bytes) -> int | None:
    """How many packets tshark does not read, as `selecting` brought it; None where it did not count them."""
    if _COUNTING not in output:
        return None
    found = _COUNTED.search(output)
    return int(found[1]) if found else 0


def columns_in(output: bytes) -> Iterator[tuple[int, str, str]]:
    """What `columns` brought: number, protocol, words."""
    for line in output.decode("utf-8", "replace").split("\n"):
        number, *rest = line.split("\t", 2)
        if number.isdigit() and len(rest) == 2:  # noqa: PLR2004 - both of them
            yield int(number), rest[0], rest[1]


def complaint(stderr: str) -> str:
    """What tshark says is wrong, in its own words; the line in which it points at the place is left out."""
    lines = stderr.split("\n")
    begin = next((at for at, line in enumerate(lines) if line.startswith(_OWN_WORDS) and _SCRIPT not in line), 0)
    said = [line.strip() for line in lines[begin:] if line.strip() and not _ENDS.match(line)]
    return "; ".join(said).removeprefix(_OWN_WORDS)
