"""The server's options in a file and in the environment, as the command line sees them."""

from __future__ import annotations

import re
import subprocess
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support import RAWTAP, Account


def run(user: Account, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    account = replace(user, more=tuple(f"{name}={value}" for name, value in environment.items()))
    command = account.command(RAWTAP, *arguments)
    return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


def write(user: Account, text: str) -> Path:
    path = user.home / ".config/rawtap/rawtap.conf.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def config(user: Account, *arguments: str, **environment: str) -> tuple[dict[str, Any], dict[str, str]]:
    """What `rawtap config` says: each option's value, and where it is from."""
    done = run(user, "config", *arguments, **environment)
    assert (done.returncode, done.stderr) == (0, "")
    origins = dict(re.findall(r"^(\w+) = .*  # (.*)$", done.stdout, re.MULTILINE))
    return tomllib.loads(done.stdout), origins


def test_the_file_then_the_environment_then_the_command_line(user: Account) -> None:
    path = write(user, 'tools = "core"\nring_mib = 8\nread_dir = ["/a"]\noutside = false\n')
    found, origins = config(user, "--read-dir", "/c", RAWTAP_RING_MIB="9", RAWTAP_READ_DIR="/b:/b2")
    assert (found["tools"], found["ring_mib"], found["outside"]) == ("core", 9, False)
    assert found["read_dir"] == ["/a", "/b", "/b2", "/c"]
    assert (origins["tools"], origins["ring_mib"], origins["capture_dir"]) == (str(path), "RAWTAP_RING_MIB", "default")
    assert origins["read_dir"] == f"{path}, RAWTAP_READ_DIR, command line"
    found, origins = config(user, "--ring-mib", "10", "--outside", RAWTAP_RING_MIB="9")
    assert (found["ring_mib"], origins["ring_mib"], origins["outside"]) == (10, "command line", "command line")


def test_a_variable_that_chooses_nothing_is_told(user: Account) -> None:
    shown = run(user, "config", RAWTAP_TOOL="core", RAWTAP_TOKEN="0" * 64).stdout
    assert [line for line in shown.splitlines() if "chooses nothing" in line] == [
        "# RAWTAP_TOOL in the environment chooses nothing: no option has this name"
    ]


def test_what_is_shown_can_be_the_file(user: Account) -> None:
    done = run(user, "config", "--tools", "capture", "--allow-interface", "eth0")
    write(user, done.stdout)
    found, _ = config(user)
    assert (found["tools"], found["allow_interface"]) == ("capture", ["eth0"])


def test_what_only_http_needs_is_shown_as_the_file_has_it(user: Account) -> None:
    path = write(user, 'token_file = "/somewhere"\n')
    found, origins = config(user)
    assert (found["token_file"], origins["token_file"]) == ("/somewhere", str(path))


def test_every_option_of_the_server_is_shown_once(user: Account) -> None:
    told = run(user, "serve", "--help").stdout
    options = set(re.findall(r"(?<![\w-])--([a-z][a-z-]*)", told)) - {"help"}
    options = {each for each in options if not each.startswith("no-")}
    shown = re.findall(r"^(?:# )?(\w+)(?: = | is not set)", run(user, "config").stdout, re.MULTILINE)
    assert sorted(shown) == sorted(each.replace("-", "_") for each in options)


def test_the_file_decides_what_the_server_does(user: Account) -> None:
    write(user, f'capture_dir = "{user.home}/elsewhere"\ntoken_file = "/nowhere"\n')
    assert run(user, "doctor").returncode in {0, 1}  # it takes part of the options, and is not bothered by the rest
    done = run(user, "serve")
    assert (done.returncode, done.stderr) == (0, "")


WRONG = [
    ("outside = 3", "outside is 3. Give it true or false"),
    ("ring_mib = [1]", r"ring_mib is \[1\]. Give it a text or a number"),
    ("read_dir = true", "read_dir is True. Give it a list of texts"),
    ("tolls = 'core'", "'tolls' is no option of the server. Did you mean tools"),
    ("a = ", "is no TOML"),
    ("shared_secret = 'x'", "rawtap config shows what it may hold"),
]


@pytest.mark.parametrize(("text", "told"), WRONG)
def test_a_wrong_file_is_told_before_anything_starts(user: Account, text: str, told: str) -> None:
    write(user, text)
    for command in ("serve", "doctor", "config"):
        done = run(user, command)
        assert done.returncode == 2
        assert re.search(f"^rawtap: server.configuration_invalid: .*{told}", done.stderr)


def test_a_value_that_the_option_refuses_is_refused_as_on_the_command_line(user: Account) -> None:
    write(user, 'tools = "some"\n')
    done = run(user, "serve")
    assert done.returncode == 2
    assert "argument --tools: invalid choice: 'some'" in done.stderr
    assert f"besides the command line: tools by {user.home}/.config/rawtap/rawtap.conf.toml" in done.stderr
    assert run(user, "serve", RAWTAP_OUTSIDE="perhaps").returncode == 2


def test_an_option_that_the_command_does_not_have_is_told_with_those_that_it_has(user: Account) -> None:
    done = run(user, "serve", "--port", "3")
    assert (done.returncode, "usage: rawtap serve" in done.stderr) == (2, True)
    assert "unrecognized arguments: --port 3" in done.stderr
    assert run(user, "--port", "3").returncode == 2


def test_a_file_that_is_named_must_be_there_and_be_readable(user: Account) -> None:
    done = run(user, "serve", RAWTAP_CONFIG="/nowhere/x.toml")
    assert (done.returncode, "is not there" in done.stderr) == (2, True)
    write(user, "").chmod(0)
    done = run(user, "serve")
    assert (done.returncode, "Permission denied" in done.stderr) == (2, True)


def test_help_is_there_whatever_the_file_holds(user: Account) -> None:
    write(user, "a = ")
    assert run(user, "serve", "--help").returncode == 0
    assert run(user, "--version").returncode == 0
