"""What a debugger may be asked: its actions, and which parameters each of them takes. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rawtap.debug.frames import Direction
from rawtap.errors import RequestInvalid

Action = Literal[
    "attach", "detach", "break", "watch", "delete", "continue", "step", "next", "stepi", "finish", "until",
    "interrupt", "reset", "where", "locals", "print", "registers", "memory", "disassemble", "symbols", "threads",
    "crash", "coverage", "trace_byte",
]  # fmt: skip

# Besides the time, which bounds any of them.
_TAKEN: dict[Action, tuple[str, ...]] = {
    "attach": (),
    "detach": (),
    "break": ("at", "expression", "on", "filter"),
    "watch": ("expression", "frame"),
    "delete": ("at",),
    "continue": (),
    "step": ("count",),
    "next": ("count",),
    "stepi": ("count",),
    "finish": ("frame",),
    "until": ("at",),
    "interrupt": (),
    "reset": (),
    "where": ("frame",),
    "locals": ("frame",),
    "print": ("expression", "frame"),
    "registers": ("expression",),
    "memory": ("expression", "at", "count", "frame"),
    "disassemble": ("at", "count"),
    "symbols": ("expression", "at"),
    "threads": ("at",),
    "crash": (),
    "coverage": ("at", "expression"),
    "trace_byte": ("packet", "offset", "at"),
}


@dataclass(frozen=True)
class Wish:
    """What is asked for; see the tool for the meaning of each."""

    action: Action
    at: str = ""
    expression: str = ""
    count: int | None = None
    frame: int = 0
    timeout: float = 10.0
    on: Direction | None = None
    filter: str = ""
    packet: int | None = None
    offset: int | None = None

    @property
    def given(self) -> list[str]:
        """The parameters that say something, but for action and time."""
        said = {
            "at": self.at != "",
            "expression": self.expression != "",
            "count": self.count is not None,
            "frame": self.frame != 0,
            "on": self.on is not None,
            "filter": self.filter != "",
            "packet": self.packet is not None,
            "offset": self.offset is not None,
        }
        return [name for name, is_said in said.items() if is_said]


def require_fitting(wish: Wish) -> None:
    """Refuse a parameter that the action does not take, or not beside another one.

    Raises:
        RequestInvalid: It says which the action takes.
    """
    taken = _TAKEN[wish.action]
    if wrong := [each for each in wish.given if each not in taken]:
        cure = f"It takes {', '.join(taken)}" if taken else "Leave it away: it takes none but timeout"
        raise RequestInvalid(f'action="{wish.action}" takes no {" and no ".join(wrong)}', cure=cure)
    if wish.filter and wish.on is None:
        raise RequestInvalid("filter selects frames of the driver's", cure='Say which: on="transmit" or "receive"')
    if wish.action == "break" and wish.expression and not wish.at and wish.on is None:
        raise RequestInvalid(
            'action="break" without at lists breakpoints, and takes no expression', cure='Like at="net_send"'
        )
    if wish.action in {"memory", "symbols"} and wish.at and wish.expression:
        raise RequestInvalid(f'action="{wish.action}" takes at or expression, not both', cure="Leave one away")
    if wish.action == "coverage" and wish.at == "idle" and wish.expression:
        raise RequestInvalid('at="idle" is for all that ran, and takes no expression', cure="Leave one of them away")
