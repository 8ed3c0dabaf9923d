"""The operation behind diversity: how alike the items of each list are."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np

from fastrec._core import checks
from fastrec._core import threads as _threads
from fastrec._core.op import operation
from fastrec._kernels import catalog as _kernel


# The reference takes the products of all pairs, the kernel their closed form: they differ in the last digits.
@operation(arrays=("ids", "units"), rtol=1e-12)
def list_similarity(ids: Any, units: Any, k: int, *, threads: int | None = None) -> dict[str, Any]:
    """The mean cosine of the pairs of items in each list (intra-list similarity).

    Parameters
    ----------
    ids : (Q, width) int32 or int64, contiguous
        Rows of ``units``; -1 is no item.
    units : (n_items, d) float64
        Vectors of norm 1, or 0: such an item is like no other.
    k : int
        Only the first ``k`` ids of a list count.
    threads : int or None

    Returns
    -------
    (Q,) float64
        NaN for lists below two items.

    Notes
    -----
    ``(|sum of vectors|^2 - sum of |vector|^2) / (m (m - 1))``: O(k d) a list instead of O(k^2 d).
    Scratch: 8 d bytes a thread, and ``units`` once more where d is not a multiple of 8.
    """
    ids, units = checks.native(ids), checks.native(units)
    return {"ids": ids, "units": units, "k": min(k, ids.shape[1]), "threads": _threads.resolve(threads)}


@list_similarity.reference
def _(xp: ModuleType, ids: Any, units: Any, k: int, threads: int) -> Any:
    out = xp.full(len(ids), np.nan)
    for row, items in enumerate(ids[:, :k]):
        vectors = units[items[items >= 0]]
        if len(vectors) > 1:
            products = vectors @ vectors.T
            out[row] = (products.sum() - xp.trace(products)) / (len(vectors) * (len(vectors) - 1))
    return out


@list_similarity.cpu
def _(ids: np.ndarray, units: np.ndarray, k: int, threads: int) -> np.ndarray:
    lists, width = ids.shape
    if not ids.size or not k or not units.size:
        return np.full(lists, np.nan)
    threads = min(threads, _kernel.tasks(lists))
    rest = -units.shape[1] % 8
    padded = np.ascontiguousarray(np.pad(units, ((0, 0), (0, rest))) if rest else units)
    out = np.empty(lists)
    scratch = np.empty((threads, padded.shape[1]))
    wide = ids.dtype == np.int64
    _kernel.similarity(ids.view(np.uint8).reshape(-1), wide, width, k, padded, scratch, out, threads)
    return out


@list_similarity.cuda
def _(ids: Any, units: Any, k: int, threads: int) -> Any:
    from fastrec._core import cuda

    with cuda.on(ids) as xp:
        sums, squares = xp.zeros((len(ids), units.shape[1]), np.float64), xp.zeros(len(ids), np.float64)
        of_item = (units * units).sum(axis=1)
        sizes = xp.zeros(len(ids), np.int64)
        for place in range(k if len(units) else 0):  # a list's vectors are never all there at once
            items = ids[:, place]
            listed, rows = items >= 0, xp.maximum(items, 0)
            sums += xp.where(listed[:, None], units[rows], 0.0)
            squares += xp.where(listed, of_item[rows], 0.0)
            sizes += listed
        pairs = sizes * (sizes - 1)
        return xp.where(pairs > 0, ((sums * sums).sum(axis=1) - squares) / xp.maximum(pairs, 1), np.nan)


@list_similarity.cases
def _(rng: Any) -> Iterator[dict[str, Any]]:
    for lists, width, dims in ((0, 3, 4), (1, 1, 1), (40, 10, 7), (40, 10, 8), (1500, 5, 33)):
        units = rng.standard_normal((50, dims))
        units /= np.linalg.norm(units, axis=1, keepdims=True)
        units[0] = 0
        ids = np.argsort(rng.random((lists, 50)), axis=1)[:, :width]
        yield {"ids": np.ascontiguousarray(ids), "units": units, "k": width}
        ids[rng.random(ids.shape) < 0.2] = -1
        yield {"ids": np.ascontiguousarray(ids.astype(np.int32)), "units": units, "k": max(width - 1, 1)}
