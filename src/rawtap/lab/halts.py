"""Guests that stand still, by their interfaces: who they are, why, and how one is stopped at a packet."""

from __future__ import annotations

import time

from rawtap.errors import RequestInvalid
from rawtap.lab.guests import Guest
from rawtap.lab.lab import Lab


def halted_on(lab: Lab, interface: str) -> str | None:
    """Why nothing comes from the guests that are on an interface, in words; None where one of them may send."""
    halts = [guest.machine.console.halted for guest in _running(lab, interface)]
    return f"the guest is {halts[0]}" if halts and all(halts) else None


def note_told(lab: Lab, interface: str) -> None:
    """An answer tells of the guests on an interface that they stand, and why."""
    for guest in _running(lab, interface):
        guest.machine.consoles.halt_told = True


def require_one(lab: Lab, interface: str) -> Guest:
    """The one guest that runs on an interface.

    Raises:
        RequestInvalid: There is none, or several.
    """
    there = _running(lab, interface)
    if len(there) != 1:
        names = ", ".join(guest.machine.name for guest in there) or "none"
        raise RequestInvalid(
            f"there is not one guest on {interface}", evidence=f"there: {names}", cure="Capture a guest's own card"
        )
    return there[0]


async def halt_at(lab: Lab, interface: str, number: int) -> int:
    """Stop the guest on an interface, at the packet of that number; when it stood, nanoseconds since 1970.

    QEMU is asked itself, which is quicker than gdb; gdb is told by QEMU, where there is one.

    Raises:
        RequestInvalid: There is none, or several.
        GuestExited, GuestFailed: It has ended, or QEMU does not answer.
    """
    guest = require_one(lab, interface)
    await guest.machine.execute("stop")
    stood_ns = time.time_ns()
    await note(lab, guest, f"packet {number}")
    return stood_ns


async def note(lab: Lab, guest: Guest, at: str) -> None:
    """QEMU has stopped a guest for a call, where `at` says: its debugger is told, or whoever waits for the guest."""
    if not await guest.debugging.note_stop(at):
        cure = 'qemu_debug looks into it, qemu_monitor(command="cont") lets it run on'
        lab.note_halt(guest, f"stopped at {at}: {cure}")
    guest.machine.consoles.halt_told = True


def _running(lab: Lab, interface: str) -> list[Guest]:
    return [
        guest
        for guest in lab.guests.values()
        if guest.machine.running and any(card.is_on(interface) for card in guest.cards)
    ]
