"""Index files that say what no index says, under checksums that are right."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastrec as fr

PREFIX = struct.Struct("<8sIIQQ")


def forged(good: bytes, change: Any) -> bytes:
    """The file with its header, and arrays, changed under valid checksums."""
    magic, version, _, size, _ = PREFIX.unpack_from(good)
    header = json.loads(good[PREFIX.size : PREFIX.size + size])
    base = PREFIX.size + size
    arrays = {}
    for name, entry in header["arrays"].items():
        start = int(entry["offset"])
        arrays[name] = np.frombuffer(good, entry["dtype"], int(np.prod(entry["shape"])), start).copy()
    change(header, arrays)
    body = b""
    for name, array in arrays.items():
        padded = array.tobytes() + bytes(-array.nbytes % 64)
        entry = header["arrays"].setdefault(name, {"shape": list(array.shape), "dtype": array.dtype.str})
        entry |= {"offset": f"{base + len(body):020d}", "crc32": f"{zlib.crc32(padded):010d}"}
        body += padded
    text = json.dumps(header, separators=(",", ":")).encode().ljust(size)
    assert len(text) == size
    return PREFIX.pack(magic, version, zlib.crc32(text), size, base + len(body)) + text + body


def assert_refused_or_harmless(path: Path, good: bytes, change: Any, message: str | None) -> None:
    """A changed file is refused with ``message``, or, where that is None, can be searched without a crash."""
    path.write_bytes(forged(good, change))
    if message is None:
        index = fr.Index.load(path)
        index.topk(np.ones((30, index.shape[1])), 4)
    else:
        with pytest.raises(ValueError, match=message) as caught:
            fr.Index.load(path)
        assert f"{path.name} is not a valid fastrec index" in str(caught.value)
