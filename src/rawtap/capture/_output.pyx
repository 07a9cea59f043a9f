# cython: language_level=3, boundscheck=False, wraparound=False
"""The capture's file in C: a buffer of records, and the cheapest way to get it into the file.

Theory of operation
-------------------
An `Output` belongs to the capture's worker thread, in whole. Its buffer is a window onto the file: buffer[0] lies at
`base`, a multiple of BLOCK. [0, written) is in the file already, [written, used) is not. The window stays where the
first record begins that is not wholly in the file (`first`), so after a failure the whole records can be counted and
the file cut back to the last of them.

*Small batches* go through the page cache, at once, so a reader sees them, and a crash of the program loses nothing.

*Under load* the page cache is what a capture waits for: each fresh page must be found, on a virtual machine even the
host must find it, and filled. So a batch of DIRECT_MIN and more goes to the disk directly (O_DIRECT, open(2)), in whole
blocks; the rest of the last block stays in the buffer until the next batch, or for SETTLE_NS. Where a file system
refuses, or the disk is slower than the page cache could be (DIRECT_FLOOR), the page cache it is: for good, or
for the next DIRECT_PAUSE bytes.

*A ring of files* removes its oldest when it begins a new one. What is removed is cut away bit by bit as the new file
grows: its pages are the ones that the new file's writes are given, still warm, and freeing them all at once would
take longer than the kernel's ring can bridge.
"""

from libc.errno cimport EDQUOT, EINTR, ENOSPC, errno
from libc.stdlib cimport free
from libc.string cimport memcpy, memmove, memset


cdef extern from "<stdlib.h>" nogil:
    void *aligned_alloc(size_t, size_t)


cdef extern from "<unistd.h>" nogil:
    ssize_t pwrite(int, const void *, size_t, int64_t)
    int ftruncate(int, int64_t)
    int close(int)


cdef extern from "<fcntl.h>" nogil:
    int fcntl(int, int, ...)
    int F_GETFL
    int F_SETFL
    int O_DIRECT


cdef extern from "<sys/statvfs.h>" nogil:
    struct c_statvfs "statvfs":
        unsigned long f_frsize
        unsigned long f_bavail
    int fstatvfs(int, c_statvfs *)


cdef extern from "<sys/stat.h>" nogil:
    struct c_stat "stat":
        int64_t st_size
    int fstat(int, c_stat *)


cdef extern from "<time.h>" nogil:
    struct timespec:
        long tv_sec
        long tv_nsec
    int clock_gettime(int, timespec *)
    int CLOCK_MONOTONIC


cdef enum:
    DIRECT_MIN = 192 << 10          # the least that is worth a write to the disk
    DIRECT_FLOOR = 200              # bytes in a microsecond
    DIRECT_TRIAL_NS = 8_000_000     # of writing, after which the disk's speed is judged
    DIRECT_PAUSE = 64 << 20
    SETTLE_NS = 10_000_000
    SPACE_CHECK_BYTES = 4 << 20     # written between two looks at the free space, at the most
    SPACE_STEP = 16 << 10           # and at the least

cdef uint64_t NEVER = <uint64_t>-1


cdef int64_t now() noexcept nogil:
    """Nanoseconds on the monotonic clock."""
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return <int64_t>t.tv_sec * 1_000_000_000 + t.tv_nsec


cdef bint init(Output *out, uint32_t snaplen, bint pcapng) noexcept nogil:
    """Make an output with no file yet; whether there was memory for it."""
    memset(out, 0, sizeof(Output))
    out.fd = out.retired_fd = -1
    out.snaplen = snaplen
    out.pcapng = pcapng
    out.buffer = <unsigned char *>aligned_alloc(BLOCK, BUFFER_BYTES)
    return out.buffer != NULL


cdef void release(Output *out) noexcept nogil:
    """Free what is held; the file's descriptor is its owner's, and the counters stay."""
    free(out.buffer)
    out.buffer = NULL
    give_back(out)


cdef void give_back(Output *out) noexcept nogil:
    """Give back what is left of the removed file."""
    if out.retired_fd >= 0:
        close(out.retired_fd)
        out.retired_fd = -1


