"""The only file that knows NumPy from CuPy: adopting arrays without copying, and telling where they live.

The arrays decide the device.  NumPy arrays, and anything that can be viewed as one, run on the CPU; CuPy arrays, and
anything on an NVIDIA card with ``__dlpack__`` or ``__cuda_array_interface__``, run there.  Nothing is ever moved from
one to the other: mixing them is a ``TypeError``.
"""

from __future__ import annotations

import functools
import sys
from array import array
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from types import ModuleType
from typing import Any, TypeVar, cast

import numpy as np

Function = TypeVar("Function", bound=Callable[..., Any])
CPU = "cpu"
_DLPACK_NAMES = {
    4: "OpenCL",
    7: "Vulkan",
    8: "Metal",
    9: "VPI",
    10: "ROCm",
    12: "ext_dev",
    14: "oneAPI",
    15: "WebGPU",
}
_DLPACK_CPU = (1, 3)  # host, pinned host
_DLPACK_CUDA = (2, 13)  # device, managed
_PLAIN = (list, tuple, int, float, bool, range, memoryview, array)
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
    """View ``value`` as a NumPy or CuPy array, without copying it where its layout allows.

    Takes NumPy and CuPy arrays, anything with ``__dlpack__`` (torch, JAX, ...), ``__cuda_array_interface__`` (Numba)
    or ``__array__`` (pandas, polars, Arrow), and plain Python sequences.  Copied are sequences, columns that are not
    stored as one block (a frame of mixed types, chunked or nullable columns) and bfloat16 tensors, which become
    float32 because NumPy has no such type.  Strides, byte order and the read-only flag are kept.  Raises
    ``TypeError`` naming ``name`` for anything else, ``ValueError`` for ragged sequences.
    """
    if type(value) is np.ndarray:
        return value
    if isinstance(value, np.ndarray):
        if isinstance(value, np.ma.MaskedArray):
            raise TypeError(
                f"`{name}` is a masked array, whose mask would be lost; fill it first (`.filled(...)`)"
            )
        return value.view(np.ndarray)
    cupy = cupy_if_loaded()
    if cupy is not None and isinstance(value, cupy.ndarray):
        return _there(value, name)
    if hasattr(value, "__dlpack_device__"):
        return _through_dlpack(value, name)
    if hasattr(value, "__cuda_array_interface__"):
        return _there(_require_cupy(name).asarray(value), name)
    if isinstance(value, _PLAIN) or hasattr(value, "__array__") or hasattr(value, "__array_interface__"):
        return _on_host(value, name)
    remedy = ""
    if hasattr(value, "toarray"):
        remedy = "; a sparse matrix becomes one with `.toarray()`"
    elif hasattr(value, "collect"):
        remedy = "; call `.collect()` first"
    raise TypeError(
        f"`{name}` must be an array (NumPy, CuPy, torch, pandas, polars, Arrow, or anything with __dlpack__ or "
        f"__array__); got {type(value).__name__}{remedy}"
    )


def _there(array: Any, name: str) -> Any:
    """An array of a card, whose loads fault where an element does not lie at a multiple of its size."""
    size = array.dtype.itemsize
    if array.size and (array.data.ptr % size or any(step % size for step in array.strides)):
        raise ValueError(
            f"`{name}` is misaligned: its {array.dtype} elements lie {array.data.ptr % size} bytes off a multiple of "
            f"{size} or {array.strides} bytes apart, and a GPU cannot read them so. Copy the bytes into an array of "
            f"that type first"
        )
    return array


def _on_host(value: Any, name: str) -> Any:
    try:
        if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
            return np.from_dlpack(value)
        return np.asarray(value)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        kind = ValueError if isinstance(error, ValueError) else TypeError
        raise kind(f"`{name}` cannot be read as an array: {error}") from error


def _through_dlpack(value: Any, name: str) -> Any:
    try:
        kind = int(value.__dlpack_device__()[0])
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise TypeError(f"`{name}` is on no device that fastrec can reach: {error}") from error
    if getattr(value, "requires_grad", False):
        value = value.detach()
    if kind in _DLPACK_CUDA:
        return _there(_require_cupy(name).from_dlpack(value), name)
    if kind not in _DLPACK_CPU:
        where = _DLPACK_NAMES.get(kind, f"DLPack device type {kind}")
        raise TypeError(f"`{name}` is on {where}, which fastrec cannot reach; pass a NumPy or CuPy array")
    if str(getattr(value, "dtype", "")) == "torch.bfloat16":
        value = value.float()
    return _on_host(value, name)


