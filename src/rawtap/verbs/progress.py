"""How far long work is, on stderr where that is a terminal; nothing where it is none."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rawtap.untrusted import visible

Tell = Callable[[float, float | None, str | None], None]
"""Of a tool's progress: how much, of how much, in words."""


def silent(_: float, __: float | None = None, ___: str | None = None) -> None:
    """Tell nobody."""


@contextmanager
def shown(title: str) -> Iterator[Tell]:
    """Show a bar while the block runs. It is gone afterwards."""
    if not sys.stderr.isatty():
        yield silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    # What is told may have a guest's words in it: rich must read no markup in them.
    words = TextColumn("{task.description}", markup=False)
    bar = Progress(words, BarColumn(), TimeElapsedColumn(), console=Console(stderr=True), transient=True)
    with bar:
        task = bar.add_task(title, total=None)

        def tell(progress: float, total: float | None = None, message: str | None = None) -> None:
            told = f"{title}: {visible(message)}" if message else title
            bar.update(task, completed=progress, total=total, description=told)

        yield tell
