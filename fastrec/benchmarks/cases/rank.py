"""Rank: exact top-k of queries x items, with and without exclusions; top-k of given scores; scores of given pairs."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

import fastrec as fr
from fastrec.benchmarks import inputs, references, roofs
from fastrec.benchmarks.cases import case
from fastrec.benchmarks.harness import OURS, Case, Contender, Lab, Verdict, Work
from fastrec.ranking import TopK

PEERS_PRODUCTS = 2_500_000_000  # multiplications after which a peer's time is known
ROWS_AT_ONCE = 256  # queries a peer scores at a time, where it needs the whole (queries, items) matrix


@case("rank/equal-norms-k10", "rank", "top-10, synthetic, equal norms: nothing to stop early on")
def equal_k10(lab: Lab) -> Case:
    return _synthetic(lab, "equal", 10, ["numpy", "faiss", "implicit", "torch", "sklearn"])


@case("rank/equal-norms-k100", "rank", "top-100, synthetic, equal norms")
def equal_k100(lab: Lab) -> Case:
    return _synthetic(lab, "equal", 100, ["numpy", "faiss", "implicit", "torch"])


@case("rank/factor-norms-k10", "rank", "top-10, synthetic, norms from gamma(2), as factor models have them")
def gamma_k10(lab: Lab) -> Case:
    return _synthetic(lab, "gamma", 10, ["numpy", "faiss", "implicit", "torch"])


@case("rank/factor-norms-k100", "rank", "top-100, synthetic, norms from gamma(2)")
def gamma_k100(lab: Lab) -> Case:
    return _synthetic(lab, "gamma", 100, ["numpy", "faiss", "implicit", "torch"])


@case("rank/seen-excluded-k10", "rank", "top-10 with 100 seen items excluded for every query")
def excluded(lab: Lab) -> Case:
    """Beside the same search without exclusions: what they cost is the ratio of fastrec's two rows."""
    queries, items = _embeddings(lab, "equal")
    seen = inputs.random_csr(lab.rng("seen"), len(queries), len(items), 100)
    plain = _ours(lab, f"{OURS}, nothing excluded", queries, items, 10)
    return topk_case(lab, queries, items, 10, ["numpy", "implicit", "torch"], exclude=seen, beside=[plain])


@case(
    "rank/purchases-k100",
    "rank",
    "top-100 new products for every household: factors of real purchases",
    real_data=True,
)
def purchases(lab: Lab) -> Case:
    shop = inputs.purchases(lab)
    return topk_case(lab, shop.users, shop.items, 100, ["numpy", "implicit", "torch"], exclude=shop.seen)


@case(
    "rank/journey-k10",
    "rank",
    "top-10 of 68,509 products: ALS factors of a year of groceries",
    real_data=True,
)
def journey_k10(lab: Lab) -> Case:
    users, products = inputs.journey(lab)
    return topk_case(lab, users, products, 10, ["numpy", "faiss", "implicit", "torch"])


@case("rank/journey-k100", "rank", "top-100 of 68,509 products: the same factors", real_data=True)
def journey_k100(lab: Lab) -> Case:
    users, products = inputs.journey(lab)
    return topk_case(lab, users, products, 100, ["numpy", "faiss", "implicit", "torch"])


@case("rank/sentences-k10", "rank", "top-10 of 49,050 product texts for 285 typed queries", real_data=True)
def sentences_k10(lab: Lab) -> Case:
    queries, items = inputs.sentences(lab)
    return topk_case(lab, queries, items, 10, ["numpy", "faiss", "implicit", "torch"])


@case("rank/sentences-alike-k100", "rank", "top-100 texts like each of 4,096 of them", real_data=True)
def sentences_k100(lab: Lab) -> Case:
    _, items = inputs.sentences(lab)
    some = np.sort(lab.rng("sentences").choice(len(items), lab.size(256, 1024, 4096), replace=False))
    return topk_case(lab, items[some], items, 100, ["numpy", "faiss", "implicit", "torch"])


