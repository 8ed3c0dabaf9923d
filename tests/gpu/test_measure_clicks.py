"""``fr.evaluate_clicks`` on a card, on the host: real sources, real launch code, a CuPy without a card."""

from __future__ import annotations

from typing import Any

import cuda_host
import fake_cupy
import numpy as np
import pytest

import fastrec as fr

pytestmark = cuda_host.NEEDED
METRICS = ["auc", "gauc", "gauc@uniform", "ap", "ks", "best_f1", "logloss", "ne", "rig", "pcoc", "brier", "ece",
           "ece@5", "mce", "mse", "rmse", "mae", "r2", "xauc", "pauc", "pauc@0.5", "pauc@1", "gain@0.01", "gain@0.3",
           "lift", "accuracy", "precision@0.3", "recall", "specificity", "f1", "mcc@0.6", "ace",
           "ace@7", "ace@400", "ece@300", "field_ece"]  # fmt: skip
SOFT = ["logloss", "ne", "rig", "pcoc", "brier", "ece", "ece@300", "mce@7", "field_ece", "mse", "r2", "xauc"]
REAL = ["mse", "rmse", "mae", "r2", "xauc"]
EXACT = ["auc", "gauc", "gauc@uniform", "accuracy", "recall"]


cupy = fake_cupy.emulated


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


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_labels_that_are_not_0_and_1(cupy: fake_cupy.Fake, dtype: Any) -> None:
    for n, distinct in ((1, 0), (2, 1), (17, 3), (300, 10), (2000, 0)):
        _, p, groups = rows(n, distinct, dtype)
        rng = np.random.default_rng(n)
        soft = rng.integers(0, 5, n) / 4 if n % 2 else rng.random(n)
        soft[0] = 0.3
        real = np.round(rng.standard_normal(n) * 100, n % 3)
        real[0] = -2.5
        for y, metrics in (
            (soft, SOFT),
            (soft.astype(np.float32), SOFT),
            (real, REAL),
            (np.arange(n) + 2, REAL),
        ):
            for w in (None, rng.random(n) * 10.0 ** rng.integers(-3, 4, n), rng.integers(0, 3, n) + (n < 3)):
                expected = fr.evaluate_clicks(y, p, groups, w, metrics=metrics, undefined="nan")
                there = [None if a is None else cupy.asarray(a) for a in (y, p, groups, w)]
                got = fr.evaluate_clicks(*there, metrics=metrics, undefined="nan")
                assert got.counts == expected.counts
                assert got.undefined == expected.undefined
                np.testing.assert_allclose(list(got.values), list(expected.values), rtol=1e-11, atol=1e-14)
                if w is None:
                    np.testing.assert_array_equal(got["xauc"], expected["xauc"])


def test_groups_are_counted_whatever_is_asked_for(cupy: fake_cupy.Fake) -> None:
    y, p, groups = rows(300, 10, np.float32)
    for w in (None, np.arange(300) % 3.0):
        expected = fr.evaluate_clicks(y, p, groups, w, metrics=["brier"])
        there = [None if a is None else cupy.asarray(a) for a in (y, p, groups, w)]
        assert fr.evaluate_clicks(*there, metrics=["brier"]).counts == expected.counts


