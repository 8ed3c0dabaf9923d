from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import fastrec as fr
from fastrec.data import read_frame

RNG = np.random.default_rng(5)
X = RNG.normal(size=(300, 4))
Y = (X[:, 0] + RNG.normal(size=300) > 0).astype(np.int64)


@pytest.fixture
def files(fastrec):
    np.save(fastrec.folder / "X.npy", X)
    sparse.save_npz(fastrec.folder / "X.npz", sparse.csr_matrix(X))
    np.save(fastrec.folder / "y.npy", Y)
    pd.DataFrame(X, columns=list("abcd")).assign(click=Y).to_parquet(fastrec.folder / "table.parquet")
    return fastrec


def want(method="grad_norm"):
    model = fr.models.LogisticRegression(solver="lbfgs", l2=1 / 300).fit(X, Y)
    return fr.importance(model, X, Y, method)


@pytest.mark.parametrize(
    "words", [["X.npy", "y.npy"], ["X.npz", "y.npy"], ["table.parquet", "--label", "click"]]
)
def test_every_row_is_weighed(files, words) -> None:
    done = files("importance", *words, "--out", "w.parquet", "--method", "loss")
    assert done.code == 0, done.err
    frame = pd.read_parquet("w.parquet")
    assert frame["row"].tolist() == list(range(300))
    np.testing.assert_allclose(frame["importance"], want("loss"), rtol=1e-4, atol=1e-6)


def test_a_share_is_kept_with_its_weights(files) -> None:
    for strategy in ("stratified", "sample", "top"):
        words = ["--select", 0.1, "--strategy", strategy, "--seed", 3, "--out", "kept.npz"]
        assert files("importance", "X.npy", "y.npy", *words).code == 0
        kept = fr.select(want(), fraction=0.1, strategy=strategy, y=Y, seed=3)
        arrays = np.load("kept.npz")
        np.testing.assert_array_equal(arrays["row"], kept.index)
        np.testing.assert_allclose(arrays["weight"], kept.weight, rtol=1e-3)
        np.testing.assert_allclose(arrays["importance"], want()[kept.index], rtol=1e-4)


def test_a_saved_model_gives_the_same_scores(files) -> None:
    files("importance", "X.npy", "y.npy", "--save-model", "m.npz", "--out", "a.csv")
    files("importance", "X.npy", "y.npy", "--model", "m.npz", "--out", "b.csv")
    assert (files.folder / "a.csv").read_bytes() == (files.folder / "b.csv").read_bytes()
    arrays = np.load("m.npz")
    np.save("m.npy", np.r_[arrays["coef"], arrays["intercept"]])
    files("importance", "X.npy", "y.npy", "--model", "m.npy", "--out", "c.csv")
    assert (files.folder / "a.csv").read_bytes() == (files.folder / "c.csv").read_bytes()


def test_without_a_file_a_summary_is_shown(files) -> None:
    done = files("importance", "X.npy", "y.npy", "--select", 0.2)
    assert done.code == 0
    assert "importance by grad_norm, 300 rows" in done.out
    assert str(int(np.argmax(want()))) in done.out
    assert "kept" in done.out


def test_words_may_be_labels(files) -> None:
    read_frame("table.parquet").assign(click=np.where(Y, "yes", "no")).to_csv("words.csv", index=False)
    files("importance", "words.csv", "--label", "click", "--out", "a.csv")
    np.testing.assert_allclose(read_frame("a.csv")["importance"], want(), rtol=1e-4)


def test_bad_input_is_one_line(files, refused) -> None:
    np.save("short.npy", Y[:-1])
    np.save("one.npy", np.zeros(300))
    np.save("three.npy", np.arange(300) % 3)
    np.save("nan.npy", np.where(np.arange(300) == 7, np.nan, Y))
    np.save("holes.npy", np.where(X > 2, np.nan, X))
    np.savez("other.npz", weights=np.zeros(4))
    pd.DataFrame({"a": ["x"] * 300, "click": Y}).to_csv("text.csv", index=False)
    assert "expected 300 labels, one per row of X.npy; got 299" in refused("importance", "X.npy", "short.npy")
    assert "expected labels of two classes; got 1: 0" in refused("importance", "X.npy", "one.npy")
    assert "expected labels of two classes; got 3: 0, 1, 2" in refused("importance", "X.npy", "three.npy")
    assert "expected a label in every row; got NaN in row 8" in refused("importance", "X.npy", "nan.npy")
    assert "NaN" in refused("importance", "holes.npy", "y.npy")
    assert "give the labels once" in refused("importance", "X.npy")
    assert "expected a column 'clicks'" in refused("importance", "table.parquet", "--label", "clicks")
    assert "expected numbers besides 'click'; got 'a'" in refused(
        "importance", "text.csv", "--label", "click"
    )
    assert "arrays coef and intercept; got arrays weights" in refused(
        "importance", "X.npy", "y.npy", "--model", "other.npz"
    )
    assert "expected 4 coefficients" in refused("importance", "X.npy", "y.npy", "--model", "y.npy")
    assert "`method` must be one of" in refused("importance", "X.npy", "y.npy", "--method", "magic")
    assert "`--select` must be between" in refused("importance", "X.npy", "y.npy", "--select", 2)
    assert "the suffix must be one of" in refused("importance", "X.npy", "y.npy", "--out", "x.trec")
