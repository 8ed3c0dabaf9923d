"""Memory: what a call and what packing may take beside their input and output, measured in a process of its own."""

from __future__ import annotations

import os

import pytest
from subprocesses import output_of

pytestmark = pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK),
    reason="resetting the high-water mark of a process's memory needs Linux",
)

WATCH = """
    import ctypes, gc
    import numpy as np, fastrec as fr

    MB = 1 << 20
    trim = getattr(ctypes.CDLL(None), "malloc_trim", lambda _: 0)

    def status(name):
        for line in open("/proc/self/status"):
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024

    def extra_of(call):
        gc.collect(), trim(0)
        open("/proc/self/clear_refs", "w").write("5")  # resets the high-water mark
        before = status("VmRSS")
        result = call()
        return result, status("VmHWM") - before

    def check(what, call):
        top, extra = extra_of(call)
        output = sum(a.nbytes for a in (top.rows, top.scores)) if isinstance(top, fr.TopK) else top.nbytes
        assert extra <= 2 * output + 64 * MB, f"{what}: {extra / MB:.1f} MB for an output of {output / MB:.1f} MB"

    rng = np.random.default_rng(0)
    def normal(*shape):
        return rng.standard_normal(shape, dtype=np.float32)

    fr.Index(normal(2000, 32)).topk(normal(40, 32), 2, threads=8)  # starts the threads
"""

TOPK = """
    n, d = 200_000, 32
    items = normal(n, d)
    for norms in (1.0, rng.gamma(2.0, size=(n, 1)).astype(np.float32)):
        index = fr.Index(items * norms)
        def topk(what, q, k, **options):
            queries = normal(q, d)
            check(what, lambda: index.topk(queries, k, **options))
        topk("many queries", 3000, 100)
        topk("very many queries", 40_000, 10)
        topk("k = 1000", 100, 1000, threads=8)
        topk("large k", 16, 20_000)
        topk("large k, threads", 16, 20_000, threads=8)
        topk("k just below a tenth", 40, 19_999, threads=3)
        topk("one query, everything", 1, n, threads=8)
        topk("one query, nearly everything", 1, n - 5, threads=2)
        topk("few queries, half", 4, n // 2, threads=2)
        topk("k beyond the items", 3, 2 * n)
    banned = np.arange(1001) * 500, np.tile(np.arange(500), 1000).astype(np.int32)
    topk("exclude", 1000, 10, exclude=banned)
    topk("candidates for some", 31, 10, candidates=np.arange(n))
    topk("candidates for many", 500, 10, candidates=np.arange(n), threads=4)
    topk("one query, k candidates", 1, n, candidates=np.arange(n), threads=4)
    topk("few queries, many candidates, k of them", 3, n, candidates=np.arange(n), threads=4)
    topk("both", 1000, 10, candidates=np.arange(0, n, 3), exclude=banned)
    long = np.arange(9) * (n // 2), np.tile(np.arange(0, n, 2), 8).astype(np.int32)
    topk("long lists", 8, 10, candidates=long, threads=8)
    topk("long lists, large k", 8, n, candidates=long, threads=8)
    topk("short lists, large k", 1000, 500, candidates=banned, threads=8)
    print("done")
"""

MILLION = """
    n, d = 1_000_000, 8
    index = fr.Index(normal(n, d), precision="int8")
    for precision in ("int8", "float32"):
        for q, k in ((1, n), (1, n // 2), (1, n // 10), (3, n), (100, 1000), (4096, 10)):
            queries = normal(q, d)
            check(f"{precision} q={q} k={k}", lambda: index.topk(queries, k, threads=8))
        index = fr.Index(normal(n, d), precision="float32")
    many = (np.arange(0, 10_000_001, 500), np.tile(np.arange(0, n, 2000, dtype=np.int32), 20_000))
    queries = normal(20_000, d)
    check("exclude 500 each", lambda: index.topk(queries[:20_000], 1, exclude=many))
    check("candidates, 500 each", lambda: index.topk(queries[:20_000], 1, candidates=many))
    print("done")
"""

OTHERS = """
    scores = normal(12, 400_000)
    for k in (1, 10, 1000, 100_000, 400_000, 500_000):
        check(f"select_topk k={k}", lambda: fr.select_topk(scores, k, threads=8))
    del scores
    for n in (1_000_000, 5_000_000):
        one = normal(1, n)
        for k in (10, 100_000, 1_000_000):
            check(f"select_topk of one row of {n}, k={k}", lambda: fr.select_topk(one, k, threads=8))
    queries, items = normal(100, 64), normal(100_000, 64)
    rows, cols = rng.integers(0, 100, 1_000_000), rng.integers(0, 100_000, 1_000_000)
    check("score_pairs", lambda: fr.score_pairs(queries, items, rows, cols))
    check("score_pairs of halves", lambda: fr.score_pairs(queries, items.astype(np.float16), rows, cols))
    check("score", lambda: fr.score(queries, items))
    print("done")
"""

# Packing: what stays beside the items, and what is needed on the way.
PACKING = """
    n, d = 400_000, 128
    matrix = 4 * n * d
    for dtype in ("float32", "float16"):
        items = normal(n, d).astype(dtype)
        for what, options in (("dot", {}), ("l2", {"metric": "l2"}), ("bias", {"bias": np.ones(n, np.float32)})):
            index, extra = extra_of(lambda: fr.Index(items, **options))
            assert index.precision == "int8"
            assert index.nbytes <= 0.3 * matrix, f"{dtype} {what}: holds {index.nbytes / matrix:.2f}"
            assert extra <= 0.5 * matrix, f"{dtype} {what}: packing took {extra / matrix:.2f} of the matrix"
            queries = normal(500, d)
            check(f"{dtype} {what}", lambda: index.topk(queries, 10))
            check(f"{dtype} {what}, one query", lambda: index.topk(queries[:1], 10))
            del index
        check(f"{dtype} one-shot", lambda: fr.topk(queries, items[:100_000], 10))
    print("done")
"""


@pytest.mark.parametrize(
    "what", [TOPK, MILLION, OTHERS, PACKING], ids=["topk", "million", "others", "packing"]
)
def test_peak_memory(what: str) -> None:
    assert output_of(WATCH + what) == "done"


def test_bfloat16_items_are_never_copied_to_float32() -> None:
    pytest.importorskip("torch", reason="makes bfloat16 items")
    code = """
        import torch
        items = torch.zeros(400_000, 128, dtype=torch.bfloat16)
        items.normal_()
        index, extra = extra_of(lambda: fr.Index(items))
        assert index.nbytes <= 0.3 * 4 * items.numel(), index.nbytes
        assert extra <= 0.4 * 4 * items.numel(), extra
        queries = normal(300, 128)
        check("topk", lambda: index.topk(queries, 10))
        print("done")
    """
    assert output_of(WATCH + code.replace("\n    ", "\n")) == "done"
