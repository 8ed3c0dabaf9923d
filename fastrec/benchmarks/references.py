"""The readable answers: float64 NumPy, one idea a function, nothing shared with the code under test.

They are slow where that makes them plain, and bounded in memory so that they can check every answer at full size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fastrec.benchmarks.harness import Verdict

BLOCK_BYTES = 256 << 20  # of float64 scores held at once


# ---------------------------------------------------------------------------------------------------------- rank


def topk(
    queries: np.ndarray, items: np.ndarray, k: int, exclude: Any = None
) -> tuple[np.ndarray, np.ndarray]:
    """Ids and float64 scores, best first: score (rounded to float32) descending, then id ascending; padding is -1.

    A float32 product tells which items may be among the k best of each query; these are scored in float64.  It is
    within ``error`` of the exact scores however it is added up, so nothing that matters is left out.
    """
    ids = np.full((len(queries), k), -1, np.int64)
    best = np.full((len(queries), k), -np.inf)
    wide = queries.astype(np.float64)
    step = max(1, BLOCK_BYTES // (4 * max(1, len(items))))
    for start in range(0, len(queries), step):
        with np.errstate(all="ignore"):
            scores = queries[start : start + step] @ items.T
        error = product_error(queries[start : start + step], items)
        if exclude is not None:
            part = exclude[start : start + step].tocoo()
            scores[part.row, part.col] = -np.inf
        for row, line in enumerate(scores, start):
            near = _at_least_kth(line, k, error[row - start])
            near = near[line[near] > -np.inf]
            exact = items[near].astype(np.float64) @ wide[row]
            rounded = exact.astype(np.float32)
            order = np.lexsort((near, -rounded))[:k]
            ids[row, : len(order)] = near[order]
            best[row, : len(order)] = exact[order]
    return ids, best


def product_error(queries: np.ndarray, items: np.ndarray) -> np.ndarray:
    """How far a float32 dot product may be from the exact one, for each query: twice d roundings of all its terms."""
    longest = np.sqrt(
        max((np.square(block, dtype=np.float64).sum(axis=1).max() for block in _blocks(items)), default=0)
    )
    lengths = np.linalg.norm(queries.astype(np.float64), axis=1)
    return (items.shape[1] + 8) * 2.0**-23 * lengths * longest


def _blocks(items: np.ndarray) -> Iterator[np.ndarray]:
    return (items[at : at + (1 << 16)] for at in range(0, len(items), 1 << 16))


def select(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids and values of the k best of each row of given scores: score descending, then id ascending."""
    ids = np.empty((len(scores), k), np.int64)
    for row, line in enumerate(scores):
        near = _at_least_kth(line, k)
        ids[row] = near[np.lexsort((near, -line[near]))[:k]]
    return ids, np.take_along_axis(scores, ids, axis=1)


def _at_least_kth(line: np.ndarray, k: int, error: float = 0.0) -> np.ndarray:
    """Where a row, right to within ``error``, holds its k best and what ties with the last of them; more is allowed.

    The k-th best of the maxima of disjoint groups is one of k different items, so it is no better than the k-th best
    item: whatever is below it cannot be among the k.  (Much less work than to partition the row.)
    """
    groups = min(len(line), 8 * k + 64)
    if len(line) < 4 * groups:
        return np.arange(len(line))
    even = len(line) // groups * groups
    maxima = line[:even].reshape(-1, groups).max(axis=0)
    bar = float(np.partition(maxima, groups - k)[groups - k])
    return np.flatnonzero(line >= bar - 2 * error - abs(bar) * 1e-6)  # float32 ties with it stay in


