"""How C goes through a capture file's packets: what `Savefile.door` gives in a capsule of this name."""

from libc.stdint cimport int64_t, uint64_t
from rawtap.packets._blocks cimport Record


cdef extern from *:
    """
    #define RAWTAP_DOOR "rawtap.door"
    """
    const char *DOOR "RAWTAP_DOOR"

cdef struct Seen:
    Record record               # its data is good until the next one is read
    int64_t time_ns             # since 1970
    uint64_t number             # in the file, from 1
    int link_type               # libpcap's

# The next packet that passes: 1, or another number where there is none; `Savefile.close_door` then says why.
ctypedef int (*Advance)(void *savefile, Seen *seen) noexcept nogil

cdef struct Door:
    void *savefile
    Advance advance
    int status                  # what it returned last
