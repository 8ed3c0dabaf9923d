"""The two resampling products under every interval and test: bootstrap sums and sign-flipped sums.

Both are one matrix product ``weights (replicates, queries) @ values (queries, columns)`` whose weights are
made while they are multiplied and never stored, so all metrics of an evaluation share the same replicates and
pay for the random numbers once.

Random numbers come from SplitMix64 (Steele, Lea and Flood, *Fast splittable pseudorandom number generators*,
OOPSLA 2014) read as a function of a counter: replicate ``r`` of a seed is the same whichever thread makes it,
whichever tile it falls into and however many replicates are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np

from fastrec._core import arrays as _arrays
from fastrec._core import checks
from fastrec._core import threads as _threads
from fastrec._core.op import operation
from fastrec._kernels import resample as _kernel

MAX_QUERIES = 2**32 - 1  # a draw is the high half of a 64 x 32 bit product
SCRATCH = 256 << 20  # bytes of draws that a card counts at a time
BLOCK = 128  # queries summed at a time; with the order within it, part of the result's definition
_GOLDEN = 0x9E3779B97F4A7C15
_WORD = 2**64


def rounding(queries: int) -> float:
    """Bound on the relative rounding error of a sum over ``queries``: what counts as a tie between two of
    them."""
    return (BLOCK + queries / BLOCK + 2) * float(np.finfo(np.float64).eps)


def _validate(values: Any, replicates: Any, seed: Any, first: Any, threads: int | None) -> dict[str, Any]:
    values = checks.matrix(values, "values", dtype=np.float64)
    if len(values) > MAX_QUERIES:
        raise ValueError(f"`values` must have at most {MAX_QUERIES} rows; got {len(values)}")
    if not bool(_arrays.namespace(values).isfinite(values).all()):
        raise ValueError(
            "`values` must be finite; replace NaN by 0 and give its mask as a further column to divide by"
        )
    return {
        "values": values,
        "replicates": checks.integer(replicates, "replicates", low=0),
        "seed": checks.integer(seed, "seed", low=0, high=_WORD - 1),
        "first": checks.integer(first, "first", low=0),
        "threads": _threads.resolve(threads),
    }


def _mix(state: Any) -> Any:
    """SplitMix64's output function on an array of uint64 states."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def _random_words(xp: ModuleType, seed: int, first: int, replicates: int, count: int) -> Any:
    """(replicates, count) uint64: each row the first ``count`` outputs of that replicate's own SplitMix64."""
    golden = np.uint64(_GOLDEN)
    root = _mix(xp.array([(seed + _GOLDEN) % _WORD], dtype=np.uint64))
    streams = _mix(root + (xp.arange(replicates, dtype=np.uint64) + np.uint64(first + 1)) * golden)
    return _mix(streams[:, None] + xp.arange(1, count + 1, dtype=np.uint64) * golden)


def bootstrap_counts(units: int, replicate: int, seed: int) -> np.ndarray:
    """(units,) float64: how often each unit is drawn in that replicate of :func:`bootstrap_sums`."""
    return np.bincount(_drawn(np, seed, replicate, 1, units)[0], minlength=units).astype(np.float64)


def _drawn(xp: ModuleType, seed: int, first: int, replicates: int, units: int) -> Any:
    """(replicates, units) int64: the high words of random words times ``units``, spread over 0..units-1."""
    words = _random_words(xp, seed, first, replicates, units)
    n = np.uint64(units)
    high, low = words >> np.uint64(32), words & np.uint64(0xFFFFFFFF)
    return ((high * n + (low * n >> np.uint64(32))) >> np.uint64(32)).astype(np.int64)


def _weighted_sums(xp: ModuleType, weights: Any, values: Any) -> Any:
    """``weights @ values``, added in the kernels' order: within blocks of BLOCK queries, then block after
    block."""
    sums = xp.zeros((len(weights), values.shape[1]))
    for start in range(0, len(values), BLOCK):
        block = xp.zeros_like(sums)
        for query in range(start, min(start + BLOCK, len(values))):
            block += weights[:, query, None] * values[query]
        sums += block
    return sums


@operation(arrays=("values",))
def bootstrap_sums(
    values: Any, replicates: int, seed: int = 0, *, first: int = 0, threads: int | None = None
) -> dict[str, Any]:
    """Column sums of bootstrap replicates: queries drawn with replacement, as many as there are.

    Each replicate is a draw from the exact (multinomial) bootstrap.  Poisson weights, the usual shortcut for
    streams, would cost as much here (one random word a weight either way) and are only its limit: they change
    the number of queries from replicate to replicate and can draw none at all, which shows below a few
    hundred queries.

    Parameters
    ----------
    values : (Q, M) real, finite
        One row a query, one column a metric.
    replicates : int
    seed : int in 0..2**64-1
    first : int
        Number of the first replicate: ``bootstrap_sums(v, 9, first=1)`` is ``bootstrap_sums(v, 10)[1:]``.
    threads : int or None

    Returns
    -------
    (replicates, M) float64
        ``sum over q of (times q was drawn) * values[q]``; zeros where Q is 0.  The same bits for any number
        of threads, any instruction set and any split of the replicates.

    Notes
    -----
    O(replicates * Q * M) time; scratch 16 (Q + 8 M) bytes a thread, the size of two columns of ``values`` (on a card
    4 bytes a query and replicate, at most 256 MB).
    Source: Efron, *Bootstrap methods: another look at the jackknife*, Annals of Statistics 1979.
    """
    return _validate(values, replicates, seed, first, threads)


