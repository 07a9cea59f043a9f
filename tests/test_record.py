"""An agent's session, written as a test that passes, and fails once the guest is broken."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, StdioServerParameters, stdio_client

from rawtap.ask import recording
from rawtap.ask.recording import Book, Call, patterns
from rawtap.verbs.record import Written
from support import PATIENCE, RAWTAP, Account, serving
from test_pytest_plugin import run_tests

KERNEL = Path("/usr/lib/u-boot/qemu-riscv64_smode/u-boot.bin")
SESSION: list[tuple[str, dict[str, Any]]] = [
    ("qemu_boot", {"network": "user", "timeout": PATIENCE}),
    ("qemu_pcap_start", {"filter": "icmp or arp"}),
    ("qemu_send", {"command": "version"}),
    ("qemu_send", {"command": "setenv ipaddr 10.0.2.15; ping 10.0.2.2"}),
    ("qemu_pcap_wait", {"filter": "icmp", "count": 2, "since": "start"}),
    ("qemu_pcap_stop", {}),
    ("qemu_pcap_read", {"filter": "icmp", "limit": 1}),
    ("qemu_pcap_read", {"filter": "udp prot 53"}),
    ("qemu_pcap_explain", {"filter": "icmp"}),
    ("qemu_status", {}),
    ("qemu_timeline", {"limit": 5}),
    ("qemu_shutdown", {}),
]


@pytest.fixture
def tree(user: Account) -> Path:
    """A project of the user's, whose kernel is U-Boot."""
    root = user.home / "project"
    root.mkdir()
    shutil.copy(KERNEL, root / "kernel.bin")
    keys = ['arch = "riscv64"', 'machine = "virt"', 'kernel = "kernel.bin"', 'prompt = "=> "']
    keys += ['interrupt = { wait_for = "Hit any key to stop autoboot", send = " " }']
    (root / "rawtap.toml").write_text("\n".join(keys), encoding="utf-8")
    (root / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers\n", encoding="utf-8")
    for path in (root, *root.rglob("*")):
        os.chown(path, user.uid, user.gid)
    return root


def test_twelve_calls_become_a_test_that_passes_until_the_guest_is_broken(user: Account, tree: Path) -> None:
    written = tree / "test_session.py"

    async def session() -> None:
        command = user.command(RAWTAP, "record", "--as-pytest", written)
        async with Client(stdio_client(StdioServerParameters(command=command[0], args=command[1:]))) as client:
            for number, (tool, arguments) in enumerate(SESSION, 1):
                root = {"project_root": str(tree)} if tool == "qemu_boot" else {}
                await client.call_tool(tool, root | arguments)
                assert written.read_text(encoding="utf-8").count("lab.call(") == number
            # What an agent asks for is the same, without that it asks; nor is what a page asks of the agent's doing.
            await client.call_tool("qemu_status", {}, meta={"rawtap/view": True})
            told = (await client.call_tool("qemu_record", {})).structured_content
            assert told is not None
            assert (told["calls"], told["size_bytes"]) == (len(SESSION), written.stat().st_size)
            assert Path(told["path"]).read_bytes() == written.read_bytes()
            assert Path(told["path"]).name.startswith("test_")
            assert Path(told["path"]).parent == user.captures
            assert f"pytest {told['path']}" in told["next_step"]

    anyio.run(session)
    source = written.read_text(encoding="utf-8")
    assert r"host\ 10\.0\.2\.2\ is\ alive" in source.replace("\\\\", "\\"), source
    done = run_tests(user, tree)
    assert done.returncode == 0, source + done.stdout
    broken = (tree / "kernel.bin").read_bytes().replace(b"is alive\n", b"is  dead\n")
    (tree / "kernel.bin").write_bytes(broken)
    done = run_tests(user, tree)
    assert done.returncode == 1, done.stdout
    assert "1 failed" in done.stdout


def test_nothing_is_written_over(user: Account, tree: Path) -> None:
    (tree / "kept.py").write_text("mine", encoding="utf-8")
    done = subprocess.run(
        user.command(RAWTAP, "record", "--as-pytest", tree / "kept.py"),
        input="",
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 1
    assert "File exists" in done.stderr
    assert (tree / "kept.py").read_text(encoding="utf-8") == "mine"


def test_a_book_that_cannot_be_written_is_not_whole_until_it_can(
    small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written, book, call = Written(small_disk / "test_it.py"), Book(), Call("qemu_status", {}, {})
    assert written.is_whole
    fill(small_disk)
    book.add(call)
    written.write(book)
    assert not written.is_whole
    assert "test_it.py cannot be written: No space left on device" in capsys.readouterr().err
    assert sorted(path.name for path in small_disk.iterdir()) == ["full", "test_it.py"]
    (small_disk / "full").unlink()
    book.add(call)
    written.write(book)
    assert written.is_whole
    assert (small_disk / "test_it.py").read_text(encoding="utf-8").count("qemu_status") == 2


@pytest.mark.parametrize(
    ("line", "others", "none"),
    [
        ("64 bytes from 10.0.2.2: ttl=64 time=0.512 ms", "64 bytes from 10.0.2.2: ttl=64 time=13.1 ms", "bytes from"),
        ("loaded at 0x80200000 in 12 ms", "loaded at 0x9f in 3 ms", "loaded at  in"),
        ("1 packets transmitted, 1 received", "1 packets transmitted, 1 received", "1 packets transmitted, 0 received"),
        ("HWaddr 52:54:00:12:34:56 up", "HWaddr 52:54:00:00:00:01 up", "HWaddr none down"),
        ("inet6 fe80::5054:ff:fe94:82b3/64", "inet6 fe80::200:ff:fe00:1/64", "inet6 /64"),
        ("inet6 2001:db8::1 up", "inet6 2001:db8::1 up", "inet6 2001:db8::2 up"),
        ("a (b) [c] \\ x", "a (b) [c] \\ x", "a b c x"),
    ],
    ids=["ping", "memory", "counts", "link address", "made of one", "IPv6", "signs"],
)
def test_what_varies_may_vary_and_nothing_else(line: str, others: str, none: str) -> None:
    (pattern,) = patterns(f"a command\n{line}\n=> ", "a command")
    assert re.search(pattern, line)
    assert re.search(pattern, others)
    assert not re.search(pattern, none)


def test_a_further_page_is_not_in_it_for_no_other_server_knows_its_cursor() -> None:
    book = Book()
    for tool, arguments in (
        ("qemu_timeline", {"limit": 5}),
        ("qemu_timeline", {"limit": 5, "since": "j-5.k00000000"}),
        ("qemu_pcap_read", {"cursor": "5"}),
        ("qemu_pcap_wait", {"since": 7}),  # no cursor, but a packet's number
    ):
        book.add(Call(tool, arguments, {}))
    assert re.findall(r"lab\.call\('(\w+)', (.*)\)", book.test()) == [
        ("qemu_timeline", "limit=5"),
        ("qemu_pcap_wait", "since=7"),
    ]


def test_a_captures_file_is_not_read_again_in_its_place() -> None:
    book = Book()
    for number, answer in enumerate(({"capture": "c0", "path": "/0"}, {"capture": {"capture": "c1", "path": "/1"}})):
        book.add(Call("qemu_boot", {}, {"prompt_seen": True} | answer))
        book.add(Call("qemu_pcap_query", {"path": f"/{number}"}, {}))
    assert re.findall("capture='(.*)'", book.test()) == ["c0", "c1"]
    assert "path" not in book.test()


def test_what_others_wrote_is_a_literal_only() -> None:
    """Neither a guest nor an agent gets a statement into the test."""
    evil = '"); import os; os.abort() #\n\'\'\'"""\\'
    answer = {"matched": True, "output": f"x\n{evil}\n=> ", "exit_status": None}
    calls = [Call("qemu_send", {"command": evil}, answer), Call(evil, {evil: evil, "class": 1}, None, evil)]
    calls.append(Call("qemu_pcap_read", {"path": [[evil]]}, None, "request.invalid"))
    book = Book()
    for each in calls:
        book.add(each)
    names = {each.id for each in ast.walk(ast.parse(book.test())) if isinstance(each, ast.Name)}
    assert names == {"lab", "answer", "re", "pytest", "CallFailed", "Lab"}
    statements = ast.parse(book.test()).body[-1]
    assert isinstance(statements, ast.FunctionDef)
    assert not any(isinstance(each, ast.Import) for each in ast.walk(statements))


def test_a_book_that_is_full_keeps_what_the_rest_stands_on_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "MOST", 200)
    written, book = Written(tmp_path / "test_it.py"), Book()
    for number in range(4):
        book.add(Call("qemu_send", {"command": "x" * (10 if number != 1 else 90)}, None, "a.code"))
        written.write(book)
        assert written.is_whole is (number == 0)
    assert (book.calls, book.left) == (1, 3)
    source = (tmp_path / "test_it.py").read_text(encoding="utf-8")
    assert "The last 3 calls are not in it" in (ast.get_docstring(ast.parse(source)) or "")
    assert capsys.readouterr().err.count("the calls from here on are not in it") == 1


def test_there_is_no_test_of_nothing_and_none_without_room(user: Account, small_disk: Path) -> None:
    async def scenario() -> None:
        async with serving(user, "--capture-dir", small_disk) as session:
            refused = await session.refused("qemu_record")
            assert refused.code == "request.invalid"
            await session.call("qemu_status")
            first = await session.call("qemu_record")
            second = await session.call("qemu_record")
            assert first["path"] != second["path"]
            assert Path(first["path"]).read_bytes() == Path(second["path"]).read_bytes()
            fill(small_disk)
            refused = await session.refused("qemu_record")
            assert refused.code == "capture.no_space"
            assert len([*small_disk.iterdir()]) == 3

    anyio.run(scenario)


def fill(folder: Path) -> None:
    (folder / "full").write_bytes(bytes(os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize))
