from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy
from rawtap._words cimport word

cdef extern from * nogil:
    """
    /* An option's code and its length, 16 bits each: epb_flags. */
    #define FLAGS_OPTION (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? 0x00040002u : 0x00020004u)
    """
    uint32_t FLAGS_OPTION

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass
    int pthread_mutex_lock(pthread_mutex_t *)
    int pthread_mutex_unlock(pthread_mutex_t *)

cdef enum Reason:
    RUNNING
    STOPPED
    MAX_BYTES
    MAX_PACKETS
    MAX_SECONDS
    NO_SPACE
    WRITE_FAILED
    PCAP_FAILED
    SOURCE_ENDED
    INTERFACE_REMOVED
    FILE_CUT

cdef enum:
    BLOCK = 4096                # what direct I/O is aligned to: memory, offset and length
    CHUNK = 252 * BLOCK         # bytes of memory that are taken, given back and written at once: more than the largest
                                # record, and no more blocks than a virtual disk takes in one request (254, virtio_blk)
    OWN_CHUNKS = 2              # that a capture has whatever the others take
    FLAGS_BYTES = 12            # epb_flags and the end of the options, draft-ietf-opsawg-pcapng, 4.3.1

cdef struct Chunk:
    Chunk *next
    unsigned char *data

cdef struct Mark:               # a place in the stream of records at which one ends
    uint64_t place              # in its file
    uint64_t packets            # records of the whole capture up to there
    uint64_t wire               # and their length on the wire

cdef struct Piece:
    # Consecutive bytes of one file. The reader fills the last of them, the writer writes the first.
    Piece *next
    Chunk *chunk                # where its bytes are
    bint last_of_chunk          # the chunk is free when this is written
    bint done                   # nothing more comes
    unsigned char *data
    uint64_t file               # number of the file, from 1
    uint64_t base               # place in it of data[0], a multiple of BLOCK
    size_t used                 # bytes that the writer may write
    size_t first                # where the first record begins
    uint64_t crossing_wire      # length on the wire of the record that ends there and began in the piece before; 0: none
    Mark mark                   # the last record that ends by `used`

cdef struct Queue:
    # The reader's.
    unsigned char *data
    size_t used
    size_t room                 # of `data`
    uint64_t base
    Mark mark
    uint64_t refused            # records that came when a limit was reached
    int64_t spanned             # when the last record came that did not fit into its chunk, by the source's clock
    uint64_t max_bytes          # of one file, what is written behind the packets apart
    uint64_t max_packets
    uint64_t file
    unsigned char *header       # of each file
    size_t header_size
    unsigned char *spanning     # a record on its way into two chunks
    uint32_t snaplen
    bint pcapng
    bint flagged                # records of pcapng say in which direction a frame went
    bint ring                   # another file follows a full one
    bint full                   # takes no more records
    Reason reason
    # Under the lock.
    pthread_mutex_t lock
    pthread_cond_t more         # something was handed over
    pthread_cond_t room_made
    Piece *head
    Piece *tail
    Chunk *spare
    uint64_t chunks             # all, the spare ones included
    uint64_t spare_chunks
    uint64_t granted            # bytes
    uint64_t handed             # bytes handed over so far
    uint64_t taken              # of them written, or given up
    uint64_t most               # that waited at once
    uint64_t wake_at            # so many are waiting when the writer wants to be woken
    bint writing                # the writer is at the head
    bint copies                 # it writes through the page cache, which takes the processor and no disk
    bint behind                 # the reader is: some chunks wait in its source
    bint over                   # nothing more will be handed over
    Reason broken               # why the writer takes no more; RUNNING while it does
    # The writer's as well, without the lock.
    uint64_t reader_at          # the processor on which the reader began its batch, and 1; 0 between two batches

