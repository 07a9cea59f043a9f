"""A guest with one defect in its network stack: a boot, a capture on its card, one question, and the cause is named.

All defects are in one small program (broken_guest.c), which a Linux guest runs whose own kernel has no address.
"""

from __future__ import annotations

import gzip
import re
import socket
import struct
import subprocess
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from support import PATIENCE, Account, Session, serving
from test_linux_guest import IMAGES, PROMPT, linux_tree

SOURCE = Path(__file__).parent / "broken_guest.c"
HOST = "10.0.2.2"
HEALTHY = 0
GROUPS = 3  # each has a guest of its own: several processes share them

# By number: the code of the first finding, and words of its sentence.
DEFECTS: dict[int, tuple[str, str]] = {
    1: ("arp.reply_mismatch", "sender and target are those of the request, not exchanged"),
    2: ("arp.operation", "its bytes are swapped"),
    3: ("arp.sender_mismatch", "its bytes are in reversed order"),
    4: ("arp.no_answer", "nobody answers"),
    5: ("arp.two_addresses", "names two link addresses for itself"),
    6: ("icmp.reply_mismatch", "another sequence number than it was sent: its bytes are swapped"),
    7: ("icmp.reply_mismatch", "another identifier than it was sent"),
    8: ("icmp.checksum_wrong", "the ICMP checksum is wrong"),
    9: ("icmp.reply_differs", "with other data than it was sent"),
    10: ("ethernet.destination_group", "which is one host, in a broadcast frame"),
    11: ("ethernet.destination", "its bytes are rotated by 1"),
    12: ("icmp.reply_source", "its bytes are in reversed order"),
    13: ("icmp.no_reply", "answers only 2 of 4 requests"),
    14: ("icmp.no_reply", "answers only 2 of 4 requests"),
    15: ("ip.total_length", "total length"),
    16: ("ipv4.checksum_wrong", "the IPv4 checksum is wrong"),
    17: ("ip.ttl_zero", "a time to live of 0"),
    18: ("ethernet.source_group", "is one of a group"),
    19: ("dns.port", "its bytes are swapped"),
    20: ("dns.class", "its bytes are swapped"),
    21: ("dns.query_is_response", "the bit of a response"),
    22: ("udp.checksum_wrong", "the UDP checksum is wrong"),
    23: ("udp.length_short", "UDP length of"),
    24: ("dns.malformed", "256 questions, where 1 are meant: its bytes are swapped"),
    25: ("dhcp.request_xid", "its bytes are swapped"),
    26: ("dhcp.request_address", "its bytes are in reversed order"),
    27: ("dhcp.ack_ignored", "though it was acknowledged"),
    28: ("dhcp.offer_not_taken", "never requests it"),
    29: ("dhcp.hardware_address", "its bytes are rotated by 1"),
    30: ("dhcp.no_cookie", "its bytes are in reversed order"),
    31: ("dhcp.port", "its bytes are swapped"),
    32: ("ip.fragments_incomplete", "it is in bytes, not in units of 8 bytes"),
    33: ("tcp.checksum_wrong", "the TCP checksum is wrong"),
    34: ("tcp.handshake_ack", "its bytes are swapped"),
    35: ("ip.fragments_incomplete", "all of them say that more follow"),
    36: ("tcp.handshake_ack", "it is one too low, the SYN counts as one"),
    37: ("tcp.zero_window", "the window stays closed (zero)"),
    38: ("tcp.rst_outside_window", "a reset is outside the window"),
    39: ("tcp.fin_not_acknowledged", "the FIN is never acknowledged"),
    40: ("tcp.retransmission", "sent again that was acknowledged"),
    41: ("tcp.retransmission", "sent again that was acknowledged"),
    42: ("tcp.options", "TCP option 3 has a length of 0"),
    43: ("tcp.mss", "a largest segment of 0 bytes"),
    44: ("tcp.data_offset", "TCP data offset of 4 bytes"),
    45: ("tcp.handshake_ack", "it is one too low, the SYN counts as one"),
    46: ("icmp.reply_code", "a code that echo replies do not have"),
    47: ("ip.fragment_overlap", "fragments that overlap"),
    48: ("ip.fragments_incomplete", "the rest never comes"),
    49: ("dhcp.options", "DHCP option 12 needs 200 bytes"),
    50: ("tcp.data_at_syn", "the SYN counts as one"),
    51: ("ethernet.source_zero", "a link address of zeros"),
    52: ("ethernet.source", "The guest guest sends from 02:00:00:12:34:56"),
    53: ("ethernet.type", "its bytes are swapped"),
    54: ("arp.sender_mismatch", "sender and target hardware addresses are exchanged"),
    55: ("arp.off_link", "a router is to be asked for"),
    56: ("arp.target", "its bytes are in reversed order"),
    57: ("arp.kind_swapped", "its bytes are swapped"),
    58: ("ip.fragments_incomplete", "the flag DF has its bytes swapped"),
    59: ("icmp.reply_mismatch", "the numbers of one before"),
    60: ("icmp.reply_type", "the type is not changed"),
    61: ("ip.source_of_another", "sends from 10.0.2.2"),
    62: ("dns.malformed", "the name has no zero at its end"),
    63: ("dns.malformed", "the name is written with dots"),
    64: ("dns.type", "its bytes are swapped"),
    65: ("dhcp.no_end", "do not end with the end option"),
    66: ("dhcp.request_lacks", "without the requested address"),
    67: ("dhcp.hardware_address", "only byte 5 differs"),
    68: ("dhcp.operation", "the operation of a reply"),
    69: ("dhcp.port", "the ports are exchanged"),
    70: ("tcp.syn_changed", "another initial sequence number"),
    71: ("tcp.no_ack_flag", "without the ACK flag"),
    72: ("tcp.sequence", "its bytes are swapped"),
    73: ("tcp.sequence_skipped", "one too high"),
    74: ("tcp.ack_beyond", "acknowledged that was never sent"),
    75: ("tcp.mss", "its bytes are swapped"),
    76: ("tcp.data_after_fin", "data after the FIN"),
}
PINGED = {*range(1, 19), 46, *range(51, 62)}
PATIENT = {19, 21, 22, 24, 28, 37, 39, 62, 63, 66, 67, 71, 72}  # what must not come has 2 or 3 s
# What a packet proves that was sent before the program was ready: nothing more is waited for.
PROVEN = {20, 23, 25, 26, 29, 30, 31, 33, 34, 36, 38, *range(40, 46), 47, 49, 50, 64, 65, 68, 69, 70, *range(73, 77)}


