# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The packets of capture files as columns, filled in C, for whoever reads Arrow's stream interface.

Theory of operation
-------------------
A `Packets` is a table that can be read any number of times, also at once: each reader opens the files anew (`Source`) and
goes through them in batches, so that no more than a batch is in memory, however large a capture is. One pass in C, without
the GIL: a packet costs no Python object. The GIL is taken where a file begins or ends, where a new interface is met, for
each packet whose line is asked for (`info`), which is the line that a page shows, and for each packet that is carried by
another or is of an odder link: where what it carries begins is found by the one reader of headers that there is.

Only columns that are `wanted` are filled; the others are there, and hold nothing.

A file that is still written to is read as far as it went when it was asked for: `Source.packets`.
"""

import os

from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_New
from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject
from libc.errno cimport EIO, ENOMEM
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcmp, memcpy, memset
from rawtap.packets._arrow cimport (
    NULLABLE,
    ROWS,
    ArrowArray,
    ArrowArrayStream,
    ArrowSchema,
    Column,
    begin_column,
    begin_rows,
    drop_column,
    end_column,
    put_null,
    put_number,
    put_real,
    put_size,
    put_text,
    release_rows,
    room_for,
)
from rawtap.packets._door cimport DOOR, Door, Seen
from rawtap.packets._fields cimport (
    IP_TCP,
    IP_UDP,
    TYPE_ARP,
    TYPE_IPV4,
    TYPE_IPV6,
    Fields,
    header_sum,
    read_fields,
    read_inside,
    transport_sum,
)
from rawtap.packets._flows cimport Flows, flow_of

from rawtap.packets import carriers, headers, lines, links, transport, unpack
from rawtap.packets._savefile import Savefile


cdef extern from "<arpa/inet.h>" nogil:
    const char *inet_ntop(int, const void *, char *, unsigned int)
    int AF_INET6


cdef enum:                      # the columns, in their order
    NUMBER
    TIME
    TIME_NS
    FILE
    INTERFACE
    DIRECTION
    LINK_TYPE
    LENGTH
    CAPTURED
    SOURCE_MAC
    DESTINATION_MAC
    VLAN
    ETHER_TYPE
    CARRIER
    OUTER_SOURCE
    OUTER_DESTINATION
    ARP_OPERATION
    SOURCE
    DESTINATION
    TTL
    IP_ID
    IP_PROTOCOL
    FRAGMENT
    SOURCE_PORT
    DESTINATION_PORT
    PROTOCOL
    FLAGS
    SEQ
    ACK
    WIN
    PAYLOAD
    ICMP_TYPE
    ICMP_CODE
    STREAM
    IP_CHECKSUM_OK
    CHECKSUM_OK
    FRAME
    INFO
    COLUMNS

# Their names, and Arrow's letters: l and i are whole numbers of 64 and 32 bits, g a real one, b a truth, u a text, z bytes.
FORMATS = {
    "number": "l", "time": "g", "time_ns": "l", "file": "u", "interface": "u", "direction": "u", "link_type": "i",
    "length": "i", "captured": "i", "source_mac": "u", "destination_mac": "u", "vlan": "i", "ether_type": "i",
    "carrier": "u", "outer_source": "u", "outer_destination": "u", "arp_operation": "i", "source": "u", "destination": "u", "ttl": "i", "ip_id": "i", "ip_protocol": "i",
    "fragment": "b", "source_port": "i", "destination_port": "i", "protocol": "u", "flags": "u", "seq": "l", "ack": "l",
    "win": "i", "payload": "i", "icmp_type": "i", "icmp_code": "i", "stream": "l", "ip_checksum_ok": "b",
    "checksum_ok": "b", "frame": "z", "info": "u",
}

# Columns that no header says.
_OF_THE_RECORD = frozenset(
    ("number", "time", "time_ns", "file", "interface", "direction", "link_type", "length", "captured", "frame", "info")
)

cdef enum:
    PORTS = 65536
    STATION = 8                 # bytes of a link address, at most
    ADDRESS_TEXT = 46           # INET6_ADDRSTRLEN
    PLACE_TEXT = 64
    ERROR_TEXT = 256

cdef struct Text:
    const char *at
    int32_t size


class Source:
    """A file: an open descriptor of it, its name in the column, how many packets were before it in its capture, how many of
    its own are read (None for all), and from when time is counted (nanoseconds since 1970; None for the first packet).

    `group` numbers the captures that the files are of. `live` is as for a `Savefile`.
    """

    def __init__(self, fd, name, *, group=0, before=0, packets=None, start_ns=None, live=False):
        self.fd, self.name, self.group, self.before = fd, name, group, before
        self.packets, self.start_ns, self.live = packets, start_ns, live

    def open(self):
        """A `Savefile` of its own, with a place of its own in the file."""
        fd = os.open(f"/proc/self/fd/{self.fd}", os.O_RDONLY | os.O_CLOEXEC)
        return Savefile(fd, "", live=self.live, unpacked=unpack.unpacked(fd))


cdef struct Scan

ctypedef int (*Filler)(PyObject *, Scan *, ArrowArray *) noexcept nogil

cdef struct Scan:               # one reader's
    Filler fill                 # the next batch; the table is a pointer to it, since C keeps no count of references
    PyObject *table             # `Packets`
    PyObject *file              # `Savefile`, with its door and the door's capsule
    PyObject *capsule
    Door *door
    int64_t next                # source to open
    int64_t before              # of it, as in `Source`
    int64_t most
    int64_t start_ns
    uint32_t group
    bint counts_time            # `start_ns` is known
    Text name
    Text *points                # names of its interfaces and, behind each, of its directions
    uint32_t known
    uint64_t unread
    Flows flows
    uint8_t stations[2][STATION]    # addresses of a link that only Python reads
    Column columns[COLUMNS]
    char error[ERROR_TEXT]


cdef class Packets:
    """A table of the packets of `sources`, in their order.

    Attributes:
        lacking: How far the files that were read to their ends went: by their numbers, packets and libpcap's text.
        unread: Packets of link types whose columns are not known, in the last whole pass.
        unnumbered: TCP and UDP packets without a stream, for want of room, in the last whole pass.
    """

    cdef readonly list sources
    cdef readonly frozenset wanted
    cdef readonly bint late     # `info` holds only where to find a packet's line, for `lines`
    cdef readonly dict lacking
    cdef readonly uint64_t unread
    cdef readonly uint64_t unnumbered
    cdef dict kept              # what pointers point into
    cdef bint wants[COLUMNS]
    cdef Text flags[256]
    cdef Text by_ip[256]
    cdef Text named[256]        # protocols that are told by UDP's port
    cdef uint8_t by_port[PORTS]
    cdef bint looks_inside      # a column is wanted that another packet's, carried in this one, may have
    cdef bint carries[256]      # IP's protocols that carry packets
    cdef bint carries_at[PORTS] # UDP's ports likewise
    cdef bint carries_as[PORTS] # EtherTypes of what stands between the link and IP
    cdef bint reads[PORTS]      # links that only Python reads

    def __init__(self, sources, wanted, late=False):
        self.sources, self.wanted, self.late = list(sources), frozenset(wanted), late
        self.lacking, self.kept = {}, {}
        for number, name in enumerate(FORMATS):
            self.wants[number] = name in self.wanted
        if self.wants[FLAGS]:
            for number in range(256):
                self.flags[number] = self._text(lines.flags_text(number))
        if self.wants[PROTOCOL]:
            self._name_protocols()
        self.looks_inside = bool(self.wanted - _OF_THE_RECORD)
        for number in carriers.IN_IP:
            self.carries[number] = True
        for number in carriers.IN_UDP:
            self.carries_at[number] = True
        for number in carriers.IN_FRAMES:
            self.carries_as[number] = True
        for number in links.LINKS:
            self.reads[number] = True

    def _name_protocols(self):
        names = [""]
        for number in range(256):
            self.by_ip[number] = self._text(lines.protocol_name(number))
        for number in range(PORTS):
            name = transport.port_name(0, number)
            if name and name not in names:
                self.named[len(names)] = self._text(name)
                names.append(name)
            self.by_port[number] = names.index(name) if name else 0

    def lines(self, int64_t source, places):
        """The lines of packets of a source: `places` are their numbers in the file, ascending, and what each is called."""
        file = self.sources[source].open()
        found = {}
        for number, name in places:
            file.skip(number - 1)
            taken = file.take(1)
            if taken:
                _, _, _, length, data, origin = taken[0]
                found[name] = lines.describe(data, length, origin.link_type).info
        return found

    cdef Text _text(self, str text):
        cdef Text made
        found = self.kept.get(text)
        if found is None:
            found = self.kept[text] = text.encode("utf-8", "replace")
        made.at, made.size = <const char *>found, <int32_t>len(found)
        return made

    def __arrow_c_schema__(self):
        cdef ArrowSchema *schema = <ArrowSchema *>calloc(1, sizeof(ArrowSchema))
        if schema == NULL:
            raise MemoryError
        if _describe(schema) != 0:
            free(schema)
            raise MemoryError
        return PyCapsule_New(schema, "arrow_schema", _free_schema)

    def __arrow_c_stream__(self, requested_schema=None):
        cdef ArrowArrayStream *stream = <ArrowArrayStream *>calloc(1, sizeof(ArrowArrayStream))
        cdef Scan *scan = <Scan *>calloc(1, sizeof(Scan))
        cdef int number
        if stream == NULL or scan == NULL:
            free(stream)
            free(scan)
            raise MemoryError
        for number, letter in enumerate(FORMATS.values()):
            scan.columns[number].format, scan.columns[number].wanted = ord(letter), self.wants[number]
        Py_INCREF(self)
        scan.table, scan.fill = <PyObject *>self, <Filler><void *>_fill
        stream.get_schema, stream.get_next = _stream_schema, _stream_next
        stream.get_last_error, stream.release = _stream_error, _stream_release
        stream.private_data = scan
        return PyCapsule_New(stream, "arrow_array_stream", _free_stream)

    def first_of(self, int64_t stream):
        """The number of the first packet of that stream; 0 where there is none, or it found no room in the table."""
        cdef Scan *scan = <Scan *>calloc(1, sizeof(Scan))
        cdef Seen seen
        cdef Fields fields
        cdef int64_t found = 0
        cdef int status = 1
        if scan == NULL:
            raise MemoryError
        try:
            with nogil:
                while status == 1 and not found:
                    if scan.door == NULL or scan.most == 0 or not _advanced(scan.door, &seen):
                        status = _turned(self, scan)
                        continue
                    scan.most -= scan.most > 0
                    if _read(self, scan, &fields, &seen, -1) != 0:
                        status = -1
                        break
                    if flow_of(&scan.flows, &fields, scan.group) == stream:
                        found = scan.before + <int64_t>seen.number
            if status < 0:
                raise RuntimeError(scan.error.decode("utf-8", "replace"))
        finally:
            self._close(scan, False)
            free(scan.flows.places)
            free(scan)
        return found

    cdef int _open_next(self, Scan *scan) except -1:
        """Open the next source: 1, or 0 where there is none."""
        self._close(scan, True)
        if scan.next >= len(self.sources):
            self.unread, self.unnumbered = scan.unread, scan.flows.lost
            return 0
        source = self.sources[scan.next]
        file = source.open()
        capsule = file.door()
        Py_INCREF(file)
        Py_INCREF(capsule)
        scan.file, scan.capsule = <PyObject *>file, <PyObject *>capsule
        scan.door = <Door *>PyCapsule_GetPointer(capsule, DOOR)
        scan.before = source.before
        scan.most = -1 if source.packets is None else source.packets
        if scan.next == 0 or source.group != self.sources[scan.next - 1].group:
            scan.counts_time = source.start_ns is not None
            scan.start_ns = source.start_ns if scan.counts_time else 0
        scan.group, scan.name = source.group, self._text(source.name)
        scan.next += 1
        return 1

    cdef int _close(self, Scan *scan, bint at_end) except -1:
        """Close what is open, and note what is wrong with it."""
        if scan.file == NULL:
            return 0
        file, capsule = <object>scan.file, <object>scan.capsule
        scan.file = scan.capsule = NULL
        scan.door = NULL
        Py_DECREF(file)
        Py_DECREF(capsule)
        free(scan.points)
        scan.points, scan.known = NULL, 0
        source = self.sources[scan.next - 1]
        if at_end:
            file.close_door(capsule)
            self.lacking[scan.next - 1] = (file.scanned, "" if source.packets is not None else file.damage)
        return 0

    cdef int _meet(self, Scan *scan, uint32_t point) except -1:
        """Take up the names of interfaces up to that one."""
        cdef uint32_t room = point + 1
        cdef uint32_t each, direction
        cdef Text *more = <Text *>realloc(scan.points, room * 5 * sizeof(Text))
        if more == NULL:
            raise MemoryError
        scan.points = more
        file = <object>scan.file
        for each in range(scan.known, room):
            for direction in range(4):
                origin = file.seen_at(each, direction)
                scan.points[each * 5] = self._text(origin.name)
                scan.points[each * 5 + 1 + direction] = self._text(origin.direction)
        scan.known = room
        return 0

    cdef int _look(self, Scan *scan, Fields *of, const Seen *seen, int64_t row) except -1:
        """Read what a packet carries, or one of a link that is read here alone."""
        data = seen.record.data[:seen.record.captured]
        frame = headers.parse(data, seen.record.length, seen.link_type)
        last = headers.innermost(frame)
        if isinstance(frame.link, carriers.Station):
            of.source_mac, of.source_mac_size = scan.stations[0], _kept(scan.stations[0], frame.link.source)
            of.destination_mac, of.destination_mac_size = (
                scan.stations[1], _kept(scan.stations[1], frame.link.destination)
            )
        if last is frame and of.network >= 0:
            pass  # it looked as if
        elif last.ip is not None:
            read_inside(of, TYPE_IPV4 if last.ip.version == 4 else TYPE_IPV6, last.ip.offset, last.length)
        elif last.arp is not None:
            read_inside(of, TYPE_ARP, last.arp.offset, last.length)
        if row >= 0 and scan.columns[CARRIER].wanted and last.carriers:
            text = ", ".join(filter(None, last.carriers)).encode("utf-8", "replace")
            if not put_text(&scan.columns[CARRIER], row, <const char *>text, len(text)):
                raise MemoryError
        elif row >= 0 and scan.columns[CARRIER].wanted:
            put_null(&scan.columns[CARRIER], row)
        return 0

    cdef int _say(self, Scan *scan, int64_t row, const Seen *seen) except -1:
        """Put a packet's line into its column."""
        cdef Column *column = &scan.columns[INFO]
        data = seen.record.data[:seen.record.captured]
        text = lines.describe(data, seen.record.length, seen.link_type).info.encode("utf-8", "replace")
        if not put_text(column, row, <const char *>text, len(text)):
            raise MemoryError
        return 0


