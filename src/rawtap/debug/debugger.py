"""A debugger on one guest: whether the guest runs or stands, and steps; `points` has its breakpoints.

Theory of operation. gdb tells by itself when the guest goes and when it stands ("*running", "*stopped"); `stop` is what
it told last. A guest that stands by the will of the debugger is told to `on_stop`, so that nobody else waits for it.
gdb takes breakpoints only while the guest stands: to set one in a guest that runs it is held for a moment, which is
told to nobody.

However it ends, the guest goes on: gdb lets go of it, or, where gdb is gone, this asks QEMU to (`stub`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio

from rawtap.debug import memory, places, stub
from rawtap.debug.breakpoints import Judge, judgement
from rawtap.debug.code import Code
from rawtap.debug.gdb import LOAD_SECONDS, Gdb
from rawtap.debug.names import Names
from rawtap.debug.places import Symbols
from rawtap.debug.records import Record, rows_at, text_at
from rawtap.debug.stops import Stop, arguments_of, stop_of
from rawtap.errors import DebugError, DebugFailed, DebugRefused

_HALT_SECONDS = 10.0
_INTERRUPT_SECONDS = 0.05

OnStop = Callable[[Stop | None], None]


class Debugger:
    """One, from `attached` to `close`.

    Attributes:
        stop: Where the guest stands; None while it runs.
        gone: Why there is nothing to debug any more, "" while there is.
        judges: Who says of a stop at a breakpoint, by its number, whether it is one; None has the guest go on.
    """

    def __init__(self, stub_path: Path, on_stop: OnStop) -> None:
        self.stop: Stop | None = None
        self.gone = ""
        self.registers: tuple[str, ...] = ()
        self.processors = 1
        self.notes: list[str] = []  # on its symbols
        self.names = Names()
        self._stub, self._on_stop = stub_path, on_stop
        self._gdb: Gdb | None = None
        self._changed = asyncio.Event()
        self._holding = False
        self._held: Stop | None = None
        self._connected = False
        self.judges: dict[str, Judge] = {}
        self._stepping = False
        self._pending: Stop | None = None  # at a breakpoint of a judge, who has not said yet
        self._judging: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()
        self._watch: asyncio.Task[None] | None = None

    @classmethod
    async def attached(
        cls, stub_path: Path, symbols: Sequence[Symbols], source: Path | None, on_stop: OnStop
    ) -> Debugger:
        """A debugger on the guest behind that socket, which stands from then on.

        `source` is the folder in which gdb finds source files, None for none.

        Raises:
            DebugError: One of its kinds; the guest runs on.
        """
        self = cls(stub_path, on_stop)
        self._gdb = await places.start(symbols, source, self._take)
        self._watch = asyncio.create_task(self._clean_up(self._gdb))
        try:
            await self._begin(self._gdb, symbols, source)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self.close()
            raise
        return self

    async def _begin(self, gdb: Gdb, symbols: Sequence[Symbols], source: Path | None) -> None:
        await gdb.command("gdb-set", "mi-async", "on", timeout=LOAD_SECONDS)  # it is still being started
        if source:
            await gdb.command("environment-directory", str(source))
        self.notes += await places.load(gdb, symbols)
        self.names = Names(await Code.read((each.file, each.offset) for each in symbols))
        self._connected = True
        try:
            await gdb.say(f"target remote {self._stub}")
        except DebugRefused as error:
            raise DebugRefused(
                "gdb cannot be connected to the guest",
                evidence=error.evidence,
                cure="Is another debugger connected? qemu_status shows the guest",
            ) from error
        names = (await gdb.command("data-list-register-names")).results.get("register-names")
        self.processors = len(rows_at((await gdb.command("thread-info")).results, "threads"))
        self.registers = (
            tuple(each for each in names if isinstance(each, str) and each) if isinstance(names, list) else ()
        )

    # ------------------------------------------------------------------ what gdb tells

    def _take(self, record: Record) -> None:
        if record.word == "running":
            if not self._holding:
                self._set(None)
        elif record.word == "stopped" and "frame" in record.results:
            stop = stop_of(record.results)
            if self._holding and stop.why == "an interrupt":
                self._held = stop
                self._tell()
            elif any(each in self.judges for each in stop.breakpoints):
                self._pending = stop
                self._tell()
                if not self._holding:  # else whoever holds it asks
                    self._judging = asyncio.create_task(self._judged())
            else:
                self._set(stop)
        elif record.word in {"thread-group-exited", "stopped"} and not self.gone:
            self.gone = "the guest has ended, or QEMU closed its debugger's socket"
            self._set(None)
            if self._gdb is not None:
                self._gdb.kill()

    def _set(self, stop: Stop | None) -> None:
        self.stop = stop
        self._on_stop(self.names.sure(stop) if stop is not None else None)
        self._tell()

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _clean_up(self, gdb: Gdb) -> None:
        """When gdb has ended, whatever for, the guest goes on."""
        how = await asyncio.shield(gdb.ended)
        self.gone = self.gone or f"gdb ended: {how}"
        if self._connected and not await stub.let_go(self._stub):  # whoever waits for it is told that it stands, still
            self.gone += '; QEMU does not tell that the guest runs on: qemu_monitor(command="cont") has it run'
            self.stop = None
            self._tell()
        else:
            self._set(None)

    async def _judged(self) -> None:
        with contextlib.suppress(DebugError):  # gdb has ended, which is told
            async with self._turn():
                pass

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Have the guest to oneself for this block. A stop that a judge has not seen yet is judged first."""
        async with self._lock:
            await self._judge()
            yield

    async def _judge(self, *, stays: bool = False) -> None:
        """Have the stop judged that waits for it: it is told, or the guest goes on. Not to be cancelled.

        A guest that `stays` was to be stopped at any rate.
        """
        with anyio.CancelScope(shield=True):
            stop, self._pending = self._pending, None
            if stop is None or self.gone:
                return
            judged = await judgement(self.gdb, self.judges, stop)
            if judged is None and self._stepping:  # which is over, for gdb
                judged = replace(stop, why=f"{stop.why}, in the middle of a step; the frame does not match")
            if judged is None and stays:
                judged = replace(stop, why="an interrupt")
            if judged is not None:
                self._set(judged)
                return
            try:
                await self._go_from(stop, "exec-continue")
            except DebugRefused as error:
                why = f"{stop.why}, whose frame does not match, and it cannot go on: {error.evidence}"
                self._set(replace(stop, why=why))

    # ------------------------------------------------------------------ run control

    @property
    def gdb(self) -> Gdb:
        """The gdb.

        Raises:
            DebugFailed: It, or the guest, has ended.
        """
        if self._gdb is None or self.gone:
            raise DebugFailed(
                "there is nothing to debug any more",
                evidence=self.gone,
                cure='qemu_status shows the guest; qemu_debug(action="attach") starts another gdb',
            )
        return self._gdb

    def require_stop(self) -> Stop:
        """Where it stands.

        Raises:
            DebugRefused: It runs.
            DebugFailed: It, or gdb, has ended.
        """
        _ = self.gdb
        if self.stop is None:
            raise DebugRefused(
                "the guest runs", cure='qemu_debug(action="interrupt") stops it; or wait for a breakpoint'
            )
        return self.stop

    async def go(self, command: str, *words: str) -> None:
        """Have the guest go on by a command of the machine interface, like "exec-next". Raises as `require_stop`."""
        async with self._lock:
            await self._go_from(self.require_stop(), command, *words)

    async def _go_from(self, stop: Stop, command: str, *words: str) -> None:
        self._stepping = command != "exec-continue"
        self.stop = None  # not when gdb has told: it may stand again by then
        with anyio.CancelScope(shield=True):
            try:
                await self.gdb.command(command, *words)
            except DebugRefused:
                self._set(stop)
                raise

    async def wait(self, timeout: float) -> Stop | None:
        """Where it stands, as soon as it does; None where it runs on for so long, or is gone."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self.stop is None and not self.gone:
                    await self._changed.wait()
        return self.stop

    async def interrupt(self) -> Stop:
        """Stop it here and now; harmless where it stands.

        Raises:
            DebugFailed: It does not stop.
        """
        async with self._lock:
            await self._halt()
            await self._judge(stays=True)  # it may have come to a judge's breakpoint meanwhile, and stands there
        return self.require_stop()

    async def stopped_at(self, at: str) -> bool:
        """Somebody else has stopped the guest, which QEMU tells as an interrupt; whether it stands."""
        with contextlib.suppress(DebugFailed):
            stop = await self.interrupt()  # it may have been taken for held at that moment, and be let go again
            if stop.why == "an interrupt":
                self._set(replace(stop, why=at))
        return self.stop is not None

    async def _halt(self) -> None:
        """Stop it, by as many interrupts as it takes: one that comes while gdb looks at a stop of its own is lost."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_HALT_SECONDS):
                while not self._is_still():
                    changed = self._changed
                    await self.gdb.interrupt()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(_INTERRUPT_SECONDS):
                            await changed.wait()
        if not self._is_still() or self.gone:
            raise self._not_halted()

    def _not_halted(self) -> DebugFailed:
        return DebugFailed(
            "the guest does not stop",
            evidence=self.gone or f"nothing came within {_HALT_SECONDS:g} s",
            cure="qemu_status shows it; qemu_shutdown ends it",
        )

    @asynccontextmanager
    async def held_still(self) -> AsyncIterator[Gdb]:
        """Hold a guest that runs for this block; one that stands stays as it is."""
        async with self._turn():
            gdb = self.gdb
            if self.stop is not None:
                yield gdb
                return
            self._holding = True
            try:
                await self._halt()
                yield gdb
            finally:
                await self._run_on()

    async def _run_on(self) -> None:
        """Let a guest go that was held; not one that stands for a reason of its own by now."""
        held, self._holding, self._held = self._held, False, None
        await self._judge()
        if held is not None and self.stop is None and not self.gone:
            try:
                await self._go_from(held, "exec-continue")
            except DebugRefused as error:
                raise DebugRefused(
                    "the guest was held for that, and cannot go on",
                    evidence=error.evidence,
                    cure='qemu_debug(action="delete") removes breakpoints, and "continue" has it run then',
                ) from error

    def _is_still(self) -> bool:
        """Whether it stands, be it held for a moment, or nothing of it will come."""
        return any(each is not None for each in (self._held, self._pending, self.stop)) or bool(self.gone)

    async def refresh(self, why: str) -> None:
        """Have gdb read again the state of a guest that stands, which something else has changed, as `why` says."""
        async with self._lock:
            if self.stop is None:
                return
            for what in ("register-cache", "dcache"):
                await self.gdb.say(f"maintenance flush {what}")
            self._set(await self._stop_of(self.stop.thread, why))

    async def read(self, address: int, count: int) -> bytes:
        """What is in memory there, up to what cannot be read. Raises DebugFailed."""
        return await memory.read(self.gdb, address, count)

    async def verify(self) -> None:
        """Have the stop's names be those of the code that is in memory there."""
        async with self._lock:
            stop = self.stop
            told = await self.names.verified(stop, self.read) if stop is not None else None
            if told is not stop and self.stop is stop:
                self._set(told)

    async def turn_to(self, thread: str) -> None:
        """Look at that processor, by gdb's number of it, until the guest goes on. Steps are that one's as well.

        Raises:
            DebugRefused: There is none of that number, or the guest runs.
        """
        async with self._lock:
            self.require_stop()
            rows = rows_at((await self.gdb.command("thread-info")).results, "threads")
            known = [text_at(each, "id") for each in rows]
            if thread not in known:
                raise DebugRefused(
                    f"there is no processor {thread[:100]!r}",
                    evidence=f"there are: {', '.join(known)}",
                    cure="Name one",
                )
            self.stop = await self._stop_of(thread, f"processor {thread} is looked at")

    async def _stop_of(self, thread: str, why: str) -> Stop:
        """Where that processor stands."""
        at = ("--thread", thread)
        frame = (await self.gdb.command("stack-info-frame", *at, "--frame", "0")).results
        listed = (await self.gdb.command("stack-list-arguments", *at, "--all-values", "0", "0")).results
        given = rows_at(listed, "stack-args")
        stop = stop_of({**frame, "reason": why, "thread-id": thread})
        return replace(stop, arguments=arguments_of(given[0]) if given else ())

    # ------------------------------------------------------------------ end

    async def close(self) -> None:
        """End gdb; the guest goes on without breakpoints. Harmless where it has ended; not to be cancelled."""
        with anyio.CancelScope(shield=True):
            gdb = self._gdb
            if gdb is None:
                return
            if not self.gone:
                with contextlib.suppress(DebugError):
                    async with self.held_still():
                        await self._let_go(gdb)
            await gdb.close()
            if ending := {each for each in (self._watch, self._judging) if each is not None}:
                await asyncio.wait(ending)

    async def abandon(self, why: str) -> None:
        """End gdb for a guest that is no more."""
        self.gone, self._connected = why, False
        await self.close()

    async def _let_go(self, gdb: Gdb) -> None:
        self.gone = "the debugger has left"
        await gdb.command("target-detach")
        self._connected = False
        self._set(None)
