"""What a host that has MCP Apps shows a person: the pages in a real browser, in a page that has the official bridge."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
from mcp.client.extension import advertise
from mcp_types import TextResourceContents

from support import PATIENCE, RAWTAP, Account, serving

HOST = Path(__file__).with_name("apps") / "host.mjs"
MODULES = Path(sys.prefix) / "apps/node_modules"
ATTACK = "<img src=x onerror=window.pwned=1><script>window.pwned=1</script>"
PAGES = {
    "qemu_timeline": "ui://rawtap/timeline",
    "qemu_pcap_explain": "ui://rawtap/explain",
    "qemu_pcap_read": "ui://rawtap/packets",
    "qemu_pcap_start": "ui://rawtap/packets",
}
MIME_TYPE = "text/html;profile=mcp-app"
APPS = advertise("io.modelcontextprotocol/ui", {"mimeTypes": [MIME_TYPE]})
OTHERS = advertise("io.modelcontextprotocol/ui", {"mimeTypes": ["text/plain"]})


def test_only_a_host_that_has_pages_is_told_of_them(user: Account) -> None:
    async def scenario() -> None:
        lists = []
        for extension in (APPS, OTHERS):
            async with serving(user, extensions=[extension]) as session:
                assert session.client.server_capabilities.extensions == {"io.modelcontextprotocol/ui": {}}
                lists.append({each.name: each for each in (await session.client.list_tools()).tools})
                for uri in sorted({*PAGES.values()}):
                    (content,) = (await session.client.read_resource(uri)).contents
                    assert isinstance(content, TextResourceContents)
                    assert content.mime_type == MIME_TYPE
                    assert "http" not in content.text.replace("http-equiv", "").replace(
                        "http://www.w3.org/2000/svg", ""
                    )
                for uri in ("ui://rawtap/nothing", "ui://rawtap/../server", "ui://other/timeline"):
                    with pytest.raises(Exception, match="is no page"):
                        await session.client.read_resource(uri)
        shown, others = lists
        assert {name: each.meta["ui"]["resourceUri"] for name, each in shown.items() if each.meta} == PAGES
        without = {name: each.model_copy(update={"meta": None}) for name, each in shown.items()}
        assert others == without

    anyio.run(scenario)


def test_a_person_sees_what_happened_and_nothing_that_a_guest_wrote_is_obeyed(user: Account, tmp_path: Path) -> None:
    done = subprocess.run(
        [Path(sys.prefix) / "bin/node", HOST, MODULES, tmp_path, *user.command(RAWTAP, "serve")],
        capture_output=True,
        text=True,
        check=False,
        timeout=3 * PATIENCE,
    )
    assert done.stdout, done.stderr
    seen = json.loads(done.stdout)
    assert "thrown" not in seen, (seen["thrown"], seen.get("text"), done.stderr)
    assert seen["errors"] == []
    assert seen["pages"] == PAGES
    assert seen["protocol"] < "2026"  # that it is told so by later ones as well, another test shows

    # Nothing but text is made of what comes from the guest and the wire, and nothing is asked for.
    assert ATTACK in seen["timeline"]["list"]
    assert r"<img\032src=x\032onerror=window.pwned=1>\226\128\174gnp.example" in seen["packets"]["list"]
    for page in ("packets", "explain", "timeline"):
        assert seen[page]["strange"] == []
    assert {*seen["asked"]} <= {"/favicon.ico"}
    assert seen["forbidden"] == ["connect-src", "img-src", "script-src-attr", "script-src-elem"]
    assert seen["pwned"] is None

    # A capture, watched while it runs, and what is wrong in it at its packets.
    assert "No packet yet." in seen["empty"]
    assert "echo reply" in seen["live"]
    assert seen["soFar"] == ["no finding so far", "live"]
    assert seen["packets"]["about"] == "c1 on user:guest: 7 packets, none lost"
    assert seen["unnamed"] == seen["packets"]["about"]
    assert seen["packets"]["verdict"] == "1 finding"
    assert seen["packets"]["marked"] == [6, 7]
    assert 'pdst="10.0.2.2"' in seen["layers"]
    assert seen["refused"].startswith("capture.bad_filter: ")
    assert (seen["two"], seen["all"]) == tuple(f"{n} of 7 that match; 7 in the capture" for n in (2, 7))
    assert seen["alone"] == ["this host passes no calls on", seen["two"], False]
    assert seen["explain"]["bad"] == [6, 7]
    assert seen["explain"]["shown"] == "packets 1 to 7 of 7"
    assert "RFC 791" in seen["explain"]["findings"]
    assert "everyone" in seen["explain"]["diagram"]
    assert (seen["timeline"]["verdict"], seen["timeline"]["marked"]) == ("1 finding", 2)
    assert any("guest guest ended" in each for each in seen["timeline"]["alarms"])
    assert seen["hidden"] == 0
    assert seen["failed"].startswith("request.invalid: ")

    # Calls are the host's to pass on, each says whose it is, and there are none when the page is gone.
    assert {tuple(meta) for _, _, meta in seen["calls"]} == {("rawtap/view",)}
    assert {name for name, _, _ in seen["calls"]} <= {
        *("qemu_timeline", "qemu_pcap_read", "qemu_pcap_status", "qemu_pcap_explain"),
    }
    assert seen["after"] == 0
    assert all(each["height"] <= 1000 for each in seen["sizes"])
