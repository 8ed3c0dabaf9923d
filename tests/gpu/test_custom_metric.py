"""Users' metrics on a card: Numba's kernel in its simulator, after the real ``fr_rank_metrics`` on the host."""

from __future__ import annotations

import contextlib
import importlib
import sys
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cuda_host
import fake_cupy
import numpy as np
import pytest
from subprocesses import output_of

import fastrec as fr
from fastrec._core import cuda
from fastrec.evaluation.metrics.custom import Compiled

pytestmark = cuda_host.NEEDED


cupy = fake_cupy.emulated


def test_equals_the_cpu_in_the_simulator(tmp_path: Path) -> None:
    """NUMBA_ENABLE_CUDASIM is read when Numba is first imported, hence a process of its own."""
    code = """
        import sys, pytest
        sys.path[:0] = [SUPPORT]
        import numpy as np, fake_cupy, fastrec as fr
        from fastrec._core import cuda
        from fastrec.evaluation import on_device

        with pytest.MonkeyPatch.context() as patch:
            cupy = fake_cupy.install(patch, CACHE)
            threads = []

            def launch(kernel, blocks, block, *args):
                cupy.log.append(("launch", kernel.__name__, blocks, block, cupy.stream))
                assert args[-1].shape[0] > 0
                kernel[blocks, block](*(cupy.unwrap(a, 0) if isinstance(a, fake_cupy.Array) else a for a in args))

            patch.setattr(cuda, "launch_numba", launch)

            @fr.metric("last_hit@k")
            def last_hit(gains, ideal, k):
                rank = 0
                for i in range(min(k, len(gains))):
                    if gains[i] > 0:
                        rank = i + 1
                return rank

            @fr.metric("regret")
            def regret(gains, ideal):
                lost = 0.0
                for i in range(len(ideal)):
                    lost += ideal[i] / (i + 2) - (gains[i] / (i + 2) if i < len(gains) else 0.0)
                    ideal[i] = -1.0  # its own copy
                return lost / len(ideal) if len(ideal) > 0 else np.nan

            rng = np.random.default_rng(3)
            ids = np.stack([rng.choice(90, 12, replace=False) for _ in range(70)])
            ids[5, 7:] = -1
            ids[9] = -1
            scores = np.sort(rng.integers(0, 9, ids.shape), axis=1)[:, ::-1].astype(np.float32)
            graded = {q: {int(i): int(g) for i, g in zip(rng.choice(90, n, replace=False), rng.integers(0, 4, n))}
                      for q, n in enumerate(rng.integers(0, 15, 70))}
            metrics = ["last_hit@5", "ndcg@10", "last_hit", "regret", "map"]
            for truth in (fr.Truth(graded), fr.Truth({q: list(items) for q, items in graded.items()})):
                for run, there in ((ids, cupy.asarray(ids)),
                                   (fr.TopK(ids, scores), fr.TopK(cupy.asarray(ids), cupy.asarray(scores)))):
                    for most in (1 << 16, 32):  # queries at a time
                        patch.setattr(on_device, "CUSTOM_THREADS", most)
                        expected = fr.evaluate(run, truth, metrics)
                        got = fr.evaluate(there, truth.to("cuda"), metrics)
                        np.testing.assert_array_equal(got.per_query, expected.per_query)
                        np.testing.assert_array_equal(got.mean, expected.mean)
            assert cupy.launches().count("custom_metric") == 3 * 8
            only = fr.evaluate(there, truth.to("cuda"), ["regret"])
            np.testing.assert_array_equal(only.per_query["regret"], expected.per_query["regret"])
            print("the simulator agrees")
    """
    code = code.replace("SUPPORT", repr(str(Path(__file__).parent.parent / "support")))
    code = code.replace("CACHE", repr(str(tmp_path)))
    assert "the simulator agrees" in output_of(code, NUMBA_ENABLE_CUDASIM="1")


