"""Networks as the tools show them: a guest's place on the wire, and what is on a bridge."""

from __future__ import annotations

from dataclasses import asdict

from pydantic import Field

from rawtap.lab.bridge_services import BridgeServices
from rawtap.lab.guests import Guest
from rawtap.lab.lab import Lab
from rawtap.lab.usernet import UserNet
from rawtap.network.network import Bridge
from rawtap.tools._boundary import Answer


class NetworkInfo(Answer):
    """A guest's place on the wire."""

    interface: str = Field(description="What qemu_pcap_start captures: the bridge, or user:GUEST.")
    bridge: str | None = Field(description='null with network="user", and so is tap.')
    tap: str | None
    mac: str = Field(description="The guest's MAC address.")
    gateway: str = Field(description="The host's address on the bridge, or QEMU's own on its network.")
    subnet: str
    gateway6: str | None = Field(description="The same for IPv6, where services are wanted.")
    subnet6: str | None


class LeaseRow(Answer):
    """An address that dnsmasq gave."""

    name: str = Field(description="What the guest calls itself, or its fixed name; untrusted.")
    mac: str = Field(description="Empty where it did not tell (DHCPv6).")
    address: str
    expires: float = Field(description="Seconds from now.")


class OutsideRow(Answer):
    """Whether guests can reach what this machine reaches."""

    reachable: bool = Field(description="Whether packets are let out; not whether anybody answers.")
    ipv4: str | None = Field(description="The interface by which IPv4 leaves; null where it does not.")
    ipv6: str | None
    reason: str | None = Field(description="Why not, or what is less than all of it.")


class NetworkRow(Answer):
    """A bridge that guests of this server use, or a network that QEMU makes for one."""

    interface: str = Field(description="The bridge, or user:GUEST.")
    bridge: str | None = Field(description="null for QEMU's own network.")
    address: str
    made_by_rawtap: bool
    guests: list[str]
    services: str | None = Field(description="dnsmasq's state, which answers DHCP and DNS there.")
    leases: list[LeaseRow]
    outside: OutsideRow


def network_of(lab: Lab, guest: Guest) -> NetworkInfo | None:
    """A guest's place on the wire, None where it has no network."""
    network = guest.network
    if network is None or guest.nic is None:
        return None
    address, services = network.address, lab.bridges.services_on(network.name)
    address6 = services.address6 if services else None
    return NetworkInfo(
        interface=network.name,
        bridge=guest.bridge.name if guest.bridge else None,
        tap=guest.tap.name if guest.tap else None,
        mac=guest.nic[1],
        gateway=str(address.ip),
        subnet=str(address.network),
        gateway6=str(address6.ip) if address6 else None,
        subnet6=str(address6.network) if address6 else None,
    )


def network_row(lab: Lab, network: Bridge | UserNet) -> NetworkRow:
    """A bridge, and what is served there now; or the network inside a guest's QEMU."""
    return _user_network(network) if isinstance(network, UserNet) else _bridge(lab, network)


def _user_network(user: UserNet) -> NetworkRow:
    return NetworkRow(
        interface=user.name,
        bridge=None,
        address=str(user.address),
        made_by_rawtap=True,
        guests=[user.guest],
        services="QEMU's own DHCP",
        leases=[],
        outside=OutsideRow(reachable=False, ipv4=None, ipv6=None, reason="QEMU's own network has no way out"),
    )


def _bridge(lab: Lab, bridge: Bridge) -> NetworkRow:
    services = lab.bridges.services_on(bridge.name)
    dnsmasq = services.dnsmasq if services else None
    return NetworkRow(
        interface=bridge.name,
        bridge=bridge.name,
        address=str(bridge.address),
        made_by_rawtap=bridge.made,
        guests=[key for key, guest in lab.guests.items() if guest.bridge and guest.bridge.name == bridge.name],
        services=dnsmasq.state() if dnsmasq else None,
        leases=[LeaseRow(**asdict(lease)) for lease in dnsmasq.leases()] if dnsmasq else [],
        outside=_outside(services),
    )


def _outside(services: BridgeServices | None) -> OutsideRow:
    """As it is now: a default route may have gone elsewhere since the way was opened."""
    if services is None or services.way is None:
        return OutsideRow(
            reachable=False, ipv4=None, ipv6=None, reason=services.why_not if services else "no guest is on it"
        )
    ipv4, ipv6 = services.way.now()
    lost = [uplink for _, uplink in services.way.gate.uplinks() if uplink not in {ipv4, ipv6}]
    gone = [f"{uplink} has no default route any more: boot anew once there is one" for uplink in dict.fromkeys(lost)]
    said = "; ".join([*filter(None, [services.why_not]), *gone])
    return OutsideRow(reachable=bool(ipv4 or ipv6), ipv4=ipv4, ipv6=ipv6, reason=said or None)