cdef int _fill(Packets table, Scan *scan, ArrowArray *to) noexcept nogil:
    """The next batch, or one without rows at the end; an error's number where that cannot be."""
    cdef Seen seen
    cdef Fields fields
    cdef int64_t row = 0
    cdef int status = 0
    cdef int number
    for number in range(COLUMNS):
        if not begin_column(&scan.columns[number]):
            return ENOMEM
    while row < ROWS:
        if scan.door == NULL or scan.most == 0 or not _advanced(scan.door, &seen):
            status = _turned(table, scan)
            if status < 0:
                return EIO
            if status == 0:
                break
            continue
        scan.most -= scan.most > 0
        if not scan.counts_time:
            scan.counts_time, scan.start_ns = True, seen.time_ns
        status = _read(table, scan, &fields, &seen, row)
        if status != 0:
            return status
        scan.unread += not fields.read
        status = _put(table, scan, row, &seen, &fields)
        if status != 0:
            return status
        row += 1
    if not row:
        return 0
    if not begin_rows(to, COLUMNS):
        return ENOMEM
    to.length = row
    for number in range(COLUMNS):
        if not end_column(&scan.columns[number], row, to.children[number]):
            return ENOMEM
    return 0


cdef inline int _read(Packets table, Scan *scan, Fields *to, const Seen *seen, int64_t row) noexcept nogil:
    """Read a packet's headers, the innermost ones; its carrier goes into that column, of a row from 0 on."""
    cdef bint odd
    read_fields(to, seen.record.data, seen.record.captured, seen.record.length, seen.link_type)
    odd = not to.read and 0 <= seen.link_type < PORTS and table.reads[seen.link_type]
    to.read = to.read or odd
    if table.looks_inside and (odd or _carries(table, to)):
        return 0 if _inside(table, scan, to, seen, row) == 0 else EIO
    if row >= 0 and scan.columns[CARRIER].wanted:
        put_null(&scan.columns[CARRIER], row)
    return 0


