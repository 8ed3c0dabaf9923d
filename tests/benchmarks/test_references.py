"""The references themselves: against definitions worked out by hand, and able to refuse."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from fastrec.benchmarks import references
from fastrec.ranking.result import TopK


def problem(n: int = 300, k: int = 7) -> tuple[np.ndarray, np.ndarray, int]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((5, 8)).astype(np.float32), rng.standard_normal((n, 8)).astype(np.float32), k


@pytest.mark.parametrize("n", [3, 7, 300, 5000])
def test_topk_is_a_full_sort(n: int) -> None:
    queries, items, k = problem(n)
    items[n // 2] = items[0]  # a tie, which goes to the lower id
    ids, best = references.topk(queries, items, k)
    scores = queries.astype(np.float64) @ items.astype(np.float64).T
    for row in range(len(queries)):
        order = sorted(range(n), key=lambda i: (-np.float32(scores[row, i]), i))[:k]
        assert ids[row, : len(order)].tolist() == order
        assert (ids[row, len(order) :] == -1).all()
        np.testing.assert_allclose(best[row, : len(order)], scores[row, order])


@pytest.mark.parametrize("scale", [2.0**-80, 1.0, 2.0**60])
def test_the_float32_product_drops_nothing_that_matters(scale: float) -> None:
    """Scores that differ by less than float32 products are wrong by, and ties, in sizes of all kinds."""
    rng = np.random.default_rng(3)
    queries = np.tile(rng.integers(-50, 51, (6, 20)), 2).astype(np.float32)
    base = np.repeat(
        [1_000_003, -1_000_003], 20
    )  # at right angles to every query: products of nearly nothing
    items = ((base + rng.integers(-9, 10, (9000, 40))) * scale).astype(np.float32)
    scores = queries.astype(np.float64) @ items.astype(np.float64).T  # of integers: exact
    ids, best = references.topk(queries, items, 9)
    for row in range(len(queries)):
        order = np.lexsort((np.arange(9000), -scores[row]))[:9]
        assert ids[row].tolist() == order.tolist()
        np.testing.assert_array_equal(best[row], scores[row, order])


def test_select_is_a_full_sort() -> None:
    scores = np.random.default_rng(4).integers(0, 3000, (5, 20_000)).astype(np.float32)
    ids, best = references.select(scores, 30)
    np.testing.assert_array_equal(ids, np.argsort(-scores, axis=1, kind="stable")[:, :30])
    np.testing.assert_array_equal(best, np.take_along_axis(scores, ids, axis=1))


def test_topk_leaves_out_what_is_excluded() -> None:
    queries, items, k = problem()
    first, _ = references.topk(queries, items, k)
    seen = csr_matrix((np.ones(5), (np.arange(5), first[:, 0])), shape=(5, len(items)))
    second, _ = references.topk(queries, items, k, seen)
    np.testing.assert_array_equal(second[:, :-1], first[:, 1:])


def test_a_right_answer_passes_and_every_kind_of_wrong_one_does_not() -> None:
    queries, items, k = problem()
    ids, best = references.topk(queries, items, k)
    scores = best.astype(np.float32)
    check = references.same_topk(queries, items, ids, best)
    assert check(TopK(ids, scores)).agrees
    swapped = ids.copy()
    swapped[0, [0, 1]] = swapped[0, [1, 0]]
    missing = ids.copy()
    missing[2] = references.topk(queries, items, k + 1)[0][2, 1:]  # the best one is not there
    for wrong in (
        TopK(swapped, scores),
        TopK(missing, scores),
        TopK(ids, np.nextafter(scores, np.float32(np.inf))),
        TopK(ids[:, :-1], scores[:, :-1]),
        TopK(np.where(ids == ids[0, 0], -1, ids), scores),
    ):
        assert not check(wrong).agrees


def test_peers_may_round_but_not_miss() -> None:
    queries, items, k = problem()
    ids, best = references.topk(queries, items, k)
    seen = csr_matrix((np.ones(1), ([0], [ids[0, 0]])), shape=(5, len(items)))
    check = references.close_topk(queries, items, best)
    assert check((ids, best)).text == "same ids"
    worse = ids.copy()
    worse[1, -1] = np.argmin(queries[1] @ items.T)
    twice = ids.copy()
    twice[1, -1] = twice[1, -2]
    assert not check((worse, best)).agrees
    assert not check((twice, best)).agrees
    assert not references.close_topk(queries, items, best, seen)((ids, best)).agrees


def test_metrics_by_hand() -> None:
    found = references.rank_metrics([[5, 3, 9, 1], [1, 2]], [{3, 1, 7}, {4}])
    assert found["mrr"].tolist() == [0.5, 0.0]
    assert found["map"][0] == pytest.approx((1 / 2 + 2 / 4) / 3)
    assert found["precision@10"][0] == 0.2
    assert found["recall@20"][0] == pytest.approx(2 / 3)
    assert found["r_precision"][0] == pytest.approx(1 / 3)
    assert found["hit_rate@10"].tolist() == [1.0, 0.0]
    ideal = 1 + 1 / np.log2(3) + 1 / 2
    assert found["ndcg@10"][0] == pytest.approx((1 / np.log2(3) + 1 / np.log2(5)) / ideal)


def test_auc_counts_pairs_and_half_of_ties() -> None:
    y, p = np.array([0, 1, 1, 0, 1]), np.array([0.2, 0.2, 0.9, 0.5, 0.1])
    pairs = [(a > b) + (a == b) / 2 for a in p[y > 0] for b in p[y == 0]]
    assert references.auc(y, p) == pytest.approx(np.mean(pairs))


def test_numbers_and_arrays_refuse_nan() -> None:
    assert not references.numbers_agree({"auc": 0.5}, 1e-3)({"auc": float("nan")}).agrees
    assert not references.arrays_agree(np.ones(3), 1e-3)(np.array([1.0, np.nan, 1.0])).agrees


def test_the_optimum_is_one() -> None:
    rng = np.random.default_rng(1)
    X = rng.standard_normal((200, 3))
    y = (X[:, 0] + rng.standard_normal(200) > 0).astype(int)
    least = references.logistic_optimum(X, y, 0.01)
    for _ in range(20):
        assert references.logistic_objective(X, y, rng.standard_normal(3), 0.0, 0.01) > least
