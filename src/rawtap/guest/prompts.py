"""What a console's prompts are, and whether one stands at its end. Pure.

A prompt is the whole of the last line, and nothing comes behind it. How long nothing must come, before it is believed,
depends on how much speaks for it: a prompt as it is known, one that differs from it only where prompts do (a folder, a
time, a counter), or one behind output that has no line end of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from rawtap.guest.patterns import Pattern, Wanted, compiled
from rawtap.guest.profile import SHELL

_NAME = 3  # bytes of a name that tells one prompt from another
_KEPT = 16
LONGEST = 256  # bytes of a line that can be a prompt

SURE, _SHORT, _ALIKE, _BEHIND_TEXT = 0.001, 0.06, 0.3, 0.5  # seconds of silence
_DOUBTED = 0.6  # of a prompt of one character, where such a one was none

# A name, what may change, and how it ends: "root@vm:" "/tmp" "# ".
_PARTS = re.compile(rb"(\W?[A-Za-z_][\w.-]*(?:@[\w.-]+)?(?=[^\w.-]))?(.*?)([^\w\s~/]+[ \t]?)")
_PATH = re.compile(rb"[~/]")
_DIGITS = re.compile(rb"[0-9]+")
_ASKS_TO_LOG_IN = re.compile(rb"(?:^|.*[\w\])] )login: ?|[Uu]sername: ?|[Ll]ogin: ?")
_ASKS_FOR_PASSWORD = re.compile(rb"(?:[\w' .\[\]-]{1,60} )?[Pp]assword(?: for [\w.-]{1,60})?: ?")
_ASKS_FOR_A_KEY = re.compile(
    rb"(?i).*(?:--more--.*|\(end\)|\b(?:press|hit|strike|type)\b.{0,40}\b(?:key|enter|return)\b.*)"
)
_LIKE_A_PROMPT = re.compile(rb"[^\n]{0,200}[#$%>:)?\]] ?")


@dataclass(frozen=True, slots=True)
class Standing:
    """A prompt that stands at the console's end: its name, where its line begins, and the silence that it takes."""

    name: str
    start: int
    silence: float


def last_line(tail: bytes) -> bytes:
    """What stands behind the last line end."""
    return tail[max(tail.rfind(b"\n"), tail.rfind(b"\r")) + 1 :]


def asks_to_log_in(line: bytes) -> bool:
    """Whether getty, or something like it, asks for a user."""
    return bool(_ASKS_TO_LOG_IN.fullmatch(line))


def asks_for_password(line: bytes) -> bool:
    """Whether something asks for a password."""
    return bool(_ASKS_FOR_PASSWORD.fullmatch(line))


def is_like_a_prompt(line: bytes) -> bool:
    """Whether a line that stands there could be one that nobody told of."""
    return bool(line.strip()) and bool(_LIKE_A_PROMPT.fullmatch(line)) and not asks_to_log_in(line)


def asks_for_input(line: bytes) -> bool:
    """Whether what runs may wait there for an answer, or for a key."""
    asks = line.endswith(b" ") and is_like_a_prompt(line)
    return asks or asks_at_once(line) or bool(_ASKS_FOR_A_KEY.fullmatch(line))


def asks_at_once(line: bytes) -> bool:
    """Whether it asks for a user or a password."""
    return asks_to_log_in(line) or asks_for_password(line)


def alike(line: bytes) -> re.Pattern[bytes] | None:
    """A pattern for prompts that differ from `line` where prompts do; None where it has no such place."""
    match = _PARTS.fullmatch(line)
    if match is None:
        return None
    name, between, end = match[1] or b"", match[2], match[3]
    if len(name) >= _NAME and between:
        return re.compile(_with_any_number(name) + rb"[^\n\r]{0,200}?" + re.escape(end))
    if not name and _PATH.match(between):
        return re.compile(rb"[~/][^\n\r]{0,200}?" + re.escape(end))
    return re.compile(_with_any_number(line)) if _DIGITS.search(line) else None


