"""One capture: a thread that owns a source of frames and a file, seen from outside."""

from __future__ import annotations

import contextlib
import platform
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Literal, NamedTuple

from rawtap.capture import failures, files, filters, kinds, memory, pcapng
from rawtap.capture._worker import MAX_SNAPLEN, FilterError, NativeError
from rawtap.capture.account import Account
from rawtap.capture.files import Segment
from rawtap.capture.source import Source
from rawtap.capture.trimmer import Trimmer
from rawtap.errors import (
    BadFilter,
    CaptureError,
    CaptureFailed,
    RequestInvalid,
)

DEFAULT_MAX_BYTES = 256 << 20
MIN_MAX_BYTES = 4096
MAX_FILES = 64
MAX_COMMENT = 1000

_START_SECONDS = 10.0  # a ring of 1 GiB takes some of them to open, on a busy machine

State = Literal["running", "stopped", "failed"]
Format = Literal["pcap", "pcapng"]


@dataclass(frozen=True)
class CaptureRequest:
    """What to capture.

    Attributes:
        interface: The interface's name.
        filter: A pcap-filter(7) expression, "" for everything.
        snaplen: Bytes kept of each packet, 1 to 262144.
        max_bytes: A file's greatest size; when the next packet would not fit, the capture ends or, in a ring, goes on
            in the next file.
        files: How many files are kept: with more than 1, a ring of the newest ones.
        format: "pcap" with nanoseconds, or "pcapng", which holds the interface, filter, counters and comment as well.
        guest: What is said of the guest in a pcapng file.
        of_card: The interface is a guest's own card, which goes when its guest ends.
        more: Further interfaces that are captured with the first, into one pcapng file: names, and what `guest` says.
        comment: A remark of the user's, for a pcapng file.
        file_name: Of its file in the folder for captures, which must be new; "" for one of time, interface and process.
        max_packets: 0 for no limit.
        max_seconds: 0 for no limit; counted from arming on the monotonic clock.
    """

    interface: str
    filter: str = ""
    snaplen: int = MAX_SNAPLEN
    max_bytes: int = DEFAULT_MAX_BYTES
    max_packets: int = 0
    max_seconds: float = 0.0
    files: int = 1
    format: Format = "pcap"
    guest: str = ""
    comment: str = ""
    of_card: bool = False
    more: tuple[tuple[str, str], ...] = ()
    file_name: str = ""

    def __post_init__(self) -> None:
        if self.more and self.format == "pcap":
            raise RequestInvalid("a pcap file holds one interface's packets", cure='Use format="pcapng"')
        filters.checked(self.filter)
        _in_range("snaplen", self.snaplen, 1, MAX_SNAPLEN)
        _in_range("max_bytes", self.max_bytes, MIN_MAX_BYTES, 1 << 50)
        _in_range("max_packets", self.max_packets, 0, 1 << 62)
        _in_range("max_seconds", self.max_seconds, 0, 10 * 365 * 86400)
        _in_range("files", self.files, 1, MAX_FILES)
        if self.comment and self.format == "pcap":
            raise RequestInvalid("a pcap file has no place for a comment", cure='Use format="pcapng"')
        if len(self.comment) > MAX_COMMENT:
            raise RequestInvalid(f"the comment has {len(self.comment)} characters", cure=f"Use at most {MAX_COMMENT}")


def _in_range(name: str, value: float, low: int, high: int) -> None:
    if not low <= value <= high:
        raise RequestInvalid(f"{name}={value} is out of range", cure=f"Use {low} to {high}")


