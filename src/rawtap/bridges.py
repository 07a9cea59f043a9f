"""The bridges of one server: made or joined with the first guest on them, given back with the last."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import anyio
from anyio.to_thread import run_sync as to_thread

from rawtap import privileges
from rawtap.blocking import in_thread
from rawtap.errors import NetworkError, NetworkFailed
from rawtap.network import forwarding, network
from rawtap.network.network import Bridge, BridgeGone, BridgeSpec, Tap
from rawtap.network.services import ServicesSpec
from rawtap.outside import Policy
from rawtap.served import Served

logger = logging.getLogger(__name__)

_TRIES = 5


@dataclass
class _Lease:
    """A bridge in use by this server's guests."""

    bridge: Bridge
    stack: AsyncExitStack
    served: Served
    users: int = 0


@dataclass(eq=False)
class Bridges:
    """Shares of bridges. `before_return` is called with a bridge's name before that is given back.

    `note` is told what is served on them, as a word and in words. `policy` says whether guests may have a way out.
    """

    before_return: Callable[[str], Awaitable[object]]
    note: Callable[[str, str], None]
    policy: Policy
    _leases: dict[str, _Lease] = field(default_factory=dict)
    _lock: anyio.Lock = field(default_factory=anyio.Lock)
    _swept: bool = False

    def names(self) -> set[str]:
        """Those that are in use."""
        return set(self._leases)

    def users(self, name: str) -> int:
        """How many shares of a bridge are held."""
        lease = self._leases.get(name)
        return lease.users if lease else 0

    @asynccontextmanager
    async def share(self, spec: BridgeSpec) -> AsyncIterator[Bridge]:
        """A share of the bridge; the last one that is given back gives the bridge back."""
        async with self._lock:
            await self._sweep()
            lease = self._leases.get(spec.name)
            if lease is None or not await to_thread(network.is_there, lease.bridge):
                stack = AsyncExitStack()
                made = await stack.enter_async_context(in_thread(network.bridge(spec)))
                lease = _Lease(made, stack, Served(made, stack, self.policy, self.note))
                self._leases[spec.name] = lease
            lease.users += 1
        try:
            yield lease.bridge
        finally:
            with anyio.CancelScope(shield=True):
                async with self._lock:
                    lease.users -= 1
                    if lease.users == 0:
                        if self._leases.get(spec.name) is lease:  # else its bridge was removed, and made anew
                            del self._leases[spec.name]
                            await self.before_return(spec.name)
                        await lease.stack.aclose()

    async def serve(self, bridge: Bridge, spec: ServicesSpec) -> tuple[str, ...]:
        """Have what guests are served on a bridge that is shared, until it is given back; return what cannot be.

        Raises:
            ProfileInvalid: A static host that cannot be.
        """
        async with self._lock:
            return await self._leases[bridge.name].served.provide(spec)

    def served_on(self, name: str) -> Served | None:
        """What is served on a bridge."""
        lease = self._leases.get(name)
        return lease.served if lease else None

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
                    async with self._lock:
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

    async def sweep(self) -> None:
        """Remove what dead servers left behind, if that was not done yet. Failing to is logged, and no error."""
        async with self._lock:
            try:
                await self._sweep()
            except NetworkError as error:
                logger.warning("could not look for leftovers: %s", error)

    async def _sweep(self) -> None:
        """Once a server, before its first network."""
        if not self._swept and privileges.current().may(privileges.Capability.NET_ADMIN):
            # The ways out first: while a bridge is there, no other server can make one of its name.
            ways = [] if self.policy.rootless else await to_thread(forwarding.sweep)
            for name in [*(f"the way out of {bridge}" for bridge in ways), *await to_thread(network.sweep)]:
                logger.info("removed %s, left behind by a rawtap that was killed", name)
        self._swept = True
