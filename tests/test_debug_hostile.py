"""What others made is looked at by gdb: nothing of it is run, nothing outside of the project is read."""

from __future__ import annotations

import os
import random
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from debugged import built, project
from rawtap.debug import places
from rawtap.debug.gdb import Gdb
from rawtap.debug.records import rows_at, text_at
from rawtap.host import children
from support import PATIENCE, Account, Session, ToolFailed, serving
from test_debug import boot, debug, found, gdbs_of, goes_on

LETTER = "the-letters-of-the-user"
# What an inlined script, or the name of one, is in the section .debug_gdb_scripts (gdb's manual, "dotdebug_gdb_scripts
# section"): a byte that says of which kind it is, and text.
PYTHON_FILE, SCHEME_FILE, PYTHON_TEXT, SCHEME_TEXT = 1, 3, 4, 6


def scripts(outside: Path, root: Path) -> list[tuple[int, str]]:
    """Ten, each of which would leave something behind or show something."""
    mark = f"open('{root}/ran-%d', 'w')"
    return [
        (PYTHON_TEXT, f"inlined-1\n{mark % 1}\n"),
        (PYTHON_TEXT, f"inlined-2\nimport os\nos.system('touch {root}/ran-2')\n"),
        (PYTHON_TEXT, f"inlined-3\nimport gdb\ngdb.execute('shell touch {root}/ran-3')\n"),
        (PYTHON_TEXT, f"inlined-4\nimport gdb\ngdb.write(open('{outside}/secret.txt').read())\n"),
        (PYTHON_TEXT, f"inlined-5\nimport gdb\ngdb.execute('source {root}/script.gdb')\n"),
        (PYTHON_TEXT, f"inlined-6\nimport os, socket\nsocket.socket().connect(('127.0.0.1', 9))\n{mark % 6}\n"),
        (PYTHON_FILE, f"{root}/script.py"),
        (PYTHON_FILE, "script.py"),
        (SCHEME_FILE, f"{outside}/script.scm"),
        (SCHEME_TEXT, f'inlined-7\n(system "touch {root}/ran-7")\n'),
    ]


def section_of(entries: list[tuple[int, str]]) -> str:
    """Assembler's text for the section with those."""
    bytes_of = [bytes([kind]) + text.encode() + b"\0" for kind, text in entries]
    told = "\n".join(f"    .byte {', '.join(map(str, each))}" for each in bytes_of)
    return f'    .section .debug_gdb_scripts, "MS", %progbits, 1\n{told}\n'


def owned(user: Account, *folders: Path) -> None:
    for folder in folders:
        for path in (folder, *folder.rglob("*")):
            os.lchown(path, user.uid, user.gid)


@pytest.fixture
def outside(user: Account) -> Path:
    """A folder of the user's that is no part of the project."""
    folder = user.home / "letters"
    folder.mkdir()
    (folder / "secret.txt").write_text(f"{LETTER}\n" * 40, encoding="utf-8")
    owned(user, folder)
    return folder


def files_opened(log: Path, pid: int) -> Iterator[tuple[str, str]]:
    """Files that a process has opened, or tried to, by strace's log of it, and what came of it."""
    for line in log.with_suffix(f".{pid}").read_text(encoding="utf-8", errors="replace").splitlines():
        if match := re.match(r'open(?:at)?\((?:AT_FDCWD, )?"([^"]*)".* = (.*)', line):
            yield match[1], match[2]


def programs_started(log: Path) -> list[str]:
    texts = [each.read_text(encoding="utf-8", errors="replace") for each in log.parent.glob(f"{log.name}.*")]
    return [program for text in texts for program in re.findall(r'execve\("([^"]*)"', text)]


