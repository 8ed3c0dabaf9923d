"""Runs and judgements in text: (query, item, value) triples from TREC, CSV, TSV, JSONL and JSON.

Each text format has two parsers that must agree (the tests compare them).  Arrow's compiled, multi-threaded
one reads a well-formed file; where it declines, the plain one below reads the same bytes line by line, and
either accepts what Arrow was too strict for (text after a TREC tag) or raises the error that names the line.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json

from fastrec._core import columns as names
from fastrec.data.formats import decode, first_line, malformed, read_text, shown

_NUMBER = re.compile(
    r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|infinity|nan)", re.IGNORECASE | re.ASCII
)
_INTEGER = re.compile(r"0|-?[1-9][0-9]*", re.ASCII)
_BLANKS = re.compile(r"[ \t\r]+")


@dataclass(frozen=True)
class Kind:
    """What tells a run from judgements: the name of the value, the TREC line."""

    name: str
    value: str
    trec: str
    value_at: int
    trailing: bool  # text after the last field is allowed (trec_eval does, for runs)

    @property
    def width(self) -> int:
        return len(self.trec.split())


RUN = Kind("run", "score", "query Q0 item rank score tag", 4, True)
TRUTH = Kind("truth", "gain", "query 0 item gain", 3, False)


def roles(
    path: Path, columns: Sequence[str], kind: Kind, chosen: dict[str, str | None]
) -> tuple[str, str, str | None]:
    """The names of the query, item and value columns; the value may be absent, the other two may not."""
    where = str(path)
    query = _role(columns, chosen.get("query"), lambda: names.find(columns, names.QUERY, where))
    item = _role(columns, chosen.get("item"), lambda: names.find(columns, names.ITEM, where))
    value = _role(
        columns,
        chosen.get(kind.value),
        lambda: names.find(columns, names.SCORE, where) if kind is RUN else names.find_gain(columns, where),
    )
    if query is None or item is None or (value is None and chosen.get(kind.value)):
        wanted = ", ".join(chosen.get(role) or role for role in ("query", "item", kind.value))
        raise malformed(
            path,
            None,
            f"columns {wanted} (or one known alias of each, such as user_id, doc_id, relevance)",
            f"columns {shown(', '.join(columns))}",
        )
    distinct(path, columns)
    if value is None and kind is RUN:
        value = names.find(columns, names.RANK, where)
    return query, item, value


def _role(columns: Sequence[str], chosen: str | None, found: Callable[[], str | None]) -> str | None:
    if chosen is None:
        return found()
    return chosen if chosen in columns else None


def distinct(path: Path, columns: Sequence[str]) -> None:
    """Refuse a table that has one column name twice."""
    if len(set(columns)) != len(columns):
        twice = next(c for c in columns if list(columns).count(c) > 1)
        raise malformed(path, None, "distinct column names", f"{twice!r} twice")


# -- TREC ----------------------------------------------------------------------------------------------------


def trec(path: Path, kind: Kind) -> pa.Table:
    """Whitespace-separated lines.  Ids stay the exact strings in the file; ``#`` lines are comments."""
    data = read_text(path)
    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(_one_space(data)),
            read_options=pyarrow.csv.ReadOptions(column_names=[str(i) for i in range(kind.width)]),
            parse_options=pyarrow.csv.ParseOptions(delimiter=" ", quote_char=False),
            convert_options=_convert({"0": pa.string(), "2": pa.string(), str(kind.value_at): pa.float64()}),
        )
        table = table.rename_columns(["query", "item", "value"])
        if _clean(table):
            return table
    except pa.ArrowInvalid:
        pass
    return _table(_trec_lines(data, path, kind))


def _convert(types: dict[str, pa.DataType]) -> pyarrow.csv.ConvertOptions:
    # No spelling of a string is a missing value: "NA", "null" and "" are what the file says.
    return pyarrow.csv.ConvertOptions(
        column_types=types, include_columns=list(types), null_values=[], strings_can_be_null=False
    )


def _one_space(data: bytes) -> bytes:
    """The same lines with one space between fields, none at their ends, and no comments."""
    if data.startswith(b"#") or b"\n#" in data:
        data = re.sub(rb"(?m)^#[^\n]*\n?", b"", data)
    letters = np.frombuffer(data, np.uint8)
    low = letters <= 32  # blanks, line ends, and controls that take the longer way for nothing
    clean = not (low[1:] & low[:-1]).any() and not low[:1].any() and data[-1:] not in b" \t\r"
    if clean and b"\t" not in data and b"\r" not in data:
        return data
    blank = (letters == 32) | (letters == 9) | (letters == 13)
    space = blank | (letters == 10)
    repeated = np.zeros(len(letters), bool)
    repeated[1:] = space[:-1]  # a blank after a blank, or at the start of a line
    repeated[:1] = True
    kept = ~(blank & repeated)
    letters = np.where(blank, np.uint8(32), letters)[kept]
    trailing = np.zeros(len(letters), bool)
    trailing[:-1] = (letters[:-1] == 32) & (letters[1:] == 10)
    trailing[-1:] = letters[-1:] == 32
    return letters[~trailing].tobytes()


