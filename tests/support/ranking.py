"""What ranking must answer, computed the long way in float64, apart from the package's own references."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

METRICS = ("dot", "cosine", "l2")


def lane_sum(terms: np.ndarray) -> np.ndarray:
    """The documented sum over the last axis: lane j adds dimensions j, j + 8, ...; then the lanes, as a tree."""
    lane = [np.zeros(terms.shape[:-1]) for _ in range(8)]
    for dimension in range(terms.shape[-1]):
        lane[dimension % 8] = lane[dimension % 8] + terms[..., dimension]
    l0, l1, l2, l3, l4, l5, l6, l7 = lane
    return ((l0 + l4) + (l2 + l6)) + ((l1 + l5) + (l3 + l7))


def score_matrix(queries: Any, items: Any, metric: str = "dot", bias: Any = None) -> np.ndarray:
    """(Q, N) float32 scores of float32 values: float64 arithmetic, one rounding at the end, no negative zero."""
    u = np.asarray(queries).astype(np.float32).astype(np.float64)
    x = np.asarray(items).astype(np.float32).astype(np.float64)
    with np.errstate(all="ignore"):
        result = np.empty((len(u), len(x)))
        for q in range(len(u)):
            if metric == "l2":
                result[q] = -lane_sum((u[q] - x) ** 2)
            else:
                result[q] = lane_sum(u[q] * x)
            if metric == "cosine":
                norms = np.sqrt(lane_sum(u[q] * u[q])) * np.sqrt(lane_sum(x * x))
                quotient = result[q] / norms
                result[q] = np.where((norms == 0) & ~np.isnan(result[q]), 0.0, quotient)
        if bias is not None:
            result = result + np.asarray(bias).astype(np.float32).astype(np.float64)
        return result.astype(np.float32) + np.float32(0)


def best(scores: np.ndarray, k: int, allowed: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Rows and scores under (score descending, row ascending); NaN and what is not ``allowed`` never returned."""
    rows = np.full((len(scores), k), -1, np.int64)
    values = np.full((len(scores), k), -np.inf, np.float32)
    for q, line in enumerate(scores):
        usable = ~np.isnan(line) if allowed is None else ~np.isnan(line) & allowed[q]
        ranked = sorted(np.flatnonzero(usable).tolist(), key=lambda row, line=line: (-line[row], row))[:k]
        rows[q, : len(ranked)] = ranked
        values[q, : len(ranked)] = line[ranked]
    return rows, values


def oracle(
    queries: Any,
    items: Any,
    k: int,
    metric: str = "dot",
    bias: Any = None,
    allowed: np.ndarray | None = None,
    min_score: float | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The exact top-k; ``allowed`` (Q, N) bool."""
    scores = score_matrix(queries, items, metric, bias)
    if min_score is not None:
        reached = scores.astype(np.float64) >= min_score
        allowed = reached if allowed is None else allowed & reached
    return best(scores, k, allowed)


def assert_top(top: Any, expected: tuple[np.ndarray, np.ndarray], what: str = "") -> None:
    """The same rows and the same score bits."""
    rows, scores = expected
    assert (top.rows.dtype, top.scores.dtype) == (np.int64, np.float32), what
    np.testing.assert_array_equal(top.rows, rows, err_msg=what)
    np.testing.assert_array_equal(top.scores.view(np.uint32), scores.view(np.uint32), err_msg=what)


def csr_of(mask: np.ndarray, dtype: Any = np.int32) -> tuple[np.ndarray, np.ndarray]:
    """(indptr, indices) of the True entries of a (Q, N) mask."""
    return np.concatenate([[0], np.cumsum(mask.sum(axis=1))]), np.nonzero(mask)[1].astype(dtype)


# ---- items that are hard on a search ---------------------------------------------------------------------------------

Draw = Callable[[np.random.Generator, int, int], np.ndarray]


def _near_duplicates(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    one = rng.standard_normal(d)
    return one + 1e-6 * rng.standard_normal((n, d))


def _one_outlier(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    x = rng.standard_normal((n, d))
    x[n // 2] *= 1000
    return x


def _mixed_scales(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    return rng.standard_normal((n, d)) * 10.0 ** rng.integers(-18, 19, (n, 1))


def _with_specials(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    x = rng.standard_normal((n, d))
    for value in (np.nan, np.inf, -np.inf):
        if x.size:
            x.flat[rng.integers(0, x.size, max(1, n // 20))] = value
    return x


DRAWS: dict[str, Draw] = {
    "normal": lambda rng, n, d: rng.standard_normal((n, d)),
    "gamma norms": lambda rng, n, d: rng.standard_normal((n, d)) * rng.gamma(2.0, 1.0, (n, 1)),
    "unit": lambda rng, n, d: (x := rng.standard_normal((n, d))) / np.linalg.norm(x, axis=1, keepdims=True),
    "positive": lambda rng, n, d: rng.random((n, d)),
    "duplicates": lambda rng, n, d: rng.standard_normal((7, d))[rng.integers(0, 7, n)],
    "all equal": lambda rng, n, d: np.tile(rng.standard_normal(d), (n, 1)),
    "small integers": lambda rng, n, d: rng.integers(-2, 3, (n, d)),
    "zeros": lambda rng, n, d: np.zeros((n, d)),
    "negative zeros": lambda rng, n, d: np.where(rng.random((n, d)) < 0.5, -0.0, 0.0),
    "some zero rows": lambda rng, n, d: rng.standard_normal((n, d)) * (rng.random((n, 1)) < 0.5),
    "subnormal": lambda rng, n, d: rng.integers(-50, 50, (n, d)) * 1e-45,
    "huge": lambda rng, n, d: rng.standard_normal((n, d)) * 1e18,
    "tiny": lambda rng, n, d: rng.standard_normal((n, d)) * 1e-18,
    "largest": lambda rng, n, d: np.clip(rng.standard_normal((n, d)), -1, 1) * 3.4e38,
    "mixed scales": _mixed_scales,
    "one outlier": _one_outlier,
    "heavy tails": lambda rng, n, d: rng.standard_normal((n, d)) ** 5,
    "near-duplicates": _near_duplicates,
    "specials": _with_specials,
    "far from the origin": lambda rng, n, d: 1000.0 + rng.standard_normal((n, d)),
}


def draw(name: str, rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    """``n`` float32 vectors of the kind called ``name``."""
    return np.asarray(DRAWS[name](rng, n, d), np.float64).astype(np.float32)


SCORE_KINDS = ["normal", "ties", "equal", "rising", "falling", "specials", "NaN", "-inf"]


def rows_of(kind: str, rng: np.random.Generator, n: int) -> np.ndarray:
    """Three rows of scores of one of `SCORE_KINDS`."""
    x = rng.standard_normal((3, n))
    if kind == "ties":
        x = np.round(x)
    elif kind == "equal":
        x[:] = 1.5
    elif kind == "rising":
        x.sort(axis=1)
    elif kind == "falling":
        x = -np.sort(-x, axis=1)
    elif kind == "specials":
        x = rng.choice([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0], (3, n))
    elif kind == "NaN":
        x[:] = np.nan
    elif kind == "-inf":
        x[:] = -np.inf
    return x.astype(np.float32)
