"""``Truth``: which items are relevant to each query, and how much; read once, used for many runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrec._core import arrays, checks, columns
from fastrec._kernels import evaluation as kernels
from fastrec.evaluation import ids, runs
from fastrec.evaluation.conventions import Convention
from fastrec.evaluation.ids import Labels
from fastrec.evaluation.rank_metrics import Worth, worth_of
from fastrec.evaluation.subtopics import Subtopics, merged

if TYPE_CHECKING:
    import pandas as pd

DUPLICATES = ("error", "first", "max", "sum")
# Repeats that stand together become one, given where each group starts.
_MERGES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "first": lambda values, first: values[first],
    "max": lambda values, first: np.maximum.reduceat(values, first),
    "sum": lambda values, first: np.add.reduceat(values, first),
}

LARGEST = 1e300  # a gain; their sums must be numbers


class Truth:
    """Relevance judgements, read once and reused over many runs.

    Parameters
    ----------
    truth : judgements by query, as one of

        - a frame (pandas, polars, Arrow) with columns ``query, item[, gain]`` and perhaps ``subtopic``;
        - a dict ``{query: {item: gain}}``, ``{query: [items]}`` or ``{query: {subtopic: {item: gain}}}``;
        - a SciPy sparse matrix (queries x items) whose stored values are gains;
        - a list of id arrays or of dicts ``{item: gain}``, or an id matrix that -1 pads: row r is query r (a matrix of
          CuPy stays on its card);
        - a path of a TREC qrels, Parquet, CSV, JSON Lines or JSON file.

        Without gains every item has gain 1.  Integer, text and mixed ids; see ``fastrec.evaluation.ids``.
    queries : labels of the rows, for the forms that have none.
    duplicates : ``"error"``, or keep the ``"first"``, ``"max"`` or ``"sum"`` of an item's gains within a query (an
        interaction log has an item many times: ``"max"``).
    subtopics : whether the judgements are by subtopic (intent), as ``alpha_ndcg`` and its kin need them: ``None`` finds
        out; ``True`` also reads them from a file, where they are the second field of a TREC line
        (``query subtopic item gain``) or a column ``subtopic``; ``False`` leaves them.  An item's gain is the largest
        that a subtopic gives it.

    Attributes
    ----------
    device : ``"cpu"`` or ``"cuda:0"``; a run must be on the same one.  ``truth.to("cuda")`` is a copy on the card.
    query_ids : (Q,) the queries, in the order of ``truth``.
    relevant : (Q,) how many items of each query have a gain above 0.
    has_subtopics : whether the judgements are by subtopic.

    Raises
    ------
    ValueError : an item twice in a query, a gain that is not finite or above 1e300, a missing id, no such column.

    Memory: 16 bytes a judgement (8 without gains), plus the labels of text ids; 8 or 16 more for each of the last two
    conventions in which gains are not their own worth (exponential, from a table).
    """

    def __init__(
        self, truth: Any, *, queries: Any = None, duplicates: str = "error", subtopics: bool | None = None
    ) -> None:
        checks.choice(duplicates, "duplicates", DUPLICATES)
        self._subtopics: Subtopics | None = None
        self._text_order: np.ndarray | None = None
        self._relevant_subtopics: dict[float | None, Any] = {}  # by level
        self._worth: dict[Any, Worth] = {}
        self._longest: int | None = None  # judgements of a query at most, where that is known
        on_card = _matrix_on_card(truth)
        if on_card is not None:
            self._columns, self._items, self._gains = None, None, None
            self._ptr, self._ids = _from_card(on_card, duplicates)
            self._queries = runs.row_labels(queries, len(on_card), "truth")
            self._longest = on_card.shape[1]
            return
        ptr, flat, gains, topics, self._queries, self._items = _read(truth, queries, subtopics)
        # How many columns a sparse matrix had: they are rows of an index, where the run is a labelled TopK.
        self._columns = truth.shape[1] if type(truth).__module__.startswith("scipy.sparse") else None
        flat = np.ascontiguousarray(flat, np.int64)
        if gains is not None:
            gains = np.ascontiguousarray(gains, np.float64)
            bad = np.flatnonzero(~(np.abs(gains) <= LARGEST))
            if len(bad):
                row = int(np.searchsorted(ptr, bad[0], side="right")) - 1
                fault = "too large to be added" if np.isfinite(gains[bad[0]]) else "not finite"
                raise ValueError(
                    f"`truth` has a gain that is {fault}, {gains[bad[0]]}, in query {self._queries[row]!r}"
                )
            if (gains == 1.0).all():
                gains = None
        if topics is None:
            ptr, flat, gains = self._distinct(ptr, flat, gains, duplicates)
        else:
            ptr, flat, gains = self._distinct_by_subtopic(ptr, flat, gains, topics, duplicates)
        order = _by_gain(ptr, gains)
        if order is not None:
            flat, gains = flat[order], gains[order]
            self._subtopics = self._subtopics and self._subtopics.take(order)
        self._ptr, self._ids, self._gains = ptr, flat, gains
        self._longest = int(np.diff(ptr).max(initial=0))

    def _distinct_by_subtopic(
        self, ptr: np.ndarray, flat: np.ndarray, gains: Any, topics: Any, duplicates: str
    ) -> tuple[Any, Any, Any]:
        """Judgements of whole queries, and what they are by subtopic in ``_subtopics``."""
        codes, labels = ids.coded(topics, "truth.subtopic")
        values = labels.array()
        order = np.argsort(values, kind="stable")
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        codes, labels = place[codes], Labels.of(values[order])
        rows = np.repeat(np.arange(len(ptr) - 1), np.diff(ptr))
        values = np.ones(len(flat)) if gains is None else gains
        order = np.lexsort((codes, flat, rows))  # stable: repeats stay in the order they came
        same = np.zeros(len(flat), bool)
        same[1:] = np.logical_and.reduce([key[order][1:] == key[order][:-1] for key in (rows, flat, codes)])
        if same.any():
            at = order[int(np.argmax(same))]
            if duplicates == "error":
                item = int(flat[at]) if self._items is None else self._items[int(flat[at])]
                raise ValueError(
                    f"`truth` has item {item!r} twice for subtopic {labels[int(codes[at])]!r} of query "
                    f"{self._queries[int(rows[at])]!r}; drop the repeats, or say what they mean: "
                    "fr.Truth(..., duplicates='first', 'max' or 'sum')"
                )
            first = np.flatnonzero(~same)
            joined = _MERGES[duplicates](values[order], first)
            rows, flat, codes, values = rows[order][first], flat[order][first], codes[order][first], joined
        ptr, flat, gains, self._subtopics = merged(rows, flat, codes, values, labels, len(ptr) - 1)
        return ptr, flat, None if (gains == 1.0).all() else gains

    @classmethod
    def empty(cls, queries: Labels, rows: np.ndarray) -> Truth:
        """No judgement for some queries, by row."""
        none = cls.__new__(cls)
        none._columns = none._items = none._gains = none._subtopics = none._text_order = none._longest = None
        none._relevant_subtopics = {}
        none._worth = {}
        none._ptr, none._ids = np.zeros(len(rows) + 1, np.int64), np.zeros(0, np.int64)
        none._queries = Labels.of(queries.array()[rows])
        return none

    @property
    def has_subtopics(self) -> bool:
        return self._subtopics is not None

    def relevant_subtopics(self, level: float | None) -> tuple[Any, Any, Any, Any]:
        """What is relevant to which subtopic from a gain of ``level`` on (above 0: ``None``), as ``rank_metrics`` takes
        it, on the truth's device; put there when it is first asked for.
        """
        assert self._subtopics is not None
        if level not in self._relevant_subtopics:
            rows = np.repeat(np.arange(len(self)), np.diff(ids.fetch(self._ptr)))
            found = (*self._subtopics.relevant(rows, len(self), level), self._in_text_order())
            with arrays.current(self._ids):
                xp = arrays.namespace(self._ids)
                self._relevant_subtopics[level] = tuple(xp.asarray(part) for part in found)
                if xp is not np:
                    from fastrec._core import cuda

                    cuda.settle()
        return self._relevant_subtopics[level]

    def _in_text_order(self) -> np.ndarray:
        """(judgements,) each query's judgements by the text of their items, descending: TREC's order of ties."""
        if self._text_order is None:
            rows = np.repeat(np.arange(len(self)), np.diff(ids.fetch(self._ptr)))
            labels, codes = self._items, ids.fetch(self._ids)
            if labels is None:
                distinct, codes = np.unique(codes, return_inverse=True)
                labels = Labels.of(distinct)
            self._text_order = np.lexsort((-labels.ranks()[codes], rows))
        return self._text_order

    def _worth_in(self, convention: Convention) -> Worth:
        """What the judgements are worth in a convention: kept for the next run, of the last two conventions."""
        gain, level = convention.gain, convention.relevance_level
        key = tuple(gain.items()) if isinstance(gain, Mapping) else gain, level, convention.below_level
        if key not in self._worth:
            self._worth = dict(list(self._worth.items())[-1:])
            self._worth[key] = worth_of(self._ptr, self._gains, convention)
        return self._worth[key]

    def _distinct(
        self, ptr: np.ndarray, flat: np.ndarray, gains: Any, duplicates: str
    ) -> tuple[Any, Any, Any]:
        longest = int(np.diff(ptr).max()) if len(ptr) > 1 else 0
        repeat = kernels.first_repeat(ptr, flat, longest)
        if repeat is None:
            return ptr, flat, gains
        if duplicates == "error":
            row, place = repeat
            item = int(flat[place]) if self._items is None else self._items[int(flat[place])]
            raise ValueError(
                f"`truth` has item {item!r} twice for query {self._queries[row]!r}; "
                "drop the repeats, or say what they mean: fr.Truth(..., duplicates='first', 'max' or 'sum'), "
                "or subtopics=True where they are by subtopic"
            )
        rows = np.repeat(np.arange(len(ptr) - 1), np.diff(ptr))
        values = np.ones(len(flat)) if gains is None else gains
        order = np.lexsort((flat, rows))  # stable: repeats stay in the order they came
        rows, items, values = rows[order], flat[order], values[order]
        first = np.flatnonzero(np.concatenate(([True], (rows[1:] != rows[:-1]) | (items[1:] != items[:-1]))))
        counts = np.bincount(rows[first], minlength=len(ptr) - 1)
        joined = _MERGES[duplicates](values, first)
        return np.concatenate(([0], np.cumsum(counts))).astype(np.int64), items[first], joined

    @property
    def device(self) -> str:
        return arrays.device(self._ids)

    def to(self, device: str) -> Truth:
        """The truth on ``"cuda"`` (the current card), ``"cuda:1"`` or ``"cpu"``; itself where it is there already.

        16 bytes a judgement (8 without gains) and 8 a query are copied; labels of text ids stay in host memory.
        """
        checks.device_name(device, "device")
        if device == self.device or (device == "cuda" and self.device != arrays.CPU):
            return self
        part = Truth.__new__(Truth)
        part.__dict__.update(self.__dict__)
        part._relevant_subtopics = {}
        part._worth = {}
        host: list[Any] = [None if a is None else ids.fetch(a) for a in (self._ptr, self._ids, self._gains)]
        part._longest = int(np.diff(host[0]).max(initial=0))
        if device == arrays.CPU:
            part._ptr, part._ids, part._gains = host
            return part
        from fastrec._core import cuda

        number = device.partition(":")[2]
        cupy = cuda.require()
        with cuda.on(int(number) if number else int(cupy.cuda.runtime.getDevice())):
            part._ptr, part._ids, part._gains = (None if a is None else cupy.asarray(a) for a in host)
            cuda.settle()
        return part

    @property
    def query_ids(self) -> np.ndarray:
        return self._queries.array()

    @property
    def relevant(self) -> Any:
        if self._gains is None:
            return self._ptr[1:] - self._ptr[:-1]
        xp = arrays.namespace(self._gains)
        with arrays.current(self._gains):
            found = xp.concatenate((xp.zeros(1, np.int64), xp.cumsum(self._gains > 0)))[self._ptr]
        return found[1:] - found[:-1]

    @property
    def max_gain(self) -> float:
        """The largest gain of all; 0 for an empty truth."""
        if self._gains is None:
            return 1.0 if len(self._ids) else 0.0
        return float(self._gains.max())

    def first_outside(self, grades: Iterable[float]) -> tuple[float, int]:
        """The first gain above 0 that is none of ``grades``, and the row of its query; -1 where there is none."""
        if self._gains is None:
            judged = self._ptr[1:] > self._ptr[:-1]
            known = 1.0 in set(grades) or not bool(judged.any())
            return (0.0, -1) if known else (1.0, int(judged.argmax()))
        with arrays.current(self._gains):
            xp = arrays.namespace(self._gains)
            outside = (self._gains > 0) & ~xp.isin(self._gains, xp.asarray([*grades], np.float64))
            if not len(outside) or not bool(outside.any()):
                return 0.0, -1
            place = int(outside.argmax())
            row = int(xp.searchsorted(self._ptr, xp.asarray([place]), side="right")[0]) - 1
            return float(self._gains[place]), row

    def __len__(self) -> int:
        return self._queries.size

    def __repr__(self) -> str:
        return f"<Truth: {len(self)} queries, {len(self._ids)} judgements>"

    def to_frame(self) -> pd.DataFrame:
        """A pandas frame ``query[, subtopic], item, gain``; within a query by gain, descending."""
        import pandas as pd

        flat = ids.fetch(self._ids)
        rows = np.repeat(np.arange(len(self)), np.diff(ids.fetch(self._ptr)))
        item = flat if self._items is None else self._items.array()[flat]
        gain = np.ones(len(flat)) if self._gains is None else ids.fetch(self._gains)
        if self._subtopics is not None:
            topics, times = self._subtopics, np.diff(self._subtopics.ptr)
            columns = {
                "query": self.query_ids[np.repeat(rows, times)],
                "subtopic": topics.labels.array()[topics.codes],
            }
            return pd.DataFrame({**columns, "item": np.repeat(item, times), "gain": topics.gains})
        return pd.DataFrame({"query": self.query_ids[rows], "item": item, "gain": gain})

    def take(self, rows: np.ndarray) -> Truth:
        """The truth of some queries, by row; in host memory."""
        if self.device != arrays.CPU:
            return self.to(arrays.CPU).take(rows)
        part = Truth.__new__(Truth)
        part._columns, part._longest = self._columns, None
        sizes = np.diff(self._ptr)[rows]
        ptr = np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)
        places = np.repeat(self._ptr[:-1][rows] - ptr[:-1], sizes) + np.arange(ptr[-1])
        part._ptr, part._ids, part._items = ptr, self._ids[places], self._items
        part._gains = None if self._gains is None else self._gains[places]
        part._subtopics = self._subtopics and self._subtopics.take(places)
        part._text_order, part._relevant_subtopics, part._worth = None, {}, {}
        part._queries = Labels.of(self.query_ids[rows])
        return part


def _matrix_on_card(truth: Any) -> Any:
    """An id matrix on a card, adopted; ``None`` for everything else."""
    if not (hasattr(truth, "__dlpack_device__") or hasattr(truth, "__cuda_array_interface__")):
        return None
    array = arrays.adopt(truth, "truth")
    if ids.is_host(array):
        return None
    if array.ndim != 2:
        raise ValueError(f"`truth` must be an id matrix (queries, n) on a card; got shape {array.shape}")
    return array


def _from_card(array: Any, duplicates: str) -> tuple[Any, Any]:
    """(ptr, flat ids) of an id matrix on a card that -1 pads; waits for it."""
    with arrays.current(array):
        xp = arrays.namespace(array)
        whole = runs.matrix(array, "truth").reshape(array.shape).astype(np.int64)
        ordered = xp.sort(whole, axis=1)
        again = ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != -1)).any(axis=1)
        if len(again) and bool(again.any()):
            if duplicates == "error":
                row = int(again.argmax())
                raise ValueError(
                    f"`truth` has an item twice for query {row}; drop the repeats, or say what they mean on the CPU: "
                    "fr.Truth(truth.get(), duplicates='first')"
                )
            raise ValueError(
                "`duplicates` other than 'error' is worked out on the CPU: fr.Truth(truth.get(), ...)"
            )
        real = whole != -1
        ptr = xp.zeros(len(whole) + 1, np.int64)
        ptr[1:] = xp.cumsum(real.sum(axis=1))
        return ptr, whole[real]


def _by_gain(ptr: np.ndarray, gains: np.ndarray | None) -> np.ndarray | None:
    """The order of each row by gain, descending; repeats of a gain stay in order.  ``None``: as it is."""
    if gains is None or len(gains) < 2:
        return None
    rows = np.repeat(np.arange(len(ptr) - 1), np.diff(ptr))
    if ((gains[1:] <= gains[:-1]) | (rows[1:] != rows[:-1])).all():
        return None
    return np.lexsort((-gains, rows))


_Parts = tuple[np.ndarray, np.ndarray, Any, Any, Labels, Labels | None]


def _read(truth: Any, queries: Any, subtopics: bool | None) -> _Parts:
    """(ptr, flat ids, gains or None, subtopics or None, queries, items or None)."""
    if isinstance(truth, (str, os.PathLike)):
        from fastrec.data import files

        truth = files.read_subtopics(truth) if subtopics else files.read_truth(truth)
    if type(truth).__module__.startswith("ranx"):
        truth = truth.to_dict()
    truth = runs.mapping_of(truth, "truth")
    if isinstance(truth, Mapping):
        runs._no_labels(queries, "truth")
        return _from_mapping(truth, subtopics)
    frame = runs.columns_of(truth, "truth")
    if frame is not None:
        runs._no_labels(queries, "truth")
        return _from_frame(frame, subtopics)
    if runs.are_mappings(truth):
        ptr, flat, gains, topics, _, items = _from_mapping(dict(enumerate(truth)), subtopics)
        return ptr, flat, gains, topics, runs.row_labels(queries, len(truth), "truth"), items
    if subtopics:
        raise ValueError(
            "`truth` must name its subtopics: a frame with a column 'subtopic', a file, or a dict "
            f"{{query: {{subtopic: {{item: gain}}}}}}; got {type(truth).__name__}"
        )
    if runs.csr_of(truth) is not None:
        csr = truth.tocsr()
        if not csr.has_canonical_format:
            csr = csr.copy()
            csr.sum_duplicates()  # as SciPy itself reads a repeated entry
        gains = runs.numbers(csr.data, "truth").astype(np.float64)
        labels = runs.row_labels(queries, csr.shape[0], "truth")
        return csr.indptr.astype(np.int64), csr.indices.astype(np.int64), gains, None, labels, None
    ptr, flat, labels, items = _from_rows(truth, queries)
    return ptr, flat, None, None, labels, items


def _from_frame(frame: dict[str, Any], subtopics: bool | None) -> _Parts:
    query, item = runs.pick(frame, columns.QUERY, "truth"), runs.pick(frame, columns.ITEM, "truth")
    named = columns.find_gain(list(frame), "`truth`")
    gain = None if named is None else frame[named]
    topic = None
    if subtopics is not False:
        names = (*columns.SUBTOPIC, "iteration") if subtopics else columns.SUBTOPIC
        topic = runs.pick(frame, names, "truth", required=bool(subtopics))
    ptr, order, queries = ids.group(query, "truth.query")
    flat, items = ids.column(item, "truth.item")
    gains = None if gain is None else runs.numbers(gain, "truth.gain").astype(np.float64)
    if topic is not None:
        codes, labels = ids.coded(topic, "truth.subtopic")
        topic = labels.array()[codes]
    if order is not None:
        flat = flat[order]
        gains = None if gains is None else gains[order]
        topic = None if topic is None else topic[order]
    return ptr, flat, gains, topic, queries, items


def _from_mapping(truth: Mapping[Any, Any], subtopics: bool | None) -> _Parts:
    _, labels = ids.coded(list(truth), "truth (its keys)")
    if labels.size != len(truth):
        raise ValueError("`truth` has two queries that are the same as text")
    nested = [_nested(entry) for entry in truth.values()]
    known = [kind for kind in nested if kind is not None]
    deep = any(known) or (bool(subtopics) and not known)
    if (deep and (subtopics is False or not all(known))) or (subtopics and not deep):
        raise TypeError(
            "`truth` must map every query to a dict {subtopic: {item: gain}}, or every query to a dict of gains"
        )
    topics = None
    if deep:
        sizes = [sum(len(items) for items in entry.values()) for entry in truth.values()]
        pairs = [(topic, len(items)) for entry in truth.values() for topic, items in entry.items()]
        topics = runs.objects(chain.from_iterable([topic] * size for topic, size in pairs), sum(sizes))
        lists: list[Any] = [
            runs.listed(items, "truth") for entry in truth.values() for items in entry.values()
        ]
    else:
        lists = [runs.listed(entry, "truth") for entry in truth.values()]
        sizes = [len(entry) for entry in lists]
    graded = [isinstance(entry, Mapping) for entry in lists]
    if any(graded) and not all(graded):
        raise TypeError("`truth` must map every query to a dict of gains, or every query to a list of items")
    ptr = np.concatenate(([0], np.cumsum(sizes, dtype=np.int64))).astype(np.int64)
    flat, items = ids.column(runs.objects(chain.from_iterable(lists), int(ptr[-1])), "truth (its items)")
    gains = None
    if graded and graded[0]:
        values = chain.from_iterable(entry.values() for entry in lists)
        gains = runs.numbers(runs.objects(values, int(ptr[-1])), "truth (its gains)").astype(np.float64)
    return ptr, flat, gains, topics, labels, items


def _nested(entry: Any) -> bool | None:
    """Whether the entry of a query is by subtopic; ``None`` where it is empty."""
    if not isinstance(entry, Mapping):
        return False
    if not entry:
        return None
    return isinstance(next(iter(entry.values())), (Mapping, list, tuple, set, frozenset, np.ndarray))


def _from_rows(truth: Any, queries: Any) -> tuple[np.ndarray, np.ndarray, Labels, Labels | None]:
    """(ptr, flat ids, queries, items or None)."""
    if isinstance(truth, (list, tuple)) and not runs._is_rectangle(truth):
        ptr, flat, items = runs.ragged(truth, "truth")
        return ptr, flat, runs.row_labels(queries, len(ptr) - 1, "truth"), items
    try:
        array = ids.host(truth, "truth")
    except TypeError as error:
        if isinstance(truth, np.ndarray) or hasattr(truth, "__array__") or hasattr(truth, "__dlpack__"):
            raise
        raise TypeError(
            "`truth` must be a frame, a dict, a CSR, lists of ids, an id matrix (queries, n) or a path; "
            f"got {type(truth).__name__}"
        ) from error
    if array.ndim != 2:
        raise ValueError(
            f"`truth` must be a frame, a dict, a CSR, lists of ids or an id matrix (queries, n); "
            f"got shape {array.shape}"
        )
    labels = runs.row_labels(queries, len(array), "truth")
    if array.dtype.kind in "OUS":
        flat, ptr, items = runs.text_matrix(array, "truth")
        return ptr, flat, labels, items
    if array.dtype.kind == "f":
        raise TypeError(
            "`truth` must hold item ids; got a matrix of floats. Pass gains as a SciPy CSR (queries x items)"
        )
    whole = runs.matrix(array, "truth").reshape(array.shape)
    real = whole != -1
    ptr = np.concatenate(([0], np.cumsum(real.sum(axis=1)))).astype(np.int64)
    return ptr, whole[real].astype(np.int64), labels, None
