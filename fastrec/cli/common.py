"""What the commands share: naming an array inside a file, refusing an output before the work, showing tables."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

STDOUT = "-"


def split_key(text: str) -> tuple[Path, str | None]:
    """``"file.npz:emb"`` as (file, "emb"); a name that is itself a file is one."""
    path, colon, key = text.rpartition(":")
    if not colon or not path or not key or Path(text).exists() or os.sep in key:
        return Path(text), None
    return Path(path), key


def check_output(path: str | None, suffixes: Sequence[str], *, stdout: bool = False) -> None:
    """Refuse an output that cannot be written, or whose suffix names no format, before any work is done."""
    if path is None or (stdout and path == STDOUT):
        return
    target = Path(path)
    name = Path(target.stem) if target.suffix.lower() == ".gz" else target
    if name.suffix.lower() not in suffixes:
        raise ValueError(f"{path}: the suffix must be one of {', '.join(suffixes)}; got {name.suffix!r}")
    if target.is_dir():
        raise IsADirectoryError(f"cannot write {path}: it is a folder")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: the folder {target.parent} does not exist")
    if not os.access(target.parent, os.W_OK) or (target.exists() and not os.access(target, os.W_OK)):
        raise PermissionError(f"cannot write {path}: permission denied")


def console(stderr: bool = False) -> Console:
    """A Rich console; its width is not cut to 80 columns when the output is a file or a pipe."""
    from rich.console import Console

    made = Console(stderr=stderr, highlight=False)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made = Console(stderr=stderr, highlight=False, width=200)
    return made


def note(text: str) -> None:
    """A line for people, on stderr."""
    console(stderr=True).print(text, style="dim", soft_wrap=True, markup=False)


def show(frame: pd.DataFrame, title: str | None = None, digits: int = 4) -> None:
    """A frame as a table on stdout: numbers to the right, rounded for reading only."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for name in frame.columns:
        right = frame[name].dtype.kind in "fiu"
        table.add_column(Text(str(name)), justify="right" if right else "left", overflow="fold")
    for row in frame.itertuples(index=False):
        table.add_row(*(Text(_cell(value, digits)) for value in row))
    console().print(table)


def _cell(value: Any, digits: int) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, float):
        return f"{value:,.{digits}f}" if 1e-3 <= abs(value) < 1e7 or value == 0 else f"{value:.{digits}g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A frame as plain values for JSON; NaN becomes null."""
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return [{str(k): v.item() if hasattr(v, "item") else v for k, v in row.items()} for row in rows]


@contextmanager
def progress(title: str, total: int) -> Iterator[Any]:
    """A progress bar on stderr, only on a terminal; yields a function to call with the work done."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=console(stderr=True), transient=True)
    bar.disable = not bar.console.is_terminal
    with bar:
        task = bar.add_task(title, total=total)
        yield lambda steps: bar.advance(task, steps)


def split_list(texts: Iterable[str]) -> list[str]:
    """``["ndcg@10,recall@5,20,map"]`` as ``["ndcg@10", "recall@5,20", "map"]``: a bare number is one more
    cutoff.
    """
    parts: list[str] = []
    for text in texts:
        depth, start = 0, 0
        pieces = []
        for place, letter in enumerate(text):
            depth += (letter == "(") - (letter == ")")
            if letter == "," and depth == 0:
                pieces.append(text[start:place])
                start = place + 1
        pieces.append(text[start:])
        for place, piece in enumerate(pieces):
            piece = piece.strip()
            if piece.isdigit() and place and parts and "@" in parts[-1]:
                parts[-1] += f",{piece}"
            elif piece:
                parts.append(piece)
    return parts
