"""The metrics of a catalogue by name.  A new one: a function here under ``@_metric``, and a line in the table of
``fastrec.evaluate_catalog``."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastrec.evaluation.catalog_lists import Lists, Undefined
from fastrec.evaluation.ids import fetch
from fastrec.evaluation.list_similarity import list_similarity


@dataclass(frozen=True, slots=True)
class _Metric:
    compute: Callable[[Lists, Any], Any]
    per_list: bool  # `compute` gives a value a list, of which the metric is the mean
    option: str | None
    better: int  # 1: the larger the better, -1: the smaller, 0: neither
    of_items: Callable[[Lists, Any], np.ndarray] | None = None  # of which a list's value is the mean


METRICS: dict[str, _Metric] = {}


def _metric(
    name: str, *, per_list: bool = False, option: str | None = None, better: int = 1
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def add(compute: Callable[..., Any]) -> Callable[..., Any]:
        METRICS[name] = _Metric(compute, per_list, option, better)
        return compute

    return add


def _mean_of(
    name: str, *, option: str | None = None, better: int = 1
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A metric that is the mean over lists of the mean over their items of what the function gives for each item."""

    def add(of_items: Callable[..., Any]) -> Callable[..., Any]:
        def compute(lists: Lists, value: Any) -> float:
            return lists.mean_of(of_items(lists, value)) + 0.0  # no -0.0

        METRICS[name] = _Metric(compute, False, option, better, of_items)
        return of_items

    return add


def _ratio(top: float, bottom: float, why: str) -> float:
    if not bottom:
        raise Undefined(why)
    return top / bottom


@_metric("coverage")
def _(lists: Lists, _: Any) -> float:
    return _ratio(int(np.count_nonzero(lists.counts)), lists.catalog.n_items, "the catalogue is empty")


@_metric("distinct_items")
def _(lists: Lists, _: Any) -> float:
    return float(np.count_nonzero(lists.counts))


@_metric("user_coverage")
def _(lists: Lists, _: Any) -> float:
    return _ratio(lists.used, lists.lists, "there are no lists")


@_metric("full_lists")
def _(lists: Lists, _: Any) -> float:
    return _ratio(int(np.count_nonzero(lists.lengths >= lists.k)), lists.lists, "there are no lists")


def gini(amounts: np.ndarray) -> float:
    """The Gini coefficient of amounts that are not negative: 0 if all are equal, 1 - 1/n if one has everything."""
    n, total = len(amounts), amounts.sum()
    if not total:
        raise Undefined("no list holds an item")
    rising = np.sort(amounts).astype(np.float64)
    return float((np.arange(1 - n, n, 2, dtype=np.float64) * rising).sum() / (n * float(total)))


@_metric("gini", better=-1)
def _(lists: Lists, _: Any) -> float:
    return gini(lists.counts)


@_metric("gini_exposure", better=-1)
def _(lists: Lists, _: Any) -> float:
    return gini(lists.exposure)


@_metric("entropy")
def _(lists: Lists, _: Any) -> float:
    lists.some()
    share = lists.counts[lists.counts > 0] / lists.counts.sum()
    return float(-(share * np.log2(share)).sum()) + 0.0


@_metric("entropy_normalized")
def _(lists: Lists, _: Any) -> float:
    return _ratio(
        METRICS["entropy"].compute(lists, None),
        math.log2(max(lists.catalog.n_items, 1)),
        "the catalogue has one item",
    )


@_mean_of("popularity", better=0)
def _(lists: Lists, _: Any) -> np.ndarray:
    return np.asarray(lists.catalog.need("popularity"))


@_mean_of("tail_share", option="tail", better=0)
def _(lists: Lists, tail: float) -> np.ndarray:
    popularity = lists.catalog.need("popularity")
    order = lists.catalog.tail_order
    mass = np.cumsum(popularity[order])
    if not len(mass) or not mass[-1]:
        raise Undefined("`popularity` sums to 0")
    head = (
        int(np.searchsorted(mass, (1.0 - tail) * mass[-1])) + 1
    )  # the fewest items with that share of the mass
    of_tail = np.ones(len(popularity))
    of_tail[order[:head]] = 0.0
    return of_tail


