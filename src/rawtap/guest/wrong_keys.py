"""What is wrong with a profile's keys, in words: the key, what it was given, and the nearest right one. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from rawtap.guest import models

_MOST_SHOWN = 12  # values of a key; of more, only the nearest
_LONGEST = 60
_SUGGESTS = "did you mean"

# What is written like this.
_LIKE = {
    "uuid": '"27484500-7e79-11e3-839e-f0def1e14563"',
    "memory": '"256M" or "1G"',
    "most": '"1G"',
    "modules": '"256M"',
    "mac": '"52:54:00:12:34:56", an even number first',
    "boot": '"dc", letters of QEMU\'s -boot',
    "rtc": '"utc", "localtime" or "2026-01-31T12:00:00"',
    "serial": '"disk", at most 20 letters and digits',
    "bootfile": '"pxelinux.0"',
    "fw_cfg.name": '"opt/org.example/name"',
    "name": '"guest"',
    "tag": '"src"',
    "cpus": '"0-3"',
}
# What others call it.
_MEANT = {
    "amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64", "armv8": "aarch64", "armhf": "arm", "x86": "i386",
    "riscv": "riscv64", "ppc64le": "ppc64", "loongarch": "loongarch64", "sata": "ahci", "virtio-blk": "virtio",
    "iso": "cdrom", "cd": "cdrom", "hdd": "disk", "vmdk": "qcow2", "vdi": "qcow2", "img": "raw", "dir": "folder",
    "fat": "folder", "halt": "stop", "exit": "stop", "shutdown": "stop", "restart": "reboot", "lf": "\n", "cr": "\r",
    "crlf": "\r\n", "std": "VGA", "ttys0": "serial0", "ttys1": "serial1", "com1": "serial0", "com2": "serial1",
    "none": "none", "cmdline": "bootargs", "append": "bootargs", "args": "bootargs", "cores": "smp", "cpu_count": "smp",
    "ram": "memory", "mem": "memory", "file": "path", "disk": "drives", "disks": "drives", "bios_file": "firmware",
    "username": "user", "ip": "address", "netdev": "nic", "net": "nic", "wait": "wait_for", "image": "path",
    "virtio-net-pci": "virtio-net", "virtio-net-device": "virtio-net", "log": "serial", "cid": "vsock",
}  # fmt: skip


def explain(error: ValidationError, known: Mapping[str, Iterable[str]]) -> str:
    """pydantic's findings in one line, the first three of them.

    `known` are the keys of each table, those of the outermost one by "". Of several kinds that a value was tried as,
    the one counts that it is nearest to.
    """
    by_place: dict[str, str] = {}
    for item in sorted(error.errors(include_url=False, include_context=False), key=_weight):
        place = _place(item)
        name, told = ".".join(place) or "value", _told(item, place, known)
        if name not in by_place or (_SUGGESTS in told and _SUGGESTS not in by_place[name]):
            by_place[name] = told
    lines = [f"{name}: {told}" for name, told in by_place.items()]
    more = [f"and {len(lines) - 3} more"] if len(lines) > 3 else []  # noqa: PLR2004 - as the docstring says
    return "; ".join([*lines[:3], *more])


def _weight(item: Mapping[str, Any]) -> bool:
    """A key that is missing may be one that is written wrong: the latter first."""
    return bool(item["type"] == "missing")


def _place(item: Mapping[str, Any]) -> list[str]:
    """The keys that lead to a value, without pydantic's own words for the kinds that it tried."""
    return [
        str(each) for each in item["loc"] if not re.search(r"[\[(]|^(constrained-|dict$|tuple$|Pattern$)", str(each))
    ]


def _told(item: Mapping[str, Any], place: list[str], known: Mapping[str, Iterable[str]]) -> str:
    kind, key, given = str(item["type"]), place[-1] if place else "", item["input"]
    text = str(item["msg"]).removeprefix("Value error, ")
    if kind in {"extra_forbidden", "unexpected_keyword_argument"}:
        here = list(known.get(place[0] if len(place) > 1 else "", ()))
        return f"there is no such key{nearest(key, here) or _few(here)}"
    if kind == "literal_error":
        return _of_list(str(given)[:_LONGEST], re.findall(r"'([^']*)'", text))
    if kind == "string_pattern_mismatch":
        like = _LIKE.get(".".join(each for each in place if not each.isdigit()), _LIKE.get(key, ""))
        return f"{str(given)[:_LONGEST]!r} is none{f'; it is like {like}' if like else ''}{_size(given)}"
    written = {"bool": "true or false", "int": "a number", "string": "a text in quotes", "tuple": "a list in [ ]",
               "dict": "a table in { }", "dataclass": "a table in { }"}  # fmt: skip
    kind = kind.removesuffix("_type").removesuffix("_parsing")
    if kind in written:
        return f"{str(given)[:_LONGEST]!r} is not written as {written[kind]}{_plain(kind, given)}"
    return "it must be there" if kind == "missing" else re.sub(r"^[A-Z][a-z]+ should", "it must", text)


def _size(given: object) -> str:
    """For "1GB" and "512 MiB", what was meant."""
    match = re.fullmatch(r"([1-9][0-9]{0,6}) ?([KMG])(i?B)?", str(given), re.IGNORECASE)
    return f"; did you mean '{match[1]}{match[2].upper()}'?" if match else ""


def _plain(kind: str, given: object) -> str:
    """The same value without its quotes, or in them."""
    if kind == "int" and re.fullmatch(r"[0-9]{1,20}|0x[0-9A-Fa-f]{1,16}", str(given)):
        return f"; did you mean {given}?"
    truth = {"on": "true", "yes": "true", "true": "true", "1": "true", "off": "false", "no": "false", "false": "false",
             "0": "false"}  # fmt: skip
    found = truth.get(str(given).lower()) if kind == "bool" else None
    return f"; did you mean {found}?" if found else ""


def _of_list(given: str, right: list[str]) -> str:
    right = [each.replace("\\n", "\n").replace("\\r", "\r") for each in right]
    return f"there is no {given!r}{nearest(given, right) or _few(right)}"


def _few(right: list[str]) -> str:
    shown = ", ".join(map(repr, right[:_MOST_SHOWN]))
    return f"; there is {shown}{', ...' if len(right) > _MOST_SHOWN else ''}" if right else ""


def nearest(given: str, right: Iterable[str]) -> str:
    """Words for which of `right` may have been meant, be it by another name for it; "" for none."""
    there = {each.lower(): each for each in right}
    meant = _MEANT.get(given.lower(), given).lower()
    if meant in there:
        return f"; did you mean {there[meant]!r}?"
    found = models.nearest(meant, there)
    return re.sub(r"'(.*)'", lambda match: repr(there[match[1]]), found)