cdef bint init(Queue *queue, uint32_t snaplen, bint pcapng) noexcept nogil
cdef void release(Queue *queue) noexcept nogil
cdef bint start(Queue *queue, const unsigned char *header, size_t size, uint64_t max_bytes) noexcept nogil
cdef void fill(Queue *queue, Reason reason) noexcept nogil
cdef bint go_on(Queue *queue, size_t size) noexcept nogil
cdef void hand_over(Queue *queue) noexcept nogil
cdef void rewind(Queue *queue, size_t *written) noexcept nogil
cdef void pop(Queue *queue) noexcept nogil
cdef void give_back_spare(Queue *queue) noexcept nogil
cdef void wait_for_more(Queue *queue, int64_t until, uint64_t waiting) noexcept nogil
cdef void signal_more(Queue *queue, bint urgent) noexcept nogil
cdef bint needs_processor(const Queue *queue) noexcept nogil
cdef bint gives_way(const Queue *queue) noexcept nogil
cdef void span(Queue *queue, size_t size, uint64_t seconds, uint32_t nanoseconds, uint32_t kept, uint32_t length,
               const unsigned char *data, uint32_t interface, uint32_t direction) noexcept nogil
cdef uint64_t pool_used() noexcept nogil


cdef inline void lock(Queue *queue) noexcept nogil:
    pthread_mutex_lock(&queue.lock)


cdef inline void unlock(Queue *queue) noexcept nogil:
    pthread_mutex_unlock(&queue.lock)


cdef inline size_t record_size(bint pcapng, bint flagged, uint32_t kept) noexcept nogil:
    """Bytes of a record in the file: pcap-savefile(5), or pcapng's Enhanced Packet Block."""
    if pcapng:
        return 32 + ((kept + 3) & ~<uint32_t>3) + (FLAGS_BYTES if flagged else 0)
    return 16 + kept


cdef inline bint fits(const Queue *queue, size_t size) noexcept nogil:
    """Whether a record of `size` bytes fits into the file."""
    return queue.base + queue.used + size <= queue.max_bytes


cdef inline void make_record(
    unsigned char *at, const Queue *queue, size_t size, uint64_t seconds, uint32_t nanoseconds, uint32_t kept,
    uint32_t length, const unsigned char *data, uint32_t interface, uint32_t direction,
) noexcept nogil:
    cdef word *record = <word *>at
    cdef uint64_t moment
    cdef size_t behind
    if queue.pcapng:
        moment = seconds * 1_000_000_000 + nanoseconds
        behind = size // 4 - 1 - (FLAGS_BYTES // 4 if queue.flagged else 0)
        record[behind - 1] = 0  # the padding; what is none of it is written over
        record[0] = 6  # Enhanced Packet Block
        record[1] = <uint32_t>size
        record[2] = interface
        record[3] = <uint32_t>(moment >> 32)
        record[4] = <uint32_t>moment
        record[5] = kept
        record[6] = length
        memcpy(record + 7, data, kept)
        if queue.flagged:
            record[behind] = FLAGS_OPTION
            record[behind + 1] = direction
            record[behind + 2] = 0
        record[size // 4 - 1] = <uint32_t>size
    else:
        record[0] = <uint32_t>seconds  # the format's own end, in 2106
        record[1] = nanoseconds
        record[2] = kept
        record[3] = length
        memcpy(record + 4, data, kept)


cdef inline void append(
    Queue *queue, size_t size, uint64_t seconds, uint32_t nanoseconds, uint32_t kept, uint32_t length,
    const unsigned char *data, uint32_t interface=0, uint32_t direction=0,
) noexcept nogil:
    """Put one record of `size` bytes, as `record_size` gave it, into the queue. The hot path.

    What pcapng alone says: the number of the interface in the file, and the direction (0 unknown, 1 inbound, 2 outbound).
    """
    if queue.used + size > queue.room:
        span(queue, size, seconds, nanoseconds, kept, length, data, interface, direction)
        return
    make_record(
        queue.data + queue.used, queue, size, seconds, nanoseconds, kept, length, data, interface, direction
    )
    queue.used += size
    queue.mark.place = queue.base + queue.used
    queue.mark.packets += 1
    queue.mark.wire += length
