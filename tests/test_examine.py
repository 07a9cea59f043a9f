"""A guest's stack is asked for what the RFCs demand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from support import PATIENCE, Account, Session, serving
from test_linux_guest import IMAGES, linux_tree

ADDRESS = "10.0.2.15"


async def linux(session: Session, user: Account) -> None:
    """A Linux guest with that address, that listens on TCP port 7777."""
    await session.call("qemu_boot", project_root=linux_tree(user), network=True, services=False, timeout=PATIENCE)
    await session.typed(f"ip addr add {ADDRESS}/24 dev eth0; ip link set eth0 up")
    await session.typed("nc -ll -p 7777 -e cat &")


def test_linux(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user, "--image-dir", IMAGES) as session:
            await linux(session, user)
            import time

            print(await session.call("qemu_snapshot", action="save", tag="x"))
            for _ in range(5):
                print(await session.call("qemu_snapshot", action="restore", tag="x"))

            for what in ("arp", "all"):
                t = time.time()
                r = await session.client.call_tool("qemu_examine", {"what": what})
                print(r.content[0].text, time.time() - t)

    anyio.run(scenario)
