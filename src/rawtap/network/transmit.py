"""Frames put onto an interface, and taken from it, by a packet socket, packet(7)."""

from __future__ import annotations

import errno
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rawtap.errors import NetworkFailed, NetworkPermission, RequestInvalid, ServerExhausted
from rawtap.host.privileges import Capability, raised

_EVERY_PROTOCOL = 0x0003  # ETH_P_ALL, linux/if_ether.h
_SOL_PACKET, _STATISTICS = 263, 6  # linux/socket.h, linux/if_packet.h
_IGNORE_OUTGOING = 23  # linux/if_packet.h; Linux 4.20
_COUNTED = struct.Struct("II")  # struct tpacket_stats, linux/if_packet.h: packets, and of these the dropped ones
_ROOM = 1 << 20  # bytes; the kernel may give less (net.core.rmem_max), and `missed` tells of what did not fit
_NO_INTERFACE = {errno.ENETDOWN, errno.ENODEV, errno.ENXIO}


@dataclass(frozen=True)
class Transmitter:
    """A socket that sends on one interface, and that interface's MAC address."""

    name: str
    mac: str
    _socket: socket.socket

    def send(self, frame: bytes, count: int, interval: float) -> int:
        """Send a frame `count` times, `interval` seconds from one to the next; how many the kernel took.

        Raises:
            RequestInvalid: It is longer than the interface takes.
            NetworkFailed: The interface is down or gone, or has no room; the text says how many went before.
        """
        started = time.monotonic()
        for number in range(count):
            time.sleep(max(0.0, started + number * interval - time.monotonic()))
            try:
                self._socket.send(frame)
            except OSError as error:
                raise refusal(self.name, error, len(frame), number) from error
        return count


def refusal(name: str, error: OSError, size: int, sent: int) -> RequestInvalid | NetworkFailed:
    """Why an interface did not take a frame of that size, after so many that it took."""
    if error.errno == errno.EMSGSIZE:
        return RequestInvalid(
            f"a frame of {size} bytes is too long for {name}",
            evidence=str(error.strerror),
            cure="Send a shorter one: the interface's MTU and 14 bytes of Ethernet header are the most",
        )
    return NetworkFailed(
        f"{name} did not take the frame, after {sent} that it took",
        evidence=str(error.strerror),
        cure="qemu_status shows whether the guest's network is there and up",
    )


def is_gone(error: OSError) -> bool:
    """Whether an interface takes nothing any more, now that it failed so: it is down, or there is none."""
    return error.errno in _NO_INTERFACE


@contextmanager
def transmitter(name: str) -> Iterator[Transmitter]:
    """Open a socket that sends on `name`; it receives nothing (protocol 0, packet(7)).

    Raises:
        NetworkPermission: This process lacks CAP_NET_RAW.
        NetworkFailed: There is no such interface.
    """
    with _opened(name, 0) as opened:
        address: bytes = opened.getsockname()[4]
        yield Transmitter(name, address.hex(":"), opened)


@contextmanager
def both_ways(name: str) -> Iterator[socket.socket]:
    """Open a socket that sends on `name` and receives what comes in there, and never waits. Raises as `transmitter`."""
    with _opened(name, _EVERY_PROTOCOL) as opened:
        opened.setblocking(False)
        yield opened


def missed(opened: socket.socket) -> int:
    """Frames that came in since this was last asked, and that a socket of `both_ways` had no room for (packet(7))."""
    counted = opened.getsockopt(_SOL_PACKET, _STATISTICS, _COUNTED.size)
    return int(_COUNTED.unpack(counted)[1])


@contextmanager
def _opened(name: str, protocol: int) -> Iterator[socket.socket]:
    with raised(Capability.NET_RAW, f"send on {name}", NetworkPermission):
        try:
            opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        except OSError as error:
            raise ServerExhausted.of(error) or _not_opened(name, error) from error
    with opened:
        try:
            if protocol:
                opened.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)  # what the host and others send there
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _ROOM)
            opened.bind((name, protocol))
        except OSError as error:
            raise _not_opened(name, error) from error
        yield opened


def _not_opened(name: str, error: OSError) -> NetworkFailed:
    return NetworkFailed(
        f"cannot send on {name}", evidence=str(error.strerror), cure="qemu_status lists the networks that are there"
    )
