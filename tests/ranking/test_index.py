"""``Index``: what it takes, what it keeps, what it refuses."""

from __future__ import annotations

import copy
import gc
import multiprocessing
import pickle
import weakref
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ranking import METRICS, assert_top, draw, oracle

import fastrec as fr
from fastrec.ranking.storage import VERSION

RNG = np.random.default_rng(0)
ITEMS, QUERIES = draw("gamma norms", RNG, 170, 36), draw("normal", RNG, 13, 36)


# ---- what it takes ----


def layouts(x: np.ndarray) -> dict[str, np.ndarray]:
    read_only = x.copy()
    read_only.flags.writeable = False
    inside = np.full((len(x), x.shape[1] + 5), np.nan, x.dtype)
    inside[:, 2 : 2 + x.shape[1]] = x
    shifted = np.empty(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    shifted[...] = x
    record = np.zeros(len(x), [("a", "u1"), ("x", x.dtype, x.shape[1])])
    record["x"] = x
    return {
        "read-only": read_only,
        "every second row": np.repeat(x, 2, axis=0)[::2],
        "every second column": np.repeat(x, 2, axis=1)[:, ::2],
        "reversed rows": x[::-1].copy()[::-1],
        "reversed columns": x[:, ::-1].copy()[:, ::-1],
        "Fortran": np.asfortranarray(x),
        "big-endian": x.astype(x.dtype.newbyteorder(">")),
        "inside a wider matrix": inside[:, 2 : 2 + x.shape[1]],
        "misaligned": shifted,
        "in records": record["x"],
    }


@pytest.mark.parametrize("layout", layouts(ITEMS))
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_layouts(layout: str, dtype: str) -> None:
    items = layouts(ITEMS.astype(dtype))[layout]
    for metric in METRICS:
        expected = oracle(QUERIES, items, 11, metric)
        for precision in ("int8", "float32"):
            index = fr.Index(items, metric, precision=precision)
            assert_top(index.topk(QUERIES, 11), expected, f"{metric} {precision}")
            assert_top(index.topk(QUERIES, 11, candidates=np.arange(170)), expected, "candidates")


@pytest.mark.parametrize("layout", layouts(QUERIES))
def test_layouts_of_queries(layout: str) -> None:
    assert_top(fr.Index(ITEMS).topk(layouts(QUERIES)[layout], 5), oracle(QUERIES, ITEMS, 5))


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "uint8", "int32", "int64", "float16", "float32", "float64"]
)
def test_dtypes(dtype: str) -> None:
    rng = np.random.default_rng(1)
    items, queries = rng.integers(0, 2, (90, 12)).astype(dtype), rng.integers(0, 2, (5, 12)).astype(dtype)
    for precision in ("int8", "float32"):
        index = fr.Index(items, precision=precision)
        assert_top(index.topk(queries, 7), oracle(queries, items, 7))


def test_a_row_many_times() -> None:
    items = np.broadcast_to(ITEMS[3], (100, 36))  # stride 0
    assert_top(fr.Index(items).topk(QUERIES, 40), oracle(QUERIES, items, 40))


@pytest.mark.parametrize("d", [3, 16, 40, 513, 1500])
def test_half_precision(d: int) -> None:
    torch = pytest.importorskip("torch", reason="makes bfloat16 items")
    rng = np.random.default_rng(d)
    x, queries = draw("gamma norms", rng, 100, d), draw("normal", rng, 5, d)
    x[1] *= 1e-6  # subnormal in float16
    x[7, 0], x[8, 1] = np.inf, np.nan
    bits = torch.tensor(x).bfloat16()
    for items, values in [(x.astype(np.float16), x.astype(np.float16)), (bits, bits.float().numpy())]:
        for metric in METRICS:
            expected = oracle(queries, values, 9, metric)
            for precision in ("int8", "float32"):
                assert_top(fr.Index(items, metric, precision=precision).topk(queries, 9), expected, metric)
                assert_top(fr.topk(queries, items, 9, metric=metric, precision=precision), expected, metric)
    assert_top(fr.Index(bits[::2]).topk(queries, 9), oracle(queries, bits.float().numpy()[::2], 9))


def test_bfloat16_of_ml_dtypes() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="a NumPy bfloat16")
    items = ITEMS.astype(ml_dtypes.bfloat16)
    expected = oracle(QUERIES, items.astype(np.float32), 9)
    assert_top(fr.Index(items).topk(QUERIES, 9), expected)
    assert_top(fr.topk(QUERIES, items, 9), expected)


