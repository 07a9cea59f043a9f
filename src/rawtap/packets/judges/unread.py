"""What was not looked into: protocols that no judge knows, and what tunnels carry. Then "no finding" is no praise."""

from __future__ import annotations

from collections import Counter

from rawtap.packets.findings import Packet
from rawtap.packets.headers import ARP, IPV4, IPV6
from rawtap.packets.lines import ethernet_name, protocol_name
from rawtap.packets.transport import Udp

_TOLD = 6
_NAMES = 200  # that are counted apart
# What a datagram to these ports carries is a frame or a packet of its own.
_TUNNELS = {
    4789: "VXLAN", 8472: "VXLAN", 6081: "Geneve", 2152: "GTP", 4341: "LISP", 1701: "L2TP", 4754: "GRE in UDP",
    6635: "MPLS in UDP", 3544: "Teredo", 4500: "ESP in UDP",
}  # fmt: skip


class UnreadJudge:
    """Counts, and says so in a note."""

    def __init__(self) -> None:
        self._names: Counter[str] = Counter()

    def see(self, packet: Packet) -> None:
        frame = packet.frame
        header = frame.transport
        if frame.inner is not None:  # it is told of what is carried
            return
        if frame.named is not None:
            self._count(frame.named.name)
            return
        if header is not None:
            if isinstance(header, Udp) and header.destination_port in _TUNNELS:
                self._count(_TUNNELS[header.destination_port])
        elif frame.stop is not None:
            return
        elif frame.ip is not None:
            if frame.ip.fragment is None or frame.ip.fragment.at == 0:
                self._count(protocol_name(frame.ip.protocol))
        elif frame.kind is not None and frame.kind not in {ARP, IPV4, IPV6}:
            self._count(ethernet_name(frame.kind))

    def _count(self, name: str) -> None:
        if name in self._names or len(self._names) < _NAMES:
            self._names[name] += 1

    def notes(self) -> list[str]:
        if not self._names:
            return []
        told = ", ".join(f"{name} {count}" for name, count in self._names.most_common(_TOLD))
        more = f" and {len(self._names) - _TOLD} more" if len(self._names) > _TOLD else ""
        return [f"{self._names.total()} packets are not looked into, nor what they carry: {told}{more}"]
