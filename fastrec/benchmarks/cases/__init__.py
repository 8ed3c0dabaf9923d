"""What ``fastrec bench`` runs: one file a verb, one decorated function a case.

To add a case, write a function in its verb's file that takes the :class:`~fastrec.benchmarks.harness.Lab` and returns a
:class:`~fastrec.benchmarks.harness.Case`, and put ``@case(name, verb, title)`` on it.
"""

from __future__ import annotations

from collections.abc import Callable

from fastrec.benchmarks.harness import Case, Lab, Plan, Verb

_PLANS: dict[str, Plan] = {}


def case(
    name: str, verb: Verb, title: str, *, real_data: bool = False
) -> Callable[[Callable[[Lab], Case]], Callable[[Lab], Case]]:
    """Register the function that prepares a case; its name is unique and starts with its verb."""

    def register(prepare: Callable[[Lab], Case]) -> Callable[[Lab], Case]:
        if name in _PLANS or not name.startswith(f"{verb}/"):
            raise ValueError(f"case {name!r} is registered twice, or does not start with {verb}/")
        _PLANS[name] = Plan(name, verb, title, prepare, real_data)
        return prepare

    return register


def plans() -> list[Plan]:
    """Every case, verb by verb, in the order in which the files define them."""
    from fastrec.benchmarks.cases import measure, rank, train, weigh  # noqa: F401  (importing registers)

    verbs = ["rank", "measure", "weigh", "train"]
    return sorted(_PLANS.values(), key=lambda plan: verbs.index(plan.verb))
