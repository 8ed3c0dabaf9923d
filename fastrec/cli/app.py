"""``fastrec``: commands, exit codes, and errors in one line.

Exit codes: 0 done; 1 a check or gate failed; 2 bad arguments, or a file that cannot be read or written.
``--debug``, anywhere on the line, shows the traceback behind an error.  Commands import what they need when
they run, so that ``fastrec --help`` answers at once.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from fastrec.cli.datasets import datasets
from fastrec.cli.evaluate import evaluate
from fastrec.cli.importance import importance
from fastrec.cli.info import info
from fastrec.cli.topk import topk

DONE, FAILED, BAD = 0, 1, 2


def _version(wanted: bool) -> None:
    if wanted:
        from fastrec._core.version import __version__

        typer.echo(f"fastrec {__version__}")
        raise typer.Exit


def fastrec(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and stop.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback behind an error (works anywhere).")
    ] = False,
) -> None:
    """Exact top-k, offline metrics and sample importance, on files.

    Files: .npy, .npz, .parquet, .csv, .tsv, .jsonl and TREC, the text ones also .gz; the suffix decides.
    FILE:NAME picks one array of an .npz or one column of a table.

    Exit codes: 0 done, 1 a check or gate failed, 2 bad arguments or a bad file.

    \b
    Examples:
      fastrec datasets open_bandit --export clicks/
      fastrec topk items.npy users.npy -k 100 --exclude seen.parquet --out run.parquet
      fastrec evaluate run.parquet truth.parquet --metrics ndcg@10,recall@100
      fastrec bench --quick
    """


def build(bench: bool = True) -> typer.Typer:
    """The application.  ``bench=False`` stands in for the benchmark with its name, which saves importing it."""
    app = typer.Typer(
        name="fastrec",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(fastrec)
    if bench:
        from fastrec.benchmarks.command import bench as run_bench

        app.command("bench")(run_bench)
    else:

        def bench_named() -> None:
            """Run the four verbs on real data: answers checked first, then timed beside their peers."""

        app.command("bench")(bench_named)
    app.command("topk")(topk)
    app.command("evaluate")(evaluate)
    app.command("importance")(importance)
    app.command("datasets")(datasets)
    app.command("info")(info)
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; ``arguments`` stand in for those of the process."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    end = words.index("--") if "--" in words else len(words)
    debug = "--debug" in words[:end]
    words = [word for place, word in enumerate(words) if word != "--debug" or place > end]
    try:
        command = next((word for word in words if not word.startswith("-")), None)
        build(bench=command == "bench")(args=words, prog_name="fastrec")
    except SystemExit as done:  # typer ends every run so, with its own messages shown
        return done.code if isinstance(done.code, int) else DONE if done.code is None else BAD
    except BrokenPipeError:  # the reader of our output left: nobody to tell
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if debug:
            raise
        known = isinstance(error, (ValueError, TypeError, OSError, ImportError, MemoryError, LookupError))
        text = " ".join(_text(error).split())
        hint = "" if known else f" ({type(error).__name__}; `--debug` shows where)"
        print(f"fastrec: error: {text}{hint}", file=sys.stderr)  # noqa: T201
        return BAD
    return DONE


def _text(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        name = f": {error.filename}" if error.filename is not None else ""
        return f"{error.strerror}{name}"
    if isinstance(error, KeyError) and error.args:
        return str(error.args[0])
    return str(error) or type(error).__name__
