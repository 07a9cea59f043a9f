"""The mutation runner: what it changes is one thing, and what it broke is whole again."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import mutate


def changes(source: str) -> list[str]:
    return [
        (source.encode()[: each.start] + each.new.encode() + source.encode()[each.end :]).decode()
        for each in mutate.mutations("x.py", source)
    ]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a < b", ["(a <= b)"]),
        ("'ä', a == b", ["'ä', (a != b)"]),
        ("a + b", ["(a - b)"]),
        ("a or b", ["(a and b)"]),
        ("not a", ["(a)"]),
        ("x = True", ["x = False"]),
        ("x = 7", ["x = 8"]),
        ("go(on)", ["pass"]),
        ("x: Annotated[int, 1]", []),
        ("f'{a:>6}'", []),
        ('"""1 < 2"""', []),
    ],
)
def test_each_mutation_changes_one_thing(source: str, expected: list[str]) -> None:
    assert changes(source) == expected


def test_what_was_broken_is_whole_again_whatever_happens(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    path.write_text("a < b\n", encoding="utf-8")
    (mutation,) = mutate.mutations("x.py", "a < b\n")

    def interrupted() -> None:
        with mutate.broken(path, mutation):
            assert path.read_text(encoding="utf-8") == "(a <= b)\n"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text(encoding="utf-8") == "a < b\n"


def test_every_module_that_is_chosen_has_tests_that_are_there() -> None:
    for module in {*mutate.CHOSEN, *mutate.JUDGES}:
        assert mutate.judges(module), module
        assert all((mutate.ROOT / each).exists() for each in mutate.judges(module)), module


def test_what_is_compiled_from_python_is_read_as_python_and_put_back(tmp_path: Path) -> None:
    below = tmp_path / "packets"
    below.mkdir()
    both, alone = below / "headers.cpython-311.so", below / "_sums.cpython-311.so"
    for each in (both, alone, below / "headers.py"):
        each.write_text(each.name)
    with mutate.interpreted(tmp_path):
        assert not both.exists()
        assert alone.exists()
    assert both.read_text() == both.name
