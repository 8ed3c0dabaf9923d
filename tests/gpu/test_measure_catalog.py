"""``fr.evaluate_catalog`` on a card, with a CuPy without one."""

from __future__ import annotations

from typing import Any

import cuda_host
import fake_cupy
import numpy as np
import pytest
from scipy import sparse

import fastrec as fr
from fastrec._core.op import OPERATIONS
from fastrec.evaluation.catalog_metrics import METRICS

pytestmark = cuda_host.NEEDED


cupy = fake_cupy.emulated


def known(rng: np.random.Generator, lists: int, items: int) -> dict[str, Any]:
    """Everything that a metric may need."""
    return {
        "n_items": items,
        "vectors": rng.standard_normal((items, 5)),
        "categories": sparse.csr_array((rng.random((items, 4)) < 0.4).astype(float)),
        "history": sparse.csr_array((rng.random((lists, items)) < 0.1).astype(float)),
        "truth": sparse.csr_array((rng.random((lists, items)) < 0.1).astype(float)),
        "baseline": np.arange(7),
        "item_groups": np.arange(items) % 3,
        "metrics": [*METRICS, *(f"{name}@3" for name in METRICS)],
        "undefined": "nan",
    }


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("padded", [False, True])
def test_every_metric_equals_the_cpu(cupy: fake_cupy.Fake, dtype: Any, padded: bool) -> None:
    rng = np.random.default_rng(1)
    for lists, items, k in ((60, 40, 8), (1, 9, 1), (5, 30, 0)):
        ids = np.argsort(rng.random((lists, items)), axis=1)[:, :k].astype(dtype)
        if padded:
            ids[rng.random(ids.shape) < 0.3] = -1
            ids[: lists // 4] = -1
        given = known(rng, lists, items)
        expected = fr.evaluate_catalog(ids, **given)
        got = fr.evaluate_catalog(cupy.asarray(ids), **given)
        assert got.counts == expected.counts
        assert got.undefined == expected.undefined
        np.testing.assert_array_equal(got.item_counts, expected.item_counts)
        np.testing.assert_allclose(list(got.values), list(expected.values), rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(got.per_list, expected.per_list, rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(got.exposure, expected.exposure, rtol=1e-12)


def test_operations_equal_the_cpu(cupy: fake_cupy.Fake) -> None:
    rng = np.random.default_rng(2)
    for case in OPERATIONS["catalog_counts"].examples(rng):
        expected = OPERATIONS["catalog_counts"](**case)
        got = OPERATIONS["catalog_counts"](**case | {"ids": cupy.asarray(case["ids"])})
        np.testing.assert_array_equal(got.items.get(), expected.items)
        np.testing.assert_array_equal(got.lengths.get(), expected.lengths)
        assert got.duplicate == expected.duplicate
    for case in OPERATIONS["list_similarity"].examples(rng):
        there = {name: cupy.asarray(case[name]) for name in ("ids", "units")}
        got = OPERATIONS["list_similarity"](**case | there).get()
        np.testing.assert_allclose(got, OPERATIONS["list_similarity"](**case), rtol=1e-11, atol=1e-13)


def test_refusals(cupy: fake_cupy.Fake) -> None:
    there = cupy.asarray(np.array([[0, 1], [2, 2]]))
    with pytest.raises(ValueError, match="`top` must not list an item twice; list 1 does"):
        fr.evaluate_catalog(there, n_items=3, metrics="coverage")
    with pytest.raises(ValueError, match=r"`top` must hold items 0..1 \(or -1 for none\); list 1 holds 2"):
        fr.evaluate_catalog(there, n_items=2, metrics="coverage")
    with pytest.raises(
        TypeError, match="`top` must hold item rows on a card; ids of `items` are looked up on"
    ):
        fr.evaluate_catalog(there, items=["a", "b", "c"], metrics="coverage")
    top = fr.TopK(there, cupy.asarray(np.zeros((2, 2), np.float32)))
    assert fr.evaluate_catalog(top, n_items=3, metrics="coverage", duplicates="count")["coverage"] == 1


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_batches_equal_one_call(cupy: fake_cupy.Fake, dtype: Any) -> None:
    """Of several widths, on a card that is not the current one, merged; and what is kept is a copy."""
    cupy.devices = 2
    rng = np.random.default_rng(3)
    lists, items = 50, 40
    ids = np.argsort(rng.random((lists, items)), axis=1)[:, :8].astype(dtype)
    ids[rng.random(ids.shape) < 0.2] = -1
    ids[:20, 5:] = -1
    given = known(rng, lists, items)
    about_lists = {name: given.pop(name) for name in ("history", "truth")}
    baseline = given.pop("baseline")
    with cupy.cuda.Device(1):
        batches = [cupy.asarray(ids[:20, :5]), cupy.asarray(ids[20:21]), cupy.asarray(ids[21:])]
    one, other = (fr.evaluation.CatalogAccumulator(**given) for _ in range(2))
    for total, numbers in ((one, (0, 1)), (other, (2,))):
        for number in numbers:
            first = (0, 20, 21, 50)[number : number + 2]
            rows = {name: value[slice(*first)] for name, value in about_lists.items()}
            total.update(batches[number], **rows, baseline=baseline)
            assert [entry for entry in cupy.log if entry[0] in ("sync", "launch")][-1] == ("sync", "stream")
            batches[number].fill(0)
    got = one.merge(other).result()
    assert len(one) == lists
    assert one._parts[0].ids.device.id == 1
    assert one._parts[0].ids.dtype == np.int32
    assert cupy.cuda.runtime.getDevice() == 0
    expected = fr.evaluate_catalog(ids, **given, **about_lists, baseline=baseline)
    assert got.counts == expected.counts
    assert got.undefined == expected.undefined
    np.testing.assert_array_equal(got.item_counts, expected.item_counts)
    np.testing.assert_allclose(list(got.values), list(expected.values), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(got.per_list, expected.per_list, rtol=1e-12, atol=1e-15)


def test_batches_of_two_places_do_not_meet(cupy: fake_cupy.Fake) -> None:
    ids = np.array([[0, 1], [2, 1]])
    here = fr.evaluation.CatalogAccumulator(n_items=3, metrics="coverage").update(ids)
    there = fr.evaluation.CatalogAccumulator(n_items=3, metrics="coverage").update(cupy.asarray(ids))
    match = r"must be on one device; got `the batches before` on cuda:0, `this batch` on cpu"
    for meet in (lambda: there.update(ids), lambda: there.merge(here)):
        with pytest.raises(TypeError, match=match):
            meet()
    assert len(there) == 2
    with pytest.raises(ValueError, match="`top` must not list an item twice; list 0 does"):
        there.update(cupy.asarray(np.array([[1, 1]])))
    assert there.result()["coverage"] == 1
