# cython: language_level=3, boundscheck=False, wraparound=False
"""The capture path in C for frames that QEMU hands over itself: a socket, a filter, the file.

Theory of operation
-------------------
QEMU's filter-mirror (net/filter-mirror.c) writes each frame that passes a guest's network card, both ways, to a stream
socket: its length, four bytes, the most significant first, then the frame as it is. `MirrorCapture` owns the other
end. What every worker does is said in `_worker`.

*Nothing is dropped.* QEMU's write waits while the socket is full, and the guest with it. So all that passed is counted
here, the filter runs here (bpf_filter(), pcap(3PCAP)), and `dropped` and `dropped_interface` are 0 since there
is nothing that could drop.

*Time.* A frame gets the time at which it is taken from the socket (CLOCK_REALTIME), in nanoseconds.

*Nothing selected.* Until the filter has selected a packet, each frame is told to an `UnfilteredCount` (see _unfiltered). Who sent
frames, the guest or its network, is counted all the time.

*Questions.* What is on the wire is what was taken and what is in the socket now (FIONREAD, in bytes); the worker takes no
more than that before it answers, so it knows which packet was the last of them.

*Stopping.* Who stops has QEMU take the mirror away first: that is the stream's end, and all before it is read
(`expect_end`). A QEMU that does not answer has written what it has written: when asked to stop, the worker reads what is in the
socket and ends. The stream's end without either is the guest's.

*Afterwards.* Nobody may leave a mirror unread: the guest would stand still; nor close the socket before QEMU has let go of
it: QEMU would complain on its stderr. So `discard_rest` reads until the stream's end, or until `let_go` says that there will
be none.
"""

from cpython.bytes cimport PyBytes_AS_STRING
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memmove, strerror
from rawtap._clock cimport clock_gettime, now, timespec
from rawtap.capture._account cimport load, store
from rawtap.capture._queue cimport (
    MAX_PACKETS,
    MAX_SECONDS,
    PCAP_FAILED,
    RUNNING,
    SOURCE_ENDED,
    STOPPED,
    Queue,
    Reason,
    append,
    fill,
    fits,
    go_on,
    record_size,
)
from rawtap.capture._unfiltered cimport UnfilteredCount
from rawtap.capture._worker cimport Question, Worker

import struct

from rawtap._bpf import FilterRefused, instructions
from rawtap.capture._worker import FilterError, NativeError


cdef extern from "pcap/pcap.h" nogil:
    struct bpf_insn:
        pass
    unsigned int bpf_filter(const bpf_insn *, const unsigned char *, unsigned int, unsigned int)
    int DLT_EN10MB


cdef extern from "<sys/socket.h>" nogil:
    ssize_t recv(int, void *, size_t, int)
    int MSG_DONTWAIT


cdef extern from "<sys/ioctl.h>" nogil:
    int ioctl(int, unsigned long, ...)
    unsigned long FIONREAD


cdef extern from "<unistd.h>" nogil:
    int c_close "close"(int)


cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    int poll(pollfd *, unsigned long, int)
    short POLLIN


cdef extern from "<time.h>" nogil:
    int CLOCK_REALTIME


cdef enum:
    HEAD = 4                    # bytes of a frame's length
    LARGEST_FRAME = 1 << 18     # more than QEMU's NET_BUFSIZE: a longer one is no frame
    ROOM = 1 << 19
    SAMPLE = 1000               # frames that the unfiltered count is told of
    ETHERNET_ADDRESSES = 12


