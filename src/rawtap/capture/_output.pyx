# cython: language_level=3, boundscheck=False, wraparound=False
"""The capture's writer in C: the cheapest way to get what is queued into the files.

Theory of operation
-------------------
An `Output` belongs to the capture's session thread, in whole. It writes the pieces of the `Queue` one after the other (see
_queue), and counts a record when all of it is in its file. What was handed over is known up to a `Mark`; of what is written
beyond the last one that was reached, it counts nothing yet. After a failure the whole records are counted and the file is
cut back to the last of them.

*Small batches* go through the page cache, at once, so a reader sees them, and a crash of the program loses nothing.

*Under load* the page cache costs more CPU time than all else: each fresh page must be found, on a virtual machine even the
host must find it, and filled. So DIRECT_MIN and more goes to the disk directly (O_DIRECT, open(2)), in whole
blocks. The larger such a write, the cheaper: where FLOOD comes at once, it waits until a chunk is full, or for SETTLE_NS, and
so does the rest of the last block. Where a file system refuses, or the disk is
slower than DIRECT_FLOOR, the page cache it is: for good, or for the next DIRECT_PAUSE bytes. *Pressed*, when half of the
memory is full, whatever was faster of late is taken, and now and then the other is tried.

*A ring of files* removes its oldest when it begins a new one. To free its blocks takes the disk tens of milliseconds, so
a thread of its own does it; the next change of files waits for that, so no more than one file is there beyond the ring's.
"""

from libc.errno cimport EDQUOT, EINTR, ENOSPC, errno
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memset
from rawtap._clock cimport now
from rawtap._words cimport word
from rawtap.capture._queue cimport (
    BLOCK,
    FILE_CUT,
    NO_SPACE,
    RUNNING,
    WRITE_FAILED,
    Mark,
    Piece,
    Queue,
    needs_processor,
    record_size,
)


cdef extern from "<unistd.h>" nogil:
    ssize_t pwrite(int, const void *, size_t, int64_t)
    int ftruncate(int, int64_t)
    int close(int)


cdef extern from "<fcntl.h>" nogil:
    int fcntl(int, int, ...)
    int F_GETFL
    int F_SETFL
    int O_DIRECT


cdef extern from "<sched.h>" nogil:
    int sched_yield()


cdef extern from "<pthread.h>" nogil:
    int pthread_create(pthread_t *, const void *, void *(*)(void *) noexcept nogil, void *)
    int pthread_join(pthread_t, void **)


cdef extern from "<sys/statvfs.h>" nogil:
    struct c_statvfs "statvfs":
        unsigned long f_frsize
        unsigned long f_bavail
    int fstatvfs(int, c_statvfs *)


cdef extern from "<sys/stat.h>" nogil:
    struct c_stat "stat":
        int64_t st_size
    int fstat(int, c_stat *)


cdef enum:
    DIRECT_MIN = 192 << 10          # the least that is worth a write to the disk
    FLOOD = 64 << 10                # at once, from which on it is worth to wait for more
    DIRECT_FLOOR = 200              # bytes in a microsecond
    TRIAL_NS = 8_000_000            # of writing, after which a way's speed is judged
    DIRECT_PAUSE = 64 << 20
    SETTLE_NS = 10_000_000
    TURN = 128 << 10                # bytes that are copied before a reader on the same processor gets its turn
    SPACE_CHECK_BYTES = 4 << 20     # written between two looks at the free space, at the most
    SPACE_STEP = 16 << 10           # and at the least
    WORTH_A_THREAD = 1 << 20        # bytes that take longer to give back than a thread to start

cdef uint64_t NEVER = <uint64_t>-1


cdef void init(Output *out, const Queue *queue, bint pcapng) noexcept nogil:
    """Make an output of what is in `queue`, with no file yet."""
    memset(out, 0, sizeof(Output))
    out.queue = queue
    out.fd = out.retired_fd = -1
    out.pcapng = pcapng


cdef void attach(Output *out, int fd, size_t size) noexcept nogil:
    """Go on in `fd`, a file with a header of `size` bytes and nothing else."""
    out.fd = fd
    out.files += 1
    out.noted = NULL
    out.file_bytes = out.reached.place = out.written = size
    out.direct = False
    out.allowance = 0
    if out.direct_from != NEVER:
        out.direct_from = 0


cdef int64_t due(Output *out, const Piece *piece, bint urgent) noexcept nogil:
    """When what was handed over of `piece` is to be written: 0 for now, NEVER where there is nothing."""
    cdef size_t waiting = piece.used - out.written
    if waiting == 0:
        return <int64_t>NEVER
    if urgent or piece.done or out.broken != RUNNING or (waiting < FLOOD and not out.direct):
        return 0
    if out.unwritten_since == 0:
        out.unwritten_since = now()
    return out.unwritten_since + SETTLE_NS


