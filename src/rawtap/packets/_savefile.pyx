# cython: language_level=3, boundscheck=False, wraparound=False
"""Selecting packets from a capture file in C, without the GIL.

Theory of operation
-------------------
One `Savefile` belongs to one thread and one call: open, filter, scan, close. libpcap opens the file, whatever its
format, says what is in it and compiles the filter for it.

*Plain files* are nearly all: pcap, version 2.4, of either precision and byte order, and pcapng. Their packets are read here,
from a buffer that pread(2) fills: libpcap makes two stdio calls for each packet, which cost more than most filters. mmap(2)
would be no faster, and a file that somebody cuts short would kill the process (SIGBUS).

*pcapng* is read here whatever is in it: many sections, of either byte order, and many interfaces, each with a link type, a
snaplen and a clock of its own, which libpcap refuses. The filter is compiled for each link type when its first interface is
met, and selects nothing where it does not fit. A scan that goes on in the middle (`seek`) knows the interfaces that are
described before the first packet.

*Compressed files* are read the same way, from an `Unpacked` (see unpack) in place of the descriptor: the buffer is filled
from it, and libpcap has it as a stream. Going back costs unpacking from the start.

*Whatever is odd* in a pcap file is libpcap's. At a record that is cut off, that is longer than the file's snaplen or than any
can be, libpcap takes over at the record's first byte and reads on to the end. So what is a packet, what is damage and what
the damage is called is decided in one place. Other formats, and link types whose packets libpcap changes, are libpcap's from
the start.

*Copies* are pcap files in this machine's byte order with the precision of what they were copied from: what
`tcpdump -r FILE -w COPY FILTER` writes. pcapng becomes pcap with nanoseconds.

*Tags.* A frame with a VLAN tag in a file that the kernel filtered is compared as the kernel did it (see tags): without
its tag. In any other file the filter means what it means to tcpdump, and the tagged frames that it would select without
their tag are counted.

Sources: pcap(3PCAP), pcap_open_offline(3PCAP), pcap-savefile(5), libpcap's sf-pcap.c and sf-pcapng.c,
draft-ietf-opsawg-pcapng.
"""

import os

cimport cython
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_New
from libc.errno cimport EINTR, errno
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdio cimport FILE as STDFILE
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memmove
from pylibpcap.base cimport BasePcap
from pylibpcap.pcap cimport (
    bpf_program,
    pcap_close,
    pcap_datalink,
    pcap_freecode,
    pcap_geterr,
    pcap_open_dead,
    pcap_pkthdr,
    pcap_snapshot,
    pcap_t,
    u_char,
    u_int,
)
from rawtap._bpf cimport compile_filter
from rawtap._words cimport word
from rawtap.packets._blocks cimport (
    BLOCK_CUT,
    BLOCK_ENDS,
    BLOCK_HEADER,
    BLOCK_LENGTH,
    BLOCK_TRAILER,
    FILTER_UNKNOWN,
    INTERFACE_CLOCK,
    INTERFACE_DESCRIPTION,
    INTERFACE_UNKNOWN,
    INTERFACES_MANY,
    NO_FAULT,
    NOT_REACHED,
    PACKET_LENGTH,
    SECTION_HEADER,
    SECTION_ORDER,
    SECTION_VERSION,
    Fault,
    Point,
    Record,
    is_packet,
    read_packet,
)
from rawtap.packets._door cimport DOOR, Advance, Door, Seen

from rawtap._bpf import BoundPassed, FilterRefused
from rawtap.packets import tags
from rawtap.packets.origin import DIRECTIONS, Interface, Origin


cdef extern from "pcap/pcap.h" nogil:
    struct bpf_insn:
        pass
    # python-libpcap declares this one without its length.
    struct program_view "bpf_program":
        bpf_insn *bf_insns
    ctypedef struct pcap_dumper_t:
        pass
    u_int PCAP_TSTAMP_PRECISION_MICRO
    u_int PCAP_TSTAMP_PRECISION_NANO
    int PCAP_ERROR_BREAK
    pcap_t *pcap_fopen_offline_with_tstamp_precision(STDFILE *, u_int, char *)
    STDFILE *pcap_file_nogil "pcap_file"(pcap_t *)
    int pcap_next_ex(pcap_t *, pcap_pkthdr **, const u_char **)
    u_int bpf_filter(const bpf_insn *, const u_char *, u_int, u_int)
    pcap_dumper_t *pcap_dump_fopen(pcap_t *, STDFILE *)
    void pcap_dump_close(pcap_dumper_t *)


cdef extern from "<stdio.h>" nogil:
    int fseeko(STDFILE *, int64_t, int)
    int64_t ftello(STDFILE *)
    int SEEK_SET
    int SEEK_CUR
    STDFILE *fdopen(int, const char *)
    int fclose(STDFILE *)
    STDFILE *open_memstream(char **, size_t *)


