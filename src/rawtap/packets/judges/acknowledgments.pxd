# What acknowledgments.py is compiled with.

cimport cython
from rawtap.packets.findings cimport Packet
from rawtap.packets.judges.flow cimport Sent, Side, distance
from rawtap.packets.transport cimport Tcp

cdef int FIN, SYN, MSS
cdef long long RACE

cdef long long _WINDOW


@cython.locals(number="long long", at="long long", ahead="long long", is_bare=bint)
cpdef acknowledged(Packet packet, Tcp segment, Side acker, Side sender)

@cython.locals(last=Sent, first=Sent)
cdef _placed(Packet packet, long long number, Side acker, Side sender)

@cython.locals(size="long long", by_fin=bint)
cdef bint _is_odd(long long number, Sent segment, Side acker) except -1

cdef _passed(Packet packet, long long number, Side sender)

cpdef spoken(Packet packet, Tcp segment, Side sender)
