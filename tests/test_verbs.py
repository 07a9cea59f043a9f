"""What a person does at a terminal: a console, a capture, questions to files. Exit codes are for scripts."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest
from scapy.all import DNS, DNSQR, IP, UDP, Ether, Raw, wrpcap

from rawtap.cli import main
from rawtap.guest.history import History
from rawtap.settings import Settings
from rawtap.verbs import local
from rawtap.verbs.boot import _print_whole
from rawtap.verbs.local import Here
from support import (
    PATIENCE,
    RAWTAP,
    Account,
    Wire,
    descendants_of,
    exists,
    guests_of,
    meanings,
    read_back,
)
from test_linux_guest import IMAGES, linux_tree

UBOOT = ("boot", "--profile", "u-boot-riscv64")
LEAVE = b"\x1d"


def rawtap(account: Account, *words: str | Path, given: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command without a terminal."""
    return subprocess.run(
        account.command(RAWTAP, *words),
        input=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
        cwd=account.home,
    )


@dataclass
class Screen:
    """A command in a terminal of its own."""

    process: subprocess.Popen[bytes]
    master: int
    slave: int
    said: bytes = b""

    @classmethod
    @contextmanager
    def of(cls, account: Account, *words: str | Path) -> Iterator[Screen]:
        """Start it."""
        master, slave = pty.openpty()
        os.fchown(slave, account.uid, account.gid)
        process = subprocess.Popen(
            account.command(RAWTAP, *words), stdin=slave, stdout=slave, stderr=slave, cwd=account.home
        )
        try:
            yield cls(process, master, slave)
        finally:
            process.kill()
            process.wait()
            os.close(master)
            os.close(slave)

    @property
    def modes(self) -> list[object]:
        """Of the terminal (termios(3))."""
        return termios.tcgetattr(self.slave)

    def until(self, text: bytes, seen: int = 0) -> int:
        """Read until `text` is there behind `seen`; where it ends."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.said[seen:]:
            assert time.monotonic() < deadline, self.said
            if select.select([self.master], [], [], 1.0)[0]:
                self.said += os.read(self.master, 65536)
        return self.said.index(text, seen) + len(text)

    def type(self, data: bytes) -> None:
        """Press keys."""
        os.write(self.master, data)

    def end(self) -> int:
        """Its exit code; what it says until then is read."""
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None or select.select([self.master], [], [], 0)[0]:
            assert time.monotonic() < deadline, self.said
            if select.select([self.master], [], [], 0.05)[0]:
                self.said += os.read(self.master, 65536)
        return self.process.returncode


def of_qemu(screen: Screen) -> int:
    """The guest's process."""
    (qemu,) = [each for pid in (screen.process.pid, *descendants_of(screen.process.pid)) for each in guests_of(pid)]
    return qemu


# ---------------------------------------------------------------------- boot


def test_a_console_is_in_the_terminal_until_ctrl_and_bracket(user: Account) -> None:
    with Screen.of(user, *UBOOT, "--network", "user", "--capture") as screen:
        before = screen.modes
        screen.until(b"Hit any key")
        assert screen.modes != before
        screen.type(b" ")
        seen = screen.until(b"=> ")
        screen.type(b"setenv ipaddr 10.0.2.15; ping 10.0.2.2\r")
        screen.until(b"host 10.0.2.2 is alive", seen)
        qemu = of_qemu(screen)
        screen.type(LEAVE)
        assert screen.end() == 0, screen.said
        assert screen.modes == before
    assert not exists(qemu)
    assert b"packets in" in screen.said
    (path,) = user.captures.iterdir()
    assert read_back(path) >= 4


def test_a_guest_that_powers_off_ends_it(user: Account) -> None:
    with Screen.of(user, *UBOOT) as screen:
        before = screen.modes
        screen.until(b"Hit any key")
        screen.type(b" ")
        screen.until(b"=> ")
        screen.type(b"poweroff\r")
        assert screen.end() == 0, screen.said
        assert screen.modes == before
    assert b"the guest ended: guest ended by itself, exit code 0" in screen.said


def killed(screen: Screen) -> None:
    os.kill(of_qemu(screen), signal.SIGKILL)


def terminated(screen: Screen) -> None:
    screen.process.terminate()


