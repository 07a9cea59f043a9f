"""What a pointer does: go to a place, click, hold, drag, turn its wheel. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from rawtap.errors import RequestInvalid
from rawtap.guest import steps
from rawtap.guest.steps import Step

FAR_END = 0x7FFF  # of each axis: INPUT_EVENT_ABS_MAX in qemu/include/ui/input.h
Button = Literal["left", "middle", "right", "side", "extra", "wheel-up", "wheel-down", "wheel-left", "wheel-right"]
Action = Literal["click", "press", "release"]
BUTTONS: tuple[Button, ...] = get_args(Button)

_SECONDS = 0.02  # a guest may look at a pointer only so often, and then sees its last state
_DRAG_STEPS = 8  # a window follows a pointer that is on its way, and takes no notice of one that jumps


def is_wheel(button: Button) -> bool:
    """Whether it is a wheel, which turns by one notch at a press and cannot be held."""
    return button.startswith("wheel-")


def clicks(x: int, y: int, buttons: Sequence[Button], action: Action = "click") -> list[Step]:
    """Go to a place, then press or release or click each of `buttons` in order; no button: only go there.

    Raises:
        RequestInvalid: A wheel that should be held.
    """
    wheel = next((each for each in buttons if is_wheel(each)), None)
    if action != "click" and wheel:
        raise RequestInvalid(f"{wheel} cannot be held", cure='A wheel turns with action="click", a notch each')
    if action != "click" and not buttons:
        raise RequestInvalid(f"no button to {action}", cure='Name it: buttons=["left"]')
    there = steps.position(x, y, _SECONDS)
    ways = {"click": (True, False), "press": (True,), "release": (False,)}[action]
    return [there, *(steps.button(each, down=down, pause=_SECONDS) for each in buttons for down in ways)]


def drag(start: tuple[int, int], end: tuple[int, int], buttons: Sequence[Button]) -> list[Step]:
    """Press one button at `start`, go to `end` in a few steps, release it there.

    Raises:
        RequestInvalid: Not just one button, or a wheel.
    """
    if len(buttons) != 1 or is_wheel(buttons[0]):
        raise RequestInvalid("a drag needs one button", evidence=f"not {list(buttons)}", cure='Use buttons=["left"]')

    def on_the_way(axis: int, number: int) -> int:
        return start[axis] + (end[axis] - start[axis]) * number // _DRAG_STEPS

    numbers = range(1, _DRAG_STEPS + 1)
    return [
        steps.position(*start, _SECONDS),
        steps.button(buttons[0], down=True, pause=_SECONDS),
        *(steps.position(on_the_way(0, each), on_the_way(1, each), _SECONDS) for each in numbers),
        steps.button(buttons[0], down=False, pause=_SECONDS),
    ]
