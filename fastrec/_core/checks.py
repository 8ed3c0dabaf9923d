"""Checks of arguments.  Every message names the argument, what was expected, what was got, and often the remedy."""

from __future__ import annotations

import difflib
import math
import operator
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fastrec._core import arrays


def shape_text(array: Any) -> str:
    return f"{'x'.join(map(str, array.shape)) or 'scalar'} {array.dtype}"


def real(value: Any, name: str) -> Any:
    """An adopted array of a real number type (bool, integer, float); ``TypeError`` for anything else."""
    array = arrays.adopt(value, name)
    if array.dtype.kind not in "fiub" and array.dtype.name != "bfloat16":
        remedy = (
            " (a column of vectors becomes a matrix with `numpy.stack(column)`)"
            if array.dtype == object
            else ""
        )
        raise TypeError(f"`{name}` must hold real numbers; got dtype {array.dtype}{remedy}")
    return array


def contiguous(array: Any, dtype: Any) -> Any:
    """The array as C-contiguous ``dtype`` in native byte order: itself where it already is, else a copy."""
    with arrays.current(array):
        return arrays.namespace(array).ascontiguousarray(array, dtype=dtype)


def native(array: Any) -> Any:
    """The array C-contiguous and in native byte order, its type kept: itself where it is so already; None for None."""
    return None if array is None else contiguous(array, array.dtype.newbyteorder("="))


def matrix(
    value: Any, name: str, *, dtype: Any = np.float32, columns: int | None = None, like: str = ""
) -> Any:
    """A 2-D, C-contiguous ``dtype`` array of shape (rows, columns).

    ``like`` finishes the message when the columns do not match (``"to match `queries` (1000, 64)"``).
    """
    array = real(value, name)
    want = f"(n, {columns})" if columns is not None else "(n, d)"
    if array.ndim != 2 or (columns is not None and array.shape[1] != columns):
        tail = f" {like}" if like else ""
        hint = " Reshape one vector with `x[None, :]`." if array.ndim == 1 else ""
        raise ValueError(f"`{name}` must have shape {want}{tail}; got {array.shape}.{hint}")
    return contiguous(array, dtype)


def vector(value: Any, name: str, *, dtype: Any = np.float32, size: int | None = None, like: str = "") -> Any:
    """A 1-D, C-contiguous ``dtype`` array of shape (size,)."""
    array = real(value, name)
    if array.ndim != 1 or (size is not None and array.shape[0] != size):
        tail = f" {like}" if like else ""
        raise ValueError(
            f"`{name}` must have shape ({'n' if size is None else size},){tail}; got {array.shape}"
        )
    return contiguous(array, dtype)


def indices(value: Any, name: str, *, below: int | None, what: str = "rows") -> Any:
    """A 1-D int64 array of indices in ``0..below-1``; anything out of range is a ``ValueError`` that shows it.

    With ``below=None`` their range is left for a kernel to look at, while it reads them.
    """
    array = arrays.adopt(value, name)
    if array.size == 0 and array.ndim == 1:
        return contiguous(array, np.int64)
    if array.dtype.kind not in "iu":
        raise TypeError(f"`{name}` must hold integers; got dtype {array.dtype}")
    if array.ndim != 1:
        raise ValueError(f"`{name}` must be one-dimensional; got shape {array.shape}")
    array = contiguous(array, np.int64)
    if below is not None:
        within(array, name, below=below, what=what)
    return array


def within(array: Any, name: str, *, below: int, what: str = "rows") -> None:
    """Refuse indices outside ``0..below-1``, those of an int64 array."""
    if array.size and array.view(np.uint64).max() >= below:  # one pass: negative ones are the largest of all
        low, high = array.min(), array.max()
        bad = low if low < 0 else high
        raise ValueError(f"`{name}` must lie in 0..{below - 1} (there are {below} {what}); got {int(bad)}")


def _bounds(low: float | None, high: float | None) -> str:
    return f">= {low}" if high is None else f"<= {high}" if low is None else f"between {low} and {high}"


def integer(value: Any, name: str, *, low: int | None = None, high: int | None = None) -> int:
    """A Python int in ``low..high``; bools and floats are refused."""
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"`{name}` must be an integer; got a bool")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"`{name}` must be an integer; got {type(value).__name__} {value!r}") from None
    if (low is not None and number < low) or (high is not None and number > high):
        raise ValueError(f"`{name}` must be {_bounds(low, high)}; got {number}")
    return number


def number(value: Any, name: str, *, low: float | None = None, high: float | None = None) -> float:
    """A finite Python float in ``low..high`` (both ends allowed)."""
    if isinstance(value, (bool, np.bool_, str, bytes)):
        raise TypeError(f"`{name}` must be a number; got {type(value).__name__} {value!r}")
    try:
        result = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"`{name}` must be a number; got {type(value).__name__}") from None
    except OverflowError:
        raise ValueError(f"`{name}` must be finite; got an integer that no float holds") from None
    if not math.isfinite(result):
        raise ValueError(f"`{name}` must be finite; got {result}")
    if (low is not None and result < low) or (high is not None and result > high):
        raise ValueError(f"`{name}` must be {_bounds(low, high)}; got {result}")
    return result


def choice(value: Any, name: str, options: Iterable[str]) -> str:
    """One of ``options``; otherwise a ``ValueError`` that lists them and suggests the nearest."""
    known = list(options)
    if not isinstance(value, str):
        raise TypeError(
            f"`{name}` must be a string, one of {', '.join(map(repr, known))}; got {type(value).__name__}"
        )
    if value not in known:
        raise ValueError(
            f"`{name}` must be one of {', '.join(map(repr, known))}; got {value!r}.{nearest(value, known)}"
        )
    return value


def device_name(value: Any, name: str) -> str:
    """``"cpu"``, ``"cuda"`` or ``"cuda:<n>"``."""
    if not isinstance(value, str):
        raise TypeError(f"`{name}` must be 'cpu', 'cuda' or 'cuda:<n>'; got {type(value).__name__}")
    kind, colon, number = value.partition(":")
    if kind not in ("cpu", "cuda") or (colon and (kind == "cpu" or not number.isdecimal())):
        raise ValueError(f"`{name}` must be 'cpu', 'cuda' or 'cuda:<n>'; got {value!r}")
    return value


def nearest(value: str, known: Sequence[str]) -> str:
    """``" Did you mean 'x'?"`` where one of ``known`` is close to ``value``, else nothing."""
    close = difflib.get_close_matches(value, known, n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


def output(out: Any, name: str, *, shape: tuple[int, ...], dtype: Any, device: str) -> Any:
    """Check an array that the caller wants filled: exact shape, dtype and device, C-contiguous, writable."""
    array = arrays.adopt(out, name)
    if array.shape != shape or array.dtype != np.dtype(dtype):
        raise ValueError(
            f"`{name}` must have shape {shape} and dtype {np.dtype(dtype)}; got {array.shape} {array.dtype}"
        )
    if arrays.device(array) != device:
        raise TypeError(f"`{name}` must be on {device} like the other arrays; got {arrays.device(array)}")
    if not array.flags.c_contiguous or not getattr(array.flags, "writeable", True):
        raise ValueError(
            f"`{name}` must be C-contiguous and writable; pass `numpy.empty({shape}, {np.dtype(dtype)})`"
        )
    return array
