"""Bindings of the evaluation kernels."""
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.math cimport log2
from libc.stdint cimport int32_t, int64_t, uint64_t

import numpy as np

from fastrec._core.isa import LEVEL
from fastrec._kernels import runtime

cdef extern from "pool.h" nogil:
    ctypedef void (*fr_task)(void *context, int64_t task, int worker) noexcept nogil
    ctypedef void (*fr_parallel_for_type)(fr_task fn, void *context, int64_t tasks, int threads) noexcept nogil

cdef extern from "evaluation_types.h" nogil:
    cdef int FR_COUNTS
    ctypedef struct fr_rank_job:
        const int32_t *run32
        const int64_t *run64
        const float *scores32
        const double *scores64
        const int64_t *run_ptr
        int64_t width
        const int64_t *run_row
        const int64_t *tie_rank
        const int64_t *truth_ptr
        const int64_t *truth_ids
        const double *gains
        const double *values
        const double *ideal
        const int64_t *positives
        const int32_t *kinds
        const int32_t *cutoff_of
        const double *parameters
        const int64_t *functions
        const int64_t *cutoffs
        const double *discounts
        const double *discount_sums
        int32_t metrics
        int32_t cutoff_count
        double level
        int32_t strict
        int32_t ties
        int32_t float32_scores
        int32_t ideal_mode
        int32_t ap_denominator
        int32_t recall_capped
        int32_t short_lists
        int32_t skip_unjudged
        int32_t all_relevant
        int32_t zero_is_nothing
        uint64_t seed
        const uint64_t *query_keys
        const int64_t *topic_ptr
        const int32_t *topics
        const int32_t *topic_counts
        const int64_t *topic_order
        int64_t most_topics
        int64_t longest
        int64_t longest_truth
        double *out
        int32_t *counts

    ctypedef struct fr_rank_totals:
        int64_t missing
        int64_t empty
        int64_t duplicates
        int64_t tied
        int64_t bad

cdef extern from "evaluation_table.h" nogil:
    ctypedef struct fr_evaluation_functions:
        int (*fr_evaluation_level)() noexcept nogil
        int64_t (*fr_rank_scratch)(const fr_rank_job *job) noexcept nogil
        void (*fr_rank_metrics)(const fr_rank_job *job, int64_t begin, int64_t end, char *scratch) noexcept nogil
        int64_t (*fr_first_repeat)(const int64_t *ptr, const int64_t *ids, int64_t begin, int64_t end, char *scratch, int64_t *place) noexcept nogil
        int64_t (*fr_repeat_scratch)(int64_t longest) noexcept nogil
        void (*fr_rank_tally)(const int32_t *counts, int64_t queries, fr_rank_totals *out) noexcept nogil
        void (*fr_column_sums)(const double *values, int64_t columns, int64_t begin, int64_t end, double *sums, int64_t *undefined) noexcept nogil
    const fr_evaluation_functions *fr_evaluation_table(int level)

cdef const fr_evaluation_functions *kernels = fr_evaluation_table(LEVEL)
cdef fr_parallel_for_type parallel_for = <fr_parallel_for_type>PyCapsule_GetPointer(
    runtime.parallel_for, b"fastrec.parallel_for")

# Names by number, in the order of the enumerations of evaluation_types.h.
METRICS = (
    "dcg", "ndcg", "ap", "rr", "recall", "precision", "hit", "fbeta", "rprec", "err", "nerr", "rbp", "graded_rbp",
    "rbp_residual", "normal_rbp", "bpref", "infap", "iprec", "eleven_point", "auc", "limited_auc", "partial_auc",
    "partial_top", "mean_rank", "gain_rank", "pair_accuracy", "judged", "unjudged", "compatibility", "alpha_dcg",
    "alpha_ndcg", "err_ia", "nerr_ia", "nrbp", "nnrbp", "ap_ia", "precision_ia", "subtopic_recall", "retrieved",
    "relevant", "relevant_retrieved", "by_others", "custom",
)
TIES = ("given", "decimal_desc", "id_desc", "id_asc", "average", "optimistic", "pessimistic", "random")
IDEALS = ("judged", "list", "full")
AP_DENOMINATORS = ("relevant", "capped", "cutoff", "hits", "length")
COUNTS = ("retrieved", "relevant", "hits", "duplicates", "tied", "bad")
cdef enum:
    ROWS = 128
    BLOCKS = 64  # of rows, a task
