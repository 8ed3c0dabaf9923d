"""``merge_topk``: shards joined equal the whole."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from ranking import assert_top, draw

import fastrec as fr

RNG = np.random.default_rng(0)
ITEMS, QUERIES = draw("small integers", RNG, 200, 8), draw("small integers", RNG, 9, 8)  # many ties
ITEMS[5, 0], ITEMS[120, 0], QUERIES[3, 0] = np.inf, np.nan, np.nan


@pytest.mark.parametrize("cuts", [[100], [1], [0], [200], [32, 64, 199], list(range(10, 200, 10))])
@pytest.mark.parametrize("k", [1, 7, 200, 230])
def test_shards_equal_the_whole(cuts: list[int], k: int) -> None:
    whole = fr.topk(QUERIES, ITEMS, k)
    edges = [0, *cuts, 200]
    tops = [fr.topk(QUERIES, ITEMS[a:b], k) for a, b in itertools.pairwise(edges)]
    assert_top(fr.merge_topk(tops, offsets=edges[:-1]), (whole.rows, whole.scores))
    # the order of the shards does not matter
    assert_top(fr.merge_topk(tops[::-1], k, offsets=edges[:-1][::-1]), (whole.rows, whole.scores))


def test_rows_of_the_whole_need_no_offsets() -> None:
    halves = [fr.topk(QUERIES, ITEMS, 9, candidates=np.arange(a, 200, 2)) for a in (0, 1)]
    whole = fr.topk(QUERIES, ITEMS, 9)
    assert_top(fr.merge_topk(halves), (whole.rows, whole.scores))


def test_labels() -> None:
    labels = np.array([f"item {row}" for row in range(200)])
    tops = [fr.topk(QUERIES, ITEMS[a:b], 12, ids=labels[a:b]) for a, b in [(0, 50), (50, 200)]]
    merged, whole = fr.merge_topk(tops), fr.topk(QUERIES, ITEMS, 12, ids=labels)
    assert merged.ids.tolist() == whole.ids.tolist()
    assert_top(merged, (whole.rows, whole.scores))


def test_k_may_differ_between_shards_and_exceed_what_there_is() -> None:
    tops = [fr.topk(QUERIES, ITEMS[:50], 3), fr.topk(QUERIES, ITEMS[50:], 6)]
    assert fr.merge_topk(tops, offsets=[0, 50]).rows.shape == (9, 6)
    wide = fr.merge_topk(tops, 20, offsets=[0, 50])
    assert wide.rows.shape == (9, 20)
    assert (wide.counts <= 9).all()
    assert (wide.scores[wide.rows < 0] == -np.inf).all()


def test_one_shard_and_no_queries() -> None:
    top = fr.topk(QUERIES, ITEMS, 5)
    assert_top(fr.merge_topk([top]), (top.rows, top.scores))
    none = fr.topk(QUERIES[:0], ITEMS, 5)
    assert fr.merge_topk([none, none]).rows.shape == (0, 5)


def test_errors() -> None:
    top, labelled = fr.topk(QUERIES, ITEMS, 2), fr.topk(QUERIES, ITEMS, 2, ids=np.arange(200))
    with pytest.raises(ValueError, match="`tops` must hold at least one TopK; got an empty list"):
        fr.merge_topk([])
    with pytest.raises(TypeError, match=r"`tops\[1\]` must be a TopK; got tuple"):
        fr.merge_topk([top, (1, 2)])
    with pytest.raises(ValueError, match=r"same number of queries; got \[2, 9\]"):
        fr.merge_topk([top, fr.topk(QUERIES[:2], ITEMS, 2)])
    with pytest.raises(ValueError, match="must all have labels"):
        fr.merge_topk([top, labelled])
    with pytest.raises(ValueError, match="`offsets` is for shards without labels"):
        fr.merge_topk([labelled, labelled], offsets=[0, 200])
    with pytest.raises(ValueError, match=r"`offsets` must have one entry per shard \(2\); got 1"):
        fr.merge_topk([top, top], offsets=[0])
    with pytest.raises(ValueError, match=r"`offsets\[1\]` must be >= 0; got -3"):
        fr.merge_topk([top, top], offsets=[0, -3])
    with pytest.raises(ValueError, match="`k` must be >= 1; got 0"):
        fr.merge_topk([top], 0)
