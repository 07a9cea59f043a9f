"""A running guest: the QEMU process, its monitor and console, and the ladder by which it ends.

Theory of operation. QEMU is started paused, tied to the thread that started it (so it must be the main thread, where
the event loop runs), without a capability, and with no file in reach but its own (`spawning.access_of`). Console and
monitor are socket pairs: nothing in the file system, nothing that another user could connect to. QEMU inherits its
ends, the TAP's descriptor and the layers of its drives; ours are closed right after the start, so each has one owner.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import anyio
from anyio.to_thread import run_sync as to_thread

from rawtap.blocking import on_disk
from rawtap.errors import (
    GuestExited,
    GuestFailed,
    GuestNotRunning,
    GuestPaused,
    NoDisplay,
    ProfileInvalid,
    RequestInvalid,
)
from rawtap.guest import busybox, gdb, images, iso, postmortem, virtiofs
from rawtap.guest.accelerator import kvm_is_open
from rawtap.guest.block_log import BlockLog
from rawtap.guest.booting import Boot, Report, words_for
from rawtap.guest.command_line import Inherited, arguments
from rawtap.guest.console import Console, Output
from rawtap.guest.devices import Nic, netdev
from rawtap.guest.display import Display
from rawtap.guest.exception_log import Seen
from rawtap.guest.further import Consoles
from rawtap.guest.hardware import QEMU_PACKAGES
from rawtap.guest.history import printable
from rawtap.guest.jobs import Ask
from rawtap.guest.line_keys import typed_bytes
from rawtap.guest.log_part import LogPart
from rawtap.guest.monitor import ANSWER_SECONDS, EventLog, Monitor, MonitorLost, connected, state_of
from rawtap.guest.patterns import Wanted
from rawtap.guest.processor_log import Diagnostics, Trap, TripleFault
from rawtap.guest.profile import MachineSpec
from rawtap.guest.resets import Fault
from rawtap.guest.signs import KERNEL_FAULTS
from rawtap.guest.spawning import access_of, layers_of, pair, require, start
from rawtap.guest.storage import fdset_path
from rawtap.guest.talk import Talk
from rawtap.guest.translation_log import TranslationLog
from rawtap.host.children import Child

_WITHOUT_CARD = re.compile(r"^net([0-9]+):", re.MULTILINE)
_TAIL_CHARACTERS = 1500
_REFUSAL_CHARACTERS = 200
_LINE_BYTES = 500
_LOST_SECONDS = 5.0  # between the monitor's end and the process's
_TOLD_BYTES = 500  # of the console, that a panic and what is known of it take
_KILL_SECONDS = 5.0  # between SIGKILL and the end of a process with much memory, on a busy machine
_QUIT_SECONDS = 0.7  # for each of quit, SIGTERM: a client gives a server two seconds to end


@dataclass(frozen=True)
class Exit:
    """How QEMU ended: its exit code (negative: the signal), what led to it, and what it wrote to stderr."""

    code: int
    reason: str
    stderr: str

    def __str__(self) -> str:
        words = f"exit code {self.code}, {self.reason}"
        return f"{words}, stderr: {self.stderr}" if self.stderr else words


@dataclass(frozen=True)
class Crash:
    """A triple fault: when QEMU told of it (Unix time, nanoseconds), and how much the console had shown by then."""

    fault: TripleFault
    at_ns: int
    position: int


@dataclass(frozen=True)
class Mark:
    """How far a guest's console and QEMU's events had come, and what they had told of reboots."""

    console: int = 0
    events: int = 0
    loop: str | None = None
    fault: str | None = None


@dataclass(frozen=True)
class _Held:
    """What a machine holds besides its process, until its end."""

    until_end: contextlib.ExitStack
    scratch: Path
    gdb: Path | None
    consoles: Mapping[str, socket.socket]
    daemons: virtiofs.Daemons


class Machine:
    """One guest, from `spawn` to `end`. Its console, its events and its `exit` outlive the process."""

    def __init__(
        self,
        name: str,
        spec: MachineSpec,
        process: Child,
        console: Console,
        monitor: socket.socket,
        held: _Held,
        diagnostics: Diagnostics,
        on_exit: Callable[[Exit], None] | None,
    ) -> None:
        self.name = name
        self.spec = spec
        self.pid = process.pid
        self.console = console
        self.talk = Talk(console, spec.profile)
        self.consoles = Consoles(spec.profile, self.talk, held.consoles)
        self.events = EventLog(on_reset=self._reset)
        self.exit: Exit | None = None
        self.crash: Crash | None = None  # the newest
        # Whether QEMU's log tells of each exception; "ended" where there were too many of them.
        self.trap_log: Literal["off", "on", "ended"] = "on" if spec.traps else "off"
        self.wants_traps = False  # whether the next one of its name is to have them logged from its start
        self.ran = False  # whether the guest got to do anything
        self.started_at = time.monotonic()
        self.accelerator: Literal["kvm", "tcg"] | None = None  # None until it has told
        self.gdb = held.gdb
        self.scratch = held.scratch
        self.state_lock = anyio.Lock()  # of whoever saves or restores its whole state
        self._process = process
        self._on_exit = on_exit
        self._monitor_socket = monitor
        self._monitor: Monitor | None = None
        self._stack = contextlib.AsyncExitStack()
        self._stack.callback(held.until_end.close)
        self._display = Display(self.execute, self._add_fd)
        self._stack.callback(self._display.close)
        self._ending = postmortem.BY_ITSELF
        self._switching: asyncio.Task[None] | None = None
        self._logging = asyncio.Lock()  # of whoever tells QEMU what to log, which is all of it at once
        self._less: asyncio.Task[None] | None = None  # logged
        self._diagnostics = diagnostics
        diagnostics.on_much = self._log_less
        self._daemons = held.daemons
        self._watcher = asyncio.create_task(self._watch())

    @classmethod
    async def spawn(
        cls,
        name: str,
        spec: MachineSpec,
        nic: Nic | None,
        scratch: Path,
        on_exit: Callable[[Exit], None] | None = None,
        further: tuple[Nic, ...] = (),
    ) -> Machine:
        """Start QEMU, paused; `greet` waits until it is there. `on_exit` is called when it has ended, whatever for.

        `nic` is its first network card, `further` are the others. `scratch` is the folder for what lives as long as it
        does, like the layers of its drives.

        Raises:
            QemuMissing: QEMU is not installed.
            GuestNotFound: What serves a folder, or makes a CD of it, is not.
            PathNotAllowed: A drive that another guest of this process has, where either may write it.
            GuestFailed: It cannot be started.
            DiskStalled: The disk of `scratch`, or of a drive, does not answer.
        """
        qemu = require(spec.qemu, QEMU_PACKAGES[spec.profile.arch])
        with contextlib.ExitStack() as near, contextlib.ExitStack() as far:
            console, console_far = pair(near, far)
            monitor, monitor_far = pair(near, far)
            consoles = {each: pair(near, far) for each in spec.profile.ports}
            # What a call that was given up enters later ends with the stack itself, which nobody has any more.
            await on_disk(f"the drives of {name}", near.enter_context, images.held(name, spec))
            layers = await on_disk(scratch, layers_of, spec, scratch, far)
            for number, drive in enumerate(spec.drives):
                if drive.is_cd_of_folder:
                    layers[number] = await iso.made_of(Path(drive.path), scratch, far)
            debugger = near.enter_context(gdb.listening()) if spec.gdb else None
            folders = spec.profile.by_virtiofs
            program = await to_thread(virtiofs.require) if folders else None
            daemons = near.enter_context(virtiofs.serving(folders, program))
            inherited = Inherited(
                console_far.fileno(),
                monitor_far.fileno(),
                nic,
                debugger.socket.fileno() if debugger else None,
                layers,
                kvm_is_open(spec.profile.arch),
                further,
                {each: theirs.fileno() for each, (_, theirs) in consoles.items()},
                far.enter_context(busybox.opened()) if spec.busybox else None,
                {number: each.fileno() for number, each in daemons.connections.items()},
            )
            command = [qemu, *arguments(spec, inherited)[1:]]
            process = start(
                command,
                access_of(spec, qemu, kvm=inherited.kvm, listens=inherited.listens),
                inherited.descriptors,
                spec.folder,
            )
            if debugger:
                debugger.socket.close()
            for each in daemons.connections.values():
                each.close()
            ours = {each: socket_ for each, (socket_, _) in consoles.items()}
            held = _Held(near.pop_all(), scratch, debugger.path if debugger else None, ours, daemons)
            if process.stdout is None:
                raise RuntimeError("QEMU was started without a pipe for its stderr")
            return cls(name, spec, process, Console(console), monitor, held, Diagnostics(process.stdout), on_exit)

    async def greet(self) -> None:
        """Wait until QEMU answers on its monitor.

        Raises:
            GuestExited: QEMU ended at once; its exit code and stderr are in the text.
            GuestFailed: It does not answer.
            ProfileInvalid: Its machine has fewer cards on board than it is to have.
        """
        session = connected(self._monitor_socket, self.name, self.pid, self.events)
        try:
            self._monitor = await self._stack.enter_async_context(session)
            self.accelerator = "kvm" if (await self._monitor.execute("query-kvm"))["enabled"] else "tcg"
            await self._require_cards(self._monitor)
        except MonitorLost:
            await self._wait_exit(_QUIT_SECONDS)  # its own exit code, not that of a signal
            await self.end()
            raise self.exited() from None

    async def _require_cards(self, monitor: Monitor) -> None:
        """Refuse a board without a card: QEMU only warns, and the guest would be on no network."""
        profile = self.spec.profile
        if "board" not in {profile.nic, *(card.nic for card in profile.cards)}:
            return
        networks = str(await monitor.execute("human-monitor-command", {"command-line": "info network"}))
        if left := _WITHOUT_CARD.findall(networks):  # what a card is on stands behind it
            raise ProfileInvalid(
                f"the machine {profile.machine} has no network card on board, or not as many",
                evidence=f"QEMU's netdev net{left[0]} has no peer",
                cure="Name a model in `nic` that it takes, like usb-net, or leave the network out",
            )

    @property
    def running(self) -> bool:
        """Whether QEMU is there."""
        return self.exit is None

    def trouble(self) -> str | None:
        """What is wrong with it, as far as its console or QEMU tells: a panic, a fault, a watchdog, a reboot loop.

        Or that a folder of its is served no more.
        """
        clues = self._clues()
        told = [postmortem.trouble(clues), postmortem.kept(clues) if self.running else None]
        if clues.fault:
            told.append('qemu_debug(action="crash") explains the triple fault')
        elif self.tells_traps and not self.spec.is_x86 and self._gave_up(clues):
            told.append('qemu_debug(action="crash") explains it, where an exception led to it')
        return "; ".join(filter(None, told)) or None

    def _gave_up(self, clues: postmortem.Clues) -> bool:
        """Whether the kernel did, or a part of it."""
        return postmortem.is_panic(clues) or any(each.kind in KERNEL_FAULTS for each in self.console.signs.faults())

    def moment(self) -> tuple[int, int] | None:
        """Up to where the console told of its newest panic or fault, and when (Unix time, nanoseconds); None: of none.

        Of what it told of that, the beginning.
        """
        signs, history = self.console.signs, self.console.history
        found = [each.at for each in (signs.panic(), *signs.faults()) if each is not None]
        return (min(history.end, max(found) + _TOLD_BYTES), history.marks.time_at(max(found))) if found else None

    def mark(self) -> Mark:
        """What has been told by now."""
        self.console.drain()
        return Mark(self.console.history.end, self.events.end, self.talk.reboots.loop, self.talk.reboots.fault)

    def trouble_since(self, mark: Mark) -> tuple[str, Sequence[str]]:
        """What was told since then: how it died, "" where nothing was, and each fault that it went on after."""
        self.console.drain()
        clues = self._clues(mark)
        new = replace(
            clues,
            faults=(),
            lost=(),
            loop=clues.loop if clues.loop != mark.loop else None,
            fault=clues.fault if clues.fault != mark.fault else None,
        )
        return postmortem.trouble(new) or "", clues.faults

    def _clues(self, since: Mark = Mark()) -> postmortem.Clues:
        events = [(each.at_ns, each.name, each.data) for each in self.events.since(since.events, self.events.end)]
        self.talk.look_for_life()
        signs = self.console.signs
        panic = signs.panic(since.console)
        faults = [str(each) for each in signs.faults(since.console)]
        fault, reboots = self._fault(), self.talk.reboots
        reset = reboots.of(fault) if fault else None
        return postmortem.Clues(
            events,
            str(panic) if panic else None,
            faults,
            reboots.loop,
            reboots.fault,
            reset,
            self.ran,
            lost=self._lost(),
        )

    def _lost(self) -> Sequence[str]:
        """What the guest was lent and has no more, in words: a daemon that ended well before QEMU, or not well."""
        found = self._daemons.lost() if self.ran else []  # before that QEMU itself fails, with the daemon's words
        self._diagnostics.drain()  # QEMU's stderr ends with it, and before a daemon can have seen that
        return [words for code, words in found if code or not self._diagnostics.ended.is_set()]

    def _reset(self, at_ns: int, by_guest: bool) -> None:
        """QEMU told of a reset. What the guest had said by then is in the socket, and so may be what it said since."""
        self.console.drain()
        self._diagnostics.drain()
        self._diagnostics.log.exceptions.restarted()
        said = self.console.said_by(at_ns)
        if not by_guest:
            self.talk.began_anew("the reset", said)
            return
        self._note_crash(at_ns, said)
        if self.crash and self.trap_log == "off":  # it boots again now: the next one is told with what led to it
            self._switching = asyncio.create_task(self._switch("on"))
        if self.talk.reboots.note(at_ns, self.console.history.end, self._fault()):
            self.talk.began_anew("the reboot", said)

    def _note_crash(self, at_ns: int, said: int) -> None:
        fault = self._diagnostics.log.fault
        if fault is not None and (self.crash is None or self.crash.fault is not fault):
            self.crash = Crash(fault, at_ns, said)
            self.wants_traps = True

    def _log_less(self) -> None:
        if self.trap_log == "on":
            self._switching = asyncio.create_task(self._switch("ended"))

    async def _switch(self, to: Literal["on", "ended"]) -> None:
        with contextlib.suppress(GuestExited, GuestFailed):  # it is ending
            await self._log_traps(to)

    async def log_traps(self) -> None:
        """Have QEMU's log tell of each exception; raises as `execute`.

        It makes a guest slow that has many; where there are too many of them, it ends.
        """
        await self._log_traps("on")

    async def _log_traps(self, to: Literal["on", "ended"]) -> None:
        await self._log(to)
        self._diagnostics.log.begin_traps()

    async def _log(self, traps: Literal["on", "ended"] | None = None) -> None:
        """Tell QEMU what to log; of exceptions as before, where nothing is said."""
        async with self._logging:
            to = traps or self.trap_log
            items = [
                *(["int"] if to == "on" else []),
                *(["cpu_reset"] if self.spec.is_x86 else []),
                *(item for part in self._diagnostics.parts if part.is_on for item in part.items),
                *self.spec.profile.log,
            ]
            line = f"log {','.join(items) or 'none'}"
            # The monitor for people has no errors: what it takes it answers with nothing.
            if said := str(await self.execute("human-monitor-command", {"command-line": line})).strip():
                raise GuestFailed(
                    f"QEMU of the guest {self.name} does not take {line!r}",
                    evidence=said[:_REFUSAL_CHARACTERS],
                    cure="Without that log neither exceptions nor blocks are told; what else a debugger tells is there",
                )
            self.trap_log = to

    async def log_blocks(self) -> BlockLog:
        """Have QEMU's log tell of each block of code that it runs, and count them; raises as `execute`.

        It makes a guest slow. A processor that goes round in blocks that QEMU has put together before does so until it
        leaves them, which `leave_blocks` has it do.
        """
        blocks = self._diagnostics.blocks = self._diagnostics.blocks or BlockLog()
        await self._begin_part(blocks)
        return blocks

    async def leave_blocks(self) -> None:
        """Have its processors leave the blocks that they are in, by a stop of no time; raises as `execute`."""
        async with self.state_lock:
            with anyio.CancelScope(shield=True):
                if (await self.execute("query-status"))["running"]:
                    await self.execute("stop")
                    await self.execute("cont")

    async def end_blocks(self) -> None:
        """Have QEMU's log tell of no blocks any more; raises as `execute`, but harmless where the guest has ended."""
        await self._end_part(self.blocks)

    async def log_translations(self) -> TranslationLog:
        """Have QEMU's log tell of each block of code as it is translated, and keep these; raises as `execute`.

        What QEMU translated before is not told until a snapshot is restored.
        """
        log = self._diagnostics.translations = self._diagnostics.translations or TranslationLog()
        await self._begin_part(log)
        return log

    async def end_translations(self) -> None:
        """Have QEMU's log tell of no translations any more; as `end_blocks`."""
        await self._end_part(self.translations)

    async def _begin_part(self, part: LogPart) -> None:
        part.begin(self._log_no_blocks)
        with anyio.CancelScope(shield=True):  # that QEMU logs it and nobody reads it is no state to be left in
            try:
                await self._log()
            except (GuestExited, GuestFailed):
                part.end()
                raise

    async def _end_part(self, part: LogPart | None) -> None:
        if part is None or not part.is_on:
            return
        part.end()
        with anyio.CancelScope(shield=True):
            try:
                await self._log()
            except (GuestExited, GuestFailed):
                if self.running:
                    raise

    def _log_no_blocks(self) -> None:
        self._less = asyncio.create_task(self._relog())

    async def _relog(self) -> None:
        with contextlib.suppress(GuestExited, GuestFailed):  # it is ending
            await self._log()

    @property
    def blocks(self) -> BlockLog | None:
        """What it ran up to now, by blocks of code; None where that was never wanted."""
        self._diagnostics.drain()
        return self._diagnostics.blocks

    @property
    def translations(self) -> TranslationLog | None:
        """Blocks of its code that were translated; None where that was never wanted."""
        self._diagnostics.drain()
        return self._diagnostics.translations

    @property
    def tells_traps(self) -> bool:
        """Whether QEMU can tell of its processors' exceptions."""
        return self.accelerator == "tcg" and self.spec.tells_traps

    @property
    def tells_faults(self) -> bool:
        """Whether QEMU tells of its processors' triple faults."""
        return self.accelerator == "tcg" and self.spec.is_x86

    def traps(self, most: int) -> tuple[list[Trap], list[Trap]]:
        """The newest exceptions of an x86's since its newest triple fault, as `ProcessorLog.newest` has them."""
        self._diagnostics.drain()
        return self._diagnostics.log.newest(most)

    @property
    def exceptions(self) -> tuple[list[Seen], int]:
        """The newest exceptions of a RISC-V's or an Arm's, where they are logged; and how often it was reset by now."""
        self._diagnostics.drain()
        log = self._diagnostics.log.exceptions
        return log.newest(), log.boot

    def _fault(self) -> Fault | None:
        """The triple faults of its processors; None where QEMU cannot tell of them."""
        log = self._diagnostics.log
        return Fault(log.faults, str(log.fault or "")) if self.tells_faults else None

    def exited(self) -> GuestExited:
        """The error for a guest that ended, with how, and the end of its console."""
        tail = printable(self.console.history.shown(0))[-_TAIL_CHARACTERS:]
        return GuestExited(
            f"the guest {self.name} has exited",
            evidence=f"{self.exit}; console (untrusted): {tail!r}" if self.ran else str(self.exit),
            cure="qemu_boot starts it again" if self.ran else images.cure(self.name, self.spec, str(self.exit)),
        )

    async def run(self) -> None:
        """Let the processors go."""
        self.ran = True  # before the answer: a guest of a few instructions has ended by then
        await self.execute("cont")

    async def wait_prompt(self, timeout: float, report: Report) -> tuple[bool, str | None]:
        """Wait for a prompt, past a countdown and a login; whether it came, and what came instead, in words.

        Raises:
            GuestExited: The guest has ended.
        """
        try:
            ending = await Boot(self.talk, self.spec.profile, self.pid).wait(timeout, report)
        except ConnectionError:
            ending = None
        if self.console.closed and (ending is None or ending.how == "gone"):
            await self._wait_exit(None)
            raise self.exited()
        words = words_for(ending, self.talk, self.spec, timeout)
        return ending is not None and ending.how == "prompt", words

    def last_line(self) -> str:
        """The last line on its console that says something."""
        lines = printable(self.console.history.tail(_LINE_BYTES)).strip().rsplit("\n", 1)
        return lines[-1][-_REFUSAL_CHARACTERS:]

    def boot_warnings(self) -> list[str]:
        """What the reader should know of it, and of what its boot did besides."""
        count = self.talk.reboots.count if not self.talk.reboots.loop else 0  # a loop is told as such
        found = list(self.spec.told)
        found += [f"it reset itself during the boot, {count} time{'s' if count > 1 else ''}"] if count else []
        if self.talk.prompts.learned is not None and not self.spec.profile.prompt:
            found.append(f"no prompt was set: {self.talk.prompts.shown()!r} was learned, by typing Enter twice")
        return found

    async def send(
        self,
        command: str,
        wanted: tuple[Wanted, ...],
        timeout: float,
        *,
        enter: bool = True,
        console: str | None = None,
    ) -> Output:
        """Type a command; wait for one of `wanted`, or for a prompt, in what comes after it.

        Without `enter` it is typed as it is, or as the keys that it names. `console` is the name of a further one. A
        guest that powers off meanwhile did so.

        Raises:
            RequestInvalid: It has no such console.
            GuestBusy: Another call has its turn.
            GuestPaused: It stands still: a debugger, a packet or QEMU's monitor has stopped it.
            GuestExited: The guest is gone, or went before the text came.
            GuestFailed: It does not read its console.
        """
        talk = self.consoles.talk(console)
        self._require_running()
        if halted := talk.console.halted:
            self.consoles.halt_told = True
            raise GuestPaused(
                f"the guest {self.name} is {halted}, and nothing was typed",
                cure='qemu_debug(action="continue", timeout=0) lets it run, or, where no debugger is attached, '
                'qemu_monitor(command="cont"); then type',
            )
        typed = command if enter else typed_bytes(command)
        try:
            output = await talk.send(Ask(typed, timeout, wanted, enter))
        except TimeoutError:
            raise GuestFailed(
                f"the guest {self.name} did not take the command within {timeout:g} s",
                evidence="its UART's buffer is full: it does not read its console",
                cure="qemu_read shows what it does; qemu_shutdown ends it",
            ) from None
        except ConnectionError:
            await self._wait_exit(None)
            raise self.exited() from None
        if not output.matched and self.console.closed:
            return await self._ended_in(output)
        return self._told(output)

    def _told(self, output: Output) -> Output:
        """An answer's output; it may tell that the guest stands."""
        self.consoles.halt_told |= output.how == "halted"
        return output

    async def _ended_in(self, output: Output) -> Output:
        """The answer for a guest that ended while its output was awaited: an error, unless it ended well."""
        await self._wait_exit(None)
        if self.exit is None or self.exit.code != 0 or not self.exit.reason.startswith("guest-"):
            raise self.exited()
        return replace(output, notes=(*output.notes, f"the guest has ended: {self.exit}"))

    async def read(self, wanted: tuple[Wanted, ...], timeout: float, console: str | None = None) -> Output:
        """What a console showed since the last answer; a guest that has ended is read as well."""
        output = await self.consoles.talk(console).read(wanted, timeout)
        await self.settle()
        return self._told(output)

    async def settle(self) -> None:
        """Wait for an exit that has begun: a killed QEMU loses console and TAP before the kernel reports its end.

        Before that, while its other threads end, its first one is a zombie already (proc(5), /proc/pid/stat).
        """
        if self.console.closed or (self.running and state_of(self.pid) == "Z"):
            await self._wait_exit(_QUIT_SECONDS)

    async def over(self) -> None:
        """Wait for its end, whatever for."""
        await self._wait_exit(None)

    async def confirm(self) -> None:
        """Have QEMU itself say that it is there.

        Raises:
            GuestExited: It has ended, or is about to.
            GuestFailed: It does not answer.
        """
        await (self.execute("query-status") if self._monitor else self.greet())

    def page(self, position: int, console: str | None = None) -> Output:
        """What a console showed from `position` on, from the front.

        Raises:
            RequestInvalid: The console has not come that far, or there is none of that name.
        """
        found = self.consoles.talk(console).console
        if position > found.history.end:
            raise RequestInvalid(
                f"position={position} is beyond the console's end",
                evidence=f"it ended at {found.history.end}",
                cure="Use a position that an answer gave, or 0 for the oldest that is kept",
            )
        return found.page(position)

    def _require_running(self) -> None:
        if not self.running:
            raise self.exited()

    async def _type(self, data: bytes) -> None:
        with contextlib.suppress(ConnectionError):  # the wait that follows finds the console closed
            await self.console.write(data)

    async def execute(
        self, command: str, arguments: dict[str, Any] | None = None, timeout: float = ANSWER_SECONDS
    ) -> Any:
        """Run a QMP command and return its answer, which is awaited for `timeout` seconds.

        Raises:
            GuestExited: The guest is gone.
            GuestFailed: QEMU refused; its class of error and its text are inside. Or it did not answer.
        """
        async with self._asking() as monitor:
            return await monitor.execute(command, arguments, timeout)

    async def _add_fd(self, fd: int) -> int:
        async with self._asking() as monitor:
            return (await monitor.add_fd(fd)).fd

    async def add_file(self, fd: int) -> str:
        """Give QEMU a duplicate of a file's descriptor; its path for QEMU. Raises as `execute`."""
        async with self._asking() as monitor:
            return fdset_path((await monitor.add_fd(fd)).fdset)

    async def get_fd(self, fd: int, name: str) -> None:
        """Give QEMU a duplicate of a file descriptor by a name, for one later command; raises as `execute` does."""
        async with self._asking() as monitor:
            await monitor.get_fd(fd, name)

    async def run_job(self, command: str, arguments: dict[str, Any], timeout: float) -> None:
        """Run a QMP command that starts a job, and wait for that job's end; raises as `execute` does."""
        async with self._asking() as monitor:
            await monitor.run_job(command, arguments, timeout)

    async def set_link(self, *, up: bool, card: int = 0) -> None:
        """Plug the guest's network card in or pull it: the guest sees its carrier come or go, and no frame passes.

        `card` is its number.

        Raises:
            GuestExited: The guest is gone.
            GuestFailed: QEMU does not answer.
        """
        await self.execute("set_link", {"name": netdev(card), "up": up})

    async def debugger_socket(self) -> Path:
        """The socket of its gdb stub, which is opened if the boot did not ask for one; raises as `execute`."""
        if self.gdb is None:
            listening = self._stack.enter_context(gdb.listening())
            await self.get_fd(listening.socket.fileno(), "gdb")
            await self.execute("chardev-add", gdb.backend("gdb"))
            listening.socket.close()  # QEMU has its own
            await self.execute("human-monitor-command", {"command-line": "gdbserver chardev:gdb"})
            self.gdb = listening.path
        return self.gdb

    @contextlib.asynccontextmanager
    async def _asking(self) -> AsyncIterator[Monitor]:
        if self._monitor is None:
            raise GuestNotRunning(f"the guest {self.name} is not running", cure="qemu_boot starts it")
        try:
            yield self._monitor
        except MonitorLost:
            if await self._wait_exit(_LOST_SECONDS):
                raise self.exited() from None
            raise GuestFailed(
                f"the monitor of the guest {self.name} is lost, QEMU runs on",
                evidence=f"the connection ended, and the process {self.pid} has not within {_LOST_SECONDS:g} s",
                cure="qemu_send and qemu_read go on; qemu_shutdown ends it",
            ) from None

    @property
    def display(self) -> Display:
        """Its screen, keyboard and pointer.

        Raises:
            GuestExited: The guest is gone.
            NoDisplay: It was booted without them.
        """
        self._require_running()
        if not self.spec.gpu:
            raise NoDisplay(
                f"the guest {self.name} has no screen, keyboard and pointer",
                evidence="it was booted with gpu=false",
                cure="qemu_shutdown it, then qemu_boot(gpu=true); qemu_send and qemu_read use its serial console",
            )
        return self._display

    async def ask_to_power_off(self, timeout: float) -> str | None:
        """Type the profile's shutdown command and wait for QEMU's end, `timeout` seconds at most in all.

        Returns why that was in vain, in words; None where it was not, or was not tried.
        """
        command = self.spec.profile.shutdown_command
        if not self.running or not command or timeout <= 0:
            return None
        if halted := self.console.halted:
            return f"{command!r} was not typed: the guest was {halted}"
        self._ending = f"console command {command!r}"
        start = self.console.history.end
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._type((command + self.spec.profile.ends_command).encode())
                await self._wait_exit(None)
        if self.exit is not None:
            return None
        said = printable(self.console.history.since(start)).strip()[-_REFUSAL_CHARACTERS:]
        return f"{command!r} did not end it within {timeout:g} s; the console showed {said!r}"

    async def end(self) -> Exit:
        """End QEMU now: quit over QMP, then SIGTERM, then SIGKILL. Harmless when it has ended; cannot be cancelled.

        Raises:
            GuestFailed: The kernel holds it; this may be called again.
        """
        with anyio.CancelScope(shield=True):
            await self._end()
        return self._watcher.result()

    async def _end(self) -> None:
        try:
            patience = _QUIT_SECONDS if self.running and await self._quit() else 0.0
            for step, signal in (("SIGTERM", self._process.terminate), ("SIGKILL", self._process.kill)):
                if await self._wait_exit(patience):
                    break
                patience = _QUIT_SECONDS
                self._ending = step
                signal()
            if not await self._wait_exit(_KILL_SECONDS):
                raise GuestFailed(
                    f"QEMU does not end, not even by SIGKILL: the guest {self.name}",
                    evidence=f"the kernel holds the process {self.pid}, as it does while a disk does not answer",
                    cure="See to the disks of its drives; then qemu_shutdown releases the rest",
                )
        finally:
            self.console.close()
            self.consoles.close()
            await self._stack.aclose()

    async def _quit(self) -> bool:
        """Ask QEMU to quit; whether there was a monitor to ask."""
        if self._monitor is None:
            return False
        self._ending = "quit"
        with contextlib.suppress(MonitorLost, GuestFailed, TimeoutError):  # the next steps are stronger
            async with asyncio.timeout(_QUIT_SECONDS):
                await self._monitor.execute("quit")
        return True

    async def _wait_exit(self, timeout: float | None) -> bool:
        """Wait for the process's end; whoever is cancelled in it leaves the watcher alone, unlike an await of it."""
        done, _ = await asyncio.wait({self._watcher}, timeout=timeout)
        return bool(done)

    async def _watch(self) -> Exit:
        """Collect stderr's end and the exit code; runs for the process's whole life."""
        await self._diagnostics.ended.wait()
        ended_ns = time.time_ns()
        code = await self._process.ended()
        reason = await self._monitor.shutdown_reason() if self._monitor else None
        await self.console.wait(lambda: None, _QUIT_SECONDS)  # for its end: what QEMU wrote last may not be read yet
        self.consoles.drain()
        self._note_crash(ended_ns, self.console.history.end)
        words = printable(bytes(self._diagnostics.log.words)).strip()[-_TAIL_CHARACTERS:]
        if not self.ran and (complaint := self._daemons.words()):  # later they complain that QEMU is gone
            words = f"{words}; virtiofsd: {complaint}".removeprefix("; ")
        may_exit = not words and any(each["driver"] == "isa-debug-exit" for each in self.spec.profile.devices)
        clues = replace(self._clues(), may_exit=may_exit)
        self.exit = Exit(code, postmortem.end_reason(code, reason, self._ending, clues), words)
        if self._on_exit:
            self._on_exit(self.exit)
        return self.exit
