"""A guest's cable: pulled, plugged in, and made worse. Each call says the whole of it.

Pulling is done on both ends. QEMU's end is what the guest sees: its card loses the carrier, and frames are dropped both
ways. The TAP's end is what the host sees: the bridge's port goes down as a switch's does, and captures tell of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import anyio
from anyio.to_thread import run_sync as to_thread

from rawtap.errors import ImpairmentUnavailable, NetworkFailed, RequestInvalid
from rawtap.lab.guests import Guest
from rawtap.lab.lab import Lab
from rawtap.lab.usernet import UserNet
from rawtap.network import impair, links
from rawtap.network.impair import Impairment, Plug
from rawtap.network.links import Link


@dataclass(frozen=True)
class Cable:
    """How a guest's cable is: what was set, and the TAP's carrier and queue as the kernel showed them afterwards.

    On QEMU's own network there is no TAP, and the carrier is what QEMU gave its card.
    """

    guest: str
    tap: str | None
    up: bool
    carrier: bool
    queue: str | None
    impairment: Impairment


async def set_cable(lab: Lab, name: str, up: bool, impairment: Impairment) -> Cable:
    """Plug a guest's cable in or pull it; impair it as said, and in no other way.

    If this fails, nothing has changed; but a QEMU that did not answer may still do it when it wakes up.

    Raises:
        RequestInvalid: The guest has no network.
        GuestExited: It has ended.
        GuestFailed: QEMU does not answer.
        ImpairmentUnavailable: This kernel has no such impairment, or the guest has no TAP.
    """
    guest = lab.guest(name)
    if guest.user:
        return await _set_users_cable(lab, guest.user, up, impairment)
    if guest.tap is None:
        raise RequestInvalid(f"the guest {name} has no network, so no cable", cure="Boot it with network=true")
    plug = guest.plug
    async with plug.lock:
        tap = await _tap_of(guest)
        await to_thread(impair.apply, tap, impairment)
        try:
            await to_thread(partial(links.set_carrier, tap, on=up))
            await guest.machine.set_link(up=up)  # last: what is before it can be undone without asking QEMU
        except BaseException:
            await _put_back(tap, plug)
            raise
        if (plug.up, plug.impairment) != (up, impairment):
            lab.chronicle.cable_set(name, up=up, impaired=_words(impairment))
        plug.up, plug.impairment = up, impairment
        now, queue = await to_thread(links.get, tap.index), await to_thread(links.queue_of, tap)
    if now is None or queue is None:
        raise _gone(guest)
    return Cable(name, tap.name, up, now.carrier, queue, impairment)


async def _set_users_cable(lab: Lab, net: UserNet, up: bool, impairment: Impairment) -> Cable:
    if impairment != Impairment():
        raise ImpairmentUnavailable(
            f"{net.name} cannot be impaired",
            evidence="the kernel's queues are on TAPs, and QEMU's own network has none",
            cure="Boot the guest with network=true; here qemu_link(up=false) pulls the cable",
        )
    async with net.plug.lock:
        await net.running().set_link(up=up)
        if net.plug.up != up:
            lab.chronicle.cable_set(net.guest, up=up, impaired="")
        net.set_plug(up=up)
    return Cable(net.guest, None, up, up, None, impairment)


async def _tap_of(guest: Guest) -> Link:
    found = await to_thread(links.find, guest.tap.name) if guest.tap and guest.machine.running else None
    if found is None:
        await guest.machine.settle()
        raise _gone(guest)
    return found


def _gone(guest: Guest) -> Exception:
    if not guest.machine.running:
        return guest.machine.exited()
    return NetworkFailed(
        f"the guest {guest.machine.name} has lost its TAP",
        evidence="somebody removed it",
        cure="qemu_shutdown and qemu_boot make another",
    )


async def _put_back(tap: Link, plug: Plug) -> None:
    with anyio.CancelScope(shield=True):
        if await to_thread(links.get, tap.index):
            await to_thread(impair.apply, tap, plug.impairment)
            await to_thread(partial(links.set_carrier, tap, on=plug.up))


def _words(impairment: Impairment) -> str:
    said = {
        "delay {:g} s": impairment.delay,
        "loss {:g} %": impairment.loss,
        "corruption {:g} %": impairment.corrupt,
        "duplication {:g} %": impairment.duplicate,
        "{} bits/s": impairment.rate,
    }
    return ", ".join(text.format(value) for text, value in said.items() if value)
