"""The interfaces around one capture: looked at before it is armed and when it ends, and what happened in between.

The end is looked at when it comes, by the capture's own thread, and not when somebody asks: by then the guest may be
gone. All counters are looked at, and which of them matter is decided when there is something to explain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from rawtap.capture.diagnosis import Elsewhere, Evidence, GuestTraffic, explain_empty
from rawtap.capture.outages import LinkEvent, LinkState, link_warnings
from rawtap.capture.session import CaptureSession, Snapshot
from rawtap.errors import NetworkError
from rawtap.lab.passages import Passages
from rawtap.network.links import Link
from rawtap.network.watch import Change, Sight, Watcher
from rawtap.packets.origin import Origin
from rawtap.untrusted import visible

_GRACE = 1.0  # seconds
_MOST_LEARNED = 8


@dataclass(frozen=True)
class GuestNic:
    """Whose network card a TAP is, the bridge that it is on, and its MAC address."""

    guest: str
    bridge: str
    mac: str


@dataclass(frozen=True)
class Scene:
    """What may be captured. Never changed, only replaced: captures' threads read it.

    Attributes:
        nics: By the TAP's name; those of ended guests stay until a TAP of that name is made again.
        others: Names of further interfaces.
        learned: Link addresses that bridges have seen behind those TAPs and that are no card's: whose each is.
    """

    nics: Mapping[str, GuestNic] = field(default_factory=dict)
    others: frozenset[str] = frozenset()
    learned: Mapping[str, GuestNic] = field(default_factory=dict)

    def with_nic(self, tap: str, nic: GuestNic) -> Scene:
        """The scene with one more guest on it."""
        return replace(self, nics={**self.nics, tap: nic})

    def with_learned(self, ports: Mapping[str, str]) -> Scene:
        """The scene with what bridges have learned, by the ports' names: a guest may use an address of its own making.

        Of each guest few are kept: it may make up as many as it likes.
        """
        cards = {nic.mac for nic in self.nics.values()}
        found = dict(self.learned)
        for mac, port in ports.items():
            nic = self.nics.get(port)
            if nic is None or mac in cards or sum(each is nic for each in found.values()) >= _MOST_LEARNED:
                continue
            found[mac] = nic
        return self if found == self.learned else replace(self, learned=found)

    def own_making(self, nic_mac: str) -> list[str]:
        """The addresses that a guest uses on the card of that address, and that are not the card's."""
        return [mac for mac, nic in self.learned.items() if nic.mac == nic_mac]

    def direction(self, source: str | None, destination: str | None, origin: Origin) -> str | None:
        """A frame's direction as the guests see it: of or to whose card it is where its file says so, else by its MAC
        addresses; where these are of no guest as its interface saw it. None where nothing of that is known."""
        by_mac = {mac: nic.guest for mac, nic in self.learned.items()}
        by_mac |= {nic.mac: nic.guest for nic in self.nics.values()}
        sender, receiver = by_mac.get(source or ""), by_mac.get(destination or "")
        if (guest := visible(origin.guest)) and origin.direction:
            inbound = origin.direction == "inbound"
            sender = guest if inbound else sender if sender != guest else None
            receiver = guest if not inbound else receiver if receiver != guest else None
        words = [f"from {sender}"] if sender else []
        return " ".join(words + ([f"to {receiver}"] if receiver else [])) or origin.direction or None

    def found_in(self, sight: Sight) -> dict[int, tuple[str, GuestNic]]:
        """The TAPs that are there or were, by index: name and whose it is."""
        seen = [*(gone.link for gone in sight.gone.values()), *sight.links.values()]
        by_name = {link.name: link.index for link in seen}  # of two of one name the one that is there, or the later
        return {by_name[tap]: (tap, nic) for tap, nic in self.nics.items() if tap in by_name}


@dataclass(frozen=True)
class Look:
    """The interfaces as they are at a capture's end, or now while it runs.

    Attributes:
        scene: As it was then.
        changes: Of the captured interface, since the first look.
        sight: None where the interfaces could not be asked, and `unknown` says why.
    """

    scene: Scene
    changes: tuple[Change, ...] = ()
    sight: Sight | None = None
    unknown: str | None = None


