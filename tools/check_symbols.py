"""Check what the linker could mix up: symbols of the per-instruction-set objects, and libraries of the extensions.

    python tools/check_symbols.py [BUILD_FOLDER]        (default: build)

A body `x.isa.cpp` is compiled once per instruction set.  An object may export kernels named `fr_<name>_<set>` and
nothing else: a weak symbol (an STL template, an inline function, a vtable) exists in several objects, the linker
keeps one of them, and code for AVX-512 ends up being called on a machine that has none.  Neither may it call what
allocates, throws, takes an OpenMP runtime, or rounds differently from one library to the next.  An extension may need
the C and C++ libraries only.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

# name pattern -> why an object of an instruction set must not call it
FORBIDDEN_CALLS = {
    r"_Zn[wa]|malloc|calloc|realloc": "allocates: scratch memory comes from the caller",
    r"__cxa_|__gxx_personality|_Unwind": "throws, or guards a static",
    r"GOMP_|omp_|__kmpc": "needs an OpenMP runtime",
    r"_ZGV": "is a vectorised libm function, whose rounding differs from the scalar one",
    r"_ZN?S[tabsiod]": "is part of the C++ library",
}
ALLOWED_LIBRARIES = re.compile(r"lib(c|m|dl|pthread|stdc\+\+|gcc_s)\.so|ld-linux.*\.so")


def _lines(*command: str) -> list[str]:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def check_object(path: Path, isa: str) -> list[str]:
    """What is wrong with one object of an instruction set, a sentence each."""
    wrong = []
    for line in _lines("nm", "--extern-only", str(path)):
        kind, name = line.split()[-2:]
        if kind == "U":
            why = next((why for pattern, why in FORBIDDEN_CALLS.items() if re.match(pattern, name)), None)
            if why:
                wrong.append(f"{path}: calls {name}, which {why}")
        elif kind in "WVuwv":
            wrong.append(f"{path}: exports the weak symbol {name}")
        elif kind != "T" or not re.fullmatch(rf"fr_\w+_{isa}", name):
            wrong.append(f"{path}: exports {name} ({kind}), which is no function named fr_..._{isa}")
    return wrong


def check_extension(path: Path) -> list[str]:
    """What is wrong with the libraries that one extension module needs."""
    needed = [
        m[1] for line in _lines("readelf", "-d", str(path)) if (m := re.search(r"\(NEEDED\).*\[(.*)\]", line))
    ]
    return [f"{path}: needs {name}" for name in needed if not ALLOWED_LIBRARIES.match(name)]


def main(folder: str = "build") -> int:
    objects = sorted(Path(folder).glob("**/isa/*/**/*.isa.o"))
    extensions = sorted(Path(folder).glob("lib*/**/*.so"))
    if not objects or not extensions:
        print(
            f"check_symbols: {folder} holds no objects or no extensions; build with `pip wheel . --no-deps`"
        )
        return 2
    wrong = [w for path in objects for w in check_object(path, path.parts[path.parts.index("isa") + 1])]
    wrong += [w for path in extensions for w in check_extension(path)]
    print(*wrong, sep="\n", end="\n" if wrong else "")
    print(f"check_symbols: {len(objects)} objects, {len(extensions)} extensions, {len(wrong)} problems")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
