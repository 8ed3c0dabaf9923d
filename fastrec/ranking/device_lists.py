"""Per-query lists of item rows for work on a card: the same forms as `fastrec.ranking.lists`, there as CuPy arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastrec._core import arrays, checks, cuda
from fastrec.ranking import lists


def csr(
    xp: Any, value: Any, name: str, *, queries: int, items: int, device: str
) -> tuple[tuple[Any, Any], Callable[..., tuple[Any, Any, int]]]:
    """``(indptr, indices)`` on the card, safe to search, and a function that says what they should have been.

    A SciPy matrix, which has no device, is checked on the host and copied.  A matrix of cupyx, or a pair of CuPy
    arrays, is checked where it is, by a kernel: its verdict is fetched when the function is called, so that a search
    may be launched before.  The function waits for that kernel, raises where lists are wrong, and returns ``(indptr,
    indices, length of the longest list)``: other arrays where lists were not sorted or repeated an index, which are put
    in order on the host.  Until then row pointers are within bounds, whatever was given, and nothing else is certain.

    While a graph is captured nobody can wait.  There the function takes the answer, ``(rows, scores)``, and launches a
    kernel that fills it with -1 and NaN where lists are wrong or not in order.
    """
    matrix = hasattr(value, "tocsr")
    if matrix and isinstance(value.tocsr().indptr, np.ndarray):
        return _copied(xp, *lists.csr(value, name, queries=queries, items=items))
    if matrix:
        if tuple(value.shape) != (queries, items):
            raise ValueError(f"`{name}` must have shape ({queries}, {items}); got {tuple(value.shape)}")
        found = value.tocsr()
        pair = (found.indptr, found.indices)
    elif isinstance(value, (tuple, list)) and len(value) == 2:
        pair = (value[0], value[1])
    else:
        return _copied(xp, *lists.csr(value, name, queries=queries, items=items))  # says what is wrong
    indptr, indices = (arrays.adopt(part, f"{name}[{i}]") for i, part in enumerate(pair))
    for i, part in enumerate((indptr, indices)):
        if arrays.device(part) != device:
            raise TypeError(
                f"`{name}[{i}]` must be on {device} like the queries; got {arrays.device(part)}. Pass CuPy arrays, "
                "or a SciPy matrix, which is copied"
            )
        if part.ndim != 1:
            raise ValueError(f"`{name}[{i}]` must be one-dimensional; got shape {part.shape}")
        if part.dtype.kind not in "iu" and part.size:
            raise TypeError(f"`{name}[{i}]` must hold integers; got dtype {part.dtype}")
    indptr = checks.contiguous(indptr, np.int64)
    indices = checks.contiguous(indices, indices.dtype if indices.dtype in (np.int32, np.int64) else np.int64)
    if indptr.shape != (queries + 1,):
        raise ValueError(
            f"`{name}` must have {queries + 1} row pointers, one more than there are queries; got shape {indptr.shape}"
        )
    if queries == 0:
        if len(indices):
            raise ValueError(_malformed(name, 0))
        return (indptr, indices), lambda *answer: (indptr, indices, 0)
    found, bounded = xp.zeros(5, np.int64), xp.empty(queries + 1, np.int64)
    wide = int(indices.dtype == np.int64)
    cuda.kernel("check_lists.cu", "fr_check_lists", FR_WIDE=wide)(
        cuda.blocks(queries, 8, 1024),
        256,
        indptr,
        cuda.i64(queries),
        indices,
        cuda.i64(len(indices)),
        bounded,
        found,
    )
    capturing = xp.cuda.get_current_stream().is_capturing()
    verdict = None if capturing else cuda.fetched(xp, found)

    def settle(*answer: Any) -> tuple[Any, Any, int]:
        if verdict is None:
            if not answer:
                raise RuntimeError(
                    f"`{name}` cannot be judged while a CUDA graph is captured, since the host would have to wait for "
                    "the card. Capture searches without `candidates`, or search before"
                )
            rows, scores = answer
            cuda.kernel("check_lists.cu", "fr_refuse_answers", FR_WIDE=wide)(
                cuda.blocks(rows.size, 256), 256, found, cuda.i64(items), rows, scores, cuda.i64(rows.size)
            )
            return bounded, indices, 0
        longest, malformed, above, below, unsorted = verdict().tolist()
        if malformed:
            raise ValueError(_malformed(name, len(indices)))
        if below > 0 or above > items:
            raise ValueError(
                f"`{name}` must hold item rows in 0..{items - 1}; got {-below if below > 0 else above - 1}"
            )
        if unsorted:
            right = lists.csr((indptr.get(), indices.get()), name, queries=queries, items=items)
            return _copied(xp, *right)[1]()
        return bounded, indices, longest

    return (bounded, indices), settle


def _malformed(name: str, count: int) -> str:
    return f"`{name}` has malformed row pointers: they must rise from 0 to the number of indices ({count})"


def shared(xp: Any, value: Any, name: str, *, items: int, device: str) -> Any:
    """One list of item rows for all queries, int64, sorted, each once."""
    array = arrays.adopt(value, name)
    if arrays.device(array) != device:
        raise TypeError(
            f"`{name}` must be on {device} like the queries; got {arrays.device(array)}. Pass a CuPy array"
        )
    rows = checks.indices(array, name, below=items, what="items")
    return rows if bool((rows[1:] > rows[:-1]).all()) else xp.unique(rows)


def _copied(
    xp: Any, indptr: np.ndarray, indices: np.ndarray
) -> tuple[tuple[Any, Any], Callable[..., tuple[Any, Any, int]]]:
    longest = int(np.diff(indptr).max(initial=0))
    pair = xp.asarray(indptr), xp.asarray(indices)
    return pair, lambda *answer: (*pair, longest)
