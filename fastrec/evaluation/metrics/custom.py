"""``@fr.metric``: a user's function as a metric, compiled by Numba when first used and run inside the same pass."""

from __future__ import annotations

import importlib
import inspect
import math
import re
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from fastrec.evaluation.metrics import REGISTRY, register
from fastrec.evaluation.metrics.base import Metric, Query

Function = TypeVar("Function", bound=Callable[..., Any])
_NAME = re.compile(r"^[A-Za-z_][\w\-]*(@k)?$")


def metric(name: str) -> Callable[[Function], Function]:
    """Register a function of one query as a metric.

    Parameters
    ----------
    name : ``"my_metric@k"``, then asked for as ``"my_metric@10"`` (or ``"my_metric"``, for the whole list), or
        ``"my_metric"`` for one that takes no cutoff.

    The function is called as ``function(gains, ideal, k)`` (or without ``k`` where it takes two arguments):

    gains : (n,) float64, the gain of every item of the list, best first; 0 where there is no judgement
    ideal : (m,) float64, the gains of all judged items of the query, descending
    k : int, the cutoff; the list's length without one

    and returns a number; NaN means undefined for this query (left out of the mean, and counted).  It must be code that
    Numba compiles (loops, arithmetic, NumPy); an exception that it raises (``IndexError`` beyond an array, for one)
    comes back as it is, from the line that raised it.
    Defining a name again replaces it; the name of a built-in metric is a ``ValueError``.

    Where lists and truth are on a card, Numba compiles the function for CUDA, and one thread runs it for each query: it
    must keep to what Numba knows there (loops and arithmetic; no NumPy functions of arrays), and its multiplications
    and additions may be fused, so that the last digits can differ from the CPU's.  Needs ``numba-cuda``, which
    ``fastrec[cuda]`` brings.

    Examples
    --------
    >>> import fastrec as fr
    >>> @fr.metric("last_hit@k")
    ... def last_hit(gains, ideal, k):
    ...     rank = 0
    ...     for i in range(min(k, len(gains))):
    ...         if gains[i] > 0:
    ...             rank = i + 1
    ...     return rank
    >>> fr.evaluate({"q": ["a", "b", "c"]}, {"q": ["a", "b"]}, ["last_hit@10"])["last_hit@10"]
    2.0
    """
    if not isinstance(name, str) or not _NAME.match(name):
        raise ValueError(f"`name` must look like 'my_metric@k' or 'my_metric'; got {name!r}")
    base, _, cutoff = name.partition("@")
    known = REGISTRY.get(base)
    if known is not None and known.function is None:
        raise ValueError(f"{base!r} is a built-in metric; choose another name")

    def wrap(function: Function) -> Function:
        compiled = Compiled(function)
        register(
            Metric(base, compiled.define, "custom", takes_cutoff=bool(cutoff), function=compiled),
            replace=True,
        )
        function.__fastrec_metric__ = base  # type: ignore[attr-defined]
        return function

    return wrap


class Compiled:
    """A user's function: as it is, and (from its first use on) as the address of a C function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        if not callable(function):
            raise TypeError(f"a metric must be a function; got {type(function).__name__}")
        function = getattr(function, "py_func", function)  # what Numba has compiled is compiled anew
        self.function = function
        arguments = inspect.signature(function).parameters
        if len(arguments) not in (2, 3):
            raise TypeError(
                f"a metric takes (gains, ideal, k) or (gains, ideal); "
                f"{function.__name__!r} takes {len(arguments)} arguments"
            )
        self.takes_k = len(arguments) == 3
        self._compiled: Any = None
        self._on_card: Any = None

    def define(self, q: Query) -> float:
        k = len(q.gains) if q.cutoff is None else q.cutoff
        arguments = (q.gains.copy(), q.truth.copy(), k)
        value = self.function(*arguments[: 3 if self.takes_k else 2])
        self._check(value)
        return float(value)

    @property
    def address(self) -> int:
        if self._compiled is None:
            self._compiled = self._compile()
        return int(self._compiled.address)

    @property
    def on_card(self) -> Any:
        """The function as a Numba kernel for CUDA (``kernels/cuda/custom_metric.py``)."""
        if self._on_card is None:
            from fastrec._core import cuda

            cuda.require_numba()
            kernel = importlib.import_module(
                "fastrec._kernels.cuda.custom_metric"
            )  # which imports numba.cuda
            self._on_card = kernel.make(self.function, self.takes_k)
        return self._on_card

    def _compile(self) -> Any:
        import numba
        from numba import types

        inner = numba.njit(self.function, error_model="numpy", boundscheck=True)
        takes_k, nan = self.takes_k, math.nan
        doubles, integers = types.CPointer(types.float64), types.CPointer(types.int64)

        def call(gains, n, ideal, m, k, status):
            listed = numba.carray(gains, (n,))
            best = numba.carray(ideal, (m,))
            try:
                if takes_k:
                    return 1.0 * inner(listed, best, n if k < 0 else k)
                return 1.0 * inner(listed, best)
            except Exception:  # the one kind that Numba compiles
                status[0] = 1
                return nan

        signature = types.float64(doubles, types.int64, doubles, types.int64, types.int64, integers)
        try:
            return numba.cfunc(signature)(call)
        except Exception as error:  # Numba has many
            self._returns_a_number()
            raise TypeError(f"{self._named} is not code that Numba compiles: {error}") from error

    @property
    def _named(self) -> str:
        code = self.function.__code__
        return f"the metric {self.function.__name__!r} ({code.co_filename}:{code.co_firstlineno})"

    def _returns_a_number(self) -> None:
        """Say so where it returns something else: Numba's own words are about types of its own."""
        try:
            value = self.function(*(np.ones(1), np.ones(1), 1)[: 3 if self.takes_k else 2])
        except Exception:
            return  # the user's function may raise anything; what Numba said is then all there is to say
        self._check(value)

    def _check(self, value: Any) -> None:
        if not isinstance(value, (int, float, np.number, np.bool_)):
            raise TypeError(f"{self._named} must return a number; it returns {type(value).__name__}")

    def __reduce__(self) -> Any:  # addresses do not travel between processes
        return Compiled, (self.function,)
