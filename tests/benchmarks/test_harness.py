"""The harness checks before it times, interleaves, and never hides a wrong or missing answer."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from fastrec.benchmarks import harness, record
from fastrec.benchmarks.harness import OURS, Case, Contender, Lab, Plan, Skip, Timing, Verdict, Work
from fastrec.benchmarks.peers import Peers
from fastrec.benchmarks.roofs import Roofs

ROOFS = Roofs(1, 100.0, 400.0, 10.0, 5.0, 4.0, {"baseline": {"fp32": 100.0, "int8": 400.0}}, {
    "fp32": 100.0, "int8": 400.0, "read": 10.0, "random": 5.0, "rows": 4.0,
})  # fmt: skip


def a_lab() -> Lab:
    return Lab(threads=1, seed=0, scale="quick", peers=Peers("none", 1))


def right(_: Any) -> Verdict:
    return Verdict(True, "exact")


class Clock:
    """What the harness takes for the time: it passes where a test says so, and on no busy machine otherwise."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(harness, "time", clock)
    return clock


def run(*contenders: Contender, rounds: tuple[int, int] = (2, 3), **case: Any) -> harness.Result:
    plan = Plan(
        "rank/test", "rank", "a test", lambda lab: Case({"n": 1}, Work(1e6), list(contenders), **case)
    )
    return harness.run(plan, a_lab(), budget=0.2, rounds=rounds)


def test_rounds_are_interleaved_and_every_contender_is_called_before_the_clock(clock: Clock) -> None:
    calls: list[str] = []

    def slow(name: str) -> Contender:
        def call() -> None:
            calls.append(name)
            clock.sleep(0.06)  # long enough to be a sample of its own

        return Contender(name, call, right, OURS if name == "a" else "numpy")

    found = run(slow("a"), slow("b"), rounds=(3, 3))
    assert calls == ["a", "b"] * 4
    assert [len(timing.samples) for timing in found.timings] == [3, 3]
    assert all(sample == pytest.approx(0.06) for timing in found.timings for sample in timing.samples)
    assert found.ratio == pytest.approx(1.0)


def test_slow_peers_get_fewer_rounds_and_fastrec_does_not(clock: Clock) -> None:
    def slow(name: str, seconds: float, peer: str) -> Contender:
        return Contender(name, lambda: clock.sleep(seconds), right, peer)

    found = run(
        slow("ours", 0.2, OURS), slow("slow", 0.4, "numpy"), slow("quick", 0.06, "faiss"), rounds=(2, 3)
    )
    ours, slow_one, quick = (len(timing.samples) for timing in found.timings)
    assert (ours, slow_one) == (2, 1)  # three shares of the budget are 0.2 s
    assert quick == 2


def test_short_calls_are_repeated_until_they_can_be_timed() -> None:
    found = run(Contender(OURS, lambda: None, right))
    assert found.timings[0].calls > 100
    assert 0 < found.timings[0].median < 1e-4


def test_a_wrong_answer_of_ours_fails_the_case_and_is_not_timed() -> None:
    found = run(Contender(OURS, lambda: 1, lambda _: Verdict(False, "3 rows differ")))
    assert found.failure == "fastrec: 3 rows differ"
    assert not found.timings[0].samples
    assert record.record([found], ROOFS, a_lab(), seconds=1)["cases"][0]["status"] == "failed"


def test_an_exception_of_ours_fails_the_case() -> None:
    found = run(Contender(OURS, lambda: 1 / 0, right))
    assert "ZeroDivisionError" in found.failure


def test_a_wrong_peer_is_shown_and_never_the_best(clock: Clock) -> None:
    found = run(
        Contender(OURS, lambda: clock.sleep(0.06), right),
        Contender(
            "fast and wrong", lambda: clock.sleep(0.05), lambda _: Verdict(False, "other items"), "faiss"
        ),
        Contender("slow and right", lambda: clock.sleep(0.07), right, "numpy"),
        Contender("broken", lambda: 1 / 0, right, "torch"),
    )
    assert found.best_peer is not None
    assert found.best_peer.name == "slow and right"
    wrong, broken = found.timings[1], found.timings[3]
    assert not wrong.verdict.agrees
    assert wrong.samples
    assert not broken.samples
    assert "ZeroDivisionError" in broken.verdict.text
    assert not found.failure


