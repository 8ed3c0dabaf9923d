"""The tests behind ``fr.compare``, each for all metrics of one pair of runs, and corrections for many tests.

A test takes the (Q, M) differences of two runs, NaN where either is not defined, and returns the statistic
and the p-value of each metric.  Every one of them answers for degenerate input: no query gives NaN, runs that
never differ give p = 1.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from fastrec.evaluation.bootstrap import Bootstrap
from fastrec.evaluation.resample import rounding, sign_flip_sums

ALTERNATIVES = ("two-sided", "greater", "less")
CORRECTIONS = ("holm", "bh", "bonferroni", "none")
_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, slots=True)
class Tested:
    """(M,) statistics and (M,) p-values."""

    statistic: np.ndarray
    p: np.ndarray


@dataclass(frozen=True, slots=True)
class Moments:
    """Of the differences where both runs are defined: (M,) counts, means and sample standard deviations."""

    count: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def of(cls, differences: np.ndarray, weights: np.ndarray | None = None) -> Moments:
        defined = ~np.isnan(differences)
        count = defined.sum(axis=0)
        weight = defined if weights is None else np.where(defined, weights, 0.0)
        total = weight.sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = (np.where(defined, differences, 0.0) * weight).sum(axis=0) / total
            squared = np.where(defined, differences - mean, 0.0) ** 2
            freedom = np.where(count > 1, total * ((count - 1) / count), np.nan)
            deviation = np.sqrt((squared * weight).sum(axis=0) / freedom)
        # A constant difference has no spread, though its mean may be off by its last bit.
        return cls(count, mean, np.where(deviation <= 4 * _EPS * np.abs(mean), 0.0, deviation))

    @property
    def effect_size(self) -> np.ndarray:
        """Cohen's d_z: the mean difference in units of the differences' standard deviation."""
        return _over(self.mean, self.deviation)


def _over(mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """mean / spread, where nothing over nothing is nothing: no difference at all is an effect of 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where((mean == 0) & (spread == 0), 0.0, mean / spread)


