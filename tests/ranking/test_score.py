"""``score`` and ``score_pairs``: the canonical scores."""

from __future__ import annotations

import math
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ranking import DRAWS, METRICS, draw, score_matrix

import fastrec as fr
from fastrec.ranking.index import BFLOAT16


def same_bits(got: np.ndarray, expected: np.ndarray, what: str = "") -> None:
    """Equal to the bit, any NaN being as good as another."""
    assert got.dtype == np.float32
    assert got.shape == expected.shape
    np.testing.assert_array_equal(np.isnan(got), np.isnan(expected), err_msg=what)
    numbers = ~np.isnan(expected)
    np.testing.assert_array_equal(
        got.view(np.uint32)[numbers], expected.view(np.uint32)[numbers], err_msg=what
    )


@pytest.mark.parametrize("kind", DRAWS)
@pytest.mark.parametrize("metric", METRICS)
def test_equals_the_oracle(kind: str, metric: str) -> None:
    rng = np.random.default_rng(0)
    for d in (0, 1, 7, 8, 9, 16, 31, 65):
        queries, items = draw("normal", rng, 4, d), draw(kind, rng, 30, d)
        for bias in (None, rng.standard_normal(30)):
            expected = score_matrix(queries, items, metric, bias)
            same_bits(fr.score(queries, items, metric=metric, bias=bias), expected, f"d={d}")
            rows, cols = rng.integers(0, 4, 70), rng.integers(0, 30, 70)
            pairs = fr.score_pairs(queries, items, rows, cols, metric=metric, bias=bias)
            same_bits(pairs, expected[rows, cols], f"d={d}")


@pytest.mark.parametrize("metric", METRICS)
def test_pairs_of_one_query_side_by_side(metric: str) -> None:
    """Runs of every length, on both sides of four and of a task; rows of every length that is read in its own way."""
    rng = np.random.default_rng(8)
    for d in (3, 16, 17, 64, 67, 96, 97, 192, 193, 2047, 2049):
        pairs = 9000 if d < 96 else 300
        queries, items = draw("normal", rng, 50, d), draw("normal", rng, 90, d)
        queries[7], items[11] = 0, 0
        queries[9, 0], items[13, -1] = np.inf, np.nan
        bias = rng.standard_normal(90)
        expected = score_matrix(queries, items, metric, bias)
        rows = np.repeat(rng.integers(0, 50, pairs), rng.integers(1, 12, pairs))[:pairs]
        cols = rng.integers(0, 90, pairs)
        for count in (pairs, 1, 2, 3, 4, 5, 31, 32, 33, 63, 64, 65, 97):
            got = fr.score_pairs(queries, items, rows[:count], cols[:count], metric=metric, bias=bias)
            same_bits(got, expected[rows[:count], cols[:count]], f"d={d} of {count}")


def test_dot_products_are_right_to_the_last_bit() -> None:
    """Against exact rational arithmetic: a float64 sum, rounded once, is the nearest float32."""
    rng = np.random.default_rng(1)
    queries, items = draw("normal", rng, 3, 50), draw("normal", rng, 40, 50)
    exact = [[sum(Fraction(float(a)) * Fraction(float(b)) for a, b in zip(u, x, strict=True)) for x in items]
             for u in queries]  # fmt: skip
    np.testing.assert_array_equal(fr.score(queries, items), np.array(exact, float).astype(np.float32))


def test_definitions() -> None:
    queries, items = [[3.0, 4.0]], [[3.0, 4.0], [0.0, 0.0], [-4.0, 3.0], [6.0, 8.0]]
    assert fr.score(queries, items).tolist() == [[25, 0, 0, 50]]
    assert fr.score(queries, items, metric="cosine").tolist() == [[1, 0, 0, 1]]
    assert fr.score(queries, items, metric="l2").tolist() == [[0, -25, -50, -25]]
    assert not np.signbit(fr.score(-np.zeros((1, 2)), items)).any()
    assert math.isnan(fr.score([[np.nan, 1.0]], items)[0, 0])


