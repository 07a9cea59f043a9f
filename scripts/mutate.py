"""Breaks the code in one small place at a time, and tells which breaks no test sees.

Usage: ENVIRONMENT/bin/python scripts/mutate.py [--count 40] [--seed 1] [--whole] [MODULE ...]

A mutation changes one comparison, number, sum, truth value or call of a module (like packets/bounds.py) in the
*installed* package, since tests run that; its source is put back after each. So nothing else may use this environment
meanwhile. First the module's own tests run, by the map below; with --whole the whole suite judges what they left alive.
The seed chooses the mutations: the same seed, modules and source give the same ones.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib.util
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PATIENCE, WHOLE_PATIENCE = 900, 7200  # seconds; a mutation that has a test wait for ever is killed as well

# Besides tests/unit/test_MODULE.py: who else is meant to see a change of it, what runs a server included.
JUDGES = {
    "blocking.py": ["unit/test_blocking.py", "test_lab.py"],
    "cli.py": ["test_protocol.py", "test_rootless.py", "test_privileges.py"],
    "errors.py": ["unit/test_errors.py"],
    "untrusted.py": ["unit/test_untrusted.py"],
    "ask/wait.py": ["unit/test_waiting.py", "test_wait.py"],
    "ask/timeline/gather.py": ["unit/test_gather.py", "unit/test_merge.py", "test_timeline.py"],
    "capture/diagnosis.py": ["unit/test_explain_empty.py"],
    "capture/files.py": ["unit/test_filters_files.py", "test_faults.py"],
    "capture/filters.py": ["unit/test_filters_files.py", "unit/test_bpf.py"],
    "capture/outages.py": ["unit/test_outages.py"],
    "guest/log.py": ["unit/test_exact_limits.py", "unit/test_chronicle.py", "unit/test_merge.py", "test_timeline.py"],
    "guest/console.py": ["unit/test_console.py", "unit/test_talk.py"],
    "guest/talk.py": ["unit/test_talk.py"],
    "guest/escapes.py": ["unit/test_escapes.py"],
    "guest/echo.py": ["unit/test_echo.py", "unit/test_talk.py"],
    "guest/prompts.py": ["unit/test_guest_prompts.py", "unit/test_talk.py"],
    "guest/signs.py": ["unit/test_signs.py"],
    "guest/resets.py": ["unit/test_signs.py"],
    "guest/paths.py": ["unit/test_profile.py", "test_paths.py"],
    "guest/profile.py": ["unit/test_profile.py"],
    "guest/snapshots.py": ["test_snapshots.py"],
    "lab/bridge_services.py": ["test_services.py", "test_ipv6.py"],
    "lab/captures.py": ["test_lab.py", "test_capture.py", "test_stalled_disk.py"],
    "lab/lab.py": ["test_lab.py", "test_story.py", "test_endings.py"],
    "network/addressing.py": ["test_tap.py"],
    "network/dnsmasq_config.py": ["unit/test_dnsmasq.py"],
    "network/taps.py": ["test_tap.py"],
    "packets/bounds.py": ["unit/test_layers.py", "unit/test_lines.py", "unit/test_pages.py"],
    "packets/findings.py": ["unit/test_findings.py", "unit/test_exact_limits.py", "unit/test_explain.py"],
    "packets/headers.py": ["unit/test_headers.py", "unit/test_exact_limits.py", "unit/test_lines.py"],
    "packets/layers.py": ["unit/test_layers.py", "unit/test_exact_limits.py"],
    "packets/pages.py": ["unit/test_pages.py", "unit/test_reader.py"],
    "packets/reader.py": ["unit/test_reader.py", "unit/test_pages.py"],
    "packets/tail.py": ["unit/test_tail.py", "test_wait.py"],
    "packets/transport.py": ["unit/test_headers.py", "unit/test_explain.py", "unit/test_explain_wire.py"],
}
CHOSEN = [
    "untrusted.py",
    "capture/diagnosis.py",
    "capture/outages.py",
    "capture/pcapng.py",
    "guest/keys.py",
    "guest/log.py",
    "network/addressing.py",
    "packets/bounds.py",
    "packets/findings.py",
    "packets/headers.py",
    "packets/layers.py",
    "packets/lines.py",
    "packets/pages.py",
    "packets/reader.py",
    "packets/tail.py",
    "packets/transport.py",
]

_COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
_SUMMED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.LShift: ast.RShift,
    ast.FloorDiv: ast.Mult,
    ast.BitAnd: ast.BitOr,
}


@dataclass(frozen=True)
class Mutation:
    """One change: of the source from byte `start` to byte `end`, both within `line`."""

    module: str
    line: int
    start: int
    end: int
    new: str

    def __str__(self) -> str:
        return f"{self.module}:{self.line}: {self.new}"


def changed(node: ast.AST) -> ast.AST | None:
    """A copy of that node with one thing changed in it, None where nothing of it is."""
    new = deepcopy(node)
    match new:
        case ast.Compare(ops=[op]) if type(op) in _COMPARED:
            new.ops = [_COMPARED[type(op)]()]
        case ast.BinOp(op=op) if type(op) in _SUMMED and not isinstance(new.left, ast.JoinedStr):
            new.op = _SUMMED[type(op)]()
        case ast.BoolOp(op=op):
            new.op = ast.And() if isinstance(op, ast.Or) else ast.Or()
        case ast.Constant(value=bool(value)):
            new.value = not value
        case ast.Constant(value=int(value)):
            new.value = value + 1
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return operand
        case ast.Expr(value=ast.Call()):
            return ast.Pass()
        case _:
            return None
    return new


def mutations(module: str, source: str) -> Iterator[Mutation]:
    """All that can be changed in a module, annotations and docstrings apart."""
    lines = source.encode().splitlines(keepends=True)
    starts = [sum(map(len, lines[:number])) for number in range(len(lines))]
    tree = ast.parse(source)
    left_out = {id(below) for node in ast.walk(tree) for part in _annotations(node) for below in ast.walk(part)}
    for node in ast.walk(tree):
        if id(node) in left_out or not isinstance(node, (ast.expr, ast.stmt)) or node.lineno != node.end_lineno:
            continue
        if (new := changed(node)) is not None:
            at = starts[node.lineno - 1]
            text = ast.unparse(new)
            shown = text if isinstance(node, (ast.Constant, ast.stmt)) else f"({text})"
            yield Mutation(module, node.lineno, at + node.col_offset, at + (node.end_col_offset or 0), shown)


def _annotations(node: ast.AST) -> list[ast.AST]:
    found = [getattr(node, name, None) for name in ("annotation", "returns")]
    found += getattr(node, "decorator_list", [])
    found += node.values if isinstance(node, ast.JoinedStr) else []  # their places are not told by Python 3.11
    return [each for each in found if isinstance(each, ast.AST)]


@contextlib.contextmanager
def broken(path: Path, mutation: Mutation) -> Iterator[None]:
    """The installed module with that change, and as it was after the block."""
    source = path.read_bytes()
    cached = Path(importlib.util.cache_from_source(str(path)))
    try:
        path.write_bytes(source[: mutation.start] + mutation.new.encode() + source[mutation.end :])
        cached.unlink(missing_ok=True)
        yield
    finally:
        path.write_bytes(source)
        cached.unlink(missing_ok=True)  # it may be of the same second


@contextlib.contextmanager
def interpreted(package: Path) -> Iterator[None]:
    """The installed package with its Python read as Python, also where it is compiled: a change of a source would
    change nothing else. All of it, since what is compiled knows what else is."""
    compiled = [each for each in package.rglob("*.so") if each.with_name(f"{each.name.partition('.')[0]}.py").exists()]
    aside = {each: each.with_name(f"{each.name}.aside") for each in compiled}
    try:
        for extension, hidden in aside.items():
            extension.rename(hidden)
        yield
    finally:
        for extension, hidden in aside.items():
            if hidden.exists():
                hidden.rename(extension)


def judges(module: str) -> list[str]:
    """The tests that are meant to see a change of that module."""
    own = f"unit/test_{Path(module).stem}.py"
    there = [own] if (ROOT / "tests" / own).exists() else []
    return [f"tests/{each}" for each in dict.fromkeys([*there, *JUDGES.get(module, [])])]


def passes(tests: list[str], patience: float = PATIENCE) -> bool:
    """Whether none of those tests fails."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-n", "0", *tests]
    command.append("--ignore=tests/unit/test_compiled.py")  # nothing is, meanwhile
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, timeout=patience, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def main() -> int:
    """Break, judge, tell; 1 where too many mutations lived."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=40, help="how many mutations (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="which ones (default: %(default)s)")
    parser.add_argument("--whole", action="store_true", help="the whole suite judges what a module's tests left alive")
    parser.add_argument("--least", type=int, default=100, help="percent that must be killed (default: %(default)s)")
    parser.add_argument("modules", nargs="*", default=CHOSEN, metavar="MODULE", help="below the package, like cli.py")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the source is put back
    found = importlib.util.find_spec("rawtap")
    if found is None or found.origin is None:
        parser.error("rawtap is not installed in this interpreter's environment")
    package = Path(found.origin).parent
    every = [each for name in options.modules for each in mutations(name, (package / name).read_text(encoding="utf-8"))]
    chosen = random.Random(options.seed).sample(every, min(options.count, len(every)))  # noqa: S311 - to be had again
    alive = 0
    with interpreted(package):
        for mutation in chosen:
            with broken(package / mutation.module, mutation):
                lived = passes(judges(mutation.module)) and (not options.whole or passes(["tests"], WHOLE_PATIENCE))
            alive += lived
            print(f"{'alive ' if lived else 'killed'}  {mutation}", flush=True)
    print(f"{len(chosen) - alive} of {len(chosen)} mutations were killed (seed {options.seed})")
    return 1 if 100 * (len(chosen) - alive) < options.least * len(chosen) else 0


if __name__ == "__main__":
    sys.exit(main())