def test_frames_and_tensors() -> None:
    pd = pytest.importorskip("pandas")
    torch = pytest.importorskip("torch", reason="makes tensors")
    polars = pytest.importorskip("polars", reason="makes frames")
    expected = oracle(QUERIES, ITEMS, 6)
    for adopt in (pd.DataFrame, torch.tensor, polars.DataFrame, np.ndarray.tolist):
        assert_top(fr.Index(adopt(ITEMS)).topk(adopt(QUERIES), 6), expected)


@pytest.mark.parametrize(
    "ids", [np.arange(170) * 7, [f"item {i}" for i in range(170)]], ids=["integers", "strings"]
)
def test_labels(ids: Any) -> None:
    pd = pytest.importorskip("pandas")
    expected = oracle(QUERIES, ITEMS, 4)
    for form in (ids, list(ids), pd.Series(ids), pd.Index(ids)):
        top = fr.Index(ITEMS, ids=form).topk(QUERIES, 4)
        assert_top(top, expected)
        assert top.ids.tolist() == np.asarray(ids)[expected[0]].tolist()


# ---- what it keeps ----


def test_float32_items_are_viewed_and_kept_alive() -> None:
    items = ITEMS.copy()
    alive = weakref.ref(items)
    index = fr.Index(items)
    assert np.shares_memory(index._items, items)
    del items
    gc.collect()
    assert alive() is not None
    assert_top(index.topk(QUERIES, 5), oracle(QUERIES, ITEMS, 5))
    del index
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("bias", [False, True])
def test_the_copy_is_small(dtype: str, bias: bool) -> None:
    for n, d in [(1000, 8), (1000, 64), (5000, 128)]:
        items = draw("normal", np.random.default_rng(0), n, d).astype(dtype)
        index = fr.Index(items, bias=np.ones(n) if bias else None)
        if index.precision == "int8":
            assert index.nbytes <= 0.3 * 4 * n * d + 2000
    assert fr.Index(np.ones((10, 8))).precision == "float32"
    assert fr.Index(np.ones((10, 64))).precision == "int8"


def test_shape_len_and_repr() -> None:
    index = fr.Index(ITEMS, "l2", precision="int8")
    assert index.shape == (170, 36)
    assert len(index) == 170
    assert repr(index) == "<fastrec.Index: 170 items, d=36, metric='l2', precision='int8'>"


def test_explain() -> None:
    queries = QUERIES.copy()
    queries[0], queries[1, 0], queries[2, 0] = 0, np.nan, np.inf
    story = fr.Index(ITEMS, precision="int8").explain(queries, 5, threads=1)
    assert {"precision", "isa", "threads", "queries", "panels", "screened", "survivors", "rescored"} <= set(
        story
    )
    assert (story["zero"], story["empty"], story["exhaustive"], story["fallback"]) == (1, 1, 1, 0)
    assert story["queries"] == 13
    assert story["panels"] == 6
    assert 0 < story["screened"] <= 1
    assert 5 <= story["rescored"] <= story["survivors"] <= 170
    assert fr.Index(ITEMS[:0]).explain(QUERIES[:0], 1)["screened"] == 0


# ---- copies and pickles ----

COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{f"pickle {n}": lambda index, n=n: pickle.loads(pickle.dumps(index, n)) for n in range(2, 6)},
}


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("precision", ["int8", "float32"])
def test_copies_answer_alike(way: str, precision: str) -> None:
    bias = np.linspace(-1, 1, 170)
    labels = [f"item {i}" for i in range(170)]
    for items in layouts(ITEMS).values():
        index = fr.Index(items, "l2", bias, labels, precision=precision)
        other = COPIES[way](index)
        before, after = index.topk(QUERIES, 9), other.topk(QUERIES, 9)
        assert_top(after, (before.rows, before.scores))
        assert after.ids.tolist() == before.ids.tolist()
        assert (repr(other), other.nbytes) == (repr(index), index.nbytes)
        few = index.topk(QUERIES, 3, candidates=np.arange(0, 170, 2))
        assert_top(other.topk(QUERIES, 3, candidates=np.arange(0, 170, 2)), (few.rows, few.scores))


def test_copies_of_overlapping_rows() -> None:
    """Rows of a sliding window overlap, and NumPy copies such a view in an order of its own."""
    series = np.random.default_rng(3).standard_normal(60).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(series, 12)
    repeated = np.broadcast_to(series[:12], (40, 12))
    for items in (windows, repeated):
        for way in COPIES.values():
            assert_top(way(fr.Index(items)).topk(windows[:5], 7), oracle(windows[:5], items, 7))


def test_copies_of_halves_and_of_empty_indexes() -> None:
    torch = pytest.importorskip("torch", reason="makes bfloat16 items")
    for items in (ITEMS.astype(np.float16), torch.tensor(ITEMS).bfloat16(), ITEMS[:0]):
        index = fr.Index(items)
        expected = index.topk(QUERIES, 5)
        for way in COPIES.values():
            assert_top(way(index).topk(QUERIES, 5), (expected.rows, expected.scores))


