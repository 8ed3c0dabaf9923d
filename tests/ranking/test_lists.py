"""``exclude`` and ``candidates``: every form means the same, and none is misread."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from ranking import assert_top, csr_of, draw, oracle
from scipy import sparse

import fastrec as fr
from fastrec._kernels.ranking import judge_lists

Q, N = 14, 150
RNG = np.random.default_rng(0)
ITEMS, QUERIES = draw("gamma norms", RNG, N, 20), draw("normal", RNG, Q, 20)
MASK = RNG.random((Q, N)) < 0.3
MASK[0], MASK[1] = True, False  # a full row, an empty row
INDPTR, INDICES = csr_of(MASK)
INDEX = fr.Index(ITEMS, precision="int8")


def unsorted() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    rows = [rng.permutation(INDICES[a:b]) for a, b in itertools.pairwise(INDPTR)]
    return INDPTR, np.concatenate(rows)


def repeated() -> tuple[np.ndarray, np.ndarray]:
    return INDPTR * 2, np.concatenate([np.tile(INDICES[a:b], 2) for a, b in itertools.pairwise(INDPTR)])


def stored_zeros() -> sparse.csr_matrix:
    return sparse.csr_matrix((np.zeros(len(INDICES)), INDICES, INDPTR), shape=(Q, N))


def spare_room() -> sparse.csr_matrix:
    matrix = sparse.csr_matrix(MASK.astype(np.float32))
    matrix.indices = np.concatenate([matrix.indices, np.zeros(5, matrix.indices.dtype)])
    matrix.data = np.concatenate([matrix.data, np.zeros(5, np.float32)])
    return matrix


def read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


FORMS: dict[str, Any] = {
    "int32": lambda: (INDPTR, INDICES.astype(np.int32)),
    "int64": lambda: (INDPTR, INDICES.astype(np.int64)),
    "int32 pointers": lambda: (INDPTR.astype(np.int32), INDICES),
    "uint16": lambda: (INDPTR, INDICES.astype(np.uint16)),
    "uint64": lambda: (INDPTR.astype(np.uint64), INDICES.astype(np.uint64)),
    "big-endian": lambda: (INDPTR.astype(">i8"), INDICES.astype(">i4")),
    "strided": lambda: (np.repeat(INDPTR, 2)[::2], np.repeat(INDICES, 3)[::3]),
    "read-only": lambda: (read_only(INDPTR), read_only(INDICES)),
    "lists": lambda: (INDPTR.tolist(), INDICES.tolist()),
    "unsorted": unsorted,
    "repeated": repeated,
    "stored zeros": stored_zeros,
    "spare room": spare_room,
    **{
        f"{kind}_{form}": lambda kind=kind, form=form: getattr(sparse, f"{form}_{kind}")(
            MASK.astype(np.float32)
        )
        for kind in ("matrix", "array")
        for form in ("csr", "csc", "coo", "lil", "dok", "dia", "bsr")
    },
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.filterwarnings("ignore::scipy.sparse.SparseEfficiencyWarning")
def test_every_form_of_exclude_and_candidates(form: str) -> None:
    value = FORMS[form]()
    for k in (1, 10, N):
        assert_top(
            INDEX.topk(QUERIES, k, exclude=value), oracle(QUERIES, ITEMS, k, allowed=~MASK), f"exclude k={k}"
        )
        assert_top(
            INDEX.topk(QUERIES, k, candidates=value), oracle(QUERIES, ITEMS, k, allowed=MASK), f"k={k}"
        )
    both = INDEX.topk(QUERIES, 9, exclude=value, candidates=value)
    assert (both.rows == -1).all()


def test_arguments_are_left_alone() -> None:
    indptr, indices = unsorted()
    before = indices.copy()
    INDEX.topk(QUERIES, 3, exclude=(indptr, indices))
    np.testing.assert_array_equal(indices, before)
    matrix = sparse.csr_matrix(MASK.astype(np.float32))
    matrix.indices[: INDPTR[1]] = matrix.indices[: INDPTR[1]][::-1]
    matrix.has_sorted_indices = False
    before = matrix.indices.copy()
    assert_top(INDEX.topk(QUERIES, 3, exclude=matrix), oracle(QUERIES, ITEMS, 3, allowed=~MASK))
    np.testing.assert_array_equal(matrix.indices, before)


@pytest.mark.parametrize("precision", ["int8", "float32"])
def test_excluded_items_never_come_back(precision: str) -> None:
    """Not even to fill a row, and not when the best are excluded."""
    index = fr.Index(ITEMS, precision=precision)
    best = index.topk(QUERIES, N).rows
    for banned in (1, 5, 149, 150):
        mask = np.zeros((Q, N), bool)
        np.put_along_axis(mask, best[:, :banned], True, axis=1)
        top = index.topk(QUERIES, 20, exclude=csr_of(mask))
        assert_top(top, oracle(QUERIES, ITEMS, 20, allowed=~mask), f"{banned} banned")
        assert (top.counts == min(20, N - banned)).all()


@pytest.mark.parametrize("listed", [1, 7, 1 << 20])
@pytest.mark.parametrize("metric", ["dot", "cosine", "l2"])
def test_nearly_everything_excluded(metric: str, listed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where little is left, that is what is searched, some queries at a time."""
    from fastrec.ranking import index as module

    monkeypatch.setattr(module, "_LISTED", listed)
    rng = np.random.default_rng(4)
    items, bias = ITEMS.copy(), rng.integers(-1, 2, N).astype(np.float32)
    items[7, 0], items[8, 0], bias[9] = np.inf, np.nan, -np.inf
    for left in (0, 1, 4, 7):
        mask = np.ones((Q, N), bool)
        for row in mask:
            row[rng.choice(N, left, replace=False)] = False
        mask[0] = True
        mask[1:3, 7:10] = False
        index = fr.Index(items, metric, bias)
        for k in (1, 5, 200):
            for floor in (None, 0.0):
                top = index.topk(QUERIES, k, exclude=csr_of(mask), min_score=floor, threads=2)
                assert_top(top, oracle(QUERIES, items, k, metric, bias, ~mask, floor), f"left={left} k={k}")


