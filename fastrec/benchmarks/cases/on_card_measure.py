"""Cases of ``fastrec bench --device cuda`` for what is measured: lists, clicks, replicates; see bench/results/gpu.md.

Large inputs are a block that is made and checked on the CPU, repeated on the card.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import fastrec as fr
from fastrec.benchmarks.card import Card, Case, Contender, card_case
from fastrec.benchmarks.harness import OURS, Verdict
from fastrec.evaluation.rank_metrics import rank_metrics
from fastrec.evaluation.resample import bootstrap_sums

METRICS = ["ndcg@10", "ndcg@100", "map", "mrr", "recall@10", "recall@100", "precision@10", "hit_rate@10"]


@card_case("measure/lists-8-metrics", "eight metrics of lists of 100, 10 judgements a query")
def lists(card: Card) -> Case:
    xp = card.xp
    block, times = card.size((20, 2), (10_000, 100), (10_000, 1000))
    rng = card.rng(21)
    pool = np.argsort(rng.random((block, 400)), axis=1).astype(np.int32)
    ids, judged = np.ascontiguousarray(pool[:, :100]), np.ascontiguousarray(pool[:, 60:400:34])
    expected = fr.evaluate(ids, judged, METRICS)
    run, truth = xp.tile(xp.asarray(ids), (times, 1)), fr.Truth(xp.tile(xp.asarray(judged), (times, 1)))
    arguments = {
        "ids": run.reshape(-1), "width": 100, "truth_ptr": truth._ptr, "truth_ids": truth._ids,
        "longest_truth": truth._longest, "metrics": METRICS,
    }  # fmt: skip

    def close(values: Any) -> Verdict:
        same = np.allclose(values[:block].get(), expected.values, rtol=1e-12, atol=0)
        return Verdict(bool(same), "values to 1e-12" if same else "differs")

    contenders = [
        Contender(
            OURS, lambda: fr.evaluate(run, truth, METRICS), lambda evaluation: close(evaluation.values)
        ),
        Contender(f"{OURS}, the kernel", lambda: rank_metrics(**arguments), lambda both: close(both[0])),
    ]
    queries = block * times
    shape = f"{queries:,} x 100"
    return Case(shape, contenders, count=queries, unit="queries", bytes=588.0 * queries, goal="10 M: 100 ms")


@card_case("measure/auc", "AUC and log-loss of float32 probabilities")
def auc(card: Card) -> Case:
    return _clicks(card, ["auc", "logloss"], False, "100 M: 200 ms")


@card_case("measure/gauc", "the same, and the AUC of every user, 50 rows each")
def gauc(card: Card) -> Case:
    return _clicks(card, ["auc", "logloss", "gauc", "ece"], True, "")


def _clicks(card: Card, metrics: list[str], grouped: bool, goal: str) -> Case:
    xp = card.xp
    block, times = card.size((1000, 2), (1_000_000, 10), (1_000_000, 100))
    rng = card.rng(22)
    p = rng.random(block, np.float32)
    columns: dict[str, Any] = {"y_true": (rng.random(block) < p).astype(np.uint8), "y_prob": p}
    if grouped:
        columns["groups"] = rng.integers(0, max(block // 50, 1), block).astype(np.int32)
    expected = fr.evaluate_clicks(**columns, metrics=metrics)
    # Repeating the rows changes no metric.
    there = {name: xp.tile(xp.asarray(column), times) for name, column in columns.items()}

    def check(got: Any) -> Verdict:
        same = np.allclose(list(got.values), list(expected.values), rtol=1e-10, atol=0)
        return Verdict(bool(same), "values to 1e-10" if same else "differs")

    ours = Contender(OURS, lambda: fr.evaluate_clicks(**there, metrics=metrics), check)
    rows = block * times
    return Case(f"{rows:,} rows", [ours], count=rows, unit="rows", bytes=5.0 * rows, goal=goal)


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
    return Case(shape, [ours], count=8.0 * replicates * queries, unit="products")
