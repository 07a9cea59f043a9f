"""Netlink and ethtool: with `watch`, which listens, the only module that speaks to pyroute2.

Each function is one transaction with the kernel, synchronous, for a worker thread: pyroute2's IPRoute refuses to
run inside an event loop. pyroute2 is imported when the first of them runs, since it takes a quarter of a second.
CAP_NET_ADMIN is raised around what needs it and nothing else.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface
from pathlib import Path
from typing import Any

from rawtap.errors import (
    ImpairmentUnavailable,
    NetworkExists,
    NetworkFailed,
    NetworkPermission,
)
from rawtap.host.privileges import Capability, raised
from rawtap.network.addressing import Owner

COUNTERS = Path("/proc/self/net/dev")

_TC_H_ROOT = 0xFFFFFFFF  # linux/pkt_sched.h

_IFA_F_NODAD = 0x02  # linux/if_addr.h
_IFF_UP = 0x1
_IFF_LOWER_UP = 0x10000  # carrier, netdevice(7)


_LOCAL = 0x80 | 0x40  # NUD_PERMANENT, NUD_NOARP
_PORT_STATES = {0: "disabled", 1: "listening", 2: "learning", 4: "blocking"}  # but forwarding, linux/if_bridge.h
ISOLATED, VLAN_FILTERING = "isolated", "VLAN filtering"

# What would let a frame be seen on the bridge before its checksum is filled in or before it is cut to the wire's
# size. Names of the kernel's own, net/ethtool/common.c.
_OFFLOADS = (
    "tx-checksum-ip-generic",
    "tx-scatter-gather",
    "tx-tcp-segmentation",
    "tx-tcp-ecn-segmentation",
    "tx-tcp-mangleid-segmentation",
    "tx-tcp6-segmentation",
    "tx-udp-segmentation",
    "tx-generic-segmentation",
)


@dataclass(frozen=True)
class Link:
    """One interface as rtnetlink(7) shows it; the packet counters are the host's view (IFLA_STATS64).

    On a TAP, received is what the guest transmitted, sent is what its reader took, and dropped (tx_dropped) found no
    room to wait for it. `idle` is true of a persistent TAP that nobody has open.
    """

    index: int
    name: str
    kind: str | None
    alias: str | None
    mac: str | None
    master: int | None
    up: bool
    carrier: bool
    received: int
    sent: int
    dropped: int = 0
    idle: bool = False

    @property
    def owner(self) -> Owner | None:
        """Which rawtap process made it, None where none did."""
        return Owner.of(self.alias)


@contextmanager
def rtnetlink(purpose: str, *, change: bool = True) -> Iterator[Any]:
    """An open IPRoute; its errors become ours, with `purpose` ("make the bridge x") in the text.

    To `change` something the socket's opener needs CAP_NET_ADMIN as well as the sender (netlink_ns_capable,
    net/netlink/af_netlink.c), so it is raised around both.
    """
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        with contextlib.ExitStack() as stack:
            if change:
                stack.enter_context(raised(Capability.NET_ADMIN, purpose, NetworkPermission))
            yield stack.enter_context(IPRoute())
    except NetlinkError as error:
        raise _netlink_error(purpose, error.code, str(error.args[-1])) from error


def _netlink_error(purpose: str, code: int, text: str) -> NetworkExists | NetworkFailed | NetworkPermission:
    if code == errno.EPERM:
        return NetworkPermission(
            f"cannot {purpose}", evidence=f"netlink: {text}", cure="qemu_doctor shows what is missing"
        )
    if code == errno.EEXIST:
        return NetworkExists(
            f"cannot {purpose}: the name is taken",
            evidence=f"netlink: {text}",
            cure="Choose another name in rawtap.toml",
        )
    return NetworkFailed(
        f"cannot {purpose}", evidence=f"netlink error {code}: {text}", cure="qemu_doctor checks the set-up"
    )


def link_of(message: Any) -> Link:
    """The interface that a RTM_NEWLINK or RTM_DELLINK message is about."""
    info = message.get_attr("IFLA_LINKINFO")
    stats = message.get_attr("IFLA_STATS64") or {}
    return Link(
        index=message["index"],
        name=os.fsdecode(message.get_attr("IFLA_IFNAME")),  # pyroute2 leaves it as bytes where it is no UTF-8
        kind=info.get_attr("IFLA_INFO_KIND") if info else None,
        alias=message.get_attr("IFLA_IFALIAS"),
        mac=message.get_attr("IFLA_ADDRESS"),
        master=message.get_attr("IFLA_MASTER"),
        up=bool(message["flags"] & _IFF_UP),
        carrier=bool(message["flags"] & _IFF_LOWER_UP),
        received=stats.get("rx_packets", 0),
        sent=stats.get("tx_packets", 0),
        dropped=stats.get("tx_dropped", 0),
        idle=_is_idle(message, info),
    )


def _is_idle(message: Any, info: Any) -> bool:
    """A TAP that nobody has open has no carrier (__tun_detach, drivers/net/tun.c), up or down."""
    if info is None or info.get_attr("IFLA_INFO_KIND") != "tun" or message.get_attr("IFLA_CARRIER") != 0:
        return False
    about = info.get_attr("IFLA_INFO_DATA")
    return bool(about and about.get_attr("IFLA_TUN_PERSIST"))


def all_links() -> list[Link]:
    """Every interface of this network namespace."""
    with rtnetlink("list the interfaces", change=False) as netlink:
        return [link_of(message) for message in netlink.get_links()]


def names() -> set[str]:
    """The names of every interface of this network namespace; a tenth of the time that `all_links` takes."""
    return {name for _, name in socket.if_nameindex()}


def find(name: str) -> Link | None:
    """The interface called `name`, None where there is none."""
    try:
        link = get(socket.if_nametoindex(name))
    except OSError:
        return None
    return link if link and link.name == name else None  # else it is another one's alternative name


def get(index: int) -> Link | None:
    """The interface of that index, None where there is none."""
    from pyroute2.netlink.exceptions import NetlinkError

    with rtnetlink(f"ask for the interface {index}", change=False) as netlink:
        try:
            return next((link_of(message) for message in netlink.link("get", index=index)), None)
        except NetlinkError as error:
            if error.code != errno.ENODEV:
                raise
            return None


def counters() -> dict[str, tuple[int, int]]:
    """Packets received and sent, of every interface by its name (proc_pid_net(5)).

    The numbers are those of rtnetlink. All of them take a tenth of a millisecond here; from a netlink dump it would be
    half a millisecond for each interface, which is what pyroute2 needs to decode it.
    """
    return {name: (int(fields[1]), int(fields[9])) for name, fields in _counted()}


def dropped(name: str) -> int | None:
    """Packets that an interface had no room for on their way out; None where there is none. As fast as `counters`."""
    return next((int(fields[11]) for each, fields in _counted() if each == name), None)


def _counted() -> Iterator[tuple[str, list[bytes]]]:
    for line in COUNTERS.read_bytes().splitlines()[2:]:  # two lines of headings
        name, _, numbers = line.rpartition(b":")
        yield os.fsdecode(name.strip()), numbers.split()


def addresses() -> list[tuple[IPv4Interface, int]]:
    """Every IPv4 address of this network namespace, with its interface's index."""
    with rtnetlink("list the addresses", change=False) as netlink:
        return [
            (IPv4Interface(f"{message.get_attr('IFA_ADDRESS')}/{message['prefixlen']}"), message["index"])
            for message in netlink.get_addr(family=2)
        ]


