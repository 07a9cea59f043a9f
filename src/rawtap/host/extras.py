"""How a part of rawtap that was left out comes into the environment that it runs in."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cure(package: str) -> str:
    """What to do where a Python package is missing, like "lz4", or an extra, like "rawtap[query]".

    An environment of a Debian package, of uv or of pipx has no pip of its own: another one installs into it
    (``pip --python``, since pip 22.3).
    """
    prefix = Path(sys.prefix)
    pip = prefix / "bin/pip"
    program = str(pip) if pip.exists() else f"python3 -m pip --python {prefix / 'bin/python3'}"
    by_root = "" if os.access(prefix, os.W_OK) else "sudo "
    return f"Run: {by_root}{program} install '{package}'"
