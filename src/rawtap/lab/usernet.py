"""A guest on QEMU's own network (slirp): no bridge, no TAP, no privilege, and its frames by QEMU's mirror.

What is captured there has the name ``user:GUEST``: no interface that rawtap makes has a colon in its name.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Interface

import anyio
from anyio.lowlevel import checkpoint

from rawtap.capture.diagnosis import Evidence, GuestTraffic, explain_empty
from rawtap.capture.mirror_source import MirrorSource
from rawtap.capture.outages import LinkEvent, LinkState, link_warnings
from rawtap.capture.session import CaptureRequest, CaptureSession, Snapshot
from rawtap.errors import GuestFailed, ImpairmentUnavailable, NetworkFailed
from rawtap.guest import files, filter_mirror
from rawtap.guest.devices import Nic
from rawtap.guest.machine import Machine
from rawtap.guest.profile import Profile
from rawtap.lab.bridge_services import Outside
from rawtap.lab.captures import Capture, Captures
from rawtap.lab.card import Counters, Held, LinkFound, NetworkState, Sender, WireEnd, ring_counters
from rawtap.lab.outside import Policy, reached_by_pasta
from rawtap.lab.user_end import UserEnd
from rawtap.network import addressing, slirp
from rawtap.network.impair import Impairment, Plug
from rawtap.network.network import Station

PREFIX = "user:"

_GRACE = 1.0  # seconds; a capture that runs is given them before it has to explain itself
_ECHO_SECONDS = 5.0
_CHUNK = 1 << 16


@asynccontextmanager
async def user_card(station: Station, profile: Profile, captures: Captures, way: Policy) -> AsyncIterator[UserNet]:
    """Make a card of a guest, with the MAC address that it would have on its profile's bridge.

    In a namespace of the server's own its forwarded ports are reached by pasta, while the card is there.

    Raises:
        OutsideUnavailable: pasta is missing, or does not start.
        NameInvalid, ProfileInvalid: The profile's bridge, whose subnet it has, has no valid name or address.
    """
    mac = profile.mac or station.mac(addressing.checked_name(profile.bridge))
    async with AsyncExitStack() as stack:
        if profile.forward and station.card == 0 and way.rootless:
            await stack.enter_async_context(reached_by_pasta(way, captures.chronicle.journal.note))
        yield UserNet(station, mac, addressing.checked_address(profile.address), profile, captures)


@dataclass(eq=False)
class UserNet:
    """See `Card`: a card, and the network inside QEMU that it alone is on.

    Attributes:
        address: QEMU's own on it, with the subnet.
        pulls: When the cable was plugged in (True) or pulled, by time.monotonic().
    """

    station: Station
    mac: str
    address: IPv4Interface
    profile: Profile
    captures: Captures
    plug: Plug = field(default_factory=Plug)
    pulls: list[tuple[float, bool]] = field(default_factory=list)
    address6: None = field(default=None, init=False)
    tap: None = field(default=None, init=False)
    bridge: None = field(default=None, init=False)
    through_qemu: bool = field(default=True, init=False)
    _machine: Machine | None = None
    _row: anyio.Lock = field(default_factory=anyio.Lock)  # of who puts a filter at its head, or takes it out
    _head: str | None = None  # the filter that lets nothing through that is in front of it

    @property
    def guest(self) -> str:
        """The guest's name."""
        return self.station.guest

    @property
    def name(self) -> str:
        """As captures name it: no interface of the kernel's."""
        number = self.station.card
        return f"{PREFIX}{self.guest}.{number}" if number else PREFIX + self.guest

    @property
    def network(self) -> str:
        """The same: nobody else is there."""
        return self.name

    @property
    def about(self) -> str:
        """Whose it is, and its MAC address."""
        return f"{self.guest} ({self.mac} on QEMU's own network)"

    @property
    def gateway_mac(self) -> str:
        """Slirp's own."""
        return addressing.host_mac(self.address.ip)

    def nic(self) -> Nic:
        """That network's options.

        Raises:
            ProfileInvalid: The subnet is too small.
        """
        forward = self.profile.forward if self.station.card == 0 else ()
        ports = [{"str": f"{each.protocol}:127.0.0.1:{each.host}-:{each.guest}"} for each in forward]
        boot = {"tftp": self.profile.tftp, "bootfile": files.bootfile(self.profile)}
        given = {key: value for key, value in boot.items() if value}
        backend: dict[str, str | bool | list[dict[str, str]]] = {"type": "user", **slirp.options(self.address), **given}
        listens = tuple(each.host for each in forward if each.protocol == "tcp")
        return Nic(self.mac, backend | ({"hostfwd": ports} if ports else {}), listens=listens)

    async def connect(self, machine: Machine) -> tuple[str, ...]:
        """QEMU has made it already, and nobody else is there."""
        self._machine = machine
        return ()

    async def serve(self) -> tuple[str, ...]:
        """Nothing by rawtap: say what a guest may miss of what it serves on a bridge."""
        hosts = ", and hosts of the profile are not known there" if self.profile.hosts else ""
        return (f'network="user" has QEMU\'s own DHCP, which gives the guest one address, and no DNS{hosts}',)

    def running(self) -> Machine:
        """The guest's machine.

        Raises:
            GuestExited: It has ended.
        """
        if self._machine is None:
            raise RuntimeError("a network without its machine")
        if not self._machine.running:
            raise self._machine.exited()
        return self._machine

    async def set_link(self, *, up: bool, impairment: Impairment) -> LinkFound:
        """Pull or plug in QEMU's end of the cable, which is the only one; the carrier is what QEMU gave the card."""
        if impairment != Impairment():
            raise ImpairmentUnavailable(
                f"{self.name} cannot be impaired",
                evidence="the kernel's queues are on TAPs, and QEMU's own network has none",
                cure="Boot the guest with network=true; here qemu_link(up=false) pulls the cable",
            )
        await self.running().set_link(up=up, card=self.station.card)
        if self.plug.up != up:
            self.pulls.append((time.monotonic(), up))
            self.plug.up = up
        self.plug.impairment = impairment
        return LinkFound(carrier=up, queue=None)

    async def capture(self, request: CaptureRequest) -> Capture:
        """Start a capture of what QEMU's mirror shows."""
        filter_ = filter_mirror.mirror(self.running(), self.station.card)
        feed = MirrorFeed(filter_, MirrorSource(filter_.near, self.mac))
        return await self.captures.start(request, feed, MirrorObservation(self, feed.source))

    @asynccontextmanager
    async def sender(self, _: str) -> AsyncIterator[Sender]:
        """QEMU itself, which speaks for the gateway."""
        yield Sender(self.gateway_mac, self.send)

    async def send(self, frame: bytes, count: int, interval: float) -> None:
        """Put a frame on the wire to the guest, `count` times; each has passed when the next one goes.

        Raises:
            GuestError: The guest has ended, or QEMU does not answer.
            NetworkFailed: The cable is pulled.
            ServerExhausted: There are too many descriptors.
        """
        machine = self.running()
        if not self.plug.up:
            raise NetworkFailed(
                f"{self.name} did not take the frame", evidence="its cable is pulled", cure="qemu_link(up=true)"
            )
        number = self.station.card
        async with filter_mirror.echo(machine, number) as echo, self._way_in(machine) as way_in:
            passed = _Passed(echo.near, frame)
            for sent in range(count):
                due = anyio.current_time() + (interval if sent + 1 < count else 0)
                await _write(way_in.near, filter_mirror.packed(frame))
                try:
                    async with asyncio.timeout(_ECHO_SECONDS):
                        await passed.one()
                except TimeoutError as error:
                    raise GuestFailed(
                        f"{self.name} did not take the frame, after {sent} that it took",
                        evidence=f"QEMU did not pass it on within {_ECHO_SECONDS:g} s",
                        cure="qemu_status shows the guest's state",
                    ) from error
                await anyio.sleep_until(due)

    @asynccontextmanager
    async def _way_in(self, machine: Machine) -> AsyncIterator[filter_mirror.Filter]:
        """For frames beside QEMU's own, or a neighbour's that is there in its place."""
        async with AsyncExitStack() as stack:
            async with self._row:
                opening = filter_mirror.way_in(machine, self.station.card, self._head)
                opened = await stack.enter_async_context(opening)
            yield opened

    @asynccontextmanager
    async def wire_end(self) -> AsyncIterator[WireEnd]:
        """QEMU's own place: what the guest sends comes here alone, and QEMU's own host is deaf and dumb meanwhile."""
        machine, number = self.running(), self.station.card
        with (
            closing(filter_mirror.way_out(machine, number)) as way_out,
            closing(filter_mirror.only_way_in(machine, number)) as way_in,
            closing(UserEnd(self.name, way_in.near, way_out.near)) as end,
        ):
            # QEMU may wait until what it writes is read: the end listens until the filters are out.
            async with filter_mirror.added(way_out), self._at_the_head(way_in):
                yield end

    @asynccontextmanager
    async def _at_the_head(self, filter_: filter_mirror.Filter) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            async with self._row:
                await stack.enter_async_context(filter_mirror.added(filter_))
                self._head = filter_.id
            try:
                yield
            finally:
                with anyio.CancelScope(shield=True):
                    async with self._row:
                        self._head = None
                        await stack.aclose()

    def taken(self) -> set[IPv4Address]:
        """QEMU's own, and the one that it gives the guest."""
        return {self.address.ip, *slirp.others(self.address)}

    async def counters(self) -> Counters:
        """Those of the guest's ring: QEMU's own network counts nothing."""
        ring = await ring_counters(self._machine, self.mac)
        nobody = dict.fromkeys(("sent", "taken", "waiting", "dropped"), "QEMU's own network does not count frames")
        return replace(ring, unknown={**ring.unknown, **nobody})

    def is_on(self, interface: str) -> bool:
        """Whether that is it."""
        return interface == self.name

    def ending(self) -> set[str]:
        """It goes with its QEMU."""
        return {self.name}

    def held(self) -> Held:
        """Nothing but what is QEMU's."""
        return Held()

    def state(self) -> NetworkState:
        """QEMU's own services, and no way out."""
        outside = Outside(reason="QEMU's own network has no way out")
        return NetworkState(made=True, services="QEMU's own DHCP", leases=(), outside=outside)


