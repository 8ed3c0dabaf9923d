"""Metrics of a user who reads down the list and stops: expected reciprocal rank, rank-biased precision."""

from __future__ import annotations

import numpy as np

from fastrec.evaluation.metrics.base import Metric, Query, ratio


def err(q: Query) -> float:
    """Expected reciprocal rank (Chapelle et al. 2009): the reader stops at an item with chance (2^g - 1) / 2^max_gain.

    ``max_gain`` is the largest grade of the judges' scale.  It must be given: it scales every value, and neither a
    constant (gdeval's 4) nor the largest grade that happens to be in the truth is the scale.
    """
    return _cascade(q.gains[: q.k], q.parameter)


def nerr(q: Query) -> float:
    """ERR over that of the ideal list, cut at k as well."""
    return ratio(err(q), _cascade(q.truth[: q.cutoff], q.parameter))


def _cascade(gains: np.ndarray, largest: float) -> float:
    total, left = 0.0, 1.0
    for rank, gain in enumerate(gains, start=1):
        stop = (2.0 ** max(gain, 0.0) - 1.0) / 2.0**largest
        total += left * stop / rank
        left *= 1.0 - stop
    return total


def rbp(q: Query) -> float:
    """Rank-biased precision (Moffat and Zobel 2008): (1 - p) * sum of p^(rank - 1) over the relevant items."""
    return _geometric(q.hits, q.parameter)


def graded_rbp(q: Query) -> float:
    """The same with each item worth gain / max_gain."""
    p, largest = q.parameters
    return _geometric(np.maximum(q.gains[: q.k], 0.0) / largest, p)


def normalized_rbp(q: Query) -> float:
    """RBP over that of a list that starts with all R relevant items (the first k, or with ``short="len"`` as many as
    the list holds).
    """
    first = min(q.num_relevant, q.depth) if q.convention.short == "len" else q.capped
    return ratio(rbp(q), _geometric(np.ones(first), q.parameter))


def rbp_residual(q: Query) -> float:
    """What RBP could still gain: the weight of the unjudged among the first k, and of all that comes after them."""
    unjudged = ~q.judged[: q.k]
    return _geometric(unjudged, q.parameter) + q.parameter ** len(unjudged)


def _geometric(worth: np.ndarray, p: float) -> float:
    return (1 - p) * float(sum(p**place * value for place, value in enumerate(worth.tolist()) if value))


METRICS = [
    Metric("err", err, "err", (), (("max_gain", None),)),
    Metric("nerr", nerr, "nerr", (), (("max_gain", None),)),
    Metric("rbp", rbp, "rbp", (), (("p", 0.8),)),
    Metric("graded_rbp", graded_rbp, "graded_rbp", (), (("p", 0.8), ("max_gain", None))),
    Metric(
        "normalized_rbp", normalized_rbp, "normal_rbp", ("normalised_rbp",), (("p", 0.8),), uses=("short",)
    ),
    Metric("rbp_residual", rbp_residual, "rbp_residual", (), (("p", 0.8),), better=-1),
]
