"""The consoles of real boot loaders, and of a small system whose shell draws its lines with VT100's escapes."""

from __future__ import annotations

import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio

from support import PATIENCE, Account, Session, serving

PC = 'arch = "x86_64"\nmachine = "pc"\nmemory = "64M"\nbus = "pci"\n'
ON_SERIAL = "serial --unit=0 --speed=115200\nterminal_input serial\nterminal_output serial\n"
MENU = 'set timeout=-1\nmenuentry "one" { true; }\nmenuentry "two" { true; }\n'
MODULES = [
    "biosdisk",
    "iso9660",
    "serial",
    "terminal",
    "normal",
    "echo",
    "ls",
    "cat",
    "help",
    "reboot",
    "test",
    "configfile",
]
LONG = "echo " + " ".join(f"word{number}" for number in range(30))


def with_tree(user: Account, name: str, profile: str, scenario: Callable[[Session, str], Awaitable[None]]) -> None:
    """A server, and a project's folder of that name."""
    root = user.home / name
    root.mkdir(exist_ok=True)
    (root / "rawtap.toml").write_text(PC + profile, encoding="utf-8")

    async def run() -> None:
        async with serving(user) as session:
            await scenario(session, str(root))

    anyio.run(run)


async def send(session: Session, command: str, **arguments: Any) -> dict[str, Any]:
    return await session.call("qemu_send", **({"command": command, "timeout": PATIENCE} | arguments))


def joined(answer: dict[str, str]) -> str:
    """An output without what a screen's width makes of it."""
    return "".join(answer["output"].split())


# ---------------------------------------------------------------- GRUB


def grub(user: Account, name: str, config: str) -> str:
    """The profile of a PC that starts from an ISO of GRUB's with that configuration."""
    contents = user.home / f"{name}-contents"
    (contents / "boot/grub").mkdir(parents=True)
    (contents / "boot/grub/grub.cfg").write_text(ON_SERIAL + config, encoding="ascii")
    core = ["grub-mkimage", "-O", "i386-pc-eltorito", "-p", "/boot/grub", "-o", contents / "core.img", *MODULES]
    subprocess.run(core, check=True)
    (user.home / name).mkdir()
    iso = ["xorriso", "-as", "mkisofs", "-quiet", "-o", user.home / name / "grub.iso", "-b", "core.img"]
    iso += ["-no-emul-boot", "-boot-load-size", "4", "-boot-info-table", contents]
    subprocess.run(iso, check=True, capture_output=True)
    return '[[drives]]\npath = "grub.iso"\ninterface = "ide"\nmedia = "cdrom"\nreadonly = true\n'


def test_grubs_command_line_on_the_serial_port(user: Account) -> None:
    async def scenario(session: Session, root: str) -> None:
        booted = await session.call("qemu_boot", project_root=root, timeout=PATIENCE)
        assert booted["prompt_seen"], booted
        assert "'grub> ' was learned" in booted["warnings"][0]
        hello = await send(session, "echo hello")
        assert (hello["matched"], hello["output"].split()) == (True, ["echo", "hello", "hello", "grub>"])
        assert "exit_status" not in hello
        long = await send(session, LONG)
        assert joined(long).endswith(joined({"output": LONG.removeprefix("echo ")}) + "grub>")
        assert "can't find command `nonsense'" in (await send(session, "nonsense"))["output"]
        assert "the guest reset itself" in (await send(session, "reboot"))["next_step"]
        assert (await send(session, "echo again"))["output"].split() == ["echo", "again", "again", "grub>"]

    with_tree(user, "grub", grub(user, "grub", ""), scenario)


def test_grubs_command_line_behind_its_menu(user: Account) -> None:
    """The menu is drawn by places on a screen, and from there on each echo is."""

    async def scenario(session: Session, root: str) -> None:
        booted = await session.call("qemu_boot", project_root=root, wait_for_prompt=False)
        menu = await session.call("qemu_read", wait_for="keys to select which entry", timeout=PATIENCE)
        assert menu["matched"], booted
        opened = await send(session, "c", enter=False, wait_for="grub> ")
        assert opened["matched"]
        hello = await send(session, "echo hello")
        assert (hello["matched"], hello["output"].split()[-2:]) == (True, ["hello", "grub>"])
        assert "\\x1b" not in str([menu, opened, hello])
        assert (await send(session, "ls"))["matched"]

    with_tree(user, "menu", grub(user, "menu", MENU), scenario)


# ---------------------------------------------------------------- iPXE


