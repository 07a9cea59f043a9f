from libc.stdint cimport int64_t, uint64_t
from rawtap.capture._output cimport Output
from rawtap.capture._unfiltered cimport UnfilteredCount

cdef enum:
    SETTLE_MS = 10              # _output's SETTLE_NS
    DRAIN_LIMIT_NS = 250_000_000

cdef struct Sink:
    Output out
    void *handle                # libpcap's, where there is one
    uint64_t seen               # frames that the filter selected, saved or not
    void *ring                  # the Worker, where `on_full` can give another file; else NULL

cdef struct Question:
    uint64_t asked              # number of the newest, written by who asks
    uint64_t heard              # by the worker; what follows is about this one
    uint64_t answered
    uint64_t goal               # how far the worker has come when it is answered
    int64_t give_up
    uint64_t files              # begun when it was heard
    uint64_t file_bytes         # in the newest of them then
    uint64_t packets            # in all of them then
    uint64_t promised           # packets that are in them when it is answered

cdef bint go_on(Sink *sink, size_t size) noexcept nogil
cdef int64_t sooner(int64_t one, int64_t other) noexcept nogil

cdef class Worker:
    cdef Sink sink
    cdef UnfilteredCount unfiltered
    cdef object on_full
    cdef uint64_t[:] notes
    cdef readonly object file_error     # what `on_full` raised
    cdef Question question
    cdef bint stop_asked
    cdef int ask_fd
    cdef int tidings_fd
    cdef uint64_t told                  # packets, by the last notice
    cdef readonly uint64_t files_begun
    cdef int64_t deadline
    cdef readonly uint64_t received
    cdef readonly uint64_t dropped_kernel
    cdef readonly uint64_t dropped_interface
    cdef readonly uint64_t unaccounted
    cdef readonly int link_type
    cdef readonly str link_type_name
    cdef readonly str warning
    cdef readonly str failure

    cdef void _capture(self) noexcept nogil
    cdef void _read_stats(self) noexcept nogil
    cdef void _weigh(self, Question *question) noexcept nogil
    cdef str _failure(self)
    cdef void _free(self)
    cdef void _change_file(self) noexcept
    cdef bint _hear(self) noexcept nogil
    cdef void _answer(self, uint64_t progress) noexcept nogil
    cdef int _milliseconds(self, int64_t due) noexcept nogil