def routes() -> list[tuple[IPv4Network, int]]:
    """Every IPv4 route but the default one, with its interface's index."""
    with rtnetlink("list the routes", change=False) as netlink:
        return [
            (IPv4Network(f"{message.get_attr('RTA_DST')}/{message['dst_len']}"), message.get_attr("RTA_OIF"))
            for message in netlink.get_routes(family=2)
            if message["dst_len"] > 0
        ]


def make_bridge(name: str, mac: str, owner: Owner) -> Link:
    """Make a bridge with a fixed MAC address and its owner's mark, still down.

    The mark takes a request of its own: the kernel ignores IFLA_IFALIAS in the one that makes a link
    (rtnl_create_link, net/core/rtnetlink.c).
    """
    purpose = f"make the bridge {name}"
    with rtnetlink(purpose) as netlink:
        netlink.link("add", ifname=name, kind="bridge", address=mac, br_forward_delay=0)
        netlink.link("set", ifname=name, ifalias=owner.alias)
    return _made(name)


def _made(name: str) -> Link:
    link = find(name)
    if link is None:
        raise NetworkFailed(f"{name} vanished while it was made", cure="Somebody else removed it: call again")
    return link


def claim(link: Link, owner: Owner) -> None:
    """Mark an interface as `owner`'s."""
    with rtnetlink(f"mark {link.name}") as netlink:
        netlink.link("set", index=link.index, ifalias=owner.alias)


