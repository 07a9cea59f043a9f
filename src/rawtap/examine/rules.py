"""What a rule is: what is sent to a guest, what must come and what must not.

Values in frames and in what is compared may be names, like ``"$us"`` or ``"$seq+1"``; see `values`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

Layers = tuple[dict[str, Any], ...]
Fields = Mapping[str, Any]
"""By names like ``"IP.src"``: a value, a name, None for a field that is not there, or a `Wanted`."""


class Level(StrEnum):
    """How an RFC asks for it (RFC 2119)."""

    MUST = "MUST"
    SHOULD = "SHOULD"


class Wanted:
    """More than one value that a field may have."""


@dataclass(frozen=True)
class AtLeast(Wanted):
    """A number that is not less than another, or than what a name stands for."""

    least: int | str

    def __str__(self) -> str:
        return f"{self.least} at least"


@dataclass(frozen=True)
class AtMost(Wanted):
    """A number that is not more."""

    most: int

    def __str__(self) -> str:
        return f"{self.most} at most"


@dataclass(frozen=True)
class Bits(Wanted):
    """A number that has these bits, and none of those."""

    on: int
    off: int = 0

    def __str__(self) -> str:
        return f"bits {self.on:#04x} set" + (f", {self.off:#04x} not" if self.off else "")


@dataclass(frozen=True)
class Either(Wanted):
    """One of some values, or of those that names stand for."""

    values: tuple[Any, ...]

    def __str__(self) -> str:
        return " or ".join(map(str, self.values))


@dataclass(frozen=True)
class Other(Wanted):
    """Anything but some values, or those that names stand for."""

    values: tuple[Any, ...]

    def __str__(self) -> str:
        return f"other than {' or '.join(map(str, self.values))}"


@dataclass(frozen=True)
class Inside(Wanted):
    """An address of this network."""

    network: str

    def __str__(self) -> str:
        return f"inside of {self.network}"


@dataclass(frozen=True)
class Frame:
    """A frame to send, of layers as `packets.craft` takes them; what they leave out is from us to the guest.

    Attributes:
        pad: How long it is made, with bytes 0xaa behind it.
        cut: How much of it is sent.
        piece: Which part of the IP packet's data is sent as a fragment: from that byte on, how many (None: all the
            rest), and whether it says that more follow.
    """

    layers: Layers
    pad: int = 0
    cut: int | None = None
    piece: tuple[int, int | None, bool] | None = None


@dataclass(frozen=True)
class Tell:
    """Send frames."""

    send: tuple[Frame, ...]


@dataclass(frozen=True)
class Ask:
    """Send frames; a frame of the guest's comes that has the values of `comes`.

    Attributes:
        comes: By what the answer is known among the guest's frames.
        must: What it has to have as well.
        keep: Names for later frames, and the answer's fields that they stand for.
        within: Seconds that the rule lets it take; it is asked again each second of them.
        given: It is no part of the rule: if nothing comes, the rule cannot be tried.
        control: Taken if nothing comes: a `given` one, which it has to answer to be silent, or what it did instead.
    """

    send: tuple[Frame, ...]
    comes: Fields
    must: Fields = field(default_factory=dict)
    keep: Mapping[str, str] = field(default_factory=dict)
    within: int = 0
    given: bool = False
    control: Ask | Quiet | None = None


@dataclass(frozen=True)
class Quiet:
    """Send frames; until the guest has answered a health check that is sent behind them, it sends nothing of `never`.

    Attributes:
        never: By what such frames are known, each by one of these; nothing where it only has to live.
        beyond: How many of them may come.
        within: Seconds that such a frame may take; what is sent is sent again in each of them.
    """

    send: tuple[Frame, ...]
    never: tuple[Fields, ...] = ()
    beyond: int = 0
    within: int = 0


@dataclass(frozen=True)
class Spoil:
    """What becomes of a connection's frames, both ways: our own are not sent as they are, and of the guest's data some
    are passed over as if they had not come.

    Attributes:
        loss, double, corrupt: Of how many that becomes, as a share.
        delay, jitter: Seconds that ours are late: each by the first, and by up to the second, so that they pass one
            another.
        first_lost: Every segment of data is lost when it is sent first, and comes when it is sent again.
    """

    loss: float = 0
    double: float = 0
    corrupt: float = 0
    delay: float = 0
    jitter: float = 0
    first_lost: bool = False


@dataclass(frozen=True)
class Converse:
    """Connections to the guest's open port, in which we are the other end's TCP; `scenes` has what is looked for.

    Attributes:
        scene: Its name there.
        size: Bytes that are sent to a service that sends them back.
        piece: Bytes in one segment of ours, where the guest takes so many.
        segment: The largest segment that we say to take; None says nothing of it.
        window: Bytes that we let the guest send at once.
        pieces: What is sent of the data, in that order: from which byte on, how many, and whether it is corrupt.
        seconds: How long it may take.
        port: For `values.needed`.
    """

    scene: str
    size: int = 100
    piece: int = 500
    segment: int | None = 1000
    window: int = 8192
    pieces: tuple[tuple[int, int, bool], ...] = ()
    spoil: Spoil = field(default_factory=Spoil)
    seconds: float = 10
    port: str = "$port"

    @property
    def send(self) -> tuple[Frame, ...]:
        """Frames that are the same for each guest: none."""
        return ()


Step = Tell | Ask | Quiet | Converse


@dataclass(frozen=True)
class Rule:
    """One thing that is asked of a stack.

    Attributes:
        name: The suite and a word or two, like "arp.reply". It never changes.
        source: Where it is written, like "RFC 826, Packet Reception".
        says: It in our words.
        linux: Why Linux does not keep it, and where that is written; "" where it does.
        needs: What else is needed to try it, beside what the names in its steps stand for; see `values.needed`.
        long: Seconds that it may take, where these are many: it is tried only where it alone is asked for.
    """

    name: str
    source: str
    level: Level
    says: str
    steps: tuple[Step, ...]
    linux: str = ""
    needs: tuple[str, ...] = ()
    long: int = 0

    @property
    def suite(self) -> str:
        """What it belongs to."""
        return self.name.partition(".")[0]
