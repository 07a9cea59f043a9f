# cython: language_level=3, boundscheck=False, wraparound=False
"""What every capture's worker is, wherever its frames come from: files, limits, counters, questions, the stop.

Theory of operation
-------------------
A `Worker` belongs to one thread, the session's, from `prepare` to `close`. While `run` runs there are two. The *reader*, a thread
that never has the GIL, owns the source and puts records into the queue (see _queue); it waits for no disk. The *writer*, which
is the session's thread, gets them into the files (see _output); only the change to the next of a ring of files calls Python,
`on_full`. Other threads may call `request_stop` and `ask`, which write to an eventfd that the reader polls, and read the
account. What reads frames is a subclass: `_native` has libpcap on an interface, `_mirror_worker` QEMU's own socket.

*The account.* Reader and writer count in words of their own, and under the queue's lock tell what they have after every batch
and every write. All of it is published at once (see _account), so that what others read holds together: seen = filtered + saved + dropped + refused + in_flight, where `seen` is the source's own
count. While the capture runs that count may be older than what has come, which then counts as seen. At the end it is taken
as it is: then the sum is the proof that no frame went astray. The files that are there change with it, under the GIL.

*Questions.* Whoever waits for packets polls `notify_fd`, an eventfd that is written to when the file has grown and
when a question was answered. What is asked (`ask`) is that all that was on the wire by then be in the file. The subclass says
what that is (`_weigh`): how far the reader must have come, in a unit of its own. Then the writer must have come as far.

*The end.* When the reader has ended, the writer writes what is queued. Where it cannot, it tells the reader, which ends; what
was queued counts as refused.
"""

from libc.errno cimport errno
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.string cimport memset, strerror
from rawtap._clock cimport now
from rawtap.capture._account cimport (
    __ATOMIC_RELEASE,
    Counts,
    __atomic_add_fetch,
    consult,
    load,
    publish,
    store,
)
from rawtap.capture._output cimport append_bytes, attach, await_retired, due, retire, write_piece
from rawtap.capture._output cimport init as init_output
from rawtap.capture._output cimport pthread_t
from rawtap.capture._queue cimport (
    CHUNK,
    FILE_CUT,
    INTERFACE_REMOVED,
    MAX_BYTES,
    MAX_PACKETS,
    MAX_SECONDS,
    NO_SPACE,
    OWN_CHUNKS,
    PCAP_FAILED,
    RUNNING,
    SOURCE_ENDED,
    STOPPED,
    WRITE_FAILED,
    Piece,
    Queue,
    give_back_spare,
    gives_way,
    hand_over,
    init,
    lock,
    pop,
    release,
    rewind,
    signal_more,
    start,
    unlock,
    wait_for_more,
)

from rawtap.capture.account import Account


cdef extern from "<unistd.h>" nogil:
    ssize_t c_read "read"(int, void *, size_t)
    ssize_t c_write "write"(int, const void *, size_t)
    int c_close "close"(int)


cdef extern from "<sys/eventfd.h>" nogil:
    int eventfd(unsigned int, int)
    int EFD_CLOEXEC
    int EFD_NONBLOCK


cdef extern from "<pthread.h>" nogil:
    int pthread_create(pthread_t *, const void *, void *(*)(void *) noexcept nogil, void *)
    int pthread_join(pthread_t, void **)


cdef extern from "<sched.h>" nogil:
    int sched_getcpu()
    int sched_getscheduler(int)
    int SCHED_OTHER


cdef extern from "<sys/resource.h>" nogil:
    int getpriority(int, unsigned int)
    int PRIO_PROCESS


cdef extern from "<sys/syscall.h>" nogil:
    long syscall(long, ...)
    long SYS_sched_setattr


cdef struct SchedulerAttributes:    # sched_setattr(2)
    uint32_t size
    uint32_t policy
    uint64_t flags
    int32_t nice
    uint32_t priority
    uint64_t runtime
    uint64_t deadline
    uint64_t period


