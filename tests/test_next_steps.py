"""What an answer says to do next, where a boot or a wire came to nothing."""

from __future__ import annotations

from pathlib import Path

import anyio

import pc_guest
import tiny_guest
from support import PATIENCE, Account, serving

PANIC = b"booting\r\npanic: could not find a disk\r\n"


def test_a_drive_that_another_guest_has_is_said_with_whose_it_is(user: Account) -> None:
    """QEMU locks an image. The same call again would end in the same way, as it would for whatever QEMU refuses."""
    disk = 'drives = [{ path = "disk.img" }]\n'

    async def scenario() -> None:
        async with serving(user) as session:
            root = tiny_guest.tree(user, tiny_guest.program(b"tiny\r\n"), disk)
            (Path(root) / "disk.img").write_bytes(bytes(1 << 20))
            (Path(root) / "disk.img").chmod(0o666)
            boot = {"project_root": root, "wait_for_prompt": False}
            await session.call("qemu_boot", name="first", overlay=True, **boot)
            await session.call("qemu_boot", name="second", overlay=True, **boot)
            for name in ("first", "second"):
                error = await session.refused("qemu_boot", name="third", **boot)
                assert error.code == "guest.exited"
                assert "QEMU failed, before the guest began, stderr: " in str(error)
                assert "console" not in str(error)
                there = "first, second" if name == "first" else "second"
                assert str(error).endswith(f". qemu_shutdown {there} first, or boot each of them with overlay=true")
                await session.call("qemu_shutdown", name=name)
            await session.call("qemu_boot", name="third", **boot)
            error = await session.refused("qemu_boot", name="other", overrides={"cpu": "no-such-cpu"}, **boot)
            assert "no-such-cpu" in str(error)
            assert str(error).endswith(". Change what QEMU complains of, in the profile or in the call, and boot again")

    anyio.run(scenario)


def test_a_wire_with_nothing_wrong_on_it_is_told_with_the_panic_behind_it(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            root = tiny_guest.tree(user, tiny_guest.program(PANIC))
            await session.call("qemu_boot", project_root=root, network=True, capture=True, wait_for_prompt=False)
            await session.until_said("find a disk\n")
            answer = await session.call("qemu_pcap_explain")
            assert answer["findings"] == []
            assert answer["notes"][:2] == [
                "the guest guest: kernel panic: 'panic: could not find a disk' on the console; "
                'qemu_debug(action="crash") explains it, where an exception led to it',
                "the guest guest has sent no frame since its boot",
            ]

    anyio.run(scenario)


def test_a_wire_is_told_with_the_end_of_its_guest(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            root = tiny_guest.tree(user, tiny_guest.program(b"bye\r\n", tiny_guest.fail(3), asked=True))
            await session.call("qemu_boot", project_root=root, network=True, capture=True, wait_for_prompt=False)
            await session.refused("qemu_send", command="end", wait_for="never", timeout=PATIENCE)
            notes = (await session.call("qemu_pcap_explain"))["notes"]
            assert notes[0].startswith("the guest guest has ended: ")

    anyio.run(scenario)


def test_a_pc_that_says_nothing_is_looked_at_on_its_screen(user: Account) -> None:
    """Small systems draw on a PC's screen and know no serial port."""
    root = pc_guest.make_tree(user.home / "silent", pc_guest.SILENT)

    async def scenario() -> None:
        async with serving(user) as session:
            booted = await session.call(
                "qemu_boot", project_root=str(root), gpu=True, overrides={"prompt": ""}, timeout=PATIENCE
            )
            assert booted["prompt_seen"] is False
            says = ": qemu_screenshot shows its screen; or does it write to its serial port (Linux: console=ttyS0)?"
            assert booted["next_step"].endswith(says)

    anyio.run(scenario)