cdef void write_piece(Output *out, const Piece *piece, bint pressed) noexcept nogil:
    """Write what was handed over of `piece`, a copy of which the caller has; a rest may stay for later."""
    cdef int64_t begun = now()
    if _goes_direct(out, piece, pressed) and _write_direct(out, piece) and not piece.done:
        out.unwritten_since = begun
        return
    out.unwritten_since = 0
    if out.written < piece.used:
        _write_cached(out, piece)


cdef void append_bytes(Output *out, const unsigned char *data, size_t size) noexcept nogil:
    """Write what follows the file's last record, whatever the free space. All that was handed over is written."""
    cdef size_t done = 0
    cdef ssize_t n
    if size == 0 or (out.broken != RUNNING and (out.error != 0 or out.broken == FILE_CUT)):
        return
    _set_direct(out, False)
    while done < size:
        n = pwrite(out.fd, data + done, size - done, <int64_t>(out.file_bytes + done))
        if n < 0:
            if errno == EINTR:
                continue
            _fail(out, errno)
            ftruncate(out.fd, <int64_t>out.file_bytes)
            return
        done += n
    out.file_bytes += size
    _note(out)


cdef void retire(Output *out, int fd) noexcept nogil:
    """Give back `fd`, a removed file, and close it; nobody waits for that but the next one's turn, or a full disk."""
    cdef c_stat status
    await_retired(out)
    out.retired_fd = fd
    if fstat(fd, &status) != 0 or status.st_size < WORTH_A_THREAD or pthread_create(&out.retiring, NULL, _retire, out):
        _retire(out)
        out.retired_fd = -1


cdef void await_retired(Output *out) noexcept nogil:
    """Wait until the removed file is given back, if there is one."""
    if out.retired_fd >= 0:
        pthread_join(out.retiring, NULL)
        out.retired_fd = -1


cdef void *_retire(void *out) noexcept nogil:
    """Free a removed file's blocks, though another process may have it open."""
    ftruncate((<Output *>out).retired_fd, 0)
    close((<Output *>out).retired_fd)
    return NULL


