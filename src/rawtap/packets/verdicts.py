"""Verdicts that were given, for their next pages: a page after the first costs no examination."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from rawtap.packets.explain import Verdict

_MOST = 8


class Subject(NamedTuple):
    """What a verdict is on: whose packets, in which state, by which filter.

    `state` is of a file its inode, size and time of change, so that another file of the same name is another subject.
    """

    name: str
    state: tuple[int, ...]
    expression: str


class Given(NamedTuple):
    """A verdict as things stood at `until_ns`; `more` tells that time ran out, `lacking` what was lost, and what
    files lack, in words.

    `tagged` packets were passed over for their VLAN tag alone.
    """

    verdict: Verdict
    until_ns: int
    more: bool
    lacking: tuple[str, ...]
    tagged: int = 0


class Verdicts:
    """The last few of them. Belongs to one thread."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Subject, Given] = OrderedDict()

    def keep(self, subject: Subject, given: Given) -> None:
        self._kept[subject] = given
        self._kept.move_to_end(subject)
        while len(self._kept) > _MOST:
            self._kept.popitem(last=False)

    def find(self, subject: Subject, before: tuple[int, int] | None) -> Given | None:
        """The verdict on a subject, of `before` packets and until then if that is given."""
        given = self._kept.get(subject)
        if given is None or (before and before != (given.verdict.examined, given.until_ns)):
            return None
        return given


def state_of(path: Path) -> tuple[int, ...]:
    """
    Raises:
        OSError: There is no such file.
    """
    status = path.stat()
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
