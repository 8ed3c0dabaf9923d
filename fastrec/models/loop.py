"""The loop that trainers share: epochs, early stopping on held-out data, a progress bar."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any


@dataclass
class History:
    """What happened.

    Attributes
    ----------
    losses, validation : list of float
        One an epoch; ``validation`` holds the monitored value.
    best_epoch : int
        The epoch, from 1, whose state was kept (the last one without validation).
    """

    losses: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    best_epoch: int = 0


@dataclass(frozen=True)
class Stopping:
    """Early stopping: the value to watch on held-out data, and how long to wait for it to improve.

    Attributes
    ----------
    evaluate : callable
        The monitored value of the current state.
    larger_is_better : bool
    patience : int
        Stop after this many epochs in a row without an improvement of more than ``tol``.
    tol : float
    """

    evaluate: Callable[[], float]
    larger_is_better: bool
    patience: int
    tol: float


def run(
    epoch: Callable[[int], float],
    epochs: int,
    *,
    save: Callable[[], Any],
    restore: Callable[[Any], None],
    stopping: Stopping | None = None,
    name: str = "training",
    verbose: bool = False,
) -> History:
    """Run ``epoch(0)``, ``epoch(1)``... (each returns its training loss), at most ``epochs`` of them.

    With ``stopping``, the state that ``save`` returned after the best epoch is given to ``restore`` at the end.
    ``verbose`` shows a progress bar on a terminal and writes one line an epoch elsewhere, both to stderr.
    """
    history = History()
    best, state, waited = 0.0, None, 0
    with _Progress(name, epochs) if verbose else nullcontext() as progress:
        for number in range(epochs):
            history.losses.append(epoch(number))
            if stopping is not None:
                value = stopping.evaluate()
                history.validation.append(value)
                gain = value - best if stopping.larger_is_better else best - value
                if state is None or gain > 0:
                    state, history.best_epoch = save(), number + 1
                    waited = 0 if number == 0 or gain > stopping.tol else waited + 1
                    best = value
                else:
                    waited += 1
            if progress is not None:
                progress.show(history)
            if stopping is not None and waited >= stopping.patience:
                break
    if stopping is None:
        history.best_epoch = len(history.losses)
    elif state is not None:
        restore(state)
    return history


class _Progress(AbstractContextManager["_Progress"]):
    """A Rich progress bar on a terminal, plain lines elsewhere."""

    def __init__(self, name: str, epochs: int) -> None:
        self._name, self._epochs = name, epochs
        self._bar: Any = None

    def __enter__(self) -> _Progress:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[state]}"),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=Console(stderr=True))
            self._bar.start()
            self._task = self._bar.add_task(self._name, total=self._epochs, state="")
        return self

    def show(self, history: History) -> None:
        state = f"loss {history.losses[-1]:.6f}"
        if history.validation:
            state += f", validation {history.validation[-1]:.6f} (best in epoch {history.best_epoch})"
        if self._bar is not None:
            self._bar.update(self._task, completed=len(history.losses), state=state)
        else:
            sys.stderr.write(f"{self._name}: epoch {len(history.losses)}/{self._epochs}: {state}\n")

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()
