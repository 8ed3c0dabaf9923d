"""EL2N: the norm of (probabilities - one-hot label), ``w sqrt(2) |p - y|`` (Paul et al. 2021, arXiv:2107.07075)."""

from __future__ import annotations

from typing import Any

from fastrec.weighing.logistic import logistic_map
from fastrec.weighing.scores.score import Score


def compute(logits: Any, target: Any, squares: Any, weight: Any, threads: int | None) -> Any:
    return logistic_map("el2n", logits, target, weight=weight, threads=threads)


SCORE = Score(compute)
