"""``fr.evaluate`` against the libraries whose definitions it takes."""

from __future__ import annotations

import numpy as np
import pytest

import fastrec as fr

CUTS = "1,2,3,5,10,20,1000"
TREC = {
    **{f"ndcg@{k}": f"ndcg_cut_{k}" for k in CUTS.split(",")},
    **{f"map@{k}": f"map_cut_{k}" for k in CUTS.split(",")},
    **{f"recall@{k}": f"recall_{k}" for k in CUTS.split(",")},
    **{f"precision@{k}": f"P_{k}" for k in CUTS.split(",")},
    **{f"hit_rate@{k}": f"success_{k}" for k in CUTS.split(",")},
    **{f"iprec_at_recall({x:.1f})": f"iprec_at_recall_{x:.2f}" for x in np.arange(0, 1.05, 0.1)},
    "map": "map",
    "mrr": "recip_rank",
    "ndcg": "ndcg",
    "r_precision": "Rprec",
    "bpref": "bpref",
    "infap": "infAP",
    "11pt_avg": "11pt_avg",
    "precision": "set_P",
    "recall": "set_recall",
    "f1": "set_F",
    "num_ret": "num_ret",
    "num_rel": "num_rel",
    "num_rel_ret": "num_rel_ret",
}


def random_collection(rng: np.random.Generator, queries: int, *, text: bool) -> tuple[dict, dict]:
    """Runs heavy with ties, some empty, and graded truths with negative grades."""
    name = (lambda i: f"d{i}") if text else str
    run, truth = {}, {}
    for q in range(queries):
        pool, length, judged = rng.integers(4, 60), rng.integers(1, 30), rng.integers(1, 25)
        items = rng.permutation(pool)[:length]
        levels = rng.choice([2, 5, 1000])
        scores = rng.integers(0, levels, len(items)) * rng.choice([1.0, -0.5, 1e-9, 1 + 1e-9])
        run[f"q{q}"] = {name(int(i)): float(s) for i, s in zip(items, scores)}
        if rng.random() < 0.03:
            del run[f"q{q}"]
        grades = rng.integers(-2 if rng.random() < 0.2 else 0, rng.choice([1, 2, 4]) + 1, judged)
        grades[0] = max(grades[0], 0)  # trec_eval crashes on a query whose grades are all negative
        if rng.random() < 0.03:
            grades[:] = 0
        truth[f"q{q}"] = {name(int(i)): int(g) for i, g in zip(rng.permutation(pool), grades)}
    return run, truth


@pytest.mark.parametrize("text", [True, False])
def test_equals_trec_eval_on_tie_heavy_queries(text: bool) -> None:
    pytrec_eval = pytest.importorskip("pytrec_eval", reason="trec_eval's measures are the reference")
    run, truth = random_collection(np.random.default_rng([7, text]), 6000, text=text)
    cuts = CUTS
    measures = {
        *(f"{m}.{cuts}" for m in ("ndcg_cut", "map_cut", "recall", "P", "success")),
        *("map", "recip_rank", "ndcg", "Rprec", "bpref", "infAP", "11pt_avg", "iprec_at_recall"),
        *("set_P", "set_recall", "set_F", "num_ret", "num_rel", "num_rel_ret"),
    }
    expected = pytrec_eval.RelevanceEvaluator(truth, measures).evaluate(run)
    as_ids = (
        (lambda d: d) if text else (lambda d: {q: {int(i): s for i, s in v.items()} for q, v in d.items()})
    )
    ev = fr.evaluate(as_ids(run), as_ids(truth), list(TREC))
    assert list(ev.query_ids) == list(truth)
    # a query that the run lacks is 0 (trec_eval -c), but for what the truth alone says
    only_truth = ["num_rel"]
    lacking = dict.fromkeys(TREC.values(), 0.0)
    want = np.array(
        [
            [
                sum(g > 0 for g in truth[q].values())
                if q not in run and m in only_truth
                else expected.get(q, lacking)[TREC[m]]
                for m in ev.metrics
            ]
            for q in ev.query_ids
        ]
    )
    assert ev.counts["missing"] == len(truth) - len(expected) > 100
    assert ev.counts["empty"] > 100
    assert ev.counts["tied"] > 10_000
    difference = np.abs(ev.values - want)
    worst = np.unravel_index(difference.argmax(), difference.shape)
    assert difference.max() <= 1e-12, (ev.metrics[worst[1]], ev.query_ids[worst[0]])


