"""Making a guest's wire worse: slower, late, lossy. Which queue does it is decided here, purely; `links` installs it.

Theory of operation. The queue is on the guest's TAP, and a queue has what goes *out* by an interface: so only frames to
the guest are impaired, and what it sends is not. A delay adds to a round trip once; a loss eats requests to the guest
and answers to it alike. Between two guests each has its own TAP, so both directions can be impaired. What comes in by a
TAP would take a second interface (ifb) for each guest, a redirection and their clean-up, for little that the one
direction does not show.

The queue belongs to the TAP and is gone with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import anyio

from rawtap.network import links
from rawtap.network.links import Link

_MICROSECONDS = 1_000_000
_BURST_BYTES = 4096  # at least a frame of 1514 and its successor's beginning: tbf drops for ever what is larger
_BURST_SECONDS = 0.004  # a tick of a kernel with HZ=250: less would not reach the rate, tc-tbf(8)
_QUEUE_BYTES = 32768
_QUEUE_SECONDS = 0.1
_NETEM_PACKETS = 10_000


@dataclass(frozen=True)
class Impairment:
    """What happens to frames on their way to a guest.

    Attributes:
        delay: Seconds.
        loss, corrupt, duplicate: Percent of the frames; corrupt turns one bit over.
        rate: Bits a second; None for as fast as it goes.
    """

    delay: float = 0.0
    loss: float = 0.0
    corrupt: float = 0.0
    duplicate: float = 0.0
    rate: int | None = None

    @property
    def words(self) -> str:
        """What happens, "" where nothing does."""
        said = {
            "delay {:g} s": self.delay,
            "loss {:g} %": self.loss,
            "corruption {:g} %": self.corrupt,
            "duplication {:g} %": self.duplicate,
            "{} bits/s": self.rate,
        }
        return ", ".join(text.format(value) for text, value in said.items() if value)

    @property
    def is_faithful(self) -> bool:
        """Whether what is sent comes, as it is and once, if later."""
        return not (self.loss or self.corrupt or self.duplicate)

    def queue(self) -> tuple[str, dict[str, int | float]] | None:
        """The kind of queue that does it, with its options in pyroute2's units; None where there is nothing to do.

        A rate alone takes tbf, which more kernels have than netem; netem does a rate beside the rest.
        """
        if self.delay or self.loss or self.corrupt or self.duplicate:
            return "netem", self._netem()
        return ("tbf", _token_bucket(self.rate // 8)) if self.rate else None

    def _netem(self) -> dict[str, int | float]:
        options: dict[str, int | float] = {"limit": _NETEM_PACKETS}
        if self.delay:
            options["delay"] = round(self.delay * _MICROSECONDS)
        if self.loss:
            options["loss"] = self.loss
        if self.corrupt:
            options["prob_corrupt"] = self.corrupt
        if self.duplicate:
            options["duplicate"] = self.duplicate
        if self.rate:
            options["rate"] = self.rate // 8
        return options


@dataclass(eq=False)
class Plug:
    """How a guest's cable was set last; `lock` is held while that changes."""

    up: bool = True
    impairment: Impairment = Impairment()
    lock: anyio.Lock = field(default_factory=anyio.Lock)


def _token_bucket(rate: int) -> dict[str, int | float]:
    """Options of tc-tbf(8) for `rate` bytes a second."""
    burst = max(_BURST_BYTES, round(rate * _BURST_SECONDS))
    return {"rate": rate, "burst": burst, "limit": burst + max(_QUEUE_BYTES, round(rate * _QUEUE_SECONDS))}


def apply(tap: Link, impairment: Impairment) -> None:
    """Impair what goes out by `tap` as said, and in no other way.

    Raises:
        ImpairmentUnavailable: This kernel cannot; what was there stays as it was.
        NetworkError: Another of its kinds.
    """
    wanted = impairment.queue()
    if wanted is None:
        links.reset_queue(tap)
    else:
        links.replace_queue(tap, *wanted)
