"""What a score is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Score:
    """A score and what it needs.

    Attributes
    ----------
    compute : callable
        ``compute(logits, target, squares, weight, threads)`` -> (n,) float32; what it does not need is None.
    jacobian : "full", "last" or None
        Which squared gradient norm of the logit it needs.
    labels : bool
        Whether it needs the labels.
    weights : bool
        Whether a sample's weight is part of it.
    """

    compute: Callable[..., Any]
    jacobian: Literal["full", "last"] | None = None
    labels: bool = True
    weights: bool = True
