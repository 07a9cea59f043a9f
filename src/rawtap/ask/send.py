"""Frames of our own, put on the network of a guest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from anyio.to_thread import run_sync as to_thread

from rawtap.errors import InterfaceNotAllowed, RequestInvalid
from rawtap.lab.lab import Lab
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
    cards = lab.cards_on(interface)
    if not cards:
        raise InterfaceNotAllowed(
            f"no guest of this server is on {interface}, and packets are sent to guests only",
            evidence=f"guests: {', '.join(lab.guests) or 'none'}",
            cure="qemu_boot(network=true) makes an interface; qemu_status lists them",
        )
    destination = cards[0].mac if len(cards) == 1 else _EVERYBODY
    async with cards[0].sender(interface) as sender:
        defaults = craft.Defaults(sender.mac, destination, str(cards[0].address.ip))
        frame = await to_thread(partial(_frame, frame_hex, layers, defaults))
        await sender.send(frame, count, _FRAME_INTERVAL)
    return await to_thread(partial(_transmitted, frame, count))


def _frame(frame_hex: str | None, layers: Sequence[Mapping[str, Any]] | None, defaults: craft.Defaults) -> bytes:
    return craft.from_layers(layers, defaults) if layers is not None else craft.from_hex(frame_hex or "")


def _transmitted(frame: bytes, count: int) -> Transmitted:
    return Transmitted(frame, count, lines.describe(frame, len(frame), headers.ETHERNET))
