"""What the tests share: accounts, a client of the real server, a wire to send on, and looks at the system."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self

import anyio
import fastjsonschema
import pytest
from jsonschema import Draft202012Validator
from jsonschema.protocols import Validator
from mcp import Client, StdioServerParameters, stdio_client
from mcp.client.extension import ClientExtension
from mcp_types import CallToolResult, TextContent
from pyroute2 import IPRoute

from rawtap.tools.every import TOOLS

RAWTAP = Path(sys.prefix) / "bin" / "rawtap"
PROTOCOL = 0x88B5  # IEEE 802 local experimental EtherType 1
PCAP_HEADER, RECORD_HEADER = 24, 16
# Seconds for what comes for certain, however slow and busy the machine is: only a defect makes a test wait so long.
PATIENCE = 120.0


@dataclass(frozen=True)
class Account:
    """Who runs the server, and where its home is."""

    name: str
    uid: int
    gid: int
    home: Path
    path: str = "/usr/bin:/bin"
    groups: str = "--init-groups"
    more: tuple[str, ...] = ()  # of the environment, like "NAME=value"
    within: tuple[str, ...] = ()  # what its programs are started by

    @property
    def captures(self) -> Path:
        """Where its captures go by default."""
        return self.home / ".local/state/rawtap/captures"

    def command(self, *arguments: str | Path) -> list[str]:
        """A command line that runs `arguments` as this account, with a clean environment."""
        become = ["setpriv", f"--reuid={self.uid}", f"--regid={self.gid}", self.groups, "--"] if self.uid else []
        environment = ["/usr/bin/env", "-i", f"PATH={self.path}", f"HOME={self.home}", *self.more]
        return [*become, *environment, *self.within, *map(str, arguments)]


class ToolFailed(Exception):
    """A tool's error; its text, and the code that it starts with."""

    @property
    def code(self) -> str:
        """Like "capture.permission"."""
        return str(self).partition(":")[0]


@dataclass
class Session:
    """A client of one running server."""

    client: Client
    pid: int
    progress: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)  # methods of what the server told unasked

    async def call(self, name: str, /, **arguments: Any) -> dict[str, Any]:
        """Call a tool and return its structured answer."""

        async def on_progress(_: float, __: float | None, message: str | None) -> None:
            self.progress.append(message or "")

        result = await self.client.call_tool(name, arguments, progress_callback=on_progress)
        if result.is_error:
            raise ToolFailed("\n".join(block.text for block in result.content if isinstance(block, TextContent)))
        assert result.structured_content is not None
        require_sound(name, result)
        return dict(result.structured_content)

    async def refused(self, name: str, /, **arguments: Any) -> ToolFailed:
        """Call a tool that is to fail, and return its error."""
        with pytest.raises(ToolFailed) as caught:
            await self.call(name, **arguments)
        return caught.value

    async def typed(self, command: str, name: str = "guest", timeout: float = PATIENCE) -> str:
        """What a guest's console showed after a command."""
        return str((await self.call("qemu_send", command=command, name=name, timeout=timeout))["output"])

    async def boot(self, **arguments: Any) -> dict[str, Any]:
        """Boot the demo guest on its bridge."""
        told = await self.call(
            "qemu_boot", **{"profile": "u-boot-riscv64", "network": True, "timeout": PATIENCE} | arguments
        )
        ask_for_no_guest((told["network"] or {}).get("bridge") or "")
        return told

    async def until(self, holds: Callable[[dict[str, Any]], object], name: str, /, **arguments: Any) -> dict[str, Any]:
        """Make a call again and again until its answer is such; that answer."""
        with anyio.fail_after(PATIENCE):
            while not holds(answer := await self.call(name, **arguments)):
                pass
        return answer

    async def ended(self, capture: str | None = None) -> dict[str, Any]:
        """The row of a capture that ends by itself."""
        told = await self.until(
            lambda answer: answer["captures"][0]["state"] != "running", "qemu_pcap_status", capture=capture
        )
        return dict(told["captures"][0])

    async def until_said(
        self, text: str, name: str = "guest", *, seconds: float = PATIENCE, read: Callable[[str], str] = str
    ) -> str:
        """All that the console has shown, once `text` is in it, be it before this call; `read` is what is compared."""
        with anyio.fail_after(seconds):
            while read(text) not in read(said := str((await self.call("qemu_read", name=name, position=0))["output"])):
                await self.call("qemu_read", name=name, timeout=1)
        return said

    async def ping(self) -> str:
        """Let the demo guest ping the host; what the console showed."""
        return await self.typed("setenv ipaddr 10.0.2.75; ping 10.0.2.2")


