"""A folder that a guest is given whole: nothing in it leads elsewhere, and a refusal tells nothing of what is there."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from rawtap.errors import GuestNotFound, PathNotAllowed
from rawtap.guest import folders
from rawtap.guest.folders import require_no_way_out


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With files and links that stay in it."""
    root = tmp_path / "project/boot"
    (root / "deep/er").mkdir(parents=True)
    (root / "file").touch()
    (root / "deep/er/link").symlink_to("../../file")
    (root / "later").symlink_to("not there yet")
    (root / "firmware").symlink_to("/usr/share/qemu/bios.bin")
    (tmp_path / "secret").touch()
    (tmp_path / "project/other").touch()
    return root


def refused(folder: Path, *, by_name: bool = False) -> str:
    with pytest.raises(PathNotAllowed) as caught:
        require_no_way_out(folder, "tftp folder", by_name=by_name)
    return str(caught.value)


def test_what_stays_inside_may_be_served(folder: Path) -> None:
    require_no_way_out(folder, "tftp folder")


@pytest.mark.parametrize("to", ["../../secret", "../../missing", "../other", "/etc/passwd", "/usr/lib/os-release", "/"])
@pytest.mark.parametrize("place", ["link", "deep/er/other"])
def test_a_link_out_is_refused_whether_there_is_something_or_not(folder: Path, place: str, to: str) -> None:
    link = folder / place
    link.symlink_to(os.path.relpath(folder / to, link.parent) if to.startswith(".") else to)
    assert f"(the link {link} leads out of it)" in refused(folder)


@pytest.mark.parametrize("to", [".", "deep", "link"])
def test_a_link_that_its_server_could_follow_for_ever_is_refused(folder: Path, to: str) -> None:
    (folder / "link").symlink_to(to)
    assert f"the link {folder}/link leads " in refused(folder)


def test_a_link_to_a_folder_of_its_own_does_not_matter_where_files_are_asked_for_by_name(folder: Path) -> None:
    (folder / "pxelinux.cfg").symlink_to("deep/er")
    (folder / "deep/round").symlink_to("..")
    require_no_way_out(folder, "tftp folder", by_name=True)
    (folder / "deep/roms").symlink_to("/usr/share/qemu")
    assert f"the link {folder}/deep/roms leads to a folder" in refused(folder, by_name=True)
    (folder / "deep/roms").unlink()
    (folder / "deep/up").symlink_to("../..")
    assert f"the link {folder}/deep/up leads out of it" in refused(folder, by_name=True)


def test_what_is_no_file_is_refused(folder: Path) -> None:
    os.mkfifo(folder / "deep/pipe")
    assert f"{folder}/deep/pipe is neither a file nor a folder" in refused(folder)


def test_a_folder_of_any_depth_and_size_is_looked_through_or_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = folder
    for _ in range(1500):  # deeper than Python's calls go
        place /= "d"
        place.mkdir()
    try:
        require_no_way_out(folder, "tftp folder")
        (place / "out").symlink_to("/etc/passwd")
        assert "/d/d/out leads out of it" in refused(folder)
        monkeypatch.setattr(folders, "_MOST", 1000)
        assert "there are more than 1000 files in it" in refused(folder)
    finally:
        subprocess.run(["rm", "-r", folder / "d"], check=True)  # too deep for who clears up after the tests


def test_a_folder_that_is_gone_by_now_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(GuestNotFound, match="No such file or directory"):
        require_no_way_out(tmp_path / "gone", "drive")
