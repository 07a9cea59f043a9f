"""The tool that shows what two ends said to each other."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from mcp.server.mcpserver.tools import Tool
from pydantic import Field

from rawtap.errors import RequestInvalid
from rawtap.guest.patterns import Pattern, compiled
from rawtap.tools._boundary import LabContext, is_empty, is_none, lab_of, tool
from rawtap.tools._text import UNTRUSTED, Answer, Untrusted, one_line
from rawtap.tools.capture import CaptureId
from rawtap.untrusted import visible

if TYPE_CHECKING:
    from rawtap.ask.follow import Followed
    from rawtap.ask.saving import Saved
    from rawtap.packets.conversation import End, Oddities
    from rawtap.packets.turns import Match, Turn

_SIDES: tuple[Literal["client", "server"], ...] = ("client", "server")
_SHOWN = 200  # bytes of a match
_MOST = 1 << 48  # more than there can be of anything
_NANOSECONDS = 1e9

Format = Literal["text", "hex"]


class TurnRow(Answer):
    """What one side said until the other spoke."""

    side: Literal["client", "server"]
    packet: int = Field(description="The first packet of it.")
    time: float = Field(description="Seconds, as of a page of packets.")
    offset: int = Field(description="Of its first byte in the conversation, both sides and gaps counted together.")
    data: Untrusted = Field(description="Text, with \\xNN for what is none and CR LF as a line's end; or hex digits.")
    gap: int | None = Field(None, exclude_if=is_none, description="Bytes that are not in the capture, here.")

    def lines(self) -> list[str]:
        """Who, when, and what was said below it."""
        head = f"{self.side} packet {self.packet} at {self.time:.6f}, offset {self.offset}"
        if self.gap:
            return [f"{head}: {self.gap} bytes are missing"]
        return [f"{head}:", *(f"|{line}" for line in self.data.splitlines())]


class MatchRow(Answer):
    """Where the text was found."""

    side: Literal["client", "server"]
    packet: int = Field(description="In which it ends.")
    offset: int = Field(description="Of that packet's first byte in the conversation: offset to read from.")
    text: Untrusted

    def lines(self) -> list[str]:
        """One line."""
        return [f"{self.side} packet {self.packet}, offset {self.offset}: {one_line(self.text)}"]


class ObjectRow(Answer):
    """Something that was fetched or sent as a whole, in a file of its own."""

    path: str
    size_bytes: int
    sha256: str
    side: Literal["client", "server"] = Field(description="Who sent it.")
    packet: int = Field(description="In which it begins.")
    asked: str = Field(description="Request and status.")
    kind: str = Field("", exclude_if=is_empty, description="Its media type.")
    encoding: str = Field("", exclude_if=is_empty, description="Of the file's bytes, as sent; chunks are joined.")
    lacks: str = Field("", exclude_if=is_empty, description="Why it is not whole.")

    def lines(self) -> list[str]:
        """What it is, and below it the file."""
        about = [self.kind, self.encoding, self.lacks and f"not whole: {self.lacks}"]
        said = "; ".join(filter(None, [f"{self.side} packet {self.packet}: {one_line(self.asked)}", *about]))
        return [one_line(said), f"  {self.path} {self.size_bytes} bytes sha256 {self.sha256}"]


class FollowedPage(Answer):
    """A page of a conversation."""

    source: str
    protocol: Literal["tcp", "udp"]
    client: str = Field(description="Who began it, as far as the capture shows: address and port.")
    server: str
    packets: int
    client_bytes: int = Field(description="Data that the client said, in all.")
    server_bytes: int
    missing_bytes: int = Field(description="Of gaps; in TCP the other end has them, and the capture has not.")
    turns: Annotated[list[TurnRow], UNTRUSTED]
    next_offset: int | None = Field(description="Give it back as offset for what follows; null at the end.")
    found: Annotated[list[MatchRow], UNTRUSTED] = Field(description="The first places of search, in all of it.")
    saved: Annotated[list[ObjectRow], UNTRUSTED] = Field([], exclude_if=is_empty, description="Objects, in new files.")
    notes: list[str] = Field(description="What was not as it should be.")


async def qemu_pcap_follow(
    context: LabContext,
    stream: Annotated[int | None, Field(ge=0, le=_MOST, description="Its number in qemu_pcap_query.")] = None,
    packet: Annotated[int | None, Field(ge=1, le=_MOST, description="Or any packet of it.")] = None,
    capture: CaptureId = None,
    path: Annotated[str | None, Field(description="A file instead.")] = None,
    format: Annotated[Format, Field(description="Of the data.")] = "text",  # noqa: A002 - the interface's name for it
    offset: Annotated[int, Field(ge=0, le=_MOST, description="next_offset of the page before.")] = 0,
    limit: Annotated[int, Field(ge=1, le=16000, description="Bytes a page.")] = 4000,
    search: Annotated[str | None, Field(description="Text to find in all of it.")] = None,
    regex: Annotated[bool, Field(description="search is a pattern of RE2.")] = False,
    save: Annotated[bool, Field(description="Objects of HTTP and TFTP into new files.")] = False,
) -> FollowedPage:
    """Show what both ends of a TCP or UDP conversation said: bytes in order, put together, gaps told;
    TLS by the operator's keys."""
    from rawtap.ask.follow import Wish, follow
    from rawtap.packets.turns import TurnPage

    if (stream is None) == (packet is None):
        raise RequestInvalid("one of stream and packet is needed", cure="Like packet=12")
    find = None
    if search:
        wanted = compiled(Pattern(search) if regex else search)
        find = (wanted.find, wanted.reach)
    place = Path(path) if path else None
    done = await follow(lab_of(context), capture, place, Wish(packet, stream, save), TurnPage(offset, limit), find)
    page, part = done.page, " in what was read" if done.cut else ""
    return FollowedPage(
        source=done.source,
        protocol="tcp" if done.protocol == "tcp" else "udp",
        client=_end(done.client),
        server=_end(done.server),
        packets=done.conversation.packets,
        client_bytes=page.sizes[0],
        server_bytes=page.sizes[1],
        missing_bytes=page.missing,
        turns=[_turn(each, done.start_ns, format) for each in page.turns],
        next_offset=page.end if page.more else None,
        found=[_match(each) for each in done.search.found] if done.search else [],
        saved=[_object(each) for each in done.saved],
        notes=[
            *_notes(done),
            *([f"search was not found{part}"] if done.search and not done.search.found else []),
            *([f"no object of HTTP/1 or TFTP was found to save{part}"] if save and not done.saved else []),
        ],
    )


