"""Bindings of the click-metric kernels.

Arrays are contiguous and checked by the caller.  `bytes_of` arguments are any array viewed as uint8, with `kind` saying
what it holds.  Work is cut into chunks of a size that depends on nothing but the arguments, so sums never depend on the
number of threads.
"""
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc

from fastrec._core.isa import LEVEL
from fastrec._kernels import runtime

cdef extern from "pool.h" nogil:
    ctypedef void (*fr_task)(void *context, int64_t task, int worker) noexcept nogil
    ctypedef void (*fr_parallel_for_type)(fr_task fn, void *context, int64_t tasks, int threads) noexcept nogil

cdef extern from "clicks_table.h" nogil:
    ctypedef struct fr_clicks_pair:
        uint64_t key
        uint64_t row
    ctypedef struct fr_clicks_sweep_sums:
        int64_t pairs2
        double pairs2_sum
        double precision
        double ks
        double f1
        double positive2
        double negative2
        int64_t ks_at
        int64_t f1_at
    enum:
        FR_CLICKS_POINT_SUMS
    ctypedef struct fr_clicks_functions:
        int64_t (*fr_clicks_labels)(const void *, int, int64_t, int64_t, uint8_t *) noexcept nogil
        int64_t (*fr_clicks_range)(const void *, int, int64_t, int64_t, double *) noexcept nogil
        void (*fr_clicks_pack)(const void *, int, const uint8_t *, const int32_t *, int, double, int64_t, int64_t,
                               uint64_t *) noexcept nogil
        void (*fr_clicks_pair_up)(const void *, int, const uint8_t *, double, int64_t, int64_t,
                                  fr_clicks_pair *) noexcept nogil
        void (*fr_clicks_digits)(const uint64_t *, int, int64_t, int64_t, int, uint32_t, uint32_t *) noexcept nogil
        void (*fr_clicks_move)(const uint64_t *, uint64_t *, int, int64_t, int64_t, int, uint32_t, uint32_t *) noexcept nogil
        int64_t (*fr_clicks_settle)(uint64_t *, int, int64_t, int64_t, int, int64_t) noexcept nogil
        int64_t (*fr_clicks_boundary)(const uint64_t *, int, int64_t, int64_t, uint64_t) noexcept nogil
        void (*fr_clicks_ranks)(const fr_clicks_pair *, int64_t, const int32_t *, uint64_t *) noexcept nogil
        int64_t (*fr_clicks_positives)(const uint64_t *, int64_t, int64_t) noexcept nogil
        void (*fr_clicks_weights)(const uint64_t *, const double *, int64_t, int64_t, double *) noexcept nogil
        void (*fr_clicks_sweep)(const uint64_t *, uint64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int,
                                fr_clicks_sweep_sums *) noexcept nogil
        void (*fr_clicks_sweep_weighted)(const uint64_t *, uint64_t, const double *, int64_t, int64_t, double, double,
                                         double, double, fr_clicks_sweep_sums *) noexcept nogil
        void (*fr_clicks_groups)(const uint64_t *, uint64_t, const int64_t *, int64_t, int64_t, int64_t *,
                                 int64_t *) noexcept nogil
        void (*fr_clicks_groups_weighted)(const uint64_t *, uint64_t, const double *, const int64_t *, int64_t,
                                          int64_t, double *, double *, double *) noexcept nogil
        void (*fr_clicks_points)(const void *, int, const void *, int, const double *, int64_t, int64_t, int, double,
                                 double, int, const double *, double *, double *, double *) noexcept nogil
    const fr_clicks_functions *fr_clicks_table(int level)

cdef const fr_clicks_functions *kernels = fr_clicks_table(LEVEL)
cdef fr_parallel_for_type parallel_for = <fr_parallel_for_type>PyCapsule_GetPointer(
    runtime.parallel_for, b"fastrec.parallel_for")

cdef enum:
    CHUNK = 65536    # rows of a task; part of the definition of every float sum
    GROUPS = 256     # groups of a task
    BUCKETS = 2048

POINT_SUMS = FR_CLICKS_POINT_SUMS
chunk_rows = CHUNK


cdef inline int64_t tasks_of(int64_t n, int64_t size) noexcept nogil:
    return (n + size - 1) // size


cdef inline int64_t end_of(int64_t task, int64_t size, int64_t n) noexcept nogil:
    return min((task + 1) * size, n)


