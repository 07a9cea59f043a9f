"""Every failure that rawtap expects, each with a stable code.

::

    RawtapError
    ├── RequestInvalid            request.invalid               arguments that no call could mean
    ├── ServerStopping            server.stopping               the call came after the server began to stop
    ├── ServerExhausted           server.exhausted              no more file descriptors
    ├── ServerLimit               server.limit                  a client's share is used up, or too many clients
    ├── ServerCannotStart         server.cannot_start           no address to listen on, or no token
    ├── ServerGone                server.gone                   a server ended before the program that uses it
    ├── ServerUnknown             server.unknown                none runs that was meant, or several could be
    ├── ConfigurationInvalid      server.configuration_invalid  the operator's file or environment
    ├── DiskStalled               server.disk_stalled           a file system does not answer
    ├── CaptureError
    │   ├── CapturePermission     capture.permission            no CAP_NET_RAW
    │   ├── NoSuchInterface       capture.no_such_interface
    │   ├── InterfaceDown         capture.interface_down
    │   ├── InterfaceNotAllowed   capture.interface_not_allowed the operator's policy
    │   ├── BadFilter             capture.bad_filter            libpcap's own words inside, or tshark's
    │   ├── OutputUnwritable      capture.output_unwritable
    │   ├── NoSpace               capture.no_space              at the start, or in the middle
    │   ├── CaptureUnknown        capture.unknown               no capture of that id
    │   ├── CaptureUnreadable     capture.unreadable            not a capture file, or not ours to read
    │   └── CaptureFailed         capture.failed                libpcap failed while capturing
    ├── QueryError
    │   ├── QueryInvalid          query.invalid                 no SQL that is taken; DuckDB's own words inside
    │   ├── QueryLimit            query.limit                   it takes more time or memory than it may
    │   ├── QueryUnavailable      query.unavailable             no DuckDB
    │   └── QueryFailed           query.failed                  the process that answers ended without an answer
    ├── DissectorError
    │   ├── DissectorUnavailable  dissector.unavailable         no tshark
    │   ├── DissectorLimit        dissector.limit               it takes more time than it may
    │   └── DissectorFailed       dissector.failed              tshark ended without a whole answer; its words inside
    ├── DebugError
    │   ├── DebugUnavailable      debug.unavailable             no gdb, or nothing to confine it by
    │   ├── DebugNotAttached      debug.not_attached            no debugger looks into that guest
    │   ├── DebugRefused          debug.refused                 gdb's own words inside
    │   └── DebugFailed           debug.failed                  gdb ended, or did not answer
    ├── PictureError
    │   ├── PictureUnavailable    picture.unavailable           no matplotlib
    │   └── PictureFailed         picture.failed                the process that draws ended without a picture
    ├── NetworkError
    │   ├── NetworkPermission     network.permission            no CAP_NET_ADMIN
    │   ├── TunMissing            network.tun_missing           no /dev/net/tun
    │   ├── TunPermission         network.tun_permission        /dev/net/tun is closed to this user
    │   ├── NameInvalid           network.name_invalid
    │   ├── NetworkExists         network.exists                a name or subnet that is somebody else's
    │   ├── RootlessUnavailable   network.rootless_unavailable  no user namespace for this user
    │   ├── ServicesUnavailable   network.services_unavailable  no dnsmasq, or it may not; a warning of the boot
    │   ├── OutsideUnavailable    network.outside_unavailable   no way out for guests; a warning of the boot
    │   ├── ImpairmentUnavailable network.impairment_unavailable the kernel lacks the queue that it takes
    │   └── NetworkFailed         network.failed                the kernel refused for another reason
    ├── GuestError
    │   ├── GuestNotFound         guest.not_found               a kernel or drive that is not there
    │   ├── PathNotAllowed        guest.path_not_allowed        a host file that guests may not be given
    │   ├── QemuMissing           guest.qemu_missing
    │   ├── GuestExited           guest.exited                  QEMU ended: exit code and stderr inside
    │   ├── GuestNotRunning       guest.not_running
    │   ├── GuestAlreadyRunning   guest.already_running
    │   ├── SnapshotRefused       guest.snapshot_refused        the guest's state cannot be kept whole
    │   ├── SnapshotUnknown       guest.snapshot_unknown        no snapshot of that tag
    │   ├── GuestFailed           guest.failed                  QEMU is there but does not answer, or refuses
    │   ├── GuestSilent           guest.silent                  it answers nothing that shows that its stack lives
    │   ├── GuestBusy             guest.busy                    another call has its turn on the console
    │   ├── GuestPaused           guest.paused                  it stands still, and takes no input now
    │   ├── NoDisplay             guest.no_display              no screen, keyboard and pointer
    │   ├── ScreenTooLarge        guest.screen_too_large        a picture that no answer can hold
    │   └── CommandRefused        guest.command_refused         a QMP command that reaches beyond the guest
    ├── ProfileInvalid            profile.invalid
    └── HostFileUnfit             install.file_unfit            an agent's host has a configuration that stays as it is

The text of each is ``code: what happened (evidence). What to do next``, which is the whole of what a caller
of a tool gets to read.
"""

