"""``Truth``: which items are relevant to each query, and how much; read once, used for many runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrec._core import checks
from fastrec._kernels import evaluation as kernels
from fastrec.evaluation import ids, runs
from fastrec.evaluation.ids import Labels

if TYPE_CHECKING:
    import pandas as pd

DUPLICATES = ("error", "first", "max", "sum")


class Truth:
    """Relevance judgements, read once and reused over many runs.

    Parameters
    ----------
    truth : judgements by query, as one of

        - a frame (pandas, polars, Arrow) with columns ``query, item[, gain]``;
        - a dict ``{query: {item: gain}}`` or ``{query: [items]}``;
        - a SciPy sparse matrix (queries x items) whose stored values are gains;
        - a list of id arrays, or an id matrix that -1 pads: row r is query r;
        - a path of a TREC qrels, Parquet, CSV or JSON Lines file.

        Without gains every item has gain 1.  Integer, text and mixed ids; see ``fastrec.evaluation.ids``.
    queries : labels of the rows, for the forms that have none.
    duplicates : ``"error"``, or keep the ``"first"``, ``"max"`` or ``"sum"`` of an item's gains within a query (an
        interaction log has an item many times: ``"max"``).

    Attributes
    ----------
    query_ids : (Q,) the queries, in the order of ``truth``.
    relevant : (Q,) how many items of each query have a gain above 0.

    Raises
    ------
    ValueError : an item twice in a query, a gain that is not finite, a missing id, a column that is not there.

    Memory: 16 bytes a judgement (8 without gains), plus the labels of text ids.
    """

    def __init__(self, truth: Any, *, queries: Any = None, duplicates: str = "error") -> None:
        checks.choice(duplicates, "duplicates", DUPLICATES)
        ptr, flat, gains, self._queries, self._items = _read(truth, queries)
        # How many columns a sparse matrix had: they are rows of an index, where the run is a labelled TopK.
        self._columns = truth.shape[1] if type(truth).__module__.startswith("scipy.sparse") else None
        flat = np.ascontiguousarray(flat, np.int64)
        if gains is not None:
            gains = np.ascontiguousarray(gains, np.float64)
            bad = np.flatnonzero(~np.isfinite(gains))
            if len(bad):
                row = int(np.searchsorted(ptr, bad[0], side="right")) - 1
                raise ValueError(
                    f"`truth` has a gain that is not finite, {gains[bad[0]]}, in query {self._queries[row]!r}"
                )
            if (gains == 1.0).all():
                gains = None
        ptr, flat, gains = self._distinct(ptr, flat, gains, duplicates)
        self._ptr, self._ids, self._gains = _by_gain(ptr, flat, gains)

    def _distinct(
        self, ptr: np.ndarray, flat: np.ndarray, gains: Any, duplicates: str
    ) -> tuple[Any, Any, Any]:
        longest = int(np.diff(ptr).max()) if len(ptr) > 1 else 0
        repeat = kernels.first_repeat(ptr, flat, longest)
        if repeat is None:
            return ptr, flat, gains
        if duplicates == "error":
            row, place = repeat
            item = int(flat[place]) if self._items is None else self._items[int(flat[place])]
            raise ValueError(
                f"`truth` has item {item!r} twice for query {self._queries[row]!r}; "
                "drop the repeats, or say what they mean: fr.Truth(..., duplicates='first', 'max' or 'sum')"
            )
        rows = np.repeat(np.arange(len(ptr) - 1), np.diff(ptr))
        values = np.ones(len(flat)) if gains is None else gains
        order = np.lexsort((flat, rows))  # stable: repeats stay in the order they came
        rows, items, values = rows[order], flat[order], values[order]
        first = np.flatnonzero(np.concatenate(([True], (rows[1:] != rows[:-1]) | (items[1:] != items[:-1]))))
        merge = {"first": lambda v: v[first], "max": lambda v: np.maximum.reduceat(v, first)}
        merged = merge.get(duplicates, lambda v: np.add.reduceat(v, first))(values)
        counts = np.bincount(rows[first], minlength=len(ptr) - 1)
        return np.concatenate(([0], np.cumsum(counts))).astype(np.int64), items[first], merged

    @property
    def query_ids(self) -> np.ndarray:
        return self._queries.array()

    @property
    def relevant(self) -> np.ndarray:
        if self._gains is None:
            return np.diff(self._ptr)
        return np.diff(np.concatenate(([0], np.cumsum(self._gains > 0)))[self._ptr])

    @property
    def max_gain(self) -> float:
        """The largest gain of all; 0 for an empty truth."""
        if self._gains is None:
            return 1.0 if len(self._ids) else 0.0
        return float(self._gains.max())

    def __len__(self) -> int:
        return self._queries.size

    def __repr__(self) -> str:
        return f"<Truth: {len(self)} queries, {len(self._ids)} judgements>"

    def to_frame(self) -> pd.DataFrame:
        """A pandas frame ``query, item, gain``; within a query by gain, descending."""
        import pandas as pd

        rows = np.repeat(np.arange(len(self)), np.diff(self._ptr))
        item = self._ids if self._items is None else self._items.array()[self._ids]
        gain = np.ones(len(self._ids)) if self._gains is None else self._gains
        return pd.DataFrame({"query": self.query_ids[rows], "item": item, "gain": gain})

    def take(self, rows: np.ndarray) -> Truth:
        """The truth of some queries, by row."""
        part = Truth.__new__(Truth)
        part._columns = self._columns
        sizes = np.diff(self._ptr)[rows]
        ptr = np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)
        places = np.repeat(self._ptr[:-1][rows] - ptr[:-1], sizes) + np.arange(ptr[-1])
        part._ptr, part._ids, part._items = ptr, self._ids[places], self._items
        part._gains = None if self._gains is None else self._gains[places]
        part._queries = Labels.of(self.query_ids[rows])
        return part


def _by_gain(
    ptr: np.ndarray, flat: np.ndarray, gains: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, Any]:
    """Each row by gain, descending; repeats of a gain stay in order."""
    if gains is None or len(gains) < 2:
        return ptr, flat, gains
    rows = np.repeat(np.arange(len(ptr) - 1), np.diff(ptr))
    if ((gains[1:] <= gains[:-1]) | (rows[1:] != rows[:-1])).all():
        return ptr, flat, gains
    order = np.lexsort((-gains, rows))
    return ptr, flat[order], gains[order]


def _read(truth: Any, queries: Any) -> tuple[np.ndarray, np.ndarray, Any, Labels, Labels | None]:
    """(ptr, flat ids, gains or None, queries, items or None)."""
    if isinstance(truth, (str, os.PathLike)):
        from fastrec.data.files import read_truth as read_file

        truth = read_file(truth)
    if type(truth).__module__.startswith("ranx"):
        truth = truth.to_dict()
    if isinstance(truth, Mapping):
        runs._no_labels(queries, "truth")
        return _from_mapping(truth)
    frame = runs.columns_of(truth)
    if frame is not None:
        runs._no_labels(queries, "truth")
        return _from_frame(frame)
    if runs.csr_of(truth) is not None:
        csr = truth.tocsr()
        if not csr.has_canonical_format:
            csr = csr.copy()
            csr.sum_duplicates()  # as SciPy itself reads a repeated entry
        gains = runs.numbers(csr.data, "truth")
        labels = runs.row_labels(queries, csr.shape[0], "truth")
        return (
            csr.indptr.astype(np.int64),
            csr.indices.astype(np.int64),
            gains.astype(np.float64),
            labels,
            None,
        )
    return _from_rows(truth, queries)


def _from_frame(frame: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, Any, Labels, Labels | None]:
    query, item = runs.pick(frame, runs.QUERY, "truth"), runs.pick(frame, runs.ITEM, "truth")
    gain = runs.pick(frame, runs.GAIN, "truth", required=False)
    ptr, order, queries = ids.group(query, "truth.query")
    flat, items = ids.column(item, "truth.item")
    gains = None if gain is None else runs.numbers(gain, "truth.gain").astype(np.float64)
    if order is not None:
        flat = flat[order]
        gains = None if gains is None else gains[order]
    return ptr, flat, gains, queries, items


def _from_mapping(truth: Mapping[Any, Any]) -> tuple[np.ndarray, np.ndarray, Any, Labels, Labels | None]:
    _, labels = ids.coded(list(truth), "truth (its keys)")
    if labels.size != len(truth):
        raise ValueError("`truth` has two queries that are the same as text")
    lists: list[Any] = [runs.listed(entry, "truth") for entry in truth.values()]
    graded = [isinstance(entry, Mapping) for entry in lists]
    if any(graded) and not all(graded):
        raise TypeError("`truth` must map every query to a dict of gains, or every query to a list of items")
    ptr = np.concatenate(([0], np.cumsum([len(entry) for entry in lists], dtype=np.int64))).astype(np.int64)
    flat, items = ids.column(runs.objects(chain.from_iterable(lists), int(ptr[-1])), "truth (its items)")
    gains = None
    if graded and graded[0]:
        values = chain.from_iterable(entry.values() for entry in lists)
        gains = runs.numbers(runs.objects(values, int(ptr[-1])), "truth (its gains)").astype(np.float64)
    return ptr, flat, gains, labels, items


def _from_rows(truth: Any, queries: Any) -> tuple[np.ndarray, np.ndarray, Any, Labels, Labels | None]:
    if isinstance(truth, (list, tuple)) and not runs._is_rectangle(truth):
        ptr, flat, items = runs.ragged(truth, "truth")
        return ptr, flat, None, runs.row_labels(queries, len(ptr) - 1, "truth"), items
    array = ids.host(truth, "truth")
    if array.ndim != 2:
        raise ValueError(
            f"`truth` must be a frame, a dict, a CSR, lists of ids or an id matrix (queries, n); "
            f"got shape {array.shape}"
        )
    labels = runs.row_labels(queries, len(array), "truth")
    if array.dtype.kind in "OUS":
        flat, ptr, items = runs.text_matrix(array, "truth")
        return ptr, flat, None, labels, items
    if array.dtype.kind == "f":
        raise TypeError(
            "`truth` must hold item ids; got a matrix of floats. Pass gains as a SciPy CSR (queries x items)"
        )
    whole = runs.matrix(array, "truth").reshape(array.shape)
    real = whole != -1
    ptr = np.concatenate(([0], np.cumsum(real.sum(axis=1)))).astype(np.int64)
    return ptr, whole[real].astype(np.int64), None, labels, None
