"""A guest's network card, whatever carries its frames.

A kind of card is one file with a class of this shape and a context manager that makes one; `Lab` chooses between them
in one place. Everybody else asks the card: what QEMU is given for it, how it is captured, how a frame is sent to it,
what its link can do, and what ends with it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface
from typing import Protocol

from rawtap.capture.session import CaptureRequest
from rawtap.errors import GuestError
from rawtap.guest.devices import Nic
from rawtap.guest.machine import Machine
from rawtap.guest.receive_ring import receive_ring
from rawtap.lab.bridge_services import Outside
from rawtap.lab.captures import Capture
from rawtap.network.dnsmasq_config import Lease
from rawtap.network.impair import Impairment, Plug


@dataclass(frozen=True)
class Sender:
    """An open way to send frames to a guest.

    Attributes:
        mac: The sender's MAC address, for frames that name none.
        send: Sends a frame, this many times, this many seconds from one to the next.
    """

    mac: str
    send: Callable[[bytes, int, float], Awaitable[None]]


@dataclass(frozen=True)
class LinkFound:
    """A link as it was found after it was set: whether it has a carrier, and its queue where it has one."""

    carrier: bool
    queue: str | None


@dataclass(frozen=True)
class Held:
    """What ends with a card, or may: a bridge is left to others that use it.

    Attributes:
        interfaces: Names of the kernel's interfaces, by what answers call them ("TAP x").
        served: Services that run now, as answers call them.
    """

    interfaces: Mapping[str, str] = field(default_factory=dict)
    served: tuple[str, ...] = ()


@dataclass(frozen=True)
class NetworkState:
    """What a card is on, as it stands now."""

    made: bool
    services: str | None
    leases: tuple[Lease, ...]
    outside: Outside


@dataclass(frozen=True)
class Counters:
    """Frames between a card's wire and its guest, since the guest was booted; None for what `unknown` says why of.

    Attributes:
        sent: By the guest.
        taken: By QEMU, for the guest.
        waiting: For QEMU to take them, which it does as long as the guest's driver gives it room.
        dropped: On their way to QEMU, for want of room.
        given: Buffers that the guest's driver has given for frames to come, in all (modulo 65536).
        free: Of these, that are still empty.
        stuck: Some wait, and QEMU took none in a moment that is long for it; None where none waits, or nobody knows.
    """

    sent: int | None = None
    taken: int | None = None
    waiting: int | None = None
    dropped: int | None = None
    given: int | None = None
    free: int | None = None
    stuck: bool | None = None
    unknown: Mapping[str, str] = field(default_factory=dict)

    @property
    def trouble(self) -> str | None:
        """Why nothing more gets to the guest, in words; None where something can."""
        if self.given == 0:
            return "the guest's driver has given its card no buffer: the guest takes no frame"
        full = self.free == 0 and self.stuck is not False
        if not full and not self.stuck:
            return None
        taken = "QEMU takes" if self.taken is None else f"QEMU took {self.taken} frames for the guest and takes"
        waiting = f"; {self.waiting} wait in the TAP" if self.waiting else ""
        return f"{taken} no more: {self._why_no_more}{waiting}"

    @property
    def _why_no_more(self) -> str:
        if self.free == 0:
            return "every buffer that the guest's driver gave its card is full"
        if self.free is None:
            return "whether the guest's driver gave its card buffers is not known"
        # virtio 1.2, 2.7.13.4: QEMU looks for buffers again when it is notified.
        return f"the guest's driver gave its card {self.free} buffers and did not notify it, or the guest is paused"


async def ring_counters(machine: Machine | None, mac: str) -> Counters:
    """What a guest's own receive ring tells; there is none before the card is connected."""
    try:
        if machine is None:
            return Counters(unknown=dict.fromkeys(("given", "free"), "the guest is being started"))
        ring = await receive_ring(machine, mac)
    except GuestError as error:
        reason = error.evidence or str(error)
        return Counters(unknown={"given": reason, "free": reason})
    return Counters(given=ring.given, free=ring.free)


