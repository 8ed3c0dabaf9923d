"""The lists behind the recorded catalogue metrics: who got what, had what before, and wanted what after."""

from __future__ import annotations

from dataclasses import dataclass

from queries import numbers

ITEMS, USERS, K = 50, 60, 8


@dataclass
class Shop:
    lists: list[list[int]]  # K items a user, or fewer
    history: list[list[int]]
    wanted: list[list[int]]
    vectors: list[list[int]]


def shop(seed: int = 3, full: bool = False) -> Shop:
    """Low numbers are popular; some items nobody had before, and no list repeats what its user had."""
    draw = numbers(seed)

    def below(n: int) -> int:
        return next(draw) % n

    def some(count: int, last: int, without: list[int]) -> list[int]:
        chosen: list[int] = []
        while len(chosen) < count:
            item = min(below(last), below(last))
            if item not in chosen and item not in without:
                chosen.append(item)
        return chosen

    made = Shop([], [], [], [])
    for _ in range(USERS):
        history = some(3 + below(6), ITEMS - 5, [])
        made.history.append(history)
        made.lists.append(some(K if full or below(2) else 1 + below(K), ITEMS, history))
        made.wanted.append(some(2 + below(5), ITEMS, history))
    made.vectors = [[below(7) - 3 for _ in range(4)] for _ in range(ITEMS)]
    for vector in made.vectors:
        vector[0] = vector[0] or 1  # no vector is 0
    return made
