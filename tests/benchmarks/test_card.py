"""``fastrec bench --device cuda``: checked, timed by events, shown; with a CuPy that has no card behind it."""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import cuda_host
import fake_cupy
import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

import fastrec as fr
from fastrec._core import info
from fastrec.benchmarks import card, card_peers
from fastrec.benchmarks.cases import on_card, on_card_measure, on_card_weigh  # noqa: F401  # registers
from fastrec.cli.app import build
from fastrec.ranking import device_index

needs_host = pytest.mark.skipif(
    cuda_host.COMPILER is None or sys.platform != "linux",
    reason="the host emulator of CUDA needs g++ and Linux",
)


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> fake_cupy.Fake:
    monkeypatch.setattr(card, "FLUSH", 64)
    monkeypatch.setattr(device_index, "SMALL", 100)
    return fake_cupy.install(monkeypatch, tmp_path)


def invoke(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(build(), ["bench", "--device", "cuda", *arguments])
    return done.exit_code, done.output


def test_without_a_card_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)  # type: ignore[arg-type]
    code, text = invoke("--quick")
    assert code == 2
    assert "pip install 'fastrec[cuda]'" in text


def test_cases_are_listed() -> None:
    code, text = invoke("--list")
    assert code == 0
    assert "rank/d64-k100" in text


