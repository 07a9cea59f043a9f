"""Errors and notes, as a person at a terminal reads them."""

from __future__ import annotations

import re

import pytest

from rawtap.errors import CaptureUnreadable, RequestInvalid
from rawtap.tools.every import TOOLS
from rawtap.tools.guest import _WAIT_ON
from rawtap.verbs.wording import _TOOL, for_person, told


@pytest.mark.parametrize(
    ("agents", "persons"),
    [
        ("qemu_doctor checks the set-up", "rawtap doctor checks the set-up"),
        ("Boot it with network=true", "Boot it with --network bridge"),
        ('qemu_boot(network="user") needs no privilege', "rawtap boot --network user needs no privilege"),
        ("services=true needs a network", "--services needs a network"),
        ("qemu_pcap_query shows them: SELECT * FROM streams", 'rawtap query FILE "SELECT * FROM streams" shows them'),
        ('on b: qemu_pcap_start(interface="b") captures there', "on b: rawtap capture b captures there"),
        ("no prompt within 3 s; the guest runs on: qemu_read shows more", "no prompt within 3 s; the guest runs on"),
        ("the guest reset itself; the next qemu_send waits for its prompt", "the guest reset itself"),
        ("it asks for a password: qemu_send it", "it asks for a password"),
        (f"'=> ' did not come within 3 s: {_WAIT_ON}", "'=> ' did not come within 3 s; --timeout gives it longer"),
        ("See on its console (qemu_read) whether it has an address.", "See on its console whether it has an address."),
        ("qemu_args: options are not passed on", "qemu_args: options are not passed on"),
        ("Write a rawtap.toml, or give qemu_command", "Write a rawtap.toml, or give --line"),
        ("late; only the last 8000 characters are shown; earlier: qemu_read(position=9)", "late"),
    ],
    ids=[
        "doctor",
        "bridge",
        "user",
        "dns",
        "sql",
        "capture",
        "prompt",
        "reset",
        "password",
        "late",
        "console",
        "key",
        "line",
        "cut",
    ],
)
def test_a_tool_is_named_by_its_command(agents: str, persons: str) -> None:
    assert for_person(agents) == persons


@pytest.mark.parametrize(
    ("cure", "text"),
    [
        ("qemu_pcap_status lists the captures", "capture.unreadable: it is gone (No such file)"),
        ("Look again; qemu_status shows it", "capture.unreadable: it is gone (No such file). Look again"),
        ("qemu_shutdown ends it. Or wait", "capture.unreadable: it is gone (No such file). Or wait"),
    ],
    ids=["all", "end", "front"],
)
def test_what_only_an_agent_can_do_is_left_out(cure: str, text: str) -> None:
    assert told(CaptureUnreadable("it is gone", evidence="No such file", cure=cure)) == text


def test_every_tool_is_known_and_no_key_is_taken_for_one() -> None:
    assert [each.name for each in TOOLS if not re.fullmatch(_TOOL, each.name)] == []
    assert not any(
        re.search(_TOOL, each) for each in ("qemu_args", "qemu_command", "qemu_arm64/u-boot.bin", "guest.qemu_missing")
    )


def test_what_was_named_and_seen_stays_as_it_is() -> None:
    error = RequestInvalid("qemu_status.pcap has network=true", evidence="qemu_read", cure="qemu_doctor tells")
    assert told(error) == "request.invalid: qemu_status.pcap has network=true (qemu_read). rawtap doctor tells"
    assert told(RuntimeError("qemu_read")) == "qemu_read"
