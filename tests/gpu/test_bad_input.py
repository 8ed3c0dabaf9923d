"""What a card must not be asked, refused by name before it is; on the host, with a CuPy without a card."""

from __future__ import annotations

from typing import Any

import fake_cupy
import numpy as np
import pytest

import fastrec as fr
from fastrec._core import arrays, cuda

cupy = fake_cupy.emulated


def calls(cupy: fake_cupy.Fake) -> dict[str, Any]:
    """Every verb on a card, as a function of one matrix (60, 4) of float32."""
    labels = cupy.asarray(np.arange(60) % 2)
    model = fr.models.LogisticRegression(epochs=1).fit(np.ones((4, 4)), [0, 1, 0, 1]).to("cuda")
    return {
        "Index": lambda x: fr.Index(x),
        "topk": lambda x: fr.topk(x, x, 3),
        "score": lambda x: fr.score(x, x),
        "select_topk": lambda x: fr.select_topk(x, 2),
        "importance": lambda x: fr.importance(model, x, labels),
        "predict_proba": lambda x: model.predict_proba(x),
        "fit": lambda x: fr.models.LogisticRegression(epochs=1).fit(x, labels),
        "select": lambda x: fr.select(x[:, 0], n=2, strategy="top"),
        "evaluate_clicks": lambda x: fr.evaluate_clicks(labels, x[:, 0], metrics="auc"),
    }


def bits(value: Any) -> list[np.ndarray]:
    if isinstance(value, fr.Index):
        return []
    if isinstance(value, fr.TopK):
        return [value.rows.get(), value.scores.get()]
    if hasattr(value, "coef_"):
        return [value.coef_.get()]
    if hasattr(value, "mask"):
        return [value.index.get()]
    return [value.get()] if isinstance(value, fake_cupy.Array) else [np.array(list(value.values))]


def test_strided_arrays_are_read_as_they_are(cupy: fake_cupy.Fake) -> None:
    x = np.random.default_rng(0).standard_normal((60, 4)).astype(np.float32)
    wide, back = np.zeros((60, 9), np.float32), np.ascontiguousarray(x[::-1])
    wide[:, 1::2] = x
    forms = (cupy.asarray(wide)[:, 1::2], cupy.asarray(np.asfortranarray(x)), cupy.asarray(back)[::-1])
    for name, call in calls(cupy).items():
        expected = bits(call(cupy.asarray(x)))
        for form in forms:
            assert not form.flags.c_contiguous
            for one, other in zip(bits(call(form)), expected, strict=True):
                np.testing.assert_array_equal(one, other, err_msg=name)


def test_every_verb_works_on_a_card_that_is_not_the_current_one(cupy: fake_cupy.Fake) -> None:
    cupy.devices = 2
    x = np.random.default_rng(0).standard_normal((60, 4)).astype(np.float32)
    here = {name: bits(call(cupy.asarray(x))) for name, call in calls(cupy).items()}
    with cupy.cuda.Device(1):
        there, every = cupy.asarray(x), calls(cupy)
        ids = cupy.asarray(np.arange(60).reshape(12, 5))
        truth = fr.Truth([[5 * q + 2] for q in range(12)]).to("cuda")
    for name, call in every.items():
        for one, other in zip(bits(call(there)), here[name], strict=True):
            np.testing.assert_array_equal(one, other, err_msg=name)
    index = fr.Index(there, bias=there[:, 0])
    top = index.topk(there[:3], 4, candidates=ids[0])
    assert top.rows.device.id == fr.merge_topk([top, top], 4).rows.device.id == 1
    assert fr.evaluate(ids, truth, ["mrr", "ndcg@3"])["mrr"] == pytest.approx(1 / 3)
    assert cupy.cuda.runtime.getDevice() == 0


