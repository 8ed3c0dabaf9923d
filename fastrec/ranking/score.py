"""``score`` and ``score_pairs``: canonical scores without a ranking."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fastrec._core import arrays, checks
from fastrec._core import threads as _threads
from fastrec._core.op import operation
from fastrec.ranking import canonical
from fastrec.ranking.index import float32_matrix, item_matrix, view


def _vectors(queries: Any, items: Any, metric: str, bias: Any) -> tuple[Any, Any, str, str, Any]:
    """Queries, items in their own type and its name, metric and bias, validated."""
    metric = checks.choice(metric, "metric", canonical.METRICS)
    items, dtype = item_matrix(items)
    queries = checks.matrix(
        queries, "queries", columns=items.shape[1], like=f"to match `items` {items.shape}"
    )
    if bias is not None:
        bias = checks.vector(bias, "bias", size=len(items), like=f"to match `items` {items.shape}")
    arrays.common_device(queries=queries, items=items, bias=bias)
    return queries, items, dtype, metric, bias


@operation(arrays=("queries", "items"))
def score(
    queries: Any,
    items: Any,
    *,
    metric: str = "dot",
    bias: Any = None,
    threads: int | None = None,
    out: Any = None,
) -> dict[str, Any]:
    """Canonical scores of every query with every item: for small problems, since the result is (Q, N).

    Parameters
    ----------
    queries : (Q, d) array
        Query vectors, converted to float32.
    items : (N, d) array
        Item vectors, on the same device; float32, float16 and bfloat16 are read where they lie.
    metric : {"dot", "cosine", "l2"}
        ``sum(u*i)``; ``sum(u*i) / (|u| |i|)``, 0 where a norm is 0; ``-sum((u-i)^2)``.
    bias : (N,) array, optional
        Added to each item's scores.
    threads : int, optional
        Threads to use; the result does not depend on it.
    out : (Q, N) float32 array, optional
        C-contiguous array to fill.

    Returns
    -------
    (Q, N) float32 array
        Higher is better; the scores that :class:`TopK` shows, to the bit.  NaN and infinite inputs give NaN or
        infinite scores by the rules of arithmetic.  Empty inputs give an empty array.

    Notes
    -----
    Computed in float64 and rounded once (:mod:`fastrec.ranking.canonical`).  Cost O(Q N d).

    Examples
    --------
    >>> import fastrec as fr
    >>> fr.score([[1.0, 2.0]], [[3.0, 4.0], [0.0, 1.0]])
    array([[11.,  2.]], dtype=float32)
    """
    queries, items, dtype, metric, bias = _vectors(queries, items, metric, bias)
    shape = (len(queries), len(items))
    if out is not None:
        out = checks.output(out, "out", shape=shape, dtype=np.float32, device=arrays.device(queries))
    return {
        "queries": queries,
        "items": items,
        "dtype": dtype,
        "metric": metric,
        "bias": bias,
        "threads": _threads.resolve(threads),
        "out": out,
    }


@score.reference
def _(xp: Any, queries: Any, items: Any, dtype: str, metric: str, bias: Any, threads: int, out: Any) -> Any:
    items = float32_matrix(items, dtype)
    result = xp.empty((len(queries), len(items)), xp.float32) if out is None else out
    for q in range(len(queries)):
        result[q] = canonical.scores(xp, queries[q][None, :], items, metric, bias)
    return result


@score.cpu
def _(queries: Any, items: Any, dtype: str, metric: str, bias: Any, threads: int, out: Any) -> Any:
    from fastrec._kernels import ranking as kernels

    result = np.empty((len(queries), len(items)), np.float32) if out is None else out
    kernels.score(view(items, dtype, metric, bias), queries, result, threads)
    return result


@score.cuda
def _(queries: Any, items: Any, dtype: str, metric: str, bias: Any, threads: int, out: Any) -> Any:
    from fastrec.ranking import device

    xp = arrays.namespace(queries)
    result = xp.empty((len(queries), len(items)), xp.float32) if out is None else out
    device.score_pairs(queries, items, dtype, metric, bias, None, None, result)
    return result


@score.cases
def _(rng: Any) -> Iterator[dict[str, Any]]:
    for metric in canonical.METRICS:
        for n_queries, n, d in [(0, 3, 4), (3, 0, 4), (2, 5, 0), (4, 9, 7), (3, 20, 64), (2, 6, 129)]:
            queries = rng.standard_normal((n_queries, d)).astype(np.float32)
            items = rng.standard_normal((n, d)).astype(np.float32)
            yield {"queries": queries, "items": items, "metric": metric}
            yield {"queries": queries, "items": items, "metric": metric, "bias": items.sum(axis=1)}
    odd = np.array([[0.0, 0.0], [np.inf, 1.0], [np.nan, 1.0], [1e38, 1e38], [1e-45, 0.0]], np.float32)
    for metric in canonical.METRICS:
        yield {"queries": odd, "items": odd, "metric": metric}


@operation(arrays=("queries", "items", "rows", "cols"))
def score_pairs(
    queries: Any,
    items: Any,
    rows: Any,
    cols: Any,
    *,
    metric: str = "dot",
    bias: Any = None,
    threads: int | None = None,
    out: Any = None,
) -> dict[str, Any]:
    """Canonical scores of given (query, item) pairs: what re-scoring candidates needs.

    Parameters
    ----------
    queries : (Q, d) array
        Query vectors, converted to float32.
    items : (N, d) array
        Item vectors, on the same device; float32, float16 and bfloat16 are read where they lie.
    rows, cols : (P,) integer arrays
        Query row and item row of each pair, in 0..Q-1 and 0..N-1, in any order.
    metric, bias
        As in :func:`score`.
    threads : int, optional
        Threads to use; the result does not depend on it.
    out : (P,) float32 array, optional
        C-contiguous array to fill.

    Returns
    -------
    (P,) float32 array
        Higher is better; equal to the bit to ``score(queries, items)[rows, cols]``.

    Notes
    -----
    Cost O(P d), bound by the memory reads of the item vectors.  Pairs sorted by query are fastest.  Indices out of
    range are a ``ValueError``; what ``out`` holds then is not defined.

    Examples
    --------
    >>> import fastrec as fr
    >>> fr.score_pairs([[1.0, 2.0]], [[3.0, 4.0], [0.0, 1.0]], [0, 0], [1, 0])
    array([ 2., 11.], dtype=float32)
    """
    queries, items, dtype, metric, bias = _vectors(queries, items, metric, bias)
    rows = checks.indices(rows, "rows", below=None)
    cols = checks.indices(cols, "cols", below=None)
    if rows.shape != cols.shape:
        raise ValueError(f"`rows` and `cols` must have the same length; got {rows.shape} and {cols.shape}")
    arrays.common_device(queries=queries, items=items, rows=rows, cols=cols)
    if out is not None:
        out = checks.output(out, "out", shape=rows.shape, dtype=np.float32, device=arrays.device(queries))
    return {
        "queries": queries,
        "items": items,
        "dtype": dtype,
        "rows": rows,
        "cols": cols,
        "metric": metric,
        "bias": bias,
        "threads": _threads.resolve(threads),
        "out": out,
    }


def _within(queries: Any, items: Any, rows: Any, cols: Any) -> None:
    """Refuse pairs of queries or items that are not there."""
    checks.within(rows, "rows", below=len(queries), what="queries")
    checks.within(cols, "cols", below=len(items), what="items")


@score_pairs.reference
def _(
    xp: Any, queries: Any, items: Any, dtype: str, rows: Any, cols: Any, metric: str, bias: Any, threads: int, out: Any,
) -> Any:  # fmt: skip
    _within(queries, items, rows, cols)
    items = float32_matrix(items[cols], dtype)
    result = canonical.scores(xp, queries[rows], items, metric, None if bias is None else bias[cols])
    if out is None:
        return result
    out[...] = result
    return out


@score_pairs.cpu
def _(
    queries: Any, items: Any, dtype: str, rows: Any, cols: Any, metric: str, bias: Any, threads: int, out: Any,
) -> Any:  # fmt: skip
    from fastrec._kernels import ranking as kernels

    result = np.empty(len(rows), np.float32) if out is None else out
    if not kernels.score_pairs(view(items, dtype, metric, bias), queries, rows, cols, result, threads):
        _within(queries, items, rows, cols)
    return result


@score_pairs.cuda
def _(
    queries: Any, items: Any, dtype: str, rows: Any, cols: Any, metric: str, bias: Any, threads: int, out: Any,
) -> Any:  # fmt: skip
    from fastrec.ranking import device

    _within(queries, items, rows, cols)
    xp = arrays.namespace(queries)
    result = xp.empty(len(rows), xp.float32) if out is None else out
    device.score_pairs(queries, items, dtype, metric, bias, rows, cols, result)
    return result


@score_pairs.cases
def _(rng: Any) -> Iterator[dict[str, Any]]:
    for metric in canonical.METRICS:
        for n_queries, n, d, pairs in [(1, 1, 1, 0), (4, 9, 7, 20), (3, 20, 64, 9000), (2, 6, 129, 11)]:
            queries = rng.standard_normal((n_queries, d)).astype(np.float32)
            items = rng.standard_normal((n, d)).astype(np.float32)
            rows, cols = rng.integers(0, n_queries, pairs), rng.integers(0, n, pairs)
            yield {"queries": queries, "items": items, "rows": rows, "cols": cols, "metric": metric}
            yield {
                "queries": queries,
                "items": items,
                "rows": np.sort(rows),
                "cols": cols,
                "metric": metric,
                "bias": items[:, 0],
            }
