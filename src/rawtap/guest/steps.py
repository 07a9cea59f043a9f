"""What a keyboard or a pointer does, one step after the other, as QMP's ``input-send-event`` takes it. Pure.

Source: qapi/ui.json of QEMU 7.2, InputEvent and its kin.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

Event = dict[str, Any]


@dataclass(frozen=True)
class Step:
    """What happens at one moment: said in words, as QMP's event, and the seconds until the next may follow."""

    said: str
    events: tuple[Event, ...]
    pause: float = 0.0


def key(name: str, *, down: bool, pause: float = 0.0) -> Step:
    """A key of QEMU's name goes down or up."""
    event = {"type": "key", "data": {"down": down, "key": {"type": "qcode", "data": name}}}
    return Step(f"{_verb(down)} {name}", (event,), pause)


def button(name: str, *, down: bool, pause: float = 0.0) -> Step:
    """A button of the pointer goes down or up."""
    event = {"type": "btn", "data": {"down": down, "button": name}}
    return Step(f"{_verb(down)} {name}", (event,), pause)


def position(x: int, y: int, pause: float = 0.0) -> Step:
    """The pointer goes to a place, 0 to 32767 from the left and from the top."""
    return Step(f"move to {x},{y}", (_axis("x", x), _axis("y", y)), pause)


def still_held(done: Iterable[Step]) -> list[Event]:
    """The events that let go of what those steps left pressed, newest first."""
    held: dict[str, Event] = {}
    for event in (event for step in done for event in step.events):
        if "down" not in event["data"]:
            continue
        name = str(event["data"].get("key") or event["data"].get("button"))
        if event["data"]["down"]:
            held[name] = event | {"data": event["data"] | {"down": False}}
        else:
            held.pop(name, None)
    return list(reversed(held.values()))


def _axis(axis: Literal["x", "y"], value: int) -> Event:
    return {"type": "abs", "data": {"axis": axis, "value": value}}


def _verb(down: bool) -> str:
    return "press" if down else "release"
