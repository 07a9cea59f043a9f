"""MCP over HTTP: a Lab for each client, or one for all; what each sees, and what is left when it goes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
from mcp import MCPError
from mcp.client.subscriptions import ResourcesListChanged

import tiny_guest
from http_support import HandSession, HttpServer, Mode, connected, http_server
from support import (
    Account,
    Session,
    ToolFailed,
    Wire,
    children_of,
    command_of,
    eventually,
    eventually_async,
    exists,
    guests_of,
    link_names,
    read_back,
    status_of,
)

MODERN = "2026-07-28"
STORY = "icmp or (arp and (ether broadcast or arp[6:2] = 2))"  # the host may look whether the guest is still there
# Of a client without a name, and of one with: the era that it comes to.
ERAS = [("auto", "", "2025-11-25"), ("legacy", "", "2025-11-25"), ("auto", "a", MODERN), ("legacy", "a", "2025-11-25")]


def dnsmasqs_of(pid: int) -> list[int]:
    return [child for child in children_of(pid) if "dnsmasq" in command_of(child)]


async def story(session: Session) -> dict[str, object]:
    """The story up to its end, which is left out; the capture's row."""
    await session.boot()
    await session.call("qemu_pcap_start", filter=STORY)
    assert "is alive" in await session.ping()
    row = await session.call("qemu_pcap_stop")
    assert (row["packets"], row["dropped_kernel"], row["warnings"]) == (4, 0, [])
    assert read_back(str(row["path"])) == 4
    return row


@pytest.mark.parametrize(("mode", "lab", "version"), ERAS)
def test_the_story(anyone: Account, mode: Mode, lab: str, version: str) -> None:
    async def scenario(server: HttpServer) -> None:
        async with connected(server, lab, mode) as session:
            assert session.client.protocol_version == version
            await story(session)
            assert session.progress[:3] == ["making the network", "starting QEMU", "booting"]
            ended = await session.call("qemu_shutdown")
            assert (ended["exit_code"], ended["left_standing"]) == (0, [])
            assert link_names() == set()

    with http_server(anyone) as server:
        anyio.run(scenario, server)


@pytest.mark.parametrize(("mode", "labs"), [("auto", ("", "")), ("legacy", ("", "")), ("auto", ("a", "b"))])
def test_two_clients_at_once_have_a_lab_each(user: Account, mode: Mode, labs: tuple[str, str]) -> None:
    async def scenario(server: HttpServer) -> None:
        async with connected(server, labs[0], mode) as first, connected(server, labs[1], mode) as second:
            paths = [str((await story(first))["path"])]
            await first.call("qemu_send", command="setenv ipaddr 10.0.2.76")  # the other's guest takes the one it had
            paths.append(str((await story(second))["path"]))
            stati = [await each.call("qemu_status") for each in (first, second)]
            assert [len(status["guests"]) for status in stati] == [1, 1]
            assert {status["guests"][0]["name"] for status in stati} == {"guest"}
            assert len({status["guests"][0]["network"]["mac"] for status in stati}) == 2
            assert [[row["capture"] for row in status["captures"]] for status in stati] == [["c1"], ["c1"]]
            assert paths[0] != paths[1]
            # Neither the other's file by its path, nor what it captured, nor its guest's TAP.
            with pytest.raises(ToolFailed) as caught:
                await second.call("qemu_pcap_read", path=paths[0])
            assert caught.value.code == "capture.unreadable"
            with pytest.raises(MCPError, match="no capture"):
                await second.client.read_resource(Path(paths[0]).as_uri())
            listed = {each.uri for each in (await second.client.list_resources()).resources}
            assert listed == {"capture://c1", Path(paths[1]).as_uri()}
            with pytest.raises(ToolFailed) as caught:
                await second.call("qemu_pcap_start", interface=stati[0]["guests"][0]["network"]["tap"])
            assert caught.value.code == "capture.interface_not_allowed"
            events = (await second.call("qemu_timeline", sources=["event"], limit=200))["events"]
            assert not any(stati[0]["guests"][0]["network"]["tap"] in event["text"] for event in events)
            # The end of one leaves the other's guest, and the bridge under it.
            ended = await first.call("qemu_shutdown")
            assert ended["left_standing"] == [f"bridge {stati[0]['guests'][0]['network']['bridge']}"]
            assert "is alive" in await second.ping()
            assert (await second.call("qemu_shutdown"))["left_standing"] == []

    with http_server(user) as server:
        anyio.run(scenario, server)
        assert link_names() == set()


def test_guests_of_two_clients_reach_each_other_as_they_are_on_one_wire(user: Account) -> None:
    async def scenario(server: HttpServer) -> None:
        async with connected(server) as first, connected(server) as second:
            await first.boot()
            await second.boot()
            await second.call("qemu_pcap_start", interface=None, filter="icmp")
            await first.call("qemu_send", command="setenv ipaddr 10.0.2.75")
            assert "is alive" in await second.ping()

    with http_server(user) as server:
        anyio.run(scenario, server)
    assert link_names() == set()


