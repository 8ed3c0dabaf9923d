"""Average precision and its kin, and the reciprocal rank."""

from __future__ import annotations

import numpy as np

from fastrec.evaluation.metrics.base import Metric, Query, ratio

GMAP_FLOOR = 1e-5


def average_precision(q: Query) -> float:
    """Sum of the precision at each relevant item of the first k, over R (or what ``map_denominator`` says)."""
    hits = q.hits
    precisions = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    denominator = {
        "relevant": q.num_relevant,
        "capped": q.capped,
        "cutoff": q.k,
        "hits": int(hits.sum()),
        "length": min(q.num_relevant, q.k, len(q.gains)),
    }[q.convention.map_denominator]
    return ratio(precisions[hits].sum(), denominator)


def reciprocal_rank(q: Query) -> float:
    """1 / rank of the first relevant item, 0 where the first k hold none."""
    places = np.flatnonzero(q.hits)
    return 1.0 / (places[0] + 1) if len(places) else 0.0


def floored_average_precision(q: Query) -> float:
    """Average precision, at least 1e-5; queries are averaged by the geometric mean (Robertson 2006).

    Under ``ties="average"``, expected average precision, at least 1e-5.
    """
    return max(average_precision(q), GMAP_FLOOR)


METRICS = [
    Metric(
        "map",
        average_precision,
        "ap",
        ("ap", "average_precision", "mean_average_precision", "map_cut"),
        averages_ties=True,
        uses=("map_denominator",),
    ),
    Metric(
        "gmap",
        floored_average_precision,
        "ap",
        ("gm_map",),
        averages_ties=True,
        mean="geometric",
        uses=("map_denominator",),
    ),
    Metric(
        "mrr",
        reciprocal_rank,
        "rr",
        ("rr", "recip_rank", "reciprocal_rank", "mean_reciprocal_rank"),
        averages_ties=True,
    ),
]