cdef inline bint _carries(Packets table, const Fields *of) noexcept nogil:
    """Whether there may be a packet in it, or between the link and IP something that is not read here."""
    if of.protocol < 0:
        return of.ether_type >= 0 and table.carries_as[of.ether_type]
    if of.protocol == IP_UDP:
        return of.source_port >= 0 and (table.carries_at[of.destination_port] or table.carries_at[of.source_port])
    return table.carries[of.protocol]


cdef int _inside(Packets table, Scan *scan, Fields *to, const Seen *seen, int64_t row) noexcept with gil:
    try:
        return table._look(scan, to, seen, row)
    except Exception as error:  # noqa: BLE001
        _note(scan, error)
        return -1


cdef int _kept(uint8_t *to, bytes address) except -1:
    """How many bytes of an address were kept."""
    cdef int size = min(len(address), STATION)
    memcpy(to, <const uint8_t *>address, size)
    return size


cdef inline bint _advanced(Door *door, Seen *seen) noexcept nogil:
    door.status = door.advance(door.savefile, seen)
    return door.status == 1


cdef int _turned(Packets table, Scan *scan) noexcept with gil:
    """Go on to the next file: 1, 0 where there is none, -1 where that fails, with the reason in `error`."""
    try:
        return table._open_next(scan)
    except Exception as error:  # noqa: BLE001 - C cannot be told of it in another way
        _note(scan, error)
        return -1


