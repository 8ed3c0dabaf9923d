"""The public order, in NumPy or CuPy: score descending, then id ascending; NaN never returned; -1 and -inf fill up."""

from __future__ import annotations

from types import ModuleType
from typing import Any


def empty(xp: ModuleType, queries: int, k: int) -> tuple[Any, Any]:
    """Ids and scores of rows in which nothing was found."""
    return xp.full((queries, k), -1, xp.int64), xp.full((queries, k), -xp.inf, xp.float32)


def best(xp: ModuleType, scores: Any, ids: Any, k: int, allowed: Any = None) -> tuple[Any, Any]:
    """The first ``k`` of each row of ``scores`` (Q, N) under the public order, as (Q, k) ids and scores.

    ``ids`` (Q, N) or (N,) int64; entries that are NaN, or False in ``allowed`` (Q, N), are never returned.
    """
    n_queries = len(scores)
    ids = xp.broadcast_to(ids, scores.shape)
    valid = ~xp.isnan(scores)
    if allowed is not None:
        valid = valid & allowed
    out_ids, out_scores = empty(xp, n_queries, k)
    for q in range(n_queries):
        (places,) = xp.nonzero(valid[q])
        places = places[xp.argsort(ids[q][places], kind="stable")]
        places = places[xp.argsort(-scores[q][places], kind="stable")][:k]
        out_ids[q, : len(places)] = ids[q][places]
        out_scores[q, : len(places)] = scores[q][places] + xp.float32(0)
    return out_ids, out_scores