async def _write(sock: socket.socket, data: bytes) -> None:
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_sendall(sock, data)


class _Passed:
    """Waits until a mirror has shown a frame."""

    def __init__(self, sock: socket.socket, frame: bytes) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._frame = frame
        self._frames = filter_mirror.Frames()
        self._seen = 0

    async def one(self) -> None:
        """Wait for the frame once more."""
        while self._seen == 0:
            data = await asyncio.get_running_loop().sock_recv(self._socket, _CHUNK)
            if not data:
                raise GuestFailed("QEMU took its mirror away", cure="qemu_status shows the guest's state")
            self._seen += self._frames.fed(data).count(self._frame)
        self._seen -= 1
        await checkpoint()


@dataclass(eq=False)
class MirrorFeed:
    """QEMU's side of one capture: the mirror, put in when the capture is armed and taken away at its end."""

    filter: filter_mirror.Filter
    source: MirrorSource
    _cutting: asyncio.Task[None] | None = None

    async def attach(self) -> None:
        """Have QEMU write every frame from now on.

        Raises:
            GuestError: The guest is gone, or QEMU refused.
        """
        with anyio.CancelScope(shield=True):  # what is half done could not be told from what is not
            await self.filter.add()

    async def cut(self) -> None:
        """Have QEMU write no more: all that passed before is in the socket, and then its end."""
        self.source.worker.expect_end()
        self.over()
        if self._cutting:
            await self._cutting

    def over(self) -> None:
        """The capture is at its end, however that came about: begin to take the mirror away."""
        if self._cutting is None:
            self._cutting = asyncio.create_task(self._take_away())

    async def _take_away(self) -> None:
        try:
            await self.filter.remove()
        finally:
            self.source.worker.let_go()


