"""The exact searches of cuVS, faiss and implicit on a card, as contenders of ``rank`` where they are installed.

All read items and queries where they lie, and keep their memory from call to call.  faiss works on the stream that is
timed, cuVS and implicit on one of their own, for which they wait; implicit answers in NumPy arrays, so that its time
holds the copy of its answer.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Callable
from typing import Any

from fastrec._core import cuda
from fastrec.benchmarks.card import Card, Contender, Verdict

Search = Callable[[], Any]  # ids, (Q, k) on the card or the host


def peers(
    card: Card, queries: Any, items: Any, k: int, check: Callable[[Any], Verdict]
) -> list[Contender]:  # fmt: skip
    """What is asked for, installed and takes these sizes.  One that is there and does not work says so in its row."""
    found = []
    for peer, name, prepare, waits in (
        ("cuvs", "cuVS brute force", _cuvs, True),
        ("faiss", "faiss GpuIndexFlatIP", _faiss, False),
        ("implicit", "implicit KnnQuery (ids to the host)", _implicit, True),
    ):
        if peer not in card.peers:
            continue
        try:
            build = prepare(card, queries, items, k)
        except ImportError:
            continue
        except Exception as error:  # wheels that look for libraries as they are imported raise what they like
            if cuda.is_out_of_memory(error):
                raise
            build = functools.partial(_raise, error)
        if build is not None:
            found.append(Contender(name, _built_once(build), check, waits))
    return found


def _built_once(build: Callable[[], Search]) -> Search:
    """An index is built by the first call, whose errors are shown and whose time is not taken."""
    built = functools.cache(build)
    return lambda: built()()


def _raise(error: Exception) -> Search:
    raise error


def _cuvs(card: Card, queries: Any, items: Any, k: int) -> Callable[[], Search]:
    brute_force = importlib.import_module("cuvs.neighbors").brute_force
    common = importlib.import_module("cuvs.common")

    def build() -> Search:
        with contextlib.suppress(ImportError):
            memory = importlib.import_module("rmm").mr
            # cuVS's scratch comes from RMM, by default from cudaMalloc, which waits for the card
            memory.set_current_device_resource(memory.CudaAsyncMemoryResource())
        # Without a handle each call would make one.  Its stream is its own: given ours, cuVS 26.10 takes the address of
        # the Python number for that of the stream, and the process ends (github.com/NVIDIA/cuvs/issues/1863).
        handle = common.Resources()
        shape = len(queries), k
        out = {
            "neighbors": card.xp.empty(shape, card.xp.int64),
            "distances": card.xp.empty(shape, card.xp.float32),
        }
        card.xp.cuda.get_current_stream().synchronize()
        index = brute_force.build(items, metric="inner_product", resources=handle)

        def search() -> Any:
            brute_force.search(index, queries, k, **out, resources=handle)
            handle.sync()
            return out["neighbors"]

        return search

    return build


def _faiss(card: Card, queries: Any, items: Any, k: int) -> Callable[[], Search] | None:
    faiss: Any = importlib.import_module("faiss")
    # The CPU's faiss has no such resources, and a card's takes no larger k.
    if not hasattr(faiss, "StandardGpuResources") or not card.torch or k > 2048:
        return None

    def build() -> Search:
        # lets an index take tensors where they are, and work on torch's current stream
        importlib.import_module("faiss.contrib.torch_utils")
        index = faiss.GpuIndexFlatIP(faiss.StandardGpuResources(), items.shape[1])
        index.add(card.torch.from_dlpack(items))
        tensor = card.torch.from_dlpack(queries)
        return lambda: index.search(tensor, k)[1]

    return build


def _implicit(card: Card, queries: Any, items: Any, k: int) -> Callable[[], Search] | None:
    gpu = importlib.import_module("implicit.gpu")
    if not gpu.HAS_CUDA or k >= len(items):
        return None

    def build() -> Search:
        query, arrays = gpu.KnnQuery(), (items, queries)
        matrices = [gpu.Matrix(array) for array in arrays]

        def search(held: Any = arrays) -> Any:  # its matrices do not keep alive what they point to
            return query.topk(*matrices, k)[0]

        return search

    return build
