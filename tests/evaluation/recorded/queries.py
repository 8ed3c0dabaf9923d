"""The queries behind the recorded outputs: the same numbers in every Python, from a generator of ten lines."""

from __future__ import annotations

from collections.abc import Iterator

Run = dict[str, dict[str, float]]
Truth = dict[str, dict[str, int]]


def numbers(seed: int) -> Iterator[int]:
    state = seed
    while True:  # Knuth's MMIX generator; its high bits are good
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        yield state >> 33


def collection(seed: int = 1, queries: int = 200, length: int | None = None) -> tuple[Run, Truth]:
    """Runs {query: {item: score}} and graded judgements {query: {item: gain}}.

    Scores fall strictly, so that every library ranks alike.  Unless ``length`` is given, lists are 0 to 25 long: some
    are empty, some queries are not in the run, some have no relevant item, some judgements are 0.
    """
    draw = numbers(seed)

    def below(n: int) -> int:
        return next(draw) % n

    def some(count: int, pool: int) -> list[str]:
        items = list(range(pool))
        for i in range(min(count, pool)):
            j = i + below(pool - i)
            items[i], items[j] = items[j], items[i]
        return [f"d{i}" for i in items[:count]]

    run: Run = {}
    truth: Truth = {}
    for q in range(queries):
        name, pool = f"q{q:03}", 30 + below(30)
        listed = some(below(26) if length is None else length, pool)
        if length is not None or below(12):
            run[name] = {item: float(len(listed) - place) for place, item in enumerate(listed)}
        graded = some(1 + below(14), pool)
        worth = 1 if below(9) == 0 else 4  # a ninth of the queries has no relevant item
        truth[name] = {item: below(worth) for item in graded}
    return run, truth


def relevant(truth: Truth) -> dict[str, list[str]]:
    return {query: [item for item, gain in items.items() if gain > 0] for query, items in truth.items()}
