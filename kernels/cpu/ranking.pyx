"""Bindings of the ranking kernels: pointers, sizes and the thread pool.  The operations above validate."""
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport INT32_MAX, INT64_MAX, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport free, malloc

from fastrec._core.isa import LEVEL
from fastrec._kernels import runtime

cdef extern from "pool.h" nogil:
    ctypedef void (*fr_task)(void *context, int64_t task, int worker) noexcept nogil
    ctypedef void (*fr_parallel_for_type)(fr_task fn, void *context, int64_t tasks, int threads) noexcept nogil

cdef extern from "ranking_table.h" nogil:
    ctypedef struct fr_items:
        const void *data
        int64_t n, d, stride
        int dtype, metric
        const float *bias
    ctypedef struct fr_index:
        fr_items items
        int64_t panels
        const uint32_t *order
        const uint8_t *codes
        const float *meta
        const float *beta
        int64_t places
        int64_t place[15]
        const float *rest
        const float *turn
        double turn_error
        const float *means
        const uint32_t *special
        int64_t specials
        int exponent
    ctypedef struct fr_lists:
        const int64_t *indptr
        const void *indices
        int wide
    ctypedef struct fr_scan:
        const fr_index *index
        const float *queries
        int64_t q, k, group, segments
        fr_lists exclude
        int use_codes
        float min_score
        float *shared
        int64_t *rows
        float *scores
        int64_t *stats
        char *scratch
        int64_t scratch_bytes
    ctypedef struct fr_pairs:
        fr_items items
        const float *queries
        int64_t q
        const int64_t *rows
        const int64_t *cols
        int64_t n, chunk
        float *out
        int *astray
    ctypedef struct fr_candidates:
        fr_items items
        const float *queries
        int64_t q, k
        fr_lists own
        int64_t longest
        fr_lists exclude
        float min_score
        int64_t *rows
        float *scores
        char *scratch
        int64_t scratch_bytes
    ctypedef struct fr_select:
        const float *scores
        int64_t q, n, k
        int64_t *rows
        float *values
        char *scratch
        int64_t scratch_bytes
    ctypedef struct fr_ranking_functions:
        int (*fr_ranking_level)() noexcept nogil
        void (*fr_norms)(const fr_items *items, int64_t begin, int64_t end, double *norms, int64_t cut,
                         uint16_t *behind) noexcept nogil
        void (*fr_pack)(const fr_index *index, int64_t begin, int64_t end, uint8_t *codes, float *meta,
                        float *beta, float *rest, float *means, float *scratch) noexcept nogil
        int64_t (*fr_pack_scratch)(const fr_index *index) noexcept nogil
        int64_t (*fr_scan_scratch)(const fr_scan *scan) noexcept nogil
        void (*fr_scan_task)(const fr_scan *scan, int64_t task, int worker) noexcept nogil
        void (*fr_pairs_task)(const fr_pairs *pairs, int64_t task) noexcept nogil
        void (*fr_score_row)(const fr_items *items, const float *query, float *out) noexcept nogil
        int64_t (*fr_candidates_scratch)(const fr_candidates *args) noexcept nogil
        void (*fr_candidates_task)(const fr_candidates *args, int64_t task, int worker) noexcept nogil
        int64_t (*fr_select_scratch)(const fr_select *args) noexcept nogil
        void (*fr_select_task)(const fr_select *args, int64_t task, int worker) noexcept nogil
    const fr_ranking_functions *fr_ranking_table(int level)

cdef const fr_ranking_functions *kernels = fr_ranking_table(LEVEL)
cdef fr_parallel_for_type parallel_for = <fr_parallel_for_type>PyCapsule_GetPointer(
    runtime.parallel_for, b"fastrec.parallel_for")

cdef enum:
    PANEL = 32
    META = 8

cdef int64_t SCRATCH_BUDGET = 40 << 20  # of one call, all threads together


def level() -> int:
    """The instruction-set level these kernels were compiled for."""
    return kernels.fr_ranking_level()


cdef class Items:
    """The caller's matrix, viewed: an address, a shape, a row stride in elements, a dtype and a metric code."""
    cdef fr_items view
    cdef object owners

    def __cinit__(self, uintptr_t address, int64_t n, int64_t d, int64_t stride, int dtype, int metric, bias, owner):
        cdef const float[::1] terms
        self.view.data = <const void *>address
        self.view.n, self.view.d, self.view.stride = n, d, stride
        self.view.dtype, self.view.metric = dtype, metric
        self.view.bias = NULL
        if bias is not None and bias.shape[0]:
            terms = bias
            self.view.bias = &terms[0]
        self.owners = (owner, bias)


