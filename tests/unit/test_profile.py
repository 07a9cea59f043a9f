"""What to boot, and the QEMU arguments that follow: a tree's file can say a lot, and nothing more than that."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rawtap.errors import GuestNotFound, ProfileInvalid
from rawtap.guest import models, resolving
from rawtap.guest.builtin import BUILTIN
from rawtap.guest.command_line import Inherited, arguments
from rawtap.guest.devices import Nic, tap_nic
from rawtap.guest.hardware import Arch, Drive
from rawtap.guest.line_words import pairs
from rawtap.guest.paths import RVOS_KERNEL, Allowed
from rawtap.guest.profile import (
    BUILTIN_NAMES,
    TRUSTED_BRIDGES,
    BootOptions,
    Interrupt,
    MachineSpec,
    Profile,
)
from rawtap.guest.projects import choose, overlay

NASTY = 'a,b=c "d" \'e\' $(reboot)`x`\n{"driver":"x"}'

FLAGS = {"-nodefaults", "-no-user-config", "-S"}
# Options whose value QEMU splits at commas, and which a profile has a say in.
SPLIT = {"-machine", "-m", "-smp", "-cpu", "-bios"}
WHOLE = {"-kernel", "-initrd", "-append"}
FIXED = {
    ("-accel", "kvm"),
    ("-d", "cpu_reset"),
    ("-accel", "tcg"),
    ("-chardev", "socket,id=gdb,fd=8,server=on,wait=off"),
    ("-gdb", "chardev:gdb"),
    ("-display", "none"),
    ("-chardev", "socket,id=console,fd=5"),
    ("-serial", "chardev:console"),
    ("-chardev", "socket,id=monitor,fd=6"),
    ("-mon", "chardev=monitor,mode=control"),
    ("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"),
}
JSON_KEYS = {
    "-blockdev": {"driver", "node-name", "read-only", "file", "backing"},
    "-netdev": {"type", "id", "fd"},
    "-device": {"driver", "drive", "serial", "netdev", "mac", "romfile", "bus", "unit", "id", "bootindex", "fsdev",
                "mount_tag", "audiodev", "chardev"},
}  # fmt: skip
# What an option that is not JSON may set of itself that is another part's of QEMU: always by rawtap.
OURS = {"drive": r"drive\d+", "netdev": "net0", "mac": "m", "romfile": "", "audiodev": "rawtap-silence"}
PLAIN = {
    "-boot": r"order=[a-dn-p]+",
    "-rtc": r"base=[A-Za-z0-9:-]+",
    "-icount": r"shift=(\d+|auto)",
    "-global": r"driver=[A-Za-z0-9_.-]+,property=[a-z][A-Za-z0-9_-]*,value=[A-Za-z0-9_.:+-]+",
    "-serial": "null",
    "-audiodev": "none,id=rawtap-silence",
    "-net": r"nic,netdev=net0,macaddr=m",
    "-smp": r"\d+(,[a-z]+=\d+)*",
    "-object": r"memory-backend-ram,id=rawtap-ram\d+,size=\d+[KMG]?",
    "-numa": r"node,nodeid=\d+,memdev=rawtap-ram\d+(,cpus=\d+(-\d+)?)?",
    "-uuid": r"[0-9A-Fa-f-]{36}",
}
ALWAYS = FIXED - {each for each in FIXED if each[1] in {"kvm", "cpu_reset"} or "gdb" in each[1]}


def rvos_tree(root: Path) -> Path:
    kernel = root / RVOS_KERNEL
    kernel.parent.mkdir(parents=True)
    kernel.write_bytes(b"kernel")
    return root


def tree(root: Path, toml: str) -> Path:
    (root / "rawtap.toml").write_text(toml, encoding="utf-8")
    return root


def spec_of(profile: Profile, *drives: Drive, kernel: str = "/kernel", gpu: bool = False) -> MachineSpec:
    return MachineSpec(profile, Path(kernel), drives, gpu)


def argv_of(spec: MachineSpec, nic: Nic | None = None) -> list[str]:
    return arguments(spec, Inherited(console=5, monitor=6, nic=nic))


def resolve(root: Path, profile: Profile, options: BootOptions) -> MachineSpec:
    """As for a project; what is none, and what lies outside, is in test_paths."""
    return resolving.resolve(root, profile, options, Allowed((root.resolve(),)))


def options_of(argv: list[str]) -> list[tuple[str, str]]:
    """The options with their values, read as QEMU does: an option that takes a value takes the next argument."""
    rest = iter(argv[1:])
    return [(option, "" if option in FLAGS else next(rest)) for option in rest]


def values_of(argv: list[str], option: str) -> list[str]:
    return [value for name, value in options_of(argv) if name == option]


def json_of(argv: list[str], option: str) -> list[dict[str, Any]]:
    return [json.loads(value) for value in values_of(argv, option)]


def require_known(argv: list[str]) -> None:
    """Nothing is in `argv` but what rawtap means to say."""
    assert argv[0].removeprefix("qemu-system-") in get_args(Arch)
    for option, value in options_of(argv):
        if option == "-bios" and value.startswith("/"):
            continue  # a resolved path: QEMU takes it whole
        if option in {"-machine", "-cpu"}:
            assert (models.machine if option == "-machine" else models.processor)(value) == value
        elif option in PLAIN and re.fullmatch(PLAIN[option], value):
            continue
        elif option in {"-device", "-drive", "-fw_cfg", "-fsdev"} and not value.startswith("{"):
            require_known_pairs(option, value)
        elif option in SPLIT:
            assert value
            assert not set(value) & set(",= \n\"'")
        elif option in JSON_KEYS:
            said = json.loads(value)
            assert set(said) <= JSON_KEYS[option]
            assert said.get("romfile", "") == ""
            assert said.get("backing") is None
        else:
            assert option in FLAGS | WHOLE or (option, value) in FIXED


def require_known_pairs(option: str, value: str) -> None:
    """An option that QEMU splits at commas: each part is one of ours, or a property that a guest may have."""
    said = pairs(value, {"-device": "driver", "-fsdev": "fsdriver"}.get(option, ""))
    for key, each in said.items():
        if key in {"file", "path"} or key.endswith("filename"):
            assert each.startswith("/"), value
        elif option == "-device" and key in OURS:
            assert re.fullmatch(OURS[key], each), value
        elif option == "-device" and key not in {"driver", "addr", "cpu-num", "force-raw"}:
            models.properties({key: each})
    known = {
        "-drive": {"if", "index", "driver", "node-name", "read-only", "file.driver", "file.filename", "file.read-only",
                   "backing"},
        "-fw_cfg": {"name", "file", "string"},
        "-fsdev": {"fsdriver", "id", "path", "security_model", "readonly"},
    }  # fmt: skip
    assert option not in known or set(said) <= known[option], value


def test_the_built_in_profiles_are_named_where_their_import_need_not_be_waited_for() -> None:
    assert tuple(BUILTIN) == BUILTIN_NAMES


def test_the_bridges_of_the_built_in_profiles_are_trusted() -> None:
    assert {profile.bridge for profile in BUILTIN.values()} == TRUSTED_BRIDGES


def test_an_rvos_tree_is_known_by_its_kernel(tmp_path: Path) -> None:
    assert choose(rvos_tree(tmp_path), None) == (tmp_path, (BUILTIN["rvos"], ()))


def test_the_rvos_profile_is_what_the_older_tool_did() -> None:
    rvos = BUILTIN["rvos"]
    assert (rvos.machine, rvos.prompt, rvos.shutdown_command) == ("virt", "rvos>", "shutdown")
    assert (rvos.bridge, rvos.address) == ("rvos-br0", "10.0.2.2/24")


def test_a_tree_that_says_nothing_is_told_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(GuestNotFound) as raised:
        choose(tmp_path, None)
    for part in (str(tmp_path), "rawtap.toml", RVOS_KERNEL, "u-boot-riscv64"):
        assert part in str(raised.value)


def test_a_root_that_is_not_there_is_told_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(GuestNotFound, match="/nowhere"):
        choose(tmp_path / "nowhere", None)


def test_without_a_root_the_current_folder_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(rvos_tree(tmp_path))
    assert choose(None, None) == (tmp_path, (BUILTIN["rvos"], ()))


def test_a_named_profile_needs_no_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree(tmp_path, "memory = '1G'"))
    assert choose(None, "u-boot-riscv64") == (Path("/"), (BUILTIN["u-boot-riscv64"], ()))


def test_a_name_wins_over_the_layout_of_the_tree(tmp_path: Path) -> None:
    assert choose(rvos_tree(tmp_path), "u-boot-riscv64")[1].profile == BUILTIN["u-boot-riscv64"]


def test_a_profile_that_does_not_exist_is_told_with_those_that_do(tmp_path: Path) -> None:
    with pytest.raises(ProfileInvalid, match=r"'plan9'.*rvos, u-boot-riscv64"):
        choose(tmp_path, "plan9")


def test_a_rawtap_toml_is_laid_over_the_rvos_profile_where_the_tree_has_its_kernel(tmp_path: Path) -> None:
    profile = choose(tree(rvos_tree(tmp_path), "memory = '256M'\nsmp = 2"), None)[1].profile
    assert (profile.memory, profile.smp) == ("256M", 2)
    assert (profile.prompt, profile.drives) == ("rvos>", BUILTIN["rvos"].drives)


def test_a_rawtap_toml_elsewhere_is_laid_over_the_defaults(tmp_path: Path) -> None:
    profile = choose(tree(tmp_path, "kernel = 'k'\nprompt = '$ '"), None)[1].profile
    assert profile == Profile(kernel="k", prompt="$ ")


def test_a_rawtap_toml_can_name_the_profile_that_it_changes(tmp_path: Path) -> None:
    profile = choose(tree(tmp_path, "profile = 'u-boot-riscv64'\nmemory = '1G'"), None)[1].profile
    assert (profile.name, profile.memory) == ("u-boot-riscv64", "1G")
    assert profile.interrupt == BUILTIN["u-boot-riscv64"].interrupt


def test_the_calls_profile_wins_over_the_files(tmp_path: Path) -> None:
    profile = choose(tree(tmp_path, "profile = 'u-boot-riscv64'\nmemory = '1G'"), "rvos")[1].profile
    assert (profile.name, profile.memory) == ("rvos", "1G")


def test_every_key_can_be_said_in_toml(tmp_path: Path) -> None:
    toml = """
        name = "mine"
        arch = "x86_64"
        machine = "q35"
        cpu = "max"
        memory = "2G"
        smp = 4
        bios = "none"
        kernel = "k"
        initrd = "i"
        firmware = "f"
        overlay = true
        bootargs = "console=ttyS0"
        prompt = "# "
        enter = "\\r"
        shutdown_command = "poweroff"
        bridge = "br7"
        address = "10.7.0.1/16"
        bus = "pci"

        [interrupt]
        wait_for = "key"
        send = " "

        [[drives]]
        path = "disk.qcow2"
        format = "qcow2"
        readonly = true
        serial = "disk"
        optional = true

        [[drives]]
        path = "second.img"
    """
    assert choose(tree(tmp_path, toml), None)[1].profile == Profile(
        name="mine",
        arch="x86_64",
        machine="q35",
        cpu="max",
        memory="2G",
        smp=4,
        bios="none",
        kernel="k",
        initrd="i",
        firmware="f",
        overlay=True,
        bootargs="console=ttyS0",
        drives=(
            Drive(path="disk.qcow2", format="qcow2", readonly=True, serial="disk", optional=True),
            Drive(path="second.img"),
        ),
        prompt="# ",
        interrupt=Interrupt(wait_for="key", send=" "),
        enter="\r",
        shutdown_command="poweroff",
        bridge="br7",
        address="10.7.0.1/16",
        bus="pci",
    )


@pytest.mark.parametrize(
    ("toml", "key"),
    [
        ("memroy = '1G'", "memroy: "),
        ("drives = [{path = ''}]", "drives.0.path: it must have at least 1 character"),
        ("hvc = ['a', 'b', 'c', 'd', 'e']", "hvc: it must have at most 4 items"),
        ("memory = 256", "memory: "),
        ("memory = '256'\nsmp = '2'", "smp: "),
        ("smp = true", "smp: "),
        ("overlay = 1", "overlay: "),
        ("smp = 2.0", "smp: "),
        ("smp = -1", "smp: "),
        ("smp = 65", "smp: "),
        ("arch = 'z80'", "arch: "),
        ("kernel = 1979-05-27", "kernel: "),
        ("shutdown_command = ''", "shutdown_command: "),
        ("drives = 'disk.img'", "drives: "),
        ("drives = [{path = 'a', readonly = 'yes'}]", "drives.0.readonly: "),
        ("drives = [{path = 'a'}, {path = 'b', cache = 'none'}]", "drives.1.cache: "),
        ("drives = [{format = 'raw'}]", "drives.0.path: "),
        ("drives = [{path = 'a', serial = 'a,b'}]", "drives.0.serial: "),
        ("drives = [{path = 'a', format = 'vvfat'}]", "drives.0.format: "),
        ("interrupt = {wait_for = 'key'}", "interrupt.send: "),
    ],
)
def test_a_rawtap_toml_with_a_wrong_key_is_refused_and_the_key_is_named(tmp_path: Path, toml: str, key: str) -> None:
    with pytest.raises(ProfileInvalid) as raised:
        choose(tree(tmp_path, toml), None)
    assert str(tmp_path / "rawtap.toml") in raised.value.problem
    assert key in raised.value.evidence
    assert "Known keys: profile, bus, " in raised.value.cure


def test_many_wrong_keys_are_told_in_a_bounded_text(tmp_path: Path) -> None:
    with pytest.raises(ProfileInvalid, match="and 97 more"):
        choose(tree(tmp_path, "\n".join(f"k{number} = 1" for number in range(100))), None)


@pytest.mark.parametrize(
    "content",
    [b"memory = ", b"[drives", b"memory = '1G'\nmemory = '2G'", b"\xff\xfe", b"a = " + b"[" * 100_000],
    ids=["no value", "no end", "twice", "no UTF-8", "very deep"],
)
def test_a_rawtap_toml_that_is_no_toml_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "rawtap.toml").write_bytes(content)
    with pytest.raises(ProfileInvalid, match=r"rawtap\.toml cannot be read"):
        choose(tmp_path, None)


@pytest.mark.parametrize("profile", ["'plan9'", "5", "['rvos']"])
def test_a_rawtap_toml_that_names_no_profile_is_refused(tmp_path: Path, profile: str) -> None:
    with pytest.raises(ProfileInvalid, match="there is no profile"):
        choose(tree(tmp_path, f"profile = {profile}"), None)


@pytest.mark.parametrize("key", ["machine", "cpu", "memory"])
@pytest.mark.parametrize(
    "value",
    ["virt,dumpdtb=/etc/passwd", "a=b", "-S", "a b", "a\n", " ", "{}", "../a", "128M,slots=/,maxmem=1T", "a" * 65],
)
def test_a_value_that_qemu_would_split_or_misread_is_refused(tmp_path: Path, key: str, value: str) -> None:
    with pytest.raises(ProfileInvalid, match=f"{key}: "):
        overlay(tmp_path / "rawtap.toml", {key: value}, None)


@pytest.mark.parametrize("memory", ["0", "0M", "-1M", "1T", "128 M", "128m", "1.5G", "12345678", "٣M"])
def test_a_memory_size_that_qemu_would_read_in_its_own_way_is_refused(memory: str) -> None:
    with pytest.raises(ProfileInvalid, match=r'memory: .* memory is like "256M"'):
        resolve(Path("/"), Profile(kernel="k"), BootOptions(memory=memory))


def test_the_calls_options_win_over_the_profile(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"")
    profile = Profile(kernel="missing", memory="1G", bootargs="quiet")
    spec = resolve(tmp_path, profile, BootOptions(memory="64M", bootargs="", kernel="other", gpu=True))
    assert (spec.profile.memory, spec.profile.bootargs) == ("64M", "")
    assert (spec.kernel, spec.gpu) == (tmp_path / "other", True)


def test_what_the_call_leaves_out_stays_as_the_profile_has_it(tmp_path: Path) -> None:
    (tmp_path / "k").write_bytes(b"")
    profile = Profile(kernel="k", memory="1G", bootargs="quiet")
    assert resolve(tmp_path, profile, BootOptions()) == MachineSpec(profile, tmp_path / "k", source=tmp_path)


def test_a_kernel_that_is_missing_is_told_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(GuestNotFound) as raised:
        resolve(tmp_path, BUILTIN["rvos"], BootOptions())
    assert f"the kernel {tmp_path / RVOS_KERNEL} is not there" in str(raised.value)


def test_a_kernel_that_is_a_folder_is_missing(tmp_path: Path) -> None:
    with pytest.raises(GuestNotFound):
        resolve(tmp_path, Profile(kernel="."), BootOptions())


def test_a_profile_without_a_kernel_asks_for_one(tmp_path: Path) -> None:
    with pytest.raises(GuestNotFound, match="no kernel is named"):
        resolve(tmp_path, Profile(), BootOptions())


# A path ends at a NUL, and a name in it has 255 bytes at most.
@pytest.mark.parametrize("path", ["a\0b", "a" * 300], ids=["NUL", "long name"])
@pytest.mark.parametrize("optional", [False, True])
def test_a_path_that_no_file_can_have_is_a_missing_file(tmp_path: Path, path: str, *, optional: bool) -> None:
    (tmp_path / "k").write_bytes(b"")
    with pytest.raises(GuestNotFound, match="the kernel"):
        resolve(tmp_path, Profile(kernel=path), BootOptions())
    drive = Profile(kernel="k", drives=(Drive(path=path, optional=optional),))
    if optional:
        assert resolve(tmp_path, drive, BootOptions()).drives == ()
    else:
        with pytest.raises(GuestNotFound, match="the drive"):
            resolve(tmp_path, drive, BootOptions())


def test_a_kernel_behind_links_that_go_in_circles_is_missing(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(GuestNotFound, match="the kernel"):
        resolve(tmp_path, Profile(kernel="a"), BootOptions())


def test_a_drive_deep_in_the_file_system_is_found(tmp_path: Path) -> None:
    deep = tmp_path / "/".join(["d" * 250] * 5)
    deep.mkdir(parents=True)
    (deep / "k").write_bytes(b"")
    (deep / "disk.img").write_bytes(b"")
    drives = resolve(deep, Profile(kernel="k", drives=(Drive(path="disk.img"),)), BootOptions()).drives
    assert [drive.path for drive in drives] == [str(deep / "disk.img")]


def test_boot_arguments_that_no_process_can_be_given_are_refused(tmp_path: Path) -> None:
    (tmp_path / "k").write_bytes(b"")
    with pytest.raises(ProfileInvalid, match="bootargs"):
        resolve(tmp_path, Profile(kernel="k"), BootOptions(bootargs="quiet\0"))
    with pytest.raises(ProfileInvalid, match="bootargs"):
        choose(tree(tmp_path, r'bootargs = "quiet\u0000"'), None)


def test_an_optional_drive_that_is_missing_is_left_out(tmp_path: Path) -> None:
    (rvos_tree(tmp_path) / "persist.img").write_bytes(b"")
    spec = resolve(tmp_path, BUILTIN["rvos"], BootOptions())
    assert [drive.path for drive in spec.drives] == [str(tmp_path / "persist.img")]


def test_a_drive_that_is_not_optional_is_told_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(GuestNotFound, match=f"the drive {tmp_path}/extra.img is not there"):
        resolve(rvos_tree(tmp_path), BUILTIN["rvos"], BootOptions(extra_drives=(Drive(path="extra.img"),)))


def test_extra_drives_come_behind_the_profiles_own(tmp_path: Path) -> None:
    for name in ("bin.img", "extra.img"):
        (tmp_path / name).write_bytes(b"")
    spec = resolve(rvos_tree(tmp_path), BUILTIN["rvos"], BootOptions(extra_drives=(Drive(path="extra.img"),)))
    assert [Path(drive.path).name for drive in spec.drives] == ["bin.img", "extra.img"]


def test_the_rvos_drives_keep_their_serials_and_the_read_only_one_is_read_only(tmp_path: Path) -> None:
    for name in ("bin.img", "persist.img"):
        (tmp_path / name).write_bytes(b"")
    argv = argv_of(resolve(rvos_tree(tmp_path), BUILTIN["rvos"], BootOptions()))
    blocks = json_of(argv, "-blockdev")
    assert [block["read-only"] for block in blocks] == [block["file"]["read-only"] for block in blocks] == [True, False]
    assert [block["file"]["filename"] for block in blocks] == [str(tmp_path / "bin.img"), str(tmp_path / "persist.img")]
    assert json_of(argv, "-device") == [
        {"driver": "virtio-blk-device", "drive": blocks[0]["node-name"], "serial": "bin"},
        {"driver": "virtio-blk-device", "drive": blocks[1]["node-name"], "serial": "persist"},
    ]


def test_a_drive_without_a_serial_has_none_and_its_format_is_kept() -> None:
    argv = argv_of(spec_of(Profile(bus="pci"), Drive(path="/d", format="qcow2")))
    assert json_of(argv, "-device") == [{"driver": "virtio-blk-pci", "drive": "drive0"}]
    assert json_of(argv, "-blockdev")[0]["driver"] == "qcow2"
    assert json_of(argv, "-blockdev")[0]["backing"] is None  # or QEMU opens what the image names
    assert json_of(argv, "-blockdev")[0]["file"]["driver"] == "file"


def test_a_file_name_with_commas_quotes_and_line_ends_stays_one_value(tmp_path: Path) -> None:
    (tmp_path / NASTY).write_bytes(b"")
    profile = Profile(kernel=NASTY, bootargs=NASTY, drives=(Drive(path=NASTY),))
    argv = argv_of(resolve(tmp_path, profile, BootOptions()))
    require_known(argv)
    path = str(tmp_path / NASTY)
    assert json_of(argv, "-blockdev")[0]["file"]["filename"] == path
    assert values_of(argv, "-kernel") == [path]
    assert values_of(argv, "-append") == [NASTY]


def test_a_name_that_looks_like_an_option_is_a_path(tmp_path: Path) -> None:
    (tmp_path / "-daemonize").write_bytes(b"")
    argv = argv_of(resolve(tmp_path, Profile(kernel="-daemonize", bootargs="-daemonize"), BootOptions()))
    require_known(argv)
    assert values_of(argv, "-kernel") == [str(tmp_path / "-daemonize")]
    assert values_of(argv, "-append") == ["-daemonize"]


@pytest.mark.parametrize(("bus", "driver"), [("mmio", "virtio-net-device"), ("pci", "virtio-net-pci")])
def test_a_network_card_is_given_its_descriptor_and_its_address(bus: str, driver: str) -> None:
    argv = argv_of(
        spec_of(overlay(Path("/rawtap.toml"), {"bus": bus}, None).profile), tap_nic(fd=7, mac="52:54:00:01:02:03")
    )
    assert json_of(argv, "-netdev") == [{"type": "tap", "id": "net0", "fd": "7"}]
    rom = {"romfile": ""} if bus == "pci" else {}
    assert json_of(argv, "-device") == [{"driver": driver, "netdev": "net0", "mac": "52:54:00:01:02:03"} | rom]


def test_without_a_network_card_there_is_no_network() -> None:
    argv = argv_of(spec_of(Profile()))
    assert "-nodefaults" in argv  # else QEMU makes a card with its own user network
    assert values_of(argv, "-netdev") == values_of(argv, "-device") == []


def test_a_display_comes_with_a_keyboard_and_a_tablet() -> None:
    drivers = [device["driver"] for device in json_of(argv_of(spec_of(Profile(), gpu=True)), "-device")]
    assert drivers == ["virtio-gpu-device", "virtio-keyboard-device", "virtio-tablet-device"]


def test_a_machine_starts_paused_and_confined() -> None:
    options = options_of(argv_of(spec_of(Profile())))
    assert set(options) >= ALWAYS | {("-S", ""), ("-no-user-config", "")}


def test_the_profile_says_machine_memory_processors_and_firmware() -> None:
    profile = Profile(arch="aarch64", machine="virt-9.0", cpu="cortex-a57", memory="1G", smp=2, bios="none")
    argv = argv_of(spec_of(profile))
    assert argv[0] == "qemu-system-aarch64"
    said = dict(options_of(argv))
    assert [said[key] for key in ("-machine", "-cpu", "-m", "-smp", "-bios")] == [
        "virt-9.0",
        "cortex-a57",
        "1G",
        "2",
        "none",
    ]


def test_what_the_profile_leaves_out_is_left_to_qemu() -> None:
    said = dict(options_of(argv_of(spec_of(Profile()))))
    assert not set(said) & {"-cpu", "-bios", "-append"}


@pytest.mark.parametrize("arch", ["x86_64", "ppc64", "riscv64"])
def test_a_machines_own_firmware_goes_without_saying(arch: Any) -> None:
    """To all machines but RISC-V's "default" would be a file's name."""
    assert values_of(argv_of(spec_of(Profile(arch=arch, bios="default"))), "-bios") == []


def test_firmware_wins_over_bios_and_needs_no_kernel(tmp_path: Path) -> None:
    (tmp_path / "boot.rom").write_bytes(b"")
    spec = resolve(tmp_path, Profile(firmware="boot.rom", bios="default"), BootOptions())
    assert values_of(argv_of(spec), "-bios") == [str(tmp_path / "boot.rom")]
    assert values_of(argv_of(spec), "-kernel") == []


def test_firmware_that_is_missing_is_told_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(GuestNotFound, match=f"the firmware {tmp_path}/boot.rom is not there"):
        resolve(tmp_path, Profile(firmware="boot.rom"), BootOptions())


@pytest.mark.parametrize(("options", "expected"), [(BootOptions(), True), (BootOptions(overlay=False), False)])
def test_the_call_decides_on_layers_where_it_says_so(tmp_path: Path, options: BootOptions, *, expected: bool) -> None:
    (tmp_path / "k").write_bytes(b"")
    assert resolve(tmp_path, Profile(kernel="k", overlay=True), options).overlay is expected


def test_a_layer_is_written_and_the_image_below_it_is_not() -> None:
    spec = spec_of(Profile(), Drive(path="/a", readonly=True), Drive(path="/b", format="qcow2"))
    argv = arguments(spec, Inherited(5, 6, layers={1: 7}))
    plain, layered = json_of(argv, "-blockdev")
    assert (plain["node-name"], plain["read-only"]) == ("drive0", True)
    assert (layered["node-name"], layered["driver"], layered["read-only"]) == ("drive1", "qcow2", False)
    assert layered["file"]["filename"] == "/dev/fdset/1"
    assert values_of(argv, "-add-fd") == ["fd=7,set=1"]
    below = layered["backing"]
    assert (below["file"]["filename"], below["driver"], below["backing"]) == ("/b", "qcow2", None)
    assert below["read-only"] is below["file"]["read-only"] is True
    assert [device["drive"] for device in json_of(argv, "-device")] == ["drive0", "drive1"]


def test_kvm_is_tried_first_and_only_where_it_may_serve() -> None:
    def accelerators(*, kvm: bool) -> list[str]:
        return values_of(arguments(spec_of(Profile()), Inherited(5, 6, kvm=kvm)), "-accel")

    assert accelerators(kvm=False) == ["tcg"]
    assert accelerators(kvm=True) == ["kvm", "tcg"]


def test_a_debugger_has_an_inherited_socket() -> None:
    inherited = Inherited(5, 6, tap_nic(7, "m"), gdb=8)
    argv = arguments(spec_of(Profile()), inherited)
    require_known(argv)
    assert values_of(argv, "-gdb") == ["chardev:gdb"]
    assert inherited.descriptors == (5, 6, 7, 8)


# Text that is right half of the time: else one wrong field would hide what the others can do.
_text = st.text(max_size=20) | st.sampled_from(
    [NASTY, "-daemonize", ",readonly=off", '{"a":1}', "virt", "1G", "pci", "a"]
)
_value = st.booleans() | st.integers() | _text
_properties = st.dictionaries(st.sampled_from(["bus", "addr", "romfile", "chardev", "x-y"]) | _text, _value, max_size=3)
_device = st.builds(
    lambda driver, rest: {"driver": driver} | rest,
    st.sampled_from([*sorted(models.DEVICES), "vfio-pci", "loader"]) | _text,
    _properties,
)
_drive = st.fixed_dictionaries(
    {"path": st.text(min_size=1, max_size=20)},
    optional={
        "format": st.sampled_from(["raw", "qcow2"]) | _text,
        "readonly": st.booleans(),
        "serial": st.just("disk") | _text,
        "interface": st.sampled_from(["virtio", "ide", "ahci", "nvme", "scsi", "sd", "floppy", "usb", "pflash"]),
        "media": st.just("cdrom") | _text,
        "options": _properties,
    },
)
_table = st.fixed_dictionaries(
    {},
    optional={
        "profile": st.sampled_from(sorted(BUILTIN)),
        "arch": st.sampled_from(["riscv64", "x86_64", "aarch64", "arm"]) | _text,
        "machine": st.just("virt") | _text,
        "cpu": st.just("max") | _text,
        "memory": st.just("1G") | _text,
        "smp": st.integers(1, 64) | st.integers(),
        "bios": st.sampled_from(["default", "none"]) | _text,
        "kernel": _text,
        "initrd": _text,
        "firmware": _text,
        "overlay": st.booleans(),
        "bootargs": _text,
        "drives": st.lists(_drive, max_size=3),
        "prompt": _text,
        "shutdown_command": _text,
        "bridge": _text,
        "bus": st.sampled_from(["mmio", "pci"]) | _text,
        "uefi": st.booleans(),
        "nic": st.sampled_from(models.NICS) | _text,
        "nic_options": _properties,
        "globals": st.dictionaries(st.sampled_from(["a.b", "virtio-mmio.force-legacy", "a.romfile"]) | _text, _value),
        "devices": st.lists(_device, max_size=3),
        "console": st.sampled_from(["serial0", "serial2", "debugcon"]) | _text,
        "boot": st.just("dc") | _text,
        "screen": st.sampled_from(models.SCREENS) | _text,
        "topology": st.dictionaries(st.sampled_from(["cores", "threads"]) | _text, st.integers(1, 8), max_size=2),
        "icount": st.just("auto") | st.integers(0, 9) | _text,
        "rtc": st.just("2026-01-31T12:00:00") | _text,
        "fw_cfg": st.lists(st.fixed_dictionaries({"name": st.just("opt/a") | _text, "text": _text}), max_size=2),
    },
)


@settings(max_examples=300, deadline=None, database=None)
@given(_table, st.booleans(), st.booleans())
def test_nothing_that_a_rawtap_toml_can_say_reaches_another_option(
    table: dict[str, Any], network: bool, gpu: bool
) -> None:
    try:
        profile = overlay(Path("/tree/rawtap.toml"), table, None).profile
    except ProfileInvalid:
        return
    drives = [replace(drive, path=f"/tree/{drive.path}") for drive in profile.drives]
    spec = spec_of(profile, *drives, kernel="/tree/k" + profile.kernel, gpu=gpu)
    spec = replace(spec, firmware=Path("/tree/f" + profile.firmware) if profile.firmware else None)
    spec = replace(spec, initrd=Path("/tree/i" + profile.initrd) if profile.initrd else None)
    argv = argv_of(spec, tap_nic(7, "m") if network else None)
    require_known(argv)
    assert values_of(argv, "-kernel") == [str(spec.kernel)]
    assert values_of(argv, "-initrd") == ([str(spec.initrd)] if spec.initrd else [])
    named = [block["file"]["filename"] for block in json_of(argv, "-blockdev")]
    named += [pairs(each)["file.filename"] for each in values_of(argv, "-drive")]
    assert sorted(named) == sorted(drive.path for drive in drives)
    assert values_of(argv, "-append") == [profile.bootargs] * bool(profile.bootargs)


def test_the_check_above_sees_an_argument_that_does_not_belong_there() -> None:
    argv = argv_of(spec_of(Profile(bootargs="quiet"), Drive(path="/d"), gpu=True), tap_nic(7, "m"))
    require_known(argv)
    wrong = [
        ["-daemonize", "x"],
        ["-machine", "virt,accel=kvm"],
        ["-device", '{"driver":"x","romfile":"y"}'],
        ["-blockdev", '{"driver":"qcow2","backing":"y"}'],
        ["-serial", "stdio"],
        ["-device", "virtio-blk-pci,drive=other"],
        ["-device", "isa-serial,chardev=x"],
        ["-drive", "if=sd,file.filename=/a,readonly=on"],
        ["-global", "driver=virtio-net-pci,property=romfile,value=/etc/passwd"],
    ]
    for extra in wrong:
        with pytest.raises((AssertionError, ValueError)):
            require_known([*argv, *extra])
