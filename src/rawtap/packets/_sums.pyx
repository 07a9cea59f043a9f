# cython: language_level=3, boundscheck=False, wraparound=False
"""The sum that an Internet checksum is made of (RFC 1071), eight bytes at a time."""

from libc.stdint cimport uint64_t
from libc.string cimport memcpy


cdef extern from "<endian.h>" nogil:
    uint64_t le64toh(uint64_t)


cdef enum:
    # Each of four sums of 16 bits takes so many bytes of 255.
    ROUND = 257


cpdef long long plain_sum(bytes data, Py_ssize_t begin, Py_ssize_t end) except -1:
    """The sum of the 16-bit words of `data` from `begin` to before `end`, carries and all. An odd byte at the end is the
    high half of a word.

    Raises:
        IndexError: These bytes are not all there.
    """
    if not 0 <= begin <= end <= len(data):
        raise IndexError(f"bytes {begin} to {end} of {len(data)}")
    return _sum(<const unsigned char *><const char *>data + begin, end - begin) if end > begin else 0


cdef long long _sum(const unsigned char *at, Py_ssize_t size) noexcept nogil:
    cdef uint64_t half = 0x00FF00FF
    cdef uint64_t mask = half << 32 | half
    cdef uint64_t word, high, low
    cdef long long highs = 0
    cdef long long lows = 0
    cdef Py_ssize_t each
    while size >= 8:
        high = low = 0
        for each in range(min(size // 8, ROUND)):
            memcpy(&word, at, 8)
            word = le64toh(word)
            high += word & mask  # the first byte is the lowest, and the high half of its word
            low += word >> 8 & mask
            at += 8
            size -= 8
        highs += _lanes(high)
        lows += _lanes(low)
    for each in range(size):
        if each % 2:
            lows += at[each]
        else:
            highs += at[each]
    return highs * 256 + lows


cdef inline long long _lanes(uint64_t sums) noexcept nogil:
    return (sums & 0xFFFF) + (sums >> 16 & 0xFFFF) + (sums >> 32 & 0xFFFF) + (sums >> 48)
