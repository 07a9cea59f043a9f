"""A guest's screen, keyboard and pointer, from outside: what it draws is seen, what is typed and clicked arrives."""

from __future__ import annotations

import base64
import string
import struct
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import anyio
import pytest
from mcp_types import ImageContent, TextContent

import pc_guest
from support import PATIENCE, Account, Session, ToolFailed, open_files, serving

_MARK = "f12"
_MARK_DOWN, _MARK_UP = 0x58, 0xD8


@pytest.fixture
def pc_tree(user: Account) -> Path:
    """A PC that tells what its keyboard and its pointer do."""
    return pc_guest.make_tree(user.home / "pc")


@asynccontextmanager
async def pc(account: Account, tree: Path, mode: Literal["auto", "legacy"] = "auto") -> AsyncIterator[Session]:
    """That PC, running."""
    async with serving(account, mode=mode) as session:
        booted = await session.call("qemu_boot", project_root=str(tree), gpu=True)
        assert booted["prompt_seen"]
        yield session


async def told(session: Session) -> str:
    """What the guest has told since the last answer. A key that it tells last shows that all before has arrived."""
    await session.call("qemu_send_key", keys=_MARK, hold_time=20)
    read = await session.call("qemu_read", wait_for=f"k{_MARK_UP:02x}\n", timeout=PATIENCE)
    assert read["matched"]
    assert not read["truncated"]
    return str(read["output"])


async def scan_codes(session: Session) -> list[int]:
    found = pc_guest.keyboard_bytes(await told(session))
    assert found[-2:] == [_MARK_DOWN, _MARK_UP]
    return found[:-2]


async def screenshot(session: Session, **arguments: Any) -> tuple[dict[str, Any], bytes]:
    """The structured answer, and the picture."""
    result = await session.client.call_tool("qemu_screenshot", arguments)
    image, text = result.content
    assert isinstance(image, ImageContent)
    assert isinstance(text, TextContent)
    assert image.mime_type == "image/png"
    assert result.structured_content is not None
    return dict(result.structured_content), base64.b64decode(image.data)


def first_pixel(png: bytes) -> tuple[int, int, int]:
    """The colour of a PNG's upper left corner: the one pixel that no PNG filter changes."""
    at, packed = 8, b""
    while at < len(png):
        length, kind = struct.unpack_from(">I4s", png, at)
        packed += png[at + 8 : at + 8 + length] if kind == b"IDAT" else b""
        at += length + 12
    red, green, blue = zlib.decompress(packed)[1:4]
    return red, green, blue


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_screenshot_shows_what_a_pc_draws_in_text_mode(
    user: Account, pc_tree: Path, mode: Literal["auto", "legacy"]
) -> None:
    async def scenario() -> None:
        async with pc(user, pc_tree, mode) as session:
            about, png = await screenshot(session)
            assert (about["name"], about["format"], about["size_bytes"]) == ("guest", "png", len(png))
            assert (about["width"], about["height"]) == struct.unpack(">II", png[16:24]) == (720, 400)
            assert first_pixel(png) == (168, 0, 0)  # red in VGA's palette, which has 6 bits a colour
            await session.call("qemu_send_key", keys="a")
            await told(session)
            _, after = await screenshot(session)
            assert after != png

    anyio.run(scenario)


def test_screenshots_leave_no_file_and_cost_one_descriptor(anyone: Account) -> None:
    picture = "/memfd:screenshot (deleted)"

    def files() -> set[Path]:
        own = {".cache", ".config"}  # scapy's, while it is loaded
        return {each for each in anyone.home.rglob("*") if not own & {*each.parts}}

    async def scenario() -> None:
        async with pc(anyone, pc_guest.make_tree(anyone.home / "pc")) as session:
            pid = (await session.call("qemu_status"))["guests"][0]["pid"]
            before = files()
            for _ in range(3):
                await screenshot(session)
            fds = [str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir()]
            assert fds.count(picture) == 1
            assert picture in open_files(session.pid)
            assert files() == before
            await session.call("qemu_shutdown", timeout=0)
            assert picture not in open_files(session.pid)

    anyio.run(scenario)


