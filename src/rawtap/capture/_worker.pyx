# cython: language_level=3, boundscheck=False, wraparound=False
"""What every capture's worker is, wherever its frames come from: files, limits, counters, questions, the stop.

Theory of operation
-------------------
A `Worker` belongs to one thread, the worker thread, from `open` to `close`. Other threads may call `request_stop` and
`ask`, which write to an eventfd that the worker polls, and read the account. What reads frames is a subclass: `_native` has libpcap on an interface, `_mirror_worker` QEMU's own socket. It
puts records into the `Output` of its `sink`, in C and without the GIL; only the change to the next of a ring of
files calls Python, `on_full`, in this thread.

*The account.* The worker counts in words of its own, and publishes all of them at once after every batch (see _account), so
that what others read holds together: seen = filtered + saved + dropped + refused + in_flight, where `seen` is the source's own
count. While the capture runs that count may be older than what has come, which then counts as seen. At the end it is taken
as it is: then the sum is the proof that no frame went astray. The files that are there change with it, under the GIL.

*Questions.* Whoever waits for packets polls `notify_fd`, an eventfd that the worker writes to when the file has grown and
when it has answered. What is asked (`ask`) is that all that was on the wire by then be in the file. The subclass says
what that is (`_weigh`): how far it must have come, in a unit of its own.
"""

from libc.errno cimport errno
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport strerror
from rawtap.capture._account cimport (
    __ATOMIC_RELEASE,
    Counts,
    __atomic_add_fetch,
    consult,
    load,
    publish,
    store,
)
from rawtap.capture._output cimport (
    FILE_CUT,
    INTERFACE_REMOVED,
    MAX_BYTES,
    MAX_PACKETS,
    MAX_SECONDS,
    NO_SPACE,
    PCAP_FAILED,
    RUNNING,
    SOURCE_ENDED,
    STOPPED,
    WRITE_FAILED,
    Output,
    append_bytes,
    attach,
    fill,
    fits,
    flush,
    give_back,
    now,
    release,
)
from rawtap.capture._unfiltered cimport UnfilteredCount

from rawtap.capture.account import Account


cdef extern from "<unistd.h>" nogil:
    ssize_t c_read "read"(int, void *, size_t)
    ssize_t c_write "write"(int, const void *, size_t)
    int c_close "close"(int)


cdef extern from "<sys/eventfd.h>" nogil:
    int eventfd(unsigned int, int)
    int EFD_CLOEXEC
    int EFD_NONBLOCK


cdef extern from "<sys/stat.h>" nogil:
    struct c_stat "stat":
        int64_t st_size
    int fstat(int, c_stat *)


MAX_SNAPLEN = 262144  # libpcap's MAXIMUM_SNAPLEN, pcap-int.h

_REASONS = {
    RUNNING: None,
    STOPPED: "stopped",
    MAX_BYTES: "max_bytes",
    MAX_PACKETS: "max_packets",
    MAX_SECONDS: "max_seconds",
    NO_SPACE: "no_space",
    WRITE_FAILED: "write_failed",
    PCAP_FAILED: "pcap_failed",
    SOURCE_ENDED: "guest_ended",
    INTERFACE_REMOVED: "interface_removed",
    FILE_CUT: "file_cut",
}


class NativeError(Exception):
    """libpcap or the system refused: `status` is libpcap's code or 0, `errno` the system's or 0."""

    def __init__(self, str text, int status=0, int number=0):
        super().__init__(text)
        self.text = text
        self.status = status
        self.errno = number


class FilterError(NativeError):
    """The filter cannot be compiled or set; `text` is libpcap's own, or says which bound was passed."""


cdef bint go_on(Sink *sink, size_t size) noexcept nogil:
    """The file is full: change to the next one of a ring, and tell whether a record of `size` bytes can be saved."""
    if sink.ring != NULL:
        flush(&sink.out)
        if not sink.out.full:
            with gil:
                (<Worker>sink.ring)._change_file()
    if not sink.out.full and not fits(&sink.out, size):
        fill(&sink.out, MAX_BYTES)
    return not sink.out.full


