"""What two ends said to each other, asked of real conversations."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import socket
import ssl
import subprocess
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
from scapy.contrib.mpls import MPLS
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt
from scapy.layers.l2 import GRE, LLC, SNAP, Dot1Q, Dot3, Ether
from scapy.layers.ppp import PPP, PPPoE
from scapy.layers.vxlan import VXLAN
from scapy.packet import Raw
from scapy.utils import rdpcap, wrpcap

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
        data = b"abc" if at % 2 == 0 else b"def"
        link = Dot3() if layer.name == "LLC" else Ether(type=0x8847) if layer.name == "MPLS" else Ether()
        frames.append(link / layer / said(1 + 3 * at, data))
    return frames


PLAIN, SIX = IP(src=GUEST, dst=HOST), IPv6(src="fd00::1", dst="fd00::2")


CARRIED = [
    (PPPoE(sessionid=1) / PPP(proto=0x21) / PLAIN, PPPoE(sessionid=1) / PPP(proto=0x21) / PLAIN),
    (PLAIN, Dot1Q(vlan=5) / PLAIN),
    (LLC() / SNAP() / PLAIN, PLAIN),
    (PLAIN, LLC() / SNAP() / PLAIN),
    (PLAIN, MPLS(label=9, ttl=64) / PLAIN),
    (PLAIN, IP(src="192.0.2.1", dst="192.0.2.2") / GRE() / PLAIN),
    (Dot1Q(vlan=5) / PLAIN, PLAIN),
    (SIX, SIX / IPv6ExtHdrDestOpt()),
    (SIX / IPv6ExtHdrDestOpt(), SIX),
]


def test_all_of_a_conversation_is_followed_whatever_carries_it(user: Account) -> None:
    path = user.home / "carried.pcap"

    async def scenario(session: Session) -> None:
        for layers in CARRIED:
            wrpcap(str(path), [out(ICMP()), *behind(*layers)])
            page = await session.call("qemu_pcap_follow", path=str(path), packet=2)
            assert [each["data"] for each in page["turns"]] == ["abcdef"], layers

    path.touch()
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
            await session.call("qemu_pcap_start", interface=wire.near, max_bytes=100_000, files=3)
            wire.send(250, 1400)
            wire.send_bytes(bytes(out(UDP(sport=1, dport=2) / Raw(b"abc"))))
            row = await session.call("qemu_pcap_stop")
            last = row["packets"] + row["packets_overwritten"]
            page = await session.call("qemu_pcap_follow", packet=last)
            told = f"{row['packets_overwritten']} packets of the capture were overwritten by the ring"
            assert (page["turns"][0]["data"], page["notes"]) == ("abc", [told])

    anyio.run(scenario)


PAGE = gzip.compress(b"a page " * 3000, mtime=0)
CHUNKS = b"".join(b"%x\r\n%s\r\n" % (len(each), each) for each in (PAGE[:10], PAGE[10:])) + b"0\r\n\r\n"
TYPED = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_objects_are_saved_under_names_of_our_own_and_none_is_overwritten(user: Account) -> None:
    path = user.home / "web.pcap"
    asks = b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n"
    answer = TYPED + CHUNKS
    wrpcap(str(path), [out(said(1, asks)), back(TCP(sport=80, dport=40000, seq=1, ack=1, flags="PA") / Raw(answer))])

    async def scenario(session: Session) -> None:
        paths = set()
        for _ in range(2):
            page = await session.call("qemu_pcap_follow", path=str(path), packet=1, limit=1, save=True)
            (saved,) = page["saved"]
            file = Path(saved["path"])
            assert (file.parent, file.suffix, file.stat().st_mode & 0o777) == (user.captures, ".gz", 0o600)
            assert (file.read_bytes(), file.stat().st_uid) == (PAGE, user.uid)
            assert (saved["size_bytes"], saved["sha256"]) == (len(PAGE), hashlib.sha256(PAGE).hexdigest())
            assert (saved["asked"], saved["kind"], saved["encoding"]) == (
                "GET /../../etc/passwd 200",
                "text/html",
                "gzip",
            )
            assert (saved["side"], saved["packet"]) == ("server", 2)
            assert "lacks" not in saved
            paths.add(file)
        assert set(user.captures.iterdir()) == paths
        assert len(paths) == 2
        page = await session.call("qemu_pcap_follow", path=str(path), packet=1, limit=1)
        assert "saved" not in page

    followed(user, path, scenario)


def test_a_file_that_tftp_brought_is_saved_from_either_port(user: Account) -> None:
    path = user.home / "tftp.pcap"
    frames = [
        out(UDP(sport=4000, dport=69) / Raw(b"\0\1kernel.img\0octet\0")),
        back(UDP(sport=3333, dport=4000) / Raw(b"\0\3\0\1" + b"k" * 512)),
        out(UDP(sport=4000, dport=3333) / Raw(b"\0\4\0\1")),
        back(UDP(sport=3333, dport=4000) / Raw(b"\0\3\0\2end")),
    ]
    wrpcap(str(path), frames)

    async def scenario(session: Session) -> None:
        for number in (1, 4):
            page = await session.call("qemu_pcap_follow", path=str(path), packet=number, save=True)
            (saved,) = page["saved"]
            assert Path(saved["path"]).read_bytes() == b"k" * 512 + b"end"
            assert saved["asked"] == "RRQ kernel.img"
        page = await session.call("qemu_pcap_follow", path=str(path), packet=1)
        assert page["notes"] == []

    followed(user, path, scenario)


def test_a_damaged_capture_is_told_of_where_objects_are_saved(user: Account) -> None:
    path = user.home / "tftp.pcap"
    frames = [
        out(UDP(sport=4000, dport=69) / Raw(b"\0\1kernel.img\0octet\0")),
        back(UDP(sport=3333, dport=4000) / Raw(b"\0\3\0\1" + b"k" * 512)),
        back(UDP(sport=3333, dport=4000) / Raw(b"\0\3\0\2end")),
    ]
    wrpcap(str(path), frames)
    path.write_bytes(path.read_bytes()[:-1])

    async def scenario(session: Session) -> None:
        for number in (1, 2):
            page = await session.call("qemu_pcap_follow", path=str(path), packet=number, save=True)
            (saved,) = page["saved"]
            assert (saved["size_bytes"], saved["lacks"]) == (512, "its last block is not in the capture")
            assert page["notes"] == ["the file ends in the middle of packet 3"]

    followed(user, path, scenario)


def test_a_block_in_fragments_is_no_whole_file(user: Account) -> None:
    path = user.home / "tftp.pcap"
    options = back(UDP(sport=3333, dport=4000) / Raw(b"\0\6blksize\x004000\0"))
    block = back(UDP(sport=3333, dport=4000) / Raw(b"\0\3\0\1" + b"k" * 4000))
    asked = out(UDP(sport=4000, dport=69) / Raw(b"\0\1a\0octet\0blksize\x004000\0"))
    wrpcap(str(path), [asked, options, *fragment(block)])

    async def scenario(session: Session) -> None:
        page = await session.call("qemu_pcap_follow", path=str(path), packet=2, save=True)
        assert "saved" not in page
        assert page["notes"] == [
            "1 fragments of IP: only what is in the first of each is followed",
            "no object of HTTP/1 or TFTP was found to save",
        ]

    followed(user, path, scenario)


@pytest.mark.parametrize(("flags", "lacks"), [("FA", None), ("PA", "its end is not in the capture")])
def test_what_ends_with_its_connection_is_whole_where_that_ends(user: Account, flags: str, lacks: str | None) -> None:
    path = user.home / "web.pcap"
    own = {"sport": 80, "dport": 40000, "ack": 1}
    head = b"HTTP/1.0 200 OK\r\n\r\n"
    wrpcap(
        str(path),
        [
            out(said(1, REQUEST)),
            back(TCP(**own, seq=1, flags="PA") / Raw(head + b"abc")),
            back(TCP(**own, seq=4 + len(head), flags=flags) / Raw(b"def")),
        ],
    )

    async def scenario(session: Session) -> None:
        (saved,) = (await session.call("qemu_pcap_follow", path=str(path), packet=1, save=True))["saved"]
        assert (Path(saved["path"]).read_bytes(), saved.get("lacks")) == (b"abcdef", lacks)

    followed(user, path, scenario)


def test_an_object_that_was_not_read_to_its_end_in_the_time_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clock = chain([0, 1, 1], repeat(99))  # the call, the first packet twice, and the rest
    monkeypatch.setattr(follow, "time", SimpleNamespace(monotonic=partial(next, clock)))
    path = tmp_path / "some.pcap"
    answer = back(TCP(sport=80, dport=40000, seq=1, ack=1, flags="PA") / Raw(ANSWER[:100]))
    wrpcap(str(path), [answer, out(said(4, b"def"))])

    async def scenario() -> None:
        async with Lab(Settings(capture_dir=tmp_path)) as lab:
            done = await follow.follow(lab, None, path, follow.Wish(packet=1, save=True), TurnPage(0, 100), None)
            (saved,) = done.saved
            assert (done.cut, saved.lacks) == (True, "it was read for 20 s and no further")

    anyio.run(scenario)


def test_objects_that_find_no_place_leave_nothing(user: Account) -> None:
    path = user.home / "web.pcap"
    wrpcap(str(path), [back(TCP(sport=80, dport=40000, seq=1, ack=1, flags="PA") / Raw(TYPED + CHUNKS))])

    async def scenario(session: Session) -> None:
        user.captures.mkdir(parents=True, exist_ok=True)
        user.captures.chmod(0o500)
        error = await session.refused("qemu_pcap_follow", path=str(path), packet=1, save=True)
        assert error.code == "capture.output_unwritable"
        user.captures.chmod(0o700)
        assert list(user.captures.iterdir()) == []

    shutil.chown(path, user.uid, user.gid)
    followed(user, path, scenario)


def test_what_a_tunnel_carries_is_followed_as_lines_and_columns_have_it(user: Account) -> None:
    path = user.home / "tunnel.pcap"
    inner = Ether() / IP(src="192.0.2.1", dst="192.0.2.2") / said(1, b"abc")
    other = Ether() / IP(src="192.0.2.1", dst="192.0.2.3") / said(1, b"def")
    tunnel = UDP(sport=5000, dport=4789) / VXLAN(vni=7)
    wrpcap(str(path), [out(tunnel / inner), out(GRE() / IP(bytes(inner[IP]))), out(tunnel / other)])

    async def scenario(session: Session) -> None:
        shown = await session.call("qemu_pcap_read", path=str(path))
        sql = "SELECT source || ':' || source_port, stream, carrier, outer_source FROM packets ORDER BY number"
        rows = (await session.call("qemu_pcap_query", path=str(path), sql=sql))["rows"]
        assert [row[0] for row in rows] == [each["source"] for each in shown["packets"]] == ["192.0.2.1:40000"] * 3
        assert [row[1:] for row in rows] == [[0, "VXLAN 7", GUEST], [0, "GRE", GUEST], [1, "VXLAN 7", GUEST]]
        page = await session.call("qemu_pcap_follow", path=str(path), stream=0)
        assert (page["client"], page["packets"], page["turns"][0]["data"]) == ("192.0.2.1:40000", 2, "abc")
        page = await session.call("qemu_pcap_follow", path=str(path), stream=1)
        assert (page["server"], page["turns"][0]["data"]) == ("192.0.2.3:80", "def")

    followed(user, path, scenario)


@contextmanager
def secret_server(folder: Path) -> Iterator[int]:
    """It speaks TLS, and answers every connection with the same."""
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    own = [folder / "key.pem", folder / "cert.pem"]
    command = [*made, "-keyout", own[0], "-out", own[1], "-subj", "/CN=x", "-days", "2"]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own[1], own[0])
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            taken, _ = listening.accept()
            with context.wrap_socket(taken, server_side=True) as encrypted:
                encrypted.recv(1000)
                encrypted.sendall(TYPED + CHUNKS)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        thread.join()


def ask_in_secret(port: int, keys: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.keylog_filename = str(keys)
    with context.wrap_socket(socket.create_connection(("127.0.0.1", port))) as client:
        client.sendall(REQUEST)
        while client.recv(65536):
            pass


def test_tls_is_decrypted_with_the_operators_keys_and_told(user: Account, tmp_path: Path) -> None:
    keys, early = user.home / "keys.log", user.home / "early.log"

    async def scenario() -> None:
        with secret_server(tmp_path) as port:
            more = ("--allow-interface", "lo", "--tls-keys", keys, "--read-dir", user.home)
            async with serving(user, *more) as session:
                started = await session.call("qemu_pcap_start", interface="lo", filter=f"tcp port {port}")
                await in_thread(ask_in_secret, port, early)
                await session.call("qemu_pcap_stop")
                lacking = await session.call("qemu_pcap_follow", stream=0, limit=1)
                assert f"TLS is not decrypted: {keys} cannot be read: No such file or directory" in lacking["notes"]
                keys.write_text("CLIENT_RANDOM 00 00\n")
                shutil.chown(keys, user.uid, user.gid)
                others = await session.call("qemu_pcap_follow", stream=0, limit=1)
                assert f"TLS is not decrypted: no secret in {keys} is of this conversation" in others["notes"]
                assert others["client_bytes"] > len(REQUEST)
                keys.write_bytes(early.read_bytes())
                page = await session.call("qemu_pcap_follow", stream=0, save=True, search="HTTP/1.1 200")
                assert (page["client_bytes"], page["server_bytes"]) == (len(REQUEST), len(TYPED + CHUNKS))
                assert page["turns"][0]["data"] == "GET /a HTTP/1.0\nHost: x\n\n"
                assert page["found"][0]["offset"] == len(REQUEST)
                assert "decrypted with the operator's keys" in page["notes"][0]
                (saved,) = page["saved"]
                assert Path(saved["path"]).read_bytes() == PAGE
                rest = await session.call("qemu_pcap_follow", stream=0, format="hex", offset=len(REQUEST), limit=8)
                assert rest["turns"][0]["data"] == TYPED[:8].hex()
                frames = list(rdpcap(started["path"]))
                # What it says last is the page; behind that is an alert, which is short.
                lost = [each for each in frames if each[TCP].sport == port and len(each[TCP].payload) > len(PAGE)][-1]
                wrpcap(str(cut := user.home / "cut.pcap"), [each for each in frames if each is not lost])
                shutil.chown(cut, user.uid, user.gid)
                part = await session.call("qemu_pcap_follow", path=str(cut), stream=0, save=True)
                assert (part["client_bytes"], part["missing_bytes"]) == (len(REQUEST), 0)
                assert any("bytes are not in the capture, nor is what they say" in each for each in part["notes"])
                assert any("nothing is decrypted of the" in each and "server" in each for each in part["notes"])

    anyio.run(scenario)


def test_without_keys_nothing_is_decrypted(user: Account, tmp_path: Path) -> None:
    async def scenario() -> None:
        with secret_server(tmp_path) as port:
            async with serving(user, "--allow-interface", "lo") as session:
                await session.call("qemu_pcap_start", interface="lo", filter=f"tcp port {port}")
                await in_thread(ask_in_secret, port, user.home / "keys.log")
                await session.call("qemu_pcap_stop")
                page = await session.call("qemu_pcap_follow", stream=0, limit=3, format="hex")
                assert page["turns"][0]["data"] == "160301"
                assert not any("TLS" in note for note in page["notes"])

    anyio.run(scenario)
