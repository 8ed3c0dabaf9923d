"""Policies, each by a case worked by hand, and what the result says of them."""

from __future__ import annotations

from collections import ChainMap
from contextlib import suppress
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

import fastrec as fr
from fastrec.evaluation import Convention
from fastrec.evaluation.conventions import CHOICES, GAINS, PRESETS
from fastrec.evaluation.metrics import REGISTRY, Metric

RUN = {"full": ["a", "b"], "none": ["a"], "extra": ["a"]}
TRUTH = {"full": {"b": 1}, "none": {"a": 0}, "away": {"a": 1}}


def evaluate(**policies: Any) -> fr.evaluation.Evaluation:
    return fr.evaluate(RUN, TRUTH, ["mrr", "num_ret"], **policies)


def test_counts() -> None:
    counts = evaluate().counts
    assert {name: counts[name] for name in ("queries", "empty", "missing", "unjudged")} == {
        "queries": 3, "empty": 1, "missing": 1, "unjudged": 1,
    }  # fmt: skip


def test_empty_queries() -> None:
    assert evaluate().per_query["mrr"].tolist() == [0.5, 0.0, 0.0]
    assert evaluate(empty="one").per_query["mrr"].tolist() == [0.5, 1.0, 0.0]
    skipped = evaluate(empty="skip")
    assert skipped.query_ids.tolist() == ["full", "away"]
    assert skipped.counts["queries"] == 2
    kept = evaluate(empty="nan")
    assert np.isnan(kept.values[1, 0])
    assert kept["mrr"] == 0.25
    assert kept.counts["undefined"] == {"mrr": 1}
    with pytest.raises(ValueError, match="'none' has no relevant item"):
        evaluate(empty="error")


def test_missing_queries() -> None:
    assert evaluate(missing="skip").query_ids.tolist() == ["full", "none"]
    assert evaluate(missing="skip", empty="skip").query_ids.tolist() == ["full"]
    with pytest.raises(ValueError, match="no item for query 'away'"):
        evaluate(missing="error")


