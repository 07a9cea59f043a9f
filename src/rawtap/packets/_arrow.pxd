# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Columns as Arrow has them in memory, and the structs by which they are handed over without a library.

Sources: the Arrow C data interface and the Arrow C stream interface (arrow.apache.org/docs/format).
"""

from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memset


cdef extern from * nogil:
    """
    #ifndef ARROW_C_DATA_INTERFACE
    #define ARROW_C_DATA_INTERFACE
    #include <stdint.h>
    struct ArrowSchema {
      const char *format, *name, *metadata;
      int64_t flags, n_children;
      struct ArrowSchema **children, *dictionary;
      void (*release)(struct ArrowSchema *);
      void *private_data;
    };
    struct ArrowArray {
      int64_t length, null_count, offset, n_buffers, n_children;
      const void **buffers;
      struct ArrowArray **children, *dictionary;
      void (*release)(struct ArrowArray *);
      void *private_data;
    };
    struct ArrowArrayStream {
      int (*get_schema)(struct ArrowArrayStream *, struct ArrowSchema *);
      int (*get_next)(struct ArrowArrayStream *, struct ArrowArray *);
      const char *(*get_last_error)(struct ArrowArrayStream *);
      void (*release)(struct ArrowArrayStream *);
      void *private_data;
    };
    #endif
    static const uint64_t rawtap_nothing[(1 << 13) + 1];   /* what a column without values has in all its buffers */
    """
    const void *NOTHING "((const void *)rawtap_nothing)"
    cdef struct ArrowSchema:
        const char *format
        const char *name
        const char *metadata
        int64_t flags
        int64_t n_children
        ArrowSchema **children
        ArrowSchema *dictionary
        void (*release)(ArrowSchema *) noexcept nogil
        void *private_data
    cdef struct ArrowArray:
        int64_t length
        int64_t null_count
        int64_t offset
        int64_t n_buffers
        int64_t n_children
        const void **buffers
        ArrowArray **children
        ArrowArray *dictionary
        void (*release)(ArrowArray *) noexcept nogil
        void *private_data
    cdef struct ArrowArrayStream:
        int (*get_schema)(ArrowArrayStream *, ArrowSchema *) noexcept
        int (*get_next)(ArrowArrayStream *, ArrowArray *) noexcept nogil
        const char *(*get_last_error)(ArrowArrayStream *) noexcept nogil
        void (*release)(ArrowArrayStream *) noexcept
        void *private_data

cdef enum:
    ROWS = 1 << 13              # of a batch; a multiple of 8
    NULLABLE = 2                # ARROW_FLAG_NULLABLE

cdef struct Column:             # of a batch that is being filled
    char format                 # Arrow's letter: i, l, g, b, u or z
    uint8_t *validity           # a bit for each row
    uint8_t *values             # or the bytes of all texts
    int32_t *offsets            # where a row's text begins in them
    int64_t room                # of values, in bytes
    int64_t nulls
    bint wanted                 # else all its rows are null


cdef inline bint begin_column(Column *column) noexcept nogil:
    """Make room for a batch, in which all rows are null so far."""
    if not column.wanted:
        return True
    column.room = ROWS * 8
    column.nulls = 0
    column.validity = <uint8_t *>calloc(ROWS // 8, 1)
    column.values = <uint8_t *>calloc(column.room, 1)
    column.offsets = NULL
    if column.format == c"u" or column.format == c"z":
        column.offsets = <int32_t *>malloc((ROWS + 1) * sizeof(int32_t))
        if column.offsets != NULL:
            column.offsets[0] = 0
        return column.validity != NULL and column.values != NULL and column.offsets != NULL
    return column.validity != NULL and column.values != NULL


cdef inline void drop_column(Column *column) noexcept nogil:
    free(column.validity)
    free(column.values)
    free(column.offsets)
    column.validity = column.values = NULL
    column.offsets = NULL


cdef inline void put_null(Column *column, int64_t row) noexcept nogil:
    column.nulls += 1
    if column.offsets != NULL:
        column.offsets[row + 1] = column.offsets[row]


cdef inline void put_number(Column *column, int64_t row, int64_t value) noexcept nogil:
    """A whole number, or a truth; -1 stands for none."""
    if value < 0:
        put_null(column, row)
        return
    column.validity[row >> 3] |= 1 << (row & 7)
    if column.format == c"i":
        (<int32_t *>column.values)[row] = <int32_t>value
    elif column.format == c"l":
        (<int64_t *>column.values)[row] = value
    elif value:
        column.values[row >> 3] |= 1 << (row & 7)


cdef inline void put_real(Column *column, int64_t row, double value) noexcept nogil:
    column.validity[row >> 3] |= 1 << (row & 7)
    (<double *>column.values)[row] = value


cdef inline uint8_t *room_for(Column *column, int64_t row, int64_t size) noexcept nogil:
    """Where a text of at most `size` bytes is to be written; NULL for want of memory. `put_size` says how long it is."""
    cdef int64_t wanted = column.offsets[row] + size
    cdef uint8_t *more
    if wanted > column.room:
        more = <uint8_t *>realloc(column.values, wanted * 2)
        if more == NULL or wanted > 0x7FFFFFFF:
            column.values = more if more != NULL else column.values
            return NULL
        column.values, column.room = more, wanted * 2
    return column.values + column.offsets[row]


cdef inline void put_size(Column *column, int64_t row, int64_t size) noexcept nogil:
    column.validity[row >> 3] |= 1 << (row & 7)
    column.offsets[row + 1] = <int32_t>(column.offsets[row] + size)


cdef inline bint put_text(Column *column, int64_t row, const void *text, int64_t size) noexcept nogil:
    """Whether there is memory for it."""
    cdef uint8_t *at = room_for(column, row, size)
    if at == NULL:
        return False
    memcpy(at, text, size)
    put_size(column, row, size)
    return True


cdef inline bint end_column(Column *column, int64_t rows, ArrowArray *to) noexcept nogil:
    """Hand a column over; what is in it is the array's from now on."""
    cdef int buffers = 3 if column.format == c"u" or column.format == c"z" else 2
    memset(to, 0, sizeof(ArrowArray))
    to.buffers = <const void **>calloc(3, sizeof(void *))
    if to.buffers == NULL:
        return False
    to.release = _release_column
    to.length, to.null_count, to.n_buffers = rows, column.nulls, buffers
    if not column.wanted:
        to.null_count = rows
        to.buffers[0] = to.buffers[1] = to.buffers[2] = NOTHING
        to.private_data = <void *>NOTHING
        return True
    to.buffers[0] = column.validity
    to.buffers[1] = <const void *>column.offsets if column.offsets != NULL else <const void *>column.values
    if column.offsets != NULL:
        to.buffers[2] = column.values
    column.validity = column.values = NULL
    column.offsets = NULL
    return True


cdef inline void _release_column(ArrowArray *array) noexcept nogil:
    cdef int64_t each
    for each in range(array.n_buffers):
        if array.private_data == NULL:
            free(<void *>array.buffers[each])
    free(array.buffers)
    array.release = NULL


cdef inline bint begin_rows(ArrowArray *to, int64_t count) noexcept nogil:
    """A batch with room for that many columns."""
    cdef int64_t each
    memset(to, 0, sizeof(ArrowArray))
    to.buffers = <const void **>calloc(1, sizeof(void *))
    to.children = <ArrowArray **>calloc(count, sizeof(ArrowArray *))
    to.n_buffers, to.n_children = 1, count
    to.release = release_rows
    if to.buffers == NULL or to.children == NULL:
        to.n_children = 0
        return False
    for each in range(count):
        to.children[each] = <ArrowArray *>calloc(1, sizeof(ArrowArray))
        if to.children[each] == NULL:
            return False
    return True


cdef inline void release_rows(ArrowArray *array) noexcept nogil:
    cdef int64_t each
    for each in range(array.n_children):
        if array.children[each] != NULL and array.children[each].release != NULL:
            array.children[each].release(array.children[each])
        free(array.children[each])
    free(array.children)
    free(array.buffers)
    array.release = NULL
