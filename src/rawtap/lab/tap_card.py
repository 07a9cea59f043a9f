"""A guest's card by a TAP on a bridge of the kernel's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface

import anyio
from anyio.to_thread import run_sync as to_thread

from rawtap.blocking import in_thread
from rawtap.capture.session import CaptureRequest
from rawtap.errors import CaptureFailed, InterfaceDown, NetworkFailed, NoSuchInterface
from rawtap.guest.devices import Nic, tap_nic
from rawtap.guest.machine import Machine
from rawtap.guest.profile import Profile
from rawtap.lab import dnsmasq
from rawtap.lab.bridge_services import BridgeServices, Outside
from rawtap.lab.bridges import Bridges
from rawtap.lab.captures import Capture
from rawtap.lab.card import Counters, Held, LinkFound, NetworkState, Sender, WireEnd, ring_counters
from rawtap.lab.interfaces import Interfaces
from rawtap.lab.outside import reached_by_pasta
from rawtap.lab.relay import relayed
from rawtap.lab.tap_end import tap_end
from rawtap.network import addressing, impair, links, network, taps, transmit
from rawtap.network.impair import Impairment, Plug
from rawtap.network.links import Link
from rawtap.network.network import Bridge, BridgeSpec, Station, Tap

_LONG_FOR_QEMU = 0.05  # seconds; it takes a frame within a millisecond
_SHOWN = 5
_OF_THE_TAP = ("sent", "taken", "waiting", "dropped")


@asynccontextmanager
async def tap_card(
    station: Station, profile: Profile, bridges: Bridges, interfaces: Interfaces
) -> AsyncIterator[TapCard]:
    """Make the TAP of a guest's card, for its profile's bridge; leave the bridge after the block.

    Raises:
        NetworkError: The TAP cannot be made, or its profile's bridge cannot be.
    """
    name = addressing.checked_name(profile.bridge)
    spec = BridgeSpec(name, addressing.checked_address(profile.address), interfaces.trusted(name))
    await interfaces.watching()  # for the sake of the timeline: a capture may come later
    making = in_thread(network.tap(name, station, profile.mac, profile.mtu))
    async with AsyncExitStack() as share, making as tap:
        yield TapCard(station, profile, spec, tap, bridges, interfaces, share)


def company(bridge: str, ports: set[str]) -> tuple[str, ...]:
    """Who else is on a bridge, in words: guests by their TAPs, and what is none of rawtap's."""
    taps = sorted(name for name in ports if addressing.is_tap(name))
    others = sorted(ports - set(taps))
    told = [f"{len(taps)} {'card' if len(taps) == 1 else 'cards'} of others' guests ({_few(taps)})"] if taps else []
    told += [f"interfaces of the host's ({_few(others)})"] if others else []
    return (f"also on {bridge}: {' and '.join(told)}",) if told else ()


