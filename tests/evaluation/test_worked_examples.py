"""Worked examples from textbooks, and from the documentation and tests of other libraries, to the digits they print."""

from __future__ import annotations

from typing import Any

import pytest

import fastrec as fr

GRADES = {"q": dict(zip("abcde", (10, 0, 0, 1, 5)))}
SCORES = {"q": dict(zip("abcde", (0.1, 0.2, 0.3, 4.0, 70.0)))}
OTHERS = {"q": dict(zip("abcde", (0.05, 1.1, 1.0, 0.5, 0.0)))}
LISTED, WIKIPEDIA = {"q": list("abcdef")}, {"q": dict(zip("abcdefgh", (3, 2, 3, 0, 1, 2, 3, 2)))}
SPARK = [[1, 6, 2, 7, 8, 3, 9, 10, 4, 5], [4, 1, 5, 6, 2, 7, 3, 8, 9, 10], [1, 2, 3, 4, 5]]
SPARK_TRUTH: list[list[int]] = [[1, 2, 3, 4, 5], [1, 2, 3], []]
RANX = {"q_1": {"d_12": 5, "d_25": 3}, "q_2": {"d_11": 6, "d_22": 1}}
RANX_RUN = {
    "q_1": dict(zip(("d_12", "d_23", "d_25", "d_36", "d_32", "d_35"), (0.9, 0.8, 0.7, 0.6, 0.5, 0.4))),
    "q_2": dict(zip(("d_12", "d_11", "d_25", "d_36", "d_22", "d_35"), (0.9, 0.8, 0.7, 0.6, 0.5, 0.4))),
}
THREE = {"q": {"a": 1.0, "b": 3.0, "c": 2.0}}

# (where it stands, run, truth, metric, policies, value, digits)
EXAMPLES: list[tuple[str, Any, Any, str, dict[str, Any], float, int]] = [
    ("scikit-learn, ndcg_score", SCORES, GRADES, "ndcg", {"convention": "sklearn"}, 0.6956, 3),
    ("scikit-learn, ndcg_score", OTHERS, GRADES, "ndcg", {"convention": "sklearn"}, 0.4936, 3),
    ("scikit-learn, ndcg_score", OTHERS, GRADES, "ndcg@4", {"convention": "sklearn"}, 0.3520, 3),
    ("scikit-learn, ndcg_score", {"q": dict(zip("abcde", (1, 0, 0, 0, 1)))}, GRADES, "ndcg@1",
     {"convention": "sklearn"}, 0.75, 12),
    ("Wikipedia, Discounted cumulative gain", LISTED, WIKIPEDIA, "dcg@6", {}, 6.861, 3),
    ("Wikipedia, Discounted cumulative gain", LISTED, WIKIPEDIA, "ndcg@6", {}, 0.785, 3),
    ("Wikipedia, reciprocal rank", [list("abc"), list("ab"), ["a"]], [["c"], ["b"], ["a"]], "mrr", {}, 11 / 18, 12),
    ("torchmetrics, RetrievalMAP", {"q": {"a": 0.2, "b": 0.3, "c": 0.5}}, {"q": ["a", "c"]}, "map", {}, 0.8333, 4),
    ("torchmetrics, RetrievalRPrecision", {"q": {"a": 0.2, "b": 0.3, "c": 0.5}}, {"q": ["a", "c"]}, "r_precision", {},
     0.5, 12),
    ("ranx, evaluate", RANX_RUN, RANX, "ndcg@5", {"convention": "ranx"}, 0.7861, 4),
    ("ranx, evaluate", RANX_RUN, RANX, "map@5", {"convention": "ranx"}, 0.6417, 4),
    ("ranx, evaluate", RANX_RUN, RANX, "mrr", {"convention": "ranx"}, 0.75, 12),
    ("Spark, RankingMetricsSuite", SPARK, SPARK_TRUTH, "map", {}, 0.355026, 5),
    ("Spark, RankingMetricsSuite", SPARK, SPARK_TRUTH, "precision@1", {}, 1 / 3, 12),
    ("Spark, RankingMetricsSuite", SPARK, SPARK_TRUTH, "precision@5", {}, 0.8 / 3, 12),
    ("Spark, RankingMetricsSuite", SPARK, SPARK_TRUTH, "precision@15", {}, 8 / 45, 12),
    ("Spark, RankingMetricsSuite", SPARK, SPARK_TRUTH, "ndcg@3", {}, 1 / 3, 12),
    ("Spark, RankingMetricsSuite", SPARK, SPARK_TRUTH, "ndcg@5", {}, 0.328788, 5),
    ("Spark, RankingMetricsSuite", SPARK, SPARK_TRUTH, "ndcg@10", {}, 0.487913, 5),
    ("Spark, RankingMetricsSuite", SPARK, SPARK_TRUTH, "recall@1", {}, 0.2 / 3, 12),
    ("Spark, RankingMetricsSuite", SPARK, SPARK_TRUTH, "recall@15", {}, 2 / 3, 12),
    ("LightGBM, where no item is relevant", SPARK, SPARK_TRUTH, "ndcg@3", {"empty": "one"}, 2 / 3, 12),
    ("Buckley and Voorhees 2004", {"q": ["r", "n", "s", "m"]}, {"q": {"r": 1, "s": 1, "n": 0, "m": 0}}, "bpref", {},
     0.75, 12),
    ("Chapelle et al. 2009", {"q": ["a", "b"]}, {"q": {"a": 1, "b": 2}}, "err(max_gain=2)", {},
     1 / 4 + 3 / 4 * 3 / 4 / 2, 12),
    ("TF-Ranking, OPAMetric", THREE, {"q": {"a": 0, "b": 0, "c": 1}}, "opa", {}, 0.5, 12),
    ("TF-Ranking, ARPMetric", THREE, {"q": {"a": 0, "b": 1, "c": 2}}, "arp", {}, 5 / 3, 12),
]  # fmt: skip


