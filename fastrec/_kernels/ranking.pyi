from typing import Any, Self

from typing_extensions import disjoint_base

def level() -> int: ...

@disjoint_base
class Items:
    def __new__(
        cls, address: int, n: int, d: int, stride: int, dtype: int, metric: int, bias: Any, owner: Any
    ) -> Self: ...

@disjoint_base
class Packed:
    def __new__(
        cls,
        items: Items,
        order: Any,
        codes: Any,
        meta: Any,
        beta: Any,
        places: tuple[int, ...],
        rest: Any,
        turn: Any,
        turn_error: float,
        means: Any,
        special: Any,
        exponent: int,
    ) -> Self: ...

def norms(items: Items, out: Any, cut: int, behind: Any, threads: int) -> None: ...
def pack(index: Packed, codes: Any, meta: Any, beta: Any, rest: Any, means: Any, threads: int) -> None: ...
def judge_lists(indptr: Any, indices: Any, items: int) -> int: ...
def scan(
    index: Packed,
    queries: Any,
    k: int,
    group: int,
    segments: int,
    exclude_indptr: Any,
    exclude_indices: Any,
    use_codes: bool,
    min_score: float,
    shared: Any,
    rows: Any,
    scores: Any,
    stats: Any,
    threads: int,
) -> None: ...
def score_pairs(items: Items, queries: Any, rows: Any, cols: Any, out: Any, threads: int) -> bool: ...
def score(items: Items, queries: Any, out: Any, threads: int) -> None: ...
def candidates(
    items: Items,
    queries: Any,
    indptr: Any,
    indices: Any,
    exclude_indptr: Any,
    exclude_indices: Any,
    min_score: float,
    rows: Any,
    scores: Any,
    threads: int,
) -> None: ...
def select_topk(scores: Any, rows: Any, values: Any, threads: int) -> None: ...
