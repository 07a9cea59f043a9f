"""dnsmasq on a bridge of ours: started, watched, ended.

Theory of operation. It is started before the guest runs, and answers when `serving` yields: it says so in its log,
after its sockets are bound. Like QEMU it is tied to the thread that started it, so that must be the main one, and gets
no new privileges. Unlike QEMU it has capabilities: CAP_NET_BIND_SERVICE, since DHCP and DNS have ports below 1024;
CAP_NET_ADMIN, without which dnsmasq refuses DHCP: it enters into the kernel's ARP table a client that has no address
yet; and with IPv6 CAP_NET_RAW, since router advertisements go through a raw socket.

Its leases are in memory: the lease file is a memfd that it gets as its stdin. Nothing is left of it in any file system,
and it reads none but the system's own; of TCP it has the port of DNS.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import anyio

from rawtap.errors import ServicesUnavailable
from rawtap.guest.hardware import CLIENTS
from rawtap.guest.profile import Profile
from rawtap.host import children, privileges, programs
from rawtap.host.children import Child
from rawtap.host.landlock import Access
from rawtap.host.privileges import Capability
from rawtap.network import addressing, ipv6
from rawtap.network.dnsmasq_config import (
    BootFile,
    Lease,
    ServicesSpec,
    StaticHost,
    arguments,
    is_ready,
    leases,
    log_line,
)
from rawtap.network.network import Bridge, Station

PACKAGE = "dnsmasq-base"

Note = Callable[[str, str], None]

_DNS_PORT = 53
_READY_SECONDS = 5.0
_END_SECONDS = 0.7  # after SIGTERM
_LINES_PER_SECOND = 100  # that are noted: a guest decides how many there are
_TAIL_LINES = 5


def find_dnsmasq() -> str | None:
    """Where dnsmasq is, None where it is not installed."""
    return programs.find("dnsmasq")


def wanted(profile: Profile, bridge: Bridge, station: Station) -> ServicesSpec:
    """The services that a guest's profile wants on its bridge.

    A static host without a MAC address is the guest of that name, of the project and the Lab of `station`; its card's
    is known before it is made.
    """
    hosts = tuple(
        StaticHost(host.name, host.mac or replace(station, guest=host.name).mac(bridge.name), host.address)
        for host in profile.hosts
    )
    return ServicesSpec(
        bridge.name, bridge.address, hosts, ipv6.address_for(bridge.name), tftp=profile.tftp, boot=_boot(profile)
    )


def _boot(profile: Profile) -> tuple[BootFile, ...]:
    """What network boot begins with, for each kind of client, or for all."""
    if isinstance(profile.bootfile, str):
        return (BootFile(profile.bootfile),) if profile.bootfile else ()
    return tuple(BootFile(name, client, CLIENTS[client]) for client, name in profile.bootfile.items())


def why_not(bridge: Bridge) -> str | None:
    """Why this server serves nothing on that bridge, None where it may."""
    if bridge.link.owner == addressing.Owner.me():
        return None
    return f"no DHCP and DNS by rawtap on {bridge.name}: this server did not make that bridge"


@dataclass(eq=False)
class Services:
    """One dnsmasq. What it logs is noted; so is its end."""

    spec: ServicesSpec
    process: Child
    note: Note
    memory: int  # its lease file
    exit_code: int | None = None
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=_TAIL_LINES))
    ready: asyncio.Event = field(default_factory=asyncio.Event)  # or ended
    watcher: asyncio.Task[None] = field(init=False)
    _noted: tuple[int, int] = (0, 0)  # the second, and how many lines in it

    def __post_init__(self) -> None:
        self.watcher = asyncio.create_task(self._watch())

    @property
    def running(self) -> bool:
        """Whether it is there."""
        return self.exit_code is None

    def leases(self) -> list[Lease]:
        """Who has which address."""
        data = os.pread(self.memory, os.fstat(self.memory).st_size, 0)
        return leases(data.decode("utf-8", "replace"), time.time())

    def state(self) -> str:
        """In a few words."""
        if self.exit_code is None:
            return f"running, pid {self.process.pid}"
        return f"ended: exit code {self.exit_code}"

    async def _watch(self) -> None:
        """Note its log to the end, then its exit code."""
        log = await children.stream_of(self.process.stderr)
        while line := await log.readline():
            self._tell(line.decode("utf-8", "replace").rstrip("\n"))
        self.exit_code = await self.process.ended()
        self.note("services_ended", f"dnsmasq on {self.spec.bridge} ended: exit code {self.exit_code}")
        self.ready.set()

    def _tell(self, line: str) -> None:
        kind, text = log_line(line)
        self.tail.append(text)
        if is_ready(text):
            self.ready.set()
        second, count = self._noted
        now = int(time.monotonic())
        count = count + 1 if now == second else 1
        self._noted = (now, count)
        if count < _LINES_PER_SECOND:
            self.note(kind, text)
        elif count == _LINES_PER_SECOND:
            self.note(kind, f"dnsmasq on {self.spec.bridge} logs too much: the rest of this second is left out")

    async def end(self) -> None:
        """SIGTERM, then SIGKILL."""
        for signal in (self.process.terminate, self.process.kill):
            if self.watcher.done():
                break
            signal()
            await asyncio.wait({self.watcher}, timeout=_END_SECONDS)
        await self.watcher


@asynccontextmanager
async def serving(spec: ServicesSpec, note: Note) -> AsyncIterator[Services]:
    """dnsmasq on that bridge, answering; ended with the block, shielded from cancellation.

    Raises:
        ServicesUnavailable: It is not installed, may not, or does not start; its own words are inside.
        ProfileInvalid: A static host that cannot be.
    """
    with contextlib.ExitStack() as stack:
        memory = os.memfd_create("rawtap-leases")
        stack.callback(os.close, memory)
        services = Services(spec, _spawn(spec, memory), note, memory)
        try:
            await _until_ready(services)
            note("services_started", f"dnsmasq serves DHCP and DNS on {spec.bridge}: pid {services.process.pid}")
            yield services
        finally:
            with anyio.CancelScope(shield=True):
                await services.end()


def _spawn(spec: ServicesSpec, memory: int) -> Child:
    """Start it, from this thread."""
    dnsmasq = programs.require("dnsmasq", PACKAGE, ServicesUnavailable, "no DHCP and DNS")
    needed = _needed(spec)
    privileges.require(needed, f"serve DHCP and DNS on {spec.bridge}", ServicesUnavailable)
    try:
        return children.start(
            [dnsmasq, *arguments(spec, "/proc/self/fd/0")],
            _access(dnsmasq, spec),
            capabilities=needed,
            streams=(memory, "null", "pipe"),
            environment=children.PLAIN,
            session=True,
        )
    except OSError as error:
        raise ServicesUnavailable(
            "dnsmasq cannot be started", evidence=str(error), cure="qemu_doctor checks the set-up"
        ) from error


def _access(dnsmasq: str, spec: ServicesSpec) -> Access:
    """It asks who nobody is, whom it would become if it had root's rights, and does not start where there is none."""
    users = tuple(Path(name).resolve() for name in ("/etc/nsswitch.conf", "/etc/passwd", "/etc/group"))
    given = (Path(spec.tftp),) if spec.tftp else ()
    return Access(programs=(Path(dnsmasq),), read=(*users, *given), listen=(_DNS_PORT,), connect=(_DNS_PORT,))


def _needed(spec: ServicesSpec) -> tuple[Capability, ...]:
    raw = (Capability.NET_RAW,) if spec.address6 else ()
    return (Capability.NET_ADMIN, Capability.NET_BIND_SERVICE, *raw)


async def _until_ready(services: Services) -> None:
    with anyio.move_on_after(_READY_SECONDS):
        await services.ready.wait()
    if services.ready.is_set() and services.running:
        return
    raise ServicesUnavailable(
        f"no DHCP and DNS on {services.spec.bridge}: dnsmasq does not start",
        evidence=f"{services.state()}; {'; '.join(services.tail) or 'it said nothing'}",
        cure="Another server on ports 53 or 67 of this machine is the usual cause; --rootless keeps apart from it",
    )