cdef class Worker:
    """One capture into one file. See the module's theory of operation for who may call what."""

    def __cinit__(self):
        self.ask_fd = self.sink.out.retired_fd = -1
        self.files = ()

    def __init__(self):
        self.link_type_name = ""
        self.warning = ""
        self.failure = ""
        self.ask_fd = _eventfd()

    def __dealloc__(self):
        self._free()
        self.end_notices()

    # -------------------------------------------------------- what a subclass says

    def arm(self, str expression):
        """Compile `expression` and let through what it selects. When this returns, the capture is armed.

        Raises:
            FilterError: With libpcap's text, or the bound that compiling passed.
            NativeError: The filter cannot be put in force.
        """
        raise NotImplementedError

    def header(self):
        """The savefile header (pcap-savefile(5))."""
        raise NotImplementedError

    cdef void _capture(self) noexcept nogil:
        """Capture until stopped, a limit or an error, and have in the buffer what was on the wire by then."""

    cdef void _read_stats(self) noexcept nogil:
        """Bring `counted`, `dropped` and `dropped_interface` up to date."""

    cdef uint64_t _outstanding(self) noexcept nogil:
        """Frames that the source has counted, and that have not come."""
        cdef uint64_t come = self.filtered + self.dropped + self.sink.seen
        return self.counted - come if self.counted > come else 0

    cdef void _weigh(self, Question *question) noexcept nogil:
        """Say, of a question that was just heard, its `goal`, and `promised` if that is known by now."""

    cdef str _failure(self):
        """What went wrong, when the reason is PCAP_FAILED."""
        return ""

    # --------------------------------------------------------------------- the file

    def begin_file(self, int fd, bytes header, uint64_t max_bytes, int retired_fd=-1, tuple files=()):
        """Save from now on into `fd`, an empty file that stays the caller's; its header is written here and now.

        `max_bytes` is where it is full. `files` is what `account` tells of the files from then on. `retired_fd` is a removed file, given back as this one grows, and closed.

        Raises:
            OSError: The header cannot be written.
        """
        cdef c_stat status
        cdef const unsigned char *data = header
        cdef size_t size = len(header)
        cdef bint attached
        if retired_fd >= 0 and fstat(retired_fd, &status) == 0:
            give_back(&self.sink.out)
            self.sink.out.retired_fd = retired_fd
            self.sink.out.retired_bytes = status.st_size
        with nogil:  # the disk may not answer for long
            attached = attach(&self.sink.out, fd, data, size, max_bytes)
        if not attached:
            raise OSError(self.sink.out.error, strerror(self.sink.out.error).decode())
        self.files_begun += 1
        self.files = files  # no thread with the GIL sees these without the account that goes with them
        self._publish()

    def note(self, uint64_t[:] words, Py_ssize_t slot):
        """Note the length of the file's whole records in `words[slot]` from now on, until the next file begins."""
        self.notes = words
        self.sink.out.noted = &words[slot]
        words[slot] = self.sink.out.file_bytes

    def end_file(self, bytes trailer):
        """Write what is in the buffer, and `trailer` behind the last record. A failure is in `error`."""
        cdef const unsigned char *data = trailer
        cdef size_t size = len(trailer)
        with nogil:  # the disk may not answer for long
            append_bytes(&self.sink.out, data, size)
            self._publish()

    def run(self, *, uint64_t max_packets, double max_seconds, uint64_t free_floor, on_full=None):
        """Capture until stopped, a limit or an error; no GIL. `begin_file` was called.

        0 means no limit for `max_packets` and `max_seconds` (a double, in seconds). `on_full()` is called when the file
        is full and may begin another one; what it raises ends the capture and is in `file_error`. Without it a full file
        ends the capture.
        """
        self.sink.out.max_packets = max_packets or <uint64_t>-1
        self.sink.out.free_floor = free_floor
        self.on_full = on_full
        self.sink.ring = NULL if on_full is None else <void *>self
        self.deadline = now() + <int64_t>(max_seconds * 1e9) if max_seconds > 0 else 0
        with nogil:
            self._capture()
            flush(&self.sink.out)
            give_back(&self.sink.out)
            self.over = True
            self._publish()
        self.on_full = None
        if self.sink.out.reason == PCAP_FAILED:
            self.failure = self._failure()

    cdef void _change_file(self) noexcept:
        """Let `on_full` begin the next file. Its error cannot pass through C's loop, so it is kept."""
        self._read_stats()
        self._publish()
        try:
            self.on_full()
        except Exception as error:
            self.file_error = error
            fill(&self.sink.out, WRITE_FAILED)

    # ------------------------------------------------------------- what others ask for

    def request_stop(self):
        """Ask the worker to drain and end. Any thread may call this, any number of times."""
        store(&self.stop_asked, 1)
        _notify(self.ask_fd)

    def let_go(self):
        """Ask the worker to end, and to wait for nothing that its source may still have. Any thread may call this."""
        self.request_stop()

    def notify_fd(self):
        """An eventfd that becomes readable when the file has grown, a question was answered, or `tell` was called.

        It stays this object's, and open until `end_notices`. Any thread may call this.

        Raises:
            OSError: There are too many descriptors.
        """
        if self.notices == 0:
            store(&self.notices, <uint64_t>_eventfd() + 1)
        return <int>self.notices - 1

    def end_notices(self):
        """Close that descriptor, when `run` has returned and nobody polls it."""
        if self.notices != 0:
            c_close(<int>self.notices - 1)
            store(&self.notices, 0)

    def tell(self):
        """Make `notify_fd` readable. Any thread may call this."""
        _notify(<int>load(&self.notices) - 1)

    def ask(self):
        """Ask the worker to have in the file what is on the wire by now; the question's number, for `answered`.

        Any thread may call this, but `place` is about the last question that was asked. An end answers none.
        """
        number = __atomic_add_fetch(&self.question.asked, 1, __ATOMIC_RELEASE)
        _notify(self.ask_fd)
        return number

    @property
    def answered(self):
        """The last question that was answered."""
        return self._read().answered

    @property
    def place(self):
        """Where the capture was when it heard the last question that was answered.

        (files begun, bytes in the newest of them, packets saved, packets that were on the wire by then)
        """
        cdef Counts account = self._read()
        return (account.asked_files, account.asked_file_bytes, account.asked_saved, account.promised)

    @property
    def account(self):
        """What became of every frame, as an `Account`: all of it as it was at one moment. Any thread may call this."""
        cdef Counts counts = self._read()
        return Account(
            counts.seen,
            counts.filtered,
            counts.saved,
            counts.dropped,
            counts.refused,
            counts.in_flight,
            counts.from_guest,
            counts.dropped_interface,
            counts.stats_failed,
            counts.wire_bytes,
            counts.file_bytes,
            counts.error,
            _REASONS[counts.reason],
            self.files,
        )

    @property
    def unplaced(self):
        """Frames in a pcapng file of which it is not known where they were seen, and whose records should say it."""
        return 0

    @property
    def reason(self):
        """Why the capture ended ("stopped", "max_bytes", ...), or None while it runs."""
        return _REASONS[self._read().reason]

    cdef Counts _read(self) noexcept:
        cdef Counts counts
        consult(&self.turn, <uint64_t *>&self.published, <uint64_t *>&counts, sizeof(Counts))
        return counts

    cdef void _publish(self) noexcept nogil:
        cdef Output *out = &self.sink.out
        cdef Counts *own = &self.own
        own.seen = max(self.counted, self.filtered + self.dropped + self.sink.seen)
        if self.over:
            own.seen = self.counted
        own.filtered, own.dropped, own.dropped_interface = self.filtered, self.dropped, self.dropped_interface
        own.saved, own.refused = out.packets, out.refused
        own.in_flight = out.pending_packets + self._outstanding()
        own.from_guest, own.stats_failed = self.from_guest, self.stats_failed
        own.wire_bytes, own.file_bytes, own.files = out.wire_bytes, out.file_bytes, self.files_begun
        own.reason, own.error = <uint64_t>out.reason, <uint64_t>out.error
        publish(&self.turn, <uint64_t *>&self.published, <uint64_t *>own, sizeof(Counts))

    cdef bint _hear(self) noexcept nogil:
        """Take up what other threads ask for; whether that is to stop."""
        cdef Question *question = &self.question
        cdef uint64_t times
        cdef uint64_t asked
        c_read(self.ask_fd, &times, sizeof(times))
        asked = load(&question.asked)  # what is asked while this one is weighed is another question
        if asked != question.heard:
            question.files, question.file_bytes = self.files_begun, self.sink.out.file_bytes
            question.packets = self.sink.out.packets
            self._weigh(question)
            question.heard = asked
        return load(&self.stop_asked) != 0

    cdef void _answer(self, uint64_t progress) noexcept nogil:
        """Publish the account, tell of growth, and answer the question if all is there."""
        cdef Question *question = &self.question
        cdef bint answers = question.answered != question.heard and progress >= question.goal
        if answers:
            flush(&self.sink.out)
            question.answered = question.heard
            self.own.answered = question.answered
            self.own.asked_files, self.own.asked_file_bytes = question.files, question.file_bytes
            self.own.asked_saved, self.own.promised = question.packets, question.promised
        self._publish()
        if answers or self.told != self.sink.out.packets:
            self.told = self.sink.out.packets
            _notify(<int>load(&self.notices) - 1)

    cdef int _milliseconds(self, int64_t due) noexcept nogil:
        """What poll may wait for the first of `due` (0 for none), the deadline, and what is put off; -1 for ever."""
        cdef int64_t left
        if self.sink.out.used > self.sink.out.written:
            return SETTLE_MS
        due = sooner(due, self.deadline)
        if due == 0:
            return -1
        left = (due - now()) // 1_000_000 + 1
        return <int>min(max(left, 0), 3_600_000)

    # ------------------------------------------------------------------------- the end

    def close(self):
        """Free what is held; the counters stay readable."""
        self._free()

    cdef void _free(self):
        if self.ask_fd >= 0:  # under the GIL, like those who write to it
            c_close(self.ask_fd)
            self.ask_fd = -1
        release(&self.sink.out)


cdef int _eventfd() except -1:
    cdef int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
    if fd < 0:
        raise OSError(errno, strerror(errno).decode())
    return fd


cdef void _notify(int fd) noexcept nogil:
    """Make an eventfd readable; one that is not there is passed over."""
    cdef uint64_t one = 1
    if fd >= 0:
        c_write(fd, &one, sizeof(one))


cdef int64_t sooner(int64_t one, int64_t other) noexcept nogil:
    """The sooner of two moments, where 0 is none."""
    return other if one == 0 else one if other == 0 else min(one, other)
