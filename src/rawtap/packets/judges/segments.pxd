# What segments.py is compiled with.

cimport cython
from rawtap.packets.findings cimport Packet
from rawtap.packets.judges cimport acknowledgments, openings, windows
from rawtap.packets.judges.flow cimport Connection, Reset, Sent, Side, distance
from rawtap.packets.transport cimport Tcp

cdef int ACK, FIN, SYN, MSS, _HOLES, _FAST
cdef long long COPIED, PATIENCE, RACE, _REORDERED, _ROUND_TRIP, _MOST, _FAR


cdef class Order:
    cdef public long long count
    cdef public str first


cdef class Step:
    cdef readonly object say
    cdef readonly Order order
    cdef readonly Packet packet
    cdef readonly Tcp segment
    cdef readonly Connection connection
    cdef readonly Side sender
    cdef readonly Side receiver

    @cython.locals(segment=Tcp, sender=Side, side=Side, size="long long")
    cpdef judge(self)

    @cython.locals(sender=Side, packet=Packet, segment=Tcp, end="long long", ahead="long long", acked=bint, asks=bint)
    cdef _data(self, long long begin, long long size)

    cdef bint _is_misread(self, long long begin, long long expected) except -1

    @cython.locals(sender=Side)
    cdef _after_fin(self, long long begin, long long end)

    @cython.locals(reset=Reset)
    cdef _after_reset(self, long long size)

    @cython.locals(other=Side, packet=Packet)
    cdef _waited(self, long long number)
