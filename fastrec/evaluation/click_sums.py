"""The sums that click metrics are made of: those that need the rows in order of score, and those that do not.

``click_rank_sums`` sorts the rows once, by radix, on an unsigned integer that has the order of the scores (Herf, *Radix
tricks*, 2001).  One sweep over the sorted rows, a block of tied scores at a time, gives everything that depends on the
order alone: AUC, partial AUC, average precision, KS, the best F1, gains, DeLong's variances.  The same rows, sorted on
by group (the order within each is kept), give the AUC of every group.  ``click_point_sums`` needs no order: losses,
means and calibration bins.

Counts are integers and exact.  Float sums are float64, taken over fixed chunks of rows and added exactly
(``math.fsum``), so no number depends on threads, instruction set, or on which other sums were asked for.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

from fastrec._core import checks
from fastrec._core import threads as _threads
from fastrec._core.op import operation
from fastrec._kernels import clicks as _kernel

MAX_ROWS = 2**31 - 1
ALONE = 1 << 14  # rows below which waking another thread would take longer than the work
_KINDS = {"uint8": 0, "int32": 1, "int64": 2, "float32": 3, "float64": 4}
_SWEEP = np.dtype(
    [
        ("pairs2", "i8"),
        ("pairs2_sum", "f8"),
        ("precision", "f8"),
        ("ks", "f8"),
        ("f1", "f8"),
        ("positive2", "f8"),
        ("negative2", "f8"),
        ("ks_at", "i8"),
        ("f1_at", "i8"),
    ]
)
_POOLED = (
    "positive",
    "negative",
    "pairs",
    "precision",
    "ks",
    "ks_score",
    "f1",
    "f1_score",
    "positive2",
    "negative2",
)
_LISTS = ("partial", "gain", "mass_bins", "group_positive", "group_negative", "group_pairs")
_POINT_SUMS = ("weight", "label", "prob", "loss", "square", "absolute", "spread")


def _kind(array: np.ndarray) -> int:
    return _KINDS[array.dtype.name]


def _bytes(array: np.ndarray) -> np.ndarray:
    return array.view(np.uint8)


def row_labels(y: np.ndarray, threads: int) -> tuple[np.ndarray, int]:
    """Labels as uint8 zeros and ones, and the first row that holds neither (-1: there is none)."""
    if y.dtype == bool or y.dtype == np.int8:
        y = y.view(np.uint8)
    if y.dtype.name not in _KINDS:
        y = y.astype(np.float64)
    y = np.ascontiguousarray(y)
    out = np.empty(len(y), np.uint8)
    bad = np.empty(_kernel.chunks(len(y)), np.int64)
    _kernel.labels(_bytes(y), _kind(y), out, bad, threads)
    wrong = bad[bad >= 0]
    return out, int(wrong[0]) if len(wrong) else -1


def span(x: np.ndarray, threads: int) -> tuple[float, float, int]:
    """Smallest and largest value of a float array that is not empty, and the row of its first NaN (-1: none)."""
    chunks = _kernel.chunks(len(x))
    bad, low_high = np.empty(chunks, np.int64), np.empty((chunks, 2))
    _kernel.span(_bytes(x), _kind(x), len(x), bad, low_high, threads)
    wrong = bad[bad >= 0]
    return float(low_high[:, 0].min()), float(low_high[:, 1].max()), int(wrong[0]) if len(wrong) else -1


def totals(columns: np.ndarray) -> np.ndarray:
    """Exact sums over the first axis, rounded once."""
    flat = columns.reshape(len(columns), -1)
    return np.array([math.fsum(column) for column in flat.T.tolist()]).reshape(columns.shape[1:])


@dataclass(frozen=True, slots=True)
class RankSums:
    """What the order of the rows gives.  Weights are 1 where none were given, and sums of them are then counts.

    ``positive``, ``negative``: weight of the rows of either label.  ``pairs``: weight of (positive, negative) pairs in
    the right order, ties counting one half.  ``precision``: sum over positives of the precision at their threshold.
    ``ks``: largest |share of positives - share of negatives| above a threshold, first reached at ``ks_score``;
    ``f1``: largest F1 and the score ``f1_score`` of its threshold.  ``positive2``, ``negative2``: sums over positives
    (negatives) of the squared weight of negatives below (positives above), ties counting one half.  ``partial``: area
    in pairs up to each false positive rate asked for.  ``gain``: weight of positives in each top share asked for.
    ``mass_bins``: (sum of masses, 3), for each number of bins asked for (w, w y, w p) of bins of equal numbers of rows.
    ``group_*``: the same per group.  ``above``: (thresholds, 2), weight of the positives and of the negatives with at
    least that score.  ``bins``: (w, w y, w p) of the bins above each of the edges asked for.
    """

    positive: float
    negative: float
    pairs: float
    precision: float
    ks: float
    ks_score: float
    f1: float
    f1_score: float
    positive2: float
    negative2: float
    partial: np.ndarray
    gain: np.ndarray
    mass_bins: np.ndarray
    group_positive: np.ndarray
    group_negative: np.ndarray
    group_pairs: np.ndarray
    above: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))
    bins: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))


# The reference adds in NumPy's order, the kernels in an exact one rounded once: they differ in the last digits.
@operation(arrays=("labels", "scores", "weights", "groups"), rtol=1e-12)
def click_rank_sums(
    labels: Any,
    scores: Any,
    weights: Any = None,
    groups: Any = None,
    *,
    n_groups: int = 0,
    detail: int = 2,
    max_fprs: Sequence[float] = (),
    tops: Sequence[float] = (),
    masses: Sequence[int] = (),
    thresholds: Sequence[float] = (),
    edges: Sequence[np.ndarray] = (),
    threads: int | None = None,
) -> dict[str, Any]:
    """Sums over rows in descending order of score, ties together; see :class:`RankSums`.

    Parameters
    ----------
    labels : (n,) uint8, each 0 or 1
    scores : (n,) float32 or float64, no NaN; infinities are the largest and smallest scores
        Either type is compared exactly; -0.0 equals 0.0.
    weights : (n,) float64 or None
        Finite, not negative.
    groups : (n,) int32 or None
        Group codes in ``0..n_groups-1``.
    detail : -1, 0, 1 or 2
        0: of the pooled sums only ``positive``, ``negative`` and ``pairs``; 1: also ``precision``, ``ks*`` and ``f1*``;
        2: also ``positive2`` and ``negative2``; -1: only those of the groups.  The others are NaN, or empty.
    max_fprs, tops : shares in (0, 1]
    masses : numbers of bins of equal numbers of rows
        Without weights, scores must lie in 0..1.
    thresholds : scores
    edges : lower edges of bins, rising from 0
        Scores must lie in 0..1.  Neither these nor thresholds go with weights.
    threads : int or None

    Returns
    -------
    RankSums

    Notes
    -----
    O(n) time, O(n log n) at worst.  Scratch: 16 bytes a row; 48 with weights, and with float64 scores that are
    grouped, or spread over more than half of the number line.
    Source: Fawcett, *An introduction to ROC analysis*, Pattern Recognition Letters 2006; Sun and Xu, *Fast
    implementation of DeLong's algorithm*, IEEE Signal Processing Letters 2014.
    """
    if weights is not None and (len(edges) or len(thresholds)):
        raise ValueError("`edges` and `thresholds` are counted in sorted rows without weights only")
    return {
        "labels": checks.native(labels),
        "scores": checks.native(scores),
        "weights": checks.native(weights),
        "groups": checks.native(groups),
        "n_groups": n_groups,
        "detail": detail,
        "max_fprs": tuple(max_fprs),
        "tops": tuple(tops),
        "masses": tuple(masses),
        "thresholds": tuple(thresholds),
        "edges": tuple(edges),
        "threads": _threads.resolve(threads),
    }


def _edges(scores_of: Any, n: int, bins: int) -> np.ndarray:
    """Inner edges of bins of equal numbers of rows, as ``numpy.percentile`` places them."""
    places = np.linspace(0.0, 1.0, bins + 1)[1:-1] * 100 / 100 * (n - 1)
    low = np.floor(places).astype(np.int64)
    a, b, t = scores_of(low), scores_of(np.minimum(low + 1, n - 1)), places - low
    return np.where(t < 0.5, a + (b - a) * t, b - (b - a) * (1 - t))


@click_rank_sums.reference
def _(
    xp: ModuleType,
    labels: Any,
    scores: Any,
    weights: Any,
    groups: Any,
    n_groups: int,
    detail: int,
    max_fprs: tuple[float, ...],
    tops: tuple[float, ...],
    masses: tuple[int, ...],
    thresholds: tuple[float, ...],
    edges: tuple[np.ndarray, ...],
    threads: int,
) -> RankSums:
    n = len(scores)
    order = xp.argsort(-scores.astype(np.float64), kind="stable")
    score = scores[order].astype(np.float64)
    w = xp.ones(n) if weights is None else weights[order]
    y = labels[order].astype(np.float64)
    last = xp.append(xp.nonzero(score[1:] != score[:-1])[0], n - 1)  # the last row of each tie block
    tp, fp = xp.cumsum(w * y)[last], xp.cumsum(w * (1 - y))[last]
    tp0, fp0 = xp.append(0.0, tp[:-1]), xp.append(0.0, fp[:-1])
    pos, neg = tp - tp0, fp - fp0
    P, N = float(tp[-1]), float(fp[-1])
    gap = xp.abs(tp * N - fp * P)
    f1 = 2 * tp / xp.maximum(tp + fp + P, np.finfo(np.float64).tiny)
    best_gap, best_f1 = int(xp.argmax(gap)), int(xp.argmax(f1))
    nan = math.nan

    def area(limit: float) -> float:
        inside = fp0 <= limit
        end = xp.interp(limit, xp.append(0.0, fp), xp.append(0.0, tp))
        x, height = xp.append(fp0[inside], limit), xp.append(tp0[inside], end)
        return float((xp.diff(x) * (height[1:] + height[:-1]) / 2).sum())

    def bins_of(bins: int) -> Any:
        edges = xp.asarray(_edges(lambda rows: score[n - 1 - rows], n, bins))
        of = xp.searchsorted(edges, score)
        sums = (xp.bincount(of, v, minlength=bins) for v in (w, w * y, w * score))
        return xp.stack(list(sums), axis=1)

    def between(edges: Any) -> Any:
        of = xp.searchsorted(edges, score, side="right") - 1
        return xp.stack([xp.bincount(of, v, minlength=len(edges)) for v in (w, w * y, w * score)], axis=1)

    def of_group(g: int) -> RankSums:
        rows = groups == g
        if not rows.any():
            e = np.empty(0)
            return RankSums(0.0, 0.0, 0.0, nan, nan, nan, nan, nan, nan, nan, e, e, e, e, e, e)
        mine = {"weights": None if weights is None else weights[rows], "detail": 0}
        return click_rank_sums.run("reference", labels[rows], scores[rows], **mine)

    each = [of_group(g) for g in range(n_groups)] if groups is not None else []
    pooled = {
        "positive": P,
        "negative": N,
        "pairs": float((neg * (tp0 + pos / 2)).sum()),
        "precision": float((pos * tp / xp.maximum(tp + fp, np.finfo(np.float64).tiny)).sum()),
        "ks": float(gap[best_gap]) / (P * N) if P * N else nan,
        "ks_score": float(score[last[best_gap]]) if P * N and gap[best_gap] > 0 else nan,
        "f1": float(f1[best_f1]),
        "f1_score": float(score[last[best_f1]]) if f1[best_f1] > 0 else nan,
        "positive2": float((pos * (N - fp0 - neg / 2) ** 2).sum()),
        "negative2": float((neg * (tp0 + pos / 2) ** 2).sum()),
        "partial": np.array([area(f * N) for f in max_fprs]),
        "gain": np.array(
            [float(xp.interp(q * (P + N), xp.append(0.0, tp + fp), xp.append(0.0, tp))) for q in tops]
        ),
        "mass_bins": xp.concatenate([xp.zeros((0, 3)), *(bins_of(b) for b in masses)]),
    }
    known = [*_POOLED[: (0, 3, 8, 10)[detail + 1]], *(_LISTS[:3] if detail >= 0 else ())]
    return RankSums(
        **dict.fromkeys(_POOLED, nan)
        | dict.fromkeys(_LISTS[:3], np.empty(0))
        | {n: pooled[n] for n in known},
        group_positive=np.array([s.positive for s in each]),
        group_negative=np.array([s.negative for s in each]),
        group_pairs=np.array([s.pairs for s in each]),
        above=np.array(
            [[(w * y)[score >= t].sum(), (w * (1 - y))[score >= t].sum()] for t in thresholds]
        ).reshape(-1, 2),
        bins=xp.concatenate([xp.zeros((0, 3)), *map(between, edges)]),
    )


def _laned_sum(x: np.ndarray) -> float:
    """The sum in eight lanes: row i to lane i % 8, then the lanes."""
    lanes = np.add.reduce(np.append(x, np.zeros(-len(x) % 8)).reshape(-1, 8), axis=0)
    four = lanes[:4] + lanes[4:]
    return float((four[0] + four[2]) + (four[1] + four[3]))


def _of_units(high: int, low: int) -> float:
    """A sum of probabilities held in units of 2^-32 and 2^-64, rounded once."""
    return ((high << 32) + low) / 2**64


def _ordered(scores: np.ndarray) -> np.ndarray:
    """The integers that stand for scores, in their order; -0.0 and 0.0 have the same."""
    bits = (scores + scores.dtype.type(0)).view(np.uint64 if scores.itemsize == 8 else np.uint32)
    sign = bits.dtype.type(1 << (8 * scores.itemsize - 1))
    return np.where(bits & sign, ~bits, bits | sign)


class Order:
    """Rows sorted by falling score: words of score code | label, half words where those fit.

    Rows with weights are sorted as pairs with their row numbers, which are kept (``rows``), and their words are
    group | rank | label; so are grouped rows whose words would not fit.
    """

    def __init__(
        self,
        labels: np.ndarray,
        scores: np.ndarray,
        weights: np.ndarray | None,
        groups: np.ndarray | None,
        n_groups: int,
        threads: int,
        *,
        pooled: bool = True,
    ) -> None:
        self.n, self.threads, self.labels, self.scores = len(scores), threads, labels, scores
        self.rows: np.ndarray | None = None  # row numbers in sorted order, where they were kept
        self.low, self.high, _ = span(scores, threads)
        self._bits = np.uint64 if scores.dtype == np.float64 else np.uint32
        least, most = _ordered(np.array([self.low, self.high], scores.dtype)).tolist()
        bits = max(1, (most - least).bit_length())
        self.group_shift, self.group_bits = 1 + bits, max(n_groups - 1, 0).bit_length()
        self._by_group: list[np.ndarray] = []  # sorted on by group: words, and their places; shared by copies
        self.weights: np.ndarray | None = None
        narrow = scores.dtype == np.float32
        fits = 1 + bits + self.group_bits <= 64 and (narrow or groups is None)
        if weights is not None or not fits:
            self._sort_pairs(groups, bits)
        elif pooled and narrow and bits <= 31:
            self.words = np.empty(self.n, np.uint32)
            _kernel.sort_floats(scores, labels, self.high, bits, self.words, threads)
        elif pooled:
            self.words = self._packed(None)
            self._sort(self.words, 1, 1, 1 + bits)
        else:
            return
        if weights is not None:
            self.weights = weights[self.rows]
        self.mask = (1 << self.group_shift) - 1 if self.group_shift < 64 else 2**64 - 1
        self._count()

    def _packed(self, groups: np.ndarray | None) -> np.ndarray:
        words = np.empty(self.n, np.uint64)
        scores = _bytes(self.scores)
        _kernel.pack(
            scores, _kind(self.scores), self.labels, groups, self.group_shift, self.high, words, self.threads
        )
        return words

    def _sort_pairs(self, groups: np.ndarray | None, bits: int) -> None:
        pairs = np.empty(2 * self.n, np.uint64)
        scores = _bytes(self.scores)
        _kernel.pair_up(scores, _kind(self.scores), self.labels, self.high, pairs, self.threads)
        self._sort(pairs, 2, 0, bits)
        self.words = np.empty(self.n, np.uint64)
        _kernel.ranks(pairs, groups, self.words)
        self.rows = (pairs[1::2] >> np.uint64(1)).astype(np.int64)
        self.group_shift = 33

    def reweighted(self, weights: np.ndarray) -> Order:
        """The same order with other weights, given by row; only for an order that was made with weights."""
        other = copy.copy(self)
        other.weights = weights[self.rows]
        other._count()
        return other

    def _sort(self, rows: np.ndarray, stride: int, low: int, high: int) -> None:
        if high > low:
            _kernel.radix_sort(rows, np.empty_like(rows), stride, low, high, self.threads)

    def _count(self) -> None:
        chunks = _kernel.chunks(self.n)
        counts, sums = np.zeros(chunks + 1, np.int64), np.zeros((chunks + 1, 2))
        _kernel.count(_bytes(self.words), self.n, self.weights, counts[1:], sums[1:], self.threads)
        self.positives_before, self.weights_before = counts.cumsum(), sums.cumsum(axis=0)
        if self.weights is None:
            self.positive = float(self.positives_before[-1])
            self.negative = float(self.n - self.positives_before[-1])
        else:
            self.negative, self.positive = self.weights_before[-1].tolist()

    def sweep(self, detail: int, end: int | None = None, first: int = 0) -> np.ndarray:
        """Sums of each chunk of rows from the ``first`` on, before ``end``, which must be where a tie block ends."""
        words = self.words[:end]
        out = np.zeros(max(_kernel.chunks(len(words)) - first, 0), _SWEEP)
        if len(out):
            weights = None if self.weights is None else self.weights[:end]
            _kernel.sweep(
                _bytes(words), len(words), first, self.mask, weights, detail, self.positives_before,
                self.weights_before, int(self.positives_before[-1]), self.negative, self.positive,
                out.view(np.uint8), self.threads,
            )  # fmt: skip
        return out

    def pairs(self, sums: np.ndarray) -> float:
        if self.weights is None:
            return int(sums["pairs2"].sum()) / 2
        return math.fsum(sums["pairs2_sum"].tolist()) / 2

    def score_at(self, row: int) -> float:
        """The score of a row of the sorted order; NaN for -1."""
        return math.nan if row < 0 else float(self.scores_at(np.array([row]))[0])

    def scores_at(self, rows: np.ndarray) -> np.ndarray:
        """The scores of rows of the sorted order, as float64."""
        if self.rows is not None:
            return self.scores[self.rows[rows]].astype(np.float64)
        codes = (self.words[rows] >> self.words.dtype.type(1)).astype(self._bits)
        integers = _ordered(np.array([self.high], self.scores.dtype)) - codes
        sign = self._bits(1 << (8 * self.scores.itemsize - 1))
        bits = np.where(integers & sign, integers ^ sign, ~integers)
        return bits.view(self.scores.dtype).astype(np.float64)

    def block(self, row: int) -> tuple[int, int]:
        """First row, and one past the last, of the tie block that holds ``row``."""
        code = int(self.words[row]) & self.mask >> 1 << 1
        end = self.first(lambda word: word > code | 1, row)
        return self.first(lambda word: word >= code, 0, row), end

    def first(self, after: Any, low: int = 0, high: int | None = None) -> int:
        """The first row in low..high whose word, without its group, is ``after``; ``high`` if there is none."""
        high = self.n if high is None else high
        while low < high:
            middle = (low + high) // 2
            if after(int(self.words[middle]) & self.mask):
                high = middle
            else:
                low = middle + 1
        return low

    def before(self, row: int) -> tuple[float, float]:
        """Weight of the positives and of the negatives in front of a row."""
        chunk = row // _kernel.chunk_rows
        start = chunk * _kernel.chunk_rows
        if self.weights is None:
            inside = np.zeros(1, np.int64)
            if row > start:
                _kernel.count(_bytes(self.words[start:row]), row - start, None, inside, None, 1)
            positives = int(self.positives_before[chunk]) + int(inside[0])
            return float(positives), float(row - positives)
        label = self._labels(slice(start, row))
        weights = self.weights[start:row]
        negative, positive = self.weights_before[chunk].tolist()
        return positive + float(weights[label].sum()), negative + float(weights[~label].sum())

    def gain(self, share: float) -> float:
        """Weight of the positives in the top ``share`` of the weight, linear inside a block of ties."""
        wanted = share * (self.positive + self.negative)
        row = min(int(wanted), self.n - 1) if self.weights is None else self._reach(0, wanted)
        begin, end = self.block(row)
        tp, fp = self.before(begin)
        tp_end, fp_end = self.before(end)
        size = (tp_end + fp_end) - (tp + fp)
        return tp + (tp_end - tp) * min(max((wanted - (tp + fp)) / size, 0.0), 1.0) if size else tp

    def partial(self, max_fpr: float, sums: np.ndarray) -> float:
        """Area below the curve of positives against negatives, in pairs, up to a false positive rate.

        ``sums`` are those of a whole sweep.
        """
        limit = max_fpr * self.negative
        if limit >= self.negative or not self.negative:
            return self.pairs(sums)
        row = self._reach(1, limit)
        begin, end = self.block(row)
        tp, fp = self.before(begin)
        tp_end, fp_end = self.before(end)
        slope = (tp_end - tp) / (fp_end - fp)
        width = limit - fp
        chunk = begin // _kernel.chunk_rows  # its rows before `begin` are swept again
        before = np.concatenate([sums[:chunk], self.sweep(0, begin, chunk)])
        return self.pairs(before) + width * (tp + slope * width / 2)

    def _labels(self, rows: slice) -> np.ndarray:
        words = self.words[rows]
        return (words & words.dtype.type(1)).astype(bool)

    def _reach(self, column: int, wanted: float) -> int:
        """The row at which the weight of all rows (column 0), or of the negatives (1), reaches ``wanted``."""
        if self.weights is None:
            low, high = 0, self.n - 1
            while low < high:
                middle = (low + high) // 2
                if (middle + 1.0, self.before(middle + 1)[1])[column] >= wanted:
                    high = middle
                else:
                    low = middle + 1
            return low
        before = self.weights_before[:, 0] if column else self.weights_before.sum(axis=1)
        chunk = max(int(np.searchsorted(before, wanted)) - 1, 0)
        rows = slice(chunk * _kernel.chunk_rows, min((chunk + 1) * _kernel.chunk_rows, self.n))
        weights = self.weights[rows] * ~self._labels(rows) if column else self.weights[rows]
        running = before[chunk] + np.cumsum(weights)
        return min(rows.start + int(np.searchsorted(running, wanted)), self.n - 1)

    def above(self, edges: np.ndarray, *, equal: bool = False) -> np.ndarray:
        """How many rows have a score above each of the edges, or ``equal`` to it."""
        if self.rows is not None:
            falling = -self.scores[self.rows].astype(np.float64)
            return np.searchsorted(falling, -edges, side="right" if equal else "left")
        kind = self.scores.dtype.type
        with np.errstate(over="ignore"):
            near = edges.astype(kind)
        # Where no score can equal the edge, those from the next one on are above it.
        near = np.where(near < edges, np.nextafter(near, kind(np.inf)), near)
        inside = near.clip(kind(self.low), kind(self.high))
        words = (_ordered(np.array([self.high], kind)) - _ordered(inside)).astype(self.words.dtype) << 1
        before, after = (
            np.searchsorted(self.words, words),
            np.searchsorted(self.words, words | 1, side="right"),
        )
        rows = np.where(equal | (near != edges), after, before)
        return np.where(near > inside, 0, np.where(near < inside, self.n, rows))

    def mass_cuts(self, bins: int) -> np.ndarray:
        """Where bins of equal numbers of rows begin, lowest scores and last rows first."""
        edges = _edges(lambda rows: self.scores_at(self.n - 1 - rows), self.n, bins)
        return np.concatenate([[self.n], self.above(edges), [0]])

    def cuts(self, edges: np.ndarray) -> np.ndarray:
        """The same of bins whose lower edges are these, of which the first is below all scores."""
        return np.concatenate([[self.n], self.above(edges[1:], equal=True), [0]])

    def bins_between(self, lists: list[np.ndarray]) -> list[np.ndarray]:
        """w, w y and w p of the rows between falling cuts, for each list of cuts."""
        if self.weights is not None:
            return [self._weighted_bins(cuts.tolist()) for cuts in lists]
        starts = np.arange(0, self.n, _kernel.chunk_rows)
        rows = np.unique(np.concatenate([starts, [self.n], *lists]).astype(np.int64))
        sums = np.zeros((len(rows), 3), np.int64)
        if self.rows is None:
            _kernel.range_sums(
                _bytes(self.words),
                self.n,
                self.mask,
                _kind(self.scores),
                self.high,
                rows,
                sums[1:],
                self.threads,
            )
        else:
            scaled = self.scores[self.rows].astype(np.float64) * 2.0**32
            whole = np.rint(scaled)
            columns = self._labels(slice(None)), whole, np.rint((scaled - whole) * 2.0**32)
            sums[1:] = np.add.reduceat(np.stack(columns, axis=1).astype(np.int64), rows[:-1])
        before = sums.cumsum(axis=0)
        found = []
        for cuts in lists:
            inside = -np.diff(before[np.searchsorted(rows, cuts)], axis=0)
            scores = [_of_units(high, low) for high, low in inside[:, 1:].tolist()]
            found.append(np.stack([-np.diff(cuts), inside[:, 0], scores], axis=1).astype(np.float64))
        return found

    def _weighted_bins(self, cuts: list[int]) -> np.ndarray:
        assert self.rows is not None  # for the type checker
        assert self.weights is not None
        sums = np.zeros((len(cuts) - 1, 3))
        before = np.array([self.before(cut) for cut in cuts])
        sums[:, 0], sums[:, 1] = -np.diff(before.sum(axis=1)), -np.diff(before[:, 0])
        for b, (end, begin) in enumerate(itertools.pairwise(cuts)):
            sums[b, 2] = _laned_sum(self.scores[self.rows[begin:end]] * self.weights[begin:end])
        return sums

    def grouped(self, groups: np.ndarray, n_groups: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Positives, negatives and pairs of each group.  Words that hold groups are sorted on: ask for this last."""
        offsets = np.append(0, np.cumsum(np.bincount(groups, minlength=n_groups)))
        low, high = self.group_shift, self.group_shift + self.group_bits
        if self.weights is None:
            words = self.words if self.rows is not None else self._packed(groups)
            self._sort(words, 1, low if self.rows is not None else 1, high)
            positives, pairs2 = np.empty(n_groups, np.int64), np.empty(n_groups, np.int64)
            _kernel.group_counts(words, (1 << self.group_shift) - 1, offsets, positives, pairs2, self.threads)
            return positives.astype(float), (np.diff(offsets) - positives).astype(float), pairs2 / 2
        if not self._by_group:
            both = np.empty(2 * self.n, np.uint64)
            both[::2], both[1::2] = self.words, np.arange(self.n)
            self._sort(both, 2, low, high)
            self._by_group += both[::2].copy(), both[1::2].astype(np.int64)
        words, places = self._by_group
        weights = self.weights[places]
        sums = np.empty((3, n_groups))
        _kernel.group_weights(words, self.mask, weights, offsets, sums[0], sums[1], sums[2], self.threads)
        return sums[0], sums[1], sums[2] / 2