def test_two_clients_share_the_one_dnsmasq_until_the_last_has_gone(user: Account) -> None:
    async def scenario(server: HttpServer) -> None:
        async with connected(server) as first, connected(server) as second:
            assert (await first.boot(services=True))["warnings"] == []
            (neighbours,) = (await second.boot(services=True))["warnings"]
            assert neighbours.startswith("also on rawtap-br0: 1 card of others' guests")
            (serving,) = dnsmasqs_of(server.pid)
            await first.call("qemu_shutdown")
            assert dnsmasqs_of(server.pid) == [serving]
            said = await second.call("qemu_send", command="setenv autoload no; dhcp")
            assert "bound to address 10.0.2." in said["output"]
            (network,) = (await second.call("qemu_status"))["networks"]
            assert network["services"] == f"running, pid {serving}"
            assert (await first.call("qemu_status"))["networks"] == []
            noted = (await second.call("qemu_timeline", sources=["event"], limit=200))["events"]
            assert any(event["kind"] == "dhcp" for event in noted)
            await second.call("qemu_shutdown")
            assert dnsmasqs_of(server.pid) == []

    with http_server(user) as server:
        anyio.run(scenario, server)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_shared_lab_is_everybodys_and_outlives_who_made_it(user: Account, mode: Mode) -> None:
    async def scenario(server: HttpServer) -> None:
        async with connected(server, mode=mode) as first:
            booted = await first.boot()
        async with connected(server, "any", mode) as second:
            assert [guest["pid"] for guest in (await second.call("qemu_status"))["guests"]] == [booted["pid"]]
            assert "is alive" in await second.ping()

    with http_server(user, "--shared") as server:
        anyio.run(scenario, server)
        assert len(guests_of(server.pid)) == 1
    assert link_names() == set()


def test_all_clients_of_a_shared_lab_are_told_of_its_captures(user: Account, wire: Wire) -> None:
    async def scenario(server: HttpServer) -> None:
        async with connected(server, mode="legacy") as first, connected(server, mode="legacy") as second:
            for each in (first, second):
                await each.call("qemu_status")
            await first.call("qemu_pcap_start", interface=wire.near)
            for each in (first, second):
                assert await eventually_async(lambda each=each: "notifications/resources/list_changed" in each.notices)

    with http_server(user, "--shared", "--allow-interface", wire.near) as server:
        anyio.run(scenario, server)


def test_a_client_without_a_session_is_told_of_its_labs_captures_and_of_no_others(user: Account, wire: Wire) -> None:
    async def scenario(server: HttpServer) -> None:
        async with (
            connected(server, "a") as first,
            connected(server, "b") as second,
            first.client.listen(resources_list_changed=True) as told,
        ):
            await second.call("qemu_pcap_start", interface=wire.near, name="other")
            await first.call("qemu_pcap_start", interface=wire.near)
            async for event in told:
                assert event == ResourcesListChanged()
                break
            captures = (await first.call("qemu_pcap_status"))["captures"]
            assert [row["capture"] for row in captures] == ["c1"]

    with http_server(user, "--allow-interface", wire.near) as server:
        anyio.run(scenario, server)


def test_the_end_of_a_session_is_answered_when_all_that_it_had_is_gone(user: Account) -> None:
    with http_server(user) as server:
        session = HandSession(server)
        booted = session.call("qemu_boot", profile="u-boot-riscv64", network=True, services=True)
        started = session.call("qemu_pcap_start", filter="icmp")
        assert "is alive" in session.call("qemu_send", command="setenv ipaddr 10.0.2.75; ping 10.0.2.2")["output"]
        other = HandSession(server)
        assert session.end() == 200
        assert not exists(booted["pid"])
        assert (link_names(), guests_of(server.pid), dnsmasqs_of(server.pid)) == (set(), [], [])
        assert read_back(started["path"]) == 2
        assert session.end() == 404
        # A folder that holds no capture any more is gone as well.
        other.call("qemu_boot", profile="u-boot-riscv64", network=True, capture=True)
        Path(other.call("qemu_pcap_stop")["path"]).unlink()
        assert other.end() == 200
        assert [folder.name for folder in user.captures.iterdir()] == [Path(started["path"]).parent.name]
        assert all(folder.stat().st_mode & 0o777 == 0o700 for folder in (user.captures, *user.captures.iterdir()))


