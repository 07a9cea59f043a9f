"""QEMU's own network: captures through QEMU itself, with no privilege whatever."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from rawtap.capture.session import CaptureRequest
from rawtap.guest import filter_mirror
from rawtap.guest.machine import Machine
from rawtap.lab.guests import BootRequest
from rawtap.lab.lab import Lab
from rawtap.lab.usernet import MirrorFeed, UserNet
from rawtap.settings import Settings
from support import (
    PATIENCE,
    Account,
    Session,
    descendants_of,
    eventually,
    exists,
    open_files,
    read_back,
    serving,
)
from test_endings import raw_client

INTERFACE = "user:guest"
FRAME = "ffffffffffff02000000000188b5"


async def boot(session: Session, **arguments: Any) -> dict[str, Any]:
    return await session.boot(network="user", **arguments)


async def chardevs(session: Session, name: str = "guest") -> set[str]:
    """What QEMU has of sockets and the like."""
    answer = await session.call("qemu_monitor", command="query-chardev", name=name)
    return {each["label"] for each in json.loads(answer["answer"])}


async def echo(session: Session) -> str:
    """What the guest's shell answers. Its network is deaf after a flood: U-Boot's driver is, on a TAP as well."""
    return str((await session.call("qemu_send", command="echo still here"))["output"])


def complaints(ended: dict[str, Any]) -> int:
    """How often QEMU could not write to a mirror."""
    return str(ended["stderr"]).count("filter mirror send failed")


def test_the_guest_gets_an_address_by_dhcp_and_no_way_out(nowhere: Account) -> None:
    async def scenario() -> None:
        async with serving(nowhere) as session:
            await boot(session)
            await session.call("qemu_pcap_start")
            got = await session.call("qemu_send", command="setenv autoload no; dhcp")
            assert "DHCP client bound to address 10.0.2.15" in got["output"]
            # The host's own address beyond QEMU, and the world: a gateway by hand, since DHCP names none.
            tried = await session.call(
                "qemu_send", command="setenv gatewayip 10.0.2.2; setenv netretry no; ping 10.1.1.1", wait_for="Using"
            )
            assert tried["matched"]
            await session.call("qemu_pcap_wait", filter="icmp", since="start", timeout=PATIENCE)
            silent = await session.call("qemu_pcap_wait", filter="icmp[0] = 0", since="start", absent=True, timeout=1.1)
            assert silent["satisfied"]
            page = await session.call("qemu_pcap_read", filter="icmp")
            assert {each["direction"] for each in page["packets"]} == {"from guest"}

    anyio.run(scenario)


def test_the_guest_does_not_reach_this_host(nowhere: Account) -> None:
    """Without restrict, QEMU would carry a datagram for its own address to the host's loopback."""

    async def scenario() -> None:
        async with serving(nowhere) as session:
            await boot(session)
            await session.call("qemu_pcap_start", filter="udp dst port 111")
            await session.call("qemu_send", command="setenv ipaddr 10.0.2.75")
            await session.call("qemu_send", command="nfs 84000000 10.0.2.2:/x", wait_for="Using")
            found = await session.call("qemu_pcap_wait", since="start", timeout=PATIENCE)
            assert found["packets"][0]["destination"].startswith("10.0.2.2")
            await session.call("qemu_pcap_stop")  # QEMU has done with it
            with pytest.raises(BlockingIOError):
                host.recv(100)

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as host:
        host.bind(("127.0.0.1", 111))
        host.setblocking(False)
        anyio.run(scenario)


def test_a_capture_at_boot_is_armed_before_the_first_instruction(nowhere: Account) -> None:
    async def scenario() -> None:
        async with serving(nowhere) as session:
            booted = await boot(session, capture=True, capture_filter="arp")
            assert booted["capture"]["interface"] == INTERFACE
            page = await session.call("qemu_timeline", sources=["event", "qmp"])
            kinds = [each["kind"] for each in page["events"]]
            assert kinds.index("capture_started") < kinds.index("RESUME")
            await session.ping()
            assert (await session.call("qemu_pcap_stop"))["packets"] == 2

    anyio.run(scenario)


