"""What a watcher and a server say to each other.

===================================  ============================================================
asked for                            answered by
===================================  ============================================================
``{"do": "state"}``                  a line: guests, captures
``{"do": "pages", "capture": null,   for each empty line that follows, a line: what happened since
"filter": ""}``
``{"do": "stream", "capture": ID,    a line, then frames: a length of 4 bytes, big endian, and as many
"lab": NAME}``                       bytes of the file; length 0 is the end, with a line that tells how
===================================  ============================================================

A line has ``error`` where it could not be done, or is not done any longer; the last page has ``bye``.
"""

from __future__ import annotations

import struct

LENGTH = struct.Struct("!I")
