"""``click_point_sums``: the sums that need no order: losses, errors, means and calibration bins.

Float64 sums over fixed chunks of rows, in eight lanes, added exactly; bins of rows without weights are exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from fastrec._core import checks
from fastrec._core import threads as _threads
from fastrec._core.op import operation
from fastrec._kernels import clicks as _kernel
from fastrec.evaluation.click_columns import ALONE, bytes_of, equal_edges, kind_of, of_units, totals

_POINT_SUMS = ("weight", "label", "prob", "loss", "square", "absolute", "spread")


@dataclass(frozen=True, slots=True)
class PointSums:
    """Sums over the rows, with weights w, labels y and probabilities p.

    ``weight``: w.  ``label``: w y.  ``prob``: w p.  ``loss``: w times the negated log-likelihood.  ``square``:
    w (p - y)^2.  ``absolute``: w |p - y|.  ``spread``: w (y - centre)^2.  ``bins``: (bins + 1, 3) of w, w y, w p over
    equal bins [a, b) of 0..1, the last row being p = 1 alone.
    """

    weight: float
    label: float
    prob: float
    loss: float
    square: float
    absolute: float
    spread: float
    bins: np.ndarray


@operation(arrays=("y", "p", "weights"), rtol=1e-12)
def click_point_sums(
    y: Any,
    p: Any,
    weights: Any = None,
    *,
    loss: bool = False,
    eps: float = 0.0,
    centre: float = 0.0,
    bins: int = 0,
    threads: int | None = None,
) -> dict[str, Any]:
    """Sums that need no order; see :class:`PointSums`.

    Parameters
    ----------
    y : (n,) uint8 of 0 and 1, or float64
    p : (n,) float32 or float64
        In 0..1 where ``loss`` or ``bins`` is asked for.
    weights : (n,) float64 or None
    loss : bool
        Sum the log-likelihood, with p and 1 - p clipped to ``eps..1 - eps``; a row of weight 0 adds nothing.
    centre : float
        What ``spread`` is measured from.
    bins : int
        Bins of equal width; edges ``b / bins``, rounded to the type of ``p``.
    threads : int or None

    Returns
    -------
    PointSums

    Notes
    -----
    O(n) time; scratch 24 (bins + 1) (8 threads + n / 65536) bytes.
    """
    return {
        "y": checks.native(y),
        "p": checks.native(p),
        "weights": checks.native(weights),
        "loss": loss,
        "eps": eps,
        "centre": centre,
        "bins": bins,
        "threads": _threads.resolve(threads),
    }


@click_point_sums.reference
def _(
    xp: ModuleType,
    y: Any,
    p: Any,
    weights: Any,
    loss: bool,
    eps: float,
    centre: float,
    bins: int,
    threads: int,
) -> PointSums:
    p_type = p.dtype
    y, p = y.astype(np.float64), p.astype(np.float64)
    w = xp.ones(len(y)) if weights is None else weights
    losses = xp.zeros(len(y))
    if loss:
        q, r = xp.clip(p, eps, 1 - eps), xp.clip(1 - p, eps, 1 - eps)
        for share, likelihood in ((y, q), (1 - y, r)):
            counts = (share != 0) & (w != 0)
            losses[counts] -= share[counts] * xp.log(likelihood[counts])
    bin_sums = xp.zeros((0, 3))
    if bins:
        of = xp.searchsorted(xp.asarray(equal_edges(bins, p_type)), p, side="right") - 1
        bin_sums = xp.stack([xp.bincount(of, v, minlength=bins + 1) for v in (w, w * y, w * p)], axis=1)
    return PointSums(
        weight=float(w.sum()),
        label=float((w * y).sum()),
        prob=float((w * p).sum()),
        loss=float((w * losses).sum()),
        square=float((w * (p - y) ** 2).sum()),
        absolute=float((w * xp.abs(p - y)).sum()),
        spread=float((w * (y - centre) ** 2).sum()),
        bins=bin_sums,
    )


@click_point_sums.cpu
def _(
    y: np.ndarray,
    p: np.ndarray,
    weights: np.ndarray | None,
    loss: bool,
    eps: float,
    centre: float,
    bins: int,
    threads: int,
) -> PointSums:
    n = len(y)
    if n < ALONE:
        threads = 1
    sums = np.empty((_kernel.chunks(n), _kernel.POINT_SUMS))
    y_kind, p_kind = kind_of(y), kind_of(p)
    _kernel.points(bytes_of(y), y_kind, bytes_of(p), p_kind, weights, n, loss, eps, centre, sums, threads)
    total = dict(zip(_POINT_SUMS, totals(sums).tolist()))
    return PointSums(**total, bins=_bins(y, p, weights, bins, threads) if bins else np.zeros((0, 3)))


def _bins(y: np.ndarray, p: np.ndarray, weights: np.ndarray | None, bins: int, threads: int) -> np.ndarray:
    """w, w y and w p of bins of equal width.  Without weights, and with labels of 0 and 1, the sums are exact, so that
    rows in any order give the same."""
    n, edges = len(y), equal_edges(bins, p.dtype)
    lanes = np.empty((threads, 24 * len(edges)))
    if weights is None and y.dtype == np.uint8:
        counts = np.empty((_kernel.chunks(n), len(edges), 4), np.int64)
        _kernel.bin_counts(y, bytes_of(p), kind_of(p), edges, lanes, counts, threads)
        each = counts.sum(axis=0).tolist()
        return np.array([(rows, hits, of_units(high, low)) for rows, hits, high, low in each], np.float64)
    sums = np.empty((_kernel.chunks(n), len(edges), 3))
    _kernel.bins(bytes_of(y), kind_of(y), bytes_of(p), kind_of(p), weights, n, edges, lanes, sums, threads)
    return totals(sums)


@click_point_sums.cases
def _(rng: Any) -> Iterator[dict[str, Any]]:
    for dtype in (np.float32, np.float64):
        for n in (1, 2, 7, 8, 9, 511, 512, 513, 1000, 70000):
            p = rng.random(n).astype(dtype)
            p[: n // 4] = rng.choice(np.array([0, 0.2, 0.4, 0.6, 2 / 3, 1], dtype), n // 4)
            y = (rng.random(n) < p).astype(np.uint8)
            yield {"y": y, "p": p, "loss": True, "eps": 1e-7, "bins": 15}
            soft, w = rng.random(n), rng.random(n)
            yield {"y": soft, "p": p, "weights": w, "loss": True, "eps": 1e-15, "bins": 3, "centre": 0.5}
            yield {"y": soft * 100, "p": p - 50, "weights": w}
