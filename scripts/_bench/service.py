"""rawtap's server as its users have it, and a client of it over stdio."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
from mcp import Client, StdioServerParameters, stdio_client
from mcp_types import TextContent

from _bench.machine import CAPTURE_CPU, on_cpu
from _bench.plan import BenchError
from _bench.trial import count_frames

SETTLE = 1.0  # seconds; an agent takes longer between two calls


@dataclass(frozen=True)
class Service:
    """A running server."""

    client: Client
    pid: int

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Call a tool and return its structured answer.

        Raises:
            BenchError: The tool's own error.
        """
        result = await self.client.call_tool(tool, arguments)
        if result.is_error or result.structured_content is None:
            texts = [block.text for block in result.content if isinstance(block, TextContent)]
            raise BenchError(f"{tool}: {' '.join(texts)}")
        return dict(result.structured_content)

    async def settle(self) -> None:
        """Let both sides do what they do once: the client asks for schemas, the server loads its decoder."""
        await self.call("qemu_pcap_status")
        await anyio.sleep(SETTLE)

    def status(self, file: str = "status") -> dict[str, str]:
        """One of its files in /proc as a mapping."""
        lines = Path(f"/proc/{self.pid}/{file}").read_text(encoding="utf-8").splitlines()
        return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}

    def memory(self) -> dict[str, int]:
        """Its memory in bytes: resident, the anonymous part of that, and its share of what it shares."""
        status, rollup = self.status(), self.status("smaps_rollup")
        found = {"VmRSS": status["VmRSS"], "RssAnon": status["RssAnon"], "Pss": rollup["Pss"]}
        return {name: int(text.split()[0]) << 10 for name, text in found.items()}

    def cpu_seconds(self) -> float:
        """CPU time that it has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime and stime, proc(5)

    def has_open(self, path: str) -> bool:
        """Whether it has a descriptor on the file."""
        return path in {str(link.readlink()) for link in Path(f"/proc/{self.pid}/fd").iterdir()}


@asynccontextmanager
async def serving(captures: Path, *options: str, cpus: tuple[int, ...] = (CAPTURE_CPU,)) -> AsyncIterator[Service]:
    """A server on the CPU of the captures, or on others, which keeps its files in `captures`."""
    arguments = ["-m", "rawtap", "serve", "--capture-dir", str(captures), *options]
    # Its whole environment, so that it is the same rawtap as in this process.
    parameters = StdioServerParameters(command=sys.executable, args=arguments, env=dict(os.environ))
    known = _children()
    failure = None
    async with AsyncExitStack() as stack:
        with on_cpu(*cpus):
            client = await stack.enter_async_context(Client(stdio_client(parameters)))
        (pid,) = _children() - known
        try:
            yield Service(client, pid)
        except BenchError as error:  # raised again outside of the client's task groups, which would wrap it
            failure = error
    if failure:
        raise failure


def _children() -> set[int]:
    tasks = Path("/proc/self/task").glob("*/children")
    return {int(word) for task in tasks for word in task.read_text(encoding="ascii").split()}


def wrong_counts(row: dict[str, Any], sent: int) -> str:
    """What does not add up in a stopped capture's answer, "" if all does. Removes its file."""
    found = [row["error"]] if row["error"] else []
    dropped = row["dropped_kernel"] + row["dropped_interface"]
    if row["packets"] + dropped != sent:
        found.append(f"sent {sent}, reported {row['packets']} saved and {dropped} dropped")
    path = Path(row["path"])
    if (in_file := count_frames(path)) != row["packets"]:
        found.append(f"reported {row['packets']} in a file that holds {in_file}")
    path.unlink()
    return "; ".join(found)
