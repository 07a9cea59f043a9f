"""A Lab of a command's own, and the agents' tools called on it in this process."""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass, field

from rawtap.ask.recording import Book
from rawtap.blocking import ENDING_SIGNALS
from rawtap.errors import RawtapError
from rawtap.lab import outside
from rawtap.lab.bridges import Shares
from rawtap.lab.lab import Lab
from rawtap.settings import Settings
from rawtap.tools._tool import LabContext
from rawtap.verbs.output import FAILED, complain
from rawtap.verbs.progress import Tell, silent
from rawtap.verbs.wording import told
from rawtap.watched.calls import CallLog
from rawtap.watched.door import open_to_watchers
from rawtap.watched.pages import Subject

SIGNALLED = 128
"""And a signal's number: the exit code of what was ended by it."""


@dataclass(frozen=True)
class _Context:
    """What the tools ask of a call's context."""

    lab: Lab
    tell: Tell
    book: Book = field(default_factory=Book)

    @property
    def request_context(self) -> _Context:
        return self

    @property
    def lifespan_context(self) -> _Context:
        return self

    async def report_progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        self.tell(progress, total, message)


@dataclass(eq=False)
class Here:
    """What a command works with.

    Attributes:
        stopping: Set when the user, or a signal, wants it to end.
        signal: The number of that signal; 0 where there was none.
    """

    lab: Lab
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    signal: int = 0

    def context(self, tell: Tell = silent) -> LabContext:
        """What a tool's function is given first."""
        return _Context(self.lab, tell)


Story = Callable[[Here], Awaitable[int]]


def play(
    settings: Settings, story: Story, options: argparse.Namespace, *, patient: bool = False, watched: bool = False
) -> int:
    """Run `story` with a Lab, release all that it holds, and return the exit code.

    A signal cancels it. A patient one is only told of the first, by `Here.stopping`, to end by itself. One that is
    `watched` may be, by `rawtap watch`.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # were it ignored, no child's end could be seen (waitpid(2))
    pasta = getattr(options, "pasta", None)
    try:
        return asyncio.run(_play(settings, story, Shares(outside.policy(settings, pasta)), patient, watched))
    except RawtapError as error:
        complain(told(error))
        return FAILED
    except ExceptionGroup as group:
        known, unknown = group.split(RawtapError)
        if unknown:
            raise
        for each in known.exceptions if known else ():
            complain(told(each))
        return FAILED
    finally:
        if pasta:
            pasta.close()


async def _play(settings: Settings, story: Story, shares: Shares, patient: bool, watched: bool) -> int:
    loop = asyncio.get_running_loop()
    lab = Lab(settings, shares=shares)
    subject = Subject("", lambda: lab, CallLog())
    async with open_to_watchers(lambda: [subject]) if watched else nullcontext(), lab:
        here = Here(lab)
        task = asyncio.ensure_future(story(here))

        def end(number: int) -> None:
            if here.stopping.is_set() or not patient:
                task.cancel()
            here.signal = number
            here.stopping.set()

        for number in ENDING_SIGNALS:
            loop.add_signal_handler(number, end, number)
        try:
            return await task
        except asyncio.CancelledError:
            if not here.signal:  # Ctrl-C came before there was a handler for it
                raise
            return SIGNALLED + here.signal
