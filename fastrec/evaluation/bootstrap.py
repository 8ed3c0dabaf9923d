"""Confidence intervals of mean metrics by the bootstrap: percentile and BCa, over queries or whole
clusters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrec._core import arrays, checks
from fastrec.evaluation import per_query
from fastrec.evaluation.resample import bootstrap_sums, rounding

if TYPE_CHECKING:
    import pandas as pd

METHODS = ("bca", "percentile")


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """Means with their confidence intervals.

    Attributes
    ----------
    metrics : M names
    mean, low, high, standard_error : (M,) float64
        The mean over the queries where the metric is defined, the ends of its interval, and the standard
        deviation of the replicates.
    count : (M,) int64
        Queries where the metric is defined (not NaN).
    units : int
        What was resampled: queries, or clusters of them.
    replicates : (B, M) float64
        The replicated means, all metrics resampled together; row ``b`` of every metric is the same draw.
    method, level, seed
        As given.
    """

    metrics: list[str]
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    standard_error: np.ndarray
    count: np.ndarray
    units: int
    replicates: np.ndarray
    method: str
    level: float
    seed: int

    def to_frame(self) -> pd.DataFrame:
        """A pandas frame indexed by metric: ``mean, low, high, standard_error, count``."""
        import pandas as pd

        columns = ("mean", "low", "high", "standard_error", "count")
        return pd.DataFrame(
            {column: getattr(self, column) for column in columns}, index=pd.Index(self.metrics, name="metric")
        )


def bootstrap(
    values: Any,
    *,
    level: float = 0.95,
    method: str = "bca",
    clusters: Any = None,
    weights: Any = None,
    replicates: int = 10_000,
    seed: int = 0,
    threads: int | None = None,
) -> Bootstrap:
    """Confidence intervals for the means of all metrics, from one set of replicates.

    Parameters
    ----------
    values : Evaluation, CatalogEvaluation, frame, (Q, M) or (Q,) array
        Per-query values.  NaN marks a query where the metric is not defined: it counts in no mean.
    level : float in (0, 1)
        Coverage of the two-sided interval.
    method : "bca" or "percentile"
        ``"bca"`` corrects the percentile interval for bias and skewness and is second-order accurate;
        ``"percentile"`` is the plain quantiles of the replicates.
    clusters : (Q,) labels or None
        Queries that belong together (one user's, one session's) are drawn together: without it, an interval
        over correlated queries is too short.  The mean stays the mean over queries.
    weights : (Q,) or (Q, M) numbers >= 0, or None
        What each query counts in the means.  An ``Evaluation`` brings its own, and its geometric means
        are resampled as such, so that ``mean`` is always the evaluation's.
    replicates : int >= 1
    seed : int
        The same seed gives the same bits on any machine and any number of threads.
    threads : int or None

    Returns
    -------
    Bootstrap

    Notes
    -----
    A metric whose value is the same on every query has an interval of no width.  With fewer than two
    queries (or clusters) where a metric is defined nothing can be said of its spread: its interval and
    standard error are NaN, and ``count`` shows why.  A BCa interval that is not defined because every
    replicate lies on one side of the mean falls back to the percentile interval.

    Cost: O(replicates * Q * M) time; memory one float64 copy of the values, ``16 Q`` bytes a thread and the
    ``replicates * M`` means.

    Source: Efron, *Better bootstrap confidence intervals*, JASA 1987; equal to ``scipy.stats.bootstrap``
    given the same replicates.
    """
    table = per_query.read(values, "values")
    level = level_of(level)
    method = checks.choice(method, "method", METHODS)
    replicates = checks.integer(replicates, "replicates", low=1)
    values, weights = table.values, _weights(weights, table)
    geometric = [column for column, metric in enumerate(table.metrics) if metric in table.geometric]
    if geometric:
        values = values.copy()
        values[:, geometric] = np.log(values[:, geometric])
    sums, sizes = units_of(values, clusters, weights)
    mean, distribution = _replicated_means(sums, sizes, replicates, seed, threads)
    low, high = _interval(sums, sizes, mean, distribution, level, method)
    for array in (mean, low, high, distribution):
        array[..., geometric] = np.exp(array[..., geometric])
    # A statement about spread takes two units; the replicates of one unit are that unit again.
    lonely = np.count_nonzero(sizes, axis=0) < 2
    low[lonely] = high[lonely] = np.nan
    error = np.full(len(mean), np.nan)
    for column in np.flatnonzero(~lonely):
        deviation = distribution[~np.isnan(distribution[:, column]), column] - mean[column]
        error[column] = deviation.std(ddof=1) if len(deviation) > 1 else np.nan
    return Bootstrap(
        metrics=table.metrics,
        mean=mean,
        low=low,
        high=high,
        standard_error=error,
        count=(~np.isnan(values)).sum(axis=0),
        units=len(sums),
        replicates=distribution,
        method=method,
        level=level,
        seed=seed,
    )


def level_of(level: Any) -> float:
    level = checks.number(level, "level")
    if not 0 < level < 1:
        raise ValueError(f"`level` must lie strictly between 0 and 1, like 0.95; got {level}")
    return level


def _weights(weights: Any, table: per_query.PerQuery) -> np.ndarray | None:
    """(Q, M) weights, those given or the evaluation's own."""
    if weights is None:
        return table.weights
    weights = checks.real(weights, "weights")
    queries, metrics = table.values.shape
    if weights.shape not in ((queries,), (queries, metrics)):
        raise ValueError(
            f"`weights` must have shape ({queries},) or {(queries, metrics)}; got {weights.shape}"
        )
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise ValueError("`weights` must be finite and not negative")
    return np.broadcast_to(weights[:, None] if weights.ndim == 1 else weights, (queries, metrics))


