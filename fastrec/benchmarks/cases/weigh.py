"""Weigh: per-sample gradient norms without per-sample gradients, selection, and whether selection helps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import fastrec as fr
from fastrec.benchmarks import inputs, references
from fastrec.benchmarks.cases import case
from fastrec.benchmarks.harness import OURS, Case, Contender, Finding, Lab, Verdict, Work

KEPT = 0.3  # of the training rows, in the study of clicks
DRAWS = 10  # of every random arm
ROWS_AT_ONCE = 1 << 13  # whose gradients a peer holds at a time


@case("weigh/gradient-norms", "weigh", "norm of every sample's gradient, logistic model, dense features")
def gradient_norms(lab: Lab) -> Case:
    rows, columns = lab.size((50_000, 64), (400_000, 64), (2_000_000, 64))
    data = inputs.labelled(lab, rows, columns)
    model = fr.models.LogisticRegression(solver="sgd", epochs=1, threads=lab.threads).fit(data.X, data.y)
    return _importance_case(lab, model, data.X, data.y, dense=True)


@case(
    "weigh/clicks",
    "weigh",
    "the same for logged impressions, sparse; does selection beat a random subset?",
    real_data=True,
)
def clicks(lab: Lab) -> Case:
    log = inputs.clicks(lab)
    model = inputs.click_model(lab).fit(log.X, log.y)
    made = _importance_case(lab, model, log.X, log.y, dense=False)
    made.findings = lambda weights: [_selection_study(lab, log, weights)]
    return made


@case("weigh/select", "weigh", "the tenth of the samples with the largest scores, class by class")
def select(lab: Lab) -> Case:
    n = lab.size(200_000, 2_000_000, 10_000_000)
    rng = lab.rng("select")
    scores, y = rng.gamma(2.0, size=n).astype(np.float32), (rng.random(n) < 0.05).astype(np.int64)
    expected = _largest_by_class(scores, y, n // 10)

    def check(index: Any) -> Verdict:
        same = np.array_equal(np.asarray(index), expected)
        return Verdict(same, "exact" if same else "other rows")

    def ours() -> Any:
        return fr.select(scores, n=n // 10, strategy="stratified", y=y, threads=lab.threads).index

    contenders = [Contender(OURS, ours, check)]
    if lab.peer("numpy"):
        contenders.append(
            Contender(
                "numpy argpartition by class", lambda: _numpy_select(scores, y, n // 10), check, "numpy"
            )
        )
    return Case({"rows": n, "kept": n // 10}, Work(bytes=12.0 * n, count=float(n), unit="rows"), contenders)


# ------------------------------------------------------------------------------------------------------ importance


def _importance_case(lab: Lab, model: Any, X: Any, y: np.ndarray, *, dense: bool) -> Case:
    coefficients, intercept = np.ravel(model.coef_), float(np.ravel(model.intercept_)[0])
    chance = 1 / (1 + np.exp(-(X @ coefficients + intercept)))
    expected = references.logistic_gradient_norms(X, y, chance)
    check = references.arrays_agree(expected, 1e-6, "norms")
    small = coefficients.astype(np.float32), np.float32(intercept)

    def ours() -> Any:
        return fr.importance(model, X, y, method="grad_norm", threads=lab.threads)

    contenders = [Contender(OURS, ours, check)]
    loose = references.arrays_agree(expected, 1e-4, "norms")
    if lab.peer("numpy") and dense:
        contenders += [
            Contender("numpy, gradients written out", lambda: _numpy_gradients(X, y, *small), loose, "numpy"),
            Contender("numpy, closed form", lambda: _numpy_closed_form(X, y, *small), loose, "numpy"),
        ]
    if lab.peer("scipy") and not dense:
        contenders.append(
            Contender("scipy, closed form", lambda: _scipy_closed_form(X, y, *small), loose, "scipy")
        )
    if dense and (torch := lab.peer("torch")):
        contenders.append(
            Contender("torch.func vmap(grad)", _torch_gradients(torch, X, y, *small), loose, "torch")
        )
    rows, columns = X.shape
    entries = X.size if dense else X.nnz
    return Case(
        {"rows": rows, "columns": columns, "entries": entries},
        Work(
            4.0 * entries, float((4 if dense else 8) * entries + 8 * rows), count=float(rows), unit="samples"
        ),
        contenders,
    )


def _chunks(rows: int) -> Iterator[slice]:
    return (slice(start, start + ROWS_AT_ONCE) for start in range(0, rows, ROWS_AT_ONCE))


def _numpy_gradients(X: np.ndarray, y: np.ndarray, v: np.ndarray, b: np.float32) -> np.ndarray:
    norms = np.empty(len(X), np.float32)
    for part in _chunks(len(X)):
        residual = 1 / (1 + np.exp(-(X[part] @ v + b))) - y[part].astype(np.float32)
        gradients = np.hstack([X[part] * residual[:, None], residual[:, None]])
        norms[part] = np.linalg.norm(gradients, axis=1)
    return norms


def _numpy_closed_form(X: np.ndarray, y: np.ndarray, v: np.ndarray, b: np.float32) -> np.ndarray:
    residual = 1 / (1 + np.exp(-(X @ v + b))) - y.astype(np.float32)
    return np.abs(residual) * np.sqrt(np.einsum("nd,nd->n", X, X) + 1)


def _scipy_closed_form(X: Any, y: np.ndarray, v: np.ndarray, b: np.float32) -> np.ndarray:
    residual = 1 / (1 + np.exp(-(X @ v + b))) - y.astype(np.float32)
    return np.abs(residual) * np.sqrt(np.asarray(X.multiply(X).sum(axis=1)).ravel() + 1)


def _torch_gradients(
    torch: Any, X: np.ndarray, y: np.ndarray, v: np.ndarray, b: np.float32
) -> Callable[[], np.ndarray]:
    features, labels = torch.from_numpy(X), torch.from_numpy(y.astype(np.float32))
    parameters = torch.from_numpy(v.copy()), torch.tensor(b)

    def loss(weights: Any, bias: Any, row: Any, label: Any) -> Any:
        return torch.nn.functional.binary_cross_entropy_with_logits(row @ weights + bias, label)

    per_sample = torch.func.vmap(torch.func.grad(loss, argnums=(0, 1)), in_dims=(None, None, 0, 0))

    def run() -> np.ndarray:
        norms = []
        for part in _chunks(len(features)):
            slopes, biases = per_sample(*parameters, features[part], labels[part])
            norms.append((slopes.square().sum(1) + biases.square()).sqrt())
        return torch.cat(norms).numpy()

    return run


# ------------------------------------------------------------------------------------------------------- selection


def _shares(n: int, counts: np.ndarray) -> np.ndarray:
    """What each class gets of n: its share rounded down, the rest to the largest remainders, small classes first."""
    exact = n * counts / counts.sum()
    given = np.floor(exact).astype(int)
    for at in np.lexsort((counts, -(exact - given)))[: n - given.sum()]:
        given[at] += 1
    return given


def _largest_by_class(scores: np.ndarray, y: np.ndarray, n: int) -> np.ndarray:
    """The reference: sort each class by score descending, then row ascending."""
    classes, counts = np.unique(y, return_counts=True)
    kept = []
    for label, share in zip(classes, _shares(n, counts)):
        rows = np.flatnonzero(y == label)
        kept.append(rows[np.argsort(-scores[rows], kind="stable")[:share]])
    return np.sort(np.concatenate(kept))


def _numpy_select(scores: np.ndarray, y: np.ndarray, n: int) -> np.ndarray:
    classes, counts = np.unique(y, return_counts=True)
    kept = []
    for label, share in zip(classes, _shares(n, counts)):
        rows = np.flatnonzero(y == label)
        kept.append(rows[np.argpartition(-scores[rows], share)[:share]])
    return np.sort(np.concatenate(kept))


def _selection_study(lab: Lab, log: inputs.Labelled, weights: np.ndarray) -> Finding:
    """Retrain on a part of the rows, chosen in several ways, and judge each model on the later days."""
    arms: dict[str, list[dict[str, float]]] = {}

    def retrain(name: str, index: Any, weight: Any = None) -> None:
        model = inputs.click_model(lab).fit(log.X[index], log.y[index], sample_weight=weight)
        arms.setdefault(name, []).append(click_quality(lab, model, log))

    retrain("all rows", np.arange(len(log.y)))
    for seed in range(DRAWS):
        for name, strategy in (("random", "random"), ("random by class", "stratified_random")):
            retrain(name, fr.select(weights, KEPT, strategy=strategy, y=log.y, seed=lab.seed + seed).index)
        kept = fr.select(weights, KEPT, strategy="sample", seed=lab.seed + seed)
        retrain("drawn by gradient norm, weighted", kept.index, kept.weight)
    retrain("largest gradient norms by class", fr.select(weights, KEPT, strategy="stratified", y=log.y).index)
    retrain("largest gradient norms", fr.select(weights, KEPT, strategy="top").index)

    rows = []
    for name, results in arms.items():
        values = {metric: np.array([result[metric] for result in results]) for metric in results[0]}
        spread = float(values["auc"].std(ddof=1)) if len(results) > 1 else None
        rows.append(
            [
                name,
                float(values["auc"].mean()),
                spread,
                float(values["logloss"].mean()),
                float(values["pcoc"].mean()),
            ]
        )
    clicks_held_out = int(log.y_test.sum())
    return Finding(
        f"Click model retrained on {KEPT:.0%} of {len(log.y):,} impressions ({int(log.y.sum())} clicks), judged on "
        f"{len(log.y_test):,} later ones ({clicks_held_out} clicks)",
        ["rows kept", "AUC", "± draws", "log-loss", "predicted / real clicks"],
        rows,
        _verdict(arms, clicks_held_out),
    )


def click_quality(lab: Lab, model: Any, log: inputs.Labelled) -> dict[str, float]:
    """AUC, log-loss and calibration of a click model on the held-out rows."""
    chance = model.predict_proba(log.X_test)[:, 1]
    found = fr.evaluate_clicks(log.y_test, chance, metrics=["auc", "logloss", "pcoc"], threads=lab.threads)
    return {name: float(found[name]) for name in ("auc", "logloss", "pcoc")}


def _verdict(arms: dict[str, list[dict[str, float]]], clicks_held_out: int) -> str:
    """Whether selection by importance beats the best random subset by more than chance would explain.

    Chance is the spread of the random arm's draws and the error of an AUC from so few clicks (at most
    ``1 / sqrt(12 m)`` near one half), on both sides, doubled.
    """
    means = {name: float(np.mean([result["auc"] for result in results])) for name, results in arms.items()}
    random = max(("random", "random by class"), key=lambda name: means[name])
    chosen = max((name for name in arms if "gradient" in name), key=lambda name: means[name])
    spread = float(np.std([result["auc"] for result in arms[random]], ddof=1))
    chance = 2 * float(np.sqrt(spread**2 + 2 / (12 * clicks_held_out)))
    gap = means[chosen] - means[random]
    if gap > chance:
        verdict = f"'{chosen}' beats '{random}' by {gap:.3f} AUC, more than chance explains (±{chance:.3f})."
    elif gap > 0:
        verdict = (
            f"Selection does not provably beat a random subset: '{chosen}' is {gap:.3f} AUC above '{random}', "
            f"within what chance explains (±{chance:.3f})."
        )
    else:
        verdict = f"Selection does not beat a random subset: '{chosen}' is {-gap:.3f} AUC below '{random}'."
    worst = max(abs(np.log(result["pcoc"])) for result in arms["largest gradient norms"])
    return f"{verdict} Keeping the largest norms alone makes predicted clicks wrong by a factor of {np.exp(worst):.1f}."
