"""`rawtap` alone: what to do first."""

from __future__ import annotations

import argparse
import sys

from rawtap.host import privileges
from rawtap.verbs.output import MISUSED, WELL, complain, say

_STEPS = (
    ("rawtap doctor", "what works on this machine, and what to do about the rest"),
    ("rawtap demo", "the whole story on U-Boot: boot, capture, ping, packets"),
    ("rawtap install", "let an agent have the tools: lists the hosts that it knows"),
    ("rawtap boot PROJECT", "a guest's console in this terminal; rawtap init PROJECT writes its rawtap.toml"),
    ("rawtap capture IF udp port 53", "what tcpdump does, with all that was lost told"),
    ("rawtap explain FILE", "what is wrong in a capture"),
    ("rawtap --help", "every command"),
)


def run(_: argparse.Namespace) -> int:
    """Print it for a person. A program that speaks to stdin is told what it must start; returns the exit code."""
    if not sys.stdin.isatty():
        # An agent's host reads stdout as MCP's messages, so no prose may be there.
        complain(
            "no command was given, and stdin is no terminal. An agent's host must start: rawtap serve "
            '("args": ["serve"] in its configuration); rawtap --help lists the commands'
        )
        return MISUSED
    steps = list(_STEPS)
    if not privileges.private_interpreter().exists():
        steps.insert(1, (privileges.setcap_command(), "let rawtap capture and make links; once, optional"))
    width = max(len(command) for command, _ in steps)
    say("rawtap boots an OS in QEMU, puts it on a real wire and shows every packet. First:\n")
    for command, what in steps:
        say(f"  {command:{width}}  {what}")
    return WELL