def ask_for_no_guest(bridge: str) -> None:
    """Have the kernel not ask whether a guest is still there, five seconds after it has answered it (arp(7)).

    Where the bridge is in another namespace it does, and tests there count without such a question.
    """
    switch = Path(f"/proc/sys/net/ipv4/neigh/{bridge}/delay_first_probe_time")
    if bridge and switch.exists():
        switch.write_text("3600", encoding="ascii")


@cache
def meanings() -> dict[str, tuple[Callable[[Any], Any], Validator]]:
    """By tool, two validators of its answers, by different authors: of the whole schema, not of what is listed."""
    schemas = {each.name: each.output_schema for each in TOOLS}
    # It would write defaults into the answer.
    compiled = {name: fastjsonschema.compile(each, use_default=False) for name, each in schemas.items()}
    return {name: (compiled[name], Draft202012Validator(each)) for name, each in schemas.items()}


def require_sound(name: str, result: CallToolResult) -> None:
    """An answer is what its schema says, and its text costs no more than the structured one."""
    compiled, validator = meanings()[name]
    compiled(result.structured_content)
    validator.validate(result.structured_content)
    text = "".join(block.text for block in result.content if isinstance(block, TextContent))
    assert text
    assert len(text) <= len(json.dumps(result.structured_content, ensure_ascii=False)), text


@asynccontextmanager
async def serving(
    account: Account,
    *options: str | Path,
    mode: Literal["auto", "legacy"] = "auto",
    before: tuple[str, ...] = (),
    extensions: Sequence[ClientExtension] = (),
) -> AsyncIterator[Session]:
    """A server run by `account` and a client of it over stdio, that has `extensions`. `before` goes in front of the
    command (strace, say)."""
    command = [*before, *account.command(RAWTAP, "serve", *options)]
    parameters = StdioServerParameters(command=command[0], args=command[1:])
    known = children_of(os.getpid())
    failure = None
    notices: list[str] = []

    async def on_message(message: object) -> None:
        notices.append(str(getattr(message, "method", message)))

    async with Client(stdio_client(parameters), mode=mode, message_handler=on_message, extensions=extensions) as client:
        (pid,) = new_children(known)
        try:
            yield Session(client, pid, notices=notices)
        except Exception as error:  # noqa: BLE001 - any of a test's: raised again outside of the client's task groups
            failure = error
    if failure:
        raise failure


