"""Intervals of click metrics, and models compared on the same rows."""

from __future__ import annotations

import math

import numpy as np
import pytest

import fastrec as fr
from fastrec.evaluation.delong import paired_error, placements
from fastrec.evaluation.resample import bootstrap_counts, bootstrap_sums

METRICS = ["auc", "logloss", "gauc", "pcoc", "f1", "ks"]


def models(n=600, seed=0, groups=30, gain=0.3):
    rng = np.random.default_rng(seed)
    g = rng.integers(0, groups, n)
    z = rng.standard_normal(n) + rng.standard_normal(groups)[g]
    y = (rng.random(n) < 1 / (1 + np.exp(-z))).astype(int)
    old, new = (np.round(1 / (1 + np.exp(-z - rng.standard_normal(n) * s)), 2) for s in (1.0, 1.0 - gain))
    return y, old, new, g


def evaluations(metrics=METRICS, weights=None, **options):
    y, old, new, g = models(**options)
    return {
        name: fr.evaluate_clicks(y, p, g, weights, metrics=metrics)
        for name, p in (("old", old), ("new", new))
    }


def test_placements_and_delongs_covariance_equal_their_definitions():
    stats = pytest.importorskip("scipy.stats", reason="SciPy gives the normal distribution")
    y, old, new, _ = models(200)
    kernels = []
    for p in (old, new):
        won = (p[y == 1][:, None] > p[y == 0]) + 0.5 * (p[y == 1][:, None] == p[y == 0])
        places = placements(y.astype(np.uint8), p, 1)
        np.testing.assert_allclose(places[y == 1], won.mean(axis=1), rtol=0, atol=1e-15)
        np.testing.assert_allclose(places[y == 0], won.mean(axis=0), rtol=0, atol=1e-15)
        kernels.append(won)
    m, n = kernels[0].shape
    covariance = np.cov([k.mean(axis=1) for k in kernels]) / m + np.cov([k.mean(axis=0) for k in kernels]) / n
    error = math.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    runs = {name: fr.evaluate_clicks(y, p, metrics="auc") for name, p in (("old", old), ("new", new))}
    for alternative, p_of in {
        "two-sided": lambda z: 2 * stats.norm.sf(abs(z)),
        "greater": stats.norm.sf,
        "less": stats.norm.cdf,
    }.items():
        (row,) = fr.compare(runs, alternative=alternative, correction="none").frame.itertuples()
        z = (kernels[1].mean() - kernels[0].mean()) / error
        assert row.difference == pytest.approx(kernels[1].mean() - kernels[0].mean(), abs=1e-15)
        assert row.statistic == pytest.approx(z, rel=1e-10)
        assert row.p == pytest.approx(p_of(z), rel=1e-10)
        assert row.low == pytest.approx(row.difference - stats.norm.ppf(0.975) * error, rel=1e-10)
    assert runs["old"].interval().error == pytest.approx(math.sqrt(covariance[0, 0]), rel=1e-10)


def test_delongs_test_is_right_about_equals_as_often_as_it_says():
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(400):
        y = np.repeat([0, 1], [60, 40]).astype(np.uint8)
        shared = rng.standard_normal(100) + y
        a, b = (shared + rng.standard_normal(100) * 0.7 for _ in range(2))
        places = [placements(y, p, 1) for p in (a, b)]
        wrong += abs(places[1][y == 1].mean() - places[0][y == 1].mean()) > 1.96 * paired_error(y, *places)
    assert 0.02 < wrong / 400 < 0.09


def test_draws_are_those_of_the_matrix_product():
    counts = np.stack([bootstrap_counts(50, r, 7) for r in range(4)])
    values = np.random.default_rng(0).integers(0, 9, (50, 3)).astype(float)
    np.testing.assert_array_equal(counts @ values, bootstrap_sums(values, 4, 7))
    assert (counts.sum(axis=1) == 50).all()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("clustered", [False, True])
