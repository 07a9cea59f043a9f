#!/usr/bin/env python3
"""Measures rawtap beside tcpdump, dumpcap, python-libpcap and scapy, in one run and in turns, on this machine.

    sudo ENVIRONMENT/bin/python scripts/bench.py [--rows 1,3] [--rounds N] [--quick] [--json FILE] [--dir FOLDER]

Rows: 1 tail, 2 CPU per packet, 3 overload, 4 calls, 5 select, 6 memory, 7 many captures, 8 waiting,
9 pages of a long file, 10 decoding, 11 boot, 12 a guest's command, 13 an empty call, 14 the server's start,
15 what is wrong in a file, 16 from an event to its answer, 17 speeds, 18 bursts, 19 sizes of frames,
20 disks in trouble, 21 what the machine allows, 22 questions in SQL.

The sender has one CPU, what captures another. Nothing of the machine is touched: the links are in a network namespace
of the run's own, and the folders are removed at the end, also on Ctrl-C. Exit code: 0 all targets met, 1 not all, 2 it
could not run.
"""

from __future__ import annotations

import argparse
import dataclasses
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from _bench import needs

if TYPE_CHECKING:
    from _bench.plan import Bench
    from _bench.report import Table

_ROWS = range(1, 23)
_FAILED = 2


def _rows(text: str) -> list[int]:
    wanted = sorted({int(word) for word in text.split(",")})
    if not set(wanted) <= set(_ROWS):
        raise ValueError(text)
    return wanted


def _positive(text: str) -> int:
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=_rows, default=list(_ROWS), help="only these, like 1,3")
    parser.add_argument("--rounds", type=_positive, help="of every contender (default: 3; rows 1 and 4 have more)")
    parser.add_argument("--quick", action="store_true", help="see whether everything runs; the numbers mean nothing")
    parser.add_argument("--json", type=Path, default=Path("bench.json"), metavar="FILE", help="default: %(default)s")
    parser.add_argument(
        "--dir",
        type=Path,
        metavar="FOLDER",
        help="on a disk, for a folder of the run's own (default: here or /var/tmp)",
    )
    return parser.parse_args()


def _row_functions() -> dict[int, Callable[[Bench], list[Table]]]:
    from _bench import (
        rows_calls,
        rows_explain,
        rows_flood,
        rows_guest,
        rows_limit,
        rows_pages,
        rows_query,
        rows_select,
        rows_server,
        rows_strain,
        rows_wait,
    )

    return {
        1: rows_flood.tail,
        2: rows_flood.cpu_per_packet,
        3: rows_flood.overload,
        4: rows_calls.calls,
        5: rows_select.select,
        6: rows_server.memory,
        7: rows_server.many,
        8: rows_wait.wait,
        9: rows_pages.pages,
        10: rows_pages.decoding,
        11: rows_guest.boot,
        12: rows_guest.send,
        13: rows_guest.tool,
        14: rows_guest.ready,
        15: rows_explain.explaining,
        16: rows_guest.event,
        17: rows_strain.speeds,
        18: rows_strain.bursts,
        19: rows_strain.mixes,
        20: rows_strain.disks,
        21: rows_limit.limit,
        22: rows_query.asking,
    }


def _measure(options: argparse.Namespace) -> int:
    """Run the rows; whatever happens, what was measured by then is in the JSON file."""
    from _bench import machine, report
    from _bench.plan import QUICK, Bench, Plan
    from _bench.sender import Sender

    plan = QUICK if options.quick else Plan()
    if options.rounds:
        plan = dataclasses.replace(plan, rounds=options.rounds)
    versions = machine.versions()
    for name, text in versions.items():
        print(f"{name:15} {text}", flush=True)
    tables: list[Table] = []
    seconds: dict[int, float] = {}
    functions = _row_functions()
    with machine.folders(options.dir) as (disk, tmpfs), machine.on_cpu(machine.SENDER_CPU):
        machine.isolate()
        bench = Bench(plan, Sender.compile(tmpfs), disk, tmpfs)
        try:
            for row in options.rows:
                begun = time.monotonic()
                found = functions[row](bench)
                seconds[row] = time.monotonic() - begun
                tables += found
                print("", *map(report.text_of, found), f"  took {seconds[row]:.0f} s", sep="\n", flush=True)
        finally:
            head = {"versions": versions, "quick": options.quick, "plan": dataclasses.asdict(plan), "seconds": seconds}
            report.write_json(options.json, head, tables, bench.trials)
    return _conclude(tables, quick=options.quick)


def _conclude(tables: list[Table], *, quick: bool) -> int:
    missed = [f"row {table.row}: {target.text}" for table in tables for target in table.targets if target.met is False]
    if quick:
        print("\nThis was the quick form: it shows that everything runs, and its numbers mean nothing.")
    print("\n".join(["", "Not met:", *missed] if missed else ["", "All targets that could be judged are met."]))
    return 1 if missed else 0


def main() -> int:
    """Measure, and say why where that cannot be done."""
    options = _options()
    missing = needs.missing()
    if missing:
        print("\n".join(missing), file=sys.stderr)
        return _FAILED
    from _bench.plan import BenchError

    # A shell's background job is started with SIGINT ignored, and so would be the contenders, which it ends.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # So that a SIGTERM cleans up as Ctrl-C does, for which an event loop has its own handler.
    signal.signal(signal.SIGTERM, lambda _, __: signal.raise_signal(signal.SIGINT))
    try:
        return _measure(options)
    except (BenchError, OSError, subprocess.CalledProcessError) as error:
        print(f"bench.py: {error}", file=sys.stderr)
        return _FAILED
    except KeyboardInterrupt:
        print("bench.py: interrupted; everything is cleaned up", file=sys.stderr)
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
