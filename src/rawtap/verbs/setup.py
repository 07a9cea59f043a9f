"""`rawtap doctor`, `config`, `setcap` and `demo`: this machine and its operator."""

from __future__ import annotations

import argparse
import asyncio
import os

from rawtap import configuration
from rawtap import options as server_options
from rawtap.host import privileges
from rawtap.untrusted import visible
from rawtap.verbs.output import FAILED, WELL, complain, say


def doctor(options: argparse.Namespace) -> int:
    """Check what rawtap needs, or bring it; returns the exit code."""
    if options.fix:
        from rawtap import fixing

        return fixing.run()
    from rawtap.doctor import examine

    findings = asyncio.run(examine(server_options.settings(options)))
    for finding in findings:
        say(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.name}: {finding.found}")
        if finding.cure:
            say(f"      {finding.cure}")
    return WELL if all(finding.ok for finding in findings) else FAILED


def config(options: argparse.Namespace) -> int:
    """Show every option of the server's."""
    say(f"# {visible(str(configuration.file_of(os.environ)))}")
    for name in configuration.strangers(options.known, os.environ):
        say(f"# {visible(name)} in the environment chooses nothing: no option has this name")
    say(configuration.shown(options.known, options, options.chosen), end="")
    return WELL


def setcap(options: argparse.Namespace) -> int:
    """Become setcap.sh of this environment. What it needs root for, it refuses without, and says the whole command."""
    script = privileges.setcap_script()
    own = privileges.setcap_of_the_package()
    if own and not options.left:  # the script alone would give them to root's group, and the package not know of it
        complain(f"a package of the system brought rawtap. Run: sudo {own[0]}")
        return FAILED
    if script.exists():
        os.execv("/bin/bash", ["bash", str(script), *options.left])
    complain(f"{script} is missing: use setcap.sh of the checkout that rawtap is installed from")
    return FAILED


def demo(options: argparse.Namespace) -> int:
    """Play the story."""
    import rawtap._bpf  # noqa: F401 - where libpcap is missing, say so before a server is started
    from rawtap.demo import run

    return asyncio.run(run(color=not options.no_color))
