"""The metrics by name.  A new one: a file beside this one with a ``METRICS`` list, and its line in ``FAMILIES``."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from fastrec.evaluation.metrics import (
    average_precision,
    cascade,
    counts,
    curve,
    dcg,
    incomplete,
    pairs,
    precision,
)
from fastrec.evaluation.metrics.base import Column, Metric, Query

__all__ = ["REGISTRY", "Column", "Metric", "Query", "parse", "register"]

FAMILIES = (precision, average_precision, dcg, cascade, incomplete, curve, pairs, counts)

REGISTRY: dict[str, Metric] = {}
_BY_KEY: dict[str, Metric] = {}


def _key(name: str) -> str:
    return re.sub(r"[\s_\-]", "", name).lower()


def register(metric: Metric, *, replace: bool = False) -> None:
    """Make a metric known by its name and aliases."""
    for name in (metric.name, *metric.aliases):
        taken = _BY_KEY.get(_key(name))
        if taken is not None and not (replace and taken.name == metric.name):
            raise ValueError(f"a metric named {name!r} exists already ({taken.name!r}); choose another name")
    REGISTRY[metric.name] = metric
    for name in (metric.name, *metric.aliases):
        _BY_KEY[_key(name)] = metric


for _family in FAMILIES:
    for _metric in _family.METRICS:
        register(_metric)

_SPELLING = re.compile(
    r"^\s*(?P<name>[\w \-]+?)\s*(?:\(\s*(?P<arguments>[^)]*)\)\s*)?(?:@\s*(?P<cutoffs>.*))?$"
)


def parse(metrics: str | Iterable[str]) -> list[Column]:
    """The columns that names such as ``"ndcg@10"``, ``"recall@5,20,100"`` and ``"rbp(p=0.8)@10"`` ask for.

    Repeated names are kept once.  Raises ``ValueError`` for an unknown name (with the nearest known one), a cutoff
    that is not a positive integer and a parameter the metric does not take.
    """
    if isinstance(metrics, str):
        metrics = [metrics]
    if isinstance(metrics, (bytes, dict)) or not isinstance(metrics, Iterable):
        raise TypeError(f"`metrics` must be a list of names such as 'ndcg@10'; got {type(metrics).__name__}")
    columns: dict[str, Column] = {}
    for text in metrics:
        if isinstance(text, Metric):
            text = text.name
        if not isinstance(text, str):
            named = getattr(text, "__fastrec_metric__", None)
            if named is None:
                raise TypeError(
                    f"`metrics` must hold names such as 'ndcg@10'; got {type(text).__name__} {text!r}"
                )
            text = named
        for column in _parse_one(text):
            columns.setdefault(column.label, column)
    if not columns:
        raise ValueError("`metrics` names no metric; give at least one, such as 'ndcg@10'")
    return list(columns.values())


def _parse_one(text: str) -> list[Column]:
    found = _SPELLING.match(text)
    if not found:
        raise ValueError(
            f"`metrics`: cannot read {text!r}; write it as 'ndcg@10', 'recall@5,20' or 'rbp(p=0.8)@10'"
        )
    written = found["name"].strip()
    metric = _BY_KEY.get(_key(written))
    if metric is None:
        close = difflib.get_close_matches(_key(written), list(_BY_KEY), n=1, cutoff=0.4)
        hint = f" Did you mean {_BY_KEY[close[0]].name!r}?" if close else ""
        raise ValueError(
            f"`metrics`: there is no metric {written!r}.{hint} Known: {', '.join(sorted(REGISTRY))}"
        )
    parameter = _parameter(metric, found["arguments"], text)
    head = written if found["arguments"] is None else f"{written}({found['arguments'].strip()})"
    if found["cutoffs"] is None:
        return [Column(head, metric, None, parameter)]
    if not metric.takes_cutoff:
        raise ValueError(f"`metrics`: {metric.name!r} takes no cutoff; got {text!r}")
    return [Column(f"{head}@{k}", metric, k, parameter) for k in _cutoffs(found["cutoffs"], text)]


def _cutoffs(text: str, whole: str) -> list[int]:
    cutoffs = []
    for part in text.split(","):
        if not part.strip().isascii() or not part.strip().isdigit() or not 1 <= int(part) < 2**62:
            raise ValueError(
                f"`metrics`: a cutoff must be a positive integer, as in 'ndcg@10'; got {whole!r}"
            )
        cutoffs.append(int(part))
    return cutoffs


def _parameter(metric: Metric, arguments: str | None, whole: str) -> float:
    default = metric.parameter[1] if metric.parameter and metric.parameter[1] is not None else float("nan")
    if arguments is None:
        return default
    if metric.parameter is None:
        raise ValueError(f"`metrics`: {metric.name!r} takes no parameter; got {whole!r}")
    name, _, value = arguments.rpartition("=")
    if name.strip() not in ("", metric.parameter[0]):
        raise ValueError(
            f"`metrics`: the parameter of {metric.name!r} is {metric.parameter[0]!r}; got {whole!r}"
        )
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if number != number:
        raise ValueError(f"`metrics`: {metric.parameter[0]!r} must be a number; got {whole!r}")
    return number
