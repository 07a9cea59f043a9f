# What explain.py is compiled with.

cimport cython
from rawtap.packets.findings cimport Packet
from rawtap.packets.headers cimport Frame, Ip, parse
from rawtap.packets.judges.connections cimport ConnectionJudge
from rawtap.packets.judges.frames cimport FrameJudge
from rawtap.packets.judges.neighbors cimport NeighborJudge
from rawtap.packets.transport cimport Tcp


cdef class Examiner:
    cdef int _link_type
    cdef object _answers_pass
    cdef bint _sees_all
    cdef object _journeys
    cdef object _cards
    cdef bint _mixed
    cdef object _unread
    cdef object _findings
    cdef readonly long long examined
    cdef FrameJudge _frames
    cdef NeighborJudge _neighbors
    cdef object _leases
    cdef object _names
    cdef object _transfers
    cdef object _echoes
    cdef object _fragments
    cdef ConnectionJudge _connections
    cdef dict _carried
    cdef bint _carriers_passed
    cdef dict _by_transport

    @cython.locals(packet=Packet, ip=Ip, link_type=int)
    cpdef add(self, long long number, long long time_ns, long long length, bytes data, object origin=*)

    @cython.locals(frame=Frame, inner=Packet)
    cdef _see_carried(self, Packet packet)