@_metric("popularity_lift", better=0)
def _(lists: Lists, _: Any) -> float:
    popularity, history = lists.catalog.need("popularity"), lists.catalog.need("history")
    sizes = np.diff(history.indptr)
    known = sizes > 0
    if not known.any():
        raise Undefined("`history` is empty")
    rows = np.repeat(np.arange(len(sizes)), sizes)
    sums = np.bincount(rows, popularity[history.indices], minlength=len(sizes))
    before = float((sums[known] / sizes[known]).mean())
    return _ratio(lists.mean_of(popularity), before, "the items of `history` have popularity 0") - 1.0


@_mean_of("novelty")
def _novelty(lists: Lists, _: Any) -> np.ndarray:
    return -np.log2(lists.catalog.user_share)


@_mean_of("surprisal")
def _(lists: Lists, _: Any) -> np.ndarray:
    if lists.catalog.need("n_users") == 1:
        raise Undefined("there is one user")
    return _novelty(lists, None) / math.log2(lists.catalog.need("n_users"))


@_mean_of("self_information")
def _(lists: Lists, _: Any) -> np.ndarray:
    popularity = np.maximum(lists.catalog.need("popularity"), 1.0)
    total = float(lists.catalog.need("popularity").sum())
    if not total:
        raise Undefined("`popularity` sums to 0")
    return -np.log2(popularity / total)


@_metric("ild", per_list=True)
def _(lists: Lists, _: Any) -> np.ndarray:
    units = lists.there(lists.catalog.need("vectors"))
    return 1.0 - fetch(list_similarity(lists.catalog.ids, units, lists.k, threads=lists.catalog.threads))


