"""The metrics by name.  A new one: a file beside this one with a ``METRICS`` list, and its line in ``FAMILIES``."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable
from typing import Any

from fastrec.evaluation.metrics import (
    agreement,
    average_precision,
    cascade,
    counts,
    curve,
    dcg,
    diversity,
    incomplete,
    pairs,
    precision,
)
from fastrec.evaluation.metrics.base import Column, Metric, Query

__all__ = ["REGISTRY", "Column", "Metric", "Query", "parse", "register"]

FAMILIES = (
    precision,
    average_precision,
    dcg,
    cascade,
    incomplete,
    curve,
    pairs,
    agreement,
    diversity,
    counts,
)

#: What a parameter may be, and how a message shows one.
RANGES = {
    ("", "p"): (0.0, 1.0),
    ("", "alpha"): (0.0, 1.0),
    ("nrbp", "beta"): (0.0, 1.0),
    ("nnrbp", "beta"): (0.0, 1.0),
    ("", "beta"): (0.0, 1e100),  # whose square is a number
    ("", "recall"): (0.0, 1.0),
    ("", "tie"): (0.0, 1.0),
    ("", "max_gain"): (0.0, 1000.0),
    ("", "n_items"): (1.0, 2.0**53),
    ("", "version"): (9.0, 10.0),
    ("", "base"): (1.0 + 1e-9, math.inf),
}
EXAMPLES = {"max_gain": 4, "n_items": 1000}
#: What other libraries write into a metric's name, and what it is here.
ELSEWHERE = {
    "rel": "a relevance level is an argument, relevance_level=2",
    "dcg": "the gain function is an argument, gain='exponential'",
    "gains": "gains are an argument, gain={grade: gain}",
    "judged_only": "it is an argument, unjudged='skip'",
    "k": "a cutoff follows the name, as in 'ndcg@10'",
    "cutoff": "a cutoff follows the name, as in 'ndcg@10'",
}

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
# How trec_eval and ranx write a number behind a name: "ndcg_cut_10", "P.5,10", "iprec_at_recall_0.50", "rbp.95".
_SUFFIX = re.compile(r"^\s*(?P<name>\w[\w\-]*?)[._](?P<numbers>\d[\d.,]*)\s*$")


def parse(metrics: str | Iterable[str]) -> list[Column]:
    """The columns that names such as ``"ndcg@10"``, ``"recall@5,20,100"`` and ``"rbp(p=0.8)@10"`` ask for.

    Repeated names are kept once.  Raises ``ValueError`` for an unknown name (with the nearest known one), a cutoff
    that is not a positive integer and a parameter the metric does not take.
    """
    columns: dict[str, Column] = {}
    for text in name_list(metrics):
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


def name_list(names: Any) -> list[Any]:
    """One name or several, as a list; several in one text, as the command line has them, are a ``ValueError``."""
    if isinstance(names, str):
        if re.search(r",\s*[A-Za-z]", re.sub(r"\([^)]*\)", "", names)):
            raise ValueError(
                f"`metrics`: several names are a list, such as ['ndcg@10', 'map']; got {names!r}"
            )
        return [names]
    if isinstance(names, (bytes, dict)) or not isinstance(names, Iterable):
        raise TypeError(f"`metrics` must be a list of names; got {type(names).__name__}")
    return list(names)


def _parse_one(text: str) -> list[Column]:
    found = _SPELLING.match(text)
    metric = None if found is None else _BY_KEY.get(_key(found["name"]))
    if found is None or metric is None:
        columns = _parse_suffix(text)
        if columns:
            return columns
    if found is None:
        raise ValueError(
            f"`metrics`: cannot read {text!r}; write it as 'ndcg@10', 'recall@5,20' or 'rbp(p=0.8)@10'"
        )
    written = found["name"].strip()
    if metric is None:
        raise _unknown(written)
    if found["cutoffs"] is not None and _of_sets(written):
        raise _no_cutoff(metric, text)
    if metric.name == "iprec_at_recall" and "." in (
        found["cutoffs"] or ""
    ):  # as ir_measures writes a recall level
        return [Column(text.strip(), metric, None, _parameters(metric, found["cutoffs"], text))]
    parameters = _parameters(metric, found["arguments"], text)
    head = written if found["arguments"] is None else f"{written}({found['arguments'].strip()})"
    if found["cutoffs"] is None:
        if metric.needs_cutoff:
            raise ValueError(f"`metrics`: {metric.name!r} needs a cutoff, as in '{text.strip()}@10'")
        return [Column(head, metric, None, parameters)]
    if not metric.takes_cutoff:
        raise ValueError(f"`metrics`: {metric.name!r} takes no cutoff; got {text!r}")
    return [Column(f"{head}@{k}", metric, k, parameters) for k in _cutoffs(found["cutoffs"], text)]


def _parse_suffix(text: str) -> list[Column]:
    """A name with its numbers behind it, as trec_eval and ranx write them; ``[]`` where it is not one."""
    found = _SUFFIX.match(text)
    metric = None if found is None else _BY_KEY.get(_key(found["name"]))
    if found is None or metric is None:
        return []
    numbers = found["numbers"].rstrip(",").split(",")
    if _of_sets(found["name"]):  # trec_eval weighs recall by the number behind set_F: beta squared
        if len(numbers) > 1 or "beta" not in dict(metric.parameters):
            raise _no_cutoff(metric, text)
        (squared,) = _parameters(metric, numbers[0], text)
        return [Column(text.strip(), metric, None, (math.sqrt(squared),))]
    if metric.name == "rbp" and "." not in found["numbers"]:  # rbp.95 is p = 0.95
        numbers = [f"0.{number}" for number in numbers]
    if metric.name in ("rbp", "iprec_at_recall"):
        labels = [text.strip()] if len(numbers) == 1 else [f"{found['name']}_{number}" for number in numbers]
        return [
            Column(label, metric, None, _parameters(metric, number, text))
            for label, number in zip(labels, numbers)
        ]
    if not metric.takes_cutoff or not all(number.isdigit() for number in numbers):
        return []
    cutoffs = _cutoffs(",".join(numbers), text)
    labels = [text.strip()] if len(cutoffs) == 1 else [f"{found['name']}_{k}" for k in cutoffs]
    return [Column(label, metric, k, _parameters(metric, None, text)) for label, k in zip(labels, cutoffs)]


def _of_sets(written: str) -> bool:
    """Whether it is one of trec_eval's ``set_`` measures, which are of whole lists."""
    return _key(written).startswith("set")


