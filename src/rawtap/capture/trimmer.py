"""A small process that outlives the server for a moment, and cuts its capture files after their last whole record.

Theory of operation. SIGKILL can hit between two pages of one write(2): the file then ends inside a record, and libpcap
calls it truncated. Nobody in the killed process can mend that, so another one does. The trimmer holds every running
capture's file open, and maps the memory in which the captures note where the last whole record ends (a memfd; one
64-bit word a file, written after each write). It waits on a socket. When the server is gone, for whatever reason, the
socket ends; the trimmer cuts the files and exits. It has no capability, no-new-privileges, and stays out of the
server's session so that a terminal's Ctrl-C does not reach it.

It is a precaution, and no capture ever waits for it: what is sent to it is sent without blocking. One that is gone,
stopped, or does not read is killed, and a thread puts another in its place, which is sent every file that is held.
While there is none, captures do without, and `trouble` says so.

Run as a program this file is the trimmer; imported, it is the server's side.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import select
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import subprocess

SLOTS = 512
_WORD = 8
_PATIENCE = 2.0  # seconds, for its end


class _Held(NamedTuple):
    """A file that is kept: a descriptor of ours, and which of all it is."""

    fd: int
    number: int


class _Helper:
    """One process, and the socket to it."""

    def __init__(self, memory: int) -> None:
        import shutil
        import subprocess

        setpriv = shutil.which("setpriv")
        if setpriv is None:
            raise FileNotFoundError(errno.ENOENT, "no setpriv (package util-linux)")
        # No SOCK_SEQPACKET: of those only net.unix.max_dgram_qlen wait, and ten are soon there.
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.setblocking(False)
        try:
            program = [sys.executable, "-I", "-S", __file__, str(theirs.fileno()), str(memory)]
            self.process: subprocess.Popen[bytes] = subprocess.Popen(
                [setpriv, "--no-new-privs", "--inh-caps=-all", *program],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), memory),
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._socket = ours

    def send(self, slot: int, fds: tuple[int, ...] = ()) -> bool:
        """Say of a slot which file is in it, if any; whether that could be said without waiting."""
        message = slot.to_bytes(_WORD, "little")
        try:
            return socket.send_fds(self._socket, [message], fds) == _WORD
        except OSError:
            return False

    def reads(self) -> bool:
        """Wait until more can be sent; False where that takes too long."""
        _, writable, _ = select.select([], [self._socket], [], _PATIENCE)
        return bool(writable) and self.process.poll() is None

    def is_well(self) -> bool:
        """Whether it runs, and nobody has stopped it (proc_pid_stat(5))."""
        if self.process.poll() is not None:
            return False
        try:
            stat = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8")
        except OSError:
            return False
        return stat.rpartition(")")[2].split()[0] not in {"T", "t", "Z", "X"}

    def kill(self) -> None:
        """End it without its help: it must not cut what it was not told about."""
        self.process.kill()
        self._socket.close()
        self.process.wait()

    def close(self) -> None:
        """Let it end, and wait for that, with patience."""
        import subprocess

        self._socket.close()
        try:
            self.process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Trimmer:
    """The server's side; any thread may use it. Nothing but `close` waits for the process."""

    def __init__(self) -> None:
        """Start the trimmer.

        Raises:
            OSError: It cannot be started.
        """
        self._lock = threading.Lock()
        self._free = list(range(SLOTS))
        self._held: dict[int, _Held] = {}
        self._count = 0
        self._replacing: threading.Thread | None = None
        self._trouble = ""
        self._closed = False
        self._memory = os.memfd_create("rawtap-trimmer")
        try:
            os.ftruncate(self._memory, SLOTS * _WORD)
            self.words = memoryview(mmap.mmap(self._memory, SLOTS * _WORD)).cast("Q")
            self._helper: _Helper | None = _Helper(self._memory)
        except BaseException:
            os.close(self._memory)
            raise

    def hold(self, fd: int) -> int | None:
        """Keep the file of `fd` from now on; the slot, in whose word of `words` its whole length is to be noted.

        None where there is no slot or no descriptor left: the file is not kept.
        """
        with self._lock:
            if not self._free:
                return None
            try:
                kept = os.dup(fd)
            except OSError:
                return None
            slot = self._free.pop()
            self.words[slot] = 0
            self._count += 1
            self._held[slot] = _Held(kept, self._count)
            self._tell(slot, kept)
        return slot

    def release(self, slot: int) -> None:
        """The file of that slot is complete, or gone."""
        with self._lock:
            os.close(self._held.pop(slot).fd)
            self._free.append(slot)
            self._tell(slot)

    def trouble(self) -> str:
        """Why files are not kept whole at the moment; "" where all is well, or will be in a moment."""
        with self._lock:
            if self._helper and not self._helper.is_well():
                self._replace()
            return self._trouble

    def _tell(self, slot: int, *fds: int) -> None:
        if self._helper and not self._helper.send(slot, fds):
            self._replace()

    def _replace(self) -> None:
        """Put another in the place of one that is of no use, in a thread: the caller waits for nothing."""
        broken, self._helper = self._helper, None
        if broken is None or self._closed:
            return
        self._trouble = "the process that keeps capture files whole was killed or stopped; another is being started"
        self._replacing = threading.Thread(target=self._start_another, args=[broken], name="trimmer", daemon=True)
        self._replacing.start()

    def _start_another(self, broken: _Helper) -> None:
        broken.kill()
        try:
            helper = _Helper(self._memory)
        except OSError as error:
            with self._lock:
                self._trouble = f"the process that keeps capture files whole cannot be started again: {error}"
            return
        if not self._hand_over(helper):
            helper.kill()
            with self._lock:
                self._trouble = "the process that keeps capture files whole was started again, and does not answer"

    def _hand_over(self, helper: _Helper) -> bool:
        """Tell a new one what is held, which may change meanwhile; False where it does not read."""
        told: dict[int, _Held] = {}
        while True:
            with self._lock:
                while told != self._held:
                    slot = next(slot for slot, _ in told.items() ^ self._held.items())
                    held = self._held.get(slot)
                    if not helper.send(slot, (held.fd,) if held else ()):
                        break
                    told.pop(slot, None)
                    if held:
                        told[slot] = held
                else:
                    self._helper, self._trouble = helper, ""
                    return True
            if not helper.reads():
                return False

    def close(self) -> None:
        """End the trimmer and wait for it."""
        with self._lock:
            self._closed = True
            replacing = self._replacing
        if replacing:
            replacing.join()
        if self._helper:
            self._helper.close()
        for held in self._held.values():
            os.close(held.fd)
        os.close(self._memory)


def _keep(channel: socket.socket, words: memoryview) -> None:
    """Hold what is sent, until the channel ends; then cut each file after its last whole record."""
    held: dict[int, int] = {}
    while True:
        message, fds, _, _ = socket.recv_fds(channel, _WORD, 1)
        if not message:
            break
        slot = int.from_bytes(message, "little")
        if slot in held:
            os.close(held.pop(slot))
        held.update((slot, fd) for fd in fds)
    for slot, fd in held.items():
        with contextlib.suppress(OSError):  # one file that cannot be cut must not keep the others
            if 0 < words[slot] < os.fstat(fd).st_size:
                os.ftruncate(fd, words[slot])


def main() -> None:
    """The trimmer: its arguments are the descriptors of the channel and of the memory."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    channel_fd, memory = map(int, sys.argv[1:])
    words = memoryview(mmap.mmap(memory, SLOTS * _WORD)).cast("Q")
    _keep(socket.socket(fileno=channel_fd), words)


if __name__ == "__main__":
    main()
