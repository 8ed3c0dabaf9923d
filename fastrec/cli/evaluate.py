"""``fastrec evaluate``."""

from __future__ import annotations

import json as json_format
import operator
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import pandas as pd

DEFAULT = "ndcg@10,map,mrr,recall@100"
TABLES = (".parquet", ".csv", ".tsv", ".jsonl", ".feather")
_GATE = re.compile(
    r"\s*(?P<metric>(?:[^<>=(]|\([^)]*\))+?)\s*(?P<sign>>=|<=|==|>|<)\s*(?P<bound>[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?)\s*",
    re.I,
)
_SIGNS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt, "==": operator.eq}


@dataclass(frozen=True)
class Gate:
    """``ndcg@10>=0.31``: a bound on a mean."""

    text: str
    metric: str
    sign: str
    bound: float

    @classmethod
    def read(cls, text: str) -> Gate:
        found = _GATE.fullmatch(text)
        if not found:
            raise ValueError(f"--require: expected METRIC>=NUMBER, such as 'ndcg@10>=0.31'; got {text!r}")
        return cls(text.strip(), found["metric"], found["sign"], float(found["bound"]))

    def holds(self, value: float) -> bool:
        """Whether ``value`` is inside the bound; NaN never is."""
        return bool(_SIGNS[self.sign](value, self.bound))


def evaluate(
    run: Annotated[
        Path, typer.Argument(help="What a system returned: TREC, Parquet, CSV, JSONL, .npz of ids.")
    ],
    truth: Annotated[
        Path, typer.Argument(help="What is right: TREC qrels, or a table query, item, gain[, subtopic].")
    ],
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            "--metrics", "-m", help="Names, by commas; an unknown one lists all.", show_default=DEFAULT
        ),
    ] = None,
    convention: Annotated[
        str,
        typer.Option(help="trec, sklearn, ranx, recbole, rectools, lenskit or implicit: whose definitions."),
    ] = "trec",
    by: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Also by this column of TRUTH (or --groups).")
    ] = None,
    groups: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A table with query and --by columns.")
    ] = None,
    compare: Annotated[
        list[Path] | None,
        typer.Option(metavar="RUN", help="Another run, tested against RUN (may be repeated)."),
    ] = None,
    test: Annotated[
        str, typer.Option(help="paired_t, wilcoxon, randomization, bootstrap or tukey_hsd.")
    ] = "paired_t",
    require: Annotated[
        list[str] | None,
        typer.Option(metavar="GATE", help="Fail unless 'ndcg@10>=0.31' holds (may be repeated)."),
    ] = None,
    per_query: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write every query's values.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write the table of means.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    level: Annotated[
        float, typer.Option(help="Coverage of the confidence intervals; 0 leaves them out.")
    ] = 0.95,
    seed: Annotated[int, typer.Option(help="Of the bootstrap behind the intervals.")] = 0,
    threads: Annotated[
        int | None, typer.Option(help="Threads to use.", show_default="all processors")
    ] = None,
) -> None:
    """Measure a run against judgements: every metric in one pass, with its confidence interval.

    Exit code 1 when a --require gate fails, so that a pipeline can stop on it.

    \b
    Examples:
      fastrec evaluate run.trec qrels.trec --metrics ndcg@10,map,recall@5,20,100
      fastrec evaluate new.csv truth.csv --compare old.csv --test randomization
      fastrec evaluate run.csv truth.csv --by category --per-query values.parquet
      fastrec evaluate run.trec qrels.trec --require "ndcg@10>=0.31"
    """
    import fastrec as fr
    from fastrec._core import checks
    from fastrec.cli.common import check_output, note, split_list
    from fastrec.data import read_run, read_truth, write_frame
    from fastrec.evaluation.metrics import parse
    from fastrec.evaluation.per_query import shown

    names = split_list(metrics or [DEFAULT])
    gates = [Gate.read(text) for text in require or []]
    level = checks.number(level, "--level", low=0.0, high=1.0)
    for path in (per_query, out):
        check_output(None if path is None else str(path), TABLES)
    if groups is not None and by is None:
        raise ValueError("--groups needs --by: the column to group by")
    asked = [*names, *(gate.metric for gate in gates)]
    by_subtopic = any(column.metric.subtopics for column in parse(asked))
    judged = fr.Truth(truth, subtopics=True) if by_subtopic else None
    right = read_truth(truth) if judged is None else judged.to_frame()
    judged = fr.Truth(right) if judged is None else judged

    def measure(path: Path) -> Any:
        returned = read_run(path)
        for name in ("query", "item"):
            if len(returned) and len(right) and not _overlap(returned[name], right[name]):
                firsts = f"{shown(returned[name].iloc[0])} and {shown(right[name].iloc[0])}"
                note(
                    f"{path}: no {name} of the run is in {truth} (their first: {firsts}); are the ids the same?"
                )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "no (query|item) of `truth`")  # said above, with the files
            return fr.evaluate(returned, judged, asked, convention, threads=threads)

    result = measure(run)
    values = result.per_query
    summary = _summary(result, level, seed, threads)
    report: dict[str, Any] = {
        "run": str(run),
        "truth": str(truth),
        "convention": convention,
        "counts": {name: count for name, count in result.counts.items() if isinstance(count, int)},
    }
    tables: dict[str, pd.DataFrame] = {"metrics": summary}
    if by is not None:
        tables["by"] = _by_group(result, truth if groups is None else groups, by)
    if compare:
        others = {str(path): measure(path) for path in compare}
        if str(run) in others:
            raise ValueError(f"--compare: {run} is the run itself")
        compared = fr.compare(
            {str(run): result, **others},
            test=test,
            baseline=None if test == "tukey_hsd" else str(run),
            level=level or 0.95,
            seed=seed,
            threads=threads,
        )
        tables["compare"] = compared.frame
        report["test"] = {"test": compared.test, "correction": compared.correction, "level": compared.level}
    judgements = []
    for gate in gates:
        if gate.metric not in result.metrics:
            raise ValueError(
                f"--require: {gate.metric!r} must name one metric; got {', '.join(result.metrics)}"
            )
        value = result[gate.metric]
        judgements.append({"gate": gate.text, "value": value, "holds": gate.holds(value)})
    if per_query is not None:
        write_frame(values.reset_index(), per_query)
    if out is not None:
        write_frame(summary, out)
    if json:
        from fastrec.cli.common import records

        for gate_result in judgements:
            gate_result["value"] = (
                None if gate_result["value"] != gate_result["value"] else gate_result["value"]
            )
        report |= {name: records(table) for name, table in tables.items()} | {"gates": judgements}
        typer.echo(json_format.dumps(report, indent=2, allow_nan=False))
    else:
        _show(report, tables, judgements)
    for path in (per_query, out):
        if path is not None:
            note(f"wrote {path}")
    if not all(judgement["holds"] for judgement in judgements):
        raise typer.Exit(1)