SUM_BLOCK = ROWS  # rows that are added up in order; part of the definition of a mean
NO_CUTOFF = 0x7FFFFFFFFFFFFFFF
BAD_SCORE, BAD_PADDING = 1, 2


def level() -> int:
    """The instruction-set level these kernels were compiled for."""
    return kernels.fr_evaluation_level()


def discounts(int64_t size):
    """``1 / log2(i + 2)`` for i < size, and the running sums, one longer."""
    cdef double[::1] table = np.empty(size)
    cdef double[::1] sums = np.empty(size + 1)
    cdef int64_t i
    cdef double total = 0.0
    sums[0] = 0.0
    for i in range(size):
        table[i] = 1.0 / log2(<double>i + 2.0)
        total += table[i]
        sums[i + 1] = total
    return np.asarray(table), np.asarray(sums)


cdef struct _Work:
    fr_rank_job job
    int64_t queries
    int64_t chunk
    char *scratch
    int64_t stride

cdef void _evaluate(void *context, int64_t task, int worker) noexcept nogil:
    cdef _Work *work = <_Work *>context
    cdef int64_t begin = task * work.chunk
    cdef int64_t end = min(begin + work.chunk, work.queries)
    kernels.fr_rank_metrics(&work.job, begin, end, work.scratch + worker * work.stride)


