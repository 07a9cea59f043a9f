"""What TFTP carries: files, put together from the blocks of a transfer (RFC 1350; RFC 2348 for the size of blocks).

A server answers from a port of its own choice, so a transfer is known by its client's address and port, and by its
server's address.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from rawtap.packets import tftp
from rawtap.packets.conversation import End
from rawtap.packets.objects.body import About, Bodies, Body
from rawtap.packets.tftp import DATA, ERROR, OPTIONS, READ, WRITE
from rawtap.untrusted import visible

_NUMBERS = 1 << 16
_WINDOW = _NUMBERS // 2
_WAITING = 64  # blocks that came before one that is missing
_TRANSFERS = 1000
_NAME = 200
_UNENDED = "its last block is not in the capture"


class Datagram(NamedTuple):
    """One of UDP: the packet's number, from and to where, its data, and how many bytes these were on the wire."""

    number: int
    source: End
    destination: End
    data: bytes
    size: int


@dataclass
class _Transfer:
    asked: str
    reads: bool
    size: int = tftp.BLOCK
    next: int = 1  # block, on a count that does not wrap
    body: Body | None = None
    is_over: bool = False
    waiting: dict[int, bytes] = field(default_factory=dict)


class TftpObjects:
    """Takes datagrams in their order, and gives out the file of the transfers that `clients` asked for: who might be
    one, of those that the datagrams are of."""

    def __init__(self, bodies: Bodies, clients: set[End]) -> None:
        self._bodies, self._clients = bodies, clients
        self._transfers: dict[tuple[End, bytes], _Transfer] = {}

    def add(self, datagram: Datagram) -> None:
        """The next datagram."""
        message = tftp.parse(datagram.data, datagram.size)
        if message is None:
            return
        source, destination = datagram.source, datagram.destination
        if message.opcode in {READ, WRITE} and destination.port == tftp.PORT:
            self._asked(source, destination, message)
        elif transfer := self._transfers.get((source, destination.address)):
            self._went_on(transfer, datagram, message, by_client=True)
        elif transfer := self._transfers.get((destination, source.address)):
            self._went_on(transfer, datagram, message, by_client=False)

    def end(self, why: str = "") -> None:
        """Nothing more comes, for which `why` is the reason if it is not the end of the datagrams."""
        for transfer in self._transfers.values():
            self._close(transfer, why or _UNENDED)

    def _asked(self, client: End, server: End, message: tftp.Tftp) -> None:
        known = self._transfers.get((client, server.address))
        name = visible(message.strings[0])[:_NAME] if message.strings else ""
        asked = f"{'RRQ' if message.opcode == READ else 'WRQ'} {name}"
        if known and not known.is_over and (known.asked, known.next) == (asked, 1):
            return  # it is asked again
        if known:
            self._close(known, _UNENDED)
        if client in self._clients and len(self._transfers) < _TRANSFERS:
            self._transfers[client, server.address] = _Transfer(asked, message.opcode == READ)

    def _went_on(self, transfer: _Transfer, datagram: Datagram, message: tftp.Tftp, *, by_client: bool) -> None:
        if transfer.is_over:
            return
        if message.opcode == OPTIONS and not by_client:
            transfer.size = message.option("blksize", tftp.BLOCK)
        elif message.opcode == ERROR:
            self._close(transfer, "an error ends it")
        elif message.opcode == DATA and by_client != transfer.reads and len(datagram.data) < datagram.size:
            self._close(transfer, f"packet {datagram.number} has only a part of its block")
        elif message.opcode == DATA and by_client != transfer.reads:
            self._block(transfer, datagram, message.number, side=0 if by_client else 1)

    def _block(self, transfer: _Transfer, datagram: Datagram, number: int, side: int) -> None:
        ahead = (number - transfer.next) % _NUMBERS
        if ahead >= _WINDOW:
            return  # it is said again
        if ahead:
            transfer.waiting[transfer.next + ahead] = datagram.data
            if len(transfer.waiting) > _WAITING:
                self._close(transfer, f"block {transfer.next} is not in the capture")
            return
        if transfer.body is None and transfer.next == 1:
            transfer.body = self._bodies.begin(About(transfer.asked, "", "", datagram.number, side))
        data: bytes | None = datagram.data
        while data is not None and not transfer.is_over:
            content = data[4:]
            if transfer.body:
                transfer.body.add(content)
            transfer.next += 1
            if len(content) < transfer.size:
                self._close(transfer, "")
            data = transfer.waiting.pop(transfer.next, None)

    def _close(self, transfer: _Transfer, lacks: str) -> None:
        if transfer.body and not transfer.is_over:
            transfer.body.end(lacks)
        transfer.is_over = True
