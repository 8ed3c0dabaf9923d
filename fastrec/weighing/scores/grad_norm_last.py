"""GraNd with respect to the last linear layer only; for a linear model that is all of it."""

from __future__ import annotations

from fastrec.weighing.scores.grad_norm import compute
from fastrec.weighing.scores.score import Score

SCORE = Score(compute, jacobian="last")
