"""All tools, in the order in which clients are shown them. To import this makes them: `server.py` does so late."""

from __future__ import annotations

from rawtap.tools import (
    capture,
    debug,
    display,
    examine,
    explain,
    follow,
    guest,
    link,
    monitor,
    packets,
    picture,
    query,
    record,
    snapshot,
    timeline,
)
from rawtap.tools._boundary import made

TOOLS = tuple(
    made(each)
    for each in (
        *guest.TOOLS,
        *link.TOOLS,
        *display.TOOLS,
        *monitor.TOOLS,
        *snapshot.TOOLS,
        *debug.TOOLS,
        *capture.TOOLS,
        *packets.TOOLS,
        *examine.TOOLS,
        *query.TOOLS,
        *picture.TOOLS,
        *explain.TOOLS,
        *follow.TOOLS,
        *timeline.TOOLS,
        *record.TOOLS,
    )
)