@pytest.mark.parametrize(("end", "code"), [(killed, 3), (terminated, 143)], ids=["QEMU is killed", "SIGTERM"])
def test_the_terminal_is_given_back_whatever_ends_a_linux_guest(
    user: Account, end: Callable[[Screen], None], code: int
) -> None:
    """From within a program that draws on the whole screen."""
    with Screen.of(user, "boot", linux_tree(user), "--image-dir", IMAGES) as screen:
        before = screen.modes
        seen = screen.until(b"guest# ")
        screen.type(b"vi /init\r")
        seen = screen.until(b"\x1b[?1049h", seen)
        screen.until(b"/init 1/", seen)
        qemu = of_qemu(screen)
        end(screen)
        assert screen.end() == code, screen.said
        assert screen.modes == before
    assert screen.said.rindex(b"\x1b[?1049l") > screen.said.rindex(b"\x1b[?1049h")
    assert not exists(qemu)


def test_a_script_is_typed_command_by_command(user: Account) -> None:
    script = "# its version\nversion\n\nsetenv ipaddr 10.0.2.15; ping 10.0.2.2\n"
    done = rawtap(user, *UBOOT, "--network", "user", "--capture", "--script", "-", given=script)
    assert done.returncode == 0, done.stderr
    assert "U-Boot 20" in done.stdout
    assert "host 10.0.2.2 is alive" in done.stdout
    assert "packets in" in done.stderr


def test_a_script_shows_all_that_its_commands_said(user: Account) -> None:
    """An answer of a tool has the last 8000 characters."""
    done = rawtap(user, *UBOOT, "--script", "-", given="md.b 80200000 1000\nversion\n")
    assert done.returncode == 0, done.stderr
    shown = re.findall(r"^80200([0-9a-f]{2})0: ", done.stdout, re.MULTILINE)
    assert shown == [f"{number:02x}" for number in range(0x100)]
    assert "Hit any key to stop autoboot" in done.stdout


def test_what_a_console_said_and_does_not_keep_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    history = History(limit=4)
    history.append(b"123\r\n456\r\n")
    assert _print_whole(history, 0) == 6
    printed = capsys.readouterr()
    assert printed.out == "56\n"
    assert "the first 6 bytes of what follows are not kept" in printed.err
    assert _print_whole(history, 6) == 0
    assert capsys.readouterr() == ("56\n", "")


def test_a_command_that_fails_ends_a_script(user: Account) -> None:
    (user.home / "script").write_text("true\nls /nowhere\necho never\n", encoding="utf-8")
    done = rawtap(user, "boot", linux_tree(user), "--image-dir", IMAGES, "--script", "script", "--timeout", "120")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "ls /nowhere: exit status 1" in done.stderr
    assert "never" not in done.stdout


def test_each_answer_of_a_script_is_the_tools_in_json(user: Account) -> None:
    done = rawtap(user, *UBOOT, "--json", "--script", "-", given="version\n")
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    names = ["qemu_boot", "qemu_send", "qemu_shutdown"]
    for name, answer in zip(names, answers, strict=True):
        compiled, _ = meanings()[name]
        compiled(answer)
    assert "U-Boot 20" in answers[1]["output"]


@pytest.mark.parametrize("more", [(), ("--json",)], ids=["plain", "json"])
def test_a_boot_without_a_terminal_or_a_script_is_wrong_usage(user: Account, more: tuple[str, ...]) -> None:
    done = rawtap(user, *UBOOT, *more)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--script" in done.stderr


def test_a_guest_that_cannot_be_booted_is_told(user: Account) -> None:
    done = rawtap(user, "boot", user.home, "--script", "-", given="")
    assert done.returncode == 1
    assert done.stderr.startswith("rawtap: guest.not_found: "), done.stderr


# ------------------------------------------------------------------- capture


@contextmanager
def capturing(account: Account, *words: str | Path) -> Iterator[subprocess.Popen[str]]:
    """A capture that is armed."""
    with subprocess.Popen(
        account.command(RAWTAP, "capture", *words),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=account.home,
    ) as process:
        assert process.stderr is not None
        assert "capturing on" in process.stderr.readline()
        try:
            yield process
        finally:
            process.kill()


