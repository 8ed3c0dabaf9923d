"""Turned items: nothing about axes, clusters or seeds can be seen in an answer."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from index_files import assert_refused_or_harmless
from ranking import DRAWS, METRICS, assert_top, best, csr_of, draw, oracle, score_matrix
from subprocesses import USABLE_ISAS, output_of

import fastrec as fr
from fastrec.ranking import index as packing
from fastrec.ranking import storage, turn


def embeddings(rng: np.random.Generator, n: int, d: int, rank: int = 0) -> np.ndarray:
    """Clusters in a few dimensions of many, and a little of everything else; lengths differ by a half."""
    rank = rank or max(2, d // 5)
    centres = rng.standard_normal((max(2, n // 100), rank))
    inside = centres[rng.integers(0, len(centres), n)] + 0.7 * rng.standard_normal((n, rank))
    axes = np.linalg.qr(rng.standard_normal((d, rank)))[0].T
    x = inside @ axes + 0.15 * rng.standard_normal((n, d))
    x *= rng.uniform(0.8, 1.2, (n, 1)) / np.linalg.norm(x, axis=1, keepdims=True)
    return x.astype(np.float32)


def around(rng: np.random.Generator, items: np.ndarray, q: int) -> np.ndarray:
    """Queries close to items, and some that are not."""
    d = items.shape[1]
    queries = items[rng.integers(0, len(items), q)] + 0.05 * rng.standard_normal((q, d)).astype(np.float32)
    queries[::5] = rng.standard_normal((len(queries[::5]), d))
    return queries.astype(np.float32)


def any_axes(rng: np.random.Generator, d: int) -> turn.Turn:
    quads = -(-d // 4)
    axes = np.linalg.qr(rng.standard_normal((d, d)))[0].astype(np.float32)
    return turn.Turn.of(axes, (max(1, quads // 3), max(2, 2 * quads // 3)))


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turn all items that are packed, into axes that suit them in nothing."""
    rng = np.random.default_rng(0)
    monkeypatch.setattr(turn, "LEAST_DIM", 12)
    monkeypatch.setattr(turn, "ITEMS_A_DIM", 0)
    monkeypatch.setattr(turn, "find", lambda sample: any_axes(rng, sample.shape[1]))
    monkeypatch.setattr(packing, "_nearly_equal", lambda norms: len(norms) > 0)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("d", [64, 65, 100, 130])
def test_embeddings_are_turned_and_equal_the_oracle(d: int, metric: str) -> None:
    rng = np.random.default_rng([d, METRICS.index(metric)])
    items = embeddings(rng, 100 * d + 17, d)
    queries = around(rng, items, 60)
    index = fr.Index(items, metric)
    told = index.explain(queries, 10)
    assert told["turned"]
    assert told["fallback"] == told["second_pass"] == 0
    scores = score_matrix(queries, items, metric)
    for k in (1, 10, 300):
        expected = best(scores, k)
        for q in (1, 2, 3, 5, 13, 60):
            top = index.topk(queries[:q], k)
            assert_top(top, (expected[0][:q], expected[1][:q]), f"{metric} d={d} q={q} k={k}")


def test_long_embeddings_equal_the_float_screen() -> None:
    rng = np.random.default_rng(1)
    items = embeddings(rng, 39_000, 384)
    queries = around(rng, items, 300)
    index, floats = fr.Index(items), fr.Index(items, precision="float32")
    assert index.explain(queries, 10)["turned"]
    assert not floats.explain(queries[:2], 10)["turned"]
    for k in (1, 10, 100, 1000):
        expected = floats.topk(queries, k)
        assert_top(index.topk(queries, k), (expected.rows, expected.scores), f"k={k}")
    assert_top(index.topk(queries[:3], 39_001), tuple(oracle(queries[:3], items, 39_001)))


@pytest.mark.parametrize("kind", DRAWS)
def test_any_items_in_any_axes(kind: str, always: None) -> None:
    rng = np.random.default_rng(list(DRAWS).index(kind))
    for d, n in ((12, 300), (29, 300), (40, 3300)):  # of 3,300 there are seeds
        items = draw(kind, rng, n, d)
        queries = np.concatenate([draw("normal", rng, 20, d), draw(kind, rng, 5, d), items[:2]])
        queries[3] = 0
        for metric in METRICS:
            index = fr.Index(items, metric, precision="int8")
            assert index._turn is not None or not np.isfinite(items).any()
            scores = score_matrix(queries, items, metric)
            for k in (1, 10, 200):
                assert_top(index.topk(queries, k), best(scores, k), f"{kind} d={d} {metric} k={k}")


