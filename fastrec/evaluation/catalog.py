"""``evaluate_catalog``: what lists do to a catalogue, beyond accuracy: coverage, concentration, novelty, diversity."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrec._core import arrays, checks
from fastrec._core import threads as _threads
from fastrec._core.op import operation
from fastrec._kernels import catalog as _kernel
from fastrec.evaluation.named_values import NamedValues
from fastrec.ranking.result import TopK

if TYPE_CHECKING:
    import pandas as pd

MAX_LISTS = 2**32 - 2


class _Undefined(Exception):
    """A metric has no value on these lists; the message says why."""


# -- the two sums over lists that are worth a kernel ---------------------------------------------------------------


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
        row = int(xp.argmax(bad))
        raise _bad_list(row, ids[row], n_items)
    ordered = xp.sort(ids, axis=1)
    twice = ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any(axis=1)
    return ListCounts(
        items=xp.bincount(ids[ids >= 0], minlength=n_items).astype(np.int64),
        lengths=(ids >= 0).sum(axis=1).astype(np.int32),
        duplicate=int(xp.argmax(twice)) if twice.any() else -1,
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


# The reference takes the products of all pairs, the kernel their closed form: they differ in the last digits.
@operation(arrays=("ids", "units"), rtol=1e-12)
def list_similarity(ids: Any, units: Any, k: int, *, threads: int | None = None) -> dict[str, Any]:
    """The mean cosine of the pairs of items in each list (intra-list similarity).

    Parameters
    ----------
    ids : (Q, width) int32 or int64, contiguous
        Rows of ``units``; -1 is no item.
    units : (n_items, d) float64
        Vectors of norm 1, or 0: such an item is like no other.
    k : int
        Only the first ``k`` ids of a list count.
    threads : int or None

    Returns
    -------
    (Q,) float64
        NaN for lists below two items.

    Notes
    -----
    ``(|sum of vectors|^2 - sum of |vector|^2) / (m (m - 1))``: O(k d) a list instead of O(k^2 d).
    Scratch: 8 d bytes a thread, and ``units`` once more where d is not a multiple of 8.
    """
    ids, units = checks.native(ids), checks.native(units)
    return {"ids": ids, "units": units, "k": min(k, ids.shape[1]), "threads": _threads.resolve(threads)}


@list_similarity.reference
def _(xp: ModuleType, ids: Any, units: Any, k: int, threads: int) -> Any:
    out = xp.full(len(ids), np.nan)
    for row, items in enumerate(ids[:, :k]):
        vectors = units[items[items >= 0]]
        if len(vectors) > 1:
            products = vectors @ vectors.T
            out[row] = (products.sum() - xp.trace(products)) / (len(vectors) * (len(vectors) - 1))
    return out


@list_similarity.cpu
def _(ids: np.ndarray, units: np.ndarray, k: int, threads: int) -> np.ndarray:
    lists, width = ids.shape
    if not ids.size or not k or not units.size:
        return np.full(lists, np.nan)
    threads = min(threads, _kernel.tasks(lists))
    rest = -units.shape[1] % 8
    padded = np.ascontiguousarray(np.pad(units, ((0, 0), (0, rest))) if rest else units)
    out = np.empty(lists)
    scratch = np.empty((threads, padded.shape[1]))
    wide = ids.dtype == np.int64
    _kernel.similarity(ids.view(np.uint8).reshape(-1), wide, width, k, padded, scratch, out, threads)
    return out


@list_similarity.cases
def _(rng: Any) -> Iterator[dict[str, Any]]:
    for lists, width, dims in ((0, 3, 4), (1, 1, 1), (40, 10, 7), (40, 10, 8), (1500, 5, 33)):
        units = rng.standard_normal((50, dims))
        units /= np.linalg.norm(units, axis=1, keepdims=True)
        units[0] = 0
        ids = np.argsort(rng.random((lists, 50)), axis=1)[:, :width]
        yield {"ids": np.ascontiguousarray(ids), "units": units, "k": width}
        ids[rng.random(ids.shape) < 0.2] = -1
        yield {"ids": np.ascontiguousarray(ids.astype(np.int32)), "units": units, "k": max(width - 1, 1)}


# -- what metrics read from ----------------------------------------------------------------------------------------


class _Catalog:
    """The lists, and what is known about items and users."""

    def __init__(
        self,
        ids: np.ndarray,
        n_items: int,
        n_users: int | None,
        popularity: np.ndarray | None,
        history: Any,
        truth: Any,
        baseline: np.ndarray | None,
        units: np.ndarray | None,
        categories: Any,
        groups: tuple[np.ndarray, Any] | None,
        target: Any,
        threads: int,
    ) -> None:
        self.ids, self.n_items, self.threads = ids, n_items, threads
        self._given = {
            "n_users": n_users,
            "popularity": popularity,
            "history": history,
            "truth": truth,
            "baseline": baseline,
            "vectors": units,
            "categories": categories,
            "item_groups": groups,
        }
        self.target = target

    def need(self, name: str) -> Any:
        value = self._given[name]
        if value is None:
            raise LookupError(name)
        return value

    def cut(self, k: int) -> _Lists:
        return _Lists(self, k)

    @cached_property
    def user_share(self) -> np.ndarray:
        """Share of the users who know each item, an item nobody knows counting as known by one user."""
        return np.maximum(self.need("popularity"), 1.0) / float(self.need("n_users"))

    @cached_property
    def tail_order(self) -> np.ndarray:
        """Items from the most to the least popular, ties by id."""
        return np.argsort(-self.need("popularity"), kind="stable")


class _Lists:
    """The first k ids of every list."""

    def __init__(self, catalog: _Catalog, k: int) -> None:
        self.catalog, self.k = catalog, k
        counted = catalog_counts(catalog.ids, catalog.n_items, k, threads=catalog.threads)
        self.counts, self.lengths, self.duplicate = counted.items, counted.lengths, counted.duplicate
        self.lists = len(self.lengths)
        self.used = int(np.count_nonzero(self.lengths))
        longest = int(self.lengths.max(initial=0))
        self.length = longest if longest and int(self.lengths.min()) == longest else 0  # 0: they differ

    def some(self) -> None:
        if not self.used:
            raise _Undefined("no list holds an item")

    @cached_property
    def ids(self) -> np.ndarray:
        return self.catalog.ids[:, : self.k]

    @cached_property
    def listed(self) -> np.ndarray:
        return self.ids >= 0

    def weighted(self, weights: np.ndarray) -> np.ndarray:
        """Sum over the lists of a weight for each (list, place), by item."""
        weights = np.broadcast_to(weights, self.ids.shape)
        return np.bincount(self.ids[self.listed], weights[self.listed], minlength=self.catalog.n_items)

    @cached_property
    def share(self) -> np.ndarray:
        """Mean over the lists (that are not empty) of the share of the list that an item takes."""
        if self.length:
            return self.counts / (self.lists * self.length)
        return self.weighted(1.0 / np.maximum(self.lengths, 1)[:, None]) / max(self.used, 1)

    def mean_of(self, of_item: np.ndarray) -> float:
        """Mean over the lists of the mean in the list of a property of items."""
        self.some()
        return float((self.share * of_item).sum())

    def per_list(self, of_item: np.ndarray) -> np.ndarray:
        """The mean in each list of a property of items; NaN for an empty list."""
        sums = np.where(self.listed, of_item[np.maximum(self.ids, 0)], 0.0).sum(axis=1)
        return np.divide(sums, self.lengths, out=np.full(self.lists, np.nan), where=self.lengths > 0)

    @cached_property
    def exposure(self) -> np.ndarray:
        """Sum over the lists of 1 / log2(rank + 1), by item."""
        return self.weighted(1.0 / np.log2(np.arange(self.ids.shape[1]) + 2.0))


# -- the metrics ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Metric:
    compute: Callable[[_Lists, Any], Any]
    per_list: bool  # `compute` gives a value a list, of which the metric is the mean
    option: str | None


METRICS: dict[str, _Metric] = {}


def _metric(
    name: str, *, per_list: bool = False, option: str | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def add(compute: Callable[..., Any]) -> Callable[..., Any]:
        METRICS[name] = _Metric(compute, per_list, option)
        return compute

    return add


def _ratio(top: float, bottom: float, why: str) -> float:
    if not bottom:
        raise _Undefined(why)
    return top / bottom


@_metric("coverage")
def _(lists: _Lists, _: Any) -> float:
    return _ratio(int(np.count_nonzero(lists.counts)), lists.catalog.n_items, "the catalogue is empty")


@_metric("distinct_items")
def _(lists: _Lists, _: Any) -> float:
    return float(np.count_nonzero(lists.counts))


@_metric("user_coverage")
def _(lists: _Lists, _: Any) -> float:
    return _ratio(lists.used, lists.lists, "there are no lists")


@_metric("full_lists")
def _(lists: _Lists, _: Any) -> float:
    return _ratio(int(np.count_nonzero(lists.lengths >= lists.k)), lists.lists, "there are no lists")


def gini(amounts: np.ndarray) -> float:
    """The Gini coefficient of amounts that are not negative: 0 if all are equal, 1 - 1/n if one has everything."""
    n, total = len(amounts), amounts.sum()
    if not total:
        raise _Undefined("no list holds an item")
    rising = np.sort(amounts).astype(np.float64)
    return float((np.arange(1 - n, n, 2, dtype=np.float64) * rising).sum() / (n * float(total)))


@_metric("gini")
def _(lists: _Lists, _: Any) -> float:
    return gini(lists.counts)


@_metric("gini_exposure")
def _(lists: _Lists, _: Any) -> float:
    return gini(lists.exposure)


@_metric("entropy")
def _(lists: _Lists, _: Any) -> float:
    lists.some()
    share = lists.counts[lists.counts > 0] / lists.counts.sum()
    return float(-(share * np.log2(share)).sum()) + 0.0


@_metric("entropy_normalized")
def _(lists: _Lists, _: Any) -> float:
    return _ratio(
        METRICS["entropy"].compute(lists, None),
        math.log2(max(lists.catalog.n_items, 1)),
        "the catalogue has one item",
    )


@_metric("popularity")
def _(lists: _Lists, _: Any) -> float:
    return lists.mean_of(lists.catalog.need("popularity"))


@_metric("tail_share", option="tail")
def _(lists: _Lists, tail: float) -> float:
    popularity = lists.catalog.need("popularity")
    order = lists.catalog.tail_order
    mass = np.cumsum(popularity[order])
    if not len(mass) or not mass[-1]:
        raise _Undefined("`popularity` sums to 0")
    head = (
        int(np.searchsorted(mass, (1.0 - tail) * mass[-1])) + 1
    )  # the fewest items with that share of the mass
    of_tail = np.ones(len(popularity))
    of_tail[order[:head]] = 0.0
    return lists.mean_of(of_tail)


@_metric("popularity_lift")
def _(lists: _Lists, _: Any) -> float:
    popularity, history = lists.catalog.need("popularity"), lists.catalog.need("history")
    sizes = np.diff(history.indptr)
    known = sizes > 0
    if not known.any():
        raise _Undefined("`history` is empty")
    rows = np.repeat(np.arange(len(sizes)), sizes)
    sums = np.bincount(rows, popularity[history.indices], minlength=len(sizes))
    before = float((sums[known] / sizes[known]).mean())
    return _ratio(lists.mean_of(popularity), before, "the items of `history` have popularity 0") - 1.0


@_metric("novelty")
def _(lists: _Lists, _: Any) -> float:
    return lists.mean_of(-np.log2(lists.catalog.user_share)) + 0.0


@_metric("surprisal")
def _(lists: _Lists, _: Any) -> float:
    users = float(lists.catalog.need("n_users"))
    return _ratio(METRICS["novelty"].compute(lists, None), math.log2(users), "there is one user")


@_metric("self_information")
def _(lists: _Lists, _: Any) -> float:
    popularity = np.maximum(lists.catalog.need("popularity"), 1.0)
    total = float(lists.catalog.need("popularity").sum())
    if not total:
        raise _Undefined("`popularity` sums to 0")
    return lists.mean_of(-np.log2(popularity / total)) + 0.0


@_metric("ild", per_list=True)
def _(lists: _Lists, _: Any) -> np.ndarray:
    units = lists.catalog.need("vectors")
    return 1.0 - list_similarity(lists.catalog.ids, units, lists.k, threads=lists.catalog.threads)


@_metric("ild_category", per_list=True)
def _(lists: _Lists, _: Any) -> np.ndarray:
    of_item = lists.catalog.need("categories")
    sizes = np.asarray(of_item.sum(axis=1)).ravel()
    out = np.full(lists.lists, np.nan)
    k = lists.ids.shape[1]
    for start in range(0, lists.lists, 4096 // max(k, 1) + 1):
        rows = slice(start, start + 4096 // max(k, 1) + 1)
        ids, listed = lists.ids[rows], lists.listed[rows]
        chosen = of_item[np.maximum(ids, 0).ravel()].toarray().reshape(*ids.shape, -1)
        shared = np.einsum("lic,ljc->lij", chosen, chosen)
        both = sizes[np.maximum(ids, 0)]
        union = both[:, :, None] + both[:, None, :] - shared
        distance = 1.0 - np.divide(shared, union, out=np.zeros(shared.shape), where=union > 0)
        pairs = listed[:, :, None] & listed[:, None, :] & ~np.eye(k, dtype=bool)
        count = pairs.sum(axis=(1, 2))
        sums = np.where(pairs, distance, 0.0).sum(axis=(1, 2))
        np.divide(sums, count, out=out[rows], where=count > 0)
    return out


@_metric("personalization")
def _(lists: _Lists, _: Any) -> float:
    users = lists.used
    if users < 2:
        raise _Undefined("fewer than two lists hold an item")
    if lists.length:
        counts = lists.counts.astype(np.float64)
        similar = float((counts * counts).sum()) / lists.length
    else:
        each = lists.weighted(1.0 / np.sqrt(np.maximum(lists.lengths, 1))[:, None])
        similar = float((each * each).sum())
    return 1.0 - (similar - users) / (users * (users - 1.0))


def _relevant(lists: _Lists) -> np.ndarray:
    """(Q, k) bool: which listed items are in the truth."""
    truth = lists.catalog.need("truth")
    rows = np.repeat(np.arange(lists.lists), np.diff(truth.indptr))
    known = np.sort(rows * lists.catalog.n_items + truth.indices)
    wanted = np.arange(lists.lists)[:, None] * lists.catalog.n_items + lists.ids
    if not len(known):
        return np.zeros(lists.ids.shape, bool)
    at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return lists.listed & (known[at] == wanted)


@_metric("serendipity", per_list=True)
def _(lists: _Lists, _: Any) -> np.ndarray:
    popularity, n = lists.catalog.need("popularity"), lists.catalog.n_items
    distinct = np.unique(popularity[popularity > 0])
    rank = len(distinct) - np.searchsorted(distinct, popularity)  # 1 for the most popular; ties share a rank
    anyone = np.where(popularity > 0, (n + 1.0 - rank) / max(n, 1), 0.0)
    place = (n - np.arange(lists.ids.shape[1], dtype=np.float64)) / max(n, 1)
    gain = np.maximum(place - anyone[np.maximum(lists.ids, 0)], 0.0) * _relevant(lists)
    return np.divide(
        gain.sum(axis=1), lists.lengths, out=np.full(lists.lists, np.nan), where=lists.lengths > 0
    )


@_metric("unexpectedness", per_list=True)
def _(lists: _Lists, _: Any) -> np.ndarray:
    base = lists.catalog.need("baseline")[:, : lists.k]
    shared = np.zeros(lists.lists, np.int64)
    for column in range(base.shape[1]):
        shared += ((lists.ids == base[:, column, None]) & lists.listed).any(axis=1)
    return 1.0 - np.divide(shared, lists.lengths, out=np.full(lists.lists, np.nan), where=lists.lengths > 0)


@_metric("epc", per_list=True)
def _(lists: _Lists, _: Any) -> np.ndarray:
    unknown = 1.0 - np.minimum(lists.catalog.need("popularity") / float(lists.catalog.need("n_users")), 1.0)
    discount = 1.0 / np.log2(np.arange(lists.ids.shape[1]) + 2.0)
    gains = np.where(_relevant(lists), unknown[np.maximum(lists.ids, 0)], 0.0) * discount
    norm = np.where(lists.listed, discount, 0.0).sum(axis=1)
    return np.divide(gains.sum(axis=1), norm, out=np.full(lists.lists, np.nan), where=norm > 0)


@_metric("exposure_gap")
def _(lists: _Lists, _: Any) -> float:
    lists.some()
    frame = exposure_shares(lists)
    return float(np.abs(frame["exposure"] - frame["target"]).sum() / 2)


def exposure_shares(lists: _Lists) -> dict[str, np.ndarray]:
    """The share of the exposure each group of items gets, and the share it is due."""
    codes, labels = lists.catalog.need("item_groups")
    got = np.bincount(codes, lists.exposure, minlength=len(labels))
    due = np.bincount(codes, minlength=len(labels)).astype(float)
    if lists.catalog.target is not None:
        due = lists.catalog.target
    return {"exposure": got / max(got.sum(), np.finfo(float).tiny), "target": due / due.sum()}


@_metric("miscalibration", per_list=True, option="alpha")
def _(lists: _Lists, alpha: float) -> np.ndarray:
    import scipy.sparse as sp

    of_item, history = lists.catalog.need("categories"), lists.catalog.need("history")
    sizes = np.maximum(np.asarray(of_item.sum(axis=1)).ravel(), 1.0)
    of_item = sp.csr_array(sp.diags_array(1.0 / sizes) @ of_item)
    indptr = np.concatenate([[0], np.cumsum(lists.lengths)])
    listed = sp.csr_array(
        (np.ones(int(indptr[-1])), lists.ids[lists.listed], indptr),
        shape=(lists.lists, lists.catalog.n_items),
    )
    seen = sp.csr_array((np.ones(len(history.indices)), history.indices, history.indptr), shape=history.shape)
    out = np.full(lists.lists, np.nan)
    for start in range(0, lists.lists, 4096):
        rows = slice(start, start + 4096)
        p, q = (np.asarray((matrix[rows] @ of_item).toarray()) for matrix in (seen, listed))
        totals = [x.sum(axis=1, keepdims=True) for x in (p, q)]
        p, q = (x / np.where(t > 0, t, 1.0) for x, t in zip((p, q), totals))
        smooth = (1 - alpha) * q + alpha * p
        ratio = np.divide(p, smooth, out=np.ones_like(p), where=p > 0)
        divergence = (p * np.log(ratio)).sum(axis=1)
        both = ((totals[0] > 0) & (totals[1] > 0)).ravel()
        out[rows] = np.where(both, divergence, np.nan)
    return out


# -- reading the input ---------------------------------------------------------------------------------------------


def _ids(top: Any, items: Any) -> tuple[np.ndarray, int | None]:
    """(Q, k) item rows, and the number of items where the input tells it."""
    known = None
    if isinstance(top, TopK):
        known = None if top.labels is None else len(top.labels)
        top = top.rows
        items = None
    if items is not None:
        return _rows_of(top, items), len(items)
    ids = arrays.adopt(top, "top")
    if arrays.device(ids) != arrays.CPU:
        raise TypeError(
            f"`top` is on {arrays.device(ids)}; catalogue metrics run on the CPU: pass its `.get()`"
        )
    if ids.dtype.kind not in "iu":
        raise TypeError(
            f"`top` must hold integer item rows; got dtype {ids.dtype}. Give the items' ids as `items=` to look them up"
        )
    if ids.ndim != 2:
        raise ValueError(f"`top` must have shape (lists, k); got {ids.shape}")
    return np.ascontiguousarray(ids, np.int32 if ids.dtype == np.int32 else np.int64), known


def _rows_of(top: Any, items: Any) -> np.ndarray:
    import pandas as pd

    index = pd.Index(items)
    if not index.is_unique:
        raise ValueError("`items` must name every item once; some repeat")
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


def _sparse(value: Any, name: str, shape: tuple[int, int]) -> Any:
    import scipy.sparse as sp

    if value is None:
        return None
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


def _popularity(value: Any, n_items: int) -> np.ndarray | None:
    if value is None:
        return None
    popularity = checks.vector(value, "popularity", dtype=np.float64, size=n_items, like="one number an item")
    if not (np.isfinite(popularity) & (popularity >= 0)).all():
        raise ValueError("`popularity` must be finite and not negative: how many users each item has")
    return popularity


def _units(value: Any, n_items: int) -> np.ndarray | None:
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


def _categories(value: Any, n_items: int) -> Any:
    """Sparse (n_items, C) of 0 and 1, from one label an item or from such a matrix."""
    import scipy.sparse as sp

    if value is None:
        return None
    if not sp.issparse(value) and np.ndim(value) != 2:
        codes, labels = _codes(value, "categories", n_items)
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


def _codes(value: Any, name: str, n_items: int) -> tuple[np.ndarray, Any]:
    import pandas as pd

    if np.ndim(value) != 1 or len(value) != n_items:
        raise ValueError(f"`{name}` must have shape ({n_items},), one label an item; got {np.shape(value)}")
    codes, labels = pd.factorize(pd.Series(value), sort=False)
    if (codes < 0).any():
        raise ValueError(f"`{name}` must label every item; item {int(np.argmin(codes))} has no label")
    return codes, pd.Index(labels)


def _target(value: Any, groups: tuple[np.ndarray, Any] | None) -> np.ndarray | None:
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


_NEEDED = {
    "popularity": "`popularity=` (how many users each item has) or `history=`",
    "n_users": "`n_users=` (how many users `popularity` was counted over) or `history=`",
    "history": "`history=` (what each list's user had before, sparse, lists x items)",
    "truth": "`truth=` (what is relevant to each list's user, sparse, lists x items)",
    "baseline": "`baseline=` (the lists of an obvious recommender, such as the most popular items)",
    "vectors": "`vectors=` (one row an item)",
    "categories": "`categories=` (a label an item, or a sparse items x categories matrix)",
    "item_groups": "`item_groups=` (a label an item)",
}


def evaluate_catalog(
    top: Any,
    n_items: int | None = None,
    popularity: Any = None,
    n_users: int | None = None,
    vectors: Any = None,
    categories: Any = None,
    metrics: str | Sequence[str] = ("coverage", "gini", "entropy", "personalization"),
    *,
    history: Any = None,
    truth: Any = None,
    baseline: Any = None,
    item_groups: Any = None,
    target: Any = None,
    items: Any = None,
    tail: float = 0.2,
    alpha: float = 0.01,
    duplicates: str = "error",
    undefined: str = "warn",
    threads: int | None = None,
) -> CatalogEvaluation:
    """What the lists of a recommender do beyond accuracy: coverage, concentration, novelty, diversity, fairness.

    Parameters
    ----------
    top : TopK, or (Q, k) integer array
        Item rows ``0..n_items-1``, best first, -1 where a list has no more.  Ids of another kind need ``items``.
    n_items : int, optional
        Size of the catalogue; taken from the item arguments where one is given.
    popularity : (n_items,) numbers, optional
        How many users (interactions) each item has in the training data.
    n_users : int, optional
        How many users ``popularity`` was counted over.
    vectors : (n_items, d), optional
        For ``ild``, which takes their cosine.
    categories : (n_items,) labels or (n_items, C) matrix, optional
        One label an item, or any number of them.
    metrics : names, or one name
        ``"coverage@10"`` looks at the first 10 of every list.
    history, truth : SciPy sparse (Q, n_items), optional
        What each list's user had before (gives ``popularity`` and ``n_users`` where these are missing), and what is
        relevant to them.
    baseline : (Q, k) or (k,) item rows, optional
        Lists of an obvious recommender.
    item_groups : (n_items,) labels, optional
    target : mapping of group to share, optional
        The exposure each group is due; by default its share of the catalogue.
    items : (n_items,) ids, optional
        ``top`` (not a TopK) holds these instead of rows; ``None``, NaN and -1 are padding.
    tail : float
        The tail are the items left when the most popular, holding ``1 - tail`` of all interactions, are taken away.
    alpha : float
        Smoothing of ``miscalibration``.
    duplicates : "error" or "count"
        What to do about an item that is listed twice in a list.
    undefined : "warn", "nan" or "error"
        What to do about a metric that has no value: it is NaN and ``result.undefined`` says why.
    threads : int, optional
        Results do not depend on it.

    Returns
    -------
    CatalogEvaluation
        ``result["coverage"]``, ``.values``, ``.counts``, ``.per_list``, ``.exposure``, ``.to_frame()``.

    Notes
    -----
    Means are over lists that are not empty.

    ================== ===============================================================================================
    coverage           share of the catalogue in at least one list; ``distinct_items``: how many
    user_coverage      share of the lists that hold an item; ``full_lists``: that hold k
    gini               Gini coefficient of the items' list counts, over the whole catalogue; ``gini_exposure``: of
                       their exposure, the sum of 1 / log2(rank + 1)
    entropy            Shannon entropy of the list counts, in bits; ``entropy_normalized``: / log2(n_items)
    popularity         mean popularity of the items (ARP); ``popularity_lift``: relative to the users' own histories,
                       mean over lists / mean over histories - 1 (Abdollahpouri et al., 2020)
    tail_share         share of items from the tail (APLT)
    novelty            mean of -log2(n_i / n_users) (MIUF); an item of popularity 0 counts as 1; ``surprisal``:
                       / log2(n_users); ``self_information``: mean of -log2(n_i / sum of n)
    ild                mean over lists of the mean of 1 - cosine over pairs of items; ``ild_category``: of 1 - Jaccard
                       of their categories; lists below two items are left out
    personalization    1 - mean over pairs of lists of the cosine of their item sets, from item counts alone
    serendipity        mean of relevance x max((n + 1 - rank) / n - (n + 1 - popularity rank) / n, 0), as in RecTools
    unexpectedness     share of a list that the baseline does not hold
    epc                discounted mean of relevance x (1 - n_i / n_users) (Vargas and Castells, 2011)
    exposure_gap       half the sum over item groups of |share of exposure - share due|
    miscalibration     KL divergence of a user's categories from the list's (Steck, 2018), natural logarithm
    ================== ===============================================================================================

    Cost: O(Q k) with 12 bytes an item and thread for what follows from counts (all but the metrics that need
    ``vectors``, ``truth``, ``baseline`` or ``categories``); ``ild`` is O(Q k d).

    Raises
    ------
    ValueError
        An unknown metric (naming the nearest), a metric whose input is missing (naming it), items outside the
        catalogue, an item listed twice, arguments of the wrong shape.
    TypeError
        Ids that are not integers and no ``items``; arrays on a GPU.

    Examples
    --------
    >>> import fastrec as fr
    >>> result = fr.evaluate_catalog([[0, 1], [0, 2]], n_items=4, metrics=["coverage", "personalization"])
    >>> result["coverage"], result["personalization"]
    (0.75, 0.5)
    """
    ids, known = _ids(top, items)
    lists, width = ids.shape
    wanted = _parse(metrics, width)
    checks.choice(duplicates, "duplicates", ("error", "count"))
    checks.choice(undefined, "undefined", ("warn", "nan", "error"))
    if lists > MAX_LISTS:
        raise ValueError(f"`top` must have at most {MAX_LISTS} lists; got {lists}")
    n_items = _catalog_size(n_items, known, popularity=popularity, vectors=vectors, categories=categories,
                            item_groups=item_groups)  # fmt: skip
    history = _sparse(history, "history", (lists, n_items))
    counted = _popularity(popularity, n_items)
    if history is not None:
        if counted is None:
            counted = np.bincount(history.indices, minlength=n_items).astype(np.float64)
        n_users = lists if n_users is None else n_users
    if n_users is not None:
        n_users = checks.integer(n_users, "n_users", low=1)
        if counted is not None and popularity is None and counted.max(initial=0) > n_users:
            raise ValueError(
                f"`n_users` must be at least {int(counted.max())}, the users of one item; got {n_users}"
            )
    if baseline is not None:
        baseline = np.asarray(arrays.adopt(baseline, "baseline"))
        baseline = np.broadcast_to(baseline, (lists, len(baseline))) if baseline.ndim == 1 else baseline
        if baseline.ndim != 2 or len(baseline) != lists or baseline.dtype.kind not in "iu":
            raise ValueError(
                f"`baseline` must hold item rows, ({lists}, k) or (k,); got {baseline.shape} {baseline.dtype}"
            )
    groups = None if item_groups is None else _codes(item_groups, "item_groups", n_items)
    options = {
        "tail": checks.number(tail, "tail", low=0.0, high=1.0),
        "alpha": checks.number(alpha, "alpha", low=0.0, high=1.0),
    }
    catalog = _Catalog(
        ids,
        n_items,
        n_users,
        counted,
        history,
        _sparse(truth, "truth", (lists, n_items)),
        baseline,
        _units(vectors, n_items),
        _categories(categories, n_items),
        groups,
        _target(target, groups),
        _threads.resolve(threads),
    )
    result = CatalogEvaluation(catalog, duplicates, lists, width)
    for name, (metric, k) in wanted.items():
        definition = METRICS[metric]
        cut = result._cut(k)
        option = options.get(definition.option or "")
        result.parameters[name] = {"k": k} | ({definition.option: option} if definition.option else {})
        try:
            value = definition.compute(cut, option)
            if definition.per_list:
                result._per_list[name] = value
                defined = value[~np.isnan(value)]
                if not len(defined):
                    raise _Undefined("no list has a value")
                value = math.fsum(defined.tolist()) / len(defined)
        except _Undefined as why:
            value = math.nan
            result.undefined[name] = str(why)
        except LookupError as missing:
            raise ValueError(f"{name!r} needs {_NEEDED[str(missing.args[0])]}") from None
        result._values[name] = float(value)
    if result.undefined and undefined != "nan":
        text = "undefined on these lists: " + "; ".join(f"{n}: {why}" for n, why in result.undefined.items())
        if undefined == "error":
            raise ValueError(text)
        warnings.warn(text, RuntimeWarning, stacklevel=2)
    return result


def _parse(names: Any, width: int) -> dict[str, tuple[str, int]]:
    if isinstance(names, str):
        names = [names]
    wanted = {}
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"`metrics` must hold names; got {type(name).__name__} {name!r}")
        base, at, text = name.strip().lower().partition("@")
        if base not in METRICS:
            raise ValueError(
                f"`metrics` holds {name!r}, which is not known.{checks.nearest(base, list(METRICS))} "
                f"Known: {', '.join(sorted(METRICS))}"
            )
        if at and not (text.isdecimal() and int(text) > 0):
            raise ValueError(f"metric {name!r} needs a positive integer after '@' (its cutoff); got {text!r}")
        wanted[name] = base, int(text) if at else width
    if not wanted:
        raise ValueError("`metrics` must name at least one metric; got none")
    return wanted


def _catalog_size(n_items: Any, known: int | None, **of_items: Any) -> int:
    sizes = {name: value.shape[0] if hasattr(value, "shape") else len(value) for name, value in of_items.items()
             if value is not None}  # fmt: skip
    if n_items is not None:
        return checks.integer(n_items, "n_items", low=0)
    if known is not None:
        return known
    if not sizes:
        raise ValueError("`n_items` must be given: the size of the catalogue, listed or not")
    return int(next(iter(sizes.values())))


class CatalogEvaluation(NamedValues):
    """The metrics of one call of :func:`evaluate_catalog`.

    ``result["coverage"]`` is a float; ``result.values`` is a pandas Series.

    Attributes
    ----------
    counts : dict
        ``lists``, ``empty_lists``, ``items`` (the catalogue), ``listed`` (ids that are not padding).
    item_counts : (n_items,) int64
        How many lists name each item.
    per_list : pandas.DataFrame
        One row a list.
    exposure : pandas.DataFrame
        One row a group of items.
    """

    def __init__(self, catalog: _Catalog, duplicates: str, lists: int, width: int) -> None:
        super().__init__()
        self._catalog, self._duplicates, self._width = catalog, duplicates, width
        self._cuts: dict[int, _Lists] = {}
        self._per_list: dict[str, np.ndarray] = {}
        self._index = range(lists)

    def _cut(self, k: int) -> _Lists:
        if k not in self._cuts:
            lists = self._catalog.cut(k)
            if lists.duplicate >= 0 and self._duplicates == "error":
                raise ValueError(
                    f"`top` must not list an item twice; list {lists.duplicate} does. "
                    "Pass duplicates='count' to count it twice"
                )
            self._cuts[k] = lists
        return self._cuts[k]

    def __repr__(self) -> str:
        return f"CatalogEvaluation of {len(self._index)} lists\n{self._table()}"

    @property
    def counts(self) -> dict[str, int]:
        whole = self._cut(self._width)
        return {
            "lists": whole.lists,
            "empty_lists": whole.lists - whole.used,
            "items": self._catalog.n_items,
            "listed": int(whole.lengths.sum()),
        }

    @property
    def item_counts(self) -> np.ndarray:
        return self._cut(self._width).counts

    @property
    def per_list(self) -> pd.DataFrame:
        """One row a list: ``items`` and the value of each metric that has one a list (NaN where it has none)."""
        import pandas as pd

        columns: dict[str, np.ndarray] = {"items": self._cut(self._width).lengths}
        for name in self._values:
            base, k = name.strip().lower().partition("@")[0], self.parameters[name]["k"]
            if name in self._per_list:
                columns[name] = self._per_list[name]
            elif base == "popularity":
                columns[name] = self._cut(k).per_list(self._catalog.need("popularity"))
            elif base == "novelty":
                columns[name] = self._cut(k).per_list(-np.log2(self._catalog.user_share))
        return pd.DataFrame(columns, index=pd.RangeIndex(len(self._index), name="list"))

    @property
    def exposure(self) -> pd.DataFrame:
        """One row a group of ``item_groups``: ``items``, ``exposure`` (its share), ``target`` (the share it is due)."""
        import pandas as pd

        try:
            codes, labels = self._catalog.need("item_groups")
        except LookupError:
            raise ValueError(f"`exposure` needs {_NEEDED['item_groups']}") from None
        frame = pd.DataFrame({"items": np.bincount(codes, minlength=len(labels))}, index=labels)
        frame.index.name = "group"
        return frame.assign(**exposure_shares(self._cut(self._width)))