def test_a_capture_is_shown_and_kept_until_ctrl_c(anyone: Account, wire: Wire) -> None:
    with capturing(anyone, wire.near, "-w", "kept.pcapng") as process:
        wire.send(7)
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(7)]
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=PATIENCE)
    assert [int(line.split()[0]) for line in lines] == list(range(1, 8))
    assert process.returncode == 0, told
    assert "kept.pcapng: 7 packets in" in told
    assert "dropped by the kernel 0" in told
    kept = anyone.home / "kept.pcapng"
    assert (read_back(kept), kept.stat().st_mode & 0o777) == (7, 0o600)


def test_a_capture_ends_by_itself_and_answers_as_the_tool(user: Account, wire: Wire) -> None:
    with capturing(user, wire.near, "ether proto 0x88b5", "-c", "3", "--json", "-w", "kept.pcap") as process:
        wire.send(2, protocol=0x88B6)
        wire.send(3)
        out, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, told
    row = json.loads(out)
    assert (row["packets"], row["reason"], row["path"]) == (3, "max_packets", str(user.home / "kept.pcap"))
    assert read_back(row["path"]) == 3


def test_a_capture_of_nothing_says_why_and_leaves_nothing_where_no_file_was_wanted(user: Account, wire: Wire) -> None:
    folder = user.home / "tmp"
    folder.mkdir()
    os.chown(folder, user.uid, user.gid)
    there = Account(user.name, user.uid, user.gid, user.home, more=(f"TMPDIR={folder}",))
    with capturing(there, wire.near, "udp", "port", "53", "--seconds", "0.3") as process:
        out, told = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (3, "")
    assert "carried no frame at all" in told
    assert list(folder.iterdir()) == []
    with capturing(there, wire.near, "--seconds", "0.3", "--json") as process:
        row = json.loads(process.communicate(timeout=PATIENCE)[0])
    assert (row["path"], row["files"]) == ("", [])


def test_a_capture_that_fills_its_disk_has_failed(user: Account, wire: Wire, small_disk: Path) -> None:
    kept = small_disk / "kept.pcap"
    with capturing(user, wire.near, "-q", "-w", kept) as process:
        wire.send(2000, size=1000)
        _, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1, told
    assert "capture.no_space" in told
    assert 0 < read_back(kept) < 2000


def test_a_capture_whose_interface_goes_is_not_well(user: Account, wire: Wire) -> None:
    with capturing(user, wire.near, "-w", "kept.pcap") as process:
        wire.send(3)
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(3)]
        wire.remove(wire.near)
        _, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == 3, told
    assert "kept.pcap: 3 packets" in told
    assert "interface_removed" in told


@pytest.mark.parametrize("words", [("--max-bytes", "10000"), ("--files", "2"), ("--seconds", "0")])
def test_a_limit_that_would_not_hold_is_refused(user: Account, wire: Wire, words: tuple[str, ...]) -> None:
    done = rawtap(user, "capture", wire.near, *words)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert words[0] in done.stderr


def test_a_file_that_is_there_is_not_written_over(user: Account, wire: Wire) -> None:
    (user.home / "kept.pcap").write_text("mine", encoding="utf-8")
    done = rawtap(user, "capture", wire.near, "-w", "kept.pcap")
    assert done.returncode == 1
    assert "File exists" in done.stderr
    assert (user.home / "kept.pcap").read_text(encoding="utf-8") == "mine"
    for command in ("capture", "wait"):
        for name, why in (("nowhere/kept.pcap", "there is no folder"), ("-", "give it a name")):
            done = rawtap(user, command, wire.near, "-w", name)
            assert (done.returncode, done.stdout) == (1, "")
            assert why in done.stderr
    assert not (user.home / "nowhere").exists()


def test_an_interface_that_is_not_there_is_named_with_those_that_are(user: Account, wire: Wire) -> None:
    done = rawtap(user, "capture", "nowhere0")
    assert done.returncode == 1
    assert "capture.no_such_interface" in done.stderr
    assert wire.near in done.stderr


