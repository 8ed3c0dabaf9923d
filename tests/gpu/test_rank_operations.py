"""The CUDA paths of the ranking operations, on the host: real sources, real launch code, a CuPy without a card."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from typing import Any

import cuda_host
import fake_cupy
import numpy as np
import pytest
from ranking import DRAWS, METRICS, SCORE_KINDS, best, draw, rows_of, score_matrix

import fastrec as fr
from fastrec.ranking import device

pytestmark = cuda_host.NEEDED


cupy = fake_cupy.emulated


@pytest.fixture(params=["forward", "reverse", 7])
def order(request: pytest.FixtureRequest) -> Iterator[None]:
    with cuda_host.thread_order(request.param):
        yield


def same_bits(got: Any, expected: np.ndarray, what: str = "") -> None:
    got = got.get()
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape), what
    nan = expected != expected
    np.testing.assert_array_equal(got != got, nan, err_msg=what)
    np.testing.assert_array_equal(got[~nan].view(np.uint32), expected[~nan].view(np.uint32), err_msg=what)


@pytest.mark.parametrize("metric", METRICS)
def test_score_equals_the_oracle(cupy: fake_cupy.Fake, metric: str) -> None:
    rng = np.random.default_rng(0)
    for number, kind in enumerate(DRAWS):
        d = (0, 1, 7, 8, 9, 16, 31, 65)[number % 8]
        queries, items = draw("normal", rng, 4, d), draw(kind, rng, 30, d)
        for bias in (None, rng.standard_normal(30).astype(np.float32)):
            expected = score_matrix(queries, items, metric, bias)
            terms = None if bias is None else cupy.asarray(bias)
            with cupy.nothing_waits():
                got = fr.score(cupy.asarray(queries), cupy.asarray(items), metric=metric, bias=terms)
            same_bits(got, expected, f"{kind} d={d}")


def test_score_pairs_equals_the_oracle_and_every_order_of_threads(cupy: fake_cupy.Fake, order: None) -> None:
    rng = np.random.default_rng(1)
    for metric in METRICS:
        for count in (0, 1, 3, 4, 5, 31, 33, 257):
            queries, items = draw("normal", rng, 5, 37), draw("mixed scales", rng, 40, 37)
            rows, cols = rng.integers(0, 5, count), rng.integers(0, 40, count)
            arguments = [cupy.asarray(a) for a in (queries, items, rows, cols)]
            got = fr.score_pairs(*arguments, metric=metric)
            same_bits(got, score_matrix(queries, items, metric)[rows, cols], f"{metric} {count}")


def test_cases_of_the_registry(cupy: fake_cupy.Fake) -> None:
    """What every operation's kernels must equal, on what every operation's tests run."""
    for name in ("score", "score_pairs", "select_topk"):
        operation = getattr(fr, name)
        for case in operation.examples(np.random.default_rng(2)):
            there = {
                key: cupy.asarray(value) if isinstance(value, np.ndarray) else value
                for key, value in case.items()
            }
            got, expected = operation(**there), operation(**case)
            if name == "select_topk":
                np.testing.assert_array_equal(got.rows.get(), expected.rows)
                same_bits(got.scores, expected.scores, name)
            else:
                same_bits(got, expected, name)
    assert {"fr_score_pairs", "fr_select_scores", "fr_finish"} <= set(cupy.launches())


@pytest.mark.parametrize("kind", SCORE_KINDS)
def test_select_topk_equals_a_sort(cupy: fake_cupy.Fake, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_SHARE", 700)  # so that rows are shared out
    rng = np.random.default_rng(3)
    for n in (1, 255, 1024, 2900):
        scores = rows_of(kind, rng, n)
        for k in (1, 10, n, n + 3):
            with cupy.nothing_waits():
                top = fr.select_topk(cupy.asarray(scores), k)
            rows, values = best(scores + np.float32(0), k)
            np.testing.assert_array_equal(top.rows.get(), rows, err_msg=f"n={n} k={k}")
            same_bits(top.scores, values, f"n={n} k={k}")


def test_select_topk_of_many_columns(cupy: fake_cupy.Fake, order: None) -> None:
    """k beyond what is sorted in shared memory, and a row that has to be cut back again and again."""
    scores = np.sort(np.random.default_rng(4).standard_normal((1, 9000)).astype(np.float32), axis=1)
    scores[0, 4000:6000] = 0.25
    for k in (5000, 1500):
        top = fr.select_topk(cupy.asarray(scores), k)
        rows, values = best(scores, k)
        np.testing.assert_array_equal(top.rows.get(), rows)
        same_bits(top.scores, values)


def test_work_goes_where_the_arrays_are(cupy: fake_cupy.Fake) -> None:
    cupy.devices = 2
    with cupy.cuda.Device(1):
        scores = cupy.asarray(np.arange(12, dtype=np.float32).reshape(2, 6))
    top = fr.select_topk(scores, 2)
    assert (top.rows.device.id, top.scores.device.id) == (1, 1)
    assert top.rows.get().tolist() == [[5, 4], [5, 4]]
    strided = fr.select_topk(scores[:, ::2], 1)
    assert strided.rows.get().tolist() == [[2], [2]]
    here = cupy.asarray(np.ones((2, 6), np.float32))
    with pytest.raises(TypeError, match=r"`queries` on cuda:0, `items` on cuda:1.*never copies"):
        fr.score(here, scores)
    with pytest.raises(TypeError, match=r"`queries` on cpu, `items` on cuda:1"):
        fr.score(np.ones((2, 6)), scores)
    with pytest.raises(TypeError, match=r"`out` must be on cuda:1"):
        fr.score(scores, scores, out=cupy.empty((2, 2), np.float32))


def test_results_are_written_where_the_caller_says(cupy: fake_cupy.Fake) -> None:
    scores = cupy.asarray(np.arange(6, dtype=np.float32).reshape(1, 6))
    out = cupy.empty((1, 2), np.int64), cupy.empty((1, 2), np.float32)
    top = fr.select_topk(scores, 2, out=out)
    assert top.rows is out[0]
    assert top.scores is out[1]
    assert out[0].get().tolist() == [[5, 4]]


def test_torch_tensors_are_worked_on_in_torchs_stream(
    cupy: fake_cupy.Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Tensor:
        is_cuda, requires_grad, dtype = True, False, "torch.float32"
        device = types.SimpleNamespace(type="cuda", index=1)

        def __init__(self, array: np.ndarray) -> None:
            self._host = array

        def __dlpack_device__(self) -> tuple[int, int]:
            return 2, 1

    torch = types.ModuleType("torch")
    torch.Tensor = Tensor  # type: ignore[attr-defined]
    torch.cuda = types.SimpleNamespace(  # type: ignore[attr-defined]
        current_stream=lambda device: types.SimpleNamespace(cuda_stream=70 + device.index)
    )
    monkeypatch.setitem(sys.modules, "torch", torch)
    cupy.devices = 2
    top = fr.select_topk(Tensor(np.array([[3.0, 5.0, 4.0]], np.float32)), 2)
    assert top.rows.device.id == 1
    assert top.rows.get().tolist() == [[1, 2]]
    launches = [entry for entry in cupy.log if entry[0] == "launch"]
    assert launches
    assert {entry[-1] for entry in launches} == {71}
    with cupy.cuda.Device(1):
        items = cupy.asarray(np.eye(3, dtype=np.float32))
    cupy.log.clear()
    assert fr.Index(items).topk(Tensor(np.array([[3.0, 5.0, 4.0]], np.float32)), 2).rows.get().tolist() == [
        [1, 2]
    ]
    assert [entry[-1] for entry in cupy.log if entry[0] == "launch"][-1] == 71
    cupy.log.clear()
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((40, 3)).astype(np.float32), rng.integers(0, 2, 40)
    samples, labels, scores = Tensor(X), Tensor(y), Tensor(np.abs(X[:, 0]))
    model = fr.models.LogisticRegression(epochs=1).fit(samples, labels)
    assert model.coef_.device.id == 1
    for call in (
        lambda: model.predict_proba(samples),
        lambda: fr.importance(model, samples, labels),
        lambda: fr.evaluate_clicks(labels, scores, metrics="auc"),
        lambda: fr.evaluate(
            Tensor(np.arange(6).reshape(2, 3)), fr.Truth([[1], [5]]).to("cuda:1"), ["mrr", "ndcg"]
        ),
        lambda: fr.Index(samples).topk(samples, 3),
    ):
        call()
    launches = {(entry[1], entry[-1]) for entry in cupy.log if entry[0] == "launch"}
    assert {"fr_logistic_batch", "fr_logistic_map", "fr_click_sweep", "fr_rank_metrics", "fr_pack"} <= {
        name for name, _ in launches
    }
    assert {stream for _, stream in launches} == {71}
    kept = fr.select(scores, n=5, strategy="top")
    assert kept.index.device.id == 1
    assert cupy.stream == "default"
    assert cupy.cuda.runtime.getDevice() == 0
