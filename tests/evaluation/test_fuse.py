"""fr.fuse: definitions by hand and by ranx, every kind of input, order and ties, bad input."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fastrec.evaluation.fuse import METHODS, fuse
from fastrec.ranking import TopK

SCORE_METHODS = [method for method in METHODS if method.startswith("comb")]


def random_runs(runs=3, queries=12, items=30, depth=15, seed=0):
    rng = np.random.default_rng(seed)
    return [
        {
            f"q{q:02}": {
                f"d{i:03}": float(rng.random() * 10 - 2) for i in rng.choice(items, depth, replace=False)
            }
            for q in range(queries)
        }
        for _ in range(runs)
    ]


def by_rank(scores):
    return sorted(scores, key=lambda item: (-scores[item], item))


def test_rank_methods_by_hand():
    a = {"q": {"x": 9.0, "y": 5.0, "z": 1.0}}
    b = {"q": {"y": 0.3, "w": 0.2}}
    assert fuse([a, b], "rrf")["q"] == {"y": 1 / 62 + 1 / 61, "x": 1 / 61, "w": 1 / 62, "z": 1 / 63}
    assert fuse([a, b], "rrf", rank_constant=0)["q"]["y"] == 1.5
    assert fuse([a, b], "isr")["q"] == {"y": 2 * (1 / 4 + 1), "x": 1.0, "w": 0.25, "z": 1 / 9}
    log = fuse([a, b], "log_isr")["q"]
    assert log == {"y": np.log(2) * 1.25, "w": 0, "x": 0, "z": 0}
    assert list(log) == ["y", "w", "x", "z"]
    assert fuse([a, b], "logn_isr", sigma=0.5)["q"]["x"] == pytest.approx(np.log(1.5))
    assert fuse([a, b], "rbc", persistence=0.5)["q"] == {"y": 0.75, "x": 0.5, "w": 0.25, "z": 0.125}
    # Four candidates: a gives 4, 3, 2 and w what is left (1); b gives 4, 3 and the others (2 + 1) / 2 each.
    assert fuse([a, b], "borda")["q"] == {"y": 7.0, "x": 5.5, "w": 4.0, "z": 3.5}
    # x:y 1:1, x:z 1:0 (b lists neither), x:w 1:1, y:z 2:0, y:w 2:0, z:w 1:1.
    assert fuse([a, b], "condorcet")["q"] == {"y": 2.5, "x": 2.0, "w": 1.0, "z": 0.5}


def test_score_methods_by_hand():
    a = {"q": {"x": 4.0, "y": 1.0}}
    b = {"q": {"x": 2.0, "z": 8.0}}
    c = {"q": {"x": 9.0}}
    raw = {method: fuse([a, b, c], method, norm=None)["q"] for method in SCORE_METHODS}
    assert {m: r["x"] for m, r in raw.items()} == {
        "combsum": 15.0, "combmnz": 45.0, "combgmnz": 135.0, "combanz": 5.0, "combmax": 9.0, "combmin": 2.0,
        "combmed": 4.0,
    }  # fmt: skip
    assert all(r["y"] == 1.0 and r["z"] == 8.0 for r in raw.values())
    weighted = fuse([a, b, c], "combsum", norm=None, weights=[1, 0.5, 2])["q"]
    assert weighted == {"x": 23.0, "z": 4.0, "y": 1.0}
    named = fuse({"a": a, "b": b, "c": c}, "combsum", norm=None, weights={"c": 2, "b": 0.5, "a": 1})["q"]
    assert named == weighted


def test_norms_by_hand():
    run = {
        "q": {"a": 6.0, "b": 3.0, "c": 2.0},
        "one": {"a": 5.0},
        "flat": {"a": -1.0, "b": -1.0},
        "zero": {"a": 0.0},
    }
    nothing = {"q": {}, "one": {}, "flat": {}, "zero": {}}
    expected = {
        "min_max": ([1, 0.25, 0], 1, 1, 1),
        "max": ([1, 0.5, 1 / 3], 1, -1, 0),
        "sum": ([0.8, 0.2, 0], 1, 0.5, 1),
        "z_score": ((np.array([6, 3, 2]) - 11 / 3) / np.std([6, 3, 2]), 0, 0, 0),
        "rank": ([1, 2 / 3, 1 / 3], 1, 1, 1),
    }
    for norm, (q, one, flat, zero) in expected.items():
        fused = fuse([run, nothing], "combsum", norm=norm)
        np.testing.assert_allclose([fused["q"][i] for i in "abc"], q, rtol=1e-14)
        assert (fused["one"]["a"], fused["flat"]["a"], fused["zero"]["a"]) == (one, flat, zero), norm
    # Borda's norm gives the unlisted a share: candidates a, b, c, d; of two listed, the others get 3/2 of 4.
    borda = fuse([{"q": {"a": 6.0, "b": 3.0}}, {"q": {"c": 1.0, "d": 0.5}}], "combmax", norm="borda")["q"]
    assert borda == {"a": 1.0, "c": 1.0, "b": 0.75, "d": 0.75}
    minimum = fuse([{"q": {"a": 6.0, "b": 3.0}}, {"q": {"c": 1.0, "d": 0.5}}], "combmin", norm="borda")["q"]
    assert set(minimum.values()) == {0.375}


RECORDED = json.loads(Path(__file__).with_name("ranx_fusion.json").read_text())


@pytest.mark.parametrize("case", RECORDED["cases"], ids=lambda case: f"{case['method']}-{case['norm']}")
def test_equals_what_ranx_made_of_the_same_runs(case):
    fused = fuse(RECORDED["runs"], case["method"], norm=case["norm"])
    assert fused.keys() == case["fused"].keys()
    for query, scores in fused.items():
        assert scores == pytest.approx(case["fused"][query], rel=1e-12, abs=1e-14)


def test_condorcet_orders_by_majority_where_there_is_no_cycle():
    rng = np.random.default_rng(3)
    checked = 0
    for _ in range(200):
        rankings = [list(rng.permutation(5)) for _ in range(3)]
        beats = {
            (x, y): sum(r.index(x) < r.index(y) for r in rankings) >= 2
            for x, y in itertools.permutations(range(5), 2)
        }
        order = [
            p
            for p in itertools.permutations(range(5))
            if all(beats[p[i], p[j]] for i in range(5) for j in range(i + 1, 5))
        ]
        if order:
            runs = [{0: {int(i): -float(r.index(i)) for i in range(5)}} for r in rankings]
            assert list(fuse(runs, "condorcet")[0]) == list(order[0])
            checked += 1
    assert checked > 50
    # A run's weight is its votes.
    runs = [{"q": {"a": 2, "b": 1}}, {"q": {"b": 2, "a": 1}}, {"q": {"b": 2, "a": 1}}]
    assert list(fuse(runs, "condorcet")["q"]) == ["b", "a"]
    assert list(fuse(runs, "condorcet", weights=[3, 1, 1])["q"]) == ["a", "b"]


@pytest.mark.parametrize("method", METHODS)
def test_every_kind_of_input_gives_the_same_answer(method):
    rng = np.random.default_rng(1)
    ids = [np.stack([rng.permutation(20)[:8] for _ in range(5)]) for _ in range(2)]
    scores = [-np.sort(-rng.random((5, 8)).astype(np.float32), axis=1) for _ in range(2)]
    tops = [TopK(i.astype(np.int64), s) for i, s in zip(ids, scores)]
    frames = [top.to_frame() for top in tops]
    dicts = [
        {q: {int(i): float(s) for i, s in zip(ids[r][q], scores[r][q])} for q in range(5)} for r in range(2)
    ]  # fmt: skip
    expected = fuse(dicts, method)
    as_dict = lambda frame: {  # noqa: E731
        q: dict(zip(group["item"].tolist(), group["score"].tolist())) for q, group in frame.groupby("query")
    }
    from_frames = fuse(frames, method)
    assert list(from_frames.columns) == ["query", "rank", "item", "score"]
    assert as_dict(from_frames) == expected
    top = fuse(tops, method)
    assert isinstance(top, TopK)
    assert top.scores.dtype == np.float64
    pd.testing.assert_frame_equal(top.to_frame(), from_frames)
    pairs = fuse(list(zip(ids, scores)), method)
    np.testing.assert_array_equal(pairs.rows, top.rows)
    for query, fused in expected.items():
        assert top.ids[query][top.ids[query] >= 0].tolist() == list(fused)


def test_polars_and_arrow_frames_come_back_as_they_went():
    pl = pytest.importorskip("polars", reason="one of the kinds of frames")
    frames = [pd.DataFrame({"qid": ["a", "a", "b"], "docno": ["x", "y", "x"], "score": [2.0, 1.0, 1.0]})] * 2
    expected = fuse(frames, "combsum")
    assert list(expected.columns) == ["qid", "rank", "docno", "score"]
    polars = fuse([pl.from_pandas(frame) for frame in frames], "combsum")
    assert isinstance(polars, pl.DataFrame)
    assert polars.to_dict(as_series=False) == expected.to_dict("list")
    arrow = fuse([pl.from_pandas(frame).to_arrow() for frame in frames], "combsum")
    assert type(arrow).__module__.startswith("pyarrow")
    assert arrow.to_pydict() == expected.to_dict("list")


def test_files_are_read(tmp_path):
    runs = random_runs(2, queries=3)
    for number, run in enumerate(runs):
        lines = [f"{q} Q0 {d} 1 {s!r} t\n" for q, items in run.items() for d, s in items.items()]
        (tmp_path / f"{number}.trec").write_text("".join(lines))
    fused = fuse([tmp_path / "0.trec", str(tmp_path / "1.trec")], "combsum")
    expected = fuse(runs, "combsum")
    assert list(fused.columns) == ["query", "rank", "item", "score"]
    for query, items in expected.items():
        part = fused[fused["query"] == query]
        assert dict(zip(part["item"], part["score"])) == items
    with pytest.raises(FileNotFoundError, match="gone"):
        fuse([tmp_path / "gone.trec"] * 2)


def test_ids_alone_and_rank_columns_are_rankings():
    a, b = np.array([[3, 1, -1]]), np.array([[1, 2, 3]])
    fused = fuse([a, b], "rrf")
    assert fused.rows.tolist() == [[1, 3, 2]]
    np.testing.assert_array_equal(fused.rows, fuse([a.astype(np.int32), b[:, ::-1][:, ::-1]], "rrf").rows)
    np.testing.assert_allclose(fuse([a, b], "combsum", norm="rank").scores, [[1.5, 4 / 3, 2 / 3]])
    with pytest.raises(ValueError, match=r"'combsum' needs scores, which runs\[0\] lacks"):
        fuse([a, b], "combsum")
    ranked = pd.DataFrame({"query": [0, 0], "item": [1, 3], "rank": [2, 1]})
    listed = pd.DataFrame({"query": [0, 0, 0], "item": [1, 2, 3]})
    assert fuse([ranked, listed], "rrf")["item"].tolist() == [1, 3, 2]


def test_labels_of_different_indexes_are_matched():
    one = TopK(np.array([[0, 1]]), np.array([[2.0, 1.0]], np.float32), np.array(["b", "c"]))
    two = TopK(np.array([[0, 1]]), np.array([[2.0, 1.0]], np.float32), np.array(["c", "a"]))
    assert fuse([one, two], "rrf").ids.tolist() == [["c", "b", "a"]]
    same = fuse([one, one], "rrf")
    np.testing.assert_array_equal(same.rows, [[0, 1]])
    assert same.labels is not None
    with pytest.raises(ValueError, match=r"runs\[0\] has item labels and runs\[1\] has none"):
        fuse([one, TopK(one.rows, one.scores)], "rrf")


def test_order_ties_and_cutoff():
    runs = [{"q": {"b": 1.0, "a": 1.0, "c": 0.5}}, {"q": {"a": 1.0, "b": 1.0}}]
    assert list(fuse(runs, "combsum", norm=None)["q"].items()) == [("a", 2.0), ("b", 2.0), ("c", 0.5)]
    assert list(fuse(runs, "combsum", norm=None, k=1)["q"]) == ["a"]
    assert len(fuse(runs, "rrf", k=10)["q"]) == 3
    top = fuse([np.array([[5, 3], [1, -1]]), np.array([[4, 2], [-1, -1]])], "rrf", k=3)
    assert top.rows.tolist() == [[4, 5, 2], [1, -1, -1]]
    assert top.scores[1].tolist() == [1 / 61, -np.inf, -np.inf]
    integers = fuse([{1: {10: 1.0, 9: 1.0}}, {1: {9: 1.0, 10: 1.0}}], "combsum", norm=None)
    assert list(integers[1]) == [9, 10]  # as numbers, not as strings


def test_the_order_of_runs_does_not_matter_to_the_last_bit():
    runs = random_runs(4, seed=8)
    for method in METHODS:
        expected = fuse(runs, method)
        for shuffled in (runs[::-1], runs[2:] + runs[:2]):
            got = fuse(shuffled, method)
            assert got == expected
            assert all(list(got[q]) == list(expected[q]) for q in expected)


@pytest.mark.parametrize("method", METHODS)
def test_queries_that_a_run_lacks(method):
    runs = random_runs(2)
    del runs[0]["q03"]
    runs[1]["q05"] = {}
    fused = fuse(runs, method)
    assert set(fused) == {f"q{q:02}" for q in range(12)}
    assert set(fused["q03"]) == set(runs[1]["q03"])
    if method != "log_isr":  # which has log(1) = 0 for items of one run
        assert list(fused["q03"]) == by_rank(runs[1]["q03"])
        assert list(fused["q05"]) == by_rank(runs[0]["q05"])
    ragged = {**runs[0], "big": {f"d{i}": float(i) for i in range(3000)}}
    assert list(fuse([ragged, runs[1]], method)["q07"]) == list(fused["q07"])


def test_nothing_to_fuse():
    assert fuse([{}, {}]) == {}
    assert fuse([{"q": {}}, {"q": {}}]) == {"q": {}}
    top = fuse([np.empty((0, 3), np.int64)] * 2)
    assert top.rows.shape[0] == 0
    assert fuse([np.full((2, 3), -1)] * 2, "borda").rows.shape == (2, 0)
    empty = pd.DataFrame(
        {"query": np.array([], int), "item": np.array([], int), "score": np.array([], float)}
    )
    for method in METHODS:
        assert len(fuse([empty, empty], method)) == 0
    full = pd.DataFrame({"query": ["a"], "item": ["x"], "score": [1.0]})
    assert len(fuse([empty, full], "combsum")) == 1


def test_lists_are_ranked_as_they_come():
    lists = [{"q": ["a", "b", "c"], "r": ["x"]}, {"q": ["b", "d"], "s": []}]
    scored = [{q: {i: -float(place) for place, i in enumerate(x)} for q, x in run.items()} for run in lists]
    assert fuse(lists) == fuse(scored) == fuse([lists[0], scored[1]])
    assert list(fuse(lists)["q"]) == ["b", "a", "d", "c"]
    with pytest.raises(ValueError, match="'combsum' needs scores"):
        fuse(lists, method="combsum")
    with pytest.raises(TypeError, match="a dict for every query, or a list for every query; got both"):
        fuse([{"q": ["a"], "r": {"b": 1.0}}, lists[1]])


def test_bad_input_is_named():
    run = {"q": {"a": 1.0}}
    frame = pd.DataFrame({"query": [1, 1], "item": ["a", "a"], "score": [1.0, 2.0]})
    with pytest.raises(ValueError, match=r"runs\[1\] must hold .* once; item 'a' of query 1 is repeated"):
        fuse([frame.iloc[:1], frame])
    with pytest.raises(ValueError, match=r"item 7 of query 0 is repeated"):
        fuse([np.array([[7, 7]]), np.array([[1, 2]])])
    with pytest.raises(ValueError, match=r"runs\[0\] must have finite scores; got nan"):
        fuse([{"q": {"a": np.nan}}, run])
    with pytest.raises(ValueError, match="at least two runs"):
        fuse([run])
    with pytest.raises(ValueError, match=r"got 'rff'\. Did you mean 'rrf'"):
        fuse([run, run], "rff")
    with pytest.raises(ValueError, match=r"got 'minmax'\. Did you mean 'min_max'"):
        fuse([run, run], "combsum", norm="minmax")
    with pytest.raises(ValueError, match="`k` must be >= 1"):
        fuse([run, run], k=0)
    with pytest.raises(ValueError, match=r"`weights` must have shape \(2,\)"):
        fuse([run, run], weights=[1, 2, 3])
    with pytest.raises(ValueError, match="`weights` must be finite"):
        fuse([run, run], weights=[1, np.inf])
    with pytest.raises(ValueError, match="`weights` must name the runs"):
        fuse({"a": run, "b": run}, weights={"a": 1})
    with pytest.raises(TypeError, match=r"runs\[0\] is a dict and runs\[1\] is a frame"):
        fuse([run, frame])
    with pytest.raises(TypeError, match=r"the items of .* are strings and those of .* are integers"):
        fuse([run, {"q": {1: 1.0}}])
    with pytest.raises(
        TypeError,
        match=r"must be a dict of \{query: \{item: score\}\} or \{query: \[items\]\}; the value of 'a' is float",
    ):
        fuse([run, {"a": 1.0}])
    with pytest.raises(TypeError, match="`runs` must be a sequence of runs; got ndarray"):
        fuse(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="must have one row for each of the same queries"):
        fuse([np.zeros((2, 1), int), np.zeros((3, 1), int)])
    with pytest.raises(ValueError, match="must have a column 'item'"):
        fuse([frame.rename(columns={"item": "product"}), frame])
    with pytest.raises(TypeError, match="must hold integer ids; got dtype float64"):
        fuse([np.zeros((1, 2)), np.zeros((1, 2))])
    with pytest.raises(ValueError, match=r"must have the shape of its ids \(1, 2\); got \(1, 3\)"):
        fuse([(np.array([[1, 2]]), np.ones((1, 3))), np.array([[1, 2]])])
    with pytest.raises(ValueError, match="must not be missing"):
        fuse([pd.DataFrame({"query": [1, 1], "item": ["a", None], "score": [1.0, 2.0]})] * 2)
