"""Fitting logistic regression to samples on a card: what `logistic.py` does for NumPy arrays, for CuPy's.

Every sum has the CPU's order (kernels/cuda/learning.cu), so that a fit has the CPU's bits.  What a fit brings to the
host: a few numbers about the labels, and one loss an epoch (L-BFGS, whose steps are SciPy's: a gradient an evaluation).
"""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np

from fastrec._core import arrays, cuda
from fastrec._kernels import learning
from fastrec.weighing.linear import Features, features, forward, wide

_FILL = 1024  # blocks that keep a large card busy


def moved(model: Any, device: str | int) -> Any:
    """`LogisticRegression.to`."""
    place = cuda.place(device)
    if place == arrays.device(arrays.adopt(model.coef_, "coef_")):
        return model
    there = copy.copy(model)
    if place == arrays.CPU:
        there.coef_, there.intercept_ = (_to_host(part) for part in (model.coef_, model.intercept_))
    else:
        with cuda.on(int(place.partition(":")[2])) as xp:
            there.coef_, there.intercept_ = xp.asarray(model.coef_), xp.asarray(model.intercept_)
    moments = getattr(model, "_moments", None)
    if moments is not None:
        first, second, done = moments
        if place == arrays.CPU:
            there._moments = (_to_host(first), _to_host(second), done)
        else:
            with cuda.on(int(place.partition(":")[2])) as xp:
                there._moments = (xp.asarray(first), xp.asarray(second), done)
    if place != arrays.CPU:
        with cuda.on(int(place.partition(":")[2])):
            cuda.settle()
    return there


def _to_host(array: Any) -> Any:
    return array if isinstance(array, np.ndarray) else array.get()


def logits(model: Any, X: Any) -> Any:
    """``decision_function`` of samples on a card; waits for it, to see whether all are finite."""
    x = features(X, columns=model.n_features_in_)
    with arrays.current(x.values):
        xp = arrays.namespace(x.values)
        model._same_place(x)
        scores, _ = forward(x, model._parameters)
        if not bool(xp.isfinite(scores).all()):
            finite(x)
        return scores


def finite(x: Features) -> None:
    """``ValueError`` naming the first row that holds a NaN or an infinity; waits for the card."""
    xp = arrays.namespace(x.values)
    _, squares = forward(x, xp.zeros(x.columns + 1), squares=True)
    odd = ~xp.isfinite(squares)  # a square may overflow, too
    if not bool(odd.any()):
        return
    for row in xp.flatnonzero(odd).get().tolist():
        entries = slice(None) if x.indptr is None else slice(int(x.indptr[row]), int(x.indptr[row + 1]))
        values = x.values[row] if x.indptr is None else x.values[entries]
        if not bool(xp.isfinite(values).all()):
            raise ValueError(f"`X` must hold finite numbers; row {row} holds a NaN or an infinity")


def two_classes(y: Any) -> np.ndarray:
    """The two labels of ``y``, sorted, on the host; waits for the card."""
    y = arrays.adopt(y, "y")
    if y.dtype.kind not in "fiub":
        raise TypeError(f"`y` must hold numbers on a card; got dtype {y.dtype}")
    if y.size == 0:
        raise ValueError("`y` must hold two classes; got no label")
    low, high = y.min().item(), y.max().item()
    if low == high or low != low:
        raise ValueError(
            f"`y` must hold two classes; got {'a NaN' if low != low else f'one class only: {low!r}'}"
        )
    third = (y != low) & (y != high)
    if bool(third.any()):
        other = y.reshape(-1)[int(third.argmax())].item()
        raise ValueError(
            "Only binary classification is supported. `y` must hold two classes; got at least three: "
            f"{low!r}, {high!r}, {other!r}"
        )
    return np.array([low, high], dtype=y.dtype)


