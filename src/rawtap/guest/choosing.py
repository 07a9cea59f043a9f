"""Which profile a call means: that of its project, of a QEMU line, and what it changes of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from rawtap.guest.hardware import Hardware
from rawtap.guest.paths import CONFIG_FILE, holds
from rawtap.guest.profile import Profile, Tree, laid
from rawtap.guest.projects import choose
from rawtap.guest.qemu_line import Line

# What a line says of its own: all of the machine. How to speak to it, and its bridge, stay the project's to say.
_MACHINE = {each.name for each in fields(Hardware)} | {
    "arch", "machine", "cpu", "memory", "smp", "bios", "kernel", "initrd", "firmware", "bootargs", "drives", "overlay",
}  # fmt: skip


def chosen(
    root: Path | None,
    name: str | None,
    line: Line | None,
    overrides: Mapping[str, Any],
    *,
    kernel: str | None = None,
    image_dirs: tuple[Path, ...] = (),
) -> tuple[Path, Tree]:
    """The root that paths are relative to, and the profile; `line` stands for the machine that the project names.

    `kernel` is the call's own, which may say the architecture, as one in the operator's `image_dirs` may.
    What the line leaves out is its own to tell: with the profile there is what the tree's own build leaves out.

    Raises:
        ProfileInvalid: No such profile, or a key that cannot be.
        GuestNotFound: The root is no folder, or nothing in it says what to boot.
    """
    overrides = dict(overrides)
    over = overrides.pop("profile", None)
    name = name or (None if over is None else str(over))
    if line is None:
        root, tree = choose(root, name, {**overrides, **({"kernel": kernel} if kernel else {})}, image_dirs)
    else:
        root, profile = _of_line(root, name, line)
        tree = Tree(profile)
    return root, tree._replace(profile=laid(tree.profile, overrides, "overrides")) if overrides else tree


def _of_line(root: Path | None, name: str | None, line: Line) -> tuple[Path, Profile]:
    base = Profile(name="line")
    where = root or Path.cwd()
    if name is not None or not holds(where, Path.is_dir) or holds(where / CONFIG_FILE, Path.is_file):
        where, found = choose(root, name)
        kept = {key: said for key, said in asdict(found.profile).items() if key not in _MACHINE}
        base = laid(base, kept, "the profile")
    return where, laid(base, line.table, "what qemu_command says")


def of_layout(root: Path) -> tuple[str, tuple[str, ...]]:
    """A ``rawtap.toml`` for a tree that is known by its files, and what its reader should know of it.

    Raises:
        GuestNotFound: It is no folder, or not known.
    """
    from rawtap.guest.builtin import BUILTIN

    _, (profile, told) = choose(root, None)
    named = {"profile": profile.name} if profile.name in BUILTIN else {}
    plain = asdict(BUILTIN[profile.name] if named else Profile())
    own = {key: _said(each) for key, each in asdict(profile).items() if each != plain[key]}
    return as_toml(named | own), told


def _said(value: Any) -> Any:
    """Without what is None, which TOML has no word for."""
    if isinstance(value, Mapping):
        return {key: _said(each) for key, each in value.items() if each is not None}
    return [_said(each) for each in value] if isinstance(value, list | tuple) else value


def as_toml(table: Mapping[str, Any]) -> str:
    """A profile's keys as a ``rawtap.toml``."""
    return "".join(f"{key} = {_value(value)}\n" for key, value in table.items())


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return (
            "{ " + ", ".join(f"{_key(key)} = {_value(each)}" for key, each in value.items()) + " }" if value else "{}"
        )
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(each) for each in value) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(key: str) -> str:
    return key if key.replace("-", "").replace("_", "").isalnum() and key.isascii() else json.dumps(key)
