# cython: language_level=3, boundscheck=False, wraparound=False
"""Selecting packets from a capture file in C, without the GIL: libpcap reads and filters, matches are copied out.

One `Savefile` belongs to one thread and one call: open, filter, scan, close. Sources: pcap(3PCAP),
pcap_open_offline(3PCAP), pcap-savefile(5).
"""

from libc.stdint cimport int64_t, uint64_t
from libc.stdio cimport FILE as STDFILE
from pylibpcap.base cimport BasePcap
from pylibpcap.pcap cimport (
    bpf_program,
    pcap_close,
    pcap_datalink,
    pcap_freecode,
    pcap_geterr,
    pcap_pkthdr,
    pcap_setfilter,
    pcap_t,
    u_char,
    u_int,
)
from rawtap._bpf cimport compile_filter

from rawtap._bpf import FilterRefused


cdef extern from "pcap/pcap.h" nogil:
    u_int PCAP_TSTAMP_PRECISION_NANO
    int PCAP_ERROR_BREAK
    pcap_t *pcap_fopen_offline_with_tstamp_precision(STDFILE *, u_int, char *)
    STDFILE *pcap_file_nogil "pcap_file"(pcap_t *)
    int pcap_next_ex(pcap_t *, pcap_pkthdr **, const u_char **)
    int pcap_offline_filter(const bpf_program *, const pcap_pkthdr *, const u_char *)


cdef extern from "<stdio.h>" nogil:
    int fseeko(STDFILE *, int64_t, int)
    int64_t ftello(STDFILE *)
    int SEEK_SET
    STDFILE *fdopen(int, const char *)
    int fclose(STDFILE *)


class SavefileError(Exception):
    """libpcap could not read the file or compile the filter; the text is libpcap's."""


class FilterError(SavefileError):
    """The filter is not one."""


cdef class Savefile(BasePcap):
    """A capture file opened for one scan."""

    cdef bpf_program program
    cdef bint compiled
    cdef readonly int link_type
    cdef readonly uint64_t scanned
    cdef readonly uint64_t matched
    cdef readonly int64_t first_ns      # the file's first packet
    cdef readonly int64_t offset        # after the last whole record that `take` read
    cdef readonly str damage

    def __init__(self, int fd, str expression):
        """Read `fd` (any format libpcap reads; it is this object's from now on) and compile `expression` for it.

        Raises:
            SavefileError: Not a capture file.
            FilterError: With libpcap's text, or the bound that compiling passed.
            OSError: libpcap's compiler cannot be run.
        """
        cdef STDFILE *file = fdopen(fd, "rb")
        self.damage = ""
        if file == NULL:
            raise MemoryError
        with nogil:
            self.handler = pcap_fopen_offline_with_tstamp_precision(file, PCAP_TSTAMP_PRECISION_NANO, self.errbuf)
        if self.handler == NULL:
            fclose(file)
            raise SavefileError((<char *>self.errbuf).decode(errors="replace"))
        self.link_type = pcap_datalink(self.handler)
        try:
            compile_filter(self.handler, expression, True, &self.program)
        except FilterRefused as error:
            raise FilterError(str(error)) from error
        self.compiled = True
        self.offset = ftello(pcap_file_nogil(self.handler))

    def __dealloc__(self):
        if self.compiled:
            pcap_freecode(&self.program)
        if self.handler != NULL:
            pcap_close(self.handler)
            self.handler = NULL

    def seek(self, int64_t offset, int64_t first_ns, uint64_t scanned, uint64_t matched):
        """Go on at a place that an earlier scan of the same file reached, with what held there.

        Only in pcap files: a pcapng file says what its interfaces are wherever it likes, and what was skipped would
        be missing.
        """
        if fseeko(pcap_file_nogil(self.handler), offset, SEEK_SET) != 0:
            raise SavefileError("cannot seek in the file")
        self.offset = offset
        self.first_ns = first_ns
        self.scanned = scanned
        self.matched = matched

    def skip(self, uint64_t count):
        """Read over the first `count` packets of the file, counting matches: the slow `seek`, for any format."""
        while self.scanned < count and self._scan_one():
            pass

    def take(self, Py_ssize_t limit):
        """Read on until `limit` matches are found or the file ends.

        Returns tuples (number in the file from 1, nanoseconds since 1970, captured length, original length, bytes).
        A damaged record ends the scan and is told in `damage`.
        """
        cdef list found = []
        cdef pcap_pkthdr *header = NULL
        cdef const u_char *data = NULL
        while len(found) < limit and self._scan(&header, &data, True):
            found.append((self.scanned, _nanoseconds(header), header.caplen, header.len, data[:header.caplen]))
        return found

    def count_rest(self):
        """Read to the file's end, counting; `offset` stays where it was."""
        cdef pcap_pkthdr *header = NULL
        cdef const u_char *data = NULL
        cdef int64_t offset = self.offset
        self._scan(&header, &data, False)
        self.offset = offset

    cdef bint _scan_one(self):
        cdef pcap_pkthdr *header = NULL
        cdef const u_char *data = NULL
        if pcap_next_ex(self.handler, &header, &data) != 1:
            return False
        if self.scanned == 0:
            self.first_ns = _nanoseconds(header)
        self.scanned += 1
        self.matched += pcap_offline_filter(&self.program, header, data) != 0
        return True

    cdef bint _scan(self, pcap_pkthdr **header, const u_char **data, bint to_match):
        """Read to the next match, or else to the end; whether there was one."""
        cdef STDFILE *file = pcap_file_nogil(self.handler)
        cdef int status
        with nogil:
            while True:
                status = pcap_next_ex(self.handler, header, data)
                if status != 1:
                    break
                if self.scanned == 0:
                    self.first_ns = _nanoseconds(header[0])
                self.scanned += 1
                if to_match:
                    self.offset = ftello(file)
                if pcap_offline_filter(&self.program, header[0], data[0]) != 0:
                    self.matched += 1
                    if to_match:
                        break
        if status != 1 and status != PCAP_ERROR_BREAK:
            self.damage = pcap_geterr(self.handler).decode(errors="replace")
        return status == 1


cdef int64_t _nanoseconds(const pcap_pkthdr *header) noexcept nogil:
    """The handle's precision is nanoseconds, whatever the file's is: libpcap scales it."""
    return <int64_t>header.ts.tv_sec * 1_000_000_000 + header.ts.tv_usec
