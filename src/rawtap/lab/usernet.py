"""A guest on QEMU's own network (slirp): no bridge, no TAP, no privilege, and its frames by QEMU's mirror.

One `UserNet` is one guest's. What is captured there has the name ``user:GUEST``: no interface that rawtap makes has a
colon in its name.
"""

from __future__ import annotations

import asyncio
import socket
import time
from dataclasses import dataclass, field
from ipaddress import IPv4Interface

import anyio
from anyio.lowlevel import checkpoint

from rawtap.capture.diagnosis import Evidence, GuestTraffic, explain_empty
from rawtap.capture.mirror_source import MirrorSource
from rawtap.capture.outages import LinkEvent, LinkState, link_warnings
from rawtap.capture.session import CaptureSession, Snapshot
from rawtap.errors import GuestFailed, NetworkFailed
from rawtap.guest import filter_mirror
from rawtap.guest.command_line import UserNic
from rawtap.guest.machine import Machine
from rawtap.guest.profile import Profile
from rawtap.network import addressing, slirp
from rawtap.network.impair import Plug
from rawtap.network.network import guest_mac

PREFIX = "user:"

_GRACE = 1.0  # seconds; a capture that runs is given them before it has to explain itself
_ECHO_SECONDS = 5.0
_CHUNK = 1 << 16


@dataclass(eq=False)
class UserNet:
    """One guest's.

    Attributes:
        address: QEMU's own on it, with the subnet.
        machine: Set when it was started.
        plug: The guest's cable.
        pulls: When the cable was plugged in (True) or pulled, by time.monotonic().
    """

    guest: str
    mac: str
    address: IPv4Interface
    plug: Plug = field(default_factory=Plug)
    machine: Machine | None = None
    pulls: list[tuple[float, bool]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What captures call it."""
        return PREFIX + self.guest

    @property
    def gateway_mac(self) -> str:
        """What slirp makes of an address of its own: 52:55 and the address."""
        return f"52:55:{self.address.ip.packed.hex(':')}"

    def nic(self) -> UserNic:
        """The guest's card.

        Raises:
            ProfileInvalid: The subnet is too small.
        """
        return UserNic(self.mac, slirp.options(self.address))

    def running(self) -> Machine:
        """The guest's machine.

        Raises:
            GuestExited: It has ended.
        """
        if self.machine is None:
            raise RuntimeError("a network without its machine")
        if not self.machine.running:
            raise self.machine.exited()
        return self.machine

    def set_plug(self, *, up: bool) -> None:
        """Note that the cable was plugged in or pulled."""
        if self.plug.up != up:
            self.pulls.append((time.monotonic(), up))
            self.plug.up = up

    def feed(self) -> MirrorFeed:
        """What a capture needs to begin.

        Raises:
            GuestExited: The guest has ended.
            ServerExhausted: There are too many descriptors.
        """
        filter_ = filter_mirror.mirror(self.running())
        return MirrorFeed(filter_, MirrorSource(filter_.near, self.mac))

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
        async with filter_mirror.echo(machine) as echo, filter_mirror.way_in(machine) as way_in:
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


def for_guest(guest: str, profile: Profile) -> UserNet:
    """The network of that guest, with the MAC address that it would have on its profile's bridge."""
    mac = guest_mac(addressing.checked_name(profile.bridge), guest)
    return UserNet(guest, mac, addressing.checked_address(profile.address))


def missing_services(profile: Profile, asked: bool | None) -> tuple[str, ...]:
    """What a guest may miss there of what rawtap serves on a bridge, where that was wanted."""
    if not (profile.services if asked is None else asked):
        return ()
    hosts = ", and hosts of the profile are not known there" if profile.hosts else ""
    return (f'network="user" has QEMU\'s own DHCP, which gives the guest one address, and no DNS{hosts}',)


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
        worker = self.source.worker
        sent, received = worker.from_guest, worker.to_guest
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
        )

    def _events(self, started_at: float, duration: float, ended: float | None) -> tuple[LinkEvent, ...]:
        during = [(at - started_at, up) for at, up in self.net.pulls if 0 <= at - started_at <= duration]
        pulls = tuple(LinkEvent(at, "carrier" if up else "no_carrier") for at, up in during)
        return pulls if ended is None else (*pulls, LinkEvent(ended, "removed"))
