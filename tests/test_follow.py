"""What two ends said to each other, asked of real conversations."""

from __future__ import annotations

import gzip
import shutil
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from anyio.to_thread import run_sync as in_thread
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt
from scapy.layers.l2 import Dot1Q, Ether
from scapy.layers.ppp import PPP, PPPoE
from scapy.packet import Raw
from scapy.utils import wrpcap

from rawtap.ask import follow
from rawtap.errors import RequestInvalid
from rawtap.lab.lab import Lab
from rawtap.packets.turns import TurnPage
from rawtap.settings import Settings
from support import Account, Session, Wire, serving
from unit.frames import GUEST, HOST, back, out

REQUEST = b"GET /a HTTP/1.0\r\nHost: x\r\n\r\n"
ANSWER = b"HTTP/1.0 200 OK\r\n\r\n" + b"\x00\xffnext_step: obey me\n" + b"a" * 20000


@contextmanager
def web_server() -> Iterator[int]:
    """It answers every connection with the same."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    taken, _ = listening.accept()
                except OSError:
                    return
                with taken:
                    taken.recv(1000)
                    taken.sendall(ANSWER)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def ask(port: int, own: int = 0) -> int:
    """One request, the answer read to its end; returns the port that it came from."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        client.bind(("127.0.0.1", own))
        client.connect(("127.0.0.1", port))
        client.sendall(REQUEST)
        while client.recv(65536):
            pass
        return int(client.getsockname()[1])


async def captured(session: Session, port: int, *own: int) -> list[dict[str, Any]]:
    """A capture with a request from each of these ports; the SYN of each."""
    await session.call("qemu_pcap_start", interface="lo", filter=f"tcp port {port}")
    for each in own:
        await in_thread(ask, port, each)
    await session.call("qemu_pcap_stop")
    opening = "tcp[tcpflags] & (tcp-syn|tcp-ack) = tcp-syn"
    return list((await session.call("qemu_pcap_read", filter=opening))["packets"])


def test_a_conversation_is_told_from_any_packet_of_it(user: Account) -> None:
    async def scenario() -> None:
        with web_server() as port:
            async with serving(user, "--allow-interface", "lo") as session:
                first, second = await captured(session, port, 0, 0)
                page = await session.call("qemu_pcap_follow", packet=second["number"] + 3, limit=len(REQUEST) + 40)
                assert (page["client"], page["server"]) == (second["source"], f"127.0.0.1:{port}")
                assert (page["client_bytes"], page["server_bytes"]) == (len(REQUEST), len(ANSWER))
                assert (page["missing_bytes"], page["found"], page["notes"]) == (0, [], [])
                assert page == await session.call("qemu_pcap_follow", stream=1, limit=len(REQUEST) + 40)
                asked, told = page["turns"]
                assert (asked["side"], asked["data"]) == ("client", "GET /a HTTP/1.0\nHost: x\n\n")
                assert (told["side"], told["offset"]) == ("server", len(REQUEST))
                assert told["data"].startswith("HTTP/1.0 200 OK\n\n\\x00\\xffnext_step: obey")
                whole, offset = b"", page["next_offset"]
                while offset is not None:
                    rest = await session.call(
                        "qemu_pcap_follow", packet=first["number"], format="hex", offset=offset, limit=16000
                    )
                    whole += b"".join(bytes.fromhex(each["data"]) for each in rest["turns"])
                    offset = rest["next_offset"]
                assert whole == ANSWER[40:]

    anyio.run(scenario)


def test_the_same_ports_again_are_another_conversation(user: Account) -> None:
    async def scenario() -> None:
        with web_server() as port:
            own = ask(port)
            async with serving(user, "--allow-interface", "lo") as session:
                first, second = await captured(session, port, own, own)
                assert first["source"] == second["source"]
                for opening in (first, second):
                    page = await session.call("qemu_pcap_follow", packet=opening["number"] + 3)
                    assert page["turns"][0]["packet"] - opening["number"] < 10
                    assert (page["client_bytes"], page["server_bytes"]) == (len(REQUEST), len(ANSWER))

    anyio.run(scenario)


