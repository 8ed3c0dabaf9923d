"""``Index``: items packed once, searched exactly many times."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from fastrec._core import arrays, checks
from fastrec._core import threads as _threads
from fastrec._kernels import ranking as _kernels
from fastrec.ranking import lists, order, turn
from fastrec.ranking.canonical import METRICS
from fastrec.ranking.canonical import scores as _canonical_scores
from fastrec.ranking.result import TopK

PANEL, META, PLACES, TURNED = 32, 8, 15, 5  # kernels/cpu/ranking_types.h
LOOKED_AT = 64  # dimensions, rounded up to fours, from which on looks on the way pay
MAX_DIM_INT8 = 16_384  # beyond it, int32 sums of codes could overflow
MAX_ITEMS = 2**32 - 64  # rows are uint32 inside
COPY_LIMIT = 0.3  # of the float32 matrix: what precision="auto" may hold beside it
_GROUP = 240  # queries that share a pass over the items; a multiple of the tile
_BLOCK_BYTES = 16 << 20  # of items, copied to be searched alone
_JOIN_ENTRIES = 1 << 16  # joined at a time
_SHARE_ENTRIES = 1 << 20  # rows and scores of all shares of the items together
_LISTED = 1 << 20  # candidates written out a query each; more of them are packed
_NEARLY_ALL = 0.95  # of all (query, item) pairs: where so much is excluded, the rest is what is looked at
BFLOAT16 = np.dtype([("bfloat16", np.uint16)])  # how a matrix of bfloat16 bits travels inside
_DTYPES = {"float32": 0, "float16": 1, "bfloat16": 2}


class Index:
    """Items packed for exact top-k search by inner product, cosine or Euclidean distance.

    Parameters
    ----------
    items : (N, d) array
        Item vectors.  float32, float16 and bfloat16 are searched where they lie, without a copy (rows may be strided);
        other real types are converted to float32.  The index keeps a view: do not change the items while it is used.
    metric : {"dot", "cosine", "l2"}
        What a score is: ``sum(u*i)``; ``sum(u*i) / (|u| |i|)``, 0 where a norm is 0; ``-sum((u-i)^2)``.
    bias : (N,) array, optional
        Added to each item's score.
    ids : (N,) array of int or str, optional
        External labels, returned by ``TopK.ids`` in place of row positions.  They do not change the order.
    precision : {"auto", "int8", "float32"}
        How items are screened; the answer is the same to the bit.  ``"int8"`` keeps a copy in one byte a value and is
        several times faster; ``"float32"`` keeps only the order of the items (5 bytes an item).  ``"auto"`` takes int8
        where the copy fits in 0.3 of the float32 matrix (from d = 32 on, mostly).
    threads : int, optional
        Threads used to pack.

    Notes
    -----
    Scores are *canonical*: computed from the given values in float64 in a fixed order, rounded to float32 once (see
    :mod:`fastrec.ranking.canonical`).  Items that can reach the top are found by cheap bounds that err on the safe
    side; what they let through is scored canonically.  Ids and scores therefore do not depend on ``precision``,
    threads, batches or the processor.  NaN items are never returned.

    Cost: packing reads the items twice, O(N d) plus a sort of N norms.  Memory beside the items: about
    ``N * (d + 5)`` bytes with int8, up to 2 more an item where norms differ (and 4 with ``bias`` or ``metric="l2"``).

    Items of nearly one length that lie close to a subspace, as embeddings of texts and images do, are *turned* before
    they are packed: into axes of which the first few decide most comparisons, and sorted into clusters.  A search then
    takes half to three quarters of the time; packing takes O(N d^2) more, on all the cores that NumPy's matrix
    products use.  This is done for at least ``100 d`` items of 64 to 1,024 dimensions with int8 and no ``bias``;
    :meth:`explain` tells.  A card takes them as they are, and packs them again.

    An index can be copied and pickled (joblib, multiprocessing, Spark).  A pickle carries the items and all that was
    packed, and nothing is packed again; that of a memory-mapped index carries its content too, not the path.  To share
    one file between processes, hand them its path and :meth:`load` it in each.

    Raises ``TypeError`` / ``ValueError`` for items that are not a real (N, d) matrix, and for ``bias`` or ``ids`` of
    another length.

    Examples
    --------
    >>> import numpy as np, fastrec as fr
    >>> index = fr.Index(np.eye(3, dtype=np.float32))
    >>> index.topk([[0.1, 0.3, 0.2]], k=2).ids
    array([[1, 2]])
    """

    def __init__(
        self,
        items: Any,
        metric: str = "dot",
        bias: Any = None,
        ids: Any = None,
        *,
        precision: str = "auto",
        threads: int | None = None,
    ) -> None:
        self._build(items, metric, bias, ids, precision, threads, turning=True)

    @classmethod
    def _for_queries(
        cls, count: int, items: Any, metric: str, bias: Any, ids: Any, precision: str, threads: int | None
    ) -> Index:
        """An index that ``count`` queries are searched in: packed in less time where they are few."""
        self = object.__new__(cls)
        turning = count >= turn.QUERIES_A_DIM * (items.shape[1] if np.ndim(items) == 2 else 0)
        self._build(items, metric, bias, ids, precision, threads, turning=turning)
        return self

    def _build(
        self,
        items: Any,
        metric: str,
        bias: Any,
        ids: Any,
        precision: str,
        threads: int | None,
        *,
        turning: bool,
    ) -> None:
        workers = _threads.resolve(threads)
        self.metric = checks.choice(metric, "metric", METRICS)
        precision = checks.choice(precision, "precision", ("auto", "int8", "float32"))
        self._items, self._dtype = item_matrix(items)
        n, d = self._items.shape
        if n > MAX_ITEMS:
            raise ValueError(
                f"`items` may have at most {MAX_ITEMS} rows; got {n}. Split them and use merge_topk"
            )
        self._bias = None
        if bias is not None:
            self._bias = checks.vector(bias, "bias", size=n, like=f"to match `items` {self._items.shape}")
        self._labels = None if ids is None else _labels(ids, n)
        self._device = arrays.common_device(items=self._items, bias=self._bias)
        self.precision = _choose(precision, d, self._has_terms)
        self._card: Any = None
        if self._device == arrays.CPU:
            self._pack(workers, turning=turning)
            return
        from fastrec._core import cuda
        from fastrec.ranking.device_index import DeviceIndex

        sizes = f"an index of {n} items of {d} dimensions"
        with arrays.stream_of(items, bias), arrays.current(self._items), cuda.room_for(sizes):
            self._card = DeviceIndex.pack(
                arrays.namespace(self._items),
                self._items,
                self._dtype,
                self.metric,
                self._bias,
                self.precision,
            )

    # ---- what it is -------------------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, int]:
        """(N, d)."""
        return self._items.shape

    @property
    def nbytes(self) -> int:
        """Bytes held beside the caller's items."""
        if self._device != arrays.CPU:
            return self._card.nbytes
        held = [self._order, self._codes, self._meta, self._beta, self._rest, self._special, self._means]
        held += [] if self._turn is None else [self._turn.matrix]
        return sum(a.nbytes for a in held if a is not None)

    def __len__(self) -> int:
        return self._items.shape[0]

    def __repr__(self) -> str:
        n, d = self.shape
        return f"<fastrec.Index: {n} items, d={d}, metric={self.metric!r}, precision={self.precision!r}>"

    @property
    def _has_terms(self) -> bool:
        return self._bias is not None or self.metric == "l2"

    # ---- copies and pickles -----------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the addresses that kernels follow."""
        from fastrec.ranking.storage import VERSION

        return {name: value for name, value in self.__dict__.items() if name != "_packed"} | {
            "_layout": VERSION
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        from fastrec.ranking.storage import VERSION

        layout = state.get("_layout")
        if layout != VERSION:
            raise ValueError(
                f"this index was pickled by another version of fastrec (layout {layout}; this one reads {VERSION}). "
                f"Build it again from its items"
            )
        self.__dict__.update({name: value for name, value in state.items() if name != "_layout"})
        if self._device == arrays.CPU:
            self._items = _walkable(self._items)  # a copied array may lie in memory in another order
            self._packed = self._bind(self._view())

    # ---- packing ----------------------------------------------------------------------------------------------------

    def _view(self) -> _kernels.Items:
        return view(self._items, self._dtype, self.metric, self._bias)

    def _pack(self, workers: int, *, turning: bool) -> None:
        n, d = self._items.shape
        items = self._view()
        norms = np.empty(n)
        looking = self.precision == "int8" and -(-d // 4) * 4 >= LOOKED_AT
        behind = np.empty(n, np.uint16) if looking and self.metric != "cosine" else None
        _kernels.norms(items, norms, _middle(d), behind, workers)
        infinite, nan = np.isinf(norms), np.isnan(norms)
        if self._bias is not None:
            infinite |= np.isinf(self._bias)
            nan |= np.isnan(self._bias)
        # An infinity meets a NaN in the float64 sum of squares as NaN; such an item can only score NaN.
        self._special = np.flatnonzero(infinite & ~nan).astype(np.uint32)
        finite = ~(infinite | nan)
        self._exponent = self._unit(norms[finite])
        by_norm = np.flatnonzero(finite)
        # compared in item units, where no norm overflows a float32
        lengths = (
            np.ldexp(norms[by_norm], -self._exponent) if self.metric != "cosine" else np.ones(len(by_norm))
        )
        lengths = lengths.astype(np.float32)
        alike = _nearly_equal(lengths)

        def read(rows: np.ndarray) -> np.ndarray:
            """Items of length one."""
            some = float32_matrix(self._items[rows], self._dtype)
            with np.errstate(divide="ignore", over="ignore"):
                shorter = np.minimum(1.0 / norms[rows], np.finfo(np.float32).max).astype(np.float32)
            some *= shorter[:, None]
            return some

        self._turn = self._find_turn(by_norm, read) if alike and turning else None
        shuffled = alike and self._turn is None
        if self._turn is not None:
            by_norm = turn.order(self._turn, by_norm, read)
        elif shuffled:
            # a stranger's order may be clustered; at random, every stretch is a fair sample of all
            np.random.default_rng(n).shuffle(by_norm)
        else:
            by_norm = _descending(lengths, by_norm, None if behind is None else behind[by_norm])
        panels = -(-len(by_norm) // PANEL)
        self._order = np.full(panels * PANEL, 0xFFFFFFFF, np.uint32)
        self._order[: len(by_norm)] = by_norm
        self._codes = (
            np.empty(panels * PANEL * 4 * (-(-d // 4)), np.uint8) if self.precision == "int8" else None
        )
        self._meta = np.zeros((panels + 1, META), np.float32)
        self._beta = np.empty(panels * PANEL, np.float32) if self._has_terms else None
        # norms nearly equal, thresholds never come close enough to them for looks to end anything, unless turned
        looked_at = self._turn is not None or (looking and not shuffled)
        self._rest = np.empty(panels * self._record(), np.float32) if looked_at else None
        self._means = None if self._turn is None else np.zeros(self._turn.means(panels), np.float32)
        self._packed = self._bind(items)
        _kernels.pack(
            self._packed, self._codes, self._meta.reshape(-1), self._beta, self._rest, self._means, workers
        )
        if panels:
            for source, tail in ((3, 5), (2, 7)):  # the largest from each panel on
                self._meta[:panels, tail] = np.maximum.accumulate(self._meta[:panels, source][::-1])[::-1]
            self._meta[panels, :3] = self._meta[:panels, 4].max(), self._meta[:panels, 2].max(), shuffled

    def _upright(self) -> Index:
        """This index, packed again where its items are turned, so that they are not: what cards take."""
        if self._turn is None:
            return self
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._pack(_threads.resolve(None), turning=False)
        return other

    def _places(self) -> tuple[int, ...]:
        """Groups of four dimensions after which a search may look whether a panel still matters."""
        return self._turn.stages if self._turn is not None else _places(self._items.shape[1])

    def _record(self) -> int:
        """Floats of a panel's record of places: kernels/cpu/ranking_types.h."""
        return len(self._places()) if self._turn is None else TURNED

    def _bind(self, items: _kernels.Items) -> _kernels.Packed:
        matrix, error = (None, 0.0) if self._turn is None else (self._turn.matrix, self._turn.error)
        return _kernels.Packed(
            items,
            self._order,
            self._codes,
            self._meta.reshape(-1),
            self._beta,
            self._places(),
            self._rest,
            matrix,
            error,
            self._means,
            self._special,
            self._exponent,
        )

    def _find_turn(self, rows: np.ndarray, read: Callable[[np.ndarray], np.ndarray]) -> turn.Turn | None:
        """The axes into which items are turned before they are packed, where that pays."""
        d = self._items.shape[1]
        fits = self.precision == "int8" and turn.LEAST_DIM <= d <= turn.MOST_DIM
        # A bias decides with the direction: clusters would not tell where the best are.
        if not fits or self._bias is not None or len(rows) < turn.ITEMS_A_DIM * d:
            return None
        sample = np.random.default_rng(len(rows)).choice(rows, min(turn.SAMPLE, len(rows)), replace=False)
        return turn.find(read(np.sort(sample)))

    def _unit(self, norms: np.ndarray) -> int:
        """The power of two that item values are divided by, so that no norm and no additive term exceeds one."""
        if self.metric == "cosine":
            return 0
        _, exponent = math.frexp(float(norms.max(initial=0.0)))
        if self._bias is not None:
            finite = np.abs(self._bias[np.isfinite(self._bias)]).max(initial=0.0)
            _, of_bias = math.frexp(float(finite))
            exponent = max(exponent, of_bias if self.metric == "dot" else -(-of_bias // 2))
        return exponent

    # ---- searching --------------------------------------------------------------------------------------------------

    def topk(
        self,
        queries: Any,
        k: int = 10,
        exclude: Any = None,
        candidates: Any = None,
        min_score: float | None = None,
        threads: int | None = None,
        out: Any = None,
    ) -> TopK:
        """The ``k`` best items of each query: score descending, then row position ascending.

        Parameters
        ----------
        queries : (Q, d) array
            Query vectors, on the items' device; converted to float32.  Q = 0 is legal.
        k : int
            Items wanted, at least 1.  It may exceed N: rows are filled up with -1 and -inf.
        exclude : CSR of shape (Q, N), or (indptr, indices), optional
            Items never returned for a query, not even to fill its row.  Stored entries count, whatever their value.
            Indices are row positions, sorted for you where they are not.
        candidates : (C,) array, or CSR of shape (Q, N), or (indptr, indices), optional
            The only items considered: one list of row positions for all queries, or one list a query.
        min_score : float, optional
            Items that score less are not returned.
        threads : int, optional
            Threads to use; the result does not depend on it.
        out : (ids, scores), optional
            C-contiguous (Q, k) int64 and float32 arrays to fill with rows and scores.

        Returns
        -------
        TopK
            ``.ids`` (Q, k) int64 (or labels), ``.scores`` (Q, k) float32.  NaN scores are never returned; a query
            with a NaN gets an empty row.

        Notes
        -----
        Cost: at most O(Q N d) byte operations, less where norms fall and the scan stops early, plus O(d) for each of
        the few items that survive it.  Memory: the output, and at most 64 MB; never a (Q, N) matrix.

        On a card a search may be captured in a CUDA graph, into ``out``, once the same search has run.  Its scratch
        lies where CuPy's pool put it, so that both need a pool of their own (``cupy.cuda.using_allocator``) that lives
        as long as the graph.  What is wrong with ``exclude`` there cannot be raised while the graph runs: rows are -1
        and scores NaN then, and lists out of order are wrong, too.  ``candidates`` there are refused.
        """
        if self._device != arrays.CPU:
            with arrays.stream_of(queries):
                return self._topk_on_card(queries, k, exclude, candidates, min_score, out)
        queries, k, banned, floor = self._checked(queries, k, exclude, min_score)
        workers = _threads.resolve(threads)
        rows, scores = outputs(out, (len(queries), k), self._device, queries, self._items)
        if candidates is not None:
            self._among(queries, candidates, banned, floor, rows, scores, workers)
        elif banned is not None and len(banned[1]) > _NEARLY_ALL * max(1, len(queries) * len(self)):
            self._outside(queries, banned, floor, rows, scores, workers)
        else:
            self._scan(queries, k, banned, floor, rows, scores, workers)
        return TopK(rows, scores, self._labels)

    def _topk_on_card(
        self, queries: Any, k: int, exclude: Any, candidates: Any, min_score: float | None, out: Any
    ) -> TopK:
        from fastrec._core import cuda
        from fastrec.ranking import device, device_lists

        n, d = self.shape
        queries = checks.matrix(queries, "queries", columns=d, like=f"to match `items` {self.shape}")
        if arrays.device(queries) != self._device:
            raise TypeError(
                f"`queries` must be on {self._device} like the index; got {arrays.device(queries)}. fastrec never "
                f"copies between devices"
            )
        k, floor = checks.integer(k, "k", low=1), _lowest(min_score)
        if min(k, n) > device.MOST_K:
            raise ValueError(f"`k` may be at most {device.MOST_K} on a GPU; got {k}")
        with cuda.on(queries) as xp:
            banned: tuple[Any, Any] | None = None
            settle = None
            if exclude is not None:
                banned, settle = device_lists.csr(
                    xp, exclude, "exclude", queries=len(queries), items=n, device=self._device
                )
            rows, scores = outputs(out, (len(queries), k), self._device)
            if candidates is None:
                self._card.topk(xp, queries, banned, floor, rows, scores)
                if settle is not None:  # after the launches, so that the card does not wait for the host
                    right = settle(rows, scores)[:2]
                    if banned is not None and right[1] is not banned[1]:
                        self._card.topk(xp, queries, right, floor, rows, scores)
                return TopK(rows, scores, self._labels)
            if settle is not None:
                banned = settle()[:2]
            if _is_per_query(candidates):
                _, settle = device_lists.csr(
                    xp, candidates, "candidates", queries=len(queries), items=n, device=self._device
                )
                *chosen, longest = settle()
            else:
                listed = device_lists.shared(xp, candidates, "candidates", items=n, device=self._device)
                chosen, longest = [None, listed], len(listed)
            self._card.among(xp, queries, tuple(chosen), longest, banned, floor, rows, scores)
        return TopK(rows, scores, self._labels)

    def to(self, device: str | int | list[str | int]) -> Any:
        """This index on another device: ``"cpu"``, ``"cuda"`` (the current card), ``"cuda:1"`` or a card's number.

        The packed copy travels as it is, so nothing is packed again on the way to a card, but for items that were
        turned (see Notes of the class).  Where the items and their codes do not fit in the card's free memory they
        stay on the host (mapped from the file, if the index was loaded that way) and every search streams them to the
        card a stretch at a time; answers are the same.  The index is returned itself where it is there already.  From
        a card to the host, and from card to card, items are copied and packed again.

        A list of cards shares the items out: each card gets a stretch of the rows, ``topk`` searches all of them and
        merges (:class:`fastrec.ranking.device_index.Shards`).
        """
        from fastrec.ranking.device_index import moved, shared_out

        if isinstance(device, (list, tuple)):
            return shared_out(self, list(device))
        return moved(self, device)

    def _checked(
        self, queries: Any, k: int, exclude: Any, min_score: float | None
    ) -> tuple[Any, int, tuple[np.ndarray, np.ndarray] | None, float]:
        """Queries, k, exclusions and the lowest float32 score allowed, validated."""
        n, d = self.shape
        queries = checks.matrix(queries, "queries", columns=d, like=f"to match `items` {self.shape}")
        arrays.common_device(items=self._items, queries=queries)
        k = checks.integer(k, "k", low=1)
        floor = _lowest(min_score)
        banned = None if exclude is None else lists.csr(exclude, "exclude", queries=len(queries), items=n)
        return queries, k, banned, floor

    def _scan(
        self,
        queries: np.ndarray,
        k: int,
        banned: tuple[np.ndarray, np.ndarray] | None,
        floor: float,
        rows: np.ndarray,
        scores: np.ndarray,
        workers: int,
        stats: np.ndarray | None = None,
    ) -> None:
        q, n = len(queries), len(self)
        wanted = k
        k = max(1, min(k, n))  # what lies beyond N is padding
        group, segments = self._grid(q, k, workers)
        whole = segments == 1 and k == wanted
        found_rows = rows[:, None, :] if whole else np.empty((q, segments, k), np.int64)
        found_scores = scores[:, None, :] if whole else np.empty((q, segments, k), np.float32)
        shared = np.full(q, -np.inf, np.float32) if segments > 1 else None
        indptr, indices = banned if banned is not None else (None, None)
        _kernels.scan(
            self._packed, queries, k, group, segments, indptr, indices, self.precision == "int8", floor, shared,
            found_rows, found_scores, stats, workers,
        )  # fmt: skip
        if whole:
            return
        if segments > 1:
            _join(found_rows.reshape(q, segments * k), found_scores.reshape(q, segments * k), rows, scores)
            return
        rows[:, :k], scores[:, :k] = found_rows[:, 0], found_scores[:, 0]
        rows[:, k:], scores[:, k:] = -1, -np.inf

    def _grid(self, queries: int, k: int, workers: int) -> tuple[int, int]:
        """Queries of a group, and shares of the items: enough tasks for every thread, none of them tiny.

        Each share has its own k best, which are joined at the end: no more shares than their memory allows.
        """
        panels = len(self._order) // PANEL
        queries = max(1, queries)
        if queries >= 24 * workers:
            # As many tasks for every thread, and as large, so that none waits for another.  Turned, queries gain by
            # company.
            least = max(2 if self._turn is None else 1, -(-queries // (_GROUP * workers)))
            sizes = (
                (rounds, -(-queries // (rounds * workers * 4)) * 4) for rounds in range(least, 2 * least)
            )
            return min(sizes, key=lambda size: size[0] * _tiles(size[1]))[1], 1
        groups = max(1, min(workers, queries // 12))
        group = -(-queries // groups)
        if workers == 1 or panels < 64:
            return group, 1
        # for each thread; turned, every share turns its queries and looks at their seeds
        each = 2 if self._turn is None else 1
        return group, max(1, min(-(-each * workers // groups), panels // 32, _SHARE_ENTRIES // (queries * k)))

    def _among(
        self,
        queries: np.ndarray,
        candidates: Any,
        banned: tuple[np.ndarray, np.ndarray] | None,
        floor: float,
        rows: np.ndarray,
        scores: np.ndarray,
        workers: int,
    ) -> None:
        q, n = len(queries), len(self)
        if _is_per_query(candidates):
            indptr, indices = lists.csr(candidates, "candidates", queries=q, items=n)
        else:
            chosen = lists.shared(candidates, "candidates", items=n)
            many = q * len(chosen) > _LISTED
            if len(chosen) >= 256 and (q >= 32 or (q >= 4 and many)):  # worth packing
                self._among_packed(queries, chosen, banned, floor, rows, scores, workers)
                return
            if many and q > 1:
                for i in range(q):
                    one = slice(i, i + 1)
                    own = None if banned is None else lists.of_query(banned, i)
                    self._among(queries[one], chosen, own, floor, rows[one], scores[one], workers)
                return
            indptr, indices = lists.repeated(chosen, q)
        out, barred = banned if banned is not None else (None, None)
        _kernels.candidates(
            self._view(), queries, indptr, indices, out, barred, floor, rows, scores, workers,
        )  # fmt: skip

    def _outside(
        self,
        queries: np.ndarray,
        banned: tuple[np.ndarray, np.ndarray],
        floor: float,
        rows: np.ndarray,
        scores: np.ndarray,
        workers: int,
    ) -> None:
        """Search what is not excluded as candidates, where that is little: a screen would let in what is excluded."""
        for begin, end, indptr, indices in lists.complements(banned, len(self), _LISTED):
            _kernels.candidates(
                self._view(), queries[begin:end], indptr, indices, None, None, floor, rows[begin:end],
                scores[begin:end], workers,
            )  # fmt: skip

    def _among_packed(
        self,
        queries: np.ndarray,
        chosen: np.ndarray,
        banned: tuple[np.ndarray, np.ndarray] | None,
        floor: float,
        rows: np.ndarray,
        scores: np.ndarray,
        workers: int,
    ) -> None:
        """Search the chosen items alone, packed for the occasion: a block of them at a time, to bound the memory."""
        block = max(1024, _BLOCK_BYTES // max(1, self._items.itemsize * self.shape[1]))
        found_rows, found_scores = rows, scores
        for begin in range(0, len(chosen), block):
            some = chosen[begin : begin + block]
            few = object.__new__(Index)
            few.metric, few.precision, few._device = self.metric, self.precision, self._device
            few._card = None
            few._items, few._dtype = self._items[some], self._dtype
            few._bias = None if self._bias is None else self._bias[some]
            few._pack(workers, turning=False)
            own = None if banned is None else lists.restricted(banned, some)
            few._scan(queries, rows.shape[1], own, floor, found_rows, found_scores, workers)
            found = found_rows >= 0
            found_rows[found] = some[found_rows[found]]
            if begin:
                _merge(found_rows, found_scores, rows, scores)
            elif block < len(chosen):
                found_rows, found_scores = np.empty_like(rows), np.empty_like(scores)

    def reference_topk(
        self,
        queries: Any,
        k: int = 10,
        exclude: Any = None,
        candidates: Any = None,
        min_score: float | None = None,
        out: Any = None,
    ) -> TopK:
        """What :meth:`topk` must return, computed the obvious way, a query at a time, in NumPy or CuPy."""
        queries, k, banned, floor = self._checked(queries, k, exclude, min_score)
        rows, scores = outputs(out, (len(queries), k), self._device, queries, self._items)
        xp, n = arrays.namespace(queries), len(self)
        chosen = None if candidates is None else _candidate_lists(candidates, len(queries), n)
        items = float32_matrix(self._items, self._dtype)
        for q in range(len(queries)):
            score = _canonical_scores(xp, queries[q][None, :], items, self.metric, self._bias)[None, :]
            allowed = score >= xp.float32(floor)
            if chosen is not None:
                listed = xp.zeros(n, bool)
                listed[xp.asarray(chosen[1][chosen[0][q] : chosen[0][q + 1]])] = True
                allowed &= listed
            if banned is not None:
                allowed[0, xp.asarray(banned[1][banned[0][q] : banned[0][q + 1]])] = False
            rows[q : q + 1], scores[q : q + 1] = order.best(xp, score, xp.arange(n), k, allowed)
        return TopK(rows, scores, self._labels)

    def explain(
        self,
        queries: Any,
        k: int = 10,
        exclude: Any = None,
        min_score: float | None = None,
        threads: int | None = None,
    ) -> dict[str, Any]:
        """How a search went: what to read when it is slower than expected.

        Returns a dictionary: ``precision``, ``isa``, ``turned`` (whether the items are: see Notes of the class),
        ``threads``, ``queries``, ``panels`` (of 32 items, all of them), ``group`` and ``segments`` (how the work was
        split), and over the queries ``screened`` (mean share of the panels looked at; the rest was skipped because
        norms had fallen; where items are turned, some are looked at twice), ``survivors`` and ``rescored`` (mean number
        of items a query that passed the screen, and that were scored canonically), ``fallback`` (queries whose int8
        bounds were too loose and that used the float screen), ``second_pass`` (queries whose threshold was guessed too
        high from a sample), ``exhaustive`` (queries with infinities, scored against every item), ``zero`` and ``empty``
        (zero queries, queries with a NaN).
        """
        from fastrec._core.isa import ACTIVE

        queries, k, banned, floor = self._checked(queries, k, exclude, min_score)
        if self._device != arrays.CPU:
            raise TypeError(
                f"explain() describes the CPU kernels; this index is on {self._device}. Give it NumPy items"
            )
        workers = _threads.resolve(threads)
        rows, scores = outputs(None, (len(queries), k), self._device)
        stats = np.zeros((max(1, len(queries)), 4), np.int64)
        self._scan(queries, k, banned, floor, rows, scores, workers, stats)
        stats = stats[: len(queries)]
        group, segments = self._grid(len(queries), max(1, min(k, len(self))), workers)
        panels = len(self._order) // PANEL
        searched = stats[(stats[:, 3] & 0b11100) == 0]

        def mean(column: np.ndarray) -> float:
            return float(column.mean()) if len(column) else 0.0

        return {
            "precision": self.precision,
            "isa": ACTIVE,
            "turned": self._turn is not None,
            "threads": workers,
            "queries": len(queries),
            "panels": panels,
            "group": group,
            "segments": segments,
            "screened": mean(searched[:, 0]) / panels if panels else 0.0,
            "survivors": mean(searched[:, 1]),
            "rescored": mean(searched[:, 2]),
            "fallback": int((stats[:, 3] & 1).sum()),
            "second_pass": int((stats[:, 3] >> 5 & 1).sum()),
            "zero": int((stats[:, 3] >> 2 & 1).sum()),
            "exhaustive": int((stats[:, 3] >> 3 & 1).sum()),
            "empty": int((stats[:, 3] >> 4 & 1).sum()),
        }

    # ---- files ------------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write items, packed copy, bias and labels to one file; see :mod:`fastrec.ranking.storage`."""
        from fastrec.ranking import storage

        storage.save(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, mmap: bool = True, device: str | int = "cpu") -> Index:
        """Read an index written by :meth:`save`, and bring it to ``device`` (:meth:`to`).

        With ``mmap=True`` the arrays are mapped, not read: pages come in as searches touch them and are shared between
        processes.  The checksums are verified either way, which reads the file once.  A truncated, corrupted or
        foreign file, or one of another version, is a ``ValueError``.
        """
        from fastrec.ranking import storage

        found = storage.load(cls, path, mmap=mmap)
        return found if device == "cpu" else found.to(device)


def _tiles(queries: int) -> float:
    """What a group of queries, a multiple of four, costs in tiles of twelve: a smaller tile takes longer a query."""
    return queries // 12 + (0.0, 0.55, 0.8)[queries % 12 // 4]


def view(items: np.ndarray, dtype: str, metric: str, bias: np.ndarray | None) -> _kernels.Items:
    """What kernels need to know of an item matrix that `item_matrix` returned."""
    n, d = items.shape
    stride = items.strides[0] // items.itemsize if n > 1 else d
    address = items.__array_interface__["data"][0]
    return _kernels.Items(address, n, d, stride, _DTYPES[dtype], METRICS.index(metric), bias, items)


def item_matrix(items: Any) -> tuple[Any, str]:
    """The items as a 2-D array that kernels can walk, and the name of its dtype."""
    array = bfloat16_bits(items)
    if array is not None:
        name = "bfloat16"
    else:
        array = items if getattr(items, "dtype", None) == BFLOAT16 else checks.real(items, "items")
        if array.dtype.name == "bfloat16" or array.dtype == BFLOAT16:
            array, name = array.view(np.uint16), "bfloat16"
        else:
            name = array.dtype.name if array.dtype.name in _DTYPES and array.dtype.isnative else "float32"
    if array.ndim != 2:
        hint = " Reshape one vector with `x[None, :]`." if array.ndim == 1 else ""
        raise ValueError(f"`items` must have shape (N, d); got {array.shape}.{hint}")
    if name != "float32" and array.shape[1] > MAX_DIM_INT8:
        array, name = float32_matrix(array, name), "float32"
    if name == "float32" and array.dtype != np.float32:
        array = array.astype(np.float32)
    elif not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if not isinstance(array, np.ndarray):
        with arrays.current(array):
            return arrays.namespace(array).ascontiguousarray(array), name
    return _walkable(array), name


def _walkable(array: np.ndarray) -> np.ndarray:
    """The array where kernels can walk it: rows may be apart, even in reverse; a row's elements are adjacent."""
    rows_fit = array.shape[0] <= 1 or array.strides[0] % array.itemsize == 0
    adjacent = array.shape[1] <= 1 or array.strides[1] == array.itemsize
    return array if rows_fit and adjacent and array.flags.aligned else np.ascontiguousarray(array)


def float32_matrix(array: Any, name: str) -> Any:
    """What `item_matrix` returned, as float32: itself where it already is."""
    if name == "bfloat16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array if name == "float32" else array.astype(np.float32)


def _join(found_rows: np.ndarray, found_scores: np.ndarray, rows: np.ndarray, scores: np.ndarray) -> None:
    """The best of each line of ``found`` (Q, any) into ``rows`` and ``scores`` (Q, k), under the public order."""
    width = min(rows.shape[1], found_rows.shape[1])
    rows[:, width:], scores[:, width:] = -1, -np.inf
    step = max(1, _JOIN_ENTRIES // max(1, found_rows.shape[1]))
    for begin in range(0, len(rows), step):
        some = slice(begin, begin + step)
        row, score = found_rows[some], found_scores[some]
        place = np.lexsort((row, -score, row < 0), axis=1)[:, :width]
        rows[some, :width] = np.take_along_axis(row, place, axis=1)
        scores[some, :width] = np.take_along_axis(score, place, axis=1)


def _merge(found_rows: np.ndarray, found_scores: np.ndarray, rows: np.ndarray, scores: np.ndarray) -> None:
    """Bring what was found into ``rows`` and ``scores``, all (Q, k)."""
    step = max(1, _JOIN_ENTRIES // max(1, rows.shape[1]))
    for begin in range(0, len(rows), step):
        some = slice(begin, begin + step)
        both_rows = np.concatenate([rows[some], found_rows[some]], axis=1)
        both_scores = np.concatenate([scores[some], found_scores[some]], axis=1)
        _join(both_rows, both_scores, rows[some], scores[some])


def bfloat16_bits(items: Any) -> np.ndarray | None:
    """The bits of a torch bfloat16 matrix, which DLPack cannot hand to NumPy or CuPy as what it is."""
    if str(getattr(items, "dtype", "")) != "torch.bfloat16":
        return None
    import torch

    bits = items.detach().view(torch.uint16)
    return bits.numpy() if items.device.type == "cpu" else arrays.adopt(bits, "items")


def _is_per_query(candidates: Any) -> bool:
    return hasattr(candidates, "tocsr") or (isinstance(candidates, tuple) and len(candidates) == 2)


def _candidate_lists(candidates: Any, queries: int, items: int) -> tuple[np.ndarray, np.ndarray]:
    if _is_per_query(candidates):
        return lists.csr(candidates, "candidates", queries=queries, items=items)
    return lists.repeated(lists.shared(candidates, "candidates", items=items), queries)


def _labels(ids: Any, n: int) -> np.ndarray:
    """One label an item: integers within int64, or strings.  They need not differ."""
    labels: np.ndarray = arrays.adopt(ids, "ids")
    if labels.shape != (n,):
        raise ValueError(f"`ids` must have one label per item, shape ({n},); got {labels.shape}")
    if labels.dtype.kind not in "iuUSOT":
        raise TypeError(f"`ids` must be integers or strings; got dtype {labels.dtype}")
    if labels.dtype.kind == "u" and labels.max(initial=0) > np.iinfo(np.int64).max:
        raise ValueError(f"`ids` must fit in int64, as TopK.ids returns them; got {labels.max()}")
    # NumPy makes strings of a list that mixes them with numbers, and an object array holds anything
    values = ids if isinstance(ids, (list, tuple)) else labels.tolist() if labels.dtype.kind == "O" else []
    kinds = {int if isinstance(value, (int, np.integer)) else type(value) for value in values}
    texts = {kind for kind in kinds if issubclass(kind, (str, bytes))}
    if kinds - texts - {int} or (texts and len(kinds) > 1) or bool in set(map(type, values)):
        raise TypeError(
            f"`ids` must be all integers or all strings; got {', '.join(sorted({type(v).__name__ for v in values}))}"
        )
    return labels


def _choose(precision: str, d: int, terms: bool) -> str:
    if d == 0 or d > MAX_DIM_INT8:
        return "float32"
    if precision != "auto":
        return precision
    copy = 4 * (-(-d // 4)) + 4 + META * 4 / PANEL + 4 * terms
    return "int8" if copy <= COPY_LIMIT * 4 * d else "float32"


def _places(d: int) -> tuple[int, ...]:
    """Groups of four of ``d`` dimensions after which a search may look, where items are not turned."""
    quads = -(-d // 4)
    step = max(2, -(-quads // (PLACES + 1)))
    return tuple(range(step, quads, step))


def _middle(d: int) -> int:
    """Dimensions before the middle one of these places."""
    places = _places(d)
    return 4 * places[len(places) // 2] if places else d


def _descending(lengths: np.ndarray, rows: np.ndarray, behind: np.ndarray | None) -> np.ndarray:
    """Rows by length, descending, then by row.

    With ``behind``, the share of each that lies behind the middle place to look at, lengths are taken as equal that
    agree to a 128th part or so, and those come by that share, upwards and downwards in turns: a look ends a panel where
    it ends all 32 items of it.
    """
    bits = ~lengths.view(np.uint32)  # of a float32 that is not negative: in its order
    if behind is None:
        keys = bits.astype(np.uint64)
    else:
        step = bits >> np.uint32(16)
        keys = step.astype(np.uint64) << np.uint64(16)
        keys |= np.where(step & 1, ~behind, behind)
    keys <<= np.uint64(32)
    keys |= rows.astype(np.uint64)
    keys.sort()  # of integers: an order of magnitude faster than argsort
    return keys & np.uint64(0xFFFFFFFF)


def _nearly_equal(norms: np.ndarray) -> bool:
    """Whether norms are too alike for a scan by norm to stop early: all but a tenth lie within a factor of two."""
    if len(norms) < 2 * PANEL:
        return False
    low = np.partition(norms, len(norms) // 10)[len(norms) // 10]
    return bool(norms.max() <= 2 * low)


def _lowest(min_score: Any) -> float:
    """The smallest float32 that is not below ``min_score``, which may be infinite; ``None`` is no limit."""
    if min_score is None:
        return -math.inf
    x = min_score
    if not (isinstance(x, (float, np.floating)) and np.isinf(x)):
        x = checks.number(x, "min_score")
    with np.errstate(over="ignore"):
        y = np.float32(x)
    return float(np.nextafter(y, np.float32(np.inf)) if float(y) < x else y)


def outputs(out: Any, shape: tuple[int, int], device: str, *inputs: Any) -> tuple[Any, Any]:
    """The arrays to fill: new ones, or those of ``out``, which may share no memory with each other or the inputs."""
    if out is None:
        try:
            if device == arrays.CPU:
                return np.empty(shape, np.int64), np.empty(shape, np.float32)
            from fastrec._core import cuda

            with cuda.on(int(device.partition(":")[2])) as xp:
                return xp.empty(shape, xp.int64), xp.empty(shape, xp.float32)
        except (MemoryError, ValueError) as error:
            raise MemoryError(
                f"`k` = {shape[1]} for {shape[0]} queries needs {12 * shape[0] * shape[1]} bytes of output: {error}"
            ) from None
    try:
        rows, scores = (out.rows, out.scores) if isinstance(out, TopK) else out
    except (TypeError, ValueError):
        raise TypeError(f"`out` must be a pair (ids, scores); got {type(out).__name__}") from None
    rows = checks.output(rows, "out[0]", shape=shape, dtype=np.int64, device=device)
    scores = checks.output(scores, "out[1]", shape=shape, dtype=np.float32, device=device)
    shared = arrays.namespace(rows).may_share_memory
    for name, array, others in (("out[0]", rows, (scores, *inputs)), ("out[1]", scores, inputs)):
        if any(shared(array, other) for other in others):
            raise ValueError(
                f"`{name}` shares memory with an input or with the other output; pass arrays of its own"
            )
    return rows, scores
