"""What is compiled says what its source says: the types that it is compiled with change its speed and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tangled

import rawtap

TYPES = [each for each in Path(rawtap.__file__).parent.rglob("*.pxd") if each.with_suffix(".py").exists()]

EXPLAIN = """
import dataclasses, json, sys
from pathlib import Path
from rawtap.packets import explain, reader

print(json.dumps(explain.__file__))
for name in sys.argv[1:]:
    file = reader.open_file(Path(name), "")
    examiner, until = explain.Examiner(file.link_type), 0
    while packets := file.take(1000):
        for number, at, _, length, data, origin in packets:
            examiner.add(number, at, length, data, origin)
            until = max(until, at)
    print(json.dumps(dataclasses.asdict(examiner.result(until))))
"""
# Sources are looked for before what was made of them.
SOURCES_FIRST = """
import sys
from importlib.machinery import *
loaders = ((SourceFileLoader, SOURCE_SUFFIXES), (ExtensionFileLoader, EXTENSION_SUFFIXES))
sys.path_hooks.insert(0, FileFinder.path_hook(*loaders))
sys.path_importer_cache.clear()
"""


def explained(program: str, captures: list[Path]) -> list[Any]:
    command = [sys.executable, "-c", program, *map(str, captures)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_each_module_that_has_types_is_compiled() -> None:
    assert len(TYPES) > 10
    for each in TYPES:
        assert list(each.parent.glob(f"{each.stem}.*.so")), each


@pytest.mark.parametrize("first", [0, 100])
def test_explain_says_the_same_compiled_and_not(tmp_path: Path, first: int) -> None:
    captures = [tangled.capture(tmp_path / f"{seed}.pcap", seed) for seed in range(first, first + 12)]
    by_extension, *compiled = explained(EXPLAIN, captures)
    by_source, *interpreted = explained(SOURCES_FIRST + EXPLAIN, captures)
    assert by_extension.endswith(".so")
    assert by_source.endswith(".py")
    assert compiled == interpreted
    found = {each["what"] for verdict in compiled for each in verdict["findings"]}
    assert {"tcp.retransmission", "tcp.checksum_wrong", "tcp.reset", "tcp.outside_window", "tcp.stalled"} <= found
