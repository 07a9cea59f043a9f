"""Whether KVM may run a guest: /dev/kvm is open to this user, and the guest's processor is of this machine's kind."""

from __future__ import annotations

import os
import platform

KVM_DEVICE = "/dev/kvm"

_OTHER_NAMES = {"armv7l": "arm"}  # by uname(2), where QEMU has another name for the architecture


def kvm_is_open(arch: str) -> bool:
    """Whether QEMU should try KVM for a guest of that architecture. That it can is known only once it has."""
    machine = platform.machine()
    if _OTHER_NAMES.get(machine, machine) != arch:
        return False
    try:
        device = os.open(KVM_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    os.close(device)
    return True
