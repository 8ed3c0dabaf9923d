"""``fr.rbo``, ``fr.overlap``: how much two runs agree, query by query."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastrec._core import checks
from fastrec.evaluation.conventions import Convention, resolve
from fastrec.evaluation.ids import Labels
from fastrec.evaluation.result import Evaluation
from fastrec.evaluation.runs import Run, read_run

FORMS = ("extrapolated", "minimum", "truncated")
TIES = ("trec", "given", "id_desc", "id_asc", "random")


def rbo(
    run_a: Any,
    run_b: Any,
    p: float = 0.9,
    k: int | None = None,
    *,
    form: str = "extrapolated",
    ties: str = "trec",
    queries: Any = None,
    seed: int = 0,
) -> Evaluation:
    """Rank-biased overlap of two runs (Webber, Moffat and Zobel 2010).

    With A_d the share of the first d items that both lists hold, the overlap of endless lists is
    (1 - p) * (A_1 + p A_2 + p^2 A_3 + ...): 1 for the same ranking, 0 for lists without a common item, and the first d
    ranks weigh more the smaller p is.

    Parameters
    ----------
    run_a, run_b : runs of any kind that ``fr.evaluate`` reads, over the same queries.
    p : persistence, above 0 and below 1; the expected depth of the comparison is 1 / (1 - p).
    k : compare the first k items only; ``None``: all.
    form : how the ranks that the lists do not have count.
        ``extrapolated``: they agree as much as the lists do so far (equation 32 of the paper, for lists of different
        lengths too); ``minimum``: they do not agree at all (RBO_MIN, a lower bound of what longer lists can give);
        ``truncated``: the sum over k ranks (without k, over those of the longer list), over its largest value, so that
        equal lists of that length give 1 (LensKit's).
    ties : order of items with equal scores in a list, as in ``fr.evaluate``: ``trec``, ``given``, ``id_desc``,
        ``id_asc``, ``random``.
    queries : labels of the rows, for runs that have none.
    seed : of ``ties="random"``.

    Returns
    -------
    Evaluation with one metric, ``rbo``: a value for every query that is in either run, ``nan`` where both lists are
    empty, 0 where one is.  It is symmetric in the runs.  ``counts["missing"]``: queries that only one run has.

    Raises
    ------
    ValueError : an item twice in a list, a NaN score, p outside (0, 1).

    Notes
    -----
    O(n log n) for n items in both runs.

    Examples
    --------
    >>> import fastrec as fr
    >>> round(fr.rbo({"q": ["a", "b", "c"]}, {"q": ["a", "c", "b"]}, p=0.9)["rbo"], 6)
    0.955
    """
    checks.choice(form, "form", FORMS)
    p = checks.number(p, "p", low=0.0, high=1.0)
    if not 0.0 < p < 1.0:
        raise ValueError(f"`p` must be above 0 and below 1; got {p:g}")
    pair = _Pair(run_a, run_b, k, ties, queries, seed)
    overlap = pair.overlaps()
    values = np.array(
        [
            _rbo(common, one, other, p, form, pair.k)
            for common, (one, other) in zip(overlap, pair.sizes.tolist())
        ]
    )
    return pair.result("rbo", values, f"rbo{pair.suffix}[p={p:g},form={form},ties={ties}]")


def overlap(
    run_a: Any, run_b: Any, k: int | None = None, *, ties: str = "trec", queries: Any = None, seed: int = 0
) -> Evaluation:
    """Share of the first k items that two runs have in common, query by query.

    The number of items in both of the first k, over k or over the length of the longer list where that is less (so that
    equal lists give 1).  Parameters and result as in :func:`rbo`; the metric is ``overlap``.
    """
    pair = _Pair(run_a, run_b, k, ties, queries, seed)
    longest = pair.sizes.max(axis=1) if len(pair.sizes) else np.zeros(0)
    common = np.array([counts[-1] if len(counts) else 0 for counts in pair.overlaps()], float)
    values = np.divide(common, longest, out=np.full(len(common), np.nan), where=longest > 0)
    return pair.result("overlap", values, f"overlap{pair.suffix}[ties={ties}]")


def _rbo(common: np.ndarray, one: int, other: int, p: float, form: str, k: int | None) -> float:
    """RBO of lists of two lengths, of whose first d items ``common[d - 1]`` are in both."""
    short, long = sorted((one, other))
    if long == 0:
        return math.nan
    if short == 0:
        return 0.0
    if form == "truncated" and k is not None:
        common = np.append(common, np.full(k - long, common[-1]))
    depth = np.arange(1, len(common) + 1)
    weight = p**depth
    if form == "truncated":
        return float((weight * common / depth).sum() / weight.sum())
    if form == "minimum":
        # beyond the lists nothing more is shared: sum of X_l p^d / d over d > l, by the series of the logarithm
        shared = ((common - common[-1]) * weight / depth).sum() - common[-1] * math.log1p(-p)
        return float((1 - p) / p * shared)
    past = depth[short:]  # where only one list has items, the other goes on agreeing as before
    agreed = (weight * common / depth).sum() + (
        common[short - 1] * (past - short) / (short * past) * weight[short:]
    ).sum()
    last = (common[-1] - common[short - 1]) / long + common[short - 1] / short
    return float((1 - p) / p * agreed + last * weight[-1])


class _Pair:
    """Two runs over the same queries, their lists in final order and cut at k."""

    def __init__(self, run_a: Any, run_b: Any, k: int | None, ties: str, queries: Any, seed: int) -> None:
        checks.choice(ties, "ties", TIES)
        self.k = None if k is None else checks.integer(k, "k", low=1)
        self.suffix = "" if k is None else f"@{k}"
        policy = resolve("trec", ties=ties, seed=seed)
        runs = [_read(run, name, queries) for run, name in ((run_a, "run_a"), (run_b, "run_b"))]
        if all(run.queries.values is None for run in runs) and len(runs[0]) != len(runs[1]):
            raise ValueError(
                "`run_a` and `run_b` must have the same rows where neither names its queries; "
                f"got {len(runs[0])} and {len(runs[1])}"
            )
        self.labels, rows = _joined([run.queries for run in runs])
        known = runs[0].queries.locate(self.labels) >= 0, runs[1].queries.locate(self.labels) >= 0
        self.missing = int((~known[0] | ~known[1]).sum())
        items, names = _joined_items(runs)
        self.numbered = all(run.queries.values is None for run in runs)
        self.lists = [
            _ranked(run, row, code, names, self.labels, policy, self.k, name)
            for run, row, code, name in zip(runs, rows, items, ("run_a", "run_b"))
        ]
        self.sizes = np.stack(
            [np.bincount(query, minlength=self.labels.size) for query, _, _ in self.lists], axis=1
        )

    def overlaps(self) -> list[np.ndarray]:
        """For each query, how many items are in both of the first d, for d up to the longer length."""
        (query_a, rank_a, item_a), (query_b, rank_b, item_b) = self.lists
        span = int(max(item_a.max(initial=-1), item_b.max(initial=-1))) + 1
        key_a, key_b = query_a * span + item_a, query_b * span + item_b
        order = np.argsort(key_b)
        place = np.searchsorted(key_b[order], key_a)
        place[place == len(order)] = 0
        met = (key_b[order][place] == key_a) if len(order) else np.zeros(len(key_a), bool)
        depth = np.maximum(rank_a[met], rank_b[order][place[met]])
        longest = self.sizes.max(axis=1) if len(self.sizes) else np.zeros(0, np.int64)
        ptr = np.concatenate(([0], np.cumsum(longest))).astype(np.int64)
        counts = np.cumsum(np.bincount(ptr[query_a[met]] + depth, minlength=ptr[-1]))
        before = np.concatenate(([0], counts))[ptr[:-1]]
        return [counts[ptr[q] : ptr[q + 1]] - before[q] for q in range(len(longest))]

    def result(self, name: str, values: np.ndarray, described: str) -> Evaluation:
        label = name + self.suffix
        counts = {"queries": len(values), "missing": self.missing}
        evaluation = Evaluation(
            [label], values.reshape(-1, 1), self.labels.array(), counts=counts, convention={label: described}
        )
        evaluation.numbered, evaluation.rows = self.numbered, len(values)
        return evaluation


def _read(run: Any, name: str, queries: Any) -> Run:
    try:
        return read_run(run, queries)
    except (TypeError, ValueError) as error:
        if type(error) not in (TypeError, ValueError):
            raise
        raise type(error)(str(error).replace("`run", f"`{name}")) from None


def _joined(labels: list[Labels]) -> tuple[Labels, list[np.ndarray]]:
    """The queries of both sides, those of the first in its order, and for each side the number of each of its own."""
    first, second = labels
    place = first.locate(second)
    fresh = place < 0
    place[fresh] = first.size + np.arange(int(fresh.sum()))
    if not fresh.any():
        return first, [np.arange(first.size), place]
    both = np.concatenate((first.array().astype(object), second.array()[fresh].astype(object)))
    if first.is_text or second.is_text:
        both = np.array([str(label) for label in both], object)
    else:
        both = both.astype(np.int64)
    return Labels.of(both), [np.arange(first.size), place]


def _joined_items(runs: list[Run]) -> tuple[list[np.ndarray], Labels]:
    """Codes of the items of both runs in one numbering, and its labels."""
    sides = []
    for run in runs:
        if run.items is None:
            distinct, codes = np.unique(run.ids, return_inverse=True)
            sides.append((codes, Labels.of(distinct.astype(np.int64))))
        else:
            sides.append((run.ids, run.items))
    labels, (first, second) = _joined([side[1] for side in sides])
    return [_recoded(sides[0][0], first), _recoded(sides[1][0], second)], labels


def _recoded(codes: np.ndarray, to: np.ndarray) -> np.ndarray:
    return np.where(codes >= 0, to[np.maximum(codes, 0)] if len(to) else codes, -1)


def _ranked(
    run: Run,
    row: np.ndarray,
    items: np.ndarray,
    names: Labels,
    queries: Labels,
    policy: Convention,
    k: int | None,
    name: str,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(query, rank from 0, item) of each item of the lists, in order of (query, rank)."""
    if run.ptr is None:
        query = np.repeat(row, run.width)
        real = run.ids.reshape(-1) != -1
    else:
        query, real = np.repeat(row, np.diff(run.ptr)), np.ones(len(items), bool)
    query, items = query[real], items[real].astype(np.int64)
    keys: list[np.ndarray] = []
    if run.scores is not None:
        scores = run.scores.reshape(-1)[real].astype(policy.score_precision)
        if np.isnan(scores).any():
            at = query[int(np.argmax(np.isnan(scores)))]
            raise ValueError(f"`{name}` has a score that is NaN, in query {queries[int(at)]!r}")
        keys = [*_tie_keys(items, names, query, queries, policy), -scores]
    order = np.lexsort((*keys, query))  # stable: what ties on every key stays as it was
    query, items = query[order], items[order]
    starts = np.flatnonzero(np.concatenate(([True], query[1:] != query[:-1]))[: len(query)])
    rank = np.arange(len(query)) - np.repeat(starts, np.diff(np.append(starts, len(query))))
    pairs = np.lexsort((items, query))
    same = (query[pairs][1:] == query[pairs][:-1]) & (items[pairs][1:] == items[pairs][:-1])
    if same.any():
        at = int(pairs[int(np.argmax(same))])
        raise ValueError(
            f"`{name}` has item {names[int(items[at])]!r} twice in query {queries[int(query[at])]!r}"
        )
    if k is not None:
        query, rank, items = query[rank < k], rank[rank < k], items[rank < k]
    return query, rank, items


def _tie_keys(
    items: np.ndarray, names: Labels, query: np.ndarray, queries: Labels, policy: Convention
) -> list[np.ndarray]:
    """What settles equal scores, ascending."""
    if policy.ties == "given" or not len(items):
        return []
    if policy.ties == "random":
        with np.errstate(over="ignore"):
            seeds = np.uint64(policy.seed) + _splitmix(queries.keys())
            step = np.uint64(0x9E3779B97F4A7C15)
            return [_splitmix(seeds[query] + names.keys()[items] * step)]
    numeric = policy.ties != "trec" and not names.is_text
    rank = np.argsort(np.argsort(names.array())) if numeric else names.ranks()
    return [rank[items] if policy.ties == "id_asc" else -rank[items]]


def _splitmix(z: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