cdef void _note(Scan *scan, object error) noexcept:
    text = f"{type(error).__name__}: {error}".encode("utf-8", "replace")[:ERROR_TEXT - 1]
    memset(scan.error, 0, ERROR_TEXT)
    memcpy(scan.error, <const char *>text, len(text))


cdef int _learn(Packets table, Scan *scan, uint32_t point) noexcept with gil:
    try:
        return table._meet(scan, point)
    except Exception as error:  # noqa: BLE001
        _note(scan, error)
        return -1


cdef int _tell(Packets table, Scan *scan, int64_t row, const Seen *seen) noexcept with gil:
    try:
        return table._say(scan, row, seen)
    except Exception as error:  # noqa: BLE001
        _note(scan, error)
        return -1


cdef inline int _put(Packets table, Scan *scan, int64_t row, const Seen *seen, const Fields *of) noexcept nogil:
    """Fill a row; an error's number where that cannot be."""
    cdef Column *columns = scan.columns
    _put_number(columns, NUMBER, row, scan.before + <int64_t>seen.number)
    _put_number(columns, LENGTH, row, seen.record.length)
    _put_number(columns, CAPTURED, row, seen.record.captured)
    _put_number(columns, LINK_TYPE, row, seen.link_type)
    _put_number(columns, TIME_NS, row, seen.time_ns)
    _put_number(columns, VLAN, row, of.vlan)
    _put_number(columns, ETHER_TYPE, row, of.ether_type)
    _put_number(columns, ARP_OPERATION, row, of.arp)
    _put_number(columns, TTL, row, of.ttl)
    _put_number(columns, IP_ID, row, of.identification)
    _put_number(columns, IP_PROTOCOL, row, of.protocol)
    _put_number(columns, FRAGMENT, row, of.fragment)
    _put_number(columns, SOURCE_PORT, row, of.source_port)
    _put_number(columns, DESTINATION_PORT, row, of.destination_port)
    _put_number(columns, SEQ, row, of.sequence)
    _put_number(columns, ACK, row, of.acknowledgment if of.flags >= 0 and of.flags & 16 else -1)
    _put_number(columns, WIN, row, of.window)
    _put_number(columns, PAYLOAD, row, of.size)
    _put_number(columns, ICMP_TYPE, row, of.kind)
    _put_number(columns, ICMP_CODE, row, of.code)
    if columns[TIME].wanted:
        put_real(&columns[TIME], row, <double>(seen.time_ns - scan.start_ns) / 1e9)
    if columns[STREAM].wanted:
        put_number(&columns[STREAM], row, flow_of(&scan.flows, of, scan.group))
    if columns[IP_CHECKSUM_OK].wanted:
        put_number(&columns[IP_CHECKSUM_OK], row, header_sum(of))
    if columns[CHECKSUM_OK].wanted:
        put_number(&columns[CHECKSUM_OK], row, transport_sum(of))
    return _put_texts(table, scan, row, seen, of)


