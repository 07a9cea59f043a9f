"""An agent's calls as the source of a pytest. Pure.

Everything that an agent or a guest wrote gets into it as a Python literal only. What a test expects is what came when
the agent did the same, without what is never twice the same: times, addresses in memory, long numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from keyword import iskeyword
from typing import Any

MOST = 1 << 20  # characters of a test
_LINES = 5  # of an output
_LONGEST = 200  # characters of a line
_HEAD = '''"""{told}{left}"""

{imports}

def test_recorded(lab: Lab{guest}) -> None:
'''
_TOLD = "What an agent did, written down by rawtap: change what it expects as you need."
_CURSORS = {"qemu_timeline": "since"}  # where it is not called so; no other server takes one
_NEVER_TWICE = re.compile(
    r"""(?P<kept>\b\d{1,3}(?:\.\d{1,3}){3}\b)            # an IPv4 address
    | (?:[0-9a-f]{2}:){5}[0-9a-f]{2}                     # a link address, and an IPv6 address made of one
    | (?:[0-9a-f]{0,4}:){2,}[0-9a-f]{0,2}ff:fe[0-9a-f]{2}:[0-9a-f]{1,4}\b
    | \b0x[0-9a-f]+ | \b(?=[a-f]*\d)[0-9a-f]{8,}\b
    | \d+\.\d+ | \d{4,} | \b\d+(?:[ ]?(?:[munk]?s|[KMG]i?B|bytes)\b) | \b\d\d:\d\d(?::\d\d)?\b""",
    re.VERBOSE | re.IGNORECASE,
)


@dataclass(frozen=True)
class Call:
    """A tool's name, what it was given, and its answer; or the code of its error."""

    tool: str
    arguments: Mapping[str, Any]
    answer: Mapping[str, Any] | None
    code: str = ""


class Book:
    """A client's calls so far, as the lines of a test: the first ones, for what comes later stands on them.

    The file begins with `told`; with `guest`, the project's guest is booted before the calls.

    Attributes:
        calls: How many are in it.
        left: How many came when it was full.
    """

    def __init__(self, told: str = _TOLD, *, guest: bool = False) -> None:
        self._told, self._guest = told, guest
        self.calls = self.left = 0
        self._files: dict[str, str] = {}  # captures by the paths of their files
        self._body = ""

    def add(self, call: Call) -> None:
        """Write down one more."""
        for each in (call.answer, (call.answer or {}).get("capture")):  # a guest may be booted with one
            if isinstance(each, Mapping) and "capture" in each and isinstance(path := each.get("path"), str):
                self._files[path] = str(each["capture"])
        if call.arguments.get(_CURSORS.get(call.tool, "cursor")):  # a page more of what was asked for before
            return
        lines = "".join(f"    {line}\n" for line in _lines(call, self._files))
        if self.left or len(self._body) + len(lines) > MOST:
            self.left += 1
        else:
            self.calls += 1
            self._body += lines

    def test(self) -> str:
        """The whole file."""
        left = f"\n\nThe last {self.left} calls are not in it: there was no room for them.\n" if self.left else ""
        body = self._body or "    pass\n"
        imports, given = _imports(body, "Guest, Lab" if self._guest else "Lab"), ", guest: Guest" if self._guest else ""
        return _HEAD.format(told=self._told, left=left, imports=imports, guest=given) + body


def _imports(body: str, names: str) -> str:
    """What the test needs."""
    standard = "import re\n\n" if "assert re.search(" in body else ""
    if "with pytest.raises(" in body:
        return f"{standard}import pytest\nfrom rawtap import CallFailed, {names}\n"
    return f"{standard}from rawtap import {names}\n"


