"""What makes a capture's life hard: a slow disk, somebody else who writes, little memory, one CPU for all."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from _bench.contenders import Contender
from _bench.machine import CAPTURE_CPU
from _bench.plan import Bench

_CGROUPS = Path("/sys/fs/cgroup")
_THROTTLE = _CGROUPS / "blkio/blkio.throttle.write_bps_device"  # version 1: the root group's, of whoever writes
_DISK_BYTES = 6 << 30
_WRITER = """\
import os, sys
chunk = bytes(1 << 20)
with open(sys.argv[1], "wb", buffering=0) as file:
    print("writes", flush=True)
    while True:
        for _ in range(1 << 10):
            os.write(file.fileno(), chunk)
        file.seek(0)
"""


@dataclass(frozen=True)
class Strained:
    """What is measured under a strain; `prefix` goes before each contender's command line."""

    bench: Bench
    folder: Path
    prefix: tuple[str, ...] = ()

    def of(self, contenders: tuple[Contender, ...]) -> tuple[Contender, ...]:
        """The contenders, with the prefix."""
        return tuple(_after(each, self.prefix) for each in contenders)


def _after(contender: Contender, prefix: tuple[str, ...]) -> Contender:
    command = contender.command
    return replace(contender, command=lambda interface, folder: [*prefix, *command(interface, folder)])


@contextmanager
def slow_disk(bench: Bench, bytes_per_second: int) -> Iterator[Strained | None]:
    """An ext4 of its own on a file of the disk, which takes no more than that; None where this kernel cannot do it.

    Its page cache takes as much as any other's; what is written back to it waits. Linux: blkio-controller.rst.
    """
    if not _THROTTLE.exists():
        yield None
        return
    with ExitStack() as stack:
        image = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=bench.disk))) / "image"
        with image.open("wb") as file:
            file.truncate(_DISK_BYTES)
        _run("mkfs.ext4", "-q", "-F", str(image))
        device = _run("losetup", "--find", "--show", str(image))
        stack.callback(_run, "losetup", "--detach", device)
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir=bench.tmpfs))
        _run("mount", device, folder)
        stack.callback(_run, "umount", folder)
        number = Path(f"/sys/block/{Path(device).name}/dev").read_text(encoding="ascii").strip()
        _THROTTLE.write_text(f"{number} {bytes_per_second}", encoding="ascii")
        stack.callback(_THROTTLE.write_text, f"{number} 0", encoding="ascii")
        yield Strained(bench, Path(folder))


@contextmanager
def second_writer(bench: Bench) -> Iterator[Strained]:
    """A process that does nothing but write to the same disk, over and over into one file of 1 GiB."""
    with tempfile.TemporaryDirectory(dir=bench.disk) as folder:
        command = [sys.executable, "-c", _WRITER, f"{folder}/file"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as writer:
            try:
                if writer.stdout:
                    writer.stdout.readline()
                yield Strained(bench, bench.disk)
            finally:
                writer.kill()


@contextmanager
def little_memory(bench: Bench, limit: int) -> Iterator[Strained | None]:
    """A memory cgroup of so many bytes for whoever captures; None where this kernel, or its owner, has none to give."""
    version_1 = _CGROUPS / "memory"
    parent = version_1 if version_1.is_dir() else _CGROUPS
    group = parent / f"rawtap-bench-{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        yield None
        return
    try:
        file = group / ("memory.limit_in_bytes" if parent == version_1 else "memory.max")
        file.write_text(str(limit), encoding="ascii")
        prefix = ("sh", "-c", f'echo $$ >{group}/cgroup.procs && exec "$@"', "sh")
        yield Strained(bench, bench.disk, prefix)
    finally:
        group.rmdir()


@contextmanager
def one_cpu(bench: Bench) -> Iterator[Strained]:
    """The sender on the CPU of whoever captures."""
    yield Strained(replace(bench, sender=replace(bench.sender, cpu=CAPTURE_CPU)), bench.disk)


def _run(*command: str) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