cdef inline int _put_texts(Packets table, Scan *scan, int64_t row, const Seen *seen, const Fields *of) noexcept nogil:
    cdef Column *columns = scan.columns
    cdef bint done = True
    if columns[FILE].wanted:
        done = done and _put_text(&columns[FILE], row, scan.name)
    if columns[PROTOCOL].wanted:
        done = done and _put_text(&columns[PROTOCOL], row, _protocol(table, of))
    if columns[FLAGS].wanted:
        done = done and _put_text(&columns[FLAGS], row, table.flags[of.flags] if of.flags >= 0 else _nothing())
    if columns[SOURCE_MAC].wanted:
        done = done and _put_mac(&columns[SOURCE_MAC], row, of.source_mac, of.source_mac_size)
    if columns[DESTINATION_MAC].wanted:
        done = done and _put_mac(&columns[DESTINATION_MAC], row, of.destination_mac, of.destination_mac_size)
    if columns[SOURCE].wanted:
        done = done and _put_address(&columns[SOURCE], row, of.source, of.version)
    if columns[DESTINATION].wanted:
        done = done and _put_address(&columns[DESTINATION], row, of.destination, of.version)
    if columns[OUTER_SOURCE].wanted:
        done = done and _put_address(&columns[OUTER_SOURCE], row, of.outer_source, of.outer_version)
    if columns[OUTER_DESTINATION].wanted:
        done = done and _put_address(&columns[OUTER_DESTINATION], row, of.outer_destination, of.outer_version)
    if columns[INTERFACE].wanted or columns[DIRECTION].wanted:
        done = done and _put_point(table, scan, row, seen)
    if columns[FRAME].wanted:
        done = done and put_text(&columns[FRAME], row, seen.record.data, seen.record.captured)
    if columns[INFO].wanted:
        if table.late:
            done = done and _put_place(&columns[INFO], row, scan.next - 1, seen.number)
        elif _tell(table, scan, row, seen) != 0:
            return EIO
    return 0 if done else ENOMEM


