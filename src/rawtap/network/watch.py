"""What happens to interfaces while captures run: a history of changes, and a table that is always current.

Theory of operation. One netlink socket is subscribed to RTMGRP_LINK (rtnetlink(7)) before the interfaces are listed for
the first time, so no change falls in between. A thread waits on it, for the sake of the times. Whoever asks reads
first, under the same lock, what is still in the socket: an answer is never behind the kernel, which has queued a
message for every subscriber before the change's own caller gets its reply. The one exception is the carrier: the kernel
tells of it from a work queue, of a lost one up to a second late (net/core/link_watch.c), and `Watcher.refresh` asks
instead.

A message repeats the whole state of a link, mostly for a reason that is nobody's business here. A `Change` is what
differs from the message before.

When the socket's buffer overruns (ENOBUFS, netlink(7)) messages are lost. The interfaces are then listed again, and
the moment is kept as a change of its own, "missed": a link may have gone down and up in between.

The thread ends early where it cannot read or list. Whoever asks then still gets what is true, or the error; only the
times of changes are those of the question.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from rawtap.errors import NetworkError, NetworkFailed
from rawtap.network import links
from rawtap.network.links import Link

_MOST = 65536  # bytes of a message

logger = logging.getLogger(__name__)

What = Literal["added", "removed", "renamed", "up", "down", "carrier", "no_carrier", "missed"]

_KEPT_CHANGES = 100  # of each interface
_KEPT_GONE = 200  # interfaces that were removed


@dataclass(frozen=True)
class Change:
    """What happened to an interface.

    Attributes:
        at: time.monotonic() when it was read.
        index: The interface's; 0 with "missed", which is about all of them.
        name: The name before the change.
        what: Down and up are the administrator's (IFF_UP); carrier is told only of an interface that is up.
        new_name: With "renamed".
    """

    at: float
    index: int
    name: str
    what: What
    new_name: str = ""


@dataclass(frozen=True)
class Gone:
    """An interface that was removed: its last state and counters, and when."""

    link: Link
    at: float


@dataclass(frozen=True)
class Sight:
    """All interfaces at one moment (`at`, time.monotonic()), by index: those that are there, and those of `gone`."""

    at: float
    links: dict[int, Link]
    gone: dict[int, Gone]

    def find(self, name: str) -> Link | None:
        """The interface that has that name, None where there is none."""
        return next((link for link in self.links.values() if link.name == name), None)


def differences(old: Link | None, new: Link | None, at: float) -> list[Change]:
    """The changes that lead from one state of an interface to the next; None where it is not there. Pure."""
    link = old or new
    if link is None:
        return []
    if old is None or new is None:
        return [Change(at, link.index, link.name, "removed" if old else "added")]
    found = [Change(at, link.index, new.name, what) for what in _state_changes(old, new)]
    if old.name != new.name:
        found.insert(0, Change(at, link.index, old.name, "renamed", new.name))
    return found


def _state_changes(old: Link, new: Link) -> list[What]:
    if not new.up:
        return ["down"] if old.up else []
    found: list[What] = [] if old.up else ["up"]
    had_carrier = old.carrier or not old.up  # one that comes up is expected to have it
    if new.carrier != had_carrier:
        found.append("carrier" if new.carrier else "no_carrier")
    return found


@dataclass
class _Record:
    """An interface's latest state and its history; `gone_at` where it is not there any more."""

    link: Link
    gone_at: float | None = None
    changes: deque[Change] = field(default_factory=lambda: deque(maxlen=_KEPT_CHANGES))


