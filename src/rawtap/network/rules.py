"""The firewall's part of a way out, as text for nft(8), and what nft says is there. Pure.

A table of ours carries its mark in its name, since that is what every version of nft lists: who made it, for which
bridge, and on which interfaces forwarding was switched on for it. The kernel keeps it, so the next start knows what to
undo after SIGKILL.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Self

from rawtap.network.addressing import Owner

_MARK = re.compile(r"rawtap-(\d+)-(\d+)-(\d+)-(\d+)-(\d+)-([A-Za-z0-9_.-]{1,15})")


@dataclass(frozen=True)
class Mark:
    """What a table's name says.

    Attributes:
        owner: The process that made it.
        ipv4: Index of the interface on which IPv4 forwarding was switched on for a way out, 0 for none.
        ipv6: The same for IPv6.
        bridge: Whose way out it is.
    """

    owner: Owner
    ipv4: int
    ipv6: int
    bridge: str

    @property
    def table(self) -> str:
        """The table's name; nft(8) takes letters, digits, and "-", "_" and "." after the first letter."""
        owner = self.owner
        return f"rawtap-{owner.pid}-{owner.start}-{owner.pidns}-{self.ipv4}-{self.ipv6}-{self.bridge}"

    @classmethod
    def of(cls, table: str) -> Self | None:
        """The mark in a table's name, None where it is not ours."""
        if (match := _MARK.fullmatch(table)) is None:
            return None
        pid, start, pidns, ipv4, ipv6 = map(int, match.groups()[:5])
        return cls(Owner(pid, start, pidns), ipv4, ipv6, match[6])


@dataclass(frozen=True)
class Gate:
    """Who goes out, and by which interfaces: None where that family has no way, as without a subnet of it."""

    bridge: str
    subnet4: IPv4Network
    subnet6: IPv6Network | None
    uplink4: str | None
    uplink6: str | None

    def uplinks(self) -> list[tuple[str, str]]:
        """Family and interface."""
        both = (("ipv4", self.uplink4), ("ipv6", self.uplink6))
        return [(family, uplink) for family, uplink in both if uplink is not None]

    def guests(self, family: str) -> str:
        """The expression for what is from the bridge's own subnet."""
        return f"ip saddr {self.subnet4}" if family == "ipv4" else f"ip6 saddr {self.subnet6}"


def table(mark: Mark, gate: Gate) -> str:
    """The text that makes the table: one transaction, all of it or nothing.

    - From the bridge packets of its subnet go out by the uplink, under the address that this machine has there, and
      nowhere else: not to other networks that it is on.
    - To the bridge come answers, and nothing else.
    - Where forwarding on the uplink was switched on for this, nothing but answers comes in by it to be forwarded: this
      machine does not become a router for its neighbours.

    A packet that is accepted here can still be dropped by a chain of somebody else's.
    """
    bridge, switched = gate.bridge, {"ipv4": mark.ipv4, "ipv6": mark.ipv6}
    forward = [f'iifname "{bridge}" oifname "{bridge}" accept']  # between guests, where br_netfilter shows it here
    for family, uplink in gate.uplinks():
        forward.append(f'iifname "{bridge}" oifname "{uplink}" {gate.guests(family)} accept')
    forward.append(f'iifname "{bridge}" reject with icmpx type admin-prohibited')
    forward += [f'oifname "{bridge}" ct state established,related accept', f'oifname "{bridge}" drop']
    for family, uplink in gate.uplinks():
        if switched[family]:
            forward.append(f'meta nfproto {family} iifname "{uplink}" ct state != {{ established, related }} drop')
    translate = [f'oifname "{uplink}" {gate.guests(family)} masquerade' for family, uplink in gate.uplinks()]
    chains = {
        "forward": ["type filter hook forward priority filter; policy accept;", *forward],
        "postrouting": ["type nat hook postrouting priority srcnat; policy accept;", *translate],
    }
    body = [f"chain {name} {{\n{_lines(rules)}}}\n" for name, rules in chains.items()]
    return f"table inet {mark.table} {{\n{''.join(body)}}}\n"


def _lines(rules: list[str]) -> str:
    return "".join(f"{rule}\n" for rule in rules)


def marks(listing: str) -> list[Mark]:
    """The marks of our tables, in the answer to `nft -j list tables`."""
    tables = [each for each in _objects(listing, "table") if each.get("family") == "inet"]
    return [mark for each in tables if (mark := Mark.of(each["name"])) is not None]


def refusing(listing: str, family: str) -> list[str]:
    """Other chains that drop what they do not know of `family`, in the answer to `nft -j list chains`."""
    return [
        f"chain {each['name']} of table {each['family']} {each['table']}"
        for each in _objects(listing, "chain")
        if each.get("hook") == "forward" and each.get("policy") == "drop" and each["family"] in {family, "inet"}
    ]


def _objects(listing: str, kind: str) -> list[dict[str, Any]]:
    return [each[kind] for each in json.loads(listing)["nftables"] if kind in each]