from __future__ import annotations

import errno
from typing import ClassVar, Self

_SHOWN_FILTER = 300
_SHOWN = 3000  # characters of each part: what a caller named may be of any length


class RawtapError(Exception):
    """An expected failure: what happened, the evidence for it, and the cure."""

    code: ClassVar[str]

    def __init__(self, problem: str, *, evidence: str = "", cure: str) -> None:
        self.problem = problem
        self.evidence = evidence
        self.cure = cure
        super().__init__(problem, evidence, cure)

    def __str__(self) -> str:
        return self.told(self.cure)

    def told(self, cure: str) -> str:
        """The text with that cure, or without any."""
        seen = f" ({_cut(self.evidence)})" if self.evidence else ""
        return f"{self.code}: {_cut(self.problem)}{seen}" + (f". {_cut(cure)}" if cure else "")


def _cut(text: str) -> str:
    """`text` with what is too much left out of its middle: its ends are rawtap's own words."""
    left_out = len(text) - _SHOWN
    half = _SHOWN // 2
    return f"{text[:half]}[{left_out} characters left out]{text[-half:]}" if left_out > 0 else text


class RequestInvalid(RawtapError):
    code = "request.invalid"


class ServerStopping(RawtapError):
    code = "server.stopping"


class ServerExhausted(RawtapError):
    code = "server.exhausted"

    @classmethod
    def of(cls, error: BaseException | None) -> Self | None:
        """The error for a system call that failed for want of descriptors, EMFILE or ENFILE; else None."""
        if not isinstance(error, OSError) or error.errno not in {errno.EMFILE, errno.ENFILE}:
            return None
        return cls(
            "the server has as many files open as it may",
            evidence=str(error),
            cure="End captures or guests; the operator can raise the limit (ulimit -n)",
        )


class ServerLimit(RawtapError):
    code = "server.limit"


class ServerCannotStart(RawtapError):
    code = "server.cannot_start"


class ServerGone(RawtapError):
    code = "server.gone"


class ServerUnknown(RawtapError):
    code = "server.unknown"


class ConfigurationInvalid(RawtapError):
    code = "server.configuration_invalid"


class DiskStalled(RawtapError):
    code = "server.disk_stalled"


class CaptureError(RawtapError):
    """Any of `capture.*`; never raised itself."""


class CapturePermission(CaptureError):
    code = "capture.permission"


class NoSuchInterface(CaptureError):
    code = "capture.no_such_interface"


class InterfaceDown(CaptureError):
    code = "capture.interface_down"


class InterfaceNotAllowed(CaptureError):
    code = "capture.interface_not_allowed"


class BadFilter(CaptureError):
    code = "capture.bad_filter"

    @classmethod
    def because(cls, expression: str, reason: str) -> Self:
        """The error for `expression`, with the reason: libpcap's own text where libpcap refused it."""
        shown = expression if len(expression) <= _SHOWN_FILTER else expression[:_SHOWN_FILTER] + "..."
        return cls(
            f"the filter {shown!r} cannot be used",
            evidence=reason,
            cure="The syntax is pcap-filter(7), for example: icmp, udp port 53, host 10.0.2.15 and tcp",
        )

    @classmethod
    def by_tshark(cls, expression: str, reason: str) -> Self:
        """The error for a display filter, with tshark's own words."""
        shown = expression if len(expression) <= _SHOWN_FILTER else expression[:_SHOWN_FILTER] + "..."
        return cls(
            f"the display filter {shown!r} cannot be used",
            evidence=f"tshark: {reason}",
            cure="The syntax is wireshark-filter(4), for example: dns.flags.rcode != 0, tcp.analysis.retransmission",
        )


