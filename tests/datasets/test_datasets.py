from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import fastrec as fr
from fastrec.datasets.catalogue import CARDS, FILES


@pytest.fixture(scope="module")
def journey():
    return fr.datasets.load("complete_journey")


def test_what_ships_is_small_and_licensed() -> None:
    size = sum(file.stat().st_size for file in FILES.glob("*.parquet"))
    assert 0 < size <= 4_000_000
    for name, words in (("open_bandit", "CC BY 4.0"), ("complete_journey", "MIT License")):
        card = CARDS[name]
        assert card.available
        text = card.licence_text()
        assert words in text
        files = [file.name for file in FILES.glob(f"{name}_*.parquet")]
        assert files
        assert all(file in text for file in files)  # each shipped table is attributed


def test_the_catalogue_lists_every_set() -> None:
    catalogue = fr.datasets.list()
    assert catalogue["name"].tolist() == list(CARDS)
    assert catalogue.set_index("name").loc["open_bandit", "available"]
    assert not catalogue.isna().any(axis=None)


def test_purchases_are_whole_and_in_order(journey) -> None:
    rows, products, households = journey.purchases, journey.products, journey.households
    assert (len(rows), rows["household"].nunique(), rows["basket"].nunique()) == (605_891, 2_402, 75_053)
    assert rows["week"].agg(["min", "max"]).tolist() == [27, 53]
    assert set(rows["product"]) == set(products["product"])
    assert products["product"].is_unique
    assert households["household"].is_unique
    assert not rows.isna().any(axis=None)
    assert not rows.duplicated(["basket", "product"]).any()
    assert rows.groupby("basket")[["household", "timestamp", "store", "week"]].nunique().max().max() == 1
    order = rows.sort_values(["household", "timestamp", "basket", "product"], kind="stable").index
    assert order.equals(rows.index)
    assert rows["timestamp"].dt.year.between(2017, 2018).all()
    assert "605,891" in CARDS["complete_journey"].holds
    assert repr(journey) == "<complete_journey: 605,891 purchases of 10,286 products>"


def test_purchases_split_into_a_past_and_a_future_that_overlap_in_users(journey) -> None:
    from fastrec.data import encode, temporal_split

    past, future = temporal_split(journey.purchases, "week", at=50)
    train = encode(past, "household", "product", duplicates="one")
    test = encode(
        future, "household", "product", duplicates="one", users=train.users, items=train.items, unknown="drop"
    )
    assert train.matrix.shape == test.matrix.shape
    assert (np.diff(test.matrix.indptr) > 0).sum() > 1_900


@pytest.mark.parametrize("policy", ["random", "bts"])
@pytest.mark.parametrize(("campaign", "n_items"), [("all", 80), ("men", 34), ("women", 46)])
def test_each_log_is_whole(policy: str, campaign: str, n_items: int) -> None:
    log = fr.datasets.load("open_bandit", policy=policy, campaign=campaign)
    rows = log.impressions
    assert len(rows) == 10_000
    assert set(rows["policy"]) == {policy}
    assert 38 <= rows["click"].sum() <= 69
    assert rows["item"].between(0, n_items - 1).all()
    assert rows["position"].isin([1, 2, 3]).all()
    assert log.items["item"].tolist() == list(range(n_items))
    assert not rows.isna().any(axis=None)
    assert rows["propensity"].between(0, 1, inclusive="right").all()
    if policy == "random":
        np.testing.assert_allclose(rows["propensity"], 1 / n_items, rtol=0, atol=1e-12)
    assert log.affinity.shape == (10_000, n_items)
    assert (log.affinity.data > 0).all()
    assert log.n_items == n_items


def test_both_policies_come_together() -> None:
    both = fr.datasets.load("open_bandit", policy="both")
    assert both.impressions["policy"].value_counts().to_dict() == {"random": 10_000, "bts": 10_000}
    assert both.impressions.index.equals(pd.RangeIndex(20_000))