cdef struct NormsJob:
    const fr_items *items
    int64_t chunk
    double *norms
    int64_t cut
    uint16_t *behind

cdef void norms_task(void *context, int64_t task, int worker) noexcept nogil:
    cdef NormsJob *job = <NormsJob *>context
    cdef int64_t begin = task * job.chunk
    kernels.fr_norms(job.items, begin, min(begin + job.chunk, job.items.n), job.norms, job.cut, job.behind)


def norms(Items items, double[::1] out, int64_t cut, uint16_t[::1] behind, int threads) -> None:
    """Euclidean norm of each item, and the share of its square behind ``cut`` dimensions unless ``behind`` is None."""
    cdef NormsJob job
    if items.view.n == 0:
        return
    job.items, job.chunk, job.norms = &items.view, 1024, &out[0]
    job.cut, job.behind = cut, &behind[0] if behind is not None else NULL
    with nogil:
        parallel_for(norms_task, &job, (items.view.n + 1023) // 1024, threads)


cdef struct PackJob:
    const fr_index *index
    int64_t chunk
    uint8_t *codes
    float *meta
    float *beta
    float *rest
    float *means
    float *scratch
    int64_t scratch_floats

cdef void pack_task(void *context, int64_t task, int worker) noexcept nogil:
    cdef PackJob *job = <PackJob *>context
    cdef int64_t begin = task * job.chunk
    kernels.fr_pack(job.index, begin, min(begin + job.chunk, job.index.panels), job.codes, job.meta, job.beta, job.rest,
                    job.means, job.scratch + worker * job.scratch_floats)


cdef class Packed:
    """The packed index: views of arrays that this object keeps alive."""
    cdef fr_index view
    cdef Items items
    cdef object owners

    def __cinit__(self, Items items, const uint32_t[::1] order, const uint8_t[::1] codes, const float[::1] meta,
                  const float[::1] beta, places, const float[::1] rest, const float[:, ::1] turn, double turn_error,
                  const float[::1] means, const uint32_t[::1] special, int exponent):
        self.items = items
        self.view.items = items.view
        self.view.panels = order.shape[0] // PANEL
        self.view.order = &order[0] if order.shape[0] else NULL
        self.view.codes = &codes[0] if codes is not None and codes.shape[0] else NULL
        self.view.meta = &meta[0]
        self.view.beta = &beta[0] if beta is not None and beta.shape[0] else NULL
        self.view.places = len(places)
        for s, place in enumerate(places):
            self.view.place[s] = place
        self.view.rest = &rest[0] if rest is not None and rest.shape[0] else NULL
        self.view.turn = &turn[0, 0] if turn is not None else NULL
        self.view.turn_error = turn_error
        self.view.means = &means[0] if means is not None and means.shape[0] else NULL
        self.view.special = &special[0] if special.shape[0] else NULL
        self.view.specials = special.shape[0]
        self.view.exponent = exponent
        self.owners = (order, codes, meta, beta, rest, turn, means, special)


def pack(Packed index, uint8_t[::1] codes, float[::1] meta, float[::1] beta, float[::1] rest, float[::1] means,
         int threads) -> None:
    """Fill meta, and those of codes, beta, rest and means that are not None, from the items, panel by panel."""
    cdef PackJob job
    if index.view.panels == 0:
        return
    job.index, job.chunk = &index.view, 64
    job.codes = &codes[0] if codes is not None and codes.shape[0] else NULL
    job.meta = &meta[0]
    job.beta = &beta[0] if beta is not None and beta.shape[0] else NULL
    job.rest = &rest[0] if rest is not None and rest.shape[0] else NULL
    job.means = &means[0] if means is not None and means.shape[0] else NULL
    job.scratch_floats = kernels.fr_pack_scratch(job.index)
    cdef int64_t tasks = (index.view.panels + 63) // 64
    cdef int workers = within_budget(threads, tasks, 4 * job.scratch_floats)
    job.scratch = <float *>scratch(workers, 4 * job.scratch_floats)
    with nogil:
        parallel_for(pack_task, &job, tasks, workers)
    free(job.scratch)


cdef fr_lists lists(const int64_t[::1] indptr, indices):
    """Per-query lists as kernels take them, or none; the caller keeps both arrays alive."""
    cdef fr_lists view
    cdef const int64_t[::1] wide
    cdef const int32_t[::1] narrow
    view.indptr = NULL
    view.indices = NULL
    view.wide = 0
    if indptr is None:
        return view
    view.indptr = &indptr[0]
    if indices.dtype.itemsize == 8:
        wide = indices
        view.wide = 1
        if wide.shape[0]:
            view.indices = &wide[0]
    else:
        narrow = indices
        if narrow.shape[0]:
            view.indices = &narrow[0]
    return view


cdef int within_budget(int threads, int64_t tasks, int64_t scratch_bytes) noexcept:
    """Workers of a call: as many as there are threads, tasks and memory for, and at least one."""
    return <int>max(1, min(min(<int64_t>threads, tasks), SCRATCH_BUDGET // max(1, scratch_bytes)))


cdef char *scratch(int workers, int64_t each) except NULL:
    cdef char *memory = <char *>malloc(each * workers)
    if memory == NULL:
        raise MemoryError(f"cannot allocate {each * workers} bytes of scratch; use fewer threads or a smaller k")
    return memory


ctypedef fused integer:
    int32_t
    int64_t

# Signs of differences are gathered, in place of branches and comparisons, so that compilers take several at once.
cdef int judge(const int64_t *indptr, int64_t rows, const integer *indices, int64_t items) noexcept nogil:
    cdef int64_t row, i, begin, end
    cdef integer outside = 0, unsorted = 0
    cdef integer positive = <integer>(INT32_MAX if integer is int32_t else INT64_MAX)  # no difference overflows
    cdef integer most = <integer>(min(items - 1, INT32_MAX) if integer is int32_t else items - 1)
    for row in range(rows):
        begin, end = indptr[row], indptr[row + 1]
        for i in range(begin, end):
            outside |= indices[i] | (most - (indices[i] & positive))
        for i in range(begin + 1, end):
            unsorted |= (indices[i] & positive) - (indices[i - 1] & positive) - 1
    return OUT_OF_RANGE if outside < 0 else UNSORTED if unsorted < 0 else 0


cdef enum:
    MALFORMED = 1
    OUT_OF_RANGE = 2
    UNSORTED = 3


def judge_lists(const int64_t[::1] indptr, indices, int64_t items) -> int:
    """What is wrong with per-query lists: 0 nothing, 1 row pointers, 2 an index, 3 order or repetition."""
    cdef fr_lists view = lists(indptr, indices)
    cdef int64_t row, rows = indptr.shape[0] - 1, size = indices.shape[0]
    cdef int found
    if rows < 0 or indptr[0] != 0 or indptr[rows] != size:
        return MALFORMED
    for row in range(rows):
        if indptr[row] > indptr[row + 1]:
            return MALFORMED
    with nogil:
        if view.wide:
            found = judge(view.indptr, rows, <const int64_t *>view.indices, items)
        else:
            found = judge(view.indptr, rows, <const int32_t *>view.indices, items)
    return found


cdef void scan_task(void *context, int64_t task, int worker) noexcept nogil:
    kernels.fr_scan_task(<const fr_scan *>context, task, worker)


def scan(Packed index, const float[:, ::1] queries, int64_t k, int64_t group, int64_t segments,
         const int64_t[::1] exclude_indptr, exclude_indices, bint use_codes, float min_score, float[::1] shared,
         int64_t[:, :, ::1] rows, float[:, :, ::1] scores, int64_t[:, ::1] stats, int threads) -> None:
    """Top k of each query into rows and scores, shaped (queries, segments, k)."""
    cdef fr_scan job
    cdef int64_t tasks
    cdef int workers
    job.index = &index.view
    job.q, job.k, job.segments = queries.shape[0], k, segments
    if job.q == 0 or k == 0:
        return
    job.queries = &queries[0, 0] if queries.shape[1] else NULL
    job.exclude = lists(exclude_indptr, exclude_indices)
    job.use_codes, job.min_score = use_codes, min_score
    job.shared = &shared[0] if shared is not None else NULL
    job.rows, job.scores = &rows[0, 0, 0], &scores[0, 0, 0]
    job.stats = &stats[0, 0] if stats is not None else NULL
    job.group = min(group, job.q)
    while True:  # a smaller group where buffers would outgrow the budget
        job.scratch_bytes = kernels.fr_scan_scratch(&job)
        tasks = (job.q + job.group - 1) // job.group * segments
        workers = <int>min(<int64_t>threads, tasks)
        if job.group == 1 or job.scratch_bytes * workers <= SCRATCH_BUDGET:
            break
        job.group = max(1, job.group // 2)
    workers = within_budget(threads, tasks, job.scratch_bytes)
    job.scratch = scratch(workers, job.scratch_bytes)
    with nogil:
        parallel_for(scan_task, &job, tasks, workers)
    free(job.scratch)


cdef void pairs_task(void *context, int64_t task, int worker) noexcept nogil:
    kernels.fr_pairs_task(<const fr_pairs *>context, task)


def score_pairs(Items items, const float[:, ::1] queries, const int64_t[::1] rows, const int64_t[::1] cols,
                float[::1] out, int threads) -> bool:
    """Canonical scores of (query, item) pairs; False, and ``out`` filled in part, where an index is out of range."""
    cdef fr_pairs job
    cdef int astray = 0
    if rows.shape[0] == 0:
        return True
    job.items, job.q = items.view, queries.shape[0]
    job.queries = &queries[0, 0] if queries.shape[1] else NULL
    job.rows, job.cols, job.out, job.astray = &rows[0], &cols[0], &out[0], &astray
    job.n, job.chunk = rows.shape[0], 16384
    with nogil:
        parallel_for(pairs_task, &job, (job.n + job.chunk - 1) // job.chunk, threads)
    return not astray


cdef struct ScoreJob:
    fr_items items
    const float *queries
    float *out
    int64_t piece, pieces

cdef void score_task(void *context, int64_t task, int worker) noexcept nogil:
    cdef ScoreJob *job = <ScoreJob *>context
    cdef int64_t query = task // job.pieces, begin = task % job.pieces * job.piece
    cdef fr_items some = job.items
    some.data = <const char *>some.data + begin * some.stride * (4 if some.dtype == 0 else 2)
    some.n = min(job.piece, some.n - begin)
    if some.bias != NULL:
        some.bias += begin
    kernels.fr_score_row(&some, job.queries + query * some.d, job.out + query * job.items.n + begin)


def score(Items items, const float[:, ::1] queries, float[:, ::1] out, int threads) -> None:
    """Canonical scores of every query with every item."""
    cdef ScoreJob job
    if out.shape[0] == 0 or out.shape[1] == 0:
        return
    job.items, job.out, job.piece = items.view, &out[0, 0], 8192
    job.pieces = (items.view.n + job.piece - 1) // job.piece
    job.queries = &queries[0, 0] if queries.shape[1] else NULL
    with nogil:
        parallel_for(score_task, &job, out.shape[0] * job.pieces, threads)


cdef void candidates_task(void *context, int64_t task, int worker) noexcept nogil:
    kernels.fr_candidates_task(<const fr_candidates *>context, task, worker)


def candidates(Items items, const float[:, ::1] queries, const int64_t[::1] indptr, indices,
               const int64_t[::1] exclude_indptr, exclude_indices, float min_score, int64_t[:, ::1] rows,
               float[:, ::1] scores, int threads) -> None:
    """Top k of each query among its own candidates, all scored canonically."""
    cdef fr_candidates job
    cdef int workers
    cdef int64_t i
    if rows.shape[0] == 0 or rows.shape[1] == 0:
        return
    job.items, job.q, job.k = items.view, queries.shape[0], rows.shape[1]
    job.queries = &queries[0, 0] if queries.shape[1] else NULL
    job.own = lists(indptr, indices)
    job.exclude = lists(exclude_indptr, exclude_indices)
    job.min_score = min_score
    job.rows, job.scores = &rows[0, 0], &scores[0, 0]
    job.longest = 0
    for i in range(job.q):
        job.longest = max(job.longest, job.own.indptr[i + 1] - job.own.indptr[i])
    job.scratch_bytes = kernels.fr_candidates_scratch(&job)
    workers = within_budget(threads, job.q, job.scratch_bytes)
    job.scratch = scratch(workers, job.scratch_bytes)
    with nogil:
        parallel_for(candidates_task, &job, job.q, workers)
    free(job.scratch)


cdef void select_task(void *context, int64_t task, int worker) noexcept nogil:
    kernels.fr_select_task(<const fr_select *>context, task, worker)


def select_topk(const float[:, ::1] scores, int64_t[:, ::1] rows, float[:, ::1] values, int threads) -> None:
    """Top k of each row of a matrix."""
    cdef fr_select job
    cdef int workers
    if rows.shape[0] == 0 or rows.shape[1] == 0:
        return
    job.q, job.n, job.k = scores.shape[0], scores.shape[1], rows.shape[1]
    job.scores = &scores[0, 0] if scores.shape[1] else NULL
    job.rows, job.values = &rows[0, 0], &values[0, 0]
    job.scratch_bytes = kernels.fr_select_scratch(&job)
    workers = within_budget(threads, job.q, job.scratch_bytes)
    job.scratch = scratch(workers, job.scratch_bytes)
    with nogil:
        parallel_for(select_task, &job, job.q, workers)
    free(job.scratch)
