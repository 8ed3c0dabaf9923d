"""Index files that say what no index says, under checksums that are right."""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any

import numpy as np

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
