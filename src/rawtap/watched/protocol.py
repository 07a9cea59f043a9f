"""What a watcher and a server say to each other.

====================================================  ===========================================
asked for                                             answered by
====================================================  ===========================================
``{"do": "state"}``                                   a line: guests, captures
``{"do": "pages", "capture": null, "filter": ""}``    a line for each empty line that follows: what happened since
``{"do": "stream", "capture": "c1"}``                 a line; then frames: a length of 4 bytes, big endian, and as
                                                      many bytes of the file; after length 0 a line that tells how
                                                      it ended, and what a ring had removed before the first frame
====================================================  ===========================================

A line has ``error`` where it could not be done, or is not done any longer; the last page has ``bye``.
"""

from __future__ import annotations

import struct

LENGTH = struct.Struct("!I")


def full_name(lab: str, name: str) -> str:
    """Of a capture, or a guest, where several clients may have one of that name."""
    return f"{lab}/{name}" if lab else name
