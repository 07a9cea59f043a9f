"""The consoles of a QEMU line: -serial, -debugcon, semihosting, and what of them is the main one. Pure."""

from __future__ import annotations

import re

from rawtap.guest import models
from rawtap.guest.hardware import MOST_PORTS, MOST_VIRTIO_PORTS, SEMIHOSTING
from rawtap.guest.line_state import Parts
from rawtap.guest.line_words import pairs

_NOWHERE = ("null", "none", "/dev/null", "file:/dev/null")
_DEFAULT_DEBUGCON = "0xe9"


def add_serial(parts: Parts, value: str) -> None:
    """-serial; each is the next port."""
    parts.ports.serial.append(value)


def add_chardev(parts: Parts, value: str) -> None:
    """-chardev: an end that ports are given by its name."""
    said = pairs(value, "backend")
    parts.chardevs[said.get("id", "")] = said.get("backend", "")
    parts.ends[f"chardev={said.get('id', '')}"] = parts.option


def add_port(parts: Parts, model: str, said: dict[str, str]) -> None:
    """-device isa-serial, which is the next serial port of a PC, virtconsole, isa-debugcon."""
    if model == "isa-debugcon":
        _add_debugcon_device(parts, said)
        return
    end = f"chardev:{said.get('chardev', '')}"
    (parts.ports.virtual if model == "virtconsole" else parts.ports.serial).append(end)


def add_parallel(parts: Parts, value: str) -> None:
    """-parallel; none is a console."""
    if value not in _NOWHERE:
        parts.leave(f"-parallel {value}", "a guest has no parallel port here", whole=True)


def add_debugcon(parts: Parts, value: str) -> None:
    """-debugcon."""
    parts.ports.debugcon = value


def _add_debugcon_device(parts: Parts, said: dict[str, str]) -> None:
    """-device isa-debugcon, with the port of the processor's that it is on."""
    parts.ports.debugcon = f"chardev:{said.get('chardev', '')}"
    if (port := said.get("iobase", _DEFAULT_DEBUGCON)) != _DEFAULT_DEBUGCON:
        parts.table.setdefault("globals", {})["isa-debugcon.iobase"] = parts.value(port)


def add_semihosting(parts: Parts, value: str) -> None:
    """-semihosting and -semihosting-config: what the program says becomes a console."""
    said = pairs(value, "enable") if value else {}
    if said.get("enable", "on") in {"off", "no", "false"}:
        return
    if parts.arch not in SEMIHOSTING:
        parts.leave("-semihosting", f"{parts.arch} has none")
        return
    parts.ports.semihosting = True
    if said.get("target", "native") == "gdb":
        parts.leave("-semihosting-config target=gdb", "what it says is a console's, and no debugger's")
    if "arg" in said:
        parts.leave("-semihosting-config arg=", "a program's arguments are what `bootargs` says")
    parts.leave_rest("-semihosting-config", said, {"enable", "target", "chardev", "arg"})


def settle(parts: Parts) -> None:
    """Which port is the main console, and the names of the others; on a PC, whether its firmware draws on the screen.

    The main one is what the line has on its own terminal, and what it has nothing of, a board's first serial port; a
    virtio console where Linux is told to speak there, or where no serial port is on the terminal. A program that speaks
    by semihosting, on a board of which the line says no port, is heard there.
    """
    ports = parts.ports
    ends = [parts.chardevs.get(port.removeprefix("chardev:"), port) for port in ports.serial]
    heard = [number for number, end in enumerate(ends) if end not in _NOWHERE]
    spoken = [number for number in heard if "stdio" in ends[number]]
    parts.table |= {key: True for key in ("debugcon", "semihosting") if _is_heard(parts, key)}
    if parts.table.get("debugcon") and not spoken and ("stdio" in _debug_end(parts) or not heard):
        if not ports.nographic:
            _main(parts, "debugcon")
    elif parts.table.get("semihosting") and not ports.serial:
        _main(parts, "semihosting")
    _virtual(parts, on_terminal=bool(spoken or ports.nographic))
    _name(parts, heard, next(iter([*spoken, *heard]), 0))
    _screen(parts)


def _virtual(parts: Parts, *, on_terminal: bool) -> None:
    """Name the virtio consoles that go somewhere; one may be the main one."""
    ends = [parts.chardevs.get(port.removeprefix("chardev:"), port) for port in parts.ports.virtual]
    for number in range(MOST_VIRTIO_PORTS, len(ends)):
        parts.leave(f"-device virtconsole {number}", f"a guest has {MOST_VIRTIO_PORTS} virtio consoles at most")
    ends = ends[:MOST_VIRTIO_PORTS]
    names = ["" if end in _NOWHERE else f"hvc{number}" for number, end in enumerate(ends)]
    told = re.search(r"(?:^|\s)console=(hvc[0-3])\b", str(parts.table.get("bootargs", "")))
    spoken = next((name for name, end in zip(names, ends, strict=True) if "stdio" in end and not on_terminal), "")
    main = told[1] if told and told[1] in names else spoken
    if main and "console" not in parts.table:
        parts.table["console"] = main
    if set(names) - {"", main}:
        parts.table["hvc"] = names


def _main(parts: Parts, port: str) -> None:
    del parts.table[port]
    parts.table["console"] = port


def _is_heard(parts: Parts, key: str) -> bool:
    return parts.ports.semihosting if key == "semihosting" else _debug_end(parts) not in ("", *_NOWHERE)


def _debug_end(parts: Parts) -> str:
    said = parts.ports.debugcon or ""
    return parts.chardevs.get(said.removeprefix("chardev:"), said)


def _name(parts: Parts, heard: list[int], main: int) -> None:
    """Name the ports that go somewhere, if there are others than the main one."""
    for number in (each for each in heard if each >= MOST_PORTS):
        parts.leave(f"-serial {parts.ports.serial[number]}", f"a guest has {MOST_PORTS} serial ports at most")
    heard = [number for number in heard if number < MOST_PORTS]
    if "console" in parts.table:
        main = -1
        heard = heard or ([0] if parts.ports.nographic else [])
    elif 0 < main < MOST_PORTS:
        parts.table["console"] = f"serial{main}"
    if set(heard) <= {main}:
        return
    names: list[str] = []
    for number in range(max(heard) + 1):
        wanted = parts.ports.serial[number] if number < len(parts.ports.serial) else ""
        match = re.fullmatch(r"chardev:([A-Za-z][A-Za-z0-9_-]{0,31})", wanted)
        name = match[1] if match and match[1] not in {*names, "debugcon", "semihosting"} else f"serial{number}"
        names.append(name if number in heard else "")
    parts.table["serial"] = names


def _screen(parts: Parts) -> None:
    pc = models.is_pc(parts.arch, parts.machine_name)
    if parts.screen:
        parts.table["screen"] = parts.screen
    if pc and not parts.screen and not parts.ports.nographic:
        parts.table["screen"] = "VGA"
    if pc and parts.ports.nographic:
        parts.machine_option("graphics", "off")
