"""Bindings of the click-metric kernels.

Arrays are contiguous and checked by the caller.  `bytes_of` arguments are any array viewed as uint8, with `kind` saying
what it holds.  Work is cut into chunks of a size that depends on nothing but the arguments, so sums never depend on the
number of threads.
"""
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
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
        FR_CLICKS_DIGITS
        FR_CLICKS_FINE
    ctypedef struct fr_clicks_functions:
        int64_t (*fr_clicks_labels)(const void *, int, int64_t, int64_t, uint8_t *) noexcept nogil
        int64_t (*fr_clicks_range)(const void *, int, int64_t, int64_t, double *) noexcept nogil
        int (*fr_clicks_score_bits)(int, double, double) noexcept nogil
        void (*fr_clicks_pack)(const void *, int, const uint8_t *, const int32_t *, int, double, int64_t, int64_t,
                               uint64_t *) noexcept nogil
        void (*fr_clicks_pair_up)(const void *, int, const uint8_t *, double, int64_t, int64_t,
                                  fr_clicks_pair *) noexcept nogil
        void (*fr_clicks_digits)(const uint64_t *, int, int64_t, int64_t, int, uint32_t, uint32_t *) noexcept nogil
        void (*fr_clicks_move)(const uint64_t *, uint64_t *, int, int64_t, int64_t, int, uint32_t, uint32_t *) noexcept nogil
        void (*fr_clicks_keys)(const uint64_t *, int, int64_t, int64_t, uint64_t, uint64_t *) noexcept nogil
        void (*fr_clicks_leaf)(uint64_t *, uint64_t *, uint64_t *, int, int64_t, uint64_t) noexcept nogil
        void (*fr_clicks_fine)(const float *, float, int64_t, int64_t, int, uint32_t *) noexcept nogil
        void (*fr_clicks_deal)(const float *, const uint8_t *, float, int64_t, int64_t, int, const uint16_t *,
                               uint32_t *, uint32_t *) noexcept nogil
        void (*fr_clicks_leaf_halves)(uint32_t *, uint32_t *, int64_t) noexcept nogil
        int64_t (*fr_clicks_boundary)(const void *, int, uint64_t, int64_t, int64_t) noexcept nogil
        void (*fr_clicks_ranks)(const fr_clicks_pair *, int64_t, const int32_t *, uint64_t *) noexcept nogil
        int64_t (*fr_clicks_positives)(const void *, int, int64_t, int64_t) noexcept nogil
        void (*fr_clicks_weights)(const uint64_t *, const double *, int64_t, int64_t, double *) noexcept nogil
        void (*fr_clicks_sweep)(const void *, int, uint64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int,
                                const double *, fr_clicks_sweep_sums *) noexcept nogil
        void (*fr_clicks_sweep_weighted)(const uint64_t *, uint64_t, const double *, int64_t, int64_t, double, double,
                                         double, double, fr_clicks_sweep_sums *) noexcept nogil
        void (*fr_clicks_groups)(const uint64_t *, uint64_t, const int64_t *, int64_t, int64_t, int64_t *,
                                 int64_t *) noexcept nogil
        void (*fr_clicks_groups_weighted)(const uint64_t *, uint64_t, const double *, const int64_t *, int64_t,
                                          int64_t, double *, double *, double *) noexcept nogil
        void (*fr_clicks_points)(const void *, int, const void *, int, const double *, int64_t, int64_t, int, double,
                                 double, double *) noexcept nogil
        void (*fr_clicks_bins)(const void *, int, const void *, int, const double *, int64_t, int64_t, int,
                               const double *, double *, double *) noexcept nogil
        void (*fr_clicks_bin_counts)(const uint8_t *, const void *, int, int64_t, int64_t, int, const double *,
                                     uint64_t *, int64_t *) noexcept nogil
        void (*fr_clicks_range_sums)(const void *, int, uint64_t, int, double, int64_t, int64_t,
                                     int64_t *) noexcept nogil
        void (*fr_clicks_scores_at)(const void *, int, uint64_t, int, double, const int64_t *, int64_t,
                                    double *) noexcept nogil
        void (*fr_clicks_above)(const void *, int, uint64_t, int, double, int64_t, const double *, const uint8_t *,
                                int64_t, int64_t *) noexcept nogil
        int64_t (*fr_clicks_negative_row)(const void *, int, int64_t, int64_t, int64_t, double) noexcept nogil
        void (*fr_clicks_block)(const void *, int, uint64_t, int64_t, int64_t, int64_t *) noexcept nogil
        double (*fr_clicks_ascents)(uint32_t *, uint32_t *, double *, double *, int64_t, int64_t, int64_t,
                                    int64_t *) noexcept nogil
    const fr_clicks_functions *fr_clicks_table(int level)

