# What sums.py is compiled with.

cimport cython
from rawtap.packets.checks cimport Checksum, checksums, total
from rawtap.packets.findings cimport Packet
from rawtap.packets.headers cimport Frame, Ip

cdef object _RIGHT


cpdef bint of_loopback(Ip ip, bytes address) except -1


cdef class SumJudge:
    cdef object _findings
    cdef long long _left
    cdef long long _lengths_left
    cdef set _leaving
    cdef dict _zeros
    cdef dict _unnamed

    @cython.locals(ip=Ip, frame=Frame, sums=list, each=Checksum, is_own=bint)
    cpdef see(self, Packet packet)

    cdef _checksum(self, Packet packet, Ip ip, Checksum found)

    @cython.locals(count="long long", ports=tuple)
    cdef _wrong(self, Packet packet, Ip ip, Checksum found)

    cdef _zero(self, Packet packet, Ip ip, str who, Checksum found)

    cdef _length(self, Packet packet, Ip ip, list sums)


cdef str _mistake(Frame frame, Ip ip, Checksum found)
