"""Machines as profiles and QEMU's own lines describe them, booted: each by a guest that tells what it finds."""

from __future__ import annotations

import os
import shutil
import subprocess
import tomllib
from pathlib import Path

import anyio
import pytest

from support import PATIENCE, RAWTAP, Account, Session, command_of, link_names, serving

# A boot sector for a PC: by the BIOS it tells of each disk that it boots from, and of the one after it; then it ends
# QEMU by isa-debug-exit, if that is there, or stands still.
_SECTOR = """
    .code16
    .globl _start
_start:
    ljmp $0x7c0, $start2
start2:
    mov %cs, %ax
    mov %ax, %ds
    mov %dl, disk
    mov $hello, %si
1:  lodsb
    test %al, %al
    jz 2f
    mov $0x3f8, %dx
    out %al, %dx
    jmp 1b
2:  mov $0x2f8, %dx                     # the second port, where it is the console
    mov $'2', %al
    out %al, %dx
    mov $0xe9, %dx
    mov $'D', %al
    out %al, %dx
    mov $0xf4, %dx
    mov $0x10, %al
    out %al, %dx
3:  hlt
    jmp 3b
disk: .byte 0
hello: .asciz "from a sector\\n"
    .org 510
    .word 0xaa55
"""

EXIT = "-device isa-debug-exit,iobase=0xf4,iosize=0x04"


def owned(user: Account, path: Path) -> Path:
    os.chown(path, user.uid, user.gid)
    return path


def project(user: Account, toml: str = "") -> Path:
    """A project's folder with that sector as a disk of 1 MiB in it, and a file that says it is one."""
    root = owned(user, _made(user.home / "project"))
    (root / "sector.s").write_text(_SECTOR, encoding="ascii")
    subprocess.run(["as", "--32", "-o", root / "sector.o", root / "sector.s"], check=True)
    link = ["ld", "-m", "elf_i386", "--oformat", "binary", "-Ttext=0", "-e", "_start", "-o", root / "disk.img"]
    subprocess.run([*link, root / "sector.o"], check=True)
    with (root / "disk.img").open("ab") as image:
        image.truncate(1 << 20)
    owned(user, root / "disk.img")
    (root / "rawtap.toml").write_text(toml, encoding="utf-8")
    return root


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def iso(root: Path) -> Path:
    """An ISO that starts with that sector (El Torito, without emulation of a disk)."""
    tree = _made(root / "tree")
    (tree / "boot.bin").write_bytes((root / "disk.img").read_bytes()[:2048])
    path = root / "boot.iso"
    made = ["xorriso", "-as", "mkisofs", "-quiet", "-o", path, "-b", "boot.bin", "-no-emul-boot"]
    subprocess.run([*made, "-boot-load-size", "4", tree], check=True, capture_output=True)
    return path


def letters(text: str) -> str:
    return "".join(filter(str.isalpha, text))


async def said(session: Session, root: Path, words: str = "from a sector", **arguments: object) -> str:
    """What the console of a boot shows up to those words, be it that the boot's own answer has some of it.

    Firmware that draws a screen may move its cursor in the middle of a word: letters alone are compared.
    """
    booted = await session.call("qemu_boot", **{"project_root": str(root), "timeout": 0} | arguments)
    return await session.until_said(words, booted["name"], read=letters)


@pytest.mark.parametrize(
    ("interface", "machine"),
    [("ide", "pc"), ("ide", "q35"), ("ahci", "pc"), ("virtio", "q35"), ("nvme", "q35"), ("scsi", "pc"), ("usb", "q35"),
     ("floppy", "pc"), ("sd", "pc")],
)  # fmt: skip
def test_a_pc_boots_from_a_disk_on_whatever_it_is_and_the_sector_is_on_the_serial_console(
    user: Account, interface: str, machine: str
) -> None:
    root = project(user, f'arch = "x86_64"\nmachine = "{machine}"\noverlay = true\n')
    drive = {"path": "disk.img", "interface": interface}

    async def scenario() -> None:
        async with serving(user) as session:
            assert "SeaBIOS" in await said(session, root, overrides={"drives": [drive]})

    anyio.run(scenario)


