from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from fastrec.data import (
    read_features,
    read_frame,
    read_labels,
    read_matrix,
    read_run,
    read_truth,
    read_vector,
)

RUN = pd.DataFrame({"query": ["007", "a"], "item": ["x", "NA"], "score": [0.1, -3.0]})


@pytest.mark.parametrize("suffix", ["parquet", "feather", "csv", "tsv", "jsonl", "csv.gz"])
def test_a_table_reads_the_same_in_every_format(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"run.{suffix}"
    if suffix == "parquet":
        RUN.to_parquet(file)
    elif suffix == "feather":
        RUN.to_feather(file)
    elif suffix == "jsonl":
        RUN.to_json(file, orient="records", lines=True)
    else:
        RUN.to_csv(file, index=False, sep="\t" if suffix == "tsv" else ",")
    pd.testing.assert_frame_equal(read_run(file), RUN, check_dtype=False)
    pd.testing.assert_frame_equal(read_frame(file), RUN, check_dtype=False)
    truth = read_truth(file, gain="score")
    assert truth["gain"].tolist() == RUN["score"].tolist()


def test_content_decides_where_the_suffix_does_not(tmp_path: Path) -> None:
    RUN.to_parquet(tmp_path / "run")
    RUN.to_csv(tmp_path / "a.txt", index=False)
    RUN.to_csv(tmp_path / "b.txt", index=False, sep="\t")
    RUN.to_json(tmp_path / "c.txt", orient="records", lines=True)
    (tmp_path / "d.txt").write_text('{"007": {"x": 0.1}, "a": {"NA": -3}}')
    (tmp_path / "e.run").write_bytes(gzip.compress(b"007 Q0 x 1 0.1 t\na Q0 NA 1 -3 t\n"))
    for name in ("run", "a.txt", "b.txt", "c.txt", "d.txt", "e.run"):
        pd.testing.assert_frame_equal(read_run(tmp_path / name), RUN, check_dtype=False)


def test_parquet_ids_keep_their_kind(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "user_id": np.array([3, 1], np.int16),
            "item_id": pd.Categorical(["b", "a"]),
            "rating": np.array([1, 2], np.uint8),
        }
    )
    frame.to_parquet(tmp_path / "x.parquet")
    truth = read_truth(tmp_path / "x.parquet")
    assert truth.dtypes["query"] == np.int64
    assert truth["item"].tolist() == ["b", "a"]
    assert truth["gain"].tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (
            {"query": [1.5], "item": [1], "score": [1.0]},
            "integers or strings as query ids in 'query'; got type double",
        ),
        ({"query": [1], "item": ["a"], "score": ["b"]}, "expected numbers as score in 'score'"),
        (
            {"query": [1, 2], "item": ["a", None], "score": [1.0, 1.0]},
            "every row of 'item'; got none .* row 2",
        ),
        (
            {"query": [1, 2], "item": ["a", "b"], "score": [1.0, np.nan]},
            "every row of 'value'; got none .* row 2",
        ),
        ({"x": [1]}, "expected columns query, item, score .* got columns 'x'"),
    ],
)
def test_a_parquet_run_with_wrong_columns_is_refused(tmp_path: Path, frame: dict, message: str) -> None:
    pd.DataFrame(frame).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(ValueError, match=message.replace("'value'", "'(score|value)'")):
        read_run(tmp_path / "x.parquet")


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    RUN.to_parquet(tmp_path / "x.parquet")
    RUN.to_feather(tmp_path / "x.feather")
    np.save(tmp_path / "x.npy", np.ones((100, 4)))
    np.savez(tmp_path / "x.npz", ids=np.ones((100, 4), int))
    for name, kind in (
        ("x.parquet", "Parquet"),
        ("x.feather", "Feather"),
        ("x.npy", "npy"),
        ("x.npz", "npz"),
    ):
        file = tmp_path / name
        for data in (file.read_bytes()[:-30], b"garbage\xff\xfe\x00" * 9):
            file.write_bytes(data)
            with pytest.raises(ValueError, match=f"^{file}: expected .*{kind}") as caught:
                (read_matrix if name == "x.npy" else read_run)(file)
            assert "\n" not in str(caught.value)


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    for read in (read_run, read_truth, read_matrix, read_labels, read_frame):
        with pytest.raises(FileNotFoundError, match=r"nothing.npy: no such file"):
            read(tmp_path / "nothing.npy")
        with pytest.raises(IsADirectoryError, match=r"it is a folder"):
            read(tmp_path)
        (tmp_path / "empty.parquet").touch()
        with pytest.raises(ValueError, match=r"empty.parquet: the file is empty"):
            read(tmp_path / "empty.parquet")


def test_a_matrix_comes_from_arrays_and_tables(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "one.npz", x)
    np.savez(tmp_path / "two.npz", emb=x, ids=np.arange(5))
    pd.DataFrame(x, columns=list("abc")).to_parquet(tmp_path / "x.parquet")
    pd.DataFrame(x.astype(float), columns=list("abc")).to_csv(tmp_path / "x.csv", index=False)
    pd.DataFrame({"id": range(5), "emb": list(x)}).to_parquet(tmp_path / "lists.parquet")
    for name, key in [
        ("x.npy", None),
        ("one.npz", None),
        ("two.npz", "emb"),
        ("x.parquet", None),
        ("lists.parquet", None),
        ("lists.parquet", "emb"),
    ]:
        read = read_matrix(tmp_path / name, key)
        assert read.dtype == np.float32
        np.testing.assert_array_equal(read, x)
    assert isinstance(read_matrix(tmp_path / "x.npy"), np.memmap)
    np.testing.assert_array_equal(read_matrix(tmp_path / "x.csv"), x.astype(float))


