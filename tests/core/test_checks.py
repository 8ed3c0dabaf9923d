"""``_core.checks``: what passes, and the messages that users read when something does not."""

from __future__ import annotations

import numpy as np
import pytest

from fastrec._core import checks


@pytest.mark.parametrize(
    "x",
    [
        np.arange(12, dtype=">f4").reshape(3, 4),
        np.arange(12, dtype=np.float64).reshape(3, 4)[:, ::-1],
        np.arange(12, dtype=np.int8).reshape(4, 3).T,
        np.ones((3, 4), dtype=bool),
        np.arange(12, dtype=np.float16).reshape(3, 4),
        np.arange(12, dtype=np.longdouble).reshape(3, 4),
        [[1, 2], [3, 4]],
    ],
    ids=["big-endian", "negative strides", "transposed", "bool", "float16", "longdouble", "list"],
)
def test_matrix_is_contiguous_native_float32(x: object) -> None:
    checked = checks.matrix(x, "items")
    assert checked.dtype == np.dtype("=f4")
    assert checked.flags.c_contiguous
    np.testing.assert_array_equal(checked, np.asarray(x).astype(np.float32))


def test_what_fits_is_not_copied() -> None:
    x = np.zeros((3, 4), np.float32)
    assert checks.matrix(x, "x") is x
    assert checks.vector(x[0], "x", size=4).base is x
    read_only = np.zeros(3, np.float32)
    read_only.flags.writeable = False
    assert checks.vector(read_only, "x") is read_only


def test_matrix_shapes() -> None:
    with pytest.raises(
        ValueError, match=r"`items` must have shape \(n, 64\) to match `queries` \(5, 64\); got \(3, 32\)"
    ):
        checks.matrix(np.zeros((3, 32)), "items", columns=64, like="to match `queries` (5, 64)")
    with pytest.raises(ValueError, match=r"got \(3,\). Reshape one vector with `x\[None, :\]`"):
        checks.matrix(np.zeros(3), "queries")
    with pytest.raises(ValueError, match=r"`queries` must have shape \(n, d\); got \(\)"):
        checks.matrix(1.0, "queries")
    with pytest.raises(ValueError, match=r"got \(1, 2, 3\)"):
        checks.matrix(np.zeros((1, 2, 3)), "queries")
    assert checks.matrix(np.zeros((0, 4)), "queries", columns=4).shape == (0, 4)
    assert checks.matrix(np.zeros((4, 0)), "queries").shape == (4, 0)


def test_vector_shapes() -> None:
    with pytest.raises(ValueError, match=r"`bias` must have shape \(3,\) one per item; got \(2,\)"):
        checks.vector([1, 2], "bias", size=3, like="one per item")
    assert checks.vector([], "bias", size=0).shape == (0,)


@pytest.mark.parametrize(
    "x",
    [np.array(["a"]), np.array([1j]), np.array(["2020-01-01"], "M8[D]"), np.zeros(1, dtype=[("a", "f4")])],
    ids=["text", "complex", "date", "record"],
)
def test_only_real_numbers(x: np.ndarray) -> None:
    with pytest.raises(TypeError, match="`x` must hold real numbers; got dtype"):
        checks.real(x, "x")


def test_columns_of_vectors_are_told_to_stack() -> None:
    column = np.empty(2, dtype=object)
    column[:] = [np.ones(3), np.ones(3)]
    with pytest.raises(TypeError, match=r"got dtype object \(a column of vectors.*numpy\.stack"):
        checks.matrix(column, "items")


class TestIndices:
    def test_any_integer_type_becomes_int64(self) -> None:
        for dtype in (np.int8, np.uint16, np.int32, np.uint64, ">i4"):
            checked = checks.indices(np.array([0, 4], dtype), "rows", below=5)
            assert checked.dtype == np.int64
            assert checked.tolist() == [0, 4]

    def test_empty(self) -> None:
        assert checks.indices([], "rows", below=0).dtype == np.int64

    @pytest.mark.parametrize(
        ("bad", "shown"),
        [([-1], "-1"), ([0, 5], "5"), (np.array([2**63], np.uint64), "-?9223372036854775808")],
    )
    def test_out_of_range(self, bad: object, shown: str) -> None:
        with pytest.raises(
            ValueError, match=rf"`rows` must lie in 0\.\.4 \(there are 5 items\); got {shown}"
        ):
            checks.indices(bad, "rows", below=5, what="items")

    def test_kind_and_shape(self) -> None:
        with pytest.raises(TypeError, match="`rows` must hold integers; got dtype float64"):
            checks.indices([0.0], "rows", below=5)
        with pytest.raises(TypeError, match="`rows` must hold integers; got dtype bool"):
            checks.indices([True], "rows", below=5)
        with pytest.raises(ValueError, match="`rows` must be one-dimensional"):
            checks.indices([[0]], "rows", below=5)


