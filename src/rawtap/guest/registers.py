"""What QEMU's monitor shows of processors' registers (`info registers -a`), while they run. Pure.

RISC-V: qemu/target/riscv/cpu.c, riscv_cpu_dump_state; Arm: qemu/target/arm/cpu.c, arm_cpu_dump_state.
"""

from __future__ import annotations

import re

_PROCESSOR = re.compile(r"^CPU#([0-9]+)\s*$", re.MULTILINE)
_REGISTER = re.compile(r"\b([ms](?:cause|epc|tval)|R14|PSR)[ =]+([0-9a-f]{8,16})\b")
_NAMES = {"R14": "lr", "PSR": "cpsr"}


def of_processors(text: str) -> dict[int, dict[str, int]]:
    """Those that tell of exceptions, by gdb's names of them, of each processor; none where it has none of these."""
    _, *parts = _PROCESSOR.split(text)
    return {
        int(number): {_NAMES.get(name, name): int(value, 16) for name, value in _REGISTER.findall(shown)}
        for number, shown in zip(parts[::2], parts[1::2], strict=True)
    }
