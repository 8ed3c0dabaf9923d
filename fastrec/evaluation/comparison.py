"""``Comparison``: what ``fr.compare`` returns, and the tables it prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fastrec._core import checks
from fastrec.evaluation import tables

if TYPE_CHECKING:
    import pandas as pd

STYLES = ("differences", "means")


@dataclass(frozen=True)
class Comparison:
    """Runs compared pair by pair on every metric.

    Attributes
    ----------
    frame : pandas frame, one row a (metric, pair of runs)
        ``metric, baseline, run`` : what is compared.
        ``n`` : queries on which both runs have a value.
        ``baseline_mean, run_mean`` : means over those.
        ``difference`` : ``run_mean - baseline_mean``; positive means that `run` is better, but where ``better`` says
            that smaller is.
        ``relative`` : ``difference / baseline_mean`` (NaN where that mean is 0).
        ``low, high`` : confidence interval of the difference.
        ``statistic, p, p_corrected`` : of the test.
        ``effect_size`` : Cohen's d_z, the difference in units of its standard deviation over queries.
        ``win, tie, loss`` : queries where `run` is better, equal, worse; for click evaluations only of
            tests over groups.
    means : pandas frame (runs x metrics)
        Each run's mean over the matched queries where it is defined.
    test, correction, alternative, interval, level, baseline, replicates, seed
        As resolved.
    better : mapping from metric to 1 (larger is better), -1 (smaller is) or 0 (neither)
        Metrics that are not in it are better when they are larger.
    unit : what ``n`` counts: "queries", "lists", "rows" or "groups"
    """

    frame: pd.DataFrame
    means: pd.DataFrame
    test: str
    correction: str
    alternative: str
    interval: str
    level: float
    baseline: str | None
    replicates: int
    seed: int
    better: Mapping[str, int] = field(default_factory=dict)
    unit: str = "queries"

    @property
    def significant(self) -> pd.Series:
        """One bool a row of ``frame``: is its corrected p below ``1 - level``?"""
        return (self.frame["p_corrected"] < 1 - self.level).rename("significant")

    def to_frame(self) -> pd.DataFrame:
        """A copy of ``frame``."""
        return self.frame.copy()

    def to_markdown(self, style: str = "differences", digits: int = 4) -> str:
        """A Markdown table.

        ``style="differences"`` has a row for each metric and pair; ``style="means"`` has a row for each run
        and a column for each metric, the best mean bold, with the letters of the runs that it beats
        significantly.
        """
        header, rows = self._table(style, digits, _MARKDOWN)
        right = 2 if style == "differences" else 1
        rule = ["---"] * right + ["---:"] * (len(header) - right)
        return "\n".join("| " + " | ".join(row) + " |" for row in [header, rule, *rows]) + "\n"

    def to_latex(self, style: str = "means", digits: int = 4) -> str:
        """The same tables for LaTeX (``\\usepackage{booktabs}``)."""
        header, rows = self._table(style, digits, _LATEX)
        left = 2 if style == "differences" else 1
        return "\n".join(
            [
                rf"\begin{{tabular}}{{{'l' * left}{'r' * (len(header) - left)}}}",
                r"\toprule",
                " & ".join(header) + r" \\",
                r"\midrule",
                *(" & ".join(row) + r" \\" for row in rows),
                r"\bottomrule",
                r"\end{tabular}",
                "",
            ]
        )

    def plot(self, **options: Any) -> Any:
        """Draw the differences with their intervals, or with ``kind="wins"`` the queries won, tied and lost: Matplotlib
        axes, to save by ``comparison.plot().figure.savefig(path)``; see
        :func:`fastrec.evaluation.plots.plot_comparison`.
        """
        from fastrec.evaluation.plots import plot_comparison

        return plot_comparison(self, **options)

    def _table(self, style: str, digits: int, markup: _Markup) -> tuple[list[str], list[list[str]]]:
        style = checks.choice(style, "style", STYLES)
        digits = checks.integer(digits, "digits", low=0, high=17)
        return self._differences(digits, markup) if style == "differences" else self._means(digits, markup)

    def _differences(self, digits: int, markup: _Markup) -> tuple[list[str], list[list[str]]]:
        p_name = "p" if self.correction == "none" else f"p ({self.correction})"
        header = ["metric", "comparison", "difference", f"{100 * self.level:.6g}% interval", "relative"]
        header += [p_name, "effect size"]
        counted = "win" in self.frame.columns
        if counted:
            header.append("win/tie/loss")
        rows = []
        for row, strong in zip(self.frame.itertuples(), self.significant):
            difference = markup.plain(f"{row.difference:+.{digits}f}")
            rows.append(
                [
                    markup.plain(row.metric),
                    markup.plain(f"{row.run} - {row.baseline}"),
                    markup.bold(difference) if strong else difference,
                    markup.plain(f"[{row.low:+.{digits}f}, {row.high:+.{digits}f}]"),
                    markup.plain(f"{100 * row.relative:+.2f}%"),
                    markup.plain(_p_text(row.p_corrected)),
                    markup.plain(f"{row.effect_size:+.3f}"),
                ]
            )
            if counted:
                rows[-1].append(f"{row.win}/{row.tie}/{row.loss}")
        return [markup.plain(name) for name in header], rows

    def _means(self, digits: int, markup: _Markup) -> tuple[list[str], list[list[str]]]:
        letters = {run: _letter(number) for number, run in enumerate(self.means.index)}
        beaten: dict[tuple[str, str], str] = {}
        for row, strong in zip(self.frame.itertuples(), self.significant):
            way = self.better.get(row.metric, 1)
            if strong and way:
                better, worse = (
                    (row.run, row.baseline) if way * row.difference > 0 else (row.baseline, row.run)
                )
                key = (better, row.metric)
                beaten[key] = "".join(sorted(beaten.get(key, "") + letters[worse]))
        rows = []
        for run in self.means.index:
            cells = [markup.plain(f"{letters[run]}: {run}")]
            for metric in self.means.columns:
                mean, way = self.means.at[run, metric], self.better.get(metric, 1)
                text = markup.plain(f"{mean:.{digits}f}")
                if way and way * mean == (way * self.means[metric]).max():
                    text = markup.bold(text)
                cells.append(text + markup.superscript(beaten.get((run, metric), "")))
            rows.append(cells)
        return [markup.plain("run"), *(markup.plain(metric) for metric in self.means.columns)], rows

    def __str__(self) -> str:
        return self.to_markdown()

    def _repr_html_(self) -> str:
        return self.frame.to_html(index=False)


class _Markup:
    """How a table's cells are marked up; this is Markdown."""

    def plain(self, text: str) -> str:
        return tables.markdown_text(text)

    def bold(self, text: str) -> str:
        return f"**{text}**"

    def superscript(self, text: str) -> str:
        return f"<sup>{text}</sup>" if text else ""


class _Latex(_Markup):
    def plain(self, text: str) -> str:
        return tables.latex_text(text)

    def bold(self, text: str) -> str:
        return rf"\textbf{{{text}}}"

    def superscript(self, text: str) -> str:
        return rf"$^{{{text}}}$" if text else ""


_MARKDOWN, _LATEX = _Markup(), _Latex()


def _p_text(p: float) -> str:
    return "<0.0001" if p < 0.0001 else f"{p:.4f}"


def _letter(number: int) -> str:
    return chr(ord("a") + number) if number < 26 else f"({number})"
