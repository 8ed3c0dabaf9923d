"""The thread pool under the kernels: every task runs once, whatever the threads, callers and forks."""

from __future__ import annotations

import concurrent.futures
import multiprocessing

import numpy as np
import pytest
from subprocesses import output_of

from fastrec._kernels import runtime


def tally(tasks: int, threads: int, spin: int = 0) -> np.ndarray:
    counts = np.zeros(tasks, np.int64)
    runtime.tally(counts, spin, threads)
    return counts


@pytest.mark.parametrize("threads", [1, 2, 3, 8, 64])
@pytest.mark.parametrize("tasks", [0, 1, 2, 7, 1000])
def test_every_task_runs_once_on_a_numbered_worker(tasks: int, threads: int) -> None:
    counts = tally(tasks, threads)  # each task adds its worker's number, counted from 1
    assert counts.min(initial=1) >= 1
    assert counts.max(initial=1) <= max(1, min(threads, tasks))


def test_a_second_thread_really_takes_work() -> None:
    for _ in range(50):  # a busy machine may let the caller finish alone, but not fifty times
        if tally(64, 2, spin=200_000).max() == 2:
            return
    pytest.fail("the pool's thread never took a task")


def test_concurrent_callers() -> None:
    def hammer(seed: int) -> int:
        rng = np.random.default_rng(seed)
        bad = 0
        for _ in range(200):
            tasks, threads = int(rng.integers(1, 200)), int(rng.integers(1, 9))
            counts = tally(tasks, threads)
            bad += not (counts.min() >= 1 and counts.max() <= threads)
        return bad

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(hammer, range(8))) == 0


def test_the_gil_is_free_while_kernels_run() -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        long = pool.submit(tally, 1, 1, 300_000_000)
        steps = 0
        while not long.done():
            steps += 1
    assert steps > 1000


def test_after_a_plain_fork() -> None:
    code = """
        import os, threading
        import numpy as np
        from fastrec._kernels import runtime

        def tally(tasks, threads, spin=0):
            counts = np.zeros(tasks, np.int64)
            runtime.tally(counts, spin, threads)
            return counts

        tally(100, 4)                                                       # the parent's pool exists ...
        busy = threading.Thread(target=tally, args=(2000, 3, 100_000))      # ... and is at work when the forks happen
        busy.start()
        codes = []
        for _ in range(20):
            child = os.fork()
            if child == 0:
                ok = all(tally(100, 4).min() >= 1 for _ in range(5))
                grandchild = os.fork()
                if grandchild == 0:
                    os._exit(0 if tally(50, 2).min() >= 1 else 3)
                ok &= os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1]) == 0
                os._exit(0 if ok else 2)
            codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        busy.join()
        print(set(codes), tally(100, 4).min() >= 1)
    """
    assert (
        output_of(code, PYTHONWARNINGS="ignore::DeprecationWarning") == "{0} True"
    )  # 3.12 warns of any such fork


def _child(tasks: int) -> int:
    return int(tally(tasks, 4).min())


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_in_worker_processes(method: str) -> None:
    tally(100, 4)
    if method == "spawn":
        code = """
            import multiprocessing
            from fastrec._kernels import runtime
            if __name__ == "__main__":
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    print(pool.apply(runtime.isa_built) == runtime.isa_built())
        """
        assert output_of(code) == "True"
        return
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert min(pool.map(_child, [1, 10, 100, 1000])) >= 1


def test_exit_while_a_daemon_thread_is_inside() -> None:
    code = """
        import threading, time
        import numpy as np
        from fastrec._kernels import runtime
        threading.Thread(target=lambda: runtime.tally(np.zeros(10**6, np.int64), 10_000, 2), daemon=True).start()
        time.sleep(0.05)
        print("done")
    """
    assert output_of(code) == "done"