cdef const double *doubles(const double[::1] x):
    if x is None:
        return NULL
    return &x[0]

cdef const int32_t *int32s(const int32_t[::1] x):
    if x is None:
        return NULL
    return &x[0]


def chunks(int64_t n) -> int:
    """How many chunks `n` rows are cut into."""
    return tasks_of(n, CHUNK)


# -- reading the input --------------------------------------------------------------------------------------------

cdef struct Scan:
    const void *x
    int kind
    int64_t n
    uint8_t *out
    int64_t *bad
    double *low_high

cdef void _labels(void *context, int64_t task, int worker) noexcept nogil:
    cdef Scan *scan = <Scan *>context
    scan.bad[task] = kernels.fr_clicks_labels(scan.x, scan.kind, task * CHUNK, end_of(task, CHUNK, scan.n), scan.out)

cdef void _range(void *context, int64_t task, int worker) noexcept nogil:
    cdef Scan *scan = <Scan *>context
    scan.bad[task] = kernels.fr_clicks_range(scan.x, scan.kind, task * CHUNK, end_of(task, CHUNK, scan.n),
                                             &scan.low_high[2 * task])


def labels(const uint8_t[::1] bytes_of, int kind, uint8_t[::1] out, int64_t[::1] bad, int threads) -> None:
    """Write the labels as 0 and 1; `bad`, one a chunk: the first row that is neither, or -1."""
    cdef Scan scan
    scan.x, scan.kind, scan.n, scan.out, scan.bad = <const void *>&bytes_of[0], kind, out.shape[0], &out[0], &bad[0]
    with nogil:
        parallel_for(_labels, &scan, tasks_of(scan.n, CHUNK), threads)


def span(const uint8_t[::1] bytes_of, int kind, int64_t n, int64_t[::1] bad, double[:, ::1] low_high, int threads):
    """Smallest and largest value of each chunk; `bad`: its first NaN, or -1."""
    cdef Scan scan
    scan.x, scan.kind, scan.n, scan.bad, scan.low_high = (
        <const void *>&bytes_of[0], kind, n, &bad[0], &low_high[0, 0])
    with nogil:
        parallel_for(_range, &scan, tasks_of(n, CHUNK), threads)


# -- the sort -----------------------------------------------------------------------------------------------------

cdef struct Pack:
    const void *scores
    int kind
    const uint8_t *labels
    const int32_t *groups
    int group_shift
    double top
    int64_t n
    uint64_t *words

cdef void _pack(void *context, int64_t task, int worker) noexcept nogil:
    cdef Pack *pack = <Pack *>context
    kernels.fr_clicks_pack(pack.scores, pack.kind, pack.labels, pack.groups, pack.group_shift, pack.top, task * CHUNK,
                           end_of(task, CHUNK, pack.n), pack.words)

cdef void _pair_up(void *context, int64_t task, int worker) noexcept nogil:
    cdef Pack *pack = <Pack *>context
    kernels.fr_clicks_pair_up(pack.scores, pack.kind, pack.labels, pack.top, task * CHUNK,
                              end_of(task, CHUNK, pack.n), <fr_clicks_pair *>pack.words)


def pack(const uint8_t[::1] bytes_of, int kind, const uint8_t[::1] labels, const int32_t[::1] groups, int group_shift,
         double top, uint64_t[::1] words, int threads) -> None:
    """Words of group | falling score code | label; `top` is the largest score."""
    cdef Pack context
    context.scores, context.kind, context.labels = <const void *>&bytes_of[0], kind, &labels[0]
    context.groups = int32s(groups)
    context.group_shift, context.top, context.n, context.words = group_shift, top, labels.shape[0], &words[0]
    with nogil:
        parallel_for(_pack, &context, tasks_of(context.n, CHUNK), threads)


def pair_up(const uint8_t[::1] bytes_of, int kind, const uint8_t[::1] labels, double top, uint64_t[::1] pairs,
            int threads) -> None:
    """Pairs of falling score code, and 2 * row + label."""
    cdef Pack context
    context.scores, context.kind, context.labels = <const void *>&bytes_of[0], kind, &labels[0]
    context.groups = NULL
    context.group_shift = 0
    context.top, context.n, context.words = top, labels.shape[0], &pairs[0]
    with nogil:
        parallel_for(_pair_up, &context, tasks_of(context.n, CHUNK), threads)


