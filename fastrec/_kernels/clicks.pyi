from typing import Any

POINT_SUMS: int
chunk_rows: int

def chunks(n: int) -> int: ...
def labels(bytes_of: Any, kind: int, out: Any, threads: int) -> int: ...
def span(bytes_of: Any, kind: int, n: int, threads: int) -> tuple[float, float, int]: ...
def score_bits(kind: int, low: float, high: float) -> int: ...
def pack(
    bytes_of: Any, kind: int, labels: Any, groups: Any, group_shift: int, top: float, words: Any, threads: int
) -> None: ...
def pair_up(bytes_of: Any, kind: int, labels: Any, top: float, pairs: Any, threads: int) -> None: ...
def radix_sort(rows: Any, spare: Any, stride: int, low: int, high: int, threads: int) -> None: ...
def sort_floats(scores: Any, labels: Any, top: float, bits: int, words: Any, threads: int) -> None: ...
def ranks(pairs: Any, groups: Any, words: Any) -> None: ...
def count(words: Any, n: int, weights: Any, positives: Any, weight_sums: Any, threads: int) -> None: ...
def sweep(
    words: Any,
    n: int,
    first: int,
    mask: int,
    weights: Any,
    level: int,
    positives_before: Any,
    weights_before: Any,
    positives: int,
    negative_weight: float,
    positive_weight: float,
    out: Any,
    threads: int,
) -> None: ...
def group_counts(words: Any, mask: int, offsets: Any, positives: Any, pairs2: Any, threads: int) -> None: ...
def group_weights(
    words: Any,
    mask: int,
    weights: Any,
    offsets: Any,
    positives: Any,
    negatives: Any,
    pairs2: Any,
    threads: int,
) -> None: ...
def points(
    y_bytes: Any,
    y_kind: int,
    p_bytes: Any,
    p_kind: int,
    weights: Any,
    n: int,
    loss: bool,
    eps: float,
    centre: float,
    sums: Any,
    threads: int,
) -> None: ...
def bins(
    y_bytes: Any,
    y_kind: int,
    p_bytes: Any,
    p_kind: int,
    weights: Any,
    n: int,
    edges: Any,
    lanes: Any,
    sums: Any,
    threads: int,
) -> None: ...
def bin_counts(
    y: Any, p_bytes: Any, p_kind: int, edges: Any, lanes: Any, counts: Any, threads: int
) -> None: ...
def range_sums(
    words: Any, n: int, mask: int, kind: int, top: float, cuts: Any, sums: Any, threads: int
) -> None: ...
def scores_at(words: Any, n: int, mask: int, kind: int, top: float, rows: Any, out: Any) -> None: ...
def above(
    words: Any, n: int, mask: int, kind: int, top: float, edges: Any, closed: Any, out: Any
) -> None: ...
def positives(words: Any, n: int, begin: int, end: int) -> int: ...
def negative_row(words: Any, n: int, begin: int, end: int, before: int, wanted: float) -> int: ...
def block(words: Any, n: int, mask: int, row: int) -> tuple[int, int]: ...
def ascents(
    ranks: Any,
    spare: Any,
    weights: Any,
    spare_weights: Any,
    width: int,
    size: int,
    counts: Any,
    sums: Any,
    threads: int,
) -> None: ...
