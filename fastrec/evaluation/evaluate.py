"""``fr.evaluate``: offline ranking metrics of a run against a truth."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from fastrec._core import arrays, checks
from fastrec._kernels import evaluation as kernels
from fastrec.evaluation import ids
from fastrec.evaluation.conventions import Convention, resolve
from fastrec.evaluation.ids import Labels
from fastrec.evaluation.metrics import Column, parse
from fastrec.evaluation.metrics.average_precision import GMAP_FLOOR
from fastrec.evaluation.rank_metrics import rank_metrics
from fastrec.evaluation.result import Evaluation
from fastrec.evaluation.runs import Run, read_run
from fastrec.evaluation.truth import LARGEST, Truth

DEFAULT_METRICS = ("ndcg@10", "map", "mrr", "recall@100", "precision@10")
RETRIEVED, RELEVANT, HITS, DUPLICATES, TIED, BAD = range(6)
MAX_POWER = 1000  # of 2, so that a sum of gains stays finite
TALLIED = 3  # the number of tied items in a tally


def evaluate(
    run: Any,
    truth: Any,
    metrics: str | Iterable[str] = DEFAULT_METRICS,
    convention: str | Convention = "trec",
    *,
    queries: Any = None,
    per_query: bool = True,
    weights: Any = None,
    threads: int | None = None,
    ties: str | None = None,
    empty: str | None = None,
    missing: str | None = None,
    duplicates: str | None = None,
    unjudged: str | None = None,
    short: str | None = None,
    gain: Any = None,
    relevance_level: float | None = None,
    below_level: str | None = None,
    discount: str | None = None,
    ideal: str | None = None,
    map_denominator: str | None = None,
    recall_denominator: str | None = None,
    precision_average: str | None = None,
    score_precision: str | None = None,
    seed: int | None = None,
) -> Evaluation:
    """Every metric at every cutoff, for every query, in one pass.

    Parameters
    ----------
    run : ranked items by query, as one of

        - a ``TopK`` (``fr.Index(...).topk(...)``), read without a conversion;
        - an id matrix (Q, k), best first, that -1 may pad (int32 or int64 on a card); or a list of id lists, or of
          dicts ``{item: score}``;
        - a frame (pandas, polars, Arrow) with columns ``query, item`` and ``score`` (or ``rank``; with neither, the
          rows are best first), or the names that other libraries give them (``fastrec/_core/columns.py``);
        - a SciPy sparse matrix (queries x items) of scores;
        - a dict ``{query: {item: score}}`` or ``{query: [items]}``, or a pandas Series of such lists by query;
        - a path of a TREC run, Parquet, CSV or JSON Lines file.
    truth : judgements, as :class:`fastrec.Truth` reads them (give a ``Truth`` to read them once for many runs).
        A frame or dict names its queries; elsewhere row r is query r.  A run on a card (a ``TopK`` of a CUDA index, a
        CuPy or torch matrix) needs a truth there: ``fr.Truth(...).to("cuda")``.
    metrics : names such as ``"ndcg@10"``, ``"recall@5,20,100"``, ``"rbp(p=0.8)"``; ``fastrec.evaluation.metrics``
        lists them.
    convention : preset of the policies below: ``trec`` (trec_eval), ``sklearn``, ``ranx``, ``recbole``, ``rectools``,
        ``lenskit``, ``implicit``; or a :class:`~fastrec.evaluation.conventions.Convention`, which documents each.
    queries : labels of the run's rows, for a run that has none; by default they are numbered from 0.
    per_query : keep the value of every query.
    weights : what each query counts in the mean: a dict or Series by query, or one number a query of the truth.
    threads : threads to use; results do not depend on it.
    ties, empty, missing, duplicates, unjudged, short, gain, relevance_level, below_level, discount, ideal,
    map_denominator, recall_denominator, precision_average, score_precision, seed : policies that replace the preset's.

    Returns
    -------
    Evaluation : ``.mean``, ``.per_query``, ``.counts``, ``.convention``, ``.values``, ``.query_ids``.

    Raises
    ------
    ValueError : an unknown metric or policy, a bad cutoff, a NaN score, an item twice in a list (unless
        ``duplicates="first"``), missing ids, rows that do not match, a grade that the gain table lacks.
    TypeError : a run or truth of a kind that cannot be read.

    Notes
    -----
    Order: score descending, then as ``ties`` says; scores that are infinite are legal.  A query of the run that the
    truth does not know is left out and counted.  An empty run scores 0, an empty truth has no queries and mean 0.
    Values are float64 and never rounded.  Cost: O(items listed + items judged).  On a card one warp takes a query,
    values stay there (``.values`` is a CuPy array), and the call waits for a handful of sums.

    Examples
    --------
    >>> import fastrec as fr
    >>> ev = fr.evaluate({"q": {"a": 0.9, "b": 0.8}}, {"q": {"b": 1}}, ["mrr", "recall@1"])
    >>> ev["mrr"], ev["recall@1"]
    (0.5, 0.0)
    """
    columns = parse(metrics)
    policy = resolve(
        convention, ties=ties, empty=empty, missing=missing, duplicates=duplicates, unjudged=unjudged, short=short,
        gain=gain, relevance_level=relevance_level, below_level=below_level, discount=discount, ideal=ideal,
        map_denominator=map_denominator, recall_denominator=recall_denominator, precision_average=precision_average,
        score_precision=score_precision, seed=seed,
    )  # fmt: skip
    with arrays.stream_of(run, truth):
        adopted = read_run(run, queries)
        judgements = (
            truth
            if isinstance(truth, Truth)
            else Truth(
                truth,
                queries=_row_queries(truth, queries, adopted),
                subtopics=True if any(column.metric.subtopics for column in columns) else None,
            )
        )
        return evaluate_adopted(adopted, judgements, columns, policy, weights, threads, per_query)


def _row_queries(truth: Any, queries: Any, run: Run) -> Any:
    """``queries`` labels the rows of a truth as well, where it too has nothing but rows."""
    if (
        queries is None
        or isinstance(truth, Mapping)
        or hasattr(truth, "columns")
        or hasattr(truth, "column_names")
    ):
        return None
    rowwise = (
        isinstance(truth, (list, tuple, np.ndarray))
        or type(truth).__module__.startswith("scipy.sparse")
        or hasattr(truth, "__cuda_array_interface__")
        or hasattr(truth, "__dlpack_device__")
    )
    return run.queries.array() if rowwise and len(run) else None


def evaluate_adopted(
    run: Run,
    truth: Truth,
    columns: list[Column],
    policy: Convention,
    weights: Any = None,
    threads: int | None = None,
    per_query: bool = True,
) -> Evaluation:
    """``evaluate`` after its arguments have been read."""
    place = arrays.device(run.ids)
    if place != truth.device:
        raise TypeError(
            f"`run` is on {place} and `truth` on {truth.device}; both must be on one device: "
            f"`fr.Truth(...).to({place!r})`. fastrec never copies between devices."
        )
    for column in columns:
        _check(column, truth, policy)
    if any("gain" in column.metric.uses for column in columns):
        _check_grades(truth, policy.gain)
    rows = _match_queries(run, truth)
    arguments = {
        "ids": run.ids,
        "truth_ptr": truth._ptr,
        "truth_ids": _match_items(run, truth),
        "metrics": columns,
        "gains": truth._gains,
        "scores": run.scores,
        "ptr": run.ptr,
        "width": run.width,
        "run_row": ids.like(rows, run.ids),
        "longest_truth": truth._longest,
        "worth": truth._worth_in(policy),
        "threads": threads,
    }
    if any(column.metric.subtopics for column in columns):
        arguments["topics"] = truth.relevant_subtopics(policy.relevance_level)
    if policy.ties == "random":
        arguments["query_keys"] = ids.like(truth._queries.keys(), run.ids)
    values, counts = _compute(arguments, run, policy)
    unknown = _unknown(run, rows)
    if len(unknown):
        _check_unknown(run, unknown, policy)
    missing, empty, duplicates, tied, bad = _tally(counts)
    if bad >= 0 or duplicates:
        _refuse(arguments, run, truth, rows, ids.fetch(counts), columns, policy)
    for m, column in enumerate(columns):
        if column.metric.mean == "geometric":
            values[:, m] = arrays.namespace(values).maximum(values[:, m], GMAP_FLOOR)

    tally: dict[str, Any] = {
        "queries": len(truth),
        "empty": empty,
        "missing": missing,
        "unjudged": len(unknown),
        "duplicates": duplicates,
        "tied": tied,
    }
    if empty:
        _apply(values, counts[:, RELEVANT] == 0, "empty", policy.empty, columns, truth)
    if missing and policy.missing == "error":
        absent = truth._queries[int((counts[:, RETRIEVED] == 0).argmax())]
        raise ValueError(f"`run` has no item for query {absent!r} (missing='error')")
    query_ids, importance = truth.query_ids, ids.like(_weights(weights, truth), values)
    relevant = counts[:, RELEVANT]
    if (empty and policy.empty == "skip") or (missing and policy.missing in ("skip", "skip_absent")):
        kept = counts[:, RELEVANT] >= 0
        if policy.empty == "skip":
            kept &= relevant > 0
        if policy.missing == "skip":
            kept &= counts[:, RETRIEVED] > 0
        elif policy.missing == "skip_absent" and rows is not None:
            kept &= ids.like(rows >= 0, values)
        values, query_ids, relevant = values[kept], query_ids[ids.fetch(kept)], relevant[kept]
        importance = None if importance is None else importance[kept]
        tally["queries"] = len(values)
    micro = policy.precision_average == "micro"
    result = Evaluation(
        [column.label for column in columns],
        values,
        query_ids,
        counts=tally,
        convention={column.label: describe(column, policy) for column in columns},
        weights=importance,
        averages={column.label: column.metric.mean for column in columns},
        better={column.label: column.metric.better for column in columns},
        shares={
            column.label: arrays.namespace(relevant)
            .minimum(relevant, column.cutoff or relevant)
            .astype(np.float64)
            for column in columns
            if micro and column.metric.name == "precision"
        },
        threads=threads,
    )
    result.numbered, result.rows = truth._queries.values is None, len(truth)
    return result if per_query else result.drop_queries()


def _check(column: Column, truth: Truth, policy: Convention) -> None:
    """Refuse a metric that the truth or the order of ties does not allow."""
    metric = column.metric
    if policy.ties == "average" and not metric.averages_ties:
        raise ValueError(
            f"ties='average' is not defined for {metric.name!r}; "
            "choose another order of ties (the sklearn preset averages)"
        )
    if policy.ties == "average" and column.cutoff is not None and not metric.averages_cut_ties:
        raise ValueError(
            f"ties='average' is not defined for {metric.name!r} at a cutoff, which may fall among tied items; got "
            f"{column.label!r}. Leave the cutoff out or choose another order of ties (the sklearn preset averages)"
        )
    if policy.ties == "average" and policy.map_denominator == "hits" and metric.kernel == "ap":
        raise ValueError(
            "ties='average' is not defined for map_denominator='hits', which the order of ties changes as well"
        )
    if metric.subtopics:
        if not truth.has_subtopics:
            raise ValueError(
                f"`metrics`: {column.label!r} needs judgements by subtopic: a column 'subtopic', a dict "
                "{query: {subtopic: {item: gain}}}, or fr.Truth(path, subtopics=True)"
            )
        if policy.ties in ("optimistic", "pessimistic"):
            raise ValueError(
                f"ties={policy.ties!r} is not defined for {metric.name!r}; choose another order of ties"
            )
    for place, (name, _) in enumerate(metric.parameters):
        if name == "max_gain" and column.parameters[place] < truth.max_gain:
            raise ValueError(
                f"`metrics`: max_gain of {column.label!r} is below the truth's largest gain, {truth.max_gain:g}"
            )


def _check_grades(truth: Truth, gain: Any) -> None:
    """Refuse a truth with a grade above 0 that a gain table does not know, or that is too large a power."""
    if gain == "exponential" and len(truth) and truth.max_gain > MAX_POWER:
        raise ValueError(
            f"gain='exponential' takes grades up to {MAX_POWER}; `truth` holds {truth.max_gain:g}. Grades are steps of "
            "a scale, such as 0 to 4; pass counts and prices with gain='linear'"
        )
    if not isinstance(gain, Mapping):
        return
    lacking, row = truth.first_outside(gain)
    if row >= 0:
        raise ValueError(
            f"`gain` has no worth for the grade {lacking:g}, which `truth` holds in query {truth._queries[row]!r}; add "
            f"it to the table: {lacking:g} as trec_eval has it, or 0 where it is worth nothing"
        )


def _match_queries(run: Run, truth: Truth) -> np.ndarray | None:
    """The run's row of every query of the truth (-1: none), or ``None`` where row q is query q."""
    ours, theirs = run.queries, truth._queries
    if ours.values is None and theirs.values is None:
        if ours.size != theirs.size:
            raise ValueError(
                f"`run` and `truth` must have the same rows where neither names its queries; "
                f"got {ours.size} and {theirs.size}"
            )
        return None
    rows = ours.locate(theirs)
    if len(rows) and ours.size and rows.max() < 0:
        if ours.values is None:
            raise ValueError(
                f"no query of `truth` (such as {theirs[0]!r}) is among the rows of `run`, which are numbered 0 to "
                f"{ours.size - 1}; label them with `queries=`"
            )
        warnings.warn(
            f"no query of `truth` (such as {theirs[0]!r}) is in `run` (such as {ours[0]!r}); do their ids match?",
            UserWarning,
            stacklevel=4,
        )
    if ours.size == len(rows) and np.array_equal(rows, np.arange(len(rows))):
        return None
    return rows


