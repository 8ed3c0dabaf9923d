"""``fr.Truth``: read once, by gain within a query, repeats and bad gains refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import fastrec as fr

LOG = pd.DataFrame({"user": [1, 1, 1, 2], "item": [7, 8, 7, 7], "rating": [1.0, 5.0, 3.0, 2.0]})


def test_to_frame_is_by_gain() -> None:
    truth = fr.Truth({"q": {"a": 1, "b": 3, "c": 2}, "p": {}})
    assert truth.to_frame().values.tolist() == [["q", "b", 3.0], ["q", "c", 2.0], ["q", "a", 1.0]]
    assert len(truth) == 2
    assert truth.relevant.tolist() == [3, 0]
    assert truth.max_gain == 3.0
    assert repr(truth) == "<Truth: 2 queries, 3 judgements>"


def test_without_gains_every_item_counts_one() -> None:
    for source in (
        [[3, 1], [2]],
        {0: [3, 1], 1: {2}},
        np.array([[3, 1], [2, -1]]),
        [np.array([3, 1]), np.array([2, -1])],
    ):
        assert fr.Truth(source).to_frame()["gain"].tolist() == [1.0] * 3
        assert fr.Truth(source).relevant.tolist() == [2, 1]


@pytest.mark.parametrize(("how", "gain"), [("first", 1.0), ("max", 3.0), ("sum", 4.0)])
def test_repeats_can_be_merged(how: str, gain: float) -> None:
    truth = fr.Truth(LOG, duplicates=how)
    table = truth.to_frame().set_index(["query", "item"])["gain"]
    assert table[1, 7] == gain
    assert table[1, 8] == 5.0
    assert len(table) == 3


def test_repeats_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"item 7 twice for query 1.*duplicates="):
        fr.Truth(LOG)


def test_sparse_repeats_are_summed_as_scipy_does() -> None:
    matrix = sp.csr_matrix((np.array([1.0, 2.0]), np.array([3, 3]), np.array([0, 2])), shape=(1, 5))
    assert fr.Truth(matrix).to_frame()["gain"].tolist() == [3.0]
    assert matrix.nnz == 2  # the caller's matrix is left alone


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ({"q": {"a": float("nan")}}, ValueError, "not finite, nan, in query 'q'"),
        ({"q": {"a": float("inf")}}, ValueError, "not finite"),
        ({"q": {"a": "high"}}, TypeError, "gains"),
        ({"q": "ab"}, TypeError, "text 'ab'"),
        ({"q": {"a": 1}, "p": ["b"]}, TypeError, "every query"),
        ({1: ["a"], "1": ["b"]}, ValueError, "same as text"),
        (np.zeros((2, 2)), TypeError, "floats"),
        (np.zeros(3, int), ValueError, "shape"),
        (pd.DataFrame({"query": [1]}), ValueError, "column named 'item'"),
    ],
)
def test_bad_truths_are_refused(source: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        fr.Truth(source)


def test_take() -> None:
    truth = fr.Truth({"a": {"x": 1, "y": 2}, "b": {}, "c": {"z": 1}})
    part = truth.take(np.array([2, 0]))
    assert part.to_frame().values.tolist() == [["c", "z", 1.0], ["a", "y", 2.0], ["a", "x", 1.0]]


def test_float_gains_are_kept() -> None:
    ev = fr.evaluate({"q": ["a", "b"]}, {"q": {"a": 0.1, "b": 0.7, "c": 0.01}}, ["ndcg@2", "recall", "dcg"])
    best = 0.7 + 0.1 / np.log2(3)
    got = 0.1 + 0.7 / np.log2(3)
    np.testing.assert_allclose(ev.values[0], [got / best, 2 / 3, got], rtol=1e-15)


def test_what_is_kept_for_one_convention_is_not_used_for_another():
    judged = {"q": {"a": 3, "b": 1, "c": 0, "d": -1}, "r": {"a": 2}}
    run = {"q": {"c": 4.0, "b": 3.0, "a": 2.0, "d": 1.0}, "r": {"b": 2.0, "a": 1.0}}
    truth = fr.Truth(judged)
    changes = [
        {},
        {"gain": "exponential"},
        {"gain": {0: 1.0, 1: 5.0, 2: 2.0, 3: 1.0}},
        {"gain": {0: 1.0, 1: 5.0, 2: 2.0, 3: 9.0}},
        {"relevance_level": 2.0},
        {"relevance_level": 2.0, "below_level": "nothing"},
    ]
    for change in [*changes, *reversed(changes)]:
        convention = fr.evaluation.Convention(**change)
        kept, fresh = (
            fr.evaluate(run, t, ["ndcg@3", "dcg", "map"], convention=convention) for t in (truth, judged)
        )
        np.testing.assert_array_equal(kept.values, fresh.values)
    assert len(truth._worth) == 2