def test_weights() -> None:
    weights = {"full": 3.0, "none": 0.0, "away": 1.0}
    assert evaluate(weights=weights)["mrr"] == 0.375
    assert evaluate(weights=[3, 0, 1], missing="skip")["mrr"] == 0.5
    for bad, message in (
        ([1, 2], "shape"),
        ({"full": 1}, "'none'"),
        ([1, -1, 1], "negative"),
        ([0, 0, 0], "all be 0"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate(weights=bad)


def test_duplicates() -> None:
    with pytest.raises(ValueError, match="item 'a' twice in query 'q'"):
        fr.evaluate({"q": ["a", "a", "b"]}, {"q": {"b": 1}}, ["mrr"])
    ev = fr.evaluate({"q": ["a", "a", "b"]}, {"q": {"b": 1}}, ["mrr"], duplicates="first")
    assert ev["mrr"] == 0.5
    assert ev.counts["duplicates"] == 1


def test_unjudged_items_can_be_left_out() -> None:
    run, truth = {"q": ["u", "n", "v", "r"]}, {"q": {"n": 0, "r": 1}}
    assert fr.evaluate(run, truth, ["mrr"])["mrr"] == 0.25
    assert fr.evaluate(run, truth, ["mrr"], unjudged="skip")["mrr"] == 0.5


def test_short_lists() -> None:
    assert fr.evaluate({"q": ["a"]}, {"q": {"a": 1}}, ["precision@4"])["precision@4"] == 0.25
    assert fr.evaluate({"q": ["a"]}, {"q": {"a": 1}}, ["precision@4"], short="len")["precision@4"] == 1.0


def test_relevance_level() -> None:
    run, truth = {"q": ["a", "b"]}, {"q": {"a": 1, "b": 2}}
    assert fr.evaluate(run, truth, ["mrr"])["mrr"] == 1.0
    assert fr.evaluate(run, truth, ["mrr"], relevance_level=2)["mrr"] == 0.5
    assert fr.evaluate(run, {"q": {"a": 0.2, "b": 0.5}}, ["mrr"], relevance_level=0.5)["mrr"] == 0.5
    assert fr.evaluate(run, {"q": {"a": 0, "b": -1}}, ["recall"], relevance_level=0)["recall"] == 1.0


TIED = {"q": {9: 1.0, 10: 1.0, 1: 1.0}}


@pytest.mark.parametrize(
    ("ties", "ranks"),
    [
        ("trec", {9: 1, 10: 2, 1: 3}),  # "9" > "10" > "1"
        ("id_desc", {10: 1, 9: 2, 1: 3}),
        ("id_asc", {1: 1, 9: 2, 10: 3}),
        ("given", {9: 1, 10: 2, 1: 3}),
        ("optimistic", {9: 1, 10: 1, 1: 1}),
        ("pessimistic", {9: 3, 10: 3, 1: 3}),
    ],
)
def test_orders_of_ties(ties: str, ranks: dict) -> None:
    for item, rank in ranks.items():
        assert fr.evaluate(TIED, {"q": {item: 1}}, ["mrr"], ties=ties)["mrr"] == 1 / rank
    as_text = {"q": {str(item): score for item, score in TIED["q"].items()}}
    if ties == "trec":
        for item, rank in ranks.items():
            assert fr.evaluate(as_text, {"q": {str(item): 1}}, ["mrr"])["mrr"] == 1 / rank
    assert fr.evaluate(TIED, {"q": {9: 1}}, ["mrr"], ties=ties).counts["tied"] == 3


def test_ties_of_a_labelled_index_are_by_label() -> None:
    from fastrec.ranking import TopK

    top = TopK(np.array([[0, 1, 2]]), np.ones((1, 3), np.float32), np.array([9, 10, 1]))
    for ties, first in (("trec", 9), ("id_desc", 10), ("id_asc", 1), ("given", 9)):
        assert fr.evaluate(top, {0: {first: 1}}, ["mrr"], ties=ties)["mrr"] == 1.0


def test_random_ties_are_a_function_of_the_seed() -> None:
    run, truth = {"q": dict.fromkeys(range(50), 1.0)}, {"q": {7: 1}}
    ranks = {
        seed: fr.evaluate(run, truth, ["mean_rank"], ties="random", seed=seed)["mean_rank"]
        for seed in range(30)
    }
    assert len(set(ranks.values())) > 10
    assert fr.evaluate(run, truth, ["mean_rank"], ties="random", seed=3)["mean_rank"] == ranks[3]


def test_scores_are_compared_in_float32_unless_told_otherwise() -> None:
    run, truth = {"q": {"a": 1.0 + 1e-9, "b": 1.0}}, {"q": {"a": 1}}
    assert fr.evaluate(run, truth, ["mrr"])["mrr"] == 0.5  # a tie: "b" > "a"
    assert fr.evaluate(run, truth, ["mrr"], score_precision="float64")["mrr"] == 1.0


def test_infinite_scores_are_legal() -> None:
    run = {"q": {"a": -np.inf, "b": np.inf, "c": 0.0}}
    assert fr.evaluate(run, {"q": {"a": 1}}, ["mrr"])["mrr"] == 1 / 3


def test_the_average_of_ties_is_refused_where_it_is_not_defined() -> None:
    with pytest.raises(ValueError, match="not defined for 'bpref'"):
        fr.evaluate(RUN, TRUTH, ["bpref"], ties="average")
    with pytest.raises(ValueError, match="not defined for map_denominator='hits'"):
        fr.evaluate(RUN, TRUTH, ["map"], ties="average", map_denominator="hits")


@pytest.mark.parametrize("metric", ["mean_rank", "arp", "auc", "pair_accuracy"])
def test_a_cutoff_among_averaged_ties_is_refused_where_it_leaves_the_value_open(metric: str) -> None:
    """Which of the tied items stand above it would be a matter of the input's order."""
    run, truth = {"q": {"a": 1.0, "b": 1.0, "c": 0.0}}, {"q": {"b": 2, "c": 1}}
    assert np.isfinite(fr.evaluate(run, truth, [metric], "sklearn")[metric])
    with pytest.raises(ValueError, match=f"not defined for '{metric}' at a cutoff.*got '{metric}@1'"):
        fr.evaluate(run, truth, [f"{metric}@1"], "sklearn")


def test_the_result_says_how_it_was_computed() -> None:
    ev = fr.evaluate(RUN, TRUTH, ["ndcg@10", "rbp(p=0.5)"], relevance_level=2)
    assert ev.convention["ndcg@10"] == (
        "ndcg@10[gain=linear,discount=log,ideal=judged,ties=trec,score_precision=float32,"
        "empty=zero,missing=zero,duplicates=error,unjudged=nonrel,relevance_level=2,"
        "below_level=gain]"
    )
    assert ev.convention["rbp(p=0.5)"].startswith("rbp[p=0.5,ties=trec")
    assert "| ndcg@10 |" in ev.to_markdown()
    assert ev.to_markdown(2).splitlines()[:2] == ["| metric | mean | queries |", "|---|---:|---:|"]
    assert r"rbp(p=0.5)" in ev.to_latex()
    assert ev.to_frame()["metric"].tolist() == ev.metrics


@pytest.mark.parametrize(
    ("below", "expected"),
    [("gain", (1 + 2 / np.log2(3)) / (2 + 1 / np.log2(3))), ("nothing", 1 / np.log2(3))],
)
def test_what_gains_below_the_relevance_level_are_worth(below: str, expected: float) -> None:
    run, truth = {"q": ["a", "b"]}, {"q": {"a": 1, "b": 2}}
    policies = {"relevance_level": 2, "below_level": below}
    assert fr.evaluate(run, truth, ["ndcg"], **policies)["ndcg"] == pytest.approx(expected, abs=1e-15)
    binary = fr.evaluate(run, {"q": ["a", "b"]}, ["ndcg@1", "dcg"], **policies)  # all gains 1
    assert binary.values.tolist() == [[1.0, 1 + 1 / np.log2(3)] if below == "gain" else [0.0, 0.0]]


def test_a_grade_is_no_power_without_end() -> None:
    truth = {"q": {"a": 1001}}
    assert fr.evaluate({"q": ["a"]}, {"q": {"a": 1000}}, ["ndcg"], gain="exponential")["ndcg"] == 1.0
    with pytest.raises(ValueError, match=r"takes grades up to 1000; `truth` holds 1001.*gain='linear'"):
        fr.evaluate({"q": ["a"]}, truth, ["ndcg"], gain="exponential")
    assert fr.evaluate({"q": ["a"]}, truth, ["map"], gain="exponential")["map"] == 1.0


def test_what_is_too_large_to_be_added_is_refused() -> None:
    """Sums of it would be infinite, and their ratios no numbers."""
    run, truth = {"q": ["a", "b"], "r": ["a"]}, {"q": {"a": 1e301, "b": 1}, "r": {"a": 1}}
    with pytest.raises(ValueError, match=r"a gain that is too large to be added, 1e\+301, in query 'q'"):
        fr.evaluate(run, truth, ["ndcg"])
    truth["q"]["a"] = 1e300
    assert fr.evaluate(run, truth, ["ndcg"])["ndcg"] == 1.0
    with pytest.raises(ValueError, match=r"`gain\[1\]` must be between"):
        fr.evaluate(run, truth, ["ndcg"], gain={1: 1e301})
    with pytest.raises(ValueError, match=r"`weights` must not all be 0, nor above 1e\+300"):
        fr.evaluate(run, truth, ["ndcg"], weights=[1e308, 1e308])


def test_means_by_group() -> None:
    """Each is what the queries of the group alone give, with their weights."""
    run = {q: ["a", "b", "c"] for q in "pqrs"}
    truth = {"p": ["a"], "q": ["b"], "r": ["c"], "s": ["z"]}
    metrics, weights = ["mrr", "gmap", "mean_rank"], {"p": 1.0, "q": 2.0, "r": 3.0, "s": 4.0}
    table = fr.evaluate(run, truth, metrics, weights=weights).by(["x", "y", "x", None])
    assert table["queries"].to_dict() == {"x": 2, "y": 1}
    for group, queries in (("x", "pr"), ("y", "q")):
        part = {q: truth[q] for q in queries}
        alone = fr.evaluate(run, part, metrics, weights={q: weights[q] for q in queries})
        assert table.loc[group, metrics].tolist() == alone.mean.tolist()
    with pytest.raises(ValueError, match="one label per query, 4; got 1"):
        fr.evaluate(run, truth, metrics).by(["x"])


def test_what_is_undefined_is_printed() -> None:
    ev = fr.evaluate({"q": ["a"], "r": ["b"]}, {"q": ["a"], "r": ["c"]}, ["mean_rank", "mrr"])
    assert repr(ev).splitlines()[0] == "<Evaluation: 2 queries, 1 undefined for mean_rank>"


def test_a_convention_can_be_given_whole() -> None:
    assert evaluate(convention=Convention(empty="one")).per_query["mrr"].tolist() == [0.5, 1.0, 0.0]
    assert PRESETS["recbole"].map_denominator == "capped"
    for bad, error, message in (
        ("trecc", ValueError, "Did you mean 'trec'"),
        (3, TypeError, "Convention"),
    ):
        with pytest.raises(error, match=message):
            evaluate(convention=bad)
    for policy, value in (("ties", "best"), ("gain", "cubic"), ("empty", "drop"), ("ideal", "x")):
        with pytest.raises(ValueError, match=policy):
            evaluate(**{policy: value})
    with pytest.raises(TypeError, match="gain"):
        evaluate(gain={1: "x"})


@pytest.mark.parametrize("metric", [m for m in REGISTRY.values() if m.function is None], ids=lambda m: m.name)
def test_the_result_echoes_every_policy_that_changes_a_value(metric: Metric) -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 8, 20) + rng.integers(0, 3, 20) * 1e-9  # ties, some in float32 alone
    run = {q: dict(zip(rng.permutation(30)[: 4 + q].tolist(), scores.tolist())) for q in range(12)}
    truth: Any = {
        q: dict(zip(rng.permutation(30)[:9].tolist(), rng.integers(0, 4, 9).tolist())) for q in range(14)
    }
    if metric.subtopics:
        truth = {
            q: {s: {i: int(g > s) for i, g in items.items()} for s in (0, 1)} for q, items in truth.items()
        }
    given = {"max_gain": "max_gain=4", "n_items": "n_items=100"}
    needed = ",".join(given[name] for name, default in metric.parameters if default is None)
    name = metric.name + f"({needed})" * bool(needed) + "@5" * metric.takes_cutoff
    for policy, choices in {**CHOICES, "gain": GAINS, "relevance_level": (1.0, 2.0)}.items():
        values: dict[str, set[float]] = {}
        for choice in set(choices) - {"error"}:
            level = {"relevance_level": 2} if policy == "below_level" else {}
            with suppress(ValueError):  # an order of ties that is not defined for the metric
                ev = fr.evaluate(run, truth, [name], **{policy: choice}, **level)
                values.setdefault(ev.convention[name], set()).add(round(ev[name], 12))
        assert values
        assert all(len(found) == 1 for found in values.values()), (policy, values)


def test_a_gain_table_may_be_any_mapping() -> None:
    table, truth = {1: 1, 2: 10}, {"q": {"a": 1, "b": 2}}
    expected = fr.evaluate({"q": ["a", "b"]}, truth, ["dcg"], gain=table)["dcg"]
    assert expected == pytest.approx(1 + 10 / np.log2(3), abs=1e-14)
    for mapping in (MappingProxyType(table), ChainMap(table)):
        assert fr.evaluate({"q": ["a", "b"]}, truth, ["dcg"], gain=mapping)["dcg"] == expected
    convention = Convention(gain=table)
    table[2] = 100
    assert fr.evaluate({"q": ["a", "b"]}, truth, ["dcg"], convention)["dcg"] == expected


def test_values_need_not_be_kept() -> None:
    ev = evaluate(per_query=False)
    assert ev["mrr"] == pytest.approx(1 / 6)
    with pytest.raises(ValueError, match="per_query=True"):
        _ = ev.values
    with pytest.raises(KeyError, match="was not computed"):
        _ = ev["map"]
