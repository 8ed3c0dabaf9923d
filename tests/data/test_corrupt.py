"""Whatever bytes a file holds, a reader returns what it promises or raises one ``ValueError`` that names the file."""

from __future__ import annotations

import gzip
import io
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from fastrec.data import (
    read_features,
    read_frame,
    read_labels,
    read_matrix,
    read_run,
    read_truth,
    read_vector,
)

FRAME = pd.DataFrame({"query": ["a", "b", "b"], "item": ["x", "y", "z"], "score": [1.5, -2.0, 0.0]})
READERS = (read_run, read_truth, read_frame, read_matrix, read_features, read_labels, read_vector)
ROUNDS = int(os.environ.get("FASTREC_TEST_ROUNDS", "25"))


def binary(write, *arguments) -> bytes:
    buffer = io.BytesIO()
    write(buffer, *arguments)
    return buffer.getvalue()


CONTENTS = {
    "csv": FRAME.to_csv(index=False).encode(),
    "tsv": FRAME.to_csv(index=False, sep="\t").encode(),
    "jsonl": FRAME.to_json(orient="records", lines=True).encode(),
    "json": b'{"a": {"x": 1.5}, "b": {"y": -2.0, "z": 0}}',
    "trec": b"a Q0 x 1 1.5 t\nb Q0 y 1 -2 t\nb Q0 z 2 0 t\n",
    "txt": b"a 0 x 1\nb 0 y 0\n",
    "parquet": FRAME.to_parquet(),
    "feather": binary(lambda file: FRAME.to_feather(file)),
    "npy": binary(np.save, np.arange(6).reshape(3, 2)),
    "npz": binary(lambda file: np.savez(file, ids=np.arange(6).reshape(3, 2))),
    "csr.npz": binary(sparse.save_npz, sparse.eye(3, format="csr")),
}
CONTENTS |= {f"{name}.gz": gzip.compress(CONTENTS[name]) for name in ("csv", "trec", "jsonl")}


def mutations(content: bytes, rng: np.random.Generator):
    yield from (
        b"",
        b"\n",
        b"\0",
        b"\xff\xfe",
        b"PAR1",
        b"PK\x03\x04",
        b"\x1f\x8b",
        b"{",
        b'"',
        b"[[[[",
        content[:-1],
    )
    for _ in range(ROUNDS):
        data = bytearray(content)
        for _ in range(rng.integers(1, 4)):
            at = int(rng.integers(len(data)))
            what = rng.integers(4)
            if what == 0:
                data[at] = rng.integers(256)
            elif what == 1:
                del data[at : at + int(rng.integers(1, 9))]
            elif what == 2:
                data[at:at] = rng.choice(np.frombuffer(b'\n\t ,"{}[]-.e0\0\xff', np.uint8), 3).tobytes()
            else:
                data[at:] = data[: len(data) - at]
            data = data or bytearray(b"x")
        yield bytes(data)


@pytest.mark.parametrize("name", CONTENTS)
def test_broken_bytes_are_refused_in_one_line(tmp_path: Path, name: str) -> None:
    rng = np.random.default_rng(11)
    file = tmp_path / f"file.{name}"
    for content in mutations(CONTENTS[name], rng):
        file.write_bytes(content)
        for read in READERS:
            try:
                read(file)
            except ValueError as error:
                assert str(error).startswith(f"{file}"), (read.__name__, content, error)  # noqa: PT017
                assert "\n" not in str(error), (read.__name__, content)  # noqa: PT017
            except Exception as error:
                raise AssertionError(f"{read.__name__} on {content!r}") from error
