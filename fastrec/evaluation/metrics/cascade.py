"""Metrics of a user who reads down the list and stops: expected reciprocal rank, rank-biased precision."""

from __future__ import annotations

from fastrec.evaluation.metrics.base import Metric, Query


def err(q: Query) -> float:
    """Expected reciprocal rank (Chapelle et al. 2009): the reader stops at an item with chance (2^g - 1) / 2^gmax.

    ``max_gain`` is gmax; where it is not given, the largest gain of the whole truth (the result says which).
    """
    total, left = 0.0, 1.0
    for rank, gain in enumerate(q.gains[: q.k], start=1):
        stop = (2.0 ** max(gain, 0.0) - 1.0) / 2.0**q.parameter
        total += left * stop / rank
        left *= 1.0 - stop
    return total


def rbp(q: Query) -> float:
    """Rank-biased precision (Moffat and Zobel 2008): (1 - p) * sum of p^(rank - 1) over the relevant items."""
    p = q.parameter
    return (1 - p) * sum(p**place for place, hit in enumerate(q.hits) if hit)


METRICS = [
    Metric("err", err, "err", (), ("max_gain", None)),
    Metric("rbp", rbp, "rbp", (), ("p", 0.8)),
]
