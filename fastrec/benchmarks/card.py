"""``fastrec bench --device cuda``: work on a card, checked against the CPU's bits, then timed by CUDA events.

A sample is the time between two events on a stream that is CuPy's current one and torch's.  A *warm* one follows a call
that is not timed; before a *cold* one a buffer larger than the cache is written, so that nothing of the inputs is left
there.  Contenders take turns.  torch runs in its float32 and its TF32 mode; how many of its ids are ours is shown.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastrec._core import cuda
from fastrec._core.threads import get_threads
from fastrec.benchmarks.harness import OURS, Skip, Verdict

FLUSH = 256 << 20  # bytes written before a cold sample: several times any cache
BUDGET = 4.0  # seconds in which a case's contenders take turns,
LEAST = 5  # and rounds that they take in any case
_STREAMS = 256  # of random numbers, whatever the number of threads
PEERS = ("torch", "cuvs", "faiss", "implicit")


@dataclass(frozen=True)
class Contender:
    """One way to do the work; ``check`` judges its first answer."""

    name: str
    run: Callable[[], Any]
    check: Callable[[Any], Verdict]
    waits: bool = False  # works on a stream of its own and returns when its work is done


@dataclass(frozen=True)
class Case:
    """What is done in one call: ``count`` of ``unit``, at least ``bytes`` read, and what was expected of it."""

    shape: str
    contenders: list[Contender]
    count: float = 0.0
    unit: str = ""
    bytes: float = 0.0
    goal: str = ""


@dataclass
class Row:
    """What came of a contender: medians in milliseconds."""

    case: str
    shape: str
    name: str
    verdict: str
    agrees: bool
    warm: list[float] = field(default_factory=list)
    cold: list[float] = field(default_factory=list)
    rate: str = ""
    goal: str = ""

    def record(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "case": self.case, "shape": self.shape, "contender": self.name, "agrees": self.agrees,
            "verdict": self.verdict, "warm_ms": self.warm, "cold_ms": self.cold, "rate": self.rate, "goal": self.goal,
        }  # fmt: skip


class Card:
    """What a case is prepared with; ``torch`` where it is a contender, or another takes its tensors."""

    def __init__(self, xp: Any, scale: str, seed: int, peers: tuple[str, ...]) -> None:
        self.xp, self.scale, self.seed, self.peers = xp, scale, seed, peers
        self.torch: Any = _torch() if "torch" in peers or "faiss" in peers else None

    def size(self, quick: Any, default: Any, full: Any) -> Any:
        """The value for this run's scale."""
        return {"quick": quick, "default": default, "full": full}[self.scale]

    def rng(self, number: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, number])


def normals(rng: np.random.Generator, shape: tuple[int, int], *, unit: bool = False) -> np.ndarray:
    """A matrix of float32 normals, its rows scaled to unit length where asked for.

    Stretches of rows are drawn by all threads, each from a stream of its own: one thread would draw the largest for
    longer than everything else takes.
    """
    made = np.empty(shape, np.float32)

    def draw(stream: np.random.Generator, part: np.ndarray) -> None:
        stream.standard_normal(dtype=np.float32, out=part)
        if unit:
            part /= np.linalg.norm(part, axis=1, keepdims=True)

    parts = np.array_split(made, _STREAMS)
    with ThreadPoolExecutor(get_threads()) as pool:
        list(pool.map(draw, rng.spawn(_STREAMS), parts))
    return made


Prepare = Callable[[Card], Case]
CASES: dict[str, tuple[str, Prepare]] = {}
WITH_PEERS: set[str] = set()  # cases in which peers beside torch take part


def card_case(name: str, title: str, *, peers: bool = False) -> Callable[[Prepare], Prepare]:
    """Register a case."""

    def register(prepare: Prepare) -> Prepare:
        CASES[name] = (title, prepare)
        if peers:
            WITH_PEERS.add(name)
        return prepare

    return register


def _torch() -> Any:
    try:
        import torch
    except ImportError:
        return None
    return torch if torch.cuda.is_available() else None


def facts(xp: Any) -> dict[str, Any]:
    """Names and versions that a figure needs beside it."""
    from fastrec._core.info import info

    found = info()
    return {
        "gpu": found["gpu"],
        "packages": found["packages"],
        "device": int(xp.cuda.runtime.getDevice()),
        "fastrec": found["fastrec"],
    }


def measure(
    names: list[str],
    scale: str,
    seed: int,
    rounds: int,
    say: Callable[[str], None] = lambda text: None,
    peers: tuple[str, ...] = ("torch",),
) -> dict[str, Any]:
    """Run the cases called ``names`` (all, where the list is empty), with ``peers`` in this process where they are
    installed: facts, rows, and what could not be run.

    Contenders take ``rounds`` turns, or fewer where those would take longer than `BUDGET`.
    """
    import fastrec.benchmarks.cases.on_card
    import fastrec.benchmarks.cases.on_card_measure
    import fastrec.benchmarks.cases.on_card_weigh  # noqa: F401  # registers

    xp = cuda.require()
    cuda.capability(int(xp.cuda.runtime.getDevice()))
    picked = chosen(names)
    card = Card(xp, scale, seed, peers)
    rows: list[Row] = []
    skipped: dict[str, str] = {}
    for name in picked:
        say(name)
        try:
            with _one_stream(xp, card.torch):
                rows += _run(name, CASES[name][1](card), xp, rounds, say)
        except Exception as error:
            if not (isinstance(error, (MemoryError, Skip)) or cuda.is_out_of_memory(error)):
                raise
            skipped[name] = str(error)
        xp.get_default_memory_pool().free_all_blocks()
    return {"facts": facts(xp), "rows": [row.record() for row in rows], "skipped": skipped}


