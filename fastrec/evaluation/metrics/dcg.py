"""Discounted cumulative gain (Järvelin and Kekäläinen 2002), discount 1 / log2(rank + 1)."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrec.evaluation.metrics.base import Metric, Query, ratio


def gain_values(gains: Any, gain: object, level: float | None, xp: Any = np) -> Any:
    """The gain function of each grade: never negative.  ``xp``: NumPy or CuPy, whichever `gains` is of."""
    if gain == "binary":
        return xp.where(gains > 0 if level is None else gains >= level, 1.0, 0.0)
    if isinstance(gain, dict):
        values = xp.zeros(len(gains))
        for grade, value in gain.items():
            values = xp.where(gains == grade, float(value), values)
        return xp.maximum(values, 0.0)
    positive = xp.maximum(gains, 0.0)
    return xp.exp2(positive) - 1.0 if gain == "exponential" else positive


def discounted(values: np.ndarray, q: Query) -> float:
    return float((values * q.convention.discounts(len(values))).sum())


def dcg(q: Query) -> float:
    """Sum of gain / log2(rank + 1) over the first k; ``base`` is that of another logarithm."""
    values = gain_values(q.gains, q.convention.gain, q.convention.relevance_level)
    return discounted(np.where(q.judged, values, 0.0)[: q.k], q) * (
        float(np.log2(q.parameter)) if q.parameters else 1.0
    )


def ndcg(q: Query) -> float:
    """DCG over that of the ideal list, cut at k as well."""
    convention = q.convention
    if convention.ideal == "full":
        return ratio(dcg(q), discounted(np.ones(q.k), q))
    gains = q.truth if convention.ideal == "judged" else q.gains[q.judged]
    ideal = np.sort(gain_values(gains, convention.gain, convention.relevance_level))[::-1]
    return ratio(dcg(q), discounted(ideal[: q.cutoff], q))


METRICS = [
    Metric("dcg", dcg, "dcg", (), (("base", 2.0),), averages_ties=True, uses=("gain", "discount")),
    Metric("ndcg", ndcg, "ndcg", ("ndcg_cut",), averages_ties=True, uses=("gain", "discount", "ideal")),
]
