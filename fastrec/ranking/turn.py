"""Turned items: axes in which a few dimensions of embeddings hold nearly all that there is.

Embeddings of texts and images lie close to a subspace: of 384 dimensions, 136 of the right ones hold 88% of the squared
length.  Turned into those axes, the first dimensions decide nearly every comparison, and a screen gives most items up
before it reads the others.  That takes bounds that hold for all 32 items of a panel, so items that are alike share
panels (docs/adr/0011-int8-screen.md, "Turned items").

Nothing here can change an answer: any axes and any order are searched exactly.  These make it fast.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

PANEL, STRETCH = 32, 8  # kernels/cpu/ranking_types.h
LEAST_DIM, MOST_DIM = 64, 1024  # below, a stage costs what it saves; above, finding the axes takes seconds
ITEMS_A_DIM = 100  # so many items a dimension, or the matrix and turning queries by it would weigh something
QUERIES_A_DIM = 64  # that are searched, or finding the axes takes longer than they save
BEHIND = 0.12  # of the squared length may lie behind the first stage
LATEST = 0.55  # of the dimensions may lie before it, or there is little to gain
SAMPLE = 8192  # rows that axes and clusters are found from
CLUSTER = 256  # items
_MOST = 24  # clusters of a level: two levels fit in 10 bits
_ROUNDS = 8  # of k-means
_CHUNK = 32_768


@dataclass(frozen=True)
class Turn:
    """``matrix`` (d, d) float32, nearly orthonormal: a row times it is the row turned.  Stages lie after ``stages``
    groups of four dimensions; ``error`` bounds what turning two float32 vectors does to their product, relative to
    their lengths."""

    matrix: np.ndarray
    stages: tuple[int, int]
    error: float

    @classmethod
    def of(cls, matrix: np.ndarray, stages: tuple[int, int]) -> Turn:
        return cls(matrix, stages, error_of(matrix))

    def means(self, panels: int) -> int:
        """Floats that the means of so many panels take: kernels/cpu/ranking_types.h."""
        return -(-panels // (STRETCH * PANEL)) * PANEL * 4 * self.stages[0]


def find(sample: np.ndarray) -> Turn | None:
    """The axes of a sample (S, d) of float32 rows of length one, or None where turning would gain nothing."""
    d = sample.shape[1]
    rows = sample.astype(np.float64)
    energies, axes = np.linalg.eigh(rows.T @ rows)
    energies, axes = np.maximum(energies[::-1], 0.0), axes[:, ::-1]
    total = energies.sum()
    if not total > 0.0:
        return None
    behind = 1.0 - np.cumsum(energies) / total
    first = max(-(-(int(np.argmax(behind <= BEHIND)) + 1) // 4) * 4, d // 16 * 4)
    if first > LATEST * d:
        return None
    second = first + (d - first) // 12 * 4
    # Between stages only the sum counts: mixed at random, all dimensions use the whole range of their codes.
    rng = np.random.default_rng(d)
    for begin, end in ((0, first), (first, second), (second, d)):
        mixed, _ = np.linalg.qr(rng.standard_normal((end - begin, end - begin)))
        axes[:, begin:end] = axes[:, begin:end] @ mixed
    return Turn.of(np.ascontiguousarray(axes, np.float32), (first // 4, second // 4))


def error_of(matrix: np.ndarray) -> float:
    """A bound of ``|u.i - turned(u).turned(i)| / (|u| |i|)`` for sums in float32, in any order, fused or not.

    A product of turned vectors differs by what the matrix T lacks of being orthonormal, ``|T T^t - 1|``, and by the
    rounding of both: an entry of ``x T`` is off by at most ``(d + 2) 2^-24 |x| |t|`` for its column t (the rounding of
    ``x`` to float32 included), all of them together by ``(d + 2) 2^-24 |x| |T|``, with Frobenius norms.
    """
    d = len(matrix)
    exact = matrix.astype(np.float64)
    defect = float(np.linalg.norm(exact @ exact.T - np.eye(d))) + d * d * 2.0**-50
    rounding = (d + 2) * 2.0**-24 * float(np.linalg.norm(exact))
    return 1.01 * (defect + rounding * (2.0 * (1.0 + defect) + rounding))


def order(turn: Turn, rows: np.ndarray, read: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """``rows`` by cluster, and within one by their length behind the first stage.  ``read`` gives some of them as
    float32 rows of length one."""
    first = turn.matrix[:, : 4 * turn.stages[0]]
    rng = np.random.default_rng(len(rows))
    sample = read(np.sort(rng.choice(rows, min(SAMPLE, len(rows)), replace=False))) @ first
    count = min(_MOST, max(2, round((len(rows) / CLUSTER) ** 0.5)))
    coarse = _clusters(sample, count, rng)
    near = _nearest(sample, coarse)
    fine = [_clusters(sample[near == c], count, rng) for c in range(len(coarse))]
    cluster = np.empty(len(rows), np.int32)
    rest = np.empty(len(rows), np.float32)
    for begin in range(0, len(rows), _CHUNK):
        some = slice(begin, begin + _CHUNK)
        items = read(rows[some])
        inside = items @ first
        rest[some] = np.einsum("ij,ij->i", items, items) - np.einsum("ij,ij->i", inside, inside)
        near = _nearest(inside, coarse)
        found = near * np.int32(count)
        for c, centres in enumerate(fine):
            here = np.flatnonzero(near == c)
            found[here] += _nearest(inside[here], centres)
        cluster[some] = found
    # One integer to sort by, cluster, length and place, is an order of magnitude faster than two keys.
    keys = cluster.astype(np.uint64) << np.uint64(54)
    keys |= (np.maximum(rest, 0).view(np.uint32) >> np.uint32(9)).astype(np.uint64) << np.uint64(32)
    keys |= np.arange(len(rows), dtype=np.uint64)
    keys.sort()
    return rows[keys & np.uint64(0xFFFFFFFF)]


def _clusters(points: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Centres of at most ``count`` clusters, by k-means from points chosen at random."""
    if len(points) == 0:
        return np.zeros((1, points.shape[1]), np.float32)
    centres = points[rng.choice(len(points), min(count, len(points)), replace=False)]
    for _ in range(_ROUNDS):
        near = _nearest(points, centres)
        members = np.equal.outer(np.arange(len(centres)), near).astype(np.float32)
        sizes = members.sum(axis=1, keepdims=True)
        centres = np.where(sizes > 0, members @ points / np.maximum(sizes, 1), centres)
    return centres


def _nearest(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """The number of the closest centre of each point."""
    nearness = points @ centres.T - 0.5 * np.einsum("ij,ij->i", centres, centres)
    return nearness.argmax(axis=1).astype(np.int32)
