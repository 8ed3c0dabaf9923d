"""``fr.evaluate_clicks`` of arrays on a card: binary labels without weights, and the metrics that follow from one sort.

Words of group, score and label are sorted by CuPy (a radix sort); the rest is kernels/cuda/clicks.cu.  Counts are
exact; float64 sums are made in a fixed order within chunks and added exactly on the host, which is all that leaves the
card.
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import numpy as np

from fastrec._core import arrays, checks, cuda
from fastrec.evaluation.click_sums import MAX_ROWS, PointSums, RankSums, totals
from fastrec.evaluation.named_values import NamedValues

TIES, ROWS, BINS = 4096, 65536, 255  # FR_TIES and FR_ROWS of clicks.cu; bins that have a thread each
_GRID = 4096
METRICS = frozenset(
    (
        "auc",
        "gauc",
        "ap",
        "ks",
        "best_f1",
        "logloss",
        "ne",
        "rig",
        "pcoc",
        "brier",
        "ece",
        "mce",
        "mse",
        "rmse",
        "mae",
    )
)


class CardClicks(NamedValues):
    """The metrics of one call on a card, with ``values``, ``counts``, ``undefined`` and ``parameters``."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"Click metrics of {self.counts['rows']} rows on a card\n{self._table()}"


def _column(value: Any, name: str, size: int | None = None) -> Any:
    array = checks.real(value, name)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or (size is not None and len(array) != size):
        want = "(n,)" if size is None else f"({size},) to match `y_true`"
        raise ValueError(f"`{name}` must have shape {want}; got {array.shape}.")
    return checks.contiguous(array, array.dtype)


def sums_of(
    y_true: Any, y_prob: Any, groups: Any, weights: Any, *, wanted: list[Any], needs: set[str], bins: list[int],
    eps: float | None,
) -> tuple[RankSums | None, dict[int, PointSums], dict[str, int], float]:  # fmt: skip
    """(rank sums, point sums by bins, counts, eps) of rows on a card; refuses what the CPU does, and more."""
    for one in wanted:
        if one.metric not in METRICS:
            raise TypeError(
                f"the metric {one.name!r} runs on the CPU only; pass `y_true.get()` and the others for it"
            )
    if weights is not None:
        raise TypeError("`weights` are taken on the CPU only: pass `y_true.get()` and the others")
    y, p = _column(y_true, "y_true"), _column(y_prob, "y_prob")
    codes = None if groups is None else arrays.adopt(groups, "groups")
    arrays.common_device(y_true=y, y_prob=p, groups=codes)
    n = len(y)
    if len(p) != n:
        raise ValueError(f"`y_prob` must have shape ({n},) to match `y_true`; got {p.shape}.")
    if not 1 <= n <= MAX_ROWS:
        raise ValueError(f"`y_true` must have between 1 and {MAX_ROWS} rows; got {n}")
    if groups is None and "groups" in needs:
        which = ", ".join(repr(one.name) for one in wanted if "groups" in one.definition.needs)
        raise ValueError(f"`groups` must be given for {which}: the group (user, query, ...) of each row")
    with cuda.on(y) as xp:
        if p.dtype not in (np.float32, np.float64):
            p = p.astype(np.float32 if p.dtype.itemsize < 3 else np.float64)
        probable = next((one.name for one in wanted if one.definition.probabilities), None)
        _refuse(xp, y, p, probable)
        labels = (y != 0).astype(np.uint8)
        counts = {"rows": n, "positives": int(labels.sum(dtype=np.int64))}
        counts["negatives"] = n - counts["positives"]
        n_groups, dense = 0, None
        if codes is not None:
            dense, n_groups = _dense(xp, codes, n)
        eps = float(np.finfo(p.dtype).eps) if eps is None else eps
        rank = None
        if needs & {"rank", "groups"}:
            rank = rank_sums(xp, labels, p, dense, n_groups, pooled="rank" in needs)
            if dense is not None:
                single = (rank.group_positive == 0) | (rank.group_negative == 0)
                counts |= {"groups": n_groups, "single_class_groups": int(single.sum())}
        points = {}
        if needs & {"point", "loss", "bins"}:
            points = {b: point_sums(xp, labels, p, b, "loss" in needs, eps) for b in bins or [0]}
        return rank, points, counts, eps


def _refuse(xp: ModuleType, y: Any, p: Any, probable: str | None) -> None:
    """Labels that are not 0 or 1, scores that are NaN, probabilities out of range; waits for the card."""
    faults = [(y != 0) & (y != 1), xp.isnan(p)]
    if probable is not None:
        faults.append((p < 0) | (p > 1))
    found = xp.stack([xp.where(fault.any(), fault.argmax(), -1) for fault in faults]).get().tolist()
    if found[0] >= 0:
        raise ValueError(f"`y_true` must hold 0 and 1 on a card; row {found[0]} is {y[found[0]].item()}")
    if found[1] >= 0:
        raise ValueError(f"`y_prob` must not hold NaN; row {found[1]} is NaN")
    if probable is not None and found[2] >= 0:
        raise ValueError(
            f"`y_prob` must lie in 0..1 for {probable!r}; row {found[2]} is {p[found[2]].item()}. Ranking metrics "
            "(auc, gauc, ap, ...) take any score"
        )


