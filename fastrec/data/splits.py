"""Split interactions into what a model may learn from and what it is judged on.

Every function takes a pandas frame, one row per interaction, and returns ``(train, test)``: two frames that
together hold every row once, in the frame's own order and with its own index.  A split by time is the one
that resembles use; a random one lets a model learn from the future of the users it is judged on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastrec._core import checks

if TYPE_CHECKING:
    import pandas as pd

    Split = tuple[pd.DataFrame, pd.DataFrame]


def temporal_split(
    frame: pd.DataFrame, time: str, *, at: Any = None, test_fraction: float | None = None
) -> Split:
    """Rows before a moment train, rows from that moment on test.

    Parameters
    ----------
    frame : pandas.DataFrame
    time : str
        The column that orders the rows: timestamps or numbers, none missing.
    at : timestamp or number
        The first moment of the test window.  Give this or ``test_fraction``.
    test_fraction : float
        The share of rows, from the latest backwards, to test on.  Rows of equal time are never parted: the
        moment is the latest one that puts at least this share into the test (all rows, when they share one
        time).

    Raises
    ------
    ValueError
        A missing time, both or neither of ``at`` and ``test_fraction``.
    """
    times = _column(frame, time, "time")
    if times.isna().any():
        raise ValueError(
            f"`frame[{time!r}]` must have a time in every row; {int(times.isna().sum())} are missing"
        )
    if (at is None) == (test_fraction is None):
        raise ValueError("`temporal_split` needs exactly one of `at` and `test_fraction`")
    if test_fraction is not None:
        share = checks.number(test_fraction, "test_fraction", low=0.0, high=1.0)
        wanted = int(np.ceil(share * len(frame)))
        if wanted == 0:
            return _parts(frame, np.zeros(len(frame), bool))
        at = times.sort_values().iloc[len(frame) - wanted]
    try:
        late = (times >= at).to_numpy(dtype=bool)
    except TypeError:
        raise TypeError(f"`at` must compare with `frame[{time!r}]` ({times.dtype}); got {at!r}") from None
    return _parts(frame, late)


def leave_last_out(frame: pd.DataFrame, user: str, time: str, n: int = 1) -> Split:
    """Each user's last ``n`` rows test; a user with ``n`` rows or fewer stays in train whole.

    Rows of one user with equal times count in the frame's order: the one further down is the later one.
    """
    n = checks.integer(n, "n", low=1)
    users, times = _codes(frame, user), _column(frame, time, "time")
    if times.isna().any():
        raise ValueError(
            f"`frame[{time!r}]` must have a time in every row; {int(times.isna().sum())} are missing"
        )
    order = np.lexsort((np.arange(len(frame)), times.rank(method="dense").to_numpy(), users))
    from_last, counts = _from_last(users, order)
    return _parts(frame, (from_last < n) & (counts[users] > n))


def random_holdout(frame: pd.DataFrame, user: str, fraction: float = 0.2, *, seed: int = 0) -> Split:
    """A random ``floor(fraction * rows)`` of each user's rows test; the same for the same frame and seed."""
    fraction = checks.number(fraction, "fraction", low=0.0, high=1.0)
    users = _codes(frame, user)
    order = np.lexsort((np.random.default_rng(seed).random(len(frame)), users))
    from_last, counts = _from_last(users, order)
    # The nudge keeps 0.3 * 10 rows at 3, where the product is 2.9999999999999996.
    return _parts(frame, from_last < np.floor(fraction * counts + 1e-9)[users])


def user_split(frame: pd.DataFrame, user: str, fraction: float = 0.2, *, seed: int = 0) -> Split:
    """All rows of a random ``round(fraction * users)`` users test: for models that must serve users they
    never saw.

    Which users are drawn depends on the set of users and the seed, not on the order of the rows.
    """
    fraction = checks.number(fraction, "fraction", low=0.0, high=1.0)
    labels = np.asarray(_column(frame, user, "user").drop_duplicates().sort_values())
    drawn = np.random.default_rng(seed).permutation(len(labels))[: round(fraction * len(labels))]
    _codes(frame, user)
    return _parts(frame, frame[user].isin(labels[drawn]).to_numpy())


def _column(frame: pd.DataFrame, name: str, role: str) -> pd.Series:
    import pandas as pd

    if not isinstance(frame, pd.DataFrame):
        raise TypeError(f"`frame` must be a pandas DataFrame; got {type(frame).__name__}")
    if name not in frame.columns:
        raise ValueError(
            f"`{role}` must name a column of `frame`, one of {list(frame.columns)}; got {name!r}"
        )
    return frame[name]


def _codes(frame: pd.DataFrame, user: str) -> np.ndarray:
    import pandas as pd

    codes = pd.factorize(_column(frame, user, "user"))[0]
    if (codes < 0).any():
        raise ValueError(
            f"`frame[{user!r}]` must have a user in every row; {int((codes < 0).sum())} are missing"
        )
    return codes


def _from_last(users: np.ndarray, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each row's place counted from its user's last (0) in ``order``, and the rows of each user."""
    counts = np.bincount(users)
    ends = np.cumsum(counts)
    from_last = np.empty(len(users), np.int64)
    from_last[order] = ends[users[order]] - 1 - np.arange(len(users))
    return from_last, counts


def _parts(frame: pd.DataFrame, test: np.ndarray) -> Split:
    return frame[~test], frame[test]
