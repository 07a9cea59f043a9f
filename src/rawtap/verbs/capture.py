"""`rawtap capture` and `rawtap wait`: an interface's packets, without an agent."""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from anyio.to_thread import run_sync as to_thread

from rawtap.ask.newest import Newest
from rawtap.capture.session import CaptureRequest
from rawtap.errors import NoSuchInterface, RawtapError
from rawtap.lab.captures import Capture
from rawtap.settings import Settings
from rawtap.tools import packets
from rawtap.tools.capture import CaptureRow, row_of
from rawtap.verbs import local, progress, wording
from rawtap.verbs.local import Here
from rawtap.verbs.output import BAD_NEWS, FAILED, MISUSED, WELL, OutputLost, complain, packet_line, say, show, told

_BATCH = 200
_KEPT_BYTES = 64 << 20  # of each file where nobody wants one
_MOST_BYTES = 1 << 50  # of a file that is wanted: until its disk is full


def run(options: argparse.Namespace) -> int:
    """Capture until Ctrl-C, or a limit; returns the exit code."""
    if (options.max_bytes or options.files) and not options.write:
        complain("--max-bytes and --files are for --write")
        return MISUSED
    if options.write and (wrong := _unfit(options.write)):
        complain(wrong)
        return FAILED
    with _place(options) as settings:
        return local.play(settings, partial(_capture, options), options, patient=True, watched=True)


def wait(options: argparse.Namespace) -> int:
    """Wait for packets; returns the exit code."""
    if options.absent and options.count > 1:
        complain("--absent and --count are not for one wait")
        return MISUSED
    if options.write and (wrong := _unfit(options.write)):
        complain(wrong)
        return FAILED
    with _place(options) as settings:
        return local.play(settings, partial(_wait, options), options)


def _unfit(file: Path) -> str | None:
    """Why packets cannot be kept there, as far as it can be seen before."""
    if str(file) == "-":
        return "packets are kept in a file, not on stdout: give it a name"
    if not (folder := file.absolute().parent).is_dir():
        return f"there is no folder {folder}"
    return f"{file} is there: File exists, and nothing is written over" if os.path.lexists(file) else None


@contextmanager
def _place(options: argparse.Namespace) -> Iterator[Settings]:
    """Settings that let that interface be captured, into the folder of the file, or into one that goes."""
    settings = Settings(
        allowed_interfaces=frozenset({options.interface}),
        ring_bytes=options.ring_mib << 20 if options.ring_mib else None,
        buffer_bytes=options.buffer_mib << 20 if options.buffer_mib else None,
    )
    if options.write:
        yield replace(settings, capture_dir=options.write.absolute().parent)
        return
    with TemporaryDirectory(prefix="rawtap-") as folder:
        yield replace(settings, capture_dir=Path(folder))


async def _start(options: argparse.Namespace, here: Here, **chosen: Any) -> Capture:
    if options.interface not in (there := [name for _, name in socket.if_nameindex()]):
        found = f"there are: {', '.join(there)}"
        raise NoSuchInterface(f"there is no interface {options.interface!r}", evidence=found, cure="Name one of them")
    form: Literal["pcap", "pcapng"] = "pcapng" if options.write and options.write.suffix == ".pcapng" else "pcap"
    if options.write:
        chosen["file_name"] = options.write.name
        if chosen.get("files", 1) == 1:
            chosen.setdefault("max_bytes", _MOST_BYTES)
    else:
        chosen |= {"files": 2, "max_bytes": _KEPT_BYTES}  # a ring: it goes on for as long as somebody looks
    return await here.lab.start_capture(
        await to_thread(partial(CaptureRequest, options.interface, format=form, **chosen))
    )


def _chosen(options: argparse.Namespace) -> dict[str, Any]:
    """What of a capture was chosen; the rest is as the tool has it."""
    given = {
        "snaplen": options.snaplen,
        "max_seconds": options.seconds,
        "max_packets": options.count,
        "max_bytes": options.max_bytes,
        "files": options.files,
    }
    return {"filter": " ".join(options.filter)} | {name: value for name, value in given.items() if value is not None}


async def _capture(options: argparse.Namespace, here: Here) -> int:
    capture = await _start(options, here, **_chosen(options))
    complain(f"capturing on {options.interface} ({capture.session.link_type}); Ctrl-C ends it")
    showing = asyncio.ensure_future(_show(capture, quiet=options.quiet or options.json))
    stopping = asyncio.ensure_future(here.stopping.wait())
    await asyncio.wait((showing, stopping), return_when=asyncio.FIRST_COMPLETED)
    row = row_of(await here.lab.captures.stop(capture))
    stopping.cancel()
    unshown = WELL
    try:
        await showing
    except OutputLost as error:  # what is kept is kept, and told of all the same
        unshown = WELL if error.is_unread else error.told()
    except RawtapError as error:
        unshown = FAILED
        complain(wording.told(error))
    if options.json:
        show(row if options.write else row.model_copy(update={"path": "", "files": []}), as_json=True)
    else:
        for each in told(row, is_kept=bool(options.write)):
            complain(each)
    return unshown or _code(row)


def _code(row: CaptureRow) -> int:
    """The exit code: well is what has packets, all of them as far as the kernel knows, and was not cut short."""
    if row.error:
        return FAILED
    lost = row.dropped_kernel != 0 or row.dropped_interface or row.reason == "interface_removed"
    return BAD_NEWS if lost or not row.packets else WELL


async def _show(capture: Capture, *, quiet: bool) -> None:
    """Print packets as they are saved, until the capture has ended; where they are too many, some are only counted."""
    session = capture.session
    newest = Newest(capture)
    with capture.notifier.listening():
        while True:
            changed, running = capture.notifier.changed, session.running
            found = [] if quiet else await newest.take(_BATCH)
            if passed := newest.tell_passed():
                say(f"        ({passed} packets came too fast to be shown)")
            if found:
                say("\n".join(packet_line(line) for line in found))
            elif running:
                await changed.wait()
            else:
                return


async def _wait(options: argparse.Namespace, here: Here) -> int:
    capture = await _start(options, here)  # of everything: what came instead is told
    with progress.shown(f"waiting on {options.interface}") as tell:
        answer = await packets.qemu_pcap_wait(
            here.context(tell),
            " ".join(options.filter),
            options.count,
            options.timeout,
            absent=options.absent,
            since="start",
            capture=capture.id,
        )
    show(answer, as_json=options.json)
    if options.write:
        row = row_of(await here.lab.captures.stop(capture))
        for each in told(row):
            complain(each)
        if row.error:
            return FAILED
    return WELL if answer.satisfied else BAD_NEWS