def test_misaligned_arrays(cupy: fake_cupy.Fake) -> None:
    raw = np.zeros(60 * 16 + 3, np.uint8)
    x = cupy.wrap(raw[3:].view(np.float32).reshape(60, 4), 0)
    assert x.data.ptr % 4
    for call in calls(cupy).values():
        with pytest.raises(ValueError, match=r"is misaligned: its float32 elements lie [123] bytes off"):
            call(x)
    packed = np.zeros(60, np.dtype([("flag", np.uint8), ("score", np.float32)]))["score"]
    with pytest.raises(ValueError, match=r"`scores` is misaligned: .* or \(5,\) bytes apart"):
        fr.select(cupy.wrap(packed, 0), n=2, strategy="top")


def test_two_cards_do_not_meet(cupy: fake_cupy.Fake) -> None:
    cupy.devices = 2
    x = np.ones((6, 4), np.float32)
    here = cupy.asarray(x)
    with cupy.cuda.Device(1):
        there = cupy.asarray(x)
    for call in (
        lambda: fr.topk(here, there, 2),
        lambda: fr.score(here, there),
        lambda: fr.score_pairs(here, here, cupy.asarray(np.arange(2)), there[:2, 0].astype(np.int64)),
        lambda: fr.evaluate_clicks(here[:, 0], there[:, 0]),
        lambda: fr.evaluate_clicks(here[:, 0], here[:, 0], weights=there[:, 0]),
        lambda: fr.select(here[:, 0], n=2, y=there[:, 0]),
        lambda: fr.models.LogisticRegression().fit(here, there[:, 0]),
    ):
        with pytest.raises(TypeError, match=r"cuda:0.*cuda:1|cuda:1.*cuda:0"):
            call()


def test_memory_that_runs_out_is_named(cupy: fake_cupy.Fake) -> None:
    x = cupy.asarray(np.random.default_rng(0).standard_normal((60, 4)).astype(np.float32))
    every, column = calls(cupy), cupy.asarray(np.ones(60, np.float32))
    every["evaluate_clicks"] = lambda _: fr.evaluate_clicks(column, column)
    cupy.limit = 100  # bytes
    for name, what in (
        ("Index", "no room on the GPU for an index of 60 items of 4 dimensions"),
        ("score", r"no room on the GPU for score of `queries` 60x4 float32"),
        ("select_topk", "`k` = 2 for 60 queries needs 1440 bytes of output"),
        (
            "importance",
            r"no room on the GPU for linear_forward of `values` 60x4 float32, `parameters` 5 float64",
        ),
        ("evaluate_clicks", "no room on the GPU for the click metrics of 60 rows"),
    ):
        with pytest.raises(MemoryError, match=rf"{what}.*Out of memory allocating") as caught:
            every[name](x)
        assert not cuda.is_out_of_memory(caught.value), name


def test_cards_that_are_too_old(cupy: fake_cupy.Fake) -> None:
    x = cupy.asarray(np.ones((60, 4), np.float32))
    every = calls(cupy)
    cupy.capability = "75"
    cuda._kernel.cache_clear()
    for name in ("Index", "topk", "score", "importance", "evaluate_clicks"):
        with pytest.raises(
            RuntimeError, match=r"need compute capability 8.0 \(Ampere\) or newer; GPU 0 has 7.5"
        ):
            every[name](x)


def test_an_index_is_ready_for_any_stream(cupy: fake_cupy.Fake) -> None:
    """Building waits at its end: a search may run on another stream, torch's for one."""
    x = np.ones((60, 4), np.float32)
    for build in (
        lambda: fr.Index(cupy.asarray(x)),
        lambda: fr.Index(x).to("cuda"),
        lambda: fr.Truth([[1]]).to("cuda"),
        lambda: fr.models.LogisticRegression(epochs=1).fit(x, np.arange(60) % 2).to("cuda"),
    ):
        build()
        assert [entry for entry in cupy.log if entry[0] in ("sync", "launch")][-1] == ("sync", "stream")


def test_on_card() -> None:
    assert not arrays.on_card(np.ones(3))
    assert not arrays.on_card([1.0])
    assert not arrays.on_card(None)

    class There:
        def __dlpack_device__(self) -> tuple[int, int]:
            return 2, 0

    class Broken:
        def __dlpack_device__(self) -> tuple[int, int]:
            raise BufferError("no")

    assert arrays.on_card(There())
    assert not arrays.on_card(Broken())
