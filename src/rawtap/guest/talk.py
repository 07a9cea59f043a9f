"""A conversation with a guest: whose turn it is, what is still owed, and which output belongs to which command.

Theory of operation. Commands take turns. A command whose end was not seen, because its call ran out of time, was
cancelled or wanted some text only, leaves a *debt*: the next command is not typed before its prompt has come, for half
of its own time at most; then it is typed all the same, and its answer says that what came is the earlier one's.

Where a shell is at its prompt (found out once, by a frame around nothing), a command is typed in a frame (`framing`),
whose signs say where its output begins and ends. Nothing else is ever given a frame: after anything typed without
Enter, after a reset, and while a debt is open, it is not known what reads the console.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from rawtap.errors import GuestBusy
from rawtap.guest.console import Console, Output
from rawtap.guest.echo import echo_of
from rawtap.guest.endings import Ending, Troubles, asked
from rawtap.guest.framing import can_be_framed, framed
from rawtap.guest.jobs import Ask, Into, Job, Search, shortened
from rawtap.guest.patterns import Wanted
from rawtap.guest.profile import SHELL, Profile
from rawtap.guest.prompts import (
    LONGEST,
    SURE,
    Prompts,
    Standing,
    asks_at_once,
    asks_for_input,
    is_like_a_prompt,
    last_line,
)
from rawtap.guest.resets import Reboots
from rawtap.guest.typist import Typist

_PROBE_SECONDS = 3.0
_AFTER_FRAME = 1.0  # a prompt comes at once behind a frame's end
_FRAME_DOUBT = 3.0  # a prompt without the frame's end may be output that looks like one
_NO_FRAME = 0.3  # ... but not where it has the control sequences that the prompt always has
_ASKING_SILENCE = 0.3
_LEARN_SILENCE = 0.5
_READS_SECONDS = 5.0  # of silence, after which what had not ended may as well read what is typed
_HIDDEN_SECONDS = 1.0
_OF_FRAMES = re.compile(rb"(?i)eval|rawtap|printf")
_DEBUGGERS = ("debug", "ddb", "kdb")  # names of prompts that a kernel has after its last words


class Talk:
    """One guest's."""

    def __init__(self, console: Console, profile: Profile) -> None:
        named = profile.all_prompts
        self.console = console
        self.prompts = Prompts(named)
        self.reboots = Reboots()
        self.typist = Typist(console)
        self.jobs: list[Job] = []
        self.ready = False  # a prompt stands there, and nothing was typed behind it
        self._framing = profile.framing
        self._shell: bool | None = None if profile.framing else False
        self._asked = False  # whether it was tried if there is a shell
        self._marked: bool | None = None  # whether the shell's prompt has control sequences
        self._enter = profile.ends_command.encode()
        self._turn = asyncio.Lock()
        self._whose = ""
        self._stood = 0  # where the prompt ended that was believed last
        self._last = ""  # the command that it ended
        self._status: int | None = None  # what the shell has as $?, where that is known

    # ------------------------------------------------------------------ what is known

    def standing(self, start: int) -> Standing | None:
        """The prompt that stands at the console's end, if it began at or after `start`."""
        history = self.console.history
        found = self.prompts.standing(history.tail(2 * LONGEST), history.end)
        return found if found is not None and found.start >= start else None

    def at_prompt(self, standing: Standing) -> None:
        """That prompt was believed: the guest lives, and all that was typed before it has ended."""
        history = self.console.history
        self.ready = True
        self._stood, self._last = history.end, self.jobs[-1].words if self.jobs else ""
        self.jobs.clear()
        self.prompts.note(last_line(history.tail(LONGEST).rstrip(b"\r\n")))
        if not standing.name.startswith(_DEBUGGERS):
            self.console.signs.alive(history.end)
        self.reboots.arrived()
        marked = self.console.plain.marked_at >= standing.start
        self._marked = marked if self._marked is None else self._marked and marked

    def began_anew(self, words: str, at: int | None = None, *, owed: bool = True) -> None:
        """The guest was reset, or is another, since its console was there or here; what was typed is gone.

        Its prompt is to come, or stands behind that place.
        """
        at = self.console.history.end if at is None else at
        self.jobs = [Job(words, at, is_boot=True)] if owed and self.prompts.known else []
        self.ready = False
        self._shell = None if self._framing else False
        self._asked = False
        self._marked = self._status = self.typist.echoes = None
        self.prompts.doubted = False
        self.console.signs.restarted(at)
        self.console.look()

    def look_for_life(self) -> None:
        """A prompt that stands behind a kernel's last words shows that they were none."""
        panic = self.console.signs.panic()
        standing = self.standing(panic.at) if panic else None
        if standing is None or standing.name.startswith(_DEBUGGERS):
            return
        if self.console.quiet >= max(standing.silence, _NO_FRAME):
            self.console.signs.alive(self.console.history.end)

    def owe_boot(self) -> None:
        """It boots, and nobody waits for its prompt."""
        self.jobs = [Job("the boot", self.console.history.end, is_boot=True)] if self.prompts.known else []

    # ------------------------------------------------------------------ turns and debts

    @asynccontextmanager
    async def _in_turn(self, words: str, timeout: float) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(max(timeout, 0.001)):
                await self._turn.acquire()
        except TimeoutError:
            raise GuestBusy(
                f"it is another call's turn on the console: {self._whose}",
                evidence=f"nothing was typed within {timeout:g} s",
                cure='Wait for that call, or interrupt its command: qemu_send(command="ctrl-c", enter=false)',
            ) from None
        self._whose = words
        try:
            yield
        finally:
            self._turn.release()

    def _unpaid(self) -> list[Job]:
        """The debts that no sign of theirs has paid."""
        signs = self.console.plain.signs
        self.jobs = [job for job in self.jobs if job.frame is None or job.frame.ended(signs) is None]
        return self.jobs

    async def settle(self, timeout: float) -> None:
        """Wait until nothing is owed."""
        now = asyncio.get_running_loop().time
        troubles = Troubles(self.console, self.reboots, patient=True, log=bool(self._shell))
        began = now()

        def judge(quiet: float) -> bool | float | None:
            start = max((job.start for job in self.jobs), default=0)
            has_frame = any(job.frame for job in self._unpaid())
            if (standing := self.standing(start)) is not None:
                silence = self._doubt(standing) if has_frame else standing.silence
                if silence is not None and quiet >= silence:
                    self.at_prompt(standing)
                    return True
                if silence is not None:
                    return silence - quiet
            trouble = troubles.look(quiet, now())
            if isinstance(trouble, Ending):
                return True
            if any(job.is_boot for job in self.jobs):
                return trouble
            left = _READS_SECONDS - min(quiet, now() - began)
            return True if left <= 0 else left if trouble is None else min(left, trouble)

        await self.console.race(judge, timeout)

    async def _settle_again(self, timeout: float) -> None:
        """Something came behind the prompt: it was none, or what came is of the background, which is over soon."""
        self.prompts.doubted = True

        def judge(quiet: float) -> bool | float | None:
            standing = self.standing(0)
            silence = standing.silence if standing else _ASKING_SILENCE
            return True if quiet >= silence else silence - quiet

        await self.console.race(judge, timeout)

    def _doubt(self, standing: Standing) -> float | None:
        """How long a prompt must stand where a frame's end should have come before it; None: it is none."""
        marked = self.console.plain.marked_at >= standing.start
        if self._marked and not marked:
            return None
        return max(standing.silence, _NO_FRAME) if self._marked else _FRAME_DOUBT

    async def _asks(self, timeout: float) -> bool:
        """Whether what runs stands there with a question, or a prompt that is none of the known: it waits for input."""
        history = self.console.history

        def judge(quiet: float) -> bool | float | None:
            line = last_line(history.tail(LONGEST))
            if not self.jobs or not asks_for_input(line) or self.standing(0) is not None:
                return False
            return True if asks_at_once(line) or quiet >= _ASKING_SILENCE else _ASKING_SILENCE - quiet

        return bool(await self.console.race(judge, timeout))

    # ------------------------------------------------------------------ sending

    async def send(self, ask: Ask) -> Output:
        """Type it, and answer with what came of it.

        Raises:
            GuestBusy: It is another call's turn.
            TimeoutError: The guest does not take it.
            ConnectionError: The guest is gone.
        """
        if not ask.enter:
            return await self._type_only(ask)
        deadline = asyncio.get_running_loop().time() + ask.timeout
        words = shortened(ask.command)
        async with self._in_turn(words, ask.timeout):
            self._unpaid()
            asking = bool(self.jobs) and await self._asks(ask.timeout / 2)
            if self.jobs and not asking:
                await self.settle(ask.timeout / 2)
            elif self._shell and not self.ready and not asking:
                await self.settle(min(ask.timeout / 2, _AFTER_FRAME))
            is_doubtful = self.ready and not self._shell and self.console.history.end > self._stood
            if is_doubtful:
                await self._settle_again(min(ask.timeout / 2, _AFTER_FRAME))
            earlier = list(self._unpaid())
            left = max(0.0, deadline - asyncio.get_running_loop().time())
            if not earlier and self.ready and self._shell is None and left > 0:
                await self._probe()
                earlier = list(self._unpaid())
            left = max(0.0, deadline - asyncio.get_running_loop().time())
            is_framed = self._shell and self.ready and not earlier and can_be_framed(ask.command)
            may_be_shell = self._shell is None and (self._asked or self.ready)
            in_shell = bool(self._shell or may_be_shell) and not asking
            job = Job(
                words, self.console.history.end, framed(ask.command, self._status) if is_framed else None, in_shell
            )
            into = Into(tuple(earlier), asking=asking, last=self._last if is_doubtful else "")
            return await self._run(replace(ask, timeout=left), job, into)

    async def _run(self, ask: Ask, job: Job, into: Into) -> Output:
        console, unseen = self.console, self.console.unread
        line = (job.frame.line if job.frame else ask.command).encode()
        console.signs.typed(ask.command.encode())
        troubles = Troubles(console, self.reboots, patient=bool(ask.wanted), log=job.frame is not None)
        self._status = None
        deadline = asyncio.get_running_loop().time() + ask.timeout
        was_ready, self.ready = self.ready, False
        job.behind = last_line(console.history.tail(LONGEST))
        self.jobs.append(job)
        echo_end: int | None = None
        if was_ready:
            typed = await self.typist.line(line, self._enter, ask.timeout)
            if typed.wrong:
                return await self._untyped(job, typed.wrong)
            if typed.echo_end > typed.echo_start:
                job.start, echo_end = typed.echo_start, typed.echo_end
        else:
            await self.typist.as_it_is(line + self._enter)
        left = max(0.0, deadline - asyncio.get_running_loop().time())
        if into.hides:  # what comes is nobody's, so there is little to wait for
            left = min(left, _HIDDEN_SECONDS)
        ending = await self._wait(ask, job, echo_end, troubles, left)
        if into.hides and ending is None:
            ending = Ending("hidden")
        return self._answer(ask, job, ending, into, unseen, echo_end)

    async def _untyped(self, job: Job, wrong: str) -> Output:
        """The answer for a line that did not arrive whole."""
        self.jobs.remove(job)
        await self.settle(_AFTER_FRAME)
        return replace(self.console.show(job.start), notes=(wrong,), how="untyped")

    async def _wait(
        self,
        ask: Ask,
        job: Job,
        echo_end: int | None,
        troubles: Troubles,
        timeout: float,
    ) -> Ending | None:
        console, history, now = self.console, self.console.history, asyncio.get_running_loop().time
        typed = ask.command.encode()
        searched = Search(ask.wanted)
        found: list[Ending] = []

        def behind_echo() -> int | None:
            nonlocal echo_end
            if job.frame is not None:
                begun = job.frame.begun(console.plain.signs)
                self._veil(job, echo_end, begun, typed)
                return begun
            if echo_end is None:
                echo = echo_of(history.since(job.start, len(typed) * 2 + 4096), typed)
                if echo.whole or echo.strange:
                    echo_end = job.start + (echo.end if echo.whole else 0)
            return echo_end

        def judge(quiet: float) -> Ending | float | None:
            start = behind_echo()
            if start is not None:
                ended = job.frame.ended(console.plain.signs) if job.frame else None
                if (text := searched.look(console, start)) is not None:
                    return text
                if ended:
                    if not found:
                        console.signs.alive(ended[0])
                        found.append(Ending("frame", at=ended[0]))
                    behind = self._behind_frame(ended[0], quiet)
                    return troubles.look(quiet, now()) if ask.wanted else behind
            begin = start if start is not None else job.start
            return self._unasked(job, begin, quiet, ask, troubles.look(quiet, now()))

        return await console.race(judge, timeout) or (found[0] if found and not ask.wanted else None)

    def _unasked(
        self, job: Job, start: int, quiet: float, ask: Ask, trouble: Ending | float | None
    ) -> Ending | float | None:
        """What ends it that it did not ask for."""
        if isinstance(trouble, Ending) and trouble.how == "reset":
            return trouble  # a prompt that stands there is the new boot's, and has ended no command
        return _first(self._prompt(job, start, quiet, ask), trouble, asked(self.console, start, quiet))

    def _veil(self, job: Job, echo_end: int | None, begun: int | None, command: bytes) -> None:
        """Where a frame's line stands, its command is shown."""
        if begun is not None and echo_end is not None and not job.is_veiled:
            job.is_veiled = True
            self.console.history.veil(job.start, begun, command + b"\n")

    def _behind_frame(self, at: int, quiet: float) -> Ending | float | None:
        """The frame has ended: its prompt comes at once, if it comes."""
        if (standing := self.standing(at)) is not None:
            if standing.silence > SURE and quiet < standing.silence:
                return standing.silence - quiet
            self.at_prompt(standing)
            return Ending("frame", at=at)
        left = _AFTER_FRAME - quiet
        if left > 0:
            return left
        history = self.console.history
        line = last_line(history.since(max(at, history.end - LONGEST)))
        if is_like_a_prompt(line):  # the shell's it is beyond doubt: the command has changed it
            self.at_prompt(Standing(SHELL, history.end - len(line), SURE))
        return Ending("frame", at=at)

    def _prompt(self, job: Job, start: int, quiet: float, ask: Ask) -> Ending | float | None:
        """Whether a prompt has ended it."""
        if not self.prompts.known and (wait := self._learn(job, start, quiet)) is not None:
            return wait
        if (standing := self.standing(start)) is None:
            return None
        silence = self._doubt(standing) if job.in_shell else standing.silence
        if silence is None:
            return None
        if quiet < silence:
            return silence - quiet
        if ask.wanted:
            # The text may come yet, from what runs in the background; the command itself has ended.
            self.at_prompt(standing)
            return None
        had_frame = job.frame is not None
        self.at_prompt(standing)
        if had_frame and self._framing:
            self._shell = None  # another program's, perhaps
        return Ending("prompt", at=self.console.history.end, which=standing.name)

    def _learn(self, job: Job, start: int, quiet: float) -> float | None:
        """Where no prompt is known, what stood there before a command, and stands there again after it, is one."""
        history = self.console.history
        line = last_line(history.tail(LONGEST))
        is_again = line == job.behind and history.end - len(line) >= start and is_like_a_prompt(line)
        if not is_again or quiet < _LEARN_SILENCE:
            return _LEARN_SILENCE - quiet if is_again else None
        self.prompts.learn(line)
        return None

    def _is_news(self, start: int, end: int) -> bool:
        """Whether what no answer has shown is more than a prompt."""
        raw = self.console.history.since(start, max(0, end - start)).rstrip(b"\r\n")
        standing = self.prompts.standing(raw[-2 * LONGEST :], len(raw))
        return bool(raw[: standing.start if standing else None].strip())

    def _notes(self, job: Job, ending: Ending | None, into: Into, unseen: int) -> list[str]:
        """What the reader should know besides."""
        notes = [ending.words] if ending and ending.words else []
        if into.jobs and into.asking:
            notes.append(f"typed into {into.words}, which asked for it")
        elif into.jobs:
            notes.append(
                f"typed while {into.words} had not ended: what came may be its output; qemu_read shows it, "
                "and enter=false types to it at once"
            )
        if job.frame and ending and ending.how == "prompt":
            notes.append("the prompt came, but not the command's end: an interrupt, a wrong syntax, or another shell")
        if not into.hides and self._is_news(unseen, job.start):
            of = f" (it came behind the prompt of {into.last!r}, and may be its)" if into.last else ""
            notes.append(f"earlier output that no answer has shown{of}: qemu_read(position={unseen})")
        panic = self.console.signs.panic() if ending is None else None
        if panic:
            notes.append(str(panic))
        return notes

    def _answer(
        self,
        ask: Ask,
        job: Job,
        ending: Ending | None,
        into: Into,
        unseen: int,
        echo_end: int | None,
    ) -> Output:
        console, frame = self.console, job.frame
        signs = console.plain.signs
        begun = frame.begun(signs) if frame else None
        ended = frame.ended(signs) if frame else None
        if ending and ending.how in {"login", "password"}:
            self.jobs.clear()  # what is typed next is the answer
        matched = ending is not None and ending.how in {"text", "prompt", "frame"}
        notes = self._notes(job, ending, into, unseen)
        if frame and ask.wanted and ended and not matched:
            notes.append("the command ended without it")
        if into.hides:
            output = Output("", matched=False, truncated=False, position=console.history.end)
        elif frame and begun is not None:
            output = console.show(begun, matched=matched, instead=ask.command + "\n")
        elif frame:
            console.unread = console.history.end
            output = Output(ask.command + "\n", matched, truncated=False, position=console.history.end)
        elif echo_end:
            output = console.show(echo_end, matched=matched, instead=ask.command)
            output = replace(output, cut_from=job.start if output.cut_from is not None else None)
        else:
            output = console.show(job.start, matched=matched)
        self._status = ended[1] if ended and matched else None
        which = ending.which if ending and (len(ask.wanted) > 1 or ending.how == "prompt") else None
        return replace(
            output,
            which=which if output.matched else None,
            exit_status=ended[1] if ended else None,
            notes=tuple(notes),
            how=ending.how if ending else None,
        )

    async def _type_only(self, ask: Ask) -> Output:
        """Type bytes into whatever reads them, and wait for what they bring."""
        console = self.console
        start = console.history.end
        self.ready, self._status = False, None
        if {"\r", "\n"} & set(ask.command) and not self.jobs:
            self.jobs.append(Job(shortened(ask.command), start))
        troubles = Troubles(console, self.reboots, patient=bool(ask.wanted), log=bool(self._shell))
        searched = Search(ask.wanted)
        await self.typist.as_it_is(ask.command.encode())
        now = asyncio.get_running_loop().time

        def judge(quiet: float) -> Ending | float | None:
            if (text := searched.look(console, start)) is not None:
                return text
            wait: Ending | float | None = None
            if not ask.wanted and (standing := self.standing(start)) is not None:
                silence = max(standing.silence, _NO_FRAME)
                if quiet >= silence:
                    self.at_prompt(standing)
                    return Ending("prompt", at=console.history.end, which=standing.name)
                wait = silence - quiet
            return _first(wait, troubles.look(quiet, now()), asked(console, start, quiet))

        ending = await console.race(judge, ask.timeout)
        output = console.show(start, matched=ending is not None and ending.how in {"text", "prompt"})
        notes = (ending.words,) if ending and ending.words else ()
        return replace(output, which=ending.which if ending else None, notes=notes, how=ending.how if ending else None)

    async def _probe(self) -> None:
        """Find out whether a shell reads the console, by a frame around nothing."""
        timeout = _PROBE_SECONDS
        self._asked = True
        frame = framed(":")
        job = Job("a look whether there is a shell", self.console.history.end, frame)
        self.ready = False
        self.jobs.append(job)
        typed = await self.typist.line(frame.line.encode(), self._enter, timeout)
        if typed.wrong:
            self.jobs.remove(job)
            self._shell = False
            await self.settle(timeout)
            self._forget_probe(job.start, typed.echo_end)
            return
        start = max(typed.echo_end, job.start)

        def judge(quiet: float) -> bool | float | None:
            standing = self.standing(start)
            if standing is None or quiet < standing.silence:
                return standing.silence - quiet if standing else None
            self.at_prompt(standing)
            return True

        stood: bool | float | None = await self.console.race(judge, timeout)
        if stood:
            self._shell = frame.ended(self.console.plain.signs) is not None
            self._forget_probe(job.start, typed.echo_end)
        elif not self._is_news(self.console.unread, job.start):
            self.console.unread = self.console.history.end

    def _forget_probe(self, start: int, echo_end: int) -> None:
        """Nobody asked for it, so nobody is shown it, unless something else came meanwhile."""
        history = self.console.history
        is_read = not self._is_news(self.console.unread, start)
        *lines, _ = history.since(start).split(b"\n")
        is_ours = all(not line.strip() or _OF_FRAMES.search(line) for line in lines)
        history.veil(start, history.end if is_ours else echo_end)
        if is_read:
            self.console.unread = history.end

    # ------------------------------------------------------------------ reading

    async def read(self, wanted: tuple[Wanted, ...], timeout: float) -> Output:
        """What came since the last answer; waits for what is wanted, or for anything at all."""
        console = self.console
        start = console.unread
        troubles = Troubles(console, self.reboots, patient=bool(wanted), log=bool(self._shell))
        searched = Search(wanted)
        now = asyncio.get_running_loop().time

        def judge(quiet: float) -> Ending | float | None:
            if not wanted:
                if console.history.end > start:
                    return Ending("text")
                return Ending("halted", words=console.halted) if console.halted else None
            if (text := searched.look(console, start)) is not None:
                return text
            return troubles.look(quiet, now())

        ending = await console.race(judge, timeout)
        matched = bool(wanted) and ending is not None and ending.how == "text"
        output = console.show(start, matched=matched)
        notes = (ending.words,) if ending and ending.words else ()
        which = ending.which if matched and ending and len(wanted) > 1 else None
        return replace(output, which=which, notes=notes)


def _first(*looks: Ending | float | None) -> Ending | float | None:
    """What has ended it, or when to look again."""
    for each in looks:
        if isinstance(each, Ending):
            return each
    waits = [each for each in looks if each is not None and not isinstance(each, Ending)]
    return min(waits) if waits else None
