"""The same Lab for programs that block: each method waits for that of the same name in `asynchronous`."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Concatenate, Generic, ParamSpec, Protocol, Self, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

from rawtap.connection import CallFailed
from rawtap.library.asynchronous import AnyPath, AsyncCapture, AsyncGuest, AsyncLab
from rawtap.tools.guest import Boot

P = ParamSpec("P")
T = TypeVar("T")
W = TypeVar("W")
Inner = TypeVar("Inner")
Inner_co = TypeVar("Inner_co", covariant=True)


class _Holder(Protocol[Inner_co]):
    """Has what is awaited for it, and where."""

    @property
    def _inner(self) -> Inner_co: ...

    @property
    def _portal(self) -> BlockingPortal: ...


def _waits(method: Callable[Concatenate[Inner, P], Awaitable[T]]) -> Callable[Concatenate[_Holder[Inner], P], T]:
    """`method`, blocking."""

    @functools.wraps(method)
    def wait(self: _Holder[Inner], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._portal.call(functools.partial(method, self._inner, *args, **kwargs))

    return wait


def _gives(
    method: Callable[Concatenate[Inner, P], Awaitable[T]], into: Callable[[T, BlockingPortal], W]
) -> Callable[Concatenate[_Holder[Inner], P], W]:
    """`method`, blocking, with a blocking answer."""

    @functools.wraps(method)
    def give(self: _Holder[Inner], /, *args: P.args, **kwargs: P.kwargs) -> W:
        portal = self._portal
        return into(portal.call(functools.partial(method, self._inner, *args, **kwargs)), portal)

    return give


class _Blocking(Generic[Inner]):
    def __init__(self, inner: Inner, portal: BlockingPortal) -> None:
        self._inner = inner
        self._portal = portal


class Capture(_Blocking[AsyncCapture]):
    """A running or finished capture; see `AsyncCapture`."""

    @property
    def id(self) -> str:
        """What the Lab calls it, like "c1"."""
        return self._inner.id

    @property
    def path(self) -> Path:
        """Its file, or the first of a ring."""
        return self._inner.path

    wait = _waits(AsyncCapture.wait)
    packets = _waits(AsyncCapture.packets)
    explain = _waits(AsyncCapture.explain)
    follow = _waits(AsyncCapture.follow)
    query = _waits(AsyncCapture.query)
    status = _waits(AsyncCapture.status)
    stop = _waits(AsyncCapture.stop)


class Guest(_Blocking[AsyncGuest]):
    """A booted guest; see `AsyncGuest`."""

    def __init__(self, inner: AsyncGuest, portal: BlockingPortal) -> None:
        super().__init__(inner, portal)
        self.capture = Capture(inner.capture, portal) if inner.capture else None

    @property
    def name(self) -> str:
        """What the Lab calls it."""
        return self._inner.name

    @property
    def booted(self) -> Boot:
        """How its boot went."""
        return self._inner.booted

    send = _waits(AsyncGuest.send)
    run = _waits(AsyncGuest.run)
    read = _waits(AsyncGuest.read)
    link = _waits(AsyncGuest.link)
    shutdown = _waits(AsyncGuest.shutdown)
    start_capture = _gives(AsyncGuest.start_capture, Capture)


class Lab:
    """Guests, networks and captures of this program's own. Open it with ``with``; leaving releases everything.

    It takes what `AsyncLab` takes. Any thread may use it; calls on one Lab may overlap.
    """

    def __init__(
        self,
        *,
        capture_dir: AnyPath | None = None,
        read_dirs: Iterable[AnyPath] = (),
        image_dirs: Iterable[AnyPath] = (),
        allow_interfaces: Iterable[str] = (),
        rootless: bool | None = None,
        outside: bool | None = None,
        options: Sequence[str] = (),
    ) -> None:
        self._inner = AsyncLab(
            capture_dir=capture_dir,
            read_dirs=read_dirs,
            image_dirs=image_dirs,
            allow_interfaces=allow_interfaces,
            rootless=rootless,
            outside=outside,
            options=options,
        )
        self._stack = ExitStack()
        self._started: BlockingPortal | None = None

    @property
    def _portal(self) -> BlockingPortal:
        if self._started is None:
            raise CallFailed("server.stopping: the Lab is not open. Use it within its with block")
        return self._started

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._started = stack.enter_context(start_blocking_portal())
            stack.enter_context(self._started.wrap_async_context_manager(self._inner))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self._started = None
        return self._stack.__exit__(kind, error, trace)

    call = _waits(AsyncLab.call)
    boot = _gives(AsyncLab.boot, Guest)
    start_capture = _gives(AsyncLab.start_capture, Capture)
    explain = _waits(AsyncLab.explain)
    query = _waits(AsyncLab.query)
    timeline = _waits(AsyncLab.timeline)
    doctor = _waits(AsyncLab.doctor)
