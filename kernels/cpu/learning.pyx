"""Bindings of the learning kernels."""
from fastrec._core.isa import LEVEL

cdef extern from "learning_table.h" nogil:
    ctypedef struct fr_learning_functions:
        int (*fr_learning_level)() noexcept
    const fr_learning_functions *fr_learning_table(int level)

cdef const fr_learning_functions *kernels = fr_learning_table(LEVEL)


def level() -> int:
    """The instruction-set level these kernels were compiled for."""
    return kernels.fr_learning_level()
