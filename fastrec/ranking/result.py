"""``TopK``: what ranking returns, and what evaluation reads without a conversion."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class TopK:
    """The best items of each query, best first.

    Attributes
    ----------
    rows : (Q, k) int64
        Row positions in the item matrix; -1 where there was nothing left to return.
    scores : (Q, k) float32
        Canonical scores, higher is better; -inf beside a -1.
    labels : (N,) array or None
        The external id of each item row, where the index was given ``ids=``.

    Order within a query: score descending, then row position ascending.  Unpacks as ``ids, scores = top``.
    """

    rows: Any
    scores: Any
    labels: Any = None

    @property
    def ids(self) -> Any:
        """(Q, k) item ids: the rows, or their labels; -1 (``None`` for labels that are not integers) is padding."""
        if self.labels is None:
            return self.rows
        integers = self.labels.dtype.kind in "iu"
        rows = _to_host(self.rows)
        found = rows >= 0
        picked = np.full(rows.shape, -1 if integers else None, np.int64 if integers else object)
        picked[found] = self.labels[rows[found]]
        return picked

    @property
    def counts(self) -> Any:
        """(Q,) int64: how many items each query got; fewer than k where exclusions or a short catalogue left fewer."""
        return (self.rows >= 0).sum(axis=1)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Any]:
        yield self.ids
        yield self.scores

    def to_frame(self, queries: Any = None) -> pd.DataFrame:
        """A pandas frame ``query, rank, item, score``, one row per returned item; padding is left out.

        ``queries`` gives each query's label; without it they are numbered from 0.  ``rank`` counts from 1.
        """
        import pandas as pd

        rows, scores, ids = (_to_host(a) for a in (self.rows, self.scores, self.ids))
        query, place = np.nonzero(rows >= 0)
        labels = query
        if queries is not None:
            queries = np.asarray(queries)
            if queries.shape != (len(rows),):
                raise ValueError(
                    f"`queries` must have one label per query, shape ({len(rows)},); got {queries.shape}"
                )
            labels = queries[query]
        return pd.DataFrame(
            {"query": labels, "rank": place + 1, "item": ids[query, place], "score": scores[query, place]}
        )


def _to_host(array: Any) -> np.ndarray:
    return array if isinstance(array, np.ndarray) else array.get()