cdef bint attach(Output *out, int fd, const unsigned char *header, size_t size, uint64_t max_bytes) noexcept nogil:
    """Go on in `fd`, an empty file, after its header; whether that could be written (else `error` says why not)."""
    out.fd = fd
    out.noted = NULL
    out.base = out.file_bytes = 0
    out.used = out.written = out.first = out.crossing = 0
    out.max_bytes = max_bytes
    out.direct = False
    out.direct_from = out.allowance = 0
    append_bytes(out, header, size)
    return not out.full


cdef void append_bytes(Output *out, const unsigned char *data, size_t size) noexcept nogil:
    """Write what is no record, at most BUFFER_BYTES of it: the file's header, or what follows the last record."""
    flush(out)
    if out.full and (out.error != 0 or out.reason == FILE_CUT):
        return
    if out.used + size > BUFFER_BYTES:
        _slide(out, out.used)
    memcpy(out.buffer + out.used, data, size)
    out.used += size
    _write_buffered(out, False)


cdef void fill(Output *out, Reason reason) noexcept nogil:
    """Take no more; of several reasons the first that is about the file stays."""
    if not out.full:
        out.full = True
        out.reason = reason


cdef void flush(Output *out) noexcept nogil:
    """Get all that is in the buffer into the file."""
    if out.used > out.written and out.error == 0:
        _write_buffered(out, True)


cdef void flush_some(Output *out) noexcept nogil:
    """After a batch: get it into the file, or put that off, for SETTLE_NS at most, where more is about to come."""
    cdef size_t waiting = out.used - out.written
    if waiting == 0 or out.error != 0:
        return
    if out.base + out.used < out.direct_from:
        flush(out)
    elif waiting >= DIRECT_MIN:
        if not _write_direct(out):
            flush(out)
    elif not out.direct or now() - out.unwritten_since >= SETTLE_NS:
        flush(out)


