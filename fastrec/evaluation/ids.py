"""Identifiers: columns of integers or text made into compact codes, and one side's ids found among the other's.

Ids are compared as integers where both sides hold integers, and as text otherwise (the integer 7 meets the text "7",
so that a run of integers can be measured against a TREC file).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastrec._core import arrays
from fastrec._kernels import labels as kernels

FEW = 10_000  # ids that are sorted sooner than pandas is imported


@dataclass(frozen=True)
class Labels:
    """The distinct ids of one side, by code: int64 values, text, or (``values`` is ``None``) simply 0..size-1.

    Text that came in an Arrow array stays there until somebody looks at it.
    """

    held: Any  # an array of int64 or of Python's strings, an Arrow array of text, or None
    size: int

    @classmethod
    def of(cls, values: Any) -> Labels:
        return cls(values, len(values))

    @classmethod
    def numbered(cls, size: int) -> Labels:
        return cls(None, size)

    @functools.cached_property
    def values(self) -> np.ndarray | None:
        return self.held.to_numpy(zero_copy_only=False) if _is_arrow(self.held) else self.held

    @property
    def is_text(self) -> bool:
        return self.held is not None and (_is_arrow(self.held) or self.held.dtype.kind == "O")

    def array(self) -> np.ndarray:
        return np.arange(self.size, dtype=np.int64) if self.values is None else self.values

    def __getitem__(self, code: int) -> Any:
        return int(code) if self.held is None else self.held[code : code + 1].tolist()[0]

    def take(self, codes: np.ndarray) -> Labels:
        """The labels of these codes, which are distinct."""
        if self.held is None:
            return Labels.of(np.asarray(codes, np.int64))
        return Labels.of(self.held.take(codes))

    def locate(self, wanted: Labels) -> np.ndarray:
        """The code here of each id of ``wanted``, int64, -1 where it is not known here."""
        if self is wanted:
            return np.arange(self.size, dtype=np.int64)
        if self.is_text and wanted.is_text:
            here, there = self._texts(), wanted._texts()
            if here is not None and there is not None:
                found = np.empty(wanted.size, np.int64)
                kernels.find(here, there, found)
                return found
        here, there = self.values, wanted.array()
        if self.is_text and not wanted.is_text:
            return self.locate(Labels.of(there.astype(str).astype(object)))
        if wanted.is_text and not self.is_text:
            there, known = _integers_of(there)
            found = self.locate(Labels.of(there))
            found[~known] = -1
            return found
        if here is None:
            return np.where((there >= 0) & (there < self.size), there, -1).astype(np.int64)
        if len(here) == len(there) and np.array_equal(here, there):
            return np.arange(self.size, dtype=np.int64)
        import pandas as pd

        kind = object if self.is_text else None  # or pandas would want text that UTF-8 can hold
        return pd.Index(here, dtype=kind).get_indexer(pd.Index(there, dtype=kind)).astype(np.int64)

    def _texts(self) -> Any:
        """Where the bytes of the labels are, None where some are no text that UTF-8 can hold."""
        if _is_arrow(self.held):
            return kernels.texts_in(*_buffers(self.held))
        return kernels.texts_of(np.ascontiguousarray(self.held), self.size)

    def keys(self) -> np.ndarray:
        """A number for each id that depends on nothing else, uint64: a hash of its text, or the integer itself."""
        if not self.is_text:
            return self.array().astype(np.int64).view(np.uint64)
        import pandas as pd

        return pd.util.hash_array(self.array(), categorize=False)

    def ranks(self) -> np.ndarray:
        """The rank of each id in the order of its text (code points, as in UTF-8), int64."""
        import pyarrow as pa
        import pyarrow.compute as pc

        values = self.array()
        text = values if self.is_text else values.astype(str).astype(object)
        try:
            held = pa.array(text, type=pa.large_string())
        except UnicodeEncodeError:  # half a surrogate pair, which UTF-8 cannot hold
            held = pa.array(
                [label.encode("utf-8", "surrogatepass") for label in text], type=pa.large_binary()
            )
        order = pc.sort_indices(held).to_numpy()
        ranks = np.empty(self.size, np.int64)
        ranks[order] = np.arange(self.size)
        return ranks


def _integers_of(text: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Text that is exactly how an int64 prints, as that integer; and which of it is."""
    values = np.zeros(len(text), np.int64)
    known = np.zeros(len(text), bool)
    for i, label in enumerate(text):
        if len(label) <= 20 and label.lstrip("-").isdecimal() and label.isascii():
            number = int(label)
            if str(number) == label and -(2**63) <= number < 2**63:
                values[i], known[i] = number, True
    return values, known


