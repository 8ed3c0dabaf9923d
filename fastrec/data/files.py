"""Read runs, judgements, matrices, labels and frames from files.

Formats: TREC run and qrels, Parquet, Feather, CSV, TSV, JSONL, JSON, ``.npy``, ``.npz``; the text ones also
with ``.gz``.  The suffix decides, and the content where the suffix says nothing (``.txt``, ``.trec``,
``.run``, ``.qrels``, none).  Ids are never altered: TREC ids are strings ("007" stays "007"), "NA" and
"null" are ids like any other, and an id column of a CSV becomes int64 only where every id in it is written as
a plain integer.

A file that cannot be read raises one ``ValueError`` with the file, the line where there is one, what was
expected and what was got; a file that is not there raises ``FileNotFoundError``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrec._core import columns as names
from fastrec.data import formats
from fastrec.data.formats import decode, malformed, open_path, refusing

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from scipy.sparse import csr_matrix

    from fastrec.data.pairs import Kind

PathLike = str | os.PathLike[str]


def read_run(
    path: PathLike, *, query: str | None = None, item: str | None = None, score: str | None = None
) -> pd.DataFrame:
    """Read a run: what a system returned for each query.

    Parameters
    ----------
    path : path
        TREC (``query Q0 item rank score tag``; the score orders, the rank is ignored, as in trec_eval); CSV,
        TSV, JSONL, Parquet or Feather with columns ``query, item`` and ``score`` (or ``rank``, 1 the best, or
        neither: the rows' order is the ranking); JSON ``{query: {item: score}}``; ``.npz`` as ``fastrec
        topk`` writes it (``ids`` and perhaps ``scores`` and ``queries``); ``.npy`` with a (Q, k) matrix of
        ids, -1 where there is none.
    query, item, score : str, optional
        Names of the columns, where they are neither these nor one common alias (``user_id``, ``doc_id``,
        ...).

    Returns
    -------
    pandas.DataFrame
        ``query``, ``item`` (int64 or strings, as in the file) and ``score`` (float64), in the file's order.

    Raises
    ------
    ValueError
        A malformed line, a missing column, a missing id, a score that is no number or NaN.
    """
    from fastrec.data.pairs import RUN

    return _pairs(path, RUN, {"query": query, "item": item, "score": score})


def read_truth(
    path: PathLike, *, query: str | None = None, item: str | None = None, gain: str | None = None
) -> pd.DataFrame:
    """Read judgements: which items are right for each query, and how right.

    As :func:`read_run`, with ``gain`` in place of ``score``: TREC qrels (``query 0 item gain``), tables with
    columns ``query, item[, gain]`` (without a gain column every pair has gain 1), nested JSON, and a SciPy
    CSR matrix in ``.npz`` (row: query, column: item, value: gain).  Gains may be fractions and negative, not
    infinite.

    Returns
    -------
    pandas.DataFrame
        ``query``, ``item`` (int64 or strings, as in the file) and ``gain`` (float64), in the file's order.
    """
    from fastrec.data.pairs import TRUTH

    return _pairs(path, TRUTH, {"query": query, "item": item, "gain": gain})


def read_subtopics(path: PathLike) -> Any:
    """Read judgements by subtopic: the second field of TREC's lines, or a table's column ``subtopic``.

    Returns
    -------
    pandas.DataFrame
        ``query``, ``subtopic``, ``item``, ``gain``; or the dict that a JSON file holds.
    """
    file = open_path(path)
    found = formats.format_of(file)
    if found == "json":
        import json

        read = json.loads(decode(formats.read_text(file), file))
        if not isinstance(read, dict):
            raise malformed(file, None, "an object {query: {subtopic: {item: gain}}}", type(read).__name__)
        return read
    frame = read_truth(file)  # names what is wrong with a line
    if found == "trec":
        text = decode(formats.read_text(file), file)
        lines = [line.split() for line in text.split("\n") if not line.lstrip(" \t\r").startswith("#")]
        frame.insert(1, "subtopic", [fields[1] for fields in lines if fields])
        return frame
    if found in ("npy", "npz"):
        raise malformed(file, None, "judgements by subtopic (TREC, JSON or a table)", f"a {found} file")
    table = read_frame(file)
    name = names.find(list(map(str, table.columns)), names.SUBTOPIC, str(file))
    if name is None:
        raise malformed(file, None, "a column subtopic", f"columns {', '.join(map(str, table.columns))}")
    frame.insert(1, "subtopic", table[name].to_numpy())
    return frame


def read_frame(path: PathLike) -> pd.DataFrame:
    """Read a table (Parquet, Feather, CSV, TSV, JSONL) as a pandas frame.

    A column of a CSV or TSV is int64 where every field is written as a plain integer, else float64 where
    every field is a number or blank (NaN), else strings exactly as written.
    """
    file = open_path(path)
    with refusing(file, "a table"):
        return _to_frame(_table(file))


def read_matrix(path: PathLike, key: str | None = None) -> np.ndarray:
    """Read a matrix of numbers, such as embeddings.

    Parameters
    ----------
    path : path
        ``.npy`` (memory-mapped: nothing is read until it is used, and the array is read-only), ``.npz``, or a
        Parquet, Feather, CSV, TSV or JSONL table: either its one column of equally long lists, or all its
        columns, which must be numbers.  A missing number is NaN.
    key : str, optional
        The array in an ``.npz`` that holds several, or the list column of a table.

    Returns
    -------
    (n, d) array
        In the file's own dtype (tables: float32 where every column is float16 or float32, else float64).
    """
    file = open_path(path)
    array = _array(file, key)
    if array is None:
        array = _table_matrix(_table(file), file, key)
    if array.dtype.kind not in "fiub":
        raise malformed(file, None, "a matrix of numbers", f"dtype {array.dtype}")
    if array.ndim != 2:
        raise malformed(file, None, "a matrix of shape (n, d)", f"an array of shape {array.shape}")
    return array


def read_features(path: PathLike, key: str | None = None) -> np.ndarray | csr_matrix:
    """Read features: a dense matrix as :func:`read_matrix`, or the CSR of ``scipy.sparse.save_npz``."""
    file = open_path(path)
    sparse = _sparse(file) if key is None else None
    return read_matrix(file, key) if sparse is None else sparse


def read_labels(path: PathLike, key: str | None = None) -> np.ndarray:
    """Read ids, one per row: int64 where every id is a plain integer, else an object array of strings.

    ``.npy`` or ``.npz`` with a 1-D array; a table with one column, or the column ``key``; or text, one id a
    line.
    """
    file = open_path(path)
    array = _vector(file, key)
    if array.dtype.kind in "iu":
        return array.astype(np.int64)
    if array.dtype.kind not in "OU":
        raise malformed(file, None, "ids (integers or strings)", f"dtype {array.dtype}")
    for row, label in enumerate(array.tolist(), 1):
        if not isinstance(label, (str, int)) or isinstance(label, bool) or label == "":
            raise malformed(
                file, None, "an id (an integer or a string) in every row", f"{label!r} in row {row}"
            )
    return array.astype(object)


def read_vector(path: PathLike, key: str | None = None) -> np.ndarray:
    """Read numbers, one per row, as float64: targets, weights, scores.  The formats are those of
    :func:`read_labels`.
    """
    file = open_path(path)
    array = _vector(file, key)
    if array.dtype.kind in "fiub":
        return array.astype(np.float64)
    for row, value in enumerate(array.tolist(), 1):
        try:
            float(value)
        except (TypeError, ValueError):
            raise malformed(file, None, "a number in every row", f"{value!r} in row {row}") from None
    return array.astype(np.float64)


def read_arrays(path: PathLike) -> dict[str, np.ndarray]:
    """Read all arrays of an ``.npz`` by name."""
    return _npz(open_path(path))


# -- pairs ---------------------------------------------------------------------------------------------------


def _pairs(path: PathLike, kind: Kind, chosen: dict[str, str | None]) -> pd.DataFrame:
    from fastrec.data import pairs

    file = open_path(path)
    found = formats.format_of(file)
    if found == "trec":
        table = pairs.trec(file, kind)
    elif found in ("csv", "tsv"):
        table = pairs.delimited(file, kind, "," if found == "csv" else "\t", chosen)
    elif found == "jsonl":
        table = pairs.jsonl(file, kind, chosen)
    elif found == "json":
        table = pairs.nested(file, kind)
    elif found in ("npy", "npz"):
        return _array_pairs(file, kind)
    else:
        table = _column_pairs(file, kind, chosen)
    frame = _to_frame(table)
    if "value" not in frame:
        frame["value"] = -np.arange(1.0, len(frame) + 1) if kind.name == "run" else 1.0
    return frame.rename(columns={"value": kind.value})


def _column_pairs(file: Path, kind: Kind, chosen: dict[str, str | None]) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    from fastrec.data import pairs

    whole = _table(file, lambda names: [c for c in pairs.roles(file, names, kind, chosen) if c])
    query, item, value = pairs.roles(file, whole.column_names, kind, chosen)
    columns = {}
    for role, name in (("query", query), ("item", item)):
        column = _plain(whole[name])
        if pa.types.is_integer(column.type):
            target = pa.int64()
        elif pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            target = column.type
        else:
            raise malformed(
                file, None, f"integers or strings as {role} ids in {name!r}", f"type {column.type}"
            )
        columns[role] = _cast(column, target, file, name)
    if value is not None:
        column = _plain(whole[value])
        if not (
            pa.types.is_integer(column.type)
            or pa.types.is_floating(column.type)
            or pa.types.is_boolean(column.type)
        ):
            raise malformed(file, None, f"numbers as {kind.value} in {value!r}", f"type {column.type}")
        columns["value"] = _cast(column, pa.float64(), file, value)
    for name, column in columns.items():
        bad = pc.is_null(column, nan_is_null=True)
        if pc.any(bad).as_py():
            row = pc.index(bad, True).as_py() + 1
            written = {"query": query, "item": item, "value": value}[name]
            raise malformed(file, None, f"a value in every row of {written!r}", f"none (or NaN) in row {row}")
    if kind.name == "truth" and value is not None and pc.any(pc.is_inf(columns["value"])).as_py():
        raise malformed(file, None, "finite gains", "an infinite one")
    return pairs._ranked(pa.table(columns), value)


def _array_pairs(file: Path, kind: Kind) -> pd.DataFrame:
    """The pairs in a CSR matrix, or in (Q, k) arrays of ids and scores."""
    import pandas as pd

    sparse = _sparse(file)
    if sparse is not None:
        query = np.repeat(np.arange(sparse.shape[0]), np.diff(sparse.indptr))
        return pd.DataFrame(
            {
                "query": query,
                "item": sparse.indices.astype(np.int64),
                kind.value: sparse.data.astype(np.float64),
            }
        )
    arrays = _npz(file) if formats.format_of(file) == "npz" else {"ids": _npy(file)}
    ids = arrays.get("ids")
    if ids is None or ids.ndim != 2 or ids.dtype.kind not in "iuUO":
        got = ", ".join(f"{name} {array.shape} {array.dtype}" for name, array in arrays.items())
        raise malformed(file, None, "a (Q, k) array `ids` of integers or strings, or a SciPy CSR matrix", got)
    count, width = ids.shape
    values = arrays.get(kind.value + "s", arrays.get("scores"))
    labels = arrays.get("queries", np.arange(count))
    if values is None:
        values = np.broadcast_to(
            -np.arange(1.0, width + 1) if kind.name == "run" else np.ones(width), ids.shape
        )
    if values.shape != ids.shape or values.dtype.kind not in "fiub":
        raise malformed(
            file, None, f"numbers of shape {ids.shape} beside `ids`", f"{values.shape} {values.dtype}"
        )
    if labels.shape != (count,) or labels.dtype.kind not in "iuUO":
        raise malformed(file, None, f"`queries` of shape ({count},)", f"{labels.shape} {labels.dtype}")
    present = (ids != "") if ids.dtype.kind in "UO" else (ids >= 0)
    row, place = np.nonzero(present)
    picked = values[row, place].astype(np.float64)
    if np.isnan(picked).any():
        at = int(np.flatnonzero(np.isnan(picked))[0])
        raise malformed(
            file, None, f"a number as {kind.value}", f"NaN in row {row[at] + 1}, column {place[at] + 1}"
        )
    return pd.DataFrame({"query": labels[row], "item": ids[row, place], kind.value: picked})


# -- tables --------------------------------------------------------------------------------------------------


def _table(file: Path, wanted: Any = None) -> pa.Table:
    """The columns that ``wanted(names)`` picks of a table in any format, all of them without it."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.feather
    import pyarrow.json
    import pyarrow.parquet

    from fastrec.data import pairs

    found = formats.format_of(file)
    if found in ("parquet", "feather"):
        with refusing(
            file, "a whole Parquet file" if found == "parquet" else "a whole Feather (Arrow IPC) file"
        ):
            if found == "parquet":
                with pyarrow.parquet.ParquetFile(file) as parquet:
                    names = parquet.schema_arrow.names
                    pairs.distinct(file, names)
                    table = parquet.read(columns=wanted(names) if wanted else None)
            else:
                names = pa.ipc.open_file(str(file)).schema.names
                pairs.distinct(file, names)
                table = pyarrow.feather.read_table(file, columns=wanted(names) if wanted else None)
            table.validate(full=True)  # text is UTF-8, offsets are inside: Arrow trusts both from here on
            return table.replace_schema_metadata()
    if found in ("csv", "tsv"):
        delimiter = "," if found == "csv" else "\t"
        data = formats.read_text(file)
        names = pairs.header_of(data, file, delimiter)
        pairs.distinct(file, names)
        try:
            table = pyarrow.csv.read_csv(
                pa.BufferReader(data),
                parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=b'"' in data),
                convert_options=pyarrow.csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.string()), null_values=[], strings_can_be_null=False
                ),
            )
        except pa.ArrowInvalid:
            rows = [fields for _, fields in pairs.csv_rows(data, file, delimiter)]
            columns = [
                pa.chunked_array([pa.array([r[i] for r in rows[1:]], pa.string())]) for i in range(len(names))
            ]
            table = pa.Table.from_arrays(columns, names)
        return pa.Table.from_arrays(
            [_inferred(table.column(i)) for i in range(table.num_columns)], table.column_names
        )
    if found == "jsonl":
        data = formats.read_text(file)
        try:
            table = pyarrow.json.read_json(pa.BufferReader(data))
            table.validate(full=True)
            return table.select(table.column_names)
        except (ValueError, pa.ArrowException) as error:
            for number, line in enumerate(decode(data, file).split("\n"), 1):
                if line.strip():
                    pairs._json_object(line, file, number)
            raise malformed(file, None, "one kind of object a line", str(error).splitlines()[0]) from None
    raise malformed(file, None, "a table (Parquet, Feather, CSV, TSV or JSONL)", f"a {found} file")


