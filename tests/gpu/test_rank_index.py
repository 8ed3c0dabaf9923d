"""``Index`` on a card, played on the host: every bit equals the oracle, whatever the data and the way there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cuda_host
import fake_cupy
import numpy as np
import pytest
from ranking import DRAWS, METRICS, best, csr_of, draw, oracle, score_matrix
from scipy import sparse

import fastrec as fr
from fastrec._core import cuda
from fastrec.ranking import device, device_index

pytestmark = cuda_host.NEEDED


@pytest.fixture
def cupy(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> fake_cupy.Fake:
    monkeypatch.setattr(device_index, "SMALL", 0)  # so that small indexes are screened, in several stretches
    monkeypatch.setattr(device_index, "_FIRST", 64)
    monkeypatch.setattr(device_index, "_FIRST_OF_FEW", 64)
    return fake_cupy.install(monkeypatch, tmp_path)


WIDE = ("mixed scales", "tiny")  # kinds of which int8 says nothing


def assert_top(top: fr.TopK, expected: tuple[np.ndarray, np.ndarray], what: str = "") -> None:
    rows, scores = top.rows.get(), top.scores.get()
    assert (rows.dtype, scores.dtype) == (np.int64, np.float32), what
    np.testing.assert_array_equal(rows, expected[0], err_msg=what)
    np.testing.assert_array_equal(scores.view(np.uint32), expected[1].view(np.uint32), err_msg=what)


@pytest.mark.parametrize("kind", DRAWS)
def test_every_kind_of_items_equals_the_oracle(
    cupy: fake_cupy.Fake, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    number = list(DRAWS).index(kind)
    rng, metric = np.random.default_rng(number), METRICS[number % 3]
    items = draw(kind, rng, 200, 20)
    queries = np.concatenate(
        [draw("normal", rng, 3, 20), draw(kind, rng, 2, 20), np.zeros((1, 20), np.float32)]
    )
    bias = None if number % 2 else rng.standard_normal(200).astype(np.float32)
    expected = best(score_matrix(queries, items, metric, bias), 20)
    for precision in ("int8", "float32", "bfloat16"):
        monkeypatch.setattr(device_index, "FEW", 32 if precision == "int8" else 0)
        if precision == "bfloat16":
            monkeypatch.setattr(device_index, "LOOSE", -1.0)
        index = fr.Index(
            cupy.asarray(items), metric, None if bias is None else cupy.asarray(bias),
            precision="float32" if precision == "float32" else "int8",
        )  # fmt: skip
        assert index._card.half == (precision == "bfloat16" and len(index._card.meta) > 1) or kind in WIDE
        with cupy.nothing_waits():
            top = index.topk(cupy.asarray(queries), 20)
        assert_top(top, expected, f"{kind} {metric} {precision}")
    assert {"fr_sift", "fr_tighten", "fr_conclude"} <= set(cupy.launches())
    assert "fr_screen" in cupy.launches()


@pytest.mark.parametrize("metric", METRICS)
def test_exclusions_and_a_lowest_score(
    cupy: fake_cupy.Fake, monkeypatch: pytest.MonkeyPatch, metric: str
) -> None:
    rng = np.random.default_rng(1)
    items, queries = draw("gamma norms", rng, 300, 33), draw("normal", rng, 9, 33)
    allowed = rng.random((9, 300)) < 0.5
    allowed[4] = False
    floor = float(np.median(score_matrix(queries, items, metric)))
    expected = oracle(queries, items, 12, metric, allowed=allowed, min_score=floor)
    seen = sparse.csr_array(~allowed)
    for dtype, few in ((np.int32, 32), (np.int64, 0)):
        monkeypatch.setattr(device_index, "FEW", few)
        indptr, indices = csr_of(~allowed, dtype)
        there = cupy.asarray(indptr.astype(np.int64)), cupy.asarray(indices)
        for exclude in (seen, there):
            index = fr.Index(cupy.asarray(items), metric, precision="int8")
            top = index.topk(cupy.asarray(queries), 12, exclude=exclude, min_score=floor)
            assert_top(top, expected)
    before = len(cupy.log)
    index.topk(cupy.asarray(queries), 12, exclude=there, min_score=floor)
    kinds = [what[0] for what in cupy.log[before:] if what[0] in ("launch", "sync")]
    assert kinds.count("sync") == 1
    assert kinds[-1] == "sync", "lists are checked while the card searches"
    shuffled = indptr.astype(np.int64), np.concatenate([row[::-1] for row in np.split(indices, indptr[1:-1])])
    top = index.topk(cupy.asarray(queries), 12, exclude=[cupy.asarray(a) for a in shuffled], min_score=floor)
    assert_top(top, expected, "lists that are not sorted")


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_an_index_from_the_host(
    cupy: fake_cupy.Fake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, dtype: Any, streamed: bool
) -> None:
    """Packed on the CPU, saved, loaded to a card; with too little memory there, streamed."""
    rng = np.random.default_rng(2)
    items, queries = draw("gamma norms", rng, 500, 40).astype(dtype), draw("normal", rng, 4, 40)
    items[7, 0], items[8, 0] = np.inf, np.nan
    bias, labels = rng.standard_normal(500).astype(np.float32), np.arange(500) * 2
    mask = rng.random((4, 500)) < 0.3
    monkeypatch.setattr(device_index, "_STAGE", 40 * 4 * 96)  # three panels at a time
    for number, metric in enumerate(METRICS):
        expected = oracle(queries, items, 9, metric, bias, ~mask)
        for precision in (
            ("int8", "float32")[number % 2 :][:1] if dtype == np.float16 else ("int8", "float32")
        ):
            host = fr.Index(items, metric, bias, labels, precision=precision)
            host.save(tmp_path / "index")
            if streamed:
                monkeypatch.setattr(cupy.cuda.runtime, "memGetInfo", lambda: (0, 0))
            index = fr.Index.load(tmp_path / "index", device="cuda")
            assert (index._card.host is not None) == streamed
            assert index.shape == (500, 40)
            top = index.topk(cupy.asarray(queries), 9, exclude=csr_of_there(cupy, mask))
            assert_top(top, expected, f"{metric} {precision}")
            np.testing.assert_array_equal(top.ids, np.where(expected[0] < 0, -1, 2 * expected[0]))
            some = np.sort(rng.choice(500, 60, replace=False))
            allowed = np.zeros((4, 500), bool)
            allowed[:, some] = True
            among = oracle(queries, items, 9, metric, bias, allowed & ~mask)
            top = index.topk(
                cupy.asarray(queries), 9, exclude=csr_of_there(cupy, mask), candidates=cupy.asarray(some)
            )
            assert_top(top, among, f"candidates {metric}")
            back = index.to("cpu").topk(queries, 9, exclude=csr_of(mask))
            np.testing.assert_array_equal(back.rows, expected[0])
            assert index.to("cuda:0") is index


def test_streaming_overlaps_copies_with_work(cupy: fake_cupy.Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies run on a stream of their own, as late as events let them, and write over nothing that is still read."""
    rng = np.random.default_rng(12)
    items, queries = draw("normal", rng, 900, 40), draw("normal", rng, 4, 40)
    host = fr.Index(items, precision="int8")
    monkeypatch.setattr(device_index, "_STAGE", 40 * 4 * 96)
    monkeypatch.setattr(cupy.cuda.runtime, "memGetInfo", lambda: (0, 0))
    index, there = host.to("cuda"), cupy.asarray(queries)
    begin = len(cupy.log)
    top = index.topk(there, 9)
    log = cupy.log[begin:]
    assert_top(top, oracle(queries, items, 9))
    stretches = cupy.launches().count("fr_screen")
    assert stretches > 6
    # The host waits for nothing but copies out of pinned memory: before it writes there again, and at the end.
    assert [entry[1] for entry in log if entry[0] == "sync"] == ["copies"] * stretches
    places: dict[int, Any] = {}  # of the card -> the event after what reads them
    waited: list[Any] = []
    reads: list[int] = []
    for entry in log:
        if entry[0] == "copy":
            if entry[2] in places:
                assert places.pop(entry[2]) in waited, "a copy over a stretch that kernels may still read"
            reads.append(entry[2])
        elif entry[0] == "wait" and entry[1] != "default":
            waited.append(entry[2])
        elif entry[0] == "record" and entry[1] == "default" and reads:
            places.update(dict.fromkeys(reads, entry[2]))
            reads.clear()
    assert len({entry[2] for entry in log if entry[0] == "copy"}) == 4  # two places for items, two for codes
    assert sum(entry[0] == "copy" for entry in log) == 2 * stretches


