"""pytest's plugin: a guest, its wire, and what is kept of both when a test fails.

Whoever does not use its fixtures pays for this module alone: everything else is imported by a fixture that is used.
Each test has a Lab of its own, so tests do not see each other, in one process or in several (pytest-xdist).
"""

from __future__ import annotations

import re
import shutil
import zlib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from rawtap.library import Capture, Guest, Lab
    from rawtap.library.wire import Wire

_MARKER = "guest"
_LONGEST_NAME = 80


def pytest_addoption(parser: pytest.Parser) -> None:
    """What holds for all tests of a project."""
    parser.addini("rawtap_project", "folder of the guest that tests boot, with a rawtap.toml; relative to rootdir")
    parser.addini("rawtap_profile", "or a built-in profile, like u-boot-riscv64")
    parser.addini("rawtap_network", "bridge, user or none", default="user")
    parser.addini("rawtap_serve", "further options of rawtap serve", type="args")
    parser.addini("rawtap_keep", "folder for what is kept of tests that fail; relative to rootdir", default=".rawtap")


def pytest_configure(config: pytest.Config) -> None:
    """Name the marker."""
    told = "guest(project, profile=, network=, drives=, overrides=, ...): what the fixture guest boots: Lab.boot"
    config.addinivalue_line("markers", told)


class _Held:
    """What a test holds: its Lab, and the guests and captures that it made with fixtures."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.folder = folder  # of its captures
        self.guest: Guest | None = None


_HELD = pytest.StashKey[_Held]()


@pytest.fixture
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A `rawtap.Lab` of this test's own: it has whatever the test makes, and nothing is left of it afterwards."""
    from rawtap.library import Lab

    folder = tmp_path_factory.mktemp("rawtap", numbered=True)
    with Lab(capture_dir=folder, options=request.config.getini("rawtap_serve")) as opened:
        request.node.stash[_HELD] = _Held(opened, folder)
        yield opened


@pytest.fixture
def guest(lab: Lab, request: pytest.FixtureRequest) -> Guest:
    """A booted guest at its prompt: what the marker `guest` says, or the project's settings.

    With a network its card is captured from its first instruction on.
    """
    project, wanted = _wanted(request)
    booted = lab.boot(project, **wanted)
    held = request.node.stash.get(_HELD, None)
    if held is not None:
        held.guest = booted
    if wanted.get("wait_for_prompt", True) and not booted.booted.prompt_seen:
        pytest.fail(f"the guest did not come to its prompt: {booted.booted.next_step}", pytrace=False)
    return booted


def _wanted(request: pytest.FixtureRequest) -> tuple[Path, dict[str, Any]]:
    """The project, and what else `Lab.boot` is given."""
    config, marker = request.config, request.node.get_closest_marker(_MARKER)
    positional, wanted = (marker.args, dict(marker.kwargs)) if marker else ((), {})
    network = config.getini("rawtap_network")
    wanted.setdefault("network", {"bridge": True, "none": False}.get(network, network))
    if wanted["network"]:
        wanted.setdefault("capture", True)
    project = positional[0] if positional else ""
    if not positional and not {"profile", "qemu_command"} & set(wanted):
        project = config.getini("rawtap_project")
        wanted["profile"] = config.getini("rawtap_profile") or None
    # Of a built-in profile as well: its drives are in the project, wherever this process runs.
    return config.rootpath / project, wanted


@pytest.fixture
def capture(guest: Guest) -> Capture:
    """The capture of the guest's card, from its first instruction on."""
    if guest.capture is None:
        pytest.fail("the guest has no network to capture: mark the test with guest(network=...)", pytrace=False)
    return guest.capture


@pytest.fixture
def wire(capture: Capture) -> Wire:
    """What must come on the guest's wire, and what must not: `wire.expect("udp port 53")`, `wire.quiet("arp")`."""
    from rawtap.library.wire import Wire

    return Wire(capture)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where a test failed that has a Lab: keep its captures and its console, and say what is wrong on its wire."""
    report = yield
    held = item.stash.get(_HELD, None)
    if held is not None and call.when != "teardown" and report.failed:
        report.sections += _kept(held, _place(item))
    return report


def _place(item: pytest.Item) -> Path:
    """The folder of what is kept of a test, its own whatever its name has in it."""
    name = re.sub(r"[^A-Za-z0-9._+-]+", "_", item.nodeid.replace("/", "+")).strip("_")
    if len(name) > _LONGEST_NAME or re.search(r"[^\w./:-]", item.nodeid, re.ASCII):  # like "[a b]" and "[a/b]"
        name = f"{name[:_LONGEST_NAME]}-{zlib.crc32(item.nodeid.encode()):08x}"
    return item.config.rootpath / str(item.config.getini("rawtap_keep")) / name


def _kept(held: _Held, place: Path) -> list[tuple[str, str]]:
    """Keep what there is; sections for the report. A Lab that cannot answer any more is told of there as well."""
    from rawtap.library import CallFailed
    from rawtap.library.failures import told

    try:
        sections = told(held.lab, held.guest)
    except CallFailed as error:
        sections = [("rawtap", str(error))]
    try:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        for name, text in sections:
            (place / f"{name.split()[-1]}.txt").write_text(text, encoding="utf-8")
        for path in held.folder.iterdir():
            shutil.copy(path, place)
    except OSError as error:  # the test's own report is not lost with it
        return [*sections, ("rawtap kept", f"not all of it could be kept: {error}")]
    return [*sections, ("rawtap kept", str(place))]
