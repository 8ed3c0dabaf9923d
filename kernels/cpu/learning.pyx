"""Bindings of the learning kernels.

They check nothing: callers pass C-contiguous arrays of the stated types whose shapes agree.
"""
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int8_t, int32_t, int64_t, uint64_t

import numpy as np

from fastrec._core.isa import LEVEL
from fastrec._kernels import runtime

cdef extern from "pool.h" nogil:
    ctypedef void (*fr_task)(void *context, int64_t task, int worker) noexcept nogil
    ctypedef void (*fr_parallel_for_type)(fr_task fn, void *context, int64_t tasks, int threads) noexcept nogil

cdef extern from "learning_table.h" nogil:
    struct fr_samples:
        const void *values
        const int64_t *indptr
        const int32_t *indices
        int64_t rows, columns
        int wide
    struct fr_linear_forward:
        fr_samples x
        const double *parameters
        double *scores
        double *squares
        double extra
        int threads
        fr_parallel_for_type parallel_for
    struct fr_logistic_map:
        const double *scores
        const double *squares
        const double *weight
        const int8_t *target
        int64_t rows
        int kind, threads
        float *out32
        double *out64
        fr_parallel_for_type parallel_for
    struct fr_logistic_epoch:
        fr_samples x
        const int64_t *order
        const int8_t *target
        const double *weight
        const double *share
        double l2
        int64_t batches, slices, slice_rows
        int solver, intercept, threads
        double rate, rate_drop, beta1, beta2, epsilon, power1, power2
        double *parameters
        double *first
        double *second
        double *residuals
        double *gradient
        double *slice_losses
        double *slots
        int32_t *touched
        double loss
        fr_parallel_for_type parallel_for
    struct fr_select_rows:
        const void *scores
        const int32_t *groups
        int64_t rows, group_count
        int wide, smallest, threads
        int64_t *need
        uint64_t *prefix
        int64_t *histograms
        int64_t *chunk_counts
        int64_t *chunk_starts
        int64_t chunk, chunks
        int64_t *out
        fr_parallel_for_type parallel_for
    int FR_SELECT_BINS
    ctypedef struct fr_learning_functions:
        int (*fr_learning_level)() noexcept nogil
        void (*fr_linear_forward)(fr_linear_forward *) noexcept nogil
        void (*fr_logistic_map)(fr_logistic_map *) noexcept nogil
        void (*fr_logistic_epoch)(fr_logistic_epoch *) noexcept nogil
        void (*fr_shuffle)(int64_t *, int64_t, uint64_t) noexcept nogil
        void (*fr_select_rows)(fr_select_rows *) noexcept nogil
    const fr_learning_functions *fr_learning_table(int level)

cdef const fr_learning_functions *kernels = fr_learning_table(LEVEL)
cdef fr_parallel_for_type parallel_for = <fr_parallel_for_type>PyCapsule_GetPointer(
    runtime.parallel_for, b"fastrec.parallel_for"
)

SOLVERS = ("none", "sgd", "adam")
KINDS = ("probability", "loss", "residual", "error", "el2n", "norm")


def level() -> int:
    """The instruction-set level these kernels were compiled for."""
    return kernels.fr_learning_level()


cdef double *doubles(double[::1] view) noexcept:
    return &view[0] if view is not None and view.shape[0] > 0 else NULL


cdef const double *const_doubles(const double[::1] view) noexcept:
    return &view[0] if view is not None and view.shape[0] > 0 else NULL


cdef const int8_t *bytes_of(const int8_t[::1] view) noexcept:
    return &view[0] if view is not None and view.shape[0] > 0 else NULL


cdef class Samples:
    """A matrix of samples by features that kernels can read: dense, or CSR with sorted, unique columns.

    ``values`` is float32 or float64, flat; with ``indptr`` (int64) and ``indices`` (int32) it holds CSR's data.
    """
    cdef fr_samples x
    cdef object _values, _indptr, _indices

    def __init__(self, values, rows: int, columns: int, indptr=None, indices=None) -> None:
        cdef const float[::1] narrow
        cdef const double[::1] wide
        cdef const int64_t[::1] starts
        cdef const int32_t[::1] positions
        self._values, self._indptr, self._indices = values, indptr, indices
        self.x.rows = rows
        self.x.columns = columns
        self.x.wide = values.dtype == np.float64
        if self.x.wide:
            wide = values
            self.x.values = &wide[0] if wide.shape[0] else NULL
        else:
            narrow = values
            self.x.values = &narrow[0] if narrow.shape[0] else NULL
        if indptr is not None:
            starts = indptr
            positions = indices
            self.x.indptr = &starts[0]
            self.x.indices = &positions[0] if positions.shape[0] else NULL

    @property
    def rows(self) -> int:
        return self.x.rows

    @property
    def columns(self) -> int:
        return self.x.columns

    @property
    def sparse(self) -> bool:
        return self.x.indptr != NULL

    @property
    def stored(self) -> int:
        """Values stored: rows x columns, or CSR's entries."""
        return self._values.size