cdef const fr_clicks_functions *kernels = fr_clicks_table(LEVEL)
cdef fr_parallel_for_type parallel_for = <fr_parallel_for_type>PyCapsule_GetPointer(
    runtime.parallel_for, b"fastrec.parallel_for")

cdef enum:
    CHUNK = 65536    # rows of a task; part of the definition of every float sum
    GROUPS = 256     # groups of a task
    LEAF = 32768     # rows that are sorted at once, in cache, by one thread
    BUCKET = 1024    # the same of half words, where that makes no more than BUCKETS buckets
    BUCKETS = 1024

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


cdef int64_t _first(const int64_t *bad, int64_t chunks) noexcept nogil:
    """The first of the rows that chunks have found; -1: none has."""
    cdef int64_t chunk
    for chunk in range(chunks):
        if bad[chunk] >= 0:
            return bad[chunk]
    return -1


def labels(const uint8_t[::1] bytes_of, int kind, uint8_t[::1] out, int threads) -> int:
    """Write the labels as 0 and 1; the first row that is neither, or -1."""
    cdef Scan scan
    cdef int64_t first = -1, chunks = tasks_of(out.shape[0], CHUNK)
    scan.bad = <int64_t *>malloc(chunks * sizeof(int64_t))
    if scan.bad == NULL:
        raise MemoryError("no memory to read labels with")
    scan.x, scan.kind, scan.n, scan.out = <const void *>&bytes_of[0], kind, out.shape[0], &out[0]
    with nogil:
        parallel_for(_labels, &scan, chunks, threads)
        first = _first(scan.bad, chunks)
    free(scan.bad)
    return first


def span(const uint8_t[::1] bytes_of, int kind, int64_t n, int threads) -> tuple:
    """Smallest and largest value, and the first row that is NaN: then only that counts; else it is -1."""
    cdef Scan scan
    cdef int64_t chunk, first = -1, chunks = tasks_of(n, CHUNK)
    cdef double low = 0.0, high = 0.0
    scan.bad = <int64_t *>malloc(chunks * sizeof(int64_t))
    scan.low_high = <double *>malloc(chunks * 2 * sizeof(double))
    if scan.bad != NULL and scan.low_high != NULL:
        scan.x, scan.kind, scan.n = <const void *>&bytes_of[0], kind, n
        with nogil:
            parallel_for(_range, &scan, chunks, threads)
            first = _first(scan.bad, chunks)
            low, high = scan.low_high[0], scan.low_high[1]
            for chunk in range(1, chunks):
                low, high = min(low, scan.low_high[2 * chunk]), max(high, scan.low_high[2 * chunk + 1])
    free(scan.low_high)
    free(scan.bad)
    if scan.bad == NULL or scan.low_high == NULL:
        raise MemoryError("no memory to read scores with")
    return low, high, first


def score_bits(int kind, double low, double high) -> int:
    """How many bits tell apart the scores from `low` to `high`; at least 1."""
    return kernels.fr_clicks_score_bits(kind, low, high)


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


cdef struct Segment:
    int64_t begin
    int64_t end
    bint moved                  # its rows lie in the spare buffer

cdef struct Radix:
    uint64_t *rows[2]           # the rows, and the spare buffer
    int stride
    uint64_t mask
    # one pass over a segment
    Segment now
    int64_t part
    int shift
    uint32_t digits
    uint32_t *counts            # (parts, FR_CLICKS_DIGITS)
    uint64_t *ranges            # (parts, 2)
    Segment leaves[FR_CLICKS_DIGITS]     # parts of it that are sorted at once
    int leaf_count
    Segment *large              # those that must be split again
    int64_t large_count

