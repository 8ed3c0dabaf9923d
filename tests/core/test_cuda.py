"""``_core/cuda.py``: what is missing is said, what is compiled is compiled once, and launches go where they belong."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import fake_cupy
import numpy as np
import pytest

from fastrec._core import cuda

SOURCE = """
#include "b.cuh"
extern "C" __global__ void fr_scale(const float *x, float *y, long long n, const float *bias) {
  const long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
  if (i < n) y[i] = x[i] * FR_SCALE + (bias ? bias[i] : ZERO);
}
"""


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> fake_cupy.Fake:
    return fake_cupy.install(monkeypatch, tmp_path / "cache")


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder in the place of kernels/cuda."""
    (tmp_path / "a.cu").write_text("// variants: FR_SCALE=2,3\n" + SOURCE)
    (tmp_path / "b.cuh").write_text('#pragma once\n#include "c.cuh"\n')
    (tmp_path / "c.cuh").write_text('#include "b.cuh"  // round about\n#define ZERO 0.0f\n')
    monkeypatch.setattr(cuda, "files", lambda package: tmp_path)
    cuda.source.cache_clear()
    yield tmp_path
    cuda.source.cache_clear()
    cuda._kernel.cache_clear()


def test_headers_are_put_in_place_once(sources: Path) -> None:
    text = cuda.source("a.cu")
    assert "#include" not in text
    assert "#pragma" not in text
    assert text.count("#define ZERO") == 1
    assert text.index("ZERO 0.0f") < text.index("fr_scale")
    assert cuda.names() == ["a.cu"]
    assert cuda.variants("a.cu") == [{"FR_SCALE": 2}, {"FR_SCALE": 3}]


def test_every_source_that_ships_reads() -> None:
    for name in cuda.names():
        assert "#include" not in cuda.source(name)
        assert cuda.variants(name)


needs_gxx = pytest.mark.skipif(shutil.which("g++") is None, reason="kernels are run on the host through g++")


@needs_gxx
def test_a_kernel_is_compiled_once_and_launched_on_the_current_stream(
    fake: fake_cupy.Fake, sources: Path
) -> None:
    twice = cuda.kernel("a.cu", "fr_scale", FR_SCALE=2)
    assert cuda.kernel("a.cu", "fr_scale", FR_SCALE=2) is twice
    assert cuda.kernel("a.cu", "fr_scale", FR_SCALE=3) is not twice
    assert fake.log == []  # nothing is compiled before it is called
    x = fake.asarray(np.arange(5, dtype=np.float32))
    y = fake.zeros(5, np.float32)
    for stream in (7, 8):
        with fake.lent(stream):
            twice(1, 32, x, y, cuda.i64(5), None)
    np.testing.assert_array_equal(y.get(), 2 * np.arange(5))
    assert [entry[0] for entry in fake.log] == ["compile", "launch", "launch", "sync"]
    assert [entry[-1] for entry in fake.log if entry[0] == "launch"] == [7, 8]
    options = fake.log[0][2]
    assert {"-ftz=false", "-fmad=false", "-prec-div=true", "-arch=sm_90", "-DFR_SCALE=2"} <= set(options)
    twice(0, 32, x, y, cuda.i64(0), None)  # nothing to do is no launch
    assert len(fake.launches()) == 2
    # another process finds the code in the folder; another text, or another header, is other code
    cuda._kernel.cache_clear()
    cuda.kernel("a.cu", "fr_scale", FR_SCALE=2)(1, 32, x, y, cuda.i64(5), None)
    assert len([entry for entry in fake.log if entry[0] == "compile"]) == 1
    (sources / "c.cuh").write_text("#define ZERO 1.0f\n")
    cuda.source.cache_clear()
    cuda._kernel.cache_clear()
    cuda.kernel("a.cu", "fr_scale", FR_SCALE=2)(1, 32, x, y, cuda.i64(5), None)
    np.testing.assert_array_equal(y.get(), 2 * np.arange(5) + 1)


