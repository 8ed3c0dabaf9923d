"""Exactness: ids and score bits equal a float64 oracle, whatever the data and however the search was run."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ranking import DRAWS, METRICS, assert_top, best, csr_of, draw, oracle, score_matrix
from subprocesses import USABLE_ISAS, output_of

import fastrec as fr

PRECISIONS = ("int8", "float32")
each_metric = pytest.mark.parametrize("metric", METRICS)
each_precision = pytest.mark.parametrize("precision", PRECISIONS)
each_kind = pytest.mark.parametrize("kind", DRAWS)


# ---- data ----


@each_kind
@each_metric
def test_every_kind_of_items_equals_the_oracle(kind: str, metric: str) -> None:
    rng = np.random.default_rng([list(DRAWS).index(kind), METRICS.index(metric)])
    items = draw(kind, rng, 300, 40)
    queries = np.concatenate([draw("normal", rng, 9, 40), draw(kind, rng, 5, 40), items[:2]])
    scores = score_matrix(queries, items, metric)
    for precision in PRECISIONS:
        index = fr.Index(items, metric, precision=precision)
        assert index.precision == precision
        for k in (1, 10, 300, 303):
            assert_top(index.topk(queries, k), best(scores, k), f"{kind} {metric} {precision} k={k}")


@each_kind
def test_every_kind_of_queries_equals_the_oracle(kind: str) -> None:
    rng = np.random.default_rng(list(DRAWS).index(kind))
    queries, items = draw(kind, rng, 14, 20), draw("gamma norms", rng, 200, 20)
    bias = rng.standard_normal(200).astype(np.float32)
    for metric in METRICS:
        for terms in (None, bias):
            expected = oracle(queries, items, 7, metric, terms)
            for precision in PRECISIONS:
                top = fr.topk(queries, items, 7, metric=metric, bias=terms, precision=precision)
                assert_top(top, expected, f"{kind} {metric} {precision}")


@each_precision
def test_every_dimension(precision: str) -> None:
    rng = np.random.default_rng(0)
    for d in [*range(1, 66), 100, 127, 128, 129, 384, 768]:
        queries, items = (
            draw("normal", rng, 37, d),
            draw("small integers" if d % 2 else "gamma norms", rng, 100, d),
        )
        metric = METRICS[d % 3]
        index = fr.Index(items, metric, precision=precision)
        rows, values = oracle(queries, items, 5, metric)
        for q in (5, 37):
            assert_top(index.topk(queries[:q], 5), (rows[:q], values[:q]), f"d={d} q={q} {metric}")


@each_precision
def test_every_number_of_items_and_queries_around_panels_and_tiles(precision: str) -> None:
    rng = np.random.default_rng(1)
    queries = draw("normal", rng, 49, 12)
    for n in (0, 1, 2, 31, 32, 33, 63, 64, 65, 127, 128, 129, 257):
        items = draw("duplicates", rng, n, 12)  # ties everywhere
        rows, values = best(score_matrix(queries, items), n + 2)
        index = fr.Index(items, precision=precision)
        for q in (0, 1, 2, 3, 4, 5, 7, 8, 9, 11, 12, 13, 15, 16, 17, 24, 25, 26, 31, 32, 33, 47, 48, 49):
            for k in {1, 6, max(1, n), n + 2}:
                if k <= n + 2:
                    assert_top(
                        index.topk(queries[:q], k), (rows[:q, :k], values[:q, :k]), f"n={n} q={q} k={k}"
                    )


@pytest.mark.parametrize("q", [239, 240, 241, 480, 481])
def test_numbers_of_queries_around_a_group(q: int) -> None:
    rng = np.random.default_rng(q)
    queries, items = draw("normal", rng, q, 16), draw("gamma norms", rng, 150, 16)
    expected = oracle(queries, items, 4)
    for precision in PRECISIONS:
        for threads in (1, 2, 5):
            assert_top(fr.topk(queries, items, 4, precision=precision, threads=threads), expected)


@each_metric
def test_no_dimensions(metric: str) -> None:
    queries, items, bias = np.empty((20, 0)), np.empty((5, 0)), np.array([1, 3, 3, np.nan, 2])
    assert_top(fr.topk(queries, items, 7, metric=metric), oracle(queries, items, 7, metric))
    assert_top(fr.topk(queries, items, 3, metric=metric, bias=bias), oracle(queries, items, 3, metric, bias))


@each_precision
def test_thousands_of_near_duplicates(precision: str) -> None:
    rng = np.random.default_rng(2)
    items = draw("near-duplicates", rng, 4000, 64)
    queries = np.concatenate([draw("normal", rng, 3, 64), items[:2]])
    for metric in METRICS:
        scores = score_matrix(queries, items, metric)
        index = fr.Index(items, metric, precision=precision)
        for k in (1, 10, 200):
            assert_top(index.topk(queries, k), best(scores, k), f"{metric} k={k}")


def test_loose_bounds_fall_back_to_floats() -> None:
    """Items that int8 codes cannot tell apart: the float screen takes over, and says so."""
    rng = np.random.default_rng(3)
    items, queries = draw("near-duplicates", rng, 20_000, 32), draw("normal", rng, 4, 32)
    index = fr.Index(items, precision="int8")
    assert index.explain(queries, 3)["fallback"] == 4
    assert_top(index.topk(queries, 3), oracle(queries, items, 3))


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_a_fallback_covers_the_same_share_of_the_items(threads: int) -> None:
    """Shares of the items that fall back and shares that do not must still make up the whole."""
    rng = np.random.default_rng(0)
    items, queries = np.tile(draw("normal", rng, 1, 16), (12_000, 1)), draw("normal", rng, 3, 16)
    index = fr.Index(items, precision="int8")
    for k in (10, 100, 300):
        np.testing.assert_array_equal(
            index.topk(queries, k, threads=threads).rows, np.tile(np.arange(k), (3, 1))
        )


# ---- additive terms ----

BIASES = {
    "ordinary": lambda rng, n: rng.standard_normal(n),
    "integers": lambda rng, n: rng.integers(-1, 2, n),
    "huge": lambda rng, n: rng.standard_normal(n) * 1e30,
    "largest": lambda rng, n: rng.uniform(-1, 1, n) * 3.4e38,
    "tiny": lambda rng, n: rng.standard_normal(n) * 1e-40,
    "constant": lambda rng, n: np.full(n, -1000.0),
    "NaN and infinite": lambda rng, n: rng.choice([np.nan, np.inf, -np.inf, 0.0, 1.0], n),
}


@pytest.mark.parametrize("kind", BIASES)
@each_metric
def test_bias(kind: str, metric: str) -> None:
    rng = np.random.default_rng(4)
    items, queries = draw("gamma norms", rng, 130, 24), draw("normal", rng, 13, 24)
    queries[0] = 0
    bias = np.asarray(BIASES[kind](rng, 130), np.float32)
    scores = score_matrix(queries, items, metric, bias)
    for precision in PRECISIONS:
        for k in (1, 9, 130):
            top = fr.topk(queries, items, k, metric=metric, bias=bias, precision=precision)
            assert_top(top, best(scores, k), f"{kind} {metric} {precision} k={k}")


@each_precision
@pytest.mark.parametrize("power", range(0, 24, 3))
def test_additive_terms_that_dwarf_the_products(precision: str, power: int) -> None:
    """Small queries against a large negative bias fill the range of the integer screen to its lower end."""
    rng = np.random.default_rng(power)
    items = np.abs(rng.standard_normal((96, 8))).astype(np.float32)
    queries = -np.abs(rng.standard_normal((5, 8))).astype(np.float32) * np.float32(2.0**-power)
    bias = np.full(96, -1000, np.float32)
    far = items + np.float32(1000)  # with l2, the squared norms are such terms
    for k in (3, 96):
        top = fr.topk(queries, items, k, bias=bias, precision=precision)
        assert_top(top, oracle(queries, items, k, bias=bias), f"bias, k={k}")
        top = fr.topk(queries, far, k, metric="l2", precision=precision)
        assert_top(top, oracle(queries, far, k, "l2"), f"l2, k={k}")


# ---- attacks on the bound ----


def short_of_half_a_step(rng: np.random.Generator, n: int, d: int, direction: np.ndarray) -> np.ndarray:
    """Items whose residuals are all 0.499 of a code's step, along ``direction``.

    The first value is 127, the largest, so that a step is one; the others are integers plus 0.499 in the direction's
    sign.
    """
    items = rng.integers(-100, 100, (n, d)) + 0.499 * np.sign(direction)
    items[:, 0] = 127.0
    return items


@each_precision
@pytest.mark.parametrize("d", [8, 64, 200])
def test_residuals_along_the_query(precision: str, d: int) -> None:
    """The bound is Cauchy-Schwarz on the residuals: make them parallel to the query, where it is an equality.

    Half of the items lose by rounding and half gain, and all have nearly the same score in whole steps: those that
    belong to the top look, in codes, as far below it as is possible at all.
    """
    rng = np.random.default_rng(d)
    direction = rng.choice([-1.0, 1.0], d)
    direction[0] = 1.0
    halves = [short_of_half_a_step(rng, 400, d, sign * direction) for sign in (1, -1)]
    for half in halves:
        wanted = -direction[1] * (np.round(half[:, 2:]) @ direction[2:])
        half[:, 1] = np.clip(wanted, -126, 126) + (half[:, 1] - np.round(half[:, 1]))
    items = rng.permutation(np.concatenate(halves)).astype(np.float32)
    queries = (direction * np.array([[1.0], [1e-3], [7.7]])).astype(np.float32)
    for metric in METRICS:
        scores = score_matrix(queries, items, metric)
        for k in (1, 10, 100, 400):
            top = fr.topk(queries, items, k, metric=metric, precision=precision)
            assert_top(top, best(scores, k), f"{metric} k={k}")


@each_precision
@pytest.mark.parametrize("levels", [63, 127])
def test_the_query_residual_along_the_items(precision: str, levels: int) -> None:
    """The other half of the bound: queries just short of half a step, against items parallel to what is lost."""
    rng = np.random.default_rng(levels)
    sign = rng.choice([-1.0, 1.0], (6, 64))
    queries = (rng.integers(-levels + 1, levels, (6, 64)) + 0.499 * sign).astype(np.float32)
    queries[:, 0] = levels
    pull = 1 + 1e-3 * rng.integers(0, 3, (500, 1))
    items = sign[rng.integers(0, 6, 500)] * pull + 1e-4 * rng.standard_normal((500, 64))
    scores = score_matrix(queries, items)
    for k in (1, 10, 80):
        assert_top(fr.topk(queries, items, k, precision=precision), best(scores, k), f"k={k}")


@pytest.mark.parametrize("d", [61, 64, 67, 100, 128, 384])
@pytest.mark.parametrize("behind", [0.06, 0.13, 0.25, 0.38, 0.5, 0.63, 0.75, 0.88, 0.97])
def test_what_matters_may_lie_behind_every_place(d: int, behind: float) -> None:
    """The best items, all of them in their last dimensions, lie in panels that a screen gives up part of the way.

    The winners are parallel to the query there, so that the Cauchy-Schwarz bound of the rest is reached.
    """
    rng = np.random.default_rng([d, int(100 * behind)])
    first = int(d * behind)
    items = draw("gamma norms", rng, 3000, d)
    queries = draw("normal", rng, 40, d)
    assert fr.Index(items)._rest is not None, "no panel of these items is looked at part of the way"
    queries[::2, :first] = 0
    reach = np.linalg.norm(items, axis=1)
    for q in range(0, 40, 2):  # low norms come last, when thresholds are high
        tail = queries[q, first:] / np.linalg.norm(queries[q, first:])
        row = int(np.argsort(reach)[1500 + 17 * q])
        items[row], items[row, first:] = 0, reach[row] * tail
    bias = 0.1 * rng.standard_normal(3000).astype(np.float32)
    for metric, terms in (("dot", None), ("dot", bias), ("l2", None)):
        index = fr.Index(items, metric, terms)
        for k in (1, 10, 200):
            expected = oracle(queries, items, k, metric, terms)
            for q in (4, 40):
                top = index.topk(queries[:q], k)
                assert_top(top, (expected[0][:q], expected[1][:q]), f"{metric} q={q} k={k}")


@pytest.mark.parametrize("d", [64, 128, 200])
@pytest.mark.parametrize("behind", [0.06, 0.13, 0.25, 0.38, 0.5, 0.63, 0.75, 0.88])
def test_what_just_reaches_the_best_from_behind_every_place(d: int, behind: float) -> None:
    """As above, and the winners come last: the 10th score of a query, by a hundredth, is that of an item whose bound at
    every place before ``behind`` is its score.  Bounds a tenth too short lose it in nearly every one of these cases."""
    rng = np.random.default_rng([d, int(100 * behind)])
    first, k = int(d * behind), 10
    items = draw("gamma norms", rng, 24_000, d)
    queries = draw("normal", rng, 120, d)
    queries[:, :first] = 0
    lengths = np.linalg.norm(queries, axis=1)
    reach = np.linalg.norm(items, axis=1)
    enough = 1.01 * np.sort(queries.astype(float) @ items.T, axis=1)[:, -k] / lengths
    by_norm = np.argsort(reach)
    for q in range(120):
        row = by_norm[np.searchsorted(reach[by_norm], enough[q]) + q]  # each takes another
        items[row] = enough[q] / lengths[q] * queries[q]
    near = np.unique(np.argpartition(queries.astype(float) @ items.T, -2 * k, axis=1)[:, -2 * k :])
    rows, scores = best(score_matrix(queries, items[near]), k)
    for threads in (1, 2):
        assert_top(fr.topk(queries, items, k, threads=threads), (near[rows], scores), f"threads={threads}")


@each_precision
def test_scores_one_rounding_apart(precision: str) -> None:
    """Scores that differ in the last bit of a float32, or only in float64 and are then equal: ties go by row."""
    rng = np.random.default_rng(6)
    items = np.ones((300, 16))
    items[:, 0] += rng.integers(-8, 9, 300) * 2.0**-23
    items[:, 5] += rng.integers(-8, 9, 300) * 2.0**-24
    items = items.astype(np.float32)
    queries = np.concatenate([np.ones((1, 16)), rng.standard_normal((4, 16))])
    for metric in METRICS:
        scores = score_matrix(queries, items, metric)
        for k in (1, 20, 150):
            top = fr.topk(queries, items, k, metric=metric, precision=precision)
            assert_top(top, best(scores, k), f"{metric} k={k}")


@each_precision
def test_ties_come_by_row_whatever_the_norms(precision: str) -> None:
    """Equal scores from items of rising norm, which the scan meets in the opposite order."""
    items = np.zeros((320, 4), np.float32)
    items[:, 0], items[:, 1] = 1.0, np.arange(320)
    top = fr.topk([[2.0, 0.0, 0.0, 0.0]], items, 50, precision=precision)
    np.testing.assert_array_equal(top.ids[0], np.arange(50))


@each_precision
def test_terms_that_underflow_in_item_units(precision: str) -> None:
    """One huge item sets the unit; the bias of the others is then below what a float32 resolves."""
    rng = np.random.default_rng(7)
    items, queries, bias = np.zeros((64, 4)), np.zeros((3, 4)), np.zeros(64)
    items[:32, 0] = 2.0**127
    items[32:, 1] = np.concatenate([[127], rng.integers(-127, 128, 31)]) * 2.0**72
    bias[32:] = 2.0**-13 * (1 + rng.integers(0, 256, 32) * 2.0**-10)
    queries[:, 1] = 2.0**-99, 2.0**-98, 2.0**-80
    allowed = np.ones((3, 64), bool)
    allowed[:, :32] = False
    for k in (1, 5, 32):
        top = fr.topk(queries, items, k, bias=bias, precision=precision, exclude=csr_of(~allowed))
        assert_top(top, oracle(queries, items, k, bias=bias, allowed=allowed), f"k={k}")


# ---- what must not matter ----


@each_metric
def test_threads_batches_and_precision_do_not_matter(metric: str) -> None:
    rng = np.random.default_rng(8)
    q, n = 60, 5000  # enough panels to be shared out
    items, queries = draw("gamma norms", rng, n, 40), draw("normal", rng, q, 40)
    items[::7] = items[3]
    items[11, 0], items[12, 0], queries[5] = np.inf, np.nan, 0
    bias = np.round(rng.standard_normal(n)).astype(np.float32)
    mask = rng.random((q, n)) < 0.02
    expected = oracle(queries, items, 20, metric, bias, ~mask)
    for precision in PRECISIONS:
        index = fr.Index(items, metric, bias, precision=precision)
        for threads, steps in [
            (1, (60, 25, 7, 1)),
            (2, (60, 5)),
            (3, (60, 24, 1)),
            (4, (60, 13)),
            (5, (60, 31)),
            (6, (60, 12)),
            (7, (60, 50)),
            (8, (60, 3)),
        ]:
            for step in steps:
                for begin in range(0, q, step):
                    part = slice(begin, begin + step)
                    top = index.topk(queries[part], 20, exclude=csr_of(mask[part]), threads=threads)
                    what = f"{precision} threads={threads} queries {begin}.. by {step}"
                    assert_top(top, (expected[0][part], expected[1][part]), what)


@each_precision
@pytest.mark.parametrize("kind", ["gamma norms", "unit", "small integers", "heavy tails"])
def test_how_the_work_is_split_does_not_matter(
    precision: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Groups of any number of queries against any number of shares of the items."""
    rng = np.random.default_rng(11)
    items, queries = draw(kind, rng, 6000, 20), draw("normal", rng, 30, 20)
    expected = {k: oracle(queries, items, k) for k in (1, 30)}
    index = fr.Index(items, precision=precision)
    for group in (1, 5, 12, 30):
        for segments in (1, 2, 3, 8):
            monkeypatch.setattr(
                fr.Index, "_grid", lambda *_, group=group, segments=segments: (group, segments)
            )
            for k, top in expected.items():
                for threads in (1, 3):
                    what = f"group={group} segments={segments} k={k} threads={threads}"
                    assert_top(index.topk(queries, k, threads=threads), top, what)


