"""Frames of our own, put on the network of a guest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from anyio.to_thread import run_sync as to_thread

from rawtap.errors import InterfaceNotAllowed, RequestInvalid
from rawtap.lab.guests import Guest
from rawtap.lab.lab import Lab
from rawtap.network import transmit
from rawtap.packets import craft, headers, lines
from rawtap.packets.lines import PacketSummary

_FRAME_INTERVAL = 0.001  # seconds from one of several frames to the next
_EVERYBODY = "ff:ff:ff:ff:ff:ff"


@dataclass(frozen=True)
class Transmitted:
    """A frame that was sent `count` times, and what it says."""

    frame: bytes
    count: int
    summary: PacketSummary


async def send(
    lab: Lab, interface: str, frame_hex: str | None, layers: Sequence[Mapping[str, Any]] | None, count: int
) -> Transmitted:
    """Put a frame on an interface that a guest of ours is on, `count` times.

    What its layers leave out makes it reach the guest: its MAC address if it is the only one there, and ours.

    Raises:
        InterfaceNotAllowed: None of our guests is on it.
        RequestInvalid: The frame cannot be made, or is too long.
        NetworkError: It cannot be sent.
        GuestError: Its QEMU, which is what sends on a network of its own, has ended or does not answer.
    """
    lab.require_open()
    if (frame_hex is None) == (layers is None):
        raise RequestInvalid("a frame is given by hex or by layers", cure="Give one of them")
    guests = [guest for guest in lab.guests.values() if guest.is_on(interface)]
    if not guests:
        raise InterfaceNotAllowed(
            f"no guest of this server is on {interface}, and packets are sent to guests only",
            evidence=f"guests: {', '.join(lab.guests) or 'none'}",
            cure="qemu_boot(network=true) makes an interface; qemu_status lists them",
        )
    if (user := guests[0].user) is not None:
        defaults = craft.Defaults(user.gateway_mac, user.mac, str(user.address.ip))
        frame = await to_thread(partial(_frame, frame_hex, layers, defaults))
        await user.send(frame, count, _FRAME_INTERVAL)
        return await to_thread(partial(_transmitted, frame, count))
    return await to_thread(partial(_send, interface, guests, frame_hex, layers, count))


def _send(
    interface: str,
    guests: Sequence[Guest],
    frame_hex: str | None,
    layers: Sequence[Mapping[str, Any]] | None,
    count: int,
) -> Transmitted:
    """Make a frame and send it, in a worker thread."""
    macs = {guest.tap.mac for guest in guests if guest.tap}
    addresses = [str(guest.bridge.address.ip) for guest in guests if guest.bridge]
    with transmit.transmitter(interface) as socket:
        destination = macs.pop() if len(macs) == 1 else _EVERYBODY
        defaults = craft.Defaults(socket.mac, destination, addresses[0])
        frame = _frame(frame_hex, layers, defaults)
        socket.send(frame, count, _FRAME_INTERVAL)
    return _transmitted(frame, count)


def _frame(frame_hex: str | None, layers: Sequence[Mapping[str, Any]] | None, defaults: craft.Defaults) -> bytes:
    return craft.from_layers(layers, defaults) if layers is not None else craft.from_hex(frame_hex or "")


def _transmitted(frame: bytes, count: int) -> Transmitted:
    return Transmitted(frame, count, lines.describe(frame, len(frame), headers.ETHERNET))
