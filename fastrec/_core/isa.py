"""Which instruction set the kernels use: chosen once, at import, by asking the processor.

``FASTREC_ISA`` may name a lower one (to compare, or to reproduce); a name this build or this machine cannot run is
refused, because the alternative is a crash.
"""

from __future__ import annotations

import os

from fastrec._kernels import runtime

# Weakest first; setup.py and kernels/cpu/isa.h share the order.
NAMES = ("baseline", "avx2", "avx512", "avx512vnni", "avx512amx")


def built() -> list[str]:
    """Names of the instruction sets this build holds, weakest first."""
    mask = runtime.isa_built()
    return [name for level, name in enumerate(NAMES) if mask >> level & 1]


def usable() -> list[str]:
    """Names of the built instruction sets that this machine can run, weakest first."""
    machine = runtime.isa_machine()
    return [name for name in built() if NAMES.index(name) <= machine]


def _choose(wanted: str | None) -> str:
    candidates = usable()
    if not wanted:
        return candidates[-1]
    if wanted not in candidates:
        known = "cannot be run here" if wanted in NAMES else "is not known"
        raise ValueError(
            f"FASTREC_ISA={wanted!r} {known}; this build on this machine can run: {', '.join(candidates)}. "
            "Unset it to use the best one."
        )
    return wanted


ACTIVE: str = _choose(os.environ.get("FASTREC_ISA"))
LEVEL: int = NAMES.index(ACTIVE)