@contextmanager
def not_installed(path: str | Path) -> Iterator[None]:
    """Have what can neither be executed nor loaded in a file's place, in this run's mounts."""
    real = str(Path(path).resolve())
    subprocess.run(["mount", "--bind", "/dev/null", real], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", real], check=True)


def children_of(pid: int) -> list[int]:
    """Direct children of a process, by /proc."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # of a thread that ended meanwhile
            found += map(int, path.read_text(encoding="ascii").split())
    return found


def new_children(known: Iterable[int]) -> set[int]:
    """This process's children but those that it had before.

    Those may go meanwhile: a child that compiled a filter is reaped in a thread of its own, after its answer, so that
    one of an earlier test may be there for a moment.
    """
    return set(children_of(os.getpid())) - set(known)


def has_child(pid: int, word: str) -> bool:
    """Whether a child of a process has `word` in its command line."""
    return any(word in command_of(child) for child in children_of(pid))


def descendants_of(pid: int) -> list[int]:
    """All processes below a process."""
    below = children_of(pid)
    return below + [deeper for child in below for deeper in descendants_of(child)]


def command_of(pid: int) -> str:
    """A process's command line, "" where it is gone."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


def guests_of(pid: int) -> list[int]:
    """The QEMUs that a process has started."""
    return [child for child in children_of(pid) if "qemu-system" in command_of(child)]


def status_of(pid: int | str) -> dict[str, str]:
    """/proc/PID/status as a mapping."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def open_files(pid: int) -> set[str]:
    """What a process's descriptors are open on."""
    found = set()
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed since it was listed
            found.add(str(each.readlink()))
    return found


def link_names() -> set[str]:
    """Every interface of this run's namespace but the loopback."""
    return {name for _, name in socket.if_nameindex()} - {"lo"}


def exists(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return status_of(pid)["State"][0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def eventually(test: Callable[[], bool]) -> bool:
    """Look until `test` holds; for what the kernel or another process does in its own time, without an event for us."""
    deadline = time.monotonic() + PATIENCE
    while not test():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


async def eventually_async(test: Callable[[], bool]) -> bool:
    """`eventually` in a worker thread."""
    return await anyio.to_thread.run_sync(eventually, test)


def trimmers() -> list[int]:
    """The trimmers of capture files that run in this run's namespace."""
    ours = Path("/proc/self/ns/net").readlink()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            if "/capture/trimmer.py" in command_of(int(folder.name)) and (folder / "ns/net").readlink() == ours:
                found.append(int(folder.name))
    return found


def next_start(user: Account, leaves: Callable[[], bool]) -> None:
    """Start a server, which removes what a killed one left, and hold that `leaves` comes true."""

    async def scenario() -> None:
        async with serving(user) as session:
            await session.call("qemu_status")
            assert await eventually_async(leaves), link_names()

    anyio.run(scenario)


def read_back(path: str | Path) -> int:
    """How many packets tcpdump finds in a file; any complaint of its fails."""
    done = subprocess.run(["tcpdump", "--count", "-nr", str(path)], capture_output=True, text=True, check=True)
    assert "truncated dump" not in done.stderr
    return int(done.stdout.split()[0])


def numbers_in(path: str | Path) -> list[int]:
    """The numbers that `Wire.send` gave to the frames of a file, in its order."""
    from scapy.utils import RawPcapReader

    with RawPcapReader(str(path)) as reader:
        frames = [data for data, _ in reader]
    assert all(data[:14] == frames[0][:14] and not any(data[18:]) for data in frames)
    return [int.from_bytes(data[14:18], "big") for data in frames]


def host_sends(to: tuple[str, int], source: tuple[str, int] | None = None) -> None:
    """Send a datagram of five bytes from the host."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        if source:
            sender.bind(source)
        sender.sendto(b"hello", to)


@dataclass
class Wire:
    """A veth pair; `send` puts frames on the far end."""

    near: str
    far: str
    _socket: socket.socket

    @classmethod
    @contextmanager
    def make(cls, near: str = "near0", far: str = "far0") -> Iterator[Self]:
        """Make the pair, up on both ends and quiet: no IPv6, no multicast of the kernel's own."""
        with IPRoute() as netlink:
            netlink.link("add", ifname=near, kind="veth", peer={"ifname": far})
            for name in (near, far):
                Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1", encoding="ascii")
                netlink.link("set", index=netlink.link_lookup(ifname=name)[0], state="up")
        try:
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
                sender.bind((far, 0))
                yield cls(near, far, sender)
        finally:
            cls.remove(far)

    @staticmethod
    def remove(name: str) -> None:
        """Remove an interface if it is there."""
        with IPRoute() as netlink:
            for index in netlink.link_lookup(ifname=name):
                netlink.link("del", index=index)

    @staticmethod
    def set_state(name: str, state: Literal["up", "down"]) -> None:
        """Set an interface up or down."""
        with IPRoute() as netlink:
            netlink.link("set", index=netlink.link_lookup(ifname=name)[0], state=state)

    def until_connected(self) -> None:
        """Wait until the far end sends again after the near one came up: the kernel opens its queue later.

        Until then it drops each frame without a word. That is after up to a second, and told by IFLA_OPERSTATE
        (linux/Documentation/networking/operstates.rst).
        """

        def connected() -> bool:
            with IPRoute() as netlink:
                (link,) = netlink.get_links(ifname=self.far)
                return str(link.get("state")) == "up" and link.get_attr("IFLA_OPERSTATE") == "UP"

        assert eventually(connected)

    def send_bytes(self, frame: bytes) -> None:
        """Send a frame as it is."""
        self._socket.send(frame)

    def send(self, count: int, size: int = 60, protocol: int = PROTOCOL) -> None:
        """Send `count` broadcast frames of `size` bytes, numbered from 0 after the Ethernet header."""
        head = b"\xff" * 6 + b"\x02\0\0\0\0\1" + protocol.to_bytes(2, "big")
        for number in range(count):
            self.send_bytes((head + number.to_bytes(4, "big")).ljust(size, b"\0"))
