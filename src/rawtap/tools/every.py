"""All tools, in the order in which clients are shown them. To import this makes them: `server.py` does so late."""

from __future__ import annotations

from rawtap.tools import (
    capture,
    display,
    explain,
    follow,
    guest,
    link,
    monitor,
    packets,
    picture,
    query,
    snapshot,
    timeline,
)

TOOLS = (
    *guest.TOOLS,
    *link.TOOLS,
    *display.TOOLS,
    *monitor.TOOLS,
    *snapshot.TOOLS,
    *capture.TOOLS,
    *packets.TOOLS,
    *query.TOOLS,
    *picture.TOOLS,
    *explain.TOOLS,
    *follow.TOOLS,
    *timeline.TOOLS,
)
