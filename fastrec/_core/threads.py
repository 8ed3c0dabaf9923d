"""How many threads a call uses.  Results never depend on it."""

from __future__ import annotations

import functools
import operator
import os

MAX_THREADS = 1024
_default: int | None = None


def _available() -> int:
    """Processors this process may use: its affinity mask and its container's quota, not the machine's count."""
    try:
        processors = len(os.sched_getaffinity(0))
    except AttributeError:  # not on this platform
        processors = os.cpu_count() or 1
    return min(processors, _quota() or processors)


@functools.cache
def _quota(path: str = "/sys/fs/cgroup/cpu.max") -> int | None:
    """Processors' worth of time that a container allows (``docker --cpus``, a Kubernetes limit), rounded up."""
    try:
        with open(path) as file:
            quota, period = file.read().split()
        return None if quota == "max" else max(1, -(-int(quota) // int(period)))
    except (OSError, ValueError):
        return None


def _check(value: object, name: str) -> int:
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"`{name}` must be an integer; got {type(value).__name__} {value!r}") from None
    if not 1 <= number <= MAX_THREADS or isinstance(value, bool):
        raise ValueError(f"`{name}` must be between 1 and {MAX_THREADS}; got {value!r}")
    return number


def get_threads() -> int:
    """Threads a call uses when it is not told otherwise.

    In this order: what :func:`set_threads` set, the environment variable ``FASTREC_THREADS``, and the number of
    processors this process may use (its affinity mask, and the quota of its container).
    """
    if _default is not None:
        return _default
    text = os.environ.get("FASTREC_THREADS")
    if text:
        try:
            return _check(int(text), "FASTREC_THREADS")
        except ValueError:
            raise ValueError(
                f"`FASTREC_THREADS` must be an integer between 1 and {MAX_THREADS}; got {text!r}"
            ) from None
    return min(_available(), MAX_THREADS)


def set_threads(threads: int | None) -> None:
    """Set the number of threads that calls use by default; ``None`` restores the automatic choice."""
    global _default
    _default = None if threads is None else _check(threads, "threads")


def resolve(threads: int | None) -> int:
    """The thread count of one call: its ``threads=`` argument, or the default."""
    return get_threads() if threads is None else _check(threads, "threads")
