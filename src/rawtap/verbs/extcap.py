"""`rawtap extcap`: running captures, and guests' cards, among the interfaces of Wireshark and tshark.

Wireshark runs the script that --install writes, with the arguments of extcap(4). Each run is one question. What it
prints is read by Wireshark, which has curly braces around values: none is within one.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rawtap.errors import BadFilter, CaptureUnknown, RawtapError
from rawtap.installing import program
from rawtap.untrusted import visible
from rawtap.verbs import wording
from rawtap.verbs.attached import Refused, attached, states
from rawtap.verbs.output import FAILED, MISUSED, WELL, complain, say
from rawtap.verbs.writing import copy, how_it_ended
from rawtap.watched.places import Place
from rawtap.watched.protocol import full_name

_FOLDERS = (".local/lib/wireshark/extcap", ".config/wireshark/extcap")  # from Wireshark 4.2 on; before
_NAME = "rawtap"
_MARK = "# written by rawtap extcap --install"
_ETHERNET = "EN10MB"
_DLTS = {_ETHERNET: "1", "RAW": "12", "LINUX_SLL": "113", "LINUX_SLL2": "276"}  # pcap-linktype(7), pcap/dlt.h


@dataclass(frozen=True)
class Interface:
    """What Wireshark is offered: a running capture, or a guest's card, with the capture on it where one runs."""

    value: str
    display: str
    place: Place
    lab: str
    capture: str | None
    link: str


def run(options: argparse.Namespace) -> int:
    """Install, or answer Wireshark; returns the exit code."""
    if options.install or options.uninstall:
        return _install(remove=options.uninstall)
    if options.print:
        say(_script(), end="")
        return WELL
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # so does Wireshark end it; nothing is held
    asked = _asked(options.left)
    if asked.extcap_interfaces:
        return _list()
    if not asked.extcap_interface:
        complain("extcap is for Wireshark: rawtap extcap --install, then rawtap's captures are among its interfaces")
        return MISUSED
    try:
        return _answer(asked)
    except (Refused, RawtapError) as error:
        complain(wording.told(error))
        return FAILED


def _asked(words: Sequence[str]) -> argparse.Namespace:
    """What Wireshark asks (extcap(4)); --packets is ours."""
    parser = argparse.ArgumentParser(prog="rawtap extcap", allow_abbrev=False)
    for name in ("--extcap-interfaces", "--extcap-dlts", "--extcap-config", "--capture"):
        parser.add_argument(name, action="store_true")
    for name in ("--extcap-version", "--extcap-interface", "--extcap-capture-filter", "--fifo", "--packets"):
        parser.add_argument(name, default="")
    return parser.parse_args(words)


def _answer(asked: argparse.Namespace) -> int:
    if asked.extcap_config:
        _say("arg", number="0", call="--packets", display="Only packets that pass", type="string", tooltip=_TOOLTIP)
        return WELL
    chosen = _found(asked.extcap_interface)
    if asked.extcap_dlts:
        _say("dlt", number=_DLTS.get(chosen.link, "147"), name=chosen.link, display=chosen.link)
        return WELL
    expression = _expression(asked)
    if not (asked.capture and asked.fifo):  # Wireshark asks whether the filter is one
        return WELL
    return _capture(chosen, expression, asked.fifo)


_TOOLTIP = "A pcap-filter(7) expression, like udp port 53"


def _expression(asked: argparse.Namespace) -> str:
    """Of both fields that Wireshark has for it.

    Raises:
        BadFilter: With libpcap's text, which is on stdout as well, where Wireshark reads it.
    """
    from rawtap import _bpf
    from rawtap.capture import filters

    given = [each for each in (asked.extcap_capture_filter, asked.packets) if each.strip()]
    expression = " and ".join(f"({each})" for each in given)
    try:
        filters.checked(expression)
        if wrong := _bpf.syntax_error(expression):
            raise BadFilter.because(expression, f"libpcap: {wrong}")
    except BadFilter as error:
        if not asked.capture:
            say(wording.told(error))
        raise
    return expression


