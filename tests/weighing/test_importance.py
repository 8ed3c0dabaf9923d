"""``fr.importance``: per-sample gradient norms and kin, against gradients built one by one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.sparse import coo_array, csr_array, csr_matrix
from subprocesses import USABLE_ISAS, output_of

import fastrec as fr
from fastrec.weighing import SCORES, LogitModel


def linear(
    coef: Any, intercept: float = 0.0, classes: Any = (0, 1), fit_intercept: bool = True
) -> SimpleNamespace:
    return SimpleNamespace(
        coef_=np.atleast_2d(coef),
        intercept_=np.array([intercept]),
        classes_=np.array(classes),
        fit_intercept=fit_intercept,
    )


def problem(rows: int = 41, columns: int = 19, seed: int = 0) -> tuple[Any, Any, Any, Any]:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((rows, columns))
    y = rng.integers(0, 2, rows)
    return linear(rng.standard_normal(columns), 0.3), X, y, rng.random(rows) + 0.5


def loss_of(theta: Any, x: Any, y: int) -> float:
    return float(np.logaddexp(0.0, -(2 * y - 1) * (x @ theta[:-1] + theta[-1])))


def test_the_gradient_norm_is_that_of_finite_differences() -> None:
    model, X, y, weight = problem()
    theta = np.append(model.coef_, model.intercept_)
    step = 1e-6
    norms = []
    for x, label, w in zip(X, y, weight):
        gradient = [
            w * (loss_of(theta + step * e, x, label) - loss_of(theta - step * e, x, label)) / (2 * step)
            for e in np.eye(len(theta))
        ]
        norms.append(np.linalg.norm(gradient))
    np.testing.assert_allclose(
        fr.importance(model, X, y, sample_weight=weight), np.float32(norms), rtol=1e-6, atol=1e-8
    )


def test_the_gradient_norm_is_that_of_autograd() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: no autograd to compare with")
    model, X, y, weight = problem()
    norms, losses = [], []
    for x, label, w in zip(X, y, weight):
        coef = torch.tensor(model.coef_[0], requires_grad=True)
        intercept = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
        logit = torch.tensor(x) @ coef + intercept
        loss = w * torch.nn.functional.binary_cross_entropy_with_logits(
            logit, torch.tensor(float(label)).double()
        )
        loss.backward()
        norms.append(float((coef.grad.square().sum() + intercept.grad.square()).sqrt()))
        losses.append(float(loss.detach()))
    for name, expected in (("grad_norm", norms), ("grad_norm_last", norms), ("loss", losses)):
        got = fr.importance(model, X, y, name, sample_weight=weight)
        np.testing.assert_allclose(got, np.float32(expected), rtol=2e-7, err_msg=name)


def test_every_method_is_its_formula() -> None:
    model, X, y, w = problem()
    z = X @ model.coef_[0] + 0.3
    p, t = 1 / (1 + np.exp(-z)), 2 * y - 1
    norm = np.sqrt((X**2).sum(axis=1) + 1)
    expected = {
        "grad_norm": w * abs(p - y) * norm,
        "grad_norm_last": w * abs(p - y) * norm,
        "loss": w * np.log1p(np.exp(-t * z)),
        "error": w * abs(p - y),
        "el2n": w * np.sqrt((p - y) ** 2 + ((1 - p) - (1 - y)) ** 2),
        "confidence": 1 - np.where(y == 1, p, 1 - p),
        "margin": -t * z,
        "uncertainty": 1 - abs(2 * p - 1),
        "input_norm": norm,
    }
    assert set(expected) == set(SCORES)
    for name, values in expected.items():
        got = fr.importance(model, X, y, name, sample_weight=w)
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, values, rtol=1e-6, atol=1e-7, err_msg=name)


def test_the_binary_scores_rank_alike() -> None:
    model, X, y, _ = problem(500)
    order = np.argsort(fr.importance(model, X, y, "margin"), kind="stable")
    for name in ("loss", "error", "el2n", "confidence"):
        assert (np.diff(fr.importance(model, X, y, name)[order]) >= 0).all(), name


def test_nothing_cancels_far_out() -> None:
    z = np.array([-700.0, -100, -40, -17, 17, 40, 100, 700])
    model, X = linear([1.0]), z[:, None]
    right = (z > 0).astype(int)
    with np.errstate(under="ignore"):
        expected = np.exp(-abs(z)).astype(np.float32)
    np.testing.assert_allclose(fr.importance(model, X, right, "error"), expected, rtol=1e-6)
    np.testing.assert_allclose(fr.importance(model, X, right, "loss"), expected, rtol=1e-6)
    np.testing.assert_allclose(fr.importance(model, X, 1 - right, "loss"), abs(z), rtol=1e-6)
    np.testing.assert_allclose(
        fr.importance(model, X, 1 - right, "error"), 1 / (1 + np.exp(-abs(z))), rtol=1e-7
    )
    huge = fr.importance(model, np.array([[1e300], [-1e300]]), [1, 1], "loss")
    np.testing.assert_array_equal(huge, np.float32([0.0, np.inf]))


def test_an_intercept_counts_only_if_it_was_fitted() -> None:
    X, y = np.array([[3.0, 4.0]]), [1]
    assert fr.importance(linear([0.0, 0.0]), X, y)[0] == np.float32(0.5 * np.sqrt(26))
    assert fr.importance(linear([0.0, 0.0], fit_intercept=False), X, y)[0] == np.float32(2.5)


@pytest.mark.parametrize("method", sorted(SCORES))
@pytest.mark.parametrize("columns", [1, 7, 8, 9, 64, 129])
def test_sparse_equals_dense(method: str, columns: int) -> None:
    rng = np.random.default_rng(columns)
    dense = np.where(rng.random((33, columns)) < 0.3, rng.standard_normal((33, columns)), 0)
    model = linear(rng.standard_normal(columns), -0.2)
    y = rng.integers(0, 2, 33)
    expected = fr.importance(model, dense, y, method)
    messy = csr_matrix(coo_array(dense))
    messy.indices = messy.indices.copy()
    for row in range(33):  # unsorted columns
        part = slice(messy.indptr[row], messy.indptr[row + 1])
        messy.indices[part], messy.data[part] = (
            messy.indices[part][::-1].copy(),
            messy.data[part][::-1].copy(),
        )
    messy.has_sorted_indices = False
    for form in (csr_array(dense), csr_matrix(dense).tocsc(), coo_array(dense), messy):
        np.testing.assert_allclose(fr.importance(model, form, y, method), expected, rtol=1e-6)


def test_repeated_entries_of_a_row_are_added_before_they_are_squared() -> None:
    X = csr_matrix((np.array([1.0, 2.0]), np.array([1, 1]), np.array([0, 2])), shape=(1, 3))
    before = X.data.copy()
    assert fr.importance(linear([0.0, 0.0, 0.0]), X, [0], "input_norm")[0] == np.float32(np.sqrt(10))
    np.testing.assert_array_equal(X.data, before)


def test_weights_multiply_the_gradient_and_the_loss_but_not_the_margin() -> None:
    model, X, y, _ = problem()
    for name, score in SCORES.items():
        plain, doubled = (
            fr.importance(model, X, y, name, sample_weight=w) for w in (None, np.full(len(y), 2))
        )
        np.testing.assert_array_equal(doubled, 2 * plain if score.weights else plain, err_msg=name)
    assert (fr.importance(model, X, y, sample_weight=np.zeros(len(y))) == 0).all()


def test_inputs_of_many_kinds() -> None:
    pd = pytest.importorskip("pandas")
    pl = pytest.importorskip("polars", reason="polars is not installed")
    model, X, y, w = problem(20, 3)
    expected = fr.importance(model, X, y, sample_weight=w)
    frame = pd.DataFrame(X, columns=list("abc"))
    read_only = np.asfortranarray(X)
    read_only.flags.writeable = False
    for form in (frame, pl.from_pandas(frame), X.tolist(), read_only, np.repeat(X, 2, axis=1)[:, ::2]):
        for labels in (
            y,
            y.tolist(),
            pd.Series(y),
            pl.Series(y),
            y.astype(float),
            y.astype(bool),
            y[:, None],
        ):
            np.testing.assert_array_equal(fr.importance(model, form, labels, sample_weight=w), expected)
    whole = np.arange(-6, 6).reshape(4, 3)
    for dtype in (np.int8, np.int32, np.float16, np.float32):
        got = fr.importance(model, whole.astype(dtype), [0, 1, 0, 1])
        np.testing.assert_array_equal(got, fr.importance(model, whole.astype(float), [0, 1, 0, 1]))


def test_labels_of_any_kind() -> None:
    _, X, y, _ = problem(20, 3)
    expected = fr.importance(linear([1.0, 2.0, 3.0]), X, y)
    for classes in (["no", "yes"], [-1, 1], [False, True], [2.5, 3.5]):
        labels = np.array(classes)[y]
        model = linear([1.0, 2.0, 3.0], classes=classes)
        np.testing.assert_array_equal(fr.importance(model, X, labels), expected)
        np.testing.assert_array_equal(fr.importance(model, X, labels.astype(object)), expected)


def test_scikit_learns_linear_classifiers_are_understood() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    _, X, y, _ = problem(60, 4)
    for model in (
        linear_model.LogisticRegression(),
        linear_model.SGDClassifier(loss="log_loss", random_state=0),
    ):
        model.fit(X, y)
        r = 1 / (1 + np.exp(-model.decision_function(X))) - y
        expected = abs(r) * np.sqrt((X**2).sum(axis=1) + 1)
        np.testing.assert_allclose(fr.importance(model, X, y), expected, rtol=1e-6, atol=1e-15)
    bare = linear_model.LogisticRegression(fit_intercept=False).fit(X, y)
    r = 1 / (1 + np.exp(-bare.decision_function(X))) - y
    np.testing.assert_allclose(fr.importance(bare, X, y), abs(r) * np.linalg.norm(X, axis=1), rtol=1e-6)


def test_any_model_that_follows_the_protocol_is_understood() -> None:
    class Product:
        """z = a b x with two parameters: dz/d(a, b) = (b x, a x)."""

        classes_ = np.array([0, 1])
        a, b = 2.0, -1.0

        def sample_logits(self, X: Any, *, jacobian: Any = None, threads: Any = None) -> Any:
            x = np.asarray(X, float)[:, 0]
            squares = {None: None, "full": (self.a**2 + self.b**2) * x**2, "last": self.a**2 * x**2}
            return self.a * self.b * x, squares[jacobian]

    model, X, y = Product(), np.array([[0.5], [-1.0]]), [1, 0]
    assert isinstance(model, LogitModel)
    r = 1 / (1 + np.exp(2.0 * X[:, 0])) - y
    np.testing.assert_allclose(fr.importance(model, X, y), abs(r) * np.sqrt(5) * abs(X[:, 0]), rtol=1e-6)
    last = fr.importance(model, X, y, "grad_norm_last")
    np.testing.assert_allclose(last, abs(r) * 2 * abs(X[:, 0]), rtol=1e-6)


def test_no_samples() -> None:
    for name in SCORES:
        got = fr.importance(linear([1.0, 2.0]), np.zeros((0, 2)), np.zeros(0, int), name)
        assert got.shape == (0,)
        assert got.dtype == np.float32


def test_errors() -> None:
    model, X, y, _ = problem(5, 3)
    with pytest.raises(ValueError, match=r"`X` must have shape \(n, 3\) to match the model; got \(5, 2\)"):
        fr.importance(model, X[:, :2], y)
    with pytest.raises(ValueError, match=r"`X` must have shape \(n, 3\) to match the model; got \(5, 2\)"):
        fr.importance(model, csr_array(X[:, :2]), y)
    with pytest.raises(ValueError, match=r"`y` must have shape \(5,\)"):
        fr.importance(model, X, y[:4])
    with pytest.raises(
        ValueError, match=r"must hold the model's classes .*0.* and .*1.*; got .*7.* in row 2"
    ):
        fr.importance(model, X, [0, 1, 7, 0, 1])
    with pytest.raises(ValueError, match=r"got .*'a'.* in row 0"):
        fr.importance(model, X, list("abcde"))
    with pytest.raises(ValueError, match="'grad_norm' needs the labels"):
        fr.importance(model, X)
    with pytest.raises(ValueError, match="Did you mean 'grad_norm'"):
        fr.importance(model, X, y, "gradnorm")
    with pytest.raises(
        ValueError, match=r"`sample_weight` must be finite and not negative; got -1.0 in row 4"
    ):
        fr.importance(model, X, y, sample_weight=[1, 1, 1, 1, -1])
    holed = X.copy()
    holed[3, 1] = np.nan
    for form in (holed, csr_array(holed)):
        with pytest.raises(ValueError, match="the score of row 3 is NaN"):
            fr.importance(model, form, y)
    with pytest.raises(TypeError, match=r"`model` must have `classes_`"):
        fr.importance(object(), X, y)
    with pytest.raises(ValueError, match=r"binary classifier with one logit; .* has 3 classes"):
        fr.importance(linear(np.eye(3), classes=[0, 1, 2]), X, y)
    damaged = csr_array(X)
    damaged.indices[0] = 99
    with pytest.raises(ValueError, match=r"`X.indices` must lie in 0..2"):
        fr.importance(model, damaged, y)
    sklearn = pytest.importorskip("sklearn.linear_model")
    for unfitted in (sklearn.LogisticRegression(), sklearn.LinearRegression()):
        with pytest.raises(TypeError, match="must be a fitted binary classifier"):
            fr.importance(unfitted, X, y)


def test_the_bits_depend_on_neither_threads_nor_instruction_set() -> None:
    code = """
        import hashlib, types, numpy as np, fastrec as fr
        from scipy.sparse import csr_array
        rng = np.random.default_rng(1)
        X = rng.standard_normal((3001, 37)).astype(np.float32)
        model = types.SimpleNamespace(coef_=rng.standard_normal((1, 37)), intercept_=np.zeros(1), classes_=np.arange(2))
        y = rng.integers(0, 2, 3001)
        for form in (X, csr_array(np.where(X > 0.5, X, 0))):
            for method in fr.weighing.SCORES:
                found = {fr.importance(model, form, y, method, threads=t).tobytes() for t in (1, 2, 3)}
                assert len(found) == 1
                print(method, hashlib.sha256(*found).hexdigest())
    """
    assert len({output_of(code, FASTREC_ISA=name) for name in USABLE_ISAS}) == 1
