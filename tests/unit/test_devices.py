"""What a machine's parts are on QEMU's command line: where they go, and what belongs to them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rawtap.errors import GuestNotFound, PathNotAllowed, ProfileInvalid
from rawtap.guest import files, models, resolving
from rawtap.guest.command_line import Inherited, arguments
from rawtap.guest.devices import tap_nic
from rawtap.guest.hardware import Drive, FirmwareFile, Loader, NumaNode, Share
from rawtap.guest.paths import Allowed
from rawtap.guest.profile import BootOptions, MachineSpec, Profile
from rawtap.host import landlock


def argv_of(profile: Profile, *drives: Drive, nic: bool = False, gpu: bool = False) -> list[str]:
    return arguments(MachineSpec(profile, None, drives, gpu), Inherited(5, 6, tap_nic(7, "m") if nic else None))


def values_of(argv: list[str], option: str) -> list[str]:
    return [argv[number + 1] for number, word in enumerate(argv) if word == option]


def devices_of(argv: list[str]) -> list[dict[str, Any]]:
    return [json.loads(each) for each in values_of(argv, "-device") if each.startswith("{")]


def places(machine: str, interface: str) -> list[tuple[str | None, int | None]]:
    drives = [Drive(path=f"/{number}", interface=interface) for number in range(3)]  # type: ignore[arg-type]
    found = devices_of(argv_of(Profile(arch="x86_64", machine=machine), *drives))
    return [(each.get("bus"), each.get("unit")) for each in found if "drive" in each]


def test_ide_disks_of_a_pc_are_master_and_slave_in_their_order() -> None:
    assert places("pc", "ide") == [("ide.0", 0), ("ide.0", 1), ("ide.1", 0)]
    assert places("q35", "ide") == [("ide.0", None), ("ide.1", None), ("ide.2", None)]
    assert places("q35", "ahci") == places("q35", "ide")
    assert places("pc", "ahci") == [(f"rawtap-ahci.{number}", None) for number in range(3)]


@pytest.mark.parametrize(
    ("interface", "controller"),
    [("ahci", "ahci"), ("scsi", "virtio-scsi-pci"), ("usb", "qemu-xhci"), ("sd", "sdhci-pci")],
)
def test_a_controller_that_drives_need_is_there_once_and_not_beside_the_profiles_own(
    interface: Any, controller: str
) -> None:
    drives = [Drive(path="/a", interface=interface), Drive(path="/b", interface=interface)]
    plain = Profile(arch="x86_64", machine="pc")
    assert [each["driver"] for each in devices_of(argv_of(plain, *drives))].count(controller) == 1
    own = {"driver": controller, "id": "own"}
    given = Profile(arch="x86_64", machine="pc", devices=(own,)) if interface != "ahci" else None
    if given:
        assert " ".join(argv_of(given, *drives)).count(controller) == 1


def test_a_pc_has_a_screen_then_its_card_then_the_rest_and_its_firmware_speaks_where_nobody_looks() -> None:
    profile = Profile(arch="x86_64", machine="pc", nic="e1000", devices=({"driver": "edu"},))
    argv = argv_of(profile, Drive(path="/a", interface="ide"), nic=True)
    assert [each["driver"] for each in devices_of(argv)] == ["VGA", "e1000", "edu", "ide-hd"]
    assert values_of(argv, "-machine") == ["pc,graphics=off"]
    assert values_of(argv_of(profile, gpu=True), "-machine") == ["pc"]
    assert "VGA" not in " ".join(argv_of(Profile(arch="x86_64", machine="pc", screen="none")))
    assert "VGA" not in " ".join(argv_of(Profile(arch="x86_64", machine="microvm")))
    assert values_of(argv_of(Profile(arch="ppc", machine="mac99")), "-machine") == ["mac99,graphics=off"]


def test_a_boards_own_card_is_named_by_its_netdev_alone() -> None:
    argv = argv_of(Profile(arch="arm", machine="versatilepb", nic="board"), nic=True)
    assert values_of(argv, "-net") == ["nic,netdev=net0,macaddr=m"]


def test_an_option_rom_is_there_only_where_the_network_is_booted_from() -> None:
    profile = Profile(arch="x86_64", machine="pc", nic="e1000")
    (_, card) = devices_of(argv_of(profile, nic=True))
    assert card["romfile"] == ""
    (_, card) = devices_of(argv_of(Profile(arch="x86_64", machine="pc", nic="e1000", boot="nc"), nic=True))
    assert "romfile" not in card
    assert card["bootindex"] == 0


def test_a_card_on_usb_comes_after_a_controller_for_it() -> None:
    for machine in ("pc", "virt"):
        profile = Profile(arch="x86_64" if machine == "pc" else "riscv64", machine=machine, nic="usb-net")
        drivers = [each["driver"] for each in devices_of(argv_of(profile, nic=True))]
        assert drivers[-2:] == ["qemu-xhci", "usb-net"]


def test_sound_goes_nowhere() -> None:
    argv = argv_of(Profile(arch="x86_64", machine="pc", devices=({"driver": "AC97"},)))
    assert values_of(argv, "-audiodev") == ["none,id=rawtap-silence"]
    assert devices_of(argv)[-1] == {"driver": "AC97", "audiodev": "rawtap-silence"}


def test_commas_in_files_names_are_doubled() -> None:
    profile = Profile(
        loaders=(Loader(path="/a,b", address=16),),
        fw_cfg=(FirmwareFile(name="opt/a", path="/c,d"), FirmwareFile(name="opt/b", text="e,f")),
        shares=(Share(path="/g,h", tag="t"),),
    )
    argv = argv_of(profile, Drive(path="/i,j", interface="pflash"))
    said = " ".join(argv)
    for part in ("file=/a,,b,", "file=/c,,d", "string=e,,f", "path=/g,,h,", "file.filename=/i,,j,"):
        assert part in said


def test_a_guest_with_virtiofs_has_its_memory_shared_with_the_daemon_and_no_folder_in_qemus_reach() -> None:
    share = Share(path="/s", tag="t", by="virtiofs")
    whole = Profile(shares=(Share(path="/o", tag="o"), share), memory="64")
    argv = arguments(MachineSpec(whole, None), Inherited(3, 4, shares={1: 9}))
    assert values_of(argv, "-object") == ["memory-backend-memfd,share=on,id=rawtap-ram,size=64M"]
    assert values_of(argv, "-machine") == ["virt,memory-backend=rawtap-ram"]
    assert "socket,id=share1,fd=9" in values_of(argv, "-chardev")
    assert {"driver": "vhost-user-fs-device", "chardev": "share1", "tag": "t"} in devices_of(argv)
    assert Inherited(3, 4, shares={1: 9}).descriptors == (3, 4, 9)
    assert [str(path) for path in files.of(whole)] == ["/o"]
    apart = Profile(shares=(share,), memory="64", numa=(NumaNode(memory="32"), NumaNode(memory="32M")))
    argv = arguments(MachineSpec(apart, None), Inherited(3, 4, shares={0: 9}))
    parts = [f"memory-backend-memfd,share=on,id=rawtap-ram{number},size=32M" for number in (0, 1)]
    assert (values_of(argv, "-object"), values_of(argv, "-machine")) == (parts, ["virt"])


def test_a_workstations_own_controller_has_its_disks_and_a_cd_where_its_firmware_looks() -> None:
    drives = (Drive(path="a", interface="scsi"), Drive(path="c", interface="scsi", media="cdrom", readonly=True))
    argv = argv_of(Profile(arch="sparc", machine="SS-5"), *drives)
    assert [each.partition(",driver=")[0] for each in values_of(argv, "-drive")] == [
        "if=scsi,index=0",
        "if=scsi,index=2,media=cdrom",
    ]
    assert devices_of(argv) == []
    disk, cd = drives
    argv = argv_of(Profile(arch="sparc", machine="SS-5"), cd, disk, disk, disk)
    numbers = [each.partition(",")[2].partition(",")[0] for each in values_of(argv, "-drive")]
    assert numbers == ["index=2", "index=0", "index=1", "index=3"]
    argv = argv_of(Profile(arch="riscv64", machine="virt"), *drives)
    assert [each["driver"] for each in devices_of(argv)] == ["virtio-scsi-device", "scsi-hd", "scsi-cd"]


def test_a_folder_as_a_cd_is_an_image_that_is_open_already() -> None:
    cd = Drive(path="/f", format="folder", media="cdrom", interface="ide", readonly=True)
    argv = arguments(MachineSpec(Profile(arch="x86_64", machine="pc"), None, (cd,)), Inherited(3, 4, layers={0: 9}))
    assert values_of(argv, "-add-fd") == ["fd=9,set=0"]
    file = {"driver": "file", "filename": "/dev/fdset/0", "read-only": True}
    node = {"driver": "raw", "node-name": "drive0", "read-only": True, "file": file}
    assert [json.loads(each) for each in values_of(argv, "-blockdev")] == [node]
    assert {key: devices_of(argv)[-1][key] for key in ("driver", "drive")} == {"driver": "ide-cd", "drive": "drive0"}


@pytest.mark.parametrize(
    ("drive", "readonly", "layered"),
    [
        (Drive(path="a", readonly=True), True, False),
        (Drive(path="a", readonly=True, interface="ide"), False, True),
        (Drive(path="a", media="cdrom", interface="ide"), True, False),
        (Drive(path="a"), False, False),
        (Drive(path="a", overlay=True), False, True),
        (Drive(path="/usr/lib/u-boot/qemu_arm/u-boot.bin", interface="pflash"), False, True),
        (Drive(path="/usr/lib/u-boot/qemu_arm/u-boot.bin", interface="pflash", readonly=True), True, False),
        (Drive(path=".", format="folder"), False, True),
    ],
)
def test_what_a_guest_must_not_write_goes_to_a_layer_or_is_read_only(
    tmp_path: Path, drive: Drive, *, readonly: bool, layered: bool
) -> None:
    (tmp_path / "a").write_bytes(b"")
    profile = Profile(drives=(drive,))
    spec = resolving.resolve(tmp_path, profile, BootOptions(), Allowed((tmp_path.resolve(),)))
    (found,) = spec.drives
    assert (found.readonly, spec.is_layered(found)) == (readonly, layered)
    assert spec.is_written(found) is not (readonly or layered)


def test_what_a_profile_names_is_what_qemu_may_read(tmp_path: Path) -> None:
    for name in ("d", "l", "f"):
        (tmp_path / name).write_bytes(b"")
    for name in ("s", "t"):
        (tmp_path / name).mkdir()
    profile = Profile(
        kernel="d",
        dtb="d",
        loaders=(Loader(path="l"), Loader(address=0, cpu=0)),
        fw_cfg=(FirmwareFile(name="opt/a", path="f"),),
        shares=(Share(path="s", tag="s"),),
        tftp="t",
    )
    spec = resolving.resolve(tmp_path, profile, BootOptions(), Allowed((tmp_path.resolve(),)))
    assert {path.name for path in files.of(spec.profile)} == {"d", "l", "f", "s", "t"}
    for wrong in (
        Profile(kernel="d", dtb="/etc/passwd"),
        Profile(kernel="d", loaders=(Loader(path="/etc/passwd"),)),
        Profile(kernel="d", fw_cfg=(FirmwareFile(name="opt/a", path="/etc/passwd"),)),
        Profile(kernel="d", shares=(Share(path="/etc", tag="s"),)),
        Profile(kernel="d", tftp="/etc"),
        Profile(kernel="d", drives=(Drive(path="/etc", format="folder"),)),
    ):
        with pytest.raises(PathNotAllowed):
            resolving.resolve(tmp_path, wrong, BootOptions(), Allowed((tmp_path.resolve(),)))
    with pytest.raises(GuestNotFound):
        resolving.resolve(tmp_path, Profile(kernel="d", tftp="d"), BootOptions(), Allowed((tmp_path.resolve(),)))


def test_a_folder_is_given_only_where_the_kernel_keeps_the_guest_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landlock, "lack", lambda: "none here")
    for profile in (
        Profile(shares=(Share(path=".", tag="s"),), boot="n"),
        Profile(tftp="."),
        Profile(drives=(Drive(path=".", format="folder"),)),
    ):
        with pytest.raises(PathNotAllowed, match="none here"):
            resolving.resolve(tmp_path, profile, BootOptions(), Allowed((tmp_path.resolve(),)))


def test_uefi_is_for_the_architectures_that_have_a_build() -> None:
    with pytest.raises(ProfileInvalid, match="no UEFI for s390x"):
        files.uefi(Profile(arch="s390x", uefi=True))
    assert files.uefi(Profile()) == ()


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("usb-storage", 'a disk is an entry of `drives`, with interface = "usb"'),
        ("virtio-blk-device", 'a disk is an entry of `drives`, with interface = "virtio"'),
        ("nvme", 'a disk is an entry of `drives`, with interface = "nvme"'),
        ("virtio-net-pci", "a network card is `nic`, a further one is an entry of `cards`"),
        ("e1000", "a network card is `nic`, a further one is an entry of `cards`"),
        ("virtio-9p-pci", "a folder is an entry of `shares`, by 9p"),
        ("vhost-vsock-pci", "it is what `vsock` says"),
        ("vhost-user-gpu", "it lends the guest what is the host's"),
        ("loader", "a file in memory is an entry of `loaders`"),
        ("isa-serial", "a serial port is a name in `serial`"),
        ("usb-tablt", "it is no model that a guest may have here; did you mean 'usb-tablet'?"),
    ],
)
def test_a_device_that_another_key_says_is_refused_with_that_key(model: str, words: str) -> None:
    with pytest.raises(ValueError, match="driver") as raised:
        models.device({"driver": model})
    assert str(raised.value) == f"driver {model!r}: {words}"
