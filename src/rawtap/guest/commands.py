"""Which QMP commands an agent may give: those that only look at the guest, or steer it. Pure.

QMP is not a guest's own affair: it can open the host's files and sockets, start programs (migrate), and load modules.
So commands are allowed by name and all others are refused, whatever a later QEMU brings; the operator can open all.
Source: the QMP reference of QEMU 7.2, docs/interop/qemu-qmp-ref.
"""

from __future__ import annotations

import difflib
import re

from rawtap.errors import CommandRefused, RequestInvalid

ANSWER_CHARACTERS = 8000

# What they do is done to the guest alone, and can be done again or undone.
STEERING = frozenset(
    {"stop", "cont", "system_reset", "system_powerdown", "system_wakeup", "inject-nmi", "rtc-reset-reinjection"}
)
_LOOKING = frozenset({"qom-list", "qom-get", "trace-event-get-state"})
# By QEMU's convention these only tell something; by name these could sign or measure with the host's secrets.
_QUERY = re.compile(r"query-[a-z0-9]+(-[a-z0-9]+)*")
_SECRET = re.compile(r"query-(sev|sgx)(-.*)?")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}")

# The common ones, for the text of a refusal.
_EXAMPLES = "query-status, query-cpus-fast, query-block, query-pci"
_OWN_TOOL = {
    "quit": "qemu_shutdown",
    "screendump": "qemu_screenshot",
    "send-key": "qemu_send_key",
    "input-send-event": "qemu_mouse, qemu_type or qemu_send_key",
}


def is_query(command: str) -> bool:
    """Whether it only looks, so that it may be given again for the rest of its answer."""
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
