"""The scores that :func:`fastrec.importance` knows: one file each, and one line in the table below.

A score turns (logits, targets, squared norms of the logit's gradient, weights) into one number a sample; larger means
that the sample matters more.
"""

from __future__ import annotations

from fastrec.weighing.scores import (
    confidence,
    el2n,
    error,
    grad_norm,
    grad_norm_last,
    input_norm,
    loss,
    margin,
    uncertainty,
)
from fastrec.weighing.scores.score import Score

SCORES: dict[str, Score] = {
    "grad_norm": grad_norm.SCORE,
    "grad_norm_last": grad_norm_last.SCORE,
    "loss": loss.SCORE,
    "error": error.SCORE,
    "el2n": el2n.SCORE,
    "confidence": confidence.SCORE,
    "margin": margin.SCORE,
    "uncertainty": uncertainty.SCORE,
    "input_norm": input_norm.SCORE,
}

__all__ = ["SCORES", "Score"]
