# What neighbors.py is compiled with.

cimport cython
from rawtap.packets.exchanges cimport is_first_hop
from rawtap.packets.findings cimport Packet
from rawtap.packets.headers cimport Ethernet, Frame, Ip


cdef bint _may_be_for_many(bytes address) except -1

cpdef bint _is_to_many(object link) except -1


cdef class NeighborJudge:
    cdef object _findings
    cdef readonly object requests
    cdef readonly object solicitations
    cdef dict _claims
    cdef dict _owned
    cdef object _probes
    cdef dict _false
    cdef set _stations
    cdef dict _networks
    cdef set _met
    cdef long long _to_one
    cdef readonly bint passed

    @cython.locals(frame=Frame, ip=Ip)
    cpdef see(self, Packet packet)

    @cython.locals(may_be_for_many=bint)
    cdef _destination(self, Packet packet, Ethernet link, Ip ip)

    cdef _sender(self, Packet packet, Ethernet link, Ip ip)