def _trec_lines(data: bytes, path: Path, kind: Kind) -> Iterator[tuple[str, str, float]]:
    fields_wanted = f"{kind.width} fields `{kind.trec}`"
    for number, line in enumerate(decode(data, path).split("\n"), 1):
        text = line.strip(" \t\r")
        if not text or text.startswith("#"):
            continue
        fields = _BLANKS.split(text)
        if len(fields) < kind.width or (len(fields) > kind.width and not kind.trailing):
            other = TRUTH if kind is RUN else RUN
            hint = f" (a {other.name} file has {other.width})" if len(fields) == other.width else ""
            raise malformed(path, number, fields_wanted, f"{len(fields)}{hint}: {shown(text)}")
        yield fields[0], fields[2], _real(fields[kind.value_at], kind, path, number)


# -- CSV and TSV ---------------------------------------------------------------------------------------------


def delimited(path: Path, kind: Kind, delimiter: str, chosen: dict[str, str | None]) -> pa.Table:
    """A header line, then one pair a line.  An id column is int64 only where every id is written as an
    integer.
    """
    data = read_text(path)
    header = header_of(data, path, delimiter)
    query, item, value = roles(path, header, kind, chosen)
    types = {query: pa.string(), item: pa.string()} | ({value: pa.float64()} if value else {})
    table = None
    with contextlib.suppress(pa.ArrowInvalid):
        table = pyarrow.csv.read_csv(
            pa.BufferReader(data),
            parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=b'"' in data),
            convert_options=_convert(types),
        ).rename_columns(["query", "item", "value"] if value else ["query", "item"])
    if table is None or not _clean(table):
        rows = _delimited_lines(
            data, path, kind, delimiter, [header.index(c) if c else None for c in (query, item, value)]
        )
        table = _table(rows, valued=value is not None)
    for place, name in enumerate(("query", "item")):
        table = table.set_column(place, name, exact_ids(table[name]))
    return _ranked(table, value)


def header_of(data: bytes, path: Path, delimiter: str) -> list[str]:
    """The names in the first line of a delimited file."""
    end = data.find(b"\n")
    line = decode(data[: end if end >= 0 else len(data)], path).rstrip("\r")
    return next(csv.reader([line], delimiter=delimiter), [])


