"""CuPy without a card: the part of it that fastrec uses, on NumPy arrays, recording what was done.

``fake = install(monkeypatch)`` puts it into ``sys.modules``.  Kernels really run: "NVRTC" keeps the text, and
``RawModule`` compiles it for the host (cuda_host.py), so that launch code is tested together with what it launches.

It is stricter than CuPy where a mistake would be silent on a small test: only the functions and methods listed here
exist; NumPy arrays do not mix with its own; arrays of two devices do not meet; what would wait for the card (`get`,
``int(...)``, a boolean mask) is recorded in ``fake.log`` as ``("sync", what)``; a launch as ``("launch", kernel, ..)``.
"""

from __future__ import annotations

import contextlib
import ctypes
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cuda_host
import numpy as np
import pytest
from scipy.sparse import csr_matrix

_METHODS = {
    "reshape",
    "ravel",
    "sum",
    "min",
    "max",
    "any",
    "all",
    "copy",
    "cumsum",
    "fill",
    "view",
    "transpose",
    "argmax",
}
_ATTRIBUTES = {"shape", "dtype", "size", "ndim", "nbytes", "itemsize", "strides", "flags"}
_FUNCTIONS = {
    "abs", "arange", "argsort", "array", "asarray", "ascontiguousarray", "broadcast_to", "concatenate", "cumsum",
    "diff", "empty", "empty_like", "exp", "exp2", "frexp", "full", "isfinite", "isinf", "isnan", "ldexp", "lexsort",
    "log", "matmul", "maximum", "minimum", "ones", "repeat", "searchsorted", "sort", "sqrt", "stack", "take_along_axis",
    "tile", "where", "zeros", "zeros_like", "rint", "bincount", "clip", "moveaxis", "expm1", "log1p", "sum", "dot",
    "append", "array_split", "mean", "square", "power",
    "sign", "logical_and", "logical_or", "take", "cos", "sin", "logaddexp", "arctan2", "isin",
}  # fmt: skip
_WAIT = {"flatnonzero", "nonzero", "unique"}
_CREATE = {"arange", "array", "asarray", "empty", "empty_like", "full", "ones", "zeros", "zeros_like"}
_SCALARS = (int, float, bool, np.generic, type(None), str, type, np.dtype, slice, type(Ellipsis))


class Flags:
    def __init__(self, flags: Any) -> None:
        self.c_contiguous, self.f_contiguous = flags.c_contiguous, flags.f_contiguous


class Array:
    """``cupy.ndarray``."""

    __array_priority__ = 100.0
    __array_ufunc__ = None  # NumPy must not take it for one of its own

    def __init__(self, fake: Fake, array: np.ndarray, device: int) -> None:
        self._fake, self._array, self.device = fake, array, fake.cuda.Device(device)

    def __getattr__(self, name: str) -> Any:
        if name == "flags":
            return Flags(self._array.flags)
        if name == "T":
            return self._fake.wrap(self._array.T, self.device.id)
        if name in _ATTRIBUTES:
            return getattr(self._array, name)
        if name in _METHODS:
            return lambda *a, **k: self._fake.call(getattr(self._array, name), a, k, self.device.id)
        raise AttributeError(f"fake CuPy arrays have no {name!r}; is it in CuPy?")

    @property
    def data(self) -> Any:
        def copy_to_host_async(there: ctypes.c_void_p, size: int, stream: Any) -> None:
            held = self._array.tobytes()[:size]  # as it is now, and there as late as it may be
            stream.pending.append(lambda: ctypes.memmove(there, held, size))

        return types.SimpleNamespace(ptr=self._array.ctypes.data, copy_to_host_async=copy_to_host_async)

    def astype(self, dtype: Any, copy: bool = True) -> Array:
        with np.errstate(all="ignore"):  # a card does not warn
            return self._fake.wrap(self._array.astype(dtype, copy=copy), self.device.id)

    def set(self, array: np.ndarray, stream: Any = None) -> None:
        assert type(array) is np.ndarray
        assert array.shape == self.shape
        assert array.dtype == self.dtype
        if stream is None:
            self._array[...] = array
        else:  # as late as it may be: when somebody waits for it
            self._fake.log.append(("copy", stream.ptr, self._array.ctypes.data))
            stream.pending.append(lambda: np.copyto(self._array, array))

    def get(self) -> np.ndarray:
        self._fake.log.append(("sync", "get"))
        return self._array.copy()

    def item(self) -> Any:
        self._fake.log.append(("sync", "item"))
        return self._array.item()

    def tolist(self) -> Any:
        return self.get().tolist()

    def __len__(self) -> int:
        return len(self._array)

    def __bool__(self) -> bool:
        return bool(self.item())

    def __int__(self) -> int:
        return int(self.item())

    __index__ = __int__

    def __float__(self) -> float:
        return float(self.item())

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def __getitem__(self, key: Any) -> Any:
        got = self._array[self._fake.index(key, self.device.id)]
        return self._fake.wrap(got if isinstance(got, np.ndarray) else np.asarray(got), self.device.id)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._array[self._fake.index(key, self.device.id)] = self._fake.unwrap(value, self.device.id)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, self.device.id


