"""What is asked of the wire, and said on it: pages of packets, and frames of our own.

Each question is one function of the Lab, of what is in its captures and of who is on its networks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from anyio.to_thread import run_sync as to_thread

from rawtap.capture import filters
from rawtap.errors import CaptureUnreadable, InterfaceNotAllowed, RequestInvalid
from rawtap.lab import Capture, Guest, Lab
from rawtap.network import transmit
from rawtap.packets import craft, headers, lines, reader
from rawtap.packets.lines import Line as Said
from rawtap.packets.reader import Detail, Page
from rawtap.settings import Settings

_FRAME_INTERVAL = 0.001  # seconds from one of several frames to the next
_EVERYBODY = "ff:ff:ff:ff:ff:ff"


@dataclass(frozen=True)
class Place:
    """Which file of how many of a capture's one is, from 1, and whether it is still written to.

    One that is no capture's, or no longer, is the first of one.
    """

    number: int
    files: int
    growing: bool


@dataclass(frozen=True)
class Transmitted:
    """A frame that was sent `count` times, and what it says."""

    frame: bytes
    count: int
    said: Said


async def read(
    lab: Lab,
    capture_id: str | None,
    path: Path | None,
    expression: str,
    cursor: str | None,
    limit: int,
    detail: Detail = "summary",
    fields: tuple[str, ...] = (),
) -> tuple[Page, Place]:
    """A page of a capture's packets, by its id or its file, and which file of its capture that is.

    Raises:
        CaptureUnreadable: No capture file, or not in a folder that may be read.
    """
    lab.require_open()
    await to_thread(filters.checked, expression)
    if path is None:
        path = lab.capture(capture_id).session.path.resolve()
    elif capture_id is None:
        path = readable(path, lab.settings)
    else:
        raise RequestInvalid("capture and path are both given", cure="Give one of them")
    place = _place_of(path, lab)
    growing = place.growing
    page = await to_thread(
        partial(reader.read_page, path, expression, cursor, limit, growing=growing, detail=detail, fields=fields)
    )
    return page, place


def _place_of(path: Path, lab: Lab) -> Place:
    for capture in lab.captures.values():
        files = capture.session.files
        for number, file in enumerate(files, 1):
            if file.name == path.name and file.resolve() == path:
                return Place(number, len(files), growing=capture.session.running and number == len(files))
    return Place(1, 1, growing=False)


def owner_of(path: Path, lab: Lab) -> Capture | None:
    """The capture whose file a resolved path is, None where it is none's, or no longer."""
    return next((each for each in lab.captures.values() if path in map(Path.resolve, each.session.files)), None)


def readable(path: Path, settings: Settings) -> Path:
    """The path, resolved, if a capture file in that place may be read.

    Raises:
        CaptureUnreadable: It may not.
    """
    folders = [folder.resolve() for folder in (settings.capture_dir, *settings.read_dirs)]
    try:
        resolved = path.resolve()
    except (OSError, ValueError, RuntimeError) as error:  # a NUL, a loop of links
        raise CaptureUnreadable(
            f"{path} cannot be a file", evidence=str(error), cure="qemu_pcap_status lists the captures"
        ) from error
    if not any(resolved.is_relative_to(folder) for folder in folders):
        raise CaptureUnreadable(
            f"{path} is not in a folder whose captures may be read",
            evidence=f"folders: {', '.join(map(str, folders))}",
            cure="The operator can add one: start the server with --read-dir FOLDER",
        )
    return resolved


async def send(
    lab: Lab, interface: str, frame_hex: str | None, layers: Sequence[Mapping[str, Any]] | None, count: int
) -> Transmitted:
    """Put a frame on an interface that a guest of ours is on, `count` times.

    What its layers leave out makes it reach the guest: its MAC address if it is the only one there, and ours.

    Raises:
        InterfaceNotAllowed: None of our guests is on it.
        RequestInvalid: The frame cannot be made, or is too long.
        NetworkError: It cannot be sent.
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
        frame = craft.from_layers(layers, defaults) if layers is not None else craft.from_hex(frame_hex or "")
        socket.send(frame, count, _FRAME_INTERVAL)
    return Transmitted(frame, count, lines.describe(frame, len(frame), headers.ETHERNET))
