"""CUDA kernels: text from ``kernels/cuda``, compiled at first use for the card that is there, launched through CuPy.

::

    kernel = cuda.kernel("rank_pairs.cu", "fr_score_pairs", FR_ITEM=0)      # nothing is compiled yet
    with cuda.on(queries):                                                  # the device of that array
        kernel(blocks, 256, queries, items, None, cuda.i64(n))              # on CuPy's current stream, not waited for

A kernel takes raw pointers (arrays are passed as theirs, ``None`` as a null) and numbers of a stated size (`i32`,
`i64`, `f32`, `f64`).  The sources know no framework and include only each other; `source` puts the headers in place
itself, so that the text is the whole of what is compiled, and with the options it is the key of the cache.

CuPy's own compilation of a ``RawModule`` always adds ``-ftz=true``, after the caller's options, which would make
subnormal scores zero on a card and nowhere else.  Therefore NVRTC is called here, with the options of `OPTIONS`, and
the machine code is kept in a folder (``FASTREC_CACHE``, or ``fastrec`` under ``XDG_CACHE_HOME`` or ``~/.cache``).
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import importlib
import math
import os
import re
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from fastrec._core.files import replacing

# The same bits as on the CPU: no flushing of subnormals, IEEE division and roots, nothing fused that is written apart.
OPTIONS = ("-std=c++17", "-ftz=false", "-prec-div=true", "-prec-sqrt=true", "-fmad=false")
LOWEST = (8, 0)  # int8 products of 16 x 8 x 32 and asynchronous copies
# An NVRTC that is older than the card compiles for the newest of these that it knows.
_KNOWN = (120, 100, 90, 89, 86, 80)
_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+"([^"]+)"[^\n]*$', re.MULTILINE)
_ONCE = re.compile(r"^[ \t]*#[ \t]*pragma[ \t]+once[^\n]*\n", re.MULTILINE)
_INSTALL = (
    "pip install 'fastrec[cuda]' for a driver of CUDA 12, or pip install 'fastrec[cuda13]' for one of CUDA 13"
)

# Python's own numbers are passed as 64 bits wide, and in less time than NumPy's.
i32, i64, u32, f32, f64 = np.int32, int, np.uint32, np.float32, float


# ---- what is there ---------------------------------------------------------------------------------------------------


def require() -> ModuleType:
    """CuPy with a card behind it; ``ImportError`` or ``RuntimeError`` with the remedy where one is missing."""
    try:
        import cupy
    except ImportError as error:
        raise ImportError(f"Work on an NVIDIA GPU needs CuPy: {_INSTALL}") from error
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except RuntimeError as error:  # CuPy's own type, CUDARuntimeError
        raise RuntimeError(
            f"CuPy {cupy.__version__} is installed and finds no usable GPU: {error}. Check that `nvidia-smi` lists the "
            f"card and that its driver is new enough for this CuPy ({_INSTALL})"
        ) from error
    if count == 0:
        raise RuntimeError(
            f"CuPy {cupy.__version__} is installed and finds no GPU; check `nvidia-smi` and CUDA_VISIBLE_DEVICES"
        )
    return cupy


def capability(device: int) -> tuple[int, int]:
    """Compute capability of a card; ``RuntimeError`` where it is below `LOWEST`."""
    cupy = require()
    text = str(cupy.cuda.Device(device).compute_capability)  # "90", "120"
    found = int(text[:-1]), int(text[-1])
    if found < LOWEST:
        raise RuntimeError(
            f"fastrec's CUDA kernels need compute capability {LOWEST[0]}.{LOWEST[1]} (Ampere) or newer; GPU {device} "
            f"has {found[0]}.{found[1]}. Pass NumPy arrays to work on the CPU"
        )
    return found


@functools.cache
def shared_memory(device: int) -> tuple[int, int]:
    """Bytes of shared memory that one block can have, and that a multiprocessor of a card has for all of its blocks."""
    found = require().cuda.Device(device).attributes
    return int(found["MaxSharedMemoryPerBlockOptin"]), int(found["MaxSharedMemoryPerMultiprocessor"])


def place(where: str | int) -> str:
    """``"cpu"`` or ``"cuda:<n>"`` of the argument ``device``: one of those, ``"cuda"``, or the number of a card."""
    if where == "cpu":
        return "cpu"
    if where == "cuda":
        return f"cuda:{int(require().cuda.runtime.getDevice())}"
    number = where if isinstance(where, int) and not isinstance(where, bool) else None
    if isinstance(where, str) and where.startswith("cuda:") and where[5:].isdecimal():
        number = int(where[5:])
    if number is None:
        raise ValueError(f"`device` must be 'cpu', 'cuda', 'cuda:<n>' or the number of a card; got {where!r}")
    count = int(require().cuda.runtime.getDeviceCount())
    if not 0 <= number < count:
        raise ValueError(
            f"`device` must be one of the {count} cards here, cuda:0..cuda:{count - 1}; got {where!r}"
        )
    return f"cuda:{number}"


@contextlib.contextmanager
def on(array: Any) -> Iterator[Any]:
    """CuPy with the device of ``array`` (or of that number) current; its current stream is where work then goes."""
    cupy = require()
    number = array if isinstance(array, int) else array.device.id
    with cupy.cuda.Device(number):
        yield cupy


def free_bytes(device: int) -> int:
    """Memory that can be had on a card now: what the driver calls free, and what CuPy's pool holds unused."""
    with on(device) as cupy:
        free, _ = cupy.cuda.runtime.memGetInfo()
        return int(free) + int(cupy.get_default_memory_pool().free_bytes())


