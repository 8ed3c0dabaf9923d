"""``fastrec.info()``: complete, plain, and silent where there is no GPU."""

from __future__ import annotations

import json
import sys
import types

import pytest

import fastrec as fr
from fastrec._core import info as info_module
from fastrec._core import isa


def test_it_is_plain_json() -> None:
    facts = fr.info()
    assert json.loads(json.dumps(facts)) == facts
    assert facts["fastrec"] == fr.__version__
    assert facts["isa"] == {"built": isa.built(), "usable": isa.usable(), "active": isa.ACTIVE}
    assert facts["threads"] == fr.get_threads()
    assert "numpy" in facts["packages"]
    assert facts["python"] == sys.version.split()[0]


def test_without_cupy_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)  # type: ignore[arg-type]
    gpu = fr.info()["gpu"]
    assert gpu["available"] is False
    assert "pip install 'fastrec[cuda]'" in gpu["why"]


def test_a_card_that_does_not_answer_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_driver() -> int:
        raise RuntimeError("cudaErrorInsufficientDriver")

    runtime = types.SimpleNamespace(getDeviceCount=no_driver)
    cupy = types.SimpleNamespace(__version__="13.0", cuda=types.SimpleNamespace(runtime=runtime))
    monkeypatch.setitem(sys.modules, "cupy", cupy)  # type: ignore[arg-type]
    gpu = info_module._gpu()
    assert gpu["available"] is False
    assert "cudaErrorInsufficientDriver" in gpu["why"]
