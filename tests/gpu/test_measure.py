"""``fr.evaluate`` on a card, on the host: real sources, real launch code, a CuPy without a card."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cuda_host
import fake_cupy
import numpy as np
import pytest

import fastrec as fr
from fastrec.evaluation import on_device
from fastrec.evaluation.conventions import Convention
from fastrec.evaluation.rank_metrics import rank_metrics as RANK_METRICS
from fastrec.ranking.result import TopK

pytestmark = cuda_host.NEEDED


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> fake_cupy.Fake:
    on_device._constant.cache_clear()
    return fake_cupy.install(monkeypatch, tmp_path)


@pytest.fixture(params=["forward", "reverse", 7])
def order(request: pytest.FixtureRequest) -> Iterator[None]:
    with cuda_host.thread_order(request.param):
        yield


def there(cupy: fake_cupy.Fake, case: dict[str, Any]) -> dict[str, Any]:
    topics = case.get("topics")
    return {
        name: cupy.asarray(value) if isinstance(value, np.ndarray) else value for name, value in case.items()
    } | ({} if topics is None else {"topics": tuple(cupy.asarray(part) for part in topics)})


def compare(got: tuple[Any, Any], expected: tuple[Any, Any], exact: np.ndarray, what: str = "") -> None:
    np.testing.assert_array_equal(got[1].get(), expected[1], err_msg=what)
    values = got[0].get()
    np.testing.assert_array_equal(values[:, exact], expected[0][:, exact], err_msg=what)
    np.testing.assert_allclose(values, expected[0], rtol=1e-12, atol=0, err_msg=what)


def exact(case: dict[str, Any]) -> np.ndarray:
    """Columns without exp2, which have the CPU's bits."""
    columns = RANK_METRICS._contract(**case)["columns"]
    return np.array([column.metric.kernel not in ("err", "nerr") for column in columns])


def test_cases_of_the_registry_have_the_bits_of_the_cpu(cupy: fake_cupy.Fake) -> None:
    for number, case in enumerate(RANK_METRICS.examples(np.random.default_rng(3))):
        compare(RANK_METRICS(**there(cupy, case)), RANK_METRICS(**case), exact(case), f"case {number}")


def test_the_order_of_threads_does_not_matter(cupy: fake_cupy.Fake, order: None) -> None:
    rng = np.random.default_rng(4)
    cases = list(RANK_METRICS.examples(rng))
    for number in rng.choice(len(cases) - 1, 8, replace=False):
        case = cases[number]
        compare(RANK_METRICS(**there(cupy, case)), RANK_METRICS(**case), exact(case), f"case {number}")


@pytest.mark.parametrize("ties", ["optimistic", "pessimistic", "id_asc"])
def test_subtopics_of_items_that_tie(cupy: fake_cupy.Fake, ties: str) -> None:
    """An item keeps its subtopics where the order of a tied block moves it."""
    cases = [case for case in RANK_METRICS.examples(np.random.default_rng(5)) if "topics" in case]
    for case in cases:
        case = case | {"convention": Convention(ties=ties)}
        expected = RANK_METRICS.run("reference", **case)
        got = RANK_METRICS(**there(cupy, case))
        np.testing.assert_array_equal(got[1].get(), expected[1])
        np.testing.assert_allclose(got[0].get(), expected[0], rtol=1e-12, atol=1e-15)


def test_subtopics_of_a_truth_on_the_card(cupy: fake_cupy.Fake) -> None:
    rng = np.random.default_rng(2)
    ids = np.stack([rng.choice(40, 12, replace=False) for _ in range(30)])
    truth = fr.Truth(
        {
            q: {s: {int(i): int(rng.integers(1, 3)) for i in rng.choice(40, 3)} for s in range(q % 4 + 1)}
            for q in range(30)
        }
    )
    metrics = ["alpha_ndcg@5", "nrbp", "map_ia", "subtopic_recall@3", "ndcg@5"]
    card = truth.to("cuda")
    for convention in ("trec", Convention(relevance_level=2.0)):
        expected = fr.evaluate(ids, truth, metrics, convention)
        got = fr.evaluate(cupy.asarray(ids), card, metrics, convention)
        np.testing.assert_array_equal(got.values.get(), expected.values)
    assert len(card._relevant_subtopics) == 2
    assert not card.to("cpu")._relevant_subtopics