def test_an_exception_of_the_users(
    cupy: fake_cupy.Fake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """On a card the thread ends where the exception is raised, and the fault stays in the counts."""

    def launch(kernel: Any, blocks: int, threads: int, *args: Any) -> None:
        failed, fault, counts, out = args[-4:]
        out.fill(0.0)
        counts[3, fault] = failed

    monkeypatch.setattr(cuda, "launch_numba", launch)
    monkeypatch.setattr(Compiled, "on_card", None)

    @fr.metric("refuses@k")
    def refuses(gains, ideal, k):
        raise ValueError("a list I do not like")

    ids = np.arange(40).reshape(8, 5)
    truth = fr.Truth({q: [int(ids[q, 1])] for q in range(8)})
    with pytest.raises(ValueError, match="a list I do not like"):
        fr.evaluate(cupy.asarray(ids), truth.to("cuda"), ["ndcg@3", "refuses@3"])


def test_the_launch(cupy: fake_cupy.Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """On CuPy's current stream and device, arrays without a wait, and an error that says what to do."""
    from numba.core.errors import TypingError

    seen: list[Any] = []

    class Devices:
        def __getitem__(self, number: int) -> Any:
            @contextlib.contextmanager
            def entered() -> Iterator[None]:
                seen.append(("device", number))
                yield

            return entered()

    def as_cuda_array(array: Any, sync: bool = True) -> Any:
        assert not sync
        return ("view", id(array))

    target = SimpleNamespace(
        as_cuda_array=as_cuda_array, external_stream=lambda pointer: ("stream", pointer), gpus=Devices()
    )

    class Kernel:
        __name__ = "custom_metric"

        def __getitem__(self, how: Any) -> Any:
            seen.append(how)
            return lambda *args: seen.append(args)

    monkeypatch.setattr(cuda, "require_numba", lambda: target)
    cupy.devices = 2
    with cupy.cuda.Device(1), cupy.lent(1234), cupy.nothing_waits():
        array = cupy.asarray(np.zeros(3))
        cuda.launch_numba(Kernel(), 2, 128, array, 7)
    assert seen == [("device", 1), (2, 128, ("stream", 1234)), (("view", id(array)), 7)]

    class Refused(Kernel):
        def __getitem__(self, how: Any) -> Any:
            raise TypingError("no implementation of sort")

    with (
        cupy.lent(1),
        pytest.raises(TypeError, match="Numba cannot compile 'custom_metric' for CUDA; keep to loops"),
    ):
        cuda.launch_numba(Refused(), 1, 32)


@pytest.mark.parametrize("where", ["numba.core.errors", "numba.cuda.core.errors"])
def test_errors_and_warnings_of_either_numba(
    cupy: fake_cupy.Fake, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """numba-cuda has classes of its own, which are no classes of Numba's."""
    own = types.ModuleType("numba.cuda.core.errors")
    for name, base in (("NumbaError", Exception), ("NumbaPerformanceWarning", Warning)):
        setattr(own, name, type(name, (base,), {}))
    for name in ("numba.cuda", "numba.cuda.core"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "numba.cuda.core.errors", own)
    raised = importlib.import_module(where)

    class Kernel:
        __name__ = "custom_metric"

        def __getitem__(self, how: Any) -> Any:
            warnings.warn(raised.NumbaPerformanceWarning("Grid size 24 will likely result in"), stacklevel=2)
            return self.launch

        def launch(self, *args: Any) -> None:
            if args:
                raise raised.NumbaError("no implementation of sort")

    target = SimpleNamespace(external_stream=int, gpus=[contextlib.nullcontext()])
    monkeypatch.setattr(cuda, "require_numba", lambda: target)
    with cupy.lent(1):
        cuda.launch_numba(Kernel(), 24, 128)
        with pytest.raises(TypeError, match="Numba cannot compile 'custom_metric' for CUDA; keep to loops"):
            cuda.launch_numba(Kernel(), 24, 128, 7)


def test_numba_cuda_asks_for_a_name_that_numpy_has_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(np, "row_stack", raising=False)
    found: list[Any] = []

    def load(name: str) -> None:
        found.append((name, vars(np)["row_stack"]))
        warnings.warn("a name of NumPy's that will go", DeprecationWarning, stacklevel=2)
        if len(found) == 2:
            raise ImportError("Numba's own target has no such module")

    monkeypatch.setattr(cuda, "importlib", SimpleNamespace(import_module=load))
    for _ in range(2):
        cuda._lend_row_stack.__wrapped__()
        assert "row_stack" not in vars(np)
    assert found == [("numba.cuda.np.arrayobj", np.vstack)] * 2
    monkeypatch.setattr(np, "row_stack", None, raising=False)
    cuda._lend_row_stack.__wrapped__()  # a NumPy that has it is left alone
    assert len(found) == 2


def test_numba_without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    import numba

    target = SimpleNamespace(is_available=lambda: False, cuda_error=lambda: "no driver")
    monkeypatch.setattr(numba, "cuda", target, raising=False)
    monkeypatch.setitem(sys.modules, "numba.cuda", target)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match=r"Numba finds no usable CUDA \(no driver\).*fastrec\[cuda\]"):
        cuda.require_numba()
    monkeypatch.delattr(numba, "cuda")
    monkeypatch.setitem(sys.modules, "numba.cuda", None)  # type: ignore[arg-type]
    with pytest.raises(ImportError, match=r"need numba-cuda: pip install 'fastrec\[cuda\]'"):
        cuda.require_numba()