def _operator(name: str) -> Any:
    def run(self: Array, *others: Any) -> Any:
        with np.errstate(all="ignore"):
            return self._fake.call(getattr(self._array, name), others, {}, self.device.id)

    return run


for _name in (
    *(
        "add",
        "sub",
        "mul",
        "truediv",
        "floordiv",
        "mod",
        "pow",
        "and",
        "or",
        "xor",
        "lshift",
        "rshift",
        "matmul",
    ),
    *(
        "radd",
        "rsub",
        "rmul",
        "rtruediv",
        "rand",
        "ror",
        "rpow",
        "iadd",
        "isub",
        "imul",
        "itruediv",
        "iand",
        "ior",
    ),
    *("lt", "le", "gt", "ge", "eq", "ne", "neg", "invert", "abs"),
):
    setattr(Array, f"__{_name}__", _operator(f"__{_name}__"))
Array.__hash__ = None  # type: ignore[assignment]


class OutOfMemoryError(MemoryError):
    pass


class Program:
    def __init__(self, text: str, name: str) -> None:
        self.text, self.name, self.options, self.log = text, name, (), ""


class NVRTCError(RuntimeError):
    pass


class Nvrtc:
    """``cupy.cuda.nvrtc``: the "machine code" is the text, with its options on the first line."""

    def __init__(self, fake: Fake) -> None:
        self.fake = fake

    def getVersion(self) -> tuple[int, int]:
        return 13, 5

    def createProgram(self, text: str, name: str, headers: Any, includes: Any) -> Program:
        assert headers == includes == ()
        return Program(text, name)

    def compileProgram(self, program: Program, options: tuple[str, ...]) -> None:
        self.fake.log.append(("compile", program.name, options))
        arch = next(o for o in options if o.startswith("-arch="))
        if int(arch.rpartition("_")[2]) > self.fake.newest_known:
            program.log = "nvrtc: error: invalid value for --gpu-architecture (-arch)"
            raise NVRTCError("NVRTC_ERROR_INVALID_OPTION (5)")
        if "#error" in program.text:
            program.log = f"{program.name}(1): error: #error"
            raise NVRTCError("NVRTC_ERROR_COMPILATION (6)")
        program.options = options

    def getCUBIN(self, program: Program) -> bytes:
        return ("\x1f".join(program.options) + "\n" + program.text).encode()

    def getPTX(self, program: Program) -> str:
        return self.getCUBIN(program).decode()

    def getProgramLog(self, program: Program) -> str:
        return program.log

    def destroyProgram(self, program: Program) -> None:
        pass


class RawModule:
    def __init__(self, fake: Fake, path: str) -> None:
        options, _, text = Path(path).read_text().partition("\n")
        self.fake, self.device = fake, fake.cuda.runtime.getDevice()
        self.module = cuda_host.compile(text, options.split("\x1f"))

    def get_function(self, name: str) -> RawKernel:
        return RawKernel(self, name)


