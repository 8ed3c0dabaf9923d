"""Bindings of the ranking kernels."""
from fastrec._core.isa import LEVEL

cdef extern from "ranking_table.h" nogil:
    ctypedef struct fr_ranking_functions:
        int (*fr_ranking_level)() noexcept
    const fr_ranking_functions *fr_ranking_table(int level)

cdef const fr_ranking_functions *kernels = fr_ranking_table(LEVEL)


def level() -> int:
    """The instruction-set level these kernels were compiled for."""
    return kernels.fr_ranking_level()