def test_a_pc_boots_from_an_iso_alone(user: Account) -> None:
    root = project(user, 'arch = "x86_64"\nmachine = "pc"\n')
    iso(root)

    async def scenario() -> None:
        async with serving(user) as session:
            await said(session, root, qemu_command="qemu-system-x86_64 -cdrom boot.iso -nographic -boot d")
            drives = [{"path": "boot.iso", "readonly": True}]
            await said(session, root, name="b", overrides={"drives": drives})

    anyio.run(scenario)


@pytest.mark.parametrize(
    ("ports", "words"),
    [("-serial null -serial stdio", "2"), ("-debugcon stdio", "D"), ("-serial mon:stdio", "from a sector")],
)
def test_a_line_says_which_port_is_the_console_and_a_guest_that_ends_by_its_own_device_tells_its_code(
    user: Account, ports: str, words: str
) -> None:
    root = project(user)
    line = f"qemu-system-i386 -drive file=disk.img,format=raw,snapshot=on -m 64 {EXIT} -display gtk {ports}"

    async def scenario() -> None:
        async with serving(user) as session:
            booted = await session.call("qemu_boot", project_root=str(root), qemu_command=line, timeout=0)
            assert booted["warnings"] == []
            assert 'memory = "64"' in booted["rawtap_toml"]
            answer = await session.call("qemu_read", wait_for=words, timeout=PATIENCE)
            assert answer["matched"], answer
            ended = await session.call("qemu_shutdown", timeout=PATIENCE)
            assert ended["exit_code"] == 0x10 << 1 | 1

    anyio.run(scenario)


def test_a_line_on_the_bridge_has_the_card_that_it_names_and_what_is_not_carried_is_told(user: Account) -> None:
    root = project(user, 'bridge = "lines-br0"\n')
    line = (
        "qemu-system-x86_64 -M q35 -drive file=disk.img,format=raw,if=virtio -snapshot -nographic -trace e1000x "
        "-netdev user,id=n -device rtl8139,netdev=n,mac=52:54:00:aa:bb:cc"
    )

    async def scenario() -> None:
        async with serving(user) as session:
            booted = await session.call("qemu_boot", project_root=str(root), qemu_command=line, network=True, timeout=0)
            assert booted["network"]["mac"] == "52:54:00:aa:bb:cc"
            assert booted["network"]["bridge"] == "lines-br0"
            assert booted["warnings"] == ["not carried: -trace e1000x: QEMU's own trace would be a file of the host's"]
            assert '"driver": "rtl8139"' in command_of(booted["pid"])
            (row,) = (await session.call("qemu_status"))["guests"]
            assert "only a virtio card" in row["card"]["unknown"]["free"]

    anyio.run(scenario)
    assert link_names() == set()


def test_a_card_without_an_address_gets_qemus_own_unless_another_guest_of_the_bridge_has_it(user: Account) -> None:
    root = project(user, 'bridge = "lines-br0"\n')
    line = "qemu-system-i386 -hda disk.img -snapshot -nographic -net nic,model=e1000 -net user"
    first = "52:54:00:12:34:56"

    async def scenario() -> None:
        async with serving(user) as session:

            async def booted(name: str, **more: object) -> tuple[str, list[str]]:
                what = {"project_root": str(root), "name": name, "qemu_command": line, "network": True, "timeout": 0}
                answer = await session.call("qemu_boot", **what | more)
                return answer["network"]["mac"], answer["warnings"]

            assert await booted("a") == (first, [])
            again, told = await booted("b")
            assert again != first
            assert told == [
                f"another card on lines-br0, or on no bridge yet, has the address {first}: this one has {again}"
            ]
            subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", root / "q.img", "1M"], check=True)
            owned(user, root / "q.img")
            image = {"path": "q.img", "interface": "ide"}
            (seen,) = (await booted("q", overrides={"drives": [image]}))[1][-1:]
            assert seen.startswith(f"{root}/q.img is given to the guest as it is, and begins as a qcow2 image")
            await session.call("qemu_shutdown", name="q")
            elsewhere = {"overrides": {"bridge": "lines-br1", "address": "10.0.3.2/24"}}
            assert await booted("c", **elsewhere) == (first, [])
            await session.call("qemu_shutdown", name="a")
            assert await booted("a") == (first, [])

    anyio.run(scenario)
    assert link_names() == set()


