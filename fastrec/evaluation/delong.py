"""The variance of an AUC, and intervals from it.

Source: DeLong, DeLong and Clarke-Pearson, *Comparing the areas under two or more correlated receiver operating
characteristic curves*, Biometrics 1988; Sun and Xu, *Fast implementation of DeLong's algorithm*, IEEE Signal Processing
Letters 2014.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from fastrec.evaluation.click_pair_sums import falling
from fastrec.evaluation.click_rank_sums import RankSums


class Interval(NamedTuple):
    """A confidence interval: ``low, high`` around ``value``, whose standard error is ``error``."""

    low: float
    high: float
    value: float
    error: float
    level: float


def delong_error(sums: RankSums) -> float:
    """The standard error of the AUC of unweighted rows; NaN where a class has fewer than two rows.

    The AUC is a mean over positives of the share of negatives below each, and over negatives of the share of positives
    above; its variance is the sum of the variances of these two means.
    """
    positives, negatives = sums.positive, sums.negative
    if positives < 2 or negatives < 2:
        return math.nan
    auc = sums.pairs / (positives * negatives)
    of_positives = sums.positive2 / negatives**2 - positives * auc**2
    of_negatives = sums.negative2 / positives**2 - negatives * auc**2
    variance = of_positives / (positives - 1) / positives + of_negatives / (negatives - 1) / negatives
    return math.sqrt(max(variance, 0.0)) if 0 < auc < 1 else 0.0


def normal_interval(value: float, error: float, level: float, bounds: tuple[float, float] | None) -> Interval:
    """``value`` plus and minus the normal quantile times ``error``, cut at ``bounds``."""
    from statistics import NormalDist  # which loads decimal fractions, and with them a tenth of a first call

    reach = NormalDist().inv_cdf(0.5 + level / 2) * error
    low, high = value - reach, value + reach
    if bounds is not None:
        low, high = max(low, bounds[0]), min(high, bounds[1])
    return Interval(low, high, value, error, level)


def placements(y: np.ndarray, scores: np.ndarray, threads: int) -> np.ndarray:
    """(n,) float64: for a positive the share of negatives with a lower score, for a negative the share of positives
    with a higher one, ties one half.  The mean over either class is the AUC.

    ``y``: (n,) uint8, holding both classes; ``scores``: (n,) float32 or float64, no NaN.
    """
    order, starts = falling(scores, threads)
    clicked = y[order].astype(np.int64)
    above = np.append(0, np.cumsum(clicked))  # positives before each row of the order
    begin, end = starts[:-1], starts[1:]
    positives, negatives = int(above[-1]), len(y) - int(above[-1])
    tied = above[end] - above[begin]
    of_negative = (above[begin] + tied / 2) / positives
    of_positive = ((negatives - (end - above[end])) + (end - begin - tied) / 2) / negatives
    sizes = np.diff(starts)
    out = np.empty(len(y))
    out[order] = np.where(clicked == 1, np.repeat(of_positive, sizes), np.repeat(of_negative, sizes))
    return out


def paired_error(y: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
    """The standard error of the difference of two AUCs on the same rows, from their :func:`placements`; NaN where a
    class has fewer than two rows."""
    difference = second - first
    variance = 0.0
    for label in (1, 0):
        of_class = difference[y == label]
        if len(of_class) < 2:
            return math.nan
        variance += float(of_class.var(ddof=1)) / len(of_class)
    return math.sqrt(variance)
