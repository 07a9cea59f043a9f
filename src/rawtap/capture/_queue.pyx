# cython: language_level=3, boundscheck=False, wraparound=False
"""What is between a capture's reader and its writer: records on their way to the files, in memory.

Theory of operation
-------------------
The reader alone appends, the writer alone takes away; a reader never waits for a disk, only for memory where all that was
granted is full. Records are laid out here as they will be in the files, each file's header before them, so the reader
decides where one file ends and the next begins, and the writer writes bytes.

*Pieces.* A `Piece` is a run of bytes of one file; they make a list. Its memory is a part of a `Chunk`. A record that does not
fit into what is left of a chunk goes on in the next one: whole chunks can then be written to the disk directly. The reader
fills its last piece without the lock, up to what it has handed over after each batch the writer may read.

*Memory* is taken as it is needed and given back when it was not for a while. A capture that keeps up has one chunk, which it
fills again from its beginning (`rewind`), so its bytes stay in the processor's caches. Pages are small on purpose: the first
touch of a huge one (MADV_HUGEPAGE) on a virtual machine may take milliseconds, longer than the kernel's ring can wait; a
burst onto a slow disk then lost a fifth instead of nothing. All captures together may have as much as is granted to one. What one may have is a multiple of what would be left (Choudhury and Hahne, "Dynamic queue
length thresholds", 1998): one that is flooded gets four fifths, and leaves enough for those that are not.

*Turns.* A writer that copies into the page cache needs the processor as the reader does, and where both have one, the kernel
gives each the half, in turns of milliseconds. So such a writer yields to a reader that has something to do, and while more than
BEHIND chunks wait in the source, it gives way altogether (`gives_way`). And to touch
memory for the first time takes longer than to copy it: where less than a chunk waits there, the reader gives the writer a
turn before it takes memory that it has not used yet (`_patience`). A writer that waits for a disk needs little, and gets it at once.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memmove, memset
from rawtap._clock cimport CLOCK_MONOTONIC, CLOCK_REALTIME, now, time_on, timespec
from rawtap.capture._account cimport __ATOMIC_RELAXED, __atomic_add_fetch, load


cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_condattr_t:
        pass
    int pthread_mutex_init(pthread_mutex_t *, void *)
    int pthread_condattr_init(pthread_condattr_t *)
    int pthread_condattr_setclock(pthread_condattr_t *, int)
    int pthread_condattr_destroy(pthread_condattr_t *)
    int pthread_cond_init(pthread_cond_t *, pthread_condattr_t *)
    int pthread_cond_signal(pthread_cond_t *)
    int pthread_cond_wait(pthread_cond_t *, pthread_mutex_t *)
    int pthread_cond_timedwait(pthread_cond_t *, pthread_mutex_t *, const timespec *)


cdef extern from "<sched.h>" nogil:
    int sched_getcpu()


cdef extern from "<sys/mman.h>" nogil:
    void *mmap(void *, size_t, int, int, int, int64_t)
    int munmap(void *, size_t)
    void *MAP_FAILED
    int PROT_READ
    int PROT_WRITE
    int MAP_PRIVATE
    int MAP_ANONYMOUS


cdef enum:
    FEW = 4                         # chunks that stay in a processor's caches
    BEHIND = 2                      # of them, in the source; the kernel's smallest ring holds four
    TURN_NS = 2_000_000             # that the reader gives to the writer, at the most
    SHARE = 4                       # of what is left, that one capture may have
    NEW_FILE_ROOM = 64 << 10        # of a chunk, that is worth beginning a file in it
    LOOK_NS = 20_000_000            # between two looks whether another capture has given memory back

cdef uint64_t _pool = 0             # bytes of all captures beyond their own chunks


cdef uint64_t pool_used() noexcept nogil:
    return load(&_pool)


cdef bint init(Queue *queue, uint32_t snaplen, bint pcapng) noexcept nogil:
    """Make an empty queue; whether there was memory for it."""
    cdef pthread_condattr_t attributes
    memset(queue, 0, sizeof(Queue))
    queue.snaplen = snaplen
    queue.pcapng = pcapng
    pthread_mutex_init(&queue.lock, NULL)
    pthread_condattr_init(&attributes)
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
    pthread_cond_init(&queue.more, &attributes)
    pthread_cond_init(&queue.room_made, &attributes)
    pthread_condattr_destroy(&attributes)
    while queue.chunks < OWN_CHUNKS:
        if not _new_chunk(queue):
            return False
    return True


cdef void release(Queue *queue) noexcept nogil:
    """Free what is held. The lock stays: others may ask about the account still."""
    cdef Piece *piece
    while queue.head != NULL:
        piece = queue.head
        queue.head = piece.next
        if piece.last_of_chunk or piece.next == NULL:
            _put_aside(queue, piece.chunk)
        free(piece)
    queue.tail = NULL
    while queue.spare != NULL:
        _free_chunk(queue)
    free(queue.header)
    free(queue.spanning)
    queue.header = queue.spanning = NULL


cdef bint start(Queue *queue, const unsigned char *header, size_t size, uint64_t max_bytes) noexcept nogil:
    """Begin the first file, which has its header already; False where the header is larger than any can be."""
    if size > CHUNK - BLOCK:
        return False
    queue.max_bytes = max_bytes
    queue.header = <unsigned char *>malloc(size)
    if queue.header == NULL:
        return False
    memcpy(queue.header, header, size)
    queue.header_size = size
    queue.file = 1
    _begin_piece(queue, <Piece *>calloc(1, sizeof(Piece)), _take_spare(queue), 0)
    _begin_header(queue)
    return True


# ---------------------------------------------------------------- the reader


cdef void fill(Queue *queue, Reason reason) noexcept nogil:
    """Take no more; of several reasons the first that is about the file stays."""
    if not queue.full:
        queue.full = True
        queue.reason = reason


cdef bint go_on(Queue *queue, size_t size) noexcept nogil:
    """A record of `size` bytes does not fit into the file: begin the next one of a ring; whether it can be appended.

    A record that is larger than a file may be has one of its own, and that grows.
    """
    if not queue.ring:
        fill(queue, MAX_BYTES)
    elif queue.base + queue.used > queue.header_size:
        _next_file(queue)
    return not queue.full


cdef void hand_over(Queue *queue) noexcept nogil:
    """Under the lock: let the writer have what was appended."""
    cdef Piece *piece = queue.tail
    queue.handed += queue.used - piece.used
    queue.most = max(queue.most, queue.handed - queue.taken)
    piece.used = queue.used
    piece.mark = queue.mark
    if queue.broken != RUNNING:
        fill(queue, queue.broken)
        queue.reason = queue.broken  # what happened to the file is what is told


cdef void rewind(Queue *queue, size_t *written) noexcept nogil:
    """Under the lock: fill the chunk again from its beginning where all of it is in the file; the last block stays."""
    cdef Piece *piece = queue.tail
    cdef size_t gone = queue.used & ~<size_t>(BLOCK - 1)
    if queue.head != piece or queue.writing or written[0] != queue.used or piece.used != queue.used or gone == 0:
        return
    memmove(piece.chunk.data, queue.data + gone, queue.used - gone)
    queue.data = piece.data = piece.chunk.data
    queue.room = CHUNK
    queue.base = piece.base = queue.base + gone
    queue.used = piece.used = piece.first = written[0] = queue.used - gone
    piece.crossing_wire = 0


cdef void span(Queue *queue, size_t size, uint64_t seconds, uint32_t nanoseconds, uint32_t kept, uint32_t length,
               const unsigned char *data, uint32_t interface, uint32_t direction) noexcept nogil:
    """Append a record that does not fit into the chunk: what does, and the rest into the next one."""
    cdef Chunk *chunk
    cdef Piece *piece
    cdef size_t head = queue.room - queue.used
    if queue.spanning == NULL:
        queue.spanning = <unsigned char *>malloc(CHUNK)
    if queue.spanning == NULL or not _next_memory(queue, &piece, &chunk, seconds, nanoseconds):
        queue.refused += 1
        return
    make_record(queue.spanning, queue, size, seconds, nanoseconds, kept, length, data, interface, direction)
    memcpy(queue.data + queue.used, queue.spanning, head)
    queue.used += head
    lock(queue)
    _finish_piece(queue, True)
    _begin_piece(queue, piece, chunk, queue.base + queue.room)
    memcpy(queue.data, queue.spanning + head, size - head)
    queue.used = size - head
    if head > 0:
        piece.first, piece.crossing_wire = queue.used, length
    unlock(queue)
    queue.mark.place = queue.base + queue.used
    queue.mark.packets += 1
    queue.mark.wire += length


cdef void _next_file(Queue *queue) noexcept nogil:
    cdef Chunk *chunk
    cdef Piece *piece
    cdef size_t start = (queue.used + BLOCK - 1) & ~<size_t>(BLOCK - 1)
    cdef bint here = queue.room >= start + NEW_FILE_ROOM + queue.header_size
    if here:
        chunk = queue.tail.chunk
        start += queue.data - chunk.data
        piece = <Piece *>calloc(1, sizeof(Piece))
        if piece == NULL:
            fill(queue, WRITE_FAILED)
            return
    elif not _next_memory(queue, &piece, &chunk, 0, 0):
        return
    lock(queue)
    _finish_piece(queue, not here)
    queue.file += 1
    _begin_piece(queue, piece, chunk, 0)
    if here:
        queue.data = piece.data = chunk.data + start
        queue.room = CHUNK - start
    _begin_header(queue)
    unlock(queue)


cdef int64_t _patience(Queue *queue, uint64_t seconds, uint32_t nanoseconds) noexcept nogil:
    """Under the lock: how long the source can wait, in nanoseconds, where a record of that time did not fit into its chunk.

    As long as the chunk took to come, if less than another one has come since; and note whether the reader is behind.
    """
    cdef int64_t moment = <int64_t>seconds * 1_000_000_000 + nanoseconds
    cdef int64_t took = moment - queue.spanned
    cdef int64_t age = time_on(CLOCK_REALTIME) - moment
    queue.spanned = moment
    queue.behind = age > BEHIND * took > 0 or (queue.behind and age > took)
    return min(took, TURN_NS) if 0 <= age < took else 0


cdef bint _next_memory(
    Queue *queue, Piece **piece, Chunk **chunk, uint64_t seconds, uint32_t nanoseconds
) noexcept nogil:
    """Memory for what comes next; waits for it where all is full, and first for used one as long as `_patience` says.

    The time is that of the record for which there was no room, 0 where a file begins. False where the writer takes no more.
    """
    cdef bint waited = False
    cdef int64_t until = 0
    piece[0] = <Piece *>calloc(1, sizeof(Piece))
    chunk[0] = NULL
    lock(queue)
    if seconds != 0:
        until = now() + _patience(queue, seconds, nanoseconds)
    while piece[0] != NULL and queue.broken == RUNNING:
        if queue.spare == NULL and queue.copies and queue.chunks >= FEW and now() < until:
            _wait(queue, &queue.room_made, until)
            continue
        if queue.spare != NULL or (_may_grow(queue) and _new_chunk(queue)):
            chunk[0] = _take_spare(queue)
            break
        if not waited:
            hand_over(queue)
            queue.behind = False  # only the writer can help now
            pthread_cond_signal(&queue.more)
            waited = True
        _wait(queue, &queue.room_made, now() + LOOK_NS)
    if chunk[0] == NULL:
        fill(queue, queue.broken if queue.broken != RUNNING else WRITE_FAILED)
        free(piece[0])
    unlock(queue)
    return chunk[0] != NULL


cdef void _finish_piece(Queue *queue, bint last_of_chunk) noexcept nogil:
    """Under the lock: the tail gets nothing more."""
    hand_over(queue)
    queue.tail.done = True
    queue.tail.last_of_chunk = last_of_chunk


cdef void _begin_piece(Queue *queue, Piece *piece, Chunk *chunk, uint64_t base) noexcept nogil:
    piece.chunk = chunk
    piece.file = queue.file
    piece.base = queue.base = base
    piece.data = queue.data = chunk.data
    piece.mark = queue.mark
    queue.room = CHUNK
    queue.used = 0
    if queue.tail == NULL:
        queue.head = piece
    else:
        queue.tail.next = piece
        pthread_cond_signal(&queue.more)
    queue.tail = piece


cdef void _begin_header(Queue *queue) noexcept nogil:
    """Every file has its header when it is made: these bytes are written again with what comes, or not at all."""
    memcpy(queue.data, queue.header, queue.header_size)
    queue.used = queue.tail.used = queue.tail.first = queue.header_size
    queue.mark.place = queue.tail.mark.place = queue.header_size


# ---------------------------------------------------------------- the writer


cdef void pop(Queue *queue) noexcept nogil:
    """Under the lock: the head is written."""
    cdef Piece *piece = queue.head
    queue.head = piece.next
    if piece.last_of_chunk:
        _put_aside(queue, piece.chunk)
        pthread_cond_signal(&queue.room_made)
    free(piece)


cdef void give_back_spare(Queue *queue) noexcept nogil:
    """Under the lock: give back what was not needed for a while."""
    while queue.spare != NULL and queue.chunks > OWN_CHUNKS:
        _free_chunk(queue)


cdef void wait_for_more(Queue *queue, int64_t until, uint64_t waiting) noexcept nogil:
    """Under the lock: wait until something happens, or for that moment, 0 for none; nothing is less than `waiting` bytes."""
    queue.wake_at = waiting
    if until == 0:
        pthread_cond_wait(&queue.more, &queue.lock)
    else:
        _wait(queue, &queue.more, until)


cdef void signal_more(Queue *queue, bint urgent) noexcept nogil:
    """Under the lock: wake the writer, if that is of use. A turn of its own costs more than to write what is in a batch."""
    if urgent or queue.handed - queue.taken >= queue.wake_at:
        pthread_cond_signal(&queue.more)


cdef bint needs_processor(const Queue *queue) noexcept nogil:
    """Whether the reader has something to do, on the processor that the caller has."""
    return load(&queue.reader_at) == <uint64_t>sched_getcpu() + 1


cdef bint gives_way(const Queue *queue) noexcept nogil:
    """Under the lock: whether the writer leaves the processor to the reader for longer; half of the memory is for that."""
    return (
        queue.behind and queue.copies and needs_processor(queue)
        and (queue.handed - queue.taken) * 2 < queue.granted
    )


cdef void _wait(Queue *queue, pthread_cond_t *condition, int64_t until) noexcept nogil:
    cdef timespec moment
    moment.tv_sec = until // 1_000_000_000
    moment.tv_nsec = until % 1_000_000_000
    pthread_cond_timedwait(condition, &queue.lock, &moment)


# ---------------------------------------------------------------- memory


cdef bint _may_grow(Queue *queue) noexcept nogil:
    cdef uint64_t all_ = load(&_pool) + CHUNK
    cdef uint64_t own
    if queue.chunks < OWN_CHUNKS:
        return True
    own = (queue.chunks - OWN_CHUNKS + 1) * CHUNK
    return all_ <= queue.granted and own <= SHARE * (queue.granted - all_)


cdef bint _new_chunk(Queue *queue) noexcept nogil:
    cdef Chunk *chunk = <Chunk *>malloc(sizeof(Chunk))
    cdef void *data
    if chunk == NULL:
        return False
    data = mmap(NULL, CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    if data == MAP_FAILED:
        free(chunk)
        return False
    chunk.data = <unsigned char *>data
    queue.chunks += 1
    if queue.chunks > OWN_CHUNKS:
        __atomic_add_fetch(&_pool, CHUNK, __ATOMIC_RELAXED)
    _put_aside(queue, chunk)
    return True


cdef void _free_chunk(Queue *queue) noexcept nogil:
    cdef Chunk *chunk = _take_spare(queue)
    if queue.chunks > OWN_CHUNKS:
        __atomic_add_fetch(&_pool, <uint64_t>-<int64_t>CHUNK, __ATOMIC_RELAXED)
    queue.chunks -= 1
    munmap(chunk.data, CHUNK)
    free(chunk)


cdef void _put_aside(Queue *queue, Chunk *chunk) noexcept nogil:
    chunk.next = queue.spare
    queue.spare = chunk
    queue.spare_chunks += 1


cdef Chunk *_take_spare(Queue *queue) noexcept nogil:
    cdef Chunk *chunk = queue.spare
    queue.spare = chunk.next
    queue.spare_chunks -= 1
    return chunk
