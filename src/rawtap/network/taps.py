"""A guest's TAP, by pyroute2, ethtool and /dev/net/tun: made, and put on a bridge that passes its frames on at once.

Each function is synchronous, for a worker thread, as those of `links` are.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import struct
import time
from pathlib import Path

from rawtap.errors import (
    NetworkExists,
    NetworkFailed,
    ServerExhausted,
    TunMissing,
    TunPermission,
)
from rawtap.host.privileges import WITHOUT_PRIVILEGE, setcap_command
from rawtap.network import links
from rawtap.network.links import Link

TUN_DEVICE = Path("/dev/net/tun")

# linux/if_tun.h
_TUNSETIFF = 0x400454CA
_TUNSETPERSIST = 0x400454CB
_TAP = 0x0002 | 0x1000  # IFF_TAP, IFF_NO_PI

# From linux/rtnetlink.h
_RTMGRP_LINK = 0x1
_RTM_DELLINK = 17
_LINK_MESSAGE = struct.Struct("=4xH10x B3xiI")  # the type of a nlmsghdr; family, index and flags of an ifinfomsg
_IFF_RUNNING = 0x40  # operational, linux/Documentation/networking/operstates.rst
_LONG_FOR_LINKWATCH = 5.0  # seconds; it needs a fraction of a millisecond


def make(name: str, alias: str | None = None, mtu: int | None = None) -> int:
    """Make a TAP, still down and on no bridge, and return the descriptor that alone keeps it alive.

    pyroute2 makes it persistent (TUNSETPERSIST, linux/Documentation/networking/tuntap.rst) and closes it. A moment
    later it is opened here, and its life is tied to the descriptor. A process that is killed between the two leaves an
    `idle` TAP. No IFF_VNET_HDR: without it neither side may leave a checksum to the other, so what is captured is what
    the guest computed.

    Raises:
        TunMissing, TunPermission: /dev/net/tun.
        NetworkExists: The name is taken. pyroute2 would not say so: it "makes" a TAP that exists.
    """
    purpose = f"make the TAP {name}"
    require_tun()
    if name in links.names():
        raise NetworkExists(f"cannot {purpose}: the name is taken", cure="qemu_status lists the networks in use")
    with links.rtnetlink(purpose) as netlink:
        netlink.link("add", ifname=name, kind="tuntap", mode="tap")
        try:
            if alias or mtu:
                netlink.link("set", ifname=name, **{"ifalias": alias or "", **({"mtu": mtu} if mtu else {})})
            return _attached(name, purpose)
        except BaseException:
            netlink.link("del", ifname=name)
            raise


def _attached(name: str, purpose: str) -> int:
    """Open a persistent TAP that nobody has open; from now on it ends with the descriptor."""
    with contextlib.ExitStack() as undo:
        try:
            fd = os.open(TUN_DEVICE, os.O_RDWR | os.O_CLOEXEC)
            undo.callback(os.close, fd)
            fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _TAP))
            fcntl.ioctl(fd, _TUNSETPERSIST, 0)
        except OSError as error:
            raise ServerExhausted.of(error) or NetworkFailed(
                f"cannot {purpose}", evidence=error.strerror or str(error), cure="Call again"
            ) from error
        undo.pop_all()
    return fd


def plug(tap: str, bridge: Link) -> None:
    """Turn a TAP's transmit offloads off, put it on `bridge` and bring it up; the bridge then passes its frames on.

    To the kernel's link watch a TAP that was without a reader, as `make` leaves it, may be without a carrier still, and
    a bridge disables such a port. The link watch looks once a second. At once it looks where a carrier comes to an
    interface that is up already (linkwatch_urgent_event, net/core/link_watch.c), so this one comes last. The bridge
    hears of it before subscribers do (netdev_state_change, net/core/dev.c).
    """
    links.offloads_off(tap)
    purpose = f"put {tap} on {bridge.name}"
    with _told_of_links() as told, links.rtnetlink(purpose) as netlink:
        try:
            index = socket.if_nametoindex(tap)
            netlink.link("set", index=index, attrs=[("IFLA_CARRIER", 0)])
            netlink.link("set", index=index, master=bridge.index, state="up", attrs=[("IFLA_CARRIER", 1)])
            _until_operational(told, index)
        except OSError as error:
            raise NetworkFailed(
                f"cannot {purpose}", evidence=error.strerror or str(error), cure="Call again"
            ) from error


def _told_of_links() -> socket.socket:
    """What gets a message about every change of a link; pyroute2's would cost a boot half a millisecond more."""
    told = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    told.bind((0, _RTMGRP_LINK))
    return told


def _until_operational(told: socket.socket, index: int) -> None:
    """Wait until the kernel tells that the interface works.

    Raises:
        OSError: It was removed; or it does not work in a long time (TimeoutError).
    """
    end = time.monotonic() + _LONG_FOR_LINKWATCH
    while True:
        told.settimeout(max(0.001, end - time.monotonic()))
        kind, family, about, flags = _LINK_MESSAGE.unpack(told.recv(_LINK_MESSAGE.size))
        if (family, about) != (socket.AF_UNSPEC, index):
            continue
        if kind == _RTM_DELLINK:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        if flags & _IFF_RUNNING:
            return


def set_carrier(link: Link, *, on: bool) -> None:
    """Plug a TAP's cable in, or pull it, as the host sees it (tun_net_change_carrier, drivers/net/tun.c; Linux 5.0).

    As an attribute: pyroute2 drops the keyword `carrier` in silence.
    """
    purpose = f"{'give' if on else 'take'} {link.name} its carrier"
    with links.rtnetlink(purpose) as netlink:
        netlink.link("set", index=link.index, attrs=[("IFLA_CARRIER", int(on))])


def require_tun() -> None:
    """Check that this user can open /dev/net/tun.

    Raises:
        TunMissing: It is not there.
        TunPermission: Its mode keeps this user out; CAP_NET_ADMIN does not help with that.
    """
    try:
        os.close(os.open(TUN_DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError as error:
        raise TunMissing(
            f"{TUN_DEVICE} is missing",
            evidence=error.strerror or "",
            cure="Load the kernel module (as root: modprobe tun), or pass the device into the container; "
            + WITHOUT_PRIVILEGE,
        ) from error
    except OSError as error:
        mode = TUN_DEVICE.stat().st_mode & 0o777
        raise TunPermission(
            f"{TUN_DEVICE} is closed to this user",
            evidence=f"mode {mode:04o}: {error.strerror}",
            cure=f"Run: {setcap_command()}, which opens it as Debian's udev rule does; {WITHOUT_PRIVILEGE}",
        ) from error