class TestInteger:
    @pytest.mark.parametrize("value", [3, np.int8(3), np.uint64(3), np.array(3)])
    def test_accepts(self, value: object) -> None:
        assert checks.integer(value, "k", low=1, high=3) == 3

    @pytest.mark.parametrize("value", [True, np.True_, 3.0, "3", None, np.array([3, 4])])
    def test_kinds(self, value: object) -> None:
        with pytest.raises(TypeError, match="`k` must be an integer; got"):
            checks.integer(value, "k")

    def test_ranges(self) -> None:
        with pytest.raises(ValueError, match=r"`k` must be >= 1; got 0"):
            checks.integer(0, "k", low=1)
        with pytest.raises(ValueError, match=r"`k` must be <= 3; got 4"):
            checks.integer(4, "k", high=3)
        with pytest.raises(ValueError, match=r"`k` must be between 1 and 3; got 4"):
            checks.integer(4, "k", low=1, high=3)


class TestNumber:
    def test_accepts(self) -> None:
        assert checks.number(np.float32(0.5), "l2", low=0) == 0.5
        assert checks.number(2, "l2", low=0, high=2) == 2.0

    @pytest.mark.parametrize("value", [True, "1", None, [1.0, 2.0], 1j])
    def test_kinds(self, value: object) -> None:
        with pytest.raises(TypeError, match="`l2` must be a number; got"):
            checks.number(value, "l2")

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), -np.inf])
    def test_finite(self, value: float) -> None:
        with pytest.raises(ValueError, match="`l2` must be finite; got"):
            checks.number(value, "l2")

    def test_ranges(self) -> None:
        with pytest.raises(ValueError, match=r"`l2` must be >= 0; got -1\.0"):
            checks.number(-1, "l2", low=0)
        with pytest.raises(ValueError, match=r"`rate` must be between 0 and 1; got 2\.0"):
            checks.number(2, "rate", low=0, high=1)


class TestChoice:
    def test_suggests(self) -> None:
        with pytest.raises(
            ValueError, match=r"`metric` must be one of 'dot', 'cosine'; got 'cosin'. Did you mean 'cosine'\?"
        ):
            checks.choice("cosin", "metric", ["dot", "cosine"])

    def test_kind(self) -> None:
        with pytest.raises(TypeError, match="`metric` must be a string, one of 'dot'; got int"):
            checks.choice(1, "metric", iter(["dot"]))

    def test_accepts_a_generator(self) -> None:
        assert checks.choice("dot", "metric", (name for name in ("l2", "dot"))) == "dot"


class TestOutput:
    shape, dtype = (2, 3), np.float32

    def check(self, out: object) -> object:
        return checks.output(out, "out", shape=self.shape, dtype=self.dtype, device="cpu")

    def test_is_the_callers_own_array(self) -> None:
        out = np.empty(self.shape, self.dtype)
        assert self.check(out) is out

    @pytest.mark.parametrize("out", [np.empty((3, 2), np.float32), np.empty((2, 3)), np.empty((2, 3), ">f4")])
    def test_shape_and_dtype(self, out: np.ndarray) -> None:
        with pytest.raises(ValueError, match=r"`out` must have shape \(2, 3\) and dtype float32; got"):
            self.check(out)

    def test_layout(self) -> None:
        read_only = np.empty(self.shape, self.dtype)
        read_only.flags.writeable = False
        for out in (np.empty((3, 2), np.float32).T, read_only):
            with pytest.raises(ValueError, match="`out` must be C-contiguous and writable"):
                self.check(out)