def exact_ids(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """int64 where that loses nothing (no leading zero, no sign, no blank in any id), else the strings
    themselves.
    """
    try:
        numbers = pc.cast(column, pa.int64())
    except pa.ArrowInvalid:
        return column
    return numbers if pc.all(pc.equal(pc.cast(numbers, pa.string()), column)).as_py() is not False else column


def csv_rows(data: bytes, path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """(line number, fields) of every row, the header included; rows of another length than the header are
    refused.
    """
    reader = csv.reader(io.StringIO(decode(data, path), newline=""), delimiter=delimiter, strict=True)
    width = None
    while True:
        start = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise malformed(path, start, "well-formed CSV", str(error)) from None
        if not fields:
            continue
        width = width or len(fields)
        if len(fields) != width:
            raise malformed(
                path,
                start,
                f"{width} fields as in the header",
                f"{len(fields)}: {shown(delimiter.join(fields))}",
            )
        yield start, fields


def _delimited_lines(
    data: bytes, path: Path, kind: Kind, delimiter: str, places: Sequence[int | None]
) -> Iterator[tuple[str, str, float]]:
    query_at, item_at, value_at = places
    assert query_at is not None
    assert item_at is not None
    rows = csv_rows(data, path, delimiter)
    next(rows, None)
    for number, fields in rows:
        for role, place in (("query", query_at), ("item", item_at)):
            if fields[place] == "":
                raise malformed(path, number, f"the {role} id", f"none: {shown(delimiter.join(fields))}")
        value = 0.0 if value_at is None else _real(fields[value_at], kind, path, number)
        yield fields[query_at], fields[item_at], value


# -- JSONL and JSON ------------------------------------------------------------------------------------------


def jsonl(path: Path, kind: Kind, chosen: dict[str, str | None]) -> pa.Table:
    """One object a line, with the columns of a frame; ids are strings or integers, the same in every line."""
    data = read_text(path)
    first = _json_object(first_line(data), path, 1 + data[: max(data.find(b"{"), 0)].count(b"\n"))
    query, item, value = roles(path, list(first), kind, chosen)
    types = [(c, pa.int64() if isinstance(first[c], int) else pa.string()) for c in (query, item)]
    renamed = ["query", "item"]
    if value:
        types.append((value, pa.float64()))
        renamed.append("value")
    table = None
    try:
        table = pyarrow.json.read_json(
            pa.BufferReader(data),
            parse_options=pyarrow.json.ParseOptions(pa.schema(types), unexpected_field_behavior="ignore"),
        ).select([name for name, _ in types])
        table = table.rename_columns(renamed)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, KeyError):
        pass  # the slow reader below decides, and names the line that is wrong
    if table is None or not _clean(table):
        table = _table(_json_lines(data, path, kind, (query, item, value)), valued=value is not None)
    return _ranked(table, value)


def _json_object(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise malformed(path, number, "a JSON object", f"{shown(line)} ({reason})") from None
    if not isinstance(value, dict):
        raise malformed(path, number, "a JSON object", shown(line))
    return value


def _json_lines(
    data: bytes, path: Path, kind: Kind, columns: tuple[str, str, str | None]
) -> Iterator[tuple[Any, Any, float]]:
    wanted: dict[str, type] = {}
    for number, line in enumerate(decode(data, path).split("\n"), 1):
        if not line.strip():
            continue
        row = _json_object(line, path, number)
        for role, column in zip(("query", "item"), columns):
            got = row.get(column)  # type: ignore[arg-type]
            if isinstance(got, bool) or not isinstance(got, (int, str)) or got == "":
                raise malformed(
                    path, number, f"the {role} id (a string or an integer) in {column!r}", repr(got)
                )
            if type(got) is not wanted.setdefault(role, type(got)):
                raise malformed(
                    path,
                    number,
                    f"the {role} id of the same type as before ({wanted[role].__name__})",
                    repr(got),
                )
            if isinstance(got, int) and not -(2**63) <= got < 2**63:
                raise malformed(path, number, f"the {role} id that fits 64 bits", str(got))
        value = 0.0
        if columns[2] is not None:
            given = row.get(columns[2])
            if isinstance(given, bool) or not isinstance(given, (int, float)) or given != given:
                raise malformed(path, number, f"a number in {columns[2]!r}", repr(given))
            value = _finite_gain(float(given), kind, path, number)
        yield row[columns[0]], row[columns[1]], value


def nested(path: Path, kind: Kind) -> pa.Table:
    """``{query: {item: value}}``, the dictionary that pytrec_eval and ranx read and write."""
    text = decode(read_text(path), path)
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        line = error.lineno if isinstance(error, json.JSONDecodeError) else None
        raise malformed(path, line, "JSON", getattr(error, "msg", str(error))) from None

    def rows() -> Iterator[tuple[str, str, float]]:
        for query, items in data.items():
            if not isinstance(items, dict):
                raise malformed(
                    path, None, f"an object {{item: {kind.value}}} for query {query!r}", shown(str(items))
                )
            for item, value in items.items():
                if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
                    raise malformed(
                        path, None, f"a number for query {query!r}, item {item!r}", shown(str(value))
                    )
                yield query, item, _finite_gain(float(value), kind, path, None)

    if not isinstance(data, dict):
        raise malformed(path, None, f"an object {{query: {{item: {kind.value}}}}}", shown(text))
    return _table(rows())


# -- shared --------------------------------------------------------------------------------------------------


def _real(text: str, kind: Kind, path: Path, line: int) -> float:
    if not _NUMBER.fullmatch(text) or (value := float(text)) != value:
        raise malformed(path, line, f"a number as {kind.value}", shown(text))
    return _finite_gain(value, kind, path, line)


def _finite_gain(value: float, kind: Kind, path: Path, line: int | None) -> float:
    if kind is TRUTH and abs(value) == np.inf:
        raise malformed(path, line, "a finite gain", str(value))
    return value


def _clean(table: pa.Table) -> bool:
    """No null, no NaN, no blank id: nothing that the line-by-line parser would have to name."""
    for name in ("query", "item"):
        column = table[name]
        if column.null_count or (pa.types.is_string(column.type) and pc.any(pc.equal(column, "")).as_py()):
            return False
    if "value" not in table.column_names:
        return True
    value = table["value"]
    return not value.null_count and bool(pc.all(pc.is_finite(value)).as_py() is not False)


def _table(rows: Iterator[tuple[Any, Any, float]], valued: bool = True) -> pa.Table:
    triples = list(rows)
    columns = {
        name: pa.chunked_array([pa.array([t[i] for t in triples], None if triples else pa.string())])
        for i, name in enumerate(("query", "item"))
    }
    if valued:
        columns["value"] = pa.chunked_array([pa.array([t[2] for t in triples], pa.float64())])
    return pa.table(columns)


def _ranked(table: pa.Table, value: str | None) -> pa.Table:
    """Turn a ``rank`` column into scores: rank 1 is the best."""
    if value is not None and value.lower() == "rank":
        return table.set_column(2, "value", pc.negate(table["value"]))
    return table