@needs_host
def test_a_case_is_checked_then_timed(
    cupy: fake_cupy.Fake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def small(lab: card.Card) -> card.Case:
        return on_card._search(lab, 16, 3, "a goal", seen=5, sizes=((3, 150),) * 3)

    monkeypatch.setattr(card, "CASES", {"rank/small": ("small", small)})
    code, text = invoke("rank", "--quick", "--json", str(tmp_path / "card.json"))
    assert code == 0, text
    assert "Fake H100" in text
    assert "CPU" in text
    result = json.loads((tmp_path / "card.json").read_text())
    ours, plain = result["rows"]
    assert ours["agrees"]
    assert ours["verdict"] == "the CPU's bits"
    assert ours["warm_ms"] == ours["cold_ms"] == [2.0] * 5
    assert "nothing excluded" in plain["contender"]
    assert result["facts"]["gpu"]["nvrtc"] == "13.5"
    code, text = invoke("nothing")
    assert code != 0


@needs_host
def test_a_wrong_answer_is_not_timed_and_ends_with_1(
    cupy: fake_cupy.Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(lab: card.Card) -> card.Case:
        expected = fr.TopK(np.zeros((1, 1), np.int64), np.zeros((1, 1), np.float32))
        there = cupy.asarray(np.ones((1, 4), np.float32))
        run = lambda: fr.select_topk(there, 1)  # noqa: E731
        return card.Case("1 x 4", [card.Contender("fastrec", run, lambda top: on_card._same(top, expected))])

    monkeypatch.setattr(card, "CASES", {"rank/wrong": ("wrong", wrong)})
    code, text = invoke()
    assert code == 1
    assert "differs" in text


@needs_host
def test_long_rounds_are_fewer(cupy: fake_cupy.Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card, "CASES", {"rank/small": ("small", small)})
    for budget, rounds in ((60.0, 7), (0.0, card.LEAST)):
        monkeypatch.setattr(card, "BUDGET", budget)
        [row] = card.measure([], "quick", 0, 7, peers=())["rows"]
        assert len(row["warm_ms"]) == len(row["cold_ms"]) == rounds


def test_normals_do_not_depend_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for threads in (1, 3):
        monkeypatch.setattr(card, "get_threads", lambda threads=threads: threads)
        rng = np.random.default_rng(1)
        made.append([card.normals(rng, (300, 5)), card.normals(rng, (3, 7), unit=True)])
    for one, other in zip(*made):
        np.testing.assert_array_equal(one, other)
    values, units = made[0]
    assert (values.dtype, len(np.unique(values))) == (np.float32, values.size)
    assert abs(values.mean()) < 0.1
    assert abs(values.std() - 1) < 0.1
    np.testing.assert_allclose(np.linalg.norm(units, axis=1), 1, rtol=1e-6)


def small(lab: card.Card) -> card.Case:
    return on_card._search(lab, 16, 3, "a goal", sizes=((3, 150),) * 3)


def measured(*peers: str) -> dict[str, Any]:
    """Rows of all cases by contender, with these peers in this process."""
    return {row["contender"]: row for row in card.measure([], "quick", 0, 1, peers=peers)["rows"]}


def module(monkeypatch: pytest.MonkeyPatch, name: str, **contents: Any) -> types.ModuleType:
    made = types.ModuleType(name)
    made.__dict__.update(contents)
    monkeypatch.setitem(sys.modules, name, made)
    return made


@needs_host
def test_peers_where_they_are_installed(cupy: fake_cupy.Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that answers is timed, and waited for; one whose interface has changed is shown as not run."""
    used: list[Any] = []

    class Resources:  # takes no stream: the one that cuVS makes of a number is none
        def sync(self) -> None:
            used.append(("sync", self))

    def build(items: Any, metric: str, resources: Resources) -> Any:
        assert metric == "inner_product"
        assert cupy.log[-1] == ("sync", "stream")  # what is built of items on another stream comes after them
        used.append(("build", resources))
        return items

    def search(
        items: Any, queries: Any, k: int, neighbors: Any, distances: Any, resources: Resources
    ) -> Any:  # fmt: skip
        used.append(("search", resources))
        assert (neighbors.dtype, distances.dtype) == (np.int64, np.float32)
        neighbors[...] = fr.topk(queries, items, k).rows

    class KnnQuery:
        def topk(self, items: Any, queries: Any) -> None: ...

    memory = types.SimpleNamespace(
        CudaAsyncMemoryResource=lambda: "pool", set_current_device_resource=used.append
    )
    module(monkeypatch, "cuvs")
    module(monkeypatch, "cuvs.common", Resources=Resources)
    module(monkeypatch, "cuvs.neighbors", brute_force=types.SimpleNamespace(build=build, search=search))
    module(monkeypatch, "rmm", mr=memory)
    module(monkeypatch, "implicit.gpu", HAS_CUDA=True, Matrix=lambda array: array, KnnQuery=KnnQuery)
    monkeypatch.setattr(card, "CASES", {"rank/small": ("small", small)})
    rows = measured("cuvs", "implicit")
    assert rows["cuVS brute force"]["verdict"] == "1.0000 of the ids"
    assert rows["cuVS brute force"]["warm_ms"]
    assert [what[0] for what in used[1:]] == ["build"] + 4 * ["search", "sync"]
    assert used[0] == "pool"
    assert len({what[1] for what in used[1:]}) == 1
    changed = rows["implicit KnnQuery (ids to the host)"]
    assert changed["verdict"].startswith("not run: TypeError")
    assert not changed["warm_ms"]


@needs_host
def test_a_peer_on_a_stream_of_its_own_starts_after_what_was_before_it(
    cupy: fake_cupy.Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its time would else not hold all of its work, and a cold sample not be cold."""

    class KnnQuery:
        def topk(self, items: Any, queries: Any, k: int) -> Any:
            cupy.log.append(("implicit",))
            top = fr.topk(queries.get(), items.get(), k)
            return top.rows.astype(np.int32), top.scores

    module(monkeypatch, "implicit.gpu", HAS_CUDA=True, Matrix=lambda array: array, KnnQuery=KnnQuery)
    monkeypatch.setattr(card, "CASES", {"rank/small": ("small", small)})
    rows = measured("implicit")
    theirs = rows["implicit KnnQuery (ids to the host)"]
    assert theirs["verdict"] == "1.0000 of the ids"
    assert theirs["warm_ms"]
    assert theirs["cold_ms"]
    told = [entry for entry in cupy.log if entry in [("event",), ("sync", "stream"), ("implicit",)]]
    timed = [i for i, entry in enumerate(told) if entry == ("implicit",)][2:]  # checked, warmed, then timed
    assert len(timed) == 2
    for i in timed:
        assert told[i - 2 : i + 2] == [("sync", "stream"), ("event",), ("implicit",), ("event",)]


@needs_host
def test_a_peer_that_cannot_be_imported_says_why(
    cupy: fake_cupy.Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(types.ModuleType):
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError("faiss-gpu: nvidia-cublas-cu12 is missing")

    monkeypatch.setitem(sys.modules, "faiss", Broken("faiss"))
    monkeypatch.setattr(card, "CASES", {"rank/small": ("small", small)})
    rows = measured("faiss")
    assert rows["faiss GpuIndexFlatIP"]["verdict"] == (
        "not run: RuntimeError: faiss-gpu: nvidia-cublas-cu12 is missing"
    )


def test_who_is_measured_where(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"cuvs", "faiss"}
    monkeypatch.setattr(
        card_peers,
        "importlib",
        types.SimpleNamespace(util=types.SimpleNamespace(find_spec=lambda n: n in found or None)),
    )
    monkeypatch.setattr(card_peers, "package_version", lambda name: None)
    assert card_peers.shared_out("auto") == (("torch",), ["cuvs", "faiss"])
    monkeypatch.setattr(card_peers, "package_version", lambda name: "1.12.0")  # faiss-cpu
    assert card_peers.shared_out("auto") == (("torch",), ["cuvs"])
    assert card_peers.shared_out("none") == ((), [])
    assert card_peers.shared_out("cuvs") == (("cuvs",), [])
    assert card_peers.shared_out("faiss, torch,cuvs") == (("torch",), ["faiss", "cuvs"])
    code, text = invoke("--quick", "--peers", "numpy")
    assert code == 2
    assert "`peers` must be one of" in " ".join(text.replace("│", " ").split())


@needs_host
def test_a_peer_in_a_process_of_its_own(cupy: fake_cupy.Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rows stand behind ours of the same case; one that dies with its process is a line of the report."""
    commands: list[list[str]] = []

    def row(case: str, contender: str) -> dict[str, Any]:
        return card.Row(
            case, "3 x 150", contender, "1.0000 of the ids", True, [4.0, 5.0, 9.0], [6.0]
        ).record()

    def child(command: list[str], **_: Any) -> Any:
        commands.append(command)
        peer, file = (command[command.index(option) + 1] for option in ("--peers", "--json"))
        if peer == "faiss":
            return types.SimpleNamespace(returncode=-11, stderr="", stdout="rank/one\nbefore it died\n")
        rows = [row(case, name) for case in ("rank/one", "rank/two") for name in ("fastrec", "cuVS")]
        Path(file).write_text(json.dumps({"rows": rows}))
        return types.SimpleNamespace(returncode=0, stderr="", stdout="")

    def case(lab: card.Card) -> card.Case:
        return on_card._search(lab, 16, 3, "7 ms", sizes=((3, 150),) * 3)

    cases = {name: (name, case) for name in ("rank/one", "rank/two", "rank/alone")}
    monkeypatch.setattr(card, "CASES", cases)
    monkeypatch.setattr(card, "WITH_PEERS", {"rank/one", "rank/two"})
    monkeypatch.setattr(card_peers, "subprocess", types.SimpleNamespace(run=child))
    result = card_peers.compare(["rank"], "quick", 3, 1, lambda text: None, "cuvs,faiss")
    assert [(found["case"], found["contender"]) for found in result["rows"]] == [
        ("rank/one", "fastrec"), ("rank/one", "cuVS"), ("rank/two", "fastrec"), ("rank/two", "cuVS"),
        ("rank/alone", "fastrec"),
    ]  # fmt: skip
    assert result["skipped"] == {"faiss": "its process ended with status -11: before it died"}
    assert commands[0][1:10] == [
        "-X", "faulthandler", "-m", "fastrec", "bench", "--device", "cuda", "--seed", "3"
    ]  # fmt: skip
    assert commands[0][-3:] == ["--quick", "rank/one", "rank/two"]
    # The table: medians, and times as a multiple of ours.
    console = Console(record=True, width=160)
    card.show(result, console)
    lines = [" ".join(line.split()) for line in console.export_text().splitlines()]
    shape = "(Q=3 N=150 d=16 k=3)"
    assert "case contender warm ms cold ms x ours rate (warm) answer goal" in lines
    assert f"rank/one {shape} fastrec 2.000 2.000 1.00 0.0 Gscores/s the CPU's bits 7 ms" in lines
    assert "rank/one (3 x 150) cuVS 5.000 6.000 2.50 1.0000 of the ids" in lines
    assert "faiss: not run: its process ended with status -11: before it died" in lines


def ended(code: str) -> str:
    """What is said of a child that runs this."""
    command = [sys.executable, *card_peers._TELLING, "-c", code]
    return card_peers._end(subprocess.run(command, capture_output=True, text=True))


def test_a_child_that_a_fault_ends_says_where() -> None:
    built = "from fastrec.benchmarks.cases.on_card_peers import _built_once\n"
    fault = "import faulthandler\ndef build():\n    print('before'); faulthandler._sigsegv()\n"
    told = ended(f"{built}{fault}_built_once(build)()")
    assert told.startswith("its process ended with status ")
    assert (
        ": Segmentation fault in <lambda>, on_card_peers.py line " in told
    )  # and not `build`, which is not ours
    # Where none of this package's functions is on the way, the innermost.
    assert ended(f"{fault}build()").endswith(": Segmentation fault in build, <string> line 3")
    # Beside another thread, whose place says nothing.
    thread = "import threading, time\nthreading.Thread(target=time.sleep, args=[9], daemon=True).start()\n"
    assert ended(f"{thread}{fault}build()").endswith(": Segmentation fault in build, <string> line 5")


def test_a_child_that_ends_otherwise_says_the_last_of_what_it_wrote() -> None:
    assert ended("raise ValueError('no such case')") == (
        "its process ended with status 1: ValueError: no such case"
    )
    assert ended("print('rank/one', flush=True); import os; os._exit(3)") == (
        "its process ended with status 3: rank/one"
    )
    assert ended("") == "its process ended with status 0"


@needs_host
@pytest.mark.parametrize("name", ["weigh", "train"])
def test_cases_of_weighing_and_training_agree_with_the_cpu(cupy: fake_cupy.Fake, name: str) -> None:
    rows = card.measure([name], "quick", 0, 1)["rows"]
    assert len(rows) in (2, 3)
    assert all(row["agrees"] and row["warm_ms"] for row in rows), rows


@needs_host
def test_an_index_on_the_host_is_streamed(cupy: fake_cupy.Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card.Card, "size", lambda self, *sizes: (4, 400))
    streamed, resident = card.measure(["rank/streamed-k100"], "quick", 0, 1)["rows"]
    assert (streamed["contender"], resident["contender"]) == ("fastrec", "fastrec, all of it on the card")
    assert streamed["agrees"]
    assert resident["agrees"]
    assert any(entry[0] == "copy" for entry in cupy.log)


def test_a_metric_of_ones_own_needs_numba(cupy: fake_cupy.Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Any:
        raise ImportError("needs numba-cuda")

    monkeypatch.setattr(on_card_measure.cuda, "require_numba", missing)
    result = card.measure(["measure/users-metric"], "quick", 0, 1)
    assert result["rows"] == []
    assert result["skipped"] == {"measure/users-metric": "needs numba-cuda"}


def test_what_does_not_fit_is_skipped_and_said(cupy: fake_cupy.Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    def large(lab: card.Card) -> Any:
        raise fake_cupy.OutOfMemoryError("Out of memory allocating 9 bytes")

    monkeypatch.setattr(card, "CASES", {"rank/large": ("large", large)})
    result = card.measure([], "quick", 0, 1)
    assert result["skipped"] == {"rank/large": "Out of memory allocating 9 bytes"}
    console = Console(record=True, width=150)
    card.show(result, console)
    assert "not run: Out of memory" in console.export_text()


def test_info_names_card_driver_and_compiler(cupy: fake_cupy.Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(text: Any, size: int) -> int:
        text.value = b"580.95.05"
        return 0

    nvml = types.SimpleNamespace(
        nvmlInit_v2=lambda: 0, nvmlSystemGetDriverVersion=version, nvmlShutdown=lambda: 0
    )
    monkeypatch.setattr(
        info,
        "ctypes",
        types.SimpleNamespace(CDLL=lambda name: nvml, create_string_buffer=ctypes.create_string_buffer),
    )
    text = CliRunner().invoke(build(bench=False), ["info"]).output
    card = "Fake H100 (compute 9.0, 80.0 GiB); driver"
    assert f"{card} 580.95.05 for CUDA 13.0, runtime 12.4, CuPy 14.2.0, NVRTC 13.5" in text
    nvml.nvmlInit_v2 = lambda: 9  # no driver
    assert f"{card} (unknown) for CUDA 13.0, " in CliRunner().invoke(build(bench=False), ["info"]).output


@needs_host
@pytest.mark.parametrize(
    "name",
    ["lists-8-metrics", "gauc", "weighted-auc", "weighted-gauc", "catalogue", "diversity", "bootstrap"],
)
def test_cases_of_measure_agree_with_the_cpu(cupy: fake_cupy.Fake, name: str) -> None:
    from fastrec.evaluation import on_device

    on_device._constant.cache_clear()
    result = card.measure([f"measure/{name}"], "quick", 0, 1)
    assert result["rows"]
    assert all(row["agrees"] and row["warm_ms"] for row in result["rows"]), result["rows"]
