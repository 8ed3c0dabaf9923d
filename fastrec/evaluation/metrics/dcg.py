"""Discounted cumulative gain (Järvelin and Kekäläinen 2002), discount 1 / log2(rank + 1)."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrec.evaluation.conventions import Convention
from fastrec.evaluation.metrics.base import Metric, Query, ratio


def gain_values(gains: Any, convention: Convention, xp: Any = np) -> Any:
    """The gain function of each grade: never negative.  ``xp``: NumPy or CuPy, whichever `gains` is of."""
    gain, level = convention.gain, convention.relevance_level
    if gain == "binary":
        return xp.where(gains > 0 if level is None else gains >= level, 1.0, 0.0)
    if isinstance(gain, dict):
        values = xp.zeros(len(gains))
        for grade, value in gain.items():
            values = xp.where(gains == grade, float(value), values)
        values = xp.maximum(values, 0.0)
    else:
        values = xp.maximum(gains, 0.0)
        if gain == "exponential":
            values = xp.exp2(values) - 1.0
    if level is not None and convention.below_level == "nothing":
        values = xp.where(gains >= level, values, 0.0)
    return values


def discounted(values: np.ndarray, q: Query) -> float:
    return float((values * q.convention.discounts(len(values))).sum())


def dcg(q: Query) -> float:
    """Sum of gain / log2(rank + 1) over the first k; ``base`` is that of another logarithm."""
    values = gain_values(q.gains, q.convention)
    return discounted(np.where(q.judged, values, 0.0)[: q.k], q) * (
        float(np.log2(q.parameter)) if q.parameters else 1.0
    )


def ndcg(q: Query) -> float:
    """DCG over that of the ideal list, cut at k as well."""
    convention = q.convention
    if convention.ideal == "full":
        return ratio(dcg(q), discounted(np.ones(q.k), q))
    gains = q.truth if convention.ideal == "judged" else q.gains[q.judged]
    ideal = np.sort(gain_values(gains, convention))[::-1]
    return ratio(dcg(q), discounted(ideal[: q.cutoff], q))


METRICS = [
    Metric("dcg", dcg, "dcg", (), (("base", 2.0),), averages_ties=True, uses=("gain", "discount")),
    Metric("ndcg", ndcg, "ndcg", ("ndcg_cut",), averages_ties=True, uses=("gain", "discount", "ideal")),
]
