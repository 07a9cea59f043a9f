"""What two Linux kernels say to each other is found clean, with checksums left to the hardware or made."""

from __future__ import annotations

import array
import fcntl
import os
import select
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pyroute2 import IPRoute
from scapy.layers.inet import ICMP
from scapy.packet import Raw

from rawtap.packets.checks import Verdict as Sum
from rawtap.packets.checks import checksums
from rawtap.packets.explain import Examiner, Verdict
from rawtap.packets.headers import parse

HERE, THERE, ABSENT = "10.77.0.1", "10.77.0.2", "10.77.0.3"
HERE6, THERE6 = "fd77::1", "fd77::2"
PORT, CLOSED = 7777, 7778
MEBIBYTE = 1 << 20

_SO_TIMESTAMPNS, _SO_RCVBUFFORCE = 35, 33
_ETH_P_ALL = 0x0003
_SIOCETHTOOL, _STXCSUM = 0x8946, 0x17  # linux/ethtool.h

# The other end: it echoes a connection's bytes once they have ended, and every datagram.
PEER = f"""
import socket, sys, threading
sys.path[:0] = {sys.path!r}
from test_explain_wire import configure
print("started", flush=True)
sys.stdin.readline()
configure("w1", "{THERE}", "{THERE6}", offload=sys.argv[1] == "True")
def connections(family):
    server = socket.create_server(("", {PORT}), family=family)
    sys.stdout.write("listening\\n")
    sys.stdout.flush()
    while True:
        with server.accept()[0] as connection:
            data = b"".join(iter(lambda: connection.recv(65536), b""))
            connection.sendall(data)
def datagrams():
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("", {PORT}))
    sys.stdout.write("listening\\n")
    sys.stdout.flush()
    while True:
        server.sendto(*server.recvfrom(65536))
for target, *arguments in ((connections, socket.AF_INET), (connections, socket.AF_INET6), (datagrams,)):
    threading.Thread(target=target, args=arguments, daemon=True).start()
sys.stdin.readline()
"""


def configure(name: str, address: str, address6: str, *, offload: bool) -> None:
    Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("0", encoding="ascii")
    with IPRoute() as netlink:
        (index,) = netlink.link_lookup(ifname=name)
        netlink.addr("add", index=index, address=address, prefixlen=24)
        netlink.addr("add", index=index, address=address6, prefixlen=64, flags=0x02)  # IFA_F_NODAD
        if not offload:
            value = array.array("I", [_STXCSUM, 0])
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
                request = struct.pack("16sP", name.encode(), value.buffer_info()[0])
                fcntl.ioctl(control, _SIOCETHTOOL, request)
        netlink.link("set", index=index, state="up")


@dataclass
class Wire:
    tap: socket.socket
    packets: list[tuple[int, int, bytes]]
    peer: int  # its process

    def sent_again(self) -> int:
        """Segments that the two kernels have sent again, by their own count; a busy machine makes them."""
        return sum(_sent_again(each) for each in ("self", str(self.peer)))

    def drain(self) -> None:
        while select.select([self.tap], [], [], 0)[0]:
            data, ancillary, _, _ = self.tap.recvmsg(1 << 17, 64)
            seconds, nanoseconds = struct.unpack("qq", ancillary[0][2])
            self.packets.append((seconds * 10**9 + nanoseconds, len(data), data))

    def verdict(self) -> Verdict:
        """Ten seconds after the last packet, which by a ping is later than all others."""
        ping()
        self.drain()
        examiner = Examiner(1)
        for number, (at, length, data) in enumerate(self.packets, 1):
            examiner.add(number, at, length, data)
        return examiner.result(self.packets[-1][0] + 10**10)

    def sums(self) -> set[tuple[str, Sum]]:
        found = (checksums(parse(data, length, 1)) for _, length, data in self.packets)
        return {(each.name, each.verdict) for frame in found for each in frame}


def _sent_again(process: str) -> int:
    """RetransSegs of the process's network namespace."""
    lines = Path(f"/proc/{process}/net/snmp").read_text(encoding="ascii").splitlines()
    names, values = (line.split() for line in lines if line.startswith("Tcp:"))
    return int(values[names.index("RetransSegs")])


