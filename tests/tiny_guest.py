"""A guest of a few instructions for QEMU's RISC-V machine virt, made here: it prints, and then does one thing.

Encodings: The RISC-V Instruction Set Manual, volume I, chapter 2. The UART is a
16550 at 0x10000000, the test device ("sifive_test") is at 0x100000 (hw/riscv/virt.c, hw/misc/sifive_test.c).
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

from support import Account

RESET, PASS = 0x7777, 0x5555

_T0, _T1, _T2, _A0, _S0 = 5, 6, 7, 10, 8
_UART, _TEST_DEVICE = 0x10000000, 0x100000


def fail(code: int) -> int:
    """What makes the test device end QEMU with that exit code."""
    return code << 16 | 0x3333


def _upper(opcode: int, register: int, value: int) -> int:
    return (value & 0xFFFFF) << 12 | register << 7 | opcode


def _immediate(opcode: int, function: int, to: int, source: int, value: int) -> int:
    return (value & 0xFFF) << 20 | source << 15 | function << 12 | to << 7 | opcode


def _lui(register: int, value: int) -> int:
    return _upper(0x37, register, value)


def _addi(to: int, source: int, value: int) -> int:
    return _immediate(0x13, 0, to, source, value)


def _lbu(to: int, source: int, offset: int) -> int:
    return _immediate(0x03, 4, to, source, offset)


def _store(width: int, base: int, source: int) -> int:
    return source << 20 | base << 15 | width << 12 | 0x23  # at offset 0


def _beqz(register: int, offset: int) -> int:
    bits = offset & 0x1FFF
    return (
        (bits >> 12) << 31
        | (bits >> 5 & 0x3F) << 25
        | register << 15
        | (bits >> 1 & 0xF) << 8
        | (bits >> 11 & 1) << 7
        | 0x63
    )


def _jump(offset: int) -> int:
    bits = offset & 0x1FFFFF
    return (bits >> 20) << 31 | (bits >> 1 & 0x3FF) << 21 | (bits >> 11 & 1) << 20 | (bits >> 12 & 0xFF) << 12 | 0x6F


def _load(register: int, value: int) -> list[int]:
    return [_lui(register, (value + 0x800) >> 12), _addi(register, register, value)]


def program(text: bytes, then: int | None = None, *, again: bool = False, asked: bool = False) -> bytes:
    """Print `text`; then write `then` to the test device, or print `text` again for ever, or do nothing for ever.

    `asked`: write it not before a byte comes to the UART.
    """
    assert b"\0" not in text
    begin = [
        _lui(_T0, _UART >> 12),
        _upper(0x17, _A0, 0),  # auipc: here
        0,  # to be: a0 = the text
        # the loop: a byte, until it is 0
        _lbu(_T1, _A0, 0),
        _beqz(_T1, 7 * 4),
        _lbu(_S0, _T0, 5),  # the line status: bit 5, room for a byte
        _immediate(0x13, 7, _S0, _S0, 0x20),  # andi
        _beqz(_S0, -2 * 4),
        _store(0, _T0, _T1),
        _addi(_A0, _A0, 1),
        _jump(-7 * 4),
    ]
    assert _beqz(_T1, 7 * 4) == begin[4]  # from place 4 to place 11, behind the loop
    if again:
        end = [_jump(-(len(begin) - 1) * 4)]
    elif then is not None:
        # The line status again: bit 0, a byte has come.
        wait = [_lbu(_S0, _T0, 5), _immediate(0x13, 7, _S0, _S0, 0x01), _beqz(_S0, -2 * 4)] if asked else []
        end = [*wait, _lui(_T2, _TEST_DEVICE >> 12), *_load(_T1, then), _store(2, _T2, _T1), _jump(0)]
    else:
        end = [_jump(0)]
    code = begin + end
    code[2] = _addi(_A0, _A0, (len(code) - 1) * 4)
    return struct.pack(f"<{len(code)}I", *code) + text + b"\0"


def deaf(user: Account) -> str:
    """A project whose guest never shows its prompt: its boot is in progress for as long as a test wants."""
    return tree(user, program(b"deaf\r\n"), 'prompt = "> "\n', "deaf")


def tree(user: Account, kernel: bytes, more: str = "", name: str = "tiny") -> str:
    """A project's folder that boots `kernel` and nothing else; `more` is put into its rawtap.toml."""
    root = user.home / name
    root.mkdir(exist_ok=True)
    (root / "rawtap.toml").write_text(f'bios = "none"\nkernel = "tiny.bin"\n{more}', encoding="utf-8")
    Path(root / "tiny.bin").write_bytes(kernel)
    os.chown(root, user.uid, user.gid)
    return str(root)


def powering_off(user: Account, config: str) -> Path:
    """A project whose guest, for QEMU's 64-bit Arm machine virt, powers off at once, with that configuration."""
    root = user.home / "off"
    root.mkdir()
    # movz w0, #0x8400, lsl #16; movk w0, #8: SYSTEM_OFF (Arm DEN 0022, 5.1.9); hvc #0
    (root / "kernel").write_bytes(struct.pack("<3I", 0x52B08000, 0x72800100, 0xD4000002))
    (root / "rawtap.toml").write_text(config, encoding="utf-8")
    return root
