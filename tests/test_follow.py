"""What two ends said to each other, asked of real conversations."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anyio
from anyio.to_thread import run_sync as in_thread

from support import Account, Session, serving

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
