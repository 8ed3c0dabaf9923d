"""Runs (ranked lists by query) of every kind, read into flat arrays without copying where that can be."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np

from fastrec._core import arrays, checks, columns
from fastrec.evaluation import ids
from fastrec.evaluation.ids import Labels
from fastrec.ranking.result import TopK


@dataclass(frozen=True)
class Run:
    """Ranked lists, flat: row r is ``ids[ptr[r]:ptr[r + 1]]``, or ``width`` ids from ``r * width`` that -1 may end.

    ``ids`` are int32 or int64: the items' own integer ids, or (``items`` is given) codes of those labels.
    ``scores`` may be ``None``: the lists are best first.  A matrix of a card stays there; labels are the host's.
    """

    ids: Any
    scores: Any
    ptr: np.ndarray | None
    width: int
    queries: Labels
    items: Labels | None
    by_row: bool = False  # the codes are rows of an index, which `items` labels

    def __len__(self) -> int:
        return self.queries.size

    @property
    def longest(self) -> int:
        if self.ptr is None:
            return self.width
        return int(np.diff(self.ptr).max()) if len(self.ptr) > 1 else 0


def read_run(run: Any, queries: Any = None) -> Run:
    """Adopt a run; ``queries`` labels the rows of one that has none (id matrix, ``TopK``, CSR, list of lists)."""
    if isinstance(run, Run):
        return run
    if isinstance(run, TopK):
        return _from_topk(run, queries)
    if isinstance(run, (str, os.PathLike)):
        from fastrec.data.files import read_run as read_file

        run = read_file(run)
    if type(run).__module__.startswith("ranx"):
        run = run.to_dict()
    run = mapping_of(run, "run")
    if isinstance(run, Mapping):
        _no_labels(queries, "run")
        return _from_mapping(run)
    frame = columns_of(run, "run")
    if frame is not None:
        _no_labels(queries, "run")
        return _from_frame(frame)
    if are_mappings(run):
        numbered = _from_mapping(dict(enumerate(run)))
        return replace(numbered, queries=row_labels(queries, len(run), "run"))
    sparse = csr_of(run)
    if sparse is not None:
        ptr, indices, data = sparse
        return Run(indices, real_scores(data), ptr, 0, row_labels(queries, len(ptr) - 1, "run"), None)
    return _from_rows(run, queries)


def _no_labels(queries: Any, name: str) -> None:
    if queries is not None:
        raise TypeError(
            f"`queries` labels the rows of an id matrix, a TopK or a CSR; this `{name}` has its own"
        )


def row_labels(queries: Any, rows: int, name: str) -> Labels:
    if queries is None:
        return Labels.numbered(rows)
    codes, labels = ids.coded(queries, "queries")
    if len(codes) != rows:
        raise ValueError(f"`queries` must have one label per row of `{name}`, {rows}; got {len(codes)}")
    if labels.size != rows:
        raise ValueError("`queries` must be distinct; some label stands twice")
    order = labels.array()[codes]
    return Labels.of(order)


def _from_topk(run: TopK, queries: Any) -> Run:
    rows = arrays.adopt(run.rows, "run.rows")
    scores = arrays.adopt(run.scores, "run.scores")
    arrays.common_device(**{"run.rows": rows, "run.scores": scores})
    flat, items = matrix(rows, "run.rows"), None
    if run.labels is not None:
        values, labels = ids.column(run.labels, "run.labels")
        items = Labels.of(values.astype(np.int64)) if labels is None else Labels.of(labels.array()[values])
    if scores.shape != rows.shape:
        raise ValueError(f"`run.scores` must have the shape of `run.rows`, {rows.shape}; got {scores.shape}")
    return Run(
        flat,
        real_scores(scores.reshape(-1)),
        None,
        rows.shape[1],
        row_labels(queries, len(rows), "run"),
        items,
        by_row=items is not None,
    )


def matrix(array: Any, name: str) -> Any:
    if not ids.is_host(array):
        return _on_card(array, name).reshape(-1)
    whole = ids.integers(array, name)
    if whole is None:
        raise TypeError(f"`{name}` must hold integer ids; got dtype {array.dtype}")
    return whole.reshape(-1)


def _on_card(array: Any, name: str) -> Any:
    """Integer ids on a card as int32 or int64, without waiting for them."""
    if array.dtype.kind not in "iu" or array.dtype == np.uint64:
        raise TypeError(
            f"`{name}` must hold int32 or int64 ids on {arrays.device(array)}; got dtype {array.dtype}"
        )
    small = array.dtype.itemsize < 4 or array.dtype == np.int32
    return checks.contiguous(array, np.int32 if small else np.int64)


def real_scores(scores: Any) -> Any:
    cupy = arrays.cupy_if_loaded()
    if cupy is not None and isinstance(scores, cupy.ndarray):
        if scores.dtype.kind not in "fiub":
            raise TypeError(f"`score` must hold numbers; got dtype {scores.dtype}")
        return checks.contiguous(
            scores, np.float32 if scores.dtype in (np.float32, np.float16) else np.float64
        )
    array = np.asarray(scores)
    if array.dtype.kind not in "fiub":
        try:
            array = _floats(array)
        except (TypeError, ValueError) as error:
            raise TypeError(f"`score` must hold numbers; got dtype {array.dtype} ({error})") from None
    return np.ascontiguousarray(array, np.float32 if array.dtype in (np.float32, np.float16) else np.float64)


def csr_of(value: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """(indptr, indices, data) of a SciPy sparse matrix of any format, else ``None``."""
    if not type(value).__module__.startswith("scipy.sparse"):
        return None
    csr = value.tocsr()
    indices = csr.indices if csr.indices.dtype == np.int32 else csr.indices.astype(np.int64)
    return csr.indptr.astype(np.int64), np.ascontiguousarray(indices), csr.data


def mapping_of(value: Any, what: str) -> Any:
    """A pandas Series of lists or dicts, as grouping makes it, as a dict by its index; anything else as it is."""
    listed = (list, tuple, set, frozenset, np.ndarray, Mapping)
    if not (type(value).__module__.startswith("pandas") and type(value).__name__ == "Series" and len(value)):
        return value
    if not isinstance(value.iloc[0], listed):
        return value
    if not value.index.is_unique:
        raise ValueError(f"`{what}` has the query {value.index[value.index.duplicated()][0]!r} twice")
    return dict(zip(value.index, value))


def columns_of(value: Any, what: str) -> dict[str, Any] | None:
    """The columns (and named levels of the index) of a pandas, polars or Arrow frame by name, else ``None``."""
    module = type(value).__module__
    if module.startswith("pandas") and hasattr(value, "columns"):
        _distinct(list(map(str, value.columns)), what)
        levels = [name for name in value.index.names if name is not None and name not in value.columns]
        return {str(name): value.index.get_level_values(name).to_series() for name in levels} | {
            str(name): value[name] for name in value.columns
        }
    if module.startswith("polars") and hasattr(value, "collect"):
        value = value.collect()
    if module.startswith("polars") and hasattr(value, "columns"):
        return {name: value[name] for name in value.columns}
    if module.startswith("pyarrow") and hasattr(value, "column_names"):
        _distinct(value.column_names, what)
        return dict(zip(value.column_names, value.columns))
    if hasattr(value, "__arrow_c_stream__") and not hasattr(value, "__array__"):
        import pyarrow as pa

        return columns_of(pa.table(value), what)
    return None


def _distinct(names: Sequence[str], what: str) -> None:
    if len(set(names)) < len(names):
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        raise ValueError(f"`{what}` has the column {twice!r} twice; keep one of them")


def pick(frame: dict[str, Any], names: Sequence[str], what: str, *, required: bool = True) -> Any:
    """The column under one of ``names``, or an error that lists what there is."""
    found = columns.find(frame, names, f"`{what}`")
    if found is None and required:
        raise ValueError(
            f"`{what}` needs a column named {names[0]!r} (or {', '.join(names[1:])}); "
            f"it has {', '.join(frame) or 'none'}"
        )
    return None if found is None else frame[found]


def numbers(values: Any, name: str) -> np.ndarray:
    """A numeric column as a float array (float32 kept); missing values become NaN, which callers refuse by name."""
    if type(values).__module__.startswith("pyarrow"):
        values = values.to_numpy()
    elif hasattr(values, "to_numpy"):
        dtype = getattr(values, "dtype", None)
        nullable = not isinstance(dtype, np.dtype) and type(values).__module__.startswith("pandas")
        try:
            values = values.to_numpy(dtype=np.float64, na_value=np.nan) if nullable else values.to_numpy()
        except (TypeError, ValueError):
            raise TypeError(f"`{name}` must hold numbers; got dtype {dtype}") from None
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        try:
            array = _floats(array)
        except (TypeError, ValueError):
            raise TypeError(f"`{name}` must hold numbers; got dtype {array.dtype}") from None
    return array


def _floats(array: np.ndarray) -> np.ndarray:
    """Numbers among objects or text; dates and complex numbers, which NumPy would turn into some, are none."""
    if array.dtype.kind not in "OUST":
        raise TypeError("not numbers")
    return array.astype(np.float64)


def _from_frame(frame: dict[str, Any]) -> Run:
    query, item = pick(frame, columns.QUERY, "run"), pick(frame, columns.ITEM, "run")
    score = pick(frame, columns.SCORE, "run", required=False)
    rank = pick(frame, columns.RANK, "run", required=False) if score is None else None
    ptr, order, queries = ids.group(query, "run.query")
    flat, items = ids.column(item, "run.item")
    scores = None
    if score is not None:
        scores = real_scores(numbers(score, "run.score"))
    elif rank is not None:
        scores = -real_scores(numbers(rank, "run.rank")).astype(np.float64)
    if order is not None:
        flat = flat[order]
        scores = None if scores is None else scores[order]
    return Run(np.ascontiguousarray(flat), scores, ptr, 0, queries, items)


def _from_mapping(run: Mapping[Any, Any]) -> Run:
    _, labels = ids.coded(list(run), "run (its keys)")
    if labels.size != len(run):
        raise ValueError("`run` has two queries that are the same as text")
    lists = [listed(entry, "run") for entry in run.values()]
    ptr = np.concatenate(([0], np.cumsum([len(items) for items in lists], dtype=np.int64))).astype(np.int64)
    scored = [isinstance(items, Mapping) for items in lists]
    if any(scored) and not all(scored):
        raise TypeError("`run` must map every query to a dict of scores, or every query to a list of items")
    flat, items = ids.column(objects(chain.from_iterable(lists), int(ptr[-1])), "run (its items)")
    scores = None
    if scored and scored[0]:
        values = chain.from_iterable(entry.values() for entry in lists)
        scores = real_scores(objects(values, int(ptr[-1])))
    return Run(np.ascontiguousarray(flat), scores, ptr, 0, labels, items)


def listed(entry: Any, name: str) -> Any:
    """The items of one query of a dict: a dict, or anything with a length."""
    if isinstance(entry, (dict, list, tuple)):
        return entry
    if isinstance(entry, (str, bytes)):
        raise TypeError(f"`{name}` must map every query to a dict or a list of items; got the text {entry!r}")
    _refuse_unordered(entry, name)
    if hasattr(entry, "columns"):
        raise TypeError(f"`{name}` must map every query to a dict or a list of items; got a frame")
    if hasattr(entry, "to_dict") and getattr(entry.dtype, "kind", "") == "f":
        raise TypeError(
            f"`{name}` must map every query to a dict or a list of items; got a Series of floats. Its `.to_dict()` "
            "gives the number of each item"
        )
    if isinstance(entry, Mapping) or hasattr(entry, "__len__"):
        return entry
    try:
        return list(entry)
    except TypeError:
        raise TypeError(
            f"`{name}` must map every query to a dict or a list of items; got {type(entry).__name__}"
        ) from None


def _refuse_unordered(entry: Any, name: str) -> None:
    if name == "run" and isinstance(entry, (set, frozenset)):
        raise TypeError("`run` must list the items of a query best first; got a set, which has no order")


def are_mappings(rows: Any) -> bool:
    """A list with a dict of scores or gains for every query."""
    return isinstance(rows, (list, tuple)) and bool(rows) and all(isinstance(row, Mapping) for row in rows)


def objects(values: Any, size: int) -> np.ndarray:
    out = np.empty(size, object)
    out[:] = list(values)
    return out


def ragged(rows: Any, name: str) -> tuple[np.ndarray, np.ndarray, Labels | None]:
    """(ptr, flat ids, labels) of a sequence of id arrays."""
    for row in rows:
        _refuse_unordered(row, name)
        if isinstance(row, Mapping):
            raise TypeError(f"`{name}` must hold a dict for every query, or a list for every query; got both")
    lists = [row if isinstance(row, (np.ndarray, list, tuple)) else list(row) for row in rows]
    ptr = np.concatenate(([0], np.cumsum([len(row) for row in lists], dtype=np.int64))).astype(np.int64)
    if all(isinstance(row, np.ndarray) and row.dtype.kind in "iu" for row in lists) and lists:
        flat, labels = ids.column(np.concatenate(lists), name)
    else:
        flat, labels = ids.column(objects(chain.from_iterable(lists), int(ptr[-1])), name)
    if labels is None:
        ptr, flat = _without_padding(ptr, flat, name)
    return ptr, np.ascontiguousarray(flat), labels


def _without_padding(ptr: np.ndarray, flat: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Lists of integers without the -1 that may end them."""
    real = flat != -1
    if real.all():
        return ptr, flat
    starts = np.zeros(len(flat) + 1, bool)
    starts[ptr] = True
    holes = np.flatnonzero(real[1:] & ~real[:-1] & ~starts[1:-1])
    if len(holes):
        row = int(np.searchsorted(ptr, holes[0], side="right")) - 1
        raise ValueError(f"`{name}` has -1 before an item in row {row}; padding may only end a row")
    return np.concatenate(([0], np.cumsum(real)))[ptr].astype(np.int64), flat[real]


