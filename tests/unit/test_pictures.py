"""Pictures, and a pointer's steps."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import anyio
import pytest

from rawtap.errors import GuestFailed, RequestInvalid, ScreenTooLarge
from rawtap.guest.command_line import Inherited, arguments
from rawtap.guest.display import MAX_PICTURE_BYTES, Display, picture
from rawtap.guest.pointer import clicks, drag
from rawtap.guest.profile import MachineSpec, Profile

HEAD = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", 720, 400, 8, 2, 0, 0, 0) + b"crc."
END = struct.pack(">I4sI", 0, b"IEND", 0xAE426082)


def test_a_pictures_size_is_that_of_its_head() -> None:
    shot = picture(HEAD + END)
    assert (shot.width, shot.height, shot.data) == (720, 400, HEAD + END)


@pytest.mark.parametrize("data", [b"", HEAD, END, HEAD + END[:-1], b"P6" + HEAD + END])
def test_half_a_picture_is_none(data: bytes) -> None:
    with pytest.raises(GuestFailed, match="no whole picture"):
        picture(data)


def display_that_shows(*pictures: bytes) -> Display:
    """A display whose QEMU writes those, one after the other."""
    left = list(pictures)

    async def execute(command: str, arguments: dict[str, Any] | None) -> None:
        assert command == "screendump"
        assert arguments is not None
        assert arguments["format"] == "png"
        file = os.open(arguments["filename"], os.O_WRONLY | os.O_TRUNC)
        os.write(file, left.pop(0))
        os.close(file)

    async def add_fd(fd: int) -> int:
        return fd

    return Display(execute, add_fd)


def test_a_picture_of_just_the_largest_size_is_given_and_one_byte_more_is_said_to_be_too_much() -> None:
    fits = HEAD + bytes(MAX_PICTURE_BYTES - len(HEAD) - len(END)) + END

    async def scenario() -> None:
        display = display_that_shows(fits, HEAD + b"x" + fits[len(HEAD) :], HEAD + END)
        assert len((await display.screenshot()).data) == MAX_PICTURE_BYTES
        with pytest.raises(ScreenTooLarge, match=rf"{MAX_PICTURE_BYTES + 1} bytes"):
            await display.screenshot()
        assert (await display.screenshot()).data == HEAD + END  # nothing is left of the large ones
        display.close()

    anyio.run(scenario)


def test_a_click_goes_there_first() -> None:
    assert [each.said for each in clicks(1, 2, ["left", "right"])] == [
        *("move to 1,2", "press left", "release left", "press right", "release right")
    ]
    assert [each.said for each in clicks(1, 2, [])] == ["move to 1,2"]


def test_a_drag_ends_just_where_it_should() -> None:
    said = [each.said for each in drag((0, 0), (7, 32767), ["left"])]
    assert (said[0], said[1], said[-1]) == ("move to 0,0", "press left", "release left")
    assert said[-2] == "move to 7,32767"


def test_a_drag_needs_one_button_and_no_wheel() -> None:
    for buttons in ([], ["left", "right"], ["wheel-up"]):
        with pytest.raises(RequestInvalid):
            drag((0, 0), (1, 1), buttons)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        (Profile(), ["virtio-gpu-device", "virtio-keyboard-device", "virtio-tablet-device"]),
        (Profile(arch="aarch64", bus="pci"), ["virtio-gpu-pci", "virtio-keyboard-pci", "virtio-tablet-pci"]),
        (Profile(arch="x86_64", machine="q35", bus="pci"), ["VGA", "virtio-tablet-pci"]),
        (
            Profile(arch="x86_64", machine="microvm"),
            ["virtio-gpu-device", "virtio-keyboard-device", "virtio-tablet-device"],
        ),
    ],
    ids=["riscv64", "aarch64 on pci", "a PC", "microvm"],
)
def test_a_pc_has_a_vga_and_its_own_keyboard_others_have_virtios(profile: Profile, expected: list[str]) -> None:
    argv = arguments(MachineSpec(profile, Path("/k"), gpu=True), Inherited(3, 4))
    devices = [json.loads(argv[at + 1])["driver"] for at, word in enumerate(argv) if word == "-device"]
    assert devices == expected
