"""Pictures of evaluations and comparisons; Matplotlib is loaded when one is drawn.

Every function draws into ``axes`` where they are given, else into a new figure, and returns the axes: save
with ``axes.figure.savefig(path)``.  No global Matplotlib state is touched, and no window opens.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrec._core import checks
from fastrec.evaluation.bootstrap import bootstrap

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fastrec.evaluation.comparison import Comparison

KINDS = ("difference", "wins")
# Told apart by colour-blind readers, and in grey.
BETTER, WORSE, EVEN = "#0072b2", "#d55e00", "#8c8c8c"
_TIE = "#d9d9d9"
_GRID = "#e3e3e3"
_ROW = 0.34  # inches a row


def plot_evaluation(
    evaluation: Any,
    *,
    axes: Axes | None = None,
    level: float = 0.95,
    replicates: int = 2000,
    digits: int = 3,
    title: str | None = None,
) -> Axes:
    """The mean of every metric with its confidence interval, one row a metric.

    Parameters
    ----------
    evaluation : Evaluation, per-query frame or (Q, M) array
    axes : matplotlib Axes or None
    level, replicates
        Of the intervals (BCa bootstrap).
    digits : int
        Of the means written beside the points.
    title : str or None

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        Without Matplotlib: ``pip install 'fastrec[report]'``.
    """
    summary = bootstrap(evaluation, level=level, replicates=replicates)
    rows = np.arange(len(summary.metrics))
    axes = _canvas(axes, len(rows))
    reach = _reach(summary.mean, summary.low, summary.high)
    axes.errorbar(
        summary.mean, rows, xerr=reach, fmt="o", color=BETTER, markersize=5, capsize=3, linewidth=1.4
    )
    _label_rows(axes, rows, summary.metrics)
    _write_beside(axes, rows, ["" if np.isnan(mean) else f"{mean:.{digits}f}" for mean in summary.mean])
    axes.set_xlabel(f"mean and {100 * level:.6g}% interval")
    unit = "lists" if hasattr(evaluation, "per_list") else "queries"
    axes.set_title(_size(summary.count, unit) if title is None else title, loc="left", fontsize="medium")
    return axes


def plot_comparison(
    comparison: Comparison,
    *,
    kind: str = "difference",
    axes: Axes | None = None,
    digits: int = 3,
    title: str | None = None,
) -> Axes:
    """Every comparison as one row, grouped by metric.

    Parameters
    ----------
    comparison : Comparison
    kind : str
        ``"difference"``: the mean difference with its interval, and the corrected p beside it.  Filled where
        p says that the difference is significant, hollow where not.  ``"wins"``: the share of queries won,
        tied and lost.
    axes : matplotlib Axes or None
    digits : int
        Of the p-values.
    title : str or None

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        Without Matplotlib: ``pip install 'fastrec[report]'``.
    """
    kind = checks.choice(kind, "kind", KINDS)
    frame = comparison.frame
    if kind == "wins" and "win" not in frame.columns:
        raise ValueError(
            "click evaluations are compared as wholes and have no wins to count; use kind 'difference'"
        )
    rows = _grouped_rows(frame["metric"].tolist())
    axes = _canvas(axes, float(rows[-1]) + 1 if len(rows) else 1)
    if kind == "difference":
        _draw_differences(axes, rows, comparison, digits)
    else:
        _draw_wins(axes, rows, comparison)
    _label_rows(axes, rows, _row_labels(comparison))
    size = _size(frame["n"].to_numpy(), comparison.unit)
    axes.set_title(size if title is None else title, loc="left", fontsize="medium")
    return axes


def _draw_differences(axes: Axes, rows: np.ndarray, comparison: Comparison, digits: int) -> None:
    frame = comparison.frame
    significant = comparison.significant.to_numpy()
    difference = frame["difference"].to_numpy()
    reach = _reach(difference, frame["low"].to_numpy(), frame["high"].to_numpy())
    axes.axvline(0, color="#4d4d4d", linewidth=1, zorder=1)
    ways = [comparison.better.get(metric, 1) for metric in frame["metric"]]
    for row, value, way, strong, ends in zip(rows, difference, ways, significant, reach.T):
        colour = (BETTER if way * value > 0 else WORSE) if strong and way else EVEN
        axes.errorbar(
            [value], [row], xerr=ends[:, None], fmt="o", color=colour, markersize=5, capsize=3, linewidth=1.4,
            markerfacecolor=colour if strong else "white",
        )  # fmt: skip
    smallest = 10.0**-digits
    texts = [f"p < {smallest:g}" if p < smallest else f"p = {p:.{digits}f}" for p in frame["p_corrected"]]
    _write_beside(axes, rows, ["" if text.endswith("nan") else text for text in texts])
    axes.set_xlabel(f"{_what(comparison, 'difference of means')}, {100 * comparison.level:.6g}% interval")


def _draw_wins(axes: Axes, rows: np.ndarray, comparison: Comparison) -> None:
    frame = comparison.frame
    total = np.maximum(frame["n"].to_numpy(), 1)
    left = np.zeros(len(rows))
    for column, colour, ink in (("win", BETTER, "white"), ("tie", _TIE, "#333333"), ("loss", WORSE, "white")):
        count = frame[column].to_numpy()
        share = count / total
        axes.barh(rows, share, left=left, height=0.72, color=colour, label=column, zorder=2)
        for row, width, start, number in zip(rows, share, left, count):
            if width > 0.06:
                axes.text(
                    start + width / 2,
                    row,
                    f"{number:,}",
                    ha="center",
                    va="center",
                    fontsize="small",
                    color=ink,
                    zorder=4,
                )
        left = left + share
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f}%")
    axes.set_xlabel(f"{_what(comparison, 'run - baseline')}, share of {comparison.unit}")
    axes.legend(
        ncols=3, frameon=False, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.2, fontsize="small"
    )


def _canvas(axes: Axes | None, rows: float) -> Axes:
    """The axes given, or those of a new figure tall enough for the rows; styled alike."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plots need Matplotlib: pip install 'fastrec[report]'") from error
    if axes is None:
        figure = Figure(figsize=(6.4, 1.1 + _ROW * max(rows, 1)), dpi=150, layout="constrained")
        axes = figure.add_subplot()
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.grid(axis="x", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    return axes


def _grouped_rows(metrics: list[str]) -> np.ndarray:
    """A height for each row, with a gap where the metric changes (if metrics have several rows)."""
    gap = 1.6 if len(set(metrics)) < len(metrics) else 1.0
    steps = [gap if metric != before else 1.0 for before, metric in pairwise(metrics)]
    return np.concatenate([[0.0], np.cumsum(steps)]) if metrics else np.zeros(0)


def _pairs(comparison: Comparison) -> list[tuple[str, str]]:
    return list(dict.fromkeys(zip(comparison.frame["run"], comparison.frame["baseline"])))


def _what(comparison: Comparison, several: str) -> str:
    """``new - old`` where that is all there is to compare."""
    pairs = _pairs(comparison)
    if len(pairs) == 1:
        return f"{pairs[0][0]} - {pairs[0][1]}"
    return several if comparison.baseline is None else f"run - {comparison.baseline}"


def _row_labels(comparison: Comparison) -> list[str]:
    """The metric where one pair of runs is compared, else the pair, after its metric where that is new."""
    frame = comparison.frame
    if len(_pairs(comparison)) <= 1:
        return [str(metric) for metric in frame["metric"]]
    labels, before = [], None
    for row in frame.itertuples():
        pair = f"{row.run}" if comparison.baseline is not None else f"{row.run} - {row.baseline}"
        labels.append(f"{row.metric}:  {pair}" if row.metric != before else pair)
        before = row.metric
    return labels


def _label_rows(axes: Axes, rows: np.ndarray, labels: list[str]) -> None:
    axes.set_yticks(rows, [label.replace("$", r"\$") for label in labels])  # no mathematics in names
    if len(rows):
        axes.set_ylim(rows[-1] + 0.6, rows[0] - 0.6)  # the first row at the top


def _write_beside(axes: Axes, rows: np.ndarray, texts: list[str]) -> None:
    """Write each row's text just right of the axes, where it meets no point."""
    for row, text in zip(rows, texts):
        axes.annotate(
            text, (1, row), xycoords=("axes fraction", "data"), xytext=(6, 0), textcoords="offset points",
            va="center", fontsize="small", color="#333333", annotation_clip=False,
        )  # fmt: skip


def _reach(centre: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """(2, n) lengths to the ends of the intervals; an interval that is not defined has none."""
    return np.nan_to_num(np.maximum([centre - low, high - centre], 0))


def _size(count: np.ndarray, unit: str) -> str:
    low, high = (int(count.min()), int(count.max())) if len(count) else (0, 0)
    return f"{high:,} {unit}" if low == high else f"{low:,} to {high:,} {unit}"