def ping(size: int = 56) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        raw.connect((THERE, 0))
        raw.send(bytes(ICMP(id=os.getpid() & 0xFFFF, seq=size) / Raw(bytes(each & 0xFF for each in range(size)))))
        while raw.recv(65536)[20]:
            pass


@pytest.fixture(params=[True, False], ids=["offload", "no offload"])
def wire(request: pytest.FixtureRequest) -> Iterator[Wire]:
    if os.geteuid() != 0:
        pytest.skip("needs root: run scripts/test.sh as root")
    command = ["unshare", "--net", sys.executable, "-c", PEER, str(request.param)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as peer, IPRoute() as netlink:  # type: ignore[call-overload]
        try:
            assert peer.stdout.readline() == "started\n"
            netlink.link("add", ifname="w0", kind="veth", peer={"ifname": "w1", "net_ns_pid": peer.pid})
            configure("w0", HERE, HERE6, offload=request.param)
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL)) as tap:
                tap.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 64 * MEBIBYTE)
                tap.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
                tap.bind(("w0", _ETH_P_ALL))
                peer.stdin.write("go\n")
                peer.stdin.flush()
                assert [peer.stdout.readline() for _ in range(3)] == ["listening\n"] * 3
                yield Wire(tap, [], peer.pid)
        finally:
            peer.kill()
            for index in netlink.link_lookup(ifname="w0"):
                netlink.link("del", index=index)


def transfer(address: str, size: int) -> None:
    with socket.create_connection((address, PORT)) as connection:
        sent = os.urandom(size)
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        assert b"".join(iter(lambda: connection.recv(65536), b"")) == sent


def test_pings_datagrams_and_transfers_are_clean(wire: Wire, request: pytest.FixtureRequest) -> None:
    sent_again = wire.sent_again()
    ping()
    ping(4000)  # in fragments
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.connect((THERE, PORT))
        for size in (1, 100, 1472, 5000):
            datagrams.send(bytes(size))
            assert len(datagrams.recv(65536)) == size
    for address in (THERE, THERE6):
        transfer(address, 10)
        transfer(address, 2 * MEBIBYTE)
    verdict = wire.verdict()
    found = [each.what for each in verdict.findings]
    assert set(found) <= {"tcp.retransmission"}
    # What was lost before it came here, and came when it was sent again, is not told from what came out of order.
    assert not found or wire.sent_again() > sent_again
    assert verdict.examined > 50
    counted = {each.kind: (each.requests, each.answered, each.unanswered) for each in verdict.exchanges}
    assert counted["ICMP echo"] == (3, 3, 0)
    assert counted["TCP"] == (2, 2, 0)
    assert counted["ARP"][2] == counted["NDP"][2] == 0
    sums = wire.sums()
    assert ("IPv4", Sum.RIGHT) in sums
    assert not {Sum.WRONG, Sum.FORBIDDEN} & {verdict for _, verdict in sums}
    is_offloaded = "no offload" not in request.node.name
    assert (("TCP", Sum.LEFT_TO_HARDWARE) in sums) is is_offloaded
    assert (("UDP", Sum.LEFT_TO_HARDWARE) in sums) is is_offloaded
    assert (("TCP", Sum.RIGHT) in sums) is not is_offloaded
    assert any("left to the hardware" in note for note in verdict.notes) is is_offloaded


def test_what_the_other_kernel_refuses_is_found(wire: Wire) -> None:
    ping()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((THERE, CLOSED))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.connect((THERE, CLOSED))
        datagrams.send(b"abc")
        with pytest.raises(ConnectionRefusedError):
            datagrams.recv(1)
        datagrams.sendto(b"abc", (ABSENT, 9))
    found = {each.what: each.says for each in wire.verdict().findings}
    assert found == {
        "tcp.refused": f"{THERE}:{CLOSED} refuses connections from {HERE}",
        "icmp.unreachable": found["icmp.unreachable"],
        "arp.no_answer": f"{HERE} asks who has {ABSENT}, and nobody answers",
    }
    assert found["icmp.unreachable"].startswith(f"{THERE} tells {HERE}: port unreachable, for UDP {HERE}:")