def test_a_matrix_that_is_none_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "two.npz", emb=np.ones((5, 3)), ids=np.arange(5))
    np.save(tmp_path / "flat.npy", np.ones(5))
    np.save(tmp_path / "object.npy", np.array([{}, {}]), allow_pickle=True)
    np.save(tmp_path / "text.npy", np.array([["a"]]))
    pd.DataFrame({"id": ["a"], "x": [1.0]}).to_parquet(tmp_path / "text.parquet")
    pd.DataFrame({"emb": [[1.0, 2.0], [1.0]]}).to_parquet(tmp_path / "ragged.parquet")
    (tmp_path / "x.txt").write_text("1 2 3\n")
    sparse.save_npz(tmp_path / "csr.npz", sparse.eye(3, format="csr"))
    for name, message in {
        "two.npz": "expected one array, or `key` to choose one; got arrays 'emb', 'ids'",
        "flat.npy": r"expected a matrix of shape \(n, d\); got an array of shape \(5,\)",
        "object.npy": r"expected a .npy array of numbers or text; got .*bjects",
        "text.npy": "expected a matrix of numbers; got dtype <U1",
        "text.parquet": "expected columns of numbers only; got 'id' of type",
        "ragged.parquet": r"expected lists of one length in 'emb'; got lengths \[2, 1\]",
        "x.txt": "expected a table",
        "csr.npz": "expected a dense array; got a SciPy sparse matrix",
    }.items():
        with pytest.raises(ValueError, match=message):
            read_matrix(tmp_path / name)
    with pytest.raises(ValueError, match=r"expected an array 'x'; got arrays 'emb', 'ids'"):
        read_matrix(tmp_path / "two.npz", "x")


def test_features_may_be_sparse(tmp_path: Path) -> None:
    x = sparse.random(20, 7, 0.3, format="csr", random_state=0)
    sparse.save_npz(tmp_path / "x.npz", x)
    read = read_features(tmp_path / "x.npz")
    assert (read != x).nnz == 0
    truth = read_truth(tmp_path / "x.npz")
    assert len(truth) == x.nnz
    arrays = dict(np.load(tmp_path / "x.npz"))
    np.savez(tmp_path / "bad.npz", **arrays | {"indices": arrays["indices"] + 9})
    with pytest.raises(ValueError, match=r"expected a SciPy sparse matrix"):
        read_features(tmp_path / "bad.npz")


def test_a_run_may_be_arrays(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "x.npz", ids=np.array([[4, 2], [1, -1]]), scores=np.array([[2.0, 1.0], [3.0, -np.inf]])
    )
    assert read_run(tmp_path / "x.npz").values.tolist() == [[0, 4, 2.0], [0, 2, 1.0], [1, 1, 3.0]]
    np.save(tmp_path / "x.npy", np.array([[4, 2], [1, -1]]))
    assert read_run(tmp_path / "x.npy").values.tolist() == [[0, 4, -1.0], [0, 2, -2.0], [1, 1, -1.0]]
    np.savez(tmp_path / "y.npz", ids=np.array([["a", ""]]), queries=np.array(["q"]))
    assert read_run(tmp_path / "y.npz").values.tolist() == [["q", "a", -1.0]]
    np.savez(tmp_path / "z.npz", ids=np.array([[1, 2]]), scores=np.array([[1.0, np.nan]]))
    with pytest.raises(ValueError, match=r"expected a number as score; got NaN in row 1, column 2"):
        read_run(tmp_path / "z.npz")


def test_labels_are_integers_or_exact_strings(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("1\n2\n-3\n")
    (tmp_path / "b.txt").write_text("1\n02\nnull item\n")
    np.save(tmp_path / "c.npy", np.array(["a", "b"]))
    pd.DataFrame({"id": ["x", "y"], "z": [1, 2]}).to_parquet(tmp_path / "d.parquet")
    assert read_labels(tmp_path / "a.txt").tolist() == [1, 2, -3]
    assert read_labels(tmp_path / "b.txt").tolist() == ["1", "02", "null item"]
    assert read_labels(tmp_path / "c.npy").tolist() == ["a", "b"]
    assert read_labels(tmp_path / "d.parquet", "id").tolist() == ["x", "y"]
    assert read_labels(tmp_path / "d.parquet", "z").dtype == np.int64
    with pytest.raises(ValueError, match=r"expected one column, or `key` to choose one"):
        read_labels(tmp_path / "d.parquet")
    with pytest.raises(ValueError, match=r"expected a column 'q'"):
        read_labels(tmp_path / "d.parquet", "q")
    pd.DataFrame({"id": ["x", None]}).to_parquet(tmp_path / "e.parquet")
    with pytest.raises(ValueError, match=r"in every row; got .* in row 2"):
        read_labels(tmp_path / "e.parquet")


def test_vectors_are_float64(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("1\n0.5\n-3e2\n")
    np.save(tmp_path / "b.npy", np.array([True, False]))
    (tmp_path / "c.txt").write_text("1\nx\n")
    assert read_vector(tmp_path / "a.txt").tolist() == [1.0, 0.5, -300.0]
    assert read_vector(tmp_path / "b.npy").tolist() == [1.0, 0.0]
    with pytest.raises(ValueError, match=r"expected a number in every row; got 'x' in row 2"):
        read_vector(tmp_path / "c.txt")


def test_columns_of_a_csv_are_numbers_only_where_that_is_exact(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b,c,d\n1,1.5,007,NA\n2,,1,x\n")
    frame = read_frame(tmp_path / "x.csv")
    assert frame["a"].dtype == np.int64
    assert frame["b"].isna().tolist() == [False, True]
    assert frame["c"].tolist() == ["007", "1"]
    assert frame["d"].tolist() == ["NA", "x"]