def test_ten_scripts_in_a_program_and_those_beside_it_are_not_run(user: Account, outside: Path, tmp_path: Path) -> None:
    root = user.home / "looked-into"
    root.mkdir()
    (root / "scripts.S").write_text(section_of(scripts(outside, root)), encoding="utf-8")
    project(user, "riscv64", "scripts.S")
    commands = f"shell touch {root}/ran-beside\nsource {outside}/secret.txt\n"
    for name in ("kernel.elf-gdb.gdb", ".gdbinit", "script.gdb"):
        (root / name).write_text(commands, encoding="utf-8")
    (user.home / ".gdbinit").write_text(commands, encoding="utf-8")
    for name in ("kernel.elf-gdb.py", "script.py"):
        (root / name).write_text(f"open('{root}/ran-beside', 'w')\n", encoding="utf-8")
    owned(user, root)
    os.chown(user.home / ".gdbinit", user.uid, user.gid)
    assert len(scripts(outside, root)) == 10
    section = subprocess.run(["readelf", "-SW", root / "kernel.elf"], capture_output=True, text=True, check=True)
    assert ".debug_gdb_scripts" in section.stdout
    log = tmp_path / "strace"
    traced = ("strace", "-ff", "-qq", "-e", "trace=open,openat,execve,connect", "-o", str(log))
    gdb = 0

    async def scenario() -> None:
        nonlocal gdb
        async with serving(user, before=traced) as session:
            await boot(session, root)
            came = await debug(session, "attach")
            (gdb,) = gdbs_of(session.pid)
            told = [came, await debug(session, "where"), await debug(session, "symbols", expression="main")]
            assert LETTER not in str(told)
            await debug(session, "detach")

    anyio.run(scenario)
    assert not list(root.glob("ran-*"))
    started = programs_started(log)
    assert "/usr/bin/gdb-multiarch" in started
    assert [each for each in started if each.endswith(("/sh", "/touch"))] == []
    opened = list(files_opened(log, gdb))
    assert f"{root}/kernel.elf" in {name for name, _ in opened}
    beside = {"kernel.elf-gdb.gdb", "kernel.elf-gdb.py", ".gdbinit", "script.gdb", "script.py"}
    assert [name for name, _ in opened if Path(name).name in beside] == []
    theirs = [name for name, result in opened if name.startswith(str(user.home)) and not result.startswith("-1")]
    assert all(Path(name).is_relative_to(root) for name in theirs)
    system = ("/usr/", "/lib", "/etc/ld.so", "/dev/", "/proc/", "/etc/localtime", str(user.home))
    reached = [name for name, result in opened if name.startswith("/") and not result.startswith("-1")]
    assert [name for name in reached if not name.startswith(system)] == []
    said = log.with_suffix(f".{gdb}").read_text(encoding="utf-8", errors="replace")
    connected = re.findall(r"^connect\(\d+, {sa_family=(\w+)", said, re.MULTILINE)
    assert connected
    assert set(connected) <= {"AF_UNIX"}


def test_files_outside_of_the_project_are_not_read_for_a_program(user: Account, outside: Path, tmp_path: Path) -> None:
    """Its source files are there, by their whole path, by dots, by a link; and so is what has its symbols."""
    root = user.home / "looked-into"
    root.mkdir()
    (root / "link.c").symlink_to(outside / "secret.txt")
    paths = {
        "whole": f"{outside}/secret.txt",
        "dots": "../letters/secret.txt",
        "linked": "link.c",
        "host": "/etc/hosts",
    }
    body = '(void) { __asm__ volatile("" ::: "memory"); }'
    text = "".join(f'#line 7 "{path}"\nvoid {name}{body}\n' for name, path in paths.items())
    (root / "elsewhere.c").write_text(text, encoding="utf-8")
    link = '    .section .gnu_debuglink, ""\n    .asciz "../letters/secret.elf"\n    .balign 4\n    .long 1\n'
    (root / "linked.S").write_text(link, encoding="utf-8")
    built_there = user.home / "letters-built"
    built_there.mkdir()
    (outside / "secret.elf").write_bytes(built(built_there).read_bytes())
    project(user, "riscv64", "elsewhere.c", "linked.S")
    owned(user, root, outside)
    log = tmp_path / "strace"

    async def scenario() -> int:
        async with serving(user, before=("strace", "-ff", "-qq", "-e", "trace=open,openat", "-o", str(log))) as session:
            await boot(session, root)
            await debug(session, "attach")
            (gdb,) = gdbs_of(session.pid)
            for name in paths:
                await debug(session, "break", at=name)
                told = str(await debug(session, "symbols", at=name))
                assert LETTER not in told
            told = await debug(session, "disassemble", at="whole", count=3)
            assert "<whole" in told["found"]
            return gdb

    gdb = anyio.run(scenario)
    opened = list(files_opened(log, gdb))
    away = {name: result for name, result in opened if "letters" in name or name.endswith(("link.c", "/hosts"))}
    assert all(result.startswith("-1 EACCES") for result in away.values()), away