def _from_rows(run: Any, queries: Any) -> Run:
    if isinstance(run, (list, tuple)) and not _is_rectangle(run):
        try:
            ptr, flat, items = ragged(run, "run")
        except TypeError as error:
            if str(error).startswith("`run"):
                raise
            raise TypeError(
                f"`run` must be a TopK, an id matrix, a frame, a CSR, a dict, lists or a path ({error})"
            ) from None
        return Run(flat, None, ptr, 0, row_labels(queries, len(ptr) - 1, "run"), items)
    try:
        array = arrays.adopt(run, "run")
    except TypeError as error:
        if isinstance(run, np.ndarray) or hasattr(run, "__array__") or hasattr(run, "__dlpack__"):
            raise
        raise TypeError(
            f"`run` must be a TopK, an id matrix, a frame, a CSR, a dict, lists or a path; got {type(run).__name__}"
        ) from error
    if array.ndim != 2:
        raise ValueError(f"`run` must be an id matrix of shape (queries, k); got shape {array.shape}")
    labels = row_labels(queries, len(array), "run")
    if array.dtype.kind in "OUS":
        flat, ptr, items = text_matrix(array, "run")
        return Run(flat, None, ptr, 0, labels, items)
    if array.dtype.kind == "f":
        raise TypeError(
            "`run` must hold item ids; got a matrix of floats. Turn scores into a run with "
            "`fr.select_topk(scores, k)`, or ids into integers"
        )
    return Run(matrix(array, "run"), None, None, array.shape[1], labels, None)


