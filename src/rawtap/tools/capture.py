"""The capture tools: start, look, stop."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

from anyio.to_thread import run_sync as to_thread
from pydantic import Field

from rawtap.capture._worker import MAX_SNAPLEN
from rawtap.capture.session import DEFAULT_MAX_BYTES, MAX_COMMENT, MAX_FILES, CaptureRequest
from rawtap.lab.captures import Capture, CaptureReport
from rawtap.lab.card import Card
from rawtap.tools._text import Answer
from rawtap.tools._tool import LabContext, Offer, lab_of, tool

_ANSWER_CHARACTERS = 8000

Filter = Annotated[str, Field(description='pcap-filter(7), like "udp port 53".')]
CaptureId = Annotated[str | None, Field(description="Its id; absent: the newest, running first.")]


class Limits(Answer):
    """Where a capture ends by itself; null for no limit."""

    max_bytes: int
    max_seconds: float | None
    max_packets: int | None
    files: int = Field(description="How many files of max_bytes are kept; with more than 1 a ring of the newest.")


class StartedCapture(Answer):
    """An armed capture: every packet sent after this answer is in the file."""

    capture: str = Field(description="Its id.")
    path: str
    interface: str
    link_type: str
    filter: str
    snaplen: int
    format: Literal["pcap", "pcapng"]
    limits: Limits


class CaptureRow(Answer):
    """A capture as it stands; packets and bytes count what is in its files."""

    capture: str
    state: Literal["running", "stopped", "failed"]
    reason: str | None = Field(description='Why it ended: "stopped", a limit, "guest_ended", or what failed.')
    path: str = Field(description="The file, or the newest of a ring.")
    files: list[str] = Field(description="All files that are there, in the order of their packets.")
    interface: str
    filter: str
    packets: int = Field(description="Packets in the files.")
    packets_overwritten: int = Field(description="Packets that a ring saved and removed again with its oldest files.")
    bytes: int = Field(description="Length of the packets on the wire.")
    size_bytes: int = Field(description="Size of the files.")
    seen: int | None = Field(
        description="Frames counted: filtered + packets + packets_overwritten + dropped_kernel + refused + in_flight."
    )
    filtered: int | None = Field(description="Frames that the filter did not select.")
    dropped_kernel: int | None = Field(description="Packets that matched and found no room in the ring.")
    refused: int = Field(description="Packets that came after a limit was reached, or that the disk did not take.")
    in_flight: int | None = Field(description="Packets on their way into the file; 0 at the end.")
    dropped_interface: int | None = Field(description="Frames that the interface itself lost.")
    buffer_bytes: int = Field(
        description="Memory that packets of all captures may fill while a disk is behind. SIGKILL loses what is in it."
    )
    buffer_most: int = Field(description="Of it, what this capture filled at most.")
    unknown: dict[str, str] = Field(description="Why counters that are null cannot be known.")
    duration: float = Field(description="Seconds.")
    warnings: list[str]
    error: str | None = Field(description="The first error, with its code.")
    diagnosis: str | None = Field(description="Why there is no packet; null where there is one.")

    def is_said_elsewhere(self, field: str) -> bool:
        """A single file is `path`."""
        return field == "files" and self.files == [self.path]


class CaptureRows(Answer):
    """Captures, oldest first."""

    captures: list[CaptureRow]
    next_step: str | None


async def qemu_pcap_start(
    context: LabContext,
    interface: Annotated[
        str | None,
        Field(
            description="Absent: the guest's own card (its TAP, or user:GUEST), all of several: every frame as it "
            "left the guest. A bridge has only what it passed on."
        ),
    ] = None,
    filter: Filter = "",  # noqa: A002 - the interface's name for it
    snaplen: Annotated[int, Field(ge=1, le=MAX_SNAPLEN, description="Bytes kept of each packet.")] = MAX_SNAPLEN,
    max_bytes: Annotated[int, Field(ge=4096, description="Of a file, in bytes.")] = DEFAULT_MAX_BYTES,
    max_seconds: Annotated[float | None, Field(gt=0, description="Seconds, then it ends.")] = None,
    files: Annotated[
        int, Field(ge=1, le=MAX_FILES, description="Above 1: a ring that keeps the newest files of max_bytes each.")
    ] = 1,
    format: Annotated[  # noqa: A002 - the interface's name for it
        Literal["pcap", "pcapng"] | None,
        Field(description="pcapng also holds interface, direction, filter, drops and comment. pcap if absent."),
    ] = None,
    comment: Annotated[str, Field(max_length=MAX_COMMENT, description="Goes into a pcapng file.")] = "",
    max_packets: Annotated[int | None, Field(ge=1, description="Packets, then it ends.")] = None,
    name: Annotated[str, Field(description="Whose card.")] = "guest",
    points: Annotated[
        Literal["card", "bridge", "all"],
        Field(
            description="If no interface is named. all: the bridge and each card on it, in one pcapng; explain then "
            "follows each frame."
        ),
    ] = "card",
) -> StartedCapture:
    """Start a packet capture. It is armed when this returns: every packet sent from then on is in the file.

    Then cause traffic, qemu_pcap_stop, and qemu_pcap_explain (what is wrong) or qemu_pcap_read (the packets).
    """
    lab = lab_of(context)
    whole = interface is None and points == "card" and lab.has_several_taps(name)
    request = partial(
        CaptureRequest,
        interface=interface or _point(lab.card_of(name), points),
        filter=filter,
        snaplen=snaplen,
        max_bytes=max_bytes,
        max_seconds=max_seconds or 0.0,
        max_packets=max_packets or 0,
        files=files,
        format=format or ("pcapng" if points == "all" or whole else "pcap"),
        comment=comment,
    )
    if whole:
        return started(await lab.start_capture_of_cards(await to_thread(request), name))
    start = lab.start_capture_of_all if points == "all" else lab.start_capture
    return started(await start(await to_thread(request)))


def _point(card: Card, points: str) -> str:
    return card.network if points == "bridge" else card.name


async def qemu_pcap_status(
    context: LabContext, capture: Annotated[str | None, Field(description="One id; all if absent.")] = None
) -> CaptureRows:
    """Show captures while they run: counters, drops, warnings, and why nothing was seen."""
    lab = lab_of(context)
    wanted = [lab.captures.get(capture)] if capture else lab.captures.all()
    rows: list[CaptureRow] = []
    cut = 0
    for each in reversed(wanted):
        row = row_of(await lab.captures.report(each))
        if rows and sum(len(kept.model_dump_json()) for kept in [*rows, row]) > _ANSWER_CHARACTERS:
            cut += 1
        else:
            rows.append(row)
    step = f"{cut} earlier captures are not shown: ask for one by its id (c1, c2, ...)" if cut else None
    return CaptureRows(captures=rows[::-1], next_step=step)


async def qemu_pcap_stop(context: LabContext, capture: CaptureId = None) -> CaptureRow:
    """Stop a capture. Every packet that was on the wire before this call is in the file.

    Where there is none, diagnosis says why.
    """
    lab = lab_of(context)
    return row_of(await lab.captures.stop(lab.captures.get(capture, running=True)))


def started(capture: Capture) -> StartedCapture:
    """The answer for a capture that was just armed."""
    session = capture.session
    request = session.request
    return StartedCapture(
        capture=capture.id,
        path=str(session.path),
        interface=request.interface,
        link_type=session.link_type,
        filter=request.filter,
        snaplen=request.snaplen,
        format=request.format,
        limits=Limits(
            max_bytes=request.max_bytes,
            max_seconds=request.max_seconds or None,
            max_packets=request.max_packets or None,
            files=request.files,
        ),
    )


def row_of(report: CaptureReport) -> CaptureRow:
    """A capture's row."""
    session, snapshot = report.capture.session, report.snapshot
    return CaptureRow(
        capture=report.capture.id,
        state=snapshot.state,
        reason=snapshot.reason,
        path=str(snapshot.files[-1]),
        files=[str(path) for path in snapshot.files],
        interface=session.request.interface,
        filter=session.request.filter,
        packets=snapshot.packets,
        packets_overwritten=snapshot.packets_overwritten,
        bytes=snapshot.bytes,
        size_bytes=snapshot.size_bytes,
        seen=snapshot.seen,
        filtered=snapshot.filtered,
        dropped_kernel=snapshot.dropped_kernel,
        refused=snapshot.refused,
        in_flight=snapshot.in_flight,
        dropped_interface=snapshot.dropped_interface,
        buffer_bytes=snapshot.buffer_bytes,
        buffer_most=snapshot.buffer_most,
        unknown=snapshot.unknown,
        duration=round(snapshot.duration, 3),
        warnings=list(snapshot.warnings),
        error=str(snapshot.error) if snapshot.error else None,
        diagnosis=report.diagnosis,
    )


TOOLS: tuple[Offer, ...] = (
    tool(qemu_pcap_start, "Start a capture"),
    tool(qemu_pcap_status, "Show captures", read_only=True, idempotent=True),
    tool(qemu_pcap_stop, "Stop a capture", idempotent=True),
)
