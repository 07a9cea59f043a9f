"""The sender of frames: a C program, compiled for the run."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from _bench.machine import SENDER_CPU

_SOURCE = Path(__file__).parent.parent / "_sender.c"


@dataclass(frozen=True)
class Load:
    """What to send: `count` frames of `size` bytes, `rate` a second or, with 0, as fast as possible.

    With `mix` their sizes take turns, and `size` is the mean.
    """

    count: int
    size: int = 60
    rate: float = 0.0
    mix: tuple[int, ...] = ()

    @property
    def bytes(self) -> int:
        """Of all of them together."""
        return self.count * self.size

    @property
    def mtu(self) -> int:
        """What a link must take: without the Ethernet header, and not below the usual one."""
        return max(1500, *(size - 14 for size in (self.size, *self.mix)))


@dataclass(frozen=True)
class Sent:
    """What was sent in how many seconds. `retries` is how often the kernel had no room for a frame."""

    count: int
    seconds: float
    retries: int

    @property
    def rate(self) -> float:
        """Frames a second."""
        return self.count / self.seconds


@dataclass(frozen=True)
class Sender:
    """The compiled program, and the CPU that it has."""

    binary: Path
    cpu: int = SENDER_CPU

    @classmethod
    def compile(cls, folder: Path) -> Sender:
        """Compile it into `folder`."""
        binary = folder / "sender"
        subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", binary, _SOURCE], check=True)
        return cls(binary)

    @contextmanager
    def started(self, interface: str, load: Load) -> Iterator[subprocess.Popen[str]]:
        """A sender at work; give it to `finish` for what it did. It does not outlive the block."""
        sizes = ",".join(map(str, load.mix or (load.size,)))
        arguments = [interface, load.count, sizes, load.rate, self.cpu]
        command = [str(self.binary), *map(str, arguments)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        with process:
            try:
                yield process
            finally:
                process.kill()

    @staticmethod
    def finish(process: subprocess.Popen[str]) -> Sent:
        """Wait for a sender and return what it did.

        Raises:
            subprocess.CalledProcessError: It failed; its complaint is on stderr.
        """
        output, _ = process.communicate()
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, process.args)
        count, seconds, retries = output.split()
        return Sent(int(count), float(seconds), int(retries))

    def send(self, interface: str, load: Load) -> Sent:
        """Send all of it."""
        with self.started(interface, load) as process:
            return self.finish(process)
