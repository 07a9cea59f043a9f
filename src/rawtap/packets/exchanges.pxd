# What exchanges.py is compiled with.

cimport cython
from rawtap.packets.findings cimport Packet
from rawtap.packets.headers cimport Ip


cdef class Requests:
    cdef readonly str kind
    cdef readonly long long grace
    cdef readonly str what
    cdef readonly str rule
    cdef readonly dict pending
    cdef readonly bint passed
    cdef dict _pairs


@cython.locals(ip=Ip)
cpdef bint is_first_hop(Packet packet) except -1
