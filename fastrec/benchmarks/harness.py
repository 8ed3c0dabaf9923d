"""Check, then time: one case is one piece of work, done by fastrec and by its peers.

Every contender's first answer is compared with a readable float64 reference before anything is timed.  Then rounds are
interleaved (A B C A B C ...), so that a machine which slows down slows everybody down; a sample is as many calls as
make it long enough to be timed, after one call that is not; and a short pause before each lets the spinning threads of
the contender before go to sleep.  Median and quartiles are reported.
"""

from __future__ import annotations

import gc
import statistics
import time
import warnings
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeVar

import numpy as np

from fastrec._core import checks
from fastrec.benchmarks.peers import PEERS, Peers
from fastrec.benchmarks.roofs import Roofs

VERBS = ("rank", "measure", "weigh", "train")
ALIASES = {"topk": "rank"}  # what users may call a verb after its command
OURS = "fastrec"
SETTLE_SECONDS = 0.03  # OpenBLAS and OpenMP threads spin for a while after their work is done
SAMPLE_SECONDS = 0.01  # a sample is at least this long
Verb = Literal["rank", "measure", "weigh", "train"]
T = TypeVar("T")


class Skip(Exception):
    """Raised while a case is prepared: why it cannot be run here."""


@dataclass(frozen=True)
class Work:
    """What one call does, so that its time becomes a rate.

    ``operations`` are those of the plain algorithm (2 Q N d for a product of matrices), whatever tricks a contender
    uses: a share above 1 of the float32 roof then means "faster than plain float32 arithmetic could be".  ``bytes``
    are those that must at least be read.  ``count`` and ``unit`` give the natural rate (scores, pairs, rows).
    """

    operations: float = 0.0
    bytes: float = 0.0
    random_bytes: float = 0.0
    count: float = 0.0
    unit: str = ""


@dataclass(frozen=True)
class Verdict:
    """How an answer compares with the reference: does it agree, and in which words."""

    agrees: bool
    text: str


@dataclass(frozen=True)
class Contender:
    """One way to do a case's work; ``peer`` is the library it comes from.

    ``share`` is the part of the work that it does, where all of it would take too long: its times are divided by that.
    """

    name: str
    run: Callable[[], Any]
    check: Callable[[Any], Verdict]
    peer: str = OURS
    note: str = ""
    share: float = 1.0


@dataclass(frozen=True)
class Finding:
    """A small table of results that are not times: quality on held-out data, and what it says in words."""

    title: str
    columns: list[str]
    rows: list[list[Any]]
    conclusion: str = ""


@dataclass
class Case:
    """Work, who does it, and what its results say (``findings`` is called with fastrec's checked answer)."""

    shape: dict[str, Any]
    work: Work
    contenders: list[Contender]
    findings: Callable[[Any], list[Finding]] | None = None


@dataclass(frozen=True)
class Plan:
    """A case before it is prepared: what ``--list`` shows."""

    name: str
    verb: Verb
    title: str
    prepare: Callable[[Lab], Case]
    real_data: bool = False


@dataclass
class Timing:
    """One contender's part of a case: the verdict on its answer, and its times in seconds a call."""

    name: str
    peer: str
    verdict: Verdict
    note: str = ""
    samples: list[float] = field(default_factory=list)
    calls: int = 1
    extra_bytes: int | None = None  # memory above that held before the call, at its peak
    ran: bool = True

    @property
    def median(self) -> float:
        return statistics.median(self.samples) if self.samples else float("nan")

    @property
    def quartiles(self) -> tuple[float, float]:
        if not self.samples:
            return float("nan"), float("nan")
        low, high = np.percentile(self.samples, [25, 75])
        return float(low), float(high)


