"""The documentation: its links lead somewhere, its commands and calls do what they say, its lists are complete.

A shell block that every machine can run says so behind its backticks, and is run here:

    ```sh run              by an ordinary user, in a copy of the checkout that also has a capture.pcap, without stdin
    ```sh run root         by root
    ```sh run root soak    by root, where Debian's and PyPI's mirrors can be reached; by the soak only

A block that doesn't say so must hold a command of `BY_HAND`. So nobody can leave one out by forgetting it.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import anyio
import jsonschema
import pytest

from pages import ROOT, Block, Page, all_pages, codes_in
from rawtap import errors
from rawtap.errors import RawtapError
from rawtap.guest.profile import Profile
from rawtap.guest.projects import overlay
from support import RAWTAP, Account, serving

PAGES = all_pages()
BLOCKS = [block for page in PAGES for block in page.blocks]
RUN = [block for block in BLOCKS if block.info[:2] == ("sh", "run")]
TOOLS_PAGE, README = Page(ROOT / "docs/tools.md"), Page(ROOT / "README.md")
STORY = "the agent calls"

# Commands that no test can run, and why.
BY_HAND = {
    "rawtap watch": "a server that runs meanwhile: tests/test_watching.py has one",
    "rawtap extcap": "the same: tests/test_extcap.py",
    "claude": "the reader's agent",
    "claude-code": "the same, whose configuration is changed",
    "podman": "a container's engine",
    "scripts/test.sh": "these tests",
    "ruff": "scripts/test.sh runs it, and mypy, before these tests",
    "scripts/release.sh": "some minutes: tests/test_release.py carries it out",
    "scripts/bench.py": "half an hour with the machine to itself",
    "systemctl": "systemd, which starts what is installed on the machine",
}
# What a person does at a terminal.
VERBS = ("boot", "capture", "wait", "explain", "query", "follow", "record", "watch", "extcap")
# Codes that no class of errors has: what rawtap does not expect.
UNEXPECTED = {"server.bug"}


def test_the_readme_is_short() -> None:
    assert len(README.text.splitlines()) <= 200


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path.name)
def test_every_link_leads_somewhere(page: Page) -> None:
    for link in page.links:
        if link.startswith("https://"):
            continue  # the network's
        target, _, anchor = link.partition("#")
        path = (page.path.parent / target).resolve() if target else page.path
        assert path.exists(), link
        assert path.is_relative_to(ROOT), link
        assert not anchor or anchor in Page(path).anchors, link


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, left = set(), [README.path]
    while left:
        page = left.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        left += [(page.parent / link.partition("#")[0]).resolve() for link in Page(page).links if "://" not in link]
    assert {page.path for page in PAGES} <= reached


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path.name)
def test_every_path_of_the_checkout_that_a_page_names_is_there(page: Page) -> None:
    folders = r"src|tests|scripts|docs|container|packaging|\.ci"
    named = [each for each in page.code if re.fullmatch(rf"(?:{folders})/[\w./-]+", each)]
    assert [each for each in named if not (ROOT / each).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path.name)
def test_every_module_that_a_page_names_is_there(page: Page) -> None:
    wings = "ask|lab|examine|host|guest|capture|network|packets|tools|http"
    named = {each for each in re.findall(r"[\w./]+", page.text) if re.fullmatch(rf"(?:{wings})/[a-z\d_/]+\.pyx?", each)}
    assert [each for each in named if not (ROOT / "src/rawtap" / each).exists()] == []


# ------------------------------------------------------------------ commands


def test_every_block_says_what_it_is() -> None:
    known = {("sh",), ("sh", "run"), ("sh", "run", "root"), ("sh", "run", "root", "soak")}
    known |= {("json",), ("toml",), ("text",), ("python",), ("python", "run")}
    assert [block.place for block in BLOCKS if block.info not in known] == []


def test_a_block_that_is_not_run_holds_a_command_that_cannot_be() -> None:
    used: set[str] = set()
    for block in BLOCKS:
        by_hand = {name for name in BY_HAND for each in block.commands() if re.search(rf"(^|[\s/]){name}(\s|$)", each)}
        if block.info == ("sh",):
            assert by_hand, block.place
            used |= by_hand
        elif block in RUN and "soak" not in block.info:
            assert not by_hand, block.place
    assert used == set(BY_HAND)


@pytest.mark.parametrize("block", [each for each in BLOCKS if each.info == ("sh",)], ids=lambda block: block.place)
def test_what_is_not_run_is_well_formed_at_least(block: Block) -> None:
    done = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def checkout(user: Account) -> Path:
    """A copy of the checkout, the ordinary user's, with a capture in it."""
    copy = user.home / "checkout"
    kept_out = shutil.ignore_patterns(".*_cache", "__pycache__", ".git", ".venv", "build", "*.egg-info", ".hypothesis")
    shutil.copytree(ROOT, copy, ignore=kept_out)
    from scapy.all import DNS, IP, UDP, Ether, wrpcap

    wrpcap(str(copy / "capture.pcap"), [Ether() / IP() / UDP(dport=53) / DNS()])
    for path in [user.home, *user.home.rglob("*")]:
        shutil.chown(path, user.uid, user.gid)
    return copy


