# What windows.py is compiled with.

cimport cython
from rawtap.packets.findings cimport Packet
from rawtap.packets.judges.flow cimport Connection, Side, distance
from rawtap.packets.transport cimport Tcp

cdef int FIN, SYN, _MOST_SCALE
cdef long long PATIENCE, _TIME_TO_ANSWER, _NUMBERS


@cython.locals(shift=int, size="long long", edge="long long")
cpdef allowed(Packet packet, Tcp segment, Connection connection, Side side, Side other, object say)

@cython.locals(ahead="long long", is_closed=bint)
cpdef bint is_probe(Packet packet, Tcp segment, Side sender, Side receiver) except -1

@cython.locals(room="long long")
cpdef beyond_window(Packet packet, Tcp segment, long long end, Connection connection, Side sender)
