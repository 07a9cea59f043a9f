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
from rawtap.lab.captures import Capture
from rawtap.errors import CaptureUnreadable, InterfaceNotAllowed, RequestInvalid
from rawtap.lab.guests import Guest
from rawtap.lab.lab import Lab
from rawtap.network import transmit
from rawtap.packets import craft, headers, lines
from rawtap.packets.lines import Line as Said
from rawtap.packets.pages import Page, Question, Source, read_page
from rawtap.packets.tail import Part
from rawtap.settings import Settings

_FRAME_INTERVAL = 0.001  # seconds from one of several frames to the next
_EVERYBODY = "ff:ff:ff:ff:ff:ff"


@dataclass(frozen=True)
class Place:
    """Which file of how many of a capture's one is, from 1; one that is no capture's is the first of one."""

    number: int
    files: int


@dataclass(frozen=True)
class Transmitted:
    """A frame that was sent `count` times, and what it says."""

    frame: bytes
    count: int
    said: Said


async def read(lab: Lab, capture_id: str | None, path: Path | None, question: Question) -> tuple[Page, Path, Place]:
    """A page of a capture's packets, by its id over all its files, or of one file; its path, and which file that is.

    A running capture's page has everything that was on the wire when it was asked for.

    Raises:
        CaptureUnknown: There is no such capture.
        CaptureUnreadable: No capture file, or not in a folder that may be read.
        BadFilter: With libpcap's text.
        RequestInvalid: Both, a capture and a path, are given, or what is asked for is out of range.
        CaptureFailed: The capture's thread does not answer.
    """
    lab.require_open()
    await to_thread(filters.checked, question.expression)
    capture, path = chosen(lab, capture_id, path)
    if capture:
        await capture.tidings.caught_up()
    source, shown, place = _source_of(capture, path)
    return await to_thread(read_page, source, question, lab.indexes), shown, place


def chosen(lab: Lab, capture_id: str | None, path: Path | None) -> tuple[Capture | None, Path | None]:
    """The capture that is meant, and the file of it or of none that is.

    Raises:
        CaptureUnknown: There is no such capture.
        CaptureUnreadable: The path is not in a folder that may be read.
        RequestInvalid: Both are given.
    """
    if path is None:
        return lab.captures.get(capture_id), None
    if capture_id is not None:
        raise RequestInvalid("capture and path are both given", cure="Give one of them")
    path = _readable(path, lab.settings)
    owners = (each for each in lab.captures.all() if path in map(Path.resolve, each.session.files))
    return next(owners, None), path


def _source_of(capture: Capture | None, path: Path | None) -> tuple[Source, Path, Place]:
    """Whose packets a page is of."""
    if capture is None:
        if path is None:
            raise RuntimeError("neither a capture nor a path")
        return Source(str(path), [Part(1, path, 0)]), path, Place(1, 1)
    running = capture.session.running  # asked first: one that ends meanwhile counts as growing
    parts = capture.parts()
    start_ns = capture.session.started_ns
    if path is None:
        return Source(capture.id, parts, running, start_ns), parts[-1].path, Place(len(parts), len(parts))
    here = next((number for number, part in enumerate(parts, 1) if part.path.resolve() == path), 1)
    growing = running and here == len(parts)
    return Source(str(path), [Part(1, path, 0)], growing, start_ns), path, Place(here, len(parts))


def _readable(path: Path, settings: Settings) -> Path:
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
