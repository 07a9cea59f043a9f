"""A bridge and its TAPs: made, shared, given back.

Theory of operation. A bridge that rawtap makes carries its owner in its alias. It lives until the last TAP on it is
gone: whoever takes that away removes the bridge, unless its owner is another process that still runs. An owner whose
last guest leaves while others' stay marks the bridge as nobody's, and the next one takes it over. So two servers can
share one bridge by name and neither cuts the other off: who looks whether a bridge is there or empty, and
acts on it, holds a lock of this network namespace meanwhile. A bridge that nobody of ours made is used and left
standing. A TAP ends with the last descriptor of it, which is QEMU's. Only for a moment after it was made, within the
lock, it would outlive this process: its name has our pid, by which a later start knows it.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import FileIO
from ipaddress import IPv4Interface

from rawtap.errors import NetworkError, NetworkExists
from rawtap.network import addressing, links, switches, taps
from rawtap.network.addressing import Owner
from rawtap.network.links import Link

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BridgeSpec:
    """The bridge that a guest wants.

    Attributes:
        name: At most 15 characters.
        address: The host's address on it, the guests' gateway.
        trusted: Whether the name comes from rawtap itself or from the operator. A bridge that exists, and that is not
            rawtap's own, is joined only then: a project's file must not lead into the host's network.
    """

    name: str
    address: IPv4Interface
    trusted: bool


@dataclass(frozen=True)
class Bridge:
    """A bridge in use; `made` tells whether rawtap made it."""

    link: Link
    address: IPv4Interface
    made: bool

    @property
    def name(self) -> str:
        """The interface's name."""
        return self.link.name


@dataclass(frozen=True)
class Tap:
    """A guest's TAP: its name, the guest's MAC address, and the open device that keeps it alive.

    Whoever hands the descriptor on to QEMU closes `device` after that: it then lives as long as QEMU does.
    """

    name: str
    mac: str
    device: FileIO


class BridgeGone(Exception):
    """The bridge was removed since it was joined, by the server that made it."""


@contextmanager
def alone() -> Iterator[None]:
    """Keep every other rawtap process of this network namespace out; the lock goes with its holder (flock(2))."""
    namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(namespace, fcntl.LOCK_EX)
        yield
    finally:
        os.close(namespace)


@contextmanager
def bridge(spec: BridgeSpec) -> Iterator[Bridge]:
    """Use the bridge of that name, making it where there is none; give it back afterwards.

    Raises:
        NetworkError: One of its kinds; what a failed start had made is removed again.
    """
    addressing.checked_name(spec.name)
    with alone():
        _remove_unfinished(links.find(spec.name))
        used = _join(spec) or _make(spec)
    try:
        yield used
    finally:
        with alone():
            _give_back(used.link)


def _make(spec: BridgeSpec) -> Bridge:
    _require_free_subnet(spec)
    try:
        link = links.make_bridge(spec.name, _bridge_mac(spec.name), Owner.me())
    except NetworkExists:
        # Another server made it a moment ago.
        if (joined := _join(spec)) is not None:
            return joined
        raise
    try:
        links.raise_bridge(link, spec.address, addressing.host_mac(spec.address.ip))
        _keep_to_itself(link)
    except BaseException:
        links.delete(link)
        raise
    return Bridge(link, spec.address, made=True)


def _keep_to_itself(link: Link) -> None:
    """Have a host that forwards everything, as container engines have it, not forward from this bridge.

    Failing to is logged, and no error: the guests are as well off as before there was a way out at all.
    """
    try:
        switches.write("ipv4", link.name, switches.FORWARDING, "0")
    except NetworkError as error:
        logger.warning("this host forwards what guests on %s send: %s", link.name, error)


def _require_free_subnet(spec: BridgeSpec) -> None:
    """A second interface in the same subnet would take the host's replies away from the first."""
    used = [(address.network, f"has {address}", index) for address, index in links.addresses()]
    used += [(route, f"is the way to {route}", index) for route, index in links.routes()]
    for subnet, how, index in used:
        if subnet.overlaps(spec.address.network):
            raise NetworkExists(
                f"cannot make the bridge {spec.name} with {spec.address}: the subnet is in use",
                evidence=f"{_name_of(index)} {how}",
                cure='Shut that guest down, use the same bridge, or set another "address" in rawtap.toml',
            )


def _name_of(index: int) -> str:
    link = links.get(index)
    return link.name if link else f"interface {index}"


def _remove_unfinished(link: Link | None) -> bool:
    """Remove a bridge that a killed server had begun to make: it has the MAC that we give it, and no mark yet.

    Whoever calls this is alone, so nobody is still making it.
    """
    if link is None or link.kind != "bridge" or link.alias is not None or link.up:
        return False
    if link.mac != _bridge_mac(link.name):
        return False
    links.delete(link)
    return True


def _bridge_mac(name: str) -> str:
    return addressing.mac_for("bridge", name)


