from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fastrec.data import read_frame, read_run, read_truth, write_frame, write_run, write_topk, write_truth
from fastrec.ranking import TopK

RUN = pd.DataFrame({"query": ["b", "b", "a"], "item": ["x", "NA", "007"], "score": [2.0, 1 / 3, -1e-300]})
SUFFIXES = ["parquet", "feather", "csv", "tsv", "jsonl", "trec", "csv.gz", "trec.gz", "run"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_written_is_read_back(tmp_path: Path, suffix: str) -> None:
    run = RUN if suffix != "jsonl" else RUN.assign(score=[2.0, 0.25, -1.0])
    write_run(run, tmp_path / f"x.{suffix}")
    pd.testing.assert_frame_equal(
        read_run(tmp_path / f"x.{suffix}"), run, check_dtype=False, check_exact=True
    )
    truth = run.rename(columns={"score": "gain"})
    write_truth(truth, tmp_path / f"x.{suffix}")
    pd.testing.assert_frame_equal(
        read_truth(tmp_path / f"x.{suffix}"), truth, check_dtype=False, check_exact=True
    )
    if "trec" not in suffix and suffix != "run":
        write_frame(run, tmp_path / f"x.{suffix}")
        pd.testing.assert_frame_equal(read_frame(tmp_path / f"x.{suffix}"), run, check_dtype=False)
    assert [p.name for p in tmp_path.iterdir()] == [f"x.{suffix}"]


def test_trec_lines_are_ranked_within_their_query(tmp_path: Path) -> None:
    run = pd.DataFrame(
        {"query": [2, 1, 2, 2], "item": [5, 6, 7, 8], "score": np.array([1, 9, 0.1, 1], np.float32)}
    )
    write_run(run, tmp_path / "x.trec", tag="mine")
    assert (tmp_path / "x.trec").read_text() == (
        "2 Q0 5 1 1.0 mine\n2 Q0 8 2 1.0 mine\n2 Q0 7 3 0.1 mine\n1 Q0 6 1 9.0 mine\n"
    )


@pytest.mark.parametrize("suffix", ["npz", "trec", "parquet", "csv"])
@pytest.mark.parametrize("labels", [None, np.array(["a", "b", "c"])])
def test_a_topk_keeps_ids_scores_and_padding(tmp_path: Path, suffix: str, labels) -> None:
    top = TopK(np.array([[2, 0], [1, -1]]), np.array([[2.5, 0.1], [1, -np.inf]], np.float32), labels)
    write_topk(top, tmp_path / f"x.{suffix}", queries=["p", "q"])
    run = read_run(tmp_path / f"x.{suffix}")
    assert run["query"].tolist() == ["p", "p", "q"]
    want = [2, 0, 1] if labels is None else ["c", "a", "b"]
    assert run["item"].tolist() == (list(map(str, want)) if suffix == "trec" else want)
    assert run["score"].astype(np.float32).tolist() == [2.5, np.float32(0.1), 1.0]


def test_nothing_is_left_of_a_write_that_fails(tmp_path: Path) -> None:
    bad = pd.DataFrame({"query": ["a b"], "item": ["x"], "score": [1.0]})
    with pytest.raises(ValueError, match=r"cannot be empty or hold blanks; got 'a b'"):
        write_run(bad, tmp_path / "x.trec")
    with pytest.raises(ValueError, match=r"one of the formats parquet, feather, csv, tsv, jsonl; got '.xyz'"):
        write_frame(bad, tmp_path / "x.xyz")
    with pytest.raises(FileNotFoundError, match=r"the folder .* does not exist"):
        write_frame(bad, tmp_path / "no" / "x.csv")
    assert list(tmp_path.iterdir()) == []