def _missing(name: str) -> ValueError:
    return ValueError(f"`{name}` has missing ids (None or NaN); drop those rows first")


def column(values: Any, name: str) -> tuple[np.ndarray, Labels | None]:
    """A column of ids: (integers, None), or (codes, labels) where it holds anything else.

    Takes NumPy arrays, pandas, polars and Arrow columns, and sequences.  Missing ids are a ``ValueError``.
    """
    if isinstance(values, (list, tuple)):
        values = _as_objects(values)
    found = _as_integers(values, name)
    if found is not None:
        return found, None
    text = _to_arrow(values, name)
    if text is None:
        return _factorise(values, name)
    if text.null_count:
        raise _missing(name)
    import pyarrow as pa

    if pa.types.is_dictionary(text.type):
        return _tidy(*_codes_of_dictionary(text, name), name)
    codes, firsts = _codes_of_arrow(text)
    return codes, Labels.of(text.take(pa.array(firsts)))


def coded(values: Any, name: str) -> tuple[np.ndarray, Labels]:
    """The same, with integers made into codes as well."""
    found, labels = column(values, name)
    if labels is not None:
        return found, labels
    codes, distinct = _by_appearance(found)
    return codes.astype(np.int64, copy=False), Labels.of(np.asarray(distinct, np.int64))


