"""What this machine can do at most: float32 and int8 arithmetic, sequential and random reads of memory.

A time alone says little about a kernel; the share of the roof that it stands under says how much is left.  The roofs
are measured, not looked up: the best of several runs of kernels that do nothing else (``kernels/cpu/roofs.isa.cpp``).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fastrec._core import isa
from fastrec._kernels import roofs as kernels

ROW_BYTES = 256  # what scoring one candidate of 64 float32 values reads


@dataclass(frozen=True)
class Roofs:
    """Rates in units of 1e9 a second, on ``threads`` threads.

    Attributes
    ----------
    fp32, int8 : float
        Arithmetic operations (a multiply-add is two) of the best instruction set that the machine can run.
    read, random : float
        Bytes read in order, and in rows of 256 bytes at random, from memory larger than the caches.
    rows : float
        The same at random where rows begin 16 bytes into a cache line, as those of NumPy's matrices do: five lines a
        row and not four.  What random reads of such a matrix can reach.
    by_isa : dict
        ``{instruction set: {"fp32": ..., "int8": ...}}`` for every usable one.
    single : dict
        The same rates on one thread.
    """

    threads: int
    fp32: float
    int8: float
    read: float
    random: float
    rows: float
    by_isa: dict[str, dict[str, float]] = field(default_factory=dict)
    single: dict[str, float] = field(default_factory=dict)

    def merged(self, other: Roofs) -> Roofs:
        """The higher of each rate: a roof measured while the machine was busy is too low."""
        return Roofs(
            threads=self.threads,
            fp32=max(self.fp32, other.fp32),
            int8=max(self.int8, other.int8),
            read=max(self.read, other.read),
            random=max(self.random, other.random),
            rows=max(self.rows, other.rows),
            by_isa={
                name: {
                    kind: max(rate, other.by_isa.get(name, {}).get(kind, 0.0)) for kind, rate in rates.items()
                }
                for name, rates in self.by_isa.items()
            },
            single={kind: max(rate, other.single.get(kind, 0.0)) for kind, rate in self.single.items()},
        )

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def measure(threads: int, *, quick: bool = False, progress: Callable[[str], None] = lambda _: None) -> Roofs:
    """Measure every roof on ``threads`` threads and on one; about 3 s, or 1 s where ``quick``."""
    repeats = 4 if quick else 10
    data = _aligned(_buffer_bytes(quick))
    shifted = data[2:]  # 16 bytes on
    data.fill(1)  # memory that was never written to is one shared page of zeros

    def arithmetic(kernel: Callable[..., int], level: int, count: int) -> float:
        return best(lambda steps: kernel(steps, count, level), repeats, steps=20_000 * count)

    def memory(count: int) -> dict[str, float]:
        reads, times = len(data) * 8 // ROW_BYTES // 4, max(3, repeats // 3)

        def random(rows: np.ndarray) -> float:
            return random_reads(rows, reads, count, times)[0]

        read = best(lambda _: kernels.read_all(data, count), times)
        return {"read": read, "random": random(data), "rows": random(shifted)}

    by_isa = {}
    for name in isa.usable():
        progress(f"peak of {name}")
        level = isa.NAMES.index(name)
        by_isa[name] = {
            "fp32": arithmetic(kernels.fp32_peak, level, threads),
            "int8": arithmetic(kernels.int8_peak, level, threads),
        }
    fp32, int8 = (max(by_isa, key=lambda name: by_isa[name][kind]) for kind in ("fp32", "int8"))
    progress("memory")
    all_threads = memory(threads)
    return Roofs(
        threads=threads,
        fp32=by_isa[fp32]["fp32"],
        int8=by_isa[int8]["int8"],
        **all_threads,
        by_isa=by_isa,
        single={
            "fp32": arithmetic(kernels.fp32_peak, isa.NAMES.index(fp32), 1),
            "int8": arithmetic(kernels.int8_peak, isa.NAMES.index(int8), 1),
            **(all_threads if threads == 1 else memory(1)),
        },
    )


def random_reads(data: np.ndarray, reads: int, threads: int, repeats: int) -> tuple[float, Callable[[], int]]:
    """The way of reading so many rows of ``data`` (uint64) at random that does better here, and its rate before it."""
    ways = (kernels.read_random, kernels.read_apart)
    calls = [partial(way, data, reads, threads) for way in ways]
    rates = [best(lambda _, call=call: call(), repeats) for call in calls]  # type: ignore[misc]
    fastest = int(np.argmax(rates))
    return rates[fastest], calls[fastest]


def _aligned(size: int) -> np.ndarray:
    """An array of ``size`` bytes whose rows begin where a cache line does: NumPy's own begin 16 bytes into one."""
    raw = np.empty(size + ROW_BYTES, np.uint8)
    start = -raw.ctypes.data % ROW_BYTES
    return raw[start : start + size].view(np.uint64)


def best(run: Callable[[int], int], repeats: int, *, steps: int = 0, least_seconds: float = 0.004) -> float:
    """The highest of ``repeats`` rates of ``run(steps) -> amount``, in 1e9 a second.

    ``steps`` is doubled first until a run lasts long enough to be timed and for the clock to rise.
    """
    top = 0.0
    while True:
        started = time.perf_counter()
        amount = run(steps)
        seconds = time.perf_counter() - started
        if seconds >= least_seconds or not steps:
            break
        steps *= 2
    for _ in range(repeats):
        top = max(top, amount / seconds / 1e9)
        started = time.perf_counter()
        amount = run(steps)
        seconds = time.perf_counter() - started
    return max(top, amount / seconds / 1e9)


def _buffer_bytes(quick: bool) -> int:
    """Sixteen times the last-level cache, so that hardly any of it is there, at least 128 MiB, at most 512 MiB (256 MiB
    where quick) or an eighth of RAM."""
    cache = 0
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = path.read_text().strip()
        if text[:-1].isdigit():
            cache = max(cache, int(text[:-1]) << {"K": 10, "M": 20, "G": 30}.get(text[-1], 0))
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on this platform
        memory = 8 << 30
    high = 256 << 20 if quick else 512 << 20
    return max(64 << 20, min(max(16 * cache, 128 << 20), high, memory // 8))
