"""``fr.select``: which rows are kept, in what order, and with which weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import fastrec as fr
from fastrec.weighing.select import STRATEGIES, _inclusion, select_rows


def best(scores: Any, n: int, smallest: bool = False) -> list[int]:
    """The rows of the n largest scores, ties by row, by a plain sort."""
    key = [(s if smallest else -s, i) for i, s in enumerate(np.asarray(scores, float).tolist())]
    return sorted(i for _, i in sorted(key)[:n])


def test_the_largest_and_the_smallest_with_ties_by_row() -> None:
    scores = np.float32([0.5, 2.0, 0.5, -0.0, 0.0, np.inf, -np.inf, 0.5])
    for n in range(len(scores) + 1):
        assert fr.select(scores, n=n, strategy="top").index.tolist() == best(scores, n)
        assert fr.select(scores, n=n, strategy="bottom").index.tolist() == best(scores, n, smallest=True)


@given(
    st.sampled_from([np.float32, np.float64]).flatmap(
        lambda dtype: arrays(
            dtype,
            st.integers(0, 200),
            elements=st.floats(allow_nan=False, width=32) | st.sampled_from([0.0, -0.0, 1.0]),
        )
    ),
    st.floats(0, 1),
    st.booleans(),
)
def test_any_scores(scores: Any, fraction: float, smallest: bool) -> None:
    n = min(len(scores), int(fraction * len(scores) + 0.5))
    kept = fr.select(scores, fraction, strategy="bottom" if smallest else "top")
    assert kept.index.tolist() == best(scores, n, smallest)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rows", [65_535, 65_536, 65_537, 200_001])
def test_many_rows_in_several_chunks(rows: int, dtype: Any) -> None:
    rng = np.random.default_rng(rows)
    for scores in (rng.standard_normal(rows).astype(dtype), rng.integers(0, 5, rows).astype(dtype)):
        for n in (1, rows // 10, rows - 1):
            expected = np.sort(np.lexsort((np.arange(rows), -scores))[:n])
            for threads in (1, 2, 5):
                kept = fr.select(scores, n=n, strategy="top", threads=threads)
                np.testing.assert_array_equal(kept.index, expected)


def test_differences_in_the_last_bit_of_a_float64_count() -> None:
    scores = np.array([1.0, np.nextafter(1.0, 2.0), 1.0 - 2.0**-53])
    assert fr.select(scores, n=1, strategy="top").index.tolist() == [1]
    assert fr.select(scores, n=1, strategy="bottom").index.tolist() == [2]


def test_stratified_keeps_every_class_its_share() -> None:
    rng = np.random.default_rng(0)
    y = rng.choice(["a", "b", "c"], 1000, p=[0.7, 0.25, 0.05])
    scores = rng.standard_normal(1000)
    kept = fr.select(scores, 0.1, y=y)
    assert len(kept) == 100
    for label in "abc":
        rows = np.flatnonzero(y == label)
        mine = kept.index[y[kept.index] == label]
        assert abs(len(mine) - len(rows) / 10) < 1
        np.testing.assert_array_equal(mine, np.sort(rows[best(scores[rows], len(mine))]))
    assert (kept.weight == 1).all()


def test_what_rounding_leaves_goes_to_the_largest_remainders() -> None:
    y = [0] * 5 + [1] * 3 + [2] * 2  # of 4: 2, 1.2, 0.8 -> 2, 1, 1
    kept = fr.select(np.zeros(10), n=4, y=y)
    assert kept.index.tolist() == [0, 1, 5, 8]
    even = fr.select(np.zeros(4), n=1, y=[0, 0, 1, 1])  # a draw: the smaller class
    assert even.index.tolist() == [0]


@pytest.mark.parametrize("groups", [3, 300])  # by the kernel, and by sorting
def test_many_groups(groups: int) -> None:
    rng = np.random.default_rng(groups)
    y = rng.integers(0, groups, 5000)
    scores = rng.integers(0, 50, 5000).astype(np.float32)
    kept = fr.select(scores, 0.3, y=y)
    assert len(kept) == 1500
    for label in range(groups):
        rows = np.flatnonzero(y == label)
        mine = kept.index[y[kept.index] == label]
        assert mine.tolist() == rows[best(scores[rows], len(mine))].tolist()


def test_labels_of_many_kinds_give_the_same() -> None:
    pd = pytest.importorskip("pandas")
    pl = pytest.importorskip("polars", reason="polars is not installed")
    y = np.array([3, 1, 1, 3, 1, 1, 3, 1])
    scores = np.arange(8.0)
    expected = fr.select(scores, n=4, y=y).index.tolist()
    names = np.where(y == 3, "b", "a")
    numbers = (
        y,
        y.tolist(),
        y.astype(float),
        y == 3,
        y - 10**12,
        y.astype(np.uint8),
        pd.Series(y),
        pl.Series(y),
    )
    for labels in (*numbers, names, names.astype(object), pd.Series(names)):
        assert fr.select(scores, n=4, y=labels).index.tolist() == expected


def test_sampling_is_unbiased_and_keeps_rows_with_the_stated_probability() -> None:
    rng = np.random.default_rng(3)
    scores, values = rng.random(60) ** 3, rng.standard_normal(60)
    draws = 4000
    kept_often, totals = np.zeros(60), []
    for seed in range(draws):
        kept = fr.select(scores, n=15, strategy="sample", seed=seed)
        assert len(kept) == 15
        assert (np.diff(kept.index) > 0).all()
        kept_often[kept.index] += 1
        totals.append((kept.weight * values[kept.index]).sum())
    pi = _inclusion(np, scores, 15, 0.1) / 2**32
    assert pi.sum() == 15
    error = np.sqrt(pi * (1 - pi) / draws)
    assert (abs(kept_often / draws - pi) <= 5 * error + 1e-12).all()
    assert abs(np.mean(totals) - values.sum()) < 5 * np.std(totals) / np.sqrt(draws)


def test_a_weight_is_the_inverse_of_the_probability() -> None:
    scores = np.array([8.0, 1, 1, 1, 1, 0])
    kept = fr.select(scores, n=3, strategy="sample", uniform=0.0, seed=1)
    pi = np.array([1, 0.5, 0.5, 0.5, 0.5, 0])  # 8 is kept for certain, the rest share two places
    np.testing.assert_allclose(kept.weight, 1 / pi[kept.index], rtol=1e-6)
    assert 0 in kept.index
    assert 5 not in kept.index
    even = fr.select(np.ones(100), n=25, strategy="sample")
    np.testing.assert_allclose(even.weight, 4.0, rtol=1e-6)
    skewed = np.random.default_rng(0).random(1000) ** 8
    assert (
        fr.select(skewed, n=100, strategy="sample", uniform=0.2).weight.max() <= 1000 / (0.2 * 100) * 1.0001
    )


@given(
    arrays(np.float64, st.integers(1, 60), elements=st.floats(0, 1e300)),
    st.floats(0.01, 1),
    st.floats(0, 1),
    st.integers(0, 5),
)
def test_a_sample_has_exactly_the_size_asked_for(
    scores: Any, fraction: float, uniform: float, seed: int
) -> None:
    n = int(fraction * len(scores) + 0.5)
    if uniform * len(scores) == 0 and n > (scores > scores.max() * 1e-300).sum():
        return  # too few rows have a chance
    kept = fr.select(scores, fraction, strategy="sample", uniform=uniform, seed=seed)
    assert len(np.unique(kept.index)) == len(kept) == n
    assert np.isfinite(kept.weight).all()
    assert (kept.weight >= 1).all()


def test_a_seed_means_the_same_rows_forever() -> None:
    scores = np.arange(20.0)
    assert fr.select(scores, n=5, strategy="random", seed=7).index.tolist() == [2, 10, 14, 17, 18]
    assert fr.select(scores, n=5, strategy="sample", seed=7).index.tolist() == [6, 8, 14, 16, 17]
    different = {tuple(fr.select(scores, n=5, strategy="random", seed=s).index) for s in range(50)}
    assert len(different) > 45


def test_the_baselines_ignore_the_scores() -> None:
    a, b = np.arange(100.0), -np.arange(100.0)
    y = np.arange(100) % 4 == 0
    for strategy in ("random", "stratified_random"):
        one, other = (fr.select(s, 0.2, strategy=strategy, y=y, seed=5).index for s in (a, b))
        np.testing.assert_array_equal(one, other)
    assert y[fr.select(a, 0.2, strategy="stratified_random", y=y).index].sum() == 5
    often = np.zeros(100)
    for seed in range(2000):
        often[fr.select(a, 0.1, strategy="random", seed=seed).index] += 1
    assert abs(often / 2000 - 0.1).max() < 5 * np.sqrt(0.09 / 2000)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_nothing_everything_and_the_shape_of_the_result(strategy: str) -> None:
    scores = np.random.default_rng(0).random(37)
    y = np.arange(37) % 3
    for fraction, size in ((0.0, 0), (0.5, 19), (1.0, 37), (1, 37)):
        kept = fr.select(scores, fraction, strategy=strategy, y=y)
        assert len(kept) == size
        assert kept.index.dtype == np.int64
        assert kept.weight.dtype == np.float32
        assert kept.mask.sum() == size
        assert kept.rows == 37
        index, weight = kept
        assert index is kept.index
        assert weight is kept.weight
    everything = fr.select(scores, 1.0, strategy=strategy, y=y)
    assert everything.index.tolist() == list(range(37))
    assert (everything.weight == 1).all()
    for none in ({"fraction": 0.5}, {"n": 0}):
        assert len(fr.select([], strategy=strategy, y=np.zeros(0, int), **none)) == 0


def test_errors() -> None:
    scores = np.array([0.5, 1.0, np.nan, np.nan])
    with pytest.raises(ValueError, match="`scores` must not be NaN; the first NaN is in row 2"):
        fr.select(scores, 0.5, strategy="top")
    fine = np.ones(4)
    with pytest.raises(
        ValueError, match=r"`n` must be at most the number of scores, 4; got 5\. To keep all, pass frac"
    ):
        fr.select(fine, n=5, strategy="top")
    with pytest.raises(ValueError, match="one of `fraction` and `n`; got neither"):
        fr.select(fine)
    with pytest.raises(ValueError, match="one of `fraction` and `n`; got both"):
        fr.select(fine, 0.5, n=2)
    with pytest.raises(ValueError, match=r"`fraction` must be between 0.0 and 1.0; got 10"):
        fr.select(fine, 10, strategy="top")
    with pytest.raises(ValueError, match="needs the classes: pass `y`"):
        fr.select(fine, 0.5)
    with pytest.raises(ValueError, match=r"`y` must have shape \(4,\)"):
        fr.select(fine, 0.5, y=[1, 2])
    with pytest.raises(ValueError, match="missing labels; the first is in row 1"):
        fr.select(fine, 0.5, y=np.array(["a", None, "b", "a"], object))
    with pytest.raises(ValueError, match=r"not negative; got -1.0 in row 1"):
        fr.select([1.0, -1.0], n=1, strategy="sample")
    with pytest.raises(ValueError, match=r"finite scores .* got inf in row 0"):
        fr.select([np.inf, 1.0], n=1, strategy="sample")
    with pytest.raises(ValueError, match="only 1 have a score above 0"):
        fr.select([0.0, 1.0, 0.0], n=2, strategy="sample", uniform=0.0)
    with pytest.raises(ValueError, match="Did you mean 'bottom'"):
        fr.select(fine, 0.5, strategy="botom")
    with pytest.raises(ValueError, match=r"`scores` must have shape \(n,\); got \(2, 2\)"):
        fr.select(np.ones((2, 2)), 0.5)
    with pytest.raises(TypeError, match="`scores` must hold real numbers"):
        fr.select(["a"], 0.5)
    with pytest.raises(ValueError, match="`need` must ask for at most what each group has"):
        select_rows(fine, [5])
