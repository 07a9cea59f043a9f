"""Configurations of agents' hosts: entered, changed, taken out again, and left alone where they are not understood."""

from __future__ import annotations

import json
import stat
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
from annotated_types import Le

from rawtap import agents
from rawtap.errors import HostFileUnfit
from rawtap.tools.guest import Timeout

COMMAND = ["/opt/rawtap/bin/rawtap", "serve", "--outside"]
HOSTS = [pytest.param(each, id=name) for name, each in agents.HOSTS.items()]
JSON_HOSTS = [each for each in agents.HOSTS.values() if not each.is_toml]


def place(host: agents.AgentHost, home: Path, text: str) -> Path:
    path = home / host.file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def servers(host: agents.AgentHost, path: Path) -> dict[str, Any]:
    text = path.read_text()
    whole = tomllib.loads(text) if host.is_toml else json.loads(text)
    return dict(whole[host.table])


@pytest.mark.parametrize("host", HOSTS)
def test_a_host_without_a_file_gets_one_and_loses_it_again(host: agents.AgentHost, tmp_path: Path) -> None:
    change = agents.entered(host, tmp_path / host.file, COMMAND)
    assert change.before is None
    assert "+" in change.diff()
    assert agents.write(change) is None
    found = servers(host, tmp_path / host.file)[agents.ENTRY]
    assert (found["command"], found["args"]) == (COMMAND[0], COMMAND[1:])
    agents.write(agents.removed(host, tmp_path / host.file))
    assert not (tmp_path / host.file).exists()


@pytest.mark.parametrize("host", HOSTS)
def test_what_else_is_there_stays_as_it_is(host: agents.AgentHost, tmp_path: Path) -> None:
    if host.is_toml:
        before = '# mine\nmodel = "x"\n\n[mcp_servers.other]\ncommand = "other" # do not touch\n'
    else:
        before = json.dumps({"ümlaut": [1, 2.5], host.table: {"other": {"command": "other"}}}, indent=4) + "\n"
    path = place(host, tmp_path, before)
    path.chmod(0o600)
    kept = agents.write(agents.entered(host, tmp_path / host.file, COMMAND))
    assert kept is not None
    assert kept.read_text() == before
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert set(servers(host, path)) == {"other", agents.ENTRY}
    agents.write(agents.entered(host, tmp_path / host.file, ["/elsewhere/rawtap", "serve"]))
    assert servers(host, path)[agents.ENTRY]["command"] == "/elsewhere/rawtap"
    assert kept.read_text() == before
    agents.write(agents.removed(host, tmp_path / host.file))
    assert servers(host, path) == {"other": {"command": "other"}}
    assert not host.is_toml or "# do not touch" in path.read_text()
    assert sorted(each.name for each in path.parent.iterdir()) == sorted([path.name, kept.name])


@pytest.mark.parametrize("host", HOSTS)
def test_a_second_time_changes_nothing(host: agents.AgentHost, tmp_path: Path) -> None:
    agents.write(agents.entered(host, tmp_path / host.file, COMMAND))
    again = agents.entered(host, tmp_path / host.file, COMMAND)
    assert (again.before, again.diff()) == (again.after, "")
    agents.write(agents.removed(host, tmp_path / host.file))
    assert agents.removed(host, tmp_path / host.file) == agents.Change(tmp_path / host.file, None, None)


def test_a_variable_of_the_hosts_own_leads_elsewhere(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for host in agents.HOSTS.values():
        variable, below = host.moved
        assert host.place(home, {}) == host.place(home, {variable: ""}) == home / host.file
        if variable:
            assert host.place(home, {variable: "/elsewhere"}) == Path("/elsewhere", below)
            assert host.file.endswith(Path(below).name)
    assert agents.HOSTS["codex"].place(home, {"CODEX_HOME": "/x"}) == Path("/x/config.toml")


def test_a_host_that_ends_calls_waits_longer_than_any_of_them_may_last() -> None:
    (longest,) = [each.le for each in get_args(Timeout)[1].metadata if isinstance(each, Le)]
    waits = [dict(host.more) for host in agents.HOSTS.values()]
    assert [each["tool_timeout_sec"] > longest for each in waits if "tool_timeout_sec" in each] == [True]
    assert [each["timeout"] > longest * 1000 for each in waits if "timeout" in each] == [True]


BROKEN = ["{", "[]", "// a remark\n{}", '{"a": 1, "a": 2}', '{"TABLE": []}', '{"TABLE": "x"}', "3", "\0"]


@pytest.mark.parametrize("text", BROKEN)
@pytest.mark.parametrize("host", JSON_HOSTS, ids=lambda each: each.title)
def test_a_file_that_is_not_understood_is_left_alone(host: agents.AgentHost, text: str, tmp_path: Path) -> None:
    before = text.replace("TABLE", host.table)
    path = place(host, tmp_path, before)
    for attempt in (
        lambda: agents.entered(host, tmp_path / host.file, COMMAND),
        lambda: agents.removed(host, tmp_path / host.file),
    ):
        with pytest.raises(HostFileUnfit, match=r"is not understood .*--print"):
            attempt()
    assert path.read_text() == before


@pytest.mark.parametrize("text", ["a = ", "mcp_servers = 3", "a = 1\na = 2"])
def test_a_toml_file_that_is_not_understood_is_left_alone(text: str, tmp_path: Path) -> None:
    host = agents.HOSTS["codex"]
    path = place(host, tmp_path, text)
    with pytest.raises(HostFileUnfit, match="is not understood"):
        agents.entered(host, tmp_path / host.file, COMMAND)
    assert path.read_text() == text


def test_a_file_that_a_link_leads_to_is_changed_and_the_link_stays(tmp_path: Path) -> None:
    host = agents.HOSTS["cursor"]
    real = tmp_path / "dotfiles.json"
    real.write_text("{}")
    link = tmp_path / host.file
    link.parent.mkdir()
    link.symlink_to(real)
    agents.write(agents.entered(host, tmp_path / host.file, COMMAND))
    assert link.is_symlink()
    assert agents.ENTRY in servers(host, real)


def test_a_file_that_changes_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    host = agents.HOSTS["gemini"]
    path = place(host, tmp_path, "{}")
    change = agents.entered(host, tmp_path / host.file, COMMAND)
    path.write_text('{"theme": "dark"}')
    with pytest.raises(HostFileUnfit, match="has changed meanwhile"):
        agents.write(change)
    assert path.read_text() == '{"theme": "dark"}'


def test_a_circle_of_links_and_bytes_that_are_no_text_are_told(tmp_path: Path) -> None:
    host = agents.HOSTS["vscode"]
    path = place(host, tmp_path, "")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(HostFileUnfit, match="cannot be read"):
        agents.entered(host, tmp_path / host.file, COMMAND)
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(HostFileUnfit, match="cannot be read"):
        agents.entered(host, tmp_path / host.file, COMMAND)
