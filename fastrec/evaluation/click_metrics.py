"""The click metrics: what each needs to be summed, and how it follows from the sums."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fastrec.evaluation.click_pair_sums import PairSums
from fastrec.evaluation.click_point_sums import PointSums
from fastrec.evaluation.click_rank_sums import RankSums

GAUC_WEIGHTS = ("impressions", "positives", "uniform")


class Undefined(Exception):
    """A metric has no value on these rows; the message says why, ``value`` stands in."""

    def __init__(self, why: str, value: float = math.nan) -> None:
        super().__init__(why)
        self.value = value


class Confusion(NamedTuple):
    """Weight of the true and false positives and negatives at a threshold."""

    tp: float
    fp: float
    fn: float
    tn: float


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: what it is, what it needs, and how it follows from the sums."""

    compute: Callable[[Sums, Any], float]
    needs: tuple[str, ...]
    labels: str = "binary"  # binary: 0 or 1; soft: 0..1; real
    probabilities: bool = False
    parameter: str | None = None
    better: int = 1  # 1: the larger the better, -1: the smaller, 0: neither


METRICS: dict[str, Metric] = {}
ALIASES = {
    "roc_auc": "auc",
    "partial_auc": "pauc",
    "pr_auc": "ap",
    "average_precision": "ap",
    "log_loss": "logloss",
    "normalized_entropy": "ne",
    "calibration": "pcoc",
    "brier_score": "brier",
    "tnr": "specificity",
    "tpr": "recall",
}
THRESHOLD_METRICS = ("accuracy", "precision", "recall", "specificity", "f1", "mcc")


def _metric(name: str, needs: str, **options: Any) -> Callable[[Callable[..., float]], Callable[..., float]]:
    def add(compute: Callable[..., float]) -> Callable[..., float]:
        METRICS[name] = Metric(compute, tuple(needs.split()), **options)
        return compute

    return add


class Sums:
    """What was summed for one call; metrics read from it."""

    def __init__(self) -> None:
        self.rank: RankSums
        self.point: PointSums
        self.pair: PairSums
        self.bins: dict[int, np.ndarray] = {}
        self.confusion: dict[float, Confusion] = {}
        self.partial: dict[float, float] = {}
        self.gain: dict[float, float] = {}
        self.mass: dict[int, np.ndarray] = {}
        self.group_rows: np.ndarray
        self.group_gap: float
        self.zero_division = 0.0
        self.weighted = False

    def both_classes(self) -> None:
        if not self.rank.positive or not self.rank.negative:
            only = "positive" if self.rank.positive else "negative"
            raise Undefined(f"every row{' that has a weight' if self.weighted else ''} is {only}")


def _share(top: float, bottom: float, why: str) -> float:
    if not bottom:
        raise Undefined(why)
    return top / bottom


@_metric("auc", "rank")
def _(sums: Sums, _: Any) -> float:
    sums.both_classes()
    return sums.rank.pairs / (sums.rank.positive * sums.rank.negative)


@_metric("pauc", "rank", parameter="max_fpr")
def _(sums: Sums, max_fpr: float) -> float:
    sums.both_classes()
    area = sums.partial[max_fpr] / (sums.rank.positive * sums.rank.negative)
    if max_fpr == 1.0:
        return area
    least = max_fpr**2 / 2
    return 0.5 * (1.0 + (area - least) / (max_fpr - least))


@_metric("gauc", "groups", parameter="gauc_weights")
def _(sums: Sums, weights: str) -> float:
    positive, negative = sums.rank.group_positive, sums.rank.group_negative
    both = (positive > 0) & (negative > 0)
    if not both.any():
        raise Undefined("no group holds both classes")
    positive, negative = positive[both], negative[both]
    auc = sums.rank.group_pairs[both] / (positive * negative)
    weight = {"impressions": positive + negative, "positives": positive}.get(weights, np.ones(len(auc)))
    return math.fsum((weight * auc).tolist()) / math.fsum(weight.tolist())


@_metric("ap", "rank everything")
def _(sums: Sums, _: Any) -> float:
    return _share(sums.rank.precision, sums.rank.positive, "no row is positive")


@_metric("ks", "rank everything")
def _(sums: Sums, _: Any) -> float:
    sums.both_classes()
    return sums.rank.ks


@_metric("best_f1", "rank everything")
def _(sums: Sums, _: Any) -> float:
    if not sums.rank.positive:
        raise Undefined("no row is positive")
    return sums.rank.f1


@_metric("gain", "rank", parameter="top")
def _(sums: Sums, top: float) -> float:
    return _share(sums.gain[top], sums.rank.positive, "no row is positive")


