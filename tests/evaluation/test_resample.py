"""Bootstrap and sign-flip sums: the kernels equal their references, bit by bit, whatever must not matter."""

from __future__ import annotations

import numpy as np
import pytest
from subprocesses import USABLE_ISAS, output_of

from fastrec.evaluation.resample import bootstrap_sums, sign_flip_sums

OPERATIONS = [bootstrap_sums, sign_flip_sums]


@pytest.mark.parametrize("op", OPERATIONS, ids=lambda op: op.name)
def test_kernel_equals_reference_to_the_last_bit(op):
    for case in op.examples(np.random.default_rng(0)):
        expected = op.run("reference", **case)
        got = op.run("cpu", **case)
        assert got.shape == (case["replicates"], np.shape(case["values"])[1])
        assert got.dtype == np.float64
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("op", OPERATIONS, ids=lambda op: op.name)
def test_threads_splits_and_columns_do_not_matter(op):
    values = np.random.default_rng(1).standard_normal((1000, 13))
    whole = op(values, 100, seed=5, threads=1)
    for threads in (2, 3, 8):
        assert op(values, 100, seed=5, threads=threads).tobytes() == whole.tobytes()
    parts = [op(values, size, seed=5, first=first) for first, size in ((0, 1), (1, 15), (16, 17), (33, 67))]
    assert np.concatenate(parts).tobytes() == whole.tobytes()
    alone = np.concatenate([op(values[:, [c]], 100, seed=5) for c in range(13)], axis=1)
    assert alone.tobytes() == whole.tobytes()
    assert op(np.asfortranarray(values), 100, seed=5).tobytes() == whole.tobytes()
    assert not np.array_equal(op(values, 100, seed=6), whole)


CODE = """
import hashlib, numpy as np
from fastrec._core import isa
from fastrec._kernels import resample as kernel
from fastrec.evaluation.resample import bootstrap_sums, sign_flip_sums
assert kernel.level() == min(isa.LEVEL, isa.NAMES.index('avx512vnni'))  # AMX has nothing to add here
values = np.sin(np.arange(777 * 23, dtype=np.float64)).reshape(777, 23)
for op in (bootstrap_sums, sign_flip_sums):
    print(hashlib.sha256(op(values, 50, seed=3).tobytes()).hexdigest())
"""


def test_every_instruction_set_gives_the_same_bits():
    outputs = {output_of(CODE, FASTREC_ISA=name) for name in USABLE_ISAS}
    assert len(outputs) == 1


def test_a_bootstrap_replicate_draws_as_many_queries_as_there_are_evenly():
    queries = 40
    drawn = bootstrap_sums(np.eye(queries), 20_000, seed=11)
    np.testing.assert_array_equal(drawn.sum(axis=1), queries)
    # Multinomial: mean 1, variance 1 - 1/n, covariance -1/n; each checked at about five standard errors.
    assert abs(drawn.mean(axis=0) - 1).max() < 5 / np.sqrt(20_000)
    assert abs(drawn.var(axis=0) - (1 - 1 / queries)).max() < 0.08
    covariance = np.cov(drawn.T)[~np.eye(queries, dtype=bool)]
    assert abs(covariance + 1 / queries).max() < 0.05


def test_sign_flips_are_fair_independent_coins():
    flips = sign_flip_sums(np.eye(130), 20_000, seed=12)
    assert set(np.unique(flips)) == {-1.0, 1.0}
    assert abs(flips.mean(axis=0)).max() < 5 / np.sqrt(20_000)
    correlation = np.corrcoef(flips.T)[~np.eye(130, dtype=bool)]
    assert abs(correlation).max() < 6 / np.sqrt(20_000)


def test_splitmix_matches_its_published_outputs():
    from fastrec.evaluation.resample import _GOLDEN, _mix

    states = (1234567 + _GOLDEN * np.arange(1, 4, dtype=object)) % 2**64
    assert _mix(states.astype(np.uint64)).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


@pytest.mark.parametrize("op", OPERATIONS, ids=lambda op: op.name)
def test_bad_arguments_are_named(op):
    values = np.zeros((3, 2))
    with pytest.raises(ValueError, match=r"`values` must have shape \(n, d\); got \(3,\)"):
        op(values[:, 0], 5)
    with pytest.raises(ValueError, match="`values` must be finite"):
        op(np.full((3, 2), np.nan), 5)
    with pytest.raises(ValueError, match="`replicates` must be >= 0; got -1"):
        op(values, -1)
    with pytest.raises(ValueError, match="`seed` must be between 0 and"):
        op(values, 5, seed=-1)
    with pytest.raises(TypeError, match="`values` must hold real numbers"):
        op(np.array([["a"]]), 5)
