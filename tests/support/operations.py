"""Every operation of the registry, and comparisons of whatever they return."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import inspect
import pkgutil
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

import fastrec
from fastrec._core.op import OPERATIONS, Operation

SEED = 20_240_517


def load_all() -> list[Operation]:
    """Import every module, so that every operation is registered; return those of the package by name."""
    for module in pkgutil.walk_packages(fastrec.__path__, "fastrec."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    return [op for _, op in sorted(OPERATIONS.items()) if op.__module__.startswith("fastrec.")]


def examples(op: Operation) -> Iterator[dict[str, Any]]:
    """The operation's own cases, the same in every process."""
    return op.examples(np.random.default_rng(SEED))


def takes(op: Operation, name: str) -> bool:
    return name in inspect.signature(op).parameters


def leaves(value: Any) -> list[Any]:
    """The arrays and scalars inside a result, in order; sparse matrices, dataclasses and containers are opened."""
    if value is None or isinstance(value, (str, bytes, int, float, complex, np.ndarray, np.generic)):
        return [value]
    if dataclasses.is_dataclass(value):
        return [leaf for field in dataclasses.fields(value) for leaf in leaves(getattr(value, field.name))]
    if isinstance(value, Mapping):
        return [leaf for key in value for leaf in leaves(value[key])]
    if isinstance(value, (list, tuple)):
        return [leaf for part in value for leaf in leaves(part)]
    if hasattr(value, "indptr"):
        return [value.indptr, value.indices, value.data]
    raise TypeError(f"do not know how to compare a {type(value).__name__}; teach tests/support/operations.py")


def assert_same_bits(got: Any, expected: Any, what: str = "") -> None:
    """Same structure, dtypes, shapes and bytes; one NaN equals another, -0.0 does not equal 0.0."""
    got_leaves, expected_leaves = leaves(got), leaves(expected)
    assert len(got_leaves) == len(expected_leaves), what
    for one, other in zip(got_leaves, expected_leaves):
        one, other = np.asarray(one), np.asarray(other)
        assert (one.dtype, one.shape) == (other.dtype, other.shape), what
        np.testing.assert_array_equal(one, other, err_msg=what)
        if one.dtype.kind == "f":
            numbers = ~np.isnan(one)
            np.testing.assert_array_equal(np.signbit(one)[numbers], np.signbit(other)[numbers], err_msg=what)


def assert_close(got: Any, expected: Any, rtol: float, what: str = "") -> None:
    """Equal where not floating point; there, NaN and infinity at the same places and finite values within ``rtol`` of
    the largest."""
    for one, other in zip(leaves(got), leaves(expected), strict=True):
        one, other = np.asarray(one), np.asarray(other)
        assert (one.dtype, one.shape) == (other.dtype, other.shape), what
        if one.dtype.kind != "f":
            np.testing.assert_array_equal(one, other, err_msg=what)
            continue
        finite = np.isfinite(other)
        np.testing.assert_array_equal(one[~finite], other[~finite], err_msg=what)
        largest = np.abs(other[finite]).max(initial=0.0)
        np.testing.assert_allclose(one[finite], other[finite], rtol=0, atol=rtol * largest, err_msg=what)


def digest(value: Any) -> str:
    """A fingerprint of a result's bits (NaNs alike), for comparison between processes."""
    summary = hashlib.sha256()
    for leaf in leaves(value):
        array = np.ascontiguousarray(leaf)
        if array.dtype.kind == "f":
            array = np.where(np.isnan(array), np.array(np.nan, array.dtype), array)
        summary.update(f"{array.dtype.str}{array.shape}".encode())
        summary.update(repr(array.tolist()).encode() if array.dtype == object else array.tobytes())
    return summary.hexdigest()