def _few(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


@dataclass(eq=False)
class TapCard:
    """See `Card`. Closing `share` leaves the bridge; what `connect` sets is None before."""

    station: Station
    profile: Profile
    spec: BridgeSpec
    own: Tap
    bridges: Bridges
    interfaces: Interfaces
    share: AsyncExitStack
    plug: Plug = field(default_factory=Plug)
    through_qemu: bool = field(default=False, init=False)
    _machine: Machine | None = None
    _joined: Bridge | None = None
    _own_queue: bool = True  # the TAP's first one, which has counted every frame

    @property
    def guest(self) -> str:
        """The guest's name."""
        return self.station.guest

    @property
    def name(self) -> str:
        """Its TAP."""
        return self.own.name

    @property
    def mac(self) -> str:
        """Its MAC address."""
        return self.own.mac

    @property
    def network(self) -> str:
        """Its bridge."""
        return self.spec.name

    @property
    def address(self) -> IPv4Interface:
        """The host's on the bridge, which is not the profile's where the bridge was there already."""
        return self._joined.address if self._joined else self.spec.address

    @property
    def address6(self) -> IPv6Interface | None:
        """The host's on the bridge, where services are wanted."""
        return services.address6 if (services := self._services) else None

    @property
    def tap(self) -> str:
        """Its TAP."""
        return self.own.name

    @property
    def bridge(self) -> str:
        """Its bridge."""
        return self.spec.name

    @property
    def about(self) -> str:
        """Whose it is, its MAC address, its TAP."""
        return f"{self.guest} ({self.mac} on {self.name})"

    @property
    def machine(self) -> Machine:
        """Its QEMU, once it is connected."""
        if self._machine is None:
            raise RuntimeError("a card without its machine")
        return self._machine

    @property
    def _services(self) -> BridgeServices | None:
        return self.bridges.services_on(self.network)

    def nic(self) -> Nic:
        """The TAP's descriptor."""
        return tap_nic(self.own.device.fileno(), self.mac)

    async def connect(self, machine: Machine) -> tuple[str, ...]:
        """Leave the TAP to QEMU, and put it on the bridge, which is made or joined."""
        self._machine = machine
        self.own.device.close()
        async with self._unless_the_guest_is_gone():
            joined = await self.share.enter_async_context(self.bridges.port(self.spec, self.own))
            there = await to_thread(network.ports_of, joined)
            self._joined = joined
            await self._lead_ports_here()
        return (*self._not_its_address(), *company(self.network, set(there) - set(self.interfaces.scene.nics)))

    def _not_its_address(self) -> tuple[str, ...]:
        """That it has another address than the one that is said, in words."""
        said = self.profile.mac
        if said is None or said.lower() == self.mac.lower():
            return ()
        where = f"on {self.network}, or on no bridge yet,"
        return (f"another card {where} has the address {said}: this one has {self.mac}",)

    async def _lead_ports_here(self) -> None:
        """Have the host's ports lead to the guest, where the bridge is in a namespace that nobody else is in."""
        policy, ports = self.bridges.shares.policy, self.profile.forward
        if not policy.rootless or self.station.card or not ports:
            return
        await self.share.enter_async_context(relayed(self.guest, ports, self._address_of_guest, self.bridges.note))
        await self.share.enter_async_context(reached_by_pasta(policy, self.bridges.note))

    async def _address_of_guest(self) -> str | None:
        """By its lease, by what the profile fixes, or by what the host's kernel has seen."""
        leases = self.state().leases
        found = [each.address for each in leases if each.mac.lower() == self.mac.lower() and ":" not in each.address]
        found += [each.address for each in self.profile.hosts if each.name == self.guest]
        return found[0] if found else await to_thread(links.neighbor, self.mac, self.network)

    async def serve(self) -> tuple[str, ...]:
        """Start the services on the bridge."""
        if self._joined is None:
            raise RuntimeError("a card without its bridge")
        return await self.bridges.serve(self._joined, dnsmasq.wanted(self.profile, self._joined, self.station))

    async def capture(self, request: CaptureRequest) -> Capture:
        """Start a capture of its TAP, by libpcap."""
        async with self._unless_the_guest_is_gone():
            return await self.interfaces.capture(replace(request, of_card=True))

    @asynccontextmanager
    async def sender(self, interface: str) -> AsyncIterator[Sender]:
        """A packet socket on its TAP or its bridge."""
        async with self._unless_the_guest_is_gone(), in_thread(transmit.transmitter(interface)) as socket:

            async def send(frame: bytes, count: int, interval: float) -> None:
                await to_thread(socket.send, frame, count, interval)

            yield Sender(socket.mac, send)

    def wire_end(self) -> AbstractAsyncContextManager[WireEnd]:
        """A packet socket on its TAP; the bridge sees the guest's frames as well."""
        return tap_end(self.name)

    def taken(self) -> set[IPv4Address]:
        """The host's, and those that are leased."""
        leased = (IPv4Address(each.address) for each in self.state().leases if ":" not in each.address)
        return {self.address.ip, *leased}

    async def set_link(self, *, up: bool, impairment: Impairment) -> LinkFound:
        """Pull or plug in both of the cable's ends.

        QEMU's end is what the guest sees: its card loses the carrier, and frames are dropped both ways. The TAP's end
        is what the host sees: the bridge's port goes down as a switch's does, and captures tell of it.
        """
        async with self._unless_the_guest_is_gone():
            tap = await self._link()
            await to_thread(impair.apply, tap, impairment)
            try:
                await to_thread(partial(taps.set_carrier, tap, on=up))
                # Last: what is before it can be undone without asking QEMU.
                await self.machine.set_link(up=up, card=self.station.card)
            except BaseException:
                await self._put_back(tap)
                raise
            self.plug.up, self.plug.impairment = up, impairment
            self._own_queue = self._own_queue and impairment.queue() is None
            queue = await to_thread(links.queue_of, tap)
            return LinkFound((await self._link()).carrier, queue)

    async def _put_back(self, tap: Link) -> None:
        with anyio.CancelScope(shield=True):
            if await to_thread(links.get, tap.index):
                await to_thread(impair.apply, tap, self.plug.impairment)
                await to_thread(partial(taps.set_carrier, tap, on=self.plug.up))

    async def _link(self) -> Link:
        found = await to_thread(links.find, self.name)
        if found is None:
            raise NetworkFailed(
                f"the guest {self.guest} has lost its TAP",
                evidence="somebody removed it",
                cure="qemu_shutdown and qemu_boot make another",
            )
        return found

    @asynccontextmanager
    async def _unless_the_guest_is_gone(self) -> AsyncIterator[None]:
        """Everything that touches the TAP is done in this block. If it fails because QEMU has ended, that is the error.

        A QEMU that is killed takes its TAP along at a moment of the kernel's choice, before its end is told. So it is
        QEMU that is asked.
        """
        try:
            yield
        except (NetworkFailed, NoSuchInterface, InterfaceDown, CaptureFailed, OSError):
            await self.machine.confirm()
            raise

    async def counters(self) -> Counters:
        """The TAP's, and those of the guest's ring."""
        first = await self._counters()
        if not first.waiting:
            return first
        await anyio.sleep(_LONG_FOR_QEMU)
        second = await self._counters()
        return replace(second, stuck=second.taken == first.taken)

    async def _counters(self) -> Counters:
        ring = await ring_counters(self._machine, self.mac)
        tap = await to_thread(links.find, self.name)
        if tap is None:
            return replace(ring, unknown={**ring.unknown, **dict.fromkeys(_OF_THE_TAP, "the TAP is gone")})
        passed = await to_thread(links.queue_passed, tap) if self._own_queue else None
        waiting = None if passed is None else max(0, passed - tap.sent - tap.dropped)
        reason = "the TAP's queue has not counted from the beginning"
        unknown = ring.unknown if waiting is not None else {**ring.unknown, "waiting": reason}
        return replace(ring, sent=tap.received, taken=tap.sent, waiting=waiting, dropped=tap.dropped, unknown=unknown)

    def is_on(self, interface: str) -> bool:
        """Whether that is its TAP or its bridge."""
        return interface in {self.name, self.network}

    def ending(self) -> set[str]:
        """Its TAP; and the bridge with its last guest."""
        return {self.name, self.network} if self.bridges.users(self.network) == 1 else {self.name}

    def held(self) -> Held:
        """TAP and bridge, and what is served there."""
        interfaces = {f"TAP {self.name}": self.name, f"bridge {self.network}": self.network}
        return Held(interfaces, services.parts() if (services := self._services) else ())

    def state(self) -> NetworkState:
        """The bridge, and what is served there."""
        services = self._services
        running = services.dnsmasq if services else None
        return NetworkState(
            made=self._joined is not None and self._joined.made,
            services=running.state() if running else None,
            leases=tuple(running.leases()) if running else (),
            outside=services.outside() if services else Outside(reason="no guest is on it"),
        )
