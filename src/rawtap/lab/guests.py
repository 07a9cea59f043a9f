"""A guest of the Lab's: what its boot is asked for, what it holds while it is there, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import anyio

from rawtap.guest.console import Output
from rawtap.guest.machine import Exit, Machine
from rawtap.guest.profile import BootOptions
from rawtap.guest.qemu_line import Line
from rawtap.lab.captures import Capture, CaptureReport
from rawtap.lab.card import Card
from rawtap.lab.covering import Covering
from rawtap.lab.debugging import Debugging


@dataclass(frozen=True)
class BootRequest:
    """What `Lab.boot` needs; see the tool for the meaning of each."""

    project_root: Path | None = None
    profile: str | None = None
    name: str = "guest"
    network: bool | Literal["user"] = False
    options: BootOptions = field(default_factory=BootOptions)
    wait_for_prompt: bool = True
    timeout: float = 50.0
    capture: bool = False
    capture_filter: str = ""
    services: bool | None = None  # the profile's, where None
    line: Line | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Ended:
    """How a guest ended and what was released with it."""

    exit: Exit
    console: Output
    released: tuple[str, ...]
    standing: tuple[str, ...]
    captures: tuple[CaptureReport, ...]
    refused: str | None = None  # why its own shutdown command did not end it


@dataclass(eq=False)
class Guest:
    """A guest and what it holds. `stack` releases its boot's capture, and its cards with what these are on.

    `ended` is set, under `lock`, by the first who releases it; whoever comes second gets the same. `examination` is
    held by who examines its stack: two at once would each see what the other asked for. `debugging` is its debugger,
    where there is one; `covering` what is known of the code that it runs, where somebody wants to know.
    """

    machine: Machine
    cards: tuple[Card, ...]
    capture: Capture | None
    stack: AsyncExitStack
    lock: anyio.Lock = field(default_factory=anyio.Lock)
    ended: Ended | None = None
    examination: anyio.Lock = field(default_factory=anyio.Lock)
    debugging: Debugging = field(default_factory=Debugging)
    covering: Covering | None = None

    @property
    def card(self) -> Card | None:
        """The card that is meant where none is named."""
        return self.cards[0] if self.cards else None


@dataclass(frozen=True)
class Booted:
    """A booted guest. `instead` is what came instead of its prompt, in words."""

    guest: Guest
    prompt_seen: bool
    elapsed: float
    console: Output
    warnings: tuple[str, ...] = ()
    instead: str | None = None
