"""What ``evaluate_catalog`` is given, checked and brought into one form."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastrec._core import arrays, checks, columns
from fastrec._core import threads as _threads
from fastrec.evaluation.catalog_metrics import METRICS
from fastrec.evaluation.metrics import function_of, name_list
from fastrec.evaluation.runs import Run, are_mappings, columns_of, csr_of, mapping_of, read_run
from fastrec.ranking.result import TopK

DEFAULT_METRICS = ("coverage", "gini", "entropy", "personalization")


@dataclass(frozen=True)
class Request:
    """What is asked, and what is known about the items: all but the lists."""

    wanted: dict[str, tuple[str, int | None]]
    n_items: int
    popularity: np.ndarray | None
    n_users: int | None
    vectors: np.ndarray | None
    categories: Any
    groups: tuple[np.ndarray, Any] | None
    target: np.ndarray | None
    items: Any
    options: dict[str, float]
    duplicates: str
    undefined: str
    threads: int


@dataclass(frozen=True)
class Lists:
    """Some lists, as item rows that -1 pads, and what is known about their users."""

    ids: np.ndarray
    history: Any
    truth: Any
    baseline: np.ndarray | None
    names: np.ndarray | None = None  # of the lists, where they have any

    def __len__(self) -> int:
        return len(self.ids)


def read_request(
    metrics: str | Sequence[str] = DEFAULT_METRICS,
    n_items: int | None = None,
    popularity: Any = None,
    n_users: int | None = None,
    vectors: Any = None,
    categories: Any = None,
    item_groups: Any = None,
    target: Any = None,
    items: Any = None,
    tail: float = 0.2,
    alpha: float = 0.01,
    duplicates: str = "error",
    undefined: str = "warn",
    threads: int | None = None,
    known: int | None = None,
) -> Request:
    """The request of :func:`fastrec.evaluate_catalog`; ``known`` is the size of the catalogue where the lists tell."""
    wanted = parse(metrics)
    checks.choice(duplicates, "duplicates", ("error", "count"))
    checks.choice(undefined, "undefined", ("warn", "nan", "error"))
    n_items = catalog_size(n_items, known, items=items, popularity=popularity, vectors=vectors, categories=categories,
                           item_groups=item_groups)  # fmt: skip
    groups = None if item_groups is None else item_labels(item_groups, "item_groups", n_items)
    return Request(
        wanted,
        n_items,
        item_popularity(popularity, n_items),
        None if n_users is None else checks.integer(n_users, "n_users", low=1),
        unit_vectors(vectors, n_items),
        item_categories(categories, n_items),
        groups,
        group_shares(target, groups),
        None if items is None else item_index(items),
        {
            "tail": checks.number(tail, "tail", low=0.0, high=1.0),
            "alpha": checks.number(alpha, "alpha", low=0.0, high=1.0),
        },
        duplicates,
        undefined,
        _threads.resolve(threads),
    )


def read_lists(
    ids: np.ndarray, names: np.ndarray | None, history: Any, truth: Any, baseline: Any, n_items: int
) -> Lists:
    """Lists with what is known about their users, which must be of their number."""
    shape = len(ids), n_items
    return Lists(
        ids,
        sparse(history, "history", shape),
        sparse(truth, "truth", shape),
        baseline_lists(baseline, len(ids)),
        names,
    )


def list_ids(top: Any, items: Any) -> tuple[Any, np.ndarray | None, int | None]:
    """(Q, k) item rows on the device of ``top``, the names of the lists if any, and the number of items where the input
    tells it.
    """
    known = None
    if isinstance(top, TopK):
        known = None if top.labels is None else len(top.labels)
        top = top.rows
        items = None
    if _is_named(top):
        run = read_run(top)
        names = None if run.queries.values is None else run.queries.array()
        return _rows_of_run(run, items), names, None if items is None else len(items)
    if isinstance(top, (list, tuple)):
        top = _padded(top, -1 if items is None else None)
    if items is not None:
        if arrays.on_card(top):
            raise TypeError(
                "`top` must hold item rows on a card; ids of `items` are looked up on the host: `.get()`"
            )
        return _rows_of(top, items), None, len(items)
    ids = arrays.adopt(top, "top")
    if ids.dtype.kind not in "iu":
        raise TypeError(
            f"`top` must hold integer item rows; got dtype {ids.dtype}. Give the items' ids as `items=` to look them up"
        )
    if ids.ndim != 2:
        raise ValueError(f"`top` must have shape (lists, k); got {ids.shape}")
    return checks.contiguous(ids, np.int32 if ids.dtype == np.int32 else np.int64), None, known


def _is_named(top: Any) -> bool:
    """Whether it is a run that names its lists or scores its items, and no matrix or list of lists."""
    if isinstance(top, np.ndarray) or arrays.on_card(top):
        return False
    if (
        isinstance(mapping_of(top, "top"), Mapping)
        or are_mappings(top)
        or isinstance(top, (str, os.PathLike))
    ):
        return True
    frame = columns_of(top, "top")
    if frame is None:
        return csr_of(top) is not None
    return all(columns.find(frame, names, "`top`") is not None for names in (columns.QUERY, columns.ITEM))


def _rows_of_run(run: Run, items: Any) -> np.ndarray:
    """(Q, k) item rows of lists that stand one behind the other, best first."""
    assert run.ptr is not None  # for the type checker: only matrices have none
    lengths = np.diff(run.ptr)
    of_list = np.repeat(np.arange(len(lengths)), lengths)
    flat = run.ids
    if run.scores is not None:
        if np.isnan(run.scores).any():
            raise ValueError("`top` has a score that is NaN; drop that item or give it a score")
        flat = flat[np.lexsort((-run.scores, of_list))]  # stable: ties as they came
    if items is None and run.items is not None:
        raise TypeError(
            f"`top` must hold integer item rows; got {run.items[0]!r}. Give the items' ids as `items=` to look them up"
        )
    if items is not None:
        labels = flat if run.items is None else run.items.array()[flat]
        flat = _rows_of(labels[None], items).ravel()
    out = np.full((len(lengths), run.longest), -1, np.int64)
    out[of_list, np.arange(len(flat)) - run.ptr[of_list]] = flat
    return out


def _padded(lists: Any, padding: Any) -> Any:
    """Lists of several lengths as rows of one; what is not that as it is."""
    if not all(isinstance(row, (list, tuple, np.ndarray)) for row in lists):
        return lists
    width = max(map(len, lists), default=0)
    if not width:
        return np.empty((len(lists), 0), np.int64)  # NumPy would take nothing for floats
    if all(len(row) == width for row in lists):
        return lists
    return [[*row, *([padding] * (width - len(row)))] for row in lists]


def listed_twice(row: int) -> ValueError:
    return ValueError(
        f"`top` must not list an item twice; list {row} does. Pass duplicates='count' to count it twice"
    )


def item_index(items: Any) -> Any:
    import pandas as pd

    index = pd.Index(items)
    if not index.is_unique:
        raise ValueError("`items` must name every item once; some repeat")
    return index


def _rows_of(top: Any, items: Any) -> np.ndarray:
    import pandas as pd

    index = item_index(items)
    wanted = np.asarray(top, dtype=object)
    if wanted.ndim != 2:
        raise ValueError(f"`top` must have shape (lists, k); got {wanted.shape}")
    flat = pd.Series(wanted.ravel(), dtype=object)
    empty = (flat.isna() | (flat == -1)).to_numpy(bool) & ~flat.isin(index).to_numpy(bool)
    rows = index.get_indexer(pd.Index(flat.to_numpy()))
    unknown = np.flatnonzero((rows < 0) & ~empty)
    if len(unknown):
        raise ValueError(f"`top` holds {flat.iloc[unknown[0]]!r}, which is not in `items`")
    return np.ascontiguousarray(rows.reshape(wanted.shape), np.int64)


def sparse(value: Any, name: str, shape: tuple[int, int]) -> Any:
    if value is None:
        return None
    import scipy.sparse as sp

    if not sp.issparse(value):
        raise TypeError(
            f"`{name}` must be a SciPy sparse matrix of shape {shape} (lists x items); got {type(value).__name__}"
        )
    if value.shape != shape:
        raise ValueError(f"`{name}` must have shape {shape} (lists x items); got {value.shape}")
    matrix = sp.csr_array(value, copy=True)
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return matrix


def baseline_lists(value: Any, lists: int) -> np.ndarray | None:
    if value is None:
        return None
    baseline = np.asarray(arrays.adopt(value, "baseline"))
    baseline = np.broadcast_to(baseline, (lists, len(baseline))) if baseline.ndim == 1 else baseline
    if baseline.ndim != 2 or len(baseline) != lists or baseline.dtype.kind not in "iu":
        raise ValueError(
            f"`baseline` must hold item rows, ({lists}, k) or (k,); got {baseline.shape} {baseline.dtype}"
        )
    return baseline


def item_popularity(value: Any, n_items: int) -> np.ndarray | None:
    if value is None:
        return None
    popularity = checks.vector(value, "popularity", dtype=np.float64, size=n_items, like="one number an item")
    if not ((popularity >= 0) & (popularity <= 1e300)).all():  # above, their sum would be infinite
        raise ValueError("`popularity` must be finite and not negative: how many users each item has")
    return popularity


def unit_vectors(value: Any, n_items: int) -> np.ndarray | None:
    if value is None:
        return None
    vectors = checks.matrix(value, "vectors", dtype=np.float64)
    if len(vectors) != n_items:
        raise ValueError(f"`vectors` must have one row an item, ({n_items}, d); got {vectors.shape}")
    if not np.isfinite(vectors).all():
        raise ValueError("`vectors` must be finite")
    largest = np.abs(vectors).max(axis=1, initial=0.0, keepdims=True)
    scaled = np.divide(
        vectors, largest, out=np.zeros_like(vectors), where=largest > 0
    )  # no square may overflow
    norms = np.sqrt((scaled * scaled).sum(axis=1, keepdims=True))
    return np.divide(scaled, norms, out=scaled, where=norms > 0)


def item_categories(value: Any, n_items: int) -> Any:
    """Sparse (n_items, C) of 0 and 1, from one label an item or from such a matrix."""
    if value is None:
        return None
    import scipy.sparse as sp

    if isinstance(value, (list, tuple)) and any(isinstance(one, (list, tuple, set)) for one in value):
        value = _matrix_of_labels(value)
    if not sp.issparse(value) and np.ndim(value) != 2:
        codes, labels = item_labels(value, "categories", n_items)
        return sp.csr_array(
            (np.ones(n_items), (np.arange(n_items), codes)), shape=(n_items, max(len(labels), 1))
        )
    matrix = sp.csr_array(value, dtype=np.float64, copy=True)
    if matrix.shape[0] != n_items:
        raise ValueError(
            f"`categories` must have one row an item, ({n_items}, categories); got {matrix.shape}"
        )
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    matrix.data[:] = 1.0
    return matrix


def _matrix_of_labels(value: Any) -> Any:
    try:
        return np.array(value, np.float64)
    except (TypeError, ValueError):
        raise TypeError(
            "`categories` must be one label an item, or a matrix (items x categories) of 0 and 1; got lists of labels. "
            "sklearn.preprocessing.MultiLabelBinarizer().fit_transform(...) makes the matrix"
        ) from None


def item_labels(value: Any, name: str, n_items: int) -> tuple[np.ndarray, Any]:
    import pandas as pd

    if np.ndim(value) != 1 or len(value) != n_items:
        raise ValueError(f"`{name}` must have shape ({n_items},), one label an item; got {np.shape(value)}")
    codes, labels = pd.factorize(pd.Series(value), sort=False)
    if (codes < 0).any():
        raise ValueError(f"`{name}` must label every item; item {int(np.argmin(codes))} has no label")
    return codes, pd.Index(labels)


def group_shares(value: Any, groups: tuple[np.ndarray, Any] | None) -> np.ndarray | None:
    if value is None:
        return None
    if groups is None:
        raise ValueError("`target` needs `item_groups`: the shares it gives are theirs")
    labels = list(groups[1])
    if not hasattr(value, "keys"):
        raise TypeError(f"`target` must map each group to its share; got {type(value).__name__}")
    missing = [label for label in labels if label not in value]
    if missing or len(value) != len(labels):
        raise ValueError(f"`target` must give a share for each of {labels}; got {list(value.keys())}")
    target = np.array([checks.number(value[label], f"target[{label!r}]", low=0.0) for label in labels])
    if not target.sum():
        raise ValueError("`target` must not be all 0")
    return target


NEEDED = {
    "popularity": "`popularity=` (how many users each item has) or `history=`",
    "n_users": "`n_users=` (how many users `popularity` was counted over), or `history=` without `popularity=`",
    "history": "`history=` (what each list's user had before, sparse, lists x items)",
    "truth": "`truth=` (what is relevant to each list's user, sparse, lists x items)",
    "baseline": "`baseline=` (the lists of an obvious recommender, such as the most popular items)",
    "vectors": "`vectors=` (one row an item)",
    "categories": "`categories=` (a label an item, or a sparse items x categories matrix)",
    "item_groups": "`item_groups=` (a label an item)",
}


def parse(names: Any) -> dict[str, tuple[str, int | None]]:
    """The metric and the cutoff (``None``: whole lists) of each name."""
    names = name_list(names)
    wanted: dict[str, tuple[str, int | None]] = {}
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"`metrics` must hold names; got {type(name).__name__} {name!r}")
        base, at, text = name.strip().lower().partition("@")
        if base not in METRICS:
            function = function_of(base)
            hint = f" fr.{function} has it." if function else checks.nearest(base, list(METRICS))
            raise ValueError(
                f"`metrics` holds {name!r}, which is not known.{hint} Known: {', '.join(sorted(METRICS))}"
            )
        if at and not (text.isdecimal() and int(text) > 0):
            raise ValueError(f"metric {name!r} needs a positive integer after '@' (its cutoff); got {text!r}")
        wanted[name] = base, int(text) if at else None
    if not wanted:
        raise ValueError("`metrics` must name at least one metric; got none")
    return wanted


def catalog_size(n_items: Any, known: int | None, **of_items: Any) -> int:
    sizes = {name: value.shape[0] if hasattr(value, "shape") else len(value) for name, value in of_items.items()
             if value is not None}  # fmt: skip
    if n_items is not None:
        return checks.integer(n_items, "n_items", low=0)
    if known is not None:
        return known
    if not sizes:
        raise ValueError("`n_items` must be given: the size of the catalogue, listed or not")
    return int(next(iter(sizes.values())))
