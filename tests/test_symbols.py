"""A name is told where the code is that has it: not of a file that is not what runs, or that runs elsewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import anyio
import pytest

from debugged import built, project
from rawtap.debug import functions, places
from support import PATIENCE, Account, Session, serving
from test_debug import boot, debug, found, goes_on

UBOOT = "/usr/lib/u-boot/qemu-riscv64_smode/uboot.elf"
_NOT_THERE = "; other code is in memory there now: it is not loaded yet, or runs elsewhere"
_NAMES = ("kernel", "poll_card", "get", "run", "add")


def offset(keys: str) -> str:
    return f'symbols = [{{ file = "kernel.elf", offset = {keys} }}]\n'


async def covers_nothing(session: Session) -> dict[str, Any]:
    """What is told of what it ran: no name."""
    assert "coverage is on" in (await session.call("qemu_debug", action="coverage"))["found"]
    assert "15" in await session.typed("sum")
    told = await session.call("qemu_debug", action="coverage", at="off")
    first, line = told["found"].splitlines()
    assert first.startswith("the symbols do not tell which functions ran in the last ")
    assert line.startswith("outside of the symbols: ")
    return told


def test_a_file_that_is_not_what_runs_names_nothing(user: Account) -> None:
    """Its code is 64 bytes from where it says, as that of another build would be."""
    root = project(user, keys=offset("64"))

    async def scenario() -> None:
        async with serving(user) as session:
            await boot(session, root)
            came = await debug(session, "attach")
            assert re.fullmatch("0x0*8000[0-9a-f]{4}", came["place"])
            address = f"{int(came['place'], 16):#x}"
            (told,) = came["warnings"]
            assert told.startswith(f"in memory at {address} is other code than in kernel.elf, so no name is told")
            assert "source" not in came
            (row,) = (await session.call("qemu_status"))["guests"]
            assert row["halted"] == f"stopped by the debugger at {came['place']}: the debugger came"
            came = await debug(session, "where")
            assert came["found"].splitlines()[0] == f"#0 {came['place']}"
            assert came["warnings"] == [told]
            assert "source" not in came
            assert await found(session, "locals") == ["no symbols tell of variables here"]
            assert (await found(session, "break", at="add"))[0].endswith(_NOT_THERE)
            assert (await found(session, "threads"))[0].endswith(f" {came['place']}")
            # A stop is told by other tools first, before anybody looked at it.
            said = " ".join(await found(session, "symbols", at="add"))
            entry = int(said.partition(" address ")[2].partition(" ")[0], 16) - 64
            await debug(session, "delete")
            await found(session, "break", at=f"{entry:#x}")
            await goes_on(session)
            sent = await session.call("qemu_send", command="sum", timeout=PATIENCE)
            assert sent["next_step"] == f"stopped by the debugger at {entry:#018x}: breakpoint 2"
            await debug(session, "detach")
            (told,) = (await covers_nothing(session))["warnings"][-1:]
            assert "is other code than in kernel.elf" in told
            # Of an exception as well: by the log, and by the registers.
            await session.call("qemu_debug", action="crash")
            await session.call("qemu_send", command="store", timeout=0)
            told = await session.until(
                lambda answer: "store access fault" in str(answer["found"]), "qemu_debug", action="crash"
            )
            assert re.search(", at 0x8000[0-9a-f]{4}$", told["found"].splitlines()[-1])
            assert "is other code than in kernel.elf" in str(told["warnings"])
            came = await debug(session, "attach")
            assert "the processor's last exception: store access fault" in str(came["warnings"])
            assert not any(f"{each} (" in str(came["warnings"]) for each in _NAMES)

    anyio.run(scenario)


@pytest.mark.parametrize("arch", ["riscv64", "aarch64", "x86_64"])
def test_a_kernel_that_runs_elsewhere_is_told_by_how_far(user: Account, arch: str) -> None:
    root = project(user, arch, keys=offset("0x1000000"))

    async def scenario() -> None:
        async with serving(user) as session:
            await boot(session, root)
            came = await debug(session, "attach")
            (told,) = came["warnings"]
            assert told.startswith("kernel.elf runs at other addresses than its symbols say, 0x1000000 lower: at 0x")
            assert "symbols = [{ file = 'kernel.elf', offset = 0x0 }] in its profile" in told
            assert (await found(session, "break", at="add"))[0].endswith(_NOT_THERE)
            await debug(session, "detach")
            assert "0x1000000 lower" in str((await covers_nothing(session))["warnings"])

    anyio.run(scenario)


def test_names_are_found_by_patterns_in_any_case_and_by_several(user: Account) -> None:
    root = project(user)

    async def scenario() -> None:
        async with serving(user) as session:
            await boot(session, root)
            await debug(session, "attach")
            lines = await found(session, "symbols", expression="^sum_up$|^add$")
            names = [each.partition(" ")[2].partition("(")[0] for each in lines]
            assert names == ["static int add", "static int sum_up"]
            assert await found(session, "symbols", expression="^ADD$") == ["there is no such name"]

    anyio.run(scenario)


async def u_boot(session: Session, *files: dict[str, Any]) -> None:
    await session.boot(network="user", **({"overrides": {"symbols": list(files)}} if files else {}))


def test_u_boot_is_followed_to_where_it_moved(user: Account) -> None:
    """It copies itself to the end of memory, and Debian's exports some names."""

    async def scenario() -> None:
        async with serving(user) as session:
            await u_boot(session)
            came = await debug(session, "attach")
            bare, *_, told = came["warnings"]  # and an exception, by which the firmware tried something
            assert bare.startswith("uboot.elf has no debugging information: ")
            assert "stripped but for names that it exports" in bare
            assert told.startswith("uboot.elf runs at other addresses than its symbols say, 0x")
            moved = int(told.partition("offset = ")[2].partition(" ")[0], 16)
            await session.call("qemu_shutdown", timeout=0)
            await u_boot(session, {"file": UBOOT}, {"file": UBOOT, "offset": moved})
            came = await debug(session, "attach")
            assert came["warnings"][0] == bare
            assert "other addresses" not in str(came["warnings"])
            (line,) = await found(session, "break", at="get_timer")
            assert line.count("get_timer (0x") == 2
            await goes_on(session)
            sent = await session.call("qemu_send", command="setenv ipaddr 10.0.2.15; ping 10.0.2.2", timeout=PATIENCE)
            assert "stopped by the debugger at get_timer (0x" in sent["next_step"]
            came = await debug(session, "where")
            assert int(came["place"].partition("(")[2].rstrip(")"), 16) > 0x80200000 + moved
            assert came["found"].startswith("#0 get_timer (0x")
            await debug(session, "delete")
            await goes_on(session)
            await session.until_said("is alive")
            # Where it was before it moved.
            await debug(session, "reset")
            await found(session, "break", at="board_init_f")
            await found(session, "break", at="board_init_r")
            places = [(await debug(session, "continue"))["place"] for _ in range(2)]
            names, addresses = zip(*(each.rstrip(")").split(" (") for each in places), strict=True)
            assert names == ("board_init_f", "board_init_r")
            assert int(addresses[0], 16) < moved + 0x80200000 < int(addresses[1], 16)

    anyio.run(scenario)


def test_a_name_of_rusts_is_told_without_its_hash(tmp_path: Path) -> None:
    name = "_ZN3net5Stack4send17h0123456789abcdefE"
    (tmp_path / "stack.c").write_text(f'void send(void) __asm__("{name}"); void send(void) {{}}', encoding="utf-8")
    kernel = built(tmp_path, "riscv64", "-g0", "stack.c")
    (send,) = [each for each in functions.read(kernel) if each.name == name]
    found, _ = anyio.run(places.places, [places.Symbols(kernel)], None, [send.start])
    assert found[send.start].function == "net::Stack::send"
