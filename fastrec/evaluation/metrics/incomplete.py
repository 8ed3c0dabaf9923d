"""Metrics for incomplete judgements: bpref, inferred AP, and how much of a list is judged at all."""

from __future__ import annotations

from fastrec.evaluation.metrics.base import Metric, Query, ratio


def bpref(q: Query) -> float:
    """How few judged non-relevant items stand above the relevant ones (Buckley and Voorhees 2004).

    1 where no judged item is non-relevant and all relevant ones are found; a negative gain is no judgement here.
    """
    relevant = q.relevant(q.truth)
    most = min(int((~relevant & (q.truth >= 0)).sum()), q.num_relevant)
    total, above = 0.0, 0
    for gain, judged, hit in zip(q.gains[: q.k], q.judged, q.hits):
        if hit:
            total += 1.0 - min(above, q.num_relevant) / most if above else 1.0
        elif judged and gain >= 0:
            above += 1
    return ratio(total, q.num_relevant)


def infap(q: Query) -> float:
    """Inferred average precision (Yilmaz and Aslam 2006) as trec_eval computes it.

    A negative gain marks an item that was pooled and not judged.
    """
    eps = 0.00001
    total = rel = non = unjudged = 0.0
    for place, (gain, judged, hit) in enumerate(zip(q.gains[: q.k], q.judged, q.hits)):
        if hit:
            if place == 0:
                total += 1.0
            else:
                pooled = (rel + non + unjudged) / place
                total += 1 / (place + 1) + place / (place + 1) * pooled * (rel + eps) / (rel + non + 2 * eps)
            rel += 1
        elif judged and gain >= 0:
            non += 1
        elif judged:
            unjudged += 1
    return ratio(total, q.num_relevant)


def judged(q: Query) -> float:
    """Share of the first k (of the list, where that is shorter) that have a judgement."""
    return ratio(q.judged[: q.k].sum(), min(q.k, len(q.judged)))


def unjudged(q: Query) -> float:
    """Share of the first k (of the list, where that is shorter) that have none."""
    return ratio((~q.judged[: q.k]).sum(), min(q.k, len(q.judged)))


METRICS = [
    Metric("bpref", bpref, "bpref"),
    Metric("infap", infap, "infap"),
    Metric("judged", judged, "judged", better=0),
    Metric("unjudged", unjudged, "unjudged", better=0),
]
