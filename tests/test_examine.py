"""A guest's stack is asked for what the RFCs demand: what it breaks is named, and nothing else is.

The stacks are Linux's, which is the control; U-Boot's, which reads its card only while a command runs; and one of the
tests' own (examined_guest.c), with a defect by number.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from rawtap.examine import catalogue
from support import PATIENCE, Account, Session, eventually_async, serving
from test_broken_guests import tree_with
from test_linux_guest import IMAGES, PROMPT, linux_tree

SOURCE = Path(__file__).parent / "examined_guest.c"
ADDRESS = "10.0.2.15"
NOWHERE = "0.0.0.0"  # noqa: S104 - no address
HEALTHY, OPTION_LOOP, FRAGMENTS_BEYOND, KERNEL_DIES = 0, 23, 47, 56
DIES_ARP_LENGTH, DIES_OF_ALL, DIES_OF_TYPE, LISTENS, ECHO_STOPS, ARP_SELDOM = 57, 67, 68, 71, 72, 73
GROUPS = 3  # each has a guest of its own: several processes share them

# By number: the rule that names it, its verdict, and the field that is wrong.
DEFECTS: dict[int, tuple[str, str, str]] = {
    1: ("arp.reply", "violated", "ARP.op"),
    2: ("arp.reply_sender", "violated", "ARP.psrc"),
    3: ("arp.reply_target", "violated", "ARP.hwdst"),
    4: ("arp.reply_to_asker", "violated", "Ether.dst"),
    5: ("arp.reply_kind", "violated", "ARP.hwlen"),
    6: ("arp.other_address", "violated", "frames"),
    7: ("arp.reply_not_answered", "violated", "frames"),
    8: ("arp.operation_unknown", "violated", "frames"),
    9: ("arp.probe", "silent", ""),
    10: ("arp.unicast_request", "silent", ""),
    11: ("arp.announcement", "violated", "Ether.dst"),
    12: ("arp.question_broadcast", "violated", "Ether.dst"),
    13: ("arp.question_rate", "violated", "frames"),
    14: ("arp.packet_kept", "silent", ""),
    15: ("arp.hardware_type", "violated", "frames"),
    16: ("ipv4.checksum", "violated", "frames"),
    17: ("ipv4.version", "violated", "frames"),
    18: ("ipv4.header_short", "violated", "frames"),
    19: ("ipv4.length_beyond", "violated", "frames"),
    20: ("ipv4.ttl_one", "silent", ""),
    21: ("ipv4.no_fragments", "silent", ""),
    22: ("ipv4.options_ended", "silent", ""),
    24: ("ipv4.source_loopback", "violated", "frames"),
    25: ("ipv4.destination_other", "violated", "frames"),
    26: ("ipv4.reply_ttl", "violated", "IP.ttl"),
    27: ("ipv4.reply_length", "violated", "IP.len"),
    28: ("ipv4.reply_checksum", "violated", "IPv4 checksum"),
    29: ("link.padding", "silent", ""),
    30: ("icmp.echo_sequence", "violated", "ICMP.seq"),
    31: ("icmp.echo_identifier", "violated", "ICMP.id"),
    32: ("icmp.echo_data", "violated", "Raw.load"),
    33: ("icmp.checksum", "violated", "frames"),
    34: ("icmp.error_quotes", "violated", "IPerror.src"),
    35: ("icmp.unknown_type", "violated", "frames"),
    36: ("icmp.reply_unasked", "violated", "frames"),
    37: ("icmp.echo_odd", "violated", "ICMP checksum"),
    38: ("icmp.error_for_broadcast", "violated", "frames"),
    39: ("icmp.error_for_fragment", "violated", "frames"),
    40: ("udp.checksum", "violated", "frames"),
    41: ("udp.no_checksum", "silent", ""),
    42: ("udp.length_beyond", "violated", "frames"),
    43: ("udp.port_unreachable", "violated", "ICMP.code"),
    44: ("fragments.reversed", "silent", ""),
    45: ("fragments.hole", "violated", "frames"),
    46: ("fragments.identification", "violated", "frames"),
    48: ("fragments.source", "violated", "frames"),
    49: ("tcp.closed", "violated", "TCP.ack"),
    50: ("tcp.closed_reset", "violated", "frames"),
    51: ("tcp.checksum", "violated", "frames"),
    52: ("tcp.offset_short", "violated", "frames"),
    53: ("link.other_station", "violated", "frames"),
    54: ("ipv4.source_multicast", "violated", "frames"),
    55: ("icmp.error_for_error", "violated", "frames"),
    LISTENS: ("tcp.initial_number", "violated", "TCP.seq"),
}


def with_stack(
    user: Account,
    tmp_path: Path,
    scenario: Callable[[Session], Awaitable[None]],
    *,
    snapshots: bool = False,
    source: Path = SOURCE,
) -> None:
    """A Linux guest with the tests' own stack in it; one that writes to an image of the user's has no snapshots."""

    async def whole() -> None:
        tree = tree_with(user, tmp_path, source)
        if snapshots:
            free_memory_is_zero(tree)
        else:
            (user.home / "disk.img").write_bytes(bytes(1 << 16))
            with Path(tree, "rawtap.toml").open("a", encoding="utf-8") as settings:
                settings.write('\ndrives = [{ path = "disk.img" }]\n')
            for path in user.home.iterdir():
                path.chmod(0o666 if path.is_file() else 0o777)
        async with serving(user, "--image-dir", IMAGES, "--image-dir", user.home) as session:
            await session.call("qemu_boot", project_root=tree, network=True, services=False, timeout=PATIENCE)
            await session.typed("echo 1 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6; ip link set eth0 up")
            await scenario(session)

    anyio.run(whole)


def free_memory_is_zero(tree: str) -> None:
    """It needs no place in a snapshot, and no time."""
    settings = Path(tree, "rawtap.toml")
    settings.write_text(settings.read_text().replace(' quiet"', ' quiet init_on_free=1"'))


async def boot_linux(session: Session, user: Account) -> None:
    """With an address, and a listener on port 7777."""
    tree = linux_tree(user)
    free_memory_is_zero(tree)
    await session.call("qemu_boot", project_root=tree, network=True, services=False, timeout=PATIENCE)
    await session.typed(f"ip addr add {ADDRESS}/24 dev eth0; ip link set eth0 up; nc -ll -p 7777 -e cat &")


async def examined(session: Session, what: str, **more: Any) -> dict[str, Any]:
    return await session.call("qemu_examine", what=what, address=ADDRESS, **more)


@asynccontextmanager
async def stack(session: Session, number: int) -> AsyncIterator[None]:
    """The program with that defect; it is ended where it still runs."""
    ready = await session.call("qemu_send", command=f"examined {number}", wait_for="ready", timeout=PATIENCE)
    assert ready["matched"], ready
    yield
    ended = await session.call("qemu_send", command="\n", enter=False, wait_for=PROMPT, timeout=PATIENCE)
    assert ended["matched"], ended


def verdicts(told: dict[str, Any]) -> dict[str, str]:
    """By rule, of those that were not kept."""
    return {row["rule"]: row["verdict"] for row in told["rules"]}


@pytest.mark.parametrize("group", range(GROUPS))
def test_each_defect_is_named_by_its_rule(user: Account, tmp_path: Path, group: int) -> None:
    wrong: dict[int, Any] = {}

    async def scenario(session: Session) -> None:
        for number in sorted(DEFECTS)[group::GROUPS]:
            rule, verdict, field = DEFECTS[number]
            async with stack(session, number):
                told = await examined(session, rule, **({"port": 7777} if number == LISTENS else {}))
            (row,) = told["rules"]
            if (row["rule"], row["verdict"], row.get("field", "")) != (rule, verdict, field):
                wrong[number] = row

    with_stack(user, tmp_path, scenario)
    assert wrong == {}


def test_a_stack_without_a_defect_keeps_every_rule(user: Account, tmp_path: Path) -> None:
    async def scenario(session: Session) -> None:
        async with stack(session, HEALTHY):
            told = await examined(session, "all")
        assert not told["snapshots"]
        assert "disk.img" in told["notes"][0]
        assert told["port"] is None  # it listens nowhere
        untried = [row for row in told["rules"] if row["verdict"] == "cannot tell"]
        reasons = {"tcp": "give port=", "ipv6": "no IPv6 was seen", "dns": "no DNS query", "dhcp": "no DHCPDISCOVER"}
        assert all(reasons[row["rule"].partition(".")[0]] in row["reason"] for row in untried)
        tried = {row["suite"]: row["cannot_tell"] for row in told["suites"]}
        assert tried["ipv6"] == len(catalogue.SUITES["ipv6"])
        others = {name: verdict for name, verdict in verdicts(told).items() if verdict != "cannot tell"}
        assert others == {"link.priority_tag": "silent"}  # the card passes over what is tagged
        total = sum(row[verdict] for row in told["suites"] for verdict in row if verdict != "suite")
        assert total == len(catalogue.chosen("all"))
        assert told["notes"][-1] == "impairments was not tried: it waits for timers, and is asked for by its name"
        async with stack(session, HEALTHY):
            told = await examined(session, "impairments")
        (row,) = told["suites"]
        assert (row["kept"], row["cannot_tell"]) == (2, len(catalogue.SUITES["impairments"]) - 2)  # echoes need no port
        assert all("give port=" in row["reason"] for row in told["rules"])
        async with stack(session, HEALTHY):
            await tells_nothing_of_a_wire_that_changed(session)

    with_stack(user, tmp_path, scenario)


@pytest.mark.parametrize(
    ("number", "rule", "killer"),
    [
        (OPTION_LOOP, "ipv4.option_length", "ICMP echo request"),
        (FRAGMENTS_BEYOND, "fragments.beyond", "bytes 65520-65720"),
        (DIES_ARP_LENGTH, "arp.hardware_length", "ARP"),
    ],
    ids=["loop", "crash", "arp"],
)
def test_the_frame_that_a_stack_dies_of_is_named_and_the_guest_goes_back(
    user: Account, tmp_path: Path, number: int, rule: str, killer: str
) -> None:
    async def scenario(session: Session) -> None:
        async with stack(session, number):
            told = await examined(session, rule)
            assert told["snapshots"]
            (row,) = told["rules"]
            assert row["verdict"] == "died"
            assert row["reason"].startswith("it answers nothing any more, after ")
            assert killer in row["reason"]
            (frame,) = row["frames"]
            seen = await session.call(
                "qemu_pcap_read", capture=told["capture"], first=int(frame.split()[0]), limit=1, detail="hex"
            )
            shown = "".join(run["hex"] for run in seen["packets"][0]["runs"])
            assert shown.startswith(row["hex"].removesuffix("..."))  # a long one is cut in the answer
            (row,) = (await examined(session, "icmp.echo"))["rules"]
            assert row["verdict"] == "kept"  # it lives again
            assert (await session.call("qemu_snapshot", action="list"))["snapshots"] == []

    with_stack(user, tmp_path, scenario, snapshots=True)


def test_fuzzing_finds_frames_that_kill_and_has_them_in_files(user: Account, tmp_path: Path) -> None:
    async def scenario(session: Session) -> None:
        async with stack(session, DIES_OF_TYPE):
            told = await examined(session, "fuzz 1 1")
            row = told["rules"][0]
            assert (row["rule"], row["verdict"]) == ("fuzz.1", "died")
            assert "it answers no health check any more, 10 times of 10; " in row["reason"]
            without_port, without_ipv6, sent, *_ = told["notes"]
            assert "give port=" in without_port
            assert "no IPv6 was seen" in without_ipv6
            assert sent.startswith("seed 1: ")
            assert any("of one more, " in each for each in session.progress)
            pcap, test = (Path(word) for word in row["reason"].split() if word.endswith(("-fuzz-1.pcap", "_fuzz_1.py")))
            seen = await session.call("qemu_pcap_read", path=str(pcap), detail="hex")
            frames = ["".join(run["hex"] for run in each["runs"]) for each in seen["packets"]]
            assert frames[-1] == row["hex"]
            assert all(frame in test.read_text() for frame in frames)
            assert (await session.call("qemu_snapshot", action="list"))["snapshots"] == []
            (row,) = (await examined(session, "icmp.echo"))["rules"]
            assert row["verdict"] == "kept"  # it lives again
            for frame in frames:
                await session.call("qemu_packet_send", hex=frame)
            assert (await session.refused("qemu_examine", what="icmp.echo", address=ADDRESS)).code == "guest.silent"
        async with stack(session, DIES_OF_ALL):
            await blames_no_frame_for_a_pulled_cable(session)

    with_stack(user, tmp_path, scenario, snapshots=True)


def test_a_kernel_that_panics_has_died_and_the_rest_is_not_judged(user: Account, tmp_path: Path) -> None:
    async def scenario(session: Session) -> None:
        async def lives() -> None:
            told = await examined(session, "icmp")
            died = [row for row in told["rules"] if row["verdict"] == "died"]
            assert [row["rule"] for row in died] == ["icmp.unknown_type"]
            assert "sysrq triggered crash" in died[0]["reason"]
            assert "ICMP type 200" in died[0]["reason"]
            (suite,) = told["suites"]
            assert (suite["kept"], suite["died"], suite["violated"], suite["silent"]) == (9, 1, 0, 0)
            assert told["rules"][-1]["reason"].startswith("the guest died in icmp.unknown_type")

        ready = await session.call("qemu_send", command=f"examined {KERNEL_DIES}", wait_for="ready", timeout=PATIENCE)
        assert ready["matched"]
        await lives()
        refused = await session.refused("qemu_examine", what="arp", address=ADDRESS)
        assert refused.code == "guest.silent"
        assert "(kernel panic" in str(refused), "its cause comes first"

    with_stack(user, tmp_path, scenario)


def test_a_guest_that_dies_of_the_first_echo_request_is_told_as_such(user: Account, tmp_path: Path) -> None:
    async def scenario(session: Session) -> None:
        async with stack(session, ARP_SELDOM):  # which lives, and is not told as dead
            refused = await session.refused("qemu_examine", what="arp", address=ADDRESS)
            assert "answers neither echo requests nor ARP" in str(refused)
        ready = await session.call("qemu_send", command=f"examined {ECHO_STOPS}", wait_for="ready", timeout=PATIENCE)
        assert ready["matched"]
        refused = await session.refused("qemu_examine", what="arp", address=ADDRESS)
        assert refused.code == "guest.silent"
        assert "answered ARP until an echo request came" in str(refused)
        refused = await session.refused("qemu_examine", what="arp", address=ADDRESS)
        assert "answers neither echo requests nor ARP" in str(refused)

    with_stack(user, tmp_path, scenario)


def test_linux_keeps_every_rule_but_those_whose_reason_is_told(user: Account) -> None:
    """From a snapshot, and with a listener."""

    async def scenario() -> None:
        async with serving(user, "--image-dir", IMAGES) as session:
            await boot_linux(session, user)
            told = await session.call("qemu_examine", what="all")
            assert (told["address"], told["port"], told["snapshots"]) == (ADDRESS, 7777, True)
            documented = {rule.name for rule in catalogue.chosen("all") if rule.linux}
            clients = {rule.name for suite in ("dns", "dhcp") for rule in catalogue.SUITES[suite]}
            found = verdicts(await session.call("qemu_examine", what="dhcp.discover"))
            assert found == {"dhcp.discover": "cannot tell"}  # no client runs
            assert set(verdicts(told)) - clients == documented
            assert sum(row["cannot_tell"] for row in told["suites"][-2:]) == len(clients)
            assert {row["rule"] for row in told["rules"] if row.get("linux")} == documented
            assert session.progress
            await keeps_what_it_has_on_a_wire_that_spoils(session)
            await names_what_linux_was_told_not_to_do(session)
            await serves_busyboxs_client(session)

    anyio.run(scenario)


async def keeps_what_it_has_on_a_wire_that_spoils(session: Session) -> None:
    told = await session.call("qemu_examine", what="impairments")
    documented = {rule.name for rule in catalogue.SUITES["impairments"] if rule.linux}
    assert verdicts(told) == dict.fromkeys(documented, "violated")
    transfers = [note for note in told["notes"] if note.startswith("impairments.transfer_")]
    assert len(transfers) == 4
    assert all(" bytes each way, all right, in " in note for note in transfers)
    (row,) = (await session.call("qemu_examine", what="impairments.transfer_loss"))["rules"]
    assert (row["verdict"], row["reason"][:10]) == ("kept", "8000 bytes")
    # What it was told not to do, by switches of Documentation/networking/ip-sysctl.rst; a listener keeps one of them.
    for switch, value in (("tcp_synack_retries", 0), ("tcp_reordering", 30)):
        await session.typed(f"echo {value} >/proc/sys/net/ipv4/{switch}")
    listens = "cat /proc/net/tcp /proc/net/tcp6 | grep -q ':1E61 [0-9A-F:]* 0A'"
    await session.typed(f"killall nc; while {listens}; do sleep 0.1; done")
    await session.typed(f"nc -ll -p 7777 -e cat & until {listens}; do sleep 0.1; done")
    for rule in ("syn_ack_lost", "fast_retransmit"):
        (row,) = (await session.call("qemu_examine", what=f"impairments.{rule}"))["rules"]
        assert row["verdict"] == "silent", row


async def names_what_linux_was_told_not_to_do(session: Session) -> None:
    """By switches of Documentation/networking/ip-sysctl.rst."""

    async def switched(**values: int) -> None:
        for switch, value in values.items():
            await session.typed(f"echo {value} >/proc/sys/net/ipv6/conf/eth0/{switch}")

    await switched(forwarding=1, accept_untracked_na=1)  # as RFC 9131 has it for routers
    (row,) = (await session.call("qemu_examine", what="ipv6.advertisement_unasked"))["rules"]
    assert (row["verdict"], row["field"]) == ("violated", "Ether.dst")
    await switched(forwarding=0, accept_untracked_na=0, drop_unsolicited_na=1, accept_ra_pinfo=0)
    (row,) = (await session.call("qemu_examine", what="ipv6.advertisement"))["rules"]
    assert (row["verdict"], row["field"]) == ("violated", "Ether.dst")
    (row,) = (await session.call("qemu_examine", what="ipv6.autoconfigured"))["rules"]
    assert row["verdict"] == "silent"


async def serves_busyboxs_client(session: Session) -> None:
    """It looks for nobody by ARP unless it is told to (-a)."""
    await session.typed("udhcpc -i eth0 -f -t 9999 -T 1 -A 1 -s /bin/true >/dev/null 2>&1 &")
    told = await session.call("qemu_examine", what="dhcp")
    left = {rule.name: "cannot tell" for rule in catalogue.SUITES["dhcp"] if rule.long}
    assert verdicts(told) == {"dhcp.decline": "silent", **left}
    assert all("ask for dhcp." in row["reason"] for row in told["rules"] if row["rule"] in left)
    await keeps_its_lease(session)


LEASES = {"renew": "kept", "rebind": "kept", "expired": "kept", "renewal_time": "silent", "rebinding_time": "silent"}


async def keeps_its_lease(session: Session) -> None:
    """It has no T1 and no T2 of a server's (networking/udhcp/dhcpc.c); its script sets the address."""
    await session.typed("killall udhcpc; echo '#!/bin/sh' >/tmp/lease; chmod +x /tmp/lease")
    await session.typed("echo 'test $1 = bound && ip addr add $ip/24 dev eth0 && echo $ip >/tmp/ip' >>/tmp/lease")
    await session.typed("echo 'test $1 = deconfig && ip addr del $(cat /tmp/ip)/24 dev eth0' >>/tmp/lease")
    await session.typed("udhcpc -i eth0 -f -t 9999 -T 1 -A 1 -s /tmp/lease >/dev/null 2>&1 &")
    found = {}
    for rule in LEASES:
        (row,) = (await session.call("qemu_examine", what=f"dhcp.{rule}"))["rules"]
        found[rule] = row["verdict"]
    assert found == LEASES


