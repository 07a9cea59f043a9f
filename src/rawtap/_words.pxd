"""Numbers of 32 bits that may begin at any byte of a buffer, as those of a pcap file's records do: a plain pointer to a
number must be aligned (ISO C 6.3.2.3), and compilers count on it."""

from libc.stdint cimport uint32_t

cdef extern from *:
    """
    #include <stdint.h>
    typedef uint32_t __attribute__((aligned(1), may_alias)) rawtap_word;
    """
    ctypedef uint32_t word "rawtap_word"
