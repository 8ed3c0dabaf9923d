"""Per-query values, however they are held: an evaluation, a frame or a matrix, read as one (Q, M) matrix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastrec._core import arrays

ID_COLUMNS = ("query", "query_id", "qid")


@dataclass(frozen=True, slots=True)
class PerQuery:
    """The values of M metrics on Q queries.

    Attributes
    ----------
    values : (Q, M) float64, C order; NaN where a metric is not defined for a query
    metrics : M distinct names
    query_ids : (Q,) array, or None where the queries are only numbered
    weights : (Q, M) float64, or None: what each value counts in its metric's mean
    geometric : names of the metrics whose mean is geometric
    better : 1 where a larger value of a metric is better (and where nothing is said), -1: a smaller one, 0: neither
    unit : what a row is of: "queries", "lists" or "groups"
    """

    values: np.ndarray
    metrics: list[str]
    query_ids: np.ndarray | None
    weights: np.ndarray | None = None
    geometric: frozenset[str] = frozenset()
    better: Mapping[str, int] = field(default_factory=dict)
    unit: str = "queries"


def read(source: Any, name: str) -> PerQuery:
    """Read an ``Evaluation``, a pandas, polars or Arrow frame, a Series, or a (Q, M) or (Q,) array; or the metrics of a
    ``CatalogEvaluation`` that have a value a list.

    A frame has one row a query and one column a metric; the queries are named by its column ``query`` (or
    ``query_id``, ``qid``), else by its index unless that merely counts.  Infinite values, other columns
    that are not numbers, repeated metrics and repeated queries are refused.
    """
    weights, geometric = None, frozenset[str]()
    better, unit = getattr(source, "better", {}), getattr(source, "unit", "queries")
    if hasattr(source, "per_list"):
        lists, unit = source.per_list.drop(columns="items"), "lists"
        if not len(lists.columns):
            raise ValueError(
                f"`{name}` has no metric with a value a list, such as novelty or ild; it has {', '.join(source)}"
            )
        source = lists
    if hasattr(source, "values") and hasattr(source, "metrics") and hasattr(source, "query_ids"):
        if not isinstance(source.values, np.ndarray):
            raise TypeError(
                f"`{name}` has its values on {source.values.device}; statistics over queries run on the CPU: "
                "pass `.to('cpu')` of it"
            )
        values, metrics, ids = source.values, list(source.metrics), source.query_ids
        weights, geometric = _weights_of(source), _geometric_of(source)
    else:
        frame = _as_pandas(source)
        values, metrics, ids = _array(source, name) if frame is None else _frame(frame, name)
    values = np.ascontiguousarray(values, dtype=np.float64)
    ids = None if ids is None else np.asarray(ids)
    if np.isinf(values).any():
        raise ValueError(f"`{name}` must hold finite values or NaN; got an infinity")
    _refuse_repeats(np.asarray(metrics, dtype=object), name, "metric")
    if ids is not None:
        if len(ids) != len(values):
            raise ValueError(f"`{name}` must name each of its {len(values)} queries; got {len(ids)} names")
        _refuse_repeats(ids, name, "query")
    return PerQuery(values, [str(metric) for metric in metrics], ids, weights, geometric, better, unit)


def _weights_of(evaluation: Any) -> np.ndarray | None:
    """(Q, M): the queries' weights times, for a ratio of sums, the metric's own share of each query."""
    weights, shares = getattr(evaluation, "weights", None), getattr(evaluation, "_shares", {})
    if weights is None and not shares:
        return None
    table = (
        np.ones(evaluation.values.shape)
        if weights is None
        else np.repeat(weights[:, None], len(evaluation.metrics), 1)
    )
    for metric, share in shares.items():
        table[:, evaluation.metrics.index(metric)] *= share
    return table


def _geometric_of(evaluation: Any) -> frozenset[str]:
    averages = getattr(evaluation, "_averages", {})
    return frozenset(metric for metric, average in averages.items() if average == "geometric")


def shown(label: Any) -> str:
    """A label as a message should show it: 3, not np.int64(3)."""
    return repr(label.item() if isinstance(label, np.generic) else label)


def _as_pandas(source: Any) -> Any:
    """``source`` as a pandas frame where it is a frame of any kind or a Series, else None."""
    kind = f"{type(source).__module__}.{type(source).__name__}"
    if kind.startswith("pandas.") and kind.endswith(".DataFrame"):
        return source
    if kind.startswith("pandas.") and kind.endswith(".Series"):
        return source.to_frame(name=source.name if source.name is not None else "value")
    if kind.startswith("polars."):
        import pandas as pd

        frame = source if kind.endswith("DataFrame") else source.to_frame()
        return pd.DataFrame({column: frame[column].to_numpy() for column in frame.columns})
    if kind.startswith("pyarrow."):
        return source.to_pandas()
    return None


def _frame(frame: Any, name: str) -> tuple[Any, list[Any], Any]:
    import pandas as pd

    ids: Any = None
    column = next((c for c in ID_COLUMNS if c in frame.columns), None)
    if column is not None:
        ids, frame = frame[column].to_numpy(), frame.drop(columns=column)
    elif not isinstance(frame.index, pd.RangeIndex) or frame.index.name is not None:
        ids = frame.index.to_numpy()
    for label in frame.columns:
        if not pd.api.types.is_numeric_dtype(frame.dtypes[label] if frame.columns.is_unique else np.float64):
            raise TypeError(
                f"`{name}` must hold one numeric column a metric; column {label!r} is {frame.dtypes[label]}. "
                "Call the query column 'query', or make it the index."
            )
    return frame.to_numpy(dtype=np.float64, na_value=np.nan), list(frame.columns), ids


def _array(source: Any, name: str) -> tuple[Any, list[str], None]:
    array = arrays.adopt(source, name)
    if not isinstance(array, np.ndarray):
        raise TypeError(f"`{name}` must be on the CPU; got an array on {arrays.device(array)}")
    if array.dtype.kind not in "fiub":
        raise TypeError(f"`{name}` must hold real numbers; got dtype {array.dtype}")
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2:
        raise ValueError(f"`{name}` must have shape (queries, metrics) or (queries,); got {array.shape}")
    names = ["value"] if array.shape[1] == 1 else [f"metric_{column}" for column in range(array.shape[1])]
    return array, names, None


def _refuse_repeats(labels: np.ndarray, name: str, what: str) -> None:
    import pandas as pd

    repeated = pd.Index(labels).duplicated()
    if repeated.any():
        raise ValueError(
            f"`{name}` must name each {what} once; {shown(labels[repeated.argmax()])} is repeated"
        )
