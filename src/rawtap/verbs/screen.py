"""`rawtap watch` on a screen: guests and captures, consoles, packets, calls, each in a part of its own.

What guests and the wire say is shown as text alone: no markup of it is read, and no character of it obeyed.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from typing import Any, ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.events import Resize
from textual.widgets import DataTable, Footer, RichLog

from rawtap.errors import RawtapError
from rawtap.untrusted import visible
from rawtap.verbs import wording
from rawtap.verbs.attached import Attached, Refused
from rawtap.verbs.lines import PAUSE_SECONDS, Event, Whole, in_a_line
from rawtap.verbs.output import FAILED, WELL, complain
from rawtap.watched.protocol import full_name

_KEPT_LINES = 2000  # of each part
_PART_OF = {"console": "consoles", "packet": "packets", "call": "calls"}  # all else: what happened
_STYLES = {"error": "bold red", "lost": "yellow", "call_ended": "dim"}


class Screen(App[int]):
    """The screen of one server's watcher. It stays when the server has ended, and says how; its exit code is that."""

    CSS = """
    #top { height: auto; min-height: 5; max-height: 30%; }
    DataTable { height: auto; max-height: 100%; }
    #guests, #captures { width: 1fr; border: round $primary; }
    #middle { height: 1fr; }
    RichLog { border: round $primary; }
    #consoles { width: 1fr; }
    #packets { width: 1fr; }
    #bottom { height: 25%; }
    #calls { width: 1fr; }
    #happened { width: 1fr; }
    """
    TITLE = "rawtap watch"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "leave", "Leave"),
        Binding("ctrl+c", "leave", "Leave", show=False, priority=True),
        Binding("space", "hold", "Hold still / go on"),
        Binding("tab", "focus_next", "Next part"),
        Binding("m", "only", "This part alone / all"),
    ]
    ENABLE_COMMAND_PALETTE = False

    def __init__(self, server: Attached) -> None:
        super().__init__()
        self._server = server
        self._code = WELL
        self.ended = ""

    def compose(self) -> ComposeResult:
        """The parts."""
        with Horizontal(id="top"):
            yield _table("guests", "guest", "profile", "state", "cards")
            yield _table("captures", "capture", "on", "filter", "packets", "dropped", "state")
        with Horizontal(id="middle"):
            yield _log("consoles")
            yield _log("packets")
        with Horizontal(id="bottom"):
            yield _log("calls")
            yield _log("happened")
        yield Footer()

    def on_mount(self) -> None:
        """Begin."""
        self.run_worker(self._look_on(), exit_on_error=True)

    async def _look_on(self) -> None:
        whole = Whole()
        while not self.ended:
            try:
                page = await asyncio.to_thread(self._server.page)
            except (Refused, RawtapError) as error:
                self._show(whole.rest())
                self._end(wording.told(error), FAILED)
                return
            self._show(whole.of(page))
            self._tell_state(page["labs"])
            if "bye" in page:
                self._end(page["bye"], WELL)
            elif not page["more"]:
                await asyncio.sleep(PAUSE_SECONDS)

    def _show(self, events: list[Event]) -> None:
        for event in events:
            log = self.query_one(f"#{_PART_OF.get(event['source'], 'happened')}", _Log)
            style = _STYLES.get(event["source"]) or _STYLES.get(event.get("kind", "")) or ""
            log.add(Text(in_a_line(event, with_source=log.id == "happened"), style=style))

    def _tell_state(self, labs: list[dict[str, Any]]) -> None:
        _fill(self.query_one("#guests", DataTable), (row for lab in labs for row in _guests(lab)))
        _fill(self.query_one("#captures", DataTable), (row for lab in labs for row in _captures(lab)))

    def _end(self, how: str, code: int) -> None:
        self.ended, self._code = how, code
        at = time.strftime("%H:%M:%S")
        for each in self.query(RichLog):
            each.border_subtitle = f"ended at {at}"
        text = Text(visible(f"{at} {how} (q leaves)"), style="bold red" if code else "bold")
        self.query_one("#happened", _Log).add(text)

    def action_leave(self) -> None:
        """Leave the server alone."""
        self.exit(self._code)

    def action_hold(self) -> None:
        """Let no part scroll by itself, or all again."""
        logs = list(self.query(RichLog))
        scrolls = not logs[0].auto_scroll
        for each in logs:
            each.auto_scroll = scrolls

    def action_only(self) -> None:
        """Give the part that has the focus the whole screen, or all theirs."""
        if self.screen.maximized:
            self.screen.minimize()
        elif self.focused:
            self.screen.maximize(self.focused)


def _table(name: str, *columns: str) -> DataTable[Text]:
    table = DataTable[Text](id=name, cursor_type="none", zebra_stripes=True)
    table.add_columns(*columns)
    table.border_title = name
    return table


class _Log(RichLog):
    """Lines that are wrapped anew when its width changes."""

    def __init__(self, name: str) -> None:
        super().__init__(id=name, max_lines=_KEPT_LINES, wrap=True, markup=False, highlight=False, min_width=0)
        self._told: deque[Text] = deque(maxlen=_KEPT_LINES)
        self._wrapped_at = 0

    def add(self, text: Text) -> None:
        """One more."""
        self._told.append(text)
        self.write(text)

    def on_resize(self, event: Resize) -> None:
        """Wrap them anew."""
        super().on_resize(event)
        if (width := self.scrollable_content_region.width) != self._wrapped_at:
            self._wrapped_at = width
            self.clear()
            for each in self._told:
                self.write(each)


def _log(name: str) -> _Log:
    log = _Log(name)
    log.border_title = "what happened" if name == "happened" else f"{name} (untrusted)" if name != "calls" else name
    return log


def _fill(table: DataTable[Text], rows: Iterator[tuple[object, ...]]) -> None:
    told = [tuple(visible(str(cell)) for cell in row) for row in rows]
    if told != getattr(table, "told", None):
        table.told = told  # type: ignore[attr-defined]
        table.clear()
        for row in told:
            table.add_row(*map(Text, row))


def _guests(lab: dict[str, Any]) -> Iterator[tuple[object, ...]]:
    for each in lab["guests"]:
        yield full_name(lab["name"], each["name"]), each["profile"], each["state"], " ".join(each["cards"])


def _captures(lab: dict[str, Any]) -> Iterator[tuple[object, ...]]:
    for each in reversed(lab["captures"]):
        dropped = "not known" if each["dropped"] is None else each["dropped"]
        state = each["error"] or each["state"]
        yield full_name(lab["name"], each["id"]), each["interface"], each["filter"], each["packets"], dropped, state


def show(server: Attached) -> int:
    """Show it until the user leaves; returns the exit code."""
    screen = Screen(server)
    code = screen.run()
    if screen.ended:
        complain(screen.ended)
    return FAILED if code is None else code
