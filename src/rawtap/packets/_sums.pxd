cpdef long long plain_sum(bytes data, Py_ssize_t begin, Py_ssize_t end) except -1
