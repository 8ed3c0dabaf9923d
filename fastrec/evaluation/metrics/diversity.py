"""Metrics by subtopic (intent): a list is good when it covers what a query may mean, and repeats none of it.

The definitions are those of TREC's ndeval.  An item counts for every subtopic it is relevant to; only subtopics with a
relevant item count, S of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial

import numpy as np

from fastrec.evaluation.metrics.base import Metric, Query, ratio

Weights = Callable[[int], np.ndarray]  # of the first n ranks


def novelty(topics: Iterable[tuple[int, ...]], alpha: float) -> np.ndarray:
    """What each item of a list adds: for each of its subtopics, (1 - alpha)^(times it came before)."""
    worth: dict[int, float] = {}
    added = []
    for item in topics:
        added.append(sum(worth.get(topic, 1.0) for topic in item))
        for topic in item:
            worth[topic] = worth.get(topic, 1.0) * (1.0 - alpha)
    return np.array(added)


def greedy_ideal(q: Query, alpha: float) -> np.ndarray:
    """What each item adds to the list that always takes what adds most; ties go to the id that is last as text."""
    left = [item for item in q.truth_topics if item]
    chosen: list[tuple[int, ...]] = []
    worth: dict[int, float] = {}
    while left:
        best = max(range(len(left)), key=lambda i: (sum(worth.get(topic, 1.0) for topic in left[i]), -i))
        for topic in left[best]:
            worth[topic] = worth.get(topic, 1.0) * (1.0 - alpha)
        chosen.append(left.pop(best))
    return novelty(chosen, alpha)


def reciprocal(n: int) -> np.ndarray:
    return 1.0 / np.arange(1, n + 1)


def ideal_of_ideals(k: int, alpha: float, weights: Weights) -> float:
    """What k items could add to one subtopic."""
    if alpha > 0:  # what comes later is below the smallest float
        k = min(k, 1 if alpha == 1 else math.ceil(-745 / math.log1p(-alpha)) + 1)
    return float(((1.0 - alpha) ** np.arange(k) * weights(k)).sum())


def _gained(q: Query, weights: Weights) -> float:
    added = novelty(q.topics[: q.k], q.parameter)
    return float((added * weights(len(added))).sum())


def _over_perfect(q: Query, weights: Weights) -> float:
    return ratio(_gained(q, weights), q.num_topics * ideal_of_ideals(q.k, q.parameter, weights))


def _over_ideal(q: Query, weights: Weights) -> float:
    ideal = greedy_ideal(q, q.parameter)[: q.cutoff]
    return ratio(_gained(q, weights), (ideal * weights(len(ideal))).sum())


def alpha_dcg(q: Query) -> float:
    """Novelty of each item / log2(rank + 1), over that of k items that each cover all subtopics.

    Clarke et al. 2008, as ndeval scales it (ndeval leaves k = 1 alone unscaled).
    """
    return _over_perfect(q, q.convention.discounts)


def alpha_ndcg(q: Query) -> float:
    """The same over that of the greedy ideal list, cut at k as well (Clarke et al. 2008)."""
    return _over_ideal(q, q.convention.discounts)


def err_ia(q: Query) -> float:
    """Intent-aware expected reciprocal rank: novelty / rank, over that of k items that each cover all subtopics.

    Chapelle et al. 2009, as ndeval scales it (ndeval leaves k = 1 alone unscaled).
    """
    return _over_perfect(q, reciprocal)


def nerr_ia(q: Query) -> float:
    """Novelty / rank, over that of the greedy ideal list, cut at k as well."""
    return _over_ideal(q, reciprocal)


def _patience(beta: float, n: int) -> np.ndarray:
    return np.asarray(beta ** np.arange(n))


def nrbp(q: Query) -> float:
    """Novelty- and rank-biased precision (Clarke, Kolla, Vechtomova 2009): novelty * beta^(rank - 1), scaled to 1."""
    alpha, beta = q.parameters
    scale = 1.0 - (1.0 - alpha) * beta
    return ratio(_gained(q, partial(_patience, beta)) * scale, q.num_topics)


def nnrbp(q: Query) -> float:
    """NRBP over that of the greedy ideal list, cut at k as well."""
    return _over_ideal(q, partial(_patience, q.parameters[1]))


def ap_ia(q: Query) -> float:
    """Mean over the subtopics of average precision (Agrawal et al. 2009)."""
    in_truth = [topic for item in q.truth_topics for topic in item]
    found = dict.fromkeys(in_truth, 0)
    total = 0.0
    for rank, item in enumerate(q.topics[: q.k], start=1):
        for topic in item:
            found[topic] += 1
            total += found[topic] / rank / in_truth.count(topic)
    return ratio(total, q.num_topics)


def precision_ia(q: Query) -> float:
    """Mean over the subtopics of precision (Agrawal et al. 2009)."""
    return ratio(sum(len(item) for item in q.topics[: q.k]), q.depth * q.num_topics)


def subtopic_recall(q: Query) -> float:
    """Share of the subtopics that the first k cover (Zhai, Cohen, Lafferty 2003)."""
    return ratio(len({topic for item in q.topics[: q.k] for topic in item}), q.num_topics)


_ALPHA, _BETA = ("alpha", 0.5), ("beta", 0.5)
METRICS = [
    Metric("alpha_dcg", alpha_dcg, "alpha_dcg", (), (_ALPHA,), subtopics=True, uses=("discount",)),
    Metric("alpha_ndcg", alpha_ndcg, "alpha_ndcg", (), (_ALPHA,), subtopics=True, uses=("discount",)),
    Metric("err_ia", err_ia, "err_ia", (), (_ALPHA,), subtopics=True),
    Metric("nerr_ia", nerr_ia, "nerr_ia", (), (_ALPHA,), subtopics=True),
    Metric("nrbp", nrbp, "nrbp", (), (_ALPHA, _BETA), subtopics=True),
    Metric("nnrbp", nnrbp, "nnrbp", (), (_ALPHA, _BETA), subtopics=True),
    Metric("map_ia", ap_ia, "ap_ia", ("ap_ia",), subtopics=True),
    Metric("precision_ia", precision_ia, "precision_ia", ("p_ia",), subtopics=True, uses=("short",)),
    Metric(
        "subtopic_recall",
        subtopic_recall,
        "subtopic_recall",
        ("s_recall", "st_recall", "strec"),
        subtopics=True,
    ),
]