def _inferred(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Strings of a CSV as int64 where that is exact, else float64 where all are numbers or blank, else as
    they are.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from fastrec.data.pairs import exact_ids

    column = exact_ids(column)
    if not pa.types.is_string(column.type) or not len(column):
        return column
    text = pc.if_else(pc.equal(column, ""), None, column)
    # "007" is an id, not the number 7
    if text.null_count == len(text) or pc.any(pc.match_substring_regex(text, r"^[+-]?0[0-9]")).as_py():
        return column
    try:
        return pc.cast(text, pa.float64())
    except pa.ArrowInvalid:
        return column


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.cast(pa.string()) if str(column.type) == "string_view" else column


def _cast(column: pa.ChunkedArray, target: Any, file: Path, name: str) -> pa.ChunkedArray:
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        return pc.cast(column, target, safe=not pa.types.is_floating(target))
    except pa.ArrowInvalid as error:
        raise malformed(
            file, None, f"values of {name!r} that fit {target}", str(error).splitlines()[0]
        ) from None


def _to_frame(table: pa.Table) -> pd.DataFrame:
    return table.to_pandas(ignore_metadata=True)


def _table_matrix(table: pa.Table, file: Path, key: str | None) -> np.ndarray:
    import pyarrow as pa
    import pyarrow.compute as pc

    def is_list(kind: Any) -> bool:
        return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)

    lists = [name for name in table.column_names if is_list(table[name].type)]
    if key is not None and key not in lists:
        raise malformed(file, None, f"a list column {key!r}", f"list columns {lists}")
    if key is not None or lists:
        if key is None and len(lists) > 1:
            raise malformed(file, None, "one list column, or `key` to choose one", f"list columns {lists}")
        name = key or lists[0]
        column = table[name].combine_chunks()
        lengths = pc.unique(pc.list_value_length(column)).to_pylist()
        if len(lengths) > 1 or lengths == [None]:
            raise malformed(file, None, f"lists of one length in {name!r}", f"lengths {lengths[:5]}")
        return (
            pc.list_flatten(column)
            .to_numpy(zero_copy_only=False)
            .reshape(len(column), lengths[0] if lengths else 0)
        )
    for name in table.column_names:
        kind = table[name].type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
            raise malformed(file, None, "columns of numbers only", f"{name!r} of type {kind}")
    small = all(str(table[name].type) in ("halffloat", "float") for name in table.column_names)
    matrix = np.empty((table.num_rows, table.num_columns), np.float32 if small else np.float64)
    for place, name in enumerate(table.column_names):
        matrix[:, place] = table[name].to_numpy()
    return matrix


