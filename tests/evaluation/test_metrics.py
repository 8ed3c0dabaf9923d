"""Metric names, worked examples, bounds, and a user's own metrics."""

from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastrec as fr
from fastrec.evaluation.metrics import REGISTRY, Column, parse

RUN = {"q": ["a", "b", "c", "d", "e"]}
TRUTH = {"q": {"a": 1, "c": 1, "x": 1, "y": 1}}  # relevance 1, 0, 1, 0, 0 of R = 4


def value(metric: str, run: Any = RUN, truth: Any = TRUTH, **policies: Any) -> float:
    return fr.evaluate(run, truth, [metric], **policies)[metric]


@pytest.mark.parametrize(
    ("denominator", "at_2", "at_5"),
    [("relevant", 0.25, 5 / 12), ("capped", 0.5, 5 / 12), ("cutoff", 0.5, 1 / 3), ("hits", 1.0, 5 / 6)],
)
def test_average_precision_by_denominator(denominator: str, at_2: float, at_5: float) -> None:
    assert value("map@2", map_denominator=denominator) == pytest.approx(at_2, abs=1e-15)
    assert value("map@5", map_denominator=denominator) == pytest.approx(at_5, abs=1e-15)


def test_graded_gain_by_hand() -> None:
    run, truth = {"q": ["a", "n", "c"]}, {"q": {"a": 3, "b": 2, "c": 1, "n": 0}}
    linear = (3 + 1 / 2) / (3 + 2 / math.log2(3) + 1 / 2)
    exponential = (7 + 1 / 2) / (7 + 3 / math.log2(3) + 1 / 2)
    assert value("ndcg@3", run, truth) == pytest.approx(linear, abs=1e-15)
    assert value("ndcg@3", run, truth, gain="exponential") == pytest.approx(exponential, abs=1e-15)
    assert value("ndcg@3", run, truth, ideal="list") == pytest.approx(3.5 / (3 + 1 / math.log2(3)), abs=1e-15)
    assert value("dcg", run, truth, gain={3: 10, 2: 5, 1: 4}) == pytest.approx(12.0, abs=1e-15)
    # a table that is not monotone: the ideal is by value, not by grade
    assert value("ndcg", run, truth, gain={1: 10.0, 2: 0, 3: 0}) == pytest.approx(0.5, abs=1e-15)


def test_a_gain_table_must_know_every_grade_above_0() -> None:
    run, truth = {"p": ["a"], "q": ["a", "n", "c"]}, {"p": {"a": 1}, "q": {"a": 3, "b": 2, "c": 1, "n": -1}}
    message = (
        "`gain` has no worth for the grade 2, which `truth` holds in query 'q'; add it to the table: 2 as"
    )
    for metrics in (["ndcg@10"], ["map", "dcg"]):
        with pytest.raises(ValueError, match=message):
            fr.evaluate(run, truth, metrics, gain={3: 10, 1: 4})
    assert fr.evaluate(run, truth, ["map"], gain={3: 10, 1: 4})["map"] == pytest.approx((1 + 5 / 9) / 2)
    with pytest.raises(ValueError, match="the grade 1, which `truth` holds in query 'r'"):
        fr.evaluate(run, {"p": [], "r": ["a"]}, ["ndcg"], gain={2: 3})
    for nothing in ({"p": []}, {"p": {"a": 0}}, {}):
        fr.evaluate(run, nothing, ["ndcg"], gain={2: 3})


def test_cascade_metrics_by_hand() -> None:
    run, truth = {"q": ["a", "n", "c"]}, {"q": {"a": 2, "c": 1}}
    stop = [3 / 8, 0, 1 / 8]
    assert value("err(max_gain=3)@3", run, truth) == pytest.approx(stop[0] + (1 - stop[0]) * stop[2] / 3)
    assert value("nerr(max_gain=3)", run, truth) == pytest.approx(
        (3 / 8 + 5 / 8 / 8 / 3) / (3 / 8 + 5 / 8 / 8 / 2)
    )
    assert "max_gain=3" in fr.evaluate(run, truth, ["err(3)"]).convention["err(3)"]
    with pytest.raises(ValueError, match=r"'err' needs 'max_gain', as in 'err\(max_gain=4\)'"):
        value("err@10", run, truth)
    with pytest.raises(ValueError, match="below the truth's largest gain"):
        value("err(max_gain=1)", run, truth)
    assert value("rbp(p=0.5)", run, truth) == pytest.approx(0.5 * (1 + 0.25))
    assert value("graded_rbp(p=0.5, max_gain=4)", run, truth) == pytest.approx(0.5 * (2 / 4 + 0.25 / 4))
    assert value("rbp_residual(p=0.5)", run, truth) == pytest.approx(
        0.5 * 0.5 + 0.5**3
    )  # "n", and what follows
    assert value("rbp_residual(p=0.5)@1", run, truth) == 0.5
    assert value("normalized_rbp(p=0.5)", run, truth) == pytest.approx((1 + 0.25) / (1 + 0.5))


