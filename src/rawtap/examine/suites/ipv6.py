"""IPv6: headers, fragments and ICMPv6, and what a host says to its link and believes of it."""

from __future__ import annotations

from rawtap.examine.suites import _discovery, _fragments6, _headers6, _messages6, _own_addresses

RULES = (*_headers6.RULES, *_fragments6.RULES, *_messages6.RULES, *_discovery.RULES, *_own_addresses.RULES)
"""The suite."""
