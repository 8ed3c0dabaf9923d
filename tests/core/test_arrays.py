"""``_core.arrays``: whatever holds numbers is adopted without a copy, and whatever does not is refused by name."""

from __future__ import annotations

import array
import sys
import types
from pathlib import Path

import fake_cupy
import numpy as np
import pytest

from fastrec._core import arrays


class FakeDLPack:
    """Something that claims to live on a DLPack device."""

    def __init__(self, device_type: int) -> None:
        self.device_type = device_type

    def __dlpack_device__(self) -> tuple[int, int]:
        return (self.device_type, 0)

    def __dlpack__(self, **_: object) -> object:
        raise AssertionError("the data of an unreachable device must not be asked for")


class HostDLPack:
    """A CPU tensor that speaks DLPack and nothing else."""

    def __init__(self, data: np.ndarray) -> None:
        self.data = data

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.data.__dlpack_device__()

    def __dlpack__(self, **options: object) -> object:
        return self.data.__dlpack__(**options)


def test_a_numpy_array_is_taken_as_it_is() -> None:
    x = np.arange(6.0).reshape(2, 3)
    assert arrays.adopt(x, "x") is x


@pytest.mark.parametrize(
    "x",
    [
        np.arange(12.0).reshape(3, 4)[:, ::2],
        np.arange(12.0).reshape(3, 4)[::-1],
        np.arange(12.0).reshape(3, 4).T,
        np.broadcast_to(np.float32(1), (2, 3)),
        np.arange(3, dtype=">f4"),
        np.array(5.0),
        np.empty((0, 4)),
    ],
    ids=["strided", "negative strides", "transposed", "read-only", "big-endian", "0-d", "empty"],
)
def test_layout_is_kept(x: np.ndarray) -> None:
    adopted = arrays.adopt(x, "x")
    assert adopted.strides == x.strides
    assert adopted.dtype == x.dtype
    assert adopted.flags.writeable == x.flags.writeable
    np.testing.assert_array_equal(adopted, x)


def test_subclasses_become_plain_views() -> None:
    matrix = np.arange(4.0).reshape(2, 2).view(np.memmap)
    adopted = arrays.adopt(matrix, "x")
    assert type(adopted) is np.ndarray
    assert np.shares_memory(adopted, matrix)


def test_masked_arrays_are_refused_because_the_mask_would_be_lost() -> None:
    with pytest.raises(TypeError, match=r"`x` is a masked array.*\.filled"):
        arrays.adopt(np.ma.masked_array([1.0, 2.0], [False, True]), "x")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([1, 2], [1, 2]),
        ((1.5, 2), [1.5, 2.0]),
        (range(3), [0, 1, 2]),
        (3, 3),
        (np.float32(2), 2.0),
        (array.array("d", [1.0, 2.0]), [1.0, 2.0]),
        (memoryview(array.array("i", [4, 5])), [4, 5]),
    ],
)
def test_plain_values(value: object, expected: object) -> None:
    np.testing.assert_array_equal(arrays.adopt(value, "x"), expected)


def test_host_dlpack_without_any_other_protocol_is_viewed() -> None:
    data = np.arange(6, dtype=np.float32)
    adopted = arrays.adopt(HostDLPack(data), "x")
    assert np.shares_memory(adopted, data)


@pytest.mark.parametrize(
    ("kind", "where"), [(8, "Metal"), (10, "ROCm"), (14, "oneAPI"), (99, "device type 99")]
)
def test_unreachable_devices_are_named(kind: int, where: str) -> None:
    with pytest.raises(TypeError, match=f"`items` is on .*{where}.*NumPy or CuPy"):
        arrays.adopt(FakeDLPack(kind), "items")


@pytest.mark.parametrize("kind", [2, 13])
def test_a_gpu_array_without_cupy_says_what_to_install(kind: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)  # type: ignore[arg-type]  # makes `import cupy` fail
    with pytest.raises(ImportError, match=r"`items` is on an NVIDIA GPU.*pip install 'fastrec\[cuda\]'"):
        arrays.adopt(FakeDLPack(kind), "items")


