"""The tool that makes a test of what an agent did."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field

from rawtap.blocking import on_disk
from rawtap.capture import files
from rawtap.errors import RequestInvalid
from rawtap.tools._text import Answer
from rawtap.tools._tool import LabContext, Offer, book_of, is_empty, lab_of, tool


class Recorded(Answer):
    """A new file with a test."""

    path: str
    calls: int = Field(
        description="That are in it; further pages, cancelled calls and what pages for people ask are not."
    )
    left: int = Field(0, exclude_if=is_empty, description="Calls after these, for which there was no room.")
    size_bytes: int
    next_step: str


async def qemu_record(context: LabContext) -> Recorded:
    """Write your calls so far as a pytest file."""
    book = book_of(context)
    if not (book.calls or book.left):
        raise RequestInvalid("there is no call to write down", cure="Boot a guest, and try what the test is to repeat")
    folder, source = lab_of(context).settings.capture_dir, book.test().encode()
    calls, left = book.calls, book.left
    path = await on_disk(folder, _save, folder, source)
    step = f"Run it where rawtap is installed: pytest {path}. It expects what was answered: change what was wrong"
    return Recorded(path=str(path), calls=calls, left=left, size_bytes=len(source), next_step=step)


def _save(folder: Path, source: bytes) -> Path:
    path, fd = files.create_beside(folder, "calls", ".py", before="test_", data=source)
    os.close(fd)
    return path


TOOLS: tuple[Offer, ...] = (tool(qemu_record, "Write a test"),)
