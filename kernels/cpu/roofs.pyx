"""What this machine can do at most: runs the kernels of roofs.isa.cpp on every thread; the caller holds the watch."""
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int64_t, uint64_t

from fastrec._core.isa import LEVEL
from fastrec._kernels import runtime

cdef extern from "pool.h" nogil:
    ctypedef void (*fr_task)(void *context, int64_t task, int worker) noexcept nogil
    ctypedef void (*fr_parallel_for_type)(fr_task fn, void *context, int64_t tasks, int threads) noexcept nogil

cdef extern from "roofs_table.h" nogil:
    int FR_LINE_WORDS
    int FR_ROW_WORDS
    ctypedef struct fr_roofs_functions:
        int (*fr_roofs_level)() noexcept nogil
        int64_t (*fr_fp32_peak)(int64_t steps, uint64_t *sink) noexcept nogil
        int64_t (*fr_int8_peak)(int64_t steps, uint64_t *sink) noexcept nogil
        int64_t (*fr_read_all)(const uint64_t *data, int64_t lines, uint64_t *sink) noexcept nogil
        int64_t (*fr_read_random)(const uint64_t *data, int64_t rows, int64_t reads, uint64_t seed,
                                  uint64_t *sink) noexcept nogil
        int64_t (*fr_read_apart)(const uint64_t *data, int64_t rows, int64_t reads, uint64_t seed,
                                  uint64_t *sink) noexcept nogil
    const fr_roofs_functions *fr_roofs_table(int level)

cdef fr_parallel_for_type parallel_for = <fr_parallel_for_type>PyCapsule_GetPointer(
    runtime.parallel_for, b"fastrec.parallel_for")

cdef enum:
    TASKS_A_THREAD = 8  # so that a thread which starts late leaves little undone

cdef enum Kind:
    FP32, INT8, READ, RANDOM, APART

cdef struct Job:
    const fr_roofs_functions *kernels
    Kind kind
    int64_t tasks
    int64_t amount       # steps, or reads, of one task
    const uint64_t *data
    int64_t lines
    int64_t *done        # operations, or bytes, of each task
    uint64_t *sink       # one cache line a task

cdef void _work(void *context, int64_t task, int worker) noexcept nogil:
    cdef Job *job = <Job *>context
    cdef uint64_t *sink = job.sink + task * FR_LINE_WORDS
    cdef int64_t lines = job.lines // job.tasks
    if job.kind == FP32:
        job.done[task] = job.kernels.fr_fp32_peak(job.amount, sink)
    elif job.kind == INT8:
        job.done[task] = job.kernels.fr_int8_peak(job.amount, sink)
    elif job.kind == READ:
        job.done[task] = job.kernels.fr_read_all(job.data + task * lines * FR_LINE_WORDS, lines, sink)
    elif job.kind == RANDOM:
        job.done[task] = job.kernels.fr_read_random(
            job.data, job.lines * FR_LINE_WORDS // FR_ROW_WORDS, job.amount, <uint64_t>task, sink)
    else:
        job.done[task] = job.kernels.fr_read_apart(
            job.data, job.lines * FR_LINE_WORDS // FR_ROW_WORDS, job.amount, <uint64_t>task, sink)


cdef int64_t _run(Kind kind, int level, int64_t amount, const uint64_t[::1] data, int threads) except -1:
    import numpy as np
    cdef Job job
    job.kernels = fr_roofs_table(level)
    if job.kernels == NULL:
        raise ValueError(f"instruction-set level {level} is not in this build")
    job.kind = kind
    job.tasks = threads * TASKS_A_THREAD
    job.amount = amount // job.tasks + 1
    job.data = NULL
    job.lines = 0
    if data is not None:
        job.data = &data[0]
        job.lines = data.shape[0] // FR_LINE_WORDS
    cdef int64_t[::1] done = np.zeros(job.tasks, np.int64)
    cdef uint64_t[::1] sink = np.zeros(job.tasks * FR_LINE_WORDS, np.uint64)
    job.done = &done[0]
    job.sink = &sink[0]
    with nogil:
        parallel_for(_work, &job, job.tasks, threads)
    return sum(done)


def level() -> int:
    """The instruction-set level these kernels were compiled for."""
    return fr_roofs_table(LEVEL).fr_roofs_level()


def fp32_peak(int64_t steps, int threads, int level=LEVEL) -> int:
    """Do about ``steps`` rounds of independent float32 multiply-adds in all; return the operations done."""
    return _run(FP32, level, steps, None, threads)


def int8_peak(int64_t steps, int threads, int level=LEVEL) -> int:
    """Do about ``steps`` rounds of independent 8-bit multiply-adds into int32; return the operations done."""
    return _run(INT8, level, steps, None, threads)


def read_all(const uint64_t[::1] data, int threads, int level=LEVEL) -> int:
    """Read ``data`` once; return the bytes read."""
    return _run(READ, level, 0, data, threads)


def read_random(const uint64_t[::1] data, int64_t reads, int threads, int level=LEVEL) -> int:
    """Read about ``reads`` 256-byte rows of ``data`` at random, each in order; return the bytes read."""
    return _run(RANDOM, level, reads, data, threads)


def read_apart(const uint64_t[::1] data, int64_t reads, int threads, int level=LEVEL) -> int:
    """The same, the last line of each apart from the others; return the bytes read."""
    return _run(APART, level, reads, data, threads)
