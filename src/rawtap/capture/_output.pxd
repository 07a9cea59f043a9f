from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from rawtap._words cimport word

cdef extern from * nogil:
    """
    /* An option's code and its length, 16 bits each: epb_flags. */
    #define FLAGS_OPTION (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? 0x00040002u : 0x00020004u)
    """
    uint32_t FLAGS_OPTION

cdef enum Reason:
    RUNNING
    STOPPED
    MAX_BYTES
    MAX_PACKETS
    MAX_SECONDS
    NO_SPACE
    WRITE_FAILED
    PCAP_FAILED
    SOURCE_ENDED
    INTERFACE_REMOVED
    FILE_CUT

cdef enum:
    BLOCK = 4096                # what direct I/O is aligned to: memory, offset and length
    BUFFER_BYTES = 1 << 20      # more than the largest record
    FLAGS_BYTES = 12            # epb_flags and the end of the options, draft-ietf-opsawg-pcapng, 4.3.1

cdef struct Output:
    int fd
    unsigned char *buffer
    uint64_t base               # place in the file of buffer[0], a multiple of BLOCK
    size_t used                 # bytes in the buffer
    size_t written              # of them these are in the file
    size_t first                # where the first record begins that is not counted yet
    size_t crossing             # where the last record begins that reaches into another block, and, before it,
    uint64_t crossing_packets   # records that are not counted
    uint64_t crossing_wire      # and their length on the wire
    uint64_t pending_packets    # records in the buffer that are not counted
    uint64_t pending_wire
    uint64_t packets            # whole records in the files
    uint64_t refused            # records for which a limit or the disk left no room
    uint64_t wire_bytes         # and their length on the wire
    uint64_t file_bytes         # where the file's last whole record ends
    uint64_t *noted             # where `file_bytes` is noted for the trimmer, or NULL
    uint64_t max_bytes          # of one file, what is written behind the packets apart
    uint64_t max_packets
    uint64_t free_floor
    uint64_t allowance          # bytes that may be written before the free space is looked at again
    uint64_t trial_bytes        # written to the disk since its speed was judged
    int64_t trial_ns            # and the time that took
    uint64_t direct_from        # direct I/O may be tried from this place in the file on
    uint32_t snaplen
    bint pcapng
    bint flagged                # records of pcapng say in which direction a frame went
    bint direct                 # O_DIRECT is on
    int64_t unwritten_since     # when the buffer's first unwritten byte was put off, 0 where none was
    int retired_fd              # a removed file, given back bit by bit
    uint64_t retired_bytes
    Reason reason
    bint full                   # takes no more records: a limit or a failed write
    int error                   # errno of the first failed write

cdef int64_t now() noexcept nogil
cdef bint init(Output *out, uint32_t snaplen, bint pcapng) noexcept nogil
cdef void release(Output *out) noexcept nogil
cdef void give_back(Output *out) noexcept nogil
cdef bint attach(Output *out, int fd, const unsigned char *header, size_t size, uint64_t max_bytes) noexcept nogil
cdef void append_bytes(Output *out, const unsigned char *data, size_t size) noexcept nogil
cdef void flush(Output *out) noexcept nogil
cdef void flush_some(Output *out) noexcept nogil
cdef void fill(Output *out, Reason reason) noexcept nogil


cdef inline size_t record_size(const Output *out, uint32_t kept) noexcept nogil:
    """Bytes of a record in the file: pcap-savefile(5), or pcapng's Enhanced Packet Block."""
    if out.pcapng:
        return 32 + ((kept + 3) & ~<uint32_t>3) + (FLAGS_BYTES if out.flagged else 0)
    return 16 + kept


cdef inline bint fits(const Output *out, size_t size) noexcept nogil:
    """Whether a record of `size` bytes fits into the file."""
    return out.base + out.used + size <= out.max_bytes


cdef inline void append(
    Output *out, size_t size, uint64_t seconds, uint32_t nanoseconds, uint32_t kept, uint32_t length,
    const unsigned char *data, uint32_t interface=0, uint32_t direction=0,
) noexcept nogil:
    """Put one record of `size` bytes, as `record_size` gave it, into the buffer; it `fits`. The hot path.

    What pcapng alone says: the number of the interface in the file, and the direction (0 unknown, 1 inbound, 2 outbound).
    """
    cdef word *record
    cdef uint64_t moment
    cdef size_t end, behind
    if out.used + size > BUFFER_BYTES:
        flush_some(out)
        if out.full:
            out.refused += 1
            return
    record = <word *>(out.buffer + out.used)
    if out.pcapng:
        moment = seconds * 1_000_000_000 + nanoseconds
        behind = size // 4 - 1 - (FLAGS_BYTES // 4 if out.flagged else 0)
        record[behind - 1] = 0  # the padding; what is none of it is written over
        record[0] = 6  # Enhanced Packet Block
        record[1] = <uint32_t>size
        record[2] = interface
        record[3] = <uint32_t>(moment >> 32)
        record[4] = <uint32_t>moment
        record[5] = kept
        record[6] = length
        memcpy(record + 7, data, kept)
        if out.flagged:
            record[behind] = FLAGS_OPTION
            record[behind + 1] = direction
            record[behind + 2] = 0
        record[size // 4 - 1] = <uint32_t>size
    else:
        record[0] = <uint32_t>seconds  # the format's own end, in 2106
        record[1] = nanoseconds
        record[2] = kept
        record[3] = length
        memcpy(record + 4, data, kept)
    end = out.used + size
    if (end ^ out.used) >= BLOCK:
        # A record that ends where a block does leaves none of itself behind.
        out.crossing = end if end % BLOCK == 0 else out.used
        out.crossing_packets = out.pending_packets + (end % BLOCK == 0)
        out.crossing_wire = out.pending_wire + (length if end % BLOCK == 0 else 0)
    out.used = end
    out.pending_packets += 1
    out.pending_wire += length