cdef extern from *:
    """
    static FILE *open_unpacked(void *cookie, ssize_t (*read)(void *, char *, size_t), int (*seek)(void *, off64_t *, int))
    {
        cookie_io_functions_t functions = {.read = read, .seek = seek};
        return fopencookie(cookie, "rb", functions);
    }
    """
    ctypedef long long off64_t
    STDFILE *open_unpacked(
        void *, ssize_t (*)(void *, char *, size_t) noexcept, int (*)(void *, off64_t *, int) noexcept
    )


cdef extern from "<unistd.h>" nogil:
    ssize_t pread(int, void *, size_t, int64_t)
    ssize_t c_write "write"(int, const void *, size_t)


cdef extern from "<endian.h>" nogil:
    """
    #define IS_LITTLE_ENDIAN (__BYTE_ORDER == __LITTLE_ENDIAN)
    """
    bint IS_LITTLE_ENDIAN


cdef extern from "<byteswap.h>" nogil:
    uint32_t bswap_32(uint32_t)


cdef enum:
    FILE_HEADER = 24            # pcap-savefile(5)
    RECORD_HEADER = 16          # seconds, fraction, captured length, original length
    READ_BYTES = 512 << 10      # two of the longest records, and it stays in the processor's cache
    WRITE_BYTES = 64 << 10      # larger writes ask the kernel for blocks of memory that it often has not at hand
    LONGEST_PACKET = 262144     # libpcap's MAXIMUM_SNAPLEN, pcap-int.h; some link types may have more
    LONGEST_BLOCK = 16 << 20    # libpcap's bound as well; one that is no packet is passed over
    MOST_POINTS = 65536         # interfaces of a file
    MOST_COMPARISONS = 64       # link types of a file
    SECTION = 28                # bytes of a section's header block, without options
    INTERFACE_BYTES = 20        # of an interface's

    DAMAGED = -64               # no status of pcap_next_ex

    ETHERNET = 1                # DLT_EN10MB
    USB_MMAPPED = 220           # DLT_USB_LINUX_MMAPPED, whose lengths libpcap mends
    TAG_AT = 12                 # behind the addresses
    TAG = 4
    TAGGED_FRAME = 18           # with its EtherType
    ANY_VLAN = 0x1000

    MICROSECONDS = 0xA1B2C3D4   # the magic numbers, in the order of the machine that wrote the file
    NANOSECONDS = 0xA1B23C4D
    BYTE_ORDER_MAGIC = 0x1A2B3C4D

cdef enum Format:
    ODD                         # read by libpcap
    PCAP
    PCAPNG

# Link types whose packets libpcap hands out as they are. Others have headers with numbers in the byte order of the
# machine that wrote the file, or lengths to be mended (pcap-common.c). DLT_NULL, EN10MB, PPP, RAW, IEEE802_11, and
# that with radiotap.
_AS_THEY_ARE = frozenset({0, 1, 9, 12, 105, 127})  # in any byte order
_FAULTS = {
    BLOCK_CUT: "a block is cut off",
    BLOCK_LENGTH: "a block has a length that it cannot have",
    BLOCK_ENDS: "a block has another length at its end than at its beginning",
    SECTION_ORDER: "a section is in no byte order",
    SECTION_VERSION: "a section is of another version of the format",
    INTERFACE_UNKNOWN: "a packet is of an interface that is not described before it",
    INTERFACE_CLOCK: "an interface has a clock that no time can be read by",
    INTERFACES_MANY: "there are more interfaces, or link types, than are read",
    FILTER_UNKNOWN: "this filter could not be compiled for the link type of an interface",
    PACKET_LENGTH: "a packet is longer than its block or its interface's snaplen",
    NOT_REACHED: "the file cannot be read from there",
}


class SavefileError(Exception):
    """libpcap could not read the file or compile the filter; the text is libpcap's."""


class FilterError(SavefileError):
    """The filter is not one."""


cdef class Program:
    """A compiled filter."""

    cdef bpf_program program
    cdef const bpf_insn *instructions

    cdef int compile(self, pcap_t *handle, str expression, bint optimize) except -1:
        try:
            compile_filter(handle, expression, optimize, &self.program)
        except FilterRefused as error:
            raise FilterError(str(error)) from error
        self.instructions = (<program_view *>&self.program).bf_insns
        return 0

    def __dealloc__(self):
        if self.instructions != NULL:
            pcap_freecode(&self.program)


cdef struct Comparison:         # with the filter, by packets of one link type
    int link_type
    bint tags                   # tagged frames are to be looked at without their tag
    const bpf_insn *program
    const bpf_insn *there       # for tagged frames without their tag: it is the one that is asked for
    const bpf_insn *not_there   # or another one


cdef struct Output:
    int fd
    u_char *buffer
    size_t used
    uint64_t written            # bytes that the file holds
    int error


