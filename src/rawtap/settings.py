"""What the operator decides when the server starts; nothing in here can be changed by an agent."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import platformdirs

ToolGroup = Literal["all", "core", "capture", "guest"]


def default_capture_dir() -> Path:
    """The user's own state folder (XDG Base Directory Specification, ``$XDG_STATE_HOME``)."""
    return platformdirs.user_state_path("rawtap") / "captures"


def default_scratch_dir() -> Path:
    """Beside the captures of the default."""
    return platformdirs.user_state_path("rawtap") / "scratch"


@dataclass(frozen=True)
class Settings:
    """The operator's settings.

    Attributes:
        capture_dir: The folder that capture files are written to, mode 0700 when rawtap makes it.
        read_dirs: Further folders whose capture files may be read.
        image_dirs: Further folders whose kernels, firmware and drives guests may be given, besides their project's.
        scratch_dir: The folder of what guests write that nobody keeps; its files have no name once they are in use.
        allowed_interfaces: Interfaces that may be captured, and bridges that may be joined, besides those
            that rawtap made and those of the built-in profiles.
        ring_bytes: Size of each capture's kernel ring: what comes in while the capture does not get a processor. A
            larger one takes longer to open: its pages are allocated then. None for what `memory.ring_bytes` says.
        buffer_bytes: Memory that all captures together may fill while a disk is behind; it is taken when it is needed,
            and given back. None for a quarter of what is available when a capture starts.
        max_guests: How many guests may run at once, of one client.
        max_captures: How many captures may run at once, of one client.
        max_calls: How many calls may be in progress at once, of one client.
        rootless: Whether the server is in a network namespace of its own, where no privilege of the host is needed.
        outside: Whether guests may have a way out to what this machine reaches. None for the default: no on the host
            itself, and yes in a network namespace of the server's own where pasta is installed.
        open_monitor: Whether an agent may give every QMP command. Some of them read and write files, those of the
            project and of `image_dirs` as well; and all of the user's where the kernel has no Landlock.
        tools: Which tools are shown.
        qemu_args: Whether options of QEMU's that no key says may be passed on to it, unread. They reach what
            `open_monitor` reaches.
        tls_keys: A file of TLS secrets, as programs write it that are given SSLKEYLOGFILE; it need not be there yet.
        forward_ports: The first and the last port of this machine's loopback that may lead to guests' ports.
    """

    capture_dir: Path = field(default_factory=default_capture_dir)
    read_dirs: tuple[Path, ...] = ()
    image_dirs: tuple[Path, ...] = ()
    scratch_dir: Path = field(default_factory=default_scratch_dir)
    allowed_interfaces: frozenset[str] = frozenset()
    ring_bytes: int | None = None
    buffer_bytes: int | None = None
    max_guests: int = 50
    max_captures: int = 50
    max_calls: int = 300
    rootless: bool = False
    outside: bool | None = None
    open_monitor: bool = False
    tools: ToolGroup = "all"
    qemu_args: bool = False
    tls_keys: Path | None = None
    forward_ports: tuple[int, int] | None = None
