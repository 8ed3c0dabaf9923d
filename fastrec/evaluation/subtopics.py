"""Judgements by subtopic (intent, aspect): what each judged item is relevant to, beside the judgements themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastrec.evaluation.ids import Labels


@dataclass(frozen=True)
class Subtopics:
    """The subtopics of each judgement t: ``codes[ptr[t]:ptr[t + 1]]`` with their ``gains``.

    Codes are places in ``labels``, which are in ascending order, as numbers or as text: the order in which the rows
    came does not matter to any sum.
    """

    ptr: np.ndarray  # (judgements + 1,) int64
    codes: np.ndarray  # int64
    gains: np.ndarray  # float64
    labels: Labels

    def take(self, judgements: np.ndarray) -> Subtopics:
        """The subtopics of some judgements, in their order."""
        sizes = np.diff(self.ptr)[judgements]
        ptr = np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)
        places = np.repeat(self.ptr[:-1][judgements] - ptr[:-1], sizes) + np.arange(ptr[-1])
        return Subtopics(ptr, self.codes[places], self.gains[places], self.labels)

    def relevant(self, rows: np.ndarray, queries: int, level: float | None) -> tuple[Any, Any, Any]:
        """(ptr, numbers, counts) of what is relevant: in each query its subtopics are numbered from 0.

        ``rows`` is the query of each judgement.  A subtopic without a relevant item has no number.
        """
        kept = self.gains > 0 if level is None else self.gains >= level
        ptr = np.concatenate(([0], np.cumsum(kept)))[self.ptr].astype(np.int64)
        key = (np.repeat(rows, np.diff(self.ptr)) * max(self.labels.size, 1) + self.codes)[kept]
        distinct, place = np.unique(key, return_inverse=True)
        counts = np.bincount(distinct // max(self.labels.size, 1), minlength=queries)
        first = np.concatenate(([0], np.cumsum(counts)))
        row_of = distinct // max(self.labels.size, 1)
        numbers = (place - first[row_of[place]]) if len(distinct) else np.zeros(0)
        return ptr, numbers.astype(np.int32), counts.astype(np.int32)


def merged(
    rows: np.ndarray, items: np.ndarray, codes: np.ndarray, gains: np.ndarray, labels: Labels, queries: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Subtopics]:
    """Judgements of (query, item) out of those of (query, subtopic, item): (ptr, items, gains, subtopics).

    An item's gain is the largest that a subtopic gives it.
    """
    order = np.lexsort((codes, items, rows))
    rows, items, codes, gains = rows[order], items[order], codes[order], gains[order]
    new = np.concatenate(([True], (rows[1:] != rows[:-1]) | (items[1:] != items[:-1])))[: len(rows)]
    starts = np.flatnonzero(new)
    ends = np.append(starts, len(rows)).astype(np.int64)
    largest = np.maximum.reduceat(gains, starts) if len(starts) else gains
    counts = np.bincount(rows[starts], minlength=queries)
    ptr = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
    return ptr, items[starts], largest, Subtopics(ends, codes, gains, labels)