@_metric("ild_category", per_list=True)
def _(lists: Lists, _: Any) -> np.ndarray:
    of_item, xp = lists.catalog.need("categories"), lists.xp
    sizes = lists.of_items(np.asarray(of_item.sum(axis=1)).ravel())
    out = np.full(lists.lists, np.nan)
    k = lists.ids.shape[1]
    others = xp.arange(k)[:, None] != xp.arange(k)
    dense = None if xp is np else lists.there(of_item.toarray() > 0)
    for start in range(0, lists.lists, 4096 // max(k, 1) + 1):
        rows = slice(start, start + 4096 // max(k, 1) + 1)
        ids, listed = lists.ids[rows], lists.listed[rows]
        chosen = (
            of_item[np.maximum(ids, 0).ravel()].toarray().reshape(*ids.shape, of_item.shape[1])
            if dense is None
            else dense[xp.maximum(ids, 0)].astype(np.float64)
        )
        shared = chosen @ chosen.transpose(0, 2, 1)
        both = sizes[rows]
        union = both[:, :, None] + both[:, None, :] - shared
        distance = 1.0 - xp.where(union > 0, shared / xp.maximum(union, 1.0), 0.0)
        pairs = listed[:, :, None] & listed[:, None, :] & others
        count = fetch(pairs.sum(axis=(1, 2)))
        sums = fetch(xp.where(pairs, distance, 0.0).sum(axis=(1, 2)))
        np.divide(sums, count, out=out[rows], where=count > 0)
    return out


@_metric("personalization")
def _(lists: Lists, _: Any) -> float:
    users = lists.used
    if users < 2:
        raise Undefined("fewer than two lists hold an item")
    if lists.length:
        counts = lists.counts.astype(np.float64)
        similar = float((counts * counts).sum()) / lists.length
    else:
        each = lists.weighted(1.0 / np.sqrt(np.maximum(lists.lengths, 1))[:, None])
        similar = float((each * each).sum())
    return 1.0 - (similar - users) / (users * (users - 1.0))


def _among(lists: Lists, pairs: Any) -> Any:
    """(Q, k) bool: which listed items are in the row of their list in a sparse matrix."""
    xp = lists.xp
    rows = np.repeat(np.arange(lists.lists), np.diff(pairs.indptr))
    known = lists.there(np.sort(rows * lists.catalog.n_items + pairs.indices))
    wanted = xp.arange(lists.lists)[:, None] * lists.catalog.n_items + lists.ids
    if not len(known):
        return xp.zeros(lists.ids.shape, bool)
    at = xp.minimum(xp.searchsorted(known, wanted), len(known) - 1)
    return lists.listed & (known[at] == wanted)


def _relevant(lists: Lists) -> Any:
    return _among(lists, lists.catalog.need("truth"))


@_metric("serendipity", per_list=True)
def _(lists: Lists, _: Any) -> np.ndarray:
    popularity, n = lists.catalog.need("popularity"), lists.catalog.n_items
    distinct = np.unique(popularity[popularity > 0])
    rank = len(distinct) - np.searchsorted(distinct, popularity)  # 1 for the most popular; ties share a rank
    anyone = np.where(popularity > 0, (n + 1.0 - rank) / max(n, 1), 0.0)
    place = (n - np.arange(lists.ids.shape[1], dtype=np.float64)) / max(n, 1)
    gain = lists.xp.maximum(lists.there(place) - lists.of_items(anyone), 0.0) * _relevant(lists)
    return np.divide(
        fetch(gain.sum(axis=1)), lists.lengths, out=np.full(lists.lists, np.nan), where=lists.lengths > 0
    )


@_metric("unexpectedness", per_list=True)
def _(lists: Lists, _: Any) -> np.ndarray:
    base = lists.there(np.ascontiguousarray(lists.catalog.need("baseline")[:, : lists.k]))
    shared = lists.xp.zeros(lists.lists, np.int64)
    for column in range(base.shape[1]):
        shared += ((lists.ids == base[:, column, None]) & lists.listed).any(axis=1)
    return 1.0 - np.divide(
        fetch(shared), lists.lengths, out=np.full(lists.lists, np.nan), where=lists.lengths > 0
    )


def _discovered(lists: Lists, worth: np.ndarray) -> np.ndarray:
    """The mean in each list of the worth of the relevant items, by places weighed 1 / log2(rank + 1)."""
    xp, discount = lists.xp, lists.there(1.0 / np.log2(np.arange(lists.ids.shape[1]) + 2.0))
    gains = fetch((xp.where(_relevant(lists), lists.of_items(worth), 0.0) * discount).sum(axis=1))
    norm = fetch(xp.where(lists.listed, discount, 0.0).sum(axis=1))
    return np.divide(gains, norm, out=np.full(lists.lists, np.nan), where=norm > 0)


@_metric("epc", per_list=True)
def _(lists: Lists, _: Any) -> np.ndarray:
    return _discovered(lists, 1.0 - lists.catalog.users_of_items / float(lists.catalog.need("n_users")))


@_metric("efd", per_list=True)
def _(lists: Lists, _: Any) -> np.ndarray:
    popularity = lists.catalog.need("popularity")
    total = float(popularity.sum())
    if not total:
        raise Undefined("`popularity` sums to 0")
    return _discovered(lists, -np.log2(np.maximum(popularity, 1.0) / total))


def _unequal(lists: Lists, chosen: Any, could: Any, why: str) -> float:
    """Deviation over mean of the groups' chances to be listed: pairs that are, of the (sparse) pairs that could be."""
    codes, labels = lists.catalog.need("item_groups")
    had = fetch(lists.xp.bincount(lists.there(codes)[lists.ids[chosen]], minlength=len(labels)))
    if not had.any():
        raise Undefined(why)
    chances = had[could > 0] / could[could > 0]
    return float(chances.std() / chances.mean())


@_metric("rsp", better=-1)
def _(lists: Lists, _: Any) -> float:
    codes, labels = lists.catalog.need("item_groups")
    chosen, could = lists.listed, np.bincount(codes, minlength=len(labels)) * lists.lists
    history = lists.catalog.given("history")
    if history is not None:
        chosen = chosen & ~_among(lists, history)
        could = could - np.bincount(codes[history.indices], minlength=len(labels))
    return _unequal(lists, chosen, could, "no list holds an item that its user has not had")


@_metric("reo", better=-1)
def _(lists: Lists, _: Any) -> float:
    codes, labels = lists.catalog.need("item_groups")
    wanted = lists.catalog.need("truth")
    history = lists.catalog.given("history")
    if history is not None:
        wanted = wanted - wanted.astype(bool).multiply(history.astype(bool)).multiply(wanted)
        wanted.eliminate_zeros()
    could = np.bincount(codes[wanted.indices], minlength=len(labels))
    return _unequal(lists, _among(lists, wanted), could, "no list holds a relevant item")


@_metric("exposure_gap", better=-1)
def _(lists: Lists, _: Any) -> float:
    lists.some()
    frame = exposure_shares(lists)
    return float(np.abs(frame["exposure"] - frame["target"]).sum() / 2)


def exposure_shares(lists: Lists) -> dict[str, np.ndarray]:
    """The share of the exposure each group of items gets, and the share it is due."""
    codes, labels = lists.catalog.need("item_groups")
    got = np.bincount(codes, lists.exposure, minlength=len(labels))
    due = np.bincount(codes, minlength=len(labels)).astype(float)
    if lists.catalog.target is not None:
        due = lists.catalog.target
    return {"exposure": got / max(got.sum(), np.finfo(float).tiny), "target": due / due.sum()}


def _sums_of_rows(lists: Lists, of_item: Any) -> Callable[[slice], np.ndarray]:
    """For some lists, the sum of the rows that their items have in a sparse matrix."""
    import scipy.sparse as sp

    if lists.xp is np:
        indptr = np.concatenate([[0], np.cumsum(lists.lengths)])
        matrix = sp.csr_array(
            (np.ones(int(indptr[-1])), lists.ids[lists.listed], indptr),
            shape=(lists.lists, lists.catalog.n_items),
        )
        return lambda rows: np.asarray((matrix[rows] @ of_item).toarray())
    dense = lists.there(np.append(of_item.toarray(), np.zeros((1, of_item.shape[1])), axis=0))

    def sums(rows: slice) -> np.ndarray:
        some = lists.ids[rows]
        total = lists.xp.zeros((len(some), dense.shape[1]), np.float64)
        for place in range(some.shape[1]):
            total += dense[some[:, place]]  # -1 takes the last row, of zeros
        return fetch(total)

    return sums


@_metric("miscalibration", per_list=True, option="alpha", better=-1)
def _(lists: Lists, alpha: float) -> np.ndarray:
    import scipy.sparse as sp

    of_item, history = lists.catalog.need("categories"), lists.catalog.need("history")
    sizes = np.maximum(np.asarray(of_item.sum(axis=1)).ravel(), 1.0)
    of_item = sp.csr_array(sp.diags_array(1.0 / sizes) @ of_item)
    listed = _sums_of_rows(lists, of_item)
    seen = sp.csr_array((np.ones(len(history.indices)), history.indices, history.indptr), shape=history.shape)
    out = np.full(lists.lists, np.nan)
    for start in range(0, lists.lists, 4096):
        rows = slice(start, start + 4096)
        p, q = np.asarray((seen[rows] @ of_item).toarray()), listed(rows)
        totals = [x.sum(axis=1, keepdims=True) for x in (p, q)]
        p, q = (x / np.where(t > 0, t, 1.0) for x, t in zip((p, q), totals))
        smooth = (1 - alpha) * q + alpha * p
        ratio = np.divide(p, smooth, out=np.ones_like(p), where=p > 0)
        divergence = (p * np.log(ratio)).sum(axis=1)
        both = ((totals[0] > 0) & (totals[1] > 0)).ravel()
        out[rows] = np.where(both, divergence, np.nan)
    return out
