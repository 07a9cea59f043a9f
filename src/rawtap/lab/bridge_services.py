"""What a bridge of ours has for its guests beside the wire: IPv6, a way out, DHCP and DNS."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import IPv6Interface

from anyio.to_thread import run_sync as to_thread

from rawtap.errors import NetworkError, RawtapError, ServicesUnavailable
from rawtap.lab import dnsmasq, outside
from rawtap.lab.dnsmasq import Services
from rawtap.lab.outside import Note, Policy
from rawtap.lab.succession import succeeded
from rawtap.network import forwarding, ipv6
from rawtap.network.dnsmasq_config import ServicesSpec, check
from rawtap.network.forwarding import Inside, Way
from rawtap.network.network import Bridge

_TRIES, _BETWEEN = 10, 0.2  # seconds


@dataclass(frozen=True)
class Outside:
    """Whether guests reach what this machine reaches: the interfaces by which IPv4 and IPv6 leave, and what is amiss.

    `reason` is why they do not, or what is less than all of it.
    """

    ipv4: str | None = None
    ipv6: str | None = None
    reason: str | None = None


@dataclass(eq=False)
class BridgeServices:
    """It comes with the first guest that wants services, in this order, and goes with the bridge in the reverse one.

    Attributes:
        way: The way out, None where there is none; `why_not` tells why, and what is wrong with one that is there.
    """

    bridge: Bridge
    stack: AsyncExitStack
    policy: Policy
    note: Note
    address6: IPv6Interface | None = None
    dnsmasq: Services | None = None
    way: Way | None = None
    why_not: str = "no guest here wants services: boot with services=true"
    _heir: asyncio.Task[None] | None = None
    _begun: bool = False
    _no_ipv6: str | None = None  # why there is none; what is served then stays without it, for later guests as well

    def parts(self) -> tuple[str, ...]:
        """What is there now and goes with the bridge, each in a few words."""
        dnsmasq = (f"dnsmasq {self.dnsmasq.process.pid}",) if self.dnsmasq and self.dnsmasq.running else ()
        return (*dnsmasq, f"way out of {self.bridge.name}") if self.way and self.way.open else dnsmasq

    def outside(self) -> Outside:
        """As it is now: a default route may have gone elsewhere since the way was opened."""
        if self.way is None:
            return Outside(reason=self.why_not)
        ipv4, ipv6 = self.way.now()
        lost = dict.fromkeys(uplink for _, uplink in self.way.gate.uplinks() if uplink not in {ipv4, ipv6})
        gone = [f"{uplink} has no default route any more: boot anew once there is one" for uplink in lost]
        said = "; ".join([*filter(None, [self.why_not]), *gone])
        return Outside(ipv4, ipv6, said or None)

    async def provide(self, spec: ServicesSpec) -> tuple[str, ...]:
        """Start all services that can be had; return why the others cannot.

        Raises:
            ProfileInvalid: A static host that cannot be.
        """
        if (reason := dnsmasq.why_not(self.bridge)) is not None:
            self.why_not = "this server did not make that bridge"
            return (f"{reason}{await self._wait_for_the_owner(spec)}",)
        check(spec)
        if not self._begun:
            await self._enable_ipv6(spec.address6)
            self._begun = True
        no_way = await self._open_way() if self.way is None else None
        return tuple(filter(None, (self._no_ipv6, no_way, await self._serve(spec))))

    async def _wait_for_the_owner(self, spec: ServicesSpec) -> str:
        """Serve once the server that made the bridge has left it; say so."""
        owner = self.bridge.link.owner
        if owner is None or not owner.is_near:
            return ""
        if self._heir is None:
            self._heir = asyncio.create_task(self._inherit(spec))
            self.stack.push_async_callback(self._disinherit)
        return f"; the server that did has the pid {owner.pid}, and this one serves when that has no guest there"

    async def _inherit(self, spec: ServicesSpec) -> None:
        try:
            found = await succeeded(self.bridge)
        except (RawtapError, OSError) as error:
            self.note("services_lost", f"nothing will serve {self.bridge.name} when its maker has left it: {error}")
            return
        if found is None:
            return
        self.bridge = found
        try:
            if not self.policy.rootless:
                await to_thread(forwarding.sweep)
            told = await self._provide_soon(spec)
        except (RawtapError, OSError) as error:
            told = (str(error),)
        said = f"{self.bridge.name} is this server's, as its maker has no guest there any more"
        self.note("services_inherited", "; ".join([said, *told]))

    async def _provide_soon(self, spec: ServicesSpec) -> tuple[str, ...]:
        """Begin to serve. The ended server's dnsmasq ends with it, but nobody tells when its ports are free."""
        told: tuple[str, ...] = ()
        for _ in range(_TRIES):
            told = await self.provide(spec)
            if self.dnsmasq is not None:
                break
            await asyncio.sleep(_BETWEEN)
        return told

    async def _disinherit(self) -> None:
        if self._heir is not None:
            self._heir.cancel()
            await asyncio.wait({self._heir})

    async def _enable_ipv6(self, address: IPv6Interface | None) -> None:
        if address is None:
            return
        try:
            await to_thread(partial(ipv6.enable, self.bridge.link, address))
            self.address6 = address
        except NetworkError as error:
            self._no_ipv6 = str(error)

    async def _open_way(self) -> str | None:
        """Have a way out; why there is none, where the operator asked for it himself."""
        if self.policy.refused is not None:
            self.why_not = self.policy.refused
            return None
        subnet6 = self.address6.network if self.address6 else None
        inside = Inside(self.bridge.name, self.bridge.address.network, subnet6, self.policy.rootless)
        try:
            self.way = await self.stack.enter_async_context(outside.opened(inside, self.policy, self.note))
            self.why_not = "; ".join(self.way.remarks)
        except NetworkError as error:
            self.why_not = str(error)
            return str(error) if self.policy.asked else None
        return None

    async def _serve(self, spec: ServicesSpec) -> str | None:
        """Have DHCP and DNS; what this guest lacks of them."""
        if self.dnsmasq is not None and self.dnsmasq.running:
            if self.way is not None and not self.dnsmasq.spec.servers:
                self.why_not = "names are not looked up outside: dnsmasq was started before there was a way out"
            if self.dnsmasq.spec.hosts != spec.hosts:
                return f"dnsmasq on {self.bridge.name} keeps the hosts of the guest that was there first"
            if (self.dnsmasq.spec.tftp, self.dnsmasq.spec.boot) != (spec.tftp, spec.boot):
                return f"dnsmasq on {self.bridge.name} keeps the network boot of the guest that was there first"
            return None
        spec = replace(spec, address6=self.address6)
        if self.way is not None:
            servers = await to_thread(outside.name_servers, self.policy)
            spec = replace(spec, servers=servers, router6=self.way.gate.uplink6 is not None)
            if not servers:
                self.why_not = "; ".join([*self.way.remarks, "no name server in /etc/resolv.conf"])
        try:
            self.dnsmasq = await self.stack.enter_async_context(dnsmasq.serving(spec, self.note))
        except ServicesUnavailable as error:
            return str(error)
        return None