def _end(end: End) -> str:
    address = ip_address(end.address)
    return f"{address}:{end.port}" if address.version == 4 else f"[{address}]:{end.port}"  # noqa: PLR2004


def _turn(turn: Turn, start_ns: int, kind: Format) -> TurnRow:
    return TurnRow(
        side=_SIDES[turn.side],
        packet=turn.number,
        time=round((turn.time_ns - start_ns) / _NANOSECONDS, 6),
        offset=turn.at,
        data=turn.data.hex() if kind == "hex" else _text(bytes(turn.data)),
        gap=turn.gap or None,
    )


def _text(data: bytes) -> str:
    return visible(data.replace(b"\r\n", b"\n").decode(errors="backslashreplace"), keep="\n\t")


def _object(saved: Saved) -> ObjectRow:
    about = saved.about
    return ObjectRow(
        path=str(saved.path),
        size_bytes=saved.size,
        sha256=saved.sha256,
        side=_SIDES[about.side],
        packet=about.packet,
        asked=about.asked,
        kind=about.kind,
        encoding=about.encoding,
        lacks=saved.lacks,
    )


def _match(match: Match) -> MatchRow:
    return MatchRow(
        side=_SIDES[match.side], packet=match.number, offset=match.at, text=one_line(_text(match.text[:_SHOWN]))
    )


def _notes(done: Followed) -> list[str]:
    odd: Oddities = done.conversation.oddities
    found = [
        "it is TLS, decrypted with the operator's keys by tshark: bytes and offsets are of what was encrypted"
        if done.is_decrypted
        else "",
        "it began before the capture did" if odd.middle else "",
        f"{done.page.missing} bytes are not in the capture" if done.page.missing else "",
        f"{odd.repeated} segments say again what was there" if odd.repeated else "",
        f"{odd.late} segments came late" if odd.late else "",
        f"packet {odd.differing} repeats bytes, and they are others" if odd.differing else "",
        f"{odd.fragments} fragments of IP: only what is in the first of each is followed" if odd.fragments else "",
        f"packet {odd.reset} resets it" if odd.reset else "",
        "the time was over before the capture's end" if done.cut else "",
        *done.notes,
        *done.lacking,
    ]
    return [each for each in found if each]


TOOLS: tuple[Tool, ...] = (tool(qemu_pcap_follow, "Follow a conversation"),)