cdef void _keys(void *context, int64_t task, int worker) noexcept nogil:
    cdef Radix *radix = <Radix *>context
    cdef int64_t begin = radix.now.begin + task * radix.part
    kernels.fr_clicks_keys(radix.rows[radix.now.moved], radix.stride, begin, min(begin + radix.part, radix.now.end),
                           radix.mask, &radix.ranges[2 * task])

cdef void _digits(void *context, int64_t task, int worker) noexcept nogil:
    cdef Radix *radix = <Radix *>context
    cdef int64_t begin = radix.now.begin + task * radix.part
    kernels.fr_clicks_digits(radix.rows[radix.now.moved], radix.stride, begin, min(begin + radix.part, radix.now.end),
                             radix.shift, radix.digits, &radix.counts[task * FR_CLICKS_DIGITS])

cdef void _move(void *context, int64_t task, int worker) noexcept nogil:
    cdef Radix *radix = <Radix *>context
    cdef int64_t begin = radix.now.begin + task * radix.part
    kernels.fr_clicks_move(radix.rows[radix.now.moved], radix.rows[not radix.now.moved], radix.stride, begin,
                           min(begin + radix.part, radix.now.end), radix.shift, radix.digits,
                           &radix.counts[task * FR_CLICKS_DIGITS])

cdef void _leaf(void *context, int64_t task, int worker) noexcept nogil:
    cdef Radix *radix = <Radix *>context
    cdef Segment leaf = radix.leaves[task]
    cdef int64_t at = leaf.begin * radix.stride
    kernels.fr_clicks_leaf(radix.rows[leaf.moved] + at, radix.rows[not leaf.moved] + at, radix.rows[0] + at,
                           radix.stride, leaf.end - leaf.begin, radix.mask)

cdef void _keep(Radix *radix, int64_t begin, int64_t end, bint moved, bint whole) noexcept nogil:
    """Note a segment for later; a `whole` one is sorted at once whatever its size."""
    cdef Segment segment
    segment.begin, segment.end, segment.moved = begin, end, moved
    if whole or end - begin <= LEAF:
        radix.leaves[radix.leaf_count] = segment
        radix.leaf_count += end > begin
    else:
        radix.large[radix.large_count] = segment
        radix.large_count += 1


cdef void _split(Radix *radix, int low, int threads) noexcept nogil:
    """Move the rows of segment `now` to the other buffer, by the highest 6 bits in which their keys differ."""
    cdef int64_t n = radix.now.end - radix.now.begin
    cdef int64_t part
    cdef int64_t parts = min(<int64_t>threads, tasks_of(n, LEAF))
    cdef uint64_t least, most
    cdef uint32_t digit, count, begin, total
    cdef int bits = 0
    radix.part = tasks_of(n, parts)
    parts = tasks_of(n, radix.part)
    parallel_for(_keys, radix, parts, threads)
    least, most = radix.ranges[0], radix.ranges[1]
    for part in range(1, parts):
        least, most = min(least, radix.ranges[2 * part]), max(most, radix.ranges[2 * part + 1])
    while bits < 64 and (least ^ most) >> bits:
        bits += 1
    if bits == 0:
        _keep(radix, radix.now.begin, radix.now.end, radix.now.moved, True)
        return
    radix.shift = max(bits - 6, low)
    radix.digits = (<uint32_t>1 << (bits - radix.shift)) - 1
    parallel_for(_digits, radix, parts, threads)
    total = <uint32_t>radix.now.begin
    for digit in range(radix.digits + 1):
        begin = total
        for part in range(parts):
            count = radix.counts[part * FR_CLICKS_DIGITS + digit]
            radix.counts[part * FR_CLICKS_DIGITS + digit] = total
            total += count
        _keep(radix, begin, total, not radix.now.moved, False)
    parallel_for(_move, radix, parts, threads)