def test_layouts_and_dtypes() -> None:
    rng = np.random.default_rng(2)
    queries, items = draw("small integers", rng, 5, 12), draw("small integers", rng, 33, 12)
    expected = score_matrix(queries, items)
    rows, cols = np.arange(33) % 5, np.arange(33)
    forms: list[Any] = [
        items.astype(t) for t in ("float16", "float64", "int8", "int64", ">f4", ">f8", "float32")
    ]
    read_only = items.copy()
    read_only.flags.writeable = False
    forms += [np.asfortranarray(items), np.repeat(items, 2, axis=1)[:, ::2], read_only, items.tolist()]
    forms += [np.repeat(items, 3, axis=0)[::3], items[::-1].copy()[::-1]]
    for form in forms:
        same_bits(fr.score(queries, form), expected)
        same_bits(fr.score(form, queries), expected.T.copy())
        same_bits(fr.score_pairs(queries, form, rows, cols.astype(np.uint8)), expected[rows, cols])


def test_bfloat16() -> None:
    torch = pytest.importorskip("torch", reason="makes bfloat16 vectors")
    rng = np.random.default_rng(3)
    queries, items = draw("small integers", rng, 3, 12), draw("small integers", rng, 9, 12)
    bits = torch.tensor(items).bfloat16()
    expected = score_matrix(queries, items)
    same_bits(fr.score(queries, bits), expected)
    same_bits(fr.score_pairs(queries, bits, [0, 2], [8, 1]), expected[[0, 2], [8, 1]])


def test_threads_and_out() -> None:
    rng = np.random.default_rng(4)
    queries, items = draw("normal", rng, 20, 33), draw("normal", rng, 500, 33)
    expected = score_matrix(queries, items)
    rows, cols = np.repeat(np.arange(20), 500), np.tile(np.arange(500), 20)
    for threads in (1, 2, 8):
        out, flat = np.empty((20, 500), np.float32), np.empty(10_000, np.float32)
        assert fr.score(queries, items, threads=threads, out=out) is out
        assert fr.score_pairs(queries, items, rows, cols, threads=threads, out=flat) is flat
        same_bits(out, expected)
        same_bits(flat, expected.ravel())


def test_errors() -> None:
    queries, items = np.ones((2, 3), np.float32), np.ones((4, 3), np.float32)
    with pytest.raises(
        ValueError, match=r"`queries` must have shape \(n, 5\) to match `items` \(4, 5\); got \(2, 3\)"
    ):
        fr.score(queries, np.ones((4, 5)))
    with pytest.raises(ValueError, match=r"`items` must have shape \(N, d\); got \(3,\)"):
        fr.score(queries, np.ones(3))
    with pytest.raises(TypeError, match="`items` must hold real numbers; got dtype object"):
        fr.score(queries, np.ones((4, 3), object))
    with pytest.raises(TypeError, match="`queries` must hold real numbers; got dtype complex64"):
        fr.score(np.ones((2, 3), np.complex64), items)
    with pytest.raises(ValueError, match=r"`bias` must have shape \(4,\).*got \(3,\)"):
        fr.score(queries, items, bias=np.ones(3))
    with pytest.raises(
        ValueError, match=r"`metric` must be one of 'dot', 'cosine', 'l2'; got 'cosin'\. Did you mean"
    ):
        fr.score(queries, items, metric="cosin")
    with pytest.raises(ValueError, match=r"`rows` must lie in 0..1 \(there are 2 queries\); got 2"):
        fr.score_pairs(queries, items, [2], [0])
    with pytest.raises(ValueError, match=r"`cols` must lie in 0\.\.3 .*got -1"):
        fr.score_pairs(queries, items, [0], [-1])
    with pytest.raises(ValueError, match="`rows` and `cols` must have the same length"):
        fr.score_pairs(queries, items, [0, 1], [0])
    with pytest.raises(TypeError, match="`rows` must hold integers"):
        fr.score_pairs(queries, items, [0.5], [0])
    with pytest.raises(
        ValueError, match=r"`out` must have shape \(2, 4\) and dtype float32; got \(2, 4\) float64"
    ):
        fr.score(queries, items, out=np.empty((2, 4)))


