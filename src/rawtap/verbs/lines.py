"""What happened, in lines for a person: whole ones of a console, and nothing in them that a terminal obeys. Pure."""

from __future__ import annotations

import time
from typing import Any

from rawtap.untrusted import visible

PAUSE_SECONDS = 0.2  # between two looks, where nothing waits: as often as a person sees
_WAITS_FOR = 5  # pages
_LONGEST_LINE = 1000  # characters

Event = dict[str, Any]


class Whole:
    """Puts a console's lines together that came in pieces; one that gets no end waits for a few pages. Pure."""

    def __init__(self) -> None:
        self._begun: dict[tuple[str, str], tuple[Event, int]] = {}  # a line, and how many pages it has waited for

    def of(self, page: dict[str, Any]) -> list[Event]:
        """The page's events, with whole lines."""
        told: list[Event] = []
        for piece in page["events"]:
            event = piece
            if piece["source"] == "console":
                key = (piece.get("lab", ""), piece["guest"])
                begun, _ = self._begun.pop(key, (None, 0))
                if begun and begun["bytes"][1] == piece["bytes"][0]:
                    event = piece | {"time": begun["time"], "text": begun["text"] + piece["text"]}
                elif begun:  # its end came behind it
                    told.append(begun)
                if event.get("unfinished") and len(event["text"]) < _LONGEST_LINE:
                    self._begun[key] = event, 0
                    continue
            told.append(event)
        return told + (self.rest() if "bye" in page else self._too_old())

    def rest(self) -> list[Event]:
        """Lines that get no end any more, since no page follows."""
        told = [event for event, _ in self._begun.values()]
        self._begun.clear()
        return told

    def _too_old(self) -> list[Event]:
        told = []
        for key, (event, waited) in list(self._begun.items()):
            if waited >= _WAITS_FOR:
                told.append(event)
                del self._begun[key]
            else:
                self._begun[key] = event, waited + 1
        return told


def in_a_line(event: Event, *, with_source: bool = True) -> str:
    """An event: when, from where, of whom, what. No character of it is obeyed by a terminal."""
    at = event.get("time")
    clock = f"{time.strftime('%H:%M:%S', time.localtime(at))}.{int(at % 1 * 1000):03}" if at else " " * 12
    whose = [event.get("lab"), event.get("guest"), event.get("capture")] if event["source"] != "event" else []
    number = f"#{event['number']}" if "number" in event else ""
    kind = [event["kind"]] if event["source"] == "qmp" else []
    source = f"{event['source']:7}" if with_source else ""
    words = [clock, source, "/".join(filter(None, whose)) + number, *kind, event["text"]]
    return visible(" ".join(filter(None, words)))
