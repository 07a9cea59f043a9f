"""DHCP, DNS and router advertisements on a bridge: dnsmasq's arguments, its lease file and its log. Pure.

Everything is said in arguments, since no file of the host's has a say here: neither its configuration, nor its
/etc/hosts. Its name servers are asked where guests have a way out, and only there. Whatever comes from a profile is
matched against a narrow pattern before, so that none of it can hold a comma and become another setting.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface

from rawtap.errors import ProfileInvalid
from rawtap.untrusted import visible

GATEWAY = "gateway"  # the host's name on the bridge
LEASE_SECONDS = 3600

_RA_SECONDS, _ROUTER_SECONDS = 600, 1800  # between advertisements, RFC 4861 6.2.1; and for how long one holds

_VENDOR_CLASS, _IPXE, _IPXE_OPTION = 60, "ipxe", 175  # DHCP options: RFC 2132 9.13; iPXE's own (ipxe.org/howto/dhcpd)
_SHOWN_LEASES = 100
_SHOWN_NAME = 64
_SHOWN_LINE = 300
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")  # a label, RFC 1123 2.1
_MAC = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}")
_LEASE_LINE = re.compile(r"([0-9]{1,12}) ([0-9a-f:-]{2,60}) ([0-9.]{7,15}) (\S+) \S+")
_LEASE_LINE6 = re.compile(r"([0-9]{1,12}) T?[0-9]{1,10} ([0-9a-f:]{2,39}) (\S+) ([0-9a-f:*]{1,400})")
_DUID_WITH_MAC = re.compile(
    r"00:(?:01:00:01(?::[0-9a-f]{2}){4}|03:00:01):((?:[0-9a-f]{2}:){5}[0-9a-f]{2})"
)  # RFC 8415 11
_LOG_LINE = re.compile(r"(?:\S+ +\d+ [\d:]{8} )?dnsmasq(-dhcp)?(?:\[\d+\])?: (.*)", re.DOTALL)
_READY = "started, version"  # logged once every socket is bound (dnsmasq.c)


@dataclass(frozen=True)
class StaticHost:
    """A machine that always gets the same address, and whose name is answered from the start."""

    name: str
    mac: str
    address: str


@dataclass(frozen=True)
class BootFile:
    """What network boot begins with, for one kind of client, or for all others where that is "".

    Attributes:
        name: A file of the TFTP folder's, or a URL.
        client: The kind; http-... are told that this is HTTP boot (UEFI 2.10 24.7.4), "ipxe" is who has option 175.
        numbers: The kind's own (RFC 4578 2.1).
    """

    name: str
    client: str = ""
    numbers: tuple[int, ...] = ()


@dataclass(frozen=True)
class ServicesSpec:
    """What is served on a bridge, to its subnets' guests, by the host's addresses on it.

    Attributes:
        servers: Name servers for all names that are not the bridge's own; none where no query is to leave.
        router6: Whether the host is a way out for IPv6, and not only a neighbour.
        tftp: A folder whose files are given by TFTP, "" for none; there is no comma in it.
        boot: What network boot begins with.
    """

    bridge: str
    address: IPv4Interface
    hosts: tuple[StaticHost, ...] = ()
    address6: IPv6Interface | None = None
    servers: tuple[str, ...] = ()
    router6: bool = False
    tftp: str = ""
    boot: tuple[BootFile, ...] = ()


@dataclass(frozen=True)
class Lease:
    """An address that a guest has, and for how many seconds more.

    Its own name for itself (untrusted) and its MAC address are "" where it does not tell.
    """

    name: str
    mac: str
    address: str
    expires: float


def pool(address: IPv4Interface) -> tuple[IPv4Address, IPv4Address]:
    """The first and the last address for guests: the longer stretch on either side of the host's own."""
    first, last = address.network.network_address + 1, address.network.broadcast_address - 1
    if int(address.ip) - int(first) > int(last) - int(address.ip):
        return first, address.ip - 1
    return address.ip + 1, last


def arguments(spec: ServicesSpec, lease_file: str) -> list[str]:
    """dnsmasq's arguments; it stays in the foreground and logs to stderr.

    Raises:
        ProfileInvalid: A static host that cannot be.
    """
    check(spec)
    first, last = pool(spec.address)
    out = [
        # Not only the foreground: no change of user, and no process of its own for a query over TCP, which would
        # outlive us.
        "--no-daemon",
        "--log-facility=-",
        "--pid-file",
        "--conf-file=/dev/null",
        "--no-hosts",
        "--no-resolv",
        "--bind-interfaces",
        f"--interface={spec.bridge}",
        "--except-interface=lo",
        "--dhcp-authoritative",
        f"--dhcp-range={first},{last},{spec.address.netmask},{LEASE_SECONDS}",
        f"--dhcp-leasefile={lease_file}",
        "--no-ping",  # whether an address is free: it would take seconds, and everybody here asks for theirs
        "--log-queries",
        f"--host-record={GATEWAY},{spec.address.ip}",
    ]
    for host in spec.hosts:
        out += [f"--dhcp-host={host.mac},{host.address},{host.name}", f"--host-record={host.name},{host.address}"]
    if spec.servers:
        out += ["--domain-needed", *(f"--server={server}" for server in spec.servers)]  # a guest's name stays here
    return out + _network_boot(spec) + (_arguments6(spec, spec.address6) if spec.address6 else [])