def test_every_character_of_a_us_keyboard_arrives_as_itself(user: Account, pc_tree: Path) -> None:
    async def scenario() -> None:
        text = string.digits + string.ascii_letters + string.punctuation + " \t\n"
        async with pc(user, pc_tree) as session:
            typed = await session.call("qemu_type", text=text)
            assert typed["characters"] == len(text) == 97
            assert pc_guest.text_of(await scan_codes(session)) == text

    anyio.run(scenario)


def test_of_a_long_text_no_key_is_lost_and_two_texts_do_not_mingle(user: Account, pc_tree: Path) -> None:
    async def scenario() -> None:
        one, two = "THE QUICK BROWN FOX! " * 3, "jumps over the lazy dog? " * 2
        async with pc(user, pc_tree) as session:
            async with anyio.create_task_group() as group:
                group.start_soon(lambda: session.call("qemu_type", text=one))
                group.start_soon(lambda: session.call("qemu_type", text=two))
            assert pc_guest.text_of(await scan_codes(session)) in {one + two, two + one}

    anyio.run(scenario)


def test_keys_go_down_in_order_are_held_and_come_up_in_reverse(user: Account, pc_tree: Path) -> None:
    async def scenario() -> None:
        async with pc(user, pc_tree) as session:
            started = anyio.current_time()
            sent = await session.call("qemu_send_key", keys="Ctrl-Alt-Del", hold_time=300)
            assert anyio.current_time() - started >= 0.3
            assert sent["sent"] == [
                *("press ctrl", "press alt", "press delete"),
                *("release delete", "release alt", "release ctrl"),
            ]
            assert await scan_codes(session) == [0x1D, 0x38, 0xE0, 0x53, 0xE0, 0xD3, 0xB8, 0x9D]

    anyio.run(scenario)


def test_a_call_that_is_cancelled_lets_go_of_its_keys(user: Account, pc_tree: Path) -> None:
    async def scenario() -> None:
        async with pc(user, pc_tree) as session:
            async with anyio.create_task_group() as group:
                group.start_soon(lambda: session.call("qemu_send_key", keys="shift-a", hold_time=10000))
                down = await session.call("qemu_read", wait_for="k1e\n", timeout=PATIENCE)
                group.cancel_scope.cancel()
            assert pc_guest.keyboard_bytes(down["output"]) + await scan_codes(session) == [0x2A, 0x1E, 0x9E, 0xAA]

    anyio.run(scenario)


def test_what_no_key_gives_is_named_before_anything_is_typed(user: Account, pc_tree: Path) -> None:
    async def scenario() -> None:
        async with pc(user, pc_tree) as session:
            found = await session.refused("qemu_type", text="für 5 €, für alle")
            assert found.code == "request.invalid"
            assert "nothing was typed" in str(found)
            assert "'ü' (U+00FC), '€' (U+20AC))" in str(found)
            found = await session.refused("qemu_send_key", keys="ctrl-alt-delte")
            assert found.code == "request.invalid"
            assert "like it: delete" in str(found)
            assert await scan_codes(session) == []

    anyio.run(scenario)


def test_the_pointer_moves_clicks_drags_and_turns_its_wheel_in_order(user: Account, pc_tree: Path) -> None:
    left, right, nothing = 0x20, 0x10, 0

    async def scenario() -> None:
        async with pc(user, pc_tree) as session:

            async def does(**arguments: Any) -> list[tuple[int, int, int, int]]:
                await session.call("qemu_mouse", **arguments)
                return pc_guest.pointer_events(await told(session))

            # The device tells an axis at a time, on a scale of twice ours.
            assert (await does(x=100, y=32767))[-1] == (nothing, 200, 65534, 0)
            clicked = await does(x=1000, y=2000, buttons=["left", "right"])
            assert [each[0] for each in clicked] == [nothing, left, nothing, right, nothing]
            assert clicked[-1] == (nothing, 2000, 4000, 0)

            assert [each[0] for each in await does(x=5, y=5, buttons=["left"], action="press")] == [nothing, left]
            assert [each[0] for each in await does(x=6, y=6, buttons=["left"], action="release")] == [left, nothing]

            dragged = await does(x=0, y=0, buttons=["left"], to_x=8000, to_y=16000)
            assert [each[0] for each in dragged] == [nothing, *[left] * 9, nothing]
            assert [each[1:3] for each in dragged[2:10]] == [(2000 * step, 4000 * step) for step in range(1, 9)]
            assert dragged[-1][1:3] == (16000, 32000)

            turned = await does(x=0, y=0, buttons=["wheel-up", "wheel-down", "wheel-down"])
            notches = [each[3] - (each[3] >> 31 << 32) for each in turned if each[3]]
            assert notches == [-1, 1, 1]

    anyio.run(scenario)


