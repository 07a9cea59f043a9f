"""A way out for a bridge's guests: what is forwarded, and under which address it leaves.

Theory of operation. Whatever is made here stands in the kernel before it has an effect: the table, whose name says who
made it and where forwarding was switched on for it (`rules.Mark`), then the switches. It is undone in the reverse
order, so whoever is killed in between leaves a mark by which the next start undoes the rest. Two servers may need the
same uplink; the last one whose mark names it switches its forwarding off again.

- IPv4 is forwarded by what its input interface says: the bridge, and the uplink for the answers. The switch for the
  whole host is never touched.
- IPv6 has had the like of it since Linux 6.17. An older kernel knows the host's switch alone: that is set only in a
  namespace of the server's own.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from rawtap.errors import NameInvalid, NetworkError, OutsideUnavailable
from rawtap.host import children, privileges, programs
from rawtap.host.landlock import Access
from rawtap.host.privileges import Capability
from rawtap.network import addressing, rules, switches, uplinks
from rawtap.network.addressing import Owner
from rawtap.network.network import alone
from rawtap.network.rules import Gate, Mark
from rawtap.network.switches import ALL, FORCE_FORWARDING, FORWARDING, Family

logger = logging.getLogger(__name__)

PACKAGE = "nftables"

_SWITCH: dict[Family, str] = {"ipv4": FORWARDING, "ipv6": FORCE_FORWARDING}  # of one interface


@dataclass(frozen=True)
class Inside:
    """Who wants out: guests of a bridge. `own` tells whether this network namespace is the server's own."""

    bridge: str
    subnet4: IPv4Network
    subnet6: IPv6Network | None
    own: bool


@dataclass(eq=False)
class Way:
    """A way out; `remarks` are what is less than was wanted, in words. It is `open` until all of it is taken back."""

    gate: Gate
    remarks: tuple[str, ...]
    open: bool = True

    def now(self) -> tuple[str | None, str | None]:
        """The uplinks of IPv4 and IPv6, None for one that has not got the default route any more."""
        four, six = self.gate.uplink4, self.gate.uplink6
        return four if four == uplinks.default4() else None, six if six == uplinks.default6() else None


@dataclass(frozen=True)
class _Plan:
    """For one family: the uplink, or why there is none; and what to switch on."""

    uplink: str | None = None
    why_not: str = ""
    switched: int = 0  # the uplink's index, where it forwards for rawtap's sake alone
    switches: tuple[tuple[str, str], ...] = ()  # interface and switch


@contextmanager
def opened(inside: Inside) -> Iterator[Way]:
    """A way out by the default routes as they are now; closed with the block.

    Raises:
        OutsideUnavailable: There is none, for neither family, or nft(8) is not there or fails.
        NetworkError: Another of its kinds; nothing is left.
    """
    with alone():
        others = _without_the_dead(_marks())
        plans: dict[Family, _Plan] = {"ipv4": _plan("ipv4", inside, others), "ipv6": _plan("ipv6", inside, others)}
        reasons = tuple(plan.why_not for plan in plans.values() if plan.why_not)
        if len(reasons) == len(plans):
            raise OutsideUnavailable(
                f"no way out of {inside.bridge}",
                evidence="; ".join(reasons),
                cure="It goes by the default route: give this machine one, then boot anew",
            )
        gate = Gate(inside.bridge, inside.subnet4, inside.subnet6, plans["ipv4"].uplink, plans["ipv6"].uplink)
        mark = Mark(Owner.me(), plans["ipv4"].switched, plans["ipv6"].switched, inside.bridge)
        _open(mark, gate, plans)
    way = Way(gate, reasons)
    try:
        way.remarks += tuple(_who_refuses(gate))
        yield way
    finally:
        with alone():
            way.open = not _close_or_log(mark)


def _plan(family: Family, inside: Inside, others: list[Mark]) -> _Plan:
    """How packets of a family get out, from what can be seen."""
    if family == "ipv6" and inside.subnet6 is None:
        return _Plan(why_not=f"no IPv6 on {inside.bridge}")
    label = {"ipv4": "IPv4", "ipv6": "IPv6"}[family]
    uplink = uplinks.default4() if family == "ipv4" else uplinks.default6()
    if uplink is None:
        return _Plan(why_not=f"no {label} default route")
    try:
        addressing.checked_name(uplink)  # it becomes part of a rule
    except NameInvalid as error:
        return _Plan(why_not=f"the {label} default route's interface: {error.problem}")
    return _by(family, uplink, inside, others)


