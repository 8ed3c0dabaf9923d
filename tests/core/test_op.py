"""``_core.op``: an operation validates once, then runs the path of the device its arrays are on."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from fastrec._core import checks
from fastrec._core.op import OPERATIONS, Operation, operation


@pytest.fixture
def double() -> Iterator[Operation]:
    @operation(arrays=("x", "y"))
    def double_for_test(x: Any, *, y: Any = None, times: int = 2) -> dict[str, Any]:
        """Multiply."""
        return {"x": checks.vector(x, "x"), "y": y, "times": checks.integer(times, "times", low=1)}

    yield double_for_test
    del OPERATIONS["double_for_test"]


def test_without_a_kernel_the_reference_answers(double: Operation) -> None:
    seen = []

    @double.reference
    def _(xp: Any, x: Any, y: Any, times: int) -> Any:
        seen.append(xp)
        return xp.asarray(x) * times

    np.testing.assert_array_equal(double([1, 2]), [2, 4])
    assert seen == [np]
    assert double.backends() == ["reference"]


def test_the_kernel_gets_validated_arguments(double: Operation) -> None:
    got: dict[str, Any] = {}

    @double.reference
    def _(xp: Any, **arguments: Any) -> str:
        return "reference"

    @double.cpu
    def _(**arguments: Any) -> str:
        got.update(arguments)
        return "cpu"

    assert double([1, 2], times=3) == "cpu"
    assert got["x"].dtype == np.float32
    assert got["times"] == 3
    assert double.run("reference", [1, 2]) == "reference"
    with pytest.raises(ValueError, match="`times` must be >= 1"):
        double([1], times=0)
    with pytest.raises(ValueError, match="'double_for_test' has no path 'cuda'; it has reference, cpu"):
        double.run("cuda", [1])


def test_it_looks_like_the_function_it_documents(double: Operation) -> None:
    assert double.__doc__ == "Multiply."
    assert double.__name__ == double.name == "double_for_test"
    assert list(inspect.signature(double).parameters) == ["x", "y", "times"]
    assert repr(double) == "<operation double_for_test: >"


def test_a_name_is_registered_once(double: Operation) -> None:
    def double_for_test() -> dict[str, Any]:
        return {}

    with pytest.raises(ValueError, match="'double_for_test' is already registered"):
        operation(arrays=())(double_for_test)


def test_examples(double: Operation) -> None:
    assert list(double.examples(np.random.default_rng(0))) == []

    @double.cases
    def _(rng: Any) -> Iterator[dict[str, Any]]:
        yield {"x": rng.random(3)}

    assert len(list(double.examples(np.random.default_rng(0)))) == 1


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_public_operations_pickle_by_name(name: str) -> None:
    made = OPERATIONS[name]
    assert pickle.loads(pickle.dumps(made)) is made
    assert copy.deepcopy(made) is made
