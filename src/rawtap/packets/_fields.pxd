# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""What the columns of a packet are made of: its headers read in C, from the outermost to the first TCP, UDP or ICMP; and
from what a carrier carries, where others found that (`read_inside`).

Only bytes that were captured are read. What is cut off, malformed or of no protocol known here leaves its fields absent
(-1, or a null pointer): lines and explanations say why, the columns do not.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t

cdef enum:
    LINK_NULL = 0               # pcap-linktype(7)
    LINK_ETHERNET = 1
    LINK_RAW_BSD = 12
    LINK_RAW = 101
    LINK_LOOP = 108
    LINK_COOKED = 113
    LINK_RAW_IPV4 = 228
    LINK_RAW_IPV6 = 229
    LINK_COOKED2 = 276

    TYPE_IPV4 = 0x0800
    TYPE_ARP = 0x0806
    TYPE_VLAN = 0x8100
    TYPE_IPV6 = 0x86DD
    TYPE_QINQ = 0x88A8
    LEAST_TYPE = 0x0600         # less is a length (IEEE 802.3, 3.2.6)

    IP_ICMP = 1
    IP_TCP = 6
    IP_UDP = 17
    IP_ICMP6 = 58

    SNAP = 0xAAAA0300           # RFC 1042
    MOST_TAGS = 4
    MOST_EXTENSIONS = 16
    LONGEST_FRAME = 1514        # what is longer the hardware has still to cut

cdef enum Sum:
    SUM_UNKNOWN = -1            # not all is here, or it is left to hardware
    SUM_WRONG = 0
    SUM_RIGHT = 1

cdef struct Fields:
    const uint8_t *data
    int64_t captured
    int64_t end                 # of what is read, on the wire
    bint read                   # the link type is one that is read
    const uint8_t *source_mac
    int32_t source_mac_size
    const uint8_t *destination_mac
    int32_t destination_mac_size
    int32_t vlan
    int32_t ether_type
    int32_t arp
    int32_t version             # of IP
    const uint8_t *source
    const uint8_t *destination
    const uint8_t *outer_source     # of the IP header that carries this one
    const uint8_t *outer_destination
    int32_t outer_version
    int32_t ttl
    int32_t identification
    int32_t protocol
    int32_t fragment            # whether it is one
    int64_t network             # where IP begins, what it carries, and whether its end can be believed
    int64_t transport
    bint whole
    bint routed                 # the checksum's addresses are others than the header's
    int32_t source_port
    int32_t destination_port
    int32_t flags
    int64_t sequence
    int64_t acknowledgment
    int32_t window
    int64_t payload             # where it begins; its bytes
    int64_t size
    int32_t kind                # of ICMP
    int32_t code


cdef extern from * nogil:
    """
    #include <stdint.h>
    #include <string.h>
    static inline uint32_t rawtap_sum(const uint8_t *at, int64_t size) {
        /* The ones' complement sum of 16-bit words (RFC 1071), in this machine's order, not folded to its end. */
        uint64_t sum = 0;
        for (; size >= 4; at += 4, size -= 4) { uint32_t word; memcpy(&word, at, 4); sum += word; }
        if (size >= 2) { uint16_t word; memcpy(&word, at, 2); sum += word; at += 2; size -= 2; }
        if (size) { uint16_t word = 0; memcpy(&word, at, 1); sum += word; }
        sum = (sum & 0xffffffffu) + (sum >> 32);
        sum = (sum & 0xffffffffu) + (sum >> 32);
        uint32_t low = (uint32_t)((sum & 0xffff) + (sum >> 16));
        return (low & 0xffff) + (low >> 16);
    }
    """
    uint32_t rawtap_sum(const uint8_t *, int64_t)


cdef extern from "<arpa/inet.h>" nogil:
    uint16_t htons(uint16_t)


cdef inline int32_t word16(const uint8_t *at) noexcept nogil:
    return at[0] << 8 | at[1]