cdef enum:
    SLICE_NS = 100_000          # the shortest that there is
    WAY_NS = 5_000_000          # between two looks whether the reader needs the processor still
    SPARE_NS = 1_000_000_000    # how long memory is kept that is not needed

cdef uint64_t NEVER = <uint64_t>-1

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


cdef class Worker:
    """One capture into one file. See the module's theory of operation for who may call what."""

    def __cinit__(self):
        self.ask_fd = self.out.retired_fd = -1
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
        """Capture until stopped, a limit or an error, and have in the queue what was on the wire by then."""

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

    # --------------------------------------------------------------------- the files

    def prepare(self, int snaplen, bint pcapng, uint64_t granted):
        """Make the queue, which may take `granted` bytes of memory, those of all captures together.

        Raises:
            MemoryError: Not even what every capture has is there.
        """
        init_output(&self.out, &self.sink.queue, pcapng)
        if not init(&self.sink.queue, snaplen, pcapng):
            raise MemoryError
        self.sink.queue.granted = granted

    def begin_file(self, int fd, bytes header, uint64_t max_bytes, int retired_fd=-1, tuple files=()):
        """Save from now on into `fd`, a file with its header and nothing else, which stays the caller's.

        `max_bytes` is where a file is full; it and the header are those of the first file. `files` is what `account`
        tells of the files from then on. `retired_fd` is a removed file, given back meanwhile, and closed.

        Raises:
            ValueError: The header is larger than any capture's is.
        """
        cdef const unsigned char *data = header
        cdef size_t size = len(header)
        if retired_fd >= 0:
            with nogil:  # the disk may not answer for long
                retire(&self.out, retired_fd)
        if self.out.files == 0 and not start(&self.sink.queue, data, size, max_bytes):
            raise ValueError(f"a header of {size} bytes")
        lock(&self.sink.queue)
        attach(&self.out, fd, size)
        self._look_at_output()
        self.files = files  # no thread with the GIL sees these without the account that goes with them
        self._publish()
        unlock(&self.sink.queue)

    def note(self, uint64_t[:] words, Py_ssize_t slot):
        """Note the length of the file's whole records in `words[slot]` from now on, until the next file begins."""
        self.notes = words
        self.out.noted = &words[slot]
        words[slot] = self.out.file_bytes

    def end_file(self, bytes trailer):
        """Write `trailer` behind the last record of the file. A failure is in the account."""
        cdef const unsigned char *data = trailer
        cdef size_t size = len(trailer)
        with nogil:  # the disk may not answer for long
            append_bytes(&self.out, data, size)
            lock(&self.sink.queue)
            self._look_at_output()
            self._publish()
            unlock(&self.sink.queue)

    def run(self, *, uint64_t max_packets, double max_seconds, uint64_t free_floor, on_full=None):
        """Capture until stopped, a limit or an error; no GIL. `begin_file` was called.

        0 means no limit for `max_packets` and `max_seconds` (a double, in seconds). `on_full()` is called when the file
        is full and begins another one; what it raises ends the capture and is in `file_error`. Without it a full file
        ends the capture.

        Raises:
            OSError: There can be no further thread.
        """
        cdef pthread_t reader
        cdef int status
        self.sink.queue.max_packets = max_packets or <uint64_t>-1
        self.sink.queue.ring = on_full is not None
        self.out.free_floor = free_floor
        self.on_full = on_full
        self.deadline = now() + <int64_t>(max_seconds * 1e9) if max_seconds > 0 else 0
        status = pthread_create(&reader, NULL, <void *(*)(void *) noexcept nogil>_read_on, <void *>self)
        if status != 0:
            raise OSError(status, strerror(status).decode())
        with nogil:
            self._write_on()
            pthread_join(reader, NULL)
        self.on_full = None
        if self.sink.queue.reason == PCAP_FAILED:
            self.failure = self._failure()

    cdef void _write_on(self) noexcept nogil:
        """The writer: write what is handed over, until nothing more is."""
        cdef Piece job
        cdef bint pressed
        while self._await_work(&job, &pressed):
            if job.file != self.out.files:
                self._reach_file(job.file)
            if self.out.broken == RUNNING:
                write_piece(&self.out, &job, pressed)
            self._written()

    cdef bint _await_work(self, Piece *job, bint *pressed) noexcept nogil:
        """Wait until something is to be written, and copy what the first piece is by then; False at the end."""
        cdef Queue *queue = &self.sink.queue
        cdef int64_t moment, idle_since = now()
        lock(queue)
        while True:
            if queue.head.done and queue.head.used == self.out.written:
                pop(queue)
                self.out.written = queue.head.first if queue.head.base == 0 else 0
                continue
            moment = due(&self.out, queue.head, queue.over or self.question.due != 0)
            if moment != <int64_t>NEVER and (moment == 0 or moment <= now()):
                if gives_way(queue) and not queue.over and self.question.due == 0:
                    wait_for_more(queue, now() + WAY_NS, 1)
                    continue
                queue.writing = True
                self.written_before = self.out.written
                job[0] = queue.head[0]
                pressed[0] = (queue.handed - queue.taken) * 2 > queue.granted
                break
            if queue.over and moment == <int64_t>NEVER:
                break
            if moment == <int64_t>NEVER:
                if queue.chunks > OWN_CHUNKS and now() >= idle_since + SPARE_NS:
                    give_back_spare(queue)
                moment = idle_since + SPARE_NS if queue.chunks > OWN_CHUNKS else 0
                wait_for_more(queue, moment, 1)
            else:
                wait_for_more(queue, moment, CHUNK)  # whole pieces are told of in any case
        unlock(queue)
        return queue.writing

    cdef void _reach_file(self, uint64_t number) noexcept nogil:
        if self.out.broken == RUNNING:
            with gil:
                self._change_file()
            if self.out.broken == RUNNING and self.out.files != number:
                self.out.broken = WRITE_FAILED

    cdef void _change_file(self) noexcept:
        """Let `on_full` begin the next file. Its error cannot pass through C's loop, so it is kept."""
        try:
            self.on_full()
        except Exception as error:
            self.file_error = error
            self.out.broken = WRITE_FAILED

    cdef void _written(self) noexcept nogil:
        """Take note of what was written, or that nothing more can be: then all that comes is given up."""
        cdef Queue *queue = &self.sink.queue
        cdef bint broke = self.out.broken != queue.broken
        lock(queue)
        queue.writing = False
        queue.copies = not self.out.direct
        if self.out.broken != RUNNING:
            self.out.written = queue.head.used
        queue.taken += self.out.written - self.written_before
        self._look_at_output()
        self._settle()
        unlock(queue)
        if broke:
            _notify(self.ask_fd)

    cdef void _look_at_output(self) noexcept nogil:
        """Under the lock: take the writer's part of the account."""
        cdef Output *out = &self.out
        cdef Counts *own = &self.own
        own.saved, own.wire_bytes, own.file_bytes, own.files = out.packets, out.wire_bytes, out.file_bytes, out.files
        own.error = <uint64_t>out.error
        self.sink.queue.broken = out.broken

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
            counts.granted,
            counts.queued_most,
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
        """Under the lock: what reader and writer told last."""
        cdef Queue *queue = &self.sink.queue
        cdef Counts shown = self.own
        cdef uint64_t known = self.taken + self.outstanding
        cdef uint64_t lost = 0
        if queue.broken != RUNNING:
            lost = self.taken - min(self.taken, shown.saved)
            shown.reason = <uint64_t>queue.broken
        shown.granted, shown.queued_most = queue.granted, queue.most
        shown.refused += lost
        shown.in_flight = known - min(known, shown.saved + lost)
        shown.seen += shown.saved - min(known, shown.saved)  # the writer may have come further than the reader has told
        publish(&self.turn, <uint64_t *>&self.published, <uint64_t *>&shown, sizeof(Counts))

    cdef void _settle(self) noexcept nogil:
        """Under the lock: publish, answer the question if all is there, and tell of growth."""
        cdef Question *question = &self.question
        cdef bint answers = question.due != 0
        if answers and (self.own.saved + 1 >= question.due or self.sink.queue.broken != RUNNING):
            question.due = 0
            question.answered = question.heard
            self.own.answered = question.answered
            self.own.asked_files, self.own.asked_file_bytes = question.files, question.file_bytes
            self.own.asked_saved, self.own.promised = question.packets, question.promised
        else:
            answers = False
        self._publish()
        if answers or self.told != self.own.saved:
            self.told = self.own.saved
            _notify(<int>load(&self.notices) - 1)

    # ----------------------------------------------------------------------- the reader

    cdef void _start_batch(self) noexcept nogil:
        """Before a batch."""
        cdef Queue *queue = &self.sink.queue
        store(&queue.reader_at, <uint64_t>sched_getcpu() + 1)
        lock(queue)
        rewind(queue, &self.out.written)
        unlock(queue)

    cdef void _deliver(self, uint64_t progress) noexcept nogil:
        """After a batch: let the writer have it, and publish the account."""
        cdef Question *question = &self.question
        cdef Queue *queue = &self.sink.queue
        lock(queue)
        hand_over(queue)
        queue.behind = False
        self._look_at_input(False)
        if question.answered != question.heard and question.due == 0 and progress >= question.goal:
            question.due = queue.mark.packets + 1
        signal_more(queue, question.due != 0)
        self._settle()
        unlock(queue)
        store(&queue.reader_at, 0)

    cdef void _look_at_input(self, bint over) noexcept nogil:
        """Under the lock: take the reader's part of the account."""
        cdef Counts *own = &self.own
        self.taken, self.outstanding = self.sink.queue.mark.packets, self._outstanding()
        own.seen = self.counted if over else max(self.counted, self.filtered + self.dropped + self.sink.seen)
        own.filtered, own.dropped, own.dropped_interface = self.filtered, self.dropped, self.dropped_interface
        own.refused, own.from_guest, own.stats_failed = self.sink.queue.refused, self.from_guest, self.stats_failed
        own.reason = <uint64_t>self.sink.queue.reason

    cdef void _end_reading(self) noexcept nogil:
        """Nothing more comes."""
        cdef Queue *queue = &self.sink.queue
        lock(queue)
        hand_over(queue)
        self._look_at_input(True)
        queue.over = True
        self._settle()
        signal_more(queue, True)
        unlock(queue)

    cdef bint _hear(self) noexcept nogil:
        """Take up what other threads ask for; whether that is to stop."""
        cdef Question *question = &self.question
        cdef uint64_t times
        cdef uint64_t asked
        c_read(self.ask_fd, &times, sizeof(times))
        asked = load(&question.asked)  # what is asked while this one is weighed is another question
        if asked != question.heard:
            lock(&self.sink.queue)
            question.files, question.file_bytes = self.own.files, self.own.file_bytes
            question.packets = self.own.saved
            question.due = 0
            self._weigh(question)
            question.heard = asked
            unlock(&self.sink.queue)
        return load(&self.stop_asked) != 0

    cdef int _milliseconds(self, int64_t due) noexcept nogil:
        """What poll may wait for the first of `due` (0 for none) and the deadline; -1 for ever."""
        cdef int64_t left
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
        release(&self.sink.queue)
        with nogil:
            await_retired(&self.out)


cdef void *_read_on(Worker worker) noexcept nogil:
    """The reader's thread, which never has the GIL."""
    _ask_for_short_slices()
    worker._capture()
    worker._end_reading()
    return NULL


cdef void _ask_for_short_slices() noexcept nogil:
    """Run soon after the kernel has something, rather than for long: it has room for a few milliseconds (Linux 6.12)."""
    cdef SchedulerAttributes attributes
    if sched_getscheduler(0) != SCHED_OTHER:
        return
    memset(&attributes, 0, sizeof(attributes))
    attributes.size = sizeof(attributes)
    attributes.policy = SCHED_OTHER
    attributes.nice = getpriority(PRIO_PROCESS, 0)
    attributes.runtime = SLICE_NS
    syscall(SYS_sched_setattr, 0, &attributes, 0)  # a kernel that knows no slices, or refuses, goes on as it did


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
