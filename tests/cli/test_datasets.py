from __future__ import annotations

import numpy as np
import pandas as pd

import fastrec as fr
from fastrec.data import read_features


def test_the_catalogue_is_listed(fastrec) -> None:
    done = fastrec("datasets")
    assert done.code == 0
    assert all(name in done.out for name in fr.datasets.list()["name"])


def test_a_set_is_described_with_its_licence(fastrec) -> None:
    done = fastrec("datasets", "complete_journey")
    assert "purchases 605,891x8: household, basket, product" in done.out
    assert "MIT License" in fastrec("datasets", "complete_journey", "--licence").out


def test_a_set_is_exported_to_files_that_read_back(fastrec) -> None:
    done = fastrec("datasets", "open_bandit", "--policy", "bts", "--campaign", "men", "--export", "out")
    assert done.code == 0
    log = fr.datasets.load("open_bandit", policy="bts", campaign="men")
    folder = fastrec.folder / "out"
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "impressions.parquet"), log.impressions)
    assert (read_features(folder / "features.npz") != log.features()[0]).nnz == 0
    np.testing.assert_array_equal(np.load(folder / "clicks.npy"), log.impressions["click"])


def test_what_cannot_be_done_is_refused(refused) -> None:
    assert "FASTREC_DATA is not set" in refused("datasets", "online_retail")
    assert "Did you mean 'open_bandit'?" in refused("datasets", "open_bandits")
    assert "need the name of a data set" in refused("datasets", "--export", "x")
    (refused.folder / "file").touch()
    assert "it is not a folder" in refused("datasets", "open_bandit", "--export", "file")
