"""A capture of a bridge and of its guests' cards together: each frame at each point, and in which direction it went.

Real bridge and TAPs; frames are put in by the TAPs' descriptors, as QEMU does.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.to_thread import run_sync as to_thread
from scapy.layers.inet import ICMP, IP
from scapy.layers.l2 import ARP, Dot1Q, Ether

from rawtap.ask.explain import Explained, explain
from rawtap.blocking import in_thread
from rawtap.capture.session import CaptureRequest
from rawtap.errors import RequestInvalid
from rawtap.lab.lab import Lab
from rawtap.lab.observation import GuestNic
from rawtap.network import network
from rawtap.network.network import BridgeSpec, Tap
from rawtap.packets import reader
from rawtap.settings import Settings
from support import Account, Session, eventually_async, serving

BRIDGE = "points-br0"
ANY = "ff:ff:ff:ff:ff:ff"
FORWARDING = "3"  # BR_STATE_FORWARDING, linux/if_bridge.h
Seen = list[tuple[str, str, str]]  # of each packet: where, the direction, the source address


def port(tap: str, name: str) -> Path:
    return Path(f"/sys/class/net/{tap}/brport/{name}")


@dataclass
class Place:
    """The TAPs of two guests on the bridge, and a capture at all points."""

    one: Tap
    two: Tap

    def sends(self, tap: Tap, frame: Any) -> None:
        os.write(tap.device.fileno(), bytes(frame))

    def echo(self, tap: Tap, destination: str, number: int = 1) -> None:
        self.sends(tap, Ether(src=tap.mac, dst=destination) / IP(src="10.9.0.15", dst="10.9.0.16") / ICMP(seq=number))

    def host_sends(self, frame: Any) -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as raw:
            raw.bind((BRIDGE, 0))
            raw.send(bytes(frame))


def captured(
    tmp_path: Path, act: Callable[[Place], None], format_: str = "pcapng", filter_: str = "", *, every: bool = True
) -> tuple[Seen, Explained, Place]:
    """What a capture of all points, or of the first guest's card, has of what is done."""

    async def scenario() -> tuple[Seen, Explained, Place]:
        settings = Settings(capture_dir=tmp_path, allowed_interfaces=frozenset({BRIDGE}))
        spec = BridgeSpec(BRIDGE, IPv4Interface("10.9.0.1/24"), trusted=True)
        async with (
            Lab(settings) as lab,
            in_thread(network.bridge(spec)) as bridge,
            in_thread(network.tap(BRIDGE, network.Station("one"))) as one,
            in_thread(network.tap(BRIDGE, network.Station("two", lab=1))) as two,
        ):
            abouts = []
            for guest, tap in (("one", one), ("two", two)):
                await to_thread(network.plug, tap, bridge)
                lab.interfaces.add(tap.name, GuestNic(guest, BRIDGE, tap.mac))
                abouts.append((tap.name, f"{guest} ({tap.mac} on {tap.name})"))
            assert await eventually_async(
                lambda: all(port(tap.name, "state").read_text().strip() == FORWARDING for tap in (one, two))
            )
            first, more = (BRIDGE, tuple(abouts)) if every else (one.name, ())
            about = "" if every else abouts[0][1]
            request = CaptureRequest(first, filter_, format=format_, guest=about, more=more, of_card=not every)  # type: ignore[arg-type]
            capture = await lab.interfaces.capture(request)
            place = Place(one, two)
            await to_thread(act, place)
            report = await lab.captures.stop(capture)
            assert not any("where and in which direction" in each for each in report.snapshot.warnings)
            file = reader.open_file(report.snapshot.files[-1], "")
            seen = [(each[5].name, each[5].direction, each[4][6:12].hex(":")) for each in file.take(1000)]
            capture.session._ended_ns += 5 * 10**9  # nothing more came for so long

            async def tell(_: float, __: str) -> None: ...

            explained = await explain(lab, capture.id, None, "", None, tell)
            one.device.close()
            two.device.close()
            return seen, explained, place

    return anyio.run(scenario)


def codes(explained: Explained) -> list[str]:
    return [each.what for each in explained.given.verdict.findings]


def test_a_frame_from_one_guest_to_the_other_is_at_every_point_in_the_order_of_its_way(
    root: Account,  # noqa: ARG001
    tmp_path: Path,
) -> None:
    def act(place: Place) -> None:
        place.sends(
            place.two, Ether(src=place.two.mac, dst=ANY) / ARP(hwsrc=place.two.mac, psrc="10.9.0.16", pdst="10.9.0.16")
        )
        place.echo(place.one, place.two.mac)

    seen, explained, place = captured(tmp_path, act)
    own, other = place.one.mac, place.two.mac
    wanted = {(BRIDGE, "inbound", other), (place.two.name, "inbound", other), (place.one.name, "outbound", other)}
    assert (set(seen[:3]), seen[0]) == (wanted, (place.two.name, "inbound", other))
    assert (len(seen), seen[3]) == (6, (place.one.name, "inbound", own))
    assert set(seen[4:]) == {(BRIDGE, "inbound", own), (place.two.name, "outbound", own)}
    verdict = explained.given.verdict
    assert verdict.examined == 6
    assert codes(explained) == ["icmp.no_reply"]  # one request, which nobody answers
    assert verdict.exchanges[0].requests == 1
    assert verdict.notes[0] == "2 frames were followed from point to point"
    assert not any("flooded" in note for note in verdict.notes)


