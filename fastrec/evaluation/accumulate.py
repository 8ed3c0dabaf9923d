"""``Accumulator``: evaluate batch by batch, and join what several processes have evaluated."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from fastrec._core import arrays
from fastrec.evaluation.conventions import Convention, resolve
from fastrec.evaluation.evaluate import DEFAULT_METRICS, evaluate
from fastrec.evaluation.metrics import parse
from fastrec.evaluation.result import Evaluation


class Accumulator:
    """Evaluate queries in batches; ``result()`` equals one call on all of them.

    Parameters
    ----------
    metrics, convention, threads, and the policies by name : as :func:`fastrec.evaluate` takes them.

    Every query belongs to one batch.  Rows without labels are numbered on from batch to batch.  Can be pickled, to be
    merged in another process.  Memory: 8 bytes a query and metric, on a card where the runs are there (all on one).

    Examples
    --------
    >>> import fastrec as fr
    >>> total, other = (fr.evaluation.Accumulator(["mrr", "recall@1"]) for _ in range(2))
    >>> for run, truth in [({"q": ["a", "b"]}, {"q": ["b"]}), ({"r": ["c"]}, {"r": ["c"]})]:
    ...     total = total.update(run, truth)
    >>> other = other.update({"s": ["d"]}, {"s": ["e"]})  # in another process
    >>> total.merge(other).result()["mrr"]
    0.5
    """

    def __init__(
        self,
        metrics: str | Iterable[str] = DEFAULT_METRICS,
        convention: str | Convention = "trec",
        *,
        threads: int | None = None,
        **policies: Any,
    ) -> None:
        columns = parse(metrics)
        self.metrics = [column.label for column in columns]
        self.convention = resolve(convention, **policies)
        self.threads = threads
        self._parts: list[tuple[Evaluation, bool]] = []  # and whether its queries are only numbered

    def update(self, run: Any, truth: Any, *, queries: Any = None, weights: Any = None) -> Accumulator:
        """Evaluate one batch, and return this accumulator."""
        part = evaluate(
            run, truth, self.metrics, self.convention, queries=queries, weights=weights, threads=self.threads
        )
        self._parts.append((part, part.numbered))
        return self

    def merge(self, other: Accumulator) -> Accumulator:
        """Append what another accumulator holds (it stays as it is), and return this one."""
        if not isinstance(other, Accumulator):
            raise TypeError(f"`other` must be an Accumulator; got {type(other).__name__}")
        if (other.metrics, other.convention) != (self.metrics, self.convention):
            raise ValueError("`other` must have the same metrics and convention")
        self._parts.extend(other._parts)
        return self

    def __len__(self) -> int:
        return sum(len(part) for part, _ in self._parts)

    def result(self) -> Evaluation:
        """The evaluation of all batches, in the order they came."""
        if not self._parts:
            return evaluate({}, {}, self.metrics, self.convention)
        parts = [part for part, _ in self._parts]
        arrays.common_device(**{f"batch {number}": part.values for number, part in enumerate(parts)})
        with arrays.current(parts[0].values):
            return self._joined(parts)

    def _joined(self, parts: list[Evaluation]) -> Evaluation:
        first, xp = parts[0], arrays.namespace(parts[0].values)
        weighted = [part.weights is not None for part in parts]
        if any(weighted) and not all(weighted):
            raise ValueError("some batches have weights and some have none")
        counts: dict[str, Any] = {
            name: sum(p.counts[name] for p in parts) for name in first.counts if name != "undefined"
        }
        undefined: dict[str, int] = {}
        for part in parts:
            for name, n in part.counts["undefined"].items():
                undefined[name] = undefined.get(name, 0) + n
        return Evaluation(
            self.metrics,
            xp.concatenate([part.values for part in parts]),
            self._query_ids(),
            counts={**counts, "undefined": undefined},
            convention=first.convention,
            weights=xp.concatenate([part.weights for part in parts]) if weighted[0] else None,
            averages=first._averages,
            better=first.better,
            shares={name: xp.concatenate([part._shares[name] for part in parts]) for name in first._shares},
        )

    def _query_ids(self) -> np.ndarray:
        labels, offset = [], 0
        for part, numbered in self._parts:
            labels.append(part.query_ids + offset if numbered else part.query_ids)
            offset += part.rows if numbered else 0
        text = any(array.dtype.kind == "O" for array in labels)
        joined = np.concatenate([array.astype(object) if text else array for array in labels])
        seen: set[Any] = set()
        for query in joined.tolist():
            if query in seen:
                raise ValueError(f"query {query!r} is in two batches; each query belongs to one")
            seen.add(query)
        return joined
