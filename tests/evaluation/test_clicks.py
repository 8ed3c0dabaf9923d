"""Click metrics against scikit-learn, SciPy and brute force."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

import fastrec as fr
from fastrec.evaluation.click_sums import click_point_sums, click_rank_sums

SAME = {"rtol": 1e-12, "atol": 1e-12}


def rows(n: int, seed: int, *, distinct: int = 0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    p = rng.random(n) if distinct == 0 else rng.integers(0, distinct + 1, n) / distinct
    p = p.astype(dtype)
    y = (rng.random(n) < p * 0.6 + 0.1).astype(int)
    y[:2] = 0, 1
    return y, p, rng.integers(0, 4, n) / 2 + rng.random(n), rng.integers(0, max(n // 20, 1), n)


@pytest.mark.parametrize("operation", [click_rank_sums, click_point_sums], ids=lambda o: o.name)
def test_kernel_equals_reference(operation):
    for case in operation.examples(np.random.default_rng(5)):
        expected, got = operation.run("reference", **case), operation.run("cpu", **case)
        for field in dataclasses.fields(expected):
            for a, b in zip(*(np.atleast_1d(getattr(r, field.name)) for r in (expected, got))):
                np.testing.assert_allclose(b, a, rtol=1e-11, atol=1e-11, err_msg=field.name)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("n", "distinct", "dtype"), [
    (2, 0, np.float64), (50, 5, np.float32), (1000, 0, np.float32), (3000, 40, np.float64), (70001, 0, np.float64),
])  # fmt: skip
def test_equal_to_scikit_learn(n, distinct, dtype, weighted):
    sk = pytest.importorskip("sklearn.metrics", reason="scikit-learn is the reference")
    y, p, w, _ = rows(n, n, distinct=distinct, dtype=dtype)
    w = w if weighted else None
    chosen = p >= dtype(0.5)
    wide = p.astype(np.float64)
    expected = {
        "auc": sk.roc_auc_score(y, p, sample_weight=w),
        "pauc": sk.roc_auc_score(y, p, sample_weight=w, max_fpr=0.1),
        "pauc@0.5": sk.roc_auc_score(y, p, sample_weight=w, max_fpr=0.5),
        "ap": sk.average_precision_score(y, p, sample_weight=w),
        "logloss": sk.log_loss(y, wide, sample_weight=w),
        "brier": sk.brier_score_loss(y, wide, sample_weight=w),
        "accuracy": sk.accuracy_score(y, chosen, sample_weight=w),
        "precision": sk.precision_score(y, chosen, sample_weight=w, zero_division=0),
        "recall": sk.recall_score(y, chosen, sample_weight=w),
        "specificity": sk.recall_score(1 - y, ~chosen, sample_weight=w),
        "f1": sk.f1_score(y, chosen, sample_weight=w),
        "mcc": sk.matthews_corrcoef(y, chosen, sample_weight=w),
        "mae": sk.mean_absolute_error(y, wide, sample_weight=w),
        "rmse": math.sqrt(sk.mean_squared_error(y, wide, sample_weight=w)),
        "r2": sk.r2_score(y, wide, sample_weight=w),
    }
    eps = np.finfo(np.float64).eps
    got = fr.evaluate_clicks(y, p, weights=w, metrics=list(expected), eps=eps, undefined="nan")
    np.testing.assert_allclose([got[name] for name in expected], list(expected.values()), **SAME)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gauc_is_the_weighted_mean_of_the_groups_aucs(dtype, weighted):
    sk = pytest.importorskip("sklearn.metrics", reason="scikit-learn is the reference")
    y, p, w, groups = rows(2000, 3, distinct=30, dtype=dtype)
    w = w if weighted else np.ones(len(y))
    aucs, impressions, positives = [], [], []
    for g in np.unique(groups):
        of = groups == g
        if 0 < y[of].sum() < of.sum():
            aucs.append(sk.roc_auc_score(y[of], p[of], sample_weight=w[of]))
            impressions.append(w[of].sum())
            positives.append((w * y)[of].sum())
    expected = [np.average(aucs, weights=x) for x in (impressions, positives, np.ones(len(aucs)))]
    names = ["gauc", "gauc@positives", "gauc@uniform"]
    got = fr.evaluate_clicks(y, p, groups, w if weighted else None, metrics=names)
    np.testing.assert_allclose([got[name] for name in names], expected, **SAME)