def test_pair_metrics_by_hand() -> None:
    assert value("auc") == pytest.approx(5 / 6)  # of 2 x 3 pairs, (b, c) is out of order
    assert value("mean_rank") == 2.0
    assert value("arp") == 2.0
    assert value("arp", truth={"q": {"a": 3, "c": 1}}) == pytest.approx((3 * 1 + 1 * 3) / 4)
    assert value("pair_accuracy(tie=0)", {"q": {"a": 1.0, "b": 1.0}}, {"q": {"a": 1}}) == 0.0
    assert value("pair_accuracy", {"q": {"a": 1.0, "b": 1.0}}, {"q": {"a": 1}}) == 0.5
    # 4 relevant items, found at ranks 1 and 3, so with 0 and 1 others above
    assert value("pauc@2") == pytest.approx((2 + 1) / (4 * 2))
    assert value("pauc@1") == pytest.approx(1 / 4)
    assert value("pap@2") == pytest.approx((2 + 1) / (2 * 2))
    # the curve: (0, 1/4), (1/6, 1/4), (1/6, 1/2), (3/6, 1/2), then straight to (1, 1)
    assert value("lauc(n_items=10)") == pytest.approx(1 / 6 * 1 / 4 + 2 / 6 * 1 / 2 + 3 / 6 * 3 / 4)
    assert value("judged@10", truth={"q": {"a": 1, "c": 0}}) == 2 / 5
    assert value("unjudged@2", truth={"q": {"a": 1, "c": 0}}) == 1 / 2
    assert value("pair_accuracy", {"q": ["a", "b", "c"]}, {"q": {"a": 1, "b": 3, "c": 2}}) == pytest.approx(
        1 / 3
    )
    ev = fr.evaluate({"q": ["a"], "p": ["a", "b"]}, {"q": {"a": 1}, "p": {"a": 1}}, ["auc", "map"])
    assert math.isnan(ev.values[0, 0])
    assert ev["auc"] == 1.0
    assert ev.counts["undefined"] == {"auc": 1}


def test_geometric_map() -> None:
    ev = fr.evaluate({"q": ["a"], "p": ["b"]}, {"q": {"a": 1}, "p": {"a": 1}}, ["gmap"])
    assert ev["gmap"] == pytest.approx(math.sqrt(1e-5))


def test_spellings() -> None:
    labels = [
        "NDCG@10",
        "P@5",
        "recall@5,20, 100",
        "Hit-Rate@1",
        "success@1",
        "rr",
        "R-precision",
        "rbp(0.7)@3",
    ]
    columns = parse(labels)
    assert [c.label for c in columns] == [
        "NDCG@10", "P@5", "recall@5", "recall@20", "recall@100", "Hit-Rate@1", "success@1", "rr", "R-precision",
        "rbp(0.7)@3",
    ]  # fmt: skip
    assert [c.metric.name for c in columns[-4:]] == ["hit_rate", "mrr", "r_precision", "rbp"]
    assert [c.label for c in parse("ndcg@10")] == ["ndcg@10"]
    # as trec_eval, pytrec_eval and ranx write them
    columns = parse(
        [
            "ndcg_cut_10",
            "P.5,10",
            "iprec_at_recall_0.30",
            "rbp.95",
            "recip_rank",
            "set_F",
            "hits@3",
            "11pt_avg",
        ]
    )
    assert [(c.label, c.metric.name, c.cutoff) for c in columns] == [
        ("ndcg_cut_10", "ndcg", 10), ("P_5", "precision", 5), ("P_10", "precision", 10),
        ("iprec_at_recall_0.30", "iprec_at_recall", None), ("rbp.95", "rbp", None), ("recip_rank", "mrr", None),
        ("set_F", "f1", None), ("hits@3", "num_rel_ret", 3), ("11pt_avg", "11pt_avg", None),
    ]  # fmt: skip
    assert [c.parameters for c in columns if c.parameters][:2] == [(0.3, 9.0), (0.95,)]
    assert [c.metric.name for c in parse(["mean_average_precision", "Mean Reciprocal Rank@5", "HitRatio@3"])] == [
        "map", "mrr", "hit_rate",
    ]  # fmt: skip
    assert parse("set_F.4")[0] == Column("set_F.4", REGISTRY["f1"], None, (2.0,))  # beta squared
    assert parse("IPrec@0.5")[0].parameters == (0.5, 9.0)
    assert parse("nrbp(beta=0.9)")[0].parameters == (0.5, 0.9)
    assert parse("nrbp(0.1, 0.2)")[0].parameters == (0.1, 0.2)
    assert len(parse(["map", "map", "map@5", "map@5,5"])) == 2