def test_averaged_ties(cupy: fake_cupy.Fake) -> None:
    rng = np.random.default_rng(6)
    for length in (1, 2, 33, 70):
        ids = np.stack([rng.choice(99, length, replace=False) for _ in range(7)])
        sizes = rng.integers(0, 9, 7)
        case = {
            "ids": ids.reshape(-1),
            "width": length,
            "scores": rng.integers(0, 5, ids.size).astype(np.float32),
            "truth_ptr": np.concatenate(([0], np.cumsum(sizes))),
            "truth_ids": np.concatenate([rng.choice(99, size, replace=False) for size in sizes]),
            "gains": np.concatenate([np.sort(rng.integers(0, 4, size))[::-1] for size in sizes]).astype(float),
            "metrics": ["ndcg@5", "ndcg", "map", "mrr@9", "recall@4", "precision@3", "hit_rate@2", "f1@10",
                        "r_precision", "auc", "mean_rank", "pair_accuracy@8", "num_rel_ret@6"],
            "convention": Convention(ties="average", ideal="list"),
        }  # fmt: skip
        compare(RANK_METRICS(**there(cupy, case)), RANK_METRICS(**case), np.ones(13, bool))


def test_scratch_is_what_the_kernel_takes_of_it() -> None:
    """`stride` lists the arrays of `lend` one by one: sizes that end in a guard page prove it (see the long lists)."""
    assert on_device.stride(0, 0, 1, listed=False, graded=False, scored=False, overlaps=0) % 16 == 0
    assert on_device.stride(100, 10, 3, listed=False, graded=False, scored=False, overlaps=0) < 3000


@pytest.fixture
def log() -> tuple[np.ndarray, np.ndarray, fr.Truth, Any]:
    rng = np.random.default_rng(8)
    ids = np.stack([rng.choice(200, 20, replace=False) for _ in range(300)])
    ids[5, 12:] = -1
    ids[9] = -1
    scores = np.sort(rng.integers(0, 30, ids.shape), axis=1)[:, ::-1].astype(np.float32)
    truth = {q: {int(i): int(g) for i, g in zip(rng.choice(200, n), rng.integers(0, 4, n))}
             for q, n in enumerate(rng.integers(0, 12, 300))}  # fmt: skip
    return ids, scores, fr.Truth(truth), truth


METRICS = ["ndcg@10", "map", "mrr", "recall@20", "precision@10", "gmap", "err(max_gain=3)", "auc"]


def same(got: fr.evaluation.Evaluation, expected: fr.evaluation.Evaluation) -> None:
    assert got.counts == expected.counts
    assert got.convention == expected.convention
    np.testing.assert_allclose(got.mean, expected.mean, rtol=1e-12)
    np.testing.assert_allclose(got.per_query, expected.per_query, rtol=1e-12)
    np.testing.assert_array_equal(got.query_ids, expected.query_ids)
    exact = ["ndcg@10", "map", "mrr", "recall@20", "precision@10", "auc"]
    assert (got.mean[exact].to_numpy() == expected.mean[exact].to_numpy()).all()


@pytest.mark.parametrize(
    "convention", ["trec", "sklearn", "recbole", "implicit", "lenskit", "rectools", "ranx"]
)
@pytest.mark.parametrize("scored", [True, False])
def test_evaluate_equals_the_cpu(cupy: fake_cupy.Fake, log: Any, convention: str, scored: bool) -> None:
    ids, scores, truth, _ = log
    metrics = [m for m in METRICS if convention != "sklearn" or m not in ("gmap", "err(max_gain=3)")]
    runs = [
        TopK(move(ids), move(scores)) if scored else move(ids)
        for move in (lambda a: a, lambda a: cupy.asarray(a))
    ]
    if convention == "sklearn":
        expected = fr.evaluate(runs[0], truth, metrics, convention)
        got = fr.evaluate(runs[1], truth.to("cuda"), metrics, convention)
        np.testing.assert_allclose(got.per_query, expected.per_query, rtol=1e-12)
        return
    expected = fr.evaluate(runs[0], truth, metrics, convention)
    got = fr.evaluate(runs[1], truth.to("cuda"), metrics, convention)
    assert isinstance(got.values, fake_cupy.Array)
    same(got, expected)
    same(got.to("cpu"), expected)