def _capture(chosen: Interface, expression: str, fifo: str) -> int:
    if chosen.capture is None:
        raise CaptureUnknown(
            f"no capture runs on the card of {chosen.value}",
            evidence="Wireshark looks on at captures, and starts none",
            cure="Ask the guest's agent for one, or boot it with a capture (rawtap boot --capture)",
        )
    with attached(chosen.place) as server:
        server.ask(do="stream", capture=full_name(chosen.lab, chosen.capture))
        form = server.line()["format"]
        try:
            with open(fifo, "wb") as out:  # noqa: PTH123 - a pipe of Wireshark's; it opens it at its leisure
                ended = copy(server, form, expression, out)
        except BrokenPipeError:  # Wireshark has seen enough
            return WELL
        except OSError as error:
            complain(f"{fifo} cannot be written: {error.strerror}")
            return FAILED
    how_it_ended(chosen.capture, ended)
    return FAILED if ended["error"] else WELL


# ---------------------------------------------------------------------- what there is


def _list() -> int:
    from importlib.metadata import version

    _say(
        "extcap",
        version=version("rawtap"),
        display="rawtap",
        help="https://www.wireshark.org/docs/man-pages/extcap.html",
    )
    for each in _offered():
        _say("interface", value=each.value, display=each.display)
    return WELL


def _say(what: str, **values: str) -> None:
    told = "".join(f"{{{name}={visible(value).translate(_BRACES)}}}" for name, value in values.items())
    say(f"{what} {told}")


_BRACES = str.maketrans("{}", "()")


def _found(value: str) -> Interface:
    """What was offered by that name.

    Raises:
        CaptureUnknown: It is not there any more.
    """
    offered = list(_offered())
    for each in offered:
        if each.value == value:
            return each
    raise CaptureUnknown(
        f"{value} is not there any more",
        evidence=f"there are: {', '.join(each.value for each in offered) or 'none'}",
        cure="Have Wireshark refresh its interfaces (F5)",
    )


def _offered() -> Iterator[Interface]:
    """Captures that run, then guests' cards; by short names where no other server or client has the same."""
    found = [each for place, state in states() for lab in state["labs"] for each in _of(place, lab)]
    shorts = [each.value for each in found]
    for each in found:
        if shorts.count(each.value) == 1:
            yield _named(each, each.value)
        else:
            yield _named(each, "-".join(filter(None, [str(each.place.pid), each.lab, each.value])))


def _named(each: Interface, name: str) -> Interface:
    display = f"{each.display} (server {each.place.pid})"
    return Interface(f"rawtap-{name}", display, each.place, each.lab, each.capture, each.link)


def _of(place: Place, lab: dict[str, Any]) -> Iterator[Interface]:
    running = [each for each in lab["captures"] if each["state"] == "running"]
    for each in running:
        about = f"rawtap {each['id']} on {each['interface']}"
        about += f": {each['filter']}" if each["filter"] else ""
        yield Interface(each["id"], about, place, lab["name"], each["id"], each["link_type"])
    for guest in lab["guests"]:
        for number, card in enumerate(guest["cards"] if guest["state"] == "running" else [], 1):
            on_it = [each for each in running if each["interface"] == card]
            capture = on_it[-1]["id"] if on_it else None
            name = f"guest-{guest['name']}" + (f"-{number}" if number > 1 else "")
            link = on_it[-1]["link_type"] if on_it else _ETHERNET
            about = f"rawtap guest {guest['name']}, card {card}: {capture or 'no capture runs'}"
            yield Interface(name, about, place, lab["name"], capture, link)


# ---------------------------------------------------------------------- installing


def _script() -> str:
    return f'#!/bin/sh\n{_MARK}\nexec {shlex.quote(program())} extcap "$@"\n'


def _install(*, remove: bool) -> int:
    """Put the script into the user's folders of both kinds of Wireshark, or take it out; nothing else is touched."""
    code = WELL
    for folder in _FOLDERS:
        path = Path.home() / folder / _NAME
        try:
            there = path.read_text(encoding="utf-8", errors="replace") if path.exists() else None
            if there is not None and _MARK not in there:
                complain(f"{path} is not rawtap's: it stays as it is")
                code = FAILED
            elif not remove:
                path.parent.mkdir(parents=True, exist_ok=True)
                new = path.with_name(f".{_NAME}-{os.getpid()}")
                new.write_text(_script(), encoding="utf-8")
                new.chmod(0o755)
                new.replace(path)
                say(f"{visible(str(path))} is written")
            elif there is not None:
                path.unlink()
                say(f"{visible(str(path))} is removed")
        except OSError as error:
            complain(f"{path}: {error.strerror or error}")
            code = FAILED
    if not remove and not Path(program()).exists():
        complain(f"{program()} is not there, which the script starts: Wireshark will find nothing")
        code = FAILED
    if code == WELL and not remove:
        say("Wireshark has running captures among its interfaces from its next start on, or F5; tshark -D lists them")
    return code