@cython.final
@cython.no_gc_clear             # closing libpcap's stream may ask `unpacked` once more
cdef class Savefile(BasePcap):
    """A capture file opened for one scan."""

    cdef str expression
    cdef list programs          # that the comparisons are with
    cdef Comparison[MOST_COMPARISONS] comparisons
    cdef uint32_t compared      # link types
    cdef uint32_t vlan          # that is asked for, or ANY_VLAN
    cdef bint live              # the kernel has compared the file's frames with a filter
    cdef Point *points          # of the pcapng section that is read
    cdef uint32_t known         # how many there are
    cdef uint32_t described     # in the file so far
    cdef list interfaces        # of the file, as `Interface`
    cdef dict origins           # that were handed out
    cdef Fault fault            # in a pcapng file
    cdef object refusal         # of the filter, for the link type of an interface: an exception
    cdef Format format
    cdef Format plain           # what the file is read as until something odd comes
    cdef bint pcapng
    cdef bint odd               # something odd came: a packet that libpcap read, an interface behind the first packets
    cdef bint begun             # the first packet of a pcapng file was reached
    cdef bint swapped
    cdef int fd
    cdef object unpacked        # what is read in place of it
    cdef uint32_t longest       # packet that is read here
    cdef int64_t unit_ns        # of a record's fraction
    cdef u_char *buffer
    cdef size_t at              # of the next record in it
    cdef size_t have
    cdef int64_t buffer_offset  # of the buffer in the file
    cdef readonly int link_type
    cdef readonly uint64_t scanned
    cdef readonly uint64_t matched
    cdef readonly uint64_t tagged       # that did not match, and would have without their tag
    cdef readonly int64_t first_ns      # the file's first packet
    cdef readonly int64_t offset        # after the last whole record that `take` read
    cdef readonly int64_t before        # the last match begins there, or behind what libpcap skips
    cdef readonly str damage

    def __init__(self, int fd, str expression, *, bint live=False, unpacked=None):
        """Read `fd` (any format libpcap reads; it is this object's from now on) and compile `expression` for it.

        `unpacked`, of a compressed file, is read in its place. `live`: it has frames that the kernel filtered, and a filter
        means now what it would have meant then.

        Raises:
            SavefileError: Not a capture file.
            FilterError: With libpcap's text, or the bound that compiling passed.
            OSError: libpcap's compiler cannot be run.
        """
        cdef uint32_t head[6]
        self.fd, self.unpacked = fd, unpacked
        cdef bint whole = self._read_at(head, sizeof(head), 0) == sizeof(head)
        cdef bint micro = whole and (head[0] == MICROSECONDS or bswap_32(head[0]) == MICROSECONDS)
        self.damage = ""
        self.expression, self.live = expression, live
        self.programs, self.interfaces, self.origins = [], [], {}
        self.pcapng = whole and head[0] == SECTION_HEADER
        self.unit_ns = 1000 if micro else 1
        self._open(fd, PCAP_TSTAMP_PRECISION_MICRO if micro else PCAP_TSTAMP_PRECISION_NANO)
        self.link_type = pcap_datalink(self.handler)
        self._compare(self.link_type, self.handler)
        self.offset = ftello(pcap_file_nogil(self.handler))
        if whole and (self.link_type in _AS_THEY_ARE or (head[2] == BYTE_ORDER_MAGIC and self.link_type != USB_MMAPPED)):
            self._choose_format(head)

    def __dealloc__(self):
        free(self.buffer)
        free(self.points)
        if self.handler != NULL:
            pcap_close(self.handler)
            self.handler = NULL

    cdef int _open(self, int fd, u_int precision) except -1:
        cdef STDFILE *file
        if self.unpacked is None:
            file = fdopen(fd, "rb")
        else:
            self.unpacked.place = 0
            file = open_unpacked(<void *>self.unpacked, _read_unpacked, _seek_unpacked)
        if file == NULL:
            raise MemoryError
        with nogil:
            self.handler = pcap_fopen_offline_with_tstamp_precision(file, precision, self.errbuf)
        if self.handler == NULL:
            fclose(file)
            raise SavefileError((<char *>self.errbuf).decode(errors="replace"))
        return 0

    cdef int _compare(self, int link_type, pcap_t *handle) except -1:
        """The number of the comparison for packets of a link type; the filter is compiled for the first of them."""
        cdef uint32_t number
        cdef pcap_t *dead
        for number in range(self.compared):
            if self.comparisons[number].link_type == link_type:
                return number
        if self.compared == MOST_COMPARISONS:
            self.fault = INTERFACES_MANY
            return 0
        if handle != NULL:
            self._compile(&self.comparisons[self.compared], link_type, handle)
        else:
            # What takes every packet does so whatever their link type, and libpcap does not compile for any that there is.
            dead = pcap_open_dead(link_type if self.expression else ETHERNET, LONGEST_PACKET)
            if dead == NULL:
                raise MemoryError
            try:
                self._compile(&self.comparisons[self.compared], link_type, dead)
            except FilterError as error:
                if isinstance(error.__cause__, BoundPassed):
                    raise
                # It is right for the file's first link type: of this one it selects nothing.
                self._select_nothing(&self.comparisons[self.compared], link_type)
            finally:
                pcap_close(dead)
        self.compared += 1
        return self.compared - 1

    cdef int _compile(self, Comparison *comparison, int link_type, pcap_t *handle) except -1:
        cdef bint asks = tags.has_vlan(self.expression)
        cdef Program program = Program(), there = program, not_there = program
        # The optimizer refuses what is true for no frame of a file, like `arp and vlan`.
        program.compile(handle, self.expression, not (self.live and asks))
        self.vlan = ANY_VLAN
        comparison.link_type = link_type
        comparison.tags = link_type == ETHERNET and self.expression != "" and (self.live or not asks)
        if comparison.tags and asks:
            as_live = tags.as_live(self.expression)
            self.vlan = ANY_VLAN if as_live.vlan is None else as_live.vlan
            there, not_there = Program(), Program()
            there.compile(handle, as_live.there, False)
            not_there.compile(handle, as_live.not_there, False)
        self.programs += [program, there, not_there]
        comparison.program = program.instructions
        comparison.there, comparison.not_there = there.instructions, not_there.instructions
        return 0

    cdef int _select_nothing(self, Comparison *comparison, int link_type) except -1:
        cdef Program program = Program()
        cdef pcap_t *any_type = pcap_open_dead(ETHERNET, LONGEST_PACKET)
        if any_type == NULL:
            raise MemoryError
        try:
            program.compile(any_type, "less 0", False)
        finally:
            pcap_close(any_type)
        self.programs.append(program)
        comparison.link_type, comparison.tags = link_type, False
        comparison.program = program.instructions
        return 0

    cdef int _choose_format(self, const word *head) except -1:
        """Read the packets here if the file is one that can be; `head` is its first 24 bytes."""
        self.swapped = head[0] != MICROSECONDS and head[0] != NANOSECONDS
        self.format = PCAPNG if self.pcapng else PCAP if self._is_pcap(head) else ODD
        self.plain = self.format
        if self.format == ODD:
            return 0
        self.buffer = <u_char *>malloc(READ_BYTES)
        if self.buffer == NULL:
            raise MemoryError
        self.longest = min(<uint32_t>max(pcap_snapshot(self.handler), 0), LONGEST_PACKET)
        self.buffer_offset = self.offset
        if self.pcapng:
            self.buffer_offset = 0
            with nogil:
                self._read_head()
            if self.refusal is not None:
                raise self.refusal
            self.offset = self._place()
        return 0

    cdef bint _is_pcap(self, const word *head):
        """Whether the file is pcap as everybody writes it, and not one of its variants; version 2.4."""
        cdef uint32_t magic = bswap_32(head[0]) if self.swapped else head[0]
        cdef uint32_t version = bswap_32(head[1]) if self.swapped else head[1]
        if magic != MICROSECONDS and magic != NANOSECONDS:
            return False
        # Two numbers of 16 bits, each in the file's byte order.
        return version == (0x00020004 if self.swapped == IS_LITTLE_ENDIAN else 0x00040002)

    @property
    def points(self):
        """The interfaces that a pcapng file has described so far, as `Origin` of no direction."""
        return tuple(
            Origin(each.link_type, number, each.name, each.about) for number, each in enumerate(self.interfaces)
        )

    @property
    def seekable(self):
        """Whether a later scan may go on by `seek` where this one is.

        A pcapng file says what its interfaces are wherever it likes: what was skipped would be missing, unless nothing
        was described behind its first packets.
        """
        return not self.pcapng or (self.plain == PCAPNG and not self.odd)

    def seek(self, int64_t offset, int64_t first_ns, uint64_t scanned, uint64_t matched, uint64_t tagged):
        """Go on at a place that an earlier scan of the same file reached, `seekable`, with what held there."""
        if fseeko(pcap_file_nogil(self.handler), offset, SEEK_SET) != 0:
            raise SavefileError("cannot seek in the file")
        self.buffer_offset = offset
        self.at = self.have = 0
        self.offset = offset
        self.first_ns = first_ns
        self.scanned = scanned
        self.matched = matched
        self.tagged = tagged

    def go_on(self):
        """Read on behind the last whole record that `take` read, where a file has grown that ended there."""
        if self.format == PCAPNG:  # what was read is no packet's alone: an interface is not to be met again
            self.buffer_offset += self.at
        else:
            fseeko(pcap_file_nogil(self.handler), self.offset, SEEK_SET)
            self.format = self.plain
            self.buffer_offset = self.offset
        self.at = self.have = 0
        self.fault = NO_FAULT
        self.damage = ""

    def skip(self, uint64_t count):
        """Read over the first `count` packets of the file, counting matches: the slow `seek`, for any format."""
        cdef Record record
        with nogil:
            while self.scanned < count and self._next(&record) == 1:
                self._matches(&record)

    def take(self, Py_ssize_t limit):
        """Read on until `limit` matches are found or the file ends.

        Returns tuples (number in the file from 1, nanoseconds since 1970, captured length, original length, bytes,
        `Origin`).
        A damaged record ends the scan and is told in `damage`: what follows it is no packet, though libpcap would read
        on there.
        """
        cdef list found = []
        if self.damage:
            return found
        cdef Record record
        cdef int status = 1
        while len(found) < limit and status == 1:
            with nogil:
                status = self._to_match(&record)
            if status == 1:
                found.append(
                    (self.scanned, self._nanoseconds(&record), record.captured, record.length,
                     record.data[:record.captured], self._origin(&record))
                )
        self._note_damage(status)
        return found

    def door(self):
        """A capsule with the `Door` by which C reads on, as `take` does; it is good while this object is."""
        cdef Door *door = <Door *>malloc(sizeof(Door))
        if door == NULL:
            raise MemoryError
        door.savefile, door.advance, door.status = <void *>self, <Advance><void *>_advance, 1
        return PyCapsule_New(door, DOOR, _free_door)

    def close_door(self, capsule):
        """Note in `damage` why C could not read on."""
        self._note_damage((<Door *>PyCapsule_GetPointer(capsule, DOOR)).status)

    def seen_at(self, uint32_t point, uint32_t direction):
        """The `Origin` of packets of that interface's number, in the direction of those two bits."""
        cdef Record record
        record.point, record.direction = point, direction
        return self._origin(&record)

    def count_rest(self):
        """Read to the file's end, counting; `offset` stays where it was."""
        cdef Record record
        cdef int status = 1
        with nogil:
            while status == 1:
                status = self._next(&record)
                if status == 1:
                    self._matches(&record)
        self._note_damage(status)

    def survey(self, uint64_t every):
        """Read to the file's end, counting, with `offset` behind the last whole record.

        Returns the `seekable` places behind each packet whose number is a multiple of `every`: (offset, scanned,
        matched, tagged).
        """
        cdef list places = []
        cdef Record record
        cdef int status = 1
        while status == 1:
            with nogil:
                while True:
                    status = self._next(&record)
                    if status != 1:
                        break
                    self.offset = self._place()
                    self._matches(&record)
                    if self.scanned % every == 0:
                        break
            if status == 1 and self.seekable:
                places.append((self.offset, self.scanned, self.matched, self.tagged))
        self._note_damage(status)
        return places

    def copy_rest(self, int fd):
        """Write a pcap file of the packets from here on that pass the filter to `fd`; its size in bytes.

        Raises:
            OSError: It cannot be written; it may hold a part.
            SavefileError: A pcap file cannot be of this link type, or of several.
        """
        cdef Output output
        cdef Record record
        cdef int status = 1
        cdef bint mixed = False
        cdef bytes header = self._header()
        output.fd = fd
        output.used = len(header)
        output.written = 0
        output.error = 0
        output.buffer = <u_char *>malloc(WRITE_BYTES)
        if output.buffer == NULL:
            raise MemoryError
        memcpy(output.buffer, <const char *>header, len(header))
        with nogil:
            while status == 1 and output.error == 0:
                status = self._next(&record)
                if status == 1 and self._matches(&record):
                    mixed = record.comparison != 0
                    if mixed:
                        break
                    _append(&output, &record)
            _flush(&output)
            free(output.buffer)
        if mixed:
            types = ", ".join(str(self.comparisons[number].link_type) for number in range(self.compared))
            raise SavefileError(f"a pcap file is of one link type, and these packets are of several: {types}")
        if output.error != 0:
            raise OSError(output.error, os.strerror(output.error))
        self._note_damage(status)
        return output.written

    cdef bytes _header(self):
        """The file header that libpcap itself would write for this file's packets."""
        cdef char *memory = NULL
        cdef size_t size = 0
        cdef STDFILE *stream = open_memstream(&memory, &size)
        cdef pcap_dumper_t *dumper
        if stream == NULL:
            raise MemoryError
        dumper = pcap_dump_fopen(self.handler, stream)
        if dumper == NULL:
            fclose(stream)
            free(memory)
            raise SavefileError(pcap_geterr(self.handler).decode(errors="replace"))
        pcap_dump_close(dumper)
        try:
            return memory[:size]
        finally:
            free(memory)

    cdef int64_t _nanoseconds(self, const Record *record) noexcept nogil:
        """Since 1970; good until 2106, like the format."""
        return record.seconds * <int64_t>1_000_000_000 + record.fraction * self.unit_ns

    cdef object _origin(self, const Record *record):
        """Where a packet was seen; one object for all that were seen there."""
        key = record.point << 2 | record.direction
        found = self.origins.get(key)
        if found is None:
            found = Origin(self.link_type)
            if record.point < len(self.interfaces):
                described = self.interfaces[record.point]
                direction = DIRECTIONS[record.direction]
                found = Origin(described.link_type, record.point, described.name, described.about, direction)
            self.origins[key] = found
        return found

    cdef int _note_damage(self, int status) except -1:
        if status == DAMAGED:
            self.damage = f"byte {self._place()}: {_FAULTS[self.fault]}"
        elif status not in (1, 0, PCAP_ERROR_BREAK):
            self.damage = pcap_geterr(self.handler).decode(errors="replace")
        if status != 1 and self.unpacked is not None and self.unpacked.fault:  # which is why the rest is
            self.damage = self.unpacked.fault
        return 0

    cdef int _to_match(self, Record *record) noexcept nogil:
        """Read to the next match, keeping `offset` after the last whole record; what `_next` returned."""
        cdef int status
        while True:
            status = self._next(record)
            if status != 1:
                return status
            self.before, self.offset = self.offset, self._place()
            if self._matches(record):
                return 1

    cdef inline int64_t _place(self) noexcept nogil:
        return self.buffer_offset + self.at if self.format != ODD else ftello(pcap_file_nogil(self.handler))

    cdef inline bint _matches(self, const Record *record) noexcept nogil:
        """Count a record, and whether it passes the filter."""
        cdef const Comparison *comparison = &self.comparisons[record.comparison]
        cdef bint passes
        if self.scanned == 0:
            self.first_ns = self._nanoseconds(record)
        self.scanned += 1
        if comparison.tags and _is_tagged(record):
            passes = self._passes_tagged(record)
        else:
            passes = bpf_filter(comparison.program, record.data, record.length, record.captured) != 0
        self.matched += passes
        return passes

    cdef bint _passes_tagged(self, const Record *record) noexcept nogil:
        """Whether a tagged frame passes; if not, whether it would without its tag is counted."""
        if self.live:
            return self._passes_without_tag(record)
        if bpf_filter(
            self.comparisons[record.comparison].program, record.data, record.length, record.captured
        ) != 0:
            return True
        self.tagged += self._passes_without_tag(record)
        return False

    cdef bint _passes_without_tag(self, const Record *record) noexcept nogil:
        """The frame is made one without its tag where it is, and then made good: a copy would cost more."""
        cdef u_char *frame = <u_char *>record.data
        cdef u_char head[TAG_AT + TAG]
        cdef uint32_t vlan = (frame[TAG_AT + 2] & 0x0F) << 8 | frame[TAG_AT + 3]
        cdef const bpf_insn *program = self.comparisons[record.comparison].there
        cdef bint passes
        if self.vlan != ANY_VLAN and self.vlan != vlan:
            program = self.comparisons[record.comparison].not_there
        memcpy(head, frame, sizeof(head))
        memcpy(frame + TAG, head, TAG_AT)
        passes = bpf_filter(program, frame + TAG, max(record.length, TAG) - TAG, record.captured - TAG) != 0
        memcpy(frame, head, sizeof(head))
        return passes

    cdef inline int _next(self, Record *record) noexcept nogil:
        """The next packet: 1, or what else pcap_next_ex returns (PCAP_ERROR_BREAK at the end)."""
        if self.format == PCAP and self._next_record(record):
            return 1
        if self.format == PCAPNG:
            return self._next_block(record)
        if self.format != ODD:
            if fseeko(pcap_file_nogil(self.handler), self.buffer_offset + self.at, SEEK_SET) != 0:
                self.fault = NOT_REACHED
                return DAMAGED
            self.format = ODD
        return self._next_by_libpcap(record)

    cdef inline bint _next_record(self, Record *record) noexcept nogil:
        """Whether a pcap file goes on with a whole record that is not odd; its data is good until the next call."""
        cdef const word *header
        if not self._has(RECORD_HEADER):
            return False
        header = <const word *>(self.buffer + self.at)
        record.captured = self._number(header[2])
        if record.captured > self.longest or not self._has(RECORD_HEADER + record.captured):
            return False
        header = <const word *>(self.buffer + self.at)
        record.seconds = self._number(header[0])
        record.fraction = self._number(header[1])
        record.length = self._number(header[3])
        record.data = self.buffer + self.at + RECORD_HEADER
        record.point = record.comparison = record.direction = 0
        self.at += RECORD_HEADER + record.captured
        return True

    cdef inline int _next_block(self, Record *record) noexcept nogil:
        """A pcapng file's next packet: 1, PCAP_ERROR_BREAK at the end, or DAMAGED; its data is good until the next call."""
        cdef uint32_t kind = 0
        cdef uint32_t size = 0
        cdef int status
        while True:
            status = self._next_kind(&kind, &size)
            if status != 1:
                return status
            if is_packet(kind):
                self.fault = read_packet(
                    self.buffer + self.at, kind, size, self.swapped, self.points, self.known, record
                )
                if self.fault != NO_FAULT:
                    return DAMAGED
                record.point += <uint32_t>(self.described - self.known)
                self.at += size
                return 1
            if not self._pass(kind, size):
                return DAMAGED

    cdef void _read_head(self) noexcept nogil:
        """Read what is before the first packet; what is wrong with it is found when that is asked for."""
        cdef uint32_t kind = 0
        cdef uint32_t size = 0
        while self._next_kind(&kind, &size) == 1 and not is_packet(kind):
            if (kind == SECTION_HEADER and self.known) or not self._pass(kind, size):
                break
        self.fault = NO_FAULT
        self.begun = True

    cdef inline int _next_kind(self, uint32_t *kind, uint32_t *size) noexcept nogil:
        """The next block, which is in the buffer as a whole if it is one that is looked into: 1, or as `_next_block`."""
        cdef const word *block
        cdef uint32_t longest = READ_BYTES
        if not self._has(BLOCK_HEADER):
            return self._end()
        block = <const word *>(self.buffer + self.at)
        if block[0] == SECTION_HEADER and not self._turn():
            return DAMAGED if self.fault != NO_FAULT else self._end()
        block = <const word *>(self.buffer + self.at)
        kind[0], size[0] = self._number(block[0]), self._number(block[1])
        if not (is_packet(kind[0]) or kind[0] == INTERFACE_DESCRIPTION):
            longest = LONGEST_BLOCK
        if size[0] < BLOCK_HEADER + BLOCK_TRAILER or size[0] % 4 != 0 or size[0] > longest:
            self.fault = BLOCK_LENGTH
            return DAMAGED
        if size[0] > READ_BYTES:
            return self._next_long(size[0])
        if not self._has(size[0]):
            return self._end()
        block = <const word *>(self.buffer + self.at)
        if self._number(block[size[0] // 4 - 1]) == size[0] or self._place() == 0:  # libpcap takes that one as it is
            return 1
        self.fault = BLOCK_ENDS
        return DAMAGED

    cdef int _next_long(self, uint32_t size) noexcept nogil:
        """`_next_kind` of a block that does not fit into the buffer: only its last length is looked at."""
        cdef uint32_t last
        if self._read_at(&last, sizeof(last), self._place() + size - BLOCK_TRAILER) != sizeof(last):
            self.fault = BLOCK_CUT
        elif self._number(last) != size:
            self.fault = BLOCK_ENDS
        return DAMAGED if self.fault != NO_FAULT else 1

    cdef int _end(self) noexcept nogil:
        """The file has no whole block more."""
        if self.have == self.at:
            return PCAP_ERROR_BREAK
        self.fault = BLOCK_CUT
        return DAMAGED

    cdef bint _turn(self) noexcept nogil:
        """Read on in the byte order of the section that begins; if not, either the file ends, or `fault` says why."""
        cdef const word *block
        if not self._has(BLOCK_HEADER + 4):
            return False
        block = <const word *>(self.buffer + self.at)
        if block[2] != BYTE_ORDER_MAGIC and bswap_32(block[2]) != BYTE_ORDER_MAGIC:
            self.fault = SECTION_ORDER
            return False
        self.swapped = block[2] != BYTE_ORDER_MAGIC
        return True

    cdef bint _pass(self, uint32_t kind, uint32_t size) noexcept nogil:
        """Go behind a block that is no packet, and take up what it says; if that cannot be, `fault` is why."""
        if kind == SECTION_HEADER:
            self.fault = self._begin_section(size)
        elif kind == INTERFACE_DESCRIPTION:
            with gil:
                self._meet(self.buffer[self.at:self.at + size])
        if self.fault != NO_FAULT:
            return False
        if self.have - self.at >= size:
            self.at += size
        else:
            self.buffer_offset += self.at + size
            self.at = self.have = 0
        return True

    cdef Fault _begin_section(self, uint32_t size) noexcept nogil:
        """A section describes its interfaces anew."""
        cdef uint32_t version
        if size < SECTION:
            return BLOCK_LENGTH
        version = (<const word *>(self.buffer + self.at))[3]
        # Two numbers of 16 bits, 1 and 0 (or 2, which is the same format), each in the section's byte order.
        if self.swapped:
            version = bswap_32(version)
        if (version & 0xFFFF if self.swapped != IS_LITTLE_ENDIAN else version >> 16) != 1:
            return SECTION_VERSION
        self.odd = self.odd or self.begun
        self.known = 0
        return NO_FAULT

    cdef void _meet(self, bytes block) noexcept:
        """An interface is described; what is wrong with it is the `fault`."""
        if len(block) < INTERFACE_BYTES:
            self.fault = BLOCK_LENGTH
            return
        described = Interface.of(block, "<" if self.swapped != IS_LITTLE_ENDIAN else ">")
        if described is None:
            self.fault = INTERFACE_CLOCK
            return
        points = <Point *>realloc(self.points, (self.known + 1) * sizeof(Point))
        if self.described == MOST_POINTS or points == NULL:
            self.fault = INTERFACES_MANY
            self.points = points if points != NULL else self.points
            return
        self.points = points
        try:
            self.points[self.known].comparison = self._compare(described.link_type, NULL)
        except MemoryError:
            self.fault = INTERFACES_MANY
            return
        except (OSError, FilterError) as error:
            self.fault, self.refusal = FILTER_UNKNOWN, error
            return
        self.points[self.known].longest = described.longest
        self.points[self.known].ticks, self.points[self.known].offset = described.ticks, described.offset
        self.interfaces.append(described)
        self.known += 1
        self.described += 1
        self.odd = self.odd or self.begun

    cdef inline uint32_t _number(self, uint32_t stored) noexcept nogil:
        return bswap_32(stored) if self.swapped else stored

    cdef inline bint _has(self, size_t wanted) noexcept nogil:
        return self.have - self.at >= wanted or self._fill(wanted)

    cdef bint _fill(self, size_t wanted) noexcept nogil:
        """Have at least `wanted` bytes in the buffer, if the file has them."""
        cdef ssize_t n
        memmove(self.buffer, self.buffer + self.at, self.have - self.at)
        self.buffer_offset += self.at
        self.have -= self.at
        self.at = 0
        while self.have < wanted:
            n = self._read_at(self.buffer + self.have, READ_BYTES - self.have, self.buffer_offset + self.have)
            if n <= 0:
                return False
            self.have += n
        return True

    cdef ssize_t _read_at(self, void *to, size_t size, int64_t offset) noexcept nogil:
        """Read up to `size` bytes, not all of them even where there are more; 0 at the end, -1 for an error."""
        cdef ssize_t n
        if self.unpacked is not None:
            with gil:
                self.unpacked.place = offset
                return _unpack(self.unpacked, to, size)
        while True:
            n = pread(self.fd, to, size, offset)
            if n >= 0 or errno != EINTR:
                return n

    cdef int _next_by_libpcap(self, Record *record) noexcept nogil:
        cdef pcap_pkthdr *header = NULL
        cdef int status = pcap_next_ex(self.handler, &header, &record.data)
        if status == 1:
            self.odd = True
            record.seconds = <uint32_t>header.ts.tv_sec
            record.fraction = <uint32_t>header.ts.tv_usec
            record.captured = header.caplen
            record.length = header.len
            record.point = record.comparison = record.direction = 0
        return status


cdef int _advance(Savefile savefile, Seen *seen) noexcept nogil:
    """An `Advance`: a pointer to the object stands for it, which whoever has the door keeps."""
    cdef int status = savefile._to_match(&seen.record)
    if status == 1:
        seen.time_ns = savefile._nanoseconds(&seen.record)
        seen.number = savefile.scanned
        seen.link_type = savefile.comparisons[seen.record.comparison].link_type
    return status


cdef void _free_door(object capsule) noexcept:
    free(PyCapsule_GetPointer(capsule, DOOR))


cdef ssize_t _unpack(object unpacked, void *to, size_t size) noexcept:
    """Have `size` bytes, or as many as there are from `unpacked.place` on."""
    cdef size_t done = 0
    cdef bytes found
    while done < size:
        found = unpacked.read(size - done)
        if not found:
            break
        memcpy(<char *>to + done, <const char *>found, len(found))
        done += len(found)
    return done


cdef ssize_t _read_unpacked(void *cookie, char *to, size_t size) noexcept with gil:
    return _unpack(<object>cookie, to, size)


cdef int _seek_unpacked(void *cookie, off64_t *offset, int whence) noexcept with gil:
    unpacked = <object>cookie
    if whence not in (SEEK_SET, SEEK_CUR):  # nobody asks for the end
        return -1
    unpacked.place = offset[0] + (unpacked.place if whence == SEEK_CUR else 0)
    offset[0] = unpacked.place
    return 0


cdef inline bint _is_tagged(const Record *record) noexcept nogil:
    """Whether the kernel would take a tag off the frame: eth_type_vlan(linux/if_vlan.h)."""
    cdef uint32_t type_
    if record.captured < TAGGED_FRAME:
        return False
    type_ = record.data[TAG_AT] << 8 | record.data[TAG_AT + 1]
    return type_ == 0x8100 or type_ == 0x88A8


cdef inline void _append(Output *output, const Record *record) noexcept nogil:
    cdef word *header
    if output.used + RECORD_HEADER + record.captured > WRITE_BYTES:
        _flush(output)
    header = <word *>(output.buffer + output.used)
    header[0], header[1] = record.seconds, record.fraction
    header[2], header[3] = record.captured, record.length
    output.used += RECORD_HEADER
    if output.used + record.captured > WRITE_BYTES:  # a long packet
        _flush(output)
        _write(output, record.data, record.captured)
    else:
        memcpy(output.buffer + output.used, record.data, record.captured)
        output.used += record.captured


cdef void _flush(Output *output) noexcept nogil:
    _write(output, output.buffer, output.used)
    output.used = 0


cdef void _write(Output *output, const u_char *data, size_t size) noexcept nogil:
    cdef size_t done = 0
    cdef ssize_t n
    while done < size and output.error == 0:
        n = c_write(output.fd, data + done, size - done)
        if n < 0 and errno != EINTR:
            output.error = errno
        done += max(n, 0)
    output.written += done
