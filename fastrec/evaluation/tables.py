"""Small tables as text: a name and its numbers in each row."""

from __future__ import annotations

from collections.abc import Sequence

_LATEX = {c: rf"\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$",
}  # fmt: skip


def latex_text(text: str) -> str:
    """Text as LaTeX prints it."""
    return "".join(_LATEX.get(c, c) for c in text)


def markdown_text(text: str) -> str:
    """Text that may stand in a cell of a Markdown table."""
    return text.replace("|", r"\|")


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, its numbers to the right."""
    cells = [[markdown_text(row[0]), *row[1:]] for row in rows]
    rule = "|---" + "|---:" * (len(header) - 1) + "|"
    return "\n".join([f"| {' | '.join(header)} |", rule, *(f"| {' | '.join(row)} |" for row in cells)])


def latex(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A LaTeX table (booktabs)."""
    cells = [[latex_text(row[0]), *row[1:]] for row in rows]
    return "\n".join(
        [
            rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}",
            r"\toprule",
            rf"{' & '.join(header)} \\",
            r"\midrule",
            *(rf"{' & '.join(row)} \\" for row in cells),
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )
