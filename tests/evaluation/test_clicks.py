"""Click metrics against scikit-learn, SciPy and brute force."""

from __future__ import annotations

import dataclasses
import itertools
import math
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from subprocesses import USABLE_ISAS, output_of

import fastrec as fr
from fastrec.evaluation.click_metrics import METRICS
from fastrec.evaluation.click_order import Order
from fastrec.evaluation.click_pair_sums import click_pair_sums
from fastrec.evaluation.click_point_sums import click_point_sums
from fastrec.evaluation.click_rank_sums import click_rank_sums

SAME = {"rtol": 1e-12, "atol": 1e-12}


def rows(n: int, seed: int, *, distinct: int = 0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    p = rng.random(n) if distinct == 0 else rng.integers(0, distinct + 1, n) / distinct
    p = p.astype(dtype)
    y = (rng.random(n) < p * 0.6 + 0.1).astype(int)
    y[:2] = 0, 1
    return y, p, rng.integers(0, 4, n) / 2 + rng.random(n), rng.integers(0, max(n // 20, 1), n)


OPERATIONS = [click_rank_sums, click_point_sums, click_pair_sums]
EVERY = sorted(METRICS)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: o.name)
def test_kernel_equals_reference(operation):
    for case in operation.examples(np.random.default_rng(5)):
        if operation is click_pair_sums and len(case["y"]) > 5000:
            continue  # quadratic
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


def test_equal_to_scipy():
    stats = pytest.importorskip("scipy.stats", reason="SciPy is the reference")
    y, p, _, _ = rows(3000, 8, distinct=100)
    got = fr.evaluate_clicks(y, p, metrics=["ks", "auc"])
    np.testing.assert_allclose(got["ks"], stats.ks_2samp(p[y == 1], p[y == 0]).statistic, **SAME)
    upside_down = fr.evaluate_clicks(1 - y, p, metrics=["ks", "auc"])
    assert upside_down["ks"] == pytest.approx(got["ks"], abs=1e-15)
    assert upside_down["auc"] == pytest.approx(1 - got["auc"], abs=1e-15)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bins_thresholds_and_tops_equal_their_definitions(dtype, weighted):
    y, p, w, groups = rows(999, 4, distinct=60, dtype=dtype)
    p[:5] = 0, 1, 0.2, 0.4, 0.6
    w = w if weighted else np.ones(len(y))
    wide = p.astype(np.float64)
    edges = np.linspace(0, 1, 16).astype(dtype).astype(float)
    bins = [(a <= wide) & (wide < b) for a, b in itertools.pairwise(edges)] + [wide == 1]

    def calibration(bins):
        parts = [
            (w[b].sum(), abs((w * y)[b].sum() - (w * wide)[b].sum()) / w[b].sum()) for b in bins if w[b].sum()
        ]
        return sum(n * gap for n, gap in parts) / w.sum(), max(gap for _, gap in parts)

    quantiles = np.percentile(wide, np.linspace(0, 1, 16) * 100)
    of = np.searchsorted(quantiles[1:-1], wide)
    order = np.argsort(-wide, kind="stable")
    f1 = {}
    for cut in np.unique(p):
        tp, fp = (w * y)[p >= cut].sum(), (w * (1 - y))[p >= cut].sum()
        f1[float(cut)] = 2 * tp / (tp + fp + (w * y).sum())
    best = max(f1.values())
    x = np.append(0, np.cumsum(w[order]))
    height = np.append(0, np.cumsum((w * y)[order]))
    last = np.append(True, np.append(np.diff(wide[order]) != 0, True))
    gain = np.interp(0.1 * w.sum(), x[last], height[last]) / (w * y).sum()
    field = sum(abs((w * (y - wide))[groups == g].sum()) for g in np.unique(groups)) / w.sum()
    rate = np.average(y, weights=w)
    loss = fr.evaluate_clicks(y, p, weights=w if weighted else None, metrics="logloss")["logloss"]
    ne = loss / -(rate * math.log(rate) + (1 - rate) * math.log(1 - rate))
    expected = {
        "ece": calibration(bins)[0],
        "mce": calibration(bins)[1],
        "ace": calibration([of == b for b in range(15)])[0],
        "best_f1": best,
        "gain": gain,
        "lift": gain / 0.1,
        "pcoc": (w * wide).sum() / (w * y).sum(),
        "field_ece": field,
        "ne": ne,
        "rig": 1 - ne,
        "mse": np.average((y - wide) ** 2, weights=w),
    }
    got = fr.evaluate_clicks(y, p, groups, w if weighted else None, metrics=list(expected))
    np.testing.assert_allclose([got[n] for n in expected], list(expected.values()), **SAME)
    assert f1[got.best_threshold] == pytest.approx(best, abs=1e-12)
    assert got.parameters["ece"] == {"bins": 15}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bins", [3, 5, 7, 10, 15, 20, 49, 100])
def test_a_probability_that_is_an_edge_lies_in_the_bin_that_it_begins(bins, dtype):
    p = (np.arange(bins + 1) / bins).astype(dtype)
    below = np.nextafter(p[1:], dtype(0))
    for scores, expected in ((p, np.append(np.arange(bins), bins)), (below, np.arange(bins))):
        for labels in (
            np.arange(len(scores)) % 2,
            np.arange(len(scores)) % 2 + 0.0,
            np.full(len(scores), 0.25),
        ):
            point = click_point_sums(np.asarray(labels, float), scores, bins=bins).bins
            np.testing.assert_array_equal(point[:, 0], np.bincount(expected, minlength=bins + 1))
        curve = fr.evaluate_clicks(np.arange(len(scores)) % 2, scores, metrics="auc").calibration(bins)
        np.testing.assert_array_equal(curve["mean_prob"], np.sort(scores).astype(float))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_loss_of_sure_predictions_is_told_from_none(dtype, weighted):
    rng = np.random.default_rng(0)
    near = (10.0 ** -rng.integers(3, 7, 1003)).astype(dtype)
    tiny = (10.0 ** -rng.integers(8, 40, 1003)).astype(dtype)
    flip = rng.random(1003) < 0.3
    for p, y, eps in (
        (near, np.zeros(1003), 0.0),
        (1 - near, np.ones(1003), 0.0),
        (np.where(flip, near, dtype(1) - near), ~flip, 1e-15),
        (np.where(flip, dtype(1), tiny), flip, 0.0),
        (np.where(flip, tiny, dtype(1)), flip, 1e-12),  # all wrong
        (np.where(flip, dtype(0), dtype(1)), flip, 1e-60),
        (rng.random(1003).astype(dtype), flip, 1e-15),
    ):
        wide, y = p.astype(float), y.astype(float)
        error = np.where(y == 1, 1 - wide, wide).clip(eps, 1 - eps)
        right = np.where(y == 1, wide, 1 - wide).clip(eps, 1 - eps)
        losses = np.where(error < 0.5, -np.log1p(-error.clip(0, 0.5)), -np.log(right.clip(1e-300)))
        w = np.ones(1003) if weighted else None
        got = fr.evaluate_clicks(y, p, weights=w, metrics="logloss", eps=eps)["logloss"]
        assert got == pytest.approx(math.fsum(losses.tolist()) / 1003, rel=1e-13, abs=0)


def test_calibration_curve_equals_scikit_learn():
    calibration = pytest.importorskip("sklearn.calibration", reason="scikit-learn is the reference")
    y, p, _, _ = rows(5000, 6)
    for strategy in ("uniform", "quantile"):
        label, prob = calibration.calibration_curve(y, p, n_bins=12, strategy=strategy)
        got = fr.evaluate_clicks(y, p, metrics="auc").calibration(12, strategy)
        np.testing.assert_allclose(got["mean_prob"], prob, **SAME)
        np.testing.assert_allclose(got["mean_label"], label, **SAME)


def test_roc_curve_equals_scikit_learn():
    sk = pytest.importorskip("sklearn.metrics", reason="scikit-learn is the reference")
    y, p, w, _ = rows(500, 6, distinct=40)
    fpr, tpr, threshold = sk.roc_curve(y, p, sample_weight=w, drop_intermediate=False)
    got = fr.evaluate_clicks(y, p, weights=w, metrics="auc").roc()
    np.testing.assert_allclose(got.to_numpy().T, [threshold, fpr, tpr], **SAME)


@pytest.mark.parametrize("weighted", [False, True])
def test_soft_labels_where_they_have_a_meaning(weighted):
    rng = np.random.default_rng(0)
    y, p, w = rng.random(300), rng.random(300), rng.random(300)
    names = ["logloss", "brier", "pcoc", "ece", "mce", "ne"]
    got = fr.evaluate_clicks(y, p, weights=w if weighted else None, metrics=names)
    w = w if weighted else np.ones(300)
    loss = np.average(-(y * np.log(p) + (1 - y) * np.log(1 - p)), weights=w)
    assert got["logloss"] == pytest.approx(loss, rel=1e-13)
    assert got["brier"] == pytest.approx(np.average((p - y) ** 2, weights=w), rel=1e-13)
    assert "positives" not in got.counts


@pytest.mark.parametrize("weighted", [False, True])
def test_xauc_is_the_share_of_concordant_pairs(weighted):
    rng = np.random.default_rng(0)
    y, p, w = rng.integers(0, 9, 200) * 1.5 - 3, rng.integers(0, 20, 200) / 3, rng.random(200)
    w = w if weighted else np.ones(200)
    top = bottom = 0.0
    for i, j in itertools.permutations(range(200), 2):
        if y[i] > y[j]:
            bottom += w[i] * w[j]
            top += w[i] * w[j] * (1.0 if p[i] > p[j] else 0.5 if p[i] == p[j] else 0.0)
    got = fr.evaluate_clicks(y, p, weights=w if weighted else None, metrics="xauc")
    assert got["xauc"] == pytest.approx(top / bottom, abs=1e-12)


def test_xauc_of_two_targets_is_the_auc_and_else_somers_d():
    stats = pytest.importorskip("scipy.stats", reason="SciPy is the reference")
    y, p, _, _ = rows(1000, 1, distinct=20)
    got = fr.evaluate_clicks(y, p, metrics=["auc", "xauc"])
    assert got["auc"] == got["xauc"]
    target = np.round(p + y, 1)
    statistic = stats.somersd(target, p).statistic
    assert fr.evaluate_clicks(target, p, metrics="xauc")["xauc"] == pytest.approx(
        (statistic + 1) / 2, abs=1e-12
    )
    n = 50_000
    rng = np.random.default_rng(0)
    target, p = rng.standard_normal(n), rng.standard_normal(n)
    tau = stats.kendalltau(target, p).statistic
    assert fr.evaluate_clicks(target, p, metrics="xauc")["xauc"] == pytest.approx((tau + 1) / 2, abs=1e-12)


def delong_by_hand(y, p):
    pos, neg = p[y == 1], p[y == 0]
    wins = (pos[:, None] > neg) + 0.5 * (pos[:, None] == neg)
    return math.sqrt(wins.mean(axis=1).var(ddof=1) / len(pos) + wins.mean(axis=0).var(ddof=1) / len(neg))


def test_delong_interval():
    y, p, w, groups = rows(400, 2, distinct=50)
    got = fr.evaluate_clicks(y, p, groups, metrics=["auc", "gauc"])
    interval = got.interval("auc")
    assert interval.value == got["auc"]
    assert interval.error == pytest.approx(delong_by_hand(y, p), rel=1e-10)
    assert interval.low == pytest.approx(interval.value - 1.959963984540054 * interval.error)
    assert got.interval("auc", level=0.5).low > interval.low
    gauc = got.interval("gauc")
    assert gauc.value == got["gauc"]
    assert gauc.low < gauc.value < gauc.high
    perfect = fr.evaluate_clicks([0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4], metrics="auc").interval()
    assert perfect[:4] == (1.0, 1.0, 1.0, 0.0)
    few = fr.evaluate_clicks([0, 0, 1], [0.1, 0.3, 0.2], metrics="auc").interval()
    assert math.isnan(few.low)
    with pytest.raises(ValueError, match="equal weight"):
        fr.evaluate_clicks(y, p, weights=w, metrics="auc").interval()
    with pytest.raises(ValueError, match="needs `groups`"):
        fr.evaluate_clicks(y, p, metrics="auc").interval("gauc")
    with pytest.raises(KeyError, match="was not asked for"):
        got.interval("logloss")


def test_delong_intervals_cover_the_truth():
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(400):
        y = rng.random(200) < 0.3
        low, high, *_ = fr.evaluate_clicks(y, rng.standard_normal(200) + y, metrics="auc").interval()
        inside += low < 0.7602499389065233 < high  # the normal distribution function at 1 / sqrt 2
    assert 0.92 < inside / 400 < 0.98


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("kind", ["float32", "float64", "eighths", "beside edges"])
def test_one_pass_equals_metric_by_metric(kind, grouped):
    y, p, w, groups = rows(5000, 9, distinct=64 if kind == "eighths" else 300)
    p = p.astype(np.float32) if kind == "float32" else p
    if kind == "beside edges":  # 64-bit scores on both sides of bins' edges, that have no float32
        p[:300] = np.nextafter(np.repeat(np.arange(15) / 15, 20), 1)
    every = [m for m in EVERY if grouped or "groups" not in METRICS[m].needs]
    every += ["ece@4", "ece@16", "mce@3", "ace@7", "f1@0.1", "f1@0.25", "recall@-1", "precision@1"]
    for weights in (None, w):
        arguments = (y, p, groups if grouped else None, weights)
        together = fr.evaluate_clicks(*arguments, metrics=every)
        for name in every:
            assert fr.evaluate_clicks(*arguments, metrics=name)[name] == together[name], name


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_same_bits_for_any_threads(dtype):
    y, p, w, groups = rows(200_000, 10, dtype=dtype)
    p[1000:90_000] = p[1000]  # a tie block longer than a chunk
    for weights in (None, w):
        for of, every in ((groups, EVERY), (None, [m for m in EVERY if "groups" not in METRICS[m].needs])):
            one, *others = (
                dict(fr.evaluate_clicks(y, p, of, weights, metrics=every, threads=t)) for t in (1, 2, 5, 8)
            )
            assert all(one == other for other in others)


def test_same_bits_for_any_instruction_set():
    code = """
        import numpy as np, fastrec as fr
        from fastrec.evaluation.click_metrics import METRICS
        rng = np.random.default_rng(0)
        n = 70_001
        p = rng.random(n)
        p[: n // 2] = np.round(p[: n // 2], 3)
        y, w, groups = rng.random(n) < p, rng.random(n), rng.integers(0, 500, n)
        for scores in (p, p.astype(np.float32)):
            for weights in (None, w):
                got = fr.evaluate_clicks(y, scores, groups, weights, metrics=sorted(METRICS))
                print([value.hex() for value in dict(got).values()])
                alone = [name for name, metric in METRICS.items() if "groups" not in metric.needs]
                got = fr.evaluate_clicks(y, scores, None, weights, metrics=alone)
                print([value.hex() for value in dict(got).values()])
                signed = scores - scores.dtype.type(0.5)
                got = fr.evaluate_clicks(y, signed, weights=weights, metrics=["auc", "ap", "ks"])
                print([value.hex() for value in dict(got).values()])
        print(fr.evaluate_clicks(w, p, metrics=["xauc", "logloss"]))
    """
    assert len({output_of(code, FASTREC_ISA=isa) for isa in USABLE_ISAS}) == 1


def test_rows_may_come_in_any_order():
    y, p, _, groups = rows(4000, 11, distinct=100)
    mixed = np.random.default_rng(0).permutation(len(y))
    names = [n for n in EVERY if n not in ("logloss", "ne", "rig", "brier", "mse", "rmse", "mae", "r2")]
    a = fr.evaluate_clicks(y, p, groups, metrics=names)
    b = fr.evaluate_clicks(y[mixed], p[mixed], groups[mixed], metrics=names)
    np.testing.assert_allclose(a.values, b.values, rtol=1e-14)
    for exact in ("auc", "gauc", "ks", "best_f1", "f1", "mcc", "lift", "xauc"):
        assert a[exact] == b[exact]


@pytest.mark.parametrize("scale", [1e-70, 2.0**-200, 2.0**200, 1e69])
def test_only_the_ratios_of_weights_matter(scale):
    y, p, w, groups = rows(3000, 2, distinct=200)
    want = fr.evaluate_clicks(y, p, groups, w + 1, metrics=EVERY)
    got = fr.evaluate_clicks(y, p, groups, (w + 1) * scale, metrics=EVERY)
    np.testing.assert_allclose(got.values, want.values, rtol=1e-13)
    np.testing.assert_allclose(got.per_group["auc"], want.per_group["auc"], rtol=1e-13)


def test_integer_weights_repeat_rows():
    y, p, _, groups = rows(800, 12, distinct=40)
    w = np.random.default_rng(0).integers(0, 4, len(y))
    names = [n for n in EVERY if n not in ("ace", "gauc@uniform", "xauc")]
    again = np.repeat(np.arange(len(y)), w)
    a = fr.evaluate_clicks(y, p, groups, w, metrics=names)
    b = fr.evaluate_clicks(y[again], p[again], groups[again], metrics=names)
    np.testing.assert_allclose(a.values, b.values, **SAME)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.booleans(), st.floats(allow_nan=False), st.integers(0, 3)), min_size=1, max_size=60
    ),
    st.booleans(),
)
def test_auc_counts_pairs_whatever_the_scores(drawn, narrow):
    y, p, groups = (np.array(column) for column in zip(*drawn))
    with np.errstate(over="ignore"):
        p = p.astype(np.float32 if narrow else np.float64)
    wins = ties = 0
    for i, j in itertools.product(np.flatnonzero(y), np.flatnonzero(~y)):
        wins += p[i] > p[j]
        ties += p[i] == p[j]
    pairs = int(y.sum() * (~y).sum())
    got = fr.evaluate_clicks(y, p, groups, metrics=["auc", "gauc"], undefined="nan")
    assert got["auc"] == (wins + ties / 2) / pairs if pairs else math.isnan(got["auc"])
    assert "auc" in got.undefined or pairs


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "rate",
    [
        lambda p: p,
        lambda p: 1 - p,  # the gap is one of the other sign
        lambda p: 0.02 * p,
        lambda p: np.where(p > 0.97, 0.9, 0.01),
        lambda p: np.where(p < 0.03, 0.9, 0.3),
        lambda p: np.full(len(p), 0.5),
        lambda p: p > 0.5,  # a perfect order
        lambda p: p < 0.5,
    ],
)
def test_the_best_thresholds_of_many_chunks(rate, dtype):
    n = 400_000  # most chunks are left out of the search for KS and F1, for what is known to lie in others
    rng = np.random.default_rng(3)
    for p in (rng.random(n), rng.integers(0, 6, n) / 6, np.append(np.full(n // 2, 0.5), rng.random(n // 2))):
        p = p.astype(dtype)
        y = (rng.random(n) < rate(p)).astype(np.uint8)
        expected, got = (click_rank_sums.run(path, y, p, detail=1) for path in ("reference", "cpu"))
        for name in ("ks", "ks_score", "f1", "f1_score"):
            assert getattr(got, name) == getattr(expected, name), name
        assert got.pairs == expected.pairs
        assert got.precision == pytest.approx(expected.precision, rel=1e-12)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("n", [1, 31, 33, 5000, 40_000, 300_000])
def test_the_sort_is_right_and_stable_on_keys_of_every_kind(n, stride):
    rng = np.random.default_rng(n)
    word = rng.integers(0, 2**63, n, dtype=np.uint64)
    kinds = {
        "uniform": word,
        "few": word % np.uint64(5),
        "equal": np.full(n, 7, np.uint64),
        "one far away": np.where(np.arange(n) == n // 2, np.uint64(2**62), word % np.uint64(100)),
        "clusters": (word % np.uint64(3) << np.uint64(60)) + (word >> np.uint64(40)),
        "low bits only": word % np.uint64(2) + np.uint64(2**61),
    }
    from fastrec._kernels import clicks

    for name, keys in kinds.items():
        for threads in (1, 3):
            keys = keys << np.uint64(1)
            rows = np.empty(n * stride, np.uint64)
            rows[::stride] = keys
            if stride == 2:
                rows[1::2] = np.arange(n)
            clicks.radix_sort(rows, np.empty_like(rows), stride, 1, 64, threads)
            order = np.argsort(keys, kind="stable")
            np.testing.assert_array_equal(rows[::stride], keys[order], err_msg=name)
            if stride == 2:
                np.testing.assert_array_equal(rows[1::2], order, err_msg=name)
            keys = keys >> np.uint64(1)


@pytest.mark.parametrize("n", [1, 2, 33, 5000, 70_001, 400_000])
def test_probabilities_are_sorted_as_half_words(n):
    rng = np.random.default_rng(n)
    uniform = rng.random(n, np.float32)
    kinds = {
        "uniform": uniform,
        "few": np.round(uniform, 1),
        "equal": np.full(n, 0.25, np.float32),
        "near zero and one": np.where(uniform < 0.5, uniform * 1e-30, 1 - uniform * 1e-4).astype(np.float32),
        "one far away": np.where(np.arange(n) == n // 2, np.float32(0), 0.5 + uniform / 1e4).astype(
            np.float32
        ),
        "all magnitudes": (10.0 ** (-45 * rng.random(n))).astype(np.float32),
        "negative": -1 - uniform,
    }
    labels = (rng.random(n) < 0.3).astype(np.uint8)
    for name, scores in kinds.items():
        order = np.lexsort((labels, -scores))
        for threads in (1, 3):
            got = Order(labels, scores, None, None, 0, threads)
            assert got.rows is None, name
            values = [got.score_at(row) for row in range(0, n, max(n // 50, 1))]
            assert values == scores[order][:: max(n // 50, 1)].tolist(), name
            codes = got.words >> np.uint64(1)
            assert (codes[1:] >= codes[:-1]).all(), name
            block = np.flatnonzero(np.append(True, codes[1:] != codes[:-1]))
            ones = (got.words & np.uint64(1)).astype(int)
            expected = np.add.reduceat(labels[order].astype(int), block)
            assert (np.add.reduceat(ones, block) == expected).all(), name


def test_close_doubles_are_told_apart():
    p = 0.5 + np.arange(1000) * 2.0**-53
    y = np.arange(1000) % 2
    wide = fr.evaluate_clicks(y, p, metrics="auc")["auc"]
    narrow = fr.evaluate_clicks(y, p.astype(np.float32), metrics="auc")["auc"]
    assert wide == 0.501
    assert narrow == 0.5
    assert Order(y.astype(np.uint8), p, None, None, 0, 1).rows is None


def test_infinite_scores_and_signed_zeros():
    got = fr.evaluate_clicks([0, 1, 0, 1], [-np.inf, np.inf, 0.0, -0.0], metrics="auc")
    assert got["auc"] == 3.5 / 4


@pytest.mark.parametrize(
    "dtype", [bool, np.int8, np.uint8, np.int16, np.int32, np.int64, np.uint64, np.float16, np.float32]
)
def test_labels_and_scores_of_any_type(dtype):
    y, p, _, _ = rows(300, 1, distinct=100)
    want = fr.evaluate_clicks(y, p, metrics="auc")["auc"]
    assert fr.evaluate_clicks(y.astype(dtype), p, metrics="auc")["auc"] == want
    scores = np.round(p * 100)
    want = fr.evaluate_clicks(y, scores, metrics="auc")["auc"]
    if dtype is not bool:
        assert fr.evaluate_clicks(y, scores.astype(dtype), metrics="auc")["auc"] == want


def test_containers_strides_and_read_only_input():
    y, p, _, groups = rows(64, 1, distinct=9)
    want = dict(fr.evaluate_clicks(y, p, groups, metrics=["auc", "gauc", "logloss"]))

    def same(*arguments):
        return dict(fr.evaluate_clicks(*arguments, metrics=["auc", "gauc", "logloss"])) == want

    frame = pd.DataFrame({"y": y, "p": p, "g": groups})
    assert same(frame.y, frame.p, frame.g)
    assert same(list(y), tuple(p), list(groups))
    assert same(np.repeat(y, 2)[::2], np.repeat(p, 3)[::3], groups[::-1][::-1])
    assert same(y[:, None], p[:, None], groups)
    assert same(y.astype(object), p.astype(object), groups.astype(object))
    assert same(frame.y.astype("boolean"), frame.p.astype("Float64"), frame.g.astype("Int64"))
    assert same(y.astype(">i4"), p.astype(">f8"), groups)
    for array in (y, p, groups):
        array.flags.writeable = False
    assert same(y, p, groups)


def test_polars_and_arrow_columns():
    polars = pytest.importorskip("polars", reason="polars is optional")
    arrow = pytest.importorskip("pyarrow", reason="pyarrow is the reference for Arrow columns")
    y, p, _, groups = rows(64, 1)
    names = np.array(["user a", "user b", "user c", "user d"])[groups]
    want = fr.evaluate_clicks(y, p, names, metrics="gauc")["gauc"]
    frame = polars.DataFrame({"y": y, "p": p, "g": names})
    assert fr.evaluate_clicks(frame["y"], frame["p"], frame["g"], metrics="gauc")["gauc"] == want
    table = arrow.table({"y": y, "p": p, "g": names})
    assert fr.evaluate_clicks(table["y"], table["p"], table["g"], metrics="gauc")["gauc"] == want


@pytest.mark.parametrize(
    "rename",
    [
        lambda g: g,
        lambda g: g.astype(np.uint8),
        lambda g: g * 10**12 - 5,
        lambda g: -g,
        lambda g: g / 3,
        lambda g: np.array([f"user {x}" for x in g]),
        lambda g: np.array([f"user {x}" for x in g], object),
        lambda g: pd.Series([f"user {x}" for x in g]).astype("category"),
        lambda g: pd.Series([f"user {x}" for x in g]),
        lambda g: pd.to_datetime(g, unit="D"),
        lambda g: [x if x % 2 else str(x) for x in g.tolist()],
        lambda g: pd.Series(g),
        lambda g: [(x, "web") for x in g.tolist()],
        lambda g: pd.Series(g).astype("Int64"),
        lambda g: pd.Series([f"user {x}" for x in g]).astype("string[pyarrow]"),
    ],
)
def test_groups_of_any_kind(rename):
    y, p, _, groups = rows(600, 5)
    want = fr.evaluate_clicks(y, p, groups, metrics="gauc")["gauc"]
    got = fr.evaluate_clicks(y, p, rename(groups), metrics="gauc")
    assert got["gauc"] == want
    assert got.counts["groups"] == len(np.unique(groups)) == len(got.per_group)


def test_per_group_frame_and_counts():
    y = [0, 1, 1, 1, 0, 0]
    p = [0.1, 0.9, 0.2, 0.3, 0.8, 0.8]
    got = fr.evaluate_clicks(y, p, ["a", "a", "b", "b", "c", "c"], metrics="gauc")
    frame = got.per_group
    assert frame.index.tolist() == ["a", "b", "c"]
    assert frame["rows"].tolist() == [2, 2, 2]
    assert frame["positives"].tolist() == [1, 2, 0]
    assert frame["auc"].iloc[0] == 1.0
    assert frame["auc"].iloc[1:].isna().all()
    assert frame["mean_label"].tolist() == [0.5, 1.0, 0.0]
    np.testing.assert_allclose(frame["mean_prob"], [0.5, 0.25, 0.8])
    assert got.counts == {"rows": 6, "positives": 3, "negatives": 3, "groups": 3, "single_class_groups": 2}
    with pytest.raises(ValueError, match="needs `groups`"):
        _ = fr.evaluate_clicks(y, p, metrics="auc").per_group


def test_reading_the_result():
    got = fr.evaluate_clicks([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8], metrics=["auc", "f1@0.3"])
    assert dict(got) == {"auc": 0.75, "f1@0.3": 0.8}
    assert got.values.to_dict() == dict(got)
    assert got.to_frame().shape == (2, 2)
    assert list(got) == ["auc", "f1@0.3"]
    assert len(got) == 2
    assert "auc" in got
    assert "0.75" in repr(got)
    with pytest.raises(KeyError, match="was not asked for"):
        got["gauc"]


def test_aliases_and_defaults():
    y, p, _, _ = rows(100, 0)
    got = fr.evaluate_clicks(y, p, metrics=["roc_auc", "AUC", "pr_auc", "log_loss"])
    assert got["roc_auc"] == got["AUC"]
    assert set(fr.evaluate_clicks(y, p)) == {"auc", "logloss", "ece"}
    a = fr.evaluate_clicks(
        y, p, metrics=["f1", "ece", "lift", "pauc"], threshold=0.3, bins=7, top=0.2, max_fpr=0.4
    )
    b = fr.evaluate_clicks(y, p, metrics=["f1@0.3", "ece@7", "lift@0.2", "pauc@0.4"])
    assert list(a.values) == list(b.values)


def test_a_single_class_is_said():
    with pytest.warns(RuntimeWarning, match="every row is positive"):
        got = fr.evaluate_clicks([1, 1], [0.5, 0.6], metrics=["auc", "pcoc", "ne"])
    assert math.isnan(got["auc"])
    assert got["pcoc"] == pytest.approx(0.55)
    assert set(got.undefined) == {"auc", "ne"}
    with pytest.raises(ValueError, match="every row is negative"):
        fr.evaluate_clicks([0, 0], [0.5, 0.6], metrics="ks", undefined="error")
    names = ["ap", "best_f1", "lift", "pcoc", "recall", "gauc", "auc", "pauc", "ks"]
    got = fr.evaluate_clicks([0, 0], [0.1, 0.2], [1, 2], metrics=names, undefined="nan")
    assert set(got.undefined) == {*names}
    assert got["recall"] == 0.0
    weights = [1, 0]
    with pytest.warns(RuntimeWarning, match="that has a weight"):
        fr.evaluate_clicks([0, 1], [0.1, 0.2], weights=weights, metrics="auc")
    with pytest.warns(RuntimeWarning, match="zero_division"):
        got = fr.evaluate_clicks([0, 1], [0.1, 0.2], metrics="precision", zero_division=math.nan)
    assert math.isnan(got["precision"])
    assert math.isnan(fr.evaluate_clicks([2.0, 2.0], [1, 2], metrics="r2", undefined="nan")["r2"])


def test_certain_and_wrong_is_clipped():
    y, p = [1, 0], [0.0, 0.0]
    assert fr.evaluate_clicks(y, p, metrics="logloss")["logloss"] == pytest.approx(
        -math.log(2.0**-52) / 2, rel=1e-12
    )
    assert fr.evaluate_clicks(y, p, metrics="logloss", eps=1e-15)["logloss"] == pytest.approx(
        -math.log(1e-15) / 2
    )
    assert fr.evaluate_clicks(y, p, metrics="logloss", eps=0)["logloss"] == math.inf
    tiny = [5e-324, 2.3e-308]
    loss = fr.evaluate_clicks([1, 1], tiny, metrics="logloss", eps=0)["logloss"]
    assert loss == pytest.approx(-np.log(tiny).mean(), rel=1e-15)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"metrics": "rmse", "y_true": [1e146, 0, 1]},
            ValueError,
            r"at most 1e\+145 in magnitude; row 0 is 1e\+146",
        ),
        (
            {"metrics": "mae", "y_prob": [0.0, -1e146, 1]},
            ValueError,
            r"at most 1e\+145 in magnitude for 'mae'; it holds",
        ),
        ({"metrics": "auc,logloss"}, ValueError, "several names are a list"),
        ({"metrics": None}, TypeError, "must be a list of names; got NoneType"),
        ({"zero_division": "warn"}, TypeError, "`zero_division` must be a number; got str 'warn'"),
        ({"metrics": "ndcg@10"}, ValueError, "which is not known. fr.evaluate has it"),
        ({"metrics": "acu"}, ValueError, "Did you mean 'auc'"),
        ({"metrics": []}, ValueError, "at least one metric"),
        ({"metrics": [1]}, TypeError, "must hold names"),
        ({"metrics": "auc@3"}, ValueError, "takes no parameter"),
        ({"metrics": "f1@x"}, ValueError, "needs a number after '@'"),
        ({"metrics": "ece@1.5"}, ValueError, "needs an integer after '@'"),
        ({"metrics": "ece@0"}, ValueError, "bins of ece@0"),
        ({"metrics": "pauc@0"}, ValueError, "must be above 0"),
        ({"metrics": "lift@2"}, ValueError, "between 0.0 and 1.0"),
        ({"metrics": "gauc@sum"}, ValueError, "impressions"),
        ({"metrics": "gauc"}, ValueError, "`groups` must be given for 'gauc'"),
        ({"y_true": [0, 1, 2]}, ValueError, "row 2 is 2"),
        ({"y_true": [0, 1, -1]}, ValueError, "Make labels of other values with a comparison"),
        ({"y_true": [0, 0.5, 1]}, ValueError, "must hold 0 and 1 for 'auc'; row 1 is 0.5"),
        ({"y_true": [0, 1.5, 1], "metrics": "logloss"}, ValueError, "lie in 0..1 for 'logloss'; row 1"),
        ({"y_true": [0, np.nan, 1], "metrics": "mae"}, ValueError, "must be finite; row 1"),
        ({"y_true": [0, np.nan, 1]}, ValueError, "row 1 is nan"),
        ({"y_true": ["a", "b", "c"]}, TypeError, "real numbers"),
        ({"y_true": []}, ValueError, "between 1 and"),
        ({"y_true": [None, 1, 0]}, ValueError, "`y_true` must not be missing; row 0 is None"),
        ({"y_prob": [0.1, None, 0.2]}, ValueError, "`y_prob` must not be missing; row 1 is None"),
        ({"y_true": pd.Series([0, 1, None], dtype="Int8")}, ValueError, "row 2 is nan"),
        ({"y_prob": pd.Series([0.1, None, 0.2], dtype="Float64")}, ValueError, "row 1 is NaN"),
        ({"y_true": [0, object(), 1]}, TypeError, "real numbers"),
        ({"y_true": iter([0, 1, 1])}, TypeError, "must be an array"),
        ({"y_true": np.ma.masked_array([0, 1, 1], [True, False, False])}, TypeError, "masked"),
        ({"y_prob": np.array([0.1, 0.2, 0.3j])}, TypeError, "real numbers"),
        ({"y_prob": [0.1, np.nan, 0.2]}, ValueError, "row 1 is NaN"),
        ({"y_prob": [0.1, 0.2]}, ValueError, r"shape \(3,\) to match `y_true`"),
        ({"y_prob": np.ones((3, 2))}, ValueError, r"Pass one column, `y_prob\[:, 1\]`"),
        (
            {"y_prob": [0.1, 1.5, 0.2], "metrics": "logloss"},
            ValueError,
            "lie in 0..1 for 'logloss'; row 1 is 1.5",
        ),
        ({"y_prob": [0.1, np.inf, 0.2], "metrics": "rmse"}, ValueError, "must be finite for 'rmse'"),
        ({"y_prob": np.array([1, 2**53, 2**53 + 1])}, ValueError, "cannot tell apart"),
        ({"weights": [1, -1, 1]}, ValueError, "row 1 is -1"),
        ({"weights": [1, np.nan, 1]}, ValueError, "row 1 is nan"),
        ({"weights": [1, np.inf, 1]}, ValueError, "row 1 is inf"),
        ({"weights": [0, 0, 0]}, ValueError, "not be all 0"),
        ({"weights": [0, 1, 1e-71]}, ValueError, "from 1e-70 to 1e[+]70; row 2 is 1e-71"),
        ({"weights": [0, 1e71, 1]}, ValueError, "row 1 is 1e[+]71. Only their ratios matter"),
        ({"weights": [1, 1]}, ValueError, "weights"),
        ({"groups": [1, 2]}, ValueError, r"shape \(3,\)"),
        ({"groups": [1, None, 2]}, ValueError, "1 rows have none .first: row 1"),
        ({"groups": np.ones((3, 1))}, ValueError, "groups"),
        ({"eps": 0.5, "metrics": "logloss"}, ValueError, "below 0.5"),
        ({"eps": -1, "metrics": "logloss"}, ValueError, "eps"),
        ({"undefined": "loud"}, ValueError, "undefined"),
        ({"threshold": "x", "metrics": "f1"}, TypeError, "threshold"),
        ({"threads": 0}, ValueError, "threads"),
    ],
)
def test_bad_input_is_refused(change, error, message):
    good = {"y_true": [0, 1, 1], "y_prob": [0.2, 0.3, 0.1], "metrics": "auc"}
    with pytest.raises(error, match=message):
        fr.evaluate_clicks(**{**good, **change})


def test_plot(monkeypatch):
    pytest.importorskip("matplotlib", reason="plots need Matplotlib")
    y, p, w, _ = rows(300, 3)
    for weights in (None, w):
        figure = fr.evaluate_clicks(y, p, weights=weights, metrics="auc").plot()
        assert [axes.get_title()[:3] for axes in figure.axes] == ["ROC", "Rel"]
    fr.evaluate_clicks(y, p * 9 - 3, metrics="auc").plot()
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'fastrec\[report\]'"):
        fr.evaluate_clicks(y, p, metrics="auc").plot()


def test_tables() -> None:
    result = fr.evaluate_clicks([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8], metrics=["auc", "best_f1"])
    assert result.to_markdown(2).splitlines() == [
        "| metric | value |", "|---|---:|", "| auc | 0.75 |", "| best_f1 | 0.80 |",
    ]  # fmt: skip
    assert r"best\_f1 & 0.800 \\" in result.to_latex(3)
    with pytest.raises(ValueError, match="`digits` must be between 0 and 17; got -1"):
        result.to_latex(-1)
