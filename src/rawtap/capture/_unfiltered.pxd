from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t

cdef enum:
    KINDS = 32

cdef struct Kind:
    uint32_t protocol           # EtherType << 8 | IP protocol
    uint32_t port               # the lower of the two, 0 where there is none
    uint64_t frames

cdef struct Passed:              # 64-bit words and nothing else, for it is published (see _account)
    uint64_t counted
    uint64_t sampled
    uint64_t used               # of the table
    Kind[KINDS] table

cdef class UnfilteredCount:
    cdef readonly int fd
    cdef bint watching
    cdef Passed own
    cdef bint changed                   # since it was published
    cdef uint64_t turn
    cdef Passed published               # its copy, for other threads

    cdef void look(self) noexcept nogil
    cdef void publish(self) noexcept nogil
    cdef Passed _read(self) noexcept
    cdef void note(self, const unsigned char *frame, size_t size, uint64_t most) noexcept nogil
    cdef void look_away(self) noexcept nogil
    cdef void _count(self) noexcept nogil
    cdef void _tell(self, const unsigned char *frame, size_t size) noexcept nogil
