"""Bindings of the catalogue kernels.  Arrays are contiguous and checked by the caller."""
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t

from fastrec._core.isa import LEVEL
from fastrec._kernels import runtime

cdef extern from "pool.h" nogil:
    ctypedef void (*fr_task)(void *context, int64_t task, int worker) noexcept nogil
    ctypedef void (*fr_parallel_for_type)(fr_task fn, void *context, int64_t tasks, int threads) noexcept nogil

cdef extern from "catalog_table.h" nogil:
    ctypedef struct fr_catalog_report:
        int64_t bad
        int64_t duplicate
        int64_t listed
    ctypedef struct fr_catalog_functions:
        void (*fr_catalog_count)(const void *, int, int64_t, int64_t, int64_t, int64_t, int64_t, uint32_t *, int64_t *,
                                 int32_t *, fr_catalog_report *) noexcept nogil
        void (*fr_catalog_similarity)(const void *, int, int64_t, int64_t, int64_t, int64_t, const double *, int64_t,
                                      double *, double *) noexcept nogil
    const fr_catalog_functions *fr_catalog_table(int level)

cdef const fr_catalog_functions *kernels = fr_catalog_table(LEVEL)
cdef fr_parallel_for_type parallel_for = <fr_parallel_for_type>PyCapsule_GetPointer(
    runtime.parallel_for, b"fastrec.parallel_for")

cdef enum:
    LISTS = 1024     # lists of a task

cdef struct Lists:
    const void *ids
    int wide
    int64_t lists
    int64_t width
    int64_t k
    int64_t items
    uint32_t *stamps
    int64_t *counts
    int32_t *lengths
    fr_catalog_report *reports
    const double *units
    int64_t dims
    double *sums
    double *similarity

cdef void _count(void *context, int64_t task, int worker) noexcept nogil:
    cdef Lists *lists = <Lists *>context
    kernels.fr_catalog_count(lists.ids, lists.wide, lists.width, lists.k, task * LISTS,
                             min((task + 1) * LISTS, lists.lists), lists.items, lists.stamps + worker * lists.items,
                             lists.counts + worker * lists.items, lists.lengths, &lists.reports[task])

cdef void _similarity(void *context, int64_t task, int worker) noexcept nogil:
    cdef Lists *lists = <Lists *>context
    kernels.fr_catalog_similarity(lists.ids, lists.wide, lists.width, lists.k, task * LISTS,
                                  min((task + 1) * LISTS, lists.lists), lists.units, lists.dims,
                                  lists.sums + worker * lists.dims, lists.similarity)


def tasks(int64_t lists) -> int:
    """How many chunks, each with a report of its own, `lists` are cut into."""
    return (lists + LISTS - 1) // LISTS


def count(const uint8_t[::1] bytes_of_ids, bint wide, int64_t width, int64_t k, uint32_t[:, ::1] stamps,
          int64_t[:, ::1] counts, int32_t[::1] lengths, int64_t[:, ::1] reports, int threads) -> None:
    """Add to counts[worker, item] each time one of the first k ids of a list (int32, or int64 if `wide`) names it.

    `stamps` is scratch of the shape of `counts`, zeros; `reports` gets (bad, duplicate, listed) a chunk.
    """
    cdef Lists lists
    lists.ids, lists.wide, lists.lists = <const void *>&bytes_of_ids[0], wide, lengths.shape[0]
    lists.width, lists.k, lists.items = width, k, counts.shape[1]
    lists.stamps, lists.counts, lists.lengths = &stamps[0, 0], &counts[0, 0], &lengths[0]
    lists.reports = <fr_catalog_report *>&reports[0, 0]
    with nogil:
        parallel_for(_count, &lists, (lists.lists + LISTS - 1) // LISTS, threads)


def similarity(const uint8_t[::1] bytes_of_ids, bint wide, int64_t width, int64_t k, const double[:, ::1] units,
               double[:, ::1] sums, double[::1] out, int threads) -> None:
    """The mean product over pairs of a list's unit vectors; NaN below two items.  `sums` is (threads, dims) scratch."""
    cdef Lists lists
    lists.ids, lists.wide, lists.lists = <const void *>&bytes_of_ids[0], wide, out.shape[0]
    lists.width, lists.k = width, k
    lists.units, lists.dims, lists.sums, lists.similarity = &units[0, 0], units.shape[1], &sums[0, 0], &out[0]
    with nogil:
        parallel_for(_similarity, &lists, (lists.lists + LISTS - 1) // LISTS, threads)