@pytest.mark.parametrize("kind", DRAWS)
def test_any_queries_in_any_axes(kind: str, always: None) -> None:
    rng = np.random.default_rng(list(DRAWS).index(kind))
    items, queries = embeddings(rng, 3300, 32), draw(kind, rng, 26, 32)
    for metric in METRICS:
        index = fr.Index(items, metric, precision="int8")
        expected = oracle(queries, items, 7, metric)
        assert_top(index.topk(queries, 7), expected, f"{kind} {metric}")
        assert_top(index.topk(queries[:1], 7), (expected[0][:1], expected[1][:1]), f"{kind} {metric}")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(dtype: str) -> None:
    torch = pytest.importorskip("torch", reason="makes bfloat16 items")
    rng = np.random.default_rng(2)
    items = torch.tensor(embeddings(rng, 7000, 64)).to(getattr(torch, dtype))
    queries = around(rng, items.float().numpy(), 30)
    index = fr.Index(items)
    assert index.explain(queries, 1)["turned"]
    assert_top(index.topk(queries, 10), oracle(queries, items.float().numpy(), 10))


def test_what_matters_may_lie_behind_the_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Winners that a query meets in the last dimensions alone, parallel to it there: the bound of the rest is
    reached.
    """
    rng = np.random.default_rng(3)
    d, n = 64, 6600
    for stage in (0, 1):
        axes = turn.find(embeddings(rng, 4000, d))
        assert axes is not None
        first = 4 * axes.stages[stage]
        turned = embeddings(rng, n, d) @ axes.matrix
        queries = rng.standard_normal((40, d)).astype(np.float32)
        queries[::2, :first] = 0
        length = np.linalg.norm(turned, axis=1)
        for q in range(0, 40, 2):
            row = int(rng.integers(0, n))
            turned[row], turned[row, first:] = (
                0,
                length[row] * queries[q, first:] / np.linalg.norm(queries[q]),
            )
        items, queries = turned @ axes.matrix.T, queries @ axes.matrix.T
        monkeypatch.setattr(turn, "find", lambda sample, axes=axes: axes)
        index = fr.Index(items)
        assert index._turn is axes
        scores = score_matrix(queries, items)
        for k in (1, 10, 200):
            expected = best(scores, k)
            for q in (1, 4, 40):
                assert_top(index.topk(queries[:q], k), (expected[0][:q], expected[1][:q]), f"q={q} k={k}")


def test_axes_that_are_not_at_right_angles_are_allowed_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Axes in which some items are a tenth too short: with `error` the answer is right, with less it is not."""
    rng = np.random.default_rng(4)
    d, n = 64, 6600
    items = embeddings(rng, n, d)
    axes = turn.find(items)
    assert axes is not None
    a, b = np.linalg.qr(rng.standard_normal((d, 2)))[0].T
    for side, length in ((a, 1.30), (b, 1.29)):  # far above the others; a hundred of each
        items[rng.permutation(n)[:100]] = length * side + 1e-3 * rng.standard_normal((100, d))
    short = (np.eye(d) - 0.1 * np.outer(a, a)) @ axes.matrix
    queries = np.tile(a + b, (24, 1)) + 1e-3 * rng.standard_normal((24, d))
    expected = oracle(queries, items, 1)
    known = turn.Turn.of(short.astype(np.float32), axes.stages)
    assert 0.1 < known.error < 0.3
    monkeypatch.setattr(turn, "find", lambda sample: known)
    assert_top(fr.Index(items).topk(queries, 1), expected)
    monkeypatch.setattr(turn, "find", lambda sample: turn.Turn(known.matrix, known.stages, 0.4 * known.error))
    wrong = fr.Index(items).topk(queries, 1)
    assert (wrong.rows != expected[0]).any(), "these items do not need the error of the axes"


@pytest.mark.parametrize("d", [64, 200, 1024])
def test_the_error_of_turning_is_bounded(d: int) -> None:
    rng = np.random.default_rng(d)
    matrix = np.linalg.qr(rng.standard_normal((d, d)))[0].astype(np.float32)
    error = turn.error_of(matrix)
    assert error < d**1.5 * 2.0**-22
    signs = np.sign(
        matrix[:, :8].T
    )  # every product of the same sign: sums round the same way, as far as they can
    for x in (rng.standard_normal((50, d)), np.ones((1, d)), signs, np.abs(rng.standard_normal((20, d)))):
        u = np.ascontiguousarray(x, np.float32)
        there = np.zeros_like(u)
        for t in range(d):  # one addition after the other
            there += u[:, t, None] * matrix[t]
        exact = u.astype(np.float64)
        lengths = np.linalg.norm(exact, axis=1)
        products = there.astype(np.float64) @ there.T.astype(np.float64)
        assert (np.abs(products - exact @ exact.T) <= error * np.outer(lengths, lengths)).all()


