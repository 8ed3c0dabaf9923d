from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrec.data import IdMap, encode

ROWS = st.lists(st.tuples(st.sampled_from("zyxw"), st.integers(-3, 3), st.integers(-9, 9)), max_size=30)


@settings(max_examples=60, deadline=None)
@given(ROWS, st.sampled_from(["sum", "max", "last", "one"]))
def test_the_matrix_is_the_table_of_pairs(rows, duplicates) -> None:
    frame = pd.DataFrame(rows, columns=["user", "item", "value"]).astype(
        {"user": str, "item": int, "value": float}
    )
    matrix, users, items = encode(frame, value="value", duplicates=duplicates)
    want: dict = {}
    for u, i, v in rows:
        old = want.get((u, i))
        want[u, i] = {"sum": (old or 0) + v, "max": v if old is None else max(old, v), "last": v, "one": 1}[
            duplicates
        ]
    assert users.labels.tolist() == sorted({u for u, _, _ in rows})
    assert items.labels.tolist() == sorted({i for _, i, _ in rows})
    assert matrix.dtype == np.float32
    assert matrix.shape == (len(users), len(items))
    fresh = matrix.copy()
    fresh.has_canonical_format = False
    fresh.check_format(full_check=True)
    fresh.sum_duplicates()
    assert fresh.nnz == matrix.nnz == len(want)
    coo = matrix.tocoo()
    got = {(users.labels[r], items.labels[c]): v for r, c, v in zip(coo.row, coo.col, coo.data)}
    assert got == want


def test_test_data_line_up_with_training_data() -> None:
    train = pd.DataFrame({"user": [5, 9, 5], "item": ["a", "b", "c"]})
    test = pd.DataFrame({"user": [9, 7, 9], "item": ["c", "a", "zz"]})
    base = encode(train)
    with pytest.raises(ValueError, match=r"must hold known ids; 1 are not, such as 7"):
        encode(test, users=base.users, items=base.items)
    held = encode(test, users=base.users, items=base.items, unknown="drop")
    assert held.users == base.users
    assert held.matrix.toarray().tolist() == [[0, 0, 0], [0, 0, 1]]


def test_an_id_map_leads_there_and_back() -> None:
    ids = IdMap(["b", "a", "007"])
    assert ids.rows(["007", "b", "b"]).tolist() == [2, 0, 0]
    assert ids.labels[ids.rows(["a"])].tolist() == ["a"]
    assert ids.rows(["x"], unknown="-1").tolist() == [-1]
    assert ids.rows([], unknown="-1").tolist() == []
    assert (len(ids), "a" in ids, 3 in ids) == (3, True, False)
    assert IdMap.of(np.array([3, 1, 3])).labels.tolist() == [1, 3]
    for bad, message in (
        (["a", "a"], "each id once; got 'a' twice"),
        (["a", None], "must not hold missing ids"),
    ):
        with pytest.raises(ValueError, match=message):
            IdMap(bad)
    with pytest.raises(ValueError, match=r"must not hold missing ids; 1 are"):
        IdMap.of(["a", None])
    with pytest.raises(TypeError, match=r"all integers or all strings"):
        IdMap.of(pd.Series(["a", 1], dtype=object))


def test_bad_arguments_are_named() -> None:
    frame = pd.DataFrame({"user": [1], "item": [2], "value": [np.nan], "text": ["a"]})
    with pytest.raises(ValueError, match=r"must hold finite numbers; 1 are not"):
        encode(frame, value="value")
    with pytest.raises(TypeError, match=r"`value` must hold real numbers"):
        encode(frame, value="text")
    with pytest.raises(ValueError, match=r"`item` must name a column of `frame`"):
        encode(frame, item="x")
    with pytest.raises(ValueError, match=r"`duplicates` must be one of"):
        encode(frame, duplicates="mean")
    with pytest.raises(TypeError, match=r"must be a pandas DataFrame"):
        encode({})