def test_the_cuda_array_interface_alone_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    adopted = types.SimpleNamespace(
        size=3, dtype=np.dtype("f4"), strides=(4,), data=types.SimpleNamespace(ptr=4096)
    )
    fake = types.ModuleType("cupy")
    fake.ndarray = type("ndarray", (), {})  # type: ignore[attr-defined]
    fake.asarray = lambda value: adopted  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cupy", fake)
    numba_like = types.SimpleNamespace(
        __cuda_array_interface__={"shape": (3,), "typestr": "<f4", "version": 3}
    )
    assert arrays.adopt(numba_like, "x") is adopted


class FakeCuda:
    def __init__(self, number: int) -> None:
        self.device = types.SimpleNamespace(id=number)


def test_mixed_devices_are_listed() -> None:
    with pytest.raises(TypeError, match=r"`queries` on cuda:0, `items` on cpu.*never copies"):
        arrays.common_device(queries=FakeCuda(0), bias=None, items=np.zeros(3))
    with pytest.raises(TypeError, match=r"cuda:0.*cuda:1"):
        arrays.common_device(a=FakeCuda(0), b=FakeCuda(1))
    assert arrays.common_device(a=FakeCuda(1), b=None) == "cuda:1"
    assert arrays.common_device(a=np.zeros(1)) == "cpu"
    assert arrays.common_device(a=None) == "cpu"


@pytest.mark.parametrize("value", [None, "abc", b"abc", {1: 2}, {1, 2}, object(), (i for i in range(3))])
def test_what_is_no_array_is_refused_by_name(value: object) -> None:
    with pytest.raises(TypeError, match=f"`queries` must be an array.*got {type(value).__name__}"):
        arrays.adopt(value, "queries")


def test_ragged_lists_are_a_value_error() -> None:
    with pytest.raises(ValueError, match="`x` cannot be read as an array"):
        arrays.adopt([[1, 2], [3]], "x")


def test_sparse_matrices_are_told_how_to_become_dense() -> None:
    scipy_sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(TypeError, match=r"got csr_matrix; a sparse matrix becomes one with `\.toarray\(\)`"):
        arrays.adopt(scipy_sparse.csr_matrix(np.eye(2)), "x")


class TestPandas:
    pd = pytest.importorskip("pandas")

    def test_columns_are_not_copied(self) -> None:
        column = self.pd.Series(np.arange(5.0))
        assert np.shares_memory(arrays.adopt(column, "x"), column.to_numpy())

    def test_a_missing_integer_becomes_nan(self) -> None:
        adopted = arrays.adopt(self.pd.Series([1, None], dtype="Int64"), "x")
        np.testing.assert_array_equal(adopted, [1.0, np.nan])

    def test_frames(self) -> None:
        frame = self.pd.DataFrame({"a": [1, 2], "b": [0.5, 1.5]})
        np.testing.assert_array_equal(arrays.adopt(frame, "x"), [[1, 0.5], [2, 1.5]])


class TestPolars:
    pl = pytest.importorskip("polars", reason="polars is not installed")

    def test_columns_are_not_copied(self) -> None:
        column = self.pl.Series([1.0, 2.0])
        assert np.shares_memory(arrays.adopt(column, "x"), column.to_numpy())

    def test_array_columns_are_matrices(self) -> None:
        column = self.pl.Series([[1.0, 2.0], [3.0, 4.0]], dtype=self.pl.Array(self.pl.Float32, 2))
        np.testing.assert_array_equal(arrays.adopt(column, "x"), [[1, 2], [3, 4]])

    def test_lazy_frames_must_be_collected(self) -> None:
        with pytest.raises(TypeError, match=r"got LazyFrame; call `\.collect\(\)` first"):
            arrays.adopt(self.pl.LazyFrame({"a": [1]}), "x")


