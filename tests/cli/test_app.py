from __future__ import annotations

import importlib.metadata
import resource
import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = ["bench", "topk", "evaluate", "importance", "datasets", "info"]


def test_help_lists_the_commands_and_shows_an_example(fastrec) -> None:
    done = fastrec("--help")
    assert done.code == 0
    assert all(f" {name} " in done.out for name in COMMANDS)
    assert "fastrec evaluate run.parquet truth.parquet" in done.out
    assert "Exit codes: 0 done, 1 a check or gate failed, 2 bad arguments or a bad file." in done.out


@pytest.mark.parametrize("command", COMMANDS)
def test_each_help_shows_an_example(fastrec, command: str) -> None:
    done = fastrec(command, "--help")
    assert done.code == 0
    assert "Example" in done.out
    assert f"fastrec {command}" in done.out
    assert fastrec(command, "-h").out == done.out


def test_version(fastrec) -> None:
    done = fastrec("--version")
    assert (done.code, done.out) == (0, f"fastrec {fastrec_version()}\n")


def fastrec_version() -> str:
    try:
        return importlib.metadata.version("fastrec")
    except importlib.metadata.PackageNotFoundError:
        return "0+unknown"


@pytest.mark.parametrize("words", [["--bogus"], ["bogus"], ["topk"], ["topk", "a.npy", "b.npy", "-k", "ten"]])
def test_bad_arguments_exit_with_2_and_say_what_is_wrong(fastrec, words) -> None:
    done = fastrec(*words)
    assert done.code == 2
    assert done.out == ""
    assert "Error" in done.err
    assert "Traceback" not in done.err


def test_debug_shows_the_traceback_from_anywhere_on_the_line(fastrec, refused) -> None:
    line = refused("datasets", "nothing")
    assert "`name` must be one of" in line
    for words in (["--debug", "datasets", "nothing"], ["datasets", "nothing", "--debug"]):
        with pytest.raises(ValueError, match=r"`name` must be one of"):
            fastrec(*words)


def test_an_error_nobody_foresaw_is_named_in_one_line(refused, monkeypatch) -> None:
    import fastrec.datasets

    monkeypatch.setattr(fastrec.datasets, "list", lambda: 1 / 0)
    assert refused("datasets") == "division by zero (ZeroDivisionError; `--debug` shows where)"


def test_help_starts_fast_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from fastrec.cli import main\n"
        "main(['--help'])\n"
        "heavy = {'pandas', 'scipy', 'sklearn', 'numba', 'torch', 'pyarrow', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # processor time, which a busy machine stretches less than the clock's; 0.4 s where it is idle
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.5


def test_the_module_runs_and_a_closed_pipe_is_no_error() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fastrec", "datasets"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert "open_bandit" in done.stdout
    reader = subprocess.Popen(
        [sys.executable, "-m", "fastrec", "datasets"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    reader.stdout.close()
    assert b"Traceback" not in reader.stderr.read()
    reader.stderr.close()
    reader.wait()


def test_lists_of_metrics_keep_their_cutoffs() -> None:
    from fastrec.cli.common import split_list

    assert split_list(["ndcg@10,recall@5,20, map", "rbp(p=0.8,x=1)@3,4"]) == [
        "ndcg@10",
        "recall@5,20",
        "map",
        "rbp(p=0.8,x=1)@3,4",
    ]


def test_a_file_may_name_one_of_its_arrays(tmp_path) -> None:
    from fastrec.cli.common import split_key

    assert split_key("a.npz:emb") == (Path("a.npz"), "emb")
    assert split_key("a.npz") == (Path("a.npz"), None)
    odd = tmp_path / "a:b"
    odd.touch()
    assert split_key(str(odd)) == (odd, None)