cdef inline bint _put_place(Column *column, int64_t row, int64_t source, uint64_t number) noexcept nogil:
    """Where to find a packet's line: line SOURCE NUMBER, behind a NUL."""
    cdef uint8_t *to = room_for(column, row, PLACE_TEXT)
    if to == NULL:
        return False
    to[0] = 0
    put_size(column, row, 1 + snprintf(
        <char *>to + 1, PLACE_TEXT - 1, b"line %lld %llu", <long long>source, <unsigned long long>number
    ))
    return True


cdef inline void _put_number(Column *columns, int number, int64_t row, int64_t value) noexcept nogil:
    if columns[number].wanted:
        put_number(&columns[number], row, value)


cdef inline Text _nothing() noexcept nogil:
    cdef Text text
    text.at, text.size = NULL, 0
    return text


cdef inline bint _put_text(Column *column, int64_t row, Text text) noexcept nogil:
    """An empty one stands for none."""
    if text.size == 0:
        put_null(column, row)
        return True
    return put_text(column, row, text.at, text.size)


cdef inline bint _put_point(Packets table, Scan *scan, int64_t row, const Seen *seen) noexcept nogil:
    cdef uint32_t point = seen.record.point
    cdef Text *names
    cdef bint done = True
    if point >= scan.known and _learn(table, scan, point) != 0:
        return False
    names = &scan.points[point * 5]
    if scan.columns[INTERFACE].wanted:
        done = _put_text(&scan.columns[INTERFACE], row, names[0])
    if scan.columns[DIRECTION].wanted:
        done = done and _put_text(&scan.columns[DIRECTION], row, names[1 + (seen.record.direction & 3)])
    return done


