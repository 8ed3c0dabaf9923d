"""Metrics by subtopic: ndeval, cases by hand, and every form the judgements come in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import fastrec as fr

NDEVAL = {
    **{f"{ours}@{k}": f"{theirs}@{k}" for k in (2, 3, 5, 10, 20) for ours, theirs in (
        ("alpha_dcg", "alpha-DCG"), ("alpha_ndcg", "alpha-nDCG"), ("err_ia", "ERR-IA"), ("nerr_ia", "nERR-IA"),
        ("precision_ia", "P-IA"), ("subtopic_recall", "strec"))},
    "nrbp": "NRBP", "nnrbp": "nNRBP", "map_ia": "MAP-IA",
}  # fmt: skip


def collection(seed: int, queries: int) -> tuple[dict, list[tuple[str, str, str, int]]]:
    """Runs without ties (ndeval and its wrapper order them differently), and items of several subtopics."""
    rng = np.random.default_rng(seed)
    run, judged = {}, []
    for q in range(queries):
        pool, length, topics = int(rng.integers(3, 50)), int(rng.integers(1, 40)), int(rng.integers(1, 7))
        items = rng.permutation(pool)[:length]
        scores = rng.permutation(1000)[: len(items)]
        run[f"q{q:04}"] = {f"d{i}": float(s) for i, s in zip(items, scores)}
        for topic in range(1, topics + 1):
            chosen = rng.permutation(pool)[: rng.integers(1, 10)]
            judged += [
                (f"q{q:04}", str(topic), f"d{i}", int(g)) for i, g in zip(chosen, rng.integers(0, 3, 10))
            ]
    return run, judged


def nested(judged: list) -> dict:
    truth: dict = {}
    for query, topic, item, gain in judged:
        truth.setdefault(query, {}).setdefault(topic, {})[item] = gain
    return truth


@pytest.mark.parametrize(
    ("alpha", "beta", "level"), [(0.5, 0.5, 1), (0.25, 0.75, 1), (0.0, 0.9, 1), (1.0, 0.5, 2)]
)
def test_equals_ndeval(alpha: float, beta: float, level: int) -> None:
    pyndeval = pytest.importorskip("pyndeval", reason="ndeval is the reference of the metrics by subtopic")
    run, judged = collection(int(100 * alpha), 400)
    evaluator = pyndeval.RelevanceEvaluator(judged, list(NDEVAL.values()), level, alpha, beta)
    expected = evaluator.evaluate([(q, d, s) for q, entry in run.items() for d, s in entry.items()])
    given = {"nrbp": f"nrbp({alpha},{beta})", "nnrbp": f"nnrbp({alpha},{beta})"}
    names = {
        ours if theirs[0] in "Ps" or ours == "map_ia"
        else given.get(ours) or ours.replace("@", f"(alpha={alpha})@"): theirs
        for ours, theirs in NDEVAL.items()
    }  # fmt: skip
    ev = fr.evaluate(run, nested(judged), list(names), relevance_level=level)
    want = np.array([[expected[q][names[m]] for m in ev.metrics] for q in ev.query_ids])
    want = np.nan_to_num(want)  # ndeval divides 0 by 0 where nothing is relevant
    difference = np.abs(ev.values - want)
    worst = np.unravel_index(difference.argmax(), difference.shape)
    assert difference.max() <= 1e-12, (ev.metrics[worst[1]], ev.query_ids[worst[0]])
    assert want.max() > 0.99
    assert (want == 0).any()


TRUTH = {"q": {"x": {"a": 1, "b": 1}, "y": {"b": 2, "c": 1}, "z": {"d": 0}}}
RUN = {"q": ["a", "b", "n"]}


def test_by_hand() -> None:
    ev = fr.evaluate(
        RUN,
        TRUTH,
        [
            "alpha_ndcg",
            "alpha_dcg@1",
            "err_ia@1",
            "nrbp(0.5, 0.8)",
            "map_ia",
            "precision_ia@2",
            "subtopic_recall@1",
            "map",
        ],
    )
    log = np.log2
    gained = 1 + (0.5 + 1) / log(3)  # z has nothing relevant and does not count
    ideal = 2 + 0.5 / log(3) + 0.5 / log(4)  # b, then c before a: by text, descending
    expected = [
        gained / ideal, 1 / 2, 1 / 2, (1 + 0.8 * 1.5) * (1 - 0.4) / 2, ((1 + 1) / 2 + (1 / 2) / 2) / 2, 3 / 4, 1 / 2,
        2 / 3,
    ]  # fmt: skip
    np.testing.assert_allclose(ev.values[0], expected, rtol=1e-15)
    assert ev.convention["alpha_ndcg"].startswith("alpha_ndcg[alpha=0.5,")


def forms(folder: Path) -> Iterator[Any]:
    rows = [("q", topic, item, gain) for topic, items in TRUTH["q"].items() for item, gain in items.items()]
    frame = pd.DataFrame(rows, columns=["query", "subtopic", "item", "gain"])
    yield frame
    yield frame.sample(frac=1, random_state=3).rename(columns={"subtopic": "intent", "gain": "relevance"})
    yield fr.Truth(frame)
    yield fr.Truth(frame).take(np.array([0]))
    yield fr.Truth(frame).to_frame()
    yield fr.Truth(frame.rename(columns={"subtopic": "iteration"}), subtopics=True)
    yield {"q": {topic: [i for i in items if items[i]] for topic, items in TRUTH["q"].items()}}  # all gains 1
    frame.to_csv(folder / "truth.csv", index=False)
    frame.to_parquet(folder / "truth.parquet")
    frame.to_json(folder / "truth.jsonl", orient="records", lines=True)
    (folder / "truth.json").write_text(json.dumps(TRUTH))
    lines = [f"{q} {topic} {item} {gain}\n" for q, topic, item, gain in rows]
    (folder / "truth.qrels").write_text("# a comment\n\n  # another\n" + "".join(lines))
    for suffix in ("csv", "parquet", "jsonl", "json", "qrels"):
        yield folder / f"truth.{suffix}"
        yield fr.Truth(folder / f"truth.{suffix}", subtopics=True)


def test_every_form_of_the_judgements(tmp_path: Path) -> None:
    metrics = ["alpha_ndcg@3", "nrbp", "map_ia", "subtopic_recall@1", "map"]
    expected = fr.evaluate(RUN, TRUTH, metrics).values
    tried = 0
    for truth in forms(tmp_path):
        np.testing.assert_array_equal(fr.evaluate(RUN, truth, metrics).values, expected)
        tried += 1
    assert tried == 17
    pl = pytest.importorskip("polars", reason="polars frames are one of the inputs")
    frame = fr.Truth(TRUTH).to_frame()
    np.testing.assert_array_equal(fr.evaluate(RUN, pl.from_pandas(frame), metrics).values, expected)


def test_subtopics_may_be_left_out_or_asked_for() -> None:
    frame = fr.Truth(TRUTH).to_frame()
    assert fr.Truth(frame).has_subtopics
    plain = fr.Truth(frame.drop_duplicates("item"), subtopics=False)
    assert not plain.has_subtopics
    assert fr.Truth(frame).max_gain == 2.0  # the largest that a subtopic gives
    assert fr.Truth(frame).relevant.tolist() == [3]
    with pytest.raises(ValueError, match=r"item 'b' twice for query 'q'.*subtopics=True"):
        fr.Truth(frame, subtopics=False)
    with pytest.raises(ValueError, match="'alpha_ndcg' needs judgements by subtopic"):
        fr.evaluate(RUN, plain, ["alpha_ndcg"])
    with pytest.raises(ValueError, match="column named 'subtopic'"):
        fr.evaluate(RUN, frame.drop(columns="subtopic"), ["alpha_ndcg"])
    with pytest.raises(TypeError, match=r"\{subtopic: \{item: gain\}\}"):
        fr.evaluate(RUN, {"q": {"a": 1}}, ["alpha_ndcg"])
    with pytest.raises(TypeError, match=r"\{subtopic: \{item: gain\}\}"):
        fr.Truth({"q": {"x": {"a": 1}}, "p": {"a": 1}})
    with pytest.raises(ValueError, match="must name its subtopics"):
        fr.evaluate([[1]], [[1]], ["alpha_ndcg"])
    for ties in ("average", "optimistic", "pessimistic"):
        with pytest.raises(ValueError, match="is not defined for 'alpha_ndcg'"):
            fr.evaluate(RUN, TRUTH, ["alpha_ndcg"], ties=ties)


def test_repeats_within_a_subtopic() -> None:
    frame = fr.Truth(TRUTH).to_frame()
    twice = pd.concat([frame, frame.iloc[:1].assign(gain=3.0)])
    with pytest.raises(ValueError, match="item 'b' twice for subtopic 'x' of query 'q'"):
        fr.Truth(twice)
    assert fr.Truth(twice, duplicates="max").max_gain == 3.0
    assert fr.Truth(twice, duplicates="sum").max_gain == 4.0
    assert fr.Truth(twice, duplicates="first").max_gain == 2.0


def test_queries_without_a_relevant_subtopic() -> None:
    truth = {"q": TRUTH["q"], "none": {"x": {"a": 0}}, "empty": {}}
    ev = fr.evaluate(RUN | {"none": ["a"]}, truth, ["alpha_ndcg", "nnrbp", "map_ia"])
    assert ev.values[1:].tolist() == [[0.0] * 3] * 2
    assert ev.counts["empty"] == 2
    assert len(fr.evaluate(RUN, truth, ["nrbp"], empty="skip")) == 1
    assert fr.evaluate({}, {}, ["alpha_ndcg"])["alpha_ndcg"] == 0.0
