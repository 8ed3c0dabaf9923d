"""Bootstrap of click metrics: every replicate is one set of whole weights, under which all metrics are evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastrec._core import checks
from fastrec.evaluation.bootstrap import Bootstrap, level_of
from fastrec.evaluation.clicks import ClickEvaluation, group_codes
from fastrec.evaluation.resample import bootstrap_counts


def bootstrap_clicks(
    evaluation: ClickEvaluation, *, level: float, clusters: Any, replicates: int, seed: int
) -> Bootstrap:
    """See :meth:`ClickEvaluation.bootstrap`."""
    level = level_of(level)
    codes, units = cluster_codes(evaluation, clusters)
    (drawn,) = replicated([evaluation], codes, units, replicates, seed)
    values = np.array([evaluation[name] for name in evaluation])
    low, high, error = spread(drawn, level, units)
    return Bootstrap(
        metrics=list(evaluation),
        mean=values,
        low=low,
        high=high,
        standard_error=error,
        count=np.full(len(values), len(evaluation._y)),
        units=units,
        replicates=drawn,
        method="percentile",
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


def replicated(
    evaluations: Sequence[ClickEvaluation], codes: np.ndarray | None, units: int, replicates: int, seed: int
) -> list[np.ndarray]:
    """(B, M) values of each evaluation; row b of all of them is the same draw."""
    replicates = checks.integer(replicates, "replicates", low=1)
    seed = checks.integer(seed, "seed", low=0, high=2**64 - 1)
    values_of = [evaluation._reweighted() for evaluation in evaluations]
    drawn = [np.empty((replicates, len(evaluation))) for evaluation in evaluations]
    for replicate in range(replicates):
        times = bootstrap_counts(units, replicate, seed)
        times = times if codes is None else times[codes]
        for evaluation, values, out in zip(evaluations, values_of, drawn):
            out[replicate] = values(times if evaluation._w is None else times * evaluation._w)
    return drawn


def spread(drawn: np.ndarray, level: float, units: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(M,) ends of the percentile intervals and standard errors, over the draws on which a metric is defined; NaN
    where fewer than two units were drawn from, or fewer than two draws are left."""
    low, high, error = np.full((3, drawn.shape[1]), np.nan)
    if units > 1:
        for column in range(drawn.shape[1]):
            defined = drawn[np.isfinite(drawn[:, column]), column]
            if len(defined) > 1:
                low[column], high[column] = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
                error[column] = defined.std(ddof=1)
    return low, high, error
