"""What the operator decided once and for all: a file and the environment, as arguments before the command line's own.

So each option has one meaning, one check and one error, wherever it is given: the command line wins over the
environment, the environment over the file; what may be repeated adds up. Keys are the options' names with `_` for `-`;
in the environment they are in capitals behind ``RAWTAP_``, and what may be repeated is separated by colons.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from rawtap.errors import ConfigurationInvalid

VARIABLE = "RAWTAP_CONFIG"
_NAME = "rawtap.conf.toml"
_PREFIX = "RAWTAP_"
_OTHERS = ("RAWTAP_TOKEN", "RAWTAP_ENV")  # read where a token is wanted, and by the scripts of a checkout
_TRUTH = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}

Options = Mapping[str, argparse.Action]


@dataclass(frozen=True)
class Choice:
    """An option's value, and where it was chosen."""

    key: str
    value: Any
    origin: str


def file_of(environment: Mapping[str, str]) -> Path:
    """Where the file is, or would be (XDG Base Directory Specification)."""
    if given := environment.get(VARIABLE):
        return Path(given)
    return platformdirs.user_config_path("rawtap") / _NAME


def options_of(parser: argparse.ArgumentParser) -> Options:
    """The options of a command by their keys."""
    actions = parser._actions  # noqa: SLF001 - argparse has no other way to ask
    return {each.dest: each for each in actions if each.option_strings and each.dest != "help"}


def chosen(options: Options, environment: Mapping[str, str]) -> list[Choice]:
    """What file and environment choose, the file's first.

    Raises:
        ConfigurationInvalid: The file cannot be read or understood, or has a key that is no option of the server.
    """
    path = file_of(environment)
    filed = _read(path, options, is_named=bool(environment.get(VARIABLE)))
    variables = {key: _variable(key) for key in options}
    return [
        *(Choice(key, value, str(path)) for key, value in filed.items()),
        *(
            Choice(key, _spoken(options[key], variable, environment[variable]), variable)
            for key, variable in variables.items()
            if variable in environment
        ),
    ]


def spoken(parser: argparse.ArgumentParser, words: list[str]) -> list[Choice]:
    """What the command line itself chooses; it has been parsed before, so no word of it is wrong."""
    unset = argparse.Namespace(**dict.fromkeys(options_of(parser)))  # argparse gives no default to what is there
    given = vars(parser.parse_known_args(words, unset)[0])
    return [Choice(key, given[key], "command line") for key in options_of(parser) if given[key] is not None]


def told(choices: Iterable[Choice]) -> str:
    """Where each option was chosen."""
    return ", ".join(f"{each.key} by {each.origin}" for each in choices)


def strangers(options: Options, environment: Mapping[str, str]) -> list[str]:
    """The variables that look like rawtap's, and choose nothing."""
    known = {VARIABLE, *_OTHERS, *(_variable(key) for key in options)}
    return sorted(each for each in environment if each.startswith(_PREFIX) and each not in known)


def as_arguments(options: Options, choices: Iterable[Choice]) -> list[str]:
    """The same as words of a command line.

    Raises:
        ConfigurationInvalid: A value is not of the option's kind.
    """
    return [word for each in choices for word in _words(options[each.key], each)]


def _variable(key: str) -> str:
    return f"{_PREFIX}{key.upper()}"


def _read(path: Path, options: Options, *, is_named: bool) -> dict[str, Any]:
    """The file's keys; none where nobody named it and it is not there, or is where this user cannot look."""
    # os.path.exists: a file behind a folder that this user cannot enter is not there for it, and no error.
    if not is_named and not os.path.exists(path):  # noqa: PTH110
        return {}
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ConfigurationInvalid(
            f"{path} is not there", cure=f"{VARIABLE} names it: make it, or unset that"
        ) from None
    except OSError as error:
        raise ConfigurationInvalid(f"{path} cannot be read", evidence=str(error.strerror), cure=_MODE) from error
    import tomllib

    try:
        found = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationInvalid(f"{path} is no TOML", evidence=str(error), cure=_SHOWS) from error
    for key in found:
        if key not in options:
            raise ConfigurationInvalid(f"{path}: {key!r} is no option of the server", cure=_nearest(key, options))
    return found


_MODE = "It must be readable for the user who starts the server"
_SHOWS = "rawtap config shows what it may hold"


def _nearest(key: str, options: Options) -> str:
    import difflib

    near = difflib.get_close_matches(key, options, 1)
    return f"Did you mean {near[0]}? {_SHOWS}" if near else _SHOWS


def _spoken(option: argparse.Action, variable: str, text: str) -> Any:
    """A variable's value as the file would have it."""
    if option.nargs == 0:
        if text.lower() not in _TRUTH:
            raise ConfigurationInvalid(f"{variable} is {text[:80]!r}", cure=f"Give it one of {', '.join(_TRUTH)}")
        return _TRUTH[text.lower()]
    return [each for each in text.split(os.pathsep) if each] if is_repeated(option) else text


def is_repeated(option: argparse.Action) -> bool:
    """Whether the option adds up."""
    return isinstance(option.default, list)


def _words(option: argparse.Action, choice: Choice) -> list[str]:
    positive, *others = option.option_strings
    value = choice.value
    if option.nargs == 0:
        if not isinstance(value, bool):
            raise ConfigurationInvalid(f"{choice.origin}: {choice.key} is {value!r}", cure="Give it true or false")
        return [positive] if value else [each for each in others if each.startswith("--no-")]
    several = value if isinstance(value, list) else [value]
    if (isinstance(value, list) and not is_repeated(option)) or not all(_is_word(each) for each in several):
        kind = "a list of texts" if is_repeated(option) else "a text or a number"
        raise ConfigurationInvalid(f"{choice.origin}: {choice.key} is {value!r}", cure=f"Give it {kind}")
    return [f"{positive}={each}" for each in several]


def _is_word(value: object) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def shown(options: Options, namespace: argparse.Namespace, choices: Iterable[Choice]) -> str:
    """Every option as the file would have it, with where its value comes from; one that is not set is a comment."""
    import tomlkit

    origins: dict[str, str] = {}
    for each in choices:
        before = f"{origins[each.key]}, " if is_repeated(options[each.key]) and each.key in origins else ""
        origins[each.key] = before + each.origin
    lines = []
    for key in options:
        value = getattr(namespace, key)
        if value is None:
            lines.append(f"# {key} is not set")
            continue
        plain = [str(each) for each in value] if isinstance(value, list) else value
        if isinstance(plain, tuple):
            plain = "-".join(map(str, plain))  # a range, as it is given
        told = plain if isinstance(plain, bool | int | list) else str(plain)
        lines.append(f"{key} = {tomlkit.item(told).as_string()}  # {origins.get(key, 'default')}")
    return "\n".join(lines) + "\n"
