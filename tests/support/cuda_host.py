"""Run a .cu file as it is, on the host: ``compile(source).get_function(name)(grid, block, arguments)``.

The calls are those of ``cupy.RawModule``, so that launch code runs here unchanged, with NumPy arrays for CuPy's.  The
text is compiled by g++ against ``cuda_host.h``, which says how threads, barriers, warps and tensor cores are played.

Refused, each with an ``Error`` that names the argument or the place in the source: what a card would refuse (a block of
2,000 threads), and what it would do wrong without a word: an argument of the wrong size or type, a read or write
outside an array, a store through a pointer to const, a barrier that not all threads reach, an index outside a shared
array, a misaligned vector.  Arrays that a kernel is to fill hold rubbish only if the caller puts it there.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

HERE = Path(__file__).parent
KERNELS = HERE.parent.parent / "kernels" / "cuda"
COMPILER = shutil.which("g++")
NEEDED = pytest.mark.skipif(
    COMPILER is None or sys.platform != "linux", reason="the host emulator of CUDA needs g++ and Linux"
)
SHARED = 232_448  # bytes of shared memory a block can have on sm_90
SHARED_UNASKED = 48 << 10  # ... without asking for more

_FLAGS = [
    "-std=c++17", "-O1", "-g1", "-gdwarf-4", "-fPIC", "-shared", "-ffp-contract=off", "-frounding-math",
    "-fno-strict-aliasing", "-fno-exceptions", "-fno-rtti", "-fno-stack-protector", "-U_FORTIFY_SOURCE",
    "-Wall", "-Wextra", "-Werror",
    "-Wno-unknown-pragmas", "-Wno-unused-function", "-Wno-unused-variable", "-Wno-unused-parameter", "-Wno-psabi",
    "-Wno-attributes", "-Wno-maybe-uninitialized", "-Wno-uninitialized", "-Wno-clobbered",
    "-fsanitize=alignment,bounds,integer-divide-by-zero,null,signed-integer-overflow,shift-exponent,"
    "float-cast-overflow,unreachable",
    "-fsanitize-undefined-trap-on-error",
]  # fmt: skip
_DYNAMIC = re.compile(
    r"extern\s+__shared__\s+(?:__align__\s*\(\s*\d+\s*\)\s*)?([\w ]+?)\s*"
    r"(?:__align__\s*\(\s*\d+\s*\)\s*)?(\w+)\s*\[\s*\]\s*;"
)
_KERNEL = re.compile(r"__attribute__\s*\(\(used, noclone\)\)[\w\s]*?\bvoid\b\s*(\w+)\s*\(")
_folder: tempfile.TemporaryDirectory[str] | None = None
_modules: dict[str, Module] = {}
_order = 0


class Error(RuntimeError):
    """A kernel did what a card must not be asked to do."""


@contextlib.contextmanager
def thread_order(order: str | int) -> Iterator[None]:
    """Run the threads of a block, and the blocks, ``"forward"``, ``"reverse"`` or shuffled by a seed (an int > 1)."""
    global _order
    before = _order
    _order = {"forward": 0, "reverse": 1}[order] if isinstance(order, str) else int(order)
    try:
        yield
    finally:
        _order = before


def compile(source: str | Path, options: Sequence[str] = ()) -> Module:
    """The module of a .cu file, named by its path or by its name in kernels/cuda, or of CUDA text.

    ``options`` are NVRTC's; only ``-D`` and ``-I`` mean something here.  Text that was compiled before in this process
    is not compiled again.
    """
    name = "kernel.cu"
    if isinstance(source, Path) or (source.endswith(".cu") and "\n" not in source):
        path = KERNELS / source
        name, text = str(path), path.read_text()
    else:
        text = source
    options = [o for o in options if o.startswith(("-D", "-I"))]
    headers = sorted(KERNELS.glob("*.cuh"))
    parts = [text, name, *options, (HERE / "cuda_host.h").read_text(), *(h.read_text() for h in headers)]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]
    if key not in _modules:
        _modules[key] = Module(_build(text, name, options, headers, key))
    return _modules[key]


def _dynamic(text: str) -> str:
    """``extern __shared__ T name[];`` as a pointer, for C++ has no such thing."""
    return _DYNAMIC.sub(r"\1 *\2 = (\1 *)fr_host::dynamic_memory;", text)


def _build(text: str, name: str, options: Sequence[str], headers: Sequence[Path], key: str) -> Path:
    global _folder
    if COMPILER is None:
        raise Error("g++ is not installed, and the host emulator of CUDA needs it")
    if _folder is None:
        _folder = tempfile.TemporaryDirectory(prefix="fastrec-cuda-host-", ignore_cleanup_errors=True)
    work = Path(_folder.name, key)
    work.mkdir()
    for header in headers:
        (work / header.name).write_text(f'#line 1 "{header}"\n{_dynamic(header.read_text())}')
    (work / "main.cpp").write_text(f'#include "{HERE / "cuda_host.h"}"\n#line 1 "{name}"\n{_dynamic(text)}\n')
    command = [COMPILER, *_FLAGS, *options, f"-I{work}", f"-I{HERE}"]
    flat = _run([*command, "-E", str(work / "main.cpp")])
    names = dict.fromkeys(_KERNEL.findall(flat))
    if not names:
        raise Error(f"{name} has no __global__ function")
    with (work / "main.cpp").open("a") as file:
        file.write('#line 1 "exports"\n' + "".join(f"FR_HOST_EXPORT({n})\n" for n in names))
    _run([*command, "-o", str(work / "module.so"), str(work / "main.cpp")])
    return work / "module.so"


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise Error(f"g++ refuses the source:\n{done.stderr[-6000:]}")
    return done.stdout


class _Launch(ctypes.Structure):
    _fields_ = [
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared", ctypes.c_uint64),
        ("order", ctypes.c_int64),
        ("seconds", ctypes.c_double),
    ]


class _Report(ctypes.Structure):
    _fields_ = [
        ("text", ctypes.c_char * 2048),
        ("address", ctypes.c_uint64),
        ("pc", ctypes.c_uint64),
        ("signal", ctypes.c_int),
        ("writes", ctypes.c_int),
    ]


class Module:
    """Compiled kernels, by name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.library = ctypes.CDLL(str(path))
        self.library.fr_host_map.restype = ctypes.c_void_p
        self.library.fr_host_map.argtypes = [
            ctypes.c_uint64,
            ctypes.POINTER(ctypes.c_void_p),
            ctypes.POINTER(ctypes.c_uint64),
        ]
        self.library.fr_host_unmap.argtypes = [ctypes.c_void_p, ctypes.c_uint64]
        self.library.fr_host_protect.argtypes = [ctypes.c_void_p, ctypes.c_uint64]
        self.library.fr_host_report.restype = ctypes.POINTER(_Report)
        self.library.fr_host_static.restype = ctypes.c_uint64
        self.static: int = self.library.fr_host_static()  # bytes of shared memory of all its kernels together

    def get_function(self, name: str) -> Kernel:
        if not hasattr(self.library, f"fr_launch_{name}"):
            raise Error(f"no kernel is called {name!r} in {self.path}")
        return Kernel(self, name)

    def place(self, pc: int) -> str:
        """``file:line`` of an address in the code, innermost call first."""
        tool = shutil.which("addr2line")
        base = next(
            (
                int(line.split("-")[0], 16)
                for line in Path("/proc/self/maps").read_text().splitlines()
                if line.endswith(str(self.path))
            ),
            0,
        )
        if tool is None or pc < base:
            return "an unknown place"
        text = subprocess.run(
            [tool, "-i", "-e", str(self.path), hex(pc - base)], capture_output=True, text=True
        )
        found = [line.split(" (")[0] for line in text.stdout.splitlines() if "cuda_host.h" not in line]
        return " < ".join(found) or "an unknown place"