@dataclass(eq=False)
class Observation:
    """One capture's. Made before it is armed; `end` is called by the capture's own thread.

    Attributes:
        link: The captured interface as it was in `before`.
        before: All interfaces just before the capture was armed.
        scene: Gives the scene as it is now.
        passages: Where a bridge is captured, what it passes on of what its guests send.
        learn: Has the scene know what bridges have learned by now.
    """

    watcher: Watcher
    link: Link
    before: Sight
    scene: Callable[[], Scene]
    passages: Passages | None = None
    learn: Callable[[], None] | None = None
    _taps_before: dict[int, tuple[str, GuestNic]] = field(init=False)
    _last: Look | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._taps_before = self.scene().found_in(self.before)

    def ports(self) -> list[tuple[str, str, int]]:
        """The TAPs that are on the captured bridge from its start on: whose each is, its name, its index."""
        found = [(nic, tap, index) for index, (tap, nic) in self._taps_before.items() if index in self.before.links]
        return [(nic.guest, tap, index) for nic, tap, index in found if nic.bridge == self.link.name]

    def end(self, packets: int) -> None:
        """Look for the last time, when nothing more comes in."""
        self.close()
        if self.learn:
            self.learn()
        self._last = self._look(empty=packets == 0)

    def close(self) -> None:
        """Count no more."""
        if self.passages:
            self.passages.close()

    def _look(self, *, empty: bool) -> Look:
        """Look now; where there is no packet the kernel is asked for the carrier, which takes a millisecond or two."""
        scene = self.scene()
        changes: tuple[Change, ...] = ()
        try:
            if empty:
                self.watcher.refresh(self.link.index)
            changes = self.watcher.changes(self.link.index, self.before.at)
            return Look(scene, changes, self.watcher.look(self.before.at))
        except (NetworkError, OSError) as error:
            return Look(scene, changes, unknown=str(error))

    def explain(
        self, session: CaptureSession, snapshot: Snapshot, *, at_once: bool = False
    ) -> tuple[list[str], str | None]:
        """What happened to the interface, as warnings, and why there is no packet; None where there is one.

        A capture that runs is given a second before it has to explain itself, unless that is wanted `at_once`.
        """
        running = snapshot.state == "running"
        empty = snapshot.packets == 0 and not (running and snapshot.duration < _GRACE and not at_once)
        look = self._look(empty=empty) if running else self._last or Look(self.scene(), unknown="the last look failed")
        evidence = self._evidence(look, session, snapshot)
        ended = [guest.ended for guest in evidence.guests if guest.ended is not None]
        warnings = link_warnings(
            evidence.interface, evidence.before, evidence.events, ended, of_card=session.request.of_card
        )
        warnings += map(str, self.passages.look() if self.passages else ())
        return warnings, explain_empty(evidence) if empty else None

    def _evidence(self, look: Look, session: CaptureSession, snapshot: Snapshot) -> Evidence:
        sight = look.sight
        return Evidence(
            interface=self.link.name,
            filter=session.request.filter,
            duration=snapshot.duration,
            dropped=snapshot.dropped_kernel or 0,
            before=_state(self.link),
            after=_state(sight.links.get(self.link.index)) if sight else None,
            error=str(snapshot.error) if snapshot.error else None,
            frames_seen=snapshot.frames_seen,
            kinds=snapshot.kinds,
            kinds_sampled=snapshot.kinds_sampled,
            events=tuple(LinkEvent(each.at - session.started_at, each.what, each.new_name) for each in look.changes),
            guests=self._guests(look.scene, sight, session.started_at) if sight else (),
            elsewhere=self._elsewhere(look.scene, sight) if sight else (),
            unknown=look.unknown,
            full_at=session.request.max_bytes if snapshot.reason == "max_bytes" else None,
        )

    def _guests(self, scene: Scene, sight: Sight, started_at: float) -> tuple[GuestTraffic, ...]:
        """The guests that were on the captured interface at some time, with what passed their TAPs."""
        found = []
        for index, (tap, nic) in {**self._taps_before, **scene.found_in(sight)}.items():
            gone = sight.gone.get(index)
            last = gone.link if gone else sight.links.get(index)
            if last is None or not self._concerns(index, nic):
                continue
            received, sent = self._gained(last)
            ended = gone.at - started_at if gone else None
            found.append(GuestTraffic(nic.guest, tap, sent=received, received=sent, ended=ended))
        return tuple(found)

    def _concerns(self, tap_index: int, nic: GuestNic) -> bool:
        return tap_index == self.link.index or nic.bridge == self.link.name

    def _elsewhere(self, scene: Scene, sight: Sight) -> tuple[Elsewhere, ...]:
        """Other interfaces that may be captured and that carried something: bridges first, then the busiest."""
        guests: dict[str, list[str]] = {}
        for tap, nic in scene.found_in(sight).values():
            if sight.find(tap):
                guests.setdefault(tap, []).append(nic.guest)
                guests.setdefault(nic.bridge, []).append(nic.guest)
        names = {*guests, *scene.others}
        others = [each for each in sight.links.values() if each.name in names and each.index != self.link.index]
        busy = {link: frames for link in others if (frames := sum(self._gained(link)))}
        ordered = sorted(busy, key=lambda link: (link.kind != "bridge", -busy[link]))
        return tuple(Elsewhere(link.name, busy[link], tuple(guests.get(link.name, ()))) for link in ordered)

    def _gained(self, link: Link) -> tuple[int, int]:
        """Packets that an interface received and sent since the first look."""
        first = self.before.links.get(link.index)
        received, sent = (first.received, first.sent) if first else (0, 0)
        return max(0, link.received - received), max(0, link.sent - sent)


def _state(link: Link | None) -> LinkState | None:
    return LinkState(link.up, link.carrier, link.received, link.sent) if link else None