class TestArrow:
    pa = pytest.importorskip("pyarrow")

    @pytest.mark.parametrize("values", [[1, 2], [1.5, None], [True, False]], ids=["int", "null", "bool"])
    def test_arrays(self, values: list[object]) -> None:
        expected = np.array([np.nan if v is None else v for v in values])
        np.testing.assert_array_equal(arrays.adopt(self.pa.array(values), "x"), expected)

    def test_chunked_arrays(self) -> None:
        np.testing.assert_array_equal(arrays.adopt(self.pa.chunked_array([[1], [2, 3]]), "x"), [1, 2, 3])


class TestTorch:
    @pytest.fixture(autouse=True)
    def _torch(self) -> None:
        self.torch = pytest.importorskip(
            "torch", reason="torch is not installed: pip install 'fastrec[torch]'"
        )

    def test_tensors_share_memory_and_stay_writable(self) -> None:
        tensor = self.torch.zeros(3, 4)
        arrays.adopt(tensor, "x")[1, 2] = 7
        assert tensor[1, 2] == 7

    def test_strides_are_kept(self) -> None:
        tensor = self.torch.arange(12.0).reshape(3, 4)
        assert arrays.adopt(tensor.T, "x").strides == (4, 16)
        np.testing.assert_array_equal(arrays.adopt(tensor[:, ::2], "x"), tensor.numpy()[:, ::2])

    def test_parameters_are_detached(self) -> None:
        parameter = self.torch.nn.Parameter(self.torch.ones(2))
        np.testing.assert_array_equal(arrays.adopt(parameter, "x"), [1, 1])

    @pytest.mark.parametrize("grad", [False, True])
    def test_bfloat16_becomes_float32(self, grad: bool) -> None:
        tensor = self.torch.tensor([1.0, 2.5, -3.0], dtype=self.torch.bfloat16, requires_grad=grad)
        adopted = arrays.adopt(tensor, "x")
        assert adopted.dtype == np.float32
        np.testing.assert_array_equal(adopted, [1, 2.5, -3])

    @pytest.mark.parametrize("view", ["sparse", "meta", "lazily negated"])
    def test_tensors_without_plain_memory_are_refused(self, view: str) -> None:
        tensor = {
            "sparse": lambda: self.torch.eye(2).to_sparse(),
            "meta": lambda: self.torch.empty(2, device="meta"),
            "lazily negated": lambda: self.torch.tensor([1j]).conj().imag,
        }[view]()
        with pytest.raises(TypeError, match="`items` "):
            arrays.adopt(tensor, "items")


@pytest.mark.parametrize("pointer", [0, 71])  # torch works on the null stream until it is told otherwise
@pytest.mark.parametrize("old", [False, True])
def test_torchs_stream_is_cupys_for_a_while(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, old: bool, pointer: int
) -> None:
    cupy = fake_cupy.install(monkeypatch, tmp_path)
    cupy.devices = 2
    if old:  # before CuPy 14
        monkeypatch.delattr(cupy.cuda.Stream, "from_external")
        monkeypatch.setattr(cupy.cuda, "ExternalStream", cupy.cuda.Stream.__base__)
    tensor = types.SimpleNamespace(is_cuda=True, device=types.SimpleNamespace(index=1))
    torch = types.ModuleType("torch")
    torch.Tensor = types.SimpleNamespace  # type: ignore[attr-defined]
    torch.cuda = types.SimpleNamespace(  # type: ignore[attr-defined]
        current_stream=lambda device: types.SimpleNamespace(cuda_stream=pointer)
    )
    monkeypatch.setitem(sys.modules, "torch", torch)
    for _ in range(2):  # the second time round after the first one's wrapper is gone
        with arrays.stream_of(np.ones(3), tensor):
            assert cupy.stream == pointer
            assert cupy.cuda.runtime.getDevice() == 1
        assert cupy.stream == "default"
        assert cupy.cuda.runtime.getDevice() == 0