def test_a_line_gets_no_file_that_a_project_would_not_get(user: Account) -> None:
    root = project(user)

    async def scenario() -> None:
        async with serving(user) as session:
            for word in ("-hda /etc/shadow", "-kernel /etc/shadow", "-bios ../secret", "-dtb /etc/passwd",
                         "-device loader,file=/etc/passwd,addr=0", "-fw_cfg name=opt/a,file=/etc/passwd",
                         "-virtfs local,path=/etc,mount_tag=a", "-netdev user,id=n,tftp=/etc"):  # fmt: skip
                line = f"qemu-system-x86_64 -hda disk.img {word}"
                failed = await session.refused("qemu_boot", project_root=str(root), qemu_command=line)
                assert failed.code == "guest.path_not_allowed", word
            line = "qemu-system-x86_64 -hda hosts"
            failed = await session.refused("qemu_boot", project_root="/etc", qemu_command=line)
            assert failed.code == "guest.path_not_allowed"

    anyio.run(scenario)


@pytest.mark.parametrize(
    ("network", "nic"),
    [(True, "e1000"), ("user", "e1000"), (True, "rtl8139"), (True, "ne2k_pci"), (True, "pcnet"), (True, "vmxnet3")],
)
def test_a_pc_boots_from_the_network_with_any_card_and_the_file_that_the_project_names(
    user: Account, network: object, nic: str
) -> None:
    root = project(
        user,
        'arch = "x86_64"\nmachine = "pc"\nmemory = "64M"\nboot = "n"\ntftp = "boot"\n'
        'bootfile = { bios = "hello.ipxe", uefi-x86_64 = "other.efi" }\nprompt = "iPXE> "\n',
    )
    script = "#!ipxe\necho fetched from ${next-server}\nshell\n"
    (_made(root / "boot") / "hello.ipxe").write_text(script, encoding="ascii")

    async def scenario() -> None:
        async with serving(user) as session:
            booted = await session.call(
                "qemu_boot",
                project_root=str(root),
                network=network,
                capture=True,
                capture_filter="udp port 69",
                overrides={"nic": nic},
                timeout=PATIENCE,
            )
            assert booted["prompt_seen"], booted
            assert "fetched from 10.0.2.2" in booted["console"]
            assert (await session.call("qemu_pcap_stop"))["packets"] >= 1

    anyio.run(scenario)


def test_uefi_starts_its_shell_and_keeps_its_variables_to_the_guest(user: Account) -> None:
    root = project(user, 'arch = "x86_64"\nmachine = "q35"\nuefi = true\nmemory = "128M"\n')

    async def scenario() -> None:
        async with serving(user) as session:
            await said(session, root, "UEFI Interactive Shell")
            kept = await session.call("qemu_snapshot", action="save", tag="shell")
            assert [each["tag"] for each in kept["snapshots"]] == ["shell"]

    before = Path("/usr/share/OVMF/OVMF_VARS_4M.fd").read_bytes()
    anyio.run(scenario)
    assert Path("/usr/share/OVMF/OVMF_VARS_4M.fd").read_bytes() == before