def _network_boot(spec: ServicesSpec) -> list[str]:
    """TFTP (RFC 1350), and which file to begin with, in DHCP's offer."""
    out = [f"--enable-tftp={spec.bridge}", f"--tftp-root={spec.tftp}"] if spec.tftp else []
    # In the field `file`, not as option 67: there UEFI's shim looks for the folder of what it loads next.
    out += ["--dhcp-no-override"] if spec.boot else []
    # iPXE has its platform's number as well: of several files that fit, dnsmasq takes the last one named.
    for file in sorted(spec.boot, key=lambda each: (bool(each.client), each.client == _IPXE)):
        matches = [f"option:client-arch,{number}" for number in file.numbers]
        matches += [str(_IPXE_OPTION)] if file.client == _IPXE else []
        out += [f"--dhcp-match=set:{file.client},{match}" for match in matches]
        tag = f"tag:{file.client}," if file.client else ""
        out.append(f"--dhcp-boot={tag}{file.name}")
        if file.client.startswith("http-"):
            out.append(f"--dhcp-option-force={tag}{_VENDOR_CLASS},HTTPClient")
    return out


def _arguments6(spec: ServicesSpec, address: IPv6Interface) -> list[str]:
    """Router advertisements, by which guests make addresses (SLAAC), and DHCPv6 for those that ask.

    Without a way out the router's lifetime is 0: an address, a name server, and no default route (RFC 4861 4.2).
    """
    network = address.network
    return [
        "--enable-ra",
        f"--dhcp-range={network[0x1000]},{network[0xFFFF]},slaac,ra-names,{network.prefixlen},{LEASE_SECONDS}",
        f"--ra-param={spec.bridge},{_RA_SECONDS},{_ROUTER_SECONDS if spec.router6 else 0}",
        f"--host-record={GATEWAY},{address.ip}",
    ]


def check(spec: ServicesSpec) -> None:
    """See that every static host can be.

    Raises:
        ProfileInvalid: One cannot.
    """
    seen: set[str] = {GATEWAY}
    for host in spec.hosts:
        for value, pattern, what in ((host.name, _NAME, "name"), (host.mac, _MAC, "MAC address")):
            if not pattern.fullmatch(value):
                raise _no_host(host, f"{value!r} is no {what}")
        address = _address_in(spec, host)
        keys = {host.name.lower(), host.mac.lower(), str(address)}
        if twice := keys & seen:
            raise _no_host(host, f"{min(twice)} is there twice")
        seen |= keys


def _address_in(spec: ServicesSpec, host: StaticHost) -> IPv4Address:
    network = spec.address.network
    try:
        address = IPv4Address(host.address)
    except ValueError as error:
        raise _no_host(host, str(error)) from error
    if address not in network or address in {network.network_address, network.broadcast_address, spec.address.ip}:
        raise _no_host(host, f"{address} is no guest's address in {network}, where the host has {spec.address.ip}")
    return address


def _no_host(host: StaticHost, evidence: str) -> ProfileInvalid:
    return ProfileInvalid(
        f"the host {host.name!r} cannot have a fixed address",
        evidence=evidence,
        cure='Write hosts = [{ name = "guest", mac = "52:54:00:12:34:56", address = "10.0.2.15" }] in rawtap.toml',
    )


def leases(text: str, now: float) -> list[Lease]:
    """The leases in a lease file's text, at the time `now` (seconds since 1970); at most 100.

    A line is its end (seconds since 1970), MAC address, IPv4 address, name or "*", and client id or "*"; with IPv6 the
    second field is the client's number for the address, and the last its DUID, which mostly has a MAC address
    (lease.c; RFC 8415 11). One that dnsmasq has not finished writing is left out.
    """
    found = [lease for line in text.splitlines() if (lease := _lease4(line, now) or _lease6(line, now)) is not None]
    return found[:_SHOWN_LEASES]


def _lease4(line: str, now: float) -> Lease | None:
    if (match := _LEASE_LINE.fullmatch(line)) is None:
        return None
    end, mac, address, name = match.groups()
    return Lease(_shown_name(name), mac, address, _left(end, now))


def _lease6(line: str, now: float) -> Lease | None:
    if (match := _LEASE_LINE6.fullmatch(line)) is None:
        return None
    end, address, name, duid = match.groups()
    mac = _DUID_WITH_MAC.fullmatch(duid)
    return Lease(_shown_name(name), mac[1] if mac else "", address, _left(end, now))


def _shown_name(name: str) -> str:
    return "" if name == "*" else visible(name)[:_SHOWN_NAME]


def _left(end: str, now: float) -> float:
    return round(max(0.0, int(end) - now), 1)


def log_line(line: str) -> tuple[str, str]:
    """A line of dnsmasq's log as a note of the journal: its kind, "dhcp" or "dns", and its text, fit to be shown."""
    match = _LOG_LINE.fullmatch(line)
    kind, text = ("dhcp" if match[1] else "dns", match[2]) if match else ("dns", line)
    shown = visible(text.strip())
    return kind, shown if len(shown) <= _SHOWN_LINE else shown[: _SHOWN_LINE - 3] + "..."


def is_ready(text: str) -> bool:
    """Whether dnsmasq says in that line that it serves."""
    return text.startswith(_READY)