def radix_sort(uint64_t[::1] rows, uint64_t[::1] spare, int stride, int low, int high, int threads) -> None:
    """Stable sort of keys (stride 1), or of pairs by their keys (stride 2), by bits low..high-1.  Below 2^32 rows.

    Large segments are split by 6 bits, in parallel; those of at most LEAF rows are sorted in cache, each by one thread.
    """
    cdef Radix radix
    cdef int64_t n = rows.shape[0] // stride
    # Segments that wait are apart and above LEAF rows each; a split adds to them before its own rows leave.
    radix.large = <Segment *>malloc((n // LEAF + FR_CLICKS_DIGITS) * sizeof(Segment))
    radix.counts = <uint32_t *>malloc(threads * FR_CLICKS_DIGITS * sizeof(uint32_t))
    radix.ranges = <uint64_t *>malloc(threads * 2 * sizeof(uint64_t))
    if radix.large == NULL or radix.counts == NULL or radix.ranges == NULL:
        free(radix.large)
        free(radix.counts)
        free(radix.ranges)
        raise MemoryError("no memory to sort with")
    with nogil:
        radix.rows[0], radix.rows[1], radix.stride = &rows[0], &spare[0], stride
        radix.mask = ((<uint64_t>-1) >> (64 - (high - low))) << low
        radix.leaf_count = 0
        radix.large_count = 0
        _keep(&radix, 0, n, False, False)
        while True:
            if radix.leaf_count:
                parallel_for(_leaf, &radix, radix.leaf_count, threads)
                radix.leaf_count = 0
            if not radix.large_count:
                break
            radix.large_count -= 1
            radix.now = radix.large[radix.large_count]
            _split(&radix, low, threads)
    free(radix.large)
    free(radix.counts)
    free(radix.ranges)


cdef struct Deal:
    const float *scores
    const uint8_t *labels
    float top
    int shift
    int64_t n
    int64_t part
    uint32_t *counts                     # (parts, FR_CLICKS_FINE): then the places of the buckets of each part
    uint16_t bucket_of[FR_CLICKS_FINE]
    uint32_t starts[FR_CLICKS_FINE + 1]  # of the buckets
    uint32_t *halves
    uint32_t *spare
    uint32_t slot                        # rows of each worker's part of `spare`; 0: each bucket has its own there

cdef void _fine(void *context, int64_t task, int worker) noexcept nogil:
    cdef Deal *deal = <Deal *>context
    kernels.fr_clicks_fine(deal.scores, deal.top, task * deal.part, min((task + 1) * deal.part, deal.n), deal.shift,
                           &deal.counts[task * FR_CLICKS_FINE])

cdef void _deal(void *context, int64_t task, int worker) noexcept nogil:
    cdef Deal *deal = <Deal *>context
    kernels.fr_clicks_deal(deal.scores, deal.labels, deal.top, task * deal.part, min((task + 1) * deal.part, deal.n),
                           deal.shift, deal.bucket_of, &deal.counts[task * FR_CLICKS_FINE], deal.halves)

cdef void _leaf_halves(void *context, int64_t task, int worker) noexcept nogil:
    cdef Deal *deal = <Deal *>context
    cdef int64_t at = deal.starts[task]
    kernels.fr_clicks_leaf_halves(deal.halves + at, deal.spare + (worker * <int64_t>deal.slot if deal.slot else at),
                                  deal.starts[task + 1] - at)


def sort_floats(const float[::1] scores, const uint8_t[::1] labels, float top, int bits, uint32_t[::1] words,
                int threads) -> None:
    """Sorted half words of falling score code | label, of scores whose codes have at most `bits`, 31 or fewer.

    The rows are counted by the leading bits of their codes, dealt out into buckets of neighbouring values, and each
    bucket is sorted in cache by one thread.
    """
    cdef Deal deal
    cdef int64_t parts, part, fine, buckets = 0, most
    cdef uint32_t total = 0, inside = 0, of_all, count, largest = 0
    deal.n = words.shape[0]
    parts = min(<int64_t>threads, tasks_of(deal.n, CHUNK))
    deal.part = tasks_of(deal.n, parts)
    parts = tasks_of(deal.n, deal.part)
    deal.counts = <uint32_t *>malloc(parts * FR_CLICKS_FINE * sizeof(uint32_t))
    if deal.counts == NULL:
        raise MemoryError("no memory to sort with")
    deal.scores, deal.labels, deal.top = &scores[0], &labels[0], top
    deal.shift = max(bits - 13, 0)  # FR_CLICKS_FINE is 2^13
    deal.halves = &words[0]
    most = max(<int64_t>BUCKET, deal.n // BUCKETS)
    with nogil:
        parallel_for(_fine, &deal, parts, threads)
        deal.starts[0] = 0
        for fine in range(FR_CLICKS_FINE):
            of_all = 0
            for part in range(parts):
                of_all += deal.counts[part * FR_CLICKS_FINE + fine]
            if inside and inside + of_all > most:
                buckets += 1
                deal.starts[buckets] = total
                inside = 0
            deal.bucket_of[fine] = <uint16_t>buckets
            inside += of_all
            total += of_all
            largest = max(largest, inside)
        buckets += 1
        deal.starts[buckets] = total
        for part in range(parts):  # in place: a bucket's number is never above that of its first fine value
            total = 0
            inside = 0
            for fine in range(FR_CLICKS_FINE):
                count = deal.counts[part * FR_CLICKS_FINE + fine]
                if deal.bucket_of[fine] != inside:
                    deal.counts[part * FR_CLICKS_FINE + inside] = total
                    inside = deal.bucket_of[fine]
                    total = 0
                total += count
            deal.counts[part * FR_CLICKS_FINE + inside] = total
        for fine in range(buckets):
            total = deal.starts[fine]
            for part in range(parts):
                count = deal.counts[part * FR_CLICKS_FINE + fine]
                deal.counts[part * FR_CLICKS_FINE + fine] = total
                total += count
        deal.slot = largest if <int64_t>largest * threads <= deal.n else 0
        deal.spare = <uint32_t *>malloc((deal.slot * <int64_t>threads if deal.slot else deal.n) * sizeof(uint32_t))
        if deal.spare != NULL:
            parallel_for(_deal, &deal, parts, threads)
            parallel_for(_leaf_halves, &deal, buckets, threads)
    free(deal.counts)
    free(deal.spare)
    if deal.spare == NULL:
        raise MemoryError("no memory to sort with")


def ranks(const uint64_t[::1] pairs, const int32_t[::1] groups, uint64_t[::1] words) -> None:
    """Sorted pairs to words of group | dense rank of the score, falling | label."""
    cdef const int32_t *of = int32s(groups)
    with nogil:
        kernels.fr_clicks_ranks(<const fr_clicks_pair *>&pairs[0], words.shape[0], of, &words[0])


# -- sums over the sorted rows ------------------------------------------------------------------------------------
# `words` are bytes: 8 a row, or 4 where `sort_floats` made them.

cdef struct Sweep:
    const void *words           # 4 bytes a row where they are `half`, else 8
    int half
    uint64_t mask
    const double *weights
    int64_t n
    int64_t first               # chunk of task 0
    int level
    int64_t *counts             # per chunk: positives before it
    double *weight_sums         # per chunk: weight of negatives and positives before it
    int64_t positives
    double negative_weight
    double positive_weight
    double floors[2]            # a gap, and half an F1, that some chunk reaches at its begin
    fr_clicks_sweep_sums *out

cdef void _count(void *context, int64_t task, int worker) noexcept nogil:
    cdef Sweep *sweep = <Sweep *>context
    cdef int64_t begin = task * CHUNK
    cdef int64_t end = end_of(task, CHUNK, sweep.n)
    sweep.counts[task] = kernels.fr_clicks_positives(sweep.words, sweep.half, begin, end)
    if sweep.weights != NULL:
        kernels.fr_clicks_weights(<const uint64_t *>sweep.words, sweep.weights, begin, end,
                                  &sweep.weight_sums[2 * task])

cdef int64_t _begin(Sweep *sweep, int64_t chunk, int64_t *positives) noexcept nogil:
    """Where the first tie block that begins in a chunk or after it does, and the positives before that (no weights)."""
    cdef int64_t begin = kernels.fr_clicks_boundary(sweep.words, sweep.half, sweep.mask, chunk * CHUNK, sweep.n)
    cdef int64_t own = begin // CHUNK  # what comes before are all rows before its own chunk, and some of that
    if sweep.weights == NULL:
        positives[0] = sweep.counts[own] + kernels.fr_clicks_positives(sweep.words, sweep.half, own * CHUNK, begin)
    return begin


cdef void _raise_floors(Sweep *sweep) noexcept nogil:
    """Thresholds at which KS and F1 are cheap to know, so that most chunks need not be searched for better ones."""
    cdef int64_t chunk, begin, hits = 0
    cdef double t, f, gap, p = sweep.positives, n = sweep.n - sweep.positives
    for chunk in range(1, tasks_of(sweep.n, CHUNK)):
        begin = _begin(sweep, chunk, &hits)
        t = hits
        f = begin - hits
        gap = t * n - f * p
        sweep.floors[0] = max(sweep.floors[0], gap if gap > 0.0 else -gap)
        sweep.floors[1] = max(sweep.floors[1], t / (t + f + p))


cdef void _sweep(void *context, int64_t task, int worker) noexcept nogil:
    cdef Sweep *sweep = <Sweep *>context
    cdef int64_t chunk = sweep.first + task
    cdef int64_t own, positives = 0
    cdef int64_t begin = _begin(sweep, chunk, &positives)
    cdef int64_t end = kernels.fr_clicks_boundary(sweep.words, sweep.half, sweep.mask, (chunk + 1) * CHUNK, sweep.n)
    cdef double some[2]
    if begin >= end:   # the whole chunk lies inside a tie block that began before it
        begin = end = positives = 0
    if sweep.weights == NULL:
        kernels.fr_clicks_sweep(sweep.words, sweep.half, sweep.mask, begin, end, positives, begin - positives,
                                sweep.positives, sweep.n - sweep.positives, sweep.level, sweep.floors,
                                &sweep.out[task])
    else:
        own = begin // CHUNK
        kernels.fr_clicks_weights(<const uint64_t *>sweep.words, sweep.weights, own * CHUNK, begin, some)
        kernels.fr_clicks_sweep_weighted(<const uint64_t *>sweep.words, sweep.mask, sweep.weights, begin, end,
                                         sweep.weight_sums[2 * own + 1] + some[1],
                                         sweep.weight_sums[2 * own] + some[0], sweep.positive_weight,
                                         sweep.negative_weight, &sweep.out[task])


def count(const uint8_t[::1] words, int64_t n, const double[::1] weights, int64_t[::1] positives,
          double[:, ::1] weight_sums, int threads) -> None:
    """Positives of each chunk and, with weights, the weight of its negatives and of its positives."""
    cdef Sweep sweep
    sweep.words, sweep.half, sweep.n, sweep.counts = <const void *>&words[0], words.shape[0] < 8 * n, n, &positives[0]
    sweep.weights = doubles(weights)
    sweep.weight_sums = NULL
    if weights is not None:
        sweep.weight_sums = &weight_sums[0, 0]
    with nogil:
        parallel_for(_count, &sweep, tasks_of(sweep.n, CHUNK), threads)


def sweep(const uint8_t[::1] words, int64_t n, int64_t first, uint64_t mask, const double[::1] weights, int level,
          int64_t[::1] positives_before, double[:, ::1] weights_before, int64_t positives, double negative_weight,
          double positive_weight, uint8_t[::1] out, int threads) -> None:
    """Fill `out`, one fr_clicks_sweep_sums a chunk from the `first` on; `*_before` hold what precedes each chunk.

    Level 0: pairs; 1: also precision, KS and F1; 2: also DeLong's sums.  With weights always all.  KS and F1 are the
    largest of all chunks; those of a chunk may be left at 0 where another's are larger.
    """
    cdef Sweep context
    context.words, context.half = <const void *>&words[0], words.shape[0] < 8 * n
    context.mask, context.n, context.first = mask, n, first
    context.weights = doubles(weights)
    context.level, context.counts = level, &positives_before[0]
    context.weight_sums = NULL
    if weights is not None:
        context.weight_sums = &weights_before[0, 0]
    context.positives, context.negative_weight, context.positive_weight = positives, negative_weight, positive_weight
    context.out = <fr_clicks_sweep_sums *>&out[0]
    context.floors[0] = context.floors[1] = 0.0
    with nogil:
        if level >= 1 and context.weights == NULL:
            _raise_floors(&context)
        parallel_for(_sweep, &context, tasks_of(n, CHUNK) - first, threads)


cdef struct Ranges:
    const void *words
    int half
    uint64_t mask
    int kind
    double top
    const int64_t *cuts
    int64_t *sums

cdef void _range_sums(void *context, int64_t task, int worker) noexcept nogil:
    cdef Ranges *ranges = <Ranges *>context
    kernels.fr_clicks_range_sums(ranges.words, ranges.half, ranges.mask, ranges.kind, ranges.top, ranges.cuts[task],
                                 ranges.cuts[task + 1], ranges.sums + 3 * task)


def range_sums(const uint8_t[::1] words, int64_t n, uint64_t mask, int kind, double top, const int64_t[::1] cuts,
               int64_t[:, ::1] sums, int threads) -> None:
    """Of rows cuts[r]..cuts[r + 1]-1 of the sorted words: positives, and scores in units of 2^-32 and 2^-64.

    The scores lie in 0..1; the words are those that `pack` or `sort_floats` made.
    """
    cdef Ranges ranges
    ranges.words, ranges.half = <const void *>&words[0], words.shape[0] < 8 * n
    ranges.mask, ranges.kind, ranges.top = mask, kind, top
    ranges.cuts, ranges.sums = &cuts[0], &sums[0, 0]
    with nogil:
        parallel_for(_range_sums, &ranges, sums.shape[0], threads)


def scores_at(const uint8_t[::1] words, int64_t n, uint64_t mask, int kind, double top, const int64_t[::1] rows,
              double[::1] out) -> None:
    """The scores of rows of the sorted words, which `pack` or `sort_floats` made."""
    if rows.shape[0]:
        kernels.fr_clicks_scores_at(<const void *>&words[0], words.shape[0] < 8 * n, mask, kind, top, &rows[0],
                                    rows.shape[0], &out[0])


def above(const uint8_t[::1] words, int64_t n, uint64_t mask, int kind, double top, const double[::1] edges,
          const uint8_t[::1] closed, int64_t[::1] out) -> None:
    """How many rows of such words have a score above each edge or, where it is `closed`, equal to it."""
    if edges.shape[0]:
        kernels.fr_clicks_above(<const void *>&words[0], words.shape[0] < 8 * n, mask, kind, top, n, &edges[0],
                                &closed[0], edges.shape[0], &out[0])


def positives(const uint8_t[::1] words, int64_t n, int64_t begin, int64_t end) -> int:
    """Positives among rows begin..end-1 of the sorted words."""
    return kernels.fr_clicks_positives(<const void *>&words[0], words.shape[0] < 8 * n, begin, end)


def negative_row(const uint8_t[::1] words, int64_t n, int64_t begin, int64_t end, int64_t before,
                 double wanted) -> int:
    """The row of begin..end-1 that `wanted` negatives end with, when `before` of them precede row begin; end - 1 where
    there are fewer."""
    return kernels.fr_clicks_negative_row(<const void *>&words[0], words.shape[0] < 8 * n, begin, end, before, wanted)


def block(const uint8_t[::1] words, int64_t n, uint64_t mask, int64_t row) -> tuple:
    """First row, and one past the last, of the tie block that holds `row`."""
    cdef int64_t begin_end[2]
    kernels.fr_clicks_block(<const void *>&words[0], words.shape[0] < 8 * n, mask, row, n, begin_end)
    return begin_end[0], begin_end[1]


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
    double *sums

cdef void _points(void *context, int64_t task, int worker) noexcept nogil:
    cdef Points *points = <Points *>context
    kernels.fr_clicks_points(points.y, points.y_kind, points.p, points.p_kind, points.weights, task * CHUNK,
                             end_of(task, CHUNK, points.n), points.loss, points.eps, points.centre,
                             points.sums + task * FR_CLICKS_POINT_SUMS)


def points(const uint8_t[::1] y_bytes, int y_kind, const uint8_t[::1] p_bytes, int p_kind, const double[::1] weights,
           int64_t n, bint loss, double eps, double centre, double[:, ::1] sums, int threads) -> None:
    """Per chunk: the sums named by FR_CLICKS_*, into (chunks, POINT_SUMS)."""
    cdef Points context
    context.y, context.y_kind = <const void *>&y_bytes[0], y_kind
    context.p, context.p_kind = <const void *>&p_bytes[0], p_kind
    context.weights = doubles(weights)
    context.n, context.loss, context.eps, context.centre, context.sums = n, loss, eps, centre, &sums[0, 0]
    with nogil:
        parallel_for(_points, &context, tasks_of(n, CHUNK), threads)


cdef struct Bins:
    const void *y
    int y_kind
    const void *p
    int p_kind
    const double *weights
    int64_t n
    int bins
    const double *edges
    double *lanes               # (workers, 24 * edges): as doubles, or as the words of counts
    double *sums
    int64_t *counts

cdef void _bins(void *context, int64_t task, int worker) noexcept nogil:
    cdef Bins *bins = <Bins *>context
    cdef int64_t size = bins.bins + 1
    kernels.fr_clicks_bins(bins.y, bins.y_kind, bins.p, bins.p_kind, bins.weights, task * CHUNK,
                           end_of(task, CHUNK, bins.n), bins.bins, bins.edges, bins.lanes + worker * size * 24,
                           bins.sums + task * size * 3)

cdef void _bin_counts(void *context, int64_t task, int worker) noexcept nogil:
    cdef Bins *bins = <Bins *>context
    cdef int64_t size = bins.bins + 1
    kernels.fr_clicks_bin_counts(<const uint8_t *>bins.y, bins.p, bins.p_kind, task * CHUNK,
                                 end_of(task, CHUNK, bins.n), bins.bins, bins.edges,
                                 <uint64_t *>bins.lanes + worker * size * 24, bins.counts + task * size * 4)


def bins(const uint8_t[::1] y_bytes, int y_kind, const uint8_t[::1] p_bytes, int p_kind, const double[::1] weights,
         int64_t n, const double[::1] edges, double[:, ::1] lanes, double[:, :, ::1] sums, int threads) -> None:
    """Per chunk: w, w y, w p of each bin between `edges`, into (chunks, edges, 3), whose last row is p = 1 alone.

    `lanes` is scratch, (threads, 24 * edges).
    """
    cdef Bins context
    context.y, context.y_kind = <const void *>&y_bytes[0], y_kind
    context.p, context.p_kind = <const void *>&p_bytes[0], p_kind
    context.weights = doubles(weights)
    context.n, context.bins, context.edges = n, <int>edges.shape[0] - 1, &edges[0]
    context.lanes, context.sums = &lanes[0, 0], &sums[0, 0, 0]
    with nogil:
        parallel_for(_bins, &context, tasks_of(n, CHUNK), threads)


def bin_counts(const uint8_t[::1] y, const uint8_t[::1] p_bytes, int p_kind, const double[::1] edges,
               double[:, ::1] lanes, int64_t[:, :, ::1] counts, int threads) -> None:
    """The same of rows of weight 1 with labels 0 or 1, exact: (chunks, edges, 4) of rows, positives, and probabilities
    in units of 2^-32 and 2^-64."""
    cdef Bins context
    context.y, context.p, context.p_kind = <const void *>&y[0], <const void *>&p_bytes[0], p_kind
    context.n, context.bins, context.edges = y.shape[0], <int>edges.shape[0] - 1, &edges[0]
    context.lanes, context.counts = &lanes[0, 0], &counts[0, 0, 0]
    with nogil:
        parallel_for(_bin_counts, &context, tasks_of(context.n, CHUNK), threads)


# -- pairs of real targets ----------------------------------------------------------------------------------------

cdef struct Ascents:
    uint32_t *ranks
    uint32_t *spare
    double *weights
    double *spare_weights
    int64_t n
    int64_t width               # of the runs that are sorted
    int64_t size                # of the runs to be made
    int64_t *counts
    double *sums

cdef void _ascents(void *context, int64_t task, int worker) noexcept nogil:
    cdef Ascents *ascents = <Ascents *>context
    ascents.sums[task] = kernels.fr_clicks_ascents(
        ascents.ranks, ascents.spare, ascents.weights, ascents.spare_weights, task * ascents.size,
        end_of(task, ascents.size, ascents.n), ascents.width, &ascents.counts[task])


def ascents(uint32_t[::1] ranks, uint32_t[::1] spare, double[::1] weights, double[::1] spare_weights, int64_t width,
            int64_t size, int64_t[::1] counts, double[::1] sums, int threads) -> None:
    """Merge runs of `width` sorted rows into runs of `size`; count, and weigh, the pairs whose first is the smaller.

    `counts` and `sums` get one number a run; both arrays of weights are None where all weigh 1, and `sums` is then 0.
    """
    cdef Ascents context
    context.ranks, context.spare, context.n = &ranks[0], &spare[0], ranks.shape[0]
    context.weights = NULL
    context.spare_weights = NULL
    if weights is not None:
        context.weights, context.spare_weights = &weights[0], &spare_weights[0]
    context.width, context.size, context.counts, context.sums = width, size, &counts[0], &sums[0]
    with nogil:
        parallel_for(_ascents, &context, tasks_of(context.n, size), threads)
