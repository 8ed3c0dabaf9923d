from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

import fastrec as fr

RNG = np.random.default_rng(3)
RUN = pd.DataFrame(
    {
        "query": np.repeat(np.arange(20), 10),
        "item": np.tile(np.arange(10), 20),
        "score": RNG.permutation(200) / 7,
    }
)
OTHER = RUN.assign(score=RNG.permutation(200) / 7)
TRUTH = RUN[["query", "item"]][RNG.random(200) < 0.3].assign(gain=1.0)
TRUTH["kind"] = np.where(TRUTH["query"] % 3, "common", "rare")


@pytest.fixture
def files(fastrec):
    RUN.to_parquet(fastrec.folder / "run.parquet")
    OTHER.to_csv(fastrec.folder / "other.csv", index=False)
    TRUTH.to_csv(fastrec.folder / "truth.csv", index=False)
    rows = zip(RUN["query"], RUN["item"], RUN["score"])
    (fastrec.folder / "run.trec").write_text("".join(f"{q} Q0 {i} 1 {s!r} t\n" for q, i, s in rows))
    rows = zip(TRUTH["query"], TRUTH["item"])
    (fastrec.folder / "truth.qrels").write_text("".join(f"{q} 0 {i} 1\n" for q, i in rows))
    return fastrec


def want(metrics, run=RUN, convention="trec"):
    return fr.evaluate(run, TRUTH.drop(columns="kind"), metrics, convention)


@pytest.mark.parametrize("run", ["run.parquet", "run.trec"])
@pytest.mark.parametrize("truth", ["truth.csv", "truth.qrels"])
def test_the_report_holds_what_the_library_returns(files, run: str, truth: str) -> None:
    done = files("evaluate", run, truth, "--metrics", "ndcg@10,recall@5,7", "-m", "map", "--json")
    assert done.code == 0
    report = json.loads(done.out)
    means = {row["metric"]: row["mean"] for row in report["metrics"]}
    expected = want(["ndcg@10", "recall@5,7", "map"]).mean
    assert list(means) == ["ndcg@10", "recall@5", "recall@7", "map"]
    np.testing.assert_allclose(list(means.values()), expected.to_numpy(), rtol=0, atol=1e-15)
    assert all(row["low"] <= row["mean"] <= row["high"] for row in report["metrics"])
    assert report["counts"]["queries"] == TRUTH["query"].nunique()
    table = files("evaluate", run, truth, "-m", "map").out
    assert f"{expected['map']:.4f}" in table


def test_gates_decide_the_exit_code(files) -> None:
    mean = want(["map"])["map"]
    words = ["evaluate", "run.parquet", "truth.csv", "-m", "ndcg@10"]
    done = files(*words, "--require", f"map>={mean - 0.01}", "--require", "ndcg@10 > 0")
    assert done.code == 0
    assert done.out.count("PASS") == 2
    done = files(*words, "--require", f"map>={mean + 0.01}", "--require", "ndcg@10>0")
    assert done.code == 1
    assert (done.out.count("PASS"), done.out.count("FAIL")) == (1, 1)
    assert files(*words, "--require", f"map=={mean!r}", "--json").code == 0
    assert files(*words, "--require", f"map<{mean!r}").code == 1
    assert files(*words, "--require", f"map<={mean!r}").code == 0
    assert (
        files(*words, "--require", "rbp(p=0.9)>=0.01", "--require", "nrbp<1").code != 0
    )  # nrbp: no subtopics there
    assert files(*words, "--require", "rbp(p=0.9)>=0.01", "--require", "rbp(p=0.9)@5 < 1").code == 0


def test_values_by_query_and_the_table_are_written(files) -> None:
    done = files(
        "evaluate",
        "run.parquet",
        "truth.csv",
        "-m",
        "map",
        "--per-query",
        "values.parquet",
        "-o",
        "means.csv",
    )
    assert done.code == 0
    values = pd.read_parquet("values.parquet").set_index("query")
    pd.testing.assert_frame_equal(values, want(["map"]).per_query)
    assert pd.read_csv("means.csv")["mean"].tolist() == [want(["map"])["map"]]


@pytest.mark.parametrize("source", ["truth", "groups"])
def test_means_by_a_column(files, source: str) -> None:
    words = ["evaluate", "run.trec", "truth.csv", "-m", "map", "--by", "kind", "--json"]
    if source == "groups":
        TRUTH[["query", "kind"]].drop_duplicates().to_parquet("groups.parquet")
        words = [*words[:2], "truth.qrels", *words[3:], "--groups", "groups.parquet"]
    rows = json.loads(files(*words).out)["by"]
    kinds = TRUTH.drop_duplicates("query").set_index("query")["kind"]
    expected = want(["map"]).per_query["map"].groupby(kinds)
    assert [row["kind"] for row in rows] == ["common", "rare"]
    np.testing.assert_allclose([row["map"] for row in rows], expected.mean(), rtol=0, atol=1e-15)
    assert [row["queries"] for row in rows] == expected.size().tolist()
    assert (
        "rare"
        in files(*words[:-3] if source == "groups" else words[:-1], *words[-2:] * (source == "groups")).out
    )


