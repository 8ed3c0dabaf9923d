"""Presets against recorded outputs of the libraries they are named after (``recorded/record.py`` made them)."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastrec as fr

FOLDER = Path(__file__).with_name("recorded")
_spec = importlib.util.spec_from_file_location("recorded_queries", FOLDER / "queries.py")
assert _spec is not None
assert _spec.loader is not None
queries = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(queries)

# Their name: (ours, policies beside the preset).
METRICS: dict[str, dict[str, tuple[str, dict[str, Any]]]] = {
    "rectools": {
        "Precision": ("precision", {}),
        "Precision(r_precision=True)": ("recall", {"recall_denominator": "capped"}),
        "Recall": ("recall", {}),
        "F1Beta": ("f1", {}),
        "F1Beta(beta=2)": ("f_beta(beta=2)", {}),
        "HitRate": ("hit_rate", {}),
        "MAP": ("map", {}),
        "MAP(divide_by_k=True)": ("map", {"map_denominator": "cutoff"}),
        "NDCG": ("ndcg", {}),
        "NDCG(divide_by_achievable=True)": ("ndcg", {"ideal": "judged"}),
        "MRR": ("mrr", {}),
        "PartialAUC": ("pauc", {}),
        "PAP": ("pap", {}),
    },
    "recbole": {
        "Hit": ("hit_rate", {}),
        "MRR": ("mrr", {}),
        "MAP": ("map", {}),
        "Recall": ("recall", {}),
        "NDCG": ("ndcg", {}),
        "Precision": ("precision", {}),
    },
    "ranx": {  # but its bpref, which is not trec_eval's (the preset's is)
        "hits": ("hits", {}),
        "hit_rate": ("hit_rate", {}),
        "precision": ("precision", {}),
        "recall": ("recall", {}),
        "f1": ("f1", {}),
        "mrr": ("mrr", {}),
        "map": ("map", {}),
        "dcg": ("dcg", {}),
        "ndcg": ("ndcg", {}),
        "ndcg_burges": ("ndcg", {"gain": "exponential"}),
        "r-precision": ("r-precision", {}),
        "rbp.80": ("graded_rbp(p=0.8, max_gain=3)", {}),  # it does not divide by the largest grade
    },
    "lenskit": {
        "Precision": ("precision", {}),
        "Recall": ("recall", {}),
        "Hit": ("hit_rate", {}),
        "RecipRank": ("mrr", {}),
        "AveragePrecision": ("map", {}),
        "NDCG": ("ndcg", {}),
        "NDCG(gain='rating')": ("ndcg", {"gain": "linear"}),
        "DCG": ("dcg", {}),
        "RBP": ("rbp(p=0.85)", {}),
        "RBP(patience=0.8)": ("rbp(p=0.8)", {}),
        "RBP(normalize=True)": ("normalized_rbp(p=0.85)", {}),
    },
}
COLLECTIONS = {"rectools": {}, "recbole": {"seed": 2, "length": 20}, "lenskit": {}, "ranx": {}}
SCALE = {"rbp.80": 3.0}


@pytest.mark.parametrize("library", sorted(METRICS))
def test_a_preset_equals_its_library(library: str) -> None:
    recorded = json.loads((FOLDER / f"{library}.json").read_text())
    run, truth = queries.collection(**COLLECTIONS[library])
    compared = 0
    for written, theirs in recorded["values"].items():
        name, at, k = written.partition("@")
        ours, policies = METRICS[library][name]
        values = fr.evaluate(run, truth, f"{ours}{at}{k}", library, **policies).per_query.iloc[:, 0]
        missing = recorded["left_out"].get(written, [])
        kept = [place for place, query in enumerate(recorded["queries"]) if query not in missing]
        labels = [recorded["queries"][place] for place in kept]
        expected = np.array([theirs[place] for place in kept], float)
        assert set(values.index) == set(recorded["queries"]), written  # the same queries count
        got = values.loc[labels].to_numpy() * SCALE.get(written, 1.0)
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12, err_msg=written)
        compared += len(got)
    assert {written.partition("@")[0] for written in recorded["values"]} == set(METRICS[library])
    assert compared > 2000


def test_the_recorded_queries_hold_what_can_go_wrong() -> None:
    run, truth = queries.collection()
    right = queries.relevant(truth)
    assert sum(query not in run for query in truth) > 5
    assert sum(not items for items in run.values()) > 3
    assert sum(not items for items in right.values()) > 5
    assert {gain for items in truth.values() for gain in items.values()} == {0, 1, 2, 3}
    assert {len(items) for items in run.values()} >= {0, 1, 5, 25}