@dataclass(frozen=True)
class Snapshot:
    """A capture's state and counters at one moment. Sizes in bytes, times in seconds.

    `packets` and `bytes` (length on the wire) count what is in `files` (oldest first), of `size_bytes` in all, and
    `packets_overwritten` what a ring has removed with its oldest files. Of `seen` frames these were saved,
    `dropped_kernel` found no room in the kernel's ring, `refused` came when a limit was reached or the disk did not
    take them, `filtered` were not selected, and `in_flight` are on their way into the file: the sum is `seen`.
    `dropped_interface` is the interface's own count. `buffer_bytes` of memory may be on their way into files, of all
    captures together, and `buffer_most` were at once, of this one. What is None cannot be known: `unknown` says why.

    While nothing was selected, `frames_seen` frames passed the interface unfiltered, and `kinds` names the protocols of
    `kinds_sampled` of them, the commonest first.
    """

    state: State
    reason: str | None
    packets: int
    bytes: int
    size_bytes: int
    files: tuple[Path, ...]
    packets_overwritten: int
    seen: int | None
    filtered: int | None
    dropped_kernel: int | None
    refused: int
    in_flight: int | None
    from_guest: int
    dropped_interface: int | None
    unknown: dict[str, str]
    buffer_bytes: int
    buffer_most: int
    duration: float
    warnings: tuple[str, ...]
    error: CaptureError | None
    frames_seen: int
    kinds: tuple[tuple[str, int], ...]
    kinds_sampled: int


class Reached(NamedTuple):
    """A place in what a capture has saved.

    Attributes:
        file: The number of a file, from 1.
        offset: Bytes in it, up to the end of a packet.
        packets: Saved up to there, in all files.
        promised: Packets that were on the wire then, those included that were not saved yet.
    """

    file: int
    offset: int
    packets: int
    promised: int


