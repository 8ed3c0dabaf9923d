"""The sample's logistic loss, ``w log(1 + exp(-t z))``."""

from __future__ import annotations

from typing import Any

from fastrec.weighing.logistic import logistic_map
from fastrec.weighing.scores.score import Score


def compute(logits: Any, target: Any, squares: Any, weight: Any, threads: int | None) -> Any:
    return logistic_map("loss", logits, target, weight=weight, threads=threads)


SCORE = Score(compute)
