"""GraNd: the norm of the gradient of the sample's loss, ``w |r| |dz/dtheta|`` (Paul et al. 2021, arXiv:2107.07075).

The gradient is never built: it is the residual r times the gradient of the logit, whose norm the model knows
(sqrt(|x|^2 + 1) for a linear model; the product of norms of Goodfellow 2015, arXiv:1510.01799).
"""

from __future__ import annotations

from typing import Any

from fastrec.weighing.logistic import logistic_map
from fastrec.weighing.scores.score import Score


def compute(logits: Any, target: Any, squares: Any, weight: Any, threads: int | None) -> Any:
    return logistic_map("norm", logits, target, squares, weight, threads=threads)


SCORE = Score(compute, jacobian="full")