def raise_bridge(link: Link, address: IPv4Interface, mac: str) -> None:
    """Turn transmit offloads off, give the bridge its addresses and bring it up."""
    offloads_off(link.name)
    purpose = f"give {link.name} the address {address}"
    with rtnetlink(purpose) as netlink:
        netlink.addr("add", index=link.index, address=str(address.ip), prefixlen=address.network.prefixlen)
        netlink.link("set", index=link.index, address=mac, state="up")


def add_address(link: Link, address: IPv6Interface) -> None:
    """Give an interface an IPv6 address that can be used at once: nobody is asked whether he has it already."""
    with rtnetlink(f"give {link.name} the address {address}") as netlink:
        length = address.network.prefixlen
        netlink.addr("replace", index=link.index, address=str(address.ip), prefixlen=length, flags=_IFA_F_NODAD)


def bring_up(link: Link) -> None:
    """Set an interface up."""
    with rtnetlink(f"bring {link.name} up") as netlink:
        netlink.link("set", index=link.index, state="up")


def delete(link: Link) -> None:
    """Remove an interface; one that is gone already is no error."""
    purpose = f"remove {link.name}"
    try:
        with rtnetlink(purpose) as netlink:
            netlink.link("del", index=link.index)
    except NetworkFailed:
        if any(other.index == link.index for other in all_links()):
            raise


def replace_queue(link: Link, kind: str, options: dict[str, int | float]) -> None:
    """Let a queueing discipline have what goes out by an interface, in place of the one that was there.

    Raises:
        ImpairmentUnavailable: The kernel does not have that kind; the one that was there stays.
    """
    from pyroute2.netlink.exceptions import NetlinkError

    purpose = f"put a {kind} queue on {link.name}"
    with rtnetlink(purpose) as netlink:
        try:
            netlink.tc("replace", kind=kind, index=link.index, **options)
        except NetlinkError as error:
            if error.code != errno.ENOENT:  # what an unknown kind is, qdisc_create, net/sched/sch_api.c
                raise
            raise ImpairmentUnavailable(
                f"cannot {purpose}: this kernel has none",
                evidence=f"netlink: {error.args[-1]}",
                cure=f"Load the module (as root: modprobe sch_{kind}), or use a kernel that has it",
            ) from error


def reset_queue(link: Link) -> None:
    """Give an interface its default queue back; where it has that already it is no error."""
    from pyroute2.netlink.exceptions import NetlinkError

    purpose = f"reset the queue of {link.name}"
    with rtnetlink(purpose) as netlink:
        try:
            netlink.tc("del", index=link.index, parent=_TC_H_ROOT)
        except NetlinkError as error:
            if error.code != errno.ENOENT:  # the default one cannot be deleted, tc_get_qdisc, net/sched/sch_api.c
                raise


def queue_of(link: Link) -> str | None:
    """The kind of an interface's queue; None where the interface is gone."""
    found = _queue(link)
    return str(found.get_attr("TCA_KIND")) if found else None


