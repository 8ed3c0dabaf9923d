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
    threads.

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

    kernels.select_topk(scores, *out, threads)
    return TopK(*out)


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
