"""Bridges: made or joined with the first guest on them, given back with the last, shared by the Labs of one process.

Theory of operation. A process has one share of a bridge in the kernel's eyes (`network.bridge`), and one dnsmasq on it,
however many of its Labs have guests there; `Shares` holds these. Each Lab has a `Bridges` of its own, which knows that
Lab's part: the names that it may capture, and what to stop before its last guest leaves. What dnsmasq says is told to
every Lab that is on the bridge.
"""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import anyio
from anyio.to_thread import run_sync as to_thread

from rawtap.blocking import in_thread
from rawtap.errors import NetworkError, NetworkFailed
from rawtap.host import privileges
from rawtap.lab.bridge_services import BridgeServices
from rawtap.lab.outside import Policy
from rawtap.network import forwarding, network
from rawtap.network.dnsmasq_config import ServicesSpec
from rawtap.network.network import Bridge, BridgeGone, BridgeSpec, Tap

logger = logging.getLogger(__name__)

_TRIES = 5


@dataclass(eq=False)
class _Lease:
    """A bridge in use by this process's guests: how many of which Lab."""

    bridge: Bridge
    stack: AsyncExitStack
    services: BridgeServices = field(init=False)
    users: Counter[Bridges] = field(default_factory=Counter)

    def note(self, kind: str, text: str) -> None:
        """Tell all who are on it."""
        for each in list(self.users):
            each.note(kind, text)


@dataclass(eq=False)
class Shares:
    """The bridges that the Labs of this process use, by name. Everything here belongs to the event loop.

    `policy` says whether guests may have a way out.
    """

    policy: Policy
    leases: dict[str, _Lease] = field(default_factory=dict)
    lock: anyio.Lock = field(default_factory=anyio.Lock)
    swept: bool = False
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def lease(self, bridge: Bridge, stack: AsyncExitStack) -> _Lease:
        """A lease of a bridge that was just made or joined; `stack` gives it back."""
        lease = _Lease(bridge, stack)
        lease.services = BridgeServices(bridge, stack, self.policy, lease.note)
        return lease

    async def sweep(self) -> None:
        """Remove what dead servers left behind, if that was not done yet. Failing to is logged, and no error."""
        async with self.lock:
            try:
                await self.clean()
            except NetworkError as error:
                logger.warning("could not look for leftovers: %s", error)

    async def clean(self) -> None:
        """The same, for who holds `lock`. Raises NetworkError."""
        if not self.swept and privileges.current().may(privileges.Capability.NET_ADMIN):
            # The ways out first: while a bridge is there, no other server can make one of its name.
            ways = [] if self.policy.rootless else await to_thread(forwarding.sweep)
            for name in [*(f"the way out of {bridge}" for bridge in ways), *await to_thread(network.sweep)]:
                logger.info("removed %s, left behind by a rawtap that was killed", name)
        self.swept = True


@dataclass(eq=False)
class Bridges:
    """A Lab's shares of bridges. `before_return` is called with a bridge's name before the last of them is given back.

    `note` is told what is served on them, as a word and in words.
    """

    before_return: Callable[[str], Awaitable[object]]
    note: Callable[[str, str], None]
    shares: Shares
    number: int = field(init=False)  # of the Lab, among those of this process: two may have a guest of the same name

    def __post_init__(self) -> None:
        self.number = next(self.shares.numbers)

    def names(self) -> set[str]:
        """Those that this Lab uses."""
        return {name for name, lease in self.shares.leases.items() if lease.users[self]}

    def users(self, name: str) -> int:
        """How many shares of a bridge this Lab holds."""
        lease = self.shares.leases.get(name)
        return lease.users[self] if lease else 0

    @asynccontextmanager
    async def share(self, spec: BridgeSpec) -> AsyncIterator[Bridge]:
        """A share of the bridge; the last one that is given back gives the bridge back."""
        async with self.shares.lock:
            await self.shares.clean()
            lease = self.shares.leases.get(spec.name)
            if lease is None or not await to_thread(network.is_there, lease.bridge):
                stack = AsyncExitStack()
                made = await stack.enter_async_context(in_thread(network.bridge(spec)))
                lease = self.shares.leases[spec.name] = self.shares.lease(made, stack)
            lease.users[self] += 1
        try:
            yield lease.bridge
        finally:
            with anyio.CancelScope(shield=True):
                async with self.shares.lock:
                    await self._give_back(lease)

    async def _give_back(self, lease: _Lease) -> None:
        name = lease.bridge.name
        in_use = self.shares.leases.get(name) is lease  # else its bridge was removed, and made anew
        lease.users[self] -= 1
        if lease.users[self] == 0 and in_use:
            await self.before_return(name)
        if lease.users.total() == 0:
            if in_use:
                del self.shares.leases[name]
            await lease.stack.aclose()  # what was served there ends, and who was there last is told
        if lease.users[self] == 0:
            del lease.users[self]

    async def serve(self, bridge: Bridge, spec: ServicesSpec) -> tuple[str, ...]:
        """Start the services on a shared bridge, until the bridge is given back; return why some cannot be.

        Raises:
            ProfileInvalid: A static host that cannot be.
        """
        async with self.shares.lock:
            return await self.shares.leases[bridge.name].services.provide(spec)

    def services_on(self, name: str) -> BridgeServices | None:
        """What is served on a bridge."""
        lease = self.shares.leases.get(name)
        return lease.services if lease and lease.users[self] else None

    @asynccontextmanager
    async def port(self, spec: BridgeSpec, tap: Tap) -> AsyncIterator[Bridge]:
        """A share of the bridge, with that TAP on it.

        The server that made a bridge may remove it between the two; then it is made anew, some times at the most.

        Raises:
            NetworkError: One of its kinds; nothing is left.
        """
        for left in reversed(range(_TRIES)):
            async with AsyncExitStack() as stack:
                bridge = await stack.enter_async_context(self.share(spec))
                try:
                    async with self.shares.lock:
                        await to_thread(network.plug, tap, bridge)
                except BridgeGone:
                    if left:
                        continue
                    raise NetworkFailed(
                        f"the bridge {spec.name} was removed {_TRIES} times since it was made",
                        cure="Find out who does it; qemu_timeline tells when",
                    ) from None
                yield bridge
                return
