"""What one capture's observation makes of the interfaces around it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

from rawtap.capture.interface import InterfaceSource
from rawtap.capture.session import CaptureRequest, CaptureSession, Snapshot
from rawtap.errors import NetworkFailed
from rawtap.lab.observation import GuestNic, Observation, Scene
from rawtap.network.links import Link
from rawtap.network.watch import Change, Gone, Sight, Watcher
from rawtap.packets.origin import Origin

BRIDGE = Link(
    index=2, name="br0", kind="bridge", alias=None, mac=None, master=None, up=True, carrier=True, received=5, sent=5
)
TAP = replace(BRIDGE, index=3, name="rtap1.0", kind="tun", master=2)
OTHER = replace(BRIDGE, index=4, name="near0", kind="veth")
HOSTS = replace(OTHER, index=9, name="eth0")


def test_an_address_of_a_guests_own_making_is_known_by_its_card_and_few_are_kept() -> None:
    own, spoofed = "02:aa:00:00:00:01", "02:00:00:00:00:02"
    scene = Scene(
        {"rtap1.0": GuestNic("one", "br0", "02:00:00:00:00:01"), "rtap1.1": GuestNic("two", "br0", spoofed)}
    ).with_learned({own: "rtap1.0", spoofed: "rtap1.0", "02:cc:00:00:00:01": "eth9"})
    assert scene.direction(own, spoofed, Origin(1)) == "from one to two"
    assert scene.own_making("02:00:00:00:00:01") == [own]
    many = scene.with_learned({f"02:bb:00:00:00:{number:02x}": "rtap1.1" for number in range(64)})
    assert len(many.own_making(spoofed)) == 8
    assert many.own_making("02:00:00:00:00:01") == [own]
    assert scene.with_learned({}) is scene


SCENE = Scene({"rtap1.0": GuestNic("guest", "br0", "02:00:00:00:00:01")}, frozenset({"near0"}))


@dataclass
class Kernel:
    """Stands for the watcher."""

    now: Sight
    happened: tuple[Change, ...] = ()
    refreshed: list[int] = field(default_factory=list)
    failure: Exception | None = None

    def refresh(self, index: int) -> None:
        self.refreshed.append(index)

    def changes(self, index: int, since: float) -> tuple[Change, ...]:
        return tuple(each for each in self.happened if each.index in {index, 0} and each.at >= since)

    def look(self, gone_since: float) -> Sight:
        if self.failure:
            raise self.failure
        gone = {index: each for index, each in self.now.gone.items() if each.at >= gone_since}
        return replace(self.now, gone=gone)


def sight(*there: Link, at: float = 100.0, gone: tuple[Gone, ...] = ()) -> Sight:
    return Sight(at, {link.index: link for link in there}, {each.link.index: each for each in gone})


def observed(kernel: Kernel, link: Link = BRIDGE, scene: Scene = SCENE, before: Sight | None = None) -> Observation:
    start = before or sight(BRIDGE, TAP, OTHER, HOSTS)
    return Observation(cast("Watcher", kernel), link, start, lambda: scene)


def told(observation: Observation, **differences: object) -> tuple[list[str], str | None]:
    session = CaptureSession(CaptureRequest(observation.link.name), InterfaceSource(2, 1 << 20), Path(), "c1")
    session._started_at = 100.5
    seen = Snapshot(
        state="stopped",
        reason="stopped",
        packets=0,
        bytes=0,
        size_bytes=24,
        files=(Path("c1.pcap"),),
        packets_overwritten=0,
        seen=0,
        filtered=0,
        dropped_kernel=0,
        refused=0,
        in_flight=0,
        from_guest=0,
        dropped_interface=0,
        unknown={},
        buffer_bytes=0,
        buffer_most=0,
        duration=2.0,
        warnings=(),
        error=None,
        frames_seen=0,
        kinds=(),
        kinds_sampled=0,
    )
    return observation.explain(session, replace(seen, **differences))


def ended(kernel: Kernel, link: Link = BRIDGE, scene: Scene = SCENE) -> str:
    observation = observed(kernel, link, scene)
    observation.end(0)
    return told(observation)[1] or ""


def with_traffic(link: Link, received: int, sent: int) -> Link:
    return replace(link, received=link.received + received, sent=link.sent + sent)


def test_what_a_tap_received_is_what_its_guest_sent() -> None:
    heard = ended(Kernel(sight(BRIDGE, with_traffic(TAP, 0, 3))))
    assert "3 frames went to the guest 'guest', which sent none" in heard
    spoke = ended(Kernel(sight(BRIDGE, with_traffic(TAP, 3, 0))))
    assert "'guest', which sent none" not in spoke
    assert "3 frames passed 'rtap1.0' (guest 'guest')" in spoke


def test_a_guest_on_another_bridge_is_none_of_this_captures() -> None:
    scene = Scene({"rtap1.0": GuestNic("guest", "br1", "02:00:00:00:00:01")})
    assert "guest 'guest'" not in ended(Kernel(sight(BRIDGE, TAP)), scene=scene)


def test_a_captured_taps_guest_is_known_by_the_tap() -> None:
    assert "The guest 'guest' transmitted no frame" in ended(Kernel(sight(BRIDGE, TAP)), link=TAP)


def test_a_guest_that_is_gone_at_the_end_speaks_by_its_last_counters() -> None:
    gone = Gone(TAP, at=101.75)
    assert "no frame before it ended 1.25 s after the start" in ended(Kernel(sight(BRIDGE, gone=(gone,))))
    spoke = replace(gone, link=with_traffic(TAP, 3, 0))
    assert "no frame before" not in ended(Kernel(sight(BRIDGE, gone=(spoke,))))


def test_a_guest_that_was_gone_before_the_start_is_none_of_this_captures() -> None:
    assert "guest 'guest'" not in ended(Kernel(sight(BRIDGE, gone=(Gone(TAP, at=99.0),))))


def test_a_guest_that_booted_meanwhile_counts_from_zero() -> None:
    late = replace(TAP, index=7, received=0, sent=2)
    observation = observed(Kernel(sight(BRIDGE, late)), before=sight(BRIDGE))
    observation.end(0)
    assert "2 frames went to the guest 'guest'" in (told(observation)[1] or "")


def test_a_second_guest_on_the_name_of_an_ended_ones_tap_does_not_take_its_place() -> None:
    scenes = [SCENE, SCENE.with_nic("rtap1.0", GuestNic("second", "br0", "02:00:00:00:00:01"))]
    second = replace(TAP, index=8, received=0, sent=0)
    kernel = Kernel(sight(BRIDGE, second, gone=(Gone(TAP, at=101.75),)))
    observation = Observation(cast("Watcher", kernel), BRIDGE, sight(BRIDGE, TAP), lambda: scenes.pop(0))
    observation.end(0)
    text = told(observation)[1] or ""
    assert "The guest 'guest' transmitted no frame before it ended" in text
    assert "The guest 'second' transmitted no frame (" in text


def test_traffic_elsewhere_is_looked_for_where_a_capture_is_allowed_bridges_first() -> None:
    now = sight(with_traffic(BRIDGE, 1, 0), with_traffic(TAP, 3, 0), OTHER, with_traffic(HOSTS, 99, 99))
    text = ended(Kernel(now), link=OTHER)
    assert "1 frame passed 'br0' (guest 'guest') and 3 frames passed 'rtap1.0' (guest 'guest')" in text
    assert "eth0" not in text


def test_a_guest_that_is_gone_is_not_to_be_found_elsewhere() -> None:
    now = sight(with_traffic(BRIDGE, 1, 0), OTHER, gone=(Gone(TAP, at=101.0),))
    assert "1 frame passed 'br0':" not in ended(Kernel(now), link=OTHER)
    scene = Scene(SCENE.nics, frozenset({"br0"}))
    assert "1 frame passed 'br0':" in ended(Kernel(now), link=OTHER, scene=scene)


def test_the_end_is_what_was_seen_then_and_not_what_is_there_when_somebody_asks() -> None:
    kernel = Kernel(sight(BRIDGE, TAP))
    observation = observed(kernel)
    observation.end(0)
    kernel.now = sight()
    kernel.happened = (Change(200.0, 2, "br0", "removed"),)
    assert told(observation) == told(observation)
    assert "removed" not in (told(observation)[1] or "")


def test_a_running_capture_is_looked_at_now_once_it_has_run_for_a_second() -> None:
    kernel = Kernel(sight(BRIDGE, TAP))
    observation = observed(kernel)
    assert told(observation, state="running", reason=None, duration=0.9)[1] is None
    assert kernel.refreshed == []
    assert "no frame at all" in (told(observation, state="running", reason=None, duration=1.0)[1] or "")
    assert kernel.refreshed == [2]


def test_a_capture_with_packets_has_nothing_to_explain_but_its_link() -> None:
    kernel = Kernel(sight(BRIDGE), (Change(101.0, 2, "br0", "down"),))
    observation = observed(kernel)
    observation.end(5)
    assert kernel.refreshed == []
    assert told(observation, packets=5) == (["'br0' went down 0.50 s after the start and stayed so"], None)


def test_what_cannot_be_asked_is_a_part_of_the_text() -> None:
    for failure in (OSError(9, "Bad file descriptor"), NetworkFailed("no netlink", cure="Call again")):
        happened = (Change(101.0, 2, "br0", "down"),)
        text = ended(Kernel(sight(BRIDGE), happened, failure=failure))
        assert f"The interfaces cannot be asked: {failure}" in text
        assert "went down 0.50 s after the start" in text


def test_a_last_look_that_never_came_about_is_told() -> None:
    assert "The interfaces cannot be asked: the last look failed" in (told(observed(Kernel(sight())))[1] or "")