class _Region:
    """A copy of host memory between two guards."""

    def __init__(self, library: Any, low: int, size: int) -> None:
        self.library, self.low, self.size = library, low, size
        self.whole, self.mapped = ctypes.c_void_p(), ctypes.c_uint64()
        base = library.fr_host_map(size, ctypes.byref(self.whole), ctypes.byref(self.mapped))
        if not base:
            raise MemoryError(f"no memory for {size} bytes between guards")
        self.base: int = base
        self.room = -(-size // 16) * 16
        if size:
            ctypes.memmove(base, low, size)

    def rubbish_kept(self) -> bool:
        """Whether nobody wrote between the array's end and the guard, or just before its start."""
        page = -(-self.room // 4096) * 4096
        before = ctypes.string_at(self.base - (page - self.room), page - self.room)
        after = ctypes.string_at(self.base + self.size, self.room - self.size)
        return not (before.strip(b"\xfb") or after.strip(b"\xfb"))

    def copy_back(self) -> None:
        if self.size:
            ctypes.memmove(self.low, self.base, self.size)

    def free(self) -> None:
        self.library.fr_host_unmap(self.whole, self.mapped)


class Kernel:
    """A kernel with the call of ``cupy.RawKernel``: ``kernel(grid, block, args, shared_mem=0)``."""

    def __init__(self, module: Module, name: str) -> None:
        self.module, self.name = module, name
        self.max_dynamic_shared_size_bytes = SHARED_UNASKED - module.static
        signature = getattr(module.library, f"fr_signature_{name}")
        signature.restype = ctypes.c_char_p
        self.parameters = signature().decode().split(";")[:-1]
        self._launch = getattr(module.library, f"fr_launch_{name}")

    def __call__(
        self,
        grid: Sequence[int],
        block: Sequence[int],
        args: Sequence[Any],
        *,
        shared_mem: int = 0,
        stream: Any = None,
        seconds: float = 120.0,
    ) -> None:
        grid, block = self._shape(grid, "grid"), self._shape(block, "block")
        most = min(self.max_dynamic_shared_size_bytes, SHARED - self.module.static)
        if shared_mem and shared_mem > most:
            raise Error(
                f"{self.name}: {shared_mem} bytes of shared memory; the kernel may use {most} "
                "(max_dynamic_shared_size_bytes)"
            )
        if len(args) != len(self.parameters):
            raise Error(f"{self.name} takes {len(self.parameters)} arguments; got {len(args)}")
        launch = _Launch(
            (ctypes.c_uint * 3)(*grid), (ctypes.c_uint * 3)(*block), shared_mem, _order, float(seconds)
        )
        library = self.module.library
        regions = self._regions(args)
        dynamic = _Region(library, 0, 0) if not shared_mem else self._shared(shared_mem)
        try:
            values = [
                self._value(i, code, arg, regions) for i, (code, arg) in enumerate(zip(self.parameters, args))
            ]
            pointers = (ctypes.c_void_p * max(len(values), 1))(*(ctypes.addressof(v) for v in values))
            failed = self._launch(ctypes.byref(launch), pointers, ctypes.c_void_p(dynamic.base))
            if failed:
                raise Error(f"{self.name}: {self._explain(args, regions, dynamic)}")
            for region, constant in regions:
                if not region.rubbish_kept():
                    raise Error(f"{self.name} writes just outside {self._owner(args, region)}")
                if not constant:
                    region.copy_back()
            if shared_mem and not dynamic.rubbish_kept():
                raise Error(f"{self.name} writes just outside its dynamic shared memory")
        finally:
            dynamic.free()
            for region, _ in regions:
                region.free()

    def _shape(self, shape: Sequence[int], what: str) -> list[int]:
        full = [int(n) for n in shape] + [1] * (3 - len(shape))
        limits = (2**31 - 1, 65535, 65535) if what == "grid" else (1024, 1024, 64)
        if len(full) != 3 or any(not 1 <= n <= most for n, most in zip(full, limits)):
            raise Error(
                f"{self.name}: a {what} of {tuple(shape)} cannot be launched (each of 1..{limits}, in order)"
            )
        if what == "block" and full[0] * full[1] * full[2] > 1024:
            raise Error(f"{self.name}: a block of {tuple(shape)} has more than 1024 threads")
        return full

    def _shared(self, size: int) -> _Region:
        filler = np.full(size, 0xFB, np.uint8)
        return _Region(self.module.library, filler.ctypes.data, size)

    def _regions(self, args: Sequence[Any]) -> list[tuple[_Region, bool]]:
        """Copies of what the arrays cover, joined where they overlap, and whether only const pointers name them."""
        spans = []
        for code, arg in zip(self.parameters, args):
            if isinstance(arg, np.ndarray):
                spans.append((*_bytes_of(arg), code.startswith("*c")))
        merged: list[list[Any]] = []
        for low, high, constant in sorted(spans):
            if merged and (low < merged[-1][1] or low == merged[-1][0]):
                merged[-1][1] = max(merged[-1][1], high)
                merged[-1][2] &= constant
            else:
                merged.append([low, high, constant])
        library = self.module.library
        regions = []
        for low, high, constant in merged:
            region = _Region(library, low, high - low)
            if constant and high > low:
                page = region.base & ~4095
                library.fr_host_protect(page, -(-(region.base + region.room - page) // 4096) * 4096)
            regions.append((region, constant))
        return regions

    def _value(self, i: int, code: str, arg: Any, regions: list[tuple[_Region, bool]]) -> Any:
        if code.startswith("*"):
            if arg is None:
                return ctypes.c_void_p(0)
            if not isinstance(arg, np.ndarray):
                raise Error(f"{self.name}: argument {i} must be an array or None; got {type(arg).__name__}")
            self._check_array(i, code, arg)
            low = arg.ctypes.data
            for region, _ in regions:
                if region.low <= low <= region.low + region.size and (
                    region.size or low == region.low or not arg.size
                ):
                    return ctypes.c_void_p(region.base + low - region.low)
            raise AssertionError("every array lies in a region")
        kind, size = code[0], int(code[1:])
        # A plain int is 8 bytes and a plain float a double, as CuPy passes them.
        plain = {bool: np.bool_, int: np.int64, float: np.float64}.get(type(arg))
        value = plain(arg) if plain is not None else arg
        if kind == "s":
            raw = bytes(memoryview(np.ascontiguousarray(value)).cast("B"))
        elif isinstance(value, np.generic):
            fits = value.dtype.kind == kind or (value.dtype.kind in "iu" and kind in "iu")
            if not fits:
                raise Error(f"{self.name}: argument {i} is {value.dtype}; the kernel takes {_c_name(code)}")
            raw = value.tobytes()
        else:
            raise Error(
                f"{self.name}: argument {i} must be a number for {_c_name(code)}; got {type(arg).__name__}"
            )
        if len(raw) != size:
            raise Error(
                f"{self.name}: argument {i} has {len(raw)} bytes; {_c_name(code)} has {size} (a plain int is int64, "
                "a plain float is float64)"
            )
        return ctypes.create_string_buffer(raw, size)

    def _check_array(self, i: int, code: str, array: np.ndarray) -> None:
        constant, kind, size = code[1] == "c", code[2], int(code[3:])
        if not constant and not array.flags.writeable:
            raise Error(f"{self.name}: argument {i} is read-only, and the kernel's pointer is not const")
        if kind in "vsp" or (kind in "iu" and size == 1):
            return
        have = "u" if array.dtype.kind == "b" else array.dtype.kind
        same = have == kind or (have in "iu" and kind in "iu")
        if not same or array.dtype.itemsize != size:
            raise Error(f"{self.name}: argument {i} holds {array.dtype}; the kernel takes {_c_name(code)}")

    def _owner(self, args: Sequence[Any], region: _Region) -> str:
        names = [
            f"argument {i} ({'x'.join(map(str, a.shape))} {a.dtype})"
            for i, a in enumerate(args)
            if isinstance(a, np.ndarray) and region.low <= a.ctypes.data <= region.low + region.size
        ]
        return names[0] if names else "an array"

    def _explain(self, args: Sequence[Any], regions: list[tuple[_Region, bool]], dynamic: _Region) -> str:
        report = self.module.library.fr_host_report().contents
        text = report.text.decode(errors="replace").rstrip("; ")
        if not report.signal:
            return text
        place = self.module.place(report.pc)
        what = {
            4: "undefined behaviour (index outside a fixed array, signed overflow, misaligned access, shift too far, "
            "NaN or too large a float made an integer)",
            5: "undefined behaviour",
            8: "division of an integer by zero",
            26: "still running after its time (an endless loop?)",
        }.get(report.signal)
        if what is None:
            what = self._fault(args, regions, dynamic, report.address, bool(report.writes))
        return f"{what}, at {place}, in {text}"

    def _fault(
        self,
        args: Sequence[Any],
        regions: list[tuple[_Region, bool]],
        dynamic: _Region,
        address: int,
        writes: bool,
    ) -> str:
        verb = "writes" if writes else "reads"
        for region, constant in [*regions, (dynamic, False)]:
            if not region.whole.value <= address < region.whole.value + region.mapped.value:
                continue
            owner = "dynamic shared memory" if region is dynamic else self._owner(args, region)
            if address >= region.base + region.size:
                return f"{verb} {address - region.base - region.size} bytes past the end of {owner}"
            if address < region.base:
                return f"{verb} {region.base - address} bytes before the start of {owner}"
            if constant and writes:
                return f"writes through a pointer to const, {owner}"
            return f"{verb} {owner} with an address that is not aligned"
        return f"{verb} address {address:#x}, which no argument owns"


def _bytes_of(array: np.ndarray) -> tuple[int, int]:
    """The first byte of an array, whatever its strides, and the one after its last."""
    low = high = array.ctypes.data
    if not array.size:
        return low, low
    for count, step in zip(array.shape, array.strides):
        low += min((count - 1) * step, 0)
        high += max((count - 1) * step, 0)
    return low, high + array.itemsize


def _c_name(code: str) -> str:
    names = {
        "i": "int",
        "u": "unsigned",
        "f": "float",
        "b": "bool",
        "v": "void",
        "s": "struct",
        "p": "pointer",
    }
    if code.startswith("*"):
        const = "const " if code[1] == "c" else ""
        return f"{const}{names[code[2]]}{8 * int(code[3:]) if code[2] in 'iuf' else ''} *"
    return f"{names[code[0]]}{8 * int(code[1:])}"
