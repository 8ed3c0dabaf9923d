"""The norm of the logit's gradient, ``|dz/dtheta|``: what the gradient norm would be at a residual of 1.

A negative control: a benchmark in which it does as well as the gradient norm shows that the residual added nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrec._core import arrays
from fastrec.weighing.scores.score import Score


def compute(logits: Any, target: Any, squares: Any, weight: Any, threads: int | None) -> Any:
    return arrays.namespace(squares).sqrt(squares).astype(np.float32)


SCORE = Score(compute, jacobian="full", labels=False, weights=False)
