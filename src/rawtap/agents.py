"""Entering rawtap into the configuration of an agent's host program, and taking it out again.

Each host has a file of its own, as its documentation says; all hold a table of servers by name. What else is in the
file stays, and the first time a copy of it is kept beside it. A file that is not understood is never written.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rawtap.errors import HostFileUnfit

ENTRY = "rawtap"
KEPT = ".before-rawtap"


@dataclass(frozen=True)
class AgentHost:
    """A program that starts MCP servers for an agent.

    Attributes:
        title: What people call it.
        file: Its user's configuration, below their home, if no variable leads elsewhere.
        table: The table of servers in it.
        signs: Programs, and files below the home, either of which says that it is installed.
        more: What each entry has besides the command.
        moved: A variable that names another folder, and the file below that.
        note: What else its user has to know.
    """

    title: str
    file: str
    table: str
    signs: tuple[str, ...]
    more: tuple[tuple[str, str | int], ...] = ()
    moved: tuple[str, str] = ("", "")
    note: str = ""

    def place(self, home: Path, environment: Mapping[str, str]) -> Path:
        """Where the file is, or would be."""
        variable, below = self.moved
        return Path(environment[variable], below) if environment.get(variable) else home / self.file

    @property
    def is_toml(self) -> bool:
        """Whether the file is TOML; else it is JSON."""
        return self.file.endswith(".toml")


_USUAL = "mcpServers"
_STDIO = (("type", "stdio"),)
_LONGEST_CALL = 3700  # seconds: a call may wait for an hour, and some hosts end it before, if they are not told
HOSTS: Mapping[str, AgentHost] = {
    "claude-code": AgentHost(
        "Claude Code",
        ".claude.json",
        _USUAL,
        ("claude", ".claude.json", ".claude"),
        _STDIO,
        moved=("CLAUDE_CONFIG_DIR", ".claude.json"),
    ),
    "claude-desktop": AgentHost(
        "Claude Desktop",
        ".config/Claude/claude_desktop_config.json",
        _USUAL,
        ("claude-desktop", ".config/Claude"),
        moved=("XDG_CONFIG_HOME", "Claude/claude_desktop_config.json"),
    ),
    "codex": AgentHost(
        "Codex CLI",
        ".codex/config.toml",
        "mcp_servers",
        ("codex", ".codex"),
        (("tool_timeout_sec", _LONGEST_CALL),),
        moved=("CODEX_HOME", "config.toml"),
    ),
    "cursor": AgentHost("Cursor", ".cursor/mcp.json", _USUAL, ("cursor", ".cursor")),
    "gemini": AgentHost(
        "Gemini CLI",
        ".gemini/settings.json",
        _USUAL,
        ("gemini", ".gemini"),
        (("timeout", _LONGEST_CALL * 1000),),
        moved=("GEMINI_CLI_HOME", ".gemini/settings.json"),
        note="It starts servers only in folders that it was told to trust, by /permissions",
    ),
    "vscode": AgentHost(
        "VS Code",
        ".config/Code/User/mcp.json",
        "servers",
        ("code", ".config/Code"),
        _STDIO,
        moved=("XDG_CONFIG_HOME", "Code/User/mcp.json"),
    ),
}


@dataclass(frozen=True)
class Change:
    """What becomes of a file: its text before and after, None where there is no file."""

    path: Path
    before: str | None
    after: str | None

    def diff(self) -> str:
        """For a person; empty where nothing changes."""
        old, new = ((each or "").splitlines(keepends=True) for each in (self.before, self.after))
        lines = difflib.unified_diff(old, new, str(self.path), str(self.path))
        return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)


def is_here(host: AgentHost, home: Path) -> bool:
    """Whether the program seems to be installed for this user."""
    return any(shutil.which(sign) if "." not in sign else (home / sign).exists() for sign in host.signs)


def entry(host: AgentHost, command: Sequence[str]) -> dict[str, Any]:
    """What the table holds for `command`."""
    return dict(host.more) | {"command": command[0], "args": list(command[1:])}


def as_text(host: AgentHost, command: Sequence[str]) -> str:
    """The entry alone, as a file of its own would have it."""
    return _entered(host, None, entry(host, command))


def entered(host: AgentHost, path: Path, command: Sequence[str]) -> Change:
    """The file with rawtap in it, instead of an earlier entry.

    Raises:
        HostFileUnfit: The file cannot be read, or is not what the host's documentation says.
    """
    path, before = _read(path)
    return Change(path, before, _checked(path, lambda: _entered(host, before, entry(host, command))))


def removed(host: AgentHost, path: Path) -> Change:
    """The file without rawtap; no file where it held nothing else.

    Raises:
        HostFileUnfit: As for `entered`.
    """
    path, before = _read(path)
    if before is None:
        return Change(path, None, None)
    return Change(path, before, _checked(path, lambda: _removed(host, before)))


def write(change: Change) -> Path | None:
    """Carry `change` out, whole or not at all; returns the copy of what was there first, if one is kept.

    Raises:
        HostFileUnfit: The file has changed since it was read, or cannot be written.
    """
    path, kept = change.path, None
    try:
        if _text(path) != change.before:
            raise HostFileUnfit(f"{path} has changed meanwhile", cure="Run it again")
        if change.after is None:
            path.unlink(missing_ok=True)
            return None
        path.parent.mkdir(parents=True, exist_ok=True)
        if change.before is not None:
            kept = path.with_name(path.name + KEPT)
            if not kept.exists():
                shutil.copy2(path, kept)
        _replace(path, change.after)
    except OSError as error:
        raise HostFileUnfit(f"{path} cannot be written", evidence=str(error.strerror), cure=_BY_HAND) from error
    return kept


_BY_HAND = "--print shows the entry, to be added by hand"


def _replace(path: Path, text: str) -> None:
    """Put a new file in the place of `path`, with its mode and owner."""
    handle, made = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            if path.exists():
                known = path.stat()
                os.fchmod(file.fileno(), known.st_mode & 0o777)
                os.fchown(file.fileno(), known.st_uid, known.st_gid)
        Path(made).replace(path)
    except OSError:
        Path(made).unlink(missing_ok=True)
        raise


def _read(path: Path) -> tuple[Path, str | None]:
    """The file itself, where a link leads to it, and its text."""
    try:
        path = path.resolve()
        return path, _text(path)
    except (OSError, RuntimeError, UnicodeDecodeError) as error:
        raise HostFileUnfit(f"{path} cannot be read", evidence=str(error), cure=_BY_HAND) from error


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def _checked(path: Path, change: Callable[[], str | None]) -> str | None:
    try:
        return change()
    except ValueError as error:  # of json and of tomlkit as well
        raise HostFileUnfit(f"{path} is not understood", evidence=str(error), cure=_BY_HAND) from error


def _entered(host: AgentHost, before: str | None, value: dict[str, Any]) -> str:
    whole = _parsed(host, before or "")
    _table(host, whole)[ENTRY] = value
    return _dumped(host, whole, before or "")


def _removed(host: AgentHost, before: str) -> str | None:
    whole = _parsed(host, before)
    table = _table(host, whole)
    if ENTRY not in table:
        return before
    del table[ENTRY]
    if not table:
        del whole[host.table]
    return _dumped(host, whole, before) if whole else None


def _parsed(host: AgentHost, text: str) -> Any:
    if host.is_toml:
        import tomlkit

        return tomlkit.parse(text)
    return json.loads(text, object_pairs_hook=_once) if text.strip() else {}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice in an object, and one of the two would be lost")
    return found


def _table(host: AgentHost, whole: Any) -> Any:
    if not isinstance(whole, dict):
        raise ValueError("it holds no object")  # noqa: TRY004 - the file's fault, no caller's
    if host.is_toml:
        import tomlkit

        table = whole.setdefault(host.table, tomlkit.table(is_super_table=True))
    else:
        table = whole.setdefault(host.table, {})
    if not isinstance(table, dict):
        raise ValueError(f"{host.table} is no table")  # noqa: TRY004
    return table


def _dumped(host: AgentHost, whole: Any, before: str) -> str:
    """As a file, with the indentation that it had."""
    if host.is_toml:
        import tomlkit

        return tomlkit.dumps(whole)
    found = re.search(r"^[{\[]\r?\n([ \t]+)", before)
    return json.dumps(whole, indent=found[1] if found else 2, ensure_ascii=False) + "\n"
