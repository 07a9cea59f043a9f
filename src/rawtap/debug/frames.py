"""The frame that a function of a driver's is given: found in the guest's memory by the function's arguments.

Drivers hand frames on in many ways: a pointer and a length, or a structure with both (Linux's sk_buff, BSD's mbuf,
lwIP's pbuf), or one that has the bytes in it. So each pointer among the arguments, and among the members of what they
point to, is followed, and what is there is taken for a frame if it begins as one. Without debugging information the
registers in which arguments are given are looked at.
"""

# ruff: noqa: PLR2004 - the numbers are those of the protocols

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from rawtap.debug import expressions, memory
from rawtap.debug.gdb import LOAD_SECONDS, Gdb
from rawtap.debug.records import Results, rows_at, text_at
from rawtap.debug.stops import Stop
from rawtap.errors import DebugRefused, RequestInvalid

Direction = Literal["transmit", "receive"]

_VERBS = {
    "transmit": ("tx", "xmit", "transmit", "send", "output"),
    "receive": ("rx", "recv", "receive", "input"),
}
_CARDS = (
    r"virtio_?net|vionet|vnet|vtnet|e1000e?|igb|igc|ixgbe|ne2k|ne2000|rtl\d+|r8169|pcnet|tulip|vmxnet\d?|smc\w*|lan\d+"
    r"|eth\d?|enet|emac|gmac|macb|gem|fec|genet|dwmac|stmmac|cpsw|nic|netdev|net|card"
)
# Linux's drivers for Ethernet. What sends has this type (include/linux/netdevice.h, ndo_start_xmit), and so it has of
# devices without a wire; what receives gives the whole frame to one function of the kernel's (net/ethernet/eth.c).
_LINUX_TYPES = {
    "transmit": "netdev_tx_t (struct sk_buff *, struct net_device *)",
    "receive": "__be16 (struct sk_buff *, struct net_device *)",
}
_LINUX_RECEIVES = "eth_type_trans"
_NO_WIRE = (
    *("loopback", "net_failover", "blackhole", "dummy", "noop", "teql", "vlan", "macv", "vxlan", "geneve", "br_"),
    *("bond", "team", "tun_", "tap_", "veth", "ppp", "sl_", "ifb", "nlmon", "vrf", "gre", "ip", "sit_", "vti", "xfrm"),
    *("wg_", "vcan"),
)
_MOST_NAMES = 20_000  # with a verb in them
_MOST_LOOKED_AT = 60  # arguments and members
_DEEPEST = 3
_MEMBERS = 40  # of a structure: those of an sk_buff that are pointers come last
_HEAD = 128  # bytes that are read to see whether a frame begins there
_LONGEST = 65600
_SHORTEST = 14
_PADDING = 64  # bytes that a frame may have behind its packet
_BEFORE = (0, 10, 12, 2, 4)  # bytes of a virtio header's, or of alignment, in front of a frame
_NAME = re.compile(r"[A-Za-z_]\w*")
_POINTER = re.compile(r"0x[0-9a-f]{1,16}\b")
_NUMBER = re.compile(r"[0-9]{1,20}")
_TAGS = {0x8100, 0x88A8}
_OTHER = {0x8035, 0x8863, 0x8864, 0x88B5, 0x88B6, 0x88CC, 0x888E}  # types without a length of their own
_REGISTERS = (  # in which arguments are given: System V for x86-64, RISC-V, AArch64 and Arm
    ("rdi", "rsi", "rdx", "rcx"),
    ("a0", "a1", "a2", "a3"),
    ("x0", "x1", "x2", "x3"),
    ("r0", "r1", "r2", "r3"),
)


@dataclass(frozen=True)
class Found:
    """A frame in memory: its bytes, where, and the argument or member that pointed to it."""

    data: bytes
    address: int
    by: str


@dataclass
class _Seen:
    """What the arguments hold: pointers and numbers, by what they are called, in the order of looking."""

    pointers: dict[str, int] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    direct: list[str] = field(default_factory=list)  # the arguments themselves


