"""What an object is, and where its bytes go. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class About:
    """What the wire says of an object. Texts are untrusted.

    Attributes:
        asked: What was asked for, with the answer's status: ``GET /a 200``, ``RRQ kernel.img``.
        kind: Its media type.
        encoding: How its bytes are coded (gzip, say); they are kept so.
        packet: The number of the packet in which it begins.
        side: Who sent it: 0 for who began the conversation, 1 for the other.
    """

    asked: str
    kind: str
    encoding: str
    packet: int
    side: int


class Body(Protocol):
    """Takes an object's bytes in their order."""

    def add(self, data: bytes) -> None:
        """The next bytes."""

    def skip(self, size: int) -> None:
        """So many bytes are not in the capture."""

    def end(self, lacks: str) -> None:
        """It is over; `lacks` says why it is not whole, "" where it is."""


class Bodies(Protocol):
    """Where objects go."""

    def begin(self, about: About) -> Body | None:
        """A place for the next object; None where there is room for no more."""
