"""The networks of a QEMU line: -netdev, -net, -nic, and ports that lead to the guest. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from rawtap.guest.line_state import Parts
from rawtap.guest.line_words import pairs

_LAST_PORT = 65535
# Networks that lead to another emulator, a switch or a device, and not to the host.
_TO_OTHERS = frozenset({"socket", "stream", "dgram", "vde", "l2tpv3", "netmap", "af-xdp", "vhost-user", "vhost-vdpa"})
# What QEMU's own network (and its older spelling) says of addresses, of names, and of what the guest reaches; and what
# of that is so here, or says nothing.
_ADDRESSES = frozenset({"net", "host", "dhcpstart", "dns", "hostname", "domainname", "dnssearch", "restrict", "ipv4",
                        "ipv6", "ipv6-net", "ipv6-prefix", "ipv6-prefixlen", "ipv6-host", "ipv6-dns", "ip",
                        "tftp-server-name"})  # fmt: skip
_USUAL = {("restrict", "off"), ("restrict", "no"), ("ipv4", "on"), ("ipv6", "on")}
_OF_A_CARD = {"type", "model", "macaddr", "netdev", "id", "name", "vlan"}  # what is none of these is named


def add_netdev(parts: Parts, value: str) -> None:
    """-netdev, and what -net and -nic have of one."""
    said = pairs(value, "type")
    parts.network = True
    forwards = re.findall(r"(?:^|,)hostfwd=([^,]*)", value) or filter(None, [said.get("hostfwd")])
    _forward(parts, "hostfwd", forwards, r"(tcp|udp)?:[^:]*:([0-9]{1,5})-[^:]*:([0-9]{1,5})")
    if folder := said.get("tftp"):
        parts.table["tftp"] = folder
    if name := said.get("bootfile"):
        parts.table["bootfile"] = name
    if (kind := said.get("type", "")) in _TO_OTHERS:
        parts.carry_otherwise(f"the network {kind}: the card is on the bridge, and not on what that leads to")
    if apart := [f"{key}={said[key]}" for key in said if key in _ADDRESSES and (key, said[key]) not in _USUAL]:
        parts.carry_otherwise(
            f"the network's {','.join(apart)}: addresses, names and what is reached are those of rawtap's network"
        )
    if "guestfwd" in said or "smb" in said:
        parts.leave(f"-netdev {value}", "guestfwd and smb start programs of the host's")


def _forward(parts: Parts, option: str, said: Iterable[str], pattern: str) -> None:
    """Ports that lead to the guest; `pattern` finds the protocol, the host's port, its own."""
    for each in said:
        if (match := re.fullmatch(pattern, each)) is None:
            parts.leave(f"{option} {each}", "only a port of each side is carried, with tcp or udp")
            continue
        entry = {"host": int(match[2]), "guest": int(match[3])}
        if not all(0 < port <= _LAST_PORT for port in entry.values()):
            parts.leave(f"{option} {each}", "these are no ports")
            continue
        parts.forward.append(entry | ({"protocol": "udp"} if match[1] == "udp" else {}))


def add_redir(parts: Parts, value: str) -> None:
    """-redir, as it was until QEMU 3.0."""
    parts.network = True
    _forward(parts, "-redir", [value], r"(tcp|udp)?:([0-9]{1,5}):[^:]*:([0-9]{1,5})")


def add_net(parts: Parts, value: str) -> None:
    """-net: a card, or what it is on."""
    said = pairs(value, "type")
    kind = said.get("type")
    if kind == "nic":
        parts.card(said.get("model"), said.get("macaddr"), {})
        parts.leave_rest("-net nic", said, _OF_A_CARD)
    elif kind == "dump":  # until QEMU 2.12
        parts.dumped = True
    elif kind != "none":
        add_netdev(parts, value)


def add_nic(parts: Parts, value: str) -> None:
    """-nic: a card and what it is on."""
    said = pairs(value, "type")
    if said.get("type") == "none":
        return
    parts.card(said.get("model"), said.get("mac") or said.get("macaddr"), {})
    add_netdev(parts, value)
