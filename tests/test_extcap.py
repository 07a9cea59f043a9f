"""Running captures among Wireshark's interfaces: what tshark makes of them, which takes them as Wireshark does."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from http_support import HandSession
from rawtap.cli import main
from rawtap.network.addressing import Owner
from rawtap.verbs import extcap
from rawtap.watched.places import Place
from support import PATIENCE, RAWTAP, Account, Wire, numbers_in
from test_verbs import rawtap
from test_watching import HEAD, server_of, watched

__all__ = ["watched"]  # a fixture
FOLDERS = (".local/lib/wireshark/extcap", ".config/wireshark/extcap")


def tshark(account: Account, *words: str | Path) -> subprocess.CompletedProcess[str]:
    command = account.command("tshark", *words)
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE, cwd=account.home)


def test_tshark_lists_what_runs_and_reads_every_packet_while_a_ring_turns(watched: Account, wire: Wire) -> None:
    assert rawtap(watched, "extcap", "--install").returncode == 0
    with server_of(watched, "--allow-interface", wire.near) as server:
        session = HandSession(server)
        for form in ("pcapng", "pcap"):
            session.call("qemu_pcap_start", interface=wire.near, format=form, files=3, max_bytes=65536)
        session.call("qemu_pcap_stop")
        listed = tshark(watched, "-D").stdout
        assert f" rawtap-c1 (rawtap c1 on {wire.near} (server {server.pid}))\n" in listed
        assert "rawtap-c2" not in listed  # it has ended
        copy = watched.home / "copy.pcapng"
        words = ("-i", "rawtap-c1", "-f", "ether[17] < 200", "-c", "600", "-w", copy, "-P", "-l")
        reading = watched.command("tshark", *words)
        with subprocess.Popen(reading, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            assert process.stdout
            for number in range(600):
                wire.send_bytes((HEAD + (number % 200).to_bytes(4, "big")).ljust(1000, b"\0"))
                wire.send_bytes((HEAD + (number % 50 + 200).to_bytes(4, "big")).ljust(1000, b"\0"))
                if number % 50 == 49:  # it keeps up
                    assert all(process.stdout.readline() for _ in range(50))
            assert process.wait(PATIENCE) == 0
        _ends_when_its_reader_has_seen_enough(watched, wire)
        row = session.call("qemu_pcap_stop", capture="c1")
        assert row["packets_overwritten"] > 0
        assert numbers_in(copy) == [*range(200)] * 3
        gone = tshark(watched, "-i", "rawtap-c1", "-c", "1")
        assert gone.returncode != 0
    assert "interface" not in rawtap(watched, "extcap", "--extcap-interfaces").stdout
    done = rawtap(watched, "extcap", "--extcap-interface", "rawtap-c1", "--extcap-dlts")
    assert done.returncode == 1
    assert "capture.unknown: rawtap-c1 is not there any more (there are: none)" in done.stderr
    assert rawtap(watched, "extcap").returncode == 2


def _ends_when_its_reader_has_seen_enough(account: Account, wire: Wire) -> None:
    fifo = account.home / "fifo"
    os.mkfifo(fifo)
    os.chown(fifo, account.uid, account.gid)
    words = ("extcap", "--capture", "--extcap-interface", "rawtap-c1", "--fifo", fifo)
    with subprocess.Popen(account.command(RAWTAP, *words), stderr=subprocess.PIPE, text=True) as process:
        with fifo.open("rb") as reading:
            assert len(reading.read(24)) == 24
        wire.send(300, size=1000)
        assert process.communicate(timeout=PATIENCE) == (None, "")
        assert process.returncode == 0


def test_it_is_installed_for_both_kinds_of_wireshark_and_taken_out_again(user: Account) -> None:
    scripts = [user.home / each / "rawtap" for each in FOLDERS]
    assert rawtap(user, "extcap", "--install").returncode == 0
    printed = rawtap(user, "extcap", "--print").stdout
    assert [each.read_text(encoding="utf-8") for each in scripts] == [printed, printed]
    assert [each.stat().st_mode & 0o777 for each in scripts] == [0o755, 0o755]
    scripts[0].write_text("another's", encoding="utf-8")
    for option in ("--install", "--uninstall"):
        done = rawtap(user, "extcap", option)
        assert (done.returncode, done.stderr) == (1, f"rawtap: {scripts[0]} is not rawtap's: it stays as it is\n")
    assert [each.exists() for each in scripts] == [True, False]
    assert scripts[0].read_text(encoding="utf-8") == "another's"


def lab(name: str, *captures: tuple[str, str, str], cards: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "name": name,
        "guests": [{"name": "g", "state": "running", "cards": list(cards)}] if cards else [],
        "captures": [
            {"id": each, "interface": interface, "state": state, "filter": "", "link_type": "EN10MB"}
            for each, interface, state in captures
        ],
    }


def test_names_are_short_where_nobody_else_has_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    places = [Place(Path(f"/nowhere/{pid}"), Owner(pid, 1, 1)) for pid in (11, 12)]
    there = [
        (places[0], {"labs": [lab("", ("c1", "tap", "running"), ("c2", "tap", "stopped"), cards=("tap", "other"))]}),
        (places[1], {"labs": [lab("x", ("c1", "lo", "running"))]}),
        (places[1], {"labs": [lab("y", ("c1", "lo", "running"), ("c3", "lo", "running"))]}),
    ]
    monkeypatch.setattr(extcap, "states", lambda: there)
    offered = {each.value: (each.place.pid, each.lab, each.capture) for each in extcap._offered()}
    assert offered == {
        "rawtap-11-c1": (11, "", "c1"),
        "rawtap-guest-g": (11, "", "c1"),
        "rawtap-guest-g-2": (11, "", None),
        "rawtap-12-x-c1": (12, "x", "c1"),
        "rawtap-12-y-c1": (12, "y", "c1"),
        "rawtap-c3": (12, "y", "c3"),
    }


def test_wireshark_is_asked_for_a_filter_and_told_what_is_wrong_with_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Place(Path("/nowhere"), Owner(11, 1, 1))
    there = {"labs": [lab("", ("c1", "{a}", "running"), cards=("b",))]}
    monkeypatch.setattr(extcap, "states", lambda: [(place, there)])
    monkeypatch.setattr(extcap.signal, "signal", lambda *_: None)  # this process goes on
    assert main(["extcap", "--extcap-interfaces", "--extcap-version=4.0"]) == 0
    assert "interface {value=rawtap-c1}{display=rawtap c1 on (a) (server 11)}\n" in capsys.readouterr().out
    assert main(["extcap", "--extcap-config", "--extcap-interface", "rawtap-c1"]) == 0
    assert "{call=--packets}" in capsys.readouterr().out
    assert main(["extcap", "--extcap-dlts", "--extcap-interface", "rawtap-c1"]) == 0
    assert capsys.readouterr().out == "dlt {number=1}{name=EN10MB}{display=EN10MB}\n"
    asked = ["extcap", "--extcap-interface", "rawtap-c1", "--extcap-capture-filter"]
    assert (main([*asked, "udp port 53"]), capsys.readouterr().out) == (0, "")
    assert main([*asked, "udp prt 53"]) == 1
    assert capsys.readouterr().out.startswith("capture.bad_filter: ")
    assert main(["extcap", "--capture", "--fifo", "/nowhere", "--extcap-interface", "rawtap-guest-g"]) == 1
    assert "capture.unknown: no capture runs on the card of rawtap-guest-g" in capsys.readouterr().err
