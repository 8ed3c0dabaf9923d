"""``merge_topk``: the top-k of several shards, joined."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastrec._core import arrays, checks
from fastrec.ranking import order
from fastrec.ranking.result import TopK


def merge_topk(tops: Sequence[TopK], k: int | None = None, *, offsets: Sequence[int] | None = None) -> TopK:
    """The ``k`` best of each query over several :class:`TopK` of the same queries.

    Parameters
    ----------
    tops : sequence of TopK
        One per shard, all with the same number of queries and on the same device.  Their k may differ.
    k : int, optional
        Items wanted; by default the largest k among ``tops``.
    offsets : sequence of int, optional
        Added to each shard's rows, to make them rows of the whole: ``offsets=[0, len(a)]`` where shard b follows a.
        Without it, rows are taken to be of the whole already.

    Returns
    -------
    TopK
        Score descending, then row ascending; with labels (``ids=``), equal scores come by shard, then by row, and
        ``rows`` counts through the concatenated shards.  Equal to the top-k of the unsplit items, to the bit, where
        each shard returned at least k items or all it had.

    Notes
    -----
    An item that several shards return appears several times: shards must not overlap.  Cost O(Q S k log(S k)).
    ``ValueError`` for an empty list, different numbers of queries, or a mix of labelled and unlabelled shards.

    Examples
    --------
    >>> import numpy as np, fastrec as fr
    >>> items = np.eye(4, dtype=np.float32)
    >>> halves = [fr.Index(items[:2]).topk(items, 1), fr.Index(items[2:]).topk(items, 1)]
    >>> fr.merge_topk(halves, offsets=[0, 2]).ids.ravel()
    array([0, 1, 2, 3])
    """
    tops = list(tops)
    if not tops:
        raise ValueError("`tops` must hold at least one TopK; got an empty list")
    for number, top in enumerate(tops):
        if not isinstance(top, TopK):
            raise TypeError(f"`tops[{number}]` must be a TopK; got {type(top).__name__}")
    arrays.common_device(**{f"tops[{i}]": top.rows for i, top in enumerate(tops)})
    sizes = {len(top) for top in tops}
    if len(sizes) > 1:
        raise ValueError(f"all `tops` must have the same number of queries; got {sorted(sizes)}")
    k = max(top.rows.shape[1] for top in tops) if k is None else checks.integer(k, "k", low=1)
    labels = None
    if any(top.labels is not None for top in tops):
        if any(top.labels is None for top in tops):
            raise ValueError("`tops` must all have labels (`ids=`), or none of them")
        if offsets is not None:
            raise ValueError("`offsets` is for shards without labels; leave it out")
        offsets = [0, *np.cumsum([len(top.labels) for top in tops])[:-1].tolist()]
        labels = np.concatenate([top.labels for top in tops])
    if offsets is not None and len(offsets) != len(tops):
        raise ValueError(f"`offsets` must have one entry per shard ({len(tops)}); got {len(offsets)}")
    with arrays.current(tops[0].rows):
        xp = arrays.namespace(tops[0].rows)
        moved = []
        for number, top in enumerate(tops):
            shift = 0 if offsets is None else checks.integer(offsets[number], f"offsets[{number}]", low=0)
            moved.append(xp.where(top.rows >= 0, top.rows + shift, -1))
        rows = xp.concatenate(moved, axis=1)
        scores = xp.concatenate([top.scores for top in tops], axis=1)
        # `best` on (Q, S k) at once: invalid last, then score, then row
        key = xp.where((rows >= 0) & ~xp.isnan(scores), -scores, xp.nan)
        first = xp.argsort(rows, axis=1, kind="stable")
        key = xp.take_along_axis(key, first, axis=1)
        place = xp.take_along_axis(first, xp.argsort(key, axis=1, kind="stable"), axis=1)[
            :, :k
        ]  # NaN sorts last
        out_rows, out_scores = order.empty(xp, len(rows), k)
        width = place.shape[1]
        out_rows[:, :width] = xp.take_along_axis(rows, place, axis=1)
        out_scores[:, :width] = xp.take_along_axis(scores, place, axis=1)
        return TopK(out_rows, out_scores, labels)
