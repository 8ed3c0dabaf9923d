"""Agreement of a list with an ideal one made of the judgements."""

from __future__ import annotations

from fastrec.evaluation.metrics.base import Metric, Query, ratio


def compatibility(q: Query) -> float:
    """Rank-biased overlap of the list with the ideal list nearest to it, over its best (Clarke et al. 2021).

    The ideal list holds the relevant items by gain; of those with equal gains, the ones the list has come first, in
    its order.  The overlap is summed to the length of the longer of the two.
    """
    hits = q.relevant(q.gains) & q.judged
    listed = sorted((-float(gain), place) for place, gain in enumerate(q.gains) if hits[place])
    seen = [gain for gain, _ in listed]
    ideal = list(listed)
    for gain in q.truth[q.relevant(q.truth)].tolist():  # those the list lacks have no place in it
        if -gain in seen:
            seen.remove(-gain)
        else:
            ideal.append((-gain, len(q.gains) + len(ideal)))
    ideal.sort()
    length = min(len(q.gains), q.k)
    depth = max(length, len(ideal))
    total = best = 0.0
    for d in range(1, depth + 1):
        head = {place for _, place in ideal[:d]}
        total += q.parameter ** (d - 1) * len(head & set(range(min(d, length)))) / d
        best += q.parameter ** (d - 1) * len(head) / d
    return ratio(total, best)


METRICS = [
    Metric("compatibility", compatibility, "compatibility", ("compat",), (("p", 0.95),)),
]
