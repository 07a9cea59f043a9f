"""`rawtap demo`, where a machine is not as it should be."""

from __future__ import annotations

import subprocess
from dataclasses import replace

from support import PATIENCE, RAWTAP, Account

HIDDEN = 'mount -t tmpfs tmpfs /sys/firmware && exec "$@"'  # as a container's engine does it


def test_where_a_part_of_sys_is_hidden_it_goes_well_and_says_what_is_not_known(user: Account) -> None:
    """So /sys cannot be mounted again in a namespace, and nobody knows what an interface itself dropped."""
    rootless = replace(user, more=("RAWTAP_ROOTLESS=1",))
    command = ["unshare", "--mount", "sh", "-c", HIDDEN, "-", *rootless.command(RAWTAP, "demo")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=2 * PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "what the interface itself dropped is not known: /sys does not show" in done.stdout
    assert "echo reply" in done.stdout


def test_a_server_that_does_not_start_is_told_in_a_line(user: Account) -> None:
    alone = replace(user, more=("RAWTAP_ROOTLESS=perhaps",))
    done = subprocess.run(alone.command(RAWTAP, "demo"), capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 1
    assert done.stdout.startswith("server.gone: ")
    assert done.stderr.startswith("rawtap: server.configuration_invalid: ")