def rank_metrics(
    const int32_t[::1] run32, const int64_t[::1] run64, const float[::1] scores32, const double[::1] scores64,
    const int64_t[::1] run_ptr, int64_t width, const int64_t[::1] run_row, const int64_t[::1] tie_rank,
    const int64_t[::1] truth_ptr, const int64_t[::1] truth_ids, const double[::1] gains, const double[::1] values,
    const double[::1] ideal, const int64_t[::1] positives, const int32_t[::1] kinds,
    const int32_t[::1] cutoff_of, const double[:, ::1] parameters, const int64_t[::1] functions,
    const int64_t[::1] cutoffs, const double[::1] discounts, const double[::1] discount_sums, double level,
    bint strict, int ties, bint float32_scores, int ideal_mode, int ap_denominator, bint recall_capped,
    bint short_lists, bint skip_unjudged, bint all_relevant, bint zero_is_nothing, uint64_t seed,
    const uint64_t[::1] query_keys, const int64_t[::1] topic_ptr, const int32_t[::1] topics,
    const int32_t[::1] topic_counts, const int64_t[::1] topic_order, int64_t most_topics,
    int64_t longest, int64_t longest_truth, double[:, ::1] out, int32_t[:, ::1] counts, int threads,
) -> None:
    """Fill ``out`` (Q, M) and ``counts`` (Q, len(COUNTS)); see evaluation_types.h. Empty arrays stand for "none"."""
    cdef _Work work
    cdef fr_rank_job *job = &work.job
    cdef char[::1] scratch
    cdef int64_t empty = 0
    cdef int32_t no_topic = 0
    work.queries = out.shape[0]
    if work.queries == 0:
        return
    job.run32 = &run32[0] if run32 is not None and run32.shape[0] else NULL
    job.run64 = &run64[0] if run64 is not None and run64.shape[0] else NULL
    if job.run32 == NULL and job.run64 == NULL:
        job.run64 = &empty  # no list at all: never read
    job.scores32 = &scores32[0] if scores32 is not None and scores32.shape[0] else NULL
    job.scores64 = &scores64[0] if scores64 is not None and scores64.shape[0] else NULL
    job.run_ptr = &run_ptr[0] if run_ptr is not None else NULL
    job.width = width
    job.run_row = &run_row[0] if run_row is not None else NULL
    job.tie_rank = &tie_rank[0] if tie_rank is not None and tie_rank.shape[0] else NULL
    job.truth_ptr = &truth_ptr[0]
    job.truth_ids = &truth_ids[0] if truth_ids.shape[0] else &empty
    job.gains = &gains[0] if gains is not None and gains.shape[0] else NULL
    job.values = &values[0] if values is not None and values.shape[0] else NULL
    job.ideal = &ideal[0] if ideal is not None and ideal.shape[0] else NULL
    job.positives = &positives[0] if positives is not None and positives.shape[0] else NULL
    job.kinds = &kinds[0] if kinds.shape[0] else NULL
    job.cutoff_of = &cutoff_of[0] if cutoff_of.shape[0] else NULL
    job.parameters = &parameters[0, 0] if parameters.shape[0] else NULL
    job.functions = &functions[0] if functions.shape[0] else NULL
    job.cutoffs = &cutoffs[0] if cutoffs.shape[0] else NULL
    job.discounts = &discounts[0] if discounts.shape[0] else NULL
    job.discount_sums = &discount_sums[0]
    job.metrics = <int32_t>kinds.shape[0]
    job.cutoff_count = <int32_t>cutoffs.shape[0]
    job.level = level
    job.strict = strict
    job.ties = ties
    job.float32_scores = float32_scores
    job.ideal_mode = ideal_mode
    job.ap_denominator = ap_denominator
    job.recall_capped = recall_capped
    job.short_lists = short_lists
    job.skip_unjudged = skip_unjudged
    job.all_relevant = all_relevant
    job.zero_is_nothing = zero_is_nothing
    job.seed = seed
    job.query_keys = &query_keys[0] if query_keys is not None else NULL
    job.topic_ptr = &topic_ptr[0] if topic_ptr is not None else NULL
    job.topics = &topics[0] if topics is not None and topics.shape[0] else &no_topic
    job.topic_counts = &topic_counts[0] if topic_counts is not None else NULL
    job.topic_order = &topic_order[0] if topic_order is not None and topic_order.shape[0] else &empty
    job.most_topics = most_topics
    job.longest = longest
    job.longest_truth = longest_truth
    job.out = &out[0, 0] if out.shape[1] else NULL
    job.counts = &counts[0, 0]
    work.chunk = max(1, min(256, work.queries // (4 * threads)))
    cdef int64_t tasks = (work.queries + work.chunk - 1) // work.chunk
    threads = <int>min(threads, tasks)
    work.stride = (kernels.fr_rank_scratch(job) + 4095) // 4096 * 4096
    scratch = np.zeros(work.stride * threads, dtype=np.int8)
    work.scratch = &scratch[0]
    with nogil:
        parallel_for(_evaluate, &work, tasks, threads)


def tally(const int32_t[:, ::1] counts):
    """(missing, empty, duplicates, tied, bad) over the rows of ``counts``; ``bad`` is the first with a fault, or -1."""
    cdef fr_rank_totals totals
    cdef int64_t queries = counts.shape[0]
    if queries == 0:
        return 0, 0, 0, 0, -1
    with nogil:
        kernels.fr_rank_tally(&counts[0, 0], queries, &totals)
    return totals.missing, totals.empty, totals.duplicates, totals.tied, totals.bad


cdef struct _Sums:
    const double *values
    int64_t rows
    int64_t columns
    double *sums
    int64_t *undefined

cdef void _add_up(void *context, int64_t task, int worker) noexcept nogil:
    cdef _Sums *work = <_Sums *>context
    cdef int64_t block
    for block in range(task * BLOCKS, min((task + 1) * BLOCKS, (work.rows + ROWS - 1) // ROWS)):
        kernels.fr_column_sums(work.values, work.columns, block * ROWS, min((block + 1) * ROWS, work.rows),
                               work.sums + block * work.columns, work.undefined + block * work.columns)


def column_sums(const double[:, ::1] values, double[:, ::1] sums, int64_t[:, ::1] undefined, int threads) -> None:
    """Sums over each SUM_BLOCK rows of ``values`` (Q, M), one a row of ``sums``, without NaN; their number is added to
    that row of ``undefined``."""
    cdef _Sums work
    work.rows, work.columns = values.shape[0], values.shape[1]
    if work.rows == 0 or work.columns == 0:
        return
    work.values, work.sums, work.undefined = &values[0, 0], &sums[0, 0], &undefined[0, 0]
    cdef int64_t tasks = (sums.shape[0] + BLOCKS - 1) // BLOCKS
    with nogil:
        parallel_for(_add_up, &work, tasks, <int>min(threads, tasks))


def first_repeat(const int64_t[::1] ptr, const int64_t[::1] ids, int64_t longest):
    """The first CSR row that holds an id twice and where the second one is, or None."""
    cdef int64_t rows = ptr.shape[0] - 1
    cdef int64_t place = -1, row
    cdef char[::1] scratch
    if rows < 1 or ids.shape[0] == 0:
        return None
    scratch = np.zeros(kernels.fr_repeat_scratch(longest), dtype=np.int8)
    with nogil:
        row = kernels.fr_first_repeat(&ptr[0], &ids[0], 0, rows, &scratch[0], &place)
    return None if row < 0 else (row, place)