def test_an_empty_capture_says_what_passed_and_what_the_guest_did_not_send(nowhere: Account) -> None:
    async def scenario() -> None:
        async with serving(nowhere) as session:
            await boot(session)
            await session.call("qemu_pcap_start")
            silent = (await session.call("qemu_pcap_stop"))["diagnosis"]
            assert f"'{INTERFACE}' carried no frame at all" in silent
            assert "The guest 'guest' transmitted no frame." in silent
            assert "TAP" not in silent
            await session.call("qemu_pcap_start", filter="udp port 53")
            await session.ping()
            unmatched = (await session.call("qemu_pcap_stop"))["diagnosis"]
            assert "The filter 'udp port 53' matched none of 4 frames that 'user:guest' carried" in unmatched
            assert "2 'ARP', 2 'IPv4 ICMP'" in unmatched
            await session.call("qemu_pcap_start", filter="icmp")
            await session.call("qemu_packet_send", hex=FRAME.ljust(120, "0"))
            one_way = (await session.call("qemu_pcap_stop"))["diagnosis"]
            assert "matched none of 1 frame" in one_way
            assert "Only the host's side transmitted: 1 frame went to the guest 'guest'" in one_way

    anyio.run(scenario)


def test_a_guest_that_is_killed_ends_its_capture_with_all_that_came(nowhere: Account) -> None:
    async def scenario() -> None:
        async with serving(nowhere) as session:
            booted = await boot(session)
            await session.call("qemu_pcap_start")
            await session.call("qemu_pcap_start", filter="udp")
            await session.ping()
            os.kill(booted["pid"], signal.SIGKILL)
            row = await session.call("qemu_pcap_wait", capture="c1", filter="udp", since="start", timeout=PATIENCE)
            assert not row["satisfied"]
            full, empty = (await session.call("qemu_pcap_status"))["captures"]
            assert (full["state"], full["reason"], full["packets"], full["error"]) == (
                "stopped",
                "guest_ended",
                4,
                None,
            )
            assert read_back(full["path"]) == 4
            assert empty["reason"] == "guest_ended"
            assert "The guest of 'user:guest' ended" in empty["diagnosis"]
            assert "matched none of 4 frames" in empty["diagnosis"]
            assert (await session.refused("qemu_pcap_start")).code == "guest.exited"
            assert (await session.refused("qemu_packet_send", hex=FRAME)).code == "guest.exited"

    anyio.run(scenario)


def test_a_stop_does_not_depend_on_a_qemu_that_answers(nowhere: Account) -> None:
    async def scenario() -> None:
        async with serving(nowhere) as session:
            booted = await boot(session)
            before = await chardevs(session)
            await session.call("qemu_pcap_start")
            await session.ping()
            os.kill(booted["pid"], signal.SIGSTOP)
            row = await session.call("qemu_pcap_stop")
            assert (row["packets"], row["reason"], row["state"]) == (4, "stopped", "stopped")
            os.kill(booted["pid"], signal.SIGCONT)
            assert await chardevs(session) == before  # it was told, and does it before it answers
            assert "is alive" in await session.ping()

    anyio.run(scenario)


def used(pid: int) -> set[str]:
    """What a server has open, but for modules that it loads meanwhile."""
    return {path for path in open_files(pid) if not path.startswith((sys.prefix, sys.base_prefix))}


def test_captures_that_come_and_go_leave_nothing_in_qemu_and_nothing_open(nowhere: Account) -> None:
    async def scenario() -> None:
        async with serving(nowhere) as session:
            booted = await boot(session)
            before = await chardevs(session)
            await session.call("qemu_pcap_start")
            await session.call("qemu_pcap_stop")
            files = len(list(Path(f"/proc/{booted['pid']}/fd").iterdir())), len(used(session.pid))
            for _ in range(20):
                await session.call("qemu_pcap_start")
                assert len(await chardevs(session)) == len(before) + 1
                assert (await session.call("qemu_pcap_stop"))["reason"] == "stopped"
            assert (await session.refused("qemu_pcap_start", filter="no filter")).code == "capture.bad_filter"
            assert await chardevs(session) == before
            assert (len(list(Path(f"/proc/{booted['pid']}/fd").iterdir())), len(used(session.pid))) == files
            assert "is alive" in await session.ping()

    anyio.run(scenario)


async def cancelled(session: Session, tool: str, **arguments: Any) -> None:
    """Begin a call, and cancel it when the server has answered another one that was sent after it."""
    async with anyio.create_task_group() as group:
        group.start_soon(partial(session.call, tool, **arguments))
        await session.call("qemu_monitor", command="query-status")
        group.cancel_scope.cancel()


def test_a_start_that_is_cancelled_leaves_no_mirror_and_no_capture(nowhere: Account) -> None:
    async def scenario() -> None:
        async with serving(nowhere) as session:
            await boot(session)
            before = await chardevs(session)
            for _ in range(10):
                await cancelled(session, "qemu_pcap_start")
            with anyio.fail_after(PATIENCE):
                while await chardevs(session) != before:  # the server takes them back in its own time
                    # One whose cancellation came too late is an ordinary capture.
                    for row in (await session.call("qemu_pcap_status"))["captures"]:
                        await session.call("qemu_pcap_stop", capture=row["capture"])
            assert "is alive" in await session.ping()

    anyio.run(scenario)


