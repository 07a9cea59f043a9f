"""What a filter may be, and where a capture's file goes."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rawtap.capture import files, filters
from rawtap.capture.files import Series, trouble_of
from rawtap.capture.filters import checked
from rawtap.errors import BadFilter, NoSpace, OutputUnwritable

# The folder is entered before the rights are given up: the test's own folder may be closed to others.
_UNWRITABLE = """
import os, sys
from pathlib import Path
from rawtap.capture import files
from rawtap.errors import RawtapError
os.chdir(sys.argv[1])
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    files.Series(Path(sys.argv[2]), "c", ".pcap", 1).begin()
except RawtapError as error:
    print(error)
"""

# A mebibyte, of which less than a twentieth is left.
_SMALL_DISK = """
mount -t tmpfs -o size=1m none "$1" || exit 77
exec "$2" -c '
import sys
from pathlib import Path
from rawtap.capture import files
from rawtap.errors import RawtapError
folder = Path(sys.argv[1])
print(files.free_floor(folder))
files.Series(folder, "fits", ".pcap", 1).begin()
(folder / "ballast").write_bytes(bytes(1000 * 1024))
try:
    files.Series(folder, "late", ".pcap", 1).begin()
except RawtapError as error:
    print(error)
print(*sorted(path.name for path in folder.iterdir()))
' "$1"
"""


def created(folder: Path, stem: str) -> tuple[Path, int]:
    """The only file of a capture, and its descriptor."""
    series = Series(folder, stem, ".pcap", 1)
    fd = series.begin()
    return series.segments[0].path, fd


def closed_folder_error(folder: Path, inside: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", _UNWRITABLE, folder, inside], capture_output=True, text=True, check=True
    ).stdout


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("expression", ["", "icmp", "udp port 53 and host 10.0.2.15", "1" * filters.MAX_LENGTH])
def test_a_filter_that_libpcap_may_judge_is_kept(expression: str) -> None:
    assert filters.checked(expression) == expression


def test_a_filter_that_is_one_character_too_long_is_refused() -> None:
    with pytest.raises(BadFilter, match="2049 characters; at most 2048"):
        filters.checked("a" * (filters.MAX_LENGTH + 1))


def test_a_filter_that_is_far_too_long_is_not_told_whole() -> None:
    with pytest.raises(BadFilter) as raised:
        filters.checked("a" * 1_000_000)
    assert len(str(raised.value)) < 1000


def test_a_filter_with_a_nul_byte_is_refused() -> None:
    with pytest.raises(BadFilter, match="NUL"):
        filters.checked("icmp\0 and nonsense")


@pytest.mark.parametrize("expression", ["host café", "port 5\u0663", "icmp\u00a0", "icmp \ud800"])
def test_a_filter_outside_ascii_is_refused(expression: str) -> None:
    with pytest.raises(BadFilter, match="ASCII"):
        filters.checked(expression)


def test_the_floor_of_a_file_system_is_never_above_64_mib_or_a_twentieth(tmp_path: Path) -> None:
    disk = shutil.disk_usage(tmp_path)
    assert files.free_floor(tmp_path) == min(64 << 20, disk.total // 20)


def test_a_small_disk_has_a_small_floor_and_below_it_nothing_is_created(tmp_path: Path) -> None:
    ran = subprocess.run(
        [
            "unshare",
            *([] if os.geteuid() == 0 else ["-r"]),
            "-m",
            "sh",
            "-c",
            _SMALL_DISK,
            "sh",
            tmp_path,
            sys.executable,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    floor, error, names = ran.stdout.splitlines()
    assert int(floor) == (1 << 20) // 20
    assert error.startswith("capture.no_space: ")
    assert f"the floor is {floor}" in error
    assert "late" not in names


def test_a_capture_file_is_new_empty_and_its_users_alone(tmp_path: Path) -> None:
    path, fd = created(tmp_path, "rvos-br0-c1")
    with os.fdopen(fd, "wb") as file:
        assert os.path.samestat(os.fstat(fd), path.stat())
        assert mode_of(path) == 0o600
        file.write(b"x")  # open for writing
    assert path.parent == tmp_path
    assert "rvos-br0-c1" in path.name
    assert path.suffix == ".pcap"


def test_a_capture_file_is_not_inherited_by_children(tmp_path: Path) -> None:
    _, fd = created(tmp_path, "c")
    try:
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)


def test_a_folder_that_was_not_there_is_made_for_this_user_alone(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "captures"
    _, fd = created(folder, "c")
    os.close(fd)
    assert mode_of(folder) == 0o700


@pytest.mark.parametrize("stem", ["../../etc/passwd", "/etc/passwd", "a b\n", "ü\0", "$(reboot)", ""])
def test_a_name_cannot_leave_the_folder(tmp_path: Path, stem: str) -> None:
    path, fd = created(tmp_path, stem)
    os.close(fd)
    assert list(tmp_path.iterdir()) == [path]
    assert set(path.name) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")


def test_a_name_that_is_too_long_is_an_answer_and_not_a_crash(tmp_path: Path) -> None:
    with pytest.raises(OutputUnwritable, match="File name too long"):
        created(tmp_path, "a" * 300)


def test_a_link_that_lies_in_wait_is_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "captures"
    folder.mkdir()
    victim = tmp_path / "victim"
    # The name holds the second of the call, so every second that the call may fall in is prepared.
    for ahead in range(30):
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(time.time() + ahead))
        (folder / f"{stamp}-c-{os.getpid()}.pcap").symlink_to(victim)
    with pytest.raises(OutputUnwritable, match="File exists"):
        created(folder, "c")
    assert not victim.exists()


def test_a_folder_that_this_user_may_not_write_is_told_with_its_cure(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    text = closed_folder_error(tmp_path, ".")
    assert text.startswith("capture.output_unwritable: ")
    assert "Permission denied" in text
    assert "--capture-dir" in text


def test_a_folder_that_this_user_may_not_make_is_told_with_its_path(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    text = closed_folder_error(tmp_path, "captures")
    assert text.startswith("capture.output_unwritable: cannot create a capture file in captures ")
    assert "Permission denied" in text


@pytest.mark.parametrize("below", [".", "captures", "a/b"])
def test_a_path_with_a_file_in_the_place_of_a_folder_is_told(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputUnwritable, match="file"):
        created(tmp_path / "file" / below, "c")


def test_a_ring_keeps_the_newest_files_in_order_with_what_came_before_each(tmp_path: Path) -> None:
    ring = Series(tmp_path, "c", ".pcapng", 3)
    for number in range(5):
        fd = ring.begin(packets=10 * number, bytes_=1000 * number)
        os.write(fd, bytes(100 + number))
        retired = ring.retire()
        if number < 3:
            assert retired == -1
        else:
            assert os.fstat(retired).st_size == 100 + number - 3  # what was removed can still be given back
            assert os.fstat(retired).st_nlink == 0
            os.close(retired)
    ring.end()
    assert sorted(tmp_path.iterdir()) == [segment.path for segment in ring.segments]
    assert [segment.path.name[-13:] for segment in ring.segments] == ["-00003.pcapng", "-00004.pcapng", "-00005.pcapng"]
    assert [(each.packets_before, each.bytes_before, each.size) for each in ring.segments] == [
        (20, 2000, 102),
        (30, 3000, 103),
        (40, 4000, 104),
    ]
    ring.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_ring_goes_on_where_somebody_removed_its_oldest_file(tmp_path: Path) -> None:
    ring = Series(tmp_path, "c", ".pcap", 2)
    ring.begin()
    ring.segments[0].path.unlink()
    ring.begin()
    ring.begin()
    assert ring.retire() == -1
    assert len(ring.segments) == 2


def test_a_ring_whose_next_file_cannot_be_made_keeps_what_it_has(tmp_path: Path) -> None:
    folder = tmp_path / "captures"
    ring = Series(folder, "c", ".pcap", 2)
    fd = ring.begin()
    shutil.move(folder, tmp_path / "elsewhere")
    folder.write_text("")
    with pytest.raises(OutputUnwritable):
        ring.begin()
    assert os.write(fd, b"x") == 1
    assert len(ring.segments) == 1


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("deleted", "was deleted or renamed"),
        ("renamed", "was deleted or renamed"),
        ("replaced", "is no longer the file that was written"),
        ("cut", "was truncated to 1 of 2 bytes"),
    ],
)
def test_what_somebody_else_did_to_a_file_is_noticed(tmp_path: Path, change: str, told: str) -> None:
    series = Series(tmp_path, "c", ".pcap", 1)
    os.write(series.begin(), b"12")
    (segment,) = series.segments
    assert trouble_of(segment, 2) is None
    if change == "deleted":
        segment.path.unlink()
    elif change == "cut":
        os.truncate(segment.path, 1)
    else:
        segment.path.rename(tmp_path / "other")
    if change == "replaced":
        segment.path.write_text("")
    assert trouble_of(segment, 2) == f"{segment.path} {told}"
    series.end()


GOOD_FILTERS = [
    "",
    "icmp",
    "udp port 53",
    "tcp port http or https",
    "portrange 1000-2000",
    "host 10.0.2.15 and not arp",
    "net 10.0.0.0/8 or net 192.168",
    "ip6 host fe80::5054:ff:fe12:3456 or net 2001:db8::/32 or host ::1",
    "ether host 52:54:00:12:34:56 and ether proto 0x88b5",
    "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0 and icmp[icmptype] = icmp-echo",
    "ip proto tcp or ip proto \\udp or ip6 proto 6",
    "vlan 100 and mpls and pppoes and len > 100",
    "greater 80 and less 1000 and not broadcast and not multicast",
    "ip[0] & 0xf != 5 and (ip[6:2] & 0x1fff) = 0",
    "gateway 10.0.0.1 and dst net 10 mask 255.0.0.0 and stp",
]


@pytest.mark.parametrize("expression", GOOD_FILTERS)
def test_a_filter_without_names_of_hosts_is_taken(expression: str) -> None:
    assert checked(expression) == expression


@pytest.mark.parametrize("expression", ["udp prot 53", "this is no filter", "host example.com and and"])
def test_a_filter_that_is_wrong_in_other_ways_too_has_libpcaps_text(expression: str) -> None:
    with pytest.raises(BadFilter, match="libpcap: can't parse filter expression: syntax error") as caught:
        checked(expression)
    assert repr(expression) in str(caught.value)


@pytest.mark.parametrize(
    ("expression", "name"),
    [
        ("host example.com", "example.com"),
        ("example", "example"),
        ("src router", "router"),
        ("net loopback", "loopback"),
        ("ether host gateway1", "gateway1"),
        ("host \\example.com", "example.com"),
        ("tcp port http and src http", "http"),
        ("udp port 53 and (dst 10.0.0.1 or secret.data.example)", "secret.data.example"),
        ("port no-such-service", "no-such-service"),
        ("host face", "face"),
        ("host dead.be", "dead.be"),
        ("host 1a.example", "1a.example"),
    ],
)
def test_a_name_that_would_be_looked_up_is_refused(expression: str, name: str) -> None:
    with pytest.raises(BadFilter, match="numeric address") as caught:
        checked(expression)
    assert repr(name) in str(caught.value)


def test_a_file_gets_its_name_with_its_header_in_it_and_never_anothers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named: list[tuple[bytes, list[str]]] = []
    rename = Path.rename

    def look(part: Path, path: Path) -> Path:
        named.append((part.read_bytes(), [each.name for each in tmp_path.glob("[!.]*")]))
        return rename(part, path)

    monkeypatch.setattr(Path, "rename", look)
    monkeypatch.setattr(Series, "_name", lambda _: "same.pcap")
    Series(tmp_path, "c", ".pcap", 1).begin(header=b"header")
    assert named == [(b"header", [])]
    assert [path.name for path in tmp_path.iterdir()] == ["same.pcap"]
    with pytest.raises(OutputUnwritable, match="File exists"):
        Series(tmp_path, "c", ".pcap", 1).begin(header=b"other")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"header"]


@pytest.mark.parametrize("whole", [False, True])
def test_a_file_whose_header_cannot_be_written_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    def fail(_: int, data: bytes) -> int:
        if whole:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return len(data) - 1

    monkeypatch.setattr(os, "write", fail)
    with pytest.raises(NoSpace):
        Series(tmp_path, "c", ".pcap", 1).begin(header=b"header")
    assert list(tmp_path.iterdir()) == []
