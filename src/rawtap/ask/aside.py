"""A program that does one thing beside the server: bytes in, an answer out, and then it is gone, however it ends.

For what may crash, go on for ever, or take all memory, and for libraries that read what anybody may have sent. It has
no capability and reaches what its `Access` names.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import anyio

from rawtap.host import children
from rawtap.host.landlock import Access
from rawtap.untrusted import visible

_NOWHERE = "/nonexistent"  # Debian's own name for the home of who has none
_STDERR = 4000  # bytes
_COMPLAINTS = 1 << 20


# No configuration, no plug-in and no script of anybody's.
IMPERSONAL = {**children.PLAIN, "LC_ALL": "C.UTF-8", "HOME": _NOWHERE, "XDG_CONFIG_HOME": _NOWHERE}


@dataclass(frozen=True)
class Ended:
    """How it ended: what it wrote to stdout, as far as that was wanted, its exit code (negative: the signal), the end
    of what it wrote to stderr, and whether its time was over."""

    output: bytes
    code: int
    complaint: str
    is_late: bool

    @property
    def how(self) -> str:
        """In words."""
        return f"signal {-self.code}" if self.code < 0 else f"exit code {self.code}"


@dataclass(frozen=True)
class Bounds:
    """Its seconds, the bytes of its answer, and, where it does not bound itself, MiB of memory."""

    seconds: float
    answer: int
    memory_mib: int | None = None


def python(module: str) -> list[str]:
    """The command that runs a module of rawtap's."""
    return [sys.executable, "-I", "-m", module]


def own_files() -> tuple[Path, ...]:
    """What a module of rawtap's reads until it is loaded, and what of the machine its libraries look at."""
    program = (Path(sys.prefix) / "pyvenv.cfg", *(Path(os.path.realpath(each)) for each in sys.path if each))
    return (*program, Path("/proc"), Path("/sys/fs/cgroup"))


async def run(
    command: Sequence[str | Path],
    access: Access,
    given: bytes | int,
    bounds: Bounds,
    *,
    passed: Iterable[int] = (),
    environment: Mapping[str, str] = children.PLAIN,
) -> Ended:
    """Run it with `given` as its input, bytes or a descriptor at their begin; `passed` are those that it has as well.

    Raises:
        OSError: It cannot be started.
    """
    with ExitStack() as stack:
        complaint = _memory(stack)
        if isinstance(given, bytes):
            await anyio.to_thread.run_sync(_write, memory := _memory(stack), given)
        else:
            memory = given
        child = children.start(
            command,
            access,
            streams=(memory, "pipe", complaint),
            passed=tuple(passed),
            environment=environment,
            folder="/",
            session=True,
        )
        try:
            _bound(child.pid, bounds)
            output = b""
            with anyio.move_on_after(bounds.seconds) as scope:
                output = await children.whole(child, bounds.answer)
                if len(output) < bounds.answer:  # one that writes on is not waited for
                    await child.ended()
        finally:
            child.kill()
            with anyio.CancelScope(shield=True):
                code = await child.ended()
        raw = os.pread(complaint, _STDERR, max(0, os.fstat(complaint).st_size - _STDERR))
        said = visible(raw.decode("utf-8", "replace").strip(), keep="\n")
        return Ended(output, code, said, scope.cancelled_caught)


def _memory(stack: ExitStack) -> int:
    stack.callback(os.close, memory := os.memfd_create("rawtap-aside"))
    return memory


def _write(memory: int, given: bytes) -> None:
    with os.fdopen(os.dup(memory), "wb") as file:
        file.write(given)
    os.lseek(memory, 0, os.SEEK_SET)


def _bound(pid: int, bounds: Bounds) -> None:
    limits = [(resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, _COMPLAINTS)]
    if bounds.memory_mib is not None:
        limits += [(resource.RLIMIT_DATA, bounds.memory_mib << 20), (resource.RLIMIT_CPU, int(bounds.seconds) + 1)]
    with contextlib.suppress(ProcessLookupError):  # it has ended
        for what, most in limits:
            resource.prlimit(pid, what, (most, most))
