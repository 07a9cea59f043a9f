"""What is said of a capture filter before a handle sees it; asks /etc/services, /etc/protocols and libpcap's parser."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator

from rawtap._bpf import is_ipv6, syntax_error
from rawtap.errors import BadFilter

MAX_LENGTH = 2048
_SOME_ADDRESS = "192.0.2.1"  # for documentation, RFC 5737

# Words of libpcap's own grammar (scanner.l, grammar.y), and those after which a word is not the name of a host.
_WORDS = """
aarp action addr1 addr2 addr3 addr4 address1 address2 address3 address4 ah and arp atalk bcc broadcast byte carp
clnp connectmsg csnp decnet dir direction dpc dst es-is esis esp ether fddi fisu gateway geneve greater
hdpc hfisu hlssu hmsu hopc host hsio hsls icmp icmp6 icmp6code icmp6type icmpcode icmptype ifindex ifname igmp igrp
iih ilmic inbound ip ip6 ipx is-is isis iso l1 l2 lane lat len length less link llc lsp lssu lsu mask metac
metaconnect moprc mopdl mpls msu multicast net netbeui not oam oamf4 oamf4ec oamf4sc on opc or outbound pim port
portrange ppp pppoed pppoes proto protochain psnp ra radio rarp reason rnr rset rulenum ruleset sc sca sctp sio slip
sls snp src srnr stp subrulenum subtype ta tcp tcpflags tr type udp vci vlan vpi vrrp wlan
icmp-echoreply icmp-unreach icmp-sourcequench icmp-redirect icmp-echo icmp-routeradvert icmp-routersolicit
icmp-timxceed icmp-paramprob icmp-tstamp icmp-tstampreply icmp-ireq icmp-ireqreply icmp-maskreq icmp-maskreply
icmp6-destinationunreach icmp6-packettoobig icmp6-timeexceeded icmp6-parameterproblem icmp6-echo icmp6-echoreply
icmp6-multicastlistenerquery icmp6-multicastlistenerreportv1 icmp6-multicastlistenerdone icmp6-routersolicit
icmp6-routeradvert icmp6-neighborsolicit icmp6-neighboradvert icmp6-redirect icmp6-routerrenum
icmp6-nodeinformationquery icmp6-nodeinformationresponse icmp6-ineighbordiscoverysolicit
icmp6-ineighbordiscoveryadvert icmp6-multicastlistenerreportv2 icmp6-homeagentdiscoveryrequest
icmp6-homeagentdiscoveryreply icmp6-mobileprefixsolicit icmp6-mobileprefixadvert icmp6-certpathsolicit
icmp6-certpathadvert icmp6-multicastrouteradvert icmp6-multicastroutersolicit icmp6-multicastrouterterm
tcp-fin tcp-syn tcp-rst tcp-push tcp-ack tcp-urg tcp-ece tcp-cwr
"""
_GRAMMAR = frozenset(_WORDS.split())
_SERVICE_AFTER = frozenset({"port", "portrange"})
_PROTOCOL_AFTER = frozenset({"proto", "protochain"})
_WORD_AFTER = frozenset({"type", "subtype", "dir", "direction", "on", "ifname", "reason", "action", "rset", "ruleset"})

# What the scanner takes for one word. After a backslash nothing is a keyword.
_TOKEN = re.compile(r"\\[^ !()\n\t]*|[A-Za-z0-9:](?:[-_.:A-Za-z0-9]*[.:A-Za-z0-9])?")
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]+")
_DOTTED = re.compile(r"[0-9]+(?:\.[0-9]+){1,3}")
_RANGE = re.compile(r"[0-9]+-[0-9]+")
# 02:00:5e:00:53:01, 02-00-5e-00-53-01, 0200.5e00.5301, 02005e005301; anything else like dead.be is a name to libpcap.
_HARDWARE = re.compile(
    r"[0-9a-fA-F]{1,2}(?:([:.-])[0-9a-fA-F]{1,2})(?:\1[0-9a-fA-F]{1,2}){4}"
    r"|[0-9a-fA-F]{4}(?:\.[0-9a-fA-F]{4}){2}|[0-9a-fA-F]{12}"
)


def checked(expression: str) -> str:
    """Return `expression` if libpcap may be given it. May take a second where it is refused for a name.

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
    """Why a filter with unknown words is refused: libpcap's own text for it, with an address in place of each word."""
    numeric = expression
    for name in reversed(names):
        numeric = numeric[: name.start()] + _SOME_ADDRESS + numeric[name.end() :]
    shown = names[0][0][:60].removeprefix("\\")
    refusal = f"names are not looked up: use a numeric address for {shown!r}"
    text = "" if any(_names_of_hosts(numeric)) else syntax_error(numeric)
    return f"libpcap: {text}; {shown!r} is no keyword, and {refusal}" if text else refusal


def _names_of_hosts(expression: str) -> Iterator[re.Match[str]]:
    """The words that libpcap would look up as a host's or a network's name."""
    keyword = ""  # the last one, which says what a word after it is; `and` and the like pass most of that on
    for match in _TOKEN.finditer(expression):
        token = match[0]
        if token in _GRAMMAR:
            keyword = keyword if token in {"and", "or", "not"} and keyword not in _WORD_AFTER else token
        elif not _is_value(token) and not _is_known(token.removeprefix("\\"), keyword):
            yield match


def _is_value(token: str) -> bool:
    """Whether the scanner takes `token` for a number or an address."""
    if any(form.fullmatch(token) for form in (_NUMBER, _DOTTED, _HARDWARE)) or is_ipv6(token):
        return True
    offset, colon, size = token.partition(":")  # ip[6:2]
    return bool(colon) and (offset in _GRAMMAR or _is_number(offset)) and _is_number(size)


def _is_number(text: str) -> bool:
    return not text or _NUMBER.fullmatch(text) is not None


def _is_known(token: str, keyword: str) -> bool:
    """Whether `token` is a name of another kind, in the place for it."""
    if keyword in _SERVICE_AFTER:
        return _RANGE.fullmatch(token) is not None or _listed(socket.getservbyname, token)
    if keyword in _PROTOCOL_AFTER:
        return token in _GRAMMAR or _listed(socket.getprotobyname, token)
    return keyword in _WORD_AFTER


def _listed(look_up: Callable[[str], object], name: str) -> bool:
    try:
        look_up(name)
    except OSError:
        return False
    return True