def _lines(call: Call, files: Mapping[str, str]) -> list[str]:
    given = dict(call.arguments)
    if isinstance(path := given.get("path"), str) and path in files:  # its name has the time in it
        given["capture"] = files[given.pop("path")]
    words = "".join(f", {key}={each!r}" for key, each in given.items())
    if not all(key.isidentifier() and not iskeyword(key) for key in given):
        words = f", **{given!r}"
    made = f"lab.call({call.tool!r}{words})"
    if call.answer is None:
        return [f"with pytest.raises(CallFailed, match={'^' + re.escape(call.code) + ':'!r}):", f"    {made}"]
    expected = _EXPECTED.get(call.tool, _nothing)(call) if call.answer else []
    return [f"answer = {made}" if expected else made, *(f"assert {each}" for each in expected)]


def _nothing(_: Call) -> list[str]:
    return []


def _same(*fields: str) -> Callable[[Call], list[str]]:
    """That these are what they were."""

    def expected(call: Call) -> list[str]:
        answer = call.answer or {}
        return [f"answer[{name!r}] == {answer[name]!r}" for name in fields if name in answer]

    return expected


def _some(field: str) -> Callable[[Call], list[str]]:
    """That there are some, or none, as there were."""

    def expected(call: Call) -> list[str]:
        return [f"answer[{field!r}]" if (call.answer or {}).get(field) else f"not answer[{field!r}]"]

    return expected


def _console(call: Call) -> list[str]:
    """That it came to its end, as it did, and what the output said, in order."""
    answer = call.answer or {}
    found = ["answer['matched']"] if answer["matched"] else []
    if answer.get("exit_status") is not None:
        found.append(f"answer['exit_status'] == {answer['exit_status']}")
    typed = str(call.arguments.get("command", ""))
    return [*found, *(f"re.search({each!r}, answer['output'])" for each in patterns(answer["output"], typed))]


def patterns(output: str, typed: str) -> list[str]:
    """A regular expression for each of the last lines of an output, without the echo, the prompt and what varies."""
    lines = output.splitlines()[:-1]  # the last is the prompt
    told = [line.strip() for line in lines if re.search("[A-Za-z]", line)]
    said = [line for line in told if not typed or not line.endswith(typed)]
    return [_pattern(line[:_LONGEST]) for line in said[-_LINES:]]


def _pattern(line: str) -> str:
    parts, at = [], 0
    for found in _NEVER_TWICE.finditer(line):
        parts += [re.escape(line[at : found.start()]), re.escape(found[0]) if found["kept"] else ".+?"]
        at = found.end()
    return "".join([*parts, re.escape(line[at:])])


def _boot(call: Call) -> list[str]:
    return ["answer['prompt_seen']"] if (call.answer or {})["prompt_seen"] else []


def _waited(call: Call) -> list[str]:
    is_kept = (call.answer or {})["satisfied"] or call.arguments.get("absent")
    return _same("satisfied")(call) if is_kept else []


def _stopped(call: Call) -> list[str]:
    lost = [] if (call.answer or {})["dropped_kernel"] else ["not answer['dropped_kernel']"]
    return [*_some("packets")(call), *lost]


def _explained(call: Call) -> list[str]:
    found = sorted({str(each["what"]) for each in (call.answer or {})["findings"]})
    return [f"sorted({{each['what'] for each in answer['findings']}}) == {found!r}"]


def _examined(call: Call) -> list[str]:
    found = {str(each["rule"]): str(each["verdict"]) for each in (call.answer or {})["rules"]}
    return [f"{{each['rule']: each['verdict'] for each in answer['rules']}} == {found!r}"]


_EXPECTED: Mapping[str, Callable[[Call], list[str]]] = {
    "qemu_boot": _boot,
    "qemu_send": _console,
    "qemu_read": _console,
    "qemu_shutdown": _same("exit_code"),
    "qemu_pcap_wait": _waited,
    "qemu_pcap_stop": _stopped,
    "qemu_pcap_read": _some("matched"),
    "qemu_pcap_explain": _explained,
    "qemu_examine": _examined,
    "qemu_pcap_query": _some("rows"),
    "qemu_packet_send": _same("sent"),
    "qemu_link": _same("up", "carrier"),
}
