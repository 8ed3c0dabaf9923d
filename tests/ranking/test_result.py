"""``TopK``: labels, frames, pickling."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import fastrec as fr

ROWS = np.array([[2, 0, -1], [1, -1, -1]])
SCORES = np.array([[0.5, 0.25, -np.inf], [1.0, -np.inf, -np.inf]], np.float32)


def test_without_labels_ids_are_rows() -> None:
    top = fr.TopK(ROWS, SCORES)
    assert top.ids is ROWS
    ids, scores = top
    assert ids is ROWS
    assert scores is SCORES
    assert len(top) == 2
    np.testing.assert_array_equal(top.counts, [2, 1])


@pytest.mark.parametrize("dtype", ["int8", "uint32", "int64", ">i4"])
def test_integer_labels(dtype: str) -> None:
    ids = fr.TopK(ROWS, SCORES, np.array([10, 20, 30], dtype)).ids
    assert ids.dtype == np.int64
    np.testing.assert_array_equal(ids, [[30, 10, -1], [20, -1, -1]])


@pytest.mark.parametrize("dtype", ["U5", object])
def test_string_labels(dtype: object) -> None:
    ids = fr.TopK(ROWS, SCORES, np.array(["a", "bé", "c"], dtype)).ids
    assert ids.tolist() == [["c", "a", None], ["bé", None, None]]
    assert type(ids[0, 0]) is str


def test_labels_of_no_items() -> None:
    nothing = np.full((2, 3), -1)
    for labels in (np.empty(0, int), np.empty(0, "U3")):
        top = fr.TopK(nothing, np.full((2, 3), -np.inf, np.float32), labels)
        assert set(top.ids.ravel().tolist()) == ({-1} if labels.dtype.kind == "i" else {None})
        assert len(top.to_frame()) == 0


def test_to_frame() -> None:
    frame = fr.TopK(ROWS, SCORES, np.array(["a", "b", "c"])).to_frame()
    assert frame.to_dict("list") == {
        "query": [0, 0, 1], "rank": [1, 2, 1], "item": ["c", "a", "b"], "score": [0.5, 0.25, 1.0],
    }  # fmt: skip
    assert frame["score"].dtype == np.float32
    frame = fr.TopK(ROWS, SCORES).to_frame(queries=["x", "y"])
    assert frame["query"].tolist() == ["x", "x", "y"]
    assert frame["item"].tolist() == [2, 0, 1]
    with pytest.raises(
        ValueError, match=r"`queries` must have one label per query, shape \(2,\); got \(3,\)"
    ):
        fr.TopK(ROWS, SCORES).to_frame(queries=[1, 2, 3])


def test_to_frame_of_nothing() -> None:
    empty = fr.topk(np.empty((0, 2)), np.empty((3, 2)), 4).to_frame()
    assert list(empty.columns) == ["query", "rank", "item", "score"]
    assert len(empty) == 0


@pytest.mark.parametrize("labels", [None, np.array(["a", "b", "c"])])
def test_pickles_and_copies(labels: np.ndarray | None) -> None:
    top = fr.TopK(ROWS, SCORES, labels)
    for other in (pickle.loads(pickle.dumps(top)), copy.copy(top), copy.deepcopy(top)):
        np.testing.assert_array_equal(other.rows, ROWS)
        np.testing.assert_array_equal(other.scores, SCORES)
        assert other.ids.tolist() == top.ids.tolist()
