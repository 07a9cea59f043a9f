"""Which packages a machine lacks, by its distribution's names and with what it installs them; no machine is needed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rawtap.fixing import Lacks, notes, plan, profile
from rawtap.host.distribution import Distribution, here, read

# What the distributions' own files say, as far as it is read (os-release(5)).
BOOKWORM = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_ID="12"\nID=debian\n'
TRIXIE = 'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nVERSION_ID="13"\nID=debian\n'
SID = 'PRETTY_NAME="Debian GNU/Linux forky/sid"\nID=debian\n'
NOBLE = 'PRETTY_NAME="Ubuntu 24.04.3 LTS"\nVERSION_ID="24.04"\nID=ubuntu\nID_LIKE=debian\n'
QUESTING = 'PRETTY_NAME="Ubuntu 25.10"\nVERSION_ID="25.10"\nID=ubuntu\nID_LIKE=debian\n'
MINT = 'PRETTY_NAME="Linux Mint 22"\nVERSION_ID="22"\nID=linuxmint\nID_LIKE="ubuntu debian"\n'
FEDORA = 'PRETTY_NAME="Fedora Linux 43 (Workstation Edition)"\nVERSION_ID=43\nID=fedora\n'
ROCKY = 'PRETTY_NAME="Rocky Linux 9.6"\nVERSION_ID="9.6"\nID="rocky"\nID_LIKE="rhel centos fedora"\n'
ARCH = 'PRETTY_NAME="Arch Linux"\nID=arch\nBUILD_ID=rolling\n'
TUMBLEWEED = (
    'PRETTY_NAME="openSUSE Tumbleweed"\nVERSION_ID="20261120"\nID="opensuse-tumbleweed"\nID_LIKE="opensuse suse"\n'
)
ALPINE = "PRETTY_NAME='Alpine Linux v3.22'\nVERSION_ID=3.22.1\nID=alpine\n"
SYSTEMS = {
    "bookworm": BOOKWORM,
    "trixie": TRIXIE,
    "sid": SID,
    "noble": NOBLE,
    "questing": QUESTING,
    "mint": MINT,
    "fedora": FEDORA,
    "rocky": ROCKY,
    "arch": ARCH,
    "tumbleweed": TUMBLEWEED,
    "alpine": ALPINE,
}
PREFIX = Path("/home/you/rawtap")
EVERYTHING = Lacks(
    packages=("libcap2-bin", "qemu-system-riscv", "opensbi", "dnsmasq-base", "nftables", "passt", "u-boot-qemu"),
    setcap="bash /home/you/rawtap/share/rawtap/setcap.sh",
    userns=True,
)
APT = "Run: sudo apt-get install -y --no-install-recommends"


@pytest.mark.parametrize(
    ("system", "cure"),
    [
        ("bookworm", f"{APT} dnsmasq-base qemu-system-misc"),
        ("trixie", f"{APT} dnsmasq-base qemu-system-riscv"),
        ("sid", f"{APT} dnsmasq-base qemu-system-riscv"),
        ("noble", f"{APT} dnsmasq-base qemu-system-misc"),
        ("questing", f"{APT} dnsmasq-base qemu-system-riscv"),
        ("mint", f"{APT} dnsmasq-base qemu-system-misc"),
        ("fedora", "Run: sudo dnf install -y dnsmasq qemu-system-riscv"),
        ("rocky", "Run: sudo dnf install -y dnsmasq qemu-system-riscv"),
        ("arch", "Run: sudo pacman -S --needed --noconfirm dnsmasq qemu-system-riscv"),
        ("tumbleweed", "Run: sudo zypper --non-interactive install dnsmasq qemu-extra"),
        ("alpine", "Install what this distribution has for Debian's dnsmasq-base and qemu-system-riscv"),
    ],
)
def test_a_cure_is_the_distributions_own_command(system: str, cure: str) -> None:
    assert read(SYSTEMS[system]).cure("dnsmasq-base", "qemu-system-riscv") == cure


def test_what_another_distribution_lacks_is_not_installed_and_told() -> None:
    fedora = read(FEDORA)
    assert fedora.install(["u-boot-qemu"]) is None
    assert fedora.cure("u-boot-qemu").startswith("Fedora Linux 43 (Workstation Edition) has no package of it")
    told = notes(EVERYTHING, fedora, wsl=False)
    assert any("no package like Debian's u-boot-qemu: rawtap demo lacks its guest" in each for each in told)
    assert any("named as Fedora lists them; this was not tried" in each for each in told)
    assert any("named as Fedora lists" in each for each in notes(EVERYTHING, read(ROCKY), wsl=False))
    assert not any("opensbi" in each for each in told)  # it is in QEMU's package
    assert any("AppArmor profile" in each for each in told)
    assert notes(replace(EVERYTHING, userns=False), read(TRIXIE), wsl=False) == []


def test_a_package_that_two_things_need_is_named_once() -> None:
    assert read(TUMBLEWEED).packages(["qemu-system-riscv", "qemu-system-misc"]) == ["qemu-extra"]


@pytest.mark.parametrize("text", ["", "nonsense\n=\n#ID=debian\n", 'ID="\nVERSION_ID=x\n'])
def test_odd_files_are_some_other_distribution(text: str) -> None:
    assert read(text).family == "other"


def test_this_machine_is_one_that_the_tests_run_on() -> None:
    assert here().family == "debian"


@pytest.mark.parametrize("system", ["bookworm", "noble", "fedora", "arch", "tumbleweed"])
def test_the_steps_are_in_an_order_in_which_each_finds_what_it_needs(system: str) -> None:
    commands = [each.command for each in plan(EVERYTHING, read(SYSTEMS[system]), PREFIX)]
    install = next(number for number, each in enumerate(commands) if " dnsmasq" in each)
    assert commands[install + 1 :] == [
        EVERYTHING.setcap,  # needs setcap(8), of a package
        commands[-1],
    ]
    assert "apparmor_parser --replace /etc/apparmor.d/rawtap" in commands[-1]
    assert (commands[0] == "apt-get update") == (system in {"bookworm", "noble"})


def test_an_unknown_distribution_gets_what_no_package_manager_does() -> None:
    steps = plan(EVERYTHING, read(ALPINE), PREFIX)
    assert steps[0].command == EVERYTHING.setcap
    assert any("libcap2-bin and qemu-system-riscv" in each for each in notes(EVERYTHING, read(ALPINE), wsl=False))


def test_nothing_is_done_where_nothing_is_missing() -> None:
    assert plan(Lacks(), read(NOBLE), PREFIX) == []


def test_windows_linux_is_told_what_windows_must_allow() -> None:
    assert "nestedVirtualization=true" in notes(Lacks(), Distribution("debian", "Debian", "debian", 13), wsl=True)[0]


def test_the_profile_is_for_the_script_alone_and_allows_user_namespaces() -> None:
    text = profile(PREFIX / "bin/rawtap")
    assert 'profile rawtap "/home/you/rawtap/bin/rawtap" flags=(unconfined) {\n  userns,\n' in text
    assert "python" not in text
