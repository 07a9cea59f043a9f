"""What hosts that have MCP Apps (SEP-1865) show of an answer: a page for each of some tools, which its data fills.

A page is one document without a reference to any other, and its policy lets nothing run but its own script, by the
script's hash. The host gives it the tool's answer, and passes on its calls of tools for what comes later.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

from mcp.server.apps import APP_MIME_TYPE
from mcp.server.lowlevel.helper_types import ReadResourceContents
from mcp.server.mcpserver.exceptions import ResourceNotFoundError
from mcp_types import Tool

SCHEME = "ui://"
ASKED_BY_A_PAGE = "rawtap/view"
"""In a call's `_meta`: a page asks, for the person who looks at it; the agent does not."""

_PLACE = SCHEME + "rawtap/"
_PAGES = {
    "qemu_timeline": "timeline",
    "qemu_pcap_explain": "explain",
    "qemu_pcap_read": "packets",
    "qemu_pcap_start": "packets",
}


def with_pages(tools: Iterable[Tool]) -> list[Tool]:
    """`tools`, each with its page's URI if it has one."""
    return [
        each.model_copy(update={"meta": {"ui": {"resourceUri": _PLACE + _PAGES[each.name]}}})
        if each.name in _PAGES
        else each
        for each in tools
    ]


def page(uri: str) -> ReadResourceContents:
    """The page of that URI.

    Raises:
        ResourceNotFoundError: There is none.
    """
    name = uri.removeprefix(_PLACE)
    if name not in _PAGES.values():
        raise ResourceNotFoundError(f"{uri[:200]!r} is no page; tools/list has their URIs")
    return ReadResourceContents(_document(name), APP_MIME_TYPE, {"ui": {"prefersBorder": True}})


@cache
def _document(name: str) -> str:
    parts = files("rawtap.tools") / "views"
    script, style = (
        "".join((parts / each).read_text("utf-8") for each in names)
        for names in (("host.js", f"{name}.js"), ("style.css",))
    )
    body = (parts / f"{name}.html").read_text("utf-8")
    own = f"script-src '{_hash(script)}'; style-src '{_hash(style)}'"
    policy = f"default-src 'none'; {own}; base-uri 'none'; form-action 'none'"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f"<title>rawtap {name}</title>\n<style>{style}</style>\n</head>\n"
        f"<body>\n{body}<script>{script}</script>\n</body>\n</html>\n"
    )


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
