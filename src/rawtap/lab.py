"""The Lab: the one owner of guests, networks and captures.

Order of start: bridge, TAP, QEMU (paused), capture, processors. Order of release: guest, captures (drained), TAP,
bridge. Whatever fails or is cancelled on the way up is taken down again by the same path; releases are shielded
from cancellation, so that a cancelled call leaves nothing half-way.

Netlink, libpcap and files block, so they run in worker threads (`in_thread`, `to_thread`); processes, QMP and consoles
belong to the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

import anyio
from anyio.lowlevel import checkpoint_if_cancelled
from anyio.to_thread import run_sync as to_thread

from rawtap import privileges
from rawtap.capture.keeper import Keeper
from rawtap.capture.session import CaptureRequest, CaptureSession, Snapshot
from rawtap.capture.tidings import Tidings
from rawtap.chronicle import Chronicle
from rawtap.errors import (
    CaptureFailed,
    CaptureUnknown,
    GuestAlreadyRunning,
    GuestNotRunning,
    InterfaceNotAllowed,
    NetworkError,
    NoSuchInterface,
    RawtapError,
    RequestInvalid,
    ServerExhausted,
    ServerStopping,
)
from rawtap.guest import profile as profiles
from rawtap.guest.console import Output
from rawtap.guest.machine import Exit, Machine
from rawtap.guest.profile import TRUSTED_BRIDGES, BootOptions, MachineSpec, Nic
from rawtap.network import addressing, links, network, watch
from rawtap.network.links import Link
from rawtap.network.network import Bridge, BridgeSpec, Tap
from rawtap.network.watch import Change, Watcher
from rawtap.observation import GuestNic, Observation, Scene
from rawtap.packets.index import Indexes
from rawtap.packets.tail import Part
from rawtap.settings import Settings

logger = logging.getLogger(__name__)

T = TypeVar("T")
Report = Callable[[str], Awaitable[None]]

_GUEST_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
_FRAME_INTERVAL = 0.001  # seconds from one sent frame to the next
_EVERYBODY = "ff:ff:ff:ff:ff:ff"
_ETHERNET = 1  # the link type of what guests are on
_KEPT_CAPTURES = 200  # finished ones that are still listed


async def _silent(_: str) -> None:
    """A `Report` that nobody reads."""


@asynccontextmanager
async def in_thread(manager: AbstractContextManager[T]) -> AsyncIterator[T]:
    """Enter and leave a blocking context manager in worker threads; leaving is shielded from cancellation."""
    async with AsyncExitStack() as stack:
        value = await to_thread(manager.__enter__)

        async def leave() -> None:
            with anyio.CancelScope(shield=True):
                await to_thread(manager.__exit__, None, None, None)

        stack.push_async_callback(leave)
        yield value


@dataclass(frozen=True)
class BootRequest:
    """What `Lab.boot` needs; see the tool for the meaning of each."""

    project_root: Path | None = None
    profile: str | None = None
    name: str = "guest"
    network: bool = False
    options: BootOptions = field(default_factory=BootOptions)
    wait_for_prompt: bool = True
    timeout: float = 60.0
    capture: bool = False
    capture_filter: str = ""


@dataclass(frozen=True)
class Capture:
    """A capture by its id, with what was seen of the interfaces meanwhile."""

    id: str
    session: CaptureSession
    observation: Observation
    tidings: Tidings

    @property
    def interface(self) -> str:
        """What it captures on."""
        return self.session.request.interface

    def parts(self) -> list[Part]:
        """Its files that are there, for who follows them."""
        return [Part(each.number, each.path, each.packets_before) for each in self.session.segments]


@dataclass(frozen=True)
class CaptureReport:
    """A capture's row: where it stands, and why nothing was there."""

    capture: Capture
    snapshot: Snapshot
    diagnosis: str | None


@dataclass(frozen=True)
class Ended:
    """How a guest ended and what was released with it."""

    exit: Exit
    console: Output
    released: tuple[str, ...]
    standing: tuple[str, ...]
    captures: tuple[CaptureReport, ...]


@dataclass(eq=False)
class Guest:
    """A guest and what it holds. `stack` releases its boot's capture, its TAP and its share of the bridge.

    `ended` is set, under `lock`, by the first who releases it; whoever comes second gets the same.
    """

    machine: Machine
    bridge: Bridge | None
    tap: Tap | None
    capture: Capture | None
    stack: AsyncExitStack
    lock: anyio.Lock = field(default_factory=anyio.Lock)
    ended: Ended | None = None

    def is_on(self, interface: str) -> bool:
        """Whether that is its TAP or its bridge."""
        return bool(self.tap and self.bridge and interface in {self.tap.name, self.bridge.name})


