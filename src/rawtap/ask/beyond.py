"""Whether packets for hosts beyond the network of a lab's guests get anywhere: what their wire does not tell."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING

from rawtap.lab.bridge_services import Outside
from rawtap.lab.card import Card
from rawtap.network import beyond, links

if TYPE_CHECKING:
    from rawtap.packets.judges.outside import DeadEnd

_INSIDE_QEMU = "a network inside QEMU forwards nothing"


def dead_end(cards: Sequence[Card], outside: Outside) -> DeadEnd | None:
    """Where they end; None where there are none, where they may go on, and where the cards are on several networks.

    `outside` is as `NetworkState` has it of the first card. It asks the kernel.

    Raises:
        NetworkError: The kernel does not answer.
    """
    if len({card.network for card in cards}) != 1:
        return None
    from rawtap.packets.judges.outside import DeadEnd

    card = cards[0]
    inside: tuple[IPv4Network | IPv6Network, ...] = (card.address.network,)
    if card.address6:
        inside += (card.address6.network,)
    reason = outside.reason or "it has none by rawtap"
    if card.bridge is None:
        held = dict.fromkeys((4, 6), _INSIDE_QEMU)
        return DeadEnd(card.network, held, frozenset(), bytes_of(card.mac), inside, frozenset(), reason)
    link = links.find(card.bridge)
    found = {
        4: None if outside.ipv4 else beyond.held_by(card.bridge, "ipv4"),
        6: None if outside.ipv6 else beyond.held_by(card.bridge, "ipv6"),
    }
    told = {version: f"{text} (as it stands now)" for version, text in found.items() if text}
    if not told or link is None or not link.mac:
        return None
    stations = frozenset({bytes_of(link.mac)})
    return DeadEnd(card.bridge, told, stations, b"", inside, beyond.own_addresses(), reason)


def bytes_of(mac: str) -> bytes:
    """A MAC address as frames have it."""
    return bytes.fromhex(mac.replace(":", ""))