@click_rank_sums.cpu
def _(
    labels: np.ndarray,
    scores: np.ndarray,
    weights: np.ndarray | None,
    groups: np.ndarray | None,
    n_groups: int,
    detail: int,
    max_fprs: tuple[float, ...],
    tops: tuple[float, ...],
    masses: tuple[int, ...],
    thresholds: tuple[float, ...],
    edges: tuple[np.ndarray, ...],
    threads: int,
) -> RankSums:
    if len(scores) < ALONE:
        threads = 1
    order = Order(labels, scores, weights, groups, n_groups, threads, pooled=detail >= 0)
    return rank_sums(order, groups, n_groups, detail, max_fprs, tops, masses, thresholds, edges)


def rank_sums(
    order: Order,
    groups: np.ndarray | None,
    n_groups: int,
    detail: int = 2,
    max_fprs: Sequence[float] = (),
    tops: Sequence[float] = (),
    masses: Sequence[int] = (),
    thresholds: Sequence[float] = (),
    edges: Sequence[np.ndarray] = (),
) -> RankSums:
    """:func:`click_rank_sums` of rows that are sorted."""
    result: dict[str, Any] = dict.fromkeys(_POOLED, math.nan) | dict.fromkeys(_LISTS, np.empty(0))
    if detail >= 0:
        sums = order.sweep(detail)
        P, N = order.positive, order.negative
        result |= {
            "positive": P,
            "negative": N,
            "pairs": order.pairs(sums),
            "partial": np.array([order.partial(limit, sums) for limit in max_fprs]),
            "gain": np.array([order.gain(share) for share in tops]),
            "above": np.array(
                [
                    order.before(row)
                    for row in order.above(np.array(thresholds, np.float64), equal=True).tolist()
                ]
            ).reshape(-1, 2),
        }
        cuts = [*map(order.mass_cuts, masses), *map(order.cuts, edges)]
        found = [np.zeros((0, 3)), *(order.bins_between(cuts) if cuts else ())]
        result["mass_bins"] = np.concatenate(found[: 1 + len(masses)])
        result["bins"] = np.concatenate([found[0], *found[1 + len(masses) :]])
    if detail >= 1:
        ks, f1 = sums[int(np.argmax(sums["ks"]))], sums[int(np.argmax(sums["f1"]))]
        result |= {
            "precision": math.fsum(sums["precision"].tolist()),
            "ks": float(ks["ks"]) / (P * N) if P * N else math.nan,
            "ks_score": order.score_at(int(ks["ks_at"])),
            "f1": float(f1["f1"]),
            "f1_score": order.score_at(int(f1["f1_at"])),
        }
    if detail >= 2:
        result |= {name: math.fsum(sums[name].tolist()) / 4 for name in ("positive2", "negative2")}
    if groups is not None:
        of_groups = order.grouped(groups, n_groups)
        result |= dict(zip(("group_positive", "group_negative", "group_pairs"), of_groups))
    return RankSums(**result)


