# What checks.py is compiled with.

cimport cython
from rawtap.packets._sums cimport plain_sum
from rawtap.packets.headers cimport Frame, Ip
from rawtap.packets.transport cimport Icmp, Tcp, Udp

cdef int _MODULUS, _FRAME, ICMP6, TCP, UDP
cdef object _RIGHT, _WRONG, _UNKNOWN


cdef class Checksum:
    cdef readonly str name
    cdef readonly object verdict
    cdef readonly int found
    cdef readonly int expected


cpdef long long total(bytes data) except -1

@cython.locals(ip=Ip, found=list, whole=bint)
cpdef list checksums(Frame frame)

cdef Checksum _of_tcp(Frame frame, Ip ip, Tcp header, bint whole)

cdef Checksum _of_udp(Frame frame, Ip ip, Udp header, bint whole)

cdef Checksum _transport(Frame frame, Ip ip, object header, bint whole)

@cython.locals(judged=Checksum, addresses="long long", size="long long")
cdef Checksum _pseudo(
    str name, Frame frame, Ip ip, long long begin, long long end, int protocol, int checksum, bint whole
)

@cython.locals(remainder="long long", expected="long long")
cdef Checksum _judge(
    str name, bytes data, long long begin, long long end, int checksum, long long pseudo, bint whole
)
