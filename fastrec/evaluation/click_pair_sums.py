"""``click_pair_sums``: pairs of rows with real targets whose scores are in the right order."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from fastrec._core import checks
from fastrec._core import threads as _threads
from fastrec._core.op import operation
from fastrec._kernels import clicks as _kernel
from fastrec.evaluation.click_columns import bytes_of, kind_of, span


@dataclass(frozen=True, slots=True)
class PairSums:
    """Weight of pairs of rows with different targets: all of them (``pairs``), those whose scores are in the opposite
    order (``discordant``), and those whose scores are tied (``tied``).  Counts, and exact, where no weights were given.
    """

    pairs: float
    discordant: float
    tied: float


@operation(arrays=("y", "scores", "weights"), rtol=1e-12)
def click_pair_sums(
    y: Any, scores: Any, weights: Any = None, *, threads: int | None = None
) -> dict[str, Any]:
    """How many pairs of rows are in the right order; see :class:`PairSums`.

    Parameters
    ----------
    y : (n,) float64, no NaN
    scores : (n,) float32 or float64, no NaN
    weights : (n,) float64 or None
        A pair weighs the product of its rows' weights.
    threads : int or None

    Returns
    -------
    PairSums

    Notes
    -----
    O(n log n) time: two radix sorts, then the inversions of a merge sort.  Scratch: 64 bytes a row.
    Source: Knight, *A computer method for calculating Kendall's tau with ungrouped data*, JASA 1966.
    """
    return {
        "y": checks.native(y),
        "scores": checks.native(scores),
        "weights": checks.native(weights),
        "threads": _threads.resolve(threads),
    }


@click_pair_sums.reference
def _(xp: ModuleType, y: Any, scores: Any, weights: Any, threads: int) -> PairSums:
    w = xp.ones(len(y)) if weights is None else weights
    pairs = discordant = tied = 0.0
    for row in range(len(y)):
        below = y < y[row]
        pairs += float(w[row] * w[below].sum())
        discordant += float(w[row] * w[below & (scores > scores[row])].sum())
        tied += float(w[row] * w[below & (scores == scores[row])].sum())
    return PairSums(pairs, discordant, tied)


def falling(x: np.ndarray, threads: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers in falling order of x, ties in order of row, and where in it blocks of ties begin (n at the end)."""
    n = len(x)
    _, high, _ = span(x, threads)
    pairs, none = np.empty(2 * n, np.uint64), np.zeros(n, np.uint8)
    _kernel.pair_up(bytes_of(x), kind_of(x), none, high, pairs, threads)
    _kernel.radix_sort(pairs, np.empty_like(pairs), 2, 0, 64, threads)
    codes = pairs[::2]
    starts = np.flatnonzero(np.append(True, codes[1:] != codes[:-1]))
    return (pairs[1::2] >> np.uint64(1)).astype(np.int64), np.append(starts, n)


def _pairs_between(blocks: np.ndarray, parts: np.ndarray, weights: np.ndarray | None) -> float:
    """Weight of the pairs of rows that share a block but not a part of it: half of |block|^2 - sum of |part|^2.

    A block that is one part cancels exactly, so that no rounding is left where there is no pair.
    """
    if weights is None:
        sizes, of_parts = np.diff(blocks), np.diff(parts)
        return (int((sizes * sizes).sum()) - int((of_parts * of_parts).sum())) // 2
    sums, of_parts = (np.add.reduceat(weights, starts[:-1]) for starts in (blocks, parts))
    return math.fsum([*(sums * sums).tolist(), *(-of_parts * of_parts).tolist()]) / 2


@click_pair_sums.cpu
def _(y: np.ndarray, scores: np.ndarray, weights: np.ndarray | None, threads: int) -> PairSums:
    n = len(y)
    by_target, target_starts = falling(y, threads)
    by_score, score_starts = falling(scores[by_target], threads)  # ties in score: in falling order of target
    ranks = np.empty(n, np.uint32)
    ranks[by_target] = np.repeat(
        np.arange(len(target_starts) - 1, 0, -1, dtype=np.uint32), np.diff(target_starts)
    )
    order = by_target[by_score]
    ranks = ranks[order]
    w = None if weights is None else weights[order]
    same = np.append(True, ranks[1:] != ranks[:-1])
    same[score_starts[:-1]] = True
    both_starts = np.append(np.flatnonzero(same), n)
    of_target = None if weights is None else weights[by_target]
    pairs = _pairs_between(np.array([0, n]), target_starts, of_target)
    tied = _pairs_between(score_starts, both_starts, w)
    return PairSums(float(pairs), float(_ascents(ranks, w, threads)), float(tied))


def _ascents(ranks: np.ndarray, weights: np.ndarray | None, threads: int) -> float:
    """Weight of the pairs of rows of which the first has the smaller rank.  Sorts both arrays."""
    spare = np.empty_like(ranks)
    spare_weights = None if weights is None else np.empty_like(weights)
    total: list[float] = []
    count, width, size = 0, 1, 1 << 14
    while width < len(ranks):
        runs = -(-len(ranks) // size)
        counts, sums = np.zeros(runs, np.int64), np.zeros(runs)
        _kernel.ascents(ranks, spare, weights, spare_weights, width, size, counts, sums, threads)
        count += int(counts.sum())
        total += sums.tolist()
        width, size = size, 2 * size
    return count if weights is None else math.fsum(total)


@click_pair_sums.cases
def _(rng: Any) -> Iterator[dict[str, Any]]:
    for n in (1, 2, 3, 17, 500):
        for distinct in (1, 4, 10**6):
            y = rng.integers(0, distinct, n) / 7 - 1
            scores = (rng.integers(0, distinct, n) / 3).astype(np.float32)
            yield {"y": y, "scores": scores}
            yield {"y": y, "scores": scores.astype(np.float64), "weights": rng.random(n)}
    n = 3000
    yield {"y": rng.standard_normal(n), "scores": rng.standard_normal(n)}
