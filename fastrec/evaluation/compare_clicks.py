"""``fr.compare`` of click evaluations: is one model's AUC (log-loss, calibration ...) better than another's?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrec._core import checks
from fastrec.evaluation import click_groups, significance
from fastrec.evaluation.bootstrap import level_of
from fastrec.evaluation.click_bootstrap import Draws, spread
from fastrec.evaluation.click_evaluation import ClickEvaluation
from fastrec.evaluation.click_groups import GroupValues
from fastrec.evaluation.click_metrics import METRICS
from fastrec.evaluation.comparison import Comparison
from fastrec.evaluation.delong import normal_interval, paired_error, placements

if TYPE_CHECKING:
    import pandas as pd

TESTS = ("delong", "bootstrap")  # over rows
REPLICATES = 1000


def compare_clicks(
    runs: Mapping[str, ClickEvaluation],
    metrics: Sequence[str] | str | None,
    *,
    test: str | None,
    correction: str | None,
    baseline: str | None,
    alternative: str,
    interval: str | None,
    level: float,
    clusters: Any,
    replicates: int | None,
    seed: int,
) -> Comparison:
    """Compare two or more models that scored the same rows; arguments as :func:`fastrec.compare` takes them."""
    evaluations = _of_the_same_rows(runs)
    first = next(iter(evaluations.values()))
    names, wanted = list(evaluations), _common_metrics(evaluations, metrics)
    plain = clusters is None and first._w is None
    own = "delong" if plain else "bootstrap"
    test = checks.choice(own if test is None else test, "test", (*TESTS, *click_groups.TESTS))
    if test == "delong" and not plain:
        raise ValueError("test 'delong' is for rows of equal weight without clusters; use test 'bootstrap'")
    if test == "delong" and "auc" not in [_metric(first, metric) for metric in wanted]:
        test = "bootstrap"
    correction = checks.choice(
        "holm" if correction is None else correction, "correction", significance.CORRECTIONS
    )
    alternative = checks.choice(alternative, "alternative", significance.ALTERNATIVES)
    intervals = ("delong",) if test == "delong" else ("bootstrap", "bca")
    interval = checks.choice(intervals[0] if interval is None else interval, "interval", intervals)
    level = level_of(level)
    replicates = checks.integer(REPLICATES if replicates is None else replicates, "replicates", low=1)
    if baseline is not None:
        checks.choice(baseline, "baseline", names)

    values = {name: np.array([run[metric] for metric in wanted]) for name, run in evaluations.items()}
    drawn: dict[str, np.ndarray] = {}
    left_out: dict[str, np.ndarray] = {}
    places: dict[str, np.ndarray] = {}
    draws = Draws(list(evaluations.values()), clusters)
    by_delong = [test == "delong" and _metric(first, metric) == "auc" for metric in wanted]
    if not all(by_delong):
        for tables, of_all in (
            (drawn, draws.replicated(replicates, seed)),
            (left_out, draws.left_out() if interval == "bca" else ()),
        ):
            for (name, run), table in zip(evaluations.items(), of_all):
                every = list(run)
                tables[name] = table[:, [every.index(metric) for metric in wanted]]
    if any(by_delong) and 0 < np.count_nonzero(first._y) < len(first._y):
        places = {name: placements(run._y, run._p, run._threads) for name, run in evaluations.items()}

    pairs = (
        list(combinations(names, 2)) if baseline is None else [(baseline, n) for n in names if n != baseline]
    )
    rows = []
    for at, metric in enumerate(wanted):
        for here, there in pairs:
            row: dict[str, Any] = {
                "metric": metric,
                "baseline": here,
                "run": there,
                "n": len(first._y),
                "baseline_mean": values[here][at],
                "run_mean": values[there][at],
                "difference": values[there][at] - values[here][at],
            }
            row["relative"] = row["difference"] / row["baseline_mean"] if row["baseline_mean"] else math.nan
            if by_delong[at]:
                error = paired_error(first._y, places[here], places[there]) if places else math.nan
                row |= _by_delong(row["difference"], error, level, alternative)
            else:
                replicas = drawn[there][:, at] - drawn[here][:, at]
                without = left_out[there][:, at] - left_out[here][:, at] if left_out else None
                row |= _by_bootstrap(row["difference"], replicas, without, level, alternative, draws.units)
            spread_of_units = row.pop("error") * math.sqrt(draws.units)
            row["effect_size"] = _over(row["difference"], spread_of_units)
            rows.append(row)
    return Comparison(
        frame=_frame(rows, correction),
        means=_means(values, wanted),
        test=test,
        correction=correction,
        alternative=alternative,
        interval=interval,
        level=level,
        baseline=baseline,
        replicates=replicates,
        seed=seed,
        better={metric: METRICS[_metric(first, metric)].better for metric in wanted},
        unit="rows",
    )


def tables_of_groups(
    runs: Mapping[str, Any], metrics: Sequence[str] | str | None, test: str
) -> dict[str, GroupValues]:
    """The values of click metrics by group, for a test over groups."""
    evaluations = _of_the_same_rows(runs)
    if metrics is not None:
        metrics = _common_metrics(evaluations, metrics)
    tables = {name: run.by_group(metrics) for name, run in evaluations.items()}
    wanted = next(iter(tables.values())).metrics
    _common_metrics(evaluations, wanted)
    weighed = [metric for metric in wanted if tables[next(iter(tables))]._shares.get(metric) is not None]
    if weighed and test != "randomization":
        raise ValueError(
            f"{weighed[0]!r} weighs its groups, which test {test!r} cannot; use test 'randomization', or 'gauc@uniform'"
        )
    return tables


def _of_the_same_rows(runs: Mapping[str, Any]) -> dict[str, ClickEvaluation]:
    evaluations = {str(name): run for name, run in runs.items()}
    if len(evaluations) < len(runs):
        raise ValueError(f"`runs` must have names that differ when written out; got {list(runs)}")
    first_name, first = next(iter(evaluations.items()))
    for name, evaluation in evaluations.items():
        _refuse_other_rows(name, evaluation, first_name, first)
    return evaluations


def _metric(evaluation: ClickEvaluation, name: str) -> str:
    return next(one.metric for one in evaluation._request.wanted if one.name == name)


def _over(difference: float, spread_of_units: float) -> float:
    if spread_of_units == 0:
        return 0.0 if difference == 0 else math.copysign(math.inf, difference)
    return difference / spread_of_units


def _refuse_other_rows(name: str, run: Any, first_name: str, first: ClickEvaluation) -> None:
    if not isinstance(run, ClickEvaluation):
        raise TypeError(
            f"`runs` must be click evaluations all, or none; {name!r} is {type(run).__name__} and "
            f"{first_name!r} is ClickEvaluation"
        )
    for what, here, there in (
        ("y_true", run._y, first._y),
        ("weights", run._w, first._w),
        ("groups", run._codes, first._codes),
    ):
        same = here is there is None or (
            here is not None and there is not None and np.array_equal(here, there)
        )
        if not same:
            raise ValueError(
                f"`runs` must be evaluated on the same rows in the same order; {name!r} and {first_name!r} differ in "
                f"`{what}`"
            )


def _common_metrics(runs: dict[str, ClickEvaluation], metrics: Sequence[str] | str | None) -> list[str]:
    first = next(iter(runs.values()))
    wanted = list(first) if metrics is None else [metrics] if isinstance(metrics, str) else list(metrics)
    if len(set(wanted)) < len(wanted) or not wanted:
        raise ValueError(f"`metrics` must name each metric once, and at least one; got {wanted}")
    for name, run in runs.items():
        for metric in wanted:
            if metric not in run:
                close = checks.nearest(metric, list(run))
                raise ValueError(f"run {name!r} lacks the metric {metric!r}; it has {list(run)}.{close}")
            if run.parameters.get(metric) != first.parameters.get(metric):
                raise ValueError(
                    f"the runs must compute {metric!r} alike; {name!r} has {run.parameters.get(metric)} and the first "
                    f"{first.parameters.get(metric)}"
                )
    return wanted


def _by_delong(difference: float, error: float, level: float, alternative: str) -> dict[str, float]:
    """DeLong's test of two correlated AUCs, and the normal interval of their difference."""
    from scipy.special import ndtr

    z = math.nan if math.isnan(error) else _over(difference, error)
    p = {"two-sided": 2 * ndtr(-abs(z)), "greater": ndtr(-z), "less": ndtr(z)}[alternative]
    if difference == 0 and error == 0:
        p = 1.0
    ends = normal_interval(difference, error, level, (-1.0, 1.0))
    return {"low": ends.low, "high": ends.high, "statistic": z, "p": float(p), "error": error}


