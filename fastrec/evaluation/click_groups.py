"""Click metrics group by group, for those that are means over groups: what tests over groups, and wins, are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrec._core import checks

if TYPE_CHECKING:
    from fastrec.evaluation.click_evaluation import ClickEvaluation

TESTS = ("paired_t", "wilcoxon", "randomization", "tukey_hsd")  # of fr.compare, over groups
METRICS = ("gauc", "logloss", "brier", "mse", "mae", "accuracy", "field_ece")


@dataclass(frozen=True, slots=True)
class GroupValues:
    """The values of M metrics in G groups, as :func:`fastrec.compare` and ``fr.evaluation.bootstrap`` read them.

    Attributes
    ----------
    values : (G, M) float64; NaN where a metric has no value in a group
    metrics : M names
    query_ids : (G,) labels of the groups
    weights : None: the groups weigh what each metric gives them
    better : 1 where a larger value of a metric is better, -1 where a smaller one is, 0 where neither is
    """

    values: np.ndarray
    metrics: list[str]
    query_ids: np.ndarray
    weights: None = None
    _shares: dict[str, np.ndarray] = field(default_factory=dict)
    better: dict[str, int] = field(default_factory=dict)
    unit: str = "groups"


def group_values(evaluation: ClickEvaluation, metrics: Sequence[str] | str | None) -> GroupValues:
    """See :meth:`ClickEvaluation.by_group`."""
    if evaluation._codes is None:
        raise ValueError("values by group need `groups`: pass them to evaluate_clicks")
    asked = {one.name: one for one in evaluation._request.wanted}
    if metrics is None:
        names = [name for name, one in asked.items() if one.metric in METRICS]
    else:
        names = [metrics] if isinstance(metrics, str) else list(metrics)
    for name in names:
        if name not in asked:
            close = checks.nearest(name, list(asked))
            raise ValueError(f"the evaluation lacks the metric {name!r}; it has {list(asked)}.{close}")
    others = [name for name in names if asked[name].metric not in METRICS]
    if others or not names:
        raise ValueError(
            f"only {', '.join(METRICS)} are means over groups; got {others or list(asked)}. Other metrics belong to "
            "all rows at once: use test 'bootstrap', or 'delong' for 'auc'"
        )
    rows = _RowsOfGroups(evaluation)
    values, shares = np.empty((len(evaluation._labels), len(names))), {}
    for column, name in enumerate(names):
        values[:, column], share = rows.of(asked[name])
        if share is not None:
            shares[name] = share
    better = {name: asked[name].definition.better for name in names}
    return GroupValues(values, names, np.asarray(evaluation._labels), None, shares, better)


class _RowsOfGroups:
    def __init__(self, evaluation: ClickEvaluation) -> None:
        self.of_rows = evaluation
        self.size = evaluation._group_sum(np.ones(len(evaluation._y)))

    def of(self, one: Any) -> tuple[np.ndarray, np.ndarray | None]:
        """(G,) values, and what each weighs in the mean (None: all the same)."""
        if one.metric == "gauc":
            rank = self.of_rows._grouped()
            pairs = rank.group_positive * rank.group_negative
            auc = _over(rank.group_pairs, pairs)
            weights = {"positives": rank.group_positive, "impressions": self.size}
            return auc, weights.get(one.parameter)
        of_rows = self._column(one)
        sums = self.of_rows._group_sum(of_rows)
        return _over(np.abs(sums) if one.metric == "field_ece" else sums, self.size), self.size

    def _column(self, one: Any) -> np.ndarray:
        y, p = self.of_rows._y.astype(np.float64), self.of_rows._p.astype(np.float64)
        if one.metric == "accuracy":
            chosen = self.of_rows._p >= self.of_rows._p.dtype.type(one.parameter)
            return (chosen == (y != 0)).astype(np.float64)
        if one.metric == "field_ece":
            return p - y
        if one.metric != "logloss":
            return np.abs(p - y) if one.metric == "mae" else (p - y) ** 2
        eps = self.of_rows._request.eps
        assert eps is not None  # for the type checker: the evaluation has resolved it
        of_y, of_other = np.log(p.clip(eps, 1 - eps)), np.log((1 - p).clip(eps, 1 - eps))
        return -np.where(y == 0, of_other, np.where(y == 1, of_y, y * of_y + (1 - y) * of_other))


def _over(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    return np.divide(top, bottom, out=np.full(len(top), np.nan), where=bottom > 0)
