# cython: language_level=3, boundscheck=False, wraparound=False
"""A pcapng file's packet blocks, read from a buffer that has them whole. draft-ietf-opsawg-pcapng, section 4."""

from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t

from rawtap._words cimport word


cdef extern from "<byteswap.h>" nogil:
    uint16_t bswap_16(uint16_t)
    uint32_t bswap_32(uint32_t)


cdef extern from * nogil:
    """
    #include <stdint.h>
    static inline uint32_t nanoseconds_of(uint64_t part, uint64_t ticks) {
        return (uint32_t)((unsigned __int128)part * 1000000000u / ticks);
    }
    """
    uint32_t nanoseconds_of(uint64_t, uint64_t)


cdef enum Block:                # types; all others are skipped
    INTERFACE_DESCRIPTION = 1
    OLD_PACKET = 2
    SIMPLE_PACKET = 3
    ENHANCED_PACKET = 6
    SECTION_HEADER = 0x0A0D0D0A

cdef enum:
    BLOCK_HEADER = 8            # section 3.1: type, total length
    BLOCK_TRAILER = 4           # total length
    PACKET_HEADER = 28          # 4.3: block header, interface, time in two halves, captured and original length
    SIMPLE_HEADER = 12          # 4.4: block header, original length
    FLAGS = 2                   # 4.3.1: the option's code, and its bits of the direction
    DIRECTION = 3

cdef enum Fault:                # why a file is not read on
    NO_FAULT
    BLOCK_CUT                   # its last bytes are missing
    BLOCK_LENGTH                # that no block can have
    BLOCK_ENDS                  # other lengths at both ends
    SECTION_ORDER               # neither byte order
    SECTION_VERSION
    INTERFACE_UNKNOWN           # of a packet
    INTERFACE_CLOCK
    INTERFACES_MANY
    FILTER_UNKNOWN              # for an interface's packets: what it selects of them
    PACKET_LENGTH               # captured: beyond its block or what its interface may have
    NOT_REACHED                 # seeking fails

cdef struct Record:
    uint32_t seconds
    uint32_t fraction           # of a second, in the file's precision
    uint32_t captured
    uint32_t length             # on the wire
    const unsigned char *data
    uint32_t point              # the interface's number in the file
    uint32_t comparison         # with the filter, which its link type has
    uint32_t direction          # the two bits of the flags

cdef struct Point:              # an interface of the section that is read
    uint32_t comparison
    uint32_t longest
    uint64_t ticks              # units of its clock in a second
    int64_t offset              # seconds


cdef inline bint is_packet(uint32_t kind) noexcept nogil:
    return kind == ENHANCED_PACKET or kind == SIMPLE_PACKET or kind == OLD_PACKET


cdef inline Fault read_packet(
    const unsigned char *data, uint32_t kind, uint32_t size, bint swapped, const Point *points, uint32_t count,
    Record *record,
) noexcept nogil:
    """Read a packet block of `size` bytes; its interface is one of the section's `count`, and `record.point` of these."""
    cdef const word *block = <const word *>data
    cdef uint32_t head = SIMPLE_HEADER if kind == SIMPLE_PACKET else PACKET_HEADER
    cdef uint64_t time = 0
    cdef uint32_t room
    if size < head + BLOCK_TRAILER:
        return BLOCK_LENGTH
    room = size - head - BLOCK_TRAILER
    record.point = 0
    if kind == ENHANCED_PACKET:
        record.point = _number(block[2], swapped)
    elif kind == OLD_PACKET:
        record.point = bswap_16((<const uint16_t *>data)[4]) if swapped else (<const uint16_t *>data)[4]
    if record.point >= count:
        return INTERFACE_UNKNOWN
    if kind == SIMPLE_PACKET:
        record.length = _number(block[2], swapped)
        record.captured = min(record.length, points[record.point].longest)
    else:
        time = <uint64_t>_number(block[3], swapped) << 32 | _number(block[4], swapped)
        record.captured, record.length = _number(block[5], swapped), _number(block[6], swapped)
    if record.captured > min(points[record.point].longest, room):
        return PACKET_LENGTH
    _split_time(time, &points[record.point], record)
    record.data = data + head
    record.comparison = points[record.point].comparison
    record.direction = 0
    if kind == ENHANCED_PACKET and room - record.captured >= 8:
        record.direction = _direction(data, size, head + ((record.captured + 3) & ~<uint32_t>3), swapped)
    return NO_FAULT


cdef inline uint32_t _direction(const unsigned char *data, uint32_t size, uint32_t at, bint swapped) noexcept nogil:
    """By the block's options, which begin at `at`; 0 where they do not say."""
    cdef const uint16_t *option
    cdef uint32_t code, length
    while at + 4 <= size - BLOCK_TRAILER:
        option = <const uint16_t *>(data + at)
        code = bswap_16(option[0]) if swapped else option[0]
        length = bswap_16(option[1]) if swapped else option[1]
        at += 4
        if code == 0 or at + length > size - BLOCK_TRAILER:
            return 0
        if code == FLAGS and length == 4:
            return _number((<const word *>(data + at))[0], swapped) & DIRECTION
        at += (length + 3) & ~<uint32_t>3
    return 0


cdef inline void _split_time(uint64_t time, const Point *point, Record *record) noexcept nogil:
    """Seconds and nanoseconds."""
    if point.ticks == 1_000_000_000:  # a constant is divided by much faster
        record.seconds = <uint32_t>(time // <uint64_t>1_000_000_000)
        record.fraction = <uint32_t>(time % <uint64_t>1_000_000_000)
    elif point.ticks == 1_000_000:
        record.seconds = <uint32_t>(time // <uint64_t>1_000_000)
        record.fraction = <uint32_t>(time % <uint64_t>1_000_000 * 1000)
    else:
        record.seconds = <uint32_t>(time // point.ticks)
        record.fraction = nanoseconds_of(time % point.ticks, point.ticks)
    record.seconds += <uint32_t>point.offset


cdef inline uint32_t _number(uint32_t stored, bint swapped) noexcept nogil:
    return bswap_32(stored) if swapped else stored