def _join(spec: BridgeSpec) -> Bridge | None:
    """Use the interface of that name, None where there is none."""
    link = links.find(spec.name)
    if link is None:
        return None
    if link.kind != "bridge":
        raise NetworkExists(
            f"cannot use {spec.name}: an interface of that name exists and is no bridge",
            evidence=f"its kind is {link.kind or 'a device'}",
            cure='Set another "bridge" in rawtap.toml',
        )
    if link.owner is None and not spec.trusted:
        raise NetworkExists(
            f"the bridge {spec.name} exists and rawtap did not make it",
            evidence="a project's file may not lead into a network of the host's",
            cure=f"The operator can allow it: start the server with --allow-interface {spec.name}",
        )
    if link.owner is not None and link.owner.gone():
        links.claim(link, Owner.me())
        link = replace(link, alias=Owner.me().alias)
    if not link.up:
        links.bring_up(link)
    return Bridge(link, _address_of(link) or spec.address, made=link.owner is not None)


def claimed(bridge: Bridge) -> Bridge | None:
    """The bridge as it is now, this process's if its owner has ended; None where it is gone.

    Raises:
        NetworkError: It cannot be marked.
    """
    with alone():
        link = links.get(bridge.link.index)
        if link is None or link.owner is None:
            return None
        if link.owner.gone():
            links.claim(link, Owner.me())
            link = replace(link, alias=Owner.me().alias)
        return replace(bridge, link=link)


def ports_of(bridge: Bridge) -> list[str]:
    """The names of what is on a bridge now."""
    return sorted(link.name for link in links.all_links() if link.master == bridge.link.index)


def _address_of(link: Link) -> IPv4Interface | None:
    return next((address for address, index in links.addresses() if index == link.index), None)


def _give_back(link: Link) -> None:
    """Remove the bridge if it is rawtap's, nobody else's and empty; leave it to the others if it is not."""
    now = links.find(link.name)
    if now is None or now.index != link.index or now.owner is None:
        return
    empty = all(other.master != now.index for other in links.all_links())
    if empty and (now.owner == Owner.me() or now.owner.gone()):
        links.delete(now)
    elif now.owner == Owner.me():
        links.claim(now, Owner.nobody())


@dataclass(frozen=True)
class Station:
    """Whose card it is: the guest's name, the project that it is of, the Lab's number in this server, the card's."""

    guest: str
    project: str = ""
    lab: int = 0
    card: int = 0

    def mac(self, bridge: str) -> str:
        """Its MAC address on that bridge: the same after each start, so that it keeps its address of DHCP."""
        return addressing.mac_for("guest", bridge, self.guest, self.project, str(self.lab), str(self.card))

    def other_mac(self, bridge: str) -> str:
        """One that no other server's guest has, for where that of `mac` is in use."""
        # Not the pid alone: two containers on the host's network may have the same.
        return addressing.mac_for("guest", bridge, self.guest, Owner.me().alias, str(self.lab), str(self.card))


@contextmanager
def tap(bridge: str, station: Station, mac: str | None = None, mtu: int | None = None) -> Iterator[Tap]:
    """A TAP for a guest's card, for the bridge of that name: `plug` puts it there.

    Its card has `mac`, or one of its own where there is none or a card there has it, and its alias tells of that where
    other servers look. It is gone once the block and QEMU have ended.
    """
    with alone():
        there = links.all_links()
        name = _free_tap_name({each.name for each in there})
        wishes = [*([mac] if mac else []), station.mac(bridge), station.other_mac(bridge)]
        taken = _macs_on(bridge, there)
        wanted = next((each for each in wishes if addressing.tap_alias(each) not in taken), wishes[-1])
        device = FileIO(taps.make(name, addressing.tap_alias(wanted), mtu), "r+")
    with device:
        yield Tap(name, wanted, device)


def _macs_on(bridge: str, there: Collection[Link]) -> set[str | None]:
    """The addresses of guests' cards on a bridge, as aliases have them, or that may come there: not on one yet."""
    places = {None, *(each.index for each in there if each.name == bridge)}
    return {each.alias for each in there if each.master in places}


def plug(tap: Tap, on: Bridge) -> None:
    """Put a TAP on a bridge.

    Raises:
        BridgeGone: It is as before.
        NetworkError: One of its kinds.
    """
    with alone():
        if not is_there(on):
            raise BridgeGone(on.name)
        taps.plug(tap.name, on.link)


def is_there(bridge: Bridge) -> bool:
    """Whether it still exists, and is not another one of its name."""
    return links.get(bridge.link.index) is not None


def _free_tap_name(taken: set[str]) -> str:
    """A name with our pid in it: two servers that choose at the same moment choose differently."""
    return next(name for number in range(len(taken) + 1) if (name := addressing.tap_name(number)) not in taken)


def _is_left_behind(link: Link) -> bool:
    """Whether a rawtap that has ended made it. Whoever calls this is alone, so nobody is still making it."""
    return link.owner.gone() if link.owner else link.idle and addressing.is_tap_of_the_dead(link.name)


def sweep() -> list[str]:
    """Remove what dead rawtap processes left behind; return the names. Nothing of anybody else's is touched."""
    removed = []
    with alone():
        there = links.all_links()
        used = {link.master for link in there}
        for link in there:
            try:
                if _remove_unfinished(link):
                    removed.append(link.name)
                elif _is_left_behind(link) and link.index not in used:
                    links.delete(link)
                    removed.append(link.name)
            except NetworkError as error:
                logger.warning("left %s standing: %s", link.name, error)
    return removed
