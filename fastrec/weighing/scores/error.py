"""The absolute residual ``w |p - y|``, y = 0 or 1: the derivative of the loss with respect to the logit."""

from __future__ import annotations

from typing import Any

from fastrec.weighing.logistic import logistic_map
from fastrec.weighing.scores.score import Score


def compute(logits: Any, target: Any, squares: Any, weight: Any, threads: int | None) -> Any:
    return logistic_map("error", logits, target, weight=weight, threads=threads)


SCORE = Score(compute)
