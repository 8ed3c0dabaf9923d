"""Ranking metrics on a card: what ``rank_metrics`` and ``Evaluation`` launch where arrays are CuPy's.

Nothing here waits for the card except what says so.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from fastrec._core import cuda
from fastrec._kernels import evaluation as kernels

WARPS = 4  # of a block of measure.cu
SHARED = (
    96 << 10
)  # bytes of scratch that a block may have in shared memory; two such blocks fit on a processor
SCRATCH = 512 << 20  # bytes of scratch in global memory, for lists too long for that
CUSTOM_THREADS = 1 << 16  # queries that users' functions are run for at a time
BLOCKS = 1 << 16  # of a launch; the rest is taken in turns
# The kernel's metrics, in the order of rank_columns.cuh; metrics by subtopic and users' own run apart.
KINDS = (
    "dcg", "ndcg", "ap", "rr", "recall", "precision", "hit", "fbeta", "rprec", "judged", "unjudged", "retrieved",
    "relevant", "relevant_retrieved", "err", "nerr", "rbp", "graded_rbp", "rbp_residual", "normal_rbp", "bpref",
    "infap", "iprec", "eleven_point", "auc", "limited_auc", "partial_auc", "partial_top", "mean_rank", "gain_rank",
    "pair_accuracy", "compatibility",
)  # fmt: skip
SUBTOPIC_KINDS = (  # in the order of subtopics.cu
    "alpha_dcg", "alpha_ndcg", "err_ia", "nerr_ia", "nrbp", "nnrbp", "ap_ia", "precision_ia", "subtopic_recall",
)  # fmt: skip
EVERY_DAY = frozenset(KINDS[: KINDS.index("err")])  # the metrics of the smaller kernel


@functools.lru_cache(maxsize=256)
def _constant(device: int, dtype: str, data: bytes) -> Any:
    """A small array on a card, put there when first asked for."""
    with cuda.on(device) as cupy:
        array = cupy.asarray(np.frombuffer(data, dtype).copy())
        cupy.cuda.runtime.deviceSynchronize()  # once, so that every stream finds it there
    return array


def constant(device: int, values: Any, dtype: Any) -> Any:
    array = np.ascontiguousarray(values, dtype)
    return _constant(device, array.dtype.str, array.tobytes())


def stride(
    longest: int, longest_truth: int, cutoffs: int, *, listed: bool, graded: bool, scored: bool, overlaps: int
) -> int:
    """Bytes of scratch a warp needs: `lend` of measure.cu, array by array."""
    table = 32
    while table < 2 * longest:
        table *= 2
    most = min(longest, longest_truth)
    doubles = 4 * (most + 1) + cutoffs + (most if listed else 0)
    words = table + longest + 2 * (most + 1) + cutoffs + -(-longest // 32)
    words += (longest if graded else 0) + (2 * longest if scored else 0)
    words += overlaps * (max(longest, longest_truth) + 1)
    return -(-(8 * doubles + 4 * words) // 16) * 16


def rank_metrics(
    *, ids: Any, scores: Any, ptr: Any, width: int, run_row: Any, tie_rank: Any, query_keys: Any, truth_ptr: Any,
    truth_ids: Any, gains: Any, worth: Any, ideal: Any, kinds: list[str], cutoffs: list[int], cutoff_of: list[int],
    parameters: list[tuple[float, float]], table: np.ndarray, sums: np.ndarray, level: float | None, convention: Any,
    ties: int, longest: int, longest_truth: int, functions: dict[int, tuple[Any, int | None]], topics: Any,
) -> tuple[Any, Any]:  # fmt: skip
    """(values, counts) of ``rank_metrics``, on the card of ``ids``; every array is there already, but the tables."""
    with cuda.on(ids) as cupy:
        device = int(ids.device.id)
        queries = len(truth_ptr) - 1
        values = cupy.empty((queries, len(kinds)), np.float64)
        counts = cupy.empty((queries, len(kernels.COUNTS)), np.int32)
        if queries == 0:
            return values, counts
        single, scored = ids.dtype == np.int32, scores is not None
        half = scored and scores.dtype == np.float32
        ordinary = EVERY_DAY.issuperset({*kinds} - {"custom"}) and ties != kernels.TIES.index("average")
        every = not ordinary or topics is not None
        kernel = cuda.kernel("measure.cu", "fr_rank_metrics", FR_SCORED=int(scored), FR_EVERY=int(every))
        overlaps = kinds.count("compatibility")
        room = stride(
            longest, longest_truth, len(cutoffs), listed=convention.ideal == "list",
            graded=worth is not None or topics is not None, scored=scored, overlaps=overlaps,
        )  # fmt: skip
        warps = WARPS if WARPS * room <= SHARED else 1 if room <= SHARED else WARPS
        blocks = min(-(-queries // warps), BLOCKS)
        scratch = None
        if room > SHARED:
            blocks = max(1, min(blocks, SCRATCH // (room * warps)))
            scratch = cupy.empty(blocks * warps * room, np.int8)
        i32, i64 = cuda.i32, cuda.i64
        found: tuple[Any, ...] = (None,) * 4
        judged = None
        if functions or topics is not None:
            size = max(1, len(truth_ids))
            found = (
                cupy.empty(queries, np.int32), cupy.empty(queries, np.int32), cupy.empty(size, np.int32),
                cupy.empty(size, np.float64),
            )  # fmt: skip
            judged = None if topics is None else cupy.empty(size, np.int32)
        kernel(
            blocks, 32 * warps, ids if single else None, None if single else ids, scores if half else None,
            None if half else scores, ptr, i64(width), run_row, tie_rank, query_keys, truth_ptr, truth_ids,
            None if worth is None else gains, worth, ideal,
            constant(device, [KINDS.index(kind) if kind in KINDS else -1 for kind in kinds], np.int32),
            constant(device, cutoff_of, np.int32), constant(device, parameters, np.float64),
            constant(device, cutoffs, np.int64), constant(device, table, np.float64),
            constant(device, sums, np.float64), i32(len(kinds)), i32(len(cutoffs)),
            cuda.f64(0.0 if level is None else level), i32(level is None), i32(ties),
            i32(convention.score_precision == "float32"), i32(kernels.IDEALS.index(convention.ideal)),
            i32(kernels.AP_DENOMINATORS.index(convention.map_denominator)),
            i32(convention.recall_denominator == "capped"), i32(convention.short == "len"),
            i32(convention.unjudged == "skip"), i32(worth is None and (level is None or level <= 1.0)),
            np.uint64(convention.seed), i64(longest), i64(longest_truth),
            i64(queries), values, counts, *found, judged, scratch, i64(room),
            shared=0 if scratch is not None else warps * room,
        )  # fmt: skip
        if topics is not None:
            topic_ptr, numbers, topic_counts, order, most = topics
            each = 2 * (most + longest_truth)  # doubles of scratch of a thread
            blocks = -(-max(1, min(CUSTOM_THREADS, SCRATCH // max(8 * each, 1), queries)) // 128)
            of_topics = [SUBTOPIC_KINDS.index(kind) if kind in SUBTOPIC_KINDS else -1 for kind in kinds]
            cuda.kernel("subtopics.cu", "fr_subtopic_metrics")(
                blocks, 128, constant(device, of_topics, np.int32), constant(device, cutoff_of, np.int32),
                constant(device, cutoffs, np.int64), constant(device, parameters, np.float64),
                constant(device, table, np.float64), i32(len(kinds)), i32(convention.short == "len"), truth_ptr,
                topic_ptr, numbers, topic_counts, order, *found[:3], judged, i64(queries), i64(most),
                i64(longest_truth), cupy.empty(max(1, 128 * blocks * each), np.float64), values,
            )  # fmt: skip
        for column, (function, cutoff) in functions.items():
            _custom(
                cupy,
                function,
                cutoff,
                column,
                found,
                truth_ptr,
                gains,
                longest,
                longest_truth,
                counts,
                values,
            )
        return values, counts


def _custom(
    cupy: Any, function: Any, cutoff: int | None, column: int, found: tuple[Any, ...], truth_ptr: Any, gains: Any,
    longest: int, longest_truth: int, counts: Any, values: Any,
) -> None:  # fmt: skip
    """Fill a column with a user's function, one thread a query; scratch is 8 bytes a place of list and truth."""
    each = 8 * (max(1, longest) + max(1, longest_truth))
    threads = max(32, min(CUSTOM_THREADS, SCRATCH // each, -(-len(values) // 32) * 32) // 32 * 32)
    rows = cupy.empty((max(1, longest), threads), np.float64)
    truth_rows = cupy.empty((max(1, longest_truth), threads), np.float64)
    graded = gains is not None
    cuda.launch_numba(
        function.on_card, -(-threads // 128), 128, *found, truth_ptr, gains if graded else found[3], graded,
        -1 if cutoff is None else cutoff, rows, truth_rows, column, len(kernels.COUNTS) + column,
        kernels.COUNTS.index("bad"), counts, values,
    )  # fmt: skip


def tally(counts: Any) -> tuple[int, int, int, int, int]:
    """`kernels.tally` of counts on a card; waits for it."""
    with cuda.on(counts) as cupy:
        totals = cupy.zeros(5, np.uint64)
        totals[4] = np.uint64(2**64 - 1)
        queries = len(counts)
        cuda.kernel("tally.cu", "fr_rank_tally")(
            min(-(-queries // 256), 1024), 256, counts, cuda.i64(queries), totals
        )
        missing, empty, duplicates, tied, bad = totals.get().view(np.int64).tolist()
    return missing, empty, duplicates, tied, bad


def column_sums(values: Any) -> tuple[np.ndarray, np.ndarray]:
    """(M, blocks) sums of each SUM_BLOCK rows and (M,) how many values are NaN, on the host; waits for the card.

    As `kernels.column_sums` adds them, so that a mean has the same bits.
    """
    rows, columns = values.shape
    blocks = -(-rows // kernels.SUM_BLOCK)
    with cuda.on(values) as cupy:
        sums = cupy.zeros((columns, blocks), np.float64)
        undefined = cupy.zeros(columns, np.uint64)
        cuda.kernel("tally.cu", "fr_column_sums")(
            min(-(-blocks * columns // 256), BLOCKS), 256, cupy.ascontiguousarray(values), cuda.i64(rows),
            cuda.i64(columns), cuda.i64(kernels.SUM_BLOCK), sums, undefined,
        )  # fmt: skip
        return sums.get(), undefined.get().view(np.int64)
