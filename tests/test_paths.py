"""No host file outside the project and the operator's folders reaches a guest, whatever a project or a call says."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import anyio
import pytest

from rawtap.guest.command_line import Inherited, arguments
from rawtap.guest.hardware import Drive
from rawtap.guest.profile import MachineSpec, Profile
from support import Account, Session, ToolFailed, command_of, open_files, serving

UBOOT = Path("/usr/lib/u-boot/qemu-riscv64_smode/u-boot.bin")


@pytest.fixture
def project(user: Account) -> Path:
    """A project of the user's that boots U-Boot from a file of its own."""
    root = user.home / "project"
    root.mkdir()
    shutil.copy(UBOOT, root / "k.bin")
    write(root)
    return root


def write(root: Path, more: str = "", kernel: str = "k.bin") -> None:
    text = f'profile = "u-boot-riscv64"\nkernel = "{kernel}"\n{more}\n'
    (root / "rawtap.toml").write_text(text, encoding="utf-8")


def image(path: Path, *options: str) -> Path:
    """A disk of 1 MiB that everybody may write."""
    subprocess.run(["qemu-img", "create", "-q", *options, path, "1M"], check=True)
    path.chmod(0o666)
    return path


async def refused(session: Session, root: Path | None, **arguments: Any) -> str:
    """The text of a boot's error, after which nothing runs."""
    error = await session.refused("qemu_boot", **({"project_root": str(root)} if root else {}), **arguments)
    assert (await session.call("qemu_status"))["guests"] == []
    assert error.code == "guest.path_not_allowed", str(error)
    return str(error)


def test_each_way_out_of_a_project_is_refused_and_named(user: Account, project: Path) -> None:
    """/etc/passwd can be read by everybody: only the rule is between it and the guest."""
    (project / "link").symlink_to("/etc/passwd")
    (project / "etc").symlink_to("/etc")
    ways = ["/etc/passwd", "../" * 9 + "etc/passwd", "link", "etc/passwd", "/etc/no-such-file", "/proc/self/environ"]

    async def scenario() -> None:
        async with serving(user) as session:
            for way in ways:
                for arguments in ({"kernel": way}, {"extra_drives": [{"path": way, "readonly": True}]}):
                    said = await refused(session, project, **arguments)
                    assert f"{project / way} may not be used" in said
                    assert f"allowed folders: {project}, /usr/lib/u-boot" in said
                    assert "--image-dir" in said
                write(project, kernel=way)
                await refused(session, project)
                write(project, f'drives = [{{ path = "{way}", readonly = true, optional = true }}]')
                await refused(session, project)
                write(project, f'firmware = "{way}"')
                await refused(session, project)
                write(project)
            assert (await session.call("qemu_boot", project_root=str(project)))["prompt_seen"]

    anyio.run(scenario)


def test_a_folder_becomes_no_project_because_a_call_names_it(user: Account, project: Path) -> None:
    (user.home / "secret").write_text("x", encoding="utf-8")
    (user.home / "plain").mkdir()
    shutil.copy(UBOOT, user.home / "plain/k.bin")

    async def scenario() -> None:
        async with serving(user) as session:
            boot = {"profile": "u-boot-riscv64"}
            for root, kernel in (("/", "etc/passwd"), ("/etc", "passwd"), ("/usr", "lib/os-release")):
                assert "is no project" in await refused(session, Path(root), kernel=kernel, **boot)
            assert "is no project" in await refused(session, user.home / "plain", kernel="k.bin", **boot)
            shutil.copy(project / "rawtap.toml", user.home)
            assert "holds the home" in await refused(session, user.home, kernel="secret", **boot)
            await refused(session, None, kernel="/etc/passwd", **boot)
            await refused(session, None, kernel=str(project / "k.bin"), **boot)
            os.chown(project / "rawtap.toml", 65534, 65534)
            assert "of the server's user" in await refused(session, project)

    anyio.run(scenario)


def test_the_operator_allows_folders(user: Account, project: Path) -> None:
    folder = user.home / "images"
    folder.mkdir()
    image(folder / "disk.img")
    shutil.copy(UBOOT, folder / "k.bin")

    async def scenario() -> None:
        async with serving(user, "--image-dir", user.home / "other", "--image-dir", folder) as session:
            await session.call(
                "qemu_boot", project_root=str(project), extra_drives=[{"path": str(folder / "disk.img")}]
            )
            drives = await session.call("qemu_send", command="virtio scan; virtio info")
            assert "Capacity: 1.0 MB" in drives["output"]
            booted = await session.call("qemu_boot", name="b", profile="u-boot-riscv64", kernel=str(folder / "k.bin"))
            assert booted["prompt_seen"]
            with pytest.raises(ToolFailed, match=r"guest\.path_not_allowed"):
                await session.call("qemu_boot", name="c", project_root=str(project), kernel="/etc/passwd")

    anyio.run(scenario)


