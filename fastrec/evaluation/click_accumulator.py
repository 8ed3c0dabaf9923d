"""``ClickAccumulator``: evaluate click predictions batch by batch, and join what several processes have read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastrec._core import arrays, cuda
from fastrec.evaluation.click_columns import MAX_ROWS
from fastrec.evaluation.click_evaluation import ClickEvaluation
from fastrec.evaluation.click_request import DEFAULT_METRICS, Request, read_request
from fastrec.evaluation.click_rows import Rows, group_codes, read_rows
from fastrec.evaluation.clicks import evaluate_on_card, evaluate_rows, is_on_card


class ClickAccumulator:
    """Read rows in batches; ``result()`` equals one call of :func:`fastrec.evaluate_clicks` on all, bit for bit.

    Parameters
    ----------
    metrics, and the options by name : as :func:`fastrec.evaluate_clicks` takes them.

    An exact AUC needs every score, so the rows are kept, as narrow as they came: 1 byte a label (8 where not all are 0
    or 1), 4 or 8 a score, 8 a weight and 4 a group.  Each batch is checked when it comes.  Can be pickled, to be merged
    in another process; ``len()`` is the number of rows.  Rows on a card are kept and evaluated there, all of them on
    one.

    Examples
    --------
    >>> import fastrec as fr
    >>> total, other = (fr.evaluation.ClickAccumulator(["auc", "gauc"]) for _ in range(2))
    >>> for clicked, predicted, user in [([0, 1], [0.1, 0.4], [7, 7]), ([0, 1], [0.2, 0.1], [8, 8])]:
    ...     total = total.update(clicked, predicted, groups=user)
    >>> other = other.update([1, 0], [0.9, 0.5], groups=[9, 9])  # in another process
    >>> round(total.merge(other).result()["gauc"], 6)
    0.666667
    """

    def __init__(self, metrics: str | Sequence[str] = DEFAULT_METRICS, **options: Any) -> None:
        self._request = read_request(metrics, **options)
        self.metrics = [one.name for one in self._request.wanted]
        self._parts: list[Rows] = []

    def update(self, y_true: Any, y_prob: Any, groups: Any = None, weights: Any = None) -> ClickAccumulator:
        """Read one batch, which may be empty, and return this accumulator."""
        if is_on_card(y_true, y_prob, groups, weights):
            with arrays.stream_of(y_true, y_prob, groups, weights):
                self._append(_rows_there(y_true, y_prob, groups, weights, self._request))
            return self
        rows = read_rows(y_true, y_prob, groups, weights, self._request, least=0)
        kept = (rows.y, rows.p) if rows.w is None else (rows.y, rows.p, rows.w)
        own = [array.copy() if _shares(array, y_true, y_prob, weights) else array for array in kept]
        self._append(Rows(own[0], own[1], own[2] if len(own) > 2 else None, rows.codes, rows.labels))
        return self

    def merge(self, other: ClickAccumulator) -> ClickAccumulator:
        """Append what another accumulator holds (it stays as it is), and return this one."""
        if not isinstance(other, ClickAccumulator):
            raise TypeError(f"`other` must be a ClickAccumulator; got {type(other).__name__}")
        if other._settings != self._settings:
            raise ValueError("`other` must have the same metrics and options")
        for part in list(other._parts):
            self._append(part)
        return self

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def result(self) -> ClickEvaluation:
        """The evaluation of all rows, in the order they came."""
        if not len(self):
            raise ValueError("no rows have come; call update() with some before result()")
        if len(self) > MAX_ROWS:
            raise ValueError(f"at most {MAX_ROWS} rows can be evaluated; got {len(self)}")
        with arrays.current(self._parts[0].y):
            if len(self._parts) > 1:
                self._parts = [_joined(self._parts)]
            rows = self._parts[0]
            if arrays.device(rows.y) != arrays.CPU:
                return evaluate_on_card(rows.y, rows.p, rows.codes, rows.w, self._request)
            return evaluate_rows(rows, self._request)

    @property
    def _settings(self) -> tuple[Any, ...]:
        asked = self._request
        return asked.wanted, asked.eps, repr(asked.zero_division), asked.undefined

    def _append(self, rows: Rows) -> None:
        if not len(rows):
            return
        if self._parts:
            first = self._parts[0]
            arrays.common_device(**{"the batches before": first.y, "this batch": rows.y})
            for name, here, there in (("weights", rows.w, first.w), ("groups", rows.codes, first.codes)):
                if (here is None) != (there is None):
                    raise ValueError(f"some batches have `{name}` and some have none")
        self._parts.append(rows)


def _shares(array: np.ndarray, *given: Any) -> bool:
    """Does the array look into memory that the caller may write to?"""
    return array.base is not None or any(array is one for one in given)


def _rows_there(y_true: Any, y_prob: Any, groups: Any, weights: Any, request: Request) -> Rows:
    """Rows on a card, checked, in memory of their own; groups as they came, numbered when all of them are there."""
    from fastrec.evaluation import clicks_on_device

    y, p, codes, w = clicks_on_device.adopted(y_true, y_prob, groups, weights)
    with cuda.on(y), cuda.room_for(f"{len(y)} rows more"):
        rows = clicks_on_device.read_rows(y, p, codes, w, request.wanted, request.needs, whole=False)
        w, codes = (None if column is None else column.copy() for column in (rows.w, codes))
        kept = Rows(rows.targets if rows.labels is None else rows.labels, rows.p.copy(), w, codes, None)
        cuda.settle()
    return kept


def _joined(parts: list[Rows]) -> Rows:
    first, xp = parts[0], arrays.namespace(parts[0].y)
    columns = {
        name: None
        if getattr(first, name) is None
        else xp.concatenate([getattr(part, name) for part in parts])
        for name in ("y", "p", "w")
    }
    y, p = columns["y"], columns["p"]
    assert y is not None  # for the type checker: only weights may be absent
    assert p is not None
    if first.codes is None:
        return Rows(y, p, columns["w"], None, None)
    if xp is not np:
        return Rows(y, p, columns["w"], xp.concatenate([part.codes for part in parts]), None)
    # The labels of all batches, factorised as one call factorises those of all rows.
    labels = [part.labels.append([]) for part in parts]
    every = labels[0].append(labels[1:])
    codes, distinct = group_codes(every, len(every))
    starts = np.cumsum([0, *map(len, labels)])
    of_rows = [codes[start + part.codes] for start, part in zip(starts, parts)]
    return Rows(y, p, columns["w"], np.concatenate(of_rows), distinct)