# -- arrays --------------------------------------------------------------------------------------------------


def _npy(file: Path) -> np.ndarray:
    with refusing(file, "a .npy array of numbers or text"):
        return np.lib.format.open_memmap(file, mode="r")


def _npz(file: Path, key: str | None = None) -> dict[str, np.ndarray]:
    """All arrays of an ``.npz``, or only ``key``."""
    with (
        refusing(file, "a .npz archive of numbers or text"),
        file.open("rb") as stream,
        np.load(stream, allow_pickle=False) as arrays,
    ):
        names = list(arrays.files)
        if key is not None and key not in names:
            raise malformed(
                file, None, f"an array {key!r}", f"arrays {', '.join(map(repr, names)) or 'none'}"
            )
        return {name: arrays[name] for name in (names if key is None else [key])}


def _array(file: Path, key: str | None) -> np.ndarray | None:
    """The array in a ``.npy`` or ``.npz``; ``None`` for other formats."""
    found = formats.format_of(file)
    if found == "npy":
        return _npy(file)
    if found != "npz":
        return None
    arrays = _npz(file, key)
    if len(arrays) == 1:
        return next(iter(arrays.values()))
    if {"indptr", "indices", "format", "shape"} <= set(arrays):
        raise malformed(file, None, "a dense array", "a SciPy sparse matrix")
    names = ", ".join(map(repr, arrays)) or "none"
    raise malformed(file, None, "one array, or `key` to choose one", f"arrays {names}")