def test_what_no_pointer_does_is_refused(user: Account) -> None:
    refused: list[dict[str, Any]] = [
        {"x": 32768},
        {"x": -1},
        {"buttons": ["primary"]},
        {"buttons": ["wheel-up"], "action": "press"},
        {"action": "release"},
        {"to_x": 5, "buttons": ["left"]},
        {"to_x": 5, "to_y": 5},
        {"to_x": 5, "to_y": 5, "buttons": ["left"], "action": "press"},
    ]

    async def scenario() -> None:
        async with serving(user) as session:
            for arguments in refused:
                found = await session.refused("qemu_mouse", **{"x": 1, "y": 1} | arguments)
                assert found.code == "request.invalid"

    anyio.run(scenario)


def test_a_paused_guest_takes_no_keys_and_can_still_be_seen(user: Account, pc_tree: Path) -> None:
    async def scenario() -> None:
        async with pc(user, pc_tree) as session:
            await session.call("qemu_monitor", command="stop")
            found = await session.refused("qemu_type", text="lost")
            assert found.code == "guest.paused"
            assert "its state is paused" in str(found)
            about, _ = await screenshot(session)
            assert about["width"] == 720
            await session.call("qemu_monitor", command="cont")
            assert await scan_codes(session) == []

    anyio.run(scenario)


def test_a_guest_that_is_paused_while_it_is_typed_to_says_how_far_that_came(user: Account, pc_tree: Path) -> None:
    async def scenario() -> None:
        async with pc(user, pc_tree) as session:
            failed: list[ToolFailed] = []

            async def typing() -> None:
                failed.append(await session.refused("qemu_type", text="x" * 200))

            async with anyio.create_task_group() as group:
                group.start_soon(typing)
                read = await session.call("qemu_read", wait_for="k2d", timeout=PATIENCE)  # the first x
                assert read["matched"]
                await session.call("qemu_monitor", command="stop")
            assert failed[0].code == "guest.failed"
            assert " of 400 failed, " in str(failed[0])
            assert "GenericError: VM not running" in str(failed[0])

    anyio.run(scenario)


def test_a_guest_without_gpu_has_no_display(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            await session.boot(network=False)
            for tool, arguments in (
                ("qemu_screenshot", {}),
                ("qemu_send_key", {}),
                ("qemu_type", {"text": "a"}),
                ("qemu_mouse", {"x": 1, "y": 1}),
            ):
                found = await session.refused(tool, **arguments)
                assert found.code == "guest.no_display"
                assert "qemu_boot(gpu=true)" in str(found)
            assert (await session.refused("qemu_screenshot", name="other")).code == "guest.not_running"

    anyio.run(scenario)


def test_a_virtio_screen_on_mmio_is_seen_and_keyboard_and_tablet_are_there(user: Account) -> None:
    """U-Boot drives none of them: QEMU's own placeholder is on the screen."""

    async def scenario() -> None:
        async with serving(user) as session:
            await session.boot(network=False, gpu=True)
            about, png = await screenshot(session)
            assert (about["width"], about["height"]) == struct.unpack(">II", png[16:24])
            assert about["width"] >= 640
            typed = await session.call("qemu_type", text="Hi\n")
            assert (typed["characters"], typed["keys"]) == (3, 4)
            moved = await session.call("qemu_mouse", x=1, y=2, buttons=["left"])
            assert moved["sent"] == ["move to 1,2", "press left", "release left"]
            await session.refused("qemu_send", command="poweroff", wait_for="never")
            assert (await session.refused("qemu_screenshot")).code == "guest.exited"

    anyio.run(scenario)
