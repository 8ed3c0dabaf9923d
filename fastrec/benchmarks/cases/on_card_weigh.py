"""Cases of ``fastrec bench --device cuda`` for weighing and training; see bench/results/gpu.md.

Large inputs are a block that is made and checked on the CPU, repeated on the card.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import fastrec as fr
from fastrec.benchmarks.card import Card, Case, Contender, card_case
from fastrec.benchmarks.harness import OURS, Verdict


def _block(card: Card, number: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    rng = card.rng(number)
    X = rng.standard_normal((rows, 64), np.float32)
    return X, (X[:, 0] + rng.standard_normal(rows) > 0).astype(np.int64)


def _bits(got: np.ndarray, expected: np.ndarray) -> Verdict:
    same = np.array_equal(got, expected)
    return Verdict(same, "the CPU's bits" if same else "differs")


@card_case("weigh/grad-norm", "gradient norms of a logistic model, d = 64")
def grad_norm(card: Card) -> Case:
    xp = card.xp
    block, times = card.size((500, 2), (100_000, 10), (100_000, 100))
    X, y = _block(card, 31, block)
    model = fr.models.LogisticRegression(epochs=1).fit(X, y)
    expected = fr.importance(model, X, y)
    there, there_X, there_y = (
        model.to("cuda"),
        xp.tile(xp.asarray(X), (times, 1)),
        xp.tile(xp.asarray(y), times),
    )
    weights, intercept = xp.asarray(model.coef_[0].astype(np.float32)), float(model.intercept_[0])

    def textbook() -> Any:  # the same formula in float32, by cuBLAS and elementwise kernels
        z = there_X @ weights + intercept
        return xp.abs(1 / (1 + xp.exp(-z)) - there_y) * xp.sqrt((there_X * there_X).sum(axis=1) + 1)

    def near(got: Any) -> Verdict:
        same = np.allclose(got[:block].get(), expected, rtol=1e-3, atol=1e-5)
        return Verdict(bool(same), "values to 1e-3" if same else "differs")

    contenders = [
        Contender(
            OURS, lambda: fr.importance(there, there_X, there_y), lambda got: _bits(got[:block].get(), expected)
        ),
        Contender("CuPy, float32", textbook, near),
    ]  # fmt: skip
    rows = block * times
    return Case(f"{rows:,} x 64", contenders, count=rows, unit="samples", bytes=268.0 * rows,
                goal="10 M: 1.9 ms")  # fmt: skip


@card_case("weigh/select", "the 10% with the largest scores within each of two classes")
def select(card: Card) -> Case:
    rows = card.size(2000, 1_000_000, 100_000_000)
    rng = card.rng(32)
    scores, y = rng.random(rows, np.float32), rng.integers(0, 2, rows).astype(np.int32)
    expected = fr.select(scores, 0.1, y=y).index
    there, there_y = card.xp.asarray(scores), card.xp.asarray(y)
    ours = Contender(
        OURS, lambda: fr.select(there, 0.1, y=there_y), lambda kept: _bits(kept.index.get(), expected)
    )
    return Case(f"{rows:,} rows", [ours], count=rows, unit="rows", bytes=8.0 * rows, goal="100 M: 25 ms")


@card_case("train/logistic-epoch", "an epoch of Adam for a logistic model, d = 64, batches of 4,096 at most")
def epoch(card: Card) -> Case:
    return _fit(card, "an epoch", "2 M: 8 ms", solver="adam", epochs=1)


@card_case("train/logistic-lbfgs", "ten iterations of L-BFGS for a logistic model, d = 64")
def lbfgs(card: Card) -> Case:
    return _fit(card, "10 iterations", "2 M: 14 ms", solver="lbfgs", max_iter=10)


def _fit(card: Card, what: str, goal: str, **settings: Any) -> Case:
    import warnings

    rows = card.size(1000, 200_000, 2_000_000)
    X, y = _block(card, 33, rows)
    there_X, there_y = card.xp.asarray(X), card.xp.asarray(y)

    def fit(*samples: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # ten iterations are not enough, and need not be
            return fr.models.LogisticRegression(**settings).fit(*samples)

    expected = fit(X, y).coef_
    ours = Contender(OURS, lambda: fit(there_X, there_y), lambda model: _bits(model.coef_.get(), expected))
    return Case(f"{rows:,} x 64, {what}", [ours], count=rows, unit="samples", bytes=256.0 * rows, goal=goal)
