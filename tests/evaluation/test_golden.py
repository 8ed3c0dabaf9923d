"""Recorded outputs of trec_eval on real judgements and runs, where the folder that holds them is at hand."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import fastrec as fr

FOLDER = Path(os.environ.get("FASTREC_DATA", ""), "metrics")
pytestmark = pytest.mark.skipif(
    "FASTREC_DATA" not in os.environ or not FOLDER.is_dir(),
    reason="FASTREC_DATA does not name a folder with metrics/",
)
CUTOFFS = (5, 10, 15, 20, 30, 100, 200, 500, 1000)
NAMES = {
    "map": "map", "mrr": "recip_rank", "r_precision": "Rprec", "bpref": "bpref", "infap": "infAP", "ndcg": "ndcg",
    "11pt_avg": "11pt_avg", "num_ret": "num_ret", "num_rel": "num_rel", "num_rel_ret": "num_rel_ret",
    **{f"precision@{k}": f"P_{k}" for k in CUTOFFS},
    **{f"recall@{k}": f"recall_{k}" for k in CUTOFFS},
    **{f"map@{k}": f"map_cut_{k}" for k in CUTOFFS},
    **{f"ndcg@{k}": f"ndcg_cut_{k}" for k in CUTOFFS},
    **{f"iprec_at_recall({i / 10})": f"iprec_at_recall_{i / 10:.2f}" for i in range(11)},
}  # fmt: skip


def lines(path: Path) -> Iterator[list[str]]:
    with gzip.open(path, "rt") if path.suffix == ".gz" else open(path) as file:
        for line in file:
            if line.strip():
                yield line.split()


def read(path: Path, item: int, value: int) -> dict[str, dict[str, float]]:
    table: dict[str, dict[str, float]] = {}
    for fields in lines(path):
        table.setdefault(fields[0], {})[fields[item]] = float(fields[value])
    return table


@pytest.mark.parametrize("name", ["chorus", "esci"])
def test_real_search_sets(name: str) -> None:
    expected = pd.read_parquet(FOLDER / "golden" / f"{name}.expected_pytrec_eval.parquet")
    truth = read(FOLDER / "golden" / f"{name}.qrels.trec.gz", 2, 3)
    run = read(FOLDER / "golden" / f"{name}.run_minilm_top100.trec.gz", 2, 4)
    column = next(c for c in expected.columns if not pd.api.types.is_float_dtype(expected[c]))
    expected = expected.set_index(expected[column].astype(str))
    wanted = {ours: theirs for ours, theirs in NAMES.items() if theirs in expected.columns}
    assert len(wanted) > 30
    ev = fr.evaluate(run, truth, list(wanted))
    rows = expected.loc[list(map(str, ev.query_ids)), list(wanted.values())].to_numpy(float)
    np.testing.assert_allclose(ev.values, rows, rtol=0, atol=1e-12)


def test_trec_eval_prints_the_same() -> None:
    """``trec_eval -q -m all_trec qrels.test results.test``, to the four digits that it prints."""
    folder = FOLDER / "trec_eval"
    ev = fr.evaluate(
        read(folder / "results.test", 2, 4), read(folder / "qrels.test", 2, 3), list(NAMES), missing="skip"
    )
    # trec_eval 10, which printed this, rounds recall levels to another rank than trec_eval 9, whose rule is ours
    ours = {theirs: ours for ours, theirs in NAMES.items() if not ours.startswith(("iprec", "11pt"))}
    table, checked = ev.per_query, 0
    for measure, query, value in lines(folder / "out.test.aq"):
        if measure not in ours:
            continue
        got = table.loc[query, ours[measure]] if query != "all" else ev[ours[measure]]
        if query == "all" and measure.startswith("num_"):  # trec_eval sums these
            got = table[ours[measure]].sum()
        assert abs(got - float(value)) <= 5.1e-5, (measure, query)
        checked += 1
    assert checked > 150