def test_a_replicate_is_the_evaluation_of_the_rows_that_it_drew(clustered, weighted):
    y, p, _, g = models(300)
    w = np.random.default_rng(2).integers(1, 4, len(y)) if weighted else None
    names = [*METRICS, "ap", "brier", "ece", "lift", "xauc", "field_ece", "pauc"]
    got = fr.evaluate_clicks(y, p, g, w, metrics=names).bootstrap(
        replicates=5, seed=3, clusters="groups" if clustered else None
    )
    labels, codes = np.unique(g, return_inverse=True)
    assert got.units == (len(labels) if clustered else len(y))
    for replicate in range(5):
        times = bootstrap_counts(got.units, replicate, 3).astype(int)
        drawn = np.repeat(np.arange(len(y)), times[codes] if clustered else times)
        again = fr.evaluate_clicks(
            y[drawn], p[drawn], g[drawn], None if w is None else w[drawn], metrics=names
        )
        np.testing.assert_allclose(got.replicates[replicate], again.values, rtol=1e-10, atol=1e-12)
    frame = got.to_frame()
    np.testing.assert_allclose(frame["low"], np.quantile(got.replicates, 0.025, axis=0))
    assert frame.index.tolist() == names


def test_bootstrap_intervals_cover_and_agree_with_delong():
    y, p, _, _ = models(2000, seed=4)
    got = fr.evaluate_clicks(y, p, metrics=["auc", "logloss"])
    drawn = got.bootstrap(replicates=400)
    assert drawn.standard_error[0] == pytest.approx(got.interval("auc").error, rel=0.12)
    interval = got.interval("logloss", replicates=400)
    assert interval[:2] == (drawn.low[1], drawn.high[1])
    assert interval.value == got["logloss"]
    per_row = -np.log(np.where(y == 1, np.clip(p, 1e-16, 1), np.clip(1 - p, 1e-16, 1)))
    assert interval.error == pytest.approx(per_row.std() / math.sqrt(len(y)), rel=0.12)


def test_rows_that_go_together_make_intervals_wider():
    y, p, _, g = models(400)
    y, p, g = (np.tile(column, 5) for column in (y, p, np.arange(400)))
    got = fr.evaluate_clicks(y, p, g, metrics=["auc", "logloss"])
    alone, together = (got.bootstrap(replicates=200, clusters=c) for c in (None, "groups"))
    assert (together.standard_error > 1.7 * alone.standard_error).all()
    same = got.bootstrap(replicates=200, clusters=[f"row {x}" for x in g])
    assert same.units == 400
    assert got.interval("auc", clusters="groups", replicates=200).error == together.standard_error[0]


def test_threads_do_not_matter():
    y, p, _, g = models(20_000)
    one, two = (
        fr.evaluate_clicks(y, p, g, metrics=METRICS, threads=t).bootstrap(replicates=3) for t in (1, 2)
    )
    np.testing.assert_array_equal(one.replicates, two.replicates)


def test_comparing_models():
    runs = evaluations(gain=0.9)
    result = fr.compare(runs, replicates=200)
    assert result.test == "delong"
    assert result.replicates == 200
    frame = result.frame.set_index("metric")
    assert frame["n"].eq(600).all()
    assert (frame["run_mean"] - frame["baseline_mean"] == frame["difference"]).all()
    assert frame.loc["auc", "p"] < 0.05 > frame.loc["logloss", "p"]
    assert frame.loc["auc", "difference"] > 0 > frame.loc["logloss", "difference"]
    assert result.better["logloss"] == -1
    assert result.better["pcoc"] == 0
    drawn = [run.bootstrap(replicates=200).replicates for run in runs.values()]
    paired = drawn[1] - drawn[0]
    at = METRICS.index("gauc")
    assert frame.loc["gauc", "low"] == pytest.approx(np.quantile(paired[:, at], 0.025))
    shifted = np.abs(paired[:, at] - frame.loc["gauc", "difference"])
    assert frame.loc["gauc", "p"] == (1 + (shifted >= frame.loc["gauc", "difference"]).sum()) / 201
    assert "win/tie/loss" not in result.to_markdown()
    bold = [line for line in result.to_markdown("means").splitlines() if "**" in line]
    assert len(bold) >= 1
    assert all("b: new" in line for line in bold)  # the better is bold whichever way is better
    assert r"\textbf" in result.to_latex()
    one = fr.compare(runs, "logloss", replicates=50)
    assert one.test == "bootstrap"
    clustered = fr.compare(runs, test="bootstrap", clusters="groups", replicates=50)
    assert clustered.frame["low"].notna().all()
    three = fr.compare({**runs, "same": runs["old"]}, "auc", baseline="old").frame
    assert three["run"].tolist() == ["new", "same"]
    assert three["p"].iloc[1] == 1.0
    assert three["effect_size"].iloc[1] == 0.0