def units_of(
    values: np.ndarray, clusters: Any, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """What is resampled: (units, M) sums of values, and (units, M) the queries (or weight) each sum is
    over."""
    defined = ~np.isnan(values)
    sums = np.where(defined, values, 0.0)
    sizes = defined.astype(np.float64)
    if weights is not None:
        sums, sizes = sums * weights, sizes * weights
    if clusters is None:
        return sums, sizes
    import pandas as pd

    labels = clusters if hasattr(clusters, "__array__") else arrays.adopt(clusters, "clusters")
    codes, names = pd.factorize(np.asarray(labels))
    if codes.shape != (len(values),):
        raise ValueError(
            f"`clusters` must have one label per query, shape ({len(values)},); got {np.shape(labels)}"
        )
    if len(codes) and codes.min() < 0:
        raise ValueError("`clusters` must label every query; got a missing label (NaN or None)")
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(len(names)))
    if len(starts) == 0:
        return sums, sizes
    return np.add.reduceat(sums[order], starts, axis=0), np.add.reduceat(sizes[order], starts, axis=0)


def _replicated_means(
    sums: np.ndarray, sizes: np.ndarray, replicates: int, seed: int, threads: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """The (M,) means and their (B, M) replicates, both ratios of resampled sums to resampled sizes."""
    columns = sums.shape[1]
    with np.errstate(invalid="ignore"):
        mean = sums.sum(axis=0) / sizes.sum(axis=0)
    # Sizes that are the same everywhere need no resampling, and metrics with the same NaN share theirs.
    distinct: dict[bytes, int] = {}
    denominator = [distinct.setdefault(sizes[:, c].tobytes(), len(distinct)) for c in range(columns)]
    representatives = [denominator.index(number) for number in range(len(distinct))]
    varying = [c for c in representatives if len(sizes) and (sizes[:, c] != sizes[0, c]).any()]
    stacked = np.concatenate([sums, sizes[:, varying]], axis=1) if varying else sums
    drawn = bootstrap_sums(stacked, replicates, seed, threads=threads)
    distribution = drawn[:, :columns] if varying else drawn
    for column in range(columns):
        first = representatives[denominator[column]]
        if first in varying:
            size: Any = drawn[:, columns + varying.index(first)]
        else:
            size = sizes[:, column].sum()
        with np.errstate(invalid="ignore"):
            distribution[:, column] /= size  # 0/0 = NaN: a draw of undefined queries only
    # Sums of the same numbers in another order differ in their last bits: what is equal must compare equal.
    with np.errstate(invalid="ignore"):
        scale = rounding(len(sums)) * np.abs(sums).sum(axis=0) / sizes.sum(axis=0)
    np.copyto(distribution, mean, where=np.abs(distribution - mean) <= scale)
    return mean, np.ascontiguousarray(distribution)


def _interval(
    sums: np.ndarray, sizes: np.ndarray, mean: np.ndarray, distribution: np.ndarray, level: float, method: str
) -> tuple[np.ndarray, np.ndarray]:
    low, high = np.full((2, len(mean)), np.nan)
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    for column in range(len(mean)):
        replicated = distribution[~np.isnan(distribution[:, column]), column]
        if len(replicated) == 0:
            continue
        at = tails
        if method == "bca":
            corrected = _bca_tails(sums[:, column], sizes[:, column], mean[column], replicated, tails)
            at = tails if np.isnan(corrected).any() else corrected
        low[column], high[column] = np.quantile(replicated, at)
    return low, high


def _bca_tails(
    sums: np.ndarray, sizes: np.ndarray, mean: float, replicated: np.ndarray, tails: np.ndarray
) -> np.ndarray:
    """Where the BCa interval reads the replicates' quantiles; NaN where that is not defined."""
    from scipy.special import ndtri

    # Bias: how far from the middle of its replicates the mean lies, ties counted half.
    below = np.count_nonzero(replicated < mean) + np.count_nonzero(replicated <= mean)
    bias = ndtri(below / (2 * len(replicated)))
    held = sizes > 0  # the units that hold anything
    with np.errstate(invalid="ignore", divide="ignore"):
        left_out = (sums.sum() - sums[held]) / (sizes.sum() - sizes[held])
    return bca_quantiles(bias, left_out, tails)


def bca_quantiles(bias: float, left_out: np.ndarray, tails: np.ndarray) -> np.ndarray:
    """Where a BCa interval reads the replicates' quantiles (Efron 1987): ``bias`` is how far from the middle of its
    replicates the value lies, in normal deviates; the acceleration is the skewness of the leave-one-out values.
    """
    from scipy.special import ndtr, ndtri

    with np.errstate(invalid="ignore", divide="ignore"):
        deviation = left_out.mean() - left_out
        acceleration = (deviation**3).sum() / (6 * (deviation**2).sum() ** 1.5)
        shifted = bias + ndtri(tails)
        return ndtr(bias + shifted / (1 - acceleration * shifted))
