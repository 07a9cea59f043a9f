"""What one interface has received since it was opened here: how many frames, and the first of them.

Theory of operation. A packet socket without a ring (packet(7)). The kernel counts on it every frame, those too that
find its buffer full (PACKET_STATISTICS), and the ones that the buffer held are the first: nothing is taken out of it
before somebody asks. Frames that go out by the interface are not given to it (PACKET_IGNORE_OUTGOING, Linux 4.20).
So on a guest's TAP it has what the guest sent, and on a bridge what came up from the bridge's ports.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass, field

from rawtap.errors import CaptureFailed, CapturePermission, ServerExhausted
from rawtap.host.privileges import Capability, raised

KEPT = 1000  # frames

# linux/if_packet.h, linux/if_ether.h
_SOL_PACKET = 263
_PACKET_STATISTICS = 6
_PACKET_IGNORE_OUTGOING = 23
_ETH_P_ALL = 3
_STATISTICS = struct.Struct("=II")
_LARGEST = 65535 + 18


@dataclass(eq=False)
class Received:
    """An open socket. `sample` has the first frames, as they were received; `count` counts all that came by now."""

    index: int
    count: int = field(init=False, default=0)
    sample: list[bytes] = field(init=False, default_factory=list)
    _socket: socket.socket = field(init=False)

    def __post_init__(self) -> None:
        name = socket.if_indextoname(self.index)
        try:
            with raised(Capability.NET_RAW, f"count what {name} receives", CapturePermission):
                # No protocol yet: what comes before the socket is bound is of other interfaces.
                self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        except OSError as error:
            raise ServerExhausted.of(error) or _failed(name, error) from error
        try:
            self._socket.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
            self._socket.bind((name, _ETH_P_ALL))
        except OSError as error:
            self._socket.close()
            raise _failed(name, error) from error

    @property
    def whole(self) -> bool:
        """Whether `sample` has every frame that was counted."""
        return self.count == len(self.sample)

    def look(self) -> None:
        """Take what has come since the last look into `count` and `sample`."""
        if self._socket.fileno() < 0:
            return
        complete = self.whole
        read = self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, _STATISTICS.size)  # which begins anew at 0
        self.count += _STATISTICS.unpack(read)[0]
        gone = False
        while complete and len(self.sample) < min(KEPT, self.count):
            try:
                self.sample.append(self._socket.recv(_LARGEST))
            except BlockingIOError:  # no more of them fitted into its buffer
                return
            except OSError:  # told once, before what is still in the buffer: the interface is down or gone
                if gone:
                    raise
                gone = True

    def close(self) -> None:
        """Look for the last time, and close the socket."""
        self.look()
        self._socket.close()


def _failed(name: str, error: OSError) -> CaptureFailed:
    return CaptureFailed(
        f"cannot count what {name} receives",
        evidence=error.strerror or str(error),
        cure="qemu_status shows the interfaces that are there; start a new capture",
    )
