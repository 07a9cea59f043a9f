"""What is said of a capture filter before a handle sees it; asks /etc/services, /etc/protocols and libpcap's parser."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator

from rawtap.capture._native import syntax_error
from rawtap.errors import BadFilter

MAX_LENGTH = 2048
_SOME_ADDRESS = "192.0.2.1"  # for documentation, RFC 5737

# Words of libpcap's own grammar (scanner.l, grammar.y) after which a word means what is said here; after any other
# word of the grammar it would be the name of a host.
_MEANING = (
    dict.fromkeys(("port", "portrange"), "service")
    | dict.fromkeys(("proto", "protochain"), "protocol")
    | dict.fromkeys(
        ("type", "subtype", "dir", "direction", "on", "ifname", "reason", "action", "rset", "ruleset", "rs"), "word"
    )
)
_WORDS = """
aarp action addr1 addr2 addr3 addr4 address1 address2 address3 address4 ah and arp atalk bcc broadcast byte carp
clnp connectmsg csnp decnet dir direction dpc dst es-is esis esp ether fddi fisu gateway geneve greater
hdpc hfisu hlssu hmsu hopc host hsio hsls icmp icmp6 icmp6code icmp6type icmpcode icmptype ifindex ifname igmp igrp
iih ilmic inbound ip ip6 ipx is-is isis iso l1 l2 lane lat len length less link llc lsp lssu lsu mask metac
metaconnect moprc mopdl mpls msu multicast net netbeui not oam oam4 oam4ec oam4sc oamf4 oamf4ec oamf4sc on opc or
outbound pim port portrange ppp pppoed pppoes proto protochain psnp ra rarp reason rnum rs rset rulenum ruleset
rxaddr sc sca sctp sio slip sls snp src srnr stp subrulenum subtype ta tcp tcpflags tr txaddr type udp vci vlan vpi
vrrp vxlan wlan
"""
_GRAMMAR = frozenset(_WORDS.split())
_NAMED_VALUE = re.compile(r"(?:tcp|icmp|icmp6)-[a-z0-9]+")  # tcp-syn, icmp-echo
_NUMBER = re.compile(r"[0-9.]+(?:/[0-9]+)?|0[xX][0-9a-fA-F]+|[0-9]+-[0-9]+|[0-9a-fA-F]*:[0-9a-fA-F:.]*(?:/[0-9]+)?")
# 02-00-5e-00-53-01, 0200.5e00.5301, 02005e005301; anything else in hexadecimal, like dead.be, is a name to libpcap.
_HARDWARE = re.compile(
    r"[0-9a-fA-F]{1,2}(?:[.-][0-9a-fA-F]{1,2}){5}|[0-9a-fA-F]{4}(?:\.[0-9a-fA-F]{4}){2}|[0-9a-fA-F]{12}"
)
_TOKEN = re.compile(r"[A-Za-z0-9:][-_.:/A-Za-z0-9]*")


def checked(expression: str) -> str:
    """Return `expression` if libpcap may be given it.

    Syntax: pcap-filter(7). libpcap reads a C string, so a NUL byte would silently cut the filter short. Its
    optimizer's time grows much faster than an expression's length, so that is bounded. And it looks names of hosts up
    in the DNS while it compiles: a capture that sends packets of its own, and waits for the answers.

    Raises:
        BadFilter: A NUL byte, a character outside ASCII, too long, or a name that would be looked up.
    """
    if "\0" in expression:
        raise BadFilter.because(expression, "it holds a NUL byte, where libpcap would stop reading")
    if not expression.isascii():
        raise BadFilter.because(expression, "it holds a character outside ASCII, unknown to pcap-filter(7)")
    if len(expression) > MAX_LENGTH:
        raise BadFilter.because(
            expression,
            f"it has {len(expression)} characters; at most {MAX_LENGTH} are taken, since the time to compile one "
            "grows much faster than its length",
        )
    names = list(_names_of_hosts(expression))
    if names:
        raise BadFilter.because(expression, _explain_names(expression, names))
    return expression


def _explain_names(expression: str, names: list[re.Match[str]]) -> str:
    """Why words that are no keywords cannot be there: what libpcap says with an address in the place of each."""
    numeric = expression
    for name in reversed(names):
        numeric = numeric[: name.start()] + _SOME_ADDRESS + numeric[name.end() :]
    refusal = f"names are not looked up: use a numeric address for {names[0][0][:60]!r}"
    text = "" if any(_names_of_hosts(numeric)) else syntax_error(numeric)
    return f"libpcap: {text}; {names[0][0][:60]!r} is no keyword, and {refusal}" if text else refusal


def _names_of_hosts(expression: str) -> Iterator[re.Match[str]]:
    """The words that libpcap would look up as a host's or a network's name."""
    meaning: str | None = None
    for match in _TOKEN.finditer(expression):
        token = match[0]
        if token in _GRAMMAR:
            meaning = meaning if token in {"and", "or", "not"} else _MEANING.get(token)
        elif not _is_value(token) and not _is_known(token, meaning):
            yield match


def _is_value(token: str) -> bool:
    return any(pattern.fullmatch(token) for pattern in (_NUMBER, _HARDWARE, _NAMED_VALUE))


def _is_known(token: str, meaning: str | None) -> bool:
    """Whether `token` is a name of another kind, in the place for it."""
    if meaning == "service":
        return _listed(socket.getservbyname, token)
    if meaning == "protocol":
        return _listed(socket.getprotobyname, token)
    return meaning == "word"


def _listed(look_up: Callable[[str], object], name: str) -> bool:
    try:
        look_up(name)
    except OSError:
        return False
    return True