@dataclass
class CaptureSession:
    """A running or finished capture. Made by `start`; ended by `stop`, a limit or an error.

    The worker thread opens, owns and closes the source and the file. Everything here may be called from any
    thread.
    """

    request: CaptureRequest
    source: Source
    directory: Path
    stem: str
    on_end: Callable[[CaptureSession], None] | None = None
    trimmer: Trimmer | None = None
    on_armed: Callable[[CaptureSession], None] | None = None
    buffer_bytes: int | None = None
    link_type: str = field(init=False, default="")
    _series: files.Series = field(init=False)
    _header: bytes = field(init=False, default=b"")
    _slot: int | None = field(init=False, default=None)
    _armed: Future[None] = field(init=False, default_factory=Future)
    _ended: threading.Event = field(init=False, default_factory=threading.Event)
    _thread: threading.Thread = field(init=False)
    _started_at: float = field(init=False, default=0.0)
    _started_ns: int = field(init=False, default=0)
    _ended_ns: int = field(init=False, default=0)
    _ended_at: float | None = field(init=False, default=None)
    _error: CaptureError | None = field(init=False, default=None)

    @classmethod
    def start(
        cls,
        request: CaptureRequest,
        source: Source,
        directory: Path,
        stem: str,
        on_end: Callable[[CaptureSession], None] | None = None,
        trimmer: Trimmer | None = None,
        on_armed: Callable[[CaptureSession], None] | None = None,
        buffer_bytes: int | None = None,
    ) -> CaptureSession:
        """Start a capture and return when it is armed: every packet from now on is in the file.

        `source` is where the frames come from. `on_armed` and `on_end` are called with the
        session, in the capture's own thread: when it is armed, and when nothing more comes in, however that came about,
        before it counts as ended.
        `trimmer` is told of the files, so that they end on a whole record even after SIGKILL. `buffer_bytes` is the
        memory that all captures together may fill while the disk is behind, None for a share of what is free.

        Raises:
            CaptureError: One of its kinds; nothing is left behind, no file either.
        """
        session = cls(request, source, directory, stem, on_end, trimmer, on_armed, buffer_bytes)
        session._thread = threading.Thread(target=session._work, name=f"capture-{stem}", daemon=True)
        session._thread.start()
        try:
            session._armed.result(_START_SECONDS)
        except TimeoutError as error:
            if not session._armed.cancel():  # it came at the last moment, or is the worker's own error
                session._armed.result()
                return session
            raise files.stalled(directory, f"the capture was not there within {_START_SECONDS:g} s") from error
        return session

    @property
    def running(self) -> bool:
        """Whether packets are still being saved."""
        return self._ended_at is None

    @property
    def ended_with_guest(self) -> bool:
        """Whether its source was a guest, which has ended."""
        return self._reason(self.source.worker.reason) == "guest_ended"

    def _reason(self, found: str | None) -> str | None:
        return "guest_ended" if found == "interface_removed" and self.request.of_card else found

    @property
    def started_at(self) -> float:
        """When it was armed, by time.monotonic()."""
        return self._started_at

    @property
    def path(self) -> Path:
        """The newest file."""
        return self._series.segments[-1].path

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that are there, in the order of their packets."""
        return tuple(segment.path for segment in self._series.segments)

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The same files, with what was saved before each."""
        return self._series.segments

    @property
    def saved(self) -> int:
        """Packets that it has saved so far, those included that a ring has removed again."""
        return self.source.worker.account.saved

    def notify_fd(self) -> int:
        """An eventfd that is readable when packets were saved, a question was answered, or the capture has ended.

        It is the capture's own, and open until `end_notices`.

        Raises:
            OSError: There are too many descriptors.
        """
        return self.source.worker.notify_fd()

    def end_notices(self) -> None:
        """Close that descriptor. Nobody may listen any more, and nothing more may come."""
        if not self.running:
            self.source.worker.end_notices()

    def ask(self) -> int:
        """Have all that is on the wire now in the file. Returns a number; `answered` reaches it unless the end does."""
        return self.source.worker.ask()

    @property
    def answered(self) -> int:
        """The last question that was answered."""
        return self.source.worker.answered

    @property
    def place(self) -> Reached:
        """Where the capture was when it heard the last question, once that is answered."""
        return Reached(*self.source.worker.place)

    @property
    def started_ns(self) -> int:
        """When it was armed, in nanoseconds since 1970."""
        return self._started_ns

    @property
    def until_ns(self) -> int:
        """Up to when it captured, in nanoseconds since 1970: now, while it runs."""
        return self._ended_ns or time.time_ns()

    def request_stop(self) -> None:
        """Ask the capture to end, without waiting."""
        self.source.worker.request_stop()

    def stop(self, patience: float | None = None) -> Snapshot:
        """End the capture with all that was on the wire by now in the file; harmless when it has ended.

        With `patience` the state is still "running" where the disk took nothing for so many seconds: the capture ends
        when the disk answers.
        """
        self.request_stop()
        saved = -1
        while not self._ended.wait(patience) and saved < self.saved:
            saved = self.saved
        return self.snapshot()

    def close(self) -> None:
        """End the capture and wait until the kernel has given up its socket as well, some 20 ms later."""
        self.source.worker.let_go()
        self._thread.join()
        self.end_notices()

    def discard(self) -> None:
        """End the capture and remove its files."""
        self.close()
        self._series.remove()

    def snapshot(self) -> Snapshot:
        """The counters as they were at one moment; those of the kernel are at most 0.1 s old while the capture runs."""
        unfiltered = self.source.unfiltered
        ended = self._ended_at
        account = self.source.worker.account
        segments = account.files
        unknown = self._unknown(account)

        def known(name: str, count: int) -> int | None:
            return None if name in unknown else count

        return Snapshot(
            state="running" if ended is None else "failed" if self._error else "stopped",
            reason=self._reason(account.reason),
            packets=account.saved - segments[0].packets_before,
            bytes=account.wire_bytes - segments[0].bytes_before,
            size_bytes=account.file_bytes + sum(segment.size for segment in segments[:-1]),
            files=tuple(segment.path for segment in segments),
            packets_overwritten=segments[0].packets_before,
            seen=known("seen", account.seen),
            filtered=known("filtered", account.filtered),
            dropped_kernel=known("dropped_kernel", account.dropped),
            refused=account.refused,
            in_flight=known("in_flight", account.in_flight),
            from_guest=account.from_guest,
            dropped_interface=known("dropped_interface", account.dropped_interface),
            unknown=unknown,
            buffer_bytes=account.granted,
            buffer_most=account.queued_most,
            duration=(ended or time.monotonic()) - self._started_at,
            warnings=tuple(self._warnings(account)),
            error=self._error,
            frames_seen=unfiltered.frames,
            kinds=kinds.named(unfiltered.kinds),
            kinds_sampled=unfiltered.sampled,
        )

    def look(self) -> list[str]:
        """What is wrong with the file of a capture that runs, as warnings. Waits for the file's disk.

        The account of one that has ended needs no look: what was wrong then is its error.
        """
        account = self.source.worker.account
        found = failures.changed_meanwhile(account.files[-1], account.file_bytes)
        if account.files != self.source.worker.account.files:  # a ring has gone on meanwhile
            found = []
        trouble = self.trimmer.trouble() if self.trimmer else ""
        if not trouble and self.trimmer and self._slot is None:
            trouble = "too many files are kept"
        if trouble:
            found.append(f"if the server is killed, the file may end inside a packet: {trouble}")
        return found if self.running else []

    def _unknown(self, account: Account) -> dict[str, str]:
        """Which counters cannot be known, and why."""
        return dict(self.source.unknown) | account.unknown()

    def _warnings(self, account: Account) -> list[str]:
        native = self.source.worker
        found = [f"libpcap: {native.warning}"] if native.warning else []
        if account.dropped:
            found.append(
                f"the kernel dropped {account.dropped} packets that matched: its ring was full. A narrower filter or a "
                f"smaller snaplen needs less of it; the operator can enlarge it (--ring-mib){account.behind()}"
            )
        if why := self.source.unknown.get("dropped_interface"):
            found.append(f"what the interface itself dropped is not known: {why}")
        if account.dropped_interface:
            found.append(f"the interface dropped {account.dropped_interface} frames before the capture saw them")
        if native.unplaced and (self.request.of_card or self.request.more):
            found.append(
                f"of {native.unplaced} frames the file does not say where and in which direction they were seen: "
                "libpcap's ring has another layout than is known here"
            )
        if self._ended_at is not None and not account.stats_failed:
            found += account.left_open()
        return found

    # ------------------------------------------------------------------ in the worker thread

    def _work(self) -> None:
        """The worker thread: open, arm, tell `start`, capture, close."""
        with contextlib.ExitStack() as stack:
            try:
                self._open(stack)
                floor = files.free_floor(self.directory)
            except BaseException as error:  # noqa: BLE001 - `start` waits for it in another thread and raises it there
                stack.close()
                if self._armed.set_running_or_notify_cancel():
                    self._armed.set_exception(error)
                return
            if not self._armed.set_running_or_notify_cancel():  # the disk took too long: nobody waits any more
                self._let_go()
                self._series.remove()
                return
            if self.on_armed:
                self.on_armed(self)
            self._armed.set_result(None)
            try:
                self.source.worker.run(
                    max_packets=self.request.max_packets,
                    max_seconds=self.request.max_seconds,
                    free_floor=floor,
                    on_full=self._next_file if self.request.files > 1 else None,
                )
                self._finish()
            except Exception as error:  # noqa: BLE001 - no call waits for it: it must be in every later answer
                self._error = self._failed(f"{type(error).__name__}: {error}")
            finally:
                self._end(time.monotonic())

    def _end(self, ended_at: float) -> None:
        """Let go of all but the source, and count as ended whatever goes wrong with that."""
        self._ended_ns = time.time_ns()
        with contextlib.ExitStack() as last:
            last.callback(self.source.worker.tell)
            last.callback(self._ended.set)
            last.callback(setattr, self, "_ended_at", ended_at)
            last.callback(self._let_go)
            last.callback(self._series.end)
            if self.on_end:
                self.on_end(self)

    def _open(self, stack: contextlib.ExitStack) -> None:
        """Open source and file, write the file's header, arm."""
        stack.callback(self.source.close)
        request = self.request
        granted = memory.granted() if self.buffer_bytes is None else self.buffer_bytes
        self.source.worker.prepare(request.snaplen, request.format == "pcapng", granted)
        self.source.open(request.interface, filtered=bool(request.filter))
        self._header = self._make_header()
        self.link_type = self.source.worker.link_type_name
        named = Path(request.file_name) if request.file_name else None
        self._series = files.Series(self.directory, self.stem, f".{request.format}", request.files, named)
        stack.callback(self._series.end)
        try:
            self._begin_file()
            self._arm()
        except BaseException:
            self._let_go()
            self._series.remove()
            raise

    def _begin_file(self) -> None:
        """Begin the first file, or the next one of the ring in the place of the oldest."""
        native = self.source.worker
        account = native.account
        fd = self._series.begin(account.saved, account.wire_bytes, self._header)
        retired = self._series.retire()
        native.begin_file(fd, self._header, self._room(), retired, self._series.segments)
        self._let_go()
        if self.trimmer:
            self._slot = self.trimmer.hold(fd)
            if self._slot is not None:
                native.note(self.trimmer.words, self._slot)

    def _let_go(self) -> None:
        """The trimmer's file is complete."""
        if self.trimmer and self._slot is not None:
            self.trimmer.release(self._slot)
            self._slot = None

    def _next_file(self) -> None:
        self.source.worker.end_file(self._trailer())
        self._begin_file()

    def _room(self) -> int:
        """How long a file may become, what is written behind the packets apart."""
        if self.request.format == "pcap":
            return self.request.max_bytes
        return self.request.max_bytes - pcapng.STATISTICS_BYTES - (pcapng.REMARK_BYTES if self.request.more else 0)

    def _make_header(self) -> bytes:
        """What every file begins with.

        Raises:
            RequestInvalid: No file has room for it.
        """
        header = self._header_of_format()
        if len(header) > self._room():
            raise RequestInvalid(
                f"max_bytes={self.request.max_bytes} has no room for a packet",
                evidence=f"what stands before and behind the packets of a pcapng file takes "
                f"{len(header) + self.request.max_bytes - self._room()} bytes, the filter and the comment among them",
                cure='Use a larger max_bytes, a shorter filter or comment, or format="pcap"',
            )
        return header

    def _header_of_format(self) -> bytes:
        request = self.request
        if request.format == "pcap":
            return self.source.worker.header()
        system = platform.uname()
        return pcapng.head(
            interfaces=((request.interface, request.guest), *request.more),
            link_type=self.source.worker.link_type,
            snaplen=request.snaplen,
            filter=request.filter,
            hardware=system.machine,
            system=f"{system.system} {system.release} on {system.node}",
            application=f"rawtap {version('rawtap')}",
            comment=request.comment,
        )

    def _trailer(self) -> bytes:
        """What follows the last packet: pcapng's counters, as they are now and from the start of the capture."""
        if self.request.format == "pcap":
            return b""
        account = self.source.worker.account
        unknown = self._unknown(account)
        seen = None if "seen" in unknown else account.seen
        return pcapng.statistics(
            start_ns=self._started_ns,
            end_ns=time.time_ns(),
            seen=None if "filtered" in unknown else seen,
            selected=None if seen is None else seen - account.filtered,
            dropped_interface=None if "dropped_interface" in unknown else account.dropped_interface,
            dropped_kernel=None if "dropped_kernel" in unknown else account.dropped,
            saved=account.saved,
            of_all=bool(self.request.more),
        )

    def _arm(self) -> None:
        try:
            self.source.worker.arm(self.request.filter)
        except FilterError as error:
            raise BadFilter.because(self.request.filter, error.text) from error
        except NativeError as error:
            raise self._failed(error.text) from error
        self._started_at = time.monotonic()
        self._started_ns = time.time_ns()

    def _finish(self) -> None:
        """Nothing more comes: what is written behind the packets, and what went wrong."""
        native = self.source.worker
        native.end_file(self._trailer())
        account = native.account
        if account.reason == "pcap_failed":
            self._error = self._failed(native.failure)
        elif isinstance(native.file_error, CaptureError):
            self._error = native.file_error
        elif native.file_error is not None:
            self._error = self._failed(f"the next file: {native.file_error}")
        else:
            self._error = failures.of_file(account)

    def _failed(self, evidence: str) -> CaptureFailed:
        return failures.failed(self.request.interface, evidence)