def test_intervals_are_those_of_the_means_shown(files) -> None:
    """Geometric means and ratios of sums have theirs too."""
    words = [
        "evaluate",
        "run.trec",
        "truth.csv",
        "-m",
        "gmap,precision@5",
        "--convention",
        "implicit",
        "--json",
    ]
    rows = json.loads(files(*words).out)["metrics"]
    assert all(row["low"] < row["mean"] < row["high"] for row in rows)
    spread = fr.evaluation.bootstrap(want(["gmap", "precision@5"], convention="implicit"))
    assert [row["low"] for row in rows] == pytest.approx(spread.low.tolist(), abs=1e-15)


def test_means_by_a_column_are_averaged_as_the_whole_is(files) -> None:
    """gMAP is a geometric mean in every group, and implicit's precision a ratio of sums."""
    kinds = TRUTH.drop_duplicates("query").set_index("query")["kind"]
    for metric, convention in (("gmap", "trec"), ("precision@5", "implicit")):
        words = ["evaluate", "run.trec", "truth.csv", "-m", metric, "--by", "kind", "--json"]
        rows = json.loads(files(*words, "--convention", convention).out)["by"]
        assert [row["kind"] for row in rows] == ["common", "rare"]
        for row in rows:
            of_kind = TRUTH[TRUTH["query"].map(kinds) == row["kind"]]
            alone = fr.evaluate(RUN, of_kind[["query", "item", "gain"]], [metric], convention)
            assert row[metric] == pytest.approx(alone[metric], abs=1e-15)
            assert row["queries"] == len(alone)


def test_runs_are_compared(files) -> None:
    words = ["evaluate", "run.parquet", "truth.csv", "-m", "map", "--compare", "other.csv"]
    report = json.loads(files(*words, "--json").out)
    expected = fr.compare({"a": want(["map"]), "b": want(["map"], OTHER)}, baseline="a").frame
    row = report["compare"][0]
    assert (row["baseline"], row["run"]) == ("run.parquet", "other.csv")
    for name in ("difference", "p", "low", "high"):
        assert row[name] == pytest.approx(expected[name][0], abs=1e-14)
    assert "p corrected by holm" in files(*words).out
    for test in ("wilcoxon", "randomization", "tukey_hsd"):
        assert files(*words, "--test", test).code == 0


def test_judgements_by_subtopic(files) -> None:
    judged = TRUTH.assign(subtopic=TRUTH["item"] % 3)
    rows = zip(judged["query"], judged["subtopic"], judged["item"])
    (files.folder / "diversity.qrels").write_text("".join(f"{q} {s} {i} 1\n" for q, s, i in rows))
    judged.to_csv(files.folder / "diversity.csv", index=False)
    expected = fr.evaluate(RUN, judged, ["alpha_ndcg@5", "map"]).mean
    for truth in ("diversity.qrels", "diversity.csv"):
        done = files("evaluate", "run.parquet", truth, "-m", "alpha_ndcg@5,map", "--json")
        means = [row["mean"] for row in json.loads(done.out)["metrics"]]
        np.testing.assert_allclose(means, expected, rtol=0, atol=1e-15)


def test_ids_that_never_meet_are_pointed_out(files) -> None:
    RUN.assign(item="sku" + RUN["item"].astype(str)).to_csv("strange.csv", index=False)
    done = files("evaluate", "strange.csv", "truth.csv")
    assert done.code == 0
    assert "no item of the run is in truth.csv (their first: 'sku0' and 5)" in done.err
    assert done.err.count("\n") == 1
    assert files("evaluate", "run.trec", "truth.csv").err == ""


def test_bad_input_is_one_line(files, refused) -> None:
    (files.folder / "short.trec").write_text("1 Q0 a 1 0.5 t\n1 Q0 b 2 0.4\n")
    (files.folder / "nan.csv").write_text("query,item,score\n1,2,nan\n")
    (files.folder / "empty.csv").touch()
    (files.folder / "binary.trec").write_bytes(b"\x7fELF\0\0")
    (files.folder / "cut.parquet").write_bytes((files.folder / "run.parquet").read_bytes()[:-50])
    for name, message in {
        "gone.trec": "gone.trec: no such file",
        "short.trec": "short.trec, line 2: expected 6 fields `query Q0 item rank score tag`; got 5: '1 Q0 b 2 0.4'",
        "nan.csv": "nan.csv, line 2: expected a number as score; got 'nan'",
        "empty.csv": "empty.csv: the file is empty",
        "binary.trec": "binary.trec: expected text; got binary data",
        ".": ".: expected a file; it is a folder",
    }.items():
        assert refused("evaluate", name, "truth.csv") == message
    assert "cut.parquet: expected a whole Parquet file; got" in refused(
        "evaluate", "cut.parquet", "truth.csv"
    )
    base = ["evaluate", "run.trec", "truth.csv"]
    assert "Did you mean 'ndcg'?" in refused(*base, "-m", "ndgc@10")
    assert "`convention`" in refused(*base, "--convention", "treck")
    assert "expected METRIC>=NUMBER" in refused(*base, "--require", "ndcg@10=>0.3")
    assert "must name one metric" in refused(*base, "--require", "recall@5,10>0.3")
    assert "expected columns query and colour" in refused(*base, "--by", "colour")
    assert "pass a table with --groups" in refused("evaluate", "run.trec", "truth.qrels", "--by", "kind")
    assert "expected one item a query; got several" in refused(*base, "--by", "item")
    assert "--groups needs --by" in refused(*base, "--groups", "truth.csv")
    assert "is the run itself" in refused(*base, "--compare", "run.trec")
    assert "the suffix must be one of" in refused(*base, "--per-query", "x.trec")
    assert "`--level` must be between" in refused(*base, "--level", 2)