def test_a_pickle_does_not_need_the_original() -> None:
    items = ITEMS.copy()
    index = pickle.loads(pickle.dumps(fr.Index(items)))
    items[:] = 0
    assert_top(index.topk(QUERIES, 5), oracle(QUERIES, ITEMS, 5))


def test_a_pickle_of_a_mapped_index_carries_its_content(tmp_path: Path) -> None:
    fr.Index(ITEMS).save(tmp_path / "index")
    text = pickle.dumps(fr.Index.load(tmp_path / "index", mmap=True))
    (tmp_path / "index").unlink()
    assert_top(pickle.loads(text).topk(QUERIES, 5), oracle(QUERIES, ITEMS, 5))


def test_a_pickle_of_another_layout_is_refused() -> None:
    index = fr.Index(ITEMS)
    state = index.__getstate__() | {"_layout": 0}
    told = rf"pickled by another version of fastrec \(layout 0; .* reads {VERSION}\)"
    with pytest.raises(ValueError, match=told):
        object.__new__(fr.Index).__setstate__(state)


def test_an_index_goes_to_worker_processes() -> None:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        top = pool.submit(fr.Index(ITEMS).topk, QUERIES, 5).result()
    assert_top(top, oracle(QUERIES, ITEMS, 5))


# ---- what it refuses ----


def test_bad_items() -> None:
    with pytest.raises(
        ValueError, match=r"`items` must have shape \(N, d\); got \(3,\)\. Reshape one vector with"
    ):
        fr.Index(np.ones(3))
    with pytest.raises(ValueError, match=r"`items` must have shape \(N, d\); got \(2, 3, 4\)"):
        fr.Index(np.ones((2, 3, 4)))
    with pytest.raises(
        TypeError, match=r"`items` must hold real numbers; got dtype object \(a column of vectors"
    ):
        fr.Index(np.ones((2, 3), object))
    with pytest.raises(TypeError, match="`items` must hold real numbers; got dtype complex128"):
        fr.Index(np.ones((2, 3), complex))
    with pytest.raises(TypeError, match="`items` must hold real numbers; got dtype <U1"):
        fr.Index([["a", "b"]])
    with pytest.raises(TypeError, match=r"`items` must be an array .*; got dict"):
        fr.Index({})
    with pytest.raises(ValueError, match="`items` cannot be read as an array"):
        fr.Index([[1.0], [1.0, 2.0]])
    with pytest.raises(TypeError, match="masked"):
        fr.Index(np.ma.ones((2, 3)))


def test_bad_options() -> None:
    with pytest.raises(ValueError, match="`metric` must be one of 'dot', 'cosine', 'l2'; got 'inner'"):
        fr.Index(ITEMS, "inner")
    with pytest.raises(ValueError, match=r"`precision` must be one of .*; got 'int4'"):
        fr.Index(ITEMS, precision="int4")
    with pytest.raises(
        ValueError, match=r"`bias` must have shape \(170,\) to match `items` \(170, 36\); got \(36,\)"
    ):
        fr.Index(ITEMS, bias=np.ones(36))
    with pytest.raises(TypeError, match="`bias` must hold real numbers"):
        fr.Index(ITEMS, bias=["a"] * 170)
    with pytest.raises(ValueError, match=r"`ids` must have one label per item, shape \(170,\); got \(3,\)"):
        fr.Index(ITEMS, ids=[1, 2, 3])
    with pytest.raises(TypeError, match="`ids` must be integers or strings; got dtype float64"):
        fr.Index(ITEMS, ids=np.arange(170.0))
    with pytest.raises(ValueError, match="`threads`"):
        fr.Index(ITEMS, threads=0)


@pytest.mark.parametrize(
    ("ids", "kind", "message"),
    [
        ([None] * 170, TypeError, "must be all integers or all strings; got NoneType"),
        (["a", None] * 85, TypeError, "got NoneType, str"),
        (["a", 1] * 85, TypeError, "got int, str"),
        (["a", b"a"] * 85, TypeError, "got bytes, str"),
        (np.array([1, 2.5] * 85, object), TypeError, "got float, int"),
        (np.array([1, True] * 85, object), TypeError, "got bool, int"),
        ([True] * 170, TypeError, "must be integers or strings; got dtype bool"),
        (np.full(170, 2**64 - 1, np.uint64), ValueError, "must fit in int64"),
        ([(1, 2)] * 170, ValueError, r"one label per item, shape \(170,\); got \(170, 2\)"),
        ("abc", TypeError, "must be an array .*; got str"),
        ({i: i for i in range(170)}, TypeError, "must be an array .*; got dict"),
    ],
)
def test_bad_labels(ids: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=f"`ids` .*{message}"):
        fr.Index(ITEMS, ids=ids)