SHARED = {
    "few": np.arange(0, 150, 10),
    "one": np.array([77]),
    "none": np.empty(0, np.int64),
    "all": np.arange(150),
    "unsorted": np.array([9, 3, 140, 4]),
    "repeated": np.array([9, 3, 3, 9, 9, 140]),
    "uint8": np.array([5, 4], np.uint8),
    "list": [5, 4, 100],
}


@pytest.mark.parametrize("form", SHARED)
@pytest.mark.parametrize("metric", ["dot", "cosine", "l2"])
def test_shared_candidates(form: str, metric: str) -> None:
    bias = np.round(np.random.default_rng(2).standard_normal(N))
    allowed = np.zeros((Q, N), bool)
    allowed[:, np.asarray(SHARED[form], int)] = True
    index = fr.Index(ITEMS, metric, bias)
    expected = oracle(QUERIES, ITEMS, 12, metric, bias, allowed)
    assert_top(index.topk(QUERIES, 12, candidates=SHARED[form]), expected)
    expected = oracle(QUERIES, ITEMS, 12, metric, bias, allowed & ~MASK)
    assert_top(index.topk(QUERIES, 12, candidates=SHARED[form], exclude=(INDPTR, INDICES)), expected)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_many_shared_candidates_are_packed_by_blocks(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    items = draw("small integers", rng, 4000, 16)
    given: Any = items.astype(dtype) if dtype != "bfloat16" else None
    if given is None:
        given = pytest.importorskip("torch", reason="makes bfloat16 items").tensor(items).bfloat16()
    queries = draw("small integers", rng, 40, 16)
    queries[3] = 0
    bias = rng.integers(-2, 3, 4000).astype(np.float32)
    bias[5], bias[6] = np.inf, np.nan
    mask = rng.random((40, 4000)) < 0.1
    chosen = rng.choice(4000, 3000, replace=False)
    allowed = np.zeros((40, 4000), bool)
    allowed[:, chosen] = True
    expected = oracle(queries, items, 30, "dot", bias, allowed & ~mask, min_score=-3.0)
    from fastrec.ranking import index as module

    for block_bytes in (1 << 24, 1):
        monkeypatch.setattr(module, "_BLOCK_BYTES", block_bytes)
        for precision in ("int8", "float32"):
            index = fr.Index(given, bias=bias, precision=precision)
            top = index.topk(queries, 30, candidates=chosen, exclude=csr_of(mask), min_score=-3.0)
            assert_top(top, expected, f"{block_bytes} {precision}")


@pytest.mark.parametrize("q", [1, 3, 5])
def test_shared_candidates_beyond_what_is_written_out(q: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastrec.ranking import index as module

    monkeypatch.setattr(module, "_LISTED", 50)
    allowed = np.zeros((q, N), bool)
    allowed[:, ::2] = True
    expected = oracle(QUERIES[:q], ITEMS, 12, allowed=allowed & ~MASK[:q])
    top = INDEX.topk(QUERIES[:q], 12, candidates=np.arange(0, N, 2), exclude=csr_of(MASK[:q]))
    assert_top(top, expected)


def test_no_queries_and_no_items() -> None:
    none = (np.array([0]), np.empty(0, int))
    assert INDEX.topk(QUERIES[:0], 3, exclude=none).rows.shape == (0, 3)
    assert INDEX.topk(QUERIES[:0], 3, candidates=none).rows.shape == (0, 3)
    assert INDEX.topk(QUERIES[:0], 3, candidates=np.arange(5)).rows.shape == (0, 3)
    empty = fr.Index(ITEMS[:0])
    nothing = (np.zeros(Q + 1, int), np.empty(0, int))
    assert (empty.topk(QUERIES, 3, exclude=nothing).rows == -1).all()
    assert (empty.topk(QUERIES, 3, candidates=nothing).rows == -1).all()
    assert (empty.topk(QUERIES, 3, candidates=np.empty(0, int)).rows == -1).all()


@pytest.mark.parametrize("threads", [1, 2, 8])
@pytest.mark.parametrize("n", [1, 2047, 2048, 5000])
def test_no_queries_of_any_number_of_items(n: int, threads: int) -> None:
    """Where a lone query's items would be shared out between threads, too."""
    items = draw("normal", np.random.default_rng(n), n, 8)
    index, none = fr.Index(items), (np.array([0]), np.empty(0, int))
    for k in (1, n, n + 3):
        for options in ({}, {"exclude": none}, {"candidates": none}, {"candidates": np.arange(n)}):
            top = index.topk(items[:0], k, threads=threads, **options)
            assert top.ids.shape == top.scores.shape == (0, k)
    assert index.explain(items[:0], 3, threads=threads)["queries"] == 0
    assert fr.topk(items[:0], items, 3, threads=threads).ids.shape == (0, 3)


BAD: dict[str, tuple[Any, type[Exception], str]] = {
    "another shape": (
        sparse.csr_matrix((Q, N + 1)),
        ValueError,
        rf"`{{}}` must have shape \({Q}, {N}\).*got \({Q}, {N + 1}\)",
    ),
    "transposed": (sparse.csr_matrix((N, Q)), ValueError, rf"got \({N}, {Q}\)"),
    "too few pointers": ((INDPTR[:-1], INDICES), ValueError, rf"`{{}}` must have {Q + 1} row pointers.*\({Q},\)"),
    "falling pointers": (
        (np.r_[INDPTR[:3], 0, INDPTR[4:]], INDICES),
        ValueError,
        "`{}` has malformed row pointers",
    ),
    "pointers from 1": ((np.r_[1, INDPTR[1:]], INDICES), ValueError, "must rise from 0"),
    "short indices": ((INDPTR, INDICES[:-1]), ValueError, rf"number of indices \({len(INDICES) - 1}\)"),
    "beyond the items": ((INDPTR, np.r_[INDICES[:-1], N]), ValueError, rf"`{{}}` must hold item rows in .*; got {N}"),
    "negative": ((INDPTR, np.r_[-1, INDICES[1:]]), ValueError, "got -1"),
    "huge unsigned": ((INDPTR, np.r_[np.uint64(2**64 - 1), INDICES[1:].astype(np.uint64)]), ValueError, "got -1"),
    "floats": ((INDPTR, INDICES * 1.0), TypeError, r"`{}\[1\]` must hold integers; got dtype float64"),
    "float pointers": ((INDPTR * 1.0, INDICES), TypeError, r"`{}\[0\]` must hold integers"),
    "a matrix of indices": ((INDPTR, INDICES[None, :]), ValueError, r"`{}\[1\]` must be one-dimensional"),
}  # fmt: skip


@pytest.mark.parametrize("name", ["exclude", "candidates"])
@pytest.mark.parametrize("case", BAD)
def test_bad_lists(name: str, case: str) -> None:
    value, kind, message = BAD[case]
    with pytest.raises(kind, match=message.format(name) if "{}" in message else message):
        INDEX.topk(QUERIES, 3, **{name: value})


def test_bad_exclude_kinds() -> None:
    with pytest.raises(
        TypeError, match=r"`exclude` must be a SciPy sparse matrix of shape \(14, 150\).*got ndarray"
    ):
        INDEX.topk(QUERIES, 3, exclude=MASK)
    with pytest.raises(TypeError, match="`exclude`"):
        INDEX.topk(QUERIES, 3, exclude={1, 2})


def test_a_list_for_each_query_is_not_taken_for_a_pair() -> None:
    """Two lists may be those of two queries, or row pointers and indices: refused, with what to write instead."""
    lists = [[0, 1, 2], [5, 7]]
    for name in ("exclude", "candidates"):
        with pytest.raises(TypeError, match=rf"`{name}` must be .*got list.*np\.cumsum"):
            INDEX.topk(QUERIES[:2], 3, **{name: lists})
    pair = (np.cumsum([0, *map(len, lists)]), np.concatenate(lists))
    allowed = np.ones((2, N), bool)
    allowed[0, [0, 1, 2]] = allowed[1, [5, 7]] = False
    assert_top(INDEX.topk(QUERIES[:2], 3, exclude=pair), oracle(QUERIES[:2], ITEMS, 3, allowed=allowed))


def test_bad_shared_candidates() -> None:
    with pytest.raises(ValueError, match=r"`candidates` must lie in 0..149 \(there are 150 items\); got 150"):
        INDEX.topk(QUERIES, 3, candidates=[150])
    with pytest.raises(ValueError, match=r"`candidates` must lie in 0\.\.149.*got -1"):
        INDEX.topk(QUERIES, 3, candidates=np.array([-1]))
    with pytest.raises(TypeError, match="`candidates` must hold integers; got dtype float64"):
        INDEX.topk(QUERIES, 3, candidates=np.array([1.0]))
    with pytest.raises(TypeError, match="`candidates` must hold integers; got dtype bool"):
        INDEX.topk(QUERIES, 3, candidates=np.ones(150, bool))
    with pytest.raises(ValueError, match="`candidates` must be one-dimensional"):
        INDEX.topk(QUERIES, 3, candidates=np.ones((2, 3), int))


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_what_is_wrong_with_lists_at_the_limits_of_their_type(dtype: Any) -> None:
    most, least = np.iinfo(dtype).max, np.iinfo(dtype).min

    def judged(indices: list[int], items: int, *ends: int) -> int:
        indptr = np.array([0, *ends, len(indices)], np.int64)
        return judge_lists(indptr, np.array(indices, dtype), items)

    fine, malformed, outside, unsorted = range(4)
    assert judged([], 0) == judged([0, 4], 5) == judged([4, 0], 5, 1) == fine
    assert judged([2**31 - 1], 2**31) == judged([0, 2**31 - 1], 2**40) == fine
    for wrong in ([0], [5, 6], [4, 5], [-1], [4, -1], [most], [least], [least, most], [most, least]):
        assert judged(wrong, 0) == outside
        assert judged(wrong, 5 if wrong != [0] else 0) == outside
        assert judged([1, 2, *wrong, 1, 2], 5 if wrong != [0] else 0, 2, 2 + len(wrong)) == outside
    assert judged([2**31 - 1], 2**31 - 1) == outside
    for wrong in ([1, 1], [2, 1], [0, 1, 2, 3, 4, 3], [4] * 9, [3, 0, 4]):
        assert judged(wrong, 5) == judged([0, *wrong], 5, 1) == unsorted
    assert judged([1, 1, 9], 5) == outside
    assert judged([0, 1], 5, 2, 1) == malformed


def test_random_lists_are_judged_as_they_are() -> None:
    rng = np.random.default_rng(2)
    for _ in range(300):
        counts = rng.integers(0, 40, 6)
        indptr = np.concatenate(([0], np.cumsum(counts)))
        rows = [np.sort(rng.choice(50, count, replace=False)) for count in counts]
        indices = np.concatenate(rows).astype(rng.choice([np.int32, np.int64]))
        expected = 0
        if rng.random() < 0.7 and len(indices):
            indices[rng.integers(len(indices))] = rng.integers(-1, 51)
            parts = np.split(indices, indptr[1:-1])
            inside = indices.min() >= 0 and indices.max() < 50
            expected = 2 if not inside else 3 if any((np.diff(part) <= 0).any() for part in parts) else 0
        assert judge_lists(indptr, indices, 50) == expected
