"""The captures of one server: started within a limit, found by their ids, reported with what explains them, ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

import anyio
from anyio.lowlevel import checkpoint_if_cancelled
from anyio.to_thread import run_sync as to_thread

from rawtap.blocking import DISK_SECONDS, in_turn, on_disk, to_their_end
from rawtap.capture.files import stalled
from rawtap.capture.interface import InterfaceSource
from rawtap.capture.notifier import Notifier
from rawtap.capture.session import CaptureRequest, CaptureSession, Snapshot
from rawtap.capture.source import Source
from rawtap.capture.trimmer import Trimmer
from rawtap.errors import CaptureFailed, CaptureUnknown, ServerExhausted, ServerStopping
from rawtap.lab.chronicle import Chronicle
from rawtap.limits import require_room
from rawtap.settings import Settings

if TYPE_CHECKING:
    from rawtap.packets.tail import Part

_KEPT = 200  # finished ones that are still listed
_PATIENCE = 0.5  # seconds, for a look at a file
_LOOKERS = 4


class Feed(Protocol):
    """What makes frames come to a capture's source, if opening it is not enough. It belongs to the event loop."""

    @property
    def source(self) -> Source: ...

    async def attach(self) -> None:
        """Let frames come; the capture is armed.

        Raises:
            RawtapError: They do not; `cut` is called all the same.
        """

    async def cut(self) -> None:
        """Let no more frames come; all that passed before are in the source then. May be called again."""

    def over(self) -> None:
        """Be told that the capture takes no more."""


@dataclass(frozen=True)
class InterfaceFeed:
    """An interface's: libpcap does it all."""

    source: InterfaceSource

    async def attach(self) -> None:
        """Frames come from the moment when the capture is armed."""

    async def cut(self) -> None:
        """The worker itself lets no more in when it is asked to stop."""

    def over(self) -> None:
        """Nothing is held."""


class Observer(Protocol):
    """Explains one capture, from what it saw around it; made before it is armed."""

    def end(self, packets: int, /) -> None:
        """Look for the last time, when nothing more comes in; in the capture's own thread."""

    def explain(
        self, session: CaptureSession, snapshot: Snapshot, *, at_once: bool = False
    ) -> tuple[list[str], str | None]:
        """What happened meanwhile, as warnings, and why there is no packet; None where there is one."""


@dataclass(frozen=True)
class Capture:
    """A capture by its id, with what was seen of the interfaces meanwhile."""

    id: str
    session: CaptureSession
    feed: Feed
    observation: Observer
    notifier: Notifier

    @property
    def interface(self) -> str:
        """What it captures on."""
        return self.session.request.interface

    @property
    def live(self) -> bool:
        """Whether the kernel compares its frames with its filter (see `packets.tags`)."""
        return self.feed.source.tags_taken_off

    def parts(self) -> list[Part]:
        """The files that are there now, for a reader that follows them."""
        from rawtap.packets.tail import Part

        saved = self.session.saved  # asked first: the newest file has these, and perhaps more
        segments = self.session.segments
        behind = [*(each.packets_before for each in segments[1:]), saved]
        return [
            Part(each.number, each.path, each.packets_before, self.live, max(0, end - each.packets_before))
            for each, end in zip(segments, behind, strict=True)
        ]


@dataclass(frozen=True)
class CaptureReport:
    """A capture's row: where it stands, and why nothing was there."""

    capture: Capture
    snapshot: Snapshot
    diagnosis: str | None


