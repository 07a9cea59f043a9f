"""All tools, in the order in which clients are shown them. To import this makes them: `server.py` does so late."""

from __future__ import annotations

from rawtap.tools import capture, display, explain, guest, link, monitor, packets, snapshot, timeline

TOOLS = (
    *guest.TOOLS,
    *link.TOOLS,
    *display.TOOLS,
    *monitor.TOOLS,
    *snapshot.TOOLS,
    *capture.TOOLS,
    *packets.TOOLS,
    *explain.TOOLS,
    *timeline.TOOLS,
)
