"""Metrics over pairs and ranks: AUC within a list, over its head or over the catalogue; mean rank; ordered pairs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastrec.evaluation.metrics.base import Metric, Query, ratio


def _share_in_order(q: Query, gains: np.ndarray, tie: float) -> float:
    """Share of the pairs with different gains in which the higher gain stands above; a tied pair counts ``tie``."""
    won = pairs = 0.0
    for i in range(len(gains)):
        for j in range(i + 1, len(gains)):
            if gains[i] != gains[j]:
                pairs += 1
                won += tie if q.block[i] == q.block[j] else float(gains[i] > gains[j])
    return won / pairs if pairs else math.nan


def auc(q: Query) -> float:
    """Chance that a relevant item of the list stands above another one, a half for a tied pair.

    Undefined (NaN, left out of the mean and counted) where the first k are all relevant or none is.
    """
    return _share_in_order(q, q.hits.astype(float), 0.5)


def limited_auc(q: Query) -> float:
    """AUC over the catalogue of ``n_items``, of which only the first k are ranked (Schröder et al. 2011).

    The ROC curve follows the list and then goes straight to (1, 1): what is not in the list stands in any order.
    Undefined (NaN) where every item of the catalogue is relevant.
    """
    relevant, others = q.num_relevant, q.parameter - q.num_relevant
    if others <= 0:
        return math.nan
    hits = q.hits
    found, missed = int(hits.sum()), int((~hits).sum())
    under_list = float(np.cumsum(hits)[~hits].sum()) / others
    beyond = (1.0 - missed / others) * (found + relevant) / 2.0
    return ratio(under_list + beyond, relevant)


def partial_auc(q: Query) -> float:
    """AUC of all R relevant items against the first k others of the list (RecTools' PartialAUC).

    The list must be longer than k: R + k items are enough.  Relevant items that it lacks stand below the k others.
    """
    return _against_first_others(q, q.num_relevant)


def pap(q: Query) -> float:
    """The same of the first min(R, k) relevant items: pAp@k (Budhiraja et al. 2020), RecTools' PAP."""
    return _against_first_others(q, q.capped)


def _against_first_others(q: Query, count: int) -> float:
    hits = q.relevant(q.gains) & q.judged
    others_above = np.cumsum(~hits)[hits][:count]
    return ratio(np.maximum(q.k - others_above, 0).sum(), count * q.k)


def pair_accuracy(q: Query) -> float:
    """Ordered-pair accuracy: pairs of the first k with different gains that are in order; unjudged items have gain 0.

    A tied pair counts ``tie``: 0.5, or 0 as in TensorFlow Ranking.
    """
    return _share_in_order(q, q.gains[: q.k], q.parameter)


def mean_rank(q: Query) -> float:
    """Mean rank of the relevant items among the first k; undefined (NaN) without any."""
    places = np.flatnonzero(q.hits)
    return float((places + 1).mean()) if len(places) else math.nan


def average_relevance_position(q: Query) -> float:
    """Mean rank of the relevant items among the first k, weighted by gain (TensorFlow Ranking's ARP)."""
    places = np.flatnonzero(q.hits)
    gains = np.maximum(q.gains[places], 0.0)
    return float((gains * (places + 1)).sum() / gains.sum()) if gains.sum() > 0 else math.nan


# Which items of a tied block stand above the cutoff is for these a matter of their order.
_CUT: dict[str, Any] = {"averages_ties": True, "averages_cut_ties": False}
METRICS = [
    Metric("auc", auc, "auc", ("rank_auc",), **_CUT),
    Metric("lauc", limited_auc, "limited_auc", ("limited_auc",), (("n_items", None),)),
    Metric("pauc", partial_auc, "partial_auc", ("partial_auc",), needs_cutoff=True),
    Metric("pap", pap, "partial_top", (), needs_cutoff=True),
    Metric("mean_rank", mean_rank, "mean_rank", (), better=-1, **_CUT),
    Metric(
        "arp", average_relevance_position, "gain_rank", ("average_relevance_position",), better=-1, **_CUT
    ),
    Metric(
        "pair_accuracy",
        pair_accuracy,
        "pair_accuracy",
        ("opa", "ordered_pair_accuracy"),
        (("tie", 0.5),),
        **_CUT,
    ),
]
