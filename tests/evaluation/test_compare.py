"""fr.compare: SciPy's and statsmodels' numbers, matching of queries, degenerate runs, tables."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from subprocesses import USABLE_ISAS, output_of

import fastrec as fr
from fastrec.evaluation import significance
from fastrec.evaluation.bootstrap import bootstrap
from fastrec.evaluation.compare import TESTS, compare

METRICS = ["ndcg@10", "map", "mrr"]


def make_runs(queries=40, names=("old", "new"), seed=0):
    rng = np.random.default_rng(seed)
    difficulty = rng.random((queries, 3))
    return {
        name: pd.DataFrame(
            np.clip(difficulty + 0.05 * number + 0.2 * rng.standard_normal((queries, 3)), 0, 1),
            columns=METRICS,
            index=pd.Index([f"q{q}" for q in range(queries)], name="query"),
        )
        for number, name in enumerate(names)
    }


@pytest.fixture
def runs():
    return make_runs()


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_paired_t_equals_scipy(runs, alternative):
    frame = compare(runs, correction="none", alternative=alternative).frame
    expected = stats.ttest_rel(runs["new"], runs["old"], alternative=alternative)
    np.testing.assert_allclose(frame["statistic"], expected.statistic, rtol=1e-12)
    np.testing.assert_allclose(frame["p"], expected.pvalue, rtol=1e-12)
    interval = stats.ttest_rel(runs["new"], runs["old"]).confidence_interval()
    np.testing.assert_allclose(frame["low"], interval.low, rtol=1e-12)
    np.testing.assert_allclose(frame["high"], interval.high, rtol=1e-12)


def test_descriptive_columns_are_what_they_say(runs):
    old, new = runs["old"].to_numpy(), runs["new"].to_numpy()
    frame = compare(runs).frame
    assert list(frame["metric"]) == METRICS
    assert (frame["baseline"] == "old").all()
    assert (frame["run"] == "new").all()
    assert (frame["n"] == 40).all()
    difference = new - old
    np.testing.assert_allclose(frame["baseline_mean"], old.mean(axis=0))
    np.testing.assert_allclose(frame["run_mean"], new.mean(axis=0))
    np.testing.assert_allclose(frame["difference"], difference.mean(axis=0))
    np.testing.assert_allclose(frame["relative"], difference.mean(axis=0) / old.mean(axis=0))
    np.testing.assert_allclose(frame["effect_size"], difference.mean(axis=0) / difference.std(axis=0, ddof=1))
    np.testing.assert_array_equal(frame["win"], (difference > 0).sum(axis=0))
    np.testing.assert_array_equal(frame["tie"], (difference == 0).sum(axis=0))
    np.testing.assert_array_equal(frame["loss"], (difference < 0).sum(axis=0))


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
@pytest.mark.parametrize("rounded", [False, True], ids=["continuous", "with ties and zeros"])
def test_wilcoxon_equals_scipy(runs, alternative, rounded):
    if rounded:
        runs = {name: run.round(1) for name, run in runs.items()}
    frame = compare(runs, test="wilcoxon", correction="none", alternative=alternative, replicates=50).frame
    for row, metric in zip(frame.itertuples(), METRICS):
        expected = stats.wilcoxon(runs["new"][metric] - runs["old"][metric], alternative=alternative)
        assert row.statistic == expected.statistic
        assert row.p == expected.pvalue


def scipy_permutation(difference, alternative, resamples, rng=None):
    # With one sample, SciPy's "samples" permutations flip its signs.
    return stats.permutation_test(
        (difference,),
        np.mean,
        permutation_type="samples",
        alternative=alternative,
        n_resamples=resamples,
        rng=rng,
    ).pvalue


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
@pytest.mark.parametrize("digits", [1, 15])
def test_randomization_of_few_queries_is_exact(alternative, digits):
    runs = {name: run.round(digits) for name, run in make_runs(11).items()}
    frame = compare(runs, test="randomization", correction="none", alternative=alternative).frame
    difference = (runs["new"] - runs["old"]).to_numpy()
    expected = [scipy_permutation(difference[:, m], alternative, np.inf) for m in range(3)]
    np.testing.assert_allclose(frame["p"], expected, rtol=1e-12)


def test_randomization_is_exact_where_few_of_many_queries_differ():
    changed = np.random.default_rng(4).random((8, 1))
    runs = {"old": np.zeros((50_000, 1)), "new": np.concatenate([changed, np.zeros((49_992, 1))])}
    frame = compare(runs, test="randomization", replicates=256, interval="t").frame
    assert frame["p"].item() == scipy_permutation(changed[:, 0], "two-sided", np.inf) == 2 / 256


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_randomization_agrees_with_scipy_within_monte_carlo_error(runs, alternative):
    frame = compare(runs, test="randomization", alternative=alternative, interval="t").frame
    difference = (runs["new"] - runs["old"]).to_numpy()
    for metric, p in enumerate(frame["p"]):
        expected = scipy_permutation(difference[:, metric], alternative, 9999, rng=1)
        variance = p * (1 - p) + p * (2 - p)  # SciPy doubles a one-sided p
        assert p == pytest.approx(expected, abs=4 * np.sqrt(variance / 9999))


def test_randomization_p_counts_the_observed_outcome_itself():
    runs = {"old": np.zeros((200, 1)), "new": np.ones((200, 1))}
    assert compare(runs, test="randomization", replicates=99).frame["p"].item() == 1 / 100


def test_bootstrap_test_and_interval(runs):
    comparison = compare(runs, test="bootstrap", correction="none", replicates=5000, seed=3)
    difference = (runs["new"] - runs["old"]).to_numpy()
    resampled = bootstrap(difference, replicates=5000, seed=3)
    np.testing.assert_array_equal(comparison.frame["low"], resampled.low)
    np.testing.assert_array_equal(comparison.frame["high"], resampled.high)
    centred = np.abs(resampled.replicates - resampled.mean)
    expected = (1 + (centred >= np.abs(resampled.mean)).sum(axis=0)) / 5001
    np.testing.assert_array_equal(comparison.frame["p"], expected)
    np.testing.assert_allclose(expected, stats.ttest_rel(runs["new"], runs["old"]).pvalue, atol=0.03)


def test_tukey_equals_scipy():
    runs = make_runs(30, ("a", "b", "c", "d"))
    frame = compare(runs, test="tukey_hsd").frame
    for m, metric in enumerate(METRICS):
        expected = stats.tukey_hsd(*(run[metric] for run in runs.values()))
        interval = expected.confidence_interval(0.95)
        rows = frame[frame["metric"] == metric]
        assert len(rows) == 6
        for row in rows.itertuples():
            base, other = "abcd".index(row.baseline), "abcd".index(row.run)
            assert row.p == pytest.approx(expected.pvalue[other, base], rel=1e-9), m
            assert row.p_corrected == row.p
            assert row.statistic == pytest.approx(expected.statistic[other, base], rel=1e-9)
            assert row.low == pytest.approx(interval.low[other, base], rel=1e-9)
            assert row.high == pytest.approx(interval.high[other, base], rel=1e-9)


@pytest.mark.parametrize(
    ("ours", "theirs"), [("holm", "holm"), ("bh", "fdr_bh"), ("bonferroni", "bonferroni")]
)
def test_corrections_equal_statsmodels_and_scipy(ours, theirs):
    multitest = pytest.importorskip("statsmodels.stats.multitest", reason="the reference for corrections")
    rng = np.random.default_rng(7)
    for size in (1, 2, 5, 40):
        p = np.round(rng.random(size) ** 3, 2)
        np.testing.assert_allclose(
            significance.correct(p, ours), multitest.multipletests(p, method=theirs)[1]
        )
        if ours == "bh":
            np.testing.assert_allclose(significance.correct(p, ours), stats.false_discovery_control(p))
    with_nan = significance.correct([0.01, np.nan, 0.04], ours)
    np.testing.assert_array_equal(with_nan[[0, 2]], significance.correct([0.01, 0.04], ours))
    assert np.isnan(with_nan[1])
    assert significance.correct([], ours).shape == (0,)
    np.testing.assert_array_equal(significance.correct([0.2, 0.1], "none"), [0.2, 0.1])


def test_the_correction_counts_every_row():
    runs = make_runs(30, ("a", "b", "c"))
    comparison = compare(runs)
    assert comparison.correction == "holm"
    assert len(comparison.frame) == 9
    np.testing.assert_array_equal(
        comparison.frame["p_corrected"], significance.correct(comparison.frame["p"].to_numpy(), "holm")
    )
    pairs = list(zip(comparison.frame["baseline"], comparison.frame["run"]))[:3]
    assert pairs == [("a", "b"), ("a", "c"), ("b", "c")]
    against = compare(runs, baseline="b").frame
    assert list(zip(against["baseline"], against["run"]))[:2] == [("b", "a"), ("b", "c")]
    np.testing.assert_allclose(against["difference"][0], -comparison.frame["difference"][0])


def test_queries_are_matched_by_id_whatever_their_order(runs):
    expected = compare(runs).frame
    shuffled = {"old": runs["old"], "new": runs["new"].sample(frac=1, random_state=0)}
    pd.testing.assert_frame_equal(compare(shuffled).frame, expected)
    pd.testing.assert_frame_equal(compare({n: r.reset_index() for n, r in shuffled.items()}).frame, expected)


def test_missing_queries(runs):
    runs["new"] = runs["new"].drop(index=["q3", "q7"])
    with pytest.raises(
        ValueError, match=r"run 'new' lacks 2 of the queries of run 'old' \('q3', 'q7'\).*missing="
    ):
        compare(runs)
    with pytest.raises(ValueError, match="run 'new' lacks 2 of the queries of run 'old'"):
        compare({"new": runs["new"], "old": runs["old"]})
    dropped = compare(runs, missing="drop").frame
    assert (dropped["n"] == 38).all()
    np.testing.assert_allclose(
        dropped["p"], stats.ttest_rel(runs["new"], runs["old"].loc[runs["new"].index]).pvalue * 1
    )
    zero = compare(runs, missing="zero").frame
    filled = runs["new"].reindex(runs["old"].index, fill_value=0.0)
    assert (zero["n"] == 40).all()
    np.testing.assert_allclose(zero["p"], stats.ttest_rel(filled, runs["old"]).pvalue)
    other = {"old": runs["old"], "new": runs["old"].set_axis(range(40))}
    with pytest.raises(ValueError, match="no query in common"):
        compare(other, missing="drop")


def test_undefined_values(runs):
    runs["new"].iloc[[1, 5], 0] = np.nan
    runs["old"].iloc[[5, 6], 0] = np.nan
    frame = compare(runs, correction="none").frame
    assert list(frame["n"]) == [37, 40, 40]
    expected = stats.ttest_rel(runs["new"], runs["old"], nan_policy="omit").pvalue
    np.testing.assert_allclose(frame["p"], np.asarray(expected, float), rtol=1e-12)
    assert frame["win"][0] + frame["tie"][0] + frame["loss"][0] == 37
    zero = compare(runs, nan="zero").frame
    assert (zero["n"] == 40).all()
    with pytest.raises(ValueError, match=r"run 'old' has no 'ndcg@10' for query 'q5' \(NaN\)"):
        compare(runs, nan="error")
    runs["new"]["map"] = np.nan
    for test in TESTS:
        frame = compare(runs, test=test, replicates=20).frame
        assert frame["n"][1] == 0
        assert frame.loc[1, ["difference", "low", "high", "p", "p_corrected", "effect_size"]].isna().all()
        assert frame.loc[[0, 2], "p"].notna().all()


@pytest.mark.parametrize("test", TESTS)
def test_runs_that_never_differ(test):
    same = np.random.default_rng(0).random((20, 2))
    frame = compare({"a": same, "b": same.copy()}, test=test, replicates=99).frame
    assert (frame["p"] == 1).all()
    assert (frame[["difference", "effect_size", "win", "loss"]] == 0).all(axis=None)
    assert (frame["tie"] == 20).all()
    if test != "tukey_hsd":  # whose intervals come from the spread over queries
        assert (frame[["low", "high"]] == 0).all(axis=None)


def test_constant_difference():
    runs = {"a": np.full((20, 1), 0.25), "b": np.full((20, 1), 0.75)}
    frame = compare(runs).frame
    assert frame["statistic"].item() == np.inf
    assert frame["effect_size"].item() == np.inf
    assert frame["p"].item() == 0
    assert frame["low"].item() == frame["high"].item() == 0.5
    assert compare(runs, alternative="less").frame["p"].item() == 1
    assert compare(runs, test="bootstrap", replicates=99).frame["p"].item() == 1 / 100
    tukey = compare(runs, test="tukey_hsd").frame
    assert tukey["p"].item() == 0
    assert tukey["low"].item() == tukey["high"].item() == 0.5
    assert (
        compare(runs, test="wilcoxon", replicates=99).frame["p"].item()
        == stats.wilcoxon(np.full(20, 0.5)).pvalue
    )


@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize("queries", [0, 1, 2])
def test_hardly_any_queries(test, queries):
    rng = np.random.default_rng(1)
    runs = {"a": rng.random((queries, 2)), "b": rng.random((queries, 2))}
    frame = compare(runs, test=test, replicates=9).frame
    assert (frame["n"] == queries).all()
    if queries == 0:
        assert frame[["p", "difference", "low", "high", "effect_size"]].isna().all(axis=None)
    if queries == 1:
        assert frame[["low", "high", "effect_size"]].isna().all(axis=None)
        expected = {
            "paired_t": np.nan,
            "tukey_hsd": np.nan,
            "wilcoxon": 1.0,
            "randomization": 1.0,
            "bootstrap": 0.1,
        }
        np.testing.assert_array_equal(frame["p"], [expected[test]] * 2)
    if queries == 2:
        assert frame[["p", "low", "high"]].notna().all(axis=None)


def test_claims_of_a_difference_between_equals_are_as_rare_as_promised():
    rng = np.random.default_rng(9)
    false_claims = dict.fromkeys(("paired_t", "randomization", "bootstrap", "wilcoxon"), 0.0)
    values = rng.beta(0.5, 1, size=(60, 2, 300))  # 300 A/A experiments, as 300 metrics of one comparison
    for test in false_claims:
        runs = {"a": values[:, 0], "b": values[:, 1]}
        frame = compare(runs, test=test, replicates=500, correction="none", interval="t").frame
        false_claims[test] = (frame["p"] < 0.05).mean()
        assert (compare(runs, test=test, replicates=500, interval="t").frame["p_corrected"] < 0.05).sum() <= 1
    assert all(0.02 < rate < 0.085 for rate in false_claims.values()), false_claims


def test_clusters_flip_and_resample_together():
    rng = np.random.default_rng(5)
    users = np.repeat(np.arange(30), 20)
    ids = [f"q{i}" for i in range(600)]
    effect = 0.3 * rng.standard_normal(30)[users]
    runs = {"a": pd.DataFrame({"m": np.zeros(600)}, index=ids), "b": pd.DataFrame({"m": effect}, index=ids)}
    runs["b"]["m"] += 0.1 + 0.05 * rng.standard_normal(600)
    labels = pd.Series(users, index=ids).sample(frac=1, random_state=0)
    clustered = compare(runs, test="randomization", clusters=labels, replicates=2000).frame
    plain = compare(runs, test="randomization", replicates=2000).frame
    assert clustered["p"].item() > 20 * plain["p"].item()
    assert clustered["high"].item() - clustered["low"].item() > 2 * (
        plain["high"].item() - plain["low"].item()
    )
    by_user = np.bincount(users, runs["b"]["m"])
    expected = scipy_permutation(by_user, "two-sided", 9999, rng=0)
    assert clustered["p"].item() == pytest.approx(expected, abs=0.03)
    array = compare(runs, test="randomization", clusters=users, replicates=2000).frame
    np.testing.assert_allclose(array["p"], clustered["p"], atol=0.03)
    with pytest.raises(ValueError, match="`clusters` needs a test and an interval that resample"):
        compare(runs, clusters=users)
    with pytest.raises(ValueError, match="`clusters` must label every query; it lacks 'q0'"):
        compare(runs, test="bootstrap", clusters={"q1": 1})
    with pytest.raises(
        ValueError, match=r"`clusters` must have one label per compared query, shape \(600,\)"
    ):
        compare(runs, test="bootstrap", clusters=[1, 2])


CODE = """
import hashlib, numpy as np
from fastrec.evaluation.compare import compare
x = np.sin(np.arange(3000.0)).reshape(500, 6)
for test in ("randomization", "bootstrap"):
    frame = compare({"a": x[:, :3], "b": x[:, 3:]}, test=test, replicates=200, threads=THREADS).frame
    print(hashlib.sha256(frame.select_dtypes("number").to_numpy(float).tobytes()).hexdigest())