@pytest.mark.parametrize(
    ("metrics", "error", "message"),
    [
        (["ndgc@10"], ValueError, "no metric 'ndgc'. Did you mean 'ndcg'"),
        (["ndcg@0"], ValueError, "positive integer.*'ndcg@0'"),
        (["ndcg@-1"], ValueError, "positive integer"),
        (["ndcg@2.5"], ValueError, "positive integer"),
        (["ndcg@"], ValueError, "positive integer"),
        (["recall@5,"], ValueError, "positive integer"),
        (["ndcg(3)"], ValueError, "has no parameter 'k': a cutoff follows the name, as in 'ndcg@10'"),
        (
            "map, mrr@10",
            ValueError,
            r"several names are a list, such as \['ndcg@10', 'map'\]; got 'map, mrr@10'",
        ),
        (["f_beta(beta=1e200)@2"], ValueError, r"'beta' must be between 0 and 1e\+100"),
        ("rbp(p=0.8),map", ValueError, "several names are a list"),
        (None, TypeError, "must be a list of names; got NoneType"),
        (["set_P.5"], ValueError, "set measures are of the whole list; got 'set_P.5'.*'precision@10'"),
        (["set_recall@5"], ValueError, "set measures are of the whole list"),
        (["set_F_2,4"], ValueError, "set measures are of the whole list"),
        (["map(3.5)"], ValueError, "takes no parameter"),
        (["precision(k=10)"], ValueError, "a cutoff follows the name"),
        (
            ["AP(rel=2)"],
            ValueError,
            "'map' has no parameter 'rel': a relevance level is an argument, relevance_level",
        ),
        (["RBP(p=0.8, rel=1)"], ValueError, "relevance_level=2; got 'RBP"),
        (["nDCG(dcg='exp-log2')@10"], ValueError, "gain='exponential'"),
        (
            ["novelty@10"],
            ValueError,
            "'novelty' is none of ranked lists and relevance; fr.evaluate_catalog has it",
        ),
        (["gauc"], ValueError, "fr.evaluate_clicks has it"),
        (["rbp(q=1)"], ValueError, "parameter of 'rbp' is 'p'"),
        (["rbp(p=x)"], ValueError, "must be a number"),
        (["rbp(p=inf)"], ValueError, "must be a number"),
        (["rbp(p=1.5)"], ValueError, "'p' must be between 0 and 1"),
        (["rbp(p=0.5, p=0.6)"], ValueError, "parameter of 'rbp' is 'p'"),
        (["nrbp(0.1, 0.2, 0.3)"], ValueError, "are 'alpha' and 'beta'"),
        (["pauc"], ValueError, "needs a cutoff"),
        (["ndgc_cut_10"], ValueError, "Did you mean"),
        (["sampled_ndcg@10"], ValueError, "refused.*evaluate_sampled"),
        ([], ValueError, "no metric"),
        ([""], ValueError, "cannot read"),
        ([10], TypeError, "int 10"),
        (None, TypeError, "NoneType"),
    ],
)
def test_bad_names(metrics: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        fr.evaluate(RUN, TRUTH, metrics)


pairs = st.tuples(st.integers(0, 30), st.integers(-1, 3))
lists = st.lists(pairs, min_size=1, max_size=25, unique_by=lambda pair: pair[0])
BOUNDED = [
    "ndcg@5", "ndcg", "map", "mrr@3", "recall@5", "precision@5", "f1@5", "bpref", "r_precision", "rbp", "11pt_avg",
    "judged@5", "err(max_gain=3)", "nerr(max_gain=3)@4", "graded_rbp(max_gain=3)", "normalized_rbp@5", "rbp_residual",
    "lauc(n_items=40)@5", "pauc@3", "pap@3", "compatibility", "auc@30",
]  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(judged=lists, order=st.randoms(use_true_random=False))
def test_bounds_and_swaps(judged: list, order: Any) -> None:
    truth = {"q": dict(judged)}
    items = list(range(31))
    order.shuffle(items)
    before = np.nan_to_num(fr.evaluate({"q": items}, truth, BOUNDED).values[0])  # auc of one class
    assert (before >= 0).all()
    assert (before <= 1 + 1e-12).all()
    place = order.randrange(30)
    gains = [truth["q"].get(item, 0) for item in items[place : place + 2]]
    if (
        gains[0] < gains[1] and min(gains) >= 0
    ):  # put the better one first: nothing that rewards rank gets worse
        items[place], items[place + 1] = items[place + 1], items[place]
        rewarding = [
            "ndcg",
            "map",
            "mrr",
            "rbp",
            "recall@5",
            "err(max_gain=3)",
            "lauc(n_items=40)",
            "pauc@3",
            "pap@3",
        ]
        after = fr.evaluate({"q": items}, truth, rewarding)
        older = fr.evaluate(
            {"q": [*items[:place], items[place + 1], items[place], *items[place + 2 :]]}, truth, after.metrics
        )
        assert (after.values >= older.values - 1e-12).all()


def test_every_metric_has_a_definition_that_is_documented() -> None:
    for metric in REGISTRY.values():
        assert metric.function is not None or metric.definition.__doc__


class TestCustom:
    """A user's own metrics."""

    def test_runs_in_the_same_pass(self) -> None:
        pytest.importorskip("numba", reason="user metrics are compiled by Numba")

        @fr.metric("first_gain@k")
        def first_gain(gains, ideal, k):  # type: ignore[no-untyped-def]
            for i in range(min(k, len(gains))):
                if gains[i] > 0:
                    return gains[i] / ideal[0]
            return 0.0

        truth = {"q": {"b": 1, "x": 4}, "p": {"a": 2}}
        run = {"q": ["a", "b"], "p": ["a"]}
        ev = fr.evaluate(run, truth, ["first_gain@1,2", "first_gain", "map"])
        assert ev.values[:, :3].tolist() == [[0.0, 0.25, 0.25], [1.0, 1.0, 1.0]]
        assert fr.evaluate(run, truth, [first_gain]).values.ravel().tolist() == [0.25, 1.0]

    def test_errors_are_those_of_the_users_code(self) -> None:
        pytest.importorskip("numba", reason="user metrics are compiled by Numba")

        @fr.metric("fails@k")
        def fails(gains, ideal, k):  # type: ignore[no-untyped-def]
            if k == 3:
                raise ValueError("three is too many")
            return 1.0

        assert fr.evaluate(RUN, TRUTH, ["fails@2"])["fails@2"] == 1.0
        with pytest.raises(ValueError, match="three is too many"):
            fr.evaluate(RUN, TRUTH, ["fails@3"])

        @fr.metric("beyond@k")
        def beyond(gains, ideal, k):  # type: ignore[no-untyped-def]
            return gains[k - 1]  # the line of the error

        assert fr.evaluate(RUN, TRUTH, ["beyond@3"])["beyond@3"] == 1.0
        with pytest.raises(IndexError, match="out of bounds") as caught:
            fr.evaluate(RUN, TRUTH, ["beyond@900"])
        assert "return gains[k - 1]  # the line of the error" in str(caught.traceback[-1].statement)

        @fr.metric("uncompilable")
        def uncompilable(gains, ideal):  # type: ignore[no-untyped-def]
            import json

            return len(json.dumps([1.0]))

        with pytest.raises(
            TypeError, match=r"'uncompilable' \(.*test_metrics.py:\d+\) is not code that Numba"
        ):
            fr.evaluate(RUN, TRUTH, ["uncompilable"])
        with pytest.raises(ValueError, match="takes no cutoff"):
            fr.evaluate(RUN, TRUTH, ["uncompilable@2"])

    def test_what_is_returned(self) -> None:
        numba = pytest.importorskip("numba", reason="user metrics are compiled by Numba")

        def nothing(gains, ideal):  # type: ignore[no-untyped-def]
            pass

        def text(gains, ideal):  # type: ignore[no-untyped-def]
            return "x"

        def table(gains, ideal):  # type: ignore[no-untyped-def]
            return {"a": [1, "b"]}

        def now_and_then(gains, ideal):  # type: ignore[no-untyped-def]
            return None if len(gains) > 3 else 1.0

        for function, kind in (
            (nothing, "NoneType"),
            (text, "str"),
            (table, "dict"),
            (now_and_then, "NoneType"),
        ):
            fr.metric("returns")(function)
            with pytest.raises(TypeError, match=rf"must return a number; it returns {kind}"):
                fr.evaluate(RUN, TRUTH, ["returns"])

        @fr.metric("top")
        @numba.njit
        def top(gains, ideal):  # type: ignore[no-untyped-def]
            return gains[0] > 0

        assert fr.evaluate(RUN, TRUTH, ["top"]).values.ravel().tolist() == [1.0]

    @pytest.mark.parametrize("name", ["ndcg", "ndcg@k", "a@10", "", "a b", 3])
    def test_names(self, name: Any) -> None:
        with pytest.raises(ValueError, match=r"built-in|must look like"):
            fr.metric(name)
        with pytest.raises(TypeError, match="arguments"):
            fr.metric("one_argument")(lambda gains: 0.0)


class TestAccumulator:
    """Batches, merged, equal one call."""

    METRICS = ("ndcg@5", "map", "auc", "gmap", "precision@3")

    def data(self) -> tuple[np.ndarray, list]:
        rng = np.random.default_rng(1)
        run = np.stack([rng.permutation(40)[:12] for _ in range(50)])
        return run, [rng.permutation(40)[: rng.integers(0, 9)] for _ in range(50)]

    @pytest.mark.parametrize("convention", ["trec", "recbole", "lenskit", "implicit"])
    def test_batches_equal_one_call(self, convention: str) -> None:
        run, truth = self.data()
        whole = fr.evaluate(run, truth, self.METRICS, convention)
        parts = []
        for start, stop in ((0, 13), (13, 14), (14, 50)):
            part = fr.evaluation.Accumulator(self.METRICS, convention)
            parts.append(part.update(run[start:stop], truth[start:stop]))
        left = (
            fr.evaluation.Accumulator(self.METRICS, convention)
            .merge(parts[0])
            .merge(parts[1])
            .merge(parts[2])
        )
        right = parts[0].merge(pickle.loads(pickle.dumps(parts[1].merge(parts[2]))))
        for joined in (left.result(), right.result()):
            assert joined.values.tobytes() == whole.values.tobytes()
            assert joined.mean.equals(whole.mean)
            assert joined.counts == whole.counts
            assert list(joined.query_ids) == list(whole.query_ids)

    def test_weights(self) -> None:
        run, truth = self.data()
        weights = np.arange(50.0)
        whole = fr.evaluate(run, truth, weights=weights)
        total = fr.evaluation.Accumulator()
        for rows in (slice(0, 20), slice(20, 50)):
            total.update(run[rows], truth[rows], weights=weights[rows])
        assert total.result().mean.equals(whole.mean)
        assert len(total) == 50

    def test_refusals(self) -> None:
        total = fr.evaluation.Accumulator(["map"]).update(RUN, TRUTH)
        with pytest.raises(ValueError, match="query 'q' is in two batches"):
            total.update(RUN, TRUTH).result()
        with pytest.raises(ValueError, match="same metrics"):
            total.merge(fr.evaluation.Accumulator(["mrr"]))
        with pytest.raises(TypeError, match="Accumulator"):
            total.merge(3)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="needs 'max_gain'"):
            fr.evaluation.Accumulator(["err@5"])
        assert fr.evaluation.Accumulator(["map"]).result()["map"] == 0.0
