"""Folders that a guest is given whole: as a disk, or by TFTP. Nothing in them may lead elsewhere.

Theory of operation. Who serves such a folder, QEMU or dnsmasq, follows the links in it. Landlock keeps both from the
user's files, but neither from what packages put on the system nor from telling whether there is such a file, and how
large it is: stat(2) is no right of Landlock's. So the folder is looked through before. The guest can add no link, since
it cannot write there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from rawtap.errors import GuestNotFound, PathNotAllowed
from rawtap.guest.paths import is_public

_MOST = 100_000  # what is in it


def require_no_way_out(folder: Path, what: str, *, by_name: bool = False) -> None:
    """Refuse a folder, which is resolved, if what is in it leads out of it, or would have its server wait.

    A server that walks through it would follow a link to a folder for ever. With `by_name` it opens what it is asked
    for, one path at a time, and such a link may be in it, as it is in Debian's tree for network boot.

    Raises:
        PathNotAllowed: There is a link out, or to a folder, or what is neither file nor folder; or too much to look at.
        GuestNotFound: A part of it cannot be read.
    """
    try:
        for number, entry in enumerate(_entries(folder)):
            lack = (
                _lack(entry, folder, by_name=by_name) if number < _MOST else f"there are more than {_MOST} files in it"
            )
            if lack:
                raise PathNotAllowed(
                    f"the {what} {folder} may not be used",
                    evidence=lack,
                    cure="Name a folder with nothing in it but the files that the guest is to have",
                )
    except OSError as error:
        raise GuestNotFound(
            f"the {what} {folder} cannot be read",
            evidence=f"{error.strerror}: {error.filename}",
            cure="Make all of it readable for the server's user",
        ) from error


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """All that is in it, at any depth."""
    left: list[str | Path] = [folder]
    while left:
        with os.scandir(left.pop()) as found:
            for entry in found:
                yield entry
                if entry.is_dir(follow_symlinks=False):
                    left.append(entry.path)


def _lack(entry: os.DirEntry[str], folder: Path, *, by_name: bool) -> str:
    """Why that may not be served, in words that tell nothing of what is elsewhere; "" where it may."""
    if entry.is_symlink():
        try:
            real = Path(entry.path).resolve()
        except RuntimeError:  # links in a circle, to Python 3.11
            return f"the link {entry.path} leads nowhere"
        is_within = real.is_relative_to(folder)
        if not (is_within or is_public(real)):
            return f"the link {entry.path} leads out of it"
        # What is in a folder elsewhere is not looked at here.
        return f"the link {entry.path} leads to a folder" if real.is_dir() and not (is_within and by_name) else ""
    if entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False):
        return ""
    return f"{entry.path} is neither a file nor a folder"
