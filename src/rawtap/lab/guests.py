"""A guest of the Lab's: what its boot is asked for, what it holds while it is there, and how it ended."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import anyio

from rawtap.guest.console import Output
from rawtap.guest.machine import Exit, Machine
from rawtap.guest.profile import BootOptions
from rawtap.lab.captures import Capture, CaptureReport
from rawtap.lab.usernet import UserNet
from rawtap.network.impair import Plug
from rawtap.network.network import Bridge, Tap


@dataclass(frozen=True)
class BootRequest:
    """What `Lab.boot` needs; see the tool for the meaning of each."""

    project_root: Path | None = None
    profile: str | None = None
    name: str = "guest"
    network: bool | Literal["user"] = False
    options: BootOptions = field(default_factory=BootOptions)
    wait_for_prompt: bool = True
    timeout: float = 60.0
    capture: bool = False
    capture_filter: str = ""
    services: bool | None = None  # the profile's, where None


@dataclass(frozen=True)
class Ended:
    """How a guest ended and what was released with it."""

    exit: Exit
    console: Output
    released: tuple[str, ...]
    standing: tuple[str, ...]
    captures: tuple[CaptureReport, ...]


@dataclass(eq=False)
class Guest:
    """A guest and what it holds. `stack` releases its boot's capture, its TAP and its share of the bridge.

    `user` is its network where QEMU makes it, without bridge and TAP.

    `ended` is set, under `lock`, by the first who releases it; whoever comes second gets the same.
    """

    machine: Machine
    bridge: Bridge | None
    tap: Tap | None
    capture: Capture | None
    stack: AsyncExitStack
    lock: anyio.Lock = field(default_factory=anyio.Lock)
    plug: Plug = field(default_factory=Plug)
    user: UserNet | None = None
    ended: Ended | None = None

    @property
    def network(self) -> Bridge | UserNet | None:
        """What it is on; a capture of its network is on the interface of that name."""
        return self.user or self.bridge

    @property
    def nic(self) -> tuple[str, str] | None:
        """The interface that is its alone, and its MAC address."""
        return (self.user.name, self.user.mac) if self.user else (self.tap.name, self.tap.mac) if self.tap else None

    def is_on(self, interface: str) -> bool:
        """Whether that is its TAP, its bridge, or its card on QEMU's own network."""
        names = {self.nic[0] if self.nic else None, self.network.name if self.network else None}
        return interface in names


@dataclass(frozen=True)
class Wired:
    """The network of a guest that is being booted, and what it lacks of what was asked for."""

    bridge: Bridge | None = None
    tap: Tap | None = None
    user: UserNet | None = None
    warnings: tuple[str, ...] = ()

    def guest(self, machine: Machine, capture: Capture | None, stack: AsyncExitStack) -> Guest:
        """The guest on it."""
        plug = self.user.plug if self.user else Plug()
        return Guest(machine, self.bridge, self.tap, capture, stack, plug=plug, user=self.user)


@dataclass(frozen=True)
class Booted:
    """A booted guest."""

    guest: Guest
    prompt_seen: bool
    elapsed: float
    console: Output
    warnings: tuple[str, ...] = ()