def test_only_sums_leave_the_card(cupy: fake_cupy.Fake, log: Any) -> None:
    ids, scores, truth, _ = log
    run, there = TopK(cupy.asarray(ids), cupy.asarray(scores)), truth.to("cuda:0")
    fr.evaluate(run, there, METRICS)  # tables go up once
    before = len(cupy.syncs())
    got = fr.evaluate(run, there, METRICS)
    assert set(cupy.syncs()[before:]) <= {"get", "mask", "item"}
    assert sum(1 for entry in cupy.syncs()[before:] if entry == "get") <= 3
    assert cupy.launches()[-3:] == ["fr_rank_metrics", "fr_rank_tally", "fr_column_sums"]
    assert got.values.device.id == 0
    arguments = {"ids": cupy.asarray(ids), "width": 20, "truth_ptr": there._ptr, "truth_ids": there._ids,
                 "longest_truth": there._longest, "metrics": ["ndcg@10"]}  # fmt: skip
    RANK_METRICS(**arguments)
    with cupy.nothing_waits():
        RANK_METRICS(**arguments)


def test_a_gain_table_must_know_the_grades_there_too(cupy: fake_cupy.Fake, log: Any) -> None:
    ids, scores, truth, _ = log
    run, there, table = TopK(cupy.asarray(ids), cupy.asarray(scores)), truth.to("cuda:0"), {1: 1, 2: 5, 3: 2}
    expected = fr.evaluate(TopK(ids, scores), truth, ["ndcg@10"], gain=table)
    np.testing.assert_array_equal(
        fr.evaluate(run, there, ["ndcg@10"], gain=table).values.get(), expected.values
    )
    for where, judged in ((run, there), (TopK(ids, scores), truth)):
        with pytest.raises(ValueError, match="no worth for the grade 2"):
            fr.evaluate(where, judged, ["ndcg@10"], gain={1: 1, 3: 2})


def test_weights_labels_and_queries_of_a_frame(cupy: fake_cupy.Fake, log: Any) -> None:
    ids, scores, _, judged = log
    labels = np.array([f"item {i:03d}" for i in range(200)], object)
    queries = [f"q{q}" for q in range(300)]
    truth = fr.Truth(
        {f"q{q}": {f"item {i:03d}": g for i, g in gains.items()} | {"unseen": 1} for q, gains in judged.items()
         if q % 3}
    )  # fmt: skip
    weights = np.random.default_rng(1).random(len(truth))
    expected = fr.evaluate(TopK(ids, scores, labels), truth, METRICS, queries=queries, weights=weights)
    got = fr.evaluate(
        TopK(cupy.asarray(ids), cupy.asarray(scores), labels), truth.to("cuda"), METRICS, queries=queries,
        weights=weights,
    )  # fmt: skip
    assert expected.counts["tied"] > 0
    assert got.counts == expected.counts
    np.testing.assert_allclose(got.per_query, expected.per_query, rtol=1e-12)
    np.testing.assert_allclose(got.mean, expected.mean, rtol=1e-12)


def test_an_id_matrix_is_a_truth_on_the_card(cupy: fake_cupy.Fake, log: Any) -> None:
    ids = log[0]
    rng = np.random.default_rng(2)
    judged = np.stack([rng.choice(200, 6, replace=False) for _ in range(300)]).astype(np.int32)
    judged[4, 3:] = -1
    expected = fr.evaluate(ids, judged, METRICS)
    same(fr.evaluate(cupy.asarray(ids), cupy.asarray(judged), METRICS), expected)
    truth = fr.Truth(cupy.asarray(judged))
    assert truth.device == "cuda:0"
    assert truth.to("cuda") is truth
    np.testing.assert_array_equal(truth.relevant.get(), fr.Truth(judged).relevant)
    assert truth.to_frame().equals(fr.Truth(judged).to_frame())
    judged[7, 1] = judged[7, 0]
    with pytest.raises(ValueError, match="twice for query 7"):
        fr.Truth(cupy.asarray(judged))


def test_torch_tensors_come_through_dlpack(cupy: fake_cupy.Fake, log: Any) -> None:
    class Tensor:
        """What a CUDA tensor shows."""

        def __init__(self, host: np.ndarray) -> None:
            self._host, self.dtype, self.requires_grad = host, host.dtype, False

        def __dlpack_device__(self) -> tuple[int, int]:
            return 2, 0

        def __dlpack__(self, **_: Any) -> Any:
            raise AssertionError

    ids, _, truth, _ = log
    got = fr.evaluate(Tensor(ids), truth.to("cuda"), METRICS)
    same(got, fr.evaluate(ids, truth, METRICS))