cdef struct Radix:
    uint64_t *here
    uint64_t *there
    int stride
    int64_t n
    int64_t part
    int shift
    uint32_t mask
    uint32_t *counts    # (parts, BUCKETS)
    int64_t budget
    int64_t *moves

cdef void _digits(void *context, int64_t task, int worker) noexcept nogil:
    cdef Radix *radix = <Radix *>context
    kernels.fr_clicks_digits(radix.here, radix.stride, task * radix.part, end_of(task, radix.part, radix.n),
                             radix.shift, radix.mask, &radix.counts[task * BUCKETS])

cdef void _move(void *context, int64_t task, int worker) noexcept nogil:
    cdef Radix *radix = <Radix *>context
    kernels.fr_clicks_move(radix.here, radix.there, radix.stride, task * radix.part,
                           end_of(task, radix.part, radix.n), radix.shift, radix.mask, &radix.counts[task * BUCKETS])

cdef void _settle(void *context, int64_t task, int worker) noexcept nogil:
    cdef Radix *radix = <Radix *>context
    cdef uint64_t upper = (<uint64_t>-1) << radix.shift
    cdef int64_t begin = kernels.fr_clicks_boundary(radix.here, radix.stride, task * CHUNK, radix.n, upper)
    cdef int64_t end = kernels.fr_clicks_boundary(radix.here, radix.stride, (task + 1) * CHUNK, radix.n, upper)
    radix.moves[task] = 0
    if begin < end:
        radix.moves[task] = kernels.fr_clicks_settle(radix.here, radix.stride, begin, end, radix.stride == 1,
                                                     radix.budget)

cdef bint _pass(Radix *radix, int64_t parts, int threads) noexcept nogil:
    """One stable pass from `here` to `there`; False, and nothing moved, where all digits are equal."""
    cdef uint32_t before, count
    cdef int64_t part
    cdef uint32_t digit
    cdef uint32_t total = 0
    parallel_for(_digits, radix, parts, threads)
    for digit in range(radix.mask + 1):
        before = total
        for part in range(parts):
            count = radix.counts[part * BUCKETS + digit]
            radix.counts[part * BUCKETS + digit] = total
            total += count
        if total - before == radix.n:
            return False
    parallel_for(_move, radix, parts, threads)
    radix.here, radix.there = radix.there, radix.here
    return True


cdef void _passes(Radix *radix, int low, int high, int64_t parts, int threads) noexcept nogil:
    """Sort by bits low..high-1, lowest digits first."""
    cdef int digits = (high - low + 10) // 11
    cdef int digit, begin, end
    for digit in range(digits):
        begin = low + (high - low) * digit // digits
        end = low + (high - low) * (digit + 1) // digits
        radix.shift = begin
        radix.mask = (<uint32_t>1 << (end - begin)) - 1
        _pass(radix, parts, threads)