@each_precision
def test_everything_excluded(precision: str) -> None:
    rng = np.random.default_rng(12)
    items, queries = draw("normal", rng, 500, 20), draw("normal", rng, 30, 20)
    items[3, 0] = np.inf
    queries[2], queries[3, 1] = 0, np.inf
    mask = np.ones((30, 500), bool)
    for bias in (None, np.ones(500)):
        for metric in METRICS:
            index = fr.Index(items, metric, bias, precision=precision)
            for k in (1, 10, 500, 600):
                top = index.topk(queries, k, exclude=csr_of(mask))
                assert (top.rows == -1).all()
                assert np.isneginf(top.scores).all()


SAME_BITS = """
    import hashlib
    import numpy as np, fastrec as fr
    from ranking import DRAWS, METRICS, draw
    summary = hashlib.sha256()
    for number, kind in enumerate(DRAWS):
        rng = np.random.default_rng(number)
        for d in (5, 33, 64):
            items, queries = draw(kind, rng, 300, d), draw("normal", rng, 13, d)
            if kind == "unit":
                items = items.astype(np.float16)
            bias = rng.standard_normal(300)
            for metric in METRICS:
                for terms in (None, bias):
                    for precision in ("int8", "float32"):
                        top = fr.topk(queries, items, 9, metric=metric, bias=terms, precision=precision)
                        summary.update(top.rows.tobytes() + top.scores.tobytes())
                scores = np.nan_to_num(fr.score(queries, items, metric=metric))
                top = fr.topk(queries, items, 4, metric=metric, candidates=np.arange(0, 300, 3))
                for array in (scores, fr.select_topk(scores, 20).rows, top.rows, top.scores):
                    summary.update(array.tobytes())
    print(summary.hexdigest())
"""


