"""Index files: one file, mapped or read, in which every byte is under a checksum.

Layout (little-endian)::

    offset 0    magic        8 bytes   b"\\x89FRINDEX"
           8    version      uint32
          12    checksum     uint32    CRC-32 of the header
          16    header size  uint64    in bytes, padded with spaces so that the arrays start at a multiple of 64
          24    file size    uint64
          32    header       JSON: metric, precision, exponent, panel layout, stages of turned items, and for each
                             array its dtype, shape, offset and CRC-32
           .    arrays       each at a multiple of 64, zeros between; a CRC-32 covers an array and the zeros after it

Items are written in their own type (bfloat16 as its bits), so a loaded index gives the same bits.  String labels are
UTF-8 with offsets.  Nothing in a file is ever executed: no pickle.  Loading checks every checksum, and that rows,
panels and sizes are within what the kernels may follow, so that a damaged file is a ``ValueError`` and not a crash.
"""

from __future__ import annotations

import json
import math
import mmap as _mmap
import os
import struct
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, TypeVar

import numpy as np

from fastrec._core import arrays as _arrays
from fastrec._core.files import replacing
from fastrec.ranking.canonical import METRICS

MAGIC = b"\x89FRINDEX"
VERSION = 4  # of the layout, and of what packed arrays mean: raise it with every change of the panels or their records
_PREFIX = struct.Struct("<8sIIQQ")
_ALIGN = 64
_CHUNK = 1 << 22  # bytes copied or checked at a time
_PADDING = 0xFFFFFFFF  # in `order`
_ITEM_DTYPES = {"float32": "<f4", "float16": "<f2", "bfloat16": "<u2"}

T = TypeVar("T")


# ---- writing ---------------------------------------------------------------------------------------------------------


def save(index: Any, path: str | os.PathLike[str]) -> None:
    """Write ``index`` to ``path``; an interrupted write leaves what was there before."""
    from fastrec.ranking.index import META, PANEL

    if index._device != _arrays.CPU:
        raise TypeError(
            f"an index on {index._device} cannot be saved; bring it to the host first: `index.to('cpu')`"
        )
    labels, label_arrays = _label_arrays(index._labels)
    sections: dict[str, np.ndarray] = {
        "items": index._items, "order": index._order, "meta": index._meta, "special": index._special,
    }  # fmt: skip
    optional = {
        "codes": index._codes, "beta": index._beta, "rest": index._rest, "bias": index._bias,
        "turn": None if index._turn is None else index._turn.matrix, "means": index._means,
    }  # fmt: skip
    sections |= {name: array for name, array in optional.items() if array is not None}
    sections |= label_arrays
    header: dict[str, Any] = {
        "metric": index.metric,
        "precision": index.precision,
        "exponent": int(index._exponent),
        "panel": PANEL,
        "record": META,
        "stages": None if index._turn is None else list(index._turn.stages),
        "dtype": index._dtype,
        "labels": labels,
        "arrays": {},
    }
    with replacing(path) as temporary, open(temporary, "wb") as file:
        # The header's size does not depend on offsets and checksums, which are written with a fixed width.
        entries = {name: _entry(array) for name, array in sections.items()}
        at = _aligned(_PREFIX.size + len(_encoded(header | {"arrays": entries})))
        header_size = at - _PREFIX.size
        file.seek(at)
        for name, array in sections.items():
            entries[name]["offset"] = f"{at:020d}"
            entries[name]["crc32"] = f"{_write(file, array):010d}"
            at += _aligned(array.nbytes)
        text = _encoded(header | {"arrays": entries}).ljust(header_size)
        file.seek(0)
        file.write(_PREFIX.pack(MAGIC, VERSION, zlib.crc32(text), header_size, at) + text)
        file.flush()
        os.fsync(file.fileno())