cdef inline Text _protocol(Packets table, const Fields *of) noexcept nogil:
    """What a line would call it, by its headers and ports; and what TCP's data begins with."""
    cdef Text text
    cdef uint8_t port = 0
    text.at, text.size = NULL, 0
    if of.protocol < 0:
        if of.arp >= 0 or of.ether_type == TYPE_ARP:
            text.at, text.size = b"ARP", 3
        return text
    if of.protocol == IP_UDP and of.source_port >= 0:
        port = table.by_port[of.destination_port]
        port = port if port else table.by_port[of.source_port]
        if port:
            return table.named[port]
    if of.protocol == IP_TCP and of.size > 0:
        text = _opening(of)
        if text.size:
            return text
    return table.by_ip[of.protocol]


cdef inline Text _opening(const Fields *of) noexcept nogil:
    """The protocol of a segment that begins as messages of it do."""
    cdef const uint8_t *at = of.data + of.payload
    cdef int64_t size = min(of.captured, of.end) - of.payload
    cdef Text text
    text.at, text.size = NULL, 0
    if size < 4:
        return text
    if 0x14 <= at[0] <= 0x17 and at[1] == 3 and at[2] <= 4 and size >= 5:
        text.at, text.size = b"TLS", 3
    elif memcmp(at, b"SSH-", 4) == 0:
        text.at, text.size = b"SSH", 3
    elif memcmp(at, b"HTTP", 4) == 0 or memcmp(at, b"GET ", 4) == 0 or memcmp(at, b"PUT ", 4) == 0 or (
        size >= 5 and (memcmp(at, b"POST ", 5) == 0 or memcmp(at, b"HEAD ", 5) == 0)
    ) or (size >= 8 and (memcmp(at, b"DELETE /", 8) == 0 or memcmp(at, b"OPTIONS ", 8) == 0)):
        text.at, text.size = b"HTTP", 4
    elif (of.source_port == 53 or of.destination_port == 53) and size >= 14:
        text.at, text.size = b"DNS", 3
    return text


cdef inline bint _put_mac(Column *column, int64_t row, const uint8_t *mac, int32_t size) noexcept nogil:
    cdef const char *digits = b"0123456789abcdef"
    cdef uint8_t *to
    cdef int each
    if mac == NULL or size == 0:
        put_null(column, row)
        return True
    to = room_for(column, row, size * 3)
    if to == NULL:
        return False
    for each in range(size):
        to[each * 3], to[each * 3 + 1], to[each * 3 + 2] = digits[mac[each] >> 4], digits[mac[each] & 15], c":"
    put_size(column, row, size * 3 - 1)
    return True


