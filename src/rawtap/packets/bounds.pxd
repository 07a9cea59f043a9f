# What bounds.py is compiled with.

cpdef long long word(bytes data, Py_ssize_t at) except -1
cpdef long long double_word(bytes data, Py_ssize_t at) except -1
cpdef int need(bytes data, long long at, long long size, long long end, str name, str what) except -1
