"""The forward pass of a linear model, with the squared norms that per-sample gradients need as a by-product."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from fastrec._core import arrays, checks, threads
from fastrec._core.op import operation
from fastrec._kernels import learning

# Types whose every value is a float32; wider ones become float64.
_FLOAT32 = ("bool", "int8", "uint8", "int16", "uint16", "float16", "bfloat16", "float32")


@dataclass(frozen=True)
class Features:
    """Samples by features as kernels read them: C-contiguous rows, or CSR with sorted, unique columns.

    Attributes
    ----------
    values : (rows, columns) array, or (entries,) with ``indptr``
        float32 or float64.
    rows, columns : int
    indptr : (rows + 1,) int64 array or None
    indices : (entries,) int32 array or None
    """

    values: Any
    rows: int
    columns: int
    indptr: Any = None
    indices: Any = None

    @property
    def sparse(self) -> bool:
        return self.indptr is not None

    @cached_property
    def samples(self) -> learning.Samples:
        """The kernels' view of a matrix on the CPU."""
        return learning.Samples(self.values.reshape(-1), self.rows, self.columns, self.indptr, self.indices)

    def matrix(self, xp: Any) -> Any:
        """An array or CSR matrix of float64, for references."""
        if not self.sparse:
            return self.values.astype(np.float64)
        if xp is np:
            from scipy.sparse import csr_array as csr
        else:
            from cupyx.scipy.sparse import csr_matrix as csr
        return csr(
            (self.values.astype(np.float64), self.indices, self.indptr), shape=(self.rows, self.columns)
        )


def features(
    X: Any, name: str = "X", *, columns: int | None = None, like: str = "to match the model"
) -> Features:
    """Read a matrix of samples: an array or frame of numbers, or a sparse matrix or array (SciPy, CuPy).

    float32 and float64 in row-major order, and CSR in canonical form with int32 columns, are used where they lie;
    everything else is copied (integers of more than 16 bits become float64).  Columns are only counted here; NaN and
    infinity pass.
    """
    if isinstance(X, Features):
        return X
    if hasattr(X, "tocsr"):
        matrix = X.tocsr()
        if matrix.ndim != 2 or (columns is not None and matrix.shape[1] != columns):
            want = f"(n, {columns}) {like}" if columns is not None else "(n, d)"
            raise ValueError(f"`{name}` must have shape {want}; got {matrix.shape}")
        if matrix.shape[1] >= 2**31:
            raise ValueError(f"`{name}` may have at most {2**31 - 1} columns; got {matrix.shape[1]}")
        if not matrix.has_canonical_format:  # duplicates would be squared one by one
            matrix = matrix.copy()
            matrix.sum_duplicates()
        values = checks.real(matrix.data, f"{name}.data")
        return Features(
            checks.contiguous(values, _float_type(values)),
            matrix.shape[0],
            matrix.shape[1],
            *_structure(matrix.indptr, matrix.indices, len(values), matrix.shape[1], name),
        )
    array = checks.real(X, name)
    array = checks.matrix(array, name, dtype=_float_type(array), columns=columns, like=like)
    return Features(array, array.shape[0], array.shape[1])


def from_parts(values: Any, columns: int, indptr: Any = None, indices: Any = None) -> Features:
    """Features from an array of rows, or from the three arrays of a CSR matrix in canonical form, checked."""
    values = checks.real(values, "values")
    kind = _float_type(values)
    if indptr is None:
        values = checks.matrix(values, "values", dtype=kind, columns=columns)
        return Features(values, len(values), columns)
    values = checks.vector(values, "values", dtype=kind)
    indptr, indices = _structure(indptr, indices, len(values), columns, "values")
    return Features(values, len(indptr) - 1, columns, indptr, indices)


def _structure(indptr: Any, indices: Any, entries: int, columns: int, name: str) -> tuple[Any, Any]:
    """CSR's row starts and column numbers, checked, so that a damaged matrix is an error and not a crash."""
    indptr = checks.contiguous(checks.vector(indptr, f"{name}.indptr", dtype=np.int64), np.int64)
    indices = checks.vector(indices, f"{name}.indices", dtype=np.int32, size=entries)
    if len(indptr) == 0 or indptr[0] != 0 or indptr[-1] != entries or (indptr[1:] < indptr[:-1]).any():
        raise ValueError(f"`{name}.indptr` must rise from 0 to the number of entries, {entries}")
    if entries and (indices.min() < 0 or indices.max() >= columns):
        raise ValueError(f"`{name}.indices` must lie in 0..{columns - 1}")
    return indptr, indices


def _float_type(array: Any) -> type:
    return np.float32 if array.dtype.name in _FLOAT32 else np.float64


