"""Columns of clicks as the kernels read them: what they hold, their span, their labels, and exact sums."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from fastrec._kernels import clicks as _kernel

MAX_ROWS = 2**31 - 1
ALONE = 1 << 14  # rows below which waking another thread would take longer than the work
_KINDS = {np.dtype(name): kind for kind, name in enumerate(("u1", "i4", "i8", "f4", "f8"))}


def kind_of(array: np.ndarray) -> int:
    return _KINDS[array.dtype]


def bytes_of(array: np.ndarray) -> np.ndarray:
    return array.view(np.uint8)


def row_labels(y: np.ndarray, threads: int) -> tuple[np.ndarray, int]:
    """Labels as uint8 zeros and ones, and the first row that holds neither (-1: there is none)."""
    if y.dtype == bool or y.dtype == np.int8:
        y = y.view(np.uint8)
    if y.dtype not in _KINDS:
        y = y.astype(np.float64)
    y = np.ascontiguousarray(y)
    out = np.empty(len(y), np.uint8)
    return out, _kernel.labels(bytes_of(y), kind_of(y), out, threads)


def span(x: np.ndarray, threads: int) -> tuple[float, float, int]:
    """Smallest and largest value of a float array that is not empty, and the row of its first NaN (-1: none)."""
    return _kernel.span(bytes_of(x), kind_of(x), len(x), threads)


def totals(columns: np.ndarray) -> np.ndarray:
    """Exact sums over the first axis, rounded once."""
    flat = columns.reshape(len(columns), -1)
    return np.array([math.fsum(column) for column in flat.T.tolist()]).reshape(columns.shape[1:])


def equal_edges(bins: int, dtype: Any) -> np.ndarray:
    """Lower edges ``b / bins`` of bins of equal width, rounded to the type of the scores, as float64; the last is 1.

    Quotients, so that 0.6 begins the fourth of five bins (``numpy.linspace`` puts that edge above 0.6).
    """
    return (np.arange(bins + 1) / bins).astype(dtype).astype(np.float64)


def parts(array: np.ndarray, sizes: Iterable[int]) -> list[np.ndarray]:
    """The array cut into parts of so many items each."""
    starts = [0, *itertools.accumulate(sizes)]
    return [array[begin:end] for begin, end in itertools.pairwise(starts)]


def of_units(high: int, low: int) -> float:
    """A sum of probabilities held in units of 2^-32 and 2^-64, rounded once."""
    return ((high << 32) + low) / 2**64
