"""``fr.compare``: is one run better than another, by how much, and could that be chance?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrec._core import checks
from fastrec.evaluation import click_groups, per_query, significance
from fastrec.evaluation.bootstrap import Bootstrap, bootstrap, level_of, units_of
from fastrec.evaluation.click_evaluation import ClickEvaluation
from fastrec.evaluation.compare_clicks import compare_clicks, tables_of_groups
from fastrec.evaluation.comparison import Comparison

if TYPE_CHECKING:
    import pandas as pd

TESTS = ("paired_t", "wilcoxon", "randomization", "tukey_hsd", "bootstrap")
INTERVALS = ("t", "bootstrap", "tukey")
REPLICATES = 10_000
_RESAMPLING = ("randomization", "bootstrap")
_OWN_INTERVAL = {"paired_t": "t", "tukey_hsd": "tukey"}


def compare(
    runs: Mapping[str, Any],
    metrics: Sequence[str] | str | None = None,
    *,
    test: str | None = None,
    correction: str | None = None,
    baseline: str | None = None,
    alternative: str = "two-sided",
    interval: str | None = None,
    level: float = 0.95,
    missing: str = "error",
    nan: str = "drop",
    clusters: Any = None,
    replicates: int | None = None,
    seed: int = 0,
    threads: int | None = None,
) -> Comparison:
    """Compare two or more runs on the same queries: effect, interval, p, corrected p, win/tie/loss.

    Parameters
    ----------
    runs : mapping of name to Evaluation, CatalogEvaluation (its lists are the queries), per-query frame or (Q, M) array
        Queries are matched by id (``Evaluation.query_ids``, a column ``query``, or a frame's index), whatever
        their order.  Without ids, row ``q`` of every run is the same query.  Or all are results of
        :func:`fastrec.evaluate_clicks` on the same rows: see Notes.
    metrics : names or None
        The metrics to compare; by default all, which must then be the same in every run.
    test : str, by default ``"paired_t"``
        ``"paired_t"`` (``scipy.stats.ttest_rel``); ``"wilcoxon"`` (``scipy.stats.wilcoxon``);
        ``"randomization"``, Fisher's sign-flip test of the mean, exact where few queries differ
        (``scipy.stats.permutation_test``); ``"bootstrap"``, the shift test of Smucker, Allan and Carterette
        (2007); ``"tukey_hsd"``, all runs at once, not paired (``scipy.stats.tukey_hsd``).
    correction : "holm", "bh", "bonferroni" or "none"
        For the number of rows in the result (metrics times pairs): ``"holm"`` (the default) bounds the chance
        of any false claim, ``"bh"`` the share of false ones among the claims.  Tukey's test corrects for the
        pairs itself, so its default is ``"none"``; with many metrics, ask for one.
    baseline : name or None
        Compare every other run with this one; by default each run with each one before it.
    alternative : "two-sided", "greater" or "less"
        ``"greater"`` asks whether the run's mean is larger than its baseline's, which is worse where smaller is better
        (``Comparison.better``).  The interval stays two-sided.
    interval : "t", "bootstrap" (BCa) or None
        Of the mean difference.  By default the test's own: ``"t"`` for the t-test, Tukey's simultaneous
        intervals for Tukey, else ``"bootstrap"``.
    level : float in (0, 1)
    missing : "error", "drop" or "zero"
        What to do with queries that some run lacks: refuse (naming them), keep the common ones, or let the
        run that lacks a query score 0 there.
    nan : "drop", "zero" or "error"
        What to do where a metric is NaN for a query: leave the query out of that metric's comparison (``n``
        shows how many remain), count it as 0, or refuse.
    clusters : (Q,) labels, mapping or Series from query id to label, or None
        Queries that belong together (one user's) are resampled and flipped together; for ``"randomization"``
        and ``"bootstrap"`` with a bootstrap interval.  Labels in an array follow the first run's queries.
    replicates, seed, threads
        Of the resampling, by default 10,000 replicates.  All metrics share them; results do not depend on ``threads``.

    Returns
    -------
    Comparison

    Notes
    -----
    Runs that never differ have difference 0, p = 1 and effect size 0.  A constant difference has an infinite
    t statistic and effect size.  With one query only the tests that need no spread give a p (``"wilcoxon"``,
    ``"randomization"``: 1; ``"bootstrap"``: 1 / (1 + replicates), which means nothing); with none, everything
    is NaN and ``n`` is 0.

    Where the evaluations weigh their queries, so do the means and differences, and only ``"randomization"``
    and ``"bootstrap"`` will do.  Geometric means (gMAP) are compared as arithmetic means of their queries'
    values.

    A test of many queries finds any difference real; read the interval and the effect size first.

    Click evaluations take ``test="delong"`` (the default for rows of equal weight without clusters: DeLong's paired
    test for ``"auc"``, the bootstrap shift test for every other metric) or ``"bootstrap"``; ``clusters`` are labels of
    the rows, or ``"groups"``; there are 1,000 replicates by default, which draw rows (or clusters) for all models
    alike; intervals are DeLong's, or of the bootstrap: percentiles, or ``interval="bca"``.  ``n`` counts rows,
    ``difference`` is positive where the metric is larger (not always better: ``Comparison.better``), ``effect_size`` is
    the difference over its standard error times the root of the number of rows or clusters, and there are no wins,
    ties and losses.  ``missing``, ``nan`` and ``threads`` say nothing here.

    With a test over queries (``"paired_t"``, ``"wilcoxon"``, ``"randomization"``, ``"tukey_hsd"``) the groups of click
    evaluations are the queries: metrics that are means over groups (``ClickEvaluation.by_group``) are compared as
    above, ``n`` counts groups, and a win is a group where the run is better.  Where a metric weighs its groups (all but
    ``"gauc@uniform"``) only ``"randomization"`` will do.

    Raises
    ------
    ValueError
        Fewer than two runs, runs with different metrics or queries (named), an unknown test or baseline.
    """
    if isinstance(runs, Mapping) and any(isinstance(run, ClickEvaluation) for run in runs.values()):
        if len(runs) < 2:
            raise ValueError(f"`runs` must hold at least two runs to compare; got {len(runs)}")
        if test in click_groups.TESTS:
            return compare(
                tables_of_groups(runs, metrics, str(test)), test=test, correction=correction, baseline=baseline,
                alternative=alternative, interval=interval, level=level, missing=missing, nan=nan, clusters=clusters,
                replicates=replicates, seed=seed, threads=threads,
            )  # fmt: skip
        return compare_clicks(
            runs, metrics, test=test, correction=correction, baseline=baseline, alternative=alternative,
            interval=interval, level=level, clusters=clusters, replicates=replicates, seed=seed,
        )  # fmt: skip
    test = checks.choice("paired_t" if test is None else test, "test", TESTS)
    correction = ("none" if test == "tukey_hsd" else "holm") if correction is None else correction
    correction = checks.choice(correction, "correction", significance.CORRECTIONS)
    alternative = checks.choice(alternative, "alternative", significance.ALTERNATIVES)
    interval = _OWN_INTERVAL.get(test, "bootstrap") if interval is None else interval
    interval = checks.choice(interval, "interval", INTERVALS)
    level = level_of(level)
    missing = checks.choice(missing, "missing", ("error", "drop", "zero"))
    nan = checks.choice(nan, "nan", ("drop", "zero", "error"))
    replicates = checks.integer(REPLICATES if replicates is None else replicates, "replicates", low=1)
    _refuse_mismatched(test, interval, alternative, clusters)

    tables = _read(runs)
    names = list(tables)
    if baseline is not None:
        checks.choice(baseline, "baseline", names)
    metric_names = _common_metrics(tables, metrics)
    ids, values, weights = _matched(tables, metric_names, missing)
    if weights is not None and (test not in _RESAMPLING or interval != "bootstrap"):
        raise ValueError(
            f"the evaluations weigh their queries, which test {test!r} with interval {interval!r} cannot; use test "
            "'randomization' or 'bootstrap', or pass their `per_query` frames to compare unweighted means"
        )
    if nan == "zero":
        values = [np.nan_to_num(table) for table in values]
    elif nan == "error":
        _refuse_undefined(values, names, metric_names, ids)

    pair = _PairTest(
        test=test,
        alternative=alternative,
        interval=interval,
        level=level,
        clusters=_cluster_labels(clusters, ids),
        weights=weights,
        resampling={"replicates": replicates, "seed": seed, "threads": threads},
        tukey=_tukey(values, level) if test == "tukey_hsd" else [],
    )
    if baseline is None:
        pairs = list(combinations(range(len(names)), 2))
    else:
        pairs = [(names.index(baseline), other) for other, name in enumerate(names) if name != baseline]
    columns = [pair.columns(values, first, second) for first, second in pairs]
    first_table = next(iter(tables.values()))
    better = {metric: first_table.better.get(metric, 1) for metric in metric_names}
    return Comparison(
        frame=_frame(columns, [(names[first], names[second]) for first, second in pairs], better, correction),
        means=_means(values, weights, names, metric_names),
        test=test,
        correction=correction,
        alternative=alternative,
        interval=interval,
        level=level,
        baseline=baseline,
        replicates=replicates,
        seed=seed,
        better=better,
        unit=first_table.unit,
    )


@dataclass(frozen=True, slots=True)
class _PairTest:
    """One test with its options, to be run on each pair."""

    test: str
    alternative: str
    interval: str
    level: float
    clusters: np.ndarray | None
    weights: np.ndarray | None
    resampling: dict[str, Any]
    tukey: list[significance.Tukey]

    def columns(self, values: list[np.ndarray], first: int, second: int) -> dict[str, np.ndarray]:
        """The columns of the result's frame for one pair, each of shape (M,)."""
        differences = values[second] - values[first]
        defined = ~np.isnan(differences)
        moments = significance.Moments.of(differences, self.weights)
        means = [
            significance.Moments.of(np.where(defined, values[run], np.nan), self.weights).mean
            for run in (first, second)
        ]
        with np.errstate(invalid="ignore", divide="ignore"):
            relative = np.where(means[0] != 0, moments.mean / means[0], np.nan)
        resampled = None
        if "bootstrap" in (self.test, self.interval):
            resampled = bootstrap(
                differences, level=self.level, clusters=self.clusters, weights=self.weights, **self.resampling
            )
        tested = self._tested(differences, first, second, resampled)
        low, high = self._interval(differences, first, second, resampled)
        return {
            "n": moments.count,
            "baseline_mean": means[0],
            "run_mean": means[1],
            "difference": moments.mean,
            "relative": relative,
            "low": low,
            "high": high,
            "statistic": tested.statistic,
            "p": tested.p,
            "effect_size": moments.effect_size,
            "win": (differences > 0).sum(axis=0),
            "tie": (differences == 0).sum(axis=0),
            "loss": (differences < 0).sum(axis=0),
        }

    def _tested(
        self, differences: np.ndarray, first: int, second: int, resampled: Bootstrap | None
    ) -> significance.Tested:
        if self.test == "paired_t":
            return significance.paired_t(differences, self.alternative)
        if self.test == "wilcoxon":
            return significance.wilcoxon(differences, self.alternative)
        if self.test == "randomization":
            units = units_of(differences, self.clusters, self.weights)
            return significance.randomization(*units, self.alternative, **self.resampling)
        if self.test == "tukey_hsd":
            return significance.Tested(
                np.array([t.difference[first, second] for t in self.tukey]),
                np.array([t.p[first, second] for t in self.tukey]),
            )
        assert resampled is not None  # for the type checker: this test always resamples
        return significance.bootstrap_test(resampled, self.alternative)

    def _interval(
        self, differences: np.ndarray, first: int, second: int, resampled: Bootstrap | None
    ) -> tuple[np.ndarray, np.ndarray]:
        if self.interval == "tukey":
            centre = np.array([t.difference[first, second] for t in self.tukey])
            half = np.array([t.half_width for t in self.tukey])
            return centre - half, centre + half
        if self.interval == "t":
            return significance.t_interval(differences, self.level)
        assert resampled is not None  # as above
        return resampled.low, resampled.high


def _tukey(values: list[np.ndarray], level: float) -> list[significance.Tukey]:
    stacked = np.stack(values, axis=2)  # (Q, M, R)
    return [significance.tukey_hsd(stacked[:, metric], level) for metric in range(stacked.shape[1])]


def _refuse_mismatched(test: str, interval: str, alternative: str, clusters: Any) -> None:
    if interval == "tukey" and test != "tukey_hsd":
        raise ValueError("`interval` 'tukey' goes with test 'tukey_hsd' only; use 't' or 'bootstrap'")
    if test == "tukey_hsd" and alternative != "two-sided":
        raise ValueError(f"`alternative` must be 'two-sided' for Tukey's test; got {alternative!r}")
    if clusters is not None and (test not in _RESAMPLING or interval != "bootstrap"):
        raise ValueError(
            "`clusters` needs a test and an interval that resample: test 'randomization' or 'bootstrap' with "
            f"interval 'bootstrap'; got test {test!r} with interval {interval!r}"
        )


def _read(runs: Any) -> dict[str, per_query.PerQuery]:
    if not isinstance(runs, Mapping):
        raise TypeError(f"`runs` must be a mapping of name to evaluation; got {type(runs).__name__}")
    if len(runs) < 2:
        raise ValueError(f"`runs` must hold at least two runs to compare; got {len(runs)}")
    tables = {str(name): per_query.read(run, f"runs[{name!r}]") for name, run in runs.items()}
    if len(tables) < len(runs):
        raise ValueError(f"`runs` must have names that differ when written out; got {list(runs)}")
    return tables


def _common_metrics(tables: dict[str, per_query.PerQuery], metrics: Sequence[str] | str | None) -> list[str]:
    """The metrics asked for, or those of the first run, which every run must have."""
    everything = metrics is None
    first_name, first = next(iter(tables.items()))
    wanted = first.metrics if metrics is None else [metrics] if isinstance(metrics, str) else list(metrics)
    if len(set(wanted)) < len(wanted):
        raise ValueError(f"`metrics` must name each metric once; got {wanted}")
    for name, table in tables.items():
        lacking = [metric for metric in wanted if metric not in table.metrics]
        if lacking:
            close = checks.nearest(lacking[0], table.metrics)
            raise ValueError(f"run {name!r} lacks the metric {lacking[0]!r}; it has {table.metrics}.{close}")
        extra = [metric for metric in table.metrics if metric not in wanted]
        if everything and extra:
            raise ValueError(
                f"run {first_name!r} lacks the metric {extra[0]!r} of run {name!r}; "
                "pass `metrics=` to compare only some"
            )
    return wanted


def _matched(
    tables: dict[str, per_query.PerQuery], metrics: list[str], missing: str
) -> tuple[np.ndarray, list[np.ndarray], np.ndarray | None]:
    """The queries compared, each run's (Q, M) values on them in that order, and the (Q, M) weights if any."""
    if all(table.weights is None for table in tables.values()):
        ids, values = _matched_columns(
            tables, {name: _picked(t.values, t, metrics) for name, t in tables.items()}, missing
        )
        return ids, values, None
    both = {}
    for name, table in tables.items():
        weights = np.ones(table.values.shape) if table.weights is None else table.weights
        both[name] = np.hstack([_picked(table.values, table, metrics), _picked(weights, table, metrics)])
    ids, stacked = _matched_columns(tables, both, missing)
    weights = np.maximum.reduce([columns[:, len(metrics) :] for columns in stacked])
    for name, columns in zip(tables, stacked):
        own = columns[:, len(metrics) :]
        if not ((own == weights) | ((own == 0) & (missing == "zero"))).all():
            raise ValueError(f"the runs must weigh the queries alike; {name!r} differs from the others")
    return ids, [columns[:, : len(metrics)] for columns in stacked], weights


def _picked(columns: np.ndarray, table: per_query.PerQuery, metrics: list[str]) -> np.ndarray:
    return columns[:, [table.metrics.index(metric) for metric in metrics]]


def _matched_columns(
    tables: dict[str, per_query.PerQuery], picked: dict[str, np.ndarray], missing: str
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The queries compared, and the rows of each run's columns in that order, 0 where it lacks a query."""

    unnamed = [name for name, table in tables.items() if table.query_ids is None]
    if unnamed:
        sizes = {name: len(table.values) for name, table in tables.items()}
        if len(set(sizes.values())) > 1:
            raise ValueError(
                f"runs without query ids must have the same number of rows; got {sizes}. "
                "Give each frame its queries as index, or as a column 'query'."
            )
    first_name, first = next(iter(tables.items()))
    if len(unnamed) == len(tables):
        return np.arange(len(first.values)), list(picked.values())

    indexes = {name: _index(table) for name, table in tables.items()}
    ids = indexes[first_name]
    if all(index.equals(ids) for index in indexes.values()):
        return ids.to_numpy(), list(picked.values())
    for name, index in indexes.items():
        lacking, extra = ids.difference(index, sort=False), index.difference(ids, sort=False)
        if missing == "error" and (len(lacking) or len(extra)):
            here, there, which = (name, first_name, lacking) if len(lacking) else (first_name, name, extra)
            raise ValueError(
                f"run {here!r} lacks {len(which)} of the queries of run {there!r} "
                f"({', '.join(map(repr, which[:3].tolist()))}{', ...' if len(which) > 3 else ''}); pass "
                "missing='drop' to compare the common queries or missing='zero' to score 0 where a run lacks one"
            )
    for index in list(indexes.values())[1:]:
        ids = ids.intersection(index, sort=False) if missing == "drop" else ids.union(index, sort=False)
    if len(ids) == 0 and any(len(index) for index in indexes.values()):
        raise ValueError(
            "`runs` have no query in common; are the ids strings in one and integers in another?"
        )
    values = []
    for name, index in indexes.items():
        row = index.get_indexer(ids)  # -1 where this run lacks the query: reads the row of zeros at the end
        values.append(np.concatenate([picked[name], np.zeros((1, picked[name].shape[1]))])[row])
    return ids.to_numpy(), values


def _index(table: per_query.PerQuery) -> pd.Index:
    import pandas as pd

    return pd.Index(np.arange(len(table.values)) if table.query_ids is None else table.query_ids)


def _cluster_labels(clusters: Any, ids: np.ndarray) -> np.ndarray | None:
    """One label for each of the matched queries."""
    if clusters is None:
        return None
    import pandas as pd

    if isinstance(clusters, (Mapping, pd.Series)):
        labels = pd.Series(clusters).reindex(ids)
        if labels.isna().any():
            raise ValueError(
                f"`clusters` must label every query; it lacks {per_query.shown(ids[labels.isna().argmax()])}"
            )
        return labels.to_numpy()
    labels = np.asarray(clusters)
    if labels.shape != (len(ids),):
        raise ValueError(
            f"`clusters` must have one label per compared query, shape ({len(ids)},); got {labels.shape}. "
            "Pass a mapping from query id to label to match them by id."
        )
    return labels


def _refuse_undefined(
    values: list[np.ndarray], names: list[str], metrics: list[str], ids: np.ndarray
) -> None:
    for name, table in zip(names, values):
        if np.isnan(table).any():
            query, metric = np.argwhere(np.isnan(table))[0]
            raise ValueError(
                f"run {name!r} has no {metrics[metric]!r} for query {per_query.shown(ids[query])} (NaN); "
                "pass nan='drop' to leave such queries out or nan='zero' to count them as 0"
            )


def _frame(
    columns: list[dict[str, np.ndarray]],
    pairs: list[tuple[str, str]],
    better: dict[str, int],
    correction: str,
) -> pd.DataFrame:
    """One row a (metric, pair), metric by metric, with the p-values corrected over all rows; a win is a query where the
    run is better.
    """
    import pandas as pd

    metrics = list(better)
    data: dict[str, Any] = {
        "metric": np.repeat(np.array(metrics, dtype=object), len(pairs)),
        "baseline": [pair[0] for pair in pairs] * len(metrics),
        "run": [pair[1] for pair in pairs] * len(metrics),
    }
    for name in columns[0]:
        data[name] = np.stack([column[name] for column in columns], axis=1).ravel()
        if name == "p":
            data["p_corrected"] = significance.correct(data["p"], correction)
    smaller = np.repeat(np.array(list(better.values()), int) < 0, len(pairs))
    data["win"], data["loss"] = (
        np.where(smaller, data[there], data[here]) for here, there in (("win", "loss"), ("loss", "win"))
    )
    return pd.DataFrame(data)


def _means(
    values: list[np.ndarray], weights: np.ndarray | None, names: list[str], metrics: list[str]
) -> pd.DataFrame:
    import pandas as pd

    means = np.stack([significance.Moments.of(table, weights).mean for table in values])
    return pd.DataFrame(means, index=pd.Index(names, name="run"), columns=pd.Index(metrics, name="metric"))