def test_a_frame_whose_sending_is_cancelled_leaves_nothing_in_qemu(nowhere: Account) -> None:
    async def scenario() -> None:
        async with serving(nowhere) as session:
            await boot(session)
            before = await chardevs(session)
            for _ in range(20):
                await cancelled(session, "qemu_packet_send", hex=FRAME.ljust(120, "0"))
            with anyio.fail_after(PATIENCE):
                while await chardevs(session) != before:  # the server takes them back in its own time
                    pass
            assert "is alive" in await session.ping()

    anyio.run(scenario)


def test_what_is_sent_is_saved_to_the_last_frame_in_five_captures_at_once(nowhere: Account) -> None:
    async def scenario() -> None:
        async with serving(nowhere) as session:
            await boot(session)
            started: list[dict[str, Any]] = []

            async def start() -> None:
                started.append(await session.call("qemu_pcap_start", filter="ether proto 0x88b5"))

            async with anyio.create_task_group() as group:
                for _ in range(5):
                    group.start_soon(start)
            sent = await session.call("qemu_packet_send", hex=FRAME.ljust(120, "0"), count=1000)
            assert sent["sent"] == 1000
            page = await session.call("qemu_pcap_read", limit=1)
            assert page["matched"] == 1000 or page["next_cursor"]
            for each in started:
                row = await session.call("qemu_pcap_stop", capture=each["capture"])
                assert (row["packets"], row["dropped_kernel"], row["dropped_interface"]) == (1000, 0, 0)
                assert read_back(row["path"]) == 1000
            assert "still here" in await echo(session)

    anyio.run(scenario)


def test_a_run_of_pings_is_there_to_the_last_answer(nowhere: Account) -> None:
    async def scenario() -> None:
        async with serving(nowhere) as session:
            await boot(session)
            await session.call("qemu_pcap_start", filter="icmp")
            loop = "setenv ipaddr 10.0.2.75; for i in 1 2 3 4 5; do for j in 1 2 3 4 5; do ping 10.0.2.2; done; done"
            said = await session.call("qemu_send", command=loop)
            assert said["output"].count("is alive") == 25
            assert (await session.call("qemu_pcap_stop"))["packets"] == 50

    anyio.run(scenario)


def test_limits_rings_snaplen_and_pcapng_hold(nowhere: Account) -> None:
    async def scenario() -> None:
        async with serving(nowhere) as session:
            booted = await boot(session)
            await session.call("qemu_pcap_start", snaplen=20, max_packets=7)
            await session.call("qemu_pcap_start", max_bytes=4096, files=3, format="pcapng", comment="a remark")
            await session.call("qemu_packet_send", hex=FRAME.ljust(240, "0"), count=200)
            few, ring = (await session.call("qemu_pcap_status"))["captures"]
            assert (few["state"], few["reason"], few["packets"], few["size_bytes"]) == (
                "stopped",
                "max_packets",
                7,
                24 + 7 * 36,
            )
            ring = await session.call("qemu_pcap_stop", capture=ring["capture"])
            assert ring["packets"] + ring["packets_overwritten"] == 200
            assert len(ring["files"]) == 3
            assert sum(read_back(path) for path in ring["files"]) == ring["packets"]
            content = Path(ring["files"][-1]).read_bytes()
            assert b"user:guest" in content
            assert b"a remark" in content
            assert booted["network"]["mac"].encode() in content
            assert "still here" in await echo(session)  # somebody reads on for the capture that has ended
            assert complaints(await session.call("qemu_shutdown")) == 0

    anyio.run(scenario)


def test_a_full_disk_ends_the_capture_and_not_the_guest(nowhere: Account, small_disk: Path) -> None:
    async def scenario() -> None:
        async with serving(nowhere, "--capture-dir", small_disk) as session:
            await boot(session)
            await session.call("qemu_pcap_start")
            await session.call("qemu_packet_send", hex=FRAME.ljust(3000, "0"), count=1000)
            (row,) = (await session.call("qemu_pcap_status"))["captures"]
            assert (row["state"], row["reason"]) == ("failed", "no_space")
            assert read_back(row["path"]) == row["packets"] > 0
            assert "still here" in await echo(session)
            assert len(await chardevs(session)) == 2
            assert complaints(await session.call("qemu_shutdown")) == 0

    anyio.run(scenario)


