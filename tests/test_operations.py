"""What every operation promises, checked over the registry: a new one is exercised at once."""

from __future__ import annotations

import inspect
import re
from typing import Any

import numpy as np
import pytest
from operations import assert_close, assert_same_bits, examples, leaves, load_all, takes
from subprocesses import USABLE_ISAS, output_of

from fastrec._core import checks
from fastrec._core.op import Operation

ALL = load_all()
WITH_KERNEL = [op for op in ALL if "cpu" in op.backends()]

every_operation = pytest.mark.parametrize("op", ALL, ids=lambda op: op.name)
every_kernel = pytest.mark.parametrize("op", WITH_KERNEL, ids=lambda op: op.name)


def describe(case: dict[str, Any]) -> str:
    return ", ".join(
        f"{name}={checks.shape_text(value) if isinstance(value, np.ndarray) else repr(value)[:60]}"
        for name, value in case.items()
    )


LAYOUTS = {
    "read-only": np.copy,
    "byte-swapped": lambda a: a.astype(a.dtype.newbyteorder()),
    "strided": lambda a: np.repeat(a, 2, axis=-1)[..., ::2] if a.ndim else a,
    "reversed": lambda a: np.ascontiguousarray(a[::-1])[::-1] if a.ndim else a,
    "Fortran": np.asfortranarray,
}


def laid_out(array: Any, layout: str) -> Any:
    """The same numbers in another layout, which a caller's array may have; what is no array stays as it is."""
    if not isinstance(array, np.ndarray):
        return array
    other = LAYOUTS[layout](array)
    other.flags.writeable = layout != "read-only"
    return other


def test_there_are_operations() -> None:
    assert WITH_KERNEL


@every_operation
def test_contract(op: Operation) -> None:
    """A reference, cases, and a docstring that names every argument, what comes back, and the cost."""
    assert "reference" in op.backends()
    assert next(examples(op), None) is not None, "register cases with @operation.cases"
    text = inspect.getdoc(op) or ""
    for section in ("Parameters", "Returns"):
        assert re.search(rf"^{section}\n-+$", text, re.MULTILINE), f"no section {section}"
    unnamed = [name for name in inspect.signature(op).parameters if not re.search(rf"\b{name}\b", text)]
    assert unnamed == [], "arguments that the docstring does not name"
    arguments = inspect.signature(op).parameters
    assert set(op.arrays) <= set(arguments)


@every_kernel
def test_the_kernel_equals_the_reference(op: Operation) -> None:
    for case in examples(op):
        got, expected = op.run("cpu", **case), op.run("reference", **case)
        if op.rtol:
            assert_close(got, expected, op.rtol, describe(case))
        else:
            assert_same_bits(got, expected, describe(case))


@every_kernel
def test_a_repeated_call_gives_the_same_bits_and_leaves_its_arguments_alone(op: Operation) -> None:
    for case in examples(op):
        before = {name: value.copy() for name, value in case.items() if isinstance(value, np.ndarray)}
        first = [np.copy(leaf) for leaf in leaves(op(**case))]
        assert_same_bits([np.asarray(leaf) for leaf in leaves(op(**case))], first, describe(case))
        for name, value in before.items():
            if name != "out":
                np.testing.assert_array_equal(case[name], value, err_msg=f"`{name}` was written to")


@every_kernel
def test_threads_do_not_matter(op: Operation) -> None:
    if not takes(op, "threads"):
        pytest.skip("runs on one thread")
    for case in examples(op):
        expected = op(**{**case, "threads": 1})
        for threads in (2, 7):
            assert_same_bits(
                op(**{**case, "threads": threads}), expected, f"threads={threads}, {describe(case)}"
            )


@every_kernel
def test_layout_does_not_matter(op: Operation) -> None:
    for case in examples(op):
        expected = op(**case)
        for layout in LAYOUTS:
            other = case | {name: laid_out(case[name], layout) for name in op.arrays if name in case}
            assert_same_bits(op(**other), expected, f"{layout}: {describe(case)}")


def test_instruction_sets_do_not_matter() -> None:
    code = """
        from operations import digest, examples, load_all
        for op in load_all():
            if "cpu" in op.backends():
                for number, case in enumerate(examples(op)):
                    print(op.name, number, digest(op.run("cpu", **case)))
    """
    outputs = {name: output_of(code, FASTREC_ISA=name).splitlines() for name in USABLE_ISAS}
    expected = outputs.pop(USABLE_ISAS[-1])
    assert expected
    for name, lines in outputs.items():
        differing = [
            line.rpartition(" ")[0] for line, other in zip(lines, expected, strict=True) if line != other
        ]
        assert differing == [], f"{name} differs from {USABLE_ISAS[-1]}"
