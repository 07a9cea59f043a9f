"""rawtap for programs: a Lab, its guests and their captures, as awaitable and as blocking calls."""

from rawtap.connection import CallFailed
from rawtap.library.asynchronous import AsyncCapture, AsyncGuest, AsyncLab
from rawtap.library.blocking import Capture, Guest, Lab
from rawtap.library.wire import Wire

__all__ = ["AsyncCapture", "AsyncGuest", "AsyncLab", "CallFailed", "Capture", "Guest", "Lab", "Wire"]
