"""Measuring on a card: the answers of the CPU.  ``pytest -m gpu`` runs them all."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import fastrec as fr
from fastrec.ranking.result import TopK

pytestmark = pytest.mark.gpu
METRICS = ["ndcg@10", "map", "mrr", "recall@20,100", "precision@10", "hit_rate@5", "err(max_gain=4)@10", "rbp(p=0.8)",
           "bpref", "auc", "11pt_avg", "compatibility"]  # fmt: skip


def log(queries: int, length: int, judged: int) -> tuple[np.ndarray, np.ndarray, fr.Truth]:
    rng = np.random.default_rng(queries + length)
    pool = 4 * length
    ids = np.argsort(rng.random((queries, pool)), axis=1)[:, :length]
    scores = -np.sort(-rng.integers(0, length, ids.shape), axis=1).astype(np.float32)
    truth = fr.Truth(
        {
            q: dict(
                zip(rng.choice(pool, judged, replace=False).tolist(), rng.integers(0, 4, judged).tolist())
            )
            for q in range(queries)
        }
    )
    return ids, scores, truth


@pytest.mark.parametrize("length", [1, 31, 100, 1000, 6000])
@pytest.mark.parametrize("convention", ["trec", "ranx", "recbole", "lenskit"])
def test_evaluate(cupy: Any, length: int, convention: str) -> None:
    ids, scores, truth = log(max(4, 40_000 // length), length, min(20, 4 * length))
    expected = fr.evaluate(TopK(ids, scores), truth, METRICS, convention)
    there = truth.to("cuda")
    for dtype in (np.int64, np.int32):
        got = fr.evaluate(
            TopK(cupy.asarray(ids.astype(dtype)), cupy.asarray(scores)), there, METRICS, convention
        )
        assert got.counts == expected.counts
        np.testing.assert_allclose(got.values.get(), expected.values, rtol=1e-12)
        np.testing.assert_allclose(got.mean, expected.mean, rtol=1e-12)


def test_evaluate_averages_ties(cupy: Any) -> None:
    ids, scores, truth = log(300, 100, 20)
    expected = fr.evaluate(TopK(ids, scores), truth, ["ndcg@10", "map", "recall@20"], "sklearn")
    got = fr.evaluate(
        TopK(cupy.asarray(ids), cupy.asarray(scores)),
        truth.to("cuda"),
        ["ndcg@10", "map", "recall@20"],
        "sklearn",
    )
    np.testing.assert_allclose(got.values.get(), expected.values, rtol=1e-12)


def test_metrics_by_subtopic(cupy: Any) -> None:
    ids, scores, _ = log(2000, 60, 5)
    rng = np.random.default_rng(5)
    truth = fr.Truth(
        {
            q: {s: dict.fromkeys(rng.choice(240, 4, replace=False).tolist(), 1) for s in range(6)}
            for q in range(2000)
        }
    )
    metrics = ["alpha_ndcg@10", "alpha_dcg", "err_ia@20", "nerr_ia", "nrbp", "nnrbp", "map_ia", "precision_ia@5",
               "subtopic_recall@10", "ndcg@10"]  # fmt: skip
    expected = fr.evaluate(TopK(ids, scores), truth, metrics)
    got = fr.evaluate(TopK(cupy.asarray(ids), cupy.asarray(scores)), truth.to("cuda"), metrics)
    np.testing.assert_allclose(got.values.get(), expected.values, rtol=1e-12)


def test_catalogues(cupy: Any) -> None:
    from scipy import sparse

    rng = np.random.default_rng(6)
    ids = np.argsort(rng.random((500, 300)), axis=1)[:, :20]
    ids[rng.random(ids.shape) < 0.1] = -1
    seen, liked = (sparse.csr_array((rng.random((500, 300)) < 0.05).astype(float)) for _ in range(2))
    known = {"history": seen, "truth": liked, "vectors": rng.standard_normal((300, 8)), "baseline": np.arange(20),
             "categories": sparse.csr_array((rng.random((300, 5)) < 0.4).astype(float)),
             "item_groups": np.arange(300) % 3, "n_items": 300, "undefined": "nan"}  # fmt: skip
    from fastrec.evaluation.catalog_metrics import METRICS as ALL

    metrics = [*ALL, *(f"{name}@5" for name in ALL)]
    expected = fr.evaluate_catalog(ids, metrics=metrics, **known)
    got = fr.evaluate_catalog(cupy.asarray(ids), metrics=metrics, **known)
    np.testing.assert_allclose(list(got.values), list(expected.values), rtol=1e-12)
    np.testing.assert_allclose(got.per_list, expected.per_list, rtol=1e-12, atol=1e-15)


def test_batches(cupy: Any) -> None:
    """Accumulators of lists, catalogues and clicks, filled on streams of their own, pickled and merged."""
    rng = np.random.default_rng(12)
    ids = np.argsort(rng.random((300, 200)), axis=1)[:, :20]
    judged = [rng.choice(200, 5, replace=False).tolist() for _ in range(300)]
    vectors = rng.standard_normal((200, 8))
    catalogue = ["coverage", "gini", "ild", "personalization", "entropy@5", "novelty"]
    known = {"n_items": 200, "vectors": vectors, "popularity": rng.integers(0, 90, 200), "n_users": 90}
    totals = [fr.evaluation.CatalogAccumulator(metrics=catalogue, **known) for _ in range(2)]
    ranked = fr.evaluation.Accumulator(METRICS)
    for number, rows in enumerate((slice(0, 100), slice(100, 130), slice(130, 300))):
        with cupy.cuda.Stream(non_blocking=True):
            there = cupy.asarray(ids[rows])
            totals[number // 2].update(there)
            ranked.update(there, fr.Truth(judged[rows]).to("cuda"))
            there.fill(0)
    got = totals[0].merge(pickle.loads(pickle.dumps(totals[1]))).result()
    expected = fr.evaluate_catalog(ids, metrics=catalogue, **known)
    np.testing.assert_allclose(list(got.values), list(expected.values), rtol=1e-12)
    np.testing.assert_allclose(got.per_list, expected.per_list, rtol=1e-12, atol=1e-15)
    lists = fr.evaluate(ids, fr.Truth(judged), METRICS)
    np.testing.assert_allclose(ranked.result().per_query, lists.per_query, rtol=1e-12)
    p, users = rng.random(20_000, np.float32), rng.integers(0, 300, 20_000)
    columns, metrics = (
        ((rng.random(20_000) < p).astype(np.int64), p, users, rng.random(20_000)),
        ["auc", "gauc", "ece"],
    )
    total = fr.evaluation.ClickAccumulator(metrics)
    for rows in (slice(0, 9000), slice(9000, 20_000)):
        with cupy.cuda.Stream(non_blocking=True):
            batch = [cupy.asarray(column[rows]) for column in columns]
            total.update(*batch)
            for column in batch:
                column.fill(0)
    clicks = fr.evaluate_clicks(*columns, metrics=metrics)
    np.testing.assert_allclose(list(total.result().values), list(clicks.values), rtol=1e-12)


def test_a_top_k_of_an_index_on_the_card(cupy: Any) -> None:
    rng = np.random.default_rng(0)
    items, queries = (rng.standard_normal((n, 32)).astype(np.float32) for n in (3000, 200))
    truth = fr.Truth([rng.choice(3000, 10, replace=False) for _ in range(200)])
    expected = fr.evaluate(fr.topk(queries, items, 50), truth, METRICS)
    got = fr.evaluate(fr.topk(cupy.asarray(queries), cupy.asarray(items), 50), truth.to("cuda"), METRICS)
    np.testing.assert_allclose(got.mean, expected.mean, rtol=1e-12)


def test_torch_tensors(cupy: Any, torch: Any) -> None:
    ids, _, truth = log(200, 50, 10)
    expected = fr.evaluate(ids, truth, METRICS)
    with torch.cuda.stream(torch.cuda.Stream()):
        got = fr.evaluate(torch.as_tensor(ids).cuda(), truth.to("cuda"), METRICS)
    np.testing.assert_allclose(got.mean, expected.mean, rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 1000, 3_000_000])
def test_evaluate_clicks(cupy: Any, dtype: Any, n: int) -> None:
    rng = np.random.default_rng(n)
    p = rng.random(n).astype(dtype)
    columns = rng.random(n) < p, p, rng.integers(0, max(n // 50, 1), n)
    metrics = ["auc", "gauc", "ap", "ks", "best_f1", "logloss", "ne", "pcoc", "brier", "ece", "mce", "pauc", "lift",
               "ace", "field_ece", "ece@500", "f1", "mcc", "r2", "xauc"]  # fmt: skip
    expected = fr.evaluate_clicks(*columns, metrics=metrics, undefined="nan")
    got = fr.evaluate_clicks(*map(cupy.asarray, columns), metrics=metrics, undefined="nan")
    assert got.counts == expected.counts
    np.testing.assert_allclose(list(got.values), list(expected.values), rtol=1e-12)
    assert got["auc"] == expected["auc"] or n == 1
    columns = *columns, rng.random(n)
    expected = fr.evaluate_clicks(*columns, metrics=metrics, undefined="nan")
    got = fr.evaluate_clicks(*map(cupy.asarray, columns), metrics=metrics, undefined="nan")
    np.testing.assert_allclose(list(got.values), list(expected.values), rtol=1e-12)


def test_targets_that_are_not_0_and_1(cupy: Any) -> None:
    rng = np.random.default_rng(3)
    p, groups, w = rng.random(200_000, np.float32), rng.integers(0, 900, 200_000), rng.random(200_000)
    for y, metrics in (
        (rng.random(200_000), ["logloss", "ne", "ece", "ece@999", "field_ece"]),
        (np.round(rng.standard_normal(200_000), 2), ["mse", "mae", "r2", "xauc"]),
    ):
        for weights in (None, w):
            expected = fr.evaluate_clicks(y, p, groups, weights, metrics=metrics)
            there = [None if a is None else cupy.asarray(a) for a in (y, p, groups, weights)]
            got = fr.evaluate_clicks(*there, metrics=metrics)
            np.testing.assert_allclose(list(got.values), list(expected.values), rtol=1e-11)


def test_replicates(cupy: Any) -> None:
    from fastrec.evaluation.resample import bootstrap_sums, sign_flip_sums

    values = np.random.default_rng(0).standard_normal((5000, 8))
    for operation in (bootstrap_sums, sign_flip_sums):
        expected = operation(values, 300, 7)
        np.testing.assert_array_equal(operation(cupy.asarray(values), 300, 7).get(), expected)


def test_a_metric_of_ones_own(cupy: Any) -> None:
    pytest.importorskip("numba.cuda", reason="needs numba-cuda", exc_type=ImportError)

    @fr.metric("on_card_discounted@k")
    def discounted(gains, ideal, k):
        if len(ideal) > 9:
            raise ValueError("too many judgements")
        total = 0.0
        for i in range(min(k, len(gains))):
            total += gains[i] / (i + 1)
        return total

    rng = np.random.default_rng(4)
    ids = np.stack([rng.choice(300, 40, replace=False) for _ in range(3000)])
    truth = fr.Truth(
        {q: {int(i): int(g) for i, g in zip(rng.choice(300, 9, replace=False), rng.integers(0, 4, 9))}
         for q in range(3000)}
    )  # fmt: skip
    metrics = ["ndcg@10", "on_card_discounted@10", "on_card_discounted"]
    got = fr.evaluate(cupy.asarray(ids), truth.to("cuda"), metrics)
    expected = fr.evaluate(ids, truth, metrics)
    np.testing.assert_allclose(got.per_query, expected.per_query, rtol=1e-12)
    more = fr.Truth({q: list(range(10 if q == 77 else 3)) for q in range(3000)})
    with pytest.raises(ValueError, match="too many judgements"):
        fr.evaluate(cupy.asarray(ids), more.to("cuda"), metrics)
