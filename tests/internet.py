"""An "internet" of the tests' own: another network namespace behind an uplink, with name, web and file servers."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

UPLINK, FAR = "up0", "far0"
SERVER, SERVER6 = "198.51.100.1", "2001:db8:1::1"  # RFC 5737 and RFC 3849: for examples
HOST, HOST6 = "198.51.100.2", "2001:db8:1::2"
NAME = "www.example.com"
FILE, TEXT = "hello.txt", "hello from outside\n"
DNSMASQ = ["dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--no-hosts", "--no-resolv", "--bind-interfaces"]

# A file of one block, from the port that was asked, which most servers of TFTP do not do: NAT lets no other answer in
# (RFC 1350 4, which has the server choose a new one).
_TFTP = """
import socket, sys
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("", 69))
print("serving", flush=True)
while True:
    request, client = server.recvfrom(2048)
    if request[:2] == bytes([0, 1]):
        server.sendto(bytes([0, 3, 0, 1]) + sys.argv[1].encode(), client)
"""

_CLONE_NEWNET = 0x40000000
_PYTHON = "/usr/bin/python3"


def run(*command: str) -> str:
    """Run a command that must succeed; what it says."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@dataclass
class Internet:
    """The namespace of the process `pid`; `log` is its name server's."""

    pid: int
    log: Path
    _tap: socket.socket

    def run(self, *command: str) -> str:
        """Run a command in there."""
        return run("nsenter", "-t", str(self.pid), "-n", *command)

    def queries(self) -> list[str]:
        """What its name server was asked."""
        return [line for line in self.log.read_text(encoding="utf-8").splitlines() if "query[" in line]

    def frames(self) -> list[bytes]:
        """What came in by the uplink since the last look."""
        found = []
        while True:
            try:
                frame, address = self._tap.recvfrom(65536, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return found
            if address[2] != socket.PACKET_OUTGOING:
                found.append(frame)


@contextmanager
def internet(*, ipv6: bool = False, route: bool = True) -> Iterator[Internet]:
    """Make it, with this run's default route to it and its name server in this run's resolv.conf."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rawtap-internet-")))
        folder.chmod(0o755)
        (folder / FILE).write_text(TEXT, encoding="ascii")
        holder = stack.enter_context(started("unshare", "--net", "sh", "-c", "echo up; exec cat", until="up"))
        run("ip", "link", "add", UPLINK, "type", "veth", "peer", "name", FAR, "netns", str(holder))
        stack.callback(run, "ip", "link", "del", UPLINK)
        log = folder / "log"
        log.touch()
        inside = ("nsenter", "-t", str(holder), "-n")
        _configure(inside, ipv6=ipv6, route=route)
        names = f"--host-record={NAME},{SERVER}" + (f",{SERVER6}" if ipv6 else "")
        served = [names, "--log-queries", f"--log-facility={log}", "--user=root"]
        stack.enter_context(started(*inside, *DNSMASQ, *served))
        stack.enter_context(started(*inside, _PYTHON, "-c", _TFTP, TEXT, until="serving"))
        web = [_PYTHON, "-u", "-m", "http.server", "80", "--bind", "::", "--directory", str(folder)]
        stack.enter_context(started(*inside, *web, until="Serving HTTP"))
        assert _is_up(log)
        stack.enter_context(resolv_conf(folder, SERVER))
        yield Internet(holder, log, stack.enter_context(_listener(holder)))


def _configure(inside: tuple[str, ...], *, ipv6: bool, route: bool) -> None:
    run(*inside, "ip", "link", "set", "lo", "up")
    run(*inside, "ip", "addr", "add", f"{SERVER}/24", "dev", FAR)
    run("ip", "addr", "add", f"{HOST}/24", "dev", UPLINK)
    if ipv6:
        Path(f"/proc/sys/net/ipv6/conf/{UPLINK}/disable_ipv6").write_text("0", encoding="ascii")
        run(*inside, "ip", "addr", "add", f"{SERVER6}/64", "dev", FAR, "nodad")
        run("ip", "addr", "add", f"{HOST6}/64", "dev", UPLINK, "nodad")
    else:
        run(*inside, "sysctl", "-qw", f"net.ipv6.conf.{FAR}.disable_ipv6=1")
    run(*inside, "ip", "link", "set", FAR, "up")
    run("ip", "link", "set", UPLINK, "up")
    if route:
        run("ip", "route", "add", "default", "via", SERVER)
    if route and ipv6:
        run("ip", "route", "add", "default", "via", SERVER6)
    # Echo requests by ordinary users, which pasta needs for them; systemd allows them as well.
    Path("/proc/sys/net/ipv4/ping_group_range").write_text("0 2147483647", encoding="ascii")


@contextmanager
def started(*command: str, until: str = "") -> Iterator[int]:
    """A process, once it has said `until`; ended with the block."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        assert process.stdout is not None
        said = ""
        while until not in said:
            line = process.stdout.readline().decode()
            assert line, said
            said += line
        yield process.pid
    finally:
        process.kill()
        process.communicate()


def _is_up(log: Path) -> bool:
    from support import eventually

    return eventually(lambda: "started, version" in log.read_text(encoding="utf-8"))


@contextmanager
def _listener(pid: int) -> Iterator[socket.socket]:
    """A packet socket on the far end of the uplink."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/proc/{pid}/ns/net", "rb") as there, open("/proc/thread-self/ns/net", "rb") as here:  # noqa: PTH123
        assert libc.setns(there.fileno(), _CLONE_NEWNET) == 0
        try:
            listener = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(0x0003))
            listener.bind((FAR, 0x0003))
        finally:
            assert libc.setns(here.fileno(), _CLONE_NEWNET) == 0
    with listener:
        yield listener


@contextmanager
def resolv_conf(folder: Path, server: str) -> Iterator[None]:
    """Have `server` in /etc/resolv.conf, in this run's mounts."""
    file = folder / f"resolv.conf-{server}"
    file.write_text(f"# of a test\nnameserver {server}\n", encoding="ascii")
    target = os.path.realpath("/etc/resolv.conf")
    run("mount", "--bind", str(file), target)
    try:
        yield
    finally:
        run("umount", target)


@contextmanager
def resolver_on_loopback(folder: Path) -> Iterator[None]:
    """A name server at 127.0.0.53 of this run's namespace, as systemd-resolved has it, and in resolv.conf."""
    command = [*DNSMASQ, "--listen-address=127.0.0.53", f"--server={SERVER}", "--log-facility=-"]
    with started(*command, until="started, version"), resolv_conf(folder, "127.0.0.53"):
        yield
