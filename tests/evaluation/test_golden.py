"""Recorded outputs of trec_eval on real judgements and runs, where the folder that holds them is at hand."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import fastrec as fr
from fastrec.data import read_truth

FOLDER = Path(os.environ.get("FASTREC_DATA", ""), "metrics")
pytestmark = pytest.mark.skipif(
    "FASTREC_DATA" not in os.environ or not FOLDER.is_dir(),
    reason="FASTREC_DATA does not name a folder with metrics/",
)
CUTOFFS = (5, 10, 15, 20, 30, 100, 200, 500, 1000)
NAMES = {
    "map": "map", "mrr": "recip_rank", "r_precision": "Rprec", "bpref": "bpref", "infap": "infAP", "ndcg": "ndcg",
    "11pt_avg": "11pt_avg", "num_ret": "num_ret", "num_rel": "num_rel", "num_rel_ret": "num_rel_ret",
    **{f"precision@{k}": f"P_{k}" for k in CUTOFFS},
    **{f"recall@{k}": f"recall_{k}" for k in CUTOFFS},
    **{f"map@{k}": f"map_cut_{k}" for k in CUTOFFS},
    **{f"ndcg@{k}": f"ndcg_cut_{k}" for k in CUTOFFS},
    **{f"iprec_at_recall({i / 10})": f"iprec_at_recall_{i / 10:.2f}" for i in range(11)},
}  # fmt: skip


def lines(path: Path) -> Iterator[list[str]]:
    with gzip.open(path, "rt") if path.suffix == ".gz" else open(path) as file:
        for line in file:
            if line.strip():
                yield line.split()


def read(path: Path, item: int, value: int) -> dict[str, dict[str, float]]:
    table: dict[str, dict[str, float]] = {}
    for fields in lines(path):
        table.setdefault(fields[0], {})[fields[item]] = float(fields[value])
    return table


@pytest.mark.parametrize("name", ["chorus", "esci"])
def test_real_search_sets(name: str) -> None:
    expected = pd.read_parquet(FOLDER / "golden" / f"{name}.expected_pytrec_eval.parquet")
    truth = read(FOLDER / "golden" / f"{name}.qrels.trec.gz", 2, 3)
    run = read(FOLDER / "golden" / f"{name}.run_minilm_top100.trec.gz", 2, 4)
    column = next(c for c in expected.columns if not pd.api.types.is_float_dtype(expected[c]))
    expected = expected.set_index(expected[column].astype(str))
    wanted = {ours: theirs for ours, theirs in NAMES.items() if theirs in expected.columns}
    assert len(wanted) > 30
    ev = fr.evaluate(run, truth, list(wanted))
    rows = expected.loc[list(map(str, ev.query_ids)), list(wanted.values())].to_numpy(float)
    np.testing.assert_allclose(ev.values, rows, rtol=0, atol=1e-12)


# What ranx calls them: (ours, policies, how many times ours).  Its bpref is not trec_eval's; its rbp adds up grades.
OF_RANX = {
    **{name: (name, {}, 1.0) for name in ("hits@10", "hit_rate@10", "precision@10", "recall@10", "recall@100", "f1@10",
                                          "r-precision", "mrr@10", "map@100", "dcg@10", "ndcg@10", "ndcg@100")},
    "dcg_burges@10": ("dcg@10", {"gain": "exponential"}, 1.0),
    "ndcg_burges@10": ("ndcg@10", {"gain": "exponential"}, 1.0),
    "rbp.95": ("graded_rbp(p=0.95, max_gain=3)", {}, 3.0),
    "rbp.80": ("graded_rbp(p=0.8, max_gain=3)", {}, 3.0),
}  # fmt: skip


@pytest.mark.parametrize("name", ["chorus", "esci"])
def test_ranx_on_real_search_sets(name: str) -> None:
    expected = pd.read_parquet(FOLDER / "golden" / f"{name}.expected_ranx.parquet").set_index("qid")
    assert set(expected.columns) == {*OF_RANX, "bpref"}
    run: dict[str, list[str]] = {}
    for fields in lines(FOLDER / "golden" / f"{name}.run_minilm_top100.trec.gz"):
        run.setdefault(fields[0], []).append(fields[2])  # in the order of the file, which has no ties
    truth = FOLDER / "golden" / f"{name}.qrels.trec.gz"
    for theirs, (ours, policies, times) in OF_RANX.items():
        got = fr.evaluate(run, truth, [ours], "ranx", **policies).per_query[ours] * times
        assert len(got) == len(expected)
        np.testing.assert_allclose(got, expected.loc[got.index, theirs], rtol=0, atol=1e-12, err_msg=theirs)


def test_files_of_ranx() -> None:
    folder, metrics = FOLDER / "ranx", ["ndcg", "map", "dcg"]
    expected = fr.evaluate(
        {"q1": ["d3", "d2", "d1"], "q2": ["d2", "d1"]}, {"q1": {"d1": 1, "d2": 2, "d3": 3}, "q2": {"d1": 1, "d2": 2}},
        metrics,
    ).values  # fmt: skip
    assert expected[0, 2] == pytest.approx(3 + 2 / np.log2(3) + 1 / 2)
    for run in ("json", "trec", "parquet"):
        for truth in ("json", "trec", "parquet"):
            ev = fr.evaluate(folder / f"run.{run}", folder / f"qrels.{truth}", metrics)
            np.testing.assert_array_equal(ev.values, expected)
    frames = (pd.read_parquet(folder / f"{what}.parquet") for what in ("run", "qrels"))
    np.testing.assert_array_equal(fr.evaluate(*frames, metrics).values, expected)
    large = fr.Truth(folder / "notebook_qrels.trec.gz")
    assert len(large.to_frame()) == sum(1 for _ in lines(folder / "notebook_qrels.trec.gz"))


# What trec_eval 10 prints, under its names: it rounds recall levels as its version 10 does.
PRINTED = {
    **{ours: theirs for ours, theirs in NAMES.items() if not ours.startswith(("iprec", "11pt"))},
    **{f"iprec_at_recall({i / 10}, version=10)": f"iprec_at_recall_{i / 10:.2f}" for i in range(11)},
    "11pt_avg(version=10)": "11pt_avg",
    "gmap": "gm_map",
    "precision": "set_P",
    "recall": "set_recall",
    "f1": "set_F",
    **{f"hit_rate@{k}": f"success_{k}" for k in (1, 5, 10)},
    **{f"unjudged@{k}": f"unj_{k}" for k in (5, 10, 20)},
}
# recorded output: (run, qrels, longest list, policies, values that must be compared)
COMMANDS = {
    "out.test.aq": ("results.test", "qrels.test", None, {"missing": "skip"}, 250),
    "out.test.a": ("results.test", "qrels.test", None, {"missing": "skip"}, 65),
    "out.test.aqc": ("results.trunc", "qrels.test", None, {}, 250),
    "out.test.aqcM": ("results.trunc", "qrels.test", 100, {}, 250),
    "out.test.aql": ("results.test", "qrels.rel_level", None, {"missing": "skip", "relevance_level": 2}, 100),
}


@pytest.mark.parametrize("output", COMMANDS)
def test_trec_eval_prints_the_same(output: str) -> None:
    """``trec_eval -q -m all_trec`` and its options -c, -M and -l, to the four digits that it prints."""
    results, qrels, longest, policies, enough = COMMANDS[output]
    folder = FOLDER / "trec_eval"
    run, truth = read(folder / results, 2, 4), read(folder / qrels, 2, 3)
    if longest is not None:
        run = {
            q: dict(sorted(items.items(), key=lambda pair: (-pair[1], pair[0]))[:longest])
            for q, items in run.items()
        }
    ev = fr.evaluate(run, truth, list(PRINTED), **policies)
    names = {theirs: ours for ours, theirs in PRINTED.items()}
    if (
        "rel_level" in qrels
    ):  # a grade of -1 is "pooled, not judged" to trec_eval, a judgement to us and ir_measures
        names = {theirs: ours for theirs, ours in names.items() if not theirs.startswith("unj")}
    compare(ev, folder / output, names, enough)


# recorded output: (run, qrels, values that must be compared); the files are read by path, comments and all
FILES = {
    "out.test": ("results.test", "qrels.test", 26),
    "out.test.a": ("results.test", "qrels.test.with-comments", 65),
    "out.comment.test": ("results.comment.test.gz", "qrels.comment.test.gz", 26),
}


@pytest.mark.parametrize("output", FILES)
def test_trec_eval_reads_the_same(output: str) -> None:
    """What it prints by default, and of judgements with comments."""
    results, qrels, enough = FILES[output]
    folder = FOLDER / "trec_eval"
    ev = fr.evaluate(folder / results, folder / qrels, list(PRINTED), missing="skip")
    compare(ev, folder / output, {theirs: ours for ours, theirs in PRINTED.items()}, enough)


def test_judgements_with_comments_are_those_without() -> None:
    folder = FOLDER / "trec_eval"
    plain, commented = (read_truth(folder / name) for name in ("qrels.123.gz", "qrels.comments.123.gz"))
    ids = ["query", "item"]
    assert commented["item"].str.contains("#").any()  # no comment: part of the id
    commented["item"] = commented["item"].str.partition("#")[0]
    pd.testing.assert_frame_equal(
        *(frame.sort_values(ids).reset_index(drop=True) for frame in (plain, commented))
    )


def test_scores_of_topics_by_their_means_and_deviations() -> None:
    """``-Z zscores_file -q``: how many deviations each value is from the mean that other systems have on its topic."""
    folder = FOLDER / "trec_eval"
    ev = fr.evaluate(folder / "results.test", folder / "qrels.test", list(PRINTED), missing="skip")
    table, ours, checked = ev.per_query, {theirs: mine for mine, theirs in PRINTED.items()}, 0
    printed = {(fields[0], fields[1]): fields[2] for fields in lines(folder / "out.test.aqZ")}
    for query, measure, mean, deviation in lines(folder / "zscores_file"):
        score = printed.get((f"Z{measure}", query))
        if measure not in ours or score is None or float(deviation) == 0:
            continue
        got = (table.loc[query, ours[measure]] - float(mean)) / float(deviation)
        slack = 5.1e-5 + 1.1e-4 / float(deviation) * (1 + abs(got))  # the file has four digits
        assert abs(got - float(score)) <= slack, (measure, query, got, score)
        checked += 1
    assert checked >= 150, checked


def test_parameters_of_measures() -> None:
    """``-m ndcg.1=3,2=9,4=4.5 -m iprec_at_recall.10,.20 -m success.2,5,20 ...``"""
    folder = FOLDER / "trec_eval"
    run, truth = read(folder / "results.test", 2, 4), read(folder / "qrels.test", 2, 3)
    names = [
        *("P_3", "P_5", "P_7", "recall_20", "recall_2000", "ndcg_cut_10", "ndcg_cut_20", "ndcg_cut_23"),
        *("success_2", "success_5", "success_20"),
    ]
    levels = {
        f"iprec_at_recall({x}, version=10)": f"iprec_at_recall_{x:.2f}" for x in (0.1, 0.2, 0.25, 0.5, 0.75)
    }
    ev = fr.evaluate(run, truth, [*names, *levels], missing="skip")
    ours = {**{name: name for name in names}, **{theirs: mine for mine, theirs in levels.items()}}
    compare(ev, folder / "out.test.meas_params", ours, 60)
    graded = fr.evaluate(run, truth, ["ndcg"], missing="skip", gain={1: 3, 2: 9, 4: 4.5})
    compare(graded, folder / "out.test.meas_params", {"ndcg_1=3,2=9,4=4.5": "ndcg"}, 4)


def compare(ev: fr.evaluation.Evaluation, path: Path, ours: dict[str, str], enough: int) -> None:
    table, checked = ev.per_query, 0
    for measure, query, value in lines(path):
        if measure not in ours:
            continue
        got = table.loc[query, ours[measure]] if query != "all" else ev[ours[measure]]
        if query == "all" and measure.startswith("num_"):  # trec_eval sums these
            got = table[ours[measure]].sum()
        elif query != "all" and measure == "gm_map":  # and prints the logarithm of this for a query
            got = np.log(got)
        assert abs(got - float(value)) <= 5.1e-5, (measure, query)
        checked += 1
    assert checked >= enough, checked


# Small cases from the tests of pytrec_eval, ranx and ir_measures.
VECTORS = {
    "ndcg": "ndcg", "ap": "map", "rr": "mrr", "bpref": "bpref", "ndcg_exp": "ndcg", "err": "err(max_gain=4)",
    "p": "precision",
}  # fmt: skip


def vector_name(written: str) -> tuple[str, dict[str, str]] | None:
    base, _, cutoff = written.partition("@")
    if written.startswith("compat p="):
        return f"compatibility(p={written[9:]})", {}
    if written.startswith("rbp"):
        return f"rbp(p=0.{written[4:]})", {}
    if base not in VECTORS:
        return (written, {}) if written.startswith("ndcg_cut") else None
    name = VECTORS[base] + (f"@{cutoff}" if cutoff else "")
    return name, {"gain": "exponential"} if base == "ndcg_exp" else {}


def test_vectors_from_the_tests_of_other_libraries() -> None:
    cases, compared = json.loads((FOLDER / "vectors.json").read_text()), 0
    for case in cases:
        run, truth = case["run"], case["qrels"]
        run = read(FOLDER / run, 2, 4) if isinstance(run, str) else run
        truth = read(FOLDER / truth, 2, 3) if isinstance(truth, str) else truth
        digits = next((int(n) for n in "45" if f"{n} decimals" in case["source"]), 9)
        for query, values in case["expected"].items():
            for written, value in values.items():
                found = vector_name(written)
                if found is None:
                    assert written.startswith("sdcg")  # another discount, not one of ours
                    continue
                got = fr.evaluate(run, truth, [found[0]], **found[1]).per_query.loc[query].iloc[0]
                assert got == pytest.approx(value, abs=0.51 * 10.0**-digits), (case["source"], query, written)
                compared += 1
    assert compared >= 40, compared
