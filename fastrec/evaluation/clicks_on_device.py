"""``fr.evaluate_clicks`` of arrays on a card: binary labels, and the metrics that follow from one sort.

Words of group, score and label are sorted by CuPy (a radix sort, docs/adr/0013-sorts-on-a-card.md); the rest is
kernels/cuda/clicks.cu.  Counts are exact; float64 sums are made in a fixed order within chunks and added exactly on the
host, which is all that leaves the card.
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
    y, p = _column(y_true, "y_true"), _column(y_prob, "y_prob")
    codes = None if groups is None else arrays.adopt(groups, "groups")
    w = None if weights is None else arrays.adopt(weights, "weights")
    arrays.common_device(y_true=y, y_prob=p, groups=codes, weights=w)
    n = len(y)
    if len(p) != n:
        raise ValueError(f"`y_prob` must have shape ({n},) to match `y_true`; got {p.shape}.")
    if not 1 <= n <= MAX_ROWS:
        raise ValueError(f"`y_true` must have between 1 and {MAX_ROWS} rows; got {n}")
    if groups is None and "groups" in needs:
        which = ", ".join(repr(one.name) for one in wanted if "groups" in one.definition.needs)
        raise ValueError(f"`groups` must be given for {which}: the group (user, query, ...) of each row")
    with cuda.on(y) as xp, cuda.room_for(f"the click metrics of {n} rows"):
        if p.dtype not in (np.float32, np.float64):
            p = p.astype(np.float32 if p.dtype.itemsize < 3 else np.float64)
        probable = next((one.name for one in wanted if one.definition.probabilities), None)
        w = None if w is None else checks.contiguous(_column(w, "weights", n), np.float64)
        _refuse(xp, y, p, w, probable)
        labels = (y != 0).astype(np.uint8)
        counts = {"rows": n, "positives": int(labels.sum(dtype=np.int64))}
        counts["negatives"] = n - counts["positives"]
        n_groups, dense = 0, None
        if codes is not None:
            dense, n_groups = _dense(xp, codes, n)
        eps = float(np.finfo(p.dtype).eps) if eps is None else eps
        rank = None
        if needs & {"rank", "groups"}:
            rank = (
                rank_sums(xp, labels, p, dense, n_groups, pooled="rank" in needs)
                if w is None
                else weighted_rank_sums(xp, labels, p, w, dense, n_groups, pooled="rank" in needs)
            )
            if dense is not None:
                single = (rank.group_positive == 0) | (rank.group_negative == 0)
                counts |= {"groups": n_groups, "single_class_groups": int(single.sum())}
        points = {}
        if needs & {"point", "loss", "bins"}:
            points = {b: point_sums(xp, labels, p, w, b, "loss" in needs, eps) for b in bins or [0]}
        return rank, points, counts, eps


def _refuse(xp: ModuleType, y: Any, p: Any, w: Any, probable: str | None) -> None:
    """Labels that are not 0 or 1, scores that are NaN, probabilities out of range, bad weights; waits for the card."""
    faults = [(y != 0) & (y != 1), xp.isnan(p)]
    faults.append(xp.zeros(1, bool) if probable is None else (p < 0) | (p > 1))
    if w is not None:
        faults += [~(xp.isfinite(w) & (w >= 0)), (w == 0).all().reshape(1)]
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
    if w is not None and found[3] >= 0:
        raise ValueError(f"`weights` must be finite and not negative; row {found[3]} is {w[found[3]].item()}")
    if w is not None and found[4] >= 0:
        raise ValueError("`weights` must not be all 0")


def _dense(xp: ModuleType, groups: Any, n: int) -> tuple[Any, int]:
    """Codes 0..G-1 of integer groups, and how many there are; waits for the card."""
    if groups.shape != (n,):
        raise ValueError(f"`groups` must have shape ({n},) to match `y_true`; got {groups.shape}")
    if groups.dtype.kind not in "iu":
        raise TypeError(f"`groups` must hold integers on a card; got dtype {groups.dtype}")
    labels, codes = xp.unique(groups, return_inverse=True)
    return codes.astype(np.int32), len(labels)


def _blocks_of_ties(xp: ModuleType, words: Any) -> tuple[Any, Any]:
    """(number of each row's tie block from 1 on, where the blocks start) of sorted words."""
    n = len(words)
    head = xp.ones(n, np.int64)
    head[1:] = ((words[1:] >> np.uint64(1)) != (words[:-1] >> np.uint64(1))).astype(np.int64)
    number = xp.cumsum(head)
    starts = xp.empty(n + 1, np.int64)
    cuda.kernel("clicks.cu", "fr_click_starts")(_blocks(n), 256, words, number, cuda.i64(n), starts)
    return number, starts


def _ties(xp: ModuleType, words: Any) -> tuple[Any, Any, Any]:
    """(starts of the tie blocks, positives before each row, number of tie blocks) of sorted words."""
    n = len(words)
    positives = xp.zeros(n + 1, np.int64)
    positives[1:] = xp.cumsum((words & np.uint64(1)).astype(np.int64))
    number, starts = _blocks_of_ties(xp, words)
    return starts, positives, number[-1:]


def _blocks(n: int) -> int:
    return min(-(-n // 256), _GRID)


def rank_sums(xp: ModuleType, labels: Any, p: Any, groups: Any, n_groups: int, *, pooled: bool) -> RankSums:
    """:class:`RankSums` without weights, partial areas and gains.

    Scratch: 40 bytes a row, and 24 more for float64 scores; two sorts where there are groups.
    """
    n = len(p)
    words_of = _Words(xp, labels, p)
    nan = math.nan
    values = dict.fromkeys(("positive", "negative", "pairs", "precision", "ks", "f1"), nan)
    if pooled:
        starts, positives, blocks = _ties(xp, xp.sort(words_of(None)))
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
        ordered = xp.sort(words_of(groups))
        starts, positives, blocks = _ties(xp, ordered)
        offsets = _offsets(xp, ordered, n_groups)
        pairs2 = xp.zeros(n_groups, np.uint64)
        cuda.kernel("clicks.cu", "fr_click_groups")(
            _blocks(n), 256, ordered, starts, positives, blocks, offsets, pairs2
        )
        ends, before = offsets.get(), positives[offsets].get()
        positive_of, rows_of = np.diff(before).astype(float), np.diff(ends).astype(float)
        of_groups = [positive_of, rows_of - positive_of, pairs2.get().astype(np.int64) / 2]
    return _rank_sums(values, of_groups)


def _rank_sums(values: dict[str, Any], of_groups: list[np.ndarray]) -> RankSums:
    nan, empty = math.nan, np.empty(0)
    return RankSums(
        **values, ks_score=nan, f1_score=nan, positive2=nan, negative2=nan, partial=empty, gain=empty,
        mass_bins=np.zeros((0, 3)), group_positive=of_groups[0], group_negative=of_groups[1], group_pairs=of_groups[2],
    )  # fmt: skip


class _Words:
    """Words that sort by group, then as scores fall, and hold the label; float64 scores become ranks first."""

    def __init__(self, xp: ModuleType, labels: Any, p: Any) -> None:
        self._xp, self._labels, self._p, self._ranks = xp, labels, p, None
        if p.dtype == np.float64:
            codes = xp.empty(len(p), np.uint64)
            cuda.kernel("clicks.cu", "fr_click_codes")(_blocks(len(p)), 256, p, cuda.i64(len(p)), codes)
            self._p, self._ranks = None, xp.searchsorted(xp.sort(codes), codes).astype(np.int64)

    def __call__(self, groups: Any) -> Any:
        n = len(self._labels)
        words = self._xp.empty(n, np.uint64)
        cuda.kernel("clicks.cu", "fr_click_pack")(
            _blocks(n), 256, self._p, self._ranks, self._labels, groups, cuda.i64(n), words
        )
        return words


def _offsets(xp: ModuleType, ordered: Any, n_groups: int) -> Any:
    """Where each group begins among sorted words, and n."""
    bounds = xp.arange(n_groups + 1).astype(np.uint64) << np.uint64(33)
    return xp.searchsorted(ordered, bounds).astype(np.int64)


def weighted_rank_sums(
    xp: ModuleType, labels: Any, p: Any, weights: Any, groups: Any, n_groups: int, *, pooled: bool
) -> RankSums:
    """:class:`RankSums` of rows with weights, without partial areas and gains; to 1e-12, for weights are added.

    Words are sorted with their places (a sort of pairs).  Scratch: 72 bytes a row, and 24 more for float64 scores.
    """
    n, nan = len(p), math.nan
    words_of = _Words(xp, labels, p)
    values = dict.fromkeys(("positive", "negative", "pairs", "precision", "ks", "f1"), nan)
    chunks = -(-n // ROWS)
    if pooled:
        words = words_of(None)
        order = xp.argsort(words)
        words, ordered = words[order], weights[order]
        number, starts = _blocks_of_ties(xp, words)
        masses, sums = xp.empty((chunks, 2), np.float64), xp.empty((chunks, 4), np.float64)
        positives, negatives = xp.empty(n + 1, np.float64), xp.empty(n + 1, np.float64)
        cuda.kernel("clicks.cu", "fr_click_masses")(chunks, 256, words, ordered, cuda.i64(n), masses)
        cuda.kernel("clicks.cu", "fr_click_prefix")(
            chunks, 256, words, ordered, cuda.i64(n), masses, positives, negatives
        )
        cuda.kernel("clicks.cu", "fr_click_weighted")(
            chunks, 256, words, ordered, cuda.i64(n), number, starts, positives, negatives, sums
        )
        found = sums.get()
        positive, negative = (float(part[n:].get()[0]) for part in (positives, negatives))
        both = positive * negative
        values = {
            "positive": positive,
            "negative": negative,
            "pairs": math.fsum(found[:, 0].tolist()),
            "precision": math.fsum(found[:, 1].tolist()),
            "ks": float(found[:, 2].max()) / both if both else nan,
            "f1": float(found[:, 3].max()),
        }
    of_groups = [np.empty(0)] * 3
    if groups is not None:
        words = words_of(groups)
        order = xp.argsort(words)
        words, ordered = words[order], weights[order]
        number, starts = _blocks_of_ties(xp, words)
        sums = xp.empty((n_groups, 3), np.float64)
        cuda.kernel("clicks.cu", "fr_click_weighted_groups")(
            min(-(-n_groups // 8), _GRID), 256, words, ordered, number, starts, _offsets(xp, words, n_groups),
            cuda.i64(n_groups), xp.empty(n, np.float64), sums,
        )  # fmt: skip
        of_groups = list(sums.get().T)
    return _rank_sums(values, of_groups)


def point_sums(
    xp: ModuleType, labels: Any, p: Any, weights: Any, bins: int, loss: bool, eps: float
) -> PointSums:
    """:class:`PointSums`."""
    if bins > BINS:
        raise TypeError(f"more than {BINS} bins ({bins}) are counted on the CPU only: pass `y_true.get()`")
    n = len(p)
    chunks = -(-n // ROWS)
    half = p.dtype == np.float32
    edges = xp.asarray(np.linspace(0.0, 1.0, bins + 1).astype(p.dtype).astype(np.float64)) if bins else None
    sums = xp.empty((chunks, 6), np.float64)
    bin_sums = xp.zeros((chunks, bins + 1, 3), np.float64)
    cuda.kernel("clicks.cu", "fr_click_points")(
        chunks, 256, labels, p if half else None, None if half else p, weights, cuda.i64(n), cuda.i32(loss),
        cuda.f64(eps), edges, cuda.i32(bins), sums, bin_sums,
    )  # fmt: skip
    found = totals(bin_sums.get()) if bins else np.zeros((0, 3))
    weight, label, prob, losses, square, absolute = totals(sums.get()).tolist()
    return PointSums(weight, label, prob, losses, square, absolute, math.nan, found)
