"""Sums of float64 that have the same bits on every device."""

from __future__ import annotations

from typing import Any

import numpy as np


def total(values: Any) -> float:
    """The sum of a vector, halves added to each other until one number is left; waits for a card.

    Elementwise additions round alike in NumPy and CuPy, whose own ``sum`` take different orders.  Scratch: 4 bytes a
    value; the error grows with the logarithm of the length.
    """
    if len(values) == 0:
        return 0.0
    values = values.astype(np.float64, copy=False)
    while len(values) > 1:
        half = (len(values) + 1) // 2
        folded = values[:half].copy()
        folded[: len(values) - half] += values[half:]
        values = folded
    return float(values[0])


def mean(values: Any, weight: Any = None) -> float:
    """The weighted mean by `total`."""
    if weight is None:
        return total(values) / len(values)
    return total(values * weight) / total(weight)