def _tally(counts: Any) -> tuple[int, int, int, int, int]:
    """(missing, empty, duplicates, tied, first query with a fault or -1)."""
    if isinstance(counts, np.ndarray):
        return kernels.tally(counts)
    from fastrec.evaluation import on_device

    return on_device.tally(counts)


def _match_items(run: Run, truth: Truth) -> Any:
    """The truth's items as ids of the run; an item the run does not know gets an id that no list holds."""
    flat, theirs = truth._ids, truth._items
    if run.items is None:
        if theirs is None:
            return flat
        known_ids, known = ids._integers_of(theirs.array())
        if len(known) and run.ids.size and not known.any():
            _warn_of_kinds(f"integers, such as {int(run.ids.reshape(-1)[0])}", repr(theirs[0]))
        low = min(0, int(run.ids.min())) if run.ids.size else 0
        fresh = (
            low - 1 - np.arange(len(known), dtype=np.int64)
            if low > -(2**62)
            else _unused(ids.fetch(run.ids), len(known))
        )
        return ids.like(np.where(known, known_ids, fresh), flat)[flat]
    if truth._columns is not None and run.by_row:  # columns of a matrix are rows of the index, not labels
        if truth._columns != run.items.size:
            raise ValueError(
                f"`truth` must have one column per item of the index, {run.items.size}; it has {truth._columns}"
            )
        return flat
    if theirs is None:
        distinct, codes = arrays.namespace(flat).unique(flat, return_inverse=True)
        theirs, flat = Labels.of(ids.fetch(distinct)), codes
    place = run.items.locate(theirs)
    unknown = place < 0
    if len(place) and run.items.size and run.items.is_text != theirs.is_text and unknown.all():
        _warn_of_kinds(f"such as {run.items[0]!r}", repr(theirs[0]))
    place[unknown] = run.items.size + np.arange(int(unknown.sum()))
    return ids.like(place, flat)[flat]


