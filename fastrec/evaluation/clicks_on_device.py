"""``fr.evaluate_clicks`` of arrays on a card: binary labels, and the metrics that follow from one sort.

Words of group, score and label are sorted by CuPy (a radix sort, docs/adr/0013-sorts-on-a-card.md); the rest is
kernels/cuda/clicks.cu.  Counts are exact; float64 sums are made in a fixed order within chunks and added exactly on the
host, which is all that leaves the card.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

import numpy as np

from fastrec._core import arrays, checks, cuda
from fastrec._core import sums as _sums
from fastrec.evaluation.click_columns import MAX_ROWS, equal_edges, totals
from fastrec.evaluation.click_pair_sums import PairSums
from fastrec.evaluation.click_point_sums import PointSums
from fastrec.evaluation.click_rank_sums import RankSums
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
        "r2",
        "xauc",
        "pauc",
        "gain",
        "lift",
        "accuracy",
        "precision",
        "recall",
        "specificity",
        "f1",
        "mcc",
    )
)


@dataclass
class Found:
    """What was summed of rows on a card; dictionaries are by parameter."""

    counts: dict[str, int]
    eps: float
    rank: RankSums | None = None
    points: dict[int, PointSums] = field(default_factory=dict)
    pair: PairSums | None = None
    partial: dict[float, float] = field(default_factory=dict)
    gain: dict[float, float] = field(default_factory=dict)
    confusion: dict[float, tuple[float, float, float, float]] = field(default_factory=dict)


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
    y_true: Any,
    y_prob: Any,
    groups: Any,
    weights: Any,
    *,
    wanted: list[Any],
    needs: set[str],
    eps: float | None,
) -> Found:
    """The sums that metrics need of rows on a card; refuses what the CPU does, and more."""
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
        found = Found(counts, eps)

        def parameters(*names: str) -> list[Any]:
            return sorted({one.parameter for one in wanted if one.metric in names})

        for cut in parameters("accuracy", "precision", "recall", "specificity", "f1", "mcc"):
            found.confusion[cut] = confusion(labels, p, w, cut)
        if needs & {"rank", "groups", "pairs"}:
            words_of, values, of_groups = _Words(xp, labels, p), dict(_NO_RANKS), [np.empty(0)] * 3
            if needs & {"rank", "pairs"}:
                curve = _CountCurve(xp, words_of) if w is None else _MassCurve(xp, words_of, w)
                values = curve.values
                found.partial = {limit: curve.partial(limit) for limit in parameters("pauc")}
                found.gain = {share: curve.gain(share) for share in parameters("gain", "lift")}
                pairs = values["positive"] * values["negative"]
                # With two targets the pairs are those that the sweep has counted.
                found.pair = PairSums(pairs, pairs - values["pairs"], 0.0)
            if dense is not None and "groups" in needs:
                of_groups = (
                    group_sums(xp, words_of(dense), n_groups)
                    if w is None
                    else weighted_group_sums(xp, words_of(dense), w, n_groups)
                )
            if dense is not None:
                single = (of_groups[0] == 0) | (of_groups[1] == 0)
                counts |= {"groups": n_groups, "single_class_groups": int(single.sum())}
            found.rank = RankSums(
                **values, ks_score=math.nan, f1_score=math.nan, positive2=math.nan, negative2=math.nan,
                partial=np.empty(0), gain=np.empty(0), mass_bins=np.zeros((0, 3)), group_positive=of_groups[0],
                group_negative=of_groups[1], group_pairs=of_groups[2],
            )  # fmt: skip
        if needs & {"point", "loss", "bins", "spread"}:
            for bins in parameters("ece", "mce") or [0]:
                point = point_sums(xp, labels, p, w, bins, "loss" in needs, eps)
                centre = point.label / point.weight
                spread = point.label * (1.0 - centre) ** 2 + (point.weight - point.label) * centre**2
                found.points[bins] = replace(point, spread=spread)
        return found


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


def _positives(xp: ModuleType, words: Any) -> Any:
    """How many positives are in front of each of the sorted words, and in all."""
    positives = xp.zeros(len(words) + 1, np.int64)
    positives[1:] = xp.cumsum((words & np.uint64(1)).astype(np.int64))
    return positives


def _blocks(n: int) -> int:
    return min(-(-n // 256), _GRID)


_NO_RANKS: dict[str, Any] = dict.fromkeys(
    ("positive", "negative", "pairs", "precision", "ks", "f1"), math.nan
)


def confusion(labels: Any, p: Any, w: Any, cut: float) -> tuple[float, float, float, float]:
    """Weight of the true and false positives, false and true negatives of a threshold; waits for the card."""
    clicked, chosen = labels != 0, p >= p.dtype.type(cut)
    parts = (clicked & chosen, ~clicked & chosen, clicked & ~chosen, ~(clicked | chosen))
    if w is None:
        tp, fp, fn, tn = (float(int(part.sum(dtype=np.int64))) for part in parts)
    else:
        tp, fp, fn, tn = (_sums.total(w * part) for part in parts)
    return tp, fp, fn, tn


class _Curve(ABC):
    """Rows in falling order of score: the sums over all of them, and parts of the curve that they draw."""

    n: int
    number: Any  # of each row's block of ties, from 1 on
    starts: Any  # of the blocks, and n
    values: dict[str, Any]

    @abstractmethod
    def before(self, row: int) -> tuple[float, float]:
        """Weight of the positives and of the negatives in front of a row."""

    @abstractmethod
    def reach(self, wanted: float, *, negatives: bool) -> int:
        """The row at which the weight of rows, or of the negatives among them, reaches ``wanted``."""

    @abstractmethod
    def pairs(self, blocks: int, rows: int) -> float:
        """Weight of the pairs in order within the first blocks of ties, which end before row ``rows``."""

    def block(self, row: int) -> tuple[int, int, int]:
        """Blocks in front of that of ``row``, its first row, and one past its last."""
        number = int(self.number[row])
        begin, end = self.starts[number - 1 : number + 1].get().tolist()
        return number - 1, begin, end

    def gain(self, share: float) -> float:
        """As ``Order.gain`` of click_order.py."""
        wanted = share * (self.values["positive"] + self.values["negative"])
        _, begin, end = self.block(self.reach(wanted, negatives=False))
        (tp, fp), (tp_end, fp_end) = self.before(begin), self.before(end)
        size = (tp_end + fp_end) - (tp + fp)
        return tp + (tp_end - tp) * min(max((wanted - (tp + fp)) / size, 0.0), 1.0) if size else tp

    def partial(self, max_fpr: float) -> float:
        """As ``Order.partial``."""
        negative = self.values["negative"]
        limit = max_fpr * negative
        if limit >= negative or not negative:
            return self.values["pairs"]
        blocks, begin, end = self.block(self.reach(limit, negatives=True))
        (tp, fp), (tp_end, fp_end) = self.before(begin), self.before(end)
        slope, width = (tp_end - tp) / (fp_end - fp), limit - fp
        return self.pairs(blocks, begin) + width * (tp + slope * width / 2)


class _CountCurve(_Curve):
    """Without weights: counts, which are exact.  Scratch: 40 bytes a row."""

    def __init__(self, xp: ModuleType, words_of: _Words) -> None:
        words = xp.sort(words_of(None))
        self._xp, self.n = xp, len(words)
        self._positives = _positives(xp, words)
        self.number, self.starts = _blocks_of_ties(xp, words)
        floats, counts = self._sweep(self.number[-1:])
        positive = float(int(self._positives[-1]))
        negative = self.n - positive
        both = positive * negative
        self.values = {
            "positive": positive,
            "negative": negative,
            "pairs": int(counts[:, 0].sum()) / 2,
            "precision": math.fsum(floats[:, 0].tolist()),
            "ks": float(floats[:, 1].max()) / both if both else math.nan,
            "f1": float(floats[:, 2].max()),
        }

    def _sweep(self, blocks: Any) -> tuple[np.ndarray, np.ndarray]:
        chunks = -(-self.n // TIES)
        doubles, integers = self._xp.empty((chunks, 3), np.float64), self._xp.empty((chunks, 3), np.int64)
        cuda.kernel("clicks.cu", "fr_click_sweep")(
            chunks, 256, self.starts, self._positives, blocks, cuda.i64(self.n), doubles, integers
        )
        return doubles.get(), integers.get()

    def before(self, row: int) -> tuple[float, float]:
        positives = int(self._positives[row])
        return float(positives), float(row - positives)

    def reach(self, wanted: float, *, negatives: bool) -> int:
        if not negatives:
            return min(int(wanted), self.n - 1)
        running = self._xp.arange(1, self.n + 1) - self._positives[1:]
        return min(_place(self._xp, running.astype(np.float64), wanted), self.n - 1)

    def pairs(self, blocks: int, rows: int) -> float:
        return int(self._sweep(self._xp.full(1, blocks, np.int64))[1][:, 0].sum()) / 2


class _MassCurve(_Curve):
    """With weights, sorted along with their rows; to 1e-12, for weights are added.  Scratch: 72 bytes a row."""

    def __init__(self, xp: ModuleType, words_of: _Words, weights: Any) -> None:
        words = words_of(None)
        order = xp.argsort(words)
        self._xp, self.n = xp, len(words)
        self._words, self._weights = words[order], weights[order]
        self.number, self.starts = _blocks_of_ties(xp, self._words)
        chunks = -(-self.n // ROWS)
        masses = xp.empty((chunks, 2), np.float64)
        self._positives, self._negatives = (xp.empty(self.n + 1, np.float64) for _ in range(2))
        rows = (self._words, self._weights, cuda.i64(self.n))
        cuda.kernel("clicks.cu", "fr_click_masses")(chunks, 256, *rows, masses)
        cuda.kernel("clicks.cu", "fr_click_prefix")(
            chunks, 256, *rows, masses, self._positives, self._negatives
        )
        found = self._sweep(self.n)
        positive, negative = self.before(self.n)
        both = positive * negative
        self.values = {
            "positive": positive,
            "negative": negative,
            "pairs": math.fsum(found[:, 0].tolist()),
            "precision": math.fsum(found[:, 1].tolist()),
            "ks": float(found[:, 2].max()) / both if both else math.nan,
            "f1": float(found[:, 3].max()),
        }

    def _sweep(self, rows: int) -> np.ndarray:
        chunks = -(-rows // ROWS)
        sums = self._xp.empty((chunks, 4), np.float64)
        cuda.kernel("clicks.cu", "fr_click_weighted")(
            chunks, 256, self._words, self._weights, cuda.i64(rows), self.number, self.starts, self._positives,
            self._negatives, sums,
        )  # fmt: skip
        return sums.get()

    def before(self, row: int) -> tuple[float, float]:
        return float(self._positives[row]), float(self._negatives[row])

    def reach(self, wanted: float, *, negatives: bool) -> int:
        running = self._negatives[1:] if negatives else self._positives[1:] + self._negatives[1:]
        return min(_place(self._xp, running, wanted), self.n - 1)

    def pairs(self, blocks: int, rows: int) -> float:
        return math.fsum(self._sweep(rows)[:, 0].tolist())


def _place(xp: ModuleType, running: Any, wanted: float) -> int:
    return int(xp.searchsorted(running, xp.full(1, wanted, np.float64))[0])


def group_sums(xp: ModuleType, words: Any, n_groups: int) -> list[np.ndarray]:
    """Positives, negatives and pairs in order of each group; another sort."""
    n, ordered = len(words), xp.sort(words)
    positives, (number, starts) = _positives(xp, ordered), _blocks_of_ties(xp, ordered)
    offsets = _offsets(xp, ordered, n_groups)
    pairs2 = xp.zeros(n_groups, np.uint64)
    cuda.kernel("clicks.cu", "fr_click_groups")(
        _blocks(n), 256, ordered, starts, positives, number[-1:], offsets, pairs2
    )
    ends, before = offsets.get(), positives[offsets].get()
    positive_of, rows_of = np.diff(before).astype(float), np.diff(ends).astype(float)
    return [positive_of, rows_of - positive_of, pairs2.get().astype(np.int64) / 2]


def weighted_group_sums(xp: ModuleType, words: Any, weights: Any, n_groups: int) -> list[np.ndarray]:
    """The same with weights."""
    order = xp.argsort(words)
    words, ordered = words[order], weights[order]
    number, starts = _blocks_of_ties(xp, words)
    sums = xp.empty((n_groups, 3), np.float64)
    cuda.kernel("clicks.cu", "fr_click_weighted_groups")(
        min(-(-n_groups // 8), _GRID), 256, words, ordered, number, starts, _offsets(xp, words, n_groups),
        cuda.i64(n_groups), xp.empty(len(words), np.float64), sums,
    )  # fmt: skip
    return list(sums.get().T)


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


def point_sums(
    xp: ModuleType, labels: Any, p: Any, weights: Any, bins: int, loss: bool, eps: float
) -> PointSums:
    """:class:`PointSums`."""
    if bins > BINS:
        raise TypeError(f"more than {BINS} bins ({bins}) are counted on the CPU only: pass `y_true.get()`")
    n = len(p)
    chunks = -(-n // ROWS)
    half = p.dtype == np.float32
    edges = xp.asarray(equal_edges(bins, p.dtype)) if bins else None
    sums = xp.empty((chunks, 6), np.float64)
    bin_sums = xp.zeros((chunks, bins + 1, 3), np.float64)
    cuda.kernel("clicks.cu", "fr_click_points")(
        chunks, 256, labels, p if half else None, None if half else p, weights, cuda.i64(n), cuda.i32(loss),
        cuda.f64(eps), edges, cuda.i32(bins), sums, bin_sums,
    )  # fmt: skip
    found = totals(bin_sums.get()) if bins else np.zeros((0, 3))
    weight, label, prob, losses, square, absolute = totals(sums.get()).tolist()
    return PointSums(weight, label, prob, losses, square, absolute, math.nan, found)
