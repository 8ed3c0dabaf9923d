"""The command: arguments refused with status 2, wrong answers with status 1, files that hold the whole run."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from fastrec.benchmarks import cases, command, harness
from fastrec.benchmarks.harness import OURS, VERBS, Case, Contender, Lab, Plan, Verdict, Work

app = typer.Typer()
app.command()(command.bench)


def invoke(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"})
    assert done.exception is None or isinstance(done.exception, SystemExit), done.output
    return done.exit_code, re.sub(r"\s+", " ", done.output.replace("│", " "))


def test_cases_are_listed_and_named_after_their_verb() -> None:
    status, output = invoke("--list")
    assert status == 0
    plans = cases.plans()
    assert {plan.verb for plan in plans} == set(VERBS)
    for plan in plans:
        assert plan.name.startswith(plan.verb + "/")
        assert plan.name in output
    assert any(plan.real_data for plan in plans)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "rnak"], "Did you mean 'rank'"),
        (["--peers", "fais"], "Did you mean 'faiss'"),
        (["--threads", "0"], "between 1 and"),
        (["--seed", "-1"], "`seed` must be >= 0"),
        (["--quick", "--full"], "choose one"),
        (["--json", "/no/such/folder/x.json"], "does not exist"),
        (["--html", "."], "it is a folder"),
    ],
)
def test_bad_arguments_end_with_2_before_any_work(arguments: list[str], message: str) -> None:
    status, output = invoke(*arguments)
    assert status == 2
    assert message in output


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_run_ends_with_0_and_writes_both_files(tmp_path: Path) -> None:
    data, page = tmp_path / "run.json", tmp_path / "run.html"
    status, output = invoke(
        "--quick", "--only", "measure/clicks", "--peers", "sklearn", "--threads", "1", "--seed", "3",
        "--json", str(data), "--html", str(page),
    )  # fmt: skip
    assert status == 0, output
    assert "AUC and log-loss" in output
    run = json.loads(data.read_text())
    assert run["settings"] == {"threads": 1, "seed": 3, "scale": "quick", "peers": ["sklearn"]}
    assert run["roofs"]["fp32"] > 0
    (case,) = run["cases"]
    assert [timing["agrees"] for timing in case["contenders"]] == [True, True]
    assert case["ratio_to_best_peer"] > 0
    tags = Tags()
    tags.feed(page.read_text(encoding="utf-8"))
    assert tags.open == []
    assert tags.seen.count("svg") == 2  # the overview and the case
    assert tags.links == []  # nothing is fetched
    assert "script" not in tags.seen


@pytest.mark.parametrize("arguments", [["topk"], ["rank"], ["--only", "topk"], ["seen", "rank/one-query"]])
def test_cases_can_be_named_without_an_option(arguments: list[str]) -> None:
    status, output = invoke(*arguments, "--list")
    assert status == 0
    assert "rank/one-query-k10" in output
    assert "rank/seen-excluded-k10" in output
    assert "train/" not in output
    assert ("rank/pairs" in output) == (len(arguments) == 1 or "topk" in arguments)


def test_a_second_row_of_fastrec_is_compared_with_the_first() -> None:
    def prepare(lab: Lab) -> Case:
        rows = [Contender(name, lambda: 1, lambda _: Verdict(True, "")) for name in (OURS, f"{OURS}, k = 10")]
        return Case({}, Work(), rows)

    lab = Lab(threads=1, seed=0, scale="quick", peers=harness.Peers("none", 1))
    (case,) = command.measure([Plan("rank/x", "rank", "x", prepare)], lab)["cases"]
    first, second = case["contenders"]
    assert first["times_ours"] is None
    assert second["times_ours"] == pytest.approx(second["median_s"] / first["median_s"])


def test_a_wrong_answer_ends_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare(lab: Lab) -> Case:
        wrong = Contender(OURS, lambda: 1, lambda _: Verdict(False, "7 of 9 rows <differ>"))
        return Case({"n": 1}, Work(), [wrong])

    monkeypatch.setattr(command, "plans", lambda: [Plan("rank/wrong", "rank", "wrong", prepare)])
    status, output = invoke("--quick", "--peers", "none")
    assert status == 1
    assert "7 of 9 rows" in output


def test_measuring_from_python_shows_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = Lab(threads=1, seed=0, scale="quick", peers=harness.Peers("none", 1))
    plan = Plan(
        "rank/x",
        "rank",
        "x",
        lambda lab: Case({}, Work(), [Contender(OURS, lambda: 1, lambda _: Verdict(True, ""))]),
    )
    run = command.measure([plan], lab)
    assert run["cases"][0]["status"] == "done"
    assert capsys.readouterr().out == ""