@case("rank/one-query-k10", "rank", "top-10 of a single query, equal norms: bound by memory")
def single(lab: Lab) -> Case:
    return _one_query(lab, "equal")


@case("rank/one-query-factor-norms-k10", "rank", "top-10 of a single query, norms from gamma(2)")
def single_gamma(lab: Lab) -> Case:
    return _one_query(lab, "gamma")


@case("rank/large-catalogue-k100", "rank", "top-100 of a batch over a large catalogue (--full: 1M items)")
def large(lab: Lab) -> Case:
    return _large(lab, "gamma")


@case("rank/large-catalogue-equal-norms-k100", "rank", "the same, equal norms: nothing to stop early on")
def large_equal(lab: Lab) -> Case:
    return _large(lab, "equal")


@case("rank/large-k", "rank", "top-1000 beside top-10 over a large catalogue (--full: 1M items)")
def large_k(lab: Lab) -> Case:
    q, n = lab.size((16, 50_000), (64, 200_000), (256, 1_000_000))
    queries, items = inputs.embeddings(lab, q, n, 64, "equal")
    short = _ours(lab, f"{OURS}, k = 10", queries, items, 10)
    return topk_case(lab, queries, items, 1000, ["numpy", "faiss", "implicit", "torch"], beside=[short])


@case("rank/one-call-k10", "rank", "top-10 of one query among 100 items: what a call costs")
def one_call(lab: Lab) -> Case:
    queries, items = inputs.embeddings(lab, 1, 100, 16, "equal")
    return topk_case(lab, queries, items, 10, ["numpy", "faiss", "implicit", "torch"])


@case("rank/two-callers-k10", "rank", "two Python threads searching at once, on one processor each")
def two_callers(lab: Lab) -> Case:
    """Beside the same two calls one after the other: twice the time where callers do not wait for each other."""
    queries, items = _embeddings(lab, "equal")
    index, half = fr.Index(items), len(queries) // 2
    ids, best = references.topk(queries, items, 10)
    check = references.same_topk(queries, items, ids, best)
    rows, scores = np.empty((len(queries), 10), np.int64), np.empty((len(queries), 10), np.float32)

    def call(part: slice) -> None:
        index.topk(queries[part], 10, threads=1, out=(rows[part], scores[part]))

    parts = [slice(0, half), slice(half, None)]
    callers = ThreadPoolExecutor(2)

    def at_once() -> Any:
        list(callers.map(call, parts))
        return TopK(rows, scores)

    def in_turn() -> Any:
        for part in parts:
            call(part)
        return TopK(rows, scores)

    work = Work(
        operations=2.0 * queries.size * len(items), count=float(len(queries)) * len(items), unit="scores"
    )
    contenders = [
        Contender(OURS, at_once, check),
        Contender(f"{OURS}, one call after the other", in_turn, check),
    ]
    return Case({"Q": len(queries), "N": len(items), "d": items.shape[1], "k": 10}, work, contenders)


@case("rank/pack", "rank", "building an index, beside a plain product of 512 queries with its items")
def pack(lab: Lab) -> Case:
    _, items = _catalogue(lab, "gamma")
    queries = lab.rng("pack").standard_normal((512, items.shape[1]), np.float32)
    few = queries[:4]
    ids, best = references.topk(few, items, 10)
    exact = references.same_topk(few, items, ids, best)
    products = few.astype(np.float64) @ items[:1000].T.astype(np.float64)

    def close(answer: Any) -> references.Verdict:
        agrees = np.allclose(answer[:4, :1000], products, rtol=1e-4, atol=1e-3)
        return references.Verdict(agrees, "close" if agrees else "another product")

    contenders = [
        Contender(
            OURS, lambda: fr.Index(items, threads=lab.threads), lambda index: exact(index.topk(few, 10))
        )
    ]
    if lab.peer("numpy"):
        out = np.empty((len(queries), len(items)), np.float32)
        contenders.append(
            Contender("numpy @, 512 queries", lambda: np.matmul(queries, items.T, out=out), close, "numpy")
        )
    work = Work(bytes=float(items.nbytes), count=float(len(items)), unit="items")
    return Case({"N": len(items), "d": items.shape[1]}, work, contenders)


