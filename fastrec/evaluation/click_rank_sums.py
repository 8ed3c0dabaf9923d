"""``click_rank_sums``: the sums that need the rows in order of score.

The rows are sorted once, by radix, on an unsigned integer that has the order of the scores (Herf, *Radix tricks*,
2001).  One sweep over the sorted rows, a block of tied scores at a time, gives everything that depends on the order
alone: AUC, partial AUC, average precision, KS, the best F1, gains, DeLong's variances.  Rows sorted by group and score
give the AUC of every group.

Counts are integers and exact.  Float sums are float64, taken over fixed chunks of rows and added exactly
(``math.fsum``), so no number depends on threads, instruction set, or on which other sums were asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

from fastrec._core import checks
from fastrec._core import threads as _threads
from fastrec._core.op import operation
from fastrec.evaluation.click_columns import ALONE, equal_edges
from fastrec.evaluation.click_order import Order, mass_edges

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
    O(n) time, O(n log n) at worst.  Scratch: 8 bytes a row for float32 scores on less than half of the number line,
    else 16; 16 more with groups; 48 with weights, and with float64 scores that are grouped, or spread over more than
    half of the number line.
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
        edges = xp.asarray(mass_edges(lambda rows: score[n - 1 - rows], n, bins))
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
            "mass_bins": np.zeros((0, 3)),
        }
        if thresholds or masses or edges:
            inner = [order.mass_edges(bins) for bins in masses]
            rows = order.above(inner, [np.array(thresholds, np.float64), *(of[1:] for of in edges)])
            at_thresholds = rows.pop(len(masses)).tolist()
            result["above"] = np.array([order.before(row) for row in at_thresholds]).reshape(-1, 2)
            found = order.bins_between([order.cuts(above) for above in rows])
            for name, bins in (("mass_bins", found[: len(masses)]), ("bins", found[len(masses) :])):
                if bins:
                    result[name] = np.concatenate(bins)
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
