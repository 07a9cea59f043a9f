"""Pictures of packets, drawn by a real server, and what must not get into them."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import anyio
import pytest
from mcp_types import CallToolResult, ImageContent, TextContent
from scapy.layers.inet import ICMP, TCP, UDP
from scapy.packet import Raw
from scapy.utils import wrpcap

from rawtap.ask import picture
from rawtap.errors import PictureUnavailable
from rawtap.lab.lab import Lab
from rawtap.settings import Settings
from support import Account, Session, eventually_async, has_child, require_sound, serving
from unit.frames import back, out

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = b"GET /$x^{_ --></text><script>alert(1)</script>\xe2\x80\xae HTTP/1.1\r\nHost: $$\r\n\r\n"


def put(account: Account, frames: list[Any]) -> Path:
    path = account.home / "some.pcap"
    for nth, frame in enumerate(frames):
        frame.time = 1_700_000_000 + nth / 100
    wrpcap(str(path), frames)
    shutil.chown(path, account.uid, account.gid)
    return path


async def drawn(session: Session, **arguments: Any) -> tuple[CallToolResult, dict[str, Any]]:
    result = await session.client.call_tool("qemu_pcap_picture", arguments)
    assert not result.is_error, result.content
    require_sound("qemu_pcap_picture", result)
    return result, dict(result.structured_content or {})


def conversation() -> list[Any]:
    ends, turned = {"sport": 5000, "dport": 80}, {"sport": 80, "dport": 5000}
    frames = [
        out(TCP(**ends, flags="S", seq=100, options=[("WScale", 3)])),
        back(TCP(**turned, flags="SA", seq=700, ack=101, options=[("WScale", 2)])),
        out(TCP(**ends, flags="A", seq=101, ack=701)),
        out(TCP(**ends, flags="PA", seq=101, ack=701) / Raw(HOSTILE)),
    ]
    said, at = 101 + len(HOSTILE), 701
    for _ in range(5):
        frames.append(back(TCP(**turned, flags="PA", seq=at, ack=said) / Raw(b"y" * 1000)))
        at += 1000
        frames.append(out(TCP(**ends, flags="A", seq=said, ack=at)))
    return [*frames, out(UDP(sport=1, dport=9) / Raw(b"z"))]


def test_what_a_picture_lacks_is_said(user: Account) -> None:
    frames = conversation()
    frames[0] = frames[0] / Raw(b"x" * 400)  # data beside a SYN, RFC 7413
    path = put(user, frames)
    wish = {"path": str(path), "of": "tcp", "stream": 0, "format": "svg"}
    unscaled = "not both SYNs are among its packets: windows may be scaled by more than is drawn"

    async def scenario() -> None:
        async with serving(user, "--read-dir", user.home) as session:
            assert "notes" not in (await drawn(session, **wish))[1]
            for where, packets in (("time > 0", 13), ("time <> 0.01", 13)):
                _, about = await drawn(session, **wish, where=where)
                assert (about["packets"], about["notes"]) == (packets, [unscaled])
            path.write_bytes(path.read_bytes()[:-1])
            cut = "some.pcap ends in the middle of packet 15"
            for of in ("sequence", "traffic"):
                _, about = await drawn(session, path=str(path), of=of)
                assert (about["packets"], about["notes"]) == (14, [cut])
            assert cut in str(await session.refused("qemu_pcap_picture", path=str(path), where="protocol = 'UDP'"))

    anyio.run(scenario)


@pytest.mark.parametrize("of", ["sequence", "traffic", "tcp"])
def test_a_picture_is_an_image_and_a_file(user: Account, of: str) -> None:
    path = put(user, conversation())

    async def scenario() -> None:
        async with serving(user, "--read-dir", user.home) as session:
            wish = {"of": of, "path": str(path), **({"stream": 0} if of == "tcp" else {})}
            result, about = await drawn(session, **wish)
            image, text = result.content
            assert isinstance(image, ImageContent)
            assert isinstance(text, TextContent)
            data = base64.b64decode(image.data)
            assert (data[:8], image.mime_type, about["size_bytes"]) == (b"\x89PNG\r\n\x1a\n", "image/png", len(data))
            width, height = struct.unpack(">II", data[16:24])
            assert 1000 < width < 1200
            assert 300 < height < 1600
            assert (about["packets"], about["more"]) == (14 if of == "tcp" else 15, False)
            result, about = await drawn(session, **wish, format="svg")
            assert [each.type for each in result.content] == ["text"]
            file = Path(about["path"])
            assert (file.parent, file.stat().st_mode & 0o777) == (user.captures, 0o600)
            root = ET.fromstring(file.read_bytes())  # noqa: S314 - our own
            assert root.tag == f"{SVG}svg"
            assert root.find(f".//{SVG}script") is None
            assert not any(name.lower().startswith("on") for each in root.iter() for name in each.attrib)
            assert await eventually_async(lambda: not has_child(session.pid, "draw"))

    anyio.run(scenario)


def test_a_sequence_is_text_as_well_and_packets_are_chosen_in_sql(user: Account) -> None:
    path = put(user, conversation())

    async def scenario() -> None:
        async with serving(user, "--read-dir", user.home) as session:
            _, about = await drawn(session, path=str(path), format="mermaid", where="payload = 1000", limit=2)
            assert (about["packets"], about["more"]) == (2, True)
            lines = about["mermaid"].splitlines()
            assert lines[:3] == ["sequenceDiagram", "participant E0 as 10.0.2.2", "participant E1 as 10.0.2.15"]
            assert lines[3].startswith("E0->>E1: 5 at 0.040000 s: TCP ")
            _, about = await drawn(session, path=str(path), format="mermaid", stream=1)
            assert about["packets"] == 1
            _, about = await drawn(session, path=str(path), format="mermaid", where="protocol = 'HTTP'")
            assert "<" not in about["mermaid"]
            assert "$" not in about["mermaid"]

    anyio.run(scenario)


def test_a_labs_console_stands_beside_its_packets(each_way: Account) -> None:
    async def scenario() -> None:
        async with serving(each_way) as session:
            await session.boot(network="user")
            await session.call("qemu_pcap_start")
            await session.call("qemu_send", command="setenv ipaddr 10.0.2.75; ping 10.0.2.2")
            _, about = await drawn(session, format="mermaid")
            said = about["mermaid"]
            assert "ICMP echo request" in said
            assert "host 10.0.2.2 is alive" in said
            times = [float(each) for each in re.findall(r" at (-?[0-9.]+) s: ", said)]
            assert times == sorted(times)
            result, _ = await drawn(session)
            assert result.content[0].type == "image"

    anyio.run(scenario)


def test_what_cannot_be_drawn_is_said(user: Account) -> None:
    path = put(user, [out(ICMP())])

    async def scenario() -> None:
        async with serving(user, "--read-dir", user.home) as session:
            for wrong, code, said in (
                ({"where": "length > 9000"}, "request.invalid", "no packet is to be drawn"),
                ({"where": "nothing = 1"}, "query.invalid", "nothing"),
                ({"where": "true) TO '/tmp/x' --"}, "query.invalid", "syntax error"),
                ({"of": "tcp"}, "request.invalid", "needs a stream"),
                ({"of": "tcp", "stream": 0}, "request.invalid", "no packet is to be drawn"),
                ({"of": "traffic", "format": "mermaid"}, "request.invalid", "no Mermaid text"),
            ):
                error = await session.refused("qemu_pcap_picture", path=str(path), **wrong)
                assert error.code == code
                assert said in str(error)

    anyio.run(scenario)


def test_without_matplotlib_the_cure_is_told_and_text_is_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(picture, "find_spec", lambda _: None)
    path = tmp_path / "one.pcap"
    wrpcap(str(path), [out(ICMP())])

    async def scenario() -> None:
        async with Lab(Settings(capture_dir=tmp_path)) as lab:
            with pytest.raises(PictureUnavailable, match=r"pip install 'rawtap\[pictures\]'"):
                await picture.picture(lab, picture.Wish("sequence", "png", None, path, None, "", 9))
            found = await picture.picture(lab, picture.Wish("sequence", "mermaid", None, path, None, "", 9))
            assert found.text.startswith("sequenceDiagram")

    anyio.run(scenario)


def test_the_process_that_draws_opens_nothing_once_it_reads(tmp_path: Path) -> None:
    """What it is to draw comes when all but its fonts is shut away."""
    secret = tmp_path / "secret"
    secret.write_text("x")
    program = (
        "import json, os, sys; from rawtap.packets.pictures import draw, drawings\n"
        "def look(request):\n"
        "    os.open(request['path'], os.O_RDONLY)\n"
        "drawings.DRAWINGS['look'] = look\n"
        "draw.main()"
    )
    command = ["setpriv", "--no-new-privs", sys.executable, "-I", "-c", program]
    given = json.dumps({"of": "look", "format": "png", "path": str(secret)})
    environment = {"PATH": os.defpath, "HOME": "/nonexistent"}
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False, env=environment)
    assert "PermissionError: [Errno 13]" in done.stderr
    assert str(secret) in done.stderr
