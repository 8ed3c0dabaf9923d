"""``tools/card_sample.py``, what compute-sanitizer looks at on a card, without one."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import cuda_host
import fake_cupy
import pytest

from fastrec.ranking import device_index

TOOL = Path(__file__).parents[2] / "tools" / "card_sample.py"
pytestmark = pytest.mark.skipif(
    cuda_host.COMPILER is None or sys.platform != "linux" or not TOOL.exists(),
    reason="the host emulator of CUDA needs g++ and Linux, and the sample the checkout",
)


def test_it_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cupy = fake_cupy.install(monkeypatch, tmp_path)
    monkeypatch.setattr(device_index, "SMALL", 100)
    spec = importlib.util.spec_from_file_location("card_sample", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main(rows=300)
    assert capsys.readouterr().out == "done\n"
    assert {
        "fr_screen",
        "fr_sift",
        "fr_rescore",
        "fr_select_scores",
        "fr_rank_metrics",
        "fr_click_segments",
    } <= set(cupy.launches())
