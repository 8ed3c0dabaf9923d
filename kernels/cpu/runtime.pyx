"""What every other extension needs: which instruction sets can be used, and the thread pool."""
from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport int64_t

cdef extern from "isa.h" nogil:
    int fr_isa_machine()
    unsigned fr_isa_built()

cdef extern from "pool.h" nogil:
    ctypedef void (*fr_task)(void *context, int64_t task, int worker) noexcept nogil
    void fr_parallel_for(fr_task fn, void *context, int64_t tasks, int threads)


def isa_built() -> int:
    """Bit mask of the instruction-set levels this build holds."""
    return fr_isa_built()


def isa_machine() -> int:
    """The highest level this processor and operating system can run."""
    return fr_isa_machine()


cdef struct _Tally:
    int64_t *counts
    int64_t spin

cdef void _count(void *context, int64_t task, int worker) noexcept nogil:
    cdef _Tally *tally = <_Tally *>context
    cdef int64_t i
    cdef volatile int64_t sink = 0
    for i in range(tally.spin):
        sink += i
    tally.counts[task] += worker + 1


def tally(int64_t[::1] counts, int64_t spin, int threads) -> None:
    """Add (worker number + 1) to ``counts[task]`` for every task, after ``spin`` idle steps: a test of the pool."""
    cdef _Tally context
    if counts.shape[0] == 0:
        return
    context.counts = &counts[0]
    context.spin = spin
    with nogil:
        fr_parallel_for(_count, &context, counts.shape[0], threads)


parallel_for = PyCapsule_New(<void *>fr_parallel_for, b"fastrec.parallel_for", NULL)
