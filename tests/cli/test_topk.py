from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import fastrec as fr
from fastrec.data import read_run

RNG = np.random.default_rng(7)
ITEMS = RNG.normal(size=(40, 6)).astype(np.float32)
QUERIES = RNG.normal(size=(5, 6)).astype(np.float32)


@pytest.fixture
def files(fastrec):
    np.save(fastrec.folder / "items.npy", ITEMS)
    np.savez(fastrec.folder / "both.npz", items=ITEMS, queries=QUERIES)
    np.save(fastrec.folder / "queries.npy", QUERIES)
    (fastrec.folder / "skus.txt").write_text("".join(f"sku {i}\n" for i in range(40)))
    return fastrec


def best(exclude=None, k=3, **options):
    top = fr.Index(ITEMS, **options).topk(QUERIES, k, exclude=exclude)
    return top.to_frame()


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl", "npz", "trec", "csv.gz", "feather"])
@pytest.mark.parametrize("metric", ["dot", "cosine", "l2"])
def test_the_file_holds_what_the_library_returns(files, suffix: str, metric: str) -> None:
    done = files(
        "topk", "items.npy", "both.npz:queries", "-k", 3, "--metric", metric, "--out", f"top.{suffix}"
    )
    assert (done.code, done.out) == (0, "")
    assert "wrote top" in done.err
    got, want = read_run(f"top.{suffix}"), best(metric=metric)
    assert got["query"].astype(int).tolist() == want["query"].tolist()
    assert got["item"].astype(int).tolist() == want["item"].tolist()
    digits = np.testing.assert_allclose if suffix == "jsonl" else np.testing.assert_array_equal
    digits(got["score"].to_numpy().astype(np.float32), want["score"].to_numpy())


def test_stdout_is_trec(files) -> None:
    done = files("topk", "items.npy", "queries.npy", "-k", 2, "--ids", "both.npz:items", "--tag", "mine")
    assert done.code == 2  # item vectors are no ids
    done = files("topk", "items.npy", "queries.npy", "-k", 2, "--tag", "mine")
    first = best(k=2).iloc[0]
    assert done.out.splitlines()[0] == f"0 Q0 {int(first['item'])} 1 {np.float32(first['score'])!s} mine"
    assert len(done.out.splitlines()) == 10


def test_ids_label_rows_and_exclusions(files) -> None:
    top = best()
    seen = top.groupby("query").head(1)
    pairs = pd.DataFrame({"query": seen["query"], "item": "sku " + seen["item"].astype(str)})
    extra = pd.DataFrame({"query": [0, 99], "item": ["nowhere", "sku 1"]})
    pd.concat([pairs, extra]).to_parquet("seen.parquet")
    words = ["topk", "items.npy", "queries.npy", "-k", 3, "--ids", "skus.txt", "--out", "top.parquet"]
    done = files(*words, "--exclude", "seen.parquet")
    assert done.code == 0
    assert "2 pairs name a query or an item that is not here" in done.err
    mask = sparse.csr_matrix((np.ones(5), (seen["query"], seen["item"])), shape=(5, 40))
    want = best(exclude=mask)
    got = pd.read_parquet("top.parquet")
    assert got["item"].tolist() == ("sku " + want["item"].astype(str)).tolist()
    sparse.save_npz("seen.npz", mask)
    files(*words, "--exclude", "seen.npz")
    pd.testing.assert_frame_equal(pd.read_parquet("top.parquet"), got)


def test_ids_written_as_text_exclude_integer_rows(files) -> None:
    first = best(k=1)
    lines = "".join(f"{q} 0 {i} 1\n" for q, i in zip(first["query"], first["item"]))
    (files.folder / "seen.qrels").write_text(lines)
    done = files("topk", "items.npy", "queries.npy", "-k", 1, "--exclude", "seen.qrels", "--out", "top.csv")
    assert done.code == 0
    assert read_run("top.csv")["item"].tolist() == best(k=2).groupby("query").tail(1)["item"].tolist()


def test_batches_do_not_change_the_answer(files, monkeypatch) -> None:
    from fastrec.cli import topk

    files("topk", "items.npy", "queries.npy", "--out", "a.csv")
    monkeypatch.setattr(topk, "BATCH", 2)
    files("topk", "items.npy", "queries.npy", "--out", "b.csv", "--threads", 1, "--precision", "float32")
    assert (files.folder / "a.csv").read_bytes() == (files.folder / "b.csv").read_bytes()


def test_bad_input_is_one_line(files, refused) -> None:
    pd.DataFrame({"query": [1], "item": ["x"]}).to_csv("strange.csv", index=False)
    np.save("wide.npy", np.ones((3, 9)))
    np.savez("none.npz", a=np.ones((2, 2)))
    (files.folder / "cut.npy").write_bytes((files.folder / "items.npy").read_bytes()[:-9])
    (files.folder / "two.txt").write_text("a\nb\n")
    base = ["topk", "items.npy", "queries.npy"]
    assert refused("topk", "gone.npy", "queries.npy") == "gone.npy: no such file"
    assert "queries.npy: expected 9 columns" in refused("topk", "wide.npy", "queries.npy")
    assert "cut.npy: expected a .npy array of numbers" in refused("topk", "cut.npy", "queries.npy")
    assert "two.txt: expected 40 ids, one per row of items.npy; got 2" in refused(*base, "--ids", "two.txt")
    assert "not one pair matches" in refused(*base, "--exclude", "strange.csv")
    assert "expected a SciPy CSR matrix" in refused(*base, "--exclude", "none.npz")
    assert "`--metric` must be one of" in refused(*base, "--metric", "manhattan")
    assert "`-k` must be >= 1; got 0" in refused(*base, "-k", 0)
    assert "the suffix must be one of" in refused(*base, "--out", "x.xyz")
    assert "the folder no does not exist" in refused(*base, "--out", "no/x.csv")
    assert "`threads` must be between" in refused(*base, "--threads", 0)
    assert not list(files.folder.glob(".*"))  # no temporary file is left


def test_a_folder_that_cannot_be_written_is_refused(files, refused, monkeypatch) -> None:
    def denied(*args, **kwargs):  # a stand-in for the mode bits, which do not bind root
        raise PermissionError(13, "Permission denied", "locked/x.csv")

    (files.folder / "locked").mkdir()
    monkeypatch.setattr("fastrec._core.files.tempfile.mkstemp", denied)
    assert "permission denied" in refused("topk", "items.npy", "queries.npy", "--out", "locked/x.csv")