def linear_forward(
    Samples x, const double[::1] parameters, double[::1] scores, squares, double extra, int threads,
) -> None:
    """Fill ``scores`` with x . parameters[:-1] + parameters[-1], and ``squares`` (or None) with |x|^2 + extra."""
    cdef fr_linear_forward a
    if x.x.rows == 0:
        return
    a.x = x.x
    a.parameters = &parameters[0]
    a.scores = &scores[0]
    a.squares = doubles(squares)
    a.extra = extra
    a.threads = threads
    a.parallel_for = parallel_for
    with nogil:
        kernels.fr_linear_forward(&a)


def logistic_map(kind: str, const double[::1] scores, target, squares, weight, out, int threads) -> None:
    """Fill ``out`` (float32 or float64) with a function of each score, see ``fr_logistic_kind``."""
    cdef fr_logistic_map a
    cdef float[::1] out32
    cdef double[::1] out64
    if scores.shape[0] == 0:
        return
    a.kind = KINDS.index(kind)
    a.scores = &scores[0]
    a.target = bytes_of(target)
    a.squares = const_doubles(squares)
    a.weight = const_doubles(weight)
    a.rows = scores.shape[0]
    a.threads = threads
    a.out32 = NULL
    a.out64 = NULL
    if out.dtype == np.float32:
        out32 = out
        a.out32 = &out32[0]
    else:
        out64 = out
        a.out64 = &out64[0]
    a.parallel_for = parallel_for
    with nogil:
        kernels.fr_logistic_map(&a)


def logistic_epoch(
    Samples x, order, const int8_t[::1] target, weight, share, *, double l2, int64_t batches,
    int64_t slices, int64_t slice_rows, str solver, bint intercept, double rate, double rate_drop, double beta1,
    double beta2, double epsilon, double power1, double power2, double[::1] parameters, first, second, residuals,
    double[::1] gradient, double[::1] slice_losses, slots, touched, int threads,
) -> tuple[float, float, float]:
    """One pass of mini-batch steps, in place; returns (loss, beta1^t, beta2^t). See ``fr_logistic_epoch``."""
    cdef fr_logistic_epoch a
    cdef const int64_t[::1] rows = order
    cdef int32_t[::1] columns = touched
    a.x = x.x
    a.order = &rows[0] if rows is not None and rows.shape[0] else NULL
    a.target = bytes_of(target)
    a.weight = const_doubles(weight)
    a.share = const_doubles(share)
    a.l2 = l2
    a.batches = batches
    a.slices = slices
    a.slice_rows = slice_rows
    a.solver = SOLVERS.index(solver)
    a.intercept = intercept
    a.rate = rate
    a.rate_drop = rate_drop
    a.beta1 = beta1
    a.beta2 = beta2
    a.epsilon = epsilon
    a.power1 = power1
    a.power2 = power2
    a.parameters = &parameters[0]
    a.first = doubles(first)
    a.second = doubles(second)
    a.residuals = doubles(residuals)
    a.gradient = &gradient[0]
    a.slice_losses = &slice_losses[0]
    a.slots = doubles(slots)
    a.touched = &columns[0] if columns is not None and columns.shape[0] else NULL
    a.loss = 0.0
    a.threads = threads
    a.parallel_for = parallel_for
    with nogil:
        kernels.fr_logistic_epoch(&a)
    return a.loss, a.power1, a.power2


def shuffle(int64_t[::1] order, uint64_t seed) -> None:
    """Fill ``order`` with a permutation of 0..n-1 that depends on ``seed`` alone."""
    if order.shape[0]:
        with nogil:
            kernels.fr_shuffle(&order[0], order.shape[0], seed)


def select_rows(scores, groups, need, bint smallest, int64_t[::1] out, int threads) -> None:
    """Fill ``out`` with the best ``need[g]`` rows of every group, ascending; see ``fr_select_rows``."""
    cdef fr_select_rows a
    cdef const float[::1] narrow
    cdef const double[::1] wide
    cdef const int32_t[::1] labels = groups
    cdef int64_t[::1] wanted = np.array(need, dtype=np.int64)
    cdef int64_t n = scores.shape[0], group_count = wanted.shape[0]
    if n == 0 or out.shape[0] == 0:
        return
    a.wide = scores.dtype == np.float64
    if a.wide:
        wide = scores
        a.scores = &wide[0]
    else:
        narrow = scores
        a.scores = &narrow[0]
    a.groups = &labels[0] if labels is not None else NULL
    a.rows = n
    a.group_count = group_count
    a.smallest = smallest
    a.chunk = max(65536, (n + 255) // 256)
    a.chunks = (n + a.chunk - 1) // a.chunk
    a.threads = min(threads, a.chunks)
    cdef uint64_t[::1] prefix = np.empty(group_count, np.uint64)
    cdef int64_t[::1] histograms = np.empty(a.threads * group_count * FR_SELECT_BINS, np.int64)
    cdef int64_t[::1] chunk_counts = np.empty(a.chunks * group_count * 2, np.int64)
    cdef int64_t[::1] chunk_starts = np.empty(a.chunks + 1, np.int64)
    a.need = &wanted[0]
    a.prefix = &prefix[0]
    a.histograms = &histograms[0]
    a.chunk_counts = &chunk_counts[0]
    a.chunk_starts = &chunk_starts[0]
    a.out = &out[0]
    a.parallel_for = parallel_for
    with nogil:
        kernels.fr_select_rows(&a)
