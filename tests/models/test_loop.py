"""The loop of epochs: when it stops, what it keeps, what it says."""

from __future__ import annotations

from typing import Any

import pytest

from fastrec.models import loop


def run(
    values: list[float], larger: bool = False, patience: int = 2, tol: float = 0.0
) -> tuple[loop.History, Any]:
    """Epoch k leaves the state k, whose monitored value is values[k]."""
    state = [-1]

    def epoch(number: int) -> float:
        state[0] = number
        return 10.0 - number

    def restore(saved: int) -> None:
        state[0] = saved

    stopping = loop.Stopping(lambda: values[state[0]], larger, patience, tol)
    return loop.run(epoch, len(values), save=lambda: state[0], restore=restore, stopping=stopping), state[0]


@pytest.mark.parametrize("larger", [False, True])
def test_it_stops_when_it_no_longer_improves_and_keeps_the_best(larger: bool) -> None:
    sign = -1 if larger else 1
    history, state = run([sign * v for v in (5, 3, 4, 4, 1)], larger)
    assert len(history.losses) == len(history.validation) == 4
    assert (history.best_epoch, state) == (2, 1)


def test_an_improvement_within_the_tolerance_does_not_count_but_is_kept() -> None:
    history, state = run([5.0, 4.99, 4.98, 1.0], tol=0.1)
    assert len(history.losses) == 3
    assert (history.best_epoch, state) == (3, 2)


def test_it_runs_to_the_end_while_it_improves() -> None:
    history, state = run([5.0, 4.0, 3.0])
    assert (len(history.losses), history.best_epoch, state) == (3, 3, 2)


def test_without_validation_it_runs_every_epoch() -> None:
    history = loop.run(float, 4, save=lambda: None, restore=pytest.fail)
    assert history.losses == [0.0, 1.0, 2.0, 3.0]
    assert history.validation == []
    assert history.best_epoch == 4


def test_a_bar_on_a_terminal(monkeypatch: Any, capsys: Any) -> None:
    pytest.importorskip("rich", reason="rich is not installed: no progress bar")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    loop.run(float, 2, save=lambda: None, restore=pytest.fail, name="fitting", verbose=True)
    assert "fitting" in capsys.readouterr().err
