# cython: language_level=3, boundscheck=False, wraparound=False
"""Selecting packets from a capture file in C, without the GIL.

Theory of operation
-------------------
One `Savefile` belongs to one thread and one call: open, filter, scan, close. libpcap opens the file, whatever its
format, says what is in it and compiles the filter for it.

*Plain files* are nearly all: pcap, version 2.4, of either precision, and pcapng with one interface; of either byte order.
Their packets are read here, from a buffer that pread(2) fills: libpcap makes two stdio calls for each packet, which
cost more than most filters. mmap(2) would be no faster, and a file that somebody cuts short would kill the process
(SIGBUS).

*Whatever is odd* is libpcap's. At a record that is cut off, that is longer than the file's snaplen or than any can be, or
that is of a kind not known here, libpcap takes over at the record's first byte and reads on to the end. So what is a
packet, what is damage and what the damage is called is decided in one place. Other formats and link types are libpcap's
from the start.

*Copies* are pcap files in this machine's byte order with the precision of what they were copied from: what
`tcpdump -r FILE -w COPY FILTER` writes. pcapng becomes pcap with nanoseconds.

*Tags.* A frame with a VLAN tag in a file that the kernel filtered is compared as the kernel did it (see tags): without
its tag. In any other file the filter means what it means to tcpdump, and the tagged frames that it would select without
their tag are counted.

Sources: pcap(3PCAP), pcap_open_offline(3PCAP), pcap-savefile(5), libpcap's sf-pcap.c and sf-pcapng.c,
draft-ietf-opsawg-pcapng.
"""

import os
import struct

cimport cython
from libc.errno cimport EINTR, errno
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdio cimport FILE as STDFILE
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memmove
from pylibpcap.base cimport BasePcap
from pylibpcap.pcap cimport (
    bpf_program,
    pcap_close,
    pcap_datalink,
    pcap_freecode,
    pcap_geterr,
    pcap_pkthdr,
    pcap_snapshot,
    pcap_t,
    u_char,
    u_int,
)
from rawtap._bpf cimport compile_filter
from rawtap._words cimport word

from rawtap._bpf import FilterRefused
from rawtap.packets import tags


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
    int fileno(STDFILE *)
    int SEEK_SET
    STDFILE *fdopen(int, const char *)
    int fclose(STDFILE *)
    STDFILE *open_memstream(char **, size_t *)


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
    BLOCK_HEADER = 8            # pcapng, section 3.1: type, total length
    BLOCK_TRAILER = 4           # total length
    PACKET_HEADER = 28          # section 4.3: block header, interface, time in two halves, captured and original length
    READ_BYTES = 512 << 10      # two of the longest records, and it stays in the processor's cache
    WRITE_BYTES = 64 << 10      # larger writes ask the kernel for blocks of memory that it often has not at hand
    LONGEST_PACKET = 262144     # libpcap's MAXIMUM_SNAPLEN, pcap-int.h; some link types may have more

    ETHERNET = 1                # DLT_EN10MB
    TAG_AT = 12                 # behind the addresses
    TAG = 4
    TAGGED_FRAME = 18           # with its EtherType
    ANY_VLAN = 0x1000

    MICROSECONDS = 0xA1B2C3D4   # the magic numbers, in the order of the machine that wrote the file
    NANOSECONDS = 0xA1B23C4D
    BYTE_ORDER_MAGIC = 0x1A2B3C4D

cdef enum Block:                # types, section 4; libpcap skips all others
    INTERFACE_DESCRIPTION = 1
    OLD_PACKET = 2
    SIMPLE_PACKET = 3
    ENHANCED_PACKET = 6
    SECTION_HEADER = 0x0A0D0D0A

cdef enum Format:
    ODD                         # read by libpcap
    PCAP
    PCAPNG

# Link types whose packets libpcap hands out as they are. Others have headers with numbers in the byte order of the
# machine that wrote the file, or lengths to be mended (pcap-common.c). DLT_NULL, EN10MB, PPP, RAW, IEEE802_11, and
# that with radiotap.
_AS_THEY_ARE = frozenset({0, 1, 9, 12, 105, 127})
_LONGEST_HEAD = 1 << 20  # of what a pcapng file has before its first packet


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


cdef struct Record:
    uint32_t seconds
    uint32_t fraction           # of a second, in the file's precision
    uint32_t captured
    uint32_t length             # on the wire
    const u_char *data


