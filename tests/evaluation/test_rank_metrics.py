"""The compiled metrics against their definitions, and against themselves where nothing may matter."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from subprocesses import USABLE_ISAS, output_of

from fastrec.evaluation.conventions import Convention
from fastrec.evaluation.metrics import parse
from fastrec.evaluation.rank_metrics import CASE_METRICS, rank_metrics

CASES = list(rank_metrics.examples(np.random.default_rng(11)))


@pytest.mark.parametrize("case", CASES, ids=[str(i) for i in range(len(CASES))])
def test_kernel_equals_definition(case: dict) -> None:
    expected, expected_counts = rank_metrics.run("reference", **case)
    values, counts = rank_metrics.run("cpu", **case)
    np.testing.assert_array_equal(counts, expected_counts)
    np.testing.assert_allclose(values, expected, rtol=1e-12, atol=1e-13)


def test_threads_and_chunks_do_not_matter() -> None:
    rng = np.random.default_rng(5)
    case = CASES[9] | {"ids": rng.permutation(40 * 300), "ptr": np.arange(301) * 40, "scores": None}
    sizes = rng.integers(0, 30, 300)
    case |= {
        "truth_ptr": np.concatenate(([0], np.cumsum(sizes))),
        "truth_ids": rng.permutation(40 * 300)[: sizes.sum()],
        "gains": None,
    }
    one = rank_metrics(**case, threads=1)[0]
    for threads in (2, 3, 8):
        assert rank_metrics(**case, threads=threads)[0].tobytes() == one.tobytes()


AVERAGED = [
    "ndcg@1,3,5", "ndcg", "dcg@4", "precision@3", "recall@2,5", "f1@3", "map", "map@3", "mrr", "mrr@2", "hit_rate@1,3",
    "r_precision", "auc", "mean_rank", "arp", "pair_accuracy", "num_rel_ret@3",
]  # fmt: skip


@pytest.mark.parametrize("seed", range(40))
def test_averaged_ties_equal_the_mean_over_every_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, judged = int(rng.integers(1, 8)), int(rng.integers(0, 6))
    arguments = {
        "ids": rng.permutation(9)[:n].astype(np.int64),
        "ptr": np.array([0, n]),
        "scores": rng.integers(0, 3, n).astype(np.float64),
        "truth_ptr": np.array([0, judged]),
        "truth_ids": rng.permutation(9)[:judged],
        "gains": np.sort(rng.integers(0, 4, judged).astype(float))[::-1],
        "metrics": AVERAGED,
    }
    average = Convention(ties="average")
    want = rank_metrics.run("reference", **arguments, convention=average)[0]
    got = rank_metrics.run("cpu", **arguments, convention=average)[0]
    names = [c.label for c in parse(AVERAGED)]
    for name, a, b in zip(names, got[0], want[0]):
        if name in ("auc", "mean_rank", "pair_accuracy") or not np.isclose(a, b, atol=1e-12, equal_nan=True):
            assert np.isclose(a, b, atol=1e-12, equal_nan=True), name


def test_every_instruction_set_gives_the_same_bits() -> None:
    code = """
        import hashlib, numpy as np
        from fastrec.evaluation.rank_metrics import rank_metrics
        digest = hashlib.sha256()
        for case in rank_metrics.examples(np.random.default_rng(2)):
            for array in rank_metrics(**case):
                digest.update(array.tobytes())
        print(digest.hexdigest())
    """
    assert len({output_of(code, FASTREC_ISA=isa) for isa in USABLE_ISAS}) == 1


@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 255, 257, 1025, 4096, 4097, 9000])
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_items_are_found_wherever_they_are(length: int, dtype: type) -> None:
    rng = np.random.default_rng(length)
    stride = 1 << (16 if dtype is np.int32 else 40)  # ids that differ in few bits
    ids = (rng.permutation(length) - length // 2).astype(dtype) * dtype(stride if length < 2**14 else 1)
    judged = np.concatenate([ids[:: max(1, length // 50)], [7, 11]]).astype(np.int64)
    values, counts = rank_metrics(
        ids, np.array([0, len(judged)]), judged, ["num_rel_ret", "mrr"], ptr=np.array([0, length])
    )
    assert values[0, 0] == np.isin(judged, ids).sum()
    assert values[0, 1] == 1.0
    assert counts[0, 3] == 0


@pytest.mark.parametrize("length", [2, 3, 50, 1000, 5000])
def test_repeats_are_counted_and_taken_out(length: int) -> None:
    rng = np.random.default_rng(length)
    ids = rng.integers(0, length, length)
    first = list(dict.fromkeys(ids.tolist()))
    judged = np.unique(ids)[::3]
    values, counts = rank_metrics(
        ids, np.array([0, len(judged)]), judged, CASE_METRICS, ptr=np.array([0, length])
    )
    clean, _ = rank_metrics(
        np.array(first), np.array([0, len(judged)]), judged, CASE_METRICS, ptr=np.array([0, len(first)])
    )
    assert counts[0, 3] == length - len(first)
    np.testing.assert_array_equal(values, clean)


def test_one_pass_equals_metric_by_metric() -> None:
    case = CASES[15]
    whole = rank_metrics(**case)[0]
    names = list(itertools.chain.from_iterable([c.label for c in parse(case["metrics"])] for _ in range(1)))
    for m, name in enumerate(names):
        single = rank_metrics(**(case | {"metrics": [name]}))[0]
        np.testing.assert_array_equal(single[:, 0], whole[:, m])
