"""Metrics beyond accuracy against recorded outputs of other libraries (``recorded/record_catalog.py`` made them)."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import fastrec as fr

FOLDER = Path(__file__).with_name("recorded")
sys.path.insert(0, str(FOLDER))
from shop import ITEMS, USERS, K, shop  # noqa: E402

sys.path.remove(str(FOLDER))

# Their name: ours, and what theirs is of it.
METRICS: dict[str, dict[str, tuple[str, Any]]] = {
    "rectools": {
        "CatalogCoverage(normalize=True)": ("coverage", None),
        "CatalogCoverage": ("distinct_items", None),
        "SufficientReco": ("full_lists", None),
        "AvgRecPopularity": ("popularity", None),
        "MeanInvUserFreq": ("novelty", None),
        "Serendipity": ("serendipity", None),
        "IntraListDiversity": (
            "ild",
            lambda mine, _: np.nan_to_num(mine),
        ),  # 0 below two items, where ours is none
    },
    "recbole": {
        "ItemCoverage": ("coverage", None),
        "AveragePopularity": ("popularity", None),
        # in nats, and divided by the number of distinct items
        "ShannonEntropy": (
            "entropy",
            lambda mine, result: mine * math.log(2) / np.count_nonzero(result.item_counts),
        ),
        "GiniIndex": ("gini", None),
    },
    "lenskit": {
        "ListGini": ("gini", None),
        "ExposureGini(weight=LogRankWeight(offset=1))": ("gini_exposure", None),
    },
}
CLOSE = {"ExposureGini(weight=LogRankWeight(offset=1))": 1e-6}  # it adds up float32


def matrix(lists: list[list[int]]) -> sp.csr_array:
    rows = np.repeat(np.arange(USERS), [len(items) for items in lists])
    return sp.csr_array((np.ones(len(rows)), (rows, np.concatenate(lists))), shape=(USERS, ITEMS))


@pytest.mark.parametrize("library", sorted(METRICS))
def test_equal_their_libraries(library: str) -> None:
    recorded = json.loads((FOLDER / f"{library}_catalog.json").read_text())["values"]
    made = shop(full=library == "recbole")
    ids = np.array([items + [-1] * (K - len(items)) for items in made.lists])
    known = {
        "vectors": np.array(made.vectors, float),
        "history": matrix(made.history),
        "truth": matrix(made.wanted),
    }
    for written, theirs in recorded.items():
        name, at, k = written.partition("@")
        ours, made_of = METRICS[library][name]
        got = fr.evaluate_catalog(ids[:, : int(k)], ITEMS, metrics=[ours + at + k], undefined="nan", **known)
        mine = got.per_list[ours + at + k].to_numpy() if isinstance(theirs, list) else got[ours + at + k]
        mine = mine if made_of is None else made_of(mine, got)
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=CLOSE.get(name, 1e-12), err_msg=written)
    assert {written.partition("@")[0] for written in recorded} == set(METRICS[library])


def test_the_lists_hold_what_can_go_wrong() -> None:
    made = shop()
    assert {len(items) for items in made.lists} >= {1, 2, K}
    had = {item for items in made.history for item in items}
    assert had < {item for items in made.lists for item in items} | had  # items that nobody had before
    assert any(set(a) & set(b) for a, b in zip(made.lists, made.wanted))
    assert not any(set(a) & set(b) for a, b in zip(made.lists, made.history))