def test_ipxes_shell_by_ctrl_b(user: Account) -> None:
    profile = (
        'nic = "e1000"\nboot = "n"\nframing = false\ninterrupt = { wait_for = "Press Ctrl-B", send = "\\u0002" }\n'
    )

    async def scenario(session: Session, root: str) -> None:
        booted = await session.call("qemu_boot", project_root=root, network="user", timeout=PATIENCE)
        assert booted["prompt_seen"], booted
        assert "'iPXE> ' was learned" in booted["warnings"][0]
        hello = await send(session, "echo hello")
        assert (hello["matched"], hello["output"]) == (True, "echo hello\nhello\niPXE> ")
        long = await send(session, LONG[:120], timeout=5 * PATIENCE)  # a firmware's screen is slow
        assert long["matched"], long
        assert joined(long).endswith(joined({"output": LONG[5:120]}) + "iPXE>")
        assert "command not found" in (await send(session, "nonsense"))["output"]

    with_tree(user, "ipxe", profile, scenario)


# ---------------------------------------------------------------- a shell with VT100


def zephyr_like(root: Path) -> None:
    """Build it there."""
    root.mkdir()
    flags = [
        "-m32",
        "-march=i386",
        "-Os",
        "-Wall",
        "-Werror",
        "-ffreestanding",
        "-fno-pic",
        "-fno-pie",
        "-fno-stack-protector",
    ]
    flags += ["-fno-asynchronous-unwind-tables", "-fcf-protection=none", "-nostdlib", "-static", "-no-pie"]
    linked = ["-Wl,-Ttext=0x100000,--section-start=.multiboot=0xff000,--build-id=none,-z,noexecstack"]
    linked += ["-Wl,--no-warn-rwx-segments", "-Wl,-n"]
    source = Path(__file__).with_name("zephyr_like.c")
    subprocess.run(["gcc", *flags, *linked, "-o", root / "guest.elf", source], check=True)


def test_a_shell_that_draws_its_lines_and_whose_log_comes_at_any_moment(user: Account) -> None:
    zephyr_like(user.home / "zephyr")

    async def scenario(session: Session, root: str) -> None:
        booted = await session.call("qemu_boot", project_root=root, timeout=PATIENCE)
        assert "'uart:~$ ' was learned" in booted["warnings"][0], booted
        assert await exactly(session, "echo hello") == "hello\n"
        assert await exactly(session, LONG) == LONG.removeprefix("echo ") + "\n"
        assert await exactly(session, "nonsense") == "nonsense: command not found\n"
        await exactly(session, "later")
        came = await session.call("qemu_read", wait_for="a link came up", timeout=PATIENCE)
        assert came["matched"]
        assert await exactly(session, "echo behind a log") == "behind a log\n"
        await exactly(session, "amid")
        amid = await send(session, "echo amid")
        assert (amid["output"], amid["matched"]) == ("echo amid\namid\nuart:~$ ", True)
        assert "earlier output that no answer has shown" in amid["next_step"]
        everything = str([booted, came, amid, await session.call("qemu_read", position=0)])
        assert "\\x1b" not in everything
        assert "rawtap;" not in everything

    with_tree(user, "zephyr", 'kernel = "guest.elf"\n', scenario)


async def exactly(session: Session, command: str) -> str:
    """What came between a command and the prompt, with nothing else to say about it."""
    answer = await send(session, command)
    assert (answer["matched"], answer["next_step"]) == (True, None), answer
    assert answer["output"].startswith(f"{command}\n"), answer
    assert answer["output"].endswith("uart:~$ "), answer
    return str(answer["output"]).removeprefix(f"{command}\n").removesuffix("uart:~$ ")


def test_a_triple_fault_is_told_from_a_reset_that_was_asked_for(user: Account) -> None:
    zephyr_like(user.home / "faults")

    async def scenario(session: Session, root: str) -> None:
        await session.call("qemu_boot", project_root=root, timeout=PATIENCE)
        fault = await send(session, "fault")
        assert fault["next_step"].startswith("reset by the processor: a triple fault at 0x0010"), fault
        assert (await send(session, "echo again"))["output"] == "echo again\nagain\nuart:~$ "
        assert (await send(session, "restart"))["next_step"].startswith("the guest reset itself;")
        assert (await send(session, "echo again"))["matched"]
        ended = await send(session, "stop")
        assert ended["next_step"] == "the guest has ended: exit code 0, guest-shutdown"

    with_tree(user, "faults", 'kernel = "guest.elf"\n', scenario)
