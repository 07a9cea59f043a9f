"""Where objects are put: bounds, gaps, and that nothing is left that nobody is told of."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest

from rawtap.ask import saving
from rawtap.ask.saving import Folder
from rawtap.packets.objects.body import About

ABOUT = About("GET /a 200", "", "", 1, 1)


def save(folder: Folder, *parts: bytes | int, end: bool = True) -> None:
    """An object of these parts; a number is a gap."""
    body = folder.begin(ABOUT)
    assert body is not None
    for part in parts:
        if isinstance(part, int):
            body.skip(part)
        else:
            body.add(part)
    if end:
        body.end("")


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_gaps_are_zeros_and_told(tmp_path: Path) -> None:
    with Folder(tmp_path) as folder:
        save(folder, b"ab", 3, b"c")
    (saved,) = folder.saved
    assert saved.path.read_bytes() == b"ab\0\0\0c"
    assert saved.lacks == "3 bytes are not in the capture; zeros stand for them"


def test_a_gap_beyond_reason_ends_an_object(tmp_path: Path) -> None:
    with Folder(tmp_path) as folder:
        save(folder, b"ab", 1 << 31, b"c")
    (saved,) = folder.saved
    assert saved.path.read_bytes() == b"ab"
    assert saved.lacks == "2147483648 bytes are not in the capture; it ends at the gap"


def test_one_call_saves_no_more_than_it_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving, "MOST_BYTES", 5)
    monkeypatch.setattr(saving, "MOST_OBJECTS", 2)
    with Folder(tmp_path) as folder:
        save(folder, b"abc")
        save(folder, b"defg", b"h")
        assert folder.begin(ABOUT) is None
    assert [each.path.read_bytes() for each in folder.saved] == [b"abc", b"de"]
    assert folder.saved[1].lacks.startswith("cut: one call saves")
    assert folder.left == 1


@pytest.mark.parametrize("way", ["fails", "abandoned in it", "abandoned behind it"])
def test_nothing_is_left_of_what_nobody_is_told_of(tmp_path: Path, way: str) -> None:
    before = descriptors()
    folder = Folder(tmp_path)
    with pytest.raises(RuntimeError) if way == "fails" else nullcontext(), folder:
        save(folder, b"whole")
        save(folder, b"part", end=way == "abandoned behind it")
        if way == "abandoned in it":
            folder.abandon()
            assert len(list(tmp_path.iterdir())) == 2  # another thread may be writing yet
            save(folder, b"more")
        if way == "fails":
            raise RuntimeError("no more")
    if way == "abandoned behind it":
        folder.abandon()
    assert (list(tmp_path.iterdir()), folder.saved) == ([], [])
    assert descriptors() == before
