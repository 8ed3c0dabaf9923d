"""``fr.fuse``: one ranking out of several, by scores, ranks or votes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from fastrec._core import checks
from fastrec.evaluation.fuse_runs import opened, shape_of
from fastrec.evaluation.fuse_tables import Pool, Table, order_within, per_group, rank_in_group, starts_of
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
        ``{query: {item: score}}`` or ``{query: [items]}``; paths of files that ``fr.evaluate`` reads, which
        become pandas frames.  Without scores or ranks the given order is the ranking.
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
        ``"min_max"`` to 0..1; ``"max"`` by the largest's magnitude; ``"sum"`` shifted to 0 and scaled to sum 1;
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
    given = [opened(run) for run in given]
    scale = _weights(weights, names)
    shape = shape_of(given, names)
    tables = shape.read(given, names)
    lacking = next((name for name, table in zip(names, tables) if table.score is None), None)
    if lacking is not None and method in _SCORE_METHODS and norm not in ("rank", "borda"):
        raise ValueError(
            f"method {method!r} needs scores, which {lacking} lacks; give (ids, scores), a `score` column, "
            "norm='rank', or use a method of ranks like 'rrf'"
        )
    pool = Pool.of(tables, shape.items, names, shape.label)
    fused = _fused(pool, method, norm, scale, settings)
    order = order_within(pool.query, -fused)  # the pool is in order of items, which settles ties
    rank = rank_in_group(pool.query[order]) + 1
    if k is not None:
        order, rank = order[rank <= k], rank[rank <= k]
    return shape.write(pool.query[order], pool.item[order], rank, fused[order])


@dataclass(frozen=True, slots=True)
class _Settings:
    rank_constant: float
    persistence: float
    gamma: float
    sigma: float


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


def _fused(pool: Pool, method: str, norm: str | None, scale: np.ndarray, settings: _Settings) -> np.ndarray:
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


def _normalised(table: Table, norm: str | None) -> np.ndarray:
    groups = table.query
    if norm == "rank":
        return 1 - (table.rank - 1) / per_group(groups, np.ones(len(groups)), np.add)
    assert table.score is not None  # fuse() has looked
    score = table.score
    if norm is None:
        return score
    if norm == "max":
        high = per_group(groups, score, np.maximum)
        return score / np.where(high == 0, 1.0, np.abs(high))
    size = per_group(groups, np.ones(len(groups)), np.add)
    if norm == "z_score":
        centred = score - per_group(groups, score, np.add) / size
        deviation = np.sqrt(per_group(groups, centred**2, np.add) / size)
        flat = per_group(groups, score, np.maximum) == per_group(groups, score, np.minimum)
        return np.where(flat, 0.0, centred / np.where(flat, 1.0, deviation))
    low = per_group(groups, score, np.minimum)
    shifted = score - low
    whole = per_group(groups, shifted, np.maximum if norm == "min_max" else np.add)
    flat_value = np.ones(len(score)) if norm == "min_max" else 1 / size
    return np.where(whole == 0, flat_value, shifted / np.where(whole == 0, 1.0, whole))


def _borda(pool: Pool, ranks: list[np.ndarray], norm: str) -> np.ndarray:
    """(n, R): C - r + 1 points of C candidates; what a run does not list shares the points it has left."""
    candidates = pool.candidates[:, None]
    left = (candidates - pool.listed() + 1) / 2
    points = pool.spread([pool.candidates[row] - rank + 1 for row, rank in zip(pool.row, ranks)], absent=left)
    return points if norm == "points" else points / candidates


def _condorcet(pool: Pool, scale: np.ndarray) -> np.ndarray:
    """Copeland's count: how many of the query's candidates each beats in a majority of the runs' votes.

    A run votes for the item it ranks higher, listed before not listed; between two that it does not list, it
    does not vote.
    """
    ranks = pool.spread([table.rank.astype(np.float64) for table in pool.tables], absent=np.inf)
    wins = np.zeros(len(ranks))
    ends = [*starts_of(pool.query), len(ranks)] if len(ranks) else []
    for start, stop in pairwise(ends):
        votes = np.zeros((stop - start, stop - start))
        for run, weight in enumerate(scale):
            rank = ranks[start:stop, run]
            votes += weight * ((rank[:, None] < rank).astype(np.float64) - (rank[:, None] > rank))
        votes[np.abs(votes) <= 1e-12 * np.abs(scale).sum()] = 0  # weights that cancel, but for rounding
        wins[start:stop] = (votes > 0).sum(axis=1) + ((votes == 0).sum(axis=1) - 1) / 2
    return wins