def test_a_wait_ends_when_the_packet_is_there_or_says_what_came_instead(user: Account, wire: Wire) -> None:
    with subprocess.Popen(
        user.command(RAWTAP, "wait", wire.near, "ether proto 0x88b5", "--timeout", str(PATIENCE)), stdout=-1, text=True
    ) as process:
        while process.poll() is None:
            wire.send(1)
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.02)
        assert process.stdout is not None
        assert "satisfied=true" in process.stdout.read()
    assert process.returncode == 0
    done = rawtap(user, "wait", wire.near, "arp", "--timeout", "0.2", "--json")
    assert done.returncode == 3
    assert json.loads(done.stdout)["satisfied"] is False
    done = rawtap(user, "wait", wire.near, "arp", "--timeout", "0.2", "--absent", "-w", "kept.pcap")
    assert done.returncode == 0, done.stdout
    assert "kept.pcap: 0 packets" in done.stderr


# --------------------------------------------------------------------- files


@pytest.fixture
def files(user: Account) -> Path:
    """A capture in which all is well, and one with a wrong checksum."""
    ask = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / IP(src="10.0.0.1", dst="10.0.0.2")
    question = UDP(sport=4000, dport=53) / DNS(rd=1, qd=DNSQR(qname="name.test"))
    bad = ask / UDP(sport=4000, dport=9, chksum=1) / Raw(b"hello")
    wrpcap(str(user.home / "bad.pcap"), [bad])
    wrpcap(str(user.home / "good.pcap"), [ask / UDP(sport=4000, dport=9) / Raw(b"hello"), ask / question])
    return user.home


def test_explaining_a_file_tells_what_is_wrong_and_ends_so(user: Account, files: Path) -> None:
    bad = rawtap(user, "explain", "bad.pcap")
    assert (bad.returncode, bad.stderr) == (3, "")
    assert "udp.checksum" in bad.stdout
    good = rawtap(user, "explain", files / "good.pcap", "udp port 9", "--json")
    assert (good.returncode, good.stderr) == (0, "")
    answer = json.loads(good.stdout)
    meanings()["qemu_pcap_explain"][0](answer)
    assert (answer["examined"], answer["findings"]) == (1, [])
    gone = rawtap(user, "explain", "nowhere.pcap")
    assert (gone.returncode, gone.stdout) == (1, "")
    assert "capture.unreadable" in gone.stderr


def test_a_file_is_compared_with_one_of_before(user: Account, files: Path) -> None:
    found = rawtap(user, "explain", "bad.pcap", "--compare", "good.pcap")
    assert (found.returncode, found.stderr) == (3, "")
    assert "new finding udp.checksum_wrong 10.0.0.1: 0 -> 1" in found.stdout
    assert "gone name" not in found.stdout  # nobody answered
    assert "gone conversation 10.0.0.1 > 10.0.0.2:53 UDP: 1 -> 0" in found.stdout
    turned = rawtap(user, "explain", "--compare", "bad.pcap", files / "good.pcap", "--json")
    answer = json.loads(turned.stdout)
    meanings()["qemu_pcap_explain"][0](answer)
    assert (turned.returncode, answer["source"], answer["findings"]) == (3, str(files / "good.pcap"), [])
    assert {(each["how"], each["what"]) for each in answer["changes"]} >= {("gone", "finding"), ("new", "conversation")}
    same = rawtap(user, "explain", "good.pcap", "udp port 9", "--compare", "good.pcap")
    assert (same.returncode, same.stderr) == (0, "")
    assert "0 changes" in same.stdout
    assert "before and after are the same packets" in same.stdout
    gone = rawtap(user, "explain", "good.pcap", "--compare", "nowhere.pcap")
    assert (gone.returncode, gone.stdout) == (1, "")
    assert "capture.unreadable" in gone.stderr


