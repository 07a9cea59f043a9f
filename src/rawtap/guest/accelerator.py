"""Whether KVM may run a guest: /dev/kvm is open to this user, and the guest's processor is of this machine's kind."""

from __future__ import annotations

import os
import platform

KVM_DEVICE = "/dev/kvm"

_KERNEL_NAMES = {"x86_64": "x86_64", "aarch64": "aarch64", "riscv64": "riscv64", "armv7l": "arm"}  # uname(2): ours


def kvm_is_open(arch: str) -> bool:
    """Whether QEMU should try KVM for a guest of that architecture. That it can is known only once it has."""
    if _KERNEL_NAMES.get(platform.machine()) != arch:
        return False
    try:
        device = os.open(KVM_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    os.close(device)
    return True