@dataclass(eq=False)
class Captures:
    """Those that run, and the newest of those that have ended. Everything here belongs to the event loop.

    Attributes:
        on_change: Called when a capture has started, and (True) when nothing more comes into one.
    """

    settings: Settings
    chronicle: Chronicle
    on_change: Callable[[Capture, bool], object] | None = None
    _by_id: dict[str, Capture] = field(default_factory=dict)
    _counter: int = 0
    _opening: list[anyio.Event] = field(default_factory=list)  # each is set when it has started, or is gone
    _stalled: set[str] = field(default_factory=set)  # those whose end was waited for in vain
    _closing: bool = False
    _meant: str | None = None  # by the last call that named none, until another starts
    _trimmer: Trimmer | None = None
    _trimmer_lock: anyio.Lock = field(default_factory=anyio.Lock)
    # Of their own: those that hang take no thread from anybody else.
    _lookers: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(_LOOKERS))

    def __contains__(self, capture_id: str) -> bool:
        return capture_id in self._by_id

    def all(self) -> list[Capture]:
        """All that are listed, oldest first."""
        return list(self._by_id.values())

    def get(self, capture_id: str | None, *, running: bool = False) -> Capture:
        """The capture of that id; without one that which the last such call meant, where no other has started since.

        Else the newest that runs, or the newest of all. `running`: one that runs goes before what was meant.

        Raises:
            CaptureUnknown: There is none.
        """
        if capture_id is None and self._by_id:
            if self._meant not in self._by_id or (running and not self._by_id[self._meant].session.running):
                ordered = self.all()
                self._meant = next((each for each in reversed(ordered) if each.session.running), ordered[-1]).id
            return self._by_id[self._meant]
        found = self._by_id.get(capture_id or "")
        if found is None:
            there = ", ".join(self._by_id) or "none"
            raise CaptureUnknown(
                f"there is no capture {capture_id}" if capture_id else "there is no capture",
                evidence=f"captures: {there}",
                cure="qemu_pcap_start starts one; qemu_pcap_status lists them",
            )
        return found

    async def start(self, request: CaptureRequest, feed: Feed, observation: Observer) -> Capture:
        """Start a capture of what `feed` brings; it is armed when this returns.

        Raises:
            RawtapError: No capture and no file is left.
        """
        self._counter += 1
        capture_id = f"c{self._counter}"
        loop = asyncio.get_running_loop()

        def ended(session: CaptureSession) -> None:
            try:
                observation.end(session.saved)
            finally:
                self.chronicle.capture_ended(capture_id, session)
                loop.call_soon_threadsafe(feed.over)
                loop.call_soon_threadsafe(self._tell_of, capture_id, True)

        with self._counted_start():
            session = await to_thread(
                CaptureSession.start,
                request,
                feed.source,
                self.settings.capture_dir,
                f"{request.interface}-{capture_id}",
                ended,
                await self._kept(),
                partial(self.chronicle.capture_armed, capture_id),
                self.settings.buffer_bytes,
            )
            try:
                await feed.attach()
                await checkpoint_if_cancelled()
                self._require_open()
            except BaseException:  # nobody will learn of this capture
                with anyio.CancelScope(shield=True):
                    await in_turn(feed.cut, partial(on_disk, session.path, session.discard))
                raise
            capture = Capture(capture_id, session, feed, observation, Notifier(session))
            self._by_id[capture_id] = capture
        self._meant = None
        self._forget_old()
        self._tell_of(capture_id, False)
        return capture

    @property
    def running(self) -> int:
        """How many run, or are being opened."""
        return len(self._opening) + sum(capture.session.running for capture in self._by_id.values())

    @contextmanager
    def _counted_start(self) -> Iterator[None]:
        """Hold the limit on captures, counting those that are being opened."""
        require_room(self.running, self.settings.max_captures, "captures are running", "qemu_pcap_stop ends one")
        over = anyio.Event()
        self._opening.append(over)
        try:
            yield
        finally:
            self._opening.remove(over)
            over.set()

    def _require_open(self) -> None:
        if self._closing:
            raise ServerStopping("the server is stopping", cure="Start it again")

    async def _kept(self) -> Trimmer:
        """The trimmer of capture files, started with the first of them."""
        async with self._trimmer_lock:
            if self._trimmer is None:
                try:
                    self._trimmer = await to_thread(Trimmer)
                except OSError as error:
                    raise ServerExhausted.of(error) or CaptureFailed(
                        "the process that keeps capture files whole cannot be started",
                        evidence=str(error),
                        cure="qemu_doctor checks the set-up",
                    ) from error
            return self._trimmer

    def _forget_old(self) -> None:
        finished = [key for key, capture in self._by_id.items() if not capture.session.running]
        for key in finished[: max(0, len(self._by_id) - _KEPT)]:
            del self._by_id[key]

    def _tell_of(self, capture_id: str, ended: bool) -> None:
        if self.on_change and capture_id in self._by_id:
            self.on_change(self._by_id[capture_id], ended)

    async def report(self, capture: Capture, *, at_once: bool = False) -> CaptureReport:
        """A capture's row as it is now; one that has just begun says only `at_once` why it is empty."""
        return await self._report(capture, capture.session.snapshot(), at_once=at_once)

    async def stop(self, capture: Capture, patience: float = DISK_SECONDS) -> CaptureReport:
        """End a capture with everything that was on the wire in its file; one that has ended is reported again.

        One whose disk takes nothing for `patience` seconds is reported as it is: running, with an error that says so.
        """
        with anyio.CancelScope(shield=True):
            await capture.feed.cut()
            snapshot = await to_thread(capture.session.stop, patience)
        if snapshot.state == "running":
            self._stalled.add(capture.id)
            seen = f"it took nothing for {DISK_SECONDS:g} s since the stop; {snapshot.size_bytes} bytes are in the file"
            snapshot = replace(snapshot, error=stalled(self.settings.capture_dir, seen))
        else:
            self._stalled.discard(capture.id)
        return await self._report(capture, snapshot)

    async def _report(self, capture: Capture, snapshot: Snapshot, *, at_once: bool = False) -> CaptureReport:
        explain = partial(capture.observation.explain, capture.session, snapshot, at_once=at_once)
        warnings, diagnosis = await to_thread(explain)
        looked = await self._look(capture.session) if snapshot.state == "running" else []
        snapshot = replace(snapshot, warnings=(*snapshot.warnings, *looked, *warnings))
        return CaptureReport(capture, snapshot, diagnosis)

    async def _look(self, session: CaptureSession) -> list[str]:
        """What a look at the file of a running capture finds; a disk that hangs holds nobody up."""
        with anyio.move_on_after(_PATIENCE):
            return await to_thread(session.look, abandon_on_cancel=True, limiter=self._lookers)
        return ["its file cannot be looked at: the disk does not answer"]

    async def discard(self, capture: Capture) -> None:
        """End a capture and forget it, with its files."""
        del self._by_id[capture.id]
        await in_turn(capture.feed.cut, partial(on_disk, capture.session.path, capture.session.discard))

    async def stop_those(
        self, which: Callable[[Capture], bool], *, ended_since: float | None = None
    ) -> list[CaptureReport]:
        """Stop those that run, at once; all are asked before the first is waited for. It is not to be cancelled.

        `ended_since`: and report those that were started after it and that their guest's end has ended.

        Raises:
            BaseException: One that could not be stopped, or a group of them; the others are.
        """

        def is_wanted(session: CaptureSession) -> bool:
            with_guest = ended_since is not None and session.started_at >= ended_since and session.ended_with_guest
            return session.running or with_guest

        wanted = [capture for capture in self.all() if is_wanted(capture.session) and which(capture)]
        for capture in wanted:
            capture.feed.over()
            capture.session.request_stop()
        # Who was waited for in vain is not waited for again at each step of a guest's end.
        patience = {True: 0.0, False: DISK_SECONDS}
        with anyio.CancelScope(shield=True):
            return await to_their_end(self.stop(each, patience[each.id in self._stalled]) for each in wanted)
        raise RuntimeError("a shielded stop was cut short")

    async def close(self) -> None:
        """End all, wait until the kernel has taken back their sockets, and end their trimmer.

        Those whose disk does not answer are left to their threads.

        Raises:
            BaseException: What failed, or a group of it; all the rest is ended.
        """
        self._closing = True
        for starting in list(self._opening):
            await starting.wait()
        await in_turn(partial(self.stop_those, lambda _: True), self._close_all, self._close_trimmer)

    async def _close_all(self) -> None:
        await to_their_end(self._close(each) for each in self.all() if each.id not in self._stalled)

    @staticmethod
    async def _close(capture: Capture) -> None:
        await in_turn(capture.feed.cut, partial(on_disk, capture.session.path, capture.session.close))

    async def _close_trimmer(self) -> None:
        trimmer, self._trimmer = self._trimmer, None
        if trimmer:
            await on_disk(self.settings.capture_dir, trimmer.close)
