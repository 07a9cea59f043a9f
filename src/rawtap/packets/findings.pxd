# What findings.py is compiled with.

cimport cython
from rawtap.packets.headers cimport Frame


cdef class Packet:
    cdef readonly long long number
    cdef readonly long long at
    cdef readonly Frame frame
