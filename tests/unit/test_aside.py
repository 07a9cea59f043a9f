"""Programs beside the server: how many of them at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from rawtap.ask import aside, decrypt, picture
from rawtap.packets.decrypted import Copy
from rawtap.packets.origin import Origin
from rawtap.packets.reader import Raw
from support import PATIENCE


class Counted:
    """Stands for the program: counts how many run, each until there were two, and for some turns of the loop."""

    def __init__(self) -> None:
        self.running = self.most = self.ended = 0
        self.two = anyio.Event()

    async def __call__(self, *_: Any, **__: Any) -> aside.Ended:
        self.running += 1
        self.most = max(self.most, self.running)
        if self.running == 2:
            self.two.set()
        with anyio.fail_after(PATIENCE):
            await self.two.wait()
        for _step in range(10):
            await checkpoint()
        self.running -= 1
        self.ended += 1
        return aside.Ended(b"-", 0, "", False)


async def drawing() -> None:
    wish = picture.Wish("traffic", "png", None, None, None, "", 1)
    await picture._drawn(None, wish, {}, 1, False, ())  # type: ignore[arg-type]


async def decrypting() -> None:
    copy = Copy()
    copy.add(0, Raw(1, 0, 1, 1, b"a", Origin(1)))
    await decrypt._asked("tshark", copy, Path("keys"))


@pytest.mark.parametrize("asking", [drawing, decrypting])
def test_two_run_at_once_and_the_others_wait(
    asking: Callable[[], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Counted()
    monkeypatch.setattr(aside, "run", counted)

    async def scenario() -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(asking)

    anyio.run(scenario)
    assert (counted.most, counted.running, counted.ended) == (2, 0, 5)


def test_one_kind_does_not_wait_for_another_and_a_turn_ends_with_its_block() -> None:
    async def scenario() -> None:
        for _ in range(3):
            with pytest.raises(LookupError, match="the block's"):
                async with aside.turn("sql"), aside.turn("tshark"):
                    raise LookupError("the block's")

    anyio.run(scenario)