async def functions(gdb: Gdb, direction: Direction) -> list[str]:
    """The functions that are given frames in that direction: by their types where it is a Linux, else by their names.

    Raises:
        DebugRefused: There are too many names to look at all of them.
    """
    verbs = "|".join(_VERBS[direction])
    card_first = rf"(?:^|_|::|(?<=[a-z])(?=[A-Z]))(?:{_CARDS})(?:_\w*)?_?(?:{verbs})"
    fits = re.compile(rf"{card_first}|(?:^|_)(?:{verbs})_(?:\w*_)?(?:{_CARDS})", re.IGNORECASE)
    found: dict[str, None] = {}
    linux: dict[str, None] = {}
    parts = (*_VERBS[direction], *([_LINUX_RECEIVES] if direction == "receive" else []))
    for each in await _named(gdb, parts):
        name = text_at(each, "name").partition("(")[0]
        if text_at(each, "type") == _LINUX_TYPES[direction] and _is_of_linux(name, direction):
            linux[name] = None
        elif fits.search(name):
            found[name] = None
    return sorted(linux or found)


def _is_of_linux(name: str, direction: Direction) -> bool:
    """Whether a function of that type is a driver's, or what all drivers call."""
    return name == _LINUX_RECEIVES if direction == "receive" else not name.startswith(_NO_WIRE)


async def _named(gdb: Gdb, parts: Sequence[str]) -> list[Results]:
    """gdb's rows of the functions that have one of those in their names; of a Linux, it takes some seconds."""
    options = ("--include-nondebug", "--name", expressions.basic("|".join(parts)), "--max-results", str(_MOST_NAMES))
    results = (await gdb.command("symbol-info-functions", *options, timeout=LOAD_SECONDS)).results
    rows = [each for file in rows_at(results, "symbols", "debug") for each in rows_at(file, "symbols")]
    rows += rows_at(results, "symbols", "nondebug")
    if len(rows) >= _MOST_NAMES:
        raise DebugRefused(
            f"{_MOST_NAMES} functions or more have {' or '.join(parts)} in their names, and not all were looked at",
            cure='Name the one that is given the frame: at="card_transmit"; action="symbols" finds names',
        )
    return rows


async def frame_at(gdb: Gdb, registers: Sequence[str], stop: Stop) -> tuple[Found | None, tuple[str, ...]]:
    """The frame that the function at a stop was given, None for none; and which pointers were followed."""
    seen = _Seen()
    async for path, kind, value in _arguments(gdb, registers, stop):
        _note(seen, path, kind, value)
    for path, address in seen.pointers.items():
        head = await memory.read(gdb, address, _HEAD)
        for skipped in _BEFORE:
            length = whole(head[skipped:])
            if length is not None:
                data = await memory.read(gdb, address + skipped, _length(seen, path, length))
                if len(data) >= length:
                    return Found(data, address + skipped, path), tuple(seen.pointers)
    return await _by_types(gdb, seen), tuple(seen.pointers)


def whole(data: bytes) -> int | None:
    """How long the Ethernet frame is that begins so, without padding; None where none does."""
    at = 12
    while int.from_bytes(data[at : at + 2]) in _TAGS and at < 12 + 2 * 4:
        at += 4
    kind, body = int.from_bytes(data[at : at + 2]), data[at + 2 :]
    at += 2
    if kind == 0x0800 and len(body) >= 20 and body[0] >> 4 == 4 and body[0] & 15 >= 5:
        total = int.from_bytes(body[2:4])
        return at + total if total >= 20 else None
    if kind == 0x86DD and len(body) >= 40 and body[0] >> 4 == 6:
        return at + 40 + int.from_bytes(body[4:6])
    if kind == 0x0806 and body[:4] == b"\x00\x01\x08\x00":
        return at + 28
    return at if kind in _OTHER and any(data[:6]) else None


def _length(seen: _Seen, path: str, least: int) -> int:
    """How many bytes the frame has: a number beside its pointer that fits, else what its own header says."""
    parent = re.split(r"->|\.", path)[:-1]
    beside = [number for name, number in seen.numbers.items() if re.split(r"->|\.", name)[:-1] == parent]
    fitting = [each for each in (*beside, *seen.numbers.values()) if least <= each <= least + _PADDING]
    return min(fitting[0] if fitting else least, _LONGEST)


