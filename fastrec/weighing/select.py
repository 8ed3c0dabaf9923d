"""``fr.select``: which samples to keep, given a score for each, and the weight each keeps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastrec._core import arrays, checks, sums
from fastrec._core import threads as _threads
from fastrec._core.op import operation
from fastrec._kernels import learning

STRATEGIES = ("stratified", "sample", "top", "bottom", "random", "stratified_random")
# Above this many groups the kernel's histograms (16 KiB a group and thread) would outgrow the caches; sort instead.
_MOST_GROUPS = 256


@dataclass(frozen=True, slots=True)
class Selection:
    """The samples that were kept.

    Attributes
    ----------
    index : (m,) int64
        Their row numbers, ascending and unique, so that ``X[kept.index]`` reads memory forwards.
    weight : (m,) float32
        What each stands for: 1 / (its probability of being kept) after ``strategy="sample"``, 1 otherwise.  Pass it
        as ``sample_weight`` when you fit.
    rows : int
        How many there were to choose from.

    Unpacks as ``index, weight = kept``.
    """

    index: Any
    weight: Any
    rows: int

    def __len__(self) -> int:
        return len(self.index)

    def __iter__(self) -> Iterator[Any]:
        yield self.index
        yield self.weight

    @property
    def mask(self) -> Any:
        """(rows,) bool: which rows were kept."""
        with arrays.current(self.index):
            kept = arrays.namespace(self.index).zeros(self.rows, dtype=bool)
            kept[self.index] = True
            return kept


@operation(arrays=("scores", "groups"))
def select_rows(
    scores: Any, need: Any, groups: Any = None, smallest: bool = False, threads: int | None = None
) -> dict[str, Any]:
    """The rows with the largest (or smallest) scores of every group, in ascending order of row number.

    Parameters
    ----------
    scores : (n,) float32 or float64 array without NaN
        Infinities are ordered like numbers; -0.0 equals 0.0.
    need : sequence of int
        How many rows to take of each group, at most as many as it has.
    groups : (n,) int32 array of 0..len(need)-1, optional
        Without it there is one group.
    smallest : bool
        Take the smallest scores instead.
    threads : int, optional
        The result does not depend on it.

    Returns
    -------
    (sum(need),) int64
        Of rows with equal scores, those with smaller numbers are taken first, in both directions.

    Cost: a radix selection on (score, row): 2 to 4 reads of the scores (up to 8 for float64), no sort; scratch of 16
    KiB a group and thread.
    """
    scores = checks.real(scores, "scores")
    scores = checks.vector(scores, "scores", dtype=np.float32 if scores.dtype == np.float32 else np.float64)
    need = [checks.integer(count, "need", low=0) for count in need]
    sizes = [len(scores)]
    if groups is not None:
        groups = checks.vector(groups, "groups", dtype=np.int32, size=len(scores), like="to match `scores`")
        if len(groups) and not 0 <= groups.min() <= groups.max() < len(need):
            raise ValueError(f"`groups` must lie in 0..{len(need) - 1}")
        sizes = arrays.namespace(groups).bincount(groups, minlength=len(need)).tolist()
    if len(need) != len(sizes) or any(count > size for count, size in zip(need, sizes)):
        raise ValueError(f"`need` must ask for at most what each group has, {sizes}; got {need}")
    return {"scores": scores, "need": need, "groups": groups, "smallest": bool(smallest), "threads": threads}


@select_rows.reference
def _(xp: Any, scores: Any, need: list[int], groups: Any, smallest: bool, threads: Any) -> Any:
    scores = scores + 0.0
    labels = xp.zeros(len(scores), dtype=np.int32) if groups is None else groups
    order = xp.lexsort(xp.stack([xp.arange(len(scores)), scores if smallest else -scores, labels]))
    sizes = xp.bincount(labels, minlength=len(need))
    starts = xp.cumsum(sizes) - sizes
    labels = labels[order]
    rank = xp.arange(len(scores)) - starts[labels]  # place within the group
    return xp.sort(order[rank < xp.asarray(need)[labels]])


@select_rows.cpu
def _best_rows(scores: Any, need: list[int], groups: Any, smallest: bool, threads: int | None) -> Any:
    if len(need) > _MOST_GROUPS:
        return select_rows.run("reference", scores, need, groups, smallest)
    out = np.empty(sum(need), dtype=np.int64)
    learning.select_rows(scores, groups, need, smallest, out, _threads.resolve(threads))
    return out


@select_rows.cuda
def _(scores: Any, need: list[int], groups: Any, smallest: bool, threads: Any) -> Any:
    """Two stable sorts of indices by integers, which CuPy does by radix: by score, then by group."""
    xp = arrays.namespace(scores)
    unsigned, high = (np.uint32, 1 << 31) if scores.dtype == np.float32 else (np.uint64, 1 << 63)
    bits = (scores + 0.0).view(unsigned)  # -0.0 is 0.0
    codes = xp.where(bits >= unsigned(high), ~bits, bits | unsigned(high))  # in the order of the scores
    order = xp.argsort(codes if smallest else ~codes)
    if groups is None:
        return xp.sort(order[: need[0]])
    labels = groups[order]
    by_group = xp.argsort(labels)
    order, labels = order[by_group], labels[by_group]
    starts = xp.searchsorted(labels, xp.arange(len(need), dtype=np.int32))
    rank = xp.arange(len(scores)) - starts[labels]
    return xp.sort(order[rank < xp.asarray(np.array(need, np.int64))[labels]])


@select_rows.cases
def _(rng: Any) -> Iterator[dict[str, Any]]:
    for rows in (0, 1, 2, 100, 70_000):
        for dtype in (np.float32, np.float64):
            scores = rng.choice([rng.standard_normal(rows), rng.integers(-2, 3, rows) * 0.5]).astype(dtype)
            for taken in {0, rows // 10, rows - 1, rows} - {-1}:
                yield {"scores": scores, "need": [taken], "smallest": bool(taken % 2)}
            groups = rng.integers(0, 3, rows).astype(np.int32)
            yield {"scores": scores, "need": list(np.bincount(groups, minlength=3) // 2), "groups": groups}


@arrays.following
def select(
    scores: Any,
    fraction: float | None = None,
    *,
    n: int | None = None,
    strategy: str = "stratified",
    y: Any = None,
    uniform: float = 0.1,
    seed: int = 0,
    threads: int | None = None,
) -> Selection:
    """Choose the samples to keep.

    Parameters
    ----------
    scores : (N,) array of real numbers
        One a sample, larger meaning that it matters more, such as :func:`fastrec.importance` returns.  float32 is
        used as it is, other types as float64.  No NaN.
    fraction, n : float in [0, 1], or int
        How many to keep, one of the two: ``n`` samples, or ``fraction * N`` rounded half up.
    strategy : str
        * ``"stratified"`` (default): the largest scores within each class of ``y``, every class keeping its share.
        * ``"sample"``: random, without replacement, in proportion to the score, with weights that make weighted sums
          over the kept samples unbiased.
        * ``"top"``, ``"bottom"``: the largest, or smallest, scores of all.
        * ``"random"``, ``"stratified_random"``: without regard to the scores: the baselines to compare with.
    y : (N,) array
        The class (or any other group) of each sample, for the stratified strategies: numbers, strings, bools.
    uniform : float in [0, 1]
        For ``"sample"``: the part of the probability that is spread evenly, which bounds the weights by
        ``N / (uniform * n)``.
    seed : int
        Of the strategies that draw.  The same seed gives the same rows on every machine, and on a card.
    threads : int, optional
        The result does not depend on it.

    Returns
    -------
    Selection
        ``.index`` (int64, ascending), ``.weight`` (float32); see there.

    Raises
    ------
    ValueError
        NaN scores (the first is named), ``n`` above N, a stratified strategy without ``y``, negative or infinite
        scores to sample by.

    Notes
    -----
    Equal scores: the smaller row number is kept first, whether the largest or the smallest are wanted.

    Stratified: of n kept, class c gets ``n * N_c / N`` rounded down, and what is left goes to the largest remainders,
    the smaller class first.  So class shares survive, but within a class the hardest samples still do: a model trained
    on them needs calibrating again.

    ``"sample"``: row i is kept with probability ``pi_i = min(1, c q_i)``, ``q_i = (1 - uniform) s_i / sum(s) + uniform
    / N``, c such that the ``pi_i`` add up to n (in multiples of 2^-32; the weight is the exact inverse of what was
    used), by systematic sampling over a random order (Madow 1949; Hartley and Rao 1962): exactly n rows, each at most
    once.  ``sum(weight * f[index])`` is then an unbiased estimate of ``sum(f)`` for every f that is 0 where ``pi_i``
    is 0 (nowhere, unless ``uniform=0``).

    ``"top"`` on a hardness score changes the class balance and destroys calibration: see :func:`fastrec.importance`.

    Cost: no sort: a radix selection in O(N); top 10% of 10 million in some tens of milliseconds.

    Examples
    --------
    >>> import fastrec as fr
    >>> kept = fr.select([0.1, 0.9, 0.5, 0.9], n=2, strategy="top")
    >>> kept.index.tolist()
    [1, 3]
    >>> fr.select([0.1, 0.9, 0.5, 0.2], n=2, y=[0, 0, 1, 1]).index.tolist()
    [1, 2]
    """
    checks.choice(strategy, "strategy", STRATEGIES)
    scores = checks.real(scores, "scores")
    scores = checks.vector(scores, "scores", dtype=np.float32 if scores.dtype == np.float32 else np.float64)
    with arrays.current(scores):
        return _selection(scores, fraction, n, strategy, y, uniform, seed, threads)


def _selection(
    scores: Any, fraction: Any, n: Any, strategy: str, y: Any, uniform: Any, seed: Any, threads: int | None
) -> Selection:
    xp = arrays.namespace(scores)
    _refuse_nan(xp, scores)
    rows = len(scores)
    size = _size(fraction, n, rows)
    seed = checks.integer(seed, "seed", low=0)
    groups, counts = None, [rows]
    if strategy.startswith("stratified"):
        if y is None:
            raise ValueError(
                f"strategy={strategy!r} keeps each class's share, so it needs the classes: pass `y`, "
                'or choose strategy="sample" (weighted), or "top" if the class balance may change'
            )
        arrays.common_device(scores=scores, y=arrays.adopt(y, "y"))
        groups, counts = _groups(y, rows)
    if strategy == "sample":
        uniform = checks.number(uniform, "uniform", low=0.0, high=1.0)
        index, weight = _sample(arrays.namespace(scores), scores, size, uniform, seed)
        return Selection(index, weight, rows)
    if strategy == "random":
        index = xp.asarray(np.sort(_permutation(rows, seed)[:size]))
        return Selection(index, xp.ones(size, dtype=np.float32), rows)
    if strategy == "stratified_random":
        scores = xp.asarray(_permutation(rows, seed).astype(np.float64))  # distinct, so no ties
    need = _shares(size, counts)
    best_rows = (
        _best_rows if xp is np else select_rows
    )  # validated already: counting the groups again takes longer
    index = best_rows(scores, need, groups, strategy == "bottom", threads)
    return Selection(index, xp.ones(size, dtype=np.float32), rows)


def _refuse_nan(xp: Any, scores: Any) -> None:
    if len(scores) and xp.isnan(scores.min()):
        row = int(xp.isnan(scores).argmax())
        raise ValueError(f"`scores` must not be NaN; the first NaN is in row {row}")


def _size(fraction: Any, n: Any, rows: int) -> int:
    if (fraction is None) == (n is None):
        both = "both" if n is not None else "neither"
        raise ValueError(f"give one of `fraction` and `n`; got {both}")
    if n is None:
        return min(rows, int(checks.number(fraction, "fraction", low=0.0, high=1.0) * rows + 0.5))
    size = checks.integer(n, "n", low=0)
    if size > rows:
        raise ValueError(
            f"`n` must be at most the number of scores, {rows}; got {size}. To keep all, pass fraction=1"
        )
    return size


def _permutation(rows: int, seed: int) -> Any:
    order = np.empty(rows, dtype=np.int64)
    learning.shuffle(order, seed % 2**64)
    return order


def _groups(y: Any, rows: int) -> tuple[Any, list[int]]:
    """Group numbers (int32, in the order of the sorted labels) and how many rows each group has."""
    labels = arrays.adopt(y, "y")
    if labels.shape != (rows,):
        raise ValueError(f"`y` must have shape ({rows},) to match `scores`; got {labels.shape}")
    xp = arrays.namespace(labels)
    if rows == 0:
        return xp.zeros(0, dtype=np.int32), [0]
    small = None
    if labels.dtype.kind in "iub":
        low, high = int(labels.min()), int(labels.max())
        if high - low < 2**16 and high < 2**63:  # number them by their value: no sort, no hashing
            small = (labels.astype(np.int64) - low if low else labels).astype(np.int32)
    if small is None and xp is np:
        import pandas as pd

        small = pd.factorize(labels, sort=True)[0]
        if small.min() < 0:
            raise ValueError(f"`y` must not have missing labels; the first is in row {int(small.argmin())}")
    elif small is None:
        small = xp.unique(labels, return_inverse=True)[1]
    counts = xp.bincount(small)
    if (counts == 0).any():  # values of y without a row
        small = (xp.cumsum(counts > 0) - 1).astype(np.int32)[small]
        counts = counts[counts > 0]
    return checks.contiguous(small, np.int32), [int(c) for c in counts]


def _shares(size: int, counts: list[int]) -> list[int]:
    """``size`` split in proportion to ``counts``: rounded down, then by largest remainder, the earlier group first."""
    total = sum(counts)
    if total == 0:
        return [0] * len(counts)
    shares = [size * count // total for count in counts]
    by_remainder = sorted(range(len(counts)), key=lambda g: (-(size * counts[g] % total), g))
    for group in by_remainder[: size - sum(shares)]:
        shares[group] += 1
    return shares


_BITS = 32
_ONE = 2**_BITS  # the probability 1


def _sample(xp: Any, scores: Any, size: int, uniform: float, seed: int) -> tuple[Any, Any]:
    """Systematic sampling in proportion to size over a random order: row numbers, and inverse probabilities."""
    rows = len(scores)
    if rows and not bool((scores.min() >= 0) & xp.isfinite(scores.max())):
        row = int((~xp.isfinite(scores) | (scores < 0)).argmax())
        raise ValueError(
            f'strategy="sample" needs finite scores that are not negative; got {float(scores[row])} in row {row}'
        )
    if size == 0:
        return xp.zeros(0, dtype=np.int64), xp.zeros(0, dtype=np.float32)
    units = _inclusion(xp, scores.astype(np.float64), size, uniform)
    order = xp.asarray(_permutation(rows, seed))
    start = int(np.random.SeedSequence([seed, rows, size]).generate_state(1, np.uint32)[0])
    ends = xp.cumsum(units[order])  # the last is size * 2^32
    hits = (ends - 1 - start) >> _BITS  # row k of the order is hit where start + j 2^32 lies in its interval
    hit = xp.ones(rows, dtype=bool)
    hit[0] = hits[0] >= 0
    hit[1:] = hits[1:] > hits[:-1]
    index = xp.sort(order[hit])
    return index, (_ONE / units[index]).astype(np.float32)


def _inclusion(xp: Any, scores: Any, size: int, uniform: float) -> Any:
    """Inclusion probabilities as multiples of 2^-32 (int64) that add up to ``size`` exactly."""
    rows = len(scores)
    largest = float(scores.max())
    if largest > 0:
        scores = scores / largest  # so that the sum neither overflows nor vanishes
        q = (1.0 - uniform) / sums.total(scores) * scores + uniform / rows
    elif uniform > 0:
        q = xp.full(rows, 1.0 / rows)
    else:
        q = scores
    possible = int((q > 0).sum())
    if possible < size:
        raise ValueError(
            f"cannot draw {size} samples: only {possible} have a score above 0 and uniform=0 gives the others no "
            "chance; lower `n`, or set `uniform` above 0"
        )
    certain = xp.zeros(rows, dtype=bool)
    while True:  # rows whose share exceeds 1 are kept for certain; the rest share what is left
        left = size - int(certain.sum())
        rest = sums.total(q[~certain])
        c = left / rest if rest > 0 else 0.0
        more = ~certain & (c * q >= 1.0)
        if left == 0 or not bool(more.any()):
            break
        certain |= more
    open_ = ~certain & (q > 0)
    units = xp.where(certain, _ONE, 0).astype(np.int64)
    units[open_] = xp.clip(xp.rint(c * q[open_] * _ONE), 1, _ONE - 1).astype(np.int64)
    return _settle(xp, units, size * _ONE - int(units.sum()))


def _settle(xp: Any, units: Any, excess: int) -> Any:
    """Spread what rounding left (``excess``, of either sign) evenly over the rows, the earlier by one more if need be.

    Rows without a chance keep none, rows with one keep some, and certain rows are touched only when no other can give.
    """
    step = 1 if excess > 0 else -1
    free = xp.flatnonzero((units > 1) & (units < _ONE - 1))
    if abs(excess) <= len(free):  # the rule: rounding leaves less than one unit a row
        units[free[: abs(excess)]] += step
        return units
    while excess:
        room = xp.where(units > 0, _ONE - 1 - units if step > 0 else units - 1, 0)
        room[units == _ONE] = 0
        if not bool((room > 0).any()):
            room = xp.where(units > 0, _ONE - units if step > 0 else units - 1, 0)
        free = xp.flatnonzero(room > 0)
        per = max(1, abs(excess) // len(free))
        change = xp.minimum(room[free], per)
        if per == 1:
            change[abs(excess) :] = 0
        units[free] += step * change
        excess -= step * int(change.sum())
    return units