@operation(arrays=("values", "parameters"), rtol=1e-13)
def linear_forward(
    values: Any,
    parameters: Any,
    indptr: Any = None,
    indices: Any = None,
    squares: bool = False,
    extra: float = 0.0,
    threads: int | None = None,
) -> dict[str, Any]:
    """Scores of a linear model, and the squared norm of every row, in one pass over the matrix.

    Parameters
    ----------
    values : (n, d) array, or (entries,) array with ``indptr`` and ``indices``
        float32 or float64: rows of features, or the data of a CSR matrix in canonical form.
    parameters : (d + 1,) float64 array
        Coefficients, then the intercept.
    indptr, indices : (n + 1,) int64 and (entries,) int32 arrays, optional
    squares : bool
        Whether to return the squared norms.
    extra : float
        Added to every squared norm (1 for a fitted intercept).
    threads : int, optional

    Returns
    -------
    scores : (n,) float64
        ``x . parameters[:d] + parameters[d]``, products and sums in float64: eight lanes by position within the row
        (within the stored entries, for CSR), then a fixed tree; the same bits on any number of threads and any
        instruction set.
    squares : (n,) float64 or None
        ``|x|^2 + extra``.

    NaN and infinity propagate.  One read of the matrix; no scratch.
    """
    parameters = checks.vector(parameters, "parameters", dtype=np.float64)
    if len(parameters) == 0:
        raise ValueError("`parameters` must end with the intercept; got no element")
    x = from_parts(values, len(parameters) - 1, indptr, indices)
    return {
        "values": x.values,
        "parameters": parameters,
        "indptr": x.indptr,
        "indices": x.indices,
        "squares": squares,
        "extra": float(extra),
        "threads": threads,
    }


def _features_of(values: Any, parameters: Any, indptr: Any, indices: Any) -> Features:
    rows = len(values) if indptr is None else len(indptr) - 1
    return Features(values, rows, len(parameters) - 1, indptr, indices)


@linear_forward.reference
def _(
    xp: Any,
    values: Any,
    parameters: Any,
    indptr: Any,
    indices: Any,
    squares: bool,
    extra: float,
    threads: Any,
) -> tuple[Any, Any]:
    matrix = _features_of(values, parameters, indptr, indices).matrix(xp)
    scores = matrix @ parameters[:-1] + parameters[-1]
    if not squares:
        return scores, None
    power = matrix.multiply(matrix) if indptr is not None else matrix * matrix
    return scores, xp.asarray(power.sum(axis=1)).reshape(-1) + extra


@linear_forward.cpu
def _(
    values: Any, parameters: Any, indptr: Any, indices: Any, squares: bool, extra: float, threads: Any
) -> tuple[Any, Any]:
    x = _features_of(values, parameters, indptr, indices)
    return _forward(x, parameters, squares, extra, threads)


def _forward(x: Features, parameters: Any, squares: bool, extra: float, count: int | None) -> tuple[Any, Any]:
    scores = np.empty(x.rows)
    norms = np.empty(x.rows) if squares else None
    learning.linear_forward(x.samples, parameters, scores, norms, extra, threads.resolve(count))
    return scores, norms


@linear_forward.cuda
def _(
    values: Any, parameters: Any, indptr: Any, indices: Any, squares: bool, extra: float, threads: Any
) -> tuple[Any, Any]:
    from fastrec._core import cuda

    x = _features_of(values, parameters, indptr, indices)
    xp = arrays.namespace(values)
    scores = xp.empty(x.rows)
    norms = xp.empty(x.rows) if squares else None
    cuda.kernel("learning.cu", "fr_linear_forward", FR_WIDE=wide(x))(
        cuda.blocks(x.rows, 32), 256, values, indptr, indices, cuda.i64(x.rows), cuda.i64(x.columns), parameters,
        cuda.f64(extra), scores, norms,
    )  # fmt: skip
    return scores, norms


def wide(x: Features) -> int:
    """``FR_WIDE`` of kernels/cuda/learning.cu."""
    return int(x.values.dtype == np.float64)


@linear_forward.cases
def _(rng: Any) -> Iterator[dict[str, Any]]:
    for rows, columns, dtype in [(0, 3, np.float32), (5, 0, np.float64), (1, 1, np.float32), (67, 17, np.float32),
                                 (130, 64, np.float64)]:  # fmt: skip
        parameters = rng.standard_normal(columns + 1)
        dense = rng.standard_normal((rows, columns)).astype(dtype)
        yield {"values": dense, "parameters": parameters, "squares": True, "extra": 1.0}
        from scipy.sparse import csr_array

        sparse = csr_array(np.where(rng.random((rows, columns)) < 0.3, dense, 0))
        yield {
            "values": sparse.data,
            "parameters": parameters,
            "indptr": sparse.indptr.astype(np.int64),
            "indices": sparse.indices.astype(np.int32),
            "squares": True,
        }


def forward(
    x: Features, parameters: Any, *, squares: bool = False, extra: float = 0.0, threads: int | None = None
) -> tuple[Any, Any]:
    """:func:`linear_forward` of ``Features``; both must be on one device."""
    arrays.common_device(X=x.values, parameters=parameters)
    if isinstance(x.values, np.ndarray):
        return _forward(x, parameters, squares, extra, threads)
    return linear_forward(x.values, parameters, x.indptr, x.indices, squares, extra, threads)