def test_scores_of_any_size_and_sign(cupy: fake_cupy.Fake) -> None:
    rng = np.random.default_rng(0)
    wide = rng.standard_normal(500) * 10.0 ** rng.integers(-300, 300, 500)
    wide[:6] = -0.0, 0.0, np.inf, -np.inf, 1.0, 1.0 + 2.0**-52
    y = rng.integers(0, 2, 500).astype(np.int64)
    for scores in (wide, wide.clip(-1e38, 1e38).astype(np.float32), rng.integers(-5, 5, 500)):
        expected = fr.evaluate_clicks(y, scores, metrics=["auc", "ap", "ks"])
        got = fr.evaluate_clicks(cupy.asarray(y), cupy.asarray(scores), metrics=["auc", "ap", "ks"])
        np.testing.assert_allclose(list(got.values), list(expected.values), rtol=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_batches_equal_one_call(cupy: fake_cupy.Fake, weighted: bool) -> None:
    """On a card that is not the current one, one of them empty and one that weighs nothing; copies are kept."""
    cupy.devices = 2
    y, p, groups = rows(400, 2, np.float32)
    columns = [y, p, groups, np.random.default_rng(4).random(400) * (np.arange(400) >= 90)]
    columns = columns if weighted else columns[:3]
    metrics = ["auc", "gauc", "logloss", "ece", "ks", "field_ece"]
    with cupy.cuda.Device(1):
        expected = fr.evaluate_clicks(*map(cupy.asarray, columns), metrics=metrics)
        one, other = (fr.evaluation.ClickAccumulator(metrics) for _ in range(2))
    for total, begin, end in ((one, 0, 90), (one, 90, 90), (other, 90, 91), (other, 91, 400)):
        with cupy.cuda.Device(1):
            batch = [cupy.asarray(column[begin:end]) for column in columns]
        total.update(batch[0], batch[1], batch[2], batch[3] if weighted else None)
        for column in batch:
            column.fill(0)
    got = one.merge(other).result()
    assert len(one) == 400
    assert dict(got) == dict(expected)
    assert got.counts == expected.counts
    assert cupy.cuda.runtime.getDevice() == 0
    if weighted:
        nothing = fr.evaluation.ClickAccumulator(["auc"])
        with pytest.raises(ValueError, match="`weights` must not be all 0"):
            nothing.update(cupy.asarray(y), cupy.asarray(p), weights=cupy.asarray(0 * p)).result()


def test_batches_that_are_refused(cupy: fake_cupy.Fake) -> None:
    y, p, groups = rows(50, 0, np.float32)
    there = [cupy.asarray(column) for column in (y, p, groups)]
    total = fr.evaluation.ClickAccumulator("logloss").update(*there)
    for batch, kind, message in (
        ((y, p, groups), TypeError, "got `the batches before` on cuda:0, `this batch` on cpu"),
        ((*there[:2],), ValueError, "some batches have `groups` and some have none"),
        ((there[0], there[1] + 1, there[2]), ValueError, "`y_prob` must lie in 0..1"),
        ((*there[:2], there[2][:7]), ValueError, "`groups` must have shape"),
    ):
        with pytest.raises(kind, match=message):
            total.update(*batch)
    soft = cupy.asarray(p)  # after labels of 0 and 1
    expected = fr.evaluate_clicks(np.append(y, p), np.append(p, p), metrics="logloss")
    got = total.update(soft, there[1], there[2]).result()
    assert got["logloss"] == pytest.approx(expected["logloss"], 1e-12)


def test_refusals(cupy: fake_cupy.Fake) -> None:
    y, p, groups = rows(50, 0, np.float32)
    there = [cupy.asarray(a) for a in (y, p, groups)]
    for arguments, kinds, message in (
        ((there[0], p), {}, "all arrays must be on one device"),
        ((there[0], there[1][:9]), {}, r"`y_prob` must have shape \(50,\)"),
        ((cupy.asarray(p), there[1]), {"metrics": ["ace"]}, "`y_true` must hold 0 and 1 for 'ace'; row"),
        (
            (cupy.asarray(p + 9), there[1]),
            {"metrics": "ece"},
            r"`y_true` must lie in 0..1 for 'ece'; row 0 is 9",
        ),
        ((cupy.asarray(p + np.inf), there[1]), {"metrics": "mse"}, r"`y_true` must be finite; row 0 is inf"),
        (
            (there[0], cupy.asarray(p + np.inf)),
            {"metrics": "mse"},
            r"`y_prob` must be finite for 'mse'; row 0 is inf",
        ),
        (
            (there[0], there[1]),
            {"weights": cupy.asarray(p * np.float64(1e-75))},
            "`weights` must be 0, or from 1e-70 to 1e",
        ),
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
        ((cupy.asarray(y * 2), there[1]), {}, "`y_true` must hold 0 and 1 for 'auc'; row"),
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