def rounded_once(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The float32 values that float64 ``scores`` may round to, given that the order of summation moves them a bit."""
    slack = np.where(np.isfinite(scores), np.abs(scores) * 1e-12, 0.0)
    return (scores - slack).astype(np.float32), (scores + slack).astype(np.float32)


def same_topk(
    queries: np.ndarray, items: np.ndarray, ids: np.ndarray, best: np.ndarray
) -> Callable[[Any], Verdict]:
    """Ours must be exact: these ids in this order, and each score the float64 sum rounded once to float32.

    The reference's sums differ from the canonical ones in the last bits of float64.  Where that lets a sum round to
    either of two float32 values, two items may change places; such a row must still be ordered by its own scores.
    """
    low, high = rounded_once(best)

    def check(answer: Any) -> Verdict:
        rows, scores = np.asarray(answer.rows), np.asarray(answer.scores)
        if rows.shape != ids.shape or scores.shape != ids.shape:
            return Verdict(False, f"shape {rows.shape}, not {ids.shape}")
        wrong = 0
        for row in np.flatnonzero(
            (rows != ids).any(axis=1) | (scores < low).any(axis=1) | (scores > high).any(axis=1)
        ):
            exact = (
                queries[row].astype(np.float64) * items[np.maximum(rows[row], 0)].astype(np.float64)
            ).sum(axis=1)
            bottom, top = rounded_once(np.where(rows[row] >= 0, exact, -np.inf))
            ordered = np.lexsort((rows[row], -scores[row]))
            fits = (scores[row] >= bottom).all() and (scores[row] <= top).all()
            with np.errstate(invalid="ignore"):  # inf - inf, where both are padding
                near = (np.abs(exact - best[row]) <= np.abs(best[row]) * 1e-12) | (rows[row] == ids[row])
            unique = len(set(rows[row][rows[row] >= 0])) == (rows[row] >= 0).sum()
            wrong += not (fits and near.all() and unique and (ordered == np.arange(len(ordered))).all())
        if wrong:
            return Verdict(False, f"{wrong} of {len(ids)} rows differ from the float64 reference")
        return Verdict(True, "exact" if len(ids) == 1 else f"exact, all {len(ids):,} queries")

    return check


def close_topk(
    queries: np.ndarray, items: np.ndarray, best: np.ndarray, exclude: Any = None
) -> Callable[[Any], Verdict]:
    """Peers work in float32 and order ties as they like: the true scores of their items must be as high as ours.

    Also counts the rows whose items are not exactly the float64 ones in order, which is not held against them.
    """

    def check(answer: Any) -> Verdict:
        ids = np.asarray(answer[0]).astype(np.int64)
        if ids.shape != best.shape:
            return Verdict(False, f"shape {ids.shape}, not {best.shape}")
        bad = loose = 0
        for row, (line, want) in enumerate(zip(ids, best, strict=True)):
            have = line >= 0
            true = np.full(len(line), -np.inf)
            true[have] = items[line[have]].astype(np.float64) @ queries[row].astype(np.float64)
            if exclude is not None:
                seen = exclude.indices[exclude.indptr[row] : exclude.indptr[row + 1]]
                if np.isin(line[have], seen).any():
                    bad += 1
                    continue
            finite = np.isfinite(want)
            slack = (
                1e-4
                * np.linalg.norm(queries[row])
                * np.linalg.norm(items[line[have]], axis=1).max(initial=0.0)
            )
            if (np.isfinite(true) != finite).any() or len(set(line[have])) != have.sum():
                bad += 1
                continue
            gap = np.abs(np.sort(true[finite])[::-1] - want[finite]).max(initial=0.0)
            if gap > slack:
                bad += 1
            elif (np.abs(true[finite] - want[finite]) > 1e-12 * np.abs(want[finite])).any():
                loose += 1
        if bad:
            return Verdict(False, f"{bad} of {len(best)} rows are wrong")
        return Verdict(True, f"float32 ({loose} rows differ in order)" if loose else "same ids")

    return check


def pair_scores(queries: np.ndarray, items: np.ndarray, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """float64 dot product of each pair."""
    scores = np.empty(len(rows))
    for start in range(0, len(rows), 1 << 17):
        part = slice(start, start + (1 << 17))
        scores[part] = np.einsum(
            "pd,pd->p", queries[rows[part]].astype(np.float64), items[cols[part]].astype(np.float64)
        )
    return scores


# ------------------------------------------------------------------------------------------------------- measure


def rank_metrics(lists: list[list[int]], relevant: list[set[int]]) -> dict[str, np.ndarray]:
    """Binary metrics of one ranked list a query, as trec_eval defines them: per query, in float64."""

    def ndcg(hits: list[bool], truth: int, k: int) -> float:
        gained = sum(1 / np.log2(place + 2) for place, hit in enumerate(hits[:k]) if hit)
        ideal = sum(1 / np.log2(place + 2) for place in range(min(k, truth)))
        return gained / ideal

    def average_precision(hits: list[bool], truth: int) -> float:
        found, total = 0, 0.0
        for place, hit in enumerate(hits, 1):
            if hit:
                found += 1
                total += found / place
        return total / truth

    rows: dict[str, list[float]] = {name: [] for name in METRICS}
    for ranked, wanted in zip(lists, relevant, strict=True):
        hits = [item in wanted for item in ranked]
        truth = len(wanted)
        rows["ndcg@10"].append(ndcg(hits, truth, 10))
        rows["ndcg@100"].append(ndcg(hits, truth, 100))
        rows["recall@20"].append(sum(hits[:20]) / truth)
        rows["precision@10"].append(sum(hits[:10]) / 10)
        rows["map"].append(average_precision(hits, truth))
        rows["mrr"].append(next((1 / place for place, hit in enumerate(hits, 1) if hit), 0.0))
        rows["hit_rate@10"].append(float(any(hits[:10])))
        rows["r_precision"].append(sum(hits[:truth]) / truth)
    return {name: np.array(values) for name, values in rows.items()}


METRICS = ("ndcg@10", "ndcg@100", "recall@20", "precision@10", "map", "mrr", "hit_rate@10", "r_precision")


def auc(y: np.ndarray, scores: np.ndarray) -> float:
    """The chance that a positive scores above a negative, a tie counting half: from mean ranks."""
    order = np.argsort(scores, kind="stable")
    values, first, counts = np.unique(scores[order], return_index=True, return_counts=True)
    mean_rank = np.repeat(first + (counts + 1) / 2, counts)
    positive = y[order] > 0
    n_pos, n_neg = int(positive.sum()), int((~positive).sum())
    del values
    return float((mean_rank[positive].sum() - n_pos * (n_pos + 1) / 2) / (n_pos * n_neg))


def logloss(y: np.ndarray, p: np.ndarray) -> float:
    """Mean negative log-likelihood, natural logarithm."""
    p = p.astype(np.float64)
    return float(-np.mean(np.where(y > 0, np.log(p), np.log1p(-p))))


def catalog(ids: np.ndarray, popularity: np.ndarray, users: int) -> dict[str, float]:
    """What full lists of items do to a catalogue, from how often each item is listed."""
    lists, k = ids.shape
    counts = np.bincount(ids.ravel(), minlength=len(popularity)).astype(np.float64)
    n, share = len(counts), counts / counts.sum()
    return {
        "coverage": float((counts > 0).mean()),
        "gini": float((np.arange(1 - n, n, 2) * np.sort(counts)).sum() / (n * counts.sum())),
        "novelty": float(-(share * np.log2(np.maximum(popularity, 1.0) / users)).sum()),
        "personalization": float(1 - ((counts**2).sum() / k - lists) / (lists * (lists - 1.0))),
    }


def numbers_agree(expected: dict[str, float], tolerance: float) -> Callable[[dict[str, float]], Verdict]:
    """Named numbers within ``tolerance`` of the expected ones."""

    def check(answer: dict[str, float]) -> Verdict:
        worst, name = max((abs(float(answer[name]) - value), name) for name, value in expected.items())
        if not worst <= tolerance:  # NaN fails
            return Verdict(False, f"{name} is {float(answer[name])!r}, not {expected[name]!r}")
        return Verdict(True, f"within {_power(worst)}" if worst else "equal")

    return check


def arrays_agree(expected: np.ndarray, tolerance: float, what: str = "values") -> Callable[[Any], Verdict]:
    """An array whose largest error, as a share of the largest expected value, is within ``tolerance``."""

    def check(answer: Any) -> Verdict:
        got = np.asarray(answer, dtype=np.float64)
        if got.shape != expected.shape:
            return Verdict(False, f"shape {got.shape}, not {expected.shape}")
        error = float(
            np.abs(got - expected).max(initial=0.0) / max(np.abs(expected).max(initial=0.0), 1e-300)
        )
        if not error <= tolerance:
            return Verdict(False, f"{what} differ by {error:.1e} of the largest, more than {tolerance:.0e}")
        return Verdict(True, f"within {_power(error)}" if error else "equal")

    return check


def _power(value: float) -> str:
    return f"1e{int(np.ceil(np.log10(value)))}"


# --------------------------------------------------------------------------------------------------------- weigh


def logistic_gradient_norms(X: Any, y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """The norm of each sample's gradient, written out: (p - y) times the row with the 1 of the intercept."""
    dense = np.asarray(X.todense() if hasattr(X, "todense") else X, dtype=np.float64)
    gradients = (p - y)[:, None] * np.hstack([dense, np.ones((len(dense), 1))])
    return np.sqrt((gradients**2).sum(axis=1))


# --------------------------------------------------------------------------------------------------------- train


def logistic_objective(X: Any, y: np.ndarray, coefficients: np.ndarray, intercept: float, l2: float) -> float:
    """Mean negative log-likelihood plus half of ``l2`` times the squared length of the coefficients."""
    logits = X @ coefficients.astype(np.float64) + intercept
    return float(
        np.logaddexp(0.0, np.where(y > 0, -logits, logits)).mean() + l2 / 2 * (coefficients**2).sum()
    )


def logistic_optimum(X: Any, y: np.ndarray, l2: float) -> float:
    """The least objective that there is, by SciPy's L-BFGS on the formula above and its gradient."""
    from scipy.optimize import minimize

    target = (y > 0).astype(np.float64)
    wide = X.astype(np.float64)

    def objective(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        coefficients, intercept = parameters[:-1], parameters[-1]
        residual = (1 / (1 + np.exp(-(wide @ coefficients + intercept))) - target) / len(target)
        gradient = np.append(wide.T @ residual + l2 * coefficients, residual.sum())
        return logistic_objective(wide, y, coefficients, intercept, l2), gradient

    found = minimize(
        objective, np.zeros(X.shape[1] + 1), jac=True, method="L-BFGS-B",
        options={"maxiter": 2000, "ftol": 1e-15, "gtol": 1e-8},
    )  # fmt: skip
    return float(found.fun)