def _by_bootstrap(
    difference: float,
    replicas: np.ndarray,
    left_out: np.ndarray | None,
    level: float,
    alternative: str,
    units: int,
) -> dict[str, float]:
    """The shift test, as for ranked lists, and the interval of the paired differences."""
    without = None if left_out is None else left_out[:, None]
    (low,), (high,), (error,) = spread(np.array([difference]), replicas[:, None], without, level, units)
    null = replicas[np.isfinite(replicas)] - difference
    slack = 1e-12 * abs(difference)
    extreme = {
        "two-sided": np.abs(null) >= abs(difference) - slack,
        "greater": null >= difference - slack,
        "less": null <= difference + slack,
    }[alternative]
    p = (
        (1 + np.count_nonzero(extreme)) / (1 + len(null))
        if len(null) and math.isfinite(difference)
        else math.nan
    )
    return {"low": low, "high": high, "statistic": difference, "p": p, "error": error}


def _frame(rows: list[dict[str, Any]], correction: str) -> pd.DataFrame:
    import pandas as pd

    frame = pd.DataFrame(rows)
    frame.insert(
        frame.columns.get_loc("p") + 1, "p_corrected", significance.correct(frame["p"].to_numpy(), correction)
    )
    return frame


def _means(values: dict[str, np.ndarray], metrics: list[str]) -> pd.DataFrame:
    import pandas as pd

    index, columns = pd.Index(list(values), name="run"), pd.Index(metrics, name="metric")
    return pd.DataFrame(np.stack(list(values.values())), index=index, columns=columns)
