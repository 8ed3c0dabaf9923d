"""The roofs are rates of work that was really done: counts, sums and sanity, never a figure."""

from __future__ import annotations

import numpy as np
import pytest

from fastrec._core import isa
from fastrec._kernels import roofs as kernels
from fastrec.benchmarks import roofs

LEVELS = [isa.NAMES.index(name) for name in isa.usable()]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("threads", [1, 3])
def test_arithmetic_counts_at_least_the_steps_asked_for(level: int, threads: int) -> None:
    for kernel in (kernels.fp32_peak, kernels.int8_peak):
        few, many = kernel(1000, threads, level), kernel(100_000, threads, level)
        assert few >= 1000 * 12 * 2  # twelve chains, a multiply and an add each
        assert 80 < many / few < 101


@pytest.mark.parametrize("level", LEVELS)
def test_reading_all_reads_every_line(level: int) -> None:
    data = np.ones(1 << 15, np.uint64)
    assert kernels.read_all(data, 1, level) == data.nbytes
    assert kernels.read_all(data, 2, level) == data.nbytes


@pytest.mark.parametrize("level", LEVELS)
def test_random_reads_stay_inside(level: int) -> None:
    smallest = np.ones(32, np.uint64)  # one row of 256 bytes: anything else would be outside
    assert kernels.read_random(smallest, 1000, 2, level) >= 1000 * 256
    assert kernels.read_apart(smallest, 1000, 2, level) >= 1000 * 256


def test_a_level_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="not in this build"):
        kernels.fp32_peak(10, 1, 99)


def test_measured_roofs_are_positive_and_say_what_they_are() -> None:
    found = roofs.measure(1, quick=True)
    assert found.threads == 1
    assert set(found.by_isa) == set(isa.usable())
    assert min(found.fp32, found.int8, found.read, found.random, found.rows) > 0
    assert found.fp32 == max(rates["fp32"] for rates in found.by_isa.values())
    assert found.as_dict()["single"].keys() == {"fp32", "int8", "read", "random", "rows"}


def test_merging_keeps_the_higher_of_each() -> None:
    low = roofs.Roofs(2, 1.0, 8.0, 3.0, 4.0, 2.0, {"avx2": {"fp32": 1.0, "int8": 8.0}}, {"fp32": 1.0})
    high = roofs.Roofs(2, 2.0, 4.0, 5.0, 1.0, 3.0, {"avx2": {"fp32": 2.0, "int8": 4.0}}, {"fp32": 0.5})
    both = low.merged(high)
    assert (both.fp32, both.int8, both.read, both.random, both.rows) == (2.0, 8.0, 5.0, 4.0, 3.0)
    assert both.by_isa == {"avx2": {"fp32": 2.0, "int8": 8.0}}
    assert both.single == {"fp32": 1.0}
