"""Which QMP commands an agent may give: those that only look at the guest, or steer it. Pure.

QMP is not a guest's own affair: it can open the host's files and sockets, start programs (migrate), and load modules.
So commands are allowed by name and all others are refused, whatever a later QEMU brings; the operator can open all.
Source: the QMP reference of QEMU 7.2, docs/interop/qemu-qmp-ref.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from typing import Any

from rawtap.errors import CommandRefused, RequestInvalid

ANSWER_CHARACTERS = 8000
_MOST_ARGUMENTS = 65536  # characters of JSON
_MOST_NESTED = 500  # objects and arrays; QEMU gives up where 1024 of them are one in the other

# What they do is done to the guest alone, and can be done again or undone.
STEERING = frozenset(
    {"stop", "cont", "system_reset", "system_powerdown", "system_wakeup", "inject-nmi", "rtc-reset-reinjection"}
)
_LOOKING = frozenset({"qom-list", "qom-get", "trace-event-get-state"})
_QUERY = re.compile(r"query-[a-z0-9]+(-[a-z0-9]+)*")  # which by QEMU's convention only tell something
_SECRET = re.compile(r"query-(sev|sgx)(-.*)?")  # but these have the host's processor sign or measure
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}")

# Halves of a surrogate pair, and what Unicode has set aside for ever: the last two of each plane among it.
_LAST_TWO = "".join(f"{chr(plane << 16 | 0xFFFE)}-{chr(plane << 16 | 0xFFFF)}" for plane in range(17))
_NO_CHARACTER = re.compile(f"[\ud800-\udfff\ufdd0-\ufdef{_LAST_TWO}]")

# The common ones, for the text of a refusal.
_EXAMPLES = "query-status, query-cpus-fast, query-block, query-pci"
_OWN_TOOL = {
    "quit": "qemu_shutdown",
    "screendump": "qemu_screenshot",
    "send-key": "qemu_send_key",
    "input-send-event": "qemu_mouse, qemu_type or qemu_send_key",
}


def is_query(command: str) -> bool:
    """Whether a command only looks at the guest. Such a one may be repeated for the rest of its answer."""
    return bool(_QUERY.fullmatch(command)) or command in _LOOKING


def is_allowed(command: str) -> bool:
    """Whether an agent may give it where the operator did not open all."""
    return command in STEERING or (is_query(command) and not _SECRET.fullmatch(command))


def check(command: str, *, open_monitor: bool) -> None:
    """Raise where an agent may not give that command.

    Raises:
        RequestInvalid: It cannot be a command's name.
        CommandRefused: It is one of those that reach beyond the guest; the text lists what may be given.
    """
    if not _NAME.fullmatch(command):
        raise RequestInvalid(
            f"command={command[:60]!r} is no QMP command",
            cure="Give a name alone, like query-status; what it takes goes into arguments, as an object",
        )
    if open_monitor or is_allowed(command):
        return
    allowed = ", ".join(sorted(STEERING | _LOOKING))
    like = difflib.get_close_matches(command, [*STEERING, *_LOOKING], n=1, cutoff=0.7)
    other = f"{_OWN_TOOL[command]} does it. " if command in _OWN_TOOL else f"Did you mean {like[0]}? " if like else ""
    raise CommandRefused(
        f"{command} is not among the commands that only look at the guest or steer it",
        evidence=f"allowed: {allowed}, and query-* (like {_EXAMPLES})",
        cure=f"{other}The operator can allow every command: rawtap serve --open-monitor",
    )


def check_arguments(arguments: Mapping[str, Any]) -> None:
    """Raise if QEMU's JSON parser would refuse them (qemu/qobject/json-parser.c).

    It answers such text with an error that belongs to no command, after which nobody can tell answers apart: the
    connection would have to end, and with it all that this server can do with the guest.

    Raises:
        RequestInvalid: Numbers or characters that JSON has not, or too much.
    """
    try:
        text = json.dumps(arguments, allow_nan=False, ensure_ascii=False)
    except (ValueError, RecursionError) as error:
        raise _unreadable(str(error)) from error
    if len(text) > _MOST_ARGUMENTS:
        raise _unreadable(f"{len(text)} characters, at most {_MOST_ARGUMENTS}")
    if text.count("{") + text.count("[") > _MOST_NESTED:
        raise _unreadable(f"more than {_MOST_NESTED} objects and arrays")
    if wrong := _NO_CHARACTER.search(text):
        raise _unreadable(f"U+{ord(wrong[0]):04X} is no character")


def _unreadable(reason: str) -> RequestInvalid:
    return RequestInvalid(
        "QEMU could not read the arguments", evidence=reason, cure="Give them as the QMP reference has them"
    )
