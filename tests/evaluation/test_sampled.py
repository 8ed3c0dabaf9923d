"""Metrics of sampled lists: the estimators of Krichene and Rendle, by hand and by simulation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastrec as fr
from fastrec.evaluation.sampled import CORRECTIONS, least_squares

N, M = 1000, 50


def sampled_run(rng: np.random.Generator, ranks: np.ndarray) -> tuple[dict, dict]:
    """One relevant item of each rank among N, in a list with M of the others drawn at random."""
    run, truth = {}, {}
    for q, rank in enumerate(ranks.tolist()):
        above = int(rng.binomial(M, (rank - 1) / (N - 1)))
        run[q] = [*range(1, above + 1), 0, *range(above + 1, M + 1)]
        truth[q] = {0: 1}
    return run, truth


def estimate(run: Any, truth: Any, metric: str, correction: str, **more: Any) -> fr.evaluation.Evaluation:
    return fr.evaluate_sampled(run, truth, metric, n_items=N, negatives=M, correction=correction, **more)


def test_by_hand() -> None:
    run, truth = {"q": [*range(1, 4), 0, *range(4, M + 1)]}, {"q": {0: 1}}  # three of the sampled are above
    rank = 1 + (N - 1) * 3 / M
    for metric, sampled, corrected in (
        ("ndcg", 1 / np.log2(5), 1 / np.log2(rank + 1)),
        ("mrr", 1 / 4, 1 / rank),
        ("map@100", 1 / 4, 1 / rank),
        ("recall@10", 1.0, 0.0),
        ("hit_rate@61", 1.0, 1.0),
        ("precision@10", 1 / 10, 0.0),
        ("auc", (M - 3) / M, (N - rank) / (N - 1)),
        ("mean_rank", 4.0, rank),
    ):
        plain = estimate(run, truth, metric, "none")
        assert plain.metrics == [f"{metric} sampled({M})"]
        assert plain.values[0, 0] == pytest.approx(sampled, abs=1e-15), metric
        assert estimate(run, truth, metric, "rank").values[0, 0] == pytest.approx(corrected, abs=1e-15), (
            metric
        )
    described = estimate(run, truth, "ndcg@10", "least_squares").convention[f"ndcg@10 sampled({M})"]
    assert described.startswith("ndcg@10[sampled=50,n_items=1000,correction=least_squares,gamma=0.1,")


def test_the_sample_itself_is_what_evaluate_says() -> None:
    run, truth = sampled_run(np.random.default_rng(0), np.random.default_rng(1).integers(1, N + 1, 200))
    names = ["ndcg@10", "map", "mrr@5", "recall@3", "hit_rate@3", "precision@7", "auc", "mean_rank"]
    plain = fr.evaluate_sampled(run, truth, names, n_items=N, negatives=M, correction="none")
    np.testing.assert_allclose(plain.values, fr.evaluate(run, truth, names).values, rtol=1e-14)


def test_auc_and_mean_rank_are_unbiased_by_rank() -> None:
    rng = np.random.default_rng(5)
    for rank in (1, 10, 300, 1000):
        run, truth = sampled_run(rng, np.full(2000, rank))
        for metric, true in (("mean_rank", rank), ("auc", (N - rank) / (N - 1))):
            got = estimate(run, truth, metric, "rank")
            error = got.values.std() / np.sqrt(len(got)) + 1e-12
            assert abs(got[got.metrics[0]] - true) < 4 * error


@pytest.mark.parametrize("metric", ["ndcg@10", "recall@10", "map"])
def test_corrections_lessen_the_bias(metric: str) -> None:
    """Ranks of a system that is mostly right: what the whole catalogue says, and what samples of it say."""
    rng = np.random.default_rng(7)
    ranks = np.minimum(1 + rng.geometric(0.02, 6000), N)
    run, truth = sampled_run(rng, ranks)
    value = {
        "ndcg@10": (ranks <= 10) / np.log2(ranks + 1),
        "recall@10": ranks <= 10,
        "map": 1 / ranks,
    }[metric]
    error = {c: abs(next(iter(estimate(run, truth, metric, c).mean)) - value.mean()) for c in CORRECTIONS}
    assert error["rank"] < error["none"]
    assert error["least_squares"] < 0.25 * error["none"]


def test_least_squares_minimises_what_it_says() -> None:
    from scipy.stats import binom

    n, m, gamma = 40, 6, 0.2
    chance = binom.pmf(np.arange(m + 1), m, (np.arange(n)[:, None]) / (n - 1))
    value = (np.arange(1, n + 1) <= 5) / np.log2(np.arange(2.0, n + 2))

    def loss(estimates: np.ndarray) -> float:
        mean = chance @ estimates
        variance = chance @ estimates**2 - mean**2
        return float(((1 - gamma) * (mean - value) ** 2 + gamma * variance).sum())

    best = least_squares(lambda rank: (rank <= 5) / np.log2(rank + 1), n, m, gamma)
    rng = np.random.default_rng(0)
    for _ in range(50):
        assert loss(best) <= loss(best + rng.normal(0, 0.01, m + 1))


def test_several_relevant_items_are_ranked_one_by_one() -> None:
    truth = {"q": {0: 1, 100: 1, 200: 1}}
    run = {"q": [100, *range(1, 3), 0, *range(3, M + 1)]}  # 200 is not there: it ranks last
    got = estimate(run, truth, "mean_rank", "none").values[0, 0]
    assert got == pytest.approx((1 + 3 + (M + 1)) / 3)


def test_refusals() -> None:
    run, truth = {"q": [1, 0, 2]}, {"q": {0: 1}}
    with pytest.raises(ValueError, match=r"irrelevant items in every list, 50; query .q. has 2"):
        estimate(run, truth, "ndcg", "rank")
    with pytest.raises(ValueError, match="no function of one rank"):
        estimate(run, truth, "bpref", "rank")
    with pytest.raises(ValueError, match="below `n_items`"):
        fr.evaluate_sampled(run, truth, "ndcg", n_items=10, negatives=10)
    with pytest.raises(ValueError, match="`correction`"):
        estimate(run, truth, "ndcg", "best")
    with pytest.raises(ValueError, match=r"'sampled_ndcg' is refused.*evaluate_sampled"):
        fr.evaluate(run, truth, ["sampled_ndcg@10"])