def on_card(value: Any) -> bool:
    """Whether a value that is not adopted yet, an array or a sparse matrix, is on an NVIDIA card."""
    if hasattr(value, "tocsr"):
        value = getattr(value, "data", None)
    cupy = cupy_if_loaded()
    if cupy is not None and isinstance(value, cupy.ndarray):
        return True
    try:
        return (
            int(value.__dlpack_device__()[0]) in _DLPACK_CUDA
            if hasattr(value, "__dlpack_device__")
            else hasattr(value, "__cuda_array_interface__")
        )
    except (BufferError, RuntimeError, TypeError, ValueError):  # `adopt` will say what is wrong
        return False


def device(array: Any) -> str:
    """Where an adopted array lives: ``"cpu"`` or ``"cuda:<n>"``."""
    return CPU if isinstance(array, np.ndarray) else f"cuda:{array.device.id}"


def common_device(**arrays: Any) -> str:
    """The one device on which all the named arrays live (``None`` is skipped); ``TypeError`` where they differ."""
    places = {name: device(a) for name, a in arrays.items() if a is not None}
    if len(set(places.values())) > 1:
        listed = ", ".join(f"`{name}` on {place}" for name, place in places.items())
        raise TypeError(
            f"all arrays must be on one device; got {listed}. fastrec never copies between devices."
        )
    return next(iter(places.values()), CPU)


def namespace(array: Any) -> ModuleType:
    """``numpy`` or ``cupy``: the module whose functions work on an adopted array (``numpy`` for None)."""
    return np if array is None or isinstance(array, np.ndarray) else sys.modules["cupy"]


def stream_of(*values: Any) -> AbstractContextManager[Any]:
    """While it is entered, CuPy works on torch's current stream, where one of ``values`` is a torch tensor on a card.

    What torch has queued comes first, and what it queues next comes after, without an event in between.  Anything else
    leaves CuPy's own current stream alone.
    """
    torch = sys.modules.get("torch")
    tensor = getattr(torch, "Tensor", None)
    found = next((v for v in values if tensor is not None and isinstance(v, tensor) and v.is_cuda), None)
    if torch is None or found is None:
        return nullcontext()
    cupy = _require_cupy("a tensor")
    stack = ExitStack()
    stack.enter_context(cupy.cuda.Device(found.device.index))
    pointer = torch.cuda.current_stream(found.device).cuda_stream
    stack.enter_context(_lent(cupy, pointer, found.device.index))
    return stack


class _Lent:
    """A stream of another library, by the protocol that `cupy.cuda.Stream.from_external` asks for."""

    def __init__(self, pointer: int) -> None:
        self.pointer = pointer

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.pointer  # version of the protocol, and where the stream is


def _lent(cupy: ModuleType, pointer: int, number: int) -> AbstractContextManager[Any]:
    """Another library's stream as CuPy's, on the current card, which has this number."""
    if hasattr(cupy.cuda.Stream, "from_external"):
        return cast(AbstractContextManager[Any], cupy.cuda.Stream.from_external(_Lent(pointer)))
    return cast(AbstractContextManager[Any], cupy.cuda.ExternalStream(pointer, number))  # before CuPy 14


def following(function: Function) -> Function:
    """``function`` with the card of its first argument that is on one current, and on torch's current stream there,
    where an argument is a torch tensor (see `stream_of`)."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        values = (*args, *kwargs.values())
        with stream_of(*values), _card_of(values):
            return function(*args, **kwargs)

    return cast(Function, run)


def _card_of(values: Iterable[Any]) -> AbstractContextManager[Any]:
    cupy = cupy_if_loaded()
    if cupy is not None:
        for value in values:
            array = getattr(value, "data", None) if hasattr(value, "tocsr") else value
            if isinstance(array, cupy.ndarray):
                return array.device
    return nullcontext()


def current(array: Any) -> AbstractContextManager[Any]:
    """While it is entered, an adopted array's card is the current one, on which CuPy makes and fills new arrays."""
    return nullcontext() if array is None or isinstance(array, np.ndarray) else array.device