def csr_of_there(cupy: fake_cupy.Fake, mask: np.ndarray) -> Any:
    indptr, indices = csr_of(mask)
    return cupy.asarray(indptr.astype(np.int64)), cupy.asarray(indices)


def test_cases_of_the_registry(cupy: fake_cupy.Fake) -> None:
    operation = fr.topk
    for number, case in enumerate(operation.examples(np.random.default_rng(3))):
        if len(case["queries"]) > 12 and number % 4:  # playing a card takes long
            continue
        there = {
            key: cupy.asarray(value) if isinstance(value, np.ndarray) else value
            for key, value in case.items()
        }
        expected = operation(**case)
        assert_top(operation(**there), (expected.rows, expected.scores), f"case {number}")


@pytest.mark.parametrize("loose", [0.5, -1.0])
@pytest.mark.parametrize("q", [3, 33])
def test_a_warp_passes_over_panels_that_nobody_needs(
    cupy: fake_cupy.Fake, monkeypatch: pytest.MonkeyPatch, q: int, loose: float
) -> None:
    """Codes are asked for ahead, across panels: those of a panel that is left out must not be taken for another's."""
    monkeypatch.setattr(device_index, "LOOSE", loose)
    monkeypatch.setattr(device_index, "_BLOCKS", 1)  # so that a warp has several panels
    rng = np.random.default_rng(q)
    for d in (8, 70):
        direction = rng.choice([-1.0, 1.0], d)
        sizes = rng.uniform(0.99, 1.01, 1600)
        sizes[rng.choice(1600, 12, replace=False)] *= 1.9  # panels without one of these are left out
        items = (sizes[:, None] * (direction + 0.01 * rng.standard_normal((1600, d)))).astype(np.float32)
        queries = (direction * rng.uniform(0.5, 2, (q, 1))).astype(np.float32)
        index = fr.Index(cupy.asarray(items), precision="int8")
        assert index._card.meta.get()[-1, 2] > 0, "in a random order"
        assert_top(index.topk(cupy.asarray(queries), 9), best(score_matrix(queries, items), 9), f"{d}")


