"""The command line's `rawtap doctor --fix`: what would bring what is missing, as commands; root has them carried out.

The doctor itself reports and repairs nothing. This is the one exception, and only whoever starts it by hand gets it: no
tool does.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rawtap.guest.profile import UBOOT_KERNEL
from rawtap.host import distribution, privileges, rootless
from rawtap.host.distribution import Distribution

_PROFILE = Path("/etc/apparmor.d/rawtap")
# A program, and the packages of Debian's without which it is not there, or of no use.
_PROGRAMS = {
    "setcap": ("libcap2-bin",),
    "setpriv": ("util-linux",),
    "qemu-system-riscv64": ("qemu-system-riscv", "opensbi"),
    "dnsmasq": ("dnsmasq-base",),
    "nft": ("nftables",),
    "pasta": ("passt",),
}


@dataclass(frozen=True)
class Lacks:
    """What is missing on a machine.

    Attributes:
        packages: By Debian's names.
        setcap: The command that gives this environment its capabilities, where it has none or lost them, and opens
            /dev/net/tun.
        userns: Whether AppArmor keeps user namespaces from this environment, and has no profile for it.
    """

    packages: tuple[str, ...] = ()
    setcap: str | None = None
    userns: bool = False


@dataclass(frozen=True)
class Step:
    """A command for a shell, run as root, and what it is for."""

    why: str
    command: str


def profile(script: Path) -> str:
    """An AppArmor profile for this environment's rawtap (apparmor.d(5)): not confined, but user namespaces allowed."""
    return (
        "# Made by `rawtap doctor --fix`, for rawtap's own network namespace (docs/privilege.md). AppArmor knows a\n"
        "# script by its path, so this is for rawtap alone, and not for its interpreter.\n"
        "abi <abi/4.0>,\n"
        "include <tunables/global>\n"
        f'profile rawtap "{script}" flags=(unconfined) {{\n'
        "  userns,\n"
        "  include if exists <local/rawtap>\n"
        "}\n"
    )


def plan(lacks: Lacks, system: Distribution, prefix: Path) -> list[Step]:
    """The steps, in their order; pure."""
    return list(_steps(lacks, system, prefix))


def _steps(lacks: Lacks, system: Distribution, prefix: Path) -> Iterator[Step]:
    if command := system.install(lacks.packages):
        if system.family == "debian":
            yield Step("which packages there are", "apt-get update")
        yield Step(f"packages of {system.name}", command)
    if lacks.setcap:
        yield Step("capabilities for this environment's users, and the device that cards are made with", lacks.setcap)
    if lacks.userns:
        text = profile(prefix / "bin/rawtap")
        yield Step(
            "user namespaces for rawtap, which AppArmor keeps from others",
            f"cat >{_PROFILE} <<'END'\n{text}END\napparmor_parser --replace {_PROFILE}",
        )


def notes(lacks: Lacks, system: Distribution, *, wsl: bool) -> list[str]:
    """What no command does here; pure."""
    found = []
    if "u-boot-qemu" in lacks.packages and not system.packages(["u-boot-qemu"]):
        found.append(
            f"{system.name} has no package like Debian's u-boot-qemu: rawtap demo lacks its guest, your own work"
        )
    if lacks.packages and system.family == "other":
        found.append(system.cure(*lacks.packages))
    if system.family in distribution.UNTRIED and lacks.packages:
        found.append(f"packages are named as {distribution.UNTRIED[system.family]} lists them; this was not tried")
    if lacks.userns:
        found.append("the AppArmor profile is as Ubuntu's documents say, and was not tried there")
    if wsl:
        found.append(
            "in WSL2, KVM needs nestedVirtualization=true in Windows' .wslconfig, and /dev/net/tun stays open after a "
            "restart only where systemd=true is in /etc/wsl.conf; this is from its documents, and was not tried"
        )
    return found


def look() -> Lacks:
    """What is missing here, for whoever runs this environment; nothing is changed."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    packages = [each for program, of in _PROGRAMS.items() if not shutil.which(program, path=path) for each in of]
    if not Path(UBOOT_KERNEL).is_file():
        packages.append("u-boot-qemu")
    return Lacks(
        packages=tuple(packages),
        setcap=_setcap(),
        userns=rootless.is_kept_by_apparmor() and not _PROFILE.exists(),
    )


def _setcap() -> str | None:
    script = privileges.setcap_script()
    words = ["bash", str(script)]
    if not script.exists() or subprocess.run([*words, "--check"], capture_output=True, check=False).returncode == 0:
        return None
    own = privileges.setcap_of_the_package()
    return own[1] if own else shlex.join(words)


def run() -> int:
    """`rawtap doctor --fix`; returns the exit code."""
    system, lacks = distribution.here(), look()
    steps = plan(lacks, system, Path(sys.prefix))
    for note in notes(lacks, system, wsl=distribution.is_wsl()):
        print(f"# {note}")
    if not steps:
        print("# nothing is missing that a command would bring; rawtap doctor has all checks")
        return 0
    if os.geteuid() != 0:
        print("# an administrator runs these, or: rawtap doctor --fix | sudo sh -e")
    for step in steps:
        print(f"# {step.why}\n{step.command}", flush=True)
        if os.geteuid() == 0 and subprocess.run(["/bin/sh", "-c", step.command], check=False).returncode != 0:
            print("rawtap: this did not succeed, and what comes after it was not begun", file=sys.stderr)
            return 1
    return 0
