"""``fr.evaluate_clicks`` of arrays on a card: every metric, most of them from one sort.

Words of group, score and label are sorted by CuPy (a radix sort, docs/adr/0013-sorts-on-a-card.md); the rest is
kernels/cuda/clicks.cu.  Counts are exact; float64 sums are made in a fixed order within chunks and added exactly on the
host, which is all that leaves the card.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Set
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

from fastrec._core import arrays, checks, cuda
from fastrec._core import sums as _sums
from fastrec.evaluation.click_columns import MAX_ROWS, equal_edges, totals
from fastrec.evaluation.click_metrics import THRESHOLD_METRICS
from fastrec.evaluation.click_order import mass_edges
from fastrec.evaluation.click_pair_sums import PairSums
from fastrec.evaluation.click_point_sums import PointSums
from fastrec.evaluation.click_rank_sums import RankSums
from fastrec.evaluation.click_rows import HEAVY, LIGHT
from fastrec.evaluation.named_values import NamedValues

TIES, ROWS, BINS = 4096, 65536, 255  # FR_TIES and FR_ROWS of clicks.cu; bins that have a thread each
_GRID = 4096
KINDS = ("binary", "soft", "real")  # of labels


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
    mass: dict[int, np.ndarray] = field(default_factory=dict)
    confusion: dict[float, tuple[float, float, float, float]] = field(default_factory=dict)
    group_gap: float = math.nan


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


def adopted(y_true: Any, y_prob: Any, groups: Any, weights: Any) -> tuple[Any, Any, Any, Any]:
    """The columns as arrays of one card."""
    y, p = _column(y_true, "y_true"), _column(y_prob, "y_prob")
    codes = None if groups is None else arrays.adopt(groups, "groups")
    w = None if weights is None else arrays.adopt(weights, "weights")
    arrays.common_device(y_true=y, y_prob=p, groups=codes, weights=w)
    return y, p, codes, w


def read_rows(
    y: Any, p: Any, codes: Any, w: Any, wanted: list[Any], needs: Set[str], *, whole: bool = True
) -> _Rows:
    """Adopted columns, checked, on the current card; without ``whole`` they may be empty or weigh nothing."""
    xp, n = arrays.namespace(y), len(y)
    if len(p) != n:
        raise ValueError(f"`y_prob` must have shape ({n},) to match `y_true`; got {p.shape}.")
    if not int(whole) <= n <= MAX_ROWS:
        raise ValueError(f"`y_true` must have between 1 and {MAX_ROWS} rows; got {n}")
    if codes is None and "groups" in needs:
        which = ", ".join(repr(one.name) for one in wanted if "groups" in one.definition.needs)
        raise ValueError(f"`groups` must be given for {which}: the group (user, query, ...) of each row")
    if p.dtype not in (np.float32, np.float64):
        p = p.astype(np.float32 if p.dtype.itemsize < 3 else np.float64)
    w = None if w is None else checks.contiguous(_column(w, "weights", n), np.float64)
    if codes is not None:
        _check_groups(codes, n)
    labels, targets = _labels(xp, y, p, w, wanted, whole) if n else (y.astype(np.uint8), None)
    return _Rows(xp, labels, targets, p, w)


def sums_of(
    y_true: Any,
    y_prob: Any,
    groups: Any,
    weights: Any,
    *,
    wanted: list[Any],
    needs: Set[str],
    eps: float | None,
) -> Found:
    """The sums that metrics need of rows on a card; refuses what the CPU does, and more."""
    y, p, codes, w = adopted(y_true, y_prob, groups, weights)
    n = len(y)
    with cuda.on(y) as xp, cuda.room_for(f"the click metrics of {n} rows"):
        rows = read_rows(y, p, codes, w, wanted, needs)
        p, w = rows.p, rows.w
        counts = {"rows": n}
        if rows.labels is not None:
            counts["positives"] = int(rows.labels.sum(dtype=np.int64))
            counts["negatives"] = n - counts["positives"]
        dense, n_groups = (None, 0) if codes is None else _dense(xp, codes)
        if dense is not None:
            counts["groups"] = n_groups
            if rows.labels is not None:
                counts["single_class_groups"] = _single_class(rows, dense, n_groups)
        found = Found(counts, float(np.finfo(p.dtype).eps) if eps is None else eps)

        def parameters(*names: str) -> list[Any]:
            return sorted({one.parameter for one in wanted if one.metric in names})

        if rows.labels is not None:
            for cut in parameters(*THRESHOLD_METRICS):
                found.confusion[cut] = confusion(rows.labels, p, w, cut)
            if needs & {"rank", "pairs"} or parameters("gauc"):
                _sort(found, rows, needs, parameters, dense, n_groups)
        elif "pairs" in needs:
            found.pair = pair_sums(rows)
        for bins in parameters("ace"):
            found.mass[bins] = rows.bins(mass_edges(_percentiles(xp, xp.sort(p)), n, bins))
        if needs & {"point", "loss", "bins", "spread", "gap"}:
            for bins in parameters("ece", "mce") or [0]:
                found.points[bins] = rows.sums(bins, "loss" in needs, found.eps, "spread" in needs)
        if "gap" in needs and dense is not None:
            order, ends = _segments(xp, dense, n_groups)
            _, label, prob = rows.segments(order, ends).get().T
            found.group_gap = math.fsum(np.abs(prob - label).tolist())
        return found


def _sort(found: Found, rows: _Rows, needs: Set[str], parameters: Any, dense: Any, n_groups: int) -> None:
    """What follows from rows in order, of labels of 0 and 1."""
    xp, w = rows.xp, rows.w
    words_of, values, of_groups = _Words(xp, rows.labels, rows.p), dict(_NO_RANKS), [np.empty(0)] * 3
    if needs & {"rank", "pairs"}:
        curve = _CountCurve(xp, words_of) if w is None else _MassCurve(xp, words_of, w)
        values = curve.values
        found.partial = {limit: curve.partial(limit) for limit in parameters("pauc")}
        found.gain = {share: curve.gain(share) for share in parameters("gain", "lift")}
        pairs = values["positive"] * values["negative"]
        # With two targets the pairs are those that the sweep has counted.
        found.pair = PairSums(pairs, pairs - values["pairs"], 0.0)
    if dense is not None and parameters("gauc"):
        of_groups = (
            group_sums(xp, words_of(dense), n_groups)
            if w is None
            else weighted_group_sums(xp, words_of(dense), w, n_groups)
        )
    found.rank = RankSums(
        **values, ks_score=math.nan, f1_score=math.nan, positive2=math.nan, negative2=math.nan,
        partial=np.empty(0), gain=np.empty(0), mass_bins=np.zeros((0, 3)), group_positive=of_groups[0],
        group_negative=of_groups[1], group_pairs=of_groups[2],
    )  # fmt: skip


def _labels(xp: ModuleType, y: Any, p: Any, w: Any, wanted: list[Any], whole: bool) -> tuple[Any, Any]:
    """(labels as bytes, None) where all are 0 or 1, else (None, targets as float64); waits for the card, once.

    Refuses, as the CPU does, what the metrics cannot do with: labels of other values, NaN, scores out of 0..1 or
    infinite, bad weights; with ``whole``, weights that are all 0.
    """
    first = {
        kind: next((one.name for one in wanted if one.definition.labels == kind), None) for kind in KINDS
    }
    probable = next((one.name for one in wanted if one.definition.probabilities), None)
    faults = {
        "binary": (y != 0) & (y != 1), "soft": ~((y >= 0) & (y <= 1)), "real": ~xp.isfinite(y), "nan": xp.isnan(p),
        "range": (p < 0) | (p > 1), "infinite": xp.isinf(p),
    }  # fmt: skip
    if w is not None:
        faults["weight"] = ~(xp.isfinite(w) & (w >= 0))
        faults["extreme"] = ((w > 0) & (w < LIGHT)) | (w > HEAVY)
        if whole:
            faults["nothing"] = (w == 0).all().reshape(1)
    rows = xp.stack([xp.where(fault.any(), fault.argmax(), -1) for fault in faults.values()]).get().tolist()
    bad = {name: row for name, row in zip(faults, rows) if row >= 0}

    def refuse(name: str, of: str, values: Any, must: str, hint: str = "") -> None:
        if name in bad:
            raise ValueError(f"`{of}` must {must}; row {bad[name]} is {values[bad[name]].item()}{hint}")

    refuse("nan", "y_prob", p, "not hold NaN")
    if probable is not None:
        hint = ". Ranking metrics (auc, gauc, ap, ...) take any score"
        refuse("range", "y_prob", p, f"lie in 0..1 for {probable!r}", hint)
    if first["real"] is not None:
        refuse("infinite", "y_prob", p, f"be finite for {first['real']!r}")
    if "binary" in bad:
        if first["binary"] is not None:
            refuse("binary", "y_true", y, f"hold 0 and 1 for {first['binary']!r}")
        if first["soft"] is not None:
            refuse("soft", "y_true", y, f"lie in 0..1 for {first['soft']!r}")
        refuse("real", "y_true", y, "be finite")
    refuse("weight", "weights", w, "be finite and not negative")
    hint = ". Only their ratios matter: divide them by their mean"
    refuse("extreme", "weights", w, f"be 0, or from {LIGHT} to {HEAVY}", hint)
    if "nothing" in bad:
        raise ValueError("`weights` must not be all 0")
    return ((y != 0).astype(np.uint8), None) if "binary" not in bad else (None, y.astype(np.float64))


def _dense(xp: ModuleType, groups: Any) -> tuple[Any, int]:
    """Codes 0..G-1 of integer groups, and how many there are; waits for the card."""
    labels, codes = xp.unique(groups, return_inverse=True)
    return codes.astype(np.int32), len(labels)


def _check_groups(groups: Any, n: int) -> None:
    if groups.shape != (n,):
        raise ValueError(f"`groups` must have shape ({n},) to match `y_true`; got {groups.shape}")
    if groups.dtype.kind not in "iu":
        raise TypeError(f"`groups` must hold integers on a card; got dtype {groups.dtype}")


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


class _Rows:
    """The checked rows of a call: ``labels`` of 0 and 1, or real ``targets``; ``w`` None where all weigh 1."""

    def __init__(self, xp: ModuleType, labels: Any, targets: Any, p: Any, w: Any) -> None:
        self.xp, self.labels, self.targets, self.p, self.w = xp, labels, targets, p, w
        half = p.dtype == np.float32
        self._p = (p if half else None, None if half else p)

    def sums(self, bins: int, loss: bool, eps: float, spread: bool) -> PointSums:
        """:class:`PointSums`, with equal bins where ``bins`` is not 0."""
        edges = equal_edges(bins, self.p.dtype) if bins else None
        wide = edges is not None and len(edges) > BINS + 1
        each, of_bins = self._points(None if wide else edges, loss, eps, 0.0)
        if edges is not None and wide:
            of_bins = self.bins_from(edges)
        weight, label, prob, losses, square, absolute, _ = each
        centre = label / weight
        if not spread:
            around = math.nan
        elif self.labels is not None:  # two values: no second pass
            around = label * (1.0 - centre) ** 2 + (weight - label) * centre**2
        else:
            around = self._points(None, False, eps, centre)[0][-1]
        return PointSums(weight, label, prob, losses, square, absolute, around, of_bins)

    def bins(self, inner: np.ndarray) -> np.ndarray:
        """w, w y and w p of the bins between edges, each of which still belongs to the bin below it."""
        edges = np.append(-np.inf, np.nextafter(inner, np.inf))
        return self._points(edges, False, 0.0, 0.0)[1] if len(edges) <= BINS + 1 else self.bins_from(edges)

    def bins_from(self, edges: np.ndarray) -> np.ndarray:
        """The same of any number of bins that begin at ``edges``, by another sort."""
        xp = self.xp
        place = xp.searchsorted(xp.asarray(edges), self.p.astype(np.float64), side="right") - 1
        return self.segments(*_segments(xp, place, len(edges))).get()

    def segments(self, order: Any, ends: Any) -> Any:
        """(segments, 3) of w, w y and w p of the rows ``order[ends[s] : ends[s + 1]]``."""
        count = len(ends) - 1
        sums = self.xp.empty((count, 3), np.float64)
        cuda.kernel("clicks.cu", "fr_click_segments")(
            cuda.blocks(count, 8, _GRID), 256, order, ends, cuda.i64(count), self.labels, self.targets, *self._p,
            self.w, sums,
        )  # fmt: skip
        return sums

    def _points(
        self, edges: np.ndarray | None, loss: bool, eps: float, centre: float
    ) -> tuple[list[float], np.ndarray]:
        n = len(self.p)
        chunks, bins = -(-n // ROWS), 0 if edges is None else len(edges) - 1
        sums = self.xp.empty((chunks, 7), np.float64)
        bin_sums = self.xp.empty((chunks, bins + 1, 3), np.float64)
        cuda.kernel("clicks.cu", "fr_click_points")(
            chunks, 256, self.labels, self.targets, *self._p, self.w, cuda.i64(n), cuda.i32(loss), cuda.f64(eps),
            cuda.f64(centre), None if edges is None else self.xp.asarray(edges), cuda.i32(bins), sums, bin_sums,
        )  # fmt: skip
        of_bins = np.zeros((0, 3)) if edges is None else totals(bin_sums.get())
        return totals(sums.get()).tolist(), of_bins


def _segments(xp: ModuleType, codes: Any, count: int) -> tuple[Any, Any]:
    """Rows in order of their codes 0..count-1, earlier rows first, and where each code begins."""
    order = xp.argsort(codes)
    ends = xp.searchsorted(codes[order], xp.arange(count + 1).astype(codes.dtype)).astype(np.int64)
    return order.astype(np.int64), ends


def _single_class(rows: _Rows, dense: Any, n_groups: int) -> int:
    """Groups without a positive or without a negative row that weighs anything; waits for the card."""
    counted = [rows.labels != 0, rows.labels == 0]
    if rows.w is not None:
        counted = [which & (rows.w > 0) for which in counted]
    either = [
        rows.xp.bincount(dense, weights=which.astype(np.float64), minlength=n_groups) for which in counted
    ]
    return int(((either[0] == 0) | (either[1] == 0)).sum())


def _percentiles(xp: ModuleType, rising: Any) -> Any:
    """Scores at places in rising order, on the host as float64."""
    return lambda places: rising[xp.asarray(places)].get().astype(np.float64)


def pair_sums(rows: _Rows) -> PairSums:
    """:class:`PairSums` of real targets: with rows in falling order of score, and of target where scores tie, pairs in
    the wrong order are those whose targets rise.  Their numbers differ first at one bit, the earlier row's being 0: a
    pass a bit counts them, with rows of equal higher bits together.  O(n log n) passes of CuPy's; 100 bytes a row.
    """
    xp, w, n = rows.xp, rows.w, len(rows.p)
    values, target = xp.unique(rows.targets, return_inverse=True)
    scores, score = xp.unique(rows.p, return_inverse=True)
    target, score = target.astype(np.int64), score.astype(np.int64)
    key = (len(scores) - 1 - score) * len(values) + (len(values) - 1 - target)

    def squares(codes: Any) -> Any:
        """Sum of the squared weight of each set of rows with one code."""
        _, dense = xp.unique(codes, return_inverse=True)
        order, ends = _segments(xp, dense.astype(np.int64), int(dense.max()) + 1)
        sizes = ends[1:] - ends[:-1] if w is None else rows.segments(order, ends)[:, 0]
        return (sizes * sizes).sum()

    all_rows = xp.zeros(n, np.int64)
    pairs = float((squares(all_rows) - squares(target)).item()) / 2
    tied = float((squares(score) - squares(key)).item()) / 2
    order = xp.argsort(key)
    codes, weights = target[order], xp.ones(n, np.int64) if w is None else w[order]
    rising = []
    for bit in reversed(range(max(1, (len(values) - 1).bit_length()))):
        upper, ones = codes >> (bit + 1), (codes >> bit) & 1
        before = xp.zeros(n + 1, weights.dtype)
        before[1:] = xp.cumsum(weights * (1 - ones))
        here = before[:-1] - before[xp.searchsorted(upper, upper)]
        rising.append((weights * ones * here).sum())
        order = xp.argsort(codes >> bit)
        codes, weights = codes[order], weights[order]
    found = xp.stack(rising).get().tolist()
    return PairSums(pairs, float(sum(found) if w is None else math.fsum(found)), tied)