async def leaves_nothing_when_it_is_cancelled(session: Session) -> None:
    """Nor does a second examination disturb one that is in progress."""
    session.progress.clear()
    async with anyio.create_task_group() as group:
        group.start_soon(partial(session.call, "qemu_examine", what="all"))
        assert await eventually_async(lambda: bool(session.progress))
        assert (await session.refused("qemu_examine", what="arp")).code == "guest.busy"
        group.cancel_scope.cancel()
    await session.until(lambda told: not told["snapshots"], "qemu_snapshot", action="list")
    await session.ended()


async def examined_until_the_cable_is_pulled(session: Session, what: str, begun: str) -> dict[str, Any]:
    """What is told where the cable goes as soon as the progress has that word."""
    session.progress.clear()
    told: dict[str, Any] = {}

    async def examine() -> None:
        told.update(await examined(session, what))

    async with anyio.create_task_group() as group:
        group.start_soon(examine)
        assert await eventually_async(lambda: any(begun in each for each in session.progress))
        await session.call("qemu_link", up=False)
    return told


async def tells_nothing_of_a_wire_that_changed(session: Session) -> None:
    told = await examined_until_the_cable_is_pulled(session, "all", "")
    assert set(verdicts(told).values()) <= {"silent", "cannot tell"}
    assert "qemu_link changed the guest's wire in " in told["rules"][-1]["reason"]
    assert "its cable is pulled" in str(await session.refused("qemu_examine", what="icmp"))
    await session.call("qemu_link", up=True)


