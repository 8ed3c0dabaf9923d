"""An index on a card: packed there or brought there, searched in stretches of items, answered to the bit.

A search keeps, for each query, a threshold and a buffer of the items that may still be among its k best, both on the
card.  Each stretch of items is screened against the thresholds (`_screen`: int8 or bfloat16 on tensor cores; or a
product of floats by cuBLAS), after which one block a query raises its threshold and drops what has fallen below
(``fr_tighten``).
Stretches grow so that a few times k items survive each.  What is left is scored canonically, and only canonical scores
decide: see docs/adr/0011-int8-screen.md and docs/adr/0012-cuda-search.md.  Nothing waits for the card: whatever can go
wrong (a buffer that overflows, bounds too wide for the codes) is mended there by the block that meets it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from fastrec._core import arrays, checks, cuda
from fastrec._core.threads import get_threads
from fastrec.ranking import device, lists
from fastrec.ranking.canonical import METRICS
from fastrec.ranking.device import ITEM_CODES, THREADS, width
from fastrec.ranking.merge import merge_topk
from fastrec.ranking.result import TopK

PANEL, META = 32, 8
STATE = 80  # bytes of fr_query (kernels/cuda/query.cuh)
SMALL = 65_536  # items that are scored canonically, all of them, sooner than they are screened,
_CANONICAL = 1 << 27  # and how many products that may take: bench/results/gpu.md
MAX_DIM = 12_288  # for the codes of eight queries in shared memory; beyond it, the float screen
MAX_DIM_HALF = 6_144  # the same for bfloat16
LIMIT_DIM = 16_384  # the bounds of the proof; beyond it, everything is scored canonically
LOOSE = 0.17  # residual over norm, times the root of d: beyond it int8 is left for bfloat16, or for floats
_SHARED = 96 << 10  # bytes of shared memory for the codes of a block's queries, where the card has as much
_WARPS = {
    8: 16,
    4: 16,
    2: 32,
    1: 32,
}  # of the screen on a multiprocessor, by registers, for each width of a block
_FIRST = 1024  # positions of the first stretch
FEW = 32  # queries whose stretches grow faster, and buffers with them, where they take rounds
_FIRST_OF_FEW = 8192  # the first stretch of few queries, and the fewest items that give seeds
MOST_GROWTH = 36  # times all items before it that a stretch of few queries takes at most
SEEDED = 1024  # queries, at most, that learn thresholds from seeds: bench/results/gpu.md
_SEEDS = 128  # items whose panels' best are looked at, for each of the k, before one stretch of everything
_BALANCE = 8.0  # times sqrt(k N) items give seeds: it weighs a seed against a survivor
_SURVIVORS = 16  # times those of exact scores have room after seeds: bounds make up to ten of one
AT_ONCE = 4  # queries, at most, whose last survivors are all scored: a block each drops some no sooner
_SEEDING_TILES = 4  # that a block takes at most while it looks for seeds (kernels/cuda/rank_screen.cu)
ALONE = 128  # queries, at most, whose blocks each have a multiprocessor of a large card to themselves:
_THREADS_ALONE = 512  # such a block may be wide
_QUERIES = 4096  # of a pass over the items
_MEMORY = 512 << 20  # bytes of scratch of a search
_PRODUCT = 32 << 20  # bytes of a product of floats: what stays in the cache of a large card
_STAGE = 64 << 20  # bytes of items and codes that travel at a time, where they do not all fit
_BLOCKS = 4224
_GROUP = 65_535  # of blocks in y
_MIDDLE, _LAST, _OF_SEEDS = 0, 1, 2  # stages of fr_tighten (kernels/cuda/rank_query.cu)
_FILL = 528  # blocks of one query that keep a large card busy
BFLOAT16_TYPE = np.dtype([("bfloat16", np.uint16)])  # how bfloat16 bits travel (fastrec.ranking.index)


class DeviceIndex:
    """Packed items on the current device.  Made by `pack` (from items that are there) or `from_host`."""

    def __init__(
        self, device_number: int, metric: str, dtype: str, shape: tuple[int, int], exponent: int
    ) -> None:
        self.device, self.metric, self.dtype, self.shape = device_number, metric, dtype, shape
        self.exponent = exponent
        self.items: Any = None  # (N, d), halves as their bits; None where they are streamed
        self.host: tuple[Any, Any, Any] | None = (
            None  # items, codes, order in host memory, where they are streamed
        )
        self.bias: Any = None
        self.order: Any = None
        self.codes: Any = None
        self.half = False  # whether the codes are bfloat16 and not int8
        self.meta: Any = None
        self.beta: Any = None
        self.special: Any = None

    @property
    def panels(self) -> int:
        return len(self.order) // PANEL

    @property
    def steps(self) -> int:
        """Products of 32 dimensions, or of 16 in bfloat16: 32 bytes of a query or an item."""
        return -(-self.shape[1] // (16 if self.half else 32))

    @property
    def coded(self) -> bool:
        return self.codes is not None or (self.host is not None and self.host[1] is not None)

    @property
    def nbytes(self) -> int:
        """Bytes on the card beside the caller's items."""
        held = (self.order, self.codes, self.meta, self.beta, self.special)
        return sum(a.nbytes for a in held if a is not None)

    # ---- building ---------------------------------------------------------------------------------------------------

    @classmethod
    def pack(cls, xp: Any, items: Any, dtype: str, metric: str, bias: Any, precision: str) -> DeviceIndex:
        """Pack items that are on the card.  A few numbers come back to the host: how many are finite, their unit."""
        n, d = items.shape
        self = cls(items.device.id, metric, dtype, (n, d), 0)
        self.items = items if dtype == "float32" else items.view(xp.uint16)
        self.bias = bias
        norms = xp.empty(n, xp.float64)
        blocks = min(_BLOCKS, -(-n // (THREADS // 8)))
        self._kernel("rank_pack.cu", "fr_norms")(
            blocks, THREADS, self.items, cuda.i64(n), cuda.i64(d), cuda.i64(d), norms
        )
        infinite, nan = xp.isinf(norms), xp.isnan(norms)
        if bias is not None:
            infinite |= xp.isinf(bias)
            nan |= xp.isnan(bias)
        self.special = xp.flatnonzero(infinite & ~nan).astype(xp.uint32)
        by_norm = xp.flatnonzero(~(infinite | nan))
        count = len(by_norm)
        self.exponent = self._unit(xp, norms[by_norm], bias)
        if metric == "cosine" or count == 0:
            lengths = xp.ones(count, xp.float32)
        else:
            lengths = (norms[by_norm] * math.ldexp(1.0, -self.exponent)).astype(xp.float32)
        shuffled = _nearly_equal(xp, lengths)
        if shuffled:  # as on the CPU, and in the same order
            places = np.arange(count)
            np.random.default_rng(n).shuffle(places)
            by_norm = by_norm[xp.asarray(places)]
        else:
            by_norm = by_norm[xp.argsort(-lengths, kind="stable")]
        panels = -(-count // PANEL)
        self.order = xp.full(panels * PANEL, 0xFFFFFFFF, xp.uint32)
        self.order[:count] = by_norm.astype(xp.uint32)
        if precision == "int8" and d > 0 and self._fits(d, False):
            self.codes = xp.empty((panels, self.steps, 2, 32, 16), xp.int8)
        self.meta = xp.zeros((panels + 1, META), xp.float32)
        if bias is not None or metric == "l2":
            self.beta = xp.empty(panels * PANEL, xp.float32)
        self._pack(shuffled)
        if self.codes is not None and _is_loose(self.meta.get(), d):
            self._pack_halves(xp, shuffled)
        cuda.settle()
        return self

    def _pack(self, shuffled: bool) -> None:
        """Fill codes, `meta` and `beta` from items that are there, in their order."""
        d = self.shape[1]
        panels, integers = self.panels, not self.half
        self._kernel("rank_pack.cu", "fr_pack")(
            min(_BLOCKS, -(-panels // (THREADS // 32))), THREADS, self.items, cuda.i64(d), cuda.i64(d),
            cuda.i32(METRICS.index(self.metric)), self.bias, self.order, cuda.i32(self.exponent), cuda.i64(0),
            cuda.i64(panels), cuda.i64(self.steps), self.codes if integers else None,
            None if integers else self.codes, self.meta, self.beta,
        )  # fmt: skip
        self._kernel("rank_pack.cu", "fr_tails")(
            min(1, panels), THREADS, self.meta, cuda.i64(panels), cuda.f32(shuffled)
        )

    def _pack_halves(self, xp: Any, shuffled: bool) -> None:
        """Codes of bfloat16 in place of int8 that say too little; none, for the float screen, where d is too large."""
        self.codes, self.half = None, self._fits(self.shape[1], True)
        if self.half:
            self.codes = xp.empty((self.panels, self.steps, 2, 32, 8), xp.uint16)
            self._pack(shuffled)

    def _fits(self, d: int, half: bool) -> bool:
        """Whether the codes of eight queries fit in a block's shared memory, beside four warps' own."""
        most, each = (MAX_DIM_HALF, 16) if half else (MAX_DIM, 32)
        return d <= most and -(-d // each) * 256 + 4 * _of_a_warp(1) <= cuda.shared_memory(self.device)[0]

    def _unit(self, xp: Any, norms: Any, bias: Any) -> int:
        """As `Index._unit`."""
        if self.metric == "cosine":
            return 0
        _, exponent = math.frexp(float(norms.max()) if len(norms) else 0.0)
        if bias is not None:
            sizes = xp.abs(bias)
            _, of_bias = math.frexp(float(xp.where(xp.isfinite(sizes), sizes, 0).max()) if len(bias) else 0.0)
            exponent = max(exponent, of_bias if self.metric == "dot" else -(-of_bias // 2))
        return exponent

    @classmethod
    def from_host(cls, xp: Any, number: int, index: Any, stream: bool) -> DeviceIndex:
        """Bring a packed `Index` to the card: all of it, or with ``stream`` all but the items and their codes."""
        self = cls(number, index.metric, index._dtype, index.shape, int(index._exponent))
        self.order, self.meta = xp.asarray(index._order), xp.asarray(index._meta)
        self.special = xp.asarray(index._special)
        self.beta = None if index._beta is None else xp.asarray(index._beta)
        self.bias = None if index._bias is None else xp.asarray(index._bias)
        loose = index._codes is not None and _is_loose(index._meta, index.shape[1])
        codes = index._codes if self._fits(index.shape[1], False) and not loose else None
        bits = index._items if index._dtype == "float32" else index._items.view(np.uint16)
        if stream:
            self.host = (bits, codes, index._order)
            cuda.settle()
            return self
        self.items = xp.asarray(np.ascontiguousarray(bits))
        if codes is not None:
            panels = self.panels
            self.codes = xp.empty((panels, self.steps, 2, 32, 16), xp.int8)
            step = max(1, _STAGE // (PANEL * 32 * self.steps))
            for begin in range(0, panels, step):
                end = min(panels, begin + step)
                some = np.ascontiguousarray(_by_panel(codes, index.shape[1])[begin:end])
                self.codes[begin:end] = self._laid_out(xp, xp.asarray(some))
        elif loose:
            self._pack_halves(xp, bool(index._meta[-1, 2]))
        cuda.settle()
        return self

    def _laid_out(self, xp: Any, some: Any) -> Any:
        """Panels of the CPU's codes, ``[panel][d/4][32][4]`` bytes + 128, laid out as fr_code_at has them."""
        count, groups = some.shape[:2]
        raw = xp.full((count, 8 * self.steps, PANEL, 4), 128, xp.uint8)
        raw[:, :groups] = some
        # [panel][step][half of 32 dimensions][t][half of the items][upper eight][g][4]
        parts = (raw ^ 0x80).reshape(count, self.steps, 2, 4, 2, 2, 8, 4).transpose(0, 1, 4, 6, 3, 2, 5, 7)
        return xp.ascontiguousarray(parts).reshape(count, self.steps, 2, 32, 16).view(xp.int8)

    def _kernel(self, file: str, name: str, threads: int = THREADS) -> cuda.Kernel:
        block = {"FR_BLOCK": threads} if file == "rank_query.cu" else {}
        return cuda.kernel(file, name, FR_ITEM=ITEM_CODES[self.dtype], **block)

    # ---- searching --------------------------------------------------------------------------------------------------

    def topk(
        self, xp: Any, queries: Any, banned: tuple[Any, Any] | None, floor: float, rows: Any, values: Any
    ) -> None:
        """The best of each query into ``rows`` and ``values`` (Q, k): fewer queries at a time where memory is short."""
        n, d = self.shape
        few = n <= SMALL and len(queries) * n * d <= _CANONICAL
        if self.host is None and (few or d > LIMIT_DIM):
            everything = xp.arange(n, dtype=xp.int64)
            device.topk_among(
                xp, queries, self.items, self.dtype, self.metric, self.bias, (None, everything), n, banned, floor, rows,
                values,
            )  # fmt: skip
            return
        most = _QUERIES
        begin = 0
        while begin < len(queries):
            size = min(self._group(rows.shape[1]), most, len(queries) - begin)
            some = slice(begin, begin + size)
            try:
                self._pass(xp, queries[some], begin, banned, floor, rows[some], values[some])
            except Exception as error:
                if not cuda.is_out_of_memory(error):
                    raise
                xp.get_default_memory_pool().free_all_blocks()
                if size == 1:
                    raise MemoryError(
                        f"GPU {self.device} has no room for a search of {n} items of {d} dimensions with "
                        f"k={rows.shape[1]}, even for one query at a time: {error}. Free memory on the card, lower "
                        f"`k`, or split the items and use merge_topk"
                    ) from error
                most = max(1, size // 2)
                continue
            begin += size

    def among(
        self, xp: Any, queries: Any, candidates: tuple[Any, Any], longest: int, banned: tuple[Any, Any] | None,
        floor: float, rows: Any, values: Any,
    ) -> None:  # fmt: skip
        """The best of each query among its candidates, ``(offsets or None, indices)``, ``longest`` a query at most."""
        offsets, indices = candidates
        items, bias, chosen = self.items, self.bias, None
        if (
            self.host is not None
        ):  # bring those that are named, and number them anew: a row keeps its place among them
            chosen = np.unique(indices.get())
            items, bias = self._gathered(xp, chosen), None if bias is None else bias[xp.asarray(chosen)]
            chosen = xp.asarray(chosen)
            indices = xp.searchsorted(chosen, indices)
            if banned is not None:
                banned = tuple(
                    xp.asarray(part)
                    for part in lists.restricted((banned[0].get(), banned[1].get()), chosen.get())
                )
        device.topk_among(
            xp, queries, items, self.dtype, self.metric, bias, (offsets, xp.ascontiguousarray(indices, dtype=xp.int64)),
            longest, banned, floor, rows, values,
        )  # fmt: skip
        if chosen is not None and len(chosen):
            rows[...] = xp.where(rows >= 0, chosen[xp.maximum(rows, 0)], -1)

    def _plan(self, k: int, count: int) -> tuple[int, int, float, int]:
        """For ``k`` of ``count`` queries: positions whose panels give seeds, positions of the first stretch, how many
        times all items before it each later one has, and entries of a query's buffer.

        The survivors of a stretch are about growth times k, or several times as many where bounds are wide, and half
        the buffer is theirs.  Very many queries keep the card busy whatever the number of rounds, and few survivors are
        soonest handled; fewer leave it idle while rounds are launched and a block each raises its threshold.  Where k
        is small beside the items, those learn their threshold from the best of each panel of a sample, which leaves
        one stretch of everything.

        A sample of s items makes k N / s of all N survive that stretch.  What either costs together, a s + b k N / s,
        is least for s in proportion to sqrt(k N); a quarter of the items is the most that pays.
        """
        few = count <= FEW
        first = -(-max(_FIRST_OF_FEW if few else _FIRST, 2 * k) // PANEL) * PANEL
        cap, n = (16 if few else 8) * first, self.panels * PANEL
        if self.coded and self.host is None and count <= SEEDED:
            seeds = max(_FIRST_OF_FEW, _SEEDS * k, min(n / 4, _BALANCE * math.sqrt(k * n)))
            room = max(cap, math.ceil(max(seeds / (PANEL // 2), _SURVIVORS * k * n / seeds)))
            if 4 * seeds <= n and count * self._bytes(k, room) <= _MEMORY:
                return math.ceil(seeds / PANEL) * PANEL, n, 1.0, room
        if not few:
            return 0, first, 1.0 if 8 * k > first else 3.0, cap
        most = max(1.0, min(MOST_GROWTH, cap / (8 * k)))
        times = max(1.0, n / first)
        rounds = max(1, math.ceil(math.log(times) / math.log(1 + most)))
        return 0, first, max(1.0, times ** (1 / rounds) - 1), cap

    def _room(self, k: int) -> tuple[int, int]:
        """For ``k``: keys of a query's best, and as sorted."""
        return 2 * k + 2 * THREADS, width(k)

    def _bytes(self, k: int, cap: int) -> int:
        """Of a query's scratch, with a buffer of ``cap`` entries."""
        room, wide = self._room(k)
        return 8 * (cap + room + wide) + STATE + (32 * self.steps if self.coded else 4 * self.shape[1])

    def _group(self, columns: int) -> int:
        """Queries of a pass, by the memory that each needs."""
        k = max(1, min(columns, self.shape[0]))
        most = _MEMORY // self._bytes(k, self._plan(k, max(FEW, SEEDED) + 1)[3])
        if not self.coded:
            most = min(most, 1024)  # so that the product has columns enough
        return max(1, min(_GROUP, most // 64 * 64 if most >= 64 else most))

    def _pass(
        self,
        xp: Any,
        queries: Any,
        number: int,
        banned: tuple[Any, Any] | None,
        floor: float,
        rows: Any,
        values: Any,
    ) -> None:
        (n, d), count, columns = self.shape, len(queries), rows.shape[1]
        k = max(1, min(columns, n))
        (seeds, first, growth, cap), (room, wide) = self._plan(k, count), self._room(k)
        scored_at_once = count <= AT_ONCE and self.host is None
        threads = _THREADS_ALONE if count <= ALONE else THREADS
        panels, coded, streamed = self.panels, self.coded, self.host is not None
        metric = cuda.i32(METRICS.index(self.metric))
        tiles = self._tiles(count)
        padded = -(-count // (8 * tiles)) * 8 * tiles
        error = _half_error(d) if self.half else 0.0 if coded else _float_error(d)
        beta_error = cuda.f32(max(0.0 if self.half else error, 2.0**-20))
        codes = xp.zeros((padded, 32 * self.steps), xp.int8) if coded else None
        halves = codes.view(xp.uint16) if codes is not None and self.half else None
        scaled = None if coded else xp.empty((count, d), xp.float32)
        states, counts = xp.empty((count, STATE), xp.uint8), xp.empty(count, xp.uint32)
        entries, best = xp.empty((count, cap), xp.uint64), xp.empty((count, room), xp.uint64)
        indptr, listed = banned if banned is not None else (None, None)
        lists = (
            indptr,
            listed,
            cuda.i32(listed is not None and listed.dtype.itemsize == 8),
            cuda.i64(number),
        )
        totals = self.meta[panels]
        self._kernel("rank_query.cu", "fr_prepare")(
            -(-count // (THREADS // 32)), THREADS, queries, cuda.i64(count), cuda.i64(d), metric,
            cuda.i32(self.exponent), cuda.i32(self.beta is not None), cuda.i32(LIMIT_DIM), totals, cuda.f32(floor),
            cuda.f32(error), cuda.i32(streamed), cuda.i64(self.steps), None if self.half else codes, halves, scaled,
            states, counts,
        )  # fmt: skip
        if len(self.special):
            items = self._gathered(xp, self.special.get()) if streamed else self.items
            self._kernel("rank_query.cu", "fr_offer_special")(
                count, THREADS, queries, items, cuda.i64(d), cuda.i64(d), metric, self.bias, cuda.i32(streamed),
                self.special, cuda.i64(len(self.special)), totals, *lists, cuda.f32(floor), cuda.i64(k), states, best,
                cuda.i64(room),
            )  # fmt: skip

        def tighten(begin: int, end: int, items: Any, stage: int) -> None:
            self._kernel("rank_query.cu", "fr_tighten", threads)(
                count, threads, queries, items, cuda.i64(d), cuda.i64(d), metric, self.bias, self.order,
                cuda.i64(begin * PANEL if streamed else -1), self.meta, cuda.i64(panels), cuda.i64(begin),
                cuda.i64(end), *lists, cuda.f32(floor), beta_error, cuda.i64(k), cuda.i32(stage), states, counts,
                entries, cuda.i64(cap), best, cuda.i64(room),
            )  # fmt: skip

        if seeds:
            self._screen(
                0, seeds // PANEL, 0, self.codes, min(tiles, _SEEDING_TILES), codes, states, beta_error, True, counts,
                entries,
            )  # fmt: skip
            tighten(0, seeds // PANEL, self.items, _OF_SEEDS)
        for begin, end, items, of_items in self._stretches(xp, first, growth):
            origin = begin if streamed else 0
            if coded:
                self._screen(
                    begin, end, origin, of_items, tiles, codes, states, beta_error, False, counts, entries
                )
            else:
                self._sift(xp, begin, end, items, scaled, states, beta_error, counts, entries)
            tighten(begin, end, items, _LAST if scored_at_once and end == panels else _MIDDLE)
        if not streamed:  # what is streamed was scored while it was there
            shares = max(4, _FILL // count)
            self._kernel("rank_query.cu", "fr_rescore")(
                (count, shares), THREADS, queries, self.items, cuda.i64(d), cuda.i64(d), metric, self.bias, self.order,
                cuda.f32(floor), states, counts, entries, cuda.i64(cap),
            )  # fmt: skip
        scratch = xp.empty((count, wide), xp.uint64)
        self._kernel("rank_query.cu", "fr_conclude", threads)(
            count, threads, queries, self.items, cuda.i64(n), cuda.i64(d), cuda.i64(d), metric, self.bias, self.order,
            totals, *lists, cuda.f32(floor), cuda.i64(k), states, counts, entries, cuda.i64(cap), best,
            cuda.i64(room), scratch, cuda.i64(wide), cuda.i64(columns), rows, values,
        )  # fmt: skip

    def _tiles(self, count: int) -> int:
        """Tiles of eight queries that a block takes: few where there are few, or where their codes are long."""
        tiles, most = 8, cuda.shared_memory(self.device)[0]
        while tiles > 1 and (
            4 * tiles >= count or tiles * self.steps * 256 > min(_SHARED, most - 4 * _of_a_warp(tiles))
        ):
            tiles //= 2
        return tiles

    def _warps(self, tiles: int) -> int:
        """Warps of a block: the fewest of those with which most are on a multiprocessor."""
        most, in_all = cuda.shared_memory(self.device)

        def resident(warps: int) -> int:
            size = warps * _of_a_warp(tiles) + tiles * self.steps * 256
            return 0 if size > most else warps * min(_WARPS[tiles] // warps, in_all // (size + 1024))

        return max((4, 8, 16), key=resident)

    def _stretches(self, xp: Any, first: int, growth: float) -> Iterator[tuple[int, int, Any, Any]]:
        """(begin, end) panels, each stretch `growth` times all before, with the items and codes that are to be read."""
        begin, panels = 0, self.panels
        stages = None if self.host is None else _Stages(xp, self.host, self.shape[1], self.steps)
        while begin < panels:
            size = max(first // PANEL, math.ceil(growth * begin))
            end = min(panels, begin + (size if stages is None else min(size, stages.most)))
            if stages is None:
                yield begin, end, self.items, self.codes
            else:
                items, codes = stages.bring(begin, end)
                yield begin, end, items, None if codes is None else self._laid_out(xp, codes)
                stages.used()
            begin = end
        if stages is not None:
            stages.close()

    def _gathered(self, xp: Any, rows: Any) -> Any:
        """Rows of the host's items, brought to the card in this order; padding repeats row 0."""
        assert self.host is not None
        items = self.host[0]
        return xp.asarray(np.ascontiguousarray(items[np.where(rows == 0xFFFFFFFF, 0, rows)]))

    def _screen(
        self, begin: int, end: int, origin: int, items: Any, tiles: int, codes: Any, states: Any, beta_error: Any,
        seeding: bool, counts: Any, entries: Any,
    ) -> None:  # fmt: skip
        groups, warps = len(codes) // (8 * tiles), self._warps(tiles)
        blocks = max(1, min(-(-(end - begin) // warps), 4 * _BLOCKS // (warps * groups)))
        cuda.kernel("rank_screen.cu", "fr_screen", FR_TILES=tiles, FR_HALF=int(self.half))(
            (blocks, groups), 32 * warps, items, cuda.i64(self.steps), self.meta, self.beta, self.order,
            cuda.i64(origin), cuda.i64(begin), cuda.i64(end), codes, states, cuda.i64(len(counts)), beta_error,
            cuda.i32(seeding), counts, entries, cuda.i64(entries.shape[1]),
            shared=warps * _of_a_warp(tiles) + self.steps * tiles * 256,
        )  # fmt: skip

    def _sift(
        self, xp: Any, begin: int, end: int, items: Any, scaled: Any, states: Any, beta_error: Any, counts: Any,
        entries: Any,
    ) -> None:  # fmt: skip
        count, d = scaled.shape
        step = max(1, _PRODUCT // (4 * count * PANEL))
        gathered = cuda.i32(self.host is not None)
        for at in range(begin, end, step):
            wide = (min(end, at + step) - at) * PANEL
            part = xp.empty((wide, d), xp.float32)
            source = items[(at - begin) * PANEL :] if self.host is not None else items
            self._kernel("rank_pack.cu", "fr_unpack")(
                min(_BLOCKS, wide // (THREADS // 8)), THREADS, source, cuda.i64(d), cuda.i64(d),
                cuda.i32(METRICS.index(self.metric)), self.order, cuda.i32(self.exponent), cuda.i64(at * PANEL),
                cuda.i64(wide), gathered, part,
            )  # fmt: skip
            product = xp.matmul(scaled, part.T)
            cuda.kernel("rank_screen.cu", "fr_sift", FR_TILES=8, FR_HALF=0)(
                (min(64, -(-wide // (4 * THREADS))), count), THREADS, xp.ascontiguousarray(product), cuda.i64(wide),
                self.meta, self.beta, self.order, cuda.i64(at * PANEL), states, beta_error, counts, entries,
                cuda.i64(entries.shape[1]),
            )  # fmt: skip


def _of_a_warp(tiles: int) -> int:
    """Bytes of fr_own (kernels/cuda/rank_screen.cu)."""
    return 5536 + 64 * tiles


def _by_panel(codes: np.ndarray, d: int) -> np.ndarray:
    return codes.reshape(-1, -(-d // 4), PANEL, 4)


class _Stages:
    """Two places on the card, and two in pinned memory, through which stretches of a host's index pass in turn.

    While the card works on one stretch, the host's threads gather the next into pinned memory, and a stream of its own
    copies it.  A place on the card is written again only after the kernels that read it (an event of theirs, which the
    copy waits for), and a place in pinned memory only after the copy out of it (an event that the host waits for, two
    stretches late).  Nothing waits for the kernels.
    """

    def __init__(self, xp: Any, host: tuple[Any, Any, Any], d: int, steps: int) -> None:
        self._items, codes, self._order = host
        self._codes: Any = None if codes is None else _by_panel(codes, d)
        each = self._items.itemsize * d * PANEL + 32 * PANEL * steps
        self.most = max(1, min(_STAGE // max(1, each), len(self._order) // PANEL))
        self._work, self._copies = xp.cuda.get_current_stream(), xp.cuda.Stream(non_blocking=True)
        self._places = [[self._pair(xp, part) for part in (self._items, self._codes)] for _ in range(2)]
        self._copied: list[Any] = [None, None]
        self._read: list[Any] = [None, None]
        self._turn = 0
        self._threads = get_threads()
        self._pool = ThreadPoolExecutor(self._threads, "fastrec-gather")
        # The card's places were somebody else's before, in the order of the stream that works.
        self._copies.wait_event(self._work.record())

    def _pair(self, xp: Any, part: Any) -> tuple[Any, Any] | None:
        if part is None:
            return None
        shape = (self.most * PANEL, *part.shape[1:]) if part is self._items else (self.most, *part.shape[1:])
        return cuda.pinned(xp, shape, part.dtype), xp.empty(shape, part.dtype)

    def bring(self, begin: int, end: int) -> tuple[Any, Any]:
        """Items, by position, and codes of panels begin..end, on their way; the working stream waits for them."""
        turn = self._turn
        if self._copied[turn] is not None:
            self._copied[turn].synchronize()
        if self._read[turn] is not None:
            self._copies.wait_event(self._read[turn])
        rows = self._order[begin * PANEL : end * PANEL]
        found: list[Any] = [None, None]
        for which, pair in enumerate(self._places[turn]):
            if pair is None:
                continue
            pinned, there = (half[: len(rows) if which == 0 else end - begin] for half in pair)
            if which == 0:
                self._gather(np.where(rows == 0xFFFFFFFF, 0, rows).astype(np.intp), pinned)
            else:
                np.copyto(pinned, self._codes[begin:end])
            there.set(pinned, stream=self._copies)
            found[which] = there
        self._copied[turn] = self._copies.record()
        self._work.wait_event(self._copied[turn])
        return found[0], found[1]

    def _gather(self, rows: np.ndarray, to: np.ndarray) -> None:
        def part(begin: int, end: int) -> None:
            np.take(self._items, rows[begin:end], axis=0, out=to[begin:end], mode="clip")

        edges = [len(rows) * i // self._threads for i in range(self._threads + 1)]
        for _ in self._pool.map(part, edges, edges[1:]):
            pass

    def used(self) -> None:
        """What reads the last stretch has been launched."""
        self._read[self._turn] = self._work.record()
        self._turn = 1 - self._turn

    def close(self) -> None:
        """Before the pinned memory goes back: its last copies."""
        self._pool.shutdown()
        for copied in self._copied:
            if copied is not None:
                copied.synchronize()


def _float_error(d: int) -> float:
    """Relative error of a float32 dot product in any order, doubled; of TF32 factors where CuPy is told to use them."""
    relaxed = os.environ.get("CUPY_TF32", "0") not in ("", "0")
    return (d + 8) * 2.0**-23 + (2.0**-9 if relaxed else 0.0)


def _half_error(d: int) -> float:
    """Relative error of a product of bfloat16 on tensor cores, about doubled: docs/adr/0012-cuda-search.md."""
    return (2 * d + 64) * 2.0**-23


def _is_loose(meta: np.ndarray, d: int) -> bool:
    """Whether codes say little: their residuals are half of what scores spread by, on the average panel, or more."""
    if len(meta) < 2:
        return False
    residual, norm = meta[:-1, 1].astype(np.float64), meta[:-1, 2].astype(np.float64)
    return bool((residual / np.maximum(norm, 1e-300)).mean() * math.sqrt(d) > LOOSE)


def _nearly_equal(xp: Any, lengths: Any) -> bool:
    """As on the CPU: whether all but a tenth of the norms lie within a factor of two."""
    if len(lengths) < 2 * PANEL:
        return False
    ordered = xp.sort(lengths)
    return bool(ordered[-1] <= 2 * ordered[len(ordered) // 10])


def moved(index: Any, where: str | int, *, stream: bool = False) -> Any:
    """`Index.to`; with ``stream``, items stay on the host though the card had room for them."""
    place = cuda.place(where)
    if place == index._device:
        return index
    cls = type(index)
    if index._device != arrays.CPU:  # from a card: copy, and pack where it arrives
        card = index._card
        items = card.host[0] if card.host is not None else card.items.get()
        if index._dtype != "float32":
            items = items.view(np.float16 if index._dtype == "float16" else BFLOAT16_TYPE)
        bias = None if card.bias is None else card.bias.get()
        if place == arrays.CPU:
            return cls(items, index.metric, bias, index._labels, precision=index.precision)
        host = cls._for_queries(0, items, index.metric, bias, index._labels, index.precision, None)
        return moved(host, where, stream=stream)
    index = index._upright()
    number = int(place.partition(":")[2])
    held = sum(a.nbytes for a in (index._items, index._codes) if a is not None)
    made = object.__new__(cls)
    made.__dict__.update(
        {name: getattr(index, name) for name in ("metric", "precision", "_dtype", "_labels")}
    )
    made._device = place
    with cuda.on(number) as xp:
        cuda.capability(number)
        stream = stream or held + _MEMORY + index.nbytes > cuda.free_bytes(number)
        try:
            made._card = DeviceIndex.from_host(xp, number, index, stream)
        except Exception as error:
            if stream or not cuda.is_out_of_memory(error):
                raise
            xp.get_default_memory_pool().free_all_blocks()
            made._card = DeviceIndex.from_host(xp, number, index, True)
    card = made._card
    made._items, made._bias = (
        (index._items, index._bias) if card.host is not None else (card.items, card.bias)
    )
    if index._dtype == "float16" and card.host is None:
        made._items = card.items.view(np.float16)
    return made


class Shards:
    """An index whose items are shared out to several cards: what ``Index.to([0, 1, ...])`` returns.

    Each card has a stretch of the rows.  A search copies the queries to every card, searches there, brings each card's
    best to the queries' card and merges them; the answer is that of the whole, to the bit.
    """

    def __init__(self, parts: list[Any], edges: list[int], labels: np.ndarray | None) -> None:
        self.parts, self._edges, self._labels = parts, edges, labels

    @property
    def shape(self) -> tuple[int, int]:
        """(N, d)."""
        return self._edges[-1], self.parts[0].shape[1]

    def __len__(self) -> int:
        return self._edges[-1]

    def topk(
        self,
        queries: Any,
        k: int = 10,
        exclude: Any = None,
        candidates: Any = None,
        min_score: float | None = None,
    ) -> TopK:
        """As `Index.topk`, for queries on any of the cards; lists are SciPy matrices, or NumPy arrays."""
        with arrays.stream_of(queries):
            return self._topk(queries, k, exclude, candidates, min_score)

    def _topk(self, queries: Any, k: int, exclude: Any, candidates: Any, min_score: float | None) -> TopK:
        queries = checks.matrix(
            queries, "queries", columns=self.shape[1], like=f"to match `items` {self.shape}"
        )
        if arrays.device(queries) == arrays.CPU:
            raise TypeError(
                "`queries` must be on a card like the index; got cpu. fastrec never copies there silently"
            )
        q, n = len(queries), len(self)
        banned = None if exclude is None else lists.csr(exclude, "exclude", queries=q, items=n)
        chosen = None
        if candidates is not None:
            per_query = hasattr(candidates, "tocsr") or (
                isinstance(candidates, tuple) and len(candidates) == 2
            )
            chosen = (
                lists.csr(candidates, "candidates", queries=q, items=n)
                if per_query
                else lists.repeated(lists.shared(candidates, "candidates", items=n), q)
            )
        with arrays.current(queries):
            xp = arrays.namespace(queries)
            home = xp.cuda.get_current_stream()
            ready = home.record()
        # Streams of several cards do not wait for each other: a card's for the queries, that of the queries for every
        # card's best, and a card's again for the copy of its best, before their memory serves something else.
        tops, streams = [], []
        for part, low, high in zip(self.parts, self._edges, self._edges[1:]):
            own = {
                name: _within(pair, low, high)
                for name, pair in (("exclude", banned), ("candidates", chosen))
                if pair is not None
            }
            with cuda.on(int(part._device.partition(":")[2])) as xp:
                stream = xp.cuda.get_current_stream()
                stream.wait_event(ready)
                there = {name: tuple(xp.asarray(a) for a in pair) for name, pair in own.items()}
                tops.append(part.topk(xp.asarray(queries), k, min_score=min_score, **there))
                streams.append((stream, stream.record()))
        with arrays.current(queries):
            for _, done in streams:
                home.wait_event(done)
            brought = [TopK(xp.asarray(top.rows), xp.asarray(top.scores)) for top in tops]
            copied = home.record()
            merged = merge_topk(brought, k, offsets=self._edges[:-1])
        for stream, _ in streams:
            stream.wait_event(copied)
        return TopK(merged.rows, merged.scores, self._labels)


def _within(pair: tuple[np.ndarray, np.ndarray], low: int, high: int) -> tuple[np.ndarray, np.ndarray]:
    """The entries of rows low..high of per-query lists, counted from ``low``."""
    indptr, indices = pair
    kept = (indices >= low) & (indices < high)
    ends = np.concatenate(([0], np.cumsum(kept)))
    return ends[indptr].astype(np.int64), np.ascontiguousarray(indices[kept] - low, np.int64)


def shared_out(index: Any, places: list[str | int]) -> Shards:
    """`Index.to` for a list of cards."""
    if index._device != arrays.CPU:
        raise TypeError(
            f"only an index on the host can be shared out to cards; this one is on {index._device}"
        )
    if not places:
        raise ValueError("`device` must name at least one card; got an empty list")
    n = len(index)
    edges = [n * i // len(places) for i in range(len(places) + 1)]
    there = BFLOAT16_TYPE if index._dtype == "bfloat16" else None
    items = index._items if there is None else index._items.view(there)
    parts = [
        type(index)._for_queries(
            0, items[low:high], index.metric, None if index._bias is None else index._bias[low:high], None,
            index.precision, None,
        ).to(place)
        for place, low, high in zip(places, edges, edges[1:])
    ]  # fmt: skip
    if any(part._device == arrays.CPU for part in parts):
        raise ValueError("`device` must be a list of cards; got 'cpu' among them")
    return Shards(parts, edges, index._labels)