def _with_any_number(text: bytes) -> bytes:
    return rb"[0-9]+".join(re.escape(part) for part in _DIGITS.split(text))


@dataclass
class Prompts:
    """The prompts of one guest: those of its profile by their names, and what was seen or learned of them.

    `learned` is the line that the console gave when Enter was typed; it is SHELL's, where the profile has none.
    `doubted` tells that output came behind what was taken for a prompt.
    """

    named: Mapping[str, str | Pattern] = field(default_factory=dict)
    learned: bytes | None = None
    doubted: bool = False
    _exact: dict[str, Wanted] = field(init=False)
    _seen: set[bytes] = field(default_factory=set)
    _alike: dict[bytes, re.Pattern[bytes] | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._exact = {name: compiled(prompt) for name, prompt in self.named.items()}

    @property
    def known(self) -> bool:
        """Whether there is one at all."""
        return bool(self._exact) or self.learned is not None

    def shown(self, name: str = SHELL) -> str:
        """A prompt, in words."""
        prompt = self.named.get(name)
        if prompt is None:
            return (self.learned or b"").decode("utf-8", "replace")
        return prompt if isinstance(prompt, str) else prompt.regex

    def learn(self, line: bytes) -> None:
        """That line is a prompt."""
        self.learned = line

    def note(self, line: bytes) -> None:
        """That line stood as a prompt: later ones may differ from it. One that stood before is known by now."""
        if line in self._alike and len(self._seen) < _KEPT:
            self._seen.add(line)
        if len(self._alike) < _KEPT and line not in self._alike:
            self._alike[line] = alike(line)

    def standing(self, tail: bytes, end: int) -> Standing | None:
        """The prompt at the end of `tail`, whose end is at the position `end` in the stream."""
        line = last_line(tail)
        start = end - len(line)
        if not line.strip():
            return self._before_line_end(tail, end)
        whole = self._in(line, start) if len(line) <= LONGEST else None
        return whole or self._behind(line, end)

    def is_buried(self, tail: bytes) -> bool:
        """Whether a prompt began a line of `tail` and something was said behind it: a log, while nobody typed."""
        texts = [re.escape(text) for text in self._texts().values() if text.strip()]
        return bool(texts) and re.search(rb"(?:^|[\r\n])(?:" + b"|".join(texts) + rb")[^\r\n]", tail) is not None

    def _in(self, line: bytes, start: int) -> Standing | None:
        silence = SURE if len(line.strip()) > 1 else _DOUBTED if self.doubted else _SHORT
        for name, wanted in self._exact.items():
            if wanted.covers(line) or wanted.covers(line.rstrip(b" ")):
                return Standing(name, start, silence)
            if wanted.covers(line + b" "):  # the blank may be on its way
                return Standing(name, start, _SHORT)
        if line == self.learned or line in self._seen:
            return Standing(SHELL, start, silence)
        if any(pattern is not None and pattern.fullmatch(line) for pattern in self._alike.values()):
            return Standing(SHELL, start, _ALIKE)
        return None

    def _behind(self, line: bytes, end: int) -> Standing | None:
        """A prompt behind output that has no line end of its own."""
        for name, text in self._texts().items():
            if text.strip() and line.endswith(text):
                return Standing(name, end - len(text), _BEHIND_TEXT)
        return None

    def _texts(self) -> dict[str, bytes]:
        texts = {name: text.encode() for name, text in self.named.items() if isinstance(text, str)}
        return texts | ({SHELL: self.learned} if self.learned else {})

    def _before_line_end(self, tail: bytes, end: int) -> Standing | None:
        """A prompt that is told without its last blank may have a line end behind it: "ready"."""
        line = last_line(tail.rstrip(b"\r\n \t"))
        for name, text in self._texts().items():
            if text == text.rstrip() and len(text) > 1 and line == text:
                return Standing(name, end - len(tail) + tail.rindex(line), SURE)
        return None