def _sparse(file: Path) -> csr_matrix | None:
    """The CSR matrix that ``scipy.sparse.save_npz`` wrote, ``None`` where the file holds something else."""
    if formats.format_of(file) != "npz":
        return None
    arrays = _npz(file)
    if "format" not in arrays or "shape" not in arrays:
        return None
    from scipy import sparse

    with refusing(file, "a SciPy sparse matrix"):
        matrix = sparse.csr_matrix(sparse.load_npz(file))
        matrix.check_format(full_check=True)
        return matrix


def _vector(file: Path, key: str | None) -> np.ndarray:
    found = formats.format_of(file)
    array = _array(file, key)
    if array is None and found in ("trec", "json"):
        import pyarrow as pa

        from fastrec.data.pairs import exact_ids

        lines = decode(formats.read_text(file), file).splitlines()
        for number, line in enumerate(lines, 1):
            if not line.strip():
                raise malformed(file, number, "one value a line", "a blank line")
        array = exact_ids(
            pa.chunked_array([pa.array([line.strip() for line in lines], pa.string())])
        ).to_numpy()
    elif array is None:
        table = _table(file)
        if key is None and table.num_columns != 1:
            raise malformed(file, None, "one column, or `key` to choose one", f"columns {table.column_names}")
        if key is not None and key not in table.column_names:
            raise malformed(file, None, f"a column {key!r}", f"columns {table.column_names}")
        array = _plain(table[key if key is not None else table.column_names[0]]).to_numpy()
    if array.ndim != 1:
        raise malformed(file, None, "one value per row, shape (n,)", f"an array of shape {array.shape}")
    return array