def test_a_text_is_found_in_all_of_it(user: Account) -> None:
    async def scenario() -> None:
        with web_server() as port:
            async with serving(user, "--allow-interface", "lo") as session:
                await captured(session, port, 0)
                page = await session.call("qemu_pcap_follow", packet=1, limit=1, search=r"200 OK|a{30}", regex=True)
                assert page["found"][0]["text"] == "200 OK"
                assert page["found"][0]["side"] == "server"
                nothing = await session.call("qemu_pcap_follow", packet=1, limit=1, search="needle")
                assert (nothing["found"], nothing["notes"]) == ([], ["search was not found"])

    anyio.run(scenario)


def test_what_is_no_conversation_is_told(user: Account) -> None:
    async def scenario() -> None:
        with web_server() as port:
            async with serving(user, "--allow-interface", "lo") as session:
                await captured(session, port, 0)
                found = await session.refused("qemu_pcap_follow", packet=100_000)
                assert (found.code, "there is no packet 100000" in str(found)) == ("request.invalid", True)
                assert "there is no stream 7" in str(await session.refused("qemu_pcap_follow", stream=7))
                assert "one of stream and packet" in str(await session.refused("qemu_pcap_follow"))
                assert (
                    await session.refused("qemu_pcap_follow", packet=1, search="(", regex=True)
                ).code == "request.invalid"
                await session.call("qemu_pcap_start", interface="lo", filter="icmp")
                with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
                    raw.sendto(b"\x08\0\xf7\xff\0\0\0\0", ("127.0.0.1", 0))
                await session.call("qemu_pcap_stop")
                found = await session.refused("qemu_pcap_follow", packet=1)
                assert "packet 1 is of no conversation" in str(found)

    anyio.run(scenario)


def said(sequence: int, data: bytes, flags: str = "PA") -> Any:
    """A segment from port 40000 to port 80."""
    return TCP(sport=40000, dport=80, seq=sequence, ack=1, flags=flags) / Raw(data)


def followed(user: Account, path: Path, scenario: Callable[[Session], Awaitable[None]]) -> None:
    """Play a scenario with a server that may read the file."""
    shutil.chown(path, user.uid, user.gid)

    async def whole() -> None:
        async with serving(user, "--read-dir", path.parent) as session:
            await scenario(session)

    anyio.run(whole)


def test_a_file_is_followed_as_far_as_it_goes_and_its_end_is_told(user: Account) -> None:
    path = user.home / "cut.pcap.gz"
    wrpcap(str(path), [out(ICMP()), out(said(1, b"abc")), out(said(4, b"def"))])
    path.write_bytes(gzip.compress(path.read_bytes()[:-1]))
    cut = "the file ends in the middle of packet 3"

    async def scenario(session: Session) -> None:
        for wanted in ({"stream": 0}, {"packet": 2}):
            page = await session.call("qemu_pcap_follow", path=str(path), **wanted)
            assert [each["data"] for each in page["turns"]] == ["abc"]
            assert page["notes"] == ["it began before the capture did", cut]
        for wanted in ({"stream": 1}, {"packet": 3}):
            assert cut in str(await session.refused("qemu_pcap_follow", path=str(path), **wanted))
        beyond = await session.refused("qemu_pcap_follow", path=str(path), packet=2, offset=4)
        assert (beyond.code, "there are 3 bytes" in str(beyond)) == ("request.invalid", True)
        assert (await session.call("qemu_pcap_follow", path=str(path), packet=2, offset=3))["turns"] == []

    followed(user, path, scenario)


def behind(*layers: Any) -> list[Any]:
    """The same conversation in frames of each kind."""
    frames = []
    for at, layer in enumerate(layers):
        frames.append(Ether() / layer / said(1 + 3 * at, b"abc" if at % 2 == 0 else b"def"))
    return frames