def test_halves_and_strided_items_are_scored_where_they_lie() -> None:
    rng = np.random.default_rng(5)
    queries, wide = rng.standard_normal((3, 9)), rng.standard_normal((20_000, 12))
    torch = pytest.importorskip("torch", reason="makes bfloat16 items")
    rows, cols = rng.integers(0, 3, 50), rng.integers(0, 10_000, 50)
    bias = rng.standard_normal(10_000).astype(np.float32)
    for items in (wide.astype(np.float16), wide.astype(np.float32), torch.tensor(wide).bfloat16()):
        part = items[::2, 2:11]
        values = part.float().numpy() if hasattr(part, "float") else part
        for metric in METRICS:
            expected = score_matrix(queries, values, metric, bias)
            for threads in (1, 3):
                got = fr.score(queries, part, metric=metric, bias=bias, threads=threads)
                np.testing.assert_array_equal(got, expected)
            pairs = fr.score_pairs(queries, part, rows, cols, metric=metric, bias=bias)
            np.testing.assert_array_equal(pairs, expected[rows, cols])
            reference = fr.score_pairs.run("reference", queries, part, rows, cols, metric=metric, bias=bias)
            np.testing.assert_array_equal(pairs, reference)


def test_offsets_beyond_32_bits(tmp_path: Path) -> None:
    """A matrix of more than 2^32 elements, nearly all of it holes of a sparse file."""
    rows, d = 2**29 + 5, 8
    path = tmp_path / "items"
    try:
        path.touch()
        os.truncate(path, rows * d * 4)
        items = np.memmap(path, np.float32, "r+", shape=(rows, d))
    except OSError as error:
        pytest.skip(f"no sparse file of 17 GB here: {error}")
    last = np.arange(rows - 5, rows)
    items[last] = np.arange(40).reshape(5, 8)
    items[3] = -1.0
    queries = np.ones((2, d), np.float32)
    cols = np.concatenate([last, [3, 2**29, 2**28]])
    expected = items[cols].sum(axis=1)
    for way in (np.zeros(8, int), np.ones(8, int)):
        np.testing.assert_array_equal(fr.score_pairs(queries, items, way, cols), expected)
    del items
    path.unlink()


def test_one_pair_astray_among_many_is_found_wherever_it_is() -> None:
    rng = np.random.default_rng(3)
    queries = rng.standard_normal((7, 64)).astype(np.float32)
    for items in (rng.standard_normal((50, 64)).astype(np.float32), np.ones((50, 64), np.float16)):
        rows, cols = rng.integers(0, 7, 40_003), rng.integers(0, 50, 40_003)
        for at in (0, 3, 4_097, 20_000, 40_002):
            for name, bad in (("rows", 7), ("rows", -1), ("cols", 50), ("cols", 2**62), ("cols", -(2**63))):
                wrong = {"rows": rows.copy(), "cols": cols.copy()}
                wrong[name][at] = bad
                with pytest.raises(ValueError, match=rf"`{name}` must lie in 0\..*got {bad}$"):
                    fr.score_pairs(queries, items, **wrong)
                with pytest.raises(ValueError, match=rf"`{name}` must lie in 0\..*got {bad}$"):
                    fr.score_pairs.run("reference", queries, items, **wrong)


@pytest.mark.parametrize("form", ["float32", "float16", "bfloat16"])
def test_where_rows_begin_within_a_line_of_the_cache_does_not_matter(form: str) -> None:
    rng = np.random.default_rng(4)
    width = 4 if form == "float32" else 2
    for d in (16, 17, 64, 100, 128, 192, 384, 1024, 1025):
        queries = rng.standard_normal((9, d)).astype(np.float32)
        rows, cols = np.sort(rng.integers(0, 9, 3_000)), rng.integers(0, 60, 3_000)
        values = rng.standard_normal((60, d)).astype(np.float32)
        if form == "bfloat16":
            bits = (values.view(np.uint32) >> 16).astype(np.uint16)
            values = (bits.astype(np.uint32) << 16).view(np.float32)
        else:
            bits = values.astype(form)
            values = bits.astype(np.float32)
        exact = (queries[rows].astype(np.float64) * values[cols]).sum(axis=1)
        expected = fr.score_pairs.run("reference", queries, values, rows, cols)
        np.testing.assert_allclose(expected, exact, rtol=1e-6, atol=1e-5)
        for shift in range(0, 64, width if d < 200 else 12):
            memory = np.empty(60 * d * width + 128, np.uint8)
            start = -memory.ctypes.data % 64 + shift
            items = memory[start : start + 60 * d * width].view(bits.dtype).reshape(60, d)
            items[...] = bits
            items = items.view(BFLOAT16) if form == "bfloat16" else items
            np.testing.assert_array_equal(fr.score_pairs(queries, items, rows, cols), expected)
