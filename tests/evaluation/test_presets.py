"""Presets against the libraries they are named after."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import fastrec as fr


def test_implicit(monkeypatch: pytest.MonkeyPatch) -> None:
    """``ranking_metrics_at_k`` of a model that recommends given lists."""
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    evaluation = pytest.importorskip("implicit.evaluation", reason="implicit is the reference of its preset")
    rng = np.random.default_rng(0)
    users, items, k = 200, 80, 10
    test = sp.random(users, items, 0.03, format="csr", random_state=2, dtype=np.float32)
    test.data[:] = 1
    lists = np.stack([rng.permutation(items)[:k] for _ in range(users)]).astype(np.int32)

    class Model:
        def recommend(self, ids: Any, items: Any, N: int = 10, **_: Any) -> Any:
            return lists[ids, :N], np.ones((len(ids), N), np.float32)

    empty = sp.csr_matrix((users, items), dtype=np.float32)
    expected = evaluation.ranking_metrics_at_k(Model(), empty, test, K=k, show_progress=False, num_threads=1)
    ev = fr.evaluate(lists, test, [f"precision@{k}", f"map@{k}", f"ndcg@{k}"], convention="implicit")
    assert ev.counts["empty"] > 0
    for name in ("precision", "map", "ndcg"):
        assert ev[f"{name}@{k}"] == pytest.approx(expected[name], abs=1e-12)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::numba.core.errors.NumbaTypeSafetyWarning")  # ranx, where it is compiled
def test_ranx() -> None:
    """Scores without ties: what ranx does with ties is not defined."""
    ranx = pytest.importorskip("ranx", reason="ranx is the reference of its preset")
    rng = np.random.default_rng(0)
    run, truth = {}, {}
    for q in range(100):
        scores = rng.permutation(1000)[:25]
        run[f"q{q}"] = {f"d{i}": float(s) for i, s in zip(rng.permutation(60), scores)}
        grades = [1, *rng.integers(0, 4, 11)]
        truth[f"q{q}"] = {f"d{i}": int(g) for i, g in zip(rng.permutation(60), grades)}
    names = {"precision@5": "precision@5", "map@10": "map@10", "ndcg@10": "ndcg@10", "mrr": "mrr", "dcg@10": "dcg@10",
             "f1@10": "f1@10", "r_precision": "r-precision"}  # fmt: skip
    expected = ranx.evaluate(ranx.Qrels(truth), ranx.Run(run), list(names.values()))
    ev = fr.evaluate(run, truth, list(names), convention="ranx")
    for ours, theirs in names.items():
        assert ev[ours] == pytest.approx(expected[theirs], abs=1e-12), ours
    levels = {ours: f"{theirs}-l2" for ours, theirs in names.items()}
    expected = ranx.evaluate(ranx.Qrels(truth), ranx.Run(run), list(levels.values()))
    ev = fr.evaluate(run, truth, list(names), convention="ranx", relevance_level=2)
    for ours, theirs in levels.items():
        assert ev[ours] == pytest.approx(expected[theirs], abs=1e-12), theirs


def worked(metric: str, convention: str) -> float:
    """A list of 4 with relevant items at ranks 1 and 3, of 3 relevant items."""
    return fr.evaluate([[1, 2, 3, 4]], [[1, 3, 9]], [metric], convention)[metric]


@pytest.mark.parametrize(
    ("convention", "metric", "value"),
    [
        ("recbole", "map@2", 1 / 2),  # over min(R, k)
        ("recbole", "recall@2", 1 / 3),
        ("recbole", "ndcg@2", 1 / (1 + 1 / np.log2(3))),
        ("rectools", "map@2", 1 / 3),  # over R
        ("rectools", "ndcg@4", 1.5 / (1 + 1 / np.log2(3) + 1 / 2 + 1 / np.log2(5))),  # over a full list of k
        ("lenskit", "recall@2", 1 / 2),  # over min(R, k)
        ("lenskit", "precision@10", 1 / 2),  # over the list's length
        (
            "lenskit",
            "ndcg@4",
            (1 + 1 / np.log2(3)) / (1 + 1 + 1 / np.log2(3)),
        ),  # ranks 1 and 2 weigh the same
        ("trec", "precision@10", 1 / 5),
    ],
)
def test_written_definitions(convention: str, metric: str, value: float) -> None:
    assert worked(metric, convention) == pytest.approx(value, abs=1e-15)


def test_queries_without_a_relevant_item() -> None:
    run, truth = [[1], [2]], {0: {1: 1}, 1: {2: 0}}
    means = {name: fr.evaluate(run, truth, ["recall@1"], name) for name in ("trec", "recbole", "lenskit")}
    assert {name: ev["recall@1"] for name, ev in means.items()} == {
        "trec": 0.5,
        "recbole": 1.0,
        "lenskit": 0.5,
    }
    assert [len(ev) for ev in means.values()] == [2, 1, 2]
