"""What catalogue metrics read from: the first k of every list, and what is known about items and users.

Lists may be on a card.  What is as large as they are is then computed there; numbers of items and of lists come back.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from fastrec._core import arrays
from fastrec.evaluation.catalog_counts import catalog_counts
from fastrec.evaluation.ids import fetch


class Undefined(Exception):
    """A metric has no value on these lists; the message says why."""


class Catalog:
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

    def given(self, name: str) -> Any:
        return self._given[name]

    def cut(self, k: int) -> Lists:
        return Lists(self, k)

    @cached_property
    def user_share(self) -> np.ndarray:
        """Share of the users who know each item, an item nobody knows counting as known by one user."""
        return np.maximum(self.users_of_items, 1.0) / float(self.need("n_users"))

    @cached_property
    def users_of_items(self) -> np.ndarray:
        """Popularity as a number of users, which cannot be more than there are."""
        popularity, users = self.need("popularity"), self.need("n_users")
        if popularity.max(initial=0) > users:
            item = int(popularity.argmax())
            raise ValueError(
                f"`popularity` must not be above `n_users`, {users}, for metrics over users; item {item} has "
                f"{popularity[item]:g}. Count users, not interactions, or give the `n_users` that it was counted over"
            )
        return np.asarray(popularity)

    @cached_property
    def tail_order(self) -> np.ndarray:
        """Items from the most to the least popular, ties by id."""
        return np.argsort(-self.need("popularity"), kind="stable")


class Lists:
    """The first k ids of every list."""

    def __init__(self, catalog: Catalog, k: int) -> None:
        self.catalog, self.k = catalog, k
        counted = catalog_counts(catalog.ids, catalog.n_items, k, threads=catalog.threads)
        self.xp = arrays.namespace(catalog.ids)
        self.counts, self.lengths = fetch(counted.items), fetch(counted.lengths)
        self.duplicate = counted.duplicate
        self.lists = len(self.lengths)
        self.used = int(np.count_nonzero(self.lengths))
        longest = int(self.lengths.max(initial=0))
        self.length = longest if longest and int(self.lengths.min()) == longest else 0  # 0: they differ

    def some(self) -> None:
        if not self.used:
            raise Undefined("no list holds an item")

    @cached_property
    def ids(self) -> Any:
        return self.catalog.ids[:, : self.k]

    @cached_property
    def listed(self) -> Any:
        return self.ids >= 0

    def there(self, array: np.ndarray) -> Any:
        """A host array where the lists are."""
        return array if self.xp is np else self.xp.asarray(array)

    def of_items(self, of_item: np.ndarray) -> Any:
        """A property of items for each (list, place); that of item 0 where there is none."""
        return self.there(of_item)[self.xp.maximum(self.ids, 0)]

    def weighted(self, weights: np.ndarray) -> np.ndarray:
        """Sum over the lists of a weight for each place, (k,), or list, (Q, 1), by item."""
        if self.xp is not np:
            return self._weighted_there(weights)
        weights = np.broadcast_to(weights, self.ids.shape)
        return np.bincount(self.ids[self.listed], weights[self.listed], minlength=self.catalog.n_items)

    def _weighted_there(self, weights: np.ndarray) -> np.ndarray:
        """Counts times weights, so that no sum of fractions depends on the order in which a card adds."""
        xp, items = self.xp, self.catalog.n_items
        total = xp.zeros(items, np.float64)
        if weights.ndim == 1:
            for place, weight in enumerate(weights.tolist()):
                column = self.ids[:, place]
                total += weight * xp.bincount(column[column >= 0], minlength=items)
        else:
            for weight in np.unique(weights).tolist():
                rows = self.ids[self.there(weights[:, 0] == weight)]
                total += weight * xp.bincount(rows[rows >= 0], minlength=items)
        return fetch(total)

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
        sums = fetch(self.xp.where(self.listed, self.of_items(of_item), 0.0).sum(axis=1))
        return np.divide(sums, self.lengths, out=np.full(self.lists, np.nan), where=self.lengths > 0)

    @cached_property
    def exposure(self) -> np.ndarray:
        """Sum over the lists of 1 / log2(rank + 1), by item."""
        return self.weighted(1.0 / np.log2(np.arange(self.ids.shape[1]) + 2.0))
