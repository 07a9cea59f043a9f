"""docs/rawtap.service: what systemd would do with it, done by setpriv(1), and what systemd says of it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import anyio
import pytest

from http_support import HttpServer, connected, started
from support import RAWTAP, Account, children_of, command_of, link_names, read_back, status_of

UNIT = Path(__file__).parent.parent / "docs/rawtap.service"
NONE = f"{0:016x}"


def said(key: str) -> str:
    """What the unit says of `key`."""
    (value,) = re.findall(rf"^{key}=(.*)$", UNIT.read_text(encoding="utf-8"), re.MULTILINE)
    return str(value)


def as_systemd(user: Account, state: Path) -> list[str]:
    """The unit's command, started with what the unit gives and takes."""
    given = ["-all", *(f"+{name.removeprefix('CAP_').lower()}" for name in said("AmbientCapabilities").split())]
    assert said("CapabilityBoundingSet") == said("AmbientCapabilities")
    assert said("NoNewPrivileges") == "yes"
    sets = [f"--{kind}={','.join(given)}" for kind in ("inh-caps", "ambient-caps", "bounding-set")]
    (name, _) = said("Environment").split("=")
    environment = ["/usr/bin/env", "-i", f"PATH={user.path}", f"HOME={user.home}", f"{name}={state}"]
    program, *arguments = said("ExecStart").split()
    assert Path(program).name == RAWTAP.name
    become = [f"--reuid={user.uid}", f"--regid={user.gid}", user.groups]
    return ["setpriv", *become, *sets, "--no-new-privs", "--", *environment, str(RAWTAP), *arguments]


def test_ambient_capabilities_are_enough_for_networks_captures_and_services(user: Account) -> None:
    async def scenario(server: HttpServer) -> None:
        async with connected(server) as session:
            assert (await session.boot(services=True, capture=True))["warnings"] == []
            assert "bound to address" in (await session.call("qemu_send", command="setenv autoload no; dhcp"))["output"]
            row = await session.call("qemu_pcap_stop")
            assert read_back(row["path"]) == row["packets"] > 0
            assert not (await session.call("qemu_status"))["rootless"]
            holds_what_it_should(server.pid)
            assert (await session.call("qemu_shutdown"))["left_standing"] == []

    state = user.home / "state"
    with started(as_systemd(user, state)) as server:
        server.token = (state / "rawtap/http-token").read_text(encoding="ascii").strip()
        anyio.run(scenario, server)
    assert link_names() == set()


def holds_what_it_should(pid: int) -> None:
    """The server has the capabilities, none of them in force; its children have none but dnsmasq."""
    status = status_of(pid)
    assert Path(f"/proc/{pid}/exe").resolve().name != "python-rawtap"
    assert status["NoNewPrivs"] == "1"
    assert [status[f"Cap{kind}"] for kind in ("Eff", "Inh", "Amb")] == [NONE] * 3
    assert status["CapPrm"] != NONE
    children = children_of(pid)
    assert any("qemu-system" in command_of(each) for each in children)
    for child in children:
        if "dnsmasq" not in command_of(child):
            assert [status_of(child)[f"Cap{kind}"] for kind in ("Eff", "Prm", "Inh", "Amb")] == [NONE] * 4, child


def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.fail("systemd-analyze is not installed (package systemd)")
    unit = tmp_path / UNIT.name
    text = UNIT.read_text(encoding="utf-8").replace(said("ExecStart").split()[0], str(RAWTAP))
    unit.write_text(text, encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
