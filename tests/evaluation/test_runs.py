"""Runs and truths of every kind give the same values; what cannot be read is refused by name."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import fastrec as fr
from fastrec.ranking import TopK

METRICS = ["ndcg@3", "recall@2", "mrr", "map"]
RUN = {"q1": {"a": 3.0, "b": 2.0, "c": 1.0}, "q2": {"b": 2.0, "d": 1.0}}
TRUTH = {"q1": {"b": 2, "x": 1}, "q2": {"d": 1}}
EXPECTED = fr.evaluate(RUN, TRUTH, METRICS).values

NUMBER = {"a": 0, "b": 1, "c": 2, "d": 3, "x": 4}


def numbered(by_query: dict, query: Any = int, item: Any = int) -> dict:
    return {
        query(i): {item(NUMBER[name]): value for name, value in entry.items()}
        for i, entry in enumerate(by_query.values())
    }


def frame(by_query: dict, value: str) -> pd.DataFrame:
    rows = [(q, item, v) for q, entry in by_query.items() for item, v in entry.items()]
    return pd.DataFrame(rows, columns=["query", "item", value])


RUN_FRAME, TRUTH_FRAME = frame(RUN, "score"), frame(TRUTH, "gain")
INT_RUN, INT_TRUTH = numbered(RUN), numbered(TRUTH)
INT_FRAMES = frame(INT_RUN, "score"), frame(INT_TRUTH, "gain")
MATRIX = np.array([[0, 1, 2], [1, 3, -1]])
CSR = sp.csr_matrix(([2.0, 1.0, 1.0], ([0, 0, 1], [1, 4, 3])), shape=(2, 5))
SCORED_CSR = sp.csr_matrix(([1.0, 3, 2, 2, 1], ([0, 0, 0, 1, 1], [2, 0, 1, 1, 3])), shape=(2, 5))
TOP = TopK(MATRIX, np.array([[3, 2, 1], [2, 1, -np.inf]], np.float32))
LABELS = np.array(list("abcdx"), object)


def read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


PAIRS: dict[str, tuple[Any, Any]] = {
    "dict, lists": ({q: list(entry) for q, entry in RUN.items()}, TRUTH),
    "pandas": (RUN_FRAME, TRUTH_FRAME),
    "pandas, rows in any order": (
        RUN_FRAME.sample(frac=1, random_state=1),
        TRUTH_FRAME.iloc[[1, 0, 2]],
    ),
    "pandas, queries interleaved": (RUN_FRAME.iloc[[3, 0, 4, 1, 2]], TRUTH_FRAME.iloc[[0, 2, 1]]),
    "pandas, object": (
        RUN_FRAME.astype({"query": object, "item": object}),
        TRUTH_FRAME.astype({"query": object, "item": object}),
    ),
    "pandas, categories": (
        RUN_FRAME.astype({"query": "category", "item": "category"}),
        TRUTH_FRAME.astype({"query": "category", "item": "category"}),
    ),
    "pandas, by rank": (RUN_FRAME.assign(rank=[1, 2, 3, 1, 2]).drop(columns="score"), TRUTH_FRAME),
    "pandas, by position": (RUN_FRAME.drop(columns="score"), TRUTH_FRAME),
    "pandas, other names": (
        RUN_FRAME.rename(columns={"query": "user_id", "item": "item_id"}),
        TRUTH_FRAME.rename(columns={"query": "qid", "item": "docid", "gain": "rel"}),
    ),
    "pandas, int": INT_FRAMES,
    "pandas, small ints": (
        INT_FRAMES[0].astype({"item": "int32", "query": "int16"}),
        INT_FRAMES[1].astype({"item": "uint8"}),
    ),
    "pandas, nullable": (INT_FRAMES[0].convert_dtypes(), INT_FRAMES[1].convert_dtypes()),
    "pandas, whole floats": (INT_FRAMES[0].astype({"item": "float64"}), INT_FRAMES[1]),
    "int dicts": (INT_RUN, INT_TRUTH),
    "ints meet text": (INT_RUN, numbered(TRUTH, str, str)),
    "text meets ints": (numbered(RUN, str, str), INT_TRUTH),
    "text meets ints in frames": (frame(numbered(RUN, str, str), "score"), INT_FRAMES[1]),
    "mixed": (numbered(RUN, int, lambda i: i if i % 2 else str(i)), numbered(TRUTH, str, str)),
    "whole floats in dicts": (
        numbered(RUN, int, float),
        numbered(TRUTH, float, lambda i: float(i) if i % 2 else i),
    ),
    "matrix, CSR": (MATRIX, CSR),
    "matrix, dict": (MATRIX, INT_TRUTH),
    "matrix, int32": (MATRIX.astype(np.int32), CSR),
    "matrix, strided": (np.repeat(MATRIX, 2, axis=1)[:, ::2], CSR),
    "matrix, Fortran": (np.asfortranarray(MATRIX), CSR),
    "matrix, read-only": (read_only(MATRIX), CSR),
    "matrix, byte-swapped": (MATRIX.astype(">i8"), CSR),
    "lists": (MATRIX.tolist(), CSR),
    "ragged": ([[0, 1, 2], [1, 3]], CSR),
    "ragged arrays": ([np.array([0, 1, 2]), np.array([1, 3])], CSR),
    "ragged, padded": ([[0, 1, 2], [1, 3, -1, -1]], CSR),
    "COO": (MATRIX, CSR.tocoo()),
    "CSC array": (MATRIX, sp.csc_array(CSR)),
    "scored CSR": (SCORED_CSR, CSR),
    "TopK": (TOP, CSR),
    "TopK, dict": (TOP, INT_TRUTH),
    "TopK, frame": (TOP.to_frame(), INT_TRUTH),
    "TopK, labels, CSR": (TopK(TOP.rows, TOP.scores, LABELS), CSR),
    "TopK, int labels": (
        TopK(TOP.rows, TOP.scores, np.arange(10, 15)),
        {q: {i + 10: g for i, g in entry.items()} for q, entry in INT_TRUTH.items()},
    ),
    "Truth": (RUN_FRAME, fr.Truth(TRUTH_FRAME)),
    "pandas, indexed by query and item": (
        RUN_FRAME.set_index(["query", "item"]),
        TRUTH_FRAME.astype({"item": "category"}).set_index(["query", "item"]),
    ),
    "pandas, an index that repeats": (RUN_FRAME.set_index(np.zeros(5, int)), TRUTH_FRAME.set_index("query")),
    "pandas, gains called score": (
        RUN_FRAME.rename(columns={"query": "Query ID", "item": "document-id"}),
        TRUTH_FRAME.rename(columns={"query": "query-id", "item": "corpus-id", "gain": "score"}),
    ),
    "Series of lists": (RUN_FRAME.groupby("query")["item"].apply(list), pd.Series(TRUTH)),
    "lists of dicts, worst first": (
        [dict(reversed(entry.items())) for entry in RUN.values()],
        [dict(reversed(entry.items())) for entry in TRUTH.values()],
    ),
    "whole floats among text": (
        numbered(RUN, int, lambda i: float(i) if i % 2 else str(i)),
        numbered(TRUTH, str, str),
    ),
    "lists, Series of dicts": ([list(entry) for entry in RUN.values()], pd.Series(list(TRUTH.values()))),
}


@pytest.mark.parametrize("kind", PAIRS)
def test_every_kind_gives_the_same_values(kind: str) -> None:
    run, truth = PAIRS[kind]
    ev = fr.evaluate(run, truth, METRICS)
    order = np.argsort([str(q) for q in ev.query_ids])
    np.testing.assert_array_equal(ev.values[order], EXPECTED)


@pytest.mark.parametrize("text", [True, False])
def test_polars_and_arrow_frames(text: bool) -> None:
    pl = pytest.importorskip("polars", reason="polars frames are one of the inputs")
    pa = pytest.importorskip("pyarrow", reason="Arrow tables are one of the inputs")
    run, truth = (RUN_FRAME, TRUTH_FRAME) if text else INT_FRAMES
    for make in (pl.from_pandas, pa.Table.from_pandas, lambda f: pl.from_pandas(f).lazy()):
        np.testing.assert_array_equal(fr.evaluate(make(run), make(truth), METRICS).values, EXPECTED)
    if text:
        categorical = pl.from_pandas(run).with_columns(pl.col("item").cast(pl.Categorical))
        np.testing.assert_array_equal(fr.evaluate(categorical, truth, METRICS).values, EXPECTED)


def test_lists_in_a_column_are_refused() -> None:
    """One row an item: a column of lists is first taken apart (``explode``)."""
    listed = RUN_FRAME.groupby("query", as_index=False)["item"].agg(list)
    pa = pytest.importorskip("pyarrow", reason="Arrow tables are one of the inputs")
    for run in (listed, pa.Table.from_pandas(listed)):
        with pytest.raises(TypeError, match=r"`run\.item` must hold integers or text"):
            fr.evaluate(run, TRUTH, METRICS)


def test_rows_can_be_labelled() -> None:
    top = TopK(TOP.rows, TOP.scores, LABELS)
    np.testing.assert_array_equal(fr.evaluate(top, TRUTH, METRICS, queries=["q1", "q2"]).values, EXPECTED)
    swapped = fr.evaluate(
        TopK(TOP.rows[::-1], TOP.scores[::-1], LABELS), TRUTH, METRICS, queries=["q2", "q1"]
    )
    np.testing.assert_array_equal(swapped.values, EXPECTED)
    text = np.array([["a", "b", "c"], ["b", "d", None]], object)
    np.testing.assert_array_equal(fr.evaluate(text, TRUTH, METRICS, queries=["q1", "q2"]).values, EXPECTED)
    both = fr.evaluate(MATRIX, CSR, METRICS, queries=["q1", "q2"])
    assert list(both.query_ids) == ["q1", "q2"]
    np.testing.assert_array_equal(both.values, EXPECTED)


def written(table: pd.DataFrame, path: Any, value: str) -> Any:
    """The table as a file of the kind that the suffix says."""
    suffix = path.suffix
    if suffix == ".parquet":
        table.to_parquet(path)
    elif suffix in (".csv", ".tsv"):
        table.to_csv(path, index=False, sep="," if suffix == ".csv" else "\t")
    elif suffix == ".jsonl":
        table.to_json(path, orient="records", lines=True)
    elif suffix == ".json":
        path.write_text(json.dumps({q: dict(zip(g["item"], g[value])) for q, g in table.groupby("query")}))
    else:  # TREC
        rows = zip(table["query"], table["item"], table[value])
        line = "{} Q0 {} 1 {} tag\n" if value == "score" else "{} 0 {} {}\n"
        path.write_text("".join(line.format(*row) for row in rows))
    return path


@pytest.mark.parametrize("truth", [".parquet", ".csv", ".tsv", ".jsonl", ".json", ".qrels"])
@pytest.mark.parametrize("run", [".parquet", ".csv", ".jsonl", ".json", ".trec"])
def test_files(tmp_path: Any, run: str, truth: str) -> None:
    run_path = written(RUN_FRAME, tmp_path / f"run{run}", "score")
    truth_path = written(TRUTH_FRAME, tmp_path / f"truth{truth}", "gain")
    np.testing.assert_array_equal(fr.evaluate(run_path, str(truth_path), METRICS).values, EXPECTED)


def test_malformed_files_are_named_with_the_line(tmp_path: Any) -> None:
    path = tmp_path / "run.trec"
    path.write_text("q1 Q0 a 1 0.5 t\nq1 Q0 b 2\n")
    with pytest.raises(ValueError, match=r"run.trec, line 2: expected 6 fields .*; got 4"):
        fr.evaluate(path, TRUTH, METRICS)
    path = tmp_path / "truth.csv"
    path.write_text("query,item,gain\nq1,a,high\n")
    with pytest.raises(ValueError, match=r"truth.csv, line 2: expected a number as gain; got 'high'"):
        fr.evaluate(RUN, path, METRICS)


def test_the_order_of_rows_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 3, 400).astype(float)
    table = pd.DataFrame(
        {"query": np.repeat(np.arange(20), 20), "item": np.tile(np.arange(20), 20), "score": scores}
    )
    truth = table[["query", "item"]].sample(150, random_state=1).assign(gain=rng.integers(0, 4, 150))
    for kind in (int, str):
        run, judged = (frame.astype({"query": kind, "item": kind}) for frame in (table, truth))
        for ties in ("trec", "id_desc", "id_asc", "random", "average", "optimistic", "pessimistic"):
            expected = fr.evaluate(run, judged, ["map", "ndcg@5", "mrr"], ties=ties).per_query.sort_index()
            for seed in range(3):
                shuffled = fr.evaluate(
                    run.sample(frac=1, random_state=seed), judged.sample(frac=1, random_state=seed),
                    ["map", "ndcg@5", "mrr"], ties=ties,
                )  # fmt: skip
                pd.testing.assert_frame_equal(shuffled.per_query.sort_index(), expected)


def test_a_random_order_is_another_in_each_query() -> None:
    run = {q: dict.fromkeys("abcdefgh", 1.0) for q in range(200)}
    ranks = fr.evaluate(run, {q: {"a": 1} for q in range(200)}, ["mean_rank"], ties="random").values.ravel()
    assert set(ranks) == set(range(1, 9))
    assert abs(ranks.mean() - 4.5) < 0.5


def test_int64_ids_beyond_32_bits() -> None:
    big = np.array([[2**40, 2**40 + 2**32, 5], [2**62, -(2**62), 7]])
    truth = {0: {2**40 + 2**32: 1}, 1: {-(2**62): 1, 0: 1}}
    assert fr.evaluate(big, truth, ["mrr"]).values.ravel().tolist() == [0.5, 0.5]
    # a truth of 64 bits beside a run of 32: no id may alias
    ev = fr.evaluate(np.array([[1, 2]], np.int32), {0: {2**32 + 1: 1, 2: 1}}, ["mrr", "recall"])
    assert ev.values.tolist() == [[0.5, 0.5]]


BAD: list[tuple[Any, Any, dict, type, str]] = [
    ({"q1": {"a": float("nan")}}, TRUTH, {}, ValueError, "NaN, in query 'q1'"),
    (frame(RUN, "score").assign(score=np.nan), TRUTH, {}, ValueError, "NaN"),
    (frame(RUN, "score").assign(score="high"), TRUTH, {}, TypeError, "run.score"),
    (frame(RUN, "score").assign(item=None), TRUTH, {}, ValueError, "run.item.*missing"),
    (frame(RUN, "score").assign(query=np.nan), TRUTH, {}, ValueError, "run.query.*missing"),
    (frame(RUN, "score").rename(columns={"item": "thing"}), TRUTH, {}, ValueError, "column named 'item'"),
    (pd.concat([RUN_FRAME, RUN_FRAME.iloc[:1]]), TRUTH, {}, ValueError, "item 'a' twice in query 'q1'"),
    ({"q1": ["b", "b"]}, TRUTH, {}, ValueError, "item 'b' twice"),
    # no less a fault in a query that the truth does not know
    (RUN | {"new": {"a": float("nan")}}, TRUTH, {}, ValueError, "NaN, in query 'new'"),
    (
        RUN | {"new": ["a", "b", "a"]} | {q: list(v) for q, v in RUN.items()},
        TRUTH,
        {},
        ValueError,
        "item 'a' twice in query 'new'",
    ),
    (np.array([[0, 1], [1, 3], [2, 2]]), {0: {1: 1}, 1: {3: 1}}, {}, ValueError, "item 2 twice in query 2"),
    (
        TopK(np.array([[0, 1], [1, 3]]), np.array([[2, 1], [np.nan, 1]], np.float32)),
        {0: {1: 1}},
        {},
        ValueError,
        "NaN, in query 1",
    ),
    ({"q1": "abc"}, TRUTH, {}, TypeError, "text 'abc'"),
    ({"q1": 3}, TRUTH, {}, TypeError, "int"),
    ({"q1": {"a": 1.0}, "q2": ["a"]}, TRUTH, {}, TypeError, "every query"),
    (["ab", "cd"], CSR, {}, TypeError, "one list of items per query"),
    (MATRIX + 0.5, CSR, {}, TypeError, "floats"),
    (MATRIX[0], CSR, {}, ValueError, "shape"),
    (np.array([[0, -1, 2], [1, 3, -1]]), CSR, {}, ValueError, "-1 before an item in query 0"),
    ([[0, 1], [1, -1, 3]], CSR, {}, ValueError, "-1 before an item in row 1"),
    (np.array([[0, 0, 2], [1, 3, -1]]), CSR, {}, ValueError, "item 0 twice in query 0"),
    (MATRIX[:1], CSR, {}, ValueError, "same rows"),
    (MATRIX, TRUTH, {}, ValueError, "queries="),
    (RUN, TRUTH, {"queries": [1, 2]}, TypeError, "has its own"),
    (MATRIX, CSR, {"queries": [1, 1]}, ValueError, "distinct"),
    (MATRIX, CSR, {"queries": [1]}, ValueError, "one label per row"),
    (TopK(TOP.rows, TOP.scores, LABELS[:4]), CSR, {}, ValueError, "one column per item"),
    (object(), CSR, {}, TypeError, "`run` must be a TopK, .* or a path; got object"),
    (None, TRUTH, {}, TypeError, "`run` must be a TopK, .* or a path; got NoneType"),
    (RUN, None, {}, TypeError, "`truth` must be a frame, .* or a path; got NoneType"),
    (RUN_FRAME.assign(score=pd.date_range("2020", periods=5)), TRUTH, {}, TypeError, "run.score.*datetime64"),
    (SCORED_CSR.astype(complex), CSR, {}, TypeError, "complex128"),
    (MATRIX, CSR.astype(complex), {}, TypeError, "`truth` must hold numbers; got dtype complex128"),
    (pd.concat([RUN_FRAME, RUN_FRAME["item"]], axis=1), TRUTH, {}, ValueError, "column 'item' twice"),
    (RUN_FRAME.assign(item=[[1]] * 5), TRUTH, {}, TypeError, "run.item.*unhashable type: 'list'"),
    (pd.Series([["a"], ["b"]], index=["q1", "q1"]), TRUTH, {}, ValueError, "query 'q1' twice"),
    (
        RUN_FRAME.rename(columns={"query": "user"}).assign(topic=1),
        TRUTH,
        {},
        ValueError,
        "'user' and 'topic' could",
    ),
    (
        RUN,
        TRUTH_FRAME.rename(columns={"gain": "rel"}).assign(label=1),
        {},
        ValueError,
        "'rel' and 'label' could",
    ),
    ({"q1": {"a", "b"}}, TRUTH, {}, TypeError, "a set, which has no order"),
    ({"q1": pd.Series({"a": 1.0, "b": 2.0})}, TRUTH, {}, TypeError, "Series of floats. Its `.to_dict"),
    (RUN, {"q1": pd.Series({"a": 1.0, "b": 2.0})}, {}, TypeError, "`truth` .*Series of floats"),
    ({"q1": RUN_FRAME}, TRUTH, {}, TypeError, "`run` must map every query .*got a frame"),
    (
        {"q1": [("a", 0.5), ("b", 0.2)]},
        TRUTH,
        {},
        TypeError,
        r"got the pair \('a', 0.5\). Items with their scores",
    ),
    ([("q1", "a", 0.5), ("q1", "b", 0.2)], CSR, {}, TypeError, "integers or text; got the number 0.5"),
    (RUN, {"q1": ["b", 1.5]}, {}, TypeError, "`truth .*got the number 1.5"),
    ([{"query": "q1", "item": "a", "score": 1.0}], [["a"]], {}, TypeError, "`score` must hold numbers"),
    ([{"a": 1.0}, ["b"]], [["a"], ["b"]], {}, TypeError, "`run` must hold a dict for every query, or a list"),
    (
        [["a"], ["b"]],
        [{"a": 1.0}, ["b"]],
        {},
        TypeError,
        "`truth` must hold a dict for every query, or a list",
    ),
    ([{1, 2}, {3}], CSR, {}, TypeError, "a set, which has no order"),
    ("no such file.csv", CSR, {}, FileNotFoundError, "no such file"),
]


@pytest.mark.parametrize(("run", "truth", "arguments", "error", "message"), BAD)
def test_bad_runs_are_refused(run: Any, truth: Any, arguments: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        fr.evaluate(run, truth, METRICS, **arguments)


def test_no_query_in_common_warns() -> None:
    with pytest.warns(UserWarning, match="do their ids match"):
        ev = fr.evaluate({"z": {"a": 1.0}}, TRUTH, METRICS)
    assert ev.counts["missing"] == 2
    assert ev.counts["unjudged"] == 1
    assert not ev.values.any()


@pytest.mark.parametrize(
    ("run", "truth"), [({"q1": [1, 2]}, TRUTH), (RUN, {"q1": [1]}), (np.array([[1, 2]]), {0: ["b"]})]
)
def test_ids_of_two_kinds_that_never_meet_warn(run: Any, truth: Any) -> None:
    with pytest.warns(UserWarning, match=r"no item of `truth` .* one holds integers, the other text"):
        assert not fr.evaluate(run, truth, METRICS).values.any()


def test_a_truth_may_hold_sets() -> None:
    ev = fr.evaluate([[0, 1, 2], [1, 3, 4]], [{1, 4}, {3, 5}], ["mrr", "recall@2"])
    assert ev.values.tolist() == [[0.5, 0.5], [0.5, 0.5]]


@pytest.mark.parametrize("run", [{}, RUN_FRAME.iloc[:0], {"q1": {}}, {"q1": []}])
def test_an_empty_run_scores_zero(run: Any) -> None:
    ev = fr.evaluate(run, TRUTH, METRICS)
    assert ev.values.shape == (2, 4)
    assert not ev.values.any()
    assert ev.counts["missing"] == 2


@pytest.mark.parametrize("truth", [{}, TRUTH_FRAME.iloc[:0]])
def test_an_empty_truth_has_no_queries(truth: Any) -> None:
    ev = fr.evaluate(RUN, truth, METRICS)
    assert ev.values.shape == (0, 4)
    assert (ev.mean == 0).all()
    assert ev.counts["unjudged"] == 2


def test_empty_matrices() -> None:
    assert fr.evaluate([[], []], [[1], []], METRICS).counts["missing"] == 2
    assert fr.evaluate([[], []], [[], []], METRICS).counts["empty"] == 2
    assert fr.evaluate(np.empty((2, 0), np.int64), CSR, METRICS).counts["missing"] == 2
    assert fr.evaluate(np.full((2, 3), -1), CSR, METRICS).counts["missing"] == 2
    assert len(fr.evaluate(np.empty((0, 3), np.int64), sp.csr_matrix((0, 5)), METRICS)) == 0