def test_waiting_and_the_timeline_see_such_packets(nowhere: Account) -> None:
    async def scenario() -> None:
        async with serving(nowhere) as session:
            await boot(session)
            await session.call("qemu_pcap_start")

            async def ping() -> None:
                await session.ping()

            async with anyio.create_task_group() as group:
                group.start_soon(ping)
                found = await session.call("qemu_pcap_wait", filter="icmp", count=2, timeout=PATIENCE)
            assert found["satisfied"]
            absent = await session.call("qemu_pcap_wait", filter="udp", absent=True, timeout=0.1)
            assert absent["satisfied"]
            page = await session.call("qemu_timeline", sources=["packet"])
            assert [each["text"].split(":")[0] for each in page["events"]] == ["from guest", "to guest"] * 2
            told = await session.call("qemu_pcap_explain")
            # QEMU pads its own answers to ARP to 64 bytes, which is more than Ethernet needs and harms nobody.
            assert (told["examined"], told["findings"]) == (4, [])

    anyio.run(scenario)


def test_a_frame_reaches_the_guest_which_answers_it(nowhere: Account) -> None:
    async def scenario() -> None:
        async with serving(nowhere) as session:
            await boot(session)
            await session.call("qemu_send", command="setenv ipaddr 10.0.2.75")
            await session.call("qemu_pcap_start", filter="arp")
            await session.call("qemu_send", command="setenv netretry no; ping 10.0.2.99", wait_for="device")
            asked = [{"layer": "ARP", "op": "who-has", "pdst": "10.0.2.75"}]
            sent = await session.call("qemu_packet_send", layers=asked)
            assert sent["summary"].startswith("52:55:0a:00:02:02 > ")  # as QEMU's host there calls itself
            found = await session.call("qemu_pcap_wait", filter="arp[6:2] = 2", since="start", timeout=PATIENCE)
            assert found["satisfied"]
            assert found["packets"][0]["direction"].startswith("from guest")

    anyio.run(scenario)


def test_the_cable_is_pulled_and_plugged_in_and_nothing_else(nowhere: Account) -> None:
    async def scenario() -> None:
        async with serving(nowhere) as session:
            await boot(session)
            await session.call("qemu_pcap_start")
            pulled = await session.call("qemu_link", up=False)
            assert (pulled["up"], pulled["carrier"], pulled["tap"], pulled["queue"]) == (False, False, None, None)
            refused = await session.refused("qemu_packet_send", hex=FRAME)
            assert (refused.code, "qemu_link(up=true)" in str(refused)) == ("network.failed", True)
            row = await session.call("qemu_pcap_stop")
            assert "lost its carrier" in row["diagnosis"]
            assert "qemu_link(up=true) plugs it in" in row["diagnosis"]
            assert (await session.refused("qemu_link", up=True, loss=5)).code == "network.impairment_unavailable"
            assert (await session.call("qemu_link", up=True))["carrier"]
            assert "is alive" in await session.ping()

    anyio.run(scenario)


def test_a_guest_that_returns_to_a_snapshot_is_captured_on(nowhere: Account) -> None:
    async def scenario() -> None:
        async with serving(nowhere) as session:
            await boot(session)
            await session.call("qemu_pcap_start", filter="icmp")
            await session.call("qemu_snapshot", action="save", tag="here")
            assert "is alive" in await session.ping()
            await session.call("qemu_snapshot", action="restore", tag="here")
            assert "is alive" in await session.ping()
            assert (await session.call("qemu_pcap_stop"))["packets"] == 4

    anyio.run(scenario)


def test_guests_do_not_reach_each_other(nowhere: Account) -> None:
    async def scenario() -> None:
        async with serving(nowhere) as session:
            await boot(session, name="a")
            await boot(session, name="b")
            await session.call("qemu_pcap_start", name="b")
            command = "setenv ipaddr 10.0.2.75; ping 10.0.2.2"
            assert "is alive" in (await session.call("qemu_send", command=command, name="a"))["output"]
            row = await session.call("qemu_pcap_stop")
            assert (row["interface"], row["packets"]) == ("user:b", 0)
            unknown = await session.refused("qemu_pcap_start", interface="user:c")
            assert unknown.code == "capture.no_such_interface"

    anyio.run(scenario)


def test_services_that_a_bridge_would_have_are_a_warning(nowhere: Account) -> None:
    async def scenario() -> None:
        async with serving(nowhere) as session:
            (warning,) = (await boot(session, services=True))["warnings"]
            assert "no DNS" in warning

    anyio.run(scenario)