async def blames_no_frame_for_a_pulled_cable(session: Session) -> None:
    told = await examined_until_the_cable_is_pulled(session, "fuzz 1 1", "of one more, ")
    (row,) = told["rules"]
    assert (row["verdict"], row["reason"][:10]) == ("cannot tell", "qemu_link ")
    await session.call("qemu_link", up=True)


async def blames_no_frame_for_a_shutdown(session: Session) -> None:
    session.progress.clear()
    codes: list[str] = []

    async def examine() -> None:
        codes.append((await session.refused("qemu_examine", what="all")).code)

    async with anyio.create_task_group() as group:
        group.start_soon(examine)
        assert await eventually_async(lambda: bool(session.progress))
        await session.call("qemu_shutdown", timeout=0)
    assert codes == ["guest.exited"]


LOOP = "while true; do ping 10.0.2.99; done"


def test_u_boot_is_examined_while_a_command_runs_that_reads_its_card(outsider: Account) -> None:
    """The rootless way."""

    async def scenario() -> None:
        async with serving(outsider) as session:
            await session.boot()
            error = await session.refused("qemu_examine", what="arp")
            assert error.code == "guest.silent"
            assert "takes no frames from its card" in str(error)
            assert "0 of 215 addresses had been asked for" in str(error)
            assert "its card no buffer" in str(error)
            assert "while a command runs" in str(error)
            assert "alive" in await session.ping()
            assert "buffer that the guest's driver gave its card is full" in str(
                await session.refused("qemu_examine", what="arp")
            )
            # QEMU may take no more frames for a card that was full, until its next ping is over.
            await session.call("qemu_shutdown", timeout=0)
            await session.boot()
            assert "alive" in await session.ping()
            await session.call("qemu_send", command=LOOP, wait_for="Using", timeout=PATIENCE)
            told = await session.call("qemu_examine", what="arp")
            assert (told["address"], told["snapshots"]) == ("10.0.2.75", True)
            # It answers whoever sent it a packet, and asks for nobody. Of a guest that has little of a busy machine two
            # tries may not agree, which is no verdict either.
            found = verdicts(told)
            assert {"arp.question", "arp.question_broadcast", "arp.packet_kept"} <= set(found)
            assert set(found.values()) == {"cannot tell"}
            (row,) = (await session.call("qemu_examine", what="icmp.checksum"))["rules"]
            assert row["verdict"] == "violated"
            (row,) = (await session.call("qemu_examine", what="dns.retry"))["rules"]  # its build has no such command
            assert row["verdict"] == "cannot tell"
            assert "no DNS query came to 10.0.2.250" in row["reason"]
            await leaves_nothing_when_it_is_cancelled(session)
            stopped = await session.call("qemu_send", command="ctrl-c", enter=False, timeout=PATIENCE)
            assert stopped["matched"]
            await session.call("qemu_send", command=LOOP, wait_for="Using", timeout=PATIENCE)
            await blames_no_frame_for_a_shutdown(session)

    anyio.run(scenario)


