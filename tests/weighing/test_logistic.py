"""The logistic function and its kin, to the last places, over the whole range."""

from __future__ import annotations

import numpy as np
import pytest

from fastrec.weighing.logistic import logistic_map

Z = np.concatenate(
    [np.linspace(-707, 707, 20_001), np.geomspace(1e-300, 1, 5000), -np.geomspace(1e-300, 1, 5000)]
)
LONG = np.finfo(np.longdouble).eps < np.finfo(np.float64).eps


@pytest.mark.skipif(not LONG, reason="long double is no longer than double here: nothing to compare with")
@pytest.mark.parametrize("kind", ["probability", "loss", "error"])
def test_within_four_units_in_the_last_place(kind: str) -> None:
    z = Z.astype(np.longdouble)
    e = np.exp(-abs(z))
    exact = {
        "probability": np.where(z < 0, e, 1) / (1 + e),
        "loss": np.where(z < 0, -z, 0) + np.log1p(e),
        "error": np.where(z < 0, 1, e) / (1 + e),
    }[kind]
    got = logistic_map(kind, Z, np.ones(len(Z), np.int8), dtype=np.float64)
    assert (abs(got - exact) / np.spacing(exact.astype(float))).max() <= 4


def test_beyond_the_range() -> None:
    z = np.array([-1e308, -np.inf, 1e308, np.inf, np.nan, 0.0, -0.0])
    t = np.ones(7, np.int8)
    np.testing.assert_array_equal(logistic_map("probability", z), np.float32([0, 0, 1, 1, np.nan, 0.5, 0.5]))
    np.testing.assert_array_equal(logistic_map("error", z, t), np.float32([1, 1, 0, 0, np.nan, 0.5, 0.5]))
    losses = logistic_map("loss", z, t, dtype=np.float64)
    np.testing.assert_array_equal(losses[:4], [1e308, np.inf, 0, 0])
    assert np.isnan(losses[4])
    assert losses[5] == losses[6] == np.log(2)


def test_the_residual_is_the_derivative_of_the_loss() -> None:
    z, t = np.linspace(-30, 30, 101), np.where(np.arange(101) % 2, 1, -1).astype(np.int8)
    step = 1e-5
    up, down = (logistic_map("loss", z + s, t, dtype=np.float64) for s in (step, -step))
    got = logistic_map("residual", z, t, dtype=np.float64)
    np.testing.assert_allclose(got, (up - down) / (2 * step), atol=1e-9)


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"`target` must have shape \(2,\) to match `logits`; got \(3,\)"):
        logistic_map("loss", [0.0, 1.0], [1, 1, 1])
    with pytest.raises(ValueError, match="`kind` must be one of"):
        logistic_map("lost", [0.0])