@contextlib.contextmanager
def room_for(what: str) -> Iterator[None]:
    """An allocation that fails inside becomes a ``MemoryError`` that says what there was no room for."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryError(
            f"there is no room on the GPU for {what}: {error}. Free memory there (CuPy keeps what was freed: "
            "`cupy.get_default_memory_pool().free_all_blocks()`), or pass fewer rows at a time"
        ) from error


def settle() -> None:
    """Wait for CuPy's current stream: what was just brought to a card or built there may be used on any stream."""
    require().cuda.get_current_stream().synchronize()


def pinned(xp: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """An array of the host in pinned memory, from which copies to a card run beside its work; not filled."""
    size = math.prod(shape)
    memory = xp.cuda.alloc_pinned_memory(max(1, size * np.dtype(dtype).itemsize))
    return np.frombuffer(memory, dtype, size).reshape(shape)


def fetched(xp: Any, array: Any) -> Callable[[], np.ndarray]:
    """A function that returns the contents of ``array``, as they are on the current stream now, in host memory.

    It waits for what was launched before this call, and for nothing after it.
    """
    here, stream = pinned(xp, array.shape, array.dtype), xp.cuda.get_current_stream()
    array.data.copy_to_host_async(ctypes.c_void_p(here.ctypes.data), here.nbytes, stream)
    copied = stream.record()

    def get() -> np.ndarray:
        copied.synchronize()
        return here

    return get


def blocks(count: int, each: int, most: int = 4096) -> int:
    """How many blocks of ``each`` things to launch for ``count`` of them, where blocks take things in turn."""
    return min(-(-count // each), most)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether CuPy says that an allocation failed."""
    return type(error).__name__ == "OutOfMemoryError"


def require_numba() -> ModuleType:
    """``numba.cuda`` with a card behind it; ``ImportError`` or ``RuntimeError`` with the remedy where it is missing."""
    try:
        from numba import cuda as target
    except ImportError as error:  # later versions of Numba leave it to the package numba-cuda
        raise ImportError(f"Functions of your own on an NVIDIA GPU need numba-cuda: {_INSTALL}") from error
    if not target.is_available():
        raise RuntimeError(
            f"Numba finds no usable CUDA ({target.cuda_error()}), and functions of your own on an NVIDIA GPU need it: "
            f"{_INSTALL}"
        )
    _lend_row_stack()
    return target


@functools.cache
def _lend_row_stack() -> None:
    """Import the part of numba-cuda that needs ``np.row_stack`` with that name lent to it.

    Up to 0.30.4 it asks for it when it first compiles, though it names NumPy 2.5, which has it no longer, as supported.
    """
    if "row_stack" in vars(np):
        return
    numpy: Any = np
    numpy.row_stack = np.vstack  # what it was
    try:
        with contextlib.suppress(ImportError), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other names that NumPy wants to drop
            importlib.import_module("numba.cuda.np.arrayobj")  # Numba's own, older target has no such module
    finally:
        del numpy.row_stack


def _numba_classes(name: str) -> tuple[Any, ...]:
    """An error or warning of Numba by its name: numba-cuda has classes of its own beside Numba's.

    Whoever raises one has loaded its module.
    """
    modules = map(sys.modules.get, ("numba.core.errors", "numba.cuda.core.errors"))
    return tuple(getattr(module, name) for module in modules if module is not None)


def launch_numba(kernel: Any, blocks: int, threads: int, *args: Any) -> None:
    """Launch a kernel of Numba with CuPy arrays, on the current device and CuPy's current stream, not waited for."""
    cupy, target = require(), require_numba()
    # Without `sync=False` Numba would wait for the stream that CuPy names in an array's interface.
    there = [target.as_cuda_array(a, sync=False) if isinstance(a, cupy.ndarray) else a for a in args]
    stream = target.external_stream(int(cupy.cuda.get_current_stream().ptr))
    with target.gpus[int(cupy.cuda.runtime.getDevice())]:
        try:
            with warnings.catch_warnings():
                for category in _numba_classes("NumbaPerformanceWarning"):  # of small grids
                    warnings.simplefilter("ignore", category)
                kernel[blocks, threads, stream](*there)
        except _numba_classes("NumbaError") as error:
            raise TypeError(
                f"Numba cannot compile {kernel.__name__!r} for CUDA; keep to loops and arithmetic, or work on the CPU: "
                f"{error}"
            ) from error


# ---- sources ---------------------------------------------------------------------------------------------------------


@functools.cache
def source(name: str) -> str:
    """The text of a file of ``kernels/cuda`` with its headers in place, each of them once."""
    seen: set[str] = set()

    def read(file: str) -> str:
        if file in seen:
            return ""
        seen.add(file)
        text = files("fastrec._kernels.cuda").joinpath(file).read_text(encoding="utf-8")
        return _INCLUDE.sub(lambda match: read(match[1]), _ONCE.sub("", text))

    return read(name)


def names() -> list[str]:
    """The ``.cu`` files that ship."""
    folder = files("fastrec._kernels.cuda")
    return sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".cu"))


def variants(name: str) -> list[dict[str, int]]:
    """The definitions a source is compiled with, from its line ``// variants: FR_A=0,1 FR_B=3``; all combinations."""
    found = re.search(r"^// variants:(.*)$", source(name), re.MULTILINE)
    made: list[dict[str, int]] = [{}]
    for word in found[1].split() if found else ():
        macro, _, values = word.partition("=")
        made = [{**one, macro: int(value)} for one in made for value in values.split(",")]
    return made


# ---- compiling -------------------------------------------------------------------------------------------------------


def _folder() -> Path:
    chosen = os.environ.get("FASTREC_CACHE")
    base = (
        Path(chosen)
        if chosen
        else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fastrec"
    )
    folder = base / "cuda"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except (OSError, RuntimeError):
        pass
    return _temporary()


@functools.cache
def _temporary() -> Path:
    return Path(tempfile.mkdtemp(prefix="fastrec-cuda-"))


def _nvrtc(cupy: ModuleType) -> tuple[Any, tuple[int, int]]:
    try:
        nvrtc = cupy.cuda.nvrtc
        return nvrtc, tuple(nvrtc.getVersion())
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        raise RuntimeError(
            f"CuPy {cupy.__version__} finds no NVRTC, which compiles fastrec's kernels ({error}): pip install "
            "nvidia-cuda-nvrtc-cu12 for a CuPy of CUDA 12, or nvidia-cuda-nvrtc for one of CUDA 13"
        ) from error


def _compile(nvrtc: Any, name: str, text: str, options: tuple[str, ...], arch: int) -> tuple[bytes, str]:
    """Machine code for ``sm_<arch>``, or PTX for the newest that this NVRTC knows; and the suffix of its file."""
    targets = [(f"sm_{arch}", ".cubin"), *((f"compute_{n}", ".ptx") for n in _KNOWN if n < arch)]
    for target, suffix in targets:
        program = nvrtc.createProgram(text, name, (), ())
        try:
            nvrtc.compileProgram(program, (*options, f"-arch={target}"))
            made = nvrtc.getCUBIN(program) if suffix == ".cubin" else nvrtc.getPTX(program)
            return made if isinstance(made, bytes) else made.encode(), suffix
        except RuntimeError as error:  # CuPy's NVRTCError
            log = nvrtc.getProgramLog(program)
            if "gpu-architecture" in log or "-arch" in log:
                continue
            raise RuntimeError(f"NVRTC cannot compile {name} for {target}: {error}\n{log}") from error
        finally:
            nvrtc.destroyProgram(program)
    raise RuntimeError(
        f"this NVRTC knows no architecture for compute capability {arch / 10}; install a newer one"
    )


_NULL = np.uint64(0)


def _current_device() -> int:
    cupy = sys.modules.get("cupy") or require()
    return int(cupy.cuda.runtime.getDevice())


class Kernel:
    """One ``extern "C" __global__`` function of one source under one set of definitions: compiled when first called.

    Compiled code is kept for each card; another process finds it in the cache's folder.
    """

    def __init__(self, file: str, name: str, defines: tuple[tuple[str, int], ...]) -> None:
        self.file, self.name = file, name
        self.options = (*OPTIONS, *(f"-D{macro}={value}" for macro, value in defines))
        self._made: dict[int, Any] = {}  # by device
        self._shared: dict[
            int, int
        ] = {}  # dynamic shared memory that a device's may have, once it was asked for
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<CUDA kernel {self.name} of {self.file} {' '.join(self.options[len(OPTIONS) :])}>"

    def __call__(self, grid: Any, block: int, *args: Any, shared: int = 0) -> None:
        """Launch on the current device and CuPy's current stream.

        ``grid`` is a number of blocks or a tuple of up to three; ``shared`` bytes of dynamic shared memory.  A grid
        without blocks is no launch.
        """
        grid = (grid,) if isinstance(grid, int) else grid
        if 0 in grid:
            return
        device = _current_device()
        function = self._made.get(device)
        if function is None:
            function = self._load_once(device)
        # Without asking, a block has 48 KB, of which its static arrays take their part.
        if shared > self._shared.get(device, 0):
            if function.max_dynamic_shared_size_bytes < shared:
                function.max_dynamic_shared_size_bytes = shared
            self._shared[device] = shared
        function(grid, (block,), tuple([_NULL if a is None else a for a in args]), shared_mem=shared)

    def _load_once(self, device: int) -> Any:
        cupy = require()
        with self._lock:
            if device not in self._made:
                self._made[device] = self._load(cupy, device)
        return self._made[device]

    def _load(self, cupy: ModuleType, device: int) -> Any:
        major, minor = capability(device)
        nvrtc, version = _nvrtc(cupy)
        text, arch = source(self.file), 10 * major + minor
        key = hashlib.sha256(repr((text, self.options, arch, version)).encode()).hexdigest()[:32]
        stem = _folder() / f"{Path(self.file).stem}-sm{arch}-{key}"
        for suffix in (".cubin", ".ptx"):
            path = stem.with_suffix(suffix)
            if path.is_file():
                break
        else:
            code, suffix = _compile(nvrtc, self.file, text, self.options, arch)
            path = stem.with_suffix(suffix)
            with replacing(path) as temporary:
                Path(temporary).write_bytes(code)
        return cupy.RawModule(path=str(path)).get_function(self.name)


@functools.cache
def _kernel(file: str, name: str, defines: tuple[tuple[str, int], ...]) -> Kernel:
    return Kernel(file, name, defines)


def kernel(file: str, name: str, **defines: int) -> Kernel:
    """The one `Kernel` object of a function of ``kernels/cuda/<file>`` under these definitions."""
    return _kernel(file, name, tuple(sorted(defines.items())))
