"""On a card: weighing, selecting and fitting with the bits of the CPU.  ``pytest -m gpu`` runs them all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from operations import assert_same_bits
from scipy.sparse import csr_matrix

import fastrec as fr
from fastrec.weighing import SCORES

pytestmark = pytest.mark.gpu


def problem(rows: int, columns: int, dtype: Any) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(rows)
    X = rng.standard_normal((rows, columns)).astype(dtype)
    y = (X @ rng.standard_normal(columns) + rng.standard_normal(rows) > 0).astype(np.int64)
    return X, y, rng.random(rows) + 0.1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_score_and_selection(cupy: Any, dtype: Any) -> None:
    from cupyx.scipy import sparse

    for columns in (1, 9, 64, 300):
        X, y, weight = problem(20_000, columns, dtype)
        model = fr.models.LogisticRegression(epochs=2).fit(X, y)
        card, holed = model.to("cuda"), csr_matrix(np.where(X > 0.5, X, 0))
        for here, there in ((X, cupy.asarray(X)), (holed, sparse.csr_matrix(holed))):
            for method in SCORES:
                expected = fr.importance(model, here, y, method, sample_weight=weight)
                got = fr.importance(card, there, cupy.asarray(y), method, sample_weight=cupy.asarray(weight))
                assert_same_bits(got.get(), expected, method)
    for strategy in ("stratified", "sample", "top", "bottom", "random", "stratified_random"):
        scores = np.abs(expected)
        kept = fr.select(scores, 0.1, strategy=strategy, y=y, seed=3)
        there = fr.select(cupy.asarray(scores), 0.1, strategy=strategy, y=cupy.asarray(y), seed=3)
        assert_same_bits((there.index.get(), there.weight.get()), (kept.index, kept.weight), strategy)


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("sparse", [False, True])
def test_a_fit(cupy: Any, solver: str, sparse: bool) -> None:
    from cupyx.scipy.sparse import csr_matrix as there_csr

    X, y, weight = problem(30_000, 70, np.float32)
    there = cupy.asarray(X)
    if sparse:
        X = csr_matrix(np.where(X > 1, X, 0))
        there = there_csr(X)
    settings = {"solver": solver, "epochs": 3, "l2": 1e-3, "early_stopping": solver == "adam"}
    model = fr.models.LogisticRegression(**settings).fit(X, y, weight)
    card = fr.models.LogisticRegression(**settings).fit(there, cupy.asarray(y), cupy.asarray(weight))
    assert_same_bits(card.coef_.get(), model.coef_)
    assert card.loss_curve_ == model.loss_curve_
    assert_same_bits(card.predict_proba(there).get(), model.predict_proba(X))


def test_torch(cupy: Any, torch: Any) -> None:
    X, y, _ = problem(5000, 20, np.float32)
    with torch.cuda.stream(torch.cuda.Stream()):
        there = torch.tensor(X, device="cuda"), torch.tensor(y, device="cuda")
        card = fr.models.LogisticRegression(epochs=2).fit(*there)
        scores = torch.from_dlpack(fr.importance(card, *there)).cpu().numpy()
    model = fr.models.LogisticRegression(epochs=2).fit(X, y)
    assert_same_bits(scores, fr.importance(model, X, y))