def test_every_instruction_set_gives_the_same_bits() -> None:
    digests = {isa: output_of(SAME_BITS, FASTREC_ISA=isa) for isa in USABLE_ISAS}
    assert len(set(digests.values())) == 1, digests


EQUALS_ORACLE = """
    import numpy as np, fastrec as fr
    from ranking import DRAWS, METRICS, assert_top, draw, oracle
    for number, kind in enumerate(DRAWS):
        rng = np.random.default_rng(number)
        for d in (3, 40):
            items, queries = draw(kind, rng, 150, d), draw("normal", rng, 8, d)
            for metric in METRICS:
                expected = oracle(queries, items, 9, metric)
                for precision in ("int8", "float32"):
                    top = fr.topk(queries, items, 9, metric=metric, precision=precision)
                    assert_top(top, expected, f"{kind} {d} {metric} {precision}")
    items = np.abs(np.random.default_rng(0).standard_normal((64, 8)))
    queries, bias = -items[:3] / 1024, np.full(64, -1000.0)
    assert_top(fr.topk(queries, items, 64, bias=bias, precision="int8"), oracle(queries, items, 64, bias=bias))
    codes = np.tile(np.where(np.arange(64) % 2, -127.0, 127.0), (64, 1))  # the largest sums there are
    for queries in (codes[:2], -codes[:2], np.abs(codes[:2])):
        for items in (codes, np.abs(codes)):
            assert_top(fr.topk(queries, items, 9, precision="int8"), oracle(queries, items, 9))
"""


