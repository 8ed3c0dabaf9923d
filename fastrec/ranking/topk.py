"""``topk``: exact top-k in one call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fastrec._core import arrays, checks
from fastrec._core.op import operation
from fastrec.ranking.index import BFLOAT16, Index, bfloat16_bits, float32_matrix
from fastrec.ranking.result import TopK


@operation(arrays=("queries", "items"))
def topk(
    queries: Any,
    items: Any,
    k: int = 10,
    *,
    metric: str = "dot",
    bias: Any = None,
    ids: Any = None,
    exclude: Any = None,
    candidates: Any = None,
    min_score: float | None = None,
    precision: str = "auto",
    threads: int | None = None,
    out: Any = None,
) -> dict[str, Any]:
    """The ``k`` best items of each query, exactly: score descending, then row position ascending.

    The one-shot form of :class:`Index`; to search the same items again, build the index once.

    Parameters
    ----------
    queries : (Q, d) array
        Query vectors, converted to float32.
    items : (N, d) array
        Item vectors, on the same device.
    k : int
        Items wanted, at least 1; may exceed N.
    metric, bias, ids, precision
        As in :class:`Index`.
    exclude, candidates, min_score, threads, out
        As in :meth:`Index.topk`.

    Returns
    -------
    TopK
        ``.ids`` (Q, k) int64, -1 where there was nothing left to return; ``.scores`` (Q, k) float32, -inf there.

    Notes
    -----
    Scores are canonical (:mod:`fastrec.ranking.canonical`): the same bits for any threads, batch split, precision,
    instruction set or device.  Cost: that of packing the items, then of the search; for a handful of queries the
    packing dominates.  Raises what :class:`Index` and :meth:`Index.topk` raise.

    Examples
    --------
    >>> import fastrec as fr
    >>> fr.topk([[1.0, 0.0]], [[0.5, 1.0], [2.0, 0.0], [2.0, 5.0]], k=2).ids
    array([[1, 2]])
    """
    queries, items = checks.real(queries, "queries"), _adopted(items)
    arrays.common_device(queries=queries, items=items)
    return {
        "queries": queries, "items": items, "k": k, "metric": metric, "bias": bias, "ids": ids, "exclude": exclude,
        "candidates": candidates, "min_score": min_score, "precision": precision, "threads": threads, "out": out,
    }  # fmt: skip


def _adopted(items: Any) -> Any:
    """Items as the index takes them: a torch bfloat16 matrix, which NumPy has no type for, as its bits."""
    bits = bfloat16_bits(items)
    if bits is None:
        return checks.real(items, "items")
    return bits.view(BFLOAT16) if isinstance(bits, np.ndarray) else float32_matrix(bits, "bfloat16")


def _on_device(
    queries: Any, items: Any, k: int, metric: str, bias: Any, ids: Any, exclude: Any, candidates: Any,
    min_score: float | None, precision: str, threads: int | None, out: Any,
) -> TopK:  # fmt: skip
    index = Index._for_queries(len(queries), items, metric, bias, ids, precision, threads)
    return index.topk(queries, k, exclude, candidates, min_score, threads, out)


topk.cuda(topk.cpu(_on_device))


@topk.reference
def _(
    xp: Any, queries: Any, items: Any, k: int, metric: str, bias: Any, ids: Any, exclude: Any, candidates: Any,
    min_score: float | None, precision: str, threads: int | None, out: Any,
) -> TopK:  # fmt: skip
    return Index(items, metric, bias, ids, precision="float32").reference_topk(
        queries, k, exclude, candidates, min_score, out
    )


@topk.cases
def _(rng: Any) -> Iterator[dict[str, Any]]:
    from scipy import sparse

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    for n_queries, n, d, k in [
        (0, 5, 4, 3),
        (3, 0, 4, 2),
        (1, 1, 1, 1),
        (5, 33, 3, 40),
        (13, 700, 64, 10),
        (26, 300, 127, 5),
    ]:
        yield {"queries": normal(n_queries, d), "items": normal(n, d), "k": k}
    items = normal(500, 48) * rng.gamma(2.0, 1.0, (500, 1)).astype(np.float32)
    queries = normal(30, 48)
    seen = sparse.random_array((30, 500), density=0.2, rng=rng, format="csr")
    for metric in ("dot", "cosine", "l2"):
        yield {"queries": queries, "items": items, "k": 7, "metric": metric, "exclude": seen}
        yield {"queries": queries, "items": items, "k": 7, "metric": metric, "bias": normal(500)}
        yield {
            "queries": queries,
            "items": items,
            "k": 7,
            "metric": metric,
            "candidates": seen,
            "min_score": 0.0,
        }
    whole = np.round(normal(400, 40))  # many ties
    yield {"queries": np.round(normal(9, 40)), "items": whole, "k": 50, "precision": "int8"}
    yield {
        "queries": np.round(normal(9, 40)),
        "items": whole.astype(np.float16),
        "k": 50,
        "precision": "int8",
    }
    yield {
        "queries": np.zeros((2, 40), np.float32),
        "items": whole,
        "k": 5,
        "candidates": np.array([9, 3, 3, 77]),
    }
