"""The frames of a network interface, by libpcap."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field

from rawtap.capture import drops, failures
from rawtap.capture._native import LiveCapture
from rawtap.capture._unfiltered import UnfilteredCount
from rawtap.capture._worker import NativeError
from rawtap.errors import (
    CaptureError,
    CaptureFailed,
    CapturePermission,
    InterfaceDown,
    NoSuchInterface,
    ServerExhausted,
)
from rawtap.host.privileges import Capability, raised

# libpcap's status codes, pcap_activate(3PCAP).
_NO_SUCH_DEVICE, _PERMISSION, _DOWN, _PROMISC_PERMISSION = -5, -8, -9, -11


@dataclass
class InterfaceSource:
    """An interface, by its index, and more of them that are captured with it into one pcapng file.

    libpcap opens by name, so the name is checked against the index.
    """

    index: int
    ring_bytes: int
    more: tuple[int, ...] = ()
    tags_taken_off = True
    worker: LiveCapture = field(init=False, default_factory=LiveCapture)
    unfiltered: UnfilteredCount = field(init=False, default_factory=UnfilteredCount)
    unknown: dict[str, str] = field(init=False, default_factory=dict)

    def open(self, name: str, *, filtered: bool) -> None:
        """Open libpcap's handle with nothing let in yet.

        Raises:
            CaptureError: One of its kinds.
        """
        try:
            with raised(Capability.NET_RAW, f"capture on {name}", CapturePermission):
                loopback = self.index == _loopback_index()
                self.worker.open(
                    name,
                    index=self.index,
                    ring_bytes=self.ring_bytes,
                    loopback=loopback,
                    more=self.more,
                )
                if filtered:
                    self.unfiltered.open(self.index, loopback=loopback)
                    self.worker.watch(self.unfiltered)
        except NativeError as error:
            raise _open_error(name, error) from error
        except OSError as error:
            why = f"the unfiltered socket: {error.strerror}"
            raise ServerExhausted.of(error) or failures.failed(name, why) from error
        if filtered:
            self.unknown["filtered"] = "the kernel filters, and counts what its filter selects"
        if not drops.are_known(name, self.index):
            self.unknown["dropped_interface"] = "/sys does not show this network namespace"

    def close(self) -> None:
        """Free the handle, which takes the kernel some 20 ms, and the unfiltered socket."""
        self.unfiltered.close()
        self.worker.close()


def _loopback_index() -> int | None:
    """The interface that libpcap takes for the loopback one, by its name; None where there is none."""
    try:
        return socket.if_nametoindex("lo")
    except OSError:
        return None


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
