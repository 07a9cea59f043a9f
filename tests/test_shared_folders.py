"""A project's folders in a guest, by 9p, by virtiofs and as a CD: it reads them, and can change nothing of them."""

from __future__ import annotations

import os
import select
import signal
import sys
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from rawtap.errors import GuestFailed
from rawtap.guest import virtiofs
from support import PATIENCE, Account, Session, children_of, command_of, has_child, serving, status_of
from test_linux_guest import PROMPT, typed

IMAGES = Path(sys.prefix) / "linux/modules"  # made by scripts/_linux_guest.sh
DAEMON = Path(sys.prefix) / "bin/virtiofsd"  # made by scripts/_virtiofsd.sh
TEXT = "a file of the host's"
LONG = "Name with blanks, and more characters than an ISO 9660 name may have.text"


def linux_tree(account: Account) -> tuple[str, Path]:
    """A project's folder for that kernel, and a file of a folder that it shares twice."""
    root = account.home / "project"
    shared = root / "shared"
    shared.mkdir(parents=True)
    (shared / "file.txt").write_text(TEXT, encoding="ascii")
    (shared / "out").symlink_to("/etc/passwd")
    (root / "cd/below").mkdir(parents=True)
    (root / "cd/below" / LONG).write_text(TEXT, encoding="ascii")
    lines = [
        'arch = "x86_64"',
        'machine = "q35"',
        'memory = "256M"',
        f'kernel = "{IMAGES}/vmlinuz"',
        f'initrd = "{IMAGES}/initrd"',
        'bootargs = "console=ttyS0 quiet"',
        f'prompt = "{PROMPT}"',
        'shares = [{ path = "shared", tag = "old" }, { path = "shared", tag = "new", by = "virtiofs" },'
        ' { path = "cd", tag = "lost", by = "virtiofs" }]',
        'drives = [{ path = "cd", format = "folder", interface = "ahci", media = "cdrom" }]',
    ]
    (root / "rawtap.toml").write_text("\n".join(lines), encoding="utf-8")
    for path in (shared, *shared.iterdir()):
        os.chown(path, account.uid, account.gid, follow_symlinks=False)
    return str(root), shared / "file.txt"


async def troubles(session: Session) -> list[str | None]:
    return [each["trouble"] for each in (await session.call("qemu_status"))["guests"]]


def kill(pid: int) -> None:
    """End it, and see it end."""
    process = os.pidfd_open(pid)
    signal.pidfd_send_signal(process, signal.SIGKILL)
    select.select([process], [], [])
    os.close(process)


def test_a_guest_reads_a_folder_in_each_way_and_changes_nothing_of_it(user: Account) -> None:
    root, file = linux_tree(user)
    before = file.stat()
    with_daemon = replace(user, path=f"{DAEMON.parent}:{user.path}")

    async def scenario() -> None:
        async with serving(with_daemon, "--image-dir", IMAGES) as session:
            booted = await session.call("qemu_boot", project_root=root, timeout=PATIENCE)
            assert (booted["prompt_seen"], booted["warnings"]) == (True, [])
            daemons = [each for each in children_of(session.pid) if "--shared-dir" in command_of(each)]
            for status in map(status_of, daemons):
                assert [status[key] for key in ("NoNewPrivs", "Seccomp", "CapEff")] == ["1", "2", "0" * 16]
            await typed(session, "modprobe 9p; mkdir /old /new; mount -t 9p -o trans=virtio old /old")
            await typed(session, "mount -t virtiofs new /new")
            for place in ("/old", "/new"):
                assert TEXT in await typed(session, f"cat {place}/file.txt")
                said = await typed(
                    session, f"cd {place}; echo a >b; echo a >file.txt; chmod 777 file.txt; rm file.txt; cd /"
                )
                assert said.count("Read-only file system") == 4, said
                assert "root:" not in await typed(session, f"cat {place}/out")
            await typed(session, "modprobe isofs; mkdir /cd; mount -t iso9660 /dev/sr0 /cd")
            assert TEXT in await typed(session, f"cat '/cd/below/{LONG}'")
            assert await troubles(session) == [None]
            (lost,) = (each for each in daemons if f"--shared-dir={root}/cd" in command_of(each))
            kill(lost)
            words = f"the folder {root}/cd is served no more, and hangs what uses it in the guest: virtiofsd was killed"
            (told,) = await troubles(session)
            assert str(told).startswith(words)
            ended = await session.call("qemu_shutdown", timeout=PATIENCE)
            assert ended["reason"].startswith(words)
            assert ended["reason"].count("is served no more") == 1, "the other one ended with QEMU"
            assert not has_child(session.pid, "--shared-dir")

    anyio.run(scenario)
    after = file.stat()
    assert (after.st_mode, after.st_mtime_ns, file.read_text(encoding="ascii")) == (
        before.st_mode,
        before.st_mtime_ns,
        TEXT,
    )
    assert [path.name for path in sorted(file.parent.iterdir())] == ["file.txt", "out"]


def test_a_server_of_roots_has_no_virtiofs_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(GuestFailed, match="root's virtiofsd wants capabilities"):
        virtiofs.require()


def test_without_a_daemon_that_can_serve_read_only_a_boot_says_so_and_leaves_nothing(user: Account) -> None:
    root, _ = linux_tree(user)

    async def scenario() -> None:
        async with serving(user, "--image-dir", IMAGES) as session:
            failed = await session.refused("qemu_boot", project_root=root)
            assert failed.code == "guest.not_found"
            assert "no folder can be given by virtiofs: /usr/lib/qemu/virtiofsd has no --readonly" in str(failed)
            shares = [{"path": "shared", "tag": "new", "by": "virtiofs"}]
            failed = await session.refused("qemu_boot", project_root=root, overrides={"memory": "", "shares": shares})
            assert "no memory is said" in str(failed)
            assert not has_child(session.pid, "--shared-dir")

    anyio.run(scenario)
