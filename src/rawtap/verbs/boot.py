"""`rawtap boot`: a guest's console in this terminal, or a script of commands for it."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any

from rawtap import options as server_options
from rawtap.guest.history import History, printable
from rawtap.guest.machine import Machine
from rawtap.tools import guest
from rawtap.tools.guest import Boot, ConsoleOutput, Shutdown
from rawtap.untrusted import visible
from rawtap.verbs import local, progress, terminal
from rawtap.verbs.local import SIGNALLED, Here
from rawtap.verbs.output import BAD_NEWS, FAILED, MISUSED, WELL, complain, say, show, told
from rawtap.verbs.wording import for_person

_SHUTDOWN_SECONDS = 5.0


def run(options: argparse.Namespace) -> int:
    """Boot it; returns the exit code."""
    if options.script is None:
        if options.json or not (sys.stdin.isatty() and sys.stdout.isatty()):
            complain("boot needs a terminal, or a script of commands: --script FILE (- for standard input)")
            return MISUSED
        return local.play(
            server_options.settings(options), partial(_by_hand, options), options, patient=True, watched=True
        )
    try:
        lines = _lines(options.script)
    except (OSError, UnicodeDecodeError) as error:
        complain(f"{options.script} cannot be read: {getattr(error, 'strerror', error)}")
        return FAILED
    return local.play(server_options.settings(options), partial(_by_script, options, lines), options, watched=True)


def _lines(script: str) -> list[str]:
    """The commands, without empty lines and comments."""
    text = sys.stdin.read() if script == "-" else Path(script).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def _arguments(options: argparse.Namespace) -> dict[str, Any]:
    """Of the tool."""
    network: dict[str | None, bool | str] = {None: False, "bridge": True, "user": "user"}
    return {
        "project_root": str(options.project) if options.project else None,
        "profile": options.profile,
        "network": network[options.network],
        "services": options.services or None,
        "memory": options.memory,
        "bootargs": options.bootargs,
        "kernel": options.kernel,
        "capture": options.capture,
        "capture_filter": options.filter,
        "qemu_command": options.line,
    }


async def _by_hand(options: argparse.Namespace, here: Here) -> int:
    complain("Ctrl-] leaves, and ends the guest at once")
    with terminal.attached(here.stopping.set) as attached:
        here.lab.on_console = lambda _, data: attached.show(data)
        booted = await guest.qemu_boot(here.context(), **_arguments(options), wait_for_prompt=False)
        machine = here.lab.guest(booted.name).machine
        await attached.be(machine.console, here.stopping)
        await machine.settle()
        here.lab.on_console = machine.console.watcher = None
    _tell_boot(booted)
    ended = await _end(here, booted, 0.0, as_json=False)
    return SIGNALLED + here.signal if here.signal else ended


async def _by_script(options: argparse.Namespace, lines: list[str], here: Here) -> int:
    with progress.shown("boot") as tell:
        booted = await guest.qemu_boot(here.context(tell), **_arguments(options), timeout=options.timeout)
    machine = here.lab.guest(booted.name).machine
    lost = 0
    if options.json:
        show(booted, as_json=True)
    else:
        lost = _print_whole(machine.console.history, 0)
        _tell_boot(booted)
    code = await _commands(options, lines, here, machine) if booted.prompt_seen else BAD_NEWS
    ended = await _end(here, booted, _SHUTDOWN_SECONDS, as_json=options.json)
    return code or ended or (FAILED if lost else WELL)


async def _commands(options: argparse.Namespace, lines: list[str], here: Here, machine: Machine) -> int:
    history, lost = machine.console.history, 0
    for line in lines:
        began = history.end
        with progress.shown(visible(line)) as tell:
            answer = await guest.qemu_send(here.context(tell), line, timeout=options.timeout)
        if options.json:
            show(answer, as_json=True)
        elif answer.truncated:
            lost += _print_whole(history, began)
        else:
            say(answer.output, end="")
        if not machine.running:  # it was told to power off, or this raised
            break
        if trouble := _trouble(answer):
            complain(f"{line}: {trouble}")
            return BAD_NEWS
    if not options.json:
        say()
    return FAILED if lost else WELL


def _print_whole(history: History, began: int) -> int:
    """Print all that a console showed since `began`, of which answers have the end; how many bytes are not kept."""
    if lost := max(0, history.start - began):
        complain(f"the first {lost} bytes of what follows are not kept")
    say(printable(history.shown(began)), end="")
    return lost


def _trouble(answer: ConsoleOutput) -> str | None:
    if answer.exit_status:
        return f"exit status {answer.exit_status}"
    return None if answer.matched else for_person(answer.next_step or "it did not come to its prompt")


def _tell_boot(booted: Boot) -> None:
    """What the user should know of a boot besides its console."""
    for each in [*booted.warnings, *filter(None, [booted.next_step])]:
        complain(for_person(each))


async def _end(here: Here, booted: Boot, seconds: float, *, as_json: bool) -> int:
    """End the guest, if it has not ended, and tell how that went.

    `seconds` is how long its own command may take for that; 0 for by force.
    """
    with progress.shown("shutdown"):
        ended = await guest.qemu_shutdown(here.context(), booted.name, seconds)
    if as_json:
        show(ended, as_json=True)
    else:
        _tell_end(ended)
    return BAD_NEWS if ended.exit_code else WELL


def _tell_end(ended: Shutdown) -> None:
    complain(f"the guest ended: {ended.reason}, exit code {ended.exit_code}")
    if ended.stderr:
        complain(f"QEMU said: {ended.stderr}")
    for row in ended.captures:
        for each in told(row):
            complain(each)