class OutputUnwritable(CaptureError):
    code = "capture.output_unwritable"


class NoSpace(CaptureError):
    code = "capture.no_space"


class CaptureUnknown(CaptureError):
    code = "capture.unknown"


class CaptureUnreadable(CaptureError):
    code = "capture.unreadable"


class CaptureFailed(CaptureError):
    code = "capture.failed"


class QueryError(RawtapError):
    """Any of `query.*`; never raised itself."""


class QueryInvalid(QueryError):
    code = "query.invalid"


class QueryLimit(QueryError):
    code = "query.limit"


class QueryUnavailable(QueryError):
    code = "query.unavailable"


class QueryFailed(QueryError):
    code = "query.failed"


class DissectorError(RawtapError):
    """Any of `dissector.*`; never raised itself."""


class DissectorUnavailable(DissectorError):
    code = "dissector.unavailable"


class DissectorLimit(DissectorError):
    code = "dissector.limit"


class DissectorFailed(DissectorError):
    code = "dissector.failed"


class DebugError(RawtapError):
    """Any of `debug.*`; never raised itself."""


class DebugUnavailable(DebugError):
    code = "debug.unavailable"


class DebugNotAttached(DebugError):
    code = "debug.not_attached"


class DebugRefused(DebugError):
    code = "debug.refused"


class DebugFailed(DebugError):
    code = "debug.failed"


class PictureError(RawtapError):
    """Any of `picture.*`; never raised itself."""


class PictureUnavailable(PictureError):
    code = "picture.unavailable"


class PictureFailed(PictureError):
    code = "picture.failed"


class NetworkError(RawtapError):
    """Any of `network.*`; never raised itself."""


class NetworkPermission(NetworkError):
    code = "network.permission"


class TunMissing(NetworkError):
    code = "network.tun_missing"


class TunPermission(NetworkError):
    code = "network.tun_permission"


class NameInvalid(NetworkError):
    code = "network.name_invalid"


class NetworkExists(NetworkError):
    code = "network.exists"


class RootlessUnavailable(NetworkError):
    code = "network.rootless_unavailable"


class ServicesUnavailable(NetworkError):
    code = "network.services_unavailable"


class OutsideUnavailable(NetworkError):
    code = "network.outside_unavailable"


class ImpairmentUnavailable(NetworkError):
    code = "network.impairment_unavailable"


class NetworkFailed(NetworkError):
    code = "network.failed"


class GuestError(RawtapError):
    """Any of `guest.*`; never raised itself."""


class GuestNotFound(GuestError):
    code = "guest.not_found"


class PathNotAllowed(GuestError):
    code = "guest.path_not_allowed"


class QemuMissing(GuestError):
    code = "guest.qemu_missing"


class GuestExited(GuestError):
    code = "guest.exited"


class GuestNotRunning(GuestError):
    code = "guest.not_running"


class GuestAlreadyRunning(GuestError):
    code = "guest.already_running"


class SnapshotRefused(GuestError):
    code = "guest.snapshot_refused"


class SnapshotUnknown(GuestError):
    code = "guest.snapshot_unknown"


class GuestFailed(GuestError):
    code = "guest.failed"


class GuestSilent(GuestError):
    code = "guest.silent"


class GuestBusy(GuestError):
    code = "guest.busy"


class GuestPaused(GuestError):
    code = "guest.paused"


class NoDisplay(GuestError):
    code = "guest.no_display"


class ScreenTooLarge(GuestError):
    code = "guest.screen_too_large"


class CommandRefused(GuestError):
    code = "guest.command_refused"


class ProfileInvalid(RawtapError):
    code = "profile.invalid"


class HostFileUnfit(RawtapError):
    code = "install.file_unfit"