def queue_passed(link: Link) -> int | None:
    """Frames that an interface's queue has handed to its driver; None where it has none that counts."""
    found = _queue(link)
    counted = found.get_attr("TCA_STATS2") if found else None
    basic = counted.get_attr("TCA_STATS_BASIC") if counted else None
    return int(basic["packets"]) if basic else None


def held_back(name: str) -> frozenset[str]:
    """Why a bridge, or a port of one, may keep frames back, in words; nothing where it is gone.

    IFLA_BR_* and IFLA_BRPORT_* of linux/if_link.h.
    """
    with rtnetlink(f"ask for the bridge or port {name}", change=False) as netlink:
        found = next((each for each in netlink.get_links() if each.get_attr("IFLA_IFNAME") == name), None)
    info = found.get_attr("IFLA_LINKINFO") if found else None
    port = info.get_attr("IFLA_INFO_SLAVE_DATA") if info else None
    bridge = info.get_attr("IFLA_INFO_DATA") if info and info.get_attr("IFLA_INFO_KIND") == "bridge" else None
    reasons = {VLAN_FILTERING} if bridge and bridge.get_attr("IFLA_BR_VLAN_FILTERING") else set()
    if port:
        state = port.get_attr("IFLA_BRPORT_STATE")
        reasons |= {ISOLATED} if port.get_attr("IFLA_BRPORT_ISOLATED") else set()
        reasons |= {f"its STP state is {_PORT_STATES[state]}"} if state in _PORT_STATES else set()
    return frozenset(reasons)


def learned() -> dict[str, str]:
    """Which link addresses bridges have seen behind which of their ports: the port's name, by the address.

    Those of interfaces themselves are not among them (NUD_PERMANENT, linux/neighbour.h).
    """
    with rtnetlink("ask which addresses are behind the bridges' ports", change=False) as netlink:
        ports = {each["index"]: os.fsdecode(each.get_attr("IFLA_IFNAME")) for each in netlink.get_links()}
        entries = list(netlink.fdb("dump"))
    found = {each.get_attr("NDA_LLADDR"): ports.get(each["ifindex"]) for each in entries if not each["state"] & _LOCAL}
    return {mac: port for mac, port in found.items() if mac and port}


def neighbor(mac: str, bridge: str) -> str | None:
    """The IPv4 address that the host has seen that link address have on a bridge, None where it has seen none."""
    with rtnetlink(f"ask who is on {bridge}", change=False) as netlink:
        index = next((each["index"] for each in netlink.get_links() if each.get_attr("IFLA_IFNAME") == bridge), None)
        there = list(netlink.get_neighbours(family=socket.AF_INET, ifindex=index)) if index else []
    found = (each.get_attr("NDA_DST") for each in there if str(each.get_attr("NDA_LLADDR")).lower() == mac.lower())
    return next((str(each) for each in found), None)


def _queue(link: Link) -> Any:
    with rtnetlink(f"ask for the queue of {link.name}", change=False) as netlink:
        found = [each for each in netlink.get_qdiscs(index=link.index) if each["parent"] == _TC_H_ROOT]
    return found[0] if found else None


def offloads_off(name: str) -> None:
    """Turn the transmit offloads of an interface off."""
    from pyroute2.ethtool import Ethtool
    from pyroute2.ethtool.ioctl import EthtoolError

    purpose = f"turn the transmit offloads of {name} off"
    try:
        with raised(Capability.NET_ADMIN, purpose, NetworkPermission), Ethtool() as ethtool:
            wanted = ethtool.get_features(name)
            for offload in _OFFLOADS:
                feature = wanted.features.get(offload)
                if feature is not None and feature.available:
                    feature.enable = False
            ethtool.set_features(name, wanted)
    except (OSError, EthtoolError) as error:
        # pyroute2's own say no more than their name: NoSuchDevice, where the interface has gone meanwhile.
        evidence = getattr(error, "strerror", None) or f"{type(error).__name__} {error}".rstrip()
        raise NetworkFailed(f"cannot {purpose}", evidence=evidence, cure="qemu_doctor checks the set-up") from error
