"""Programs of this machine that rawtap starts: where they are, or which package has them."""

from __future__ import annotations

import shutil

from rawtap.errors import RawtapError
from rawtap.host import distribution

# The PATH has no say in what is given capabilities; and that of Debian's users is without sbin.
SYSTEM_FOLDERS = "/usr/sbin:/usr/bin:/sbin:/bin"


def find(program: str, folders: str | None = SYSTEM_FOLDERS) -> str | None:
    """Where a program is, None where it is not installed; `folders` None stands for the user's PATH."""
    return shutil.which(program, path=folders)


def require(
    program: str, package: str, refusal: type[RawtapError], lack: str = "", folders: str | None = SYSTEM_FOLDERS
) -> str:
    """Where a program is.

    Raises:
        refusal: It is not installed. `lack` ("no DHCP and DNS") is what that means to the caller.
    """
    path = find(program, folders)
    if path is None:
        missing = f"{program} is not installed"
        raise refusal(f"{lack}: {missing}" if lack else missing, cure=distribution.here().cure(package))
    return path