def test_weights_are_those_of_the_rows():
    w = np.random.default_rng(0).integers(0, 3, 600)
    runs = evaluations(["auc", "brier"], weights=w)
    result = fr.compare(runs, replicates=50)
    assert result.test == "bootstrap"
    assert result.frame["baseline_mean"].tolist() == list(dict(runs["old"]).values())
    with pytest.raises(ValueError, match="'delong' is for rows of equal weight"):
        fr.compare(runs, test="delong")


def test_hardly_any_rows():
    runs = {name: fr.evaluate_clicks([0, 1], p, metrics="auc") for name, p in (("a", [0, 1]), ("b", [1, 0]))}
    row = fr.compare(runs).frame.iloc[0]
    assert row["difference"] == -1
    assert math.isnan(row["p"])
    one = {
        name: fr.evaluate_clicks([1], [p], metrics=["auc", "logloss"], undefined="nan")
        for name, p in (("a", 0.3), ("b", 0.4))
    }
    frame = fr.compare(one, replicates=5).frame
    assert frame["low"].isna().all()
    assert math.isnan(frame["p"].iloc[0])


@pytest.mark.parametrize("weighted", [False, True])
def test_bca_intervals_equal_their_definition(weighted):
    stats = pytest.importorskip("scipy.stats", reason="SciPy gives the normal distribution")
    y, p, _, g = models(90, groups=15)
    w = np.random.default_rng(0).integers(1, 4, 90) if weighted else None
    names = ["auc", "logloss", "gauc", "pcoc", "ks"]
    got = fr.evaluate_clicks(y, p, g, w, metrics=names)
    for clusters, unit_of in ((None, np.arange(90)), ("groups", g)):
        drawn = got.bootstrap(method="bca", clusters=clusters, replicates=300, seed=2, level=0.9)
        assert drawn.method == "bca"
        plain = got.bootstrap(clusters=clusters, replicates=300, seed=2, level=0.9)
        np.testing.assert_array_equal(drawn.replicates, plain.replicates)
        without = []
        for unit in np.unique(unit_of):
            of = unit_of != unit
            left = fr.evaluate_clicks(y[of], p[of], g[of], None if w is None else w[of], metrics=names)
            without.append(list(left.values))
        without = np.array(without)
        for column, name in enumerate(names):
            replicas, value = drawn.replicates[:, column], got[name]
            lower = np.mean((replicas < value - 1e-13) + 0.5 * (np.abs(replicas - value) <= 1e-13))
            z0, d = stats.norm.ppf(lower), without[:, column].mean() - without[:, column]
            a = (d**3).sum() / (6 * (d**2).sum() ** 1.5)
            z = z0 + stats.norm.ppf([0.05, 0.95])
            expected = np.quantile(replicas, stats.norm.cdf(z0 + z / (1 - a * z)))
            np.testing.assert_allclose(
                (drawn.low[column], drawn.high[column]), expected, rtol=1e-9, err_msg=name
            )
        assert not np.allclose(drawn.low, plain.low)
        one = got.interval("pcoc", 0.9, method="bca", clusters=clusters, replicates=300, seed=2)
        assert one[:2] == (drawn.low[3], drawn.high[3])


