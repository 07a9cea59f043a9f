"""Which tools a server shows: an agent pays for each, and many a host has room for few."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

from rawtap.settings import ToolGroup

_LOOKING = {"qemu_pcap_status", "qemu_pcap_wait", "qemu_pcap_query", "qemu_pcap_follow", "qemu_pcap_picture"}
_LOOKING |= {"qemu_packet_send", "qemu_examine", "qemu_timeline", "qemu_record"}
_READING = {"qemu_pcap_start", "qemu_pcap_stop", "qemu_pcap_read", "qemu_pcap_explain"}
_GUEST = {"qemu_boot", "qemu_send", "qemu_read", "qemu_shutdown"}
_EVERYWHERE = {"qemu_status", "qemu_doctor"}
_MEMBERS = {
    "core": _EVERYWHERE | _READING | _GUEST,
    "capture": _EVERYWHERE | _READING | _LOOKING,
    "guest": _EVERYWHERE
    | _GUEST
    | {"qemu_link", "qemu_snapshot", "qemu_monitor", "qemu_timeline", "qemu_record", "qemu_debug"}
    | {"qemu_screenshot", "qemu_type", "qemu_send_key", "qemu_mouse"},
}


class _Named(Protocol):
    @property
    def name(self) -> str: ...


T = TypeVar("T", bound=_Named)


def of_group(tools: Iterable[T], group: ToolGroup) -> list[T]:
    """Those of `tools` that belong to `group`."""
    return [each for each in tools if group == "all" or each.name in _MEMBERS[group]]


def told_of_group(group: ToolGroup) -> str:
    """What the server's instructions add, so that nobody looks for what is not there."""
    return "" if group == "all" else f"This server shows its {group!r} tools only (rawtap serve --tools).\n"
