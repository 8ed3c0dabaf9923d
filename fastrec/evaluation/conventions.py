"""What a metric's name leaves open: ties, empty queries, gains, denominators; and how known libraries settle it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from fastrec._core import checks

#: Every policy with what it may be; the first is what ``trec`` takes.
CHOICES: dict[str, tuple[str, ...]] = {
    "ties": ("trec", "given", "id_desc", "id_asc", "average", "optimistic", "pessimistic", "random"),
    "empty": ("zero", "skip", "nan", "one", "error"),
    "missing": ("zero", "skip", "skip_absent", "error"),
    "duplicates": ("error", "first"),
    "unjudged": ("nonrel", "skip"),
    "short": ("k", "len"),
    "below_level": ("gain", "nothing"),
    "discount": ("log", "clipped"),
    "ideal": ("judged", "list", "full"),
    "map_denominator": ("relevant", "capped", "cutoff", "hits", "length"),
    "recall_denominator": ("relevant", "capped"),
    "precision_average": ("macro", "micro"),
    "score_precision": ("float32", "float64"),
}
GAINS = ("linear", "exponential", "binary")


@dataclass(frozen=True)
class Convention:
    """Every choice behind a metric, spelled out.

    Attributes
    ----------
    name : the preset this started from.
    ties : order of items with equal scores.
        ``trec``: by id as text, descending (trec_eval); ``given``: as they came; ``id_desc``, ``id_asc``: by id, as
        numbers where ids are integers; ``random``: shuffled by ``seed``; ``average``: the expected value over every
        order (McSherry and Najork 2008); ``optimistic``, ``pessimistic``: the best and the worst order.
        A run without scores has no ties.
    empty : what a query without a relevant item counts for.  ``skip`` leaves it out of the result; ``nan`` keeps it
        in ``per_query`` and out of the mean.
    missing : the same for a query of the truth for which the run has no item.  ``skip_absent`` leaves out the queries
        that the run does not name at all; an empty list counts as zero.
    duplicates : an item twice in a list is an ``error``, or its ``first`` place counts and the rest moves up.
    unjudged : items of a list that the truth does not mention are not relevant (``nonrel``), or taken out of the list
        before anything is computed (``skip``, "condensed lists").
    short : precision of a list shorter than k divides by ``k`` or by its length (``len``).
    gain : ``linear``, ``exponential`` (2**g - 1), ``binary`` (1 where relevant) or a table {grade: gain}; for dcg and
        ndcg.  A negative gain counts as 0, and so does a grade of 0 or less that the table lacks.  It must know every
        grade above 0 that the truth holds (trec_eval and ir_measures take a grade that their tables lack as its own
        gain; another reader would expect 0).
    relevance_level : an item is relevant from this gain on; ``None``: when its gain is above 0.
    below_level : what an item of a gain below ``relevance_level`` is worth to dcg and ndcg: its ``gain``, or
        ``nothing`` (ranx).
    discount : of dcg and ndcg, 1 / log2(rank + 1) (``log``) or 1 / log2(max(rank, 2)) (``clipped``, as Järvelin and
        Kekäläinen first defined it).
    ideal : ndcg's ideal list is made of all ``judged`` items, of the items in the ``list`` itself, or ``full``: k
        items of gain 1.
    map_denominator : R (``relevant``), min(R, k) (``capped``), k (``cutoff``), the relevant items found (``hits``), or
        min(R, k, length of the list) (``length``).
    recall_denominator : R (``relevant``) or min(R, k) (``capped``).
    precision_average : ``micro`` averages precision as sum of hits / sum of denominators over the queries.
    score_precision : scores are compared after a cast to this type; trec_eval keeps them in ``float32``.
    seed : of ``ties="random"``.
    """

    name: str = "trec"
    ties: str = "trec"
    empty: str = "zero"
    missing: str = "zero"
    duplicates: str = "error"
    unjudged: str = "nonrel"
    short: str = "k"
    gain: Any = "linear"
    relevance_level: float | None = None
    below_level: str = "gain"
    discount: str = "log"
    ideal: str = "judged"
    map_denominator: str = "relevant"
    recall_denominator: str = "relevant"
    precision_average: str = "macro"
    score_precision: str = "float32"
    seed: int = 0

    def discounts(self, n: int) -> np.ndarray:
        """(n,) the weights of the first n ranks in dcg."""
        ranks = np.arange(1, n + 1)
        return 1.0 / np.log2(ranks + 1 if self.discount == "log" else np.maximum(ranks, 2))

    def __post_init__(self) -> None:
        for name, known in CHOICES.items():
            checks.choice(getattr(self, name), name, known)
        if isinstance(self.gain, Mapping):
            for grade, gain in self.gain.items():
                checks.number(grade, "gain (a grade of the table)")
                checks.number(gain, f"gain[{grade!r}]", low=-1e300, high=1e300)
            object.__setattr__(self, "gain", dict(self.gain))  # any mapping will do
        else:
            checks.choice(self.gain, "gain", GAINS)
        if self.relevance_level is not None:
            checks.number(self.relevance_level, "relevance_level")
        checks.integer(self.seed, "seed", low=0, high=2**64 - 1)


PRESETS: dict[str, Convention] = {
    "trec": Convention(),
    "sklearn": Convention(name="sklearn", ties="average", ideal="list", score_precision="float64"),
    "ranx": Convention(
        name="ranx", ties="given", duplicates="first", below_level="nothing", score_precision="float64"
    ),
    "recbole": Convention(
        name="recbole",
        ties="given",
        empty="skip",
        gain="binary",
        map_denominator="capped",
        score_precision="float64",
    ),
    "rectools": Convention(
        name="rectools", ties="given", empty="skip", gain="binary", ideal="full", score_precision="float64"
    ),
    "lenskit": Convention(
        name="lenskit",
        ties="given",
        missing="skip_absent",
        short="len",
        discount="clipped",
        map_denominator="length",
        recall_denominator="capped",
        gain="binary",
        score_precision="float64",
    ),
    "implicit": Convention(
        name="implicit",
        ties="given",
        empty="skip",
        gain="binary",
        map_denominator="capped",
        recall_denominator="capped",
        precision_average="micro",
        score_precision="float64",
    ),
}


def resolve(convention: str | Convention, **overrides: Any) -> Convention:
    """The convention named (or given), with the policies that are not ``None`` replaced."""
    if isinstance(convention, str):
        convention = PRESETS[checks.choice(convention, "convention", PRESETS)]
    elif not isinstance(convention, Convention):
        raise TypeError(
            f"`convention` must be one of {', '.join(map(repr, PRESETS))} or a Convention; "
            f"got {type(convention).__name__}"
        )
    changes = {name: value for name, value in overrides.items() if value is not None}
    known = {f.name for f in fields(Convention)}
    for name in changes:
        if name not in known:
            raise TypeError(f"there is no policy {name!r}.{checks.nearest(name, sorted(known))}")
    return replace(convention, **changes) if changes else convention
