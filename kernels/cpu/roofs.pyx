"""Bindings of the roofs kernels."""
from fastrec._core.isa import LEVEL

cdef extern from "roofs_table.h" nogil:
    ctypedef struct fr_roofs_functions:
        int (*fr_roofs_level)() noexcept
    const fr_roofs_functions *fr_roofs_table(int level)

cdef const fr_roofs_functions *kernels = fr_roofs_table(LEVEL)


def level() -> int:
    """The instruction-set level these kernels were compiled for."""
    return kernels.fr_roofs_level()