def _warn_of_kinds(ours: str, theirs: str) -> None:
    warnings.warn(
        f"no item of `truth` (such as {theirs}) is in `run` ({ours}): one holds integers, the other text; do their ids "
        "match?",
        UserWarning,
        stacklevel=5,
    )


def _unused(taken: np.ndarray, count: int) -> np.ndarray:
    candidates = np.setdiff1d(np.arange(count + len(taken), dtype=np.int64), taken)
    return candidates[:count]


def _compute(arguments: dict[str, Any], run: Run, policy: Convention) -> tuple[np.ndarray, np.ndarray]:
    by_label = (
        policy.ties in ("trec", "id_desc", "id_asc", "random")
        and run.items is not None
        and run.scores is not None
    )
    if not by_label:
        return rank_metrics(**arguments, convention=policy)
    # Codes are not in the order of their labels; ranking the labels is only worth its price where something is tied.
    values, counts = rank_metrics(**arguments, convention=replace(policy, ties="given"))
    if not _tally(counts)[TALLIED]:
        return values, counts
    assert run.items is not None
    if policy.ties == "random":
        return rank_metrics(
            **arguments, convention=policy, tie_rank=ids.like(run.items.keys().view(np.int64), run.ids)
        )
    numeric = policy.ties != "trec" and not run.items.is_text
    ranks = np.argsort(np.argsort(run.items.array())) if numeric else run.items.ranks()
    return rank_metrics(**arguments, convention=policy, tie_rank=ids.like(ranks, run.ids))


