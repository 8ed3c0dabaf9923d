"""Bindings of the evaluation kernels."""
from fastrec._core.isa import LEVEL

cdef extern from "evaluation_table.h" nogil:
    ctypedef struct fr_evaluation_functions:
        int (*fr_evaluation_level)() noexcept
    const fr_evaluation_functions *fr_evaluation_table(int level)

cdef const fr_evaluation_functions *kernels = fr_evaluation_table(LEVEL)


def level() -> int:
    """The instruction-set level these kernels were compiled for."""
    return kernels.fr_evaluation_level()