async def _by_types(gdb: Gdb, seen: _Seen) -> Found | None:
    """What a pointer and the number behind it say, where nothing begins as a frame: its first bytes may be wrong."""
    for path, behind in zip(seen.direct, seen.direct[1:], strict=False):
        length = seen.numbers.get(behind, 0)
        if path in seen.pointers and _SHORTEST <= length <= _LONGEST:
            data = await memory.read(gdb, seen.pointers[path], length)
            if len(data) == length:
                return Found(data, seen.pointers[path], path)
    return None


def _note(seen: _Seen, path: str, kind: str, value: str) -> None:
    match = _POINTER.match(value) or _NUMBER.fullmatch(value)
    if match is None:
        return
    number = int(match[0], 16 if match[0].startswith("0x") else 10)
    is_pointer = "*" in kind or "[" in kind or not kind
    if is_pointer and number:
        seen.pointers[path] = number
    if not is_pointer or not kind:
        seen.numbers[path] = number
    if "->" not in path and "." not in path:
        seen.direct.append(path)


async def _arguments(gdb: Gdb, registers: Sequence[str], stop: Stop) -> AsyncIterator[tuple[str, str, str]]:
    """The arguments, then what they point to: what each is called, its type, its value; those first that are near."""
    where = ("--thread", stop.thread, "--frame", "0")
    listed = (await gdb.command("stack-list-arguments", "--thread", stop.thread, "--simple-values", "0", "0")).results
    rows = [each for frame in rows_at(listed, "stack-args") for each in rows_at(frame, "args")]
    if not rows:
        async for each in _registers(gdb, registers, where):
            yield each
        return
    near = [(text_at(each, "name"), text_at(each, "type"), text_at(each, "value")) for each in rows]
    left = _MOST_LOOKED_AT
    for _ in range(_DEEPEST):
        farther: list[tuple[str, str, str]] = []
        for path, kind, value in near:
            if left <= 0 or _NAME.fullmatch(re.split(r"->|\.", path)[-1]) is None:
                continue
            left -= 1
            if "[" in kind:
                yield path, kind, await _address(gdb, where, path)
            else:
                yield path, kind, value
                farther += await _members(gdb, where, path, kind)
        near = farther


async def _registers(gdb: Gdb, registers: Sequence[str], where: Sequence[str]) -> AsyncIterator[tuple[str, str, str]]:
    names = next((each for each in _REGISTERS if set(each) <= set(registers)), ())
    for name in names:
        answer = await gdb.command("data-evaluate-expression", *where, f"(unsigned long) ${name}")
        yield f"${name}", "", text_at(answer.results, "value")


async def _address(gdb: Gdb, where: Sequence[str], path: str) -> str:
    """Where an array is, as gdb writes a pointer; "" where it is not in memory."""
    try:
        checked = expressions.expression(f"&{path}")
        return text_at((await gdb.command("data-evaluate-expression", *where, checked)).results, "value")
    except (DebugRefused, RequestInvalid):
        return ""


async def _members(gdb: Gdb, where: Sequence[str], path: str, kind: str) -> list[tuple[str, str, str]]:
    """The members of a structure, or of the one that a pointer leads to; none of anything else."""
    try:
        made = (await gdb.command("var-create", *where, "-", "*", expressions.expression(path))).results
    except (DebugRefused, RequestInvalid):
        return []
    name = text_at(made, "name")
    try:
        found: Results = (await gdb.command("var-list-children", "--all-values", name, "0", str(_MEMBERS))).results
    except DebugRefused:
        return []
    finally:
        await gdb.command("var-delete", name)
    sign = "->" if kind.rstrip().endswith("*") else "."
    rows = rows_at(found, "children")
    members = [(text_at(each, "exp"), text_at(each, "type"), text_at(each, "value")) for each in rows]
    return [(f"{path}{sign}{member}", kind, value) for member, kind, value in members if _NAME.fullmatch(member)]
