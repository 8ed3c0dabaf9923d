"""Build fastrec's compiled kernels.

Every ``kernels/cpu/*.isa.cpp`` body is compiled once per instruction set into its own object, with its own
compiler flags and its own symbol suffix; ``fastrec._core.isa`` picks one table of functions at import.  Only those
objects get instruction-set flags, so what the linker shares between them (nothing, see ``tools/check_symbols.py``)
can never carry fast code to a machine that cannot run it.

``FASTREC_SANITIZE=1`` builds with address and undefined-behaviour sanitizers (for development).
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError
from setuptools.modified import newer_group

CPU = "kernels/cpu"
AVX2 = ["-mavx2", "-mfma", "-mf16c", "-mbmi", "-mbmi2", "-mpopcnt", "-mlzcnt"]
AVX512 = [
    *AVX2,
    "-mavx512f",
    "-mavx512bw",
    "-mavx512dq",
    "-mavx512vl",
    "-mavx512cd",
    "-mprefer-vector-width=512",
]
# Weakest first.  The order is the level number that dispatch uses; fastrec/_core/isa.py lists the same names.
ISAS: dict[str, list[str]] = {
    "baseline": [],
    "avx2": AVX2,
    "avx512": AVX512,
    "avx512vnni": [*AVX512, "-mavx512vnni"],
    "avx512amx": [*AVX512, "-mavx512vnni", "-mamx-tile", "-mamx-int8"],
}
# Sets that only some extensions gain from; the others run their next lower one there (kernels/cpu/table.inc).
ONLY = {"avx512amx": ("runtime", "ranking", "roofs")}
# One instruction of each set: what the compiler, and the assembler under it, must be able to emit.
PROBES = {
    "avx2": "__m256 f(__m256 a) { return _mm256_fmadd_ps(a, a, a); }",
    "avx512": "__m512i f(__m512i a) { return _mm512_mullo_epi64(_mm512_abs_epi8(a), a); }",
    "avx512vnni": "__m512i f(__m512i a) { return _mm512_dpbusd_epi32(a, a, a); }",
    "avx512amx": "void f(const void *p) { _tile_loadd(1, p, 64); _tile_dpbsud(0, 1, 2); }",
}
# Extension -> the kernel bodies it owns.
BODIES = {
    "ranking": ["pack.isa.cpp", "scan.isa.cpp", "pairs.isa.cpp", "select.isa.cpp"],
    "evaluation": ["evaluation.isa.cpp"],
    "clicks": ["clicks_sort.isa.cpp", "clicks_sweep.isa.cpp", "clicks_points.isa.cpp"],
    "catalog": ["catalog.isa.cpp"],
    "learning": ["learning.isa.cpp"],
    "resample": ["resample.isa.cpp"],
    "roofs": ["roofs.isa.cpp"],
}
SANITIZE = os.environ.get("FASTREC_SANITIZE") == "1"
GNU_FLAGS = [
    "-std=c++17",
    "-O3",
    "-g0",
    "-ffp-contract=off",
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
    "-Wno-unused-function",
    "-Wno-maybe-uninitialized",
    "-Wno-uninitialized",  # GCC 12 warns inside its own intrinsics headers
]
# Bodies hold no exceptions, no RTTI and no guarded statics: all three would emit weak symbols.
BODY_FLAGS = [
    "-fno-exceptions",
    "-fno-rtti",
    "-fno-threadsafe-statics",
    "-fno-math-errno",
    "-fno-trapping-math",
]
if SANITIZE:
    GNU_FLAGS += ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-g1"]


class BuildKernels(build_ext):
    """Compile each body once per instruction set, then link its objects into the extension that owns it."""

    def finalize_options(self) -> None:
        super().finalize_options()
        if self.parallel is None:  # extensions share no object, so they build side by side
            self.parallel = (
                len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
            )

    def build_extensions(self) -> None:
        self.msvc = self.compiler.compiler_type == "msvc"
        self.isas = {
            isa: flags for isa, flags in ISAS.items() if isa == "baseline" or self._can_compile(isa, flags)
        }
        print("fastrec: building for", ", ".join(self.isas))
        super().build_extensions()

    def _can_compile(self, isa: str, flags: list[str]) -> bool:
        if self.msvc or not self.plat_name.endswith(("x86_64", "amd64")):
            return False
        with tempfile.TemporaryDirectory() as folder:
            probe = Path(folder, "probe.cpp")
            probe.write_text(f"#include <immintrin.h>\n{PROBES[isa]}\n")
            try:
                self.compiler.compile([str(probe)], output_dir=folder, extra_postargs=flags)
            except CompileError:
                print(f"fastrec: this compiler cannot build for {isa}; leaving it out")
                return False
        return True

    def build_extension(self, ext: Extension) -> None:
        base = ["/std:c++17", "/O2"] if self.msvc else GNU_FLAGS
        name = ext.name.rpartition(".")[2]
        bodies = [f"{CPU}/{body}" for body in BODIES.get(name, [])]
        isas = {isa: flags for isa, flags in self.isas.items() if name in ONLY.get(isa, [name])}
        ext.depends = [*ext.depends, *bodies]  # so that a changed body links again
        ext.extra_objects = [
            self._object(body, isa, base + ([] if self.msvc else BODY_FLAGS) + flags, ext.depends)
            for isa, flags in isas.items()
            for body in bodies
        ]
        ext.extra_compile_args = list(base)
        ext.define_macros = [*ext.define_macros, *((f"FR_HAVE_{isa.upper()}", "1") for isa in isas)]
        if not self.msvc:
            ext.extra_link_args = ["-pthread"]
            if sys.platform.startswith("linux") and not SANITIZE:
                ext.extra_link_args += ["-Wl,--strip-all", "-static-libgcc"]
            if SANITIZE:
                ext.extra_link_args += ["-fsanitize=address,undefined"]
        super().build_extension(ext)

    def _object(self, body: str, isa: str, flags: list[str], depends: list[str]) -> str:
        folder = os.path.join(self.build_temp, "isa", isa)
        (target,) = self.compiler.object_filenames([body], output_dir=folder)
        if self.force or newer_group([body, *depends], target):
            macros = [("FR_ISA", isa), (f"FR_ISA_{isa.upper()}", "1")]
            self.compiler.compile(
                [body], output_dir=folder, include_dirs=[CPU], macros=macros, extra_postargs=flags
            )
        return target


HEADERS = [str(p) for pattern in ("*.h", "*.def", "*.inc") for p in sorted(Path(CPU).glob(pattern))]


def headers(name: str) -> list[str]:
    """What the extension is built again for: the shared headers and its own, not those of other areas."""
    others = {area for area in BODIES if area != name}
    return [path for path in HEADERS if Path(path).name.partition("_")[0].partition(".")[0] not in others]


def extension(name: str, *sources: str) -> Extension:
    return Extension(
        f"fastrec._kernels.{name}",
        [f"{CPU}/{name}.pyx", *(f"{CPU}/{s}" for s in sources)],
        include_dirs=[CPU],
        depends=headers(name),
        language="c++",
    )


EXTENSIONS = [
    extension("runtime", "isa.cpp", "pool.cpp"),
    extension("ranking", "ranking_table.cpp"),
    extension("evaluation", "evaluation_table.cpp"),
    extension("labels"),
    extension("clicks", "clicks_table.cpp"),
    extension("catalog", "catalog_table.cpp"),
    extension("learning", "learning_table.cpp"),
    extension("resample", "resample_table.cpp"),
    extension("roofs", "roofs_table.cpp"),
]

PACKAGES = [str(p.parent).replace(os.sep, ".") for p in sorted(Path("fastrec").rglob("__init__.py"))]

setup(
    packages=[*PACKAGES, "fastrec._kernels.cuda"],
    # kernels/cuda lives beside the C++ sources and ships as a package, so that its .cu text is found the same way in
    # a wheel and in an editable install.
    package_dir={"fastrec": "fastrec", "fastrec._kernels.cuda": "kernels/cuda"},
    package_data={
        "fastrec": ["py.typed"],
        "fastrec._kernels": ["*.pyi"],
        "fastrec._kernels.cuda": ["*.cu", "*.cuh"],
        "fastrec.datasets": ["files/*"],
        "fastrec.benchmarks": ["*.html", "*.j2"],
    },
    include_package_data=False,  # or MANIFEST.in, which is for the sdist, would put every source into the wheel
    ext_modules=cythonize(
        EXTENSIONS,
        build_dir="build/cython",
        language_level=3,
        compiler_directives={
            "boundscheck": False,
            "wraparound": False,
            "cdivision": True,
            "initializedcheck": False,
            "embedsignature": True,
            "freethreading_compatible": True,
        },
    ),
    cmdclass={"build_ext": BuildKernels},
)
