"""A user's metric on a card: its function, compiled by Numba for CUDA, one thread a query.

``fr_rank_metrics`` (measure.cu) leaves what it found of each list; a thread lays that out as the arrays that the
function takes on the CPU, in columns of scratch so that neighbouring threads write neighbouring words, and calls it.
An exception ends the thread and leaves ``failed`` in the query's count of faults; the caller raises it again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import cuda  # whoever imports this module has looked whether it is there


def make(function: Callable[..., Any], takes_k: bool) -> Any:
    """The kernel of a function of ``(gains, ideal, k)`` or ``(gains, ideal)``; compiled when first launched."""
    inner = cuda.jit(device=True)(function)

    @cuda.jit
    def custom_metric(
        lengths, found, positions, found_gains, truth_ptr, truth_gains, graded, k, row, truth_row, column, failed,
        fault, counts, out,
    ):  # fmt: skip
        thread = cuda.grid(1)
        if thread < row.shape[1]:
            for q in range(thread, out.shape[0], row.shape[1]):
                n, first = lengths[q], truth_ptr[q]
                judged = truth_ptr[q + 1] - first
                for i in range(n):
                    row[i, thread] = 0.0
                for e in range(first, first + found[q]):
                    row[positions[e], thread] = found_gains[e]
                for i in range(judged):
                    truth_row[i, thread] = truth_gains[first + i] if graded else 1.0
                before = counts[q, fault]
                counts[q, fault] = failed
                gains, ideal = row[:n, thread], truth_row[:judged, thread]
                if takes_k:
                    out[q, column] = float(inner(gains, ideal, n if k < 0 else k))
                else:
                    out[q, column] = float(inner(gains, ideal))
                counts[q, fault] = before

    return custom_metric
