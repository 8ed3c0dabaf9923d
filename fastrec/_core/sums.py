"""Sums of float64 that have the same bits on every device."""

from __future__ import annotations

from typing import Any

import numpy as np


def total(values: Any) -> float:
    """The sum of a vector, one half added to the other until one number is left; waits for a card.

    Elementwise additions round alike in NumPy and CuPy, whose own ``sum`` take different orders.  Scratch: 4 bytes a
    value; the error grows with the logarithm of the length.
    """
    values = values.astype(np.float64, copy=False)
    if len(values) < 2:
        return float(values[0]) if len(values) else 0.0
    half, odd = divmod(len(values), 2)
    sums = values[:half] + values[half : 2 * half]
    while True:
        if odd:
            sums[:1] += values[-1:]
        if len(sums) == 1:
            return float(sums[0])
        values = sums
        half, odd = divmod(len(values), 2)
        sums = values[:half]
        sums += values[half : 2 * half]


def mean(values: Any, weight: Any = None) -> float:
    """The weighted mean by `total`."""
    if weight is None:
        return total(values) / len(values)
    return total(values * weight) / total(weight)
