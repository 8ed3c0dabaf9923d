"""The lack of margin, ``-t z``: how far the logit lies on the wrong side (the area under the margin of Pleiss et al.
2020, arXiv:2001.10528, at one moment, turned around).  Negative for samples that are classified correctly."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrec.weighing.scores.score import Score


def compute(logits: Any, target: Any, squares: Any, weight: Any, threads: int | None) -> Any:
    return (-target * logits).astype(np.float32)


SCORE = Score(compute, weights=False)
