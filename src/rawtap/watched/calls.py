"""The calls of a server's client, for whoever watches it: what was asked, what came of it, how long it took."""

from __future__ import annotations

import json
import time
from asyncio import CancelledError
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count

from rawtap.lab.journal import Journal

_KEPT = 500  # notes; a call has two
_SHOWN = 300  # characters


@dataclass(eq=False)
class CallLog:
    """Notes of the newest calls: one when each began, and one when it was over."""

    journal: Journal = field(default_factory=lambda: Journal(_KEPT))
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    @contextmanager
    def noted(self, name: str, arguments: Mapping[str, object]) -> Iterator[None]:
        """Note a call that lasts as long as the block."""
        number, began = next(self._numbers), time.monotonic()
        given = json.dumps(arguments, ensure_ascii=False, default=str)
        self.journal.note("call", f"#{number} {_cut(name)} {_cut(given)}")
        outcome = "ok"
        try:
            yield
        except CancelledError:
            outcome = "cancelled"
            raise
        except Exception as error:
            outcome = str(error)
            raise
        finally:
            took = time.monotonic() - began
            self.journal.note("call_ended", f"#{number} {_cut(name)} after {took:.2f} s: {_cut(outcome)}")


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"