def run(block: Block, account: Account, folder: Path, within: tuple[str, ...] = ()) -> None:
    """Run a block as its reader would."""
    shell = [*within, *account.command("bash", "-euo", "pipefail", "-c", block.text)]
    done = subprocess.run(
        shell, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr


def reader_of(account: Account) -> Account:
    """Whoever reads the page has this environment: first in the PATH, and for the scripts."""
    return replace(account, path=f"{sys.prefix}/bin:/usr/sbin:/usr/bin:/sbin:/bin", more=(f"RAWTAP_ENV={sys.prefix}",))


@pytest.mark.parametrize("block", [each for each in RUN if "soak" not in each.info], ids=lambda block: block.place)
def test_the_commands_of_a_page_run(user: Account, root: Account, checkout: Path, block: Block) -> None:
    run(block, reader_of(root if "root" in block.info else user), checkout)


@pytest.mark.soak
@pytest.mark.parametrize("block", [each for each in RUN if "soak" in each.info], ids=lambda block: block.place)
def test_the_long_commands_of_a_page_run(root: Account, checkout: Path, block: Block) -> None:
    """On what the reader has then: nothing of this environment. Root needs no sudo, and may have none."""
    programs = root.home / "bin"
    programs.mkdir()
    (programs / "sudo").write_text('#!/bin/sh\nexec "$@"\n', encoding="ascii")
    (programs / "sudo").chmod(0o755)
    reader = replace(root, path=f"{programs}:/usr/sbin:/usr/bin:/sbin:/bin")
    run(block, reader, checkout, within=("nsenter", f"--net={os.environ['RAWTAP_TEST_OUTSIDE']}", "--"))


@pytest.mark.parametrize(
    "block", [each for each in BLOCKS if each.info == ("python", "run")], ids=lambda block: block.place
)
def test_the_programs_of_a_page_run(user: Account, checkout: Path, block: Block) -> None:
    program = block._replace(text=f"python3 - <<'END'\n{block.text}\nEND")
    run(program, reader_of(user), checkout)


def test_what_is_shown_of_the_example_is_in_it() -> None:
    example = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs/example").glob("*.py"))
    shown = [block.text for block in BLOCKS if block.info == ("python",)]
    assert shown
    assert [text for text in shown if text not in example] == []


# --------------------------------------------------------------------- calls


def calls_in(page: Page) -> list[ast.Call]:
    """The calls of tools that a page shows, in backticks or in a block."""
    found = []
    for text in [*page.code, *(line for block in page.blocks for line in block.text.splitlines())]:
        if re.match(r"qemu_\w+\(", text) and "..." not in text:
            found += [each for each in ast.walk(ast.parse(text)) if isinstance(each, ast.Call)]
    return found


def arguments_of(call: ast.Call) -> dict[str, Any]:
    """Its arguments; true, false and null as JSON has them."""
    words = {"true": True, "false": False, "null": None}
    return {
        str(each.arg): words[each.value.id] if isinstance(each.value, ast.Name) else ast.literal_eval(each.value)
        for each in call.keywords
    }


def test_every_call_that_a_page_shows_fits_its_tool(user: Account) -> None:
    """Names and types, by the schema that clients get. What a call must have and the text leaves out, it may."""

    async def scenario() -> None:
        async with serving(user) as session:
            schemas = {each.name: each.input_schema for each in (await session.client.list_tools()).tools}
        calls = [(page, call) for page in PAGES for call in calls_in(page)]
        assert len(calls) > 20
        for page, call in calls:
            name = ast.unparse(call.func)
            assert name in schemas, (page.path.name, name)
            jsonschema.validate(arguments_of(call), schemas[name] | {"required": []})

    anyio.run(scenario)


@pytest.mark.parametrize(
    ("page", "table"),
    [(page, table) for page in PAGES for table in page.tables(STORY)],
    ids=lambda each: each.path.name if isinstance(each, Page) else each[0][0],
)
def test_a_story_goes_as_it_is_told(user: Account, page: Page, table: list[list[str]]) -> None:  # noqa: ARG001
    """Each call is made, and all that its other column has in backticks is in the answer."""

    async def scenario() -> None:
        async with serving(user) as session:
            for row in table:
                call = ast.parse(codes_in(row[0])[0], mode="eval").body
                assert isinstance(call, ast.Call)
                answer = json.dumps(await session.call(ast.unparse(call.func), **arguments_of(call)))
                assert [told for told in codes_in(row[1]) if told not in answer] == [], answer

    anyio.run(scenario)


# --------------------------------------------------------------------- lists


def test_the_tools_page_lists_every_tool_and_no_other(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            there = {each.name for each in (await session.client.list_tools()).tools}
        listed = TOOLS_PAGE.listed("tool")
        assert sorted(listed) == sorted(there)

    anyio.run(scenario)


def test_the_troubleshooting_page_lists_every_error_and_no_other() -> None:
    kinds = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, RawtapError)]
    codes = {each.code for each in kinds if "code" in vars(each)}
    assert sorted(Page(ROOT / "docs/troubleshooting.md").listed("code")) == sorted(codes | UNEXPECTED)


