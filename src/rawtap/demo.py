"""The whole story, shown: an MCP client of this server boots U-Boot, captures its ping, and reads the packets."""

from __future__ import annotations

import sys
from typing import Any

from rawtap.connection import CallFailed, Connection, connected

_BOLD, _DIM, _GREEN, _CYAN, _RED, _PLAIN = "\033[1m", "\033[2m", "\033[32m", "\033[36m", "\033[31m", "\033[0m"


class _Stage:
    """Prints the story, in colour where that is wanted."""

    def __init__(self, *, color: bool) -> None:
        self._color = color

    def say(self, style: str, text: str) -> None:
        print(f"{style}{text}{_PLAIN}" if self._color else text, flush=True)

    def call(self, name: str, arguments: dict[str, Any]) -> None:
        shown = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        self.say(_BOLD + _CYAN, f"\n> {name}({shown})")


class _DemoFailed(Exception):
    """A tool did not answer what the story needs."""


class _Player:
    """Calls tools and shows that it does."""

    def __init__(self, connection: Connection, stage: _Stage) -> None:
        self._connection = connection
        self._stage = stage

    async def call(self, name: str, **arguments: Any) -> dict[str, Any]:
        self._stage.call(name, arguments)
        return await self._connection.call(name, arguments)


async def run(*, color: bool) -> int:
    """Play the story; 0 where all of it went as it should, else 1."""
    stage = _Stage(color=color and sys.stdout.isatty())
    try:
        async with connected(()) as connection:
            await _story(_Player(connection, stage), stage)
    except (CallFailed, _DemoFailed) as failed:
        stage.say(_RED, str(failed))
        return 1
    stage.say(_BOLD + _GREEN, "\nDone: no sudo, no tcpdump, nothing left behind.")
    return 0


async def _story(play: _Player, stage: _Stage) -> None:
    boot = await play.call("qemu_boot", profile="u-boot-riscv64", network=True)
    wire = boot["network"]
    stage.say(_GREEN, f"prompt after {boot['elapsed']} s; {wire['mac']} on {wire['tap']}, bridge {wire['bridge']}")

    started = await play.call("qemu_pcap_start", filter="icmp or arp")
    stage.say(_GREEN, f"capture {started['capture']} is armed on {started['interface']}")

    command = f"setenv ipaddr 10.0.2.75; ping {wire['gateway']}"
    sent = await play.call("qemu_send", command=command)
    stage.say(_DIM, sent["output"])

    stopped = await play.call("qemu_pcap_stop")
    counts = f"{stopped['packets']} packets, {stopped['size_bytes']} bytes, {stopped['dropped_kernel']} dropped"
    stage.say(_GREEN, f"{counts}: {stopped['path']}")
    for warning in stopped["warnings"]:
        stage.say(_DIM, warning)

    page = await play.call("qemu_pcap_read")
    for packet in page["packets"]:
        stage.say("", f"{packet['number']:4}  {packet['time']:9.6f}  {packet['length']:5}  {packet['summary']}")

    ended = await play.call("qemu_shutdown")
    stage.say(_GREEN, f"{ended['reason']}, exit code {ended['exit_code']}; released: {', '.join(ended['released'])}")
    _judge(boot, sent, stopped)


def _judge(boot: dict[str, Any], sent: dict[str, Any], stopped: dict[str, Any]) -> None:
    if not boot["prompt_seen"] or "is alive" not in sent["output"]:
        raise _DemoFailed("The guest did not answer as it should.")
    # What an interface itself dropped is not known in many a container: that is told, and no sign of a loss.
    lost = stopped["dropped_kernel"] != 0 or stopped["dropped_interface"] or stopped["refused"]
    if stopped["packets"] < 2 or lost or stopped["error"] or stopped["diagnosis"]:  # noqa: PLR2004 - echo and reply
        reasons = filter(None, [f"{stopped['packets']} packets", stopped["error"], stopped["diagnosis"]])
        raise _DemoFailed(f"The capture is not whole: {'; '.join(reasons)}")
