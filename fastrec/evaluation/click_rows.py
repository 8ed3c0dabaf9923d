"""The rows of a call: labels, scores, weights and groups from whatever holds them, checked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastrec._core import arrays, checks
from fastrec.evaluation.click_columns import MAX_ROWS, row_labels, span
from fastrec.evaluation.click_request import Request, Wanted

LARGEST = 1e145  # a target or its prediction, so that sums of squares are numbers
LIGHT, HEAVY = 1e-70, 1e70  # weights whose products, of pairs and their sums, are numbers


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows as metrics read them: labels (uint8 zeros and ones, or float64), scores (float32 or float64), weights, and
    group codes with the labels they stand for."""

    y: np.ndarray
    p: np.ndarray
    w: np.ndarray | None
    codes: np.ndarray | None
    labels: Any

    def __len__(self) -> int:
        return len(self.y)


def read_rows(
    y_true: Any, y_prob: Any, groups: Any, weights: Any, request: Request, *, least: int = 1
) -> Rows:
    """Rows of one call, or of one batch (which may have none), checked."""
    y = column(y_true, "y_true")
    n = len(y)
    if not least <= n <= MAX_ROWS:
        raise ValueError(f"`y_true` must have between 1 and {MAX_ROWS} rows; got {n}")
    p = _scores(y_prob, n)
    w = _weights(weights, n)
    if n:
        low, high, nan = span(p, request.threads)
        if nan >= 0:
            raise ValueError(f"`y_prob` must not hold NaN; row {nan} is NaN")
        _check_probabilities(p, low, high, request.wanted)
        y = _labels(y, request.wanted, request.threads)
    else:
        y = y.astype(np.uint8)
    if groups is None and "groups" in request.needs:
        which = ", ".join(repr(one.name) for one in request.wanted if "groups" in one.definition.needs)
        raise ValueError(f"`groups` must be given for {which}: the group (user, query, ...) of each row")
    codes, labels = (None, None) if groups is None else group_codes(groups, n)
    return Rows(y, p, w, codes, labels)


def _check_probabilities(p: np.ndarray, low: float, high: float, wanted: list[Wanted]) -> None:
    need = next((one.name for one in wanted if one.definition.probabilities), None)
    if need is not None and (low < 0 or high > 1):
        row = int(np.flatnonzero((p < 0) | (p > 1))[0])
        raise ValueError(
            f"`y_prob` must lie in 0..1 for {need!r}; row {row} is {p[row]}. Ranking metrics (auc, gauc, ap, ...) take "
            "any score; turn logits into probabilities with scipy.special.expit"
        )
    if low < -LARGEST or high > LARGEST:
        for one in wanted:
            if one.definition.labels == "real":
                held = max(low, high, key=abs)
                raise ValueError(f"`y_prob` must {_bounded(held)} for {one.name!r}; it holds {held}")


def _bounded(value: float) -> str:
    return f"be at most {LARGEST} in magnitude" if math.isfinite(value) else "be finite"


def _labels(y: np.ndarray, wanted: list[Wanted], threads: int) -> np.ndarray:
    """uint8 zeros and ones where the labels are such, else float64, if all metrics can do with that."""
    binary, bad = row_labels(y, threads)
    if bad < 0:
        return binary
    need = next((one.name for one in wanted if one.definition.labels == "binary"), None)
    if need is not None:
        raise ValueError(
            f"`y_true` must hold 0 and 1 for {need!r}; row {bad} is {y[bad]}. "
            "Make labels of other values with a comparison, such as `y_true > 0`"
        )
    y = y.astype(np.float64)
    need = next((one.name for one in wanted if one.definition.labels == "soft"), None)
    wrong = np.flatnonzero(~(np.abs(y) <= LARGEST) if need is None else ~((y >= 0) & (y <= 1)))
    if len(wrong):
        want = _bounded(y[wrong[0]]) if need is None else f"lie in 0..1 for {need!r}"
        raise ValueError(f"`y_true` must {want}; row {wrong[0]} is {y[wrong[0]]}")
    return y


def _on_cpu(value: Any, name: str) -> Any:
    array = arrays.adopt(value, name)
    if arrays.device(array) != arrays.CPU:
        raise TypeError(
            f"`{name}` is on {arrays.device(array)}; click metrics run on the CPU: pass `{name}.get()`"
        )
    return array


def column(value: Any, name: str, size: int | None = None) -> np.ndarray:
    """A vector of real numbers, of any real type, contiguous and in native byte order."""
    array = checks.real(_numbers(_on_cpu(value, name), name), name)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or (size is not None and len(array) != size):
        want = "(n,)" if size is None else f"({size},) to match `y_true`"
        hint = f" Pass one column, `{name}[:, 1]`." if array.ndim == 2 else ""
        raise ValueError(f"`{name}` must have shape {want}; got {array.shape}.{hint}")
    return np.ascontiguousarray(array, array.dtype.newbyteorder("="))


