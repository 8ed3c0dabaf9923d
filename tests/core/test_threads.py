"""``_core.threads``: where a thread count comes from, and what is refused."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from subprocesses import output_of, run_python

import fastrec as fr
from fastrec._core import threads


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    before = threads._default
    yield
    threads._default = before


def test_the_argument_beats_the_setting_beats_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTREC_THREADS", " 3 ")
    fr.set_threads(None)
    assert fr.get_threads() == 3
    fr.set_threads(2)
    assert fr.get_threads() == 2
    assert threads.resolve(None) == 2
    assert threads.resolve(5) == 5
    fr.set_threads(None)
    assert fr.get_threads() == 3


def test_by_default_the_processors_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FASTREC_THREADS", raising=False)
    fr.set_threads(None)
    monkeypatch.setattr(threads, "_quota", lambda: None)
    assert fr.get_threads() == len(os.sched_getaffinity(0))
    monkeypatch.setattr(threads, "_quota", lambda: 1)
    assert fr.get_threads() == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [("max 100000", None), ("200000 100000", 2), ("150000 100000", 2), ("1000 100000", 1), ("?", None)],
)
def test_container_quota(text: str, expected: int | None, tmp_path: Path) -> None:
    file = tmp_path / "cpu.max"
    file.write_text(text + "\n")
    assert threads._quota(str(file)) == expected
    assert threads._quota(str(tmp_path / "absent")) is None


@pytest.mark.parametrize("value", [0, -1, threads.MAX_THREADS + 1, True])
def test_out_of_range(value: int) -> None:
    with pytest.raises(ValueError, match=f"`threads` must be between 1 and 1024; got {value}"):
        fr.set_threads(value)
    with pytest.raises(ValueError, match="`threads` must be between"):
        threads.resolve(value)


@pytest.mark.parametrize("value", [1.0, "2", [1]])
def test_kind(value: object) -> None:
    with pytest.raises(TypeError, match="`threads` must be an integer; got"):
        fr.set_threads(value)  # type: ignore[arg-type]


def test_numpy_integers() -> None:
    assert threads.resolve(np.int64(2)) == 2  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["two", "0", "-4", "1.5", "99999", "2,2"])
def test_a_malformed_environment_is_refused_at_first_use(text: str) -> None:
    done = run_python("import fastrec; print('imported'); fastrec.get_threads()", FASTREC_THREADS=text)
    assert done.stdout.strip() == "imported"
    assert f"`FASTREC_THREADS` must be an integer between 1 and 1024; got {text!r}" in done.stderr


def test_an_empty_environment_is_no_setting() -> None:
    assert int(output_of("import fastrec; print(fastrec.get_threads())", FASTREC_THREADS="")) >= 1