cdef inline int64_t word32(const uint8_t *at) noexcept nogil:
    return <uint32_t>at[0] << 24 | at[1] << 16 | at[2] << 8 | at[3]


cdef inline void read_fields(Fields *to, const uint8_t *data, int64_t captured, int64_t length, int link) noexcept nogil:
    """Read a frame of which `length` bytes were on the wire."""
    to.data, to.captured, to.end = data, captured, max(captured, length)
    to.source_mac = to.destination_mac = to.outer_source = to.outer_destination = NULL
    to.source_mac_size = to.destination_mac_size = 6
    to.vlan = to.ether_type = to.outer_version = -1
    to.read = True
    _forget_network(to)
    if link == LINK_ETHERNET:
        _read_ethernet(to)
    elif link == LINK_RAW or link == LINK_RAW_BSD or link == LINK_RAW_IPV4 or link == LINK_RAW_IPV6:
        if captured:
            _read_network(to, TYPE_IPV4 if data[0] >> 4 == 4 else TYPE_IPV6 if data[0] >> 4 == 6 else -1, 0)
    elif link == LINK_COOKED:
        if captured >= 16:
            to.source_mac, to.source_mac_size = data + 6, min(word16(data + 4), 8)
            _read_type(to, word16(data + 14), 16)
    elif link == LINK_COOKED2:
        if captured >= 20:
            to.source_mac, to.source_mac_size = data + 12, min(data[11], 8)
            _read_type(to, word16(data), 20)
    elif link == LINK_NULL or link == LINK_LOOP:
        if captured >= 4:
            _read_network(to, _family(data), 4)
    else:
        to.read = False


cdef inline void read_inside(Fields *to, int32_t kind, int64_t at, int64_t end) noexcept nogil:
    """Read what is carried: of the EtherType `kind`, at byte `at`, up to `end` on the wire. The link stays what it was."""
    to.outer_source, to.outer_destination, to.outer_version = to.source, to.destination, to.version
    to.end = end
    _forget_network(to)
    _read_network(to, kind, at)


cdef inline void _forget_network(Fields *to) noexcept nogil:
    to.source = to.destination = NULL
    to.arp = to.version = to.ttl = to.identification = to.protocol = to.fragment = -1
    to.source_port = to.destination_port = to.flags = to.window = to.kind = to.code = -1
    to.sequence = to.acknowledgment = to.payload = to.size = to.network = to.transport = -1
    to.whole = to.routed = False


cdef inline int32_t _family(const uint8_t *data) noexcept nogil:
    """Of a BSD's loopback header, in either byte order; each system has an AF_INET6 of its own."""
    cdef int32_t family = data[0] if data[0] else data[3]
    if family == 2:
        return TYPE_IPV4
    return TYPE_IPV6 if family == 10 or family == 24 or family == 28 or family == 30 else -1


cdef inline void _read_ethernet(Fields *to) noexcept nogil:
    if to.captured < 14:
        return
    to.destination_mac, to.source_mac = to.data, to.data + 6
    _read_type(to, word16(to.data + 12), 14)


cdef inline void _read_type(Fields *to, int32_t kind, int64_t at) noexcept nogil:
    """Pass the VLAN tags."""
    cdef int tags = 0
    while (kind == TYPE_VLAN or kind == TYPE_QINQ) and tags < MOST_TAGS:
        if at + 4 > to.captured:
            return
        if tags == 0:
            to.vlan = word16(to.data + at) & 0xFFF
        kind = word16(to.data + at + 2)
        at += 4
        tags += 1
    if kind < LEAST_TYPE:
        to.end = min(to.end, at + kind)
        if at + 8 > min(to.captured, to.end) or word32(to.data + at) != SNAP or word16(to.data + at + 4) != 0:
            return
        kind = word16(to.data + at + 6)  # SNAP, RFC 1042
        at += 8
    to.ether_type = kind
    _read_network(to, kind, at)


