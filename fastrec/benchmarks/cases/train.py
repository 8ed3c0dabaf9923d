"""Train: logistic regression, mini-batch and to the optimum, dense and sparse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fastrec as fr
from fastrec.benchmarks import inputs
from fastrec.benchmarks.cases import case
from fastrec.benchmarks.cases.weigh import click_quality
from fastrec.benchmarks.harness import OURS, Case, Contender, Finding, Lab, Verdict, Work
from fastrec.benchmarks.references import logistic_objective, logistic_optimum

EPOCHS = 5
L2 = 1e-4


@case("train/sgd", "train", f"logistic regression, {EPOCHS} passes of SGD over dense features")
def sgd(lab: Lab) -> Case:
    rows, columns = lab.size((20_000, 64), (200_000, 64), (1_000_000, 64))
    data = inputs.labelled(lab, rows, columns)
    check = _near_optimum(data.X, data.y, L2, 1e-2)

    def ours() -> Any:
        model = fr.models.LogisticRegression(
            solver="sgd", l2=L2, epochs=EPOCHS, random_state=0, threads=lab.threads
        )
        return model.fit(data.X, data.y)

    contenders = [Contender(OURS, ours, check)]
    if lab.peer("sklearn"):
        from sklearn.linear_model import SGDClassifier

        contenders.append(
            Contender(
                "sklearn SGDClassifier",
                # its default schedule is far from the optimum after so few passes; this is the best of several tried
                lambda: SGDClassifier(
                    loss="log_loss",
                    alpha=L2,
                    max_iter=EPOCHS,
                    tol=None,
                    random_state=0,
                    learning_rate="invscaling",
                    eta0=0.1,
                    power_t=0.5,
                ).fit(data.X, data.y),
                check,
                "sklearn",
            )
        )
    return Case(
        {"rows": len(data.y), "columns": columns, "passes": EPOCHS}, _work(data.X, EPOCHS), contenders
    )


@case("train/optimum", "train", "logistic regression to the optimum by L-BFGS, dense features")
def optimum(lab: Lab) -> Case:
    rows, columns = lab.size((20_000, 64), (200_000, 64), (1_000_000, 64))
    data = inputs.labelled(lab, rows, columns)
    return _optimum_case(lab, data.X, data.y, L2)


@case(
    "train/clicks",
    "train",
    "the same for logged impressions, sparse; how good is the click model?",
    real_data=True,
)
def clicks(lab: Lab) -> Case:
    log = inputs.clicks(lab)
    made = _optimum_case(lab, log.X, log.y, inputs.CLICK_L2)

    def findings(model: Any) -> list[Finding]:
        found = click_quality(lab, model, log)
        rate = log.y.mean()
        constant = fr.evaluate_clicks(log.y_test, np.full(len(log.y_test), rate), metrics=["logloss", "pcoc"])
        better = found["logloss"] < float(constant["logloss"])
        return [
            Finding(
                f"Click model on {len(log.y_test):,} later impressions ({int(log.y_test.sum())} clicks)",
                ["", "AUC", "log-loss", "predicted / real clicks"],
                [
                    ["logistic regression", found["auc"], found["logloss"], found["pcoc"]],
                    [
                        "the training window's click rate",
                        0.5,
                        float(constant["logloss"]),
                        float(constant["pcoc"]),
                    ],
                ],
                f"The model's log-loss is {'below' if better else 'not below'} that of a constant.",
            )
        ]

    made.findings = findings
    return made


def _optimum_case(lab: Lab, X: Any, y: np.ndarray, l2: float) -> Case:
    def ours() -> Any:
        return fr.models.LogisticRegression(solver="lbfgs", l2=l2, threads=lab.threads).fit(X, y)

    contenders = [Contender(OURS, ours, _near_optimum(X, y, l2, 1e-6))]
    if lab.peer("sklearn"):
        from sklearn.linear_model import LogisticRegression

        contenders.append(
            Contender(
                "sklearn LogisticRegression",
                lambda: LogisticRegression(C=1 / (l2 * len(y)), max_iter=1000, tol=1e-6).fit(X, y),
                _near_optimum(X, y, l2, 1e-4),
                "sklearn",
            )
        )
    return Case({"rows": len(y), "columns": X.shape[1]}, _work(X, 0), contenders)


def _work(X: Any, passes: int) -> Work:
    """A pass multiplies every entry twice, for the logits and for the gradient; how many L-BFGS needs is its affair."""
    entries = X.nnz if hasattr(X, "nnz") else X.size
    rows = float(X.shape[0]) * max(1, passes)
    return Work(operations=4.0 * entries * passes, bytes=4.0 * entries * passes, count=rows, unit="rows")


def _near_optimum(X: Any, y: np.ndarray, l2: float, slack: float) -> Callable[[Any], Verdict]:
    """A fit is judged by its objective in float64: how far above the optimum, as a share of it, it stopped."""
    least = logistic_optimum(X, y, l2)

    def check(model: Any) -> Verdict:
        reached = logistic_objective(X, y, np.ravel(model.coef_), float(np.ravel(model.intercept_)[0]), l2)
        above = (reached - least) / least
        return Verdict(bool(-1e-6 <= above <= slack), f"objective {max(above, 0.0):.0e} above the optimum")

    return check
