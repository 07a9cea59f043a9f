"""A capture on a bridge accounts for what the guests on it sent: real bridge and TAP, frames put in as QEMU does."""

from __future__ import annotations

import os
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.to_thread import run_sync as to_thread
from scapy.layers.inet import ICMP, IP
from scapy.layers.l2 import ARP, Ether

from rawtap.blocking import in_thread
from rawtap.capture.session import CaptureRequest
from rawtap.lab.captures import CaptureReport
from rawtap.lab.lab import Lab
from rawtap.lab.observation import GuestNic
from rawtap.network import network
from rawtap.network.network import BridgeSpec
from rawtap.settings import Settings
from support import Account, eventually_async

BRIDGE = "passes-br0"
ANY = "ff:ff:ff:ff:ff:ff"
FORWARDING = "3"  # BR_STATE_FORWARDING, linux/if_bridge.h
SWITCHES = Path("/proc/sys/net/bridge")


def state_of(port: str) -> str:
    return Path(f"/sys/class/net/{port}/brport/state").read_text(encoding="utf-8").strip()


def ask(mac: str) -> bytes:
    return bytes(Ether(src=mac, dst=ANY) / ARP(hwsrc=mac, psrc="10.9.0.15", pdst="10.9.0.77"))


def echo(mac: str, padding: int = 0, beyond: int = 0) -> bytes:
    packet = IP(src="10.9.0.15", dst="10.9.0.255", len=28 + beyond) / ICMP()
    return bytes(Ether(src=mac, dst=ANY) / packet) + bytes(padding)


def captured(tmp_path: Path, frames: list[Any], filter_: str = "") -> tuple[CaptureReport, str]:
    """Capture on a bridge what is put in by a guest's TAP, given what makes each frame of a MAC; and the TAP's name."""

    async def scenario() -> tuple[CaptureReport, str]:
        settings = Settings(capture_dir=tmp_path, allowed_interfaces=frozenset({BRIDGE}))
        spec = BridgeSpec(BRIDGE, IPv4Interface("10.9.0.1/24"), trusted=True)
        async with (
            Lab(settings) as lab,
            in_thread(network.tap(BRIDGE, network.Station("guest"))) as tap,
            in_thread(network.bridge(spec)) as bridge,
        ):
            await to_thread(network.plug, tap, bridge)
            assert await eventually_async(lambda: state_of(tap.name) == FORWARDING)
            lab.interfaces.add(tap.name, GuestNic("guest", BRIDGE, tap.mac))
            capture = await lab.start_capture(CaptureRequest(BRIDGE, filter=filter_))
            for make in frames:
                os.write(tap.device.fileno(), make(tap.mac))
            report = await lab.captures.stop(capture)
            again = await lab.captures.report(capture)
            assert again.snapshot.warnings == report.snapshot.warnings
            tap.device.close()
            return report, tap.name

    return anyio.run(scenario)


def passed_warnings(report: CaptureReport) -> list[str]:
    return [each for each in report.snapshot.warnings if "the bridge passed" in each]


def test_frames_that_the_bridge_drops_are_told_with_the_reason(root: Account, tmp_path: Path) -> None:  # noqa: ARG001
    group = "53:54:00:00:00:01"
    report, tap = captured(tmp_path, [ask, lambda _: ask(group), ask, lambda _: ask(group), lambda _: ask(group)])
    assert report.snapshot.packets == 2
    assert passed_warnings(report) == [
        "the guest 'guest' sent 5 frames, the bridge passed 2: group source address (3 frames). "
        f'qemu_pcap_start(interface="{tap}") has them as they left the guest'
    ]


def test_nothing_is_told_where_all_came_by_whatever_the_filter(root: Account, tmp_path: Path) -> None:  # noqa: ARG001
    report, _ = captured(tmp_path, [ask] * 20, "icmp")
    assert (report.snapshot.packets, passed_warnings(report)) == (0, [])


def test_more_frames_than_are_kept_lose_none_in_the_account(root: Account, tmp_path: Path) -> None:  # noqa: ARG001
    report, _ = captured(tmp_path, [ask] * 3000)
    assert (report.snapshot.packets, passed_warnings(report)) == (3000, [])


@pytest.mark.parametrize("on", [True, False])
def test_what_br_netfilter_does_is_told(root: Account, tmp_path: Path, on: bool) -> None:  # noqa: ARG001
    """A frame whose IP length lies, and one with padding; without br_netfilter both come by as they are."""
    switch = SWITCHES / "bridge-nf-call-iptables"
    if not switch.exists():
        pytest.skip("this kernel has no br_netfilter")
    before = switch.read_text(encoding="utf-8")
    try:
        switch.write_text(str(int(on)), encoding="utf-8")
        report, _ = captured(tmp_path, [echo, lambda mac: echo(mac, beyond=9), lambda mac: echo(mac, padding=14)])
    finally:
        switch.write_text(before, encoding="utf-8")
    told = [each.partition(". ")[0] for each in passed_warnings(report)]
    assert told == (
        [
            "the guest 'guest' sent 3 frames, the bridge passed 2: IP length beyond the frame (1 frame), "
            "1 without what follows the IP packet, which br_netfilter cuts off"
        ]
        if on
        else []
    )
