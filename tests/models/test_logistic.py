"""``fr.models.LogisticRegression``: its optimum, its steps, its conventions."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.sparse import csr_array, csr_matrix
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks
from subprocesses import USABLE_ISAS, output_of

import fastrec as fr
from fastrec.models import LogisticRegression
from fastrec.models.logistic import _auc, logistic_epoch


def data(rows: int = 300, columns: int = 6, seed: int = 0, density: float = 1.0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    X = np.where(rng.random((rows, columns)) < density, rng.standard_normal((rows, columns)), 0)
    z = X @ rng.standard_normal(columns) + 0.4
    return X, (rng.random(rows) < 1 / (1 + np.exp(-z))).astype(int)


def objective(theta: Any, X: Any, y: Any, l2: float, weight: Any = None) -> float:
    losses = np.logaddexp(0, -(2 * y - 1) * (X @ theta[:-1] + theta[-1]))
    return float(np.average(losses, weights=weight) + l2 / 2 * theta[:-1] @ theta[:-1])


def optimum(X: Any, y: Any, l2: float, weight: Any = None) -> Any:
    return minimize(objective, np.zeros(X.shape[1] + 1), (X, y, l2, weight), tol=1e-12, method="BFGS",
                    options={"gtol": 1e-7}).x  # fmt: skip


def theta_of(model: Any) -> Any:
    return np.append(model.coef_[0], model.intercept_)


@parametrize_with_checks([LogisticRegression(), LogisticRegression("lbfgs"), LogisticRegression("sgd")])
def test_scikit_learns_conventions(estimator: Any, check: Any) -> None:
    check(estimator)


# ---- the minimum


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("form", [np.asarray, csr_array, csr_matrix])
@pytest.mark.parametrize("l2", [1e-4, 0.1])
def test_lbfgs_finds_the_minimum_of_the_stated_objective(l2: float, form: Any, dtype: Any) -> None:
    X, y = data(density=0.5)
    X = X.astype(dtype)
    weight = np.random.default_rng(1).random(len(y)) + 0.1
    model = LogisticRegression("lbfgs", l2=l2, tol=1e-9).fit(form(X), y, weight)
    np.testing.assert_allclose(theta_of(model), optimum(X.astype(float), y, l2, weight), atol=2e-6)


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_lbfgs_agrees_with_scikit_learn(fit_intercept: bool) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    X, y = data()
    weight = np.random.default_rng(2).random(len(y))
    l2 = 0.01
    ours = LogisticRegression("lbfgs", l2=l2, tol=1e-10, fit_intercept=fit_intercept).fit(X, y, weight)
    theirs = linear_model.LogisticRegression(
        C=1 / (l2 * weight.sum()), tol=1e-10, fit_intercept=fit_intercept, max_iter=1000
    ).fit(X, y, weight)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-6)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, atol=1e-6)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-6)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize("form", [np.asarray, csr_array])
def test_batches_come_close_to_the_minimum(solver: str, form: Any) -> None:
    """Columns of unequal density: wrong shares of the penalty would move the minimum that CSR seeks."""
    rng = np.random.default_rng(5)
    X, y = data(1000, 6)
    X = np.where(rng.random(X.shape) < [1.0, 0.5, 0.3, 0.2, 0.1, 0.05], X, 0)
    weight = rng.random(len(y)) + 0.5
    l2 = 0.05
    best = optimum(X, y, l2, weight)
    model = LogisticRegression(solver, l2=l2, epochs=400, batch_size=50).fit(form(X), y, weight)
    np.testing.assert_allclose(theta_of(model), best, atol=3e-3)
    assert objective(theta_of(model), X, y, l2, weight) - objective(best, X, y, l2, weight) < 1e-6


def test_full_batches_reach_the_minimum_to_many_digits() -> None:
    X, y = data(200, 4)
    best = optimum(X, y, 0.1)
    for solver, rate in (("sgd", 0.5), ("adam", 0.02)):
        model = LogisticRegression(
            solver, l2=0.1, learning_rate=rate, schedule="constant", epochs=3000, batch_size=200
        )
        np.testing.assert_allclose(theta_of(model.fit(X, y)), best, atol=1e-6)


# ---- the steps


def test_adam_takes_the_steps_of_torch() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: no Adam to compare with")
    X, y = data(120, 5)
    t = (2 * y - 1).astype(np.int8)
    theta = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([theta], lr=0.05)
    for part in np.array_split(np.arange(120), 5):
        adam.zero_grad()
        margin = torch.tensor(t[part].astype(float)) * (torch.tensor(X[part]) @ theta[:-1] + theta[-1])
        loss = torch.nn.functional.softplus(-margin).mean() + 0.15 * theta[:-1].square().sum()
        loss.backward()
        adam.step()
    _, got, _, _ = logistic_epoch(X, t, np.zeros(6), l2=0.3, batch_size=24, rate=0.05)
    np.testing.assert_allclose(got, theta.detach().numpy(), rtol=1e-9, atol=1e-12)


def test_a_column_that_a_batch_does_not_hold_waits() -> None:
    X = csr_array(np.array([[1.0, 0.0], [0.0, 2.0]]))
    parts = {"indptr": X.indptr.astype(np.int64), "indices": X.indices.astype(np.int32)}
    for solver in ("sgd", "adam"):
        _, theta, first, _ = logistic_epoch(
            X.data, [1, -1], [3.0, 5.0, 0.0], order=[0, 1], batch_size=1, solver=solver, rate=0.0, **parts
        )
        assert theta.tolist() == [3.0, 5.0, 0.0]
        _, theta, first, _ = logistic_epoch(
            X.data[:1], [1], [3.0, 5.0, 0.0], solver=solver, l2=0.5, indptr=[0, 1], indices=[0]
        )
        assert theta[0] != 3.0
        assert theta[1] == 5.0
        assert first[1] == 0.0


def test_the_bits_depend_on_neither_threads_nor_instruction_set() -> None:
    code = """
        import hashlib, numpy as np
        from fastrec.models import LogisticRegression
        from scipy.sparse import csr_array
        rng = np.random.default_rng(1)
        X = rng.standard_normal((6007, 37)).astype(np.float32)
        y = rng.integers(0, 2, 6007)
        for form in (X, csr_array(np.where(X > 0.5, X, 0))):
            for solver in ("adam", "sgd", "lbfgs"):
                found = set()
                for threads in (1, 2, 3):
                    model = LogisticRegression(solver, l2=1e-3, epochs=2, batch_size=6007 if solver == "adam" else 500,
                                               max_iter=7, tol=0.0, threads=threads)
                    with __import__("warnings").catch_warnings(action="ignore"):
                        model.fit(form, y, y + 0.5)
                    found.add(model.coef_.tobytes() + model.intercept_.tobytes())
                assert len(found) == 1
                print(solver, hashlib.sha256(*found).hexdigest())
    """
    assert len({output_of(code, FASTREC_ISA=name) for name in USABLE_ISAS}) == 1


# ---- weights, labels, state


def test_weights_are_repetitions() -> None:
    X, y = data(100, 3)
    times = np.random.default_rng(0).integers(0, 4, 100)
    weighted = LogisticRegression("lbfgs", l2=0.1, tol=1e-10).fit(X, y, times)
    repeated = LogisticRegression("lbfgs", l2=0.1, tol=1e-10).fit(
        np.repeat(X, times, axis=0), np.repeat(y, times)
    )
    np.testing.assert_allclose(theta_of(weighted), theta_of(repeated), atol=1e-7)
    for solver in ("adam", "sgd"):  # only the ratio of weights counts
        one, other = (LogisticRegression(solver).fit(X, y, np.full(100, w)) for w in (1.0, 1000.0))
        np.testing.assert_allclose(theta_of(one), theta_of(other), rtol=1e-9)


@pytest.mark.parametrize("classes", [["no", "yes"], [-1, 1], [False, True], [0.0, 1.0], [7, 3]])
def test_labels_of_any_kind(classes: Any) -> None:
    X, y = data()
    labels = np.array(classes)[y]
    for given in (labels, labels.tolist(), labels.astype(object) if isinstance(classes[0], str) else labels):
        model = LogisticRegression().fit(X, given)
        assert model.classes_.tolist() == sorted(classes)
        assert set(model.predict(X)) <= set(classes)
        assert model.score(X, given) > 0.7
        assert (model.predict(X) == model.classes_[(model.decision_function(X) > 0).astype(int)]).all()


def test_probabilities_are_accurate_at_both_ends() -> None:
    model = LogisticRegression("lbfgs").fit([[0.0], [1.0]], [0, 1])
    model.coef_, model.intercept_ = np.array([[1.0]]), np.array([0.0])
    z = np.array([-700.0, -50, -1, 0, 1, 50, 700])
    p = model.predict_proba(z[:, None])
    np.testing.assert_allclose(p[:, 1], np.exp(-np.logaddexp(0, -z)), rtol=1e-14)
    np.testing.assert_allclose(p[:, 0], np.exp(-np.logaddexp(0, z)), rtol=1e-14)
    np.testing.assert_allclose(model.predict_log_proba(z[:, None])[:, 1], -np.logaddexp(0, -z), rtol=1e-14)


def test_partial_fit_continues_and_is_the_same_as_epochs_of_fit() -> None:
    X, y = data()
    settings: dict[str, Any] = {"schedule": "constant", "learning_rate": 0.05, "batch_size": 50}
    whole = LogisticRegression(epochs=4, **settings).fit(X, y)
    parts = LogisticRegression(**settings)
    for call in range(4):
        parts.partial_fit(X, y, classes=[0, 1])
        if call == 1:
            parts = pickle.loads(pickle.dumps(parts))
    np.testing.assert_array_equal(parts.coef_, whole.coef_)
    assert parts.n_iter_ == whole.n_iter_ == 4
    assert parts.loss_curve_ == whole.loss_curve_
    one_class = LogisticRegression().partial_fit(X[:5], np.ones(5), classes=[0, 1])
    assert one_class.predict_proba(X).shape == (300, 2)
    with pytest.raises(ValueError, match="needs `classes`"):
        LogisticRegression().partial_fit(X, y)
    with pytest.raises(ValueError, match="must hold the two labels; got 3"):
        LogisticRegression().partial_fit(X, y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="must be those of the first call"):
        parts.partial_fit(X, y, classes=[1, 2])
    assert not hasattr(LogisticRegression("lbfgs"), "partial_fit")


def test_warm_start_goes_on_from_the_last_fit() -> None:
    X, y = data()
    cold = LogisticRegression("lbfgs", tol=1e-8)
    cold.fit(X, y)
    warm = LogisticRegression("lbfgs", tol=1e-8, warm_start=True).fit(X, y).fit(X, y)
    assert warm.n_iter_ <= 2 < cold.n_iter_
    adam = LogisticRegression(epochs=2, warm_start=True, learning_rate=1e-9).fit(X, y)
    adam.coef_[:] = 5.0
    np.testing.assert_allclose(adam.fit(X, y).coef_, 5.0, atol=1e-6)


def test_the_same_seed_gives_the_same_bits() -> None:
    X, y = data()
    fits = [theta_of(LogisticRegression(random_state=seed).fit(X, y)).tobytes() for seed in (0, 0, 1)]
    assert fits[0] == fits[1] != fits[2]
    still = [theta_of(LogisticRegression(random_state=s, shuffle=False).fit(X, y)).tobytes() for s in (0, 1)]
    assert still[0] == still[1]


# ---- early stopping


@pytest.mark.parametrize("monitor", ["loss", "auc"])
def test_early_stopping_keeps_the_best_epoch(monitor: str) -> None:
    X, y = data(120, 60, seed=3)  # few samples, many columns: it overfits
    X_new, y_new = data(400, 60, seed=3)
    X_new, y_new = X_new[200:], y_new[200:]
    model = LogisticRegression(
        learning_rate=0.3, epochs=200, monitor=monitor, patience=4, schedule="constant"
    )
    model.fit(X, y, eval_set=(X_new, y_new))
    curve = model.validation_curve_
    assert len(curve) == model.n_iter_ < 200
    best = max(curve) if monitor == "auc" else min(curve)
    assert curve[model.best_iter_ - 1] == best
    z = model.decision_function(X_new)
    losses = np.logaddexp(0, -(2 * y_new - 1) * z)
    now = _auc(z, 2 * y_new - 1, None) if monitor == "auc" else losses.mean()
    assert now == pytest.approx(best, rel=1e-12)


def test_a_part_is_held_out() -> None:
    X, y = data(500)
    for form in (np.asarray, csr_array):
        model = LogisticRegression(early_stopping=True, epochs=300, random_state=3).fit(
            form(X), y, np.ones(500)
        )
        assert len(model.validation_curve_) == model.n_iter_
        assert model.score(X, y) > 0.7
    with pytest.raises(ValueError, match="too few samples"):
        LogisticRegression(early_stopping=True).fit(X[:3], [0, 1, 0])


def test_auc_with_ties_and_weights() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    scores, y, w = rng.integers(0, 9, 200) * 0.5, rng.integers(0, 2, 200), rng.random(200)
    t = (2 * y - 1).astype(np.int8)
    assert _auc(scores, t, None) == pytest.approx(metrics.roc_auc_score(y, scores), rel=1e-12)
    assert _auc(scores, t, w) == pytest.approx(metrics.roc_auc_score(y, scores, sample_weight=w), rel=1e-12)


def test_verbose_writes_a_line_an_epoch(capsys: Any) -> None:
    X, y = data(100)
    LogisticRegression(epochs=3, verbose=True).fit(X, y)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert lines[2].startswith("LogisticRegression: epoch 3/3: loss 0.")
    LogisticRegression(epochs=3).fit(X, y)
    assert capsys.readouterr() == ("", "")


# ---- edges and errors


def test_shapes_at_the_edge() -> None:
    X, y = data(64, 1)
    empty_columns = np.zeros((64, 3))
    for solver in ("adam", "sgd", "lbfgs"):
        for form in (np.asarray, csr_array):
            model = LogisticRegression(solver).fit(form(empty_columns), y)
            assert (model.coef_ == 0).all()
            assert model.fit(form(X), y).coef_.shape == (1, 1)
            assert model.fit(form(X[:2]), [0, 1]).classes_.tolist() == [0, 1]
    wide = csr_array((np.ones(2, np.float32), ([0, 1], [0, 2**20])), shape=(2, 2**20 + 1))
    model = LogisticRegression().fit(wide, [0, 1])
    assert np.count_nonzero(model.coef_) == 2
    large = csr_matrix(X)
    large.indices, large.indptr = large.indices.astype(np.int64), large.indptr.astype(np.int64)
    model.fit(large, y)


def test_errors() -> None:
    X, y = data(30, 3)
    with pytest.raises(ValueError, match=r"Only binary classification is supported.*at least three"):
        LogisticRegression().fit(X, np.arange(30) % 3)
    with pytest.raises(ValueError, match="got one class only"):
        LogisticRegression().fit(X, np.ones(30))
    with pytest.raises(ValueError, match="`sample_weight` must not be all zero"):
        LogisticRegression().fit(X, y, np.zeros(30))
    with pytest.raises(
        ValueError, match=r"`sample_weight` must be finite and not negative; got nan in row 0"
    ):
        LogisticRegression().fit(X, y, np.full(30, np.nan))
    with pytest.raises(TypeError, match=r"`eval_set` must be \(X, y\)"):
        LogisticRegression().fit(X, y, eval_set=X)
    with pytest.raises(NotFittedError):
        LogisticRegression().sample_logits(X)
    for settings, message in [
        ({"solver": "adams"}, "Did you mean 'adam'"),
        ({"l2": -1.0}, "`l2` must be >= 0"),
        ({"epochs": 0}, "`epochs` must be >= 1"),
        ({"batch_size": 0}, "`batch_size` must be >= 1"),
        ({"learning_rate": 0.0}, "`learning_rate` must be above 0"),
        ({"beta_1": 1.0}, "`beta_1` must be below 1"),
        ({"monitor": "accuracy"}, "`monitor` must be one of"),
    ]:
        with pytest.raises(ValueError, match=message):
            LogisticRegression(**settings).fit(X, y)
    with pytest.raises(ValueError, match="the fit diverged at learning_rate"):
        LogisticRegression("sgd", learning_rate=1e300, epochs=9, schedule="constant").fit(X * 1e100, y)
    with pytest.warns(ConvergenceWarning, match="L-BFGS stopped after 1 iteration"):
        LogisticRegression("lbfgs", max_iter=1).fit(X, y)


def test_the_parameters_are_kept_as_given() -> None:
    model = LogisticRegression(l2=0.5, threads=1)
    assert clone(model).get_params() == model.get_params()


# ---- the verbs together, and real data


def test_importance_of_a_fitted_model() -> None:
    X, y = data()
    for form in (np.asarray, csr_array):
        for fit_intercept in (True, False):
            model = LogisticRegression(fit_intercept=fit_intercept).fit(form(X), y)
            r = model.predict_proba(X)[:, 1] - y
            expected = abs(r) * np.sqrt((X**2).sum(axis=1) + fit_intercept)
            np.testing.assert_allclose(fr.importance(model, form(X), y), expected, rtol=1e-6)


def test_fitting_on_a_weighted_sample_estimates_the_full_fit() -> None:
    X, y = data(20_000, 4)
    full = LogisticRegression("lbfgs").fit(X, y)
    scores = fr.importance(full, X, y)
    fits = []
    for seed in range(8):
        kept = fr.select(scores, 0.1, strategy="sample", seed=seed)
        fits.append(theta_of(LogisticRegression("lbfgs").fit(X[kept.index], y[kept.index], kept.weight)))
    np.testing.assert_allclose(np.mean(fits, axis=0), theta_of(full), atol=0.05)
    hardest = fr.select(scores, 0.1, strategy="top")
    biased = theta_of(LogisticRegression("lbfgs").fit(X[hardest.index], y[hardest.index]))
    assert abs(biased - theta_of(full)).max() > 1.0  # what the documentation warns of


FASTREC_DATA = os.environ.get("FASTREC_DATA")


@pytest.mark.skipif(not FASTREC_DATA, reason="FASTREC_DATA does not name the folder of data sets")
def test_real_shopping_sessions() -> None:
    pd = pytest.importorskip("pandas")
    linear_model = pytest.importorskip("sklearn.linear_model")
    frame = pd.read_parquet(Path(str(FASTREC_DATA), "ctr_like", "online_shoppers.parquet"))
    y = frame.pop("Revenue").to_numpy().astype(int)
    frame = pd.get_dummies(frame).astype(float)
    X = ((frame - frame.mean()) / frame.std().replace(0, 1)).to_numpy()
    l2 = 1e-3
    exact = LogisticRegression("lbfgs", l2=l2).fit(X, y)
    theirs = linear_model.LogisticRegression(C=1 / (l2 * len(y)), tol=1e-8, max_iter=2000).fit(X, y)
    np.testing.assert_allclose(exact.predict_proba(X), theirs.predict_proba(X), atol=1e-4)
    adam = LogisticRegression(l2=l2, early_stopping=True, monitor="auc").fit(X, y)
    t = (2 * y - 1).astype(np.int8)
    assert _auc(adam.decision_function(X), t, None) > _auc(exact.decision_function(X), t, None) - 0.005
    kept = fr.select(fr.importance(adam, X, y), 0.2, y=y)
    assert y[kept.index].mean() == pytest.approx(y.mean(), abs=1e-3)