def _aligned(size: int) -> int:
    return -(-size // _ALIGN) * _ALIGN


def _encoded(header: dict[str, Any]) -> bytes:
    return json.dumps(header, separators=(",", ":")).encode()


def _entry(array: np.ndarray) -> dict[str, Any]:
    dtype = array.dtype.newbyteorder("<").str
    return {"dtype": dtype, "shape": list(array.shape), "offset": "0" * 20, "crc32": "0" * 10}


def _write(file: BinaryIO, array: np.ndarray) -> int:
    """Append an array, a piece at a time whatever its strides, and zeros up to the next multiple of 64."""
    checksum = 0
    dtype = array.dtype.newbyteorder("<")
    rows = max(1, _CHUNK // max(1, array.nbytes // max(1, len(array))))
    for begin in range(0, len(array), rows):
        piece = np.ascontiguousarray(array[begin : begin + rows], dtype).tobytes()
        checksum = zlib.crc32(piece, checksum)
        file.write(piece)
    zeros = bytes(_aligned(array.nbytes) - array.nbytes)
    file.write(zeros)
    return zlib.crc32(zeros, checksum)


def _label_arrays(labels: np.ndarray | None) -> tuple[dict[str, str] | None, dict[str, np.ndarray]]:
    """What kind of labels there are, and the arrays that hold them."""
    if labels is None:
        return None, {}
    if labels.dtype.kind in "iu":
        return {"kind": "int", "dtype": labels.dtype.newbyteorder("<").str}, {"labels": labels}
    values = labels.tolist()
    if labels.dtype.kind == "O" and values and all(type(value) is int for value in values):
        try:
            return {"kind": "int", "dtype": "object"}, {"labels": np.array(values, np.int64)}
        except OverflowError:
            raise TypeError("`ids` beyond 64 bits cannot be saved") from None
    if labels.dtype.kind == "S":
        texts = values
    elif all(isinstance(value, str) for value in values):
        texts = [value.encode("utf-8", "surrogatepass") for value in values]
    else:
        odd = next(value for value in values if not isinstance(value, str))
        raise TypeError(
            f"`ids` must be all integers or all strings to be saved; got {type(odd).__name__} {odd!r}"
        )
    ends = np.cumsum([0, *map(len, texts)], dtype=np.int64)
    # The width of a fixed-width string type is kept, so that the labels come back as they were.
    dtype = labels.dtype.newbyteorder("<").str if labels.dtype.kind in "US" else "object"
    return {"kind": "str", "dtype": dtype}, {
        "labels": np.frombuffer(b"".join(texts), np.uint8),
        "label_ends": ends,
    }


# ---- reading ---------------------------------------------------------------------------------------------------------


def load(cls: type[T], path: str | os.PathLike[str], *, mmap: bool = True) -> T:
    """Read an index of class ``cls``; ``ValueError`` for anything that :func:`save` did not write."""
    name = os.fspath(path)
    try:
        with open(name, "rb") as file:
            header, base = _read_header(file, name)
            size = file.seek(0, os.SEEK_END)
            content: Any
            if mmap:
                content = _mmap.mmap(file.fileno(), size, access=_mmap.ACCESS_READ)
            else:
                content = np.empty(size, np.uint8)  # aligned enough, and read-only from here on
                file.seek(0)
                if file.readinto(content.data) != size:
                    raise _damaged(name, "it became shorter while it was read")
                content.flags.writeable = False
    except IsADirectoryError:
        raise ValueError(f"{name} is not a fastrec index: it is a folder") from None
    whole = np.frombuffer(content, np.uint8)
    try:
        return _assembled(cls, name, header, dict(_sections(whole, name, header, base)))
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        # The checksum held, so this is not damage: somebody wrote a header of another kind.
        raise _damaged(
            name, f"its header is not that of an index ({type(error).__name__}: {error})"
        ) from error


def _damaged(name: str, why: str) -> ValueError:
    return ValueError(f"{name} is not a valid fastrec index: {why}. Save the index again with `Index.save`.")


def _read_header(file: BinaryIO, name: str) -> tuple[dict[str, Any], int]:
    """The header, verified, and the offset of the first array."""
    prefix = file.read(_PREFIX.size)
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        raise ValueError(f"{name} is not a fastrec index: it is empty")
    if prefix[: len(MAGIC)] != MAGIC[: len(prefix)]:
        raise ValueError(f"{name} is not a fastrec index: it must start with {MAGIC!r}; got {prefix[:8]!r}")
    if len(prefix) < _PREFIX.size:
        raise _damaged(name, f"it is truncated: expected at least {_PREFIX.size} bytes, got {size}")
    _, version, checksum, header_size, file_size = _PREFIX.unpack(prefix)
    if version != VERSION:
        raise ValueError(
            f"{name} has version {version} of the index format; this fastrec reads version {VERSION}. "
            f"Build the index again from its items."
        )
    if file_size != size:
        what = "truncated" if size < file_size else "longer than it should be"
        raise _damaged(name, f"it is {what}: expected {file_size} bytes, got {size}")
    if header_size > size - _PREFIX.size:
        raise _damaged(name, f"its header claims {header_size} bytes of a file of {size}")
    file.seek(_PREFIX.size)
    text = file.read(header_size)
    if zlib.crc32(text) != checksum:
        raise _damaged(name, "the header does not match its checksum")
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _damaged(name, f"its header is not JSON ({error})") from error
    if not isinstance(header, dict):
        raise _damaged(name, f"its header must be an object; got {type(header).__name__}")
    return header, _PREFIX.size + header_size


def _sections(
    whole: np.ndarray, name: str, header: dict[str, Any], base: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Each array as a read-only view of the file, its checksum verified.  Together they must cover the file."""
    at = base
    for key, entry in header["arrays"].items():
        dtype, shape = np.dtype(str(entry["dtype"])), tuple(entry["shape"])
        if dtype.kind not in "fiu" or not all(type(length) is int and length >= 0 for length in shape):
            raise _damaged(name, f"array {key!r} has dtype {dtype} and shape {shape}")
        size = math.prod(shape) * dtype.itemsize
        if entry["offset"] != f"{at:020d}" or at + _aligned(size) > len(whole):
            raise _damaged(name, f"array {key!r} of shape {shape} lies outside the file, or overlaps another")
        section = whole[at : at + _aligned(size)]
        checksum = 0
        for begin in range(0, len(section), _CHUNK):
            checksum = zlib.crc32(section[begin : begin + _CHUNK].data, checksum)
        if entry["crc32"] != f"{checksum:010d}":
            raise _damaged(name, f"array {key!r} does not match its checksum")
        array = section[:size].view(dtype).reshape(shape)
        yield key, array if dtype.isnative else array.astype(dtype.newbyteorder("="))
        at += _aligned(size)
    if at != len(whole):
        raise _damaged(name, f"{len(whole) - at} bytes at its end belong to no array")


def _assembled(cls: type[T], name: str, header: dict[str, Any], found: dict[str, np.ndarray]) -> T:
    """An index over the arrays, once everything that kernels follow without looking is known to be in range."""
    from fastrec.ranking.index import MAX_DIM_INT8, MAX_ITEMS, META, PANEL
    from fastrec.ranking.turn import Turn

    def expect(condition: Any, what: str) -> None:
        if not condition:
            raise _damaged(name, what)

    metric, precision, exponent = header["metric"], header["precision"], header["exponent"]
    layout = (header["panel"], header["record"])
    expect(layout == (PANEL, META), f"panels must be {PANEL} items and {META} numbers; got {layout}")
    expect(metric in METRICS, f"`metric` must be one of {METRICS}; got {metric!r}")
    expect(precision in ("int8", "float32"), f"`precision` must be int8 or float32; got {precision!r}")
    expect(
        type(exponent) is int and abs(exponent) <= 300, f"`exponent` must lie in -300..300; got {exponent!r}"
    )
    expect(
        header["dtype"] in _ITEM_DTYPES, f"items must be one of {list(_ITEM_DTYPES)}; got {header['dtype']!r}"
    )

    def take(key: str, dtype: str, *shape: int) -> np.ndarray:
        expect(key in found, f"array {key!r} is missing")
        array = found.pop(key)
        expect(
            array.dtype == np.dtype(dtype) and (array.shape == shape or (array.ndim == 1 and shape == (-1,))),
            f"array {key!r} must be {dtype} of shape {shape}; got {array.dtype.str} of shape {array.shape}",
        )
        return array

    expect("items" in found and found["items"].ndim == 2, "there is no item matrix")
    n, d = found["items"].shape
    expect(n <= MAX_ITEMS, f"at most {MAX_ITEMS} items are possible; got {n}")
    items = take("items", _ITEM_DTYPES[header["dtype"]], n, d)
    expect(header["dtype"] == "float32" or d <= MAX_DIM_INT8, f"half-precision items of {d} dimensions")
    order = take("order", "<u4", -1)
    panels, rest = divmod(len(order), PANEL)
    ranked = order[order != _PADDING]
    expect(
        rest == 0 and panels == -(-len(ranked) // PANEL), f"{len(order)} positions for {len(ranked)} items"
    )
    expect((order[: len(ranked)] != _PADDING).all(), "padding lies among the items")
    special = take("special", "<u4", -1)
    expect(max(ranked.max(initial=0), special.max(initial=0)) < max(1, n), f"an item row is not below {n}")
    expect(len(ranked) + len(special) <= n, f"{len(ranked)} + {len(special)} rows for {n} items")
    listed = np.zeros(n, bool)
    listed[ranked], listed[special] = True, True
    expect(listed.sum() == len(ranked) + len(special), "an item row appears twice")
    bias = take("bias", "<f4", n) if "bias" in found else None
    terms = bias is not None or metric == "l2"

    self: Any = object.__new__(cls)
    self.metric, self.precision, self._device = metric, precision, _arrays.CPU
    self._items, self._dtype, self._bias, self._card = items, header["dtype"], bias, None
    self._order, self._special, self._exponent = order, special, exponent
    self._meta = take("meta", "<f4", panels + 1, META)
    self._beta = take("beta", "<f4", panels * PANEL) if terms else None
    self._codes = self._rest = self._turn = self._means = None
    if precision == "int8":
        expect(0 < d <= MAX_DIM_INT8, f"int8 needs 1..{MAX_DIM_INT8} dimensions; got {d}")
        self._codes = take("codes", "|u1", panels * PANEL * 4 * -(-d // 4))
    if header["stages"] is not None:
        stages = tuple(header["stages"])
        whole = len(stages) == 2 and all(type(stage) is int for stage in stages)
        expect(
            whole and "rest" in found and 0 < stages[0] < stages[1] < -(-d // 4),
            f"turned items of {d} dimensions have stages {stages}",
        )
        self._turn = Turn.of(take("turn", "<f4", d, d), stages)
        expect(self._turn.error < 0.5, "its axes are not at right angles")  # nor where one is NaN
        self._means = take("means", "<f4", self._turn.means(panels))
    if self._codes is not None and "rest" in found:
        self._rest = take("rest", "<f4", panels * self._record())
    self._labels = _read_labels(name, header["labels"], found, n)
    expect(not found, f"there are arrays that no index has: {sorted(found)}")
    self._packed = self._bind(self._view())
    return self


def _read_labels(
    name: str, kind: dict[str, str] | None, found: dict[str, np.ndarray], n: int
) -> np.ndarray | None:
    if kind is None:
        return None
    values = found.pop("labels")
    dtype = np.dtype(kind["dtype"]).newbyteorder("=") if kind["dtype"] != "object" else np.dtype(object)
    if kind["kind"] == "int":
        if values.shape != (n,) or values.dtype.kind not in "iu" or dtype.kind not in "iuO":
            raise _damaged(name, f"{n} items have labels of dtype {values.dtype} and shape {values.shape}")
        return values.astype(object) if dtype.kind == "O" else values
    ends = found.pop("label_ends")
    fits = ends.shape == (n + 1,) and ends.dtype == np.int64 and values.dtype == np.uint8
    if (
        not fits
        or ends[0] != 0
        or ends[-1] != len(values)
        or (ends[1:] < ends[:-1]).any()
        or dtype.kind not in "USO"
    ):
        raise _damaged(name, f"{n} items have {len(ends) - 1} string labels, or their lengths do not add up")
    text = values.tobytes()
    pieces: list[Any] = [text[a:b] for a, b in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)]
    if dtype.kind != "S":
        try:
            pieces = [piece.decode("utf-8", "surrogatepass") for piece in pieces]
        except UnicodeDecodeError as error:
            raise _damaged(name, f"a label is not UTF-8 ({error})") from error
    labels = np.empty(n, dtype)
    labels[:] = pieces
    return labels
