"""On a card: the answers of the CPU, to the bit.  ``pytest -m gpu`` runs them all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ranking import DRAWS, METRICS, csr_of, draw

import fastrec as fr

pytestmark = pytest.mark.gpu


def assert_same(there: fr.TopK, here: fr.TopK, what: str = "") -> None:
    np.testing.assert_array_equal(there.rows.get(), here.rows, err_msg=what)
    np.testing.assert_array_equal(
        there.scores.get().view(np.uint32), here.scores.view(np.uint32), err_msg=what
    )


@pytest.mark.parametrize("kind", DRAWS)
def test_scores(cupy: Any, kind: str) -> None:
    rng = np.random.default_rng(0)
    for d in (1, 8, 31, 64, 129):
        queries, items = draw("normal", rng, 20, d), draw(kind, rng, 500, d)
        for metric in METRICS:
            here = fr.score(queries, items, metric=metric)
            there = fr.score(cupy.asarray(queries), cupy.asarray(items), metric=metric).get()
            np.testing.assert_array_equal(np.isnan(there), np.isnan(here))
            same = np.where(np.isnan(here), 0, here).view(np.uint32) == np.where(
                np.isnan(there), 0, there
            ).view(np.uint32)
            assert same.all(), f"{kind} {metric} d={d}"


@pytest.mark.parametrize("precision", ["int8", "float32"])
@pytest.mark.parametrize("kind", DRAWS)
def test_every_kind_of_items(cupy: Any, kind: str, precision: str) -> None:
    rng = np.random.default_rng(1)
    items, queries = draw(kind, rng, 20_000, 64), draw("normal", rng, 200, 64)
    queries[3] = 0
    bias = rng.standard_normal(20_000).astype(np.float32)
    seen = csr_of(rng.random((200, 20_000)) < 0.005)
    there_seen = tuple(cupy.asarray(a) for a in seen)
    for metric in METRICS:
        for terms in (None, bias):
            here = fr.Index(items, metric, terms)
            packed = fr.Index(
                cupy.asarray(items),
                metric,
                None if terms is None else cupy.asarray(terms),
                precision=precision,
            )
            for there in (packed, fr.Index(items, metric, terms, precision=precision).to("cuda")):
                for k in (1, 10, 300):
                    what = f"{kind} {metric} {precision} k={k}"
                    assert_same(there.topk(cupy.asarray(queries), k), here.topk(queries, k), what)
                got = there.topk(cupy.asarray(queries), 20, exclude=there_seen, min_score=0.0)
                assert_same(got, here.topk(queries, 20, exclude=seen, min_score=0.0), kind)


@pytest.mark.parametrize("q", [1, 7, 64, 1000, 5000])
@pytest.mark.parametrize("d", [8, 64, 128, 768])
def test_sizes(cupy: Any, q: int, d: int) -> None:
    rng = np.random.default_rng(q + d)
    items, queries = draw("gamma norms", rng, 100_000, d), draw("normal", rng, q, d)
    some = np.sort(rng.choice(q, min(q, 50), replace=False))
    top = fr.Index(cupy.asarray(items)).topk(cupy.asarray(queries), 100)
    assert_same(fr.TopK(top.rows[some], top.scores[some]), fr.Index(items).topk(queries[some], 100))


@pytest.mark.parametrize("k", [1, 100, 2049, 16_384])
def test_select(cupy: Any, k: int) -> None:
    rng = np.random.default_rng(2)
    for shape in ((1, 1_000_000), (300, 30_000)):
        scores = np.round(rng.standard_normal(shape), 3).astype(np.float32)
        scores[0, ::7] = np.nan
        assert_same(fr.select_topk(cupy.asarray(scores), k), fr.select_topk(scores, k))


def test_streams_and_graphs(cupy: Any) -> None:
    """Work goes on the current stream; a search of fixed sizes can be captured once its memory is in the pool."""
    rng = np.random.default_rng(3)
    items, queries = draw("gamma norms", rng, 50_000, 64), draw("normal", rng, 64, 64)
    index, there = fr.Index(cupy.asarray(items)), cupy.asarray(queries)
    expected = fr.Index(items).topk(queries, 10)
    out = cupy.empty((64, 10), cupy.int64), cupy.empty((64, 10), cupy.float32)
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        index.topk(there, 10, out=out)
        stream.synchronize()
        assert_same(fr.TopK(*out), expected)
        out[0].fill(0)
        stream.synchronize()
        stream.begin_capture()
        index.topk(there, 10, out=out)
        graph = stream.end_capture()
        graph.launch(stream)
        stream.synchronize()
    assert_same(fr.TopK(*out), expected)


def test_torch(cupy: Any) -> None:
    torch = pytest.importorskip("torch", reason="needs torch with CUDA")
    if not torch.cuda.is_available():
        pytest.skip("needs torch with CUDA")
    rng = np.random.default_rng(4)
    items, queries = draw("normal", rng, 30_000, 48), draw("normal", rng, 100, 48)
    with torch.cuda.stream(torch.cuda.Stream()):
        top = fr.topk(torch.tensor(queries, device="cuda"), torch.tensor(items, device="cuda"), 10)
        rows = torch.from_dlpack(top.rows)
    np.testing.assert_array_equal(rows.cpu().numpy(), fr.topk(queries, items, 10).rows)
    half = torch.tensor(items, device="cuda").bfloat16()
    top = fr.Index(half).topk(torch.tensor(queries, device="cuda"), 10)
    np.testing.assert_array_equal(top.rows.get(), fr.topk(queries, half.float().cpu().numpy(), 10).rows)


def test_two_cards(cupy: Any) -> None:
    if cupy.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("needs two NVIDIA GPUs")
    rng = np.random.default_rng(5)
    items, queries = draw("gamma norms", rng, 60_000, 64), draw("normal", rng, 50, 64)
    top = fr.Index(items).to([0, 1]).topk(cupy.asarray(queries), 100)
    assert_same(top, fr.Index(items).topk(queries, 100))