cdef class MirrorCapture(Worker):
    """One capture of one guest's network card. See the module's theory of operation for who may call what."""

    cdef int fd
    cdef bytes program                  # of the filter; what is run is in it
    cdef const bpf_insn *filter
    cdef unsigned char *memory
    cdef size_t start                   # of what is not parsed yet in `memory`
    cdef size_t end
    cdef uint64_t read_bytes            # from the socket
    cdef bint exhausted                 # at the stream's end
    cdef uint64_t end_expected
    cdef uint64_t released
    cdef int number                     # errno of what failed, 0 for a stream that is none
    cdef unsigned char[6] guest

    def __cinit__(self):
        self.fd = -1

    def open(self, int fd, *, bytes guest):
        """Take over the socket, whose other end may already be QEMU's, and the guest's MAC address, 6 bytes.

        Raises:
            NativeError: The address is none.
        """
        self.fd = fd
        if len(guest) != 6:
            raise NativeError("the guest's MAC address does not have 6 bytes")
        memcpy(self.guest, PyBytes_AS_STRING(guest), 6)
        self.memory = <unsigned char *>malloc(ROOM)
        if self.memory == NULL:
            raise MemoryError
        self.link_type = DLT_EN10MB
        self.link_type_name = "EN10MB"

    def watch(self, UnfilteredCount unfiltered):
        """Let `unfiltered` be told what passes until a packet was selected. Before `run`."""
        self.unfiltered = unfiltered

    def arm(self, str expression):
        """Compile `expression`, which selects from now on.

        Raises:
            FilterError: With libpcap's text, or the bound that compiling passed.
            NativeError: libpcap's compiler cannot be run.
        """
        if not expression:
            return
        try:
            self.program = instructions(expression)
        except FilterRefused as error:
            raise FilterError(f"libpcap: {error}") from error
        except OSError as error:
            raise NativeError(f"libpcap's compiler cannot be run: {error.strerror}", 0, error.errno) from error
        self.filter = <const bpf_insn *><const void *>PyBytes_AS_STRING(self.program)

    def header(self):
        """The savefile header: nanoseconds, version 2.4, Ethernet (pcap-savefile(5))."""
        return struct.pack("=IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, self.sink.queue.snaplen, self.link_type)

    def expect_end(self):
        """The stream is about to end because it was stopped. Any thread may call this."""
        store(&self.end_expected, 1)

    def let_go(self):
        """QEMU has taken its mirror away, or does not answer: nothing more has to be read. Any thread may call this."""
        store(&self.released, 1)
        self.request_stop()

    def discard_rest(self):
        """Read on and keep nothing, until the stream's end or `let_go`; `run` has returned."""
        with nogil:
            self._discard()

    def close(self):
        """Close the socket and free the buffers; the counters stay readable."""
        self._free()

    cdef void _free(self):
        if self.fd >= 0:
            c_close(self.fd)
            self.fd = -1
        free(self.memory)
        self.memory = NULL
        Worker._free(self)

    # ---------------------------------------------------------- in the worker thread

    cdef void _capture(self) noexcept nogil:
        cdef Queue *queue = &self.sink.queue
        cdef pollfd[2] fds
        fds[0].fd = self.fd
        fds[1].fd = self.ask_fd
        fds[0].events = fds[1].events = POLLIN
        while queue.reason == RUNNING:
            self._start_batch()
            fds[0].revents = fds[1].revents = 0
            poll(fds, 2, self._milliseconds(0))
            if fds[1].revents != 0 and self._hear():
                self._take_waiting()
                self._end(STOPPED)
            elif fds[0].revents != 0:
                self._take(self._due())
            if self.deadline != 0 and now() >= self.deadline:
                self._end(MAX_SECONDS)
            if self.exhausted:
                self._end(STOPPED if load(&self.end_expected) else SOURCE_ENDED)
            if self.unfiltered is not None:
                self.unfiltered.publish()
            self._deliver(self.read_bytes)

    cdef void _end(self, Reason reason) noexcept nogil:
        if self.sink.queue.reason == RUNNING:
            self.sink.queue.reason = reason

    cdef size_t _waiting(self) noexcept nogil:
        """Bytes in the socket."""
        cdef int bytes_ = 0
        ioctl(self.fd, FIONREAD, &bytes_)
        return <size_t>bytes_

    cdef size_t _due(self) noexcept nogil:
        """How much may be taken before a question has to be answered."""
        if self.question.answered != self.question.heard and self.question.goal > self.read_bytes:
            return self.question.goal - self.read_bytes
        return ROOM

    cdef void _take_waiting(self) noexcept nogil:
        """Take what is in the socket by now."""
        cdef uint64_t goal = self.read_bytes + self._waiting()
        while self.read_bytes < goal and not self.exhausted and self.sink.queue.reason == RUNNING:
            self._take(goal - self.read_bytes)
            self._deliver(0)

    cdef void _take(self, size_t most) noexcept nogil:
        """Take at most so many bytes from the socket, and save the frames that are complete."""
        cdef ssize_t n
        if self.start > 0:
            memmove(self.memory, self.memory + self.start, self.end - self.start)
            self.end -= self.start
            self.start = 0
        n = recv(self.fd, self.memory + self.end, min(ROOM - self.end, most), MSG_DONTWAIT)
        if n > 0:
            self.read_bytes += n
            self.end += n
            self._parse()
        elif n == 0:
            self.exhausted = True
        elif errno != EAGAIN and errno != EINTR:
            self.number = errno
            self._end(PCAP_FAILED)

    cdef void _parse(self) noexcept nogil:
        """Save the frames that are complete. What begins after the last of them stays."""
        cdef const unsigned char *at
        cdef size_t size
        cdef Question *question = &self.question
        while self.end - self.start >= HEAD and not self.sink.queue.full:
            at = self.memory + self.start
            size = <size_t>at[0] << 24 | <size_t>at[1] << 16 | <size_t>at[2] << 8 | at[3]
            if size > LARGEST_FRAME:
                self._end(PCAP_FAILED)
                return
            if self.end - self.start < HEAD + size:
                break
            self._save(at + HEAD, <uint32_t>size)
            self.start += HEAD + size
        if question.answered != question.heard and self.read_bytes >= question.goal:
            question.promised = self.sink.queue.mark.packets

    cdef void _save(self, const unsigned char *frame, uint32_t size) noexcept nogil:
        """Count one frame, and append its record if the filter selects it."""
        cdef Queue *queue = &self.sink.queue
        cdef uint32_t kept = min(size, queue.snaplen)
        cdef size_t record = record_size(queue.pcapng, queue.flagged, kept)
        cdef timespec moment
        self.counted += 1
        if size >= ETHERNET_ADDRESSES and memcmp(frame + 6, self.guest, 6) == 0:
            self.from_guest += 1
        if self.filter != NULL and bpf_filter(self.filter, frame, size, size) == 0:
            self.filtered += 1
            if self.sink.seen == 0:
                self.unfiltered.note(frame, size, SAMPLE)
            return
        self.sink.seen += 1
        if not queue.full and not fits(queue, record):
            go_on(queue, record)
        if queue.full:
            queue.refused += 1
            return
        clock_gettime(CLOCK_REALTIME, &moment)
        append(queue, record, <uint64_t>moment.tv_sec, <uint32_t>moment.tv_nsec, kept, size, frame)
        if queue.mark.packets >= queue.max_packets:
            fill(queue, MAX_PACKETS)

    cdef void _weigh(self, Question *question) noexcept nogil:
        question.goal = self.read_bytes + self._waiting()
        question.promised = self.sink.queue.mark.packets

    cdef void _discard(self) noexcept nogil:
        cdef pollfd[2] fds
        cdef ssize_t n
        fds[0].fd = self.fd
        fds[1].fd = self.ask_fd
        fds[0].events = fds[1].events = POLLIN
        while not self.exhausted and not load(&self.released):
            fds[0].revents = fds[1].revents = 0
            poll(fds, 2, -1)
            if fds[1].revents != 0:
                self._hear()
            n = recv(self.fd, self.memory, ROOM, MSG_DONTWAIT)
            if n == 0 or (n < 0 and errno != EAGAIN and errno != EINTR):
                self.exhausted = True

    cdef str _failure(self):
        if self.number:
            return f"QEMU's mirror cannot be read: {strerror(self.number).decode()}"
        return "what QEMU's mirror wrote is no frame"