@case("rank/select-k100", "rank", "top-100 of a given matrix of scores")
def select(lab: Lab) -> Case:
    rows, columns, k = lab.size((100, 20_000, 100), (200, 100_000, 100), (1000, 100_000, 100))
    scores = lab.rng("scores").standard_normal((rows, columns), np.float32)
    ids, best = references.select(scores, k)

    def check(answer: Any) -> references.Verdict:
        found, _ = answer  # a TopK unpacks as the peers' tuples do
        if np.array_equal(found, ids):
            return references.Verdict(True, "exact")
        same = np.array_equal(np.take_along_axis(scores, found.astype(np.int64), axis=1), best)
        return references.Verdict(same, "same scores, ties in another order" if same else "other items")

    def ours() -> Any:
        return fr.select_topk(scores, k, threads=lab.threads)

    contenders = [Contender(OURS, ours, check)]
    if lab.peer("numpy"):
        contenders.append(
            Contender("numpy argpartition + sort", lambda: _numpy_select(scores, k), check, "numpy")
        )
    if torch := lab.peer("torch"):
        tensor = torch.from_numpy(scores)

        def torch_topk() -> Any:
            values, found = torch.topk(tensor, k)
            return found.numpy(), values.numpy()

        contenders.append(Contender("torch.topk", torch_topk, check, "torch"))
    work = Work(bytes=float(scores.nbytes), count=float(scores.size), unit="scores")
    return Case({"rows": rows, "columns": columns, "k": k}, work, contenders)


@case("rank/pairs", "rank", "scores of given (query, item) pairs: candidates to re-score")
def pairs(lab: Lab) -> Case:
    p, n, d = lab.size((200_000, 50_000, 64), (1_000_000, 200_000, 64), (10_000_000, 1_000_000, 64))
    queries, items = inputs.embeddings(lab, 1000, n, d, "equal")
    rng = lab.rng("pairs")
    rows, cols = np.sort(rng.integers(0, len(queries), p)), rng.integers(0, n, p)
    expected = references.pair_scores(queries, items, rows, cols)

    def ours() -> Any:
        return fr.score_pairs(queries, items, rows, cols, threads=lab.threads)

    contenders = [Contender(OURS, ours, _rounded_once(expected)), _reading_alone(items, p, lab.threads)]
    close = references.arrays_agree(expected, 1e-5, "scores")
    if lab.peer("numpy"):
        contenders.append(
            Contender(
                "numpy gather + einsum", lambda: _numpy_pairs(queries, items, rows, cols), close, "numpy"
            )
        )
    if torch := lab.peer("torch"):
        q, x, r, c = (torch.from_numpy(a) for a in (queries, items, rows, cols))

        def torch_pairs() -> Any:
            return torch.cat(
                [(q[a] * x[b]).sum(1) for a, b in zip(r.split(1 << 16), c.split(1 << 16))]
            ).numpy()

        contenders.append(Contender("torch gather + sum", torch_pairs, close, "torch"))
    work = Work(operations=2.0 * p * d, random_bytes=4.0 * p * d, count=float(p), unit="pairs")
    return Case({"pairs": p, "N": n, "d": d}, work, contenders)


def _reading_alone(items: np.ndarray, reads: int, threads: int) -> Contender:
    """As many rows of 256 bytes of ``items`` read at random as there are pairs: what scoring them could reach at most.

    Timed in the same rounds, for what memory gives moves by the minute on a shared machine.
    """
    _, read = roofs.random_reads(items.reshape(-1).view(np.uint64), reads, threads, 2)
    verdict = Verdict(True, "reads, and computes nothing")
    return Contender("random reads of as many rows", read, lambda _: verdict)


# ---------------------------------------------------------------------------------------------------------- top-k