def _rank_rows(rng: Any, n: int, distinct: int, dtype: Any) -> dict[str, Any]:
    scores = rng.random(n) if distinct == 0 else rng.integers(0, distinct, n) / distinct
    labels = (rng.random(n) < 0.2 + 0.5 * scores).astype(np.uint8)
    return {"labels": labels, "scores": scores.astype(dtype)}


@click_rank_sums.cases
def _(rng: Any) -> Iterator[dict[str, Any]]:
    more = {"max_fprs": (0.1, 0.5, 1.0), "tops": (0.01, 0.1, 0.5, 1.0), "masses": (1, 10)}
    edges = (np.array([0.0, 1.0]), equal_edges(15, np.float64), equal_edges(3, np.float32))
    for dtype in (np.float32, np.float64):
        for n in (1, 2, 15, 16, 17, 63, 64, 65, 1000, 70000):
            for distinct in (0, 1, 3, 50):
                rows = _rank_rows(rng, n, distinct, dtype)
                yield {**rows, **more, "thresholds": (0.0, 0.3, 1 / 3, 2.0), "edges": edges}
                groups = rng.integers(0, 7, n).astype(np.int32)
                if n <= 1000:
                    yield {
                        **rows,
                        **more,
                        "groups": groups,
                        "n_groups": 8,
                        "edges": edges,
                        "thresholds": (0.5,),
                    }
                    yield {**rows, "groups": groups, "n_groups": 8, "detail": -1}
                    weights = rng.integers(0, 4, n) / 2
                    yield {**rows, **more, "weights": weights, "groups": groups, "n_groups": 8}
                    yield {**rows, "weights": rng.random(n), "detail": 0}
    wide = rng.standard_normal(500) * 10.0 ** rng.integers(-300, 300, 500)
    wide[:4] = -0.0, 0.0, np.inf, -np.inf
    labels = rng.integers(0, 2, 500).astype(np.uint8)
    yield {"labels": labels, "scores": wide}
    yield {"labels": labels, "scores": 1.0 + np.arange(500) % 100 * 2.0**-52}


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