@pytest.mark.parametrize("isa", USABLE_ISAS)
def test_every_instruction_set_equals_the_oracle(isa: str) -> None:
    output_of(EQUALS_ORACLE, FASTREC_ISA=isa)


def test_python_goes_on_during_a_call() -> None:
    """The GIL is released: another thread's Python runs while a search does."""
    rng = np.random.default_rng(10)
    index, queries = fr.Index(draw("unit", rng, 60_000, 32)), draw("normal", rng, 64, 32)
    scores, rows = draw("normal", rng, 64, 60_000), np.arange(64).repeat(4000)
    long = np.arange(65) * 4000, np.tile(np.arange(4000), 64)
    calls = {
        "topk": lambda q: index.topk(q, 500, threads=1),
        "topk with candidates": lambda q: index.topk(q, 50, candidates=long, threads=1),
        "select_topk": lambda q: fr.select_topk(scores[np.arange(len(q)) % 64], 500, threads=1),
        "score": lambda q: fr.score(q, index._items, threads=1),
        "Index": lambda q: fr.Index(index._items[: 900 * len(q)], threads=1),
        "score_pairs": lambda q: fr.score_pairs(q, index._items, rows % len(q), rows * 7, threads=1),
    }  # fmt: skip
    ticks: list[float] = []
    stop = threading.Event()

    def tick() -> None:
        while not stop.wait(0.0005):
            ticks.append(time.perf_counter())

    ticker = threading.Thread(target=tick)
    ticker.start()
    try:
        for name, call in calls.items():
            for _ in range(50):
                ticks.clear()
                begin = time.perf_counter()
                call(queries)
                end = time.perf_counter()
                margin = (end - begin) / 4  # what happens before and after the kernel holds the GIL
                if sum(begin + margin < at < end - margin for at in list(ticks)) >= 2:
                    break
            else:
                pytest.fail(f"no Python ran during 50 calls of {name}")
    finally:
        stop.set()
        ticker.join()


