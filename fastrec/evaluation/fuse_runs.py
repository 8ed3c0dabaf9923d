"""Runs to be fused, of every kind: read into columns of codes, and written back."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from fastrec._core import arrays, checks, columns
from fastrec.evaluation.fuse_tables import Table
from fastrec.evaluation.per_query import shown
from fastrec.ranking.result import TopK


def opened(run: Any) -> Any:
    """A path as the frame that it holds, a run of ranx as a dict, anything else as it is."""
    if isinstance(run, (str, os.PathLike)):
        from fastrec.data.files import read_run

        return read_run(run)
    return run.to_dict() if type(run).__module__.startswith("ranx") else run


class _Shape(ABC):
    """A kind of run: how to read all of them as tables of codes, and how to write codes back."""

    items: int

    @abstractmethod
    def read(self, runs: list[Any], names: list[str]) -> list[Table]: ...

    @abstractmethod
    def label(self, query: int, item: int) -> str:
        """What to call a (query, item) in a message."""

    @abstractmethod
    def write(self, query: np.ndarray, item: np.ndarray, rank: np.ndarray, score: np.ndarray) -> Any: ...


def shape_of(runs: list[Any], names: list[str]) -> _Shape:
    kinds = [_kind(run, name) for run, name in zip(runs, names)]
    for name, kind in zip(names, kinds):
        if kind is not kinds[0]:
            raise TypeError(
                f"runs must be of one kind; {names[0]} is {kinds[0].description} and {name} is {kind.description}"
            )
    return kinds[0]()


def _kind(run: Any, name: str) -> type[_Matrices] | type[_Frames] | type[_Dicts]:
    module = type(run).__module__.partition(".")[0]
    if isinstance(run, Mapping):
        return _Dicts
    if module in ("pandas", "polars", "pyarrow"):
        return _Frames
    if isinstance(run, (TopK, np.ndarray, tuple, list)) or hasattr(run, "__dlpack__"):
        return _Matrices
    raise TypeError(
        f"{name} must be a TopK, an id matrix, (ids, scores), a frame, a dict of dicts or a path; "
        f"got {type(run).__name__}"
    )


class _Matrices(_Shape):
    """TopK, (Q, k) ids, or (ids, scores): row q is query q."""

    description = "a matrix"

    def read(self, runs: list[Any], names: list[str]) -> list[Table]:
        parts = [self._parts(run, name) for run, name in zip(runs, names)]
        sizes = {name: len(rows) for name, (rows, _, _) in zip(names, parts)}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"matrices must have one row for each of the same queries; got {sizes}")
        self.queries = next(iter(sizes.values()))
        self.labels, recode = _merged_labels([labels for _, _, labels in parts], names)
        self.items = 0
        tables = []
        for (rows, scores, _), code, name in zip(parts, recode, names):
            query, position = np.nonzero(rows >= 0)
            item = rows[query, position]
            if code is not None:
                item = code[item]
            self.items = max(self.items, int(item.max(initial=-1)) + 1)
            picked = None if scores is None else scores[query, position].astype(np.float64)
            tables.append(Table.of(query, item, picked, position, name))
        return tables

    def label(self, query: int, item: int) -> str:
        shown = item if self.labels is None else self.labels[item]
        return f"item {shown!s} of query {query}"

    @staticmethod
    def _parts(run: Any, name: str) -> tuple[np.ndarray, np.ndarray | None, Any]:
        """(Q, k) int64 rows, (Q, k) scores or None, labels or None."""
        rows, scores, labels = run, None, None
        if isinstance(run, TopK):
            rows, scores, labels = run.rows, run.scores, run.labels
        elif isinstance(run, tuple):
            if len(run) != 2:
                raise ValueError(f"{name} must be a pair (ids, scores); got a tuple of {len(run)}")
            rows, scores = run
        rows = arrays.adopt(rows, name)
        if not isinstance(rows, np.ndarray):
            raise TypeError(f"{name} must be on the CPU; got an array on {arrays.device(rows)}")
        if rows.dtype.kind not in "iu" and rows.size:
            raise TypeError(
                f"{name} must hold integer ids; got dtype {rows.dtype}. Use a frame or a dict for others."
            )
        if rows.ndim != 2:
            raise ValueError(f"{name} must have shape (queries, k); got {rows.shape}")
        if scores is not None:
            scores = checks.real(scores, f"the scores of {name}")
            if scores.shape != rows.shape:
                raise ValueError(
                    f"the scores of {name} must have the shape of its ids {rows.shape}; got {scores.shape}"
                )
        return rows.astype(np.int64), scores, labels

    def write(self, query: np.ndarray, item: np.ndarray, rank: np.ndarray, score: np.ndarray) -> TopK:
        width = int(rank.max(initial=0))
        rows = np.full((self.queries, width), -1, dtype=np.int64)
        scores = np.full((self.queries, width), -np.inf)
        rows[query, rank - 1] = item
        scores[query, rank - 1] = score
        return TopK(rows, scores, self.labels)


def _merged_labels(labels: list[Any], names: list[str]) -> tuple[Any, list[np.ndarray | None]]:
    """Labels that serve every run, and for each run the codes of its own rows in them (None: as they are)."""
    unlabelled = [one is None for one in labels]
    if all(unlabelled):
        return None, [None] * len(labels)
    if any(unlabelled):
        plain, labelled = names[unlabelled.index(True)], names[unlabelled.index(False)]
        raise ValueError(
            f"{labelled} has item labels and {plain} has none: they do not number the same items"
        )
    first = np.asarray(labels[0])
    if all(len(one) == len(first) and np.array_equal(one, first) for one in labels):
        return first, [None] * len(labels)
    codes, merged = _codes([np.asarray(one) for one in labels], names, "item labels", sort=True)
    return merged, list(codes)


class _Frames(_Shape):
    """pandas, polars or Arrow frames with columns query, item and perhaps score or rank."""

    description = "a frame"

    def read(self, runs: list[Any], names: list[str]) -> list[Table]:
        self.like = type(runs[0]).__module__.partition(".")[0]
        parts: list[tuple[np.ndarray, np.ndarray, Any, Any]] = []
        for run, name in zip(runs, names):
            held = list(map(str, run.column_names if hasattr(run, "column_names") else run.columns))
            labels = _column(held, columns.QUERY, name), _column(held, columns.ITEM, name)
            if not parts:
                self.names = labels
            scores, ranks = (columns.find(held, known, name) for known in (columns.SCORE, columns.RANK))
            score = None if scores is None else _values(run, scores)
            place = None if ranks is None or score is not None else _values(run, ranks)
            parts.append((_values(run, labels[0]), _values(run, labels[1]), score, place))
        queries, self.query_labels = _codes([part[0] for part in parts], names, "queries", sort=False)
        items, self.item_labels = _codes([part[1] for part in parts], names, "items", sort=True)
        self.items = len(self.item_labels)
        tables = []
        for query, item, (_, _, score, place), name in zip(queries, items, parts, names):
            if score is not None:
                score = checks.real(score, f"the scores of {name}").astype(np.float64)
            if place is not None:
                place = checks.real(place, f"the ranks of {name}")
            # Equal scores go by item; without scores, the ranks or the rows' own order decide.
            position = item if score is not None else np.arange(len(item)) if place is None else place
            tables.append(Table.of(query, item, score, position, name))
        return tables

    def label(self, query: int, item: int) -> str:
        return f"item {shown(self.item_labels[item])} of query {shown(self.query_labels[query])}"

    def write(self, query: np.ndarray, item: np.ndarray, rank: np.ndarray, score: np.ndarray) -> Any:
        named = {
            self.names[0]: self.query_labels[query],
            "rank": rank,
            self.names[1]: self.item_labels[item],
            "score": score,
        }
        if self.like == "polars":
            import polars as pl

            return pl.DataFrame(named)
        if self.like == "pyarrow":
            import pyarrow as pa

            return pa.table(named)
        import pandas as pd

        return pd.DataFrame(named)


def _column(held: list[str], known: tuple[str, ...], name: str) -> str:
    found = columns.find(held, known, name)
    if found is None:
        raise ValueError(
            f"{name} must have a column {known[0]!r} (or {', '.join(map(repr, known[1:]))}); got {held}"
        )
    return found


def _values(frame: Any, column: str) -> np.ndarray:
    values = frame[column]
    return np.asarray(values.to_numpy())


class _Dicts(_Shape):
    """Dicts of {query: {item: score}}, or of {query: [items]}, best first."""

    description = "a dict"

    def read(self, runs: list[Any], names: list[str]) -> list[Table]:
        parts: list[tuple[np.ndarray, np.ndarray, np.ndarray, list[Any] | None]] = []
        for run, name in zip(runs, names):
            kinds = {self._is_scored(entry, query, name) for query, entry in run.items()}
            if len(kinds) > 1:
                raise TypeError(
                    f"{name} must hold a dict for every query, or a list for every query; got both"
                )
            # Every query once, with those that have no items: they are in the result too.
            parts.append(
                (
                    _objects(run),
                    np.repeat(np.arange(len(run)), [len(scores) for scores in run.values()]),
                    _objects(item for scores in run.values() for item in scores),
                    None
                    if kinds == {False}
                    else [score for scores in run.values() for score in scores.values()],
                )
            )
        codes, self.query_labels = _codes([part[0] for part in parts], names, "queries", sort=False)
        items, self.item_labels = _codes([part[2] for part in parts], names, "items", sort=True)
        self.items = len(self.item_labels)
        tables = []
        for code, item, (_, row, _, values), name in zip(codes, items, parts, names):
            score = (
                None if values is None else checks.real(values, f"the scores of {name}").astype(np.float64)
            )
            position = np.arange(len(item)) if score is None else item
            tables.append(Table.of(code[row], item, score, position, name))
        return tables

    @staticmethod
    def _is_scored(entry: Any, query: Any, name: str) -> bool:
        if not isinstance(entry, (Mapping, list, tuple, np.ndarray)):
            raise TypeError(
                f"{name} must be a dict of {{query: {{item: score}}}} or {{query: [items]}}; the value of {query!r} is "
                f"{type(entry).__name__}"
            )
        return isinstance(entry, Mapping)

    def label(self, query: int, item: int) -> str:
        return f"item {shown(self.item_labels[item])} of query {shown(self.query_labels[query])}"

    def write(self, query: np.ndarray, item: np.ndarray, rank: np.ndarray, score: np.ndarray) -> Any:
        bounds = np.searchsorted(query, np.arange(len(self.query_labels) + 1)).tolist()
        labels, scores = self.item_labels[item].tolist(), score.tolist()
        return {
            label: dict(zip(labels[start:stop], scores[start:stop]))
            for label, (start, stop) in zip(self.query_labels.tolist(), pairwise(bounds))
        }


def _objects(labels: Iterable[Any]) -> np.ndarray:
    """Labels as a one-dimensional array: int64 where all are integers, else objects (tuples stay whole)."""
    listed = list(labels)
    if listed and all(type(label) is int for label in listed):
        return np.array(listed)
    array = np.empty(len(listed), dtype=object)
    array[:] = listed
    return array


def _codes(
    labels: list[np.ndarray], names: list[str], what: str, *, sort: bool
) -> tuple[list[np.ndarray], np.ndarray]:
    """Number the labels of all runs together: codes for each run, and the label of each code."""
    import pandas as pd

    kinds = [_label_kind(array, name, what) for array, name in zip(labels, names)]
    known = [(kind, name) for kind, name in zip(kinds, names) if kind]
    for kind, name in known:
        if kind != known[0][0]:
            raise TypeError(
                f"the {what} of {known[0][1]} are {known[0][0]} and those of {name} are {kind}; convert one"
            )
    filled = [array for array, kind in zip(labels, kinds) if kind]
    joined = np.concatenate(filled) if filled else np.zeros(0, np.int64)
    codes, uniques = pd.factorize(joined, sort=sort)
    if len(codes) and codes.min() < 0:
        raise ValueError(f"the {what} of the runs must not be missing; got a NaN or None")
    ends = np.cumsum([len(array) for array in labels])
    return [part.astype(np.int64) for part in np.split(codes, ends[:-1])], np.asarray(uniques)


def _label_kind(array: np.ndarray, name: str, what: str) -> str:
    """ "integers", "strings" or "" for no labels at all; ``TypeError`` for any other kind."""
    import pandas as pd

    if len(array) == 0:
        return ""
    kind = pd.api.types.infer_dtype(array, skipna=True)
    if kind == "integer":
        return "integers"
    if kind in ("string", "empty"):
        return "strings"
    raise TypeError(f"the {what} of {name} must be integers or strings; got {kind}")