def _overlap(left: pd.Series, right: pd.Series) -> bool:
    """Whether two columns of ids share one, be it written as text in the one and as a number in the other."""
    if left.dtype.kind != right.dtype.kind:
        left, right = left.astype(str), right.astype(str)
    return bool(right.isin(left).any())


def _summary(result: Any, level: float, seed: int, threads: int | None) -> pd.DataFrame:
    """``metric, mean, low, high, queries, convention``."""
    frame = result.to_frame()
    if level and len(result):
        from fastrec.evaluation.bootstrap import bootstrap

        spread = bootstrap(result, level=level, seed=seed, threads=threads)
        frame.insert(2, "low", spread.low)
        frame.insert(3, "high", spread.high)
    return frame


def _by_group(result: Any, path: Path, column: str) -> pd.DataFrame:
    """Means and number of queries of each group; queries without one come last, as "(none)"."""
    from fastrec._core import columns
    from fastrec.data import read_frame
    from fastrec.data.formats import format_of, malformed, open_path

    if format_of(open_path(path)) not in ("parquet", "feather", "csv", "tsv", "jsonl"):
        raise malformed(
            path, None, f"a table with the column {column!r}", "another format; pass a table with --groups"
        )
    table = read_frame(path)
    query = columns.find([str(name) for name in table.columns], columns.QUERY, str(path))
    if query is None or column not in table.columns:
        raise malformed(
            path, None, f"columns query and {column}", f"columns {', '.join(map(str, table.columns))}"
        )
    pairs = table[[query, column]].dropna().drop_duplicates()
    twice = pairs[query].duplicated()
    if twice.any():
        label = pairs[query][twice].iloc[0]
        raise malformed(path, None, f"one {column} a query", f"several for query {label!r}")
    group_of = dict(zip(pairs[query].astype(str), pairs[column].astype(str)))
    frame = result.by([group_of.get(str(label), "(none)") for label in result.query_ids])
    order = sorted(frame.index, key=lambda label: (label == "(none)", label))
    return frame.loc[order].rename_axis(column).reset_index()


def _show(report: dict[str, Any], tables: dict[str, pd.DataFrame], judgements: list[dict[str, Any]]) -> None:
    from fastrec.cli.common import console, show

    counts = ", ".join(
        f"{count:,} {name}" for name, count in report["counts"].items() if count or name == "queries"
    )
    typer.echo(f"{report['run']} against {report['truth']}: {counts}; convention {report['convention']}\n")
    show(tables["metrics"].drop(columns="convention"))
    if "by" in tables:
        typer.echo()
        show(tables["by"])
    if "compare" in tables:
        test = report["test"]
        typer.echo(f"\n{test['test']}, p corrected by {test['correction']}, {test['level']:.0%} intervals")
        columns = [
            "metric",
            "baseline",
            "run",
            "difference",
            "low",
            "high",
            "p",
            "p_corrected",
            "effect_size",
            "win",
            "tie",
            "loss",
        ]
        show(tables["compare"][columns])
    if judgements:
        typer.echo()
    for judgement in judgements:
        passed = judgement["holds"]
        text = f"{'PASS' if passed else 'FAIL'}  {judgement['gate']}  ({judgement['value']:.6f})"
        console().print(text, style="green" if passed else "bold red", markup=False)