def _refuse(
    arguments: dict[str, Any],
    run: Run,
    truth: Truth,
    rows: np.ndarray | None,
    counts: np.ndarray,
    columns: list[Column],
    policy: Convention,
) -> None:
    """Raise for what the kernel found wrong, naming the query."""
    bad = counts[:, BAD]
    if bad.any():
        q = int(np.argmax(bad != 0))
        query = truth._queries[q]
        if bad[q] == kernels.BAD_SCORE:
            raise ValueError(
                f"`run` has a score that is NaN, in query {query!r}; drop that item or give it a score"
            )
        if bad[q] == kernels.BAD_PADDING:
            raise ValueError(f"`run` has -1 before an item in query {query!r}; padding may only end a row")
        column = [c for c in columns if c.metric.kernel][int(bad[q]) - len(kernels.COUNTS)]
        low, high = (int(end) for end in ids.fetch(truth._ptr[q : q + 2]))
        span = slice(low, high)
        here = {  # on a card the compiled function is what failed: Python's is run on the host
            name: ids.fetch(value) if hasattr(value, "device") else value
            for name, value in arguments.items()
            if name != "topics"
        }
        alone = here | {
            "metrics": [column],
            "run_row": np.array([q if rows is None else rows[q]]),
            "truth_ptr": np.array([0, span.stop - span.start]),
            "truth_ids": here["truth_ids"][span],
            "gains": None if truth._gains is None else ids.fetch(truth._gains[span]),
        }
        rank_metrics.run(
            "reference", **alone, convention=replace(policy, ties="given")
        )  # raises as the user's code does
        raise RuntimeError(
            f"the metric {column.label!r} failed in query {query!r}, compiled only: not as Python"
        )
    if policy.duplicates == "error" and counts[:, DUPLICATES].any():
        q = int(np.argmax(counts[:, DUPLICATES] > 0))
        row = q if rows is None else int(rows[q])
        start, stop = (
            (run.ptr[row], run.ptr[row + 1])
            if run.ptr is not None
            else (row * run.width, (row + 1) * run.width)
        )
        distinct, times = np.unique(ids.fetch(run.ids[start:stop]), return_counts=True)
        again = int(distinct[(times > 1) & ((distinct != -1) | (run.ptr is not None))][0])
        item = again if run.items is None else run.items[again]
        raise ValueError(
            f"`run` has item {item!r} twice in query {truth._queries[q]!r}; "
            "drop the repeats, or pass duplicates='first'"
        )


