"""Clocks, for code without the GIL."""

from libc.stdint cimport int64_t


cdef extern from "<time.h>" nogil:
    struct timespec:
        long tv_sec
        long tv_nsec
    int clock_gettime(int, timespec *)
    int CLOCK_MONOTONIC
    int CLOCK_REALTIME


cdef inline int64_t time_on(int clock) noexcept nogil:
    """Nanoseconds on a clock of clock_gettime(2); 0 where there is none."""
    cdef timespec t
    if clock_gettime(clock, &t) != 0:
        return 0
    return <int64_t>t.tv_sec * 1_000_000_000 + t.tv_nsec


cdef inline int64_t now() noexcept nogil:
    """Nanoseconds on the monotonic clock."""
    return time_on(CLOCK_MONOTONIC)