def topk_case(
    lab: Lab,
    queries: np.ndarray,
    items: np.ndarray,
    k: int,
    peers: Iterable[str],
    exclude: Any = None,
    beside: Iterable[Contender] = (),
) -> Case:
    """Exact top-k on these embeddings, with the index packed beforehand, beside those of ``peers`` that are there.

    ``beside`` are further rows, of fastrec doing something else.
    """
    ids, best = references.topk(queries, items, k, exclude)
    contenders = [_ours(lab, OURS, queries, items, k, exclude, (ids, best)), *beside]
    few = _peers_queries(lab, queries, items)
    some, seen = queries[:few], None if exclude is None else exclude[:few]
    close = references.close_topk(some, items, best[:few], seen)
    note = f"timed on {few:,} of {len(queries):,} queries" if few < len(queries) else ""
    for name in peers:
        if module := lab.peer(name):
            for title, run in _PEERS[name](module, lab, some, items, k, seen):
                share = few / max(1, len(queries))
                contenders.append(Contender(title, run, close, name, note=note, share=share))
    q, (n, d) = len(queries), items.shape
    work = Work(operations=2.0 * q * n * d, bytes=4.0 * d * (n + q), count=float(q) * n, unit="scores")
    shape = {"Q": q, "N": n, "d": d, "k": k}
    if exclude is not None:
        shape["excluded"] = int(exclude.nnz)
    return Case(shape, work, contenders)


def _ours(
    lab: Lab,
    title: str,
    queries: np.ndarray,
    items: np.ndarray,
    k: int,
    exclude: Any = None,
    expected: tuple[np.ndarray, np.ndarray] | None = None,
) -> Contender:
    ids, best = references.topk(queries, items, k, exclude) if expected is None else expected
    index = fr.Index(items)

    def run() -> Any:
        return index.topk(queries, k, exclude=exclude, threads=lab.threads)

    return Contender(title, run, references.same_topk(queries, items, ids, best))