class WireEnd(Protocol):
    """The end of a card's wire that is not the guest's, as a neighbour has it: frames come and go as they are."""

    def listen(self, came: Callable[[bytes], object], over: Callable[[], object]) -> None:
        """Give each frame that the guest sends from now on to `came`, in their order.

        `over` is called once nothing comes any more: QEMU has ended, or the wire is away or down.
        """

    async def send(self, frame: bytes) -> None:
        """Send a frame to the guest; that the wire is away is noticed by what does not come.

        Raises:
            RequestInvalid, NetworkFailed: It did not take this frame.
        """

    def answer(self, frame: bytes) -> None:
        """Send a frame without waiting; one that finds no room is lost."""

    def lost(self) -> int:
        """How many frames found no room on their way, ours or the guest's, since it was opened or before."""


class Card(Protocol):
    """One card of one guest. Everything here belongs to the event loop."""

    @property
    def guest(self) -> str:
        """The guest's name."""

    @property
    def name(self) -> str:
        """The interface that is its alone, as captures and sent frames name it."""

    @property
    def mac(self) -> str: ...

    @property
    def network(self) -> str:
        """The interface of what it is on; its own where nobody else can be there."""

    @property
    def address(self) -> IPv4Interface:
        """The gateway's there, with the subnet."""

    @property
    def address6(self) -> IPv6Interface | None:
        """The same for IPv6, None where there is none."""

    @property
    def tap(self) -> str | None:
        """Its TAP, where it has one."""

    @property
    def bridge(self) -> str | None:
        """Its bridge, where it is on one."""

    @property
    def about(self) -> str:
        """Whose it is, its MAC address and where it is, in words."""

    @property
    def through_qemu(self) -> bool:
        """Whether it is QEMU that shows its frames: then it can be captured only after QEMU answers."""

    @property
    def plug(self) -> Plug:
        """How its link was set last; `set_link` is called with its lock held."""

    def nic(self) -> Nic:
        """What QEMU is given for it when it starts."""

    async def connect(self, machine: Machine) -> tuple[str, ...]:
        """Join it to its network, after QEMU was started; say who else is there that is not of this client's.

        The block that made the card also leaves the network.

        Raises:
            NetworkError: One of its kinds.
            GuestExited: QEMU has ended.
        """

    async def serve(self) -> tuple[str, ...]:
        """Start what its guest is served on its network, after `connect`; return why some of it cannot be."""

    async def capture(self, request: CaptureRequest) -> Capture:
        """Start a capture of its frames, where `request.interface` is its name; armed when this returns.

        Raises:
            CaptureError: One of its kinds; no capture and no file is left.
            GuestError: The guest has ended, or QEMU refused; nothing is left either.
        """

    def sender(self, interface: str) -> AbstractAsyncContextManager[Sender]:
        """Open a way to send frames to it on `interface`, which is its name or its network's.

        Raises:
            NetworkError: It cannot be opened, or, when it sends, a frame was not taken.
            GuestError: The guest has ended, or QEMU does not answer.
        """

    def wire_end(self) -> AbstractAsyncContextManager[WireEnd]:
        """Take the end of its wire that a neighbour has; on QEMU's own network QEMU is not there meanwhile.

        Raises:
            NetworkError: It cannot be opened.
            GuestError: The guest has ended, or QEMU refused; nothing is left then.
        """

    def taken(self) -> set[IPv4Address]:
        """Addresses of its subnet that somebody has, as far as is known: the gateway, whoever has a lease."""

    async def set_link(self, *, up: bool, impairment: Impairment) -> LinkFound:
        """Plug its cable in or pull it, and impair what goes to the guest as said, in no other way.

        If this fails, nothing has changed; but a QEMU that did not answer may still do it when it wakes up.

        Raises:
            GuestExited: The guest has ended.
            GuestFailed: QEMU does not answer.
            ImpairmentUnavailable: This kernel, or this kind of card, has no such impairment.
        """

    async def counters(self) -> Counters:
        """Its frames, on both sides of QEMU."""

    def is_on(self, interface: str) -> bool:
        """Whether that is its own interface, or its network's."""

    def ending(self) -> set[str]:
        """Interfaces that end with it."""

    def held(self) -> Held:
        """What ends with it, or may."""

    def state(self) -> NetworkState:
        """What it is on, as it stands now."""
