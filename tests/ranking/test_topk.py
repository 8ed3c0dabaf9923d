"""``topk``: the arguments of one call."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ranking import METRICS, assert_top, best, csr_of, draw, oracle, score_matrix

import fastrec as fr

RNG = np.random.default_rng(0)
ITEMS, QUERIES = (
    draw("small integers", RNG, 140, 36),
    draw("small integers", RNG, 15, 36),
)  # whole scores: many ties
MASK = RNG.random((15, 140)) < 0.3
SCORES = {metric: score_matrix(QUERIES, ITEMS, metric) for metric in METRICS}


@pytest.mark.parametrize("precision", ["auto", "int8", "float32"])
@pytest.mark.parametrize("metric", METRICS)
def test_one_call_equals_the_index(metric: str, precision: str) -> None:
    bias = np.linspace(-1, 1, 140)
    options: dict[str, Any] = {"exclude": csr_of(MASK), "min_score": -5.0}
    one = fr.topk(
        QUERIES, ITEMS, 8, metric=metric, bias=bias, ids=np.arange(140) + 5, precision=precision, **options
    )
    index = fr.Index(ITEMS, metric, bias, np.arange(140) + 5, precision=precision)
    two = index.topk(QUERIES, 8, **options)
    assert_top(one, (two.rows, two.scores))
    assert_top(one, oracle(QUERIES, ITEMS, 8, metric, bias, ~MASK, -5.0))
    assert_top(index.reference_topk(QUERIES, 8, **options), (two.rows, two.scores))
    np.testing.assert_array_equal(one.ids, np.where(one.rows < 0, -1, one.rows + 5))


@pytest.mark.parametrize("precision", ["int8", "float32"])
@pytest.mark.parametrize("metric", METRICS)
def test_min_score(metric: str, precision: str) -> None:
    index = fr.Index(ITEMS, metric, precision=precision)
    line = np.unique(SCORES[metric])
    marks = [
        line[0],
        line[-1],
        line[len(line) // 2],
        np.nextafter(line[-9], np.inf, dtype=np.float32),
        0.0,
        -0.0,
    ]
    for mark in [*map(float, marks), -1e300, 1e300, -np.inf, np.inf, 0.1, -1, np.float32(3.0)]:
        for k in (3, 140):
            expected = oracle(QUERIES, ITEMS, k, metric, min_score=float(mark))
            assert_top(index.topk(QUERIES, k, min_score=mark), expected, f"min_score={mark}")
            every = index.topk(QUERIES, k, min_score=mark, candidates=np.arange(140))
            assert_top(every, expected, f"min_score={mark}, candidates")


def test_min_score_is_compared_with_the_float32_score() -> None:
    """0.1 in float64 is below 0.1 in float32, and above the float32 before it."""
    items = np.array([[0.1], [np.nextafter(np.float32(0.1), np.float32(0))]], np.float32)
    assert fr.topk([[1.0]], items, 2, min_score=0.1).rows.tolist() == [[0, -1]]
    assert fr.topk([[1.0]], items, 2, min_score=float(items[1, 0])).rows.tolist() == [[0, 1]]


def test_infinite_and_missing_values() -> None:
    items = np.array([[1, 0], [np.inf, 0], [-np.inf, 0], [np.nan, 0], [0, np.inf], [2, 2]], np.float32)
    queries = np.array([[1, 1], [1, 0], [0, 0], [-1, 0], [np.inf, 1], [np.nan, 1]], np.float32)
    for metric in METRICS:
        expected = oracle(queries, items, 8, metric)
        assert (expected[0][5] == -1).all()  # a query with a NaN gets nothing
        for precision in ("int8", "float32"):
            assert_top(fr.topk(queries, items, 8, metric=metric, precision=precision), expected, metric)
    top = fr.topk(queries[:1], items, 8)
    assert top.rows[0].tolist() == [1, 4, 5, 0, 2, -1, -1, -1]
    assert top.scores[0, 4] == -np.inf  # a score of its own, beside a row


def test_scores_beyond_float32() -> None:
    """Overflowing scores are infinite, and tie."""
    items = np.array([[3e38], [2e38], [-3e38], [1.0]], np.float32)
    top = fr.topk([[1e10], [-1e10]], items, 4)
    assert top.rows.tolist() == [[0, 1, 3, 2], [2, 3, 0, 1]]
    assert top.scores[0].tolist() == [np.inf, np.inf, np.float32(1e10), -np.inf]


@pytest.mark.parametrize(
    "candidates", [None, np.arange(0, 140, 3), csr_of(MASK)], ids=["none", "shared", "own"]
)
def test_out(candidates: Any) -> None:
    index = fr.Index(ITEMS)
    for k in (4, 150):
        expected = index.topk(QUERIES, k, candidates=candidates)
        out = np.full((15, k), 99), np.full((15, k), 9, np.float32)
        top = index.topk(QUERIES, k, candidates=candidates, out=out)
        assert top.rows is out[0]
        assert top.scores is out[1]
        assert_top(top, (expected.rows, expected.scores))
        again = index.topk(QUERIES, k, candidates=candidates, out=top)
        assert again.rows is out[0]
        assert_top(again, (expected.rows, expected.scores))


def test_bad_out() -> None:
    rows, scores = np.empty((15, 4), np.int64), np.empty((15, 4), np.float32)
    read_only = scores.copy()
    read_only.flags.writeable = False
    for out, kind, message in [
        (rows, ValueError, r"`out"),
        (7, TypeError, r"`out` must be a pair \(ids, scores\); got int"),
        (
            (rows, rows),
            ValueError,
            r"`out\[1\]` must have shape \(15, 4\) and dtype float32; got \(15, 4\) int64",
        ),
        ((scores, scores), ValueError, r"`out\[0\]` must have shape \(15, 4\) and dtype int64"),
        ((rows[:, :3], scores), ValueError, r"`out\[0\]` must have shape \(15, 4\).*got \(15, 3\)"),
        ((np.asfortranarray(rows), scores), ValueError, r"`out\[0\]` must be C-contiguous and writable"),
        ((rows, read_only), ValueError, r"`out\[1\]` must be C-contiguous and writable"),
    ]:
        with pytest.raises((kind, TypeError), match=message):
            fr.topk(QUERIES, ITEMS, 4, out=out)


def test_nothing_in_nothing_out() -> None:
    for q, n in [(0, 5), (3, 0), (0, 0)]:
        top = fr.topk(np.zeros((q, 4)), np.zeros((n, 4)), 3)
        assert top.rows.shape == top.scores.shape == (q, 3)
        assert (top.rows == -1).all()
        assert (top.scores == -np.inf).all()


@pytest.mark.parametrize("k", [140, 141, 1000])
def test_everything_in_order(k: int) -> None:
    for metric in METRICS:
        for precision in ("int8", "float32"):
            top = fr.topk(QUERIES, ITEMS, k, metric=metric, precision=precision)
            assert_top(top, best(SCORES[metric], k))


def test_arguments_are_named_when_wrong() -> None:
    with pytest.raises(ValueError, match=r"`queries` must have shape \(n, 36\) to match `items` \(140, 36\)"):
        fr.topk(np.ones((2, 5)), ITEMS, 3)
    with pytest.raises(TypeError, match="`queries` must hold real numbers"):
        fr.topk(np.ones((2, 36), object), ITEMS, 3)
    with pytest.raises(ValueError, match="`k` must be >= 1; got 0"):
        fr.topk(QUERIES, ITEMS, 0)
    with pytest.raises(ValueError, match="Did you mean 'cosine'"):
        fr.topk(QUERIES, ITEMS, 3, metric="cosinus")