def test_a_client_without_an_address_is_examined_by_what_it_says(outsider: Account) -> None:
    """U-Boot's has none while it asks, and nothing of it answers."""

    async def scenario() -> None:
        async with serving(outsider) as session:
            await session.boot()
            error = await session.refused("qemu_examine", what="dhcp.offer")
            assert error.code == "guest.silent"
            await session.typed("setenv autoload no")
            loop = "while true; do dhcp; done"
            await session.call("qemu_send", command=loop, wait_for="BOOTP broadcast", timeout=PATIENCE)
            for rule, verdict in (("refused", "kept"), ("decline", "silent")):  # net/bootp.c asks nobody by ARP
                told = await session.call("qemu_examine", what=f"dhcp.{rule}")
                assert (told["address"], told["health"], told["snapshots"]) == (NOWHERE, "dhcp", True)
                assert any("it has no address" in each for each in told["notes"])
                assert [row["verdict"] for row in told["rules"]] == [verdict]
            error = await session.refused("qemu_examine", what="icmp")
            assert 'what="dhcp"' in str(error)

    anyio.run(scenario)


def test_what_cannot_be_examined_is_refused(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            assert (await session.refused("qemu_examine", what="arp")).code == "guest.not_running"
            await session.boot(network=False)
            assert "arp.probe" in str(await session.refused("qemu_examine", what="arp.prob"))
            refused = await session.refused("qemu_examine", what="arp")
            assert refused.code == "guest.not_running"
            assert "the guest guest has no network" in str(refused)

    anyio.run(scenario)
