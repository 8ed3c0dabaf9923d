"""Text ids made into codes: the table over bytes against pandas."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from subprocesses import output_of

import fastrec as fr
from fastrec.evaluation import ids
from fastrec.evaluation.ids import Labels

LENGTHS = (0, 1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 24, 33, 100)


def texts(rng, n, distinct):
    pool = [
        "".join(rng.choice(list("ab\x00é漢🙂"), rng.choice(LENGTHS))) + str(i % distinct)
        for i in range(distinct)
    ]
    return [pool[i] for i in rng.integers(0, distinct, n)]


def check(values, found):
    codes, labels = found
    expected, uniques = pd.factorize(np.array(values, object))
    assert codes.tolist() == expected.tolist()
    assert labels.values.tolist() == list(uniques)


@pytest.mark.parametrize(("n", "distinct"), [(1, 1), (31, 3), (33, 33), (500, 5), (20_000, 9000)])
def test_codes_are_those_of_pandas_however_text_is_held(n, distinct):
    arrow = pytest.importorskip("pyarrow", reason="Arrow columns need pyarrow")
    values = texts(np.random.default_rng(n), n, distinct)
    check(values, ids.column(np.array(values, object), "x"))
    check(values, ids.column(values, "x"))
    check(values, ids.column(pd.Series(values, dtype=object), "x"))
    check(values, ids.column(pd.Series(values, dtype="str"), "x"))
    for kind in (arrow.string(), arrow.large_string()):
        check(values, ids.column(arrow.array(["other", *values, "other"], kind).slice(1, n), "x"))
        halves = [arrow.array(values[: n // 2], kind), arrow.array(values[n // 2 :], kind)]
        check(values, ids.column(arrow.chunked_array(halves), "x"))
    check(values, ids.column(arrow.array(values).dictionary_encode(), "x"))
    frozen = np.array(values, object)
    frozen.flags.writeable = False
    check(values, ids.column(frozen, "x"))
    check(values[::2], ids.column(np.array(values, object)[::2], "x"))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(max_size=20), max_size=40))
def test_any_text(values):
    found = ids.column(np.array(values, object), "x")
    if found[1] is not None:
        check(values, found)


def test_what_utf8_cannot_hold_goes_another_way():
    values = ["\ud800", "a", "\ud800", "a"]
    codes, labels = ids.column(np.array(values, object), "x")
    assert codes.tolist() == [0, 1, 0, 1]
    assert labels.values.tolist() == ["\ud800", "a"]


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_missing_ids_are_refused(missing):
    with pytest.raises(ValueError, match="missing ids"):
        ids.column(np.array(["a", missing], object), "x")
    with pytest.raises(ValueError, match="missing ids"):
        ids.column(pd.Series(["a", missing], dtype="str"), "x")


def test_labels_are_found_among_others():
    here, there = ["a", "b", "c", "7"], ["c", "x", "a", "a", "7"]
    labels = Labels.of(np.array(here, object))
    assert labels.locate(Labels.of(np.array(there, object))).tolist() == [2, -1, 0, 0, 3]
    assert labels.locate(Labels.of(np.array([7, 8]))).tolist() == [3, -1]
    assert labels.locate(Labels.of(np.array([], object))).tolist() == []
    assert Labels.of(np.array([], object)).locate(labels).tolist() == [-1] * 4
    assert labels.locate(Labels.of(np.array(["\ud800", "b"], object))).tolist() == [-1, 1]


@pytest.mark.parametrize(
    ("run", "truth"),
    [
        ("{'q': {'a': 0.9, 'b': 0.8}}", "{'q': {'b': 1}}"),
        ("{7: ['a', 'b']}", "{7: ['b']}"),
        ("{7: [1, 2]}", "{7: [2]}"),
        ("numpy.array([[1, 2]])", "[[2]]"),
    ],
)
def test_a_first_call_imports_nothing_heavy(run, truth):
    code = f"""
        import sys, numpy, fastrec as fr
        print(fr.evaluate({run}, {truth}, "map")["map"])
        print([name for name in ("pandas", "pyarrow", "scipy", "numba") if name in sys.modules])
    """
    assert output_of(code).split("\n")[:2] == ["0.5", "[]"]


def test_frames_of_either_kind_of_text_give_the_same_metrics():
    rng = np.random.default_rng(0)
    run = pd.DataFrame(
        {
            "query": np.repeat([f"q{i}" for i in range(50)], 20),
            "item": np.concatenate([rng.permutation([f"d{i}" for i in range(40)])[:20] for _ in range(50)]),
            "score": rng.random(1000),
        }
    )
    truth = run.sample(200, random_state=1)[["query", "item"]]
    kinds = {
        kind: (run.astype({"query": kind, "item": kind}), truth.astype(kind)) for kind in ("str", object)
    }
    means = [
        fr.evaluate(kinds[a][0], kinds[b][1], ["ndcg@10", "map"]).mean.tolist() for a in kinds for b in kinds
    ]
    assert all(mean == means[0] for mean in means)
    assert means[0][0] > 0


@pytest.mark.parametrize("labels", [["x", "y", "x", "z"], ["x", None, "x", "z", "y"]], ids=["twice", "null"])
def test_dictionaries_of_arrow_may_repeat_a_label_and_hold_a_null(labels):
    places = [i for i, label in enumerate(labels) if label is not None]
    column = pa.DictionaryArray.from_arrays(pa.array(places), pa.array(labels))
    codes, found = ids.column(column, "x")
    assert found.array()[codes].tolist() == column.to_pylist()
    assert found.size == 3
    wanted = ids.Labels.of(np.array(["z", "x", "q"], object))
    assert found.array()[found.locate(wanted)[:2]].tolist() == ["z", "x"]
    assert found.locate(wanted)[2] == -1


def test_a_null_in_a_dictionary_that_a_row_holds_is_a_missing_id():
    for column in (
        pa.DictionaryArray.from_arrays(pa.array([0, 1]), pa.array(["x", None])),
        pa.DictionaryArray.from_arrays(pa.array([0, None]), pa.array(["x", "y"])),
    ):
        with pytest.raises(ValueError, match="`x` has missing ids"):
            ids.column(column, "x")


def test_half_a_surrogate_pair_has_its_place_in_the_order():
    ev = fr.evaluate({"q": {"\ud800": 1.0, "b": 1.0, "\U0001f600": 1.0}}, {"q": ["b"]}, ["mrr"])
    assert ev["mrr"] == 1 / 3  # ties go to the id that is last


@pytest.mark.parametrize("kind", ["object", "str", "string[pyarrow]", "category"])
@pytest.mark.parametrize("other", ["object", "str", "category"])
def test_text_is_found_whoever_holds_it(kind, other):
    rng = np.random.default_rng(2)
    for here, there in ((1, 1), (3, 200), (200, 3), (40, 40), (70_000, 5), (5, 70_000)):
        pool = [f"é{i}" if i % 3 else "x" * (i % 40) + str(i) for i in range(here + there)]
        ours, theirs = (
            rng.permutation(pool)[:here].astype(object),
            rng.permutation(pool)[:there].astype(object),
        )
        place = {label: code for code, label in enumerate(ours.tolist())}
        expected = [place.get(label, -1) for label in theirs.tolist()]
        (_, known), (_, wanted) = (
            ids.column(pd.Series(pd.Categorical(side, side) if of == "category" else side, dtype=of), "x")
            for side, of in ((ours, kind), (theirs, other))
        )
        assert known.array().tolist() == ours.tolist()
        assert known.locate(wanted).tolist() == expected
        some = np.arange(len(ours))[::-2]
        assert known.take(some).array().tolist() == ours[some].tolist()
        assert pickle.loads(pickle.dumps(known)).locate(wanted).tolist() == expected