@pytest.mark.parametrize(("where", "run", "truth", "metric", "policies", "value", "digits"), EXAMPLES)
def test_worked_example(
    where: str, run: Any, truth: Any, metric: str, policies: dict[str, Any], value: float, digits: int
) -> None:
    got = fr.evaluate(run, truth, [metric], **policies)[metric]
    assert got == pytest.approx(value, abs=1.1 * 10.0**-digits), where


def test_worked_examples_of_clicks() -> None:
    """scikit-learn: roc_auc_score, average_precision_score, brier_score_loss, log_loss, matthews_corrcoef."""
    y, p = [0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]
    result = fr.evaluate_clicks(y, p, metrics=["auc", "ap"])
    assert (result["auc"], round(result["ap"], 2)) == (0.75, 0.83)
    assert fr.evaluate_clicks([0, 1, 1, 0], [0.1, 0.9, 0.8, 0.3], metrics="brier")["brier"] == pytest.approx(
        0.0375
    )
    assert fr.evaluate_clicks([1, 0, 0, 1], [0.9, 0.1, 0.2, 0.65], metrics="logloss")[
        "logloss"
    ] == pytest.approx(0.21616, abs=1e-5)
    assert fr.evaluate_clicks([1, 1, 1, 0], [1, 0, 1, 1], metrics="mcc")["mcc"] == pytest.approx(-1 / 3)
    # torchmetrics, binary_calibration_error
    of_two = fr.evaluate_clicks([0, 0, 1, 1, 1], [0.25, 0.25, 0.55, 0.75, 0.75], metrics=["ece@2", "mce@2"])
    assert of_two["ece@2"] == pytest.approx(0.29)
    assert of_two["mce@2"] == pytest.approx(0.3167, abs=1e-4)


def test_worked_examples_of_catalogues() -> None:
    """recmetrics, personalization: the same lists for all, and nothing in common."""
    for lists, value in (([[0, 1, 2]] * 3, 0.0), ([[0, 1], [2, 3], [4, 5]], 1.0)):
        result = fr.evaluate_catalog(lists, 6, metrics="personalization")
        assert result["personalization"] == pytest.approx(value, abs=1e-15)
