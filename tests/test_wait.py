"""Waiting for packets over MCP: what is there in time, what is absent, and what came instead."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from support import PATIENCE, Account, Session, ToolFailed, Wire, eventually_async, serving

OURS = "ether proto 0x88b5"
OTHER = 0x88B6
LONG = PATIENCE  # what ends before never waits for it
SHORT = 0.2


async def capturing(session: Session, wire: Wire, **arguments: object) -> None:
    await session.call("qemu_pcap_start", interface=wire.near, **arguments)


async def waiting(session: Session, **arguments: object) -> dict[str, Any]:
    return await session.call("qemu_pcap_wait", **{"filter": OURS, "timeout": LONG} | arguments)


async def while_waiting(
    session: Session, act: Callable[[], object] | Callable[[], Awaitable[object]], **arguments: object
) -> dict[str, Any]:
    """Wait, and act once the wait is armed; the wait's answer."""
    answers = []
    session.progress.clear()

    async def wait() -> None:
        answers.append(await waiting(session, **arguments))

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        assert await eventually_async(lambda: "armed" in session.progress)
        done = act()
        if isinstance(done, Awaitable):
            await done
    return answers[0]


def run(user: Account, wire: Wire, scenario: Callable[[Session], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with serving(user, "--allow-interface", wire.near) as session:
            await scenario(session)

    anyio.run(whole)


def test_a_wait_ends_with_its_packets_and_those_before_do_not_count(user: Account, wire: Wire) -> None:
    async def scenario(session: Session) -> None:
        await capturing(session, wire)
        wire.send(5)
        answer = await while_waiting(session, lambda: wire.send(4), count=3)
        assert answer["satisfied"] is True
        assert [packet["number"] for packet in answer["packets"]] == [6, 7, 8]
        assert answer["reason"].endswith("packets match within 120 s")
        assert answer["others"] == []
        again = await waiting(session, since=answer["since"], timeout=0)
        assert [packet["number"] for packet in again["packets"]] == [9] if answer["since"] == 8 else []

    run(user, wire, scenario)


def test_what_was_on_the_wire_when_the_call_came_never_counts_as_new(user: Account, wire: Wire) -> None:
    """Without a pause in between: the last frames are still in the kernel's ring then."""

    async def scenario(session: Session) -> None:
        await capturing(session, wire)
        for _ in range(50):
            wire.send(3)
            assert (await waiting(session, timeout=0))["looked_at"] == 0
        back = await waiting(session, timeout=0, since="start", count=150, detail="hex")
        assert back["satisfied"] is True
        assert [packet["number"] for packet in back["packets"]] == list(range(1, len(back["packets"]) + 1))
        assert len(back["packets"]) < back["matched"] == 150
        rest = await waiting(session, timeout=0, since=back["since"], count=150 - len(back["packets"]))
        assert rest["packets"][0]["number"] == len(back["packets"]) + 1

    run(user, wire, scenario)


def test_a_wait_looks_back_to_the_start_or_behind_a_packet(user: Account, wire: Wire) -> None:
    async def scenario(session: Session) -> None:
        await capturing(session, wire)
        wire.send(5)
        answer = await waiting(session, since="start", count=2, timeout=0, detail="hex")
        assert [packet["number"] for packet in answer["packets"]] == [1, 2]
        assert answer["packets"][0]["runs"][0]["hex"].startswith("f" * 12)
        answer = await waiting(session, since=3, count=2, timeout=0)
        assert ([packet["number"] for packet in answer["packets"]], answer["since"]) == ([4, 5], 5)
        with pytest.raises(ToolFailed, match=r"request\.invalid: since=6 is not there yet: the capture has saved 5"):
            await waiting(session, since=6, timeout=0)

    run(user, wire, scenario)


def test_a_time_out_says_what_came_instead(user: Account, wire: Wire) -> None:
    async def scenario(session: Session) -> None:
        await capturing(session, wire)

        wire.send(2, protocol=OTHER)
        wire.send(1)
        answer = await waiting(session, since="start", count=2, timeout=SHORT)
        assert (answer["satisfied"], answer["looked_at"], len(answer["packets"])) == (False, 3, 1)
        assert answer["reason"] == "1 of 3 packets match within 0.2 s"
        ((protocol, packets, last),) = [each.values() for each in answer["others"]]
        assert (protocol, packets, last["number"]) == ("0x88b6", 2, 2)
        again = await waiting(session, count=2, timeout=0, since="start", detail="layers")
        assert "layers" in again["packets"][0]
        assert "layers" not in again["others"][0]["last"]

    run(user, wire, scenario)


def test_a_time_out_without_any_packet_has_the_captures_diagnosis(user: Account, wire: Wire) -> None:
    async def scenario(session: Session) -> None:
        await capturing(session, wire, filter=OURS)
        answer = await waiting(session, timeout=SHORT)
        assert answer["satisfied"] is False
        assert answer["reason"].startswith("0 of 0 packets match within 0.2 s: ")
        assert "'near0' carried no frame at all" in answer["reason"]

    run(user, wire, scenario)


def test_what_came_before_the_call_is_told_where_the_wait_was_in_vain(user: Account, wire: Wire) -> None:
    """Hosts call one after another: what a command caused is there before the wait for it begins."""

    async def scenario(session: Session) -> None:
        await capturing(session, wire)
        wire.send(2, protocol=OTHER)
        wire.send(2)
        earlier = '; 2 matched before this call (3, 4): since="start" counts them'
        for wish, came in (({}, False), ({"absent": True}, True)):
            answer = await waiting(session, timeout=0, **wish)
            assert (answer["satisfied"], answer["reason"]) == (came, f"0 of 0 packets match within 0 s{earlier}")
        assert (await waiting(session, timeout=0, since="start", count=2))[
            "reason"
        ] == "2 of 4 packets match within 0 s"
        assert "before" not in (await waiting(session, timeout=0, since=4))["reason"]

    run(user, wire, scenario)


def test_absence_holds_for_the_whole_time_and_ends_with_the_first_that_comes(user: Account, wire: Wire) -> None:
    async def scenario(session: Session) -> None:
        await capturing(session, wire)
        wire.send(3, protocol=OTHER)
        answer = await waiting(session, since="start", absent=True, timeout=SHORT)
        assert (answer["satisfied"], answer["reason"]) == (True, "0 of 3 packets match within 0.2 s")
        assert answer["elapsed"] >= SHORT
        answer = await while_waiting(session, lambda: wire.send(1), absent=True)
        assert (answer["satisfied"], len(answer["packets"])) == (False, 1)
        assert answer["reason"] == "1 of 1 packets match: what should be absent came"

    run(user, wire, scenario)


def test_a_capture_that_ends_ends_the_wait_and_absence_is_not_shown_by_half_the_time(user: Account, wire: Wire) -> None:
    async def scenario(session: Session) -> None:
        for absent in (False, True):
            await capturing(session, wire)
            answer = await while_waiting(session, lambda: session.call("qemu_pcap_stop"), absent=absent)
            assert answer["satisfied"] is False
            assert "before the capture ended (stopped)" in answer["reason"]
        with pytest.raises(ToolFailed, match=r"request\.invalid: the capture c2 has ended: nothing more comes"):
            await waiting(session)
        assert (await waiting(session, since="start", absent=True))["satisfied"] is True
        assert (await waiting(session, since="start"))["satisfied"] is False

    run(user, wire, scenario)


def test_a_wait_goes_over_the_files_of_a_ring(user: Account, wire: Wire) -> None:
    async def scenario(session: Session) -> None:
        await capturing(session, wire, files=3, max_bytes=4096)
        answer = await while_waiting(session, lambda: wire.send(300), count=100)
        numbers = [packet["number"] for packet in answer["packets"]]
        missing = numbers[-1] - len(numbers)  # overwritten before this was woken
        assert (answer["satisfied"], len(numbers), sorted(set(numbers))) == (True, 100, numbers)
        assert ("overwritten unread" in answer["reason"]) == bool(missing)
        await session.call("qemu_pcap_stop")
        answer = await waiting(session, since="start", absent=True, filter="ether proto 0x88b6")
        assert answer["satisfied"] is False
        assert "packets overwritten unread: what should be absent may be among them" in answer["reason"]

    run(user, wire, scenario)


def test_a_cancelled_wait_leaves_the_capture_running_and_the_next_wait_works(user: Account, wire: Wire) -> None:
    async def scenario(session: Session) -> None:
        await capturing(session, wire)
        async with anyio.create_task_group() as group:
            group.start_soon(waiting, session)
            assert await eventually_async(lambda: "armed" in session.progress)
            group.cancel_scope.cancel()
        answer = await while_waiting(session, lambda: wire.send(1))
        assert answer["satisfied"] is True
        assert (await session.call("qemu_pcap_stop"))["packets"] == 1

    run(user, wire, scenario)


def test_many_waits_on_one_capture_all_end(user: Account, wire: Wire) -> None:
    async def scenario(session: Session) -> None:
        await capturing(session, wire)
        answers = []

        async def wait(count: int) -> None:
            answers.append((await waiting(session, count=count))["satisfied"])

        async with anyio.create_task_group() as group:
            for count in range(1, 9):
                group.start_soon(wait, count)
            assert await eventually_async(lambda: session.progress.count("armed") == 8)
            for _ in range(8):
                wire.send(1)
        assert answers == [True] * 8

    run(user, wire, scenario)


def test_what_cannot_be_waited_for_fails_at_once(user: Account, wire: Wire) -> None:
    async def scenario(session: Session) -> None:
        with pytest.raises(ToolFailed, match=r"^capture\.unknown: "):
            await waiting(session)
        await capturing(session, wire)
        for arguments, code in (
            ({"filter": "host example.com"}, "capture.bad_filter: "),
            ({"filter": "udp prot 53"}, "capture.bad_filter: "),
            ({"capture": "c9"}, "capture.unknown: "),
            ({"since": "then"}, "request.invalid: "),
            ({"since": -1}, "request.invalid: "),
            ({"count": 0}, "request.invalid: "),
            ({"timeout": -1}, "request.invalid: "),
        ):
            with pytest.raises(ToolFailed, match=code):
                await waiting(session, **arguments)

    run(user, wire, scenario)
