# What connections.py is compiled with.

cimport cython
from rawtap.packets.exchanges cimport Requests
from rawtap.packets.findings cimport Packet
from rawtap.packets.headers cimport Ip
from rawtap.packets.judges.flow cimport Connection, Seen, Side, distance
from rawtap.packets.judges.segments cimport Order, Step
from rawtap.packets.transport cimport Tcp

cdef int ACK, FIN, RST, SYN, TCP, _RECENT
cdef long long PATIENCE, _SILENCE

cdef long long _FAR


cdef class ConnectionJudge:
    cdef object _findings
    cdef object _passes
    cdef readonly Requests requests
    cdef object _connections
    cdef Order _order
    cdef object _say
    cdef readonly bint passed

    cpdef see(self, Packet packet)

    @cython.locals(data=bytes, at="long long", source=bytes, destination=bytes, connection=Connection, sender=Side)
    cdef _see(self, Packet packet, Ip ip, Tcp segment)

    @cython.locals(pending=dict)
    cdef _judge(self, Packet packet, Tcp segment, Connection connection, Side sender, Side receiver)

    @cython.locals(key=bytes, connection=Connection, one=Side, two=Side)
    cdef Connection _connection(self, Packet packet, Ip ip, Tcp segment, bytes source, bytes destination)


@cython.locals(sender=Side, receiver=Side, is_far=bint)
cdef bint _is_new(long long at, Connection connection, bytes source, Tcp segment) except -1

cdef bint _is_far(long long number, object known) except -1

@cython.locals(seen=Seen, each=Seen, copied=bint, recent=tuple)
cdef bint _is_copy(long long at, Ip ip, Tcp segment, Side sender) except -1
