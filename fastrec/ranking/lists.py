"""Per-query lists of item rows (``exclude``, ``candidates``): whatever form they come in, sorted CSR goes out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fastrec._core import arrays, checks
from fastrec._kernels import ranking as _kernels

_FORMS = "a SciPy sparse matrix of shape ({q}, {n}) or an (indptr, indices) pair"

_REMEDY = (
    ". A list for each query becomes a pair with `(np.cumsum([0, *map(len, lists)]), np.concatenate(lists))`"
)


def csr(value: Any, name: str, *, queries: int, items: int) -> tuple[np.ndarray, np.ndarray]:
    """``(indptr, indices)``, int64 and int32 or int64, each row's indices sorted and without duplicates.

    Takes a SciPy sparse matrix or array of shape (queries, items), whose *stored* entries count whatever their value,
    or an ``(indptr, indices)`` pair.  Unsorted and repeated indices are sorted and merged for the user (into a copy);
    indices out of range and malformed pointers are a ``ValueError``.
    """
    if hasattr(value, "tocsr"):
        if tuple(value.shape) != (queries, items):
            raise ValueError(
                f"`{name}` must have shape ({queries}, {items}), a row per query and a column per item; "
                f"got {tuple(value.shape)}"
            )
        matrix = value.tocsr()
        indptr, indices = matrix.indptr, matrix.indices[: matrix.nnz]  # SciPy allows spare room at the end
    else:
        if not isinstance(value, tuple) or len(value) != 2:
            # a list of two lists could as well be the lists of two queries
            remedy = _REMEDY if isinstance(value, list) else ""
            raise TypeError(
                f"`{name}` must be {_FORMS.format(q=queries, n=items)}; got {type(value).__name__}{remedy}"
            )
        indptr = _integers(value[0], f"{name}[0]")
        indices = _integers(value[1], f"{name}[1]")
    indptr = np.ascontiguousarray(indptr, np.int64)
    if indptr.shape != (queries + 1,):
        raise ValueError(
            f"`{name}` must have {queries + 1} row pointers, one more than there are queries; got shape {indptr.shape}"
        )
    if indices.dtype not in (np.int32, np.int64) or not indices.flags.c_contiguous:
        indices = np.ascontiguousarray(indices, np.int64)
    if not indices.dtype.isnative:
        indices = indices.astype(indices.dtype.newbyteorder("="))
    wrong = _kernels.judge_lists(indptr, indices, items)
    if wrong == 1:
        raise ValueError(
            f"`{name}` has malformed row pointers: they must rise from 0 to the number of indices ({len(indices)})"
        )
    if wrong == 2:
        low, high = int(indices.min()), int(indices.max())
        raise ValueError(f"`{name}` must hold item rows in 0..{items - 1}; got {low if low < 0 else high}")
    return _sorted(indptr, indices) if wrong == 3 else (indptr, indices)


def _integers(value: Any, name: str) -> np.ndarray:
    array = arrays.adopt(value, name)
    if array.ndim != 1:
        raise ValueError(f"`{name}` must be one-dimensional; got shape {array.shape}")
    if array.size == 0:
        return np.empty(0, np.int64)
    if array.dtype.kind not in "iu":
        raise TypeError(f"`{name}` must hold integers; got dtype {array.dtype}")
    return array


def _sorted(indptr: np.ndarray, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    query = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    order = np.lexsort((indices, query))
    query, indices = query[order], indices[order]
    first = np.ones(len(indices), bool)
    first[1:] = (query[1:] != query[:-1]) | (indices[1:] != indices[:-1])
    counts = np.bincount(query[first], minlength=len(indptr) - 1)
    return np.concatenate(([0], np.cumsum(counts))).astype(np.int64), np.ascontiguousarray(indices[first])


def shared(value: Any, name: str, *, items: int) -> np.ndarray:
    """One list of item rows for all queries: sorted, unique int64."""
    if isinstance(value, list) and any(hasattr(entry, "__len__") for entry in value):
        raise TypeError(
            f"`{name}` must be one list of item rows, or a pair of CSR; got lists in a list{_REMEDY}"
        )
    rows = checks.indices(value, name, below=items, what="items")
    return rows if (rows[1:] > rows[:-1]).all() else np.unique(rows)


def repeated(rows: np.ndarray, queries: int) -> tuple[np.ndarray, np.ndarray]:
    """The same list for every query, as CSR."""
    return np.arange(queries + 1, dtype=np.int64) * len(rows), np.tile(
        rows, queries
    ) if queries != 1 else rows


def of_query(lists: tuple[np.ndarray, np.ndarray], query: int) -> tuple[np.ndarray, np.ndarray]:
    """The CSR of one query alone."""
    indptr, indices = lists
    begin, end = indptr[query : query + 2]
    return np.array([0, end - begin], np.int64), indices[begin:end]


def restricted(lists: tuple[np.ndarray, np.ndarray], rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keep the entries that are in ``rows`` (sorted, unique), renumbered by their place there."""
    indptr, indices = lists
    place = np.searchsorted(rows, indices)
    found = place < len(rows)
    found[found] = rows[place[found]] == indices[found]
    kept = np.concatenate(([0], np.cumsum(found)))
    return kept[indptr].astype(np.int64), np.ascontiguousarray(place[found], np.int64)


def complements(
    lists: tuple[np.ndarray, np.ndarray], items: int, entries: int
) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
    """``(first query, end, indptr, indices)`` of what the lists leave out, about ``entries`` of them at a time."""
    indptr, indices = lists
    left = items - np.diff(indptr)
    begin = 0
    while begin < len(left):
        end = begin + max(1, int(np.searchsorted(np.cumsum(left[begin:]), entries, side="right")))
        out = np.concatenate(([0], np.cumsum(left[begin:end])))
        rows = np.empty(out[-1], np.int64)
        for query in range(begin, end):
            allowed = np.ones(items, bool)
            allowed[indices[indptr[query] : indptr[query + 1]]] = False
            rows[out[query - begin] : out[query - begin + 1]] = np.flatnonzero(allowed)
        yield begin, end, out, rows
        begin = end