@_metric("lift", "rank", parameter="top")
def _(sums: Sums, top: float) -> float:
    return _share(sums.gain[top], sums.rank.positive * top, "no row is positive")


@_metric("logloss", "loss", labels="soft", probabilities=True, better=-1)
def _(sums: Sums, _: Any) -> float:
    return sums.point.loss / sums.point.weight


@_metric("ne", "loss", labels="soft", probabilities=True, better=-1)
def _(sums: Sums, _: Any) -> float:
    rate = sums.point.label / sums.point.weight
    if not 0 < rate < 1:
        raise Undefined("the entropy of the labels is 0")
    entropy = -(rate * math.log(rate) + (1 - rate) * math.log1p(-rate))
    return sums.point.loss / sums.point.weight / entropy


@_metric("rig", "loss", labels="soft", probabilities=True)
def _(sums: Sums, _: Any) -> float:
    return 1.0 - METRICS["ne"].compute(sums, None)


@_metric("pcoc", "point", labels="soft", probabilities=True, better=0)
def _(sums: Sums, _: Any) -> float:
    return _share(sums.point.prob, sums.point.label, "the labels sum to 0")


@_metric("brier", "point", labels="soft", probabilities=True, better=-1)
def _(sums: Sums, _: Any) -> float:
    return sums.point.square / sums.point.weight


def _gaps(bins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weight of each bin that has any, and |mean label - mean probability| in it."""
    weight, label, prob = bins[bins[:, 0] > 0].T
    return weight, np.abs(label / weight - prob / weight)


@_metric("ece", "bins", labels="soft", probabilities=True, parameter="bins", better=-1)
def _(sums: Sums, bins: int) -> float:
    weight, gaps = _gaps(sums.bins[bins])
    return math.fsum((weight * gaps).tolist()) / math.fsum(weight.tolist())


@_metric("mce", "bins", labels="soft", probabilities=True, parameter="bins", better=-1)
def _(sums: Sums, bins: int) -> float:
    return float(_gaps(sums.bins[bins])[1].max())


@_metric("ace", "rank", probabilities=True, parameter="bins", better=-1)
def _(sums: Sums, bins: int) -> float:
    weight, gaps = _gaps(sums.mass[bins])
    return math.fsum((weight * gaps).tolist()) / math.fsum(weight.tolist())


@_metric("field_ece", "groups gap", labels="soft", probabilities=True, better=-1)
def _(sums: Sums, _: Any) -> float:
    return sums.group_gap / sums.point.weight


@_metric("mse", "point", labels="real", better=-1)
def _(sums: Sums, _: Any) -> float:
    return sums.point.square / sums.point.weight


@_metric("rmse", "point", labels="real", better=-1)
def _(sums: Sums, _: Any) -> float:
    return math.sqrt(sums.point.square / sums.point.weight)


@_metric("mae", "point", labels="real", better=-1)
def _(sums: Sums, _: Any) -> float:
    return sums.point.absolute / sums.point.weight


@_metric("r2", "spread", labels="real")
def _(sums: Sums, _: Any) -> float:
    return 1.0 - _share(sums.point.square, sums.point.spread, "all labels are equal")


@_metric("xauc", "pairs", labels="real")
def _(sums: Sums, _: Any) -> float:
    pair = sums.pair
    return _share(pair.pairs - pair.discordant - pair.tied / 2, pair.pairs, "all labels are equal")


def _of_confusion(name: str, compute: Callable[[Confusion], tuple[float, float]]) -> None:
    def value(sums: Sums, threshold: float) -> float:
        top, bottom = compute(sums.confusion[threshold])
        if not bottom:
            raise Undefined(f"0 / 0, given as zero_division={sums.zero_division}", sums.zero_division)
        return top / bottom

    METRICS[name] = Metric(value, ("confusion",), parameter="threshold")


_of_confusion("accuracy", lambda c: (c.tp + c.tn, sum(c)))
_of_confusion("precision", lambda c: (c.tp, c.tp + c.fp))
_of_confusion("recall", lambda c: (c.tp, c.tp + c.fn))
_of_confusion("specificity", lambda c: (c.tn, c.tn + c.fp))
_of_confusion("f1", lambda c: (2 * c.tp, 2 * c.tp + c.fp + c.fn))
_of_confusion(
    "mcc",
    lambda c: (
        c.tp * c.tn - c.fp * c.fn,
        math.sqrt(c.tp + c.fp) * math.sqrt(c.tp + c.fn) * math.sqrt(c.tn + c.fp) * math.sqrt(c.tn + c.fn),
    ),
)
