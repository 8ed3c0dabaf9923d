"""Sums in one order, whatever the device."""

from __future__ import annotations

import math

import numpy as np

from fastrec._core import sums


def test_the_total_is_the_sum() -> None:
    rng = np.random.default_rng(0)
    for n in (*range(20), 63, 64, 65, 1000, 4097):
        values = rng.standard_normal(n)
        before = values.copy()
        assert math.isclose(sums.total(values), math.fsum(values.tolist()), rel_tol=1e-13, abs_tol=1e-13)
        np.testing.assert_array_equal(values, before)
        whole = rng.integers(0, 9, n)
        assert sums.total(whole.astype(np.float32)) == whole.sum()
    assert sums.total(np.arange(101.0)) == 5050.0
    assert sums.total(np.array([1e300, np.inf, -1.0])) == np.inf
    assert math.isnan(sums.total(np.array([np.nan, 1.0, 2.0])))


def test_means() -> None:
    values, weight = np.array([1.0, 2.0, 6.0]), np.array([1.0, 0.0, 3.0])
    assert sums.mean(values) == 3.0
    assert sums.mean(values, weight) == 19.0 / 4.0
