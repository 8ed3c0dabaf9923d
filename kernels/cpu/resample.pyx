"""Bindings of the resample kernels."""
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int64_t, uint8_t, uint64_t

from fastrec._core.isa import LEVEL
from fastrec._kernels import runtime

cdef extern from "pool.h" nogil:
    ctypedef void (*fr_task)(void *context, int64_t task, int worker) noexcept nogil
    ctypedef void (*fr_parallel_for_type)(fr_task fn, void *context, int64_t tasks, int threads)

cdef extern from "resample_types.h" nogil:
    const int FR_RESAMPLE_LANES
    ctypedef struct fr_resample_job:
        const double *values
        int64_t queries
        int64_t columns
        uint64_t seed
        int64_t first
        int64_t replicates
        double *sums
        uint8_t *counts
        double *totals

cdef extern from "resample_table.h" nogil:
    ctypedef struct fr_resample_functions:
        int (*fr_resample_level)() noexcept nogil
        void (*fr_resample_bootstrap)(const fr_resample_job *job, int64_t tile, int worker) noexcept nogil
        void (*fr_resample_sign_flip)(const fr_resample_job *job, int64_t tile, int worker) noexcept nogil
    const fr_resample_functions *fr_resample_table(int level)

cdef const fr_resample_functions *kernels = fr_resample_table(LEVEL)
cdef fr_parallel_for_type parallel_for = <fr_parallel_for_type>PyCapsule_GetPointer(
    runtime.parallel_for, b"fastrec.parallel_for"
)

LANES = FR_RESAMPLE_LANES


def level() -> int:
    """The instruction-set level these kernels were compiled for."""
    return kernels.fr_resample_level()


cdef void _bootstrap(void *context, int64_t task, int worker) noexcept nogil:
    kernels.fr_resample_bootstrap(<const fr_resample_job *>context, task, worker)


cdef void _sign_flip(void *context, int64_t task, int worker) noexcept nogil:
    kernels.fr_resample_sign_flip(<const fr_resample_job *>context, task, worker)


def bootstrap(
    const double[:, ::1] values, uint64_t seed, int64_t first, double[:, ::1] sums,
    uint8_t[::1] counts, double[::1] totals, int threads,
) -> None:
    """Fill ``sums`` (replicates, columns); scratch: counts queries * LANES and totals columns * LANES per thread."""
    cdef fr_resample_job job = _job(values, seed, first, sums, totals)
    if job.replicates == 0 or job.columns == 0 or job.queries == 0:
        sums[:, :] = 0.0
        return
    job.counts = &counts[0]
    with nogil:
        parallel_for(_bootstrap, &job, _tiles(job.replicates), threads)


def sign_flip(
    const double[:, ::1] values, uint64_t seed, int64_t first, double[:, ::1] sums, double[::1] totals, int threads,
) -> None:
    """Fill ``sums`` (replicates, columns); scratch: totals columns * LANES per thread."""
    cdef fr_resample_job job = _job(values, seed, first, sums, totals)
    if job.replicates == 0 or job.columns == 0 or job.queries == 0:
        sums[:, :] = 0.0
        return
    with nogil:
        parallel_for(_sign_flip, &job, _tiles(job.replicates), threads)


cdef int64_t _tiles(int64_t replicates) noexcept nogil:
    return (replicates + FR_RESAMPLE_LANES - 1) // FR_RESAMPLE_LANES


cdef fr_resample_job _job(
    const double[:, ::1] values, uint64_t seed, int64_t first, double[:, ::1] sums, double[::1] totals
):
    cdef fr_resample_job job
    job.queries = values.shape[0]
    job.columns = values.shape[1]
    job.seed = seed
    job.first = first
    job.replicates = sums.shape[0]
    job.values = NULL
    job.sums = NULL
    job.counts = NULL
    job.totals = NULL
    if job.queries and job.columns:
        job.values = &values[0, 0]
    if job.replicates and job.columns:
        job.sums = &sums[0, 0]
        job.totals = &totals[0]
    return job