def equal_edges(bins: int, dtype: Any) -> np.ndarray:
    """Lower edges ``b / bins`` of bins of equal width, rounded to the type of the scores, as float64; the last is 1.

    Quotients, so that 0.6 begins the fourth of five bins (``numpy.linspace`` puts that edge above 0.6).
    """
    return (np.arange(bins + 1) / bins).astype(dtype).astype(np.float64)


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
    y_kind, p_kind = _kind(y), _kind(p)
    _kernel.points(_bytes(y), y_kind, _bytes(p), p_kind, weights, n, loss, eps, centre, sums, threads)
    total = dict(zip(_POINT_SUMS, totals(sums).tolist()))
    return PointSums(**total, bins=_bins(y, p, weights, bins, threads) if bins else np.zeros((0, 3)))


def _bins(y: np.ndarray, p: np.ndarray, weights: np.ndarray | None, bins: int, threads: int) -> np.ndarray:
    """w, w y and w p of bins of equal width.  Without weights, and with labels of 0 and 1, the sums are exact, so that
    rows in any order give the same."""
    n, edges = len(y), equal_edges(bins, p.dtype)
    lanes = np.empty((threads, 24 * len(edges)))
    if weights is None and y.dtype == np.uint8:
        counts = np.empty((_kernel.chunks(n), len(edges), 4), np.int64)
        _kernel.bin_counts(y, _bytes(p), _kind(p), edges, lanes, counts, threads)
        each = counts.sum(axis=0).tolist()
        return np.array([(rows, hits, _of_units(high, low)) for rows, hits, high, low in each], np.float64)
    sums = np.empty((_kernel.chunks(n), len(edges), 3))
    _kernel.bins(_bytes(y), _kind(y), _bytes(p), _kind(p), weights, n, edges, lanes, sums, threads)
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