def test_a_line_gives_uefi_a_folder_as_a_disk_and_what_is_in_it_runs(user: Account) -> None:
    root = project(user)
    (_made(root / "esp") / "startup.nsh").write_text("echo from the folder\n", encoding="ascii")
    outside = user.home / "secret"
    outside.write_text("", encoding="ascii")
    line = (
        "qemu-system-x86_64 -M q35 -m 128 -nographic -drive if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/"
        "OVMF_CODE_4M.fd -drive if=pflash,format=raw,file=/usr/share/OVMF/OVMF_VARS_4M.fd "
        "-drive format=raw,file=fat:rw:esp"
    )

    async def scenario() -> None:
        async with serving(user) as session:
            booted = await session.call("qemu_boot", project_root=str(root), qemu_command=line, timeout=0)
            assert booted["warnings"] == [
                "otherwise here: -drive file=fat:rw:esp: what the guest writes does not get into the folder"
            ]
            assert (await session.call("qemu_read", wait_for="\nfrom the folder", timeout=PATIENCE))["matched"]
            failed = await session.refused(
                "qemu_boot", name="b", project_root=str(root), qemu_command=line.replace("rw:esp", "..")
            )
            assert failed.code == "guest.path_not_allowed"

    anyio.run(scenario)


@pytest.mark.parametrize(
    ("files", "name"),
    [
        (("kernel/kernel", "fs.img", "kernel/virtio_disk.c"), "xv6-riscv"),
        (("kernel/kernel", "fs.img", "kernel/virtio_disk.c", "kernel/e1000.c"), "xv6-riscv-net"),
        (("xv6.img", "fs.img", "bootmain.c"), "xv6-x86"),
    ],
)
def test_a_tree_is_known_by_its_files(user: Account, files: tuple[str, ...], name: str) -> None:
    """The files are another guest's: what is booted is the machine that fits the tree."""
    root = owned(user, _made(user.home / "tree"))
    (root / "kernel").mkdir()
    for file in files:
        shutil.copy("/usr/lib/u-boot/qemu-riscv64/u-boot.bin", root / file)
        owned(user, root / file)

    async def scenario() -> None:
        async with serving(user) as session:
            booted = await session.call("qemu_boot", project_root=str(root), network=True, timeout=0)
            assert booted["profile"] == name
            card = "e1000" if name == "xv6-riscv-net" else "virtio-net"
            assert card in command_of(booted["pid"])
            # Where that lab sends to, without asking: QEMU's own network calls its host so.
            address = Path(f"/sys/class/net/{booted['network']['bridge']}/address")
            assert address.read_text(encoding="ascii") == "52:55:0a:00:02:02\n"
            assert (booted["network"]["mac"] == "52:54:00:12:34:56") == (name == "xv6-riscv-net")

    anyio.run(scenario)


def test_a_line_is_shown_as_a_file_and_init_writes_it_once(user: Account) -> None:
    root = project(user)
    (root / "rawtap.toml").unlink()
    owned(user, root)
    line = "qemu-system-riscv64 -M virt -kernel k -d int"
    told = subprocess.run(user.command(RAWTAP, "import", line), capture_output=True, text=True, check=True)
    own = {"memory": "", "smp": 0}  # the machine's own, since the line says nothing of them
    shown = {"arch": "riscv64", "machine": "virt", "kernel": "k", "nic": "virtio-net", "mac": "52:54:00:12:34:56"}
    assert tomllib.loads(told.stdout) == shown | own
    assert "not carried: -d int: " in told.stderr
    for code in (0, 1):
        written = subprocess.run(user.command(RAWTAP, "init", root, "--line", line), check=False, capture_output=True)
        assert written.returncode == code
    assert (root / "rawtap.toml").read_text(encoding="utf-8") == told.stdout
    refused = subprocess.run(user.command(RAWTAP, "import", "ls"), capture_output=True, text=True, check=False)
    assert (refused.returncode, refused.stdout) == (1, "")


def test_a_machine_with_nothing_to_start_from_is_refused(user: Account) -> None:
    root = project(user)

    async def scenario() -> None:
        async with serving(user) as session:
            failed = await session.refused("qemu_boot", project_root=str(root))
            assert failed.code == "guest.not_found"
            failed = await session.refused("qemu_boot", project_root=str(root), overrides={"nic": "e100"})
            assert "did you mean 'e1000'" in str(failed)

    anyio.run(scenario)
