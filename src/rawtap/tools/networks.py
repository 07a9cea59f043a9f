"""Networks as the tools show them: a guest's place on the wire, and what is on a bridge."""

from __future__ import annotations

from dataclasses import asdict

from pydantic import Field

from rawtap.lab import Guest, Lab
from rawtap.network.network import Bridge
from rawtap.served import Served
from rawtap.tools._boundary import Answer


class NetworkInfo(Answer):
    """A guest's place on the wire."""

    bridge: str
    tap: str
    mac: str = Field(description="The guest's MAC address.")
    gateway: str = Field(description="The host's address on the bridge.")
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
    """A bridge that guests of this server use."""

    bridge: str
    address: str
    made_by_rawtap: bool
    guests: list[str]
    services: str | None = Field(description="dnsmasq's state, which answers DHCP and DNS there.")
    leases: list[LeaseRow]
    outside: OutsideRow


def network_of(lab: Lab, guest: Guest) -> NetworkInfo | None:
    """A guest's place on the wire, None where it has no network."""
    if guest.bridge is None or guest.tap is None:
        return None
    address, served = guest.bridge.address, lab.bridges.served_on(guest.bridge.name)
    address6 = served.address6 if served else None
    return NetworkInfo(
        bridge=guest.bridge.name,
        tap=guest.tap.name,
        mac=guest.tap.mac,
        gateway=str(address.ip),
        subnet=str(address.network),
        gateway6=str(address6.ip) if address6 else None,
        subnet6=str(address6.network) if address6 else None,
    )


def network_row(lab: Lab, bridge: Bridge) -> NetworkRow:
    """A bridge, and what is served there now."""
    served = lab.bridges.served_on(bridge.name)
    services = served.services if served else None
    return NetworkRow(
        bridge=bridge.name,
        address=str(bridge.address),
        made_by_rawtap=bridge.made,
        guests=[key for key, guest in lab.guests.items() if guest.bridge and guest.bridge.name == bridge.name],
        services=services.state() if services else None,
        leases=[LeaseRow(**asdict(lease)) for lease in services.leases()] if services else [],
        outside=_outside(served),
    )


def _outside(served: Served | None) -> OutsideRow:
    """As it is now: a default route may have gone elsewhere since the way was opened."""
    if served is None or served.way is None:
        return OutsideRow(
            reachable=False, ipv4=None, ipv6=None, reason=served.why_not if served else "no guest is on it"
        )
    ipv4, ipv6 = served.way.now()
    lost = [uplink for _, uplink in served.way.gate.uplinks() if uplink not in {ipv4, ipv6}]
    gone = [f"{uplink} has no default route any more: boot anew once there is one" for uplink in dict.fromkeys(lost)]
    said = "; ".join([*filter(None, [served.why_not]), *gone])
    return OutsideRow(reachable=bool(ipv4 or ipv6), ipv4=ipv4, ipv6=ipv6, reason=said or None)
