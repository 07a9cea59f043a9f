"""A guest is looked into by calls only: break by line, locals, steps, watch; from a packet to the call stack."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path
from typing import Any

import anyio
import pytest

from debugged import TARGETS, built, line_of, project
from rawtap.ask.wait import Wish, wait
from rawtap.lab import halts
from rawtap.lab.guests import BootRequest
from rawtap.lab.lab import Lab
from rawtap.settings import Settings
from support import (
    PATIENCE,
    Account,
    Session,
    command_of,
    descendants_of,
    eventually_async,
    exists,
    guests_of,
    next_start,
    serving,
)
from test_endings import raw_client


async def boot(session: Session, root: Path, **more: Any) -> dict[str, Any]:
    return await session.call("qemu_boot", **{"project_root": str(root), "network": "user", "timeout": PATIENCE} | more)


async def debug(session: Session, action: str, **more: Any) -> dict[str, Any]:
    return await session.call("qemu_debug", action=action, **{"timeout": PATIENCE} | more)


async def found(session: Session, action: str, **more: Any) -> list[str]:
    return str((await debug(session, action, **more))["found"]).splitlines()


async def goes_on(session: Session) -> None:
    """Let it run, and return at once."""
    assert (await debug(session, "continue", timeout=0))["state"] == "running"


async def told_while_waiting(session: Session, tool: str, **does: Any) -> str:
    """What one who waits for packets is told, while that is done."""
    reasons: list[str] = []

    async def wait() -> None:
        reasons.append((await session.call("qemu_pcap_wait", filter="tcp", timeout=PATIENCE))["reason"])

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await session.call(tool, **does)
    return reasons[0]


def at(text: str) -> str:
    return f"guest.c:{line_of(text)}"


def gdbs_of(pid: int) -> list[int]:
    return [each for each in descendants_of(pid) if "gdb-multiarch" in command_of(each)]


@pytest.fixture
def root_of(user: Account) -> Path:
    return project(user)


async def follow_a_sum(session: Session) -> None:
    came = await debug(session, "attach")
    assert (came["state"], came["why"]) == ("stopped", "the debugger came")
    (told,) = await found(session, "break", at="add")
    assert told == f"1: add ({at('int sum = a + b')}), hit 0 times"
    await goes_on(session)
    output = await session.call("qemu_send", command="sum", timeout=PATIENCE)
    assert not output["matched"]
    assert output["next_step"] == f"stopped by the debugger at add ({at('int sum = a + b')}): breakpoint 1"
    stopped = await debug(session, "where")
    assert stopped["place"] == f"add ({at('int sum = a + b')})"
    assert stopped["arguments"] == ["a=0", "b=1"]
    assert f">{line_of('int sum = a + b')}     int sum = a + b;" in stopped["source"].splitlines()
    assert stopped["console"].startswith("sum\n")
    calls = [each.partition(" (")[0] for each in stopped["found"].splitlines()]
    assert calls == ["#0 add", "#1 sum_up", "#2 run", "#3 kernel", "#4 _start"]
    assert (await found(session, "where"))[1].endswith("count=5")
    assert (await found(session, "locals"))[:2] == ["a = 0 (argument)", "b = 1 (argument)"]
    assert "count = 5 (argument)" in await found(session, "locals", frame=1)
    assert await found(session, "print", expression="/x count + 10", frame=1) == [
        "count + 10 = 0xf",
        "type = int",
    ]
    finished = await debug(session, "finish")
    assert (finished["place"], finished["returned"]) == (f"sum_up ({at('total = add(')})", "1")
    assert await found(session, "watch", expression="total") == ["2: watches total, hit 0 times"]
    await debug(session, "delete", at="1")
    changes = [(await debug(session, "continue"))["why"] for _ in range(3)]
    assert changes == [f"watchpoint 2, total: was {a}, is {b}" for a, b in ((0, 1), (1, 3), (3, 6))]
    assert await found(session, "delete") == ["there is no breakpoint"]
    condition = {"at": at("return sum;"), "expression": "sum == 15"}
    assert (await found(session, "break", **condition))[0].endswith("if sum == 15, hit 0 times")
    assert (await debug(session, "continue"))["arguments"] == ["a=10", "b=5"]
    assert await found(session, "print", expression="sum") == ["sum = 15", "type = int"]
    await debug(session, "delete")
    assert (await debug(session, "next"))["place"] == f"sum_up (guest.c:{line_of('return total;')})"
    pc = (await found(session, "registers", expression="pc"))[0].split()[1]
    assert (await debug(session, "stepi"))["state"] == "stopped"
    assert (await found(session, "registers", expression="pc"))[0].split()[1] != pc
    until = await debug(session, "until", at="say")
    assert (until["why"], until["place"].partition(" ")[0]) == ("the place was reached", "say")
    assert any("15" in each for each in until["arguments"])
    assert (await debug(session, "step", count=2))["why"] == "the step's end"
    gone = await debug(session, "detach")
    assert gone["state"] == "detached"
    assert (await session.call("qemu_read", wait_for="> ", timeout=PATIENCE))["matched"]
    assert "15" in await session.typed("sum")


async def follow_a_packet(session: Session) -> None:
    """To the calls that sent it, and to the line that wrote its byte 22, the time to live."""
    await debug(session, "attach")
    await debug(session, "break", at=at("packets_sent++"))
    await goes_on(session)
    await session.call("qemu_send", command="send", timeout=PATIENCE)
    sent = await debug(session, "where")
    assert sent["why"] == "breakpoint 1"
    assert "10.0.2.15:9 > 10.0.2.2:7777 UDP 5 bytes" in sent["packets"]
    calls = [each.partition(" (")[0] for each in sent["found"].splitlines()]
    assert calls[:4] == ["#0 ip_output", "#1 udp_output", "#2 send_hello", "#3 run"]
    (line,) = await found(session, "memory", expression="packet->bytes", count=16)
    assert line.split(": ")[1].startswith("ff ff ff ff ff ff 52 54 00 12 34 56 08 00 45 00")
    # The same once more, with a look at that byte.
    await debug(session, "delete")
    await debug(session, "break", at=at("header[0] = 0x45"))
    await goes_on(session)
    await session.until_said("> send\n> ", read=lambda text: text.replace("\n\n", "\n"))
    await session.call("qemu_send", command="send", timeout=PATIENCE)
    assert (await debug(session, "where"))["why"] == "breakpoint 2"
    assert await found(session, "watch", expression="packet->bytes[22]") == [
        "3: watches -location packet->bytes[22], hit 0 times"
    ]
    writers = [await debug(session, "continue") for _ in range(2)]
    assert [each["place"].partition(" ")[0] for each in writers] == ["ip_output", "set_time_to_live"]
    assert "is 7 " in writers[1]["why"]
    assert writers[1]["place"].endswith(f"({at('planted: who wrote this byte')})")


@pytest.mark.parametrize("arch", [each for each in TARGETS if each != "i386"])
def test_code_is_followed_line_by_line_and_from_a_packet(user: Account, arch: str) -> None:
    root = project(user, arch)

    async def scenario() -> None:
        async with serving(user) as session:
            await boot(session, root, capture=True)
            await follow_a_sum(session)
            await follow_a_packet(session)

    anyio.run(scenario)


def test_a_guest_that_stands_is_no_hang_to_other_tools(root_of: Path, user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            await boot(session, root_of, capture=True)
            await debug(session, "attach")
            await debug(session, "break", at="send_hello")
            place = "stopped by the debugger at "
            refused = await session.refused("qemu_send", command="sum", timeout=PATIENCE)
            assert refused.code == "guest.paused"
            assert place in str(refused)
            assert place in (await session.call("qemu_read", wait_for="never", timeout=PATIENCE))["next_step"]
            await session.call("qemu_read", timeout=PATIENCE)
            (row,) = (await session.call("qemu_status"))["guests"]
            assert row["halted"].startswith(place)
            waited = await session.call("qemu_pcap_wait", timeout=PATIENCE)
            assert not waited["satisfied"]
            assert place in waited["reason"]
            absent = await session.call("qemu_pcap_wait", timeout=PATIENCE, absent=True)
            assert not absent["satisfied"]
            await goes_on(session)
            # One that waits already is told when it stops.
            reason = await told_while_waiting(session, "qemu_send", command="send", timeout=PATIENCE)
            assert f"{place}send_hello" in reason
            # The capture goes on, though nobody answers.
            before = (await session.call("qemu_pcap_status"))["captures"][0]["packets"]
            await session.call("qemu_packet_send", layers=[{"layer": "ARP", "op": "who-has", "pdst": "10.0.2.15"}])
            after = await session.until(lambda answer: answer["captures"][0]["packets"] > before, "qemu_pcap_status")
            assert after["captures"][0]["state"] == "running"
            assert "ARP" in (await debug(session, "next"))["packets"]
            # Nor does its end take longer.
            ended = await session.call("qemu_shutdown", timeout=PATIENCE)
            assert ended["exit_code"] == 0
            assert await eventually_async(lambda: not gdbs_of(session.pid))

    anyio.run(scenario)


def test_a_stop_that_a_wait_told_of_is_no_news(root_of: Path, user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            await boot(session, root_of, capture=True)
            await debug(session, "attach")
            await debug(session, "break", at="card_receive")
            await goes_on(session)
            layers = [{"layer": "ARP", "op": "who-has", "pdst": "10.0.2.15"}]
            reason = await told_while_waiting(session, "qemu_packet_send", layers=layers)
            assert "stopped by the debugger at card_receive (" in reason
            await goes_on(session)
            await session.until_said("[arp]")

    anyio.run(scenario)


def test_a_guest_that_runs_is_given_breakpoints_and_is_interrupted(root_of: Path, user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            await boot(session, root_of, gdb=True)
            assert (await session.refused("qemu_debug", action="where")).code == "debug.not_attached"
            await debug(session, "attach")
            await goes_on(session)
            assert (await session.refused("qemu_debug", action="locals")).code == "debug.refused"
            assert (await found(session, "break", at="send_hello"))[0].startswith("1: send_hello")
            assert (await debug(session, "break"))["state"] == "running"
            assert "15" in await session.typed("sum")  # it never noticed
            assert (await found(session, "symbols", expression="^card_"))[0].startswith("guest.c:")
            interrupted = await debug(session, "interrupt")
            assert (interrupted["state"], interrupted["why"]) == ("stopped", "an interrupt")
            reset = await debug(session, "reset")
            assert reset["why"] == "a reset"
            assert (await debug(session, "break", at="kernel"))["found"].startswith("2: kernel")
            assert (await debug(session, "continue"))["place"].startswith("kernel (")
            assert (await debug(session, "attach"))["place"].startswith("kernel (")  # the one that is there
            assert len(gdbs_of(session.pid)) == 1
            await debug(session, "detach")
            assert "15" in await session.typed("sum")

    anyio.run(scenario)


def test_what_is_asked_for_wrongly_is_told(root_of: Path, user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            await boot(session, root_of)
            await debug(session, "attach")
            for code, arguments in {
                "debug.refused": {"action": "break", "at": "no_such_function"},
                "debug.refused ": {"action": "delete", "at": "7"},
                "debug.refused  ": {"action": "print", "expression": "no_such_name"},
                "debug.refused   ": {"action": "watch", "expression": "$pc + 1"},
                "debug.refused    ": {"action": "memory", "expression": "0xdead00000000"},
                "request.invalid": {"action": "watch"},
                "request.invalid ": {"action": "until"},
                "request.invalid  ": {"action": "delete", "at": "all"},
                "request.invalid   ": {"action": "break", "at": "-probe x"},
                "request.invalid    ": {"action": "print", "expression": '$_shell("id")'},
                "request.invalid     ": {"action": "memory", "expression": "$sp", "count": 5000},
                "request.invalid      ": {"action": "registers", "expression": "nosuch"},
                "request.invalid       ": {"action": "locals", "frame": 9},
                "request.invalid        ": {"action": "finish", "frame": 9},
                "request.invalid         ": {"action": "locals", "count": 3},
                "request.invalid          ": {"action": "where", "packet": 1, "offset": 22},
                "request.invalid           ": {"action": "coverage", "expression": "net"},
            }.items():
                refused = await session.refused("qemu_debug", **arguments)
                assert refused.code == code.strip(), arguments
            assert await found(session, "break") == ["there is no breakpoint"]

    anyio.run(scenario)


def test_a_capture_that_cannot_be_read_hides_no_console(root_of: Path, user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            await boot(session, root_of, capture=True)
            (row,) = (await session.call("qemu_pcap_status"))["captures"]
            await debug(session, "attach")
            await debug(session, "break", at=at("packets_sent++"))
            await goes_on(session)
            with Path(row["path"]).open("r+b", buffering=0) as file:
                begin = file.read(4)
                os.pwrite(file.fileno(), bytes(4), 0)
                await session.call("qemu_send", command="send", timeout=PATIENCE)
                came = await debug(session, "where")
                assert came["console"].startswith("send\n")
                assert "packets" not in came
                assert came["warnings"][0].startswith(f"the packets of {row['capture']} are not told: capture.")
                os.pwrite(file.fileno(), begin, 0)
            assert "7777 UDP" in (await debug(session, "next"))["packets"]

    anyio.run(scenario)


def test_what_is_cut_or_not_there_is_told(user: Account) -> None:
    root = user.home / "looked-into"
    root.mkdir()
    (root / "0xfeed.c").write_text("static int add(int a) { return a; }\nint odd(int x) { return add(x); }\n")
    project(user, "riscv64", "0xfeed.c")

    async def scenario() -> None:
        async with serving(user) as session:
            await boot(session, root)
            await debug(session, "attach")
            state = await session.call("qemu_monitor", command="query-memory-size-summary")
            end = 0x80000000 + json.loads(state["answer"])["base-memory"]
            lines = await found(session, "memory", expression=f"{end - 8:#x}", count=24)
            assert lines[0].startswith(f"{end - 8:#x}: ")
            assert lines[1:] == ["16 of the 24 bytes cannot be read"]
            lines = await found(session, "disassemble", at="0x80000000", count=101)
            assert (len(lines), lines[-1]) == (101, "... and more; the first 100 are shown")
            assert "<odd" in (await found(session, "disassemble", at="0xfeed.c:2"))[0]
            # A name that two functions have.
            one, other = f"add ({at('int sum = a + b')})", "add (0xfeed.c:1)"
            (line,) = await found(session, "break", at="add")
            assert line in {f"1: {each}, hit 0 times" for each in (f"{one}, {other}", f"{other}, {one}")}
            assert [each[:4] for each in await found(session, "symbols", at="add")] == ["add ", "Line"] * 2
            lines = await found(session, "disassemble", at="add", count=3)
            assert (len(lines), lines[3].startswith("there is code of it at 0x8")) == (4, True)
            await debug(session, "delete")
            (line,) = (await found(session, "print", expression="sending"))[:1]
            assert len(line) > 500
            assert line.endswith("}}")
            assert (await debug(session, "until", at="deeper", timeout=0))["state"] == "running"
            assert (await found(session, "break"))[0].endswith(", once, hit 0 times")
            await debug(session, "delete")
            await debug(session, "interrupt")
            await debug(session, "break", at="deeper", expression="depth == 60")
            await goes_on(session)
            await session.call("qemu_send", command="deep", timeout=PATIENCE)
            lines = await found(session, "where")
            assert lines[39].startswith("#39 ")
            assert lines[40:] == ["... and more; the first 40 are shown"]

    anyio.run(scenario)


def test_without_symbols_nothing_is_said_to_be_not_there(user: Account) -> None:
    root = project(user)
    built(root, "riscv64", "-Wl,--oformat=binary", name="flat.bin")
    (root / "rawtap.toml").write_text((root / "rawtap.toml").read_text("utf-8").replace("kernel.elf", "flat.bin"))

    async def scenario() -> None:
        async with serving(user) as session:
            await boot(session, root)
            (told,) = (await debug(session, "attach"))["warnings"]
            assert told.startswith("no symbols: ")
            assert await found(session, "symbols", expression="add") == [f"there is no such name; {told}"]
            assert await found(session, "locals") == ["no symbols tell of variables here"]
            assert (await found(session, "where"))[0].startswith("#0 0x")

    anyio.run(scenario)


def test_a_kernel_without_debugging_information_is_told(user: Account) -> None:
    root = project(user)
    built(root, "riscv64", "-g0")

    async def scenario() -> None:
        async with serving(user) as session:
            await boot(session, root)
            (told,) = (await debug(session, "attach"))["warnings"]
            assert told == "kernel.elf has no debugging information: no lines, no variables, no types"
            (add,) = await found(session, "symbols", expression="^add$")
            assert add.endswith(" add")
            assert await found(session, "locals") == ["no symbols tell of variables here"]

    anyio.run(scenario)


def test_a_guest_that_cannot_go_on_is_not_said_to_run(root_of: Path, user: Account) -> None:
    """QEMU takes no watchpoint that runs over the end of all memory, and gdb asks it when the guest is to go."""

    async def scenario() -> None:
        async with serving(user) as session:
            await boot(session, root_of)
            await debug(session, "attach")
            await found(session, "watch", expression="*(unsigned long *)0xfffffffffffffffc")
            for action in ("continue", "next", "stepi"):
                refused = await session.refused("qemu_debug", action=action)
                assert refused.code == "debug.refused", action
                assert "Could not insert hardware watchpoint 1" in str(refused), action
                assert (await debug(session, "where"))["state"] == "stopped", action
                assert (await session.call("qemu_status"))["guests"][0]["halted"].startswith("stopped by the debugger")
            await debug(session, "delete")
            await goes_on(session)
            assert "15" in await session.typed("sum")
            # The same, where it is held for a moment.
            refused = await session.refused("qemu_debug", action="watch", expression="*(long *)0xfffffffffffffffc")
            assert "cannot go on (Warning: Could not insert hardware watchpoint 2" in str(refused)
            assert (await debug(session, "where"))["state"] == "stopped"
            assert await found(session, "delete") == ["there is no breakpoint"]
            await goes_on(session)
            assert "15" in await session.typed("sum")

    anyio.run(scenario)


def test_a_state_that_something_else_changed_is_read_again(root_of: Path, user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            await boot(session, root_of)
            await debug(session, "attach")
            await debug(session, "break", at="add")
            await goes_on(session)
            await session.call("qemu_send", command="sum", timeout=PATIENCE)
            await session.call("qemu_snapshot", action="save", tag="first")
            assert (await debug(session, "continue"))["arguments"] == ["a=1", "b=2"]
            await session.call("qemu_snapshot", action="restore", tag="first")
            came = await debug(session, "where")
            assert (came["why"], came["arguments"]) == ("the snapshot 'first' was restored", ["a=0", "b=1"])
            assert came["found"].splitlines()[0].endswith("a=0, b=1")
            await session.call("qemu_monitor", command="system_reset")
            came = await debug(session, "where")
            assert came["why"] == "a reset"
            assert "add" not in came["found"]

    anyio.run(scenario)


def test_a_guest_that_the_monitor_stopped_is_no_hang_to_other_tools(root_of: Path, user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            await boot(session, root_of, capture=True)
            await session.call("qemu_monitor", command="stop")
            refused = await session.refused("qemu_send", command="sum", timeout=PATIENCE)
            assert refused.code == "guest.paused"
            assert 'stopped at the command "stop"' in str(refused)
            absent = await session.call("qemu_pcap_wait", timeout=PATIENCE, absent=True)
            assert not absent["satisfied"]
            await session.call("qemu_monitor", command="cont")
            assert "15" in await session.typed("sum")
            await debug(session, "attach")
            await goes_on(session)
            await session.call("qemu_monitor", command="stop")
            assert (await debug(session, "where"))["why"] == 'the command "stop"'
            await goes_on(session)
            assert "15" in await session.typed("sum")

    anyio.run(scenario)


def test_a_guest_that_qemu_did_not_let_go_is_not_said_to_run(root_of: Path, user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            booted = await boot(session, root_of)
            await debug(session, "attach")
            (gdb,) = gdbs_of(session.pid)
            os.kill(booted["pid"], signal.SIGSTOP)
            os.kill(gdb, signal.SIGKILL)
            with anyio.fail_after(PATIENCE):
                while "QEMU does not tell" not in str(await session.refused("qemu_debug", action="where")):
                    pass
            os.kill(booted["pid"], signal.SIGCONT)
            assert (await session.call("qemu_status"))["guests"][0]["halted"].startswith("stopped by the debugger")
            await session.call("qemu_monitor", command="cont")
            assert "15" in await session.typed("sum")

    anyio.run(scenario)


def test_the_timeline_tells_of_stops_and_not_of_gdbs_own(root_of: Path, user: Account) -> None:
    """gdb stops the guest wherever the condition does not hold, and nobody sees it."""

    async def scenario() -> None:
        async with serving(user) as session:
            await boot(session, root_of)
            await debug(session, "attach")
            await debug(session, "break", at="add", expression="a == 10")
            await goes_on(session)
            await session.call("qemu_send", command="sum", timeout=PATIENCE)
            assert (await debug(session, "where"))["arguments"] == ["a=10", "b=5"]
            refused = await session.refused("qemu_debug", action="finish", frame=4)
            assert "outermost" in str(refused)  # it stands where it stood, which is no news
            await debug(session, "detach")
            events = (await session.call("qemu_timeline", sources=["event", "qmp"]))["events"]
            kinds = [each["kind"] for each in events]
            assert [each for each in kinds if each in {"guest_halted", "guest_released"}] == [
                "guest_halted",
                "guest_released",
                "guest_halted",
                "guest_released",
            ]
            assert kinds.count("STOP") <= 1  # of the debugger's coming

    anyio.run(scenario)


def test_each_processor_is_looked_at(user: Account) -> None:
    """The second one is off: it stands where it would begin, and steps nowhere."""
    root = project(user, "aarch64", keys="smp = 2\n")

    async def scenario() -> None:
        async with serving(user) as session:
            await boot(session, root)
            await debug(session, "attach")
            first, second = await found(session, "threads")
            assert (first[:2], second[:2]) == (">1", " 2")
            turned = await debug(session, "threads", at="2")
            assert turned["why"] == "processor 2 is looked at"
            assert [each[:2] for each in turned["found"].splitlines()] == [" 1", ">2"]
            assert second.endswith(turned["place"])
            (pc,) = await found(session, "registers", expression="pc")
            assert int(pc.split()[1], 16) == int(turned["address"], 16)
            told = await debug(session, "stepi", timeout=0)
            assert (told["state"], told["warnings"]) == (
                "running",
                ['stepi ends on its own processor only; where the code went on on another, action="break" stops it'],
            )
            refused = await session.refused("qemu_debug", action="threads", at="1")
            assert refused.code == "debug.refused"
            await debug(session, "interrupt")
            refused = await session.refused("qemu_debug", action="threads", at="3")
            assert "there are: 1, 2" in str(refused)
            assert await found(session, "break", at="sum_up")
            await goes_on(session)
            await session.call("qemu_send", command="sum", timeout=PATIENCE)
            assert (await debug(session, "where"))["place"].startswith("sum_up (")

    anyio.run(scenario)


def test_where_gdb_ends_the_guest_goes_on(root_of: Path, user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            await boot(session, root_of)
            await debug(session, "attach")
            await debug(session, "break", at="add")
            (gdb,) = gdbs_of(session.pid)
            os.kill(gdb, signal.SIGKILL)
            assert await eventually_async(lambda: not exists(gdb))
            await session.until(lambda answer: "halted" not in answer["guests"][0], "qemu_status")
            refused = await session.refused("qemu_debug", action="where")
            assert refused.code == "debug.failed"
            assert "the signal 9" in str(refused)
            assert "15" in await session.typed("sum")  # with no breakpoint left
            assert (await debug(session, "attach"))["state"] == "stopped"

    anyio.run(scenario)


def test_where_the_guest_ends_so_does_gdb(root_of: Path, user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            booted = await boot(session, root_of)
            await debug(session, "attach")
            assert gdbs_of(session.pid)
            os.kill(booted["pid"], signal.SIGKILL)
            assert await eventually_async(lambda: not gdbs_of(session.pid))
            assert (await session.refused("qemu_debug", action="where")).code in {"debug.failed", "guest.exited"}
            assert not (await boot(session, root_of))["gdb"]

    anyio.run(scenario)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_a_servers_debugger(root_of: Path, user: Account, how: signal.Signals) -> None:
    with raw_client(user) as client:
        client.call("qemu_boot", project_root=str(root_of), network="user")
        client.call("qemu_debug", action="attach")
        (status,) = client.call("qemu_status")["guests"]
        socket = Path(status["gdb"].removeprefix("unix:"))
        ours = [*gdbs_of(client.process.pid), *guests_of(client.process.pid)]
        assert len(ours) == 2
        assert socket.is_socket()
        client.process.send_signal(how)
        client.process.wait(timeout=PATIENCE)
    assert anyio.run(eventually_async, lambda: not any(map(exists, ours)))
    next_start(user, lambda: not socket.parent.exists())


@pytest.mark.parametrize("looked_into", [False, True], ids=["alone", "with a debugger"])
def test_a_guest_is_stopped_by_a_packet(root_of: Path, user: Account, looked_into: bool) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            await boot(session, root_of, capture=True)
            wish = {"filter": "udp port 7777", "stop": True, "timeout": PATIENCE}
            for wrong in ({"absent": True}, {"since": "start"}):
                assert (await session.refused("qemu_pcap_wait", **wish | wrong)).code == "request.invalid"
            if looked_into:
                await debug(session, "attach")
                await goes_on(session)
            told: list[dict[str, Any]] = []

            async def wait() -> None:
                told.append(await session.call("qemu_pcap_wait", **wish))

            async with anyio.create_task_group() as group:
                group.start_soon(wait)
                await session.until(lambda _: "armed" in session.progress, "qemu_status")
                await session.call("qemu_send", command="send", timeout=0)
            (waited,) = told
            assert waited["satisfied"]
            assert waited["stopped_after"] > 0
            (row,) = (await session.call("qemu_status"))["guests"]
            number = waited["packets"][0]["number"]
            assert f"packet {number}" in row["halted"]
            assert (await session.refused("qemu_send", command="sum")).code == "guest.paused"
            state = await session.call("qemu_monitor", command="query-status")
            assert '"running": false' in state["answer"]
            events = (await session.call("qemu_timeline"))["events"]
            assert any(each["text"].startswith("guest guest is stopped ") for each in events)
            if looked_into:
                assert (await session.refused("qemu_monitor", command="cont")).code == "guest.paused"
            else:
                await session.call("qemu_monitor", command="cont")
                assert "15" in await session.typed("sum")
            came = await debug(session, "attach")
            assert came["state"] == "stopped"
            if looked_into:
                assert came["why"] == f"packet {number}"
                assert "7777 UDP" in came["packets"]
            await debug(session, "detach")
            assert "15" in await session.typed("sum")

    anyio.run(scenario)


@pytest.mark.parametrize("arch", ["riscv64", "aarch64", "arm"])
def test_a_crash_is_explained_with_the_line_that_made_it(user: Account, arch: str) -> None:
    root = project(user, arch)
    wrong = {
        "load": ("load access fault", "data abort, external abort (", "*(const char **)"),
        "store": ("store access fault", "data abort, external abort, a write", "*(volatile u32 *)0xdead"),
        "jump": ("instruction access fault", " abort, external abort", None),
    }

    async def scenario() -> None:
        async with serving(user) as session:
            await boot(session, root)
            assert "warnings" not in await debug(session, "attach")
            await debug(session, "reset")
            for command, (on_riscv, on_arm, line) in wrong.items():
                await goes_on(session)
                await session.call("qemu_read", wait_for="> ", timeout=PATIENCE)
                await session.call("qemu_send", command=command, timeout=0)
                while "warnings" not in (came := await debug(session, "interrupt")):  # it has not come so far
                    await goes_on(session)
                (told,) = came["warnings"]
                assert told.startswith("the processor's last exception: ")
                assert (on_riscv if arch == "riscv64" else on_arm) in told
                assert "ead0000" in told
                assert told.endswith(f", at run ({at(line)})" if line else "ead00008"), told
                assert (await debug(session, "reset"))["why"] == "a reset"

    anyio.run(scenario)


async def crashed(session: Session, command: str) -> dict[str, Any]:
    """What is told of it, once that command has brought the guest down, and it has booted again."""

    def is_ready(answer: dict[str, Any]) -> bool:
        said = str(answer["output"])
        return said.count("a kernel to look into") > resets and said.endswith("> ")

    (row,) = (await session.call("qemu_status"))["guests"]
    resets = row["resets"] + 1
    # At once: it boots quicker than QEMU's word of a reset comes, and so its prompt may be taken for one before that.
    await session.call("qemu_send", command=f"{command}\r", enter=False, timeout=0)
    await session.until(is_ready, "qemu_read", position=0)
    return await session.call("qemu_debug", action="crash")


_OVERFLOW = "where the stack pointer is: a stack overflow, or a wrong stack pointer"
_FAULTS = {
    "deep": ("1. page fault (#PF): a write by the kernel at 0xbf", _OVERFLOW, "deeper", "room[0] = depth"),
    "store": ("1. page fault (#PF): a write by the kernel at 0x", "the page is not present", "run", "0xdead00004ul"),
    "undefined": ("1. invalid opcode (#UD)", "stack pointer 0xc0", "run", "planted */"),
}


@pytest.mark.parametrize("arch", ["x86_64", "i386"])
def test_a_triple_fault_is_explained_by_what_led_to_it(user: Account, arch: str) -> None:
    root = project(user, arch)

    async def scenario() -> None:
        async with serving(user) as session:
            await boot(session, root, capture=True)
            assert "15" in await session.typed("sum")
            await session.call("qemu_send", command="send", timeout=PATIENCE)
            told = await crashed(session, "deep")
            first, line, _ = told["found"].splitlines()
            assert first.endswith("exceptions were not logged then: what led to it is not known")
            assert line.endswith(f", at deeper ({at('room[0] = depth')})")
            assert "7777 UDP" in told["packets"]
            assert "> sum\n" in told["console"]
            (row,) = (await session.call("qemu_status"))["guests"]
            assert row["trouble"].endswith('qemu_debug(action="crash") explains the triple fault')
            for command, (begin, about, function, text) in _FAULTS.items():
                told = await crashed(session, command)
                head, one, *more = told["found"].splitlines()
                assert head.startswith("a triple fault, ")
                assert head.endswith(" s ago")
                assert one.startswith(begin)
                assert about in one
                assert one.endswith(f", at {function} ({at(text)})")
                assert "of which the processor makes a double fault (#DF)" in more[-3]
                assert more[-2].endswith("a triple fault: the processor resets")
                assert more[-1] == "the table of handlers (IDT) is at address 0: was it never loaded?"
            # One that has a handler is the kernel's own affair.
            await session.typed("handle")
            sent = await session.call("qemu_send", command="store", timeout=PATIENCE)
            assert sent["next_step"].startswith("kernel panic: 'panic: a page fault' on the console")
            told = await session.call("qemu_debug", action="crash")
            *_, head, one = told["found"].splitlines()
            assert head == "the exceptions that it took last, of which a kernel may have wanted each:"
            assert one.startswith("page fault (#PF): a write by the kernel at 0x")
            assert one.endswith(f", at run ({at('0xdead00004ul')})")
            assert (await session.call("qemu_shutdown", timeout=0))["stderr"] == ""

    anyio.run(scenario)


def test_a_guest_that_ended_at_a_triple_fault_is_told_what_led_to_it_at_its_next_boot(user: Account) -> None:
    root = project(user, "x86_64", keys='on_reset = "stop"\n')

    async def scenario() -> None:
        async with serving(user) as session:
            await boot(session, root)
            assert (await session.call("qemu_debug", action="crash"))["found"] == "no triple fault was seen"
            await session.call("qemu_shutdown", timeout=0)
            found: list[list[str]] = []
            for _ in range(2):
                await boot(session, root)
                sent = await session.call("qemu_send", command="store", timeout=PATIENCE)
                assert "a triple fault" in sent["next_step"]
                told = await session.call("qemu_debug", action="crash")
                assert told["warnings"][-1] == "the next qemu_boot of that name logs exceptions from the start"
                found.append(told["found"].splitlines())
            (first, line), (_, one, *more) = found
            assert "what led to it is not known" in first
            assert line == "QEMU ended at it, and did not tell where"
            assert one.endswith(f", at run ({at('0xdead00004ul')})")
            assert more[-1].endswith("a triple fault: the processor resets")

    anyio.run(scenario)


async def comes_to(session: Session, at_: str, **wish: Any) -> dict[str, Any]:
    """Where the guest stops as it sends, of which frame in memory, and the calls that led there."""
    await debug(session, "delete")
    assert await found(session, "break", at=at_, **wish)
    await goes_on(session)
    await session.call("qemu_send", command="send", timeout=PATIENCE)
    return await debug(session, "where")


_BUFFERS = """
struct buffer { struct buffer *next; void *payload; unsigned short whole, here; };
static unsigned char ask[42] = {255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1};
void nic_tx(int queue, struct buffer *buffer) { buffer->next = (struct buffer *)(long)queue; }
void forward(void) {
    struct buffer buffer = {0, ask, 42, 42};
    nic_tx(1, &buffer);
}
"""
_HELLO = "47 bytes: 10.0.2.15:9 > 10.0.2.2:7777 UDP 5 bytes, to broadcast"


async def refuse_taps(session: Session) -> None:
    for code, arguments in {
        "capture.bad_filter": {"on": "transmit", "filter": "nonsense here", "at": "card_transmit"},
        "capture.bad_filter ": {"on": "transmit", "filter": "udp port", "at": "card_transmit"},
        "request.invalid": {"filter": "udp"},
        "request.invalid ": {"on": "receive", "action": "where"},
        "debug.refused": {"on": "transmit"},
    }.items():
        refused = await session.refused("qemu_debug", **{"action": "break"} | arguments)
        assert refused.code == code.strip(), arguments
    assert "card_transmit, nic_tx" in str(refused)
    assert await found(session, "break") == ["there is no breakpoint"]


async def several_at_one_function(session: Session) -> None:
    # gdb tells of the first only, and that one's frames do not match.
    await goes_on(session)
    await debug(session, "delete")
    numbers = [
        (await found(session, "break", at="card_transmit", on="transmit", filter=wanted))[0].partition(":")[0]
        for wanted in ("tcp", "arp", "udp port 7777")
    ]
    await session.call("qemu_send", command="send", timeout=PATIENCE)
    came = await debug(session, "where")
    assert came["why"] == f"breakpoint {numbers[-1]}, a frame to transmit"
    lines = await found(session, "break")
    refused = await session.refused("qemu_debug", action="until", at="card_transmit")
    assert refused.code == "debug.refused"
    assert await found(session, "break") == lines
    assert [each.rpartition(", ")[2] for each in lines] == ["1 others passed", "1 others passed", "0 others passed"]


async def steps_that_end_at_a_frame(session: Session) -> None:
    # A step ends where another frame comes; to go on would be to lose it.
    await debug(session, "delete")
    await found(session, "break", at="send_hello")
    await goes_on(session)
    await session.until_said("> send\n> ", read=lambda text: text.replace("\n\n", "\n"))
    await session.call("qemu_send", command="send", timeout=PATIENCE)
    await found(session, "break", at="card_transmit", on="transmit", filter="tcp")
    for _ in range(9):
        came = await debug(session, "next")
        if came["place"].startswith("card_transmit"):
            break
    assert came["why"].endswith(", in the middle of a step; the frame does not match")


async def frames_in_structures(session: Session) -> None:
    # In a structure; and where there is none yet.
    await goes_on(session)
    came = await comes_to(session, at("packets_sent++"), on="transmit", filter="udp port 7777")
    assert "in memory: packet at 0x80" in came["packets"]
    assert _HELLO in came["packets"]
    await goes_on(session)
    came = await comes_to(session, "ip_output", on="transmit", filter="udp port 7777")
    told = came["packets"].splitlines()[0]
    assert told == (
        "in memory: no frame was found, be it one that matches or not; looked at: packet, packet->bytes, packet->why"
    )
    await debug(session, "delete")
    await debug(session, "break", on="transmit", at="nic_tx", filter="arp")
    await goes_on(session)
    await session.until_said("> send\n> ", read=lambda text: text.replace("\n\n", "\n"))
    await session.call("qemu_send", command="call", timeout=PATIENCE)
    told = (await debug(session, "where"))["packets"].splitlines()[0]
    assert "in memory: buffer->payload at 0x80" in told
    assert ", 42 bytes: " in told


def test_a_frame_in_a_drivers_memory_stops_the_guest(user: Account) -> None:
    root = user.home / "looked-into"
    root.mkdir()
    (root / "other.c").write_text(_BUFFERS)
    project(user, "riscv64", "other.c", "-DCALLED=forward")

    async def scenario() -> None:
        async with serving(user) as session:
            await boot(session, root, capture=True)
            await debug(session, "attach")
            await refuse_taps(session)
            # Frames that do not match pass, and are counted.
            (line,) = await found(session, "break", on="transmit", filter="tcp", at="card_transmit")
            assert line.endswith("hit 0 times; frames to transmit that match 'tcp', 0 others passed")
            await goes_on(session)
            for _ in range(2):
                assert "> " in await session.typed("send")
            (line,) = await found(session, "break")
            assert line.endswith("hit 2 times; frames to transmit that match 'tcp', 2 others passed")
            interrupted = await debug(session, "interrupt")
            assert interrupted["why"] == "an interrupt"
            # One that does stops the guest, before it is on the wire.
            came = await comes_to(session, "card_transmit", on="transmit", filter="udp port 7777")
            assert came["why"] == "breakpoint 2, a frame to transmit"
            assert came["packets"].splitlines()[0].startswith("in memory: frame at 0x80")
            assert came["packets"].splitlines()[0].endswith(_HELLO)
            calls = [each.partition(" (")[0] for each in came["found"].splitlines()]
            assert calls[:4] == ["#0 card_transmit", "#1 ip_output", "#2 udp_output", "#3 send_hello"]
            await several_at_one_function(session)
            await steps_that_end_at_a_frame(session)
            await frames_in_structures(session)
            # One that comes.
            await debug(session, "delete")
            assert "card_receive" in (await found(session, "break", on="receive", filter="arp"))[0]
            await goes_on(session)
            await session.call("qemu_packet_send", layers=[{"layer": "ARP", "op": "who-has", "pdst": "10.0.2.15"}])
            came = await session.until(lambda answer: answer["state"] == "stopped", "qemu_debug", action="break")
            assert came["place"].startswith("card_receive (")
            assert "ARP who has 10.0.2.15?" in came["packets"].splitlines()[0]
            # "continue" does not pass by a stop that nobody was told of.
            await goes_on(session)
            await session.call("qemu_packet_send", layers=[{"layer": "ARP", "op": "who-has", "pdst": "10.0.2.15"}])
            await session.until(lambda answer: "halted" in answer["guests"][0], "qemu_status")
            came = await debug(session, "continue")
            assert came["place"].startswith("card_receive (")
            assert came["warnings"][0].startswith("it had stopped before this call")
            await debug(session, "detach")

    anyio.run(scenario)


async def trace(session: Session, offset: int, packet: int = 1) -> list[str]:
    return await found(session, "trace_byte", packet=packet, offset=offset)


def test_a_byte_of_a_packet_leads_to_the_line_that_wrote_it(root_of: Path, user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            await boot(session, root_of, capture=True)
            await debug(session, "attach")
            await debug(session, "break", at="send_hello")
            await goes_on(session)
            await session.call("qemu_send", command="send", timeout=PATIENCE)
            wish = {"action": "trace_byte", "packet": 1, "offset": 22}
            assert (await session.refused("qemu_debug", **wish)).code == "request.invalid"  # it was not sent yet
            await session.call("qemu_snapshot", action="save", tag="before")
            await goes_on(session)
            await session.until_said("> send\n> ", read=lambda text: text.replace("\n\n", "\n"))
            await session.until(lambda answer: answer["captures"][0]["packets"] == 1, "qemu_pcap_status")
            await debug(session, "interrupt")
            for wrong in ({"offset": 47}, {"packet": 2}, {"packet": None}):
                assert (await session.refused("qemu_debug", **wish | wrong)).code == "request.invalid", wrong
            head, written, *calls, before, runs = await trace(session, 22)
            assert head == "byte 22 of packet 1, 0x07: 10.0.2.15:9 > 10.0.2.2:7777 UDP 5 bytes, to broadcast"
            place = f"set_time_to_live ({at('planted: who wrote this byte')})"
            assert written.startswith(f"written at {place}: was 64 '@', is 7 '\\a', at 0x80")
            names = [each.partition(" (")[0] for each in calls]
            assert names == ["#1 ip_output", "#2 udp_output", "#3 send_hello", "#4 run"]
            assert before == f"before that, at ip_output ({at('header[8] = 64')}): was 0 '\\000', is 64 '@'"
            assert runs == "2 runs from the snapshot 'before'; the frame had the same bytes"
            # An address is copied; the guest stands at the driver's function, and is as it was.
            copied = await trace(session, 29)
            assert copied[1].startswith("written at memcpy (guest.c:")
            assert "which copies it: who wrote it where it came from is found by watching that place" in copied
            came = await debug(session, "where")
            assert came["place"].startswith("card_transmit (")
            (line,) = await found(session, "break")
            assert line.startswith("1: send_hello (")
            await goes_on(session)
            await session.call("qemu_send", command="send", timeout=PATIENCE)
            assert (await debug(session, "where"))["why"] == "breakpoint 1"
            await debug(session, "detach")
            assert "15" in await session.typed("sum")
            await session.call("qemu_snapshot", action="delete", tag="before")
            await debug(session, "attach")
            assert "no snapshot was saved before" in str(await session.refused("qemu_debug", **wish))

    anyio.run(scenario)


def test_a_frame_is_found_by_registers_where_there_are_no_types(user: Account) -> None:
    root = project(user, "x86_64", "-g0")

    async def scenario() -> None:
        async with serving(user) as session:
            await boot(session, root)
            await debug(session, "attach")
            assert "card_transmit" in (await found(session, "break", on="transmit", filter="udp"))[0]
            await goes_on(session)
            await session.call("qemu_send", command="send", timeout=PATIENCE)
            came = await debug(session, "where")
            assert came["packets"].startswith("in memory: $rdi at 0x")
            assert came["packets"].endswith(_HELLO)

    anyio.run(scenario)


_CPP = """
namespace net {
struct Stack {
    int frames;
    __attribute__((noinline)) int send(const unsigned char *frame, int length) { return frames += length + frame[0]; }
};
Stack stack;
}
extern "C" void forward() { net::stack.send(reinterpret_cast<const unsigned char *>("x"), 1); }
"""


def test_names_of_cpp_are_those_of_its_source(user: Account) -> None:
    root = user.home / "looked-into"
    root.mkdir()
    (root / "stack.cc").write_text(_CPP)
    project(user, "riscv64", "stack.cc", "-DCALLED=forward")
    name = "net::Stack::send"

    async def scenario() -> None:
        async with serving(user) as session:
            await boot(session, root)
            await debug(session, "attach")
            assert f"{name}(unsigned char const*, int)" in (await found(session, "symbols", at=name))[0]
            assert await found(session, "break", at=name)
            await goes_on(session)
            await session.call("qemu_send", command="call", timeout=PATIENCE)
            came = await debug(session, "where")
            assert came["place"].startswith(f"{name} (stack.cc:")
            # The linker's script leaves out what gdb would need to see through them.
            first, second, *_, last = came["found"].splitlines()
            assert first.startswith(f"#0 {came['place']} this=0x8")
            assert second.startswith("#1 forward (stack.cc:")
            assert last == "... gdb cannot tell who called that: PC not saved"
            assert (await found(session, "print", expression="net::stack.frames"))[0] == "net::stack.frames = 0"
            assert (await found(session, "disassemble", count=1))[0].find(f"<{name}(") > 0

    anyio.run(scenario)


def test_a_packet_that_comes_at_the_last_moment_stops_the_guest_as_well(
    root: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is on the wire in time, and seen only when the time is over."""
    settings = Settings(capture_dir=root.home / "captures", scratch_dir=root.home / "scratch")
    frame = bytes.fromhex("ffffffffffff 020000000001 88b5") + bytes(46)

    def send_late(_: Lab, interface: str) -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as card:
            card.bind((interface, 0))
            card.send(frame)

    async def tell(_: float, __: str) -> None:
        pass

    async def scenario() -> None:
        async with Lab(settings) as lab:
            booted = await lab.boot(BootRequest(project_root=project(root), network=True, capture=True))
            monkeypatch.setattr(halts, "halted_on", send_late)
            wish = Wish("ether proto 0x88b5", 1, 0.0, absent=False, since="now", stop=True)
            waited = await wait(lab, None, wish, "summary", tell)
            assert waited.satisfied
            assert waited.stopped_after is not None
            assert not (await booted.guest.machine.execute("query-status"))["running"]

    anyio.run(scenario)
