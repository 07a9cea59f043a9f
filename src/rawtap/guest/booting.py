"""A boot is a race: prompt, login, panic, a loop of reboots, QEMU's end or silence ends it, whichever is first."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from rawtap.guest.endings import Ending, Silence, Troubles, asked
from rawtap.guest.patterns import compiled
from rawtap.guest.profile import MachineSpec, Profile
from rawtap.guest.prompts import LONGEST, alike, asks_to_log_in, is_like_a_prompt, last_line
from rawtap.guest.talk import Talk

Report = Callable[[str], Awaitable[None]]

_LEARN_SILENCE = 1.0  # before a line that stands there is tried
_BURIED_SILENCE = 3.0  # before Enter is typed to a prompt behind which a log went on
_AGAIN_SILENCE = 0.05
_LEARN_SECONDS = 2.0  # for each answer to Enter
_BURIED = 4096  # bytes of the console's end in which such a one is looked for
_INTERRUPTS = 5  # a countdown may come again: in a firmware and in its loader, or after a reboot
_LOGIN_SECONDS = 10.0


class Boot:
    """One boot of one guest, from its first instruction to the first thing that ends the wait for it."""

    def __init__(self, talk: Talk, profile: Profile, pid: int) -> None:
        self._talk, self._profile, self._pid = talk, profile, pid
        self._from = 0  # what came before that is known
        self._tried: set[bytes] = set()
        self._logins = 0
        self._interrupts = 0
        self._dug = False
        self._interrupt = compiled(profile.interrupt.wait_for) if profile.interrupt else None

    async def wait(self, timeout: float, report: Report) -> Ending | None:
        """What came first; None on time-out.

        Raises:
            ConnectionError: The guest is gone.
        """
        talk = self._talk
        now = asyncio.get_running_loop().time
        deadline = now() + timeout
        judge = self._judge()
        while True:
            ending = await talk.console.race(judge, max(0.0, deadline - now()))
            step = self._step_for(ending)
            if step is None or now() >= deadline:
                break
            await step(report)
        if ending is not None and ending.how == "text":  # a step for which no time is left
            ending = None
        if ending is None or ending.how not in {"prompt", "login", "password"}:
            talk.owe_boot()
        return ending

    def _step_for(self, ending: Ending | None) -> Callable[[Report], Awaitable[None]] | None:
        """What there is to do about it before the race goes on; None where it is over."""
        how = ending.which if ending and ending.how == "text" else ending.how if ending else None
        if how == "interrupt":
            return self._stop_countdown
        if how == "learn":
            return self._learn
        if how == "buried":
            return self._dig
        if how == "login" and self._profile.login and self._logins < 1:
            return self._log_in
        return None

    def _judge(self) -> Callable[[float], Ending | float | None]:
        talk, console = self._talk, self._talk.console
        troubles = Troubles(console, talk.reboots, patient=True, boot=True)
        silence = Silence(console, self._pid, hopeless=not talk.prompts.known and self._profile.login is None)
        now = asyncio.get_running_loop().time

        def judge(quiet: float) -> Ending | float | None:
            if self._interrupt and (found := console.history.find(self._interrupt, self._from)) is not None:
                self._from = found
                return Ending("text", at=found, which="interrupt")
            looks = [self._prompt(quiet), self._unknown_prompt(quiet), self._buried(quiet), troubles.look(quiet, now())]
            looks += [asked(console, self._from, quiet), silence.look(quiet, now())]
            if (over := next((each for each in looks if isinstance(each, Ending)), None)) is not None:
                return over
            return min((each for each in looks if isinstance(each, float)), default=None)

        return judge

    def _prompt(self, quiet: float) -> Ending | float | None:
        talk = self._talk
        standing = talk.standing(self._from)
        if standing is None or quiet < standing.silence:
            return standing.silence - quiet if standing else None
        talk.at_prompt(standing)
        return Ending("prompt", at=talk.console.history.end, which=standing.name)

    def _unknown_prompt(self, quiet: float) -> Ending | float | None:
        """A line that stands there and looks like a prompt, where none is known."""
        if self._talk.prompts.known:
            return None
        line = last_line(self._talk.console.history.tail(LONGEST))
        if line in self._tried or not is_like_a_prompt(line):
            return None
        return _LEARN_SILENCE - quiet if quiet < _LEARN_SILENCE else Ending("text", which="learn")

    def _buried(self, quiet: float) -> Ending | float | None:
        """A prompt that came and is the last line no more; once in a boot, since a text could look like one."""
        if self._dug or not self._talk.prompts.is_buried(self._talk.console.history.tail(_BURIED)):
            return None
        return _BURIED_SILENCE - quiet if quiet < _BURIED_SILENCE else Ending("text", which="buried")

    async def _dig(self, report: Report) -> None:
        await report("a log went on behind the prompt: Enter has it stand again")
        self._dug = True
        await self._talk.console.write(self._profile.ends_command.encode())

    async def _stop_countdown(self, report: Report) -> None:
        await report("interrupting the boot loader's countdown")
        if self._profile.interrupt:  # a byte or two: a UART takes that much unread
            await self._talk.console.write(self._profile.interrupt.send.encode())
        self._interrupts += 1
        if self._interrupts >= _INTERRUPTS:
            self._interrupt = None

    async def _learn(self, report: Report) -> None:
        """A prompt is what comes again when Enter is typed, twice, be it with another time or number in it."""
        talk, console = self._talk, self._talk.console
        line = last_line(console.history.tail(LONGEST))
        others = alike(line)
        self._tried.add(line)
        await report(f"trying whether {line.decode('utf-8', 'replace')!r} is a prompt")
        for _ in range(2):
            start = console.history.end
            await console.write(self._profile.ends_command.encode())

            def again(quiet: float, start: int = start) -> bool | float | None:
                last = last_line(console.history.tail(LONGEST))
                is_alike = last == line or (others is not None and others.fullmatch(last) is not None)
                if not is_alike or console.history.end - len(last) < start:
                    return None
                return _AGAIN_SILENCE - quiet if quiet < _AGAIN_SILENCE else True

            came: bool | None = await console.race(again, _LEARN_SECONDS)
            if not came:
                return
        talk.prompts.learn(line)
        talk.prompts.note(line)

    async def _log_in(self, report: Report) -> None:
        login = self._profile.login
        if login is None:
            return
        self._logins += 1
        talk, console = self._talk, self._talk.console
        await report(f"logging in as {login.user}")
        enter = self._profile.ends_command
        self._from = console.history.end
        await console.write((login.user + enter).encode())
        if await self._asks("password") == "password":
            self._from = console.history.end
            talk.console.hide(login.password)
            await console.write((login.password + enter).encode())

    async def _asks(self, how: str) -> str | None:
        console = self._talk.console

        def judge(quiet: float) -> Ending | float | None:
            return self._prompt(quiet) if self._talk.standing(self._from) else asked(console, self._from, quiet)

        ending = await console.race(judge, _LOGIN_SECONDS)
        return how if ending and ending.how == how else None


def words_for(ending: Ending | None, talk: Talk, spec: MachineSpec, timeout: float) -> str | None:
    """What a boot came to, for the reader; None where its prompt came."""
    profile, said = spec.profile, talk.console.history.end > 0
    how = ending.how if ending else None
    if how == "prompt":
        return None
    last = last_line(talk.console.history.tail(LONGEST)).decode("utf-8", "replace")
    line = f"; the console ends with {last!r}" if last.strip() else ""
    if how in {"login", "password"} and asks_to_log_in(last.encode()) and profile.login:
        return f"the login as {profile.login.user} was refused{line}: see `login` in the profile"
    if how in {"login", "password"}:
        return f'it asks for a login{line}: set login = {{ user = "...", password = "..." }}, or qemu_send them'
    again = f"; {talk.reboots.how} before" if talk.reboots.count and how not in {"loop", "fault"} else ""
    if ending and ending.words:
        return f"{ending.words}{again}{_cure(how, line, '' if said else _where_else(spec))}"
    nothing = "" if said else f", and no console output{_where_else(spec)}"
    return f"no prompt within {timeout:g} s{line}{again}; the guest runs on{nothing or ': qemu_read shows more'}"


def _where_else(spec: MachineSpec) -> str:
    """What to ask of a guest whose console is empty: small systems write to their screen alone."""
    if not (spec.kernel or spec.firmware or spec.drives or spec.profile.is_startable):
        return f": nothing was given it to start, and has its machine ({spec.profile.machine}) firmware of its own?"
    screen = "qemu_screenshot shows its screen; or " if spec.gpu else ""
    return f": {screen}does it write to its serial port (Linux: console=ttyS0)?"


def _cure(how: str | None, line: str, silent: str) -> str:
    if how in {"panic", "loop", "fault"}:
        return ": qemu_read and qemu_timeline show more"
    if silent:
        return silent
    if line:
        return f"{line}: if that is its prompt, set `prompt`; qemu_send types to it all the same"
    return ": qemu_read shows more; `prompt` in the profile says what to wait for"
