# What transport.py is compiled with.

cimport cython
from rawtap.packets.bounds cimport double_word, need, word


cdef class Udp:
    cdef readonly long long offset
    cdef readonly int source_port
    cdef readonly int destination_port
    cdef readonly long long length
    cdef readonly int checksum
    cdef readonly long long payload
    cdef readonly long long end


cdef class Tcp:
    cdef public long long offset
    cdef public int source_port
    cdef public int destination_port
    cdef public long long sequence
    cdef public long long acknowledgment
    cdef public int flags
    cdef public int window
    cdef public int checksum
    cdef public long long payload
    cdef public long long end
    cdef public object mss
    cdef public object scale
    cdef public bint sack
    cdef public object timestamps


cdef class Icmp:
    cdef readonly long long offset
    cdef readonly int version
    cdef readonly int type
    cdef readonly int code
    cdef readonly int checksum
    cdef readonly int identifier
    cdef readonly int sequence
    cdef readonly long long payload
    cdef readonly long long end
    cdef readonly object quoted
    cdef readonly object target
    cdef readonly object link_address


@cython.locals(room="long long", length="long long", checksum=int, source=int, destination=int)
cpdef Udp udp(bytes data, long long at, long long end, long long stated_end, list problems, bint fragment)

@cython.locals(size="long long", header=Tcp)
cpdef Tcp tcp(bytes data, long long at, long long end, list problems)

@cython.locals(code=int, size="long long")
cdef _tcp_options(bytes data, long long at, long long end, Tcp header, list problems)
