"""``ClickEvaluation``: the metrics of one call, with their intervals, groups and curves."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrec._core import checks
from fastrec.evaluation.click_columns import ALONE, equal_edges, parts, span
from fastrec.evaluation.click_metrics import GAUC_WEIGHTS, THRESHOLD_METRICS, Confusion, Sums, Undefined
from fastrec.evaluation.click_order import Order
from fastrec.evaluation.click_pair_sums import PairSums, click_pair_sums
from fastrec.evaluation.click_point_sums import click_point_sums
from fastrec.evaluation.click_rank_sums import RankSums, click_rank_sums, rank_sums
from fastrec.evaluation.click_request import Request, Wanted
from fastrec.evaluation.click_rows import Rows, narrow
from fastrec.evaluation.delong import Interval, delong_error, normal_interval
from fastrec.evaluation.named_values import NamedValues

if TYPE_CHECKING:
    import pandas as pd

    from fastrec.evaluation.bootstrap import Bootstrap
    from fastrec.evaluation.click_groups import GroupValues


class ClickEvaluation(NamedValues):
    """The metrics of one call of :func:`evaluate_clicks`.

    ``result["auc"]`` is a float; ``result.values`` is a pandas Series; iterating gives the names.

    Attributes
    ----------
    counts : dict
        ``rows``, ``positives``, ``negatives`` (rows, whatever their weights; absent with soft or real labels) and, with
        groups, ``groups`` and ``single_class_groups``: those that GAUC leaves out.
    undefined : dict
        Why a metric is NaN (or ``zero_division``), by name; empty when all are defined.
    parameters : dict
        The parameters each metric was computed with.
    per_group : pandas.DataFrame
        One row a group.
    best_threshold : float
        The highest threshold that reaches the best F1.
    """

    def __init__(self, rows: Rows, request: Request) -> None:
        super().__init__()
        self._y, self._p, self._w, self._codes, self._labels = rows.y, rows.p, rows.w, rows.codes, rows.labels
        self._request, self._threads = request, request.threads
        self._rank: RankSums | None = None
        self._order: Order | None = None  # the sorted rows, where they are used again

    def __repr__(self) -> str:
        return f"ClickEvaluation of {len(self._y)} rows\n{self._table()}"

    @property
    def counts(self) -> dict[str, int]:
        counts = {"rows": len(self._y)}
        if self._y.dtype == np.uint8:
            counts["positives"] = int(np.count_nonzero(self._y))
            counts["negatives"] = counts["rows"] - counts["positives"]
        if self._codes is not None:
            counts["groups"] = len(self._labels)
            if self._y.dtype == np.uint8:
                rank = self._grouped()
                single = (rank.group_positive == 0) | (rank.group_negative == 0)
                counts["single_class_groups"] = int(single.sum())
        return counts

    def _grouped(self) -> RankSums:
        if self._rank is None or len(self._rank.group_positive) != len(self._labels):
            self._rank = self._ranked(self._codes, len(self._labels))
        return self._rank

    def _pooled(self) -> RankSums:
        if self._rank is None or math.isnan(self._rank.pairs):
            return self._ranked(None, 0, detail=0)
        return self._rank

    def _ranked(self, codes: np.ndarray | None, n_groups: int, **options: Any) -> RankSums:
        if self._order is not None:
            return rank_sums(self._order, codes, n_groups, **options)
        return click_rank_sums(
            self._y, narrow(self._p), self._w, codes, n_groups=n_groups, threads=self._threads, **options
        )

    def _reweighted(self) -> Callable[[np.ndarray], list[float]]:
        """A function from (n,) weights to the values of the metrics; the rows are sorted once for all calls."""
        rows = Rows(self._y, self._p, np.ones(len(self._y)), self._codes, self._labels)
        replica = ClickEvaluation(rows, self._request)
        order = None
        if self._y.dtype == np.uint8:
            groups = 0 if self._labels is None else len(self._labels)
            threads = self._threads if len(self._y) >= ALONE else 1
            order = Order(self._y, narrow(self._p), rows.w, self._codes, groups, threads)

        def values(weights: np.ndarray) -> list[float]:
            if not weights.any():
                return [math.nan] * len(self._request.wanted)
            replica._w, replica._rank = weights, None
            replica._order = None if order is None else order.reweighted(weights)
            return [value for value, _ in values_of(collect(replica), self._request.wanted)]

        return values

    def _group_sum(self, column: np.ndarray) -> np.ndarray:
        """Weighted sum of a column in each group."""
        assert self._codes is not None
        return np.bincount(
            self._codes, column if self._w is None else column * self._w, minlength=len(self._labels)
        )

    @property
    def best_threshold(self) -> float:
        return self._complete().f1_score

    def _complete(self) -> RankSums:
        self._need_binary("this")
        if self._rank is None or math.isnan(self._rank.positive2):
            self._rank = self._ranked(self._codes, 0 if self._labels is None else len(self._labels))
        return self._rank

    def _need_binary(self, what: str) -> None:
        if self._y.dtype != np.uint8:
            raise ValueError(f"{what} needs labels that are 0 or 1")

    @property
    def per_group(self) -> pd.DataFrame:
        """One row a group, by its label: ``rows``, ``positives`` and ``negatives`` (their weights, where given),
        ``auc`` (NaN where the group holds one class), ``mean_label``, ``mean_prob``."""
        import pandas as pd

        if self._codes is None:
            raise ValueError("`per_group` needs `groups`: pass them to evaluate_clicks")
        frame = pd.DataFrame(
            {"rows": np.bincount(self._codes, minlength=len(self._labels))}, index=self._labels
        )
        frame.index.name = "group"
        if self._y.dtype == np.uint8:
            rank = self._grouped()
            pairs = rank.group_positive * rank.group_negative
            frame["positives"], frame["negatives"] = rank.group_positive, rank.group_negative
            frame["auc"] = np.divide(
                rank.group_pairs, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0
            )
        size = self._group_sum(np.ones(len(self._y)))
        for name, column in (("mean_label", self._y), ("mean_prob", self._p)):
            sums = self._group_sum(column)
            frame[name] = np.divide(sums, size, out=np.full(len(size), np.nan), where=size > 0)
        return frame

    def by_group(self, metrics: Sequence[str] | str | None = None) -> GroupValues:
        """The values of metrics in each group, for those that are means over groups.

        ``gauc`` (each group weighs as that metric says) and ``logloss, brier, mse, mae, accuracy, field_ece`` (each
        group weighs as much as its rows); by default all of these that were asked for.  :func:`fastrec.compare` and
        ``fr.evaluation.bootstrap`` take what comes: groups are then the sample, and their mean is this metric.
        """
        from fastrec.evaluation.click_groups import group_values

        return group_values(self, metrics)

    def interval(
        self,
        name: str = "auc",
        level: float = 0.95,
        *,
        method: str | None = None,
        clusters: Any = None,
        replicates: int = 1000,
        seed: int = 0,
    ) -> Interval:
        """A confidence interval of one metric.

        Parameters
        ----------
        name : a metric of this evaluation, or "auc" or "gauc"
        level : float in (0, 1)
        method : "delong", "groups", "bootstrap" or "bca"
            ``"delong"`` (the default of ``"auc"``): the normal interval of DeLong's variance, cut to 0..1; needs two
            rows of each class, and neither weights nor clusters.  ``"groups"`` (the default of ``"gauc"``): groups as
            the sample, with the delta-method variance of a weighted mean over them.  ``"bootstrap"`` (the default of
            all others, and wherever ``clusters`` are given): percentiles of :meth:`bootstrap`; ``"bca"``: its BCa
            interval.
        clusters, replicates, seed : of the bootstrap.
        """
        level = checks.number(level, "level", low=0.0, high=1.0)
        base, _, parameter = name.partition("@")
        own = {"auc": "delong", "gauc": "groups"}.get(base, "bootstrap") if clusters is None else "bootstrap"
        methods = ("delong", "groups", "bootstrap", "bca")
        method = checks.choice(own if method is None else method, "method", methods)
        if method == "delong":
            if base != "auc" or clusters is not None:
                raise ValueError("method 'delong' is for 'auc' without clusters; use method 'bootstrap'")
            return self._auc_interval(level)
        if method == "groups":
            if base != "gauc" or clusters is not None:
                raise ValueError("method 'groups' is for 'gauc' without clusters; use method 'bootstrap'")
            if self._codes is None:
                raise ValueError("the interval of the GAUC needs `groups`: pass them to evaluate_clicks")
            self._need_binary("the interval of the GAUC")
            chosen = parameter or self.parameters.get(name, {}).get("gauc_weights", GAUC_WEIGHTS[0])
            return self._gauc_interval(checks.choice(chosen, "name", GAUC_WEIGHTS), level)
        value = self[name]
        drawn = self.bootstrap(
            level=level,
            method="bca" if method == "bca" else "percentile",
            clusters=clusters,
            replicates=replicates,
            seed=seed,
        )
        at = drawn.metrics.index(name)
        return Interval(
            float(drawn.low[at]), float(drawn.high[at]), value, float(drawn.standard_error[at]), level
        )

    def bootstrap(
        self,
        *,
        level: float = 0.95,
        method: str = "percentile",
        clusters: Any = None,
        replicates: int = 1000,
        seed: int = 0,
    ) -> Bootstrap:
        """Intervals of all metrics, from one set of replicates of the rows.

        Parameters
        ----------
        level : float in (0, 1)
        method : "percentile" or "bca"
            ``"bca"`` corrects for bias and skewness (Efron, *Better bootstrap confidence intervals*, JASA 1987).  Its
            acceleration comes from a jackknife that leaves out one row (or cluster) at a time or, where there are more
            than 200, one of 200 blocks of them, row i in block i % 200: as long as 200 replicates take.  Where every
            replicate lies on one side of the value, the percentile interval stands.
        clusters : "groups", (n,) labels, or None
            Rows that belong together (one user's, one session's) are drawn together: without it, an interval over
            correlated rows is too short.  ``"groups"``: the groups of this evaluation.
        replicates : int >= 1
        seed : int
            The same seed gives the same bits on any machine and any number of threads, and the same draws for every
            evaluation of as many rows (or clusters).

        Returns
        -------
        Bootstrap
            ``.to_frame()``; ``replicates`` (B, M), NaN where a metric is undefined on a draw, which then counts in no
            interval.

        Notes
        -----
        Every replicate gives each row (or cluster) a whole weight, the number of times that it was drawn, and
        evaluates all metrics under it; the rows are sorted once.  The edges of ``ace`` stay those of the rows.
        O(replicates * n) time, 40 bytes a row of memory.
        """
        from fastrec.evaluation.click_bootstrap import bootstrap_clicks

        return bootstrap_clicks(
            self, level=level, method=method, clusters=clusters, replicates=replicates, seed=seed
        )

    def _auc_interval(self, level: float) -> Interval:
        self._need_binary("the interval of the AUC")
        if self._w is not None:
            raise ValueError(
                "DeLong's interval is defined for rows of equal weight; use method 'bootstrap' instead"
            )
        sums = self._complete()
        value = sums.pairs / (sums.positive * sums.negative) if sums.positive and sums.negative else math.nan
        return normal_interval(value, delong_error(sums), level, (0.0, 1.0))

    def _gauc_interval(self, weights: str, level: float) -> Interval:
        rank = self._grouped()
        both = (rank.group_positive > 0) & (rank.group_negative > 0)
        positive, negative = rank.group_positive[both], rank.group_negative[both]
        auc = rank.group_pairs[both] / (positive * negative)
        weight = {"impressions": positive + negative, "positives": positive}.get(weights, np.ones(len(auc)))
        if len(auc) < 2:
            return Interval(math.nan, math.nan, float(auc[0]) if len(auc) else math.nan, math.nan, level)
        total = math.fsum(weight.tolist())
        value = math.fsum((weight * auc).tolist()) / total
        spread = math.fsum(((weight / total * (auc - value)) ** 2).tolist())
        return normal_interval(value, math.sqrt(spread * len(auc) / (len(auc) - 1)), level, (0.0, 1.0))

    def calibration(self, bins: int = 15, strategy: str = "uniform") -> pd.DataFrame:
        """The reliability curve: one row a bin that holds rows: ``weight``, ``mean_prob``, ``mean_label``.

        ``strategy="uniform"``: bins of equal width, as in ``ece``; ``"quantile"``: of equal numbers of rows, as in
        ``ace`` (labels of 0 and 1 only).
        """
        import pandas as pd

        bins = checks.integer(bins, "bins", low=1)
        low, high, _ = span(self._p, self._threads)
        if low < 0 or high > 1:
            raise ValueError("calibration needs `y_prob` in 0..1")
        if checks.choice(strategy, "strategy", ("uniform", "quantile")) == "uniform":
            sums = click_point_sums(self._y, self._p, self._w, bins=bins, threads=self._threads).bins
        else:
            self._need_binary("the quantile strategy")
            p = narrow(self._p)
            options: dict[str, Any] = {"masses": (bins,), "detail": 0, "threads": self._threads}
            sums = click_rank_sums(self._y, p, self._w, **options).mass_bins
        weight, label, prob = sums[sums[:, 0] > 0].T
        return pd.DataFrame({"weight": weight, "mean_prob": prob / weight, "mean_label": label / weight})

    def roc(self) -> pd.DataFrame:
        """The ROC curve, a row a distinct score, highest first: ``threshold``, ``fpr``, ``tpr``; from (inf, 0, 0)."""
        import pandas as pd

        self._need_binary("the ROC curve")
        order = np.argsort(-self._p, kind="stable")
        score, clicked = self._p[order], self._y[order].astype(bool)
        weight = np.ones(len(order)) if self._w is None else self._w[order]
        last = np.append(np.flatnonzero(score[1:] != score[:-1]), len(score) - 1)
        tp, fp = (
            np.append(0.0, np.cumsum(np.where(rows, weight, 0.0))[last]) for rows in (clicked, ~clicked)
        )
        nan = np.full(len(tp), np.nan)
        fpr, tpr = (np.divide(x, x[-1], out=nan.copy(), where=x[-1] > 0) for x in (fp, tp))
        threshold = np.append(np.inf, score[last].astype(np.float64))
        return pd.DataFrame({"threshold": threshold, "fpr": fpr, "tpr": tpr})

    def plot(self, axes: Any = None, bins: int = 15) -> Any:
        """Draw the ROC curve and the reliability curve; returns the Matplotlib figure.

        ``axes``: two Matplotlib axes to draw into.  Scores that are not probabilities get no reliability curve.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError("plots need Matplotlib: pip install 'fastrec[report]'") from error
        self._need_binary("the plot")
        if axes is None:
            figure = Figure(figsize=(9, 4), layout="constrained")
            axes = figure.subplots(1, 2)
        left, right = axes
        figure = left.figure
        curve = self.roc()
        rank = self._pooled()
        pairs = rank.positive * rank.negative
        kept = np.unique(np.linspace(0, len(curve) - 1, 2000).astype(int))  # more points than a plot can show
        left.plot(curve["fpr"].iloc[kept], curve["tpr"].iloc[kept])
        left.plot([0, 1], [0, 1], ls=":", color="gray")
        title = f"ROC, AUC {rank.pairs / pairs:.4f}" if pairs else "ROC"
        left.set(xlabel="False positive rate", ylabel="True positive rate", title=title)
        if self._p.min() >= 0 and self._p.max() <= 1:
            points = self.calibration(bins)
            right.plot(points["mean_prob"], points["mean_label"], marker="o")
        right.plot([0, 1], [0, 1], ls=":", color="gray")
        right.set(xlabel="Mean probability", ylabel="Mean label", title="Reliability")
        return figure


