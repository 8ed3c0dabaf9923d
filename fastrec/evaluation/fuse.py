"""``fr.fuse``: one ranking out of several, by scores, ranks or votes."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from fastrec._core import arrays, checks, columns
from fastrec.evaluation.per_query import shown
from fastrec.ranking.result import TopK

NORMS = ("min_max", "max", "sum", "z_score", "rank", "borda")
_SCORE_METHODS = ("combsum", "combmnz", "combgmnz", "combanz", "combmax", "combmin", "combmed")
_RANK_METHODS = ("rrf", "isr", "log_isr", "logn_isr", "rbc", "borda", "condorcet")
METHODS = (*_RANK_METHODS, *_SCORE_METHODS)
# Names that other libraries use for the same thing.
_ALIASES = {
    **{f"comb_{name}": f"comb{name}" for name in ("sum", "mnz", "gmnz", "anz", "max", "min", "med")},
    **{name: f"comb{name}" for name in ("sum", "mnz", "gmnz", "anz", "max", "min", "med")},
    "wsum": "combsum",
    "bordafuse": "borda",
}
_NORM_ALIASES = {"zmuv": "z_score"}


def fuse(
    runs: Sequence[Any] | Mapping[str, Any],
    method: str = "rrf",
    *,
    norm: str | None = "min_max",
    weights: Sequence[float] | Mapping[str, float] | None = None,
    k: int | None = None,
    rank_constant: float = 60,
    persistence: float = 0.8,
    gamma: float = 2.0,
    sigma: float = 0.01,
) -> Any:
    """Fuse two or more runs over the same queries into one.

    Parameters
    ----------
    runs : sequence, or mapping of name to run
        All of one kind: ``TopK``, (Q, k) id matrices (-1 is padding) or ``(ids, scores)`` pairs of matrices;
        pandas, polars or Arrow frames with columns ``query, item`` and ``score`` or ``rank``; dicts of
        ``{query: {item: score}}``; paths of files that ``fr.evaluate`` reads, which become pandas frames.
        Without scores or ranks the given order is the ranking.
    method : str
        With r the item's rank in a run (from 1), s its normalised score, and c the number of runs that hold
        it:

        ========== ================================================= ===================================
        rrf        sum of 1 / (rank_constant + r)                    Cormack, Clarke, Büttcher 2009
        isr        c * sum of 1 / r^2                                Mourão, Martins, Magalhães 2013
        log_isr    log(c) * sum of 1 / r^2                           the same
        logn_isr   log(c + sigma) * sum of 1 / r^2                   the same
        rbc        sum of (1 - persistence) persistence^(r - 1)      Bailey, Moffat, Scholer, Thomas 2017
        borda      sum of C - r + 1 of the query's C candidates,     Aslam, Montague 2001
                   those a run does not hold sharing what is left
        condorcet  candidates beaten by majority, ties counted half  Montague, Aslam 2002 (Copeland's count)
        combsum    sum of s                                          Fox, Shaw 1994, as all that follow
        combmnz    c * sum of s
        combgmnz   c^gamma * sum of s                                Lee 1997
        combanz    sum of s / c
        combmax    largest, combmin smallest, combmed median s
        ========== ================================================= ===================================

    norm : str or None
        Of each run's scores, query by query, for the ``comb`` methods (the others do not look at scores):
        ``"min_max"`` to 0..1; ``"max"`` by the largest; ``"sum"`` shifted to 0 and scaled to sum 1;
        ``"z_score"`` to mean 0 and deviation 1; ``"rank"`` 1 - (r - 1) / n of the run's n items; ``"borda"``
        the same of all C candidates, with a share for those that the run lacks; None leaves them.
        A list whose scores are all equal has min_max 1, z_score 0 and sum 1 / n; a list whose largest score
        is 0 is left as it is by max.
    weights : one number a run, or mapping of name to number
        Multiplies the run's contribution (its vote, for condorcet).
    k : int or None
        Keep the best k of each query.
    rank_constant, persistence, gamma, sigma
        Of rrf, rbc, combgmnz and logn_isr.

    Returns
    -------
    TopK, frame or dict, as the runs were
        Fused scores are float64.  Order: score descending, then item ascending.  Equal items tie exactly: the
        order of the runs does not matter, not even by rounding.  Queries come in order of first appearance;
        one that some run lacks is fused from the others.  Frames have columns query, rank, item, score.

    Raises
    ------
    ValueError
        Fewer than two runs, matrices with different numbers of queries, an item twice in a query's list,
        scores that are not finite or missing where the method needs them.
    TypeError
        Runs of different kinds, or ids of different kinds.

    Notes
    -----
    O(n log n) time and O(n * runs) memory for n (query, item) candidates.  condorcet is O(C^2) a query.
    """
    method = checks.choice(_ALIASES.get(method, method), "method", METHODS)
    if norm is not None:
        norm = norm.replace("-", "_") if isinstance(norm, str) else norm
        norm = checks.choice(_NORM_ALIASES.get(norm, norm), "norm", NORMS)
    k = None if k is None else checks.integer(k, "k", low=1)
    settings = _Settings(
        rank_constant=checks.number(rank_constant, "rank_constant", low=0),
        persistence=checks.number(persistence, "persistence", low=0, high=1),
        gamma=checks.number(gamma, "gamma"),
        sigma=checks.number(sigma, "sigma", low=0),
    )
    names, given = _named(runs)
    given = [_opened(run) for run in given]
    scale = _weights(weights, names)
    shape = _shape_of(given, names)
    tables = shape.read(given, names)
    lacking = next((name for name, table in zip(names, tables) if table.score is None), None)
    if lacking is not None and method in _SCORE_METHODS and norm not in ("rank", "borda"):
        raise ValueError(
            f"method {method!r} needs scores, which {lacking} lacks; give (ids, scores), a `score` column, "
            "norm='rank', or use a method of ranks like 'rrf'"
        )
    pool = _Pool.of(tables, shape.items, names, shape.label)
    fused = _fused(pool, method, norm, scale, settings)
    order = _order_within(pool.query, -fused)  # the pool is in order of items, which settles ties
    rank = _rank_in_group(pool.query[order]) + 1
    if k is not None:
        order, rank = order[rank <= k], rank[rank <= k]
    return shape.write(pool.query[order], pool.item[order], rank, fused[order])


@dataclass(frozen=True, slots=True)
class _Settings:
    rank_constant: float
    persistence: float
    gamma: float
    sigma: float


@dataclass(frozen=True, slots=True)
class _Table:
    """One run as columns, in order of (query, rank)."""

    query: np.ndarray  # (n,) int64 codes
    item: np.ndarray  # (n,) int64 codes; their order is the order of items
    score: np.ndarray | None  # (n,) float64
    rank: np.ndarray  # (n,) int64, from 1

    @classmethod
    def of(cls, query: np.ndarray, item: np.ndarray, score: Any, position: np.ndarray, name: str) -> _Table:
        """Sort by query, score descending, then ``position``; scores must be finite."""
        if score is not None and not np.isfinite(score).all():
            raise ValueError(f"{name} must have finite scores; got {score[~np.isfinite(score)][0]}")
        keys = [query, position] if score is None else [query, -score, position]
        if not _sorted(keys):  # as matrices from an index are
            order = np.lexsort(keys[::-1])
            query, item, score = query[order], item[order], None if score is None else score[order]
        return cls(query, item, score, _rank_in_group(query) + 1)


def _sorted(keys: list[np.ndarray]) -> bool:
    """Are the rows in lexicographic order of the keys, the first key first?"""
    rising = np.zeros(max(len(keys[0]) - 1, 0), dtype=bool)
    level = ~rising
    for key in keys:
        step = key[1:] - key[:-1]
        rising |= level & (step > 0)
        level &= step == 0
    return bool((rising | level).all())


def _order_within(groups: np.ndarray, key: np.ndarray) -> np.ndarray:
    """The stable order by ``key`` ascending within each stretch of equal groups."""
    starts = _starts(groups)
    sizes = np.diff(np.append(starts, len(groups)))
    width = int(sizes.max(initial=0))
    if len(starts) * width > 4 * len(groups):  # too ragged to pad
        return np.lexsort((key, groups))
    # Sorting the rows of a padded matrix stays in cache; the padding sorts last.
    held = np.arange(width) < sizes[:, None]
    padded = np.full(held.shape, np.inf)
    padded[held] = key
    return (starts[:, None] + np.argsort(padded, axis=1, kind="stable"))[held]


def _rank_in_group(groups: np.ndarray) -> np.ndarray:
    """0, 1, 2 ... within each stretch of equal numbers."""
    starts = _starts(groups)
    return np.arange(len(groups)) - np.repeat(starts, np.diff(np.append(starts, len(groups))))


def _starts(groups: np.ndarray) -> np.ndarray:
    return np.flatnonzero(np.concatenate([[len(groups) > 0], groups[1:] != groups[:-1]]))


# The candidates of all runs, and what each method makes of them -------------------------------------------


@dataclass(frozen=True, slots=True)
class _Pool:
    """Every (query, item) that some run holds, sorted, with its place in each of the R runs."""

    query: np.ndarray  # (n,)
    item: np.ndarray  # (n,)
    row: list[np.ndarray]  # for each run, the candidates it holds
    tables: list[_Table]

    @classmethod
    def of(
        cls, tables: list[_Table], items: int, names: list[str], label: Callable[[int, int], str]
    ) -> _Pool:
        keys = [table.query * items + table.item for table in tables]
        for key, name in zip(keys, names):
            held = np.sort(key)
            twice = np.flatnonzero(held[1:] == held[:-1])
            if len(twice):
                repeated = label(*divmod(int(held[twice[0]]), items))
                raise ValueError(f"{name} must hold each item of a query once; {repeated} is repeated")
        merged = np.sort(np.concatenate(keys))
        candidates = merged[_starts(merged)]
        query, item = np.divmod(candidates, max(items, 1))
        return cls(query, item, [np.searchsorted(candidates, key) for key in keys], tables)

    def spread(self, values: list[np.ndarray], absent: float | np.ndarray = np.nan) -> np.ndarray:
        """(n, R): each run's values at its candidates, ``absent`` where it lacks one."""
        table = np.empty((len(self.query), len(self.tables)))
        table[:] = absent
        for run, (row, value) in enumerate(zip(self.row, values)):
            table[row, run] = value
        return table

    @property
    def candidates(self) -> np.ndarray:
        """(n,): how many candidates the query of each has."""
        return _per_group(self.query, np.ones(len(self.query)), np.add)

    def listed(self) -> np.ndarray:
        """(n, R): how many items each run lists for the candidate's query."""
        queries = int(self.query[-1]) + 1 if len(self.query) else 0
        return np.stack([np.bincount(t.query, minlength=queries)[self.query] for t in self.tables], axis=1)


def _per_group(groups: np.ndarray, values: np.ndarray, reduce: np.ufunc) -> np.ndarray:
    """Reduce the values of each stretch of equal groups, and give every member the result."""
    if len(groups) == 0:
        return values
    starts = _starts(groups)
    return np.repeat(reduce.reduceat(values, starts), np.diff(np.append(starts, len(groups))))


def _fused(pool: _Pool, method: str, norm: str | None, scale: np.ndarray, settings: _Settings) -> np.ndarray:
    if method == "condorcet":
        return _condorcet(pool, scale)
    ranks = [table.rank.astype(np.float64) for table in pool.tables]
    if method == "rrf":
        terms = pool.spread([1 / (settings.rank_constant + rank) for rank in ranks])
    elif method in ("isr", "log_isr", "logn_isr"):
        terms = pool.spread([1 / rank**2 for rank in ranks])
    elif method == "rbc":
        p = settings.persistence
        terms = pool.spread([(1 - p) * p ** (rank - 1) for rank in ranks])
    elif method == "borda" or norm == "borda":
        terms = _borda(pool, ranks, norm="points" if method == "borda" else "share")
    else:
        terms = pool.spread([_normalised(table, norm) for table in pool.tables])
    return _combined(terms * scale, method, settings)


def _combined(terms: np.ndarray, method: str, settings: _Settings) -> np.ndarray:
    """(n,) out of (n, R) contributions, NaN where a run has none to make."""
    # Sorted first, so that the sum does not depend on which run gave which term.  NaN goes last, and every
    # candidate is in some run.
    terms = np.sort(terms, axis=1)
    count = (~np.isnan(terms)).sum(axis=1)
    row = np.arange(len(terms))
    if method == "combmax":
        return terms[row, count - 1]
    if method == "combmin":
        return terms[row, 0]
    if method == "combmed":
        return (terms[row, (count - 1) // 2] + terms[row, count // 2]) / 2
    total = np.nan_to_num(terms).sum(axis=1)
    if method in ("combmnz", "isr"):
        return total * count
    if method == "combgmnz":
        return total * count**settings.gamma
    if method == "combanz":
        return total / count
    if method == "log_isr":
        return total * np.log(count)
    if method == "logn_isr":
        return total * np.log(count + settings.sigma)
    return total  # combsum, rrf, rbc, borda


def _normalised(table: _Table, norm: str | None) -> np.ndarray:
    groups = table.query
    if norm == "rank":
        return 1 - (table.rank - 1) / _per_group(groups, np.ones(len(groups)), np.add)
    assert table.score is not None  # fuse() has looked
    score = table.score
    if norm is None:
        return score
    if norm == "max":
        high = _per_group(groups, score, np.maximum)
        return score / np.where(high == 0, 1.0, np.abs(high))
    size = _per_group(groups, np.ones(len(groups)), np.add)
    if norm == "z_score":
        centred = score - _per_group(groups, score, np.add) / size
        deviation = np.sqrt(_per_group(groups, centred**2, np.add) / size)
        flat = _per_group(groups, score, np.maximum) == _per_group(groups, score, np.minimum)
        return np.where(flat, 0.0, centred / np.where(flat, 1.0, deviation))
    low = _per_group(groups, score, np.minimum)
    shifted = score - low
    whole = _per_group(groups, shifted, np.maximum if norm == "min_max" else np.add)
    flat_value = np.ones(len(score)) if norm == "min_max" else 1 / size
    return np.where(whole == 0, flat_value, shifted / np.where(whole == 0, 1.0, whole))


def _borda(pool: _Pool, ranks: list[np.ndarray], norm: str) -> np.ndarray:
    """(n, R): C - r + 1 points of C candidates; what a run does not list shares the points it has left."""
    candidates = pool.candidates[:, None]
    left = (candidates - pool.listed() + 1) / 2
    points = pool.spread([pool.candidates[row] - rank + 1 for row, rank in zip(pool.row, ranks)], absent=left)
    return points if norm == "points" else points / candidates


def _condorcet(pool: _Pool, scale: np.ndarray) -> np.ndarray:
    """Copeland's count: how many of the query's candidates each beats in a majority of the runs' votes.

    A run votes for the item it ranks higher, listed before not listed; between two that it does not list, it
    does not vote.
    """
    ranks = pool.spread([table.rank.astype(np.float64) for table in pool.tables], absent=np.inf)
    wins = np.zeros(len(ranks))
    ends = [*_starts(pool.query), len(ranks)] if len(ranks) else []
    for start, stop in pairwise(ends):
        votes = np.zeros((stop - start, stop - start))
        for run, weight in enumerate(scale):
            rank = ranks[start:stop, run]
            votes += weight * ((rank[:, None] < rank).astype(np.float64) - (rank[:, None] > rank))
        votes[np.abs(votes) <= 1e-12 * np.abs(scale).sum()] = 0  # weights that cancel, but for rounding
        wins[start:stop] = (votes > 0).sum(axis=1) + ((votes == 0).sum(axis=1) - 1) / 2
    return wins


# Reading runs and writing the result ------------------------------------------------------------------------


def _named(runs: Any) -> tuple[list[str], list[Any]]:
    """Names to put into messages (``runs[0]``), and the runs."""
    if isinstance(runs, Mapping):
        names, given = [f"runs[{name!r}]" for name in runs], list(runs.values())
    elif isinstance(runs, Iterable) and not isinstance(runs, (str, bytes, np.ndarray, TopK)):
        given = list(runs)
        names = [f"runs[{number}]" for number in range(len(given))]
    else:
        raise TypeError(f"`runs` must be a sequence of runs; got {type(runs).__name__}")
    if len(given) < 2:
        raise ValueError(f"`runs` must hold at least two runs to fuse; got {len(given)}")
    return names, given


def _weights(weights: Any, names: list[str]) -> np.ndarray:
    if weights is None:
        return np.ones(len(names))
    if isinstance(weights, Mapping):
        by_name = {f"runs[{name!r}]": weight for name, weight in weights.items()}
        if set(by_name) != set(names):
            raise ValueError(f"`weights` must name the runs {names}; got {list(weights)}")
        weights = [by_name[name] for name in names]
    scale = checks.vector(weights, "weights", dtype=np.float64, size=len(names), like="one a run")
    if not np.isfinite(scale).all():
        raise ValueError(f"`weights` must be finite; got {scale.tolist()}")
    return scale


def _opened(run: Any) -> Any:
    """A path as the frame that it holds, a run of ranx as a dict, anything else as it is."""
    if isinstance(run, (str, os.PathLike)):
        from fastrec.data.files import read_run

        return read_run(run)
    return run.to_dict() if type(run).__module__.startswith("ranx") else run


class _Shape(ABC):
    """A kind of run: how to read all of them as tables of codes, and how to write codes back."""

    items: int

    @abstractmethod
    def read(self, runs: list[Any], names: list[str]) -> list[_Table]: ...

    @abstractmethod
    def label(self, query: int, item: int) -> str:
        """What to call a (query, item) in a message."""

    @abstractmethod
    def write(self, query: np.ndarray, item: np.ndarray, rank: np.ndarray, score: np.ndarray) -> Any: ...


def _shape_of(runs: list[Any], names: list[str]) -> _Shape:
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

    def read(self, runs: list[Any], names: list[str]) -> list[_Table]:
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
            tables.append(_Table.of(query, item, picked, position, name))
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

    def read(self, runs: list[Any], names: list[str]) -> list[_Table]:
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
            tables.append(_Table.of(query, item, score, position, name))
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
    """Dicts of {query: {item: score}}."""

    description = "a dict"

    def read(self, runs: list[Any], names: list[str]) -> list[_Table]:
        parts: list[tuple[np.ndarray, np.ndarray, np.ndarray, list[Any]]] = []
        for run, name in zip(runs, names):
            for query, scores in run.items():
                if not isinstance(scores, Mapping):
                    raise TypeError(
                        f"{name} must be a dict of {{query: {{item: score}}}}; the value of {query!r} is "
                        f"{type(scores).__name__}"
                    )
            # Every query once, with those that have no items: they are in the result too.
            parts.append(
                (
                    _objects(run),
                    np.repeat(np.arange(len(run)), [len(scores) for scores in run.values()]),
                    _objects(item for scores in run.values() for item in scores),
                    [score for scores in run.values() for score in scores.values()],
                )
            )
        codes, self.query_labels = _codes([part[0] for part in parts], names, "queries", sort=False)
        items, self.item_labels = _codes([part[2] for part in parts], names, "items", sort=True)
        self.items = len(self.item_labels)
        tables = []
        for code, item, (_, row, _, values), name in zip(codes, items, parts, names):
            score = checks.real(values, f"the scores of {name}").astype(np.float64)
            tables.append(_Table.of(code[row], item, score, item, name))
        return tables

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