def _dense(xp: ModuleType, groups: Any, n: int) -> tuple[Any, int]:
    """Codes 0..G-1 of integer groups, and how many there are; waits for the card."""
    if groups.shape != (n,):
        raise ValueError(f"`groups` must have shape ({n},) to match `y_true`; got {groups.shape}")
    if groups.dtype.kind not in "iu":
        raise TypeError(f"`groups` must hold integers on a card; got dtype {groups.dtype}")
    labels, codes = xp.unique(groups, return_inverse=True)
    return codes.astype(np.int32), len(labels)


def _ties(xp: ModuleType, words: Any) -> tuple[Any, Any, Any]:
    """(starts of the tie blocks, positives before each row, number of tie blocks) of sorted words."""
    n = len(words)
    positives = xp.zeros(n + 1, np.int64)
    positives[1:] = xp.cumsum((words & np.uint64(1)).astype(np.int64))
    head = xp.ones(n, np.int64)
    head[1:] = ((words[1:] >> np.uint64(1)) != (words[:-1] >> np.uint64(1))).astype(np.int64)
    number = xp.cumsum(head)
    starts = xp.empty(n + 1, np.int64)
    cuda.kernel("clicks.cu", "fr_click_starts")(_blocks(n), 256, words, number, cuda.i64(n), starts)
    return starts, positives, number[-1:]


def _blocks(n: int) -> int:
    return min(-(-n // 256), _GRID)


def rank_sums(xp: ModuleType, labels: Any, p: Any, groups: Any, n_groups: int, *, pooled: bool) -> RankSums:
    """:class:`RankSums` without weights, partial areas and gains.

    Scratch: 40 bytes a row, and 24 more for float64 scores; two sorts where there are groups.
    """
    n = len(p)
    ranks = None
    if p.dtype == np.float64:
        codes = xp.empty(n, np.uint64)
        cuda.kernel("clicks.cu", "fr_click_codes")(_blocks(n), 256, p, cuda.i64(n), codes)
        ranks = xp.searchsorted(xp.sort(codes), codes).astype(np.int64)
    pack = cuda.kernel("clicks.cu", "fr_click_pack")
    words = xp.empty(n, np.uint64)
    nan = math.nan
    values: dict[str, Any] = {
        "positive": nan,
        "negative": nan,
        "pairs": nan,
        "precision": nan,
        "ks": nan,
        "f1": nan,
    }
    if pooled:
        pack(_blocks(n), 256, p if ranks is None else None, ranks, labels, None, cuda.i64(n), words)
        starts, positives, blocks = _ties(xp, xp.sort(words))
        chunks = -(-n // TIES)
        doubles, integers = xp.empty((chunks, 3), np.float64), xp.empty((chunks, 3), np.int64)
        cuda.kernel("clicks.cu", "fr_click_sweep")(
            chunks, 256, starts, positives, blocks, cuda.i64(n), doubles, integers
        )
        floats, counts = doubles.get(), integers.get()
        positive = float(positives[n:].get()[0])
        negative = n - positive
        both = positive * negative
        values = {
            "positive": positive,
            "negative": negative,
            "pairs": int(counts[:, 0].sum()) / 2,
            "precision": math.fsum(floats[:, 0].tolist()),
            "ks": float(floats[:, 1].max()) / both if both else nan,
            "f1": float(floats[:, 2].max()),
        }
    empty = np.empty(0)
    of_groups = [empty, empty, empty]
    if groups is not None:
        pack(_blocks(n), 256, p if ranks is None else None, ranks, labels, groups, cuda.i64(n), words)
        ordered = xp.sort(words)
        starts, positives, blocks = _ties(xp, ordered)
        bounds = xp.arange(n_groups + 1).astype(np.uint64) << np.uint64(33)
        offsets = xp.searchsorted(ordered, bounds).astype(np.int64)
        pairs2 = xp.zeros(n_groups, np.uint64)
        cuda.kernel("clicks.cu", "fr_click_groups")(
            _blocks(n), 256, ordered, starts, positives, blocks, offsets, pairs2
        )
        ends, before = offsets.get(), positives[offsets].get()
        positive_of, rows_of = np.diff(before).astype(float), np.diff(ends).astype(float)
        of_groups = [positive_of, rows_of - positive_of, pairs2.get().astype(np.int64) / 2]
    return RankSums(
        **values, ks_score=nan, f1_score=nan, positive2=nan, negative2=nan, partial=empty, gain=empty,
        mass_bins=np.zeros((0, 3)), group_positive=of_groups[0], group_negative=of_groups[1], group_pairs=of_groups[2],
    )  # fmt: skip


def point_sums(xp: ModuleType, labels: Any, p: Any, bins: int, loss: bool, eps: float) -> PointSums:
    """:class:`PointSums` without weights."""
    if bins > BINS:
        raise TypeError(f"more than {BINS} bins ({bins}) are counted on the CPU only: pass `y_true.get()`")
    n = len(p)
    chunks = -(-n // ROWS)
    half = p.dtype == np.float32
    edges = xp.asarray(np.linspace(0.0, 1.0, bins + 1).astype(p.dtype).astype(np.float64)) if bins else None
    sums = xp.empty((chunks, 5), np.float64)
    bin_sums = xp.zeros((chunks, bins + 1, 3), np.float64)
    cuda.kernel("clicks.cu", "fr_click_points")(
        chunks, 256, labels, p if half else None, None if half else p, cuda.i64(n), cuda.i32(loss), cuda.f64(eps),
        edges, cuda.i32(bins), sums, bin_sums,
    )  # fmt: skip
    label, prob, losses, square, absolute = totals(sums.get()).tolist()
    found = totals(bin_sums.get()) if bins else np.zeros((0, 3))
    return PointSums(float(n), label, prob, losses, square, absolute, math.nan, found)
