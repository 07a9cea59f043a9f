"""Each prompt is played call by call, on a healthy guest and on broken ones, and leads to what is so."""

from __future__ import annotations

import ast
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from mcp_types import TextContent

from support import PATIENCE, Account, Session
from test_broken_guests import begun, ended, with_guest

JSON = {"true": True, "false": False, "null": None}


async def calls_of(session: Session, prompt: str, **arguments: str) -> list[tuple[str, dict[str, Any]]]:
    """The calls that a prompt's text has, in its order."""
    (message,) = (await session.client.get_prompt(prompt, arguments)).messages
    assert isinstance(message.content, TextContent)
    text = message.content.text
    return [_call(text, match.start()) for match in re.finditer(r"qemu_[a-z_]+\(", text)]


def _call(text: str, start: int) -> tuple[str, dict[str, Any]]:
    end = start
    while True:
        end = text.index(")", end) + 1
        try:
            (statement,) = ast.parse(text[start:end]).body
        except SyntaxError:
            continue
        assert isinstance(statement, ast.Expr)
        assert isinstance(statement.value, ast.Call)
        called = statement.value
        assert isinstance(called.func, ast.Name)
        given = {word.arg or "": ast.literal_eval(word.value) for word in called.keywords}
        return called.func.id, given


async def play(
    session: Session, act: Callable[[], Awaitable[object]], prompt: str, **arguments: str
) -> dict[str, dict[str, Any]]:
    """Make the calls of a prompt, and act behind the first, which starts the capture; the answers, by tool."""
    answers: dict[str, dict[str, Any]] = {}
    for number, (name, given) in enumerate(await calls_of(session, prompt, **arguments)):
        answers[name] = await session.call(name, **given)
        if number == 0:
            assert name == "qemu_pcap_start"
            await act()
    await session.call("qemu_pcap_stop", capture=answers["qemu_pcap_start"]["capture"])
    return answers


def answered(answers: dict[str, dict[str, Any]], kind: str) -> bool:
    rows = [each for each in answers["qemu_pcap_explain"]["exchanges"] if each["kind"] == kind]
    return bool(rows) and not any(each["unanswered"] for each in rows)


def first_finding(answers: dict[str, dict[str, Any]]) -> str:
    return str(answers["qemu_pcap_explain"]["findings"][0]["what"])


def with_program(user: Account, tmp_path: Path, scenario: Callable[[Session, Program], Awaitable[None]]) -> None:
    async def whole(session: Session, _: dict[str, Any]) -> None:
        await scenario(session, Program(session))

    with_guest(user, tmp_path, whole)


class Program:
    """The guest's network stack, with a defect by number; 0 has none."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def begin(self, number: int) -> None:
        """Start it; it has asked for a lease, and the like, when it is ready, and answers until its end."""
        await begun(self._session, number, 1300)

    async def end(self) -> None:
        await ended(self._session)

    async def run(self, number: int) -> None:
        await self.begin(number)
        await self.end()


def test_no_reply_to_arp(user: Account, tmp_path: Path) -> None:
    async def scenario(session: Session, program: Program) -> None:
        async def nothing() -> None:
            pass

        for number, satisfied in ((0, True), (4, False)):
            await program.begin(number)
            played = await play(session, nothing, "no_reply_to_arp", address=f"10.0.2.{100 + number}")
            assert played["qemu_pcap_wait"]["satisfied"] is satisfied
            if satisfied:
                assert (answered(played, "ARP"), played["qemu_pcap_explain"]["findings"]) == (True, [])
            else:
                assert first_finding(played) == "arp.no_answer"
                assert played["qemu_pcap_wait"]["others"][0]["protocol"] == "ARP"
            assert played["qemu_pcap_read"]["packets"]
            await program.end()

    with_program(user, tmp_path, scenario)


def test_dhcp_fails(user: Account, tmp_path: Path) -> None:
    """The client is done when its call is back: what came meanwhile counts."""

    async def scenario(session: Session, program: Program) -> None:
        async def lease() -> None:
            said = await session.call("qemu_send", command="udhcpc -i eth0 -n -q -s /etc/udhcpc.sh", timeout=PATIENCE)
            assert "lease of 10.0.2." in said["output"]
            await session.call("qemu_send", command="ip addr flush dev eth0")

        played = await play(session, lease, "dhcp_fails", guest="guest")
        assert played["qemu_pcap_wait"]["satisfied"] is True
        assert (answered(played, "DHCP"), played["qemu_pcap_explain"]["findings"]) == (True, [])
        for number, code in ((25, "dhcp.request_xid"), (30, "dhcp.no_cookie"), (31, "dhcp.port")):
            played = await play(session, lambda number=number: program.run(number), "dhcp_fails", guest="guest")
            assert first_finding(played) == code
            assert played["qemu_pcap_read"]["packets"]

    with_program(user, tmp_path, scenario)


def test_tcp_stalls(user: Account, tmp_path: Path) -> None:
    async def scenario(session: Session, program: Program) -> None:
        where = {"host": "10.0.2.2", "port": "http-alt"}
        played = await play(session, lambda: program.run(0), "tcp_stalls", **where)
        assert played["qemu_pcap_wait"]["satisfied"] is True
        assert (answered(played, "TCP"), played["qemu_pcap_explain"]["findings"]) == (True, [])
        assert {"packet", "console"} <= {each["source"] for each in played["qemu_timeline"]["events"]}
        played = await play(session, lambda: program.run(33), "tcp_stalls", **where)
        assert first_finding(played) == "tcp.checksum_wrong"

    with_program(user, tmp_path, scenario)
