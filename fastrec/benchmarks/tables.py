"""A run in the terminal: one Rich table a verb, the findings below it, and what failed at the end."""

from __future__ import annotations

from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from fastrec.benchmarks import record
from fastrec.benchmarks.harness import OURS, VERBS

WHAT = {
    "rank": "exact top-k",
    "measure": "offline metrics",
    "weigh": "how much each sample matters",
    "train": "thin estimators",
}


def show(run: dict[str, Any], console: Console) -> None:
    """Print the machine, the cases verb by verb with their findings, and the summary."""
    grid = Table.grid(padding=(0, 2))
    for name, text in record.machine_lines(run):
        grid.add_row(Text(name, style="dim"), Text(text))
    console.print(grid)
    for verb in VERBS:
        cases = [case for case in run["cases"] if case["verb"] == verb]
        if cases:
            console.print()
            console.rule(Text(f"{verb}: {WHAT[verb]}", style="bold"), align="left")
        for case in cases:
            ours = [timing["answer"] for timing in case["contenders"] if timing["peer"] == OURS]
            console.print(
                Text(case["title"], style="bold"),
                Text(record.shape_text(case["shape"]), style="dim"),
                *(Text(answer, style="dim") for answer in ours[:1]),
                sep="   ",
            )
            if case["contenders"]:
                console.print(_table(case, console.width))
            if case["status"] != "done":
                style = "yellow" if case["status"] == "skipped" else "bold red"
                console.print(Text(f"{case['name']} {case['status']}: {case['reason']}", style=style))
            for finding in case["findings"]:
                console.print()
                console.print(_finding(finding))
            console.print()
    console.print(_summary(run))


def _table(case: dict[str, Any], width: int) -> Table:
    """One row a contender, the fastest first; columns of fixed width, so that the tables of a verb line up."""
    columns = {"median": 8, "spread": 6, "fastrec is": 10, "fp32": 5, "int8": 5, "memory": 6}
    if width >= 100:
        columns |= {"rate": 16}
    if width >= 114:
        columns |= {"extra RAM": 9}
    answer = 28 if width >= 150 else 0
    table = Table(box=None, header_style="dim", pad_edge=False)
    name_width = width - sum(columns.values()) - 2 * (len(columns) + 1) - (answer + 2 if answer else 0)
    table.add_column("", width=min(name_width, 48), overflow="fold")
    for heading, wide in columns.items():
        table.add_column(heading, justify="right", width=wide, no_wrap=True)
    if answer:
        table.add_column("answer", width=answer, overflow="fold")
    for timing in sorted(
        case["contenders"], key=lambda t: t["median_s"] if t["median_s"] is not None else 1e9
    ):
        cells = _cells(case, timing)
        table.add_row(
            cells[""], *(cells[heading] for heading in columns), *([cells["answer"]] if answer else [])
        )
        if not answer and not timing["agrees"]:
            table.add_row(
                Text(f"   {timing['answer']}", style="bold red" if timing["peer"] == OURS else "yellow")
            )
    return table


def _cells(case: dict[str, Any], timing: dict[str, Any]) -> dict[str, Text]:
    ours = timing["peer"] == OURS
    low, high = timing["quartiles_s"] or (None, None)
    shares = timing["share_of_roof"]
    name = Text("✓ " if timing["agrees"] else "✗ ", style="green" if timing["agrees"] else "bold red")
    name.append(timing["name"], style="bold" if ours else "")
    if timing["name"] == case["best_peer"]:
        name.append(" *", style="dim")
    if timing["note"]:
        name.append(f" ({timing['note']})", style="dim")
    return {
        "": name,
        "median": Text(record.seconds_text(timing["median_s"])),
        "spread": Text("-" if low is None else f"±{(high - low) / 2 / timing['median_s']:.0%}", style="dim"),
        "fastrec is": _ratio(
            case["ratio_to_best_peer"] if ours and timing["times_ours"] is None else timing["times_ours"],
            ours,
        ),
        "rate": Text(record.rate_text(timing["rate_per_s"], case["work"]["unit"])),
        "fp32": Text(record.share_text(shares.get("fp32"))),
        "int8": Text(record.share_text(shares.get("int8"))),
        "memory": Text(record.share_text(shares.get("rows", shares.get("read")))),
        "extra RAM": Text(record.bytes_text(timing["extra_bytes"]), style="dim"),
        "answer": Text(
            timing["answer"], style="dim" if timing["agrees"] else "bold red" if ours else "yellow"
        ),
    }


def _ratio(ratio: float | None, ours: bool) -> Text:
    if ratio is None:
        return Text("-")
    style = ("bold " if ours else "") + ("green" if ratio >= 1 else "red")
    return Text(record.ratio_text(ratio), style=style)


def _finding(finding: dict[str, Any]) -> Group:
    table = Table(
        title=finding["title"], title_justify="left", title_style="bold", header_style="dim", box=None
    )
    for at, column in enumerate(finding["columns"]):
        table.add_column(column, justify="right" if at else "left")
    for row in finding["rows"]:
        table.add_row(*(record.value_text(value) for value in row))
    return Group(table, Text(finding["conclusion"], style="italic"), Text(""))


def _summary(run: dict[str, Any]) -> Text:
    done = [case for case in run["cases"] if case["status"] == "done"]
    failed = [case for case in run["cases"] if case["status"] == "failed"]
    compared = [case for case in done if case["ratio_to_best_peer"] is not None]
    lost = [case for case in compared if case["ratio_to_best_peer"] < 1]
    text = Text()
    text.append(
        f"{len(done)} case{'' if len(done) == 1 else 's'} done",
        style="bold green" if done and not failed else "bold",
    )
    skipped = len(run["cases"]) - len(done) - len(failed)
    text.append(f", {skipped} skipped" if skipped else "")
    text.append(
        f", {len(failed)} failed" if failed else ", every answer of fastrec checked",
        style="red" if failed else "",
    )
    text.append(f"; {run['seconds']:.0f} s; peak memory {record.bytes_text(run['peak_rss_bytes'])}.\n")
    text.append(
        "✓: the answer agrees with the float64 reference. Times are medians of interleaved runs, ± half the "
        "interquartile range. `fastrec is` how many times faster than that row (on fastrec's own row: than the best "
        "peer whose answer agrees, marked *). fp32, int8: the plain algorithm's operations against the measured "
        "arithmetic peak; memory: the bytes that must be read against the measured read rate (rank/pairs: random "
        "reads of rows that lie as NumPy lays them).\n",
        style="dim",
    )
    for case in lost:
        text.append(
            f"A peer is faster on {case['name']}: {case['best_peer']}, "
            f"{1 / case['ratio_to_best_peer']:.2f} times as fast.\n",
            style="yellow",
        )
    return text
