"""``fastrec.info()``: what one pastes into a bug report."""

from __future__ import annotations

import ctypes
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fastrec._core import isa, threads
from fastrec._core.version import __version__

_PACKAGES = (
    "numpy", "scipy", "pandas", "pyarrow", "numba", "scikit-learn", "typer", "rich", "matplotlib", "cupy-cuda12x",
    "cupy-cuda13x", "numba-cuda", "torch", "polars", "faiss-cpu", "faiss-gpu", "faiss-gpu-cu12",
    "cuvs-cu12", "cuvs-cu13", "implicit", "ranx", "pytrec-eval-terrier",
)  # fmt: skip


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _gpu() -> dict[str, Any]:
    try:
        import cupy
    except ImportError:
        return {"available": False, "why": "CuPy is not installed: pip install 'fastrec[cuda]'"}
    try:
        count = cupy.cuda.runtime.getDeviceCount()
        cards = []
        for number in range(count):
            properties = cupy.cuda.runtime.getDeviceProperties(number)
            cards.append(
                {
                    "name": properties["name"].decode(),
                    "compute_capability": f"{properties['major']}.{properties['minor']}",
                    "memory_gib": round(properties["totalGlobalMem"] / 2**30, 1),
                }
            )
        return {
            "available": bool(cards),
            "cards": cards,
            "driver": _driver(),
            "cuda": _dotted(cupy.cuda.runtime.driverGetVersion()),
            "runtime": _dotted(cupy.cuda.runtime.runtimeGetVersion()),
            "cupy": cupy.__version__,
            "nvrtc": _nvrtc(cupy),
        }
    except Exception as error:  # CuPy raises its own types, which need a driver to import
        return {"available": False, "why": f"CuPy {cupy.__version__} finds no usable GPU: {error}"}


def _dotted(number: int) -> str:
    """CUDA's number of a version, 12040, as people write it: 12.4."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _driver() -> str | None:
    """The release of NVIDIA's driver, such as 580.95.05: CuPy tells only which CUDA it can do."""
    try:
        nvml = ctypes.CDLL("nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1")
        if nvml.nvmlInit_v2():
            return None
        text = ctypes.create_string_buffer(80)
        found = None if nvml.nvmlSystemGetDriverVersion(text, len(text)) else text.value.decode()
        nvml.nvmlShutdown()
    except (OSError, AttributeError):  # no such library, or another one
        return None
    return found


def _nvrtc(cupy: Any) -> str | None:
    """The version of the compiler of CUDA sources, if there is one."""
    try:
        return ".".join(map(str, cupy.cuda.nvrtc.getVersion()))
    except (ImportError, OSError, RuntimeError, AttributeError):
        return None


def info() -> dict[str, Any]:
    """Version, platform, instruction sets (built, usable, active), threads, GPU (or why none) and dependencies.

    Looking for a GPU imports CuPy where it is installed.  The result holds plain Python values only, so that it can be
    written as JSON.
    """
    return {
        "fastrec": __version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "processor": _processor(),
        "isa": {"built": isa.built(), "usable": isa.usable(), "active": isa.ACTIVE},
        "threads": threads.get_threads(),
        "gpu": _gpu(),
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
    }
