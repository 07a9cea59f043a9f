from libc.stdint cimport int64_t, uint64_t
from rawtap.capture._queue cimport Mark, Piece, Queue, Reason

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_t:
        pass

cdef struct Speed:              # of one way of writing
    uint64_t trial_bytes
    int64_t trial_ns
    uint64_t speed              # bytes in a microsecond, 0 where it is not known

cdef struct Output:
    const Queue *queue          # that is written
    int fd
    uint64_t files              # begun
    size_t written              # bytes of the queue's first piece that are in the file
    Mark reached                # handed over by then; counted when it is passed
    uint64_t packets            # whole records in the files
    uint64_t wire_bytes         # and their length on the wire
    uint64_t file_bytes         # where the file's last whole record ends
    uint64_t *noted             # where `file_bytes` is noted for the trimmer, or NULL
    uint64_t free_floor
    uint64_t allowance          # bytes that may be written before the free space is looked at again
    Speed straight
    Speed cached
    uint64_t direct_from        # direct I/O may be tried from this place in the file on
    bint pcapng
    bint flagged                # records of pcapng say in which direction a frame went
    bint direct                 # O_DIRECT is on
    int64_t unwritten_since     # since when something waits for more; 0: nothing does
    int retired_fd              # a removed file that is being given back, by
    pthread_t retiring          # this thread
    Reason broken               # why it takes no more; RUNNING while it does
    int error                   # errno of the first failed write

cdef void init(Output *out, const Queue *queue, bint pcapng) noexcept nogil
cdef void attach(Output *out, int fd, size_t size) noexcept nogil
cdef int64_t due(Output *out, const Piece *piece, bint urgent) noexcept nogil
cdef void write_piece(Output *out, const Piece *piece, bint pressed) noexcept nogil
cdef void append_bytes(Output *out, const unsigned char *data, size_t size) noexcept nogil
cdef void retire(Output *out, int fd) noexcept nogil
cdef void await_retired(Output *out) noexcept nogil
