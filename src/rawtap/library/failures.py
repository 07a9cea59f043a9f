"""What a failed test's report has of a Lab: what is wrong on the wire, and what the console showed last."""

from __future__ import annotations

from typing import Any

from rawtap.connection import CallFailed
from rawtap.library.blocking import Guest, Lab
from rawtap.tools._text import text_of
from rawtap.tools.explain import Explanation

_SHOWN = 3000  # characters of a console


def told(lab: Lab, guest: Guest | None) -> list[tuple[str, str]]:
    """A title and a text for each: every capture, ended so that its file is whole, and every guest's console.

    Raises:
        CallFailed: The Lab does not answer.
    """
    status = lab.call("qemu_status")
    sections = [section for row in status["captures"] for section in _capture(lab, row)]
    names = [row["name"] for row in status["guests"]] or ([guest.name] if guest else [])
    return [*sections, *(_console(lab, name) for name in names)]


def _capture(lab: Lab, row: dict[str, Any]) -> list[tuple[str, str]]:
    """Its counters, and what is wrong in it."""
    capture = row["capture"]
    ended = lab.call("qemu_pcap_stop", capture=capture)
    reasons = [*ended["warnings"], *filter(None, [ended["error"], ended["diagnosis"]])]
    lines = [f"{ended['packets']} packets on {ended['interface']}: {ended['path']}", *reasons]
    if ended["packets"]:
        try:
            lines.append(text_of(Explanation.model_validate(lab.call("qemu_pcap_explain", capture=capture))))
        except CallFailed as error:
            lines.append(str(error))
    return [(f"rawtap findings-{capture}", "\n".join(lines))]


def _console(lab: Lab, name: str) -> tuple[str, str]:
    """The end of what it showed; untrusted, and fit to be shown."""
    try:
        page = lab.call("qemu_read", name=name, position=0)
        while page["truncated"]:
            page = lab.call("qemu_read", name=name, position=page["position"])
        text = page["output"][-_SHOWN:]
    except CallFailed as error:
        text = str(error)
    return f"rawtap console-{name}", text
