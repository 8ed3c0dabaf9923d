"""Cases of ``fastrec bench --device cuda`` for what is measured: lists, clicks, replicates; see bench/results/gpu.md.

Large inputs are a block that is made and checked on the CPU, repeated on the card.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import fastrec as fr
from fastrec._core import cuda
from fastrec.benchmarks.card import Card, Case, Contender, card_case
from fastrec.benchmarks.harness import OURS, Skip, Verdict
from fastrec.evaluation.rank_metrics import rank_metrics
from fastrec.evaluation.resample import bootstrap_sums

METRICS = ["ndcg@10", "ndcg@100", "map", "mrr", "recall@10", "recall@100", "precision@10", "hit_rate@10"]


def _lists(rng: np.random.Generator, queries: int) -> tuple[np.ndarray, np.ndarray]:
    """Lists of 100, and 10 judged items each, of which two or so are listed."""
    pool = np.argsort(rng.random((queries, 400)), axis=1).astype(np.int32)
    return np.ascontiguousarray(pool[:, :100]), np.ascontiguousarray(pool[:, 60:400:34])


def _close(got: Any, expected: Any, tolerance: float) -> Verdict:
    same = np.allclose(got, expected, rtol=tolerance, atol=0)
    return Verdict(bool(same), f"values to {tolerance:g}" if same else "differs")


@card_case("measure/lists-8-metrics", "eight metrics of lists of 100, 10 judgements a query")
def lists(card: Card) -> Case:
    xp = card.xp
    block, times = card.size((20, 2), (10_000, 100), (10_000, 1000))
    ids, judged = _lists(card.rng(21), block)
    expected = fr.evaluate(ids, judged, METRICS)
    run, truth = xp.tile(xp.asarray(ids), (times, 1)), fr.Truth(xp.tile(xp.asarray(judged), (times, 1)))
    arguments = {
        "ids": run.reshape(-1), "width": 100, "truth_ptr": truth._ptr, "truth_ids": truth._ids,
        "longest_truth": truth._longest, "metrics": METRICS,
    }  # fmt: skip

    def close(values: Any) -> Verdict:
        return _close(values[:block].get(), expected.values, 1e-12)

    contenders = [
        Contender(
            OURS, lambda: fr.evaluate(run, truth, METRICS), lambda evaluation: close(evaluation.values)
        ),
        Contender(f"{OURS}, the kernel", lambda: rank_metrics(**arguments), lambda both: close(both[0])),
    ]
    queries = block * times
    shape = f"{queries:,} x 100"
    return Case(shape, contenders, count=queries, unit="queries", bytes=588.0 * queries, goal="10 M: 100 ms")


@card_case("measure/users-metric", "a metric of one's own beside NDCG, of lists of 100")
def users_metric(card: Card) -> Case:
    try:
        cuda.require_numba()
    except (ImportError, RuntimeError) as why:
        raise Skip(str(why)) from None
    xp, k = card.xp, 10

    @fr.metric("bench_discounted@k")
    def discounted(gains, ideal, k):
        total = 0.0
        for i in range(min(k, len(gains))):
            total += gains[i] / (i + 1)
        return total

    block, times = card.size((20, 2), (10_000, 100), (10_000, 1000))
    ids, judged = _lists(card.rng(21), block)
    run, truth = xp.tile(xp.asarray(ids), (times, 1)), fr.Truth(xp.tile(xp.asarray(judged), (times, 1)))
    contenders = []
    for name, metrics in (
        (OURS, [f"ndcg@{k}", f"bench_discounted@{k}"]),
        (f"{OURS}, without it", [f"ndcg@{k}"]),
    ):
        expected = fr.evaluate(ids, judged, metrics)
        contenders.append(
            Contender(
                name,
                lambda metrics=metrics: fr.evaluate(run, truth, metrics),  # type: ignore[misc]
                lambda got, expected=expected: _close(got.values[:block].get(), expected.values, 1e-12),  # type: ignore[misc]
            )
        )
    queries = block * times
    return Case(
        f"{queries:,} x 100", contenders, count=queries, unit="queries", goal="10 M: 12 ms more than without"
    )


@card_case("measure/catalogue", "coverage, concentration, novelty and personalisation of lists of 20")
def catalogue(card: Card) -> Case:
    return _catalogue(card, ["coverage", "gini", "entropy", "novelty", "personalization"], "1 M: 20 ms")


@card_case("measure/diversity", "the same lists' mean distance of their items, d = 64")
def diversity(card: Card) -> Case:
    return _catalogue(card, ["ild"], "1 M: 20 ms")


def _catalogue(card: Card, metrics: list[str], goal: str) -> Case:
    lists, items, k = card.size((60, 400, 20), (100_000, 10_000, 20), (1_000_000, 100_000, 20))
    rng = card.rng(24)
    steps = rng.integers(1, items // k, (lists, k)).cumsum(axis=1)  # so that no list repeats an item
    ids = ((rng.integers(0, items, (lists, 1)) + steps) % items).astype(np.int32)
    known = {"n_items": items, "popularity": rng.integers(0, lists, items), "n_users": lists}
    if "ild" in metrics:
        known["vectors"] = rng.standard_normal((items, 64))
    expected = fr.evaluate_catalog(ids, metrics=metrics, **known)
    there = card.xp.asarray(ids)
    ours = Contender(
        OURS,
        lambda: fr.evaluate_catalog(there, metrics=metrics, **known),
        lambda got: _close(list(got.values), list(expected.values), 1e-12),
    )
    return Case(
        f"{lists:,} x {k} of {items:,}", [ours], count=lists, unit="lists", bytes=4.0 * ids.size, goal=goal
    )


@card_case("measure/auc", "AUC and log-loss of float32 probabilities")
def auc(card: Card) -> Case:
    return _clicks(card, ["auc", "logloss"], False, "100 M: 200 ms")


@card_case("measure/gauc", "the same, and the AUC of every user, 50 rows each")
def gauc(card: Card) -> Case:
    return _clicks(card, ["auc", "logloss", "gauc", "ece"], True, "100 M: 45 ms")


@card_case("measure/weighted-auc", "AUC and log-loss of rows that have weights")
def weighted_auc(card: Card) -> Case:
    return _clicks(card, ["auc", "logloss"], False, "100 M: 45 ms", weighted=True)


@card_case("measure/weighted-gauc", "the same, and the AUC of every user, 50 rows each")
def weighted_gauc(card: Card) -> Case:
    return _clicks(card, ["auc", "logloss", "gauc"], True, "100 M: 85 ms", weighted=True)


def _clicks(card: Card, metrics: list[str], grouped: bool, goal: str, *, weighted: bool = False) -> Case:
    xp = card.xp
    block, times = card.size((1000, 2), (1_000_000, 10), (1_000_000, 100))
    rng = card.rng(22)
    p = rng.random(block, np.float32)
    columns: dict[str, Any] = {"y_true": (rng.random(block) < p).astype(np.uint8), "y_prob": p}
    if grouped:
        columns["groups"] = rng.integers(0, max(block // 50, 1), block).astype(np.int32)
    if weighted:
        columns["weights"] = rng.random(block)
    expected = fr.evaluate_clicks(**columns, metrics=metrics)
    # Repeating the rows changes no metric.
    there = {name: xp.tile(xp.asarray(column), times) for name, column in columns.items()}

    ours = Contender(
        OURS,
        lambda: fr.evaluate_clicks(**there, metrics=metrics),
        lambda got: _close(list(got.values), list(expected.values), 1e-10),
    )
    rows = block * times
    read = 5.0 + 4.0 * grouped + 8.0 * weighted
    return Case(f"{rows:,} rows", [ours], count=rows, unit="rows", bytes=read * rows, goal=goal)


@card_case("measure/bootstrap", "bootstrap sums of eight metrics")
def bootstrap(card: Card) -> Case:
    queries, replicates = card.size((300, 20), (20_000, 2000), (100_000, 10_000))
    values = card.rng(23).random((queries, 8))
    there = card.xp.asarray(values)
    expected = bootstrap_sums(values, 16, 5)

    def check(sums: Any) -> Verdict:
        same = np.array_equal(sums[:16].get(), expected)
        return Verdict(same, "the CPU's bits" if same else "differs")

    ours = Contender(OURS, lambda: bootstrap_sums(there, replicates, 5), check)
    shape = f"{replicates:,} x {queries:,} x 8"
    return Case(
        shape, [ours], count=8.0 * replicates * queries, unit="products", goal="10,000 x 100,000: 60 ms"
    )
