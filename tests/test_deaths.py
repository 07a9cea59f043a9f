"""What is left of a guest that died, or hangs, from outside: its console, its last events, and why, in a line."""

from __future__ import annotations

import os
import signal

import anyio
import pytest

import tiny_guest
from support import PATIENCE, Account, Session, ToolFailed, eventually_async, exists, link_names, read_back, serving

PANIC = b"booting\r\n[    0.1] Kernel panic - not syncing: test\r\n[    0.2] CPU: 0\r\n"
NAMED = "kernel panic: 'Kernel panic - not syncing: test' on the console"


async def boot(session: Session, root: str) -> int:
    booted = await session.call("qemu_boot", project_root=root, wait_for_prompt=False)
    return int(booted["pid"])


def test_a_panic_that_hangs_is_named_while_it_runs_and_at_its_end(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            await boot(session, tiny_guest.tree(user, tiny_guest.program(PANIC)))
            await session.until_said("CPU: 0")
            await session.call("qemu_read", timeout=0)  # a look at an older place counts as no reading
            (row,) = (await session.call("qemu_status"))["guests"]
            pointer = 'qemu_debug(action="crash") explains it, where an exception led to it'
            assert (row["state"], row["trouble"], row["resets"]) == ("running", f"{NAMED}; {pointer}", 0)
            ended = await session.call("qemu_shutdown")
            assert (ended["reason"], ended["exit_code"]) == (f"{NAMED}; host-qmp-quit", 0)
            # What was read is not repeated, and all of it is on the timeline until the next boot of that name.
            assert ended["console"] == ""
            page = await session.call("qemu_timeline", sources=["console"])
            assert page["events"][0]["text"] == "booting"

    anyio.run(scenario)


def test_a_guest_that_ends_qemu_with_a_failure_leaves_its_console_to_the_last_byte(user: Account) -> None:
    """QEMU 7 exits at once then and says nothing over QMP: the exit code and the console are all there is."""

    async def scenario() -> None:
        async with serving(user) as session:
            said = b"x" * 3000 + b"\r\n" + PANIC
            root = tiny_guest.tree(user, tiny_guest.program(said, tiny_guest.fail(7), asked=True))
            pid = await boot(session, root)  # which would fail itself, if QEMU were gone by its end
            await session.until_said("CPU: 0\n")  # QEMU takes along what its socket had no room for yet
            with pytest.raises(ToolFailed, match=r"^guest\.exited: "):
                await session.call("qemu_send", command="end", wait_for="never")
            assert await eventually_async(lambda: not exists(pid))
            with pytest.raises(ToolFailed) as caught:
                await session.call("qemu_send", command="x")
            assert caught.value.code == "guest.exited"
            assert f"exit code 7, {NAMED}; " in str(caught.value)
            (row,) = (await session.call("qemu_status"))["guests"]
            assert row["state"] == "exited"
            assert row["exit"].startswith(f"exit code 7, {NAMED}; ")
            whole = await session.call("qemu_read", position=0)
            assert whole["output"] == ("x" * 3000 + "\n" + PANIC.decode()).replace("\r", "")

    anyio.run(scenario)


def test_a_reset_is_counted_and_a_loop_of_them_named(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            await session.boot(network=False)
            await session.call("qemu_send", command="reset", wait_for="Hit any key")
            (row,) = (await session.call("qemu_status"))["guests"]
            assert (row["resets"], row["trouble"]) == (1, None)
            await session.call("qemu_shutdown", timeout=0)
            await boot(session, tiny_guest.tree(user, tiny_guest.program(b"hello\r\n", tiny_guest.RESET)))

            rows = []
            with anyio.fail_after(PATIENCE):
                while not rows or rows[-1]["resets"] < 1000:  # more than the events that are kept
                    rows += (await session.call("qemu_status"))["guests"]
            assert rows[-1]["trouble"].startswith("reboot loop: the last 3 reboots within ")
            await session.until_said("hello")
            ended = await session.call("qemu_shutdown")
            assert ended["reason"].startswith("reboot loop: ")

    anyio.run(scenario)


def test_after_a_death_console_events_and_captures_are_there_until_the_next_boot_of_that_name(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            booted = await session.boot(capture=True, capture_filter="icmp")
            assert "is alive" in await session.ping()
            os.kill(booted["pid"], signal.SIGKILL)
            await session.call("qemu_read", wait_for="never")  # till its console closes, with its last thread
            said = await session.call("qemu_read", position=0)
            assert "host 10.0.2.2 is alive" in said["output"]
            assert (await session.call("qemu_pcap_read"))["matched"] == 2
            (row,) = (await session.call("qemu_status"))["guests"]
            assert "killed by SIGKILL, from outside" in row["exit"]
            page = await session.call("qemu_timeline", sources=["qmp", "event"])
            assert any(each.get("kind") == "RESUME" for each in page["events"])
            assert any("guest guest ended: exit code -9, killed by SIGKILL" in each["text"] for each in page["events"])
            other = await session.boot(name="other", network=False)
            assert "is alive" in (await session.call("qemu_read", position=0))["output"]
            assert (await session.boot(network=False))["pid"] != other["pid"]
            assert "is alive" not in (await session.call("qemu_read", position=0))["output"]
            assert read_back(booted["capture"]["path"]) == 2
            page = await session.call("qemu_timeline", sources=["console"], name="guest", limit=200)
            assert not page["more"]
            assert not any("is alive" in each["text"] for each in page["events"])

    anyio.run(scenario)
    assert link_names() == set()
