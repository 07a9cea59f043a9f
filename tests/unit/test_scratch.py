"""Empty qcow2 files, as qemu-img judges them, and their lifetime."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from rawtap.errors import GuestFailed
from rawtap.guest.scratch import disk_bytes, empty_qcow2, layer_over, scratch_file


def judged(path: Path) -> int:
    """The disk's size by qemu-img, which finds nothing wrong with the file."""
    subprocess.run(["qemu-img", "check", "-q", "-f", "qcow2", path], check=True)
    told = subprocess.run(
        ["qemu-img", "info", "--output=json", "-f", "qcow2", path], check=True, capture_output=True, text=True
    )
    found = json.loads(told.stdout)
    assert "backing-filename" not in found
    return int(found["virtual-size"])


# 512 MiB is what one entry of the L1 table covers, 4 TiB one cluster of it.
@pytest.mark.parametrize("size", [0, 1, 512, 513, 1 << 20, (512 << 20) + 1, 4 << 40, (4 << 40) + 1, 1 << 45])
def test_qemu_img_takes_an_empty_file_of_any_size(tmp_path: Path, size: int) -> None:
    path = tmp_path / "x.qcow2"
    path.write_bytes(empty_qcow2(size))
    assert judged(path) == -(-size // 512) * 512 == disk_bytes(path, "qcow2")


@pytest.mark.parametrize("size", [-1, (1 << 45) + 1])
def test_a_size_that_no_disk_has_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="a disk of"):
        empty_qcow2(size)


def test_what_qemu_writes_into_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.qcow2"
    path.write_bytes(empty_qcow2(64 << 20))
    write = ["qemu-io", "-f", "qcow2", "-c", "write -P 7 0 3M", "-c", "write -P 9 63M 1M", path]
    subprocess.run(write, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["qemu-img", "snapshot", "-c", "one", path], check=True)
    assert judged(path) == 64 << 20


def test_a_scratch_file_has_no_name_and_is_gone_with_the_block(tmp_path: Path) -> None:
    folder = tmp_path / "a/b"
    with scratch_file(folder, 512) as descriptor:
        found = os.fstat(descriptor)
        assert (found.st_dev, found.st_nlink, found.st_mode & 0o777) == (folder.stat().st_dev, 0, 0o600)
        assert folder.stat().st_mode & 0o777 == 0o700
        assert list(folder.iterdir()) == []
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_a_layer_is_as_large_as_what_it_is_laid_over(tmp_path: Path) -> None:
    (tmp_path / "raw").write_bytes(bytes(700))
    (tmp_path / "qcow2").write_bytes(empty_qcow2(5 << 20))
    with layer_over(tmp_path / "raw", "raw", tmp_path) as one, layer_over(tmp_path / "qcow2", "qcow2", tmp_path) as two:
        judgements = [judged(Path(f"/proc/{os.getpid()}/fd/{layer}")) for layer in (one, two)]
        assert judgements == [1024, 5 << 20]


def test_what_cannot_be_made_is_told_with_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(GuestFailed, match=f"{tmp_path}/file"), scratch_file(tmp_path / "file", 512):
        pass
    with pytest.raises(GuestFailed, match="missing"), layer_over(tmp_path / "missing", "raw", tmp_path):
        pass