@needs_gxx
def test_each_card_has_its_own_code(fake: fake_cupy.Fake, sources: Path) -> None:
    fake.devices = 2
    kernel = cuda.kernel("a.cu", "fr_scale", FR_SCALE=2)
    for device in (0, 1, 1):
        with cuda.on(device) as cupy:
            x, y = cupy.ones(3, cupy.float32), cupy.zeros(3, cupy.float32)
            kernel(1, 32, x, y, cuda.i64(3), x)
        assert y.device.id == device
        np.testing.assert_array_equal(y.get(), [3, 3, 3])
    assert sorted(kernel._made) == [0, 1]
    assert fake.cuda.runtime.getDevice() == 0


@needs_gxx
def test_a_card_newer_than_the_compiler_takes_ptx(
    fake: fake_cupy.Fake, sources: Path, tmp_path: Path
) -> None:
    fake.capability, fake.newest_known = "120", 90
    with cuda.on(0) as cupy:
        x, y = cupy.ones(3, cupy.float32), cupy.zeros(3, cupy.float32)
        cuda.kernel("a.cu", "fr_scale", FR_SCALE=2)(1, 32, x, y, cuda.i64(3), None)
    assert "-arch=compute_90" in fake.log[-2][2]
    assert [path.suffix for path in (tmp_path / "cache" / "cuda").iterdir()] == [".ptx"]


def test_what_is_missing_is_said(
    monkeypatch: pytest.MonkeyPatch, fake: fake_cupy.Fake, sources: Path
) -> None:
    kernel = cuda.kernel("a.cu", "fr_scale", FR_SCALE=2)
    fake.capability = "75"
    with pytest.raises(RuntimeError, match=r"capability 8\.0 \(Ampere\) or newer; GPU 0 has 7\.5"):
        kernel(1, 32)
    fake.capability = "90"
    (sources / "a.cu").write_text('#error no\nextern "C" __global__ void fr_scale() {}\n')
    cuda.source.cache_clear()
    with pytest.raises(RuntimeError, match=r"(?s)NVRTC cannot compile a\.cu for sm_90.*#error"):
        kernel(1, 32)

    def gone() -> Any:
        raise RuntimeError("libnvrtc.so.13: cannot open shared object file")

    monkeypatch.setattr(fake.cuda.nvrtc, "getVersion", gone)
    with pytest.raises(RuntimeError, match=r"finds no NVRTC.*libnvrtc.*pip install nvidia-cuda-nvrtc-cu12"):
        kernel(1, 32)
    fake.devices = 0
    with pytest.raises(RuntimeError, match="finds no GPU; check `nvidia-smi`"):
        kernel(1, 32)

    def no_driver() -> int:
        raise RuntimeError("cudaErrorInsufficientDriver")

    monkeypatch.setattr(fake.cuda.runtime, "getDeviceCount", no_driver)
    with pytest.raises(RuntimeError, match=r"no usable GPU: cudaErrorInsufficientDriver.*nvidia-smi"):
        kernel(1, 32)
    monkeypatch.setitem(sys.modules, "cupy", None)  # type: ignore[arg-type]
    with pytest.raises(ImportError, match=r"needs CuPy: pip install 'fastrec\[cuda\]'.*fastrec\[cuda13\]"):
        kernel(1, 32)


def test_the_cache_moves_to_a_temporary_folder_where_it_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FASTREC_CACHE", str(tmp_path / "file"))
    folder = cuda._folder()
    assert folder.is_dir()
    assert tmp_path not in folder.parents
    shutil.rmtree(folder)
    cuda._temporary.cache_clear()
    monkeypatch.delenv("FASTREC_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cuda._folder() == tmp_path / "fastrec" / "cuda"


def test_out_of_memory_is_recognised_by_name() -> None:
    error = type("OutOfMemoryError", (MemoryError,), {})
    assert cuda.is_out_of_memory(error())
    assert not cuda.is_out_of_memory(ValueError())