@dataclass(frozen=True)
class Booted:
    """A booted guest."""

    guest: Guest
    prompt_seen: bool
    elapsed: float
    console: Output


@dataclass
class _Lease:
    """A bridge in use by this server's guests."""

    bridge: Bridge
    stack: AsyncExitStack
    users: int = 0


@dataclass
class Lab:
    """Guests, networks and captures by name. Open it with ``async with``; leaving releases everything.

    Attributes:
        indexes: Of the files whose packets were asked for.
        on_capture: Called in the event loop when a capture has started, and (True) when nothing more comes into one.
    """

    settings: Settings
    on_capture: Callable[[Capture, bool], object] | None = None
    indexes: Indexes = field(default_factory=Indexes)
    guests: dict[str, Guest] = field(default_factory=dict)
    captures: dict[str, Capture] = field(default_factory=dict)
    chronicle: Chronicle = field(default_factory=Chronicle)
    _leases: dict[str, _Lease] = field(default_factory=dict)
    _booting: set[str] = field(default_factory=set)
    _counter: int = 0
    _opening: int = 0
    _stopping: bool = False
    _network_lock: anyio.Lock = field(default_factory=anyio.Lock)
    _swept: bool = False
    _keeper: Keeper | None = None
    _keeper_lock: anyio.Lock = field(default_factory=anyio.Lock)
    _watcher: Watcher | None = None
    _watcher_lock: anyio.Lock = field(default_factory=anyio.Lock)
    _watcher_stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    _scene: Scene = field(init=False)

    def __post_init__(self) -> None:
        self._scene = Scene(others=TRUSTED_BRIDGES | self.settings.allowed_interfaces)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping = True
        with anyio.CancelScope(shield=True):
            try:
                async with anyio.create_task_group() as group:
                    for guest in list(self.guests.values()):
                        group.start_soon(self._release_or_log, guest)
            finally:
                try:
                    await self._stop_captures(lambda _: True)
                    await self._close_captures()
                finally:
                    await self._watcher_stack.aclose()

    async def _close_captures(self) -> None:
        """Wait until the kernel has taken back the sockets of captures that have ended, and end their keeper."""
        for capture in self.captures.values():
            await to_thread(capture.session.close)
        if self._keeper:
            await to_thread(self._keeper.close)

    async def _release_or_log(self, guest: Guest) -> None:
        """At the end one guest that cannot be released must not keep the others; there is no call left to tell."""
        try:
            await self._release(guest)
        except RawtapError as error:
            logger.error("could not release the guest %s: %s", guest.machine.name, error)  # noqa: TRY400

    # ------------------------------------------------------------------ guests

    async def boot(self, request: BootRequest, report: Report = _silent) -> Booted:
        """Boot a guest; with a network and a capture where asked, armed before the first instruction.

        Raises:
            RawtapError: Everything that was made for it is gone again.
        """
        self.require_open()
        name = request.name
        self._require_free(name)
        if request.capture and not request.network:
            raise RequestInvalid("capture=true needs a network", cure="Boot with network=true as well")
        self._booting.add(name)
        try:
            if (previous := self.guests.get(name)) is not None:
                await self._release(previous)
            started = anyio.current_time()
            root, profile = profiles.choose(request.project_root, request.profile)
            spec = profiles.resolve(root, profile, request.options)
            async with AsyncExitStack() as stack:
                booted = await self._start(request, spec, stack, report)
                return replace(booted, elapsed=anyio.current_time() - started)
        finally:
            self._booting.discard(name)

    def _require_free(self, name: str) -> None:
        if not _GUEST_NAME.fullmatch(name):
            raise RequestInvalid(f"name={name!r} cannot name a guest", cure="Use 1 to 32 letters, digits, '_' and '-'")
        guest = self.guests.get(name)
        if name in self._booting or (guest is not None and guest.machine.running):
            raise GuestAlreadyRunning(
                f"the guest {name} is running already",
                evidence="being booted" if guest is None else f"pid {guest.machine.pid}",
                cure="qemu_shutdown ends it; another name= boots a second one beside it",
            )

    async def _start(self, request: BootRequest, spec: MachineSpec, stack: AsyncExitStack, report: Report) -> Booted:
        """Build one guest on `stack`, which keeps what it holds if this fails."""
        bridge, tap = None, None
        if request.network:
            await report("making the network")
            await self._watching()  # for the sake of the timeline: a capture may come later
            bridge = await stack.enter_async_context(self._bridge(self._bridge_spec(spec)))
            async with self._network_lock:
                tap = await stack.enter_async_context(in_thread(network.tap(bridge, request.name)))
            self._scene = self._scene.with_nic(tap.name, GuestNic(request.name, bridge.name, tap.mac))
        captures: list[Capture] = []  # stopped after the machine has ended
        stack.push_async_callback(self._stop_captures, captures.__contains__)
        await report("starting QEMU")
        nic = Nic(tap.device.fileno(), tap.mac) if tap else None
        machine = await Machine.start(request.name, spec, nic, partial(self.chronicle.guest_ended, request.name))
        stack.push_async_callback(machine.end)
        self.chronicle.guest_started(machine)
        if tap:
            tap.device.close()
        if request.capture and bridge:
            wanted = await to_thread(partial(CaptureRequest, bridge.name, filter=request.capture_filter))
            captures.append(await self.start_capture(wanted))
        await report("booting")
        await machine.run()
        seen = False
        if request.wait_for_prompt and spec.profile.prompt:
            await report(f"waiting for the prompt {spec.profile.prompt!r}")
            seen = await machine.wait_prompt(request.timeout, report)
            if seen:
                self.chronicle.prompt_seen(machine)
        # From here on the guest is the Lab's: its machine is ended first, by _release.
        guest = Guest(machine, bridge, tap, captures[0] if captures else None, stack.pop_all())
        self.guests[request.name] = guest
        return Booted(guest, seen, 0.0, machine.console.show(0, None))

    def _bridge_spec(self, spec: MachineSpec) -> BridgeSpec:
        name = addressing.checked_name(spec.profile.bridge)
        trusted = name in TRUSTED_BRIDGES | self.settings.allowed_interfaces
        return BridgeSpec(name, addressing.checked_address(spec.profile.address), trusted)

    @asynccontextmanager
    async def _bridge(self, spec: BridgeSpec) -> AsyncIterator[Bridge]:
        """A share of the bridge; the last one that is given back stops its captures and gives the bridge back."""
        async with self._network_lock:
            await self._sweep()
            lease = self._leases.get(spec.name)
            if lease is None:
                stack = AsyncExitStack()
                lease = _Lease(await stack.enter_async_context(in_thread(network.bridge(spec))), stack)
                self._leases[spec.name] = lease
            lease.users += 1
        try:
            yield lease.bridge
        finally:
            with anyio.CancelScope(shield=True):
                async with self._network_lock:
                    lease.users -= 1
                    if lease.users == 0:
                        del self._leases[spec.name]
                        await self._stop_captures(lambda capture: capture.interface == spec.name)
                        await lease.stack.aclose()

    async def _sweep(self) -> None:
        """Once a server, before its first network: remove what dead servers left."""
        if not self._swept and privileges.current().may(privileges.Capability.NET_ADMIN):
            for name in await to_thread(network.sweep):
                logger.info("removed %s, left behind by a rawtap that was killed", name)
        self._swept = True

    async def sweep(self) -> None:
        """Remove what dead servers left behind, if that was not done yet. Failing to is logged, and no error."""
        async with self._network_lock:
            try:
                await self._sweep()
            except NetworkError as error:
                logger.warning("could not look for leftovers: %s", error)

    def guest(self, name: str) -> Guest:
        """The guest of that name, running or ended.

        Raises:
            GuestNotRunning: There is none.
        """
        self.require_open()
        try:
            return self.guests[name]
        except KeyError:
            there = ", ".join(self.guests) or "none"
            raise GuestNotRunning(
                f"there is no guest {name}", evidence=f"guests: {there}", cure="qemu_boot starts one"
            ) from None

    async def shutdown(self, name: str, timeout: float) -> Ended:
        """End a guest by its own command, by force after `timeout` seconds; then release all that it held."""
        guest = self.guest(name)
        try:
            await guest.machine.ask_to_power_off(timeout)
        finally:
            ended = await self._release(guest)
        return ended

    async def _release(self, guest: Guest) -> Ended:
        """End a guest now and give back what it held, once; not to be cancelled."""
        with anyio.CancelScope(shield=True):
            async with guest.lock:
                guest.ended = guest.ended or await self._take_down(guest)
                if self.guests.get(guest.machine.name) is guest:
                    del self.guests[guest.machine.name]
        if guest.ended is None:
            raise RuntimeError("a shielded release was cut short")
        return guest.ended

    async def _take_down(self, guest: Guest) -> Ended:
        exit_ = await guest.machine.end()
        interfaces = {guest.tap.name} if guest.tap else set()
        lease = self._leases.get(guest.bridge.name) if guest.bridge else None
        if lease is not None and lease.users == 1:
            interfaces.add(lease.bridge.name)
        try:
            stopped = await self._stop_captures(lambda each: each is guest.capture or each.interface in interfaces)
        finally:
            await guest.stack.aclose()
        released, standing = await self._what_is_gone(guest)
        return Ended(exit_, guest.machine.console.show(0, None), released, standing, tuple(stopped))

    @staticmethod
    async def _what_is_gone(guest: Guest) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Of an ended guest's process, TAP and bridge: those that are gone, and those that are there, as seen now."""
        held = {f"TAP {guest.tap.name}": guest.tap.name} if guest.tap else {}
        held |= {f"bridge {guest.bridge.name}": guest.bridge.name} if guest.bridge else {}
        there = {link.name for link in await to_thread(links.all_links)} if held else set()
        released = [f"process {guest.machine.pid}", *(what for what, name in held.items() if name not in there)]
        return tuple(released), tuple(what for what, name in held.items() if name in there)

    # ---------------------------------------------------------------- captures

    @property
    def scene(self) -> Scene:
        """Who is on which network, or was."""
        return self._scene

    def interfaces(self) -> frozenset[str]:
        """What may be captured: interfaces that rawtap made, those of the built-in profiles, the operator's."""
        made = {guest.tap.name for guest in self.guests.values() if guest.tap} | set(self._leases)
        return frozenset(made | TRUSTED_BRIDGES | self.settings.allowed_interfaces)

    def interface_of(self, name: str) -> str:
        """The interface to capture where the call names none: that guest's bridge.

        Raises:
            GuestNotRunning: No such guest, or one without a network.
        """
        guest = self.guest(name)
        if guest.bridge is None:
            raise GuestNotRunning(
                f"the guest {name} has no network to capture",
                cure="Boot it with network=true, or give interface=",
            )
        return guest.bridge.name

    async def start_capture(self, request: CaptureRequest) -> Capture:
        """Start a capture; it is armed when this returns.

        Raises:
            CaptureError: One of its kinds; no capture and no file is left.
        """
        self.require_open()
        name = request.interface
        watcher = await self._watching()
        before = await to_thread(watcher.look)
        link = self._allowed(name, before.find(name))
        observation = Observation(watcher, link, before, scene=lambda: self._scene)
        self._counter += 1
        capture_id = f"c{self._counter}"
        loop = asyncio.get_running_loop()

        def ended(session: CaptureSession) -> None:
            try:
                observation.end(session.saved)
            finally:
                self.chronicle.capture_ended(capture_id, session)
                loop.call_soon_threadsafe(self._tell_of, capture_id, True)

        with self._counted_start():
            session = await to_thread(
                CaptureSession.start,
                replace(request, guest=self._guests_on(name)),
                link.index,
                self.settings.capture_dir,
                f"{name}-{capture_id}",
                self.settings.ring_bytes,
                ended,
                await self._kept(),
                partial(self.chronicle.capture_armed, capture_id),
            )
        try:
            await checkpoint_if_cancelled()
        except BaseException:  # nobody will learn of this capture
            with anyio.CancelScope(shield=True):
                await to_thread(session.discard)
            raise
        capture = Capture(capture_id, session, observation, Tidings(session))
        self.captures[capture_id] = capture
        self._forget_old()
        self._tell_of(capture_id, False)
        return capture

    def _tell_of(self, capture_id: str, ended: bool) -> None:
        if self.on_capture and capture_id in self.captures:
            self.on_capture(self.captures[capture_id], ended)

    async def _kept(self) -> Keeper:
        """The keeper of capture files, started with the first of them."""
        async with self._keeper_lock:
            if self._keeper is None:
                try:
                    self._keeper = await to_thread(Keeper)
                except OSError as error:
                    raise ServerExhausted.of(error) or CaptureFailed(
                        "the process that keeps capture files whole cannot be started",
                        evidence=str(error),
                        cure="qemu_doctor checks the set-up",
                    ) from error
            return self._keeper

    def _guests_on(self, interface: str) -> str:
        """Who is on that interface, for the head of a pcapng file."""
        return ", ".join(
            f"{guest.machine.name} ({guest.tap.mac} on {guest.tap.name})"
            for guest in self.guests.values()
            if guest.tap and guest.is_on(interface)
        )

    @contextmanager
    def _counted_start(self) -> Iterator[None]:
        """Hold the limit on captures, counting those that are being opened."""
        running = self._opening + sum(capture.session.running for capture in self.captures.values())
        if running >= self.settings.max_captures:
            raise CaptureFailed(
                f"{running} captures are running already",
                cure="qemu_pcap_stop ends one; the operator sets the limit",
            )
        self._opening += 1
        try:
            yield
        finally:
            self._opening -= 1

    async def _watching(self) -> Watcher:
        """The watcher of the interfaces; the first who needs it waits for its start."""
        async with self._watcher_lock:
            if self._watcher is None:
                self._watcher = await self._watcher_stack.enter_async_context(in_thread(watch.watch(self._changed)))
            return self._watcher

    def _changed(self, change: Change) -> None:
        self.chronicle.link_changed(change, self._scene)

    async def catch_up_links(self) -> None:
        """Have in the journal what the kernel has told of interfaces. Failing to is logged, and no error."""
        if self._watcher:
            try:
                await to_thread(self._watcher.catch_up)
            except (NetworkError, OSError) as error:
                logger.warning("changes of interfaces cannot be read: %s", error)

    def _allowed(self, name: str, link: Link | None) -> Link:
        if link is None:
            raise NoSuchInterface(
                f"there is no interface {name!r}",
                evidence=f"may be captured, where they exist: {', '.join(sorted(self.interfaces()))}",
                cure="qemu_boot(network=true) makes the guest's bridge",
            )
        if name not in self.interfaces():
            raise InterfaceNotAllowed(
                f"the interface {name} is the host's own",
                evidence=f"may be captured: {', '.join(sorted(self.interfaces()))}",
                cure=f"The operator can allow it: start the server with --allow-interface {name}",
            )
        return link

    def _forget_old(self) -> None:
        finished = [key for key, capture in self.captures.items() if not capture.session.running]
        for key in finished[: max(0, len(self.captures) - _KEPT_CAPTURES)]:
            del self.captures[key]

    def capture(self, capture_id: str | None) -> Capture:
        """The capture of that id; without one the newest that runs, or the newest of all.

        Raises:
            CaptureUnknown: There is none.
        """
        if capture_id is None and self.captures:
            ordered = list(self.captures.values())
            return next((each for each in reversed(ordered) if each.session.running), ordered[-1])
        found = self.captures.get(capture_id or "")
        if found is None:
            there = ", ".join(self.captures) or "none"
            raise CaptureUnknown(
                f"there is no capture {capture_id}" if capture_id else "there is no capture",
                evidence=f"captures: {there}",
                cure="qemu_pcap_start starts one; qemu_pcap_status lists them",
            )
        return found

    async def report(self, capture: Capture, *, at_once: bool = False) -> CaptureReport:
        """A capture's row as it is now; one that has just begun says only `at_once` why it is empty."""
        return await self._report(capture, capture.session.snapshot(), at_once=at_once)

    async def stop_capture(self, capture: Capture) -> CaptureReport:
        """End a capture with everything that was on the wire in its file; one that has ended is reported again."""
        with anyio.CancelScope(shield=True):
            snapshot = await to_thread(capture.session.stop)
        return await self._report(capture, snapshot)

    @staticmethod
    async def _report(capture: Capture, snapshot: Snapshot, *, at_once: bool = False) -> CaptureReport:
        explain = partial(capture.observation.explain, capture.session, snapshot, at_once=at_once)
        warnings, diagnosis = await to_thread(explain)
        snapshot = replace(snapshot, warnings=(*snapshot.warnings, *warnings))
        return CaptureReport(capture, snapshot, diagnosis)

    async def _stop_captures(self, which: Callable[[Capture], bool]) -> list[CaptureReport]:
        """Stop those that run; all are asked before the first is waited for."""
        wanted = [capture for capture in self.captures.values() if capture.session.running and which(capture)]
        for capture in wanted:
            capture.session.request_stop()
        return [await self.stop_capture(capture) for capture in wanted]

    def require_open(self) -> None:
        """Raise ServerStopping once the server is on its way down."""
        if self._stopping:
            raise ServerStopping("the server is stopping", cure="Start it again")
