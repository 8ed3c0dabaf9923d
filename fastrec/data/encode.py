"""From a frame of interactions to a sparse matrix and back: ids to rows, rows to ids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrec._core import checks

if TYPE_CHECKING:
    import pandas as pd
    from scipy.sparse import csr_matrix


class IdMap:
    """External ids (integers or strings) and the rows 0..n-1 they stand for.

    ``IdMap(labels)`` takes the ids in row order, each once; :meth:`of` collects them from data.
    ``labels[rows]`` leads back.  ``len()``, ``in`` and ``==`` work as on a set with an order.
    """

    def __init__(self, labels: Any) -> None:
        import pandas as pd

        index = pd.Index(labels)
        if index.hasnans:
            raise ValueError("`labels` must not hold missing ids")
        if not index.is_unique:
            raise ValueError(
                f"`labels` must hold each id once; got {index[index.duplicated()].tolist()[0]!r} twice"
            )
        self._index = index

    @classmethod
    def of(cls, values: Any) -> IdMap:
        """The distinct ids of ``values``, sorted: the map does not depend on the order of the data."""
        import pandas as pd

        labels = pd.Index(pd.unique(pd.Series(values)))
        if labels.hasnans:
            raise ValueError(f"`values` must not hold missing ids; {int(pd.isna(values).sum())} are")
        try:
            return cls(labels.sort_values())
        except TypeError:
            raise TypeError("`values` must be all integers or all strings; got both") from None

    @property
    def labels(self) -> np.ndarray:
        """(n,) the ids in row order: int64, or object holding strings."""
        labels = self._index.to_numpy()
        return labels if labels.dtype.kind in "iuf" else labels.astype(object)

    def rows(self, values: Any, *, unknown: str = "raise") -> np.ndarray:
        """(n,) int64 rows of ``values``.

        An id that the map does not hold is a ``ValueError`` that shows it, or row -1 with ``unknown="-1"``.
        """
        import pandas as pd

        checks.choice(unknown, "unknown", ("raise", "-1"))
        values = pd.Index(values)
        rows = self._index.get_indexer(values).astype(np.int64)  # -1 where there is none
        missing = rows < 0
        if unknown == "raise" and missing.any():
            raise ValueError(
                f"`values` must hold known ids; {int(missing.sum())} are not, such as "
                f"{values[missing].tolist()[0]!r}. "
                'Pass `unknown="-1"` to mark them.'
            )
        return rows

    def __len__(self) -> int:
        return len(self._index)

    def __contains__(self, label: object) -> bool:
        return label in self._index

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IdMap) and self._index.equals(other._index)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<IdMap of {len(self)} ids>"


@dataclass(frozen=True, slots=True)
class Interactions:
    """A users x items matrix and its id maps.  Unpacks as ``matrix, users, items``."""

    matrix: csr_matrix
    users: IdMap
    items: IdMap

    def __iter__(self) -> Any:
        return iter((self.matrix, self.users, self.items))


def encode(
    frame: pd.DataFrame,
    user: str = "user",
    item: str = "item",
    value: str | None = None,
    *,
    users: IdMap | None = None,
    items: IdMap | None = None,
    duplicates: str = "sum",
    unknown: str = "raise",
) -> Interactions:
    """Turn rows of (user, item[, value]) into a sparse matrix with canonical rows.

    Parameters
    ----------
    frame : pandas.DataFrame
    user, item : str
        Columns with ids, integers or strings, none missing.
    value : str, optional
        A column of finite numbers; without it every row counts 1.
    users, items : IdMap, optional
        The rows and columns to use, so that test data line up with training data; otherwise the frame's own
        ids, sorted.
    duplicates : {"sum", "max", "last", "one"}
        What a pair that occurs more than once becomes: the sum, the largest or the last of its values, or 1
        (as every pair then does).
    unknown : {"raise", "drop"}
        What to do with a row whose user or item the given map does not hold.

    Returns
    -------
    Interactions
        ``matrix``: float32 CSR of shape (users, items), column indices sorted and without duplicates, in
        every row. Sums are made in float64 in the frame's order and rounded once.

    Notes
    -----
    O(n log n) time, about 60 bytes of scratch a row.
    """
    import pandas as pd
    from scipy.sparse import csr_matrix

    checks.choice(duplicates, "duplicates", ("sum", "max", "last", "one"))
    checks.choice(unknown, "unknown", ("raise", "drop"))
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(f"`frame` must be a pandas DataFrame; got {type(frame).__name__}")
    for role, name in (("user", user), ("item", item), ("value", value)):
        if name is not None and name not in frame.columns:
            raise ValueError(
                f"`{role}` must name a column of `frame`, one of {list(frame.columns)}; got {name!r}"
            )
    maps, rows = [], []
    for given, name in ((users, user), (items, item)):
        chosen = IdMap.of(frame[name]) if given is None else given
        maps.append(chosen)
        rows.append(chosen.rows(frame[name], unknown="-1" if unknown == "drop" else "raise"))
    values = (
        np.ones(len(frame))
        if value is None
        else checks.vector(frame[value].to_numpy(), "value", dtype=np.float64)
    )
    if not np.isfinite(values).all():
        raise ValueError(
            f"`frame[{value!r}]` must hold finite numbers; {int((~np.isfinite(values)).sum())} are not"
        )
    known = (rows[0] >= 0) & (rows[1] >= 0)
    shape = (len(maps[0]), len(maps[1]))
    flat = (rows[0] * max(shape[1], 1) + rows[1])[known]
    order = np.argsort(flat, kind="stable")
    flat, values = flat[order], values[known][order]
    starts = np.flatnonzero(np.r_[True, flat[1:] != flat[:-1]]) if len(flat) else np.zeros(0, np.int64)
    data: np.ndarray
    if duplicates == "one":
        data = np.ones(len(starts))
    elif duplicates == "last":
        data = values[np.r_[starts[1:], len(flat)] - 1] if len(flat) else values
    elif duplicates == "max":
        data = np.maximum.reduceat(values, starts) if len(flat) else values
    else:
        data = np.bincount(
            np.repeat(np.arange(len(starts)), np.diff(np.r_[starts, len(flat)])), values, len(starts)
        )
    row, column = np.divmod(flat[starts], max(shape[1], 1))
    indptr = np.r_[0, np.cumsum(np.bincount(row, minlength=shape[0]))]
    index: type = np.int32 if max(*shape, len(data)) < 2**31 else np.int64
    matrix = csr_matrix((data.astype(np.float32), column.astype(index), indptr.astype(index)), shape=shape)
    matrix.has_canonical_format = True
    return Interactions(matrix, *maps)
