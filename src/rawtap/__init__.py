"""rawtap: boot an operating system in QEMU, put it on a real wire, see every packet.

``from rawtap import Lab`` is for programs and tests; the stub beside this file says what there is. What it needs is
imported when it is asked for.
"""

_LIBRARY = {"AsyncCapture", "AsyncGuest", "AsyncLab", "CallFailed", "Capture", "Guest", "Lab"}


def __getattr__(name: str) -> object:
    if name not in _LIBRARY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module("rawtap.library"), name)