@dataclass(eq=False)
class Watcher:
    """The table and the history. Made by `watch`; everything here may be called from any thread.

    The socket, the records and the missed moments are touched under the lock only. `on_change` is called under it with
    every change, by whoever reads it first.
    """

    _socket: Any  # pyroute2's IPRSocket, non-blocking
    on_change: Callable[[Change], None] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _records: dict[int, _Record] = field(default_factory=dict)
    _missed: deque[Change] = field(default_factory=lambda: deque(maxlen=_KEPT_CHANGES))
    _incomplete: bool = False  # messages were lost, and the interfaces were not listed since

    def catch_up(self) -> None:
        """Take in every change that the kernel has told of by now.

        Raises:
            OSError: The socket cannot be read.
            NetworkError: The interfaces could not be listed after an overrun.
        """
        with self._lock:
            self._read()

    def look(self, gone_since: float = math.inf) -> Sight:
        """All interfaces with their counters as they are now, and those removed since a moment of time.monotonic().

        Raises:
            OSError: The counters or the socket cannot be read.
            NetworkError: The interfaces could not be listed after an overrun.
        """
        with self._lock:
            self._read()
            there = [record.link for record in self._records.values() if record.gone_at is None]
            gone = {
                index: Gone(record.link, record.gone_at)
                for index, record in self._records.items()
                if record.gone_at is not None and record.gone_at >= gone_since
            }
        counted = links.counters()
        now = [_with_counters(link, counted.get(link.name)) for link in there]
        return Sight(time.monotonic(), {link.index: link for link in now}, gone)

    def changes(self, index: int, since: float) -> tuple[Change, ...]:
        """What happened to an interface since a moment of time.monotonic(), oldest first, with what was missed."""
        with self._lock:
            self._read()
            record = self._records.get(index)
            found = [*self._missed, *(record.changes if record else ())]
        return tuple(sorted((each for each in found if each.at >= since), key=lambda each: each.at))

    def refresh(self, index: int) -> None:
        """Ask the kernel for one interface, for the sake of a carrier that it has not told of yet.

        Raises:
            NetworkError: It cannot be asked.
        """
        with self._lock:
            self._read()
            link = links.get(index)
            record = self._records.get(index)
            if link is not None:
                self._note(link, time.monotonic(), gone=False)
            elif record is not None and record.gone_at is None:
                self._note(record.link, time.monotonic(), gone=True)

    @contextmanager
    def running(self) -> Iterator[None]:
        """List the interfaces, then keep up with them in a thread that ends with the block."""
        with self._lock:
            self._records = {link.index: _Record(link) for link in links.all_links()}
        with contextlib.ExitStack() as stack:
            wake = os.eventfd(0, os.EFD_CLOEXEC)
            stack.callback(os.close, wake)
            thread = threading.Thread(target=self._work, args=(wake,), name="links", daemon=True)
            thread.start()
            stack.callback(thread.join)
            stack.callback(os.eventfd_write, wake, 1)
            yield

    def _work(self, wake: int) -> None:
        """The thread: read what comes until `wake` becomes readable."""
        poll = select.poll()
        poll.register(self._socket.socket, select.POLLIN)
        poll.register(wake, select.POLLIN)
        while wake not in dict(poll.poll()):
            try:
                with self._lock:
                    self._read()
            except (NetworkError, OSError) as error:
                logger.warning("changes of interfaces are no longer followed: %s", error)
                return

    def _read(self) -> None:
        """Take in every message that is in the socket by now."""
        while True:
            try:
                messages = self._socket.get()
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self._incomplete = True
                continue
            for message in messages:
                self._take(message)
        # Only now: after an overrun the kernel queues nothing more until the socket is empty (netlink_rcv_wake,
        # net/netlink/af_netlink.c).
        if self._incomplete:
            self._list_again()

    def _take(self, message: Any) -> None:
        if message["header"]["error"] is not None:  # it could not be decoded
            self._incomplete = True
        # A bridge tells of its ports in messages of its own family: one that leaves it is "deleted" there.
        elif message["family"] == socket.AF_UNSPEC and message["event"] in {"RTM_NEWLINK", "RTM_DELLINK"}:
            self._note(links.link_of(message), time.monotonic(), gone=message["event"] == "RTM_DELLINK")

    def _list_again(self) -> None:
        listed = {link.index: link for link in links.all_links()}
        now = time.monotonic()
        missed = Change(now, 0, "", "missed")
        self._missed.append(missed)
        self._tell(missed)
        for index, record in list(self._records.items()):
            if record.gone_at is None and index not in listed:
                self._note(record.link, now, gone=True)
        for link in listed.values():
            self._note(link, now, gone=False)
        self._incomplete = False

    def _note(self, link: Link, at: float, *, gone: bool) -> None:
        """Keep an interface's state, and what is new about it."""
        record = self._records.setdefault(link.index, _Record(link, gone_at=at))
        old = record.link if record.gone_at is None else None
        for change in differences(old, None if gone else link, at):
            record.changes.append(change)
            self._tell(change)
        record.link = link
        if not gone:
            record.gone_at = None
        elif old is not None:
            record.gone_at = at
            self._forget_old()

    def _tell(self, change: Change) -> None:
        if self.on_change:
            self.on_change(change)

    def _forget_old(self) -> None:
        gone = [index for index, record in self._records.items() if record.gone_at is not None]
        for index in gone[: max(0, len(gone) - _KEPT_GONE)]:
            del self._records[index]


def _with_counters(link: Link, counted: tuple[int, int] | None) -> Link:
    """`link` with its counters; as it was where another moment has another name for it."""
    return replace(link, received=counted[0], sent=counted[1]) if counted else link


@contextmanager
def watch(on_change: Callable[[Change], None] | None = None) -> Iterator[Watcher]:
    """Watch the interfaces of this network namespace; the thread and the socket end with the block.

    `on_change` is called with every change, in any thread; it must not ask the watcher.

    Raises:
        NetworkFailed: The interfaces cannot be watched or listed.
    """
    with _subscribed() as subscribed:
        watcher = Watcher(subscribed, on_change)
        with watcher.running():
            yield watcher


@contextmanager
def stirred() -> Iterator[tuple[int, Callable[[], None]]]:
    """A descriptor that can be read when any link has changed, and what takes all of it away again.

    Raises:
        NetworkFailed: The interfaces cannot be watched.
    """
    with _subscribed() as subscribed:
        yield subscribed.fileno(), lambda: _drain(subscribed.socket)


def _drain(messages: socket.socket) -> None:
    while True:
        try:
            messages.recv(_MOST)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS:  # some were lost, which tells of changes as well
                raise


@contextmanager
def _subscribed() -> Iterator[Any]:
    """A non-blocking netlink socket that gets a message about every change of a link.

    An IPRSocket, unlike IPRoute, has no event loop of its own: it can be polled together with something else.
    """
    from pyroute2 import IPRSocket
    from pyroute2.netlink.rtnl import RTMGRP_LINK

    with IPRSocket(groups=RTMGRP_LINK) as subscribed:
        try:
            subscribed.bind()
            subscribed.socket.setblocking(False)
        except (OSError, KeyError) as error:  # the latter where it has tried to bind often enough, for whatever reason
            raise NetworkFailed(
                "cannot watch the interfaces",
                evidence=str(error.args[-1]),
                cure="qemu_doctor checks the set-up",
            ) from error
        yield subscribed