cdef uint64_t _room(Output *out) noexcept nogil:
    """How much may be written before the next look at the free space; 0 where it is below the floor.

    The nearer the floor, the sooner that is: a small disk must not be full between two looks.
    """
    cdef uint64_t free_bytes
    if out.allowance == 0:
        out.allowance = SPACE_CHECK_BYTES
        if _look_at_space(out, &free_bytes):
            if free_bytes < out.free_floor and out.retired_fd >= 0:
                await_retired(out)
                _look_at_space(out, &free_bytes)
            if free_bytes < out.free_floor:
                out.allowance = 0
            else:
                out.allowance = min(max((free_bytes - out.free_floor) // 4, SPACE_STEP), SPACE_CHECK_BYTES)
    return out.allowance


cdef bint _look_at_space(const Output *out, uint64_t *free_bytes) noexcept nogil:
    """The free space of the file's disk; whether it is known."""
    cdef c_statvfs fs
    if fstatvfs(out.fd, &fs) != 0:
        return False
    free_bytes[0] = <uint64_t>fs.f_bavail * fs.f_frsize
    return True


cdef bint _was_cut(Output *out, const Piece *piece) noexcept nogil:
    """Whether somebody has made the file shorter: what is written behind its end would leave a hole before it."""
    cdef c_stat status
    return fstat(out.fd, &status) == 0 and <uint64_t>status.st_size < piece.base + out.written


cdef void _fail(Output *out, int number) noexcept nogil:
    out.error = number
    out.broken = NO_SPACE if number == ENOSPC or number == EDQUOT else WRITE_FAILED


cdef void _write_cached(Output *out, const Piece *piece) noexcept nogil:
    """Write all through the page cache. On failure keep the errno and leave the file at a whole record."""
    cdef ssize_t n
    cdef size_t size
    cdef int64_t begun = now()
    cdef size_t start = out.written
    _set_direct(out, False)
    if _was_cut(out, piece):
        out.broken = FILE_CUT  # the records that are counted are not all there
        return
    while out.written < piece.used:
        size = min(piece.used - out.written, min(TURN, <size_t>_room(out)))
        if size == 0:
            out.broken = NO_SPACE
            break
        n = pwrite(out.fd, piece.data + out.written, size, <int64_t>(piece.base + out.written))
        if n < 0:
            if errno == EINTR:
                continue
            _fail(out, errno)
            break
        out.written += n
        out.allowance -= min(out.allowance, <uint64_t>n)
        if needs_processor(out.queue):
            sched_yield()
    _judge(&out.cached, out.written - start, now() - begun)
    if out.broken != RUNNING:
        _keep_whole_records(out, piece)
    else:
        _count(out, piece)


cdef bint _write_direct(Output *out, const Piece *piece) noexcept nogil:
    """Write the whole blocks to the disk; False where that did not work and the page cache must do."""
    cdef size_t start = out.written & ~<size_t>(BLOCK - 1)
    cdef size_t size = (piece.used & ~<size_t>(BLOCK - 1)) - start
    cdef int64_t begun = now()
    cdef ssize_t n
    if out.allowance < size:
        out.allowance = 0
    if _room(out) < size or _was_cut(out, piece):
        return False  # the page cache's write takes it in smaller pieces, or says what happened
    if not _set_direct(out, True):
        out.direct_from = NEVER
        return False
    n = pwrite(out.fd, piece.data + start, size, <int64_t>(piece.base + start))
    if n != <ssize_t>size:
        # Refused, interrupted or no space: the page cache's write finds out which, and copes with a short one.
        out.direct_from = NEVER
        return False
    _judge(&out.straight, size, now() - begun)
    if out.straight.speed < DIRECT_FLOOR and out.straight.speed > 0:
        out.direct_from = piece.base + start + size + DIRECT_PAUSE
        out.straight.speed = 0
    out.allowance -= size
    out.written = start + size
    _count(out, piece)
    return True


cdef bint _goes_direct(Output *out, const Piece *piece, bint pressed) noexcept nogil:
    """Whether this is worth a write to the disk itself."""
    if piece.used - out.written < DIRECT_MIN or piece.base + piece.used < out.direct_from:
        return False
    if not pressed or out.direct_from == NEVER:
        return out.direct_from != NEVER
    if out.straight.speed == 0 or out.cached.speed == 0:
        return out.straight.speed == 0
    return out.straight.speed >= out.cached.speed


cdef void _judge(Speed *way, size_t size, int64_t nanoseconds) noexcept nogil:
    """Note how fast a way of writing is, over TRIAL_NS of it."""
    way.trial_bytes += size
    way.trial_ns += nanoseconds
    if way.trial_ns >= TRIAL_NS:
        way.speed = way.trial_bytes * 1000 // <uint64_t>way.trial_ns + 1
        way.trial_bytes = 0
        way.trial_ns = 0


cdef bint _set_direct(Output *out, bint wanted) noexcept nogil:
    cdef int flags
    if out.direct == wanted:
        return True
    flags = fcntl(out.fd, F_GETFL)
    if fcntl(out.fd, F_SETFL, (flags | O_DIRECT) if wanted else (flags & ~O_DIRECT)) != 0:
        return False
    out.direct = wanted
    return True


cdef void _count(Output *out, const Piece *piece) noexcept nogil:
    """Count the records up to the marks that were reached."""
    cdef uint64_t place = piece.base + out.written
    if out.reached.place <= place:
        _take_mark(out, &out.reached)
    if piece.mark.place <= place:
        _take_mark(out, &piece.mark)
    out.reached = piece.mark


cdef void _take_mark(Output *out, const Mark *mark) noexcept nogil:
    if mark.packets < out.packets:
        return
    out.packets, out.wire_bytes, out.file_bytes = mark.packets, mark.wire, mark.place
    _note(out)


cdef void _note(Output *out) noexcept nogil:
    if out.noted != NULL:
        out.noted[0] = out.file_bytes


cdef void _keep_whole_records(Output *out, const Piece *piece) noexcept nogil:
    """Count the whole records that got out before a write failed, and cut the file after the last of them."""
    cdef size_t at = out.file_bytes - piece.base if out.file_bytes >= piece.base else 0
    cdef size_t size
    cdef word *record
    if out.file_bytes < piece.base and piece.first > 0:
        at = piece.first
        if out.written >= at:
            _whole(out, piece.crossing_wire, piece.base + at)
    while at + 16 <= out.written:
        record = <word *>(piece.data + at)
        size = record_size(out.pcapng, out.flagged, record[5] if out.pcapng else record[2])
        if at + size > out.written:
            break
        at += size
        _whole(out, record[6] if out.pcapng else record[3], piece.base + at)
    # If this fails as well the file has a torn last record; the write's own error is reported in any case.
    ftruncate(out.fd, <int64_t>out.file_bytes)
    _note(out)


cdef void _whole(Output *out, uint64_t wire, uint64_t place) noexcept nogil:
    out.packets += 1
    out.wire_bytes += wire
    out.file_bytes = place
