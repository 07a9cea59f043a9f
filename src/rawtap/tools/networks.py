"""Networks as the tools show them: a guest's place on the wire, and what is on a bridge."""

from __future__ import annotations

from dataclasses import asdict

from pydantic import Field

from rawtap.lab.card import Card
from rawtap.lab.lab import Lab
from rawtap.tools._text import Answer, Untrusted
from rawtap.tools._tool import is_empty


class NetworkInfo(Answer):
    """A guest's place on the wire."""

    interface: str = Field(description="What qemu_pcap_start captures: the guest's card, its TAP or user:GUEST.")
    bridge: str | None = Field(description='null with network="user", and so is tap.')
    tap: str | None
    mac: str = Field(description="The guest's MAC address.")
    gateway: str = Field(description="The host's address on the bridge, or QEMU's own on its network.")
    subnet: str
    gateway6: str | None = Field(description="The same for IPv6, where services are wanted.")
    subnet6: str | None


class CardRow(Answer):
    """Frames between the wire and the guest since its boot; null where `unknown` says why."""

    sent: int | None = Field(description="By the guest.")
    taken: int | None = Field(description="By QEMU, for the guest.")
    waiting: int | None = Field(description="For QEMU, which takes them while the guest gives it room.")
    dropped: int | None = Field(description="On their way to QEMU, for want of room.")
    given: int | None = Field(description="Buffers that the guest's driver gave the card, modulo 65536.")
    free: int | None = Field(description="Of these, still empty.")
    trouble: str | None = Field(description="Why nothing more gets to the guest at this moment.")
    unknown: dict[str, str]
    own_macs: list[str] = Field(
        default=[], exclude_if=is_empty, description="Others than its card's that the guest sends from."
    )


class LeaseRow(Answer):
    """An address that dnsmasq gave."""

    name: Untrusted = Field(description="What the guest calls itself, or its fixed name; untrusted.")
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


def network_of(card: Card | None) -> NetworkInfo | None:
    """A guest's place on the wire, None where it has no network."""
    if card is None:
        return None
    address, address6 = card.address, card.address6
    return NetworkInfo(
        interface=card.name,
        bridge=card.bridge,
        tap=card.tap,
        mac=card.mac,
        gateway=str(address.ip),
        subnet=str(address.network),
        gateway6=str(address6.ip) if address6 else None,
        subnet6=str(address6.network) if address6 else None,
    )


async def card_row(card: Card | None, lab: Lab) -> CardRow | None:
    """How frames get to a guest and from it, None where it has no network."""
    if card is None:
        return None
    counters = await card.counters()
    known = {name: value for name, value in asdict(counters).items() if name in CardRow.model_fields}
    return CardRow(**known, trouble=counters.trouble, own_macs=lab.scene.own_making(card.mac))


def network_row(lab: Lab, card: Card) -> NetworkRow:
    """What a card is on, and what is served there now."""
    state = card.state()
    outside = state.outside
    return NetworkRow(
        interface=card.network,
        bridge=card.bridge,
        address=str(card.address),
        made_by_rawtap=state.made,
        guests=list(dict.fromkeys(each.guest for each in lab.cards_on(card.network))),
        services=state.services,
        leases=[LeaseRow(**asdict(lease)) for lease in state.leases],
        outside=OutsideRow(reachable=bool(outside.ipv4 or outside.ipv6), **asdict(outside)),
    )
