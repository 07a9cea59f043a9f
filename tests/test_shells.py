"""The console of real guests: shells as they come, a login, a boot loader, and whatever ends a wait first."""

from __future__ import annotations

import gzip
import random
import re
import subprocess
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import Any

import anyio
import pytest

from support import PATIENCE, Account, Session, ToolFailed, serving
from test_broken_guests import archive
from test_linux_guest import IMAGES

SHELLS = ("bash", "dash", "busybox")
SESAME = "open sesame"

INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
dmesg -n 1; mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev 2>/dev/null
cd /root; export HOME=/root
case $mode in
  bash)
    export PS1='\\[\\e[01;32m\\]\\u@vm\\[\\e[00m\\]:\\[\\e[01;34m\\]\\w\\[\\e[00m\\]\\$ '
    exec setsid cttyhack bash --norc -i ;;
  dash) export PS1='dash$ '; exec setsid cttyhack dash -i ;;
  busybox) export PS1='\\w \\$ '; exec setsid cttyhack sh ;;
  login) while :; do setsid getty -L 115200 ttyS0 vt220; done ;;
  quiet) exec sleep 1000 ;;
  loop) echo 'here I am'; echo b >/proc/sysrq-trigger; sleep 1000 ;;
  *) exit 1 ;;
esac
"""


@cache
def image() -> bytes:
    """The Linux guest's image, with this machine's bash and dash, users, and an init of the test's own."""
    files = {"init": INIT.encode(), "root/script": b"# a comment\nguest$ \necho the end\n"}
    crypt = ["perl", "-e", "print crypt($ARGV[0], q($5$salt$))", SESAME]  # perl-base is on every Debian
    hashed = subprocess.run(crypt, capture_output=True, text=True, check=True).stdout
    files["etc/passwd"] = f"root:{hashed}:0:0:root:/root:/bin/dash\n".encode()
    for shell in ("/bin/bash", "/bin/dash"):
        files[shell[1:]] = Path(shell).read_bytes()
        listed = subprocess.run(["ldd", shell], capture_output=True, text=True, check=True).stdout
        files |= {path[1:]: Path(path).read_bytes() for path in re.findall(r"(/\S+) \(", listed)}
    extra = b"".join(archive(name, content) for name, content in files.items())
    return (IMAGES / "initrd").read_bytes() + gzip.compress(folders(files) + extra, 1)


def folders(files: dict[str, bytes]) -> bytes:
    """The folders that those are in, as an archive of their own."""
    names = sorted({str(each) for name in files for each in Path(name).parents if str(each) != "."})
    return b"".join(
        archive(name, b"").replace(b"000081ED", b"000041ED").replace(b"000081ed", b"000041ed") for name in names
    )


def tree(user: Account, mode: str, **more: str) -> str:
    """A project's folder that boots it in that mode; `more` are lines of its profile."""
    if not (user.home / "initrd").exists():
        (user.home / "initrd").write_bytes(image())
    root = user.home / mode
    root.mkdir(exist_ok=True)
    profile = {
        "arch": '"x86_64"',
        "machine": '"q35"',
        "bus": '"pci"',
        "memory": '"256M"',
        "kernel": f'"{IMAGES}/vmlinuz"',
        "initrd": f'"{user.home}/initrd"',
        "bootargs": f'"console=ttyS0 panic=-1 mode={mode}"',
    } | more
    (root / "rawtap.toml").write_text("".join(f"{key} = {value}\n" for key, value in profile.items()), encoding="utf-8")
    return str(root)


