"""Catalogue metrics batch by batch equal those of one call."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from catalogue import N_ITEMS, N_USERS, problem

import fastrec as fr
from fastrec.evaluation import CatalogAccumulator
from fastrec.evaluation.catalog_metrics import METRICS

NAMES = [f"{name}{cut}" for name in sorted(METRICS) for cut in ("", "@3")]
OF_LISTS = ("history", "truth", "baseline")


def parts_of(p, cuts):
    """What is known about the items, and the lists in batches."""
    items = {name: value for name, value in p.items() if name not in ("top", *OF_LISTS)}
    lists = [
        {name: p[name][cut] if getattr(p[name], "ndim", 2) == 2 else p[name] for name in ("top", *OF_LISTS)}
        for cut in cuts
    ]
    return items, lists


def assert_equal(got, whole):
    assert dict(got) == dict(whole)
    assert got.undefined == whole.undefined
    assert got.parameters == whole.parameters
    assert got.counts == whole.counts
    np.testing.assert_array_equal(got.item_counts, whole.item_counts)
    pd.testing.assert_frame_equal(got.per_list, whole.per_list)
    pd.testing.assert_frame_equal(got.exposure, whole.exposure)


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("by_list", [False, True], ids=["one baseline", "a baseline each"])
def test_batches_equal_one_call_bit_for_bit(ragged, by_list):
    p = problem(ragged)
    if by_list:
        p["baseline"] = np.random.default_rng(5).integers(0, N_ITEMS, (N_USERS, 6))
    whole = fr.evaluate_catalog(**p, metrics=NAMES, undefined="nan")
    items, lists = parts_of(p, [slice(0, 9), slice(9, 9), slice(9, 10), slice(10, None)])
    total = CatalogAccumulator(metrics=NAMES, undefined="nan", **items)
    for batch in lists:
        assert total.update(**batch) is total
    assert len(total) == N_USERS
    assert_equal(total.result(), whole)
    assert total.update(**lists[0]).result().counts["lists"] == N_USERS + 9  # goes on after a result


def test_merging_across_processes():
    p = problem(ragged=True)
    items, lists = parts_of(p, [slice(0, 5), slice(5, 20), slice(20, None)])
    parts = [CatalogAccumulator(metrics=NAMES, undefined="nan", **items).update(**batch) for batch in lists]
    whole = fr.evaluate_catalog(**p, metrics=NAMES, undefined="nan")
    first, second, third = (pickle.loads(pickle.dumps(part)) for part in parts)
    assert_equal(first.merge(second).merge(third).result(), whole)
    assert len(second) == 15  # stays as it was
    one, two, three = parts
    assert_equal(one.merge(two.merge(three)).result(), whole)


def test_widths_ids_and_memory_of_the_caller():
    total = CatalogAccumulator(items=list("abcde"), metrics=["coverage", "full_lists", "gini@2"])
    total.update([["a", "b", "c"]]).update([["d"], ["a"]])
    padded = [["a", "b", "c"], ["d", None, None], ["a", None, None]]
    whole = fr.evaluate_catalog(padded, items=list("abcde"), metrics=total.metrics)
    assert dict(total.result()) == dict(whole)
    ids, base = np.array([[0, 1]], np.int32), np.array([[0, 2]])
    total = CatalogAccumulator(3, "unexpectedness").update(ids, baseline=base)
    ids[:], base[:] = 2, 1
    assert total.result()["unexpectedness"] == 0.5


def test_refusals():
    p = problem(ragged=False)
    items, (batch, other) = parts_of(p, [slice(0, 9), slice(9, None)])
    with pytest.raises(ValueError, match="no lists have come"):
        CatalogAccumulator(5).result()
    with pytest.raises(ValueError, match="`n_items` must be given"):
        CatalogAccumulator()
    with pytest.raises(ValueError, match="Did you mean 'coverage'"):
        CatalogAccumulator(5, "covrage")
    total = CatalogAccumulator(metrics="epc", **items)
    with pytest.raises(ValueError, match="'epc' needs `popularity="):
        total.update(batch["top"])  # at once, not after the last batch
    total.update(**batch)
    with pytest.raises(ValueError, match="some batches have `history` and some have none"):
        total.update(other["top"], truth=other["truth"], baseline=other["baseline"])
    for wrong, message in ((N_ITEMS, f"list 0 holds {N_ITEMS}"), (int(other["top"][0, 1]), "list 0 does")):
        top = other["top"].copy()
        top[0, 0] = wrong
        with pytest.raises(ValueError, match=message):
            total.update(**(other | {"top": top}))
    with pytest.raises(ValueError, match="history"):
        total.update(**(other | {"history": batch["history"]}))
    assert len(total) == 9  # what was refused left nothing
    with pytest.raises(TypeError, match="must be a CatalogAccumulator"):
        total.merge("x")
    for change in ({"metrics": "gini"}, {"vectors": p["vectors"] + 1}, {"tail": 0.3}, {"item_groups": None}):
        with pytest.raises(ValueError, match="same arguments"):
            total.merge(CatalogAccumulator(**({"metrics": "epc"} | items | change)))
    assert sp.issparse(batch["history"])  # nothing of the caller's was changed
