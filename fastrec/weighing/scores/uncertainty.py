"""How undecided the model is, ``1 - |2 p - 1|``: 1 at p = 0.5, 0 at certainty.  Needs no label."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrec._core import arrays
from fastrec.weighing.logistic import logistic_map
from fastrec.weighing.scores.score import Score


def compute(logits: Any, target: Any, squares: Any, weight: Any, threads: int | None) -> Any:
    # 1 - |2 p - 1| = 2 min(p, 1 - p) = 2 sigma(-|z|)
    rarer = logistic_map("probability", -arrays.namespace(logits).abs(logits), threads=threads)
    return np.float32(2.0) * rarer


SCORE = Score(compute, labels=False, weights=False)
