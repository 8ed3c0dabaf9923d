"""An operation, written once: a contract, a reference anyone can read, and optional compiled kernels.

::

    @operation(arrays=("scores",))
    def select_topk(scores, k):
        '''...the public docstring: shapes, dtypes, order, ties, NaN, empty input, cost, errors, source...'''
        scores = checks.matrix(scores, "scores")                 # validate, and return what kernels receive
        return {"scores": scores, "k": checks.integer(k, "k", low=1)}

    @select_topk.reference
    def _(xp, scores, k): ...                                    # NumPy / CuPy, the specification

    @select_topk.cpu
    def _(scores, k): ...                                        # calls the compiled kernel

    @select_topk.cases
    def _(rng): yield {"scores": ..., "k": 10}                   # what tests and benchmarks run

Calling the operation validates, looks where the arrays named in ``arrays`` live, and runs the kernel for that device,
or the reference where there is none.  ``OPERATIONS`` holds them all by name: the parity tests, the benchmark and the
documentation loop over it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from fastrec._core import arrays as _arrays

OPERATIONS: dict[str, Operation] = {}


class Operation:
    """A callable with a contract, a reference and kernels; see the module's docstring."""

    def __init__(
        self, contract: Callable[..., Mapping[str, Any]], arrays: tuple[str, ...], rtol: float
    ) -> None:
        functools.update_wrapper(self, contract)
        self.name = contract.__name__
        self.arrays = arrays
        self.rtol = rtol
        self._contract = contract
        self._paths: dict[str, Callable[..., Any]] = {}
        self._cases: Callable[..., Iterator[dict[str, Any]]] | None = None

    def reference(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Register the readable specification, ``function(xp, **arguments)``."""
        self._paths["reference"] = function
        return function

    def cpu(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Register the compiled CPU path."""
        self._paths["cpu"] = function
        return function

    def cuda(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Register the CUDA path."""
        self._paths["cuda"] = function
        return function

    def cases(self, function: Callable[..., Iterator[dict[str, Any]]]) -> Callable[..., Any]:
        """Register a generator of arguments, ``function(rng)``, that tests and benchmarks run."""
        self._cases = function
        return function

    def backends(self) -> list[str]:
        """The paths that exist: ``reference``, ``cpu``, ``cuda``."""
        return list(self._paths)

    def examples(self, rng: Any) -> Iterator[dict[str, Any]]:
        """Arguments to try the operation on."""
        return self._cases(rng) if self._cases is not None else iter(())

    def path_for(self, arguments: Mapping[str, Any]) -> str:
        """Which path validated ``arguments`` take: that of their device, or the reference where it has none."""
        place = _arrays.common_device(**{name: arguments[name] for name in self.arrays if name in arguments})
        device = "cpu" if place == _arrays.CPU else "cuda"
        return device if device in self._paths else "reference"

    def run(self, path: str, *args: Any, **kwargs: Any) -> Any:
        """Call on a named path, whatever the device would have chosen (tests compare paths this way)."""
        return self._run(path, self._contract(*args, **kwargs))

    def _run(self, path: str, arguments: Mapping[str, Any]) -> Any:
        if path not in self._paths:
            raise ValueError(f"operation {self.name!r} has no path {path!r}; it has {', '.join(self._paths)}")
        first = next((arguments[n] for n in self.arrays if arguments.get(n) is not None), None)
        with _arrays.current(first):
            try:
                if path != "reference":
                    return self._paths[path](**arguments)
                return self._paths["reference"](_arrays.namespace(first), **arguments)
            except MemoryError as error:
                if type(error).__name__ != "OutOfMemoryError":  # CuPy's
                    raise
                raise _named(error, self, arguments) from error

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with _arrays.stream_of(*args, *kwargs.values()):
            arguments = self._contract(*args, **kwargs)
            return self._run(self.path_for(arguments), arguments)

    def __reduce__(self) -> str:
        return self.name  # pickled by name, like a function, so that worker processes can be given one

    def __repr__(self) -> str:
        return f"<operation {self.name}: {', '.join(self._paths)}>"


def _named(error: MemoryError, operation: Operation, arguments: Mapping[str, Any]) -> MemoryError:
    found = ((name, arguments.get(name)) for name in operation.arrays)
    sizes = ", ".join(f"`{n}` {'x'.join(map(str, a.shape))} {a.dtype}" for n, a in found if a is not None)
    return MemoryError(
        f"there is no room on the GPU for {operation.name} of {sizes}: {error}. Free memory there (CuPy keeps what was "
        "freed: `cupy.get_default_memory_pool().free_all_blocks()`), or pass fewer rows at a time"
    )


def operation(
    *, arrays: tuple[str, ...], rtol: float = 0.0
) -> Callable[[Callable[..., Mapping[str, Any]]], Operation]:
    """Make an operation of a contract and register it.

    ``arrays`` are the arguments that decide the device.  ``rtol`` is how far, relative to the largest value, a kernel's
    floating-point results may lie from the reference's; 0, the default, promises every bit.  Kernels must agree with
    each other to the bit whatever it is.
    """

    def wrap(contract: Callable[..., Mapping[str, Any]]) -> Operation:
        made = Operation(contract, arrays, rtol)
        if made.name in OPERATIONS:
            raise ValueError(f"operation {made.name!r} is already registered")
        OPERATIONS[made.name] = made
        return made

    return wrap
