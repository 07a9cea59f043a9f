from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t

cdef enum:
    KINDS = 32

cdef struct Kind:
    uint32_t protocol           # EtherType << 8 | IP protocol
    uint32_t port               # the lower of the two, 0 where there is none
    uint64_t frames

cdef class UnfilteredCount:
    cdef readonly int fd
    cdef bint watching
    cdef Kind[KINDS] table
    cdef int used
    cdef uint64_t counted
    cdef readonly uint64_t sampled

    cdef void look(self) noexcept nogil
    cdef void note(self, const unsigned char *frame, size_t size, uint64_t most) noexcept nogil
    cdef void look_away(self) noexcept nogil
    cdef void _count(self) noexcept nogil
    cdef void _tell(self, const unsigned char *frame, size_t size) noexcept nogil
