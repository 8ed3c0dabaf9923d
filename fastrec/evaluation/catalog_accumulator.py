"""``CatalogAccumulator``: evaluate lists batch by batch, and join what several processes have read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from fastrec._core import arrays, cuda
from fastrec.evaluation import catalog_input as reading
from fastrec.evaluation.catalog import CatalogEvaluation, evaluate_lists
from fastrec.evaluation.catalog_counts import catalog_counts
from fastrec.evaluation.catalog_input import Lists, Request


class CatalogAccumulator:
    """Read lists in batches; ``result()`` equals one call of :func:`fastrec.evaluate_catalog` on all, bit for bit.

    Parameters
    ----------
    n_items, metrics, and what is known about items (popularity, n_users, vectors, categories, item_groups, target,
    items), tail, alpha, duplicates, undefined, threads : as :func:`fastrec.evaluate_catalog` takes them.

    What is known about the users comes with their lists.  The lists are kept, since personalisation, the values of each
    list and a result to the bit need them: 4 bytes an id (8 in a catalogue of 2^31 items and more), history and truth
    as sparse as they came.  Each batch is checked when it comes; batches may be of different widths.  Can be pickled,
    to be merged in another process; ``len()`` is the number of lists.  Lists on a card are kept and read there, all of
    them on one.

    Examples
    --------
    >>> import fastrec as fr
    >>> total, other = (fr.evaluation.CatalogAccumulator(n_items=8, metrics=["coverage"]) for _ in range(2))
    >>> for lists in [[[0, 1], [0, 2]], [[1, 3], [0, 1]]]:  # of index.topk(users, k), batch by batch
    ...     total = total.update(lists)
    >>> other = other.update([[0, 4]])  # in another process
    >>> total.merge(other).result()["coverage"]
    0.625
    """

    def __init__(
        self,
        n_items: int | None = None,
        metrics: str | Sequence[str] = reading.DEFAULT_METRICS,
        **known: Any,
    ) -> None:
        self._request = reading.read_request(metrics, n_items, **known)
        self.metrics = list(self._request.wanted)
        self._parts: list[Lists] = []

    def update(
        self, top: Any, *, history: Any = None, truth: Any = None, baseline: Any = None
    ) -> CatalogAccumulator:
        """Read one batch of lists, which may be empty, and return this accumulator."""
        with arrays.stream_of(top):
            self._append(self._read(top, history, truth, baseline))
        return self

    def _read(self, top: Any, history: Any, truth: Any, baseline: Any) -> Lists:
        asked = self._request
        ids, names, _ = reading.list_ids(top, asked.items)
        with arrays.current(ids):
            checked = catalog_counts(ids, asked.n_items, ids.shape[1], threads=asked.threads)
            if checked.duplicate >= 0 and asked.duplicates == "error":
                raise reading.listed_twice(checked.duplicate)
            ids = ids.astype(np.int32 if asked.n_items < 2**31 else np.int64)  # a copy in any case
            lists = reading.read_lists(ids, names, history, truth, baseline, asked.n_items)
            if lists.baseline is not None:
                lists = replace(lists, baseline=lists.baseline.copy())
            if not self._parts:  # what a metric lacks is said now, not after the last batch
                evaluate_lists(lists, replace(asked, undefined="nan"))
            _settled(ids)
        return lists

    def merge(self, other: CatalogAccumulator) -> CatalogAccumulator:
        """Append what another accumulator holds (it stays as it is), and return this one."""
        if not isinstance(other, CatalogAccumulator):
            raise TypeError(f"`other` must be a CatalogAccumulator; got {type(other).__name__}")
        for field in fields(Request):
            if field.name != "threads" and not _same(
                *(getattr(x._request, field.name) for x in (self, other))
            ):
                raise ValueError(f"`other` must have the same arguments; its `{field.name}` differs")
        for part in list(other._parts):
            self._append(part)
        return self

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def result(self) -> CatalogEvaluation:
        """The evaluation of all lists, in the order they came."""
        if not self._parts:
            raise ValueError("no lists have come; call update() with some before result()")
        with arrays.current(self._parts[0].ids):
            if len(self._parts) > 1:
                self._parts = [_joined(self._parts)]
            return evaluate_lists(self._parts[0], self._request)

    def _append(self, part: Lists) -> None:
        if self._parts:
            arrays.common_device(**{"the batches before": self._parts[0].ids, "this batch": part.ids})
            for name in ("history", "truth", "baseline", "names"):
                if (getattr(part, name) is None) != (getattr(self._parts[0], name) is None):
                    raise ValueError(f"some batches have `{name}` and some have none")
        self._parts.append(part)


def _same(one: Any, two: Any) -> bool:
    """Equality of arguments: numbers, dicts, arrays, sparse matrices, labels and tuples of them."""
    if isinstance(one, tuple) and isinstance(two, tuple):
        return len(one) == len(two) and all(map(_same, one, two))
    if hasattr(one, "nnz") and hasattr(two, "nnz"):
        return one.shape == two.shape and (one != two).nnz == 0
    if hasattr(one, "shape") and hasattr(two, "shape"):
        return np.array_equal(one, two)
    return type(one) is type(two) and bool(one == two)


def _joined(parts: list[Lists]) -> Lists:
    import scipy.sparse as sp

    first = parts[0]
    history, truth = (
        None
        if getattr(first, name) is None
        else sp.csr_array(sp.vstack([getattr(part, name) for part in parts], format="csr"))
        for name in ("history", "truth")
    )
    baseline = None if first.baseline is None else _stacked([part.baseline for part in parts])
    names = None if first.names is None else np.concatenate([np.asarray(part.names) for part in parts])
    return Lists(_settled(_stacked([part.ids for part in parts])), history, truth, baseline, names)


def _stacked(matrices: list[Any]) -> Any:
    """Matrices of item rows, one below the other, as wide as the widest."""
    xp = arrays.namespace(matrices[0])
    shape = sum(map(len, matrices)), max(matrix.shape[1] for matrix in matrices)
    out, at = xp.full(shape, -1, np.result_type(*(matrix.dtype for matrix in matrices))), 0
    for matrix in matrices:
        out[at : at + len(matrix), : matrix.shape[1]] = matrix
        at += len(matrix)
    return out


def _settled(ids: Any) -> Any:
    """``ids``, which the next call may read, and whoever made them forget what they were made of, on any stream."""
    if arrays.device(ids) != arrays.CPU:
        cuda.settle()
    return ids
