"""tshark's word on packets, from outside: a real server of an ordinary user, and what must not be possible."""

from __future__ import annotations

import os
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import anyio
import lz4.frame
import pytest
from scapy.layers.dns import DNS, DNSQR
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.snmp import SNMP, SNMPget, SNMPvarbind
from scapy.packet import Raw
from scapy.utils import wrpcap, wrpcapng

from rawtap.ask import dissect
from rawtap.host import programs
from support import Account, Session, ToolFailed, Wire, children_of, eventually_async, new_children, serving
from unit.frames import back, out

FOLDER = "dissected"
FRAMES = [
    out(UDP(sport=4000, dport=53) / DNS(id=7, qd=DNSQR(qname="one.example"))),
    back(UDP(sport=53, dport=4000) / DNS(id=7, qr=1, rcode=3, qd=DNSQR(qname="one.example"))),
    out(TCP(sport=5000, dport=80, flags="PA") / Raw(b"GET /index.html HTTP/1.1\r\nHost: www.example\r\n\r\n")),
    out(UDP(sport=4000, dport=161) / SNMP(PDU=SNMPget(varbindlist=[SNMPvarbind(oid="1.3.6.1.2.1.1.1.0")]))),
]


def played(scenario: Callable[[Session], Awaitable[None]], account: Account, *options: str | Path) -> None:
    async def whole() -> None:
        async with serving(account, *options) as session:
            await scenario(session)

    anyio.run(whole)


def put(account: Account, name: str, frames: list[object] | None = None) -> Path:
    folder = account.home / FOLDER
    folder.mkdir(exist_ok=True)
    path = folder / name
    (wrpcapng if name.endswith("ng") else wrpcap)(str(path), FRAMES if frames is None else frames)
    shutil.chown(path, account.uid, account.gid)
    return path


def test_layers_fields_lines_and_filters_are_wiresharks_where_they_are_asked_for(user: Account) -> None:
    path = put(user, "mixed.pcap")
    packed = path.with_name("mixed.pcapng.lz4")
    packed.write_bytes(lz4.frame.compress(put(user, "mixed.pcapng").read_bytes()))
    shutil.chown(packed, user.uid, user.gid)

    async def scenario(session: Session) -> None:
        async def read(**what: object) -> dict[str, object]:
            return dict(await session.call("qemu_pcap_read", **{"path": str(path), **what}))

        page = await read(detail="layers", first=4)
        names = [layer["layer"] for layer in page["packets"][0]["layers"]]
        assert names == ["Ethernet", "IP", "UDP", "snmp"]  # the first three read here, the last by tshark
        assert page["packets"][0]["layers"][-1]["fields"]["snmp.community"] == "public"
        for file in (path, packed):
            page = await read(path=str(file), display_filter="dns.flags.rcode == 3 or http.request")
            assert ([row["number"] for row in page["packets"]], page["matched"], page["scanned"]) == ([2, 3], 2, 4)
            assert (page["next_cursor"], page["warnings"]) == (None, [])
        page = await read(display_filter="udp", filter="src host 10.0.2.15", limit=1)
        assert ([row["number"] for row in page["packets"]], page["matched"]) == ([1], 2)
        page = await read(display_filter="udp", filter="src host 10.0.2.15", limit=1, cursor=page["next_cursor"])
        assert ([row["number"] for row in page["packets"]], page["next_cursor"]) == ([4], None)
        page = await read(display_filter="http", fields=["http.host", "tcp.dstport"], dissector="tshark")
        assert page["packets"][0]["fields"] == {"http.host": "www.example", "tcp.dstport": 80}
        page = await read(display_filter="http", detail="hex", dissector="tshark")
        assert "".join(row["hex"] for row in page["packets"][0]["runs"]) == bytes(FRAMES[2]).hex()
        page = await read(dissector="tshark")
        assert page["packets"][1]["summary"].startswith("Standard query response 0x0007 No such name")
        assert (await read(detail="layers", dissector="rawtap", first=4))["packets"][0]["layers"][-1]["layer"] == "Raw"
        assert (await read(display_filter="arp"))["packets"] == []
        assert await eventually_async(lambda: children_of(session.pid) == [])

    played(scenario, user, "--read-dir", path.parent)


