"""A crash of a RISC-V's or an Arm's is explained by QEMU's log of exceptions, with the line that made it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from debugged import project
from support import PATIENCE, Account, Session, serving
from test_debug import at, boot

_NOT_LOGGED = "exceptions were not logged so far: what led to it is not known"
_HEAD = "the exceptions that it took last, of which a kernel may have wanted each; the newest is the last:"
_ABORT = "data abort, external abort, a write ("
_LINES = {"store": "*(volatile u32 *)0xdead", "undefined": "planted */", "odd": "__atomic_fetch_add"}
_WORDS = {
    "riscv64": {
        "store": "store access fault (cause 7), address 0xdead00004",
        "undefined": "illegal instruction (cause 2)",
        "odd": "address misaligned (cause ",  # a load, or a store in a newer QEMU
    },
    "aarch64": {
        "store": _ABORT + "ESR 0x96000050), address 0xdead00004",
        "undefined": "unknown instruction (ESR 0x2000000)",
        "odd": "data abort, misaligned (ESR 0x96000021), address 0x40",
    },
    "arm": {
        "store": _ABORT + "DFSR 0x808), address 0xead00004",
        "undefined": "unknown instruction (ESR 0x2000000)",
        "odd": "data abort, misaligned (DFSR 0x1), address 0x40",
    },
}


async def explained(session: Session) -> dict[str, Any]:
    """What is told of a crash, once there is an exception to tell."""

    def is_there(answer: dict[str, Any]) -> bool:
        return str(answer["found"]).startswith(_HEAD)

    return await session.until(is_there, "qemu_debug", action="crash")


@pytest.mark.parametrize("arch", list(_WORDS))
def test_an_exception_is_told_with_its_line(user: Account, arch: str) -> None:
    root = project(user, arch)

    async def scenario() -> None:
        async with serving(user) as session:
            await boot(session, root)
            told = await session.call("qemu_debug", action="crash")
            first, more = told["found"].splitlines()
            assert first == _NOT_LOGGED
            assert "attach" in more
            assert told["warnings"][-1].startswith("exceptions are logged from now on")
            for command, text in _LINES.items():
                await session.call("qemu_send", command=command, timeout=0)
                told = await explained(session)
                line = told["found"].splitlines()[-1]
                assert line.startswith("1. "), line
                assert _WORDS[arch][command] in line
                place, _, how = line.partition("; ")
                assert place.endswith(f", at run ({at(text)})"), line
                assert how.startswith("by its link register") == (arch == "arm")
                assert told["console"].rstrip().endswith(f"> {command}")
                await session.call("qemu_shutdown", timeout=0)
                await boot(session, root)  # logs from its start

    anyio.run(scenario)


async def faults_in_its_handler(session: Session, root: Path) -> None:
    """It logs exceptions, and has handlers where nothing is."""
    await boot(session, root)
    await session.call("qemu_debug", action="crash")
    await session.typed("astray")
    await session.call("qemu_send", command="store", timeout=0)


@pytest.mark.parametrize("arch", list(_WORDS))
def test_a_handler_that_faults_itself_is_told_with_what_led_to_it(user: Account, arch: str) -> None:
    root = project(user, arch)

    async def scenario() -> None:
        async with serving(user) as session:
            await faults_in_its_handler(session, root)
            told = await session.until(
                lambda answer: "handler faults itself" in str(answer["found"]), "qemu_debug", action="crash"
            )
            _, one, *_, last = told["found"].splitlines()
            assert one.startswith(f"1. {_WORDS[arch]['store']}")
            assert (f", at run ({at(_LINES['store'])})" in one) == (arch != "arm"), one
            assert "address 0xdead0" in last
            assert ", at 0xdead0" in last
            how = "in a row: its handler faults itself" if arch == "riscv64" else "returned: the handler faults itself"
            assert how in last

    anyio.run(scenario)


def test_a_log_that_has_no_end_is_ended_and_keeps_what_it_told(user: Account) -> None:
    root = project(user)

    async def scenario() -> None:
        async with serving(user) as session:
            await faults_in_its_handler(session, root)
            told = await session.until(
                lambda answer: "once more: there were too many" in str(answer["warnings"]), "qemu_debug", action="crash"
            )
            assert told["found"].splitlines()[1].startswith("1. store access fault")
            ended = await session.call("qemu_shutdown", timeout=0)
            assert ended["stderr"] == ""

    anyio.run(scenario)


def test_a_panic_is_told_with_what_was_on_the_console_and_the_wire(user: Account) -> None:
    root = project(user)

    async def scenario() -> None:
        async with serving(user) as session:
            await boot(session, root, capture=True)
            await session.call("qemu_debug", action="crash")
            await session.call("qemu_send", command="send", timeout=PATIENCE)
            await session.typed("handle")
            sent = await session.call("qemu_send", command="store", timeout=PATIENCE)
            assert "panic: a fault" in sent["next_step"]
            (row,) = (await session.call("qemu_status"))["guests"]
            assert row["trouble"].endswith('qemu_debug(action="crash") explains it, where an exception led to it')
            told = await explained(session)
            assert told["found"].endswith(f", at run ({at(_LINES['store'])})")
            assert told["console"].replace("\n\n", "\n").endswith("> store\npanic: a fault\n")
            assert "7777 UDP" in told["packets"]
            # What came before a reset is told as such.
            await session.call("qemu_monitor", command="system_reset")
            await session.until(
                lambda answer: (
                    "1. before the last reset, or right behind it: store access fault" in str(answer["found"])
                ),
                "qemu_debug",
                action="crash",
            )

    anyio.run(scenario)


def test_the_first_question_is_answered_by_registers_where_qemu_shows_them(user: Account) -> None:
    root = project(user)

    async def scenario() -> None:
        async with serving(user) as session:
            await boot(session, root)
            await session.call("qemu_send", command="store", timeout=1)
            told = await session.call("qemu_debug", action="crash")
            first, by = told["found"].splitlines()
            assert first == _NOT_LOGGED
            assert by.startswith("by its registers, which keep old ones as well, the last one was: store access fault")
            assert by.endswith(f", at run ({at(_LINES['store'])})")

    anyio.run(scenario)


def test_a_processor_whose_log_is_not_read_has_registers(user: Account) -> None:
    root = user.home / "machine"
    root.mkdir()
    (root / "rawtap.toml").write_text('arch = "ppc64"\nbios = "default"\nprompt = "0 > "\n', encoding="utf-8")

    async def scenario() -> None:
        async with serving(user) as session:
            await session.call("qemu_boot", project_root=str(root), wait_for_prompt=False)
            (told,) = (await session.call("qemu_debug", action="crash"))["found"].splitlines()
            assert "attach, interrupt" in told

    anyio.run(scenario)


_CPP = """
namespace kernel {
[[noreturn]] void panic(const char *why) {
    while (*why) why++;
    asm volatile("unimp");
    for (;;) {}
}
template <typename T> struct Queue { T first; T *take(int at) { if (at) panic("empty"); return &first; } };
Queue<unsigned char> queue;
}
extern "C" void forward() { kernel::queue.take(1); }
"""


def test_a_panic_of_cpp_is_told_by_the_names_of_its_source(user: Account) -> None:
    root = user.home / "looked-into"
    root.mkdir()
    (root / "panic.cc").write_text(_CPP)
    project(user, "riscv64", "panic.cc", "-DCALLED=forward")

    async def scenario() -> None:
        async with serving(user) as session:
            await boot(session, root)
            await session.call("qemu_debug", action="crash")
            await session.call("qemu_debug", action="coverage")
            await session.call("qemu_send", command="call", timeout=0)
            told = await explained(session)
            last = told["found"].splitlines()[-1]
            assert last.endswith("illegal instruction (cause 2), at kernel::panic(char const*) (panic.cc:5)")
            told = await session.call("qemu_debug", action="coverage", expression="kernel::")
            lines = told["found"].splitlines()[1:]
            assert lines[0].startswith("kernel::Queue<unsigned char>::take(int) (panic.cc:")
            assert lines[1].startswith("kernel::panic(char const*) (panic.cc:")

    anyio.run(scenario)