@dataclass(frozen=True, slots=True)
class PairSums:
    """Weight of pairs of rows with different targets: all of them (``pairs``), those whose scores are in the opposite
    order (``discordant``), and those whose scores are tied (``tied``).  Counts, and exact, where no weights were given.
    """

    pairs: float
    discordant: float
    tied: float


@operation(arrays=("y", "scores", "weights"), rtol=1e-12)
def click_pair_sums(
    y: Any, scores: Any, weights: Any = None, *, threads: int | None = None
) -> dict[str, Any]:
    """How many pairs of rows are in the right order; see :class:`PairSums`.

    Parameters
    ----------
    y : (n,) float64, no NaN
    scores : (n,) float32 or float64, no NaN
    weights : (n,) float64 or None
        A pair weighs the product of its rows' weights.
    threads : int or None

    Returns
    -------
    PairSums

    Notes
    -----
    O(n log n) time: two radix sorts, then the inversions of a merge sort.  Scratch: 64 bytes a row.
    Source: Knight, *A computer method for calculating Kendall's tau with ungrouped data*, JASA 1966.
    """
    return {
        "y": checks.native(y),
        "scores": checks.native(scores),
        "weights": checks.native(weights),
        "threads": _threads.resolve(threads),
    }


@click_pair_sums.reference
def _(xp: ModuleType, y: Any, scores: Any, weights: Any, threads: int) -> PairSums:
    w = xp.ones(len(y)) if weights is None else weights
    pairs = discordant = tied = 0.0
    for row in range(len(y)):
        below = y < y[row]
        pairs += float(w[row] * w[below].sum())
        discordant += float(w[row] * w[below & (scores > scores[row])].sum())
        tied += float(w[row] * w[below & (scores == scores[row])].sum())
    return PairSums(pairs, discordant, tied)


