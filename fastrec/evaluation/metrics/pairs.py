"""Metrics over pairs and ranks: AUC within a list, mean rank, ordered-pair accuracy."""

from __future__ import annotations

import math

import numpy as np

from fastrec.evaluation.metrics.base import Metric, Query


def _share_in_order(q: Query, gains: np.ndarray) -> float:
    """Share of the pairs with different gains in which the higher gain stands above; a tied pair counts a half."""
    won = pairs = 0.0
    for i in range(len(gains)):
        for j in range(i + 1, len(gains)):
            if gains[i] != gains[j]:
                pairs += 1
                won += 0.5 if q.block[i] == q.block[j] else float(gains[i] > gains[j])
    return won / pairs if pairs else math.nan


def auc(q: Query) -> float:
    """Chance that a relevant item of the list stands above another one, a half for a tied pair.

    Undefined (NaN, left out of the mean and counted) where the first k are all relevant or none is.
    """
    return _share_in_order(q, q.hits.astype(float))


def pair_accuracy(q: Query) -> float:
    """Ordered-pair accuracy: the same over all pairs with different gains; unjudged items have gain 0."""
    return _share_in_order(q, q.gains[: q.k])


def mean_rank(q: Query) -> float:
    """Mean rank of the relevant items among the first k; undefined (NaN) without any."""
    places = np.flatnonzero(q.hits)
    return float((places + 1).mean()) if len(places) else math.nan


METRICS = [
    Metric("auc", auc, "auc", ("rank_auc",), averages_ties=True),
    Metric("mean_rank", mean_rank, "mean_rank", ("arp", "average_relevance_position"), averages_ties=True),
    Metric(
        "pair_accuracy", pair_accuracy, "pair_accuracy", ("opa", "ordered_pair_accuracy"), averages_ties=True
    ),
]