def test_thousands_of_near_duplicates_fall_back_to_floats(always: None) -> None:
    rng = np.random.default_rng(5)
    items, queries = draw("near-duplicates", rng, 20_000, 32), draw("normal", rng, 4, 32)
    index = fr.Index(items, precision="int8")
    told = index.explain(queries, 3)
    assert told["turned"]
    assert told["fallback"] == 4
    for threads in (1, 2, 3):
        assert_top(index.topk(queries, 3, threads=threads), oracle(queries, items, 3))


def test_items_that_cannot_be_packed_and_repeated_ones() -> None:
    rng = np.random.default_rng(6)
    items = embeddings(rng, 7000, 64)
    items[100:3000] = items[0:2900]  # ties everywhere
    items[rng.permutation(7000)[:30], rng.integers(0, 64, 30)] = np.inf
    items[rng.permutation(7000)[:30], rng.integers(0, 64, 30)] = np.nan
    queries = around(rng, np.nan_to_num(items, posinf=1.0), 40)
    queries[0, 0], queries[1, 0] = np.inf, np.nan
    index = fr.Index(items)
    assert index.explain(queries, 1)["turned"]
    expected = oracle(queries, items, 50)
    for threads in (1, 2):
        assert_top(index.topk(queries, 50, threads=threads), expected)


@pytest.mark.parametrize("scale", [1e-30, 1e-18, 1.0, 1e18, 1e30])
def test_scales(scale: float) -> None:
    rng = np.random.default_rng(7)
    items = embeddings(rng, 6500, 64)
    queries = around(rng, items, 30)
    for metric in METRICS:
        index = fr.Index(items * np.float32(scale), metric)
        assert index.explain(queries, 1)["turned"]
        for of_queries in {scale, 1.0, 1e-40} if metric != "l2" else {scale}:
            given = (queries * of_queries).astype(np.float32)
            expected = oracle(given, items * np.float32(scale), 9, metric)
            assert_top(index.topk(given, 9), expected, f"{metric} {of_queries}")


# ---- what must not matter ----


def test_exclusions_candidates_and_lowest_scores() -> None:
    """What seeds hold may be barred: all of the best, or everything."""
    rng = np.random.default_rng(8)
    items = embeddings(rng, 6500, 64)
    queries = around(rng, items, 30)
    index = fr.Index(items)
    scores = score_matrix(queries, items)
    rank = np.argsort(np.argsort(-scores, axis=1), axis=1)
    nothing = np.zeros_like(rank, bool)
    nothing[::2] = True
    bars = {
        "the best 1": rank < 1,
        "the best 100": rank < 100,
        "the best 3,000": rank < 3000,
        "all of some": nothing,
    }
    for what, barred in bars.items():
        for k in (1, 10, 100):
            expected = best(scores, k, ~barred)
            for q in (2, 30):
                top = index.topk(queries[:q], k, exclude=csr_of(barred[:q]))
                assert_top(top, (expected[0][:q], expected[1][:q]), f"{what} q={q} k={k}")
    floor = float(np.sort(scores[0])[-5])
    assert_top(index.topk(queries, 10, min_score=floor), oracle(queries, items, 10, min_score=floor))
    some = np.sort(rng.permutation(6500)[:3000])
    allowed = np.isin(np.arange(6500), some)[None].repeat(30, axis=0)
    assert_top(index.topk(queries, 10, candidates=some), best(scores, 10, allowed))


def test_threads_and_batches() -> None:
    rng = np.random.default_rng(9)
    items = embeddings(rng, 13_000, 128)
    queries = around(rng, items, 500)
    index = fr.Index(items)
    assert index.explain(queries, 1)["turned"]
    for k in (10, 150):
        expected = index.topk(queries, k, threads=1)
        for threads in range(2, 9):
            again = index.topk(queries, k, threads=threads)
            assert_top(again, (expected.rows, expected.scores), f"threads={threads}")
            for size in (1, 7, 61):
                part = index.topk(queries[40 : 40 + size], k, threads=threads)
                there = slice(40, 40 + size)
                assert_top(part, (expected.rows[there], expected.scores[there]), f"{threads} {size}")


SAME_BITS = """
    import hashlib
    import numpy as np, fastrec as fr
    from test_turned import around, embeddings
    summary = hashlib.sha256()
    for d in (64, 100):
        rng = np.random.default_rng(d)
        items = embeddings(rng, 101 * d, d)
        queries = around(rng, items, 80)
        for metric in ("dot", "cosine", "l2"):
            index = fr.Index(items, metric)
            assert index.explain(queries, 5)["turned"]
            for q, k in ((1, 10), (5, 40), (80, 10), (80, 200)):
                top = index.topk(queries[:q], k)
                floats = fr.Index(items, metric, precision="float32").topk(queries[:q], k)
                assert (top.rows == floats.rows).all() and (top.scores == floats.scores).all()
                summary.update(top.rows.tobytes() + top.scores.tobytes())
    print(summary.hexdigest())
"""