cdef struct Output:
    int fd
    u_char *buffer
    size_t used
    uint64_t written            # bytes that the file holds
    int error


@cython.final
cdef class Savefile(BasePcap):
    """A capture file opened for one scan."""

    cdef Program program
    cdef Program there          # for tagged frames without their tag: it is the one that is asked for
    cdef Program not_there      # or another one
    cdef uint32_t vlan          # that is asked for, or ANY_VLAN
    cdef bint live              # the kernel has compared the file's frames with a filter
    cdef bint tags              # tagged frames are to be looked at without their tag
    cdef Format format
    cdef Format plain           # what the file is read as until something odd comes
    cdef bint pcapng
    cdef bint odd               # something odd came: a packet that libpcap read
    cdef bint swapped
    cdef int fd
    cdef uint32_t longest       # packet that is read here
    cdef int64_t unit_ns        # of a record's fraction
    cdef uint64_t ticks         # of a pcapng file's clock in a second
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

    def __init__(self, int fd, str expression, *, bint live=False):
        """Read `fd` (any format libpcap reads; it is this object's from now on) and compile `expression` for it.

        `live`: it has frames that the kernel filtered, and a filter means now what it would have meant then.

        Raises:
            SavefileError: Not a capture file.
            FilterError: With libpcap's text, or the bound that compiling passed.
            OSError: libpcap's compiler cannot be run.
        """
        cdef uint32_t head[6]
        cdef bint whole = pread(fd, head, sizeof(head), 0) == sizeof(head)
        cdef bint micro = whole and (head[0] == MICROSECONDS or bswap_32(head[0]) == MICROSECONDS)
        self.damage = ""
        self.pcapng = whole and head[0] == SECTION_HEADER
        self.unit_ns = 1000 if micro else 1
        self._open(fd, PCAP_TSTAMP_PRECISION_MICRO if micro else PCAP_TSTAMP_PRECISION_NANO)
        self.link_type = pcap_datalink(self.handler)
        self._compile(expression, live)
        self.offset = ftello(pcap_file_nogil(self.handler))
        if whole and self.link_type in _AS_THEY_ARE:
            self._choose_format(head)

    def __dealloc__(self):
        free(self.buffer)
        if self.handler != NULL:
            pcap_close(self.handler)
            self.handler = NULL

    cdef int _open(self, int fd, u_int precision) except -1:
        cdef STDFILE *file = fdopen(fd, "rb")
        if file == NULL:
            raise MemoryError
        with nogil:
            self.handler = pcap_fopen_offline_with_tstamp_precision(file, precision, self.errbuf)
        if self.handler == NULL:
            fclose(file)
            raise SavefileError((<char *>self.errbuf).decode(errors="replace"))
        return 0

    cdef int _compile(self, str expression, bint live) except -1:
        cdef bint asks = tags.has_vlan(expression)
        self.program = self.there = self.not_there = Program()
        # The optimizer refuses what is true for no frame of a file, like `arp and vlan`.
        self.program.compile(self.handler, expression, not (live and asks))
        self.live = live
        self.vlan = ANY_VLAN
        self.tags = self.link_type == ETHERNET and expression != "" and (live or not asks)
        if self.tags and asks:
            as_live = tags.as_live(expression)
            self.vlan = ANY_VLAN if as_live.vlan is None else as_live.vlan
            self.there, self.not_there = Program(), Program()
            self.there.compile(self.handler, as_live.there, False)
            self.not_there.compile(self.handler, as_live.not_there, False)
        return 0

    cdef int _choose_format(self, const uint32_t *head) except -1:
        """Read the packets here if the file is one that can be; `head` is its first 24 bytes."""
        self.fd = fileno(pcap_file_nogil(self.handler))
        if self.pcapng:
            self.swapped = head[2] != BYTE_ORDER_MAGIC
            self.ticks = self._ticks()
            self.format = PCAPNG if self.ticks else ODD
        else:
            self.swapped = head[0] != MICROSECONDS and head[0] != NANOSECONDS
            self.format = PCAP if self._is_pcap(head) else ODD
        self.plain = self.format
        if self.format == ODD:
            return 0
        self.buffer = <u_char *>malloc(READ_BYTES)
        if self.buffer == NULL:
            raise MemoryError
        self.longest = min(<uint32_t>max(pcap_snapshot(self.handler), 0), LONGEST_PACKET)
        self.buffer_offset = self.offset
        return 0

    cdef bint _is_pcap(self, const uint32_t *head):
        """Whether the file is pcap as everybody writes it, and not one of its variants; version 2.4."""
        cdef uint32_t magic = bswap_32(head[0]) if self.swapped else head[0]
        cdef uint32_t version = bswap_32(head[1]) if self.swapped else head[1]
        if magic != MICROSECONDS and magic != NANOSECONDS:
            return False
        # Two numbers of 16 bits, each in the file's byte order.
        return version == (0x00020004 if self.swapped == IS_LITTLE_ENDIAN else 0x00040002)

    cdef uint64_t _ticks(self) except? 0:
        """A second's parts by the clock of the pcapng file's first interface; 0 where that is not to be had here."""
        if self.offset > _LONGEST_HEAD:
            return 0
        order = "<" if self.swapped != IS_LITTLE_ENDIAN else ">"
        return _ticks_of(os.pread(self.fd, self.offset, 0), order)

    @property
    def seekable(self):
        """Whether a later scan may go on by `seek` where this one is.

        A pcapng file says what its interfaces are wherever it likes: what was skipped would be missing, unless it was
        plain up to there.
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
        fseeko(pcap_file_nogil(self.handler), self.offset, SEEK_SET)
        self.format = self.plain
        self.buffer_offset = self.offset
        self.at = self.have = 0
        self.damage = ""

    def skip(self, uint64_t count):
        """Read over the first `count` packets of the file, counting matches: the slow `seek`, for any format."""
        cdef Record record
        with nogil:
            while self.scanned < count and self._next(&record) == 1:
                self._matches(&record)

    def take(self, Py_ssize_t limit):
        """Read on until `limit` matches are found or the file ends.

        Returns tuples (number in the file from 1, nanoseconds since 1970, captured length, original length, bytes).
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
                     record.data[:record.captured])
                )
        self._note_damage(status)
        return found

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
            SavefileError: A pcap file cannot be of this link type.
        """
        cdef Output output
        cdef Record record
        cdef int status = 1
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
                    _append(&output, &record)
            _flush(&output)
            free(output.buffer)
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

    cdef int _note_damage(self, int status) except -1:
        if status not in (1, 0, PCAP_ERROR_BREAK):
            self.damage = pcap_geterr(self.handler).decode(errors="replace")
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
        cdef bint passes
        if self.scanned == 0:
            self.first_ns = self._nanoseconds(record)
        self.scanned += 1
        if self.tags and _is_tagged(record):
            passes = self._passes_tagged(record)
        else:
            passes = bpf_filter(self.program.instructions, record.data, record.length, record.captured) != 0
        self.matched += passes
        return passes

    cdef bint _passes_tagged(self, const Record *record) noexcept nogil:
        """Whether a tagged frame passes; if not, whether it would without its tag is counted."""
        if self.live:
            return self._passes_without_tag(record)
        if bpf_filter(self.program.instructions, record.data, record.length, record.captured) != 0:
            return True
        self.tagged += self._passes_without_tag(record)
        return False

    cdef bint _passes_without_tag(self, const Record *record) noexcept nogil:
        """The frame is made one without its tag where it is, and then made good: a copy would cost more."""
        cdef u_char *frame = <u_char *>record.data
        cdef u_char head[TAG_AT + TAG]
        cdef uint32_t vlan = (frame[TAG_AT + 2] & 0x0F) << 8 | frame[TAG_AT + 3]
        cdef const bpf_insn *program = self.there.instructions
        cdef bint passes
        if self.vlan != ANY_VLAN and self.vlan != vlan:
            program = self.not_there.instructions
        memcpy(head, frame, sizeof(head))
        memcpy(frame + TAG, head, TAG_AT)
        passes = bpf_filter(program, frame + TAG, max(record.length, TAG) - TAG, record.captured - TAG) != 0
        memcpy(frame, head, sizeof(head))
        return passes

    cdef inline int _next(self, Record *record) noexcept nogil:
        """The next packet: 1, or what else pcap_next_ex returns (PCAP_ERROR_BREAK at the end)."""
        if self.format == PCAP and self._next_record(record):
            return 1
        if self.format == PCAPNG and self._next_block(record):
            return 1
        if self.format != ODD:
            fseeko(pcap_file_nogil(self.handler), self.buffer_offset + self.at, SEEK_SET)
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
        self.at += RECORD_HEADER + record.captured
        return True

    cdef inline bint _next_block(self, Record *record) noexcept nogil:
        """Whether a pcapng file goes on, after blocks to be skipped, with a whole packet that is not odd."""
        cdef const word *block
        cdef uint32_t kind
        cdef uint32_t size
        while self._has_block(&kind, &size):
            block = <const word *>(self.buffer + self.at)
            if kind == ENHANCED_PACKET:
                record.captured = self._number(block[5])
                if block[2] != 0 or size < PACKET_HEADER + BLOCK_TRAILER:
                    return False
                if record.captured > min(self.longest, size - PACKET_HEADER - BLOCK_TRAILER):
                    return False
                record.length = self._number(block[6])
                self._split_time(<uint64_t>self._number(block[3]) << 32 | self._number(block[4]), record)
                record.data = self.buffer + self.at + PACKET_HEADER
                self.at += size
                return True
            if kind in (SECTION_HEADER, INTERFACE_DESCRIPTION, OLD_PACKET, SIMPLE_PACKET):
                return False
            self.at += size
        return False

    cdef inline bint _has_block(self, uint32_t *kind, uint32_t *size) noexcept nogil:
        """Whether the next block is in the buffer, whole and with the same length at both ends."""
        cdef const word *block
        if not self._has(BLOCK_HEADER):
            return False
        block = <const word *>(self.buffer + self.at)
        kind[0], size[0] = self._number(block[0]), self._number(block[1])
        if size[0] < BLOCK_HEADER + BLOCK_TRAILER or size[0] % 4 != 0 or size[0] > READ_BYTES or not self._has(size[0]):
            return False
        block = <const word *>(self.buffer + self.at)
        return self._number(block[size[0] // 4 - 1]) == size[0]

    cdef inline void _split_time(self, uint64_t time, Record *record) noexcept nogil:
        if self.ticks == 1_000_000_000:  # a constant is divided by much faster
            record.seconds = <uint32_t>(time // <uint64_t>1_000_000_000)
            record.fraction = <uint32_t>(time % <uint64_t>1_000_000_000)
        else:
            record.seconds = <uint32_t>(time // self.ticks)
            record.fraction = <uint32_t>(time % self.ticks * (<uint64_t>1_000_000_000 // self.ticks))

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
            n = pread(self.fd, self.buffer + self.have, READ_BYTES - self.have, self.buffer_offset + self.have)
            if n < 0 and errno == EINTR:
                continue
            if n <= 0:
                return False
            self.have += n
        return True

    cdef int _next_by_libpcap(self, Record *record) noexcept nogil:
        cdef pcap_pkthdr *header = NULL
        cdef int status = pcap_next_ex(self.handler, &header, &record.data)
        if status == 1:
            self.odd = True
            record.seconds = <uint32_t>header.ts.tv_sec
            record.fraction = <uint32_t>header.ts.tv_usec
            record.captured = header.caplen
            record.length = header.len
        return status


cdef inline bint _is_tagged(const Record *record) noexcept nogil:
    """Whether the kernel would take a tag off the frame: eth_type_vlan(linux/if_vlan.h)."""
    cdef uint32_t type_
    if record.captured < TAGGED_FRAME:
        return False
    type_ = record.data[TAG_AT] << 8 | record.data[TAG_AT + 1]
    return type_ == 0x8100 or type_ == 0x88A8


def _ticks_of(bytes head, str order):
    """A second's parts by the clock of the interface whose description is the last block of `head`; 0 if unusual.

    `order` is struct's sign for the file's byte order. libpcap has read these blocks and found no fault.
    """
    at = 0
    while at + 8 < len(head):
        kind, size = struct.unpack_from(order + "II", head, at)
        if kind == INTERFACE_DESCRIPTION:
            return _ticks_by(head[at + 16:at + size - BLOCK_TRAILER], order)
        at += size
    return 0


def _ticks_by(bytes options, str order):
    """By an interface's options (section 4.2): microseconds unless if_tsresol says otherwise."""
    ticks = 1_000_000
    while len(options) >= 4:
        code, size = struct.unpack_from(order + "HH", options)
        if code == 0:
            break
        if code == 9:  # if_tsresol
            ticks = {6: 1_000_000, 9: 1_000_000_000}.get(options[4], 0)
        if code == 14:  # if_tsoffset
            return 0
        options = options[4 + size + -size % 4:]
    return ticks


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
