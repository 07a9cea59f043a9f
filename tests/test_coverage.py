"""What a packet touched: the functions that a guest ran between two calls, and nothing of them is left logged."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import anyio
import pytest

from debugged import TARGETS, line_of, project
from rawtap.ask.asked import Wish
from rawtap.ask.debug import Told
from rawtap.ask.debug import debug as ask
from rawtap.guest import block_log
from rawtap.lab.guests import BootRequest
from rawtap.lab.lab import Lab
from rawtap.settings import Settings
from support import PATIENCE, Account, Session, eventually_async, exists, guests_of, serving
from test_debug import boot, debug, goes_on
from test_endings import raw_client

ARP = [{"layer": "ARP", "op": "who-has", "pdst": "10.0.2.15"}]
_FEW = 5000  # calls of the kernel's to write: some 50 by a QEMU that logs nothing meanwhile, else some 40,000


async def covered(session: Session, **more: Any) -> dict[str, Any]:
    return await session.call("qemu_debug", action="coverage", **more)


def parts(found: str) -> tuple[dict[str, str], dict[str, str]]:
    """Lines of functions by their names: those that ran, and those of which more ran than when idle."""
    head, *lines = found.splitlines()
    assert head.endswith("in the order of first runs:") or head.startswith("no function "), head
    new: dict[str, str] = {}
    more: dict[str, str] = {}
    into = new
    for line in lines:
        if line.endswith("with blocks that did not:"):
            into = more
        elif " (" in line:
            name, _, rest = line.partition(" (")
            into[name] = f"({rest}"
    return new, more


def writes(pid: int) -> int:
    """How often a process has asked the kernel to write (proc(5), /proc/pid/io)."""
    lines = Path(f"/proc/{pid}/io").read_text(encoding="ascii").splitlines()
    return int(next(each for each in lines if each.startswith("syscw:")).split()[1])


async def is_quiet(session: Session, pid: int) -> bool:
    """Whether a guest that computes has QEMU write no more than its console."""
    before = writes(pid)
    assert "15" in await session.typed("sum")
    return writes(pid) - before < _FEW


async def left_alone(session: Session, functions: int) -> None:
    """Let what it runs by now be idle, once that is so many functions."""
    begin = f"idle, and left out from now on: {functions} functions, "
    await session.until(lambda told: told["found"].startswith(begin), "qemu_debug", action="coverage", at="idle")


@pytest.mark.parametrize("arch", [each for each in TARGETS if each != "i386"])
def test_a_packet_touches_what_receives_it_and_nothing_else(user: Account, arch: str) -> None:
    root = project(user, arch)
    idle = {"kernel", "poll_card", "get", *(["in_byte"] if arch == "x86_64" else [])}
    out = ["out_byte"] if arch == "x86_64" else []

    async def scenario() -> None:
        async with serving(user) as session:
            booted = await boot(session, root, capture=True)
            assert await is_quiet(session, booted["pid"])
            assert "coverage is on" in (await covered(session))["found"]
            # What went round before is seen, though QEMU has put its blocks together.
            await session.until(lambda told: parts(told["found"])[0].keys() == idle, "qemu_debug", action="coverage")
            await left_alone(session, len(idle))
            await session.call("qemu_packet_send", layers=ARP)
            await session.until_said("[arp]")
            told = await covered(session)
            assert told["state"] == "detached"
            new, more = parts(told["found"])
            assert list(new) == ["card_receive", "say", "put", *out]
            assert list(more) == ["poll_card"]
            place = f"(guest.c:{line_of('void card_receive(')})"
            assert new["card_receive"].startswith(place)
            assert new["card_receive"].endswith(", entered 1 time")
            assert "entered" in new["say"]
            # Another command's is another's.
            assert "15" in await session.typed("sum")
            new, more = parts((await covered(session))["found"])
            assert list(new) == ["put", *out, "run", "same", "sum_up", "add", "say"]
            assert new["add"].endswith(", entered 5 times")
            assert more.keys() == {"kernel", "get"}
            assert "15" in await session.typed("sum")
            told = await covered(session, expression="^su|^ad")
            assert list(parts(told["found"])[0]) == ["sum_up", "add"]
            told = await covered(session, at="off")
            assert told["warnings"] == ["coverage is off: nothing is logged any more"]
            assert await is_quiet(session, booted["pid"])
            refused = await session.refused("qemu_debug", action="coverage", at="idle")
            assert refused.code == "request.invalid"
            assert (await session.call("qemu_shutdown", timeout=0))["stderr"] == ""

    anyio.run(scenario)


def test_what_all_processors_ran_is_told_and_nothing_is_lost(user: Account) -> None:
    root = project(user, keys="smp = 4\n")
    others = {"have_all_work", "other_processor", "work"}

    async def scenario() -> None:
        async with serving(user) as session:
            await boot(session, root)
            await covered(session)
            await left_alone(session, len({"kernel", "poll_card", "get"}))
            for entered in ("300", "300"):
                assert "all have worked" in await session.typed("work")
                new, _ = parts((await covered(session))["found"])
                assert others <= new.keys()
                assert new["work"].endswith(f", entered {entered} times")
            # Once it is called idle, it is left out, whichever processor ran it.
            assert "all have worked" in await session.typed("work")
            await covered(session, at="idle")
            assert "all have worked" in await session.typed("work")
            told = await covered(session)
            new, more = parts(told["found"])
            assert not others & new.keys(), told["found"]
            assert not {"other_processor", "work"} & more.keys(), told["found"]
            assert "15" in await session.typed("sum")
            new, _ = parts((await covered(session))["found"])
            assert {"sum_up", "add"} <= new.keys()

    anyio.run(scenario)


_SPIN = """
#define UART ((volatile unsigned *)0x09000000)
volatile int turns;
void after(void) { turns++; }
void spin(void) {
    for (int left = 2; left; left--) {
        while (UART[6] & 0x10) {}
        UART[0] = UART[0];
        after();
    }
}
"""


def test_a_guest_that_goes_round_in_blocks_that_are_put_together_is_made_to_leave_them(user: Account) -> None:
    """It waits without a call or a return, and calls then what it has called before."""
    folder = user.home / "looked-into"
    folder.mkdir()
    (folder / "spin.c").write_text(_SPIN)
    root = project(user, "aarch64", "spin.c", "-DCALLED=spin")

    async def scenario() -> None:
        async with serving(user) as session:
            await boot(session, root)
            await session.call("qemu_send", command="call\r", enter=False, timeout=0)
            await session.call("qemu_send", command="1", enter=False, timeout=0)
            await session.until_said("1")
            await covered(session)
            await session.call("qemu_send", command="2", enter=False, timeout=0)
            await session.until_said("2> ")
            new, _ = parts((await covered(session))["found"])
            assert list(new)[:3] == ["spin", "after", "run"]

    anyio.run(scenario)


@pytest.mark.parametrize("keys", ["", 'icount = "auto"\n'], ids=["at its own speed", "by instructions"])
def test_coverage_goes_with_a_debugger(user: Account, keys: str) -> None:
    root = project(user, keys=keys)

    async def scenario() -> None:
        async with serving(user) as session:
            booted = await boot(session, root)
            assert (await debug(session, "attach"))["state"] == "stopped"
            told = await covered(session)
            assert told["state"] == "stopped"
            await goes_on(session)
            assert "15" in await session.typed("sum")
            new, _ = parts((await covered(session))["found"])
            assert {"kernel", "run", "sum_up", "add"} <= new.keys()
            assert new["add"].startswith(f"(guest.c:{line_of('static int add(')})")
            await covered(session, at="off")
            assert (await covered(session))["state"] == "running"  # begun while it runs
            await debug(session, "break", at="sum_up")
            await session.call("qemu_send", command="sum", timeout=PATIENCE)
            told = await covered(session)
            assert (told["state"], told["place"].partition(" ")[0]) == ("stopped", "sum_up")
            names = parts(told["found"])[0].keys()
            assert "run" in names
            assert "add" not in names
            gone = await debug(session, "detach")
            assert gone["warnings"] == ["coverage is off as well"]
            assert (await session.call("qemu_read", wait_for="> ", timeout=PATIENCE))["matched"]
            assert await is_quiet(session, booted["pid"])

    anyio.run(scenario)


def test_without_symbols_blocks_are_counted_and_that_is_told(user: Account) -> None:
    root = project(user, "riscv64", "-Wl,--strip-all")

    async def scenario() -> None:
        async with serving(user) as session:
            await boot(session, root)
            told = await covered(session)
            assert told["warnings"][0] == "no functions of kernel.elf: it has no symbols of any"
            assert "15" in await session.typed("sum")
            first, line = (await covered(session))["found"].splitlines()
            assert first.startswith("no symbols tell which functions ran in the last ")
            assert line.startswith("outside of the symbols: ")
            assert ", between 0x8000" in line

    anyio.run(scenario)


def test_too_many_blocks_end_it(root: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_log, "MOST_BLOCKS", 3)
    settings = Settings(capture_dir=root.home / "captures", scratch_dir=root.home / "scratch")

    async def scenario() -> None:
        async with Lab(settings) as lab:
            machine = (await lab.boot(BootRequest(project_root=project(root), network="user"))).guest.machine
            await ask(lab, "guest", Wish("coverage"))
            assert await eventually_async(lambda: bool(machine.blocks and machine.blocks.why_ended))
            told: Told = await ask(lab, "guest", Wish("coverage"))
            assert told.found[0].startswith(("1 function ", "2 functions ", "3 functions "))
            (note,) = told.notes
            assert note.startswith("coverage has ended: more than 3 different blocks ran since the last call")
            before = writes(machine.pid)
            assert (await machine.send("sum", (), PATIENCE)).text.strip().startswith("sum")
            assert writes(machine.pid) - before < _FEW
            monkeypatch.undo()
            assert "coverage is on" in (await ask(lab, "guest", Wish("coverage"))).found[0]

    anyio.run(scenario)


def test_a_guest_that_ends_tells_what_it_ran_last(user: Account) -> None:
    root = project(user)

    async def scenario() -> None:
        async with serving(user) as session:
            booted = await boot(session, root)
            await covered(session)
            assert "15" in await session.typed("sum")
            os.kill(booted["pid"], signal.SIGKILL)
            assert await eventually_async(lambda: not exists(booted["pid"]))
            told = await covered(session)
            assert told["warnings"] == ["the guest has ended: this is what it ran last"]
            assert "add" in parts(told["found"])[0]
            assert (await session.refused("qemu_debug", action="coverage")).code == "guest.exited"
            booted = await boot(session, root)
            assert await is_quiet(session, booted["pid"])

    anyio.run(scenario)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_a_server_that_counts_blocks(user: Account, how: signal.Signals) -> None:
    root = project(user)
    with raw_client(user) as client:
        client.call("qemu_boot", project_root=str(root), network="user")
        client.call("qemu_debug", action="coverage")
        ours = guests_of(client.process.pid)
        assert len(ours) == 1
        client.process.send_signal(how)
        client.process.wait(timeout=PATIENCE)
    assert anyio.run(eventually_async, lambda: not any(map(exists, ours)))
