"""``select_topk``: the best columns of each row of a given score matrix."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fastrec._core import arrays, checks
from fastrec._core import threads as _threads
from fastrec._core.op import operation
from fastrec.ranking import order
from fastrec.ranking.index import outputs
from fastrec.ranking.result import TopK

_LONG = 1 << 17  # columns from which a single row is worth sharing out
_FOUND = 1 << 18  # found by all pieces of a row together: what they may hold in memory


@operation(arrays=("scores",))
def select_topk(scores: Any, k: int = 10, *, threads: int | None = None, out: Any = None) -> dict[str, Any]:
    """The ``k`` largest of each row, with their columns: score descending, then column ascending.

    Parameters
    ----------
    scores : (Q, N) array
        Any scores, converted to float32; higher is better.
    k : int
        Columns wanted, at least 1; may exceed N.
    threads : int, optional
        Threads to use; the result does not depend on it.
    out : (ids, scores), optional
        C-contiguous (Q, k) int64 and float32 arrays to fill.

    Returns
    -------
    TopK
        ``.ids`` (Q, k) int64 columns, -1 where there was nothing left; ``.scores`` (Q, k) float32, -inf there.  NaN is
        never returned, -inf is; -0 counts, and comes back, as 0.  Unlike ``numpy.argpartition`` and ``torch.topk``, the
        answer is fully specified: equal scores come by column.

    Notes
    -----
    One pass over each row: O(N) compares, with buffers of O(k) a thread beside the output.  Rows are shared out to the
    threads; where there are fewer rows than threads, pieces of long rows are.

    Examples
    --------
    >>> import fastrec as fr
    >>> fr.select_topk([[0.2, 0.9, float("nan"), 0.9]], k=3).ids
    array([[1, 3, 0]])
    """
    scores = checks.matrix(scores, "scores")
    k = checks.integer(k, "k", low=1)
    rows, values = outputs(out, (len(scores), k), arrays.device(scores), scores)
    return {"scores": scores, "k": k, "threads": _threads.resolve(threads), "out": (rows, values)}


@select_topk.reference
def _(xp: Any, scores: Any, k: int, threads: int, out: tuple[Any, Any]) -> TopK:
    out[0][...], out[1][...] = order.best(xp, scores, xp.arange(scores.shape[1]), k)
    return TopK(*out)


@select_topk.cpu
def _(scores: Any, k: int, threads: int, out: tuple[Any, Any]) -> TopK:
    from fastrec._kernels import ranking as kernels

    rows, values = out
    if len(scores) < threads and scores.shape[1] >= _LONG and threads * k <= _FOUND:
        for row in range(len(scores)):
            rows[row], values[row] = _long(scores[row], k, threads)
    else:
        kernels.select_topk(scores, rows, values, threads)
    return TopK(rows, values)


def _long(line: np.ndarray, k: int, threads: int) -> tuple[np.ndarray, np.ndarray]:
    """Top k of one long row: of its pieces, shared out to the threads, then of what those returned."""
    from fastrec._kernels import ranking as kernels

    piece = -(-len(line) // threads)
    even = len(line) // piece * piece
    columns, values = [], []
    for begin, part in ((0, line[:even].reshape(-1, piece)), (even, line[None, even:])):
        found = np.empty((len(part), min(k, piece)), np.int64)
        best = np.empty(found.shape, np.float32)
        kernels.select_topk(part, found, best, threads)
        best[found < 0] = np.nan  # padding: never returned
        columns.append((found + begin + piece * np.arange(len(part))[:, None]).ravel())
        values.append(best.ravel())
    # of equal values, the one from the first column comes first among these, too
    place, best = np.empty((1, k), np.int64), np.empty((1, k), np.float32)
    kernels.select_topk(np.concatenate(values)[None], place, best, 1)
    return np.where(place[0] < 0, -1, np.concatenate(columns)[place[0]]), best[0]


@select_topk.cuda
def _(scores: Any, k: int, threads: int, out: tuple[Any, Any]) -> TopK:
    from fastrec.ranking import device

    device.select_topk(arrays.namespace(scores), scores, k, *out)
    return TopK(*out)


@select_topk.cases
def _(rng: Any) -> Iterator[dict[str, Any]]:
    for n_queries, n, k in [
        (0, 4, 2),
        (2, 0, 3),
        (1, 1, 1),
        (3, 7, 9),
        (4, 1000, 10),
        (2, 5000, 1),
        (3, 3000, 700),
    ]:
        yield {"scores": rng.standard_normal((n_queries, n)).astype(np.float32), "k": k}
    ties = rng.integers(-3, 3, (5, 2000)).astype(np.float32)
    ties[0] = 1.0
    ties[1] = -np.inf
    ties[2, ::3] = np.nan
    ties[3, ::5], ties[3, 1::5] = -0.0, 0.0
    ties[4] = np.sort(ties[4])
    for k in (1, 16, 500, 2000, 2001):
        yield {"scores": ties, "k": k}
