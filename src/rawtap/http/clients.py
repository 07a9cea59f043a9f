"""All who speak to the server over HTTP: who is there, who may come, and who goes for that.

Hosts do not end their sessions; they come and go. So a client that has nothing running goes when its place is needed,
the one with the least to lose first.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import TYPE_CHECKING

import anyio
from anyio.abc import TaskGroup

from rawtap.http.client import Client, stopping
from rawtap.lab.bridges import Shares
from rawtap.limits import require_room
from rawtap.server import RawtapServer
from rawtap.settings import Settings

if TYPE_CHECKING:
    from rawtap.watched.pages import Subject

_SOON = 2  # seconds


@dataclass(eq=False)
class Clients:
    """All clients, and what they have in common."""

    settings: Settings
    most: int
    idle_seconds: float
    group: TaskGroup
    shares: Shares
    _all: set[Client] = field(default_factory=set)
    _stopping: bool = False
    _turn: anyio.Event = field(default_factory=anyio.Event)  # set when any of them has begun or ended a request

    async def open(self, folder: str) -> Client:
        """A new client, whose captures go into a folder of that name.

        Raises:
            ServerLimit: There are as many as there may be.
            ServerStopping: There are no new ones any more.
        """
        await self._expect_room(None)
        return await self._start(self._add(None, folder, lasting=False))

    async def named(self, name: str, folder: str | None, *, lasting: bool = False) -> Client:
        """The client of that name, there or new; its captures go where all go if no folder is given, and a `lasting`
        one is over only when the server ends. Raises what `open` raises."""
        await self._expect_room(name)
        while (client := self._of_name(name)) is not None:
            if client.over:
                await client.gone.wait()
                self._all.discard(client)
            elif not client.opened.is_set():
                await client.opened.wait()
            else:
                return client
        return await self._start(self._add(name, folder, lasting=lasting))

    def _of_name(self, name: str) -> Client | None:
        return next((each for each in self._all if each.name == name), None)

    async def _start(self, client: Client) -> Client:
        try:
            await self.group.start(client.live)
        except BaseException:
            self.drop(client)
            raise
        self.group.start_soon(self._forget_when_gone, client)
        return client

    def _add(self, name: str | None, folder: str | None, *, lasting: bool) -> Client:
        if self._stopping:
            raise stopping()
        self._make_room()
        settings = replace(self.settings, capture_dir=self.settings.capture_dir / folder) if folder else self.settings
        server = RawtapServer(settings, lambda: self.shares)
        own = settings.capture_dir if folder else None
        client = Client(server, name, own, None if lasting else self.idle_seconds, self.most, self._tell)
        self._all.add(client)
        return client

    def _tell(self) -> None:
        self._turn.set()
        self._turn = anyio.Event()

    async def _expect_room(self, name: str | None) -> None:
        """For who may be a new client: where the others only have requests that are soon over, wait for one to be."""
        with anyio.move_on_after(_SOON):
            while self._of_name(name or "") is None and not self._is_room and any(each.is_brief for each in self._all):
                await self._turn.wait()

    @property
    def _there(self) -> list[Client]:
        return [each for each in self._all if not each.evicted]

    @property
    def _is_room(self) -> bool:
        return len(self._there) < self.most or any(each.worth() for each in self._there)

    def _make_room(self) -> None:
        """End the client that is the least loss where there are as many as there may be.

        Raises:
            ServerLimit: All have something that runs.
        """
        there = self._there
        if len(there) < self.most:
            return
        idle = [(worth, each) for each in there if (worth := each.worth())]
        if not idle:
            require_room(len(there), self.most, "clients are connected, and have guests or captures", "End one")
        _, least = min(idle, key=itemgetter(0))
        least.evicted = True
        least.end()

    def drop(self, client: Client) -> None:
        """End a client whose first request opened no session; it no longer counts."""
        client.end()
        self._all.discard(client)

    async def _forget_when_gone(self, client: Client) -> None:
        await client.gone.wait()
        self._all.discard(client)

    def with_session(self, session_id: str) -> Client | None:
        """Whose session that is, None where there is none, or it is over, or it is a named Lab's."""
        return next(
            (each for each in self._all if session_id in each.sessions and each.name is None and not each.over), None
        )

    def there(self, name: str) -> Client | None:
        """The client of that name, None where there is none, or it is over."""
        client = self._of_name(name)
        return None if client is None or client.over else client

    def watched(self) -> list[Subject]:
        """What watchers of this process may see: each client's Lab, by its name or its folder's."""
        return [each.server.watched(each.label) for each in sorted(self._all, key=lambda client: client.label)]

    async def close(self) -> None:
        """End all, at once; returns when everything is released."""
        self._stopping = True
        there = list(self._all)
        for client in there:
            client.end()
        for client in there:
            await client.gone.wait()
