"""fr.rbo and fr.overlap: the definition written out, the paper's limits, every kind of run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import fastrec as fr


def written_out(a: list, b: list, p: float) -> float:
    """Equation 32 of the paper, set by set."""
    short, long = (a, b) if len(a) <= len(b) else (b, a)
    s, n = len(short), len(long)
    common = [len(set(short[:d]) & set(long[:d])) for d in range(n + 1)]
    total = sum(common[d] / d * p**d for d in range(1, n + 1))
    total += sum(common[s] * (d - s) / (s * d) * p**d for d in range(s + 1, n + 1))
    return (1 - p) / p * total + ((common[n] - common[s]) / n + common[s] / s) * p**n


def random_pairs(count: int) -> list[tuple[list, list]]:
    rng = np.random.default_rng(4)
    pool = [f"d{i}" for i in range(15)]
    return [
        (
            list(rng.permutation(pool)[: rng.integers(1, 12)]),
            list(rng.permutation(pool)[: rng.integers(1, 12)]),
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("p", [0.1, 0.8, 0.95])
def test_extrapolated(p: float) -> None:
    pairs = random_pairs(60)
    a, b = ({q: pair[side] for q, pair in enumerate(pairs)} for side in (0, 1))
    got = fr.rbo(a, b, p).values[:, 0]
    np.testing.assert_allclose(got, [written_out(x, y, p) for x, y in pairs], rtol=0, atol=1e-13)
    np.testing.assert_allclose(fr.rbo(b, a, p).values[:, 0], got, rtol=0, atol=1e-15)


def test_equals_the_package_rbo() -> None:
    """Recorded from ``RankingSimilarity(a, b).rbo_ext(p=0.8)`` of rbo 0.1.3."""
    for a, b, value in (
        ("417", ["7", "11"], 0.21333333333333335),
        (["0", "11"], ["0", "10", "8", "11", "6", "5"], 0.6965973333333334),
        (["11", "0", "8", "3"], ["7", "11", "8", "3", "5", "1", "10"], 0.5493333333333335),
        (["11"], ["9", "11", "10", "6", "2"], 0.2301866666666667),
    ):
        assert fr.rbo({"q": list(a)}, {"q": b}, 0.8)["rbo"] == pytest.approx(value, abs=1e-15)


def test_the_minimum_is_the_endless_sum_of_what_is_shared() -> None:
    p = 0.8
    for a, b in random_pairs(20):
        depths = np.arange(1, 400)
        common = [len(set(a[:d]) & set(b[:d])) for d in depths]
        expected = (1 - p) * (np.array(common) / depths * p ** (depths - 1)).sum()
        assert fr.rbo({0: a}, {0: b}, p, form="minimum")["rbo"] == pytest.approx(expected, abs=1e-13)
        k = 8  # LensKit's, to a depth
        expected = (np.array(common) / depths * p**depths)[:k].sum() / (p ** depths[:k]).sum()
        assert fr.rbo({0: a}, {0: b}, p, k, form="truncated")["rbo@8"] == pytest.approx(expected, abs=1e-13)


def test_by_hand() -> None:
    assert fr.rbo([[1, 2, 3]], [[1, 2, 3]], 0.7)["rbo"] == pytest.approx(1.0)
    assert fr.rbo([[1, 2]], [[3, 4]])["rbo"] == 0.0
    assert fr.rbo([[1, 2, 3]], [[1, 3, 2]], 0.9)["rbo"] == pytest.approx(0.955)
    assert fr.rbo([[1, 2, 3]], [[1, 3, 2]], 0.9, k=1)["rbo@1"] == pytest.approx(1.0)
    assert fr.overlap([[1, 2, 3]], [[3, 1, 9]])["overlap"] == pytest.approx(2 / 3)
    assert fr.overlap([[1, 2, 3]], [[3, 1, 9]], 2)["overlap@2"] == 0.5
    assert fr.overlap([[1]], [[1, 2]], 10)["overlap@10"] == 0.5


def test_queries_that_one_run_lacks_and_empty_lists() -> None:
    ev = fr.rbo({"a": ["x"], "b": [], "c": []}, {"a": ["x"], "b": [], "d": ["y"], "c": ["z"]})
    assert ev.query_ids.tolist() == ["a", "b", "c", "d"]
    np.testing.assert_array_equal(ev.values[:, 0], [1.0, np.nan, 0.0, 0.0])
    assert ev["rbo"] == pytest.approx(1 / 3)
    assert ev.counts["missing"] == 1
    assert ev.counts["undefined"] == {"rbo": 1}
    assert len(fr.rbo({}, {})) == 0
    assert np.isnan(fr.overlap({"q": []}, {"q": []}).values[0, 0])


def test_ties_are_ordered_as_in_evaluate() -> None:
    tied, best_first = {"q": {9: 1.0, 10: 1.0, 1: 1.0}}, {"q": [9, 10, 1]}
    for ties, same in (("trec", True), ("given", True), ("id_desc", False), ("id_asc", False)):
        assert (fr.rbo(tied, best_first, ties=ties)["rbo"] > 0.999) is same, ties
    table = pd.DataFrame({"query": "q", "item": list("abcdefgh"), "score": 1.0})
    first = fr.rbo(table, best_first, ties="random", seed=1)
    again = fr.rbo(table.iloc[::-1], table, ties="random", seed=1)
    assert first["rbo"] == 0.0
    assert again["rbo"] == pytest.approx(1.0)
    # the shuffle is the one of evaluate
    order = {
        item: fr.evaluate(table, {"q": {item: 1}}, ["mean_rank"], ties="random", seed=5)["mean_rank"]
        for item in table["item"]
    }
    listed = {"q": sorted(order, key=order.__getitem__)}
    assert fr.rbo(table, listed, ties="random", seed=5)["rbo"] == pytest.approx(1.0)


@pytest.mark.parametrize("text", [False, True])
def test_every_kind_of_run(text: bool) -> None:
    rng = np.random.default_rng(2)
    a, b = (np.stack([rng.permutation(30)[:9] for _ in range(6)]) for _ in range(2))
    expected = fr.rbo(a, b).values
    scores = np.tile(np.arange(9.0, 0, -1), 6)
    frames = [
        pd.DataFrame({"query": np.repeat(np.arange(6), 9), "item": ids.ravel(), "score": scores}).sample(
            frac=1, random_state=1
        )
        for ids in (a, b)
    ]
    if text:
        frames = [frame.astype({"item": str}) for frame in frames]
    np.testing.assert_array_equal(fr.rbo(*frames).per_query.sort_index().to_numpy(), expected)
    np.testing.assert_array_equal(fr.rbo(a, frames[1]).per_query.sort_index().to_numpy(), expected)
    np.testing.assert_array_equal(fr.rbo(a.tolist(), b).values, expected)
    padded = np.concatenate((a, np.full((6, 2), -1)), axis=1)
    np.testing.assert_array_equal(fr.rbo(padded, b).values, expected)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([[1, 1]], [[1, 2]]), ValueError, "`run_a` has item 1 twice in query 0"),
        (
            ({"q": {"a": 1.0}}, {"q": {"a": float("nan")}}),
            ValueError,
            "`run_b` has a score that is NaN, in query 'q'",
        ),
        (([[1]], [[1]], 1.0), ValueError, "`p` must be above 0 and below 1"),
        (([[1]], [[1]], 0.0), ValueError, "`p` must be above 0 and below 1"),
        (([[1]], [[1]], 0.9, 0), ValueError, "`k` must be"),
        (([[1]], 3), ValueError, "`run_b` must be an id matrix"),
    ],
)
def test_refusals(arguments: tuple[Any, ...], error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        fr.rbo(*arguments)
    with pytest.raises(ValueError, match="`form`"):
        fr.rbo([[1]], [[1]], form="best")
    with pytest.raises(ValueError, match="`ties`"):
        fr.rbo([[1]], [[1]], ties="average")


def test_rows_without_names_must_be_as_many():
    for function in (fr.rbo, fr.evaluation.overlap):
        with pytest.raises(ValueError, match="same rows where neither names its queries; got 1 and 2"):
            function([[1]], [[1], [2]])
    assert np.isnan(fr.rbo([[]], [[]])["rbo"])
