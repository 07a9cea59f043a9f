"""How much one client may have at once, so that one does not take it from all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rawtap.errors import ServerLimit


def require_room(used: int, most: int, what: str, next_step: str) -> None:
    """Raise ServerLimit where `used` of `most` are taken; `what` names them in the plural, with a verb."""
    if used >= most:
        raise ServerLimit(
            f"{used} {what} already",
            evidence=f"the limit is {most}",
            cure=f"{next_step}; the operator sets the limit",
        )


@dataclass(eq=False)
class Calls:
    """The calls in progress of one client, `most` at the most."""

    most: int
    running: int = 0

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count a call for this block.

        Raises:
            ServerLimit: It is one too many.
        """
        require_room(self.running, self.most, "calls are in progress", "Await an answer first (--max-calls)")
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1