def test_bca_of_many_rows_leaves_out_blocks_and_nothing_is_certain_about_a_constant():
    y, p, _, _ = models(1000)
    got = fr.evaluate_clicks(y, p, metrics=["logloss", "pcoc"])
    drawn = got.bootstrap(method="bca", replicates=200)
    blocks = np.arange(1000) % 200
    left = [
        fr.evaluate_clicks(y[blocks != b], p[blocks != b], metrics="logloss")["logloss"] for b in range(200)
    ]
    deviation = np.mean(left) - left
    a = (deviation**3).sum() / (6 * (deviation**2).sum() ** 1.5)
    losses = -np.log(np.where(y == 1, p, 1 - p).clip(1e-16, 1))
    skewness = ((losses - losses.mean()) ** 3).mean() / losses.std() ** 3
    assert a == pytest.approx(skewness / (6 * math.sqrt(1000)), abs=0.01)  # that of all rows, one at a time
    assert drawn.low[0] < got["logloss"] < drawn.high[0]
    perfect = fr.evaluate_clicks([0, 0, 1, 1] * 5, [0.1, 0.2, 0.8, 0.9] * 5, metrics=["auc"])
    drawn = perfect.bootstrap(method="bca", replicates=50)
    assert (drawn.low[0], drawn.high[0]) == (1.0, 1.0)
    with pytest.raises(ValueError, match="`method` must be"):
        perfect.bootstrap(method="bcc")


def test_bca_intervals_of_differences():
    runs = evaluations(n=300)
    plain, bca = (
        fr.compare(runs, test="bootstrap", interval=i, replicates=200) for i in ("bootstrap", "bca")
    )
    assert bca.interval == "bca"
    assert (plain.frame["p"] == bca.frame["p"]).all()
    assert not np.allclose(plain.frame["low"], bca.frame["low"])
    np.testing.assert_allclose(plain.frame["low"], bca.frame["low"], atol=0.1)
    with pytest.raises(ValueError, match="`interval` must be"):
        fr.compare(runs, interval="bca")  # DeLong's test brings its own


def test_tests_over_groups_are_those_over_queries():
    stats = pytest.importorskip("scipy.stats", reason="SciPy is the reference")
    names = [
        "auc",
        "gauc",
        "gauc@uniform",
        "gauc@positives",
        "logloss",
        "brier",
        "mae",
        "mse",
        "accuracy",
        "field_ece",
    ]
    for weights in (None, np.random.default_rng(0).integers(0, 3, 600)):
        runs = evaluations(names, weights=weights)
        old, new = (run.by_group() for run in runs.values())
        assert old.metrics == names[1:]
        for table, run in ((old, runs["old"]), (new, runs["new"])):
            for metric, values in zip(table.metrics, table.values.T):
                share = table._shares.get(metric, np.ones(len(values)))
                mean = np.average(values[~np.isnan(values)], weights=share[~np.isnan(values)])
                assert mean == pytest.approx(run[metric], rel=1e-12), metric
        drawn = fr.evaluation.bootstrap(old, replicates=50)
        np.testing.assert_allclose(drawn.mean, [runs["old"][metric] for metric in old.metrics], rtol=1e-12)
        result = fr.compare(runs, test="randomization", replicates=500)
        frame = result.frame.set_index("metric")
        assert frame["run_mean"].to_numpy() == pytest.approx([runs["new"][m] for m in names[1:]], rel=1e-12)
        for metric, way in result.better.items():
            difference = (new.values - old.values)[:, new.metrics.index(metric)] * way
            row = frame.loc[metric]
            assert (row["win"], row["tie"], row["loss"]) == tuple(
                int(np.sum(x)) for x in (difference > 0, difference == 0, difference < 0)
            )
            assert row["n"] == row[["win", "tie", "loss"]].sum()
        assert "win/tie/loss" in result.to_markdown()
        at = new.metrics.index("gauc@uniform")
        both = ~np.isnan(old.values[:, at])
        expected = stats.ttest_rel(new.values[both, at], old.values[both, at])
        (row,) = fr.compare(runs, "gauc@uniform", test="paired_t").frame.itertuples()
        assert row.p == pytest.approx(expected.pvalue, rel=1e-9)
        assert row.statistic == pytest.approx(expected.statistic, rel=1e-9)
    for test in ("wilcoxon", "tukey_hsd"):
        assert 0 <= fr.compare(runs, ["gauc@uniform"], test=test, correction="bh").frame["p"].iloc[0] <= 1