def test_a_frame_that_the_bridge_does_not_let_in_is_told_with_the_reason(root: Account, tmp_path: Path) -> None:  # noqa: ARG001
    seen, explained, place = captured(
        tmp_path, lambda place: place.sends(place.one, Ether(src="53:54:00:00:00:01", dst=ANY) / ARP(pdst="10.9.0.1"))
    )
    assert seen == [(place.one.name, "inbound", "53:54:00:00:00:01")]
    (found,) = (each for each in explained.given.verdict.findings if each.what == "bridge.not_passed")
    assert "group source address" in found.says


def test_a_frame_that_never_comes_to_the_other_guest_is_told(root: Account, tmp_path: Path) -> None:  # noqa: ARG001
    def act(place: Place) -> None:
        for tap in (place.one, place.two):
            port(tap.name, "isolated").write_text("1")
        place.echo(place.one, place.two.mac)
        place.echo(place.one, place.two.mac, 2)

    seen, explained, place = captured(tmp_path, act, filter_="icmp")
    assert place.two.name not in {name for name, _, _ in seen}
    (found,) = (each for each in explained.given.verdict.findings if each.what == "bridge.not_delivered")
    assert (found.host, found.count) == (BRIDGE, 2)
    assert f"Frames by one for two do not come to its card {place.two.name}" in found.says
    assert "the ports of both cards are isolated from each other" in found.says


@pytest.mark.parametrize(("state", "name"), [("1", "listening"), ("2", "learning")])
def test_a_port_that_does_not_forward_is_told_with_its_state(
    root: Account,  # noqa: ARG001
    tmp_path: Path,
    state: str,
    name: str,
) -> None:
    def act(place: Place) -> None:
        subprocess.run(["bridge", "link", "set", "dev", place.two.name, "state", state], check=True)
        place.echo(place.one, place.two.mac)

    _, explained, _ = captured(tmp_path, act, filter_="icmp")
    (found,) = (each for each in explained.given.verdict.findings if each.what == "bridge.not_delivered")
    assert f"of that card's port, its STP state is {name} (as it stands now)" in found.says


def test_a_frame_to_an_address_that_nobody_has_is_flooded_and_that_is_told(root: Account, tmp_path: Path) -> None:  # noqa: ARG001
    seen, explained, place = captured(tmp_path, lambda place: place.echo(place.one, "52:54:00:99:99:99"))
    assert (place.two.name, "outbound", place.one.mac) in seen
    assert any("were flooded to two" in note for note in explained.given.verdict.notes)
    assert not any(code.startswith("bridge.") for code in codes(explained))


def test_what_the_host_sends_is_followed_to_both_guests_and_judged_once(root: Account, tmp_path: Path) -> None:  # noqa: ARG001
    def act(place: Place) -> None:
        place.host_sends(
            Ether(src="52:54:00:77:77:77", dst=ANY) / ARP(hwsrc="52:54:00:77:77:77", psrc="10.9.0.7", pdst="10.9.0.15")
        )

    seen, explained, place = captured(tmp_path, act, filter_="arp and ether src 52:54:00:77:77:77")
    assert seen[0] == (BRIDGE, "outbound", "52:54:00:77:77:77")
    assert {(name, direction) for name, direction, _ in seen[1:]} == {
        (place.one.name, "outbound"),
        (place.two.name, "outbound"),
    }
    assert explained.given.verdict.exchanges[0].requests == 1


def test_the_direction_is_the_cards_whatever_the_addresses_and_tags(root: Account, tmp_path: Path) -> None:  # noqa: ARG001
    foreign = "52:54:00:99:99:99"

    def act(place: Place) -> None:
        place.sends(place.one, Ether(src=foreign, dst=ANY) / ARP())
        place.sends(place.one, Ether(src=foreign, dst=ANY) / Dot1Q(vlan=7) / ARP())
        place.host_sends(Ether(src=place.one.mac, dst=place.one.mac) / Dot1Q(vlan=7) / ARP())

    seen, _, place = captured(tmp_path, act, filter_="arp or (vlan and arp)", every=False)
    assert [direction for _, direction, source in seen if source == foreign] == ["inbound", "inbound"]
    assert [direction for _, direction, source in seen if source == place.one.mac] == ["outbound"]


def test_a_pcap_file_has_no_place_for_several_points(root: Account, tmp_path: Path) -> None:  # noqa: ARG001
    with pytest.raises(RequestInvalid):
        captured(tmp_path, lambda _: None, "pcap")


def test_two_guests_are_captured_at_all_points_by_one_call(user: Account) -> None:
    async def scenario(session: Session) -> None:
        first = await session.boot(network=True)
        second = await session.boot(network=True, name="second")
        started = await session.call("qemu_pcap_start", points="all")
        assert (started["interface"], started["format"]) == (first["network"]["bridge"], "pcapng")
        await session.ping()
        row = await session.call("qemu_pcap_stop")
        page = await session.call("qemu_pcap_read", path=row["path"], filter="icmp")
        assert {each["point"] for each in page["packets"]} == {first["network"]["bridge"], first["network"]["tap"]}
        by_card = [each["direction"] for each in page["packets"] if each["point"] == first["network"]["tap"]]
        assert by_card == ["from guest", "to guest"]
        arp = await session.call("qemu_pcap_read", path=row["path"], filter="arp")
        assert second["network"]["tap"] in {each["point"] for each in arp["packets"]}
        told = await session.call("qemu_pcap_explain", path=row["path"])
        assert told["findings"] == []
        refused = await session.refused("qemu_pcap_start", points="all", format="pcap")
        assert refused.code == "request.invalid"

    async def whole() -> None:
        async with serving(user) as session:
            await scenario(session)

    anyio.run(whole)