def _is_rectangle(rows: Sequence[Any]) -> bool:
    try:
        lengths = {len(row) for row in rows if not isinstance(row, (str, bytes))}
    except TypeError:
        raise TypeError("`run` must hold one list of items per query") from None
    if any(isinstance(row, (str, bytes)) for row in rows):
        raise TypeError("`run` must hold one list of items per query; got a list of text")
    if any(isinstance(row, (np.ndarray, set, frozenset)) for row in rows):
        return False
    plain = all(isinstance(item, (int, np.integer)) for row in rows for item in row)
    return len(lengths) == 1 and lengths != {0} and plain


def text_matrix(array: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray, Labels | None]:
    """Rows of text ids that ``None`` or -1 may end."""
    objects_ = array.astype(object)
    real = np.frompyfunc(
        lambda x: not (x is None or x is np.nan or (isinstance(x, (int, np.integer)) and x == -1)), 1, 1
    )
    kept = real(objects_).astype(bool) if objects_.size else np.zeros(objects_.shape, bool)
    if (kept[:, 1:] & ~kept[:, :-1]).any():
        row = int(np.flatnonzero((kept[:, 1:] & ~kept[:, :-1]).any(axis=1))[0])
        raise ValueError(f"`{name}` has padding before an item in row {row}; padding may only end a row")
    ptr = np.concatenate(([0], np.cumsum(kept.sum(axis=1)))).astype(np.int64)
    flat, labels = ids.column(objects_[kept], name)
    return np.ascontiguousarray(flat), ptr, labels
