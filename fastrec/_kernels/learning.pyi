from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import disjoint_base

KINDS: tuple[str, ...]
SOLVERS: tuple[str, ...]

@disjoint_base
class Samples:
    def __init__(
        self,
        values: NDArray[Any],
        rows: int,
        columns: int,
        indptr: NDArray[np.int64] | None = None,
        indices: NDArray[np.int32] | None = None,
    ) -> None: ...
    @property
    def rows(self) -> int: ...
    @property
    def columns(self) -> int: ...
    @property
    def sparse(self) -> bool: ...
    @property
    def stored(self) -> int: ...

def level() -> int: ...
def linear_forward(
    x: Samples,
    parameters: NDArray[np.float64],
    scores: NDArray[np.float64],
    squares: NDArray[np.float64] | None,
    extra: float,
    threads: int,
) -> None: ...
def logistic_map(
    kind: str,
    scores: NDArray[np.float64],
    target: NDArray[np.int8] | None,
    squares: NDArray[np.float64] | None,
    weight: NDArray[np.float64] | None,
    out: NDArray[Any],
    threads: int,
) -> None: ...
def logistic_epoch(
    x: Samples,
    order: NDArray[np.int64] | None,
    target: NDArray[np.int8],
    weight: NDArray[np.float64] | None,
    share: NDArray[np.float64] | None,
    *,
    l2: float,
    batches: int,
    slices: int,
    slice_rows: int,
    solver: str,
    intercept: bool,
    rate: float,
    rate_drop: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    power1: float,
    power2: float,
    parameters: NDArray[np.float64],
    first: NDArray[np.float64] | None,
    second: NDArray[np.float64] | None,
    residuals: NDArray[np.float64] | None,
    gradient: NDArray[np.float64],
    slice_losses: NDArray[np.float64],
    slots: NDArray[np.float64] | None,
    touched: NDArray[np.int32] | None,
    threads: int,
) -> tuple[float, float, float]: ...
def shuffle(order: NDArray[np.int64], seed: int) -> None: ...
def select_rows(
    scores: NDArray[Any],
    groups: NDArray[np.int32] | None,
    need: Any,
    smallest: bool,
    out: NDArray[np.int64],
    threads: int,
) -> None: ...