cdef uint64_t _room(Output *out) noexcept nogil:
    """How much may be written before the next look at the free space; 0 where it is below the floor.

    The nearer the floor, the sooner that is: a small disk must not be full between two looks.
    """
    cdef c_statvfs fs
    cdef uint64_t free_bytes
    if out.allowance == 0:
        out.allowance = SPACE_CHECK_BYTES
        if fstatvfs(out.fd, &fs) == 0:
            free_bytes = <uint64_t>fs.f_bavail * fs.f_frsize
            if free_bytes < out.free_floor:
                out.allowance = 0
            else:
                out.allowance = min(max((free_bytes - out.free_floor) // 4, SPACE_STEP), SPACE_CHECK_BYTES)
    return out.allowance


cdef bint _was_cut(Output *out) noexcept nogil:
    """Whether somebody has made the file shorter: what is written behind its end would leave a hole before it."""
    cdef c_stat status
    return fstat(out.fd, &status) == 0 and <uint64_t>status.st_size < out.base + out.written


cdef void _give_up(Output *out, Reason reason) noexcept nogil:
    """Leave the file at a whole record, and take no more."""
    fill(out, reason)
    if reason == FILE_CUT:
        out.reason = FILE_CUT  # whatever else ended it: the records that are counted are not all there
        _drop_pending(out, out.first)
    else:
        _keep_whole_records(out)


cdef void _write_buffered(Output *out, bint is_records) noexcept nogil:
    """Write all through the page cache. On failure keep the errno and leave the file at a whole record.

    What is not records is the file's beginning or its end: that is written whatever the free space.
    """
    cdef ssize_t n
    cdef size_t before = out.written
    cdef size_t size
    _set_direct(out, False)
    if _was_cut(out):
        _give_up(out, FILE_CUT)
        return
    while out.written < out.used:
        size = out.used - out.written
        if is_records:
            size = min(size, <size_t>_room(out))
            if size == 0:
                _give_up(out, NO_SPACE)
                return
        n = pwrite(out.fd, out.buffer + out.written, size, <int64_t>(out.base + out.written))
        if n < 0:
            if errno == EINTR:
                continue
            out.error = errno
            _give_up(out, NO_SPACE if out.error == ENOSPC or out.error == EDQUOT else WRITE_FAILED)
            return
        out.written += n
        out.allowance -= min(out.allowance, <uint64_t>n)
    out.unwritten_since = 0
    _count(out, out.used, out.pending_packets, out.pending_wire)
    _recycle(out, out.used - before)
    _slide(out, out.used)


cdef bint _write_direct(Output *out) noexcept nogil:
    """Write the whole blocks to the disk; False where that did not work and the page cache must do."""
    cdef size_t start = out.written & ~<size_t>(BLOCK - 1)
    cdef size_t size = (out.used & ~<size_t>(BLOCK - 1)) - start
    cdef int64_t begun = now()
    cdef ssize_t n
    if out.allowance < size:
        out.allowance = 0
    if _room(out) < size or _was_cut(out):
        return False  # the page cache's write takes it in smaller pieces, or says what happened
    if not _set_direct(out, True):
        out.direct_from = NEVER
        return False
    n = pwrite(out.fd, out.buffer + start, size, <int64_t>(out.base + start))
    if n != <ssize_t>size:
        # Refused, interrupted or no space: the page cache's write finds out which, and copes with a short one.
        out.direct_from = NEVER
        return False
    _judge(out, size, now() - begun)
    out.allowance -= size
    out.written = start + size
    out.unwritten_since = now() if out.used > out.written else 0
    _count(out, out.crossing, out.crossing_packets, out.crossing_wire)
    _recycle(out, size)
    _slide(out, out.crossing)
    return True


cdef void _judge(Output *out, size_t size, int64_t nanoseconds) noexcept nogil:
    """Go back to the page cache for a while if the disk, over DIRECT_TRIAL_NS of writing to it, was slow."""
    out.trial_bytes += size
    out.trial_ns += nanoseconds
    if out.trial_ns < DIRECT_TRIAL_NS:
        return
    if <int64_t>out.trial_bytes * 1000 < out.trial_ns * DIRECT_FLOOR:
        out.direct_from = out.base + out.used + DIRECT_PAUSE
    out.trial_bytes = 0
    out.trial_ns = 0


cdef bint _set_direct(Output *out, bint wanted) noexcept nogil:
    cdef int flags
    if out.direct == wanted:
        return True
    flags = fcntl(out.fd, F_GETFL)
    if fcntl(out.fd, F_SETFL, (flags | O_DIRECT) if wanted else (flags & ~O_DIRECT)) != 0:
        return False
    out.direct = wanted
    return True


cdef void _count(Output *out, size_t end, uint64_t packets, uint64_t wire) noexcept nogil:
    """The records up to `end` in the buffer are in the file: so many, with that length on the wire."""
    out.packets += packets
    out.wire_bytes += wire
    out.pending_packets -= packets
    out.pending_wire -= wire
    out.first = end
    out.file_bytes = out.base + end
    if out.noted != NULL:
        out.noted[0] = out.file_bytes


cdef void _slide(Output *out, size_t needed) noexcept nogil:
    """Move the window on so that it begins with the block of buffer[needed]; what is before is in the file."""
    cdef size_t start = needed & ~<size_t>(BLOCK - 1)
    if start == 0:
        return
    memmove(out.buffer, out.buffer + start, out.used - start)
    out.base += start
    out.used -= start
    out.written -= start
    out.first -= start
    out.crossing = 0
    out.crossing_packets = out.crossing_wire = 0


cdef void _keep_whole_records(Output *out) noexcept nogil:
    """Count the whole records that got out before a write failed, and cut the file after the last of them."""
    cdef size_t at = out.first
    cdef size_t size
    cdef uint64_t packets = 0, wire = 0
    cdef word *record
    while at + 16 <= out.written and packets < out.pending_packets:
        record = <word *>(out.buffer + at)
        size = record_size(out, record[5] if out.pcapng else record[2])
        if at + size > out.written:
            break
        at += size
        packets += 1
        wire += record[6] if out.pcapng else record[3]
    _count(out, at, packets, wire)
    # If this fails as well the file has a torn last record; the write's own error is reported in any case.
    ftruncate(out.fd, <int64_t>out.file_bytes)
    _drop_pending(out, at)


cdef void _drop_pending(Output *out, size_t at) noexcept nogil:
    """What is behind buffer[at] will never be in the file."""
    out.refused += out.pending_packets
    out.pending_packets = out.pending_wire = 0
    out.used = out.written = out.first = at
    out.unwritten_since = 0


cdef void _recycle(Output *out, size_t size) noexcept nogil:
    """Give back as much of the removed file as was written of the new one."""
    if out.retired_fd < 0:
        return
    out.retired_bytes -= min(out.retired_bytes, <uint64_t>size)
    if out.retired_bytes == 0 or ftruncate(out.retired_fd, <int64_t>out.retired_bytes) != 0:
        close(out.retired_fd)
        out.retired_fd = -1
