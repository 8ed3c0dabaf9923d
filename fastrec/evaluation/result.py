"""``Evaluation``: what ``fr.evaluate`` returns."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrec._core import arrays, checks
from fastrec._core import threads as threading
from fastrec._kernels import evaluation as kernels
from fastrec.evaluation import tables

if TYPE_CHECKING:
    import pandas as pd


class Evaluation:
    """Metrics of one run: the value of every query, their mean, and what was counted on the way.

    Attributes
    ----------
    metrics : list of str, the columns' names as they were asked for.
    values : (Q, M) float64, one row a query; NaN where a metric is undefined for a query (``counts`` says how often).
        A CuPy array where the run was on a card; ``.to("cpu")`` is the evaluation with values in host memory.
    query_ids : (Q,) the queries, in the order of the truth.
    weights : (Q,) float64, or ``None``: what each query counts in the mean.
    counts : dict: ``queries`` (rows of ``values``), ``empty`` (truth without a relevant item), ``missing`` (no item
        in the run), ``unjudged`` (queries of the run that the truth does not know), ``duplicates`` (repeats removed),
        ``tied`` (items with the score of another), ``undefined`` ({metric: queries with NaN}).
    better : dict from metric to 1 where a larger value is better, -1 where a smaller one is, 0 where neither is.
    convention : dict from metric to its resolved convention, every choice that its value rests on, such as
        ``recall@5[recall_denominator=relevant,ties=trec,score_precision=float32,empty=zero,missing=zero,
        duplicates=error,unjudged=nonrel]``.
    """

    numbered = False  # the queries have no labels, only row numbers
    rows = 0  # of the truth, before any policy left queries out

    def __init__(
        self,
        metrics: list[str],
        values: np.ndarray,
        query_ids: np.ndarray,
        *,
        counts: dict[str, Any],
        convention: dict[str, str],
        weights: np.ndarray | None = None,
        averages: dict[str, str] | None = None,
        shares: dict[str, np.ndarray] | None = None,
        better: dict[str, int] | None = None,
        threads: int | None = None,
    ) -> None:
        self.metrics = list(metrics)
        self.query_ids = query_ids
        self.weights = weights
        self.convention = convention
        self._values: np.ndarray | None = values
        self._averages = averages or {}
        self._shares = shares or {}
        self.better = better or {}
        sums, undefined = _column_sums(values, threads)
        self.counts = {"undefined": {name: int(n) for name, n in zip(metrics, undefined) if n}} | counts
        self._means = self._average(values, sums, undefined)

    def _average(self, values: np.ndarray, sums: np.ndarray, undefined: np.ndarray) -> np.ndarray:
        """Weighted mean of every column over the queries where it is defined; 0 without queries."""
        means = np.zeros(len(self.metrics))
        for m, name in enumerate(self.metrics):
            weights = self.weights
            if name in self._shares:  # ratio of sums
                weights = self._shares[name] if weights is None else weights * self._shares[name]
            geometric = self._averages.get(name) == "geometric"
            size = len(values) - undefined[m]
            if not size:
                means[m] = np.nan if len(values) else 0.0
            elif weights is None and not geometric:
                means[m] = sums[m] / size
            else:
                xp = arrays.namespace(values)
                column = values[:, m]
                defined = ~xp.isnan(column)
                column = xp.log(column[defined]) if geometric else column[defined]
                weights = xp.ones(int(size)) if weights is None else weights[defined]
                mean = _ratio(float((column * weights).sum()), float(weights.sum()))
                means[m] = np.exp(mean) if geometric else mean
        return means

    @property
    def values(self) -> np.ndarray:
        if self._values is None:
            raise ValueError(
                "the values of each query were not kept; call `fr.evaluate(..., per_query=True)`"
            )
        return self._values

    @property
    def mean(self) -> pd.Series:
        """The mean of every metric over the queries, a pandas Series indexed by metric."""
        import pandas as pd

        return pd.Series(self._means, index=pd.Index(self.metrics, name="metric"), name="mean")

    @property
    def per_query(self) -> pd.DataFrame:
        """The value of every query, a pandas frame indexed by query."""
        import pandas as pd

        return pd.DataFrame(
            _fetched(self.values), index=pd.Index(self.query_ids, name="query"), columns=self.metrics
        )

    def __getitem__(self, metric: str) -> float:
        """The mean of one metric."""
        try:
            return float(self._means[self.metrics.index(metric)])
        except ValueError:
            raise KeyError(f"{metric!r} was not computed; there are {', '.join(self.metrics)}") from None

    def __len__(self) -> int:
        return len(self.query_ids)

    def to(self, device: str) -> Evaluation:
        """The evaluation with its values in host memory, ``to("cpu")``: what statistics over queries need."""
        if device != arrays.CPU:
            raise ValueError(f"an evaluation goes to 'cpu' only; got {device!r}")
        here = Evaluation.__new__(Evaluation)
        here.__dict__.update(self.__dict__)
        here._values = None if self._values is None else _fetched(self._values)
        here.weights = None if self.weights is None else _fetched(self.weights)
        here._shares = {name: _fetched(share) for name, share in self._shares.items()}
        return here

    def only(self, metrics: list[str]) -> Evaluation:
        """The same evaluation with some of its metrics."""
        places = [self.metrics.index(metric) for metric in metrics]
        part = Evaluation(
            metrics,
            np.ascontiguousarray(self.values[:, places]),
            self.query_ids,
            counts={name: count for name, count in self.counts.items() if name != "undefined"},
            convention={metric: self.convention[metric] for metric in metrics},
            weights=self.weights,
            averages=self._averages,
            better={metric: self.better.get(metric, 1) for metric in metrics},
            shares={name: share for name, share in self._shares.items() if name in metrics},
        )
        part.numbered, part.rows = self.numbered, self.rows
        return part

    def by(self, labels: Any) -> pd.DataFrame:
        """The means within groups of queries, each averaged as over all: a pandas frame, one row a group.

        ``labels``: the group of each query, in the order of ``query_ids``; a query without one (None) is in no group.
        Columns ``queries`` and the metrics; NaN where a metric is undefined for every query of a group.
        """
        import pandas as pd

        labels = pd.Series(labels).reset_index(drop=True)
        if len(labels) != len(self):
            raise ValueError(f"`labels` must have one label per query, {len(self)}; got {len(labels)}")
        groups = labels.groupby(labels).indices
        means = [self._part(rows)._means for rows in groups.values()]
        frame = pd.DataFrame(means, index=pd.Index(list(groups), name="group"), columns=self.metrics)
        frame.insert(0, "queries", [len(rows) for rows in groups.values()])
        return frame

    def _part(self, rows: np.ndarray) -> Evaluation:
        """The evaluation of some of the queries, in host memory."""
        here = self.to(arrays.CPU)
        return Evaluation(
            self.metrics,
            here.values[rows],
            self.query_ids[rows],
            counts={"queries": len(rows)},
            convention=self.convention,
            weights=None if here.weights is None else here.weights[rows],
            averages=self._averages,
            better=self.better,
            shares={name: share[rows] for name, share in here._shares.items()},
        )

    def drop_queries(self) -> Evaluation:
        """Forget the values of each query, keeping the means."""
        self._values = None
        return self

    def interval(self, *args: Any, **kwargs: Any) -> Any:
        """Confidence intervals of the means; see :func:`fastrec.evaluation.bootstrap`."""
        return importlib.import_module("fastrec.evaluation.bootstrap").bootstrap(self, *args, **kwargs)

    def plot(self, *args: Any, **kwargs: Any) -> Any:
        """Draw the means with their intervals: Matplotlib axes, to save by ``ev.plot().figure.savefig(path)``; see
        ``fastrec.evaluation.plots.plot_evaluation``.
        """
        return importlib.import_module("fastrec.evaluation.plots").plot_evaluation(self, *args, **kwargs)

    def to_frame(self) -> pd.DataFrame:
        """A pandas frame ``metric, mean, queries, convention``: one row a metric."""
        import pandas as pd

        undefined = self.counts.get("undefined", {})
        return pd.DataFrame(
            {
                "metric": self.metrics,
                "mean": self._means,
                "queries": [len(self.query_ids) - undefined.get(name, 0) for name in self.metrics],
                "convention": [self.convention[name] for name in self.metrics],
            }
        )

    def to_markdown(self, digits: int = 4) -> str:
        """The means as a Markdown table; only this text is rounded."""
        digits = checks.integer(digits, "digits", low=0, high=17)
        rows = [
            (row.metric, f"{row.mean:.{digits}f}", str(row.queries)) for row in self.to_frame().itertuples()
        ]
        return tables.markdown(("metric", "mean", "queries"), rows)

    def to_latex(self, digits: int = 4) -> str:
        """The means as a LaTeX table (booktabs); only this text is rounded."""
        digits = checks.integer(digits, "digits", low=0, high=17)
        rows = [
            (row.metric, f"{row.mean:.{digits}f}", str(row.queries)) for row in self.to_frame().itertuples()
        ]
        return tables.latex(("metric", "mean", "queries"), rows)

    def __repr__(self) -> str:
        width = max(map(len, self.metrics))
        lines = [f"{name:<{width}}  {mean:.6f}" for name, mean in zip(self.metrics, self._means)]
        noted = ", ".join(
            f"{n} {what}"
            for what, n in self.counts.items()
            if isinstance(n, int) and (n or what == "queries")
        )
        noted += "".join(f", {n} undefined for {name}" for name, n in self.counts["undefined"].items())
        return "\n".join([f"<Evaluation: {noted}>", *lines])

    def _repr_html_(self) -> str:
        return str(self.mean.to_frame().to_html())


def _column_sums(values: Any, threads: int | None) -> tuple[np.ndarray, np.ndarray]:
    """(M,) sums of the values that are defined, and how many are not: in blocks of rows, then over the blocks."""
    if not isinstance(values, np.ndarray):
        from fastrec.evaluation import on_device

        parts, undefined = on_device.column_sums(values)
        return parts.sum(axis=1), undefined
    shape = -(-len(values) // kernels.SUM_BLOCK), values.shape[1]
    sums, missing = np.zeros(shape), np.zeros(shape, np.int64)
    kernels.column_sums(np.ascontiguousarray(values, np.float64), sums, missing, threading.resolve(threads))
    return np.ascontiguousarray(sums.T).sum(axis=1), missing.sum(axis=0)


def _fetched(array: Any) -> np.ndarray:
    return array if isinstance(array, np.ndarray) else array.get()


def _ratio(a: float, b: float) -> float:
    return float(a / b) if b > 0 else 0.0
