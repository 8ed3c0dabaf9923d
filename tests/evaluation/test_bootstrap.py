"""Bootstrap intervals: SciPy's formulas, coverage, clusters, undefined values and degenerate input."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from fastrec.evaluation.bootstrap import bootstrap
from fastrec.evaluation.resample import bootstrap_sums


@pytest.fixture
def values():
    return np.random.default_rng(0).exponential(size=(60, 3))


def scipy_interval(sample, ours, method):
    """SciPy's interval from our replicates: it adds none of its own."""

    @dataclass
    class Given:
        bootstrap_distribution: np.ndarray

    return stats.bootstrap(
        (sample,), np.mean, n_resamples=0, method=method, bootstrap_result=Given(ours), vectorized=True
    ).confidence_interval


@pytest.mark.parametrize(("method", "name"), [("bca", "BCa"), ("percentile", "percentile")])
def test_equals_scipy_given_the_same_replicates(values, method, name):
    result = bootstrap(values, method=method, replicates=2000)
    for column in range(3):
        expected = scipy_interval(values[:, column], result.replicates[:, column], name)
        assert result.low[column] == pytest.approx(expected.low, rel=1e-12)
        assert result.high[column] == pytest.approx(expected.high, rel=1e-12)
    np.testing.assert_allclose(result.mean, values.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(result.replicates, bootstrap_sums(values, 2000) / 60, rtol=1e-12)
    np.testing.assert_allclose(result.standard_error, result.replicates.std(axis=0, ddof=1), rtol=1e-12)


@pytest.mark.parametrize(("method", "name"), [("bca", "BCa"), ("percentile", "percentile")])
def test_agrees_with_scipy_own_replicates_within_monte_carlo_error(values, method, name):
    result = bootstrap(values, method=method, replicates=20_000, level=0.9)
    expected = stats.bootstrap(
        (values,), np.mean, axis=0, n_resamples=20_000, method=name, confidence_level=0.9, rng=1
    )
    tolerance = 0.08 * expected.standard_error.max()
    np.testing.assert_allclose(result.low, expected.confidence_interval.low, atol=tolerance)
    np.testing.assert_allclose(result.high, expected.confidence_interval.high, atol=tolerance)
    np.testing.assert_allclose(result.standard_error, expected.standard_error, rtol=0.03)


def test_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(5)
    samples = rng.beta(0.5, 1.5, size=(80, 400))  # 400 experiments of 80 queries; true mean 0.25
    result = bootstrap(samples, replicates=1000)
    covered = np.mean((result.low <= 0.25) & (result.high >= 0.25))
    assert 0.90 < covered < 0.98


def test_undefined_values_count_in_no_mean():
    rng = np.random.default_rng(2)
    values = rng.random((300, 4))
    values[rng.random(300) < 0.3, 1] = np.nan
    values[:, 2] = np.where(np.isnan(values[:, 1]), np.nan, values[:, 2])
    values[1:, 3] = np.nan
    result = bootstrap(values, replicates=4000)
    np.testing.assert_allclose(result.mean, np.nanmean(values, axis=0), rtol=1e-13)
    np.testing.assert_array_equal(result.count, (~np.isnan(values)).sum(axis=0))
    for column in (1, 2):
        sample = values[~np.isnan(values[:, column]), column]
        expected = stats.bootstrap((sample,), np.mean, n_resamples=4000, rng=0)
        assert result.standard_error[column] == pytest.approx(expected.standard_error, rel=0.1)
        assert result.low[column] == pytest.approx(expected.confidence_interval.low, abs=0.01)
    # Metrics without NaN get exactly the interval they get alone.
    alone = bootstrap(values[:, :1], replicates=4000)
    assert (alone.low[0], alone.high[0]) == (result.low[0], result.high[0])
    # One defined value says nothing of spread, and is not hidden: its count is shown.
    assert np.isnan([result.low[3], result.high[3], result.standard_error[3]]).all()
    assert result.mean[3] == values[0, 3]
    assert result.count[3] == 1


def test_clusters_are_drawn_whole():
    rng = np.random.default_rng(3)
    users = np.repeat(np.arange(40), rng.integers(1, 9, 40))
    values = (rng.random(40)[users] + 0.01 * rng.random(len(users)))[:, None]
    result = bootstrap(values, clusters=users, replicates=8000)
    assert result.mean[0] == pytest.approx(values.mean())
    assert result.units == 40
    # The ratio estimator's standard error over clusters, by linearisation.
    sums, sizes = np.bincount(users, values[:, 0]), np.bincount(users)
    residual = sums - result.mean[0] * sizes
    assert result.standard_error[0] == pytest.approx(np.sqrt((residual**2).sum()) / len(users), rel=0.1)
    assert result.standard_error[0] > 1.5 * bootstrap(values, replicates=2000).standard_error[0]
    # Each query its own cluster, under whatever name, is no clustering at all.
    names = pd.Series([f"user {u}" for u in range(len(users))])
    single = bootstrap(values, clusters=names, replicates=500)
    np.testing.assert_array_equal(single.replicates, bootstrap(values, replicates=500).replicates)
    shuffled = bootstrap(values[::-1], clusters=users[::-1], replicates=8000)
    assert shuffled.standard_error[0] == pytest.approx(result.standard_error[0], rel=0.1)


def test_a_constant_metric_has_an_interval_of_no_width():
    result = bootstrap(np.full((1000, 2), 0.1), replicates=200)
    np.testing.assert_array_equal(result.low, result.mean)
    np.testing.assert_array_equal(result.high, result.mean)
    np.testing.assert_array_equal(result.standard_error, 0.0)


def test_too_few_queries_give_nan_and_say_so():
    for queries in (0, 1):
        result = bootstrap(np.full((queries, 2), 0.5), replicates=50)
        assert np.isnan(result.low).all()
        assert np.isnan(result.high).all()
        assert np.isnan(result.standard_error).all()
        np.testing.assert_array_equal(result.count, queries)
        np.testing.assert_array_equal(result.mean, [0.5, 0.5] if queries else [np.nan, np.nan])
    assert bootstrap(np.empty((5, 0)), replicates=50).to_frame().empty
    two = bootstrap([0.0, 1.0], replicates=1000)
    assert (two.low[0], two.high[0]) == (0.0, 1.0)
    everything_undefined = bootstrap(np.full((10, 1), np.nan), replicates=10)
    assert np.isnan(everything_undefined.mean[0])
    assert everything_undefined.count[0] == 0


def test_threads_and_other_metrics_do_not_matter(values):
    whole = bootstrap(values, replicates=300, threads=1)
    other = bootstrap(values[:, ::-1], replicates=300, threads=3)
    np.testing.assert_array_equal(whole.replicates, other.replicates[:, ::-1])
    np.testing.assert_array_equal(whole.low, other.low[::-1])


def test_accepts_frames_series_and_arrays(values):
    expected = bootstrap(values, replicates=100).to_frame()
    names = ["ndcg@10", "map", "mrr"]
    frame = pd.DataFrame(values, columns=names, index=[f"q{i}" for i in range(60)])
    sources = [frame, frame.rename_axis("query").reset_index()]
    pl = pytest.importorskip("polars", reason="polars frames are one of the inputs")
    sources += [pl.from_pandas(sources[1]), pl.from_pandas(sources[1]).to_arrow()]
    for source in sources:
        result = bootstrap(source, replicates=100).to_frame()
        assert list(result.index) == names
        np.testing.assert_array_equal(result.to_numpy(), expected.to_numpy())
    series = bootstrap(frame["map"], replicates=100)
    assert series.metrics == ["map"]
    assert series.low[0] == expected["low"].iloc[1]
    strided = np.zeros((120, 3))[::2]
    strided[:] = values
    strided.flags.writeable = False
    np.testing.assert_array_equal(bootstrap(strided, replicates=100).low, expected["low"])


def test_bad_arguments_are_named(values):
    with pytest.raises(ValueError, match="`level` must lie strictly between 0 and 1"):
        bootstrap(values, level=95)
    with pytest.raises(ValueError, match=r"got 'bsa'\. Did you mean 'bca'"):
        bootstrap(values, method="bsa")
    with pytest.raises(ValueError, match="`replicates` must be >= 1; got 0"):
        bootstrap(values, replicates=0)
    with pytest.raises(ValueError, match=r"`clusters` must have one label per query, shape \(60,\)"):
        bootstrap(values, clusters=np.zeros(59))
    with pytest.raises(ValueError, match="`clusters` must label every query"):
        bootstrap(values, clusters=[None] + ["a"] * 59)
    with pytest.raises(ValueError, match="`values` must hold finite values or NaN"):
        bootstrap([1.0, np.inf])
    with pytest.raises(TypeError, match="column 'user' is"):
        bootstrap(pd.DataFrame({"user": ["a"], "map": [0.1]}))
    with pytest.raises(ValueError, match="`values` must name each query once; 'a' is repeated"):
        bootstrap(pd.DataFrame({"map": [0.1, 0.2]}, index=["a", "a"]))


def test_weights_are_those_of_the_mean(values):
    weights = np.random.default_rng(1).integers(0, 4, 60).astype(float)
    result = bootstrap(values, weights=weights, replicates=4000)
    np.testing.assert_allclose(result.mean, np.average(values, axis=0, weights=weights))
    np.testing.assert_array_equal(result.count, 60)
    residual = weights[:, None] * (values - result.mean)
    np.testing.assert_allclose(
        result.standard_error, np.sqrt((residual**2).sum(axis=0)) / weights.sum(), rtol=0.1
    )
    np.testing.assert_array_equal(bootstrap(values, weights=np.ones(60)).low, bootstrap(values).low)
    with pytest.raises(ValueError, match=r"`weights` must have shape \(60,\) or \(60, 3\); got \(3,\)"):
        bootstrap(values, weights=[1, 2, 3])
    with pytest.raises(ValueError, match="`weights` must be finite and not negative"):
        bootstrap(values, weights=-weights)


def test_an_evaluation_brings_its_weights_and_its_kind_of_mean(values):
    class Evaluation:
        metrics = ("map", "gmap", "precision")
        query_ids = np.arange(60)
        weights = np.linspace(0, 2, 60)
        _shares = {"precision": np.arange(60) % 3 + 1.0}  # noqa: RUF012
        _averages = {"gmap": "geometric"}  # noqa: RUF012

    evaluation = Evaluation()
    evaluation.values = values
    result = bootstrap(evaluation, replicates=500)
    weights = Evaluation.weights
    expected = [
        np.average(values[:, 0], weights=weights),
        np.exp(np.average(np.log(values[:, 1]), weights=weights)),
        np.average(values[:, 2], weights=weights * Evaluation._shares["precision"]),
    ]
    np.testing.assert_allclose(result.mean, expected)
    assert (result.low < result.mean).all()
    assert (result.mean < result.high).all()
    assert result.low[1] == pytest.approx(
        np.exp(bootstrap(np.log(values), weights=weights, replicates=500).low[1])
    )


def test_a_real_evaluation_keeps_its_means_in_its_intervals():
    import fastrec as fr

    rng = np.random.default_rng(0)
    truth = {f"q{q}": {f"d{d}": int(rng.integers(0, 3)) for d in range(12)} for q in range(30)}
    run = {f"q{q}": {f"d{d}": float(rng.random()) for d in range(12)} for q in range(30)}
    evaluation = fr.evaluate(run, truth, ["ndcg@10", "map", "mrr"])
    result = bootstrap(evaluation, replicates=200)
    np.testing.assert_allclose(result.mean, evaluation.mean.to_numpy(), rtol=1e-14)
    assert result.metrics == ["ndcg@10", "map", "mrr"]
    assert fr.compare({"a": evaluation, "b": evaluation}).frame["tie"].tolist() == [30, 30, 30]