def radix_sort(uint64_t[::1] keys, uint64_t[::1] spare, int stride, int low, int high, int upper, int threads) -> bool:
    """Stable sort of keys (stride 1) or pairs (stride 2) by bits low..high-1; True: the result lies in `spare`.

    Where there are more than `upper` bits, only that many of the highest go through the passes; an insertion sort
    finishes, and where it would take too long (keys that share all upper bits but differ below), passes over all bits.
    """
    cdef Radix radix
    cdef int64_t n = keys.shape[0] // stride
    cdef int64_t parts = min(threads, tasks_of(n, CHUNK // 4))
    cdef int64_t chunks = tasks_of(n, CHUNK)
    cdef int64_t i
    cdef bint settled = True
    cdef uint32_t *counts = <uint32_t *>malloc(parts * BUCKETS * sizeof(uint32_t))
    cdef int64_t *moves = <int64_t *>malloc(chunks * sizeof(int64_t))
    if counts == NULL or moves == NULL:
        free(counts)
        free(moves)
        raise MemoryError("no memory to sort with")
    with nogil:
        radix.here, radix.there, radix.stride, radix.n = &keys[0], &spare[0], stride, n
        radix.part = tasks_of(n, parts)
        radix.counts, radix.moves, radix.budget = counts, moves, 16 * CHUNK
        if high - low > upper:
            _passes(&radix, high - upper, high, parts, threads)
            radix.shift = high - upper
            parallel_for(_settle, &radix, chunks, threads)
            for i in range(chunks):
                settled = settled and moves[i] >= 0
        if high - low <= upper or not settled:
            _passes(&radix, low, high, parts, threads)
    free(counts)
    free(moves)
    return radix.here == &spare[0]


def ranks(const uint64_t[::1] pairs, const int32_t[::1] groups, uint64_t[::1] words) -> None:
    """Sorted pairs to words of group | dense rank of the score, falling | label."""
    cdef const int32_t *of = int32s(groups)
    with nogil:
        kernels.fr_clicks_ranks(<const fr_clicks_pair *>&pairs[0], words.shape[0], of, &words[0])


# -- sums over the sorted rows ------------------------------------------------------------------------------------

cdef struct Sweep:
    const uint64_t *words
    uint64_t mask
    const double *weights
    int64_t n
    bint all
    int64_t *counts             # per chunk: positives before it
    double *weight_sums         # per chunk: weight of negatives and positives before it
    int64_t positives
    double negative_weight
    double positive_weight
    fr_clicks_sweep_sums *out

cdef void _count(void *context, int64_t task, int worker) noexcept nogil:
    cdef Sweep *sweep = <Sweep *>context
    cdef int64_t begin = task * CHUNK
    cdef int64_t end = end_of(task, CHUNK, sweep.n)
    sweep.counts[task] = kernels.fr_clicks_positives(sweep.words, begin, end)
    if sweep.weights != NULL:
        kernels.fr_clicks_weights(sweep.words, sweep.weights, begin, end, &sweep.weight_sums[2 * task])

cdef void _sweep(void *context, int64_t task, int worker) noexcept nogil:
    cdef Sweep *sweep = <Sweep *>context
    cdef int64_t begin = kernels.fr_clicks_boundary(sweep.words, 1, task * CHUNK, sweep.n, sweep.mask - 1)
    cdef int64_t end = kernels.fr_clicks_boundary(sweep.words, 1, (task + 1) * CHUNK, sweep.n, sweep.mask - 1)
    cdef int64_t own, positives
    cdef double some[2]
    if begin >= end:   # the whole chunk lies inside a tie block that began before it
        begin = end = 0
    # What comes before `begin`: all before its own chunk, and the rows of that chunk before it.
    own = begin // CHUNK
    if sweep.weights == NULL:
        positives = sweep.counts[own] + kernels.fr_clicks_positives(sweep.words, own * CHUNK, begin)
        kernels.fr_clicks_sweep(sweep.words, sweep.mask, begin, end, positives, begin - positives, sweep.positives,
                                sweep.n - sweep.positives, sweep.all, &sweep.out[task])
    else:
        kernels.fr_clicks_weights(sweep.words, sweep.weights, own * CHUNK, begin, some)
        kernels.fr_clicks_sweep_weighted(sweep.words, sweep.mask, sweep.weights, begin, end,
                                         sweep.weight_sums[2 * own + 1] + some[1],
                                         sweep.weight_sums[2 * own] + some[0], sweep.positive_weight,
                                         sweep.negative_weight, &sweep.out[task])


def count(const uint64_t[::1] words, const double[::1] weights, int64_t[::1] positives, double[:, ::1] weight_sums,
          int threads) -> None:
    """Positives of each chunk and, with weights, the weight of its negatives and of its positives."""
    cdef Sweep sweep
    sweep.words, sweep.n, sweep.counts = &words[0], words.shape[0], &positives[0]
    sweep.weights = doubles(weights)
    sweep.weight_sums = NULL
    if weights is not None:
        sweep.weight_sums = &weight_sums[0, 0]
    with nogil:
        parallel_for(_count, &sweep, tasks_of(sweep.n, CHUNK), threads)


def sweep(const uint64_t[::1] words, uint64_t mask, const double[::1] weights, bint everything,
          int64_t[::1] positives_before, double[:, ::1] weights_before, int64_t positives, double negative_weight,
          double positive_weight, uint8_t[::1] out, int threads) -> None:
    """Fill `out`, one fr_clicks_sweep_sums a chunk; `*_before` hold what precedes each chunk."""
    cdef Sweep context
    context.words, context.mask, context.n = &words[0], mask, words.shape[0]
    context.weights = doubles(weights)
    context.all, context.counts = everything, &positives_before[0]
    context.weight_sums = NULL
    if weights is not None:
        context.weight_sums = &weights_before[0, 0]
    context.positives, context.negative_weight, context.positive_weight = positives, negative_weight, positive_weight
    context.out = <fr_clicks_sweep_sums *>&out[0]
    with nogil:
        parallel_for(_sweep, &context, tasks_of(context.n, CHUNK), threads)


cdef struct Groups:
    const uint64_t *words
    uint64_t mask
    const double *weights
    const int64_t *offsets
    int64_t groups
    int64_t *positives
    int64_t *pairs2
    double *positive_weights
    double *negative_weights
    double *pairs2_weights

cdef void _groups(void *context, int64_t task, int worker) noexcept nogil:
    cdef Groups *groups = <Groups *>context
    cdef int64_t end = end_of(task, GROUPS, groups.groups)
    if groups.weights == NULL:
        kernels.fr_clicks_groups(groups.words, groups.mask, groups.offsets, task * GROUPS, end, groups.positives,
                                 groups.pairs2)
    else:
        kernels.fr_clicks_groups_weighted(groups.words, groups.mask, groups.weights, groups.offsets, task * GROUPS,
                                          end, groups.positive_weights, groups.negative_weights,
                                          groups.pairs2_weights)


def group_counts(const uint64_t[::1] words, uint64_t mask, const int64_t[::1] offsets, int64_t[::1] positives,
                 int64_t[::1] pairs2, int threads) -> None:
    """Per group, rows offsets[g]..offsets[g + 1]-1: its positives, and 2 * concordant + tied pairs."""
    cdef Groups groups
    groups.words, groups.mask, groups.offsets = &words[0], mask, &offsets[0]
    groups.weights = NULL
    groups.groups, groups.positives, groups.pairs2 = positives.shape[0], &positives[0], &pairs2[0]
    with nogil:
        parallel_for(_groups, &groups, tasks_of(groups.groups, GROUPS), threads)


def group_weights(const uint64_t[::1] words, uint64_t mask, const double[::1] weights, const int64_t[::1] offsets,
                  double[::1] positives, double[::1] negatives, double[::1] pairs2, int threads) -> None:
    """The same with weights: the weight of a group's positives and negatives, and of its pairs."""
    cdef Groups groups
    groups.words, groups.mask, groups.weights, groups.offsets = &words[0], mask, &weights[0], &offsets[0]
    groups.groups, groups.positive_weights = positives.shape[0], &positives[0]
    groups.negative_weights, groups.pairs2_weights = &negatives[0], &pairs2[0]
    with nogil:
        parallel_for(_groups, &groups, tasks_of(groups.groups, GROUPS), threads)


# -- sums that need no order --------------------------------------------------------------------------------------

cdef struct Points:
    const void *y
    int y_kind
    const void *p
    int p_kind
    const double *weights
    int64_t n
    int loss
    double eps
    double centre
    int bins
    const double *edges
    double *lanes
    double *sums
    double *bin_sums

cdef void _points(void *context, int64_t task, int worker) noexcept nogil:
    cdef Points *points = <Points *>context
    cdef int64_t size = points.bins + 1
    kernels.fr_clicks_points(
        points.y, points.y_kind, points.p, points.p_kind, points.weights, task * CHUNK, end_of(task, CHUNK, points.n),
        points.loss, points.eps, points.centre, points.bins, points.edges, points.lanes + worker * size * 24,
        points.sums + task * FR_CLICKS_POINT_SUMS, points.bin_sums + task * size * 3)


def points(const uint8_t[::1] y_bytes, int y_kind, const uint8_t[::1] p_bytes, int p_kind, const double[::1] weights,
           int64_t n, bint loss, double eps, double centre, const double[::1] edges, double[:, ::1] lanes,
           double[:, ::1] sums, double[:, :, ::1] bin_sums, int threads) -> None:
    """Per chunk: the sums named by FR_CLICKS_*, and w, w y, w p of each bin between `edges` (one edge: no bins).

    `lanes` is scratch, (threads, 24 * edges); `sums` is (chunks, POINT_SUMS); `bin_sums` is (chunks, edges, 3), whose
    last row is p = 1 alone.
    """
    cdef Points context
    context.y, context.y_kind = <const void *>&y_bytes[0], y_kind
    context.p, context.p_kind = <const void *>&p_bytes[0], p_kind
    context.weights = doubles(weights)
    context.n, context.loss, context.eps, context.centre = n, loss, eps, centre
    context.bins, context.edges = <int>edges.shape[0] - 1, &edges[0]
    context.lanes, context.bin_sums = &lanes[0, 0], &bin_sums[0, 0, 0]
    context.sums = &sums[0, 0]
    with nogil:
        parallel_for(_points, &context, tasks_of(n, CHUNK), threads)
