"""Click metrics batch by batch equal those of one call."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest

import fastrec as fr
from fastrec.evaluation import ClickAccumulator
from fastrec.evaluation.click_metrics import METRICS

EVERY = sorted(METRICS)


def rows(n=3000, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    p = np.round(rng.random(n), 3).astype(dtype)
    return (rng.random(n) < p).astype(int), p, rng.integers(0, 40, n), rng.random(n)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", [lambda g: g, lambda g: [f"user {x}" for x in g]], ids=["numbers", "text"])
def test_batches_equal_one_call_bit_for_bit(name, dtype, weighted):
    y, p, g, w = rows(dtype=dtype)
    w = w if weighted else None
    whole = fr.evaluate_clicks(y, p, name(g), w, metrics=EVERY)
    total = ClickAccumulator(EVERY)
    for cut in (slice(0, 1000), slice(1000, 1000), slice(1000, 1001), slice(1001, None)):
        assert total.update(y[cut], p[cut], name(g[cut]), None if w is None else w[cut]) is total
    got = total.result()
    assert len(total) == len(y)
    assert dict(got) == dict(whole)
    assert got.counts == whole.counts
    pd.testing.assert_frame_equal(got.per_group, whole.per_group)
    assert dict(total.update(y, p, name(g), w).result()) != dict(whole)  # goes on after a result


def test_merging_across_processes():
    y, p, g, w = rows()
    parts = [ClickAccumulator(["auc", "gauc", "logloss"]) for _ in range(3)]
    for part, cut in zip(parts, np.array_split(np.arange(len(y)), 3)):
        part.update(y[cut], p[cut], g[cut], w[cut])
    first, second, third = (pickle.loads(pickle.dumps(part)) for part in parts)
    expected = dict(fr.evaluate_clicks(y, p, g, w, metrics=["auc", "gauc", "logloss"]))
    assert dict(first.merge(second).merge(third).result()) == expected
    assert len(second) == 1000  # stays as it was
    one, two, three = parts
    assert dict(one.merge(two.merge(three)).result()) == expected


def test_rows_are_kept_although_the_caller_writes_over_them():
    y, p, w = np.array([0, 1, 1], np.uint8), np.array([0.1, 0.2, 0.3]), np.ones(3)
    total = ClickAccumulator("auc").update(y, p, weights=w)
    p[:], w[:] = 0.5, 0.0
    assert total.result()["auc"] == 1.0


def test_a_batch_may_weigh_nothing_and_batches_may_differ_in_type():
    total = ClickAccumulator("logloss").update([0, 1], [0.1, 0.2], weights=[0, 0])
    with pytest.raises(ValueError, match="not be all 0"):
        total.result()
    total.update(np.array([0.5, 1.0]), np.array([0.5, 0.6], np.float32), weights=[1, 2])
    p = np.concatenate([[0.1, 0.2], np.array([0.5, 0.6], np.float32)])
    expected = fr.evaluate_clicks([0, 1, 0.5, 1], p, weights=[0, 0, 1, 2], metrics="logloss")
    assert total.result()["logloss"] == expected["logloss"]


def test_bad_batches_and_partners_are_refused():
    total = ClickAccumulator(["auc"]).update([0, 1], [0.1, 0.2])
    with pytest.raises(ValueError, match="row 1 is NaN"):
        total.update([0, 1], [0.1, np.nan])
    with pytest.raises(ValueError, match="some batches have `weights` and some have none"):
        total.update([0, 1], [0.1, 0.2], weights=[1, 1])
    with pytest.raises(ValueError, match="some batches have `groups`"):
        total.update([0, 1], [0.1, 0.2], [1, 1])
    assert len(total) == 2
    with pytest.raises(ValueError, match="same metrics"):
        total.merge(ClickAccumulator(["logloss"]))
    with pytest.raises(TypeError, match="ClickAccumulator"):
        total.merge(3)
    with pytest.raises(ValueError, match="no rows have come"):
        ClickAccumulator().result()
    with pytest.raises(ValueError, match="Did you mean 'auc'"):
        ClickAccumulator("acu")
    with pytest.raises(ValueError, match="`groups` must be given for 'gauc'"):
        ClickAccumulator("gauc").update([0, 1], [0.1, 0.2])