def _unknown(run: Run, rows: np.ndarray | None) -> np.ndarray:
    """The rows of the run whose query the truth does not know."""
    if rows is None:
        return np.zeros(0, np.int64)
    known = np.zeros(len(run), bool)
    known[rows[rows >= 0]] = True
    return np.flatnonzero(~known)


def _check_unknown(run: Run, unknown: np.ndarray, policy: Convention) -> None:
    """Refuse in lists that are not evaluated what is refused in others: a fault of the run is no less one there."""
    truth = Truth.empty(run.queries, unknown)
    columns = parse("num_ret")
    _, counts = rank_metrics(
        run.ids, ids.like(truth._ptr, run.ids), ids.like(truth._ids, run.ids), columns, scores=run.scores, ptr=run.ptr,
        width=run.width, run_row=ids.like(unknown, run.ids), convention=replace(policy, ties="given"),
    )  # fmt: skip
    _, _, duplicates, _, bad = _tally(counts)
    if bad >= 0 or duplicates:
        _refuse({}, run, truth, unknown, ids.fetch(counts), columns, policy)


def _apply(values: Any, rows: Any, name: str, policy: str, columns: list[Column], truth: Truth) -> None:
    """What the queries ``rows`` (of which there are some) count for."""
    if policy == "error":
        raise ValueError(
            f"query {truth._queries[int(rows.argmax())]!r} has no relevant item ({name}='error')"
        )
    if policy in ("nan", "one"):
        scored = [m for m, column in enumerate(columns) if not column.metric.name.startswith("num_")]
        for m in scored:
            values[:, m] = arrays.namespace(values).where(
                rows, np.nan if policy == "nan" else 1.0, values[:, m]
            )


