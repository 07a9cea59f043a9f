"""Waiting for the end of another server, and becoming the owner of its bridge in its place.

Theory of operation. A bridge's alias names the server that made it, which alone serves DHCP and DNS there. Another
server's guests stay on the bridge when that one ends. So each server with guests there waits for the owner's end, by a
descriptor of its process (pidfd_open(2)), which a SIGKILL ends as well. The first to wake up after it claims the
bridge, under the lock of all servers; the others find a living owner again, and wait for that one's end.
"""

from __future__ import annotations

import asyncio
import os

from anyio.to_thread import run_sync as to_thread

from rawtap.network import network
from rawtap.network.addressing import Owner
from rawtap.network.network import Bridge


async def succeeded(bridge: Bridge) -> Bridge | None:
    """The bridge once it is this server's; None where it is gone, or nobody's whose end could be seen."""
    while (owner := bridge.link.owner) is not None and owner != Owner.me():
        if not await _ended(owner):
            return None
        claimed = await to_thread(network.claimed, bridge)
        if claimed is None:
            return None
        bridge = claimed
    return bridge if bridge.link.owner else None


async def _ended(owner: Owner) -> bool:
    """Wait for that process's end; False where it is in another pid namespace, from which nothing is seen."""
    if not owner.is_near:
        return False
    try:
        pidfd = os.pidfd_open(owner.pid)
    except ProcessLookupError:
        return True
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    try:
        if not owner.gone():  # else another process has its pid by now
            loop.add_reader(pidfd, over.set)
            await over.wait()
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)
    return True
