"""Whether KVM may run a guest: /dev/kvm is open to this user, and the guest's processor is of this machine's kind."""

from __future__ import annotations

import os
import platform
from pathlib import Path

KVM_DEVICE = "/dev/kvm"
PROCESSORS = Path("/proc/cpuinfo")

_OTHER_NAMES = {"armv7l": "arm"}  # by uname(2), where QEMU has another name for the architecture
_EXTENSIONS = {"vmx", "svm"}  # Intel's and AMD's


def machine_arch() -> str:
    """This machine's architecture by QEMU's name."""
    machine = platform.machine()
    return _OTHER_NAMES.get(machine, machine)


def kvm_is_open(arch: str) -> bool:
    """Whether QEMU should try KVM for a guest of that architecture. That it can is known only once it has."""
    return machine_arch() == arch and not why_not_kvm()


def why_not_kvm() -> str:
    """What keeps guests of this machine's architecture from KVM; empty where nothing does.

    Some clouds offer a KVM on x86 processors that show no virtualization: it runs guests of its own kind, and
    others stand still on it from their first instructions, without an error.
    """
    if machine_arch() == "x86_64" and not _has_extensions(PROCESSORS.read_text(encoding="ascii", errors="replace")):
        return "the processor has neither vmx nor svm"
    try:
        device = os.open(KVM_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        return f"{KVM_DEVICE}: {os.strerror(error.errno or 0)}"
    os.close(device)
    return ""


def _has_extensions(processors: str) -> bool:
    """By the flags of the first processor, proc_cpuinfo(5)."""
    flags = next((line for line in processors.splitlines() if line.startswith("flags")), "")
    return not _EXTENSIONS.isdisjoint(flags.split())
