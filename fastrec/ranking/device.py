"""Launching the ranking kernels of ``kernels/cuda``: shapes to grids, scratch to chunks.  Nothing here waits.

Every function takes CuPy arrays that the contracts above have checked, and works on the current device and stream.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrec._core import cuda
from fastrec.ranking.canonical import METRICS

THREADS = 256  # FR_THREADS of kernels/cuda/types.cuh
MOST_K = 1 << 20  # of one query: a few buffers of that many keys each
SCRATCH = 128 << 20  # bytes of scratch that one launch may need; more work goes in several
_BLOCKS = 4096  # of a kernel whose blocks take pairs in turn
_SHARE = 16_384  # scores of a row that are worth a block of their own
_FILL = 264  # blocks that keep a large card busy
ITEM_CODES = {"float32": 0, "float16": 1, "bfloat16": 2}  # FR_ITEM of kernels/cuda/canonical.cuh


def width(k: int) -> int:
    """The power of two not below ``k``."""
    return 1 << max(0, k - 1).bit_length()


def score_pairs(
    queries: Any, items: Any, dtype: str, metric: str, bias: Any, rows: Any, cols: Any, out: Any
) -> None:
    """Canonical scores of pairs into ``out``; of all pairs, (Q, N), where ``rows`` is None."""
    kernel = cuda.kernel("rank_pairs.cu", "fr_score_pairs", FR_ITEM=ITEM_CODES[dtype])
    n, d = items.shape
    items = items if dtype == "float32" else items.view(np.uint16)  # the bits
    kernel(
        min(_BLOCKS, -(-out.size // (THREADS // 8))), THREADS, queries, items, cuda.i64(n), cuda.i64(d), cuda.i64(d),
        cuda.i32(METRICS.index(metric)), bias, rows, cols, cuda.i64(out.size), out,
    )  # fmt: skip


def select_topk(xp: Any, scores: Any, k: int, rows: Any, values: Any) -> None:
    """The k best columns of each row of ``scores`` into ``rows`` and ``values``, both (Q, k)."""
    q, n = scores.shape
    if n == 0:
        rows.fill(-1)
        values.fill(-xp.inf)
        return
    own = min(k, n)
    room = 2 * own + 8 * THREADS
    shares = max(1, min(_FILL // max(1, q), n // max(_SHARE, 4 * own)))
    step = max(1, SCRATCH // (8 * shares * (2 * room + own)))
    for begin in range(0, q, step):
        some = slice(begin, min(q, begin + step))
        count = some.stop - begin
        buffers = xp.empty((count, shares, 2, room), xp.uint64)
        found = xp.empty((count, shares, own), xp.uint64)
        cuda.kernel("rank_select.cu", "fr_select_scores", FR_SELECT=0)(
            (count, shares), THREADS, scores[some], cuda.i64(n), cuda.i64(own), buffers, cuda.i64(room), found
        )
        finish_keys(xp, found, None, shares * own, rows[some], values[some])


def finish_keys(xp: Any, keys: Any, offsets: Any, each: int, rows: Any, values: Any) -> None:
    """The best of each query's keys, in order; ``each`` is how many a query has (at most, where there are offsets)."""
    q, k = rows.shape
    wide = width(min(k, max(1, each)))
    scratch = xp.empty((q, wide), xp.uint64)
    cuda.kernel("rank_select.cu", "fr_finish", FR_SELECT=0)(
        q, THREADS, keys, offsets, cuda.i64(each), cuda.i64(k), scratch, cuda.i64(wide), rows, values
    )


def topk_among(
    xp: Any, queries: Any, items: Any, dtype: str, metric: str, bias: Any, candidates: tuple[Any, Any],
    longest: int, banned: tuple[Any, Any] | None, floor: float, rows: Any, values: Any,
) -> None:  # fmt: skip
    """The k best of each query's candidates: ``(offsets, indices)`` a query, or ``(None, indices)`` for all of them.

    ``longest`` bounds the candidates of a query.  Scratch: 8 bytes a candidate, for some queries at a time.
    """
    kernel = cuda.kernel("rank_pairs.cu", "fr_candidate_keys", FR_ITEM=ITEM_CODES[dtype])
    offsets, indices = candidates
    q, d = queries.shape
    step = max(1, SCRATCH // (8 * max(1, longest + width(min(rows.shape[1], max(1, longest))))))
    indptr, listed = banned if banned is not None else (None, None)
    wide = cuda.i32(listed is not None and listed.dtype.itemsize == 8)
    for begin in range(0, q, step):
        some = slice(begin, min(q, begin + step))
        count = some.stop - begin
        keys = xp.empty(max(1, count * longest), xp.uint64)
        own = None if offsets is None else offsets[begin : begin + count + 1]
        # A block takes 32 candidates at a time; with lists of unequal lengths some blocks find nothing left to do.
        blocks = max(1, min(_BLOCKS, -(-count * longest // (THREADS // 8))))
        kernel(
            blocks, THREADS, queries[some], cuda.i64(count), items, cuda.i64(d), cuda.i64(d),
            cuda.i32(METRICS.index(metric)), bias, own, indices, cuda.i64(longest), indptr, listed, wide,
            cuda.i64(begin), cuda.f32(floor), keys,
        )  # fmt: skip
        finish_keys(xp, keys, own, longest, rows[some], values[some])
