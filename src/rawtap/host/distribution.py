"""Which distribution this machine has (os-release(5)), what its packages are called, and what installs them.

Packages are named as Debian names them, and translated. `UNTRIED` says for which distributions the names are only
known from their own lists, and whose lists these are: kin may call them otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Family = Literal["debian", "fedora", "arch", "suse", "other"]

UNTRIED: dict[Family, str] = {"fedora": "Fedora", "arch": "Arch Linux", "suse": "openSUSE"}
_FILES = (Path("/etc/os-release"), Path("/usr/lib/os-release"))
_INSTALL: dict[Family, str] = {
    "debian": "apt-get install -y --no-install-recommends",
    "fedora": "dnf install -y",
    "arch": "pacman -S --needed --noconfirm",
    "suse": "zypper --non-interactive install",
}
_LIKE: dict[str, Family] = {
    "debian": "debian",
    "ubuntu": "debian",
    "fedora": "fedora",
    "rhel": "fedora",
    "arch": "arch",
    "suse": "suse",
    "opensuse": "suse",
}
# Where another family calls a package as Debian does, it is not listed.
_ELSEWHERE: dict[str, dict[Family, str]] = {
    "dnsmasq-base": {"fedora": "dnsmasq", "arch": "dnsmasq", "suse": "dnsmasq"},
    "libcap2-bin": {"fedora": "libcap", "arch": "libcap", "suse": "libcap-progs"},
    "libpcap0.8": {"fedora": "libpcap", "arch": "libpcap", "suse": "libpcap1"},
    "qemu-system-misc": {"suse": "qemu-extra"},
    "qemu-system-riscv": {"suse": "qemu-extra"},
    "qemu-system-x86": {"suse": "qemu-x86"},
    "qemu-system-arm": {"suse": "qemu-arm"},
    "qemu-system-ppc": {"suse": "qemu-ppc"},
    "qemu-system-mips": {"suse": "qemu-extra"},
    "qemu-system-sparc": {"suse": "qemu-extra"},
}
# What only Debian and its kin have: firmware comes with QEMU elsewhere, and U-Boot's builds are others.
_ONLY_DEBIANS = {"opensbi", "u-boot-qemu"}
# The first release whose emulator for RISC-V is a package of its own.
_RISCV_APART = {"debian": 13, "ubuntu": 25}


@dataclass(frozen=True)
class Distribution:
    """A distribution.

    Attributes:
        family: Whose packages it has.
        name: What it calls itself.
        kind: Its ID, like debian or ubuntu.
        release: The first number of its version; None for one that is never released, like sid.
    """

    family: Family
    name: str
    kind: str
    release: int | None = None

    def packages(self, wanted: Iterable[str]) -> list[str]:
        """What it calls these packages of Debian's, each once, without those that it does not have."""
        here = (self._name(each) for each in wanted)
        return list(dict.fromkeys(each for each in here if each))

    def install(self, wanted: Iterable[str]) -> str | None:
        """The command that installs them, None where that is not known or they are not to be had."""
        names = self.packages(wanted)
        return f"{_INSTALL[self.family]} {' '.join(names)}" if names and self.family != "other" else None

    def cure(self, *wanted: str) -> str:
        """What to do where these packages are missing."""
        if command := self.install(wanted):
            return f"Run: sudo {command}"
        if self.family == "other":
            return f"Install what this distribution has for Debian's {' and '.join(wanted)}"
        return f"{self.name} has no package of it: Debian's is {' and '.join(wanted)}"

    def _name(self, package: str) -> str | None:
        if self.family in {"debian", "other"}:
            # One that says no release is Debian before its next one; of other kin an older one is supposed.
            apart = self.release is None or self.release >= _RISCV_APART.get(self.kind, self.release + 1)
            return "qemu-system-misc" if package == "qemu-system-riscv" and not apart else package
        if package in _ONLY_DEBIANS:
            return None
        return _ELSEWHERE.get(package, {}).get(self.family, package)


def here() -> Distribution:
    """This machine's."""
    for path in _FILES:
        try:
            return read(path.read_text(encoding="utf-8", errors="replace"))
        except OSError:  # not there, or not for this user
            continue
    return read("")


def read(text: str) -> Distribution:
    """That of an os-release file."""
    said = dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    said = {key: value.strip().strip("\"'") for key, value in said.items()}
    kind = said.get("ID", "linux")
    kin = (_LIKE.get(each) for each in (kind, *said.get("ID_LIKE", "").split(), *kind.split("-")))
    release = said.get("VERSION_ID", "").partition(".")[0]
    return Distribution(
        family=next((each for each in kin if each), "other"),
        name=said.get("PRETTY_NAME", kind),
        kind=kind,
        release=int(release) if release.isdecimal() else None,
    )


def is_wsl() -> bool:
    """Whether the kernel is that of Windows' subsystem for Linux."""
    return "microsoft" in Path("/proc/sys/kernel/osrelease").read_text(encoding="ascii", errors="replace").lower()
