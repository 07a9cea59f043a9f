"""A folder as a CD: an ISO image of it, in a file without a name that lives as long as the guest that reads it.

It is made by xorriso, which reads that folder and has only the file's descriptor to write to. Names are kept as they
are (Rock Ridge, Joliet), and links are links; all is root's and readable to all.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import IO

from rawtap.blocking import on_disk
from rawtap.errors import GuestFailed, GuestNotFound
from rawtap.host import children, programs
from rawtap.host.landlock import Access
from rawtap.untrusted import visible

_PROGRAM = "xorriso"
_LARGE = ("-iso-level", "3")  # files of 4 GiB and more, in several extents
_OPTIONS = ("-as", "mkisofs", "-quiet", *_LARGE, "-r", "-J", "-joliet-long", "-V", "RAWTAP")
_TAIL = 500  # bytes


async def made_of(folder: Path, scratch: Path, until: contextlib.ExitStack) -> int:
    """A descriptor, for reading, of an image of that folder, which is resolved and was looked through (`folders`).

    It is closed with `until`.

    Raises:
        GuestNotFound: xorriso is not installed.
        GuestFailed: It cannot make the image.
        DiskStalled: The disk of `scratch` does not answer.
    """
    lack = f"no CD can be made of {folder}"
    program = Path(programs.require(_PROGRAM, _PROGRAM, GuestNotFound, lack))
    with contextlib.ExitStack() as meanwhile:
        try:
            file = await on_disk(scratch, _unnamed, scratch, meanwhile)
            complaint = meanwhile.enter_context(os.fdopen(os.memfd_create("rawtap-xorriso"), "w+b", 0))
            code = await _run(program, folder, file.fileno(), complaint.fileno())
            found = os.open(f"/proc/self/fd/{file.fileno()}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise GuestFailed(lack, evidence=str(error), cure=f"{scratch} must be writable, with room") from error
        until.callback(os.close, found)
        if code:
            said = os.pread(complaint.fileno(), _TAIL, max(0, os.fstat(complaint.fileno()).st_size - _TAIL))
            raise GuestFailed(
                lack,
                evidence=f"xorriso ended with {code}: {visible(said.decode('utf-8', 'replace').strip())}",
                cure="Make an image of it, and give that as the drive",
            )
        return found


def _unnamed(scratch: Path, until: contextlib.ExitStack) -> IO[bytes]:
    scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    return until.enter_context(tempfile.TemporaryFile(dir=scratch, buffering=0))


async def _run(program: Path, folder: Path, image: int, complaint: int) -> int:
    child = children.start(
        [program, *_OPTIONS, folder],
        Access(programs=(program,), read=(folder,), alone=True),
        streams=("null", image, complaint),
        environment=children.PLAIN,
        session=True,
    )
    try:
        return await child.ended()
    finally:  # where nobody waits for it any more
        child.kill()
        child.wait()