def test_the_end_of_a_session_ends_its_call_in_progress(user: Account) -> None:
    async def scenario(server: HttpServer) -> None:
        session, deaf = HandSession(server), tiny_guest.deaf(user)
        async with anyio.create_task_group() as group:

            def boot() -> None:
                with pytest.raises(AssertionError, match="no answer"):
                    session.call("qemu_boot", project_root=deaf, network=True, capture=True)

            group.start_soon(anyio.to_thread.run_sync, boot)
            assert await eventually_async(lambda: guests_of(server.pid) != [])
            assert await anyio.to_thread.run_sync(session.end) == 200
            assert (link_names(), guests_of(server.pid)) == (set(), [])

    with http_server(user) as server:
        anyio.run(scenario, server)


@pytest.mark.parametrize("path", ["/mcp", "/mcp/a"])
def test_what_a_client_has_is_released_when_nothing_of_it_was_there_for_long(user: Account, path: str) -> None:
    with http_server(user, "--idle-seconds", "1") as server:
        session = HandSession(server, path)
        booted = session.call("qemu_boot", profile="u-boot-riscv64", network=True)
        # A call that takes longer than that is no idleness.
        session.call("qemu_send", command="sleep 2", timeout=10)
        assert exists(booted["pid"])
        assert eventually(lambda: not exists(booted["pid"]))
        assert eventually(lambda: link_names() == set())
        assert session.end() == 404


def test_a_client_that_listens_is_not_idle(user: Account) -> None:
    async def scenario(server: HttpServer) -> None:
        async with connected(server, mode="legacy") as session:
            booted = await session.boot()
            # One that says nothing more, and has no stream, goes by the same clock: when it is over, both would be.
            quiet = HandSession(server).call("qemu_boot", profile="u-boot-riscv64")
            assert await eventually_async(lambda: not exists(quiet["pid"]))
            assert exists(booted["pid"])

    with http_server(user, "--idle-seconds", "1") as server:
        anyio.run(scenario, server)


@pytest.mark.parametrize(("mode", "lab", "_version"), ERAS)
def test_a_cancelled_boot_leaves_nothing_and_the_server_goes_on(
    user: Account, mode: Mode, lab: str, _version: str
) -> None:
    async def scenario(server: HttpServer) -> None:
        async with connected(server, lab, mode) as session:
            async with anyio.create_task_group() as group:
                boot = {"project_root": tiny_guest.deaf(user), "network": True, "capture": True}
                group.start_soon(lambda: session.call("qemu_boot", **boot))
                assert await eventually_async(lambda: guests_of(server.pid) != [])
                group.cancel_scope.cancel()
            again = await session.boot()
            assert again["prompt_seen"]
            assert guests_of(server.pid) == [again["pid"]]

    with http_server(user) as server:
        anyio.run(scenario, server)


def test_a_client_that_knows_no_session_is_told_to_name_its_lab(user: Account) -> None:
    async def scenario(server: HttpServer) -> None:
        async with connected(server, mode=MODERN) as session:
            with pytest.raises(MCPError, match="/mcp/NAME"):
                await session.call("qemu_status")
        async with connected(server, "mine", MODERN) as session:
            assert (await session.call("qemu_status"))["guests"] == []

    with http_server(user) as server:
        anyio.run(scenario, server)


def test_it_works_rootless_and_is_reached_from_the_hosts_network(user: Account) -> None:
    async def scenario(server: HttpServer) -> None:
        async with connected(server) as first, connected(server, "b") as second:
            assert os.readlink(f"/proc/{server.pid}/ns/net") != os.readlink("/proc/self/ns/net")  # noqa: PTH115
            assert (await first.call("qemu_status"))["rootless"]
            await story(first)
            await first.call("qemu_shutdown")
            await story(second)
            assert link_names() == set()

    with http_server(user, "--rootless") as server:
        anyio.run(scenario, server)


def test_neither_guests_nor_services_can_see_the_token(user: Account) -> None:
    with http_server(user) as server:
        session = HandSession(server)
        session.call("qemu_boot", profile="u-boot-riscv64", network=True, services=True, capture=True)
        children = children_of(server.pid)
        assert len(children) >= 3  # QEMU, dnsmasq, the trimmer of capture files
        for child in children:
            assert server.token not in Path(f"/proc/{child}/environ").read_text(encoding="utf-8")
            assert server.token not in command_of(child)
        assert not any(server.token in line for line in server.said)


def test_the_server_has_no_capability_in_force(user: Account) -> None:
    with http_server(user) as server:
        HandSession(server).call("qemu_status")
        assert int(status_of(server.pid)["CapEff"], 16) == 0


def test_over_stdio_nothing_of_the_http_server_is_loaded() -> None:
    program = (
        "import sys, rawtap.cli, rawtap.server\n"
        "print([name for name in sys.modules if name.startswith(('rawtap.http.', 'uvicorn.protocols', 'h11'))])"
    )
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['rawtap.http.door', 'rawtap.http.gate', 'rawtap.http.options']"