def _by(family: Family, uplink: str, inside: Inside, others: list[Mark]) -> _Plan:
    switch, index = _SWITCH[family], uplinks.index_of(uplink)
    whole, alone_ = switches.read(family, ALL, FORWARDING) == "1", switches.read(family, uplink, switch)
    of_bridge = ((inside.bridge, switch),)
    if family == "ipv6" and whole:
        return _Plan(uplink)
    if alone_ is None:
        if inside.own:
            return _Plan(uplink, switches=((ALL, FORWARDING),))
        return _Plan(why_not="IPv6: this host does not forward it, and before Linux 6.17 one interface alone cannot")
    if alone_ == "1":
        same = any(index == (mark.ipv4 if family == "ipv4" else mark.ipv6) for mark in others)
        return _Plan(uplink, switched=index if same else 0, switches=of_bridge)
    if whole:
        return _Plan(why_not=f"net.{family}.conf.{uplink}.{switch} is 0 on a host that forwards: somebody chose that")
    return _Plan(uplink, switched=index, switches=(*of_bridge, (uplink, switch)))


def _open(mark: Mark, gate: Gate, plans: dict[Family, _Plan]) -> None:
    _nft(["-f", "-"], rules.table(mark, gate))
    try:
        for family, plan in plans.items():
            for interface, switch in plan.switches:
                switches.write(family, interface, switch, "1")
    except BaseException:
        _close_or_log(mark)
        raise


def _close_or_log(mark: Mark) -> bool:
    """Close it; whether that could be done. Whoever is on his way down has nobody left to tell."""
    try:
        _close(mark)
    except NetworkError as error:
        logger.warning("could not take back the way out of %s: %s", mark.bridge, error)
        return False
    return True


def _close(mark: Mark) -> None:
    """Switch off what was switched on for this mark's sake alone; then remove its table."""
    there = _marks()
    others = [each for each in there if each != mark]
    # Who made the whole host forward since then wants the uplink to do so as well.
    whole = switches.read("ipv4", ALL, FORWARDING) == "1"
    if mark.ipv4 and not whole and all(each.ipv4 != mark.ipv4 for each in others):
        _switch_off("ipv4", mark.ipv4)
    if mark.ipv6 and all(each.ipv6 != mark.ipv6 for each in others):
        _switch_off("ipv6", mark.ipv6)
    if all(each.bridge != mark.bridge for each in others):
        _leave(mark.bridge)
    if mark in there:  # else somebody flushed the rules
        _nft(["delete", "table", "inet", mark.table])


def _switch_off(family: Family, index: int) -> None:
    if name := uplinks.name_of(index):
        switches.write(family, name, _SWITCH[family], "0")


def _leave(bridge: str) -> None:
    """Have a bridge, which other servers' guests may still be on, forward no more than a new one does."""
    for family, switch in _SWITCH.items():
        if switches.read(family, bridge, switch) == "1":
            switches.write(family, bridge, switch, "0")


def _marks() -> list[Mark]:
    return rules.marks(_nft(["-j", "list", "tables"]))


def _without_the_dead(marks: list[Mark]) -> list[Mark]:
    """Undo what dead servers left; return the marks of the others."""
    for mark in marks:
        if mark.owner.gone():
            _close(mark)
    return [mark for mark in marks if not mark.owner.gone()]


def _who_refuses(gate: Gate) -> list[str]:
    """What of somebody else's drops forwarded packets unless it knows them: our table cannot overrule it."""
    listing = _nft(["-j", "list", "chains"])
    families = {"ipv4": "ip", "ipv6": "ip6"}
    found = {chain for family, _ in gate.uplinks() for chain in rules.refusing(listing, families[family])}
    return [f"{chain} drops what it does not know: it may drop this" for chain in sorted(found)]


def sweep() -> list[str]:
    """Undo what dead rawtap processes left; return the bridges that it was for. Failing to is logged, and no error."""
    if programs.find("nft") is None:
        return []
    try:
        with alone():
            marks = _marks()
            left = _without_the_dead(marks)
    except NetworkError as error:
        logger.warning("could not look for firewall tables of dead servers: %s", error)
        return []
    return [mark.bridge for mark in marks if mark not in left]


def _nft(arguments: list[str], text: str = "") -> str:
    """Run nft(8), which has CAP_NET_ADMIN meanwhile, and can get no other; return what it says."""
    nft = programs.require("nft", PACKAGE, OutsideUnavailable, "no way out")
    privileges.require({Capability.NET_ADMIN}, "change the firewall", OutsideUnavailable)
    done = children.run([nft, *arguments], text, Access(programs=(Path(nft),)), capabilities={Capability.NET_ADMIN})
    if done.code != 0:
        raise OutsideUnavailable(
            f"nft {' '.join(arguments)} failed",
            evidence=done.complaint.strip()[:1000] or f"exit code {done.code}",
            cure="The kernel needs nf_tables and its NAT: qemu_doctor checks the set-up",
        )
    return done.out