def _no_cutoff(metric: Metric, text: str) -> ValueError:
    return ValueError(
        f"`metrics`: trec_eval's set measures are of the whole list; got {text!r}. With a cutoff it is "
        f"'{metric.name}@10'"
    )


def _unknown(written: str) -> ValueError:
    if _key(written).startswith("sampled"):
        return ValueError(
            f"`metrics`: {written!r} is refused: a metric over sampled items is not the metric, and may order systems "
            "otherwise (Krichene and Rendle 2020); fr.evaluate_sampled estimates it, with a correction"
        )
    function = function_of(written)
    if function:
        return ValueError(
            f"`metrics`: {written!r} is none of ranked lists and relevance; fr.{function} has it"
        )
    close = difflib.get_close_matches(_key(written), list(_BY_KEY), n=1, cutoff=0.4)
    hint = f" Did you mean {_BY_KEY[close[0]].name!r}?" if close else ""
    return ValueError(
        f"`metrics`: there is no metric {written!r}.{hint} Known: {', '.join(sorted(REGISTRY))}"
    )


def function_of(name: str) -> str:
    """The function that has a metric which another was asked for, or ``""``."""
    from fastrec.evaluation.catalog_metrics import METRICS as of_catalogs
    from fastrec.evaluation.click_metrics import METRICS as of_clicks

    known = {
        "evaluate": set(_BY_KEY),
        "evaluate_catalog": set(map(_key, of_catalogs)),
        "evaluate_clicks": set(map(_key, of_clicks)),
    }
    return next((function for function, names in known.items() if _key(name) in names), "")


def _cutoffs(text: str, whole: str) -> list[int]:
    cutoffs = []
    for part in text.split(","):
        if not part.strip().isascii() or not part.strip().isdigit() or not 1 <= int(part) < 2**62:
            raise ValueError(
                f"`metrics`: a cutoff must be a positive integer, as in 'ndcg@10'; got {whole!r}"
            )
        cutoffs.append(int(part))
    return cutoffs


def _parameters(metric: Metric, arguments: str | None, whole: str) -> tuple[float, ...]:
    """The numbers a metric takes, in its own order: given by name, or by place before any name."""
    names = [name for name, _ in metric.parameters]
    given: dict[str, float] = {}
    written = [part.strip() for part in (arguments or "").split(",")] if (arguments or "").strip() else []
    for part in written:
        word = part.partition("=")[0].strip() if "=" in part or names else "k" if part.isdigit() else ""
        if word in ELSEWHERE and word not in names:
            raise ValueError(
                f"`metrics`: {metric.name!r} has no parameter {word!r}: {ELSEWHERE[word]}; got {whole!r}"
            )
    if written and not names:
        raise ValueError(f"`metrics`: {metric.name!r} takes no parameter; got {whole!r}")
    for place, part in enumerate(written):
        name, _, value = part.rpartition("=")
        name = name.strip() or (names[place] if place < len(names) else "")
        if name not in names or name in given:
            expected = " and ".join(map(repr, names))
            which = "the parameter of" if len(names) == 1 else "the parameters of"
            raise ValueError(
                f"`metrics`: {which} {metric.name!r} {'is' if len(names) == 1 else 'are'} {expected}; got {whole!r}"
            )
        try:
            given[name] = float(value)
        except ValueError:
            given[name] = math.nan
        if not math.isfinite(given[name]):
            raise ValueError(f"`metrics`: {name!r} must be a number; got {whole!r}")
        low, high = RANGES.get((metric.name, name), RANGES.get(("", name), (-math.inf, math.inf)))
        if not low <= given[name] <= high:
            raise ValueError(f"`metrics`: {name!r} must be between {low:g} and {high:g}; got {whole!r}")
    for name, default in metric.parameters:
        if default is None and name not in given:
            raise ValueError(
                f"`metrics`: {metric.name!r} needs {name!r}, as in '{metric.name}({name}={EXAMPLES[name]})'; "
                f"got {whole!r}"
            )
    return tuple(
        given.get(name, math.nan if default is None else default) for name, default in metric.parameters
    )
