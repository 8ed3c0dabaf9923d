"""Pictures: what is drawn, that nothing leaks into Matplotlib's state, and the error without Matplotlib."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from subprocesses import output_of

import fastrec as fr
from fastrec.evaluation.bootstrap import bootstrap
from fastrec.evaluation.compare import compare

pytest.importorskip("matplotlib", reason="plots are the `report` extra")

from fastrec.evaluation.plots import plot_comparison, plot_evaluation

METRICS = ["ndcg@10", "map", "$mrr$"]


@pytest.fixture
def runs():
    rng = np.random.default_rng(0)
    base = rng.random((50, 3))
    shift = {"old": 0.0, "new": [0.2, 0.0, -0.2], "mixed": 0.01}
    return {
        name: pd.DataFrame(base + by + 0.1 * rng.standard_normal((50, 3)), columns=METRICS)
        for name, by in shift.items()
    }


def labels(axes):
    return [label.get_text() for label in axes.get_yticklabels()]


def test_means_with_intervals(runs):
    axes = plot_evaluation(runs["old"], level=0.9, replicates=200)
    summary = bootstrap(runs["old"], level=0.9, replicates=200)
    (points,) = axes.containers
    np.testing.assert_allclose(points.lines[0].get_xdata(), summary.mean)
    segments = points.lines[2][0].get_segments()
    np.testing.assert_allclose(
        [segment[:, 0] for segment in segments], np.stack([summary.low, summary.high], axis=1)
    )
    assert labels(axes) == ["ndcg@10", "map", r"\$mrr\$"]
    assert axes.get_title(loc="left") == "50 queries"
    assert axes.get_xlabel() == "mean and 90% interval"
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first metric at the top
    assert [text.get_text() for text in axes.texts] == [f"{mean:.3f}" for mean in summary.mean]


def test_differences_are_filled_where_they_are_significant(runs):
    comparison = compare({name: runs[name] for name in ("old", "new")})
    assert comparison.significant.tolist() == [True, False, True]
    axes = comparison.plot(title="release 2")
    faces = [bar.lines[0].get_markerfacecolor() for bar in axes.containers]
    assert faces == ["#0072b2", "white", "#d55e00"]
    assert [text.get_text()[:2] for text in axes.texts] == ["p ", "p ", "p "]
    assert axes.get_xlabel() == "new - old, 95% interval"
    assert axes.get_title(loc="left") == "release 2"


def test_several_pairs_are_grouped_by_metric(runs):
    axes = compare(runs, baseline="old").plot()
    assert labels(axes)[:4] == ["ndcg@10:  new", "mixed", "map:  new", "mixed"]
    steps = np.diff(axes.get_yticks())
    assert steps[1] > steps[0]
    assert axes.get_xlabel().startswith("run - old")
    assert labels(compare(runs).plot())[:3] == ["ndcg@10:  new - old", "mixed - old", "mixed - new"]


def test_wins_fill_the_row(runs):
    comparison = compare({name: runs[name] for name in ("old", "new")})
    axes = plot_comparison(comparison, kind="wins")
    widths = np.array([[bar.get_width() for bar in container] for container in axes.containers])
    np.testing.assert_allclose(widths.sum(axis=0), 1)
    np.testing.assert_allclose(widths[0], comparison.frame["win"] / 50)
    with pytest.raises(ValueError, match="`kind` must be one of 'difference', 'wins'"):
        comparison.plot(kind="pie")


def test_the_title_says_what_was_counted():
    rng = np.random.default_rng(0)
    clicked, user = np.arange(60) % 2, np.arange(60) // 6
    models = {
        name: fr.evaluate_clicks(clicked, rng.random(60), user, metrics=["gauc@uniform"]) for name in "ab"
    }
    titles = [
        fr.compare(models, test=test).plot().get_title(loc="left") for test in ("bootstrap", "paired_t")
    ]
    assert titles == ["60 rows", "10 groups"]
    wins = fr.compare(models, test="paired_t").plot(kind="wins")
    assert wins.get_xlabel().endswith("share of groups")
    lists = fr.evaluate_catalog([[0, 1], [2]], popularity=[3, 2, 1], metrics="popularity")
    assert plot_evaluation(lists).get_title(loc="left") == "2 lists"


def test_draws_into_given_axes_and_saves(runs, tmp_path):
    from matplotlib.figure import Figure

    figure = Figure()
    left, right = figure.subplots(1, 2)
    assert plot_evaluation(runs["old"], axes=left, replicates=50) is left
    assert compare(runs).plot(axes=right) is right
    figure.savefig(tmp_path / "both.png")
    assert (tmp_path / "both.png").stat().st_size > 1000


@pytest.mark.parametrize("queries", [0, 1])
def test_hardly_any_queries(queries, tmp_path):
    runs = {"a": np.full((queries, 2), 0.5), "b": np.full((queries, 2), 0.75)}
    for number, axes in enumerate(
        [plot_evaluation(runs["a"]), compare(runs).plot(), compare(runs).plot(kind="wins")]
    ):
        axes.figure.savefig(tmp_path / f"{number}.png")


def test_no_window_and_no_global_state():
    code = """
    import sys, numpy as np
    from fastrec.evaluation.plots import plot_evaluation
    assert "matplotlib" not in sys.modules
    plot_evaluation(np.random.default_rng(0).random((20, 2)), replicates=20)
    print("matplotlib.pyplot" in sys.modules)
    """
    assert output_of(code) == "False"


def test_without_matplotlib_the_remedy_is_named():
    code = """
    import sys, numpy as np
    sys.modules["matplotlib"] = sys.modules["matplotlib.figure"] = None
    from fastrec.evaluation.plots import plot_evaluation
    try:
        plot_evaluation(np.random.default_rng(0).random((20, 2)), replicates=20)
    except ImportError as error:
        print(error)
    """
    assert output_of(code) == "plots need Matplotlib: pip install 'fastrec[report]'"
