"""The Lab: the one owner of guests, networks and captures.

Order of start: TAP, QEMU (paused), bridge, capture, processors. Order of release: guest, captures (drained), TAP,
bridge. Whatever fails or is cancelled on the way up is taken down again by the same path; releases are shielded
from cancellation, so that a cancelled call leaves nothing half-way.

Netlink, libpcap and files block, so they run in worker threads; processes, QMP and consoles belong to the event loop.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import anyio
from anyio.to_thread import run_sync as to_thread

from rawtap.blocking import in_turn, on_disk, to_their_end
from rawtap.capture.session import CaptureRequest
from rawtap.debug.debugger import Debugger
from rawtap.errors import (
    GuestAlreadyRunning,
    GuestExited,
    GuestFailed,
    GuestNotRunning,
    ProfileInvalid,
    RawtapError,
    RequestInvalid,
    ServerStopping,
)
from rawtap.guest import choosing, images, resolving
from rawtap.guest.machine import Machine
from rawtap.guest.paths import allowed_for
from rawtap.guest.profile import MachineSpec, Profile
from rawtap.lab import outside
from rawtap.lab.bridges import Bridges, Shares
from rawtap.lab.captures import Capture, CaptureReport, Captures
from rawtap.lab.card import Card, Held
from rawtap.lab.chronicle import Chronicle
from rawtap.lab.guests import Booted, BootRequest, Ended, Guest
from rawtap.lab.interfaces import Interfaces
from rawtap.lab.observation import GuestNic, Scene
from rawtap.lab.tap_card import tap_card
from rawtap.lab.usernet import user_card
from rawtap.limits import require_room
from rawtap.network import links
from rawtap.network.network import Station
from rawtap.packets.verdicts import Verdicts
from rawtap.settings import Settings

if TYPE_CHECKING:
    from rawtap.packets.index import Indexes

logger = logging.getLogger(__name__)

Report = Callable[[str], Awaitable[None]]

_SHOWN_ARGUMENTS = 200
_OTHER_BOOT_SECONDS = 3.0  # a boot takes longer, its release less
_GUEST_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")


async def _silent(_: str) -> None:
    """A `Report` that nobody reads."""


@dataclass(frozen=True)
class _Boot:
    """One in progress; `over` is set when it is a guest, or nothing of it is left."""

    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    over: anyio.Event = field(default_factory=anyio.Event)
    machines: list[Machine] = field(default_factory=list)  # one, once its QEMU is there


@dataclass
class Lab:
    """Guests, networks and captures by name. Open it with ``async with``; leaving releases everything.

    Attributes:
        verdicts: What was said of captures and files to be wrong.
        shares: The bridges that all Labs of this process use; None where it is the only one.
        on_console: Is given a guest's name and what its main console says, as it comes.
    """

    settings: Settings
    verdicts: Verdicts = field(default_factory=Verdicts)
    shares: Shares | None = None
    on_console: Callable[[str, bytes], object] | None = None
    guests: dict[str, Guest] = field(default_factory=dict)
    chronicle: Chronicle = field(default_factory=Chronicle)
    captures: Captures = field(init=False)
    bridges: Bridges = field(init=False)
    interfaces: Interfaces = field(init=False)
    _booting: dict[str, _Boot] = field(default_factory=dict)
    _crashed: set[str] = field(default_factory=set)  # names whose next guest has its exceptions logged from the start
    _stopping: bool = False

    def __post_init__(self) -> None:
        self.captures = Captures(self.settings, self.chronicle)
        shares = self.shares or Shares(outside.policy(self.settings))
        self.bridges = Bridges(self._stop_captures_on, self.chronicle.journal.note, shares)
        self.interfaces = Interfaces(self.settings, self.captures, self._interfaces_made)

    @cached_property
    def indexes(self) -> Indexes:
        """Of the files whose packets were asked for."""
        from rawtap.packets.index import Indexes

        return Indexes()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping = True
        with anyio.CancelScope(shield=True):
            try:
                await in_turn(self._end_boots, self._release_all, self.captures.close, self.interfaces.close)
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
        previous = self.guests.get(request.name)
        if previous is not None:
            await self._release(previous)
        started = anyio.current_time()
        named = (request.options.kernel, *(drive.path for drive in request.options.extra_drives))
        where = " or ".join(map(str, filter(None, (request.project_root or Path.cwd(), *named))))
        spec = await on_disk(where, self._spec, request)
        if request.name in self._crashed and spec.tells_traps:  # a crash is told with what led to it this time
            spec = replace(spec, traps=True)
        try:
            async with AsyncExitStack() as stack:
                booted = await self._start(request, spec, stack, report)
                return replace(booted, elapsed=anyio.current_time() - started)
        except GuestExited:
            for machine in self._booting[request.name].machines:
                self._remember(machine)
            raise

    def _remember(self, machine: Machine) -> None:
        """Let a guest that ended while it booted be asked for its end, as one that ended later."""
        if machine.ran and not machine.running:
            self.guests[machine.name] = Guest(machine, (), None, AsyncExitStack())

    def _spec(self, request: BootRequest) -> MachineSpec:
        """What to boot; asks the disks."""
        root, (profile, told) = choosing.chosen(
            request.project_root,
            request.profile,
            request.line,
            request.overrides,
            kernel=request.options.kernel,
            image_dirs=self.settings.image_dirs,
        )
        allowed = allowed_for(root, self.settings.image_dirs)
        past = bool(profile.qemu_args)
        if past and not self.settings.qemu_args:
            raise ProfileInvalid(
                "qemu_args: options that nobody read are not passed on to QEMU",
                evidence=" ".join(profile.qemu_args)[:_SHOWN_ARGUMENTS],
                cure="Say it with other keys; the operator can allow them: rawtap serve --allow-qemu-args",
            )
        self._require_ports(profile, request)
        reach = allowed.folders if self.settings.open_monitor or past else ()
        spec = resolving.resolve(root, profile, request.options, allowed)
        folder = root.resolve()
        project = f"{folder} {profile.name}"
        return replace(
            spec, reach=reach, project=project, folder=folder if past else None, told=(*told, *images.mistaken(spec))
        )

    def _require_ports(self, profile: Profile, request: BootRequest) -> None:
        """Refuse ports of this machine's that the operator did not give; on a bridge nobody needs them."""
        first, last = self.settings.forward_ports or (0, -1)
        if not self.leads_ports(request.network):
            return
        if wrong := [each for each in profile.forward if not first <= each.host <= last]:
            given = (
                f"the operator gives {first} to {last}" if self.settings.forward_ports else "the operator gives none"
            )
            raise RequestInvalid(
                f"forward: the port {wrong[0].host} of this machine may not lead to a guest",
                evidence=given,
                cure="The operator can allow it: rawtap serve --allow-forward FIRST-LAST",
            )

    def leads_ports(self, network: bool | Literal["user"]) -> bool:
        """Whether ports of this machine lead to its guests: the host itself reaches a guest on a bridge of its own."""
        return network == "user" or (network and self.settings.rootless)

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
        cards = await self._cards(request, spec, stack, report)
        captures: list[Capture] = []  # stopped after the machine has ended
        stack.push_async_callback(self.captures.stop_those, captures.__contains__)
        await report("starting QEMU")
        nics = [card.nic() for card in cards]
        on_exit = partial(self.chronicle.guest_ended, request.name)
        machine = await Machine.spawn(
            request.name, spec, nics[0] if nics else None, self.settings.scratch_dir, on_exit, tuple(nics[1:])
        )
        stack.push_async_callback(machine.end)
        if self.on_console:
            machine.console.watcher = partial(self.on_console, request.name)
        self._booting[request.name].machines.append(machine)
        self.chronicle.guest_started(machine)
        # All that follows, up to the greeting, is done while QEMU comes up.
        warnings = await self._connect(cards, machine, request.services)
        if request.capture and not cards[0].through_qemu:
            captures.append(await self._first_capture(request, cards))
        try:
            await machine.greet()
        except BaseException:  # nothing ran that could be in it
            with anyio.CancelScope(shield=True):
                for capture in captures:
                    await self.captures.discard(capture)
            raise
        if request.capture and cards[0].through_qemu:
            captures.append(await self._first_capture(request, cards))
        await report("booting")
        await machine.run()
        seen, instead = False, None
        if request.wait_for_prompt:
            seen, instead = await self._await_prompt(machine, request.timeout, report)
        else:
            machine.talk.owe_boot()
        # From here on the guest is the Lab's: its machine is ended first, by _release.
        guest = Guest(machine, cards, captures[0] if captures else None, stack.pop_all())
        self.guests[request.name] = guest
        return Booted(guest, seen, 0.0, machine.console.show(0), (*warnings, *machine.boot_warnings()), instead)

    async def _await_prompt(self, machine: Machine, timeout: float, report: Report) -> tuple[bool, str | None]:
        prompts = machine.talk.prompts
        await report(f"waiting for the prompt {prompts.shown()!r}" if prompts.known else "waiting for a prompt")
        seen, instead = await machine.wait_prompt(timeout, report)
        if seen:
            self.chronicle.prompt_seen(machine)
        return seen, instead

    async def _cards(
        self, request: BootRequest, spec: MachineSpec, stack: AsyncExitStack, report: Report
    ) -> tuple[Card, ...]:
        """Make what QEMU must be given of a network at its start, where one is asked for."""
        if not request.network:
            return ()
        await report("making the network")
        cards = list[Card]()
        for number in range(1 + len(spec.profile.cards)):
            station = Station(request.name, spec.project, self.bridges.number, number)
            cards.append(await stack.enter_async_context(self._card(request, spec.profile.of_card(number), station)))
        return tuple(cards)

    def _card(self, request: BootRequest, profile: Profile, station: Station) -> AbstractAsyncContextManager[Card]:
        """A card of the kind that is asked for."""
        if request.network == "user":
            return user_card(station, profile, self.captures, self.bridges.shares.policy)
        return tap_card(station, profile, self.bridges, self.interfaces)

    async def _connect(self, cards: Sequence[Card], machine: Machine, services: bool | None) -> tuple[str, ...]:
        """Make the rest of the network; return what is not there of what was asked for."""
        profile = machine.spec.profile
        wanted = (profile.services or bool(profile.tftp or profile.bootfile)) if services is None else services
        warnings: list[str] = []
        for card in cards:
            self.interfaces.add(card.name, GuestNic(card.guest, card.network, card.mac))
            warnings += await card.connect(machine)
            if wanted:
                warnings += await card.serve()
        return tuple(warnings)

    async def _first_capture(self, request: BootRequest, cards: Sequence[Card]) -> Capture:
        wanted = partial(CaptureRequest, cards[0].name, filter=request.capture_filter)
        if len(cards) > 1 and not cards[0].through_qemu:
            return await self._capture_cards(await to_thread(partial(wanted, format="pcapng")), cards)
        return await self._capture(await to_thread(wanted), cards[:1])

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
        await self.interfaces.learn()
        await self.interfaces.catch_up()  # what was before this call stands before it on the timeline
        refused = None
        try:
            refused = await guest.machine.ask_to_power_off(timeout)
        finally:
            ended = await self._release(guest)
        return replace(ended, refused=refused)

    async def _release(self, guest: Guest) -> Ended:
        """End a guest now and give back what it held, once; not to be cancelled."""
        with anyio.CancelScope(shield=True):
            async with guest.lock:
                guest.ended = guest.ended or await self._take_down(guest)
                if self.guests.get(guest.machine.name) is guest:
                    (self._crashed.add if guest.machine.wants_traps else self._crashed.discard)(guest.machine.name)
                    del self.guests[guest.machine.name]
        if guest.ended is None:
            raise RuntimeError("a shielded release was cut short")
        return guest.ended

    async def _take_down(self, guest: Guest) -> Ended:
        stopped: list[CaptureReport] = []

        async def stop_captures() -> None:
            stopped.extend(await self._stop_captures_of(guest))

        await guest.debugging.close()
        try:
            exit_ = await guest.machine.end()
        except GuestFailed:  # it has its TAP, which keeps the bridge: a later call may release them
            await stop_captures()
            raise
        held = [card.held() for card in guest.cards]
        await in_turn(stop_captures, guest.stack.aclose)
        released, standing = await self._what_is_gone(guest, held)
        return Ended(
            exit_, guest.machine.console.show(guest.machine.console.unread), released, standing, tuple(stopped)
        )

    async def _stop_captures_of(self, guest: Guest) -> list[CaptureReport]:
        """Stop those that no other guest is on."""
        ending = {name for card in guest.cards for name in card.ending()}
        return await self.captures.stop_those(
            lambda each: each is guest.capture or each.interface in ending, ended_since=guest.machine.started_at
        )

    @staticmethod
    async def _what_is_gone(guest: Guest, held: Sequence[Held]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Of an ended guest's process and what its cards held: what is gone, and what is there, as seen now."""
        interfaces = {what: name for each in held for what, name in each.interfaces.items()}
        there = {link.name for link in await to_thread(links.all_links)} if interfaces else set()
        released = [f"process {guest.machine.pid}", *(what for what, name in interfaces.items() if name not in there)]
        served = {part for card in guest.cards for part in card.held().served}
        # Two cards on one bridge have the same.
        released += dict.fromkeys(part for each in held for part in each.served if part not in served)
        return tuple(released), tuple(what for what, name in interfaces.items() if name in there)

    async def attach(self, name: str) -> Debugger:
        """A debugger on a guest, which stands from then on; the one that is there already, where there is one.

        Raises:
            GuestNotRunning: There is no such guest.
            DebugError: One of its kinds; the guest runs on.
            GuestExited, GuestFailed: It has ended, or QEMU does not answer.
        """
        guest = self.guest(name)
        return await guest.debugging.attach(guest.machine, partial(self.note_halt, guest))

    def note_halt(self, guest: Guest, words: str | None) -> None:
        """A guest stands still for the reason in `words`, or is not held any more, for None.

        The timeline has it, and whoever waits for the guest is told.
        """
        if words != guest.machine.console.halted:  # a step that gdb refused leaves it where it was
            self.chronicle.guest_halted(guest.machine.name, words)
        guest.machine.consoles.halt(words)
        for capture in self.captures.all():
            capture.notifier.look()

    def booting_tail(self, name: str) -> str:
        """The last line on the console of a guest that boots; "" where there is none."""
        boot = self._booting.get(name)
        return boot.machines[0].last_line() if boot and boot.machines else ""

    # ---------------------------------------------------------------- captures

    @property
    def scene(self) -> Scene:
        """Who is on which network, or was."""
        return self.interfaces.scene

    def _interfaces_made(self) -> set[str]:
        """Those that are there for guests of this Lab."""
        return {card.name for guest in self.guests.values() for card in guest.cards} | self.bridges.names()

    def cards_on(self, interface: str) -> list[Card]:
        """The guests' cards that are on that interface."""
        return [card for guest in self.guests.values() for card in guest.cards if card.is_on(interface)]

    def card_of(self, name: str) -> Card:
        """The card that is meant where a call names no interface: what is captured is `Card.name`, its own frames.

        Raises:
            GuestNotRunning: No such guest, or one without a network.
        """
        card = self.guest(name).card
        if card is None:
            raise GuestNotRunning(
                f"the guest {name} has no network",
                cure='Boot it with network=true or network="user", or give interface=',
            )
        return card

    async def start_capture(self, request: CaptureRequest) -> Capture:
        """Start a capture; it is armed when this returns.

        Raises:
            CaptureError: One of its kinds; no capture and no file is left.
            GuestError: The guest has ended, or QEMU refused; nothing is left either.
        """
        self.require_open()
        return await self._capture(request, self.cards_on(request.interface))

    async def _capture_cards(self, request: CaptureRequest, cards: Sequence[Card]) -> Capture:
        """Start a capture of several cards of one guest, each on a TAP, into one file. Raises as `start_capture`."""
        more = tuple((card.name, card.about) for card in cards[1:])
        return await cards[0].capture(replace(request, guest=cards[0].about, more=more))

    async def start_capture_of_cards(self, request: CaptureRequest, name: str) -> Capture:
        """Start a capture of all cards of a guest. Raises as `start_capture`; `request` names the first of them."""
        self.require_open()
        return await self._capture_cards(request, self.guest(name).cards)

    def has_several_taps(self, name: str) -> bool:
        """Whether that guest has several cards that can be captured into one file."""
        cards = self.guest(name).cards
        return len(cards) > 1 and not cards[0].through_qemu

    async def start_capture_of_all(self, request: CaptureRequest) -> Capture:
        """Start a capture of a bridge and of the TAPs of all guests on it, into one file. Raises as `start_capture`.

        `request` names the bridge, or a card on it.
        """
        self.require_open()
        bridge = next((card.network for card in self.cards_on(request.interface) if card.bridge), None)
        if bridge is None:
            raise RequestInvalid(
                f"{request.interface} is on no bridge with a guest, so it has no other points",
                cure='Boot with network=true, or leave points="all" away',
            )
        cards = sorted(self.cards_on(bridge), key=lambda card: card.name)
        points = tuple((card.name, card.about) for card in cards)
        return await self.interfaces.capture(replace(request, interface=bridge, more=points))

    async def _capture(self, request: CaptureRequest, cards: Sequence[Card]) -> Capture:
        """Start a capture on an interface that those cards are on. Raises as `start_capture`."""
        about = replace(request, guest=", ".join(card.about for card in cards))
        own = next((card for card in cards if card.name == request.interface), None)
        return await (own.capture(about) if own else self.interfaces.capture(about))

    async def _stop_captures_on(self, interface: str) -> None:
        await self.captures.stop_those(lambda capture: capture.interface == interface)

    def require_open(self) -> None:
        """Raise ServerStopping once the server is on its way down."""
        if self._stopping:
            raise self._stopped()

    @staticmethod
    def _stopped() -> ServerStopping:
        return ServerStopping("the server is stopping", cure="Start it again")