def test_labels_may_repeat() -> None:
    top = fr.Index(ITEMS, ids=["same"] * 170).topk(QUERIES, 4)
    assert (top.ids == "same").all()
    assert_top(top, oracle(QUERIES, ITEMS, 4))


def test_labels_of_arrow_and_polars() -> None:
    pa = pytest.importorskip("pyarrow", reason="makes labels")
    pl = pytest.importorskip("polars", reason="makes labels")
    names = [f"item {i}" for i in range(170)]
    expected = fr.Index(ITEMS, ids=names).topk(QUERIES, 4).ids.tolist()
    for ids in (pa.array(names), pa.chunked_array([names[:9], names[9:]]), pl.Series(names)):
        assert fr.Index(ITEMS, ids=ids).topk(QUERIES, 4).ids.tolist() == expected


def test_bad_out() -> None:
    index, queries = fr.Index(ITEMS), QUERIES.copy()
    ids, scores = np.empty((13, 36), np.int64), np.empty((13, 36), np.float32)
    assert index.topk(queries, 36, out=(ids, scores)).rows is ids
    shared = np.empty(13 * 36 * 3, np.float32)
    bad: list[tuple[Any, type[Exception], str]] = [
        ((ids[:, :5], scores), ValueError, r"`out\[0\]` must have shape \(13, 36\) and dtype int64"),
        ((ids, scores.astype(float)), ValueError, r"`out\[1\]` must have shape .* float32; got .* float64"),
        ((scores, ids), ValueError, r"`out\[0\]`"),
        ((ids, np.asfortranarray(scores)), ValueError, r"`out\[1\]` must be C-contiguous"),
        (ids, TypeError, r"`out` must be a pair \(ids, scores\); got ndarray"),
        ((ids, queries), ValueError, r"`out\[1\]` shares memory"),
        ((ids, ITEMS[5:18]), ValueError, r"`out\[1\]` shares memory"),
        ((shared.view(np.int64)[: 13 * 36].reshape(13, 36), shared[13 * 36 : 26 * 36].reshape(13, 36)), ValueError,
         r"`out\[0\]` shares memory"),
    ]  # fmt: skip
    for out, kind, message in bad:
        with pytest.raises(kind, match=message):
            index.topk(queries, 36, out=out)
    np.testing.assert_array_equal(queries, QUERIES)


def test_bad_queries() -> None:
    index = fr.Index(ITEMS)
    with pytest.raises(
        ValueError, match=r"`queries` must have shape \(n, 36\) to match `items` \(170, 36\); got \(5, 35\)"
    ):
        index.topk(np.ones((5, 35)))
    with pytest.raises(ValueError, match=r"`queries` must have shape .*; got \(36,\)\. Reshape one vector"):
        index.topk(np.ones(36))
    with pytest.raises(TypeError, match="`queries` must hold real numbers; got dtype object"):
        index.topk(np.ones((5, 36), object))
    with pytest.raises(ValueError, match="`k` must be >= 1; got 0"):
        index.topk(QUERIES, 0)
    with pytest.raises(ValueError, match="`k` must be >= 1; got -3"):
        index.topk(QUERIES, -3)
    with pytest.raises(TypeError, match=r"`k` must be an integer; got float 1\.5"):
        index.topk(QUERIES, 1.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="`k` must be an integer; got a bool"):
        index.topk(QUERIES, True)
    for huge in (10**13, 2**70):
        with pytest.raises(MemoryError, match="`k` = "):
            index.topk(QUERIES, huge)
    with pytest.raises(ValueError, match="`min_score` must be finite; got an integer that no float holds"):
        index.topk(QUERIES, 3, min_score=10**400)
    for infinite in (np.inf, np.float32(np.inf)):
        assert (index.topk(QUERIES, 3, min_score=infinite).rows == -1).all()
    with pytest.raises(ValueError, match="`min_score` must be finite; got nan"):
        index.topk(QUERIES, 3, min_score=np.nan)
    with pytest.raises(TypeError, match="`min_score` must be a number; got str"):
        index.topk(QUERIES, 3, min_score="1")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`threads`"):
        index.topk(QUERIES, 3, threads=-1)


class OnTheCard:
    """An array that claims to be on an NVIDIA card."""

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0


def test_devices_are_not_mixed() -> None:
    """Without CuPy, what is on a card is an ImportError that says what to install; with it, a TypeError."""
    for call in (lambda: fr.Index(ITEMS).topk(OnTheCard(), 3), lambda: fr.topk(QUERIES, OnTheCard(), 3)):
        with pytest.raises((ImportError, TypeError, AttributeError), match=r"NVIDIA|device|cupy|__dlpack__"):
            call()
