"""The lack of confidence in the given label, ``1 - p(label)``: equal to the absolute residual, without the weight."""

from __future__ import annotations

from fastrec.weighing.scores.error import compute
from fastrec.weighing.scores.score import Score

SCORE = Score(compute, weights=False)
