"""Weighing, selecting and fitting on a card, played on the host: real sources and launch code, the bits of the CPU."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cuda_host
import fake_cupy
import numpy as np
import pytest
from fake_cupy import Csr
from operations import assert_same_bits
from scipy.sparse import csr_matrix

import fastrec as fr
import fastrec.models.logistic  # registers its operation
from fastrec._core.op import OPERATIONS
from fastrec.weighing import SCORES

pytestmark = cuda_host.NEEDED


cupy = fake_cupy.emulated


def here(value: Any) -> Any:
    if isinstance(value, fake_cupy.Array):
        return value.get()
    return tuple(map(here, value)) if isinstance(value, tuple) else value


def problem(rows: int = 300, columns: int = 11, dtype: Any = np.float32) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(rows)
    X = rng.standard_normal((rows, columns)).astype(dtype)
    y = (X @ rng.standard_normal(columns) + rng.standard_normal(rows) > 0).astype(np.int64)
    return X, y, rng.random(rows) + 0.1


@pytest.mark.parametrize("name", ["linear_forward", "logistic_map", "logistic_epoch", "select_rows"])
@pytest.mark.parametrize("order", ["forward", "reverse", 7])
def test_cases_of_the_registry_have_the_bits_of_the_cpu(cupy: fake_cupy.Fake, name: str, order: Any) -> None:
    operation = OPERATIONS[name]
    for number, case in enumerate(operation.examples(np.random.default_rng(3))):
        if order != "forward" and number % 3:
            continue
        there = {
            key: cupy.asarray(value) if isinstance(value, np.ndarray) else value
            for key, value in case.items()
        }
        with cuda_host.thread_order(order):
            got = operation(**there)
        assert_same_bits(here(got), operation(**case), f"case {number}")


def test_operations_of_the_forward_pass_do_not_wait(cupy: fake_cupy.Fake) -> None:
    X, y, _ = problem()
    X, parameters = cupy.asarray(X), cupy.asarray(np.ones(12))
    target = cupy.asarray((2 * y - 1).astype(np.int8))
    with cupy.nothing_waits():
        logits, squares = OPERATIONS["linear_forward"](X, parameters, squares=True)
        OPERATIONS["logistic_map"]("norm", logits, target, squares)


@pytest.mark.parametrize("method", SCORES)
def test_every_score(cupy: fake_cupy.Fake, method: str) -> None:
    for dtype in (np.float32, np.float64):
        X, y, weight = problem(dtype=dtype)
        model = fr.models.LogisticRegression(epochs=2).fit(X, y)
        card = model.to("cuda")
        sparse = csr_matrix(np.where(X > 0.3, X, 0))
        for here_X, there_X in ((X, cupy.asarray(X)), (sparse, Csr(cupy, sparse))):
            expected = fr.importance(model, here_X, y, method, sample_weight=weight)
            got = fr.importance(card, there_X, cupy.asarray(y), method, sample_weight=cupy.asarray(weight))
            assert isinstance(got, fake_cupy.Array)
            assert_same_bits(got.get(), expected, method)


def test_models_that_are_not_ours(cupy: fake_cupy.Fake) -> None:
    X, y, _ = problem()
    coefficients = np.linspace(-1, 1, 11)[None]
    model = SimpleNamespace(coef_=coefficients, intercept_=np.array([0.5]), classes_=np.array([0, 1]))
    there = SimpleNamespace(
        coef_=cupy.asarray(coefficients), intercept_=cupy.asarray(np.array([0.5])), classes_=np.array([0, 1])
    )
    got = fr.importance(there, cupy.asarray(X), cupy.asarray(y))
    assert_same_bits(got.get(), fr.importance(model, X, y))
    with pytest.raises(TypeError, match="`X` on cuda:0, `parameters` on cpu"):
        fr.importance(model, cupy.asarray(X), cupy.asarray(y))


@pytest.mark.parametrize("strategy", ["stratified", "sample", "top", "bottom", "random", "stratified_random"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_same_choice(cupy: fake_cupy.Fake, strategy: str, dtype: Any) -> None:
    rng = np.random.default_rng(4)
    for rows in (1, 2, 33, 500):
        scores, y = (rng.integers(0, 40, rows) ** 2 / 7).astype(dtype), rng.integers(0, 3, rows) * 5
        scores[0] = 3.0  # one chance at least
        for uniform in (0.0, 0.1):
            n = max(1, min(rows // 3, int((scores > 0).sum())))
            expected = fr.select(scores, n=n, strategy=strategy, y=y, uniform=uniform, seed=rows)
            got = fr.select(
                cupy.asarray(scores), n=n, strategy=strategy, y=cupy.asarray(y), uniform=uniform, seed=rows
            )
            assert_same_bits((got.index.get(), got.weight.get()), (expected.index, expected.weight))
            np.testing.assert_array_equal(got.mask.get(), expected.mask)


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("sparse", [False, True])
def test_a_fit_has_the_bits_of_the_cpu(cupy: fake_cupy.Fake, solver: str, sparse: bool) -> None:
    X, y, weight = problem(200, 6)
    y = 2 * y + 3
    if sparse:
        X = csr_matrix(np.where(X > 0.2, X, 0))
    there = Csr(cupy, X) if sparse else cupy.asarray(X)
    settings = {"solver": solver, "epochs": 3, "l2": 1e-3, "batch_size": 64, "max_iter": 9}
    for more in (
        {},
        {"shuffle": False, "fit_intercept": False},
        {"early_stopping": True, "validation_fraction": 0.3},
        {"early_stopping": True, "monitor": "auc", "validation_fraction": 0.3},
    ):
        if solver == "lbfgs" and "early_stopping" in more:
            continue
        for w in (None, weight) if "monitor" not in more else (None,):
            with pytest.warns() if solver == "lbfgs" else _nothing():
                model = fr.models.LogisticRegression(**settings | more).fit(X, y, w)
            with pytest.warns() if solver == "lbfgs" else _nothing():
                card = fr.models.LogisticRegression(**settings | more).fit(
                    there, cupy.asarray(y), None if w is None else cupy.asarray(w)
                )
            assert isinstance(card.coef_, fake_cupy.Array)
            for name in ("coef_", "intercept_"):
                assert_same_bits(getattr(card, name).get(), getattr(model, name), f"{name} {more}")
            assert_same_bits(card.classes_, model.classes_)
            assert card.loss_curve_ == model.loss_curve_
            assert getattr(card, "validation_curve_", None) == getattr(model, "validation_curve_", None)
            assert card.n_iter_ == model.n_iter_


class _nothing:
    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


def test_a_pass_waits_once(cupy: fake_cupy.Fake) -> None:
    X, y, _ = problem()
    syncs = []
    for epochs in (1, 2, 3):
        before = len(cupy.syncs())
        fr.models.LogisticRegression(epochs=epochs).fit(cupy.asarray(X), cupy.asarray(y))
        syncs.append(len(cupy.syncs()) - before)
    assert np.diff(syncs).tolist() == [1, 1]


def test_predictions_stay_on_the_card(cupy: fake_cupy.Fake, tmp_path: Path) -> None:
    X, y, weight = problem()
    model = fr.models.LogisticRegression(epochs=2).fit(X, y, weight)
    card = model.to("cuda:0")
    assert card.to("cuda") is card
    for name in ("decision_function", "predict_proba", "predict_log_proba", "predict"):
        got = getattr(card, name)(cupy.asarray(X))
        assert isinstance(got, fake_cupy.Array)
        assert_same_bits(got.get(), getattr(model, name)(X), name)
    back = card.to("cpu")
    assert_same_bits(back.coef_, model.coef_)
    assert_same_bits(pickle.loads(pickle.dumps(back)).predict_proba(X), model.predict_proba(X))
    more = copy.deepcopy(model)
    card.partial_fit(cupy.asarray(X), cupy.asarray(y), sample_weight=cupy.asarray(weight))
    more.partial_fit(X, y, sample_weight=weight)
    assert_same_bits(card.coef_.get(), more.coef_)
    held = cupy.asarray(X[:50]), cupy.asarray(y[:50])
    stopped = fr.models.LogisticRegression(epochs=3).fit(cupy.asarray(X), cupy.asarray(y), eval_set=held)
    expected = fr.models.LogisticRegression(epochs=3).fit(X, y, eval_set=(X[:50], y[:50]))
    assert stopped.validation_curve_ == expected.validation_curve_


def test_arrays_of_two_devices(cupy: fake_cupy.Fake) -> None:
    X, y, weight = problem()
    there = cupy.asarray(X), cupy.asarray(y)
    model = fr.models.LogisticRegression(epochs=1)
    with pytest.raises(TypeError, match="`X` on cuda:0, `y` on cpu"):
        model.fit(there[0], y)
    with pytest.raises(TypeError, match="`sample_weight` on cpu"):
        model.fit(*there, weight)
    with pytest.raises(TypeError, match="`X` on cuda:0, `eval_set` on cpu"):
        model.fit(*there, eval_set=(X, y))
    card, host = copy.copy(model).fit(*there), copy.copy(model).fit(X, y)
    for name in ("predict", "predict_proba", "sample_logits"):
        with pytest.raises(TypeError, match=r"is on cuda:0 and `X` on cpu; `model.to\('cpu'\)`"):
            getattr(card, name)(X)
        with pytest.raises(TypeError, match=r"is on cpu and `X` on cuda:0; `model.to\('cuda:0'\)`"):
            getattr(host, name)(there[0])
    with pytest.raises(TypeError, match="is on cuda:0 and `X` on cpu"):
        card.partial_fit(X, y)
    with pytest.raises(TypeError, match="is on cpu and `X` on cuda:0"):
        host.partial_fit(*there)
    with pytest.raises(TypeError, match="all arrays must be on one device"):
        fr.importance(card, there[0], y)
    with pytest.raises(TypeError, match="`scores` on cuda:0, `y` on cpu"):
        fr.select(there[0][:, 0], n=3, y=y)
    cupy.devices = 2
    with cupy.cuda.Device(1):
        other = cupy.asarray(X)
    with pytest.raises(TypeError, match="is on cuda:0 and `X` on cuda:1"):
        card.predict(other)
    second = host.to(1)
    assert_same_bits(second.predict_proba(other).get(), host.predict_proba(X))


def test_a_card_that_is_not_the_current_one(cupy: fake_cupy.Fake) -> None:
    """The fake refuses arrays of two devices that meet, as temporaries made on the current one would."""
    cupy.devices = 2
    X, y, weight = problem(120, 5)
    sparse = csr_matrix(np.where(X > 0.3, X, 0))
    with cupy.cuda.Device(1):
        there = [cupy.asarray(a) for a in (X, y, weight)]
        csr = Csr(cupy, sparse)
    for samples, form in ((there[0], X), (csr, sparse)):
        for settings in ({}, {"early_stopping": True, "validation_fraction": 0.3}, {"solver": "sgd"}):
            model = fr.models.LogisticRegression(epochs=2, **settings).fit(form, y, weight)
            card = fr.models.LogisticRegression(epochs=2, **settings).fit(samples, *there[1:])
            assert card.coef_.device.id == 1
            assert_same_bits(card.coef_.get(), model.coef_)
        assert_same_bits(card.predict_proba(samples).get(), model.predict_proba(form))
        assert_same_bits(card.predict_log_proba(samples).get(), model.predict_log_proba(form))
        assert_same_bits(card.predict(samples).get(), model.predict(form))
        card.partial_fit(samples, there[1])
        for method in SCORES:
            got = fr.importance(card, samples, there[1], method, sample_weight=there[2])
            assert got.device.id == 1
    for strategy in ("stratified", "sample", "top", "random"):
        kept = fr.select(there[2], n=9, strategy=strategy, y=there[1])
        assert kept.index.device.id == kept.mask.device.id == 1
    metrics = ["auc", "logloss", "ece"]
    p = weight / 1.2
    with cupy.cuda.Device(1):
        there_p = cupy.asarray(p)
    expected = fr.evaluate_clicks(y, p, weights=weight, metrics=metrics)
    got = fr.evaluate_clicks(there[1], there_p, weights=there[2], metrics=metrics)
    np.testing.assert_allclose(list(got.values), list(expected.values), rtol=1e-12)


def test_errors(cupy: fake_cupy.Fake) -> None:
    X, y, _ = problem(40, 3)
    there = cupy.asarray(X)
    model = fr.models.LogisticRegression(epochs=1)
    for labels, kind, message in (
        (np.zeros(40, int), ValueError, "got one class only: 0"),
        (np.arange(40), ValueError, r"at least three: 0, 39, 1"),
        (np.where(y > 0, 1.0, np.nan), ValueError, "`y` must hold two classes; got a NaN"),
        (y[:9], ValueError, r"`y` must have shape \(40,\)"),
        (y + 0j, TypeError, "`y` must hold numbers on a card; got dtype complex128"),
    ):
        with pytest.raises(kind, match=message):
            model.fit(there, cupy.asarray(labels))
    wrong = X.copy()
    wrong[7, 1] = np.inf
    with pytest.raises(ValueError, match="`X` must hold finite numbers; row 7 holds a NaN or an infinity"):
        model.fit(cupy.asarray(wrong), cupy.asarray(y))
    model.fit(there, cupy.asarray(y))
    with pytest.raises(ValueError, match="row 7 holds a NaN or an infinity"):
        model.predict(cupy.asarray(wrong))
    with pytest.raises(ValueError, match=r"`X` must have shape \(n, 3\) to match the model; got \(40, 2\)"):
        model.predict(there[:, :2])
    with pytest.raises(ValueError, match=r"the model's classes .*0.* and .*1.*; got 7 in row 39"):
        fr.importance(model, there, cupy.asarray(np.append(y[:-1], 7)))
    with pytest.raises(ValueError, match=r"must be finite and not negative; got -1.0 in row 0"):
        fr.importance(model, there, cupy.asarray(y), sample_weight=cupy.asarray(np.full(40, -1.0)))
    with pytest.raises(ValueError, match="`scores` must not be NaN; the first NaN is in row 2"):
        fr.select(cupy.asarray(np.array([1.0, 2.0, np.nan])), n=1, strategy="top")
    texts = fr.models.LogisticRegression(epochs=1).fit(X, np.array(["a", "b"])[y]).to("cuda")
    with pytest.raises(TypeError, match=r"labels are numbers, and the model's classes are .*'a'.* and .*'b'"):
        fr.importance(texts, there, cupy.asarray(y))