@dataclass(eq=False)
class MirrorObservation:
    """What one capture's guest did meanwhile, as the mirror itself counted it."""

    net: UserNet
    source: MirrorSource
    _up_before: bool = field(init=False)
    _up_after: bool | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._up_before = self.net.plug.up

    def end(self, _packets: int) -> None:
        """Look for the last time; in the capture's own thread."""
        self._up_after = self.net.plug.up

    def explain(
        self, session: CaptureSession, snapshot: Snapshot, *, at_once: bool = False
    ) -> tuple[list[str], str | None]:
        """What happened to the cable and the guest, as warnings, and why there is no packet; None if there is one."""
        running = snapshot.state == "running"
        empty = snapshot.packets == 0 and not (running and snapshot.duration < _GRACE and not at_once)
        evidence = self._evidence(session, snapshot)
        warnings = link_warnings(evidence.interface, evidence.before, evidence.events, [])
        return warnings, explain_empty(evidence) if empty else None

    def _evidence(self, session: CaptureSession, snapshot: Snapshot) -> Evidence:
        sent = snapshot.from_guest
        received = (snapshot.seen or 0) - sent
        up = self.net.plug.up if self._up_after is None else self._up_after
        ended = snapshot.duration if snapshot.reason == "guest_ended" else None
        return Evidence(
            interface=self.net.name,
            filter=session.request.filter,
            duration=snapshot.duration,
            dropped=0,
            before=LinkState(up=True, carrier=self._up_before, received=0, sent=0),
            after=LinkState(up=True, carrier=up, received=sent, sent=received) if ended is None else None,
            error=str(snapshot.error) if snapshot.error else None,
            frames_seen=snapshot.frames_seen,
            kinds=snapshot.kinds,
            kinds_sampled=snapshot.kinds_sampled,
            events=self._events(session.started_at, snapshot.duration, ended),
            guests=(GuestTraffic(self.net.guest, "", sent, received, ended),),
            mirrored=True,
            full_at=session.request.max_bytes if snapshot.reason == "max_bytes" else None,
        )

    def _events(self, started_at: float, duration: float, ended: float | None) -> tuple[LinkEvent, ...]:
        during = [(at - started_at, up) for at, up in self.net.pulls if 0 <= at - started_at <= duration]
        pulls = tuple(LinkEvent(at, "carrier" if up else "no_carrier") for at, up in during)
        return pulls if ended is None else (*pulls, LinkEvent(ended, "removed"))