@pytest.mark.parametrize("command", ["serve", "doctor", "demo", "install", "read", "export", "init", *VERBS])
def test_every_option_is_documented_and_no_other(user: Account, command: str) -> None:
    told = subprocess.run(user.command(RAWTAP, command, "--help"), capture_output=True, text=True, check=True)
    there = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", told.stdout)) - {"--help"}
    listed = {option for page in PAGES for row in page.listed(f"`rawtap {command}`") for option in [row.split()[0]]}
    assert listed == there


def test_the_example_of_a_project_is_valid_and_has_every_key() -> None:
    keys = {"profile", *asdict(Profile())} - {"name"}
    (example,) = [tomllib.loads(block.text) for block in BLOCKS if block.info == ("toml",)]
    assert set(example) == keys
    overlay(Path("/nowhere/rawtap.toml"), example, None)


def test_json_is_json() -> None:
    for block in BLOCKS:
        if block.info == ("json",):
            json.loads(block.text)


def test_the_drawing_of_the_house_has_every_room_in_the_order_of_the_import_contract() -> None:
    """A room that is above another in the contract is not below it in the drawing."""
    page = Page(ROOT / "docs/architecture.md")
    drawing = page.blocks[0].text.splitlines()
    lines = {name: number for number, line in enumerate(drawing) for name in re.findall(r"\b(\w+)(?:/|\.py)", line)}
    source = ROOT / "src/rawtap"
    rooms = {path.stem for path in source.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert set(lines) == rooms - {"__init__", "__main__"}
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    order = [name for layer in layers for name in re.findall(r"rawtap\.([a-z]\w*)", layer)]
    placed = [lines[name] for name in order]
    assert placed == sorted(placed)
