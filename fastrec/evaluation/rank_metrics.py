"""The operation behind ``fr.evaluate``: flat lists and judgements in, the value of every metric and query out."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from fastrec._core import arrays, checks
from fastrec._core import threads as threading
from fastrec._core.op import operation
from fastrec._kernels import evaluation as kernels
from fastrec.evaluation.conventions import Convention, resolve
from fastrec.evaluation.metrics import Column, Query, diversity, parse
from fastrec.evaluation.metrics.dcg import gain_values

MAX_ORDERS = 5040  # the reference averages ties by trying every order
MAX_TABLE = 1 << 27
_TOPIC_TYPES = (np.int64, np.int32, np.int32, np.int64)
_tables: dict[str, tuple[np.ndarray, np.ndarray]] = {"log": kernels.discounts(1024)}


def _discounts(size: int, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """1 / log2 of the rank plus one (``log``) or of the rank and at least 2 (``clipped``), and the running sums."""
    if kind not in _tables or len(_tables[kind][0]) < size:
        if size > MAX_TABLE:
            raise ValueError(
                f"lists, truths and (with ideal='full') cutoffs may be at most {MAX_TABLE} long; got {size}"
            )
        table, sums = kernels.discounts(size + size // 2 + 1024)
        if kind == "clipped":
            table = np.concatenate((table[:1], table[:-1]))
            sums = np.concatenate(([0.0], np.cumsum(table)))
        _tables[kind] = table, sums
    return _tables[kind]


Worth = tuple[Any, Any, Any, float | None, Any]  # see worth_of


@operation(arrays=("ids", "truth_ptr", "truth_ids", "gains", "scores"), rtol=1e-12)
def rank_metrics(
    ids: Any,
    truth_ptr: Any,
    truth_ids: Any,
    metrics: Any,
    *,
    gains: Any = None,
    scores: Any = None,
    ptr: Any = None,
    width: int = 0,
    run_row: Any = None,
    tie_rank: Any = None,
    query_keys: Any = None,
    topics: Any = None,
    convention: str | Convention = "trec",
    longest_truth: int | None = None,
    worth: Worth | None = None,
    threads: int | None = None,
) -> dict[str, Any]:
    """Every metric at every cutoff for every query, in one pass.

    Parameters
    ----------
    ids : flat int32 or int64 item ids: row r of the run is ``ids[ptr[r]:ptr[r + 1]]``, or without ``ptr`` the
        ``width`` ids from ``r * width``, which -1 may end.
    truth_ptr, truth_ids : (Q + 1,) and flat int64: the distinct judged items of each query, by gain descending.
    metrics : names as ``fr.evaluate`` takes them, or parsed columns.
    gains : flat float64 beside ``truth_ids``; ``None``: all 1.
    scores : flat float32 or float64 beside ``ids``; ``None``: the lists are best first.
    run_row : (Q,) int64, the run's row of each query, -1 for none; ``None``: row q.
    tie_rank : int64 by id, where ids are codes: what ``id_desc``, ``id_asc``, ``trec`` and ``random`` take in their
        place.
    query_keys : (Q,) uint64, what a random order of ties tells queries apart by; ``None``: it is the same in each.
    topics : for the metrics by subtopic, (ptr, numbers, counts, order): judgement t is relevant to the subtopics
        ``numbers[ptr[t]:ptr[t + 1]]`` of the ``counts[q]`` of its query; ``order`` holds the judgements of each query
        in the order that settles ties of the ideal list.
    convention : a preset's name or a ``Convention``; its policies on whole queries (empty, missing, duplicates) are
        the caller's: here a repeat is taken out and counted.
    longest_truth : how many judgements a query has at most, where that is known; else it is looked for (on a card,
        by waiting for it).
    worth : what :func:`worth_of` gives for these gains and this convention, where that is known.
    threads : threads to use.

    Returns
    -------
    values : (Q, M) float64.  0 where a ratio has nothing below the line; NaN for auc, mean_rank and pair_accuracy of a
        list without a pair.
    counts : (Q, 6) int32: retrieved, relevant, hits, repeats removed, tied items, fault (1: NaN score, 2: -1 before an
        id, 6 + m: the user's metric m failed).

    Cost O(list + truth) a query, plus a sort where scores are not in order; scratch about 100 bytes a list item and
    thread.  Sums run in float64 by rank: the same bits for any thread count and instruction set, and on a card (one
    warp a query; scratch there is shared memory, or for lists of thousands at most 512 MB) wherever ``exp2`` has them.
    """
    columns = (
        metrics
        if isinstance(metrics, list) and metrics and isinstance(metrics[0], Column)
        else parse(metrics)
    )
    ids = _native(ids, "ids", (np.int32, np.int64))
    scores = None if scores is None else _native(scores, "scores", (np.float32, np.float64))
    return {
        "ids": ids,
        "truth_ptr": _flat(truth_ptr, "truth_ptr", np.int64),
        "truth_ids": _flat(truth_ids, "truth_ids", np.int64),
        "columns": columns,
        "gains": None if gains is None else _flat(gains, "gains", np.float64),
        "scores": scores,
        "ptr": None if ptr is None else _flat(ptr, "ptr", np.int64),
        "width": checks.integer(width, "width", low=0),
        "run_row": None if run_row is None else _flat(run_row, "run_row", np.int64),
        "tie_rank": None if tie_rank is None else _flat(tie_rank, "tie_rank", np.int64),
        "query_keys": None if query_keys is None else _flat(query_keys, "query_keys", np.uint64),
        "topics": None
        if topics is None
        else tuple(_flat(t, f"topics[{i}]", dtype) for i, (t, dtype) in enumerate(zip(topics, _TOPIC_TYPES))),
        "convention": resolve(convention),
        "longest_truth": longest_truth,
        "worth": worth,
        "threads": threading.resolve(threads),
    }


def _flat(array: Any, name: str, dtype: Any) -> Any:
    return checks.contiguous(arrays.adopt(array, name), dtype)


def _native(array: Any, name: str, dtypes: tuple[type, ...]) -> Any:
    adopted = arrays.adopt(array, name)
    for dtype in dtypes:
        if adopted.dtype.newbyteorder("=") == dtype:
            return checks.contiguous(adopted, dtype).reshape(-1)
    raise TypeError(f"`{name}` must be {' or '.join(np.dtype(d).name for d in dtypes)}; got {adopted.dtype}")


# The specification --------------------------------------------------------------------------------------------------


@rank_metrics.reference
def _reference(
    xp: Any, ids: Any, truth_ptr: Any, truth_ids: Any, columns: Any, gains: Any, scores: Any, ptr: Any, width: int,
    run_row: Any, tie_rank: Any, query_keys: Any, topics: Any, convention: Convention,
    longest_truth: int | None, worth: Worth | None, threads: int,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    queries = len(truth_ptr) - 1
    values, counts = np.zeros((queries, len(columns))), np.zeros((queries, len(kernels.COUNTS)), np.int32)
    for q in range(queries):
        judged = truth_ids[truth_ptr[q] : truth_ptr[q + 1]].tolist()
        truth = np.ones(len(judged)) if gains is None else gains[truth_ptr[q] : truth_ptr[q + 1]]
        row = q if run_row is None else run_row[q]
        start, stop = (
            (0, 0)
            if row < 0
            else (ptr[row], ptr[row + 1])
            if ptr is not None
            else (row * width, (row + 1) * width)
        )
        items = ids[start:stop].tolist()
        score = None if scores is None else scores[start:stop]
        if ptr is None:
            length = next((i + 1 for i in reversed(range(len(items))) if items[i] != -1), 0)
            items, score = items[:length], None if score is None else score[:length]
        counts[q, 0] = len(items)
        if ptr is None and -1 in items:
            counts[q, 5], items, score = kernels.BAD_PADDING, [], None
        elif score is not None and np.isnan(score).any():
            counts[q, 5], items, score = kernels.BAD_SCORE, [], None
        shuffle = 0 if query_keys is None else splitmix(int(query_keys[q]))
        views, repeats, tied = _orders(
            items, score, dict(zip(judged, truth)), truth, tie_rank, shuffle, convention
        )
        if topics is not None:
            views = [_with_topics(view, q, judged, int(truth_ptr[q]), topics) for view in views]
        for m, column in enumerate(columns):
            of = [column.metric.definition(_at(view, column, convention)) for view in views]
            values[q, m] = math.fsum(of) / len(of)
        hits = views[0].relevant(views[0].gains) & views[0].judged
        counts[q, 1:5] = views[0].num_relevant, hits.sum(), repeats, tied
    return values, counts


def _at(view: Query, column: Column, convention: Convention) -> Query:
    return replace(view, cutoff=column.cutoff, parameters=column.parameters)


def _with_topics(view: Query, q: int, judged: list[int], first: int, topics: Any) -> Query:
    ptr, numbers, counts, order = topics
    of = [tuple(numbers[ptr[first + t] : ptr[first + t + 1]].tolist()) for t in range(len(judged))]
    by_item = dict(zip(judged, of))
    return replace(
        view,
        topics=tuple(by_item.get(item, ()) for item in view.items),
        truth_topics=tuple(of[t - first] for t in order[first : first + len(judged)].tolist()),
        num_topics=int(counts[q]),
    )


def _orders(
    items: list[int],
    scores: Any,
    gain_of: dict[int, float],
    truth: np.ndarray,
    tie_rank: Any,
    shuffle: int,
    convention: Convention,
) -> tuple[list[Query], int, int]:
    """The query under its final order, or under every order of its tied blocks when they are to be averaged."""
    keys = np.arange(len(items), 0, -1) if scores is None else scores.astype(convention.score_precision)
    order = sorted(range(len(items)), key=lambda i: -keys[i])  # stable
    blocks = [list(block) for _, block in itertools.groupby(order, key=lambda i: keys[i])]
    tied = sum(len(block) for block in blocks if len(block) > 1)
    blocks = [_tie_order(block, items, gain_of, tie_rank, shuffle, convention) for block in blocks]
    arrangements = [[tuple(block)] for block in blocks]
    if convention.ties == "average" and tied:
        if math.prod(math.factorial(len(block)) for block in blocks) > MAX_ORDERS:
            raise ValueError("the reference averages ties over every order, and there are too many here")
        arrangements = [list(itertools.permutations(block)) for block in blocks]
    views, repeats = [], 0
    for arrangement in itertools.product(*arrangements):
        seen: set[int] = set()
        listed: list[tuple[int, int]] = []
        for number, block in enumerate(arrangement):
            for i in block:
                if items[i] not in seen and (convention.unjudged == "nonrel" or items[i] in gain_of):
                    listed.append((items[i], number))
                seen.add(items[i])
        repeats = len(items) - len(seen)
        views.append(
            Query(
                gains=np.array([gain_of.get(item, 0.0) for item, _ in listed]),
                judged=np.array([item in gain_of for item, _ in listed], bool),
                block=np.array([number for _, number in listed], int),
                truth=truth,
                cutoff=None,
                parameters=(),
                convention=convention,
                items=tuple(item for item, _ in listed),
            )
        )
    return views, repeats, tied


def _tie_order(
    block: list[int],
    items: list[int],
    gain_of: dict[int, float],
    tie_rank: Any,
    shuffle: int,
    convention: Convention,
) -> list[int]:
    def by_id(i: int) -> int:
        return items[i] if tie_rank is None else int(tie_rank[items[i]])

    def by_gain(i: int) -> tuple[int, float]:
        gain = gain_of.get(items[i])
        return (1, 0.0) if gain is None else (2, gain) if gain > 0 else (0, gain)

    if len(block) < 2 or convention.ties in ("given", "average"):
        return block
    if convention.ties == "trec":
        return sorted(block, key=(lambda i: str(items[i])) if tie_rank is None else by_id, reverse=True)
    if convention.ties == "random":
        seed = convention.seed + shuffle
        return sorted(block, key=lambda i: (splitmix(seed + by_id(i) * 0x9E3779B97F4A7C15), items[i]))
    if convention.ties in ("id_desc", "id_asc"):
        return sorted(block, key=by_id, reverse=convention.ties == "id_desc")
    return sorted(block, key=by_gain, reverse=convention.ties == "optimistic")


def splitmix(z: int) -> int:
    """The mixer of splitmix64."""
    mask = 2**64 - 1
    z &= mask
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & mask
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & mask
    return z ^ (z >> 31)


# The kernel ---------------------------------------------------------------------------------------------------------


@rank_metrics.cpu
def _cpu(
    ids: Any, truth_ptr: Any, truth_ids: Any, columns: Any, gains: Any, scores: Any, ptr: Any, width: int, run_row: Any,
    tie_rank: Any, query_keys: Any, topics: Any, convention: Convention,
    longest_truth: int | None, worth: Worth | None, threads: int,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    compiled = [c for c in columns if c.metric.kernel]
    queries = len(truth_ptr) - 1
    values = np.empty((queries, len(compiled)))
    counts = np.empty((queries, len(kernels.COUNTS)), np.int32)
    cutoffs, cutoff_of = _cutoffs(compiled)
    longest = width if ptr is None else _longest(ptr)
    longest_truth = _longest(truth_ptr) if longest_truth is None else longest_truth
    table, sums = _tables_for(cutoffs, longest, longest_truth, convention)
    gains, values_of, ideal, level, positives = worth or worth_of(truth_ptr, gains, convention)
    kinds = [kernels.METRICS.index(_kind(c, convention)) for c in compiled]
    single = ids.dtype == np.int32
    half = scores is not None and scores.dtype == np.float32
    topic_ptr, topic_numbers, topic_counts, topic_order = (None,) * 4 if topics is None else topics
    kernels.rank_metrics(
        ids if single else None, None if single else ids, scores if half else None, None if half else scores,
        ptr, width, run_row, tie_rank, truth_ptr, truth_ids, gains, values_of, ideal, positives,
        np.array(kinds, np.int32),
        np.array(cutoff_of, np.int32),
        np.array([_numbers(c, convention) for c in compiled], np.float64).reshape(-1, 2),
        np.array([getattr(c.metric.function, "address", 0) for c in compiled], np.int64),
        np.array(cutoffs, np.int64), table, sums,
        0.0 if level is None else level, level is None, _ties(convention, tie_rank),
        convention.score_precision == "float32", kernels.IDEALS.index(convention.ideal),
        kernels.AP_DENOMINATORS.index(convention.map_denominator),
        convention.recall_denominator == "capped", convention.short == "len", convention.unjudged == "skip",
        values_of is None and (level is None or level <= 1.0), not isinstance(convention.gain, dict),
        convention.seed, query_keys,
        topic_ptr, topic_numbers, topic_counts, topic_order,
        0 if topic_counts is None else int(topic_counts.max(initial=0)), longest, longest_truth, values, counts,
        threads,
    )  # fmt: skip
    if len(compiled) == len(columns):
        return values, counts
    rest = [c for c in columns if not c.metric.kernel]  # metrics that only have a definition
    defined, _ = _reference(
        np, ids, truth_ptr, truth_ids, rest, gains, scores, ptr, width, run_row, tie_rank, query_keys, topics,
        convention, longest_truth, None, threads,
    )  # fmt: skip
    whole = np.empty((queries, len(columns)))
    whole[:, [bool(c.metric.kernel) for c in columns]] = values
    whole[:, [not c.metric.kernel for c in columns]] = defined
    return whole, counts


@rank_metrics.cuda
def _cuda(
    ids: Any, truth_ptr: Any, truth_ids: Any, columns: Any, gains: Any, scores: Any, ptr: Any, width: int, run_row: Any,
    tie_rank: Any, query_keys: Any, topics: Any, convention: Convention, longest_truth: int | None, worth: Worth | None,
    threads: int,
) -> tuple[Any, Any]:  # fmt: skip
    from fastrec.evaluation import on_device

    for column in columns:
        known = column.metric.kernel in (*on_device.KINDS, *on_device.SUBTOPIC_KINDS)
        if not known and column.metric.function is None:
            raise TypeError(
                f"the metric {column.label!r} runs on the CPU only; evaluate `run.get()` there, with "
                "`truth.to('cpu')`, for it"
            )
    cutoffs, cutoff_of = _cutoffs(columns)
    longest = width if ptr is None else _longest(ptr)
    longest_truth = _longest(truth_ptr) if longest_truth is None else longest_truth
    table, sums = _tables_for(cutoffs, longest, longest_truth, convention)
    gains, values_of, ideal, level, _ = worth or worth_of(truth_ptr, gains, convention)
    if topics is not None:
        topics = (*topics, int(topics[2].max()) if len(topics[2]) else 0)
    return on_device.rank_metrics(
        ids=ids, scores=scores, ptr=ptr, width=width, run_row=run_row, tie_rank=tie_rank, query_keys=query_keys,
        truth_ptr=truth_ptr, truth_ids=truth_ids, gains=gains, worth=values_of, ideal=ideal,
        kinds=[_kind(c, convention) for c in columns], cutoffs=cutoffs, cutoff_of=cutoff_of,
        parameters=[_numbers(c, convention) for c in columns], table=table, sums=sums, level=level,
        convention=convention, ties=_ties(convention, tie_rank), longest=longest, longest_truth=longest_truth,
        functions={m: (c.metric.function, c.cutoff) for m, c in enumerate(columns) if c.metric.function is not None},
        topics=topics if any(c.metric.subtopics for c in columns) else None,
    )  # fmt: skip


def _longest(ptr: Any) -> int:
    return int((ptr[1:] - ptr[:-1]).max()) if len(ptr) > 1 else 0


def _cutoffs(columns: list[Column]) -> tuple[list[int], list[int]]:
    """The distinct cutoffs, ascending, and which of them each column has."""
    cutoffs = sorted({kernels.NO_CUTOFF if c.cutoff is None else c.cutoff for c in columns})
    return cutoffs, [cutoffs.index(c.cutoff or kernels.NO_CUTOFF) for c in columns]


def _tables_for(
    cutoffs: list[int], longest: int, longest_truth: int, convention: Convention
) -> tuple[np.ndarray, np.ndarray]:
    finite = [c for c in cutoffs if c != kernels.NO_CUTOFF] if convention.ideal == "full" else []
    return _discounts(max(longest, longest_truth, *finite, 1), convention.discount)


def _kind(column: Column, convention: Convention) -> str:
    kernel = column.metric.kernel
    return "recall" if kernel == "precision" and convention.precision_average == "micro" else kernel


def _numbers(column: Column, convention: Convention) -> tuple[float, float]:
    """The two numbers that the kernel takes for a column."""
    numbers = column.parameters
    if column.metric.kernel == "dcg":
        numbers = (math.log2(numbers[0]),)
    elif column.metric.kernel in ("alpha_dcg", "err_ia") and column.cutoff is not None:
        weights = convention.discounts if column.metric.kernel == "alpha_dcg" else diversity.reciprocal
        numbers = (numbers[0], diversity.ideal_of_ideals(column.cutoff, numbers[0], weights))
    first, second = (*numbers, math.nan, math.nan)[:2]
    return first, second


def _ties(convention: Convention, tie_rank: Any) -> int:
    ties = convention.ties
    if ties == "trec":
        ties = "decimal_desc" if tie_rank is None else "id_desc"
    return kernels.TIES.index(ties)


def worth_of(truth_ptr: Any, gains: Any, convention: Convention) -> Worth:
    """(gains, gain function of each, the same descending within a row, relevance level, numbers of gains above 0).

    All but the level are ``None`` where every gain is 1, the last also on a card.
    """
    level = convention.relevance_level
    by_level = level is not None and (convention.gain == "binary" or convention.below_level == "nothing")
    if gains is None and not by_level and not isinstance(convention.gain, dict):
        return None, None, None, level, None
    xp = arrays.namespace(truth_ptr)
    if gains is None:
        gains = xp.ones(int(truth_ptr[-1]))
    positives = None
    if xp is np:
        above = np.append(0, np.cumsum(gains > 0))[truth_ptr]
        positives = above[1:] - above[:-1]
    # Gains that are their own worth need no copies.  (On a card, looking for a negative one would wait for it.)
    if convention.gain == "linear" and not by_level and xp is np and gains.min(initial=0.0) >= 0:
        return gains, gains, gains, level, positives
    worth = gain_values(gains, convention, xp)
    ideal = worth
    if isinstance(convention.gain, dict):
        # Rows are exact in float64; CuPy's lexsort takes one matrix of keys.
        rows = xp.searchsorted(truth_ptr[1:], xp.arange(len(worth)), side="right").astype(np.float64)
        ideal = worth[xp.lexsort(xp.stack([-worth, rows]))]
    return gains, xp.ascontiguousarray(worth), xp.ascontiguousarray(ideal), level, positives


# What tests and benchmarks run --------------------------------------------------------------------------------------

CASE_METRICS = [
    "ndcg@1,5,20", "ndcg", "dcg@10", "map", "map@5", "mrr", "mrr@3", "recall@5,1000", "precision@5", "precision",
    "hit_rate@2", "f1@10", "f_beta(beta=2)@7", "r_precision", "err(max_gain=4)@10", "rbp(p=0.7)@9", "bpref", "infap",
    "iprec_at_recall(0.4)", "11pt_avg", "auc", "mean_rank", "pair_accuracy@8", "judged@10", "num_ret", "num_rel",
    "num_rel_ret@6", "nerr(max_gain=4)@10", "graded_rbp(max_gain=4)", "normalized_rbp@4", "rbp_residual@12",
    "iprec_at_recall(0.4, version=10)", "11pt_avg(version=10)", "lauc(n_items=2000)@10", "pauc@3", "pap@3", "arp",
    "pair_accuracy(tie=0)", "unjudged@10", "compatibility", "dcg(base=3)@10",
]  # fmt: skip
USEFUL_METRICS = [  # which tell no judged item that is worth nothing from one that was not judged
    "ndcg@1,5,20", "dcg@10", "map", "map@5", "mrr@3", "recall@5,1000", "precision@5", "precision", "hit_rate@2",
    "f1@10", "r_precision", "num_ret", "num_rel", "num_rel_ret@6",
]  # fmt: skip
TOPIC_METRICS = [
    "alpha_dcg@5", "alpha_dcg", "alpha_ndcg@5,20", "alpha_ndcg(alpha=0.3)", "err_ia@10", "err_ia", "nerr_ia@10", "nrbp",
    "nrbp(alpha=0.2, beta=0.8)", "nnrbp", "map_ia", "map_ia@7", "precision_ia@10", "subtopic_recall@4", "ndcg@5",
]  # fmt: skip


@rank_metrics.cases
def _cases(rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    for length in (0, 1, 2, 15, 16, 17, 33, 64, 65, 300):
        for scored in (False, True):
            yield _case(rng, queries=12, length=length, scored=scored)
    for length in (0, 1, 63, 64, 65, 128, 129, 255, 256, 300):  # judgements without gains, lists with repeats
        case = _case(rng, 6, length, length % 2 == 0) | {"gains": None}
        for row in range(0, length and 6, 2):
            case["ids"][row * length + length // 2 : (row + 1) * length : 7] = case["ids"][row * length]
        yield case
    awkward = np.array([0.0, -0.0, 1e-45, -1e-45, 1.0, -1.0, 3e38, -3e38, np.inf, -np.inf], np.float32)
    for length in (2, 31, 32, 33, 256, 257, 512, 513):  # around what is ordered by counting
        case = _case(rng, 4, length, True)
        many = rng.standard_normal(4 * length).astype(np.float32)
        scores = np.where(rng.random(4 * length) < 0.3, rng.choice(awkward, 4 * length), many)
        yield case | {"scores": scores.astype(np.float32), "metrics": CASE_METRICS[:9]}
    for ties in ("given", "id_desc", "id_asc", "optimistic", "pessimistic", "random"):
        case = _case(rng, 20, 12, True) | {"convention": Convention(ties=ties, seed=3)}
        yield case
        yield case | {"metrics": USEFUL_METRICS}
    policies: tuple[dict[str, Any], ...] = (
        {"unjudged": "skip"}, {"short": "len"}, {"gain": "exponential"}, {"gain": {1.0: 2.0, 2.0: 1.0}},
        {"gain": "binary"}, {"relevance_level": 2.0}, {"relevance_level": 0.0}, {"relevance_level": -1.0},
        {"gain": {-1.0: 0.25, 0.0: 0.5, 1.0: 1.0, 2.0: 3.0, 3.0: 2.0}},
        {"relevance_level": 2.0, "below_level": "nothing"}, {"ideal": "list"}, {"ideal": "full"},
        {"map_denominator": "capped"}, {"map_denominator": "cutoff"}, {"map_denominator": "hits"},
        {"map_denominator": "length"}, {"recall_denominator": "capped"}, {"score_precision": "float64"},
    )  # fmt: skip
    for changes in policies:
        case = _case(rng, 20, 30, True) | {"convention": Convention(**changes)}
        yield case
        yield case | {"gains": None}
        yield case | {"metrics": USEFUL_METRICS}
    for length in (0, 1, 64, 128, 129, 300):
        yield _case(rng, 6, length, False) | {"metrics": USEFUL_METRICS}
    for length in (0, 3, 40):
        for changes in (
            {},
            policies[0],
            {"short": "len", "ties": "random"},
            {"ties": "optimistic"},
            {"ties": "pessimistic"},
        ):
            yield _by_subtopic(rng, _case(rng, 20, length, True)) | {"convention": Convention(**changes)}
    quick = [name for name in CASE_METRICS if not name.startswith(("auc", "pair_accuracy", "11pt"))]
    yield _case(rng, 3, 5000, True) | {"metrics": quick}


def _by_subtopic(rng: np.random.Generator, case: dict[str, Any]) -> dict[str, Any]:
    ptr, most = case["truth_ptr"], 5
    chosen = [
        np.flatnonzero(rng.random(most) < 0.4) if gain > 0 else np.zeros(0, int)
        for gain in case["gains"].tolist()
    ]
    order = np.concatenate([first + rng.permutation(last - first) for first, last in itertools.pairwise(ptr)])
    topics = (
        np.concatenate(([0], np.cumsum([len(c) for c in chosen]))),
        np.concatenate([*chosen, np.zeros(0, int)]),
        np.full(len(ptr) - 1, most),
        order,
    )
    keys = rng.integers(0, 2**63, len(ptr) - 1).astype(np.uint64)
    return case | {"metrics": TOPIC_METRICS, "topics": topics, "query_keys": keys}


def _case(rng: np.random.Generator, queries: int, length: int, scored: bool) -> dict[str, Any]:
    pool = max(length, 8) * 2
    sizes = rng.integers(0, 9, queries)
    ids = np.stack([rng.choice(pool, length, replace=False) for _ in range(queries)]) - 3
    truth = [rng.choice(pool, size, replace=False) - 3 for size in sizes]
    gains = [np.sort(rng.integers(-1, 4, size))[::-1] for size in sizes]
    return {
        "ids": ids.reshape(-1).astype(np.int32 if rng.random() < 0.5 else np.int64),
        "ptr": np.arange(queries + 1) * length,
        "scores": rng.integers(0, max(length // 3, 2), queries * length).astype(np.float64)
        if scored
        else None,
        "truth_ptr": np.concatenate(([0], np.cumsum(sizes))),
        "truth_ids": np.concatenate(truth),
        "gains": np.concatenate(gains).astype(np.float64),
        "metrics": CASE_METRICS,
    }