@pytest.mark.parametrize("loose", [0.5, -1.0])
@pytest.mark.parametrize("q", [1, 8, 9, 17, 33, 65])
def test_every_width_of_the_tile(
    cupy: fake_cupy.Fake, monkeypatch: pytest.MonkeyPatch, q: int, loose: float
) -> None:
    monkeypatch.setattr(device_index, "LOOSE", loose)
    rng = np.random.default_rng(q)
    items, queries = draw("gamma norms", rng, 130, 70), draw("normal", rng, q, 70)
    index = fr.Index(cupy.asarray(items), precision="int8")
    assert_top(index.topk(cupy.asarray(queries), 3), oracle(queries, items, 3))


def test_codes_that_fill_the_shared_memory_one_has_unasked(
    cupy: fake_cupy.Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """48 KB of codes, d = 768 and 64 queries, leave none for the kernel's own arrays: more must be asked for."""
    monkeypatch.setattr(device_index, "LOOSE", 1.0)
    rng = np.random.default_rng(10)
    items, queries = draw("normal", rng, 70, 768), draw("normal", rng, 40, 768)
    index = fr.Index(cupy.asarray(items), precision="int8")
    assert index._card.steps * 8 * 256 == 48 << 10
    assert_top(index.topk(cupy.asarray(queries), 3), oracle(queries, items, 3))


def test_lists_in_a_graph_are_judged_by_the_card(cupy: fake_cupy.Fake) -> None:
    rng = np.random.default_rng(11)
    items, queries = draw("normal", rng, 300, 8), draw("normal", rng, 3, 8)
    index, there, mask = fr.Index(cupy.asarray(items)), cupy.asarray(queries), rng.random((3, 300)) < 0.5
    right = csr_of(mask)
    pointers = right[0].astype(np.int64)
    cupy.capturing = True
    with cupy.nothing_waits():
        top = index.topk(there, 5, exclude=[cupy.asarray(a) for a in (pointers, right[1])])
    assert_top(top, oracle(queries, items, 5, allowed=~mask))
    falling, long, outside, below = pointers.copy(), pointers.copy(), right[1].copy(), right[1].copy()
    falling[1], long[-1], outside[-1], below[0] = pointers[-1] + 9, pointers[-1] + 1, 300, -1
    for wrong in (
        (falling, right[1]), (long, right[1]), (pointers, outside), (pointers, below),
        (pointers, right[1][::-1].copy()),
    ):  # fmt: skip
        top = index.topk(there, 5, exclude=[cupy.asarray(a) for a in wrong])
        assert (top.rows.get() == -1).all()
        assert np.isnan(top.scores.get()).all()
    with pytest.raises(RuntimeError, match="`candidates` cannot be judged while a CUDA graph is captured"):
        index.topk(there, 5, candidates=(cupy.asarray(pointers), cupy.asarray(right[1])))


@pytest.mark.parametrize("plan", ["few", "seeded", "rounds"])
def test_more_survivors_than_there_is_room(
    cupy: fake_cupy.Fake, monkeypatch: pytest.MonkeyPatch, plan: str
) -> None:
    """Near-duplicates that codes cannot tell apart, and rising scores that all survive: buffers overflow."""
    monkeypatch.setattr(device_index, "_FIRST", 32)
    monkeypatch.setattr(device_index, "_FIRST_OF_FEW", 32)
    monkeypatch.setattr(device_index, "_SEEDS", 1)
    monkeypatch.setattr(device_index, "FEW", 32 if plan == "few" else 0)
    monkeypatch.setattr(device_index, "SEEDED", 32 if plan == "seeded" else 0)
    rng = np.random.default_rng(5)
    items, queries = draw("near-duplicates", rng, 1500, 16), draw("normal", rng, 3, 16)
    allowed = rng.random((3, 1500)) < 0.9
    expected = oracle(queries, items, 5, allowed=allowed)
    for precision in ("int8", "float32"):
        index = fr.Index(cupy.asarray(items), precision=precision)
        assert bool(index._card._plan(5, 3)[0]) == (precision == "int8" and plan == "seeded")
        assert_top(index.topk(cupy.asarray(queries), 5, exclude=csr_of_there(cupy, ~allowed)), expected)


@pytest.mark.parametrize("d", [1, 16, 96])
def test_residuals_along_the_query(cupy: fake_cupy.Fake, d: int) -> None:
    """The bound is Cauchy-Schwarz on the residuals: make them parallel to the query, where it is an equality."""
    rng = np.random.default_rng(d)
    direction = rng.choice([-1.0, 1.0], d)
    halves = [rng.integers(-100, 100, (150, d)) + 0.499 * sign * direction for sign in (1, -1)]
    items = rng.permutation(np.concatenate(halves)).astype(np.float32)
    items[:, 0] = 127
    queries = (direction * np.array([[1.0], [1e-3], [7.7]])).astype(np.float32)
    for metric in METRICS:
        index = fr.Index(cupy.asarray(items), metric, precision="int8")
        expected = best(score_matrix(queries, items, metric), 40)
        for order in ("forward", "reverse"):
            with cuda_host.thread_order(order):
                assert_top(index.topk(cupy.asarray(queries), 40), expected, f"{metric} {order}")


def test_queries_in_groups_and_memory_that_runs_out(
    cupy: fake_cupy.Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(6)
    items, queries = draw("normal", rng, 300, 24), draw("normal", rng, 11, 24)
    mask = rng.random((11, 300)) < 0.2
    index = fr.Index(cupy.asarray(items), precision="int8")
    there, exclude = cupy.asarray(queries), csr_of_there(cupy, mask)
    expected = oracle(queries, items, 4, allowed=~mask)
    for most in (1, 4, 11):
        monkeypatch.setattr(device_index, "_QUERIES", most)
        assert_top(index.topk(there, 4, exclude=exclude), expected, f"{most} at a time")
    cupy.limit = 5 * 8 * 256  # bytes: entries for five queries
    assert_top(index.topk(there, 4, exclude=exclude), expected, "little memory")
    assert ("free",) in cupy.log
    cupy.limit = 10_000  # the answer of one query fits, its entries do not
    with pytest.raises(
        MemoryError, match=r"GPU 0 has no room for a search of 300 items of 24 dimensions with k=300"
    ):
        index.topk(there[:1], 300)


def test_few_queries_take_few_rounds(cupy: fake_cupy.Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """A round is a screen and a block a query: for few queries stretches grow faster, and buffers with them."""
    monkeypatch.setattr(device_index, "FEW", 2)
    monkeypatch.setattr(device_index, "SEEDED", 3)
    rng = np.random.default_rng(9)
    items, queries = draw("normal", rng, 3000, 16), draw("normal", rng, 4, 16)
    index, rounds = fr.Index(cupy.asarray(items), precision="int8"), []
    for seeds in (256, 1):
        monkeypatch.setattr(device_index, "_SEEDS", seeds)
        for count in (1, 2, 3, 4):
            before = cupy.launches().count("fr_tighten")
            top = index.topk(cupy.asarray(queries[:count]), 5)
            assert_top(top, oracle(queries[:count], items, 5))
            rounds.append(cupy.launches().count("fr_tighten") - before)
    assert rounds == [3, 3, 4, 4, 2, 2, 2, 4]
    card = index._card
    monkeypatch.undo()
    for panels in (1, 100, 31_250, 312_500, 3_000_000):
        card.order = range(32 * panels)  # only its length is asked for
        for k in (1, 100, 1000, 20_000):
            for count in (1, 32, 33, 1024):
                n, (seeds, first, growth, cap) = 32 * panels, card._plan(k, count)
                assert (seeds > 0) == (first == n)
                if seeds:
                    assert count * card._bytes(k, cap) <= 512 << 20
                    assert max(8192, 128 * k) <= seeds <= n / 4 + 32
                    assert cap >= seeds // 32, "no seed is lost"
                    assert cap >= 16 * k * n / (seeds + 32)
                else:
                    assert first >= 2 * k
                    assert 1 <= growth <= 36
                    assert growth == 1 or cap >= 8 * k * growth, (
                        "half of it holds four times the survivors expected"
                    )
        assert card._plan(100, 1025) == (0, 1024, 3, 8192)
        assert card._plan(200, 1025) == (0, 1024, 1, 8192)
    assert card._plan(100, 32) == (783_840, 96_000_000, 1, 195_960)
    card.order = range(1_000_000)
    assert card._plan(100, 1) == (80_000, 1_000_000, 1, 131_072)
    assert card._plan(100, 33) == card._plan(100, 1024) == (80_000, 1_000_000, 1, 20_000)
    assert card._plan(1000, 256) == (250_016, 1_000_000, 1, 64_000)
    assert card._plan(1000, 1024) == (0, 2016, 1, 16_128), "buffers would take more memory than there is"
    assert card._plan(8000, 256)[0] == 0, "a quarter of the items has too few panels for so many"
    assert card._group(100) > 1024, "a pass of more than have seeds is as large as without them"
    card.order = range(3_000_000)
    assert len(list(card._stretches(None, *card._plan(10_000, 1)[1:3]))) == 5


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("count", [1, 9, 25])
def test_seeds_of_panels(
    cupy: fake_cupy.Fake, monkeypatch: pytest.MonkeyPatch, metric: str, count: int
) -> None:
    """A threshold from the best of each panel: of ties, of excluded items, of panels that are one item repeated."""
    monkeypatch.setattr(device_index, "_SEEDS", 1)
    rng = np.random.default_rng(count)
    for kind in ("normal", "gamma norms", "small integers", "near-duplicates", "all equal"):
        items, queries = draw(kind, rng, 700, 20), draw("normal", rng, count, 20)
        queries[count // 2] = 0
        bias = None if kind == "normal" else rng.integers(0, 3, 700).astype(np.float32)
        allowed = rng.random((count, 700)) < 0.6
        expected = oracle(queries, items, 4, metric, bias, allowed=allowed)
        for loose in (0.17, -1.0):
            monkeypatch.setattr(device_index, "LOOSE", loose)
            index = fr.Index(
                cupy.asarray(items), metric, None if bias is None else cupy.asarray(bias), precision="int8"
            )
            assert index._card._plan(4, count)[0]
            top = index.topk(cupy.asarray(queries), 4, exclude=csr_of_there(cupy, ~allowed))
            assert_top(top, expected, f"{kind} {loose}")


@pytest.mark.parametrize("count", [33, 65])
def test_seeds_of_more_than_few_queries(
    cupy: fake_cupy.Fake, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """Blocks that look for seeds are half as wide as those that then screen."""
    monkeypatch.setattr(device_index, "_SEEDS", 1)
    monkeypatch.setattr(device_index, "ALONE", 64)
    screens, screen = [], device_index.DeviceIndex._screen

    def recorded(self: Any, begin: int, end: int, *args: Any) -> None:
        screens.append((begin, end, args[2], args[6]))
        screen(self, begin, end, *args)

    monkeypatch.setattr(device_index.DeviceIndex, "_screen", recorded)
    rng = np.random.default_rng(count)
    for number, kind in enumerate(("normal", "gamma norms", "small integers", "all equal")):
        metric, k = METRICS[number % 3], (4, 11)[number % 2]
        items, queries = draw(kind, rng, 700, 20), draw("normal", rng, count, 20)
        queries[1], queries[2, 3], queries[40 % count, 3] = 0, np.inf, np.nan
        bias = None if kind == "normal" else rng.integers(0, 3, 700).astype(np.float32)
        allowed = rng.random((count, 700)) < 0.6
        for loose in (0.17, -1.0):
            monkeypatch.setattr(device_index, "LOOSE", loose)
            index = fr.Index(
                cupy.asarray(items), metric, None if bias is None else cupy.asarray(bias), precision="int8"
            )
            assert index._card._plan(k, count)[:2] == (192, 704)
            screens.clear()
            with cupy.nothing_waits():
                top = index.topk(cupy.asarray(queries), k)
            assert screens == [
                (0, 6, 4, True),
                (0, 22, 8, False),
            ]  # panels, tiles of queries, whether for seeds
            assert_top(top, best(score_matrix(queries, items, metric, bias), k), f"{kind} {loose}")
        top = index.topk(cupy.asarray(queries), k, exclude=csr_of_there(cupy, ~allowed))
        assert_top(top, oracle(queries, items, k, metric, bias, allowed=allowed), kind)


def test_answers_on_either_side_of_every_border(
    cupy: fake_cupy.Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few queries, queries scored at once, with blocks of their own, seeded ones, and more: the answer is the same."""
    for name, value in (
        ("FEW", 2),
        ("AT_ONCE", 3),
        ("ALONE", 4),
        ("SEEDED", 6),
        ("_SEEDS", 1),
        ("_BALANCE", 1.0),
    ):
        monkeypatch.setattr(device_index, name, value)
    rng = np.random.default_rng(14)
    items, queries = draw("gamma norms", rng, 900, 24), draw("normal", rng, 8, 24)
    index, mask = fr.Index(cupy.asarray(items), precision="int8"), rng.random((8, 900)) < 0.4
    assert [index._card._plan(7, count)[0] for count in (2, 3, 6, 7)] == [96, 96, 96, 0]
    for count in range(1, 9):
        some, there = mask[:count], cupy.asarray(queries[:count])
        expected = oracle(queries[:count], items, 7, allowed=~some, min_score=0.5)
        assert_top(
            index.topk(there, 7, exclude=csr_of_there(cupy, some), min_score=0.5), expected, f"{count}"
        )
        assert_top(index.topk(there, 7), oracle(queries[:count], items, 7), f"{count}")


def test_few_products_are_not_screened(cupy: fake_cupy.Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_index, "SMALL", 300)
    monkeypatch.setattr(device_index, "_CANONICAL", 300 * 8 * 4)
    rng = np.random.default_rng(12)
    queries, ways = draw("normal", rng, 5, 8), []
    for n, q in ((300, 4), (300, 5), (301, 3)):
        items, before = draw("normal", rng, n, 8), len(cupy.launches())
        index = fr.Index(cupy.asarray(items), precision="int8")
        assert_top(index.topk(cupy.asarray(queries[:q]), 7), oracle(queries[:q], items, 7))
        ways.append("fr_screen" in cupy.launches()[before:])
    assert ways == [False, True, True]


def test_blocks_of_the_screen_fill_a_card(cupy: fake_cupy.Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Warps of a block, by what its queries' codes leave of the shared memory; and no more than a card has."""
    card = fr.Index(cupy.asarray(np.ones((100, 4), np.float32)), precision="int8")._card
    for half, d, shared, expected in (
        (False, 64, 227, (8, 4)), (False, 384, 227, (8, 4)), (False, 768, 227, (8, 8)), (True, 768, 227, (8, 16)),
        (True, 1024, 227, (4, 8)), (False, 64, 99, (8, 16)), (True, 768, 99, (4, 8)), (True, 768, 163, (8, 8)),
    ):  # fmt: skip
        monkeypatch.setattr(cuda, "shared_memory", lambda _: (shared << 10, (shared + 1) << 10))  # noqa: B023
        card.shape, card.half = (100, d), half
        tiles = card._tiles(4096)
        assert (tiles, card._warps(tiles)) == expected, (half, d, shared)
    for shared, fits in ((227, (12_288, 6_144)), (99, (9_856, 4_928))):
        monkeypatch.setattr(cuda, "shared_memory", lambda _: (shared << 10, (shared + 1) << 10))  # noqa: B023
        assert [card._fits(d, half) for d, half in zip(fits, (False, True))] == [True, True]
        assert [card._fits(d + 1, half) for d, half in zip(fits, (False, True))] == [False, False]


def home_of(cupy: fake_cupy.Fake, number: int, array: np.ndarray) -> Any:
    with cupy.cuda.Device(number):
        return cupy.asarray(array)


def test_loose_codes_are_left_for_bfloat16_and_for_floats(
    cupy: fake_cupy.Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(8)
    items, queries = draw("normal", rng, 200, 160), draw("normal", rng, 3, 160)
    items[:, 0] = 100  # one value stretches the steps until they say nothing of the others
    items[:, 1:] = np.sign(items[:, 1:]) * 0.37
    for most in (6144, 32):  # dimensions for bfloat16
        monkeypatch.setattr(device_index, "MAX_DIM_HALF", most)
        for metric in METRICS:
            for index in (
                fr.Index(cupy.asarray(items), metric, precision="int8"),
                fr.Index(items, metric, precision="int8").to("cuda"),
            ):
                assert index._card.half == (index._card.codes is not None) == (most > 160)
                assert_top(index.topk(cupy.asarray(queries), 5), oracle(queries, items, 5, metric))


@pytest.mark.parametrize("d", [1, 16, 96])
def test_roundings_of_bfloat16_along_the_query(
    cupy: fake_cupy.Fake, monkeypatch: pytest.MonkeyPatch, d: int
) -> None:
    """Residuals parallel to the query, where Cauchy-Schwarz is an equality: half a unit of bfloat16 either way."""
    monkeypatch.setattr(device_index, "LOOSE", -1.0)
    rng = np.random.default_rng(d)
    direction = rng.choice([-1.0, 1.0], d)
    whole = rng.integers(128, 256, (300, d)) * rng.choice([-1.0, 1.0], (300, d))
    items = (whole + 0.499 * rng.choice([-1.0, 1.0], (300, 1)) * direction).astype(np.float32)
    queries = (direction * np.array([[1.0], [1e-3], [1.00390625]])).astype(np.float32)
    for metric in METRICS:
        index = fr.Index(cupy.asarray(items), metric, precision="int8")
        expected = best(score_matrix(queries, items, metric), 40)
        for order in ("forward", "reverse"):
            with cuda_host.thread_order(order):
                assert_top(index.topk(cupy.asarray(queries), 40), expected, f"{metric} {order}")


def test_several_cards(cupy: fake_cupy.Fake) -> None:
    """Items shared out, each part searched where it is, the parts merged."""
    cupy.devices = 2
    rng = np.random.default_rng(7)
    items, queries = draw("small integers", rng, 300, 12), draw("normal", rng, 5, 12)
    parts = [fr.Index(items[:140]).to(0), fr.Index(items[140:]).to("cuda:1")]
    tops = []
    for number, part in enumerate(parts):
        with cupy.cuda.Device(number):
            there = cupy.asarray(queries)
        tops.append(part.topk(there, 6))
        assert tops[-1].rows.device.id == number
    with pytest.raises(TypeError, match=r"`tops\[0\]` on cuda:0, `tops\[1\]` on cuda:1"):
        fr.merge_topk(tops, offsets=[0, 140])
    with pytest.raises(TypeError, match=r"`queries` must be on cuda:1 like the index; got cuda:0"):
        parts[1].topk(cupy.asarray(queries), 6)
    whole = fr.Index(items, ids=np.arange(300) + 7)
    shards = whole.to([0, 1, 0])
    assert [part._device for part in shards.parts] == ["cuda:0", "cuda:1", "cuda:0"]
    assert shards.shape == (300, 12)
    mask = rng.random((5, 300)) < 0.4
    for there in (home_of(cupy, 0, queries), home_of(cupy, 1, queries)):
        top = shards.topk(there, 6, exclude=csr_of(mask), min_score=-3.0)
        assert_top(top, oracle(queries, items, 6, allowed=~mask, min_score=-3.0))
        assert top.rows.device.id == there.device.id
        before = len(cupy.log)
        top = shards.topk(there, 6, candidates=csr_of(mask))
        assert_top(top, oracle(queries, items, 6, allowed=mask))
        assert [what[0] for what in cupy.log[before:]].count("wait") == 9, (
            "three a part: queries, its best, the copy"
        )
    np.testing.assert_array_equal(top.ids, np.where(top.rows.get() < 0, -1, top.rows.get() + 7))
    with pytest.raises(TypeError, match="`queries` must be on a card like the index; got cpu"):
        shards.topk(queries)
    with pytest.raises(ValueError, match="`device` must name at least one card"):
        whole.to([])
    home = [fr.TopK(cupy.asarray(top.rows.get()), cupy.asarray(top.scores.get())) for top in tops]
    assert_top(fr.merge_topk(home, offsets=[0, 140]), oracle(queries, items, 6))


def test_errors(cupy: fake_cupy.Fake) -> None:
    items, queries = np.ones((50, 8), np.float32), np.ones((3, 8), np.float32)
    index = fr.Index(cupy.asarray(items))
    there = cupy.asarray(queries)
    with pytest.raises(TypeError, match=r"`queries` must be on cuda:0 like the index; got cpu"):
        index.topk(queries, 2)
    with pytest.raises(TypeError, match=r"`queries` on cuda:0, `items` on cpu"):
        fr.topk(there, items, 2)
    with pytest.raises(TypeError, match=r"`items` on cuda:0, `bias` on cpu"):
        fr.Index(cupy.asarray(items), bias=np.ones(50))
    with pytest.raises(TypeError, match=r"`exclude\[0\]` must be on cuda:0 like the queries; got cpu"):
        index.topk(there, 2, exclude=csr_of(np.zeros((3, 50), bool)))
    with pytest.raises(TypeError, match=r"`candidates` must be on cuda:0 like the queries; got cpu"):
        index.topk(there, 2, candidates=np.arange(3))
    with pytest.raises(ValueError, match=r"`exclude` must hold item rows in 0..49; got 50"):
        index.topk(there, 2, exclude=[cupy.asarray(np.array(a)) for a in ([0, 1, 1, 1], [50])])
    low, high = np.iinfo(np.int64).min, np.iinfo(np.int64).max
    for wrong, said in ((-3, "-3"), (low, str(low + 1)), (high, str(high - 1))):
        with pytest.raises(ValueError, match=rf"`exclude` must hold item rows in 0..49; got {said}$"):
            index.topk(there, 2, exclude=[cupy.asarray(np.array(a)) for a in ([0, 1, 1, 2], [7, wrong])])
    for pointers in ([0, 2, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 2], [-1, 0, 0, 1]):
        with pytest.raises(ValueError, match=r"`exclude` has malformed row pointers"):
            index.topk(there, 2, exclude=[cupy.asarray(np.array(a)) for a in (pointers, [5])])
    with pytest.raises(ValueError, match=r"`candidates` must have shape \(3, 50\)|row pointers"):
        index.topk(there, 2, candidates=sparse.csr_array((4, 50)))
    with pytest.raises(TypeError, match=r"`out\[0\]` must be on cuda:0"):
        index.topk(there, 2, out=(np.empty((3, 2), np.int64), np.empty((3, 2), np.float32)))
    with pytest.raises(TypeError, match=r"an index on cuda:0 cannot be saved.*to\('cpu'\)"):
        index.save("index")
    with pytest.raises(
        ValueError, match="`device` must be 'cpu', 'cuda', 'cuda:<n>' or the number of a card"
    ):
        fr.Index(items).to("gpu")
    with pytest.raises(ValueError, match=r"one of the 1 cards here, cuda:0\.\.cuda:0; got 'cuda:3'"):
        fr.Index(items).to("cuda:3")
    cupy.capability = "75"
    with pytest.raises(RuntimeError, match=r"GPU 0 has 7\.5"):
        fr.Index(items).to("cuda")


def test_k_over_the_limit(cupy: fake_cupy.Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "MOST_K", 20)
    index = fr.Index(cupy.asarray(np.ones((50, 8), np.float32)))
    with pytest.raises(ValueError, match="`k` may be at most 20 on a GPU; got 21"):
        index.topk(cupy.asarray(np.ones((1, 8), np.float32)), 21)
