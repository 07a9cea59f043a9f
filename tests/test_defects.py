"""An agent that has tool answers only names the defect; and says nothing of a wire that is clean."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from support import PATIENCE, Account, Session, ToolFailed, Wire, serving

GUEST = "10.0.2.75"


def with_guest(user: Account, scenario: Callable[[Session, str], Awaitable[None]]) -> None:
    """Boot the demo guest with a capture from its first instruction on, and give its MAC address."""

    async def whole() -> None:
        async with serving(user) as session:
            network = (await session.boot(capture=True))["network"]
            await scenario(session, network["mac"])
            await session.call("qemu_shutdown")

    anyio.run(whole)


def codes(answer: dict[str, Any]) -> list[str]:
    return [finding["what"] for finding in answer["findings"]]


def test_a_guest_that_pings_its_host_is_found_without_a_fault(user: Account) -> None:
    async def scenario(session: Session, _: str) -> None:
        assert "is alive" in await session.ping()
        answer = await session.call("qemu_pcap_explain")
        assert answer["findings"] == []
        assert answer["examined"] >= 4
        kinds = {(each["kind"], each["requests"], each["answered"]) for each in answer["exchanges"]}
        assert ("ICMP echo", 1, 1) in kinds
        assert ("ARP", 1, 1) in kinds

    with_guest(user, scenario)


def test_a_guest_that_never_answers_arp_is_named(user: Account) -> None:
    """The demo guest listens only while a network command of its own runs."""

    async def scenario(session: Session, _: str) -> None:
        sent = await session.call(
            "qemu_packet_send", layers=[{"layer": "ARP", "op": "who-has", "pdst": GUEST}], count=3
        )
        assert sent["sent"] == 3
        waited = await session.call("qemu_pcap_wait", filter="arp[6:2] = 2", since="start", timeout=1.5)
        assert waited["satisfied"] is False
        assert [(each["protocol"], each["packets"]) for each in waited["others"]] == [("ARP", 3)]
        answer = await session.call("qemu_pcap_explain")
        (finding,), (exchange,) = answer["findings"], answer["exchanges"]
        assert finding["what"] == "arp.no_answer"
        assert GUEST in finding["says"]
        assert finding["packets"][0] == 1
        assert finding["evidence"].startswith("no answer in the ")
        assert (exchange["kind"], exchange["answered"], exchange["unanswered"]) == ("ARP", 0, 1)
        assert "RFC 826" in finding["rule"]

    with_guest(user, scenario)


def test_a_guest_whose_dhcp_is_not_answered_is_named(user: Account) -> None:
    async def scenario(session: Session, mac: str) -> None:
        await session.call("qemu_send", command="dhcp", wait_for="BOOTP broadcast 5", timeout=PATIENCE)
        await session.call("qemu_pcap_wait", filter="udp dst port 67", since="start", count=5, timeout=PATIENCE)
        answer = await session.call("qemu_pcap_explain", filter="udp")
        (finding,) = answer["findings"]
        assert finding["what"] == "dhcp.no_offer"
        assert mac in finding["says"]
        (exchange,) = answer["exchanges"]
        assert (exchange["kind"], exchange["answered"]) == ("DHCP", 0)
        assert exchange["requests"] + exchange["retransmitted"] >= 5
        (note,) = (each for each in answer["notes"] if "DHCP" in each)
        assert note.startswith("rawtap serves no DHCP on ")
        assert note.endswith(": qemu_boot(services=true) does")

    with_guest(user, scenario)


def test_a_bad_udp_checksum_in_a_replayed_exchange_is_named(user: Account) -> None:
    """Each is sent to the guest, as the exchange's two sides would have."""

    async def scenario(session: Session, _: str) -> None:
        question = [
            {"layer": "IP", "src": "10.0.2.2", "dst": GUEST},
            {"layer": "UDP", "sport": 4000, "dport": 53},
            {"layer": "DNS", "id": 7, "rd": 1, "qd": [{"layer": "DNSQR", "qname": "a.example"}]},
        ]
        reply = [
            {"layer": "IP", "src": GUEST, "dst": "10.0.2.2"},
            {"layer": "UDP", "sport": 53, "dport": 4000, "chksum": 0x1234},
            {"layer": "DNS", "id": 7, "qr": 1, "qd": [{"layer": "DNSQR", "qname": "a.example"}]},
        ]
        for layers in (question, reply):
            await session.call("qemu_packet_send", layers=layers)
        answer = await session.call("qemu_pcap_explain", filter="udp port 53")
        (finding,) = [each for each in answer["findings"] if "checksum" in each["what"]]
        assert finding["what"] == "udp.checksum_wrong"
        assert finding["packets"] == [2]
        assert "0x1234" in finding["evidence"]
        assert "RFC 768" in finding["rule"]

    with_guest(user, scenario)


def test_findings_come_in_pages(user: Account) -> None:
    async def scenario(session: Session, _: str) -> None:
        for host in range(10):
            layers = [
                {"layer": "IP", "src": f"10.0.2.{100 + host}", "dst": GUEST, "ttl": 0},
                {"layer": "UDP", "chksum": 1},
            ]
            await session.call("qemu_packet_send", layers=layers)
        found, cursor = [], None
        while True:
            page = await session.call("qemu_pcap_explain", cursor=cursor, limit=7)
            found += page["findings"]
            assert len(page["findings"]) <= 7
            assert page["left"] == 0 if page["next_cursor"] is None else page["left"] >= 20 - len(found)
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert len({(finding["what"], finding["says"]) for finding in found}) == len(found) >= 20
        assert "ip.ttl_zero 10" in page["overview"]
        whole = await session.call("qemu_pcap_explain", limit=100)
        assert len(json.dumps(whole)) < 9000
        assert whole["left"] == len(found) - len(whole["findings"])
        page = await session.call("qemu_pcap_explain", limit=1)
        with pytest.raises(ToolFailed, match="the cursor belongs to another capture, file or filter"):
            await session.call("qemu_pcap_explain", cursor=page["next_cursor"], filter="udp")
        for wrong in ("x", "1-5", "1-0-1-00000000", "-1-5-1-00000000", "1-999999-1", "1-5-1-0000000g"):
            with pytest.raises(ToolFailed, match="is no cursor"):
                await session.call("qemu_pcap_explain", cursor=wrong)

    with_guest(user, scenario)