def archive(name: str, content: bytes) -> bytes:
    """One file as a cpio archive, which the kernel unpacks behind the one before it (initramfs, "newc")."""
    parts = b""
    for path, data, mode in ((name, content, 0o100755), ("TRAILER!!!", b"", 0)):
        numbers = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path) + 1, 0)
        head = b"070701" + "".join(f"{each:08x}" for each in numbers).encode() + path.encode() + b"\0"
        parts += head.ljust(-(-len(head) // 4) * 4, b"\0") + data.ljust(-(-len(data) // 4) * 4, b"\0")
    return parts


_made: dict[Path, bytes] = {}  # by the program's source, the guest's image with it: each process makes it once


def tree_with(account: Account, tmp_path: Path, source: Path = SOURCE) -> str:
    """The Linux guest's project, with a program in its image that is named after its source: NAME_guest.c."""
    if source not in _made:
        name = source.stem.removesuffix("_guest")
        program = tmp_path / name
        subprocess.run(["gcc", "-static", "-O1", "-Wall", "-Werror", "-o", program, source], check=True)
        packed = gzip.compress(archive(f"bin/{name}", program.read_bytes()), 1)
        _made[source] = (IMAGES / "initrd").read_bytes() + packed
    (account.home / "initrd").write_bytes(_made[source])
    tree = linux_tree(account)
    settings = Path(tree, "rawtap.toml")
    settings.write_text(settings.read_text().replace(f"{IMAGES}/initrd", f"{account.home}/initrd"))
    return tree


@contextmanager
def listening() -> Iterator[None]:
    """A host that takes connections on port 8080, greets, at length where it is asked to, and ends them."""

    def serve(server: socket.socket) -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(2)
                try:
                    said = connection.recv(100)
                    connection.sendall(b"welcome" * (1000 if said == b"more!" else 1))
                except OSError:
                    continue

    with socket.create_server(("", 8080)) as server:
        # Else the kernel goes on to end a connection with a guest that is no more, and asks for it in the next test.
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 500)
        thread = threading.Thread(target=serve, args=(server,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def echo(sequence: int) -> bytes:
    message = struct.pack("!BBHHH", 8, 0, 0, 0x1234, sequence) + bytes(range(56))
    total = sum(struct.unpack(f"!{len(message) // 2}H", message))
    total = (total & 0xFFFF) + (total >> 16)
    return message[:2] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + message[4:]


async def ping(address: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        for sequence in range(1, 5):
            raw.sendto(echo(sequence), (address, 0))
            await anyio.sleep(0.05)  # one after the other, as they are sent


def address(number: int) -> str:
    """The address of the guest that has this defect."""
    return f"10.0.2.{100 + number}"


def of_others(finding: dict[str, Any], number: int, earlier: set[int]) -> bool:
    """Whether a finding speaks of guests that were there before, and not of this one.

    For half a minute the host may look for them, and tell them what became of their packets.
    """
    told = set(re.findall(r"\d+\.\d+\.\d+\.\d+", " ".join((finding["says"], finding["evidence"]))))
    return address(number) not in told and any(address(each) in told for each in earlier)


async def begun(session: Session, number: int, milliseconds: int) -> None:
    """Start the program with a defect; it answers until it is ended, and for so long after that."""
    command = f"broken {number} {milliseconds}"
    ready = await session.call("qemu_send", command=command, wait_for="ready", timeout=PATIENCE)
    assert ready["matched"], ready


async def ended(session: Session) -> None:
    """Give the program its line, and wait for its end."""
    answer = await session.call("qemu_send", command="\n", enter=False, wait_for=PROMPT, timeout=PATIENCE)
    assert answer["matched"], answer


async def run(session: Session, network: dict[str, Any], number: int) -> dict[str, Any]:
    """Run the program with a defect, ping it, and ask what is wrong on the guest's card."""
    capture = (await session.call("qemu_pcap_start", interface=network["tap"]))["capture"]
    await begun(session, number, 100 if number in PROVEN else 3300 if number in PATIENT else 1300)
    if number in {HEALTHY, *PINGED}:
        await ping(address(number))
    await ended(session)
    await session.call("qemu_pcap_stop", capture=capture)
    return await session.call("qemu_pcap_explain", capture=capture)


def with_guest(user: Account, tmp_path: Path, scenario: Callable[[Session, dict[str, Any]], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with serving(user, "--image-dir", IMAGES, "--image-dir", user.home) as session:
            booted = await session.call(
                "qemu_boot", project_root=tree_with(user, tmp_path), network=True, timeout=PATIENCE
            )
            for command in ("echo 1 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6", "ip link set eth0 up"):
                await session.call("qemu_send", command=command)
            with listening():
                await scenario(session, booted["network"])

    anyio.run(whole)


def test_a_stack_without_a_defect_is_found_without_a_fault(user: Account, tmp_path: Path) -> None:
    async def scenario(session: Session, network: dict[str, Any]) -> None:
        told = await run(session, network, HEALTHY)
        assert told["findings"] == []
        assert told["overview"].startswith("no finding in ")
        answered = {each["kind"] for each in told["exchanges"] if each["answered"] and not each["unanswered"]}
        assert answered == {"ARP", "DHCP", "DNS", "ICMP echo", "TCP"}

    with_guest(user, tmp_path, scenario)


@pytest.mark.parametrize("group", range(GROUPS))
def test_each_defect_of_a_guest_is_named_by_one_question(user: Account, tmp_path: Path, group: int) -> None:
    wrong: dict[int, Any] = {}

    async def scenario(session: Session, network: dict[str, Any]) -> None:
        numbers = sorted(DEFECTS)[group::GROUPS]
        for number in numbers:
            code, words = DEFECTS[number]
            told = await run(session, network, number)
            earlier = {each for each in numbers if each < number}
            own = [each for each in told["findings"] if not of_others(each, number, earlier)]
            first = own[0] if own else {"what": None, "says": ""}
            if first["what"] != code or words not in first["says"]:
                wrong[number] = [(each["what"], each["says"], each.get("follows")) for each in told["findings"]]

    with_guest(user, tmp_path, scenario)
    assert wrong == {}