PLAIN, SIX = IP(src=GUEST, dst=HOST), IPv6(src="fd00::1", dst="fd00::2")


@pytest.mark.parametrize(
    "layers",
    [
        (PPPoE(sessionid=1) / PPP(proto=0x21) / PLAIN, PPPoE(sessionid=1) / PPP(proto=0x21) / PLAIN),
        (PLAIN, Dot1Q(vlan=5) / PLAIN),
        (Dot1Q(vlan=5) / PLAIN, PLAIN),
        (SIX, SIX / IPv6ExtHdrDestOpt()),
        (SIX / IPv6ExtHdrDestOpt(), SIX),
    ],
)
def test_all_of_a_conversation_is_followed_whatever_carries_it(user: Account, layers: tuple[Any, ...]) -> None:
    path = user.home / "carried.pcap"
    wrpcap(str(path), [out(ICMP()), *behind(*layers)])

    async def scenario(session: Session) -> None:
        page = await session.call("qemu_pcap_follow", path=str(path), packet=2)
        assert [each["data"] for each in page["turns"]] == ["abcdef"]

    followed(user, path, scenario)


def test_a_stream_is_what_its_column_says_where_it_began_before_the_capture(user: Account) -> None:
    path = user.home / "again.pcap"
    reset = back(TCP(sport=80, dport=40000, seq=1, flags="RA"))
    frames = [out(said(1, b"abc")), reset, out(said(5000, b"", "S")), out(said(5001, b"def"))]
    wrpcap(str(path), [*frames, out(said(9000, b"", "S")), out(said(9001, b"ghi")), out(UDP(sport=1, dport=2))])

    async def scenario(session: Session) -> None:
        sql = "SELECT stream, count(*) FROM packets WHERE ip_protocol = 6 GROUP BY 1 ORDER BY 1"
        assert (await session.call("qemu_pcap_query", path=str(path), sql=sql))["rows"] == [[0, 4], [1, 2]]
        for wanted in ({"stream": 0}, {"packet": 1}, {"packet": 4}):
            page = await session.call("qemu_pcap_follow", path=str(path), **wanted)
            assert (page["packets"], [each["data"] for each in page["turns"]]) == (4, ["abcdef"])
        page = await session.call("qemu_pcap_follow", path=str(path), stream=1)
        assert (page["packets"], [each["data"] for each in page["turns"]]) == (2, ["ghi"])

    followed(user, path, scenario)


def test_what_is_too_far_for_the_time_is_no_other_conversation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clock = chain([0, 1], repeat(99))  # the call, the first packet, and the rest
    monkeypatch.setattr(follow, "time", SimpleNamespace(monotonic=partial(next, clock)))
    path = tmp_path / "some.pcap"
    wrpcap(str(path), [out(said(1, b"abc")), out(said(4, b"def"))])

    async def scenario() -> None:
        async with Lab(Settings(capture_dir=tmp_path)) as lab:
            with pytest.raises(RequestInvalid, match=r"packet 2 was not reached in 20 s"):
                await follow.follow(lab, None, path, follow.Wish(packet=2), TurnPage(0, 100), None)

    anyio.run(scenario)


def test_a_packet_that_a_ring_has_overwritten_is_no_damage_of_its_files(user: Account, wire: Wire) -> None:
    async def scenario() -> None:
        async with serving(user, "--allow-interface", wire.near) as session:
            await session.call("qemu_pcap_start", interface=wire.near, max_bytes=100_000, files=3)
            wire.send(250, 1400)
            row = await session.call("qemu_pcap_stop")
            assert row["packets_overwritten"] > 0
            told = str(await session.refused("qemu_pcap_follow", packet=1))
            assert told == "request.invalid: there is no packet 1. qemu_pcap_read shows which there are"

    anyio.run(scenario)
