from libc.stdint cimport int64_t, uint64_t
from rawtap.capture._account cimport Counts
from rawtap.capture._output cimport Output
from rawtap.capture._queue cimport Piece, Queue
from rawtap.capture._unfiltered cimport UnfilteredCount

cdef enum:
    DRAIN_LIMIT_NS = 250_000_000

cdef struct Sink:
    Queue queue
    void *handle                # libpcap's, where there is one
    uint64_t seen               # frames that the filter selected, saved or not
    void *points                # where its frames may be seen (see _native)

cdef struct Question:
    uint64_t asked              # number of the newest, written by who asks; all else is the worker's
    uint64_t heard              # what follows is about this one
    uint64_t answered
    uint64_t goal               # how far the reader has come, and
    uint64_t due                # then how many records are written, when it is answered; 0: not known yet
    uint64_t files              # begun when it was heard
    uint64_t file_bytes         # in the newest of them then
    uint64_t packets            # in all of them then
    uint64_t promised           # packets that are in them when it is answered

cdef int64_t sooner(int64_t one, int64_t other) noexcept nogil

cdef class Worker:
    cdef Sink sink                      # the reader's
    cdef Output out                     # the writer's
    cdef UnfilteredCount unfiltered
    cdef object on_full
    cdef uint64_t[:] notes
    cdef readonly object file_error     # what `on_full` raised
    cdef Question question
    cdef uint64_t stop_asked
    cdef int ask_fd
    cdef uint64_t notices               # its descriptor and 1; 0 where there is none
    cdef uint64_t told                  # packets, by the last notice
    cdef object files                   # what `begin_file` was told is there
    cdef int64_t deadline
    cdef uint64_t counted               # frames by the source's own count
    cdef uint64_t filtered
    cdef uint64_t from_guest
    cdef uint64_t dropped
    cdef uint64_t dropped_interface
    cdef uint64_t stats_failed
    cdef uint64_t turn                  # of what is published
    cdef size_t written_before          # of the piece that is being written
    cdef uint64_t taken                 # records put into the queue by the last look, and
    cdef uint64_t outstanding           # frames that had not come
    cdef Counts own                     # under the queue's lock
    cdef Counts published               # its copy, for other threads
    cdef readonly int link_type
    cdef readonly str link_type_name
    cdef readonly str warning
    cdef readonly str failure

    cdef uint64_t _outstanding(self) noexcept nogil
    cdef Counts _read(self) noexcept
    cdef void _capture(self) noexcept nogil
    cdef void _read_stats(self) noexcept nogil
    cdef void _weigh(self, Question *question) noexcept nogil
    cdef str _failure(self)
    cdef void _free(self)
    cdef bint _hear(self) noexcept nogil
    cdef void _start_batch(self) noexcept nogil
    cdef void _deliver(self, uint64_t progress) noexcept nogil
    cdef int _milliseconds(self, int64_t due) noexcept nogil
    cdef void _end_reading(self) noexcept nogil
    cdef void _look_at_input(self, bint over) noexcept nogil
    cdef void _write_on(self) noexcept nogil
    cdef bint _await_work(self, Piece *job, bint *pressed) noexcept nogil
    cdef void _reach_file(self, uint64_t number) noexcept nogil
    cdef void _change_file(self) noexcept
    cdef void _written(self) noexcept nogil
    cdef void _look_at_output(self) noexcept nogil
    cdef void _settle(self) noexcept nogil
    cdef void _publish(self) noexcept nogil
