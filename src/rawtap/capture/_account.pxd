"""What a capture's worker tells other threads, as one consistent snapshot: a sequence lock of 64-bit words.

One thread at a time writes, never waits for a reader, and does so once a batch, not once a packet. A reader copies the words
and begins again where the sequence number was odd (the worker was writing) or has changed meanwhile. All words that two
threads touch are atomic; the fences keep them between the two looks at the number (the C11 memory model; GCC's
__atomic built-ins). A struct is shared by this if it has nothing but 64-bit words.
"""

from libc.stdint cimport uint64_t


cdef extern from * nogil:
    int __ATOMIC_RELAXED
    int __ATOMIC_ACQUIRE
    int __ATOMIC_RELEASE
    uint64_t __atomic_load_n(const uint64_t *, int)
    void __atomic_store_n(uint64_t *, uint64_t, int)
    uint64_t __atomic_add_fetch(uint64_t *, uint64_t, int)
    void __atomic_thread_fence(int)


cdef struct Counts:
    # Of every frame that the capture was given: seen = filtered + saved + dropped + refused + in_flight.
    uint64_t seen
    uint64_t filtered           # that the worker's own filter did not select
    uint64_t saved              # whole in the files, those included that a ring has removed again
    uint64_t dropped            # that the kernel had no room for
    uint64_t refused            # that came when a limit was reached, or that the disk did not take
    uint64_t in_flight          # in the kernel's ring, or in the queue
    uint64_t from_guest         # of the seen, where a guest is known
    uint64_t dropped_interface  # lost before the capture could see them: in none of the above
    uint64_t stats_failed       # errno or 1 where the kernel's counters could not be read, else 0
    uint64_t wire_bytes         # of the saved ones
    uint64_t file_bytes         # where the newest file's last whole record ends
    uint64_t files              # begun
    uint64_t reason             # why it ended, RUNNING while it does not
    uint64_t error              # errno of the first failed write
    uint64_t granted            # bytes of memory that may be between the kernel's ring and the files
    uint64_t queued_most        # of them were in use at once
    uint64_t answered           # the last question that was answered, and where the worker was when it heard it:
    uint64_t asked_files
    uint64_t asked_file_bytes
    uint64_t asked_saved
    uint64_t promised           # packets that are in the files when it is answered


cdef inline uint64_t load(const uint64_t *word) noexcept nogil:
    """A word that another thread writes."""
    return __atomic_load_n(word, __ATOMIC_ACQUIRE)


cdef inline void store(uint64_t *word, uint64_t value) noexcept nogil:
    """A word that another thread reads."""
    __atomic_store_n(word, value, __ATOMIC_RELEASE)


cdef inline void publish(uint64_t *turn, uint64_t *shared, const uint64_t *own, size_t size) noexcept nogil:
    """Make the `size` bytes of `own` what readers find in `shared`. One thread at a time may call this."""
    cdef uint64_t before = __atomic_load_n(turn, __ATOMIC_RELAXED)
    cdef size_t word
    __atomic_store_n(turn, before + 1, __ATOMIC_RELAXED)
    __atomic_thread_fence(__ATOMIC_RELEASE)
    for word in range(size // sizeof(uint64_t)):
        __atomic_store_n(shared + word, own[word], __ATOMIC_RELAXED)
    __atomic_store_n(turn, before + 2, __ATOMIC_RELEASE)


cdef inline void consult(const uint64_t *turn, const uint64_t *shared, uint64_t *into, size_t size) noexcept nogil:
    """Copy what was published last; any thread may call this, and waits for a few hundred nanoseconds at most."""
    cdef uint64_t before
    cdef size_t word
    while True:
        before = __atomic_load_n(turn, __ATOMIC_ACQUIRE)
        if before % 2 == 0:
            for word in range(size // sizeof(uint64_t)):
                into[word] = __atomic_load_n(shared + word, __ATOMIC_RELAXED)
            __atomic_thread_fence(__ATOMIC_ACQUIRE)
            if __atomic_load_n(turn, __ATOMIC_RELAXED) == before:
                return
