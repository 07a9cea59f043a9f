"""The program that draws a picture: a request in JSON on stdin, the picture's bytes on stdout.

Theory of operation. matplotlib is large, slow to load, and draws text that anybody may have sent. So it is loaded by a
process of its own, which opens nothing but its fonts once it is (`landlock.close`), and only then reads what it is to
draw. It writes no cache of fonts and reads no settings of a user's. No text is read as TeX's mathematics, which it
would else be between two dollar signs.
"""

from __future__ import annotations

import io
import json
import logging
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rawtap.host import landlock

_NOWHERE = "/nonexistent"


def main() -> None:
    """Draw what stdin asks for."""
    spec = find_spec("matplotlib")
    if spec is None or spec.origin is None:
        sys.exit("matplotlib is not installed")
    own = Path(spec.origin).parent / "mpl-data"
    os.environ["MATPLOTLIBRC"] = str(own / "matplotlibrc")
    import matplotlib as mpl

    mpl.get_cachedir = mpl.get_configdir = lambda: _NOWHERE
    logging.getLogger("matplotlib").setLevel(logging.CRITICAL)  # that it found no place for its cache
    from matplotlib.figure import Figure
    from matplotlib.font_manager import fontManager

    from rawtap.packets.pictures import drawings

    mpl.rcParams.update(
        {
            "text.parse_math": False,
            "svg.hashsalt": "rawtap",
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlelocation": "left",
            "axes.formatter.useoffset": False,
        }
    )
    fontManager.ttflist = [each for each in fontManager.ttflist if Path(each.fname).is_relative_to(own)]
    for kind in ("png", "svg"):  # which loads what draws these
        _drawn(Figure(figsize=(1, 1)), kind)
    landlock.close([os.open(own / "fonts", os.O_RDONLY | os.O_CLOEXEC)])
    request = json.load(sys.stdin)
    figure = drawings.DRAWINGS[request["of"]](request)
    sys.stdout.buffer.write(_drawn(figure, request["format"]))


def _drawn(figure: Any, kind: str) -> bytes:
    data = io.BytesIO()
    figure.savefig(data, format=kind, dpi=100, metadata={"Date": None} if kind == "svg" else None)
    return data.getvalue()


if __name__ == "__main__":
    main()
    sys.stdout.flush()
