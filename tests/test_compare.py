"""Two captures, before and after a change, compared by a real server."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import anyio
from scapy.layers.dns import DNS, DNSQR
from scapy.layers.inet import ICMP, TCP, UDP
from scapy.packet import Raw
from scapy.utils import wrpcap

from support import PATIENCE, Account, Session, serving
from unit.frames import back, out

PAGE = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes"
Timed = tuple[float, Any]


def asks(at: float, name: str, rcode: int, delay: float) -> list[Timed]:
    number = len(name)
    return [
        (at, out(UDP(sport=4000, dport=53) / DNS(id=number, qd=DNSQR(qname=name)))),
        (at + delay, back(UDP(sport=53, dport=4000) / DNS(id=number, qr=1, rcode=rcode, qd=DNSQR(qname=name)))),
    ]


def connects(at: float, port: int, answers: float) -> list[Timed]:
    """A connection whose handshake takes a tenth of the time until the answer."""
    said = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    own, theirs = {"sport": 5000, "dport": port}, {"sport": port, "dport": 5000}
    end = 101 + len(said)
    return [
        (at, out(TCP(**own, flags="S", seq=100))),
        (at + answers / 10, back(TCP(**theirs, flags="SA", seq=700, ack=101))),
        (at + answers / 10 + 0.001, out(TCP(**own, flags="A", seq=101, ack=701))),
        (at + 0.2, out(TCP(**own, flags="PA", seq=101, ack=701) / Raw(said))),
        (at + 0.2 + answers, back(TCP(**theirs, flags="PA", seq=701, ack=end) / Raw(PAGE))),
    ]


def save(account: Account, name: str, frames: list[Timed]) -> Path:
    made = []
    for at, frame in frames:
        frame.time = 1_700_000_000 + at
        made.append(frame)
    path = account.home / name
    wrpcap(str(path), made)
    shutil.chown(path, account.uid, account.gid)
    return path


def test_what_a_change_did_is_told_in_one_call_causes_first(user: Account) -> None:
    before = save(user, "before.pcap", [*asks(0, "one.example", 0, 0.01), *connects(1, 80, 0.02)])
    wrong = (5.0, out(ICMP(id=1, seq=1) / Raw(b"x"), chksum=0x1234))
    after = save(user, "after.pcap", [*asks(0, "one.example", 3, 0.05), *connects(1, 80, 0.2), wrong])

    async def scenario() -> None:
        async with serving(user, "--read-dir", user.home) as session:
            found = await session.call("qemu_pcap_explain", path=str(after), compare=str(before))
            told = [(each["how"], each["what"], each["name"]) for each in found["changes"]]
            assert told[0] == ("new", "finding", "ipv4.checksum_wrong 10.0.2.15")
            assert ("slower", "delay", "DNS 10.0.2.15 > 10.0.2.2") in told
            assert ("slower", "delay", "TCP 10.0.2.15 > 10.0.2.2:80") in told
            assert ("slower", "delay", "first data of 10.0.2.2:80") in told
            assert ("new", "name", "one.example A NXDOMAIN") in told
            assert ("gone", "name", "one.example A NOERROR") in told
            assert ("new", "protocol", "ICMP") in told
            assert not any(what == "conversation" for _, what, _ in told)
            assert {each["what"] for each in found["findings"]} >= {"ipv4.checksum_wrong"}
            (slower,) = [each for each in found["changes"] if each["name"] == "first data of 10.0.2.2:80"]
            assert (round(slower["before"], 3), round(slower["after"], 3)) == (0.02, 0.2)
            turned = await session.call("qemu_pcap_explain", path=str(before), compare=str(after))
            assert turned["findings"] == []
            assert ("faster", "delay", "DNS 10.0.2.15 > 10.0.2.2") in [
                (each["how"], each["what"], each["name"]) for each in turned["changes"]
            ]
            same = await session.call("qemu_pcap_explain", path=str(after), compare=str(after))
            assert (same["changes"], same["findings"]) == ([], [])
            assert "before and after are the same packets" in same["notes"]
            cut = user.home / "cut.pcap"
            cut.write_bytes(before.read_bytes()[:-1])
            shutil.chown(cut, user.uid, user.gid)
            for this, that, which in ((cut, before, "after"), (before, cut, "before")):
                part = await session.call("qemu_pcap_explain", path=str(this), compare=str(that))
                assert f"{which}: the file ends in the middle of packet 7" in part["notes"]

    anyio.run(scenario)


def test_a_capture_is_compared_with_the_one_before_it(each_way: Account) -> None:
    async def scenario() -> None:
        async with serving(each_way) as session:
            await session.boot(network="user")
            first = await pinged(session)
            second = await pinged(session, "ping 10.0.2.99", wait_for="Using")
            found = await session.call("qemu_pcap_explain", capture=second, compare=first)
            told = {(each["how"], each["what"]) for each in found["changes"]}
            assert ("new", "unanswered") in told or ("new", "finding") in told
            assert ("gone", "protocol") in told
            assert not any("running" in note or "filters" in note for note in found["notes"])
            await session.call("qemu_pcap_start", filter="arp")
            found = await session.call("qemu_pcap_explain", compare=first)
            assert "after: it is still running" in found["notes"]
            assert any("the captures have other filters, '' and 'arp'" in note for note in found["notes"])

    async def pinged(session: Session, command: str = "ping 10.0.2.2", **more: str) -> str:
        started = await session.call("qemu_pcap_start")
        await session.call("qemu_send", command=f"setenv ipaddr 10.0.2.75; {command}", **more)
        if more:  # U-Boot asks for ten seconds, and one of them tells that nobody answers
            await session.call("qemu_pcap_wait", filter="arp", since="start", timeout=PATIENCE)
            await session.call("qemu_pcap_wait", filter="icmp", absent=True, timeout=1.1)
        await session.call("qemu_pcap_stop", capture=started["capture"])
        return str(started["capture"])

    anyio.run(scenario)


def test_what_cannot_be_compared_is_said(user: Account) -> None:
    path = save(user, "one.pcap", asks(0, "one.example", 0, 0.01))

    async def scenario() -> None:
        async with serving(user, "--read-dir", user.home) as session:
            error = await session.refused("qemu_pcap_explain", path=str(path), compare="nothing")
            assert error.code == "capture.unknown"
            error = await session.refused("qemu_pcap_explain", path=str(path), compare=f"{user.home}/no.pcap")
            assert error.code == "capture.unreadable"
            error = await session.refused(
                "qemu_pcap_explain", path=str(path), compare=str(path), cursor="1-1-1-00000000"
            )
            assert error.code == "request.invalid"
            part = await session.call("qemu_pcap_explain", path=str(path), compare=str(path), filter="udp")
            assert any("are not compared: a filter is given" in note for note in part["notes"])

    anyio.run(scenario)