def test_after_sigkill_nothing_is_left_and_the_file_is_whole(nowhere: Account) -> None:
    with raw_client(nowhere) as client:
        client.call("qemu_boot", profile="u-boot-riscv64", network="user")
        started = client.call("qemu_pcap_start", filter="icmp")
        assert "is alive" in client.call("qemu_send", command="setenv ipaddr 10.0.2.75; ping 10.0.2.2")["output"]
        below = descendants_of(client.process.pid)
        client.process.kill()
        client.process.wait()
        assert eventually(lambda: not any(exists(pid) for pid in below))
        assert read_back(started["path"]) in {0, 2}


@pytest.mark.usefixtures("_needs_root")
def test_qemu_waits_for_a_capture_that_does_not_read_and_loses_nothing(tmp_path: Path) -> None:
    """Why the drop counters are 0: measured on QEMU itself, with a reader that stands still on purpose."""

    async def answers(machine: Machine, seconds: float) -> bool:
        with anyio.move_on_after(seconds):
            await machine.execute("query-status")
            return True
        return False

    async def scenario() -> None:
        async with Lab(Settings(capture_dir=tmp_path, scratch_dir=tmp_path)) as lab:
            booted = await lab.boot(BootRequest(profile="u-boot-riscv64", network="user", wait_for_prompt=False))
            machine = booted.guest.machine
            copies = filter_mirror.mirror(machine)
            await copies.add()
            try:
                async with filter_mirror.way_in(machine) as way_in:
                    way_in.near.setblocking(False)
                    sent, waiting = 0, True
                    while waiting:
                        try:
                            while way_in.near.send(filter_mirror.packed(bytes(1000) + sent.to_bytes(4))):
                                sent += 1
                        except BlockingIOError:  # QEMU reads on, or it stands still
                            waiting = await answers(machine, 1)
                    copies.near.settimeout(PATIENCE)
                    frames, stream = [], filter_mirror.Frames()
                    while len(frames) < sent:
                        frames += await anyio.to_thread.run_sync(lambda: stream.fed(copies.near.recv(1 << 16)))
                    assert [int.from_bytes(each[1000:]) for each in frames] == list(range(sent))
                    assert await answers(machine, PATIENCE)
            finally:
                await copies.remove()
                copies.near.close()

    anyio.run(scenario)


@pytest.mark.usefixtures("_needs_root")
def test_a_capture_that_has_ended_is_read_until_qemu_has_let_go(tmp_path: Path) -> None:
    """Who is told of its end stops it, and QEMU may not have come to it yet."""

    async def scenario() -> None:
        async with Lab(Settings(capture_dir=tmp_path, scratch_dir=tmp_path)) as lab:
            booted = await lab.boot(BootRequest(profile="u-boot-riscv64", network="user", wait_for_prompt=False))
            (user,) = booted.guest.cards
            assert isinstance(user, UserNet)
            capture = await lab.start_capture(CaptureRequest(user.name, max_packets=1))
            assert isinstance(capture.feed, MirrorFeed)
            async with capture.feed.filter._turn:  # its mirror stays
                await user.send(bytes(60), 3, 0.0)
                assert (await anyio.to_thread.run_sync(capture.session.stop)).reason == "max_packets"
                await user.send(bytes(60), 3, 0.0)
            ended = await lab.shutdown("guest", 0)
            assert "mirror" not in ended.exit.stderr

    anyio.run(scenario)


def test_where_nothing_is_allowed_the_errors_name_the_way_that_is_left(nowhere: Account) -> None:
    async def scenario() -> None:
        async with serving(nowhere) as session:
            refused = await session.refused("qemu_boot", profile="u-boot-riscv64", network=True)
            assert refused.code == "network.tun_missing"
            assert 'network="user"' in str(refused)
            checks = {each["name"]: each for each in (await session.call("qemu_doctor"))["checks"]}
            assert checks["network"]["ok"]
            assert checks["network"]["found"].startswith("user: ")
            assert [checks[f"way: {way}"]["ok"] for way in ("privileged", "rootless", "user")] == [True, True, True]
            assert "not possible here" in checks["way: privileged"]["found"]
            assert "not possible here" in checks["way: rootless"]["found"]
            assert checks["way: user"]["found"].startswith("works here")

    anyio.run(scenario)


def test_a_missing_capability_names_the_way_that_is_left(outsider: Account) -> None:
    async def scenario() -> None:
        async with serving(outsider, "--no-rootless") as session:
            refused = await session.refused("qemu_boot", profile="u-boot-riscv64", network=True)
            assert refused.code == "network.permission"
            assert 'network="user"' in str(refused)

    anyio.run(scenario)