def test_every_instruction_set_gives_the_same_bits() -> None:
    here = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    code = "\n".join(line.removeprefix("    ") for line in SAME_BITS.splitlines())
    digests = {isa: output_of(here + code, FASTREC_ISA=isa) for isa in USABLE_ISAS}
    assert len(set(digests.values())) == 1, digests


# ---- where it is done, and what it costs ----


def test_items_are_turned_where_it_pays() -> None:
    rng = np.random.default_rng(10)
    items = embeddings(rng, 6500, 64)
    turned = fr.Index(items)
    assert turned._turn is not None
    assert turned.nbytes <= 0.3 * items.nbytes
    spread = items * rng.gamma(2, size=(6500, 1))
    for what, index in {
        "float screen": fr.Index(items, precision="float32"),
        "bias": fr.Index(items, bias=np.ones(6500)),
        "few items": fr.Index(items[:6000]),
        "few dimensions": fr.Index(embeddings(rng, 6500, 60)),
        "norms that differ": fr.Index(spread),
        "directions at random": fr.Index(draw("unit", rng, 6500, 64)),
        "few queries": fr.Index._for_queries(100, items, "dot", None, None, "auto", None),
    }.items():
        assert index._turn is None, what
        assert not index.explain(items[:1, : index.shape[1]], 1)["turned"], what
    many = fr.Index._for_queries(64 * 64, items, "dot", None, None, "auto", None)
    assert many._turn is not None
    again = turned._upright()
    straight = fr.Index._for_queries(0, items, "dot", None, None, "auto", None)
    for name in ("_order", "_codes", "_meta"):
        np.testing.assert_array_equal(getattr(again, name), getattr(straight, name))
    assert again._rest is again._means is None
    assert turned._turn is not None
    queries = around(rng, items, 20)
    assert_top(again.topk(queries, 9), oracle(queries, items, 9))


def test_copies_pickles_and_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    items = embeddings(rng, 6500, 64)
    queries = around(rng, items, 50)
    index = fr.Index(items, ids=[f"{i}" for i in range(6500)])
    expected = index.topk(queries, 12)
    index.save(tmp_path / "index")
    others = {
        "copy": copy.deepcopy(index),
        "pickle": pickle.loads(pickle.dumps(index)),
        "mapped": fr.Index.load(tmp_path / "index"),
        "read": fr.Index.load(tmp_path / "index", mmap=False),
    }
    fr.Index.load(tmp_path / "index").save(tmp_path / "index")
    others["written again"] = fr.Index.load(tmp_path / "index")
    for what, other in others.items():
        assert other.explain(queries, 1)["turned"], what
        assert other.nbytes == index.nbytes
        for q in (1, 50):
            top = other.topk(queries[:q], 12)
            assert_top(top, (expected.rows[:q], expected.scores[:q]), what)
        assert top.ids.tolist() == expected.ids.tolist()


def _element(name: str, value: float) -> Any:
    def change(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        arrays[name].flat[5] = value

    return change


def _without(name: str) -> Any:
    def change(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        del arrays[name], header["arrays"][name]

    return change


FORGERIES = {
    "axes that are none": (_element("turn", 3.0), "its axes are not at right angles"),
    "a NaN among the axes": (_element("turn", np.nan), "its axes are not at right angles"),
    "no axes": (_without("turn"), "array 'turn' is missing"),
    "no means": (_without("means"), "array 'means' is missing"),
    "no record of stages": (_without("rest"), "have stages"),
    "a NaN among the means": (_element("means", np.nan), None),
    "means beyond all": (_element("means", np.inf), None),
    "a stage beyond the end": (lambda header, arrays: header.update(stages=[4, 99]), "have stages"),
    "a stage before the start": (lambda header, arrays: header.update(stages=[0, 5]), "have stages"),
    "stages in no order": (lambda header, arrays: header.update(stages=[9, 5]), "have stages"),
    "stages of another kind": (lambda header, arrays: header.update(stages=[1.5, 5]), "have stages"),
    "one stage": (lambda header, arrays: header.update(stages=[5]), "index"),
    "no stages": (lambda header, arrays: header.update(stages=None), "array 'rest' must be"),
    "another stage": (lambda header, arrays: header.update(stages=[1, 5]), "array 'means' must be"),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("turned") / "index"
    fr.Index(embeddings(np.random.default_rng(12), 6500, 64)).save(path)
    return path.read_bytes()


@pytest.mark.parametrize("case", FORGERIES)
def test_forged_files_are_refused_and_never_crash(tmp_path: Path, good: bytes, case: str) -> None:
    assert_refused_or_harmless(tmp_path / "index", good, *FORGERIES[case])


def test_the_version_of_files_with_turned_items(good: bytes) -> None:
    assert int.from_bytes(good[8:12], "little") == storage.VERSION == 4