class DevicePass:
    """``Pass`` on a card: one launch a batch of dense rows, four a batch of sparse ones, and no wait within a pass."""

    def __init__(
        self,
        x: Features,
        target: Any,
        weight: Any,
        *,
        batches: int,
        slices: int,
        slice_rows: int,
        solver: str,
        l2: float,
        intercept: bool,
        beta1: float,
        beta2: float,
        epsilon: float,
    ) -> None:
        self.batches, self._slice_rows = batches, slice_rows
        self._x, self._target, self._weight = x, target, weight
        self._solver, self._l2, self._intercept = solver, l2, intercept
        self._beta1, self._beta2, self._epsilon = beta1, beta2, epsilon
        self._what = f"a pass over {x.rows} samples of {x.columns} features"
        with cuda.on(x.values) as xp, cuda.room_for(self._what):
            batch = -(-x.rows // batches)
            self._gradient = xp.zeros((1 if x.sparse else slices) * (x.columns + 1))
            self._slice_losses, self._done = xp.empty(slices), xp.zeros(1, np.uint32)
            self._share: Any = None
            self._runs: Any = None
            if x.sparse:
                self._residuals, self._losses = xp.empty(batch), xp.empty(batch)
                if l2 > 0 and solver != "none":
                    held = xp.bincount(x.indices, minlength=x.columns)
                    self._share = l2 * x.rows / xp.maximum(held, 1)

    def step(
        self, parameters: Any, first: Any, second: Any, order: Any, done: int, rate: float, rate_drop: float
    ) -> float:
        """As ``Pass.step``; waits for the card at its end, for the loss."""
        n, power1, power2 = self._x.rows, self._beta1**done, self._beta2**done
        whole, rest = divmod(n, self.batches)
        with cuda.on(self._x.values) as xp, cuda.room_for(self._what):
            loss = xp.zeros(1)
            runs = self._columns_of_batches(xp, order, whole, rest) if self._x.sparse else None
            for k in range(self.batches):
                begin = k * whole + min(k, rest)
                end = begin + whole + (k < rest)
                power1 *= self._beta1
                power2 *= self._beta2
                at = rate - k * rate_drop
                numbers = (
                    cuda.f64(at), cuda.f64(self._beta1), cuda.f64(self._beta2), cuda.f64(self._epsilon),
                    cuda.f64(at / (1.0 - power1)), cuda.f64(1.0 / math.sqrt(1.0 - power2)),
                )  # fmt: skip
                state = (parameters, first, second, self._gradient)
                if runs is None:
                    self._dense(order, begin, end, numbers, state, loss)
                else:
                    self._sparse(order, begin, end, numbers, state, loss, runs[0], runs[1][k : k + 2])
            return float(loss.item()) / max(1, n)

    def _kernel(self, name: str) -> cuda.Kernel:
        return cuda.kernel("learning.cu", name, FR_WIDE=wide(self._x))

    @property
    def _how(self) -> tuple[Any, Any]:
        return cuda.i32(learning.SOLVERS.index(self._solver)), cuda.i32(self._intercept)

    def _dense(
        self, order: Any, begin: int, end: int, numbers: tuple[Any, ...], state: tuple[Any, ...], loss: Any
    ) -> None:
        x = self._x
        self._kernel("fr_logistic_batch")(
            -(-(end - begin) // self._slice_rows), 256, x.values, cuda.i64(x.columns), order, cuda.i64(begin),
            cuda.i64(end), self._target, self._weight, cuda.f64(self._l2), cuda.i64(self._slice_rows), *self._how,
            *numbers, *state, self._slice_losses, self._done, loss,
        )  # fmt: skip

    def _sparse(
        self, order: Any, begin: int, end: int, numbers: tuple[Any, ...], state: tuple[Any, ...], loss: Any,
        where: tuple[Any, ...], bounds: list[int],
    ) -> None:  # fmt: skip
        x, (low, high), rows = self._x, bounds, end - begin
        self._kernel("fr_logistic_rows")(
            cuda.blocks(rows, 32, _FILL), 256, x.values, x.indptr, x.indices, cuda.i64(x.columns), order,
            cuda.i64(begin), cuda.i64(end), self._target, self._weight, state[0], self._residuals, self._losses,
        )  # fmt: skip
        if self._solver == "none":  # the columns that no row holds
            self._gradient[:-1] = 0.0 + self._l2 * state[0][:-1]
        self._kernel("fr_logistic_columns")(
            cuda.blocks(high - low, 256, _FILL), 256, x.values, *where, cuda.i64(low), cuda.i64(high), cuda.i64(begin),
            cuda.f64(rows), self._residuals, self._share, cuda.f64(self._l2), self._how[0], *numbers, *state,
        )  # fmt: skip
        self._kernel("fr_logistic_rest")(
            1, 256, cuda.i64(rows), cuda.i64(x.columns), cuda.i64(self._slice_rows), self._residuals, self._losses,
            *self._how, *numbers, *state, self._slice_losses, loss,
        )  # fmt: skip

    def _columns_of_batches(
        self, xp: Any, order: Any, whole: int, rest: int
    ) -> tuple[tuple[Any, ...], list[int]]:
        """The entries of every batch by column, in order of position: what ``fr_logistic_columns`` walks along.

        Returns (entries, positions, begins, column_of) and the runs at which the batches begin.  One sort of the
        entries a pass; waits for the card.  Scratch: 48 bytes an entry.
        """
        if order is None and self._runs is not None:
            return self._runs
        x = self._x
        lengths = x.indptr[1:] - x.indptr[:-1]
        rows = xp.arange(x.rows) if order is None else order
        ends = xp.cumsum(lengths[rows])
        number = xp.arange(len(x.indices))
        positions = xp.searchsorted(ends, number, side="right")
        entries = number - (ends - lengths[rows])[positions] + x.indptr[rows[positions]]
        bounds = xp.asarray(
            np.array([k * whole + min(k, rest) for k in range(self.batches + 1)], dtype=np.int64)
        )
        keys = (xp.searchsorted(bounds, positions, side="right") - 1) * x.columns + x.indices[entries]
        by_key = xp.argsort(keys)  # stable: positions stay in order
        keys, entries, positions = keys[by_key], entries[by_key], positions[by_key].astype(np.int64)
        first = xp.ones(len(keys), dtype=bool)
        first[1:] = keys[1:] != keys[:-1]
        begins = xp.flatnonzero(first)
        column_of = keys[begins] % x.columns
        starts = xp.searchsorted(keys[begins], xp.arange(self.batches + 1) * x.columns).get().tolist()
        begins = xp.concatenate((begins, xp.full(1, len(keys), np.int64))).astype(np.int64)
        runs = (entries.astype(np.int64), positions, begins, column_of.astype(np.int64)), starts
        if order is None:
            self._runs = runs
        return runs

    @property
    def gradient(self) -> Any:
        """(d + 1,) gradient left by a pass with ``solver="none"`` in one batch; the pass's own memory."""
        return self._gradient[: self._x.columns + 1]
