"""What the packed copy says of the items is true of every one of them, and tells a search as much as it can."""

from __future__ import annotations

import numpy as np
import pytest

import fastrec as fr
from fastrec._kernels import ranking as _kernels
from fastrec.ranking.index import PANEL, view

SCALE, RESIDUAL, NORM, TAIL = 0, 1, 2, 7  # of a panel's record: kernels/cpu/ranking_types.h


def differing(n: int, d: int, seed: int = 0) -> np.ndarray:
    """Items whose norms differ as those of factor models do."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((n, d)) * rng.gamma(2, size=(n, 1))).astype(np.float32)


@pytest.mark.parametrize("d", [64, 67, 130, 600])
@pytest.mark.parametrize("n", [33, 64, 1000, 5000])
def test_records_hold_for_every_item_and_are_tight(n: int, d: int) -> None:
    items = differing(n, d)
    index = fr.Index(items, precision="int8")
    order, unit = index._order.astype(np.int64), 2.0**-index._exponent
    panels, quads = len(order) // PANEL, -(-d // 4)
    rows = np.where(order < n, order, 0)
    x = items[rows].astype(np.float64) * unit * (order < n)[:, None]
    codes = index._codes.reshape(panels, quads, PANEL, 4).transpose(0, 2, 1, 3).reshape(len(order), -1)[:, :d]
    meta = np.repeat(index._meta[:panels].astype(np.float64), PANEL, axis=0)
    rest = np.repeat(index._rest.reshape(panels, -1).astype(np.float64), PANEL, axis=0)
    lost = x - meta[:, SCALE, None] * (codes.astype(np.float64) - 128.0)
    truth = {NORM: np.linalg.norm(x, axis=1), RESIDUAL: np.linalg.norm(lost, axis=1)}
    pairs = np.arange(len(order)) // (2 * PANEL)

    def holds(bound: np.ndarray, true: np.ndarray) -> None:
        assert (bound >= true).all()
        most = np.zeros(pairs[-1] + 1)
        np.maximum.at(most, pairs, true)
        np.testing.assert_allclose(bound, most[pairs], rtol=1e-6, atol=1e-12)

    for field, true in truth.items():
        holds(meta[:, field], true)
    for place, groups in enumerate(index._places()):
        holds(rest[:, place], np.linalg.norm(x[:, 4 * groups :], axis=1))
    later = np.maximum.accumulate(meta[::-1, NORM])[::-1]
    np.testing.assert_array_equal(meta[:, TAIL], later)
    assert sorted(order[order < n]) == list(range(n))


def test_items_of_like_norm_lie_by_what_is_behind_the_middle() -> None:
    items = differing(60_000, 64)
    index = fr.Index(items, precision="int8")
    norms = np.linalg.norm(items.astype(np.float64), axis=1)
    ordered = norms[index._order[: len(items)].astype(np.int64)]
    assert (ordered[1:] <= ordered[:-1] * (1 + 2.0**-7)).all(), (
        "norms fall, but for those that are nearly equal"
    )
    rest = index._rest.reshape(-1, len(index._places()))[:, len(index._places()) // 2]
    bound = rest / index._meta[:-1, NORM]
    by_norm = np.argsort(-norms, kind="stable")[: len(items) // PANEL * PANEL].reshape(-1, PANEL)
    behind = np.linalg.norm(items[:, 32:].astype(np.float64), axis=1)
    alone = behind[by_norm].max(axis=1) / norms[by_norm].max(axis=1)
    assert bound.mean() < 0.97 * alone.mean(), "no better than in the order of norms alone"


@pytest.mark.parametrize("d", [64, 511, 512, 513, 1100])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_norms_and_what_is_behind_a_cut(d: int, dtype: str) -> None:
    rng = np.random.default_rng(d)
    items = rng.standard_normal((70, d)).astype(dtype)
    items[3] = 0.0
    items[4, : d // 2] = 0.0
    items[5, d // 2 :] = 0.0
    items[6, 0], items[7, -1], items[8, 1] = np.nan, np.inf, -np.inf
    norms, behind = np.empty(70), np.empty(70, np.uint16)
    _kernels.norms(view(items, dtype, "dot", None), norms, d // 2, behind, 1)
    x = items.astype(np.float64)
    squares = (x * x).sum(axis=1)
    finite = np.isfinite(squares)
    np.testing.assert_allclose(norms, np.sqrt(squares), rtol=1e-13)
    share = (x[:, d // 2 :] ** 2).sum(axis=1)[finite] / np.maximum(squares[finite], 1e-300)
    np.testing.assert_allclose(behind[finite], share * 65535, atol=1.0)
    assert (behind[[3, 5, 6, 8]] == 0).all()
    assert behind[4] == 65535
    without = np.empty(70)
    _kernels.norms(view(items, dtype, "dot", None), without, d, None, 1)
    np.testing.assert_allclose(without, norms, rtol=1e-13)


@pytest.mark.parametrize("threads", [1, 2, 3, 8, 64])
def test_threads_get_as_many_queries(threads: int) -> None:
    index = fr.Index(differing(3000, 64), precision="int8")
    for queries in (24 * threads, 512, 1000, 4096, 99_999):
        if queries < 24 * threads:
            continue
        group, segments = index._grid(queries, 10, threads)
        tasks = -(-queries // group)
        assert segments == 1
        assert group % 4 == 0
        most = -(-tasks // threads) * group  # what the thread with most to do gets
        assert most <= queries / threads * 1.1 + 12


def test_panels_that_differ_in_what_is_behind_alone() -> None:
    """As indexes were packed before: two panels of one norm and one residual, each with lengths of its own."""
    rng = np.random.default_rng(0)
    pairs, half = 60, 32
    items = np.zeros((pairs * 2 * PANEL, 2 * half), np.float32)
    for pair in range(pairs):
        ahead, behind = items[pair * 2 * PANEL :][:PANEL], items[pair * 2 * PANEL + PANEL :][:PANEL]
        ahead[:, :half] = rng.choice([-1, 1], (PANEL, half)) * 0.95**pair
        behind[:, half:] = rng.choice([-1, 1], (PANEL, half)) * 0.95**pair
    index = fr.Index(items, precision="int8")
    meta, rest = index._meta[:-1], index._rest.reshape(2 * pairs, -1)
    np.testing.assert_array_equal(meta[0::2], meta[1::2])
    x = (
        items[index._order.astype(np.int64)].astype(np.float64).reshape(2 * pairs, PANEL, -1)
        * 2.0**-index._exponent
    )
    for place, groups in enumerate(index._places()):
        rest[:, place] = np.linalg.norm(x[:, :, 4 * groups :], axis=2).max(axis=1) * (1 + 1e-6)
    for queries in (
        rng.standard_normal((60, 2 * half)),
        np.sign(items[:: 2 * PANEL]) + np.sign(items[PANEL :: 2 * PANEL]),
    ):
        queries = queries.astype(np.float32)
        for side in (slice(half), slice(half, None)):
            some = queries.copy()
            some[:, side] = 0
            for k in (1, 5, 40):
                found, truth = index.topk(some, k), index.reference_topk(some, k)
                np.testing.assert_array_equal(found.ids, truth.ids)
                np.testing.assert_array_equal(found.scores, truth.scores)
