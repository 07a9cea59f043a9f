"""What the Lab writes into its journal, in words: guests, captures, links, drops.

All of it is written where it happens, by whatever thread that is in. Of interfaces only those are told of that may be
captured; what the host's own do is nobody's business here.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from rawtap.capture.session import CaptureSession
from rawtap.guest.log import GuestLogs
from rawtap.guest.machine import Exit, Machine
from rawtap.lab.journal import Journal
from rawtap.lab.observation import Scene
from rawtap.network.watch import Change

_SHOWN = 300  # characters of a text that somebody else wrote
_KEPT_DROPS = 1000  # captures; more than are listed

_WORDS = {
    "added": "is there",
    "removed": "was removed",
    "up": "is up",
    "down": "is down",
    "carrier": "has a carrier",
    "no_carrier": "has no carrier",
}


@dataclass(eq=False)
class Chronicle:
    """The journal of one Lab, the logs of its guests, and when it began (nanoseconds since 1970)."""

    started_ns: int = field(default_factory=time.time_ns)
    journal: Journal = field(default_factory=Journal)
    logs: GuestLogs = field(default_factory=GuestLogs)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _drops: dict[str, tuple[int, int]] = field(default_factory=dict)  # that were told of, by capture

    def guest_started(self, machine: Machine) -> None:
        """Its QEMU is there, paused; what it says is kept from now on."""
        self.logs.begin(machine)
        text = f"guest {machine.name} started: {machine.spec.profile.name}, pid {machine.pid}"
        self.journal.note("guest_started", text, guest=machine.name)

    def prompt_seen(self, machine: Machine) -> None:
        """Its boot came to the prompt."""
        text = f"guest {machine.name} shows its prompt {machine.talk.prompts.shown()!r}"
        self.journal.note("prompt_seen", text, guest=machine.name)

    def guest_restored(self, name: str, tag: str) -> None:
        """It is again what it was when that snapshot was saved; what it said since was said all the same."""
        self.journal.note("guest_restored", f"guest {name} went back to its snapshot {tag!r}", guest=name)

    def guest_halted(self, name: str, words: str | None) -> None:
        """It stands still, why and where `words` say; or nobody holds it any more, for None."""
        if words:
            self.journal.note("guest_halted", _bounded(f"guest {name} is {words}"), guest=name)
        else:
            self.journal.note("guest_released", f"nobody holds guest {name} any more", guest=name)

    def guest_ended(self, name: str, how: Exit) -> None:
        """Its QEMU is gone."""
        self.journal.note("guest_ended", _bounded(f"guest {name} ended: {how}"), guest=name)

    def cable_set(self, name: str, *, up: bool, impaired: str) -> None:
        """Its cable was pulled, plugged in, or made worse in the way that `impaired` says in words."""
        text = f"the cable of guest {name} is {'plugged in' if up else 'pulled'}"
        self.journal.note("cable_set", f"{text}; to the guest: {impaired}" if impaired else text, guest=name)

    def capture_armed(self, capture: str, session: CaptureSession) -> None:
        """Every packet from now on is in its file."""
        request = session.request
        chosen = f"filter {request.filter!r}" if request.filter else "no filter"
        text = _bounded(f"capture {capture} started on {request.interface}: {chosen}")
        self.journal.note("capture_started", text, capture=capture)

    def capture_ended(self, capture: str, session: CaptureSession) -> None:
        """Nothing more comes into its file."""
        self.look_for_drops(capture, session)
        now = session.snapshot()
        failure = f", {now.error}" if now.error else ""
        text = f"capture {capture} ended: {now.reason or 'failed'}, {now.packets} packets in its files{failure}"
        self.journal.note("capture_ended", _bounded(text), capture=capture)

    def look_for_drops(self, capture: str, session: CaptureSession) -> None:
        """Tell what a capture, or its interface, has lost since the last look."""
        with self._lock:  # two that look at once must not tell the same twice
            now = session.snapshot()
            kernel, interface = self._drops.pop(capture, (0, 0))
            dropped_kernel, dropped_interface = now.dropped_kernel or 0, now.dropped_interface or 0
            self._drops[capture] = dropped_kernel, dropped_interface
            if len(self._drops) > _KEPT_DROPS:
                del self._drops[next(iter(self._drops))]
        if (more := dropped_kernel - kernel) > 0:
            text = f"the kernel dropped {more} packets of capture {capture}: its ring was full"
            self.journal.note("dropped", text, capture=capture)
        if (more := dropped_interface - interface) > 0:
            text = f"the interface {session.request.interface} dropped {more} frames before capture {capture} saw them"
            self.journal.note("dropped", text, capture=capture)

    def link_changed(self, change: Change, scene: Scene) -> None:
        """An interface went up or down, or its carrier did."""
        if change.what == "missed":
            self.journal.note("link_missed", "interfaces changed faster than could be followed: some are not told")
            return
        nic = scene.nics.get(change.name)
        bridges = {each.bridge for each in scene.nics.values()}
        if nic is None and change.name not in bridges | scene.others:
            return
        told = f"was renamed to {change.new_name!r}" if change.what == "renamed" else _WORDS[change.what]
        whose = f", of the guest {nic.guest}," if nic else ""
        text = _bounded(f"link {change.name!r}{whose} {told}")
        self.journal.note(f"link_{change.what}", text, guest=nic.guest if nic else None)


def _bounded(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
