"""Plain counts, under trec_eval's names."""

from __future__ import annotations

from fastrec.evaluation.metrics.base import Metric, Query


def num_ret(q: Query) -> float:
    """Items in the list, at most k."""
    return float(min(len(q.gains), q.k))


def num_rel(q: Query) -> float:
    """Relevant items in the truth."""
    return float(q.num_relevant)


def num_rel_ret(q: Query) -> float:
    """Relevant items among the first k."""
    return float(q.hits.sum())


METRICS = [
    Metric("num_ret", num_ret, "retrieved", averages_ties=True, better=0),
    Metric("num_rel", num_rel, "relevant", averages_ties=True, better=0),
    Metric("num_rel_ret", num_rel_ret, "relevant_retrieved", ("hits",), averages_ties=True),
]
