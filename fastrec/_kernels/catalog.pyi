from typing import Any

def tasks(lists: int) -> int: ...
def count(
    bytes_of_ids: Any,
    wide: bool,
    width: int,
    k: int,
    stamps: Any,
    counts: Any,
    lengths: Any,
    reports: Any,
    threads: int,
) -> None: ...
def similarity(
    bytes_of_ids: Any, wide: bool, width: int, k: int, units: Any, sums: Any, out: Any, threads: int
) -> None: ...
