"""What programs beside the server say on stderr: text that may hold what they read."""

from __future__ import annotations

import sys
from pathlib import Path

import anyio

from rawtap.ask import aside
from rawtap.host.landlock import Access
from support import PATIENCE

SAYS = r"import sys; sys.stderr.buffer.write(b'at \x1b[2J\xe2\x80\xae\xff\nline 2\n'); sys.exit(3)"


def test_no_terminal_obeys_a_complaint_and_nothing_in_it_is_hidden() -> None:
    access = Access(programs=(Path(sys.executable),), read=aside.own_files())
    ended = anyio.run(aside.run, [sys.executable, "-I", "-c", SAYS], access, b"", aside.Bounds(PATIENCE, 100))
    assert (ended.code, ended.complaint) == (3, "at \\x1b[2J\\u202e\ufffd\nline 2")