def test_geometric_map_equals_trec_eval() -> None:
    pytrec_eval = pytest.importorskip("pytrec_eval", reason="trec_eval's measures are the reference")
    run, truth = random_collection(np.random.default_rng(8), 300, text=True)
    run = {q: run.get(q, {}) for q in truth}
    expected = pytrec_eval.RelevanceEvaluator(truth, {"gm_map"}).evaluate(run)
    logs = [expected[q]["gm_map"] for q in truth]
    ev = fr.evaluate(run, truth, ["gmap"])
    np.testing.assert_allclose(np.log(ev.values[:, 0]), logs, rtol=0, atol=1e-12)
    assert ev["gmap"] == pytest.approx(np.exp(np.mean(logs)), rel=1e-12)


def test_equals_ir_measures() -> None:
    """RBP of cwl_eval is in the recorded vectors; here what ir_measures itself computes."""
    ir_measures = pytest.importorskip(
        "ir_measures", reason="ir_measures is the reference of compatibility and judged"
    )
    run, truth = random_collection(np.random.default_rng(9), 300, text=True)
    rng = np.random.default_rng(0)
    run = {  # distinct positive scores: its providers break ties each in their own way
        q: dict(zip(items, (rng.permutation(len(items)) + 1.0).tolist())) for q, items in run.items()
    }
    names = {
        "compatibility(p=0.95)": "Compat", "compatibility(p=0.8)": "Compat(p=0.8)", "judged@5": "Judged@5",
        "judged@10": "Judged@10", "judged@40": "Judged@40", "auc": "Accuracy", "auc@10": "Accuracy@10",
    }  # fmt: skip
    measures = {ours: ir_measures.parse_measure(theirs) for ours, theirs in names.items()}
    ev = fr.evaluate(run, truth, list(names)).per_query
    compared = dict.fromkeys(names, 0)
    for ours, measure in measures.items():
        provider = ir_measures.providers.registry[
            "compat" if "Compat" in str(measure) else "judged" if "Judged" in str(measure) else "accuracy"
        ]
        defined = {
            q: run[q] for q in run if not np.isnan(ev.loc[q, ours])
        }  # its accuracy divides by 0 on others
        for found in provider.iter_calc([measure], truth, defined):
            got = ev.loc[found.query_id, ours]
            assert got == pytest.approx(found.value, abs=1e-12), (ours, found.query_id)
            compared[ours] += 1
    assert min(compared.values()) > 150


def test_auc_of_a_list_equals_sklearn() -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn's roc_auc_score is the reference")
    rng = np.random.default_rng(6)
    for _ in range(60):
        n = int(rng.integers(2, 30))
        labels, scores = rng.integers(0, 2, n), rng.integers(0, 6, n).astype(float)
        if labels.min() == labels.max():
            continue
        run, truth = {"q": dict(enumerate(scores.tolist()))}, {"q": dict(enumerate(labels.tolist()))}
        got = fr.evaluate(run, truth, ["auc"])["auc"]
        assert got == pytest.approx(metrics.roc_auc_score(labels, scores), abs=1e-12)
    stats = pytest.importorskip("scipy.stats", reason="SciPy's tau is the reference of pairs in order")
    gains, order = rng.permutation(20).astype(float), rng.permutation(20)
    run = {"q": dict(zip(range(20), (-order).tolist()))}
    share = fr.evaluate(run, {"q": dict(enumerate(gains.tolist()))}, ["pair_accuracy"])["pair_accuracy"]
    assert 2 * share - 1 == pytest.approx(stats.kendalltau(gains, -order).statistic, abs=1e-12)


def test_sklearn_preset_equals_ndcg_score_with_ties_averaged() -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn's ndcg_score is the reference")
    rng = np.random.default_rng(3)
    queries, n = 300, 25
    gains = rng.integers(0, 4, (queries, n)).astype(float)
    scores = rng.integers(0, 6, (queries, n)).astype(float)
    run = {q: dict(enumerate(row)) for q, row in enumerate(scores.tolist())}
    truth = {q: dict(enumerate(row)) for q, row in enumerate(gains.tolist())}
    ev = fr.evaluate(run, truth, ["ndcg@1,5,10", "ndcg", "dcg@7"], convention="sklearn")
    for m, (name, k) in enumerate([("ndcg", 1), ("ndcg", 5), ("ndcg", 10), ("ndcg", None), ("dcg", 7)]):
        score = metrics.ndcg_score if name == "ndcg" else metrics.dcg_score
        want = [score(gains[q : q + 1], scores[q : q + 1], k=k) for q in range(queries)]
        np.testing.assert_allclose(ev.values[:, m], want, rtol=0, atol=1e-12)
