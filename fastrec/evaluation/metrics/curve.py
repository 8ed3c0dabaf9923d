"""Precision by recall: interpolated precision at a recall level, and its 11-point mean."""

from __future__ import annotations

import math

from fastrec.evaluation.metrics.base import Metric, Query


def interpolated(q: Query, recall: float, version: float) -> float:
    # How many relevant items reach the level: trec_eval 9 truncates x + 0.9, trec_eval 10 rounds x half up.
    need = math.floor(recall * q.num_relevant + (0.9 if version < 10 else 0.5))
    found, top = 0, 0.0
    for rank, hit in enumerate(q.hits, start=1):
        found += int(hit)
        if hit and found >= need:
            top = max(top, found / rank)
    return top


def iprec_at_recall(q: Query) -> float:
    """Highest precision at or after the rank where the recall level is reached; 0 where it is not.

    ``version`` is that of trec_eval, 9 or 10: they round recall * R to a number of items differently.
    """
    return interpolated(q, *q.parameters)


def eleven_point_average(q: Query) -> float:
    """Mean of the interpolated precision at recall 0, 0.1, ..., 1."""
    return sum(interpolated(q, i / 10.0, q.parameter) for i in range(11)) / 11.0


METRICS = [
    Metric("iprec_at_recall", iprec_at_recall, "iprec", ("iprec",), (("recall", 0.5), ("version", 9.0))),
    Metric(
        "11pt_avg",
        eleven_point_average,
        "eleven_point",
        ("11pt", "eleven_point_average"),
        (("version", 9.0),),
    ),
]
