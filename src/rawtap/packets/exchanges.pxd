# What exchanges.py is compiled with.


cdef class Requests:
    cdef readonly str kind
    cdef readonly long long grace
    cdef readonly str what
    cdef readonly str rule
    cdef readonly dict pending
    cdef readonly bint passed
    cdef dict _pairs