@dataclass
class Result:
    """What came of a case."""

    plan: Plan
    shape: dict[str, Any] = field(default_factory=dict)
    work: Work = field(default_factory=Work)
    timings: list[Timing] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    skipped: str = ""
    failure: str = ""
    seconds: float = 0.0

    @property
    def ours(self) -> Timing | None:
        return next((timing for timing in self.timings if timing.peer == OURS), None)

    @property
    def best_peer(self) -> Timing | None:
        """The fastest peer whose answer agrees with the reference."""
        peers = [t for t in self.timings if t.peer != OURS and t.verdict.agrees and t.samples]
        return min(peers, key=lambda timing: timing.median, default=None)

    @property
    def ratio(self) -> float | None:
        """Time of the best peer over fastrec's: above 1 fastrec is faster, below 1 the peer is."""
        ours, peer = self.ours, self.best_peer
        return peer.median / ours.median if ours and ours.samples and peer else None

    def shares(self, timing: Timing, roofs: Roofs) -> dict[str, float]:
        """The share of each measured roof that a contender's median reaches."""
        if not timing.samples:
            return {}
        amounts = {
            "fp32": (self.work.operations, roofs.fp32),
            "int8": (self.work.operations, roofs.int8),
            "read": (self.work.bytes, roofs.read),
            "random": (self.work.random_bytes, roofs.random),
            "rows": (self.work.random_bytes, roofs.rows),
        }
        return {
            roof: amount / timing.median / 1e9 / most
            for roof, (amount, most) in amounts.items()
            if amount and most
        }


class Lab:
    """What a case is prepared with: the sizes, the seeded draws, the peers, and what cases share."""

    def __init__(self, *, threads: int, seed: int, scale: str, peers: Peers) -> None:
        self.threads = threads
        self.seed = seed
        self.scale = scale
        self.peers = peers
        self._shared: dict[str, Any] = {}

    def size(self, quick: T, default: T, full: T | None = None) -> T:
        """The value for this run's scale."""
        return {"quick": quick, "default": default, "full": default if full is None else full}[self.scale]

    def rng(self, name: str) -> np.random.Generator:
        """A generator that depends on the run's seed and on ``name`` only."""
        return np.random.default_rng([self.seed, zlib.crc32(name.encode())])

    def peer(self, name: str) -> ModuleType | None:
        return self.peers.get(name)

    def shared(self, key: str, make: Callable[[], T]) -> T:
        """``make()``, once a run."""
        if key not in self._shared:
            self._shared[key] = make()
        return self._shared[key]

    def forget(self, prefix: str) -> None:
        """Let go of shared values whose key starts with ``prefix``."""
        for key in [key for key in self._shared if key.startswith(prefix)]:
            del self._shared[key]


def run(
    plan: Plan,
    lab: Lab,
    *,
    budget: float,
    rounds: tuple[int, int],
    progress: Callable[[str], None] = lambda _: None,
) -> Result:
    """Prepare, check and time one case within about ``budget`` seconds of timing."""
    started = time.perf_counter()
    result = Result(plan)
    try:
        case = plan.prepare(lab)
    except Skip as reason:
        result.skipped = str(reason)
        return result
    except Exception as error:
        result.failure = f"could not be prepared: {type(error).__name__}: {error}"
        return result
    result.shape, result.work = case.shape, case.work
    runnable: list[tuple[Contender, Timing]] = []
    with lab.peers.limited():
        for contender in case.contenders:
            progress(f"{plan.name}: {contender.name}")
            timing, answer = examine(contender)
            result.timings.append(timing)
            if contender.peer == OURS and not timing.verdict.agrees:
                result.failure = f"{contender.name}: {timing.verdict.text}"
                return result
            if contender.peer == OURS and case.findings is not None:
                try:
                    result.findings = case.findings(answer)
                except Exception as error:
                    result.failure = f"its findings: {type(error).__name__}: {error}"
                    return result
                case.findings = None
            if timing.ran:
                runnable.append((contender, timing))
            del answer
        progress(f"{plan.name}: timing")
        interleave(runnable, budget=budget, rounds=rounds)
    result.seconds = time.perf_counter() - started
    return result


