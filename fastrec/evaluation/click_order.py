"""``Order``: rows sorted by falling score, and what their order answers."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastrec._kernels import clicks as _kernel
from fastrec.evaluation.click_columns import bytes_of, kind_of, of_units, parts, span

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


def mass_edges(scores_of: Any, n: int, bins: int) -> np.ndarray:
    """Inner edges of bins of equal numbers of rows, as ``numpy.percentile`` places them."""
    places = np.linspace(0.0, 1.0, bins + 1)[1:-1] * 100 / 100 * (n - 1)
    low = np.floor(places).astype(np.int64)
    a, b = scores_of(np.stack([low, np.minimum(low + 1, n - 1)]).ravel()).reshape(2, -1)
    t = places - low
    return np.where(t < 0.5, a + (b - a) * t, b - (b - a) * (1 - t))


def _laned_sum(x: np.ndarray) -> float:
    """The sum in eight lanes: row i to lane i % 8, then the lanes."""
    lanes = np.add.reduce(np.append(x, np.zeros(-len(x) % 8)).reshape(-1, 8), axis=0)
    four = lanes[:4] + lanes[4:]
    return float((four[0] + four[2]) + (four[1] + four[3]))


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
        low, self.high, _ = span(scores, threads)
        bits = _kernel.score_bits(kind_of(scores), low, self.high)
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
        self._bytes, self._kind = bytes_of(self.words), kind_of(scores)
        self._count()

    def _packed(self, groups: np.ndarray | None) -> np.ndarray:
        words = np.empty(self.n, np.uint64)
        scores = bytes_of(self.scores)
        _kernel.pack(
            scores,
            kind_of(self.scores),
            self.labels,
            groups,
            self.group_shift,
            self.high,
            words,
            self.threads,
        )
        return words

    def _sort_pairs(self, groups: np.ndarray | None, bits: int) -> None:
        pairs = np.empty(2 * self.n, np.uint64)
        scores = bytes_of(self.scores)
        _kernel.pair_up(scores, kind_of(self.scores), self.labels, self.high, pairs, self.threads)
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
        _kernel.count(self._bytes, self.n, self.weights, counts[1:], sums[1:], self.threads)
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
                bytes_of(words), len(words), first, self.mask, weights, detail, self.positives_before,
                self.weights_before, int(self.positives_before[-1]), self.negative, self.positive,
                out.view(np.uint8), self.threads,
            )  # fmt: skip
        return out

    def pairs(self, *sums: np.ndarray) -> float:
        """Weight of the pairs that sweeps have counted."""
        if self.weights is None:
            return sum(int(some["pairs2"].sum()) for some in sums) / 2
        return math.fsum(pairs2 for some in sums for pairs2 in some["pairs2_sum"].tolist()) / 2

    def score_at(self, row: int) -> float:
        """The score of a row of the sorted order; NaN for -1."""
        return math.nan if row < 0 else float(self.scores_at(np.array([row]))[0])

    def scores_at(self, rows: np.ndarray) -> np.ndarray:
        """The scores of rows of the sorted order, as float64."""
        if self.rows is not None:
            return self.scores[self.rows[rows]].astype(np.float64)
        scores = np.empty(len(rows))
        _kernel.scores_at(self._bytes, self.n, self.mask, self._kind, self.high, rows, scores)
        return scores

    def block(self, row: int) -> tuple[int, int]:
        """First row, and one past the last, of the tie block that holds ``row``."""
        return _kernel.block(self._bytes, self.n, self.mask, row)

    def before(self, row: int) -> tuple[float, float]:
        """Weight of the positives and of the negatives in front of a row."""
        chunk = row // _kernel.chunk_rows
        start = chunk * _kernel.chunk_rows
        if self.weights is None:
            positives = int(self.positives_before[chunk]) + _kernel.positives(self._bytes, self.n, start, row)
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
        inside = self.pairs(sums[:chunk], self.sweep(0, begin, chunk))
        return inside + width * (tp + slope * width / 2)

    def _labels(self, rows: slice) -> np.ndarray:
        words = self.words[rows]
        return (words & words.dtype.type(1)).astype(bool)

    def _reach(self, column: int, wanted: float) -> int:
        """The row at which the weight of all rows (column 0), or of the negatives (1), reaches ``wanted``."""
        if self.weights is None:
            chunks = np.arange(len(self.positives_before)) * _kernel.chunk_rows
            negatives = np.minimum(chunks, self.n) - self.positives_before
            chunk = max(int(np.searchsorted(negatives, wanted)) - 1, 0)
            rows = slice(chunk * _kernel.chunk_rows, min((chunk + 1) * _kernel.chunk_rows, self.n))
            return _kernel.negative_row(
                self._bytes, self.n, rows.start, rows.stop, int(negatives[chunk]), wanted
            )
        before = self.weights_before[:, 0] if column else self.weights_before.sum(axis=1)
        chunk = max(int(np.searchsorted(before, wanted)) - 1, 0)
        rows = slice(chunk * _kernel.chunk_rows, min((chunk + 1) * _kernel.chunk_rows, self.n))
        weights = self.weights[rows] * ~self._labels(rows) if column else self.weights[rows]
        running = before[chunk] + np.cumsum(weights)
        return min(rows.start + int(np.searchsorted(running, wanted)), self.n - 1)

    def above(self, edges: Sequence[np.ndarray], closed: Sequence[np.ndarray]) -> list[np.ndarray]:
        """How many rows have a score above each of the edges and, of the ``closed`` ones, equal to it."""
        lists = [*edges, *closed]
        sought = np.concatenate(lists)
        is_closed = np.arange(len(sought)) >= sum(map(len, edges))
        if self.rows is None:
            found = np.empty(len(sought), np.int64)
            _kernel.above(
                self._bytes, self.n, self.mask, self._kind, self.high, sought, bytes_of(is_closed), found
            )
        else:
            falling = -self.scores[self.rows].astype(np.float64)
            left, right = (np.searchsorted(falling, -sought, side) for side in ("left", "right"))
            found = np.where(is_closed, right, left)
        return parts(found, map(len, lists))

    def mass_edges(self, bins: int) -> np.ndarray:
        """:func:`mass_edges` of these rows."""
        return mass_edges(lambda rows: self.scores_at(self.n - 1 - rows), self.n, bins)

    def cuts(self, above: np.ndarray) -> np.ndarray:
        """Where bins begin, lowest scores and last rows first, that this many rows lie above the inner edges of."""
        return np.concatenate([[self.n], above, [0]])

    def bins_between(self, lists: list[np.ndarray]) -> list[np.ndarray]:
        """w, w y and w p of the rows between falling cuts, for each list of cuts."""
        if not lists:
            return []
        if self.weights is not None:
            return [self._weighted_bins(cuts.tolist()) for cuts in lists]
        starts = np.arange(0, self.n, _kernel.chunk_rows)
        rows = np.unique(np.concatenate([starts, [self.n], *lists]).astype(np.int64))
        sums = np.zeros((len(rows), 3), np.int64)
        if self.rows is None:
            words = (self._bytes, self.n, self.mask, self._kind, self.high)
            _kernel.range_sums(*words, rows, sums[1:], self.threads)
        else:
            scaled = self.scores[self.rows].astype(np.float64) * 2.0**32
            whole = np.rint(scaled)
            columns = self._labels(slice(None)), whole, np.rint((scaled - whole) * 2.0**32)
            sums[1:] = np.add.reduceat(np.stack(columns, axis=1).astype(np.int64), rows[:-1])
        before = sums.cumsum(axis=0)
        found = []
        for cuts in lists:
            inside = before[np.searchsorted(rows, cuts)]
            inside = inside[:-1] - inside[1:]
            bins = np.empty(inside.shape)
            bins[:, 0], bins[:, 1] = cuts[:-1] - cuts[1:], inside[:, 0]
            bins[:, 2] = [of_units(high, low) for high, low in inside[:, 1:].tolist()]
            found.append(bins)
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