def chosen(names: list[str]) -> list[str]:
    """The cases called so, or whose area is; all of them where the list is empty."""
    picked = [
        name for name in CASES if not names or any(name == n or name.startswith(f"{n}/") for n in names)
    ]
    if not picked:
        raise ValueError(f"no case on a card is called {', '.join(names)}; there are {', '.join(CASES)}")
    return picked


@contextlib.contextmanager
def _one_stream(xp: Any, torch: Any) -> Iterator[None]:
    """A stream that is current for CuPy and for torch.

    The null stream, which both have at first, would not do: torch makes another one of a pointer of 0.
    """
    stream = xp.cuda.Stream(non_blocking=True)
    there = (
        contextlib.nullcontext()
        if torch is None
        else torch.cuda.stream(torch.cuda.ExternalStream(stream.ptr))
    )
    xp.cuda.get_current_stream().synchronize()
    with stream, there:
        yield
        stream.synchronize()


def _run(name: str, case: Case, xp: Any, rounds: int, say: Callable[[str], None]) -> list[Row]:
    rows = []
    for contender in case.contenders:
        try:
            verdict = contender.check(contender.run())
        except Exception as error:  # a peer's release may have another interface, or refuse the sizes
            if (
                contender.name.startswith(OURS)
                or isinstance(error, MemoryError)
                or cuda.is_out_of_memory(error)
            ):
                raise
            verdict = Verdict(False, f"not run: {type(error).__name__}: {error}"[:200])
        rows.append(Row(name, case.shape, contender.name, verdict.text, verdict.agrees, goal=case.goal))
    if not all(row.agrees for row in rows if row.name.startswith(OURS)):
        return rows  # a wrong answer is not timed
    flush = xp.empty(FLUSH, xp.uint8)
    end = time.perf_counter() + BUDGET
    for done in range(rounds):
        if done >= LEAST and time.perf_counter() > end:
            break
        for contender, row in zip(case.contenders, rows):
            if row.verdict.startswith("not run"):
                continue
            contender.run()
            row.warm.append(_timed(xp, contender))
            flush.fill(1)
            row.cold.append(_timed(xp, contender))
    for row in rows:
        if not row.warm:
            continue
        seconds = statistics.median(row.warm) / 1e3
        parts = [f"{case.count / seconds / 1e9:,.1f} G{case.unit}/s"] if case.count and seconds else []
        if case.bytes and seconds:
            parts.append(f"{case.bytes / seconds / 1e9:,.0f} GB/s")
        row.rate = ", ".join(parts)
        say(
            f"  {row.name}: {1e3 * seconds:.3f} ms, {row.rate}; {row.verdict}"
        )  # should a later case end the run
    return rows


def _timed(xp: Any, contender: Contender) -> float:
    """Milliseconds between two events around a call."""
    start, end = xp.cuda.Event(), xp.cuda.Event()
    if contender.waits:  # or its work would run beside what came before it on our stream, and partly untimed
        xp.cuda.get_current_stream().synchronize()
    start.record()
    contender.run()
    end.record()
    end.synchronize()
    return float(xp.cuda.get_elapsed_time(start, end))


def show(result: dict[str, Any], console: Any) -> None:
    """Print what `measure` returned."""
    from rich.table import Table

    gpu = result["facts"]["gpu"]
    for card in gpu.get("cards", []):
        console.print(
            f"{card['name']}, compute {card['compute_capability']}, {card['memory_gib']} GiB", style="bold"
        )
    console.print(
        f"driver {gpu.get('driver') or '(unknown)'} for CUDA {gpu.get('cuda')}, runtime {gpu.get('runtime')}, CuPy "
        f"{gpu.get('cupy')}, NVRTC {gpu.get('nvrtc')}",
        style="dim",
    )
    used = {
        name: found
        for name, found in result["facts"]["packages"].items()
        if name.startswith(("torch", "faiss-gpu", "cuvs", "implicit"))
    }
    if used:
        console.print(", ".join(f"{name} {found}" for name, found in used.items()), style="dim")
    table = Table(
        "case", "contender", "warm ms", "cold ms", "x ours", "rate (warm)", "answer", "goal", box=None
    )
    ours: dict[str, float] = {}  # the first of a case's
    for row in result["rows"]:
        warm, cold = (f"{statistics.median(row[k]):.3f}" if row[k] else "-" for k in ("warm_ms", "cold_ms"))
        if row["warm_ms"]:
            seconds = statistics.median(row["warm_ms"])
            least = ours.setdefault(row["case"], seconds)
        table.add_row(
            f"{row['case']} ({row['shape']})",
            row["contender"],
            warm,
            cold,
            f"{seconds / least:.2f}" if row["warm_ms"] and least else "-",
            row["rate"],
            row["verdict"],
            row["goal"],
        )
    console.print(table)
    for name, why in result["skipped"].items():
        console.print(f"{name}: not run: {why}", style="yellow", markup=False)
