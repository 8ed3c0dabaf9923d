"""Runs to be fused as columns of codes, and the candidates that they hold together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Table:
    """One run as columns, in order of (query, rank)."""

    query: np.ndarray  # (n,) int64 codes
    item: np.ndarray  # (n,) int64 codes; their order is the order of items
    score: np.ndarray | None  # (n,) float64
    rank: np.ndarray  # (n,) int64, from 1

    @classmethod
    def of(cls, query: np.ndarray, item: np.ndarray, score: Any, position: np.ndarray, name: str) -> Table:
        """Sort by query, score descending, then ``position``; scores must be finite."""
        if score is not None and not np.isfinite(score).all():
            raise ValueError(f"{name} must have finite scores; got {score[~np.isfinite(score)][0]}")
        keys = [query, position] if score is None else [query, -score, position]
        if not _sorted(keys):  # as matrices from an index are
            order = np.lexsort(keys[::-1])
            query, item, score = query[order], item[order], None if score is None else score[order]
        return cls(query, item, score, rank_in_group(query) + 1)


def _sorted(keys: list[np.ndarray]) -> bool:
    """Are the rows in lexicographic order of the keys, the first key first?"""
    rising = np.zeros(max(len(keys[0]) - 1, 0), dtype=bool)
    level = ~rising
    for key in keys:
        step = key[1:] - key[:-1]
        rising |= level & (step > 0)
        level &= step == 0
    return bool((rising | level).all())


def order_within(groups: np.ndarray, key: np.ndarray) -> np.ndarray:
    """The stable order by ``key`` ascending within each stretch of equal groups."""
    starts = starts_of(groups)
    sizes = np.diff(np.append(starts, len(groups)))
    width = int(sizes.max(initial=0))
    if len(starts) * width > 4 * len(groups):  # too ragged to pad
        return np.lexsort((key, groups))
    # Sorting the rows of a padded matrix stays in cache; the padding sorts last.
    held = np.arange(width) < sizes[:, None]
    padded = np.full(held.shape, np.inf)
    padded[held] = key
    return (starts[:, None] + np.argsort(padded, axis=1, kind="stable"))[held]


def rank_in_group(groups: np.ndarray) -> np.ndarray:
    """0, 1, 2 ... within each stretch of equal numbers."""
    starts = starts_of(groups)
    return np.arange(len(groups)) - np.repeat(starts, np.diff(np.append(starts, len(groups))))


def starts_of(groups: np.ndarray) -> np.ndarray:
    return np.flatnonzero(np.concatenate([[len(groups) > 0], groups[1:] != groups[:-1]]))


@dataclass(frozen=True, slots=True)
class Pool:
    """Every (query, item) that some run holds, sorted, with its place in each of the R runs."""

    query: np.ndarray  # (n,)
    item: np.ndarray  # (n,)
    row: list[np.ndarray]  # for each run, the candidates it holds
    tables: list[Table]

    @classmethod
    def of(cls, tables: list[Table], items: int, names: list[str], label: Callable[[int, int], str]) -> Pool:
        keys = [table.query * items + table.item for table in tables]
        for key, name in zip(keys, names):
            held = np.sort(key)
            twice = np.flatnonzero(held[1:] == held[:-1])
            if len(twice):
                repeated = label(*divmod(int(held[twice[0]]), items))
                raise ValueError(f"{name} must hold each item of a query once; {repeated} is repeated")
        merged = np.sort(np.concatenate(keys))
        candidates = merged[starts_of(merged)]
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
        return per_group(self.query, np.ones(len(self.query)), np.add)

    def listed(self) -> np.ndarray:
        """(n, R): how many items each run lists for the candidate's query."""
        queries = int(self.query[-1]) + 1 if len(self.query) else 0
        return np.stack([np.bincount(t.query, minlength=queries)[self.query] for t in self.tables], axis=1)


def per_group(groups: np.ndarray, values: np.ndarray, reduce: np.ufunc) -> np.ndarray:
    """Reduce the values of each stretch of equal groups, and give every member the result."""
    if len(groups) == 0:
        return values
    starts = starts_of(groups)
    return np.repeat(reduce.reduceat(values, starts), np.diff(np.append(starts, len(groups))))
