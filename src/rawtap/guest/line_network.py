"""The networks of a QEMU line: -netdev, -net, -nic, and ports that lead to the guest. Pure."""

from __future__ import annotations

import re

from rawtap.guest.line_state import Parts
from rawtap.guest.line_words import pairs

_LAST_PORT = 65535


def add_netdev(parts: Parts, value: str) -> None:
    """-netdev, and what -net and -nic have of one."""
    said = pairs(value, "type")
    parts.network = True
    _forward(parts, re.findall(r"hostfwd=(tcp|udp)?:[^:,]*:([0-9]{1,5})-[^:,]*:([0-9]{1,5})", value))
    if folder := said.get("tftp"):
        parts.table["tftp"] = folder
    if name := said.get("bootfile"):
        parts.table["bootfile"] = name
    if "guestfwd" in said or "smb" in said:
        parts.leave(f"-netdev {value}", "guestfwd and smb start programs of the host's")


def _forward(parts: Parts, found: list[tuple[str, str, str]]) -> None:
    """Ports that lead to the guest: the protocol, the host's port, its own."""
    for protocol, host, guest in found:
        entry = {"host": int(host), "guest": int(guest)}
        if not all(0 < each <= _LAST_PORT for each in entry.values()):
            parts.leave(f"hostfwd {host}-{guest}", "these are no ports")
            continue
        parts.forward.append(entry | ({"protocol": "udp"} if protocol == "udp" else {}))


def add_redir(parts: Parts, value: str) -> None:
    """-redir, as it was until QEMU 3.0."""
    parts.network = True
    _forward(parts, re.findall(r"^(tcp|udp)?:([0-9]{1,5}):[^:]*:([0-9]{1,5})$", value))


def add_net(parts: Parts, value: str) -> None:
    """-net: a card, or what it is on."""
    said = pairs(value, "type")
    kind = said.get("type")
    if kind == "nic":
        parts.card(said.get("model"), said.get("macaddr"), {})
    elif kind == "none":
        parts.no_card = True
    else:
        add_netdev(parts, value)


def add_nic(parts: Parts, value: str) -> None:
    """-nic: a card and what it is on."""
    said = pairs(value, "type")
    if said.get("type") == "none":
        parts.no_card = True
        return
    parts.card(said.get("model"), said.get("mac") or said.get("macaddr"), {})
    add_netdev(parts, value)