def test_an_image_that_names_another_file_is_refused(user: Account, project: Path) -> None:
    secret = image(user.home / "secret.img")
    image(project / "backed.qcow2", "-f", "qcow2", "-b", str(secret), "-F", "raw")
    image(project / "data.qcow2", "-f", "qcow2", "-o", f"data_file={project}/data.raw")
    image(project / "whole.qcow2", "-f", "qcow2")

    async def scenario() -> None:
        async with serving(user) as session:
            for name, what in (("backed", "a backing file"), ("data", "an external data file")):
                drive = {"path": f"{name}.qcow2", "format": "qcow2"}
                said = await refused(session, project, extra_drives=[drive])
                assert f"it names {what}" in said
                assert "qemu-img convert" in said
            whole = {"path": "whole.qcow2", "format": "qcow2"}
            await session.call("qemu_boot", project_root=str(project), extra_drives=[whole])
            drives = await session.call("qemu_send", command="virtio scan; virtio info")
            assert "Capacity: 1.0 MB" in drives["output"]

    anyio.run(scenario)


def test_an_image_that_gets_a_backing_file_after_the_look_does_not_open_it(user: Account, project: Path) -> None:
    """What rawtap gives QEMU for an image says that nothing lies below it, and QEMU keeps to that."""
    secret = image(user.home / "secret.img")
    backed = image(project / "backed.qcow2", "-f", "qcow2", "-b", str(secret), "-F", "raw")
    spec = MachineSpec(Profile(), None, (Drive(path=str(backed), format="qcow2"),))
    argv = arguments(spec, Inherited(0, 0))
    block = argv[argv.index("-blockdev") + 1]

    async def scenario() -> None:
        command = ["qemu-system-riscv64", "-M", "none", "-display", "none", "-S", "-blockdev"]
        async with await anyio.open_process([*command, block, "-monitor", "stdio"]) as qemu:
            assert qemu.stdout is not None
            await qemu.stdout.receive()  # its prompt: the drive is open
            opened = open_files(qemu.pid)
            qemu.kill()
        assert str(backed) in opened
        assert str(secret) not in opened

    anyio.run(scenario)


NAMES = ["a,b=c", 'a "quoted" b', "größe ☃", "line\nend", "back\\slash", "{}[]:;$(x)`y`", " lead", "-daemonize", "%s%n"]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_any_name_boots(user: Account, project: Path, name: str) -> None:
    folder = project / f"{name}.d"
    folder.mkdir()
    shutil.copy(UBOOT, folder / name)
    image(folder / "disk").rename(folder / f"{name}.img")
    drive = {"path": f"{name}.d/{name}.img", "readonly": True}

    async def scenario() -> None:
        async with serving(user) as session:
            booted = await session.call(
                "qemu_boot", project_root=str(project), kernel=f"{name}.d/{name}", extra_drives=[drive]
            )
            assert booted["prompt_seen"]
            assert {str(folder / f"{name}.img")} <= open_files(booted["pid"])
            drives = await session.call("qemu_send", command="virtio scan; virtio info")
            assert "Capacity: 1.0 MB" in drives["output"]
            assert str(folder / name) in command_of(booted["pid"])

    anyio.run(scenario)


def test_a_folder_that_is_served_by_its_names_leads_nowhere_else(user: Account, project: Path) -> None:
    """dnsmasq may read /etc/passwd, QEMU what packages installed, and both may ask how large a private file is."""
    (user.home / "secret").write_text("private", encoding="ascii")
    folder = project / "boot"
    folder.mkdir()
    (folder / "file").write_text("served", encoding="ascii")
    ways = ["/etc/passwd", "/usr/lib/os-release", user.home / "secret", user.home / "missing", user.home]

    async def scenario() -> None:
        async with serving(user) as session:
            for given in ({"tftp": "boot"}, {"drives": [{"path": "boot", "format": "folder"}]}):
                for way in ways:
                    (folder / "link").symlink_to(way)
                    said = await refused(session, project, overrides=given)
                    assert f"the link {folder}/link leads out of it" in said
                    (folder / "link").unlink()
            (folder / "link").symlink_to("file")
            boot = {"tftp": "boot", "services": True}
            await session.call("qemu_boot", project_root=str(project), network=True, overrides=boot)
            await session.typed("setenv ipaddr 10.0.2.15; setenv serverip 10.0.2.2; setenv netretry no")
            assert "Bytes transferred = 6 " in await session.typed("tftpboot 0x84000000 link")
            for name in ("../rawtap.toml", "/etc/passwd", "../../../../../../etc/passwd"):
                assert "TFTP error" in await session.typed(f"tftpboot 0x84000000 {name}")

    anyio.run(scenario)


def test_a_tree_of_links_to_an_administrators_files_is_nobodys_project(user: Account) -> None:
    """Anybody can make one in a place where all may write."""
    root = user.home / "tree"
    (root / "kernel").mkdir(parents=True)
    for file in ("kernel/kernel", "fs.img", "kernel/virtio_disk.c"):
        (root / file).symlink_to("/etc/passwd")

    async def scenario() -> None:
        async with serving(user) as session:
            assert "is no project" in await refused(session, root)

    anyio.run(scenario)