cdef inline void _read_network(Fields *to, int32_t kind, int64_t at) noexcept nogil:
    if kind == TYPE_IPV4:
        _read_ipv4(to, at)
    elif kind == TYPE_IPV6:
        _read_ipv6(to, at)
    elif kind == TYPE_ARP and at + 28 <= min(to.captured, to.end):
        # Of Ethernet and IPv4, RFC 826.
        if word32(to.data + at) == 0x00010800 and word16(to.data + at + 4) == 0x0604:
            to.arp = word16(to.data + at + 6)
            to.source, to.destination = to.data + at + 14, to.data + at + 24


cdef inline void _read_ipv4(Fields *to, int64_t at) noexcept nogil:
    cdef const uint8_t *ip = to.data + at
    cdef int64_t total, head
    cdef int32_t bits
    if at + 20 > min(to.captured, to.end) or ip[0] >> 4 != 4:
        return
    head, total, bits = (ip[0] & 15) << 2, word16(ip + 2), word16(ip + 6) & 0x3FFF
    if head < 20 or (total and total < head) or at + head > min(to.captured, to.end):
        return
    if total == 0:  # which segmentation offload leaves to the hardware
        total = to.end - at
    to.whole = at + total <= to.end and bits == 0 and at + total <= to.captured
    to.routed = head > 20 and _has_source_route(ip, head)
    to.end = min(to.end, at + total)
    to.version, to.network = 4, at
    to.identification, to.ttl, to.protocol = word16(ip + 4), ip[8], ip[9]
    to.source, to.destination = ip + 12, ip + 16
    to.fragment = bits != 0
    to.transport = at + head
    if bits & 0x1FFF == 0:
        _read_transport(to)


cdef inline bint _has_source_route(const uint8_t *ip, int64_t head) noexcept nogil:
    """Whether an option, loose or strict, sends the packet on (RFC 791, 3.1)."""
    cdef int64_t at = 20
    while at < head and ip[at]:
        if ip[at] == 131 or ip[at] == 137:
            return True
        if ip[at] == 1:
            at += 1
        elif at + 1 < head and ip[at + 1] >= 2:
            at += ip[at + 1]
        else:
            return False
    return False


cdef inline bint _has_home_address(const uint8_t *header, int64_t size) noexcept nogil:
    """Whether a destination option says another source (RFC 6275, 6.3)."""
    cdef int64_t at = 2
    while at + 1 < size:
        if header[at] == 201:
            return True
        at += header[at + 1] + 2 if header[at] else 1
    return False


cdef inline void _read_ipv6(Fields *to, int64_t at) noexcept nogil:
    cdef const uint8_t *ip = to.data + at
    cdef int64_t total, size
    cdef int32_t following
    cdef int passed = 0
    if at + 40 > min(to.captured, to.end) or ip[0] >> 4 != 6:
        return
    total, following = 40 + word16(ip + 4), ip[6]
    if total == 40 and (following == 0 or following == IP_TCP or following == IP_UDP):
        total = to.end - at  # a jumbogram, or left to the hardware
    to.whole = at + total <= to.end and at + total <= to.captured
    to.end = min(to.end, at + total)
    to.version, to.network, to.ttl = 6, at, ip[7]
    to.source, to.destination = ip + 8, ip + 24
    to.fragment = 0
    to.protocol, to.transport = following, at + 40
    while passed < MOST_EXTENSIONS and _extends(to.protocol):
        at = to.transport
        if at + 8 > min(to.captured, to.end):
            return
        size = 8 if to.protocol == 44 else (to.data[at + 1] + 2) * 4 if to.protocol == 51 else (to.data[at + 1] + 1) * 8
        if at + size > min(to.captured, to.end):
            return
        to.routed = to.routed or (to.protocol == 43 and to.data[at + 3] != 0)
        to.routed = to.routed or (to.protocol == 60 and _has_home_address(to.data + at, size))
        if to.protocol == 44 and word16(to.data + at + 2) & 0xFFF9:
            to.fragment, to.whole = 1, False
            to.identification = -1
        passed += 1
        to.transport = at + size
        if to.protocol == 44 and word16(to.data + at + 2) & 0xFFF8:
            to.protocol = to.data[at]
            return
        to.protocol = to.data[at]
    _read_transport(to)


