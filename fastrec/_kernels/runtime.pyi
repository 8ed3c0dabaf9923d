from typing import Any

import numpy as np
import numpy.typing as npt

parallel_for: Any  # a capsule named "fastrec.parallel_for"; its type is in kernels/cpu/pool.h

def isa_built() -> int: ...
def isa_machine() -> int: ...
def tally(counts: npt.NDArray[np.int64], spin: int, threads: int) -> None: ...
