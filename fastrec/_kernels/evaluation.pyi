from typing import Any

METRICS: tuple[str, ...]
TIES: tuple[str, ...]
IDEALS: tuple[str, ...]
AP_DENOMINATORS: tuple[str, ...]
COUNTS: tuple[str, ...]
NO_CUTOFF: int
SUM_BLOCK: int
BAD_SCORE: int
BAD_PADDING: int

def level() -> int: ...
def discounts(size: int) -> tuple[Any, Any]: ...
def rank_metrics(
    run32: Any,
    run64: Any,
    scores32: Any,
    scores64: Any,
    run_ptr: Any,
    width: int,
    run_row: Any,
    tie_rank: Any,
    truth_ptr: Any,
    truth_ids: Any,
    gains: Any,
    values: Any,
    ideal: Any,
    positives: Any,
    kinds: Any,
    cutoff_of: Any,
    parameters: Any,
    functions: Any,
    cutoffs: Any,
    discounts: Any,
    discount_sums: Any,
    level: float,
    strict: bool,
    ties: int,
    float32_scores: bool,
    ideal_mode: int,
    ap_denominator: int,
    recall_capped: bool,
    short_lists: bool,
    skip_unjudged: bool,
    all_relevant: bool,
    zero_is_nothing: bool,
    seed: int,
    query_keys: Any,
    topic_ptr: Any,
    topics: Any,
    topic_counts: Any,
    topic_order: Any,
    most_topics: int,
    longest: int,
    longest_truth: int,
    out: Any,
    counts: Any,
    threads: int,
) -> None: ...
def first_repeat(ptr: Any, ids: Any, longest: int) -> tuple[int, int] | None: ...
def tally(counts: Any) -> tuple[int, int, int, int, int]: ...
def column_sums(values: Any, sums: Any, undefined: Any, threads: int) -> None: ...