cdef inline bint _extends(int32_t number) noexcept nogil:
    return number == 0 or number == 43 or number == 44 or number == 51 or number == 60


cdef inline void _read_transport(Fields *to) noexcept nogil:
    cdef const uint8_t *head = to.data + to.transport
    cdef int64_t room = min(to.captured, to.end) - to.transport
    cdef int64_t size
    if to.protocol == IP_TCP and room >= 20:
        size = head[12] >> 4 << 2
        if size < 20 or to.transport + size > to.end:
            return
        to.sequence, to.acknowledgment = word32(head + 4), word32(head + 8)
        to.flags, to.window = head[13], word16(head + 14)
        to.payload, to.size = to.transport + size, to.end - to.transport - size
    elif to.protocol == IP_UDP and room >= 8:
        size = word16(head + 4)
        to.payload = to.transport + 8
        to.size = max(min(to.end, to.transport + size) - to.payload, 0) if size >= 8 else 0
        if size == 0 and to.end - to.transport > 0xFFFF:  # RFC 2675, 4
            to.size = to.end - to.payload
        to.whole = to.whole and to.transport + size == to.end
    elif ((to.protocol == IP_ICMP and to.version == 4) or (to.protocol == IP_ICMP6 and to.version == 6)) and room >= 8:
        to.kind, to.code = head[0], head[1]
        to.payload, to.size = to.transport + 8, to.end - to.transport - 8
        return
    else:
        return
    to.source_port, to.destination_port = word16(head), word16(head + 2)


cdef inline Sum header_sum(const Fields *of) noexcept nogil:
    """Of an IPv4 header."""
    if of.version != 4:
        return SUM_UNKNOWN
    return SUM_RIGHT if rawtap_sum(of.data + of.network, of.transport - of.network) == 0xFFFF else SUM_WRONG


cdef inline Sum transport_sum(const Fields *of) noexcept nogil:
    """Of TCP, UDP, ICMP or ICMPv6, where all is here that it is made of."""
    cdef int64_t size = of.end - of.transport
    cdef uint32_t addresses, sum_, field
    cdef int at
    if not of.whole or of.payload < 0:
        return SUM_UNKNOWN
    sum_ = rawtap_sum(of.data + of.transport, size)
    if of.protocol == IP_ICMP:
        return SUM_RIGHT if sum_ == 0xFFFF else SUM_WRONG
    at = 16 if of.protocol == IP_TCP else 6 if of.protocol == IP_UDP else 2
    field = htons(word16(of.data + of.transport + at))
    if field == 0 and of.protocol == IP_UDP:
        return SUM_UNKNOWN  # there is none
    if of.routed:
        return SUM_UNKNOWN
    addresses = rawtap_sum(of.source, (of.destination - of.source) * 2) + htons(<uint16_t>of.protocol)
    if _folded(sum_ + addresses + htons(<uint16_t>size)) == 0xFFFF:
        return SUM_RIGHT
    if of.protocol != IP_ICMP6 and field:
        if _folded(addresses + htons(<uint16_t>size)) == field:
            return SUM_UNKNOWN  # left to hardware
        if of.end > LONGEST_FRAME and _folded(addresses) == field:
            return SUM_UNKNOWN
    return SUM_WRONG


cdef inline uint32_t _folded(uint32_t sum_) noexcept nogil:
    sum_ = (sum_ & 0xFFFF) + (sum_ >> 16)
    return (sum_ & 0xFFFF) + (sum_ >> 16)
