"""The frames of a guest's network card, as QEMU hands them over itself."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field

from rawtap.capture._mirror_worker import MirrorCapture
from rawtap.capture._unfiltered import UnfilteredCount
from rawtap.capture._worker import NativeError
from rawtap.errors import CaptureFailed


@dataclass
class MirrorSource:
    """A socket whose other end QEMU writes a guest's frames to.

    Attributes:
        near: Becomes the worker's own.
        mac: The guest's: whose frames they are.
    """

    near: socket.socket
    mac: str
    tags_taken_off = False
    worker: MirrorCapture = field(init=False, default_factory=MirrorCapture)
    unfiltered: UnfilteredCount = field(init=False, default_factory=UnfilteredCount)
    unknown: dict[str, str] = field(init=False, default_factory=dict)  # each frame passes through the worker's hands

    def open(self, name: str, *, filtered: bool) -> None:
        """Hand the socket to the worker.

        Raises:
            CaptureFailed: The worker cannot be made.
        """
        guest = bytes.fromhex(self.mac.replace(":", ""))
        try:
            self.worker.open(self.near.detach(), guest=guest)
        except NativeError as error:
            raise CaptureFailed(
                f"cannot capture on {name}", evidence=error.text, cure="qemu_doctor checks the set-up"
            ) from error
        if filtered:
            self.worker.watch(self.unfiltered)

    def close(self) -> None:
        """Read until QEMU has let go, where a capture ended by itself; then close the socket."""
        self.near.close()
        if self.worker.reason is not None:
            self.worker.discard_rest()
        self.worker.close()
