"""What went wrong with a capture, as typed errors. Pure, but for a look at the file."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from rawtap.capture import files
from rawtap.capture.account import Account
from rawtap.capture.files import Segment
from rawtap.errors import CaptureError, CaptureFailed, OutputUnwritable


def of_file(account: Account) -> CaptureError | None:
    """Why the newest file is not, or no longer, what was written; None where it is."""
    newest = account.files[-1]
    if account.reason == "file_cut":
        return _changed(files.trouble_of(newest, account.file_bytes) or f"{newest.path} was truncated")
    if account.reason == "write_failed" or (account.reason == "no_space" and account.error):
        return write_failed(newest.path, account.error)
    if account.reason == "no_space":
        return files.no_space(newest.path.parent, "free space fell below the floor; the file is whole up to there")
    trouble = files.trouble_of(newest, account.file_bytes)
    return _changed(trouble) if trouble else None


def changed_meanwhile(segment: Segment, size: int) -> list[str]:
    """A warning of a running capture whose file somebody else has changed."""
    trouble = files.trouble_of(segment, size)
    return [f"{trouble} while the capture runs: stop it, and start a new one"] if trouble else []


def _changed(evidence: str) -> OutputUnwritable:
    return OutputUnwritable(
        "somebody changed the capture's file while the capture ran",
        evidence=evidence,
        cure="Start a new capture, and leave its file until it is stopped",
    )


def write_failed(path: Path, number: int) -> CaptureError:
    """The error for a write(2) that failed with that errno."""
    text = f"write to {path}: {os.strerror(number)}; the file ends after its last whole packet"
    if number in {errno.ENOSPC, errno.EDQUOT}:
        return files.no_space(path.parent, text)
    return OutputUnwritable(
        "the capture file can no longer be written",
        evidence=text,
        cure="See to the file system, then start a new capture",
    )


def failed(interface: str, evidence: str) -> CaptureFailed:
    """The error for a source that gives no more, or what nobody foresaw."""
    return CaptureFailed(
        f"the capture on {interface} failed",
        evidence=evidence,
        cure="qemu_status shows the interfaces that are there; start a new capture",
    )