cdef inline bint _put_address(Column *column, int64_t row, const uint8_t *address, int version) noexcept nogil:
    cdef uint8_t *to
    cdef char text[ADDRESS_TEXT]
    cdef int size = 0
    cdef int each
    if address == NULL:
        put_null(column, row)
        return True
    to = room_for(column, row, ADDRESS_TEXT)
    if to == NULL:
        return False
    if version == 6:
        inet_ntop(AF_INET6, address, <char *>to, ADDRESS_TEXT)
        while to[size]:
            size += 1
    else:
        for each in range(4):
            size = _put_byte(to, size, address[each])
            if each < 3:
                to[size] = c"."
                size += 1
    put_size(column, row, size)
    return True


cdef inline int _put_byte(uint8_t *to, int at, uint8_t value) noexcept nogil:
    if value >= 100:
        to[at] = c"0" + value // 100
        at += 1
    if value >= 10:
        to[at] = c"0" + value // 10 % 10
        at += 1
    to[at] = c"0" + value % 10
    return at + 1


# ----------------------------------------------------------------- Arrow's stream


cdef int _stream_schema(ArrowArrayStream *stream, ArrowSchema *to) noexcept with gil:
    return _describe(to)


cdef int _stream_next(ArrowArrayStream *stream, ArrowArray *to) noexcept nogil:
    """An array without a release is the end."""
    cdef Scan *scan = <Scan *>stream.private_data
    cdef int status, number
    memset(to, 0, sizeof(ArrowArray))
    status = scan.fill(scan.table, scan, to)
    for number in range(COLUMNS):
        drop_column(&scan.columns[number])
    if status != 0 and to.release != NULL:
        release_rows(to)
    return status


cdef const char *_stream_error(ArrowArrayStream *stream) noexcept nogil:
    return (<Scan *>stream.private_data).error


cdef void _stream_release(ArrowArrayStream *stream) noexcept with gil:
    cdef Scan *scan = <Scan *>stream.private_data
    table = <Packets>scan.table
    table._close(scan, False)
    free(scan.flows.places)
    free(scan)
    Py_DECREF(table)
    stream.release = NULL


cdef void _free_stream(object capsule) noexcept:
    cdef ArrowArrayStream *stream = <ArrowArrayStream *>PyCapsule_GetPointer(capsule, "arrow_array_stream")
    if stream.release != NULL:
        stream.release(stream)
    free(stream)


cdef int _describe(ArrowSchema *to) noexcept with gil:
    """The columns' names and formats; an error's number for want of memory."""
    cdef ArrowSchema *child
    cdef int64_t number
    memset(to, 0, sizeof(ArrowSchema))
    to.format, to.name, to.release = "+s", "", _release_schema
    to.children = <ArrowSchema **>calloc(COLUMNS, sizeof(ArrowSchema *))
    if to.children == NULL:
        return ENOMEM
    to.n_children = COLUMNS
    for number, (name, letter) in enumerate(_NAMES):
        child = to.children[number] = <ArrowSchema *>calloc(1, sizeof(ArrowSchema))
        if child == NULL:
            _release_schema(to)
            return ENOMEM
        child.format, child.name, child.flags = <const char *>letter, <const char *>name, NULLABLE
        child.release = _release_child
    return 0


_NAMES = [(name.encode(), letter.encode()) for name, letter in FORMATS.items()]  # kept: pointers are into them


cdef void _release_child(ArrowSchema *schema) noexcept nogil:
    schema.release = NULL


cdef void _release_schema(ArrowSchema *schema) noexcept nogil:
    cdef int64_t each
    for each in range(schema.n_children):
        free(schema.children[each])
    free(schema.children)
    schema.release = NULL


cdef void _free_schema(object capsule) noexcept:
    cdef ArrowSchema *schema = <ArrowSchema *>PyCapsule_GetPointer(capsule, "arrow_schema")
    if schema.release != NULL:
        schema.release(schema)
    free(schema)
