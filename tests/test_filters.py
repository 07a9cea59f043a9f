"""Filters that are slow, wrong or hostile, given to the real server: each is refused at once, and nobody else waits."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from support import Account, Session, Wire, children_of, command_of, eventually_async, open_files, serving

SLOW = "port " + " or ".join(map(str, range(289)))  # 6 s for libpcap; 1911 characters
SLOW_TO_READ = "port " + " or ".join(map(str, range(280))) + " or host example.com"  # its code alone takes 1 s


ANSWERED_MEANWHILE = 3  # calls, in the second that the filter is given; it is 20 and more on a machine that idles


def compilers_of(session: Session) -> list[int]:
    """The server's children but for the trimmer of its files."""
    return [pid for pid in children_of(session.pid) if "/capture/trimmer.py" not in command_of(pid)]


@pytest.mark.parametrize("slow", [SLOW, SLOW_TO_READ], ids=["program", "text"])
def test_a_slow_filter_is_refused_in_about_a_second_and_others_are_answered_meanwhile(
    user: Account, wire: Wire, slow: str
) -> None:
    events: list[str] = []

    async def scenario() -> None:
        async with serving(user, "--allow-interface", wire.near) as session:
            refused = anyio.Event()
            async with anyio.create_task_group() as group:

                async def start() -> None:
                    events.append(str(await session.refused("qemu_pcap_start", interface=wire.near, filter=slow)))
                    refused.set()

                group.start_soon(start)
                while not refused.is_set():
                    await session.call("qemu_status")
                    events.append("status")
            assert list(user.captures.glob("*")) == []
            await session.call("qemu_pcap_start", interface=wire.near, filter="ether proto 0x88b5")
            wire.send(3)
            row = await session.call("qemu_pcap_stop")
            assert row["packets"] == 3
            text = str(await session.refused("qemu_pcap_read", path=row["path"], filter=slow))
            assert text.startswith("capture.bad_filter: ")

    anyio.run(scenario)
    (refusal,) = (each for each in events if each != "status")
    assert events.index(refusal) >= ANSWERED_MEANWHILE
    assert refusal.startswith("capture.bad_filter: ")
    assert "not done after 1 s" in refusal or "names are not looked up" in refusal


def test_a_slow_filter_at_boot_leaves_nothing(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            network = {"network": True, "capture": True, "capture_filter": SLOW}
            text = str(await session.refused("qemu_boot", profile="u-boot-riscv64", **network))
            assert text.startswith("capture.bad_filter: ")
            assert (await session.call("qemu_status"))["guests"] == []
            assert await eventually_async(lambda: compilers_of(session) == [])

    anyio.run(scenario)


def test_filters_of_every_kind_leave_no_process_and_no_descriptor(user: Account, wire: Wire) -> None:
    async def scenario() -> None:
        async with serving(user, "--allow-interface", wire.near) as session:

            async def round_() -> None:
                for good in ("", "icmp", "tcp[tcpflags] & tcp-syn != 0", "vlan and ip", "ip6 proto 6"):
                    await session.call("qemu_pcap_start", interface=wire.near, filter=good)
                    await session.call("qemu_pcap_stop")
                for bad in (
                    SLOW,
                    "udp prot",
                    "host example.com",
                    "wlan type data",
                    "icmp\0",
                    "ip" * 5000,
                    "ip6 protochain 6",
                ):
                    text = str(await session.refused("qemu_pcap_start", interface=wire.near, filter=bad))
                    assert text.startswith("capture.bad_filter: ")

            await round_()
            files = open_files(session.pid)
            await round_()
            assert await eventually_async(lambda: compilers_of(session) == [])
            assert open_files(session.pid) == files

    anyio.run(scenario)
    assert len(list(user.captures.glob("*"))) == 10


def test_a_filter_for_another_link_type_says_so(user: Account, wire: Wire) -> None:
    async def scenario() -> None:
        async with serving(user, "--allow-interface", wire.near) as session:
            text = str(await session.refused("qemu_pcap_start", interface=wire.near, filter="wlan type data"))
            assert "libpcap: 802.11 link-layer types supported only on 802.11" in text

    anyio.run(scenario)


def test_a_name_is_refused_at_once_and_the_dns_is_not_asked(user: Account, wire: Wire, tmp_path: Path) -> None:
    log = tmp_path / "strace"
    trace = ("strace", "-f", "-qq", "-e", "trace=socket,connect", "-o", str(log))

    async def scenario() -> None:
        async with serving(user, "--allow-interface", wire.near, before=trace) as session:
            for name in ("host example.com", "host 1.2.3.4.5", "net example", "host \\ip", "host face:1"):
                text = str(await session.refused("qemu_pcap_start", interface=wire.near, filter=name))
                assert "use a numeric address" in text
            await session.call("qemu_pcap_start", interface=wire.near, filter="tcp port domain")

    anyio.run(scenario)
    text = log.read_text(encoding="utf-8")
    assert "AF_PACKET" in text  # it sees sockets
    assert "htons(53)" not in text