def test_packets_that_tshark_does_not_know_are_counted(user: Account) -> None:
    """A display filter passes them over, and they may be what somebody looks for."""
    path = put(user, "dsa.pcap", [Raw(bytes(12) + b"\x40\0\0\0" + bytes(40))] * 2)
    content = bytearray(path.read_bytes())
    content[20:24] = (284).to_bytes(4, "little")  # LINKTYPE_DSA_TAG_DSA
    path.write_bytes(content)

    async def scenario(session: Session) -> None:
        page = await session.call("qemu_pcap_read", path=str(path), display_filter="ip or arp")
        assert (page["packets"], page["matched"], page["scanned"]) == ([], 0, 2)
        assert page["warnings"] == [
            "tshark does not know the link type of 2 of the packets that the display filter was asked of: of these no "
            "field but the frame's own can match"
        ]
        page = await session.call("qemu_pcap_read", path=str(path), display_filter="frame.len > 1")
        assert [row["number"] for row in page["packets"]] == [1, 2]

    played(scenario, user, "--read-dir", path.parent)


def test_a_part_that_a_display_filter_was_asked_of_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rawtap.ask import packets
    from rawtap.lab.lab import Lab
    from rawtap.packets.pages import Question
    from rawtap.packets.wireshark import given
    from rawtap.settings import Settings

    path = tmp_path / "f.pcap"
    wrpcap(str(path), FRAMES * 25)
    monkeypatch.setattr(given, "MOST_PACKETS", 40)
    monkeypatch.setattr(given, "_BEFORE", 10)

    async def scenario() -> None:
        async with Lab(Settings(capture_dir=tmp_path)) as lab:
            found, cursor, notes = [], None, []
            for _ in range(20):
                page, _, _ = await packets.read(lab, None, path, Question(display_filter="snmp", cursor=cursor))
                found += [line.number for line in page.packets]
                notes.append("; ".join(page.notes))
                if (cursor := page.next_cursor) is None:
                    break
        assert found == list(range(4, 101, 4))
        told = "the display filter was asked of packets {} of 100, which are what matched counts"
        counted = "; numbers in the display filter count from packet {}"
        assert notes == [
            told.format("1 to 40") + "; next_cursor goes on",
            told.format("31 to 70") + "; next_cursor goes on" + counted.format(31),
            told.format("61 to 100") + counted.format(61),
        ]

    anyio.run(scenario)


def test_packets_that_tshark_was_not_given_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rawtap.ask import packets
    from rawtap.lab.lab import Lab
    from rawtap.packets.pages import Question
    from rawtap.packets.wireshark import given
    from rawtap.settings import Settings

    path = tmp_path / "f.pcap"
    wrpcap(str(path), [*FRAMES[:3], *[out(UDP(sport=4000, dport=514) / Raw(b"<34>one " + bytes(60)))] * 3])
    monkeypatch.setattr(given, "MOST_BYTES", 200)  # two of them

    async def scenario() -> None:
        async with Lab(Settings(capture_dir=tmp_path)) as lab:
            page, _, _ = await packets.read(lab, None, path, Question(), "tshark")
            assert [line.number for line in page.packets] == [1, 2, 3, 4, 5, 6]
            told = "tshark says nothing of {} of these packets: there was no room for those behind packet {}"
            assert page.notes == (told.format(4, 2),)
            page, _, _ = await packets.read(lab, None, path, Question(first=4, detail="layers"))
            assert [(line.layers or ())[-1].name for line in page.packets] == ["syslog", "syslog", "Raw"]
            assert page.notes == (told.format(1, 5),)

    anyio.run(scenario)


def test_a_running_ring_has_the_same_numbers_for_both(user: Account, wire: Wire) -> None:
    async def scenario(session: Session) -> None:
        await session.call("qemu_pcap_start", interface=wire.near, max_bytes=100_000, files=3)
        wire.send(250, 1400)
        await session.call("qemu_pcap_status")
        plain = await session.call("qemu_pcap_read", limit=5)
        page = await session.call("qemu_pcap_read", limit=5, display_filter="frame.len == 1400", dissector="tshark")
        assert [row["number"] for row in page["packets"]] == [row["number"] for row in plain["packets"]]
        assert page["next_cursor"]
        further = await session.call(
            "qemu_pcap_read", limit=5, display_filter="frame.len == 1400", cursor=page["next_cursor"]
        )
        assert further["packets"][0]["number"] == page["packets"][-1]["number"] + 1

    played(scenario, user, "--allow-interface", wire.near)


