"""Blocking context managers in the event loop: they are told how their block ended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import pytest

from rawtap.blocking import in_thread


@contextmanager
def told(seen: list[BaseException | None], *, ends_it: bool = False) -> Iterator[str]:
    try:
        yield "value"
    except BaseException as error:
        seen.append(error)
        if not ends_it:
            raise
    else:
        seen.append(None)


def test_a_manager_is_told_of_the_bodys_error() -> None:
    seen: list[BaseException | None] = []

    async def scenario() -> None:
        async with in_thread(told(seen)) as value:
            assert value == "value"
        with pytest.raises(LookupError, match="the body's"):
            async with in_thread(told(seen)):
                raise LookupError("the body's")

    anyio.run(scenario)
    assert (seen[0], str(seen[1])) == (None, "the body's")


def test_a_manager_may_end_the_bodys_error() -> None:
    seen: list[BaseException | None] = []

    async def scenario() -> None:
        async with in_thread(told(seen, ends_it=True)):
            raise LookupError("ended")

    anyio.run(scenario)
    assert str(seen[0]) == "ended"


def test_a_manager_is_left_when_its_body_is_cancelled() -> None:
    seen: list[BaseException | None] = []

    async def scenario() -> None:
        with anyio.CancelScope() as scope:
            async with in_thread(told(seen)):
                scope.cancel()
                await anyio.sleep_forever()
        assert scope.cancelled_caught

    anyio.run(scenario)
    assert isinstance(seen[0], BaseException)
