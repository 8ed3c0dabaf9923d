"""``select_topk``: the best of given scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ranking import SCORE_KINDS, assert_top, best, rows_of

import fastrec as fr


@pytest.mark.parametrize("kind", SCORE_KINDS)
def test_equals_a_sort(kind: str) -> None:
    rng = np.random.default_rng(0)
    for n in (0, 1, 2, 15, 16, 17, 63, 64, 65, 127, 1000, 4096):
        scores = rows_of(kind, rng, n)
        rows, values = best(scores, n + 3)
        values = np.where(rows >= 0, values + np.float32(0), values)
        for k in {1, 2, 10, max(1, n // 2), max(1, n - 1), max(1, n), n + 3}:
            width = min(k, n + 3)
            top = fr.select_topk(scores, k)
            assert_top(
                fr.TopK(top.rows[:, :width], top.scores[:, :width].copy()),
                (rows[:, :width], values[:, :width].copy()),
                f"n={n} k={k}",
            )
            assert (top.rows[:, width:] == -1).all()


def test_layouts_dtypes_threads_and_out() -> None:
    scores = np.round(np.random.default_rng(1).standard_normal((40, 300))).astype(np.float32)
    expected = best(scores, 20)
    doubled = np.repeat(scores, 2, axis=1)[:, ::2]
    for form in (scores, np.asfortranarray(scores), doubled, scores.astype(np.float64), scores.astype(np.int16),
                 scores.astype(">f4"), scores.astype(np.float16)):  # fmt: skip
        for threads in (1, 2, 8):
            assert_top(fr.select_topk(form, 20, threads=threads), expected)
    out = np.empty((40, 20), np.int64), np.empty((40, 20), np.float32)
    top = fr.select_topk(scores, 20, out=out)
    assert top.rows is out[0]
    assert_top(top, expected)


def test_a_huge_k_of_few_columns_needs_no_huge_memory() -> None:
    top = fr.select_topk([[1.0, 2.0]], 2_000_000)
    assert top.rows[0, :3].tolist() == [1, 0, -1]


@settings(max_examples=60, deadline=None)
@given(
    line=st.lists(st.floats(width=32) | st.sampled_from([0.0, -0.0, 1.0]), max_size=150),
    k=st.integers(1, 160),
)
def test_any_values(line: list[float], k: int) -> None:
    scores = np.array(line, np.float64).astype(np.float32)[None, :] + np.float32(0)
    assert_top(fr.select_topk(scores, k), best(scores, k))


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"`scores` must have shape \(n, d\); got \(3,\)"):
        fr.select_topk([1.0, 2.0, 3.0], 1)
    with pytest.raises(ValueError, match="`k` must be >= 1; got 0"):
        fr.select_topk([[1.0]], 0)
    with pytest.raises(TypeError, match="`scores` must hold real numbers; got dtype complex128"):
        fr.select_topk(np.ones((2, 2), complex), 1)


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_long_rows_are_shared_out(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastrec.ranking import select

    monkeypatch.setattr(select, "_LONG", 1)
    rng = np.random.default_rng(0)
    for n in (1, 2, 7, 8, 9, 100, 4001):
        scores = rng.integers(-3, 4, (1 + threads // 4, n)).astype(np.float32)
        scores[0, ::3], scores[0, 1::5], scores[-1, 2::7] = np.nan, -np.inf, -0.0
        for k in (1, 5, n, n + 3):
            top = fr.select_topk(scores, k, threads=threads)
            assert_top(top, best(scores + np.float32(0), k), f"n={n} k={k}")
