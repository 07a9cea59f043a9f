"""Waiting until another server leaves its bridge, and becoming the owner in its place.

Theory of operation. A bridge's alias names the server that made it, which alone serves DHCP and DNS there. Another
server's guests stay on the bridge when that one ends, or when its last guest there does. So each server with guests
there waits for the owner's end, by a descriptor of its process (pidfd_open(2)), which a SIGKILL ends as well, and for
the mark that the owner leaves on the bridge when it lives on: the kernel tells of each change of a link (rtnetlink(7)).
The first to wake up after it claims the bridge, under the lock of all servers; the others find a living owner again,
and wait for that one.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager

from anyio.to_thread import run_sync as to_thread

from rawtap.network import network, watch
from rawtap.network.addressing import Owner
from rawtap.network.network import Bridge


async def succeeded(bridge: Bridge) -> Bridge | None:
    """The bridge once it is this server's; None where it is gone, or nobody's whose end could be seen."""
    with _told() as changed:
        while (owner := bridge.link.owner) is not None and owner != Owner.me():
            changed.clear()
            claimed = await to_thread(network.claimed, bridge)  # it may have been left since it was looked at
            if claimed is None:
                return None
            bridge = claimed
            if bridge.link.owner == owner and not await _ended(owner, changed):
                return None
    return bridge if bridge.link.owner else None


@contextmanager
def _told() -> Iterator[asyncio.Event]:
    """An event that is set when any link of this network namespace changes."""
    loop, changed = asyncio.get_running_loop(), asyncio.Event()
    with watch.stirred() as (descriptor, take):

        def read() -> None:
            take()
            changed.set()

        loop.add_reader(descriptor, read)
        try:
            yield changed
        finally:
            loop.remove_reader(descriptor)


async def _ended(owner: Owner, changed: asyncio.Event) -> bool:
    """Wait for that process's end, or for `changed`; False where it is in another pid namespace, and is not seen."""
    if not owner.is_near:
        return False
    try:
        pidfd = os.pidfd_open(owner.pid)
    except ProcessLookupError:
        return True
    loop = asyncio.get_running_loop()
    try:
        if not owner.gone():  # else another process has its pid by now
            loop.add_reader(pidfd, changed.set)
            await changed.wait()
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)
    return True