def falling(x: np.ndarray, threads: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers in falling order of x, ties in order of row, and where in it blocks of ties begin (n at the end)."""
    n = len(x)
    _, high, _ = span(x, threads)
    pairs, none = np.empty(2 * n, np.uint64), np.zeros(n, np.uint8)
    _kernel.pair_up(_bytes(x), _kind(x), none, high, pairs, threads)
    _kernel.radix_sort(pairs, np.empty_like(pairs), 2, 0, 64, threads)
    codes = pairs[::2]
    starts = np.flatnonzero(np.append(True, codes[1:] != codes[:-1]))
    return (pairs[1::2] >> np.uint64(1)).astype(np.int64), np.append(starts, n)


def _pairs_between(blocks: np.ndarray, parts: np.ndarray, weights: np.ndarray | None) -> float:
    """Weight of the pairs of rows that share a block but not a part of it: half of |block|^2 - sum of |part|^2.

    A block that is one part cancels exactly, so that no rounding is left where there is no pair.
    """
    if weights is None:
        sizes, of_parts = np.diff(blocks), np.diff(parts)
        return (int((sizes * sizes).sum()) - int((of_parts * of_parts).sum())) // 2
    sums, of_parts = (np.add.reduceat(weights, starts[:-1]) for starts in (blocks, parts))
    return math.fsum([*(sums * sums).tolist(), *(-of_parts * of_parts).tolist()]) / 2


@click_pair_sums.cpu
def _(y: np.ndarray, scores: np.ndarray, weights: np.ndarray | None, threads: int) -> PairSums:
    n = len(y)
    by_target, target_starts = falling(y, threads)
    by_score, score_starts = falling(scores[by_target], threads)  # ties in score: in falling order of target
    ranks = np.empty(n, np.uint32)
    ranks[by_target] = np.repeat(
        np.arange(len(target_starts) - 1, 0, -1, dtype=np.uint32), np.diff(target_starts)
    )
    order = by_target[by_score]
    ranks = ranks[order]
    w = None if weights is None else weights[order]
    same = np.append(True, ranks[1:] != ranks[:-1])
    same[score_starts[:-1]] = True
    both_starts = np.append(np.flatnonzero(same), n)
    of_target = None if weights is None else weights[by_target]
    pairs = _pairs_between(np.array([0, n]), target_starts, of_target)
    tied = _pairs_between(score_starts, both_starts, w)
    return PairSums(float(pairs), float(_ascents(ranks, w, threads)), float(tied))


def _ascents(ranks: np.ndarray, weights: np.ndarray | None, threads: int) -> float:
    """Weight of the pairs of rows of which the first has the smaller rank.  Sorts both arrays."""
    spare = np.empty_like(ranks)
    spare_weights = None if weights is None else np.empty_like(weights)
    total: list[float] = []
    count, width, size = 0, 1, 1 << 14
    while width < len(ranks):
        runs = -(-len(ranks) // size)
        counts, sums = np.zeros(runs, np.int64), np.zeros(runs)
        _kernel.ascents(ranks, spare, weights, spare_weights, width, size, counts, sums, threads)
        count += int(counts.sum())
        total += sums.tolist()
        width, size = size, 2 * size
    return count if weights is None else math.fsum(total)


@click_pair_sums.cases
def _(rng: Any) -> Iterator[dict[str, Any]]:
    for n in (1, 2, 3, 17, 500):
        for distinct in (1, 4, 10**6):
            y = rng.integers(0, distinct, n) / 7 - 1
            scores = (rng.integers(0, distinct, n) / 3).astype(np.float32)
            yield {"y": y, "scores": scores}
            yield {"y": y, "scores": scores.astype(np.float64), "weights": rng.random(n)}
    n = 3000
    yield {"y": rng.standard_normal(n), "scores": rng.standard_normal(n)}
