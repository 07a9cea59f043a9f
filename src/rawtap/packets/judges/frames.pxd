# What frames.py is compiled with.

cimport cython
from rawtap.packets.findings cimport Packet
from rawtap.packets.headers cimport Ethernet, Frame, Ip
from rawtap.packets.judges.sums cimport SumJudge, of_loopback

cdef int _LEAST, _FCS


cdef class FrameJudge:
    cdef object _findings
    cdef SumJudge _sums
    cdef long long _cut
    cdef long long _with_fcs
    cdef dict _unread
    cdef dict _unjudged
    cdef dict _padding

    @cython.locals(frame=Frame, ip=Ip)
    cpdef see(self, Packet packet)

    cpdef see_carried(self, Packet packet)

    cdef _lengths(self, Packet packet)

    @cython.locals(frame=Frame, ip=Ip, agreed=bint)
    cdef _ethernet(self, Packet packet, Ethernet link)

    @cython.locals(frame=Frame, end="long long", rest=bytes)
    cdef _behind(self, Packet packet, Ethernet link, long long least)

    cdef _group(self, Packet packet, Ethernet link, Ip ip)

    cdef _protocol(self, Packet packet, Ip ip)

    cdef _pads(self, bytes sender, int bit)

    @cython.locals(source=bytes, is_group=bint, code=str)
    cdef _addresses(self, Packet packet, Ip ip)

    cdef _time_to_live(self, Packet packet, Ip ip)

    cdef _hop_limit(self, Packet packet, Ip ip)


cpdef bint is_loopback(Frame frame) except -1