def paired_t(differences: np.ndarray, alternative: str) -> Tested:
    """Student's paired t-test; equals ``scipy.stats.ttest_rel``.

    A constant difference has an infinite statistic and p = 0 (SciPy's limit); no difference at all, which
    SciPy leaves undefined, has statistic 0 and p = 1.
    """
    from scipy.special import stdtr

    moments = Moments.of(differences)
    freedom = np.maximum(moments.count - 1, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        t = _over(moments.mean, moments.deviation / np.sqrt(moments.count))
    if alternative == "two-sided":
        p = np.minimum(2 * stdtr(freedom, -np.abs(t)), 1.0)
    else:
        p = stdtr(freedom, -t if alternative == "greater" else t)
    return Tested(t, np.where(_never_differ(differences), 1.0, p))


def t_interval(differences: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Student's interval of the mean differences; NaN with fewer than two queries."""
    from scipy.special import stdtrit

    moments = Moments.of(differences)
    reach = stdtrit(np.maximum(moments.count - 1, 1), (1 + level) / 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        half = reach * moments.deviation / np.sqrt(moments.count)
    return moments.mean - half, moments.mean + half


def wilcoxon(differences: np.ndarray, alternative: str) -> Tested:
    """Wilcoxon's signed-rank test: ``scipy.stats.wilcoxon``, which drops queries without a difference."""
    from scipy import stats

    statistic, p = np.full((2, differences.shape[1]), np.nan)
    for column, never in enumerate(_never_differ(differences)):
        sample = differences[~np.isnan(differences[:, column]), column]
        if never:
            statistic[column], p[column] = 0.0, 1.0
        elif len(sample):
            with warnings.catch_warnings():  # that a sample is small or tied is no news to the caller
                warnings.simplefilter("ignore")
                result = stats.wilcoxon(sample, alternative=alternative)
            statistic[column], p[column] = result.statistic, result.pvalue
    return Tested(statistic, p)


def _never_differ(differences: np.ndarray) -> np.ndarray:
    """Metrics that are defined on some query and differ on none."""
    defined = ~np.isnan(differences)
    return defined.any(axis=0) & ~(defined & (differences != 0)).any(axis=0)


def randomization(
    sums: np.ndarray,
    sizes: np.ndarray,
    alternative: str,
    replicates: int,
    seed: int,
    threads: int | None,
) -> Tested:
    """Fisher's paired randomisation test on the mean difference, by flipping signs.

    ``sums`` and ``sizes`` are (units, M): the differences of each unit (a query, or a cluster of them that
    flips together) and how many queries they are over.  Units without a difference do not matter to the
    test; where the others can be signed in no more than ``replicates`` ways, all of them are gone through
    and p is exact.  Otherwise p = (1 + extreme) / (1 + replicates), which is never 0 (Phipson and Smyth,
    2010).  Equals ``scipy.stats.permutation_test(permutation_type="samples")``.
    """
    observed = sums.sum(axis=0)
    slack = (rounding(len(sums)) * np.abs(sums).sum(axis=0))[None, :]
    differing = np.count_nonzero(sums, axis=0)
    exact = 2.0 ** np.minimum(differing, 1000) <= replicates
    p = np.full(len(observed), np.nan)
    sampled = np.flatnonzero(~exact)
    if len(sampled):
        null = sign_flip_sums(sums[:, sampled], replicates, seed, threads=threads)
        extreme = _extreme(null, observed[sampled], slack[:, sampled], alternative)
        p[sampled] = (1 + extreme) / (1 + replicates)
    for column in np.flatnonzero(exact):
        values = sums[sums[:, column] != 0, column]
        ways = np.arange(2 ** len(values))
        null = (1.0 - 2.0 * (ways[:, None] >> np.arange(len(values)) & 1)) @ values
        p[column] = _extreme(null, observed[column], slack[0, column], alternative) / len(ways)
    count = sizes.sum(axis=0)
    with np.errstate(invalid="ignore"):
        return Tested(observed / count, np.where(count > 0, p, np.nan))


def bootstrap_test(resampled: Bootstrap, alternative: str) -> Tested:
    """The bootstrap shift test: how often do the replicates stray from the mean as far as it is from 0?

    p = (1 + extreme) / (1 + replicates) over replicates moved to a mean of 0.  Source: Smucker, Allan and
    Carterette, *A comparison of statistical significance tests for information retrieval evaluation*, 2007.
    """
    null = resampled.replicates - resampled.mean
    slack = rounding(resampled.units) * np.abs(resampled.mean)
    p = (1 + _extreme(null, resampled.mean, slack, alternative)) / (1 + (~np.isnan(null)).sum(axis=0))
    return Tested(resampled.mean, np.where(resampled.count > 0, p, np.nan))


def _extreme(null: np.ndarray, observed: Any, slack: Any, alternative: str) -> Any:
    """How many draws are as extreme as what was observed, counting those that rounding alone sets apart."""
    with np.errstate(invalid="ignore"):
        if alternative == "greater":
            return (null >= observed - slack).sum(axis=0)
        if alternative == "less":
            return (null <= observed + slack).sum(axis=0)
        return (np.abs(null) >= np.abs(observed) - slack).sum(axis=0)


@dataclass(frozen=True, slots=True)
class Tukey:
    """One metric's Tukey test: (R, R) differences ``column - row``, p-values and half-width of the
    intervals."""

    difference: np.ndarray
    p: np.ndarray
    half_width: float


def tukey_hsd(values: np.ndarray, level: float) -> Tukey:
    """Tukey's honestly significant difference over the (Q, R) values of R runs; equals
    ``scipy.stats.tukey_hsd``.

    Uses the queries where every run is defined.  It is a one-way analysis: the runs' spread over queries is
    taken for noise, so where queries differ more than runs do (nearly always) it finds less than a paired
    test does.
    """
    from scipy.stats import studentized_range

    values = values[~np.isnan(values).any(axis=1)]
    queries, runs = values.shape
    if queries < 2:
        undefined = np.full((runs, runs), np.nan)
        means = values.sum(axis=0) if queries else np.full(runs, np.nan)
        return Tukey(means[None, :] - means[:, None], undefined, np.nan)
    means = values.mean(axis=0)
    difference = means[None, :] - means[:, None]
    freedom = runs * (queries - 1)
    error = np.sqrt(((values - means) ** 2).sum() / freedom / queries)
    identical = (values[:, :, None] == values[:, None, :]).all(axis=0)
    if error <= 4 * _EPS * np.abs(means).max():
        return Tukey(difference, np.where(identical, 1.0, 0.0), 0.0)
    p = np.ones((runs, runs))
    for i in range(runs):
        for j in range(i + 1, runs):
            if not identical[i, j]:
                p[i, j] = p[j, i] = studentized_range.sf(abs(difference[i, j]) / error, runs, freedom)
    return Tukey(difference, p, float(_studentized_range(level, runs, freedom) * error))


@lru_cache(maxsize=64)
def _studentized_range(level: float, runs: int, freedom: int) -> float:
    from scipy.stats import studentized_range

    return float(studentized_range.ppf(level, runs, freedom))


def correct(p: np.ndarray | Sequence[float], method: str) -> np.ndarray:
    """p-values corrected for how many of them there are; NaN (nothing was tested) stays and does not count.

    ``"holm"`` bounds the chance of one false claim among all (never less powerful than ``"bonferroni"``);
    ``"bh"`` bounds the expected share of false claims among those made.  Equal to statsmodels'
    ``multipletests`` and ``scipy.stats.false_discovery_control``.
    """
    p = np.asarray(p, dtype=np.float64)
    corrected = p.copy()
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    n = len(order)
    ascending = p[order]
    if method == "holm":
        corrected[order] = np.maximum.accumulate(ascending * np.arange(n, 0, -1)) if n else ascending
    elif method == "bh":
        scaled = ascending * n / np.arange(1, n + 1)
        corrected[order] = np.minimum.accumulate(scaled[::-1])[::-1] if n else ascending
    elif method == "bonferroni":
        corrected[order] = ascending * n
    return np.minimum(corrected, 1.0)
