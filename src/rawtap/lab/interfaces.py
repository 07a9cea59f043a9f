"""The kernel's interfaces as a Lab sees them: which may be captured, who is on them, and what happens to them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial

import anyio
from anyio.to_thread import run_sync as to_thread

from rawtap.blocking import in_thread
from rawtap.capture import memory
from rawtap.capture.interface import InterfaceSource
from rawtap.capture.session import CaptureRequest
from rawtap.errors import InterfaceNotAllowed, NetworkError, NoSuchInterface
from rawtap.guest.profile import TRUSTED_BRIDGES
from rawtap.lab.captures import Capture, Captures, InterfaceFeed
from rawtap.lab.observation import GuestNic, Observation, Scene
from rawtap.lab.passages import Passages
from rawtap.network import links, watch
from rawtap.network.links import Link
from rawtap.network.watch import Change, Watcher
from rawtap.settings import Settings

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Interfaces:
    """The interfaces of this network namespace.

    Attributes:
        captures: Runs the captures of them.
        made: Gives the names of those that are there for the Lab's guests.
        scene: Who is on which of them, or was.
    """

    settings: Settings
    captures: Captures
    made: Callable[[], set[str]]
    scene: Scene = field(init=False)
    _replacing: threading.Lock = field(default_factory=threading.Lock)  # of the scene
    _watcher: Watcher | None = None
    _lock: anyio.Lock = field(default_factory=anyio.Lock)
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    def __post_init__(self) -> None:
        self.scene = Scene(others=TRUSTED_BRIDGES | self.settings.allowed_interfaces)

    async def close(self) -> None:
        """Stop following them."""
        await self._stack.aclose()

    def add(self, name: str, nic: GuestNic) -> None:
        """Note whose card an interface is."""
        with self._replacing:
            self.scene = self.scene.with_nic(name, nic)

    async def learn(self) -> None:
        """Have the scene know which addresses guests use that are not their cards'. As `learn_now`."""
        if self.scene.nics:
            await to_thread(self.learn_now)

    def learn_now(self) -> None:
        """The same, in any thread. Failing to is logged, and no error: the cards' own addresses are known."""
        try:
            ports = links.learned()
        except (NetworkError, OSError) as error:
            logger.warning("bridges cannot be asked for addresses: %s", error)
            return
        with self._replacing:
            self.scene = self.scene.with_learned(ports)

    def trusted(self, name: str) -> bool:
        """Whether it is a built-in profile's, or was allowed by the operator."""
        return name in self.scene.others

    def allowed(self) -> frozenset[str]:
        """What may be captured: interfaces that rawtap made, those of the built-in profiles, the operator's."""
        return frozenset(self.made() | self.scene.others)

    async def capture(self, request: CaptureRequest) -> Capture:
        """Start a capture of an interface; it is armed when this returns.

        Raises:
            CaptureError: One of its kinds; no capture and no file is left.
        """
        watcher = await self.watching()
        before = await to_thread(watcher.look)
        link = self._allowed(request.interface, before.find(request.interface), ours=request.of_card)
        more = tuple(self._allowed(name, before.find(name), ours=True).index for name, _ in request.more)
        ring_bytes = await self._ring_bytes(request)
        observation = Observation(watcher, link, before, scene=lambda: self.scene, learn=self.learn_now)
        if link.kind == "bridge":
            observation.passages = await to_thread(Passages.open, link.index, observation.ports())
        feed = InterfaceFeed(InterfaceSource(link.index, ring_bytes, more))
        try:
            return await self.captures.start(request, feed, observation)
        except BaseException:
            observation.close()
            raise

    async def _ring_bytes(self, request: CaptureRequest) -> int:
        if self.settings.ring_bytes:
            return self.settings.ring_bytes
        of_guests = request.of_card or request.interface in self.made()
        return await to_thread(partial(memory.ring_bytes, self.captures.running, of_guests=of_guests))

    async def watching(self) -> Watcher:
        """The watcher of the interfaces; the first who needs it waits for its start."""
        async with self._lock:
            if self._watcher is None:
                self._watcher = await self._stack.enter_async_context(in_thread(watch.watch(self._changed)))
            return self._watcher

    def _changed(self, change: Change) -> None:
        self.captures.chronicle.link_changed(change, self.scene)

    async def catch_up(self) -> None:
        """Have in the journal what the kernel has told of them. Failing to is logged, and no error."""
        if self._watcher:
            try:
                await to_thread(self._watcher.catch_up)
            except (NetworkError, OSError) as error:
                logger.warning("changes of interfaces cannot be read: %s", error)

    def _allowed(self, name: str, link: Link | None, *, ours: bool) -> Link:
        if link is None:
            raise NoSuchInterface(
                f"there is no interface {name!r}",
                evidence=f"may be captured, where they exist: {', '.join(sorted(self.allowed()))}"
                + ("; this server is rootless and does not see the host's" if self.settings.rootless else ""),
                cure='qemu_boot(network=true) makes the guest\'s bridge, network="user" the card user:GUEST',
            )
        if not ours and name not in self.allowed():
            raise InterfaceNotAllowed(
                f"the interface {name} is the host's own",
                evidence=f"may be captured: {', '.join(sorted(self.allowed()))}",
                cure=f"The operator can allow it: start the server with --allow-interface {name}",
            )
        return link
