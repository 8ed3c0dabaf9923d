"""What a call asks for: names of click metrics and their parameters, checked."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastrec._core import checks
from fastrec._core import threads as _threads
from fastrec.evaluation.click_metrics import ALIASES, GAUC_WEIGHTS, METRICS, Metric
from fastrec.evaluation.metrics import function_of, name_list

DEFAULT_METRICS = ("auc", "logloss", "ece")


@dataclass(frozen=True, slots=True)
class Wanted:
    """One metric of a call, as it was asked for."""

    name: str
    metric: str
    parameter: Any

    @property
    def definition(self) -> Metric:
        return METRICS[self.metric]


@dataclass(frozen=True, slots=True)
class Request:
    """What a call asks for, apart from its rows."""

    wanted: list[Wanted]
    eps: float | None
    zero_division: float
    undefined: str
    threads: int
    needs: frozenset[str]  # of all metrics that are wanted


def read_request(
    metrics: str | Sequence[str] = DEFAULT_METRICS,
    *,
    threshold: float = 0.5,
    bins: int = 15,
    max_fpr: float = 0.1,
    top: float = 0.1,
    gauc_weights: str = "impressions",
    eps: float | None = None,
    zero_division: float = 0.0,
    undefined: str = "warn",
    threads: int | None = None,
) -> Request:
    """The arguments of :func:`evaluate_clicks` that are not rows, checked."""
    defaults = {
        "threshold": threshold,
        "bins": bins,
        "max_fpr": max_fpr,
        "top": top,
        "gauc_weights": gauc_weights,
    }
    wanted = _parse(metrics, defaults)
    checks.choice(undefined, "undefined", ("warn", "nan", "error"))
    if eps is not None and not 0 <= checks.number(eps, "eps") < 0.5:
        raise ValueError(f"`eps` must be at least 0 and below 0.5; got {eps}")
    return Request(
        wanted,
        None if eps is None else float(eps),
        _number_or_nan(zero_division, "zero_division"),
        undefined,
        _threads.resolve(threads),
        frozenset(need for one in wanted for need in one.definition.needs),
    )


def _number_or_nan(value: Any, name: str) -> float:
    return math.nan if isinstance(value, float) and math.isnan(value) else checks.number(value, name)


def _parse(names: Any, defaults: dict[str, Any]) -> list[Wanted]:
    names = name_list(names)
    wanted: dict[str, Wanted] = {}
    values: dict[str, Any] = {}  # the defaults that were asked for, checked
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"`metrics` must hold names; got {type(name).__name__} {name!r}")
        base, parameter, text = _named(name)
        if parameter is None:
            value = None
        elif text is not None:
            value = _parameter(parameter, text, name)
        else:
            if parameter not in values:
                values[parameter] = _parameter(parameter, defaults[parameter], name)
            value = values[parameter]
        wanted[name] = Wanted(name, base, value)
    if not wanted:
        raise ValueError("`metrics` must name at least one metric; got none")
    return list(wanted.values())


@functools.lru_cache(256)
def _named(name: str) -> tuple[str, str | None, str | None]:
    """The metric of a name, which parameter it takes, and what the name says that this is."""
    base, at, text = name.strip().lower().partition("@")
    base = ALIASES.get(base, base)
    if base not in METRICS:
        function = function_of(base)
        hint = f" fr.{function} has it." if function else checks.nearest(base, [*METRICS, *ALIASES])
        raise ValueError(
            f"`metrics` holds {name!r}, which is not known.{hint} Known: {', '.join(sorted(METRICS))}"
        )
    parameter = METRICS[base].parameter
    if at and parameter is None:
        raise ValueError(f"metric {name!r} takes no parameter; write {base!r}")
    return base, parameter, text if at else None


def _parameter(parameter: str, value: Any, name: str) -> Any:
    if parameter == "gauc_weights":
        return checks.choice(value, f"gauc_weights of {name}", GAUC_WEIGHTS)
    if isinstance(value, str) and "@" in name:
        try:
            value = int(value) if parameter == "bins" else float(value)
        except ValueError:
            kind = "an integer" if parameter == "bins" else "a number"
            raise ValueError(
                f"metric {name!r} needs {kind} after '@' (its `{parameter}`); got {value!r}"
            ) from None
    if parameter == "bins":
        return checks.integer(value, f"bins of {name}", low=1, high=100_000)
    if parameter == "threshold":
        return checks.number(value, f"threshold of {name}")
    share = checks.number(value, f"{parameter} of {name}", low=0.0, high=1.0)
    if share == 0.0:
        raise ValueError(f"`{parameter} of {name}` must be above 0; got 0")
    return share