def test_a_query_prints_rows_for_other_programs(user: Account, files: Path) -> None:  # noqa: ARG001
    done = rawtap(
        user, "query", "good.pcap", "bad.pcap", "SELECT file, count(*) AS n FROM packets GROUP BY 1 ORDER BY 1"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "file\tn\nbad.pcap\t1\ngood.pcap\t2\n"
    wrong = rawtap(user, "query", "good.pcap", "DROP TABLE packets")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "query." in wrong.stderr


def test_a_conversation_is_followed(user: Account, files: Path) -> None:  # noqa: ARG001
    done = rawtap(user, "follow", "good.pcap", "--packet", "1", "--search", "ell")
    assert (done.returncode, done.stderr) == (0, "")
    assert "|hello" in done.stdout
    assert rawtap(user, "follow", "good.pcap", "--packet", "1", "--search", "nothing").returncode == 3
    hexadecimal = rawtap(user, "follow", "good.pcap", "--packet", "1", "--hex", "--json")
    assert json.loads(hexadecimal.stdout)["turns"][0]["data"] == b"hello".hex()


def test_of_a_file_that_is_cut_nothing_is_said_to_be_well(user: Account, files: Path) -> None:
    whole = (files / "good.pcap").read_bytes()
    (files / "cut.pcap").write_bytes(whole[:-1])
    for words in (
        ("read", "cut.pcap"),
        ("explain", "cut.pcap"),
        ("query", "cut.pcap", "SELECT count(*) FROM packets"),
        ("query", "cut.pcap", "SELECT * FROM findings"),
        ("follow", "cut.pcap", "--packet", "1"),
        ("follow", "cut.pcap", "--packet", "1", "--search", "nothing"),
    ):
        done = rawtap(user, *words)
        assert done.returncode == 1, (words, done.stdout)
        assert "ends in the middle of packet 2" in done.stdout + done.stderr, words
        if words[0] != "read":
            answer = rawtap(user, *words, "--json")
            assert json.loads(answer.stdout)["partial"] is True, words
            assert "not everything was looked at" in answer.stderr


def test_a_file_that_describes_no_interface_has_no_packet_whoever_is_asked(user: Account) -> None:
    """Its format allows that, and libpcap takes it for no capture."""
    section = struct.pack("<IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28)
    name, packed = "empty.pcapng", "empty.pcapng.gz"
    (user.home / name).write_bytes(section)
    (user.home / packed).write_bytes(gzip.compress(section))
    count = "SELECT count(*) AS n FROM packets"
    for words, code, answer in (
        (("read", name), 0, ""),
        (("read", name, "udp"), 0, ""),
        (("read", name, "--count"), 0, "0 of 0 packets\n"),
        (("explain", name), 3, "no finding in 0 packets"),
        (("query", name, count), 0, "n\n0\n"),
        (("query", packed, "SELECT stream FROM streams"), 0, "stream\n"),
        (("query", name, "SELECT what FROM findings"), 0, "what\n"),
        (("export", name, "--to", "out.csv"), 0, "out.csv: 0 packets, "),
        (("export", name, "--to", "out.parquet"), 0, "out.parquet: 0 packets, "),
        (("export", packed, "--to", "out.arrows"), 0, "out.arrows: 0 packets, "),
        (("follow", name, "--packet", "1"), 1, ""),
        (("follow", name, "--stream", "0"), 1, ""),
    ):
        done = rawtap(user, *words)
        assert (done.returncode, answer in done.stdout) == (code, True), (words, done)
        assert f"{words[1]} has 0 packets: it describes no interface" in done.stdout + done.stderr, words
    beside = rawtap(user, "query", name, "good.pcap", count)
    assert (beside.returncode, "good.pcap cannot be read" in beside.stderr) == (1, True)
    assert "partial" not in json.loads(rawtap(user, "query", name, count, "--json").stdout)
    wrong = rawtap(user, "query", name, "SELECT nothing FROM packets")
    assert (wrong.returncode, "query.invalid" in wrong.stderr) == (1, True)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("explain", "gone.pcap"), "gone.pcap cannot be read as a capture (No such file or directory)\n"),
        (("read", "gone.pcap"), "gone.pcap cannot be read as a capture (No such file or directory)\n"),
        (("follow", "good.pcap", "--packet", "99"), "there is no packet 99. rawtap read FILE shows which there are\n"),
    ],
    ids=["explain", "read", "follow"],
)
def test_an_error_says_what_a_person_can_do(
    user: Account,
    files: Path,  # noqa: ARG001
    words: tuple[str, ...],
    told: str,
) -> None:
    done = rawtap(user, *words)
    assert done.returncode == 1
    assert done.stderr.endswith(told)


