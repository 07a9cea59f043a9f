"""`rawtap install`, run as its user runs it."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, StdioServerParameters, stdio_client

from support import RAWTAP, Account


def install(user: Account, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = user.command(RAWTAP, "install", *arguments)
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_what_was_entered_starts_the_server(user: Account) -> None:
    done = install(user, "codex", "--serve=--tools core")
    assert (done.returncode, done.stderr) == (0, "")
    assert '+command = "' in done.stdout
    assert "start Codex CLI again to have the tools" in done.stdout
    entry = tomllib.loads((user.home / ".codex/config.toml").read_text())["mcp_servers"]["rawtap"]
    assert entry["args"] == ["serve", "--tools", "core"]
    assert len(asked(user, entry)) == 10
    assert "trust" not in done.stdout
    undone = install(user, "codex", "--undo")
    assert (undone.returncode, undone.stderr) == (0, "")
    assert not (user.home / ".codex/config.toml").exists()


def test_it_is_entered_where_the_hosts_own_variable_leads(user: Account) -> None:
    elsewhere = user.home / "elsewhere"
    moved = replace(user, more=(f"GEMINI_CLI_HOME={elsewhere}",))
    done = install(moved, "gemini")
    assert (done.returncode, done.stderr) == (0, "")
    assert "only in folders that it was told to trust" in done.stdout
    assert "rawtap" in json.loads((elsewhere / ".gemini/settings.json").read_text())["mcpServers"]
    assert f"({elsewhere}/.gemini/settings.json)" in install(moved).stdout
    assert "trust" not in install(moved, "gemini", "--undo").stdout
    assert not (user.home / ".gemini").exists()


def asked(user: Account, entry: dict[str, Any]) -> list[str]:
    """The tools that a host sees which starts `entry`."""

    async def scenario() -> list[str]:
        command = user.command(entry["command"], *entry["args"])
        async with Client(stdio_client(StdioServerParameters(command=command[0], args=command[1:]))) as client:
            return [each.name for each in (await client.list_tools()).tools]

    return anyio.run(scenario)


def test_a_dry_run_and_a_print_change_nothing(user: Account) -> None:
    dry = install(user, "gemini", "--dry-run")
    assert (dry.returncode, dry.stderr) == (0, "")
    assert '+    "rawtap": {' in dry.stdout
    shown = install(user, "gemini", "--print")
    assert json.loads(shown.stdout)["mcpServers"]["rawtap"]["command"] == str(RAWTAP)
    assert not (user.home / ".gemini").exists()


def test_those_that_are_here_are_listed(user: Account) -> None:
    before = install(user).stdout
    (user.home / ".cursor").mkdir()
    after = install(user).stdout
    assert "Cursor was not found" in before
    assert "Cursor is here" in after


@pytest.mark.parametrize("argument", ["emacs", "--undo --print"])
def test_wrong_usage_is_told(user: Account, argument: str) -> None:
    done = install(user, *shlex.split(argument))
    assert done.returncode == 2 or "was not found" in done.stdout
    assert "emacs" not in argument or "known are claude-code" in done.stderr


def test_options_that_no_shell_would_take_are_told(user: Account) -> None:
    done = install(user, "codex", "--serve", '"')
    assert (done.returncode, "No closing quotation" in done.stderr, "Traceback" in done.stderr) == (2, True, False)
    assert not (user.home / ".codex").exists()


def test_a_file_that_may_not_be_written_is_told(user: Account) -> None:
    folder = user.home / ".gemini"
    folder.mkdir()
    (folder / "settings.json").write_text("{}")
    os.chown(folder, 0, 0)
    done = install(user, "gemini")
    assert done.returncode == 1
    assert "install.file_unfit" in done.stderr
    assert "Permission denied" in done.stderr
    assert (folder / "settings.json").read_text() == "{}"


def test_a_serving_command_imports_none_of_it() -> None:
    unwanted = {"rawtap.agents", "difflib", "tomlkit", "tomllib"}
    program = f"import sys, rawtap.cli; rawtap.cli.parsers(); print({unwanted} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
    assert Path(sys.prefix, "bin/rawtap").exists()