def examine(contender: Contender) -> tuple[Timing, Any]:
    """Call a contender once, unwatched by the clock, and judge its answer."""
    timing = Timing(contender.name, contender.peer, Verdict(False, "not run"), contender.note)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answer, timing.extra_bytes = with_peak_memory(contender.run)
        timing.verdict = contender.check(answer)
    except Exception as error:
        timing.verdict = Verdict(False, f"raised {type(error).__name__}: {error}")
        timing.ran = False
        return timing, None
    return timing, answer


def interleave(contenders: list[tuple[Contender, Timing]], *, budget: float, rounds: tuple[int, int]) -> None:
    """Add samples to the timings, one a round for each contender.

    Fastrec gets ``rounds[0]`` samples at least, everybody else one, and up to ``rounds[0]`` while they take no more
    than three times a share of the budget; those who have had their share then stop, and the rest go on for up to
    ``rounds[1]``.
    """
    spent = [0.0] * len(contenders)
    share = budget / max(1, len(contenders))
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        for number in range(rounds[1]):
            waiting = [
                at
                for at in range(len(contenders))
                if number < (rounds[0] if contenders[at][1].peer == OURS else 1)
                or spent[at] + spent[at] / number <= (3 * share if number < rounds[0] else share)
            ]
            if not waiting:
                break
            for at in waiting:
                contender, timing = contenders[at]
                started = time.perf_counter()
                time.sleep(SETTLE_SECONDS)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    timing.samples.append(sample(contender.run, timing) / contender.share)
                spent[at] += time.perf_counter() - started
    finally:
        if was_enabled:
            gc.enable()


def sample(call: Callable[[], Any], timing: Timing) -> float:
    """Seconds a call: of one long call, or of as many short ones as make ``SAMPLE_SECONDS`` after one untimed."""
    started = time.perf_counter()
    call()
    first = time.perf_counter() - started
    if first > 5 * SAMPLE_SECONDS:
        return first  # long enough that waking up does not show
    if not timing.samples:
        timing.calls = max(1, min(1000, round(SAMPLE_SECONDS / max(first, 1e-7))))
    started = time.perf_counter()
    for _ in range(timing.calls):
        call()
    return (time.perf_counter() - started) / timing.calls


def with_peak_memory(call: Callable[[], T]) -> tuple[T, int | None]:
    """The answer, and how far memory rose above what was held before (``None`` where Linux does not tell)."""
    reset, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
    try:
        reset.write_text("5")  # the peak starts again from what is held now
        before = _kilobytes(status.read_text(), "VmRSS:")
    except OSError:
        return call(), None
    answer = call()
    return answer, max(0, _kilobytes(status.read_text(), "VmHWM:") - before) * 1024


def _kilobytes(status: str, name: str) -> int:
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith(name)), 0)


def chosen(plans: Iterable[Plan], only: str | Iterable[str] | None) -> list[Plan]:
    """The plans whose verb is one of ``only``, or whose name starts with one; all of them where it is empty.

    A name may go without its verb: ``one-query`` is ``rank/one-query-...``.
    """
    plans = list(plans)
    wanted = only.split(",") if isinstance(only, str) else list(only or [])
    wanted = [word.strip() for word in wanted if word.strip()]
    if not wanted:
        return plans
    picked: list[Plan] = []
    for word in wanted:
        word = ALIASES.get(word, word)
        found = [plan for plan in plans if word in (plan.verb, plan.name)]
        found = found or [
            plan
            for plan in plans
            if plan.name.startswith(word) or plan.name.startswith(f"{plan.verb}/{word}")
        ]
        if not found:
            names = [*VERBS, *(plan.name for plan in plans)]
            raise ValueError(
                f"`only` must name verbs ({', '.join(VERBS)}) or cases (see --list); got {word!r}."
                f"{checks.nearest(word, names)}"
            )
        picked += [plan for plan in found if plan not in picked]
    return sorted(picked, key=plans.index)


def peer_label(name: str) -> str:
    """How a contender's library is called in a report."""
    return PEERS[name].package if name in PEERS else name