def _weights(weights: Any, truth: Truth) -> np.ndarray | None:
    if weights is None:
        return None
    if hasattr(weights, "to_dict") and hasattr(weights, "index"):  # a pandas Series
        weights = weights.to_dict()
    if isinstance(weights, Mapping):
        try:
            weights = [weights[query] for query in truth.query_ids.tolist()]
        except KeyError as error:
            raise ValueError(f"`weights` has none for query {error.args[0]!r}") from None
    found = checks.vector(
        weights, "weights", dtype=np.float64, size=len(truth), like="one number a query of the truth"
    )
    if not np.isfinite(found).all() or (found < 0).any():
        raise ValueError("`weights` must be finite and not negative")
    if len(found) and not 0 < found.max() <= LARGEST:
        raise ValueError(f"`weights` must not all be 0, nor above {LARGEST}; only their ratios matter")
    return found


def describe(column: Column, policy: Convention) -> str:
    """The column's name with every choice its value rests on."""
    every = ("ties", "score_precision", "empty", "missing", "duplicates", "unjudged")
    parts = {name: getattr(policy, name) for name in (*column.metric.uses, *every)}
    if policy.relevance_level is not None:
        parts["relevance_level"] = policy.relevance_level
        if "gain" in column.metric.uses:
            parts["below_level"] = policy.below_level
    given = {name: f"{value:g}" for (name, _), value in zip(column.metric.parameters, column.parameters)}
    parts = {**given, **parts}
    if policy.ties == "random":
        parts["seed"] = policy.seed
    cutoff = "" if column.cutoff is None else f"@{column.cutoff}"
    return f"{column.metric.name}{cutoff}[{','.join(f'{name}={value}' for name, value in parts.items())}]"
