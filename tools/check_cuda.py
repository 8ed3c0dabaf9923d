"""Compile every CUDA source as the package would, without a card: for sm_80 and sm_90, a warning being an error.

    python tools/check_cuda.py                                        # needs the wheel nvidia-cuda-nvrtc
    python tools/check_cuda.py --write bench/results/cuda-registers.txt

Each ``.cu`` is compiled under every combination of definitions that its line ``// variants:`` names.  Registers, stack,
spills and shared memory of every kernel are printed (or written to a file); a kernel that spills fails the check.
"""

from __future__ import annotations

import argparse
import ctypes
import ctypes.util
import importlib.util
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from fastrec._core import cuda

ARCHITECTURES = (80, 90)
_INFO = re.compile(
    r"Compiling entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
    r".*?Used (\d+) registers[^\n]*",
    re.DOTALL,
)
_QUIET = re.compile(r"^\s*$|^ptxas\s+(info|\.)", re.MULTILINE)


def library() -> Path | None:
    """NVRTC from a wheel, or wherever the loader finds one."""
    spec = importlib.util.find_spec("nvidia")
    for folder in spec.submodule_search_locations or () if spec else ():
        for path in sorted(Path(folder).glob("**/libnvrtc.so.[0-9]*"), reverse=True):
            return path
    found = ctypes.util.find_library("nvrtc")
    return Path(found) if found else None


class Compiler:
    """NVRTC through ctypes."""

    def __init__(self, path: Path) -> None:
        self.library = ctypes.CDLL(str(path))
        major, minor = ctypes.c_int(), ctypes.c_int()
        self.library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
        self.version = f"{major.value}.{minor.value}"

    def compile(self, name: str, text: str, options: list[str]) -> tuple[bool, str]:
        """Whether machine code came out, and what the compiler said."""
        program, size = ctypes.c_void_p(), ctypes.c_size_t()
        call = self.library
        call.nvrtcCreateProgram(ctypes.byref(program), text.encode(), name.encode(), 0, None, None)
        try:
            words = (ctypes.c_char_p * len(options))(*(o.encode() for o in options))
            failed = call.nvrtcCompileProgram(program, len(options), words)
            call.nvrtcGetProgramLogSize(program, ctypes.byref(size))
            log = ctypes.create_string_buffer(size.value)
            call.nvrtcGetProgramLog(program, log)
            made = not failed and not call.nvrtcGetCUBINSize(program, ctypes.byref(size)) and size.value > 0
            return made, log.value.decode()
        finally:
            call.nvrtcDestroyProgram(ctypes.byref(program))


def check(compiler: Compiler, file: str) -> Iterator[tuple[str, bool]]:
    """A line for each kernel, architecture and set of definitions, and whether it is a failure."""
    for defines in cuda.variants(file):
        words = [f"-D{macro}={value}" for macro, value in defines.items()]
        for arch in ARCHITECTURES:
            made, log = compiler.compile(
                file, cuda.source(file), [*cuda.OPTIONS, *words, f"-arch=sm_{arch}", "-Xptxas=-v"]
            )
            what = f"{file:<18} sm_{arch} {' '.join(w[2:] for w in words) or '-':<22}"
            loud = [line for line in log.splitlines() if not _QUIET.match(line)]
            if not made or loud:
                yield f"{what} does not compile cleanly:\n" + "\n".join(loud or [log]), True
            for name, stack, stores, loads, registers in _INFO.findall(log):
                used = re.search(r"(\d+) bytes smem", log[log.index(f"'{name}'") :].split("Compile time")[0])
                spills = int(stores) + int(loads)
                smem = used[1] if used else 0
                numbers = f"{registers:>3} registers {stack:>5} stack {spills:>4} spilled {smem:>6} smem"
                yield f"{what} {name:<24} {numbers}", spills > 0


def check_file(file: str) -> list[tuple[str, bool]]:
    """`check` of a file, in a process of its own."""
    path = library()
    assert path is not None  # `main` looked
    return list(check(Compiler(path), file))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the report there")
    parser.add_argument("files", nargs="*", help="sources to look at; all, by default")
    chosen = parser.parse_args(arguments)
    path = library()
    if path is None:
        print("NVRTC is not here: pip install nvidia-cuda-nvrtc")
        return 2
    lines, failures = [], []
    with ProcessPoolExecutor() as workers:  # NVRTC compiles on one thread, for minutes in all
        for found in workers.map(check_file, chosen.files or cuda.names()):
            lines += [line for line, _ in found]
            failures += [line for line, failed in found if failed]
    version = Compiler(path).version
    lines.insert(
        0, f"# registers, stack and spills (bytes a thread), shared memory (bytes a block); NVRTC {version}"
    )
    if chosen.write:
        chosen.write.parent.mkdir(parents=True, exist_ok=True)
        chosen.write.write_text("\n".join(lines) + "\n")
    else:
        print("\n".join(lines))
    print(f"{len(lines) - 1} kernels compiled, {len(failures)} failures", *failures, sep="\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
