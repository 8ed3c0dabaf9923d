"""The only file that knows NumPy from CuPy: adopting arrays without copying, and telling where they live.

The arrays decide the device.  NumPy arrays, and anything that can be viewed as one, run on the CPU; CuPy arrays, and
anything on an NVIDIA card with ``__dlpack__`` or ``__cuda_array_interface__``, run there.  Nothing is ever moved from
one to the other: mixing them is a ``TypeError``.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np

CPU = "cpu"
_DLPACK_NAMES = {4: "OpenCL", 7: "Vulkan", 8: "Metal", 9: "VPI", 10: "ROCm", 12: "ext_dev", 14: "oneAPI", 15: "WebGPU"}
_DLPACK_CPU = (1, 3)  # host, pinned host
_DLPACK_CUDA = (2, 13)  # device, managed
_PLAIN = (list, tuple, int, float, bool, range)
_NEEDS_CUPY = (
    "`{name}` is on an NVIDIA GPU, which needs CuPy: pip install 'fastrec[cuda]' "
    "(or 'fastrec[cuda13]' with CUDA 13). To stay on the CPU, pass a NumPy array."
)


def cupy_if_loaded() -> ModuleType | None:
    """CuPy, if somebody has imported it: whoever holds a CuPy array has."""
    return sys.modules.get("cupy")


def _require_cupy(name: str) -> ModuleType:
    try:
        import cupy
    except ImportError as error:
        raise ImportError(_NEEDS_CUPY.format(name=name)) from error
    return cupy


def adopt(value: Any, name: str) -> Any:
    """View ``value`` as a NumPy or CuPy array without copying it.

    Takes NumPy and CuPy arrays, anything with ``__dlpack__`` (torch, JAX, ...), ``__cuda_array_interface__`` (Numba)
    or ``__array__`` (pandas, polars), and plain Python sequences, which are the one thing that is copied.  Raises
    ``TypeError`` naming ``name`` for anything else.
    """
    if type(value) is np.ndarray:
        return value
    if isinstance(value, np.ndarray):
        if isinstance(value, np.ma.MaskedArray):
            raise TypeError(f"`{name}` is a masked array, whose mask would be lost; fill it first (`.filled(...)`)")
        return value.view(np.ndarray)
    cupy = cupy_if_loaded()
    if cupy is not None and isinstance(value, cupy.ndarray):
        return value
    if hasattr(value, "__cuda_array_interface__") and not hasattr(value, "__dlpack__"):
        return _require_cupy(name).asarray(value)
    if hasattr(value, "__dlpack_device__"):
        return _from_dlpack(value, name)
    if isinstance(value, _PLAIN) or hasattr(value, "__array__") or hasattr(value, "__array_interface__"):
        try:
            return np.asarray(value)
        except (ValueError, TypeError) as error:
            raise type(error)(f"`{name}` cannot be read as an array: {error}") from error
    raise TypeError(
        f"`{name}` must be an array (NumPy, CuPy, or anything with __dlpack__); got {type(value).__name__}"
    )


def _from_dlpack(value: Any, name: str) -> Any:
    kind = int(value.__dlpack_device__()[0])
    if getattr(value, "requires_grad", False):
        value = value.detach()
    if kind in _DLPACK_CUDA:
        return _require_cupy(name).from_dlpack(value)
    if kind not in _DLPACK_CPU:
        where = _DLPACK_NAMES.get(kind, f"DLPack device type {kind}")
        raise TypeError(f"`{name}` is on {where}, which fastrec cannot reach; pass a NumPy or CuPy array")
    if "bfloat16" in str(getattr(value, "dtype", "")):
        return _bfloat16(value, name)
    try:
        return np.from_dlpack(value)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        if hasattr(value, "__array__"):
            return np.asarray(value)
        raise TypeError(f"`{name}` cannot be adopted through DLPack: {error}") from error


def _bfloat16(value: Any, name: str) -> Any:
    """A bfloat16 tensor as a NumPy array of ml_dtypes.bfloat16 where that package is there, else as float32."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        ml_dtypes = sys.modules.get("ml_dtypes")
        if ml_dtypes is not None:
            return np.from_dlpack(value.view(torch.uint16)).view(ml_dtypes.bfloat16)
        return np.from_dlpack(value.float())
    return np.asarray(value)


def device(array: Any) -> str:
    """Where an adopted array lives: ``"cpu"`` or ``"cuda:<n>"``."""
    return CPU if isinstance(array, np.ndarray) else f"cuda:{array.device.id}"


def common_device(**arrays: Any) -> str:
    """The one device on which all the named arrays live (``None`` is skipped); ``TypeError`` where they differ."""
    places = {name: device(a) for name, a in arrays.items() if a is not None}
    if len(set(places.values())) > 1:
        listed = ", ".join(f"`{name}` on {place}" for name, place in places.items())
        raise TypeError(f"all arrays must be on one device; got {listed}. fastrec never copies between devices.")
    return next(iter(places.values()), CPU)


def namespace(array: Any) -> ModuleType:
    """``numpy`` or ``cupy``: the module whose functions work on an adopted array."""
    return np if isinstance(array, np.ndarray) else sys.modules["cupy"]
