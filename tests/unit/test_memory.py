"""How much memory captures may fill: what the machine and every cgroup around the server leave."""

from __future__ import annotations

from pathlib import Path

import pytest

from rawtap.capture import memory

MIB = 1 << 20
NAMES = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: ("memory.max", "memory.current", "inactive_file"),
}
UNLIMITED = {1: str(0x7FFFFFFFFFFFF000), 2: "max"}


def group(folder: Path, version: int, limit: str, used: int = 0, cache: int = 0) -> None:
    """A group's files, as the kernel has them."""
    folder.mkdir(parents=True, exist_ok=True)
    names = NAMES[version]
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"cache 1\n{names[2]} {cache}\nunevictable 0\n")


@pytest.mark.parametrize("version", [1, 2])
def test_each_limit_around_the_process_counts(tmp_path: Path, version: int) -> None:
    root = tmp_path / "memory" if version == 1 else tmp_path
    group(root, version, UNLIMITED[version])
    group(root / "a", version, str(512 * MIB), used=100 * MIB, cache=40 * MIB)
    group(root / "a/b", version, str(64 * MIB), used=70 * MIB)
    own = {1: "4:cpu,memory:/a/b\n3:pids:/a\n0::/\n", 2: "1:name=systemd:/x\n0::/a/b\n"}[version]
    left = memory.left_in_cgroups(own, tmp_path)
    assert [each for each in left if each < 1 << 40] == [0, 452 * MIB]


@pytest.mark.parametrize("version", [1, 2])
def test_a_container_that_shows_its_group_as_the_root_is_limited(tmp_path: Path, version: int) -> None:
    root = tmp_path / "memory" if version == 1 else tmp_path
    group(root, version, str(256 * MIB), used=6 * MIB)
    own = {1: "4:memory:/docker/0123\n", 2: "0::/docker/0123\n"}[version]
    assert memory.left_in_cgroups(own, tmp_path) == [250 * MIB]


@pytest.mark.parametrize("own", ["", "0::/\n", "4:memory:/gone\n", "3:pids:/a\n"])
def test_without_limits_nothing_is_left_out(tmp_path: Path, own: str) -> None:
    assert memory.left_in_cgroups(own, tmp_path) == []
