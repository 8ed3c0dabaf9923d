"""``fastrec bench``: the four verbs on real and synthetic data, checked, then timed beside their peers."""

from __future__ import annotations

import json as json_format
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from fastrec._core import checks, files
from fastrec._core import threads as thread_counts
from fastrec.benchmarks import page, record, roofs, tables
from fastrec.benchmarks.cases import plans
from fastrec.benchmarks.harness import ALIASES, Lab, Plan, Result, chosen, run
from fastrec.benchmarks.peers import Peers

# seconds of timing a case, and the least and most rounds
BUDGETS = {"quick": (0.5, (3, 7)), "default": (4.0, (3, 15)), "full": (4.0, (5, 25))}


def bench(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            help="What --only takes, separated by spaces; topk is all of rank.", show_default="all"
        ),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(
            help="Verbs (rank, measure, weigh, train) or names of cases, separated by commas.",
            show_default="all",
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Smaller sizes and fewer rounds: under 30 s.")
    ] = False,
    full: Annotated[
        bool, typer.Option("--full", help="The largest sizes: several minutes (rank: five), up to 8 GB.")
    ] = False,
    peers: Annotated[
        str,
        typer.Option(
            help="auto (all that are installed; --quick leaves out ranx, which compiles for long), none, or names: "
            "numpy, scipy, sklearn, faiss, implicit, torch, "
            "ranx, pytrec_eval; on a card torch, cuvs, faiss, implicit."
        ),
    ] = "auto",
    json: Annotated[
        Path | None, typer.Option(help="Write everything measured to this file.", metavar="FILE")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(help="Write one self-contained page with plots to this file.", metavar="FILE"),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="Threads of fastrec and of every peer.", show_default="all processors")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of all synthetic data.")] = 0,
    device: Annotated[
        str, typer.Option(help="cpu, or cuda: the cases that run on the current NVIDIA GPU.")
    ] = "cpu",
    list_: Annotated[bool, typer.Option("--list", help="List the cases and stop.")] = False,
) -> None:
    """Run the four verbs on real and synthetic data: check every answer, then time it beside the installed peers.

    Exit status: 0 done, 1 an answer of fastrec was wrong or a case failed, 2 bad arguments.

    Example: fastrec bench topk --quick --json rank.json --html rank.html
    """
    console = Console()
    try:
        if quick and full:
            raise ValueError("choose one of --quick and --full")
        if checks.choice(device, "device", ("cpu", "cuda")) == "cuda":
            scale = "quick" if quick else "full" if full else "default"
            _on_card(
                [*(what or []), *filter(None, (only or "").split(","))],
                scale,
                seed,
                json,
                list_,
                console,
                peers,
            )
            return
        picked = chosen(plans(), [*(what or []), *(only or "").split(",")])
        if list_:
            _list(picked, console)
            return
        lab = Lab(
            threads=thread_counts.resolve(threads),
            seed=checks.integer(seed, "seed", low=0),
            scale="quick" if quick else "full" if full else "default",
            peers=Peers(peers, thread_counts.resolve(threads), quick=quick),
        )
        for path in (json, html):
            _writable(path)
    except (ValueError, TypeError, ImportError, OSError) as error:
        raise typer.BadParameter(str(error)) from None
    result = measure(picked, lab, console)
    tables.show(result, console)
    if json is not None:
        _write(json, json_format.dumps(result, indent=1, allow_nan=False) + "\n")
    if html is not None:
        _write(html, page.render(result))
    for path in filter(None, (json, html)):
        console.print(f"wrote {path}", style="dim", soft_wrap=True)
    if any(case["status"] == "failed" for case in result["cases"]):
        raise typer.Exit(1)


def _on_card(
    names: list[str], scale: str, seed: int, json: Path | None, list_: bool, console: Console, peers: str
) -> None:  # fmt: skip
    from fastrec.benchmarks import card, card_peers
    from fastrec.benchmarks.cases import on_card, on_card_measure, on_card_weigh  # noqa: F401  # register

    if list_:
        for name, (title, _) in card.CASES.items():
            console.print(f"{name}  {title}", style="dim")
        return
    _writable(json)
    try:
        names = [ALIASES.get(name, name) for name in names]
        rounds = {"quick": 5, "default": 15, "full": 31}[scale]
        result = card_peers.compare(names, scale, seed, rounds, console.print, peers)
    except (ImportError, RuntimeError) as error:
        console.print(f"Nothing to measure: {error}", style="red", soft_wrap=True, markup=False)
        raise typer.Exit(2) from None
    card.show(result, console)
    if json is not None:
        _write(json, json_format.dumps(result, indent=1) + "\n")
        console.print(f"wrote {json}", style="dim", soft_wrap=True)
    if not all(row["agrees"] for row in result["rows"] if row["contender"].startswith("fastrec")):
        raise typer.Exit(1)


def measure(picked: list[Plan], lab: Lab, console: Console | None = None) -> dict[str, Any]:
    """Run the cases and return the record of the run (see :mod:`fastrec.benchmarks.record`), showing progress."""
    started = time.perf_counter()
    budget, rounds = BUDGETS[lab.scale]
    results: list[Result] = []
    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=console is None,
        # drawn between contenders only: a thread that redraws while they run would be timed with them
        auto_refresh=False,
    )
    with progress:
        task = progress.add_task("", total=len(picked) + 1)

        def say(text: str) -> None:
            progress.update(task, description=f"{text:<40.40}")
            progress.refresh()

        peaks = roofs.measure(lab.threads, quick=lab.scale == "quick", progress=say)
        progress.advance(task)
        for plan in picked:
            say(plan.name)
            results.append(run(plan, lab, budget=budget, rounds=rounds, progress=say))
            progress.advance(task)
            if (
                console is not None and not console.is_terminal
            ):  # no bar there: a line a case, beside the report
                line = f"{len(results)}/{len(picked)} {plan.name}: {results[-1].seconds:.0f} s"
                typer.echo(line, err=True)
        say("the roofs once more")  # a roof measured while the machine was busy is too low
        peaks = peaks.merged(roofs.measure(lab.threads, quick=True))
    return record.record(results, peaks, lab, seconds=time.perf_counter() - started)


def _list(picked: list[Plan], console: Console) -> None:
    table = Table("case", "what", "data", box=None, header_style="dim")
    for plan in picked:
        table.add_row(plan.name, plan.title, "real" if plan.real_data else "synthetic")
    console.print(table)


def _writable(path: Path | None) -> None:
    """Refuse a file that cannot be written before the work, not after it."""
    if path is None:
        return
    if path.is_dir():
        raise IsADirectoryError(f"cannot write {path}: it is a folder")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: the folder {path.parent} does not exist")


def _write(path: Path, text: str) -> None:
    with files.replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
