"""All rules, by suite and by name."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from rawtap.errors import RequestInvalid
from rawtap.examine.rules import Rule
from rawtap.examine.suites import arp, dhcp, dns, fragments, icmp, impairments, ipv4, ipv6, link, tcp, udp

SUITES = {
    "link": link.RULES,
    "arp": arp.RULES,
    "ipv4": ipv4.RULES,
    "icmp": icmp.RULES,
    "udp": udp.RULES,
    "fragments": fragments.RULES,
    "tcp": tcp.RULES,
    "ipv6": ipv6.RULES,
    "dns": dns.RULES,
    "dhcp": dhcp.RULES,
    "impairments": impairments.RULES,
}
ALL = "all"
ALONE = ("impairments",)
"""Suites that are asked for by their names only: they wait for timers."""


def every() -> Iterator[Rule]:
    """Each rule, in the order in which they are tried."""
    for rules in SUITES.values():
        yield from rules


def chosen(what: str) -> tuple[Rule, ...]:
    """The rules of a suite, the one of that name, or all but those of suites that are `ALONE`.

    Raises:
        RequestInvalid: There is no such suite or rule; the text names the nearest.
    """
    if what == ALL:
        return tuple(rule for rule in every() if rule.suite not in ALONE)
    if what in SUITES:
        return SUITES[what]
    if found := tuple(rule for rule in every() if rule.name == what):
        return found
    names = [*SUITES, *(rule.name for rule in every())]
    near = difflib.get_close_matches(what, names, 3, 0.5)
    raise RequestInvalid(
        f"there is no suite and no rule {what[:60]!r}",
        evidence=f"suites: {', '.join(SUITES)}",
        cure=f'Use {" or ".join(near) or "a suite"}; what="all" tries all but {", ".join(ALONE)}',
    )