def _numbers(array: Any, name: str) -> Any:
    """Python's numbers, held as objects, as an array of their own; anything else as it is."""
    if not isinstance(array, np.ndarray) or array.dtype.kind != "O" or array.ndim != 1:
        return array
    for row, number in enumerate(array.tolist()):
        if number is None:
            raise ValueError(f"`{name}` must not be missing; row {row} is None")
        if not isinstance(number, (bool, int, float, np.number, np.bool_)):
            return array
    return np.array(array.tolist())


def _scores(value: Any, size: int) -> np.ndarray:
    """Scores as float32 or float64, whichever holds them exactly."""
    array = column(value, "y_prob", size)
    if array.dtype in (np.float32, np.float64):
        return array
    if array.dtype == np.float16 or array.dtype.itemsize < 3:
        return array.astype(np.float32)
    wide = array.astype(np.float64)
    if array.dtype.itemsize > 4 and size and not (wide.astype(array.dtype) == array).all():
        raise ValueError(
            f"`y_prob` holds {array.dtype} values that float64 cannot tell apart; cast it yourself"
        )
    return wide


def narrow(scores: np.ndarray) -> np.ndarray:
    """The scores as float32 where that loses nothing, which halves the passes of the sort."""
    if scores.dtype == np.float32:
        return scores
    for part in (scores[:256], scores):
        with np.errstate(over="ignore"):
            if not np.array_equal(part.astype(np.float32).astype(np.float64), part):
                return scores
    return scores.astype(np.float32)


def _weights(value: Any, size: int) -> np.ndarray | None:
    if value is None:
        return None
    weights = column(value, "weights", size).astype(np.float64, copy=False)
    if not size:
        return weights
    low, high, nan = span(weights, 1)
    if nan >= 0 or not math.isfinite(high) or low < 0:
        row = int(np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))[0])
        raise ValueError(f"`weights` must be finite and not negative; row {row} is {weights[row]}")
    if low < LIGHT or high > HEAVY:  # 0 is neither
        extreme = np.flatnonzero(((weights > 0) & (weights < LIGHT)) | (weights > HEAVY))
        if len(extreme):
            raise ValueError(
                f"`weights` must be 0, or from {LIGHT} to {HEAVY}; row {extreme[0]} is {weights[extreme[0]]}. Only "
                "their ratios matter: divide them by their mean"
            )
    return weights


def group_codes(groups: Any, size: int, name: str = "groups") -> tuple[np.ndarray, Any]:
    """Codes 0..G-1 of the rows (int32), and the sorted labels they stand for (a pandas index).

    Takes anything pandas can factorise: integers, strings, floats, dates, categoricals, from NumPy, pandas, polars,
    Arrow or lists.  Labels that cannot be sorted stay in order of appearance; a missing label is a ``ValueError``.
    """
    import pandas as pd

    if hasattr(groups, "to_pandas") and not isinstance(groups, (pd.Series, pd.Index)):
        groups = groups.to_pandas()
    if not isinstance(groups, (pd.Series, pd.Index, pd.Categorical)):
        groups = list(groups) if isinstance(groups, (tuple, set, range)) else groups
        groups = np.asarray(_mixed(groups)) if isinstance(groups, list) else _on_cpu(groups, name)
    if getattr(groups, "ndim", 1) != 1 or len(groups) != size:
        raise ValueError(f"`{name}` must have shape ({size},) to match `y_true`; got {np.shape(groups)}")
    direct = _small_integers(groups, size)
    if direct is not None:
        codes, labels = direct
        return codes, pd.Index(labels)
    try:
        codes, labels = pd.factorize(groups, sort=True)
    except TypeError:  # labels of kinds that do not compare
        codes, labels = pd.factorize(groups)
    if (codes < 0).any():
        raise ValueError(
            f"`{name}` must name a group for every row; {int((codes < 0).sum())} rows have none "
            f"(first: row {int(np.argmin(codes))})"
        )
    return codes.astype(np.int32), pd.Index(labels)


def _mixed(values: list[Any]) -> Any:
    """A list as an array that keeps each label's own type (NumPy would turn 1 and "a" into strings)."""
    kinds = {type(value) for value in values}
    if len(kinds) <= 1 and tuple not in kinds:
        return values
    out = np.empty(len(values), object)
    out[:] = values
    return out


def _small_integers(groups: Any, size: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Codes of integers that lie close together, by counting instead of hashing."""
    values = groups if isinstance(groups, np.ndarray) else None
    if (
        values is None
        and getattr(getattr(groups, "dtype", None), "kind", "") in "iu"
        and hasattr(groups, "to_numpy")
    ):
        values = groups.to_numpy()
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "iu" or not size:
        return None
    low, high = int(values.min()), int(values.max())
    if high - low >= 4 * size + 1000 or high - low >= 2**31:
        return None
    places = values - low if low else values
    seen = np.zeros(high - low + 1, np.int32)
    seen[places] = 1
    if seen.all():
        return places.astype(np.int32, copy=False), np.arange(low, high + 1, dtype=values.dtype)
    labels = np.flatnonzero(seen)
    seen[labels] = np.arange(len(labels), dtype=np.int32)
    return seen[places], (labels + low).astype(values.dtype)