def test_refusals(cupy: fake_cupy.Fake, log: Any) -> None:
    ids, scores, truth, _ = log
    run, there = cupy.asarray(ids), truth.to("cuda")
    with pytest.raises(TypeError, match=r"`run` is on cuda:0 and `truth` on cpu; .*\.to\('cuda:0'\)"):
        fr.evaluate(run, truth)
    with pytest.raises(TypeError, match="`run` is on cpu and `truth` on cuda:0"):
        fr.evaluate(ids, there)
    with pytest.raises(TypeError, match="all arrays must be on one device"):
        fr.evaluate(TopK(run, scores), there)
    with pytest.raises(TypeError, match="must hold item ids; got a matrix of floats"):
        fr.evaluate(cupy.asarray(ids.astype(float)), there)
    with pytest.raises(TypeError, match="int32 or int64 ids on cuda:0; got dtype uint64"):
        fr.evaluate(cupy.asarray(ids.astype(np.uint64)), there)
    bad = scores.copy()
    bad[17, 3] = np.nan
    with pytest.raises(ValueError, match="a score that is NaN, in query 17"):
        fr.evaluate(TopK(run, cupy.asarray(bad)), there)
    holes = ids.copy()
    holes[21, 4] = -1
    with pytest.raises(ValueError, match="-1 before an item in query 21"):
        fr.evaluate(cupy.asarray(holes), there)
    twice = ids.copy()
    twice[33, 4] = twice[33, 9]
    with pytest.raises(ValueError, match=rf"item {twice[33, 4]} twice in query 33"):
        fr.evaluate(cupy.asarray(twice), there)
    assert fr.evaluate(cupy.asarray(twice), there, duplicates="first").counts["duplicates"] == 1
    with pytest.raises(ValueError, match="has no relevant item"):
        fr.evaluate(run, there, empty="error")
    with pytest.raises(TypeError, match=r"pass `\.to\('cpu'\)` of it"):
        fr.compare({"a": fr.evaluate(run, there), "b": fr.evaluate(run, there)})
    with pytest.raises(ValueError, match="'cpu', 'cuda' or 'cuda:<n>'; got 'gpu'"):
        truth.to("gpu")


def test_no_queries_and_no_lists(cupy: fake_cupy.Fake) -> None:
    for shape in ((0, 5), (3, 0)):
        ids = np.zeros(shape, np.int64)
        truth = fr.Truth([np.zeros(0, np.int64) for _ in range(shape[0])])
        expected = fr.evaluate(ids, truth)
        got = fr.evaluate(cupy.asarray(ids), truth.to("cuda"))
        assert got.counts == expected.counts
        np.testing.assert_array_equal(got.mean, expected.mean)


def test_long_lists_use_scratch_in_global_memory(cupy: fake_cupy.Fake) -> None:
    rng = np.random.default_rng(3)
    for length, judged in ((3000, 40), (9000, 6000)):
        ids = np.stack([rng.permutation(20_000)[:length] for _ in range(3)])
        scores = rng.integers(0, 999, ids.shape).astype(np.float32)
        truth = fr.Truth([rng.permutation(20_000)[:judged] for _ in range(3)])
        metrics = ["ndcg@10", "ndcg", "map", "recall@100", "precision@5000"]
        expected = fr.evaluate(TopK(ids, scores), truth, metrics, ties="id_desc")
        got = fr.evaluate(
            TopK(cupy.asarray(ids), cupy.asarray(scores)), truth.to("cuda"), metrics, ties="id_desc"
        )
        assert (got.mean == expected.mean).all()


def test_batches_equal_one_call(cupy: fake_cupy.Fake) -> None:
    cupy.devices = 2
    rng = np.random.default_rng(8)
    ids = np.argsort(rng.random((30, 20)), axis=1)[:, :6]
    judged = [rng.choice(20, 3, replace=False).tolist() for _ in range(30)]
    weights, metrics = rng.random(30) + 0.1, ["ndcg@5", "map", "recall@3"]
    expected = fr.evaluate(ids, fr.Truth(judged), metrics, weights=weights)
    total = fr.evaluation.Accumulator(metrics)
    for rows in (slice(0, 12), slice(12, 30)):
        with cupy.cuda.Device(1):
            run = cupy.asarray(ids[rows])
        total.update(run, fr.Truth(judged[rows]).to("cuda:1"), weights=weights[rows])
    got = total.result()
    assert got.values.device.id == 1
    np.testing.assert_array_equal(got.per_query, expected.per_query)
    np.testing.assert_allclose(got.mean, expected.mean, rtol=1e-15)
    with pytest.raises(TypeError, match=r"one device; got `batch 0` on cuda:1, .* `batch 2` on cpu"):
        total.update(ids[:3], fr.Truth(judged[:3]), weights=weights[:3]).result()