def collect(of: ClickEvaluation) -> Sums:
    """The sums of everything the evaluation was asked for."""
    wanted, needs = of._request.wanted, of._request.needs
    sums = Sums()
    sums.zero_division = of._request.zero_division
    y, p, w, threads = of._y, of._p, of._w, of._threads
    sums.weighted = w is not None

    def parameters(*names: str) -> list[Any]:
        return sorted({one.parameter for one in wanted if one.metric in names})

    cuts, widths = parameters(*THRESHOLD_METRICS), parameters("ece", "mce")
    binary = y.dtype == np.uint8
    # Sorted rows give these counts for nothing; the others are the same, from the rows as they come.
    sorted_too = binary and w is None and "rank" in needs
    if needs & {"rank", "groups"} and binary:
        limits, tops, masses = parameters("pauc"), parameters("gain", "lift"), parameters("ace")
        grouped = of._codes is not None and bool(needs & {"groups"})
        rank = of._ranked(
            of._codes if grouped else None,
            len(of._labels) if grouped else 0,
            detail=int("everything" in needs) if "rank" in needs else -1,
            max_fprs=limits,
            tops=tops,
            masses=masses,
            thresholds=[float(p.dtype.type(cut)) for cut in cuts] if sorted_too else (),
            edges=[equal_edges(bins, p.dtype) for bins in widths] if sorted_too else (),
        )
        sums.rank = of._rank = rank
        sums.partial = dict(zip(limits, sums.rank.partial.tolist()))
        sums.gain = dict(zip(tops, sums.rank.gain.tolist()))
        sums.mass = dict(zip(masses, parts(sums.rank.mass_bins, masses)))
    if sorted_too:
        for cut, (tp, fp) in zip(cuts, rank.above.tolist()):
            sums.confusion[cut] = Confusion(tp, fp, rank.positive - tp, rank.negative - fp)
        sums.bins = dict(zip(widths, parts(rank.bins, [bins + 1 for bins in widths])))
    else:
        sums.confusion = {cut: _confusion(y, p, w, cut) for cut in cuts}
    if needs & {"point", "loss", "bins", "gap", "spread"}:
        options: dict[str, Any] = {"loss": "loss" in needs, "eps": of._request.eps, "threads": threads}
        first, *more = [bins for bins in widths if bins not in sums.bins] or [0]
        sums.point = click_point_sums(y, p, w, bins=first, **options)
        if first:
            sums.bins[first] = sums.point.bins
        for bins in more:
            sums.bins[bins] = click_point_sums(y, p, w, bins=bins, threads=threads).bins
        if "spread" in needs:
            weight, label = sums.point.weight, sums.point.label
            centre = label / weight
            if binary:  # two values: no second pass
                spread = label * (1.0 - centre) ** 2 + (weight - label) * centre**2
            else:
                spread = click_point_sums(y, p, w, centre=centre, threads=threads).spread
            sums.point = replace(sums.point, spread=spread)
    if "pairs" in needs:
        sums.pair = _pair_sums(of, y, p, w, threads)
    if "gap" in needs:
        gaps = of._group_sum(p) - of._group_sum(y)
        sums.group_gap = math.fsum(np.abs(gaps).tolist())
    return sums


