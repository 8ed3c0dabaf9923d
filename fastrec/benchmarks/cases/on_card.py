"""Cases of ``fastrec bench --device cuda``: the sizes that bench/results/gpu.md makes predictions for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fastrec as fr
from fastrec.benchmarks.card import Card, Case, Contender, card_case, normals
from fastrec.benchmarks.cases.on_card_peers import peers
from fastrec.benchmarks.harness import OURS, Verdict
from fastrec.ranking.device_index import moved

_SAMPLE = 32  # queries that are compared with the CPU's answer
_CHUNK = 1024  # queries that torch scores at a time: the whole matrix of scores would not fit


@card_case("rank/d64-k100", "top-100 of a batch over a large catalogue, d = 64", peers=True)
def d64(card: Card) -> Case:
    return _search(card, 64, 100, "5x torch, 3x its peers, 0.6 T scores/s")


@card_case("rank/d128-k100", "the same, d = 128", peers=True)
def d128(card: Card) -> Case:
    return _search(card, 128, 100, "5x torch, 3x its peers, 0.6 T scores/s")


@card_case("rank/d768-k100", "the same, d = 768", peers=True)
def d768(card: Card) -> Case:
    return _search(card, 768, 100, "1.5x torch, 3x its peers")


@card_case("rank/seen-excluded-k100", "the same, d = 64, with 100 seen items excluded for every query")
def excluded(card: Card) -> Case:
    return _search(card, 64, 100, "at most 10% over none", seen=100)


@card_case("rank/one-query-k100", "top-100 of a single query, d = 128: bound by memory", peers=True)
def one_query(card: Card) -> Case:
    return _search(
        card, 128, 100, "80% of the bandwidth", sizes=((1, 100_000), (1, 1_000_000), (1, 10_000_000))
    )


@card_case("rank/large-k", "top-16384, d = 64", peers=True)
def large_k(card: Card) -> Case:
    return _search(card, 64, 16_384, "256 x 1 M: 25 ms", sizes=((4, 50_000), (64, 500_000), (256, 1_000_000)))


@card_case("rank/select-k100", "top-100 of a given matrix of scores")
def select(card: Card) -> Case:
    xp = card.xp
    q, n = card.size((64, 20_000), (1000, 100_000), (4096, 200_000))
    scores = normals(card.rng(9), (q, n))
    there = xp.asarray(scores)
    expected = fr.select_topk(scores[:_SAMPLE], 100)
    ours = Contender(OURS, lambda: fr.select_topk(there, 100), lambda top: _same(top, expected))
    contenders = [ours]
    if card.torch and "torch" in card.peers:
        tensor = card.torch.from_dlpack(there)
        contenders.append(
            Contender(
                "torch.topk", lambda: card.torch.topk(tensor, 100), lambda pair: _share(pair[1], expected)
            )
        )
    return Case(f"{q:,} x {n:,}", contenders, count=q * n, unit="scores", bytes=4.0 * q * n,
                goal="4,096 x 200,000: 2 ms")  # fmt: skip


@card_case(
    "rank/streamed-k100",
    "top-100 of an index that stays in the host's memory, as one larger than the card does",
)
def streamed(card: Card) -> Case:
    xp, d, k = card.xp, 128, 100
    q, n = card.size((64, 20_000), (1024, 300_000), (4096, 1_000_000))
    rng = card.rng(12)
    items, queries = normals(rng, (n, d)), normals(rng, (q, d))
    host, there = fr.Index(items), xp.asarray(queries)
    expected = host.topk(queries[:_SAMPLE], k)
    index, resident = moved(host, "cuda", stream=True), host.to("cuda")
    contenders = [
        Contender(name, lambda index=index: index.topk(there, k), lambda top: _same(top, expected))  # type: ignore[misc]
        for name, index in ((OURS, index), (f"{OURS}, all of it on the card", resident))
    ]
    return Case(f"Q={q:,} N={n:,} d={d} k={k}", contenders, count=float(q) * n, unit="scores", bytes=5.0 * n * d,
                goal="1 M: 64 ms")  # fmt: skip


def _search(
    card: Card, d: int, k: int, goal: str, *, seen: int = 0, sizes: tuple[Any, ...] | None = None
) -> Case:  # fmt: skip
    xp = card.xp
    q, n = card.size(*(sizes or ((256, 50_000), (1024, 300_000), (4096, 1_000_000))))
    rng = card.rng(d)
    items, queries = normals(rng, (n, d), unit=True), normals(rng, (q, d))  # nothing to stop early on
    there_items, there = xp.asarray(items), xp.asarray(queries)
    index = fr.Index(there_items)
    exclude = banned = None
    if seen:
        columns = np.sort(rng.integers(0, n // seen, (q, seen)) + np.arange(seen) * (n // seen), axis=1)
        indptr, indices = np.arange(q + 1, dtype=np.int64) * seen, columns.astype(np.int32).ravel()
        exclude = xp.asarray(indptr), xp.asarray(indices)
        few = min(q, _SAMPLE)
        banned = indptr[: few + 1], indices[: few * seen]
    expected = fr.Index(items).topk(queries[:_SAMPLE], k, exclude=banned)
    contenders = [
        Contender(OURS, lambda: index.topk(there, k, exclude=exclude), lambda top: _same(top, expected))
    ]
    if q == 1 and hasattr(xp.cuda.get_current_stream(), "begin_capture"):
        contenders.append(
            Contender(
                f"{OURS}, captured in a graph",
                _captured(xp, index, there, k),
                lambda top: _same(top, expected),
            )
        )
    if seen:
        plain = fr.Index(items).topk(queries[:_SAMPLE], k)
        contenders.append(
            Contender(
                f"{OURS}, nothing excluded", lambda: index.topk(there, k), lambda top: _same(top, plain)
            )
        )
    else:
        for mode in (False, True) if card.torch and "torch" in card.peers else ():
            contenders.append(_torch(card.torch, there, there_items, k, mode, expected))
        contenders += peers(
            card,
            there,
            there_items,
            k,
            lambda ids: _share_of(xp.asarray(ids)[: len(expected)].get(), expected),
        )
    return Case(f"Q={q:,} N={n:,} d={d} k={k}", contenders, count=float(q) * n, unit="scores",
                bytes=float(n) * d if q == 1 else 0.0, goal=goal)  # fmt: skip


def _captured(xp: Any, index: fr.Index, queries: Any, k: int) -> Callable[[], fr.TopK]:
    """A search whose launches are replayed: what a service that answers one query at a time would run."""
    graph: Any = None
    pool = xp.cuda.MemoryPool()  # the graph's scratch must stay its own
    top = fr.TopK(xp.empty((len(queries), k), np.int64), xp.empty((len(queries), k), np.float32))

    def run() -> fr.TopK:
        nonlocal graph
        stream = xp.cuda.get_current_stream()
        if graph is None:
            with xp.cuda.using_allocator(pool.malloc):
                for _ in range(2):  # memory that a capture asks for must be in the pool
                    index.topk(queries, k, out=(top.rows, top.scores))
                stream.begin_capture()
                index.topk(queries, k, out=(top.rows, top.scores))
                graph = stream.end_capture()
        graph.launch(stream)
        return top

    return run


def _torch(torch: Any, queries: Any, items: Any, k: int, tf32: bool, expected: fr.TopK) -> Contender:
    u, x = torch.from_dlpack(queries), torch.from_dlpack(items)

    def run() -> Any:
        before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = tf32
        try:
            parts = [torch.topk(u[i : i + _CHUNK] @ x.T, k) for i in range(0, len(u), _CHUNK)]
        finally:
            torch.backends.cuda.matmul.allow_tf32 = before
        return torch.cat([part.indices for part in parts])

    name = f"torch.topk of a product ({'tf32' if tf32 else 'fp32'})"
    return Contender(name, run, lambda ids: _share(ids, expected))


def _same(top: fr.TopK, expected: fr.TopK) -> Verdict:
    few = len(expected)
    rows, scores = top.rows[:few].get(), top.scores[:few].get()
    exact = np.array_equal(rows, expected.rows) and np.array_equal(scores, expected.scores)
    return Verdict(exact, "the CPU's bits" if exact else "differs from the CPU")


def _share(ids: Any, expected: fr.TopK) -> Verdict:
    """How many ids of a peer are ours, whatever their order."""
    return _share_of(ids[: len(expected)].cpu().numpy(), expected)


def _share_of(found: np.ndarray, expected: fr.TopK) -> Verdict:
    share = float(np.mean([len(np.intersect1d(a, b)) / len(b) for a, b in zip(found, expected.rows)]))
    return Verdict(share > 0.99, f"{share:.4f} of the ids")
