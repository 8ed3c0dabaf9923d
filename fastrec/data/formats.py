"""Which format a file is in, and its bytes: by suffix where the suffix says it, by content where it does not.

Everything a reader needs to refuse a file well lives here too: :func:`malformed` builds the one-line message
that every reader raises (file, line, what was expected, what was got).
"""

from __future__ import annotations

import gzip
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Any other suffix (.txt, .trec, .run, .qrels, none) promises nothing: the content decides.
SUFFIXES = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".feather": "feather",
    ".arrow": "feather",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".npy": "npy",
    ".npz": "npz",
}
MAGIC = {b"PAR1": "parquet", b"ARROW1": "feather", b"\x93NUMPY": "npy", b"PK\x03\x04": "npz"}
BINARY = ("parquet", "feather", "npy", "npz")
BOM = b"\xef\xbb\xbf"
_SHOWN = 80  # characters of a bad line that a message shows


class FileError(ValueError):
    """A file that does not hold what it must."""


def malformed(path: os.PathLike[str] | str, line: int | None, expected: str, got: str) -> FileError:
    """The error for a bad file: ``run.trec, line 3: expected 6 fields ...; got 5: '...'``."""
    where = f"{path}, line {line}" if line is not None else str(path)
    return FileError(f"{where}: expected {expected}; got {got}")


@contextmanager
def refusing(path: os.PathLike[str] | str, expected: str) -> Iterator[None]:
    """Turn whatever a library raises for bytes it did not write, which may be anything, into :func:`malformed`."""
    try:
        yield
    except (FileError, FileNotFoundError, PermissionError):
        raise
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(". ")
        raise malformed(path, None, expected, reason) from None


def shown(text: str) -> str:
    """A piece of a file as a message shows it: quoted, on one line, cut when long."""
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")


def open_path(path: os.PathLike[str] | str) -> Path:
    """The path of a file that is there, is a file and is not empty; a clear error otherwise."""
    file = Path(path)
    if file.is_dir():
        raise IsADirectoryError(f"{file}: expected a file; it is a folder")
    if not file.exists():
        raise FileNotFoundError(f"{file}: no such file")
    if file.is_file() and file.stat().st_size == 0:
        raise FileError(f"{file}: the file is empty")
    return file


def compressed(path: Path) -> bool:
    """Whether the name ends in ``.gz``."""
    return path.suffix.lower() == ".gz"


def read_bytes(path: Path) -> bytes:
    """The whole file, decompressed where it is gzip (by name or by its first two bytes)."""
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b" or compressed(path):
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise malformed(path, None, "a complete gzip file", str(error).lower()) from None
        if not data:
            raise FileError(f"{path}: the file is empty")
    return data


def read_text(path: Path) -> bytes:
    """The bytes of a text file without its byte-order mark; binary content is refused."""
    data = read_bytes(path).removeprefix(BOM)
    if b"\r" in data and b"\n" not in data:
        data = data.replace(b"\r", b"\n")  # as the first Macintosh ended its lines
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise malformed(path, None, "UTF-8 text", "UTF-16 text; convert it with `iconv -f UTF-16 -t UTF-8`")
    if b"\0" in data[:65536]:
        raise malformed(path, None, "text", "binary data")
    if not data.strip():
        raise FileError(f"{path}: the file holds only blank lines")
    return data


def decode(data: bytes, path: Path) -> str:
    """The text of ``data``; bytes that are not UTF-8 are refused with their line."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise malformed(path, line, "UTF-8 text", f"the byte 0x{data[error.start]:02x}") from None


def format_by_suffix(path: Path) -> str | None:
    """The format the suffix promises (before any ``.gz``), ``None`` where the content must decide."""
    name = path.with_suffix("") if compressed(path) else path
    return SUFFIXES.get(name.suffix.lower())


def first_line(data: bytes) -> str:
    """The first line that is neither blank nor a ``#`` comment, without its end."""
    for match in re.finditer(rb"[^\r\n]+", data[: 1 << 20]):
        line = match.group().decode("utf-8", "replace")
        if line.strip() and not line.lstrip().startswith("#"):
            return line
    return ""


def format_of(path: Path) -> str:
    """One of parquet, feather, csv, tsv, jsonl, json, npy, npz, trec."""
    found = format_by_suffix(path)
    if found is not None:
        return found
    with path.open("rb") as file:
        head = file.read(8)
    for magic, name in MAGIC.items():
        if head.startswith(magic):
            return name
    line = first_line(read_text(path))
    if re.match(r'\s*\{\s*("|\}|$)', line):
        nested = re.match(r'\s*\{\s*"[^"]*"\s*:\s*\{', line)
        return "jsonl" if line.rstrip().endswith("}") and not nested else "json"
    if "," in line and len(line.split()) < 4:
        return "csv"
    # Every TREC line has a number in it, a header has none.
    if "\t" in line and not re.search(r"(^|\s)[-+]?[\d.]+(\s|$)", line):
        return "tsv"
    return "trec"
