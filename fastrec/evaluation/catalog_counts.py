"""The operation behind coverage and concentration: how many lists name each item."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from fastrec._core import checks
from fastrec._core import threads as _threads
from fastrec._core.op import operation
from fastrec._kernels import catalog as _kernel


@dataclass(frozen=True, slots=True)
class ListCounts:
    """``items``: (n_items,) int64, how many lists name each item.  ``lengths``: (Q,) int32, items of each list.
    ``duplicate``: the first list that names an item twice, -1 if none does."""

    items: Any
    lengths: Any
    duplicate: int


@operation(arrays=("ids",))
def catalog_counts(ids: Any, n_items: int, k: int, *, threads: int | None = None) -> dict[str, Any]:
    """How often each item is among the first ``k`` ids of a list; see :class:`ListCounts`.

    Parameters
    ----------
    ids : (Q, width) int32 or int64, contiguous
        Items ``0..n_items-1``; -1 is no item.  Anything else is a ``ValueError`` that names the list.
    n_items, k : int
    threads : int or None

    Returns
    -------
    ListCounts

    Notes
    -----
    O(Q k) time; scratch 12 bytes an item and thread, 4 bytes a list.
    """
    ids = checks.native(ids)
    return {"ids": ids, "n_items": n_items, "k": min(k, ids.shape[1]), "threads": _threads.resolve(threads)}


def _bad_list(row: int, ids: Any, n_items: int) -> ValueError:
    wrong = next(int(i) for i in ids if not -1 <= i < n_items)
    return ValueError(f"`top` must hold items 0..{n_items - 1} (or -1 for none); list {row} holds {wrong}")


@catalog_counts.reference
def _(xp: ModuleType, ids: Any, n_items: int, k: int, threads: int) -> ListCounts:
    ids = ids[:, :k]
    bad = ((ids < -1) | (ids >= n_items)).any(axis=1)
    if bad.any():
        row = int(bad.argmax())
        raise _bad_list(row, ids[row].tolist(), n_items)
    ordered = xp.sort(ids, axis=1)
    twice = ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any(axis=1)
    return ListCounts(
        items=xp.bincount(ids[ids >= 0], minlength=n_items).astype(np.int64),
        lengths=(ids >= 0).sum(axis=1).astype(np.int32),
        duplicate=int(twice.argmax()) if twice.any() else -1,
    )


@catalog_counts.cpu
def _(ids: np.ndarray, n_items: int, k: int, threads: int) -> ListCounts:
    lists, width = ids.shape
    lengths = np.zeros(lists, np.int32)
    if not ids.size or not k:
        return ListCounts(np.zeros(n_items, np.int64), lengths, -1)
    if not n_items:
        raise _bad_list(0, [0], 0)
    threads = min(threads, _kernel.tasks(lists))
    counts = np.zeros((threads, n_items), np.int64)
    reports = np.empty((_kernel.tasks(lists), 3), np.int64)
    stamps = np.zeros((threads, n_items), np.uint32)
    _kernel.count(
        ids.view(np.uint8).reshape(-1),
        ids.dtype == np.int64,
        width,
        k,
        stamps,
        counts,
        lengths,
        reports,
        threads,
    )
    bad, duplicate, _ = reports.T
    if (bad >= 0).any():
        row = int(bad[bad >= 0][0])
        raise _bad_list(row, ids[row, :k], n_items)
    twice = duplicate[duplicate >= 0]
    return ListCounts(counts.sum(axis=0), lengths, int(twice[0]) if len(twice) else -1)


@catalog_counts.cases
def _(rng: Any) -> Iterator[dict[str, Any]]:
    for dtype in (np.int32, np.int64):
        for lists, width, n_items in ((0, 3, 5), (1, 1, 1), (7, 10, 40), (3000, 20, 1000), (5, 0, 3)):
            ids = np.argsort(rng.random((lists, n_items)), axis=1)[:, :width].astype(dtype)
            yield {"ids": np.ascontiguousarray(ids), "n_items": n_items, "k": width}
            ids[rng.random(ids.shape) < 0.2] = -1
            yield {"ids": np.ascontiguousarray(ids), "n_items": n_items, "k": width // 2}
    yield {"ids": np.array([[0, 1, 2], [3, 1, 3], [-1, -1, -1]]), "n_items": 4, "k": 3}
