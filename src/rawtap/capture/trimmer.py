"""A small process that outlives the server for a moment, and cuts its capture files after their last whole record.

Theory of operation. SIGKILL can hit between two pages of one write(2): the file then ends inside a record, and libpcap
calls it truncated. Nobody in the killed process can mend that, so another one does. The trimmer holds every running
capture's file open, and maps the memory in which the captures note where the last whole record ends (a memfd; one
64-bit word a file, written after each write). It waits on a socket. When the server is gone, for whatever reason, the
socket ends; the trimmer cuts the files and exits. It has no capability, no-new-privileges, and stays out of the
server's session so that a terminal's Ctrl-C does not reach it.

Run as a program this file is the trimmer; imported, it is the server's side.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import signal
import socket
import sys
import threading

SLOTS = 512
_WORD = 8


class Trimmer:
    """The server's side; any thread may use it."""

    def __init__(self) -> None:
        """Start the trimmer.

        Raises:
            OSError: It cannot be started.
        """
        import shutil
        import subprocess

        setpriv = shutil.which("setpriv")
        if setpriv is None:
            raise FileNotFoundError(errno.ENOENT, "no setpriv (package util-linux)")
        self._lock = threading.Lock()
        self._free = list(range(SLOTS))
        memory = os.memfd_create("rawtap-trimmer")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            os.ftruncate(memory, SLOTS * _WORD)
            self.words = memoryview(mmap.mmap(memory, SLOTS * _WORD)).cast("Q")
            program = [sys.executable, "-I", "-S", __file__, str(theirs.fileno()), str(memory)]
            self._process = subprocess.Popen(
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
            os.close(memory)
        self._socket = ours

    def hold(self, fd: int) -> int:
        """Keep the file of `fd` from now on. Returns its slot: note the file's whole length in `words[slot]`."""
        with self._lock:
            slot = self._free.pop()
            self.words[slot] = 0
            socket.send_fds(self._socket, [slot.to_bytes(_WORD, "little")], [fd])
        return slot

    def release(self, slot: int) -> None:
        """The file of that slot is complete, or gone."""
        with self._lock:
            self._socket.send(slot.to_bytes(_WORD, "little"))
            self._free.append(slot)

    def close(self) -> None:
        """End the trimmer and wait for it."""
        self._socket.close()
        self._process.wait()


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