def _by_appearance(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(codes, distinct values) of integers, numbered in the order they first come."""
    if len(values) > FEW:
        import pandas as pd

        return pd.factorize(values)
    distinct, first, codes = np.unique(values, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return rank[codes], distinct[order]


def _as_integers(values: Any, name: str) -> np.ndarray | None:
    dtype = getattr(values, "dtype", None)
    if isinstance(values, np.ndarray):
        array = values
    elif isinstance(dtype, np.dtype) and dtype.kind in "iufb" and hasattr(values, "to_numpy"):
        array = values.to_numpy()
    elif _is_arrow(values):
        import pyarrow as pa

        if not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type)):
            return None
        if values.null_count:
            raise _missing(name)
        array = values.to_numpy()
    elif dtype is not None and hasattr(values, "isna") and str(dtype).lower().startswith(("int", "uint")):
        if values.isna().any():  # pandas' nullable integers
            raise _missing(name)
        array = values.to_numpy(dtype=np.uint64 if str(dtype).lower().startswith("u") else np.int64)
    else:
        return None
    return integers(array, name)


def integers(array: np.ndarray, name: str) -> np.ndarray | None:
    """The array as int32 or int64 where it holds integers (also as floats), ``None`` where it holds something else."""
    kind = array.dtype.kind
    if kind == "O" and array.size and set(map(type, array)) <= {int, np.int64, np.int32}:
        try:  # Python's integers, without a hash of each
            return np.array(array.tolist(), np.int64)
        except OverflowError:
            return None
    if kind == "f":
        if np.isnan(array).any():
            raise _missing(name)
        whole = array.astype(np.int64) if np.isfinite(array).all() and (np.abs(array) < 2**53).all() else None
        if whole is None or (whole != array).any():
            raise TypeError(f"`{name}` must hold integers or text; got {array.dtype} with fractions")
        return whole
    if kind == "u" and array.dtype.itemsize == 8 and array.size and array.max() > np.iinfo(np.int64).max:
        raise ValueError(f"`{name}` holds ids above 2**63 - 1; pass them as text")
    if kind in "iu":
        small = array.dtype.itemsize < 4 or array.dtype == np.int32
        return np.ascontiguousarray(array, np.int32 if small else np.int64)
    if kind == "b":
        raise TypeError(f"`{name}` must hold integers or text; got bool")
    return None


def _is_arrow(values: Any) -> bool:
    return type(values).__module__.startswith("pyarrow")


def _to_arrow(values: Any, name: str) -> Any:
    """The column as one Arrow array of text where it is text held by Arrow, else ``None``."""
    if type(values).__module__.startswith("polars"):
        values = values.to_arrow()
    elif not _is_arrow(values):
        backing = getattr(values, "array", values)
        data = getattr(backing, "_pa_array", None)
        if data is None:
            return None
        values = data
    import pyarrow as pa

    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks() if values.num_chunks != 1 else values.chunk(0)
    if pa.types.is_dictionary(values.type):
        return values
    if _is_text(values):
        return values
    try:
        return values.cast(pa.large_string())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        raise TypeError(f"`{name}` must hold integers or text; got {values.type}") from None


def _is_text(array: Any) -> bool:
    import pyarrow as pa

    return pa.types.is_string(array.type) or pa.types.is_large_string(array.type)


def _factorise(values: Any, name: str) -> tuple[np.ndarray, Labels | None]:
    if hasattr(values, "cat"):  # pandas categorical
        codes, distinct = values.cat.codes.to_numpy(), values.cat.categories
        held = getattr(distinct.array, "_pa_array", None)
        if held is not None and len(held) and _is_text(held) and not held.null_count and (codes >= 0).all():
            return codes.astype(np.int32), Labels.of(_to_arrow(distinct, name))
        distinct = distinct.to_numpy()
    else:
        flat = isinstance(values, np.ndarray) or type(values).__module__.startswith("pandas")
        source = values if flat else _as_objects(values)
        if isinstance(source, np.ndarray) and source.dtype.kind in "US":
            source = source.astype(object)
        if source.dtype == object:
            array = np.asarray(source)
            found = _codes_of(array)
            if found is not None and len(array):
                return found[0], Labels.of(array[found[1]])
        import pandas as pd

        try:
            codes, distinct = pd.factorize(source)
        except TypeError as error:
            raise TypeError(f"`{name}` must hold integers or text ({error})") from None
        distinct = np.asarray(distinct)
    if codes.size and codes.min() < 0:
        raise _missing(name)
    return _tidy(codes.astype(np.int64), distinct, name)


def _codes_of(texts: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """(codes in order of appearance, int32; the row where each first comes) of an array of Python's strings, ``None``
    where it holds anything else."""
    if texts.ndim != 1:
        return None
    codes, firsts = np.empty(len(texts), np.int32), np.empty(len(texts), np.int64)
    count = kernels.encode_objects(np.ascontiguousarray(texts), codes, firsts)
    return None if count < 0 else (codes, firsts[:count])


def _codes_of_arrow(text: Any) -> tuple[np.ndarray, np.ndarray]:
    """The same of an Arrow array of text without nulls, read from its buffers."""
    rows = len(text)
    codes, firsts = np.empty(rows, np.int32), np.empty(rows, np.int64)
    count = kernels.encode(*_buffers(text), codes, firsts) if rows else 0
    return codes, firsts[:count]


def _buffers(text: Any) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray]:
    """(offsets, if they are int32; offsets, if they are int64; bytes) of an Arrow array of text without nulls."""
    import pyarrow as pa

    _, offsets, data = text.buffers()
    kind = np.int64 if pa.types.is_large_string(text.type) else np.int32
    ends = len(text) + 1
    where = np.zeros(1, kind) if ends == 1 else np.frombuffer(offsets, kind)[text.offset : text.offset + ends]
    held = np.empty(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)
    return (None, where, held) if kind is np.int64 else (where, None, held)


def _codes_of_dictionary(column: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """(codes, labels) of an Arrow dictionary array, whose dictionary may hold a label twice, or a null."""
    codes = column.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    labels = column.dictionary.to_numpy(zero_copy_only=False)
    if column.dictionary.null_count:
        absent = column.dictionary.is_null().to_numpy(zero_copy_only=False)
        if absent[codes].any():
            raise _missing(name)
        kept = np.cumsum(~absent) - 1
        codes, labels = kept[codes], labels[~absent]
    found = _codes_of(labels) if labels.dtype == object else None
    if found is None or len(found[1]) == len(labels):
        return codes, labels
    return found[0].astype(np.int64)[codes], labels[found[1]]


def _as_objects(values: Any) -> np.ndarray:
    out = np.empty(len(values), object)
    out[:] = list(values)
    return out


def _tidy(codes: np.ndarray, distinct: np.ndarray, name: str) -> tuple[np.ndarray, Labels | None]:
    """Labels as integers or text; two that print alike are one."""
    if distinct.dtype.kind != "O":
        whole = integers(distinct, name) if distinct.dtype.kind in "iuf" else None
        if whole is not None:
            return whole[codes], None
        distinct = distinct.astype(object)
    kinds = set(map(type, distinct))
    if not kinds:
        return codes.astype(np.int64), None
    if kinds == {str}:
        return codes, Labels.of(distinct)
    if all(issubclass(kind, (int, np.integer)) and kind is not bool for kind in kinds):
        whole = integers(np.array([int(label) for label in distinct]), name)
        if whole is not None:
            return whole[codes], None
    if all(issubclass(kind, (int, float, np.number)) and kind is not bool for kind in kinds) and all(
        float(label).is_integer() and abs(label) < 2**53 for label in distinct
    ):  # numbers that pass as integers in a column of floats
        return np.array([int(label) for label in distinct], np.int64)[codes], None
    import pandas as pd

    text = _as_objects([_written(label, name) for label in distinct])
    merged, labels = pd.factorize(text)
    return merged.astype(np.int64)[codes], Labels.of(np.asarray(labels, object))


def _written(label: Any, name: str) -> str:
    """A label as text."""
    if isinstance(label, bytes):
        return label.decode()
    if isinstance(label, (float, np.floating)):
        if not float(label).is_integer():
            raise TypeError(f"`{name}` must hold integers or text; got the number {label}")
        return str(int(label))
    if isinstance(label, tuple) and len(label) == 2 and isinstance(label[1], (float, np.floating)):
        raise TypeError(
            f"`{name}` must hold integers or text; got the pair {label}. Items with their scores are a dict: "
            "{query: dict(pairs)}"
        )
    return str(label)


def is_host(array: Any) -> bool:
    return isinstance(array, np.ndarray)


def fetch(array: Any) -> np.ndarray:
    """The array in host memory, from a card by waiting for it."""
    return array if isinstance(array, np.ndarray) else array.get()


def like(array: Any, other: Any) -> Any:
    """A host array where ``other`` is: itself, or a copy on that card; None stays None."""
    if array is None or isinstance(other, np.ndarray):
        return array
    with arrays.current(other):
        return arrays.namespace(other).asarray(array)


def host(array: Any, name: str) -> np.ndarray:
    """An adopted array that must be in host memory."""
    adopted = arrays.adopt(array, name)
    if arrays.device(adopted) != arrays.CPU:
        raise TypeError(
            f"`{name}` is on {arrays.device(adopted)}; evaluation runs on the CPU: pass `{name}.get()`"
        )
    return adopted


def group(values: Any, name: str) -> tuple[np.ndarray, np.ndarray | None, Labels]:
    """Rows by query: (ptr, order, labels); ``order`` is ``None`` where the rows of each query stand together.

    Queries are numbered in the order they first appear.
    """
    found, labels = column(values, name)
    if not len(found):
        return np.zeros(1, np.int64), None, labels or Labels.of(np.empty(0, np.int64))
    starts = np.flatnonzero(np.concatenate(([True], found[1:] != found[:-1])))
    heads = found[starts]
    ends = np.append(starts, len(found)).astype(np.int64)
    if (
        labels is not None and len(heads) == labels.size
    ):  # codes come in order of appearance, except for categories
        in_order = labels.held is None or bool((heads == np.arange(len(heads))).all())
        return ends, None, labels if in_order else labels.take(heads)
    import pandas as pd

    codes, distinct = pd.factorize(heads)
    named = Labels.of(np.asarray(distinct, np.int64)) if labels is None else labels.take(distinct)
    if len(distinct) == len(heads):
        return ends, None, named
    codes = np.repeat(codes, np.diff(ends))
    order = np.argsort(codes, kind="stable")
    ptr = np.concatenate(([0], np.cumsum(np.bincount(codes, minlength=len(distinct))))).astype(np.int64)
    return ptr, order, named