def _peers_queries(lab: Lab, queries: np.ndarray, items: np.ndarray) -> int:
    """Queries that peers search with --full: all, or so many blocks of them as take a while, where all take minutes.

    They work through a block of queries after another, so that time goes with their number.
    """
    if lab.scale != "full":
        return len(queries)
    blocks = -(-PEERS_PRODUCTS // (ROWS_AT_ONCE * max(1, items.size)))
    return min(len(queries), blocks * ROWS_AT_ONCE)


def _embeddings(lab: Lab, norms: str) -> tuple[np.ndarray, np.ndarray]:
    q, n = lab.size((256, 20_000), (512, 100_000), (4096, 100_000))
    return inputs.embeddings(lab, q, n, 64, norms)


def _one_query(lab: Lab, norms: str) -> Case:
    queries, items = _catalogue(lab, norms)
    return topk_case(lab, queries[:1], items, 10, ["numpy", "faiss", "implicit", "torch"])


def _catalogue(lab: Lab, norms: str) -> tuple[np.ndarray, np.ndarray]:
    q, n = lab.size((16, 50_000), (64, 200_000), (512, 1_000_000))
    return inputs.embeddings(lab, q, n, 128, norms)


def _large(lab: Lab, norms: str) -> Case:
    queries, items = _catalogue(lab, norms)
    return topk_case(lab, queries, items, 100, ["numpy", "faiss", "implicit", "torch"])


def _synthetic(lab: Lab, norms: str, k: int, peers: list[str]) -> Case:
    queries, items = _embeddings(lab, norms)
    return topk_case(lab, queries, items, k, peers)


def _faiss(faiss: Any, lab: Lab, queries: np.ndarray, items: np.ndarray, k: int, exclude: Any) -> Any:
    """``IndexFlatIP`` by its BLAS path, and by the path that a lower threshold chooses: the better one is the peer."""
    index = faiss.IndexFlatIP(items.shape[1])
    index.add(items)
    standard = lab.shared("faiss threshold", lambda: int(faiss.cvar.distance_compute_blas_threshold))

    def search(threshold: int) -> Any:
        def run() -> Any:
            faiss.cvar.distance_compute_blas_threshold = threshold
            scores, ids = index.search(queries, k)
            return ids, scores

        return run

    for threshold in dict.fromkeys((standard, 0)):
        yield f"faiss, BLAS threshold {threshold}", search(threshold)


def _numpy(_: Any, lab: Lab, queries: np.ndarray, items: np.ndarray, k: int, exclude: Any) -> Any:
    def run() -> Any:
        parts = []
        for start in range(0, len(queries), ROWS_AT_ONCE):
            scores = queries[start : start + ROWS_AT_ONCE] @ items.T
            if exclude is not None:
                seen = exclude[start : start + ROWS_AT_ONCE]
                scores[np.repeat(np.arange(len(scores)), np.diff(seen.indptr)), seen.indices] = -np.inf
            parts.append(_numpy_select(scores, k))
        return tuple(np.concatenate(part) for part in zip(*parts))

    yield "numpy @ + argpartition", run


def _torch(torch: Any, lab: Lab, queries: np.ndarray, items: np.ndarray, k: int, exclude: Any) -> Any:
    q, x = torch.from_numpy(queries), torch.from_numpy(items)

    def run() -> Any:
        parts = []
        for start in range(0, len(q), ROWS_AT_ONCE):
            scores = q[start : start + ROWS_AT_ONCE] @ x.T
            if exclude is not None:
                seen = exclude[start : start + ROWS_AT_ONCE]
                rows = np.repeat(np.arange(len(scores)), np.diff(seen.indptr))
                scores[torch.from_numpy(rows), torch.from_numpy(seen.indices.astype(np.int64))] = -np.inf
            parts.append(torch.topk(scores, k))
        return torch.cat([part.indices for part in parts]).numpy(), torch.cat(
            [part.values for part in parts]
        ).numpy()

    yield "torch @ + topk", run


def _implicit(_: Any, lab: Lab, queries: np.ndarray, items: np.ndarray, k: int, exclude: Any) -> Any:
    from implicit.cpu.topk import topk

    yield (
        "implicit.cpu.topk",
        lambda: topk(items, queries, k, filter_query_items=exclude, num_threads=lab.threads),
    )


def _sklearn(_: Any, lab: Lab, queries: np.ndarray, items: np.ndarray, k: int, exclude: Any) -> Any:
    """Nearest by Euclidean distance, which is highest by dot product where all item norms are equal."""
    from sklearn.neighbors import NearestNeighbors

    neighbours = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(items)

    def run() -> Any:
        distances, ids = neighbours.kneighbors(queries)
        return ids, -distances

    yield "sklearn brute-force neighbours", run


_PEERS = {"numpy": _numpy, "faiss": _faiss, "implicit": _implicit, "torch": _torch, "sklearn": _sklearn}


def _numpy_select(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    k = min(k, scores.shape[1])
    ids = np.argpartition(scores, -k, axis=1)[:, -k:] if k < scores.shape[1] else np.argsort(scores, axis=1)
    values = np.take_along_axis(scores, ids, axis=1)
    order = np.argsort(-values, axis=1)
    return np.take_along_axis(ids, order, axis=1), np.take_along_axis(values, order, axis=1)


def _numpy_pairs(queries: np.ndarray, items: np.ndarray, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    step = 1 << 16
    return np.concatenate(
        [
            np.einsum("pd,pd->p", queries[rows[at : at + step]], items[cols[at : at + step]])
            for at in range(0, len(rows), step)
        ]
    )


def _rounded_once(expected: np.ndarray) -> Any:
    low, high = references.rounded_once(expected)

    def check(answer: Any) -> references.Verdict:
        got = np.asarray(answer)
        wrong = int(((got < low) | (got > high)).sum()) if got.shape == low.shape else len(low)
        return references.Verdict(not wrong, f"{wrong} scores differ" if wrong else "exact")

    return check
