"""The drawings: of each kind a function from a request, as JSON has it, to matplotlib's figure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from rawtap.packets.pictures.sequence import shortened

_WIDTH = 11.0  # inches, of 100 points each
_INK, _PALE, _WARM = "#1f2933", "#9aa5b1", "#c2410c"
_COLORS = ("#1f77b4", "#d9731a", "#2f855a", "#b83280", "#805ad5", "#2c7a7b", "#9aa5b1")
_ROW = 0.32  # inches
_SHOWN_LEGEND = 30


def sequence(request: dict[str, Any]) -> Figure:
    """Life lines with an arrow for each packet, and console lines between them."""
    ends, steps = request["ends"], request["steps"]
    top, bottom = 1.0, 0.35
    height = top + bottom + _ROW * max(len(steps), 1)
    figure = Figure(figsize=(_WIDTH, height))
    axes = figure.add_axes((0, bottom / height, 1, 1 - (top + bottom) / height))
    axes.set_xlim(0, _WIDTH)
    axes.set_ylim(max(len(steps), 1), 0)
    axes.axis("off")
    left, right = 1.5, _WIDTH - 1.1
    gap = (right - left) / max(len(ends) - 1, 1)
    places = [left + gap * place for place in range(len(ends))]
    room = max(int(gap / 0.085), 14)  # characters of a name
    colors = {name: _COLORS[nth % len(_COLORS)] for nth, name in enumerate(request["protocols"])}
    figure.text(0.012, 1 - 0.28 / height, request["title"], size=11, weight="bold", color=_INK, va="center")
    for place, name in zip(places, ends, strict=True):
        axes.plot([place, place], [0, len(steps)], color=_PALE, lw=0.8, zorder=1, clip_on=False)
        axes.text(
            place, -0.35, shortened(name, room), ha="center", va="bottom", weight="bold", color=_INK, clip_on=False
        )
    axes.text(0.13, -0.35, "seconds", ha="left", va="bottom", color=_PALE)
    for row, step in enumerate(steps):
        axes.text(0.13, row + 0.72, f"{step['time']:.6f}", ha="left", va="bottom", size=7.5, color=_PALE)
        if "guest" in step:
            _console(axes, row, step)
        else:
            _arrow(axes, row, step, places, colors.get(step["protocol"], _INK))
    figure.text(0.012, 0.14 / height, request["note"], size=7.5, color=_PALE, va="center")
    return figure


def _console(axes: Axes, row: int, step: dict[str, Any]) -> None:
    """A line that a guest printed, across the life lines."""
    axes.axhspan(row + 0.1, row + 0.9, xmin=0.09, xmax=0.985, color="#fdf2e3", zorder=2)
    axes.text(
        1.1, row + 0.52, f"{step['guest']} prints: {step['text']}", va="center", size=8, color=_WARM,
        family=["DejaVu Sans Mono"], zorder=3,
    )  # fmt: skip


def _arrow(axes: Axes, row: int, step: dict[str, Any], places: list[float], color: str) -> None:
    begin, end = places[step["source"]], places[step["destination"]]
    line = row + 0.82
    words = f"{step['number']}  {step['protocol']}  {step['info']}"
    if begin == end:
        axes.plot([begin], [line], marker="o", ms=4, color=color, zorder=3)
        axes.text(begin + 0.1, line - 0.08, _fitting(words, _WIDTH - begin), va="bottom", size=7.5, color=color)
        return
    head = {"arrowstyle": "-|>", "color": color, "lw": 1.1, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", xy=(end, line), xytext=(begin, line), arrowprops=head, zorder=3)
    first = min(begin, end) + 0.12
    axes.text(
        first, line - 0.05, _fitting(words, _WIDTH - first), va="bottom", size=7.5, color=color, zorder=4,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.4, "alpha": 0.85},
    )  # fmt: skip


def _fitting(words: str, inches: float) -> str:
    """As much as the picture has room for beside it."""
    return shortened(words, max(int(inches / 0.066) - 2, 8))


def traffic(request: dict[str, Any]) -> Figure:
    """Bits and packets a second over time, by protocol."""
    figure = Figure(figsize=(_WIDTH, 5.6), layout="constrained")
    bits, packets = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    width, begin = request["width"], request["begin"]
    edges = [begin + width * place for place in range(request["buckets"] + 1)]
    for axes, what in ((bits, "bits"), (packets, "packets")):
        below = [0.0] * request["buckets"]
        for nth, series in enumerate(request["series"]):
            values = [each / width for each in series[what]]
            above = [a + b for a, b in zip(below, values, strict=True)]
            color = _COLORS[nth % len(_COLORS)]
            axes.stairs(
                above, edges, baseline=below, fill=True, color=color, label=shortened(series["name"], _SHOWN_LEGEND)
            )
            below = above
        axes.set_ylim(bottom=0)
        axes.set_xlim(edges[0], edges[-1])
        axes.grid(axis="y", color="#e4e7eb", lw=0.6)
        axes.set_axisbelow(True)
    bits.yaxis.set_major_formatter(EngFormatter(unit="bit/s"))
    bits.set_ylabel("on the wire")
    packets.yaxis.set_major_formatter(EngFormatter(unit=""))
    packets.set_ylabel("packets a second")
    packets.set_xlabel(f"seconds; each step is {EngFormatter(unit='s', places=1)(width)}")
    bits.set_title(request["title"], weight="bold", color=_INK)
    handles, names = bits.get_legend_handles_labels()
    bits.legend(handles[::-1], names[::-1], loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return figure


def tcp(request: dict[str, Any]) -> Figure:
    """Of both directions: how long an acknowledgment took, and how much was in flight of what the window let."""
    figure = Figure(figsize=(_WIDTH, 7.2), layout="constrained")
    trips, *windows = figure.subplots(3, 1, sharex=True, height_ratios=[1, 1, 1])
    figure.suptitle(request["title"], x=0.012, ha="left", weight="bold", color=_INK, size=11)
    some = False
    for nth, side in enumerate(request["sides"]):
        if side["trips"]:
            some = True
            points = zip(*side["trips"], strict=True)
            trips.plot(*points, ".", ms=4, color=_COLORS[nth], label=f"data from {side['name']}")
    trips.set_ylabel("round trip")
    trips.set_title("until a segment was acknowledged, as seen where the capture stands", size=9, color=_INK)
    trips.yaxis.set_major_formatter(EngFormatter(unit="s"))
    if some:
        trips.set_ylim(bottom=0)
        trips.legend(loc="upper right", framealpha=0.9, edgecolor="none")
    for nth, (axes, side) in enumerate(zip(windows, request["sides"], strict=True)):
        _window(axes, side, _COLORS[nth])
    windows[-1].set_xlabel("seconds")
    for axes in (trips, *windows):
        axes.grid(color="#e4e7eb", lw=0.6)
        axes.set_axisbelow(True)
        axes.xaxis.set_major_locator(MaxNLocator(10))
    return figure


def _window(axes: Axes, side: dict[str, Any], color: str) -> None:
    axes.set_title(f"from {side['name']}: {EngFormatter(unit='B', places=1)(side['data'])} of data", size=9, color=_INK)
    if side["window"]:
        axes.step(
            *zip(*side["window"], strict=True), where="post", color=_PALE, lw=1.2, label="window of the other end"
        )
    if side["flight"]:
        axes.step(*zip(*side["flight"], strict=True), where="post", color=color, lw=1.2, label="in flight")
    if side["again"]:
        axes.plot(side["again"], [0] * len(side["again"]), "x", color=_WARM, ms=6, label="sent again", clip_on=False)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(EngFormatter(unit="B"))
    axes.set_ylabel("bytes")
    if axes.get_legend_handles_labels()[0]:
        axes.set_ylim(top=axes.get_ylim()[1] * 1.3)  # room for the legend
        axes.legend(loc="upper right", ncols=3, framealpha=0.9, edgecolor="none")


DRAWINGS: dict[str, Callable[[dict[str, Any]], Figure]] = {"sequence": sequence, "traffic": traffic, "tcp": tcp}