"""


def test_threads_and_instruction_sets_do_not_matter():
    outputs = {output_of(CODE.replace("THREADS", "1"), FASTREC_ISA=name) for name in USABLE_ISAS[:1]}
    outputs.add(output_of(CODE.replace("THREADS", "3"), FASTREC_ISA=None))
    assert len(outputs) == 1


def test_accepts_an_evaluation(runs):
    class Evaluation:
        def __init__(self, frame):
            self.values, self.metrics, self.query_ids = frame.to_numpy(), METRICS, frame.index.to_numpy()

    expected = compare(runs).frame
    pd.testing.assert_frame_equal(compare({n: Evaluation(r) for n, r in runs.items()}).frame, expected)
    pd.testing.assert_frame_equal(
        compare({"old": runs["old"], "new": Evaluation(runs["new"])}).frame, expected
    )
    only = compare(runs, "map").frame
    assert list(only["metric"]) == ["map"]


def test_wins_are_where_the_metric_is_better():
    """A smaller mean rank is better; neither count is."""
    old = fr.evaluate([["x", "a"], ["x", "a"], ["a"]], [["a"], ["a"], ["a"]], ["mean_rank", "mrr", "num_ret"])
    new = fr.evaluate(
        [["a", "x"], ["a"], ["x", "y", "a"]], [["a"], ["a"], ["a"]], ["mean_rank", "mrr", "num_ret"]
    )
    compared = fr.compare({"old": old, "new": new})
    assert compared.better == {"mean_rank": -1, "mrr": 1, "num_ret": 0}
    rows = compared.frame.set_index("metric")[["win", "tie", "loss"]]
    assert rows.loc["mean_rank"].tolist() == rows.loc["mrr"].tolist() == [2, 0, 1]
    assert rows.loc["num_ret"].tolist() == [1, 1, 1]
    assert compared.unit == "queries"
    best = fr.compare({"old": old, "new": fr.evaluate([["a"]] * 3, [["a"]] * 3, old.metrics)}, ["mean_rank"])
    assert "**1.0000**" in best.to_markdown(style="means")
    parts = [
        fr.evaluation.Accumulator(old.metrics).update([["a"]], [["a"]]).result(),
        old.only(["mean_rank"]),
    ]
    assert [part.better["mean_rank"] for part in parts] == [-1, -1]
    sampled = fr.evaluate_sampled([["b", "a"]], [["a"]], ["mean_rank"], n_items=9, negatives=1)
    assert sampled.better == {"mean_rank sampled(1)": -1}


def test_tables():
    runs = make_runs(60, ("bm25", "dense_v2", "50% mix"))
    comparison = compare(runs)
    assert comparison.to_frame() is not comparison.frame
    markdown = comparison.to_markdown(digits=3)
    lines = markdown.splitlines()
    assert len(lines) == 2 + 9
    assert lines[0].startswith("| metric | comparison | difference | 95% interval |")
    assert len({line.count("|") for line in lines}) == 1
    assert (
        f"| {comparison.frame['win'][0]}/{comparison.frame['tie'][0]}/{comparison.frame['loss'][0]} |"
        in lines[2]
    )
    assert ("**" in lines[2]) == bool(comparison.significant[0])
    assert str(comparison) == comparison.to_markdown()
    latex = comparison.to_latex()
    assert latex.count(r" \\") == 4
    assert r"50\% mix" in latex
    assert r"dense\_v2" in latex
    assert r"\textbf{" in latex
    best = comparison.means["ndcg@10"].idxmax()
    row = next(line for line in comparison.to_markdown("means").splitlines() if best in line)
    assert f"**{comparison.means['ndcg@10'].max():.4f}**" in row
    assert "<sup>" in row
    assert "lllrrrrrr"[1:] in comparison.to_latex("differences")
    assert comparison._repr_html_().startswith("<table")
    with pytest.raises(ValueError, match="`style` must be one of 'differences', 'means'"):
        comparison.to_markdown("wide")


def test_bad_arguments_are_named(runs):
    with pytest.raises(TypeError, match="`runs` must be a mapping of name to evaluation; got list"):
        compare(list(runs.values()))
    with pytest.raises(ValueError, match="`runs` must hold at least two runs to compare; got 1"):
        compare({"a": runs["old"]})
    with pytest.raises(ValueError, match="Did you mean 'paired_t'"):
        compare(runs, test="paired-t")
    with pytest.raises(ValueError, match="`correction` must be one of 'holm', 'bh', 'bonferroni', 'none'"):
        compare(runs, correction="fdr")
    with pytest.raises(ValueError, match="`baseline` must be one of 'old', 'new'; got 'bm25'"):
        compare(runs, baseline="bm25")
    with pytest.raises(ValueError, match=r"run 'old' lacks the metric 'maps'.*Did you mean 'map'"):
        compare(runs, ["maps"])
    with pytest.raises(ValueError, match="run 'new' lacks the metric 'mrr'"):
        compare({"old": runs["old"], "new": runs["new"][["ndcg@10", "map"]]})
    with pytest.raises(ValueError, match=r"run 'old' lacks the metric 'mrr' of run 'new'.*pass `metrics=`"):
        compare({"old": runs["old"][["ndcg@10", "map"]], "new": runs["new"]})
    with pytest.raises(ValueError, match="runs without query ids must have the same number of rows"):
        compare({"a": np.zeros((3, 1)), "b": np.zeros((4, 1))})
    with pytest.raises(ValueError, match="`interval` 'tukey' goes with test 'tukey_hsd' only"):
        compare(runs, interval="tukey")
    with pytest.raises(ValueError, match="`alternative` must be 'two-sided' for Tukey's test"):
        compare(runs, test="tukey_hsd", alternative="less")
    with pytest.raises(ValueError, match="names that differ when written out"):
        compare({1: runs["old"], "1": runs["new"]})
    with pytest.raises(ValueError, match=r"runs\['old'\]` must name each query once"):
        compare({"old": pd.concat([runs["old"], runs["old"].iloc[:1]]), "new": runs["new"]})
    with pytest.raises(ValueError, match="`metrics` must name each metric once"):
        compare(runs, ["map", "map"])


def test_weights_of_the_evaluations_are_honoured(runs):
    rng = np.random.default_rng(2)
    weight = rng.integers(1, 4, 40).astype(float)

    class Evaluation:
        def __init__(self, frame, weights):
            self.values, self.metrics, self.query_ids = frame.to_numpy(), METRICS, frame.index.to_numpy()
            self.weights = weights

    order = rng.permutation(40)
    weighted = {
        "old": Evaluation(runs["old"], weight),
        "new": Evaluation(runs["new"].iloc[order], weight[order]),
    }
    comparison = compare(weighted, test="randomization", replicates=2000, correction="none")
    difference = (runs["new"] - runs["old"]).to_numpy()
    np.testing.assert_allclose(comparison.frame["difference"], np.average(difference, axis=0, weights=weight))
    np.testing.assert_allclose(comparison.means.loc["old"], np.average(runs["old"], axis=0, weights=weight))
    for metric, p in enumerate(comparison.frame["p"]):
        assert p == pytest.approx(
            scipy_permutation(weight * difference[:, metric], "two-sided", 4999, 1), abs=0.05
        )
    with pytest.raises(ValueError, match="the evaluations weigh their queries, which test 'paired_t'"):
        compare(weighted)
    with pytest.raises(ValueError, match="the runs must weigh the queries alike"):
        compare({"old": weighted["old"], "new": Evaluation(runs["new"], weight[::-1])}, test="bootstrap")
