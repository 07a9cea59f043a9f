# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Which conversation a TCP segment or a UDP datagram is of: both ways between two ends are one, numbered as they begin.

A SYN with another sequence number than that which began a TCP conversation begins the next one between the same ends.
The table is bounded: packets of conversations that find no room in it have no number, and are counted.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset
from rawtap.packets._fields cimport IP_TCP, IP_UDP, Fields

cdef enum:
    FIRST_ROOM = 1 << 10
    MOST_ROOM = 1 << 23         # places, half of which are used: 400 MB
    KEY = 40
    SYN = 2
    ACK = 16

cdef struct Flow:
    uint8_t key[KEY]            # two ends, each an address and a port; the protocol, and whose packets they are
    int64_t number              # from 1; 0 for a free place
    int64_t began               # the SYN's sequence number; -1 for none

cdef struct Flows:
    Flow *places
    uint64_t room
    uint64_t used
    int64_t last                # number given
    uint64_t lost               # packets without one


cdef inline int64_t flow_of(Flows *flows, const Fields *of, uint32_t whose) noexcept nogil:
    """The number of the conversation, from 0; -1 where there is none."""
    cdef uint8_t key[KEY]
    cdef Flow *flow
    if of.source_port < 0 or (of.protocol != IP_TCP and of.protocol != IP_UDP):
        return -1
    _make_key(key, of, whose)
    if flows.used * 2 >= flows.room and not _grow(flows):
        flows.lost += 1
        return -1
    flow = _place(flows.places, flows.room, key)
    if flow.number and flow.began >= 0 and of.flags >= 0 and of.flags & (SYN | ACK) == SYN and (
        of.sequence != flow.began
    ):
        flow.number, flow.began = 0, -1
        flows.used -= 1
    if not flow.number:
        memcpy(flow.key, key, KEY)
        flows.last += 1
        flows.used += 1
        flow.number, flow.began = flows.last, -1
    if flow.began < 0 and of.flags >= 0 and of.flags & (SYN | ACK) == SYN:
        flow.began = of.sequence
    return flow.number - 1


cdef inline void _make_key(uint8_t *key, const Fields *of, uint32_t whose) noexcept nogil:
    cdef int size = 4 if of.version == 4 else 16
    cdef int order = memcmp(of.source, of.destination, size)
    cdef bint swapped = order > 0 or (order == 0 and of.source_port > of.destination_port)
    cdef uint16_t one = <uint16_t>(of.destination_port if swapped else of.source_port)
    cdef uint16_t other = <uint16_t>(of.source_port if swapped else of.destination_port)
    memset(key, 0, KEY)
    memcpy(key, of.destination if swapped else of.source, size)
    memcpy(key + 16, of.source if swapped else of.destination, size)
    memcpy(key + 32, &one, 2)
    memcpy(key + 34, &other, 2)
    key[36], key[37] = <uint8_t>of.protocol, <uint8_t>of.version
    key[38], key[39] = <uint8_t>whose, <uint8_t>(whose >> 8)


cdef inline Flow *_place(Flow *places, uint64_t room, const uint8_t *key) noexcept nogil:
    """Where the key is, or belongs."""
    cdef uint64_t mixed = 0x9E3779B97F4A7C15
    cdef uint64_t word
    cdef int at
    for at in range(0, KEY, 8):
        memcpy(&word, key + at, 8)
        mixed = (mixed ^ word) * <uint64_t>0xD6E8FEB86659FD93
        mixed ^= mixed >> 32
    mixed &= room - 1
    while places[mixed].number and memcmp(places[mixed].key, key, KEY) != 0:
        mixed = (mixed + 1) & (room - 1)
    return &places[mixed]


cdef inline bint _grow(Flows *flows) noexcept nogil:
    cdef uint64_t room = flows.room * 2 if flows.room else FIRST_ROOM
    cdef Flow *places
    cdef uint64_t at
    if room > MOST_ROOM:
        return False
    places = <Flow *>calloc(room, sizeof(Flow))
    if places == NULL:
        return False
    for at in range(flows.room):
        if flows.places[at].number:
            _place(places, room, flows.places[at].key)[0] = flows.places[at]
    free(flows.places)
    flows.places, flows.room = places, room
    return True
