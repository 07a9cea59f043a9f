"""One capture: a thread that owns a libpcap handle and a file, seen from outside."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rawtap.capture import files, filters
from rawtap.capture._native import MAX_SNAPLEN, FilterError, LiveCapture, NativeError
from rawtap.errors import (
    BadFilter,
    CaptureError,
    CaptureFailed,
    CapturePermission,
    InterfaceDown,
    NoSuchInterface,
    OutputUnwritable,
    RequestInvalid,
)
from rawtap.privileges import Capability, raised

DEFAULT_MAX_BYTES = 256 << 20
MIN_MAX_BYTES = 4096

# libpcap's status codes, pcap_activate(3PCAP).
_NO_SUCH_DEVICE, _PERMISSION, _DOWN, _PROMISC_PERMISSION = -5, -8, -9, -11

# What the worker calls a failed write becomes a typed error; the other reasons are ordinary ends.
_FAILURES = {"no_space", "write_failed", "pcap_failed"}


State = Literal["running", "stopped", "failed"]


@dataclass(frozen=True)
class CaptureRequest:
    """What to capture.

    Attributes:
        interface: The interface's name.
        filter: A pcap-filter(7) expression, "" for everything.
        snaplen: Bytes kept of each packet, 1 to 262144.
        max_bytes: The file's greatest size; the capture ends when the next packet would not fit.
        max_packets: 0 for no limit.
        max_seconds: 0 for no limit; counted from arming on the monotonic clock.
    """

    interface: str
    filter: str = ""
    snaplen: int = MAX_SNAPLEN
    max_bytes: int = DEFAULT_MAX_BYTES
    max_packets: int = 0
    max_seconds: float = 0.0

    def __post_init__(self) -> None:
        filters.checked(self.filter)
        _in_range("snaplen", self.snaplen, 1, MAX_SNAPLEN)
        _in_range("max_bytes", self.max_bytes, MIN_MAX_BYTES, 1 << 50)
        _in_range("max_packets", self.max_packets, 0, 1 << 62)
        _in_range("max_seconds", self.max_seconds, 0, 10 * 365 * 86400)


def _in_range(name: str, value: float, low: int, high: int) -> None:
    if not low <= value <= high:
        raise RequestInvalid(f"{name}={value} is out of range", cure=f"Use {low} to {high}")


@dataclass(frozen=True)
class Snapshot:
    """A capture's state and counters at one moment. Sizes in bytes, times in seconds.

    `packets` and `bytes` (length on the wire) count what is in the file; `received` what the filter selected,
    of which `dropped_kernel` found no room in the ring. `dropped_interface` is the interface's own count.
    `frames_seen` counts, while nothing has matched, every frame that passed; `kinds` says what the `kinds_sampled`
    of them were that were looked at.
    """

    state: State
    reason: str | None
    packets: int
    bytes: int
    size_bytes: int
    received: int
    dropped_kernel: int
    dropped_interface: int
    duration: float
    warnings: tuple[str, ...]
    error: CaptureError | None
    frames_seen: int = 0
    kinds: tuple[tuple[str, int], ...] = ()
    kinds_sampled: int = 0


@dataclass
class CaptureSession:
    """A running or finished capture. Made by `start`; ended by `stop`, a limit or an error.

    The worker thread opens, owns and closes the handle and the file. Everything here may be called from any
    thread.
    """

    request: CaptureRequest
    index: int
    directory: Path
    stem: str
    ring_bytes: int
    on_end: Callable[[], None] | None = None
    path: Path = field(init=False)
    link_type: str = field(init=False, default="")
    _native: LiveCapture = field(init=False, default_factory=LiveCapture)
    _armed: Future[None] = field(init=False, default_factory=Future)
    _thread: threading.Thread = field(init=False)
    _started_at: float = field(init=False, default=0.0)
    _ended_at: float | None = field(init=False, default=None)
    _error: CaptureError | None = field(init=False, default=None)

    @classmethod
    def start(
        cls,
        request: CaptureRequest,
        index: int,
        directory: Path,
        stem: str,
        ring_bytes: int,
        on_end: Callable[[], None] | None = None,
    ) -> CaptureSession:
        """Start a capture and return when it is armed: every packet from now on is in the file.

        `index` is the interface's: what is opened is held against it. `on_end` is called by the worker thread when
        nothing more is let in, however that came about, and before the capture counts as ended.

        Raises:
            CaptureError: One of its kinds; nothing is left behind, no file either.
        """
        session = cls(request, index, directory, stem, ring_bytes, on_end)
        session._thread = threading.Thread(target=session._work, name=f"capture-{stem}", daemon=True)
        session._thread.start()
        session._armed.result()
        return session

    @property
    def running(self) -> bool:
        """Whether packets are still being saved."""
        return self._ended_at is None

    @property
    def started_at(self) -> float:
        """When it was armed, by time.monotonic()."""
        return self._started_at

    def request_stop(self) -> None:
        """Ask the capture to end, without waiting."""
        self._native.request_stop()

    def stop(self) -> Snapshot:
        """End the capture with all that was on the wire by now in the file; harmless when it has ended."""
        self.request_stop()
        self._thread.join()
        return self.snapshot()

    def discard(self) -> None:
        """End the capture and remove its file."""
        self.stop()
        self.path.unlink(missing_ok=True)

    def snapshot(self) -> Snapshot:
        """The counters as they are; those of the kernel are at most 0.1 s old while the capture runs."""
        native = self._native
        ended = self._ended_at
        return Snapshot(
            state="running" if ended is None else "failed" if self._error else "stopped",
            reason=native.reason,
            packets=native.packets,
            bytes=native.wire_bytes,
            size_bytes=native.file_bytes,
            received=native.received,
            dropped_kernel=native.dropped_kernel,
            dropped_interface=native.dropped_interface,
            duration=(ended or time.monotonic()) - self._started_at,
            warnings=tuple(self._warnings()),
            error=self._error,
        )

    def _warnings(self) -> list[str]:
        native = self._native
        found = [f"libpcap: {native.warning}"] if native.warning else []
        if native.dropped_kernel:
            found.append(f"the kernel dropped {native.dropped_kernel} packets that matched: the ring was full")
        if native.dropped_interface:
            found.append(f"the interface dropped {native.dropped_interface} frames before the capture saw them")
        if self._ended_at is not None and native.unaccounted:
            found.append(f"{native.unaccounted} packets that the kernel counted never came out of its ring")
        return found

    def _work(self) -> None:
        """The worker thread: open, arm, tell `start`, capture, close."""
        with contextlib.ExitStack() as stack:
            try:
                fd = self._open(stack)
                floor = files.free_floor(self.directory)
            except BaseException as error:  # noqa: BLE001 - `start` waits for it in another thread and raises it there
                stack.close()
                self._armed.set_exception(error)
                return
            self._started_at = time.monotonic()
            self._armed.set_result(None)
            try:
                self._native.run(
                    fd,
                    max_bytes=self.request.max_bytes,
                    max_packets=self.request.max_packets,
                    max_seconds=self.request.max_seconds,
                    free_floor=floor,
                )
                self._error = self._worker_error()
            except Exception as error:  # noqa: BLE001 - no call waits for it: it must be in every later answer
                self._error = self._failed(f"{type(error).__name__}: {error}")
            finally:
                ended_at = time.monotonic()
                try:
                    if self.on_end:
                        self.on_end()
                finally:
                    stack.close()
                    self._ended_at = ended_at

    def _open(self, stack: contextlib.ExitStack) -> int:
        """Open handle and file, write the file's header, arm. Returns the file's descriptor."""
        stack.callback(self._native.close)
        self._open_handle()
        self.path, fd = files.create(self.directory, self.stem)
        stack.callback(os.close, fd)
        try:
            self._write_header(fd, self._native.header())
            self._arm()
        except BaseException:
            self.path.unlink()
            raise
        return fd

    def _open_handle(self) -> None:
        name = self.request.interface
        try:
            with raised(Capability.NET_RAW, f"capture on {name}", CapturePermission):
                self._native.open(name, index=self.index, snaplen=self.request.snaplen, ring_bytes=self.ring_bytes)
        except NativeError as error:
            raise _open_error(name, error) from error
        self.link_type = self._native.link_type_name

    def _write_header(self, fd: int, header: bytes) -> None:
        try:
            written = os.write(fd, header)
        except OSError as error:
            raise self._write_error(error.errno or 0) from error
        if written != len(header):
            raise files.no_space(self.directory, f"{written} of the {len(header)} header bytes were written")

    def _arm(self) -> None:
        try:
            self._native.arm(self.request.filter)
        except FilterError as error:
            raise BadFilter.because(self.request.filter, f"libpcap: {error.text}") from error
        except NativeError as error:
            raise self._failed(error.text) from error

    def _worker_error(self) -> CaptureError | None:
        native = self._native
        if native.reason not in _FAILURES:
            return None
        if native.reason == "pcap_failed":
            return self._failed(f"libpcap: {native.pcap_error}")
        if native.error == 0:
            return files.no_space(self.directory, "free space fell below the floor; the file is whole up to there")
        return self._write_error(native.error)

    def _write_error(self, number: int) -> CaptureError:
        text = f"write to {self.path}: {os.strerror(number)}; the file ends after its last whole packet"
        if number in {errno.ENOSPC, errno.EDQUOT}:
            return files.no_space(self.directory, text)
        return OutputUnwritable(
            "the capture file can no longer be written",
            evidence=text,
            cure="See to the file system, then start a new capture",
        )

    def _failed(self, evidence: str) -> CaptureFailed:
        return CaptureFailed(
            f"the capture on {self.request.interface} failed",
            evidence=evidence,
            cure="qemu_status shows the interfaces that are there; start a new capture",
        )


def _open_error(interface: str, error: NativeError) -> CaptureError:
    """Turn libpcap's status into the error of that name."""
    if error.status in {_PERMISSION, _PROMISC_PERMISSION}:
        return CapturePermission(
            f"cannot capture on {interface}",
            evidence=f"libpcap: {error.text}",
            cure="qemu_doctor shows what is missing",
        )
    if error.status == _NO_SUCH_DEVICE:
        return NoSuchInterface(
            f"there is no interface {interface}",
            evidence=f"libpcap: {error.text}",
            cure="qemu_boot(network=true) makes the guest's bridge; qemu_status lists what is there",
        )
    if error.status == _DOWN:
        return InterfaceDown(
            f"the interface {interface} is down",
            evidence=f"libpcap: {error.text}",
            cure="Bring it up; rawtap does so only for interfaces of its own",
        )
    return CaptureFailed(
        f"cannot capture on {interface}",
        evidence=f"libpcap: {error.text}",
        cure="qemu_doctor checks the set-up",
    )
