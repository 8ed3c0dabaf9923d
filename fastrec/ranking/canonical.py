"""The canonical score, in NumPy or CuPy: the specification that every kernel equals to the bit.

Values are taken as float32 (float16 and bfloat16 are exact in it).  Sums run in float64 over eight lanes, lane ``j``
taking dimensions ``j, j + 8, j + 16, ...`` in order, and end as ``((l0+l4)+(l2+l6)) + ((l1+l5)+(l3+l7))``; the score
is rounded to float32 once, at the end.  Products of float32 are exact in float64, so fused and separate multiply-adds
agree, and the score does not depend on the processor.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

METRICS = ("dot", "cosine", "l2")  # the order is the kernels' metric code


def lanes(xp: ModuleType, terms: Any) -> Any:
    """The sum over the last axis of float64 ``terms`` in the canonical order."""
    d = terms.shape[-1]
    total = xp.zeros((*terms.shape[:-1], 8))
    for start in range(0, d, 8):
        part = terms[..., start : start + 8]
        total[..., : part.shape[-1]] += part
    a = total[..., :4] + total[..., 4:]  # 0+4, 1+5, 2+6, 3+7
    return (a[..., 0] + a[..., 2]) + (a[..., 1] + a[..., 3])


def scores(xp: ModuleType, queries: Any, items: Any, metric: str, bias: Any = None) -> Any:
    """Canonical float32 scores of ``queries`` (..., d) with ``items`` (..., d), which broadcast; ``bias`` (...)."""
    u, x = queries.astype(xp.float64), items.astype(xp.float64)
    with _quiet(xp):
        result = -lanes(xp, (u - x) ** 2) if metric == "l2" else lanes(xp, u * x)
        if metric == "cosine":
            norms = xp.sqrt(lanes(xp, u * u)) * xp.sqrt(lanes(xp, x * x))
            zero = (norms == 0) & ~xp.isnan(result)
            result = xp.where(zero, 0.0, result / xp.where(zero, 1.0, norms))
        if bias is not None:
            result = result + bias.astype(xp.float64)
        return result.astype(xp.float32) + xp.float32(0)  # -0 becomes 0


def _quiet(xp: ModuleType) -> Any:
    """Infinities and NaN are values here, not accidents."""
    if xp.__name__ == "numpy":
        return xp.errstate(all="ignore")
    import contextlib

    return contextlib.nullcontext()
