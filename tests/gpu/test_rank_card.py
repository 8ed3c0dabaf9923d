"""On a card: the answers of the CPU, to the bit.  ``pytest -m gpu`` runs them all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ranking import DRAWS, METRICS, csr_of, draw

import fastrec as fr
from fastrec._core import cuda
from fastrec.ranking import device_index

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def screened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Indexes of a few thousand items are screened, though it may be quicker to score all of their items."""
    monkeypatch.setattr(device_index, "SMALL", 4096)


def test_the_quicker_way(cupy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything scored canonically, up to a number of items and of products."""
    monkeypatch.undo()
    rng = np.random.default_rng(6)
    queries = draw("normal", rng, 33, 64)
    for n in (device_index.SMALL, device_index.SMALL + 1):
        items = draw("normal", rng, n, 64)
        index, here = fr.Index(cupy.asarray(items)), fr.Index(items)
        for q in (1, 32, 33):
            assert_same(index.topk(cupy.asarray(queries[:q]), 100), here.topk(queries[:q], 100), f"{n} {q}")


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


@pytest.mark.parametrize("loose", [0.17, -1.0])
@pytest.mark.parametrize("kind", ["normal", "gamma norms", "small integers", "near-duplicates"])
def test_numbers_of_queries_around_every_border(
    cupy: Any, monkeypatch: pytest.MonkeyPatch, kind: str, loose: float
) -> None:
    """Another way on either side: queries scored at once, narrow tiles, blocks of their own, seeded ones, more."""
    monkeypatch.setattr(device_index, "LOOSE", loose)
    most = device_index.SEEDED + 1
    rng = np.random.default_rng(14)
    items, queries = draw(kind, rng, 70_000, 48), draw("normal", rng, most, 48)
    queries[20] = 0
    pointers = np.arange(most + 1, dtype=np.int64) * 70
    seen = np.sort(rng.integers(0, 1000, (most, 70)) + np.arange(70) * 1000).astype(np.int32).ravel()
    index, here = fr.Index(cupy.asarray(items), precision="int8"), fr.Index(items)
    assert index._card.half == (loose < 0)
    assert [index._card._plan(30, count)[0] > 0 for count in (1, most - 1, most)] == [True, True, False]
    expected = here.topk(queries, 30, exclude=(pointers, seen))
    borders = (device_index.AT_ONCE, 32, 64, device_index.ALONE, device_index.SEEDED)
    for count in (count + more for count in borders for more in (0, 1)):
        lists = tuple(map(cupy.asarray, (pointers[: count + 1], seen[: pointers[count]])))
        top = index.topk(cupy.asarray(queries[:count]), 30, exclude=lists)
        assert_same(top, fr.TopK(expected.rows[:count], expected.scores[:count]), f"{count}")


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


@pytest.mark.parametrize("count", [1, 64])
@pytest.mark.parametrize("kind", [np.int32, np.int64])
def test_a_graph_with_exclusions(cupy: Any, kind: Any, count: int) -> None:
    """Lists are read when the graph runs, and what cannot be raised then is seen in the answer."""
    rng = np.random.default_rng(13)
    items, queries = draw("gamma norms", rng, 50_000, 64), draw("normal", rng, count, 64)
    index, there = fr.Index(cupy.asarray(items)), cupy.asarray(queries)
    pointers, seen = csr_of(rng.random((count, 50_000)) < 0.01)
    expected = fr.Index(items).topk(queries, 10, exclude=(pointers, seen))
    indptr, indices = cupy.asarray(pointers.astype(np.int64)), cupy.asarray(seen.astype(kind))
    out = cupy.empty((count, 10), cupy.int64), cupy.empty((count, 10), cupy.float32)
    cuda.settle()
    with cupy.cuda.Stream(non_blocking=True) as stream:
        for _ in range(2):  # so that its memory is in the pool
            index.topk(there, 10, exclude=(indptr, indices), out=out)
        stream.begin_capture()
        index.topk(there, 10, exclude=(indptr, indices), out=out)
        graph = stream.end_capture()
        wrong = seen.astype(kind)
        wrong[len(wrong) // 2] = 50_000
        for given, right in ((seen.astype(kind), True), (wrong, False), (seen.astype(kind), True)):
            indices.set(given)
            for part in out:
                part.fill(0)
            graph.launch(stream)
            stream.synchronize()
            if right:
                assert_same(fr.TopK(*out), expected)
            else:
                assert (out[0].get() == -1).all()
                assert np.isnan(out[1].get()).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("streamed", [False, True])
def test_an_index_from_a_file(
    cupy: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, streamed: bool, dtype: Any
) -> None:
    """Packed on the CPU, saved, brought to the card; or left on the host, as one larger than the card is."""
    rng = np.random.default_rng(6)
    items, queries = draw("gamma norms", rng, 30_000, 64).astype(dtype), draw("normal", rng, 70, 64)
    bias, seen = rng.standard_normal(30_000).astype(np.float32), csr_of(rng.random((70, 30_000)) < 0.003)
    there, there_seen = cupy.asarray(queries), tuple(cupy.asarray(part) for part in seen)
    some = np.sort(rng.choice(30_000, 500, replace=False))
    monkeypatch.setattr(device_index, "_STAGE", 64 * 5 * 32 * 40)  # some twenty stretches
    if streamed:
        monkeypatch.setattr(cuda, "free_bytes", lambda number: 0)
    for metric in METRICS:
        for precision in ("int8", "float32") if dtype == np.float32 else ("int8",):
            host = fr.Index(items, metric, bias, precision=precision)
            host.save(tmp_path / "index")
            index = fr.Index.load(tmp_path / "index", device="cuda")
            assert (index._card.host is not None) == streamed
            for count, k in ((1, 100), (70, 10), (70, 1000)):
                what, few = f"{metric} {precision} {count} k={k}", (seen[0][: count + 1], seen[1])
                few = few[0], few[1][: few[0][-1]]
                assert_same(index.topk(there[:count], k), host.topk(queries[:count], k), what)
                got = index.topk(there[:count], k, exclude=tuple(map(cupy.asarray, few)), min_score=0.0)
                assert_same(got, host.topk(queries[:count], k, exclude=few, min_score=0.0), what)
            got = index.topk(there, 10, exclude=there_seen, candidates=cupy.asarray(some))
            assert_same(got, host.topk(queries, 10, exclude=seen, candidates=some), metric)


def test_streamed_by_two_streams_in_turn(cupy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits between them: copies must not run over stretches that the other's kernels still read."""
    rng = np.random.default_rng(7)
    items, queries = draw("normal", rng, 60_000, 64), draw("normal", rng, 256, 64)
    monkeypatch.setattr(device_index, "_STAGE", 64 * 5 * 32 * 40)
    monkeypatch.setattr(cuda, "free_bytes", lambda number: 0)
    host = fr.Index(items)
    index, there, expected = host.to("cuda"), cupy.asarray(queries), host.topk(queries, 50)
    cuda.settle()
    tops = []
    for stream in [cupy.cuda.Stream(non_blocking=True) for _ in range(2)] * 3:
        with stream:
            tops.append(index.topk(there, 50))
    cupy.cuda.runtime.deviceSynchronize()
    for top in tops:
        assert_same(top, expected)


def test_shared_out_to_a_card_twice(cupy: Any) -> None:
    rng = np.random.default_rng(8)
    items, queries = draw("gamma norms", rng, 40_000, 64), draw("normal", rng, 50, 64)
    seen, labels = csr_of(rng.random((50, 40_000)) < 0.005), np.arange(40_000) + 9
    whole, there = fr.Index(items, ids=labels), cupy.asarray(queries)
    shards = whole.to([0, 0, 0])
    expected = whole.topk(queries, 100, exclude=seen, min_score=0.0)
    top = shards.topk(there, 100, exclude=seen, min_score=0.0)
    assert_same(top, expected)
    np.testing.assert_array_equal(top.ids, expected.ids)
    assert_same(shards.topk(there, 7, candidates=seen), whole.topk(queries, 7, candidates=seen))


@pytest.mark.parametrize("metric", METRICS)
def test_half_types(cupy: Any, metric: str) -> None:
    rng = np.random.default_rng(9)
    items, queries = draw("gamma norms", rng, 20_000, 64), draw("normal", rng, 64, 64)
    half = items.astype(np.float16)
    here = fr.Index(half, metric)
    got = fr.score(cupy.asarray(queries), cupy.asarray(half[:999]), metric=metric)
    np.testing.assert_array_equal(got.get(), fr.score(queries, half[:999], metric=metric))
    for precision in ("int8", "float32"):
        there = fr.Index(cupy.asarray(half), metric, precision=precision)
        for count in (1, 64):
            some = queries[:count].astype(np.float16)
            assert_same(there.topk(cupy.asarray(some), 100), here.topk(some, 100), f"{precision} {count}")


@pytest.mark.parametrize("metric", METRICS)
def test_bfloat16(cupy: Any, torch: Any, metric: str) -> None:
    rng = np.random.default_rng(9)
    items, queries = draw("gamma norms", rng, 20_000, 64), draw("normal", rng, 64, 64)
    half = torch.tensor(items).bfloat16()
    here, there = fr.Index(half, metric), fr.Index(half.cuda(), metric)
    for count in (1, 64):
        assert_same(
            there.topk(cupy.asarray(queries[:count]), 100), here.topk(queries[:count], 100), f"{count}"
        )


def test_lists_that_are_wrong(cupy: Any) -> None:
    """The verdict comes when the search has been launched: it has done no harm, and the next one is right."""
    rng = np.random.default_rng(10)
    items, queries = draw("normal", rng, 20_000, 32), draw("normal", rng, 40, 32)
    host, seen = fr.Index(items), csr_of(rng.random((40, 20_000)) < 0.002)
    index, there = fr.Index(cupy.asarray(items)), cupy.asarray(queries)
    expected, large = host.topk(queries, 20, exclude=seen), np.iinfo(np.int64).max
    for at, wrong in ((0, large), (0, -large), (1, 20_000), (1, -1), (1, large), (0, 7), (1, 3 << 40)):
        lists = [part.astype(np.int64) for part in seen]
        lists[at][len(lists[at]) // 2] = wrong
        with pytest.raises(ValueError, match="`exclude`") as said:
            host.topk(queries, 20, exclude=tuple(lists))
        with pytest.raises(ValueError, match="`exclude`") as found:
            index.topk(there, 20, exclude=tuple(map(cupy.asarray, lists)))
        assert abs(wrong) == large or str(found.value) == str(said.value)
        assert_same(index.topk(there, 20, exclude=tuple(map(cupy.asarray, seen))), expected)
    indptr, indices = seen
    turned = np.concatenate([row[::-1] for row in np.split(indices, indptr[1:-1])])
    assert_same(index.topk(there, 20, exclude=(cupy.asarray(indptr), cupy.asarray(turned))), expected)


@pytest.mark.parametrize("own", [False, True])
def test_what_torch_has_queued_comes_first(cupy: Any, torch: Any, own: bool) -> None:
    """On torch's current stream, its first or another: after the queries are there, and before they are gone."""
    rng = np.random.default_rng(11)
    items, queries = draw("normal", rng, 30_000, 48), draw("normal", rng, 100, 48)
    index, source = fr.Index(torch.tensor(items, device="cuda")), torch.tensor(queries, device="cuda")
    late = torch.zeros_like(source)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream() if own else torch.cuda.current_stream()
    with torch.cuda.stream(stream):
        for cycles in (1, 400_000_000):  # kernels are compiled and memory is asked for; then some 200 ms
            top = None  # whose memory the next one has
            torch.cuda._sleep(cycles)
            late.copy_(source)
            top = index.topk(late, 10)
            late.zero_()
            rows, scores = (torch.from_dlpack(part).clone() for part in (top.rows, top.scores))
            nobody_waited = not stream.query()
            stream.synchronize()
    assert nobody_waited
    expected = fr.topk(queries, items, 10)
    np.testing.assert_array_equal(rows.cpu().numpy(), expected.rows)
    np.testing.assert_array_equal(scores.cpu().numpy(), expected.scores)


def test_torch(cupy: Any, torch: Any) -> None:
    rng = np.random.default_rng(4)
    items, queries = draw("normal", rng, 30_000, 48), draw("normal", rng, 100, 48)
    with torch.cuda.stream(torch.cuda.Stream()):
        top = fr.topk(torch.tensor(queries, device="cuda"), torch.tensor(items, device="cuda"), 10)
        rows = torch.from_dlpack(
            top.rows
        ).cpu()  # on the stream where they are made: others do not wait for it
    np.testing.assert_array_equal(rows.numpy(), fr.topk(queries, items, 10).rows)
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
