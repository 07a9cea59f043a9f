"""The ring of a guest's virtio network card in which it gets frames: what its driver has given, and QEMU filled.

Both are read from the guest's memory by QEMU (qapi/virtio.json, since QEMU 7.2; virtio 1.2, 2.7): nothing is changed.
"""

from __future__ import annotations

from typing import NamedTuple

from rawtap.errors import GuestFailed
from rawtap.guest.machine import Machine

_RECEIVE_QUEUE = 0  # virtio 1.2, 5.1.2
_NUMBERS = 1 << 16  # its indexes are of 16 bits, and go round
_SECONDS = 1.0


class ReceiveRing(NamedTuple):
    """Buffers for frames: how many the driver has ever given, modulo 65536, and how many of these are still empty."""

    given: int
    free: int


async def receive_ring(machine: Machine, mac: str) -> ReceiveRing:
    """Read that of the card that was given this address.

    Raises:
        GuestExited: The guest is gone.
        GuestFailed: This QEMU cannot tell, its driver has not set the card up, or QEMU does not answer.
    """
    devices = await machine.execute("x-query-virtio", timeout=_SECONDS)
    path = await _of(machine, [each["path"] for each in devices if each["name"] == "virtio-net"], mac)
    if path is None:
        raise GuestFailed(
            "the guest has no virtio network card",
            evidence="only a virtio card tells of its buffers",
            cure='Boot it with network=true and nic="virtio-net"',
        )
    arguments = {"path": path, "queue": _RECEIVE_QUEUE}
    element = await machine.execute("x-query-virtio-queue-element", arguments, _SECONDS)
    given, filled = int(element["avail"]["idx"]), int(element["used"]["idx"])
    return ReceiveRing(given, (given - filled) % _NUMBERS)


async def _of(machine: Machine, paths: list[str], mac: str) -> str | None:
    """The one of these devices that is meant; of a guest with a single card it is not asked for its address."""
    if not machine.spec.profile.cards:
        return paths[0] if paths else None
    for path in paths:
        asked = {"path": path, "property": "mac"}
        if str(await machine.execute("qom-get", asked, _SECONDS)).lower() == mac.lower():
            return path
    return None
