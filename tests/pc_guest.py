"""A guest of a page of assembly, for a PC: it tells its serial console of each byte of the keyboard's and of each move
of the pointer, and draws on the VGA in text mode.

Keyboard bytes are those of scan code set 1, which the PC's keyboard controller gives. The pointer is the one that
VMware's guests have (QEMU's vmmouse), since it knows places and needs no driver but four instructions. The guest takes
its time over each byte, as one does that has more to do: what is typed too fast for it is lost.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

PROMPT = "ready"

_SOURCE = """
    .text
    .long 0x1badb002, 0, -0x1badb002        # what a Multiboot loader looks for
    .globl start
start:
    mov $stack_top, %esp
    movl $0xb8000, cell
    mov $0x4f20, %ax                        # a blank, white on red
    call draw
    mov $41, %ecx                           # pointer: enable it, take its greeting, let it tell places
    mov $0x45414552, %ebx
    call backdoor
    mov $39, %ecx
    mov $1, %ebx
    call backdoor
    mov $41, %ecx
    mov $0x53424152, %ebx
    call backdoor
    mov $ready, %esi
1:  lodsb
    test %al, %al
    jz look
    call put
    jmp 1b

look:
    in $0x64, %al
    test $1, %al
    jz pointer
    mov %al, %ah
    in $0x60, %al
    test $0x20, %ah                         # the PC's own mouse
    jnz look
    movzx %al, %edx
    mov $'k', %al
    mov $2, %ecx
    call tell
    test $0x80, %dl                         # a key that came up
    jnz 1f
    mov $0x1f20, %ax                        # a blank, white on blue
    call draw
1:  call newline
    mov $0x608, %edx                        # a slow guest: 3 ms a byte, by ACPI's clock of 3.58 MHz
    in %dx, %eax
    mov %eax, %ebx
1:  in %dx, %eax
    sub %ebx, %eax
    and $0xffffff, %eax
    cmp $10738, %eax
    jb 1b
    jmp look

pointer:
    mov $40, %ecx
    xor %ebx, %ebx
    call backdoor
    and $0xffff, %eax
    cmp $4, %eax
    jb look
    mov $39, %ecx
    mov $4, %ebx
    call backdoor
    push %edx                               # the wheel, y, x, the buttons
    push %ecx
    push %ebx
    push %eax
    mov $'m', %al
    mov $4, %ebp
1:  pop %edx
    mov $8, %ecx
    call tell
    mov $' ', %al
    dec %ebp
    jnz 1b
    call newline
    jmp look

backdoor:                                   # %ecx: the command, %ebx: its argument
    mov $0x564d5868, %eax
    mov $0x5658, %edx
    in %dx, %eax
    ret

draw:                                       # %ax into the next cell
    mov cell, %edi
    stosw
    mov %edi, cell
    ret

tell:                                       # %al, then the lower %ecx digits of %edx
    call put
    mov %ecx, %edi
    shl $2, %ecx
    ror %cl, %edx
    mov %edi, %ecx
1:  rol $4, %edx
    mov %dl, %al
    and $15, %al
    add $'0', %al
    cmp $'9', %al
    jbe 2f
    add $39, %al
2:  call put
    loop 1b
    ret

newline:
    mov $10, %al
put:                                        # %al on the serial port
    push %edx
    push %eax
    mov $0x3fd, %edx
1:  in %dx, %al
    test $0x20, %al
    jz 1b
    pop %eax
    mov $0x3f8, %edx
    out %al, %dx
    pop %edx
    ret

ready: .asciz "ready\\n"
    .bss
cell: .long 0
    .skip 4096
stack_top:
"""

# One that does nothing, and says nothing.
SILENT = """
    .text
    .long 0x1badb002, 0, -0x1badb002
    .globl start
start:
    cli
1:  hlt
    jmp 1b
"""

# The main block of a US keyboard, as its scan codes of set 1 number it.
_ROWS = {0x02: "1234567890-=", 0x10: "qwertyuiop[]", 0x1E: "asdfghjkl;'`", 0x2B: "\\zxcvbnm,./"}
_UPPER = {0x02: "!@#$%^&*()_+", 0x10: "QWERTYUIOP{}", 0x1E: 'ASDFGHJKL:"~', 0x2B: "|ZXCVBNM<>?"}
_OTHER = {0x0F: "\t", 0x1C: "\n", 0x39: " "}
_SHIFT = 0x2A


def make_tree(root: Path, source: str = _SOURCE) -> Path:
    """A project's folder with that guest in it."""
    root.mkdir()
    (root / "guest.s").write_text(source, encoding="ascii")
    subprocess.run(["as", "--32", "-o", root / "guest.o", root / "guest.s"], check=True)
    link = ["ld", "-m", "elf_i386", "-Ttext=0x100000", "-e", "start", "-z", "noexecstack", "--no-warn-rwx-segments"]
    subprocess.run([*link, "-o", root / "guest.elf", root / "guest.o"], check=True)
    (root / "rawtap.toml").write_text(
        'arch = "x86_64"\nmachine = "pc"\nbus = "pci"\nmemory = "32M"\n'
        f'kernel = "guest.elf"\nprompt = "{PROMPT}"\nbridge = "rawtap-br0"\n',
        encoding="ascii",
    )
    return root


def keyboard_bytes(console: str) -> list[int]:
    """The bytes that the guest had from its keyboard."""
    return [int(each, 16) for each in re.findall(r"^k([0-9a-f]{2})$", console, re.MULTILINE)]


def text_of(scan_codes: Iterable[int]) -> str:
    """What a US keyboard's user has typed; every key must come up again."""
    characters = {code + place: key for code, row in _ROWS.items() for place, key in enumerate(row)} | _OTHER
    shifted = {code + place: key for code, row in _UPPER.items() for place, key in enumerate(row)} | _OTHER
    text, held = "", list[int]()
    for code in scan_codes:
        if code & 0x80:
            held.remove(code & 0x7F)
            continue
        held.append(code)
        if code != _SHIFT:
            text += (shifted if _SHIFT in held else characters)[code]
    assert held == []
    return text


def pointer_events(console: str) -> list[tuple[int, int, int, int]]:
    """Buttons, x, y (0 to 65535) and wheel of each of the pointer's events."""
    found = re.findall(r"^m([0-9a-f]{8}) ([0-9a-f]{8}) ([0-9a-f]{8}) ([0-9a-f]{8})$", console, re.MULTILINE)
    return [(int(a, 16) & 0xFF, int(b, 16), int(c, 16), int(d, 16)) for a, b, c, d in found]
