from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrec.data import leave_last_out, random_holdout, temporal_split, user_split

FRAMES = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5)), max_size=40).map(
    lambda rows: pd.DataFrame(
        {"user": [u for u, _ in rows], "time": [t for _, t in rows]},
        index=np.arange(len(rows)) * 2 + 7,
        dtype=np.int64,
    )
)
QUIET = settings(max_examples=50, deadline=None)


def check_partition(frame, train, test) -> None:
    assert sorted([*train.index, *test.index]) == list(frame.index)
    pd.testing.assert_frame_equal(train, frame.loc[frame.index.isin(train.index)])
    pd.testing.assert_frame_equal(test, frame.loc[frame.index.isin(test.index)])


@QUIET
@given(FRAMES, st.integers(1, 3))
def test_leave_last_out_takes_the_last_rows_of_each_user(frame, n) -> None:
    train, test = leave_last_out(frame, "user", "time", n)
    check_partition(frame, train, test)
    for _, rows in frame.groupby("user"):
        ordered = list(rows.sort_values("time", kind="stable").index)
        want = ordered[-n:] if len(ordered) > n else []
        assert sorted(want) == [i for i in rows.index if i in test.index]


@QUIET
@given(FRAMES, st.floats(0, 1))
def test_temporal_split_never_parts_equal_times(frame, share) -> None:
    train, test = temporal_split(frame, "time", test_fraction=share)
    check_partition(frame, train, test)
    assert len(test) >= share * len(frame)
    if len(train) and len(test):
        assert train["time"].max() < test["time"].min()
    if len(test):  # one moment later would be too few
        assert (test["time"] > test["time"].min()).sum() < share * len(frame)


@QUIET
@given(FRAMES, st.sampled_from([0.0, 0.1, 0.3, 0.5, 1.0]), st.integers(0, 3))
def test_random_holdout_takes_the_floor_of_each_user(frame, share, seed) -> None:
    train, test = random_holdout(frame, "user", share, seed=seed)
    check_partition(frame, train, test)
    for user, rows in frame.groupby("user"):
        assert (test["user"] == user).sum() == int(round(share * 10) * len(rows) // 10)
    again = random_holdout(frame, "user", share, seed=seed)[1]
    pd.testing.assert_frame_equal(test, again)


@QUIET
@given(FRAMES, st.floats(0, 1), st.integers(0, 3))
def test_user_split_keeps_users_whole_whatever_the_order(frame, share, seed) -> None:
    train, test = user_split(frame, "user", share, seed=seed)
    check_partition(frame, train, test)
    assert not set(train["user"]) & set(test["user"])
    assert test["user"].nunique() == round(share * frame["user"].nunique())
    assert set(user_split(frame[::-1], "user", share, seed=seed)[1]["user"]) == set(test["user"])


def test_seeds_differ() -> None:
    frame = pd.DataFrame({"user": np.repeat(np.arange(50), 10)})
    tests = [random_holdout(frame, "user", 0.5, seed=s)[1].index for s in range(2)]
    assert not tests[0].equals(tests[1])


def test_times_may_be_timestamps() -> None:
    frame = pd.DataFrame({"time": pd.date_range("2020-01-01", periods=4), "user": "a"})
    train, test = temporal_split(frame, "time", at="2020-01-03")
    assert (len(train), len(test)) == (2, 2)
    assert len(leave_last_out(frame, "user", "time")[1]) == 1


def test_bad_arguments_are_named() -> None:
    frame = pd.DataFrame({"user": ["a", None], "time": [1.0, np.nan]})
    with pytest.raises(ValueError, match=r"must have a time in every row; 1 are missing"):
        temporal_split(frame, "time", at=1)
    with pytest.raises(ValueError, match=r"exactly one of `at` and `test_fraction`"):
        temporal_split(frame[:1], "time")
    with pytest.raises(ValueError, match=r"must have a user in every row; 1 are missing"):
        random_holdout(frame, "user")
    with pytest.raises(ValueError, match=r"`user` must name a column of `frame`, one of"):
        user_split(frame, "who")
    with pytest.raises(ValueError, match=r"`fraction` must be between 0.0 and 1.0; got 2.0"):
        random_holdout(frame[:1], "user", 2)
    with pytest.raises(TypeError, match=r"`frame` must be a pandas DataFrame; got dict"):
        user_split({}, "user")
    with pytest.raises(TypeError, match=r"`at` must compare"):
        temporal_split(frame[:1], "time", at="x")