def test_a_peer_that_is_faster_gives_a_ratio_below_one(clock: Clock) -> None:
    found = run(
        Contender(OURS, lambda: clock.sleep(0.12), right),
        Contender("peer", lambda: clock.sleep(0.06), right, "numpy"),
    )
    assert found.ratio == pytest.approx(0.5)


def test_skipped_and_broken_cases_say_why() -> None:
    def skip(_: Lab) -> Case:
        raise Skip("needs a folder of data")

    def broken(_: Lab) -> Case:
        raise KeyError("x")

    for prepare, status in ((skip, "skipped"), (broken, "failed")):
        found = harness.run(Plan("rank/x", "rank", "x", prepare), a_lab(), budget=0.1, rounds=(1, 1))
        case = record.record([found], ROOFS, a_lab(), seconds=1)["cases"][0]
        assert case["status"] == status
        assert case["reason"]


def test_shares_of_the_roofs() -> None:
    found = harness.Result(Plan("rank/x", "rank", "x", lambda _: None), work=Work(operations=2e9, bytes=1e9))  # type: ignore[arg-type, return-value]
    shares = found.shares(Timing("a", OURS, Verdict(True, ""), samples=[0.1]), ROOFS)
    assert shares == pytest.approx({"fp32": 0.2, "int8": 0.05, "read": 1.0})


def test_peak_memory_sees_what_a_call_held_only_for_a_while() -> None:
    def call() -> int:
        return len(bytearray(64 << 20))

    answer, extra = harness.with_peak_memory(call)
    assert answer == 64 << 20
    assert extra is None or 60e6 < extra < 120e6


def test_findings_come_with_the_checked_answer() -> None:
    found = run(
        Contender(OURS, lambda: 7, right),
        findings=lambda answer: [harness.Finding("t", ["a"], [[answer, math.nan]], "c")],
    )
    assert found.findings[0].rows == [[7, math.nan]]
    text = json.dumps(record.record([found], ROOFS, a_lab(), seconds=1), allow_nan=False)
    assert json.loads(text)["cases"][0]["findings"][0]["rows"] == [[7, None]]


def test_findings_that_fail_fail_the_case_and_not_the_run() -> None:
    found = run(Contender(OURS, lambda: 7, right), findings=lambda answer: 1 / 0)
    assert "ZeroDivisionError" in found.failure


def test_choosing_cases_by_verb_name_and_beginning() -> None:
    plans = [Plan(name, name.split("/")[0], "", a_lab) for name in ("rank/k10", "rank/k100", "train/sgd")]  # type: ignore[arg-type]
    names = [plan.name for plan in harness.chosen(plans, "train,rank/k10")]
    assert names == ["rank/k10", "train/sgd"]
    assert [plan.name for plan in harness.chosen(plans, "rank/k")] == ["rank/k10", "rank/k100"]
    assert harness.chosen(plans, None) == plans
    with pytest.raises(ValueError, match="Did you mean 'rank'"):
        harness.chosen(plans, "rnak")


def test_draws_depend_on_seed_and_name_only() -> None:
    one, other = a_lab(), a_lab()
    one.rng("b")
    assert one.rng("a").integers(1 << 30) == other.rng("a").integers(1 << 30)
    assert one.rng("a").integers(1 << 30) != one.rng("b").integers(1 << 30)


def test_peers_are_named_and_refused_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Peers("none", 1).names == []
    assert "numpy" in Peers("auto", 1).names
    assert Peers("numpy", 1).get("faiss") is None
    with pytest.raises(ValueError, match="Did you mean 'faiss'"):
        Peers("fais", 1)
    with pytest.raises(ValueError, match="not a mix"):
        Peers("numpy,auto", 1)
    monkeypatch.setattr("fastrec.benchmarks.peers.installed", lambda name: False)
    with pytest.raises(ImportError, match="pip install faiss-cpu"):
        Peers("faiss", 1)
