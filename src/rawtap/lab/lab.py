"""The Lab: the one owner of guests, networks and captures.

Order of start: TAP, QEMU (paused), bridge, capture, processors. Order of release: guest, captures (drained), TAP,
bridge. Whatever fails or is cancelled on the way up is taken down again by the same path; releases are shielded
from cancellation, so that a cancelled call leaves nothing half-way.

Netlink, libpcap and files block, so they run in worker threads; processes, QMP and consoles belong to the event loop.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Self

import anyio
from anyio.to_thread import run_sync as to_thread

from rawtap.blocking import in_thread, in_turn, on_disk, to_their_end
from rawtap.capture.interface import InterfaceSource
from rawtap.capture.session import CaptureRequest
from rawtap.errors import (
    GuestAlreadyRunning,
    GuestFailed,
    GuestNotRunning,
    InterfaceNotAllowed,
    NetworkError,
    NoSuchInterface,
    RawtapError,
    RequestInvalid,
    ServerStopping,
)
from rawtap.guest import profile as profiles
from rawtap.guest.command_line import Nic
from rawtap.guest.machine import Machine
from rawtap.guest.paths import allowed_for
from rawtap.guest.profile import TRUSTED_BRIDGES, MachineSpec
from rawtap.lab import dnsmasq, outside, usernet
from rawtap.lab.bridges import Bridges, Shares
from rawtap.lab.captures import Capture, CaptureReport, Captures, InterfaceFeed
from rawtap.lab.chronicle import Chronicle
from rawtap.lab.guests import Booted, BootRequest, Ended, Guest, Wired
from rawtap.lab.observation import GuestNic, Observation, Scene
from rawtap.lab.usernet import MirrorObservation, UserNet
from rawtap.limits import require_room
from rawtap.network import addressing, links, network, watch
from rawtap.network.links import Link
from rawtap.network.network import BridgeSpec, Tap
from rawtap.network.watch import Change, Watcher
from rawtap.packets.index import Indexes
from rawtap.settings import Settings

logger = logging.getLogger(__name__)

Report = Callable[[str], Awaitable[None]]

_OTHER_BOOT_SECONDS = 3.0  # a boot takes longer, its release less
_GUEST_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")


async def _silent(_: str) -> None:
    """A `Report` that nobody reads."""


@dataclass(frozen=True)
class _Boot:
    """One in progress; `over` is set when it is a guest, or nothing of it is left."""

    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    over: anyio.Event = field(default_factory=anyio.Event)


@dataclass
class Lab:
    """Guests, networks and captures by name. Open it with ``async with``; leaving releases everything.

    Attributes:
        indexes: Of the files whose packets were asked for.
        shares: The bridges that all Labs of this process use; None where it is the only one.
    """

    settings: Settings
    indexes: Indexes = field(default_factory=Indexes)
    shares: Shares | None = None
    guests: dict[str, Guest] = field(default_factory=dict)
    chronicle: Chronicle = field(default_factory=Chronicle)
    captures: Captures = field(init=False)
    bridges: Bridges = field(init=False)
    _booting: dict[str, _Boot] = field(default_factory=dict)
    _stopping: bool = False
    _watcher: Watcher | None = None
    _watcher_lock: anyio.Lock = field(default_factory=anyio.Lock)
    _watcher_stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    _scene: Scene = field(init=False)

    def __post_init__(self) -> None:
        self.captures = Captures(self.settings, self.chronicle)
        shares = self.shares or Shares(outside.policy(self.settings))
        self.bridges = Bridges(self._stop_captures_on, self.chronicle.journal.note, shares)
        self._scene = Scene(others=TRUSTED_BRIDGES | self.settings.allowed_interfaces)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping = True
        with anyio.CancelScope(shield=True):
            try:
                await in_turn(self._end_boots, self._release_all, self.captures.close, self._watcher_stack.aclose)
            except* RawtapError as group:  # there is no call left to tell
                for error in group.exceptions:
                    logger.error("at the end: %s", error)  # noqa: TRY400

    async def _end_boots(self) -> None:
        """Cancel the boots in progress, and wait until each is a guest, or nothing of it is left."""
        boots = list(self._booting.values())
        for boot in boots:
            boot.scope.cancel()
        for boot in boots:
            await boot.over.wait()

    async def _release_all(self) -> None:
        await to_their_end(self._release(guest) for guest in list(self.guests.values()))

    # ------------------------------------------------------------------ guests

    async def boot(self, request: BootRequest, report: Report = _silent) -> Booted:
        """Boot a guest; with a network and a capture where asked, armed before the first instruction.

        Raises:
            RawtapError: Everything that was made for it is gone again.
        """
        name = request.name
        if (other := self._booting.get(name)) is not None:
            with anyio.move_on_after(_OTHER_BOOT_SECONDS):  # it may be cancelled, and on its way down
                await other.over.wait()
        if (previous := self.guests.get(name)) is not None:
            await previous.machine.settle()
        self.require_open()
        self._require_free(name)
        if request.capture and not request.network:
            raise RequestInvalid("capture=true needs a network", cure="Boot with network=true as well")
        if request.services and not request.network:
            raise RequestInvalid("services=true needs a network", cure="Boot with network=true as well")
        self._require_room(name)
        boot = self._booting[name] = _Boot()
        try:
            with boot.scope:
                return await self._boot(request, report)
        finally:
            del self._booting[name]
            boot.over.set()
        raise self._stopped()

    async def _boot(self, request: BootRequest, report: Report) -> Booted:
        if (previous := self.guests.get(request.name)) is not None:
            await self._release(previous)
        started = anyio.current_time()
        named = (request.options.kernel, *(drive.path for drive in request.options.extra_drives))
        where = " or ".join(map(str, filter(None, (request.project_root or Path.cwd(), *named))))
        spec = await on_disk(where, self._spec, request)
        async with AsyncExitStack() as stack:
            booted = await self._start(request, spec, stack, report)
            return replace(booted, elapsed=anyio.current_time() - started)

    def _spec(self, request: BootRequest) -> MachineSpec:
        """What to boot; asks the disks."""
        root, profile = profiles.choose(request.project_root, request.profile)
        return profiles.resolve(root, profile, request.options, allowed_for(root, self.settings.image_dirs))

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

    def _require_room(self, name: str) -> None:
        running = {each.machine.name for each in self.guests.values() if each.machine.running}
        there = len((running | set(self._booting)) - {name})
        require_room(there, self.settings.max_guests, "guests are running", "qemu_shutdown ends one")

    async def _start(self, request: BootRequest, spec: MachineSpec, stack: AsyncExitStack, report: Report) -> Booted:
        """Build one guest on `stack`, which keeps what it holds if this fails."""
        ground = await stack.enter_async_context(AsyncExitStack())  # what is released last: the share of the bridge
        card = await self._card(request, spec, stack, report)
        captures: list[Capture] = []  # stopped after the machine has ended
        stack.push_async_callback(self.captures.stop_those, captures.__contains__)
        await report("starting QEMU")
        nic = Nic(card.device.fileno(), card.mac) if isinstance(card, Tap) else card.nic() if card else None
        on_exit = partial(self.chronicle.guest_ended, request.name)
        machine = await Machine.spawn(request.name, spec, nic, self.settings.scratch_dir, on_exit)
        stack.push_async_callback(machine.end)
        self.chronicle.guest_started(machine)
        # All that follows, up to the greeting, is done while QEMU comes up.
        wired = await self._wire(card, machine, request, spec, ground)
        if request.capture and wired.bridge:
            captures.append(await self._first_capture(request, wired.bridge.name))
        try:
            await machine.greet()
        except BaseException:  # nothing ran that could be in it
            with anyio.CancelScope(shield=True):
                for capture in captures:
                    await self.captures.discard(capture)
            raise
        if request.capture and wired.user:
            captures.append(await self._first_capture(request, wired.user.name, wired.user))
        await report("booting")
        await machine.run()
        seen = False
        if request.wait_for_prompt and spec.profile.prompt:
            await report(f"waiting for the prompt {spec.profile.prompt!r}")
            seen = await machine.wait_prompt(request.timeout, report)
            if seen:
                self.chronicle.prompt_seen(machine)
        # From here on the guest is the Lab's: its machine is ended first, by _release.
        guest = wired.guest(machine, captures[0] if captures else None, stack.pop_all())
        self.guests[request.name] = guest
        return Booted(guest, seen, 0.0, machine.console.show(0, None), wired.warnings)

    async def _card(
        self, request: BootRequest, spec: MachineSpec, stack: AsyncExitStack, report: Report
    ) -> Tap | UserNet | None:
        """Make what QEMU must be given of a network at its start, where one is asked for."""
        if not request.network:
            return None
        await report("making the network")
        if request.network == "user":
            return usernet.for_guest(request.name, spec.profile)
        await self._watching()  # for the sake of the timeline: a capture may come later
        name = self._bridge_spec(spec).name
        return await stack.enter_async_context(in_thread(network.tap(name, request.name, self.bridges.number)))

    async def _wire(
        self,
        card: Tap | UserNet | None,
        machine: Machine,
        request: BootRequest,
        spec: MachineSpec,
        ground: AsyncExitStack,
    ) -> Wired:
        """Make the rest of the network."""
        if card is None:
            return Wired()
        if isinstance(card, UserNet):
            card.machine = machine
            self._scene = self._scene.with_nic(card.name, GuestNic(request.name, card.name, card.mac))
            return Wired(user=card, warnings=usernet.missing_services(spec.profile, request.services))
        card.device.close()
        try:
            bridge = await ground.enter_async_context(self.bridges.port(self._bridge_spec(spec), card))
        except (NetworkError, OSError):
            await machine.greet()  # a QEMU that has ended took its TAP with it, and says so
            raise
        self._scene = self._scene.with_nic(card.name, GuestNic(request.name, bridge.name, card.mac))
        warnings: tuple[str, ...] = ()
        if spec.profile.services if request.services is None else request.services:
            warnings = await self.bridges.serve(bridge, dnsmasq.wanted(spec.profile, bridge, self.bridges.number))
        return Wired(bridge, card, warnings=warnings)

    async def _first_capture(self, request: BootRequest, interface: str, user: UserNet | None = None) -> Capture:
        wanted = await to_thread(partial(CaptureRequest, interface, filter=request.capture_filter))
        return await (self._capture_user(user, wanted) if user else self.start_capture(wanted))

    def _bridge_spec(self, spec: MachineSpec) -> BridgeSpec:
        name = addressing.checked_name(spec.profile.bridge)
        trusted = name in TRUSTED_BRIDGES | self.settings.allowed_interfaces
        return BridgeSpec(name, addressing.checked_address(spec.profile.address), trusted)

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
        await self.catch_up_links()  # what was before this call stands before it on the timeline
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
        stopped: list[CaptureReport] = []

        async def stop_captures() -> None:
            stopped.extend(await self._stop_captures_of(guest))

        try:
            exit_ = await guest.machine.end()
        except GuestFailed:  # it has its TAP, which keeps the bridge: a later call may release them
            await stop_captures()
            raise
        services = self.bridges.services_on(guest.bridge.name) if guest.bridge else None
        parts = services.parts() if services else ()
        await in_turn(stop_captures, guest.stack.aclose)
        released, standing = await self._what_is_gone(guest)
        if services:
            released += tuple(part for part in parts if part not in services.parts())
        return Ended(exit_, guest.machine.console.show(0, None), released, standing, tuple(stopped))

    async def _stop_captures_of(self, guest: Guest) -> list[CaptureReport]:
        """Stop those that no other guest is on."""
        interfaces = {guest.nic[0]} if guest.nic else set()
        if guest.bridge and self.bridges.users(guest.bridge.name) == 1:
            interfaces.add(guest.bridge.name)
        return await self.captures.stop_those(
            lambda each: each is guest.capture or each.interface in interfaces, ended_since=guest.machine.started_at
        )

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
        made = {guest.nic[0] for guest in self.guests.values() if guest.nic} | self.bridges.names()
        return frozenset(made | TRUSTED_BRIDGES | self.settings.allowed_interfaces)

    def interface_of(self, name: str) -> str:
        """The interface to capture where the call names none: that guest's bridge, or its card where it has none.

        Raises:
            GuestNotRunning: No such guest, or one without a network.
        """
        guest = self.guest(name)
        if guest.network is None:
            raise GuestNotRunning(
                f"the guest {name} has no network to capture",
                cure='Boot it with network=true or network="user", or give interface=',
            )
        return guest.network.name

    async def start_capture(self, request: CaptureRequest) -> Capture:
        """Start a capture; it is armed when this returns.

        Raises:
            CaptureError: One of its kinds; no capture and no file is left.
            GuestError: The guest has ended, or QEMU refused; nothing is left either.
        """
        self.require_open()
        name = request.interface
        user = next((guest.user for guest in self.guests.values() if guest.user and guest.user.name == name), None)
        if user:
            return await self._capture_user(user, request)
        watcher = await self._watching()
        before = await to_thread(watcher.look)
        link = self._allowed(name, before.find(name))
        observation = Observation(watcher, link, before, scene=lambda: self._scene)
        feed = InterfaceFeed(InterfaceSource(link.index, self.settings.ring_bytes))
        return await self.captures.start(replace(request, guest=self._guests_on(name)), feed, observation)

    async def _capture_user(self, user: UserNet, request: CaptureRequest) -> Capture:
        """Start a capture of a guest's card on QEMU's own network. Raises as `start_capture`."""
        feed = user.feed()
        about = replace(request, guest=f"{user.guest} ({user.mac} on QEMU's own network)")
        return await self.captures.start(about, feed, MirrorObservation(user, feed.source))

    async def _stop_captures_on(self, interface: str) -> None:
        await self.captures.stop_those(lambda capture: capture.interface == interface)

    def _guests_on(self, interface: str) -> str:
        """Who is on that interface, for the head of a pcapng file."""
        return ", ".join(
            f"{guest.machine.name} ({guest.tap.mac} on {guest.tap.name})"
            for guest in self.guests.values()
            if guest.tap and guest.is_on(interface)
        )

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
                evidence=f"may be captured, where they exist: {', '.join(sorted(self.interfaces()))}"
                + ("; this server is rootless and does not see the host's" if self.settings.rootless else ""),
                cure='qemu_boot(network=true) makes the guest\'s bridge, network="user" the card user:GUEST',
            )
        if name not in self.interfaces():
            raise InterfaceNotAllowed(
                f"the interface {name} is the host's own",
                evidence=f"may be captured: {', '.join(sorted(self.interfaces()))}",
                cure=f"The operator can allow it: start the server with --allow-interface {name}",
            )
        return link

    def require_open(self) -> None:
        """Raise ServerStopping once the server is on its way down."""
        if self._stopping:
            raise self._stopped()

    @staticmethod
    def _stopped() -> ServerStopping:
        return ServerStopping("the server is stopping", cure="Start it again")