def test_features_are_one_hot() -> None:
    log = fr.datasets.load("open_bandit")
    x, y, names = log.features()
    assert x.shape == (10_000, len(names))
    assert len(set(names)) == len(names)
    assert x.dtype == np.float32
    np.testing.assert_array_equal(y, log.impressions["click"])
    dense = pd.DataFrame(x.toarray(), columns=names)
    for factor in ["position", "item", *(f"user_feature_{i}" for i in range(4)), "item_feature_1"]:
        columns = [name for name in names if name.startswith(f"{factor}=")]
        assert (dense[columns].sum(axis=1) == 1).all()
        if factor in log.impressions:
            back = dense[columns].idxmax(axis=1).str.removeprefix(f"{factor}=")
            assert back.tolist() == log.impressions[factor].astype(str).tolist()
    row = int(np.flatnonzero(dense["affinity"])[0])
    assert dense["affinity"][row] == log.affinity[row, log.impressions["item"][row]]


def test_the_package_also_ships_the_licences() -> None:
    try:
        files = distribution("fastrec").files or []
    except PackageNotFoundError:
        pytest.skip("fastrec is not installed; the files of a wheel are looked at where it is")
    if not any(str(file).endswith(".parquet") for file in files):
        pytest.skip("an editable install lists no package files")
    names = {Path(str(file)).name for file in files}
    assert {"LICENSE-open-bandit", "LICENSE-obp-Apache-2.0", "LICENSE-complete-journey"} <= names


def test_unknown_names_and_options_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Did you mean 'open_bandit'\?"):
        fr.datasets.load("open_bandits")
    with pytest.raises(ValueError, match=r"'complete_journey' takes no options; got policy"):
        fr.datasets.load("complete_journey", policy="random")
    with pytest.raises(ValueError, match=r"`campaign` must be one of 'all', 'men', 'women'; got 'kids'"):
        fr.datasets.load("open_bandit", campaign="kids")


def test_a_set_that_is_not_here_says_what_to_do(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FASTREC_DATA", raising=False)
    with pytest.raises(
        FileNotFoundError, match=r"FASTREC_DATA is not set. Set FASTREC_DATA to a folder that holds"
    ):
        fr.datasets.load("online_retail")
    monkeypatch.setenv("FASTREC_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"has no folder 'online_retail'"):
        fr.datasets.load("online_retail")
    assert not fr.datasets.list().set_index("name").loc["online_retail", "available"]


def test_a_folder_gives_its_tables_and_arrays(monkeypatch, tmp_path: Path) -> None:
    folder = tmp_path / "online_retail"
    folder.mkdir()
    pd.DataFrame({"a": [1]}).to_parquet(folder / "items.parquet")
    np.savez(folder / "item_emb_minilm_f16.npz", emb=np.ones((2, 3), np.float16))
    monkeypatch.setenv("FASTREC_DATA", str(tmp_path))
    data = fr.datasets.load("online_retail")
    assert list(data) == ["item_emb", "items"]
    assert data["items"]["a"].tolist() == [1]
    assert data.item_emb.dtype == np.float32
    assert data["item_emb"] is data.item_emb
    with pytest.raises(KeyError, match=r"has item_emb, items; not 'x'"):
        data["x"]
    with pytest.raises(AttributeError, match=r"has no 'item_em'. Did you mean 'item_emb'\?"):
        data.item_em  # noqa: B018


@pytest.mark.skipif(
    "FASTREC_DATA" not in os.environ, reason="FASTREC_DATA, the folder of larger data sets, is not set"
)
@pytest.mark.parametrize("name", [name for name, card in CARDS.items() if card.folder])
def test_every_set_of_the_folder_loads(name: str) -> None:
    if not CARDS[name].available:
        pytest.skip(f"FASTREC_DATA has no folder {CARDS[name].folder}")
    data = fr.datasets.load(name)
    assert all(data[table] is not None for table in data)