def test_values_by_group_that_are_not_there():
    runs = evaluations(["auc", "gauc", "ks"])
    with pytest.raises(ValueError, match="'gauc' weighs its groups, which test 'paired_t' cannot"):
        fr.compare(runs, test="paired_t")
    with pytest.raises(ValueError, match=r"means over groups; got \['auc', 'ks'\]"):
        fr.compare(runs, ["auc", "ks"], test="randomization")
    with pytest.raises(ValueError, match=r"lacks the metric 'gaucc'.* Did you mean 'gauc'"):
        fr.compare(runs, "gaucc", test="randomization")
    with pytest.raises(ValueError, match=r"lacks the metric 'gaucc'.* Did you mean 'gauc'"):
        runs["old"].by_group("gaucc")
    y, old, new, _ = models()
    ungrouped = {n: fr.evaluate_clicks(y, p, metrics="logloss") for n, p in (("old", old), ("new", new))}
    with pytest.raises(ValueError, match="by group need `groups`"):
        fr.compare(ungrouped, test="wilcoxon")
    with pytest.raises(ValueError, match="the same rows"):
        fr.compare({**runs, "x": fr.evaluate_clicks(1 - y, old, _, metrics="gauc")}, test="randomization")


def test_plots():
    pytest.importorskip("matplotlib", reason="plots need Matplotlib")
    result = fr.compare(evaluations(), replicates=30)
    assert len(result.plot().get_yticklabels()) == len(METRICS)
    with pytest.raises(ValueError, match="no wins"):
        result.plot(kind="wins")


def test_bad_arguments_are_named():
    runs = evaluations(["auc", "logloss"])
    y, old, _, g = models()
    other = fr.evaluate_clicks(1 - y, old, g, metrics=["auc", "logloss"])
    with pytest.raises(ValueError, match="same rows in the same order; 'x' and 'old' differ in `y_true`"):
        fr.compare({**runs, "x": other})
    with pytest.raises(ValueError, match="differ in `groups`"):
        fr.compare({**runs, "x": fr.evaluate_clicks(y, old, metrics=["auc", "logloss"])})
    with pytest.raises(ValueError, match="at least two"):
        fr.compare({"old": runs["old"]})
    with pytest.raises(TypeError, match="click evaluations all, or none"):
        fr.compare({**runs, "x": np.zeros((3, 1))})
    with pytest.raises(ValueError, match="lacks the metric 'acu'"):
        fr.compare(runs, "acu")
    with pytest.raises(ValueError, match="test"):
        fr.compare(runs, test="wilcoxn")
    with pytest.raises(ValueError, match="`clusters` must have shape"):
        fr.compare(runs, test="bootstrap", clusters=[1, 2])
    with pytest.raises(ValueError, match="alike"):
        fr.compare(
            {n: fr.evaluate_clicks(y, old, metrics="f1", threshold=t) for n, t in (("a", 0.1), ("b", 0.2))}
        )
    with pytest.raises(ValueError, match="'groups' needs `groups`"):
        fr.evaluate_clicks(y, old, metrics="auc").bootstrap(clusters="groups")
    with pytest.raises(ValueError, match="method 'delong' is for 'auc'"):
        runs["old"].interval("logloss", method="delong")
    with pytest.raises(KeyError, match="was not asked for"):
        runs["old"].interval("brier")
    with pytest.raises(ValueError, match="level"):
        runs["old"].bootstrap(level=1.0)