def test_a_command_does_not_wait_for_what_only_a_server_needs() -> None:
    modules = [f"rawtap.verbs.{name}" for name in ("boot", "capture", "files", "reading", "setup")]
    servers = {"mcp", "mcp_types", "rawtap.server"}
    program = f"import sys, rawtap.cli, {', '.join(modules)}\nprint(sorted({servers!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_bar_is_shown_in_a_terminal_alone(user: Account, files: Path) -> None:  # noqa: ARG001
    with Screen.of(user, "explain", "bad.pcap") as screen:
        assert screen.end() == 3
    assert b"explain" in screen.said.replace(b"rawtap explain", b"")
    assert b"\x1b" in screen.said
    assert "\x1b" not in rawtap(user, "explain", "bad.pcap").stderr


@pytest.mark.parametrize(
    "words", [("query", "good.pcap", "SELECT count(*) FROM packets"), ("config",)], ids=["query", "config"]
)
def test_an_answer_that_nobody_gets_is_none(user: Account, files: Path, words: tuple[str, ...]) -> None:
    def run(redirection: str) -> tuple[int, str, str]:
        shell = ("/bin/sh", "-c", f'exec "$@" {redirection}', "sh", str(RAWTAP), *words)
        done = subprocess.run(
            user.command(*shell), cwd=files, capture_output=True, text=True, check=False, timeout=PATIENCE
        )
        return done.returncode, done.stdout, done.stderr

    assert run(">/dev/full") == (1, "", "rawtap: stdout cannot be written: No space left on device\n")
    assert run(">&-") == (1, "", "rawtap: stdout cannot be written: Bad file descriptor\n")
    code, out, told = run("2>&-")
    assert (code, bool(out), told) == (0, True, "")
    assert unread(user, *words) in {(-signal.SIGPIPE, ""), (128 + signal.SIGPIPE, "")}


def unread(account: Account, *words: str) -> tuple[int, str]:
    """The exit code and stderr of a command whose answer nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        done = subprocess.run(
            account.command(RAWTAP, *words),
            cwd=account.home,
            stdout=pipe,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
    return done.returncode, done.stderr


def test_ctrl_c_is_no_traceback_however_early(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def early(_: Here) -> int:
        os.kill(os.getpid(), signal.SIGINT)
        await anyio.sleep_forever()
        return 0

    # As before the command has a handler of its own.
    monkeypatch.setattr(asyncio.SelectorEventLoop, "add_signal_handler", lambda *_: None)
    settings = Settings(capture_dir=tmp_path)
    monkeypatch.setattr("rawtap.verbs.files.explain", lambda options: local.play(settings, early, options))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's job in the background ignores it
    try:
        assert main(["explain", "some.pcap"]) == 128 + signal.SIGINT
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_script_whose_output_nobody_reads_ends_its_guest(user: Account) -> None:
    assert unread(user, *UBOOT, "--script", "/dev/null") == (128 + signal.SIGPIPE, "")


def test_nothing_to_look_at_is_not_well(user: Account, files: Path) -> None:  # noqa: ARG001
    done = rawtap(user, "explain", "good.pcap", "udp", "port", "7")
    assert done.returncode == 3
    assert "there was no packet to look at" in done.stderr


# --------------------------------------------------------------------- first


def test_rawtap_alone_says_what_to_do_first(user: Account) -> None:
    with Screen.of(user) as screen:
        assert screen.end() == 0, screen.said
    steps = [line.split()[:2] for line in screen.said.decode().splitlines() if line.startswith("  ")]
    assert steps[0] == ["rawtap", "doctor"]


def test_rawtap_alone_tells_a_host_that_it_must_serve(user: Account) -> None:
    """A host's configuration that forgot the word would read prose as MCP's messages, and say nothing that helps."""
    done = rawtap(user, given='{"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}}\n')
    assert (done.returncode, done.stdout) == (2, "")
    assert "must start: rawtap serve" in done.stderr


def test_the_way_to_serve_makes_the_arguments_of_no_verb() -> None:
    program = "import rawtap.cli; print(*rawtap.cli.parsers('serve')[1])"
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["serve", "doctor", "config"]


def test_the_way_to_serve_imports_no_verb() -> None:
    unwanted = {"rich", "rawtap.verbs.local", "rawtap.verbs.boot", "rawtap.verbs.progress", "termios", "json"}
    program = f"import sys, rawtap.cli; rawtap.cli.parsers(); print({unwanted!r} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