class RawKernel:
    def __init__(self, module: RawModule, name: str) -> None:
        self.fake, self.name, self.device = module.fake, name, module.device
        self.kernel = module.module.get_function(name)
        self.max_dynamic_shared_size_bytes = self.kernel.max_dynamic_shared_size_bytes

    def __call__(self, grid: Any, block: Any, args: Any, *, shared_mem: int = 0) -> None:
        assert self.device == self.fake.cuda.runtime.getDevice(), "a kernel was loaded on another device"
        self.fake.log.append(("launch", self.name, grid, block, self.fake.stream))
        self.kernel.max_dynamic_shared_size_bytes = self.max_dynamic_shared_size_bytes
        plain = []
        for code, arg in zip(self.kernel.parameters, args, strict=True):
            if code.startswith("*") and isinstance(arg, np.uint64):
                assert arg == 0
                plain.append(None)
            else:
                plain.append(self.fake.unwrap(arg, self.device))
        self.kernel(grid, block, tuple(plain), shared_mem=shared_mem)


class Log(list[tuple[Any, ...]]):
    """What was done; and, called, ``cupy.log``."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function("log", args, {})


class Fake(types.ModuleType):
    """The module."""

    ndarray = Array
    inf, nan, newaxis = np.inf, np.nan, None
    __version__ = "14.2.0"

    def __init__(self) -> None:
        super().__init__("cupy")
        self.log = Log(self._function)
        self.devices = 1
        self.capability = "90"
        self.newest_known = 121
        self.limit = 80 << 30  # bytes that one allocation may have
        self.stream: Any = "default"
        self.capturing = False  # whether a graph is captured on it
        self.RawModule = lambda *, path: RawModule(self, path)
        self._current = 0
        fake = self

        class Device:
            def __init__(self, number: int | None = None) -> None:
                self.id = fake._current if number is None else number
                self._before: list[int] = []  # an array's is entered again and again

            @property
            def compute_capability(self) -> str:
                return fake.capability

            @property
            def attributes(self) -> dict[str, int]:
                return {
                    "MaxSharedMemoryPerBlockOptin": cuda_host.SHARED,
                    "MaxSharedMemoryPerMultiprocessor": cuda_host.SHARED + 1024,
                }

            def __enter__(self) -> Device:
                self._before.append(fake._current)
                fake._current = self.id
                return self

            def __exit__(self, *_: Any) -> None:
                fake._current = self._before.pop()

            def __eq__(self, other: Any) -> bool:
                return isinstance(other, Device) and self.id == other.id

            __hash__ = None  # type: ignore[assignment]

        class Mark:
            """An event: what a stream was given before it was recorded."""

            def __init__(self, stream: BaseStream) -> None:
                self.stream, self.until = stream, stream.done + len(stream.pending)

            def happen(self) -> None:
                while self.stream.done < self.until:
                    self.stream.pending.pop(0)()
                    self.stream.done += 1

            def synchronize(self) -> None:
                fake.log.append(("sync", "copies"))
                self.happen()

        class BaseStream:
            """Copies wait in it until an event after them is waited for; kernels run at once."""

            def __init__(self, pointer: Any, device_id: int = -1) -> None:
                self.ptr, self.device_id, self.pending, self.done = pointer, device_id, [], 0

            def __enter__(self) -> BaseStream:
                if self.device_id not in (-1, fake._current):
                    raise RuntimeError(
                        f"The device that the stream is created on ({self.device_id}) does not match with the current "
                        f"device ({fake._current})"
                    )
                self._before, fake.stream = fake.stream, self.ptr
                return self

            def __exit__(self, *_: Any) -> None:
                fake.stream = self._before

            def wait_event(self, event: Mark) -> None:
                fake.log.append(("wait", self.ptr, event))
                event.happen()

            def synchronize(self) -> None:
                fake.log.append(("sync", "stream"))

            def is_capturing(self) -> bool:
                return fake.capturing

            def begin_capture(self) -> None:
                fake.capturing = True

            def end_capture(self) -> Any:
                """Kernels ran as they were captured, and do not run again."""
                fake.capturing = False
                return types.SimpleNamespace(launch=lambda stream: None)

            def record(self) -> Mark:
                mark = Mark(self)
                fake.log.append(("record", self.ptr, mark))
                return mark

        class Stream(BaseStream):
            def __init__(self, non_blocking: bool = False) -> None:
                super().__init__(id(self), fake._current)

            @classmethod
            def from_external(cls, lent: Any) -> Stream:
                version, pointer = lent.__cuda_stream__()
                assert version == 0
                stream = cls.__new__(cls)
                BaseStream.__init__(stream, pointer, fake._current)
                return stream

        class ExternalStream(BaseStream):
            def __init__(self, pointer: Any, device_id: int = -1) -> None:
                message = "ExternalStream is deprecated. Use Stream.from_external() instead"
                warnings.warn(message, DeprecationWarning, stacklevel=2)
                super().__init__(pointer, device_id)

        runtime = types.SimpleNamespace(
            getDevice=lambda: fake._current,
            getDeviceCount=lambda: fake.devices,
            memGetInfo=lambda: (fake.limit, 80 << 30),
            deviceSynchronize=lambda: fake.log.append(("sync", "device")),
            getDeviceProperties=lambda number: {
                "name": b"Fake H100",
                "major": int(fake.capability[:-1]),
                "minor": int(fake.capability[-1]),
                "totalGlobalMem": 80 << 30,
            },
            driverGetVersion=lambda: 13000,
            runtimeGetVersion=lambda: 12040,
        )

        class Event:
            def record(self) -> None:
                fake.log.append(("event",))

            def synchronize(self) -> None:
                fake.log.append(("sync", "event"))

        self.cuda = types.SimpleNamespace(
            Device=Device, ExternalStream=ExternalStream, Stream=Stream, runtime=runtime, nvrtc=Nvrtc(self),
            memory=types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError), Event=Event,
            get_elapsed_time=lambda start, end: 2.0,
            get_current_stream=lambda: BaseStream(self.stream), alloc_pinned_memory=bytearray,
        )  # fmt: skip

    def __getattr__(self, name: str) -> Any:
        if name in _FUNCTIONS or name in _WAIT:
            return lambda *a, **k: self._function(name, a, k)
        if name in ("bool_", "dtype") or name.rstrip("0123456789") in ("int", "uint", "float"):
            return getattr(np, name)
        raise AttributeError(f"fake CuPy has no {name!r}; is it in CuPy?")

    def _function(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if name == "argsort":
            assert kwargs.get("kind") in (None, "stable"), "cupy.argsort is stable only"
            kwargs = {**kwargs, "kind": "stable"}
        if name in _WAIT:
            self.log.append(("sync", name))
        if name in ("asarray", "array") and type(args[0]) is np.ndarray:  # the explicit way onto the card
            return self.wrap(np.array(args[0], **kwargs), self._current)
        if name == "asarray" and isinstance(args[0], Array) and args[0].device.id != self._current:
            return self.wrap(args[0]._array.copy(), self._current)  # from card to card, as CuPy does it
        if name in ("asarray", "ascontiguousarray") and isinstance(args[0], Array):
            dtype = kwargs.get("dtype", args[1] if len(args) > 1 else None)
            if (dtype is None or args[0].dtype == dtype) and args[0].flags.c_contiguous:
                return args[0]
        with np.errstate(all="ignore"):
            return self.call(getattr(np, name), args, kwargs, None if name not in _CREATE else self._current)

    def asnumpy(self, array: Any) -> np.ndarray:
        return array.get() if isinstance(array, Array) else array

    def from_dlpack(self, value: Any) -> Array:
        return self.wrap(np.from_dlpack(value._host), int(value.__dlpack_device__()[1]))

    def may_share_memory(self, a: Any, b: Any) -> bool:  # bounds only: nothing waits
        return a.device == b.device and np.may_share_memory(a._array, b._array)

    def get_default_memory_pool(self) -> Any:
        return types.SimpleNamespace(free_bytes=lambda: 0, free_all_blocks=lambda: self.log.append(("free",)))

    # ---- wrapping ----

    def wrap(self, array: np.ndarray, device: int) -> Array:
        if array.nbytes > self.limit:
            raise OutOfMemoryError(f"Out of memory allocating {array.nbytes:,} bytes")
        return Array(self, array, device)

    def unwrap(self, value: Any, device: int | None) -> Any:
        if isinstance(value, Array):
            assert device in (None, value.device.id), (
                f"an array of device {value.device.id} met device {device}"
            )
            return value._array
        if isinstance(value, (list, tuple)):
            return type(value)(self.unwrap(v, device) for v in value)
        if not isinstance(value, _SCALARS):
            raise TypeError(f"Unsupported type {type(value)}")
        return value

    def index(self, key: Any, device: int) -> Any:
        plain = self.unwrap(key, device)
        for part in plain if isinstance(plain, tuple) else (plain,):
            if isinstance(part, np.ndarray) and part.dtype == bool:
                self.log.append(("sync", "mask"))
        return plain

    def call(self, function: Any, args: Any, kwargs: Any, device: int | None) -> Any:
        if device is None:
            device = self._device_of(args, kwargs)
        if device is None:
            device = self._current
        got = function(*(self.unwrap(a, device) for a in args),
                       **{k: self.unwrap(v, device) for k, v in kwargs.items()})  # fmt: skip
        if got is NotImplemented:
            return got
        if isinstance(got, tuple):
            return tuple(self.wrap(np.asarray(g), device) for g in got)
        return None if got is None else self.wrap(np.asarray(got), device)

    def _device_of(self, args: Any, kwargs: Any) -> int | None:
        for value in (*args, *kwargs.values()):
            if isinstance(value, Array):
                return int(value.device.id)
            if isinstance(value, (list, tuple)):
                found = self._device_of(value, {})
                if found is not None:
                    return found
        return None

    # ---- what tests ask ----

    def launches(self) -> list[str]:
        return [entry[1] for entry in self.log if entry[0] == "launch"]

    def lent(self, pointer: int) -> Any:
        """A stream of somebody else's, as CuPy's."""
        return self.cuda.Stream.from_external(types.SimpleNamespace(__cuda_stream__=lambda: (0, pointer)))

    def syncs(self) -> list[str]:
        return [entry[1] for entry in self.log if entry[0] == "sync"]

    @contextlib.contextmanager
    def nothing_waits(self) -> Iterator[None]:
        before = len(self.syncs())
        yield
        assert self.syncs()[before:] == []


class Csr:
    """What fastrec uses of ``cupyx.scipy.sparse.csr_matrix``."""

    ndim, has_canonical_format = 2, True

    def __init__(self, cupy: Fake, matrix: Any) -> None:
        self.cupy, self.shape = cupy, matrix.shape
        self.data, self.indptr, self.indices = (
            cupy.asarray(part) for part in (matrix.data, matrix.indptr, matrix.indices)
        )

    def tocsr(self) -> Csr:
        return self

    def __getitem__(self, rows: Any) -> Csr:
        whole = csr_matrix((self.data._array, self.indices._array, self.indptr._array), shape=self.shape)
        return Csr(self.cupy, whole[rows._array])


def install(monkeypatch: Any, cache: Path) -> Fake:
    """A fresh fake as ``cupy``; compiled kernels are kept under ``cache``."""
    import sys

    from fastrec._core import cuda

    fake = Fake()
    monkeypatch.setitem(sys.modules, "cupy", fake)
    made = types.ModuleType("cupyx.scipy.sparse")
    made.csr_matrix = lambda matrix: Csr(fake, matrix)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cupyx", types.ModuleType("cupyx"))
    monkeypatch.setitem(sys.modules, "cupyx.scipy", types.ModuleType("cupyx.scipy"))
    monkeypatch.setitem(sys.modules, "cupyx.scipy.sparse", made)
    monkeypatch.setenv("FASTREC_CACHE", str(cache))
    cuda._kernel.cache_clear()
    return fake


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Fake:
    """The fake in place of CuPy: modules that run on it name it ``cupy``."""
    return install(monkeypatch, tmp_path)
