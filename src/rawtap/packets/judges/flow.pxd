# What flow.py is compiled with.

cimport cython

cdef long long _HALF, _MOST


cpdef long long distance(long long later, long long earlier) noexcept


cdef class Sent:
    cdef readonly long long begin
    cdef readonly long long end
    cdef readonly long long number
    cdef readonly int flags
    cdef readonly long long at


cdef class Seen:
    cdef readonly long long at
    cdef readonly int identification
    cdef readonly long long sequence
    cdef readonly long long acknowledgment
    cdef readonly int flags
    cdef readonly long long size
    cdef readonly int window

    cpdef bint is_copy_of(self, Seen other) except -1


cdef class Probes:
    cdef public long long first
    cdef public long long last
    cdef public tuple numbers
    cdef public long long count

    cpdef add(self, long long at, long long number)


cdef class Side:
    cdef readonly bytes end
    cdef readonly str name
    cdef readonly str host
    cdef public object first
    cdef public long long opened_in
    cdef public object another_first
    cdef public long long another_in
    cdef public object next
    cdef public bint spoke
    cdef public int mss
    cdef public object acked
    cdef public long long acked_in
    cdef public long long duplicates
    cdef public object edge
    cdef public tuple grown
    cdef public object scale
    cdef public object window
    cdef public object fin
    cdef public object shut
    cdef public object probes
    cdef public object waiting
    cdef public long long last
    cdef public object beyond
    cdef public object disowned
    cdef public object over
    cdef public object sent
    cdef public long long on_end
    cdef public dict off
    cdef public tuple holes
    cdef public long long refused_in
    cdef public long long skipped_in
    cdef public tuple unseen
    cdef public long long unseen_bytes
    cdef public tuple recent

    @cython.locals(each=Sent)
    cpdef Sent sent_in(self, long long number)


cdef class Reset:
    cdef readonly Side side
    cdef readonly long long packet
    cdef readonly long long at
    cdef readonly long long number
    cdef readonly long long low
    cdef readonly long long high
    cdef readonly bint is_abrupt
    cdef public bint ignored


cdef class Connection:
    cdef readonly Side one
    cdef readonly Side two
    cdef readonly bytes sample
    cdef readonly long long length
    cdef public object asked
    cdef public Side asker
    cdef public object round_trip
    cdef public long long last_at
    cdef public object whole
    cdef public bint closed
    cdef public bint hidden
    cdef public bint in_pieces
    cdef public Reset reset
    cdef public object broken_by

    cpdef Side of(self, bytes end)

    cpdef Side other(self, Side side)
