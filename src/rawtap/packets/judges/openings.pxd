# What openings.py is compiled with.

cimport cython
from rawtap.packets.findings cimport Packet
from rawtap.packets.judges.flow cimport Connection, Side, distance
from rawtap.packets.transport cimport Tcp

cdef int ACK, SYN
cdef long long _NUMBERS


cdef class Opening:
    cdef readonly object say
    cdef readonly object findings
    cdef readonly object requests
    cdef readonly Packet packet
    cdef readonly Tcp segment
    cdef readonly Connection connection
    cdef readonly Side sender
    cdef readonly Side receiver

    @cython.locals(segment=Tcp, connection=Connection, packet=Packet, sender=Side, receiver=Side)
    cpdef judge(self)


cpdef shook(Packet packet, Tcp segment, Connection connection, Side sender, Side receiver)

@cython.locals(number="long long")
cpdef answered(object findings, Packet packet, Tcp segment, object requests, Side mine, Side theirs)