def test_a_scan_is_one_finding(user: Account) -> None:
    async def scenario(session: Session, _: str) -> None:
        for host in range(30):
            await session.call("qemu_packet_send", layers=[{"layer": "ARP", "pdst": f"10.0.2.{200 + host}"}])
        told = await session.until(
            lambda answer: "arp.no_answer 30" in answer["overview"], "qemu_pcap_explain", filter="arp"
        )
        (finding,) = told["findings"]
        assert (finding["what"], finding["count"]) == ("arp.no_answer", 30)
        assert finding["says"].endswith("(and 29 more like this)")

    with_guest(user, scenario)


def test_the_next_page_has_what_was_overdue_at_the_first(user: Account) -> None:
    async def scenario(session: Session, _: str) -> None:
        # All at once: when the last packet was captured, none of these was overdue.
        for host in range(4):
            await session.call("qemu_packet_send", layers=[{"layer": "ARP", "pdst": f"10.0.2.{200 + host}"}])
        first = await session.until(lambda answer: answer["left"] >= 3, "qemu_pcap_explain", filter="arp", limit=1)
        second = await session.call("qemu_pcap_explain", filter="arp", limit=100, cursor=first["next_cursor"])
        assert len(second["findings"]) == first["left"]
        assert (second["left"], second["next_cursor"]) == (0, None)
        assert not any("only the first" in note for note in second["notes"])

    with_guest(user, scenario)


def test_what_a_ring_has_overwritten_may_be_what_is_missing(user: Account, wire: Wire) -> None:
    async def scenario() -> None:
        async with serving(user, "--allow-interface", wire.near) as session:
            await session.call("qemu_pcap_start", interface=wire.near, max_bytes=4096, files=2)
            wire.send(200)
            wire.send_bytes(
                bytes.fromhex(
                    "ffffffffffff 020000000001 0806 0001 0800 06 04 0001 020000000001 0a000001 000000000000 0a000002"
                )
            )
            await session.call("qemu_pcap_wait", filter="arp", absent=True, since="now", timeout=1.1)
            answer = await session.call("qemu_pcap_explain")
            overwritten = (await session.call("qemu_pcap_status"))["captures"][0]["packets_overwritten"]
            (finding,) = [each for each in answer["findings"] if each["what"] == "arp.no_answer"]
            assert answer["examined"] == 201 - overwritten < 201
            assert f"{overwritten} packets of the capture were lost" in finding["evidence"]
            told = f"{overwritten} packets of the capture were overwritten by the ring"
            assert told in answer["notes"]
            wire.send(2)  # where nothing is wrong, that is no less to be known
            well = await session.call("qemu_pcap_explain", filter="not arp")
            assert (well["findings"], told.split(" ", 1)[1] in " ".join(well["notes"])) == ([], True)

    anyio.run(scenario)


def test_answers_that_a_filter_hides_are_not_missed(user: Account) -> None:
    async def scenario(session: Session, _: str) -> None:
        assert "is alive" in await session.ping()
        # Until an answer would have had its time.
        await session.call("qemu_pcap_wait", filter="icmp", absent=True, timeout=1.5)
        answer = await session.call("qemu_pcap_explain", filter="icmp[0] = 8")
        assert answer["findings"] == []
        assert any("filter" in note for note in answer["notes"])

    with_guest(user, scenario)


def test_a_file_is_explained_like_a_capture_and_others_files_are_not_read(
    user: Account, wire: Wire, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with serving(user, "--allow-interface", wire.near) as session:
            await session.call("qemu_pcap_start", interface=wire.near)
            for turn in range(1, 9):  # what is on the wire is in
                wire.send(1)
                assert (await session.call("qemu_pcap_explain"))["examined"] == turn
            path = (await session.call("qemu_pcap_stop"))["path"]
            by_capture = await session.call("qemu_pcap_explain", capture="c1")
            by_path = await session.call("qemu_pcap_explain", path=path)
            assert by_capture | {"source": path} == by_path
            assert by_path["examined"] == 8
            with pytest.raises(ToolFailed, match=r"^capture\.unreadable: "):
                await session.call("qemu_pcap_explain", path=str(tmp_path / "x.pcap"))
            with pytest.raises(ToolFailed, match=r"^request\.invalid: capture and path"):
                await session.call("qemu_pcap_explain", path=path, capture="c1")
            with pytest.raises(ToolFailed, match=r"^capture\.bad_filter: "):
                await session.call("qemu_pcap_explain", filter="udp prot 53")
            whole = Path(path).read_bytes()
            Path(path).write_bytes(whole[:-1])
            torn = await session.call("qemu_pcap_explain", path=path)
            assert torn["examined"] == 7
            told = "the file ends in the middle of packet 8: 8 packets were saved, 7 are in the file"
            assert torn["notes"][-1] == told

    anyio.run(scenario)
