"""What a metric is: a name, a readable definition, and the number of the kernel that computes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastrec.evaluation.conventions import Convention


@dataclass(frozen=True)
class Query:
    """One query, as a metric's definition sees it: its list in final order, and its truth.

    ``gains`` holds the gain of each item of the list, best first; 0 for an item without a judgement (``judged`` says
    which have one).  ``truth`` holds the gains of all judged items of the query, descending.  ``block`` numbers the
    tied blocks of the list.  ``cutoff`` is k, or ``None``.  ``topics`` holds, for each item of the list, the numbers of
    the subtopics it is relevant to, ``truth_topics`` the same of all judged items (in descending order of their
    labels' text), and ``num_topics`` how many subtopics have a relevant item.
    """

    gains: np.ndarray
    judged: np.ndarray
    block: np.ndarray
    truth: np.ndarray
    cutoff: int | None
    parameters: tuple[float, ...]
    convention: Convention
    topics: tuple[tuple[int, ...], ...] = ()
    truth_topics: tuple[tuple[int, ...], ...] = ()
    num_topics: int = 0
    items: tuple[int, ...] = ()

    @property
    def parameter(self) -> float:
        return self.parameters[0]

    @property
    def k(self) -> int:
        """The cutoff, or the length of the list where there is none."""
        return len(self.gains) if self.cutoff is None else self.cutoff

    def relevant(self, gains: np.ndarray) -> np.ndarray:
        level = self.convention.relevance_level
        return gains > 0 if level is None else gains >= level

    @property
    def hits(self) -> np.ndarray:
        """Which of the first k items are relevant."""
        return (self.relevant(self.gains) & self.judged)[: self.k]

    @property
    def num_relevant(self) -> int:
        return int(self.relevant(self.truth).sum())

    @property
    def capped(self) -> int:
        """min(R, k)."""
        return self.num_relevant if self.cutoff is None else min(self.num_relevant, self.cutoff)

    @property
    def depth(self) -> int:
        """What precision divides by."""
        short = self.cutoff is None or self.convention.short == "len"
        return min(self.k, len(self.gains)) if short else self.k


def ratio(a: float, b: float) -> float:
    """a / b, and 0 where b is 0."""
    return float(a) / float(b) if b > 0 else 0.0


@dataclass(frozen=True)
class Metric:
    """A metric by name.

    Attributes
    ----------
    name : canonical name; ``aliases`` are understood as well (case, spaces, ``-`` and ``_`` do not matter).
    definition : ``definition(query: Query) -> float``, the specification; runs where there is no kernel.
    kernel : its name in the compiled kernel, or ``""``.
    parameters : name and default of each number it takes (``"rbp(p=0.8)"``); one without a default must be given.
    takes_cutoff : whether ``@k`` may follow; ``needs_cutoff`` : whether it must.
    averages_ties : its expected value under ``ties="average"`` is known, or no order inside a tied block matters.
    averages_cut_ties : and so it is where the cutoff falls inside a tied block.
    subtopics : it needs a truth by subtopic.
    mean : how queries are averaged: ``arithmetic`` or ``geometric``.
    better : 1 where a larger value is better, -1 where a smaller one is, 0 where neither is.
    uses : the policies its value depends on, for the echo in the result.
    """

    name: str
    definition: Callable[[Query], float]
    kernel: str = ""
    aliases: tuple[str, ...] = ()
    parameters: tuple[tuple[str, float | None], ...] = ()
    takes_cutoff: bool = True
    needs_cutoff: bool = False
    averages_ties: bool = False
    averages_cut_ties: bool = True
    subtopics: bool = False
    mean: str = "arithmetic"
    better: int = 1
    uses: tuple[str, ...] = ()
    function: Any = None  # a user's function, compiled when first used


@dataclass(frozen=True)
class Column:
    """One column of a result: a metric at a cutoff, under the name it was asked for."""

    label: str
    metric: Metric
    cutoff: int | None
    parameters: tuple[float, ...] = ()
