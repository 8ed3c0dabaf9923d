"""Bootstrap of click metrics: every replicate is one set of whole weights, under which all metrics are evaluated."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fastrec._core import checks
from fastrec.evaluation.bootstrap import METHODS, Bootstrap, bca_quantiles, level_of
from fastrec.evaluation.click_evaluation import ClickEvaluation
from fastrec.evaluation.click_rows import group_codes
from fastrec.evaluation.resample import bootstrap_counts

BLOCKS = 200  # of units that a jackknife leaves out at most


def bootstrap_clicks(
    evaluation: ClickEvaluation, *, level: float, method: str, clusters: Any, replicates: int, seed: int
) -> Bootstrap:
    """See :meth:`ClickEvaluation.bootstrap`."""
    level, method = level_of(level), checks.choice(method, "method", METHODS)
    draws = Draws([evaluation], clusters)
    (drawn,) = draws.replicated(replicates, seed)
    values = np.array([evaluation[name] for name in evaluation])
    left_out = draws.left_out()[0] if method == "bca" else None
    low, high, error = spread(values, drawn, left_out, level, draws.units)
    return Bootstrap(
        metrics=list(evaluation),
        mean=values,
        low=low,
        high=high,
        standard_error=error,
        count=np.full(len(values), len(evaluation._y)),
        units=draws.units,
        replicates=drawn,
        method=method,
        level=level,
        seed=seed,
    )


def cluster_codes(evaluation: ClickEvaluation, clusters: Any) -> tuple[np.ndarray | None, int]:
    """The cluster of each row (None: every row is one), and how many there are."""
    rows = len(evaluation._y)
    if clusters is None:
        return None, rows
    if isinstance(clusters, str):
        checks.choice(clusters, "clusters", ("groups",))
        if evaluation._codes is None:
            raise ValueError("`clusters` 'groups' needs `groups`: pass them to evaluate_clicks")
        return evaluation._codes, len(evaluation._labels)
    codes, labels = group_codes(clusters, rows, "clusters")
    return codes, len(labels)


class Draws:
    """All metrics of evaluations of the same rows, under weights that stand for draws of rows or clusters of them."""

    def __init__(self, evaluations: Sequence[ClickEvaluation], clusters: Any) -> None:
        self.codes, self.units = cluster_codes(evaluations[0], clusters)
        self._evaluations = evaluations
        self._values_of = [evaluation._reweighted() for evaluation in evaluations]

    def _table(self, times: Iterable[np.ndarray], rows: int) -> list[np.ndarray]:
        """(rows, M) values of each evaluation, where every unit counts so many times."""
        tables = [np.empty((rows, len(evaluation))) for evaluation in self._evaluations]
        for row, of_units in enumerate(times):
            of_rows = of_units if self.codes is None else of_units[self.codes]
            for evaluation, values, table in zip(self._evaluations, self._values_of, tables):
                table[row] = values(of_rows if evaluation._w is None else of_rows * evaluation._w)
        return tables

    def replicated(self, replicates: int, seed: int) -> list[np.ndarray]:
        """(B, M) values of each evaluation; row b of all of them is the same draw."""
        replicates = checks.integer(replicates, "replicates", low=1)
        seed = checks.integer(seed, "seed", low=0, high=2**64 - 1)
        draws = (bootstrap_counts(self.units, replicate, seed) for replicate in range(replicates))
        return self._table(draws, replicates)

    def left_out(self) -> list[np.ndarray]:
        """(blocks, M) values of each evaluation without one block of units."""
        blocks = min(self.units, BLOCKS)
        block_of = np.arange(self.units) % blocks
        return self._table(((block_of != block).astype(np.float64) for block in range(blocks)), blocks)


def spread(
    values: np.ndarray, drawn: np.ndarray, left_out: np.ndarray | None, level: float, units: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(M,) ends of the intervals and standard errors, over the draws on which a metric is defined; NaN where fewer than
    two units were drawn from, or fewer than two draws are left.

    The intervals are BCa with the values of a jackknife, percentiles without.
    """
    low, high, error = np.full((3, drawn.shape[1]), np.nan)
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    for column in range(drawn.shape[1] if units > 1 else 0):
        defined = drawn[np.isfinite(drawn[:, column]), column]
        if len(defined) > 1:
            at = tails if left_out is None else _bca(values[column], defined, left_out[:, column], tails)
            low[column], high[column] = np.quantile(defined, at)
            error[column] = defined.std(ddof=1)
    return low, high, error


def _bca(value: float, drawn: np.ndarray, left_out: np.ndarray, tails: np.ndarray) -> np.ndarray:
    """Where the BCa interval reads the quantiles of the draws; the tails themselves where that is not defined."""
    from scipy.special import ndtri

    # Sums in another order differ in their last bits: what is equal must count as a tie, one half.
    difference = np.where(np.abs(drawn - value) <= 1e-12 * abs(value), 0.0, drawn - value)
    bias = ndtri((np.count_nonzero(difference < 0) + np.count_nonzero(difference <= 0)) / (2 * len(drawn)))
    left_out = left_out[np.isfinite(left_out)]
    if not len(left_out):
        return tails
    at = bca_quantiles(bias, left_out, tails)
    return at if np.isfinite(at).all() and (np.diff(at) >= 0).all() else tails