@bootstrap_sums.reference
def _(xp: ModuleType, values: Any, replicates: int, seed: int, first: int, threads: int) -> Any:
    weights = xp.zeros((replicates, len(values)))
    drawn = _drawn(xp, seed, first, replicates, len(values))
    xp.add.at(weights, (xp.arange(replicates)[:, None], drawn), 1.0)
    return _weighted_sums(xp, weights, values)


@bootstrap_sums.cpu
def _(values: Any, replicates: int, seed: int, first: int, threads: int) -> np.ndarray:
    queries, columns = values.shape
    threads = min(threads, -(-replicates // _kernel.LANES) or 1)
    sums = np.empty((replicates, columns))
    counts = np.empty(threads * queries * _kernel.LANES, np.uint8)
    totals = np.empty(threads * columns * _kernel.LANES)
    _kernel.bootstrap(values, seed, first, sums, counts, totals, threads)
    return sums


@bootstrap_sums.cuda
def _(values: Any, replicates: int, seed: int, first: int, threads: int) -> Any:
    return _on_card(values, replicates, seed, first, draws=True)


def _on_card(values: Any, replicates: int, seed: int, first: int, draws: bool) -> Any:
    """Either product on a card, without waiting for it; counts of draws for some replicates at a time."""
    from fastrec._core import cuda

    queries, columns = values.shape
    blocks = -(-queries // BLOCK)
    draw = cuda.kernel("resample.cu", "fr_bootstrap_draw")
    add = cuda.kernel("resample.cu", "fr_block_sums")
    each = 8 * blocks * columns + (4 * queries if draws else 0)  # bytes of scratch of a replicate
    step = max(1, min(replicates, SCRATCH // max(each, 1)))
    with cuda.on(values) as xp:
        sums = xp.empty((replicates, columns), np.float64)
        for begin in range(0, replicates, step):
            some = min(step, replicates - begin)
            start, size = np.uint64(first + begin), cuda.i64(some)
            counts, parts = None, xp.empty((blocks, columns, some), np.float64)
            if draws:
                counts = xp.zeros((queries, some), np.uint32)
                draw(_blocks(some * queries), 256, np.uint64(seed), start, size, cuda.i64(queries), counts)
            add(
                _blocks(parts.size), 256, values, cuda.i64(queries), cuda.i64(columns), counts, np.uint64(seed),
                start, size, parts,
            )  # fmt: skip
            cuda.kernel("resample.cu", "fr_add_blocks")(
                _blocks(some * columns), 256, parts, cuda.i64(blocks), cuda.i64(columns), size,
                sums[begin : begin + some],
            )  # fmt: skip
    return sums


def _blocks(threads: int) -> int:
    return min(-(-threads // 256), 1 << 16)


@operation(arrays=("values",))
def sign_flip_sums(
    values: Any, replicates: int, seed: int = 0, *, first: int = 0, threads: int | None = None
) -> dict[str, Any]:
    """Column sums of ``values`` after each row's sign was flipped or not by a fair coin.

    This is the null distribution of a paired randomisation test: if two runs are exchangeable, every query's
    difference is as likely to be minus itself.  All columns of a query flip together.

    Parameters
    ----------
    values : (Q, M) real, finite
        One row a query, one column a metric (or a pair of runs).
    replicates : int
    seed : int in 0..2**64-1
    first : int
        Number of the first replicate, as in :func:`bootstrap_sums`.
    threads : int or None

    Returns
    -------
    (replicates, M) float64
        ``sum over q of (+1 or -1) * values[q]``; zeros where Q is 0.  The same bits for any number of
        threads, any instruction set and any split of the replicates.

    Notes
    -----
    O(replicates * Q * M) time; scratch 128 M bytes a thread.
    Source: Fisher, *The design of experiments*, 1935; for search, Smucker, Allan and Carterette, CIKM 2007.
    """
    return _validate(values, replicates, seed, first, threads)


@sign_flip_sums.reference
def _(xp: ModuleType, values: Any, replicates: int, seed: int, first: int, threads: int) -> Any:
    queries = len(values)
    words = _random_words(xp, seed, first, replicates, -(-queries // 64))
    query = xp.arange(queries)
    bits = words[:, query // 64] >> (query % 64).astype(np.uint64) & np.uint64(1)
    return _weighted_sums(xp, 1.0 - 2.0 * bits, values)


@sign_flip_sums.cpu
def _(values: Any, replicates: int, seed: int, first: int, threads: int) -> np.ndarray:
    columns = values.shape[1]
    threads = min(threads, -(-replicates // _kernel.LANES) or 1)
    sums = np.empty((replicates, columns))
    totals = np.empty(threads * columns * _kernel.LANES)
    _kernel.sign_flip(values, seed, first, sums, totals, threads)
    return sums


@sign_flip_sums.cuda
def _(values: Any, replicates: int, seed: int, first: int, threads: int) -> Any:
    return _on_card(values, replicates, seed, first, draws=False)


@bootstrap_sums.cases
@sign_flip_sums.cases
def _cases(rng: Any) -> Iterator[dict[str, Any]]:
    for queries in (0, 1, 2, 63, 64, 65, 127, 128, 129, 300):
        for columns in (1, 3, 20, 23):
            yield {"values": rng.standard_normal((queries, columns)), "replicates": 33, "seed": 7}
    yield {"values": rng.standard_normal((50, 0)), "replicates": 5}
    yield {"values": rng.standard_normal((50, 2)), "replicates": 0}
    yield {
        "values": rng.standard_normal((50, 2)).astype(np.float32),
        "replicates": 17,
        "seed": 2**64 - 1,
        "first": 40,
    }