def test_concurrent_calls() -> None:
    rng = np.random.default_rng(9)
    items, queries = draw("gamma norms", rng, 3000, 32), draw("normal", rng, 48, 32)
    index = fr.Index(items)
    expected = index.topk(queries, 10)
    failures: list[BaseException] = []

    def search(number: int) -> None:
        try:
            for count in (1, 2, 4):
                part = slice(number % 3, None, 1 + number % 2)
                top = index.topk(queries[part], 10, threads=count)
                assert_top(top, (expected.rows[part], expected.scores[part]))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=search, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


# ---- properties ----

values = st.one_of(
    st.integers(-3, 3).map(float),
    st.floats(width=32),
    st.sampled_from([0.0, -0.0, 1e-45, 1e18, 1e-18, 3.4e38, -3.4e38, np.inf, -np.inf, np.nan]),
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_values_equal_the_oracle(data: st.DataObject) -> None:
    n, q, d = data.draw(st.integers(0, 40)), data.draw(st.integers(0, 4)), data.draw(st.integers(0, 5))

    def matrix(rows: int) -> np.ndarray:
        seeds: Any = data.draw(st.lists(values, min_size=1, max_size=12))
        pattern = data.draw(st.integers(1, 13))
        flat = [seeds[(place * pattern) % len(seeds)] for place in range(rows * d)]
        return np.array(flat, np.float64).astype(np.float32).reshape(rows, d)

    items, queries = matrix(n), matrix(q)
    metric, k = data.draw(st.sampled_from(METRICS)), data.draw(st.integers(1, 45))
    terms = data.draw(st.none() | st.lists(values, min_size=n, max_size=n))
    bias = None if terms is None else np.array(terms, np.float64).astype(np.float32)
    mask = np.random.default_rng(data.draw(st.integers(0, 99))).random((q, n)) < data.draw(
        st.sampled_from([0, 0.5])
    )
    expected = oracle(queries, items, k, metric, bias, ~mask)
    for precision in PRECISIONS:
        top = fr.topk(queries, items, k, metric=metric, bias=bias, exclude=csr_of(mask), precision=precision)
        assert_top(top, expected, precision)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_permuted_items_give_permuted_rows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, d, k = int(rng.integers(1, 200)), int(rng.integers(1, 50)), int(rng.integers(1, 20))
    items, queries = draw("gamma norms", rng, n, d), draw("normal", rng, 3, d)
    order = rng.permutation(n)
    whole, shuffled = fr.topk(queries, items, k), fr.topk(queries, items[order], k)
    np.testing.assert_array_equal(whole.scores, shuffled.scores)
    if all(len(np.unique(line)) == n for line in score_matrix(queries, items)):  # no ties
        np.testing.assert_array_equal(whole.rows, np.where(shuffled.rows < 0, -1, order[shuffled.rows]))


# ---- guesses ----


def test_a_wrong_guess_costs_a_second_pass_and_no_item() -> None:
    """Items of one norm, placed so that the first the scan meets are the best: every sample misleads."""
    n, d, k = 4_000, 40, 100
    circle = np.zeros((n, d), np.float32)
    circle[:, 0] = 1.0
    place = np.empty(n, int)
    place[fr.Index(circle, precision="int8")._order[:n]] = np.arange(n)
    angle = np.where(place < 400, 0.1 + 1.4 * place / 400, 1.6 + place / n)
    circle[:, 0], circle[:, 1] = np.cos(angle), np.sin(angle)
    queries = np.zeros((30, d), np.float32)
    queries[:, 0] = np.linspace(1.0, 2.0, 30)
    index = fr.Index(circle, precision="int8")
    assert index.explain(queries, k, threads=1)["second_pass"] == len(queries)
    assert_top(index.topk(queries, k), oracle(queries, circle, k))
    seen = np.arange(n)[None, :].repeat(30, axis=0) % 3 == 0
    assert_top(index.topk(queries, k, exclude=csr_of(seen)), oracle(queries, circle, k, allowed=~seen))
