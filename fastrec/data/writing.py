"""Write runs, judgements and frames: the whole file or none of it, in the format that the suffix names."""

from __future__ import annotations

import gzip
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from fastrec._core.files import replacing
from fastrec.data import formats

if TYPE_CHECKING:
    import pandas as pd

    from fastrec.ranking import TopK

PathLike = str | os.PathLike[str]
TABLES = ("parquet", "feather", "csv", "tsv", "jsonl")


def write_frame(frame: pd.DataFrame, path: PathLike) -> None:
    """Write a pandas frame as Parquet (zstd), Feather, CSV, TSV or JSONL (the text ones also ``.gz``),
    without its index.
    """
    _write(path, TABLES, lambda file, name: _frame_to(frame, file, name))


def write_run(run: pd.DataFrame, path: PathLike, tag: str = "fastrec") -> None:
    """Write ``query, item, score`` in any format :func:`read_run` reads; a TREC line also gets its rank and
    ``tag``.

    In a TREC file the rows of a query are ordered by score, descending (equal scores stay in the frame's
    order); a float32 score is written with the digits that give it back.
    """

    def to(file: BinaryIO, name: str) -> None:
        if name == "trec":
            file.write(trec_run(run, tag).encode())
        else:
            _frame_to(run, file, name)

    _write(path, (*TABLES, "trec"), to)


def write_truth(truth: pd.DataFrame, path: PathLike) -> None:
    """Write ``query, item, gain`` in any format :func:`read_truth` reads; whole gains are written as integers
    in TREC.
    """

    def to(file: BinaryIO, name: str) -> None:
        if name == "trec":
            rows = zip(truth["query"].tolist(), truth["item"].tolist(), truth["gain"].tolist())
            file.write("".join(f"{_field(q)} 0 {_field(i)} {g:.17g}\n" for q, i, g in rows).encode())
        else:
            _frame_to(truth, file, name)

    _write(path, (*TABLES, "trec"), to)


def write_topk(top: TopK, path: PathLike, queries: Any = None, tag: str = "fastrec") -> None:
    """Write a ``TopK``: ``.npz`` (``ids``, ``scores`` and, where given, ``queries``), or as :func:`write_run`
    does.
    """
    if formats.format_by_suffix(Path(path)) != "npz":
        write_run(top.to_frame(queries), path, tag)
        return
    ids = np.asarray(top.ids)
    arrays = {"ids": _texts(ids), "scores": np.asarray(top.scores)}
    if queries is not None:
        arrays["queries"] = _texts(np.asarray(queries))
    _write(path, ("npz",), lambda file, name: np.savez(file, **arrays))  # type: ignore[arg-type]


def trec_run(run: pd.DataFrame, tag: str = "fastrec") -> str:
    """The TREC text of a run frame ``query, item, score``."""
    query = run["query"].to_numpy()
    codes = run.groupby("query", sort=False).ngroup().to_numpy()
    score = run["score"].to_numpy()
    order = np.lexsort((np.arange(len(run)), -score, codes))
    codes = codes[order]
    start = np.flatnonzero(np.r_[True, codes[1:] != codes[:-1]]) if len(codes) else np.zeros(0, int)
    rank = np.arange(len(run)) - np.repeat(start, np.diff(np.r_[start, len(run)])) + 1
    items = run["item"].to_numpy()[order].tolist()
    texts = map(str, score[order]) if score.dtype == np.float32 else map(repr, score[order].tolist())
    rows = zip(query[order].tolist(), items, rank.tolist(), texts)
    tag = _field(tag)
    return "".join(f"{_field(q)} Q0 {_field(i)} {r} {s} {tag}\n" for q, i, r, s in rows)


def to_text(frame: pd.DataFrame, name: str) -> str:
    """A frame as csv, tsv or jsonl text."""
    if name == "jsonl":
        return (
            frame.to_json(orient="records", lines=True, double_precision=15, date_format="iso")
            if len(frame)
            else ""
        )
    return frame.to_csv(index=False, sep="," if name == "csv" else "\t", lineterminator="\n")


def _field(value: object) -> str:
    text = str(value)
    if not text or any(letter.isspace() for letter in text):
        raise ValueError(
            f"a TREC field cannot be empty or hold blanks; got {text!r}. Write CSV or Parquet instead."
        )
    return text


def _texts(ids: np.ndarray) -> np.ndarray:
    """Object ids as fixed-width text, which ``.npz`` can hold without pickle; padding becomes an empty
    string.
    """
    if ids.dtype != object:
        return ids
    return np.array(
        [
            ["" if i is None else str(i) for i in row] if isinstance(row, np.ndarray) else str(row)
            for row in ids
        ]
    )


def _frame_to(frame: pd.DataFrame, file: BinaryIO, name: str) -> None:
    if name == "parquet":
        frame.to_parquet(file, index=False, compression="zstd")
    elif name == "feather":
        frame.reset_index(drop=True).to_feather(file)
    else:
        file.write(to_text(frame, name).encode())


def _write(path: PathLike, allowed: tuple[str, ...], to: Callable[[BinaryIO, str], object]) -> None:
    target = Path(path)
    name = formats.format_by_suffix(target)
    if name is None and "trec" in allowed and target.suffix:
        name = "trec"
    if name not in allowed:
        raise ValueError(
            f"{target}: the suffix must name one of the formats {', '.join(allowed)}; got {target.suffix!r}"
        )
    buffer = io.BytesIO()
    to(buffer, name)
    data = buffer.getvalue()
    if formats.compressed(target):
        data = gzip.compress(data, mtime=0)
    with replacing(target) as temporary:
        temporary.write_bytes(data)


def write_json(value: Any, path: PathLike) -> None:
    """Write plain values as indented JSON."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n")
