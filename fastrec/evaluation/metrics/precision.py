"""Precision, recall, their harmonic mean, hit rate and R-precision: what share of what."""

from __future__ import annotations

from fastrec.evaluation.metrics.base import Metric, Query, ratio


def precision(q: Query) -> float:
    """Relevant among the first k, over k (``short="len"``: over the list's length where that is less)."""
    return ratio(q.hits.sum(), q.depth)


def recall(q: Query) -> float:
    """Relevant among the first k, over R (``recall_denominator="capped"``: over min(R, k))."""
    return ratio(q.hits.sum(), q.num_relevant if q.convention.recall_denominator == "relevant" else q.capped)


def f_beta(q: Query) -> float:
    """Weighted harmonic mean of precision and recall; beta > 1 leans to recall."""
    p, r, b = precision(q), recall(q), q.parameter**2
    return ratio((1 + b) * p * r, b * p + r)


def hit_rate(q: Query) -> float:
    """1 where any of the first k is relevant."""
    return float(q.hits.any())


def r_precision(q: Query) -> float:
    """Precision after R items."""
    return ratio(q.hits[: q.num_relevant].sum(), q.num_relevant)


METRICS = [
    Metric(
        "precision",
        precision,
        "precision",
        ("p", "prec", "set_p"),
        averages_ties=True,
        uses=("short", "precision_average"),
    ),
    Metric(
        "recall",
        recall,
        "recall",
        ("r", "set_recall", "set_r"),
        averages_ties=True,
        uses=("recall_denominator",),
    ),
    Metric(
        "f1",
        f_beta,
        "fbeta",
        ("f", "f_measure", "set_f"),
        (("beta", 1.0),),
        averages_ties=True,
        uses=("short", "recall_denominator"),
    ),
    Metric(
        "f_beta",
        f_beta,
        "fbeta",
        (),
        (("beta", 1.0),),
        averages_ties=True,
        uses=("short", "recall_denominator"),
    ),
    Metric("hit_rate", hit_rate, "hit", ("hit", "hit_ratio", "hr", "success"), averages_ties=True),
    Metric("r_precision", r_precision, "rprec", ("rprec", "r_prec"), averages_ties=True),
]
