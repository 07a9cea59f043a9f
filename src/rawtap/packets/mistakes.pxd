# What mistakes.py is compiled with.

cimport cython
from rawtap.packets._sums cimport plain_sum

cdef long long _WORD

cpdef object swapped(object number, int size=*)

@cython.locals(value="long long")
cdef str _compared(long long found, long long plain)

cdef long long _plain(bytes data) except -1

cdef long long _folded(long long total) except -1
