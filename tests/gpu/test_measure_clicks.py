"""``fr.evaluate_clicks`` on a card, on the host: real sources, real launch code, a CuPy without a card."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import cuda_host
import fake_cupy
import numpy as np
import pytest

import fastrec as fr

pytestmark = pytest.mark.skipif(
    cuda_host.COMPILER is None or sys.platform != "linux",
    reason="the host emulator of CUDA needs g++ and Linux",
)
METRICS = ["auc", "gauc", "gauc@uniform", "ap", "ks", "best_f1", "logloss", "ne", "rig", "pcoc", "brier", "ece",
           "ece@5", "mce", "mse", "rmse", "mae", "r2", "xauc", "pauc", "pauc@0.5", "pauc@1", "gain@0.01", "gain@0.3",
           "lift", "accuracy", "precision@0.3", "recall", "specificity", "f1", "mcc@0.6"]  # fmt: skip
EXACT = ["auc", "gauc", "gauc@uniform", "accuracy", "recall"]


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> fake_cupy.Fake:
    return fake_cupy.install(monkeypatch, tmp_path)


def rows(n: int, distinct: int, dtype: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n + distinct)
    p = rng.random(n) if distinct == 0 else rng.integers(0, distinct + 1, n) / distinct
    y = rng.random(n) < p
    return y, p.astype(dtype), rng.integers(-3, max(n // 6, 1), n)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("order", ["forward", "reverse", 7])
def test_equals_the_cpu(cupy: fake_cupy.Fake, dtype: Any, order: Any) -> None:
    for n, distinct in ((1, 0), (2, 1), (17, 3), (256, 0), (300, 10), (5000, 0), (70_000, 400)):
        if n > 5000 and order != "reverse":
            continue
        columns = rows(n, distinct, dtype)
        expected = fr.evaluate_clicks(*columns, metrics=METRICS, undefined="nan")
        with cuda_host.thread_order(order):
            got = fr.evaluate_clicks(*map(cupy.asarray, columns), metrics=METRICS, undefined="nan")
        assert list(got) == list(expected)
        assert got.counts == expected.counts
        assert got.undefined == expected.undefined
        assert got.parameters == expected.parameters
        np.testing.assert_allclose(list(got.values), list(expected.values), rtol=1e-12, atol=1e-15)
        np.testing.assert_array_equal([got[m] for m in EXACT], [expected[m] for m in EXACT])
        assert f"{n} rows on a card" in repr(got)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("order", ["forward", "reverse", 7])
def test_weights(cupy: fake_cupy.Fake, dtype: Any, order: Any) -> None:
    for n, distinct in ((1, 0), (2, 1), (17, 3), (256, 0), (300, 10), (3000, 0), (70_000, 400)):
        if n > 5000 and order != "reverse":
            continue
        y, p, groups = rows(n, distinct, dtype)
        rng = np.random.default_rng(n)
        for weights in (rng.random(n) * 10.0 ** rng.integers(-3, 4, n), rng.integers(0, 3, n) + (n < 3)):
            expected = fr.evaluate_clicks(y, p, groups, weights, metrics=METRICS, undefined="nan")
            with cuda_host.thread_order(order):
                got = fr.evaluate_clicks(
                    *map(cupy.asarray, (y, p, groups, weights)), metrics=METRICS, undefined="nan"
                )
            assert got.counts == expected.counts
            assert got.undefined == expected.undefined
            np.testing.assert_allclose(list(got.values), list(expected.values), rtol=1e-12, atol=1e-15)


def test_scores_of_any_size_and_sign(cupy: fake_cupy.Fake) -> None:
    rng = np.random.default_rng(0)
    wide = rng.standard_normal(500) * 10.0 ** rng.integers(-300, 300, 500)
    wide[:6] = -0.0, 0.0, np.inf, -np.inf, 1.0, 1.0 + 2.0**-52
    y = rng.integers(0, 2, 500).astype(np.int64)
    for scores in (wide, wide.clip(-1e38, 1e38).astype(np.float32), rng.integers(-5, 5, 500)):
        expected = fr.evaluate_clicks(y, scores, metrics=["auc", "ap", "ks"])
        got = fr.evaluate_clicks(cupy.asarray(y), cupy.asarray(scores), metrics=["auc", "ap", "ks"])
        np.testing.assert_allclose(list(got.values), list(expected.values), rtol=1e-12)


def test_refusals(cupy: fake_cupy.Fake) -> None:
    y, p, groups = rows(50, 0, np.float32)
    there = [cupy.asarray(a) for a in (y, p, groups)]
    for arguments, kinds, message in (
        ((there[0], p), {}, "all arrays must be on one device"),
        ((there[0], there[1][:9]), {}, r"`y_prob` must have shape \(50,\)"),
        ((there[0], there[1]), {"metrics": ["ace"]}, "'ace' runs on the CPU only"),
        ((there[0], there[1]), {"weights": p}, "all arrays must be on one device"),
        (
            (there[0], there[1]),
            {"weights": there[1] - 9},
            "`weights` must be finite and not negative; row 0 is",
        ),
        ((there[0], there[1]), {"weights": there[1] * 0}, "`weights` must not be all 0"),
        ((there[0], there[1]), {"weights": there[1][:7]}, r"`weights` must have shape \(50,\)"),
        ((there[0], there[1]), {"metrics": "gauc"}, "`groups` must be given for 'gauc'"),
        ((there[0], there[1], there[1]), {"metrics": "gauc"}, "`groups` must hold integers on a card"),
        ((there[0], there[1]), {"metrics": "ece@300"}, "more than 255 bins"),
        ((cupy.asarray(y * 2), there[1]), {}, "`y_true` must hold 0 and 1 on a card; row"),
        ((there[0], cupy.asarray(p * 3)), {}, r"`y_prob` must lie in 0..1 for 'logloss'"),
        ((there[0], cupy.asarray(np.where(p > 0.9, np.nan, p))), {}, "`y_prob` must not hold NaN"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            fr.evaluate_clicks(*arguments, **kinds)
    with pytest.warns(RuntimeWarning, match="undefined on these rows: auc: every row is positive"):
        fr.evaluate_clicks(cupy.asarray(np.ones(4)), cupy.asarray(p[:4]), metrics="auc")


@pytest.mark.parametrize("name", ["bootstrap_sums", "sign_flip_sums"])
@pytest.mark.parametrize("order", ["forward", 7])
def test_replicates_have_the_bits_of_the_cpu(
    cupy: fake_cupy.Fake, monkeypatch: pytest.MonkeyPatch, name: str, order: Any
) -> None:
    from fastrec._core.op import OPERATIONS

    monkeypatch.setattr("fastrec.evaluation.resample.SCRATCH", 4000)  # some replicates at a time
    operation = OPERATIONS[name]
    for case in operation.examples(np.random.default_rng(1)):
        if case["values"].size * case["replicates"] > 300_000:
            continue
        expected = operation(**case)
        with cuda_host.thread_order(order):
            got = operation(**case | {"values": cupy.asarray(case["values"])})
        np.testing.assert_array_equal(got.get(), expected)