HOSTILE = {
    "no filter": "dns.flags.rcode =",
    "no field": "no.such.field == 1",
    "a script": "-X lua_script:/tmp/a.lua",
    "an option": "--version",
    "another file": "-r /etc/passwd",
    "two lines": "dns\n-w /tmp/a",
    "a shell": "$(touch /tmp/a) || `id`",
    "brackets": "dns and ((http)",
    "a macro": "${private:a}",
}


def test_what_is_no_display_filter_is_refused_in_tsharks_words(user: Account) -> None:
    path = put(user, "mixed.pcap")

    async def scenario(session: Session) -> None:
        for hostile in HOSTILE.values():
            with pytest.raises(ToolFailed, match=r"^capture\.bad_filter: the display filter .* \(tshark: "):
                await session.call("qemu_pcap_read", path=str(path), display_filter=hostile)
            assert await eventually_async(lambda: children_of(session.pid) == []), hostile

    played(scenario, user, "--read-dir", path.parent)


def test_a_display_filter_beyond_reason_is_refused_before(user: Account) -> None:
    path = put(user, "mixed.pcap")

    async def scenario(session: Session) -> None:
        for text in ("x" * 5000, "dns\0"):
            with pytest.raises(ToolFailed, match=r"request\.invalid: the display filter is no text"):
                await session.call("qemu_pcap_read", path=str(path), display_filter=text)

    played(scenario, user, "--read-dir", path.parent)


def test_nothing_of_a_users_configuration_is_loaded(user: Account) -> None:
    """A plug-in in Lua would be a program of whoever can write into the home that tshark is given."""
    path = put(user, "mixed.pcap")
    witness = user.home / "witness"
    for folder in (".config/wireshark/plugins", ".local/lib/wireshark/plugins", ".local/lib/wireshark/plugins/4.0"):
        place = user.home / folder
        place.mkdir(parents=True, exist_ok=True)
        (place / "own.lua").write_text(f'io.open("{witness}", "w"):write("ran")')
    (user.home / ".config/wireshark/preferences").write_text('gui.column.format: \n\t"No.", "%m"\n')
    for folder, _, names in os.walk(user.home):
        for each in (Path(folder), *(Path(folder, name) for name in names)):
            os.chown(each, user.uid, user.gid, follow_symlinks=False)

    async def scenario(session: Session) -> None:
        page = await session.call("qemu_pcap_read", path=str(path), dissector="tshark", limit=1)
        assert page["packets"][0]["summary"].startswith("Standard query 0x0007")

    played(scenario, user, "--read-dir", path.parent)
    assert not witness.exists()


def test_without_tshark_what_it_would_do_is_said_with_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's part alone, as if the program were not there: to take it away would take it from all tests."""
    from rawtap.ask import packets
    from rawtap.errors import DissectorUnavailable
    from rawtap.lab.lab import Lab
    from rawtap.packets.pages import Question
    from rawtap.settings import Settings

    path = tmp_path / "f.pcap"
    wrpcap(str(path), FRAMES)
    found = programs.find
    monkeypatch.setattr(programs, "find", lambda name, *where: None if name == "tshark" else found(name, *where))
    assert not dissect.is_there()

    async def scenario() -> None:
        async with Lab(Settings(capture_dir=tmp_path)) as lab:
            page, _, _ = await packets.read(lab, None, path, Question(first=3, limit=1, detail="layers"))
            assert page.notes == (
                "what 1 of these packets carry is not read here; tshark would (Debian's package tshark)",
            )
            for question, dissector in ((Question(), "tshark"), (Question(display_filter="dns"), None)):
                with pytest.raises(DissectorUnavailable, match=r"tshark is not installed") as refused:
                    await packets.read(lab, None, path, question, dissector)  # type: ignore[arg-type]
                assert " install " in str(refused.value)
                assert str(refused.value).endswith(" tshark")

    anyio.run(scenario)


def test_a_question_that_takes_too_long_ends_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rawtap.ask import packets
    from rawtap.errors import DissectorLimit
    from rawtap.lab.lab import Lab
    from rawtap.packets.pages import Question
    from rawtap.settings import Settings

    path = tmp_path / "f.pcap"
    wrpcap(str(path), [IP() / UDP()])
    monkeypatch.setattr(dissect, "BOUNDS", replace(dissect.BOUNDS, seconds=0.01))
    known = children_of(os.getpid())

    async def scenario() -> None:
        async with Lab(Settings(capture_dir=tmp_path)) as lab:
            with pytest.raises(DissectorLimit, match="tshark did not answer"):
                await packets.read(lab, None, path, Question(display_filter="ip"))
        assert not new_children(known)

    anyio.run(scenario)