@pytest.mark.parametrize("name", ["whole", "linked"])
def test_a_stop_in_a_file_outside_tells_the_place_and_not_its_lines(user: Account, outside: Path, name: str) -> None:
    root = user.home / "looked-into"
    root.mkdir()
    (root / "link.c").symlink_to(outside / "secret.txt")
    path = {"whole": f"{outside}/secret.txt", "linked": "link.c"}[name]
    source = f'unsigned packets_seen;\n#line 7 "{path}"\nvoid count_packet(void) {{ packets_seen++; }}\n'
    (root / "elsewhere.c").write_text(source, encoding="utf-8")
    project(user, "riscv64", "-DCALLED=count_packet", "elsewhere.c")
    owned(user, root)

    async def scenario() -> None:
        async with serving(user) as session:
            await boot(session, root)
            await debug(session, "attach")
            await debug(session, "break", at="count_packet")
            await goes_on(session)
            await session.call("qemu_send", command="call", timeout=PATIENCE)
            told = await debug(session, "where")
            assert told["place"] == f"count_packet ({Path(path).name}:7)"
            assert "source" not in told
            assert "not there to be shown, or outside of the project" in told["warnings"][0]
            assert LETTER not in str(told)
            assert (await debug(session, "where"))["warnings"] == told["warnings"]
            assert LETTER not in str(await debug(session, "disassemble"))

    anyio.run(scenario)


def test_a_name_at_an_address_is_made_for_reading(tmp_path: Path) -> None:
    (tmp_path / "red.c").write_text(r'void red(void) __asm__("\033[31mred"); void red(void) {}', encoding="utf-8")
    kernel = places.Symbols(built(tmp_path, "riscv64", "-g0", "red.c"))

    async def scenario() -> str:
        gdb = await places.start([kernel], None, lambda _: None)
        try:
            await places.load(gdb, [kernel])
            listed = await gdb.command("symbol-info-functions", "--include-nondebug", "--name", "red$")
            (row,) = rows_at(listed.results, "symbols", "nondebug")
            return (await places.place_at(gdb, int(text_at(row, "address"), 16))).function
        finally:
            await gdb.close()

    assert anyio.run(scenario) == r"\x1b[31mred"


def test_what_gdb_says_at_its_end_is_made_for_reading() -> None:
    async def scenario() -> str:
        command = ["/bin/sh", "-c", r"printf 'Aborted:\n\033[31mred\n'; exit 3"]
        child = children.start(command, None, streams=("pipe", "pipe", "stdout"))
        return await Gdb(child, await children.stream_of(child.stdout), lambda _: None).ended

    assert anyio.run(scenario) == r"exit code 3; it said: Aborted: \x1b[31mred"


def test_a_file_that_brings_gdb_down_brings_down_nothing_else(user: Account) -> None:
    """Its debug information is damaged, in eight ways: whatever gdb makes of it, the guest and the server go on."""
    root = project(user)
    whole = (root / "kernel.elf").read_bytes()
    start = whole.index(b"guest.c\0")

    def damaged(seed: int) -> bytes:
        chance, data = random.Random(seed), bytearray(whole)
        for _ in range(400):
            data[chance.randrange(start, len(data) - 3000)] = chance.randrange(256)
        return bytes(data)

    codes: list[str] = []

    async def look(session: Session) -> None:
        for action, more in (("attach", {}), ("where", {}), ("locals", {}), ("symbols", {"expression": "packet"})):
            try:
                await debug(session, action, **more)
            except ToolFailed as error:
                codes.append(error.code)
                if action == "attach":
                    return
        await debug(session, "detach")

    async def scenario() -> None:
        async with serving(user) as session:
            await boot(session, root)
            for seed in range(8):
                (root / "kernel.elf").write_bytes(damaged(seed))
                await look(session)
                assert all(each.startswith("debug.") for each in codes), codes
                assert "15" in await session.typed("sum")
            (root / "kernel.elf").write_bytes(b"\x7fELF" + bytes(100))
            told = await debug(session, "attach")
            assert "no symbols of kernel.elf" in told["warnings"][0]
            assert told["place"].startswith("0x")
            assert (await found(session, "registers", expression="pc"))[0].startswith("pc 0x")
            assert (await found(session, "disassemble", count=2))[0].startswith("=> 0x")

    anyio.run(scenario)