def _pair_sums(
    of: ClickEvaluation, y: np.ndarray, p: np.ndarray, w: np.ndarray | None, threads: int
) -> PairSums:
    if y.dtype != np.uint8:
        return click_pair_sums(y, p, w, threads=threads)
    # With two targets the pairs are those that the sweep has counted.
    rank = of._pooled()
    pairs = rank.positive * rank.negative
    return PairSums(pairs, pairs - rank.pairs, 0.0)


def _confusion(y: np.ndarray, p: np.ndarray, w: np.ndarray | None, cut: float) -> Confusion:
    clicked, chosen = y.view(bool), p >= p.dtype.type(cut)
    if w is None:
        tp, positives, predicted = (int(np.count_nonzero(a)) for a in (clicked & chosen, clicked, chosen))
        return Confusion(tp, predicted - tp, positives - tp, len(y) - positives - predicted + tp)
    each = (clicked & chosen, ~clicked & chosen, clicked & ~chosen, ~(clicked | chosen))
    return Confusion(*(float(w[rows].sum()) for rows in each))


def values_of(sums: Sums, wanted: list[Wanted]) -> list[tuple[float, str | None]]:
    """Each metric's value, and why it is not defined where it is not."""
    values: list[tuple[float, str | None]] = []
    for one in wanted:
        try:
            values.append((float(one.definition.compute(sums, one.parameter)), None))
        except Undefined as why:
            values.append((float(why.value), str(why)))
    return values