def with_server(user: Account, scenario: Callable[[Session], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with serving(user, "--image-dir", IMAGES, "--image-dir", user.home) as session:
            await scenario(session)

    anyio.run(whole)


async def send(session: Session, command: str, **arguments: Any) -> dict[str, Any]:
    return await session.call("qemu_send", **({"command": command, "timeout": PATIENCE} | arguments))


async def said(session: Session, command: str, **arguments: Any) -> str:
    """What came between the command and the prompt."""
    answer = await send(session, command, **arguments)
    assert answer["matched"], answer
    assert answer["output"].startswith(f"{command}\n")
    return str(answer["output"]).removeprefix(f"{command}\n").rpartition("\n")[0]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_is_found_its_prompt_is_learned_and_its_commands_have_frames(user: Account, shell: str) -> None:
    async def scenario(session: Session) -> None:
        booted = await session.call("qemu_boot", project_root=tree(user, shell), timeout=PATIENCE)
        assert booted["prompt_seen"], booted
        assert "was learned" in booted["warnings"][0]
        assert "x1b" not in booted["console"]
        first = await send(session, "echo one; false")
        assert (first["exit_status"], first["output"].partition("\n")[2].partition("\n")[0]) == (1, "one")
        # 130: an echo was late, and the line was taken back by Ctrl-C
        assert await said(session, "echo $?") in {"1", "130"}
        assert await said(session, "cat script") == "# a comment\nguest$ \necho the end"
        hello = (await send(session, "printf hello; sleep 0.3"))["output"]
        assert hello.startswith("printf hello; sleep 0.3\nhello")
        prompt = booted["console"].rpartition("\n")[2]
        early = await send(session, f"printf '{prompt}'; sleep 1.5; echo end")
        assert "end\n" in early["output"]
        assert await said(session, "cd /proc; pwd") == "/proc"
        jobs = await said(session, "(sleep 0.2; echo late) & echo now; wait")
        assert [each for each in jobs.splitlines() if each in {"now", "late"}] == ["now", "late"]
        assert await said(session, "for each in 1 2; do\n\techo $each\ndone") == "1\n2"
        long = "echo " + " ".join(f"word{number}" for number in range(70))
        assert await said(session, long) == long.removeprefix("echo ")
        for answer in (first, early):
            assert "rawtap" not in str(answer)
        await is_interrupted_and_goes_on(session)

    with_server(user, scenario)


async def is_interrupted_and_goes_on(session: Session) -> None:
    """A program that reads is given what is typed and no more; Ctrl-C ends it, and the shell has its frames again."""
    assert not (await send(session, "cat", timeout=0.5))["matched"]
    typed = await send(session, "hello", timeout=1)
    assert (typed["matched"], typed["output"]) == (False, "")
    assert "typed while 'cat' had not ended" in typed["next_step"]
    both = await session.call("qemu_read", wait_for="hello\r\nhello\r\n", timeout=PATIENCE)
    assert "hello\nhello\n" in both["output"], both
    assert (await send(session, "ctrl-c", enter=False))["matched"]
    assert (await send(session, "echo after"))["exit_status"] == 0


def test_a_login_is_done_where_the_profile_has_one_and_the_password_is_nowhere(user: Account) -> None:
    async def scenario(session: Session) -> None:
        login = f'{{ user = "root", password = "{SESAME}" }}'
        booted = await session.call("qemu_boot", project_root=tree(user, "login", login=login), timeout=PATIENCE)
        assert booted["prompt_seen"], booted
        assert (await send(session, "echo in"))["exit_status"] == 0
        page = await session.call("qemu_timeline", sources=["console"], limit=200)
        everything = str([booted, page, await session.call("qemu_read", position=0)])
        assert SESAME not in everything
        out = await send(session, "exit")
        assert out["next_step"] == "it asks for a user: qemu_send it"
        assert (await send(session, "root"))["next_step"] == "it asks for a password: qemu_send it"
        wrong = await send(session, "guess", wait_for=["incorrect", "dash"])
        assert (wrong["matched"], wrong["which"]) == (True, "incorrect")

    with_server(user, scenario)


def test_a_login_that_nobody_set_or_that_is_wrong_is_told(user: Account) -> None:
    async def scenario(session: Session) -> None:
        booted = await session.call("qemu_boot", project_root=tree(user, "login"), timeout=PATIENCE)
        assert not booted["prompt_seen"]
        assert "login = {" in booted["next_step"]
        await session.call("qemu_shutdown", timeout=0)
        login = '{ user = "root", password = "wrong" }'
        booted = await session.call("qemu_boot", project_root=tree(user, "login", login=login), timeout=PATIENCE)
        assert "was refused" in booted["next_step"]

    with_server(user, scenario)


def test_the_first_thing_that_happens_ends_the_wait_for_a_prompt(user: Account) -> None:
    """No time limit of these calls is ever reached: each is more than a test may take."""

    async def scenario(session: Session) -> None:
        async def instead(mode: str, **more: str) -> str:
            booted = await session.call(
                "qemu_boot", project_root=tree(user, mode, prompt='"never> "', **more), timeout=3600
            )
            assert not booted["prompt_seen"]
            await session.call("qemu_shutdown", timeout=0)
            return str(booted["next_step"])

        assert "Kernel panic - not syncing: Attempted to kill init" in await instead("none", bootargs=PANICS)
        assert "reboot loop: the last 3 reboots" in await instead("loop")
        assert "the guest idles" in await instead("quiet")
        refused = await session.refused(
            "qemu_boot", project_root=tree(user, "loop", prompt='"never> "'), timeout=3600, on_reset="stop", name="b"
        )
        assert refused.code == "guest.exited"
        assert "guest-reset" in str(refused)

    with_server(user, scenario)


PANICS = '"console=ttyS0 panic=0 mode=none"'


def test_trouble_is_what_is_wrong_now(user: Account) -> None:
    async def scenario(session: Session) -> None:
        async def trouble() -> Any:
            (row,) = (await session.call("qemu_status"))["guests"]
            return row["trouble"]

        await session.call("qemu_boot", project_root=tree(user, "dash", prompt='"dash$ "'), timeout=PATIENCE)
        await said(session, "echo Kernel panic - not syncing: old")
        await said(session, "echo '[    1.000000] Kernel panic - not syncing: in a log' >log; cat log")
        assert await trouble() is None
        hung = "INFO: task x:1 blocked for more than 120 seconds."
        await said(session, f"dmesg -n 8; echo '<3>{hung}' >/dev/kmsg; sleep 0.3")
        assert "hung task" in await trouble()
        crashed = await send(session, "echo c >/proc/sysrq-trigger", wait_for="never", timeout=3600)
        assert "sysrq triggered crash" in crashed["next_step"] or "reset itself" in crashed["next_step"]
        again = await send(session, "echo again", timeout=PATIENCE)
        assert again["matched"], again
        assert await trouble() is None
        (row,) = (await session.call("qemu_status"))["guests"]
        assert row["resets"] == 1
        off = await send(session, "poweroff -f", timeout=3600)
        assert "the guest has ended: exit code 0, guest-shutdown" in off["next_step"]

    with_server(user, scenario)


def test_calls_that_wait_send_signs_of_life(user: Account) -> None:
    async def scenario(session: Session) -> None:
        await session.boot(network=False)
        begun = len(session.progress)
        await send(session, "echo waits", wait_for="never", timeout=5)
        assert {each.partition(": ")[2] for each in session.progress[begun:]} == {"=>"}

    with_server(user, scenario)


def test_a_line_that_a_loader_cuts_short_is_not_run(user: Account) -> None:
    async def scenario(session: Session) -> None:
        await session.boot(network=False)
        cut = await send(session, "setenv x " + "a" * 480, timeout=10)
        assert not cut["matched"]
        assert re.match(r"\d+ of 489 characters were echoed", cut["next_step"])
        assert "not defined" in (await send(session, "printenv x"))["output"]
        assert "exit_status" not in await send(session, "version")

    with_server(user, scenario)


# ------------------------------------------------------------------ schedules


def test_no_answer_has_the_output_of_another_command_whatever_the_schedule(user: Account) -> None:
    run_schedules(user, 40)


@pytest.mark.soak
def test_no_answer_has_the_output_of_another_command_in_200_schedules(user: Account) -> None:
    run_schedules(user, 200)


PROGRAMS = (
    "echo {me}",
    "sleep {nap}; echo {me}",
    "printf {me}; sleep {nap}; printf {me}",
    "(sleep {nap}; echo {me}) & echo {me}; wait",
    "printf 'dash$ '; sleep {nap}; echo {me}",
)


def run_schedules(user: Account, count: int) -> None:
    """Calls in parallel, cancelled, out of time, waiting for a text; each command prints who it is."""
    chance = random.Random(16)
    seen: Counter[str] = Counter()

    async def one(session: Session, number: int, *, cancelled: bool) -> None:
        me = f"<{number}>"
        command = chance.choice(PROGRAMS).format(me=f"'{me}'", nap=chance.choice([0, 0.1, 0.3, 0.6]))
        arguments: dict[str, Any] = {"timeout": chance.choice([0.2, 0.5, 1, 20])}
        if chance.random() < 0.2:
            arguments["wait_for"] = me
        answer = None
        with anyio.move_on_after(chance.uniform(0, 0.6) if cancelled else 3600):
            try:
                answer = await send(session, command, **arguments)
            except ToolFailed as failed:
                assert failed.code == "guest.busy"  # noqa: PT017
                seen["busy"] += 1
        if answer is None:
            return
        seen["matched" if answer["matched"] else "not matched"] += 1
        assert set(re.findall(r"<\d+>", answer["output"])) <= {me}, (command, answer)
        if answer["matched"]:
            output = answer["output"].removeprefix(command)
            assert me in output, (command, answer)

    async def scenario(session: Session) -> None:
        await session.call("qemu_boot", project_root=tree(user, "dash", prompt='"dash$ "'), timeout=PATIENCE)
        for schedule in range(count):
            async with anyio.create_task_group() as group:
                for each in range(chance.choice([1, 1, 2, 3])):
                    await anyio.lowlevel.checkpoint()
                    call = session_call(one, session, schedule * 10 + each, cancelled=chance.random() < 0.2)
                    group.start_soon(call)
        assert (await send(session, "echo last", timeout=PATIENCE))["exit_status"] == 0
        assert min(seen["matched"], seen["not matched"]) > count // 10

    with_server(user, scenario)


def session_call(
    function: Callable[..., Awaitable[None]], *arguments: Any, **named: Any
) -> Callable[[], Awaitable[None]]:
    async def call() -> None:
        await function(*arguments, **named)

    return call
