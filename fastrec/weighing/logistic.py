"""Functions of the logit and the label of a sample, each accurate to the last places at either end.

With the label t = -1 or +1 and the margin m = t z, everything is written through exp(-|m|): the textbook form
``sigma(z) - y`` rounds to 0 in float32 beyond |z| = 17, where the residual is still 4e-8.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fastrec._core import arrays, checks
from fastrec._core import threads as _threads
from fastrec._core.op import operation
from fastrec._kernels import learning


def _residual(xp: Any, logits: Any, target: Any) -> Any:
    return -target * xp.exp(-xp.logaddexp(0.0, target * logits))


# kind -> its definition as (xp, logits, target, squares); the kernel knows the same names.
FORMULAS: dict[str, Callable[[Any, Any, Any, Any], Any]] = {
    "probability": lambda xp, z, t, s: xp.exp(-xp.logaddexp(0.0, -z)),
    "loss": lambda xp, z, t, s: xp.logaddexp(0.0, -t * z),
    "residual": lambda xp, z, t, s: _residual(xp, z, t),
    "error": lambda xp, z, t, s: abs(_residual(xp, z, t)),
    "el2n": lambda xp, z, t, s: np.sqrt(2.0) * abs(_residual(xp, z, t)),
    "norm": lambda xp, z, t, s: abs(_residual(xp, z, t)) * xp.sqrt(s),
}


@operation(arrays=("logits", "target", "squares", "weight"), rtol=1e-13)
def logistic_map(
    kind: str,
    logits: Any,
    target: Any = None,
    squares: Any = None,
    weight: Any = None,
    dtype: Any = np.float32,
    threads: int | None = None,
) -> dict[str, Any]:
    """A function of every sample's logit z and label t, times its weight.

    Parameters
    ----------
    kind : str
        ``"probability"`` sigma(z); ``"loss"`` log(1 + exp(-t z)); ``"residual"`` -t sigma(-t z), the derivative of the
        loss; ``"error"`` its absolute value; ``"el2n"`` sqrt(2) times that; ``"norm"`` error times sqrt(squares).
    logits : (n,) float64 array
    target : (n,) int8 array of -1 and +1
        Not needed for ``"probability"``.
    squares : (n,) float64 array
        For ``"norm"``: the squared norm of the logit's gradient with respect to the parameters.
    weight : (n,) float64 array, optional
    dtype : float32 or float64
        Of the result; computed in float64 and rounded once.
    threads : int, optional

    Returns
    -------
    (n,) array of ``dtype``
        Within 4 units in the last place of the exact value (0 where the residual would be below 3e-308); the same bits
        on any number of threads and any instruction set.
    """
    checks.choice(kind, "kind", FORMULAS)
    logits = checks.vector(logits, "logits", dtype=np.float64)
    like = "to match `logits`"
    if kind != "probability":
        target = checks.vector(target, "target", dtype=np.int8, size=len(logits), like=like)
    if kind == "norm":
        squares = checks.vector(squares, "squares", dtype=np.float64, size=len(logits), like=like)
    if weight is not None:
        weight = checks.vector(weight, "weight", dtype=np.float64, size=len(logits), like=like)
    return {
        "kind": kind,
        "logits": logits,
        "target": target if kind != "probability" else None,
        "squares": squares if kind == "norm" else None,
        "weight": weight,
        "dtype": np.dtype(dtype),
        "threads": threads,
    }


@logistic_map.reference
def _(
    xp: Any, kind: str, logits: Any, target: Any, squares: Any, weight: Any, dtype: Any, threads: Any
) -> Any:
    signs = None if target is None else target.astype(np.float64)
    result = FORMULAS[kind](xp, logits, signs, squares)
    return (result if weight is None else result * weight).astype(dtype)


@logistic_map.cpu
def _(kind: str, logits: Any, target: Any, squares: Any, weight: Any, dtype: Any, threads: Any) -> Any:
    out = np.empty(len(logits), dtype)
    learning.logistic_map(kind, logits, target, squares, weight, out, _threads.resolve(threads))
    return out


@logistic_map.cuda
def _(kind: str, logits: Any, target: Any, squares: Any, weight: Any, dtype: Any, threads: Any) -> Any:
    from fastrec._core import cuda

    out = arrays.namespace(logits).empty(len(logits), dtype)
    half = out.dtype == np.float32
    cuda.kernel("learning.cu", "fr_logistic_map", FR_WIDE=0)(
        cuda.blocks(len(out), 256), 256, logits, target, squares, weight, cuda.i64(len(out)),
        cuda.i32(learning.KINDS.index(kind)), out if half else None, None if half else out,
    )  # fmt: skip
    return out


@logistic_map.cases
def _(rng: Any) -> Iterator[dict[str, Any]]:
    for rows in (0, 1, 7, 8, 9, 1000):
        logits = rng.standard_normal(rows) * 20
        for kind in FORMULAS:
            yield {
                "kind": kind,
                "logits": logits,
                "target": rng.integers(0, 2, rows).astype(np.int8) * 2 - 1,
                "squares": rng.random(rows),
                "weight": rng.random(rows),
                "dtype": np.float64,
            }
